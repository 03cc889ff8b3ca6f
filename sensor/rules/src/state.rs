//! Conditions over more than one event: what a rule's `cairn:` key asks for (`RULES.md`, "More than one event").
//!
//! A rule's condition says which events count; what is kept here says whether one of them makes an alert. The engine asks once for each event
//! a condition holds for ([`State::judge`]), and tells of the first events of sequences ([`State::first`]).
//!
//! Pure, and exact within its bounds: each rule has its share of keys and bytes, so that a flood of keys in one rule takes nothing from
//! another. What does not fit goes, the key touched longest ago first, and is counted ([`StateStats`]). Time is the events' own
//! ([`clock`]).

mod clock;
pub(crate) mod count;
pub(crate) mod fields;
pub(crate) mod first_seen;
mod key;
pub(crate) mod sequence;
mod snapshot;
pub(crate) mod spike;
mod table;

use std::collections::HashMap;

use serde::Serialize;

use crate::compile::{Reader, TypeSet};
use crate::engine::{Context, Limits};
use crate::event::{Event, EventKind, SYSCALL};
use crate::fields::FieldValue;
use crate::limits::STATE_RULE_BYTES_MAX;
use crate::rule_set::{Rule, RuleSet};

use clock::Clock;
use count::{Count, Seen};
use fields::Shape;
use first_seen::{FirstSeen, Known};
use sequence::{First, Sequence};
pub use snapshot::SnapshotError;
use spike::{Spike, Stretches};
use table::{Bounds, Table};

/// What a rule's `cairn:` key asks for, ready to be tried.
#[derive(Debug)]
pub(crate) struct Stateful {
    /// What tells events apart.
    pub(crate) by: Box<[Reader]>,
    pub(crate) what: What,
    /// Fields of a sequence's first event that the output shows, by name.
    pub(crate) shown: Box<[(String, Reader)]>,
    /// The key in canonical form. Rules of one name and form share what is known, whatever else of them has changed.
    pub(crate) text: String,
}

/// The four kinds.
#[derive(Debug)]
pub(crate) enum What {
    Count(Count, Option<Reader>),
    Spike(Spike),
    FirstSeen(FirstSeen),
    Sequence(Sequence),
}

/// What an alert says of the events before it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) count: Option<u64>,
    pub(crate) total: Option<u64>,
    pub(crate) window_ns: Option<u64>,
    pub(crate) baseline_milli: Option<u64>,
    pub(crate) first_time_ns: Option<u64>,
    /// Fields of a sequence's first event, by name without `cairn.first.`.
    pub(crate) first: Vec<(String, FieldValue)>,
}

/// What the rules that look at more than one event hold, and what they lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StateStats {
    /// Keys of all rules.
    pub keys: usize,
    /// Bytes they take, about.
    pub bytes: usize,
    /// Keys that went for want of room: what was known of them is lost.
    pub evicted: u64,
}

/// What is known of each rule's events.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By rule, in the order of the rule set; nothing for rules that look at one event.
    rules: Vec<Option<Watched>>,
    kernel: Clock,
    /// Of sources of documents that rules want.
    documents: HashMap<String, Clock>,
    /// Evictions of rules that are gone.
    evicted_before: u64,
    key: Vec<u8>,
}

/// What is known of one rule's events.
#[derive(Debug)]
struct Watched {
    /// The rule's name.
    name: String,
    source: String,
    /// [`Stateful::text`].
    text: String,
    /// What its source's clock showed when the rule began to be watched; nothing before the first event.
    since: Option<u64>,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Count(Table<Seen>),
    Spike(Table<Stretches>),
    FirstSeen(Table<Known>),
    Sequence(Table<First>),
}

impl Stateful {
    /// The event types that a sequence's first event can have.
    pub(crate) fn first_types(&self) -> Option<&TypeSet> {
        match &self.what {
            What::Sequence(asked) => Some(&asked.types),
            _ => None,
        }
    }
}

impl What {
    /// As far as an output's fields care.
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Count(..) => Shape::Count,
            Self::Spike(_) => Shape::Spike,
            Self::FirstSeen(_) => Shape::FirstSeen,
            Self::Sequence(_) => Shape::Sequence,
        }
    }

    /// An entry that was not touched for longer is as good as none.
    fn keep_ns(&self) -> u64 {
        match self {
            Self::Count(asked, _) => asked.within_ns,
            Self::Spike(asked) => asked.every_ns.saturating_mul(asked.stretches + 1),
            Self::FirstSeen(asked) => asked.forget_ns,
            Self::Sequence(asked) => asked.within_ns,
        }
    }
}

impl Keys {
    fn new(what: &What, bounds: Bounds) -> Self {
        match what {
            What::Count(..) => Self::Count(Table::new(bounds)),
            What::Spike(_) => Self::Spike(Table::new(bounds)),
            What::FirstSeen(_) => Self::FirstSeen(Table::new(bounds)),
            What::Sequence(_) => Self::Sequence(Table::new(bounds)),
        }
    }

    fn set_bounds(&mut self, bounds: Bounds) {
        match self {
            Self::Count(table) => table.set_bounds(bounds),
            Self::Spike(table) => table.set_bounds(bounds),
            Self::FirstSeen(table) => table.set_bounds(bounds),
            Self::Sequence(table) => table.set_bounds(bounds),
        }
    }

    fn stats(&self) -> StateStats {
        let (keys, bytes, evicted) = match self {
            Self::Count(table) => (table.len(), table.bytes(), table.evicted()),
            Self::Spike(table) => (table.len(), table.bytes(), table.evicted()),
            Self::FirstSeen(table) => (table.len(), table.bytes(), table.evicted()),
            Self::Sequence(table) => (table.len(), table.bytes(), table.evicted()),
        };
        StateStats { keys, bytes, evicted }
    }
}

impl State {
    /// Other rules from now on. What is known stays for rules whose name, source and `cairn:` key are as before: a condition that is
    /// tuned need not be learned anew.
    pub(crate) fn replace(&mut self, rules: &RuleSet, limits: &Limits) {
        let mut before: HashMap<(String, String), Watched> = std::mem::take(&mut self.rules)
            .into_iter()
            .flatten()
            .map(|watched| ((watched.name.clone(), watched.text.clone()), watched))
            .collect();
        let count = rules.rules().iter().filter(|rule| rule.stateful.is_some()).count();
        let bytes_max = (limits.state_bytes_max / count.max(1)).min(STATE_RULE_BYTES_MAX);
        let (kernel, documents) = (self.kernel, &self.documents);
        let watched = |rule: &Rule| {
            let clock = if rule.source == SYSCALL { Some(&kernel) } else { documents.get(&rule.source) };
            let stateful = rule.stateful.as_deref()?;
            let bounds = Bounds { keys_max: limits.state_keys_max, bytes_max, keep_ns: stateful.what.keep_ns() };
            let known = before.remove(&(rule.name.clone(), stateful.text.clone()));
            match known.filter(|known| known.source == rule.source) {
                Some(mut known) => {
                    known.keys.set_bounds(bounds);
                    Some(known)
                }
                None => Some(Watched {
                    name: rule.name.clone(),
                    source: rule.source.clone(),
                    text: stateful.text.clone(),
                    since: clock.filter(|clock| clock.has_begun()).map(Clock::now),
                    keys: Keys::new(&stateful.what, bounds),
                }),
            }
        };
        self.rules = rules.rules().iter().map(watched).collect();
        self.evicted_before += before.values().map(|gone| gone.keys.stats().evicted).sum::<u64>();
        let wanted = |source: &str| self.rules.iter().flatten().any(|watched| watched.source == source);
        self.documents.retain(|source, _| wanted(source));
        for watched in self.rules.iter().flatten().filter(|watched| watched.source != SYSCALL) {
            self.documents.entry(watched.source.clone()).or_default();
        }
    }

    pub(crate) fn stats(&self) -> StateStats {
        let start = StateStats { evicted: self.evicted_before, ..StateStats::default() };
        self.rules.iter().flatten().map(|watched| watched.keys.stats()).fold(start, |sum, one| StateStats {
            keys: sum.keys + one.keys,
            bytes: sum.bytes + one.bytes,
            evicted: sum.evicted + one.evicted,
        })
    }

    /// An event happens, whoever it concerns.
    pub(crate) fn tick(&mut self, event: &Event) {
        let (clock, source) = match &event.kind {
            EventKind::Document(document) => match self.documents.get_mut(&document.source) {
                Some(clock) => (clock, document.source.as_str()),
                None => return,
            },
            _ => (&mut self.kernel, SYSCALL),
        };
        let begins = !clock.has_begun();
        clock.take(event);
        if begins {
            let now = clock.now();
            let of_source = self.rules.iter_mut().flatten().filter(|watched| watched.source == source);
            of_source.for_each(|watched| watched.since = watched.since.or(Some(now)));
        }
    }

    fn now(&self, event: &Event) -> u64 {
        match &event.kind {
            EventKind::Document(document) => self.documents.get(&document.source).map_or(0, Clock::now),
            _ => self.kernel.now(),
        }
    }

    /// The rule's condition holds for the event. Is that an alert, and what is there to say?
    pub(crate) fn judge(&mut self, rule: u32, stateful: &Stateful, context: &Context<'_>) -> Option<Found> {
        let now = self.now(context.event);
        let time_ns = context.event.time_ns;
        let is_whole = self.read_key(stateful.by.iter(), context);
        let watched = self.rules.get_mut(rule as usize)?.as_mut()?;
        let since = *watched.since.get_or_insert(now);
        let key = self.key.as_slice();
        match (&mut watched.keys, &stateful.what) {
            (Keys::Count(table), What::Count(asked, distinct)) => {
                let mut value = Vec::new();
                if let Some(distinct) = distinct
                    && !key::push(&mut value, distinct, context)
                {
                    return None;
                }
                let value = distinct.is_some().then_some(value.as_slice());
                let counted = table.update(key, now, |seen| seen.event(*asked, now, time_ns, value))?;
                Some(Found {
                    count: Some(counted.count),
                    total: Some(counted.total),
                    window_ns: Some(asked.within_ns),
                    first_time_ns: Some(counted.first_ns),
                    ..Found::default()
                })
            }
            (Keys::Spike(table), What::Spike(asked)) => {
                let is_warm = now - since >= asked.every_ns.saturating_mul(asked.stretches);
                let spiked = table.update(key, now, |stretches| stretches.event(*asked, now, time_ns, is_warm))?;
                Some(Found {
                    count: Some(spiked.count),
                    window_ns: Some(asked.every_ns),
                    baseline_milli: Some(spiked.baseline_milli),
                    first_time_ns: Some(spiked.first_ns),
                    ..Found::default()
                })
            }
            (Keys::FirstSeen(table), What::FirstSeen(asked)) => {
                let is_new = table.update(key, now, Known::event);
                (is_new && now - since >= asked.learn_ns).then(Found::default)
            }
            (Keys::Sequence(table), What::Sequence(asked)) if is_whole => {
                let first = table.take(key, now)?;
                let names = stateful.shown.iter().map(|(name, _)| name.clone());
                Some(Found {
                    window_ns: Some(asked.within_ns),
                    first_time_ns: Some(first.time_ns),
                    first: names.zip(first.fields).collect(),
                    ..Found::default()
                })
            }
            _ => None,
        }
    }

    /// The condition of a sequence's first event holds.
    pub(crate) fn first(&mut self, rule: u32, stateful: &Stateful, context: &Context<'_>) {
        let What::Sequence(asked) = &stateful.what else { return };
        let now = self.now(context.event);
        if !self.read_key(asked.by.iter(), context) {
            return;
        }
        let Some(Some(Watched { keys: Keys::Sequence(table), .. })) = self.rules.get_mut(rule as usize) else { return };
        let read = |(_, reader): &(String, Reader)| {
            sequence::kept(reader.read(context).map_or(FieldValue::Absent, FieldValue::from))
        };
        let fields = stateful.shown.iter().map(read).collect();
        let first = First { time_ns: context.event.time_ns, fields };
        table.update(&self.key, now, |kept| *kept = first);
    }

    /// Reads the key of an event. False when a part of it is absent.
    fn read_key<'r>(&mut self, readers: impl Iterator<Item = &'r Reader>, context: &Context<'_>) -> bool {
        self.key.clear();
        let mut is_whole = true;
        for reader in readers {
            is_whole &= key::push(&mut self.key, reader, context);
        }
        is_whole
    }
}
