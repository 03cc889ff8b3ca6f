//! The newest checkpoint this node has verified. It stands in the node's heads, so that a control plane that shows two histories
//! leaves signed traces of both.
//!
//! What is checked when one is shown: the pinned ledger's signature, that the tree never shrinks, and that one size has one root. That
//! a larger tree contains the smaller one, and is the one that witnesses have seen, is checked from time to time: [`crate::compare`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cairn_ledger::checkpoint::{Checkpoint, CheckpointError};
use cairn_ledger::note::VerifierKey;
use cairn_schemas::data::CheckpointSeen;

use crate::durable::{self, DiskError};

const FILE: &str = "checkpoint";
const CONFLICT: &str = "checkpoint.conflict";

/// Why a checkpoint is not remembered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointRefused {
    /// It is not one of the pinned ledger.
    #[error(transparent)]
    NotTheLedgers(#[from] CheckpointError),
    /// It covers fewer records than one that was seen.
    #[error("the ledger shows a tree of {offered} records; this node has seen one of {seen}")]
    Smaller {
        /// Its size.
        offered: u64,
        /// The size that was seen.
        seen: u64,
    },
    /// Two roots for one size, both signed: the ledger's key signed two histories. The second is kept beside the first.
    #[error("the ledger signed two trees of {size} records; both checkpoints are kept, the second in {}", kept.display())]
    Conflict {
        /// The size.
        size: u64,
        /// Where the second one is.
        kept: PathBuf,
    },
    /// It could not be kept.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The newest note, for whoever compares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latest(Arc<Mutex<Option<Arc<[u8]>>>>);

impl Latest {
    /// The note, as it was shown.
    pub(crate) fn note(&self) -> Option<Arc<[u8]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, note: &[u8]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(note.into());
    }
}

/// Remembers the newest checkpoint, across restarts.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    origin: String,
    key: VerifierKey,
    newest: Option<Checkpoint>,
    latest: Latest,
}

impl Checkpoints {
    /// Reads what is remembered in a node's folder. One that cannot be read any more is forgotten: it protects nothing.
    pub(crate) fn open(folder: &Path, origin: String, key: VerifierKey) -> Result<Checkpoints, DiskError> {
        let path = folder.join(FILE);
        let latest = Latest::default();
        let newest = match durable::read_optional(&path)? {
            None => None,
            Some(bytes) => match Checkpoint::verify(&bytes, &origin, std::slice::from_ref(&key)) {
                Ok(checkpoint) => {
                    latest.set(&bytes);
                    Some(checkpoint)
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "the remembered checkpoint is not one of the pinned ledger");
                    None
                }
            },
        };
        Ok(Checkpoints { folder: folder.to_owned(), origin, key, newest, latest })
    }

    /// A handle on the newest note.
    pub(crate) fn latest(&self) -> Latest {
        self.latest.clone()
    }

    /// The newest, as heads carry it.
    pub(crate) fn newest(&self) -> Option<CheckpointSeen> {
        let Checkpoint { origin, size, root } = self.newest.clone()?;
        Some(CheckpointSeen { origin, size: size.0, root })
    }

    /// Takes a checkpoint that the control plane shows; durable when this returns.
    pub(crate) fn offer(&mut self, bytes: &[u8]) -> Result<(), CheckpointRefused> {
        let offered = Checkpoint::verify(bytes, &self.origin, std::slice::from_ref(&self.key))?;
        if let Some(seen) = &self.newest {
            if offered == *seen {
                return Ok(());
            }
            if offered.size < seen.size {
                return Err(CheckpointRefused::Smaller { offered: offered.size.0, seen: seen.size.0 });
            }
            if offered.size == seen.size {
                let kept = self.folder.join(CONFLICT);
                durable::replace(&kept, bytes)?;
                return Err(CheckpointRefused::Conflict { size: seen.size.0, kept });
            }
        }
        durable::replace(&self.folder.join(FILE), bytes)?;
        self.latest.set(bytes);
        self.newest = Some(offered);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cairn_ledger::note::NoteSigner;
    use cairn_schemas::digest::Digest;
    use cairn_schemas::ids::TreeSize;
    use ed25519_dalek::SigningKey;

    use super::*;

    fn signed(signer: &NoteSigner, origin: &str, size: u64, root: &[u8]) -> Vec<u8> {
        let checkpoint = Checkpoint { origin: origin.into(), size: TreeSize(size), root: Digest::sha256(root) };
        checkpoint.sign(signer).unwrap()
    }

    #[test]
    fn only_the_pinned_ledgers_growing_tree_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let signer = NoteSigner::new("l/1", SigningKey::from_bytes(&[1; 32])).unwrap();
        let other = NoteSigner::new("l/1", SigningKey::from_bytes(&[2; 32])).unwrap();
        let open = || Checkpoints::open(folder.path(), "l/1".into(), signer.verifier().clone()).unwrap();
        let mut checkpoints = open();
        assert_eq!(checkpoints.newest(), None);
        checkpoints.offer(&signed(&signer, "l/1", 5, b"a")).unwrap();
        checkpoints.offer(&signed(&signer, "l/1", 5, b"a")).unwrap();
        assert!(matches!(
            checkpoints.offer(&signed(&signer, "l/1", 4, b"x")),
            Err(CheckpointRefused::Smaller { offered: 4, seen: 5 })
        ));
        assert!(matches!(
            checkpoints.offer(&signed(&signer, "l/1", 5, b"b")),
            Err(CheckpointRefused::Conflict { size: 5, .. })
        ));
        assert!(folder.path().join(CONFLICT).exists(), "the evidence is kept");
        for bad in [signed(&other, "l/1", 9, b"a"), b"nonsense".to_vec()] {
            assert!(matches!(checkpoints.offer(&bad), Err(CheckpointRefused::NotTheLedgers(_))));
        }
        checkpoints.offer(&signed(&signer, "l/1", 9, b"c")).unwrap();
        assert_eq!(open().newest().unwrap().size, 9);
        std::fs::write(folder.path().join(FILE), signed(&other, "l/1", 9, b"c")).unwrap();
        assert_eq!(open().newest(), None);
    }
}
