//! Events from outside: `POST /v1/intake/<source>`. Audit logs, cloud trails, identity events, tried on the rules of the release in force.
//!
//! Each alert becomes a `detection.raised` in the control plane's stream; the events themselves are not kept. Who may send what stands in
//! `fleet.yaml` (`intake`), outside the policy repo.
//!
//! # An event that is sent twice is one
//! Senders repeat what they got no answer for, so an answer must mean that it is done, and a repeat must do nothing:
//!
//! 1. The body is read, whole or not at all. Events of it that were taken in before are left out.
//! 2. If a rule over more than one event watches the source, the body is written down ([`journal`]): what such rules know must not depend on
//!    when this process ends.
//! 3. The rules are tried on each event, in order.
//! 4. Alerts are appended to the ledger. Each has a `foreignid` made of its event and its rule, and what the ledger has already is left out.
//! 5. The answer.
//!
//! A crash before 2 leaves nothing; the sender repeats. After 2, the next start tries the body once more on what was known before it, says
//! the same, and 4 leaves out what is there. If the ledger refuses, alerts wait in memory, nothing else is taken before them, and the sender
//! is told to come again.
//!
//! Which events were taken in is remembered for the last [`SEEN_MAX`]; one that comes again after that counts again in rules over more than
//! one event, and still makes no second record. An event whose source names none is known by its body: the same body is the same events.
//!
//! # What it trusts
//! A sender for its own events, and for nothing else: bodies are bounded in length, depth and number, compressed or not; one is worked on at
//! a time; a sender has a rate; its name is part of what names its events, so that no sender can take another's away.

pub(crate) mod body;
mod finding;
mod hide;
mod journal;
mod rate;
mod rules;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_ledger::writer::Ledger;
use cairn_rules::source::{Intake as Judge, IntakeError};
use cairn_schemas::digest::Digest;
use cairn_schemas::fleet::IntakeConfig;
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::time::{Clock, Timestamp};
use cairn_schemas::token::{TokenKey, token};
use subtle::ConstantTimeEq as _;

pub(crate) use body::{BodyError, gunzip};
pub(crate) use hide::HideError;
pub(crate) use rules::RulesError;

use crate::control::{Control, ControlError};
use crate::durable::DiskError;
use crate::live::Live;
use crate::random::Random;
use crate::releases::Releases;
use crate::step::one_line;
use finding::{Finding, MorePersonal, Origin};
use hide::Hiding;
use journal::{Entry, Head, Journal, Key, Known};
use rate::Bucket;

/// Longest body as it comes, packed or not.
pub const BODY_LEN_MAX: usize = cairn_rules::limits::DOCUMENT_BYTES_MAX;
/// Bodies that wait for their turn at once; for further ones there is none.
pub const BODIES_AT_ONCE_MAX: usize = 8;
/// Events of which it is remembered that they were taken in.
pub const SEEN_MAX: usize = 131_072;
/// Alerts that are appended together, and most that wait while the rules are tried.
pub const ALERTS_AT_ONCE_MAX: usize = 256;
/// Bytes of bodies after which what is known is written down in their place.
pub const JOURNAL_LEN_MAX: u64 = 32 << 20;
/// How long bodies are kept.
pub const JOURNAL_TIME_MAX: Duration = Duration::from_secs(300);
/// A body weighs an event for each so many bytes, if it has fewer.
const BYTES_PER_EVENT: u64 = 1_024;
/// Class of the tokens that name events whose source does not.
const NAME_CLASS: &str = "intake";

/// Why a body was not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TakeError {
    /// Nothing is in force yet.
    #[error("no release is promoted yet, so there is no rule to try events on")]
    NoRelease,
    /// No rule of the release in force could be for it.
    #[error(transparent)]
    Source(#[from] IntakeError),
    /// It is no events.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The release in force cannot be read.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// It could not be written down.
    #[error(transparent)]
    Journal(#[from] DiskError),
    /// Personal values could not be hidden.
    #[error("personal values could not be put into the vault: {}", one_line(.0))]
    Hide(#[from] HideError),
    /// The ledger did not take an alert.
    #[error(transparent)]
    Record(#[from] ControlError),
}

/// What became of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Taken {
    /// Events in it.
    pub(crate) events: u64,
    /// Of them, those that were taken in before.
    pub(crate) repeated: u64,
    /// Alerts that the rules raised of the others.
    pub(crate) alerts: u64,
}

/// What came from a sender since the start.
#[derive(Debug, Default)]
struct Counts {
    bodies: AtomicU64,
    events: AtomicU64,
    repeated: AtomicU64,
    alerts: AtomicU64,
    malformed: AtomicU64,
    throttled: AtomicU64,
    failed: AtomicU64,
}

/// The same, to be shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct IntakeCounts {
    /// The sender.
    pub intake: String,
    /// What it sends.
    pub source: String,
    /// Bodies that were taken in.
    pub bodies: u64,
    /// Events in them.
    pub events: u64,
    /// Of them, those that were taken in before.
    pub repeated: u64,
    /// Alerts of the others.
    pub alerts: u64,
    /// Bodies that were refused for what they are.
    pub malformed: u64,
    /// Bodies that were refused for coming too fast, or while too many others waited.
    pub throttled: u64,
    /// Bodies that could not be taken in for no fault of theirs.
    pub failed: u64,
}

/// Somebody who may send.
pub(crate) struct Sender {
    config: IntakeConfig,
    bucket: Mutex<Bucket>,
    counts: Counts,
}

/// Why a body is not even read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// The sender sends too much.
    Rate(Duration),
    /// Too many bodies wait.
    Turns,
}

/// What an intake is made of.
pub(crate) struct Parts {
    pub(crate) senders: Vec<IntakeConfig>,
    /// Where it keeps what rules know.
    pub(crate) folder: PathBuf,
    pub(crate) vault: PathBuf,
    pub(crate) token_key: TokenKey,
    pub(crate) releases: Releases,
    pub(crate) live: Arc<Live>,
    pub(crate) ledger: Ledger,
    pub(crate) control: Arc<Control>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

/// The intake of a control plane.
pub(crate) struct Intake {
    senders: Vec<Sender>,
    /// Requests without a token that anybody has.
    unknown: AtomicU64,
    turns: Arc<tokio::sync::Semaphore>,
    work: Mutex<Work>,
    token_key: TokenKey,
    releases: Releases,
    live: Arc<Live>,
    ledger: Ledger,
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
}

/// What one body at a time works with.
struct Work {
    in_force: Option<InForce>,
    seen: Seen,
    /// Not in the ledger yet, the oldest first.
    waiting: VecDeque<Finding>,
    hiding: Hiding,
    /// None where nobody may send.
    journal: Option<Journal>,
    /// Since when the journal has bodies.
    journal_since: Option<Timestamp>,
    /// What the last run left, until the first release is loaded.
    left: Option<(Vec<u8>, Vec<Entry>)>,
}

struct InForce {
    release: ReleaseRef,
    judge: Judge,
    more: MorePersonal,
}

/// Which events were taken in, the last [`SEEN_MAX`] of them.
#[derive(Default)]
struct Seen {
    keys: HashSet<Key>,
    order: VecDeque<Key>,
}

impl Seen {
    fn insert(&mut self, key: Key) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

impl Intake {
    /// Opens what the last run left. Without senders nothing is opened, and nothing made.
    pub(crate) fn open(parts: Parts) -> Result<Intake, DiskError> {
        let Parts { senders, folder, vault, token_key, releases, live, ledger, control, clock, random } = parts;
        let (mut seen, mut left, mut journal) = (Seen::default(), None, None);
        if !senders.is_empty() {
            let found = Journal::open(&folder)?;
            found.known.seen.into_iter().for_each(|key| seen.insert(key));
            left = Some((found.known.engine, found.entries));
            journal = Some(found.journal);
        }
        let now = clock.now();
        let journal_since = left.as_ref().filter(|(_, entries)| !entries.is_empty()).map(|_| now);
        let sender = |config: IntakeConfig| {
            let bucket = Mutex::new(Bucket::new(config.events_per_second, now));
            Sender { config, bucket, counts: Counts::default() }
        };
        let hiding = Hiding::new(vault, random);
        let waiting = VecDeque::new();
        Ok(Intake {
            senders: senders.into_iter().map(sender).collect(),
            unknown: AtomicU64::new(0),
            turns: Arc::new(tokio::sync::Semaphore::new(BODIES_AT_ONCE_MAX)),
            work: Mutex::new(Work { in_force: None, seen, waiting, hiding, journal, journal_since, left }),
            token_key,
            releases,
            live,
            ledger,
            control,
            clock,
        })
    }

    /// May anybody send?
    pub(crate) fn has_senders(&self) -> bool {
        !self.senders.is_empty()
    }

    /// Whose token this is. All are compared, so that time tells nothing.
    pub(crate) fn authenticate(&self, bearer: &str) -> Option<&Sender> {
        let digest = Digest::sha256(bearer.as_bytes());
        let mut found = None;
        for sender in &self.senders {
            for known in &sender.config.token_sha256 {
                if bool::from(known.as_bytes().ct_eq(digest.as_bytes())) {
                    found = Some(sender);
                }
            }
        }
        if found.is_none() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// A sender by its name.
    pub(crate) fn sender(&self, name: &str) -> Option<&Sender> {
        self.senders.iter().find(|sender| sender.config.name == name)
    }

    /// Notes that somebody came without a token.
    pub(crate) fn note_unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    /// A sender's turn, if it may send now and there is one.
    pub(crate) fn turn(&self, sender: &Sender) -> Result<tokio::sync::OwnedSemaphorePermit, Busy> {
        let look = sender.bucket().look(self.clock.now()).map_err(Busy::Rate);
        let turn = look.and_then(|()| Arc::clone(&self.turns).try_acquire_owned().map_err(|_| Busy::Turns));
        turn.inspect_err(|_| {
            sender.counts.throttled.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// Takes a plain body in: all that the module says. Blocks.
    pub(crate) fn take(
        &self,
        sender: &Sender,
        body: Vec<u8>,
        members: BTreeMap<String, String>,
    ) -> Result<Taken, TakeError> {
        let weight = (body.len() as u64).div_ceil(BYTES_PER_EVENT).max(1);
        let taken = self.take_now(sender, body, members);
        let (counts, add) = (&sender.counts, |count: &AtomicU64, number| {
            count.fetch_add(number, Ordering::Relaxed);
        });
        match &taken {
            Ok(taken) => {
                add(&counts.bodies, 1);
                add(&counts.events, taken.events);
                add(&counts.repeated, taken.repeated);
                add(&counts.alerts, taken.alerts);
            }
            Err(TakeError::Body(_) | TakeError::Source(_)) => add(&counts.malformed, 1),
            Err(_) => add(&counts.failed, 1),
        }
        sender.bucket().take(weight.max(taken.as_ref().map_or(0, |taken| taken.events)));
        taken
    }

    /// A body was refused before it was tried to take it in.
    pub(crate) fn note_malformed(&self, sender: &Sender, len: usize) {
        sender.counts.malformed.fetch_add(1, Ordering::Relaxed);
        sender.bucket().take((len as u64).div_ceil(BYTES_PER_EVENT).max(1));
    }

    fn take_now(&self, sender: &Sender, body: Vec<u8>, members: BTreeMap<String, String>) -> Result<Taken, TakeError> {
        let mut work = self.lock();
        // 0. What was left over goes first.
        let release = self.follow_release(&mut work)?;
        self.record(&mut work)?;
        let head = Head {
            release,
            intake: sender.config.name.clone(),
            source: sender.config.source.clone(),
            received_ns: self.clock.now().nanos(),
            members,
        };
        self.try_body(&mut work, Entry { head, body }, true)
    }

    /// Steps 1 to 4 of the module's order, with the rules that are loaded. `is_new`: not out of the journal.
    fn try_body(&self, work: &mut Work, entry: Entry, is_new: bool) -> Result<Taken, TakeError> {
        let Entry { head, body } = entry;
        let in_force = work.in_force.as_mut().ok_or(TakeError::NoRelease)?;
        // 1.
        let source = in_force.judge.source(&head.source)?;
        let events = body::read(&source, &body, &head.members, head.received_ns)?;
        let mut fresh = Vec::new();
        let mut names = HashSet::new();
        let of_body = std::cell::OnceCell::new();
        for (number, event) in events.iter().enumerate() {
            let id = source.foreign_id(event);
            let name = match &id {
                Some(id) => id.clone(),
                None => {
                    let body =
                        of_body.get_or_init(|| token(&self.token_key, NAME_CLASS, &String::from_utf8_lossy(&body)));
                    format!("{body}/{number}")
                }
            };
            let key = key(&head.intake, id.is_some(), &name);
            if !work.seen.keys.contains(&key) && names.insert(key) {
                fresh.push((event, id, name, key));
            }
        }
        let mut taken = Taken { events: events.len() as u64, repeated: (events.len() - fresh.len()) as u64, alerts: 0 };
        // 2.
        if is_new
            && !fresh.is_empty()
            && in_force.judge.remembers(&head.source)
            && let Some(journal) = &mut work.journal
        {
            journal.append(&head, &body)?;
            work.journal_since.get_or_insert(Timestamp::from_nanos(head.received_ns));
        }
        // 3. and 4., in turns, so that what waits is bounded.
        for (event, id, name, key) in fresh {
            let in_force = work.in_force.as_mut().ok_or(TakeError::NoRelease)?;
            let alerts = in_force.judge.judge(event);
            let origin = Origin { intake: &head.intake, id: id.as_deref(), name: &name };
            let release = in_force.release;
            let found = alerts.iter().map(|alert| finding::finding(alert, &source, &in_force.more, origin, release));
            taken.alerts += alerts.len() as u64;
            if is_new {
                work.waiting.extend(found);
            } else {
                // Most were recorded before the end. The others wait, and nothing stops the events behind them from being known.
                let stream = self.control.stream();
                work.waiting.extend(found.filter(|it| self.ledger.foreign(&stream, &it.foreignid).is_none()));
            }
            work.seen.insert(key);
            if is_new && work.waiting.len() >= ALERTS_AT_ONCE_MAX {
                self.record(work)?;
            }
        }
        if is_new {
            self.record(work)?;
        }
        Ok(taken)
    }

    /// Rules of the release in force, and with the first of them what the last run knew.
    fn follow_release(&self, work: &mut Work) -> Result<ReleaseRef, TakeError> {
        let release = self.live.read().last_promoted().ok_or(TakeError::NoRelease)?;
        if let Some((engine, entries)) = work.left.take() {
            // Before the first body its release, since what is known of rules that it has not would be lost.
            let first = entries.first().map_or(release, |entry| entry.head.release);
            let loaded = self.load(work, first).or_else(|_| self.load(work, release));
            if let Err(error) = loaded {
                work.left = Some((engine, entries));
                return Err(error);
            }
            if let Some(in_force) = &mut work.in_force
                && !engine.is_empty()
                && let Err(error) = in_force.judge.restore(&engine)
            {
                tracing::warn!(%error, "what intake rules knew cannot be read: they begin anew");
            }
            for entry in entries {
                self.try_again(work, entry);
            }
        }
        self.load(work, release)?;
        Ok(release)
    }

    /// A body out of the journal. What it says was said before, or could not be: that it fails now stops nothing.
    fn try_again(&self, work: &mut Work, entry: Entry) {
        // A release that cannot be read any more gives way to the one that is loaded.
        if let Err(error) = self.load(work, entry.head.release) {
            tracing::warn!(error = one_line(&error), "a body is tried on the rules of another release");
        }
        if let Err(error) = self.try_body(work, entry, false) {
            tracing::warn!(error = one_line(&error), "a body cannot be tried again");
        }
    }

    fn load(&self, work: &mut Work, release: ReleaseRef) -> Result<(), TakeError> {
        if work.in_force.as_ref().is_some_and(|in_force| in_force.release == release) {
            return Ok(());
        }
        let rules::Loaded { rules, more } = rules::load(&self.releases, release)?;
        match &mut work.in_force {
            Some(in_force) => {
                in_force.judge.replace_rules(rules);
                (in_force.release, in_force.more) = (release, more);
            }
            none => *none = Some(InForce { release, judge: Judge::new(rules), more }),
        }
        Ok(())
    }

    /// Appends what waits. After an error it still waits.
    fn record(&self, work: &mut Work) -> Result<(), TakeError> {
        while !work.waiting.is_empty() {
            let stream = self.control.stream();
            let count = work.waiting.len().min(ALERTS_AT_ONCE_MAX);
            let part = &mut work.waiting.make_contiguous()[..count];
            work.hiding.hide(part, &self.control, &self.ledger, self.clock.now())?;
            let missing = |finding: &&Finding| self.ledger.foreign(&stream, &finding.foreignid).is_none();
            let draft = |finding: &Finding| finding.draft.clone().foreignid(finding.foreignid.clone());
            let drafts: Vec<_> = part.iter().filter(missing).map(draft).collect();
            let recorded = if drafts.is_empty() { Ok(()) } else { self.control.append(drafts).map(drop) };
            match recorded {
                Ok(()) => {}
                // One of them makes no record. The others must not go with it.
                Err(ControlError::Seal(_) | ControlError::Rejected { .. }) => {
                    for finding in part.iter() {
                        if missing(&finding) {
                            self.record_one(draft(finding))?;
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            }
            work.waiting.drain(..count);
        }
        Ok(())
    }

    fn record_one(&self, draft: cairn_schemas::record::Draft) -> Result<(), TakeError> {
        match self.control.append(vec![draft]) {
            Err(error @ (ControlError::Seal(_) | ControlError::Rejected { .. })) => {
                tracing::error!(error = one_line(&error), "an alert makes no record");
                Ok(())
            }
            other => Ok(other.map(drop)?),
        }
    }

    /// What is due without anybody sending: what the last run left, alerts that wait, bodies that were kept for long enough. Called now and
    /// then by a thread of the control plane.
    pub(crate) fn tick(&self) -> Result<(), TakeError> {
        let mut work = self.lock();
        match self.follow_release(&mut work) {
            Err(TakeError::NoRelease) => return Ok(()),
            followed => followed?,
        };
        self.record(&mut work)?;
        let len = work.journal.as_ref().map_or(0, Journal::len);
        let age = work.journal_since.map_or(Duration::ZERO, |since| self.clock.now().since(since));
        if len > JOURNAL_LEN_MAX || age >= JOURNAL_TIME_MAX {
            self.keep(&mut work)?;
        }
        Ok(())
    }

    /// The end: what is known is written down.
    pub(crate) fn close(&self) -> Result<(), TakeError> {
        let mut work = self.lock();
        self.record(&mut work)?;
        self.keep(&mut work)
    }

    /// Puts what is known in the place of the journal's bodies. Nothing waits then: what waits is in no snapshot.
    fn keep(&self, work: &mut Work) -> Result<(), TakeError> {
        let (Some(in_force), Some(journal), None) = (&work.in_force, &mut work.journal, &work.left) else {
            return Ok(());
        };
        let known = Known { seen: work.seen.order.iter().copied().collect(), engine: in_force.judge.snapshot() };
        journal.replace(&known)?;
        work.journal_since = None;
        Ok(())
    }

    /// What came from each sender since the start, and how many requests from nobody who may send.
    pub(crate) fn counts(&self) -> (Vec<IntakeCounts>, u64) {
        (self.senders.iter().map(Sender::counts).collect(), self.unknown.load(Ordering::Relaxed))
    }

    /// A panic while a body was worked on leaves rules that know of part of it; the body was not acknowledged, and what of it was seen is not
    /// tried again.
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// The one source that it may send.
    pub(crate) fn source(&self) -> &str {
        &self.config.source
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> IntakeCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        IntakeCounts {
            intake: self.config.name.clone(),
            source: self.config.source.clone(),
            bodies: of(&counts.bodies),
            events: of(&counts.events),
            repeated: of(&counts.repeated),
            alerts: of(&counts.alerts),
            malformed: of(&counts.malformed),
            throttled: of(&counts.throttled),
            failed: of(&counts.failed),
        }
    }
}

fn key(intake: &str, has_id: bool, name: &str) -> Key {
    let text = serde_json::json!([intake, has_id, name]).to_string();
    let digest = Digest::sha256(text.as_bytes());
    *digest.as_bytes().first_chunk().expect("invariant: a digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_bounded() {
        let mut seen = Seen::default();
        let key = |number: usize| key("prod", true, &number.to_string());
        (0..SEEN_MAX).for_each(|number| seen.insert(key(number)));
        seen.insert(key(0));
        assert!(seen.keys.contains(&key(0)), "at the limit");
        seen.insert(key(SEEN_MAX));
        assert!(!seen.keys.contains(&key(0)) && seen.keys.contains(&key(1)), "one past it the first one goes");
        assert_eq!((seen.keys.len(), seen.order.len()), (SEEN_MAX, SEEN_MAX));
    }
}
