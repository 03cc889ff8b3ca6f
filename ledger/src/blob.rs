//! Blobs: what is too large or too foreign for a record, encrypted beside the tiles.
//!
//! A blob's file is named by the SHA-256 of all of its bytes, so that whoever holds the ledger can check it against the record
//! without being able to read it. Reading needs the key, which lies in the vault ([`crate::vault`]) and can be destroyed. The
//! bytes are in `ledger/FORMAT.md`, Blobs. Blobs lie at the ledger's root, for all volumes.

#[cfg(feature = "write")]
use std::collections::BTreeSet;
#[cfg(feature = "write")]
use std::io;
#[cfg(feature = "write")]
use std::path::Path;

use cairn_schemas::commitment::KeyId;
use cairn_schemas::digest::Digest;
use cairn_schemas::references::BLOB_LEN_MAX;
#[cfg(feature = "vault")]
use cairn_schemas::references::BlobReference;
use thiserror::Error;

#[cfg(feature = "write")]
use crate::disk::{DirDisk, Disk};
#[cfg(feature = "write")]
use crate::durable::{Folders, parent};
#[cfg(feature = "write")]
use crate::files::{DiskError, Readers, replace_on};
#[cfg(feature = "vault")]
use crate::vault::key::{NONCE_LEN, VaultKey};

/// Where blobs lie, below the ledger's root.
pub const BLOB_FOLDER: &str = "blobs";
/// How a blob's file begins.
const MAGIC: &[u8; 8] = b"CAIRNBLB";
/// The version of the layout.
const VERSION: u32 = 1;
/// Magic, version, key id, nonce.
pub const HEADER_LEN: usize = 8 + 4 + 16 + 24;
/// The authentication tag behind the ciphertext.
const TAG_LEN: usize = 16;

/// Largest file of a blob, bytes.
pub const BLOB_FILE_LEN_MAX: u64 = BLOB_LEN_MAX + (HEADER_LEN + TAG_LEN) as u64;

/// Why bytes are not the blob that a record refers to, or a blob cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BlobError {
    /// More than [`BLOB_LEN_MAX`] bytes.
    #[error("{len} bytes are too many for a blob; the limit is {BLOB_LEN_MAX}")]
    TooLong {
        /// How many.
        len: u64,
    },
    /// The file does not begin as a blob's does.
    #[error("it is not a blob: {reason}")]
    NotABlob {
        /// What is wrong.
        reason: String,
    },
    /// The record says another key.
    #[error("it is encrypted under key {found}; the record says {expected}")]
    Key {
        /// The record's.
        expected: KeyId,
        /// The file's.
        found: KeyId,
    },
    /// The file's length is not that of the record's size.
    #[error("it has {found} bytes; a blob of the record's size has {expected}")]
    Length {
        /// What the record determines.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// The file's bytes are others.
    #[error("its SHA-256 is {found}; the record says {expected}")]
    Digest {
        /// The record's.
        expected: Digest,
        /// The file's.
        found: Digest,
    },
    /// The key does not open it.
    #[error("the key does not open it: one of the two is not what it was")]
    WrongKey,
}

/// The file of the blob with this digest, below the ledger's root.
#[must_use]
pub fn path(digest: &Digest) -> String {
    let digest = digest.to_string();
    format!("{BLOB_FOLDER}/{}/{digest}", &digest[..2])
}

/// The length of the file of a blob whose plain text has `size` bytes.
#[must_use]
pub fn file_len(size: u64) -> u64 {
    size.saturating_add((HEADER_LEN + TAG_LEN) as u64)
}

/// The key that a blob's file says it is encrypted under. `beginning`: its first [`HEADER_LEN`] bytes at least.
///
/// # Errors
/// [`BlobError::NotABlob`].
pub fn key_of(beginning: &[u8]) -> Result<KeyId, BlobError> {
    let not_a_blob = |reason: &str| BlobError::NotABlob { reason: reason.to_owned() };
    if beginning.len() < HEADER_LEN {
        return Err(not_a_blob("it is shorter than a header"));
    }
    let rest = beginning.strip_prefix(MAGIC).ok_or_else(|| not_a_blob("it does not begin with CAIRNBLB"))?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(|| not_a_blob("it has no version"))?;
    if *version != VERSION.to_be_bytes() {
        let version = u32::from_be_bytes(*version);
        return Err(BlobError::NotABlob { reason: format!("its version is {version}; this program knows {VERSION}") });
    }
    rest.first_chunk::<16>().map(|key| KeyId(*key)).ok_or_else(|| not_a_blob("it has no key id"))
}

/// A length that a blob can have.
///
/// # Errors
/// [`BlobError::TooLong`].
pub fn check_len(len: u64) -> Result<u64, BlobError> {
    if len > BLOB_LEN_MAX { Err(BlobError::TooLong { len }) } else { Ok(len) }
}

/// Encrypts a blob: its reference, and the file's bytes. `nonce` must be random and used once.
///
/// # Errors
/// [`BlobError::TooLong`].
#[cfg(feature = "vault")]
pub(crate) fn seal(
    id: KeyId,
    key: &VaultKey,
    nonce: &[u8; NONCE_LEN],
    plain: &[u8],
) -> Result<(BlobReference, Vec<u8>), BlobError> {
    let size = check_len(plain.len() as u64)?;
    let mut file = Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&VERSION.to_be_bytes());
    file.extend_from_slice(&id.0);
    file.extend_from_slice(nonce);
    let sealed = key.seal(nonce, &file, plain);
    file.extend_from_slice(&sealed);
    Ok((BlobReference { digest: Digest::sha256(&file), key: id, size }, file))
}

/// The plain text of a blob's file, checked against the record's reference first.
///
/// # Errors
/// Any [`BlobError`] but `TooLong`.
#[cfg(feature = "vault")]
pub(crate) fn open(reference: &BlobReference, key: &VaultKey, file: &[u8]) -> Result<Vec<u8>, BlobError> {
    let found = Digest::sha256(file);
    if found != reference.digest {
        return Err(BlobError::Digest { expected: reference.digest, found });
    }
    check(reference.key, reference.size, file, file.len() as u64)?;
    let (header, sealed) = file.split_at(HEADER_LEN);
    let nonce = header.last_chunk::<NONCE_LEN>().ok_or(BlobError::WrongKey)?;
    key.open(nonce, header, sealed).ok_or(BlobError::WrongKey)
}

/// Whether a file with this beginning and length can be the blob of a record that names this key and this size. What is left is its
/// digest.
///
/// # Errors
/// [`BlobError::NotABlob`], [`BlobError::Key`], [`BlobError::Length`].
pub fn check(key: KeyId, size: u64, beginning: &[u8], len: u64) -> Result<(), BlobError> {
    let found = key_of(beginning)?;
    if found != key {
        return Err(BlobError::Key { expected: key, found });
    }
    let expected = file_len(size);
    if len != expected {
        return Err(BlobError::Length { expected, found: len });
    }
    Ok(())
}

/// Writes a blob's file below the ledger's root, durable when this returns: only then may a record refer to it. A crash before that
/// leaves nothing under its name.
///
/// # Errors
/// The system's.
#[cfg(feature = "write")]
pub fn put(ledger: &Path, reference: &BlobReference, file: &[u8]) -> Result<(), DiskError> {
    let disk = DirDisk::read_by(ledger.to_owned(), Readers::Everybody);
    disk.make_root().map_err(DiskError::of("create folder", ledger))?;
    put_on(&disk, ledger, reference, file)
}

#[cfg(feature = "write")]
pub(crate) fn put_on(disk: &dyn Disk, root: &Path, reference: &BlobReference, file: &[u8]) -> Result<(), DiskError> {
    let path = path(&reference.digest);
    let folder = parent(&path);
    // Each time anew: whoever made a folder may have ended before its name was durable.
    Folders::default().ensure(disk, folder).map_err(DiskError::of("create folder", &root.join(folder)))?;
    replace_on(disk, root, &path, file)
}

/// Removes the files of all blobs under these keys, durably, and says how many. Only once their keys are destroyed and a checkpoint covers
/// the record that says so: nobody can read them then, and nobody misses them.
///
/// # Errors
/// The system's.
#[cfg(feature = "write")]
pub fn remove_under(ledger: &Path, keys: &BTreeSet<KeyId>) -> Result<u64, DiskError> {
    remove_under_on(&DirDisk::read_by(ledger.to_owned(), Readers::Everybody), ledger, keys)
}

#[cfg(feature = "write")]
pub(crate) fn remove_under_on(disk: &dyn Disk, root: &Path, keys: &BTreeSet<KeyId>) -> Result<u64, DiskError> {
    // `None`: it is no folder.
    let list = |folder: &str| match disk.list(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        names => names.map(Some).map_err(DiskError::of("list", &root.join(folder))),
    };
    let mut removed = 0;
    for folder in list(BLOB_FOLDER)?.unwrap_or_default() {
        let folder = format!("{BLOB_FOLDER}/{folder}");
        let Some(names) = list(&folder)? else { continue };
        for name in names {
            let path = format!("{folder}/{name}");
            let header = disk.read_beginning(&path, HEADER_LEN).map_err(DiskError::of("read", &root.join(&path)))?;
            if key_of(&header).is_ok_and(|key| keys.contains(&key)) {
                disk.remove(&path).map_err(DiskError::of("remove", &root.join(&path)))?;
                removed += 1;
            }
        }
        // Where none was removed too: an earlier call may have ended between the two.
        disk.sync_folder(&folder).map_err(DiskError::of("sync folder", &root.join(&folder)))?;
    }
    Ok(removed)
}

#[cfg(test)]
#[cfg(feature = "write")]
mod simulation;
#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;

    fn key() -> VaultKey {
        VaultKey::from_bytes([3; 32])
    }

    fn sealed(plain: &[u8]) -> (BlobReference, Vec<u8>) {
        seal(KeyId([1; 16]), &key(), &[2; NONCE_LEN], plain).unwrap()
    }

    #[test]
    fn a_blob_is_read_again_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (reference, file) = sealed(b"report");
        assert_eq!(file.len() as u64, file_len(6));
        put(folder.path(), &reference, &file).unwrap();
        let read = std::fs::read(folder.path().join(path(&reference.digest))).unwrap();
        assert_eq!(open(&reference, &key(), &read).unwrap(), b"report");
        assert_eq!(open(&sealed(b"").0, &key(), &sealed(b"").1).unwrap(), b"");
    }

    #[test]
    fn blobs_are_removed_by_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let one = seal(KeyId([1; 16]), &key(), &[2; NONCE_LEN], b"one").unwrap();
        let two = seal(KeyId([2; 16]), &key(), &[2; NONCE_LEN], b"two").unwrap();
        for (reference, file) in [&one, &two] {
            put(folder.path(), reference, file).unwrap();
        }
        std::fs::write(folder.path().join("blobs/notes"), b"x").unwrap();
        assert_eq!(remove_under(folder.path(), &[KeyId([1; 16])].into()).unwrap(), 1);
        assert_eq!(remove_under(folder.path(), &[KeyId([1; 16])].into()).unwrap(), 0);
        assert!(!folder.path().join(path(&one.0.digest)).exists());
        assert!(folder.path().join(path(&two.0.digest)).exists());
        assert_eq!(remove_under(&folder.path().join("absent"), &[KeyId([1; 16])].into()).unwrap(), 0);
    }

    #[test]
    fn nothing_of_the_plain_text_is_in_the_file() {
        let (_, file) = sealed(b"alice@example.com");
        assert!(!file.windows(5).any(|bytes| bytes == b"alice"));
    }

    #[test]
    fn every_change_is_seen() {
        let (reference, file) = sealed(b"report");
        for at in 0..file.len() {
            let mut other = file.clone();
            other[at] ^= 1;
            assert!(matches!(open(&reference, &key(), &other), Err(BlobError::Digest { .. })), "byte {at}");
            // A reference that fits the changed bytes: the cipher sees what the digest cannot.
            let digest = Digest::sha256(&other);
            let fitting = BlobReference { digest, ..reference.clone() };
            assert!(open(&fitting, &key(), &other).is_err(), "byte {at}");
        }
        for len in 0..file.len() {
            let digest = Digest::sha256(&file[..len]);
            let fitting = BlobReference { digest, ..reference.clone() };
            assert!(open(&fitting, &key(), &file[..len]).is_err(), "cut at {len}");
        }
        assert_eq!(open(&reference, &VaultKey::from_bytes([4; 32]), &file), Err(BlobError::WrongKey));
    }

    #[test]
    fn another_key_id_or_size_is_named() {
        let (reference, file) = sealed(b"report");
        let other = BlobReference { key: KeyId([9; 16]), ..reference.clone() };
        assert!(matches!(open(&other, &key(), &file), Err(BlobError::Key { .. })));
        let other = BlobReference { size: 7, ..reference };
        assert_eq!(open(&other, &key(), &file), Err(BlobError::Length { expected: file_len(7), found: file_len(6) }));
        let mut newer = file;
        newer[11] = 2;
        let error = key_of(&newer).unwrap_err().to_string();
        assert_eq!(error, "it is not a blob: its version is 2; this program knows 1");
    }

    #[test]
    fn a_blob_at_the_limit_and_one_byte_past_it() {
        let past = vec![0; BLOB_LEN_MAX as usize + 1];
        let too_long = seal(KeyId([1; 16]), &key(), &[2; NONCE_LEN], &past);
        assert_eq!(too_long.unwrap_err(), BlobError::TooLong { len: BLOB_LEN_MAX + 1 });
        // Encrypting 64 MiB takes a minute where nothing is optimised.
        assert_eq!(check_len(BLOB_LEN_MAX), Ok(BLOB_LEN_MAX));
        assert_eq!(file_len(BLOB_LEN_MAX), BLOB_FILE_LEN_MAX);
    }
}
