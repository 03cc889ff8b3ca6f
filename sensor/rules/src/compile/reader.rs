//! What stands on a side of a comparison: a field, or a transformer over fields and words.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};

use crate::engine::Context;
use crate::fields::{FieldArgument, Kind, Read, Resolved, Value};

/// Something that gives a value for an event, or none.
#[derive(Clone)]
pub(crate) enum Reader {
    Field { name: Arc<str>, read: Option<Read>, argument: FieldArgument, kind: Kind },
    Word(Box<[u8]>),
    Unary(Unary, Box<Reader>),
    Join { separator: Box<[u8]>, parts: Vec<Reader> },
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

    /// The transformer a text begins with, and the length of its name and `(`.
    pub(crate) fn at_start_of(text: &str) -> Option<(Self, usize)> {
        let (name, _) = text.split_once('(')?;
        Self::by_name(name).map(|unary| (unary, name.len() + 1))
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
            Self::Word(_) | Self::Unary(..) | Self::Join { .. } => Kind::Text,
        }
    }

    /// False when a field it needs is known but not supplied: it never gives a value.
    pub(crate) fn is_supplied(&self) -> bool {
        match self {
            Self::Field { read, .. } => read.is_some(),
            Self::Word(_) => true,
            Self::Unary(_, inner) => inner.is_supplied(),
            Self::Join { parts, .. } => parts.iter().all(Self::is_supplied),
        }
    }

    #[inline]
    pub(crate) fn read<'a>(&'a self, context: &Context<'a>) -> Option<Value<'a>> {
        match self {
            Self::Field { read, argument, .. } => read.as_ref()?.value(context, argument),
            Self::Word(word) => Some(Value::bytes(word)),
            Self::Unary(unary, inner) => unary.apply(inner.read(context)?),
            Self::Join { separator, parts } => {
                let mut out = Vec::new();
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        out.extend_from_slice(separator);
                    }
                    out.extend_from_slice(&part.read(context)?.as_text());
                }
                Some(Value::Text(Cow::Owned(out)))
            }
        }
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
        }
    }
}
