//! One file as an answer: what a cache may keep, what a caller has already, the part it wants, compressed where it can read that.
//!
//! RFC 9110: a strong `ETag` over the bytes, `If-None-Match`, one `Range` with `If-Range`. Compression is a content coding and nothing
//! else: the stored bytes are what is hashed, and what any tool finds after decoding. A part is never compressed.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    IF_NONE_MATCH, IF_RANGE, RANGE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use cairn_schemas::digest::Digest;
use zlib_rs::{DeflateConfig, ReturnCode, compress_bound, compress_slice};

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const BYTES: &str = "application/octet-stream";

/// Below this many bytes compression saves less than its header says.
const COMPRESSED_LEN_MIN: usize = 1_024;
/// Fast: bundles are compressed anew for each caller that no cache stands before.
const LEVEL: i32 = 1;
/// What zlib calls gzip: the window's bits and 16.
const GZIP: i32 = 15 + 16;

/// How long a cache may keep an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It never changes.
    ForEver,
    /// It is replaced by newer ones: seconds, so that many readers ask once.
    Seconds,
}

impl Kept {
    const fn header(self) -> &'static str {
        match self {
            Kept::ForEver => "public, max-age=31536000, immutable",
            Kept::Seconds => "public, max-age=2, must-revalidate",
        }
    }
}

/// A file's bytes and what they are.
pub(super) struct Served {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: &'static str,
    pub(super) kept: Kept,
}

impl Served {
    /// The answer to a request with these headers.
    pub(super) async fn answer(self, request: &HeaderMap) -> Response {
        let Served { bytes, content_type, kept } = self;
        // Records are text and shrink to a fifth; hashes do not shrink.
        let worth = content_type != BYTES || bytes.get(2) == Some(&b'{');
        let wants = worth && bytes.len() >= COMPRESSED_LEN_MIN && takes_gzip(request) && !request.contains_key(RANGE);
        let digest = &Digest::sha256(&bytes).to_string()[..32];
        let plain = format!("\"{digest}\"");
        // Another coding is another representation, and has another tag.
        let tag = if wants { format!("\"{digest}-gzip\"") } else { plain.clone() };
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(CACHE_CONTROL, kept.header());
        set(ETAG, &tag);
        set(VARY, "accept-encoding");
        set(X_CONTENT_TYPE_OPTIONS, "nosniff");
        if has(request, &[&tag, &plain]) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        set(CONTENT_TYPE, content_type);
        set(ACCEPT_RANGES, "bytes");
        if wants {
            set(CONTENT_ENCODING, "gzip");
            return match tokio::task::spawn_blocking(move || gzip(&bytes)).await {
                Ok(Some(compressed)) => (headers, Body::from(compressed)).into_response(),
                _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            };
        }
        match range(request, &plain, bytes.len()) {
            Range::Whole => (headers, Body::from(bytes)).into_response(),
            Range::Part(from, to) => {
                set(CONTENT_RANGE, &format!("bytes {from}-{to}/{}", bytes.len()));
                let part = bytes[from..=to].to_vec();
                (StatusCode::PARTIAL_CONTENT, headers, Body::from(part)).into_response()
            }
            Range::Outside => {
                set(CONTENT_RANGE, &format!("bytes */{}", bytes.len()));
                (StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response()
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let config = DeflateConfig { level: LEVEL, window_bits: GZIP, ..DeflateConfig::default() };
    // The bound is zlib's format's; gzip's header and trailer are 12 bytes longer.
    let mut out = vec![0; compress_bound(bytes.len()) + 64];
    let (written, code) = compress_slice(&mut out, bytes, config);
    let len = written.len();
    out.truncate(len);
    (code == ReturnCode::Ok).then_some(out)
}

fn text(request: &HeaderMap, name: HeaderName) -> Option<&str> {
    request.get(name)?.to_str().ok()
}

/// Whether the caller takes gzip: named with a weight above zero, or everything is.
fn takes_gzip(request: &HeaderMap) -> bool {
    let Some(codings) = text(request, ACCEPT_ENCODING) else { return false };
    let weight = |wanted: &str| {
        codings.split(',').find_map(|coding| {
            let (name, parameters) = coding.trim().split_once(';').unwrap_or((coding.trim(), ""));
            let zero = parameters.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
            name.trim().eq_ignore_ascii_case(wanted).then_some(!zero)
        })
    };
    weight("gzip").or_else(|| weight("*")).unwrap_or(false)
}

/// Whether the caller says that it has one of these.
fn has(request: &HeaderMap, tags: &[&str]) -> bool {
    let Some(given) = text(request, IF_NONE_MATCH) else { return false };
    given
        .split(',')
        .map(str::trim)
        .any(|given| given == "*" || tags.contains(&given.strip_prefix("W/").unwrap_or(given)))
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// The first and the last byte.
    Part(usize, usize),
    Outside,
}

/// What the caller asks for: one range of bytes. Several, or what is not understood, are answered with the whole.
fn range(request: &HeaderMap, tag: &str, len: usize) -> Range {
    let Some(ranges) = text(request, RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Range::Whole };
    if text(request, IF_RANGE).is_some_and(|given| given != tag) {
        return Range::Whole;
    }
    let Some((from, to)) = ranges.trim().split_once('-') else { return Range::Whole };
    let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) if from > to => return Range::Whole,
        (Ok(from), Ok(to)) => (from, to.min(len.saturating_sub(1))),
        (Ok(from), Err(_)) if to.is_empty() => (from, len.saturating_sub(1)),
        (Err(_), Ok(0)) if from.is_empty() => return Range::Outside,
        (Err(_), Ok(last)) if from.is_empty() => (len.saturating_sub(last), len.saturating_sub(1)),
        _ => return Range::Whole,
    };
    if from < len { Range::Part(from, to) } else { Range::Outside }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    async fn ask(bytes: &[u8], pairs: &[(HeaderName, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
        let served = Served { bytes: bytes.to_vec(), content_type: BYTES, kept: Kept::ForEver };
        let (parts, body) = served.answer(&headers(pairs)).await.into_parts();
        (parts.status, parts.headers, axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec())
    }

    #[test]
    fn ranges_as_in_the_specification() {
        let asked = |text: &str| range(&headers(&[(RANGE, text)]), "\"t\"", 10);
        assert_eq!(asked("bytes=0-3"), Range::Part(0, 3));
        assert_eq!(asked("bytes=9-9"), Range::Part(9, 9));
        assert_eq!(asked("bytes=8-99"), Range::Part(8, 9));
        assert_eq!(asked("bytes=4-"), Range::Part(4, 9));
        assert_eq!(asked("bytes=-3"), Range::Part(7, 9));
        assert_eq!(asked("bytes=-99"), Range::Part(0, 9));
        for outside in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(asked(outside), Range::Outside, "{outside}");
        }
        for whole in ["bytes=3-1", "bytes=0-1,3-4", "bytes=-", "bytes=x-y", "lines=0-3", "bytes=+1-2,"] {
            assert_eq!(asked(whole), Range::Whole, "{whole}");
        }
        let other = headers(&[(RANGE, "bytes=0-3"), (IF_RANGE, "\"other\"")]);
        assert_eq!(range(&other, "\"t\"", 10), Range::Whole);
        assert_eq!(range(&headers(&[(RANGE, "bytes=0-")]), "\"t\"", 0), Range::Outside);
    }

    #[test]
    fn gzip_is_for_who_says_so() {
        let takes = |text: &str| takes_gzip(&headers(&[(ACCEPT_ENCODING, text)]));
        for yes in ["gzip", "br, gzip;q=0.5", "GZIP", "*", "deflate, *;q=0.1"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *"] {
            assert!(!takes(no), "{no}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn what_a_caller_has_is_not_sent_again() {
        let (status, first, body) = ask(b"tile", &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"tile"[..]));
        let tag = first[ETAG].to_str().unwrap().to_owned();
        let (status, again, body) = ask(b"tile", &[(IF_NONE_MATCH, &format!("\"x\", W/{tag}"))]).await;
        assert_eq!((status, body.len(), &again[ETAG]), (StatusCode::NOT_MODIFIED, 0, &first[ETAG]));
        assert_eq!(ask(b"Tile", &[(IF_NONE_MATCH, &tag)]).await.0, StatusCode::OK);
        let (status, part, body) = ask(b"tile", &[(RANGE, "bytes=1-2"), (IF_RANGE, &tag)]).await;
        assert_eq!((status, &body[..]), (StatusCode::PARTIAL_CONTENT, &b"il"[..]));
        assert_eq!(part[CONTENT_RANGE], "bytes 1-2/4");
        let (status, part, _) = ask(b"tile", &[(RANGE, "bytes=4-")]).await;
        assert_eq!(
            (status, &part[CONTENT_RANGE]),
            (StatusCode::RANGE_NOT_SATISFIABLE, &"bytes */4".parse::<HeaderValue>().unwrap())
        );
    }

    #[tokio::test]
    async fn records_are_compressed_and_hashes_are_not() {
        let mut bundle = vec![0, 100];
        bundle.extend_from_slice(&b"{\"data\":{}}".repeat(500));
        let gzip = [(ACCEPT_ENCODING, "gzip")];
        let (status, headers, body) = ask(&bundle, &gzip).await;
        assert_eq!((status, &headers[CONTENT_ENCODING]), (StatusCode::OK, &"gzip".parse::<HeaderValue>().unwrap()));
        assert!(body.len() * 5 < bundle.len() && body.starts_with(&[0x1f, 0x8b]));
        assert_ne!(headers[ETAG], ask(&bundle, &[]).await.1[ETAG]);
        let mut plain = vec![0; bundle.len()];
        let config = zlib_rs::InflateConfig { window_bits: GZIP };
        let (back, code) = zlib_rs::decompress_slice(&mut plain, &body, config);
        assert_eq!((&*back, code), (&bundle[..], ReturnCode::Ok));
        assert!(!ask(&vec![7; 8_192], &gzip).await.1.contains_key(CONTENT_ENCODING));
        assert!(!ask(&bundle[..1_000], &gzip).await.1.contains_key(CONTENT_ENCODING));
        let (status, headers, body) = ask(&bundle, &[(ACCEPT_ENCODING, "gzip"), (RANGE, "bytes=0-9")]).await;
        assert_eq!((status, body.len()), (StatusCode::PARTIAL_CONTENT, 10));
        assert!(!headers.contains_key(CONTENT_ENCODING));
    }
}
