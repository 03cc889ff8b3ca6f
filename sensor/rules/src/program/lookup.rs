//! One field's value among everything that rules ask of it, in one go.
//!
//! Whole values are found in a hash table, prefixes and suffixes in a trie, paths in a tree of their components, parts by an automaton,
//! regular expressions as a set; each has the rules that it keeps alive. What is none of these is tried by itself, and only while a rule
//! that hangs on it lives.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError};
use foldhash::fast::FixedState;

use super::graph::{Graph, NodeId};
use super::mask::{Mask, Words, matters, unite};
use super::trie::Trie;
use crate::compile::{Matcher, PathTree, Reader, Regex, RegexSet, TextMatcher};
use crate::condition::Quantifier;

/// Fewer parts than this are looked for one by one.
const PARTS_MIN: usize = 4;
/// Fewer regular expressions than this are tried one by one: each has its own ways to be fast, which a set lacks.
const REGEXES_MIN: usize = 4;

/// See the module's description. Masks are by their place in `masks`.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) reader: Reader,
    /// The rules that hang on it.
    pub(super) rules: Mask,
    exact: HashMap<Box<[u8]>, u32, FixedState>,
    /// Which lengths whole values have; the last bit stands for all that are longer.
    lengths: u64,
    prefixes: Trie,
    suffixes: Trie,
    paths: Option<Paths>,
    parts: Option<Parts>,
    regexes: Option<Regexes>,
    masks: Vec<Mask>,
    /// Tests of another kind, each with its rules.
    pub(super) others: Vec<(NodeId, Mask)>,
    size: usize,
}

/// Parts, which cost most: the whole value is read for them.
#[derive(Debug)]
struct Parts {
    automaton: AhoCorasick,
    /// By part.
    masks: Box<[u32]>,
    /// The rules that hang on any.
    rules: Mask,
}

/// What rules ask for by `pmatch`: the value is taken apart for it.
#[derive(Debug)]
struct Paths {
    tree: PathTree,
    /// By path.
    masks: Box<[u32]>,
    /// The rules that hang on any.
    rules: Mask,
}

/// Regular expressions, for which the value is read once more.
#[derive(Debug)]
struct Regexes {
    set: RegexSet,
    /// By expression.
    masks: Box<[u32]>,
    /// The rules that hang on any.
    rules: Mask,
}

/// What a lookup is made of.
pub(super) struct Builder {
    rules: usize,
    all: Mask,
    exact: BTreeMap<Box<[u8]>, Mask>,
    prefixes: BTreeMap<Box<[u8]>, Mask>,
    suffixes: BTreeMap<Box<[u8]>, Mask>,
    paths: BTreeMap<Box<[u8]>, Mask>,
    parts: BTreeMap<Box<[u8]>, (Mask, Vec<NodeId>)>,
    /// Each with the test that it is.
    regexes: Vec<(Regex, Mask, NodeId)>,
    others: BTreeMap<NodeId, Mask>,
}

impl Builder {
    pub(super) fn new(rules: usize) -> Self {
        Self {
            rules,
            all: Mask::empty(rules),
            exact: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            suffixes: BTreeMap::new(),
            paths: BTreeMap::new(),
            parts: BTreeMap::new(),
            regexes: Vec::new(),
            others: BTreeMap::new(),
        }
    }

    /// While this test is true, these rules live.
    pub(super) fn add(&mut self, graph: &Graph, test: NodeId, rules: &Mask) {
        self.all.union(rules);
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
            Matcher::Text(TextMatcher::EndsWith(suffix)) => {
                self.suffixes.entry(suffix.clone()).or_insert_with(empty).union(rules);
            }
            // What begins as the glob does may match it: the rule is tried in full then.
            Matcher::Text(TextMatcher::Glob(glob)) if glob.literal_prefix().is_some() => {
                let prefix = glob.literal_prefix().unwrap_or_default();
                self.prefixes.entry(prefix).or_insert_with(empty).union(rules);
            }
            Matcher::Text(TextMatcher::Contains(part)) if !part.is_empty() => {
                let (mask, tests) = self.parts.entry(part.clone()).or_insert_with(|| (empty(), Vec::new()));
                mask.union(rules);
                tests.push(test);
            }
            Matcher::Text(TextMatcher::PMatch(tree)) => {
                for path in tree.paths() {
                    self.paths.entry(path.clone()).or_insert_with(empty).union(rules);
                }
            }
            Matcher::Text(TextMatcher::Regex(regex)) => self.regexes.push((regex.clone(), rules.clone(), test)),
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
        let values = self.exact.len() + self.prefixes.len() + self.suffixes.len() + self.paths.len() + self.parts.len();
        let size = values + self.regexes.len() + self.others.len();
        let mut parts = None;
        if self.parts.len() >= PARTS_MIN {
            // An automaton too large to build is none: its parts are looked for one by one.
            if let Ok(automaton) = automaton(self.parts.keys()) {
                let mut rules = Mask::empty(self.rules);
                self.parts.values().for_each(|(mask, _)| rules.union(mask));
                parts = Some(Parts {
                    automaton,
                    masks: self.parts.values().map(|(mask, _)| masks.place(mask)).collect(),
                    rules,
                });
            }
        }
        if parts.is_none() {
            for (mask, tests) in self.parts.values() {
                for test in tests {
                    self.others.entry(*test).or_insert_with(|| Mask::empty(self.rules)).union(mask);
                }
            }
        }
        let regexes = self.regexes(&mut masks);
        let paths = self.paths(&mut masks);
        let nodes = paths.as_ref().map_or(0, |paths| paths.tree.nodes());
        let words = regexes.as_ref().map_or(0, |regexes| regexes.set.size() / size_of::<u64>());
        let lengths = self.exact.keys().fold(0, |lengths, value| lengths | length_bit(value));
        let exact = self.exact.into_iter().map(|(value, mask)| (value, masks.place(&mask))).collect();
        let prefixes = masks.places_of(self.prefixes);
        let suffixes = masks.places_of(self.suffixes);
        Lookup {
            reader,
            exact,
            lengths,
            rules: self.all,
            prefixes: Trie::new(prefixes.iter().map(|(prefix, mask)| (&**prefix, *mask))),
            suffixes: Trie::backward(suffixes.iter().map(|(suffix, mask)| (&**suffix, *mask))),
            paths,
            parts,
            regexes,
            size: size + nodes + words + masks.all.iter().map(Mask::size).sum::<usize>(),
            masks: masks.all,
            others: self.others.into_iter().collect(),
        }
    }

    fn paths(&self, masks: &mut Masks) -> Option<Paths> {
        if self.paths.is_empty() {
            return None;
        }
        let mut rules = Mask::empty(self.rules);
        self.paths.values().for_each(|mask| rules.union(mask));
        Some(Paths {
            tree: PathTree::new(self.paths.keys().map(|path| &**path)),
            // In the order of the tree's own, which is sorted, too.
            masks: self.paths.values().map(|mask| masks.place(mask)).collect(),
            rules,
        })
    }

    /// The set of regular expressions; those that make none are left to be tried one by one.
    fn regexes(&mut self, masks: &mut Masks) -> Option<Regexes> {
        let all = std::mem::take(&mut self.regexes);
        let set = if all.len() >= REGEXES_MIN { RegexSet::new(all.iter().map(|(regex, ..)| regex)) } else { None };
        let mut rules = Mask::empty(self.rules);
        if let Some(set) = set {
            all.iter().for_each(|(_, mask, _)| rules.union(mask));
            return Some(Regexes { set, masks: all.iter().map(|(_, mask, _)| masks.place(mask)).collect(), rules });
        }
        for (_, mask, test) in all {
            self.others.entry(test).or_insert_with(|| Mask::empty(self.rules)).union(&mask);
        }
        None
    }
}

/// How many values a test brings into a lookup.
pub(super) fn values(matcher: &Matcher) -> usize {
    match matcher {
        Matcher::Text(TextMatcher::In(values)) => values.len(),
        Matcher::Text(TextMatcher::PMatch(tree)) => tree.paths().len(),
        Matcher::Quantified(_, each) => each.iter().map(values).sum(),
        _ => 1,
    }
}

/// Bytes of all parts for which the fastest automaton, and largest, is built.
const FAST_BYTES_MAX: usize = 4_096;

/// No prefilter: the rare bytes it would look for, `/` and `.`, are in every path.
fn automaton<'a>(parts: impl Iterator<Item = &'a Box<[u8]>> + Clone) -> Result<AhoCorasick, BuildError> {
    let is_small = parts.clone().map(|part| part.len()).sum::<usize>() <= FAST_BYTES_MAX;
    let kind = if is_small { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
    AhoCorasick::builder().prefilter(false).kind(Some(kind)).build(parts)
}

fn is_indexed(matcher: &Matcher) -> bool {
    match matcher {
        Matcher::Text(TextMatcher::Contains(part)) => !part.is_empty(),
        Matcher::Text(TextMatcher::Glob(glob)) => glob.literal_prefix().is_some(),
        Matcher::Text(
            TextMatcher::Equal(_) | TextMatcher::In(_) | TextMatcher::StartsWith(_) | TextMatcher::EndsWith(_),
        ) => true,
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
    fn places_of(&mut self, of: BTreeMap<Box<[u8]>, Mask>) -> Vec<(Box<[u8]>, u32)> {
        of.into_iter().map(|(text, mask)| (text, self.place(&mask))).collect()
    }

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
    pub(super) fn find<const N: usize>(&self, value: &[u8], alive: &Words<N>, kept: &mut Words<N>) {
        if self.lengths & length_bit(value) != 0
            && let Some(mask) = self.exact.get(value)
        {
            self.add(*mask, kept);
        }
        self.prefixes.walk(value, |mask| self.add(mask, kept));
        self.suffixes.walk(value, |mask| self.add(mask, kept));
        if let Some(paths) = self.paths.as_ref().filter(|paths| matters(alive, kept, paths.rules.words())) {
            paths.tree.walk(value, |path| {
                self.add(paths.masks[path as usize], kept);
                ControlFlow::Continue(())
            });
        }
        if let Some(parts) = self.parts.as_ref().filter(|parts| matters(alive, kept, parts.rules.words())) {
            for found in parts.automaton.find_overlapping_iter(value) {
                self.add(parts.masks[found.pattern().as_usize()], kept);
            }
        }
        if let Some(regexes) = self.regexes.as_ref().filter(|regexes| matters(alive, kept, regexes.rules.words())) {
            for found in regexes.set.matches(value) {
                self.add(regexes.masks[found], kept);
            }
        }
    }

    #[inline]
    fn add<const N: usize>(&self, mask: u32, kept: &mut Words<N>) {
        unite(kept, self.masks[mask as usize].words());
    }

    /// Guessed nanoseconds of one.
    pub(super) fn cost(&self) -> f32 {
        let exact = if self.exact.is_empty() { 0.0 } else { 8.0 };
        let prefixes = if self.prefixes.is_empty() { 0.0 } else { 10.0 };
        let suffixes = if self.suffixes.is_empty() { 0.0 } else { 6.0 };
        let paths = if self.paths.is_some() { 40.0 } else { 0.0 };
        let parts = if self.parts.is_some() { 30.0 } else { 0.0 };
        let regexes = if self.regexes.is_some() { 150.0 } else { 0.0 };
        3.0 + exact + prefixes + suffixes + paths + parts + regexes
    }

    /// Values in it, and words of masks.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}
