//! Where a witness keeps what it cosigned: one file for each log, replaced in one step, durable when the call returns.
//!
//! `<dir>/logs/<hex of SHA-256(origin)>/checkpoint` is the newest checkpoint, with the witness's lines; `evidence/<hex>` beside it are
//! checkpoints that the log signed and that contradict one that was cosigned, at most [`EVIDENCE_MAX`].

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use cairn_schemas::digest::Digest;

use super::lock;
use super::request::REQUEST_LEN_MAX;
use crate::disk::{DirDisk, Disk, LockGuard};
use crate::durable::{Folders, parent};
use crate::files::replace_on;

/// Most contradicting checkpoints that are kept of one log: one is proof.
pub const EVIDENCE_MAX: usize = 16;
/// Longest file that is read back, in bytes.
const FILE_LEN_MAX: usize = 2 * REQUEST_LEN_MAX;
const LOGS: &str = "logs";
const FILE: &str = "checkpoint";
const EVIDENCE: &str = "evidence";
const LOCK_FILE: &str = "lock";

/// A witness's memory.
pub trait WitnessStore: Send + Sync {
    /// The newest checkpoint of the log whose origin has this digest. It is durable: what was shown to anybody must not be forgotten.
    ///
    /// # Errors
    /// The system's; `Ok(None)` is only for a log of which nothing was ever saved.
    fn load(&self, origin: &Digest) -> io::Result<Option<Vec<u8>>>;

    /// Puts a checkpoint in the place of the one before, in one step; durable when it returns.
    ///
    /// # Errors
    /// The system's: then either one is there.
    fn save(&self, origin: &str, checkpoint: &[u8]) -> io::Result<()>;

    /// Keeps a checkpoint that contradicts the one that is saved.
    ///
    /// # Errors
    /// The system's.
    fn keep_evidence(&self, origin: &str, checkpoint: &[u8]) -> io::Result<()>;
}

/// A folder, held by one process.
pub struct DirStore {
    disk: Arc<dyn Disk>,
    logs: Mutex<HashMap<Digest, Arc<Mutex<OfLog>>>>,
    /// flock(2), until the process ends.
    _lock: LockGuard,
}

/// What is known of a log's files. One at a time reads and writes them.
#[derive(Default)]
struct OfLog {
    folders: Folders,
    /// The checkpoint that lies there is durable: this process wrote it, and was told so.
    durable: bool,
    /// Evidence likewise.
    kept: HashSet<Digest>,
}

impl std::fmt::Debug for DirStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirStore")
    }
}

impl DirStore {
    /// Opens a witness's folder, making it where it is not there.
    ///
    /// # Errors
    /// `WouldBlock`: another process is this witness. Anything else is the system's.
    pub fn open(dir: &Path) -> io::Result<DirStore> {
        DirStore::open_on(Arc::new(DirDisk::private(dir.to_owned())))
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>) -> io::Result<DirStore> {
        disk.make_root()?;
        let lock = disk.lock(LOCK_FILE)?;
        Folders::default().ensure(&*disk, LOGS)?;
        Ok(DirStore { disk, logs: Mutex::default(), _lock: lock })
    }

    fn of_log(&self, origin: &Digest) -> Arc<Mutex<OfLog>> {
        Arc::clone(lock(&self.logs).entry(*origin).or_default())
    }

    /// Puts a file in its place; its folder, and what that lies in, must not be lost with it.
    fn write(&self, of_log: &mut OfLog, file: &str, bytes: &[u8]) -> io::Result<()> {
        of_log.folders.ensure(&*self.disk, parent(file))?;
        replace_on(&*self.disk, Path::new(""), file, bytes).map_err(|error| error.source)
    }

    /// Between the new name and its being durable there is a checkpoint that a crash may take back, and likewise behind an attempt that
    /// failed, or a process that ended in between.
    fn write_checkpoint(
        &self,
        mut of_log: MutexGuard<'_, OfLog>,
        origin: &Digest,
        checkpoint: &[u8],
    ) -> io::Result<()> {
        of_log.durable = false;
        self.write(&mut of_log, &path(origin), checkpoint)?;
        of_log.durable = true;
        Ok(())
    }
}

fn path(origin: &Digest) -> String {
    format!("{LOGS}/{origin}/{FILE}")
}

impl WitnessStore for DirStore {
    fn load(&self, origin: &Digest) -> io::Result<Option<Vec<u8>>> {
        let read = || match self.disk.read_beginning(&path(origin), FILE_LEN_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        };
        // Whoever asks for what is not there leaves nothing in memory.
        if read()?.is_none() {
            return Ok(None);
        }
        let of_log = self.of_log(origin);
        let of_log = lock(&of_log);
        let Some(bytes) = read()? else { return Ok(None) };
        if !of_log.durable {
            // It is written anew, since nobody knows what became of it: whoever is shown it must find it again after any crash.
            self.write_checkpoint(of_log, origin, &bytes)?;
        }
        Ok(Some(bytes))
    }

    fn save(&self, origin: &str, checkpoint: &[u8]) -> io::Result<()> {
        let origin = Digest::sha256(origin.as_bytes());
        let of_log = self.of_log(&origin);
        self.write_checkpoint(lock(&of_log), &origin, checkpoint)
    }

    fn keep_evidence(&self, origin: &str, checkpoint: &[u8]) -> io::Result<()> {
        let (origin, digest) = (Digest::sha256(origin.as_bytes()), Digest::sha256(checkpoint));
        let folder = format!("{LOGS}/{origin}/{EVIDENCE}");
        let of_log = self.of_log(&origin);
        let mut of_log = lock(&of_log);
        let names = match self.disk.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        let here = names.iter().any(|name| *name == digest.to_string());
        let complete = names.iter().filter(|name| name.parse::<Digest>().is_ok()).count();
        // One that an earlier process left may not be durable yet.
        if of_log.kept.contains(&digest) || (!here && complete >= EVIDENCE_MAX) {
            return Ok(());
        }
        self.write(&mut of_log, &format!("{folder}/{digest}"), checkpoint)?;
        of_log.kept.insert(digest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_saved_is_there_and_evidence_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let origin = Digest::sha256(b"log");
        let store = DirStore::open(dir.path()).unwrap();
        assert_eq!(DirStore::open(dir.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(store.load(&origin).unwrap(), None);
        store.save("log", b"one").unwrap();
        store.save("log", b"two").unwrap();
        for number in 0..EVIDENCE_MAX + 3 {
            store.keep_evidence("log", &number.to_be_bytes()).unwrap();
            store.keep_evidence("log", &number.to_be_bytes()).unwrap();
        }
        drop(store);
        let store = DirStore::open(dir.path()).unwrap();
        assert_eq!(store.load(&origin).unwrap().unwrap(), b"two");
        let evidence = dir.path().join("logs").join(origin.to_string()).join(EVIDENCE);
        assert_eq!(fs::read_dir(evidence).unwrap().count(), EVIDENCE_MAX);
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::open(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join(path(&Digest::sha256(b"log")))).unwrap();
        assert!(store.load(&Digest::sha256(b"log")).is_err());
        assert!(store.save("log", b"one").is_err());
    }
}
