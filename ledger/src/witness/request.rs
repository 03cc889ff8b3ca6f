//! The body of `add-checkpoint`: an old size, a consistency proof, a checkpoint.

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use thiserror::Error;

use crate::hash_lines::{self, HashLinesError, Lines};
use crate::tree::PROOF_LEN_MAX;

/// Longest body, in bytes: 63 hashes and a checkpoint with some thirty ML-DSA-44 signatures.
pub const REQUEST_LEN_MAX: usize = 128 << 10;
/// Longest answer that a client reads, in bytes.
pub const ANSWER_LEN_MAX: usize = 64 << 10;
/// The content type of a 409's body: a size in decimal and a line feed.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// Why a body is not a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Longer than [`REQUEST_LEN_MAX`].
    #[error("the request is {len} bytes long; at most {REQUEST_LEN_MAX} are read")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// A line is not what it should be.
    #[error("line {line} of the request is not {expected}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// More hashes than any tree has levels.
    #[error("the request has more than {PROOF_LEN_MAX} hashes")]
    TooManyHashes,
}

/// A request to cosign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the newest checkpoint that the witness cosigned, as the client knows it; 0: none.
    pub old: TreeSize,
    /// From there to the checkpoint.
    pub proof: Vec<Digest>,
    /// The signed note.
    pub checkpoint: Vec<u8>,
}

impl AddCheckpoint {
    /// The body.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("old {}\n", self.old);
        hash_lines::write(&mut text, &self.proof);
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads a body; of the checkpoint nothing.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(bytes: &[u8]) -> Result<AddCheckpoint, RequestError> {
        if bytes.len() > REQUEST_LEN_MAX {
            return Err(RequestError::TooLong { len: bytes.len() });
        }
        let mut lines = Lines::new(bytes);
        let refuse = |lines: &Lines<'_>, expected| RequestError::Line { line: lines.number(), expected };
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(parse_size);
        let old = old.ok_or_else(|| refuse(&lines, "`old` and a size in decimal"))?;
        let proof = lines.hashes().map_err(|error| match error {
            HashLinesError::TooMany => RequestError::TooManyHashes,
            HashLinesError::Ends | HashLinesError::NotAHash => refuse(&lines, "a hash of 32 bytes in base64, or empty"),
        })?;
        Ok(AddCheckpoint { old, proof, checkpoint: lines.rest().to_vec() })
    }
}

/// A decimal without leading zeros.
pub(crate) fn parse_size(text: &str) -> Option<TreeSize> {
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(TreeSize(size))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn request(hashes: usize) -> AddCheckpoint {
        AddCheckpoint { old: TreeSize(7), proof: vec![Digest::sha256(b"x"); hashes], checkpoint: b"note".to_vec() }
    }

    #[test]
    fn a_request_is_read_back_and_counts_have_limits() {
        for hashes in [0, 1, PROOF_LEN_MAX] {
            assert_eq!(AddCheckpoint::parse(&request(hashes).to_bytes()), Ok(request(hashes)));
        }
        let past = request(PROOF_LEN_MAX + 1).to_bytes();
        assert_eq!(AddCheckpoint::parse(&past), Err(RequestError::TooManyHashes));
        let head = request(0).to_bytes();
        let padded = |len: usize| [&head[..], &vec![b'x'; len - head.len()]].concat();
        AddCheckpoint::parse(&padded(REQUEST_LEN_MAX)).unwrap();
        let error = AddCheckpoint::parse(&padded(REQUEST_LEN_MAX + 1)).unwrap_err();
        assert_eq!(error, RequestError::TooLong { len: REQUEST_LEN_MAX + 1 });
    }

    #[test]
    fn other_spellings_are_refused_at_their_line() {
        let hash = STANDARD.encode([1; 32]);
        for (bad, line) in [
            ("", 1),
            ("old 1", 1),
            ("old 01\n\nnote", 1),
            ("old -1\n\nnote", 1),
            ("old +1\n\nnote", 1),
            ("old 18446744073709551616\n\nnote", 1),
            ("Old 1\n\nnote", 1),
            ("old  1\n\nnote", 1),
            ("old 1\r\n\r\nnote", 1),
            ("old 1\nAAAA\n\nnote", 2),
            (&format!("old 1\n{hash}\n{}\n\nnote", &hash[..43]), 3),
            (&format!("old 1\n{hash}\n"), 3),
        ] {
            let error = AddCheckpoint::parse(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, RequestError::Line { line: at, .. } if at == line), "{bad:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = AddCheckpoint::parse(&bytes);
        }
    }
}
