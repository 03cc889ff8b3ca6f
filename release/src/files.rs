//! The four files of a release, by name and as bytes read from a folder. Reading is all that happens here.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::bundle::BUNDLE_LEN_MAX;
use crate::content::CONTENT_LEN_MAX;

/// The deterministic archive of the policy files.
pub const CONTENT_FILE: &str = "content.tar";
/// The Sigstore bundle.
pub const STATEMENT_FILE: &str = "statement.sigstore.json";
/// The exact bytes of the `release.built` record.
pub const RECORD_FILE: &str = "record.json";
/// That record's proof of inclusion, with a checkpoint.
pub const PROOF_FILE: &str = "release.tlog-proof";

/// The four names, in the order in which they are written.
pub const FILES: [&str; 4] = [CONTENT_FILE, STATEMENT_FILE, RECORD_FILE, PROOF_FILE];

/// The most bytes that a reader takes of a file of a release; `None` for a name that is none of the four.
#[must_use]
pub fn len_max(file: &str) -> Option<usize> {
    match file {
        CONTENT_FILE => Some(CONTENT_LEN_MAX),
        STATEMENT_FILE => Some(BUNDLE_LEN_MAX),
        RECORD_FILE => Some(cairn_schemas::record::RECORD_LEN_MAX),
        PROOF_FILE => Some(cairn_ledger::proof::PROOF_TEXT_LEN_MAX),
        _ => None,
    }
}

/// A release as bytes from a disk or a network: nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReleaseFiles {
    /// `content.tar`.
    pub content_tar: Vec<u8>,
    /// `statement.sigstore.json`.
    pub statement: Vec<u8>,
    /// `record.json`.
    pub record: Vec<u8>,
    /// `release.tlog-proof`.
    pub proof: Vec<u8>,
}

/// Why a release cannot be read from a folder.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// A file is missing or unreadable.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is longer than any good one.
    #[error("{path} is longer than the {len_max} bytes it may have")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        len_max: usize,
    },
}

impl ReleaseFiles {
    /// Reads the four files from a release's folder.
    ///
    /// # Errors
    /// [`FilesError`]: the file that cannot be read, or is longer than its limit.
    pub fn read(folder: &Path) -> Result<ReleaseFiles, FilesError> {
        Ok(ReleaseFiles {
            content_tar: read(folder, CONTENT_FILE)?,
            statement: read(folder, STATEMENT_FILE)?,
            record: read(folder, RECORD_FILE)?,
            proof: read(folder, PROOF_FILE)?,
        })
    }

    /// The files with their names, in the order in which they are written.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &[u8]); 4] {
        [
            (CONTENT_FILE, &self.content_tar),
            (STATEMENT_FILE, &self.statement),
            (RECORD_FILE, &self.record),
            (PROOF_FILE, &self.proof),
        ]
    }
}

pub(crate) fn read(folder: &Path, file: &'static str) -> Result<Vec<u8>, FilesError> {
    let path = folder.join(file);
    let len_max = len_max(file).expect("invariant: one of the four names");
    let mut bytes = Vec::new();
    // One byte past the limit is enough to know; a longer file is not read into memory.
    std::fs::File::open(&path)
        .and_then(|opened| opened.take(len_max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| FilesError::Read { path: path.clone(), source })?;
    if bytes.len() > len_max { Err(FilesError::TooLarge { path, len_max }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_their_limits() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, len: usize| std::fs::write(folder.path().join(file), vec![b'x'; len]).unwrap();
        FILES.iter().for_each(|file| write(file, len_max(file).unwrap()));
        assert_eq!(ReleaseFiles::read(folder.path()).unwrap().content_tar.len(), CONTENT_LEN_MAX);
        write(RECORD_FILE, len_max(RECORD_FILE).unwrap() + 1);
        let error = ReleaseFiles::read(folder.path()).unwrap_err();
        assert!(matches!(&error, FilesError::TooLarge { path, .. } if path.ends_with(RECORD_FILE)), "{error}");
        std::fs::remove_file(folder.path().join(STATEMENT_FILE)).unwrap();
        assert!(ReleaseFiles::read(folder.path()).unwrap_err().to_string().contains(STATEMENT_FILE));
    }
}
