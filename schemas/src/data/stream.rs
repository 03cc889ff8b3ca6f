//! Streams: opened, signed heads, and what the ledger found wrong with one.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{NodeId, Sequence, StreamId};

/// A producer began a stream. Sequence 0 of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamOpened {
    /// The producer.
    pub node: NodeId,
    /// Its stream key: Ed25519, standard base64 of 32 bytes. Must be the one it joined with.
    pub key: String,
    /// The producer's stream before this one, if it knows of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<Predecessor>,
}

/// The last known head of the stream before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Predecessor {
    /// Its id.
    pub stream: StreamId,
    /// Its last record that the producer knows.
    pub sequence: Sequence,
    /// That record's leaf hash.
    pub digest: Digest,
}

/// A producer's signature over its stream up to the record before this one. The signed bytes stand in `ledger/FORMAT.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamHead {
    /// The last record covered: this record's sequence − 1.
    pub sequence: Sequence,
    /// That record's leaf hash: this record's `prevdigest`.
    pub digest: Digest,
    /// The newest checkpoint that the producer has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSeen>,
    /// Ed25519, standard base64 of 64 bytes.
    pub signature: String,
}

/// A checkpoint as a producer remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckpointSeen {
    /// Its origin.
    pub origin: String,
    /// Its tree size, records.
    pub size: u64,
    /// Its root hash.
    pub root: Digest,
}

/// Records are missing from a stream and nobody declared it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamGap {
    /// The stream.
    pub stream: StreamId,
    /// First missing record.
    pub from: Sequence,
    /// Last missing record.
    pub to: Sequence,
    /// Leaf hash of the last record before the gap.
    pub expected: Digest,
    /// The `prevdigest` of the first record after the gap.
    pub found: Digest,
}

/// A second record came for a sequence that was taken. It was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamForked {
    /// The stream.
    pub stream: StreamId,
    /// The sequence.
    pub sequence: Sequence,
    /// Leaf hash of the record that stands.
    pub accepted: Digest,
    /// Leaf hash of the record that was refused.
    pub refused: Digest,
}

/// A record was not valid and was not taken; the stream goes on after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamRejected {
    /// The stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub sequence: Sequence,
    /// Leaf hash of the bytes that were refused.
    pub digest: Digest,
    /// What was wrong: path and reason. At most 1,000 bytes.
    pub reason: String,
}

/// Where every stream stood when the control plane looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetObserved {
    /// Streams that moved since the last list, by id.
    pub streams: Vec<StreamObserved>,
    /// How many streams did not move.
    pub unchanged: u64,
}

/// One stream's last record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamObserved {
    /// The stream.
    pub stream: StreamId,
    /// Its last record.
    pub sequence: Sequence,
    /// That record's leaf hash.
    pub digest: Digest,
}
