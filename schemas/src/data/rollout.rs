//! A release moving through the rings.

use serde::{Deserialize, Serialize};

use crate::ids::{CommitId, NodeId, ReleaseRef, RingName};

/// A release is offered to a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutEntered {
    /// The release.
    pub release: ReleaseRef,
    /// The ring.
    pub ring: RingName,
    /// The ring's nodes at that moment; the first 200.
    pub nodes: Vec<NodeId>,
    /// How many they are.
    pub nodes_total: u64,
    /// Whether the soak is skipped.
    pub known_good: bool,
}

/// A release passed a ring's gates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutAdvanced {
    /// The release.
    pub release: ReleaseRef,
    /// The ring it passed.
    pub ring: RingName,
    /// How many nodes run it.
    pub nodes_active: u64,
    /// How long it soaked, milliseconds.
    pub soaked_ms: u64,
}

/// A rollout waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutHeld {
    /// The release.
    pub release: ReleaseRef,
    /// Where it waits.
    pub ring: RingName,
    /// Why.
    pub reason: String,
}

/// A rollout was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutAborted {
    /// The release.
    pub release: ReleaseRef,
    /// Where it failed.
    pub ring: RingName,
    /// Which gate, and what it saw.
    pub reason: String,
    /// What the nodes go back to, if there is anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<ReleaseRef>,
}

/// A newer release took its place before it was promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutSuperseded {
    /// The release.
    pub release: ReleaseRef,
    /// The newer one.
    pub by: ReleaseRef,
}

/// A release passed its last ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutPromoted {
    /// The release.
    pub release: ReleaseRef,
    /// Its commit.
    pub commit: CommitId,
    /// The Git tag written for it.
    pub tag: String,
}
