//! The time that windows are measured in: that of the events, made to go forward only.
//!
//! Events of several CPUs, or of an audit log that is delivered in pieces, come a little out of order: what comes late counts as if it
//! happened now. A clock that is set back further than that goes on from where it is: windows lose nothing and gain nothing. A clock that
//! is set forward cannot be told from a machine that slept, and is believed.

use crate::event::{Event, EventKind};

/// How late a kernel event may come and still be of the same clock.
pub(crate) const LATE_MAX_NS: u64 = 10_000_000_000;
/// The same for documents: audit logs are delivered in pieces.
pub(crate) const DOCUMENT_LATE_MAX_NS: u64 = 3_600_000_000_000;

/// One source's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// What it shows, in nanoseconds; where it began is the first event's time.
    now: u64,
    /// The latest event's time, in nanoseconds since the epoch.
    latest_ns: u64,
    has_begun: bool,
}

impl Clock {
    /// A clock that shows `now` while the events' time is `latest_ns`.
    pub(crate) fn resumed(now: u64, latest_ns: u64) -> Self {
        Self { now, latest_ns, has_begun: true }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn latest_ns(&self) -> u64 {
        self.latest_ns
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// An event happens.
    pub(crate) fn take(&mut self, event: &Event) {
        let late_max = match event.kind {
            EventKind::Document(_) => DOCUMENT_LATE_MAX_NS,
            _ => LATE_MAX_NS,
        };
        self.advance(event.time_ns, late_max);
    }

    fn advance(&mut self, time_ns: u64, late_max_ns: u64) {
        if !self.has_begun {
            *self = Self::resumed(time_ns, time_ns);
        } else if time_ns >= self.latest_ns {
            // Saturates: a clock at its end makes windows that never close, and nothing worse.
            self.now = self.now.saturating_add(time_ns - self.latest_ns);
            self.latest_ns = time_ns;
        } else if self.latest_ns - time_ns > late_max_ns {
            self.latest_ns = time_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let mut clock = Clock::default();
        let mut at = |time_ns: u64| {
            clock.advance(time_ns, 10);
            clock.now()
        };
        assert_eq!(at(1_000), 1_000);
        assert_eq!(at(1_005), 1_005);
        assert_eq!(at(995), 1_005, "late, within bounds");
        assert_eq!(at(1_006), 1_006, "as if nothing had been late");
        assert_eq!(at(500), 1_006, "set back");
        assert_eq!(at(504), 1_010, "and going on from there");
        assert_eq!(at(2_000), 2_506, "set forward");
        assert_eq!(at(u64::MAX), u64::MAX, "no overflow");
    }
}
