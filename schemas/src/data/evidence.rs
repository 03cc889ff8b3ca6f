//! What others say, and what was done to personal values.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::token::Token;

/// Evidence from elsewhere, as it came: any JSON object that RFC 8785 can spell. What is personal in it stands there as a token or a
/// commitment; what is large, as a reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EvidenceReceived(pub Map<String, Value>);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for EvidenceReceived {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EvidenceReceived".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Evidence from elsewhere, as it came: any JSON object.",
            "type": "object"
        })
    }
}

/// Keys of personal values or blobs were destroyed: what they opened cannot be read any more, by anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PrivacyErased {
    /// The keys' ids: 32 hexadecimal digits each, as commitments and blob references name them.
    pub keys: Vec<String>,
    /// Why.
    pub reason: ErasureReason,
    /// The ticket or request, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Who asked for it to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Token>,
}

/// Why a key was destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ErasureReason {
    /// Somebody asked for it.
    Request,
    /// Its retention ended.
    Expired,
}

/// Personal values were shown to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PrivacyDisclosed {
    /// The keys' ids under which values were opened.
    pub keys: Vec<String>,
    /// How many values.
    pub values: u64,
    /// To whom, or for what.
    pub purpose: String,
    /// The ticket or request, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}
