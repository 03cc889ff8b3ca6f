//! A copy of a ledger in a directory: from a directory, over HTTP, from a bucket; again and again, each time what is new.
//!
//! A mirror checks nothing. What it copies is for `cairn verify`, which trusts no copy and no original. It promises only this: a file that
//! never changes is never replaced by other bytes (where the original has others now, the mirror keeps its own and says so), and at any
//! moment the mirror's `checkpoint` covers nothing that is not there.
//!
//! The order: the checkpoints are read first and written last. What lies under them is copied in between, each file under a temporary
//! name, synced, renamed; partial tiles that only the checkpoint before needed go after the new one is durable. A crash or an interruption leaves the old checkpoint with everything it covers, and the next run goes on: what has
//! its name is whole. Of a bucket, every version and delete marker is written down in `versions.jsonl` as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use cairn_schemas::ids::TreeSize;
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::dir::{CHECKPOINT_FILE, COSIGNED_FILE};
use crate::disk::{DirDisk, Disk};
use crate::durable::{Folders, parent};
use crate::files;
use crate::tile::TileId;
use crate::volume;

mod source;
#[cfg(feature = "s3")]
mod versions;

pub use source::{Source, SourceError};
#[cfg(feature = "s3")]
pub use versions::VERSIONS_FILE;

use source::{Files, Found};

/// Files that are copied at once.
const COPIES: usize = 8;
/// Where files are that do not have their name yet; gone at the end of a run.
const TEMPORARY_FOLDER: &str = "mirror.tmp";
/// How often the original is listed again where a tile was removed, because its full one came, between the list and the read.
const LISTS: usize = 5;
/// Most files that differ, or are missing, that are named.
pub const NAMED_MAX: usize = 100;

/// Why a mirror could not be brought up to date. What was copied stays, and the next run goes on from there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The original cannot be read.
    #[error("cannot read {what} of {from}: {reason}")]
    Source {
        /// Where from.
        from: String,
        /// The file, or `the list of files`.
        what: String,
        /// Why not.
        reason: String,
    },
    /// There is no ledger there.
    #[error("there is no ledger at {from}: it has no `checkpoint`")]
    NoLedger {
        /// Where.
        from: String,
    },
    /// A checkpoint is none.
    #[error("{file} of the original is malformed")]
    Checkpoint {
        /// Which.
        file: String,
        /// What is wrong.
        #[source]
        source: CheckpointError,
    },
    /// The mirror is a ledger that somebody writes.
    #[error("{} is a ledger that is written there, and not a mirror: it has `{found}`", .dir.display())]
    NotAMirror {
        /// The directory.
        dir: PathBuf,
        /// What a mirror never has.
        found: &'static str,
    },
    /// Another process is at it.
    #[error("another process is copying into {}", .dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The mirror holds another ledger.
    #[error("{} is a mirror of {held}, and this is {found}", .dir.display())]
    OtherLedger {
        /// The directory.
        dir: PathBuf,
        /// The origin that it has.
        held: String,
        /// The original's.
        found: String,
    },
    /// The original's checkpoint is older than the mirror's.
    #[error("{file} covered {held} records when it was copied, and now covers {found}: the original was rolled back")]
    RolledBack {
        /// Which checkpoint.
        file: String,
        /// The mirror's.
        held: TreeSize,
        /// The original's.
        found: TreeSize,
    },
    /// The mirror cannot be written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MirrorError + use<> {
    let path = path.to_owned();
    move |source| MirrorError::Io { action, path, source }
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Each volume, rising, and how many records the mirror's checkpoint of it covers.
    pub volumes: Vec<(u64, TreeSize)>,
    /// Files that were copied.
    pub copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there.
    pub present: u64,
    /// Partial tiles that were removed, since their full tile is there.
    pub removed: u64,
    /// Files that never change, and that the original has with another length now. The mirror keeps what it has. The first
    /// [`NAMED_MAX`].
    pub differing: Vec<String>,
    /// Tiles that a checkpoint needs and that the original does not have. The first [`NAMED_MAX`].
    pub missing: Vec<String>,
    /// Versions and delete markers in `versions.jsonl`, where the original is a bucket.
    pub versions: Option<u64>,
}

impl Mirrored {
    /// Whether the mirror is what the original should be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.differing.is_empty() && self.missing.is_empty()
    }
}

/// A volume's checkpoints as they were read.
struct Heads {
    volume: u64,
    size: TreeSize,
    checkpoint: Vec<u8>,
    cosigned: Option<Vec<u8>>,
}

/// Brings the mirror in `dir` up to date. `progress` is told how many of how many files are done, from several threads.
///
/// # Errors
/// [`MirrorError`].
pub fn mirror(source: &Source, dir: &Path, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<Mirrored, MirrorError> {
    let original = source.open()?;
    let heads = read_heads(&*original)?;
    let lock = prepare(dir)?;
    let disk = DirDisk::read_by(dir.to_owned(), files::Readers::Everybody);
    let target = Target { disk: &disk, dir };
    let mut mirrored = copy_under(&*original, &target, &heads, COPIES, progress)?;

    // 3. What the bucket holds beside the newest versions.
    #[cfg(feature = "s3")]
    if let Source::S3(place) = source {
        mirrored.versions = Some(versions::write(place, dir)?);
    }

    finish(&target, &heads, &mut mirrored)?;
    drop(lock);
    Ok(mirrored)
}

/// The mirror's directory.
struct Target<'a> {
    disk: &'a dyn Disk,
    /// What people are told that it is.
    dir: &'a Path,
}

impl Target<'_> {
    fn failed(&self, action: &'static str, path: &str) -> impl FnOnce(io::Error) -> MirrorError + use<> {
        io_error(action, &self.dir.join(path))
    }
}

/// Steps 1 and 2: everything but the checkpoints.
fn copy_under(
    original: &dyn Files,
    target: &Target<'_>,
    heads: &[Heads],
    copies: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Mirrored, MirrorError> {
    for head in heads {
        check_head(target, head)?;
    }
    let mut mirrored = Mirrored::default();
    // A run that was cut short left this, and names that may not be durable: what it copied is here and may be gone after a crash.
    let cut_short = target.disk.list(TEMPORARY_FOLDER).is_ok();
    target.disk.create_folder(TEMPORARY_FOLDER).map_err(target.failed("make", TEMPORARY_FOLDER))?;

    // 1. What lies under the checkpoints. What was removed between the list and the read is looked for once more.
    let mut left: BTreeSet<String> = BTreeSet::new();
    let mut changed: BTreeSet<String> = BTreeSet::new();
    for attempt in 0..LISTS {
        let found = original.list(&heads.iter().map(|head| (head.volume, head.size)).collect::<Vec<_>>())?;
        let found: BTreeMap<String, Found> = found.into_iter().map(|found| (found.path.clone(), found)).collect();
        let wanted = wanted(heads, &found);
        left = wanted.missing;
        let copier = Copier::new(original, target, cut_short, progress);
        copier.run(&wanted.files, copies)?;
        mirrored.copied += copier.copied.load(Ordering::Relaxed);
        mirrored.bytes += copier.bytes.load(Ordering::Relaxed);
        mirrored.present = copier.present.load(Ordering::Relaxed);
        mirrored.differing = take(copier.differing);
        changed.extend(take(copier.changed));
        left.extend(take(copier.gone));
        if left.is_empty() || attempt + 1 == LISTS {
            break;
        }
    }
    mirrored.missing = left.into_iter().take(NAMED_MAX).collect();
    mirrored.differing.truncate(NAMED_MAX);

    // 2. Bytes and names are durable before a checkpoint speaks of them.
    for folder in &changed {
        target.disk.sync_folder(folder).map_err(target.failed("sync", folder))?;
    }
    Ok(mirrored)
}

/// Steps 4 and 5: the checkpoints, and what they make superfluous.
fn finish(target: &Target<'_>, heads: &[Heads], mirrored: &mut Mirrored) -> Result<(), MirrorError> {
    // 4. The checkpoints. One that needs a tile which is not to be had is copied too: what is missing is for the verifier to say.
    for head in heads {
        let replace = |name: &str, bytes: &[u8]| {
            let path = volume::path(head.volume, name);
            files::replace_on(target.disk, target.dir, &path, bytes)
                .map_err(|error| io_error("write", &error.path)(error.source))
        };
        replace(CHECKPOINT_FILE, &head.checkpoint)?;
        if let Some(cosigned) = &head.cosigned {
            replace(COSIGNED_FILE, cosigned)?;
        }
        mirrored.volumes.push((head.volume, head.size));
    }

    // 5. Partial tiles go when no checkpoint that a crash may bring back needs them. What comes back of them harms nobody.
    for head in heads {
        mirrored.removed += remove_superseded(target, head)?;
    }
    let failed = || target.failed("remove", TEMPORARY_FOLDER);
    for name in target.disk.list(TEMPORARY_FOLDER).map_err(failed())? {
        target.disk.remove(&format!("{TEMPORARY_FOLDER}/{name}")).map_err(failed())?;
    }
    target.disk.remove_folder(TEMPORARY_FOLDER).map_err(failed())
}

fn take<T: Default>(held: Mutex<T>) -> T {
    held.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Reads each volume's checkpoints. The cosigned one first: it must not be newer than the other.
fn read_heads(original: &dyn Files) -> Result<Vec<Heads>, MirrorError> {
    let mut heads = Vec::new();
    for volume in original.volumes()? {
        let cosigned = original.read(&volume::path(volume, COSIGNED_FILE))?;
        let file = volume::path(volume, CHECKPOINT_FILE);
        let Some(checkpoint) = original.read(&file)? else { continue };
        let parsed = Checkpoint::parse(&checkpoint);
        let (Checkpoint { size, .. }, _) = parsed.map_err(|source| MirrorError::Checkpoint { file, source })?;
        // A bucket's checkpoint without records says only who is about to write the first.
        if size.0 > 0 {
            heads.push(Heads { volume, size, checkpoint, cosigned });
        }
    }
    if heads.is_empty() { Err(MirrorError::NoLedger { from: original.name() }) } else { Ok(heads) }
}

/// Makes the mirror's folder and takes its lock, which is the folder's own: a mirror has no file that a ledger has not.
fn prepare(dir: &Path) -> Result<File, MirrorError> {
    files::create_folder(dir, files::Readers::Everybody)
        .map_err(|error| io_error("make", &error.path)(error.source))?;
    if let Some(found) = ["lock", "wal"].into_iter().find(|name| dir.join(name).exists()) {
        return Err(MirrorError::NotAMirror { dir: dir.to_owned(), found });
    }
    let folder = File::open(dir).map_err(io_error("open", dir))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(MirrorError::Locked { dir: dir.to_owned() }),
        Err(error) => Err(io_error("lock", dir)(error.into())),
    }
}

/// The original's checkpoint must go on from the mirror's.
fn check_head(target: &Target<'_>, head: &Heads) -> Result<(), MirrorError> {
    let file = volume::path(head.volume, CHECKPOINT_FILE);
    let Ok(held) = target.disk.read(&file) else { return Ok(()) };
    let (Ok((held, _)), Ok((found, _))) = (Checkpoint::parse(&held), Checkpoint::parse(&head.checkpoint)) else {
        return Ok(());
    };
    if held.origin != found.origin {
        return Err(MirrorError::OtherLedger { dir: target.dir.to_owned(), held: held.origin, found: found.origin });
    }
    if held.size > found.size {
        return Err(MirrorError::RolledBack { file, held: held.size, found: found.size });
    }
    Ok(())
}

struct Wanted {
    files: Vec<Found>,
    missing: BTreeSet<String>,
}

/// Which volume a path lies in, and its path there.
fn within(path: &str) -> Option<(u64, &str)> {
    let Some(below) = path.strip_prefix("volume/") else { return Some((1, path)) };
    let (number, rest) = below.split_once('/')?;
    volume::parse_number(number).map(|number| (number, rest))
}

/// What of the original belongs into the mirror under these checkpoints.
fn wanted(heads: &[Heads], found: &BTreeMap<String, Found>) -> Wanted {
    let mut wanted = Wanted { files: Vec::new(), missing: BTreeSet::new() };
    for file in found.values() {
        let Some((number, path)) = within(&file.path) else { continue };
        let Some(head) = heads.iter().find(|head| head.volume == number) else { continue };
        let size = head.size;
        let take = match path.split_once('/') {
            // Tiles come below, as the tree needs them. One that lies there and is none of a tree is copied: somebody put it there.
            Some(("tile", _)) => path.parse::<TileId>().is_err(),
            // A later one would look as if `checkpoint` had been rolled back.
            Some(("checkpoints", kept)) => kept.parse::<u64>().map_or(true, |kept| kept <= size.0),
            // What belongs to the writer.
            Some(("wal" | "staging" | TEMPORARY_FOLDER, _)) => false,
            None => !["lock", "writer", CHECKPOINT_FILE, COSIGNED_FILE, "versions.jsonl"].contains(&path),
            Some(_) => true,
        };
        if take {
            wanted.files.push(file.clone());
        }
    }
    for head in heads {
        for tile in TileId::all(head.size) {
            let path = volume::path(head.volume, &tile.to_string());
            let full = volume::path(head.volume, &tile.to_full().to_string());
            match found.get(&path).or_else(|| found.get(&full)) {
                Some(file) => wanted.files.push(file.clone()),
                None => drop(wanted.missing.insert(path)),
            }
        }
    }
    wanted
}

/// Copies files, several at once.
struct Copier<'a> {
    original: &'a dyn Files,
    target: &'a Target<'a>,
    /// Names that are here already may not be durable.
    cut_short: bool,
    progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Folders that are durable.
    folders: Mutex<Folders>,
    copied: AtomicU64,
    bytes: AtomicU64,
    present: AtomicU64,
    done: AtomicU64,
    /// Folders that got a name.
    changed: Mutex<BTreeSet<String>>,
    differing: Mutex<Vec<String>>,
    /// Tiles that were listed and then were not there.
    gone: Mutex<Vec<String>>,
}

impl<'a> Copier<'a> {
    fn new(
        original: &'a dyn Files,
        target: &'a Target<'a>,
        cut_short: bool,
        progress: &'a (dyn Fn(u64, u64) + Sync),
    ) -> Copier<'a> {
        let (folders, copied, bytes, present, done) = Default::default();
        let (changed, differing, gone) = Default::default();
        Copier {
            original,
            target,
            cut_short,
            progress,
            folders,
            copied,
            bytes,
            present,
            done,
            changed,
            differing,
            gone,
        }
    }

    fn run(&self, files: &[Found], copies: usize) -> Result<(), MirrorError> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failed: Mutex<Option<MirrorError>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for worker in 0..copies.min(files.len()) {
                let (next, stop, failed) = (&next, &stop, &failed);
                scope.spawn(move || {
                    while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed))
                        && !stop.load(Ordering::Relaxed)
                    {
                        if let Err(error) = self.copy(file, worker) {
                            stop.store(true, Ordering::Relaxed);
                            lock(failed).get_or_insert(error);
                        }
                        (self.progress)(self.done.fetch_add(1, Ordering::Relaxed) + 1, files.len() as u64);
                    }
                });
            }
        });
        take(failed).map_or(Ok(()), Err)
    }

    fn copy(&self, file: &Found, worker: usize) -> Result<(), MirrorError> {
        let (disk, path) = (self.target.disk, file.path.as_str());
        if let Ok(held) = disk.len(path) {
            self.present.fetch_add(1, Ordering::Relaxed);
            if file.len.is_some_and(|len| len != held) {
                lock(&self.differing).push(file.path.clone());
            }
            if self.cut_short {
                self.ensure(parent(path))?;
            }
            return Ok(());
        }
        let Some(bytes) = self.original.read(&file.path)? else {
            // A partial tile whose full one came. Anything else is not there any more, and so be it.
            if within(&file.path).is_some_and(|(_, path)| path.parse::<TileId>().is_ok()) {
                lock(&self.gone).push(file.path.clone());
            }
            return Ok(());
        };
        self.ensure(parent(path))?;
        let temporary = format!("{TEMPORARY_FOLDER}/{worker}");
        let write = || {
            let mut file = disk.create(&temporary)?;
            file.write_at(0, &bytes)?;
            file.sync()?;
            disk.rename(&temporary, path)
        };
        write().map_err(self.target.failed("write", path))?;
        self.copied.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes sure of a folder, and notes that names in it are to be synced.
    fn ensure(&self, folder: &str) -> Result<(), MirrorError> {
        lock(&self.folders).ensure(self.target.disk, folder).map_err(self.target.failed("make", folder))?;
        lock(&self.changed).insert(folder.to_owned());
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Removes the mirror's partial tiles that its checkpoint does not need any more.
fn remove_superseded(target: &Target<'_>, head: &Heads) -> Result<u64, MirrorError> {
    let mut removed = 0;
    for tile in TileId::all(head.size) {
        let folder = volume::path(head.volume, &tile.partial_folder());
        let Ok(names) = target.disk.list(&folder) else { continue };
        let full_is_there = target.disk.len(&volume::path(head.volume, &tile.to_full().to_string())).is_ok();
        for name in names {
            if !full_is_there && (!tile.is_partial() || name == tile.width().to_string()) {
                continue;
            }
            let path = format!("{folder}/{name}");
            target.disk.remove(&path).map_err(target.failed("remove", &path))?;
            removed += 1;
        }
        // Only an empty one goes.
        let _ = target.disk.remove_folder(&folder);
    }
    Ok(removed)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
