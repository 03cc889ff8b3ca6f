//! Conditions as written: the syntax tree, its parser and its canonical print. Nothing here knows which fields exist.

mod parser;
mod print;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use parser::{
    ParseError, is_bare_word, is_identifier, is_transformer, parse, parse_comparison, parse_field, parse_operand,
    parse_right_operand, parse_words,
};
pub(crate) use print::{in_quotes, quoted};

/// A condition, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// At least two, all true.
    And(Vec<Expr>),
    /// At least two, any true.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// A macro by name.
    Macro(Spanned<String>),
    Check(Box<Check>),
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) left: Operand,
    pub(crate) operator: Spanned<Operator>,
    pub(crate) right: Right,
    pub(crate) span: Range<usize>,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operand {
    Field(FieldRef),
    /// `tolower(proc.name)`, `join(",", (proc.name, fd.name))`: arguments are operands or words.
    Transformed {
        name: Spanned<String>,
        arguments: Vec<Argument>,
        index: Option<Spanned<String>>,
    },
}

/// An argument of a transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    Operand(Operand),
    Word(Word),
    List(Vec<Argument>),
}

/// A field by name, with its argument if it has one: `proc.aname[2]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldRef {
    pub(crate) name: String,
    pub(crate) argument: Option<String>,
    pub(crate) span: Range<usize>,
}

/// What it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Right {
    /// `exists` has none.
    Nothing,
    One(Word),
    /// `in (a, b)`.
    Many(Vec<Word>),
    /// `startswith anyof (a, b)`.
    Quantified(Quantifier, Vec<Word>),
    /// `val(fd.name)` or a transformer.
    Operand(Operand),
}

/// A literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// A quoted word is never the name of a list.
    pub(crate) quoted: bool,
    pub(crate) span: Range<usize>,
}

/// How many of a list's elements must satisfy the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Quantifier {
    One,
    Any,
    All,
}

/// The language's operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Exists,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
    Contains,
    IContains,
    BContains,
    StartsWith,
    BStartsWith,
    EndsWith,
    Glob,
    IGlob,
    Regex,
    In,
    Intersects,
    PMatch,
}

/// Something and where it stands in the condition's text, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

impl Operator {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Contains => "contains",
            Self::IContains => "icontains",
            Self::BContains => "bcontains",
            Self::StartsWith => "startswith",
            Self::BStartsWith => "bstartswith",
            Self::EndsWith => "endswith",
            Self::Glob => "glob",
            Self::IGlob => "iglob",
            Self::Regex => "regex",
            Self::In => "in",
            Self::Intersects => "intersects",
            Self::PMatch => "pmatch",
        }
    }

    /// Does it take a list on the right?
    pub(crate) fn takes_list(self) -> bool {
        matches!(self, Self::In | Self::Intersects | Self::PMatch)
    }

    /// Does it take a number on the right?
    pub(crate) fn is_ordering(self) -> bool {
        matches!(self, Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual)
    }
}

impl Quantifier {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::One => "oneof",
            Self::Any => "anyof",
            Self::All => "allof",
        }
    }
}

impl Operand {
    pub(crate) fn span(&self) -> Range<usize> {
        match self {
            Self::Field(field) => field.span.clone(),
            Self::Transformed { name, .. } => name.span.clone(),
        }
    }
}
