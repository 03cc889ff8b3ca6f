//! The containment that is between its intent and its outcome, remembered over a crash.
//!
//! A `containment.requested` that nothing follows would leave an auditor guessing. So the request's place is written here before
//! the action and removed after the outcome is recorded; a node that finds the file at its start records the outcome as
//! `unknown`. A crash before the file is durable means that nothing was done yet: the request stands alone in the stream, and
//! `cairn verify` reports it as unfinished.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cairn_schemas::ids::{Sequence, StreamId};

/// The file's name in the node's folder.
const FILE: &str = "open-containment";

/// The file in a node's folder.
#[derive(Debug)]
pub struct OpenContainment {
    path: PathBuf,
}

impl OpenContainment {
    /// In this folder.
    #[must_use]
    pub fn new(folder: &Path) -> OpenContainment {
        OpenContainment { path: folder.join(FILE) }
    }

    /// Writes the request's place; durable when this returns.
    ///
    /// # Errors
    /// The system's.
    pub fn set(&self, stream: &StreamId, request: Sequence) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(format!("{stream} {}\n", request.padded()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        self.sync_folder()
    }

    /// Forgets it. Not synced: finding it again costs a second, equal outcome at worst, which the stream's reader can tell.
    ///
    /// # Errors
    /// The system's.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// What was open when the node stopped. A file that makes no sense counts as none: the request is still in the stream.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self) -> io::Result<Option<(StreamId, Sequence)>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().expect("the file is in a folder");
        File::open(folder)?.sync_all()
    }
}

fn parse(text: &str) -> Option<(StreamId, Sequence)> {
    let (stream, sequence) = text.trim_end().split_once(' ')?;
    Some((stream.parse().ok()?, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_read_clear() {
        let folder = tempfile::tempdir().unwrap();
        let open = OpenContainment::new(folder.path());
        assert_eq!(open.read().unwrap(), None);
        let stream = StreamId::new(&"sensor-1".parse().unwrap(), [3; 16]);
        open.set(&stream, Sequence(9)).unwrap();
        assert_eq!(open.read().unwrap(), Some((stream, Sequence(9))));
        open.clear().unwrap();
        open.clear().unwrap();
        assert_eq!(open.read().unwrap(), None);
    }

    #[test]
    fn a_torn_file_counts_as_none() {
        for text in ["", "sensor-1.00", "ledger x", "\n"] {
            assert_eq!(parse(text), None);
        }
    }
}
