//! What lies beside a ledger and never in it: `<LEDGER>.keys/`, `<LEDGER>.vault/`, `<LEDGER>.index/`.
//!
//! A ledger's directory is what an auditor is given, so nothing secret and nothing derived may be in it. The folders' names follow
//! from the ledger's own path, links resolved: whichever way a ledger is named, its keys are the same.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder or file beside the ledger at `ledger` whose name is the ledger's with `suffix` after it: `.keys`, `.vault`, `.index`.
/// The ledger need not exist. Nothing is made.
///
/// # Errors
/// The current directory cannot be told, or the path names no folder (`/`).
pub fn beside(ledger: &Path, suffix: &str) -> std::io::Result<PathBuf> {
    let resolved = resolve(ledger)?;
    let mut name: OsString = resolved
        .file_name()
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path names no folder"))?
        .to_owned();
    name.push(suffix);
    Ok(resolved.with_file_name(name))
}

/// The path without links and dots. Where the last part does not exist yet, its parent's, and the part.
pub(crate) fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    if let Ok(found) = path.canonicalize() {
        return Ok(found);
    }
    let whole = std::path::absolute(path)?;
    match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(name)) => Ok(resolve(parent)?.join(name)),
        _ => Ok(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_ledger_has_the_same_neighbours() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let ledger = root.join("ledger");
        let keys = root.join("ledger.keys");
        assert_eq!(beside(&ledger, ".keys").unwrap(), keys);
        std::fs::create_dir(&ledger).unwrap();
        std::os::unix::fs::symlink(&ledger, root.join("link")).unwrap();
        for name in ["ledger", "ledger/", "./ledger", "ledger/.", "link", "ledger/../ledger"] {
            assert_eq!(beside(&root.join(name), ".keys").unwrap(), keys, "{name}");
        }
        assert_eq!(beside(&root.join("not/yet"), ".index").unwrap(), root.join("not/yet.index"));
        assert!(beside(Path::new("/"), ".keys").is_err());
    }
}
