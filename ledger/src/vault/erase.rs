//! Erasing: keys are destroyed, and a record says so.
//!
//! The order, and what a crash leaves at each step:
//!
//! 1. `erasing/<id>` is written: which keys, why. Before it is durable nothing happened. From then on the erasure will be finished:
//!    whoever opens the vault for writing next finds it in [`Vault::pending`].
//! 2. Each key's file is overwritten, synced, removed; then its disclosures are, and the index forgets it. A crash leaves some keys
//!    and not others; doing it again goes on from there. When this returns, none of the values can be read by anybody who has no
//!    copy of the vault.
//! 3. The caller appends `privacy.erased` and waits until it is durable. Never before 2: a record that is there says what is true.
//!    A crash between leaves values that are gone and no record yet; the next start makes it.
//! 4. Once a published checkpoint covers the record, `erasing/<id>` is removed: until then whoever reads the vault beside the published
//!    ledger sees why values are gone. A crash before that makes the next start look whether the record is there already
//!    ([`Erasure::foreignid`]), and at worst say the same twice.
//!
//! Overwriting is for disks that write in place. A file system that copies on write, or a flash disk, may keep the old bytes for a
//! while where only its maker can read them; an encrypted disk whose key can be destroyed is the remedy.

use std::collections::BTreeSet;
use std::fmt;

use cairn_schemas::commitment::KeyId;
use cairn_schemas::data::{ERASED_KEYS_MAX, ErasureReason, PrivacyErased};
use cairn_schemas::record::{ATTRIBUTE_LEN_MAX, Draft};

use super::keep::{failed, index_path};
use super::{ERASING, Intent, Vault, VaultError, disclosure_folder, key_path};
use crate::disk::Disk;
use crate::durable::NewFile;

/// Names one erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErasureId(KeyId);

impl fmt::Display for ErasureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An erasure that has begun: its keys are destroyed, or will be before anything else is done with the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    id: ErasureId,
    intent: Intent,
}

impl Erasure {
    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[KeyId] {
        &self.intent.keys
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> ErasureReason {
        self.intent.reason
    }

    /// The `foreignid` of its record: where a stream has it already, the record was made before a crash.
    #[must_use]
    pub fn foreignid(&self) -> String {
        format!("erasure/{}", self.id)
    }

    /// The record that says so. True only once [`Vault::destroy`] returned.
    #[must_use]
    pub fn draft(&self) -> Draft {
        let Intent { keys, reason, ticket } = self.intent.clone();
        Draft::new(&PrivacyErased { keys, reason, ticket, by: None }).foreignid(self.foreignid())
    }
}

impl Vault {
    /// Begins to erase keys: durably noted, nothing destroyed yet. A ticket is cut at 512 bytes; more keys than one record names
    /// make several erasures.
    ///
    /// # Errors
    /// [`VaultError::NoKey`] where one of them is not there: then nothing begins. And those of writing.
    pub fn begin_erasure(
        &self,
        keys: &[KeyId],
        reason: ErasureReason,
        ticket: Option<&str>,
    ) -> Result<Vec<Erasure>, VaultError> {
        let keys: BTreeSet<KeyId> = keys.iter().copied().collect();
        for &key in &keys {
            if self.key(key)?.is_none() {
                return Err(VaultError::NoKey { key });
            }
        }
        let keys: Vec<KeyId> = keys.into_iter().collect();
        let mut folders = self.lock();
        let mut begun = Vec::new();
        for part in keys.chunks(ERASED_KEYS_MAX) {
            let ticket = ticket.map(|ticket| cairn_schemas::text::cut(ticket, ATTRIBUTE_LEN_MAX));
            let intent = Intent { keys: part.to_vec(), reason, ticket };
            let id = ErasureId(KeyId(self.draw()?));
            let bytes = serde_json::to_vec(&intent).expect("invariant: ids and texts are JSON");
            self.write(&mut folders, &[NewFile { path: format!("{ERASING}/{id}"), bytes }])?;
            begun.push(Erasure { id, intent });
        }
        Ok(begun)
    }

    /// Erasures that began and are not recorded: finish each with [`Vault::destroy`], its record, and [`Vault::recorded`].
    ///
    /// # Errors
    /// Those of reading; [`VaultError::Damaged`].
    pub fn pending(&self) -> Result<Vec<Erasure>, VaultError> {
        let mut names = self.names(ERASING)?;
        names.sort_unstable();
        let read = |name: &String| {
            let path = format!("{ERASING}/{name}");
            let damaged = |reason: String| VaultError::Damaged { path: path.clone(), reason };
            let id = name.parse().map(ErasureId).map_err(|_| damaged("its name is none of an erasure".to_owned()))?;
            let bytes = self.read(&path)?.unwrap_or_default();
            let intent = Intent::parse(&path, &bytes)?;
            Ok(Erasure { id, intent })
        };
        names.iter().map(read).collect()
    }

    /// Destroys an erasure's keys and everything that only they open. Doing it again is safe, and goes on from where it ended.
    ///
    /// # Errors
    /// Those of writing. The erasure stays in [`Vault::pending`].
    pub fn destroy(&self, erasure: &Erasure) -> Result<(), VaultError> {
        let mut folders = self.lock();
        let disk = &*self.disk;
        // What says that it began must not be lost: nobody would make the record.
        self.make_sure()?;
        for &id in erasure.keys() {
            // Whose it is, before nobody can say.
            let subject = match self.key(id) {
                Ok(Some(key)) => Some(key.subject),
                // Destroyed before a crash, or damaged: it goes in any case.
                Ok(None) | Err(VaultError::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            if let Some(subject) = subject.filter(|subject| *subject != [0; 32]) {
                // The index first: a name without its key says nothing, a key without its name could not be found by its subject.
                // It is there until the next step, and pending.
                let mut ids = self.ids(&subject)?;
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    // Not overwritten: it holds ids only, and the records have those too. Not synced: one that comes back names keys that
                    // are not there.
                    let path = index_path(&subject);
                    match disk.remove(&path) {
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        done => done.map_err(failed("remove", &path))?,
                    }
                } else {
                    self.write_index(&mut folders, &subject, &ids)?;
                }
            }
            destroy(disk, &key_path(id))?;
        }
        disk.sync_folder(super::KEYS).map_err(failed("sync", super::KEYS))?;
        // From here on nothing can be read any more. What is left is what only the keys opened.
        for &id in erasure.keys() {
            let folder = disclosure_folder(id);
            let names = self.names(&folder)?;
            for name in &names {
                destroy(disk, &format!("{folder}/{name}"))?;
            }
            if disk.list(&folder).is_ok() {
                folders.forget(&folder);
                disk.remove_folder(&folder).map_err(failed("remove", &folder))?;
            }
        }
        disk.sync_folder(super::DISCLOSURES).map_err(failed("sync", super::DISCLOSURES))
    }

    /// Forgets an erasure whose record a published checkpoint covers.
    ///
    /// # Errors
    /// Those of writing: then the next start finds it once more.
    pub fn recorded(&self, erasure: &Erasure) -> Result<(), VaultError> {
        let _one_at_a_time = self.lock();
        let path = format!("{ERASING}/{}", erasure.id);
        match self.disk.remove(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.map_err(failed("remove", &path))?,
        }
        self.disk.sync_folder(ERASING).map_err(failed("sync", ERASING))
    }
}

/// Overwrites a file with zeros, durably, and removes it. Where it is gone, so be it. Its folder is the caller's to sync.
pub(super) fn destroy(disk: &dyn Disk, path: &str) -> Result<(), VaultError> {
    let len = match disk.read(path) {
        Ok(bytes) => bytes.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(VaultError::Io { action: "read", path: path.to_owned(), source }),
    };
    let overwrite = || {
        let mut file = disk.open(path)?;
        file.write_at(0, &vec![0; len])?;
        file.sync()
    };
    overwrite().map_err(failed("overwrite", path))?;
    disk.remove(path).map_err(failed("remove", path))
}
