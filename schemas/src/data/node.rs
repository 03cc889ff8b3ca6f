//! Nodes: joined, what they can do, what they run, what they lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, ReleaseRef, Serial};
use crate::time::Timestamp;
use crate::types::NodeKind;

/// A node joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeJoined {
    /// The id it was given.
    pub node: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Its stream key: Ed25519, standard base64 of 32 bytes.
    pub key: String,
    /// Its labels: role, host, kernel, architecture, cluster.
    pub labels: BTreeMap<String, String>,
    /// The protocol version it speaks, `<major>.<minor>`.
    pub protocol: String,
}

/// What a node can and cannot do. Written at each start and whenever it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeCapabilities {
    /// Whether it sees or decides anything now.
    pub live: bool,
    /// Its version of Cairn.
    pub version: String,
    /// What it can do, such as `exec`, `open`, `kill`.
    pub can: Vec<String>,
    /// What it cannot, and why.
    pub cannot: Vec<Inability>,
}

/// Something a node cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Inability {
    /// What.
    pub what: String,
    /// What is missing.
    pub why: String,
}

/// A node activated a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeLoaded {
    /// The release.
    pub release: ReleaseRef,
    /// What it ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ReleaseRef>,
    /// Why.
    pub cause: LoadCause,
    /// Size of the checkpoint that proved it.
    pub checkpoint_size: u64,
}

/// Why a node activated a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LoadCause {
    /// The control plane offered it, and every check passed.
    Offered,
    /// It was active before a restart.
    Start,
    /// It is the last good one.
    Fallback,
}

/// A node refused a release; it keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeRefused {
    /// The offered serial.
    pub serial: Serial,
    /// The release, where the offer named one that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseRef>,
    /// The check that failed.
    pub check: String,
    /// What it saw.
    pub reason: String,
}

/// A node went back to an earlier release that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeFellback {
    /// What it ran.
    pub from: ReleaseRef,
    /// What it runs now; none: nothing it trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ReleaseRef>,
    /// Why.
    pub reason: String,
}

/// Events or records were lost, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SensorLoss {
    /// Where.
    pub cause: LossCause,
    /// Which events or records: `exec`, `open`, …
    pub family: String,
    /// Start of the interval in which they were lost.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// How many.
    pub lost: u64,
    /// How many of the same family came through in the interval.
    pub kept: u64,
}

/// Where events or records were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// The kernel's ring buffer was full.
    RingBuffer,
    /// The spool was at its limit.
    SpoolFull,
    /// An event's bytes made no sense.
    Undecodable,
    /// The process table was at its limit: ancestry may be short.
    ProcessTable,
    /// What rules know of earlier events was at its limit (`key`), or could not be taken up after a restart (`snapshot`): they may have begun anew.
    RuleState,
}

/// A node saw two checkpoints of one log that cannot both be of one history. It keeps the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeConflict {
    /// The checkpoint that it had seen, the whole signed note.
    pub seen: String,
    /// The one that does not fit, the whole signed note.
    pub other: String,
    /// Who showed the other one: a witness's name, or `control`.
    pub from: String,
    /// What does not fit.
    pub reason: String,
}
