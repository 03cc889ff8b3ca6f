//! Which tile files are there, before any is read.
//!
//! The checkpoint says what must be there; this says what is. Knowing both keeps a checkpoint with an absurd size from sending the
//! verifier looking for 2^55 bundles one by one, and finds the files that nothing vouches for.

use std::collections::BTreeMap;
use std::io;

use cairn_ledger::tile::{TileId, TileKind};

use crate::source::{EntryKind, Source};

/// Most other files that are named; the rest is counted.
pub(crate) const OTHER_MAX: usize = crate::report::OTHER_FILES_MAX;
/// Deepest folder below `tile/` that any tile number needs: a level, six `x` elements, one `.p`.
const DEPTH_MAX: usize = 8;

/// The tile files of a ledger.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Widths by kind and number, rising; 256 is the full tile.
    tiles: BTreeMap<TileKind, Vec<(u64, u16)>>,
    /// Files below `tile/` that are no tiles, the first [`OTHER_MAX`].
    pub(crate) other: Vec<String>,
    /// How many more there are.
    pub(crate) other_omitted: u64,
}

impl Inventory {
    pub(crate) fn read(source: &Source) -> io::Result<Inventory> {
        let mut inventory = Inventory::default();
        inventory.walk(source, "tile", 0)?;
        inventory.tiles.values_mut().for_each(|tiles| tiles.sort_unstable());
        Ok(inventory)
    }

    fn walk(&mut self, source: &Source, folder: &str, depth: usize) -> io::Result<()> {
        for (name, kind) in source.list(folder)? {
            let path = format!("{folder}/{name}");
            match (kind, path.parse::<TileId>()) {
                (EntryKind::Folder, _) if depth < DEPTH_MAX => self.walk(source, &path, depth + 1)?,
                (EntryKind::File, Ok(tile)) => {
                    self.tiles.entry(tile.kind()).or_default().push((tile.index(), tile.width()));
                }
                _ if self.other.len() < OTHER_MAX => self.other.push(path),
                _ => self.other_omitted += 1,
            }
        }
        Ok(())
    }

    /// The widths in which tile number `index` lies there.
    pub(crate) fn widths(&self, kind: TileKind, index: u64) -> impl Iterator<Item = u16> + '_ {
        let tiles = self.tiles.get(&kind).map_or(&[][..], Vec::as_slice);
        let start = tiles.partition_point(|tile| tile.0 < index);
        tiles[start..].iter().take_while(move |tile| tile.0 == index).map(|tile| tile.1)
    }

    /// The numbers below `count` of which there is a bundle or a level-0 tile, rising.
    pub(crate) fn numbers(&self, count: u64) -> Vec<u64> {
        let of = |kind| self.tiles.get(&kind).into_iter().flatten().map(|tile| tile.0);
        let mut numbers: Vec<u64> =
            of(TileKind::Entries).chain(of(TileKind::Hashes(0))).filter(|number| *number < count).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// How many files.
    pub(crate) fn len(&self) -> u64 {
        self.tiles.values().map(|tiles| tiles.len() as u64).sum()
    }

    /// The tiles of which not one item is in a tree of `size` records, in order.
    pub(crate) fn beyond(&self, size: cairn_schemas::ids::TreeSize) -> impl Iterator<Item = TileId> + '_ {
        self.tiles.iter().flat_map(move |(&kind, tiles)| {
            tiles
                .iter()
                .filter(move |(index, _)| TileId::in_tree(kind, *index, size).is_none())
                .filter_map(move |&(index, width)| named(kind, index, width))
        })
    }
}

/// The tile with this width. `None` for widths that no path has, which an inventory does not hold.
pub(crate) fn named(kind: TileKind, index: u64, width: u16) -> Option<TileId> {
    let full = TileId::full(kind, index);
    if u64::from(width) == cairn_ledger::tile::TILE_WIDTH {
        Some(full)
    } else {
        format!("{full}.p/{width}").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cairn_schemas::ids::TreeSize;

    use super::*;

    #[test]
    fn tiles_are_told_from_other_files() {
        let folder = tempfile::tempdir().unwrap();
        for file in
            ["tile/0/000.p/3", "tile/0/000.p/4", "tile/entries/x001/002", "tile/0/0", "tile/notes", "tile/0/000.p/x"]
        {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let inventory = Inventory::read(&Source::new(folder.path())).unwrap();
        assert_eq!(inventory.widths(TileKind::Hashes(0), 0).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(inventory.numbers(u64::MAX), [0, 1002]);
        assert_eq!(inventory.numbers(1002), [0]);
        assert_eq!(inventory.other, ["tile/0/0", "tile/0/000.p/x", "tile/notes"]);
        let beyond: Vec<String> = inventory.beyond(TreeSize(4)).map(|tile| tile.to_string()).collect();
        assert_eq!(beyond, ["tile/entries/x001/002"]);
    }

    #[test]
    fn no_ledger_is_an_empty_inventory() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Inventory::read(&Source::new(folder.path())).unwrap().len(), 0);
    }
}
