//! The index in thousands of schedules over a disk that fails and forgets. Nothing of it is synced, and nothing that a crash leaves is
//! believed: it finds what an index finds that was made a moment ago.

use std::sync::OnceLock;

use super::tests::{ledger, queries};
use super::*;
use crate::disk::faulty::FaultyDisk;
use crate::disk::schedules::{Schedule, hold};

/// Each builds an index several times.
const SCHEDULES: u64 = 500;

/// What each query finds.
type Finds = Vec<Vec<RecordIndex>>;

/// A ledger at one size, and what an index of it finds.
struct Moment {
    dir: LedgerDir,
    size: TreeSize,
    finds: Finds,
}

fn open(disk: &FaultyDisk, dir: &LedgerDir, size: TreeSize) -> (Finds, Built) {
    let index = Opening::new(disk, Path::new("index"), dir, "test/1", size).run(&|_, _| {}).unwrap();
    (queries().iter().map(|query| index.candidates(query).collect()).collect(), index.built().clone())
}

fn copy_all(dir: &LedgerDir, from: &Path, to: &Path) {
    for file in dir.files().unwrap() {
        std::fs::create_dir_all(to.join(&file).parent().unwrap()).unwrap();
        std::fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
}

/// A ledger as it grows.
fn moments() -> &'static [Moment] {
    static MOMENTS: OnceLock<(tempfile::TempDir, Vec<Moment>)> = OnceLock::new();
    let (_, moments) = MOMENTS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let moment = |count: u64| {
            let (dir, size) = ledger(folder.path(), count);
            let copy = folder.path().join(size.to_string());
            copy_all(&dir, &folder.path().join("ledger"), &copy);
            let dir = LedgerDir::open(&copy).unwrap();
            let (finds, _) = open(&FaultyDisk::new(0), &dir, size);
            Moment { dir, size, finds }
        };
        let moments = [1, 90, 160, 3, 140].map(moment).into();
        (folder, moments)
    });
    moments
}

fn live(schedule: &mut Schedule) {
    for _ in 0..=schedule.random.below(3) {
        // Not always a newer one: the ledger may have been put back.
        let Moment { dir, size, finds } = &moments()[schedule.random.below(moments().len() as u64) as usize];
        let (found, built) = open(&schedule.disk, dir, *size);
        assert_eq!(found, *finds, "at {size}");
        assert!(built.unkept.is_none() || schedule.disk.fired(), "{built:?}");
    }
}

#[test]
fn an_index_that_a_crash_spoiled_is_built_again() {
    let syncs = hold(SCHEDULES, &|schedule| {
        for _ in 0..=schedule.random.below(4) {
            schedule.arm(12);
            live(schedule);
            schedule.end_life(None);
        }
        schedule.settle();
        live(schedule);
    });
    assert_eq!(syncs, 0, "it is derived: waiting for the disk would buy nothing");
}
