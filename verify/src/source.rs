//! The one place of this crate that opens files. Reads of a ledger's directory, each with a bound.
//!
//! A directory that someone else prepared may hold anything: a pipe that never answers, a device that never ends, a link to
//! itself. So only regular files are read, none beyond the length that its kind can have, and links to folders are not walked.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cairn_ledger::tile::{ENTRY_LEN_MAX, HASH_LEN, TileId, TileKind};
use cairn_schemas::digest::Digest;
use sha2::{Digest as _, Sha256};

/// Why a file gave no bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// There is none.
    #[error("the file is missing")]
    Missing,
    /// A folder, a pipe, a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// Longer than its kind can be.
    #[error("it has {len} bytes; such a file has at most {limit}")]
    TooLong {
        /// Its length.
        len: u64,
        /// The bound.
        limit: u64,
    },
    /// The system could not read it: this says nothing about what it holds.
    #[error("the system could not read it: {0}")]
    Io(io::Error),
}

impl Unread {
    /// Whether the file's contents are simply unknown, rather than missing or wrong.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Unread::Io(_))
    }
}

/// A file that was read and not kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) len: u64,
    pub(crate) digest: Digest,
    pub(crate) beginning: Vec<u8>,
}

/// What a summary reads at once.
const PART_LEN: usize = 64 << 10;

/// What a folder entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A folder, not a link to one.
    Folder,
    /// Everything else.
    File,
}

/// Most names in one folder. A ledger's folders hold a thousand tiles; who fills one with millions of files shall not fill the memory.
pub(crate) const NAMES_MAX: usize = 1_000_000;

/// A ledger's directory.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    root: PathBuf,
}

impl Source {
    pub(crate) fn new(root: &Path) -> Source {
        Source { root: root.to_owned() }
    }

    /// A folder of it as a directory of its own; `""` is itself.
    pub(crate) fn below(&self, folder: &str) -> Source {
        if folder.is_empty() { self.clone() } else { Source { root: self.root.join(folder) } }
    }

    /// Whether this is the same folder.
    pub(crate) fn is_at(&self, other: &Source) -> bool {
        self.root == other.root
    }

    /// The bytes of a file below the root, at most `limit` of them.
    pub(crate) fn read(&self, file: &str, limit: u64) -> Result<Vec<u8>, Unread> {
        let mut bytes = Vec::new();
        self.read_to(file, limit, &mut bytes)?;
        Ok(bytes)
    }

    /// The same, in a buffer that is used again and again: what it held before is gone, whatever comes of it.
    fn read_to(&self, file: &str, limit: u64, bytes: &mut Vec<u8>) -> Result<(), Unread> {
        bytes.clear();
        let path = self.root.join(file);
        let metadata = fs::metadata(&path).map_err(unread)?;
        // Before opening: opening a pipe would wait for its other end.
        if !metadata.is_file() {
            return Err(Unread::NotAFile);
        }
        if metadata.len() > limit {
            return Err(Unread::TooLong { len: metadata.len(), limit });
        }
        // One byte more than it holds: the call that would find the end is then none.
        bytes.reserve(usize::try_from(metadata.len()).unwrap_or(0) + 1);
        File::open(path).map_err(unread)?.take(limit + 1).read_to_end(bytes).map_err(unread)?;
        // It grew between the two calls.
        if bytes.len() as u64 > limit {
            return Err(Unread::TooLong { len: bytes.len() as u64, limit });
        }
        Ok(())
    }

    /// Length, SHA-256 and the first `beginning` bytes of a file that may be too large to hold.
    pub(crate) fn summary(&self, file: &str, limit: u64, beginning: usize) -> Result<Summary, Unread> {
        let path = self.root.join(file);
        let metadata = fs::metadata(&path).map_err(unread)?;
        if !metadata.is_file() {
            return Err(Unread::NotAFile);
        }
        let mut rest = File::open(path).map_err(unread)?.take(limit + 1);
        let (mut hasher, mut len, mut first) = (Sha256::new(), 0, Vec::with_capacity(beginning));
        let mut part = vec![0; PART_LEN];
        loop {
            let read = match rest.read(&mut part) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(unread)?,
            };
            if read == 0 {
                break;
            }
            len += read as u64;
            hasher.update(&part[..read]);
            first.extend(&part[..read.min(beginning - first.len())]);
        }
        if len > limit {
            return Err(Unread::TooLong { len, limit });
        }
        let digest: [u8; 32] = hasher.finalize().into();
        Ok(Summary { len, digest: Digest::from(digest), beginning: first })
    }

    /// The bytes of exactly this tile's file.
    pub(crate) fn tile(&self, tile: TileId) -> Result<Vec<u8>, Unread> {
        let mut bytes = Vec::new();
        self.tile_to(tile, &mut bytes)?;
        Ok(bytes)
    }

    /// The same, in a buffer that is used again and again.
    pub(crate) fn tile_to(&self, tile: TileId, bytes: &mut Vec<u8>) -> Result<(), Unread> {
        let item = match tile.kind() {
            TileKind::Entries => ENTRY_LEN_MAX + 2,
            TileKind::Hashes(_) => HASH_LEN,
        };
        self.read_to(&tile.to_string(), item as u64 * u64::from(tile.width()), bytes)
    }

    /// The names in a folder below the root (`""`: the root), sorted; empty when there is no such folder. More than [`NAMES_MAX`] are an
    /// error.
    pub(crate) fn list(&self, folder: &str) -> io::Result<Vec<(String, EntryKind)>> {
        self.list_at_most(folder, NAMES_MAX)
    }

    fn list_at_most(&self, folder: &str, limit: usize) -> io::Result<Vec<(String, EntryKind)>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if names.len() == limit {
                return Err(io::Error::other(format!("the folder `{folder}` holds more than {limit} names")));
            }
            let kind = if entry.file_type()?.is_dir() { EntryKind::Folder } else { EntryKind::File };
            let name = entry.file_name();
            // A name that is not UTF-8 is none of ours; it is reported as well as it can be written.
            names.push((name.to_string_lossy().into_owned(), kind));
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }
}

fn unread(error: io::Error) -> Unread {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unread::Missing,
        _ => Unread::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_at_their_limit_and_one_past_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), [0; 10]).unwrap();
        let source = Source::new(folder.path());
        assert_eq!(source.read("file", 10).unwrap().len(), 10);
        assert!(matches!(source.read("file", 9), Err(Unread::TooLong { len: 10, limit: 9 })));
        assert!(matches!(source.read("other", 9), Err(Unread::Missing)));
        assert!(matches!(source.read("file/below", 9), Err(Unread::Missing)));
        let summary = source.summary("file", 10, 4).unwrap();
        assert_eq!(summary, Summary { len: 10, digest: Digest::sha256(&[0; 10]), beginning: vec![0; 4] });
        assert!(matches!(source.summary("file", 9, 4), Err(Unread::TooLong { len: 10, limit: 9 })));
        assert!(matches!(source.summary("other", 9, 4), Err(Unread::Missing)));
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let source = Source::new(folder.path());
        assert!(matches!(source.read("folder", 9), Err(Unread::NotAFile)));
        assert!(matches!(source.summary("folder", 9, 4), Err(Unread::NotAFile)));
        // A device that never ends and a socket that nobody serves.
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero")).unwrap();
        assert!(matches!(source.read("zero", 9), Err(Unread::NotAFile)));
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert!(matches!(source.read("socket", 9), Err(Unread::NotAFile)));
        assert_eq!(source.list("").unwrap().len(), 3);
        assert_eq!(source.list("nothing").unwrap(), []);
        assert_eq!(source.list_at_most("", 3).unwrap().len(), 3);
        assert_eq!(source.list_at_most("", 2).unwrap_err().to_string(), "the folder `` holds more than 2 names");
    }
}
