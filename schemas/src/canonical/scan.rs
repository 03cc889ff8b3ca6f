//! Whether bytes are canonical, in one pass and without building anything.
//!
//! Every record is checked at its producer, at the ledger and by each verifier; writing it again only to compare was most of that
//! cost. The scan takes exactly the bytes that [`super::to_bytes`] can write (a property test holds the two together) and says yes or
//! no; reasons are the slow way's business.

use super::{DEPTH_MAX, INTEGER_MAX};

/// Whether `bytes` are the canonical form of some value.
pub(crate) fn is_canonical(bytes: &[u8]) -> bool {
    if std::str::from_utf8(bytes).is_err() {
        return false;
    }
    let mut scan = Scan { bytes, at: 0 };
    scan.value(0).is_some() && scan.at == bytes.len()
}

/// A place in the bytes. Each method moves past what it takes, or gives `None`: not canonical.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.integer(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(());
        }
        let mut before: Option<&[u8]> = None;
        loop {
            let key = self.string()?;
            if before.is_some_and(|before| !sorts_before(before, key)) {
                return None;
            }
            before = Some(key);
            self.take(b':')?;
            self.value(depth + 1)?;
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
            self.value(depth + 1)?;
            if self.take(b',').is_none() {
                return self.take(b']');
            }
        }
    }

    /// What stands between the quotes, as written.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let from = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    let inside = &self.bytes[from..self.at];
                    self.at += 1;
                    return Some(inside);
                }
                b'\\' => {
                    self.at += 1;
                    self.escape()?;
                }
                0x00..0x20 => return None,
                _ => self.at += 1,
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
                self.word(b"00")?;
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

    fn integer(&mut self) -> Option<()> {
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
        let leading_zero = digits > 1 && self.bytes[from] == b'0';
        (digits > 0 && !leading_zero && magnitude <= INTEGER_MAX && !(negative && magnitude == 0)).then_some(())
    }
}

/// RFC 8785 section 3.2.3: keys are ordered by their UTF-16 code units, before escaping. Equal keys are not in order.
fn sorts_before(a: &[u8], b: &[u8]) -> bool {
    let plain = |key: &[u8]| key.is_ascii() && !key.contains(&b'\\');
    if plain(a) && plain(b) {
        return a < b;
    }
    match (unescape(a), unescape(b)) {
        (Some(a), Some(b)) => a < b,
        _ => false,
    }
}

/// The UTF-16 code units of a string as written.
fn unescape(inside: &[u8]) -> Option<Vec<u16>> {
    let quoted = [b"\"", inside, b"\""].concat();
    let text: String = serde_json::from_slice(&quoted).ok()?;
    Some(text.encode_utf16().collect())
}
