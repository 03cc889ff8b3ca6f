//! Time as an argument.
//!
//! Nothing in Cairn asks the system for the time but the one real clock in the binary. Everything else takes a [`Clock`] or a
//! [`Timestamp`], so that rollouts, heads and expiry run in tests and in the simulator as fast as they can be computed.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::from_text;

/// Nanoseconds since 1970-01-01T00:00:00Z. Written in RFC 3339 with nine digits and `Z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(u64);

/// Why a text is not a timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a timestamp: expected the form 2026-01-31T12:00:00.000000000Z")]
pub struct NotATimestamp {
    /// The text, cut at 80 characters.
    pub text: String,
}

impl Timestamp {
    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Timestamp {
        Timestamp(nanos)
    }

    /// From a system time; times before 1970 become the epoch.
    #[must_use]
    pub fn from_system(time: SystemTime) -> Timestamp {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when the clock ran backwards.
    #[must_use]
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This time plus a duration, held at the last representable time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&written(self.0)).expect("invariant: digits and signs are ASCII"))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Timestamp, NotATimestamp> {
        let refuse = || NotATimestamp { text: text.chars().take(80).collect() };
        text.as_bytes().try_into().ok().and_then(read).map(Timestamp).ok_or_else(refuse)
    }
}

/// The nanoseconds of `2026-01-31T12:00:00.000000000Z`. One spelling only, or two different records would say the same: no leap second,
/// no other number of digits. Written out because every record holds one, and parsing it any way costs as much as the rest of its
/// attributes.
fn read(text: &[u8; 30]) -> Option<u64> {
    const FORM: &[u8; 30] = b"0000-00-00T00:00:00.000000000Z";
    let in_form = text.iter().zip(FORM).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    });
    if !in_form {
        return None;
    }
    let number = |digits: std::ops::Range<usize>| {
        text[digits].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(is_leap(year)),
        _ => return None,
    };
    if year < 1970 || !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 0000-03-01, in years that begin in March: the day that leap years have more is then the last of one.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    let seconds = ((days - DAYS_BEFORE_1970) * 24 + hour) * 3_600 + minute * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(number(20..29))
}

/// The text of so many nanoseconds: the way back from [`read`].
fn written(nanos: u64) -> [u8; 30] {
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (days, second) = (seconds / 86_400 + DAYS_BEFORE_1970, seconds % 86_400);
    // Four hundred years always have the same number of days; so do, but for the last of each, a hundred years, four, and one.
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let months = (5 * day + 2) / 153;
    let day = day - (153 * months + 2) / 5 + 1;
    let (month, year) = if months < 10 { (months + 3, year) } else { (months - 9, year + 1) };
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    let mut put = |digits: std::ops::Range<usize>, mut number: u64| {
        for digit in text[digits].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0..4, era * 400 + year);
    put(5..7, month);
    put(8..10, day);
    put(11..13, second / 3_600);
    put(14..16, second / 60 % 60);
    put(17..19, second % 60);
    put(20..29, nanos);
    text
}

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        from_text(deserializer)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9}Z$"
        })
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now. It may run backwards: that is a finding, not a fault.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until it is told to go on. For tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> ManualClock {
        ManualClock(AtomicU64::new(start.nanos()))
    }

    /// Sets the time, backwards too.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.nanos(), Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by way of another parser and the formatter.
    fn read_otherwise(text: &str) -> Option<Timestamp> {
        let timestamp = Timestamp::from_system(humantime::parse_rfc3339(text).ok()?);
        (timestamp.to_string() == text).then_some(timestamp)
    }

    proptest! {
        #[test]
        fn two_formatters_agree(nanos in any::<u64>()) {
            let otherwise = humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(nanos)).to_string();
            prop_assert_eq!(Timestamp::from_nanos(nanos).to_string(), otherwise);
        }

        #[test]
        fn two_parsers_agree(nanos in any::<u64>(), at in 0usize..30, byte in 0x20u8..0x7f, digit in b'0'..=b'9') {
            let good = Timestamp::from_nanos(nanos).to_string();
            for byte in [byte, digit] {
                let mut text = good.clone();
                text.replace_range(at..=at, &char::from(byte).to_string());
                prop_assert_eq!(text.parse::<Timestamp>().ok(), read_otherwise(&text));
            }
        }
    }

    #[test]
    fn one_spelling_only() {
        let time = Timestamp::from_nanos(1_700_000_000_000_000_001);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.000000001Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        for bad in ["2023-11-14T22:13:20Z", "2023-11-14 22:13:20.000000001Z", "2023-11-14T22:13:20.000000001+00:00", ""]
        {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_day_and_both_ends_are_read() {
        let day = 24 * 3_600 * 1_000_000_000;
        let ends = [0, u64::MAX, u64::MAX - 1, day - 1];
        for nanos in ends.into_iter().chain((0..=u64::MAX / day).map(|number| number * day + number)) {
            let time = Timestamp::from_nanos(nanos);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for bad in [
            "2554-07-21T23:34:33.709551616Z",
            "9999-12-31T23:59:59.999999999Z",
            "1969-12-31T23:59:59.999999999Z",
            "2016-12-31T23:59:60.000000000Z",
            "2023-02-29T00:00:00.000000000Z",
            "2100-02-29T00:00:00.000000000Z",
            "2023-04-31T00:00:00.000000000Z",
            "2023-00-10T00:00:00.000000000Z",
            "2023-13-10T00:00:00.000000000Z",
            "2023-01-00T00:00:00.000000000Z",
            "2023-01-01T24:00:00.000000000Z",
            "2023-01-01T00:60:00.000000000Z",
            "2023-01-01t00:00:00.000000000z",
            "+023-01-01T00:00:00.000000000Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_do_not_wrap() {
        let early = Timestamp::from_nanos(5);
        assert_eq!(early.since(Timestamp::from_nanos(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_nanos(u64::MAX).plus(Duration::from_secs(1)).nanos(), u64::MAX);
    }
}
