//! Which of two contradicting files the checkpoint vouches for.
//!
//! The root fixes the tiles at the tree's right edge, these fix the tiles below them, and so on down to the leaves. So when a
//! bundle and its tile disagree, the tiles above say which of the two was changed. Only asked when something is wrong.

use std::sync::OnceLock;

use cairn_ledger::tile::{TILE_LEVEL_MAX, TILE_WIDTH, TileId, TileKind, decode_hashes};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;

use super::{items, subtree};
use crate::source::Source;

/// The tiles on disk, as far as the root vouches for them.
pub(crate) struct Arbiter<'a> {
    source: &'a Source,
    size: TreeSize,
    root: Digest,
    /// The partial tiles of every level; `None` where one cannot be read.
    edge: OnceLock<Vec<Option<Vec<Digest>>>>,
}

impl<'a> Arbiter<'a> {
    pub(crate) fn new(source: &'a Source, size: TreeSize, root: Digest) -> Arbiter<'a> {
        Arbiter { source, size, root, edge: OnceLock::new() }
    }

    /// Whether these hashes are, beyond doubt, those of tile `number` of `level`.
    pub(crate) fn vouches(&self, level: u8, number: u64, hashes: &[Digest]) -> bool {
        if hashes.len() as u64 == TILE_WIDTH {
            return self.item(level + 1, number) == Some(subtree(hashes));
        }
        // A partial tile goes into the root itself: with these hashes in its place, the root must come out.
        let edge = self.edge();
        let place = usize::from(level);
        if place >= edge.len() {
            return false;
        }
        let with: Vec<Option<&[Digest]>> = edge
            .iter()
            .enumerate()
            .map(|(level, stored)| if level == place { Some(hashes) } else { stored.as_deref() })
            .collect();
        root_of_edge(&with) == Some(self.root)
    }

    /// The hash number `number` of `level`: of the 256^level leaves that it covers. `None` when nothing vouches for one.
    pub(crate) fn item(&self, level: u8, number: u64) -> Option<Digest> {
        if number >= items(level, self.size) {
            return None;
        }
        let tile = TileId::in_tree(TileKind::Hashes(level), number / TILE_WIDTH, self.size)?;
        let hashes = if tile.is_partial() { self.edge().get(usize::from(level))?.clone()? } else { self.read(tile)? };
        self.vouches(level, tile.index(), &hashes).then(|| hashes[(number % TILE_WIDTH) as usize])
    }

    /// A tile's hashes as they lie there; where a partial one is gone, the full one's first.
    fn read(&self, tile: TileId) -> Option<Vec<Digest>> {
        if let Ok(bytes) = self.source.tile(tile) {
            return decode_hashes(tile, &bytes).ok();
        }
        let full = tile.to_full();
        let mut hashes = decode_hashes(full, &self.source.tile(full).ok()?).ok()?;
        hashes.truncate(usize::from(tile.width()));
        Some(hashes)
    }

    fn edge(&self) -> &[Option<Vec<Digest>>] {
        self.edge.get_or_init(|| {
            (0..=TILE_LEVEL_MAX)
                .take_while(|level| items(*level, self.size) > 0)
                .map(|level| {
                    let count = items(level, self.size);
                    if count.is_multiple_of(TILE_WIDTH) {
                        return Some(Vec::new());
                    }
                    self.read(TileId::in_tree(TileKind::Hashes(level), count / TILE_WIDTH, self.size)?)
                })
                .collect()
        })
    }
}

/// The root of the tree whose right edge these partial tiles are, lowest level first; empty where a level ends in a full tile.
pub(crate) fn root_of_edge(edge: &[Option<&[Digest]>]) -> Option<Digest> {
    let mut root: Option<Digest> = None;
    for hashes in edge {
        let mut rest = (*hashes)?;
        // The smallest complete subtree is the rightmost one.
        while !rest.is_empty() {
            let (left, right) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
            let hash = subtree(right);
            root = Some(root.map_or(hash, |root| Digest::node(&hash, &root)));
            rest = left;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use cairn_ledger::tree::Frontier;

    use super::*;

    #[test]
    fn the_edge_has_the_root_of_the_tree() {
        let mut frontier = Frontier::new();
        let mut leaves = Vec::new();
        for index in 0u64..700 {
            frontier.push(Digest::leaf(&index.to_be_bytes()));
            leaves.push(Digest::leaf(&index.to_be_bytes()));
            let above: Vec<Digest> = leaves.chunks_exact(256).map(subtree).collect();
            let partial = &leaves[leaves.len() / 256 * 256..];
            let edge: &[Option<&[Digest]>] =
                if above.is_empty() { &[Some(partial)] } else { &[Some(partial), Some(&above)] };
            assert_eq!(root_of_edge(edge), Some(frontier.root()), "{index}");
        }
    }
}
