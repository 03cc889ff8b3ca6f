//! When a document says that it happened.

use serde_json::Value;

use crate::engine::time::SECOND_NS;

/// What a number of a document's time counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Unit {
    #[default]
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    pub(crate) const ALL: [(&'static str, Self); 4] =
        [("s", Self::Seconds), ("ms", Self::Milliseconds), ("us", Self::Microseconds), ("ns", Self::Nanoseconds)];

    fn nanoseconds(self) -> u64 {
        match self {
            Self::Seconds => SECOND_NS,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1_000,
            Self::Nanoseconds => 1,
        }
    }
}

/// A time of a document in nanoseconds since the epoch: RFC 3339, or a count of units. `None` for anything else, and for what
/// 64 bits do not hold.
pub(crate) fn read(value: &Value, unit: Unit) -> Option<u64> {
    match value {
        Value::String(text) => rfc3339(text).or_else(|| count(text, unit)),
        Value::Number(number) => count(&number.to_string(), unit),
        _ => None,
    }
}

/// `1596628127` or `1596628127.25`: a decimal number, read exactly.
fn count(text: &str, unit: Unit) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let scale = unit.nanoseconds();
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    // Digits below a nanosecond are cut: nine are enough for every unit.
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let fraction = u128::from(digits.parse::<u64>().ok()?) * u128::from(scale) / u128::from(SECOND_NS);
    whole.checked_add(u64::try_from(fraction).ok()?)
}

/// `2026-01-02T03:04:05.678+01:00`; a blank may stand for the `T`. A time before the epoch is none.
pub(crate) fn rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let separators = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    // A leap second counts as the second after.
    let in_range = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !separators || !in_range {
        return None;
    }
    let mut at = 19;
    let mut fraction = 0_u64;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let shown = text.get(at + 1..at + 1 + digits.min(9))?;
        fraction = shown.parse::<u64>().ok()? * 10_u64.pow(9 - u32::try_from(shown.len()).ok()?);
        at += 1 + digits;
    }
    let offset_minutes = match text.get(at..)? {
        "Z" | "z" => 0,
        zone => {
            let sign = if is(at, b"+") { 1 } else { -1 };
            let is_zone = zone.len() == 6 && is(at, b"+-") && is(at + 3, b":");
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if !is_zone || hours > 23 || minutes > 59 {
                return None;
            }
            sign * (hours * 60 + minutes)
        }
    };
    let seconds =
        days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_minutes * 60;
    u64::try_from(seconds).ok()?.checked_mul(SECOND_NS)?.checked_add(fraction)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Howard Hinnant's algorithm: years begin on 1 March, so that a leap day is the last of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::time;

    #[test]
    fn times_as_documents_write_them() {
        for (text, shown) in [
            ("2016-08-04T16:17:57.881781397Z", "2016-08-04T16:17:57.881781397Z"),
            ("2018-10-25T14:30:34.103084Z", "2018-10-25T14:30:34.103084000Z"),
            ("2026-01-02T03:04:05+01:30", "2026-01-02T01:34:05.000000000Z"),
            ("2026-01-02 03:04:05.5-02:00", "2026-01-02T05:04:05.500000000Z"),
            ("2000-02-29T23:59:60Z", "2000-03-01T00:00:00.000000000Z"),
            ("1970-01-01T00:00:00.0000000009Z", "1970-01-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(text).map(time::rfc3339).as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+1:00",
            "1969-12-31T23:59:59Z",
            "9999-12-31T00:00:00Z",
            "2026-01-01T00:00:00é",
            "é",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn counts_are_exact() {
        assert_eq!(read(&json!(1_596_628_127), Unit::Seconds), Some(1_596_628_127 * SECOND_NS));
        assert_eq!(read(&json!(1_596_628_127.25), Unit::Seconds), Some(1_596_628_127_250_000_000));
        assert_eq!(read(&json!("1596628127250"), Unit::Milliseconds), Some(1_596_628_127_250_000_000));
        assert_eq!(read(&json!(1_596_628_127_250_000_u64), Unit::Microseconds), Some(1_596_628_127_250_000_000));
        assert_eq!(read(&json!(7), Unit::Nanoseconds), Some(7));
        for value in [json!(-1), json!(1e300), json!(u64::MAX), json!(true), json!(null), json!("1.2.3"), json!(".5")] {
            assert_eq!(read(&value, Unit::Seconds), None, "{value}");
        }
    }
}
