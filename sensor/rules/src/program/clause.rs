//! What a condition cannot hold without, said of one field: a clause.
//!
//! A clause of a node is a set of tests on one field at least one of which is true whenever the node is. A test is a clause of itself; a
//! conjunction has every clause of its parts, of which the most telling is kept; a disjunction has a clause on a field if all its parts
//! have, the union. A negation has none: it may hold because the field is absent.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::graph::{Graph, NodeId, Op};
use crate::compile::Reader;

/// Tests on one field, any of which must be true.
#[derive(Debug, Clone)]
pub(super) struct Clause {
    /// Ascending, each once.
    pub(super) tests: Vec<NodeId>,
    /// How often any is, by guess.
    pub(super) odds: f32,
}

/// A field by the first node that tests it: fields have no order of their own.
pub(super) type FieldId = NodeId;

/// A clause that holds more often than this tells nothing.
const ODDS_MAX: f32 = 0.7;
/// A clause of more tests costs more than it saves.
const TESTS_MAX: usize = 1_024;

/// Clauses of a graph's nodes.
pub(super) struct Clauses<'a> {
    graph: &'a Graph,
    fields: HashMap<&'a Reader, FieldId>,
    known: HashMap<NodeId, Rc<BTreeMap<FieldId, Clause>>>,
}

impl<'a> Clauses<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        let mut fields = HashMap::new();
        for id in 0..graph.ops.len() as NodeId {
            if let Some(test) = graph.test(id) {
                fields.entry(&test.left).or_insert(id);
            }
        }
        Self { graph, fields, known: HashMap::new() }
    }

    /// A node's clauses by field, those that tell nothing left out.
    pub(super) fn of(&mut self, id: NodeId) -> BTreeMap<FieldId, Clause> {
        let all = self.find(id);
        all.iter()
            .filter(|(_, clause)| clause.odds <= ODDS_MAX)
            .map(|(field, clause)| (*field, clause.clone()))
            .collect()
    }

    fn find(&mut self, id: NodeId) -> Rc<BTreeMap<FieldId, Clause>> {
        if let Some(known) = self.known.get(&id) {
            return Rc::clone(known);
        }
        let found = match self.graph.op(id) {
            Op::Constant(_) | Op::Not(_) => BTreeMap::new(),
            Op::Test(_) => {
                let field = self.graph.test(id).and_then(|test| self.fields.get(&test.left));
                let clause = Clause { tests: vec![id], odds: self.graph.guess(id).odds };
                field.map(|field| (*field, clause)).into_iter().collect()
            }
            Op::All(parts) => self.all(parts),
            Op::Any(parts) => self.any(parts),
        };
        let found = Rc::new(found);
        self.known.insert(id, Rc::clone(&found));
        found
    }

    fn all(&mut self, parts: &[NodeId]) -> BTreeMap<FieldId, Clause> {
        let mut best: BTreeMap<FieldId, Clause> = BTreeMap::new();
        for part in parts {
            for (field, clause) in self.find(*part).iter() {
                if best.get(field).is_none_or(|known| clause.odds < known.odds) {
                    best.insert(*field, clause.clone());
                }
            }
        }
        best
    }

    fn any(&mut self, parts: &[NodeId]) -> BTreeMap<FieldId, Clause> {
        let mut parts = parts.iter();
        let Some(first) = parts.next() else { return BTreeMap::new() };
        let mut union = BTreeMap::clone(&self.find(*first));
        for part in parts {
            let next = self.find(*part);
            union.retain(|field, clause| {
                let Some(other) = next.get(field) else { return false };
                clause.tests.extend_from_slice(&other.tests);
                clause.tests.sort_unstable();
                clause.tests.dedup();
                clause.odds = (clause.odds + other.odds).min(1.0);
                clause.tests.len() <= TESTS_MAX
            });
            if union.is_empty() {
                break;
            }
        }
        union
    }
}
