//! Schedules for what stands beside the ledger's log: a store lives a few times in a row over a disk that fails and forgets, and must hold
//! every promise that it made. Then, for each place in its code that syncs, that one is left out, and some schedule must break a promise:
//! otherwise the sync is not needed, or nothing shows that it is.
//!
//! A failure names the seed; `CAIRN_SIMULATOR_SEED=n` runs that one alone, `CAIRN_SIMULATOR_SCHEDULES=n` as many as one likes.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::faulty::{FaultyDisk, Random, SyncPoint};

/// Schedules of one run of a test.
pub(crate) const SCHEDULES: u64 = 2_000;
/// Schedules that are tried to show what a sync is needed for.
const SCHEDULES_WITHOUT_A_SYNC: u64 = 6_000;

/// A disk, and what decides about it.
pub(crate) struct Schedule {
    pub(crate) disk: FaultyDisk,
    pub(crate) random: Random,
}

impl Schedule {
    fn new(seed: u64, left_out: Option<SyncPoint>) -> Schedule {
        let disk = FaultyDisk::new(seed);
        disk.leave_out(left_out);
        Schedule { disk, random: Random::new(seed) }
    }

    /// Sets what will go wrong among the next `calls` changing calls.
    pub(crate) fn arm(&mut self, calls: u64) {
        let (after, done) = (self.random.below(calls), self.random.flip());
        match self.random.below(8) {
            0..=2 => self.disk.fail_after(after, done),
            3 => self.disk.fail_once_after(after, done, ErrorKind::Other),
            4 => self.disk.fail_once_after(after, done, ErrorKind::StorageFull),
            5 => self.disk.fill_to(self.random.below(calls * 100) as usize, self.random.flip()),
            // Only the power will go.
            _ => self.disk.heal(),
        }
    }

    /// A life is over: the power goes, or only the process. `failed`: the store reported an error.
    pub(crate) fn end_life(&mut self, failed: Option<String>) {
        if let Some(reason) = failed {
            assert!(self.disk.fired(), "failed without a fault: {reason}");
        }
        if self.random.below(3) == 0 { self.disk.end_process() } else { self.disk.crash() }
    }

    /// From here on the disk is sound.
    pub(crate) fn settle(&mut self) {
        self.disk.crash();
        self.disk.leave_out(None);
    }
}

fn failure(
    seed: u64,
    left_out: Option<SyncPoint>,
    run: &(dyn Fn(&mut Schedule) + Sync),
) -> Result<(BTreeSet<SyncPoint>, bool), String> {
    let mut schedule = Schedule::new(seed, left_out);
    let disk = schedule.disk.clone();
    catch_unwind(AssertUnwindSafe(|| run(&mut schedule))).map(|()| (disk.sync_points(), disk.fired())).map_err(
        |panic| {
            let said = panic.downcast_ref::<String>().cloned();
            said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default()
        },
    )
}

/// Runs the schedules, and those without each of the syncs; how many syncs there are.
pub(crate) fn hold(schedules: u64, run: &(dyn Fn(&mut Schedule) + Sync)) -> usize {
    if let Some(seed) = number_from("CAIRN_SIMULATOR_SEED") {
        run(&mut Schedule::new(seed, None));
        return 0;
    }
    let points: Mutex<BTreeSet<SyncPoint>> = Mutex::default();
    let faults = AtomicU64::new(0);
    let schedules = number_from("CAIRN_SIMULATOR_SCHEDULES").unwrap_or(schedules);
    let failed = first_of(schedules, |seed| match failure(seed, None, run) {
        Ok((met, fired)) => {
            points.lock().unwrap_or_else(PoisonError::into_inner).extend(met);
            faults.fetch_add(u64::from(fired), Ordering::Relaxed);
            None
        }
        Err(reason) => Some(reason),
    });
    assert!(failed.is_none(), "CAIRN_SIMULATOR_SEED, reason: {failed:?}");
    let faults = faults.into_inner();
    assert!(faults > schedules / 8, "{faults} of {schedules} schedules ended with a fault");
    let points = points.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut unneeded = Vec::new();
    for point in &points {
        let SyncPoint { file, line, kind } = point;
        match first_of(SCHEDULES_WITHOUT_A_SYNC, |seed| failure(seed, Some(*point), run).err()) {
            Some((seed, reason)) => println!("{file}:{line} ({kind:?}): seed {seed}: {reason:.150}"),
            None => unneeded.push(*point),
        }
    }
    assert!(unneeded.is_empty(), "no schedule needs these syncs: {unneeded:#?}");
    points.len()
}

/// Runs `each` for seeds from 0 on, on all cores, until one gives something.
pub(crate) fn first_of<T: Send>(seeds: u64, each: impl Fn(u64) -> Option<T> + Sync) -> Option<(u64, T)> {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<(u64, T)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while found.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let Some(one) = each(seed) {
                        found.lock().unwrap().get_or_insert((seed, one));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

pub(crate) fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

/// A folder in memory where there is one: half of the time goes into writing files.
pub(crate) fn scratch() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

/// The auditor's check of the whole ledger, which shares no state with the writer.
pub(crate) fn audit(folder: &Path) {
    let options = cairn_verify::Options { threads: 1, ..cairn_verify::Options::default() };
    let report = cairn_verify::verify(folder, &options);
    assert_eq!(report.verdict, cairn_verify::Verdict::Ok, "{:#?}", report.faults);
}
