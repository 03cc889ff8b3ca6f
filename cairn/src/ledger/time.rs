//! Times as people give them.

use cairn_schemas::time::Timestamp;

use crate::failure::Failure;

/// `2026-01-31`, `2026-01-31T12:00:00Z`, or how long before `now`: `90s`, `2h`, `7d`.
pub(super) fn since(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(before) = humantime::parse_duration(text) {
        let nanos = u64::try_from(before.as_nanos()).unwrap_or(u64::MAX);
        return Ok(Timestamp::from_nanos(now.nanos().saturating_sub(nanos)));
    }
    let whole = if text.len() == "2026-01-31".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    humantime::parse_rfc3339_weak(&whole).map(Timestamp::from_system).map_err(|_| {
        Failure::unknown(format!("--since {text}: neither a time nor a duration"))
            .hint("for example 2026-01-31, 2026-01-31T12:00:00Z, 90s, 2h, 7d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-01-31T12:00:00.000000000Z");
        assert_eq!(since("90s", now).unwrap(), at("2026-01-31T11:58:30.000000000Z"));
        assert_eq!(since("1d", now).unwrap(), at("2026-01-30T12:00:00.000000000Z"));
        assert_eq!(since("2026-01-30", now).unwrap(), at("2026-01-30T00:00:00.000000000Z"));
        assert_eq!(since("2026-01-30T01:02:03Z", now).unwrap(), at("2026-01-30T01:02:03.000000000Z"));
        assert!(since("yesterday", now).is_err());
        assert_eq!(since("9000000000y", now).unwrap(), Timestamp::from_nanos(0), "longer than there was time");
        assert!(since("99999999999999999999y", now).is_err());
    }
}
