//! The tree, built again from its leaves and compared with every tile on disk.
//!
//! The writer's tree code is not used here, only its hashes and the layout of tiles: if both had the same mistake, the
//! tools that others wrote would still find it, and if either has one, this finds it. Leaves are hashed on every core
//! ([`leaves`]), put together in order ([`history`]), and compared level by level ([`levels`]). Where two files contradict each
//! other, [`arbiter`] says which of them the checkpoint's root vouches for.

pub(crate) mod arbiter;
pub(crate) mod history;
pub(crate) mod leaves;
pub(crate) mod levels;
pub(crate) mod speculation;

use cairn_ledger::tile::{TileId, TileKind};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;

use crate::inventory::named;
use crate::report::{Fault, FaultKind};
use crate::source::{Source, Unread};

/// The hash over a complete subtree: `hashes` is a power of two long.
pub(crate) fn subtree(hashes: &[Digest]) -> Digest {
    debug_assert!(hashes.len().is_power_of_two());
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks_exact(2).map(|pair| Digest::node(&pair[0], &pair[1])).collect();
    }
    level[0]
}

/// How many items of a tile level the tree has: complete subtrees of 256^level leaves.
pub(crate) fn items(level: u8, size: TreeSize) -> u64 {
    size.0.checked_shr(8 * u32::from(level)).unwrap_or(0)
}

/// The bytes of a tile that the tree needs, and the tile that they come from; see [`needed_to`].
pub(crate) fn needed(
    source: &Source,
    tile: TileId,
    widths: impl Iterator<Item = u16>,
    moving: &dyn Fn() -> bool,
) -> Result<(TileId, Vec<u8>), Unread> {
    let mut bytes = Vec::new();
    let from = needed_to(source, tile, widths, moving, &mut bytes)?;
    Ok((from, bytes))
}

/// Fetches a tile that the tree needs into a buffer, and says which tile its bytes come from.
///
/// A partial tile may be deleted once the full one is there. A larger partial one takes its place only where the ledger goes on
/// while it is read (`moving`): then the checkpoint at hand is no longer the newest.
pub(crate) fn needed_to(
    source: &Source,
    tile: TileId,
    widths: impl Iterator<Item = u16>,
    moving: &dyn Fn() -> bool,
    bytes: &mut Vec<u8>,
) -> Result<TileId, Unread> {
    let missing = match source.tile_to(tile, bytes) {
        Err(Unread::Missing) if tile.is_partial() => Unread::Missing,
        read => return read.map(|()| tile),
    };
    let full = tile.to_full();
    match source.tile_to(full, bytes) {
        Err(Unread::Missing) => {}
        read => return read.map(|()| full),
    }
    if moving() {
        // What the inventory saw may be gone again; what is there now is not in it.
        let listed = widths.chain(tile.width() + 1..256);
        for width in listed.filter(|width| *width > tile.width()) {
            if let Some(larger) = named(tile.kind(), tile.index(), width)
                && source.tile_to(larger, bytes).is_ok()
            {
                return Ok(larger);
            }
        }
    }
    Err(missing)
}

/// The fault for a tile or bundle that gave no bytes.
pub(crate) fn unread_fault(tile: TileId, unread: &Unread) -> Fault {
    let (missing, malformed) = match tile.kind() {
        TileKind::Entries => (FaultKind::BundleMissing, FaultKind::BundleMalformed),
        TileKind::Hashes(_) => (FaultKind::TileMissing, FaultKind::TileMalformed),
    };
    let kind = match unread {
        Unread::Missing => missing,
        Unread::Io(_) => FaultKind::Unreadable,
        Unread::NotAFile | Unread::TooLong { .. } => malformed,
    };
    Fault::new(kind, unread.to_string()).file(tile).index(tile.first_record())
}

#[cfg(test)]
mod tests;
