//! Which fields exist, what each is, and how it is read from an event.
//!
//! Two tables: [`readable`] are the fields this engine can read, each with its extractor; `falco-fields.tsv` names every field of
//! Falco, so that a rule written for more than we see still loads, with a warning that says what it is blind to.
//! Those of other sources are data ([`crate::source`]).

mod arguments;
pub(crate) mod constants;
mod container;
mod descriptor;
mod event;
pub(crate) mod flags;
mod print;
mod process;
mod value;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::condition::FieldRef;
use crate::engine::Context;
use crate::source::DocumentField;
use crate::suggest;

pub(crate) use descriptor::join as join_paths;
pub(crate) use print::Print;
use process::{group_name, user_name};
pub use value::FieldValue;
pub(crate) use value::Value;

/// What values a field has, as far as operators care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Text,
    /// Whole numbers, durations in nanoseconds, times in nanoseconds since the epoch.
    Number,
    /// A number that may be written as a service's name.
    Port,
    Boolean,
    /// Bytes that are no text: event buffers.
    Bytes,
    Address,
    Network,
    /// Text whose type depends on the event; orderings read it as a number.
    Dynamic,
    /// Several texts: only `in`, `intersects` and `exists`.
    TextList,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Port => "port",
            Self::Boolean => "boolean",
            Self::Bytes => "bytes",
            Self::Address => "IP address",
            Self::Network => "network",
            Self::Dynamic => "text or number",
            Self::TextList => "list of texts",
        }
    }
}

/// Does a field take an argument in `[]`?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    /// A number or a key, or nothing.
    Optional,
    Required,
}

/// A compiled argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum FieldArgument {
    None,
    Index(usize),
    Key(Box<str>),
}

/// Reads a field of the kernel's events, or one that every event has; `None` when it is absent.
pub(crate) type Extract = for<'a> fn(&Context<'a>, &FieldArgument) -> Option<Value<'a>>;

/// A field this engine supplies.
pub(crate) struct Supplied {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) takes: Takes,
    pub(crate) doc: &'static str,
    pub(crate) extract: Extract,
}

/// How a field is read: by a function of the engine, or from a document as its source's table says.
#[derive(Clone)]
pub(crate) enum Read {
    Native(Extract),
    Document(Arc<DocumentField>),
}

impl Read {
    /// The field's value; `None` when it is absent.
    #[inline]
    pub(crate) fn value<'a>(&'a self, context: &Context<'a>, argument: &'a FieldArgument) -> Option<Value<'a>> {
        match self {
            Self::Native(extract) => extract(context, argument),
            Self::Document(field) => field.extractor.read(context.event, argument),
        }
    }
}

/// A field by name with its argument checked.
#[derive(Clone)]
pub(crate) struct Resolved {
    /// As written in canonical form: the key in an alert's fields.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) argument: FieldArgument,
    /// `None`: known to Falco, not supplied here.
    pub(crate) read: Option<Read>,
}

impl Resolved {
    /// As outputs read it: of a raw argument, which conditions take for a text, the number that it is.
    pub(crate) fn shown(self) -> Self {
        let is_raw = self.name.starts_with("evt.rawarg") && self.read.is_some();
        if is_raw { Self { read: Some(Read::Native(arguments::typed)), ..self } } else { self }
    }
}

/// Why a field cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    #[error("unknown field `{name}`")]
    Unknown { name: String, near: Option<String> },
    #[error("field `{name}` is one of source `{owner}`, which the rule is not for")]
    OfAnotherSource { name: String, owner: String },
    #[error("`evt.arg.{name}`: no event has an argument of this name")]
    UnknownArgument { name: String },
    #[error("field `{name}` needs an argument in `[]`")]
    ArgumentMissing { name: String },
    #[error("field `{name}` takes no argument in `[]`")]
    ArgumentNotTaken { name: String },
    #[error("argument `{argument}` of field `{name}` is not a number from 0 to {INDEX_MAX}")]
    ArgumentNotIndex { name: String, argument: String },
}

/// The largest index in `proc.aname[n]` and its like.
pub(crate) const INDEX_MAX: usize = 1_023;

impl FieldError {
    /// Is the field not known at all to the rule's source? `skip-if-unknown-filter` forgives that.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::OfAnotherSource { .. } | Self::UnknownArgument { .. })
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { near, .. } => near.clone(),
            Self::OfAnotherSource { owner, .. } => Some(format!("write `source: {owner}` in the rule")),
            Self::UnknownArgument { name } => suggest::hint(name, TABLES.arguments.iter().copied()),
            Self::ArgumentMissing { name } => Some(format!("write `{name}[...]`")),
            Self::ArgumentNotTaken { .. } | Self::ArgumentNotIndex { .. } => None,
        }
    }
}

/// A field as documentation lists it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldDoc {
    /// Its name, with `[]` where it takes an argument.
    pub name: String,
    /// What values it has: `text`, `number`, `boolean`, ...
    pub kind: &'static str,
    /// What it is; empty for a field not supplied.
    pub doc: &'static str,
    /// Does this engine supply it?
    pub supplied: bool,
}

/// Every known field, by name.
pub fn documentation() -> Vec<FieldDoc> {
    let shown = |name: &str, takes: Takes| if takes == Takes::Nothing { name.to_owned() } else { format!("{name}[]") };
    let supplied = TABLES.supplied.values().map(|field| FieldDoc {
        name: shown(field.name, field.takes),
        kind: field.kind.as_str(),
        doc: field.doc,
        supplied: true,
    });
    let known = TABLES.known.iter().filter(|(name, _)| !TABLES.supplied.contains_key(*name)).map(|(name, known)| {
        FieldDoc { name: shown(name, known.takes), kind: known.kind.as_str(), doc: "", supplied: false }
    });
    let mut all: Vec<FieldDoc> = supplied.chain(known).collect();
    all.sort_by(|left, right| left.name.cmp(&right.name));
    all
}

struct Known {
    kind: Kind,
    takes: Takes,
    print: Print,
}

struct Tables {
    supplied: HashMap<&'static str, &'static Supplied>,
    known: HashMap<&'static str, Known>,
    arguments: Vec<&'static str>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    supplied: fields().map(|field| (field.name, field)).collect(),
    known: lines(include_str!("fields/falco-fields.tsv")).filter_map(known_field).collect(),
    arguments: lines(include_str!("fields/falco-arguments.txt")).collect(),
});

fn fields() -> impl Iterator<Item = &'static Supplied> {
    event::FIELDS.iter().chain(descriptor::FIELDS).chain(process::FIELDS).chain(container::FIELDS)
}

/// An entry without argument.
const fn plain(name: &'static str, kind: Kind, doc: &'static str, extract: Extract) -> Supplied {
    Supplied { name, kind, takes: Takes::Nothing, doc, extract }
}

/// An entry with an optional argument.
const fn indexed(name: &'static str, kind: Kind, doc: &'static str, extract: Extract) -> Supplied {
    Supplied { name, kind, takes: Takes::Optional, doc, extract }
}

/// Text that is empty when not known.
fn present(text: &[u8]) -> Option<Value<'_>> {
    (!text.is_empty()).then(|| Value::bytes(text))
}

fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

fn known_field(line: &'static str) -> Option<(&'static str, Known)> {
    let mut columns = line.split('\t');
    let (name, kind, takes, print) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let is_list = name == "fd.types";
    let kind = match kind {
        "CHARBUF" if is_list => Kind::TextList,
        "CHARBUF" => Kind::Text,
        "BOOL" => Kind::Boolean,
        "BYTEBUF" => Kind::Bytes,
        "IPADDR" => Kind::Address,
        "IPNET" => Kind::Network,
        "DYN" => Kind::Dynamic,
        "PORT" => Kind::Port,
        _ => Kind::Number,
    };
    let takes = match takes {
        "!" => Takes::Required,
        "?" => Takes::Optional,
        _ => Takes::Nothing,
    };
    Some((name, Known { kind, takes, print: Print::by_word(print) }))
}

/// Can the engine read this field from an event that has it? Without its argument in `[]`.
pub(crate) fn is_readable(name: &str) -> bool {
    let argument = name.strip_prefix("evt.arg.").or_else(|| name.strip_prefix("evt.rawarg."));
    argument.map_or_else(|| TABLES.supplied.contains_key(name), |key| TABLES.arguments.contains(&key))
}

/// Is it a field of Falco's, read here or not? Without its argument in `[]`.
pub(crate) fn is_known(name: &str) -> bool {
    let argument = name.strip_prefix("evt.arg.").or_else(|| name.strip_prefix("evt.rawarg."));
    TABLES.supplied.contains_key(name)
        || TABLES.known.contains_key(name)
        || argument.is_some_and(|key| TABLES.arguments.contains(&key))
}

/// The nearest known name to one that is not, as a hint.
pub(crate) fn nearest(name: &str) -> Option<String> {
    suggest::hint(name, TABLES.supplied.keys().chain(TABLES.known.keys()).copied())
}

/// Every field that can be read, event arguments by name included.
pub(crate) fn readable() -> impl Iterator<Item = String> {
    let arguments = TABLES.arguments.iter().flat_map(|name| [format!("evt.arg.{name}"), format!("evt.rawarg.{name}")]);
    TABLES.supplied.keys().map(|name| (*name).to_owned()).chain(arguments)
}

/// Checks a field and its argument.
pub(crate) fn resolve(field: &FieldRef) -> Result<Resolved, FieldError> {
    for dynamic in ["evt.arg", "evt.rawarg"] {
        let key = field.name.strip_prefix(dynamic).and_then(|rest| rest.strip_prefix('.'));
        if let Some(key) = key {
            return event_argument(dynamic, key, field);
        }
    }
    let (kind, takes, extract) = match TABLES.supplied.get(field.name.as_str()) {
        Some(supplied) => (supplied.kind, supplied.takes, Some(supplied.extract)),
        None => match TABLES.known.get(field.name.as_str()) {
            Some(known) => (known.kind, known.takes, None),
            None => return Err(FieldError::Unknown { name: field.name.clone(), near: nearest(&field.name) }),
        },
    };
    let argument = match (&field.argument, takes) {
        (None, Takes::Required) => return Err(FieldError::ArgumentMissing { name: field.name.clone() }),
        (Some(_), Takes::Nothing) => return Err(FieldError::ArgumentNotTaken { name: field.name.clone() }),
        (None, _) => FieldArgument::None,
        (Some(text), _) => compile_argument(&field.name, text, extract.is_some())?,
    };
    Ok(Resolved { name: field.to_string(), kind, argument, read: extract.map(Read::Native) })
}

fn event_argument(base: &'static str, key: &str, field: &FieldRef) -> Result<Resolved, FieldError> {
    if field.argument.is_some() {
        return Err(FieldError::ArgumentNotTaken { name: field.name.clone() });
    }
    if !TABLES.arguments.contains(&key) {
        return Err(FieldError::UnknownArgument { name: key.to_owned() });
    }
    let read = TABLES.supplied.get(base).map(|field| Read::Native(field.extract));
    let (kind, argument) = (Kind::Dynamic, FieldArgument::Key(key.into()));
    Ok(Resolved { name: field.name.clone(), kind, argument, read })
}

fn compile_argument(name: &str, text: &str, is_supplied: bool) -> Result<FieldArgument, FieldError> {
    let index = text.parse::<usize>().ok().filter(|index| *index <= INDEX_MAX);
    let takes_index_only = is_supplied && name.starts_with("proc.") && !name.ends_with("env");
    match index {
        Some(index) => Ok(FieldArgument::Index(index)),
        None if takes_index_only => {
            Err(FieldError::ArgumentNotIndex { name: name.to_owned(), argument: text.to_owned() })
        }
        None => Ok(FieldArgument::Key(text.into())),
    }
}

/// The longest known field a text begins with, as output templates are read; its length in bytes.
pub(crate) fn longest_known(text: &str) -> Option<usize> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    while end > 0 {
        if is_known(&text[..end]) {
            return Some(end);
        }
        end -= 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::parse_field;

    fn error(text: &str) -> FieldError {
        match resolve(&parse_field(text).unwrap()) {
            Ok(_) => panic!("{text} resolves"),
            Err(error) => error,
        }
    }

    #[test]
    fn every_supplied_field_is_documented_and_known_to_falco() {
        for field in fields() {
            assert!(!field.doc.is_empty(), "{}", field.name);
            assert!(TABLES.known.contains_key(field.name), "{} is no field of Falco", field.name);
        }
        assert_eq!(TABLES.supplied.len(), fields().count(), "a field stands twice");
    }

    #[test]
    fn arguments_are_checked() {
        assert!(resolve(&parse_field("proc.aname[2]").unwrap()).is_ok());
        assert!(resolve(&parse_field("proc.aname").unwrap()).is_ok());
        assert!(resolve(&parse_field("evt.arg.flags").unwrap()).is_ok());
        assert!(resolve(&parse_field("evt.arg[flags]").unwrap()).is_ok());
        assert!(resolve(&parse_field("container.mount.dest[/proc*]").unwrap()).is_ok());
        assert!(matches!(error("proc.name[1]"), FieldError::ArgumentNotTaken { .. }));
        assert!(matches!(error("evt.arg"), FieldError::ArgumentMissing { .. }));
        assert!(matches!(error("proc.aname[x]"), FieldError::ArgumentNotIndex { .. }));
        assert!(resolve(&parse_field(&format!("proc.aname[{INDEX_MAX}]")).unwrap()).is_ok());
        assert!(matches!(error(&format!("proc.aname[{}]", INDEX_MAX + 1)), FieldError::ArgumentNotIndex { .. }));
        assert!(matches!(error("evt.arg.nmae"), FieldError::UnknownArgument { .. }));
        assert_eq!(error("proc.nmae").hint().unwrap(), "did you mean `proc.name`?");
    }

    #[test]
    fn the_longest_field_is_taken() {
        assert_eq!(longest_known("proc.name) x"), Some(9));
        assert_eq!(longest_known("proc.name."), Some(9));
        assert_eq!(longest_known("evt.arg.flags"), Some(13));
        assert_eq!(longest_known("proc.exepathology"), Some(12));
        assert_eq!(longest_known("nothing"), None);
    }
}
