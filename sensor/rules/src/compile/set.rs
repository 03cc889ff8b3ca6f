//! Values of comparisons that know whether they are equal, so that a comparison written in two rules is made once.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;

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
