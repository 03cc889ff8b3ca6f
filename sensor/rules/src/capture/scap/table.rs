//! What the numbers in a `.scap` mean: its events, old versions too, and its system calls.

use std::sync::LazyLock;

use crate::event::EventType;

/// One event number.
#[derive(Debug)]
pub(super) struct Row {
    /// Its number.
    pub(super) number: u16,
    /// What the event is called today; `None` for the half of a pair that is never made.
    pub(super) event_type: Option<EventType>,
    /// Is it about a descriptor?
    pub(super) uses_descriptor: bool,
    /// Does it make one?
    pub(super) makes_descriptor: bool,
    /// Are its parameters' lengths written with 32 bits?
    pub(super) has_long_lengths: bool,
    /// Its parameters, in order.
    pub(super) params: Vec<Param>,
}

/// One parameter: its name, which is the newest version's but for [`renamed`], and how it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// How a parameter is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number with a sign, of as many bytes as there are.
    Signed,
    /// A number without one, or bits.
    Unsigned,
    /// A descriptor: signed.
    Descriptor,
    /// Bytes up to a NUL.
    Chars,
    /// Bytes.
    Bytes,
    /// Several texts, each ended by a NUL.
    Texts,
    /// A family and an address.
    Address,
    /// A family and two addresses.
    Tuple,
    /// Descriptors with what is waited for.
    Descriptors,
    /// A byte that says what follows.
    Dynamic,
    /// An IP address.
    Ip,
}

/// Numbers at which two versions of libs put different events; which it is shows in the number of parameters.
const KEYCTL_OR_CLOSE_RANGE: std::ops::RangeInclusive<u16> = 450..=453;
const KEYCTL_PARAMS: u32 = 6;

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    include_str!("events.tsv").lines().filter(|line| !line.starts_with('#')).filter_map(row).collect()
});

static KEYCTL: LazyLock<Option<Row>> = LazyLock::new(|| {
    row("453\tSYSCALL_KEYCTL_X\tkeyctl\t-\tres:ERRNO;operation:ENUMFLAGS32;arg2:DYN;arg3:DYN;arg4:DYN;arg5:DYN")
});

static CLOSE_RANGE: LazyLock<Option<Row>> = LazyLock::new(|| {
    row("451\tSYSCALL_CLOSE_RANGE_X\tclose_range\t-\tres:ERRNO;first:UINT32;last:UINT32;flags:FLAGS32")
});

static SYSCALLS: LazyLock<Vec<Option<EventType>>> = LazyLock::new(|| {
    let mut syscalls = Vec::new();
    for line in include_str!("syscalls.tsv").lines() {
        let Some((number, name)) = line.split_once('\t') else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        syscalls.resize(syscalls.len().max(number + 1), None);
        syscalls[number] = EventType::by_name(name);
    }
    syscalls
});

fn row(line: &'static str) -> Option<Row> {
    let mut columns = line.split('\t');
    let number = columns.next()?.parse().ok()?;
    let (_, name, flags) = (columns.next()?, columns.next()?, columns.next()?);
    let params = columns.next().unwrap_or_default().split(';').filter_map(|param| param.split_once(':'));
    Some(Row {
        number,
        event_type: EventType::by_name(name),
        uses_descriptor: flags.contains('u'),
        makes_descriptor: flags.contains('c'),
        has_long_lengths: flags.contains('l'),
        params: params.map(|(name, kind)| Param { name, kind: Kind::of(kind) }).collect(),
    })
}

impl Kind {
    fn of(word: &str) -> Kind {
        match word {
            "FD" | "FD32" => Kind::Descriptor,
            "CHARBUF" | "FSPATH" | "FSRELPATH" => Kind::Chars,
            "BYTEBUF" => Kind::Bytes,
            "CHARBUFARRAY" | "CHARBUF_PAIR_ARRAY" => Kind::Texts,
            "SOCKADDR" => Kind::Address,
            "SOCKTUPLE" => Kind::Tuple,
            "FDLIST" => Kind::Descriptors,
            "DYN" => Kind::Dynamic,
            "IPV4ADDR" | "IPV6ADDR" => Kind::Ip,
            "ERRNO" | "PID" | "PID32" | "INT8" | "INT16" | "INT32" | "INT64" => Kind::Signed,
            _ => Kind::Unsigned,
        }
    }
}

impl Row {
    /// Is it a call's beginning, whose end will follow?
    pub(super) fn is_beginning(&self) -> bool {
        self.number.is_multiple_of(2)
            && ROWS.get(usize::from(self.number) + 1).is_some_and(|end| end.event_type.is_some())
    }
}

/// What an event's number means; `None` for numbers of libs newer than this table.
pub(super) fn event(number: u16, params: u32) -> Option<&'static Row> {
    if KEYCTL_OR_CLOSE_RANGE.contains(&number) {
        let row = if params == KEYCTL_PARAMS { &KEYCTL } else { &CLOSE_RANGE };
        return if number.is_multiple_of(2) { None } else { row.as_ref() };
    }
    ROWS.get(usize::from(number))
}

/// The system call with this number.
pub(super) fn syscall(number: u64) -> Option<EventType> {
    SYSCALLS.get(usize::try_from(number).ok()?).copied().flatten()
}

/// What an old version called a parameter that the newest version of its event calls otherwise.
pub(super) fn renamed(event: EventType, name: &'static str) -> &'static str {
    match (event.name(), name) {
        ("dup" | "dup2" | "dup3", "fd") => "oldfd",
        ("bpf", "res_or_fd") => "fd",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_in_order_and_names_are_known() {
        assert_eq!(ROWS.len(), 450);
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(usize::from(row.number), place);
        }
        let name = |number, params| event(number, params).and_then(|row| row.event_type).map(EventType::name);
        // Anchors of every age: from the first release on, added 2016, 2021, 2023, 2026.
        assert_eq!(name(3, 6), Some("open"));
        assert_eq!(name(201, 2), Some("setgid"));
        assert_eq!(name(293, 30), Some("execve"));
        assert_eq!(name(307, 7), Some("openat"));
        assert_eq!(name(335, 21), Some("clone3"));
        assert_eq!(name(391, 3), Some("umount2"));
        assert_eq!(name(17, 0), None);
        assert_eq!(name(453, 6), Some("keyctl"));
        assert_eq!(name(453, 4), Some("close_range"));
        assert!(event(454, 0).is_none());
        assert!(event(306, 4).unwrap().is_beginning());
        assert!(!event(186, 5).unwrap().is_beginning(), "procexit has no end");
        assert_eq!(syscall(324).map(EventType::name), Some("execve"));
        assert_eq!(syscall(u64::MAX), None);
    }

    /// Whatever version an event has, its parameters have names that today's version has too, or are left out on purpose.
    #[test]
    fn old_parameters_have_todays_names() {
        let mut left_out = Vec::new();
        for row in ROWS.iter() {
            let Some(event_type) = row.event_type else { continue };
            for param in &row.params {
                let name = renamed(event_type, param.name);
                if !event_type.params().iter().any(|today| today.name == name) {
                    left_out.push(format!("{} {}.{}", row.number, event_type.name(), param.name));
                }
            }
        }
        assert_eq!(left_out, LEFT_OUT);
    }

    /// A size where an address stands now, what became JSON, what libs dropped, and an exec's, which are handed on beside it.
    const LEFT_OUT: [&str; 9] = [
        "10 brk.size",
        "76 fstat64.fd",
        "228 container.id",
        "228 container.type",
        "228 container.name",
        "228 container.image",
        "258 umount.flags",
        "330 execveat.dirfd",
        "330 execveat.pathname",
    ];
}
