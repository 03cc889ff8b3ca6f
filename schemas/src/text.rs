//! Bytes that may not be UTF-8 (arguments, paths), written as text that loses nothing.

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
