//! Rules compiled together, one program per event type, so that an event costs what its rules have to say of it and not what there are
//! rules.
//!
//! What [`Node`] is to one rule this is to all: the same conditions, tried in another order and with less work.
//!
//! 1. **Folding** (`fold`). Within one event type `evt.type in (...)` is true or false, and so is much that hangs on it. Event types for which
//!    everything folds alike share one [`Section`].
//! 2. **One graph** (`graph`). Parts that are the same, written in one rule or in ten, are one node, whose truth is found once per event.
//! 3. **Guards** (`guard`). What a rule cannot hold without is tried for all its rules at once: a node that many of them have among their
//!    conjuncts, or a [`lookup`] of one field's value among all values, prefixes, paths and parts that rules ask of it. Each guard
//!    takes rules out of a bitmask; most events are over when it is empty.
//! 4. **The rest** (`run`). What is left of the few rules that live is evaluated in their order, cheap and telling checks first.
//!
//! Guards are implications read off the graph (`clause`), so they can only take out rules whose condition is false; that the order of
//! evaluation does not matter is since conditions have no effects. Costs and odds are guesses that decide order, never outcome.
//! Tests compare every rule's outcome with the plain walk ([`Node::holds`]).
//!
//! Memory is bounded: [`PROGRAM_SIZE_MAX`] nodes, values and words of masks and regular expressions in all sections together. Event types
//! whose section does not fit are evaluated by the plain walk.

#![expect(clippy::mutable_key_type, reason = "a regular expression keeps a cache, which is no part of what it equals")]

mod clause;
mod fold;
mod graph;
mod guard;
mod lookup;
mod mask;
mod run;
mod section;
mod trie;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::compile::{Node, TypeSet};
use crate::event::{Event, EventKind, EventType, SYSCALL};
use crate::limits::PROGRAM_SIZE_MAX;

use fold::{Folded, Folding};
pub(crate) use run::{Scratch, Watched};
use section::Section;

/// A rule as a program takes it.
pub(crate) struct Entry<'a> {
    /// Its number, by which it is reported.
    pub(crate) rule: u32,
    /// Whose events it is for.
    pub(crate) source: &'a str,
    pub(crate) condition: &'a Arc<Node>,
    pub(crate) types: &'a TypeSet,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Program {
    sections: Vec<Section>,
    /// For each event type of the kernel by its place, its section; [`NONE`] when no rule wants it.
    by_type: Vec<u32>,
    /// For each source of documents, its section.
    by_source: HashMap<String, u32>,
}

const NONE: u32 = u32::MAX;

impl Program {
    /// The entries in the order in which rules are to be reported.
    pub(crate) fn new(entries: &[Entry<'_>]) -> Program {
        Program::with_size_max(entries, PROGRAM_SIZE_MAX)
    }

    fn with_size_max(entries: &[Entry<'_>], size_max: usize) -> Program {
        let mut program = Program::default();
        let mut left = size_max;
        let mut documents: BTreeMap<&str, Vec<&Entry<'_>>> = BTreeMap::new();
        let mut kernel = Vec::new();
        for entry in entries {
            match entry.source {
                SYSCALL => kernel.push(entry),
                source => documents.entry(source).or_default().push(entry),
            }
        }
        program.add_kernel(&kernel, &mut left);
        for (source, entries) in documents {
            let folding = Folding::of(entries.iter().map(|entry| entry.condition));
            let place = program.add(&entries, &folding.for_type(EventType::PLUGINEVENT), &mut left);
            program.by_source.insert(source.to_owned(), place);
        }
        program
    }

    fn add_kernel(&mut self, entries: &[&Entry<'_>], left: &mut usize) {
        let folding = Folding::of(entries.iter().map(|entry| entry.condition));
        let mut known: HashMap<(Vec<u32>, Vec<Option<bool>>), u32> = HashMap::new();
        for event_type in EventType::all() {
            let of_type: Vec<&Entry<'_>> =
                entries.iter().filter(|entry| entry.types.contains(event_type)).copied().collect();
            if of_type.is_empty() {
                self.by_type.push(NONE);
                continue;
            }
            let folded = folding.for_type(event_type);
            let alike = (of_type.iter().map(|entry| entry.rule).collect(), folded.outcomes());
            let place = *known.entry(alike).or_insert_with(|| self.add(&of_type, &folded, left));
            self.by_type.push(place);
        }
    }

    fn add(&mut self, entries: &[&Entry<'_>], folded: &Folded<'_>, left: &mut usize) -> u32 {
        let section = Section::new(entries, folded, *left);
        *left = left.saturating_sub(section.size());
        self.sections.push(section);
        u32::try_from(self.sections.len() - 1).expect("invariant: no more sections than event types and sources")
    }

    fn section(&self, event: &Event) -> Option<(usize, &Section)> {
        let place = match &event.kind {
            EventKind::Document(document) => self.by_source.get(&document.source),
            _ => self.by_type.get(event.event_type().place()),
        };
        let place = *place? as usize;
        Some((place, self.sections.get(place)?))
    }
}

#[cfg(test)]
mod tests;
