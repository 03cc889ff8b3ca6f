//! The containment that is between its intent and its outcome, remembered over a crash.
//!
//! A `containment.requested` that nothing follows would leave an auditor guessing. So the request's place is written here before
//! the action and removed after the outcome is recorded; a node that finds the file at its start records the outcome as
//! `unknown`, unless its stream has it. A crash before the file is durable means that nothing was done yet: the request stands
//! alone in the stream, and `cairn verify` reports it as unfinished.
//!
//! The process lives on until this is durable. So the file stays, and its one sector is written over: one `fdatasync`, where a new file
//! takes two `fsync`s and the making of a name. A line of text and its SHA-256 say whether the sector is whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Sequence, StreamId};

/// The file's name in the node's folder.
const FILE: &str = "open-containment";
/// Its length: one sector, which a disk writes whole or not at all. A stream's name, a number and a release take 200 bytes.
const LEN: usize = 512;

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
        let Open { stream, request, release } = open;
        let line = format!("{stream} {} {release}", request.padded());
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
        let is_new = file.metadata()?.len() != LEN as u64;
        file.write_all_at(&sector(&format!("{line} {}\n", Digest::sha256(line.as_bytes()))), 0)?;
        if is_new {
            file.set_len(LEN as u64)?;
            file.sync_all()?;
            return self.sync_folder();
        }
        file.sync_data()
    }

    /// Forgets it. Not synced: whoever finds it again looks into the stream for the outcome first.
    ///
    /// # Errors
    /// The system's.
    pub fn clear(&self) -> io::Result<()> {
        match OpenOptions::new().write(true).open(&self.path) {
            Ok(file) => file.write_all_at(&sector("\n"), 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
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

/// A text, and spaces up to the sector's end.
fn sector(text: &str) -> [u8; LEN] {
    let mut sector = [b' '; LEN];
    sector[..text.len()].copy_from_slice(text.as_bytes());
    sector
}

fn parse(text: &str) -> Option<Open> {
    let (line, digest) = text.split_once('\n')?.0.rsplit_once(' ')?;
    if digest.parse() != Ok(Digest::sha256(line.as_bytes())) {
        return None;
    }
    let mut words = line.split(' ');
    let open = Open {
        stream: words.next()?.parse().ok()?,
        request: words.next()?.parse().ok()?,
        release: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(open)
}

#[cfg(test)]
mod tests {
    use cairn_schemas::ids::Serial;

    use super::*;

    fn request(number: u64) -> Open {
        Open {
            stream: StreamId::new(&"sensor-1".parse().unwrap(), [3; 16]),
            request: Sequence(number),
            release: ReleaseRef { serial: Serial(4), digest: Digest::ZERO },
        }
    }

    #[test]
    fn set_read_clear() {
        let folder = tempfile::tempdir().unwrap();
        let open = OpenContainment::new(folder.path());
        assert_eq!(open.read().unwrap(), None);
        open.clear().unwrap();
        for number in [9, 10] {
            open.set(&request(number)).unwrap();
            assert_eq!(open.read().unwrap(), Some(request(number)));
            open.clear().unwrap();
            open.clear().unwrap();
            assert_eq!(open.read().unwrap(), None);
        }
        assert_eq!(std::fs::metadata(folder.path().join(FILE)).unwrap().len(), LEN as u64);
    }

    #[test]
    fn the_longest_request_fits() {
        let folder = tempfile::tempdir().unwrap();
        let open = OpenContainment::new(folder.path());
        let longest = Open {
            stream: StreamId::new(&"n".repeat(cairn_schemas::ids::NODE_ID_LEN_MAX).parse().unwrap(), [3; 16]),
            request: Sequence(u64::MAX),
            release: ReleaseRef { serial: Serial(cairn_schemas::ids::INTEGER_MAX), digest: Digest::ZERO },
        };
        open.set(&longest).unwrap();
        assert_eq!(open.read().unwrap(), Some(longest));
    }

    #[test]
    fn a_torn_or_changed_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let open = OpenContainment::new(folder.path());
        for bytes in
            [&b""[..], b"sensor-1.00", b"ledger x", b"\n", b"ledger 1 1@sha256:00", b"\xff\xff\n", b"a b c d\n"]
        {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(open.read().unwrap(), None);
            open.set(&request(1)).unwrap();
            assert_eq!(open.read().unwrap(), Some(request(1)), "whatever stood there");
        }
        let good = std::fs::read(&path).unwrap();
        let end = good.iter().position(|byte| *byte == b'\n').unwrap();
        for at in 0..=end {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(open.read().unwrap(), None, "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(open.read().unwrap(), None, "cut at {at}");
        }
    }
}
