//! Bytes that may not be UTF-8 (arguments, paths), written as text that loses nothing; and types that are read from a text.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads a type whose serialised form is the text that it is parsed from, without a copy of that text: every record holds several.
///
/// # Errors
/// Not a string, or what the type says is wrong with it.
pub fn from_text<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    struct Text<T>(PhantomData<T>);

    impl<T> Visitor<'_> for Text<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

/// Writes bytes as text: UTF-8 as it is, a backslash as `\\`, any other byte as `\xNN` with lower-case digits.
/// NUL and control characters are kept: JSON escapes them.
#[must_use]
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                text.push_str("\\\\");
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Cuts a text to at most `len_max` bytes at a character's end, with `…` where something was cut.
#[must_use]
pub fn cut(text: &str, len_max: usize) -> String {
    if text.len() <= len_max {
        return text.to_owned();
    }
    let mut end = len_max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        assert_eq!(escape_bytes(b"plain"), "plain");
        assert_eq!(escape_bytes(b"a\\x"), "a\\\\x");
        assert_eq!(escape_bytes(b"a\xff\xc3b\xc3\xa9"), "a\\xff\\xc3bé");
    }

    #[test]
    fn cuts_keep_characters_whole() {
        assert_eq!(cut("kurz", 10), "kurz");
        assert_eq!(cut("äääää", 8), "ää…");
        assert!(cut(&"é".repeat(50), 21).len() <= 21);
    }
}
