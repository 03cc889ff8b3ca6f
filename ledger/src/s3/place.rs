//! `s3://bucket/prefix?retention=400d`: where a ledger lies in S3.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Longest retention that can be asked for: AWS's own limit, a hundred years.
pub const RETENTION_DAYS_MAX: u64 = 36_500;
/// Longest prefix in bytes. A key is at most 1,024, and the ledger's own paths are below 200.
pub const PREFIX_LEN_MAX: usize = 512;

const DAY: u64 = 24 * 60 * 60;

/// Where a ledger lies in S3, and how long its objects are locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The folder within, without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// How long what never changes is kept under Object Lock, in mode COMPLIANCE, from the time at which it is written. `None`: not
    /// locked. A bucket's default retention would lock staging and partial tiles too.
    pub retention: Option<Duration>,
    /// The region, where the environment does not say it.
    pub region: Option<String>,
    /// The server, where the environment does not say it.
    pub endpoint: Option<String>,
}

/// Why a text is no place in S3.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a place in S3: {reason}")]
pub struct PlaceError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Place, PlaceError> {
        let refuse = |reason: String| PlaceError { text: text.to_owned(), reason };
        let rest = text.strip_prefix("s3://").ok_or_else(|| refuse("expected s3://bucket/prefix".to_owned()))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let of_a_bucket = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(of_a_bucket) {
            return Err(refuse("a bucket's name is 3 to 63 of a-z, 0-9, `.` and `-`".to_owned()));
        }
        let prefix = prefix.trim_end_matches('/');
        let of_a_prefix = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if prefix.len() > PREFIX_LEN_MAX {
            return Err(refuse(format!("the prefix is {} bytes long; the limit is {PREFIX_LEN_MAX}", prefix.len())));
        }
        if !prefix.is_empty() && !prefix.split('/').all(of_a_prefix) {
            return Err(refuse("a prefix is names of a-z, A-Z, 0-9, `.`, `_`, `-`, with `/` between".to_owned()));
        }
        let mut place = Place {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            retention: None,
            region: None,
            endpoint: None,
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("retention", days)) => {
                    let days = days.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
                    let days = days.filter(|days| (1..=RETENTION_DAYS_MAX).contains(days)).ok_or_else(|| {
                        refuse(format!("`retention` is a number of days from 1d to {RETENTION_DAYS_MAX}d"))
                    })?;
                    place.retention = Some(Duration::from_secs(days * DAY));
                }
                Some(("region", region)) => place.region = Some(region.to_owned()),
                Some(("endpoint", endpoint)) => place.endpoint = Some(endpoint.to_owned()),
                _ => return Err(refuse(format!("{parameter:?} is not one of retention=, region=, endpoint="))),
            }
        }
        Ok(place)
    }
}

impl fmt::Display for Place {
    /// Without the parameters: what is shown to people and named in errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let place: Place = "s3://evidence/prod/eu-1/?retention=400d&region=eu-west-1".parse().unwrap();
        assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("evidence", "prod/eu-1"));
        assert_eq!(place.retention, Some(Duration::from_secs(400 * DAY)));
        assert_eq!(place.region.as_deref(), Some("eu-west-1"));
        assert_eq!(place.to_string(), "s3://evidence/prod/eu-1");
        let whole: Place = "s3://evidence".parse().unwrap();
        assert_eq!((whole.prefix.as_str(), whole.retention), ("", None));
    }

    #[test]
    fn limits_and_one_past_them() {
        let prefix = |len: usize| format!("s3://evidence/{}", "p".repeat(len)).parse::<Place>();
        assert!(prefix(PREFIX_LEN_MAX).is_ok() && prefix(PREFIX_LEN_MAX + 1).is_err());
        let days = |days: u64| format!("s3://evidence/x?retention={days}d").parse::<Place>();
        assert!(days(1).is_ok() && days(RETENTION_DAYS_MAX).is_ok());
        assert!(days(0).is_err() && days(RETENTION_DAYS_MAX + 1).is_err());
        for bad in [
            "evidence/x",
            "s3://",
            "s3://ab/x",
            "s3://Evidence/x",
            "s3://evidence/a//b",
            "s3://evidence/../b",
            "s3://evidence/a b",
            "s3://evidence/x?retention=1",
            "s3://evidence/x?lock=1d",
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
