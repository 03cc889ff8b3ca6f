//! Values of fields: borrowed while rules are tried, owned in an alert.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::print;
use crate::text::Text;

/// A field's value while an event is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Text(Cow<'a, [u8]>),
    /// Several texts, any of which may satisfy a comparison: all ancestors' names.
    AnyText(Vec<Cow<'a, [u8]>>),
    Number(i128),
    /// Several numbers, any of which may satisfy a comparison: all ancestors' pids.
    AnyNumber(Vec<i128>),
    Boolean(bool),
    Address(IpAddr),
    /// Both ends of a socket: `=` holds for either, `!=` for both.
    Addresses([IpAddr; 2]),
    /// The ports of both ends, likewise.
    Ports([u16; 2]),
}

impl<'a> Value<'a> {
    pub(crate) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text.as_bytes()))
    }

    pub(crate) fn bytes(bytes: &'a [u8]) -> Self {
        Self::Text(Cow::Borrowed(bytes))
    }

    pub(crate) fn owned(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into().into_bytes()))
    }

    pub(crate) fn number(number: impl Into<i128>) -> Self {
        Self::Number(number.into())
    }

    /// A text, whatever it was.
    pub(crate) fn into_text(self) -> Cow<'a, [u8]> {
        match self {
            Self::Text(text) => text,
            other => Cow::Owned(other.as_text().into_owned()),
        }
    }

    /// The value as bytes to compare with, for transformers and comparisons of two fields.
    pub(crate) fn as_text(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            other => Cow::Owned(FieldValue::from(other.clone()).to_string().into_bytes()),
        }
    }
}

/// A field's value in an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FieldValue {
    /// The event has no such field; printed as `<NA>`.
    Absent,
    /// True or false.
    Boolean(bool),
    /// A number; durations and times are in nanoseconds.
    Number(i64),
    /// A number beyond `i64`.
    Unsigned(u64),
    /// Text, bytes as the kernel gave them.
    Text(Text),
    /// Several texts.
    List(Vec<Text>),
}

impl FieldValue {
    /// A whole number, cut to what 64 bits hold.
    fn from_number(number: i128) -> Self {
        match i64::try_from(number) {
            Ok(number) => Self::Number(number),
            Err(_) if number < 0 => Self::Number(i64::MIN),
            Err(_) => Self::Unsigned(u64::try_from(number).unwrap_or(u64::MAX)),
        }
    }

    /// As Falco's JSON has it: numbers as numbers, absent as null, invalid UTF-8 as U+FFFD.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Absent => serde_json::Value::Null,
            Self::Boolean(value) => (*value).into(),
            Self::Number(value) => (*value).into(),
            Self::Unsigned(value) => (*value).into(),
            Self::Text(value) => value.to_lossy().into_owned().into(),
            Self::List(values) => values.iter().map(|value| value.to_lossy().into_owned()).collect(),
        }
    }
}

impl From<Value<'_>> for FieldValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.into_owned().into()),
            Value::AnyText(texts) => Self::List(texts.into_iter().map(|text| text.into_owned().into()).collect()),
            Value::Number(number) => Self::from_number(number),
            Value::AnyNumber(numbers) => Self::List(numbers.iter().map(|number| number.to_string().into()).collect()),
            Value::Boolean(value) => Self::Boolean(value),
            Value::Address(address) => Self::Text(print::address(address).into()),
            Value::Addresses(ends) => Self::List(ends.iter().map(|end| print::address(*end).into()).collect()),
            Value::Ports(ends) => Self::List(ends.iter().map(|end| end.to_string().into()).collect()),
        }
    }
}

/// As an output template shows it.
impl fmt::Display for FieldValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("<NA>"),
            Self::Boolean(value) => write!(formatter, "{value}"),
            Self::Number(value) => write!(formatter, "{value}"),
            Self::Unsigned(value) => write!(formatter, "{value}"),
            Self::Text(value) => formatter.write_str(&value.to_lossy()),
            Self::List(values) => {
                let texts: Vec<_> = values.iter().map(Text::to_lossy).collect();
                write!(formatter, "({})", texts.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_64_bits_hold() {
        assert_eq!(FieldValue::from(Value::number(-1_i64)), FieldValue::Number(-1));
        assert_eq!(FieldValue::from(Value::number(u64::MAX)), FieldValue::Unsigned(u64::MAX));
        assert_eq!(FieldValue::from(Value::Number(i128::MIN)), FieldValue::Number(i64::MIN));
    }

    #[test]
    fn what_people_and_machines_see() {
        let bad = FieldValue::Text(Text::from(&b"a\xff"[..]));
        assert_eq!(bad.to_string(), "a\u{fffd}");
        assert_eq!(FieldValue::Absent.to_string(), "<NA>");
        assert_eq!(FieldValue::Absent.to_json(), serde_json::Value::Null);
        let list = FieldValue::from(Value::AnyText(vec![b"a"[..].into(), b"b"[..].into()]));
        assert_eq!(list.to_string(), "(a,b)");
    }
}
