//! What a verification found: the report, its faults and findings, and what it means for an exit status.
//!
//! The JSON form is described in `verify/REPORT.md`; fields are added to it and never change their meaning.

use std::collections::BTreeMap;

use cairn_schemas::commitment::KeyId;
use cairn_schemas::data::{ErasureReason, VolumeReason};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, ReleaseRef, Sequence, StreamId, TreeSize};
use serde::{Deserialize, Serialize};

/// The `format` of a report.
pub const FORMAT: &str = "cairn.verify-report.v1";
/// Most faults that a report lists; the rest is counted.
pub const FAULTS_MAX: usize = 10_000;
/// Most findings that a report lists; the rest is counted.
pub const FINDINGS_MAX: usize = 10_000;
/// Most erased keys that a report names; the rest is counted.
pub const ERASED_KEYS_MAX: usize = 1_000;
/// Most other files that a report names; the rest is counted.
pub const OTHER_FILES_MAX: usize = 1_000;

/// What came of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was checked holds.
    Ok,
    /// Something is missing, malformed or wrong.
    Failed,
    /// There is no ledger, or it could not be read.
    CouldNotTell,
}

/// One verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// What came of it.
    pub verdict: Verdict,
    /// Why nothing could be told; with [`Verdict::CouldNotTell`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was verified, as the caller named it.
    pub path: String,
    /// Whether hashes, tiles, roots and checkpoints were checked and nothing else, as the caller asked for: the verdict is about these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub structure_only: bool,
    /// The key that checkpoints were checked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyUsed>,
    /// The newest volume's checkpoint, that everything was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReport>,
    /// The ledger's volumes, oldest first: those that are here, and those that a later one names.
    #[serde(default)]
    pub volumes: Vec<VolumeReport>,
    /// What witnesses vouch for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnessed: Option<WitnessedReport>,
    /// How many records were read and found to be the tree's.
    pub records: u64,
    /// Records by type.
    pub counts: BTreeMap<String, u64>,
    /// Streams, by id.
    pub streams: Vec<StreamReport>,
    /// Records that are missing from streams, as the ledger itself noted.
    pub gaps: Vec<GapReport>,
    /// Releases, by serial.
    pub releases: Vec<ReleaseReport>,
    /// How many retained checkpoints were checked.
    pub retained_checkpoints: u64,
    /// What records refer to outside the tree, and what was erased.
    #[serde(default)]
    pub privacy: PrivacyReport,
    /// What a mirror says of the bucket that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<VersionsReport>,
    /// What lies in the directory.
    pub files: FilesReport,
    /// What is wrong. Empty: nothing that was checked is.
    pub faults: Vec<Fault>,
    /// How many faults more there were.
    pub faults_omitted: u64,
    /// What an auditor should look at, and what may have a good reason.
    pub findings: Vec<Finding>,
    /// How many findings more there were.
    pub findings_omitted: u64,
    /// What these bytes cannot prove, or were not asked to.
    pub not_proven: Vec<String>,
    /// Checks that were not made, and why.
    #[serde(default)]
    pub not_made: Vec<String>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Its number, from 1.
    pub volume: u64,
    /// What became of it.
    pub state: VolumeState,
    /// The checkpoint that it was compared with; of a volume that is not here, the one that the next volume names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReport>,
    /// The keys that signed its checkpoints, as vkeys, each from a size on.
    #[serde(default)]
    pub keys: Vec<KeyWindowReport>,
    /// Why the one before it does not go on; none in volume 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<VolumeReason>,
}

/// What became of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// It goes on.
    Open,
    /// It ended in good order, and another one goes on.
    Closed,
    /// The ledger ended with it, for good.
    Frozen,
    /// Another one goes on, and this one did not end in good order: its successor says why.
    Replaced,
    /// It is not here: dropped at the end of its retention, or not handed over.
    Absent,
}

/// A key, and for which checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWindowReport {
    /// It signs checkpoints of at least this size.
    pub from_size: TreeSize,
    /// The key, as a vkey.
    pub vkey: String,
    /// The key of the second signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
}

/// What witnesses vouch for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessedReport {
    /// Who named the witness policy.
    pub policy: PolicySource,
    /// The newest checkpoint that meets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReport>,
    /// The witnesses that cosigned it, by their names in the policy.
    #[serde(default)]
    pub witnesses: Vec<String>,
    /// The earliest time that one of them stated, POSIX seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<u64>,
    /// The latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<u64>,
    /// How many records of the newest volume it does not cover.
    pub uncovered: u64,
}

/// Who named the witness policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySource {
    /// The caller.
    Given,
    /// The ledger itself: who wrote it could have named witnesses of their own.
    Ledger,
}

/// Volume 1 is where a place is that names no volume.
fn first_volume() -> u64 {
    1
}

fn is_first(volume: &u64) -> bool {
    *volume == 1
}

/// A key, and who named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsed {
    /// The key, as a C2SP vkey.
    pub vkey: String,
    /// Who named it.
    pub source: KeySource,
}

/// Who named the checkpoints' key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The caller: the origin is proven.
    Given,
    /// The ledger's own first record: it is consistent, and its origin is not proven.
    LedgerOpened,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// Its origin: `<ledger name>/<volume>`.
    pub origin: String,
    /// How many records it covers.
    pub size: TreeSize,
    /// Their root hash.
    pub root: Digest,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Its id.
    pub stream: StreamId,
    /// Who writes it: `ledger`, `control`, `sensor`, `admission`, or `unknown`.
    pub role: String,
    /// How many records.
    pub records: u64,
    /// The last one's number.
    pub last_sequence: Sequence,
    /// The last one's volume.
    #[serde(default = "first_volume", skip_serializing_if = "is_first")]
    pub last_volume: u64,
    /// The last one's place.
    pub last_index: RecordIndex,
    /// The last one's leaf hash.
    pub last_digest: Digest,
    /// How many signed heads.
    pub heads: u64,
    /// How many records follow the newest signed head: nobody but the ledger vouches for them.
    pub unattested: u64,
    /// How many records are missing.
    pub missing: u64,
}

/// Records missing from a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapReport {
    /// The stream.
    pub stream: StreamId,
    /// First missing record.
    pub from: Sequence,
    /// Last missing record.
    pub to: Sequence,
    /// In which volume the ledger noted it.
    #[serde(default = "first_volume", skip_serializing_if = "is_first")]
    pub volume: u64,
    /// Where the ledger noted it.
    pub index: RecordIndex,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseReport {
    /// The release.
    pub release: ReleaseRef,
    /// Its commit.
    pub commit: String,
    /// The volume of its `release.built`.
    #[serde(default = "first_volume", skip_serializing_if = "is_first")]
    pub volume: u64,
    /// The place of its `release.built`.
    pub index: RecordIndex,
    /// Who signed the commit: `none`, or the SSH key's fingerprint.
    pub signature: String,
    /// Whether its files were all there and held.
    pub files_hold: bool,
    /// On how many nodes it was loaded.
    pub nodes: u64,
}

/// Values behind commitments, and blobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PrivacyReport {
    /// Commitments in records.
    pub commitments: u64,
    /// How many of them are under keys that were erased: nobody can read their values any more.
    pub erased_commitments: u64,
    /// The keys that records say were destroyed, in the order of these records: the newest 1,000.
    pub erased: Vec<ErasedKeyReport>,
    /// How many more there were.
    pub erased_omitted: u64,
    /// Blobs that records refer to.
    pub blobs: BlobsReport,
    /// What a vault showed, where one was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultReport>,
}

/// A key that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedKeyReport {
    /// The key.
    pub key: KeyId,
    /// In which volume the first record stands that says so.
    #[serde(default = "first_volume", skip_serializing_if = "is_first")]
    pub volume: u64,
    /// That record.
    pub index: RecordIndex,
    /// Why.
    pub reason: ErasureReason,
    /// How many commitments are under it.
    pub commitments: u64,
    /// How many blobs are under it.
    pub blobs: u64,
}

/// Blobs, by what became of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BlobsReport {
    /// There, with the digest that their records name.
    pub present: u64,
    /// Under a key that was destroyed because somebody asked for it; the file may be there or not.
    pub erased: u64,
    /// Under a key that was destroyed at the end of its retention.
    pub expired: u64,
    /// Not there, and no record says why.
    pub missing: u64,
    /// There, with other bytes.
    pub wrong: u64,
    /// Files that no record refers to.
    pub unreferenced: u64,
}

/// What a vault showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultReport {
    /// Commitments whose disclosures open them, each in its place.
    pub opened: u64,
}

/// A bucket's objects that never change, as a mirror's list has them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionsReport {
    /// How many.
    pub objects: u64,
    /// How many of them are under Object Lock in mode COMPLIANCE.
    pub locked: u64,
}

/// What lies in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilesReport {
    /// Tiles and bundles, full and partial.
    pub tiles: u64,
    /// Tiles and bundles beyond the checkpoint: written, not yet published.
    pub unpublished_tiles: u64,
    /// Files of the write-ahead log.
    pub wal_files: u64,
    /// Records in it that the checkpoint does not cover yet: they were not checked.
    pub wal_records: u64,
    /// Files that are no part of a ledger: the first 1,000.
    pub other: Vec<String>,
    /// How many more there were.
    pub other_omitted: u64,
}

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every kind.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// Its text in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

kinds! {
    /// What is wrong.
    FaultKind {
        /// The system could not read a file or a folder. When all faults are of this kind, nothing can be told.
        Unreadable = "unreadable",
        /// `checkpoint` is missing.
        CheckpointMissing = "checkpoint_missing",
        /// A checkpoint is not one.
        CheckpointMalformed = "checkpoint_malformed",
        /// A checkpoint is not signed by the key it must be.
        CheckpointSignature = "checkpoint_signature",
        /// A checkpoint is of another log.
        CheckpointOrigin = "checkpoint_origin",
        /// A larger checkpoint was signed before: this one was rolled back, or the log has two histories.
        CheckpointRolledBack = "checkpoint_rolled_back",
        /// The records' root is not the checkpoint's.
        RootWrong = "root_wrong",
        /// A retained checkpoint is of another history.
        RetainedWrong = "retained_wrong",
        /// An earlier report saw another history.
        SinceWrong = "since_wrong",
        /// A hash tile is missing.
        TileMissing = "tile_missing",
        /// A hash tile's length is not that of its width.
        TileMalformed = "tile_malformed",
        /// A hash tile's bytes are not what the tree determines.
        TileWrong = "tile_wrong",
        /// An entry bundle is missing.
        BundleMissing = "bundle_missing",
        /// An entry bundle is cut, or goes on after its last record.
        BundleMalformed = "bundle_malformed",
        /// A record's bytes are not those that the tree holds the hash of.
        RecordWrong = "record_wrong",
        /// A record is not canonical, or not of the form that its type demands.
        RecordInvalid = "record_invalid",
        /// Record 0 is not this ledger's `ledger.opened`, or there is a second one.
        LedgerOpened = "ledger_opened",
        /// The key given is none of the ledger's own.
        KeyMismatch = "key_mismatch",
        /// Checkpoints are said to be signed by another key from a record on, and the root key did not endorse it.
        KeyEndorsement = "key_endorsement",
        /// Other witnesses are said to count from a record on, and the root key did not endorse it, or the policy is none.
        WitnessesEndorsement = "witnesses_endorsement",
        /// The witness policy given is not met by any checkpoint.
        PolicyNotMet = "policy_not_met",
        /// A cosignature by a witness of the policy is wrong.
        CosignatureWrong = "cosignature_wrong",
        /// A volume between two others, or one that the volume before announces, is missing.
        VolumeMissing = "volume_missing",
        /// A volume does not follow from the one before: its checkpoint, its end, or its key.
        VolumeChain = "volume_chain",
        /// A volume takes over nodes or streams otherwise than the one before left them.
        VolumeCarried = "volume_carried",
        /// Records stand behind the one that ended the volume.
        VolumeEnded = "volume_ended",
        /// A stream of a node that never joined.
        StreamUnknown = "stream_unknown",
        /// A stream does not begin with its `stream.opened`, by the right node and key, or has a second one.
        StreamOpening = "stream_opening",
        /// A record's number does not follow, and the ledger did not note a gap.
        Sequence = "sequence",
        /// A record does not carry the hash of the one before.
        PrevDigest = "prevdigest",
        /// A `foreignid` came twice in one stream.
        ForeignId = "foreignid",
        /// A record of a type that its producer may not write.
        Role = "role",
        /// A head does not stand where it says.
        HeadPlace = "head_place",
        /// A head is not signed by its producer's key.
        HeadSignature = "head_signature",
        /// A producer saw a checkpoint that is not of this history.
        HeadCheckpoint = "head_checkpoint",
        /// What the ledger notes of a stream (gap, fork, rejected record) is not what the stream shows.
        LedgerNote = "ledger_note",
        /// The control plane saw records that are not here.
        ObservedMissing = "observed_missing",
        /// A node joined again with another key or as something else, or with something that is no key.
        NodeJoined = "node_joined",
        /// A release's serial does not follow the one before, or its record contradicts itself.
        ReleaseBuilt = "release_built",
        /// A record names a release that was not built before it.
        ReleaseUnknown = "release_unknown",
        /// A node decided by a release that it had not loaded.
        ReleaseNotLoaded = "release_not_loaded",
        /// A node loaded a release that no checkpoint of that time could prove to it.
        ReleaseNotProven = "release_not_proven",
        /// A containment's record names a detection or a request that is not there.
        ContainmentUnpaired = "containment_unpaired",
        /// A release's file is missing.
        ReleaseFileMissing = "release_file_missing",
        /// A release's file is not what its record says.
        ReleaseFileWrong = "release_file_wrong",
        /// A release's statement is not signed by the release key, or does not state this release.
        ReleaseStatement = "release_statement",
        /// A release's content is not the commit's.
        ReleaseContent = "release_content",
        /// A release's proof does not hold.
        ReleaseProof = "release_proof",
        /// Release files for which there is no record.
        ReleaseUnrecorded = "release_unrecorded",
        /// `versions.jsonl` of a mirror is not what it should be.
        VersionsMalformed = "versions_malformed",
        /// A delete marker hides an object that never changes.
        ObjectHidden = "object_hidden",
        /// An object that never changes has several versions in the bucket.
        ObjectRewritten = "object_rewritten",
        /// A mirror's file is not the object that the bucket had.
        MirrorWrong = "mirror_wrong",
        /// A record's reference to a blob is not one, or contradicts another record's.
        BlobReference = "blob_reference",
        /// A blob is missing, and no record says that its key was destroyed.
        BlobMissing = "blob_missing",
        /// A blob's bytes are not those that its record names.
        BlobWrong = "blob_wrong",
        /// The vault cannot open commitments, and no record says that their key was destroyed.
        DisclosureMissing = "disclosure_missing",
        /// The vault has another value for a commitment, or the commitment was moved.
        DisclosureWrong = "disclosure_wrong",
        /// A key that a record says is destroyed is in the vault.
        KeyNotErased = "key_not_erased",
    }
}

kinds! {
    /// What an auditor should look at. With `--strict` it fails the verification.
    FindingKind {
        /// Records are missing from a stream, and its producer did not declare it.
        Gap = "gap",
        /// A second record came for a number that was taken; it was refused.
        Fork = "fork",
        /// A record was not valid and was not taken.
        Rejected = "rejected",
        /// Records after a stream's newest signed head.
        Unattested = "unattested",
        /// A producer opened a new stream and did not go on from this one.
        Abandoned = "abandoned",
        /// A stream grew after its producer had opened another: a cloned machine.
        Cloned = "cloned",
        /// A stream's clock ran backwards.
        TimeBackwards = "time_backwards",
        /// A containment was requested, and what came of it was not recorded.
        ContainmentUnfinished = "containment_unfinished",
        /// A node decided by a release, and the record of its loading may be among those that are missing.
        ReleaseNotShown = "release_not_shown",
        /// A release's record is there and it was not offered yet; not all of its files are written.
        ReleaseUnfinished = "release_unfinished",
        /// Records that the newest cosigned checkpoint does not cover.
        Unwitnessed = "unwitnessed",
        /// A volume was opened over a backup, over damage, or without the old key: what came after its beginning may be lost.
        VolumeReplaced = "volume_replaced",
        /// A producer saw a checkpoint whose records a restored ledger does not hold.
        CheckpointLost = "checkpoint_lost",
        /// Records are dated after a time at which witnesses had them, or long before one at which they did not have them.
        TimeContradicted = "time_contradicted",
        /// Objects that never change are not locked in the bucket.
        NotLocked = "not_locked",
        /// A record refers to something under a key that was destroyed before.
        ErasedKeyUsed = "erased_key_used",
        /// An erasure has begun in the vault, and the ledger does not say so yet.
        ErasureUnrecorded = "erasure_unrecorded",
    }
}

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// The file below the ledger's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The volume of the record.
    #[serde(default = "first_volume", skip_serializing_if = "is_first")]
    pub volume: u64,
    /// The record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<RecordIndex>,
    /// Its stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// Its number in the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// What was expected and what was found.
    pub reason: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, reason: impl Into<String>) -> Fault {
        Fault { kind, file: None, volume: 1, index: None, stream: None, sequence: None, reason: reason.into() }
    }

    pub(crate) fn file(mut self, file: impl ToString) -> Fault {
        self.file = Some(file.to_string());
        self
    }

    pub(crate) fn index(mut self, index: RecordIndex) -> Fault {
        self.index = Some(index);
        self
    }

    pub(crate) fn at(mut self, index: RecordIndex, stream: &StreamId, sequence: Sequence) -> Fault {
        self.index = Some(index);
        self.stream = Some(stream.clone());
        self.sequence = Some(sequence);
        self
    }
}

/// Something to look at, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The volume of the record.
    #[serde(default = "first_volume", skip_serializing_if = "is_first")]
    pub volume: u64,
    /// The record that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<RecordIndex>,
    /// The stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// What was seen.
    pub reason: String,
}

/// Faults and findings as they come, bounded.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) faults: Vec<Fault>,
    pub(crate) faults_omitted: u64,
    /// Faults of other kinds than [`FaultKind::Unreadable`] among those that were omitted.
    wrong_omitted: bool,
    pub(crate) findings: Vec<Finding>,
    pub(crate) findings_omitted: u64,
    /// The volume at hand, which faults and findings are about; 0 is as good as 1.
    pub(crate) volume: u64,
    /// Whether files are named below that volume's folder.
    pub(crate) below: bool,
}

impl Found {
    /// From here on everything is about this volume, and files are named below its folder.
    pub(crate) fn enter(&mut self, volume: u64) {
        (self.volume, self.below) = (volume, true);
    }

    /// From here on records are this volume's, and files are named below the ledger's root.
    pub(crate) fn at_root(&mut self, volume: u64) {
        (self.volume, self.below) = (volume, false);
    }

    pub(crate) fn fault(&mut self, mut fault: Fault) {
        fault.volume = self.volume.max(1);
        if self.below {
            fault.file = fault.file.map(|file| cairn_ledger::volume::path(self.volume, &file));
        }
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_omitted += 1;
            self.wrong_omitted |= fault.kind != FaultKind::Unreadable;
        }
    }

    pub(crate) fn finding<'a>(
        &mut self,
        kind: FindingKind,
        index: Option<RecordIndex>,
        stream: impl Into<Option<&'a StreamId>>,
        reason: impl Into<String>,
    ) {
        if self.findings.len() < FINDINGS_MAX {
            let volume = self.volume.max(1);
            self.findings.push(Finding { kind, volume, index, stream: stream.into().cloned(), reason: reason.into() });
        } else {
            self.findings_omitted += 1;
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        if self.wrong_omitted || self.faults.iter().any(|fault| fault.kind != FaultKind::Unreadable) {
            Verdict::Failed
        } else if self.faults.is_empty() {
            Verdict::Ok
        } else {
            Verdict::CouldNotTell
        }
    }
}

impl Report {
    /// A report that says only why nothing could be told.
    pub(crate) fn could_not_tell(path: &std::path::Path, reason: impl Into<String>) -> Report {
        Report {
            format: FORMAT.to_owned(),
            verdict: Verdict::CouldNotTell,
            reason: Some(reason.into()),
            path: path.display().to_string(),
            structure_only: false,
            key: None,
            checkpoint: None,
            volumes: Vec::new(),
            witnessed: None,
            records: 0,
            counts: BTreeMap::new(),
            streams: Vec::new(),
            gaps: Vec::new(),
            releases: Vec::new(),
            retained_checkpoints: 0,
            privacy: PrivacyReport::default(),
            versions: None,
            files: FilesReport::default(),
            faults: Vec::new(),
            faults_omitted: 0,
            findings: Vec::new(),
            findings_omitted: 0,
            not_proven: Vec::new(),
            not_made: Vec::new(),
        }
    }

    /// The exit status: 0 good, 1 bad, 2 could not tell. With `strict`, findings are bad too.
    #[must_use]
    pub fn exit_code(&self, strict: bool) -> u8 {
        match self.verdict {
            Verdict::Ok if strict && !self.findings.is_empty() => 1,
            Verdict::Ok => 0,
            Verdict::Failed => 1,
            Verdict::CouldNotTell => 2,
        }
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("invariant: a report has text keys and no fallible serialisers")
    }
}

/// What `--since` needs of an earlier report. Everything else in it is ignored, so that reports of other versions can be read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EarlierReport {
    /// [`FORMAT`].
    format: String,
    /// The checkpoint that it saw.
    #[serde(default)]
    pub checkpoint: Option<CheckpointReport>,
}

/// Why a text is no earlier report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EarlierReportError {
    /// Not JSON, or not of that form.
    #[error("not a verification report")]
    Json(#[source] serde_json::Error),
    /// JSON of another format.
    #[error("its format is {found:?}; expected {FORMAT:?}")]
    Format {
        /// What it says.
        found: String,
    },
    /// The earlier verification did not get as far as a checkpoint.
    #[error("the earlier verification saw no checkpoint, so there is nothing to compare with")]
    NoCheckpoint,
}

impl EarlierReport {
    /// Reads what `cairn verify --json` printed.
    ///
    /// # Errors
    /// [`EarlierReportError`].
    pub fn parse(json: &[u8]) -> Result<EarlierReport, EarlierReportError> {
        let report: EarlierReport = serde_json::from_slice(json).map_err(EarlierReportError::Json)?;
        if report.format != FORMAT {
            return Err(EarlierReportError::Format { found: report.format });
        }
        if report.checkpoint.is_none() {
            return Err(EarlierReportError::NoCheckpoint);
        }
        Ok(report)
    }
}

impl From<&Report> for EarlierReport {
    fn from(report: &Report) -> EarlierReport {
        EarlierReport { format: report.format.clone(), checkpoint: report.checkpoint.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_at_the_limit_and_one_past_it() {
        let mut found = Found::default();
        for _ in 0..FAULTS_MAX {
            found.fault(Fault::new(FaultKind::Unreadable, "x"));
        }
        assert_eq!((found.faults.len(), found.faults_omitted), (FAULTS_MAX, 0));
        assert_eq!(found.verdict(), Verdict::CouldNotTell);
        // What is not listed still counts.
        found.fault(Fault::new(FaultKind::RootWrong, "x"));
        assert_eq!((found.faults.len(), found.faults_omitted), (FAULTS_MAX, 1));
        assert_eq!(found.verdict(), Verdict::Failed);
    }

    #[test]
    fn exit_codes() {
        let mut report = Report::could_not_tell(std::path::Path::new("x"), "nothing there");
        assert_eq!(report.exit_code(false), 2);
        report.verdict = Verdict::Ok;
        assert_eq!((report.exit_code(false), report.exit_code(true)), (0, 0));
        let stream = StreamId::ledger();
        report.findings = vec![Finding {
            kind: FindingKind::Gap,
            volume: 1,
            index: None,
            stream: Some(stream),
            reason: String::new(),
        }];
        assert_eq!((report.exit_code(false), report.exit_code(true)), (0, 1));
        report.verdict = Verdict::Failed;
        assert_eq!((report.exit_code(false), report.exit_code(true)), (1, 1));
    }

    #[test]
    fn kinds_have_one_text_each() {
        let texts: std::collections::BTreeSet<&str> = FaultKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(texts.len(), FaultKind::ALL.len());
        for kind in FaultKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn only_reports_are_read_as_earlier_ones() {
        assert!(matches!(EarlierReport::parse(b"x"), Err(EarlierReportError::Json(_))));
        assert!(matches!(EarlierReport::parse(b"{\"format\":\"x\"}"), Err(EarlierReportError::Format { .. })));
        let report = Report::could_not_tell(std::path::Path::new("x"), "nothing there");
        let parsed = EarlierReport::parse(report.to_json().as_bytes());
        assert!(matches!(parsed, Err(EarlierReportError::NoCheckpoint)));
    }
}
