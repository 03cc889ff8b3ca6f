//! One verification, from the checkpoint to the report.

mod chain;
mod key;
mod limits;
mod link;
mod volumes;
mod walk;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cairn_ledger::blob::BLOB_FOLDER;
use cairn_ledger::dir::{CHECKPOINT_FILE, COSIGNED_FILE};
use cairn_ledger::note::VerifierKey;
use cairn_ledger::policy::Policy;
use cairn_ledger::volume::{VOLUME_FOLDER, path as volume_path};
use cairn_schemas::ids::TreeSize;

use self::volumes::{Volume, moved};
use crate::Progress;
use crate::checkpoints::NUMBERED_FOLDER;
use crate::checks::privacy::Disclosures;
use crate::releases::RELEASES_FOLDER;
use crate::report::{CheckpointReport, FilesReport, Found, Report, Verdict};
use crate::source::{EntryKind, Source};
use crate::versions::VERSIONS_FILE;
use crate::volumes::present;
use crate::wal::{self, WAL_FOLDER};

/// The writer's lock: no part of what is published, like the write-ahead log.
const LOCK_FILE: &str = "lock";

/// What to verify, and how.
pub(crate) struct Run<'a> {
    pub(crate) path: &'a Path,
    pub(crate) source: &'a Source,
    pub(crate) key: Option<&'a VerifierKey>,
    pub(crate) policy: Option<&'a Policy>,
    pub(crate) since: Option<&'a CheckpointReport>,
    pub(crate) threads: usize,
    /// Hashes, tiles and roots only.
    pub(crate) structure: bool,
    pub(crate) vault: Option<&'a Arc<dyn Disclosures>>,
    pub(crate) progress: &'a dyn Fn(Progress),
}

/// A report, and whether the ledger published another checkpoint meanwhile.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    pub(crate) moved: bool,
}

impl Run<'_> {
    pub(crate) fn once(&self) -> Outcome {
        let still = |report| Outcome { report, moved: false };
        let tell_not = |reason: String| still(Report::could_not_tell(self.path, reason));
        if let Err(reason) = self.is_there() {
            return tell_not(reason);
        }
        let mut found = Found::default();
        let volumes = match self.volumes(&mut found) {
            Ok(volumes) => volumes,
            Err(reason) => return tell_not(reason),
        };
        if volumes.last().is_some_and(|newest| newest.published.is_none()) {
            // There is a tree and nothing to compare it with.
            return still(self.report(found));
        }
        let report = self.chain(&volumes, found);
        let newest = volumes.last().and_then(|newest| Some((&newest.source, newest.published.as_ref()?)));
        let moved = newest.is_some_and(|(source, published)| moved(source, published))
            || present(self.source)
                .is_ok_and(|numbers| numbers.into_iter().ne(volumes.iter().map(|volume| volume.number)));
        Outcome { report, moved }
    }

    /// Whether anything that could be a ledger is at the path.
    fn is_there(&self) -> Result<(), String> {
        let path = self.path.display();
        match fs::metadata(self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(format!("{path} does not exist")),
            Err(error) => return Err(format!("{path} cannot be read: {error}")),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(format!("{path} is not a folder; a ledger is one, with `checkpoint` and `tile/` in it"));
            }
            Ok(_) => {}
        }
        self.source.list("").map(drop).map_err(|error| format!("{path} cannot be read: {error}"))
    }

    /// What else lies in a volume's folder.
    fn files(&self, volume: &Volume, size: TreeSize, files: &mut FilesReport, other: &mut Vec<String>) {
        let below = |name: &str| volume_path(volume.number, name);
        other.extend(volume.inventory.other.iter().map(|file| below(file)));
        let of_volume = [CHECKPOINT_FILE, COSIGNED_FILE, NUMBERED_FOLDER, "tile", WAL_FOLDER];
        let of_root = [RELEASES_FOLDER, BLOB_FOLDER, LOCK_FILE, VOLUME_FOLDER, VERSIONS_FILE, "versions"];
        let root = volume.source.is_at(self.source);
        for (name, kind) in volume.source.list("").unwrap_or_default() {
            let known = of_volume.contains(&name.as_str()) || (root && of_root.contains(&name.as_str()));
            if !known {
                other.push(below(&if kind == EntryKind::Folder { format!("{name}/") } else { name }));
            }
        }
        let (wal_files, wal_records) = wal::waiting(&volume.source, size);
        files.tiles += volume.inventory.len();
        files.other_omitted += volume.inventory.other_omitted;
        files.unpublished_tiles += volume.inventory.beyond(size).count() as u64;
        files.wal_files += wal_files;
        files.wal_records += wal_records;
    }

    /// A report with what was found, and nothing else yet.
    fn report(&self, found: Found) -> Report {
        let mut report = Report::could_not_tell(self.path, String::new());
        report.structure_only = self.structure;
        report.verdict = found.verdict();
        report.reason =
            (report.verdict == Verdict::CouldNotTell).then(|| "the system could not read some of its files".to_owned());
        report.faults = found.faults;
        report.faults_omitted = found.faults_omitted;
        report.findings = found.findings;
        report.findings_omitted = found.findings_omitted;
        report
    }
}
