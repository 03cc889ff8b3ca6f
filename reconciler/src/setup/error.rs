//! Why a data folder cannot be used, and what to do about it.

use std::path::PathBuf;

use cairn_ledger::keys::KeysError;
use cairn_ledger::writer::{OpenError, ReadError};
use cairn_schemas::fleet::FLEET_VERSION;

use crate::control::ControlError;
use crate::durable::DiskError;
use crate::joins::JoinError;
use crate::repo::RepoError;

/// Why a data folder cannot be used. With its causes one line each; [`SetupError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A file or folder could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The folder is somebody else's.
    #[error("{} is not empty and is not a Cairn data folder", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// Made by a newer version.
    #[error("{} has version {found}; this program reads version {FLEET_VERSION}", path.display())]
    NewerVersion {
        /// `fleet.yaml`.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// `fleet.yaml` cannot be read.
    #[error("{} is broken: {reason}", path.display())]
    BrokenFleet {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// `ledger.address` of `fleet.yaml` cannot be used.
    #[error("{}:{line}: ledger.address: {reason}", path.display())]
    LedgerAddress {
        /// `fleet.yaml`.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The address that was asked for is no bucket's.
    #[error("the ledger cannot lie in {address}: {reason}")]
    NoAddress {
        /// What was asked for.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The ledger lies elsewhere than was asked for.
    #[error("{} says that the ledger lies in {there}, not in {asked}", path.display())]
    LedgerElsewhere {
        /// `fleet.yaml`.
        path: PathBuf,
        /// What it says.
        there: String,
        /// What was asked for.
        asked: String,
    },
    /// The witness policy of `fleet.yaml` is not the ledger's, and cannot be made it.
    #[error("{}: the witness policy cannot be changed: {reason}", path.display())]
    Witnesses {
        /// `fleet.yaml`.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A key is missing.
    #[error("the key {} is missing", path.display())]
    KeyMissing {
        /// The file.
        path: PathBuf,
    },
    /// A key file holds no key.
    #[error("{} is not a key: {reason}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key is not the one that `fleet.yaml` names.
    #[error("the key {} is not the one that fleet.yaml names", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// A join token's file holds no token.
    #[error("{} is not a join token", path.display())]
    NotAToken {
        /// The file.
        path: PathBuf,
    },
    /// There is no `git`.
    #[error("the program git cannot be run: {reason}")]
    NoGit {
        /// What the system said.
        reason: String,
    },
    /// The policy repo cannot be used.
    #[error("the policy repo {} cannot be used", path.display())]
    Policies {
        /// The repo.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<RepoError>,
    },
    /// The policy repo has no commit.
    #[error("the policy repo {} has no commit on the branch `{branch}`", path.display())]
    NoCommit {
        /// The repo.
        path: PathBuf,
        /// The branch that was looked at.
        branch: String,
    },
    /// The policy repo is gone although releases were built from it.
    #[error("the policy repo {} is missing, and releases were built from it", path.display())]
    PoliciesMissing {
        /// Where it was.
        path: PathBuf,
    },
    /// The ledger is gone although nodes joined it.
    #[error("the ledger {} is missing, and nodes have joined it", path.display())]
    LedgerMissing {
        /// Where it was.
        path: PathBuf,
    },
    /// Another process writes the ledger.
    #[error("the ledger {} is in use by another process", path.display())]
    LedgerInUse {
        /// The ledger.
        path: PathBuf,
    },
    /// The next ledger key, which an interrupted change left, cannot be read.
    #[error(transparent)]
    LedgerKeys(#[from] KeysError),
    /// The ledger cannot be opened.
    #[error("the ledger {} cannot be opened", path.display())]
    Ledger {
        /// The ledger.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<OpenError>,
    },
    /// The ledger cannot be read.
    #[error("the ledger {} cannot be read", path.display())]
    Read {
        /// The ledger.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ReadError>,
    },
    /// The ledger belongs to another fleet.
    #[error("the ledger {} and {} do not belong together: {what} differs", ledger.display(), fleet.display())]
    OtherLedger {
        /// The ledger.
        ledger: PathBuf,
        /// `fleet.yaml`.
        fleet: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The control plane's stream could not be opened.
    #[error("the control plane's stream cannot be opened")]
    Control(#[from] ControlError),
    /// The registry of nodes cannot be read or written.
    #[error(transparent)]
    Joins(#[from] JoinError),
    /// No randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(#[source] std::io::Error),
}

impl SetupError {
    /// What to do about it, where that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            SetupError::Disk(_) => "make it writable for this user, or choose another folder with --dir",
            SetupError::NotOurs { .. } => "choose an empty folder, or one that does not exist yet, with --dir",
            SetupError::NewerVersion { .. } => "use the version of cairn that made it, or another folder with --dir",
            SetupError::LedgerAddress { .. } => "correct the line; nothing was changed",
            SetupError::NoAddress { .. } => "give s3://bucket/prefix, or nothing: then it lies in the data folder",
            SetupError::LedgerElsewhere { .. } => {
                "a ledger stays where it was made: start without --ledger, or anew in another folder with --dir"
            }
            SetupError::BrokenFleet { .. } => "correct the file or restore it from a backup; nothing was changed",
            SetupError::Witnesses { .. } => {
                "put root.key back into keys/ for this start, or the root's word into witnesses_endorsement"
            }
            SetupError::KeyMissing { .. } | SetupError::NotAKey { .. } | SetupError::OtherKey { .. } => {
                "restore it from a backup, or start anew in another folder with --dir"
            }
            SetupError::NotAToken { .. } => "delete the file: a new token is made at the next start",
            SetupError::NoGit { .. } => "install git (Debian: apt install git) and see that it is in PATH",
            SetupError::NoCommit { .. } => "commit a cairn.yaml there, or remove the folder to start from the template",
            SetupError::PoliciesMissing { .. } => {
                "put it back from a clone; what the control plane saw last is in cache/policies.git, branch upstream"
            }
            SetupError::LedgerMissing { .. } => "restore it from a backup, or start anew in another folder with --dir",
            SetupError::LedgerInUse { .. } => "stop the other cairn, or choose another folder with --dir",
            SetupError::Ledger { source, .. } if source.remedy().is_some() => source.remedy()?,
            SetupError::Ledger { .. } | SetupError::Read { .. } => "`cairn verify` says more; nothing was changed",
            SetupError::OtherLedger { .. } => "restore the one that was changed from a backup; nothing was changed",
            SetupError::Policies { .. } => "mend it with git",
            _ => return None,
        })
    }
}
