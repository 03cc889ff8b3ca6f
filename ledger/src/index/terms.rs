//! What of a record the index knows it by.
//!
//! Type, stream and time are attributes. Rule, control and incident are members of `data` of that name that are texts, or of the
//! plural name (`rules`, `controls`, `incidents`) that are lists of texts: so evidence from elsewhere is found by them too. A
//! record that cannot be read has no terms, and any time.

use std::borrow::Cow;
use std::fmt;

use cairn_schemas::time::Timestamp;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Longest value that is told apart from others, bytes; what is beyond is cut, and compared when the record is read.
pub(super) const VALUE_LEN_MAX: usize = 255;
/// Most values of one field that a record is found by.
pub(crate) const VALUES_MAX: usize = 16;

/// What a term is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum Field {
    Type = 0,
    Stream = 1,
    Rule = 2,
    Control = 3,
    Incident = 4,
}

impl Field {
    pub(super) const ALL: [Field; 5] = [Field::Type, Field::Stream, Field::Rule, Field::Control, Field::Incident];

    pub(super) fn of(byte: u8) -> Option<Field> {
        Field::ALL.into_iter().find(|field| *field as u8 == byte)
    }
}

/// A value as the index holds it: cut at a character's border.
pub(super) fn cut(value: &str) -> &str {
    let mut end = value.len().min(VALUE_LEN_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// A record's terms.
#[derive(Debug, Deserialize)]
pub(super) struct Seen<'a> {
    #[serde(borrow)]
    pub(super) data: Named<'a>,
    #[serde(borrow)]
    sequence: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
}

impl<'a> Seen<'a> {
    /// Looks at a record's bytes; `None`: they are none.
    pub(super) fn read(record: &'a [u8]) -> Option<Seen<'a>> {
        serde_json::from_slice(record).ok()
    }

    pub(super) fn stream(&self) -> &str {
        self.source.strip_prefix("/streams/").unwrap_or(&self.source)
    }

    pub(super) fn sequence(&self) -> Option<u64> {
        self.sequence.parse().ok()
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// The record's values of a field.
    pub(super) fn values(&self, field: Field) -> impl Iterator<Item = &str> {
        let (one, many): (Option<&str>, &[Cow<'a, str>]) = match field {
            Field::Type => (Some(&self.kind), &[]),
            Field::Stream => (Some(self.stream()), &[]),
            Field::Rule => (None, &self.data.rules),
            Field::Control => (None, &self.data.controls),
            Field::Incident => (None, &self.data.incidents),
        };
        one.into_iter().chain(many.iter().map(|value| &**value))
    }
}

/// The members of `data` that the index knows.
#[derive(Debug, Default)]
pub(super) struct Named<'a> {
    rules: Vec<Cow<'a, str>>,
    controls: Vec<Cow<'a, str>>,
    incidents: Vec<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Named<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Named<'a>, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Named<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<'de>, A::Error> {
                let mut named = Named::default();
                while let Some(Text(name)) = map.next_key()? {
                    let list = match &*name {
                        "rule" | "rules" => &mut named.rules,
                        "control" | "controls" => &mut named.controls,
                        "incident" | "incidents" => &mut named.incidents,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    list.extend(map.next_value::<Texts<'de>>()?.0);
                    list.truncate(VALUES_MAX);
                }
                Ok(named)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A text, or the texts of a list; none in anything else.
struct Texts<'a>(Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts<'a>, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Texts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Texts<'de>, E> {
                Ok(Texts(vec![Cow::Borrowed(text)]))
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts<'de>, E> {
                Ok(Texts(vec![Cow::Owned(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts<'de>, A::Error> {
                let mut texts = Vec::new();
                while let Some(Texts(inner)) = list.next_element()? {
                    if texts.len() < VALUES_MAX {
                        texts.extend(inner.into_iter().take(1));
                    }
                }
                Ok(Texts(texts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Texts(Vec::new()))
            }

            fn visit_unit<E>(self) -> Result<Texts<'de>, E> {
                Ok(Texts(Vec::new()))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Texts<'de>, E> {
                Ok(Texts(Vec::new()))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Texts<'de>, E> {
                Ok(Texts(Vec::new()))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Texts<'de>, E> {
                Ok(Texts(Vec::new()))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Texts<'de>, E> {
                Ok(Texts(Vec::new()))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(data: &str) -> String {
        format!(
            r#"{{"data":{data},"id":"a.b/0","sequence":"00000000000000000007","source":"/streams/a.b","time":"2026-01-31T12:00:00.000000000Z","type":"cairn.evidence.received.v1"}}"#
        )
    }

    #[test]
    fn rules_controls_and_incidents_are_found_wherever_they_stand() {
        let text = record(
            r#"{"control":["AC-2",7,["SC-7"],{"x":1}],"incident":"INC-1 \"x\"","incidents":["INC-2"],"rule":{"name":"no"},"rules":null,"x":[1]}"#,
        );
        let seen = Seen::read(text.as_bytes()).unwrap();
        let values = |field| seen.values(field).collect::<Vec<_>>();
        assert_eq!(values(Field::Type), ["cairn.evidence.received.v1"]);
        assert_eq!(values(Field::Stream), ["a.b"]);
        assert_eq!(values(Field::Control), ["AC-2", "SC-7"]);
        assert_eq!(values(Field::Incident), ["INC-1 \"x\"", "INC-2"]);
        assert!(values(Field::Rule).is_empty());
        assert_eq!(seen.sequence(), Some(7));
        assert!(seen.time().is_some());
        assert!(Seen::read(b"no record").is_none());
    }

    #[test]
    fn values_at_their_limits() {
        let many: Vec<String> = (0..VALUES_MAX + 1).map(|n| format!("\"{n}\"")).collect();
        let text = record(&format!(r#"{{"rules":[{}]}}"#, many.join(",")));
        assert_eq!(Seen::read(text.as_bytes()).unwrap().values(Field::Rule).count(), VALUES_MAX);
        assert_eq!(cut(&"x".repeat(VALUE_LEN_MAX)).len(), VALUE_LEN_MAX);
        assert_eq!(cut(&"x".repeat(VALUE_LEN_MAX + 1)).len(), VALUE_LEN_MAX);
        assert_eq!(cut(&"é".repeat(128)).len(), VALUE_LEN_MAX - 1);
    }
}
