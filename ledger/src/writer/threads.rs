//! The two threads of a writer: one commits, one publishes.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SendError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::commit::{Commit, CommitError, Committer};
use super::state::{State, Stretch};
use super::submission::{Failure, Submission, Together, wake};
use super::{LAG_BYTES_MAX, OpenError, RETRY_INTERVAL, Shared, lock};
use crate::disk::is_full;
use crate::integrate::{Integrator, PUBLISH_RECORDS_MAX, PublishError};
use crate::store::{Durable, Groundwork};
use crate::wal::GROUP_LEN_MAX;

/// While a group is on its way, another one follows it only when so many bytes wait: each is a request that costs money and work, and what
/// waits goes together into the next.
const GROUP_LEN_WORTH: u64 = 512 << 10;
/// How often it is looked how many callers wait.
const LOOK_INTERVAL: Duration = Duration::from_micros(500);
/// How often it is looked in vain for callers that come back, before the next group goes without them.
const LOOKS_IN_VAIN: u32 = 4;

pub(super) fn start(
    shared: &Arc<Shared>,
    mut committer: Committer,
    mut integrator: Integrator,
) -> Result<Vec<JoinHandle<()>>, OpenError> {
    let spawn = |name: &str, run: Box<dyn FnOnce(&Shared) + Send>| {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Should the thread panic, callers must not wait for it for ever.
                let _guard = StopOnPanic(&shared);
                run(&shared);
            })
            .map_err(OpenError::Thread)
    };
    let groundwork = committer.log.groundwork();
    let commits = spawn(
        "ledger-commit",
        Box::new(move |shared| {
            shared.run_commits(&mut committer);
            lock(&shared.handed_over).0 = Some(committer);
        }),
    )?;
    match spawn(
        "ledger-publish",
        Box::new(move |shared| {
            shared.run_publishing(&mut integrator, groundwork);
            lock(&shared.handed_over).1 = Some(integrator);
        }),
    ) {
        Ok(publishing) => Ok(vec![commits, publishing]),
        Err(error) => {
            shared.begin_closing();
            Err(error)
        }
    }
}

/// Why a writer stopped whose thread did.
const PANICKED: &str = "a thread of the writer panicked; see standard error";

struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(PANICKED.to_owned());
            lock(&self.0.queue).waiting.drain(..).for_each(|submission| submission.abandon());
        }
    }
}

/// Groups on their way, in a log that takes several at once.
#[derive(Default)]
struct Flight {
    flying: Mutex<Flying>,
    landed: Condvar,
}

#[derive(Default)]
struct Flying {
    /// When each began that did not land.
    begun: VecDeque<Instant>,
    /// The one that landed last, until another one begins.
    last: Option<Landed>,
    /// Nobody is there to land them.
    given_up: bool,
}

/// A group whose callers are told.
struct Landed {
    /// How many submissions waited, and how many it had: so many there are again when all its callers came back.
    expected: usize,
    /// Until when they are waited for: for no longer than it was on its way.
    until: Instant,
}

impl Flight {
    fn land(&self, expected: usize) {
        let now = Instant::now();
        let mut flying = lock(&self.flying);
        let took = flying.begun.pop_front().map_or(Duration::ZERO, |begun| now - begun);
        flying.last = Some(Landed { expected, until: now + took });
        drop(flying);
        self.landed.notify_one();
    }
}

/// Lives as long as the thread that finishes groups.
struct GiveUp<'a>(&'a Flight);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        lock(&self.0.flying).given_up = true;
        self.0.landed.notify_one();
    }
}

/// An error and its causes in one line.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

impl Shared {
    pub(super) fn stop(&self, reason: String) {
        tracing::error!(ledger = self.origin, reason, "the ledger's writer stops");
        let mut state = lock(&self.state);
        state.stopped.get_or_insert(reason);
        drop(state);
        self.close_queue();
        self.grown.notify_all();
        self.hurry.notify_all();
        self.tell_published();
    }

    /// Commits groups until the ledger closes and nothing waits. Where the log takes several at once, they are finished in their order by
    /// a thread of their own.
    fn run_commits(&self, committer: &mut Committer) {
        match committer.log.in_flight_max() {
            0 => self.commit_groups(committer, || (), |group, commit| self.finish(&group, commit)),
            in_flight => {
                let flight = &Flight::default();
                std::thread::scope(|scope| {
                    let (begun, finishing) = std::sync::mpsc::channel();
                    scope.spawn(move || {
                        // Should this thread panic, the other must not wait for it for ever.
                        let _guard = GiveUp(flight);
                        self.finish_in_order(&finishing, flight);
                    });
                    self.commit_groups(
                        committer,
                        || self.gather(flight, in_flight),
                        |group, commit| {
                            lock(&flight.flying).begun.push_back(Instant::now());
                            // Should that thread be gone, it has panicked, and the scope says so when it ends.
                            if let Err(SendError((group, _))) = begun.send((group, commit)) {
                                self.stop(PANICKED.to_owned());
                                group.iter().for_each(|submission| submission.abandon());
                            }
                        },
                    );
                    drop(begun);
                });
            }
        }
        lock(&self.state).committed_all = true;
        self.grown.notify_all();
        self.hurry.notify_all();
    }

    /// Lets a group come together before it is taken. With nothing on its way, callers of the last one are given time to come back, as long
    /// as they do; otherwise what waits must be worth a request, or all that is on its way must have come to its end.
    fn gather(&self, flight: &Flight, in_flight_max: usize) {
        let waiting = || {
            let queue = lock(&self.queue);
            (queue.waiting.len(), queue.bytes)
        };
        let mut flying = lock(&flight.flying);
        while !flying.given_up && !flying.begun.is_empty() {
            if flying.begun.len() < in_flight_max && waiting().1 >= GROUP_LEN_WORTH {
                return;
            }
            flying = flight.landed.wait_timeout(flying, LOOK_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
        let last = flying.last.take();
        drop(flying);
        let Some(Landed { expected, until }) = last else { return };
        let (mut before, mut in_vain) = (0, 0);
        while in_vain < LOOKS_IN_VAIN && Instant::now() < until {
            let (callers, bytes) = waiting();
            if callers >= expected || bytes >= GROUP_LEN_WORTH {
                return;
            }
            in_vain = if callers > before { 0 } else { in_vain + 1 };
            before = callers;
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits for groups that are on their way. After one that failed none is acknowledged: a record counts only with all before it.
    fn finish_in_order(&self, begun: &Receiver<(Together, Commit)>, flight: &Flight) {
        for (group, mut commit) in begun {
            let durable = match (&lock(&self.state).stopped, commit.durable.take()) {
                (Some(reason), _) => Err(reason.clone()),
                (None, Some(wait)) => Ok(wait),
                (None, None) => Ok(Box::new(|| Ok(())) as Durable),
            };
            match durable.and_then(|wait| wait().map_err(|error| one_line(&error))) {
                Ok(()) => {
                    // Counted before: whoever gathers a group takes these two locks the other way round.
                    let waiting = lock(&self.queue).waiting.len();
                    flight.land(group.len() + waiting);
                    self.finish(&group, commit);
                }
                Err(reason) => {
                    flight.land(0);
                    self.stop(reason.clone());
                    group.iter().for_each(|submission| submission.fail(Failure::Stopped(reason.clone())));
                }
            }
        }
    }

    /// `before`: what to wait for before a group is taken out of the queue. `begun`: what to do with one that was handed to the log.
    fn commit_groups(&self, committer: &mut Committer, before: impl Fn(), begun: impl Fn(Together, Commit)) {
        while let Some(group) = self.next_group(&before) {
            let (stopped, full, covered) = {
                let state = lock(&self.state);
                (state.stopped.clone(), state.full.clone(), state.published.size.0)
            };
            if let Some(failure) = stopped.map(Failure::Stopped).or(full.map(Failure::Full)) {
                group.iter().for_each(|submission| submission.fail(failure.clone()));
                continue;
            }
            match committer.commit(&self.streams, &group, covered, self.clock.now()) {
                Ok(commit) => begun(group, commit),
                Err(CommitError::Full(error)) => {
                    let reason = one_line(&error);
                    tracing::warn!(ledger = self.origin, reason, "appends are refused");
                    group.iter().for_each(|submission| submission.fail(Failure::Full(reason.clone())));
                }
                Err(CommitError::Fatal(error)) => {
                    let reason = one_line(&error);
                    self.stop(reason.clone());
                    group.iter().for_each(|submission| submission.fail(Failure::Stopped(reason.clone())));
                }
            }
        }
    }

    /// Everything that waits, up to a group's limit; waits for the first, and while publishing is too far behind.
    pub(super) fn next_group(&self, before: &impl Fn()) -> Option<Together> {
        let mut state = lock(&self.state);
        let behind = |state: &State| state.lag_bytes > LAG_BYTES_MAX && !state.is_held();
        while behind(&state) && state.stopped.is_none() && state.full.is_none() {
            state = self.published.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let mut queue = lock(&self.queue);
        while queue.waiting.is_empty() {
            if queue.closing {
                return None;
            }
            queue.committer_asleep = true;
            queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.committer_asleep = false;
        }
        drop(queue);
        before();
        // Nobody else takes anything out of it.
        let mut queue = lock(&self.queue);
        let mut group = Vec::new();
        let mut room = 0;
        while let Some(submission) = queue.waiting.front() {
            let more = submission.room();
            if room + more > GROUP_LEN_MAX {
                break;
            }
            room += more;
            group.extend(queue.waiting.pop_front());
        }
        queue.bytes -= room;
        let blocked = std::mem::take(&mut queue.blocked);
        drop(queue);
        wake(blocked);
        Some(group.into())
    }

    /// The group is durable: say so.
    pub(super) fn finish(&self, group: &[Arc<Submission>], Commit { written, answers, moved, .. }: Commit) {
        let grown = !written.is_empty();
        let mut state = lock(&self.state);
        state.extend(written);
        for (submission, position) in group.iter().zip(moved) {
            let Some(position) = position else { continue };
            match state.positions.get_mut(submission.stream()) {
                Some(before) => *before = position,
                None => drop(state.positions.insert(submission.stream().clone(), position)),
            }
        }
        drop(state);
        // First all answers, then all wake-ups: who is woken finds its answer, and no lock that anybody holds.
        let answered = group.iter().zip(answers).filter_map(|(submission, answer)| submission.answer(answer));
        wake(answered.collect::<Vec<_>>());
        if grown {
            self.grown.notify_all();
        }
    }

    /// Publishes what is durable until the ledger is closed and all of it is.
    fn run_publishing(&self, integrator: &mut Integrator, groundwork: Option<Groundwork>) {
        let mut pace = Pace { started: None, took: Duration::ZERO, interval: self.store.publish_interval() };
        while let Some(records) = self.next_unpublished(&pace) {
            let started = Instant::now();
            match integrator.publish(records.records(), false, self.clock.now()) {
                Ok(checkpoint) => {
                    drop(records);
                    let given_up = {
                        let mut state = lock(&self.state);
                        state.full = None;
                        state.publish(checkpoint)
                    };
                    drop(given_up);
                }
                Err(PublishError::Io(error)) if is_full(&error) => {
                    // Room was missing to make a file: nothing that was there is in doubt.
                    let reason = error.to_string();
                    // Told once: it is tried again every second, for as long as it takes.
                    if lock(&self.state).full.is_none() {
                        tracing::warn!(
                            ledger = self.origin,
                            reason,
                            "the disk is full: nothing is published, appends are refused"
                        );
                    }
                    if !self.wait_for_room(reason) {
                        break;
                    }
                }
                Err(error) => {
                    self.stop(one_line(&error));
                    break;
                }
            }
            self.tell_published();
            if let Some(groundwork) = &groundwork {
                groundwork(lock(&self.state).published.size.0);
            }
            pace = Pace { started: Some(started), took: started.elapsed(), interval: pace.interval };
        }
        let mut state = lock(&self.state);
        let clean = state.stopped.is_none() && state.published.size.0 == state.durable;
        state.finished = true;
        drop(state);
        // Whoever takes over goes on with the log as it is.
        if clean && !self.is_handing_over() {
            // Every record is in a tile. Should either of these fail, nothing is lost: the segments are read again and found covered.
            let checkpoint = lock(&self.state).published.clone();
            if let Err(error) = self.keep(&checkpoint) {
                tracing::warn!(ledger = self.origin, reason = one_line(&error), "the last checkpoint was not kept");
            }
            if let Err(error) = self.store.clear_log() {
                tracing::warn!(ledger = self.origin, reason = one_line(&error), "the write-ahead log was not removed");
            }
        }
        self.grown.notify_all();
        self.tell_published();
    }

    /// Wakes all who wait for a checkpoint: there is another one, or there will be none.
    fn tell_published(&self) {
        self.published.notify_all();
        let wakers = std::mem::take(&mut lock(&self.state).checkpoint_wakers);
        wake(wakers);
    }

    /// Records to be published now; `None` when there will be no more.
    fn next_unpublished(&self, pace: &Pace) -> Option<Stretch> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped.is_some() {
                return None;
            }
            let behind = (state.durable - state.published.size.0) as usize;
            let urgent = state.waiting_for_checkpoint > 0 || state.closing;
            if behind == 0 || state.is_held() {
                if state.committed_all {
                    return None;
                }
                state = self.grown.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let wait =
                if state.committed_all || behind >= PUBLISH_RECORDS_MAX { Duration::ZERO } else { pace.wait(urgent) };
            if wait.is_zero() {
                return Some(state.unpublished(PUBLISH_RECORDS_MAX));
            }
            state = self.hurry.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits while the disk is full; `false` when the ledger closes meanwhile: the log holds what is not published.
    fn wait_for_room(&self, reason: String) -> bool {
        let mut state = lock(&self.state);
        state.full = Some(reason);
        self.published.notify_all();
        let deadline = Instant::now() + RETRY_INTERVAL;
        while !state.closing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.hurry.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

/// When the next checkpoint is due: at once if none was published for a while; under load as often as the store wants; and while somebody
/// waits for one, as often as leaves the disk half of the time to the log.
struct Pace {
    started: Option<Instant>,
    took: Duration,
    interval: Duration,
}

impl Pace {
    fn wait(&self, urgent: bool) -> Duration {
        let Some(started) = self.started else { return Duration::ZERO };
        let interval = if urgent { (2 * self.took).min(self.interval) } else { self.interval };
        (started + interval).saturating_duration_since(Instant::now())
    }
}
