//! What the writer, and what stands beside the ledger, need of a disk; and the real one.
//!
//! Everything that they do to the world goes through [`Disk`], so that tests can run it over a disk that fails at any call
//! and forgets what was not synced. The contract is POSIX's, pessimistically: bytes written are lost in a crash until
//! `DiskFile::sync` returned, a name made, changed or removed until `Disk::sync_folder` of its folder returned, and both may come
//! true in part and in any order before that. Paths are relative to the ledger's root, with `/`.

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::panic::Location;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use crate::files::{Readers, create_folder};

/// Where in the code a sync was asked for. The simulator leaves out one at a time and shows what it is needed for.
pub(crate) type SyncSite = &'static Location<'static>;

/// A file open for writing.
pub(crate) trait DiskFile: Send {
    /// Writes all of `bytes` at `offset`; the file grows where it must.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// What `sync` does.
    fn sync_at(&mut self, site: SyncSite) -> io::Result<()>;
}

impl dyn DiskFile + '_ {
    /// Returns when all that was written, and the length that is needed to read it, will survive a crash. After an error nobody
    /// knows what is on the disk, and calling it again proves nothing: the kernel reports a lost write once.
    #[track_caller]
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.sync_at(Location::caller())
    }
}

/// Held while a lock lasts; dropping it gives the lock back, and so does the process's death.
pub(crate) type LockGuard = Box<dyn Any + Send + Sync>;

/// Files under one root.
pub(crate) trait Disk: Send + Sync {
    /// Makes the root itself, durable in its parent, where it is not there.
    fn make_root(&self) -> io::Result<()> {
        Ok(())
    }
    /// The whole file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// The first `len` bytes of a file, or all where it has fewer.
    fn read_beginning(&self, path: &str, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = self.read(path)?;
        bytes.truncate(len);
        Ok(bytes)
    }
    /// How long a file is. A link is not followed.
    fn len(&self, path: &str) -> io::Result<u64> {
        Ok(self.read(path)?.len() as u64)
    }
    /// The names in a folder, in no order.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// A new, empty file; what had the name before is gone.
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file, its bytes as they are.
    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Atomically gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, folder: &str) -> io::Result<()>;
    /// Makes a folder in an existing one; no error where it exists.
    fn create_folder(&self, folder: &str) -> io::Result<()>;
    /// What `sync_folder` does.
    fn sync_folder_at(&self, folder: &str, site: SyncSite) -> io::Result<()>;
    /// How many files are worth syncing at the same time, each from a thread of its own.
    fn syncs_at_once(&self) -> usize {
        1
    }
    /// Takes the one lock of this path, or fails with `WouldBlock` where somebody has it.
    fn lock(&self, path: &str) -> io::Result<LockGuard>;
}

impl dyn Disk + '_ {
    /// Returns when the names in a folder will survive a crash. `""` is the root.
    #[track_caller]
    pub(crate) fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.sync_folder_at(folder, Location::caller())
    }
}

/// Whether an error says that the disk is full or may not be written, and so that nothing was done.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Files of one set that are synced at the same time.
const SYNCS_AT_ONCE: usize = 4;

/// A directory of the machine.
#[derive(Debug)]
pub(crate) struct DirDisk {
    root: PathBuf,
    file_mode: u32,
    folder_mode: u32,
}

impl DirDisk {
    pub(crate) fn new(root: PathBuf) -> DirDisk {
        DirDisk { root, file_mode: 0o666, folder_mode: 0o777 }
    }

    /// One whose files and folders are their owner's only.
    pub(crate) fn private(root: PathBuf) -> DirDisk {
        DirDisk::read_by(root, Readers::Owner)
    }

    /// One whose files and folders these may read.
    pub(crate) fn read_by(root: PathBuf, readers: Readers) -> DirDisk {
        DirDisk { root, file_mode: readers.file_mode(), folder_mode: readers.folder_mode() }
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    // pwrite64(fd, bytes, offset), again for the rest where it was short.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    // fdatasync(fd): times may be lost, data and length not.
    fn sync_at(&mut self, _: SyncSite) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Disk for DirDisk {
    fn make_root(&self) -> io::Result<()> {
        let readers =
            if self.folder_mode == Readers::Owner.folder_mode() { Readers::Owner } else { Readers::Everybody };
        create_folder(&self.root, readers).map(drop).map_err(|error| error.source)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.root.join(path))
    }

    fn read_beginning(&self, path: &str, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.root.join(path))?.take(len as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn len(&self, path: &str) -> io::Result<u64> {
        Ok(fs::symlink_metadata(self.root.join(path))?.len())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.root.join(folder))?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    // openat(path, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666)
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(self.file_mode);
        Ok(Box::new(RealFile(options.open(self.root.join(path))?)))
    }

    // openat(path, O_WRONLY|O_CLOEXEC)
    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().write(true).open(self.root.join(path))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        fs::remove_dir(self.root.join(folder))
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        match DirBuilder::new().mode(self.folder_mode).create(self.root.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    // openat(folder, O_RDONLY), fsync(fd)
    fn sync_folder_at(&self, folder: &str, _: SyncSite) -> io::Result<()> {
        File::open(self.root.join(folder))?.sync_all()
    }

    // Most of a sync is waiting: for the device, and on a busy machine for a processor afterwards.
    fn syncs_at_once(&self) -> usize {
        SYNCS_AT_ONCE
    }

    // openat(path, O_RDWR|O_CREAT), flock(fd, LOCK_EX|LOCK_NB). The file is never removed: two writers that each hold the lock of a
    // file of that name, one of them unlinked, would both believe they are alone.
    fn lock(&self, path: &str) -> io::Result<LockGuard> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(self.file_mode);
        let file = options.open(self.root.join(path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(Held(file)))
    }
}

/// A lock that is given back by name. Closing the file alone would not do: a child process that was forked a moment ago, and has not run
/// its program yet, has the same file open and would keep the lock.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Where this fails, closing the file gives it back.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

mod below;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod schedules;

pub(crate) use below::Below;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let disk = DirDisk::new(folder.path().to_owned());
        let held = disk.lock("lock").unwrap();
        assert_eq!(disk.lock("lock").err().map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        drop(held);
        disk.lock("lock").unwrap();
    }

    #[test]
    fn files_are_written_in_place_and_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let disk: &dyn Disk = &DirDisk::new(folder.path().to_owned());
        disk.create_folder("a").unwrap();
        disk.create_folder("a").unwrap();
        let mut file = disk.create("a/x").unwrap();
        file.write_at(2, b"cd").unwrap();
        file.write_at(0, b"ab").unwrap();
        file.sync().unwrap();
        disk.rename("a/x", "a/y").unwrap();
        disk.sync_folder("a").unwrap();
        disk.open("a/y").unwrap().write_at(3, b"D").unwrap();
        assert_eq!(disk.read("a/y").unwrap(), b"abcD");
        assert_eq!(
            (disk.read_beginning("a/y", 3).unwrap(), disk.read_beginning("a/y", 9).unwrap().len()),
            (b"abc".into(), 4)
        );
        assert_eq!(disk.len("a/y").unwrap(), 4);
        assert_eq!(disk.list("a").unwrap(), ["y"]);
        assert!(disk.remove_folder("a").is_err());
        disk.remove("a/y").unwrap();
        disk.remove_folder("a").unwrap();
        assert_eq!(disk.read("a/y").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
