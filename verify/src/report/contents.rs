//! A report on what is in a ledger: streams, releases, personal values and blobs, and the files that hold it all.

use cairn_schemas::commitment::KeyId;
use cairn_schemas::data::ErasureReason;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, ReleaseRef, Sequence, StreamId};
use serde::{Deserialize, Serialize};

use super::{first_volume, is_first};

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
