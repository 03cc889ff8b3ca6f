//! Keyed tokens in place of personal values (promise P6).
//!
//! A token is the HMAC-SHA256 of a value under a key of the environment and epoch: equal values give equal tokens, so that
//! records can be correlated, and nobody without the key can try values. Destroying an epoch's key unlinks its tokens.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

use crate::digest::is_lower_hex;
use crate::text::from_text;

/// Longest epoch name, in bytes.
pub const EPOCH_LEN_MAX: usize = 32;

/// The HMAC key of one environment and epoch.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The key's name, which stands in each token: 1 to 32 of a-z, 0-9 and `-`.
    pub epoch: String,
    /// The secret.
    pub key: [u8; 32],
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}, secret)", self.epoch)
    }
}

/// A personal value as it may stand in a record: `tok:<epoch>:<64 hexadecimal digits>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(String);

/// Why a text is not a token. The text is not repeated: it may be the personal value itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a personal field holds no token: expected tok:<epoch>:<64 hexadecimal digits>")]
pub struct NotAToken;

impl Token {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Token, NotAToken> {
        let (epoch, mac) = text.strip_prefix("tok:").and_then(|rest| rest.split_once(':')).ok_or(NotAToken)?;
        let epoch_good = !epoch.is_empty()
            && epoch.len() <= EPOCH_LEN_MAX
            && epoch.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let mac_good = mac.len() == 64 && is_lower_hex(mac);
        if epoch_good && mac_good { Ok(Token(text.to_owned())) } else { Err(NotAToken) }
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Token, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Token {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Token".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^tok:[a-z0-9-]{1,32}:[0-9a-f]{64}$",
            "x-cairn-personal": true
        })
    }
}

/// Makes the token of a value. `class` separates kinds (`user`, `uid`, `email`), so that equal texts of two kinds do not link.
/// The MAC input is `class`, one zero byte, `value`; a class holds no zero byte.
#[must_use]
pub fn token(key: &TokenKey, class: &str, value: &str) -> Token {
    debug_assert!(!class.contains('\0'), "a class is a constant of ours");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.key).expect("HMAC takes keys of any length");
    mac.update(class.as_bytes());
    mac.update(&[0]);
    mac.update(value.as_bytes());
    Token(format!("tok:{}:{}", key.epoch, base16ct::lower::encode_string(&mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(epoch: &str, byte: u8) -> TokenKey {
        TokenKey { epoch: epoch.to_owned(), key: [byte; 32] }
    }

    #[test]
    fn equal_values_link_within_a_key_and_class_only() {
        let one = token(&key("e1", 1), "user", "alice");
        assert_eq!(one, token(&key("e1", 1), "user", "alice"));
        assert_ne!(one, token(&key("e1", 2), "user", "alice"));
        assert_ne!(one, token(&key("e1", 1), "email", "alice"));
        assert_ne!(one, token(&key("e1", 1), "user", "bob"));
        assert_eq!(one.as_str().parse(), Ok(one.clone()));
    }

    #[test]
    fn known_answer() {
        // Computed with: printf 'user\0alice' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101…01
        let made = token(&key("e1", 1), "user", "alice");
        assert_eq!(made.as_str(), "tok:e1:ed295cec39e33e4195a92f4e2898d79774daa4e2d81fc0ddee44355a8078df82");
    }

    #[test]
    fn clear_values_are_no_tokens() {
        for bad in ["alice", "tok:e1:abc", "tok::00", "tok:E:00", ""] {
            assert_eq!(bad.parse::<Token>(), Err(NotAToken));
        }
    }
}
