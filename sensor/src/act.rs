//! A containment from its intent to its outcome: intent durable, act, outcome durable, in this order (promise P1).
//!
//! What survives a crash between any two steps is said in [`crate::open_containment`]. An outcome that the spool does not take is
//! kept and offered again; until it is recorded no other containment begins, because its intent could not be recorded either.

use std::path::Path;
use std::sync::Arc;

use cairn_node::{Recorded, Spool, SpoolError};
use cairn_rules::Alert;
use cairn_schemas::config::OnUnrecordable;
use cairn_schemas::data::{ContainmentFinished, ContainmentRefused, ContainmentRequested, Outcome, Target};
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::{Clock, Timestamp};

use crate::contain;
use crate::open_containment::{Open, OpenContainment};
use crate::respond::{Enforced, action_name};

/// What acts, and records that it does.
pub(crate) struct Actor {
    spool: Spool,
    clock: Arc<dyn Clock>,
    file: OpenContainment,
    /// An outcome that is not recorded yet.
    unsettled: Option<(Open, ContainmentFinished)>,
    /// An outcome waits, and that was said.
    told: bool,
    /// Containments that were made, and those of them that left no record because the response said so.
    acted: u64,
    unrecorded: u64,
}

impl Actor {
    /// In a node's folder. Takes up what a crash interrupted.
    pub(crate) fn new(spool: Spool, clock: Arc<dyn Clock>, folder: &Path) -> Actor {
        let file = OpenContainment::new(folder);
        let mut actor = Actor { spool, clock, file, unsettled: None, told: false, acted: 0, unrecorded: 0 };
        if let Err(error) = actor.take_up() {
            tracing::error!(error, "what became of an interrupted containment cannot be recorded");
        }
        actor
    }

    /// How many containments left a record, and how many did not, since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.acted - self.unrecorded, self.unrecorded)
    }

    /// The outcome of a containment that a crash interrupted is not known, and that is what is recorded.
    fn take_up(&mut self) -> Result<(), String> {
        let Some(open) = self.file.read().map_err(|error| error.to_string())? else { return Ok(()) };
        if open.stream != self.spool.stream() {
            // Its outcome would stand in another stream, where the request's number means another record.
            self.forget();
            return Err(format!("the stream {} is not written to any more", open.stream));
        }
        let is_outcome = |record: &Record| {
            record.data_as::<ContainmentFinished>().is_ok_and(|finished| finished.request == open.request)
        };
        // The crash may have come after the outcome was durable: a second one would contradict it.
        if self.spool.find(open.request.next(), is_outcome).map_err(|error| error.to_string())?.is_some() {
            self.forget();
            return Ok(());
        }
        let finished = ContainmentFinished {
            request: open.request,
            outcome: Outcome::Unknown,
            error: Some("the node stopped between the request and the outcome".to_owned()),
            acted_us: 0,
        };
        self.unsettled = Some((open, finished));
        Ok(())
    }

    /// Records the outcome that waits, if one does. True: none waits any more.
    pub(crate) fn settle(&mut self) -> bool {
        let Some((open, finished)) = &self.unsettled else { return true };
        let draft = Draft::new(finished).release(open.release);
        match self.spool.offer(Some(&open.stream), vec![draft]) {
            Ok(_) => {}
            // Its request stays alone in the stream it stands in, and `cairn verify` says so.
            Err(error @ SpoolError::OtherStream { .. }) => {
                tracing::error!(%error, "the outcome of a containment was not recorded");
            }
            Err(error) => {
                if !self.told {
                    tracing::error!(%error, "the outcome of a containment cannot be recorded yet");
                }
                self.told = true;
                return false;
            }
        }
        (self.unsettled, self.told) = (None, false);
        self.forget();
        true
    }

    /// Contains the process of an alert. `detection` is its record's place; `None` when that was refused.
    pub(crate) fn contain(
        &mut self,
        alert: &Alert,
        target: Target,
        response: &Enforced,
        detection: Option<&Recorded>,
        release: ReleaseRef,
    ) {
        let process = &alert.process;
        if let Some(reason) = contain::refusal(process.pid, !process.exe.is_empty(), std::process::id()) {
            return self.refuse(detection, response, target, reason, release);
        }
        // A crash here leaves a detection without a request: nothing was done.
        let request = match self.request(detection, response, target, release) {
            Ok(open) => Some(open),
            Err(error) if response.on_unrecordable == OnUnrecordable::Act => {
                tracing::error!(error, response = response.name, "contained without a record, as the response says");
                None
            }
            Err(error) => {
                let response = &response.name;
                return tracing::error!(error, response, "not contained: its intent cannot be recorded");
            }
        };
        if let Some(open) = &request
            && let Err(error) = self.file.set(open)
        {
            tracing::warn!(%error, "the open containment could not be remembered");
        }
        // A crash here leaves a request without an outcome: the next start records it as unknown.
        let contained = contain::kill(process.pid, process.start_ns);
        let acted = self.clock.now().since(Timestamp::from_nanos(alert.time_ns));
        self.acted += 1;
        // A crash here: the same, and the process is gone.
        let Some(open) = request else {
            self.unrecorded += 1;
            return;
        };
        let finished = ContainmentFinished {
            request: open.request,
            outcome: contained.outcome,
            error: contained.error,
            acted_us: u64::try_from(acted.as_micros()).unwrap_or(u64::MAX).min(cairn_schemas::ids::INTEGER_MAX),
        };
        self.unsettled = Some((open, finished));
        self.settle();
    }

    fn request(
        &mut self,
        detection: Option<&Recorded>,
        response: &Enforced,
        target: Target,
        release: ReleaseRef,
    ) -> Result<Open, String> {
        let detection = detection.ok_or("its detection could not be recorded")?;
        if !self.settle() {
            return Err("the outcome of the one before could not be recorded yet".to_owned());
        }
        let data = ContainmentRequested {
            detection: detection.sequence,
            response: response.name.clone(),
            action: action_name(response.action).to_owned(),
            target,
        };
        let draft = Draft::new(&data).release(release);
        let recorded = self.spool.offer(Some(&detection.stream), vec![draft]).map_err(|error| error.to_string())?;
        let recorded = recorded.into_iter().next_back().expect("invariant: one draft makes one record");
        Ok(Open { stream: recorded.stream, request: recorded.sequence, release })
    }

    fn refuse(
        &self,
        detection: Option<&Recorded>,
        response: &Enforced,
        target: Target,
        reason: &str,
        release: ReleaseRef,
    ) {
        tracing::warn!(reason, response = response.name, "not contained");
        let Some(detection) = detection else { return };
        let data = ContainmentRefused {
            detection: detection.sequence,
            response: response.name.clone(),
            action: action_name(response.action).to_owned(),
            target,
            reason: reason.to_owned(),
        };
        let draft = Draft::new(&data).release(release);
        if let Err(error) = self.spool.offer(Some(&detection.stream), vec![draft]) {
            tracing::error!(%error, "a refused containment was not recorded");
        }
    }

    fn forget(&self) {
        if let Err(error) = self.file.clear() {
            tracing::warn!(%error, "the open containment could not be forgotten");
        }
    }
}
