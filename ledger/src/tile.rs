//! Tiles and entry bundles: where they lie and what bytes they hold (C2SP tlog-tiles v0.1.0).
//!
//! A hash tile of level `l` and number `n` holds up to 256 hashes; the hash `i` in it covers the leaves
//! `(n·256+i)·256^l .. (n·256+i+1)·256^l`. An entry bundle holds the 256 records of a level-0 tile, each behind its length.
//! What is less than 256 wide is *partial* and lies under `.p/<width>`; a partial tile is never hashed into a higher level.
//! Nothing here touches a file.

use std::fmt;
use std::str::FromStr;

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};
use thiserror::Error;

use crate::tree::HashReader;

/// Hashes in a full tile, records in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the binary tree in one tile.
pub const TILE_HEIGHT: u8 = 8;
/// The highest tile level that the specification allows.
pub const TILE_LEVEL_MAX: u8 = 63;
/// Bytes of one hash in a tile.
pub const HASH_LEN: usize = 32;
/// The longest record that a bundle can hold: its length is a big-endian `u16`.
pub const ENTRY_LEN_MAX: usize = 65_535;

/// Bytes of that length.
pub(crate) const ENTRY_HEADER_LEN: usize = 2;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TileKind {
    /// The records themselves.
    Entries,
    /// Hashes of this tile level.
    Hashes(u8),
}

/// Names one tile, full or partial. Its text is the path below the ledger's root: `tile/0/x001/x234/067`, `tile/entries/000.p/17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    kind: TileKind,
    index: u64,
    width: u16,
}

/// Why bytes or a path are not a tile.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TileError {
    /// Not the path of a tile.
    #[error("`{path}` is not the path of a tile")]
    Path {
        /// The path as found, cut at 120 characters.
        path: String,
    },
    /// A hash tile's length is not its width times 32.
    #[error("{tile} is {actual} bytes long and must be {expected}")]
    Length {
        /// The tile.
        tile: TileId,
        /// 32 bytes per hash.
        expected: usize,
        /// Its length.
        actual: usize,
    },
    /// A bundle ends within a record, or before it.
    #[error("{tile} ends at byte {offset}, within record {index}")]
    Truncated {
        /// The bundle.
        tile: TileId,
        /// The record that is cut or missing.
        index: RecordIndex,
        /// The bundle's length.
        offset: usize,
    },
    /// A bundle goes on after its last record.
    #[error("{tile} has {count} bytes after its last record")]
    Trailing {
        /// The bundle.
        tile: TileId,
        /// How many.
        count: usize,
    },
}

impl TileId {
    /// A full tile.
    #[must_use]
    pub const fn full(kind: TileKind, index: u64) -> TileId {
        TileId { kind, index, width: TILE_WIDTH as u16 }
    }

    /// The tile number `index` of `kind` in the tree of `size` records: full, partial, or `None` where it is empty and must not exist.
    #[must_use]
    pub fn in_tree(kind: TileKind, index: u64, size: TreeSize) -> Option<TileId> {
        let width = items(kind, size).checked_sub(index.checked_mul(TILE_WIDTH)?)?.min(TILE_WIDTH);
        (width > 0).then_some(TileId { kind, index, width: width as u16 })
    }

    /// Every tile of the tree of `size` records: the full ones, and at most one partial at the right edge of each kind.
    pub fn all(size: TreeSize) -> impl Iterator<Item = TileId> {
        let levels = (0..=TILE_LEVEL_MAX).map(TileKind::Hashes).take_while(move |kind| items(*kind, size) > 0);
        std::iter::once(TileKind::Entries).chain(levels).flat_map(move |kind| {
            (0..items(kind, size).div_ceil(TILE_WIDTH)).filter_map(move |index| TileId::in_tree(kind, index, size))
        })
    }

    /// Records or hashes.
    #[must_use]
    pub const fn kind(self) -> TileKind {
        self.kind
    }

    /// The tile's number in its level, from 0.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// How many items it holds: 1 to 256.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it is the right edge: fewer than 256 items.
    #[must_use]
    pub const fn is_partial(self) -> bool {
        (self.width as u64) < TILE_WIDTH
    }

    /// The full tile that a partial one becomes, which makes it superfluous.
    #[must_use]
    pub const fn to_full(self) -> TileId {
        TileId::full(self.kind, self.index)
    }

    /// The folder that holds every partial tile of this number: `tile/0/000.p`.
    #[must_use]
    pub fn partial_folder(self) -> String {
        format!("{}.p", self.to_full())
    }

    /// The first record that the tile covers; the highest number there is for a tile that no tree has.
    #[must_use]
    pub const fn first_record(self) -> RecordIndex {
        let level = match self.kind {
            TileKind::Entries => 0,
            TileKind::Hashes(level) => level as u32,
        };
        let shift = 8 * (level + 1);
        // Above level 6 only tile 0 exists in a tree of fewer than 2^64 records, but a path can name any.
        RecordIndex(match self.index {
            0 => 0,
            index if shift < 64 && index >> (64 - shift) == 0 => index << shift,
            _ => u64::MAX,
        })
    }
}

/// How many items of this kind the tree of `size` records has.
fn items(kind: TileKind, size: TreeSize) -> u64 {
    match kind {
        TileKind::Entries => size.0,
        TileKind::Hashes(level) => size.0.checked_shr(u32::from(TILE_HEIGHT) * u32::from(level)).unwrap_or(0),
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        // Three digits an element, all but the last behind an `x`.
        let mut elements = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            elements.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        elements.reverse();
        f.write_str(&elements.join("/"))?;
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl FromStr for TileId {
    type Err = TileError;

    fn from_str(path: &str) -> Result<TileId, TileError> {
        let refuse = || TileError::Path { path: path.chars().take(120).collect() };
        let (kind, rest) = path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or_else(refuse)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(level.parse().map_err(|_| refuse())?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().map_err(|_| refuse())?),
            None => (rest, TILE_WIDTH as u16),
        };
        let mut index: u64 = 0;
        for element in number.split('/') {
            let digits: u64 = element.trim_start_matches('x').parse().map_err(|_| refuse())?;
            index = index.checked_mul(1000).and_then(|index| index.checked_add(digits)).ok_or_else(refuse)?;
        }
        let tile = TileId { kind, index, width };
        // One spelling only: whatever the parser above was too kind to is caught by writing it again.
        let level_exists = !matches!(kind, TileKind::Hashes(level) if level > TILE_LEVEL_MAX);
        if level_exists && width > 0 && tile.to_string() == path { Ok(tile) } else { Err(refuse()) }
    }
}

/// Reads the hashes of a tile.
///
/// # Errors
/// [`TileError::Length`].
pub fn decode_hashes(tile: TileId, bytes: &[u8]) -> Result<Vec<Digest>, TileError> {
    let expected = usize::from(tile.width) * HASH_LEN;
    if bytes.len() != expected {
        return Err(TileError::Length { tile, expected, actual: bytes.len() });
    }
    let (hashes, _) = bytes.as_chunks::<HASH_LEN>();
    Ok(hashes.iter().map(|hash| Digest::from(*hash)).collect())
}

/// Writes hashes as a tile's bytes.
#[must_use]
pub fn encode_hashes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Appends one record to a bundle's bytes.
///
/// # Panics
/// If the record is longer than [`ENTRY_LEN_MAX`]: the writer refuses such records long before.
pub fn encode_entry(bundle: &mut Vec<u8>, record: &[u8]) {
    let len = u16::try_from(record.len()).expect("invariant: records are at most 65,535 bytes");
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(record);
}

/// Reads the records of a bundle, without copying them.
///
/// # Errors
/// [`TileError::Truncated`], [`TileError::Trailing`].
pub fn decode_entries(tile: TileId, bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    let mut records = Vec::with_capacity(usize::from(tile.width));
    let mut rest = bytes;
    for position in 0..u64::from(tile.width) {
        let index = RecordIndex(tile.index.saturating_mul(TILE_WIDTH).saturating_add(position));
        let cut = || TileError::Truncated { tile, index, offset: bytes.len() };
        let (len, after) = rest.split_first_chunk::<ENTRY_HEADER_LEN>().ok_or_else(cut)?;
        let (record, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or_else(cut)?;
        records.push(record);
        rest = after;
    }
    if rest.is_empty() { Ok(records) } else { Err(TileError::Trailing { tile, count: rest.len() }) }
}

/// Hands out the hashes of complete subtrees from the tiles of one tree. Tiles are read through a closure, and not checked against
/// any root: that is the caller's to do.
pub struct TileHashes<F> {
    size: TreeSize,
    read: F,
}

impl<F, E> TileHashes<F>
where
    F: Fn(TileId) -> Result<Vec<Digest>, E>,
{
    /// The hashes of the tree of `size` records; `read` returns a tile's hashes, as many as its width.
    pub fn new(size: TreeSize, read: F) -> TileHashes<F> {
        TileHashes { size, read }
    }
}

impl<F, E> HashReader for TileHashes<F>
where
    F: Fn(TileId) -> Result<Vec<Digest>, E>,
{
    type Error = E;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, E> {
        let (tile_level, inside) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << inside;
        let tile = TileId::in_tree(TileKind::Hashes(tile_level), first / TILE_WIDTH, self.size)
            .expect("invariant: only subtrees within the tree are asked for");
        let hashes = (self.read)(tile)?;
        let start = (first % TILE_WIDTH) as usize;
        Ok(fold(&hashes[start..start + (1 << inside)]))
    }
}

/// The root over 2^k hashes.
#[must_use]
pub(crate) fn fold(hashes: &[Digest]) -> Digest {
    match hashes {
        [hash] => *hash,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            Digest::node(&fold(left), &fold(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::Frontier;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = TileId::full(TileKind::Hashes(0), 1_234_067);
        assert_eq!(tile.to_string(), "tile/0/x001/x234/067");
        assert_eq!(TileId::full(TileKind::Entries, 0).to_string(), "tile/entries/000");
        let partial = TileId::in_tree(TileKind::Hashes(1), 0, TreeSize(70_000)).unwrap();
        assert_eq!((partial.width(), partial.is_partial()), (256, false));
        let partial = TileId::in_tree(TileKind::Hashes(1), 1, TreeSize(70_000)).unwrap();
        assert_eq!(partial.to_string(), "tile/1/001.p/17");
        assert_eq!(partial.partial_folder(), "tile/1/001.p");
        assert_eq!(partial.first_record(), RecordIndex(65_536));
    }

    #[test]
    fn the_tiles_of_a_tree_of_70_000() {
        // The example of the specification: 273 full level-0 tiles and one of 112, one full level-1 tile and one of 17, one of 1.
        let tiles: Vec<TileId> = TileId::all(TreeSize(70_000)).collect();
        let of = |kind| tiles.iter().filter(|tile| tile.kind() == kind).map(|tile| tile.width()).collect::<Vec<_>>();
        for kind in [TileKind::Entries, TileKind::Hashes(0)] {
            assert_eq!(of(kind), [vec![256; 273], vec![112]].concat());
        }
        assert_eq!(of(TileKind::Hashes(1)), [256, 17]);
        assert_eq!(of(TileKind::Hashes(2)), [1]);
        assert_eq!(tiles.len(), 274 * 2 + 3);
        let tiles: Vec<String> = TileId::all(TreeSize(256)).map(|tile| tile.to_string()).collect();
        assert_eq!(tiles, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(TileId::all(TreeSize(0)).count(), 0);
    }

    #[test]
    fn other_spellings_are_refused() {
        for path in [
            "",
            "tile/0",
            "tile/0/",
            "tile/00/000",
            "tile/64/000",
            "tile/0/0",
            "tile/0/x000/001",
            "tile/0/x001/x234/67",
            "tile/0/001/234",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/07",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/entries/+00",
            "/tile/0/000",
            "tile/0/000/",
            "tile/-1/000",
            "tile/0/xx01/000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert!(path.parse::<TileId>().is_err(), "{path}");
        }
    }

    #[test]
    fn tiles_that_no_tree_has_can_be_named() {
        let last: TileId =
            format!("tile/entries/{}", TileId::full(TileKind::Hashes(0), u64::MAX).to_string().split_off(7))
                .parse()
                .unwrap();
        assert_eq!((last.index(), last.first_record()), (u64::MAX, RecordIndex(u64::MAX)));
        assert!(matches!(decode_entries(last, b"\0"), Err(TileError::Truncated { .. })));
        let high: TileId = "tile/63/001".parse().unwrap();
        assert_eq!(high.first_record(), RecordIndex(u64::MAX));
        assert_eq!(TileId::full(TileKind::Hashes(6), 255).first_record(), RecordIndex(255 << 56));
        assert_eq!(TileId::full(TileKind::Hashes(6), 256).first_record(), RecordIndex(u64::MAX));
    }

    #[test]
    fn bundles_are_read_back_and_checked() {
        let records: [&[u8]; 3] = [b"", b"one", &[7; ENTRY_LEN_MAX]];
        let mut bundle = Vec::new();
        records.iter().for_each(|record| encode_entry(&mut bundle, record));
        assert_eq!(&bundle[..7], b"\0\0\0\x03one");
        let tile = TileId::in_tree(TileKind::Entries, 1, TreeSize(259)).unwrap();
        assert_eq!(decode_entries(tile, &bundle).unwrap(), records);
        assert_eq!(
            decode_entries(tile, &bundle[..bundle.len() - 1]),
            Err(TileError::Truncated { tile, index: RecordIndex(258), offset: bundle.len() - 1 })
        );
        bundle.push(0);
        assert_eq!(decode_entries(tile, &bundle), Err(TileError::Trailing { tile, count: 1 }));
    }

    #[test]
    #[should_panic(expected = "invariant")]
    fn a_record_past_the_limit_is_a_bug() {
        encode_entry(&mut Vec::new(), &[0; ENTRY_LEN_MAX + 1]);
    }

    #[test]
    fn hash_tiles_have_one_length() {
        let tile = TileId::in_tree(TileKind::Hashes(0), 0, TreeSize(2)).unwrap();
        let hashes = [Digest::leaf(b"a"), Digest::leaf(b"b")];
        let bytes = encode_hashes(&hashes);
        assert_eq!(decode_hashes(tile, &bytes).unwrap(), hashes);
        assert_eq!(decode_hashes(tile, &bytes[1..]), Err(TileError::Length { tile, expected: 64, actual: 63 }));
    }

    #[test]
    fn tiles_give_the_hashes_of_the_tree() {
        let size = 70_000;
        let leaves: Vec<Digest> = (0..size).map(|index: u64| Digest::leaf(&index.to_be_bytes())).collect();
        let mut frontier = Frontier::new();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        let mut levels = vec![leaves];
        while levels.last().unwrap().len() >= 256 {
            let next = levels.last().unwrap().as_chunks::<256>().0.iter().map(|tile| fold(tile)).collect();
            levels.push(next);
        }
        let tiles = TileHashes::new(TreeSize(size), |tile: TileId| {
            let TileKind::Hashes(level) = tile.kind() else { return Err("records were asked for") };
            let start = (tile.index() * TILE_WIDTH) as usize;
            Ok(levels[usize::from(level)][start..start + usize::from(tile.width())].to_vec())
        });
        assert_eq!(crate::tree::root(TreeSize(size), &tiles).unwrap(), frontier.root());
    }

    proptest! {
        #[test]
        fn paths_round_trip(index in any::<u64>(), level in 0..=TILE_LEVEL_MAX, width in 1_u16..=256, entries in any::<bool>()) {
            let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
            let tile = TileId { kind, index, width };
            prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        }

        #[test]
        fn any_path_does_not_panic(path in "tile/[0-9entris]{0,8}/[x0-9/.p]{0,20}") {
            if let Ok(tile) = path.parse::<TileId>() {
                prop_assert_eq!(tile.to_string(), path);
            }
        }

        #[test]
        fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), width in 1_u16..=256) {
            let _ = decode_entries(TileId { kind: TileKind::Entries, index: 0, width }, &bytes);
        }
    }
}
