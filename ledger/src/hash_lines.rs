//! Hashes as C2SP's texts have them: one a line in base64, an empty line behind the last, and something else behind that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::digest::Digest;

use crate::tree::PROOF_LEN_MAX;

/// Why hashes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashLinesError {
    /// The text ends before the empty line, or is not UTF-8 there.
    Ends,
    /// The line is not 32 bytes in base64.
    NotAHash,
    /// More than [`PROOF_LEN_MAX`].
    TooMany,
}

/// Writes the hashes and the empty line.
pub(crate) fn write(text: &mut String, hashes: &[Digest]) {
    for hash in hashes {
        text.push_str(&STANDARD.encode(hash.as_bytes()));
        text.push('\n');
    }
    text.push('\n');
}

/// A text that is read line by line.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Lines<'a> {
        Lines { rest: text, number: 0 }
    }

    /// The next line without its line feed; `None` at the end, and for a line that is not UTF-8.
    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.number += 1;
        let end = self.rest.iter().position(|&byte| byte == b'\n')?;
        let line = std::str::from_utf8(&self.rest[..end]).ok()?;
        self.rest = &self.rest[end + 1..];
        Some(line)
    }

    /// The hashes from here to the empty line.
    pub(crate) fn hashes(&mut self) -> Result<Vec<Digest>, HashLinesError> {
        let mut hashes = Vec::new();
        loop {
            let line = self.next().ok_or(HashLinesError::Ends)?;
            if line.is_empty() {
                return Ok(hashes);
            }
            if hashes.len() == PROOF_LEN_MAX {
                return Err(HashLinesError::TooMany);
            }
            let hash = STANDARD.decode(line).ok().and_then(|bytes| Digest::try_from(&bytes[..]).ok());
            hashes.push(hash.ok_or(HashLinesError::NotAHash)?);
        }
    }

    /// Which line was asked for last, from 1.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
