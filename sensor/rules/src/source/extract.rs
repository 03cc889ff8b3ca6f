//! How a field of a document source is read. What a source's declaration says becomes an [`Extractor`] once; reading one allocates
//! only where a text must be made.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value as Json;

use super::pointer::{self, Pointer};
use crate::event::{Event, EventKind};
use crate::fields::{FieldArgument, Kind, Value};
use crate::limits::SOURCE_TEXT_BYTES_MAX;

/// Reads one field.
#[derive(Debug)]
pub(crate) struct Extractor {
    pub(super) kind: Kind,
    pub(super) read: Read,
    /// Each value it leads to is an element from which `read` reads; without it the document is the only element.
    pub(super) each: Option<Pointer>,
    pub(super) edit: Option<Edit>,
    /// What an element without a value gives.
    pub(super) default: Option<Box<str>>,
    /// All values as one text, with this between them.
    pub(super) join: Option<Box<str>>,
}

/// Where the value comes from.
#[derive(Debug)]
pub(super) enum Read {
    /// The first of these that leads to a value.
    Paths(Box<[Pointer]>),
    /// The first of these whose condition holds and that gives a value.
    Cases(Box<[Case]>),
    Constant(Box<str>),
    /// Pieces put together.
    Text(Box<[Piece]>),
    /// Numbers added; those that are absent count nothing.
    Sum(Box<[Pointer]>),
    /// The keys of the objects there.
    Keys {
        at: Pointer,
        except: Box<[Box<str>]>,
    },
    /// The parameter of a URL's query that the argument names.
    Query(Pointer),
    /// Is the argument one of the texts there, or, ending in `*`, the beginning of one?
    Holds(Pointer),
    /// Is any of the values there true?
    Any(Pointer),
    /// What the argument, a path, leads to.
    Argument,
    /// The whole document, indented.
    Whole,
    /// The whole document on one line.
    Line,
    /// The event's time in nanoseconds.
    Time,
}

/// A condition and what is read where it holds.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) when: Option<(Pointer, When)>,
    pub(super) read: Read,
}

/// What a case wants of the text at its path.
#[derive(Debug)]
pub(super) enum When {
    In(Box<[Box<str>]>),
    Prefix(Box<[Box<str>]>),
    Present(bool),
}

/// A piece of a text.
#[derive(Debug)]
pub(super) enum Piece {
    Literal(Box<str>),
    At {
        pointer: Pointer,
        is_optional: bool,
    },
    /// Another field of the source.
    Field {
        extractor: Arc<Extractor>,
        is_optional: bool,
    },
}

/// What is done to each text.
#[derive(Debug)]
pub(super) enum Edit {
    /// An image without tag and digest: `registry:5000/team/app:1@sha256:..` becomes `registry:5000/team/app`.
    ImageRepository,
    CutSuffix(Box<str>),
}

/// What is read from, and what the rule says in `[]`.
#[derive(Clone, Copy)]
struct Input<'a> {
    event: &'a Event,
    root: &'a Json,
    base: &'a Json,
    argument: &'a FieldArgument,
}

impl Extractor {
    /// A text that is the same for every event.
    pub(super) fn constant(text: &str) -> Self {
        Self { kind: Kind::Text, read: Read::Constant(text.into()), each: None, edit: None, default: None, join: None }
    }

    pub(super) fn plain(kind: Kind, read: Read) -> Self {
        Self { kind, read, each: None, edit: None, default: None, join: None }
    }

    /// The field's value for an event of its source; `None` when it has none.
    pub(crate) fn read<'a>(&'a self, event: &'a Event, argument: &'a FieldArgument) -> Option<Value<'a>> {
        let EventKind::Document(document) = &event.kind else { return None };
        let input = Input { event, root: &document.body, base: &document.body, argument };
        match self.kind {
            Kind::Number => self.number(input).map(Value::Number),
            Kind::Boolean => match &*self.text(input)? {
                b"true" => Some(Value::Boolean(true)),
                b"false" => Some(Value::Boolean(false)),
                _ => None,
            },
            Kind::TextList => {
                let texts = self.texts(input, false);
                (!texts.is_empty()).then_some(Value::AnyText(texts))
            }
            _ => self.text(input).map(Value::Text),
        }
    }

    /// The one text of a field that is no list.
    fn text<'a>(&'a self, input: Input<'a>) -> Option<Cow<'a, [u8]>> {
        if let Some(separator) = &self.join {
            let texts = self.texts(input, false);
            // An allowance over what is kept, so that nothing long is put together to be thrown away.
            let len = texts.iter().map(|text| text.len() + separator.len()).sum::<usize>();
            let is_kept = !texts.is_empty() && len <= SOURCE_TEXT_BYTES_MAX + separator.len();
            return is_kept.then(|| Cow::Owned(texts.join(separator.as_bytes())));
        }
        let Read::Paths(pointers) = &self.read else { return self.texts(input, true).into_iter().next() };
        if self.each.is_some() || pointers.iter().any(Pointer::is_many) {
            return self.texts(input, true).into_iter().next();
        }
        // Most fields are a value at a path: no list is made for those.
        let found = pointers.iter().find_map(|pointer| text_of(pointer.first(input.base, input.root)?));
        let mut text = found.or_else(|| self.default.as_ref().map(|text| Cow::Borrowed(text.as_bytes())))?;
        if let Some(edit) = &self.edit {
            edit.apply(&mut text);
        }
        Some(text)
    }

    /// The paths it reads by themselves: not those of a text's pieces.
    pub(super) fn pointers(&self) -> Vec<&Pointer> {
        let mut pointers: Vec<&Pointer> = self.each.iter().collect();
        if self.each.is_none() {
            self.read.pointers(&mut pointers);
        }
        pointers
    }

    fn number(&self, input: Input<'_>) -> Option<i128> {
        if let (Read::Sum(pointers), None) = (&self.read, &self.each) {
            let found: Vec<i128> =
                pointers.iter().filter_map(|it| number_of(it.first(input.base, input.root)?)).collect();
            return (!found.is_empty()).then(|| found.iter().fold(0, |sum: i128, next| sum.saturating_add(*next)));
        }
        parse_number(&self.text(input)?)
    }

    /// The texts of all elements, or the first alone.
    fn texts<'a>(&'a self, input: Input<'a>, only_first: bool) -> Vec<Cow<'a, [u8]>> {
        let index = match input.argument {
            FieldArgument::Index(index) => Some(*index),
            _ => None,
        };
        let mut out = Vec::new();
        match &self.each {
            None => self.element(input, index, only_first, &mut out),
            Some(each) => {
                for base in each.find(input.root, input.root, index) {
                    self.element(Input { base, ..input }, None, only_first, &mut out);
                    if only_first && !out.is_empty() {
                        break;
                    }
                }
            }
        }
        if only_first {
            out.truncate(1);
        }
        out
    }

    fn element<'a>(&'a self, input: Input<'a>, index: Option<usize>, only_first: bool, out: &mut Vec<Cow<'a, [u8]>>) {
        let before = out.len();
        self.read.texts(input, index, only_first, out);
        if out.len() == before {
            out.extend(self.default.as_ref().map(|text| Cow::Borrowed(text.as_bytes())));
        }
        if let Some(edit) = &self.edit {
            out[before..].iter_mut().for_each(|text| edit.apply(text));
        }
    }
}

impl Read {
    fn pointers<'r>(&'r self, into: &mut Vec<&'r Pointer>) {
        match self {
            Self::Paths(pointers) | Self::Sum(pointers) => into.extend(&**pointers),
            Self::Cases(cases) => cases.iter().for_each(|case| case.read.pointers(into)),
            Self::Keys { at, .. } => into.push(at),
            Self::Query(pointer) | Self::Holds(pointer) | Self::Any(pointer) => into.push(pointer),
            Self::Constant(_) | Self::Text(_) | Self::Argument | Self::Whole | Self::Line | Self::Time => {}
        }
    }

    fn texts<'a>(&'a self, input: Input<'a>, index: Option<usize>, only_first: bool, out: &mut Vec<Cow<'a, [u8]>>) {
        let before = out.len();
        match self {
            Self::Paths(pointers) => {
                for pointer in &**pointers {
                    if only_first && index.is_none() && !pointer.is_many() {
                        out.extend(pointer.first(input.base, input.root).and_then(text_of));
                    } else {
                        out.extend(pointer.find(input.base, input.root, index).into_iter().filter_map(text_of));
                    }
                    if out.len() > before {
                        return;
                    }
                }
            }
            Self::Cases(cases) => {
                for case in cases.iter().filter(|case| case.holds(input)) {
                    case.read.texts(input, index, only_first, out);
                    if out.len() > before {
                        return;
                    }
                }
            }
            Self::Constant(text) => out.push(Cow::Borrowed(text.as_bytes())),
            Self::Text(pieces) => out.extend(put_together(pieces, input).map(Cow::Owned)),
            Self::Keys { at, except } => {
                let objects = at.find(input.base, input.root, index).into_iter().filter_map(Json::as_object);
                let keys =
                    objects.flat_map(|object| object.keys()).filter(|key| !except.iter().any(|it| **it == ***key));
                out.extend(keys.map(|key| Cow::Borrowed(key.as_bytes())));
            }
            Self::Query(pointer) => out.extend(query(pointer, input)),
            Self::Holds(pointer) => out.extend(holds(pointer, input).map(boolean)),
            Self::Any(pointer) => {
                let found = pointer.find(input.base, input.root, index);
                let is_true = found.iter().any(|value| value.as_bool() == Some(true));
                out.push(boolean(is_true));
            }
            Self::Argument => {
                let text: Cow<'_, str> = match input.argument {
                    FieldArgument::Key(path) => Cow::Borrowed(path),
                    FieldArgument::Index(index) => Cow::Owned(index.to_string()),
                    FieldArgument::None => return,
                };
                // Falco's plugin prints a null that is there; a declared field is absent then.
                let found = pointer::lookup(input.root, &text);
                out.extend(found.map(|value| text_of(value).unwrap_or(Cow::Borrowed(b"null"))));
            }
            Self::Whole => out.extend(serde_json::to_vec_pretty(input.root).ok().map(Cow::Owned)),
            Self::Line => out.push(Cow::Owned(input.root.to_string().into_bytes())),
            Self::Time => out.push(Cow::Owned(input.event.time_ns.to_string().into_bytes())),
            // Sums are numbers and read as such.
            Self::Sum(_) => {}
        }
    }
}

impl Case {
    fn holds(&self, input: Input<'_>) -> bool {
        let Some((pointer, when)) = &self.when else { return true };
        let found = pointer.first(input.base, input.root);
        match when {
            When::Present(wanted) => found.is_some() == *wanted,
            When::In(texts) => {
                found.and_then(text_of).is_some_and(|text| texts.iter().any(|it| it.as_bytes() == &*text))
            }
            When::Prefix(texts) => {
                found.and_then(text_of).is_some_and(|text| texts.iter().any(|it| text.starts_with(it.as_bytes())))
            }
        }
    }
}

impl Edit {
    fn apply(&self, text: &mut Cow<'_, [u8]>) {
        let end = match self {
            Self::ImageRepository => {
                let name = text.iter().position(|byte| *byte == b'@').unwrap_or(text.len());
                // A colon before the last slash belongs to the registry's port.
                let last = text[..name].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
                text[last..name].iter().position(|byte| *byte == b':').map_or(name, |colon| last + colon)
            }
            Self::CutSuffix(suffix) => match text.strip_suffix(suffix.as_bytes()) {
                Some(rest) if !rest.is_empty() => rest.len(),
                _ => text.len(),
            },
        };
        match text {
            Cow::Borrowed(borrowed) => *borrowed = &borrowed[..end],
            Cow::Owned(owned) => owned.truncate(end),
        }
    }
}

/// A value as text: a text itself, null as nothing, all else as JSON.
fn text_of(value: &Json) -> Option<Cow<'_, [u8]>> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(Cow::Borrowed(text.as_bytes())),
        Json::Bool(value) => Some(boolean(*value)),
        other => Some(Cow::Owned(other.to_string().into_bytes())),
    }
}

fn boolean<'a>(value: bool) -> Cow<'a, [u8]> {
    Cow::Borrowed(if value { b"true" } else { b"false" })
}

fn number_of(value: &Json) -> Option<i128> {
    parse_number(&text_of(value)?)
}

/// A whole number, or the whole part of another: clouds write byte counts as `33.0`.
fn parse_number(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(number) = text.parse::<i64>() {
        return Some(i128::from(number));
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(i128::from(number));
    }
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
    // Saturates at the ends of 128 bits, far beyond what an alert shows.
    Some(number as i128)
}

fn put_together(pieces: &[Piece], input: Input<'_>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for piece in pieces {
        let (found, is_optional) = match piece {
            Piece::Literal(literal) => (Some(Cow::Borrowed(literal.as_bytes())), false),
            Piece::At { pointer, is_optional } => {
                (pointer.first(input.base, input.root).and_then(text_of), *is_optional)
            }
            Piece::Field { extractor, is_optional } => {
                let found = match extractor.read(input.event, &FieldArgument::None) {
                    Some(Value::Text(text)) => Some(text),
                    Some(other) => Some(Cow::Owned(other.as_text().into_owned())),
                    None => None,
                };
                (found, *is_optional)
            }
        };
        match found {
            Some(found) => text.extend_from_slice(&found),
            None if is_optional => {}
            None => return None,
        }
        if text.len() > SOURCE_TEXT_BYTES_MAX {
            return None;
        }
    }
    Some(text)
}

fn holds(pointer: &Pointer, input: Input<'_>) -> Option<bool> {
    let wanted: Cow<'_, str> = match input.argument {
        FieldArgument::Key(key) => Cow::Borrowed(key),
        FieldArgument::Index(index) => Cow::Owned(index.to_string()),
        FieldArgument::None => return None,
    };
    let found = pointer.find(input.base, input.root, None);
    let is_it = |text: &[u8]| match wanted.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix.as_bytes()),
        None => text == wanted.as_bytes(),
    };
    Some(found.into_iter().filter_map(text_of).any(|text| is_it(&text)))
}

/// The first value of a parameter in a URL's query.
fn query<'a>(pointer: &Pointer, input: Input<'a>) -> Option<Cow<'a, [u8]>> {
    let FieldArgument::Key(wanted) = input.argument else { return None };
    let url = pointer.first(input.base, input.root)?.as_str()?;
    let query = url.split_once('#').map_or(url, |(url, _)| url).split_once('?')?.1;
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*form_decoded(name) == *wanted.as_bytes()).then(|| form_decoded(value))
    })
}

/// `a+b%20c` as `a b c`; a `%` that begins no byte stands for itself.
fn form_decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.first().and_then(digit).zip(after.get(1).and_then(digit));
        match (first, hex) {
            (b'%', Some((high, low))) => {
                decoded.push(high << 4 | low);
                rest = &after[2..];
            }
            (b'+', _) => {
                decoded.push(b' ');
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_images() {
        for (image, repository) in [
            ("nginx", "nginx"),
            ("nginx:1.27", "nginx"),
            ("docker.io/calico/node:v3@sha256:00", "docker.io/calico/node"),
            ("localhost:5000/team/app:1", "localhost:5000/team/app"),
            ("localhost:5000/app@sha256:00", "localhost:5000/app"),
            ("", ""),
        ] {
            let mut text = Cow::Borrowed(image.as_bytes());
            Edit::ImageRepository.apply(&mut text);
            assert_eq!(&*text, repository.as_bytes(), "{image}");
        }
    }

    #[test]
    fn numbers_as_documents_write_them() {
        assert_eq!(parse_number(b"33.0"), Some(33));
        assert_eq!(parse_number(b"18446744073709551615"), Some(u64::MAX.into()));
        assert_eq!(parse_number(b"-2.9"), Some(-2));
        assert_eq!(parse_number(b"1e400"), None);
        assert_eq!(parse_number(b"many"), None);
    }

    #[test]
    fn forms_are_decoded() {
        assert_eq!(&*form_decoded("a+b%20c%zz%4"), b"a b c%zz%4");
        assert_eq!(&*form_decoded("%ff"), b"\xff");
    }
}
