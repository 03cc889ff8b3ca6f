//! Release files: for every `release.built` its four files, and each what the record, the tree and the commit say.
//!
//! A file that the record names by digest is compared with the record; `record.json` with the leaf; the proof with the tree. What the
//! statement says, who signed it and whether the content is the commit's, is checked by the code that nodes run before they
//! activate anything, with the keys that `ledger.opened` names. Which people may sign commits is not in the ledger: see the report's
//! `not_proven`.

use std::collections::BTreeMap;

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::note::VerifierKey;
use cairn_ledger::proof::Proof;
use cairn_release::check::{CheckError, Gate, Trust, check};
use cairn_release::files::{CONTENT_FILE, FILES, PROOF_FILE, RECORD_FILE, ReleaseFiles, STATEMENT_FILE, len_max};
use cairn_release::key::ReleaseKey;
use cairn_release::signers::SignerPolicy;
use cairn_schemas::data::{CommitSignature, LedgerOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{Serial, TreeSize};

use crate::checks::Past;
use crate::checks::provenance::Built;
use crate::report::{Fault, FaultKind, FindingKind, Found, ReleaseReport};
use crate::source::{EntryKind, Source, Unread};

/// The folder of release files.
pub(crate) const RELEASES_FOLDER: &str = "releases";

/// What release files are compared with.
pub(crate) struct Releases<'a> {
    /// The ledger's root: release files lie there, whatever volume their record is in.
    pub(crate) source: &'a Source,
    /// The ledger's name, as its checkpoints have it.
    pub(crate) name: &'a str,
    /// Volumes before the first that is here: releases may be theirs.
    pub(crate) cut: bool,
    pub(crate) opened: Option<&'a LedgerOpened>,
    /// Every release that the tree holds.
    pub(crate) built: &'a BTreeMap<Serial, Built>,
    /// Records could not be read: there may be releases that are not in `built`.
    pub(crate) blind: bool,
    /// The newest checkpoint is missing, and an earlier one stands in for it: there may be later releases.
    pub(crate) stand_in: bool,
}

impl Releases<'_> {
    /// Checks every release. Returns what to report of each, and files that are no part of any.
    pub(crate) fn check(&self, volumes: &mut [Past<'_>], found: &mut Found) -> (Vec<ReleaseReport>, Vec<String>) {
        let mut other = Vec::new();
        found.at_root(1);
        self.folders(found, &mut other);
        let release_key = self.release_key(found);
        let last = self.built.last_key_value().map(|(serial, _)| *serial);
        let mut reports = Vec::with_capacity(self.built.len());
        for (serial, built) in self.built {
            found.at_root(built.volume);
            let faults = found.faults.len() as u64 + found.faults_omitted;
            let may_be_unfinished = Some(*serial) == last && !built.offered;
            let finished = self.one(*serial, built, release_key.as_ref(), may_be_unfinished, volumes, found);
            reports.push(ReleaseReport {
                release: built.reference(),
                commit: built.record.commit.to_string(),
                volume: built.volume,
                index: built.index,
                signature: match &built.record.signature {
                    CommitSignature::None => "none".to_owned(),
                    CommitSignature::Ssh { key, .. } => key.clone(),
                },
                files_hold: finished && faults == found.faults.len() as u64 + found.faults_omitted,
                nodes: built.nodes.len() as u64,
            });
        }
        (reports, other)
    }

    /// Folders without a record, and files that no release has.
    fn folders(&self, found: &mut Found, other: &mut Vec<String>) {
        let listed = match self.source.list(RELEASES_FOLDER) {
            Ok(listed) => listed,
            Err(error) => {
                return found.fault(Fault::new(FaultKind::Unreadable, error.to_string()).file(RELEASES_FOLDER));
            }
        };
        let next = self.built.last_key_value().map_or(1, |(serial, _)| serial.0 + 1);
        for (name, kind) in listed {
            let folder = format!("{RELEASES_FOLDER}/{name}");
            let serial = name.parse::<u64>().ok().filter(|serial| serial.to_string() == name).map(Serial);
            let Some(serial) = serial.filter(|_| kind == EntryKind::Folder) else {
                other.push(folder);
                continue;
            };
            let files: Vec<String> =
                self.source.list(&folder).unwrap_or_default().into_iter().map(|(name, _)| name).collect();
            if self.built.contains_key(&serial) {
                let strange = files.iter().filter(|name| !FILES.contains(&name.as_str()));
                other.extend(strange.map(|name| format!("{folder}/{name}")));
                continue;
            }
            // The next release's files are written before its record is in a checkpoint; its proof is not.
            let in_progress = serial.0 == next && !files.iter().any(|name| name == PROOF_FILE);
            let first = self.built.first_key_value().map(|(serial, _)| *serial);
            let before = self.cut && first.is_none_or(|first| serial < first);
            if in_progress || before || self.blind || self.stand_in {
                other.extend(files.iter().map(|name| format!("{folder}/{name}")));
            } else {
                let reason = format!("no release.built has the serial {serial}");
                found.fault(Fault::new(FaultKind::ReleaseUnrecorded, reason).file(folder));
            }
        }
    }

    /// The releases' key, as the ledger names it.
    fn release_key(&self, found: &mut Found) -> Option<ReleaseKey> {
        match ReleaseKey::from_pem(&self.opened?.release_key) {
            Ok(key) => Some(key),
            Err(error) => {
                let fault = Fault::new(FaultKind::LedgerOpened, format!("its release key: {error}"));
                found.fault(fault.index(cairn_schemas::ids::RecordIndex(0)));
                None
            }
        }
    }

    /// What nodes pin, as far as the ledger itself tells it.
    fn trust(&self, release_key: &ReleaseKey, ledger_key: VerifierKey) -> Option<Trust> {
        Some(Trust {
            // The checkpoint's, whatever record 0 says: that they differ is a fault of its own.
            ledger_name: self.name.to_owned(),
            ledger_key,
            endorsed: Default::default(),
            control_node: self.opened?.control_node.clone(),
            release_key: release_key.clone(),
            signers: SignerPolicy::UnsignedAllowed,
            // The policy in force is checked over the retained checkpoints, by its window.
            witnesses: None,
        })
    }

    /// One release. Returns whether all of its files are there.
    fn one(
        &self,
        serial: Serial,
        built: &Built,
        release_key: Option<&ReleaseKey>,
        may_be_unfinished: bool,
        volumes: &mut [Past<'_>],
        found: &mut Found,
    ) -> bool {
        let path = |name: &str| format!("{RELEASES_FOLDER}/{serial}/{name}");
        let before = found.faults.len() as u64 + found.faults_omitted;
        let mut unfinished = Vec::new();
        let mut read = |name: &'static str| match self.source.read(&path(name), len_max(name).unwrap_or(0) as u64) {
            Ok(bytes) => Some(bytes),
            // Written after the record; a crash before that leaves a release that nobody was offered.
            Err(Unread::Missing) if may_be_unfinished && [RECORD_FILE, PROOF_FILE].contains(&name) => {
                unfinished.push(name);
                None
            }
            Err(unread) => {
                let kind = match &unread {
                    Unread::Missing => FaultKind::ReleaseFileMissing,
                    Unread::Io(_) => FaultKind::Unreadable,
                    Unread::NotAFile | Unread::TooLong { .. } => FaultKind::ReleaseFileWrong,
                };
                found.fault(Fault::new(kind, unread.to_string()).file(path(name)).index(built.index));
                None
            }
        };
        let (content_tar, statement) = (read(CONTENT_FILE), read(STATEMENT_FILE));
        let (record, proof) = (read(RECORD_FILE), read(PROOF_FILE));
        if !unfinished.is_empty() {
            let reason = format!(
                "release {} was recorded and not offered yet; not written: {}",
                built.reference(),
                unfinished.join(", ")
            );
            found.finding(FindingKind::ReleaseUnfinished, Some(built.index), None, reason);
        }
        let mut differs =
            |name: &str, bytes: &Option<Vec<u8>>, what: &str, of: fn(&[u8]) -> Digest, expected: Digest| {
                let Some(actual) = bytes.as_deref().map(of).filter(|actual| *actual != expected) else { return };
                let reason = format!("its {what} is {actual}; record {} says {expected}", built.index);
                found.fault(Fault::new(FaultKind::ReleaseFileWrong, reason).file(path(name)).index(built.index));
            };
        differs(CONTENT_FILE, &content_tar, "SHA-256", Digest::sha256, built.record.content);
        differs(STATEMENT_FILE, &statement, "SHA-256", Digest::sha256, built.record.statement);
        differs(RECORD_FILE, &record, "leaf hash", Digest::leaf, built.leaf);
        let volume = volumes.iter_mut().find(|volume| volume.volume == built.volume);
        let key = match (&proof, volume) {
            (Some(proof), Some(volume)) => self.proof(&path(PROOF_FILE), proof, built, volume, found),
            _ => None,
        };
        let trust = release_key.zip(key).and_then(|(release_key, key)| self.trust(release_key, key));
        let whole = content_tar.is_some() && statement.is_some() && record.is_some() && proof.is_some();
        let sound = before == found.faults.len() as u64 + found.faults_omitted;
        if let (Some(content_tar), Some(statement), Some(record), Some(proof), Some(trust), true) =
            (content_tar, statement, record, proof, trust.as_ref(), sound)
        {
            let files = ReleaseFiles { content_tar, statement, record, proof };
            if let Err(error) = check(&files, trust, Gate::Activated) {
                let (kind, name) = blame(&error);
                found.fault(Fault::new(kind, error.to_string()).file(path(name)).index(built.index));
            }
        }
        whole
    }

    /// The proof leads from the record to a checkpoint of this history. Returns the key that this checkpoint is signed with.
    fn proof(
        &self,
        file: &str,
        bytes: &[u8],
        built: &Built,
        volume: &mut Past<'_>,
        found: &mut Found,
    ) -> Option<VerifierKey> {
        let mut fault = |kind, reason: String| found.fault(Fault::new(kind, reason).file(file).index(built.index));
        let proof = match Proof::parse(bytes) {
            Ok(proof) => proof,
            Err(error) => {
                fault(FaultKind::ReleaseProof, error.to_string());
                return None;
            }
        };
        if proof.index != built.index {
            let reason = format!("it is of record {}; the release is record {}", proof.index, built.index);
            fault(FaultKind::ReleaseProof, reason);
            return None;
        }
        // Nothing authenticates it, and nothing of ours writes it.
        if proof.extra.is_some() {
            fault(FaultKind::ReleaseProof, "it carries an `extra` line, which nothing vouches for".to_owned());
        }
        let size = Checkpoint::parse(&proof.checkpoint).map_or(TreeSize(0), |(checkpoint, _)| checkpoint.size);
        let key = volume.windows.as_ref()?.at(size)?.key.clone();
        let checkpoint = match proof.verify(&built.leaf, &volume.origin, std::slice::from_ref(&key)) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                fault(FaultKind::ReleaseProof, error.to_string());
                return None;
            }
        };
        if checkpoint.size > volume.size {
            if !self.stand_in && !volume.replaced {
                let reason = format!(
                    "its checkpoint has {} records and is signed; the newest here has {}: it was rolled back",
                    checkpoint.size, volume.size
                );
                fault(FaultKind::CheckpointRolledBack, reason);
            }
            return Some(key);
        }
        if let Some(root) = volume.history.root(checkpoint.size, volume.source)
            && root != checkpoint.root
        {
            let reason = format!(
                "its checkpoint has root {} over {} records; these have {root} here: two histories",
                checkpoint.root, checkpoint.size
            );
            fault(FaultKind::ReleaseProof, reason);
        }
        Some(key)
    }
}

/// Which file a failed check is about.
fn blame(error: &CheckError) -> (FaultKind, &'static str) {
    match error {
        CheckError::ProofMalformed(_) | CheckError::Checkpoint(_) | CheckError::NotInLedger(_) => {
            (FaultKind::ReleaseProof, PROOF_FILE)
        }
        CheckError::RecordMalformed(_) | CheckError::RecordType { .. } | CheckError::RecordStream { .. } => {
            (FaultKind::ReleaseFileWrong, RECORD_FILE)
        }
        CheckError::Bundle(_) | CheckError::Statement(_) | CheckError::Subject { .. } | CheckError::Disagree { .. } => {
            (FaultKind::ReleaseStatement, STATEMENT_FILE)
        }
        CheckError::CommitMalformed(_)
        | CheckError::CommitId { .. }
        | CheckError::Signer { .. }
        | CheckError::SignerRecord { .. } => (FaultKind::ReleaseStatement, STATEMENT_FILE),
        _ => (FaultKind::ReleaseContent, CONTENT_FILE),
    }
}
