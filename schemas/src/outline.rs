//! A record read in place: its attributes, and its payload checked but not kept.
//!
//! The ledger and a verifier look at every record and keep little of it. [`Outline::read`] takes exactly the bytes that
//! [`Record::parse`] takes, several times as fast: one pass finds them canonical and of their type's form, and builds no tree of
//! values. Whatever that pass does not take is given to [`Record::parse`], whose word is the last: so that both say the same, and so that
//! a spelling too rare for the fast way is merely slower.

use std::borrow::Cow;

use serde_json::Deserializer as Json;

use crate::canonical::{Reader, Scan};
use crate::data::RecordData;
use crate::digest::Digest;
use crate::ids::{ReleaseRef, Sequence, StreamId};
use crate::record::{ATTRIBUTE_LEN_MAX, RECORD_LEN_MAX, Record, RecordError};
use crate::time::Timestamp;
use crate::types::RecordType;

/// How every record begins: RFC 8785 sorts members, and no attribute sorts before `data`.
const DATA_PREFIX: &str = r#"{"data":"#;
/// How deep `data` is nested in its record.
const DATA_DEPTH: usize = 1;

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
    /// JSON that begins with the payload, which was found to be canonical.
    data: &'a str,
}

impl<'a> Outline<'a> {
    /// Reads a record. One spelling only; `data` must have the form of its type.
    ///
    /// # Errors
    /// Those of [`Record::parse`].
    pub fn read(bytes: &'a [u8]) -> Result<Outline<'a>, RecordError> {
        match Outline::try_read(bytes) {
            Some(outline) => Ok(outline),
            None => Outline::read_slowly(bytes),
        }
    }

    fn read_slowly(bytes: &'a [u8]) -> Result<Outline<'a>, RecordError> {
        let Record { stream, sequence, prevdigest, kind, time, release, foreignid, .. } = Record::parse(bytes)?;
        let text = std::str::from_utf8(bytes).ok();
        let data = text.and_then(|text| text.strip_prefix(DATA_PREFIX)).ok_or(RecordError::NotAnObject)?;
        let foreignid = foreignid.map(Cow::Owned);
        Ok(Outline { stream, sequence, prevdigest, kind, time, release, foreignid, data })
    }

    /// The attributes stand in one order, so they are read in that order. `None`: this is no record, or one for the slow way.
    fn try_read(bytes: &'a [u8]) -> Option<Outline<'a>> {
        if bytes.len() > RECORD_LEN_MAX {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let kind: RecordType = last_text(text)?.parse().ok()?;
        let mut scan = Scan::new(text);
        scan.word(DATA_PREFIX)?;
        let data = &text[DATA_PREFIX.len()..];
        kind.check_data(Reader::new(&mut scan, DATA_DEPTH)).ok()?;
        let foreignid = attribute(&mut scan, r#","foreignid":"#);
        let id = plain(&mut scan, r#","id":"#)?;
        let prevdigest = plain(&mut scan, r#","prevdigest":"#)?.parse().ok()?;
        let release = match scan.peek_word(r#","release":"#) {
            true => Some(plain(&mut scan, r#","release":"#)?.parse().ok()?),
            false => None,
        };
        let sequence = plain(&mut scan, r#","sequence":"#)?;
        let stream = plain(&mut scan, r#","source":"#)?.strip_prefix("/streams/")?;
        scan.word(r#","specversion":"1.0""#)?;
        let subject = attribute(&mut scan, r#","subject":"#);
        let time = plain(&mut scan, r#","time":"#)?.parse().ok()?;
        // The type again, where it stands as an attribute and not as the end of something else.
        let type_stands = plain(&mut scan, r#","type":"#)? == kind.as_str();
        scan.take(b'}')?;
        let is_id = id.strip_prefix(stream)?.strip_prefix('/')? == sequence;
        let lengths_good =
            [&subject, &foreignid].into_iter().flatten().all(|text| (1..=ATTRIBUTE_LEN_MAX).contains(&text.len()));
        if !scan.is_at_end() || !type_stands || !is_id || !lengths_good || release.is_some() != kind.is_decision() {
            return None;
        }
        let (stream, sequence) = (stream.parse().ok()?, sequence.parse().ok()?);
        Some(Outline { stream, sequence, prevdigest, kind, time, release, foreignid, data })
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
        // What was found canonical is found so again; only the rare spellings need the other way.
        T::deserialize(Reader::new(&mut Scan::new(self.data), DATA_DEPTH)).or_else(|_| {
            T::deserialize(&mut Json::from_str(self.data))
                .map_err(|source| RecordError::Data { kind: self.kind, source })
        })
    }
}

/// The text of a record's last member, if it has no escapes: in a record that is its type.
fn last_text(text: &str) -> Option<&str> {
    let (_, last) = text.strip_suffix("\"}")?.rsplit_once('"')?;
    Some(last)
}

/// The text of a member that has no escapes, behind its key.
fn plain<'a>(scan: &mut Scan<'a>, key: &str) -> Option<&'a str> {
    scan.word(key)?;
    scan.string().filter(|raw| !raw.escaped).map(|raw| raw.inside)
}

/// The text of a member that may be missing, behind its key.
fn attribute<'a>(scan: &mut Scan<'a>, key: &str) -> Option<Cow<'a, str>> {
    scan.word(key)?;
    let raw = scan.string()?;
    if raw.escaped { raw.unescape().map(Cow::Owned) } else { Some(Cow::Borrowed(raw.inside)) }
}

#[cfg(test)]
mod tests;
