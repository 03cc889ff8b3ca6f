//! Canonical bytes in one pass, without building anything.
//!
//! Every record is checked at its producer, at the ledger and by each verifier; writing it again only to compare was most of that
//! cost. A [`Scan`] takes exactly the bytes that [`super::to_bytes`] can write (a property test holds the two together) and says yes
//! or no; reasons are the slow way's business.

use super::{DEPTH_MAX, INTEGER_MAX};

/// Whether `bytes` are the canonical form of some value.
pub(crate) fn is_canonical(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut scan = Scan::new(text);
    scan.skip(0).is_some() && scan.is_at_end()
}

/// A place in the text. Each method moves past what it takes, or gives `None`: not canonical. What it has moved past is.
#[derive(Debug, Clone)]
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

/// What stands between the quotes of a string, as written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    /// As written.
    pub(crate) inside: &'a str,
    /// Whether something in it is escaped.
    pub(crate) escaped: bool,
}

impl Raw<'_> {
    /// The text that it stands for.
    pub(crate) fn unescape(&self) -> Option<String> {
        serde_json::from_str(&format!("\"{}\"", self.inside)).ok()
    }

    /// RFC 8785 section 3.2.3: keys are ordered by their UTF-16 code units, before escaping. Equal keys are not in order.
    pub(crate) fn sorts_before(&self, other: &Raw<'_>) -> bool {
        let plain = |raw: &Raw<'_>| !raw.escaped && raw.inside.is_ascii();
        if plain(self) && plain(other) {
            return self.inside < other.inside;
        }
        match (self.unescape(), other.unescape()) {
            (Some(a), Some(b)) => a.encode_utf16().lt(b.encode_utf16()),
            _ => false,
        }
    }
}

/// An integer as canonical JSON can hold it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Integer {
    /// Whether a minus sign stands before it; never before zero.
    pub(crate) negative: bool,
    /// At most 2^53 − 1.
    pub(crate) magnitude: u64,
}

impl<'a> Scan<'a> {
    /// At the beginning.
    pub(crate) fn new(text: &'a str) -> Scan<'a> {
        Scan { text, at: 0 }
    }

    /// Whether nothing follows.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// The byte that comes next.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// This byte; an ASCII one.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// These bytes.
    #[inline]
    pub(crate) fn word(&mut self, word: &str) -> Option<()> {
        self.peek_word(word).then(|| self.at += word.len())
    }

    /// Whether these bytes come next.
    pub(crate) fn peek_word(&self, word: &str) -> bool {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes())
    }

    /// Any value at this depth.
    pub(crate) fn skip(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.integer().map(drop),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(());
        }
        let mut before: Option<Raw<'_>> = None;
        loop {
            let key = self.key(before.as_ref())?;
            before = Some(key);
            self.skip(depth + 1)?;
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.take(b'[')?;
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            self.skip(depth + 1)?;
            if self.take(b',').is_none() {
                return self.take(b']');
            }
        }
    }

    /// A member's key, with its colon; it must sort behind the one before.
    #[inline]
    pub(crate) fn key(&mut self, before: Option<&Raw<'_>>) -> Option<Raw<'a>> {
        let key = self.string()?;
        if before.is_some_and(|before| !before.sorts_before(&key)) {
            return None;
        }
        self.take(b':')?;
        Some(key)
    }

    /// A string.
    #[inline]
    pub(crate) fn string(&mut self) -> Option<Raw<'a>> {
        self.take(b'"')?;
        let from = self.at;
        let mut escaped = false;
        loop {
            self.at = special(self.text.as_bytes(), self.at)?;
            match self.text.as_bytes()[self.at] {
                b'"' => {
                    let inside = &self.text[from..self.at];
                    self.at += 1;
                    return Some(Raw { inside, escaped });
                }
                b'\\' => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                // A control character that is not escaped.
                _ => return None,
            }
        }
    }

    /// The shortest escape, and only where one is needed.
    fn escape(&mut self) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r' => Some(()),
            b'u' => {
                self.word("00")?;
                let high = self.peek()?;
                self.at += 1;
                let low = self.peek()?;
                self.at += 1;
                let has_short_form = high == b'0' && matches!(low, b'8' | b'9' | b'a' | b'c' | b'd');
                let is_digit = matches!(low, b'0'..=b'9' | b'a'..=b'f');
                (matches!(high, b'0' | b'1') && is_digit && !has_short_form).then_some(())
            }
            _ => None,
        }
    }

    /// An integer.
    #[inline]
    pub(crate) fn integer(&mut self) -> Option<Integer> {
        let negative = self.take(b'-').is_some();
        let from = self.at;
        let mut magnitude = 0u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            self.at += 1;
            // 2^53 has 16 digits: a seventeenth is too large before it could overflow.
            if self.at - from > 16 {
                return None;
            }
            magnitude = magnitude * 10 + u64::from(digit - b'0');
        }
        let digits = self.at - from;
        let leading_zero = digits > 1 && self.text.as_bytes()[from] == b'0';
        (digits > 0 && !leading_zero && magnitude <= INTEGER_MAX && !(negative && magnitude == 0))
            .then_some(Integer { negative, magnitude })
    }
}

/// Where the first quote, backslash or control character stands, at `at` or behind it. Eight bytes at a time: strings are most of a
/// record.
#[inline]
fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // The lowest bit that is set marks the first byte below `limit`; above it a borrow may set others.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quote | backslash | below(word, 0x20);
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0x00..0x20)).map(|place| at + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut bytes = [b'x'; 24];
                bytes[at] = byte;
                bytes[20] = b'"';
                let expected = if matches!(byte, b'"' | b'\\' | 0..0x20) { at } else { 20 };
                for from in 0..=at {
                    assert_eq!(special(&bytes, from), Some(expected), "{byte} at {at} from {from}");
                    assert_eq!(special(&bytes[..at], from), None);
                }
            }
        }
        // Every byte a neighbour of a special one could be mistaken for.
        for (first, second) in (0..=u8::MAX).flat_map(|first| (0..=u8::MAX).map(move |second| (first, second))) {
            let bytes = [first, second, b'x', b'x', b'x', b'x', b'x', b'x', b'"'];
            let expected = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            assert_eq!(special(&bytes, 0), expected);
        }
    }
}
