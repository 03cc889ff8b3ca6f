//! What a condition cannot hold without, said of fields that go together: a clause.
//!
//! A clause of a node is a set of tests on the fields of one family at least one of which is true whenever the node is. A test is a clause
//! of itself; a conjunction has every clause of its parts, of which the most telling is kept; a disjunction has a clause on a
//! family if all its parts have, the union. A negation has none: it may hold because the field is absent.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::graph::{Graph, NodeId, Op, is_costly};
use crate::compile::{Matcher, Reader, TextMatcher};

/// Tests on fields of one family, any of which must be true.
#[derive(Debug, Clone)]
pub(super) struct Clause {
    /// Ascending, each once.
    pub(super) tests: Vec<NodeId>,
    /// How often any is, by guess.
    pub(super) odds: f32,
    /// What it costs to know, compared with what a lookup finds anyhow.
    price: f32,
}

/// Fields that are looked up together: those of a name's first part, such as `fd.name`, `fd.directory` and `fd.filename`, since rules ask
/// for one or another of them. What costs much to read is alone.
pub(super) type Family = String;

fn family(reader: &Reader) -> Family {
    match reader {
        Reader::Field { name, .. } if !is_costly(reader) => {
            name.split_once('.').map_or(&**name, |(first, _)| first).to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// Is it a test of a text for something? Flags and numbers cost no more by themselves.
fn is_selective(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::Text(text) => {
            !matches!(text, TextMatcher::NotEqual(_) | TextMatcher::Less(..) | TextMatcher::Number(..))
        }
        Matcher::Quantified(_, each) => each.iter().all(is_selective),
        _ => false,
    }
}

/// Whole values, prefixes and suffixes cost a lookup little, however many; for parts and paths the whole text is read.
fn price(matcher: &Matcher) -> f32 {
    match matcher {
        Matcher::Text(TextMatcher::Equal(_) | TextMatcher::In(_)) => 0.0,
        Matcher::Text(TextMatcher::StartsWith(_) | TextMatcher::EndsWith(_)) => 0.0,
        Matcher::Text(TextMatcher::Glob(glob)) if glob.literal_prefix().is_some() => 0.0,
        Matcher::Text(TextMatcher::Contains(_) | TextMatcher::PMatch(_)) => 0.2,
        Matcher::Quantified(_, each) => each.iter().map(price).fold(0.0, f32::max),
        _ => 0.4,
    }
}

/// A clause that holds more often than this tells nothing.
const ODDS_MAX: f32 = 0.7;
/// A clause of more tests costs more than it saves.
const TESTS_MAX: usize = 1_024;

/// Clauses of a graph's nodes.
pub(super) struct Clauses<'a> {
    graph: &'a Graph,
    known: HashMap<NodeId, Rc<BTreeMap<Family, Clause>>>,
}

impl<'a> Clauses<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        Self { graph, known: HashMap::new() }
    }

    /// A node's clauses by family, those that tell nothing left out.
    pub(super) fn of(&mut self, id: NodeId) -> BTreeMap<Family, Clause> {
        let all = self.find(id);
        all.iter()
            .filter(|(_, clause)| clause.odds <= ODDS_MAX)
            .map(|(field, clause)| (field.clone(), clause.clone()))
            .collect()
    }

    fn find(&mut self, id: NodeId) -> Rc<BTreeMap<Family, Clause>> {
        if let Some(known) = self.known.get(&id) {
            return Rc::clone(known);
        }
        let found = match self.graph.op(id) {
            Op::Constant(_) | Op::Not(_) => BTreeMap::new(),
            Op::Test(_) => {
                let test = self.graph.test(id).filter(|test| is_selective(&test.matcher));
                let clause = |matcher: &Matcher| Clause {
                    tests: vec![id],
                    odds: self.graph.guess(id).odds,
                    price: price(matcher),
                };
                test.map(|test| (family(&test.left), clause(&test.matcher))).into_iter().collect()
            }
            Op::All(parts) => self.all(parts),
            Op::Any(parts) => self.any(parts),
        };
        let found = Rc::new(found);
        self.known.insert(id, Rc::clone(&found));
        found
    }

    fn all(&mut self, parts: &[NodeId]) -> BTreeMap<Family, Clause> {
        let mut best: BTreeMap<Family, Clause> = BTreeMap::new();
        for part in parts {
            for (family, clause) in self.find(*part).iter() {
                if best.get(family).is_none_or(|known| clause.odds + clause.price < known.odds + known.price) {
                    best.insert(family.clone(), clause.clone());
                }
            }
        }
        best
    }

    fn any(&mut self, parts: &[NodeId]) -> BTreeMap<Family, Clause> {
        let mut parts = parts.iter();
        let Some(first) = parts.next() else { return BTreeMap::new() };
        let mut union = BTreeMap::clone(&self.find(*first));
        for part in parts {
            let next = self.find(*part);
            union.retain(|family, clause| {
                let Some(other) = next.get(family) else { return false };
                clause.tests.extend_from_slice(&other.tests);
                clause.tests.sort_unstable();
                clause.tests.dedup();
                clause.odds = (clause.odds + other.odds).min(1.0);
                clause.price = clause.price.max(other.price);
                clause.tests.len() <= TESTS_MAX
            });
            if union.is_empty() {
                break;
            }
        }
        union
    }
}
