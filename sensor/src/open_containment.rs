//! The containment that is between its intent and its outcome, remembered over a crash.
//!
//! A `containment.requested` that nothing follows would leave an auditor guessing. So the request's place is written here before
//! the action and removed after the outcome is recorded; a node that finds the file at its start records the outcome as
//! `unknown`, unless its stream has it. A crash before the file is durable means that nothing was done yet: the request stands
//! alone in the stream, and `cairn verify` reports it as unfinished.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cairn_schemas::ids::{ReleaseRef, Sequence, StreamId};

/// The file's name in the node's folder.
const FILE: &str = "open-containment";

/// A request whose outcome is not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The stream the request stands in.
    pub stream: StreamId,
    /// Its number there.
    pub request: Sequence,
    /// The release that asked for it; its outcome names the same, whatever is active by then.
    pub release: ReleaseRef,
}

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
    pub fn set(&self, open: &Open) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        let Open { stream, request, release } = open;
        file.write_all(format!("{stream} {} {release}\n", request.padded()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        self.sync_folder()
    }

    /// Forgets it. Not synced: whoever finds it again looks into the stream for the outcome first.
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
    pub fn read(&self) -> io::Result<Option<Open>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().expect("the file is in a folder");
        File::open(folder)?.sync_all()
    }
}

fn parse(text: &str) -> Option<Open> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    let open = Open {
        stream: words.next()?.parse().ok()?,
        request: words.next()?.parse().ok()?,
        release: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(open)
}

#[cfg(test)]
mod tests {
    use cairn_schemas::digest::Digest;
    use cairn_schemas::ids::Serial;

    use super::*;

    #[test]
    fn set_read_clear() {
        let folder = tempfile::tempdir().unwrap();
        let open = OpenContainment::new(folder.path());
        assert_eq!(open.read().unwrap(), None);
        let request = Open {
            stream: StreamId::new(&"sensor-1".parse().unwrap(), [3; 16]),
            request: Sequence(9),
            release: ReleaseRef { serial: Serial(4), digest: Digest::ZERO },
        };
        open.set(&request).unwrap();
        assert_eq!(open.read().unwrap(), Some(request));
        open.clear().unwrap();
        open.clear().unwrap();
        assert_eq!(open.read().unwrap(), None);
    }

    #[test]
    fn a_torn_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let open = OpenContainment::new(folder.path());
        for bytes in
            [&b""[..], b"sensor-1.00", b"ledger x", b"\n", b"ledger 1 1@sha256:00", b"\xff\xff\n", b"a b c d\n"]
        {
            std::fs::write(folder.path().join(FILE), bytes).unwrap();
            assert_eq!(open.read().unwrap(), None);
        }
    }
}
