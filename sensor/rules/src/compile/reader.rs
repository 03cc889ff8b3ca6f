//! What stands on a side of a comparison: a field, or a transformer over fields and words.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};

use super::options::Letters;
use crate::engine::Context;
use crate::fields::{FieldArgument, Kind, Read, Resolved, Value};

/// Something that gives a value for an event, or none.
#[derive(Clone)]
pub(crate) enum Reader {
    Field {
        name: Arc<str>,
        read: Option<Read>,
        argument: FieldArgument,
        kind: Kind,
    },
    Word(Box<[u8]>),
    Unary(Unary, Box<Reader>),
    Join {
        separator: Box<Reader>,
        parts: Vec<Reader>,
    },
    /// Several texts as one list, for transformers that take one.
    List(Vec<Reader>),
    /// The process's arguments after the first, each for itself.
    Arguments,
    /// Options among arguments; of `chosen`, its value.
    Options {
        arguments: Box<Reader>,
        letters: Box<Letters>,
        chosen: Option<u8>,
    },
}

/// A transformer of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unary {
    ToLower,
    ToUpper,
    Base64,
    Basename,
    Length,
}

/// Standard alphabet, padding or not: attackers are not tidy.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Unary {
    const ALL: [(&'static str, Self); 5] = [
        ("tolower", Self::ToLower),
        ("toupper", Self::ToUpper),
        ("b64", Self::Base64),
        ("basename", Self::Basename),
        ("len", Self::Length),
    ];

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, unary)| *unary)
    }

    fn apply<'a>(self, value: Value<'a>) -> Option<Value<'a>> {
        match value {
            Value::AnyText(texts) if self == Self::Length => Some(Value::Number(texts.len() as i128)),
            Value::AnyText(texts) => {
                let texts: Option<Vec<_>> = texts.into_iter().map(|text| self.apply_to_text(text)).collect();
                texts.map(Value::AnyText)
            }
            Value::Text(text) if self == Self::Length => Some(Value::Number(text.len() as i128)),
            Value::Text(text) => self.apply_to_text(text).map(Value::Text),
            other => self.apply_to_text(Cow::Owned(other.as_text().into_owned())).map(Value::Text),
        }
    }

    fn apply_to_text<'a>(self, text: Cow<'a, [u8]>) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::ToLower => Some(Cow::Owned(text.to_ascii_lowercase())),
            Self::ToUpper => Some(Cow::Owned(text.to_ascii_uppercase())),
            Self::Base64 => BASE64.decode(&text).ok().map(Cow::Owned),
            Self::Basename => {
                let start = text.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
                Some(match text {
                    Cow::Borrowed(text) => Cow::Borrowed(&text[start..]),
                    Cow::Owned(text) => Cow::Owned(text[start..].to_vec()),
                })
            }
            Self::Length => None,
        }
    }
}

impl Reader {
    pub(crate) fn field(resolved: Resolved) -> Self {
        Self::Field {
            name: resolved.name.into(),
            read: resolved.read,
            argument: resolved.argument,
            kind: resolved.kind,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Field { kind, .. } => *kind,
            Self::Unary(Unary::Length, _) => Kind::Number,
            Self::Unary(_, inner) if inner.kind() == Kind::TextList => Kind::TextList,
            Self::List(_) | Self::Arguments | Self::Options { chosen: None, .. } => Kind::TextList,
            Self::Word(_) | Self::Unary(..) | Self::Join { .. } | Self::Options { .. } => Kind::Text,
        }
    }

    /// Is it read from a document, rather than from an event of the kernel?
    pub(crate) fn is_of_document(&self) -> bool {
        match self {
            Self::Field { read, .. } => matches!(read, Some(Read::Document(_))),
            Self::Unary(_, inner) => inner.is_of_document(),
            Self::Options { arguments, .. } => arguments.is_of_document(),
            Self::Word(_) | Self::Join { .. } | Self::List(_) | Self::Arguments => false,
        }
    }

    /// False when a field it needs is known but not supplied: it never gives a value.
    pub(crate) fn is_supplied(&self) -> bool {
        match self {
            Self::Field { read, .. } => read.is_some(),
            Self::Word(_) | Self::Arguments => true,
            Self::Unary(_, inner) => inner.is_supplied(),
            Self::Join { separator, parts } => separator.is_supplied() && parts.iter().all(Self::is_supplied),
            Self::List(parts) => parts.iter().all(Self::is_supplied),
            Self::Options { arguments, .. } => arguments.is_supplied(),
        }
    }

    #[inline]
    pub(crate) fn read<'a>(&'a self, context: &Context<'a>) -> Option<Value<'a>> {
        match self {
            Self::Field { read, argument, .. } => read.as_ref()?.value(context, argument),
            Self::Word(word) => Some(Value::bytes(word)),
            Self::Unary(unary, inner) => unary.apply(inner.read(context)?),
            Self::Join { separator, parts } => {
                let separator = separator.read(context)?;
                let mut out = Vec::new();
                let mut is_first = true;
                for part in parts {
                    for text in texts(part.read(context)?) {
                        if !std::mem::take(&mut is_first) {
                            out.extend_from_slice(&separator.as_text());
                        }
                        out.extend_from_slice(&text);
                    }
                }
                Some(Value::Text(Cow::Owned(out)))
            }
            Self::List(parts) => {
                let mut all = Vec::with_capacity(parts.len());
                for part in parts {
                    all.extend(texts(part.read(context)?));
                }
                Some(Value::AnyText(all))
            }
            Self::Arguments => {
                let arguments = &context.process?.image.process.args;
                Some(Value::AnyText(arguments.iter().skip(1).map(|text| Cow::Borrowed(text.as_bytes())).collect()))
            }
            Self::Options { arguments, letters, chosen } => {
                let words = texts(arguments.read(context)?);
                match chosen {
                    Some(option) => letters.value(words, *option).map(Value::Text),
                    // No option at all is absent: `in` would hold for it.
                    None => Some(letters.list(words)).filter(|found| !found.is_empty()).map(Value::AnyText),
                }
            }
        }
    }
}

/// The texts of a value that may be a list.
fn texts(value: Value<'_>) -> Vec<Cow<'_, [u8]>> {
    match value {
        Value::AnyText(texts) => texts,
        other => vec![other.into_text()],
    }
}

/// A field's name as written says what it is: one source's fields are compared only with each other.
impl PartialEq for Reader {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Field { name, .. }, Self::Field { name: other, .. }) => name == other,
            (Self::Word(word), Self::Word(other)) => word == other,
            (Self::Unary(unary, inner), Self::Unary(other, other_inner)) => unary == other && inner == other_inner,
            (Self::Join { separator, parts }, Self::Join { separator: other, parts: others }) => {
                separator == other && parts == others
            }
            (Self::List(parts), Self::List(others)) => parts == others,
            (Self::Arguments, Self::Arguments) => true,
            (
                Self::Options { arguments, letters, chosen },
                Self::Options { arguments: others, letters: other_letters, chosen: other_chosen },
            ) => arguments == others && letters == other_letters && chosen == other_chosen,
            _ => false,
        }
    }
}

impl Eq for Reader {}

impl Hash for Reader {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Field { name, .. } => name.hash(state),
            Self::Word(word) => word.hash(state),
            Self::Unary(unary, inner) => (unary, inner).hash(state),
            Self::Join { separator, parts } => (separator, parts).hash(state),
            Self::List(parts) => parts.hash(state),
            Self::Arguments => {}
            Self::Options { arguments, letters, chosen } => (arguments, letters, chosen).hash(state),
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field { name, kind, .. } => write!(formatter, "Field({name}: {kind:?})"),
            Self::Word(word) => write!(formatter, "Word({:?})", String::from_utf8_lossy(word)),
            Self::Unary(unary, inner) => write!(formatter, "{unary:?}({inner:?})"),
            Self::Join { parts, .. } => write!(formatter, "Join({parts:?})"),
            Self::List(parts) => write!(formatter, "List({parts:?})"),
            Self::Arguments => formatter.write_str("Arguments"),
            Self::Options { arguments, chosen, .. } => write!(formatter, "Options({arguments:?}, {chosen:?})"),
        }
    }
}
