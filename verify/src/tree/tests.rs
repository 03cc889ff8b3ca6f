//! Trees of three levels, where most of the tiles stand above level 0. What the records say is not looked at here.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use cairn_ledger::tile::{encode_entry, encode_hashes};
use cairn_schemas::ids::RecordIndex;

use super::*;
use crate::inventory::Inventory;
use crate::tree::arbiter::Arbiter;
use crate::tree::history::History;
use crate::tree::leaves::Leaves;
use crate::tree::levels::Levels;

const SIZE: u64 = 66_000;

type Files = Vec<(String, Vec<u8>)>;

/// Every tile of a tree of 66,000 records, by path, and its root.
static TILES: LazyLock<(Files, Digest)> = LazyLock::new(|| {
    let records: Vec<[u8; 8]> = (0..SIZE).map(u64::to_be_bytes).collect();
    let mut files = Vec::new();
    let mut hashes: Vec<Digest> = records.iter().map(|record| Digest::leaf(record)).collect();
    let mut frontier = cairn_ledger::tree::Frontier::new();
    hashes.iter().for_each(|leaf| frontier.push(*leaf));
    for tile in TileId::all(TreeSize(SIZE)).filter(|tile| tile.kind() == TileKind::Entries) {
        let start = (tile.index() * 256) as usize;
        let mut bundle = Vec::new();
        records[start..start + usize::from(tile.width())].iter().for_each(|record| encode_entry(&mut bundle, record));
        files.push((tile.to_string(), bundle));
    }
    for level in 0..3 {
        for tile in TileId::all(TreeSize(SIZE)).filter(|tile| tile.kind() == TileKind::Hashes(level)) {
            let start = (tile.index() * 256) as usize;
            files.push((tile.to_string(), encode_hashes(&hashes[start..start + usize::from(tile.width())])));
        }
        hashes = hashes.chunks_exact(256).map(subtree).collect();
    }
    (files, frontier.root())
});

fn write(folder: &Path) {
    for (file, bytes) in &TILES.0 {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Faults, and the root that came out.
fn check(folder: &Path) -> (Vec<Fault>, Option<Digest>) {
    let source = Source::new(folder);
    let inventory = Inventory::read(&source).unwrap();
    let (size, root) = (TreeSize(SIZE), TILES.1);
    let arbiter = Arbiter::new(&source, size, root);
    let moving = || false;
    let leaves =
        Leaves { source: &source, inventory: &inventory, size, arbiter: &arbiter, moving: &moving, keys: None };
    let (mut history, mut faults, mut edge) = (History::new(), Vec::new(), Vec::new());
    leaves.walk(&inventory.numbers(u64::MAX), 2, |rebuilt| {
        faults.extend(rebuilt.faults);
        edge = if rebuilt.hash.is_none() { rebuilt.leaves.clone() } else { Vec::new() };
        history.push(rebuilt.number, rebuilt.leaves, rebuilt.hash);
    });
    let levels = Levels { source: &source, inventory: &inventory, size, arbiter: &arbiter, moving: &moving };
    let computed = levels.check(history.hashes(), &edge, |fault| faults.push(fault));
    (faults, computed)
}

#[test]
fn a_sound_tree_has_its_root_and_every_change_is_found_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    assert_eq!(check(folder.path()), (vec![], Some(TILES.1)));

    let file = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let flipped = |name: &str, at: usize| {
        let mut bytes = file(name);
        bytes[at] ^= 1;
        bytes
    };
    let bundle = |record: usize| record % 256 * 10 + 2;
    for (name, at, kind, index) in [
        ("tile/entries/100", bundle(25_617), FaultKind::RecordWrong, 25_617),
        ("tile/entries/257.p/208", bundle(65_999), FaultKind::RecordWrong, 65_999),
        ("tile/0/100", 17 * 32, FaultKind::TileWrong, 25_617),
        ("tile/0/257.p/208", 0, FaultKind::TileWrong, 65_792),
        ("tile/1/000", 100 * 32 + 31, FaultKind::TileWrong, 25_600),
        ("tile/1/001.p/1", 5, FaultKind::TileWrong, 65_536),
        ("tile/2/000.p/1", 31, FaultKind::TileWrong, 0),
    ] {
        let good = file(name);
        put(name, &flipped(name, at));
        let (faults, root) = check(folder.path());
        assert_eq!(root, Some(TILES.1), "{name}: what is right is told from what is wrong");
        let [fault] = &faults[..] else { panic!("{name}: {faults:#?}") };
        assert_eq!((fault.kind, fault.file.as_deref(), fault.index), (kind, Some(name), Some(RecordIndex(index))));
        put(name, &good);
    }
}

#[test]
fn what_was_changed_consistently_is_found_by_the_tile_above() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let mut bundle = fs::read(folder.path().join("tile/entries/100")).unwrap();
    bundle[2] ^= 1;
    let mut tile = fs::read(folder.path().join("tile/0/100")).unwrap();
    tile[..32].copy_from_slice(Digest::leaf(&bundle[2..10]).as_bytes());
    fs::write(folder.path().join("tile/entries/100"), bundle).unwrap();
    fs::write(folder.path().join("tile/0/100"), &tile).unwrap();
    let (faults, root) = check(folder.path());
    assert_eq!(root, Some(TILES.1));
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!((faults[0].kind, faults[0].file.as_deref()), (FaultKind::RecordWrong, Some("tile/entries/100")));

    // And the same one level up.
    let (hashes, _) = tile.as_chunks::<32>();
    let hash = subtree(&hashes.iter().map(|hash| Digest::from(*hash)).collect::<Vec<_>>());
    let mut above = fs::read(folder.path().join("tile/1/000")).unwrap();
    above[100 * 32..101 * 32].copy_from_slice(hash.as_bytes());
    fs::write(folder.path().join("tile/1/000"), above).unwrap();
    let (faults, root) = check(folder.path());
    assert_eq!(root, Some(TILES.1));
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!((faults[0].kind, faults[0].file.as_deref()), (FaultKind::TileWrong, Some("tile/1/000")));
}

#[test]
fn missing_bundles_are_bridged_by_the_tiles_above() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    fs::remove_file(folder.path().join("tile/entries/100")).unwrap();
    let (faults, root) = check(folder.path());
    assert_eq!((faults.len(), faults[0].kind, root), (1, FaultKind::BundleMissing, Some(TILES.1)));
    fs::remove_file(folder.path().join("tile/0/257.p/208")).unwrap();
    let (faults, root) = check(folder.path());
    assert_eq!(
        faults.iter().map(|fault| fault.kind).collect::<Vec<_>>(),
        [FaultKind::BundleMissing, FaultKind::TileMissing]
    );
    assert_eq!(root, Some(TILES.1));
}
