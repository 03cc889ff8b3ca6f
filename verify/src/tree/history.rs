//! Every root that the tree ever had.
//!
//! Retained checkpoints, and those that nodes saw and signed, name roots of smaller trees. The hashes over every 256 records are
//! kept, 64 bytes for each 256, and with the leaves of one tile any earlier root can be computed.

use std::collections::HashMap;

use cairn_ledger::tile::{TILE_WIDTH, TileId, TileKind, decode_hashes};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;

use super::subtree;
use crate::source::Source;

/// How many computed roots are remembered. Many heads name the same few checkpoints.
const ROOTS_MAX: usize = 4_096;
/// How many earlier tiles' leaves are kept once they were read again, 8 KiB each: checkpoints that are named one after the other often
/// end in the same tile.
const READ_MAX: usize = 16;

/// The tree as far as it was rebuilt.
pub(crate) struct History {
    /// `levels[k][i]`: the hash over the `i`-th 256·2^k records. Complete subtrees only.
    levels: Vec<Vec<Digest>>,
    /// The leaves of the tile that was rebuilt last, and its number.
    last: (u64, Vec<Digest>),
    /// A hash could not be found: what comes after cannot be placed.
    broken: bool,
    roots: HashMap<u64, Digest>,
    /// The leaves of earlier tiles that were read again, and are those of the tree.
    read: HashMap<u64, Vec<Digest>>,
}

impl History {
    pub(crate) fn new() -> History {
        History {
            levels: vec![Vec::new()],
            last: (0, Vec::new()),
            broken: false,
            roots: HashMap::new(),
            read: HashMap::new(),
        }
    }

    /// The next tile's leaves: 256, or fewer at the end; `hash` is the one over 256 of them.
    pub(crate) fn push(&mut self, number: u64, leaves: Vec<Digest>, hash: Option<Digest>) {
        if self.broken {
            return;
        }
        if number != self.tiles() || (hash.is_none() && leaves.is_empty()) {
            self.broken = true;
            return;
        }
        self.last = (number, leaves);
        let Some(mut hash) = hash else { return };
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level];
            hashes.push(hash);
            // A pair is complete: its parent is too.
            let [.., left, right] = hashes[..] else { break };
            if hashes.len() % 2 == 1 {
                break;
            }
            hash = Digest::node(&left, &right);
        }
    }

    /// A hash could not be found.
    pub(crate) fn break_off(&mut self) {
        self.broken = true;
    }

    /// How many tiles of 256 are complete.
    pub(crate) fn tiles(&self) -> u64 {
        self.levels[0].len() as u64
    }

    /// The hashes over every 256 records.
    pub(crate) fn hashes(&self) -> &[Digest] {
        &self.levels[0]
    }

    /// Whether every tile so far could be placed.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken
    }

    /// The root of the tree of `size` records; `None` where that cannot be computed.
    pub(crate) fn root(&mut self, size: TreeSize, source: &Source) -> Option<Digest> {
        if size.0 == 0 {
            return Some(Digest::sha256(b""));
        }
        if let Some(root) = self.roots.get(&size.0) {
            return Some(*root);
        }
        let root = self.compute(size.0, source)?;
        if self.roots.len() == ROOTS_MAX {
            self.roots.clear();
        }
        self.roots.insert(size.0, root);
        Some(root)
    }

    fn compute(&mut self, size: u64, source: &Source) -> Option<Digest> {
        let (tiles, rest) = (size / TILE_WIDTH, (size % TILE_WIDTH) as usize);
        if tiles > self.tiles() {
            return None;
        }
        let mut root: Option<Digest> = None;
        let mut join = |hash: Digest| root = Some(root.map_or(hash, |right| Digest::node(&hash, &right)));
        if rest > 0 {
            let leaves = self.leaves(tiles, source)?;
            let mut partial = leaves.get(..rest)?;
            while !partial.is_empty() {
                let (left, right) = partial.split_at(partial.len() - (1 << partial.len().trailing_zeros()));
                join(subtree(right));
                partial = left;
            }
        }
        // The set bits of the number of tiles, smallest subtree first.
        let mut end = tiles;
        while end > 0 {
            let level = end.trailing_zeros() as usize;
            let start = end - (1 << level);
            join(*self.levels.get(level)?.get((start >> level) as usize)?);
            end = start;
        }
        root
    }

    /// The leaves of a tile: the last one's are at hand, earlier ones are read again.
    fn leaves(&mut self, number: u64, source: &Source) -> Option<&[Digest]> {
        if self.last.0 == number {
            return Some(&self.last.1);
        }
        if !self.read.contains_key(&number) {
            let hash = self.levels[0].get(number as usize)?;
            let tile = TileId::full(TileKind::Hashes(0), number);
            let leaves = decode_hashes(tile, &source.tile(tile).ok()?).ok()?;
            if subtree(&leaves) != *hash {
                return None;
            }
            if self.read.len() == READ_MAX {
                self.read.clear();
            }
            self.read.insert(number, leaves);
        }
        self.read.get(&number).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use cairn_ledger::tile::encode_hashes;
    use cairn_ledger::tree::Frontier;

    use super::*;

    #[test]
    fn every_earlier_root_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::new(folder.path());
        std::fs::create_dir_all(folder.path().join("tile/0")).unwrap();
        let leaves: Vec<Digest> = (0u64..1500).map(|index| Digest::leaf(&index.to_be_bytes())).collect();
        let mut history = History::new();
        for (number, tile) in leaves.chunks(256).enumerate() {
            let path = TileId::full(TileKind::Hashes(0), number as u64).to_string();
            std::fs::write(folder.path().join(path), encode_hashes(tile)).unwrap();
            history.push(number as u64, tile.to_vec(), (tile.len() == 256).then(|| subtree(tile)));
        }
        let mut frontier = Frontier::new();
        for size in 0..=1500 {
            assert_eq!(history.root(TreeSize(size), &source), Some(frontier.root()), "{size}");
            if let Some(leaf) = leaves.get(size as usize) {
                frontier.push(*leaf);
            }
        }
        assert_eq!(history.root(TreeSize(1501), &source), None);
        assert_eq!(history.root(TreeSize(u64::MAX), &source), None);
    }

    #[test]
    fn roots_before_a_hole_are_found_and_none_behind_it() {
        let source = Source::new(std::path::Path::new("/nowhere"));
        let tile = vec![Digest::ZERO; 256];
        let mut history = History::new();
        history.push(0, tile.clone(), Some(subtree(&tile)));
        history.push(2, tile.clone(), Some(subtree(&tile)));
        assert!(!history.is_whole());
        assert!(history.root(TreeSize(256), &source).is_some());
        assert!(history.root(TreeSize(512), &source).is_none());
    }
}
