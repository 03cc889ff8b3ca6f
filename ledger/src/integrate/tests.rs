use super::*;
use crate::disk::Disk as _;
use crate::disk::faulty::FaultyDisk;
use crate::fixture::{at, signer};
use crate::store::DirStore;

fn record(number: u64) -> Vec<u8> {
    format!("record {number}").into_bytes()
}

fn written(numbers: Range<u64>) -> Vec<Written> {
    numbers.map(record).map(|record| (record.clone().into(), Digest::leaf(&record))).collect()
}

fn store(disk: &FaultyDisk) -> Arc<dyn Store> {
    Arc::new(DirStore::new(Arc::new(disk.clone()), crate::wal::SEGMENT_LEN))
}

fn root(size: u64) -> Digest {
    let mut tree = Frontier::new();
    (0..size).for_each(|number| tree.push(Digest::leaf(&record(number))));
    tree.root()
}

/// The records that are handed out, and what was found.
fn recover(disk: &FaultyDisk, checkpoint: &[u8]) -> Result<(Vec<Vec<u8>>, Recovered<EdgeError>), EdgeError> {
    let mut records = Vec::new();
    let recovered = Integrator::recover(store(disk), checkpoint, |record| {
        assert_eq!(record.leaf, Digest::leaf(&record.bytes));
        records.push(record.bytes.to_vec());
        Ok(())
    })?;
    Ok((records, recovered))
}

#[test]
fn records_come_back_in_order_and_the_tree_goes_on() {
    let (disk, keys) = (FaultyDisk::new(0), [signer().verifier().clone()]);
    let mut integrator = Integrator::empty(store(&disk), signer());
    let mut before = 0;
    // Up to more parts than are read ahead, on however many cores.
    for size in [1, 255, 256, 257, 4_095, 4_096, 4_097, 8_192, 65_536, 65_537, 70_001] {
        let published = integrator.publish(&written(before..size), false, at(size)).unwrap();
        assert_eq!((published.size, published.root), (TreeSize(size), root(size)));
        let (records, recovered) = recover(&disk, &published.bytes).unwrap();
        assert!((0..size).map(record).eq(records), "{size}");
        let (recovered, again) = recovered.check("test/1", &keys, signer()).unwrap();
        assert_eq!(again, published);
        (integrator, before) = (recovered, size);
    }
}

#[test]
fn what_is_damaged_or_missing_is_named() {
    const SIZE: u64 = 20_000;
    let disk = FaultyDisk::new(0);
    let mut integrator = Integrator::empty(store(&disk), signer());
    let published = integrator.publish(&written(0..SIZE), false, at(0)).unwrap();
    for number in [0, 15, 16, 40, 78] {
        let tile = TileId::in_tree(TileKind::Entries, number, TreeSize(SIZE)).unwrap();
        let disk = disk.copy(1);
        disk.tamper(&tile.to_string(), |bytes| bytes[4] ^= 1);
        let refused = recover(&disk, &published.bytes).unwrap().1.whole().err();
        let first = Some(RecordIndex(number * TILE_WIDTH));
        assert!(matches!(&refused, Some(EdgeError::Root { first: found, .. }) if *found == first), "{refused:?}");
        disk.tamper(&tile.to_string(), |bytes| bytes.truncate(7));
        let refused = recover(&disk, &published.bytes).err();
        assert!(matches!(&refused, Some(EdgeError::Tile(_))), "{refused:?}");
        disk.remove(&tile.to_string()).unwrap();
        let refused = recover(&disk, &published.bytes).err();
        assert!(matches!(&refused, Some(EdgeError::Read { file, .. }) if *file == tile.to_string()), "{refused:?}");
    }
}

#[test]
fn nothing_is_handed_out_behind_what_is_refused() {
    let disk = FaultyDisk::new(0);
    let mut integrator = Integrator::empty(store(&disk), signer());
    let published = integrator.publish(&written(0..10_000), false, at(0)).unwrap();
    let mut handed_out = 0;
    let recovered = Integrator::recover(store(&disk), &published.bytes, |_| {
        handed_out += 1;
        let expected = "another".to_owned();
        let error = CheckpointError::Origin { expected, actual: "one".to_owned() };
        if handed_out == 5_000 { Err(EdgeError::from(error)) } else { Ok(()) }
    });
    assert!(matches!(recovered.unwrap().whole(), Err(EdgeError::Checkpoint(CheckpointError::Origin { .. }))));
    assert_eq!(handed_out, 5_000);
}
