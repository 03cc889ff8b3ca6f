//! Messages between nodes and the control plane (JSON over HTTP).
//!
//! A control plane serves nodes one minor protocol version older than itself. Fields that a reader does not know are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fleet::SignersConfig;
use crate::ids::{NodeId, RecordIndex, ReleaseRef, Sequence};
use crate::types::NodeKind;

/// The protocol this version speaks, `<major>.<minor>`.
pub const PROTOCOL: &str = "1.0";
/// Longest wait that a long poll may ask for, seconds.
pub const WAIT_SECONDS_MAX: u64 = 60;
/// Most records in one `POST /v1/nodes/streams/<id>`.
pub const APPEND_RECORDS_MAX: usize = 4_096;
/// Largest body of one `POST /v1/nodes/streams/<id>`, bytes.
pub const APPEND_BODY_LEN_MAX: usize = 8 << 20;

/// `POST /v1/nodes/join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The one-time token.
    pub token: String,
    /// What joins.
    pub kind: NodeKind,
    /// Its stream key: Ed25519, standard base64 of 32 bytes.
    pub key: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The protocol it speaks.
    pub protocol: String,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinResponse {
    /// The id it was given.
    pub node: NodeId,
    /// Its bearer credential from now on.
    pub credential: String,
    /// What it pins. Checked against the token's digest before anything of it is believed.
    pub pins: Pins,
}

/// What a node pins when it joins: enough to check every release offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The ledger's name.
    pub ledger_name: String,
    /// The offline root's key, as a vkey.
    pub root_key: String,
    /// The ledger's key, as a vkey.
    pub ledger_key: String,
    /// The releases' key: P-256, SPKI, PEM.
    pub release_key: String,
    /// The control plane's id: `release.built` is believed from its streams only.
    pub control_node: NodeId,
    /// Who may sign policy commits.
    pub signers: SignersConfig,
    /// The token key in force.
    pub token_epoch: String,
    /// That key: standard base64 of 32 bytes. Secret; travels under the join token's protection.
    pub token_key: String,
    /// The witness policy that releases' checkpoints must meet, C2SP tlog-policy; none: no witness is demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<String>,
}

impl Pins {
    /// The digest that a join token carries: SHA-256 of the canonical JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let value = serde_json::to_value(self).expect("pins have text keys");
        Digest::sha256(&crate::canonical::to_bytes(&value).expect("pins hold texts only"))
    }
}

/// A one-time join token: `cairn-join.<64 hex secret>.<64 hex digest of the pins>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// 32 random bytes, hexadecimal.
    pub secret: String,
    /// [`Pins::digest`].
    pub pins: Digest,
}

/// Why a text is not a join token. The text is not repeated: it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: expected cairn-join.<64 hexadecimal digits>.<64 hexadecimal digits>")]
pub struct NotAJoinToken;

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cairn-join.{}.{}", self.secret, self.pins)
    }
}

impl std::str::FromStr for JoinToken {
    type Err = NotAJoinToken;

    fn from_str(text: &str) -> Result<JoinToken, NotAJoinToken> {
        let mut parts = text.trim().split('.');
        let (Some("cairn-join"), Some(secret), Some(pins), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAJoinToken);
        };
        let _: Digest = secret.parse().map_err(|_| NotAJoinToken)?;
        Ok(JoinToken { secret: secret.to_owned(), pins: pins.parse().map_err(|_| NotAJoinToken)? })
    }
}

/// The answer to `GET /v1/nodes/desired?have=<release>&wait=<seconds>`: what the node should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The release; `None` while there is none for this node's ring.
    pub release: Option<ReleaseRef>,
    /// Whether to go back to it: it is older than what the node runs, and the node must hold it already.
    pub fallback: bool,
    /// Why, where it is a fallback.
    pub reason: Option<String>,
}

/// The answer to `POST /v1/nodes/streams/<id>`: everything up to here is durable in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendAnswer {
    /// The last sequence taken.
    pub sequence: Sequence,
    /// The volume it stands in.
    pub volume: u64,
    /// Its index there.
    pub index: RecordIndex,
    /// Records that were not valid: a `stream.rejected` stands in their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedLine>,
}

/// A record of an append that was not valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedLine {
    /// Its line in the body, from 1.
    pub line: u64,
    /// The index of its `stream.rejected`.
    pub index: RecordIndex,
    /// Why: attribute or path, and reason.
    pub reason: String,
}

/// What an append that was refused says beside the error: how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendRefused {
    /// The line at which it ended, from 1; nothing after it was looked at.
    pub line: u64,
    /// What stood before it, durable; `None`: nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<AppendAnswer>,
}

/// The answer to `GET /v1/nodes/streams/<id>`: where the ledger has this stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// The last sequence; `None` while the stream is unknown.
    pub sequence: Option<Sequence>,
    /// That record's leaf hash; zeros while the stream is unknown.
    pub digest: Digest,
}

/// Any answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// What went wrong.
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_tokens_round_trip_and_are_not_repeated_in_errors() {
        let token = JoinToken { secret: Digest::sha256(b"secret").to_string(), pins: Digest::sha256(b"pins") };
        assert_eq!(token.to_string().parse(), Ok(token));
        for bad in ["", "cairn-join", "cairn-join.a.b", "cairn-join.a.b.c"] {
            assert_eq!(bad.parse::<JoinToken>(), Err(NotAJoinToken));
        }
    }
}
