//! What records refer to outside the tree: values behind commitments, blobs; and what became of them.
//!
//! A key that a `privacy.erased` names is gone: nothing under it can be read, and a blob under it may be missing. Without such a
//! record everything that was referred to must be there. The ledger's own bytes show blobs, whose names are their digests;
//! values lie in a vault, which only its owner has: with one ([`Disclosures`]), each commitment is opened, and erased keys must be
//! absent from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_ledger::blob::{self, BLOB_FILE_LEN_MAX, BLOB_FOLDER};
use cairn_schemas::commitment::{Commitment, KeyId};
use cairn_schemas::data::{ErasureReason, PrivacyErased};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, Sequence, StreamId};
use cairn_schemas::references::{BlobReference, Reference};

use super::{Context, Entry};
use crate::facts::Detail;
use crate::report::{
    BlobsReport, ERASED_KEYS_MAX, ErasedKeyReport, Fault, FaultKind, FindingKind, Found, PrivacyReport, VaultReport,
};
use crate::source::{EntryKind, Source, Unread};

/// A vault, as far as a verification asks it. It belongs to whoever holds it; what it says is believed about itself only.
pub trait Disclosures: Send + Sync {
    /// Opens a commitment.
    fn open(&self, commitment: &Commitment) -> Opened;

    /// Whether a key is there.
    ///
    /// # Errors
    /// It cannot be told: why.
    fn has_key(&self, key: KeyId) -> Result<bool, String>;

    /// The keys whose erasure has begun there and may not be recorded yet: the next start of the writer records it.
    ///
    /// # Errors
    /// It cannot be told: why.
    fn erasing(&self) -> Result<Vec<KeyId>, String>;
}

/// What a vault has for a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Its disclosure, whose digest is the commitment's: the place in the payload that it names.
    Disclosed {
        /// A JSON pointer into `data`.
        name: String,
    },
    /// Nothing: no such key, or no disclosure.
    Absent,
    /// Something that does not open it: why.
    Wrong(String),
    /// It cannot be told: why.
    Unreadable(String),
}

/// A place in the ledger.
#[derive(Debug, Clone)]
struct At {
    volume: u64,
    index: RecordIndex,
    stream: StreamId,
    sequence: Sequence,
}

impl At {
    fn of(entry: &Entry<'_>, volume: u64) -> At {
        At { volume, index: entry.index, stream: entry.facts.stream.clone(), sequence: entry.facts.sequence }
    }

    /// The index, in volumes after the first with the volume before it.
    fn place(&self) -> String {
        if self.volume == 1 { self.index.to_string() } else { format!("{}/{}", self.volume, self.index) }
    }

    fn fault(&self, kind: FaultKind, reason: impl Into<String>) -> Fault {
        Fault::new(kind, reason).at(self.index, &self.stream, self.sequence)
    }
}

/// What is known of a key.
#[derive(Debug, Default)]
struct Key {
    commitments: u64,
    blobs: u64,
    /// Commitments that the vault has nothing for, and the first of them.
    absent: Option<(u64, At)>,
    erased: Option<(At, ErasureReason)>,
}

#[derive(Debug)]
struct Blob {
    reference: BlobReference,
    at: At,
}

/// See the module's words.
#[derive(Default)]
pub(crate) struct Privacy {
    vault: Option<Arc<dyn Disclosures>>,
    keys: BTreeMap<KeyId, Key>,
    /// By the digest that is their name.
    blobs: BTreeMap<Digest, Blob>,
    commitments: u64,
    opened: u64,
    /// Why the vault could not be read, the first time.
    unreadable: Option<String>,
    blob_states: BlobsReport,
}

impl Privacy {
    pub(crate) fn new(vault: Option<Arc<dyn Disclosures>>) -> Privacy {
        Privacy { vault, ..Privacy::default() }
    }

    pub(crate) fn record(&mut self, entry: &Entry<'_>, context: &mut Context<'_, '_>) {
        if let Detail::Erased(erased) = &entry.facts.detail {
            self.erased(entry, erased, context.volume);
        }
        for (place, reference) in entry.facts.references.iter().flat_map(|references| references.iter()) {
            match reference {
                Reference::Commitment(commitment) => self.commitment(entry, place, commitment, context),
                Reference::Blob(reference) => self.blob(entry, reference, context),
                Reference::Malformed(reason) => {
                    let reason = format!("{place} in its data refers to no blob: {reason}");
                    context.found.fault(entry.fault(FaultKind::BlobReference, reason));
                }
            }
        }
    }

    fn erased(&mut self, entry: &Entry<'_>, erased: &PrivacyErased, volume: u64) {
        for key in &erased.keys {
            // A second record for a key says nothing new: an interrupted erasure may be recorded twice.
            self.keys.entry(*key).or_default().erased.get_or_insert_with(|| (At::of(entry, volume), erased.reason));
        }
    }

    /// The key of something that this record refers to.
    fn used(&mut self, entry: &Entry<'_>, key: KeyId, context: &mut Context<'_, '_>) -> &mut Key {
        let state = self.keys.entry(key).or_default();
        if let Some((at, _)) = &state.erased {
            let reason =
                format!("it refers to something under key {key}, which record {} says is destroyed", at.place());
            context.found.finding(FindingKind::ErasedKeyUsed, Some(entry.index), &entry.facts.stream, reason);
        }
        state
    }

    fn commitment(&mut self, entry: &Entry<'_>, place: &str, commitment: &Commitment, context: &mut Context<'_, '_>) {
        self.commitments += 1;
        self.used(entry, commitment.key, context).commitments += 1;
        let Some(vault) = &self.vault else { return };
        match vault.open(commitment) {
            Opened::Disclosed { name } if name == place => self.opened += 1,
            Opened::Disclosed { name } => {
                let reason = format!("the value committed to at {place} was that of {name}");
                context.found.fault(entry.fault(FaultKind::DisclosureWrong, reason));
            }
            Opened::Wrong(reason) => {
                let reason = format!("the vault has another disclosure for {place}: {reason}");
                context.found.fault(entry.fault(FaultKind::DisclosureWrong, reason));
            }
            Opened::Absent => {
                let key = self.keys.entry(commitment.key).or_default();
                key.absent.get_or_insert_with(|| (0, At::of(entry, context.volume))).0 += 1;
            }
            Opened::Unreadable(reason) => {
                self.unreadable.get_or_insert(reason);
            }
        }
    }

    fn blob(&mut self, entry: &Entry<'_>, reference: &BlobReference, context: &mut Context<'_, '_>) {
        match self.blobs.get(&reference.digest) {
            None => {
                self.used(entry, reference.key, context).blobs += 1;
                let blob = Blob { reference: reference.clone(), at: At::of(entry, context.volume) };
                self.blobs.insert(reference.digest, blob);
            }
            Some(first) if first.reference != *reference => {
                let reason = format!(
                    "it names another key or size for blob {} than record {}",
                    reference.digest,
                    first.at.place()
                );
                context.found.fault(entry.fault(FaultKind::BlobReference, reason));
            }
            Some(_) => {}
        }
    }

    /// The end of all volumes: whether what was referred to is there. `root`: the ledger's root, where blobs of all volumes lie. Returns the
    /// files below `blobs/` that no record refers to.
    pub(crate) fn end(&mut self, root: &Source, found: &mut Found) -> Vec<String> {
        let newest = found.volume;
        let mut states = BlobsReport::default();
        for blob in self.blobs.values() {
            let erased = self.keys.get(&blob.reference.key).and_then(|key| key.erased.as_ref());
            match check(root, blob) {
                Ok(()) | Err((FaultKind::BlobMissing, _)) if erased.is_some() => match erased {
                    Some((_, ErasureReason::Expired)) => states.expired += 1,
                    _ => states.erased += 1,
                },
                Ok(()) => states.present += 1,
                Err((kind, fault)) => {
                    match kind {
                        FaultKind::BlobMissing => states.missing += 1,
                        FaultKind::BlobWrong => states.wrong += 1,
                        _ => {}
                    }
                    found.at_root(blob.at.volume);
                    found.fault(fault);
                }
            }
        }
        found.at_root(newest);
        let unreferenced = self.unreferenced(root, found);
        states.unreferenced = unreferenced.len() as u64;
        self.blob_states = states;
        self.end_of_vault(found);
        found.at_root(newest);
        unreferenced
    }

    /// What lies below `blobs/` and is nobody's: of an append that did not come to its end, or not a blob at all.
    fn unreferenced(&self, root: &Source, found: &mut Found) -> Vec<String> {
        let mut others = Vec::new();
        let list = |folder: &str, found: &mut Found| {
            root.list(folder).unwrap_or_else(|error| {
                found.fault(Fault::new(FaultKind::Unreadable, error.to_string()).file(folder));
                Vec::new()
            })
        };
        let known: BTreeSet<String> = self.blobs.keys().map(blob::path).collect();
        for (name, kind) in list(BLOB_FOLDER, found) {
            let folder = format!("{BLOB_FOLDER}/{name}");
            if kind == EntryKind::File {
                others.push(folder);
                continue;
            }
            for (name, kind) in list(&folder, found) {
                let path = format!("{folder}/{name}");
                if kind == EntryKind::Folder || !known.contains(&path) {
                    others.push(path);
                }
            }
        }
        others
    }

    fn end_of_vault(&mut self, found: &mut Found) {
        let Some(vault) = &self.vault else { return };
        let erasing = vault.erasing().unwrap_or_else(|reason| {
            self.unreadable.get_or_insert(reason);
            Vec::new()
        });
        for (id, key) in &self.keys {
            match (&key.erased, &key.absent) {
                (Some((at, _)), _) => match vault.has_key(*id) {
                    Ok(false) => {}
                    Ok(true) => {
                        let reason = format!("it says that key {id} is destroyed, and the vault has it");
                        found.at_root(at.volume);
                        found.fault(at.fault(FaultKind::KeyNotErased, reason));
                    }
                    Err(reason) => {
                        self.unreadable.get_or_insert(reason);
                    }
                },
                (None, _) if erasing.contains(id) => {
                    let reason = format!("the erasure of key {id} has begun, and its record is to come");
                    found.finding(FindingKind::ErasureUnrecorded, None, None, reason);
                }
                (None, Some((count, at))) => {
                    let reason = format!(
                        "the vault cannot open {} under key {id}, and no record says that it was erased",
                        crate::render::count(*count, "commitment")
                    );
                    found.at_root(at.volume);
                    found.fault(at.fault(FaultKind::DisclosureMissing, reason));
                }
                (None, None) => {}
            }
        }
        if let Some(reason) = &self.unreadable {
            found.fault(Fault::new(FaultKind::Unreadable, format!("the vault: {reason}")));
        }
    }

    pub(crate) fn report(&self) -> PrivacyReport {
        let erased = self.keys.iter().filter_map(|(id, key)| {
            let (at, reason) = key.erased.as_ref()?;
            let (commitments, blobs) = (key.commitments, key.blobs);
            Some(ErasedKeyReport { key: *id, volume: at.volume, index: at.index, reason: *reason, commitments, blobs })
        });
        let mut erased: Vec<ErasedKeyReport> = erased.collect();
        let erased_commitments = erased.iter().map(|erased| erased.commitments).sum();
        // In the order of their records; the newest are the ones that are asked for.
        erased.sort_by_key(|erased| std::cmp::Reverse((erased.volume, erased.index, erased.key)));
        let erased_omitted = erased.len().saturating_sub(ERASED_KEYS_MAX) as u64;
        erased.truncate(ERASED_KEYS_MAX);
        erased.reverse();
        PrivacyReport {
            commitments: self.commitments,
            erased_commitments,
            erased,
            erased_omitted,
            blobs: self.blob_states.clone(),
            vault: self.vault.as_ref().map(|_| VaultReport { opened: self.opened }),
        }
    }
}

/// Whether a blob's file is there and is the one that its record refers to.
#[allow(clippy::result_large_err, reason = "asked once for each blob, beside reading its file")]
fn check(root: &Source, blob: &Blob) -> Result<(), (FaultKind, Fault)> {
    let Blob { reference, at } = blob;
    let file = blob::path(&reference.digest);
    let fault = |kind, reason: String| (kind, at.fault(kind, reason).file(&file));
    let summary = root.summary(&file, BLOB_FILE_LEN_MAX, blob::HEADER_LEN).map_err(|unread| match unread {
        Unread::Missing => {
            let reason = format!("the blob is missing, and no record says that key {} was destroyed", reference.key);
            fault(FaultKind::BlobMissing, reason)
        }
        Unread::Io(_) => fault(FaultKind::Unreadable, unread.to_string()),
        _ => fault(FaultKind::BlobWrong, unread.to_string()),
    })?;
    if summary.digest != reference.digest {
        let reason = format!("the file's SHA-256 is {}; its name and record say {}", summary.digest, reference.digest);
        return Err(fault(FaultKind::BlobWrong, reason));
    }
    blob::check(reference.key, reference.size, &summary.beginning, summary.len)
        .map_err(|error| fault(FaultKind::BlobWrong, error.to_string()))
}
