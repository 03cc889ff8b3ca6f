//! Writes that must survive a crash: the whole file or the old one, and the name it has.
//!
//! The system calls, in order, of [`replace`]: `open(O_CREAT|O_TRUNC)` of a temporary name, `write`, `fsync`, `rename` over
//! the name, `fsync` of the folder. A crash before the rename leaves the old file and a temporary one that the next call
//! overwrites; after it the new file. A known hole, as everywhere: a disk that lies about `fsync`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file or folder could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried: `write`, `read`, …
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The system's word.
    pub source: io::Error,
}

impl DiskError {
    /// For `map_err`.
    pub(crate) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
        let path = path.to_owned();
        move |source| DiskError { action, path, source }
    }
}

/// Makes a folder for its owner only (0700) and makes its name durable; nothing happens if it exists.
pub(crate) fn create_folder(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(DiskError { action: "create folder", path: path.to_owned(), source }),
    }
    sync_folder(parent(path))
}

/// Replaces a file's content as one step; readable by its owner only (0600).
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(DiskError::of("create", &temporary))?;
    file.write_all(bytes).map_err(DiskError::of("write", &temporary))?;
    file.sync_all().map_err(DiskError::of("sync", &temporary))?;
    rename(&temporary, path)
}

/// Gives a file or folder another name and makes that durable on both sides.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    fs::rename(from, to).map_err(DiskError::of("rename", from))?;
    sync_folder(parent(to))?;
    if parent(from) != parent(to) {
        sync_folder(parent(from))?;
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(DiskError::of("sync folder", path))
}

/// Reads a file that may be absent.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DiskError { action: "read", path: path.to_owned(), source }),
    }
}

/// The names in a folder that are UTF-8, sorted.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, DiskError> {
    let entries = fs::read_dir(path).map_err(DiskError::of("list", path))?;
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

    #[test]
    fn a_replaced_file_is_its_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inner");
        create_folder(&path).unwrap();
        create_folder(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let file = path.join("file");
        assert_eq!(read_optional(&file).unwrap(), None);
        replace(&file, b"one").unwrap();
        replace(&file, b"two").unwrap();
        assert_eq!(read_optional(&file).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(&path).unwrap(), ["file"]);
    }

    #[test]
    fn errors_name_the_path() {
        let error = replace(Path::new("/nonexistent-folder/file"), b"").unwrap_err();
        assert!(error.to_string().contains("/nonexistent-folder/file.tmp"), "{error}");
    }
}
