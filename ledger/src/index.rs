//! The index for queries: which records are of a type, a stream, a time, about a rule, a control, an incident.
//!
//! It lies beside the ledger, in `<LEDGER>.index/<volume>/`, is derived, and may be deleted at any time: what is missing, stale or damaged
//! is built again from the records. One file covers up to 65,536 records and never changes; the last one, while it is not full, is replaced
//! by a longer one. Each says under which root its last record stands; the root is computed from the ledger's own tiles when the index is opened,
//! so that the index of another history is not believed.
//!
//! It is never trusted: what it finds is read from the ledger, looked at again, and proven. A wrong index can leave records out, and
//! nothing else. Where its folder may not be written (read-only media), it is made in memory and said so.
//!
//! Per record it has 2 to 4 bytes (2.4 for evidence that names a control out of 40 and a rule out of 100): a byte for its type and one for its
//! stream where records of a kind stand close together, and one for each rule, control or incident that it names. On two cores it is built
//! from 600,000 records of 740 bytes a second.

mod query;
mod segment;
mod terms;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, Sequence, TreeSize};
use thiserror::Error;

use crate::dir::{DirError, LedgerDir};
use crate::disk::{DirDisk, Disk};
use crate::files::Readers;
use crate::tile::{TILE_WIDTH, TileHashes, TileId, TileKind};
use crate::tree;
use segment::{Builder, SEGMENT_FILE_LEN_MAX, SEGMENT_RECORDS, Segment};
use terms::Seen;
#[cfg(test)]
pub(crate) use terms::VALUES_MAX;

pub use query::{Query, StreamName};

/// Most threads that build.
const THREADS_MAX: usize = 8;

/// Why nothing can be found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The ledger's own files cannot be read.
    #[error(transparent)]
    Ledger(#[from] DirError),
    /// The name is that of a node with several streams.
    #[error("{name} has {count} streams, and each counts from 0: name one, for example {example}")]
    SeveralStreams {
        /// The name that was given.
        name: String,
        /// How many.
        count: usize,
        /// One of them.
        example: String,
    },
}

/// What became of the index when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Built {
    /// Records that were read to build it, all or what had come since.
    pub records: u64,
    /// What was found and not used: file and reason.
    pub refused: Vec<(String, &'static str)>,
    /// Why it could not be kept: it was made in memory for this once.
    pub unkept: Option<String>,
}

/// The index of one volume, up to one checkpoint.
#[derive(Debug)]
pub struct Index {
    segments: Vec<Segment>,
    built: Built,
}

impl Index {
    /// Opens the index in `folder` of the volume in `ledger`, whose checkpoint is of `size` records, and brings it up to that.
    /// `progress` is told how many records were read, and how many will be.
    ///
    /// # Errors
    /// [`IndexError::Ledger`]: records or tiles cannot be read.
    pub fn open(
        folder: &Path,
        ledger: &LedgerDir,
        origin: &str,
        size: TreeSize,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Index, IndexError> {
        let disk = DirDisk::read_by(folder.to_owned(), Readers::Everybody);
        Opening::new(&disk, folder, ledger, origin, size).run(progress)
    }

    /// What opening it took.
    #[must_use]
    pub fn built(&self) -> &Built {
        &self.built
    }

    /// The records that may be what is asked for, in order. Whoever asks reads them and looks: [`Query::takes`].
    pub fn candidates<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = RecordIndex> + 'a {
        self.segments.iter().flat_map(|segment| {
            let first = segment.first;
            let offsets = segment.candidates(query).offsets();
            offsets.into_iter().map(move |offset| RecordIndex(first + u64::from(offset)))
        })
    }

    /// The same, newest first.
    pub fn candidates_newest_first<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = RecordIndex> + 'a {
        self.segments.iter().rev().flat_map(|segment| {
            let first = segment.first;
            let offsets = segment.candidates(query).offsets();
            offsets.into_iter().rev().map(move |offset| RecordIndex(first + u64::from(offset)))
        })
    }

    /// The record of a stream with this sequence, if the volume has it. `stream` is a stream's id, or that of a node with one stream.
    /// `read` reads a record of the ledger.
    ///
    /// # Errors
    /// What `read` says; [`IndexError::SeveralStreams`].
    pub fn find<E: From<IndexError>>(
        &self,
        stream: &StreamName,
        sequence: Sequence,
        mut read: impl FnMut(RecordIndex) -> Result<Vec<u8>, E>,
    ) -> Result<Option<RecordIndex>, E> {
        let mut names: Vec<&str> =
            self.segments.iter().flat_map(Segment::streams).filter(|name| stream.takes(name)).collect();
        names.sort_unstable();
        names.dedup();
        let name = match names[..] {
            [] => return Ok(None),
            [name] => name,
            [example, ..] => {
                let (name, count, example) = (stream.as_str().to_owned(), names.len(), example.to_owned());
                return Err(IndexError::SeveralStreams { name, count, example }.into());
            }
        };
        for segment in &self.segments {
            let Some((lowest, offsets)) = segment.stream(name, sequence.0) else { continue };
            let (mut from, mut to) = (0, offsets.len());
            // Where no number is missing, the first look is right.
            let mut at = usize::try_from(sequence.0 - lowest).unwrap_or(usize::MAX).min(to - 1);
            while from < to {
                let index = RecordIndex(segment.first + u64::from(offsets[at]));
                let record = read(index)?;
                let found = Seen::read(&record).and_then(|seen| seen.sequence());
                match found.map(|found| found.cmp(&sequence.0)) {
                    Some(std::cmp::Ordering::Equal) => return Ok(Some(index)),
                    Some(std::cmp::Ordering::Less) => from = at + 1,
                    Some(std::cmp::Ordering::Greater) | None => to = at,
                }
                at = usize::midpoint(from, to);
            }
        }
        Ok(None)
    }
}

/// An index that is being opened.
struct Opening<'a> {
    disk: &'a dyn Disk,
    /// The disk's root.
    folder: &'a Path,
    ledger: &'a LedgerDir,
    origin: Digest,
    size: TreeSize,
    tiles: Mutex<HashMap<TileId, Vec<Digest>>>,
    unkept: Mutex<Option<String>>,
}

impl<'a> Opening<'a> {
    fn new(disk: &'a dyn Disk, folder: &'a Path, ledger: &'a LedgerDir, origin: &str, size: TreeSize) -> Opening<'a> {
        let origin = Digest::sha256(origin.as_bytes());
        Opening { disk, folder, ledger, origin, size, tiles: Mutex::default(), unkept: Mutex::default() }
    }

    fn run(self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<Index, IndexError> {
        let mut built = Built::default();
        let mut found = self.read_all(&mut built)?;

        // What is to be built: whole segments, and the rest of the last one.
        let starts: Vec<u64> = (0..self.size.0).step_by(SEGMENT_RECORDS as usize).collect();
        let mut wanted = Vec::new();
        for start in starts {
            let end = (start + SEGMENT_RECORDS).min(self.size.0);
            let begun = found.remove(&start);
            match begun {
                Some(segment) if segment.end() == end => {
                    found.insert(start, segment);
                }
                Some(segment) => wanted.push((Builder::resume(&segment), end)),
                None => wanted.push((Builder::new(start), end)),
            }
        }
        let total: u64 = wanted.iter().map(|(builder, end)| end - builder.end()).sum();
        built.records = total;
        let done = AtomicU64::new(0);
        let told = |count| progress(done.fetch_add(count, Ordering::Relaxed) + count, total);
        for segment in self.build(wanted, &told)? {
            found.insert(segment.first, segment);
        }
        built.unkept = self.unkept.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut segments: Vec<Segment> = found.into_values().collect();
        segments.sort_unstable_by_key(|segment| segment.first);
        Ok(Index { segments, built })
    }

    /// The segments that are there and fit this ledger, by their first record; the longest of those with the same.
    fn read_all(&self, built: &mut Built) -> Result<HashMap<u64, Segment>, IndexError> {
        let mut found: HashMap<u64, Segment> = HashMap::new();
        let Ok(names) = self.disk.list("") else { return Ok(found) };
        for name in names {
            if !name.ends_with(".idx") {
                continue;
            }
            match self.read_one(&name)? {
                Ok(segment) => {
                    let shorter = found.get(&segment.first).is_none_or(|other| other.count < segment.count);
                    if shorter {
                        found.insert(segment.first, segment);
                    }
                }
                Err(reason) => built.refused.push((name, reason)),
            }
        }
        built.refused.sort();
        Ok(found)
    }

    fn read_one(&self, name: &str) -> Result<Result<Segment, &'static str>, IndexError> {
        if self.disk.len(name).is_ok_and(|len| len > SEGMENT_FILE_LEN_MAX) {
            return Ok(Err("too long"));
        }
        let Ok(bytes) = self.disk.read(name) else { return Ok(Err("not readable")) };
        let segment = match Segment::read(bytes, &self.origin) {
            Ok(segment) => segment,
            Err(reason) => return Ok(Err(reason)),
        };
        if segment.end() > self.size.0 {
            return Ok(Err("ahead of the checkpoint"));
        }
        if self.root_at(segment.end())? != segment.root {
            return Ok(Err("of another history"));
        }
        Ok(Ok(segment))
    }

    /// The root of the tree of so many records, from the tiles of the checkpoint's tree.
    fn root_at(&self, size: u64) -> Result<Digest, DirError> {
        let reader = TileHashes::new(self.size, |tile| self.hashes(tile));
        tree::root(TreeSize(size), &reader)
    }

    fn hashes(&self, tile: TileId) -> Result<Vec<Digest>, DirError> {
        let mut tiles = self.tiles.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(hashes) = tiles.get(&tile) {
            return Ok(hashes.clone());
        }
        let hashes = self.ledger.hashes(tile)?;
        // Every segment's end asks for tiles of its own on level 0 and shares the higher ones.
        if tile.kind() != TileKind::Hashes(0) {
            tiles.insert(tile, hashes.clone());
        }
        Ok(hashes)
    }

    /// Builds segments, several at once.
    fn build(&self, wanted: Vec<(Builder, u64)>, told: &(dyn Fn(u64) + Sync)) -> Result<Vec<Segment>, IndexError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(wanted.len());
        let jobs: Vec<Mutex<Option<(Builder, u64)>>> = wanted.into_iter().map(|job| Mutex::new(Some(job))).collect();
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        let work = || {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let job = job.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                let Some((builder, end)) = job else { continue };
                let made = self.build_one(builder, end, told);
                let failed = made.is_err();
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(made);
                if failed {
                    next.store(jobs.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().collect()
    }

    fn build_one(&self, mut builder: Builder, end: u64, told: &(dyn Fn(u64) + Sync)) -> Result<Segment, IndexError> {
        while builder.end() < end {
            let from = builder.end();
            let tile = TileId::in_tree(TileKind::Entries, from / TILE_WIDTH, self.size)
                .expect("invariant: records before the checkpoint's size are in its tree");
            let records = self.ledger.entries(tile)?;
            let to = end.min((from / TILE_WIDTH + 1) * TILE_WIDTH);
            records[(from % TILE_WIDTH) as usize..].iter().take((to - from) as usize).for_each(|r| builder.push(r));
            told(to - from);
        }
        let segment = builder.finish(self.root_at(end)?);
        if let Err(error) = self.keep(&segment) {
            let mut unkept = self.unkept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            unkept.get_or_insert(format!("{}: {error}", self.folder.display()));
        }
        Ok(segment)
    }

    /// Writes a segment under its name, and removes shorter ones of the same range. Nothing is synced: what a crash spoils is found by its
    /// checksum and built again.
    fn keep(&self, segment: &Segment) -> std::io::Result<()> {
        self.disk.make_root()?;
        let stem = format!("{:020}-", segment.first);
        let name = format!("{stem}{:05}.idx", segment.count);
        let temporary = format!("temporary-{}-{name}", std::process::id());
        self.disk.create(&temporary)?.write_at(0, &segment.to_bytes(&self.origin))?;
        self.disk.rename(&temporary, &name)?;
        for other in self.disk.list("")? {
            let shorter = other.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(".idx"));
            if shorter.and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count < segment.count) {
                // Another process may have removed it first.
                let _ = self.disk.remove(&other);
            }
        }
        Ok(())
    }
}

/// The folder of a volume's index beside a ledger.
///
/// # Errors
/// The path is none: see [`crate::beside::beside`].
pub fn folder(ledger: &Path, volume: u64) -> std::io::Result<PathBuf> {
    Ok(crate::beside::beside(ledger, ".index")?.join(volume.to_string()))
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
