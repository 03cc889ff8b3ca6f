//! From a commit to a release that can be offered.
//!
//! [`Builder::look`] takes the tip of the policy repo and, if nothing was decided about it, decides: `git.refused` for history that was
//! rewritten, `release.rejected` for what is not signed, does not load or fails its tests, and else a release. Commits between
//! the last accepted one and the tip are folded into it; each must be signed.
//!
//! The order of effects, and what a crash leaves after each:
//! 1. `content.tar`, then `statement.sigstore.json`, durable: files without a record. Reused if the commit is still the tip, else deleted.
//! 2. `release.built` in the ledger: the release exists. What is missing is made from the ledger.
//! 3. `record.json`.
//! 4. When a published checkpoint covers the record, `release.tlog-proof`: the release is offered.

mod assemble;
mod mirror;
mod rejection;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_ledger::volume::Place;
use cairn_ledger::writer::{Ledger, ReadError};
use cairn_policy::{Policy, TestReport};
use cairn_release::content;
use cairn_release::gitobj::Commit;
use cairn_release::key::ReleaseSigner;
use cairn_release::signers::{Signature, SignatureError, SignerPolicy};
use cairn_release::statement::StatementError;
use cairn_release::store::{FoundError, Recorded as RecordedRelease, Resume, StoreError, resume};
use cairn_schemas::config::PolicyConfig;
use cairn_schemas::data::{GitRefused, RejectedAt};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{CommitId, ReleaseRef, Serial};
use cairn_schemas::record::Draft;
use cairn_schemas::time::Clock;
use cairn_schemas::token::TokenKey;

use crate::control::{Control, ControlError};
use crate::live::Live;
use crate::offer::Configs;
use crate::releases::Releases;
use crate::repo::{History, Mirror, RepoError, Snapshot};
use crate::state::short;
use crate::step::one_line;
pub(crate) use mirror::open_mirror;
use mirror::{is_mirrors, renew_mirror};
use rejection::Rejection;

/// For how long nodes take a release that they do not hold.
pub const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// So long before its end, what is promoted is built again under a new serial.
pub const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a checkpoint over a record may take.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(30);
/// How long the witnesses of the fleet's policy are waited for.
const COSIGN_PATIENCE: Duration = Duration::from_secs(30);
/// How long the fold of a record may take.
const FOLD_PATIENCE: Duration = Duration::from_secs(30);
/// The token class of a commit author's address and a signer's principal.
const EMAIL_CLASS: &str = "email";

/// Why a look came to nothing. It is made again; nothing was decided about the commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The policy repo or its mirror cannot be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The ledger did not take a record.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The files of a release could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files of a release could not be read.
    #[error(transparent)]
    Found(#[from] FoundError),
    /// A file of a release in the ledger's bucket could not be written or read, or is another.
    #[error("cannot {action} {path} in the ledger: {source}")]
    ReleaseFile {
        /// What was tried.
        action: &'static str,
        /// The path below the ledger's root.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The ledger could not be read.
    #[error("the ledger cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The statement cannot be written.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// No checkpoint covered the record in time.
    #[error("no checkpoint covers record {place} yet")]
    NotPublished {
        /// The record.
        place: Place,
    },
    /// Too few witnesses cosigned a checkpoint that covers the record. It is tried again.
    #[error("no checkpoint that covers record {place} is cosigned by enough witnesses yet")]
    NotCosigned {
        /// The record.
        place: Place,
    },
    /// The record was not folded in time.
    #[error("record {place} was not seen yet")]
    NotFolded {
        /// The record.
        place: Place,
    },
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// Nothing new.
    Nothing,
    /// A release, ready to be offered.
    Built(ReleaseRef),
    /// The commit was rejected, and the ledger says why.
    Rejected(CommitId),
    /// The tip is not followed, and the ledger says so.
    Refused(CommitId),
}

/// The newest release that can be offered: its proof is durable.
#[derive(Debug, Default)]
pub struct Proven(AtomicU64);

impl Proven {
    /// The newest such release's serial.
    #[must_use]
    pub fn newest(&self) -> Option<Serial> {
        Some(self.0.load(Ordering::SeqCst)).filter(|serial| *serial > 0).map(Serial)
    }

    fn add(&self, serial: Serial) {
        self.0.fetch_max(serial.0, Ordering::SeqCst);
    }
}

/// What a build needs. One per control plane, on a thread of its own.
pub struct Builder {
    pub(crate) mirror: Mirror,
    /// The mirror's folder, and what it mirrors: it is derived, and made anew where it is damaged.
    pub(crate) mirror_folder: PathBuf,
    pub(crate) store: Releases,
    pub(crate) signer: ReleaseSigner,
    pub(crate) signers: SignerPolicy,
    pub(crate) token_key: TokenKey,
    pub(crate) ledger: Ledger,
    pub(crate) control: Arc<Control>,
    pub(crate) live: Arc<Live>,
    pub(crate) configs: Arc<dyn Configs + Send + Sync>,
    pub(crate) proven: Arc<Proven>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) memory: Memory,
}

/// What looks remember of each other, so that looking again costs nothing and says nothing twice. Lost at a restart, and no matter.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The tip that the last look decided.
    decided: Option<CommitId>,
    /// Releases whose files are damaged.
    damaged: BTreeSet<Serial>,
    /// The promoted commit that could not be built again.
    unrenewable: Option<CommitId>,
    /// The mirror was made anew since the last good look.
    mirror_renewed: bool,
}

/// A commit that may become a release.
struct Candidate {
    snapshot: Snapshot,
    signature: Signature,
    content_tar: Vec<u8>,
    tests: TestReport,
}

impl Builder {
    /// Takes up what a crash left. Afterwards every recorded release that is whole can be offered, and no files lie without a record
    /// but those of a build of the tip, which the next look goes on from.
    ///
    /// # Errors
    /// Any [`BuildError`]; safe to repeat.
    pub fn resume(&mut self) -> Result<(), BuildError> {
        let recorded: BTreeMap<Serial, RecordedRelease> = {
            let state = self.live.read();
            let release = |(serial, release): (&Serial, &crate::state::Release)| {
                (*serial, RecordedRelease { built: release.built.clone(), leaf: release.leaf })
            };
            state.releases().iter().map(release).collect()
        };
        let proven = self.store.proven()?;
        for (serial, release) in &recorded {
            // The proof is written last: where it is, everything before it is. Nodes check the bytes anyway.
            if proven.contains(serial) {
                self.proven.add(*serial);
            } else {
                self.resume_recorded(*serial, release)?;
            }
        }
        let next = next_serial(recorded.keys().next_back().copied());
        for serial in
            self.store.serials()?.into_iter().filter(|serial| !recorded.contains_key(serial) && *serial != next)
        {
            self.store.delete(serial)?;
        }
        Ok(())
    }

    fn resume_recorded(&mut self, serial: Serial, release: &RecordedRelease) -> Result<(), BuildError> {
        let place = self.live.read().releases().get(&serial).map_or(Place::start_of(1), |release| release.place);
        match resume(&self.store.found(serial)?, Some(release), None, serial) {
            Resume::Damaged { file } => {
                tracing::error!(%serial, file, "a file of a recorded release is gone or another: it is not offered");
                self.memory.damaged.insert(serial);
                Ok(())
            }
            Resume::Complete => {
                self.proven.add(serial);
                Ok(())
            }
            _ => {
                let entry = self.ledger.read_from(place, 1)?;
                let record = entry.first().map(|(_, bytes)| bytes.to_vec()).unwrap_or_default();
                self.finish(serial, place, &record)
            }
        }
    }

    /// Looks at the policy repo and decides about its tip, if nothing was decided yet.
    ///
    /// # Errors
    /// Any [`BuildError`]: nothing was decided; look again.
    pub fn look(&mut self) -> Result<Looked, BuildError> {
        if let Some(release) = self.unfinished() {
            // An earlier look recorded it and then failed, at a full disk perhaps.
            self.resume()?;
            if self.proven.newest() == Some(release.serial) {
                return Ok(Looked::Built(release));
            }
        }
        if let Some(commit) = self.renewal_due() {
            return self.renew(&commit);
        }
        let looked = match self.look_at_tip() {
            Err(BuildError::Repo(error)) if is_mirrors(&error) && !self.memory.mirror_renewed => {
                // A process that was killed in a fetch leaves lock files, a machine that lost power a torn pack.
                tracing::warn!(error = one_line(&error), "the mirror of the policy repo is made anew");
                self.memory.mirror_renewed = true;
                self.mirror = renew_mirror(&self.mirror_folder, self.mirror.source().clone())?;
                self.look_at_tip()?
            }
            looked => looked?,
        };
        self.memory.mirror_renewed = false;
        Ok(looked)
    }

    fn look_at_tip(&mut self) -> Result<Looked, BuildError> {
        let tip = self.mirror.fetch()?;
        if self.memory.decided.as_ref() == Some(&tip) {
            return Ok(Looked::Nothing);
        }
        let looked = self.look_at(&tip)?;
        self.memory.decided = Some(tip);
        Ok(looked)
    }

    /// The newest release, where it is recorded and cannot be offered yet.
    fn unfinished(&self) -> Option<ReleaseRef> {
        let newest = self.live.read().last_built().map(crate::state::Release::reference)?;
        let waits = self.proven.newest() < Some(newest.serial) && !self.memory.damaged.contains(&newest.serial);
        waits.then_some(newest)
    }

    fn look_at(&mut self, tip: &CommitId) -> Result<Looked, BuildError> {
        let (accepted, refused, verdict) = {
            let state = self.live.read();
            (state.accepted().cloned(), state.is_refused_tip(tip), state.verdict(tip))
        };
        if refused {
            return Ok(Looked::Nothing);
        }
        let commits = match self.mirror.history(accepted.as_ref(), tip) {
            Ok(History::Unchanged) => return Ok(Looked::Nothing),
            Ok(History::Diverged { accepted, tip }) => return self.refuse(accepted, tip),
            Ok(History::Forward(commits)) => commits,
            Err(error @ (RepoError::TooManyCommits { .. } | RepoError::Commit { .. })) if verdict.is_none() => {
                return self.reject(Rejection::of_repo(tip, RejectedAt::Signature, &error));
            }
            Err(error) => return Err(error.into()),
        };
        if verdict.is_some() {
            return Ok(Looked::Nothing);
        }
        match self.candidate(tip, &commits) {
            Ok(candidate) => self.build(&candidate),
            Err(Failure::Rejected(rejection)) => self.reject(rejection),
            Err(Failure::Trouble(error)) => Err(error),
        }
    }

    /// Everything that a commit must pass before it becomes a release.
    fn candidate(&self, tip: &CommitId, commits: &[Commit]) -> Result<Candidate, Failure> {
        let signatures = self.check_signatures(tip, commits)?;
        let snapshot = self.mirror.snapshot(tip).map_err(|error| match error {
            // Of the disk or the repo as a whole, not of the commit.
            error @ (RepoError::ObjectMissing { .. }
            | RepoError::Mirror { .. }
            | RepoError::Bind { .. }
            | RepoError::Missing { .. }
            | RepoError::NotARepo { .. }) => Failure::Trouble(error.into()),
            error => Failure::Rejected(Rejection::of_repo(tip, RejectedAt::Content, &error)),
        })?;
        let content_tar = content::pack(&snapshot.content)
            .map_err(|error| Rejection::one(tip, RejectedAt::Content, "", error.to_string()))?;
        let tree = snapshot.content.iter().map(|(path, file)| (path.clone(), file.bytes.clone())).collect();
        // The engines are built to bear hostile policy; should one panic all the same, the commit is rejected and the loop goes on.
        let loaded = catch_unwind(AssertUnwindSafe(|| Policy::load(&tree)));
        let policy = loaded
            .map_err(|_| Rejection::one(tip, RejectedAt::Load, "", "loading it made the engine panic".to_owned()))?
            .map_err(|problems| Rejection::of_problems(tip, RejectedAt::Load, &problems))?;
        self.check_principals(tip, &signatures, &policy.config)?;
        let tested = catch_unwind(AssertUnwindSafe(|| policy.test()));
        let tests = tested
            .map_err(|_| Rejection::one(tip, RejectedAt::Test, "", "testing it made the engine panic".to_owned()))?;
        tests.check().map_err(|problems| Rejection::of_problems(tip, RejectedAt::Test, &problems))?;
        let signature = signatures.into_iter().next_back().map_or(Signature::None, |(_, signature)| signature);
        Ok(Candidate { snapshot, signature, content_tar, tests })
    }

    fn check_signatures(&self, tip: &CommitId, commits: &[Commit]) -> Result<Vec<(CommitId, Signature)>, Failure> {
        let check = |commit: &Commit| {
            let signature = self.signers.check(commit);
            signature.map(|signature| (commit.id.clone(), signature)).map_err(|error| (commit.id.clone(), error))
        };
        commits.iter().map(check).collect::<Result<Vec<_>, _>>().map_err(|(commit, error)| {
            let reason = format!("commit {}: {}", short(&commit), without_names(&error));
            Failure::Rejected(Rejection::one(tip, RejectedAt::Signature, "", reason))
        })
    }

    /// `cairn.yaml` may narrow whose signature counts. The list in force is the last accepted release's: a commit does not choose who may
    /// sign it. For the first release there is only its own.
    fn check_principals(
        &self,
        tip: &CommitId,
        signatures: &[(CommitId, Signature)],
        own: &PolicyConfig,
    ) -> Result<(), Failure> {
        if self.signers == SignerPolicy::UnsignedAllowed {
            return Ok(());
        }
        let before = self.live.read().last_built().map(crate::state::Release::reference);
        let before = before.and_then(|release| self.configs.config(release));
        let Some(allowed) = &before.as_deref().unwrap_or(own).trust.signers else {
            return Ok(());
        };
        let counts = |principal: &str| principal.split(',').any(|name| allowed.iter().any(|allowed| allowed == name));
        for (commit, signature) in signatures {
            if let Signature::Listed { principal, key } = signature
                && !counts(principal)
            {
                let reason =
                    format!("commit {} is signed by {key}, whose signer is not in trust.signers", short(commit));
                return Err(Rejection::one(tip, RejectedAt::Signature, "cairn.yaml", reason).into());
            }
        }
        Ok(())
    }

    fn build(&mut self, candidate: &Candidate) -> Result<Looked, BuildError> {
        let commit = &candidate.snapshot.commit.id;
        let next = next_serial(self.live.read().releases().keys().next_back().copied());
        // What a crash left of a build of this very commit is signed already.
        let found = self.store.found(next)?;
        let staged = match resume(&found, None, Some(commit), next) {
            Resume::Append(statement) if statement.content == Digest::sha256(&candidate.content_tar) => {
                found.statement.map(|digest| (*statement, digest))
            }
            _ => None,
        };
        let (statement, digest) = match staged {
            Some(staged) if self.still_true(&staged.0) => staged,
            _ => self.stage(next, candidate)?,
        };
        let built = self.built(&statement, digest, &candidate.signature);
        self.record(&built)
    }

    fn refuse(&self, accepted: CommitId, tip: CommitId) -> Result<Looked, BuildError> {
        let reason = "it does not descend from the last accepted commit: history was rewritten or set back".to_owned();
        let subject = tip.to_string();
        self.append(Draft::new(&GitRefused { accepted, refused: tip.clone(), reason }).subject(subject))?;
        Ok(Looked::Refused(tip))
    }

    fn reject(&self, rejection: Rejection) -> Result<Looked, BuildError> {
        let data = rejection.data();
        let commit = data.commit.clone();
        self.append(Draft::new(&data).subject(commit.to_string()))?;
        Ok(Looked::Rejected(commit))
    }

    /// The commit of what is promoted, where that expires soon and nothing else moves.
    fn renewal_due(&self) -> Option<CommitId> {
        let state = self.live.read();
        let promoted = state.releases().get(&state.last_promoted()?.serial)?;
        let resting = state.releases().values().all(|release| release.phase.ended());
        let due = self.clock.now().plus(RENEW_BEFORE) >= promoted.built.expires;
        let commit = &promoted.built.commit;
        (resting && due && self.memory.unrenewable.as_ref() != Some(commit)).then(|| commit.clone())
    }

    /// Builds what is promoted once more, under a new serial. It was accepted and tested; the engines may have changed since, so it
    /// is tested again.
    fn renew(&mut self, commit: &CommitId) -> Result<Looked, BuildError> {
        let snapshot = self.mirror.snapshot(commit)?;
        let candidate = self.candidate(commit, std::slice::from_ref(&snapshot.commit));
        match candidate {
            Ok(candidate) => self.build(&candidate),
            // Not a rejection of the commit: it was accepted. Somebody must look before it expires.
            Err(Failure::Rejected(rejection)) => {
                tracing::error!(%commit, reason = rejection.first(), "what is promoted expires soon and cannot be built again");
                self.memory.unrenewable = Some(commit.clone());
                Ok(Looked::Nothing)
            }
            Err(Failure::Trouble(error)) => Err(error),
        }
    }
}

/// Why a commit did not become a candidate.
enum Failure {
    Rejected(Rejection),
    Trouble(BuildError),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Failure {
        Failure::Rejected(rejection)
    }
}

/// What is wrong with a signature, for a record: keys are named, people are not (promise P6).
fn without_names(error: &SignatureError) -> String {
    match error {
        SignatureError::OutsideValidity { key, .. } => {
            format!("the commit is signed by {key}, which was not an allowed signer at the commit's time")
        }
        error => error.to_string(),
    }
}

fn next_serial(last: Option<Serial>) -> Serial {
    Serial(last.map_or(1, |serial| serial.0 + 1))
}
