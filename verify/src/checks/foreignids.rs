//! Which `foreignid`s were seen: a set that may hold ten million in less memory than their texts' hashes.
//!
//! A producer's own names for its records must be unique in their stream, so each must be remembered. Of each the set keeps 64 bits of a
//! keyed hash: 16 say in which of [`TABLES`] tables, 48 stand there, about eight bytes of memory in all. The key is drawn for each
//! run, so that nobody can write two names that look like one. That two of ten million do so by chance, and a ledger is blamed for it,
//! happens in three of a million runs; another run says otherwise then.

use std::hash::{BuildHasher, RandomState};

use cairn_schemas::ids::StreamId;

const TABLES: usize = 1 << 16;
/// Slots of a table that holds anything.
const SLOTS_MIN: usize = 4;

/// The names of a volume and of the one before it: for that long they must be unique.
#[derive(Debug, Default)]
pub(crate) struct ForeignIds {
    key: RandomState,
    current: Set,
    previous: Set,
}

impl ForeignIds {
    /// Remembers a name by the first 128 bits of its hash. Whether it is new.
    pub(crate) fn insert(&mut self, stream: &StreamId, id: [u8; 16]) -> bool {
        let hash = self.key.hash_one((stream.as_str(), id));
        let is_new = self.current.insert(hash);
        is_new && !self.previous.contains(hash)
    }

    /// Another volume begins: the names of the one before the last may come again.
    pub(crate) fn next_volume(&mut self) {
        self.previous = std::mem::take(&mut self.current);
    }
}

/// A set of hashes, spread over small tables: each grows by itself, so that no copy of the whole is ever made.
#[derive(Debug, Default)]
struct Set {
    /// Empty, or [`TABLES`] of them.
    tables: Vec<Table>,
}

impl Set {
    fn insert(&mut self, hash: u64) -> bool {
        if self.tables.is_empty() {
            self.tables.resize_with(TABLES, Table::default);
        }
        let (table, slot) = parts(hash);
        self.tables[table].insert(slot)
    }

    fn contains(&self, hash: u64) -> bool {
        let (table, slot) = parts(hash);
        self.tables.get(table).is_some_and(|table| table.find(slot).is_some_and(|place| table.slots[place] == slot))
    }
}

/// Which table, and what stands in it.
fn parts(hash: u64) -> (usize, [u8; 6]) {
    let bytes = hash.to_le_bytes();
    let mut slot = [0; 6];
    slot.copy_from_slice(&bytes[2..]);
    // Zeros are an empty slot.
    if slot == [0; 6] {
        slot[5] = 1;
    }
    (usize::from(u16::from_le_bytes([bytes[0], bytes[1]])), slot)
}

/// Open addressing with linear probing; at most four fifths full.
#[derive(Debug, Default)]
struct Table {
    slots: Box<[[u8; 6]]>,
    len: u32,
}

impl Table {
    /// Where it stands, or the empty slot where it belongs. `None`: there are no slots.
    fn find(&self, slot: [u8; 6]) -> Option<usize> {
        let count = self.slots.len();
        // The first four bytes, spread over the slots.
        let start = (u64::from(u32::from_le_bytes([slot[0], slot[1], slot[2], slot[3]])) * count as u64) >> 32;
        let start = usize::try_from(start).ok()?;
        (start..count).chain(0..start).find(|place| self.slots[*place] == slot || self.slots[*place] == [0; 6])
    }

    fn insert(&mut self, slot: [u8; 6]) -> bool {
        if (self.len as usize + 1) * 5 > self.slots.len() * 4 {
            self.grow();
        }
        let place = self.find(slot).expect("invariant: a fifth of the slots is empty");
        let is_new = self.slots[place] != slot;
        if is_new {
            self.slots[place] = slot;
            self.len += 1;
        }
        is_new
    }

    fn grow(&mut self) {
        // By a quarter: doubling would leave half of a large set's memory unused.
        let count = SLOTS_MIN.max(self.slots.len() + self.slots.len() / 4 + 1);
        let full = std::mem::replace(&mut self.slots, vec![[0; 6]; count].into_boxed_slice());
        for slot in full.into_iter().filter(|slot| *slot != [0; 6]) {
            let place = self.find(slot).expect("invariant: it has grown");
            self.slots[place] = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(byte: u8) -> StreamId {
        StreamId::new(&"node-1".parse().unwrap(), [byte; 16])
    }

    fn id(number: u64) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    #[test]
    fn a_name_is_new_once_in_its_stream() {
        let mut ids = ForeignIds::default();
        for number in 0..200_000 {
            assert!(ids.insert(&stream(1), id(number)), "{number}");
        }
        for number in 0..200_000 {
            assert!(!ids.insert(&stream(1), id(number)), "{number}");
        }
        assert!(ids.insert(&stream(2), id(7)));
        assert!(!ids.insert(&stream(2), id(7)));
    }

    #[test]
    fn a_name_may_come_again_two_volumes_later() {
        let mut ids = ForeignIds::default();
        assert!(ids.insert(&stream(1), id(1)));
        ids.next_volume();
        assert!(!ids.insert(&stream(1), id(1)));
        assert!(ids.insert(&stream(1), id(2)));
        ids.next_volume();
        // It came again in the volume before, where it should not have.
        assert!(!ids.insert(&stream(1), id(1)));
        ids.next_volume();
        ids.next_volume();
        assert!(ids.insert(&stream(1), id(1)));
    }

    #[test]
    fn a_table_that_is_always_asked_for_the_same_place_holds_them_all() {
        let mut table = Table::default();
        // All begin at the last slot, and go round.
        let slots: Vec<[u8; 6]> = (1..=250).map(|byte| [0xff, 0xff, 0xff, 0xff, byte, 0]).collect();
        assert!(slots.iter().all(|slot| table.insert(*slot)));
        assert!(!slots.iter().any(|slot| table.insert(*slot)));
        assert_eq!(table.len, 250);
        assert!(table.slots.len() * 4 >= 250 * 5 && table.slots.len() < 250 * 2);
    }

    #[test]
    fn zeros_are_a_hash_like_any_other() {
        let mut set = Set::default();
        assert!(!set.contains(0));
        assert!(set.insert(0) && set.contains(0) && !set.insert(0));
    }
}
