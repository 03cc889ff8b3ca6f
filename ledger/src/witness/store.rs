//! Where a witness keeps what it cosigned: one file for each log, replaced in one step, durable when the call returns.
//!
//! `<dir>/logs/<hex of SHA-256(origin)>/checkpoint` is the newest checkpoint, with the witness's lines; `evidence/<hex>` beside it are
//! checkpoints that the log signed and that contradict one that was cosigned, at most [`EVIDENCE_MAX`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cairn_schemas::digest::Digest;

use super::request::REQUEST_LEN_MAX;

/// Most contradicting checkpoints that are kept of one log: one is proof.
pub const EVIDENCE_MAX: usize = 16;
/// Longest file that is read back, in bytes.
const FILE_LEN_MAX: u64 = 2 * REQUEST_LEN_MAX as u64;
const FILE: &str = "checkpoint";
const TEMPORARY: &str = "checkpoint.temporary";
const EVIDENCE: &str = "evidence";

/// A witness's memory.
pub trait WitnessStore: Send + Sync {
    /// The newest checkpoint of the log whose origin has this digest.
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
#[derive(Debug)]
pub struct DirStore {
    logs: PathBuf,
    /// flock(2), until the process ends.
    _lock: File,
}

impl DirStore {
    /// Opens a witness's folder, making it where it is not there.
    ///
    /// # Errors
    /// `WouldBlock`: another process is this witness. Anything else is the system's.
    pub fn open(dir: &Path) -> io::Result<DirStore> {
        let logs = dir.join("logs");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&logs)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        sync_folder(dir)?;
        Ok(DirStore { logs, _lock: lock })
    }

    fn folder(&self, origin: &Digest) -> PathBuf {
        self.logs.join(origin.to_string())
    }
}

impl WitnessStore for DirStore {
    fn load(&self, origin: &Digest) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.folder(origin).join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_LEN_MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn save(&self, origin: &str, checkpoint: &[u8]) -> io::Result<()> {
        let folder = self.folder(&Digest::sha256(origin.as_bytes()));
        if !folder.join(FILE).exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            // The folder's name must not be lost with the checkpoint in it: a witness that forgets a log cosigns any history of it.
            sync_folder(&self.logs)?;
        }
        write(&folder.join(TEMPORARY), &folder.join(FILE), checkpoint)?;
        sync_folder(&folder)
    }

    fn keep_evidence(&self, origin: &str, checkpoint: &[u8]) -> io::Result<()> {
        let folder = self.folder(&Digest::sha256(origin.as_bytes())).join(EVIDENCE);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = folder.join(Digest::sha256(checkpoint).to_string());
        if path.exists() || fs::read_dir(&folder)?.count() >= EVIDENCE_MAX {
            return Ok(());
        }
        write(&folder.join(TEMPORARY), &path, checkpoint)?;
        sync_folder(&folder)
    }
}

/// Syncs the bytes under a temporary name, then renames: the name never stands for half a file.
fn write(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(temporary, path)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
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
        let folder = store.folder(&Digest::sha256(b"log"));
        fs::create_dir_all(folder.join(FILE)).unwrap();
        assert!(store.load(&Digest::sha256(b"log")).is_err());
        assert!(store.save("log", b"one").is_err());
    }
}
