//! What the ledger writes of itself.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{NodeId, Sequence, StreamId};
use crate::types::NodeKind;

/// A volume begins: record 0. Names every key that its records and checkpoints are checked with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerOpened {
    /// The ledger's name; the checkpoint origin is `<name>/<volume>`.
    pub name: String,
    /// The volume, from 1.
    pub volume: u64,
    /// The checkpoints' key, as a C2SP signed-note vkey.
    pub ledger_key: String,
    /// The offline root's key, as a vkey of the name `<name>/root`.
    pub root_key: String,
    /// The releases' key: P-256, SPKI, PEM.
    pub release_key: String,
    /// The control plane's id: its streams are the only ones of role control.
    pub control_node: NodeId,
    /// The control plane's stream key: Ed25519, standard base64 of 32 bytes.
    pub control_key: String,
    /// Whether this fleet takes commits that nobody signed. Only `cairn up` sets it.
    pub unsigned_commits: bool,
    /// The key of the checkpoints' second signature, where they have one: ML-DSA-44, as a vkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mldsa_key: Option<String>,
    /// The witness policy, C2SP tlog-policy, where the ledger begins with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<String>,
    /// What came before; none in volume 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<PreviousVolume>>,
}

/// The volume before this one, as this one's writer found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PreviousVolume {
    /// Its last checkpoint, the whole signed note.
    pub checkpoint: String,
    /// Why it does not go on.
    pub reason: VolumeReason,
    /// What a person said about it, for whoever reads this later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The root key's word for this volume's key, where it is not the one that was in force at the end of the volume before: a
    /// signed note, see `ledger/FORMAT.md`, Endorsements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement: Option<String>,
    /// The nodes that have joined, without the control plane, as far as they have room here.
    pub nodes: Vec<CarriedNode>,
    /// Where every stream stands, as far as they have room here.
    pub streams: Vec<CarriedStream>,
    /// How many `ledger.carried` records with more of both follow this record.
    pub carried: u64,
}

/// Why a volume was ended and another one opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum VolumeReason {
    /// It was time, or it was large: nothing is wrong.
    Rotated,
    /// The ledger was restored from a backup: what came after the backup is not here.
    Restored,
    /// Its bytes were damaged on the disk.
    Damaged,
    /// Its key was lost, or somebody else may have it.
    KeyLost,
}

/// A node as a new volume takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CarriedNode {
    /// The node.
    pub node: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Its stream key: Ed25519, standard base64 of 32 bytes.
    pub key: String,
}

/// A stream as a new volume takes it over: it goes on with the next sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CarriedStream {
    /// The stream.
    pub stream: StreamId,
    /// Its last record's sequence.
    pub sequence: Sequence,
    /// That record's leaf hash.
    pub digest: Digest,
}

/// More of what a new volume takes over: directly behind its `ledger.opened`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerCarried {
    /// Nodes.
    pub nodes: Vec<CarriedNode>,
    /// Streams.
    pub streams: Vec<CarriedStream>,
}

/// The volume ends with this record; another one goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerClosed {
    /// The volume that goes on.
    pub next: u64,
    /// Why.
    pub reason: VolumeReason,
}

/// The ledger ends with this record, for good: no volume follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerFrozen {
    /// Why, in words.
    pub reason: String,
}

/// Checkpoints that cover this record are signed by another key than those that do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerKeyRotated {
    /// The key until here, as a vkey.
    pub old: String,
    /// The key from here on, as a vkey of the same name.
    pub new: String,
    /// The key of the second signature from here on, ML-DSA-44, as a vkey; none: there is no second signature from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mldsa_key: Option<String>,
    /// The root key's word for the new key: a signed note, see `ledger/FORMAT.md`, Endorsements.
    pub endorsement: String,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// From here on other witnesses must cosign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerWitnessesChanged {
    /// The policy from here on, C2SP tlog-policy; none: no witnesses from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The root key's word for it: a signed note, see `ledger/FORMAT.md`, Endorsements.
    pub endorsement: String,
}
