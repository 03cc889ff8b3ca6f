//! A node's files, all of them its owner's only: see [`cairn_ledger::files`].

use std::path::Path;

use cairn_ledger::files::{self, Readers};

pub use cairn_ledger::files::DiskError;
pub(crate) use cairn_ledger::files::{names, read_optional, rename};

/// Makes a folder (0700) and its missing parents, durably; nothing happens if it exists.
pub(crate) fn create_folder(path: &Path) -> Result<(), DiskError> {
    files::create_folder(path, Readers::Owner).map(drop)
}

/// Replaces a file's content as one step (0600).
///
/// # Errors
/// The system's; what was there before is there still, or all of the new.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    files::replace(path, bytes, Readers::Owner)
}
