//! The right side of a comparison, ready to be tried.

use super::network::Network;
use super::paths::PathTree;
use super::pattern::{Glob, contains, contains_ignoring_case};
use super::reader::Reader;
use super::set::{Regex, Set};
use crate::condition::{Operator, Quantifier};
use crate::engine::Context;
use crate::fields::Value;

/// A test of one value. Absence is handled before: a matcher sees values only. Two that are equal hold for the same values.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Matcher {
    Exists,
    Text(TextMatcher),
    /// `!=` alone is not "not `=`" for several values: any that differs satisfies it.
    Number(Ordering, i128),
    NumberIn(Set<i128>),
    /// All texts of a list are in the set.
    AllIn(Set<Box<[u8]>>),
    Boolean {
        expected: bool,
    },
    /// An address in one of these networks, or with `!=` in none.
    Network {
        is_negated: bool,
        networks: Box<[Network]>,
    },
    Quantified(Quantifier, Vec<Matcher>),
    /// Compares with another field of the same event.
    Other(Operator, Reader),
}

/// A test of a text.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum TextMatcher {
    Equal(Box<[u8]>),
    NotEqual(Box<[u8]>),
    Less(Ordering, Box<[u8]>),
    Contains(Box<[u8]>),
    IContains(Box<[u8]>),
    StartsWith(Box<[u8]>),
    EndsWith(Box<[u8]>),
    Glob(Glob),
    Regex(Regex),
    In(Set<Box<[u8]>>),
    PMatch(PathTree),
    /// A text that is a number, compared as one: event arguments.
    Number(Ordering, i128),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ordering {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Ordering {
    pub(crate) fn of(operator: Operator) -> Option<Self> {
        Some(match operator {
            Operator::Equal => Self::Equal,
            Operator::NotEqual => Self::NotEqual,
            Operator::Less => Self::Less,
            Operator::LessEqual => Self::LessEqual,
            Operator::Greater => Self::Greater,
            Operator::GreaterEqual => Self::GreaterEqual,
            _ => return None,
        })
    }

    fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterEqual => left >= right,
        }
    }
}

impl TextMatcher {
    #[inline]
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Equal(own) => text == &**own,
            Self::NotEqual(own) => text != &**own,
            Self::Less(ordering, own) => ordering.holds(text, own),
            Self::Contains(part) => contains(text, part),
            Self::IContains(part) => contains_ignoring_case(text, part),
            Self::StartsWith(part) => text.starts_with(part),
            Self::EndsWith(part) => text.ends_with(part),
            Self::Glob(glob) => glob.matches(text),
            Self::Regex(regex) => regex.is_match(text),
            Self::In(set) => set.contains(text),
            Self::PMatch(tree) => tree.matches(text),
            Self::Number(ordering, own) => {
                let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i128>().ok());
                number.is_some_and(|number| ordering.holds(&number, own))
            }
        }
    }
}

impl Matcher {
    #[inline]
    pub(crate) fn matches(&self, value: &Value<'_>, context: &Context<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Quantified(quantifier, each) => {
                quantified(*quantifier, each, |matcher| matcher.matches(value, context))
            }
            Self::Other(operator, reader) => {
                reader.read(context).is_some_and(|other| compare(value, *operator, &other))
            }
            _ => self.matches_one(value),
        }
    }

    /// Does it look at the value alone, and at no other field?
    pub(crate) fn is_alone(&self) -> bool {
        match self {
            Self::Quantified(_, each) => each.iter().all(Self::is_alone),
            Self::Other(..) => false,
            _ => true,
        }
    }

    /// As [`Matcher::matches`], for a matcher that [`Matcher::is_alone`].
    pub(crate) fn matches_alone(&self, value: &Value<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Quantified(quantifier, each) => quantified(*quantifier, each, |each| each.matches_alone(value)),
            Self::Other(..) => false,
            _ => self.matches_one(value),
        }
    }

    #[inline]
    fn matches_one(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Text(matcher), Value::Text(text)) => matcher.matches(text),
            (Self::Text(matcher), Value::AnyText(texts)) => texts.iter().any(|text| matcher.matches(text)),
            (Self::Number(ordering, own), Value::Number(number)) => ordering.holds(number, own),
            (Self::Number(ordering, own), Value::AnyNumber(numbers)) => {
                numbers.iter().any(|number| ordering.holds(number, own))
            }
            (Self::NumberIn(set), Value::Number(number)) => set.contains(number),
            (Self::NumberIn(set), Value::AnyNumber(numbers)) => numbers.iter().any(|number| set.contains(number)),
            (Self::AllIn(set), Value::AnyText(texts)) => texts.iter().all(|text| set.contains(&**text)),
            (Self::AllIn(set), Value::Text(text)) => set.contains(&**text),
            (Self::Boolean { expected }, Value::Boolean(value)) => value == expected,
            (Self::Number(Ordering::NotEqual, own), Value::Ports(ends)) => {
                ends.iter().all(|end| i128::from(*end) != *own)
            }
            (Self::Number(ordering, own), Value::Ports(ends)) => {
                ends.iter().any(|end| ordering.holds(&i128::from(*end), own))
            }
            (Self::NumberIn(set), Value::Ports(ends)) => ends.iter().any(|end| set.contains(&i128::from(*end))),
            (Self::Network { is_negated, networks }, Value::Address(address)) => {
                networks.iter().any(|network| network.contains(*address)) != *is_negated
            }
            (Self::Network { is_negated, networks }, Value::Addresses(ends)) => {
                let mut inside = ends.iter().map(|end| networks.iter().any(|network| network.contains(*end)));
                if *is_negated { !inside.any(|inside| inside) } else { inside.any(|inside| inside) }
            }
            // Kinds are checked when a rule is compiled; a value of another kind satisfies nothing.
            _ => false,
        }
    }
}

fn quantified(quantifier: Quantifier, each: &[Matcher], holds: impl Fn(&Matcher) -> bool) -> bool {
    let mut satisfied = each.iter().filter(|matcher| holds(matcher));
    match quantifier {
        Quantifier::One => satisfied.next().is_some() && satisfied.next().is_none(),
        Quantifier::Any => satisfied.next().is_some(),
        Quantifier::All => !each.is_empty() && satisfied.count() == each.len(),
    }
}

/// Compares two fields' values, each of several standing for any.
fn compare(left: &Value<'_>, operator: Operator, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            Ordering::of(operator).is_some_and(|ordering| ordering.holds(left, right))
        }
        (Value::Boolean(left), Value::Boolean(right)) => {
            Ordering::of(operator).is_some_and(|ordering| ordering.holds(left, right))
        }
        (Value::AnyText(texts), _) => texts.iter().any(|text| compare_text(text, operator, &right.as_text())),
        (_, Value::AnyText(texts)) => texts.iter().any(|text| compare_text(&left.as_text(), operator, text)),
        _ => compare_text(&left.as_text(), operator, &right.as_text()),
    }
}

fn compare_text(left: &[u8], operator: Operator, right: &[u8]) -> bool {
    match operator {
        Operator::Contains => contains(left, right),
        Operator::IContains => contains_ignoring_case(left, &right.to_ascii_lowercase()),
        Operator::StartsWith => left.starts_with(right),
        Operator::EndsWith => left.ends_with(right),
        Operator::Glob => Glob::new(right, false).matches(left),
        Operator::IGlob => Glob::new(right, true).matches(left),
        Operator::In | Operator::Intersects => left == right,
        Operator::PMatch => PathTree::new([right]).matches(left),
        other => Ordering::of(other).is_some_and(|ordering| ordering.holds(left, right)),
    }
}
