//! From durable records to tiles and a signed checkpoint.
//!
//! [`Integrator::publish`] is the one function that writes what the world sees of a ledger, and recovery runs the same one. It is
//! given records that are durable in the write-ahead log, so every file it makes follows from them: after a crash anywhere in it the same
//! bytes are made again. It holds the right edge of the tree, and changes its own state only when everything is durable.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};
use cairn_schemas::time::Timestamp;
use thiserror::Error;

use crate::bytes::Found;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::dir::{CHECKPOINT_FILE, numbered_path};
use crate::durable::NewFile;
use crate::note::{Note, NoteSigner, VerifierKey};
use crate::parallel::in_order;
use crate::store::{Store, StoreError};
use crate::streams::{Unplaced, Written};
use crate::tile::{
    ENTRY_HEADER_LEN, TILE_HEIGHT, TILE_WIDTH, TileError, TileId, TileKind, decode_entries, decode_hashes,
    encode_entry, encode_hashes, fold,
};
use crate::tree::Frontier;

/// Bundles that one thread reads at a time when a ledger is opened: a MiB, or 64 where all records are as long as they may be.
const BUNDLES_AT_ONCE: u64 = 4;
/// Most records that one checkpoint adds; a longer backlog gets checkpoints on its way.
pub(crate) const PUBLISH_RECORDS_MAX: usize = 16_384;
/// While a ledger grows, a numbered checkpoint is kept at least this often. One is kept as well for every proof that was handed
/// out, at the first checkpoint after opening, and at closing.
pub(crate) const KEEP_INTERVAL: Duration = Duration::from_secs(600);

/// A checkpoint that is durable in the ledger's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCheckpoint {
    /// The signed note.
    pub bytes: Vec<u8>,
    /// How many records it covers.
    pub size: TreeSize,
    /// The root of their tree.
    pub root: Digest,
}

/// Why nothing was published. The integrator is where it was.
#[derive(Debug, Error)]
pub(crate) enum PublishError {
    #[error("cannot write the ledger's files")]
    Io(#[from] io::Error),
    #[error("{path} exists with other bytes than the records determine")]
    Conflict { path: String },
    #[error(transparent)]
    Note(#[from] crate::note::NoteError),
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> PublishError {
        match error {
            StoreError::Io(error) => PublishError::Io(error),
            StoreError::Conflict { path } => PublishError::Conflict { path },
        }
    }
}

/// Why published files cannot be built upon.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// The system could not read a file.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The checkpoint is malformed, of another ledger, or not signed by this ledger's key.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A bundle is malformed.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The records do not hash to the root that was signed.
    #[error("the {size} records under `tile/entries/` hash to {actual}, and the checkpoint says {expected}{}", damaged(.first))]
    Root {
        /// The checkpoint's size.
        size: TreeSize,
        /// The checkpoint's root.
        expected: Digest,
        /// The records' root.
        actual: Digest,
        /// The first record whose hash under `tile/0/` is another one, where there is one.
        first: Option<RecordIndex>,
    },
}

impl EdgeError {
    /// A key that stands in the records is none.
    pub(crate) fn from_note(error: crate::note::NoteError) -> EdgeError {
        EdgeError::Checkpoint(CheckpointError::Note(error))
    }
}

fn damaged(first: &Option<RecordIndex>) -> String {
    first.map_or_else(String::new, |index| format!("; record {index} is the first that differs from `tile/0/`"))
}

/// The right edge: of each tile level the hashes that do not fill a tile, and of the records the bundle that is not full.
#[derive(Clone, Default)]
struct Edge {
    /// The tree of the full bundles.
    full: Frontier,
    levels: Vec<Vec<Digest>>,
    bundle: Vec<u8>,
}

impl Edge {
    fn size(&self) -> TreeSize {
        let leaves = self.levels.first().map_or(0, |leaves| leaves.len() as u64);
        TreeSize(self.full.size().0 + leaves)
    }

    fn root(&self) -> Digest {
        let mut tree = self.full.clone();
        self.levels.first().into_iter().flatten().for_each(|leaf| tree.push(*leaf));
        tree.root()
    }

    /// Appends a record; tiles that it fills go to `full`.
    fn push(&mut self, record: &[u8], leaf: Digest, full: &mut impl FnMut(TileId, Vec<u8>)) {
        encode_entry(&mut self.bundle, record);
        if let Some(hash) = self.rise(0, leaf, full) {
            full(TileId::full(TileKind::Entries, self.full.size().0 / TILE_WIDTH), std::mem::take(&mut self.bundle));
            self.push_bundle(hash, full);
        }
    }

    /// Appends a full bundle, of which this is the root, to full bundles.
    fn push_bundle(&mut self, hash: Digest, full: &mut impl FnMut(TileId, Vec<u8>)) {
        let mut risen = (1, hash);
        while let Some(hash) = self.rise(risen.0, risen.1, full) {
            risen = (risen.0 + 1, hash);
        }
        self.full.push_subtree(TILE_HEIGHT, hash);
    }

    /// Appends a hash to a level; if it fills a tile, that goes to `full`, and its root is the next level's.
    fn rise(&mut self, level: usize, hash: Digest, full: &mut impl FnMut(TileId, Vec<u8>)) -> Option<Digest> {
        while self.levels.len() <= level {
            self.levels.push(Vec::with_capacity(TILE_WIDTH as usize));
        }
        let hashes = &mut self.levels[level];
        hashes.push(hash);
        if hashes.len() < TILE_WIDTH as usize {
            return None;
        }
        let number = self.full.size().0 >> (8 * (level as u32 + 1));
        full(TileId::full(TileKind::Hashes(level as u8), number), encode_hashes(hashes));
        let hash = fold(hashes);
        hashes.clear();
        Some(hash)
    }
}

/// See the module's words. Owned by the one thread that publishes.
pub(crate) struct Integrator {
    store: Arc<dyn Store>,
    signer: NoteSigner,
    edge: Edge,
    kept_at: Option<Timestamp>,
}

impl Integrator {
    /// Of a ledger that has no record yet.
    pub(crate) fn empty(store: Arc<dyn Store>, signer: NoteSigner) -> Integrator {
        Integrator { store, signer, edge: Edge::default(), kept_at: None }
    }

    /// Takes up the volume that `checkpoint` covers. Every record is read and hashed, on all cores, and handed to `each` in order. Nothing
    /// is to be built upon before [`Recovered::check`]: which key had to sign is in the records.
    ///
    /// # Errors
    /// [`EdgeError`].
    pub(crate) fn recover<E: From<EdgeError>>(
        store: Arc<dyn Store>,
        checkpoint: &[u8],
        mut each: impl FnMut(Unplaced) -> Result<(), E>,
    ) -> Result<Recovered<E>, EdgeError> {
        let (Checkpoint { origin, size, root }, note) = Checkpoint::parse(checkpoint)?;
        let mut edge = Edge::default();
        let mut refused = None;
        let mut unread = 0..size.0.div_ceil(TILE_WIDTH);
        let next_part = || -> Result<_, EdgeError> {
            let part = unread.start..unread.end.min(unread.start + BUNDLES_AT_ONCE);
            unread.start = part.end;
            Ok((!part.is_empty()).then_some(part))
        };
        let read = |part: Range<u64>| {
            let bundle = |number| -> Result<_, EdgeError> {
                let records = read_bundle(&*store, number, size)?;
                let leaves: Vec<Digest> = records.iter().map(|record| record.leaf).collect();
                let root = (leaves.len() as u64 == TILE_WIDTH).then(|| fold(&leaves));
                Ok((records, root))
            };
            part.map(bundle).collect::<Result<Vec<_>, EdgeError>>()
        };
        in_order(next_part, &read, |bundles| {
            for (records, root) in bundles? {
                match root {
                    Some(root) => edge.push_bundle(root, &mut |_, _| {}),
                    None => records.iter().for_each(|record| edge.push(&record.bytes, record.leaf, &mut |_, _| {})),
                }
                for record in records {
                    if refused.is_none() {
                        refused = each(record).err();
                    }
                }
            }
            Ok(())
        })?;
        let published = PublishedCheckpoint { bytes: checkpoint.to_vec(), size, root };
        Ok(Recovered { store, edge, origin, note, published, refused })
    }

    /// Goes on with another key: every checkpoint from here on is signed by it.
    pub(crate) fn sign_with(&mut self, signer: NoteSigner) {
        self.signer = signer;
    }

    /// The key that checkpoints are signed with.
    pub(crate) fn signer(&self) -> &NoteSigner {
        &self.signer
    }

    /// The name under which checkpoints are signed.
    pub(crate) fn origin(&self) -> &str {
        self.signer.verifier().name()
    }

    /// Publishes the records that follow the published ones. They are durable in the write-ahead log; `keep` asks for a
    /// numbered checkpoint.
    ///
    /// # Errors
    /// [`PublishError`]: nothing changed for the integrator; any of the files may be there. Calling again with at least these
    /// records is safe.
    pub(crate) fn publish<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a Written>,
        keep: bool,
        now: Timestamp,
    ) -> Result<PublishedCheckpoint, PublishError> {
        let before = &self.edge;
        let mut edge = self.edge.clone();
        let mut files: Vec<NewFile> = Vec::new();

        // 1. Tiles that the records fill, and the partial ones at the new right edge.
        let mut superseded: Vec<TileId> = Vec::new();
        for (record, leaf) in records {
            edge.push(record, *leaf, &mut |tile, bytes| {
                if let Some(partial) = TileId::in_tree(tile.kind(), tile.index(), before.size()) {
                    superseded.push(partial);
                }
                files.push(NewFile { path: tile.to_string(), bytes });
            });
        }
        let size = edge.size();
        for (level, hashes) in edge.levels.iter().enumerate() {
            let kind = TileKind::Hashes(level as u8);
            let grown = size.0 >> (8 * level as u32) > before.size().0 >> (8 * level as u32);
            if let Some(tile) = TileId::in_tree(kind, size.0 >> (8 * (level as u32 + 1)), size)
                && grown
            {
                files.push(NewFile { path: tile.to_string(), bytes: encode_hashes(hashes) });
            }
        }
        if let Some(tile) = TileId::in_tree(TileKind::Entries, size.0 / TILE_WIDTH, size)
            && size > before.size()
        {
            files.push(NewFile { path: tile.to_string(), bytes: edge.bundle.clone() });
        }

        // 2. What was published never changes. Files can be there only from an attempt that a crash or an error cut short, with the same
        //    bytes, since both follow from the same durable records. A crash in here leaves tiles that no checkpoint speaks of. Readers
        //    ignore them, and recovery makes them again.
        self.store.write(&files)?;

        // 3. Partial tiles whose full tile is durable now. Readers of an older checkpoint find the full tile in their place. This comes
        //    before the checkpoint, so that recovery, which starts from the old one, finishes what a crash in here leaves undone.
        for partial in superseded {
            self.store.remove_folder(&partial.partial_folder())?;
        }

        // 4. The checkpoint, signed over records and tiles that are durable. A crash before this leaves the old checkpoint, with all its
        //    tiles; a crash after it leaves the new one. The numbered one comes after it is durable: alone it would look to a verifier as
        //    if `checkpoint` had been rolled back. A crash between the two leaves one fewer kept.
        let checkpoint = Checkpoint { origin: self.signer.verifier().name().to_owned(), size, root: edge.root() };
        let bytes = checkpoint.sign(&self.signer)?;
        let keep = keep || self.kept_at.is_none_or(|kept| now < kept || now.since(kept) >= KEEP_INTERVAL);
        let newest = NewFile { path: CHECKPOINT_FILE.to_owned(), bytes: bytes.clone() };
        self.store.replace(&newest)?;
        if keep {
            let numbered = NewFile { path: numbered_path(size), bytes: bytes.clone() };
            self.store.write(&[numbered])?;
        }

        // 5. From here on the records are published: waiters are told, and the log may forget them.
        if keep {
            self.kept_at = Some(now);
        }
        self.edge = edge;
        Ok(PublishedCheckpoint { bytes, size, root: checkpoint.root })
    }
}

/// A volume whose records were read, and whose checkpoint was not checked yet.
pub(crate) struct Recovered<E> {
    store: Arc<dyn Store>,
    edge: Edge,
    origin: String,
    note: Note,
    published: PublishedCheckpoint,
    refused: Option<E>,
}

impl<E: From<EdgeError>> Recovered<E> {
    /// How many records the checkpoint covers.
    pub(crate) fn size(&self) -> TreeSize {
        self.published.size
    }

    /// Nothing is built upon unless all records hash to the root that `keys` signed for `origin`: the key that was in force.
    ///
    /// # Errors
    /// [`EdgeError`], or what was said about a record.
    pub(crate) fn check(
        self,
        origin: &str,
        keys: &[VerifierKey],
        signer: NoteSigner,
    ) -> Result<(Integrator, PublishedCheckpoint), E> {
        self.note.verify(keys).map_err(CheckpointError::from).map_err(EdgeError::from)?;
        if self.origin != origin {
            let error = CheckpointError::Origin { expected: origin.to_owned(), actual: self.origin };
            return Err(EdgeError::from(error).into());
        }
        let Recovered { store, edge, published, .. } = self.whole()?;
        Ok((Integrator { store, signer, edge, kept_at: None }, published))
    }

    /// What is wrong with the records, if anything is. Damage is the better explanation for a record that makes no sense.
    ///
    /// # Errors
    /// [`EdgeError::Root`], or what was said about a record.
    pub(crate) fn whole(mut self) -> Result<Recovered<E>, E> {
        let Recovered { store, edge, published, .. } = &self;
        let root = edge.root();
        if root != published.root {
            let first = first_damaged(&**store, published.size);
            let (size, expected, actual) = (published.size, published.root, root);
            return Err(EdgeError::Root { size, expected, actual, first }.into());
        }
        match self.refused.take() {
            Some(refused) => Err(refused),
            None => Ok(self),
        }
    }
}

/// The records of a bundle in the tree of `size` records, hashed.
fn read_bundle(store: &dyn Store, number: u64, size: TreeSize) -> Result<Vec<Unplaced>, EdgeError> {
    let tile = TileId::in_tree(TileKind::Entries, number, size).expect("invariant: the tree has this bundle");
    let (held, bytes) = read_tile(store, tile)?;
    let lens: Vec<usize> = decode_entries(held, &bytes)?.iter().map(|record| record.len()).collect();
    let bytes = Arc::new(bytes);
    let mut end = 0;
    let found = lens.into_iter().take(usize::from(tile.width())).map(|len| {
        let start = end + ENTRY_HEADER_LEN;
        end = start + len;
        Found::new(bytes.clone(), start..end)
    });
    Ok(Unplaced::read(found.collect()))
}

/// The first record that does not have the hash that stands in its level-0 tile.
fn first_damaged(store: &dyn Store, size: TreeSize) -> Option<RecordIndex> {
    (0..size.0.div_ceil(TILE_WIDTH)).find_map(|number| {
        let (held, bytes) = read_tile(store, TileId::in_tree(TileKind::Entries, number, size)?).ok()?;
        let hashes = read_hashes(store, TileId::in_tree(TileKind::Hashes(0), number, size)?).ok()?;
        let records = decode_entries(held, &bytes).ok()?;
        let position = records.iter().zip(hashes).position(|(record, hash)| Digest::leaf(record) != hash)?;
        Some(RecordIndex(number * TILE_WIDTH + position as u64))
    })
}

/// The bytes of a tile, or of the full tile in the place of a partial one that was deleted; and which of the two they are.
pub(crate) fn read_tile(store: &dyn Store, tile: TileId) -> Result<(TileId, Vec<u8>), EdgeError> {
    let read = |tile: TileId| {
        let file = tile.to_string();
        store.read(&file).map_err(|source| EdgeError::Read { file, source })
    };
    match read(tile) {
        Err(missing @ EdgeError::Read { .. }) if tile.is_partial() => {
            let full = tile.to_full();
            read(full).map(|bytes| (full, bytes)).map_err(|_| missing)
        }
        bytes => bytes.map(|bytes| (tile, bytes)),
    }
}

/// The hashes of a tile, as [`read_tile`] finds it.
pub(crate) fn read_hashes(store: &dyn Store, tile: TileId) -> Result<Vec<Digest>, EdgeError> {
    let (held, bytes) = read_tile(store, tile)?;
    let mut hashes = decode_hashes(held, &bytes)?;
    hashes.truncate(usize::from(tile.width()));
    Ok(hashes)
}

#[cfg(test)]
mod tests;
