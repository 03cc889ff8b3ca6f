//! What is known of an event from its type alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::compile::{Matcher, Node, Ordering, Reader, Test};
use crate::event::EventType;
use crate::fields::Value;

/// The tests of some rules that an event's type may decide.
pub(super) struct Folding<'a> {
    tests: Vec<&'a Arc<Test>>,
}

/// What one event type decides of them.
pub(super) struct Folded<'a> {
    outcomes: Vec<Option<bool>>,
    by_test: HashMap<&'a Test, bool>,
}

impl<'a> Folding<'a> {
    pub(super) fn of(conditions: impl Iterator<Item = &'a Arc<Node>>) -> Folding<'a> {
        let mut folding = Folding { tests: Vec::new() };
        let (mut seen, mut known) = (HashSet::new(), HashSet::new());
        conditions.for_each(|condition| folding.collect(condition, &mut seen, &mut known));
        folding
    }

    fn collect(&mut self, node: &'a Arc<Node>, seen: &mut HashSet<*const Node>, known: &mut HashSet<&'a Test>) {
        // Macros are shared: each is walked once.
        if !seen.insert(Arc::as_ptr(node)) {
            return;
        }
        match &**node {
            Node::And(parts) | Node::Or(parts) => parts.iter().for_each(|part| self.collect(part, seen, known)),
            Node::Not(inner) => self.collect(inner, seen, known),
            Node::Test(test) if is_of_type(test) && known.insert(test) => self.tests.push(test),
            Node::Test(_) | Node::Never => {}
        }
    }

    pub(super) fn for_type(&self, event_type: EventType) -> Folded<'a> {
        let outcomes: Vec<Option<bool>> = self.tests.iter().map(|test| outcome(test, event_type)).collect();
        let by_test = self.tests.iter().zip(&outcomes).filter_map(|(test, outcome)| Some((&***test, (*outcome)?)));
        Folded { by_test: by_test.collect(), outcomes }
    }
}

impl Folded<'_> {
    /// By these two event types are told apart, as far as rules are concerned.
    pub(super) fn outcomes(&self) -> Vec<Option<bool>> {
        self.outcomes.clone()
    }

    pub(super) fn outcome(&self, test: &Test) -> Option<bool> {
        self.by_test.get(test).copied()
    }
}

/// The fields that an event's type decides, and the one that no event can have under a bound.
const FIELDS: [&str; 3] = ["evt.type", "syscall.type", "evt.num"];

fn is_of_type(test: &Test) -> bool {
    matches!(&test.left, Reader::Field { name, .. } if FIELDS.contains(&&**name))
}

fn outcome(test: &Test, event_type: EventType) -> Option<bool> {
    let Reader::Field { name, .. } = &test.left else { return None };
    let value = match &**name {
        "evt.type" => Value::text(event_type.name()),
        "syscall.type" if event_type.is_syscall() => Value::text(event_type.name()),
        "syscall.type" => return Some(false),
        "evt.num" => return outcome_for_number(&test.matcher),
        _ => return None,
    };
    test.matcher.is_alone().then(|| test.matcher.matches_alone(&value))
}

/// Events are numbered from 1: `evt.num = 0` is Falco's word for never, `evt.num >= 0` for always.
fn outcome_for_number(matcher: &Matcher) -> Option<bool> {
    match matcher {
        Matcher::Exists => Some(true),
        Matcher::Number(Ordering::Equal, bound) if *bound < 1 => Some(false),
        Matcher::Number(Ordering::NotEqual, bound) if *bound < 1 => Some(true),
        Matcher::Number(Ordering::GreaterEqual, bound) if *bound <= 1 => Some(true),
        Matcher::Number(Ordering::Greater, bound) if *bound < 1 => Some(true),
        Matcher::Number(Ordering::Less, bound) if *bound <= 1 => Some(false),
        Matcher::Number(Ordering::LessEqual, bound) if *bound < 1 => Some(false),
        _ => None,
    }
}
