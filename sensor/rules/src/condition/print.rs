//! The canonical print: what `cairn rules explain` shows, and what two conditions are compared by. It parses to the same tree.

use std::fmt;

use super::{Argument, Check, Expr, FieldRef, Operand, Right, Word};

impl fmt::Display for Expr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => joined(formatter, parts, " and "),
            Self::Or(parts) => joined(formatter, parts, " or "),
            Self::Not(inner) => write!(formatter, "not {inner}"),
            Self::Macro(name) => formatter.write_str(&name.value),
            Self::Check(check) => write!(formatter, "{check}"),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.left, self.operator.value.as_str())?;
        match &self.right {
            Right::Nothing => Ok(()),
            Right::One(word) => write!(formatter, " {word}"),
            Right::Many(words) => write!(formatter, " ({})", comma(words)),
            Right::Quantified(quantifier, words) => write!(formatter, " {} ({})", quantifier.as_str(), comma(words)),
            Right::Operand(Operand::Field(field)) => write!(formatter, " val({field})"),
            Right::Operand(operand) => write!(formatter, " {operand}"),
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => write!(formatter, "{field}"),
            Self::Transformed { name, arguments, index } => {
                write!(formatter, "{}({})", name.value, comma(arguments))?;
                match index {
                    Some(index) => write!(formatter, "[{}]", index_text(&index.value)),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operand(operand) => write!(formatter, "{operand}"),
            Self::Word(word) if word.quoted => formatter.write_str(&in_quotes(&word.text)),
            Self::Word(word) => formatter.write_str(&word.text),
            Self::List(arguments) => write!(formatter, "({})", comma(arguments)),
        }
    }
}

impl fmt::Display for FieldRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.argument {
            Some(argument) => write!(formatter, "{}[{}]", self.name, index_text(argument)),
            None => formatter.write_str(&self.name),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&quoted(&self.text))
    }
}

/// A value as a condition holds it: in quotes only where it must be.
pub(crate) fn quoted(text: &str) -> String {
    let must = |c: char| matches!(c, ' ' | '=' | '"' | ',' | '(' | ')' | '\'' | '\\') || c.is_control();
    if text.is_empty() || text.contains(must) { in_quotes(text) } else { text.to_owned() }
}

fn index_text(text: &str) -> String {
    let must = |c: char| matches!(c, ' ' | '[' | ']' | '"' | '\'' | '\\') || c.is_control();
    if text.is_empty() || text.contains(must) { in_quotes(text) } else { text.to_owned() }
}

/// A value in quotes, so that it is no list's name.
pub(crate) fn in_quotes(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn joined(formatter: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str) -> fmt::Result {
    formatter.write_str("(")?;
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            formatter.write_str(between)?;
        }
        write!(formatter, "{part}")?;
    }
    formatter.write_str(")")
}

fn comma<T: fmt::Display>(parts: &[T]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
