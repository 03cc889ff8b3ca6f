//! Admission decisions.

use serde::{Deserialize, Serialize};

use crate::commitment::Personal;
use crate::digest::Digest;

/// What an admission server answered. Durable on its disk before the answer left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdmissionDecided {
    /// The request's uid.
    pub uid: String,
    /// CREATE, UPDATE, DELETE or CONNECT.
    pub operation: String,
    /// `group/version/Kind`; `v1/Pod` for the core group.
    pub kind: String,
    /// `group/version/resource`, with `/subresource` where there is one.
    pub resource: String,
    /// Namespace, for namespaced kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Object name; absent with `generateName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The requesting user.
    pub user: Personal,
    /// The answer.
    pub allowed: bool,
    /// Whether the request was a dry run.
    pub dry_run: bool,
    /// SHA-256 of the object under review as canonical JSON, or as received where it holds floats.
    pub object: Digest,
    /// Why it was denied: the first 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<Finding>,
    /// What it was warned of: the first 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Finding>,
    /// How many findings more there were.
    pub omitted: u64,
    /// The evaluation failed; denied for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long the evaluation took, microseconds.
    pub evaluated_us: u64,
}

/// What one guardrail said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// Package and rule.
    pub guardrail: String,
    /// Its message; at most 1,000 bytes.
    pub message: String,
}
