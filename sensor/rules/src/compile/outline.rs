//! A condition as its author reads it, beside what is tried: which parts it has, what they are called, where they stand. With an event at hand
//! it says why the condition holds or does not, and which parts decided that.
//!
//! Evaluation has no effects and no order that matters, so what is said here holds for every evaluator.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::Node;
use super::matcher::Matcher;
use crate::condition::{Check, Operand, Right};
use crate::engine::Context;
use crate::fields::{FieldValue, Value};

/// A condition, or a part of one.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) shape: Shape,
    /// Where it begins in the text it was written in, in bytes.
    offset: usize,
    place: OnceLock<Location>,
}

/// What an outline is made of.
#[derive(Debug)]
pub(crate) enum Shape {
    All(Box<[Arc<Outline>]>),
    Any(Box<[Arc<Outline>]>),
    Not(Arc<Outline>),
    /// A macro or an exception, by its name.
    Named {
        name: String,
        is_exception: bool,
        inner: Arc<Outline>,
    },
    Check {
        node: Arc<Node>,
        text: String,
        left: String,
        right: Option<String>,
    },
    /// A macro of which nothing is known but its name.
    Assumed(String),
}

/// A place in a rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) file: Arc<str>,
    /// From 1, and so is the column, in characters.
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// An operand of a check and what it is in an event; `None` when the event has no such value.
pub(crate) struct Seen<'o> {
    pub(crate) operand: &'o str,
    pub(crate) value: Option<FieldValue>,
}

impl Outline {
    fn new(shape: Shape, offset: usize) -> Arc<Self> {
        Arc::new(Self { shape, offset, place: OnceLock::new() })
    }

    /// Of all or any of the parts.
    pub(super) fn several(parts: Box<[Arc<Outline>]>, is_and: bool) -> Arc<Self> {
        let offset = parts.first().map_or(0, |first| first.offset);
        Self::new(if is_and { Shape::All(parts) } else { Shape::Any(parts) }, offset)
    }

    pub(super) fn not(inner: Arc<Outline>) -> Arc<Self> {
        let offset = inner.offset;
        Self::new(Shape::Not(inner), offset)
    }

    pub(super) fn of_macro(name: &str, offset: usize, inner: Arc<Outline>) -> Arc<Self> {
        Self::new(Shape::Named { name: name.to_owned(), is_exception: false, inner }, offset)
    }

    pub(crate) fn of_exception(name: &str, inner: Arc<Outline>) -> Arc<Self> {
        Self::new(Shape::Named { name: name.to_owned(), is_exception: true, inner }, 0)
    }

    pub(super) fn assumed(name: &str) -> Arc<Self> {
        Self::new(Shape::Assumed(name.to_owned()), 0)
    }

    pub(super) fn check(check: &Check, node: Arc<Node>) -> Arc<Self> {
        let right = match &check.right {
            Right::Operand(operand @ Operand::Field(_)) => Some(format!("val({operand})")),
            Right::Operand(operand) => Some(operand.to_string()),
            _ => None,
        };
        let shape = Shape::Check { node, text: check.to_string(), left: check.left.to_string(), right };
        Self::new(shape, check.span.start)
    }

    /// Says of each part where it stands. Macros have places of their own and keep them.
    pub(crate) fn locate(&self, at: &dyn Fn(usize) -> Location) {
        // A place that is known already is the same one: a macro is located once for each source.
        let _ = self.place.set(at(self.offset));
        match &self.shape {
            Shape::All(parts) | Shape::Any(parts) => parts.iter().for_each(|part| part.locate(at)),
            Shape::Not(inner) => inner.locate(at),
            Shape::Named { is_exception: true, inner, .. } => inner.locate(at),
            Shape::Named { .. } | Shape::Check { .. } | Shape::Assumed(_) => {}
        }
    }

    pub(crate) fn place(&self) -> Option<&Location> {
        self.place.get()
    }

    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        match &self.shape {
            Shape::All(parts) => parts.iter().all(|part| part.holds(context)),
            Shape::Any(parts) => parts.iter().any(|part| part.holds(context)),
            Shape::Not(inner) => !inner.holds(context),
            Shape::Named { inner, .. } => inner.holds(context),
            Shape::Check { node, .. } => node.holds(context),
            Shape::Assumed(_) => false,
        }
    }

    /// What a check compares, in this event. Nothing for what is no check.
    pub(crate) fn seen(&self, context: &Context<'_>) -> Vec<Seen<'_>> {
        let Shape::Check { node, left, right, .. } = &self.shape else { return Vec::new() };
        let (left_value, right_value) = match &**node {
            Node::Test(test) => {
                let other = match &test.matcher {
                    Matcher::Other(_, reader) => reader.read(context),
                    _ => None,
                };
                (test.left.read(context), other)
            }
            _ => (None, None),
        };
        let seen = |operand, value: Option<Value<'_>>| Seen { operand, value: value.map(FieldValue::from) };
        let mut all = vec![seen(left, left_value)];
        all.extend(right.as_deref().map(|right| seen(right, right_value)));
        all
    }

    /// Is it a check on something that is not supplied, which is false whatever happens?
    pub(crate) fn is_blind(&self) -> bool {
        matches!(&self.shape, Shape::Check { node, .. } if matches!(**node, Node::Never))
    }

    /// Does it ask for nothing but the event's type? Then it is hardly ever false where its rule is tried.
    pub(crate) fn is_about_types(&self) -> bool {
        match &self.shape {
            Shape::All(parts) | Shape::Any(parts) => parts.iter().all(|part| part.is_about_types()),
            Shape::Not(inner) | Shape::Named { inner, .. } => inner.is_about_types(),
            Shape::Check { left, right, .. } => right.is_none() && matches!(left.as_str(), "evt.type" | "syscall.type"),
            Shape::Assumed(_) => false,
        }
    }

    /// The clauses: what `and` and `or` join in the rule's own text. A macro, an exception, a negation is one clause.
    pub(crate) fn clauses(&self) -> Vec<&Outline> {
        match &self.shape {
            Shape::All(parts) | Shape::Any(parts) => parts.iter().flat_map(|part| part.clauses()).collect(),
            _ => vec![self],
        }
    }

    /// Does the condition hold, and which clauses decided that: had one of them been otherwise, so would the condition. Each by its
    /// number among [`Outline::clauses`], with what it was.
    ///
    /// An `and` with two false parts, and an `or` with two true ones, is decided by none of its parts, so what is left of it need not be
    /// looked at: of most rules two clauses are.
    pub(crate) fn decide(&self, context: &Context<'_>, deciding: &mut Vec<(usize, bool)>) -> bool {
        self.decide_from(0, context, deciding)
    }

    fn decide_from(&self, first: usize, context: &Context<'_>, deciding: &mut Vec<(usize, bool)>) -> bool {
        let (parts, is_and) = match &self.shape {
            Shape::All(parts) => (parts, true),
            Shape::Any(parts) => (parts, false),
            _ => {
                let holds = self.holds(context);
                deciding.push((first, holds));
                return holds;
            }
        };
        let begin = deciding.len();
        let mut odd: Option<Vec<(usize, bool)>> = None;
        let mut number = first;
        for part in parts {
            let before = deciding.len();
            let holds = part.decide_from(number, context, deciding);
            number += part.clause_count();
            if holds == is_and {
                continue;
            }
            if odd.is_some() {
                deciding.truncate(begin);
                return !is_and;
            }
            odd = Some(deciding.split_off(before));
        }
        match odd {
            None => is_and,
            Some(own) => {
                deciding.truncate(begin);
                deciding.extend(own);
                !is_and
            }
        }
    }

    /// How many clauses it has.
    pub(crate) fn clause_count(&self) -> usize {
        match &self.shape {
            Shape::All(parts) | Shape::Any(parts) => parts.iter().map(|part| part.clause_count()).sum(),
            _ => 1,
        }
    }
}

/// The normal form, macros and lists by their names.
impl fmt::Display for Outline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, between) = match &self.shape {
            Shape::All(parts) => (parts, " and "),
            Shape::Any(parts) => (parts, " or "),
            Shape::Not(inner) => return write!(formatter, "not {inner}"),
            Shape::Named { name, is_exception: true, .. } => return write!(formatter, "exception `{name}`"),
            Shape::Named { name, .. } | Shape::Assumed(name) => return formatter.write_str(name),
            Shape::Check { text, .. } => return formatter.write_str(text),
        };
        formatter.write_str("(")?;
        for (index, part) in parts.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { between })?;
            write!(formatter, "{part}")?;
        }
        formatter.write_str(")")
    }
}
