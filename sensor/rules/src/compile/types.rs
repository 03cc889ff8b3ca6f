//! Sets of event types, to know which rules an event concerns before any is tried.

use std::sync::LazyLock;

use crate::event::EventType;

/// Words of a set; more than the known event types need.
const WORDS: usize = 8;

/// A set of event types, by their place in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypeSet([u64; WORDS]);

static FULL: LazyLock<TypeSet> = LazyLock::new(|| {
    let mut set = TypeSet::empty();
    for index in 0..EventType::count() {
        set.0[index / 64] |= 1 << (index % 64);
    }
    set
});

impl TypeSet {
    pub(crate) fn empty() -> Self {
        Self([0; WORDS])
    }

    pub(crate) fn full() -> Self {
        FULL.clone()
    }

    /// The set of these names; a name that is no event type is left out.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::empty();
        for name in names {
            if let Some(index) = EventType::by_name(name).map(EventType::place) {
                set.0[index / 64] |= 1 << (index % 64);
            }
        }
        set
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    pub(crate) fn complement(&self) -> Self {
        Self(std::array::from_fn(|word| !self.0[word] & FULL.0[word]))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        *self == *FULL
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.types().map(EventType::name).collect()
    }

    pub(crate) fn types(&self) -> impl Iterator<Item = EventType> {
        EventType::all().filter(|event_type| self.contains(*event_type))
    }

    pub(crate) fn contains(&self, event_type: EventType) -> bool {
        let index = event_type.place();
        self.0[index / 64] & (1 << (index % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits() {
        assert!(EventType::count() <= WORDS * 64);
    }

    #[test]
    fn sets() {
        let opens = TypeSet::of(["open", "openat"]);
        assert_eq!(opens.names(), ["open", "openat"]);
        assert!(opens.union(&opens.complement()).is_full());
        assert!(opens.intersection(&opens.complement()).is_empty());
        assert!(TypeSet::of(["opne"]).is_empty());
    }
}
