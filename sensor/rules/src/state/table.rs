//! A table of keys within bounds: when it is full, the key that was touched longest ago goes, and is counted.

use std::collections::HashMap;
use std::sync::Arc;

/// What is kept for a key.
pub(crate) trait Kept: Default {
    /// Bytes it holds beside its own.
    fn bytes(&self) -> usize;
}

/// Bytes an entry costs beside its key's and what it holds: slot, hash table, counts.
const ENTRY_BYTES: usize = 160;
/// The end of the chain of slots.
const NONE: usize = usize::MAX;
/// Entries too old to matter that are taken out when one is touched. Two, so that they go faster than new ones come.
const SWEPT: usize = 2;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Table<V> {
    places: HashMap<Arc<[u8]>, usize>,
    slots: Vec<Slot<V>>,
    free: Vec<usize>,
    /// The key touched last, and the one touched longest ago.
    newest: usize,
    oldest: usize,
    bytes: usize,
    bounds: Bounds,
    /// Entries that went for want of room.
    evicted: u64,
}

/// How much a table may hold, and for how long anything in it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) keys_max: usize,
    pub(crate) bytes_max: usize,
    /// An entry that was not touched for longer than this is as good as none.
    pub(crate) keep_ns: u64,
}

#[derive(Debug)]
struct Slot<V> {
    key: Arc<[u8]>,
    value: V,
    touched: u64,
    bytes: usize,
    newer: usize,
    older: usize,
}

impl<V: Kept> Table<V> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            places: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
            bounds,
            evicted: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Other bounds from now on; what does not fit goes.
    pub(crate) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        while self.is_over() && self.oldest != NONE {
            self.evict();
        }
    }

    /// Forgets everything; that is no loss of its own.
    pub(crate) fn clear(&mut self) {
        let evicted = self.evicted;
        *self = Self { evicted, ..Self::new(self.bounds) };
    }

    /// Looks at a key's entry and changes it; the key is the newest from then on. One that is not there, or too old, is a default one.
    pub(crate) fn update<R>(&mut self, key: &[u8], now: u64, change: impl FnOnce(&mut V) -> R) -> R {
        self.sweep(now);
        let place = match self.places.get(key) {
            Some(place) => {
                let place = *place;
                self.unlink(place);
                place
            }
            None => self.place_for(key.into()),
        };
        let keep_ns = self.bounds.keep_ns;
        let slot = &mut self.slots[place];
        if now.saturating_sub(slot.touched) > keep_ns {
            slot.value = V::default();
        }
        slot.touched = now;
        let outcome = change(&mut slot.value);
        let bytes = ENTRY_BYTES + slot.key.len() + slot.value.bytes();
        self.bytes = self.bytes - slot.bytes + bytes;
        slot.bytes = bytes;
        self.link_newest(place);
        while self.is_over() && self.oldest != place {
            self.evict();
        }
        outcome
    }

    /// Takes a key's entry out, unless it is too old.
    pub(crate) fn take(&mut self, key: &[u8], now: u64) -> Option<V> {
        let place = *self.places.get(key)?;
        let touched = self.slots[place].touched;
        let value = self.remove(place);
        (now.saturating_sub(touched) <= self.bounds.keep_ns).then_some(value)
    }

    /// Its entries, the one touched longest ago first, with when that was.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u64, &V)> {
        let next = |place: usize| (place != NONE).then(|| &self.slots[place]);
        std::iter::successors(next(self.oldest), move |slot| next(slot.newer))
            .map(|slot| (slot.key.as_ref(), slot.touched, &slot.value))
    }

    fn is_over(&self) -> bool {
        self.places.len() > self.bounds.keys_max || self.bytes > self.bounds.bytes_max
    }

    /// Takes out what is too old to matter: no loss.
    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEPT {
            match self.slots.get(self.oldest) {
                Some(slot) if now.saturating_sub(slot.touched) > self.bounds.keep_ns => self.remove(self.oldest),
                _ => return,
            };
        }
    }

    fn evict(&mut self) {
        self.evicted += 1;
        self.remove(self.oldest);
    }

    fn place_for(&mut self, key: Arc<[u8]>) -> usize {
        let slot =
            Slot { key: Arc::clone(&key), value: V::default(), touched: u64::MAX, bytes: 0, newer: NONE, older: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.places.insert(key, place);
        place
    }

    fn remove(&mut self, place: usize) -> V {
        self.unlink(place);
        let slot = &mut self.slots[place];
        self.bytes -= slot.bytes;
        slot.bytes = 0;
        let key = std::mem::replace(&mut slot.key, Arc::from(&[][..]));
        self.places.remove(&key);
        self.free.push(place);
        std::mem::take(&mut self.slots[place].value)
    }

    fn unlink(&mut self, place: usize) {
        let (newer, older) = (self.slots[place].newer, self.slots[place].older);
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, place: usize) {
        let before = std::mem::replace(&mut self.newest, place);
        self.slots[place].newer = NONE;
        self.slots[place].older = before;
        match self.slots.get_mut(before) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kept for u64 {
        fn bytes(&self) -> usize {
            0
        }
    }

    impl Kept for Vec<u8> {
        fn bytes(&self) -> usize {
            self.capacity()
        }
    }

    fn keys<V: Kept>(table: &Table<V>) -> Vec<u8> {
        table.iter().map(|(key, _, _)| key[0]).collect()
    }

    #[test]
    fn what_was_touched_longest_ago_goes() {
        let mut table: Table<u64> = Table::new(Bounds { keys_max: 3, bytes_max: 10_000, keep_ns: 100 });
        for key in [1, 2, 3, 1, 4] {
            table.update(&[key], 0, |count| *count += 1);
        }
        assert_eq!(keys(&table), [3, 1, 4]);
        assert_eq!((table.len(), table.evicted()), (3, 1));
        assert_eq!(table.update(&[1], 0, |count| *count), 2);
        assert_eq!(table.take(&[3], 0), Some(1));
        assert_eq!(table.take(&[3], 0), None);
        assert_eq!(keys(&table), [4, 1]);
        table.set_bounds(Bounds { keys_max: 1, bytes_max: 10_000, keep_ns: 100 });
        assert_eq!((keys(&table), table.evicted()), (vec![1], 2));
    }

    #[test]
    fn what_is_too_old_is_none() {
        let mut table: Table<u64> = Table::new(Bounds { keys_max: 10, bytes_max: 10_000, keep_ns: 100 });
        for key in [1, 2, 3] {
            table.update(&[key], 0, |count| *count += 1);
        }
        assert_eq!(table.update(&[3], 100, |count| *count), 1, "at the end of its time");
        assert_eq!(table.take(&[1], 101), None);
        assert_eq!(table.update(&[2], 201, |count| *count), 0);
        assert_eq!((table.len(), table.evicted()), (1, 0), "the others went with time, and that is no loss");
    }

    #[test]
    fn bytes_are_bounded_and_add_up() {
        let bytes_max = 10 * (ENTRY_BYTES + 1 + 100);
        let mut table: Table<Vec<u8>> = Table::new(Bounds { keys_max: 1_000, bytes_max, keep_ns: 100 });
        for key in 0..=255 {
            table.update(&[key], 0, |value| *value = Vec::with_capacity(100));
            assert!(table.bytes() <= bytes_max);
        }
        assert_eq!((table.len(), table.evicted()), (10, 246));
        table.update(&[255], 0, |value| *value = Vec::new());
        assert_eq!(table.bytes(), bytes_max - 100);
        // One that is larger than all the room stays until the next comes: what was just said is not unsaid.
        table.update(&[1], 0, |value| *value = Vec::with_capacity(bytes_max));
        assert_eq!(keys(&table), [1]);
        table.update(&[2], 0, |_| ());
        assert_eq!(keys(&table), [2]);
        assert_eq!(table.bytes(), ENTRY_BYTES + 1);
    }
}
