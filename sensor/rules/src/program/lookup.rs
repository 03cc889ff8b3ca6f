//! One field's value among everything that rules ask of it, in one go.
//!
//! Whole values are found in a hash table, prefixes in a trie, parts by an automaton; each has the rules that it keeps alive. What is
//! neither is tried by itself, and only while a rule that hangs on it lives.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::AhoCorasick;
use foldhash::fast::FixedState;

use super::graph::{Graph, NodeId};
use super::mask::Mask;
use super::trie::Trie;
use crate::compile::{Matcher, Reader, TextMatcher};
use crate::condition::Quantifier;

/// Fewer parts than this are looked for one by one.
const PARTS_MIN: usize = 4;

/// See the module's description. Masks are by their place in `masks`.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) reader: Reader,
    exact: HashMap<Box<[u8]>, u32, FixedState>,
    /// Which lengths whole values have; the last bit stands for all that are longer.
    lengths: u64,
    prefixes: Trie,
    parts: Option<(AhoCorasick, Box<[u32]>)>,
    masks: Vec<Mask>,
    /// Tests of another kind, each with its rules.
    pub(super) others: Vec<(NodeId, Mask)>,
    size: usize,
}

/// What a lookup is made of.
pub(super) struct Builder {
    rules: usize,
    exact: BTreeMap<Box<[u8]>, Mask>,
    prefixes: BTreeMap<Box<[u8]>, Mask>,
    parts: BTreeMap<Box<[u8]>, (Mask, Vec<NodeId>)>,
    others: BTreeMap<NodeId, Mask>,
}

impl Builder {
    pub(super) fn new(rules: usize) -> Self {
        Self {
            rules,
            exact: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            parts: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    /// While this test is true, these rules live.
    pub(super) fn add(&mut self, graph: &Graph, test: NodeId, rules: &Mask) {
        let matcher = graph.test(test).map(|test| &test.matcher);
        let is_taken = matcher.is_some_and(|matcher| self.add_matcher(matcher, test, rules));
        if !is_taken {
            self.others.entry(test).or_insert_with(|| Mask::empty(self.rules)).union(rules);
        }
    }

    fn add_matcher(&mut self, matcher: &Matcher, test: NodeId, rules: &Mask) -> bool {
        let empty = || Mask::empty(self.rules);
        match matcher {
            Matcher::Text(TextMatcher::Equal(value)) => {
                self.exact.entry(value.clone()).or_insert_with(empty).union(rules);
            }
            Matcher::Text(TextMatcher::In(values)) => {
                for value in values.iter() {
                    self.exact.entry(value.clone()).or_insert_with(empty).union(rules);
                }
            }
            Matcher::Text(TextMatcher::StartsWith(prefix)) => {
                self.prefixes.entry(prefix.clone()).or_insert_with(empty).union(rules);
            }
            Matcher::Text(TextMatcher::Contains(part)) if !part.is_empty() => {
                let (mask, tests) = self.parts.entry(part.clone()).or_insert_with(|| (empty(), Vec::new()));
                mask.union(rules);
                tests.push(test);
            }
            Matcher::Quantified(Quantifier::Any, each) if each.iter().all(is_indexed) => {
                each.iter().for_each(|matcher| {
                    self.add_matcher(matcher, test, rules);
                });
            }
            _ => return false,
        }
        true
    }

    pub(super) fn build(mut self, reader: Reader) -> Lookup {
        let mut masks = Masks::default();
        let size = self.exact.len() + self.prefixes.len() + self.parts.len() + self.others.len();
        let mut parts = None;
        if self.parts.len() >= PARTS_MIN {
            // An automaton too large to build is none: its parts are looked for one by one.
            if let Ok(automaton) = AhoCorasick::new(self.parts.keys()) {
                parts = Some((automaton, self.parts.values().map(|(mask, _)| masks.place(mask)).collect()));
            }
        }
        if parts.is_none() {
            for (mask, tests) in self.parts.values() {
                for test in tests {
                    self.others.entry(*test).or_insert_with(|| Mask::empty(self.rules)).union(mask);
                }
            }
        }
        let lengths = self.exact.keys().fold(0, |lengths, value| lengths | length_bit(value));
        let exact = self.exact.into_iter().map(|(value, mask)| (value, masks.place(&mask))).collect();
        let prefixes: Vec<(Box<[u8]>, u32)> =
            self.prefixes.into_iter().map(|(prefix, mask)| (prefix, masks.place(&mask))).collect();
        Lookup {
            reader,
            exact,
            lengths,
            prefixes: Trie::new(prefixes.iter().map(|(prefix, mask)| (&**prefix, *mask))),
            parts,
            masks: masks.all,
            others: self.others.into_iter().collect(),
            size,
        }
    }
}

fn is_indexed(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::Text(TextMatcher::Contains(part)) => !part.is_empty(),
        Matcher::Text(TextMatcher::Equal(_) | TextMatcher::In(_) | TextMatcher::StartsWith(_)) => true,
        _ => false,
    }
}

/// Masks, each kept once: most values have the same rules.
#[derive(Default)]
struct Masks {
    all: Vec<Mask>,
    places: HashMap<Mask, u32>,
}

impl Masks {
    fn place(&mut self, mask: &Mask) -> u32 {
        if let Some(place) = self.places.get(mask) {
            return *place;
        }
        let place = self.all.len() as u32;
        self.all.push(mask.clone());
        self.places.insert(mask.clone(), place);
        place
    }
}

fn length_bit(value: &[u8]) -> u64 {
    1 << value.len().min(63)
}

impl Lookup {
    /// Adds the rules that a value keeps alive, those of [`Lookup::others`] left out.
    #[inline]
    pub(super) fn find(&self, value: &[u8], alive: &mut [u64]) {
        if self.lengths & length_bit(value) != 0
            && let Some(mask) = self.exact.get(value)
        {
            self.add(*mask, alive);
        }
        self.prefixes.walk(value, |mask| self.add(mask, alive));
        if let Some((automaton, masks)) = &self.parts {
            for found in automaton.find_overlapping_iter(value) {
                self.add(masks[found.pattern().as_usize()], alive);
            }
        }
    }

    #[inline]
    fn add(&self, mask: u32, alive: &mut [u64]) {
        let words = self.masks[mask as usize].words();
        alive.iter_mut().zip(words).for_each(|(own, word)| *own |= word);
    }

    /// Guessed nanoseconds of one.
    pub(super) fn cost(&self) -> f32 {
        let exact = if self.exact.is_empty() { 0.0 } else { 6.0 };
        let prefixes = if self.prefixes.is_empty() { 0.0 } else { 10.0 };
        let parts = if self.parts.is_some() { 60.0 } else { 0.0 };
        3.0 + exact + prefixes + parts
    }

    /// Values in it.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}
