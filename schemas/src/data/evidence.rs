//! What others say, and what was done to personal values.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::commitment::{KeyId, Personal};

/// Evidence from elsewhere, as it came: any JSON object that RFC 8785 can spell. What is personal in it stands there as a token or a
/// commitment; what is large, as a reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EvidenceReceived(pub Map<String, Value>);

impl EvidenceReceived {
    /// Checks that a payload has this form, and keeps nothing of it: every reader checks it, and most have no other use for it.
    pub(crate) fn check<'de, D: Deserializer<'de>>(data: D) -> Result<(), D::Error> {
        struct AnyObject;

        impl<'de> Visitor<'de> for AnyObject {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(())
            }
        }

        data.deserialize_map(AnyObject)
    }
}

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

/// Most keys that one record names; more are named by more records.
pub const ERASED_KEYS_MAX: usize = 1_000;

/// Keys of personal values or blobs were destroyed: what they opened cannot be read any more, by anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PrivacyErased {
    /// The keys' ids, as commitments and blob references name them; at least one, at most [`ERASED_KEYS_MAX`].
    #[serde(deserialize_with = "some_keys")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = ERASED_KEYS_MAX)))]
    pub keys: Vec<KeyId>,
    /// Why.
    pub reason: ErasureReason,
    /// The ticket or request, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Who asked for it to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Personal>,
}

fn some_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KeyId>, D::Error> {
    let keys = Vec::<KeyId>::deserialize(deserializer)?;
    if keys.is_empty() || keys.len() > ERASED_KEYS_MAX {
        let reason = format!("an erasure names {} keys; expected 1 to {ERASED_KEYS_MAX}", keys.len());
        return Err(serde::de::Error::custom(reason));
    }
    Ok(keys)
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
    pub keys: Vec<KeyId>,
    /// How many values.
    pub values: u64,
    /// To whom, or for what.
    pub purpose: String,
    /// The ticket or request, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erasure_names_keys_at_the_limit_and_not_one_more() {
        let erased = |count: usize| {
            let keys = vec!["0e".repeat(16); count];
            serde_json::from_value::<PrivacyErased>(serde_json::json!({"keys": keys, "reason": "request"}))
        };
        assert!(erased(0).unwrap_err().to_string().contains("names 0 keys"));
        assert_eq!(erased(ERASED_KEYS_MAX).unwrap().keys.len(), ERASED_KEYS_MAX);
        assert!(erased(ERASED_KEYS_MAX + 1).unwrap_err().to_string().contains("1001 keys"));
    }

    #[test]
    fn a_key_is_named_as_a_key() {
        let erased = |key: &str| {
            serde_json::from_value::<PrivacyErased>(serde_json::json!({"keys": [key], "reason": "expired"}))
        };
        assert!(erased(&"0e".repeat(16)).is_ok());
        assert!(erased("alice").is_err());
        assert!(erased(&"0E".repeat(16)).is_err());
    }
}
