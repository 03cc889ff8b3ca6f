//! Where a ledger lies, as its writer sees it: files that never change, a `checkpoint` that is replaced, and a log of acknowledged
//! records. [`DirStore`] keeps them in a directory: the log is the write-ahead log, and every file goes through [`crate::durable`].
//! The other store is a bucket (feature `s3`).
//!
//! What a crash may leave is the contract that the writer is built on. A file is there whole or not at all. When a call returned,
//! what it did survives any crash; when it failed, nobody knows which of its files are there, and it may be made again.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::RecordIndex;
use thiserror::Error;

use crate::dir::{CHECKPOINT_FILE, COSIGNED_FILE};
use crate::disk::{Below, Disk, LockGuard};
use crate::durable::{self, Folders, NewFile};
use crate::streams::Written;
use crate::volume;
use crate::wal::{self, Found, Replay, Wal, WalError};
use crate::writer::PUBLISH_INTERVAL;

/// The file whose lock the one writer of a directory holds.
const LOCK_FILE: &str = "lock";

/// Why files could not be written.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("cannot write the ledger's files")]
    Io(#[from] io::Error),
    /// A file that never changes is there already, and is another one.
    #[error("{path} exists with other bytes than the records determine")]
    Conflict { path: String },
}

/// Files and a log under one root. Paths are relative to it, with `/`.
pub(crate) trait Store: Send + Sync {
    /// Makes this process the one writer, or fails with `WouldBlock` where another one is. `create`: a ledger is about to be made.
    fn lock(&self, create: bool) -> io::Result<LockGuard>;

    /// The whole file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// The names in a folder, in no order; of files, and of folders where the store has any.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Writes files that never change, all of them durable when this returns. One that is there with the same bytes is left from an
    /// attempt that was cut short.
    fn write(&self, files: &[NewFile]) -> Result<(), StoreError>;

    /// [`Store::write`] of one file of the ledger's root that a record will name by its digest, such as a blob. Whichever volume is
    /// written: the file belongs to all.
    fn write_named(&self, file: &NewFile) -> Result<(), StoreError> {
        self.write(std::slice::from_ref(file))
    }

    /// Puts a file in the place of an older one, in one step.
    fn replace(&self, file: &NewFile) -> Result<(), StoreError>;

    /// Under load a checkpoint is published this often, unless somebody waits for one.
    fn publish_interval(&self) -> Duration {
        PUBLISH_INTERVAL
    }

    /// How release files are put here, where whoever makes releases cannot write them as files.
    fn release_files(&self) -> Option<&dyn ReleaseFiles> {
        None
    }

    /// Removes a folder of partial tiles whose full tile is durable. Where it is gone already, so be it.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;

    /// What the log of the volume with this origin holds from record `next` on.
    fn replay(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Replaying + '_>, WalError>;

    /// Forgets the whole log: all of its records are in durable tiles under a durable checkpoint.
    fn clear_log(&self) -> Result<(), WalError>;

    /// Begins an empty log whose first record is `next`; the one before was forgotten. See [`Replaying::go_on`] for one that was not.
    fn start_log(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Log>, WalError>;

    /// The store of volume `volume`, from 2, where this one's root is the ledger's. `make`: its folder is made, durable. The lock of the
    /// ledger's root is that of all its volumes.
    fn volume(&self, volume: u64, make: bool) -> io::Result<Arc<dyn Store>>;

    /// Removes a volume that is not the newest, where this store's root is the ledger's. A mark says so before anything is gone
    /// ([`volume::dropped_mark`]), and goes when nothing is left: between the two nobody takes what is there for a volume, and removing
    /// it again goes on.
    fn remove_volume(&self, volume: u64) -> io::Result<()>;
}

/// Release files in a store that is no directory. What each call did is durable when it returns.
pub(crate) trait ReleaseFiles {
    /// Puts a file that no record names yet; what an earlier attempt left goes.
    fn stage(&self, path: &str, bytes: Vec<u8>) -> io::Result<()>;

    /// Makes sure that a file that a durable record names is there with these bytes, and locks it. Safe to repeat.
    fn settle(&self, path: &str, bytes: Vec<u8>) -> Result<(), StoreError>;

    /// Removes a file that no record names.
    fn unstage(&self, path: &str) -> io::Result<()>;

    /// The paths of all files below a folder.
    fn below(&self, folder: &str) -> io::Result<Vec<String>>;
}

/// Records of a log that are still to be read, on any thread. The log ends before the first part that fails.
pub(crate) type UnreadPart = Box<dyn FnOnce() -> Result<Vec<Found>, WalError> + Send>;

/// A log that is read after a crash.
pub(crate) trait Replaying {
    /// The next records, in order and not too many to hold; `None` at the log's end.
    fn next_part(&mut self) -> Result<Option<Vec<Found>>, WalError>;

    /// [`Replaying::next_part`] for whoever reads several at the same time.
    fn next_unread(&mut self) -> Result<Option<UnreadPart>, WalError> {
        Ok(self.next_part()?.map(|records| -> UnreadPart { Box::new(|| Ok(records)) }))
    }

    /// After the end: goes on with the log behind what it holds, and what it holds stays until it is covered. When this returns, all
    /// that was read survives any crash. `None`: this store publishes first, and then begins its log anew.
    fn go_on(self: Box<Self>) -> Result<Option<Box<dyn Log>>, WalError> {
        Ok(None)
    }
}

/// Waits until a group is durable.
pub(crate) type Durable = Box<dyn FnOnce() -> Result<(), WalError> + Send>;

/// What another thread may do for a log, told how many records are in durable tiles under a durable checkpoint.
pub(crate) type Groundwork = Box<dyn Fn(u64) + Send>;

/// The log while it is written. Owned by the one thread that commits.
pub(crate) trait Log: Send {
    /// What to call after each checkpoint, so that the thread that commits need not do it.
    fn groundwork(&self) -> Option<Groundwork> {
        None
    }

    /// How many groups may be on their way at once, from 2; 0 where [`Log::append`] stands still until its group is durable.
    fn in_flight_max(&self) -> usize {
        0
    }

    /// Makes room for a group of at most `bytes`, whose first record is `next`; every record before `covered` is in durable tiles
    /// under a durable checkpoint.
    ///
    /// # Errors
    /// There is no room. Nothing changed; ask again later.
    fn reserve(&mut self, bytes: u64, next: RecordIndex, covered: u64) -> Result<(), WalError>;

    /// Writes a group. `None`: it is durable, and its records are acknowledged. Otherwise it is on its way, the next one may follow,
    /// and its records are acknowledged when the returned wait is over without an error, and so are all waits before it.
    ///
    /// # Errors
    /// Nobody knows what became of the group. The log must not be written again; opening the ledger repairs it.
    fn append(&mut self, first: RecordIndex, records: &[Written]) -> Result<Option<Durable>, WalError>;
}

/// A directory of the machine, or what tests put in its place.
pub(crate) struct DirStore {
    disk: Arc<dyn Disk>,
    segment_len: u64,
    folders: Mutex<Folders>,
}

impl DirStore {
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_len: u64) -> DirStore {
        DirStore { disk, segment_len, folders: Mutex::new(Folders::default()) }
    }

    /// What is known of the folders. Who finds it in use, because somebody publishes while somebody else keeps a checkpoint, starts from
    /// nothing: a folder is then made sure of once more.
    fn with_folders<T>(&self, act: impl FnOnce(&dyn Disk, &mut Folders) -> T) -> T {
        match self.folders.try_lock() {
            Ok(mut folders) => act(&*self.disk, &mut folders),
            Err(_) => act(&*self.disk, &mut Folders::default()),
        }
    }

    /// Writes `checkpoint` again. It may be there by a rename that was never synced, because the process ended in between: the log of
    /// what it covers is about to go, and an older one must not come back.
    fn renew_checkpoint(&self) -> Result<(), WalError> {
        match self.disk.read(CHECKPOINT_FILE) {
            Ok(bytes) => {
                let checkpoint = NewFile { path: CHECKPOINT_FILE.to_owned(), bytes };
                self.with_folders(|disk, folders| durable::write_files(disk, folders, &[checkpoint]))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(|source| WalError::Io { action: "write again", path: CHECKPOINT_FILE.to_owned(), source })
    }
}

impl Store for DirStore {
    fn lock(&self, _create: bool) -> io::Result<LockGuard> {
        self.disk.lock(LOCK_FILE)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    /// What was published never changes. Files can be there only from an attempt that a crash or an error cut short, with the same
    /// bytes, since both follow from the same durable records. They are written again all the same: that attempt's sync may
    /// be the one that failed.
    fn write(&self, files: &[NewFile]) -> Result<(), StoreError> {
        for file in files {
            match self.disk.read(&file.path) {
                Ok(bytes) if bytes != file.bytes => return Err(StoreError::Conflict { path: file.path.clone() }),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(self.with_folders(|disk, folders| durable::write_files(disk, folders, files))?)
    }

    fn replace(&self, file: &NewFile) -> Result<(), StoreError> {
        Ok(self.with_folders(|disk, folders| durable::write_files(disk, folders, std::slice::from_ref(file)))?)
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        durable::remove_folder(&*self.disk, &mut folders, folder)
    }

    fn replay(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Replaying + '_>, WalError> {
        Ok(Box::new(SegmentReplay { store: self, replay: Replay::new(&*self.disk, origin, next)? }))
    }

    fn clear_log(&self) -> Result<(), WalError> {
        self.renew_checkpoint()?;
        self.disk.create_folder(wal::WAL_FOLDER).map_err(|source| WalError::Io {
            action: "make",
            path: wal::WAL_FOLDER.to_owned(),
            source,
        })?;
        wal::clear(&*self.disk)
    }

    fn start_log(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Log>, WalError> {
        Ok(Box::new(Wal::start(self.disk.clone(), origin, self.segment_len, next)?))
    }

    fn volume(&self, volume: u64, make: bool) -> io::Result<Arc<dyn Store>> {
        let folder = volume::folder(volume);
        if make {
            self.with_folders(|disk, folders| folders.ensure(disk, &folder))?;
        }
        Ok(Arc::new(DirStore::new(Arc::new(Below::new(self.disk.clone(), folder)), self.segment_len)))
    }

    fn remove_volume(&self, volume: u64) -> io::Result<()> {
        let mark = volume::dropped_mark(volume);
        // 1. The mark. A crash before it is durable leaves the volume whole; one that an earlier attempt left may not be durable yet.
        if self.disk.read(&mark).is_err() {
            drop(self.disk.create(&mark)?);
        }
        self.disk.sync_folder(volume::VOLUME_FOLDER)?;
        // 2. What it had, the checkpoint first: who is served the files one by one, and not the mark, sees no volume from here on.
        for file in [CHECKPOINT_FILE, COSIGNED_FILE] {
            remove_all(&*self.disk, &volume::path(volume, file))?;
        }
        // A crash before these names are durably gone may bring back anything of the volume, and the mark is there.
        if volume > 1 {
            remove_all(&*self.disk, &volume::folder(volume))?;
            self.disk.sync_folder(volume::VOLUME_FOLDER)?;
        } else {
            for folder in ["tile", "checkpoints", wal::WAL_FOLDER] {
                remove_all(&*self.disk, folder)?;
            }
            self.disk.sync_folder("")?;
        }
        // 3. The mark goes. Not synced: one that comes back marks nothing, and goes at the next opening.
        self.disk.remove(&mark)
    }
}

/// Removes a file, or a folder with everything in it. Where there is nothing, so be it.
fn remove_all(disk: &dyn Disk, path: &str) -> io::Result<()> {
    let absent = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    match disk.list(path) {
        Ok(names) => {
            names.iter().try_for_each(|name| remove_all(disk, &format!("{path}/{name}")))?;
            absent(disk.remove_folder(path))
        }
        Err(_) => absent(disk.remove(path)),
    }
}

struct SegmentReplay<'a> {
    store: &'a DirStore,
    replay: Replay,
}

impl Replaying for SegmentReplay<'_> {
    fn next_part(&mut self) -> Result<Option<Vec<Found>>, WalError> {
        self.replay.segment()?.map(|unread| unread.read(&*self.store.disk)).transpose()
    }

    fn next_unread(&mut self) -> Result<Option<UnreadPart>, WalError> {
        let disk = self.store.disk.clone();
        Ok(self.replay.segment()?.map(|unread| -> UnreadPart { Box::new(move || unread.read(&*disk)) }))
    }

    fn go_on(self: Box<Self>) -> Result<Option<Box<dyn Log>>, WalError> {
        let SegmentReplay { store, replay } = *self;
        store.renew_checkpoint()?;
        Ok(Some(Box::new(replay.go_on(store.disk.clone(), store.segment_len)?)))
    }
}

impl Log for Wal {
    fn groundwork(&self) -> Option<Groundwork> {
        Some(Box::new(Wal::groundwork(self)))
    }

    fn reserve(&mut self, bytes: u64, next: RecordIndex, covered: u64) -> Result<(), WalError> {
        Wal::reserve(self, bytes, next, covered)
    }

    fn append(&mut self, first: RecordIndex, records: &[Written]) -> Result<Option<Durable>, WalError> {
        Wal::append(self, first, records.iter().map(|(record, _)| &**record)).map(|()| None)
    }
}
