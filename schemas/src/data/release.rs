//! From a commit to a release, or why not.

use serde::{Deserialize, Serialize};

use crate::commitment::Personal;
use crate::digest::Digest;
use crate::ids::{CommitId, ReleaseRef, Serial};
use crate::time::Timestamp;

/// A commit became a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReleaseBuilt {
    /// Its serial.
    pub serial: Serial,
    /// The commit.
    pub commit: CommitId,
    /// SHA-256 of `content.tar`.
    pub content: Digest,
    /// SHA-256 of `statement.sigstore.json`.
    pub statement: Digest,
    /// After this, nodes that do not hold it refuse it.
    pub expires: Timestamp,
    /// Who signed the commit.
    pub signature: CommitSignature,
    /// The commit's author address. In the clear only in the statement.
    pub author: Personal,
    /// Whether this content was promoted before, and since neither aborted nor rolled back.
    pub known_good: bool,
    /// The newest earlier release with this content, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_content_as: Option<ReleaseRef>,
    /// What its own tests said.
    pub tests: TestCounts,
}

/// How many tests ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TestCounts {
    /// Cases that passed.
    pub passed: u64,
    /// Cases that failed.
    pub failed: u64,
}

/// Who signed a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum CommitSignature {
    /// Nobody; the fleet allows it.
    None,
    /// An SSH key that the fleet's signers list.
    Ssh {
        /// SHA-256 fingerprint of the key, as OpenSSH prints it: `SHA256:…`.
        key: String,
        /// The principal in the signers' list.
        principal: Personal,
    },
}

/// A commit did not become a release. Nodes keep what they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReleaseRejected {
    /// The commit.
    pub commit: CommitId,
    /// Where it stopped.
    pub stage: RejectedAt,
    /// What was wrong: the first 50.
    pub problems: Vec<Problem>,
    /// How many problems more there were.
    pub omitted: u64,
}

/// At which step a commit was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RejectedAt {
    /// Its signature, or the lack of one.
    Signature,
    /// Its files: too large, a link, an unreadable tree.
    Content,
    /// Configuration, rules or guardrails do not load.
    Load,
    /// Its tests fail.
    Test,
}

/// One thing wrong in a policy repo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// Path in the repo.
    pub file: String,
    /// Line, from 1; 0 when no line is to blame.
    pub line: u64,
    /// Column, from 1; 0 when unknown.
    pub column: u64,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The policy repo's tip is not a descendant of the last accepted commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GitRefused {
    /// The last accepted commit; releases go on from it.
    pub accepted: CommitId,
    /// The tip that is not followed.
    pub refused: CommitId,
    /// Why.
    pub reason: String,
}
