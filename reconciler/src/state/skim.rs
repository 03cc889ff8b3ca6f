//! Reading no more of a record than where it stands.

use std::borrow::Cow;

use cairn_schemas::ids::{Sequence, StreamId};
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::RecordType;

/// A record's envelope, believed because the ledger took it.
pub(super) struct Skimmed {
    pub(super) stream: StreamId,
    pub(super) sequence: Sequence,
    pub(super) kind: RecordType,
    pub(super) time: Timestamp,
}

impl Skimmed {
    pub(super) fn read(bytes: &[u8]) -> Option<Skimmed> {
        #[derive(serde::Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow)]
            source: Cow<'a, str>,
            sequence: Sequence,
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            time: Timestamp,
        }
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).ok()?;
        let stream = envelope.source.strip_prefix("/streams/")?.parse().ok()?;
        Some(Skimmed { stream, sequence: envelope.sequence, kind: envelope.kind.parse().ok()?, time: envelope.time })
    }
}
