//! Output templates: `A shell in a container (user=%user.name parent=%proc.pname)`.
//!
//! `%` begins a field, with an optional width before it and an optional argument after it (`%20proc.name`, `%proc.aname[2]`), or a
//! transformer over one (`%toupper(proc.name)`). What follows the longest known field is text again. A leading `*`, which older Falco
//! files have, means nothing more. `%%` is a percent sign; Falco has no way to write one.
//!
//! A field's value is shown twice, and not always alike ([`Print`]): in the text, and in the alert's fields. There stand the fields
//! themselves, as Falco has it: of `%toupper(proc.name)` the field `proc.name`, untransformed.

mod append;

use std::collections::BTreeMap;

use crate::compile::{self, Reader};
use crate::condition::{Argument, FieldRef, Operand, parse_field, parse_operand};
use crate::engine::Context;
use crate::fields::{FieldError, FieldValue, Print, Resolved};
use crate::limits::{OUTPUT_BYTES_MAX, OUTPUT_FIELDS_MAX};
use crate::source::Vocabulary;

pub(crate) use append::Extra;
pub use append::{AppendError, AppendMatch, AppendOutput, ExtraField};

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    /// What an alert's fields hold: each field once.
    shown: Vec<Shown>,
    /// Where `%container.info` stands first, which Falco has done away with: nothing is shown for it.
    container_info: Option<usize>,
}

#[derive(Debug)]
enum Piece {
    Literal(String),
    /// A width of 0 is none.
    Value {
        reader: Reader,
        print: Print,
        width: usize,
    },
}

#[derive(Debug)]
struct Shown {
    name: String,
    reader: Reader,
    print: Print,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct TemplateError {
    /// Byte offset in the template.
    pub(crate) offset: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) is_limit: bool,
    /// The field is not known at all: `skip-if-unknown-filter` forgives that.
    pub(crate) is_unknown_field: bool,
}

/// The widest a field may be padded.
const WIDTH_MAX: usize = 1_024;
/// Stood for the container's id and name before those were added to every output that wants them.
const CONTAINER_INFO: &str = "%container.info";

impl Template {
    pub(crate) fn parse(text: &str, vocabulary: Vocabulary<'_>) -> Result<Self, TemplateError> {
        if text.len() > OUTPUT_BYTES_MAX {
            return Err(limit(0, format!("an output of {} bytes, more than {OUTPUT_BYTES_MAX}", text.len())));
        }
        let mut template = Self { pieces: Vec::new(), shown: Vec::new(), container_info: None };
        let mut literal = String::new();
        let mut at = usize::from(text.starts_with('*'));
        let mut count = 0;
        while let Some(percent) = text[at..].find('%').map(|found| at + found) {
            literal.push_str(&text[at..percent]);
            if text[percent + 1..].starts_with('%') {
                literal.push('%');
                at = percent + 2;
                continue;
            }
            if text[percent..].starts_with(CONTAINER_INFO) {
                template.container_info = template.container_info.or(Some(percent));
                at = percent + CONTAINER_INFO.len();
                continue;
            }
            if !literal.is_empty() {
                template.pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            let token = Token::parse(text, percent, vocabulary)?;
            count += token.fields.len();
            if count > OUTPUT_FIELDS_MAX {
                return Err(limit(percent, format!("more than {OUTPUT_FIELDS_MAX} fields in an output")));
            }
            for field in token.fields {
                if template.shown.iter().all(|shown| shown.name != field.name) {
                    let print = Print::of(&field.name, field.kind);
                    let name = field.name.clone();
                    template.shown.push(Shown { name, reader: Reader::field(field.shown()), print });
                }
            }
            template.pieces.push(Piece::Value { reader: token.reader, print: token.print, width: token.width });
            at = token.end;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            template.pieces.push(Piece::Literal(literal));
        }
        Ok(template)
    }

    /// The fields it shows, as written, without transformers.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.shown.iter().map(|shown| shown.name.as_str())
    }

    /// Where it has `%container.info`, if it has.
    pub(crate) fn container_info(&self) -> Option<usize> {
        self.container_info
    }

    /// The text, and the fields in it.
    pub(crate) fn render(&self, context: &Context<'_>) -> (String, BTreeMap<String, FieldValue>) {
        let value = |reader: &Reader| reader.read(context).map_or(FieldValue::Absent, FieldValue::from);
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value { reader, print, width } => {
                    let shown = print.text(&value(reader));
                    match width {
                        0 => text.push_str(&shown),
                        width => text.push_str(&resized(&shown, *width)),
                    }
                }
            }
        }
        let values = self
            .shown
            .iter()
            .map(|shown| (shown.name.clone(), shown.print.field(value(&shown.reader), context.event.time_ns)));
        (text, values.collect())
    }
}

/// The text in this many bytes, as upstream counts: cut or filled up with blanks. What is cut in the middle of a character is no
/// UTF-8 any more, and is shown as what is none.
fn resized(text: &str, width: usize) -> String {
    let kept = &text.as_bytes()[..text.len().min(width)];
    let mut out = String::from_utf8_lossy(kept).into_owned();
    out.extend(std::iter::repeat_n(' ', width - kept.len()));
    out
}

/// What stands at a `%`.
struct Token {
    reader: Reader,
    print: Print,
    width: usize,
    fields: Vec<Resolved>,
    /// Where the text goes on.
    end: usize,
}

impl Token {
    fn parse(text: &str, percent: usize, vocabulary: Vocabulary<'_>) -> Result<Self, TemplateError> {
        let mut at = percent + 1;
        let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
        let width = if digits == 0 {
            0
        } else {
            let width = text[at..at + digits].parse::<usize>().ok().filter(|width| (1..=WIDTH_MAX).contains(width));
            width.ok_or_else(|| limit(at, format!("a width that is not from 1 to {WIDTH_MAX}")))?
        };
        at += digits;
        if compile::is_transformer_at(&text[at..]) {
            return Self::transformer(text, at, width, vocabulary);
        }
        let Some(length) = vocabulary.longest_known(&text[at..]) else {
            return Err(unknown(text, at, vocabulary));
        };
        let (field, end) = field_at(text, at, at + length, vocabulary)?;
        let print = Print::of(&field.name, field.kind);
        Ok(Self { reader: Reader::field(field.clone().shown()), print, width, fields: vec![field], end })
    }

    fn transformer(text: &str, at: usize, width: usize, vocabulary: Vocabulary<'_>) -> Result<Self, TemplateError> {
        let Some(close) = closing(&text[at..]).map(|length| at + length) else {
            return Err(plain(at, "a transformer is not closed by `)`".to_owned(), None));
        };
        // `getopt(...)[n]` alone takes brackets; after any other they are text.
        let option = text[close..].find(']').filter(|_| text[close..].starts_with('[')).map(|found| close + found + 1);
        let with_option = option.and_then(|end| transformed(&text[at..end], vocabulary).ok().map(|found| (found, end)));
        let ((reader, fields), end) = match with_option {
            Some(found) => found,
            None => {
                let found = transformed(&text[at..close], vocabulary);
                (found.map_err(|error| TemplateError { offset: at + error.offset, ..error })?, close)
            }
        };
        Ok(Self { reader, print: Print::Plain, width, fields, end })
    }
}

/// The field that stands from `at` to `name_end`, its argument after that if what follows in `[]` is one; and where it ends.
fn field_at(
    text: &str,
    at: usize,
    name_end: usize,
    vocabulary: Vocabulary<'_>,
) -> Result<(Resolved, usize), TemplateError> {
    let resolve = |end: usize| -> Result<Resolved, TemplateError> {
        let field = parse_field(&text[at..end]).map_err(|error| plain(at + error.offset, error.message, error.hint))?;
        vocabulary.resolve(&field).map_err(|error| refused(at, &error))
    };
    let alone = resolve(name_end);
    if !text[name_end..].starts_with('[') {
        return Ok((alone?, name_end));
    }
    let with_argument = match text[name_end..].find(']') {
        Some(close) => resolve(name_end + close + 1).map(|field| (field, name_end + close + 1)),
        None => Err(plain(name_end, "`[` is not closed by `]`".to_owned(), None)),
    };
    // `%proc.name[%proc.pid]`: brackets that are no argument are text.
    with_argument.or_else(|error| alone.map(|field| (field, name_end)).map_err(|_| error))
}

/// A transformer's reader, and the fields in it.
fn transformed(text: &str, vocabulary: Vocabulary<'_>) -> Result<(Reader, Vec<Resolved>), TemplateError> {
    let operand = parse_operand(text).map_err(|error| plain(error.offset, error.message, error.hint))?;
    let mut inner = Vec::new();
    collect_fields(&operand, &mut inner);
    let mut fields = Vec::with_capacity(inner.len());
    for field in inner {
        fields.push(vocabulary.resolve(field).map_err(|error| refused(field.span.start, &error))?);
    }
    let reader =
        compile::operand(&operand, vocabulary).map_err(|error| plain(error.span.start, error.message, error.hint))?;
    Ok((reader, fields))
}

fn collect_fields<'a>(operand: &'a Operand, out: &mut Vec<&'a FieldRef>) {
    match operand {
        Operand::Field(field) => out.push(field),
        Operand::Transformed { arguments, .. } => arguments.iter().for_each(|argument| collect_of(argument, out)),
    }
}

fn collect_of<'a>(argument: &'a Argument, out: &mut Vec<&'a FieldRef>) {
    match argument {
        Argument::Operand(operand) => collect_fields(operand, out),
        Argument::Word(_) => {}
        Argument::List(arguments) => arguments.iter().for_each(|argument| collect_of(argument, out)),
    }
}

/// Length of a text up to the parenthesis that closes its first one; those in quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') if depth <= 1 => return Some(at + 1),
            (None, b')') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn plain(offset: usize, message: String, hint: Option<String>) -> TemplateError {
    TemplateError { offset, message, hint, is_limit: false, is_unknown_field: false }
}

fn refused(offset: usize, error: &FieldError) -> TemplateError {
    TemplateError { is_unknown_field: error.is_unknown(), ..plain(offset, error.to_string(), error.hint()) }
}

fn unknown(text: &str, at: usize, vocabulary: Vocabulary<'_>) -> TemplateError {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let rest = &text[at..];
    let name = rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())].trim_end_matches('.');
    let (message, hint) = if name.is_empty() {
        ("`%` without a field".to_owned(), Some("a percent sign itself is written `%%`".to_owned()))
    } else {
        (format!("unknown field `{name}` in the output"), vocabulary.hint(name))
    };
    TemplateError { offset: at, message, hint, is_limit: false, is_unknown_field: !name.is_empty() }
}

fn limit(offset: usize, message: String) -> TemplateError {
    TemplateError { offset, message, hint: None, is_limit: true, is_unknown_field: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, TemplateError> {
        Template::parse(text, Vocabulary::kernel())
    }

    fn error(text: &str) -> String {
        let error = parse(text).unwrap_err();
        format!("{} at {}", error.message, error.offset)
    }

    #[test]
    fn what_is_a_template() {
        for text in [
            "plain",
            "100%% sure",
            "*%proc.name",
            "(%proc.name)",
            "%proc.name.",
            "%20proc.name|",
            "%proc.aname[2]=x",
            "%toupper(basename(proc.exepath)) %evt.arg.flags",
            "%join(\", )\", (proc.name, proc.pname))[0]",
            "%getopt(proc.args, \"nt:\")[t]",
            "%concat( proc.name , \"-\" , proc.pname )",
            "%proc.name[1]",
            "%proc.aname[1",
            "%proc.name[%proc.pid]",
            "%container.image.repository:%container.image.tag",
            "",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_not() {
        assert_eq!(error("a % b"), "`%` without a field at 3");
        assert_eq!(error("a %proc.nmae"), "unknown field `proc.nmae` in the output at 3");
        assert_eq!(error("%evt.arg[flags"), "`[` is not closed by `]` at 8");
        assert_eq!(error("%toupper(proc.name"), "a transformer is not closed by `)` at 1");
        assert_eq!(error("a %toupper(proc.nmae)"), "unknown field `proc.nmae` at 11");
        assert_eq!(error("%toupper(proc.name, fd.name)"), "`toupper` takes one field at 1");
        assert_eq!(error("%9999999proc.name"), "a width that is not from 1 to 1024 at 1");
        assert_eq!(parse("%proc.nmae").unwrap_err().hint.as_deref(), Some("did you mean `proc.name`?"));
    }

    #[test]
    fn fields_stand_without_their_transformers() {
        let fields = |text: &str| parse(text).unwrap().fields().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(fields("%toupper(proc.name) %proc.name %tolower(basename(fd.name))"), ["proc.name", "fd.name"]);
        assert_eq!(fields("%join(\",\", (proc.aname[2], user.name))"), ["proc.aname[2]", "user.name"]);
    }

    #[test]
    fn widths_count_bytes() {
        assert_eq!(resized("cat", 5), "cat  ");
        assert_eq!(resized("concatenate", 5), "conca");
        assert_eq!(resized("caf\u{e9}", 4), "caf\u{fffd}");
        assert_eq!(resized("caf\u{e9}", 6), "caf\u{e9} ");
        assert_eq!(resized("", 1), " ");
    }

    #[test]
    fn what_stood_for_containers_is_nothing() {
        let template = parse("out 1 (%container.info)").unwrap();
        assert_eq!(template.container_info(), Some(7));
        assert_eq!(template.fields().count(), 0);
        assert!(parse("%container.id").unwrap().container_info().is_none());
    }

    #[test]
    fn limits() {
        assert!(parse(&"x".repeat(OUTPUT_BYTES_MAX)).is_ok());
        assert!(parse(&"x".repeat(OUTPUT_BYTES_MAX + 1)).unwrap_err().is_limit);
        assert!(parse(&"%evt.num".repeat(OUTPUT_FIELDS_MAX)).is_ok());
        assert!(parse(&"%evt.num".repeat(OUTPUT_FIELDS_MAX + 1)).unwrap_err().is_limit);
    }
}
