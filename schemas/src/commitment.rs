//! Salted commitments in place of personal values that somebody may have to read later, and to erase (promise P6).
//!
//! A record holds `com:<key id>:<digest>`; the value itself, with its salt, is a [`Disclosure`] that lies encrypted in a vault beside
//! the ledger, under the key of that id. Destroying the key makes the value unreadable for good, while the record, its leaf and every
//! proof stay as they are. The construct is that of SD-JWT, RFC 9901 section 4.2: whoever is shown a disclosure needs nothing of
//! ours to see that it belongs to the record.
//!
//! Tokens ([`crate::token`]) are the default: equal values give equal tokens, so they can be correlated. Commitments cannot, not
//! even by guessing: the salt has 128 random bits. Keys and salts are arguments here; nothing is drawn or stored.

use base16ct::lower;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::digest::Digest;
use crate::text::from_text;
use crate::token::Token;

/// Longest disclosure, bytes of its text. What is longer is a blob.
pub const DISCLOSURE_LEN_MAX: usize = 65_535;
/// A salt's bytes: the 128 bits that RFC 9901 section 9.3 recommends.
pub const SALT_LEN: usize = 16;
/// Length of a commitment's text.
const COMMITMENT_LEN: usize = 4 + 32 + 1 + DIGEST_LEN;
/// Length of a digest in base64url without padding.
const DIGEST_LEN: usize = 43;

/// Names a key of the vault: 16 random bytes, as 32 lower-case hexadecimal digits. It says nothing about whose key it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

/// Why a text is no key id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a key id: expected 32 lower-case hexadecimal digits")]
pub struct NotAKeyId {
    /// The text, cut at 80 characters.
    pub text: String,
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 32];
        lower::encode(&self.0, &mut text).expect("invariant: 16 bytes are 32 digits");
        f.write_str(std::str::from_utf8(&text).expect("invariant: digits are ASCII"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<KeyId, NotAKeyId> {
        let refuse = || NotAKeyId { text: text.chars().take(80).collect() };
        let mut bytes = [0; 16];
        if text.len() != 32 || lower::decode(text, &mut bytes).is_err() {
            return Err(refuse());
        }
        Ok(KeyId(bytes))
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyId, D::Error> {
        from_text(deserializer)
    }
}

/// A value with its salt and its name: what opens a commitment.
///
/// The text is the SD-JWT disclosure, base64url without padding over the JSON array `[salt, name, value]`. RFC 9901 leaves the
/// spelling of that JSON to its maker, and digests cover the text: so a disclosure that was read keeps the text it had.
#[derive(Clone, PartialEq)]
pub struct Disclosure {
    text: String,
    salt: [u8; SALT_LEN],
    name: String,
    value: Value,
}

// The value is personal: it does not belong into logs.
impl fmt::Debug for Disclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disclosure({}, value not shown)", self.name)
    }
}

/// Why a text is no disclosure, or a value cannot have one. The value is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisclosureError {
    /// More than [`DISCLOSURE_LEN_MAX`] bytes.
    #[error("a personal value needs {len} bytes as a disclosure; the limit is {DISCLOSURE_LEN_MAX}: make it a blob")]
    TooLong {
        /// How many.
        len: usize,
    },
    /// Not base64url without padding.
    #[error("a disclosure is not base64url without padding")]
    NotBase64,
    /// Not the JSON array that it must be.
    #[error("a disclosure is not the JSON array [salt, name, value]")]
    NotAnArray,
    /// A salt of another length than 128 bits.
    #[error("a disclosure's salt is not 128 bits in base64url")]
    Salt,
}

impl Disclosure {
    /// The disclosure of a value. `name` is where the value stands in the record's `data`, as a JSON pointer (RFC 6901): a
    /// commitment that was moved to another place names the one it came from. `salt` must be random and used once.
    ///
    /// # Errors
    /// [`DisclosureError::TooLong`].
    pub fn new(salt: [u8; SALT_LEN], name: &str, value: &Value) -> Result<Disclosure, DisclosureError> {
        let json = serde_json::to_vec(&(URL_SAFE_NO_PAD.encode(salt), name, value))
            .expect("invariant: texts and values are JSON");
        let text = URL_SAFE_NO_PAD.encode(json);
        if text.len() > DISCLOSURE_LEN_MAX {
            return Err(DisclosureError::TooLong { len: text.len() });
        }
        Ok(Disclosure { text, salt, name: name.to_owned(), value: value.clone() })
    }

    /// Reads a disclosure's text.
    ///
    /// # Errors
    /// [`DisclosureError`]
    pub fn parse(text: &str) -> Result<Disclosure, DisclosureError> {
        if text.len() > DISCLOSURE_LEN_MAX {
            return Err(DisclosureError::TooLong { len: text.len() });
        }
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| DisclosureError::NotBase64)?;
        let (salt, name, value): (Cow<'_, str>, String, Value) =
            serde_json::from_slice(&json).map_err(|_| DisclosureError::NotAnArray)?;
        let salt = URL_SAFE_NO_PAD.decode(salt.as_ref()).map_err(|_| DisclosureError::Salt)?;
        let salt = salt.try_into().map_err(|_| DisclosureError::Salt)?;
        Ok(Disclosure { text: text.to_owned(), salt, name, value })
    }

    /// The text: what is stored, shown to whoever may see the value, and hashed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The salt.
    #[must_use]
    pub fn salt(&self) -> &[u8; SALT_LEN] {
        &self.salt
    }

    /// Where the value stands, a JSON pointer into `data`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What a record holds of it.
    #[must_use]
    pub fn commitment(&self, key: KeyId) -> Commitment {
        Commitment { key, digest: digest(&self.text) }
    }
}

/// The digest of a disclosure's text: SHA-256 over its ASCII bytes (RFC 9901 section 4.2.3).
#[must_use]
pub fn digest(disclosure: &str) -> Digest {
    Digest::sha256(disclosure.as_bytes())
}

/// A personal value as it may stand in a record: `com:<key id>:<digest>`, the digest in base64url without padding, as SD-JWT
/// writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commitment {
    /// The key of the vault under which the disclosure lies.
    pub key: KeyId,
    /// The disclosure's digest.
    pub digest: Digest,
}

/// Why a text is no commitment. The text is not repeated: it may be the personal value itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a commitment: expected com:<32 hexadecimal digits>:<SHA-256 in base64url without padding>")]
pub struct NotACommitment;

impl Commitment {
    /// Whether a disclosure is what was committed to. The name is the caller's to compare with the place.
    #[must_use]
    pub fn opens_with(&self, disclosure: &Disclosure) -> bool {
        digest(&disclosure.text) == self.digest
    }
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "com:{}:{}", self.key, URL_SAFE_NO_PAD.encode(self.digest.as_bytes()))
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commitment({self})")
    }
}

impl FromStr for Commitment {
    type Err = NotACommitment;

    fn from_str(text: &str) -> Result<Commitment, NotACommitment> {
        let rest = text.strip_prefix("com:").filter(|_| text.len() == COMMITMENT_LEN).ok_or(NotACommitment)?;
        let (key, digest) = rest.split_once(':').ok_or(NotACommitment)?;
        let key = key.parse().map_err(|_| NotACommitment)?;
        let mut bytes = [0; 32];
        // Spare bits of the last digit must be zero: one spelling only.
        match URL_SAFE_NO_PAD.decode_slice(digest, &mut bytes) {
            Ok(32) if digest.len() == DIGEST_LEN => Ok(Commitment { key, digest: Digest::from(bytes) }),
            _ => Err(NotACommitment),
        }
    }
}

impl Serialize for Commitment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Commitment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Commitment, D::Error> {
        from_text(deserializer)
    }
}

/// The type of a personal field: a token or a commitment, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Personal {
    /// Can be correlated, and not read back.
    Token(Token),
    /// Can be read back by whoever holds the vault, until it is erased.
    Commitment(Commitment),
}

/// Why a text may not stand in a personal field. The text is not repeated: it may be the personal value itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a personal field holds no token and no commitment: expected tok:<epoch>:<64 hexadecimal digits> or com:<32 hexadecimal digits>:<SHA-256 in base64url without padding>"
)]
pub struct NotPersonal;

impl Personal {
    /// The commitment, where it is one.
    #[must_use]
    pub fn commitment(&self) -> Option<&Commitment> {
        match self {
            Personal::Token(_) => None,
            Personal::Commitment(commitment) => Some(commitment),
        }
    }
}

impl From<Token> for Personal {
    fn from(token: Token) -> Personal {
        Personal::Token(token)
    }
}

impl From<Commitment> for Personal {
    fn from(commitment: Commitment) -> Personal {
        Personal::Commitment(commitment)
    }
}

impl fmt::Display for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Personal::Token(token) => token.fmt(f),
            Personal::Commitment(commitment) => commitment.fmt(f),
        }
    }
}

impl FromStr for Personal {
    type Err = NotPersonal;

    fn from_str(text: &str) -> Result<Personal, NotPersonal> {
        if text.starts_with("com:") {
            text.parse().map(Personal::Commitment).map_err(|_| NotPersonal)
        } else {
            text.parse().map(Personal::Token).map_err(|_| NotPersonal)
        }
    }
}

impl Serialize for Personal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Personal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Personal, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(feature = "schema")]
const KEY_ID_PATTERN: &str = "[0-9a-f]{32}";
#[cfg(feature = "schema")]
const COMMITMENT_PATTERN: &str = "com:[0-9a-f]{32}:[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]";

#[cfg(feature = "schema")]
macro_rules! inline_schema {
    ($($name:ident: $schema:expr;)*) => {$(
        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    )*};
}

#[cfg(feature = "schema")]
inline_schema! {
    KeyId: schemars::json_schema!({"type": "string", "pattern": format!("^{KEY_ID_PATTERN}$")});
    Commitment: schemars::json_schema!({
        "type": "string",
        "pattern": format!("^{COMMITMENT_PATTERN}$"),
        "x-cairn-personal": true
    });
    Personal: schemars::json_schema!({
        "type": "string",
        "pattern": format!("^(tok:[a-z0-9-]{{1,32}}:[0-9a-f]{{64}}|{COMMITMENT_PATTERN})$"),
        "x-cairn-personal": true
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Disclosures and digests of RFC 9901, sections 4.2.1, 4.2.3 and 5.1.
    const RFC: &[(&str, &str)] = &[
        (
            "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0",
            "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0",
        ),
        (
            "WyIyR0xDNDJzS1F2ZUNmR2ZyeU5STjl3IiwgImdpdmVuX25hbWUiLCAiSm9obiJd",
            "jsu9yVulwQQlhFlM_3JlzMaSFzglhQG0DpfayQwLUK4",
        ),
    ];

    fn key() -> KeyId {
        "0123456789abcdef0123456789abcdef".parse().unwrap()
    }

    #[test]
    fn digests_are_those_of_the_rfc() {
        for (disclosure, expected) in RFC {
            let made = Commitment { key: key(), digest: digest(disclosure) };
            assert_eq!(made.to_string(), format!("com:0123456789abcdef0123456789abcdef:{expected}"));
        }
    }

    #[test]
    fn a_disclosure_of_the_rfc_is_read_and_keeps_its_spelling() {
        let disclosure = Disclosure::parse(RFC[1].0).unwrap();
        assert_eq!((disclosure.name(), disclosure.value()), ("given_name", &json!("John")));
        assert_eq!(disclosure.text(), RFC[1].0);
        let again = Disclosure::new(*disclosure.salt(), "given_name", &json!("John")).unwrap();
        assert_ne!(again.text(), disclosure.text(), "ours has no white space");
        assert!(!again.commitment(key()).opens_with(&disclosure));
        assert!(disclosure.commitment(key()).opens_with(&disclosure));
        // The RFC's first example has a salt of another length, which its maker may and ours does not.
        assert_eq!(Disclosure::parse(RFC[0].0), Err(DisclosureError::Salt));
    }

    #[test]
    fn what_was_made_is_read_again() {
        for value in [json!("Möbius"), json!(null), json!(17), json!({"a": ["\u{1f600}", true]})] {
            let made = Disclosure::new([7; 16], "/user/email", &value).unwrap();
            assert_eq!(Disclosure::parse(made.text()).unwrap(), made);
            assert_eq!(made.value(), &value);
            let commitment = made.commitment(key());
            assert!(commitment.opens_with(&made));
            assert_eq!(commitment.to_string().parse(), Ok(commitment));
        }
    }

    #[test]
    fn another_salt_name_or_value_opens_nothing() {
        let made = Disclosure::new([7; 16], "/email", &json!("a@example.com")).unwrap();
        let commitment = made.commitment(key());
        for other in [
            Disclosure::new([8; 16], "/email", &json!("a@example.com")),
            Disclosure::new([7; 16], "/mail", &json!("a@example.com")),
            Disclosure::new([7; 16], "/email", &json!("b@example.com")),
        ] {
            assert!(!commitment.opens_with(&other.unwrap()));
        }
    }

    #[test]
    fn a_disclosure_at_its_limit_and_one_past_it() {
        // Base64 makes four characters of three bytes.
        let fits = |len: usize| Disclosure::new([7; 16], "", &Value::from("x".repeat(len)));
        let mut len = DISCLOSURE_LEN_MAX / 4 * 3 - 40;
        while fits(len + 1).is_ok() {
            len += 1;
        }
        let longest = fits(len).unwrap();
        assert!(DISCLOSURE_LEN_MAX - longest.text().len() < 2);
        assert!(Disclosure::parse(longest.text()).is_ok());
        assert!(matches!(fits(len + 1), Err(DisclosureError::TooLong { .. })));
        let too_long = "A".repeat(DISCLOSURE_LEN_MAX + 1);
        assert_eq!(Disclosure::parse(&too_long), Err(DisclosureError::TooLong { len: DISCLOSURE_LEN_MAX + 1 }));
    }

    #[test]
    fn texts_that_are_no_disclosures() {
        let encode = |json: &str| URL_SAFE_NO_PAD.encode(json);
        assert_eq!(Disclosure::parse("W10="), Err(DisclosureError::NotBase64));
        for json in ["", "{}", "[]", "[\"AAAAAAAAAAAAAAAAAAAAAA\",\"n\"]", "[\"AAAAAAAAAAAAAAAAAAAAAA\",1,2]"] {
            assert_eq!(Disclosure::parse(&encode(json)), Err(DisclosureError::NotAnArray), "{json}");
        }
        assert_eq!(Disclosure::parse(&encode("[\"AAAA\",\"n\",1]")), Err(DisclosureError::Salt));
    }

    #[test]
    fn one_spelling_of_a_commitment() {
        let good = Commitment { key: key(), digest: Digest::sha256(b"x") }.to_string();
        assert_eq!(good.len(), COMMITMENT_LEN);
        assert!(good.parse::<Commitment>().is_ok());
        let spare_bits = format!("{}B", &good[..good.len() - 1]);
        let upper = good.replace("abcdef", "ABCDEF");
        for bad in [&good[1..], &good[..good.len() - 1], &format!("{good}A"), &spare_bits, &upper, "alice", "com:", ""]
        {
            assert_eq!(bad.parse::<Commitment>(), Err(NotACommitment), "{bad}");
            assert_eq!(bad.parse::<Personal>(), Err(NotPersonal), "{bad}");
        }
    }

    #[test]
    fn a_personal_field_holds_a_token_or_a_commitment() {
        let token = crate::token::token(&crate::token::TokenKey { epoch: "e1".into(), key: [1; 32] }, "user", "alice");
        let commitment = Disclosure::new([7; 16], "/user", &json!("alice")).unwrap().commitment(key());
        for personal in [Personal::from(token), Personal::from(commitment)] {
            let json = serde_json::to_string(&personal).unwrap();
            assert_eq!(serde_json::from_str::<Personal>(&json).unwrap(), personal);
            assert_eq!(json, format!("\"{personal}\""));
        }
        let error = serde_json::from_str::<Personal>("\"alice\"").unwrap_err().to_string();
        assert!(error.contains("no token and no commitment") && !error.contains("alice"), "{error}");
    }
}
