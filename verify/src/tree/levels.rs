//! Tiles of level 1 and above, and the root.

use cairn_ledger::tile::{TILE_WIDTH, TileId, TileKind, decode_hashes};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;

use super::arbiter::{Arbiter, root_of_edge};
use super::{items, needed, subtree, unread_fault};
use crate::inventory::{Inventory, named};
use crate::report::{Fault, FaultKind};
use crate::source::Source;

/// What the levels are compared with.
pub(crate) struct Levels<'a> {
    pub(crate) source: &'a Source,
    pub(crate) inventory: &'a Inventory,
    pub(crate) size: TreeSize,
    pub(crate) arbiter: &'a Arbiter<'a>,
    pub(crate) moving: &'a (dyn Fn() -> bool + Sync),
}

impl Levels<'_> {
    /// Compares every tile above level 0 with the hashes over each 256 records, and returns the root that comes out, if the hashes
    /// are all there; `edge` is the partial level-0 tile.
    pub(crate) fn check(&self, hashes: &[Digest], edge: &[Digest], mut fault: impl FnMut(Fault)) -> Option<Digest> {
        let mut edges: Vec<Option<Vec<Digest>>> = vec![Some(edge.to_vec())];
        edges[0] = edges[0].take().filter(|edge| edge.len() as u64 == self.size.0 % TILE_WIDTH);
        let mut known = hashes.to_vec();
        for level in 1_u8.. {
            let count = items(level, self.size);
            if count == 0 {
                break;
            }
            let mut above = Vec::with_capacity(known.len() / 256);
            let mut partial = count.is_multiple_of(TILE_WIDTH).then(Vec::new);
            for (number, computed) in known.chunks(TILE_WIDTH as usize).enumerate() {
                let Some(tile) = TileId::in_tree(TileKind::Hashes(level), number as u64, self.size) else { break };
                let chosen = self.tile(level, tile, computed, &mut fault);
                if chosen.len() as u64 == TILE_WIDTH {
                    above.push(subtree(&chosen));
                } else if chosen.len() == usize::from(tile.width()) {
                    partial = Some(chosen);
                }
            }
            edges.push(partial.filter(|_| known.len() as u64 == count));
            known = above;
        }
        let edges: Vec<Option<&[Digest]>> = edges.iter().map(Option::as_deref).collect();
        root_of_edge(&edges)
    }

    /// Compares one tile with the hashes that were computed for it, and returns those that the tree holds.
    fn tile(&self, level: u8, tile: TileId, computed: &[Digest], fault: &mut impl FnMut(Fault)) -> Vec<Digest> {
        let chosen = self.main_width(level, tile, computed, fault);
        for width in self.inventory.widths(tile.kind(), tile.index()).filter(|width| *width != tile.width()) {
            let Some(other) = named(tile.kind(), tile.index(), width) else { continue };
            let Ok(bytes) = self.source.tile(other) else { continue };
            match decode_hashes(other, &bytes) {
                Ok(hashes) => {
                    let wrong = hashes.iter().zip(&chosen).position(|(stored, chosen)| stored != chosen);
                    if let Some(place) = wrong {
                        fault(self.wrong(level, tile, place, &hashes, &chosen, "").file(other));
                    }
                }
                Err(error) if width < tile.width() => {
                    fault(
                        Fault::new(FaultKind::TileMalformed, error.to_string()).file(other).index(tile.first_record()),
                    );
                }
                Err(_) => {}
            }
        }
        chosen
    }

    fn main_width(&self, level: u8, tile: TileId, computed: &[Digest], fault: &mut impl FnMut(Fault)) -> Vec<Digest> {
        let widths = self.inventory.widths(tile.kind(), tile.index());
        let stored = match needed(self.source, tile, widths, &|| (self.moving)()) {
            Ok((from, bytes)) => match decode_hashes(from, &bytes) {
                Ok(mut hashes) => {
                    hashes.truncate(usize::from(tile.width()));
                    hashes
                }
                Err(error) => {
                    fault(
                        Fault::new(FaultKind::TileMalformed, error.to_string()).file(from).index(tile.first_record()),
                    );
                    return computed.to_vec();
                }
            },
            Err(unread) => {
                fault(unread_fault(tile, &unread));
                return computed.to_vec();
            }
        };
        let differing: Vec<usize> = (0..computed.len()).filter(|place| stored[*place] != computed[*place]).collect();
        let Some(&first) = differing.first() else { return computed.to_vec() };
        if self.arbiter.vouches(level, tile.index(), &stored) {
            // The checkpoint vouches for this tile, so what lies below it was changed, consistently up to here.
            for place in differing {
                fault(self.below(level, tile, place, &stored, computed));
            }
            return stored;
        }
        let sure = self.arbiter.vouches(level, tile.index(), computed);
        let whom =
            if sure { "; the checkpoint vouches for the records" } else { "; the checkpoint vouches for neither" };
        fault(self.wrong(level, tile, first, &stored, computed, whom).file(tile));
        computed.to_vec()
    }

    fn wrong(
        &self,
        level: u8,
        tile: TileId,
        place: usize,
        stored: &[Digest],
        computed: &[Digest],
        whom: &str,
    ) -> Fault {
        let covered = 1_u64.checked_shl(8 * u32::from(level)).unwrap_or(u64::MAX);
        let first = cairn_schemas::ids::RecordIndex(tile.first_record().0 + place as u64 * covered);
        let reason = format!(
            "it holds {} for the {covered} records from {first}, which hash to {}{whom}",
            stored[place], computed[place]
        );
        Fault::new(FaultKind::TileWrong, reason).index(first)
    }

    fn below(&self, level: u8, tile: TileId, place: usize, stored: &[Digest], computed: &[Digest]) -> Fault {
        let child = tile.index() * TILE_WIDTH + place as u64;
        let lower = TileId::full(TileKind::Hashes(level - 1), child);
        let (kind, file) = match level {
            1 => (FaultKind::RecordWrong, TileId::full(TileKind::Entries, child)),
            _ => (FaultKind::TileWrong, lower),
        };
        let reason = format!(
            "records from {} on and {lower} hash to {}; {tile}, for which the checkpoint vouches, holds {}",
            lower.first_record(),
            computed[place],
            stored[place]
        );
        Fault::new(kind, reason).file(file).index(lower.first_record())
    }
}
