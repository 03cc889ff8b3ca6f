//! What rules have learnt of this machine, kept over a restart: one file in the node's folder.
//!
//! `first_seen` rules are silent for days while they learn; a restart must not make them blind for as long again. The file is written every
//! [`SAVE_EVERY`] and at a stop, beside the loop: a slow disk must not cost events. A crash loses what was learnt since: programs and files
//! first seen then are new once more, and alert once more. A file that is damaged or of another version counts as none, and is said to be
//! lost.
//!
//! It holds values of fields as the kernel gave them, user names among them, and never leaves the machine.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_node::durable;
use cairn_rules::SnapshotError;
use cairn_rules::limits::SNAPSHOT_BYTES_MAX;
use cairn_schemas::digest::Digest;

/// The file's name in the node's folder.
const FILE: &str = "learnt";
/// How often it is written.
pub(crate) const SAVE_EVERY: Duration = Duration::from_secs(300);
/// The digest stands before the snapshot, on a line of its own, no longer than this.
const HEAD_LEN_MAX: usize = 128;

/// Why what was saved is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LearntError {
    /// The system's error.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// Its bytes are not those that were written.
    #[error("it is damaged")]
    Damaged,
    /// The bytes are whole, and not what this version writes.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The file in a node's folder.
#[derive(Debug)]
pub(crate) struct Learnt {
    path: PathBuf,
    saving: Option<JoinHandle<()>>,
}

impl Learnt {
    pub(crate) fn new(folder: &Path) -> Learnt {
        Learnt { path: folder.join(FILE), saving: None }
    }

    /// The snapshot that was saved last; none where nothing was saved yet.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, LearntError> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path)
            .and_then(|file| file.take((HEAD_LEN_MAX + SNAPSHOT_BYTES_MAX) as u64).read_to_end(&mut bytes));
        match read {
            Ok(_) => unpack(&bytes).map(Some).ok_or(LearntError::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LearntError::Unreadable(error)),
        }
    }

    /// Writes a snapshot, unless the one before is still being written: the next time does.
    pub(crate) fn save(&mut self, snapshot: Vec<u8>) {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        let path = self.path.clone();
        let saving = std::thread::Builder::new().name("cairn-learnt".to_owned()).spawn(move || write(&path, &snapshot));
        match saving {
            Ok(saving) => self.saving = Some(saving),
            Err(error) => tracing::warn!(%error, "what rules have learnt was not saved"),
        }
    }

    /// Writes the last one; it is durable when this returns.
    pub(crate) fn finish(&mut self, snapshot: &[u8]) {
        self.wait();
        write(&self.path, snapshot);
    }

    fn wait(&mut self) {
        if let Some(saving) = self.saving.take()
            && saving.join().is_err()
        {
            tracing::warn!("the thread that saves what rules have learnt had panicked");
        }
    }
}

/// A snapshot that is being written is written to its end.
impl Drop for Learnt {
    fn drop(&mut self) {
        self.wait();
    }
}

fn write(path: &Path, snapshot: &[u8]) {
    let mut bytes = format!("{}\n", Digest::sha256(snapshot)).into_bytes();
    bytes.extend_from_slice(snapshot);
    if let Err(error) = durable::replace(path, &bytes) {
        tracing::warn!(%error, path = %path.display(), "what rules have learnt was not saved");
    }
}

/// The snapshot behind its digest, if it is whole.
fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.iter().take(HEAD_LEN_MAX).position(|byte| *byte == b'\n')?;
    let (head, snapshot) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let digest: Digest = std::str::from_utf8(head).ok()?.parse().ok()?;
    (digest == Digest::sha256(snapshot)).then(|| snapshot.to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_saved_is_read_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut learnt = Learnt::new(folder.path());
        assert!(matches!(learnt.read(), Ok(None)));
        learnt.save(b"one".to_vec());
        learnt.finish(b"two");
        assert_eq!(learnt.read().unwrap().as_deref(), Some(&b"two"[..]));
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(matches!(learnt.read(), Err(LearntError::Damaged)), "{at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(learnt.read(), Err(LearntError::Damaged)), "{at}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(learnt.read(), Err(LearntError::Unreadable(_))));
    }

    #[test]
    fn what_is_being_saved_is_saved_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut learnt = Learnt::new(folder.path());
        learnt.save(b"one".to_vec());
        drop(learnt);
        assert_eq!(Learnt::new(folder.path()).read().unwrap().as_deref(), Some(&b"one"[..]));
    }
}
