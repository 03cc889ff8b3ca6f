//! The sensor's loop: events in, records and containments out.
//!
//! One thread takes events from the kernel and tries the rules of the active release. Alerts become `detection.raised` records,
//! many under one fsync; an alert with an enforcing response is recorded and acted on before the next event is looked at
//! ([`crate::act`]). Every second the kernel's counters are read, and what was lost becomes a `sensor.loss` record (promise P2).
//! A source that fails, or a panic here, leaves the node without eyes: it records that it is not live any more.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_node::{ActiveRelease, Agent, Recorded, Spool, SpoolError};
use cairn_rules::event::Event;
use cairn_rules::{Alert, Engine, Limits, Names};
use cairn_schemas::data::{Inability, LossCause, NodeCapabilities, SensorLoss};
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::record::Draft;
use cairn_schemas::time::{Clock, Timestamp};
use cairn_schemas::token::TokenKey;

use crate::act::Actor;
use crate::detection;
use crate::learnt::{self, Learnt, LearntError};
use crate::names;
use crate::redact::Redaction;
use crate::respond::Responses;
use crate::source::{EventSource, Lost};

/// How long a poll waits when nothing happens. Bounds how late a stop is noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// How often the counters of lost events are read.
pub const LOSS_EVERY: Duration = Duration::from_secs(1);
/// How often the user database is read again.
const NAMES_EVERY: Duration = Duration::from_secs(30);
/// Most detections that wait for one fsync. Bounds memory in a storm, and what a spool that gets full refuses at once.
pub const WAITING_MAX: usize = 256;
/// How long a stop goes on taking events from a source that does not end.
pub const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What the loop needs of its node.
pub struct Node {
    /// The release to follow; asked for each event.
    pub active: Box<dyn Fn() -> Option<Arc<ActiveRelease>> + Send>,
    /// Where records go.
    pub spool: Spool,
    /// The key that hides personal values.
    pub token_key: TokenKey,
}

impl Node {
    /// Of a running node.
    #[must_use]
    pub fn of(agent: &Agent) -> Node {
        let (watch, spool, token_key) = (agent.watch(), agent.spool().clone(), agent.token_key().clone());
        Node { active: Box::new(move || watch.load()), spool, token_key }
    }
}

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
    pub fn start(node: Node, source: Box<dyn EventSource>, clock: Arc<dyn Clock>, folder: &Path) -> io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut state = State::new(node, clock, folder);
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("cairn-sensor".to_owned()).spawn(move || {
            // What a panic leaves half done is not used again, but for the spool, which holds whole batches only.
            let ran = catch_unwind(AssertUnwindSafe(|| state.run(source, &stopping)));
            match ran {
                Ok(Ok(())) => {}
                Ok(Err(error)) => state.blind(&format!("no more kernel events: {error}")),
                Err(_) => state.blind("the sensor's thread failed; its log says where"),
            }
        })?;
        Ok(Watch { stop, thread })
    }

    /// Asks it to end and waits. No new event is taken in; those that lie in the ring are taken first.
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
    node: Node,
    clock: Arc<dyn Clock>,
    actor: Actor,
    engine: Engine,
    learnt: Learnt,
    /// What was saved has been taken up, or was of no use.
    is_resumed: bool,
    /// Saved snapshots that were of no use: none or one.
    unlearnt: u64,
    last_learnt_at: Timestamp,
    names: Arc<Names>,
    in_force: Option<InForce>,
    /// Detections that wait for the end of the batch.
    waiting: Vec<Draft>,
    /// Detections that were recorded, and those that no record can hold.
    detected: u64,
    unwritable: u64,
    last_lost: Vec<Lost>,
    last_lost_at: Timestamp,
    losses_failing: bool,
    last_names_at: Option<Timestamp>,
}

impl State {
    fn new(node: Node, clock: Arc<dyn Clock>, folder: &Path) -> State {
        State {
            actor: Actor::new(node.spool.clone(), Arc::clone(&clock), folder),
            engine: Engine::new(Arc::default(), Limits::default()),
            learnt: Learnt::new(folder),
            is_resumed: false,
            unlearnt: 0,
            last_learnt_at: clock.now(),
            names: Arc::default(),
            in_force: None,
            waiting: Vec::new(),
            detected: 0,
            unwritable: 0,
            last_lost: Vec::new(),
            last_lost_at: clock.now(),
            losses_failing: false,
            last_names_at: None,
            node,
            clock,
        }
    }

    fn run(&mut self, mut source: Box<dyn EventSource>, stop: &AtomicBool) -> io::Result<()> {
        match source.seeds() {
            Ok(seeds) => self.engine.seed(seeds),
            Err(error) => tracing::warn!(%error, "the processes that run already could not be read"),
        }
        let mut drain_until: Option<Instant> = None;
        loop {
            if drain_until.is_none() && stop.load(Ordering::SeqCst) {
                source.stop();
                drain_until = Some(Instant::now() + DRAIN_MAX);
            }
            self.actor.settle();
            self.refresh_names();
            let timeout = if drain_until.is_some() { Duration::ZERO } else { POLL_TIMEOUT };
            let polled = source.poll(timeout, &mut |event| self.take(&event));
            self.flush();
            self.count_losses(source.as_ref(), drain_until.is_some());
            self.keep_learnt();
            let is_over = match (&polled, drain_until) {
                (Ok(taken), Some(until)) => *taken == 0 || Instant::now() >= until,
                (Ok(_), None) => false,
                (Err(_), _) => true,
            };
            if is_over {
                // Before a release is in force nothing is known, which must not take the place of what was saved.
                if self.is_resumed {
                    self.learnt.finish(&self.engine.snapshot());
                }
                return polled.map(|_| ());
            }
        }
    }

    /// The node sees nothing any more until it is started again, and its records say so.
    fn blind(&mut self, why: &str) {
        tracing::error!(why, "the sensor is blind until it is started again");
        self.waiting.clear();
        let cannot =
            ["exec", "fork", "exit", "open", "kill"].map(|what| Inability { what: what.into(), why: why.into() });
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let data = NodeCapabilities { live: false, version, can: Vec::new(), cannot: cannot.to_vec() };
        let stream = self.node.spool.stream();
        let node = stream.node();
        let draft = node.iter().fold(Draft::new(&data), |draft, node| draft.subject(node.as_str()));
        if let Err(error) = self.node.spool.record(draft) {
            tracing::error!(%error, "that the sensor is blind was not recorded");
        }
    }

    /// Takes over the active release when it has changed. The process table stays.
    fn follow_release(&mut self) {
        let Some(active) = (self.node.active)() else { return };
        if self.in_force.as_ref().is_some_and(|in_force| in_force.reference == active.reference) {
            return;
        }
        self.engine.replace_rules(Arc::clone(&active.policy.rules));
        self.resume();
        self.in_force = Some(in_force(&active, &self.node.token_key));
    }

    /// The first rules that learn go on from what was known before the start.
    fn resume(&mut self) {
        if self.is_resumed || !self.engine.learns() {
            return;
        }
        self.is_resumed = true;
        let resumed = self.learnt.read().and_then(|saved| match saved {
            Some(snapshot) => self.engine.restore(&snapshot).map_err(LearntError::from),
            None => Ok(()),
        });
        if let Err(error) = resumed {
            self.unlearnt += 1;
            tracing::error!(error = &error as &dyn std::error::Error, "what rules had learnt is lost: they learn anew");
        }
    }

    fn keep_learnt(&mut self) {
        let now = self.clock.now();
        if is_due(now, self.last_learnt_at, learnt::SAVE_EVERY) {
            self.last_learnt_at = now;
            if self.is_resumed {
                self.learnt.save(self.engine.snapshot());
            }
        }
    }

    fn refresh_names(&mut self) {
        let now = self.clock.now();
        if self.last_names_at.is_none_or(|last| is_due(now, last, NAMES_EVERY)) {
            self.last_names_at = Some(now);
            self.names = Arc::new(names::read(Path::new("/")));
            self.engine.set_names(Arc::clone(&self.names));
        }
    }

    fn take(&mut self, event: &Event) {
        // Asked for each event: a release that is active before something happens is the one that judges it.
        self.follow_release();
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
        let target = detection::target(alert, &in_force.redaction);
        self.waiting.push(draft);
        if let Some(enforced) = enforced {
            let detection = self.flush();
            self.actor.contain(alert, target, &enforced, detection.as_ref(), release);
        } else if self.waiting.len() >= WAITING_MAX {
            self.flush();
        }
    }

    /// Makes the waiting detections durable; returns where the last one stands. What the spool refuses it counts, and records as
    /// lost when it has room again.
    fn flush(&mut self) -> Option<Recorded> {
        let mut waiting = std::mem::take(&mut self.waiting);
        match waiting.len() {
            0 => None,
            1 => self.record(waiting.pop()?),
            _ => match self.node.spool.append(waiting.clone()) {
                Ok(recorded) => {
                    self.detected += recorded.len() as u64;
                    recorded.into_iter().next_back()
                }
                // One of them makes no record; the others must not go with it.
                Err(SpoolError::Seal(_)) => waiting.into_iter().map(|draft| self.record(draft)).last().flatten(),
                Err(error) => {
                    tracing::error!(%error, "detections were not recorded");
                    None
                }
            },
        }
    }

    fn record(&mut self, draft: Draft) -> Option<Recorded> {
        match self.node.spool.record(draft) {
            Ok(recorded) => {
                self.detected += 1;
                Some(recorded)
            }
            Err(error) => {
                // The spool counts what it has no room for, and cannot count what is no record.
                self.unwritable += u64::from(matches!(error, SpoolError::Seal(_)));
                tracing::error!(%error, "a detection was not recorded");
                None
            }
        }
    }

    /// Once a second, and at the end: what was lost since the last look.
    fn count_losses(&mut self, source: &dyn EventSource, stopping: bool) {
        let now = self.clock.now();
        if !stopping && !is_due(now, self.last_lost_at, LOSS_EVERY) {
            return;
        }
        let mut lost = match source.lost() {
            Ok(lost) => lost,
            Err(error) => {
                self.losses_fail(&error);
                return;
            }
        };
        let (kept, unrecorded) = self.actor.counts();
        lost.push(table_losses(&self.engine));
        let state = self.engine.state_stats();
        lost.push(Lost { cause: LossCause::RuleState, family: "key", lost: state.evicted, kept: state.keys as u64 });
        lost.push(Lost { cause: LossCause::RuleState, family: "snapshot", lost: self.unlearnt, kept: 0 });
        lost.push(Lost { cause: LossCause::SpoolFull, family: "containment", lost: unrecorded, kept });
        lost.push(Lost {
            cause: LossCause::Undecodable,
            family: "detection",
            lost: self.unwritable,
            kept: self.detected,
        });
        let drafts = losses_since(&self.last_lost, &lost, self.last_lost_at.min(now), now);
        if !drafts.is_empty()
            && let Err(error) = self.node.spool.offer(None, drafts)
        {
            // Not forgotten: the next look reports the whole interval.
            self.losses_fail(&error);
            return;
        }
        self.last_lost = lost;
        self.last_lost_at = now;
        self.losses_failing = false;
    }

    /// Told once: it is tried again at every turn.
    fn losses_fail(&mut self, error: &dyn std::error::Error) {
        if !self.losses_failing {
            tracing::error!(%error, "lost events were not recorded yet");
        }
        self.losses_failing = true;
    }
}

/// Whether `every` has passed since `last`. A clock that was set back makes it due, rather than never.
fn is_due(now: Timestamp, last: Timestamp, every: Duration) -> bool {
    now < last || now.since(last) >= every
}

fn in_force(active: &ActiveRelease, token_key: &TokenKey) -> InForce {
    InForce {
        reference: active.reference,
        responses: Responses::new(active.policy.responses.clone()),
        redaction: Redaction::new(token_key.clone(), &active.policy.config.privacy.personal_fields),
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

    #[test]
    fn a_clock_that_was_set_back_makes_things_due() {
        let at = Timestamp::from_nanos;
        assert!(!is_due(at(9), at(0), Duration::from_nanos(10)));
        assert!(is_due(at(10), at(0), Duration::from_nanos(10)));
        assert!(is_due(at(4), at(5), Duration::from_nanos(10)));
    }
}
