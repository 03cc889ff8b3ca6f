//! Where a ledger's release files are: below `releases/` of its directory, or in its bucket.
//!
//! The order of effects is that of [`crate::build`] in both. In a bucket nothing is kept on this machine's disk: whoever takes the
//! ledger over on another machine finds what a build left, and goes on from there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cairn_ledger::writer::Ledger;
use cairn_release::content::{self, Content, ContentError};
use cairn_release::files::{CONTENT_FILE, PROOF_FILE, RECORD_FILE, STATEMENT_FILE};
use cairn_release::store::{Found, ReleaseStore};
use cairn_schemas::data::ReleaseBuilt;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Serial};
use cairn_schemas::record::Record;

use crate::build::BuildError;
use crate::durable::DiskError;

/// Why a release's content cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadContentError {
    /// The archive cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The archive is another.
    #[error("{} has the SHA-256 {actual}, and the release is {expected}", path.display())]
    Digest {
        /// The archive.
        path: PathBuf,
        /// What the ledger says.
        expected: Digest,
        /// What it has.
        actual: Digest,
    },
    /// The archive is malformed.
    #[error("{}: {source}", path.display())]
    Content {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: ContentError,
    },
}

/// The release files of one ledger.
#[derive(Debug, Clone)]
pub struct Releases(Files);

#[derive(Debug, Clone)]
enum Files {
    Folder { store: ReleaseStore, root: PathBuf },
    Bucket(Arc<Bucket>),
}

#[derive(Debug)]
struct Bucket {
    ledger: Ledger,
    /// What was staged last: should it be gone when its record is durable, it is put again.
    staged: Mutex<Vec<(String, Vec<u8>)>>,
}

/// A release's file below the ledger's root.
fn path(serial: Serial, file: &str) -> String {
    format!("releases/{serial}/{file}")
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> BuildError + use<> {
    let path = path.to_owned();
    move |source| BuildError::ReleaseFile { action, path, source }
}

impl Releases {
    /// Those below a folder `releases/`.
    #[must_use]
    pub fn folder(root: &Path) -> Releases {
        Releases(Files::Folder { store: ReleaseStore::new(root), root: root.to_owned() })
    }

    /// Those of a ledger in a bucket.
    #[must_use]
    pub fn bucket(ledger: Ledger) -> Releases {
        Releases(Files::Bucket(Arc::new(Bucket { ledger, staged: Mutex::default() })))
    }

    /// What people are told a file is.
    #[must_use]
    pub fn shown(&self, serial: Serial, file: &str) -> PathBuf {
        match &self.0 {
            Files::Folder { root, .. } => root.join(serial.to_string()).join(file),
            Files::Bucket(_) => path(serial, file).into(),
        }
    }

    /// A file.
    ///
    /// # Errors
    /// `NotFound`, or the store's.
    pub fn read(&self, serial: Serial, file: &str) -> io::Result<Vec<u8>> {
        match &self.0 {
            Files::Folder { .. } => std::fs::read(self.shown(serial, file)),
            Files::Bucket(bucket) => bucket.ledger.read_file(&path(serial, file)),
        }
    }

    /// The files of a release, which are what the ledger says.
    ///
    /// # Errors
    /// [`ReadContentError`].
    pub fn content(&self, release: ReleaseRef) -> Result<Content, ReadContentError> {
        let path = self.shown(release.serial, CONTENT_FILE);
        let bytes = self.read(release.serial, CONTENT_FILE).map_err(DiskError::of("read", &path))?;
        let actual = Digest::sha256(&bytes);
        if actual != release.digest {
            return Err(ReadContentError::Digest { path, expected: release.digest, actual });
        }
        content::unpack(&bytes).map_err(|source| ReadContentError::Content { path, source })
    }

    /// The serials of which there is any file.
    pub(crate) fn serials(&self) -> Result<Vec<Serial>, BuildError> {
        match &self.0 {
            Files::Folder { store, .. } => Ok(store.serials()?),
            Files::Bucket(bucket) => {
                let serials: BTreeSet<Serial> = bucket.listed()?.into_iter().map(|(serial, _)| serial).collect();
                Ok(serials.into_iter().collect())
            }
        }
    }

    /// The serials of which there is a proof. It is written last: where it is, everything before it is.
    pub(crate) fn proven(&self) -> Result<BTreeSet<Serial>, BuildError> {
        match &self.0 {
            Files::Folder { store, .. } => {
                let proven = |serial: &Serial| store.folder(*serial).join(PROOF_FILE).is_file();
                Ok(store.serials()?.into_iter().filter(proven).collect())
            }
            Files::Bucket(bucket) => {
                let listed = bucket.listed()?.into_iter();
                Ok(listed.filter(|(_, file)| file == PROOF_FILE).map(|(serial, _)| serial).collect())
            }
        }
    }

    /// Looks at what there is of a release.
    pub(crate) fn found(&self, serial: Serial) -> Result<Found, BuildError> {
        match &self.0 {
            Files::Folder { store, .. } => Ok(store.found(serial)?),
            Files::Bucket(bucket) => Found::of(serial, |file| bucket.read_optional(&path(serial, file))),
        }
    }

    /// Puts archive and statement, in this order, both durable on return and without a record.
    pub(crate) fn stage(&self, serial: Serial, content_tar: &[u8], statement: &[u8]) -> Result<(), BuildError> {
        match &self.0 {
            Files::Folder { store, .. } => Ok(store.stage(serial, content_tar, statement)?),
            Files::Bucket(bucket) => {
                let mut staged = Vec::new();
                for (file, bytes) in [(CONTENT_FILE, content_tar), (STATEMENT_FILE, statement)] {
                    let path = path(serial, file);
                    bucket.ledger.stage_release_file(&path, bytes.to_vec()).map_err(failed("write", &path))?;
                    staged.push((path, bytes.to_vec()));
                }
                *bucket.staged.lock().unwrap_or_else(PoisonError::into_inner) = staged;
                Ok(())
            }
        }
    }

    /// Puts the exact bytes of `release.built`, once the ledger has acknowledged them.
    pub(crate) fn write_record(&self, serial: Serial, record: &[u8]) -> Result<(), BuildError> {
        match &self.0 {
            Files::Folder { store, .. } => Ok(store.write_record(serial, record)?),
            Files::Bucket(bucket) => {
                bucket.settle_staged(serial, record)?;
                bucket.settle(&path(serial, RECORD_FILE), record.to_vec())
            }
        }
    }

    /// Puts the proof, once a published checkpoint covers the record.
    pub(crate) fn write_proof(&self, serial: Serial, proof: &[u8]) -> Result<(), BuildError> {
        match &self.0 {
            Files::Folder { store, .. } => Ok(store.write_proof(serial, proof)?),
            Files::Bucket(bucket) => bucket.settle(&path(serial, PROOF_FILE), proof.to_vec()),
        }
    }

    /// Deletes a release that has no record. Its statement goes first: what a crash leaves in between cannot be reused.
    pub(crate) fn delete(&self, serial: Serial) -> Result<(), BuildError> {
        match &self.0 {
            Files::Folder { store, .. } => Ok(store.delete(serial)?),
            Files::Bucket(bucket) => {
                for file in [STATEMENT_FILE, CONTENT_FILE] {
                    let path = path(serial, file);
                    bucket.ledger.unstage_release_file(&path).map_err(failed("remove", &path))?;
                }
                Ok(())
            }
        }
    }
}

impl Bucket {
    /// Every release file: its serial and its name.
    fn listed(&self) -> Result<Vec<(Serial, String)>, BuildError> {
        let paths = self.ledger.release_files().map_err(failed("list", "releases"))?;
        let file = |path: &String| {
            let (serial, file) = path.strip_prefix("releases/")?.split_once('/')?;
            let number = serial.parse::<u64>().ok().filter(|number| number.to_string() == serial)?;
            Some((Serial(number), file.to_owned()))
        };
        Ok(paths.iter().filter_map(file).collect())
    }

    fn read_optional(&self, path: &str) -> Result<Option<Vec<u8>>, BuildError> {
        match self.ledger.read_file(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    fn settle(&self, path: &str, bytes: Vec<u8>) -> Result<(), BuildError> {
        self.ledger.settle_release_file(path, bytes).map_err(failed("write", path))
    }

    /// Holds archive and statement to the digests of their record, and locks them.
    fn settle_staged(&self, serial: Serial, record: &[u8]) -> Result<(), BuildError> {
        let built = Record::parse(record).and_then(|record| record.data_as::<ReleaseBuilt>());
        let built =
            built.map_err(|error| failed("read", &path(serial, RECORD_FILE))(io::Error::other(error.to_string())))?;
        for (file, digest) in [(CONTENT_FILE, built.content), (STATEMENT_FILE, built.statement)] {
            let path = path(serial, file);
            let is_it = |bytes: &Vec<u8>| Digest::sha256(bytes) == digest;
            let there = self.read_optional(&path)?.filter(is_it);
            let bytes = there.or_else(|| {
                let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
                staged.iter().find(|(of, bytes)| *of == path && is_it(bytes)).map(|(_, bytes)| bytes.clone())
            });
            let gone = || failed("read", &path)(io::Error::other("it is not the one that the ledger names"));
            self.settle(&path, bytes.ok_or_else(gone)?)?;
        }
        Ok(())
    }
}
