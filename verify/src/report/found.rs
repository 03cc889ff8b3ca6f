//! Faults and findings, as they come and as a report lists them.

use cairn_schemas::ids::{RecordIndex, Sequence, StreamId};
use serde::{Deserialize, Serialize};

use super::{FAULTS_MAX, FINDINGS_MAX, FaultKind, FindingKind, Verdict, first_volume, is_first};

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
}
