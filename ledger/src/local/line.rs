//! One line of input: a JSON object `{type, subject, data[, id][, personal][, blobs]}`.
//!
//! A line is read strictly: a member that is not one of these, a name that comes twice, a number that RFC 8785 cannot spell are refused,
//! with the path of what is wrong as a JSON Pointer. What it makes is a [`Draft`] that every later step takes, but for its length.
//!
//! `personal` names values in `data` that the record must not hold, `blobs` files that it refers to: see [`crate::vault`].

use std::cell::RefCell;
use std::fmt;

use cairn_schemas::canonical;
use cairn_schemas::record::{ATTRIBUTE_LEN_MAX, Draft, RECORD_LEN_MAX};
use cairn_schemas::references;
use cairn_schemas::types::{NodeKind, RecordType, Role};
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

use super::hidden::masked;
use crate::vault::{BlobPath, PersonalPath};

/// Most personal values, and most blobs, of one line.
pub const HIDDEN_MAX: usize = 256;

/// Longest line, bytes: a record at its limit with every character escaped.
pub const LINE_LEN_MAX: usize = 6 * RECORD_LEN_MAX + 4_096;

/// Why a line is no record: where in it, and what.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{}{reason}", .path, if .path.is_empty() { "" } else { ": " })]
pub struct LineFault {
    /// A JSON Pointer (RFC 6901); empty: the whole line.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

impl LineFault {
    /// A fault.
    pub(super) fn new(path: impl Into<String>, reason: impl Into<String>) -> LineFault {
        LineFault { path: path.into(), reason: reason.into() }
    }
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The record to be, with personal values in the clear.
    pub draft: Draft,
    /// What in it is personal.
    pub personal: Vec<PersonalPath>,
    /// Files that it will refer to.
    pub blobs: Vec<BlobPath>,
}

/// Reads a line of a local producer.
///
/// # Errors
/// [`LineFault`].
pub fn parse(line: &[u8]) -> Result<Line, LineFault> {
    if line.len() > LINE_LEN_MAX {
        let reason = format!("the line has {} bytes or more; at most {LINE_LEN_MAX} are read", line.len());
        return Err(LineFault::new("", reason));
    }
    let mut members = match read(line)? {
        Value::Object(members) => members,
        _ => return Err(LineFault::new("", "expected an object {\"type\", \"subject\", \"data\"}")),
    };
    let kind = required(&mut members, "type")?;
    let kind: RecordType = text("type", kind)?.parse().map_err(|error| fault("type", &error))?;
    if matches!(kind, RecordType::StreamOpened | RecordType::StreamHead) {
        return Err(LineFault::new("/type", format!("{kind} is written by the command itself")));
    }
    if !kind.allowed(Role::Node(NodeKind::Local)) {
        let reason = format!("{kind} is not a type that a local producer may write; {} are", allowed().join(", "));
        return Err(LineFault::new("/type", reason));
    }
    let subject = members.remove("subject").map(|value| attribute("subject", value)).transpose()?;
    let foreignid = members.remove("id").map(|value| attribute("id", value)).transpose()?;
    let data = required(&mut members, "data")?;
    let personal: Vec<PersonalPath> = hidden(&mut members, "personal", kind)?;
    let blobs: Vec<BlobPath> = hidden(&mut members, "blobs", kind)?;
    if let Some((name, _)) = members.iter().next() {
        let reason = match name.as_str() {
            "sequence" | "prevdigest" | "time" | "source" | "specversion" => {
                "is given by the ledger's producer, and is not taken from a line"
            }
            _ => "is not a member that lines have: type, subject, data, id, personal, blobs",
        };
        return Err(LineFault::new(pointer("", name), reason));
    }
    if !data.is_object() {
        return Err(LineFault::new("/data", "expected an object"));
    }
    // Nobody could open it, and a verifier with the vault would say that it is lost.
    if let Some((place, _)) = references::find(&data).into_iter().next() {
        let reason = "reads as a commitment or as a blob's reference; `personal` and `blobs` make those";
        return Err(LineFault::new(format!("/data{place}"), reason));
    }
    // What is personal does not get into the record, and may be what a record cannot hold.
    let clear = masked(&data, personal.iter().map(|value| value.path.as_str()));
    check_numbers(&clear)?;
    kind.check_data(&*clear).map_err(|error| LineFault::new("/data", error.to_string()))?;
    drop(clear);
    Ok(Line { draft: Draft { kind, subject, release: None, foreignid, data }, personal, blobs })
}

/// A list of what is taken out of a payload. Only evidence has a form that leaves room for it.
fn hidden<T: DeserializeOwned>(
    members: &mut Map<String, Value>,
    name: &str,
    kind: RecordType,
) -> Result<Vec<T>, LineFault> {
    let Some(value) = members.remove(name) else { return Ok(Vec::new()) };
    let wrong = |reason: String| LineFault::new(pointer("", name), reason);
    let hidden: Vec<T> = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    if hidden.len() > HIDDEN_MAX {
        return Err(wrong(format!("names {} things; at most {HIDDEN_MAX} are taken out of a payload", hidden.len())));
    }
    if kind != RecordType::EvidenceReceived && !hidden.is_empty() {
        return Err(wrong(format!("only {} has values or blobs to be taken out", RecordType::EvidenceReceived)));
    }
    Ok(hidden)
}

/// The types that a line may have.
#[must_use]
pub fn allowed() -> Vec<&'static str> {
    let own = [RecordType::StreamOpened, RecordType::StreamHead];
    let local = Role::Node(NodeKind::Local);
    let kinds = RecordType::ALL.iter().filter(|kind| kind.allowed(local) && !own.contains(kind));
    kinds.map(|kind| kind.as_str()).collect()
}

fn check_numbers(data: &Value) -> Result<(), LineFault> {
    match canonical::to_bytes(data) {
        Ok(_) => Ok(()),
        Err(error) => {
            // The canonical form's own errors begin with the path below `data`.
            let text = error.to_string();
            match text.split_once(' ') {
                Some((path, reason)) if path.starts_with('/') => Err(LineFault::new(format!("/data{path}"), reason)),
                _ => Err(LineFault::new("/data", text)),
            }
        }
    }
}

fn required(members: &mut Map<String, Value>, name: &str) -> Result<Value, LineFault> {
    members.remove(name).ok_or_else(|| LineFault::new("", format!("member {name:?} is missing")))
}

fn text(name: &str, value: Value) -> Result<String, LineFault> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(LineFault::new(pointer("", name), "expected a text")),
    }
}

fn attribute(name: &str, value: Value) -> Result<String, LineFault> {
    let text = text(name, value)?;
    if (1..=ATTRIBUTE_LEN_MAX).contains(&text.len()) {
        return Ok(text);
    }
    Err(LineFault::new(pointer("", name), format!("has {} bytes; 1 to {ATTRIBUTE_LEN_MAX} are allowed", text.len())))
}

fn fault(name: &str, error: &dyn fmt::Display) -> LineFault {
    LineFault::new(pointer("", name), error.to_string())
}

/// One step further in a JSON Pointer.
fn pointer(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Reads JSON in which no name comes twice.
fn read(line: &[u8]) -> Result<Value, LineFault> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let repeated = RefCell::new(None);
    let value = Strict { path: &Path::Root, repeated: &repeated }.deserialize(&mut json);
    if let Some(path) = repeated.into_inner() {
        return Err(LineFault::new(path, "comes twice"));
    }
    let value = value.and_then(|value| json.end().map(|()| value));
    value.map_err(|error| LineFault::new("", format!("not JSON: {}", column_only(&error))))
}

/// The parser's word without its line number: a line of input is one line.
fn column_only(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

/// Where in a line: written out only where something is wrong there.
enum Path<'p> {
    Root,
    Member(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn to_pointer(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Member(outer, name) => pointer(&outer.to_pointer(), name),
            Path::Item(outer, index) => format!("{}/{index}", outer.to_pointer()),
        }
    }
}

/// A value whose objects have each name once; the first that comes twice is told by its path.
struct Strict<'p> {
    path: &'p Path<'p>,
    repeated: &'p RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let path = Path::Item(self.path, values.len());
            match list.next_element_seed(Strict { path: &path, repeated: self.repeated })? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = {
                let path = Path::Member(self.path, &name);
                if members.contains_key(&name) {
                    self.repeated.borrow_mut().get_or_insert_with(|| path.to_pointer());
                }
                map.next_value_seed(Strict { path: &path, repeated: self.repeated })?
            };
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        parse(line.as_bytes()).unwrap_err().to_string()
    }

    fn evidence(data: &str) -> String {
        format!(r#"{{"type":"cairn.evidence.received.v1","subject":"s","data":{data}}}"#)
    }

    #[test]
    fn a_good_line_is_a_draft() {
        let Line { draft, personal, blobs } = parse(
            br#" {"id": "x-1", "data": {"b": [1, -2, "\u00e9"], "a": null}, "type": "cairn.evidence.received.v1", "subject": "host-1"} "#,
        )
        .unwrap();
        assert_eq!(draft.kind, RecordType::EvidenceReceived);
        assert!(personal.is_empty() && blobs.is_empty());
        assert_eq!((draft.subject.as_deref(), draft.foreignid.as_deref()), (Some("host-1"), Some("x-1")));
        assert_eq!(draft.data, serde_json::json!({"a": null, "b": [1, -2, "é"]}));
        assert!(parse(br#"{"type":"cairn.evidence.received.v1","data":{}}"#).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path() {
        for (line, words) in [
            ("{", "not JSON: EOF while parsing an object at column 1"),
            ("{} x", "not JSON: trailing characters at column 4"),
            ("[]", "expected an object"),
            ("{}", "member \"type\" is missing"),
            (r#"{"type":7}"#, "/type: expected a text"),
            (r#"{"type":"cairn.nothing.v1"}"#, "/type: \"cairn.nothing.v1\" is not a record type"),
            (
                r#"{"type":"cairn.release.built.v1"}"#,
                "/type: cairn.release.built.v1 is not a type that a local producer",
            ),
            (r#"{"type":"cairn.stream.head.v1"}"#, "/type: cairn.stream.head.v1 is written by the command itself"),
            (r#"{"type":"cairn.evidence.received.v1"}"#, "member \"data\" is missing"),
            (&evidence("7"), "/data: expected an object"),
            (&evidence(r#"{"a":[0,{"b":1.5}]}"#), "/data/a/1/b: holds the number 1.5, which is not an integer"),
            (&evidence(r#"{"a":1e3}"#), "/data/a: holds the number 1000.0, which is not an integer"),
            (&evidence(r#"{"a":9007199254740992}"#), "/data/a: holds 9007199254740992, beyond"),
            (&evidence(r#"{"a":{"x/y":1,"x/y":2}}"#), "/data/a/x~1y: comes twice"),
            (&evidence(r#"[{"a":1,"a":2}]"#), "/data/0/a: comes twice"),
            (
                r#"{"type":"cairn.evidence.received.v1","data":{},"sequence":"00000000000000000009"}"#,
                "/sequence: is given by the ledger's producer",
            ),
            (r#"{"type":"cairn.evidence.received.v1","data":{},"color":1}"#, "/color: is not a member that lines have"),
            (r#"{"type":"cairn.evidence.received.v1","data":{},"id":""}"#, "/id: has 0 bytes; 1 to 512 are allowed"),
            (r#"{"type":"cairn.evidence.received.v1","data":{},"subject":null}"#, "/subject: expected a text"),
            (r#"{"type":"cairn.sensor.loss.v1","data":{}}"#, "/data: missing field"),
            (&evidence(r#"{"a":[{"$blob":1}]}"#), "/data/a/0: reads as a commitment or as a blob's reference"),
            (
                r#"{"type":"cairn.evidence.received.v1","data":{},"personal":[{"path":"/a"}]}"#,
                "/personal: missing field `subject`",
            ),
            (
                r#"{"type":"cairn.evidence.received.v1","data":{},"personal":[{"path":"/a","subject":"s","key":1}]}"#,
                "/personal: unknown field `key`",
            ),
            (
                r#"{"type":"cairn.sensor.loss.v1","data":{},"personal":[{"path":"/a","subject":"s"}]}"#,
                "/personal: only cairn.evidence.received.v1 has values",
            ),
        ] {
            let said = refused(line);
            assert!(said.starts_with(words), "{line}\n said: {said}\n not: {words}");
        }
    }

    #[test]
    fn what_is_personal_is_named_and_may_be_what_no_record_can_hold() {
        let line = r#"{"type":"cairn.evidence.received.v1","data":{"at":{"lat":52.5},"a":1},
            "personal":[{"path":"/at","subject":"s"}],"blobs":[{"path":"/body","file":"report.pdf"}]}"#
            .replace('\n', "");
        let read = parse(line.as_bytes()).unwrap();
        assert_eq!(read.personal, [PersonalPath { path: "/at".into(), subject: "s".into() }]);
        assert_eq!(read.blobs, [BlobPath { path: "/body".into(), file: "report.pdf".into(), subject: None }]);
        let values = |count: usize| {
            let values = vec![r#"{"path":"/a","subject":"s"}"#; count].join(",");
            format!(r#"{{"type":"cairn.evidence.received.v1","data":{{"a":1}},"personal":[{values}]}}"#)
        };
        assert_eq!(parse(values(HIDDEN_MAX).as_bytes()).unwrap().personal.len(), HIDDEN_MAX);
        assert!(refused(&values(HIDDEN_MAX + 1)).starts_with("/personal: names 257 things"));
    }

    #[test]
    fn limits_and_one_past_them() {
        let id =
            |len: usize| format!(r#"{{"type":"cairn.evidence.received.v1","data":{{}},"id":"{}"}}"#, "i".repeat(len));
        assert!(parse(id(ATTRIBUTE_LEN_MAX).as_bytes()).is_ok());
        assert!(refused(&id(ATTRIBUTE_LEN_MAX + 1)).starts_with("/id: has 513 bytes"));
        let nest = |depth: usize| evidence(&format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth)));
        assert!(parse(nest(canonical::DEPTH_MAX - 1).as_bytes()).is_ok());
        assert!(refused(&nest(canonical::DEPTH_MAX)).contains("deeper than 64"));
        let long = evidence(&format!("{{\"a\":\"{}\"}}", "x".repeat(LINE_LEN_MAX)));
        assert!(refused(&long).contains("at most"), "{}", &refused(&long)[..80]);
    }
}
