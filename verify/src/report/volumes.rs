//! A report on the ledger's volumes: their checkpoints, the keys that signed these, and what witnesses vouch for.

use cairn_schemas::data::VolumeReason;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use serde::{Deserialize, Serialize};

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Its number, from 1.
    pub volume: u64,
    /// What became of it.
    pub state: VolumeState,
    /// The checkpoint that it was compared with; of a volume that is not here, the one that the next volume names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReport>,
    /// The keys that signed its checkpoints, as vkeys, each from a size on.
    #[serde(default)]
    pub keys: Vec<KeyWindowReport>,
    /// Why the one before it does not go on; none in volume 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<VolumeReason>,
}

/// What became of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// It goes on.
    Open,
    /// It ended in good order, and another one goes on.
    Closed,
    /// The ledger ended with it, for good.
    Frozen,
    /// Another one goes on, and this one did not end in good order: its successor says why.
    Replaced,
    /// It is not here: dropped at the end of its retention, or not handed over.
    Absent,
}

/// A key, and for which checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWindowReport {
    /// It signs checkpoints of at least this size.
    pub from_size: TreeSize,
    /// The key, as a vkey.
    pub vkey: String,
    /// The key of the second signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
}

/// What witnesses vouch for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessedReport {
    /// Who named the witness policy.
    pub policy: PolicySource,
    /// The newest checkpoint that meets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReport>,
    /// The witnesses that cosigned it, by their names in the policy.
    #[serde(default)]
    pub witnesses: Vec<String>,
    /// The earliest time that one of them stated, POSIX seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<u64>,
    /// The latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<u64>,
    /// How many records of the newest volume it does not cover.
    pub uncovered: u64,
}

/// Who named the witness policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySource {
    /// The caller.
    Given,
    /// The ledger itself: who wrote it could have named witnesses of their own.
    Ledger,
}

/// A key, and who named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsed {
    /// The key, as a C2SP vkey.
    pub vkey: String,
    /// Who named it.
    pub source: KeySource,
}

/// Who named the checkpoints' key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The caller: the origin is proven.
    Given,
    /// The ledger's own first record: it is consistent, and its origin is not proven.
    LedgerOpened,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// Its origin: `<ledger name>/<volume>`.
    pub origin: String,
    /// How many records it covers.
    pub size: TreeSize,
    /// Their root hash.
    pub root: Digest,
}
