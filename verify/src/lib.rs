//! The auditor's second path: is this ledger whole, and does it say what its producers signed?
//!
//! [`verify()`] reads a ledger's directory, offline, and builds everything again from the records: leaf hashes, tiles, roots, streams,
//! releases. It shares hashing and parsing with the writer and nothing else: no state, no cache, no index, not its tree code. It
//! believes a signature by a key that it was given, or that the ledger's first record names, and says which of the two it was.
//! Nothing it finds stops it; every fault is listed with the file and the record that is wrong.
//!
//! What bytes cannot prove, it does not claim: see [`Report::not_proven`]. It opens files for reading and does nothing else to the
//! world: no network, no clock, no writes. The report's JSON form is described in `verify/REPORT.md`.
#![forbid(unsafe_code)]

mod checkpoints;
mod checks;
mod facts;
mod inventory;
mod life;
mod releases;
mod render;
mod report;
mod run;
mod source;
mod tree;
mod versions;
mod volumes;
mod wal;
mod witnessed;

use std::path::Path;
use std::sync::Arc;
use std::thread;

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::CHECKPOINT_FILE;
use cairn_ledger::note::VerifierKey;
use cairn_ledger::policy::Policy;
use cairn_ledger::volume::folder;

pub use checks::privacy::{Disclosures, Opened};
pub use render::render;
pub use report::{
    BlobsReport, CheckpointReport, ERASED_KEYS_MAX, EarlierReport, EarlierReportError, ErasedKeyReport, FAULTS_MAX,
    FINDINGS_MAX, FORMAT, Fault, FaultKind, FilesReport, Finding, FindingKind, GapReport, KeySource, KeyUsed,
    KeyWindowReport, OTHER_FILES_MAX, PolicySource, PrivacyReport, ReleaseReport, Report, StreamReport, VaultReport,
    Verdict, VersionsReport, VolumeReport, VolumeState, WitnessedReport,
};
use run::{Outcome, Run};
use source::Source;

/// How often a ledger that goes on while it is read is read again, when something did not fit.
const ATTEMPTS_MAX: usize = 3;
/// Most threads.
pub const THREADS_MAX: usize = 64;

/// How to verify.
#[derive(Default)]
pub struct Options {
    /// The key that checkpoints must be signed with, as a C2SP vkey: given by the caller, or pinned by them before. Without one, the
    /// ledger's own first record names it, and the origin is not proven.
    pub key: Option<String>,
    /// The witness policy that the newest checkpoints must meet, C2SP tlog-policy. Without one, the ledger's own is used: then only its
    /// writer says that these witnesses count.
    pub policy: Option<String>,
    /// What an earlier verification saw: it must be the beginning of what is here.
    pub since: Option<EarlierReport>,
    /// How many threads parse and hash; 0: as many as there are cores. At most [`THREADS_MAX`].
    pub threads: usize,
    /// Check hashes, tiles, roots and checkpoints only: that no record was changed, taken out or put in since its checkpoint. What records
    /// say is not looked at, and the report says so in [`Report::not_proven`].
    pub structure: bool,
    /// The vault beside the ledger, where its owner verifies: every commitment must open, and erased keys be gone.
    pub vault: Option<Arc<dyn Disclosures>>,
    /// Called now and then, from the caller's thread.
    pub progress: Option<Box<dyn Fn(Progress) + Send + Sync>>,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Records that were checked.
    pub done: u64,
    /// Records that the checkpoint covers.
    pub total: u64,
}

/// Verifies a ledger's directory.
///
/// A ledger may go on while it is read: files that were there are replaced by others. When something did not fit and another
/// checkpoint was published meanwhile, it is read again.
pub fn verify(path: &Path, options: &Options) -> Report {
    let key = match options.key.as_deref().map(str::trim).map(str::parse::<VerifierKey>).transpose() {
        Ok(key) => key,
        Err(error) => return Report::could_not_tell(path, format!("the key to verify with cannot be used: {error}")),
    };
    let policy = match options.policy.as_deref().map(|text| Policy::parse(text.as_bytes())).transpose() {
        Ok(policy) => policy,
        Err(error) => return Report::could_not_tell(path, format!("the witness policy cannot be used: {error}")),
    };
    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let run = Run {
        path,
        source: &Source::new(path),
        key: key.as_ref(),
        policy: policy.as_ref(),
        since: options.since.as_ref().and_then(|since| since.checkpoint.as_ref()),
        threads: threads.min(THREADS_MAX),
        structure: options.structure,
        vault: options.vault.as_ref(),
        progress: &|progress| {
            if let Some(callback) = &options.progress {
                callback(progress);
            }
        },
    };
    for _ in 1..ATTEMPTS_MAX {
        match run.once() {
            Outcome { report, moved: true } if report.verdict != Verdict::Ok => {}
            outcome => return outcome.report,
        }
    }
    run.once().report
}

/// The name of the ledger at `path`, as its checkpoint gives it, unchecked: under this name a key may be pinned.
#[must_use]
pub fn ledger_name(path: &Path) -> Option<String> {
    let root = Source::new(path);
    let newest = volumes::present(&root).ok()?.pop().unwrap_or(1);
    let bytes = checkpoints::read(&root.below(&folder(newest)), CHECKPOINT_FILE).ok()?;
    let (checkpoint, _) = Checkpoint::parse(&bytes).ok()?;
    let (name, _volume) = checkpoint.origin.rsplit_once('/')?;
    Some(name.to_owned())
}
