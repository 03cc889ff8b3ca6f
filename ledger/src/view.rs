//! A look at one volume of a ledger under one checkpoint: records with proofs, for whoever only reads.
//!
//! A [`View`] needs no key and no lock, and takes nothing for true that lies in the directory but the bytes of a checkpoint whose
//! signature it checked. Each record that it hands out was hashed up to that checkpoint's root. So it serves as well on a ledger that is
//! being written as on a copy, and says which checkpoint vouches. [`View::refresh`] goes on to a newer checkpoint, after showing that it
//! holds the older one.
//!
//! Whose key it is: the caller's, or the one that the ledger itself names. In the second case everything holds together, and where it comes
//! from is not proven. A rotated key is believed where the root key of record 0 endorsed it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_schemas::data::{LedgerKeyRotated, LedgerOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};
use cairn_schemas::record::Record;
use cairn_schemas::types::RecordType;
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::dir::{DirError, LedgerDir};
use crate::endorsement::Endorsement;
use crate::index::{Index, IndexError, Query};
use crate::location::Location;
use crate::note::VerifierKey;
use crate::proof::Proof;
use crate::tile::{TILE_WIDTH, TileHashes, TileId, TileKind};
use crate::tree::{self, ProofError, TreeError};
use crate::volume::{self, Place};

/// Tiles that are kept in memory.
const TILES_MAX: usize = 4_096;
/// Bundles that are kept in memory.
const BUNDLES_MAX: usize = 16;
/// How often a checkpoint is read again when its tiles are not there: somebody copies or writes the ledger right now.
const ATTEMPTS: usize = 5;

/// Why something is not to be had, or not to be believed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ViewError {
    /// A file cannot be read.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The index cannot be made.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// There is no such volume here.
    #[error("the ledger has no volume {volume} here; it has {here}")]
    NoVolume {
        /// The volume.
        volume: u64,
        /// Those that are here.
        here: String,
    },
    /// The checkpoint is not what it must be, or not signed by the key.
    #[error("`{file}` is refused")]
    Checkpoint {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: CheckpointError,
    },
    /// Record 0 does not say whose ledger this is.
    #[error("record 0 is not a `ledger.opened` of {origin}: {reason}")]
    NotOpened {
        /// The checkpoint's origin.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tree has no such record.
    #[error("record {place} is not there: the newest checkpoint of the volume covers {size} records")]
    NoRecord {
        /// The place.
        place: Place,
        /// The checkpoint's size.
        size: TreeSize,
    },
    /// The bytes are not those that the checkpoint vouches for.
    #[error("record {place} is not what the checkpoint of {size} records vouches for: {reason}")]
    NotProven {
        /// The place.
        place: Place,
        /// The checkpoint's size.
        size: TreeSize,
        /// What does not fit.
        reason: String,
    },
    /// A newer checkpoint does not hold the older one.
    #[error("the checkpoint of {newer} records does not hold the one of {older}: the ledger was rewritten")]
    Rewritten {
        /// The older size.
        older: TreeSize,
        /// The newer size.
        newer: TreeSize,
    },
    /// Two sizes between which there is no consistency proof.
    #[error("there is no consistency proof from size {from} to size {to}; the newest checkpoint is of {size} records")]
    NoConsistency {
        /// The smaller size.
        from: TreeSize,
        /// The larger size.
        to: TreeSize,
        /// The newest checkpoint's size.
        size: TreeSize,
    },
}

/// Where the key comes from that the checkpoint's signature was checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// The caller gave it.
    Given,
    /// The caller's key is that of `ledger.opened`, and the root key that stands there endorsed the one in force.
    Endorsed,
    /// The ledger names it itself: where the ledger comes from is not proven.
    Ledger,
}

/// A record and what proves it.
#[derive(Debug, Clone)]
pub struct Proven {
    /// Where it stands.
    pub place: Place,
    /// Its exact bytes.
    pub bytes: Arc<[u8]>,
    /// Its leaf hash.
    pub leaf: Digest,
    /// From the leaf to the checkpoint's root, and the checkpoint.
    pub proof: Proof,
}

/// What shows that one tree is the beginning of another.
#[derive(Debug, Clone)]
pub struct Consistency {
    /// The smaller tree.
    pub from: (TreeSize, Digest),
    /// The larger tree.
    pub to: (TreeSize, Digest),
    /// The hashes.
    pub hashes: Vec<Digest>,
    /// A published checkpoint of the larger size, where there is one.
    pub checkpoint: Option<Vec<u8>>,
}

/// A volume under a checkpoint whose signature was checked.
#[derive(Debug)]
pub struct View {
    held: Held,
    given: Option<VerifierKey>,
    key: VerifierKey,
    source: KeySource,
}

/// A volume under a checkpoint whose signature is not looked at yet.
#[derive(Debug)]
struct Held {
    ledger: Location,
    dir: LedgerDir,
    volume: u64,
    checkpoint: Checkpoint,
    bytes: Vec<u8>,
    tiles: Mutex<HashMap<TileId, Arc<Vec<Digest>>>>,
    bundles: Mutex<HashMap<u64, Bundle>>,
}

type Bundle = Arc<Vec<Arc<[u8]>>>;

/// The volumes that are in a ledger's directory and are not being dropped, rising.
///
/// # Errors
/// [`DirError::Absent`], [`DirError::NotALedger`], [`DirError::Read`].
pub fn volumes(ledger: impl Into<Location>) -> Result<Vec<u64>, DirError> {
    let ledger = ledger.into();
    let mut here = Vec::new();
    let first = ledger.volume(1);
    if first.is_ok() {
        here.push(1);
    }
    let mut marked = Vec::new();
    if let Ok(entries) = ledger.list(volume::VOLUME_FOLDER) {
        let names: Vec<String> = entries.into_iter().map(|(name, _)| name).collect();
        marked = volume::marked(names.iter().map(String::as_str));
        let numbers = names.iter().filter_map(|name| volume::parse_number(name)).filter(|number| *number >= 2);
        // A volume that is only just being made has no checkpoint yet.
        here.extend(numbers.filter(|number| ledger.volume(*number).is_ok()));
    }
    here.sort_unstable();
    if here.is_empty() {
        first?;
    }
    Ok(volume::without_dropped(here, &marked))
}

impl View {
    /// Looks at a volume under its newest checkpoint; without `volume` at the newest. `key` must have signed the checkpoint, or be the
    /// key of record 0 with every later one endorsed by the root.
    ///
    /// # Errors
    /// Any [`ViewError`] but those about single records.
    pub fn open(
        ledger: impl Into<Location>,
        volume: Option<u64>,
        key: Option<&VerifierKey>,
    ) -> Result<View, ViewError> {
        let ledger = &ledger.into();
        let here = volumes(ledger)?;
        let volume = match volume {
            Some(volume) if here.contains(&volume) => volume,
            Some(volume) => {
                let here = here.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                return Err(ViewError::NoVolume { volume, here });
            }
            None => *here.last().expect("invariant: a ledger has a volume"),
        };
        let dir = ledger.volume(volume)?;
        let mut attempt = 1;
        loop {
            let view = View::at_newest(ledger, dir.clone(), volume, key);
            match view {
                // The checkpoint and its tiles are of two moments: somebody copies the directory, or put another one in its place.
                Err(ViewError::Dir(DirError::Missing { .. })) if attempt < ATTEMPTS => attempt += 1,
                view => return view,
            }
        }
    }

    fn at_newest(
        ledger: &Location,
        dir: LedgerDir,
        volume: u64,
        given: Option<&VerifierKey>,
    ) -> Result<View, ViewError> {
        let bytes = dir.checkpoint_bytes()?;
        let file = volume::path(volume, crate::dir::CHECKPOINT_FILE);
        let refuse = |source| ViewError::Checkpoint { file: file.clone(), source };
        let (checkpoint, note) = match Checkpoint::parse(&bytes) {
            Ok(parsed) => parsed,
            Err(source) => return Err(refuse(source)),
        };
        let held = Held {
            ledger: ledger.clone(),
            dir,
            volume,
            checkpoint,
            bytes,
            tiles: Mutex::default(),
            bundles: Mutex::default(),
        };
        let signed_by = |key: &VerifierKey| note.verify(std::slice::from_ref(key)).map(drop);
        let with = |held, key: VerifierKey, source| View { held, given: given.cloned(), key, source };
        if let Some(key) = given.filter(|key| signed_by(key).is_ok()) {
            return Ok(with(held, key.clone(), KeySource::Given));
        }
        let opened = held.opened()?;
        let first = held.vkey(&opened.ledger_key)?;
        let source = match given {
            // It is known whose ledger this is; the key that is in force now is its root key's to name.
            Some(given) if *given == first => KeySource::Endorsed,
            Some(given) => signed_by(given).map(|()| KeySource::Given).map_err(|error| refuse(error.into()))?,
            None => KeySource::Ledger,
        };
        let refused = match signed_by(&first) {
            Ok(()) => return Ok(with(held, first, source)),
            Err(error) => refuse(error.into()),
        };
        match held.rotated(&opened)? {
            Some(key) if signed_by(&key).is_ok() => Ok(with(held, key, source)),
            _ => Err(refused),
        }
    }

    /// The ledger's name and keys, as record 0 says them.
    ///
    /// # Errors
    /// [`ViewError::NotOpened`], or record 0 cannot be read.
    pub fn opened(&self) -> Result<LedgerOpened, ViewError> {
        self.held.opened()
    }

    /// Where the ledger lies.
    #[must_use]
    pub fn ledger(&self) -> &Location {
        &self.held.ledger
    }

    /// The volume.
    #[must_use]
    pub fn volume(&self) -> u64 {
        self.held.volume
    }

    /// The checkpoint that vouches for everything that this hands out.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.held.checkpoint
    }

    /// The same as it was published.
    #[must_use]
    pub fn checkpoint_bytes(&self) -> &[u8] {
        &self.held.bytes
    }

    /// The key that signed it, and where that comes from.
    #[must_use]
    pub fn key(&self) -> (&VerifierKey, KeySource) {
        (&self.key, self.source)
    }

    /// Goes on to the newest checkpoint, if there is another one.
    ///
    /// # Errors
    /// [`ViewError::Rewritten`]; those of [`View::open`].
    pub fn refresh(&mut self) -> Result<bool, ViewError> {
        if self.held.dir.checkpoint_bytes()? == self.held.bytes {
            return Ok(false);
        }
        let newer = View::open(&self.held.ledger, Some(self.held.volume), self.given.as_ref())?;
        let (before, now) = (&self.held.checkpoint, &newer.held.checkpoint);
        let rewritten = ViewError::Rewritten { older: before.size, newer: now.size };
        if now.origin != before.origin || now.size < before.size {
            return Err(rewritten);
        }
        let reader = TileHashes::new(now.size, |tile| newer.held.hashes(tile));
        if tree::root(before.size, &reader)? != before.root {
            return Err(rewritten);
        }
        let grown = now.size != before.size;
        *self = newer;
        Ok(grown)
    }

    /// The index of this volume, brought up to this checkpoint.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn index(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<Index, ViewError> {
        self.held.index(progress)
    }

    /// A record, hashed up to the checkpoint's root.
    ///
    /// # Errors
    /// [`ViewError::NoRecord`], [`ViewError::NotProven`], or a file cannot be read.
    pub fn record(&self, index: RecordIndex) -> Result<Proven, ViewError> {
        self.held.record(index)
    }

    /// A record's bytes, not yet compared with anything.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn bytes_of(&self, index: RecordIndex) -> Result<Arc<[u8]>, ViewError> {
        self.held.bytes_of(index)
    }

    /// What shows that the tree of `from` records is the beginning of the tree of `to` records; `to` at most the checkpoint's size.
    ///
    /// # Errors
    /// [`ViewError::NoConsistency`], or a file cannot be read.
    pub fn consistency(&self, from: TreeSize, to: TreeSize) -> Result<Consistency, ViewError> {
        let (held, size) = (&self.held, self.held.checkpoint.size);
        if from > to || to > size || from.0 == 0 {
            return Err(ViewError::NoConsistency { from, to, size });
        }
        let reader = TileHashes::new(size, |tile| held.hashes(tile));
        let (old, new) = (tree::root(from, &reader)?, tree::root(to, &reader)?);
        let hashes = tree::consistency_proof(from, to, &reader).map_err(dir_error)?;
        let checkpoint = if to == size { Some(held.bytes.clone()) } else { held.dir.numbered_bytes(to).ok() };
        Ok(Consistency { from: (from, old), to: (to, new), hashes, checkpoint })
    }
}

impl Held {
    fn opened(&self) -> Result<LedgerOpened, ViewError> {
        let first = self.record(RecordIndex(0))?;
        let origin = || self.checkpoint.origin.clone();
        let opened = Record::parse(&first.bytes).and_then(|record| record.data_as::<LedgerOpened>());
        let opened = opened.map_err(|error| ViewError::NotOpened { origin: origin(), reason: error.one_line() })?;
        if volume::origin(&opened.name, opened.volume) != self.checkpoint.origin {
            let reason = format!("it opens volume {} of {}", opened.volume, opened.name);
            return Err(ViewError::NotOpened { origin: origin(), reason });
        }
        Ok(opened)
    }

    /// The newest key that the ledger rotated to before its last record, if the root endorsed every step.
    fn rotated(&self, opened: &LedgerOpened) -> Result<Option<VerifierKey>, ViewError> {
        let root = self.vkey(&opened.root_key)?;
        let query = Query { kinds: vec![RecordType::LedgerKeyRotated], ..Query::default() };
        let index = self.index(&|_, _| ())?;
        let Some(newest) = index.candidates_newest_first(&query).next() else { return Ok(None) };
        let record = self.record(newest)?;
        let rotated: Option<LedgerKeyRotated> =
            Record::parse(&record.bytes).ok().filter(|record| record.stream.is_ledger()).and_then(|r| r.data_as().ok());
        let Some(rotated) = rotated else { return Ok(None) };
        let key = self.vkey(&rotated.new)?;
        match Endorsement::verify(&rotated.endorsement, &root) {
            Ok(Endorsement::LedgerKey { key: endorsed, .. }) if endorsed == key => Ok(Some(key)),
            _ => Ok(None),
        }
    }

    fn vkey(&self, text: &str) -> Result<VerifierKey, ViewError> {
        text.parse().map_err(|error: crate::note::NoteError| ViewError::NotOpened {
            origin: self.checkpoint.origin.clone(),
            reason: error.to_string(),
        })
    }

    fn index(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<Index, ViewError> {
        let folder = self.ledger.index_folder(self.volume);
        let folder = folder.map_err(|source| DirError::Read { file: self.ledger.to_string(), source })?;
        Ok(Index::open(&folder, &self.dir, &self.checkpoint.origin, self.checkpoint.size, progress)?)
    }

    fn record(&self, index: RecordIndex) -> Result<Proven, ViewError> {
        let (size, place) = (self.checkpoint.size, Place { volume: self.volume, index });
        if index.0 >= size.0 {
            return Err(ViewError::NoRecord { place, size });
        }
        let bytes = self.bytes_of(index)?;
        let leaf = Digest::leaf(&bytes);
        let reader = TileHashes::new(size, |tile| self.hashes(tile));
        let hashes = tree::inclusion_proof(index, size, &reader).map_err(dir_error)?;
        tree::verify_inclusion(&leaf, index, size, &hashes, &self.checkpoint.root)
            .map_err(|error| ViewError::NotProven { place, size, reason: error.to_string() })?;
        let proof = Proof { extra: None, index, hashes, checkpoint: self.bytes.clone() };
        Ok(Proven { place, bytes, leaf, proof })
    }

    fn bytes_of(&self, index: RecordIndex) -> Result<Arc<[u8]>, ViewError> {
        let (number, within) = (index.0 / TILE_WIDTH, (index.0 % TILE_WIDTH) as usize);
        let missing =
            || ViewError::NoRecord { place: Place { volume: self.volume, index }, size: self.checkpoint.size };
        let mut bundles = self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bundle) = bundles.get(&number) {
            return bundle.get(within).cloned().ok_or_else(missing);
        }
        let tile = TileId::in_tree(TileKind::Entries, number, self.checkpoint.size).ok_or_else(missing)?;
        let bundle: Bundle = Arc::new(self.dir.entries(tile)?.into_iter().map(Arc::from).collect());
        if bundles.len() >= BUNDLES_MAX {
            bundles.clear();
        }
        bundles.insert(number, bundle.clone());
        bundle.get(within).cloned().ok_or_else(missing)
    }

    fn hashes(&self, tile: TileId) -> Result<Vec<Digest>, DirError> {
        // A smaller tree's partial tile may be gone; this tree's has its hashes, and more.
        let held = TileId::in_tree(tile.kind(), tile.index(), self.checkpoint.size).unwrap_or(tile);
        let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        let hashes = match tiles.get(&held) {
            Some(hashes) => hashes.clone(),
            None => {
                let hashes = Arc::new(self.dir.hashes(held)?);
                if tiles.len() >= TILES_MAX {
                    tiles.clear();
                }
                tiles.insert(held, hashes.clone());
                hashes
            }
        };
        Ok(hashes.iter().take(usize::from(tile.width())).copied().collect())
    }
}

fn dir_error(error: ProofError<DirError>) -> ViewError {
    ViewError::Dir(match error {
        ProofError::Read(error) => error,
        ProofError::Tree(error) => DirError::Tree(error),
    })
}

impl From<TreeError> for ViewError {
    fn from(error: TreeError) -> ViewError {
        ViewError::Dir(DirError::Tree(error))
    }
}

#[cfg(test)]
mod tests;
