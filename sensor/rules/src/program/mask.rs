//! Which rules of a section, a bit each.

/// A set of rules by their place in a section. Its words are as many as a size in [`SIZES`] has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Mask(Box<[u64]>);

/// The words of a mask while rules are tried: of a size that the compiler knows, since most sections need one or two.
pub(super) type Words<const N: usize> = [u64; N];

/// Words that masks have; the last is enough for as many rules as there can be.
pub(super) const SIZES: [usize; 4] = [1, 2, 8, 160];

impl Mask {
    pub(super) fn empty(rules: usize) -> Mask {
        let words = rules.div_ceil(64);
        let size = SIZES.into_iter().find(|size| *size >= words).unwrap_or(words);
        Mask(vec![0; size].into())
    }

    pub(super) fn insert(&mut self, rule: usize) {
        self.0[rule / 64] |= 1 << (rule % 64);
    }

    pub(super) fn contains(&self, rule: usize) -> bool {
        self.0[rule / 64] & (1 << (rule % 64)) != 0
    }

    /// How many words it has.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    /// Its words; `N` is its size, or they are none of its.
    #[inline]
    pub(super) fn words<const N: usize>(&self) -> &Words<N> {
        self.0.first_chunk().unwrap_or(const { &[0; N] })
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

#[inline]
pub(super) fn intersects<const N: usize>(left: &Words<N>, right: &Words<N>) -> bool {
    (0..N).any(|word| left[word] & right[word] != 0)
}

/// Is there one of these rules that lives and is not kept alive yet?
#[inline]
pub(super) fn matters<const N: usize>(alive: &Words<N>, kept: &Words<N>, rules: &Words<N>) -> bool {
    (0..N).any(|word| alive[word] & !kept[word] & rules[word] != 0)
}

#[inline]
pub(super) fn unite<const N: usize>(own: &mut Words<N>, other: &Words<N>) {
    (0..N).for_each(|word| own[word] |= other[word]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RULES_MAX;

    #[test]
    fn members_in_order_across_words() {
        let mut mask = Mask::empty(130);
        for rule in [129, 0, 63, 64] {
            mask.insert(rule);
        }
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert!(mask.contains(64) && !mask.contains(65));
        let mut other = Mask::empty(130);
        assert!(!intersects::<8>(mask.words(), other.words()));
        other.insert(64);
        assert!(intersects::<8>(mask.words(), other.words()));
        assert!(!matters::<8>(mask.words(), other.words(), other.words()));
        other.union(&mask);
        assert_eq!(other, mask);
    }

    #[test]
    fn every_rule_has_a_bit() {
        for rules in [0, 1, 64, 65, 128, 129, 512, 513, RULES_MAX] {
            assert!(SIZES.contains(&Mask::empty(rules.max(1)).size()), "{rules}");
        }
    }
}
