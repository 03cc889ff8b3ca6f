//! Values of comparisons that know whether they are equal, so that a comparison written in two rules is made once.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;

use crate::limits::REGEX_SET_SIZE_MAX;

/// A set of values of a rule. Its hasher has a fixed seed: what is in it comes from signed rules, what is looked up cannot fill it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Set<T: Eq + Hash>(HashSet<T, FixedState>);

impl<T: Eq + Hash> Set<T> {
    pub(crate) fn contains<Q: ?Sized + Eq + Hash>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.contains(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T: Eq + Hash> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl<T: Eq + Hash> Hash for Set<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Whatever the order.
        let sum = self.0.iter().fold(0_u64, |sum, value| sum.wrapping_add(FixedState::default().hash_one(value)));
        state.write_u64(sum);
    }
}

/// Regular expressions that are tried on a text together.
#[derive(Debug)]
pub(crate) struct RegexSet {
    set: regex::bytes::RegexSet,
    /// Bytes that its compiled program takes at most.
    size: usize,
}

impl RegexSet {
    /// None when they would be too large together.
    pub(crate) fn new<'r>(regexes: impl Iterator<Item = &'r Regex>) -> Option<Self> {
        let patterns: Vec<&str> = regexes.map(|regex| regex.0.as_str()).collect();
        // How large one is cannot be asked, only how large it may be.
        let sizes = std::iter::successors(Some(REGEX_SET_SIZE_MIN), |size| Some(2 * size));
        sizes.take_while(|size| *size <= REGEX_SET_SIZE_MAX).find_map(|size| {
            let set = regex::bytes::RegexSetBuilder::new(&patterns).size_limit(size).build().ok()?;
            Some(Self { set, size })
        })
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Those that match, by their places.
    pub(crate) fn matches(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        self.set.matches(text).into_iter()
    }
}

/// What a set of regular expressions is counted as at least, in bytes.
const REGEX_SET_SIZE_MIN: usize = 1 << 15;

/// A regular expression, the same as another when it is written the same.
#[derive(Debug, Clone)]
pub(crate) struct Regex(regex::bytes::Regex);

impl Regex {
    pub(crate) fn new(regex: regex::bytes::Regex) -> Self {
        Self(regex)
    }

    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Regex {}

impl Hash for Regex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}
