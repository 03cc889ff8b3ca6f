//! What changes a ledger as a whole, while it runs: another volume, another key, other witnesses, the end.
//!
//! The writer finishes what waits and publishes it, its parts come back here, the change is made, and a writer with new parts goes on.
//! Appends that come meanwhile wait. So a change stands in the ledger with everything before it published: what it says holds for
//! every checkpoint that covers it, and for none before.

use std::time::Duration;

use cairn_schemas::data::{LedgerClosed, LedgerFrozen, LedgerKeyRotated, LedgerWitnessesChanged, VolumeReason};
use cairn_schemas::ids::RecordIndex;
use cairn_schemas::record::Draft;
use thiserror::Error;

use super::commit::Committer;
use super::open::Run;
use super::succession::Successor;
use super::volumes::{self, Next};
use super::{Inner, Ledger, OpenError, Shared, lock, threads};
use crate::endorsement::Endorsement;
use crate::integrate::PublishError;
use crate::note::{NoteSigner, VerifierKey};
use crate::store::Log;
use crate::streams::Written;
use crate::volume::Place;
use crate::wal::{FRAME_HEADER_LEN, WalError};

/// Longest reason of a freeze or a key rotation, and longest note about a volume, in bytes.
pub const CHANGE_REASON_LEN_MAX: usize = 1_000;

/// An upper bound of what stands around the data in one of the ledger's own records.
const ATTRIBUTES_LEN_MAX: usize = 1_024;

/// Why a ledger was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The keys do not fit, or the root did not endorse what needs its word. Nothing changed.
    #[error("{reason}")]
    Key {
        /// What does not fit.
        reason: String,
    },
    /// A text is too long, or no text that a record can hold. Nothing changed.
    #[error("{reason}")]
    Text {
        /// What is wrong.
        reason: String,
    },
    /// There is no room on the disk. Nothing changed; try again later.
    #[error("the ledger's disk takes no more: {reason}")]
    Full {
        /// What the system said.
        reason: String,
    },
    /// The volume cannot be dropped: it is in use, or one before it is still there. Nothing changed.
    #[error("{reason}")]
    Volume {
        /// Why.
        reason: String,
    },
    /// The writer stopped, here or before. Opening the ledger again finds out how far the change came, and finishes it.
    #[error("the ledger's writer has stopped: {reason}")]
    Stopped {
        /// What happened.
        reason: String,
    },
    /// The ledger is closed.
    #[error("the ledger is closed")]
    Closed,
}

/// How a next volume is begun.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    /// What a person says about it; at most [`CHANGE_REASON_LEN_MAX`] bytes.
    pub note: Option<String>,
    /// The next volume's key, where it is another one, of any volume's name.
    pub signer: Option<NoteSigner>,
    /// The root key's word for that key: see [`Endorsement::LedgerKey`], its name being the next volume's origin.
    pub endorsement: Option<String>,
}

/// When a volume is ended and the next one begun, while a ledger runs. Nothing: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RotateAfter {
    /// When it has this many records.
    pub records: Option<u64>,
    /// When its record 0 is this old.
    pub age: Option<Duration>,
}

/// What a change leaves.
enum Outcome {
    /// A writer goes on with these; the records are durable in the log and not published.
    GoesOn(Box<Run>, Box<dyn Log>, Vec<Written>),
    /// Nobody goes on.
    Ended,
}

/// Why a change was given up.
enum Abandoned {
    /// Nothing changed: the writer goes on as it was.
    Unchanged(ChangeError, Box<Run>, Box<dyn Log>),
    /// Nobody knows, or it cannot be finished here.
    Stopped(String),
}

impl From<OpenError> for Abandoned {
    fn from(error: OpenError) -> Abandoned {
        Abandoned::Stopped(threads::one_line(&error))
    }
}

impl From<WalError> for Abandoned {
    fn from(error: WalError) -> Abandoned {
        Abandoned::Stopped(threads::one_line(&error))
    }
}

impl From<PublishError> for Abandoned {
    fn from(error: PublishError) -> Abandoned {
        Abandoned::Stopped(threads::one_line(&error))
    }
}

impl Ledger {
    /// Ends the current volume with `ledger.closed` and begins the next. Appends that come meanwhile wait; nothing is lost. Gives the
    /// next volume's number.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn rotate(&self, rotation: Rotation) -> Result<u64, ChangeError> {
        check_text("the note", rotation.note.as_deref())?;
        self.inner.change(|run, log| {
            let signer = rotation.signer.as_ref().unwrap_or(run.integrator.signer());
            let next = Next::new(
                &run.streams,
                signer,
                rotation.endorsement.clone(),
                VolumeReason::Rotated,
                rotation.note.clone(),
            );
            let next = match next {
                Ok(next) => next,
                Err(reason) => return Err(Abandoned::Unchanged(ChangeError::Key { reason }, run, log)),
            };
            // What needs room comes before anything that cannot be taken back.
            let prepared = match volumes::prepare(&*run.root, next.origin()) {
                Ok(prepared) => prepared,
                Err(error) => {
                    let reason = threads::one_line(&error);
                    return Err(Abandoned::Unchanged(ChangeError::Full { reason }, run, log));
                }
            };
            let volume = run.streams.volume() + 1;
            let closed = Draft::new(&LedgerClosed { next: volume, reason: VolumeReason::Rotated });
            let (mut run, log, written, _) = write_own(run, log, closed)?;
            run.published = run.integrator.publish(&written, true, run.clock.now())?;
            drop(log);
            let (run, log, _) = volumes::begin(*run, next, prepared, &[])?;
            Ok((Outcome::GoesOn(Box::new(run), log, Vec::new()), volume))
        })
    }

    /// [`Ledger::rotate`] if it is due. `None`: it is not.
    ///
    /// # Errors
    /// As [`Ledger::rotate`].
    pub fn rotate_if_due(&self, after: RotateAfter) -> Result<Option<u64>, ChangeError> {
        let shared = self.inner.settled();
        let began = lock(&shared.streams).began();
        let now = shared.clock.now();
        let large = after.records.is_some_and(|records| lock(&shared.state).durable >= records);
        let old = after.age.is_some_and(|age| now > began && now.since(began) >= age);
        if large || old { self.rotate(Rotation::default()).map(Some) } else { Ok(None) }
    }

    /// Signs all further checkpoints with another key, by a `ledger.keyrotated`. `signer` has any volume's name; `endorsement` is the
    /// root key's word for it, under this volume's origin. The caller has made the key durable before. Gives the record's place.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn rotate_key(
        &self,
        signer: &NoteSigner,
        endorsement: &str,
        reason: Option<&str>,
    ) -> Result<Place, ChangeError> {
        check_text("the reason", reason)?;
        self.inner.change(|mut run, log| {
            let renamed = signer.renamed(run.integrator.origin()).map_err(|error| error.to_string());
            let checked = renamed.and_then(|signer| {
                if signer.verifier().to_string() == run.streams.key_at(u64::MAX)
                    && signer.second().map(ToString::to_string).as_deref() == run.streams.second_key_at(u64::MAX)
                {
                    return Err(format!("{} signs already", signer.verifier()));
                }
                volumes::endorses(&run.streams, endorsement, &signer).map(|()| signer)
            });
            let signer = match checked {
                Ok(signer) => signer,
                Err(reason) => return Err(Abandoned::Unchanged(ChangeError::Key { reason }, run, log)),
            };
            let rotated = LedgerKeyRotated {
                old: run.streams.key_at(u64::MAX).to_owned(),
                new: signer.verifier().to_string(),
                mldsa_key: signer.second().map(ToString::to_string),
                endorsement: endorsement.to_owned(),
                reason: reason.map(str::to_owned),
            };
            let (kept, log, written, index) = write_own(run, log, Draft::new(&rotated))?;
            run = kept;
            run.integrator.sign_with(signer);
            let place = Place { volume: run.streams.volume(), index };
            Ok((Outcome::GoesOn(run, log, written), place))
        })
    }

    /// Gives the ledger another witness policy (C2SP tlog-policy), or none, by a `ledger.witnesseschanged`; `endorsement` is the root
    /// key's word for it. Gives the record's place: checkpoints that cover it need the new policy's cosignatures.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn change_witnesses(&self, policy: Option<&str>, endorsement: &str) -> Result<Place, ChangeError> {
        if let Some(policy) = policy
            && let Err(error) = crate::policy::Policy::parse(policy.as_bytes())
        {
            return Err(ChangeError::Text { reason: format!("the policy: {error}") });
        }
        self.inner.change(|run, log| {
            let opened = run.streams.opened();
            let expected = Endorsement::of_policy(&opened.name, policy);
            let root = opened.root_key.parse::<VerifierKey>().map_err(|error| error.to_string());
            let said = root.and_then(|root| Endorsement::verify(endorsement, &root).map_err(|error| error.to_string()));
            let refused = match said {
                Ok(said) if said == expected => None,
                Ok(_) => Some("the endorsement is not one of this policy".to_owned()),
                Err(reason) => Some(reason),
            };
            if let Some(reason) = refused {
                return Err(Abandoned::Unchanged(ChangeError::Key { reason }, run, log));
            }
            let changed =
                LedgerWitnessesChanged { policy: policy.map(str::to_owned), endorsement: endorsement.to_owned() };
            let (run, log, written, index) = write_own(run, log, Draft::new(&changed))?;
            let place = Place { volume: run.streams.volume(), index };
            Ok((Outcome::GoesOn(run, log, written), place))
        })
    }

    /// Ends the ledger for good, by a `ledger.frozen`: no append is taken any more, no volume follows, and it cannot be opened again.
    /// Reads go on until it is closed. Gives the record's place.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn freeze(&self, reason: &str) -> Result<Place, ChangeError> {
        check_text("the reason", Some(reason))?;
        let frozen = Draft::new(&LedgerFrozen { reason: reason.to_owned() });
        self.inner.change(|run, log| {
            let store = run.store.clone();
            let (mut run, log, written, index) = write_own(run, log, frozen)?;
            let published = run.integrator.publish(&written, true, run.clock.now())?;
            drop(log);
            store.clear_log()?;
            let shared = self.inner.shared();
            let mut state = lock(&shared.state);
            state.extend(written);
            let given_up = state.publish(published);
            state.frozen = Some(reason.to_owned());
            drop(state);
            drop(given_up);
            Ok((Outcome::Ended, Place { volume: run.streams.volume(), index }))
        })
    }

    /// Removes whole volumes, oldest first, up to and without `before`. The current one is never removed. Gives those that were; one that
    /// a crash left half removed counts.
    ///
    /// # Errors
    /// [`ChangeError::Volume`], [`ChangeError::Full`].
    pub fn drop_before(&self, before: u64) -> Result<Vec<u64>, ChangeError> {
        let _one_at_a_time = lock(&self.inner.threads);
        let shared = self.inner.shared();
        if before > shared.volume {
            let reason = format!("volume {} is the current one, and is never dropped", shared.volume);
            return Err(ChangeError::Volume { reason });
        }
        let full = |reason: String| ChangeError::Full { reason };
        let listed = |listed: Result<Vec<u64>, OpenError>| listed.map_err(|error| full(threads::one_line(&error)));
        let mut volumes = listed(volumes::dropping(&*shared.root, shared.volume))?;
        volumes.extend(listed(volumes::present(&*shared.root))?);
        volumes.sort_unstable();
        let mut dropped = Vec::new();
        for volume in volumes.into_iter().filter(|volume| *volume < before) {
            lock(&shared.older).retain(|old| old.volume > volume);
            shared.root.remove_volume(volume).map_err(|error| full(format!("volume {volume}: {error}")))?;
            dropped.push(volume);
        }
        Ok(dropped)
    }
}

fn check_text(what: &str, text: Option<&str>) -> Result<(), ChangeError> {
    match text {
        Some(text) if text.len() > CHANGE_REASON_LEN_MAX => Err(ChangeError::Text {
            reason: format!("{what} is {} bytes long; the limit is {CHANGE_REASON_LEN_MAX}", text.len()),
        }),
        Some(text) if text.trim().is_empty() => Err(ChangeError::Text { reason: format!("{what} is empty") }),
        _ => Ok(()),
    }
}

/// Writes one of the ledger's own records into the log; durable when this returns.
type Wrote = (Box<Run>, Box<dyn Log>, Vec<Written>, RecordIndex);

fn write_own(mut run: Box<Run>, mut log: Box<dyn Log>, draft: Draft) -> Result<Wrote, Abandoned> {
    // Room first. A crash in here leaves an empty segment.
    let around = FRAME_HEADER_LEN + ATTRIBUTES_LEN_MAX;
    let room = (around + draft.data.to_string().len()) as u64;
    if let Err(error) = log.reserve(room, run.streams.next(), run.published.size.0) {
        return Err(Abandoned::Unchanged(ChangeError::Full { reason: threads::one_line(&error) }, run, log));
    }
    let (mut written, first) = (Vec::new(), run.streams.next());
    let index = match run.streams.write_own(draft, run.clock.now(), &mut written) {
        Ok(index) => index,
        // Too long for a record: the rules refuse before they change.
        Err(reason) => return Err(Abandoned::Unchanged(ChangeError::Text { reason }, run, log)),
    };
    if let Some(durable) = log.append(first, &written)? {
        durable()?;
    }
    Ok((run, log, written, index))
}

impl Inner {
    /// Lets the writer finish, makes a change with its parts, and starts a writer with what the change leaves. One change at a time.
    fn change<T>(
        &self,
        change: impl FnOnce(Box<Run>, Box<dyn Log>) -> Result<(Outcome, T), Abandoned>,
    ) -> Result<T, ChangeError> {
        let mut threads = lock(&self.threads);
        let shared = self.shared();
        {
            let closing = lock(&shared.queue).closing;
            let state = lock(&shared.state);
            if let Some(reason) = &state.stopped {
                return Err(ChangeError::Stopped { reason: reason.clone() });
            }
            if closing {
                return Err(ChangeError::Closed);
            }
            if let Some(reason) = &state.full {
                return Err(ChangeError::Full { reason: reason.clone() });
            }
        }
        shared.succeed(Successor::Coming);
        shared.begin_closing();
        for thread in std::mem::take(&mut *threads) {
            // A thread that panicked has left no parts.
            let _ = thread.join();
        }
        let stop = |reason: String| {
            shared.stop(reason.clone());
            shared.succeed(Successor::None);
            Err(ChangeError::Stopped { reason })
        };
        let Some((run, log)) = shared.take_parts() else {
            let reason = lock(&shared.state).stopped.clone();
            return stop(reason.unwrap_or_else(|| "not everything could be published".to_owned()));
        };
        let (run, log, unpublished, result) = match change(run, log) {
            Ok((Outcome::GoesOn(run, log, unpublished), value)) => (run, log, unpublished, Ok(value)),
            Ok((Outcome::Ended, value)) => {
                shared.succeed(Successor::None);
                return Ok(value);
            }
            Err(Abandoned::Unchanged(error, run, log)) => (run, log, Vec::new(), Err(error)),
            Err(Abandoned::Stopped(reason)) => return stop(reason),
        };
        let opened = run.ready(log, vec![unpublished], None);
        let next = std::sync::Arc::new(opened.shared);
        match threads::start(&next, opened.committer, opened.integrator) {
            Ok(started) => *threads = started,
            Err(error) => return stop(threads::one_line(&error)),
        }
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = next.clone();
        shared.succeed(Successor::Now(next));
        result
    }

    /// The writer that is in charge, after any change that is being made.
    pub(super) fn settled(&self) -> std::sync::Arc<Shared> {
        let mut shared = self.shared();
        loop {
            match shared.wait_successor(Duration::MAX.min(Duration::from_secs(3_600))) {
                Successor::Now(next) => shared = next,
                Successor::Coming => {}
                Successor::None => return shared,
            }
        }
    }
}

impl Shared {
    /// What the threads left, if they finished in good order.
    fn take_parts(&self) -> Option<(Box<Run>, Box<dyn Log>)> {
        let (committer, integrator) = std::mem::take(&mut *lock(&self.handed_over));
        let Committer { log } = committer?;
        let published = {
            let state = lock(&self.state);
            if state.stopped.is_some() || state.published.size.0 != state.durable {
                return None;
            }
            (*state.published).clone()
        };
        let streams = {
            let mut streams = lock(&self.streams);
            let hollow = streams.hollow();
            std::mem::replace(&mut *streams, hollow)
        };
        let run = Run {
            root: self.root.clone(),
            store: self.store.clone(),
            older: lock(&self.older).clone(),
            clock: self.clock.clone(),
            streams,
            integrator: integrator?,
            published,
        };
        Some((Box::new(run), log))
    }
}
