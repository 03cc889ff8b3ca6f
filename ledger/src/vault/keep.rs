//! The vault as its one writer sees it: keys are made, disclosures kept, each durable before anything names it.
//!
//! The order, and what a crash leaves: a key's file, then the index that names it (a crash between leaves a key that nobody uses),
//! then disclosures and blobs under it, then the record. So a record's commitment always has its disclosure, and a disclosure
//! without a record is one whose append did not come to its end: it goes with its key.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_schemas::commitment::{Commitment, Disclosure, KeyId};
use cairn_schemas::references::BlobReference;
use cairn_schemas::time::Timestamp;
use cairn_schemas::token::{TokenKey, token};
use zeroize::Zeroizing;

use super::key::{KeyFile, NONCE_LEN, VaultKey};
use super::{
    KEYS, SUBJECT_LEN_MAX, VaultError, disclosure_folder, disclosure_path, key_path, open_disclosure, parse_key,
};
use crate::blob;
use crate::disk::{DirDisk, Disk, LockGuard};
use crate::durable::{self, Folders, NewFile};
use crate::files::{Readers, create_folder};
use crate::random::Random;

const SUBJECTS: &str = "subjects";
const SECRET_FILE: &str = "secret";
const SECRET_MAGIC: &[u8; 8] = b"CAIRNVLT";
const SECRET_VERSION: u32 = 1;
const LOCK_FILE: &str = "lock";
const TEMPORARY: &str = "temporary";
/// Most files that are written before the first is synced.
const FILES_AT_ONCE_MAX: usize = 256;
/// A key that expires takes values until this part of its retention, or a day if that is longer, is over; then there is a new one. So
/// a value is kept for its retention at least, and at most that much longer.
const PERIOD_PART: u32 = 8;
const PERIOD_MIN: Duration = Duration::from_secs(24 * 60 * 60);

/// A vault that is open for writing.
pub struct Vault {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) random: Arc<dyn Random>,
    /// The index's key.
    secret: TokenKey,
    /// Names may be there that a crash takes back: of a process that ended in between, or of a write that failed.
    unsure: AtomicBool,
    /// One change at a time.
    pub(super) folders: Mutex<Folders>,
    _lock: LockGuard,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(secret)")
    }
}

impl Vault {
    /// Opens the vault in a folder, and makes it where there is none. Erasures that were interrupted are in [`Vault::pending`]:
    /// finish them before anything else.
    ///
    /// # Errors
    /// [`VaultError::Locked`], [`VaultError::Damaged`], [`VaultError::Io`], [`VaultError::Random`].
    pub fn open(dir: &Path, random: Arc<dyn Random>) -> Result<Vault, VaultError> {
        create_folder(dir, Readers::Owner).map_err(|error| VaultError::Io {
            action: "make",
            path: dir.display().to_string(),
            source: error.source,
        })?;
        Vault::open_on(Arc::new(DirDisk::private(dir.to_owned())), random)
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, random: Arc<dyn Random>) -> Result<Vault, VaultError> {
        let lock = disk.lock(LOCK_FILE).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => VaultError::Locked,
            _ => VaultError::Io { action: "lock", path: LOCK_FILE.to_owned(), source },
        })?;
        let mut folders = Folders::default();
        for folder in [TEMPORARY, KEYS, SUBJECTS, super::DISCLOSURES, super::ERASING] {
            folders.ensure(&*disk, folder).map_err(failed("make", folder))?;
        }
        // What a crash left without its name. It may be a key: a name that nobody was told, and all the same a secret.
        for name in disk.list(TEMPORARY).map_err(failed("list", TEMPORARY))? {
            super::erase::destroy(&*disk, &format!("{TEMPORARY}/{name}"))?;
        }
        // Not synced: a name that comes back has zeros behind it.
        let secret = secret(&*disk, &mut folders, &*random)?;
        Ok(Vault { disk, random, secret, folders: Mutex::new(folders), unsure: AtomicBool::new(true), _lock: lock })
    }

    /// The key under which a subject's values are kept from now on; made, durably, where there is none. With `retain`, it expires: a
    /// value kept under it is kept for that long at least, and at most an eighth of it (or a day) longer.
    ///
    /// # Errors
    /// [`VaultError::Subject`], and those of reading and writing.
    pub fn key_for(&self, subject: &str, retain: Option<Duration>, now: Timestamp) -> Result<KeyId, VaultError> {
        let index = self.index(subject)?;
        let mut folders = self.lock();
        let mut ids = self.ids(&index)?;
        for &id in ids.iter().rev() {
            if let Some(key) = self.key(id)?
                && fits(key.expires, retain, now)
            {
                // A key that the index forgets could not be erased by its subject.
                self.make_sure()?;
                return Ok(id);
            }
        }
        let id = self.make_key(&mut folders, index, retain, now)?;
        ids.push(id);
        self.write_index(&mut folders, &index, &ids)?;
        Ok(id)
    }

    /// A key for one blob that is nobody's.
    ///
    /// # Errors
    /// Those of writing.
    pub fn key_for_blob(&self, retain: Option<Duration>, now: Timestamp) -> Result<KeyId, VaultError> {
        self.make_key(&mut self.lock(), [0; 32], retain, now)
    }

    /// Keeps disclosures, each under its key, all of them durable when this returns: only then may a record hold their commitments.
    ///
    /// # Errors
    /// [`VaultError::NoKey`], and those of writing; then any of them may be kept.
    pub fn keep(&self, disclosures: &[(KeyId, Disclosure)]) -> Result<(), VaultError> {
        let mut folders = self.lock();
        let mut keys: BTreeMap<KeyId, KeyFile> = BTreeMap::new();
        for part in disclosures.chunks(FILES_AT_ONCE_MAX) {
            let mut files = Vec::with_capacity(part.len());
            for (id, disclosure) in part {
                if !keys.contains_key(id) {
                    keys.insert(*id, self.key(*id)?.ok_or(VaultError::NoKey { key: *id })?);
                }
                let commitment = disclosure.commitment(*id);
                let nonce: [u8; NONCE_LEN] = self.draw()?;
                let mut bytes = nonce.to_vec();
                bytes.extend(keys[id].key.seal(
                    &nonce,
                    commitment.to_string().as_bytes(),
                    disclosure.text().as_bytes(),
                ));
                files.push(NewFile { path: disclosure_path(&commitment), bytes });
            }
            self.write(&mut folders, &files)?;
        }
        Ok(())
    }

    /// Encrypts a blob: its reference and its file's bytes, for [`blob::put`]. Nothing is written here.
    ///
    /// # Errors
    /// [`VaultError::NoKey`], [`VaultError::Blob`].
    pub fn seal_blob(&self, key: KeyId, plain: &[u8]) -> Result<(BlobReference, Vec<u8>), VaultError> {
        let file = self.key(key)?.ok_or(VaultError::NoKey { key })?;
        blob::seal(key, &file.key, &self.draw()?, plain).map_err(VaultError::Blob)
    }

    /// The disclosure that opens a commitment.
    ///
    /// # Errors
    /// [`VaultError::NoKey`], [`VaultError::NoDisclosure`], [`VaultError::WrongDisclosure`], and those of reading.
    pub fn disclosure(&self, commitment: &Commitment) -> Result<Disclosure, VaultError> {
        let key = self.key(commitment.key)?.ok_or(VaultError::NoKey { key: commitment.key })?;
        let path = disclosure_path(commitment);
        let file = self.read(&path)?.ok_or(VaultError::NoDisclosure { commitment: *commitment })?;
        open_disclosure(commitment, &key, &file)
    }

    /// The disclosures that lie under a key.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn disclosures(&self, key: KeyId) -> Result<Vec<Commitment>, VaultError> {
        let mut names = self.names(&disclosure_folder(key))?;
        names.sort_unstable();
        Ok(names.iter().filter_map(|name| Some(Commitment { key, digest: name.parse().ok()? })).collect())
    }

    /// The keys of a subject that are there.
    ///
    /// # Errors
    /// [`VaultError::Subject`], [`VaultError::NoSubject`], and those of reading.
    pub fn keys_of(&self, subject: &str) -> Result<Vec<KeyId>, VaultError> {
        let mut there = Vec::new();
        for id in self.ids(&self.index(subject)?)? {
            if self.key(id)?.is_some() {
                there.push(id);
            }
        }
        if there.is_empty() { Err(VaultError::NoSubject) } else { Ok(there) }
    }

    /// The keys whose retention is over.
    ///
    /// # Errors
    /// Those of reading.
    pub fn expired(&self, now: Timestamp) -> Result<Vec<KeyId>, VaultError> {
        let mut expired = Vec::new();
        for name in self.names(KEYS)? {
            if let Ok(id) = name.parse::<KeyId>()
                && let Some(key) = self.key(id)?
                && key.expires.is_some_and(|expires| expires <= now)
            {
                expired.push(id);
            }
        }
        expired.sort_unstable();
        Ok(expired)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// Those of reading.
    pub fn has_key(&self, key: KeyId) -> Result<bool, VaultError> {
        Ok(self.key(key)?.is_some())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Folders> {
        // Every change is whole files: a panic leaves nothing half done that a crash would not.
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn key(&self, id: KeyId) -> Result<Option<KeyFile>, VaultError> {
        match self.read(&key_path(id))? {
            Some(bytes) => parse_key(id, &Zeroizing::new(bytes)),
            None => Ok(None),
        }
    }

    /// How the index names a subject.
    fn index(&self, subject: &str) -> Result<[u8; 32], VaultError> {
        if subject.is_empty() || subject.len() > SUBJECT_LEN_MAX {
            return Err(VaultError::Subject { len: subject.len() });
        }
        let token = token(&self.secret, "subject", subject);
        let mut index = [0; 32];
        let digits = token.as_str().rsplit(':').next().unwrap_or_default();
        index.copy_from_slice(
            digits
                .parse::<cairn_schemas::digest::Digest>()
                .expect("invariant: a token ends with 64 hexadecimal digits")
                .as_bytes(),
        );
        Ok(index)
    }

    /// The ids that the index names, whether the keys are there or not.
    pub(super) fn ids(&self, index: &[u8; 32]) -> Result<Vec<KeyId>, VaultError> {
        let path = index_path(index);
        let Some(bytes) = self.read(&path)? else { return Ok(Vec::new()) };
        let damaged = |reason: String| VaultError::Damaged { path: path.clone(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
        text.lines().map(|line| line.parse().map_err(|_| damaged(format!("{line:?} is not a key id")))).collect()
    }

    pub(super) fn write_index(&self, folders: &mut Folders, index: &[u8; 32], ids: &[KeyId]) -> Result<(), VaultError> {
        let bytes = ids.iter().map(|id| format!("{id}\n")).collect::<String>().into_bytes();
        self.write(folders, &[NewFile { path: index_path(index), bytes }])
    }

    fn make_key(
        &self,
        folders: &mut Folders,
        subject: [u8; 32],
        retain: Option<Duration>,
        now: Timestamp,
    ) -> Result<KeyId, VaultError> {
        let id = KeyId(self.draw()?);
        let expires = retain.map(|retain| now.plus(retain).plus(period(retain)));
        let key = KeyFile { key: VaultKey::from_bytes(self.draw()?), expires, subject };
        let bytes = key.to_bytes().to_vec();
        self.write(folders, &[NewFile { path: key_path(id), bytes }])?;
        Ok(id)
    }

    pub(super) fn write(&self, folders: &mut Folders, files: &[NewFile]) -> Result<(), VaultError> {
        durable::write_files_by(&*self.disk, folders, TEMPORARY, files)
            .inspect_err(|_| self.unsure.store(true, Ordering::Relaxed))
            .map_err(failed("write", files.first().map_or("", |file| file.path.as_str())))
    }

    /// Makes the names that are there durable. Their bytes are: a file gets its name behind a sync.
    pub(super) fn make_sure(&self) -> Result<(), VaultError> {
        if self.unsure.load(Ordering::Relaxed) {
            for folder in [KEYS, SUBJECTS, super::ERASING] {
                self.disk.sync_folder(folder).map_err(failed("sync", folder))?;
            }
            self.unsure.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, VaultError> {
        match self.disk.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(VaultError::Io { action: "read", path: path.to_owned(), source }),
        }
    }

    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, VaultError> {
        match self.disk.list(folder) {
            Ok(names) => Ok(names),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(VaultError::Io { action: "list", path: folder.to_owned(), source }),
        }
    }

    pub(super) fn draw<const N: usize>(&self) -> Result<[u8; N], VaultError> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(VaultError::Random)?;
        Ok(bytes)
    }
}

pub(super) fn failed(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> VaultError + use<> {
    let path = path.to_owned();
    move |source| VaultError::Io { action, path, source }
}

pub(super) fn index_path(index: &[u8; 32]) -> String {
    format!("{SUBJECTS}/{}", cairn_schemas::digest::Digest::from(*index))
}

/// How long a key takes values.
fn period(retain: Duration) -> Duration {
    (retain / PERIOD_PART).max(PERIOD_MIN)
}

/// Whether a value with this retention may be kept under a key that expires then.
fn fits(expires: Option<Timestamp>, retain: Option<Duration>, now: Timestamp) -> bool {
    match (expires, retain) {
        (None, None) => true,
        (Some(expires), Some(retain)) => {
            now.plus(retain) <= expires && expires <= now.plus(retain).plus(period(retain))
        }
        _ => false,
    }
}

/// The index's key, made where there is none.
fn secret(disk: &dyn Disk, folders: &mut Folders, random: &dyn Random) -> Result<TokenKey, VaultError> {
    let damaged = |reason: &str| VaultError::Damaged { path: SECRET_FILE.to_owned(), reason: reason.to_owned() };
    let of = |key: [u8; 32]| TokenKey { epoch: "vault".to_owned(), key };
    match disk.read(SECRET_FILE) {
        Ok(bytes) => {
            let rest = bytes.strip_prefix(SECRET_MAGIC).ok_or_else(|| damaged("it does not begin with CAIRNVLT"))?;
            let key =
                rest.strip_prefix(&SECRET_VERSION.to_be_bytes()).ok_or_else(|| damaged("its version is not 1"))?;
            Ok(of(key.try_into().map_err(|_| damaged("it has another length than 44 bytes"))?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A vault that lost its secret cannot tell whose its keys are: it must not begin a second index beside the first.
            let subjects = disk.list(SUBJECTS).map_err(failed("list", SUBJECTS))?;
            if !subjects.is_empty() {
                return Err(damaged("it is missing, and there are subjects that it names"));
            }
            let mut key = [0; 32];
            random.fill(&mut key).map_err(VaultError::Random)?;
            let bytes = [&SECRET_MAGIC[..], &SECRET_VERSION.to_be_bytes(), &key].concat();
            let file = NewFile { path: SECRET_FILE.to_owned(), bytes };
            durable::write_files_by(disk, folders, TEMPORARY, &[file]).map_err(failed("write", SECRET_FILE))?;
            Ok(of(key))
        }
        Err(source) => Err(VaultError::Io { action: "read", path: SECRET_FILE.to_owned(), source }),
    }
}
