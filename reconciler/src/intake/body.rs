//! From a body's bytes to its events.
//!
//! A body is what the source sends: one event, an array of them, its own form of batch (an `EventList`, `Records`), or JSON Lines of those;
//! plain or as gzip. Nothing of it is trusted: how long it gets when it is unpacked, how deep it nests and how many events it has is bounded
//! before anything is made of it. A body is taken whole or refused whole.

use std::collections::BTreeMap;

use cairn_rules::event::Event;
use cairn_rules::limits::{DOCUMENT_BATCH_MAX, DOCUMENT_BYTES_MAX};
use cairn_rules::source::{DocumentError, Source, parse_document};
use serde_json::Value;
use zlib_rs::{Inflate, InflateFlush, Status};

/// zlib's way of saying: a gzip header, and a window as large as any.
const GZIP: u8 = 16 + 15;
/// What is unpacked at once.
const STEP: usize = 64 * 1024;

/// Why a body is refused. Nothing of it was tried on the rules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BodyError {
    /// Longer than [`DOCUMENT_BYTES_MAX`] when it is unpacked.
    #[error("the body has more than {DOCUMENT_BYTES_MAX} bytes when it is unpacked")]
    TooLong,
    /// Not gzip, or cut.
    #[error("the body is not gzip, as its `content-encoding` says: {reason}")]
    Gzip {
        /// zlib's word.
        reason: &'static str,
    },
    /// Nothing at all.
    #[error("the body is empty")]
    Empty,
    /// It is no events of its source.
    #[error("{}{error}{}", line(*number), cause(error))]
    Document {
        /// The line, from 1; none where the body is one document.
        number: Option<usize>,
        /// What is wrong there.
        error: DocumentError,
    },
    /// More events than [`DOCUMENT_BATCH_MAX`].
    #[error("{events} events in one body, more than {DOCUMENT_BATCH_MAX}")]
    TooMany {
        /// How many, as far as they were counted.
        events: usize,
    },
}

fn line(number: Option<usize>) -> String {
    number.map_or_else(String::new, |number| format!("line {number}: "))
}

fn cause(error: &DocumentError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"))
}

impl BodyError {
    /// Is there just too much of it?
    pub(crate) fn is_size(&self) -> bool {
        let too_large = |error: &DocumentError| {
            matches!(error, DocumentError::TooLarge { .. } | DocumentError::TooMany { .. } | DocumentError::TooDeep)
        };
        match self {
            BodyError::TooLong | BodyError::TooMany { .. } => true,
            BodyError::Document { error, .. } => too_large(error),
            _ => false,
        }
    }
}

/// Unpacks gzip, several members one after another as one.
pub(crate) fn gunzip(packed: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut plain = Vec::new();
    let mut rest = packed;
    let mut buffer = vec![0; STEP];
    while !rest.is_empty() {
        let mut member = Inflate::new(true, GZIP);
        loop {
            let (before_in, before_out) = (member.total_in(), member.total_out());
            let status = member
                .decompress(rest, &mut buffer, InflateFlush::NoFlush)
                .map_err(|error| BodyError::Gzip { reason: error.as_str() })?;
            let used = usize::try_from(member.total_in() - before_in).unwrap_or(usize::MAX);
            let made = usize::try_from(member.total_out() - before_out).unwrap_or(usize::MAX);
            rest = rest.get(used..).unwrap_or_default();
            plain.extend_from_slice(buffer.get(..made).unwrap_or_default());
            if plain.len() > DOCUMENT_BYTES_MAX {
                return Err(BodyError::TooLong);
            }
            if status == Status::StreamEnd {
                break;
            }
            if used == 0 && made == 0 {
                return Err(BodyError::Gzip { reason: "it ends too early" });
            }
        }
    }
    Ok(plain)
}

/// The events of a plain body. `members` are put into each document: what its source says in headers.
pub(crate) fn read(
    source: &Source,
    body: &[u8],
    members: &BTreeMap<String, String>,
    received_ns: u64,
) -> Result<Vec<Event>, BodyError> {
    if body.trim_ascii().is_empty() {
        return Err(BodyError::Empty);
    }
    let refuse = |number: Option<usize>| move |error: DocumentError| BodyError::Document { number, error };
    let whole = match parse_document(body) {
        Ok(document) => return source.events(with(document, members), received_ns).map_err(refuse(None)),
        Err(error) => error,
    };
    let lines = || body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    // JSON Lines, if its first line is a document and there are others: else what is wrong is wrong with the whole.
    let is_lines = matches!(whole, DocumentError::Json(_))
        && lines().nth(1).is_some()
        && lines().next().is_some_and(|(_, first)| parse_document(first).is_ok());
    if !is_lines {
        return Err(refuse(None)(whole));
    }
    let mut events = Vec::new();
    for (number, line) in lines() {
        let refuse = refuse(Some(number + 1));
        let document = parse_document(line).map_err(refuse)?;
        events.extend(source.events(with(document, members), received_ns).map_err(refuse)?);
        if events.len() > DOCUMENT_BATCH_MAX {
            return Err(BodyError::TooMany { events: events.len() });
        }
    }
    Ok(events)
}

fn with(mut document: Value, members: &BTreeMap<String, String>) -> Value {
    if let Value::Object(object) = &mut document {
        object.extend(members.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))));
    }
    document
}

#[cfg(test)]
pub(crate) mod tests {
    use cairn_rules::Sources;
    use zlib_rs::{DeflateConfig, ReturnCode, compress_bound, compress_slice};

    use super::*;

    pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut packed = vec![0; compress_bound(plain.len()) + 64];
        let config = DeflateConfig { window_bits: i32::from(GZIP), ..DeflateConfig::default() };
        let (packed, code) = compress_slice(&mut packed, plain, config);
        assert_eq!(code, ReturnCode::Ok);
        packed.to_vec()
    }

    fn said(source: &str, body: &[u8]) -> String {
        let source = Sources::built_in().get(source).unwrap();
        match read(source, body, &BTreeMap::new(), 7) {
            Ok(events) => events.len().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_body_is_what_its_source_sends_or_lines_of_it() {
        assert_eq!(said("k8s_audit", br#"{"kind":"EventList","items":[{},{}]}"#), "2");
        assert_eq!(said("aws_cloudtrail", b"{\n \"Records\": [{}, {}]\n}\n"), "2");
        assert_eq!(said("aws_cloudtrail", br#"{"eventID":"x"}"#), "1");
        assert_eq!(said("okta", br#"{"data":{"events":[{},{},{}]}}"#), "3");
        assert_eq!(said("json", b"{\"a\":1}\n\n{\"a\":2}\r\n[{},{}]\n"), "4");
        assert_eq!(said("json", b"[]"), "0");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert_eq!(said("json", b" \n"), "the body is empty");
        assert_eq!(said("json", b"{"), "not JSON: EOF while parsing an object at line 1 column 1");
        assert_eq!(
            said("json", b"{\"a\":1}\n{\"a\":"),
            "line 2: not JSON: EOF while parsing a value at line 1 column 5"
        );
        assert_eq!(
            said("k8s_audit", br#"{"items":[{}, 7]}"#),
            "at /items/1: an event of source `k8s_audit` is an object, not a number"
        );
        assert_eq!(said("json", b"{}\n[{},null]"), "line 2: at /1: an event of source `json` is an object, not null");
        assert_eq!(said("json", b"\"x\""), "an event of source `json` is an object, not a text");
        assert_eq!(said("json", b"{}\n\xff"), "line 2: not JSON: expected value at line 1 column 1");
    }

    #[test]
    fn bodies_at_their_limits_and_one_past_them() {
        let events = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert_eq!(said("json", events(DOCUMENT_BATCH_MAX).as_bytes()), DOCUMENT_BATCH_MAX.to_string());
        assert!(said("json", events(DOCUMENT_BATCH_MAX + 1).as_bytes()).contains("more than 10000"));
        assert_eq!(said("json", "{}\n".repeat(DOCUMENT_BATCH_MAX).as_bytes()), DOCUMENT_BATCH_MAX.to_string());
        assert!(said("json", "{}\n".repeat(DOCUMENT_BATCH_MAX + 1).as_bytes()).contains("more than 10000"));
        let deep = |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth - 1) + "{}", "}".repeat(depth - 1));
        assert_eq!(said("json", deep(64).as_bytes()), "1");
        assert!(said("json", deep(65).as_bytes()).contains("nested"));
        assert!(said("json", "[".repeat(1 << 20).as_bytes()).contains("nested"));
    }

    #[test]
    fn gzip_is_unpacked_within_bounds() {
        let plain = b"{\"a\":1}".repeat(30_000);
        assert_eq!(gunzip(&gzip(&plain)).unwrap(), plain);
        let two = [gzip(b"{}\n"), gzip(b"{}\n")].concat();
        assert_eq!(gunzip(&two).unwrap(), b"{}\n{}\n");
        assert!(gunzip(b"").unwrap().is_empty());
        assert_eq!(gunzip(&gzip(&vec![b' '; DOCUMENT_BYTES_MAX])).unwrap().len(), DOCUMENT_BYTES_MAX);
        let bomb = gzip(&vec![b' '; DOCUMENT_BYTES_MAX + 1]);
        assert!(bomb.len() < 64 << 10);
        assert!(matches!(gunzip(&bomb), Err(BodyError::TooLong)));
        let packed = gzip(&plain);
        for len in [1, 9, 10, packed.len() / 2, packed.len() - 1] {
            assert!(matches!(gunzip(&packed[..len]), Err(BodyError::Gzip { .. })), "{len}");
        }
        let mut damaged = packed;
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert!(matches!(gunzip(&damaged), Err(BodyError::Gzip { .. })));
        assert!(matches!(gunzip(b"{}"), Err(BodyError::Gzip { .. })));
    }

    #[test]
    fn what_headers_say_stands_in_the_document() {
        let source = Sources::built_in().get("github").unwrap();
        let members = BTreeMap::from([("webhook_delivery".to_owned(), "72d3162e".to_owned())]);
        let events = read(source, br#"{"webhook_delivery":"forged"}"#, &members, 7).unwrap();
        assert_eq!(source.foreign_id(&events[0]).as_deref(), Some("72d3162e"));
    }
}
