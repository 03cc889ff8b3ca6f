//! The vault: what must be deletable, beside a ledger and never in it.
//!
//! A ledger's bytes are for ever, so no personal value is in them in the clear, nor under a key that is in them. A record holds
//! commitments ([`cairn_schemas::commitment`]) and references to encrypted blobs ([`crate::blob`]); the values' disclosures and all
//! keys lie here, in `<LEDGER>.vault/` (0700, files 0600), and erasing a subject is destroying its keys:
//!
//! ```text
//! secret                           the key of the index below
//! keys/<key id>                    a key, when it expires, and whose it is (as the index names them)
//! subjects/<hex>                   HMAC-SHA256 of a subject's name under the secret: the ids of its keys, a line each
//! disclosures/<key id>/<digest>    a disclosure, encrypted under that key
//! erasing/<id>                     an erasure that has begun and is not recorded yet
//! temporary/                       files that do not have their name yet
//! lock                             flock(2): held by the one process that writes
//! ```
//!
//! The bytes are in `ledger/FORMAT.md`, Erasure. The vault is not derived: who deletes it erases everything in it, without a record.
//! It protects values from whoever has the ledger, not from whoever has this folder: put it on an encrypted disk, and keep it out of
//! backups that outlive an erasure.
//!
//! Feature `vault` opens disclosures and blobs ([`VaultDir`]); feature `write` makes and destroys them ([`Vault`]).

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cairn_schemas::commitment::{Commitment, DISCLOSURE_LEN_MAX, Disclosure, DisclosureError, KeyId};
use cairn_schemas::data::ErasureReason;
use cairn_schemas::references::BlobReference;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::blob::{self, BlobError};

#[cfg(feature = "write")]
mod erase;
#[cfg(feature = "write")]
mod keep;
pub mod key;
#[cfg(feature = "write")]
mod seal;

#[cfg(feature = "write")]
pub use erase::{Erasure, ErasureId};
#[cfg(feature = "write")]
pub use keep::Vault;
#[cfg(feature = "write")]
pub use seal::{BlobPath, PersonalPath, SealPersonalError, SealedPersonal, seal_personal};

use key::{KEY_FILE_LEN, KeyFile, NONCE_LEN};

/// What a vault's name adds to its ledger's: `ledger.vault` beside `ledger`.
pub const VAULT_SUFFIX: &str = ".vault";

const KEYS: &str = "keys";
const DISCLOSURES: &str = "disclosures";
const ERASING: &str = "erasing";
/// A thousand keys and a ticket need less.
const INTENT_LEN_MAX: usize = 64 << 10;
/// Nonce and tag around a disclosure's text.
const DISCLOSURE_FILE_LEN_MAX: usize = NONCE_LEN + DISCLOSURE_LEN_MAX + 16;

/// Why the vault did not do what it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The system could not read or write a file.
    #[error("cannot {action} {path} in the vault")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what, below the vault.
        path: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// Another process writes this vault.
    #[error("the vault is in use by another process")]
    Locked,
    /// A file of the vault is not what it must be.
    #[error("{path} in the vault is damaged: {reason}")]
    Damaged {
        /// The file, below the vault.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such key: it was destroyed, or it is another vault's.
    #[error("the vault has no key {key}: it was erased, or it is another vault's")]
    NoKey {
        /// The key.
        key: KeyId,
    },
    /// There is no such disclosure under its key.
    #[error("the vault has no disclosure for {commitment}")]
    NoDisclosure {
        /// What it would open.
        commitment: Commitment,
    },
    /// A disclosure is not what was committed to.
    #[error("the disclosure of {commitment} does not open it: {reason}")]
    WrongDisclosure {
        /// What it should open.
        commitment: Commitment,
        /// What is wrong.
        reason: String,
    },
    /// A blob is not what its record refers to, or cannot be made.
    #[error("a blob cannot be used")]
    Blob(#[source] BlobError),
    /// A value cannot have a disclosure.
    #[error(transparent)]
    Disclosure(#[from] DisclosureError),
    /// The subject has no key here.
    #[error("the vault knows nothing of this subject")]
    NoSubject,
    /// A subject's name is empty or too long.
    #[error("a subject's name has 1 to {SUBJECT_LEN_MAX} bytes; this one has {len}")]
    Subject {
        /// How many it has.
        len: usize,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] io::Error),
}

/// Longest name of a subject, bytes.
pub const SUBJECT_LEN_MAX: usize = 512;

/// What an erasure's file holds: which keys, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intent {
    keys: Vec<KeyId>,
    reason: ErasureReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
}

impl Intent {
    fn parse(path: &str, bytes: &[u8]) -> Result<Intent, VaultError> {
        serde_json::from_slice(bytes)
            .map_err(|error| VaultError::Damaged { path: path.to_owned(), reason: error.to_string() })
    }
}

fn key_path(key: KeyId) -> String {
    format!("{KEYS}/{key}")
}

fn disclosure_folder(key: KeyId) -> String {
    format!("{DISCLOSURES}/{key}")
}

fn disclosure_path(commitment: &Commitment) -> String {
    format!("{}/{}", disclosure_folder(commitment.key), commitment.digest)
}

/// The key in a file of the vault; `None`: it was destroyed.
fn parse_key(id: KeyId, bytes: &[u8]) -> Result<Option<KeyFile>, VaultError> {
    KeyFile::parse(bytes).map_err(|reason| VaultError::Damaged { path: key_path(id), reason: reason.to_owned() })
}

/// Decrypts a disclosure's file and holds it to its commitment.
fn open_disclosure(commitment: &Commitment, key: &KeyFile, file: &[u8]) -> Result<Disclosure, VaultError> {
    let wrong = |reason: &str| VaultError::WrongDisclosure { commitment: *commitment, reason: reason.to_owned() };
    let (nonce, sealed) = file.split_first_chunk::<NONCE_LEN>().ok_or_else(|| wrong("its file is cut"))?;
    let plain = key
        .key
        .open(nonce, commitment.to_string().as_bytes(), sealed)
        .ok_or_else(|| wrong("it is not the one that was encrypted under this key for this commitment"))?;
    let text = std::str::from_utf8(&plain).map_err(|_| wrong("it is no text"))?;
    let disclosure = Disclosure::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if commitment.opens_with(&disclosure) { Ok(disclosure) } else { Err(wrong("its digest is another one")) }
}

#[cfg(test)]
pub(crate) fn open_disclosure_file(
    commitment: &Commitment,
    key: key::VaultKey,
    file: &[u8],
) -> Result<Disclosure, VaultError> {
    open_disclosure(commitment, &KeyFile { key, expires: None, subject: [0; 32] }, file)
}

/// A vault that is only read: for whoever may see values, and for `cairn verify --vault`.
#[derive(Debug, Clone)]
pub struct VaultDir {
    root: PathBuf,
}

impl VaultDir {
    /// The vault in this folder. Nothing is read yet.
    #[must_use]
    pub fn new(root: &Path) -> VaultDir {
        VaultDir { root: root.to_owned() }
    }

    /// Whether a key is there, and can open anything.
    ///
    /// # Errors
    /// [`VaultError::Io`], [`VaultError::Damaged`].
    pub fn has_key(&self, key: KeyId) -> Result<bool, VaultError> {
        Ok(self.key(key)?.is_some())
    }

    /// The disclosure that opens a commitment.
    ///
    /// # Errors
    /// [`VaultError::NoKey`], [`VaultError::NoDisclosure`], [`VaultError::WrongDisclosure`], and those of reading.
    pub fn disclosure(&self, commitment: &Commitment) -> Result<Disclosure, VaultError> {
        let key = self.key(commitment.key)?.ok_or(VaultError::NoKey { key: commitment.key })?;
        let file = self
            .read(&disclosure_path(commitment), DISCLOSURE_FILE_LEN_MAX)?
            .ok_or(VaultError::NoDisclosure { commitment: *commitment })?;
        open_disclosure(commitment, &key, &file)
    }

    /// The plain text of a blob, from its file's bytes.
    ///
    /// # Errors
    /// [`VaultError::NoKey`], [`VaultError::Blob`], and those of reading.
    pub fn open_blob(&self, reference: &BlobReference, file: &[u8]) -> Result<Vec<u8>, VaultError> {
        let key = self.key(reference.key)?.ok_or(VaultError::NoKey { key: reference.key })?;
        blob::open(reference, &key.key, file).map_err(VaultError::Blob)
    }

    /// The disclosures that lie under a key, by name; none where there is no such key.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn disclosures(&self, key: KeyId) -> Result<Vec<Commitment>, VaultError> {
        let names = self.names(&disclosure_folder(key))?;
        Ok(names.iter().filter_map(|name| Some(Commitment { key, digest: name.parse().ok()? })).collect())
    }

    /// The ids of all keys that are there.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn keys(&self) -> Result<Vec<KeyId>, VaultError> {
        Ok(self.names(KEYS)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The keys whose erasure has begun and is not recorded, or was not when somebody last wrote here.
    ///
    /// # Errors
    /// [`VaultError::Io`], [`VaultError::Damaged`].
    pub fn erasing(&self) -> Result<Vec<KeyId>, VaultError> {
        let mut keys = Vec::new();
        for name in self.names(ERASING)? {
            let path = format!("{ERASING}/{name}");
            if let Some(bytes) = self.read(&path, INTENT_LEN_MAX)? {
                keys.extend(Intent::parse(&path, &bytes)?.keys);
            }
        }
        Ok(keys)
    }

    fn key(&self, id: KeyId) -> Result<Option<KeyFile>, VaultError> {
        match self.read(&key_path(id), KEY_FILE_LEN)? {
            Some(bytes) => parse_key(id, &zeroize::Zeroizing::new(bytes)),
            None => Ok(None),
        }
    }

    fn read(&self, path: &str, len_max: usize) -> Result<Option<Vec<u8>>, VaultError> {
        let failed = |source| VaultError::Io { action: "read", path: path.to_owned(), source };
        let whole = self.root.join(path);
        // Before opening: opening a pipe would wait for its other end.
        match std::fs::metadata(&whole) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => {
                return Err(VaultError::Damaged { path: path.to_owned(), reason: "it is not a regular file".into() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(whole).map_err(failed)?;
        file.take(len_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > len_max {
            let reason = format!("it has more than {len_max} bytes");
            return Err(VaultError::Damaged { path: path.to_owned(), reason });
        }
        Ok(Some(bytes))
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, VaultError> {
        let failed = |source| VaultError::Io { action: "list", path: folder.to_owned(), source };
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod simulation;
#[cfg(test)]
#[cfg(feature = "write")]
mod tests;
