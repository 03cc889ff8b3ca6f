//! Which release this node runs: fetched, checked against its pins, loaded, kept, and given up again.
//!
//! In the node's folder, `releases/<serial>/` holds the four files of the last [`HELD_MAX`] releases it activated, and
//! `releases/state.json`, replaced as one step, says which is active. What is held was accepted once: it is checked again whenever
//! it is loaded, but for serial and expiry, so that fallback, reboot and days offline work without anybody's help.
//!
//! A release that kills the process while it is being activated must not do so for ever: each attempt is written down before it
//! and crossed out after it. Two attempts that were not crossed out quarantine the release, if another is held to go back to.
//!
//! What it trusts: the pins, and its own folder. The control plane only says which release to look at.

mod state;

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_policy::Policy;
use cairn_release::files::{FILES, len_max};
use cairn_release::{CheckError, Gate, ReleaseFiles, Trust, VerifiedRelease, check};
use cairn_schemas::data::{LoadCause, NodeFellback, NodeLoaded, NodeRefused};
use cairn_schemas::ids::{ReleaseRef, Serial};
use cairn_schemas::record::Draft;
use cairn_schemas::time::Clock;
use cairn_schemas::wire::Desired;

use crate::active::{Active, ActiveRelease};
use crate::client::{Client, ClientError};
use crate::durable::{self, DiskError};
use crate::spool::{Spool, SpoolError};
use state::{Attempt, StateFile};

/// How many releases a node keeps on disk, the active one counted.
pub const HELD_MAX: usize = 3;
/// How often the process may die while a release is being activated before that release is quarantined.
pub const ACTIVATION_DEATHS_MAX: u32 = 2;
/// Most quarantined releases that are remembered; the oldest is forgotten.
pub const QUARANTINED_MAX: usize = 64;
/// Longest reason in a `node.refused` or `node.fellback` record, bytes.
pub const REASON_LEN_MAX: usize = 1_000;

/// What stops the work on a release for now; it is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// A file could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// `state.json` cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The control plane did not send it.
    #[error("the release could not be fetched: {0}")]
    Fetch(#[from] ClientError),
    /// Its activation cannot be recorded, so it is not activated.
    #[error("the activation cannot be recorded: {0}")]
    Unrecordable(#[from] SpoolError),
}

/// Why a release will not be activated, whatever happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The check that failed, as `node.refused` names it.
    pub(crate) check: &'static str,
    /// What it saw.
    pub(crate) reason: String,
}

/// What came of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is what runs already, or there is nothing to run.
    Nothing,
    /// It runs now.
    Activated,
    /// It was refused, now or before.
    Refused,
}

/// The node's releases.
pub(crate) struct Releases {
    folder: PathBuf,
    trust: Trust,
    state: StateFile,
    active: Active,
    spool: Spool,
    clock: Arc<dyn Clock>,
    /// Refused since the start: not fetched again.
    refused: HashSet<ReleaseRef>,
    /// Records that the spool did not take yet.
    unrecorded: Vec<Draft>,
}

impl Releases {
    /// Reads what a node holds; activates nothing.
    pub(crate) fn open(
        node_folder: &Path,
        trust: Trust,
        active: Active,
        spool: Spool,
        clock: Arc<dyn Clock>,
    ) -> Result<Releases, ReleaseError> {
        let folder = node_folder.join("releases");
        durable::create_folder(&folder)?;
        let state = StateFile::read(&folder)?;
        Ok(Releases { folder, trust, state, active, spool, clock, refused: HashSet::new(), unrecorded: Vec::new() })
    }

    /// What is active, by the state on disk.
    pub(crate) fn current(&self) -> Option<ReleaseRef> {
        self.state.active
    }

    /// Activates the last good release from disk, without the network. One that does not load, or that the process died of too
    /// often, gives way to the one before it.
    pub(crate) fn start(&mut self) -> Result<(), ReleaseError> {
        let mut fell_from = None;
        while let Some(target) = self.state.active {
            if let Some(reason) = self.boot_loops(target) {
                self.quarantine(target);
                self.fall_back(target, reason);
                fell_from.get_or_insert(target);
                continue;
            }
            match self.attempt(target, |releases| releases.load_held(target)) {
                Ok((verified, policy)) => {
                    let cause = if fell_from.is_some() { LoadCause::Fallback } else { LoadCause::Start };
                    let loaded = loaded(&verified, fell_from, cause);
                    self.attempt_over();
                    self.active.swap(Some(Arc::new(ActiveRelease { reference: target, policy })));
                    tracing::info!(release = %target, ?cause, "active");
                    self.record(loaded);
                    return Ok(());
                }
                Err(refusal) => {
                    self.state.attempt = None;
                    self.state.held.retain(|held| *held != target);
                    self.fall_back(target, format!("{}: {}", refusal.check, refusal.reason));
                    fell_from.get_or_insert(target);
                }
            }
        }
        Ok(())
    }

    /// Does what the control plane wants, as far as the release deserves it.
    pub(crate) fn apply(&mut self, desired: &Desired, client: &Client) -> Result<Applied, ReleaseError> {
        self.record_what_was_not();
        let Some(wanted) = desired.release else { return Ok(Applied::Nothing) };
        if self.state.active == Some(wanted) && self.active.load().is_some() {
            return Ok(Applied::Nothing);
        }
        if self.refused.contains(&wanted) {
            return Ok(Applied::Refused);
        }
        match self.bring_up(wanted, desired, client)? {
            Ok(()) => Ok(Applied::Activated),
            Err(refusal) => {
                self.attempt_over();
                tracing::error!(release = %wanted, check = refusal.check, reason = refusal.reason, "release refused");
                self.refused.insert(wanted);
                let Refusal { check, reason } = refusal;
                let draft = Draft::new(&NodeRefused {
                    serial: wanted.serial,
                    release: Some(wanted),
                    check: check.to_owned(),
                    reason: cut(reason),
                });
                self.record(draft.subject(wanted.to_string()));
                Ok(Applied::Refused)
            }
        }
    }

    fn bring_up(
        &mut self,
        wanted: ReleaseRef,
        desired: &Desired,
        client: &Client,
    ) -> Result<Result<(), Refusal>, ReleaseError> {
        if self.state.quarantined.contains(&wanted) {
            return Ok(Err(Refusal {
                check: "quarantined",
                reason: format!("this node died {ACTIVATION_DEATHS_MAX} times while activating it"),
            }));
        }
        if let Some(reason) = self.boot_loops(wanted) {
            self.quarantine(wanted);
            return Ok(Err(Refusal { check: "quarantined", reason }));
        }
        let from_disk = self.state.held.contains(&wanted);
        if !from_disk && desired.fallback {
            let reason = "a fallback goes to a release that this node holds".to_owned();
            return Ok(Err(Refusal { check: "held", reason }));
        }
        let checked = if from_disk {
            self.attempt(wanted, |releases| releases.load_held(wanted))
        } else {
            let files = match fetch(client, wanted.serial) {
                Ok(files) => files,
                Err(ClientError::TooLong { url, limit }) => {
                    return Ok(Err(Refusal { check: "size", reason: format!("{url} is longer than {limit} bytes") }));
                }
                Err(error) => return Err(error.into()),
            };
            let gate = self.gate(wanted);
            let checked = self.attempt(wanted, |releases| releases.check_and_load(wanted, &files, gate));
            if checked.is_ok() {
                self.store(wanted.serial, &files)?;
            }
            checked
        };
        let (verified, policy) = match checked {
            Ok(checked) => checked,
            Err(refusal) => return Ok(Err(refusal)),
        };

        // The order from here: recorded → named on disk → swapped. A crash after the first step leaves a record of an activation
        // that the next start repeats or, for an offer, the control plane offers again.
        let previous = self.state.active;
        let cause = if desired.fallback { LoadCause::Fallback } else { LoadCause::Offered };
        let mut drafts = Vec::new();
        if desired.fallback
            && let Some(from) = previous
        {
            let reason = desired.reason.clone().unwrap_or_else(|| "the control plane said so".to_owned());
            let fellback = NodeFellback { from, to: Some(wanted), reason: cut(reason) };
            drafts.push(Draft::new(&fellback).subject(from.to_string()));
        }
        drafts.push(loaded(&verified, previous, cause));
        self.spool.append(drafts)?;
        self.state.activated(wanted);
        self.write_state()?;
        self.active.swap(Some(Arc::new(ActiveRelease { reference: wanted, policy })));
        tracing::info!(release = %wanted, ?cause, "active");
        self.forget_unheld();
        Ok(Ok(()))
    }

    /// Serial and expiry gate what is new to this node. What it activated once may come again when its files were lost.
    fn gate(&self, wanted: ReleaseRef) -> Gate {
        match self.state.newest {
            Some(newest) if newest == wanted => Gate::Activated,
            newest => Gate::Network { now: self.clock.now(), floor: newest.map(|newest| newest.serial) },
        }
    }

    /// Writes down that `release` is being activated, then does `work`. A process that dies in between has that on disk.
    fn attempt<T>(
        &mut self,
        release: ReleaseRef,
        work: impl FnOnce(&mut Releases) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let deaths = match &self.state.attempt {
            Some(attempt) if attempt.release == release => attempt.begun,
            _ => 0,
        };
        self.state.attempt = Some(Attempt { release, begun: deaths + 1 });
        self.note_state();
        work(self)
    }

    fn attempt_over(&mut self) {
        if self.state.attempt.take().is_some() {
            self.note_state();
        }
    }

    /// Why `release` must not be tried again, if the process died of it too often. The last one held is tried all the same: a node
    /// that runs nothing protects nothing, and what kills it may be something else.
    fn boot_loops(&self, release: ReleaseRef) -> Option<String> {
        let begun = self.state.attempt.as_ref().filter(|attempt| attempt.release == release)?.begun;
        if begun < ACTIVATION_DEATHS_MAX {
            return None;
        }
        if self.state.active == Some(release) && self.before(release).is_none() {
            tracing::error!(%release, begun, "the process died while activating it; there is no other release to go back to");
            return None;
        }
        Some(format!("the process died {begun} times while activating it"))
    }

    /// The held release to go back to from `release`: the newest of those before it. Never a newer one: it may have been given up.
    fn before(&self, release: ReleaseRef) -> Option<ReleaseRef> {
        let usable = |held: &&ReleaseRef| held.serial < release.serial && !self.state.quarantined.contains(held);
        self.state.held.iter().filter(usable).max_by_key(|held| held.serial).copied()
    }

    fn quarantine(&mut self, release: ReleaseRef) {
        tracing::error!(%release, "quarantined");
        self.state.quarantine(release);
        self.state.attempt = None;
    }

    /// Makes the held release before `from` the active one, by name; the caller loads it.
    fn fall_back(&mut self, from: ReleaseRef, reason: String) {
        let to = self.before(from);
        tracing::error!(%from, to = to.map(tracing::field::display), reason, "falling back");
        self.state.active = to;
        self.note_state();
        self.record(Draft::new(&NodeFellback { from, to, reason: cut(reason) }).subject(from.to_string()));
    }

    fn load_held(&mut self, release: ReleaseRef) -> Result<(VerifiedRelease, Policy), Refusal> {
        let files = ReleaseFiles::read(&self.release_folder(release.serial))
            .map_err(|error| Refusal { check: "files", reason: error.to_string() })?;
        self.check_and_load(release, &files, Gate::Activated)
    }

    fn check_and_load(
        &mut self,
        release: ReleaseRef,
        files: &ReleaseFiles,
        gate: Gate,
    ) -> Result<(VerifiedRelease, Policy), Refusal> {
        // Hostile bytes must not take the node down: a panic in here is a refusal like any other.
        let checked = catch_unwind(AssertUnwindSafe(|| {
            let verified = check(files, &self.trust, gate)
                .map_err(|error| Refusal { check: check_name(&error), reason: error.to_string() })?;
            if verified.reference() != release {
                let reason = format!("the files are of release {}", verified.reference());
                return Err(Refusal { check: "reference", reason });
            }
            let policy = Policy::load(&verified.tree())
                .map_err(|problems| Refusal { check: "load", reason: problems.to_string() })?;
            Ok((verified, policy))
        }));
        checked
            .unwrap_or_else(|_| Err(Refusal { check: "panic", reason: "the check or the loader panicked".to_owned() }))
    }

    /// Keeps a release's files: all four durable under another name, then renamed.
    fn store(&self, serial: Serial, files: &ReleaseFiles) -> Result<(), ReleaseError> {
        let folder = self.release_folder(serial);
        let temporary = self.folder.join(format!("{serial}.tmp"));
        for stale in [&temporary, &folder] {
            if stale.exists() {
                fs::remove_dir_all(stale).map_err(DiskError::of("delete", stale))?;
            }
        }
        durable::create_folder(&temporary)?;
        for (name, bytes) in files.named() {
            durable::replace(&temporary.join(name), bytes)?;
        }
        Ok(durable::rename(&temporary, &folder)?)
    }

    /// Deletes the folders of releases that are no longer held. What stays after a crash goes next time.
    fn forget_unheld(&self) {
        let kept: HashSet<String> = self.state.held.iter().map(|held| held.serial.to_string()).collect();
        for name in durable::names(&self.folder).unwrap_or_default() {
            let path = self.folder.join(&name);
            if path.is_dir()
                && !kept.contains(&name)
                && let Err(error) = fs::remove_dir_all(&path)
            {
                tracing::warn!(path = %path.display(), %error, "an old release could not be deleted");
            }
        }
    }

    fn release_folder(&self, serial: Serial) -> PathBuf {
        self.folder.join(serial.to_string())
    }

    fn write_state(&self) -> Result<(), ReleaseError> {
        self.state.write(&self.folder)
    }

    /// Writes the state where a failure must not stop the node: with a full disk it still runs what it has, and the next start
    /// decides anew from what is on disk.
    fn note_state(&self) {
        if let Err(error) = self.write_state() {
            tracing::error!(%error, "the state of the releases could not be written");
        }
    }

    /// Records what has happened already; if the spool does not take it, later.
    fn record(&mut self, draft: Draft) {
        self.unrecorded.push(draft);
        self.record_what_was_not();
    }

    pub(crate) fn record_what_was_not(&mut self) {
        if self.unrecorded.is_empty() {
            return;
        }
        match self.spool.append(self.unrecorded.clone()) {
            Ok(_) => self.unrecorded.clear(),
            Err(error) => tracing::error!(%error, waiting = self.unrecorded.len(), "the node's own records wait"),
        }
    }
}

fn loaded(verified: &VerifiedRelease, previous: Option<ReleaseRef>, cause: LoadCause) -> Draft {
    let release = verified.reference();
    let data = NodeLoaded { release, previous, cause, checkpoint_size: verified.checkpoint().size.0 };
    Draft::new(&data).subject(release.to_string())
}

fn fetch(client: &Client, serial: Serial) -> Result<ReleaseFiles, ClientError> {
    let mut files = ReleaseFiles::default();
    let [content, statement, record, proof] = FILES;
    let get = |name: &str| client.release_file(serial, name, len_max(name).unwrap_or(0) as u64);
    files.content_tar = get(content)?;
    files.statement = get(statement)?;
    files.record = get(record)?;
    files.proof = get(proof)?;
    Ok(files)
}

/// What `node.refused` calls a check that failed.
fn check_name(error: &CheckError) -> &'static str {
    match error {
        CheckError::ProofMalformed(_) | CheckError::NotInLedger(_) => "proof",
        CheckError::Checkpoint(_) => "checkpoint",
        CheckError::RecordMalformed(_) | CheckError::RecordType { .. } | CheckError::RecordStream { .. } => "record",
        CheckError::Digest { .. } => "digest",
        CheckError::Bundle(_) => "signature",
        CheckError::Statement(_) | CheckError::Disagree { .. } => "statement",
        CheckError::Subject { .. } => "subject",
        CheckError::Rollback { .. } => "serial",
        CheckError::Expired { .. } => "expiry",
        CheckError::CommitMalformed(_) | CheckError::CommitId { .. } => "commit",
        CheckError::Signer { .. } | CheckError::SignerRecord { .. } => "signer",
        CheckError::Content(_) | CheckError::Bind(_) => "content",
        _ => "release",
    }
}

fn cut(mut reason: String) -> String {
    if reason.len() > REASON_LEN_MAX {
        let mut end = REASON_LEN_MAX - '…'.len_utf8();
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

#[cfg(test)]
mod tests;
