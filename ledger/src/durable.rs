//! Writing files so that they survive: the whole of what the ledger believes about file systems.
//!
//! A file appears under its name whole or not at all, and what stood there before stays until then. For each set of files the system
//! calls are, in this order (`strace -e openat,pwrite64,fdatasync,fsync,rename,mkdir`):
//!
//! ```text
//! mkdir("tile/0/x001")                        only where missing, with
//! openat("tile/0"), fsync()                   its parent, so that the folder itself survives
//! openat("wal/temporary-0", O_CREAT|O_TRUNC), pwrite64()…     for each file
//! fdatasync()                                 for each file, a few at the same time
//! rename("wal/temporary-0", "tile/0/x001/234")                for each file
//! openat("tile/0/x001"), fsync()              for each folder that got a name
//! ```
//!
//! All files are written before the first is synced, so that one commit of the file system's journal carries most of them. A crash
//! before the last `fsync` leaves any of the names absent; one after it leaves all of them, with their bytes. Left-over temporary files lie in
//! `wal/`, outside what is published, and are removed when the ledger is opened.
//!
//! After an error nobody knows which of the files are there. Doing it again is safe: it writes new files, and never syncs an old one
//! whose dirty pages the kernel may have dropped (the "fsyncgate" of 2018).

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{Disk, DiskFile};

/// Where temporary files are made: not published, emptied when a ledger is opened.
pub(crate) const TEMPORARY_FOLDER: &str = "wal";
/// How temporary files are called there.
pub(crate) const TEMPORARY_PREFIX: &str = "temporary-";

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewFile {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

/// The folders that are known to exist and to survive.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    known: BTreeSet<String>,
}

impl Folders {
    /// Makes a folder and its parents, each durable in its parent before the next.
    pub(crate) fn ensure(&mut self, disk: &dyn Disk, folder: &str) -> io::Result<()> {
        if folder.is_empty() || self.known.contains(folder) {
            return Ok(());
        }
        let parent = parent(folder);
        self.ensure(disk, parent)?;
        disk.create_folder(folder)?;
        disk.sync_folder(parent)?;
        self.known.insert(folder.to_owned());
        Ok(())
    }

    /// Forgets a folder that was removed.
    pub(crate) fn forget(&mut self, folder: &str) {
        self.known.remove(folder);
    }
}

/// The folder of a path; `""` for the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Writes files under their names, durable when this returns.
///
/// # Errors
/// The first of the system's errors. Any of the files may be there, whole.
pub(crate) fn write_files(disk: &dyn Disk, folders: &mut Folders, files: &[NewFile]) -> io::Result<()> {
    write_files_by(disk, folders, TEMPORARY_FOLDER, files)
}

/// [`write_files`] with the folder where their temporary files are made.
///
/// # Errors
/// As there.
pub(crate) fn write_files_by(
    disk: &dyn Disk,
    folders: &mut Folders,
    temporary_folder: &str,
    files: &[NewFile],
) -> io::Result<()> {
    static TEMPORARY: AtomicU64 = AtomicU64::new(0);
    folders.ensure(disk, temporary_folder)?;
    let mut written = Vec::with_capacity(files.len());
    for file in files {
        folders.ensure(disk, parent(&file.path))?;
        let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{temporary_folder}/{TEMPORARY_PREFIX}{number}");
        let mut handle = disk.create(&temporary)?;
        handle.write_at(0, &file.bytes)?;
        written.push((temporary, handle));
    }
    sync_all(&mut written, disk.syncs_at_once())?;
    for ((temporary, handle), file) in written.into_iter().zip(files) {
        drop(handle);
        disk.rename(&temporary, &file.path)?;
    }
    let changed: BTreeSet<&str> = files.iter().map(|file| parent(&file.path)).collect();
    changed.into_iter().try_for_each(|folder| disk.sync_folder(folder))
}

/// Syncs every file, `at_once` of them at the same time. When this returns none is being synced any more, whatever became of it.
fn sync_all(files: &mut [(String, Box<dyn DiskFile>)], at_once: usize) -> io::Result<()> {
    let sync = |part: &mut [(String, Box<dyn DiskFile>)]| part.iter_mut().try_for_each(|(_, file)| file.sync());
    let share = files.len().div_ceil(at_once).max(1);
    if files.len() <= share {
        return sync(files);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = files
            .chunks_mut(share)
            .map(|part| {
                let thread = std::thread::Builder::new().name("ledger-sync".to_owned());
                thread.spawn_scoped(scope, move || sync(part))
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread?.join().unwrap_or_else(|_| Err(io::Error::other("a sync panicked"))))
    })
}

/// Removes a folder of files that are no longer needed. Where it is already gone, so be it. This is not synced: what a crash brings back
/// is not needed then either, and harms nobody.
///
/// # Errors
/// The system's.
pub(crate) fn remove_folder(disk: &dyn Disk, folders: &mut Folders, folder: &str) -> io::Result<()> {
    let names = match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    folders.forget(folder);
    names.iter().try_for_each(|name| disk.remove(&format!("{folder}/{name}")))?;
    disk.remove_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faulty::FaultyDisk;

    fn files() -> Vec<NewFile> {
        ["a/b/one", "a/two", "three"].map(|path| NewFile { path: path.into(), bytes: path.as_bytes().into() }).into()
    }

    #[test]
    fn what_was_written_survives_any_crash() {
        for seed in 0..200 {
            let disk = FaultyDisk::new(seed);
            write_files(&disk, &mut Folders::default(), &files()).unwrap();
            disk.crash();
            for file in files() {
                assert_eq!(disk.read(&file.path).unwrap(), file.bytes, "seed {seed}");
            }
        }
    }

    #[test]
    fn many_files_are_synced_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let disk = crate::disk::DirDisk::new(folder.path().to_owned());
        assert!(disk.syncs_at_once() > 1);
        for count in 0..20 {
            let files: Vec<NewFile> = (0..count)
                .map(|number| NewFile { path: format!("many/{count}/{number}"), bytes: vec![number; 5] })
                .collect();
            write_files(&disk, &mut Folders::default(), &files).unwrap();
            files.iter().for_each(|file| assert_eq!(disk.read(&file.path).unwrap(), file.bytes));
        }
    }

    #[test]
    fn a_crash_within_leaves_whole_files_or_none() {
        let calls = {
            let disk = FaultyDisk::new(0);
            write_files(&disk, &mut Folders::default(), &files()).unwrap();
            disk.calls()
        };
        for call in 0..calls {
            for seed in 0..20 {
                let disk = FaultyDisk::new(seed);
                write_files(&disk, &mut Folders::default(), &[NewFile { path: "three".into(), bytes: b"old".into() }])
                    .unwrap();
                disk.fail_after(call, false);
                write_files(&disk, &mut Folders::default(), &files()).unwrap_err();
                disk.crash();
                for file in files() {
                    match disk.read(&file.path) {
                        Ok(bytes) => assert!(bytes == file.bytes || bytes == b"old", "call {call}, seed {seed}"),
                        Err(error) => {
                            assert!(
                                error.kind() == io::ErrorKind::NotFound && file.path != "three",
                                "call {call}, seed {seed}"
                            );
                        }
                    }
                }
                write_files(&disk, &mut Folders::default(), &files()).unwrap();
                files().iter().for_each(|file| assert_eq!(disk.read(&file.path).unwrap(), file.bytes));
            }
        }
    }

    #[test]
    fn removed_folders_can_come_again() {
        let disk = FaultyDisk::new(0);
        let mut folders = Folders::default();
        write_files(&disk, &mut folders, &files()).unwrap();
        remove_folder(&disk, &mut folders, "a/b").unwrap();
        remove_folder(&disk, &mut folders, "a/b").unwrap();
        assert!(disk.read("a/b/one").is_err());
        write_files(&disk, &mut folders, &files()).unwrap();
        assert_eq!(disk.read("a/b/one").unwrap(), b"a/b/one");
    }
}
