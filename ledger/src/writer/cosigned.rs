//! The newest checkpoint that meets the witness policy: the file `cosigned` beside `checkpoint`.
//!
//! Publishing waits for no witness. A checkpoint is published when it is signed; when enough witnesses have cosigned it, it is put
//! into `cosigned` too, which may be some checkpoints behind. What must be proven to those who demand witnesses is proven against
//! that one.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};
use thiserror::Error;

use super::{Ledger, PublishedCheckpoint, ReadError, Shared, lock};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::dir::COSIGNED_FILE;
use crate::durable::NewFile;
use crate::integrate::read_hashes;
use crate::policy::{Policy, PolicyError, Refused};
use crate::store::{Store, StoreError};
use crate::tile::TileHashes;
use crate::tree::{self, ProofError, TreeError};

/// Why a checkpoint is not kept as a cosigned one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CosignedError {
    /// Not a checkpoint, or not of the current volume.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is not a tree of this ledger.
    #[error("the checkpoint of {size} records has root {actual}, and these records have {expected}")]
    AnotherTree {
        /// Its size.
        size: TreeSize,
        /// The root of this ledger's records.
        expected: Digest,
        /// The checkpoint's.
        actual: Digest,
    },
    /// It does not meet the policy in force.
    #[error(transparent)]
    Policy(#[from] Refused),
    /// The policy in force cannot be read.
    #[error("the ledger's witness policy: {0}")]
    NoPolicy(#[from] PolicyError),
    /// A hash of the tree cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] std::io::Error),
}

/// What is known of cosigned checkpoints of one volume.
pub(super) struct Cosigned {
    state: Mutex<State>,
    /// There is a newer one, or somebody wants one.
    changed: Condvar,
}

struct State {
    newest: Option<Arc<PublishedCheckpoint>>,
    /// The largest size that somebody waits for.
    wanted: TreeSize,
}

impl Cosigned {
    /// What lies in the store. A file that is not a checkpoint of this volume's published tree is as good as none: it is derived, and made
    /// again.
    pub(super) fn read(store: &dyn Store, origin: &str, published: TreeSize) -> Cosigned {
        let newest = store.read(COSIGNED_FILE).ok().and_then(|bytes| {
            let (Checkpoint { origin: of, size, root }, _) = Checkpoint::parse(&bytes).ok()?;
            (of == origin && size <= published).then(|| Arc::new(PublishedCheckpoint { bytes, size, root }))
        });
        Cosigned { state: Mutex::new(State { newest, wanted: TreeSize(0) }), changed: Condvar::new() }
    }

    pub(super) fn newest(&self) -> Option<Arc<PublishedCheckpoint>> {
        lock(&self.state).newest.clone()
    }

    /// The cosigned form of a checkpoint, where that is the newest cosigned one.
    pub(super) fn form_of(&self, checkpoint: &PublishedCheckpoint) -> Option<Vec<u8>> {
        let newest = self.newest()?;
        (newest.size == checkpoint.size && newest.root == checkpoint.root).then(|| newest.bytes.clone())
    }

    fn wait(&self, size: TreeSize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.state);
        if state.wanted < size {
            state.wanted = size;
            self.changed.notify_all();
        }
        loop {
            if state.newest.as_ref().is_some_and(|newest| newest.size >= size) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until somebody wants more than `size` records cosigned; whether somebody does.
    fn wait_wanted(&self, size: TreeSize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.state);
        loop {
            let cosigned = state.newest.as_ref().map_or(TreeSize(0), |newest| newest.size);
            if state.wanted > size && state.wanted > cosigned {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Ledger {
    /// The newest checkpoint of the current volume that meets the witness policy, with its cosignatures; `None` where there is none yet.
    #[must_use]
    pub fn cosigned(&self) -> Option<Arc<PublishedCheckpoint>> {
        self.inner.shared().cosigned.newest()
    }

    /// Waits until a cosigned checkpoint covers `size` records of the current volume; `false` when that did not happen in time. Whoever
    /// has checkpoints cosigned is told that somebody waits.
    #[must_use]
    pub fn wait_cosigned(&self, size: TreeSize, timeout: Duration) -> bool {
        self.inner.shared().cosigned.wait(size, timeout)
    }

    /// Waits until somebody waits for a cosigned checkpoint of more than `size` records; `false` when nobody did in time.
    #[must_use]
    pub fn wait_cosigned_wanted(&self, size: TreeSize, timeout: Duration) -> bool {
        self.inner.shared().cosigned.wait_wanted(size, timeout)
    }

    /// The witness policy in force, as the ledger's records say it; `None`: no witnesses.
    #[must_use]
    pub fn witness_policy(&self) -> Option<String> {
        lock(&self.inner.settled().streams).witnesses().map(str::to_owned)
    }

    /// Whether the policy in force asks for any witness at all.
    #[must_use]
    pub fn demands_witnesses(&self) -> bool {
        let policy = self.witness_policy();
        policy.and_then(|policy| Policy::parse(policy.as_bytes()).ok()).is_some_and(|policy| !policy.needs_nobody())
    }

    /// Takes a checkpoint of the current volume with cosignatures; durable in `cosigned` when this returns. One that is not newer than
    /// the one that is there is left out.
    ///
    /// # Errors
    /// [`CosignedError`]: nothing changed.
    pub fn take_cosigned(&self, bytes: Vec<u8>) -> Result<(), CosignedError> {
        let shared = self.inner.shared();
        let (checkpoint, _) = Checkpoint::parse(&bytes)?;
        let policy = self.witness_policy();
        let Checkpoint { origin, size, root } = match policy.as_deref() {
            Some(policy) => {
                let keys = [shared.key_at(checkpoint.size).map_err(CheckpointError::from)?];
                Policy::parse(policy.as_bytes())?.check(&bytes, &shared.origin, &keys)?.0
            }
            None => checkpoint,
        };
        if origin != shared.origin {
            return Err(CheckpointError::Origin { expected: shared.origin.clone(), actual: origin }.into());
        }
        let published = lock(&shared.state).published.size;
        if size > published {
            return Err(ReadError::NotPublished { index: RecordIndex(size.0 - 1), size: published }.into());
        }
        let reader = TileHashes::new(size, |tile| read_hashes(&*shared.store, tile));
        let expected = tree::root(size, &reader).map_err(ReadError::Damage)?;
        if root != expected {
            return Err(CosignedError::AnotherTree { size, expected, actual: root });
        }
        // The lock is held over the write: an older one must not come after a newer one.
        let mut state = lock(&shared.cosigned.state);
        if state.newest.as_ref().is_some_and(|newest| newest.size >= size) {
            return Ok(());
        }
        let file = NewFile { path: COSIGNED_FILE.to_owned(), bytes: bytes.clone() };
        shared.store.replace(&file).map_err(|error| match error {
            StoreError::Io(error) => error,
            conflict => std::io::Error::other(conflict),
        })?;
        state.newest = Some(Arc::new(PublishedCheckpoint { bytes, size, root }));
        drop(state);
        shared.cosigned.changed.notify_all();
        Ok(())
    }

    /// [`Ledger::inclusion`] in the newest *cosigned* checkpoint: for those who demand witnesses.
    ///
    /// # Errors
    /// As [`Ledger::inclusion`]; [`ReadError::NotPublished`] while no cosigned checkpoint covers the record.
    pub fn inclusion_cosigned(&self, index: RecordIndex, at_least: TreeSize) -> Result<Vec<u8>, ReadError> {
        let shared = self.inner.shared();
        match shared.cosigned.newest() {
            Some(checkpoint) => shared.inclusion(&*shared.store, &checkpoint, index, at_least),
            None => Err(ReadError::NotPublished { index, size: TreeSize(0) }),
        }
    }

    /// The proof that the tree of `old` records is the beginning of that of `new` records, in the current volume.
    ///
    /// # Errors
    /// [`ReadError::NotPublished`] for a tree that is larger than the published one, or sizes the wrong way round;
    /// [`ReadError::Damage`].
    pub fn consistency(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Digest>, ReadError> {
        let shared = self.inner.shared();
        let published = lock(&shared.state).published.size;
        if new > published || old > new {
            let index = RecordIndex(old.max(new).0.saturating_sub(1));
            return Err(ReadError::NotPublished { index, size: published.min(new) });
        }
        let reader = TileHashes::new(new, |tile| read_hashes(&*shared.store, tile));
        tree::consistency_proof(old, new, &reader).map_err(|error| match error {
            ProofError::Read(error) => ReadError::Damage(error),
            ProofError::Tree(TreeError::IndexOutside { index, size }) => ReadError::NotPublished { index, size },
            ProofError::Tree(_) => unreachable!("the sizes were compared"),
        })
    }
}

impl Shared {
    /// The key that signs a checkpoint of this size.
    fn key_at(&self, size: TreeSize) -> Result<crate::note::VerifierKey, crate::note::NoteError> {
        lock(&self.streams).key_at(size.0).parse()
    }
}

#[cfg(feature = "witness-client")]
impl crate::witness::cosigning::CosignedLog for Ledger {
    fn newest(&self) -> (TreeSize, Vec<u8>) {
        let checkpoint = self.checkpoint();
        (checkpoint.size, checkpoint.bytes.clone())
    }

    fn wait(&self, size: TreeSize, pause: Duration) -> bool {
        self.wait_cosigned_wanted(size, pause)
    }

    fn prove(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Digest>, String> {
        self.consistency(old, new).map_err(|error| error.to_string())
    }

    fn take(&self, cosigned: Vec<u8>) -> Result<(), String> {
        self.take_cosigned(cosigned).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
