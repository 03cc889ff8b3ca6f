//! What a verification found: the report, its faults and findings, and what it means for an exit status.
//!
//! The JSON form is described in `verify/REPORT.md`; fields are added to it and never change their meaning.

mod contents;
mod earlier;
mod found;
mod kinds;
mod volumes;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use contents::{
    BlobsReport, ErasedKeyReport, FilesReport, GapReport, PrivacyReport, ReleaseReport, StreamReport, VaultReport,
    VersionsReport,
};
pub use earlier::{EarlierReport, EarlierReportError};
pub(crate) use found::Found;
pub use found::{Fault, Finding};
pub use kinds::{FaultKind, FindingKind};
pub use volumes::{
    CheckpointReport, KeySource, KeyUsed, KeyWindowReport, PolicySource, VolumeReport, VolumeState, WitnessedReport,
};

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

/// Volume 1 is where a place is that names no volume.
fn first_volume() -> u64 {
    1
}

fn is_first(volume: &u64) -> bool {
    *volume == 1
}

#[cfg(test)]
mod tests {
    use cairn_schemas::ids::StreamId;

    use super::*;

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
}
