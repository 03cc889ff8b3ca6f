//! Time as an argument.
//!
//! Nothing in Cairn asks the system for the time but the one real clock in the binary. Everything else takes a [`Clock`] or a
//! [`Timestamp`], so that rollouts, heads and expiry run in tests and in the simulator as fast as they can be computed.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
        let time = UNIX_EPOCH + Duration::from_nanos(self.0);
        humantime::format_rfc3339_nanos(time).fmt(f)
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
        let time = humantime::parse_rfc3339(text).map_err(|_| refuse())?;
        let timestamp = Timestamp::from_system(time);
        // One spelling only, or two different records would say the same.
        if timestamp.to_string() == text { Ok(timestamp) } else { Err(refuse()) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
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
    use super::*;

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
    fn durations_do_not_wrap() {
        let early = Timestamp::from_nanos(5);
        assert_eq!(early.since(Timestamp::from_nanos(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_nanos(u64::MAX).plus(Duration::from_secs(1)).nanos(), u64::MAX);
    }
}
