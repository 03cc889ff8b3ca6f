//! A record: one ledger entry, a CloudEvents 1.0 event in RFC 8785 form.
//!
//! The leaf is the producer's exact bytes, so parsing accepts one spelling only. Which stream a record may stand in, and whether
//! it follows the one before, is the ledger's business (`ledger/FORMAT.md`, Streams).

use serde_json::{Map, Value};

use crate::canonical::{self, CanonicalError, ObjectWriter};
use crate::data::RecordData;
use crate::digest::{Digest, NotADigest};
use crate::ids::{NotAnId, ReleaseRef, Sequence, StreamId};
use crate::time::{NotATimestamp, Timestamp};
use crate::types::{RecordType, UnknownType};

/// Longest record, bytes: the limit of C2SP tlog-tiles' 16-bit length.
pub const RECORD_LEN_MAX: usize = 65_535;
/// Longest `subject` and `foreignid`, bytes.
pub const ATTRIBUTE_LEN_MAX: usize = 512;

/// What a producer wants recorded, before its stream gives it a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The type.
    pub kind: RecordType,
    /// What it is about: a node, a release, a namespace and name.
    pub subject: Option<String>,
    /// The release that decided; decision records only.
    pub release: Option<ReleaseRef>,
    /// The producer's own name for the record, unique in its stream: makes appends idempotent.
    pub foreignid: Option<String>,
    /// The payload.
    pub data: Value,
}

impl Draft {
    /// A draft of `data`'s type.
    pub fn new<T: RecordData>(data: &T) -> Draft {
        let data = serde_json::to_value(data).expect("record types have text keys and no fallible serialisers");
        Draft { kind: T::TYPE, subject: None, release: None, foreignid: None, data }
    }

    /// With what it is about.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Draft {
        self.subject = Some(subject.into());
        self
    }

    /// With the release that decided.
    #[must_use]
    pub fn release(mut self, release: ReleaseRef) -> Draft {
        self.release = Some(release);
        self
    }

    /// With the producer's own name for it.
    #[must_use]
    pub fn foreignid(mut self, id: impl Into<String>) -> Draft {
        self.foreignid = Some(id.into());
        self
    }
}

/// A record, parsed or about to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The stream it stands in.
    pub stream: StreamId,
    /// Its number in the stream.
    pub sequence: Sequence,
    /// Leaf hash of the stream's record before; zeros at the start.
    pub prevdigest: Digest,
    /// Its type.
    pub kind: RecordType,
    /// What it is about.
    pub subject: Option<String>,
    /// When its producer made it.
    pub time: Timestamp,
    /// The release that decided; decision records only.
    pub release: Option<ReleaseRef>,
    /// The producer's own name for it.
    pub foreignid: Option<String>,
    /// The payload; of the form its type demands.
    pub data: Value,
}

/// Why bytes are not a record, or a record cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// More than [`RECORD_LEN_MAX`] bytes.
    #[error("the record has {len} bytes; the limit is {limit}")]
    TooLong {
        /// Its length.
        len: usize,
        /// [`RECORD_LEN_MAX`].
        limit: usize,
    },
    /// Not canonical JSON.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Not a JSON object.
    #[error("the record is not a JSON object")]
    NotAnObject,
    /// An attribute is missing.
    #[error("attribute {name:?} is missing")]
    Missing {
        /// The attribute.
        name: &'static str,
    },
    /// An attribute is there that no record has.
    #[error("attribute {name:?} is not one that records have")]
    Unexpected {
        /// The attribute.
        name: String,
    },
    /// An attribute has another value than it must.
    #[error("attribute {name:?} is {found:?}; expected {expected}")]
    Wrong {
        /// The attribute.
        name: &'static str,
        /// What stands there, cut at 80 characters.
        found: String,
        /// What must stand there.
        expected: String,
    },
    /// A type this version does not know.
    #[error(transparent)]
    UnknownType(#[from] UnknownType),
    /// An attribute is no id.
    #[error(transparent)]
    NotAnId(#[from] NotAnId),
    /// `prevdigest` is no digest.
    #[error(transparent)]
    NotADigest(#[from] NotADigest),
    /// `time` is no timestamp.
    #[error(transparent)]
    NotATimestamp(#[from] NotATimestamp),
    /// The payload is not what its type demands.
    #[error("data of {kind} is not valid")]
    Data {
        /// The type.
        kind: RecordType,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl RecordError {
    /// The error and its causes in one line, as `stream.rejected` and answers carry it.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

impl Record {
    /// Reads a record. One spelling only; `data` must have the form of its type.
    ///
    /// # Errors
    /// Names the attribute or the place in `data`.
    pub fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
        if bytes.len() > RECORD_LEN_MAX {
            return Err(RecordError::TooLong { len: bytes.len(), limit: RECORD_LEN_MAX });
        }
        let Value::Object(mut members) = canonical::parse(bytes)? else {
            return Err(RecordError::NotAnObject);
        };
        expect(&mut members, "specversion", "1.0")?;
        let kind: RecordType = text(&mut members, "type")?.parse()?;
        let source = text(&mut members, "source")?;
        let stream: StreamId = match source.strip_prefix("/streams/") {
            Some(stream) => stream.parse()?,
            None => return Err(wrong("source", &source, "/streams/<stream id>")),
        };
        let sequence: Sequence = text(&mut members, "sequence")?.parse()?;
        expect(&mut members, "id", &id(&stream, sequence))?;
        let prevdigest = text(&mut members, "prevdigest")?.parse()?;
        let time = text(&mut members, "time")?.parse()?;
        let release = optional(&mut members, "release")?.map(|text| text.parse()).transpose()?;
        let subject = optional(&mut members, "subject")?;
        let foreignid = optional(&mut members, "foreignid")?;
        let data = members.remove("data").ok_or(RecordError::Missing { name: "data" })?;
        if let Some((name, _)) = members.into_iter().next() {
            return Err(RecordError::Unexpected { name });
        }
        let record = Record { stream, sequence, prevdigest, kind, subject, time, release, foreignid, data };
        record.check()?;
        Ok(record)
    }

    /// The record's bytes: what is hashed, stored and proven.
    ///
    /// # Errors
    /// Too long, or not of the form its type demands.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        // In the order of RFC 8785.
        let mut object = ObjectWriter::new(1_024);
        object.value("data", &self.data)?;
        if let Some(foreignid) = &self.foreignid {
            object.text("foreignid", foreignid);
        }
        object.text("id", &id(&self.stream, self.sequence));
        object.text("prevdigest", &self.prevdigest.to_string());
        if let Some(release) = &self.release {
            object.text("release", &release.to_string());
        }
        object.text("sequence", &self.sequence.padded());
        object.text("source", &format!("/streams/{}", self.stream));
        object.text("specversion", "1.0");
        if let Some(subject) = &self.subject {
            object.text("subject", subject);
        }
        object.text("time", &self.time.to_string());
        object.text("type", self.kind.as_str());
        let bytes = object.finish();
        if bytes.len() > RECORD_LEN_MAX {
            return Err(RecordError::TooLong { len: bytes.len(), limit: RECORD_LEN_MAX });
        }
        Ok(bytes)
    }

    /// The payload as its type's struct.
    ///
    /// # Errors
    /// [`RecordError::Wrong`] when the record is of another type; [`RecordError::Data`] when the payload is not of that form.
    pub fn data_as<T: RecordData>(&self) -> Result<T, RecordError> {
        if self.kind != T::TYPE {
            return Err(wrong("type", self.kind.as_str(), T::TYPE.as_str()));
        }
        T::deserialize(&self.data).map_err(|source| RecordError::Data { kind: self.kind, source })
    }

    /// What holds for every record, whichever way it came.
    fn check(&self) -> Result<(), RecordError> {
        match (&self.release, self.kind.is_decision()) {
            (None, true) => return Err(RecordError::Missing { name: "release" }),
            (Some(release), false) => {
                return Err(wrong("release", &release.to_string(), "none: only decision records name a release"));
            }
            _ => {}
        }
        for (name, value) in [("subject", &self.subject), ("foreignid", &self.foreignid)] {
            if let Some(value) = value
                && (value.is_empty() || value.len() > ATTRIBUTE_LEN_MAX)
            {
                return Err(wrong(name, value, &format!("1 to {ATTRIBUTE_LEN_MAX} bytes")));
            }
        }
        self.kind.check_data(&self.data).map_err(|source| RecordError::Data { kind: self.kind, source })
    }
}

/// CloudEvents `id`: stream and sequence, so that `source` + `id` is unique.
fn id(stream: &StreamId, sequence: Sequence) -> String {
    format!("{stream}/{}", sequence.padded())
}

fn wrong(name: &'static str, found: &str, expected: &str) -> RecordError {
    RecordError::Wrong { name, found: found.chars().take(80).collect(), expected: expected.to_owned() }
}

fn optional(members: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, RecordError> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(name, &other.to_string(), "a string")),
    }
}

fn text(members: &mut Map<String, Value>, name: &'static str) -> Result<String, RecordError> {
    optional(members, name)?.ok_or(RecordError::Missing { name })
}

fn expect(members: &mut Map<String, Value>, name: &'static str, value: &str) -> Result<(), RecordError> {
    let found = text(members, name)?;
    if found == value { Ok(()) } else { Err(wrong(name, &found, value)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::{FleetObserved, StreamObserved};
    use crate::ids::NodeId;

    fn record() -> Record {
        let node: NodeId = "control".parse().unwrap();
        let stream = StreamId::new(&node, [1; 16]);
        let data = FleetObserved {
            streams: vec![StreamObserved { stream: stream.clone(), sequence: Sequence(3), digest: Digest::ZERO }],
            unchanged: 0,
        };
        let draft = Draft::new(&data).subject("fleet");
        Record {
            stream,
            sequence: Sequence(4),
            prevdigest: Digest::sha256(b"before"),
            kind: draft.kind,
            subject: draft.subject,
            time: Timestamp::from_nanos(1_700_000_000_000_000_000),
            release: None,
            foreignid: None,
            data: draft.data,
        }
    }

    #[test]
    fn round_trip() {
        let bytes = record().to_bytes().unwrap();
        assert_eq!(Record::parse(&bytes).unwrap(), record());
    }

    #[test]
    fn every_attribute_round_trips() {
        let target = crate::data::Target { pid: 7, start_ns: "9".into(), executable: "/bin/\u{1}é\"".into() };
        let data = crate::data::ContainmentRequested {
            detection: Sequence(1),
            response: "kill".into(),
            action: "kill".into(),
            target,
        };
        let release = ReleaseRef { serial: crate::ids::Serial(3), digest: Digest::sha256(b"content") };
        let draft = Draft::new(&data).subject("a/\n").release(release).foreignid("\u{1f600}\\");
        let Draft { kind, subject, release, foreignid, data } = draft;
        let record = Record { kind, subject, release, foreignid, data, ..record() };
        assert_eq!(Record::parse(&record.to_bytes().unwrap()).unwrap(), record);
    }

    fn edited(edit: impl FnOnce(&mut Map<String, Value>)) -> RecordError {
        let mut value: Value = serde_json::from_slice(&record().to_bytes().unwrap()).unwrap();
        edit(value.as_object_mut().unwrap());
        Record::parse(&canonical::to_bytes(&value).unwrap()).unwrap_err()
    }

    #[test]
    fn every_attribute_is_checked() {
        let cases: Vec<(RecordError, &str)> = vec![
            (edited(|m| drop(m.remove("time"))), "attribute \"time\" is missing"),
            (
                edited(|m| drop(m.insert("extra".into(), "x".into()))),
                "attribute \"extra\" is not one that records have",
            ),
            (
                edited(|m| drop(m.insert("specversion".into(), "1.1".into()))),
                "attribute \"specversion\" is \"1.1\"; expected 1.0",
            ),
            (edited(|m| drop(m.insert("id".into(), "x".into()))), "attribute \"id\" is \"x\""),
            (edited(|m| drop(m.insert("type".into(), "cairn.x.y.v1".into()))), "is not a record type"),
            (
                edited(|m| drop(m.insert("subject".into(), 5.into()))),
                "attribute \"subject\" is \"5\"; expected a string",
            ),
            (edited(|m| drop(m.insert("subject".into(), "".into()))), "expected 1 to 512 bytes"),
            (
                edited(|m| drop(m.insert("release".into(), format!("1@sha256:{}", Digest::ZERO).into()))),
                "only decision records name a release",
            ),
            (edited(|m| drop(m["data"].as_object_mut().unwrap().remove("unchanged"))), "missing field `unchanged`"),
        ];
        for (error, expected) in cases {
            assert!(error.one_line().contains(expected), "{}", error.one_line());
        }
    }

    #[test]
    fn decisions_must_name_their_release() {
        let mut record = record();
        record.kind = RecordType::AdmissionDecided;
        assert!(matches!(record.to_bytes(), Err(RecordError::Missing { name: "release" })));
    }

    #[test]
    fn length_at_the_limit_and_one_past_it() {
        let with = |len: usize| {
            let mut record = record();
            record.data.as_object_mut().unwrap().insert("pad".into(), "x".repeat(len).into());
            record
        };
        let base = with(0).to_bytes().unwrap().len();
        let full = with(RECORD_LEN_MAX - base).to_bytes().unwrap();
        assert_eq!(full.len(), RECORD_LEN_MAX);
        assert!(Record::parse(&full).is_ok(), "fields that a reader does not know are kept");
        assert!(matches!(with(RECORD_LEN_MAX - base + 1).to_bytes(), Err(RecordError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn a_flipped_byte_never_reads_as_the_same_record(at in 0usize..400, bit in 0u8..8) {
            let mut bytes = record().to_bytes().unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(read) = Record::parse(&bytes) {
                prop_assert_ne!(read, record());
            }
        }
    }
}
