//! An event of a source that is not the kernel.

use serde::{Deserialize, Serialize};

/// One entry of an audit log, a cloud trail, or any other source of JSON. Its fields are what the source's table says
/// ([`crate::source`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The source's name, as rules give it: `k8s_audit`.
    pub source: String,
    /// What it says.
    pub body: serde_json::Value,
}
