//! `spike`: more events of a key in a stretch of time than the stretches before it had on average.
//!
//! Time is cut into stretches of equal length (`every`), counted from the epoch. The average is that of the whole stretches of the baseline
//! before the present one; stretches in which nothing happened count as what they are, so that a key never seen before has an average of 0.
//! All arithmetic is exact.

use std::collections::VecDeque;

use super::table::Kept;

/// More events in a stretch are not counted: one a nanosecond is more than there can be. Sums of these do not overflow.
pub(super) const COUNT_MAX: u64 = 1 << 48;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spike {
    pub(crate) every_ns: u64,
    /// Stretches of the baseline.
    pub(crate) stretches: u64,
    /// In thousandths.
    pub(crate) factor_milli: u64,
    pub(crate) at_least: u64,
}

/// What is known of a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stretches {
    /// By number, ascending, how many events; those without are left out. The last may be the present one.
    pub(crate) counts: VecDeque<(u64, u64)>,
    /// The stretch it alerted in last, and when that stretch's first event happened.
    pub(super) alerted: Option<u64>,
    pub(super) first_ns: u64,
}

/// What is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spiked {
    /// In the present stretch, this one included.
    pub(crate) count: u64,
    /// The average, in thousandths, rounded down.
    pub(crate) baseline_milli: u64,
    /// When the present stretch's first event happened.
    pub(crate) first_ns: u64,
}

impl Kept for Stretches {
    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<(u64, u64)>()
    }
}

impl Stretches {
    /// One event. `is_warm`: a whole baseline was watched.
    pub(crate) fn event(&mut self, asked: Spike, now: u64, time_ns: u64, is_warm: bool) -> Option<Spiked> {
        let present = now / asked.every_ns;
        // Time never goes back here; a snapshot that was damaged may say otherwise, and the next one has to be readable again.
        while self.counts.back().is_some_and(|(stretch, _)| *stretch > present) {
            self.counts.pop_back();
        }
        match self.counts.back_mut() {
            Some((stretch, count)) if *stretch == present => *count = (*count + 1).min(COUNT_MAX),
            _ => {
                self.counts.push_back((present, 1));
                self.first_ns = time_ns;
            }
        }
        while self.counts.front().is_some_and(|(stretch, _)| present.saturating_sub(*stretch) > asked.stretches) {
            self.counts.pop_front();
        }
        let count = self.counts.back().map_or(0, |(_, count)| *count);
        let before: u64 = self.counts.iter().map(|(_, count)| count).sum::<u64>() - count;
        let is_above = u128::from(count) * u128::from(asked.stretches) * 1_000
            > u128::from(before) * u128::from(asked.factor_milli);
        if !is_warm || count < asked.at_least || !is_above || self.alerted == Some(present) {
            return None;
        }
        self.alerted = Some(present);
        let baseline_milli = before.saturating_mul(1_000) / asked.stretches;
        Some(Spiked { count, baseline_milli, first_ns: self.first_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Spike = Spike { every_ns: 10, stretches: 4, factor_milli: 2_500, at_least: 3 };

    #[test]
    fn more_than_the_average() {
        let mut stretches = Stretches::default();
        // Two in each of the four stretches before: an average of 2, and 5 is not more than 2.5 times that.
        for now in [0, 5, 10, 15, 20, 25, 30, 35] {
            assert_eq!(stretches.event(ASKED, now, now, true), None);
        }
        for now in 40..45 {
            assert_eq!(stretches.event(ASKED, now, now, true), None);
        }
        let spiked = stretches.event(ASKED, 45, 45, true);
        assert_eq!(spiked, Some(Spiked { count: 6, baseline_milli: 2_000, first_ns: 40 }));
        assert_eq!(stretches.event(ASKED, 46, 46, true), None, "once in a stretch");
        // What was a spike is part of the average of what follows.
        (50..53).for_each(|now| assert_eq!(stretches.event(ASKED, now, now, true), None));
    }

    #[test]
    fn a_key_never_seen_before_has_an_average_of_nothing() {
        let mut stretches = Stretches::default();
        assert_eq!(stretches.event(ASKED, 100, 100, true), None);
        assert_eq!(stretches.event(ASKED, 101, 101, true), None, "at least three");
        assert!(stretches.event(ASKED, 102, 102, true).is_some());
        let mut cold = Stretches::default();
        (100..109).for_each(|now| assert_eq!(cold.event(ASKED, now, now, false), None));
    }

    #[test]
    fn what_cannot_have_happened_yet_is_forgotten() {
        let mut stretches = Stretches { counts: VecDeque::from([(1, 2), (9, COUNT_MAX)]), ..Stretches::default() };
        assert_eq!(stretches.event(ASKED, 21, 21, false), None);
        assert_eq!(stretches.counts, [(1, 2), (2, 1)]);
        let mut full = Stretches { counts: VecDeque::from([(2, COUNT_MAX)]), ..Stretches::default() };
        assert!(full.event(ASKED, 21, 21, true).is_some());
        assert_eq!(full.counts, [(2, COUNT_MAX)]);
    }

    #[test]
    fn stretches_before_the_baseline_do_not_count() {
        let mut stretches = Stretches::default();
        (0..9).for_each(|now| assert_eq!(stretches.event(ASKED, now, now, false), None));
        (40..49).for_each(|now| assert_eq!(stretches.event(ASKED, now, now, true).is_some(), now == 45, "{now}"));
        let mut later = Stretches::default();
        (0..9).for_each(|now| assert_eq!(later.event(ASKED, now, now, false), None));
        (50..53).for_each(|now| assert_eq!(later.event(ASKED, now, now, true).is_some(), now == 52, "{now}"));
    }
}
