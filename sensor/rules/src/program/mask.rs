//! Which rules of a section, a bit each.

/// A set of rules by their place in a section.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Mask(Box<[u64]>);

impl Mask {
    pub(super) fn empty(rules: usize) -> Mask {
        Mask(vec![0; rules.div_ceil(64)].into())
    }

    pub(super) fn insert(&mut self, rule: usize) {
        self.0[rule / 64] |= 1 << (rule % 64);
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn union(&mut self, other: &Mask) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own |= other);
    }

    /// Its members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        members(&self.0)
    }
}

/// The bits that are set, ascending.
pub(super) fn members(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(place, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(place * 64 + bit)
        })
    })
}

pub(super) fn intersects(left: &[u64], right: &[u64]) -> bool {
    left.iter().zip(right).any(|(left, right)| left & right != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_in_order_across_words() {
        let mut mask = Mask::empty(130);
        for rule in [129, 0, 63, 64] {
            mask.insert(rule);
        }
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        let mut other = Mask::empty(130);
        assert!(!intersects(mask.words(), other.words()));
        other.insert(64);
        assert!(intersects(mask.words(), other.words()));
        other.union(&mask);
        assert_eq!(other, mask);
    }
}
