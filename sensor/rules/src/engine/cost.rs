//! What rules cost: how often each was tried, how far it came, what it did.
//!
//! Counted for every event: nothing here looks at a clock. Who wants nanoseconds hands a [`Stopwatch`] in, which is read on a sample of
//! the events only, since reading a clock costs more than most rules do.

use std::fmt;

/// What one rule cost since it was put in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct RuleCost {
    /// Events of its types.
    pub tried: u64,
    /// Of those, the ones that no check shared with other rules decided: its condition was tried further.
    pub reached: u64,
    /// Of those, the ones for which its condition held.
    pub held: u64,
    /// Units of work of its own: one each time it was reached, one more for each check that was made for it and not for a rule
    /// before it.
    pub work: u64,
    /// How many of the times it was reached were timed.
    pub timed: u64,
    /// What those took, in nanoseconds of the stopwatch.
    pub timed_ns: u64,
}

/// What a rule set cost since it was put in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Costs {
    /// Each rule by its name, in order of definition.
    pub rules: Vec<(String, RuleCost)>,
    /// Events that were timed.
    pub timed: u64,
    /// What checks shared by rules took of them, in nanoseconds of the stopwatch.
    pub shared_ns: u64,
}

/// A clock, to be read on one of so many events.
pub struct Stopwatch {
    /// Every how many events; 1 for each, 0 for none.
    pub every: u32,
    /// Nanoseconds since any moment that stays the same.
    pub now_ns: Box<dyn Fn() -> u64 + Send>,
}

impl fmt::Debug for Stopwatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stopwatch").field("every", &self.every).finish_non_exhaustive()
    }
}

/// The counters of one rule set.
#[derive(Debug, Default)]
pub(super) struct Book {
    rules: Vec<RuleCost>,
    /// By section of the program: all of its rules were tried as often.
    sections: Vec<u64>,
    timed: u64,
    shared_ns: u64,
    stopwatch: Option<Stopwatch>,
    /// Events until one is timed.
    countdown: u32,
    /// While one is: when the last thing ended.
    mark_ns: Option<u64>,
}

impl Book {
    pub(super) fn set_stopwatch(&mut self, stopwatch: Option<Stopwatch>) {
        self.countdown = 0;
        self.stopwatch = stopwatch;
    }

    /// All from the beginning, for other rules.
    pub(super) fn reset(&mut self, rules: usize, sections: usize) {
        self.rules = vec![RuleCost::default(); rules];
        self.sections = vec![0; sections];
        (self.timed, self.shared_ns) = (0, 0);
    }

    pub(super) fn begin(&mut self) {
        let Some(stopwatch) = self.stopwatch.as_ref().filter(|stopwatch| stopwatch.every > 0) else { return };
        self.mark_ns = None;
        if self.countdown == 0 {
            self.countdown = stopwatch.every;
            self.timed += 1;
            self.mark_ns = Some((stopwatch.now_ns)());
        }
        self.countdown -= 1;
    }

    /// Nanoseconds since the last mark, if this event is timed; and another mark.
    fn lap(&mut self) -> Option<u64> {
        let before = self.mark_ns?;
        let now = self.stopwatch.as_ref().map_or(before, |stopwatch| (stopwatch.now_ns)());
        self.mark_ns = Some(now);
        Some(now.saturating_sub(before))
    }

    pub(super) fn section_tried(&mut self, section: usize) {
        self.sections[section] += 1;
    }

    pub(super) fn rule_tried(&mut self, rule: u32) {
        self.rules[rule as usize].tried += 1;
    }

    pub(super) fn guards_passed(&mut self) {
        self.shared_ns += self.lap().unwrap_or_default();
    }

    pub(super) fn reached(&mut self, rule: u32, work: u64) {
        let lap = self.lap();
        let cost = &mut self.rules[rule as usize];
        cost.reached += 1;
        cost.work += work;
        if let Some(ns) = lap {
            cost.timed += 1;
            cost.timed_ns += ns;
        }
    }

    pub(super) fn held(&mut self, rule: u32) {
        self.rules[rule as usize].held += 1;
    }

    /// An alert was made: that is not the rule's condition.
    pub(super) fn skip(&mut self) {
        self.lap();
    }

    pub(super) fn costs<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        rules_of: impl Fn(usize) -> Vec<u32>,
    ) -> Costs {
        let mut rules = self.rules.clone();
        for (section, tried) in self.sections.iter().enumerate().filter(|(_, tried)| **tried > 0) {
            for rule in rules_of(section) {
                rules[rule as usize].tried += tried;
            }
        }
        let rules = names.map(str::to_owned).zip(rules).collect();
        Costs { rules, timed: self.timed, shared_ns: self.shared_ns }
    }
}
