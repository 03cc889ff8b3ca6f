//! The rules of one event type, or of several for which they fold alike, ready to be tried.

use std::collections::HashSet;
use std::sync::Arc;

use super::Entry;
use super::fold::Folded;
use super::graph::{Graph, NodeId, Op, is_costly};
use super::guard::{Check, Guard, conjuncts, guards};
use super::lookup::Lookup;
use super::mask::Mask;
use crate::compile::{Node, Test};
use crate::limits::RULES_MAX;

/// See the module's description.
#[derive(Debug)]
pub(super) enum Section {
    Program(Steps),
    /// It would not fit: rules and conditions as they are.
    Plain(Vec<(u32, Arc<Node>)>),
}

#[derive(Debug)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    pub(super) parts: Vec<NodeId>,
    pub(super) guards: Vec<Guard>,
    /// In the order in which they are reported.
    pub(super) rules: Vec<Rest>,
    /// All rules that can hold at all.
    pub(super) alive: Mask,
    /// How many different fields that are kept once read.
    size: usize,
}

/// A node, ready to be tried.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) op: StepOp,
    /// Is its outcome worth remembering, since more than one asks for it?
    pub(super) is_shared: bool,
}

#[derive(Debug)]
pub(super) enum StepOp {
    Constant(bool),
    /// A test, and the number under which its field's value is kept, if making that costs something.
    Test(Arc<Test>, Option<u32>),
    Not(NodeId),
    /// A range of parts.
    All(u32, u32),
    Any(u32, u32),
}

/// What is left of a rule when its guards let it pass.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) rule: u32,
    pub(super) node: NodeId,
}

impl Section {
    pub(super) fn new(entries: &[&Entry<'_>], folded: &Folded<'_>, size_max: usize) -> Section {
        // Not even begun where it cannot fit.
        if entries.len() <= size_max && entries.len() <= RULES_MAX {
            let steps = Steps::new(entries, folded);
            if steps.size <= size_max {
                return Section::Program(steps);
            }
        }
        Section::Plain(entries.iter().map(|entry| (entry.rule, Arc::clone(entry.condition))).collect())
    }

    /// Nodes and values in it.
    pub(super) fn size(&self) -> usize {
        match self {
            Section::Program(steps) => steps.size,
            Section::Plain(_) => 0,
        }
    }

    /// How many nodes it has.
    pub(super) fn nodes(&self) -> usize {
        match self {
            Section::Program(steps) => steps.steps.len(),
            Section::Plain(_) => 0,
        }
    }
}

impl Steps {
    fn new(entries: &[&Entry<'_>], folded: &Folded<'_>) -> Steps {
        let mut graph = Graph::default();
        let conditions: Vec<NodeId> = entries.iter().map(|entry| graph.add(entry.condition, folded)).collect();
        let guards = guards(&graph, &conditions);
        let mut alive = Mask::empty(entries.len());
        let rules: Vec<Rest> = entries
            .iter()
            .zip(&conditions)
            .enumerate()
            .map(|(place, (entry, condition))| {
                if *graph.op(*condition) != Op::Constant(false) {
                    alive.insert(place);
                }
                Rest { rule: entry.rule, node: rest(&mut graph, *condition, place, &guards) }
            })
            .collect();
        let mut steps = Steps { steps: Vec::new(), parts: Vec::new(), guards, rules, alive, size: 0 };
        steps.lay_out(&graph);
        steps
    }

    fn lay_out(&mut self, graph: &Graph) {
        let shared = self.shared(graph);
        let mut kept = Vec::new();
        for (id, op) in graph.ops.iter().enumerate() {
            let op = match op {
                Op::Constant(value) => StepOp::Constant(*value),
                Op::Test(place) => {
                    let test = &graph.tests[*place as usize];
                    StepOp::Test(Arc::clone(test), is_costly(&test.left).then(|| place_of(&test.left, &mut kept)))
                }
                Op::Not(inner) => StepOp::Not(*inner),
                Op::All(parts) => {
                    let (from, to) = self.lay_parts(parts);
                    StepOp::All(from, to)
                }
                Op::Any(parts) => {
                    let (from, to) = self.lay_parts(parts);
                    StepOp::Any(from, to)
                }
            };
            self.steps.push(Step { op, is_shared: shared.contains(&(id as NodeId)) });
        }
        let lookups = self.guards.iter().map(|guard| match &guard.check {
            Check::Node(_) => 1,
            Check::Lookups(lookups) => lookups.iter().map(Lookup::size).sum(),
        });
        self.size = self.steps.len() + self.parts.len() + lookups.sum::<usize>();
    }

    fn lay_parts(&mut self, parts: &[NodeId]) -> (u32, u32) {
        let from = self.parts.len() as u32;
        self.parts.extend_from_slice(parts);
        (from, self.parts.len() as u32)
    }

    /// Nodes that more than one rule, guard or node asks for.
    fn shared(&self, graph: &Graph) -> HashSet<NodeId> {
        let mut seen = HashSet::new();
        let mut shared = HashSet::new();
        let of_rules = self.rules.iter().map(|rest| rest.node);
        let of_guards = self.guards.iter().flat_map(|guard| match &guard.check {
            Check::Node(node) => vec![*node],
            Check::Lookups(lookups) => {
                lookups.iter().flat_map(|lookup| &lookup.others).map(|(test, _)| *test).collect()
            }
        });
        let of_nodes = graph.ops.iter().flat_map(|op| match op {
            Op::Constant(_) | Op::Test(_) => &[][..],
            Op::Not(inner) => std::slice::from_ref(inner),
            Op::All(parts) | Op::Any(parts) => parts,
        });
        for node in of_rules.chain(of_guards).chain(of_nodes.copied()) {
            if !seen.insert(node) {
                shared.insert(node);
            }
        }
        shared
    }
}

/// A rule's conjuncts but those that a guard has found true for it.
fn rest(graph: &mut Graph, condition: NodeId, place: usize, guards: &[Guard]) -> NodeId {
    let is_done = |node: &NodeId| {
        guards
            .iter()
            .any(|guard| matches!(guard.check, Check::Node(own) if own == *node) && guard.rules.contains(place))
    };
    let left: Vec<NodeId> = conjuncts(graph, &condition).iter().copied().filter(|node| !is_done(node)).collect();
    graph.several(left, true)
}

/// The number of a field among those that are kept.
fn place_of<'a>(reader: &'a crate::compile::Reader, kept: &mut Vec<&'a crate::compile::Reader>) -> u32 {
    let place = kept.iter().position(|known| *known == reader).unwrap_or_else(|| {
        kept.push(reader);
        kept.len() - 1
    });
    place as u32
}
