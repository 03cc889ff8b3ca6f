//! What a person marks personal in a payload, taken out of it before the record is sealed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_schemas::commitment::{Disclosure, DisclosureError, KeyId, SALT_LEN};
use cairn_schemas::references::{self, BlobReference, Reference};
use cairn_schemas::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{Vault, VaultError};
use crate::blob;
use crate::files::DiskError;
use crate::random::Random;

/// A personal value in a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonalPath {
    /// Where it stands in `data`: a JSON pointer (RFC 6901), such as `/user/email`.
    pub path: String,
    /// Whose it is: any name by which its erasure will be asked for. It goes nowhere in the clear.
    pub subject: String,
}

/// A file that becomes a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobPath {
    /// Where its reference will stand in `data`: a JSON pointer. What stands there is replaced; a last part that is missing is made.
    pub path: String,
    /// The file.
    pub file: PathBuf,
    /// Whose it is; without it, the blob has a key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// Why personal values could not be taken out of a payload. No value is repeated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealPersonalError {
    /// There is nothing at a path.
    #[error("there is nothing at {path:?} in `data`: a JSON pointer names it as /member/0/member")]
    Nothing {
        /// The path.
        path: String,
    },
    /// The whole payload cannot be one value.
    #[error("`data` as a whole cannot be a personal value or a blob: name a member of it")]
    Whole,
    /// Two paths, one of them within the other, or twice the same.
    #[error("{path:?} is named twice, or lies within another path that is named")]
    Overlap {
        /// The path.
        path: String,
    },
    /// The payload already has something that reads as a commitment or a blob's reference: nobody here can vouch for it.
    #[error("{path:?} in `data` reads as a commitment or as a blob's reference already")]
    Refers {
        /// The path.
        path: String,
    },
    /// A value is too long.
    #[error("at {path:?}: {source}")]
    Value {
        /// The path.
        path: String,
        /// Why.
        source: DisclosureError,
    },
    /// The vault gave no key.
    #[error("at {path:?}: no key")]
    Key {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: VaultError,
    },
    /// A blob's place is in nothing that has members.
    #[error("there is no object or list at the beginning of {path:?} in `data`")]
    NoPlace {
        /// The path.
        path: String,
    },
    /// A blob's file could not be read, or the blob not be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was taken out could not be kept.
    #[error("the vault did not keep the values")]
    Keep(#[source] VaultError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] std::io::Error),
}

/// What was taken out of a payload: a disclosure for each value, with the key that it is kept under ([`Vault::keep`]).
pub type SealedPersonal = Vec<(KeyId, Disclosure)>;

/// Puts a commitment in the place of each personal value of a payload. Pure but for what it is handed: `key` gives the key of a
/// subject, `random` the salts. A disclosure's name is the value's path.
///
/// # Errors
/// [`SealPersonalError`]; then `data` is as it was.
pub fn seal_personal(
    data: &mut Value,
    personal: &[PersonalPath],
    mut key: impl FnMut(&str) -> Result<KeyId, VaultError>,
    random: &dyn Random,
) -> Result<SealedPersonal, SealPersonalError> {
    check_paths(personal.iter().map(|value| value.path.as_str()))?;
    refers_to_nothing(data)?;
    let mut disclosures = Vec::with_capacity(personal.len());
    for PersonalPath { path, subject } in personal {
        let value = data.pointer(path).ok_or_else(|| SealPersonalError::Nothing { path: path.clone() })?;
        let key = key(subject).map_err(|source| SealPersonalError::Key { path: path.clone(), source })?;
        let mut salt = [0; SALT_LEN];
        random.fill(&mut salt).map_err(SealPersonalError::Random)?;
        let disclosure = Disclosure::new(salt, path, value)
            .map_err(|source| SealPersonalError::Value { path: path.clone(), source })?;
        disclosures.push((key, disclosure));
    }
    // Nothing can go wrong any more: all paths are there, and none lies within another.
    for (PersonalPath { path, .. }, (key, disclosure)) in personal.iter().zip(&disclosures) {
        if let Some(place) = data.pointer_mut(path) {
            *place = Value::from(disclosure.commitment(*key).to_string());
        }
    }
    Ok(disclosures)
}

impl Vault {
    /// Takes a payload's personal values out of it, and puts references to blobs into it. When this returns, everything that it now
    /// refers to is durable: disclosures and keys in this vault, blobs in the ledger at `ledger`. Then the record may be appended; if
    /// it is not, what was kept is what nobody refers to, and goes with its key. With `retain`, keys expire ([`Vault::key_for`]).
    ///
    /// # Errors
    /// [`SealPersonalError`]; `data` is then not for any use.
    pub fn seal_payload(
        &self,
        ledger: &Path,
        data: &mut Value,
        personal: &[PersonalPath],
        blobs: &[BlobPath],
        retain: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), SealPersonalError> {
        let put = |reference: &BlobReference, file: Vec<u8>| blob::put(ledger, reference, &file);
        let disclosures = self.hide(put, data, personal, blobs, retain, now)?;
        self.keep(&disclosures).map_err(SealPersonalError::Keep)
    }

    /// [`Vault::seal_payload`] for callers with many payloads: keys and blobs are durable when this returns, and the disclosures are the
    /// caller's to [`Vault::keep`], many at once, before any of the records is appended. `put` puts the bytes of a blob's file under its
    /// path ([`blob::path`]) in the ledger, wherever that lies, durable when it returns.
    ///
    /// # Errors
    /// As there.
    pub fn hide(
        &self,
        put: impl Fn(&BlobReference, Vec<u8>) -> Result<(), DiskError>,
        data: &mut Value,
        personal: &[PersonalPath],
        blobs: &[BlobPath],
        retain: Option<Duration>,
        now: Timestamp,
    ) -> Result<SealedPersonal, SealPersonalError> {
        let paths = personal.iter().map(|value| &value.path).chain(blobs.iter().map(|blob| &blob.path));
        check_paths(paths.map(String::as_str))?;
        let key = |subject: &str| self.key_for(subject, retain, now);
        let disclosures = seal_personal(data, personal, key, &*self.random)?;
        for BlobPath { path, file, subject } in blobs {
            let failed = |source| SealPersonalError::Key { path: path.clone(), source };
            let plain = read_blob(file, path)?;
            let key = match subject {
                Some(subject) => self.key_for(subject, retain, now),
                None => self.key_for_blob(retain, now),
            };
            let (reference, bytes) = key.and_then(|key| self.seal_blob(key, &plain)).map_err(failed)?;
            place(data, path, reference.to_value())?;
            put(&reference, bytes)?;
        }
        Ok(disclosures)
    }
}

/// A file that is to be a blob.
fn read_blob(file: &Path, path: &str) -> Result<Vec<u8>, SealPersonalError> {
    let len = std::fs::metadata(file).map_err(DiskError::of("read", file))?.len();
    blob::check_len(len)
        .map_err(|error| SealPersonalError::Key { path: path.to_owned(), source: VaultError::Blob(error) })?;
    Ok(std::fs::read(file).map_err(DiskError::of("read", file))?)
}

/// Puts a value where a pointer says: in the place of what is there, or as a new member of an object.
fn place(data: &mut Value, path: &str, value: Value) -> Result<(), SealPersonalError> {
    if let Some(place) = data.pointer_mut(path) {
        *place = value;
        return Ok(());
    }
    let no_place = || SealPersonalError::NoPlace { path: path.to_owned() };
    let (parent, name) = path.rsplit_once('/').ok_or_else(no_place)?;
    let members = data.pointer_mut(parent).and_then(Value::as_object_mut).ok_or_else(no_place)?;
    members.insert(name.replace("~1", "/").replace("~0", "~"), value);
    Ok(())
}

/// Paths that name members, none of them twice or within another.
fn check_paths<'a>(paths: impl Iterator<Item = &'a str>) -> Result<(), SealPersonalError> {
    let mut paths: Vec<String> = paths.map(|path| format!("{path}/")).collect();
    if paths.iter().any(|path| path == "/") {
        return Err(SealPersonalError::Whole);
    }
    paths.sort_unstable();
    match paths.windows(2).find(|two| two[1].starts_with(&two[0])) {
        Some(two) => Err(SealPersonalError::Overlap { path: two[1].trim_end_matches('/').to_owned() }),
        None => Ok(()),
    }
}

/// A payload as somebody handed it in refers to nothing: only what was put into it here may.
fn refers_to_nothing(data: &Value) -> Result<(), SealPersonalError> {
    let found: Vec<(String, Reference)> = references::find(data);
    match found.into_iter().next() {
        Some((path, _)) => Err(SealPersonalError::Refers { path }),
        None => Ok(()),
    }
}
