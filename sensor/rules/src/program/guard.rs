//! What is tried for many rules at once, and in which order.

use std::collections::BTreeMap;

use super::clause::{Clause, Clauses, Family};
use super::graph::{Graph, NodeId, Op, reading_cost};
use super::lookup::{self, Lookup};
use super::mask::Mask;
use crate::compile::Reader;
use crate::limits::LOOKUP_WORDS_MAX;

/// Rules that cannot hold without something, and that.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) rules: Mask,
    pub(super) check: Check,
}

#[derive(Debug)]
pub(super) enum Check {
    /// The rules live if the node is true.
    Node(NodeId),
    /// The rules live that any of the lookups says.
    Lookups(Vec<Lookup>),
}

/// A guard that might be made.
struct Candidate {
    rules: Mask,
    check: Check,
    cost: f32,
    /// By rule, how often it goes on.
    odds: BTreeMap<usize, f32>,
}

/// A node that costs more is tried for its own rule, when that still lives.
const COST_MAX: f32 = 40.0;
/// What a guard must take out of the rules, per nanosecond it costs, to be worth it.
const GAIN_MIN: f32 = 0.02;
/// Guards of a section.
const GUARDS_MAX: usize = 32;

/// The guards of a section's rules, in the order they are to be tried.
pub(super) fn guards(graph: &Graph, rules: &[NodeId]) -> Vec<Guard> {
    let mut candidates = of_nodes(graph, rules);
    candidates.extend(of_fields(graph, rules));
    choose(candidates, rules.len())
}

/// A rule's conjuncts.
pub(super) fn conjuncts<'a>(graph: &'a Graph, rule: &'a NodeId) -> &'a [NodeId] {
    match graph.op(*rule) {
        Op::All(parts) => parts,
        _ => std::slice::from_ref(rule),
    }
}

fn of_nodes(graph: &Graph, rules: &[NodeId]) -> Vec<Candidate> {
    let mut by_node: BTreeMap<NodeId, Mask> = BTreeMap::new();
    for (place, rule) in rules.iter().enumerate() {
        for part in conjuncts(graph, rule) {
            by_node.entry(*part).or_insert_with(|| Mask::empty(rules.len())).insert(place);
        }
    }
    let candidates = by_node.into_iter().filter_map(|(node, mask)| {
        let guess = graph.guess(node);
        // For one rule alone, it is as well tried with the rest of it.
        let is_worth_it = guess.cost <= COST_MAX && mask.iter().nth(1).is_some();
        is_worth_it.then(|| Candidate {
            odds: mask.iter().map(|rule| (rule, guess.odds)).collect(),
            rules: mask,
            check: Check::Node(node),
            cost: guess.cost + 2.0,
        })
    });
    candidates.collect()
}

fn of_fields(graph: &Graph, rules: &[NodeId]) -> Vec<Candidate> {
    let mut clauses = Clauses::new(graph);
    let mut by_family: BTreeMap<Family, Vec<(usize, Clause)>> = BTreeMap::new();
    for (place, rule) in rules.iter().enumerate() {
        for (family, clause) in clauses.of(*rule) {
            by_family.entry(family).or_default().push((place, clause));
        }
    }
    let candidates = by_family.into_values().filter_map(|of_rules| {
        if of_rules.len() < 2 {
            return None;
        }
        let mut mask = Mask::empty(rules.len());
        let mut by_test: BTreeMap<NodeId, Mask> = BTreeMap::new();
        for (rule, clause) in &of_rules {
            mask.insert(*rule);
            for test in &clause.tests {
                by_test.entry(*test).or_insert_with(|| Mask::empty(rules.len())).insert(*rule);
            }
        }
        let values: usize = by_test.keys().filter_map(|id| graph.test(*id)).map(|it| lookup::values(&it.matcher)).sum();
        if values.saturating_mul(mask.size()) > LOOKUP_WORDS_MAX {
            return None;
        }
        let lookups = lookups(graph, &by_test, rules.len());
        Some(Candidate {
            rules: mask,
            cost: lookups.iter().map(|lookup| cost(graph, lookup)).sum(),
            odds: of_rules.iter().map(|(rule, clause)| (*rule, clause.odds)).collect(),
            check: Check::Lookups(lookups),
        })
    });
    candidates.collect()
}

/// A lookup for each field that is tested, those first on which most rules hang.
fn lookups(graph: &Graph, by_test: &BTreeMap<NodeId, Mask>, rules: usize) -> Vec<Lookup> {
    let mut builders: Vec<(&Reader, lookup::Builder)> = Vec::new();
    for (test, of_rules) in by_test {
        let Some(reader) = graph.test(*test).map(|test| &test.left) else { continue };
        let place = builders.iter().position(|(own, _)| *own == reader).unwrap_or_else(|| {
            builders.push((reader, lookup::Builder::new(rules)));
            builders.len() - 1
        });
        builders[place].1.add(graph, *test, of_rules);
    }
    let mut lookups: Vec<Lookup> =
        builders.into_iter().map(|(reader, builder)| builder.build(reader.clone())).collect();
    lookups.sort_by_key(|lookup| std::cmp::Reverse(lookup.rules.iter().count()));
    lookups
}

fn cost(graph: &Graph, lookup: &Lookup) -> f32 {
    let others: f32 = lookup.others.iter().map(|(test, _)| graph.guess(*test).cost).sum();
    5.0 + lookup.cost() + reading_cost(&lookup.reader) + others * 0.5
}

/// The best first, each by what those before it leave to do.
fn choose(mut candidates: Vec<Candidate>, rules: usize) -> Vec<Guard> {
    let mut lives = vec![1.0_f32; rules];
    let mut chosen = Vec::new();
    while chosen.len() < GUARDS_MAX {
        let gain = |candidate: &Candidate| {
            let taken: f32 = candidate.odds.iter().map(|(rule, odds)| lives[*rule] * (1.0 - odds)).sum();
            taken / candidate.cost
        };
        let gains = candidates.iter().map(gain).enumerate();
        let Some((place, gain)) = gains.max_by(|one, two| one.1.total_cmp(&two.1)) else { break };
        if gain < GAIN_MIN {
            break;
        }
        let best = candidates.swap_remove(place);
        best.odds.iter().for_each(|(rule, odds)| lives[*rule] *= odds);
        chosen.push(Guard { rules: best.rules, check: best.check });
    }
    chosen
}
