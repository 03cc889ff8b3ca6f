//! The conditions of one section as one graph: what is the same is one node.

use std::collections::HashMap;
use std::sync::Arc;

use super::fold::Folded;
use crate::compile::{Matcher, Node, Ordering, Reader, Test, TextMatcher, Unary};
use crate::fields::FieldArgument;

/// A node's place in its graph; parts stand before the whole.
pub(super) type NodeId = u32;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Constant(bool),
    /// By its place among the tests.
    Test(u32),
    Not(NodeId),
    /// Two or more, in the order in which they are best tried.
    All(Box<[NodeId]>),
    Any(Box<[NodeId]>),
}

/// What is guessed of a node, to order by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guess {
    /// In nanoseconds or thereabouts.
    pub(super) cost: f32,
    /// How often it is true, from 0 to 1.
    pub(super) odds: f32,
}

/// See the module's description.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) ops: Vec<Op>,
    pub(super) tests: Vec<Arc<Test>>,
    guesses: Vec<Guess>,
    known: HashMap<Op, NodeId>,
    by_test: HashMap<Arc<Test>, u32>,
    by_node: HashMap<*const Node, NodeId>,
}

impl Graph {
    pub(super) fn op(&self, id: NodeId) -> &Op {
        &self.ops[id as usize]
    }

    pub(super) fn guess(&self, id: NodeId) -> Guess {
        self.guesses[id as usize]
    }

    pub(super) fn test(&self, id: NodeId) -> Option<&Arc<Test>> {
        match self.op(id) {
            Op::Test(place) => Some(&self.tests[*place as usize]),
            _ => None,
        }
    }

    /// A condition, folded.
    pub(super) fn add(&mut self, node: &Arc<Node>, folded: &Folded<'_>) -> NodeId {
        if let Some(id) = self.by_node.get(&Arc::as_ptr(node)) {
            return *id;
        }
        let id = match &**node {
            Node::Never => self.constant(false),
            Node::Not(inner) => {
                let inner = self.add(inner, folded);
                self.not(inner)
            }
            Node::And(parts) => {
                let parts = parts.iter().map(|part| self.add(part, folded)).collect();
                self.several(parts, true)
            }
            Node::Or(parts) => {
                let parts = parts.iter().map(|part| self.add(part, folded)).collect();
                self.several(parts, false)
            }
            Node::Test(test) => match folded.outcome(test) {
                Some(outcome) => self.constant(outcome),
                None => self.leaf(test),
            },
        };
        self.by_node.insert(Arc::as_ptr(node), id);
        id
    }

    fn leaf(&mut self, test: &Arc<Test>) -> NodeId {
        let place = match self.by_test.get(test) {
            Some(place) => *place,
            None => {
                let place = self.tests.len() as u32;
                self.tests.push(Arc::clone(test));
                self.by_test.insert(Arc::clone(test), place);
                place
            }
        };
        self.intern(Op::Test(place))
    }

    pub(super) fn constant(&mut self, value: bool) -> NodeId {
        self.intern(Op::Constant(value))
    }

    fn not(&mut self, inner: NodeId) -> NodeId {
        match *self.op(inner) {
            Op::Constant(value) => self.constant(!value),
            Op::Not(twice) => twice,
            _ => self.intern(Op::Not(inner)),
        }
    }

    /// All of them, or any: flat, each once, none that says nothing, in the order in which they are best tried.
    pub(super) fn several(&mut self, parts: Vec<NodeId>, is_all: bool) -> NodeId {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match self.op(part) {
                Op::Constant(value) if *value == is_all => {}
                Op::Constant(value) => {
                    let value = *value;
                    return self.constant(value);
                }
                Op::All(inner) if is_all => flat.extend_from_slice(inner),
                Op::Any(inner) if !is_all => flat.extend_from_slice(inner),
                _ => flat.push(part),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        // What costs little and ends the search often comes first.
        let rank = |id: &NodeId| {
            let guess = self.guess(*id);
            guess.cost / if is_all { 1.02 - guess.odds } else { 0.02 + guess.odds }
        };
        flat.sort_by(|one, two| rank(one).total_cmp(&rank(two)));
        match flat.as_slice() {
            [] => self.constant(is_all),
            [only] => *only,
            _ if is_all => self.intern(Op::All(flat.into())),
            _ => self.intern(Op::Any(flat.into())),
        }
    }

    fn intern(&mut self, op: Op) -> NodeId {
        if let Some(id) = self.known.get(&op) {
            return *id;
        }
        let id = u32::try_from(self.ops.len()).expect("invariant: a rule set has fewer nodes than 2^32");
        self.guesses.push(self.guess_of(&op));
        self.known.insert(op.clone(), id);
        self.ops.push(op);
        id
    }

    fn guess_of(&self, op: &Op) -> Guess {
        match op {
            Op::Constant(value) => Guess { cost: 0.0, odds: f32::from(u8::from(*value)) },
            Op::Test(place) => {
                let test = &self.tests[*place as usize];
                let odds = known_odds(test).unwrap_or_else(|| odds(&test.matcher));
                Guess { cost: TEST_COST + reading_cost(&test.left) + matching_cost(&test.matcher), odds }
            }
            Op::Not(inner) => {
                let inner = self.guess(*inner);
                Guess { odds: 1.0 - inner.odds, ..inner }
            }
            Op::All(parts) => self.guess_of_several(parts, |odds| odds),
            Op::Any(parts) => {
                let guess = self.guess_of_several(parts, |odds| 1.0 - odds);
                Guess { odds: 1.0 - guess.odds, ..guess }
            }
        }
    }

    fn guess_of_several(&self, parts: &[NodeId], goes_on: fn(f32) -> f32) -> Guess {
        parts.iter().map(|part| self.guess(*part)).fold(Guess { cost: 1.0, odds: 1.0 }, |sum, part| Guess {
            cost: sum.cost + sum.odds * part.cost,
            odds: sum.odds * goes_on(part.odds),
        })
    }
}

/// Is a field's value made for each reading, so that it is worth keeping while an event lasts?
pub(super) fn is_costly(reader: &Reader) -> bool {
    reading_cost(reader) >= 20.0
}

pub(super) fn reading_cost(reader: &Reader) -> f32 {
    match reader {
        Reader::Field { name, argument, .. } => {
            let is_any_ancestor = name.starts_with("proc.a") && !name.starts_with("proc.args");
            let is_made = ["evt.arg", "evt.time", "evt.datetime", "evt.res"].iter().any(|made| name.starts_with(made));
            match argument {
                FieldArgument::None if is_any_ancestor || is_made => 80.0,
                _ if is_made => 40.0,
                FieldArgument::Index(index) => 6.0 + 6.0 * (*index as f32),
                _ if name.starts_with("proc.p") && !name.starts_with("proc.pid") => 6.0,
                _ => 3.0,
            }
        }
        Reader::Word(_) => 1.0,
        Reader::Unary(Unary::Basename | Unary::Length, inner) => 3.0 + reading_cost(inner),
        Reader::Unary(_, inner) => 40.0 + reading_cost(inner),
        Reader::Join { parts, .. } | Reader::List(parts) => 40.0 + parts.iter().map(reading_cost).sum::<f32>(),
        Reader::Arguments => 20.0,
        Reader::Options { arguments, .. } => 60.0 + reading_cost(arguments),
    }
}

fn matching_cost(matcher: &Matcher) -> f32 {
    match matcher {
        Matcher::Exists | Matcher::Boolean { .. } | Matcher::Number(..) => 1.0,
        Matcher::NumberIn(_) => 5.0,
        Matcher::Text(text) => match text {
            TextMatcher::Equal(_)
            | TextMatcher::NotEqual(_)
            | TextMatcher::StartsWith(_)
            | TextMatcher::EndsWith(_) => 2.0,
            TextMatcher::Less(..) => 3.0,
            TextMatcher::In(_) => 8.0,
            TextMatcher::Number(..) => 10.0,
            TextMatcher::Contains(_) => 25.0,
            TextMatcher::Glob(_) | TextMatcher::PMatch(_) => 40.0,
            TextMatcher::IContains(_) => 100.0,
            TextMatcher::Regex(_) => 150.0,
        },
        Matcher::Quantified(_, each) => each.iter().map(matching_cost).sum(),
        Matcher::Other(..) => 20.0,
        #[allow(unreachable_patterns, reason = "a matcher of another kind is guessed to cost something")]
        _ => 10.0,
    }
}

/// What any test costs.
const TEST_COST: f32 = 8.0;

/// What most events have.
const USUAL: [(&str, &str); 3] = [("fd.typechar", "f"), ("fd.type", "file"), ("evt.dir", "<")];

/// Odds of tests that every rule set has, as machines are.
fn known_odds(test: &Test) -> Option<f32> {
    let Reader::Field { name, .. } = &test.left else { return None };
    match (&**name, &test.matcher) {
        (name, Matcher::Text(TextMatcher::Equal(value))) => {
            let usual = USUAL.iter().find(|(field, _)| *field == name)?;
            Some(if usual.1.as_bytes() == &**value { 0.9 } else { 0.1 })
        }
        ("evt.is_open_write", Matcher::Boolean { expected: true }) => Some(0.15),
        ("evt.is_open_read", Matcher::Boolean { expected: true }) => Some(0.85),
        ("evt.is_open_exec", Matcher::Boolean { expected: true }) => Some(0.02),
        ("container.id", Matcher::Text(TextMatcher::NotEqual(_))) => Some(0.5),
        _ => None,
    }
}

fn odds(matcher: &Matcher) -> f32 {
    match matcher {
        Matcher::Exists => 0.9,
        Matcher::Boolean { .. } => 0.4,
        Matcher::Number(ordering, _) => match ordering {
            Ordering::Equal => 0.1,
            Ordering::NotEqual => 0.9,
            _ => 0.5,
        },
        Matcher::NumberIn(set) => (0.05 * set.len() as f32).min(0.5),
        Matcher::Text(text) => odds_of_text(text),
        Matcher::Quantified(crate::condition::Quantifier::Any, each) => each.iter().map(odds).sum::<f32>().min(0.9),
        Matcher::Quantified(..) => 0.3,
        Matcher::Other(..) => 0.3,
        #[allow(unreachable_patterns, reason = "a matcher of another kind may hold or not")]
        _ => 0.3,
    }
}

fn odds_of_text(matcher: &TextMatcher) -> f32 {
    match matcher {
        TextMatcher::Equal(_) => 0.02,
        TextMatcher::NotEqual(_) => 0.9,
        TextMatcher::In(set) => (0.003 * set.len() as f32).clamp(0.02, 0.2),
        TextMatcher::StartsWith(part) => match part.len() {
            0 | 1 => 0.9,
            2 | 3 => 0.3,
            _ => 0.08,
        },
        TextMatcher::EndsWith(part) | TextMatcher::Contains(part) | TextMatcher::IContains(part) => match part.len() {
            0 => 1.0,
            1 => 0.4,
            2 => 0.15,
            _ => 0.04,
        },
        TextMatcher::Glob(_) | TextMatcher::Regex(_) | TextMatcher::PMatch(_) => 0.1,
        TextMatcher::Less(..) | TextMatcher::Number(..) => 0.5,
    }
}
