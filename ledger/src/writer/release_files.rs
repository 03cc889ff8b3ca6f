//! Release files of a ledger that is no directory: who makes releases puts them through the ledger.

use std::io;

use super::Ledger;
use crate::store::{ReleaseFiles, StoreError};

impl Ledger {
    /// Whether release files are put and read through the ledger, because it lies in a bucket. In a directory whoever makes releases writes
    /// their files below `releases/`.
    #[must_use]
    pub fn keeps_release_files(&self) -> bool {
        self.inner.shared().root.release_files().is_some()
    }

    /// Puts a file below `releases/` that no record names yet, durable when this returns and not locked. What an earlier attempt left
    /// under the same path goes.
    ///
    /// # Errors
    /// The store's; another place; the ledger is a directory.
    pub fn stage_release_file(&self, path: &str, bytes: Vec<u8>) -> io::Result<()> {
        self.with_release_files(path, |files| files.stage(path, bytes))
    }

    /// Makes sure that a file that a durable record names is there with these bytes, and locks it as everything that never changes.
    /// Safe to repeat.
    ///
    /// # Errors
    /// As [`Ledger::stage_release_file`]; the file is there with other bytes.
    pub fn settle_release_file(&self, path: &str, bytes: Vec<u8>) -> io::Result<()> {
        self.with_release_files(path, |files| {
            files.settle(path, bytes).map_err(|error| match error {
                StoreError::Io(error) => error,
                conflict => io::Error::other(conflict),
            })
        })
    }

    /// Removes a file that no record names. No error where there is none.
    ///
    /// # Errors
    /// As [`Ledger::stage_release_file`]; it was settled, and is locked.
    pub fn unstage_release_file(&self, path: &str) -> io::Result<()> {
        self.with_release_files(path, |files| files.unstage(path))
    }

    /// The paths of all release files.
    ///
    /// # Errors
    /// The store's; the ledger is a directory.
    pub fn release_files(&self) -> io::Result<Vec<String>> {
        self.with_release_files("releases/", |files| files.below("releases"))
    }

    fn with_release_files<T>(&self, path: &str, act: impl FnOnce(&dyn ReleaseFiles) -> io::Result<T>) -> io::Result<T> {
        let refuse = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        if !path.starts_with("releases/") || path.split('/').any(|part| matches!(part, "." | "..")) {
            return refuse(format!("{path} is not below releases/"));
        }
        match self.inner.shared().root.release_files() {
            Some(files) => act(files),
            None => refuse("the ledger is a directory, in which release files are written as files".to_owned()),
        }
    }
}
