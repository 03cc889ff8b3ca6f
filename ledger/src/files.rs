//! Small files that must survive a crash, for everybody who keeps some beside a ledger: keys, `fleet.yaml`, join tokens, a node's
//! identity and state. The ledger's own files go through [`crate::durable`], on a disk that is an argument.
//!
//! The system calls of [`replace`], in order: `open(O_CREAT|O_TRUNC)` of a temporary name beside the file, `write`, `fsync`, `rename`,
//! `fsync` of the folder. A crash before the rename leaves the old file, or none, and a temporary one that the next call
//! overwrites; after it the new file, whole. A known hole, as everywhere: a disk that lies about `fsync`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file or folder could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The system's word.
    pub source: io::Error,
}

impl DiskError {
    /// For `map_err`.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
        let path = path.to_owned();
        move |source| DiskError { action, path, source }
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner only: secrets.
    Owner,
    /// Everybody.
    Everybody,
}

impl Readers {
    const fn file_mode(self) -> u32 {
        match self {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o644,
        }
    }

    const fn folder_mode(self) -> u32 {
        match self {
            Readers::Owner => 0o700,
            Readers::Everybody => 0o755,
        }
    }
}

/// Replaces a file's content as one step.
///
/// # Errors
/// The system\'s.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), DiskError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(readers.file_mode())
        .open(&temporary)
        .map_err(DiskError::of("create", &temporary))?;
    file.write_all(bytes).map_err(DiskError::of("write", &temporary))?;
    file.sync_all().map_err(DiskError::of("sync", &temporary))?;
    rename(&temporary, path)
}

/// Gives a file or folder another name and makes that durable on both sides.
///
/// # Errors
/// The system's.
pub fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    std::fs::rename(from, to).map_err(DiskError::of("rename", from))?;
    sync_folder(parent(to))?;
    if parent(from) != parent(to) {
        sync_folder(parent(from))?;
    }
    Ok(())
}

/// Makes a folder and its missing parents, each durable in its parent. Says whether it was missing.
///
/// # Errors
/// The system\'s.
pub fn create_folder(path: &Path, readers: Readers) -> Result<bool, DiskError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(false),
        Ok(_) => {
            let source = io::Error::new(io::ErrorKind::NotADirectory, "a file is in its place");
            return Err(DiskError { action: "create folder", path: path.to_owned(), source });
        }
        Err(_) => {}
    }
    let parent = parent(path);
    if parent != Path::new(".") {
        create_folder(parent, Readers::Everybody)?;
    }
    match DirBuilder::new().mode(readers.folder_mode()).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(DiskError { action: "create folder", path: path.to_owned(), source }),
    }
    sync_folder(parent)?;
    Ok(true)
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The system\'s.
pub fn sync_folder(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(DiskError::of("sync folder", path))
}

/// Reads a file that may be absent.
///
/// # Errors
/// The system\'s.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DiskError { action: "read", path: path.to_owned(), source }),
    }
}

/// The names in a folder that are UTF-8, sorted; none if the folder is absent.
///
/// # Errors
/// The system\'s.
pub fn names(path: &Path) -> Result<Vec<String>, DiskError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(DiskError { action: "list", path: path.to_owned(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::of("list", path))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_their_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("a/keys");
        assert!(create_folder(&keys, Readers::Owner).unwrap());
        assert!(!create_folder(&keys, Readers::Owner).unwrap());
        assert_eq!((mode(&keys), mode(keys.parent().unwrap())), (0o700, 0o755));
        let file = keys.join("file");
        assert_eq!(read_optional(&file).unwrap(), None);
        replace(&file, b"one", Readers::Owner).unwrap();
        replace(&file, b"two", Readers::Owner).unwrap();
        assert_eq!((read_optional(&file).unwrap().unwrap(), mode(&file)), (b"two".to_vec(), 0o600));
        assert_eq!(names(&keys).unwrap(), ["file"]);
        assert_eq!(names(&keys.join("absent")).unwrap(), [""; 0]);
    }

    #[test]
    fn errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = create_folder(&file.join("data"), Readers::Everybody).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
}
