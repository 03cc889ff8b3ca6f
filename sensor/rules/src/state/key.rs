//! What events are told apart by: the values of a rule's `by` fields, as bytes.
//!
//! Each value carries its kind and its whole length, so that no two lists of values make one key. Of a long value the first
//! [`STATE_VALUE_BYTES_MAX`] bytes stand for it, with its length: memory is bounded whatever a program calls itself.

use std::borrow::Cow;

use crate::compile::Reader;
use crate::engine::Context;
use crate::fields::Value;
use crate::limits::STATE_VALUE_BYTES_MAX;

/// Puts a field's value behind what `key` has. False when the event lacks the field: that is a value of its own.
pub(crate) fn push(key: &mut Vec<u8>, reader: &Reader, context: &Context<'_>) -> bool {
    let value = reader.read(context);
    match &value {
        None => key.push(b'-'),
        Some(Value::Boolean(value)) => key.extend([b'b', u8::from(*value)]),
        Some(Value::Number(number)) => {
            key.push(b'n');
            key.extend(number.to_le_bytes());
        }
        Some(Value::Text(text)) => push_bytes(key, b't', text),
        Some(Value::Address(address)) => push_bytes(key, b't', address.to_string().as_bytes()),
        Some(Value::AnyText(texts)) => push_list(key, texts.iter().map(|text| Cow::Borrowed(text.as_ref()))),
        Some(Value::AnyNumber(numbers)) => push_list(key, numbers.iter().map(|it| it.to_string().into_bytes().into())),
        Some(Value::Addresses(ends)) => push_list(key, ends.iter().map(|it| it.to_string().into_bytes().into())),
        Some(Value::Ports(ends)) => push_list(key, ends.iter().map(|it| it.to_string().into_bytes().into())),
    }
    value.is_some()
}

fn push_bytes(key: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    key.push(kind);
    key.extend((bytes.len() as u64).to_le_bytes());
    key.extend(&bytes[..bytes.len().min(STATE_VALUE_BYTES_MAX)]);
}

fn push_list<'a>(key: &mut Vec<u8>, values: impl Iterator<Item = Cow<'a, [u8]>>) {
    let mut all = Vec::new();
    for value in values {
        all.extend((value.len() as u64).to_le_bytes());
        all.extend(value.iter());
    }
    push_bytes(key, b'l', &all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_values_stay_apart() {
        let key = |parts: &[&[u8]]| {
            let mut key = Vec::new();
            parts.iter().for_each(|part| push_bytes(&mut key, b't', part));
            key
        };
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b""]), key(&[]));
        let long = vec![b'x'; STATE_VALUE_BYTES_MAX];
        let longer = vec![b'x'; STATE_VALUE_BYTES_MAX + 1];
        assert_ne!(key(&[&long]), key(&[&longer]), "the length tells them apart");
        assert_eq!(key(&[&long]).len(), key(&[&longer]).len());
    }
}
