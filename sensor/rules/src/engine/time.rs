//! Times as Falco prints them, in UTC: a node's local time zone is nobody's evidence.

/// Nanoseconds of a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// `HH:MM:SS.nnnnnnnnn`
pub(crate) fn of_day(time_ns: u64) -> String {
    let seconds = time_ns / SECOND_NS % 86_400;
    format!("{:02}:{:02}:{:02}.{:09}", seconds / 3_600, seconds / 60 % 60, seconds % 60, time_ns % SECOND_NS)
}

/// `YYYY-MM-DD HH:MM:SS.nnnnnnnnn`
pub(crate) fn date_time(time_ns: u64) -> String {
    format!("{} {}", date(time_ns), of_day(time_ns))
}

/// `YYYY-MM-DDTHH:MM:SS.nnnnnnnnn+0000`, as `evt.time.iso8601` is.
pub(crate) fn iso8601(time_ns: u64) -> String {
    format!("{}T{}+0000", date(time_ns), of_day(time_ns))
}

/// `YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ`, as an alert's `time` is.
pub(crate) fn rfc3339(time_ns: u64) -> String {
    format!("{}T{}Z", date(time_ns), of_day(time_ns))
}

/// The civil date (Howard Hinnant's algorithm: days are counted in eras of 400 years that begin on 1 March).
fn date(time_ns: u64) -> String {
    let days = time_ns / SECOND_NS / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // The example of Falco's documentation.
        assert_eq!(rfc3339(1_470_327_477_881_781_397), "2016-08-04T16:17:57.881781397Z");
        assert_eq!(date_time(0), "1970-01-01 00:00:00.000000000");
        assert_eq!(iso8601(951_782_400 * SECOND_NS), "2000-02-29T00:00:00.000000000+0000");
        assert_eq!(date(u64::MAX), "2554-07-21");
    }
}
