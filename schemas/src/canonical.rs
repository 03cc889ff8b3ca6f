//! RFC 8785 (JSON Canonicalization Scheme), the part that records use.
//!
//! Records hold no floats, and no integer beyond ±(2^53 − 1): RFC 8785 turns numbers into doubles, and two readers must not see
//! two values. What is left of the scheme is: object keys sorted by UTF-16 code units, no white space, and the shortest string
//! escapes. A reader accepts only bytes that are canonical, so that one record has one leaf hash.

mod reader;
mod scan;

pub(crate) use reader::Reader;
pub(crate) use scan::{Scan, is_canonical};

use serde_json::{Number, Value};

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 64;

const INTEGER_MAX: u64 = crate::ids::INTEGER_MAX;

/// Why a value has no canonical bytes, or bytes are not canonical.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// Not JSON at all.
    #[error("not JSON")]
    NotJson(#[source] serde_json::Error),
    /// A number with a fraction or an exponent.
    #[error("{path} holds the number {number}, which is not an integer; write it as a string")]
    Float {
        /// Where, as a JSON Pointer (RFC 6901).
        path: String,
        /// The number.
        number: String,
    },
    /// An integer that a double cannot hold.
    #[error("{path} holds {number}, beyond ±(2^53 − 1); write it as a decimal string")]
    IntegerTooLarge {
        /// Where, as a JSON Pointer (RFC 6901).
        path: String,
        /// The number.
        number: String,
    },
    /// Nested too deep.
    #[error("{path} is nested deeper than {limit}")]
    TooDeep {
        /// Where, as a JSON Pointer (RFC 6901).
        path: String,
        /// [`DEPTH_MAX`].
        limit: usize,
    },
    /// JSON, but not in canonical form.
    #[error("not canonical JSON (RFC 8785): byte {offset} differs from the canonical form")]
    NotCanonical {
        /// The first byte that differs, from 0.
        offset: usize,
    },
}

/// The canonical bytes of a value.
///
/// # Errors
/// Floats, integers beyond ±(2^53 − 1), nesting deeper than [`DEPTH_MAX`]; each names the place.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::with_capacity(512);
    write(value, &mut out, Path::Root, 0)?;
    Ok(out)
}

/// The canonical bytes of an object whose members come one by one, in order; so that a record is written without being copied first.
pub(crate) struct ObjectWriter {
    out: Vec<u8>,
}

impl ObjectWriter {
    /// An object without members, for about `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> ObjectWriter {
        let mut out = Vec::with_capacity(capacity);
        out.push(b'{');
        ObjectWriter { out }
    }

    /// One more member; `name` sorts after those before.
    ///
    /// # Errors
    /// As [`to_bytes`].
    pub(crate) fn value(&mut self, name: &str, value: &Value) -> Result<(), CanonicalError> {
        self.name(name);
        write(value, &mut self.out, Path::Member(&Path::Root, name), 1)
    }

    /// One more member that is a text; `name` sorts after those before.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        write_string(text, &mut self.out);
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        write_string(name, &mut self.out);
        self.out.push(b':');
    }

    /// The bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

/// Reads bytes that must be canonical: any other spelling of the same value, a repeated key, trailing bytes are refused.
///
/// # Errors
/// As [`to_bytes`], and [`CanonicalError::NotJson`], [`CanonicalError::NotCanonical`].
pub fn parse(bytes: &[u8]) -> Result<Value, CanonicalError> {
    let value: Value = serde_json::from_slice(bytes).map_err(CanonicalError::NotJson)?;
    if is_canonical(bytes) {
        return Ok(value);
    }
    // What the scan does not take is written again, to say what is wrong and where.
    let canonical = to_bytes(&value)?;
    if canonical == bytes {
        return Ok(value);
    }
    let offset = canonical.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    Err(CanonicalError::NotCanonical { offset })
}

/// The way from the root to the value being written: links on the stack, made into text only for an error.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn pointer(&self) -> String {
        match self {
            Path::Root => "the value".to_owned(),
            _ => self.steps(),
        }
    }

    fn steps(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Member(parent, name) => {
                format!("{}/{}", parent.steps(), name.replace('~', "~0").replace('/', "~1"))
            }
            Path::Item(parent, index) => format!("{}/{index}", parent.steps()),
        }
    }
}

fn write(value: &Value, out: &mut Vec<u8>, path: Path<'_>, depth: usize) -> Result<(), CanonicalError> {
    if depth > DEPTH_MAX {
        return Err(CanonicalError::TooDeep { path: path.pointer(), limit: DEPTH_MAX });
    }
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_integer(number, out, path)?,
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out, Path::Item(&path, index), depth + 1)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            // UTF-16 order differs from UTF-8 order only between surrogates and U+E000..U+FFFF.
            if members.iter().any(|(key, _)| !key.is_ascii()) {
                members.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            } else {
                members.sort_unstable_by_key(|(key, _)| *key);
            }
            out.push(b'{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(value, out, Path::Member(&path, key), depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_integer(number: &Number, out: &mut Vec<u8>, path: Path<'_>) -> Result<(), CanonicalError> {
    let magnitude = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
    match magnitude {
        None if number.is_f64() => Err(CanonicalError::Float { path: path.pointer(), number: number.to_string() }),
        Some(magnitude) if magnitude <= INTEGER_MAX => {
            out.extend_from_slice(number.to_string().as_bytes());
            Ok(())
        }
        _ => Err(CanonicalError::IntegerTooLarge { path: path.pointer(), number: number.to_string() }),
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            0x09 => b"\\t",
            0x0a => b"\\n",
            0x0c => b"\\f",
            0x0d => b"\\r",
            0x00..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain_from..index]);
        plain_from = index + 1;
        if short.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(short);
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(to_bytes(value).unwrap()).unwrap()
    }

    #[test]
    fn keys_sort_by_utf16() {
        // The example of RFC 8785 section 3.2.3.
        let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        assert_eq!(
            text(&value),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
        );
    }

    #[test]
    fn strings_use_the_shortest_escapes() {
        assert_eq!(
            text(&json!("\u{0}\u{8}\t\n\u{c}\r\u{1f}\"\\/\u{7f}é")),
            "\"\\u0000\\b\\t\\n\\f\\r\\u001f\\\"\\\\/\u{7f}é\""
        );
    }

    #[test]
    fn numbers_at_the_limit_and_one_past_it() {
        assert_eq!(text(&json!(9_007_199_254_740_991_u64)), "9007199254740991");
        assert_eq!(text(&json!(-9_007_199_254_740_991_i64)), "-9007199254740991");
        for bad in [json!(9_007_199_254_740_992_u64), json!(-9_007_199_254_740_992_i64), json!(u64::MAX)] {
            assert!(matches!(to_bytes(&bad), Err(CanonicalError::IntegerTooLarge { .. })), "{bad}");
        }
        let error = to_bytes(&json!({"a": [1, 2.5]})).unwrap_err();
        assert_eq!(error.to_string(), "/a/1 holds the number 2.5, which is not an integer; write it as a string");
    }

    #[test]
    fn nesting_at_the_limit_and_one_past_it() {
        let nest = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(to_bytes(&nest(DEPTH_MAX)).is_ok());
        assert!(matches!(to_bytes(&nest(DEPTH_MAX + 1)), Err(CanonicalError::TooDeep { .. })));
    }

    #[test]
    fn only_canonical_bytes_are_read() {
        assert!(parse(br#"{"a":1,"b":"x"}"#).is_ok());
        for bad in [
            &br#"{"b":1,"a":1}"#[..],
            b"{\"a\": 1}",
            br#"{"a":1,"a":1}"#,
            b"1.0",
            b"1e3",
            b"-0",
            b"\"\\u0061\"",
            b"1 ",
            b"",
        ] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_json()) {
            let bytes = to_bytes(&value).unwrap();
            prop_assert_eq!(parse(&bytes).unwrap(), value);
        }

        #[test]
        fn the_scan_takes_exactly_what_is_written(value in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = to_bytes(&value).unwrap();
            prop_assert!(scan::is_canonical(&bytes));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let written_again = serde_json::from_slice::<Value>(&bytes).ok().and_then(|value| to_bytes(&value).ok());
            prop_assert_eq!(scan::is_canonical(&bytes), written_again.as_deref() == Some(&bytes[..]));
        }

        #[test]
        fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = scan::is_canonical(&bytes);
        }
    }
}
