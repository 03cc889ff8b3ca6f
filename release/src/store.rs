//! Writing a release's folder so that a crash never leaves one that lies, and deciding what a crash left.
//!
//! The order (ARCHITECTURE.md, Release): `content.tar`, then `statement.sigstore.json`, each durable before the next; then the
//! caller appends `release.built`, which names both digests; then `record.json`; then, once a published checkpoint covers the
//! record, `release.tlog-proof`; then the release is offered. Each file appears whole or not at all: temporary name, fsync,
//! rename, fsync of the folder. [`resume`] is pure: it is told what exists and says what to do.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cairn_schemas::data::ReleaseBuilt;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{CommitId, Serial};
use thiserror::Error;

use crate::bundle::Bundle;
use crate::files::{self, CONTENT_FILE, FilesError, PROOF_FILE, RECORD_FILE, STATEMENT_FILE};
use crate::statement::Statement;

/// A write that did not become durable.
#[derive(Debug, Error)]
#[error("cannot write {path}: {source}")]
pub struct StoreError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Why what a crash left cannot be looked at.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FoundError {
    /// A file is unreadable or too long.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The folder is unreadable.
    #[error(transparent)]
    Folder(#[from] StoreError),
}

/// The folder `releases/` of a ledger, written by one process: the one that holds the ledger's lock.
#[derive(Debug, Clone)]
pub struct ReleaseStore {
    root: PathBuf,
}

impl ReleaseStore {
    /// The releases below `root`, made when the first is written.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> ReleaseStore {
        ReleaseStore { root: root.into() }
    }

    /// The folder of one release.
    #[must_use]
    pub fn folder(&self, serial: Serial) -> PathBuf {
        self.root.join(serial.to_string())
    }

    /// Writes archive and bundle, in this order, both durable on return. Call before the record is appended: a record whose
    /// files could be lost would name bytes that nobody has.
    ///
    /// # Errors
    /// [`StoreError`]. What is there then has no record; [`resume`] deletes or reuses it.
    pub fn stage(&self, serial: Serial, content_tar: &[u8], bundle: &[u8]) -> Result<(), StoreError> {
        let folder = self.folder(serial);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError { path, source }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        // The folder's own name must survive too, and that of `releases/`, which the first release makes.
        sync_folder(&self.root).map_err(failed(&self.root))?;
        if let Some(above) = self.root.parent().filter(|above| !above.as_os_str().is_empty()) {
            sync_folder(above).map_err(failed(above))?;
        }
        self.write(serial, CONTENT_FILE, content_tar)?;
        self.write(serial, STATEMENT_FILE, bundle)
    }

    /// Writes the exact bytes of `release.built`, once the ledger has acknowledged them.
    ///
    /// # Errors
    /// [`StoreError`]; the ledger still has the record, and [`resume`] writes it from there.
    pub fn write_record(&self, serial: Serial, record: &[u8]) -> Result<(), StoreError> {
        self.write(serial, RECORD_FILE, record)
    }

    /// Writes the proof, once a published checkpoint covers the record. After this the release may be offered.
    ///
    /// # Errors
    /// [`StoreError`]; [`resume`] asks for it again.
    pub fn write_proof(&self, serial: Serial, proof: &[u8]) -> Result<(), StoreError> {
        self.write(serial, PROOF_FILE, proof)
    }

    /// Deletes a release that has no record. Its statement goes first: what a crash leaves in between cannot be reused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delete(&self, serial: Serial) -> Result<(), StoreError> {
        let folder = self.folder(serial);
        let done = |result: io::Result<()>, path: PathBuf| match result {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError { path, source }),
            _ => Ok(()),
        };
        let statement = folder.join(STATEMENT_FILE);
        done(fs::remove_file(&statement), statement)?;
        done(fs::remove_dir_all(&folder), folder)?;
        done(sync_folder(&self.root), self.root.clone())
    }

    /// Serials that have a folder, in ascending order; anything else in `releases/` is left alone.
    ///
    /// # Errors
    /// [`StoreError`]: the folder is there and cannot be read.
    pub fn serials(&self) -> Result<Vec<Serial>, StoreError> {
        let failed = |source| StoreError { path: self.root.clone(), source };
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut serials = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let serial = name.to_str().and_then(|name| name.parse::<u64>().ok().filter(|n| n.to_string() == name));
            serials.extend(serial.map(Serial));
        }
        serials.sort_unstable();
        Ok(serials)
    }

    /// Looks at what a release's folder holds.
    ///
    /// # Errors
    /// [`FoundError`]: a file is there and cannot be read.
    pub fn found(&self, serial: Serial) -> Result<Found, FoundError> {
        let folder = self.folder(serial);
        Found::of(serial, |file| match files::read(&folder, file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(FilesError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    fn write(&self, serial: Serial, file: &'static str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder(serial).join(file);
        write_durable(&path, bytes).map_err(|source| StoreError { path, source })
    }
}

impl Found {
    /// Looks at a release whose files `read` reads; `None`: there is no such file.
    ///
    /// # Errors
    /// What `read` says.
    pub fn of<E>(serial: Serial, mut read: impl FnMut(&'static str) -> Result<Option<Vec<u8>>, E>) -> Result<Found, E> {
        let statement = read(STATEMENT_FILE)?;
        let parsed = statement
            .as_deref()
            .and_then(|bytes| Bundle::parse(bytes).ok())
            .and_then(|bundle| Statement::parse(bundle.payload_unverified()).ok());
        Ok(Found {
            serial,
            content: read(CONTENT_FILE)?.map(|bytes| Digest::sha256(&bytes)),
            statement: statement.map(|bytes| Digest::sha256(&bytes)),
            parsed,
            record: read(RECORD_FILE)?.map(|bytes| Digest::leaf(&bytes)),
            proof: read(PROOF_FILE)?.is_some(),
        })
    }
}

/// Expected system calls: open(O_CREAT|O_TRUNC) of `.<name>.new`, write, fsync, close, rename, open of the folder, fsync. A
/// crash before the rename leaves the temporary name, which the next write of the same file truncates.
fn write_durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (folder, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What the folder of a release holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The folder's serial.
    pub serial: Serial,
    /// SHA-256 of `content.tar`.
    pub content: Option<Digest>,
    /// SHA-256 of `statement.sigstore.json`.
    pub statement: Option<Digest>,
    /// The statement, where it can be read.
    pub parsed: Option<Statement>,
    /// Leaf hash of `record.json`.
    pub record: Option<Digest>,
    /// Whether there is a proof.
    pub proof: bool,
}

/// What the ledger says of the same serial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The data of its `release.built`.
    pub built: ReleaseBuilt,
    /// The record's leaf hash.
    pub leaf: Digest,
}

/// What to do with a release's folder at start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resume {
    /// All four files are there and are the record's.
    Complete,
    /// Recorded, and `record.json` is missing or torn: write it from the ledger, then the proof.
    WriteRecord,
    /// Recorded, and only the proof is missing: write it when a checkpoint covers the record.
    WriteProof,
    /// Staged, not recorded, and still what the tip would give: append `release.built` of this statement, then go on.
    Append(Box<Statement>),
    /// Not recorded, and incomplete or of another commit: delete it. The serial is free again.
    Delete,
    /// Recorded, and a file that the record names is gone or another. It cannot be made again: its signature was over these
    /// bytes. The release stays in the ledger and is not offered.
    Damaged {
        /// The file.
        file: &'static str,
    },
}

/// Decides what to do with what was found. `recorded`: what the ledger has for this serial. `tip`: the commit that would be
/// built now. `next`: the serial that it would get.
#[must_use]
pub fn resume(found: &Found, recorded: Option<&Recorded>, tip: Option<&CommitId>, next: Serial) -> Resume {
    let Some(recorded) = recorded else { return resume_unrecorded(found, tip, next) };
    if found.content != Some(recorded.built.content) {
        return Resume::Damaged { file: CONTENT_FILE };
    }
    if found.statement != Some(recorded.built.statement) {
        return Resume::Damaged { file: STATEMENT_FILE };
    }
    match (found.record == Some(recorded.leaf), found.proof) {
        (false, _) => Resume::WriteRecord,
        (true, false) => Resume::WriteProof,
        (true, true) => Resume::Complete,
    }
}

fn resume_unrecorded(found: &Found, tip: Option<&CommitId>, next: Serial) -> Resume {
    match &found.parsed {
        Some(statement)
            if found.content == Some(statement.content)
                && found.serial == next
                && statement.predicate.serial == next
                && Some(&statement.predicate.commit.id) == tip =>
        {
            Resume::Append(Box::new(statement.clone()))
        }
        _ => Resume::Delete,
    }
}

#[cfg(test)]
mod tests;
