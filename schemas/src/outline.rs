//! A record read in place: its attributes, and its payload checked but not kept.
//!
//! The ledger and a verifier look at every record and keep little of it. [`Outline::read`] takes exactly the bytes that
//! [`Record::parse`] takes, in a third of the time, since it builds no tree of values. Where it finds a fault it leaves the word to
//! [`Record::parse`], so that both say the same.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Deserializer as Json;

use crate::canonical;
use crate::data::RecordData;
use crate::digest::Digest;
use crate::ids::{ReleaseRef, Sequence, StreamId};
use crate::record::{ATTRIBUTE_LEN_MAX, RECORD_LEN_MAX, Record, RecordError};
use crate::time::Timestamp;
use crate::types::RecordType;

/// How every record begins: RFC 8785 sorts members, and no attribute sorts before `data`.
const DATA_PREFIX: &[u8] = br#"{"data":"#;

/// A valid record's attributes.
#[derive(Debug)]
pub struct Outline<'a> {
    /// The stream it stands in.
    pub stream: StreamId,
    /// Its number in the stream.
    pub sequence: Sequence,
    /// Leaf hash of the stream's record before; zeros at the start.
    pub prevdigest: Digest,
    /// Its type.
    pub kind: RecordType,
    /// When its producer made it.
    pub time: Timestamp,
    /// The release that decided; decision records only.
    pub release: Option<ReleaseRef>,
    /// The producer's own name for it.
    pub foreignid: Option<Cow<'a, str>>,
    /// JSON that begins with the payload.
    data: &'a [u8],
}

/// The attributes as they are spelled.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes<'a> {
    #[serde(rename = "data")]
    _data: IgnoredAny,
    #[serde(borrow, default, deserialize_with = "present")]
    foreignid: Option<Text<'a>>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    prevdigest: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    release: Option<Text<'a>>,
    #[serde(borrow)]
    sequence: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    subject: Option<Text<'a>>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An attribute that may be missing, but not be null.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Text<'a>>, D::Error> {
    Text::deserialize(deserializer).map(Some)
}

impl<'a> Outline<'a> {
    /// Reads a record. One spelling only; `data` must have the form of its type.
    ///
    /// # Errors
    /// Those of [`Record::parse`].
    pub fn read(bytes: &'a [u8]) -> Result<Outline<'a>, RecordError> {
        match Outline::try_read(bytes) {
            Some(outline) => Ok(outline),
            None => Err(Record::parse(bytes).err().unwrap_or(RecordError::NotAnObject)),
        }
    }

    fn try_read(bytes: &'a [u8]) -> Option<Outline<'a>> {
        if bytes.len() > RECORD_LEN_MAX || !canonical::is_canonical(bytes) {
            return None;
        }
        let data = bytes.strip_prefix(DATA_PREFIX)?;
        let attributes: Attributes<'a> = serde_json::from_slice(bytes).ok()?;
        let kind: RecordType = attributes.kind.parse().ok()?;
        let stream = attributes.source.strip_prefix("/streams/")?;
        // The id is stream and sequence once more.
        let id = attributes.id.strip_prefix(stream)?.strip_prefix('/')?;
        let release = attributes.release.map(|release| release.0.parse()).transpose().ok()?;
        let lengths_good = [&attributes.subject, &attributes.foreignid]
            .into_iter()
            .flatten()
            .all(|text| (1..=ATTRIBUTE_LEN_MAX).contains(&text.0.len()));
        if attributes.specversion != "1.0"
            || id != attributes.sequence
            || release.is_some() != kind.is_decision()
            || !lengths_good
        {
            return None;
        }
        kind.check_data(&mut Json::from_slice(data)).ok()?;
        Some(Outline {
            stream: stream.parse().ok()?,
            sequence: attributes.sequence.parse().ok()?,
            prevdigest: attributes.prevdigest.parse().ok()?,
            kind,
            time: attributes.time.parse().ok()?,
            release,
            foreignid: attributes.foreignid.map(|text| text.0),
            data,
        })
    }

    /// The payload as its type's struct.
    ///
    /// # Errors
    /// [`RecordError::Wrong`] when the record is of another type.
    pub fn data_as<T: RecordData>(&self) -> Result<T, RecordError> {
        if self.kind != T::TYPE {
            return Err(RecordError::Wrong {
                name: "type",
                found: self.kind.as_str().to_owned(),
                expected: T::TYPE.as_str().to_owned(),
            });
        }
        T::deserialize(&mut Json::from_slice(self.data)).map_err(|source| RecordError::Data { kind: self.kind, source })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::{AdmissionDecided, Finding, NodeCapabilities, ReleaseBuilt};
    use crate::record::Draft;
    use crate::token::{TokenKey, token};

    fn record(draft: Draft) -> Record {
        let Draft { kind, subject, release, foreignid, data } = draft;
        Record {
            stream: StreamId::new(&"node-1".parse().unwrap(), [1; 16]),
            sequence: Sequence(4),
            prevdigest: Digest::sha256(b"before"),
            time: Timestamp::from_nanos(1_700_000_000_000_000_000),
            kind,
            subject,
            release,
            foreignid,
            data,
        }
    }

    fn decision() -> Record {
        let key = TokenKey { epoch: "e1".into(), key: [7; 32] };
        let data = AdmissionDecided {
            uid: "705ab4f5".into(),
            operation: "CREATE".into(),
            kind: "v1/Pod".into(),
            resource: "v1/pods".into(),
            namespace: Some("shop".into()),
            name: None,
            user: token(&key, "user", "alice"),
            allowed: false,
            dry_run: false,
            object: Digest::sha256(b"object"),
            denials: vec![Finding { guardrail: "a".into(), message: "b \"c\"\n\u{1f600}".into() }],
            warnings: Vec::new(),
            omitted: 0,
            error: None,
            evaluated_us: 250,
        };
        let release = ReleaseRef { serial: crate::ids::Serial(3), digest: Digest::sha256(b"content") };
        record(Draft::new(&data).release(release).subject("shop/\"web\"").foreignid("one\n"))
    }

    /// What both ways make of the same bytes.
    fn same(bytes: &[u8]) {
        match (Outline::read(bytes), Record::parse(bytes)) {
            (Ok(outline), Ok(record)) => {
                assert_eq!(outline.stream, record.stream);
                assert_eq!(outline.sequence, record.sequence);
                assert_eq!(outline.prevdigest, record.prevdigest);
                assert_eq!(outline.kind, record.kind);
                assert_eq!(outline.time, record.time);
                assert_eq!(outline.release, record.release);
                assert_eq!(outline.foreignid.as_deref(), record.foreignid.as_deref());
                assert_eq!(outline.data_as::<AdmissionDecided>().ok(), record.data_as::<AdmissionDecided>().ok());
                assert_eq!(outline.data_as::<ReleaseBuilt>().ok(), record.data_as::<ReleaseBuilt>().ok());
            }
            (Err(ours), Err(theirs)) => assert_eq!(ours.one_line(), theirs.one_line()),
            (ours, theirs) => panic!("{ours:?} and {theirs:?}: {}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn attributes_and_payload_are_read() {
        let bytes = decision().to_bytes().unwrap();
        assert!(Outline::try_read(&bytes).is_some());
        same(&bytes);
        let outline = Outline::read(&bytes).unwrap();
        assert!(matches!(outline.data_as::<NodeCapabilities>(), Err(RecordError::Wrong { .. })));
    }

    #[test]
    fn every_attribute_is_checked_as_in_a_record() {
        let good: serde_json::Value = serde_json::from_slice(&decision().to_bytes().unwrap()).unwrap();
        let values = [
            serde_json::Value::Null,
            serde_json::Value::from(5),
            serde_json::Value::from(""),
            serde_json::Value::from("x".repeat(ATTRIBUTE_LEN_MAX)),
            serde_json::Value::from("x".repeat(ATTRIBUTE_LEN_MAX + 1)),
            serde_json::Value::from("00000000000000000005"),
            serde_json::Value::from("cairn.node.capabilities.v1"),
            serde_json::Value::from("/streams/ledger"),
            serde_json::json!({}),
            serde_json::json!([]),
        ];
        let names = good.as_object().unwrap().keys().cloned().chain(["aa".to_owned(), "zz".to_owned()]);
        for name in names {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(&name);
            same(&canonical::to_bytes(&without).unwrap());
            for value in &values {
                let mut other = good.clone();
                other.as_object_mut().unwrap().insert(name.clone(), value.clone());
                same(&canonical::to_bytes(&other).unwrap());
            }
        }
        for name in good["data"].as_object().unwrap().keys() {
            for value in &values {
                let mut other = good.clone();
                other["data"][name] = value.clone();
                same(&canonical::to_bytes(&other).unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn changed_bytes_are_read_as_a_record_reads_them(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = decision().to_bytes().unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            same(&bytes);
        }
    }
}
