//! How much a sender may send: a bucket that fills by so many units a second. Pure.
//!
//! A body is weighed when it was read, which is too late to refuse it: so it may overdraw the bucket, and whoever has overdrawn it waits
//! until it is level again. In the long run nobody gets more than the rate, and no batch is too large to be ever taken.

use std::time::Duration;

use cairn_schemas::time::Timestamp;

/// Seconds of the rate that may come at once.
const BURST_SECONDS: u64 = 10;
/// A unit is so many of what is counted.
const PARTS: u64 = 1_000;

/// One sender's.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u64,
    /// In thousandths of a unit; negative when overdrawn.
    level: i64,
    last: Timestamp,
}

impl Bucket {
    /// Full, at `now`.
    pub(super) fn new(per_second: u32, now: Timestamp) -> Bucket {
        let per_second = u64::from(per_second);
        Bucket { per_second, level: signed(per_second * BURST_SECONDS * PARTS), last: now }
    }

    /// Whether more may come now; else in how long. A clock that is set back fills nothing and empties nothing.
    pub(super) fn look(&mut self, now: Timestamp) -> Result<(), Duration> {
        let gone_ms = u64::try_from(now.since(self.last).as_millis()).unwrap_or(u64::MAX);
        if gone_ms > 0 || now < self.last {
            self.last = now;
            // A thousandth of a unit for each unit a second in a millisecond.
            let full = signed(self.per_second * BURST_SECONDS * PARTS);
            self.level = self.level.saturating_add(signed(self.per_second.saturating_mul(gone_ms))).min(full);
        }
        if self.level >= 0 {
            return Ok(());
        }
        Err(Duration::from_millis(self.level.unsigned_abs().div_ceil(self.per_second)))
    }

    /// So much came.
    pub(super) fn take(&mut self, units: u64) {
        self.level = self.level.saturating_sub(signed(units.saturating_mul(PARTS)));
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_a_burst_and_then_its_rate() {
        let start = Timestamp::from_nanos(1_700_000_000_000_000_000);
        let at = |ms: u64| start.plus(Duration::from_millis(ms));
        let mut bucket = Bucket::new(100, start);
        bucket.take(1_000);
        assert_eq!(bucket.look(at(0)), Ok(()), "at the limit");
        bucket.take(1);
        assert_eq!(bucket.look(at(0)), Err(Duration::from_millis(10)), "one past it");
        assert_eq!(bucket.look(at(9)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.look(at(10)), Ok(()));
        // A batch larger than the burst is taken, and paid for.
        bucket.take(10_000);
        assert_eq!(bucket.look(at(10)), Err(Duration::from_secs(100)));
        assert_eq!(bucket.look(at(5)), Err(Duration::from_secs(100)), "a clock that is set back");
        assert_eq!(bucket.look(at(100_005)), Ok(()));
        // However long nothing comes, no more than the burst is saved up.
        assert_eq!(bucket.look(at(1 << 40)), Ok(()));
        bucket.take(1_001);
        assert!(bucket.look(at(1 << 40)).is_err());
        bucket.take(u64::MAX);
        assert!(bucket.look(at(1 << 40)).is_err());
    }
}
