//! Which events there are, by Falco's names, and the parameters each has.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An event's type: a place in the table of all types, so that sets and lookups of them are cheap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(u16);

/// A parameter of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamDoc {
    /// Its name: `evt.arg.NAME`.
    pub name: &'static str,
    /// Its type in Falco's words: `FSPATH`, `FLAGS32`.
    pub kind: &'static str,
    /// The set of flags its bits or its number are of.
    pub flags: Option<&'static str>,
}

struct Row {
    name: &'static str,
    category: &'static str,
    is_syscall: bool,
    params: Vec<ParamDoc>,
}

struct Table {
    rows: Vec<Row>,
    by_name: HashMap<&'static str, EventType>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let lines = include_str!("types.tsv").lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<Row> = lines.filter_map(row).collect();
    let by_name = rows.iter().enumerate().map(|(place, row)| (row.name, EventType(place as u16))).collect();
    Table { rows, by_name }
});

fn row(line: &'static str) -> Option<Row> {
    let mut columns = line.split('\t');
    let (name, category, kind) = (columns.next()?, columns.next()?, columns.next()?);
    let params = columns.next().unwrap_or_default().split(';').filter_map(|param| {
        let (name, kind) = param.split_once(':')?;
        let (kind, flags) = kind.split_once('=').map_or((kind, None), |(kind, flags)| (kind, Some(flags)));
        Some(ParamDoc { name, kind, flags })
    });
    Some(Row { name, category, is_syscall: kind == "syscall", params: params.collect() })
}

impl EventType {
    /// How many there are.
    #[must_use]
    pub fn count() -> usize {
        TABLE.rows.len()
    }

    /// By its name in rules.
    #[must_use]
    pub fn by_name(name: &str) -> Option<EventType> {
        TABLE.by_name.get(name).copied()
    }

    /// All of them, in order of name.
    pub fn all() -> impl Iterator<Item = EventType> {
        (0..TABLE.rows.len()).map(|place| EventType(place as u16))
    }

    /// Its name in rules: `evt.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Its category: `file`, `net`, `process`, ...
    #[must_use]
    pub fn category(self) -> &'static str {
        self.row().category
    }

    /// Is it a system call?
    #[must_use]
    pub fn is_syscall(self) -> bool {
        self.row().is_syscall
    }

    /// Its parameters in order.
    #[must_use]
    pub fn params(self) -> &'static [ParamDoc] {
        &self.row().params
    }

    /// Its place in the order of names.
    #[must_use]
    pub fn place(self) -> usize {
        usize::from(self.0)
    }

    fn row(self) -> &'static Row {
        &TABLE.rows[usize::from(self.0)]
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EventType, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        EventType::by_name(&name).ok_or_else(|| serde::de::Error::custom(format_args!("`{name}` is no event type")))
    }
}

/// Types that the engine itself makes, by their place; a test compares.
impl EventType {
    pub(crate) const EXECVE: EventType = EventType(55);
    pub(crate) const EXECVEAT: EventType = EventType(56);
    pub(crate) const CLONE: EventType = EventType(30);
    pub(crate) const CLONE3: EventType = EventType(31);
    pub(crate) const FORK: EventType = EventType(78);
    pub(crate) const VFORK: EventType = EventType(426);
    pub(crate) const PROCEXIT: EventType = EventType(254);
    pub(crate) const OPEN: EventType = EventType(221);
    pub(crate) const OPENAT: EventType = EventType(224);
    pub(crate) const OPENAT2: EventType = EventType(225);
    pub(crate) const CREAT: EventType = EventType(38);
    pub(crate) const CONTAINER: EventType = EventType(35);
    pub(crate) const ASYNCEVENT: EventType = EventType(10);
    pub(crate) const PLUGINEVENT: EventType = EventType(239);
}

#[cfg(test)]
const CONSTANTS: [(EventType, &str); 14] = [
    (EventType::EXECVE, "execve"),
    (EventType::EXECVEAT, "execveat"),
    (EventType::CLONE, "clone"),
    (EventType::CLONE3, "clone3"),
    (EventType::FORK, "fork"),
    (EventType::VFORK, "vfork"),
    (EventType::PROCEXIT, "procexit"),
    (EventType::OPEN, "open"),
    (EventType::OPENAT, "openat"),
    (EventType::OPENAT2, "openat2"),
    (EventType::CREAT, "creat"),
    (EventType::CONTAINER, "container"),
    (EventType::ASYNCEVENT, "asyncevent"),
    (EventType::PLUGINEVENT, "pluginevent"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_the_constants_fit() {
        let names: Vec<&str> = EventType::all().map(EventType::name).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        for (constant, name) in CONSTANTS {
            assert_eq!(constant.name(), name);
        }
    }

    #[test]
    fn parameters_have_names_and_types() {
        let connect = EventType::by_name("connect").unwrap();
        let names: Vec<&str> = connect.params().iter().map(|param| param.name).collect();
        assert_eq!(names, ["res", "tuple", "fd", "addr"]);
        assert_eq!(connect.category(), "net");
        assert_eq!(EventType::OPENAT.params()[3].flags, Some("file_flags"));
        assert!(!EventType::PROCEXIT.is_syscall());
        assert_eq!(EventType::by_name("opne"), None);
    }
}
