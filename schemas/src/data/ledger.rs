//! What the ledger writes of itself.

use serde::{Deserialize, Serialize};

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
    pub control_node: crate::ids::NodeId,
    /// The control plane's stream key: Ed25519, standard base64 of 32 bytes.
    pub control_key: String,
    /// Whether this fleet takes commits that nobody signed. Only `cairn up` sets it.
    pub unsigned_commits: bool,
}
