//! A ledger's directory, read from the files that a checkpoint vouches for.
//!
//! This reads volume 1: `checkpoint`, `checkpoints/`, `tile/` and `releases/` at the root. It never looks into `wal/`, so what it
//! sees is what anyone sees who was given a copy of those files. Nothing read here is trusted: bytes are checked for their form
//! only, and whoever needs more compares with a checkpoint whose signature they checked. Every read has a bound.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, Serial, TreeSize};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::location::Location;
use crate::note::{NOTE_LEN_MAX, Note};
use crate::proof::Proof;
use crate::tile::{
    ENTRY_LEN_MAX, HASH_LEN, TILE_WIDTH, TileError, TileHashes, TileId, TileKind, decode_entries, decode_hashes,
};
use crate::tree::{self, ProofError, TreeError};

/// Longest release file that is read, in bytes: a content tar at its limit of 16 MiB, and as much again.
pub const RELEASE_FILE_LEN_MAX: u64 = 32 << 20;
/// The newest checkpoint's file.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// The newest checkpoint that meets the witness policy, where there is one.
pub const COSIGNED_FILE: &str = "cosigned";

/// Why a ledger's directory could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirError {
    /// There is nothing at this path.
    #[error("{} does not exist", .path.display())]
    Absent {
        /// The path.
        path: PathBuf,
    },
    /// There is something, but not a ledger.
    #[error("{} is not a ledger: it has neither `checkpoint` nor `tile/`", .path.display())]
    NotALedger {
        /// The path.
        path: PathBuf,
    },
    /// A file that a tree needs is missing.
    #[error("{file} is missing")]
    Missing {
        /// The path below the ledger's root.
        file: String,
    },
    /// A file is longer than its kind can be.
    #[error("{file} is longer than {limit} bytes")]
    TooLong {
        /// The path below the ledger's root.
        file: String,
        /// The bound.
        limit: u64,
    },
    /// The system could not read it.
    #[error("cannot read {file}")]
    Read {
        /// The path below the ledger's root.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tile's bytes are malformed.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// A checkpoint is malformed.
    #[error("{file}: {source}")]
    Checkpoint {
        /// The path below the ledger's root.
        file: String,
        /// What is wrong with it.
        #[source]
        source: CheckpointError,
    },
    /// A record was asked for that the tree does not have.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A ledger's directory, or with feature `s3` the same files in a bucket.
#[derive(Debug, Clone)]
pub struct LedgerDir {
    root: Location,
}

impl LedgerDir {
    /// Looks whether a ledger is there.
    ///
    /// # Errors
    /// [`DirError::Absent`], [`DirError::NotALedger`], [`DirError::Read`].
    pub fn open(path: &Path) -> Result<LedgerDir, DirError> {
        LedgerDir::at(Location::from(path))
    }

    /// Looks whether a ledger, or one volume of it, is there.
    ///
    /// # Errors
    /// As [`LedgerDir::open`].
    pub fn at(root: Location) -> Result<LedgerDir, DirError> {
        root.holds_ledger()?;
        Ok(LedgerDir { root })
    }

    /// Where it lies.
    #[must_use]
    pub fn root(&self) -> &Location {
        &self.root
    }

    /// The newest checkpoint as it was published.
    ///
    /// # Errors
    /// [`DirError::Missing`], [`DirError::TooLong`], [`DirError::Read`].
    pub fn checkpoint_bytes(&self) -> Result<Vec<u8>, DirError> {
        self.read(CHECKPOINT_FILE, NOTE_LEN_MAX as u64)
    }

    /// The newest checkpoint, its signatures not checked.
    ///
    /// # Errors
    /// As [`LedgerDir::checkpoint_bytes`], and [`DirError::Checkpoint`].
    pub fn checkpoint(&self) -> Result<(Checkpoint, Note), DirError> {
        parse_checkpoint(CHECKPOINT_FILE, &self.checkpoint_bytes()?)
    }

    /// The sizes under `checkpoints/`, rising. Names that are not sizes are left out; [`LedgerDir::files`] shows them.
    ///
    /// # Errors
    /// [`DirError::Read`].
    pub fn numbered(&self) -> Result<Vec<TreeSize>, DirError> {
        Ok(self.numbers("checkpoints")?.into_iter().map(TreeSize).collect())
    }

    /// A retained checkpoint as it was published.
    ///
    /// # Errors
    /// As [`LedgerDir::checkpoint_bytes`].
    pub fn numbered_bytes(&self, size: TreeSize) -> Result<Vec<u8>, DirError> {
        self.read(&numbered_path(size), NOTE_LEN_MAX as u64)
    }

    /// A retained checkpoint, its signatures not checked.
    ///
    /// # Errors
    /// As [`LedgerDir::checkpoint`].
    pub fn numbered_checkpoint(&self, size: TreeSize) -> Result<(Checkpoint, Note), DirError> {
        parse_checkpoint(&numbered_path(size), &self.numbered_bytes(size)?)
    }

    /// The bytes of exactly this tile's file.
    ///
    /// # Errors
    /// [`DirError::Missing`], [`DirError::TooLong`], [`DirError::Read`].
    pub fn tile_bytes(&self, tile: TileId) -> Result<Vec<u8>, DirError> {
        self.read(&tile.to_string(), tile_len_max(tile))
    }

    /// The hashes of a tile. Where a partial tile is gone, the full one's first hashes: partial tiles may be deleted once the full
    /// one exists.
    ///
    /// # Errors
    /// As [`LedgerDir::tile_bytes`], and [`DirError::Tile`].
    pub fn hashes(&self, tile: TileId) -> Result<Vec<Digest>, DirError> {
        match self.tile_bytes(tile) {
            Ok(bytes) => Ok(decode_hashes(tile, &bytes)?),
            Err(missing @ DirError::Missing { .. }) if tile.is_partial() => {
                let full = tile.to_full();
                let Ok(bytes) = self.tile_bytes(full) else { return Err(missing) };
                let mut hashes = decode_hashes(full, &bytes)?;
                hashes.truncate(usize::from(tile.width()));
                Ok(hashes)
            }
            Err(error) => Err(error),
        }
    }

    /// The records of a bundle, falling back on the full bundle as [`LedgerDir::hashes`] does.
    ///
    /// # Errors
    /// As [`LedgerDir::hashes`].
    pub fn entries(&self, tile: TileId) -> Result<Vec<Vec<u8>>, DirError> {
        let owned = |records: Vec<&[u8]>| records.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        match self.tile_bytes(tile) {
            Ok(bytes) => Ok(owned(decode_entries(tile, &bytes)?)),
            Err(missing @ DirError::Missing { .. }) if tile.is_partial() => {
                let full = tile.to_full();
                let Ok(bytes) = self.tile_bytes(full) else { return Err(missing) };
                let mut records = owned(decode_entries(full, &bytes)?);
                records.truncate(usize::from(tile.width()));
                Ok(records)
            }
            Err(error) => Err(error),
        }
    }

    /// The records `range` of the tree of `size` records, in order, one bundle in memory at a time. A bundle that cannot be read
    /// gives one error, and the walk goes on behind it.
    #[must_use]
    pub fn records(&self, range: Range<u64>, size: TreeSize) -> Records<'_> {
        Records { dir: self, size, next: range.start, end: range.end.min(size.0), bundle: Vec::new().into_iter() }
    }

    /// One record of the tree of `size` records.
    ///
    /// # Errors
    /// As [`LedgerDir::entries`], and [`DirError::Tree`] when the tree is smaller.
    pub fn record(&self, index: RecordIndex, size: TreeSize) -> Result<Vec<u8>, DirError> {
        let tile = TileId::in_tree(TileKind::Entries, index.0 / TILE_WIDTH, size)
            .filter(|_| index.0 < size.0)
            .ok_or(TreeError::IndexOutside { index, size })?;
        Ok(self.entries(tile)?.swap_remove((index.0 % TILE_WIDTH) as usize))
    }

    /// The proof that a record is in the tree of `checkpoint`, which is a published one of this ledger.
    ///
    /// # Errors
    /// As [`LedgerDir::hashes`]; [`DirError::Checkpoint`], [`DirError::Tree`].
    pub fn proof(&self, index: RecordIndex, checkpoint: &[u8]) -> Result<Proof, DirError> {
        let (parsed, _) = parse_checkpoint(CHECKPOINT_FILE, checkpoint)?;
        let reader = TileHashes::new(parsed.size, |tile| self.hashes(tile));
        let hashes = tree::inclusion_proof(index, parsed.size, &reader).map_err(|error| match error {
            ProofError::Tree(error) => DirError::Tree(error),
            ProofError::Read(error) => error,
        })?;
        Ok(Proof { extra: None, index, hashes, checkpoint: checkpoint.to_vec() })
    }

    /// The serials under `releases/`, rising.
    ///
    /// # Errors
    /// [`DirError::Read`].
    pub fn serials(&self) -> Result<Vec<Serial>, DirError> {
        Ok(self.numbers("releases")?.into_iter().map(Serial).collect())
    }

    /// A file of a release: `content.tar`, `statement.sigstore.json`, `record.json`, `release.tlog-proof`.
    ///
    /// # Errors
    /// [`DirError::Missing`], [`DirError::TooLong`], [`DirError::Read`].
    pub fn release_file(&self, serial: Serial, name: &str) -> Result<Vec<u8>, DirError> {
        self.read(&format!("releases/{serial}/{name}"), RELEASE_FILE_LEN_MAX)
    }

    /// Every file below the root, as paths with `/`, sorted; `wal/` and what lies in it too. Symbolic links are listed and not
    /// followed.
    ///
    /// # Errors
    /// [`DirError::Read`].
    pub fn files(&self) -> Result<Vec<String>, DirError> {
        let mut files = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for (name, is_folder) in self.list(&folder)? {
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if is_folder { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, bool)>, DirError> {
        let file = || if folder.is_empty() { ".".into() } else { folder.into() };
        self.root.list(folder).map_err(|source| DirError::Read { file: file(), source })
    }

    fn numbers(&self, folder: &str) -> Result<Vec<u64>, DirError> {
        let names = match self.list(folder) {
            Err(DirError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let number = |name: String| name.parse::<u64>().ok().filter(|number| number.to_string() == name);
        let mut numbers: Vec<u64> = names.into_iter().filter_map(|(name, _)| number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads a file of at most `limit` bytes.
    fn read(&self, file: &str, limit: u64) -> Result<Vec<u8>, DirError> {
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DirError::Missing { file: file.to_owned() },
            _ => DirError::Read { file: file.to_owned(), source },
        };
        let bytes = self.root.read(file, limit).map_err(fail)?;
        if bytes.len() as u64 > limit {
            return Err(DirError::TooLong { file: file.to_owned(), limit });
        }
        Ok(bytes)
    }
}

/// `checkpoints/<size>`.
#[must_use]
pub fn numbered_path(size: TreeSize) -> String {
    format!("checkpoints/{size}")
}

fn parse_checkpoint(file: &str, bytes: &[u8]) -> Result<(Checkpoint, Note), DirError> {
    Checkpoint::parse(bytes).map_err(|source| DirError::Checkpoint { file: file.to_owned(), source })
}

fn tile_len_max(tile: TileId) -> u64 {
    let item = match tile.kind() {
        TileKind::Entries => ENTRY_LEN_MAX + 2,
        TileKind::Hashes(_) => HASH_LEN,
    };
    item as u64 * u64::from(tile.width())
}

/// A walk over records; see [`LedgerDir::records`].
#[derive(Debug)]
pub struct Records<'a> {
    dir: &'a LedgerDir,
    size: TreeSize,
    next: u64,
    end: u64,
    bundle: std::vec::IntoIter<Vec<u8>>,
}

impl Iterator for Records<'_> {
    type Item = Result<(RecordIndex, Vec<u8>), DirError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let index = RecordIndex(self.next);
        if let Some(record) = self.bundle.next() {
            self.next += 1;
            return Some(Ok((index, record)));
        }
        let number = self.next / TILE_WIDTH;
        let tile = TileId::in_tree(TileKind::Entries, number, self.size)?;
        match self.dir.entries(tile) {
            Ok(records) => {
                self.bundle = records.into_iter();
                let skip = (self.next % TILE_WIDTH) as usize;
                let record = self.bundle.nth(skip)?;
                self.next += 1;
                Some(Ok((index, record)))
            }
            Err(error) => {
                self.next = (number + 1) * TILE_WIDTH;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::note::NoteSigner;
    use crate::tile::{encode_entry, encode_hashes, fold};

    /// A ledger of `size` records `r0`, `r1`, … written by hand, without the writer.
    fn ledger(size: u64) -> (tempfile::TempDir, LedgerDir, NoteSigner) {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: String, bytes: &[u8]| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let mut levels: Vec<Vec<Digest>> =
            vec![(0..size).map(|index| Digest::leaf(format!("r{index}").as_bytes())).collect()];
        while levels.last().unwrap().len() >= 256 {
            let next = levels.last().unwrap().as_chunks::<256>().0.iter().map(|tile| fold(tile)).collect();
            levels.push(next);
        }
        for tile in TileId::all(TreeSize(size)) {
            let items = tile.index() * 256..tile.index() * 256 + u64::from(tile.width());
            let bytes = match tile.kind() {
                TileKind::Entries => items.fold(Vec::new(), |mut bundle, index| {
                    encode_entry(&mut bundle, format!("r{index}").as_bytes());
                    bundle
                }),
                TileKind::Hashes(level) => {
                    encode_hashes(&levels[usize::from(level)][items.start as usize..items.end as usize])
                }
            };
            write(tile.to_string(), &bytes);
        }
        let signer = NoteSigner::new("test/1", SigningKey::from_bytes(&[1; 32])).unwrap();
        let reader = TileHashes::new(TreeSize(size), |tile: TileId| -> Result<Vec<Digest>, DirError> {
            let TileKind::Hashes(level) = tile.kind() else { unreachable!() };
            let start = (tile.index() * 256) as usize;
            Ok(levels[usize::from(level)][start..start + usize::from(tile.width())].to_vec())
        });
        let root = tree::root(TreeSize(size), &reader).unwrap();
        let checkpoint = Checkpoint { origin: "test/1".into(), size: TreeSize(size), root }.sign(&signer).unwrap();
        write("checkpoint".into(), &checkpoint);
        write(numbered_path(TreeSize(size)), &checkpoint);
        write("checkpoints/.temporary".into(), b"");
        write("releases/2/content.tar".into(), b"tar");
        write("releases/10/content.tar".into(), b"tar");
        let dir = LedgerDir::open(folder.path()).unwrap();
        (folder, dir, signer)
    }

    #[test]
    fn every_record_is_read_and_proven() {
        for size in [1, 255, 256, 257, 600] {
            let (_folder, dir, signer) = ledger(size);
            let records: Vec<_> = dir.records(0..u64::MAX, TreeSize(size)).map(Result::unwrap).collect();
            assert_eq!(records.len() as u64, size);
            let keys = [signer.verifier().clone()];
            let checkpoint = dir.checkpoint_bytes().unwrap();
            for (index, record) in records {
                assert_eq!(record, format!("r{index}").into_bytes());
                assert_eq!(dir.record(index, TreeSize(size)).unwrap(), record);
                let proof = dir.proof(index, &checkpoint).unwrap();
                proof.verify(&Digest::leaf(&record), "test/1", &keys).unwrap();
            }
            assert!(matches!(dir.record(RecordIndex(size), TreeSize(size)), Err(DirError::Tree(_))));
        }
    }

    #[test]
    fn a_walk_goes_on_behind_a_broken_bundle() {
        let (folder, dir, _) = ledger(600);
        std::fs::write(folder.path().join("tile/entries/001"), b"\0").unwrap();
        let walk: Vec<_> = dir.records(200..590, TreeSize(600)).collect();
        assert_eq!(walk.iter().filter(|item| item.is_ok()).count(), 56 + 78);
        assert!(matches!(walk[56], Err(DirError::Tile(TileError::Truncated { index: RecordIndex(256), .. }))));
        assert_eq!(walk[57].as_ref().unwrap().0, RecordIndex(512));
    }

    #[test]
    fn a_full_tile_stands_in_for_a_deleted_partial_one() {
        let (_folder, dir, _) = ledger(600);
        for kind in [TileKind::Entries, TileKind::Hashes(0)] {
            let partial = TileId::in_tree(kind, 0, TreeSize(17)).unwrap();
            assert!(matches!(dir.tile_bytes(partial), Err(DirError::Missing { .. })));
        }
        assert_eq!(dir.hashes(TileId::in_tree(TileKind::Hashes(0), 0, TreeSize(17)).unwrap()).unwrap().len(), 17);
        assert_eq!(dir.entries(TileId::in_tree(TileKind::Entries, 0, TreeSize(17)).unwrap()).unwrap().len(), 17);
        let gone = TileId::in_tree(TileKind::Entries, 2, TreeSize(520)).unwrap();
        let error = dir.entries(gone).unwrap_err();
        assert_eq!(error.to_string(), "tile/entries/002.p/8 is missing");
    }

    #[test]
    fn what_is_there_is_listed() {
        let (folder, dir, _) = ledger(3);
        assert_eq!(dir.numbered().unwrap(), [TreeSize(3)]);
        assert_eq!(dir.numbered_checkpoint(TreeSize(3)).unwrap(), dir.checkpoint().unwrap());
        assert_eq!(dir.serials().unwrap(), [Serial(2), Serial(10)]);
        assert_eq!(dir.release_file(Serial(2), "content.tar").unwrap(), b"tar");
        let files = dir.files().unwrap();
        assert_eq!(files.first().map(String::as_str), Some("checkpoint"));
        assert!(files.contains(&"tile/entries/000.p/3".to_owned()));
        assert!(matches!(LedgerDir::open(&folder.path().join("x")), Err(DirError::Absent { .. })));
        assert!(matches!(LedgerDir::open(&folder.path().join("releases")), Err(DirError::NotALedger { .. })));
    }

    #[test]
    fn lengths_at_their_bound_and_one_past_it() {
        let (folder, dir, _) = ledger(300);
        let tile = TileId::full(TileKind::Hashes(0), 0);
        assert_eq!(dir.tile_bytes(tile).unwrap().len(), 8192);
        std::fs::write(folder.path().join("tile/0/000"), [0; 8193]).unwrap();
        assert!(matches!(dir.hashes(tile), Err(DirError::TooLong { limit: 8192, .. })));
        std::fs::write(folder.path().join("checkpoint"), vec![b'x'; NOTE_LEN_MAX + 1]).unwrap();
        assert!(matches!(dir.checkpoint(), Err(DirError::TooLong { .. })));
    }
}
