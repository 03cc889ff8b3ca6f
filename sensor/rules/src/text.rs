//! Bytes from the kernel that are usually, not always, UTF-8: paths, arguments, command names.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes as the kernel gave them. Compared bytewise, as the rule language compares strings.
///
/// Its readable form (`Display`, serde) is the records' one: a byte that is not part of valid UTF-8 or is NUL is written
/// `\xNN`, a backslash `\\`. Reading accepts that form, and leaves any other backslash as it is, so that a
/// rule author need not double one.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Box<[u8]>);

impl Text {
    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// UTF-8 with U+FFFD for what is not, as Falco prints it.
    pub fn to_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// Reads the escaped form (see the type).
    pub fn from_escaped(escaped: &str) -> Self {
        let bytes = escaped.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match rest {
                [b'\\', b'\\', ..] => {
                    out.push(b'\\');
                    at += 2;
                }
                [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    out.push(hex_digit(*high) << 4 | hex_digit(*low));
                    at += 4;
                }
                _ => {
                    out.push(rest[0]);
                    at += 1;
                }
            }
        }
        Self(out.into_boxed_slice())
    }

    /// The escaped form (see the type).
    pub fn to_escaped(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => out.push_str("\\\\"),
                    '\0' => out.push_str("\\x00"),
                    other => out.push(other),
                }
            }
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        out
    }
}

/// The value of an ASCII hexadecimal digit.
fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into_boxed_slice())
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_escaped())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.to_escaped())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_escaped())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let escaped = Cow::<str>::deserialize(deserializer)?;
        Ok(Self::from_escaped(&escaped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_is_not_text() {
        let text = Text::from(&b"/tmp/\xff\\a\0\xc3\xa9"[..]);
        assert_eq!(text.to_escaped(), "/tmp/\\xff\\\\a\\x00é");
        assert_eq!(Text::from_escaped(&text.to_escaped()), text);
    }

    #[test]
    fn a_lone_backslash_is_itself() {
        assert_eq!(Text::from_escaped("a\\b").as_bytes(), b"a\\b");
        assert_eq!(Text::from_escaped("\\x4").as_bytes(), b"\\x4");
        assert_eq!(Text::from_escaped("\\").as_bytes(), b"\\");
    }
}
