//! The sensor's loop: events in, records and containments out.
//!
//! One thread takes events from the kernel and tries the rules of the active release. Alerts become `detection.raised` records,
//! many under one fsync; an alert with an enforcing response is recorded and acted on before the next event is looked at, and its
//! intent is durable before the act (promise P1). Every second the kernel's counters are read, and what was lost becomes a
//! `sensor.loss` record (promise P2).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_node::{ActiveRelease, Agent};
use cairn_rules::event::Event;
use cairn_rules::{Alert, Engine, Limits, Names};
use cairn_schemas::config::OnUnrecordable;
use cairn_schemas::data::{
    ContainmentFinished, ContainmentRefused, ContainmentRequested, LossCause, Outcome, SensorLoss, Target,
};
use cairn_schemas::ids::{ReleaseRef, Sequence};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{Clock, Timestamp};

use crate::contain;
use crate::detection;
use crate::names;
use crate::open_containment::OpenContainment;
use crate::redact::Redaction;
use crate::respond::{Enforced, Responses, action_name};
use crate::source::{EventSource, Lost};

/// How long a poll waits when nothing happens. Bounds how late a new release or a stop is noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// How often the counters of lost events are read.
pub const LOSS_EVERY: Duration = Duration::from_secs(1);
/// How often the user database is read again.
const NAMES_EVERY: Duration = Duration::from_secs(30);

/// The running sensor.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts the thread. `folder` is the node's folder.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        agent: Agent,
        source: Box<dyn EventSource>,
        clock: Arc<dyn Clock>,
        folder: &Path,
    ) -> io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut state = State::new(agent, clock, folder);
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("cairn-sensor".to_owned()).spawn(move || {
            state.run(source, &stopping);
        })?;
        Ok(Watch { stop, thread })
    }

    /// Asks it to end and waits. Events that lie in the ring are taken first.
    pub fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        if self.thread.join().is_err() {
            tracing::error!("the sensor's thread had panicked");
        }
    }
}

/// What a release means for the loop.
struct InForce {
    reference: ReleaseRef,
    responses: Responses,
    redaction: Redaction,
}

struct State {
    agent: Agent,
    clock: Arc<dyn Clock>,
    open: OpenContainment,
    engine: Engine,
    names: Arc<Names>,
    in_force: Option<InForce>,
    /// Detections that wait for the end of the batch.
    waiting: Vec<Draft>,
    last_lost: Vec<Lost>,
    last_lost_at: Timestamp,
    last_names_at: Timestamp,
}

impl State {
    fn new(agent: Agent, clock: Arc<dyn Clock>, folder: &Path) -> State {
        let now = clock.now();
        State {
            agent,
            open: OpenContainment::new(folder),
            engine: Engine::new(Arc::default(), Limits::default()),
            names: Arc::default(),
            in_force: None,
            waiting: Vec::new(),
            last_lost: Vec::new(),
            last_lost_at: now,
            last_names_at: Timestamp::default(),
            clock,
        }
    }

    fn run(&mut self, mut source: Box<dyn EventSource>, stop: &AtomicBool) {
        match source.seeds() {
            Ok(seeds) => self.engine.seed(seeds),
            Err(error) => tracing::warn!(%error, "the processes that run already could not be read"),
        }
        self.finish_interrupted();
        loop {
            let stopping = stop.load(Ordering::SeqCst);
            self.follow_release();
            self.refresh_names();
            let timeout = if stopping { Duration::ZERO } else { POLL_TIMEOUT };
            let polled = source.poll(timeout, &mut |event| self.take(&event));
            self.flush();
            self.count_losses(source.as_ref(), stopping);
            match polled {
                Ok(0) if stopping => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "no more kernel events: the sensor is blind until it is started again");
                    return;
                }
            }
        }
    }

    /// The outcome of a containment that a crash interrupted is not known, and that is recorded.
    fn finish_interrupted(&mut self) {
        let interrupted = match self.open.read() {
            Ok(interrupted) => interrupted,
            Err(error) => return tracing::warn!(%error, "the open containment could not be read"),
        };
        let Some((stream, request)) = interrupted else { return };
        let release = self.agent.active().map(|active| active.reference);
        if let Some(release) = release
            && stream == self.agent.spool().stream()
        {
            let data = ContainmentFinished {
                request,
                outcome: Outcome::Unknown,
                error: Some("the node stopped between the request and the outcome".to_owned()),
                acted_us: 0,
            };
            if let Err(error) = self.agent.spool().record(Draft::new(&data).release(release)) {
                return tracing::error!(%error, "the outcome of an interrupted containment was not recorded");
            }
        }
        self.forget_open();
    }

    /// Takes over the active release when it has changed. The process table stays.
    fn follow_release(&mut self) {
        let Some(active) = self.agent.active() else { return };
        if self.in_force.as_ref().is_some_and(|in_force| in_force.reference == active.reference) {
            return;
        }
        self.engine.replace_rules(Arc::clone(&active.policy.rules));
        self.in_force = Some(in_force(&active, &self.agent));
    }

    fn refresh_names(&mut self) {
        let now = self.clock.now();
        if self.last_names_at == Timestamp::default() || now.since(self.last_names_at) >= NAMES_EVERY {
            self.last_names_at = now;
            self.names = Arc::new(names::read(Path::new("/")));
            self.engine.set_names(Arc::clone(&self.names));
        }
    }

    fn take(&mut self, event: &Event) {
        let alerts = self.engine.handle(event);
        for alert in alerts {
            self.alert(&alert, event);
        }
    }

    fn alert(&mut self, alert: &Alert, event: &Event) {
        let Some(in_force) = &self.in_force else { return };
        let user = self.names.users.get(&alert.process.uid).map(String::as_str);
        let seen = in_force.responses.seen(alert);
        let release = in_force.reference;
        let draft = detection::draft(alert, event, user, seen, &in_force.redaction, release);
        let enforced = in_force.responses.enforced(alert);
        self.waiting.push(draft);
        if let Some(enforced) = enforced {
            let detection = self.flush();
            self.contain(alert, &enforced, detection, release);
        }
    }

    /// Makes the waiting detections durable; returns the last one's sequence. What the spool refuses it counts, and records as
    /// lost when it has room again.
    fn flush(&mut self) -> Option<Sequence> {
        if self.waiting.is_empty() {
            return None;
        }
        match self.agent.spool().append(std::mem::take(&mut self.waiting)) {
            Ok(recorded) => recorded.last().map(|recorded| recorded.sequence),
            Err(error) => {
                tracing::error!(%error, "detections were not recorded");
                None
            }
        }
    }

    /// Intent durable, act, outcome durable: in this order (promise P1).
    fn contain(&mut self, alert: &Alert, response: &Enforced, detection: Option<Sequence>, release: ReleaseRef) {
        let target = detection::target(alert);
        let action = action_name(response.action).to_owned();
        let process = &alert.process;
        if let Some(reason) = contain::refusal(process.pid, !process.exe.is_empty(), std::process::id()) {
            return self.refuse(detection, response, action, target, reason, release);
        }
        // A crash here leaves a detection without a request: nothing was done.
        let request = match detection {
            Some(detection) => {
                let data = ContainmentRequested { detection, response: response.name.clone(), action, target };
                self.agent.spool().record(Draft::new(&data).release(release)).map_err(|error| error.to_string())
            }
            None => Err("the detection could not be recorded".to_owned()),
        };
        match (&request, response.on_unrecordable) {
            (Err(error), OnUnrecordable::Refuse) => {
                return tracing::error!(
                    error,
                    response = response.name,
                    "not contained: its intent cannot be recorded"
                );
            }
            (Err(error), OnUnrecordable::Act) => {
                tracing::error!(error, response = response.name, "contained without a record, as the response says");
            }
            (Ok(_), _) => {}
        }
        if let Ok(recorded) = &request
            && let Err(error) = self.open.set(&recorded.stream, recorded.sequence)
        {
            tracing::warn!(%error, "the open containment could not be remembered");
        }
        // A crash here leaves a request without an outcome: the next start records it as unknown.
        let contained = contain::kill(process.pid, process.start_ns);
        let acted = self.clock.now().since(Timestamp::from_nanos(alert.time_ns));
        // A crash here: the same, and the process is gone.
        let Ok(recorded) = request else { return };
        let data = ContainmentFinished {
            request: recorded.sequence,
            outcome: contained.outcome,
            error: contained.error,
            acted_us: u64::try_from(acted.as_micros()).unwrap_or(u64::MAX).min(cairn_schemas::ids::INTEGER_MAX),
        };
        match self.agent.spool().record(Draft::new(&data).release(release)) {
            Ok(_) => self.forget_open(),
            Err(error) => tracing::error!(%error, "the outcome of a containment was not recorded"),
        }
    }

    fn refuse(
        &mut self,
        detection: Option<Sequence>,
        response: &Enforced,
        action: String,
        target: Target,
        reason: &str,
        release: ReleaseRef,
    ) {
        tracing::warn!(reason, response = response.name, "not contained");
        let Some(detection) = detection else { return };
        let data = ContainmentRefused {
            detection,
            response: response.name.clone(),
            action,
            target,
            reason: reason.to_owned(),
        };
        if let Err(error) = self.agent.spool().record(Draft::new(&data).release(release)) {
            tracing::error!(%error, "a refused containment was not recorded");
        }
    }

    fn forget_open(&self) {
        if let Err(error) = self.open.clear() {
            tracing::warn!(%error, "the open containment could not be forgotten");
        }
    }

    /// Once a second, and at the end: what was lost since the last look.
    fn count_losses(&mut self, source: &dyn EventSource, stopping: bool) {
        let now = self.clock.now();
        if !stopping && now.since(self.last_lost_at) < LOSS_EVERY {
            return;
        }
        let mut lost = match source.lost() {
            Ok(lost) => lost,
            Err(error) => return tracing::error!(%error, "the counters of lost events could not be read"),
        };
        lost.push(table_losses(&self.engine));
        let drafts = losses_since(&self.last_lost, &lost, self.last_lost_at, now);
        if !drafts.is_empty()
            && let Err(error) = self.agent.spool().append(drafts)
        {
            // Not forgotten: the next look reports the whole interval.
            return tracing::error!(%error, "lost events were not recorded yet");
        }
        self.last_lost = lost;
        self.last_lost_at = now;
    }
}

fn in_force(active: &ActiveRelease, agent: &Agent) -> InForce {
    InForce {
        reference: active.reference,
        responses: Responses::new(active.policy.responses.clone()),
        redaction: Redaction::new(agent.identity().token_key().clone(), &active.policy.config.privacy.personal_fields),
    }
}

fn table_losses(engine: &Engine) -> Lost {
    let stats = engine.stats();
    Lost {
        cause: LossCause::ProcessTable,
        family: "process",
        lost: stats.evicted + stats.refused,
        kept: stats.running as u64,
    }
}

/// One `sensor.loss` per cause and family that lost something between two looks at the counters. Pure.
fn losses_since(before: &[Lost], now: &[Lost], from: Timestamp, to: Timestamp) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for current in now {
        let earlier = before.iter().find(|earlier| earlier.cause == current.cause && earlier.family == current.family);
        let lost = current.lost.saturating_sub(earlier.map_or(0, |earlier| earlier.lost));
        if lost == 0 {
            continue;
        }
        let data = SensorLoss {
            cause: current.cause,
            family: current.family.to_owned(),
            from,
            to,
            lost,
            kept: current.kept.saturating_sub(earlier.map_or(0, |earlier| earlier.kept)),
        };
        drafts.push(Draft::new(&data).subject(current.family));
    }
    drafts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(family: &'static str, lost: u64, kept: u64) -> Lost {
        Lost { cause: LossCause::RingBuffer, family, lost, kept }
    }

    #[test]
    fn only_what_was_lost_since_the_last_look() {
        let (from, to) = (Timestamp::from_nanos(1), Timestamp::from_nanos(2));
        let before = [lost("exec", 5, 100), lost("open", 0, 10)];
        let now = [lost("exec", 5, 200), lost("open", 7, 30)];
        let drafts = losses_since(&before, &now, from, to);
        assert_eq!(drafts.len(), 1);
        assert_eq!(drafts[0].data["family"], "open");
        assert_eq!(drafts[0].data["lost"], 7);
        assert_eq!(drafts[0].data["kept"], 20);
        assert_eq!(losses_since(&[], &now, from, to).len(), 2, "the first look reports what came before it");
    }
}
