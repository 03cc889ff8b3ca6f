//! The producer's side of a stream: numbering records, chaining them, signing heads.
//!
//! A [`Chain`] is pure. It knows the next sequence and the leaf hash before it, and nothing of spools, files or the network. Whoever
//! holds one makes each sealed record durable before sealing is of any use, and resumes from what was durable. A chain is cheap to
//! clone: seal on a copy, and keep the copy once the record is durable.

use std::time::Duration;

use cairn_schemas::data::CheckpointSeen;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{Sequence, StreamId};
use cairn_schemas::record::{Draft, Record, RecordError};
use cairn_schemas::time::Timestamp;
use ed25519_dalek::SigningKey;
use thiserror::Error;

use crate::head::{self, HeadError};

/// A head is due when the oldest unsigned record is this old.
pub const HEAD_AGE_MAX: Duration = Duration::from_secs(1);
/// A head is due when this many records lie unsigned.
pub const HEAD_RECORDS_MAX: u64 = 4_096;

/// Why a record could not be sealed. The chain is where it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The draft does not make a record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The head could not be signed.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A head was to be signed over an empty stream.
    #[error("stream {stream} has no record that a head could cover")]
    Empty {
        /// The stream.
        stream: StreamId,
    },
}

/// A record with its place in the stream, ready to be stored and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The record's bytes: these and no others are stored, sent and hashed.
    pub bytes: Vec<u8>,
    /// Its number in the stream.
    pub sequence: Sequence,
    /// Its leaf hash.
    pub leaf: Digest,
}

/// Where a stream's producer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    stream: StreamId,
    next: Sequence,
    prev: Digest,
    unsigned: u64,
    unsigned_since: Option<Timestamp>,
}

impl Chain {
    /// A new stream, whose first record must be `stream.opened`.
    #[must_use]
    pub fn new(stream: StreamId) -> Chain {
        Chain { stream, next: Sequence(0), prev: Digest::ZERO, unsigned: 0, unsigned_since: None }
    }

    /// A stream that goes on: `next` is the sequence of the next record, `prev` the leaf hash of the last, `unsigned` how many
    /// records stand after the last head. Unsigned records count as made `now`: their head is due a second from now.
    #[must_use]
    pub fn resume(stream: StreamId, next: Sequence, prev: Digest, unsigned: u64, now: Timestamp) -> Chain {
        Chain { stream, next, prev, unsigned, unsigned_since: (unsigned > 0).then_some(now) }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The next record's number.
    #[must_use]
    pub fn next(&self) -> Sequence {
        self.next
    }

    /// The last record's leaf hash; zeros before the first.
    #[must_use]
    pub fn prev(&self) -> Digest {
        self.prev
    }

    /// How many records stand after the last head.
    #[must_use]
    pub fn unsigned(&self) -> u64 {
        self.unsigned
    }

    /// Gives a draft its place. On an error the chain is unchanged.
    ///
    /// # Errors
    /// [`SealError::Record`]: too long, or not of the form that its type demands.
    pub fn seal(&mut self, draft: Draft, now: Timestamp) -> Result<Sealed, SealError> {
        let sealed = self.place(draft, now)?;
        self.unsigned += 1;
        self.unsigned_since.get_or_insert(now);
        Ok(sealed)
    }

    /// Whether a head is due: records have lain unsigned for [`HEAD_AGE_MAX`], or [`HEAD_RECORDS_MAX`] of them lie there. A clock
    /// that ran backwards makes it due at once.
    #[must_use]
    pub fn head_due(&self, now: Timestamp) -> bool {
        self.unsigned >= HEAD_RECORDS_MAX
            || self.unsigned_since.is_some_and(|since| now < since || now.since(since) >= HEAD_AGE_MAX)
    }

    /// Signs everything so far. `seen` is the newest checkpoint that this producer has verified.
    ///
    /// # Errors
    /// [`SealError::Empty`] before the first record; [`SealError::Head`] for a checkpoint with an impossible origin.
    pub fn seal_head(
        &mut self,
        key: &SigningKey,
        seen: Option<CheckpointSeen>,
        now: Timestamp,
    ) -> Result<Sealed, SealError> {
        let Some(last) = self.next.0.checked_sub(1) else {
            return Err(SealError::Empty { stream: self.stream.clone() });
        };
        let head = head::sign(key, &self.stream, Sequence(last), self.prev, seen)?;
        let sealed = self.place(Draft::new(&head), now)?;
        // What is signed is the head's content; its envelope is covered by the next head, if any follows.
        self.unsigned = 0;
        self.unsigned_since = None;
        Ok(sealed)
    }

    fn place(&mut self, draft: Draft, now: Timestamp) -> Result<Sealed, SealError> {
        let record = Record {
            stream: self.stream.clone(),
            sequence: self.next,
            prevdigest: self.prev,
            kind: draft.kind,
            subject: draft.subject,
            time: now,
            release: draft.release,
            foreignid: draft.foreignid,
            data: draft.data,
        };
        let bytes = record.to_bytes()?;
        let sealed = Sealed { leaf: Digest::leaf(&bytes), bytes, sequence: self.next };
        self.next = self.next.next();
        self.prev = sealed.leaf;
        Ok(sealed)
    }
}

#[cfg(test)]
mod tests {
    use cairn_schemas::data::{NodeCapabilities, StreamHead, StreamOpened};

    use super::*;

    fn stream() -> StreamId {
        StreamId::new(&"sensor-1".parse().unwrap(), [1; 16])
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(1_700_000_000_000_000_000 + millis * 1_000_000)
    }

    fn draft() -> Draft {
        Draft::new(&NodeCapabilities { live: true, version: "1".into(), can: vec![], cannot: vec![] })
    }

    #[test]
    fn records_are_numbered_chained_and_signed() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let mut chain = Chain::new(stream());
        assert!(matches!(chain.seal_head(&key, None, at(0)), Err(SealError::Empty { .. })));
        let opened = StreamOpened {
            node: "sensor-1".parse().unwrap(),
            key: head::format_key(&key.verifying_key()),
            predecessor: None,
        };
        let first = chain.seal(Draft::new(&opened), at(0)).unwrap();
        let second = chain.seal(draft(), at(1)).unwrap();
        let head = chain.seal_head(&key, None, at(2)).unwrap();
        let records: Vec<Record> = [&first, &second, &head].map(|sealed| Record::parse(&sealed.bytes).unwrap()).into();
        assert_eq!(records[0].prevdigest, Digest::ZERO);
        assert_eq!((records[1].sequence, records[1].prevdigest), (Sequence(1), first.leaf));
        let signed: StreamHead = records[2].data_as().unwrap();
        assert_eq!((signed.sequence, signed.digest), (Sequence(1), second.leaf));
        head::verify(&signed, &stream(), &key.verifying_key()).unwrap();
        assert_eq!((chain.unsigned(), chain.next(), chain.prev()), (0, Sequence(3), head.leaf));
    }

    #[test]
    fn a_head_is_due_after_a_second() {
        let mut chain = Chain::new(stream());
        assert!(!chain.head_due(at(1_000_000)));
        chain.seal(draft(), at(10)).unwrap();
        assert!(!chain.head_due(at(1_009)));
        assert!(chain.head_due(at(1_010)));
        assert!(chain.head_due(at(9)), "the clock ran backwards");
        chain.seal_head(&SigningKey::from_bytes(&[1; 32]), None, at(1_010)).unwrap();
        assert!(!chain.head_due(at(1_000_000)));
        let resumed = Chain::resume(stream(), Sequence(9), Digest::ZERO, 1, at(0));
        assert!(!resumed.head_due(at(999)) && resumed.head_due(at(1_000)));
    }

    #[test]
    fn a_head_is_due_at_the_record_limit() {
        let resume = |unsigned| Chain::resume(stream(), Sequence(9_000), Digest::ZERO, unsigned, at(0));
        assert!(!resume(HEAD_RECORDS_MAX - 1).head_due(at(0)));
        assert!(resume(HEAD_RECORDS_MAX).head_due(at(0)));
    }

    #[test]
    fn a_refused_draft_takes_no_number() {
        let mut chain = Chain::new(stream());
        let mut bad = draft();
        bad.data = serde_json::json!({});
        assert!(matches!(chain.seal(bad, at(0)), Err(SealError::Record(_))));
        assert_eq!(chain, Chain::new(stream()));
    }
}
