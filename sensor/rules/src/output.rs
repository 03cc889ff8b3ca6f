//! Output templates: `A shell in a container (user=%user.name parent=%proc.pname)`.
//!
//! `%` begins a field, with an optional width before it and an optional argument after it (`%20proc.name`, `%proc.aname[2]`),
//! or a transformer over one (`%toupper(proc.name)`); `%%` is a percent sign. A leading `*`, which older Falco files have, means nothing more.

use std::collections::BTreeMap;

use crate::compile::{Reader, Unary};
use crate::condition::parse_field;
use crate::engine::Context;
use crate::fields::FieldValue;
use crate::limits::{OUTPUT_BYTES_MAX, OUTPUT_FIELDS_MAX};
use crate::source::Vocabulary;

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Literal(String),
    Field { key: String, reader: Reader, width: usize },
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

impl Template {
    pub(crate) fn parse(text: &str, vocabulary: Vocabulary<'_>) -> Result<Self, TemplateError> {
        if text.len() > OUTPUT_BYTES_MAX {
            return Err(limit(0, format!("an output of {} bytes, more than {OUTPUT_BYTES_MAX}", text.len())));
        }
        let mut pieces = Vec::new();
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
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            let (piece, end) = parse_token(text, percent, vocabulary)?;
            count += 1;
            if count > OUTPUT_FIELDS_MAX {
                return Err(limit(percent, format!("more than {OUTPUT_FIELDS_MAX} fields in an output")));
            }
            pieces.push(piece);
            at = end;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// The fields it shows, as written, without transformers.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Field { key, .. } => {
                Some(key.rsplit_once('(').map_or(key.as_str(), |(_, inner)| inner.trim_end_matches(')')))
            }
            Piece::Literal(_) => None,
        })
    }

    pub(crate) fn render(&self, context: &Context<'_>) -> (String, BTreeMap<String, FieldValue>) {
        let mut text = String::new();
        let mut values = BTreeMap::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Field { key, reader, width } => {
                    let value = reader.read(context).map_or(FieldValue::Absent, FieldValue::from);
                    let shown = value.to_string();
                    match width {
                        0 => text.push_str(&shown),
                        width => text.push_str(&format!("{:<width$}", shown.chars().take(*width).collect::<String>())),
                    }
                    values.insert(key.clone(), value);
                }
            }
        }
        (text, values)
    }
}

/// The token at a `%`, and where it ends.
fn parse_token(text: &str, percent: usize, vocabulary: Vocabulary<'_>) -> Result<(Piece, usize), TemplateError> {
    let mut at = percent + 1;
    let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
    let width = if digits == 0 {
        0
    } else {
        let width = text[at..at + digits].parse::<usize>().ok().filter(|width| (1..=WIDTH_MAX).contains(width));
        width.ok_or_else(|| limit(at, format!("a width that is not from 1 to {WIDTH_MAX}")))?
    };
    at += digits;
    let start = at;
    let mut transformers = Vec::new();
    while let Some((transformer, length)) = Unary::at_start_of(&text[at..]) {
        transformers.push(transformer);
        at += length;
    }
    let Some(length) = vocabulary.longest_known(&text[at..]) else {
        return Err(unknown(text, at, vocabulary));
    };
    let field_start = at;
    at += length;
    if text[at..].starts_with('[') {
        let Some(close) = text[at..].find(']') else {
            let message = "`[` is not closed by `]`".to_owned();
            return Err(TemplateError { offset: at, message, hint: None, is_limit: false, is_unknown_field: false });
        };
        at += close + 1;
    }
    let plain = |offset: usize, message: String, hint: Option<String>| TemplateError {
        offset,
        message,
        hint,
        is_limit: false,
        is_unknown_field: false,
    };
    let field = parse_field(&text[field_start..at])
        .map_err(|error| plain(field_start + error.offset, error.message, error.hint))?;
    let resolved = vocabulary.resolve(&field).map_err(|error| plain(field_start, error.to_string(), error.hint()))?;
    let mut reader = Reader::field(resolved);
    for transformer in transformers.into_iter().rev() {
        if !text[at..].starts_with(')') {
            return Err(plain(at, "a transformer is not closed by `)`".to_owned(), None));
        }
        at += 1;
        reader = Reader::Unary(transformer, Box::new(reader));
    }
    let key = text[start..at].to_owned();
    Ok((Piece::Field { key, reader, width }, at))
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
        assert_eq!(error("%proc.aname[1"), "`[` is not closed by `]` at 11");
        assert_eq!(error("%toupper(proc.name"), "a transformer is not closed by `)` at 18");
        assert_eq!(error("%proc.name[1]"), "field `proc.name` takes no argument in `[]` at 1");
        assert_eq!(error("%9999999proc.name"), "a width that is not from 1 to 1024 at 1");
        assert_eq!(parse("%proc.nmae").unwrap_err().hint.as_deref(), Some("did you mean `proc.name`?"));
    }

    #[test]
    fn limits() {
        assert!(parse(&"x".repeat(OUTPUT_BYTES_MAX)).is_ok());
        assert!(parse(&"x".repeat(OUTPUT_BYTES_MAX + 1)).unwrap_err().is_limit);
        assert!(parse(&"%evt.num".repeat(OUTPUT_FIELDS_MAX)).is_ok());
        assert!(parse(&"%evt.num".repeat(OUTPUT_FIELDS_MAX + 1)).unwrap_err().is_limit);
    }
}
