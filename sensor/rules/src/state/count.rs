//! `count`: more than so many events of a key in a window that slides with them.
//!
//! Exact with little memory: whether more than N events lie in the window is known from the latest N + 1 times, and whether more than N
//! different values do, from the N + 1 values seen last. Once it has alerted a key is silent until a whole window has passed.

use std::collections::VecDeque;

use super::table::Kept;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) within_ns: u64,
    pub(crate) above: usize,
}

/// What is known of a key.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The latest events, the oldest first; each with its value when different values count.
    pub(super) events: VecDeque<Moment>,
    /// Bytes of the values.
    value_bytes: usize,
    pub(super) alerted: Option<u64>,
    /// Events since it alerted, or since it is known.
    pub(super) total: u64,
}

#[derive(Debug)]
pub(super) struct Moment {
    pub(super) now: u64,
    pub(super) time_ns: u64,
    pub(super) value: Box<[u8]>,
}

/// What is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// In the window, this one included.
    pub(crate) count: u64,
    /// Since the last alert, this one included.
    pub(crate) total: u64,
    /// When the oldest that counts happened.
    pub(crate) first_ns: u64,
}

impl Kept for Seen {
    fn bytes(&self) -> usize {
        self.events.capacity() * size_of::<Moment>() + self.value_bytes
    }
}

impl Seen {
    /// One event, with its value when different values count.
    pub(crate) fn event(&mut self, asked: Count, now: u64, time_ns: u64, value: Option<&[u8]>) -> Option<Counted> {
        self.total = self.total.saturating_add(1);
        let value: Box<[u8]> = match value {
            // Seen again, a value is the newest; its earlier time no longer matters.
            Some(value) => match self.events.iter().position(|moment| *moment.value == *value) {
                Some(place) => self.forget(place).unwrap_or_default(),
                None => value.into(),
            },
            None => Box::default(),
        };
        self.push(now, time_ns, value);
        while self.events.len() > asked.above + 1 || self.oldest().is_some_and(|old| now - old > asked.within_ns) {
            self.forget(0);
        }
        if self.events.len() <= asked.above || self.alerted.is_some_and(|last| now - last <= asked.within_ns) {
            return None;
        }
        self.alerted = Some(now);
        let first_ns = self.events.front().map_or(time_ns, |first| first.time_ns);
        Some(Counted { count: self.events.len() as u64, total: std::mem::take(&mut self.total), first_ns })
    }

    /// The newest event of those in the window.
    pub(super) fn push(&mut self, now: u64, time_ns: u64, value: Box<[u8]>) {
        self.value_bytes += value.len();
        self.events.push_back(Moment { now, time_ns, value });
    }

    fn oldest(&self) -> Option<u64> {
        self.events.front().map(|moment| moment.now)
    }

    fn forget(&mut self, place: usize) -> Option<Box<[u8]>> {
        let moment = self.events.remove(place)?;
        self.value_bytes -= moment.value.len();
        Some(moment.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these events alert, by time.
    fn alerts(asked: Count, events: &[(u64, Option<&str>)]) -> Vec<u64> {
        let mut seen = Seen::default();
        let mut alerts = Vec::new();
        for (now, value) in events {
            if seen.event(asked, *now, *now, value.map(str::as_bytes)).is_some() {
                alerts.push(*now);
            }
        }
        alerts
    }

    #[test]
    fn the_window_slides() {
        let asked = Count { within_ns: 10, above: 2 };
        assert_eq!(alerts(asked, &[(0, None), (1, None), (2, None)]), [2]);
        assert_eq!(alerts(asked, &[(0, None), (1, None), (10, None)]), [10], "the window's end is in it");
        assert_eq!(alerts(asked, &[(0, None), (1, None), (11, None), (11, None)]), [11]);
        assert_eq!(alerts(asked, &[(0, None), (5, None), (11, None), (16, None), (22, None)]), [0; 0]);
        assert_eq!(alerts(Count { within_ns: 10, above: 0 }, &[(0, None), (5, None), (10, None), (11, None)]), [0, 11]);
    }

    #[test]
    fn an_attack_that_lasts_alerts_once_a_window() {
        let every: Vec<(u64, Option<&str>)> = (0..40).map(|now| (now, None)).collect();
        assert_eq!(alerts(Count { within_ns: 10, above: 2 }, &every), [2, 13, 24, 35]);
    }

    #[test]
    fn different_values() {
        let asked = Count { within_ns: 10, above: 1 };
        assert_eq!(alerts(asked, &[(0, Some("a")), (1, Some("a")), (2, Some("a"))]), [0; 0]);
        assert_eq!(alerts(asked, &[(0, Some("a")), (5, Some("b"))]), [5]);
        assert_eq!(alerts(asked, &[(0, Some("a")), (11, Some("b"))]), [0; 0]);
        assert_eq!(alerts(asked, &[(0, Some("a")), (9, Some("a")), (18, Some("b"))]), [18], "seen last at 9");
    }

    #[test]
    fn what_is_said() {
        let mut seen = Seen::default();
        let asked = Count { within_ns: 10, above: 1 };
        assert_eq!(seen.event(asked, 1, 101, None), None);
        assert_eq!(seen.event(asked, 2, 102, None), Some(Counted { count: 2, total: 2, first_ns: 101 }));
        (3..13).for_each(|now| assert_eq!(seen.event(asked, now, 100 + now, None), None));
        assert_eq!(seen.event(asked, 13, 113, None), Some(Counted { count: 2, total: 11, first_ns: 112 }));
    }
}
