//! SHA-256 digests, and the two domain-separated hashes of RFC 6962.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::text::from_text;

/// A SHA-256 digest. Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a SHA-256 digest: expected 64 lower-case hexadecimal digits")]
pub struct NotADigest {
    /// The text, cut at 80 characters.
    pub text: String,
}

impl Digest {
    /// 32 zero bytes: the `prevdigest` of a stream's first record.
    pub const ZERO: Digest = Digest([0; 32]);

    /// SHA-256 of the bytes as they are.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The leaf hash of a record, RFC 6962 section 2.1: SHA-256(0x00 ‖ record).
    #[must_use]
    pub fn leaf(record: &[u8]) -> Digest {
        Digest(Sha256::new_with_prefix([0u8]).chain_update(record).finalize().into())
    }

    /// An interior node, RFC 6962 section 2.1: SHA-256(0x01 ‖ left ‖ right).
    #[must_use]
    pub fn node(left: &Digest, right: &Digest) -> Digest {
        Digest(Sha256::new_with_prefix([1u8]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Digest, Self::Error> {
        Ok(Digest(bytes.try_into()?))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every record holds several: written on the stack.
        let mut text = [0u8; 64];
        base16ct::lower::encode(&self.0, &mut text).expect("invariant: 32 bytes are 64 digits");
        f.write_str(std::str::from_utf8(&text).expect("invariant: digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// What is no digit.
const NO_DIGIT: u8 = 0xff;

/// Each hexadecimal digit's value, lower case only; [`NO_DIGIT`] for all other bytes.
const NIBBLES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Whether a text is hexadecimal digits, lower case only.
pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().fold(0, |seen, byte| seen | NIBBLES[usize::from(byte)]) != NO_DIGIT
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Digest, NotADigest> {
        let refuse = || NotADigest { text: text.chars().take(80).collect() };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| refuse())?;
        let mut bytes = [0u8; 32];
        let mut seen = 0;
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
            seen |= high | low;
            *byte = high << 4 | low;
        }
        // Values are below 16, so only what is no digit sets the highest bits.
        if seen == NO_DIGIT { Err(refuse()) } else { Ok(Digest(bytes)) }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_of_nothing_is_the_rfc_6962_value() {
        assert_eq!(Digest::leaf(b"").to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    }

    #[test]
    fn digits_are_known() {
        assert!(is_lower_hex("0123456789abcdef") && is_lower_hex(""));
        for byte in 0..=0x7f_u8 {
            assert_eq!(is_lower_hex(&format!("f{}0", char::from(byte))), matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        }
        assert!(!is_lower_hex("0é"));
    }

    #[test]
    fn upper_case_short_and_long_are_refused() {
        let good = Digest::sha256(b"x").to_string();
        assert!(good.parse::<Digest>().is_ok());
        assert!(good.to_uppercase().parse::<Digest>().is_err());
        assert!(good[1..].parse::<Digest>().is_err());
        assert!(format!("{good}0").parse::<Digest>().is_err());
        for byte in 0..=0x7f_u8 {
            let text = format!("{}{}", &good[..63], char::from(byte));
            let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            assert_eq!(text.parse::<Digest>().map(|digest| digest.to_string()).ok(), is_digit.then_some(text));
        }
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }
}
