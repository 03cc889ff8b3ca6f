//! Small files that must survive a crash, for everybody who keeps some beside a ledger: keys, `fleet.yaml`, join tokens, a node's
//! identity and state. The ledger's own files go through [`crate::durable`], on a disk that is an argument.
//!
//! The system calls of [`replace`], in order: `open(O_CREAT|O_TRUNC)` of a temporary name beside the file, `pwrite`, `fdatasync`, `rename`,
//! `fsync` of the folder. A crash before the rename leaves the old file, or none, and a temporary one that the next call
//! overwrites; after it the new file, whole. A known hole, as everywhere: a disk that lies about `fsync`.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::disk::{DirDisk, Disk};
use crate::durable;

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
    pub(crate) const fn file_mode(self) -> u32 {
        match self {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o644,
        }
    }

    pub(crate) const fn folder_mode(self) -> u32 {
        match self {
            Readers::Owner => 0o700,
            Readers::Everybody => 0o755,
        }
    }
}

/// Replaces a file's content as one step.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), DiskError> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8");
        DiskError { action: "create", path: path.to_owned(), source }
    })?;
    let folder = parent(path);
    replace_on(&DirDisk::read_by(folder.to_owned(), readers), folder, name, bytes)
}

/// [`replace`] on a disk whose root is called `root`; `file` is below it.
///
/// # Errors
/// The disk's.
pub(crate) fn replace_on(disk: &dyn Disk, root: &Path, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
    let temporary = format!("{file}.tmp");
    let path = root.join(&temporary);
    let mut handle = disk.create(&temporary).map_err(DiskError::of("create", &path))?;
    handle.write_at(0, bytes).map_err(DiskError::of("write", &path))?;
    handle.sync().map_err(DiskError::of("sync", &path))?;
    disk.rename(&temporary, file).map_err(DiskError::of("rename", &path))?;
    let folder = durable::parent(file);
    disk.sync_folder(folder).map_err(DiskError::of("sync folder", &root.join(folder)))
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

/// Makes a folder and its missing parents, each durable in its parent; so is one that is there already. Says whether it was missing.
///
/// # Errors
/// The system\'s.
pub fn create_folder(path: &Path, readers: Readers) -> Result<bool, DiskError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            // Whoever made it may have ended before its name was durable. Who may not read the parent cannot ask, and did not make it.
            return match sync_folder(parent(path)) {
                Err(error) if error.source.kind() != io::ErrorKind::PermissionDenied => Err(error),
                _ => Ok(false),
            };
        }
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
