//! Checkpoints (C2SP tlog-checkpoint v1.0.0): the signed head of a tree.
//!
//! The text is three lines, origin, size and root, and nothing else: extension lines are refused, since cosignatures do not all
//! cover them. Only [`Checkpoint::verify`] gives a checkpoint whose signature was checked; [`Checkpoint::parse`] reads the three
//! lines of a note that someone else checked, or will.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use thiserror::Error;

use crate::note::{Note, NoteError, NoteSigner, VerifierKey, check_name};

/// Why bytes are not a checkpoint that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Not a signed note, or its signatures are wrong.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not exactly an origin, a size and a root.
    #[error("the checkpoint's text has {lines} lines, and must have three: origin, size, root")]
    Lines {
        /// How many it has.
        lines: usize,
    },
    /// The size is not a decimal number without leading zeros.
    #[error("the checkpoint's size {text:?} is not a decimal number")]
    Size {
        /// The line, cut at 40 characters.
        text: String,
    },
    /// The root is not 32 bytes in padded base64.
    #[error("the checkpoint's root {text:?} is not 32 bytes in base64")]
    Root {
        /// The line, cut at 80 characters.
        text: String,
    },
    /// Another log's checkpoint.
    #[error("the checkpoint is of {actual}, not of {expected}")]
    Origin {
        /// The log that was expected.
        expected: String,
        /// The log that it names.
        actual: String,
    },
}

/// A tree head: which log, how large, which root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name: `<ledger name>/<volume>`.
    pub origin: String,
    /// How many records.
    pub size: TreeSize,
    /// The root of the tree of that size.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed: three lines, each with its line feed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// Reads the three lines.
    ///
    /// # Errors
    /// [`CheckpointError`]: the line that is wrong.
    pub fn from_text(text: &str) -> Result<Checkpoint, CheckpointError> {
        let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').collect();
        let [origin, size, root] = lines[..] else {
            return Err(CheckpointError::Lines { lines: lines.len() });
        };
        check_name(origin)?;
        let bad_size = || CheckpointError::Size { text: size.chars().take(40).collect() };
        let number: u64 = size.parse().map_err(|_| bad_size())?;
        if number.to_string() != size {
            return Err(bad_size());
        }
        let root = STANDARD
            .decode(root)
            .ok()
            .and_then(|bytes| Digest::try_from(&bytes[..]).ok())
            .ok_or_else(|| CheckpointError::Root { text: root.chars().take(80).collect() })?;
        Ok(Checkpoint { origin: origin.to_owned(), size: TreeSize(number), root })
    }

    /// Reads a checkpoint without checking any signature.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn parse(bytes: &[u8]) -> Result<(Checkpoint, Note), CheckpointError> {
        let note = Note::parse(bytes)?;
        Ok((Checkpoint::from_text(note.text())?, note))
    }

    /// Reads a checkpoint of the log `origin` that at least one of `keys` signed.
    ///
    /// # Errors
    /// [`CheckpointError`]; a wrong signature by any of `keys` refuses the whole.
    pub fn verify(bytes: &[u8], origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, CheckpointError> {
        let (checkpoint, note) = Checkpoint::parse(bytes)?;
        note.verify(keys)?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::Origin { expected: origin.to_owned(), actual: checkpoint.origin });
        }
        Ok(checkpoint)
    }

    /// The signed note: the signer's line, and where it has a second key the line of that.
    ///
    /// # Errors
    /// [`NoteError::Name`] for an origin that no note can hold.
    pub fn sign(&self, signer: &NoteSigner) -> Result<Vec<u8>, NoteError> {
        check_name(&self.origin)?;
        Note::sign(&self.to_text(), &[signer])
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "ledger.example/1".into(), size: TreeSize(20_852_163), root: Digest::sha256(b"root") }
    }

    fn signer() -> NoteSigner {
        NoteSigner::new("ledger.example/1", SigningKey::from_bytes(&[1; 32])).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let checkpoint = Checkpoint::from_text(text).unwrap();
        assert_eq!(
            (checkpoint.origin.as_str(), checkpoint.size),
            ("example.com/behind-the-sofa", TreeSize(20_852_163))
        );
        assert_eq!(checkpoint.to_text(), text);
    }

    #[test]
    fn only_the_right_log_and_key_verify() {
        let (checkpoint, signer) = (checkpoint(), signer());
        let bytes = checkpoint.sign(&signer).unwrap();
        let keys = [signer.verifier().clone()];
        assert_eq!(Checkpoint::verify(&bytes, "ledger.example/1", &keys), Ok(checkpoint));
        assert!(matches!(Checkpoint::verify(&bytes, "ledger.example/2", &keys), Err(CheckpointError::Origin { .. })));
        let other = NoteSigner::new("ledger.example/1", SigningKey::from_bytes(&[2; 32])).unwrap();
        let refused = Checkpoint::verify(&bytes, "ledger.example/1", &[other.verifier().clone()]);
        assert!(matches!(refused, Err(CheckpointError::Note(NoteError::NotSigned { .. }))));
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = checkpoint().to_text();
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        for bad in [
            String::new(),
            "ledger.example/1\n5\n".into(),
            format!("{good}an extension line\n"),
            format!("{good}\n"),
            format!("ledger.example/1\n05\n{root}\n"),
            format!("ledger.example/1\n+5\n{root}\n"),
            format!("ledger.example/1\n-5\n{root}\n"),
            format!("ledger.example/1\n\n{root}\n"),
            format!("ledger.example/1\n18446744073709551616\n{root}\n"),
            format!("a ledger\n5\n{root}\n"),
            format!("\n5\n{root}\n"),
            format!("ledger.example/1\n5\n{}\n", &root[..43]),
            format!("ledger.example/1\n5\n{}\n", root.replace("2I=", "2J=")),
            "ledger.example/1\n5\nAAAA\n".into(),
        ] {
            assert!(Checkpoint::from_text(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Checkpoint::parse(&bytes);
            let _ = Checkpoint::from_text(&String::from_utf8_lossy(&bytes));
        }
    }
}
