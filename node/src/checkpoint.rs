//! The newest checkpoint this node has verified. It stands in the node's heads, so that a control plane that shows two histories
//! leaves signed traces of both.
//!
//! What is checked when one is shown: a signature by the pinned ledger's key, or by one that its root endorsed since, that volumes never
//! go back, that a volume's tree never shrinks, and that one size has one root. That
//! a larger tree contains the smaller one, and is the one that witnesses have seen, is checked from time to time: [`crate::compare`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cairn_ledger::checkpoint::{Checkpoint, CheckpointError};
use cairn_ledger::note::VerifierKey;
use cairn_ledger::pinned::EndorsedKeys;
use cairn_ledger::volume::parse_origin;
use cairn_schemas::data::CheckpointSeen;

use crate::durable::{self, DiskError};

const FILE: &str = "checkpoint";
/// What the root said about the ledger's keys since.
const ENDORSEMENTS: &str = "endorsements.json";
const CONFLICT: &str = "checkpoint.conflict";

/// Why a checkpoint is not remembered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointRefused {
    /// It is not one of the pinned ledger.
    #[error(transparent)]
    NotTheLedgers(#[from] CheckpointError),
    /// It is of an earlier volume than one that was seen.
    #[error("the ledger shows volume {offered}; this node has seen volume {seen}")]
    Earlier {
        /// Its volume.
        offered: u64,
        /// The volume that was seen.
        seen: u64,
    },
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
    ledger: Pinned,
    newest: Option<Checkpoint>,
    latest: Latest,
}

/// The ledger that this node pinned when it joined.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    /// Its name.
    pub(crate) name: String,
    /// Its key then.
    pub(crate) key: VerifierKey,
    /// Its root.
    pub(crate) root: VerifierKey,
    /// Keys that the root endorsed since.
    pub(crate) endorsed: EndorsedKeys,
}

impl Pinned {
    /// A checkpoint of any of the ledger's volumes.
    fn verify(&self, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let (Checkpoint { origin, .. }, _) = Checkpoint::parse(bytes)?;
        let keys = self.endorsed.keys_of(&self.name, &self.key, &origin);
        if keys.is_empty() {
            return Err(CheckpointError::Origin { expected: format!("{}/<volume>", self.name), actual: origin });
        }
        Checkpoint::verify(bytes, &origin, &keys)
    }

    /// Believes what the root said, of what somebody brings. Whether any of it was new.
    pub(crate) fn learn(&self, notes: &[String]) -> bool {
        let mut learnt = false;
        for note in notes {
            match self.endorsed.learn(note, &self.root) {
                Ok(new) => learnt |= new,
                Err(error) => tracing::warn!(%error, "the control plane shows an endorsement that is none"),
            }
        }
        learnt
    }
}

/// The volume of a checkpoint whose origin was checked.
fn volume_of(checkpoint: &Checkpoint) -> u64 {
    parse_origin(&checkpoint.origin).map_or(1, |(_, volume)| volume)
}

impl Checkpoints {
    /// Reads what is remembered in a node's folder. One that cannot be read any more is forgotten: it protects nothing.
    pub(crate) fn open(folder: &Path, ledger: Pinned) -> Result<Checkpoints, DiskError> {
        if let Some(bytes) = durable::read_optional(&folder.join(ENDORSEMENTS))?
            && let Ok(notes) = serde_json::from_slice::<Vec<String>>(&bytes)
        {
            ledger.learn(&notes);
        }
        let path = folder.join(FILE);
        let latest = Latest::default();
        let newest = match durable::read_optional(&path)? {
            None => None,
            Some(bytes) => match ledger.verify(&bytes) {
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
        Ok(Checkpoints { folder: folder.to_owned(), ledger, newest, latest })
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

    /// The volume whose checkpoints to ask for: that of the newest one, at first the one that was pinned.
    pub(crate) fn volume(&self) -> u64 {
        let pinned = || parse_origin(self.ledger.key.name()).map_or(1, |(_, volume)| volume);
        self.newest.as_ref().map_or_else(pinned, volume_of)
    }

    /// Takes up what the root said about the ledger's keys; durable when this returns. Whether any of it was new.
    pub(crate) fn learn(&mut self, notes: &[String]) -> Result<bool, DiskError> {
        if !self.ledger.learn(notes) {
            return Ok(false);
        }
        let bytes = serde_json::to_vec(notes).expect("invariant: a list of texts is JSON");
        durable::replace(&self.folder.join(ENDORSEMENTS), &bytes)?;
        Ok(true)
    }

    /// Takes a checkpoint that the control plane shows; durable when this returns.
    pub(crate) fn offer(&mut self, bytes: &[u8]) -> Result<(), CheckpointRefused> {
        let offered = self.ledger.verify(bytes)?;
        if let Some(seen) = &self.newest {
            if offered == *seen {
                return Ok(());
            }
            let (now, before) = (volume_of(&offered), volume_of(seen));
            if now < before {
                return Err(CheckpointRefused::Earlier { offered: now, seen: before });
            }
        }
        // Sizes are compared within a volume only: the next one begins at 0.
        if let Some(seen) = self.newest.as_ref().filter(|seen| seen.origin == offered.origin) {
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

    fn root() -> NoteSigner {
        NoteSigner::new("l/root", SigningKey::from_bytes(&[9; 32])).unwrap()
    }

    fn pinned(signer: &NoteSigner) -> Pinned {
        let (key, root) = (signer.verifier().clone(), root().verifier().clone());
        Pinned { name: "l".into(), key, root, endorsed: EndorsedKeys::default() }
    }

    #[test]
    fn volumes_go_on_and_never_back_and_other_keys_need_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let key = |seed: u8, name: &str| NoteSigner::new(name, SigningKey::from_bytes(&[seed; 32])).unwrap();
        let old = key(1, "l/1");
        let mut checkpoints = Checkpoints::open(folder.path(), pinned(&old)).unwrap();
        checkpoints.offer(&signed(&old, "l/1", 500, b"a")).unwrap();
        checkpoints.offer(&signed(&key(1, "l/2"), "l/2", 3, b"b")).unwrap();
        assert_eq!(checkpoints.volume(), 2, "a smaller tree of a later volume");
        let back = checkpoints.offer(&signed(&old, "l/1", 501, b"c"));
        assert!(matches!(back, Err(CheckpointRefused::Earlier { offered: 1, seen: 2 })));
        let new = key(2, "l/3");
        let next = signed(&new, "l/3", 1, b"d");
        assert!(matches!(checkpoints.offer(&next), Err(CheckpointRefused::NotTheLedgers(_))));
        let word = cairn_ledger::endorsement::Endorsement::LedgerKey { key: new.verifier().clone(), second: None };
        let (good, forged) = (word.sign(&root()).unwrap(), word.sign(&key(8, "l/root")).unwrap());
        assert!(!checkpoints.learn(&[forged, "nonsense".into()]).unwrap());
        assert!(checkpoints.offer(&next).is_err());
        assert!(checkpoints.learn(std::slice::from_ref(&good)).unwrap() && !checkpoints.learn(&[good]).unwrap());
        checkpoints.offer(&next).unwrap();
        let again = Checkpoints::open(folder.path(), pinned(&old)).unwrap();
        assert_eq!((again.volume(), again.newest().unwrap().size), (3, 1), "remembered with what the root said");
        assert!(matches!(checkpoints.offer(&signed(&old, "m/4", 9, b"e")), Err(CheckpointRefused::NotTheLedgers(_))));
    }

    #[test]
    fn only_the_pinned_ledgers_growing_tree_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let signer = NoteSigner::new("l/1", SigningKey::from_bytes(&[1; 32])).unwrap();
        let other = NoteSigner::new("l/1", SigningKey::from_bytes(&[2; 32])).unwrap();
        let open = || Checkpoints::open(folder.path(), pinned(&signer)).unwrap();
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
