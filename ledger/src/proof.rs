//! Offline proofs that a record is in a log: the text format of C2SP tlog-proof (version 1), extension `.tlog-proof`.
//!
//! The text holds an index, the hashes from the leaf to the root, and a checkpoint as it was published. The record itself is
//! elsewhere: whoever checks hashes the bytes that they hold. An `extra` line is read and kept; nothing proves it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::RecordIndex;
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash_lines::{self, HashLinesError, Lines};
use crate::note::{NOTE_LEN_MAX, VerifierKey};
use crate::tree::{PROOF_LEN_MAX, TreeError, verify_inclusion};

/// The first line.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof text, in bytes: a checkpoint at its limit, and as much again for `extra` and the hashes.
pub const PROOF_TEXT_LEN_MAX: usize = 2 * NOTE_LEN_MAX;

/// Why a proof is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProofTextError {
    /// Longer than [`PROOF_TEXT_LEN_MAX`].
    #[error("the proof is {len} bytes long; at most {PROOF_TEXT_LEN_MAX} are read")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Another format, or another version of it.
    #[error("the proof does not begin with {HEADER}")]
    Header,
    /// A line is not what the format asks for.
    #[error("line {line} of the proof is not {expected}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// More hashes than any tree has levels.
    #[error("the proof has more than {PROOF_LEN_MAX} hashes")]
    TooManyHashes,
    /// Its checkpoint is malformed, of another log, or not signed.
    #[error("the proof's checkpoint is refused: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead from the record to the checkpoint's root.
    #[error("the proof does not hold: {0}")]
    Tree(#[from] TreeError),
}

/// A record's inclusion proof with the checkpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Opaque bytes that came along. Nothing authenticates them.
    pub extra: Option<Vec<u8>>,
    /// The record's index.
    pub index: RecordIndex,
    /// From the leaf to the root.
    pub hashes: Vec<Digest>,
    /// The signed note, verbatim.
    pub checkpoint: Vec<u8>,
}

impl Proof {
    /// The text.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            text += &format!("extra {}\n", STANDARD.encode(extra));
        }
        text += &format!("index {}\n", self.index);
        hash_lines::write(&mut text, &self.hashes);
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Reads the text; checks its form and the checkpoint's form, no signature and no hash.
    ///
    /// # Errors
    /// [`ProofTextError`]: the line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Proof, ProofTextError> {
        if bytes.len() > PROOF_TEXT_LEN_MAX {
            return Err(ProofTextError::TooLong { len: bytes.len() });
        }
        let mut lines = Lines::new(bytes);
        let refuse = |lines: &Lines<'_>, expected| ProofTextError::Line { line: lines.number(), expected };
        if lines.next() != Some(HEADER) {
            return Err(ProofTextError::Header);
        }
        let mut line = lines.next().ok_or_else(|| refuse(&lines, "`extra` or `index`"))?;
        let mut extra = None;
        if let Some(text) = line.strip_prefix("extra ") {
            extra = Some(STANDARD.decode(text).map_err(|_| refuse(&lines, "`extra` and base64"))?);
            line = lines.next().ok_or_else(|| refuse(&lines, "`index` and a number"))?;
        }
        let index = line
            .strip_prefix("index ")
            .and_then(|text| text.parse::<u64>().ok().filter(|number| number.to_string() == text))
            .ok_or_else(|| refuse(&lines, "`index` and a number"))?;
        let hashes = lines.hashes().map_err(|error| match error {
            HashLinesError::Ends => refuse(&lines, "a hash or the blank line"),
            HashLinesError::NotAHash => refuse(&lines, "32 bytes in base64"),
            HashLinesError::TooMany => ProofTextError::TooManyHashes,
        })?;
        Checkpoint::parse(lines.rest())?;
        Ok(Proof { extra, index: RecordIndex(index), hashes, checkpoint: lines.rest().to_vec() })
    }

    /// Checks that the record with this leaf hash is in the log `origin`, under a checkpoint that one of `keys` signed.
    /// Returns that checkpoint.
    ///
    /// # Errors
    /// [`ProofTextError::Checkpoint`], [`ProofTextError::Tree`].
    pub fn verify(&self, leaf: &Digest, origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, ProofTextError> {
        let checkpoint = Checkpoint::verify(&self.checkpoint, origin, keys)?;
        verify_inclusion(leaf, self.index, checkpoint.size, &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use cairn_schemas::ids::TreeSize;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    use super::*;
    use crate::note::NoteSigner;

    fn proof() -> (Proof, Digest, VerifierKey) {
        let signer = NoteSigner::new("ledger/1", SigningKey::from_bytes(&[1; 32])).unwrap();
        let (leaf, sibling) = (Digest::leaf(b"record"), Digest::leaf(b"other"));
        let root = Digest::node(&sibling, &leaf);
        let checkpoint = Checkpoint { origin: "ledger/1".into(), size: TreeSize(2), root }.sign(&signer).unwrap();
        let proof = Proof { extra: None, index: RecordIndex(1), hashes: vec![sibling], checkpoint };
        (proof, leaf, signer.verifier().clone())
    }

    #[test]
    fn a_proof_is_read_back_and_holds() {
        let (mut proof, leaf, key) = proof();
        for extra in [None, Some(b"opaque".to_vec()), Some(Vec::new())] {
            proof.extra = extra;
            let read = Proof::parse(&proof.to_bytes()).unwrap();
            assert_eq!(read, proof);
            assert_eq!(read.verify(&leaf, "ledger/1", std::slice::from_ref(&key)).unwrap().size, TreeSize(2));
        }
        let keys = [key];
        assert!(matches!(proof.verify(&Digest::leaf(b"x"), "ledger/1", &keys), Err(ProofTextError::Tree(_))));
        assert!(matches!(proof.verify(&leaf, "ledger/2", &keys), Err(ProofTextError::Checkpoint(_))));
        proof.index = RecordIndex(0);
        assert!(matches!(proof.verify(&leaf, "ledger/1", &keys), Err(ProofTextError::Tree(_))));
    }

    #[test]
    fn malformed_proofs_are_refused_at_their_line() {
        let (proof, ..) = proof();
        let good = String::from_utf8(proof.to_bytes()).unwrap();
        let line = |line, expected| ProofTextError::Line { line, expected };
        for (bad, expected) in [
            (good.replace("@v1", "@v2"), ProofTextError::Header),
            (String::new(), ProofTextError::Header),
            (good.replace("index 1", "index 01"), line(2, "`index` and a number")),
            (good.replace("index 1", "place 1"), line(2, "`index` and a number")),
            (good.replace("index 1", "extra !\nindex 1"), line(2, "`extra` and base64")),
            (good.replace("index 1\n", "index 1\nAAAA\n"), line(3, "32 bytes in base64")),
            (good[..good.find("index").unwrap() + 8].to_owned(), line(3, "a hash or the blank line")),
        ] {
            assert_eq!(Proof::parse(bad.as_bytes()), Err(expected), "{bad}");
        }
        let cut = good.replace("ledger/1\n2\n", "ledger/1\n");
        assert!(matches!(Proof::parse(cut.as_bytes()), Err(ProofTextError::Checkpoint(_))));
    }

    #[test]
    fn hashes_at_the_limit_and_one_past_it() {
        let (mut proof, ..) = proof();
        proof.hashes = vec![Digest::ZERO; PROOF_LEN_MAX];
        assert!(Proof::parse(&proof.to_bytes()).is_ok());
        proof.hashes.push(Digest::ZERO);
        assert_eq!(Proof::parse(&proof.to_bytes()), Err(ProofTextError::TooManyHashes));
        assert!(matches!(Proof::parse(&vec![b'x'; PROOF_TEXT_LEN_MAX + 1]), Err(ProofTextError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(text in "c2sp.org/tlog-proof@v1\n(index [0-9]{0,20}\n)?[A-Za-z0-9+/=\n ]{0,200}") {
            let _ = Proof::parse(text.as_bytes());
        }
    }
}
