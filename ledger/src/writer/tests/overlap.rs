//! Groups that follow one another before the first is durable, as a bucket's do, on a log that needs no bucket.

use std::sync::mpsc;

use super::*;
use crate::durable::NewFile;
use crate::store::{DirStore, Durable, Groundwork, Log, Replaying};
use crate::streams::Written;
use crate::wal::SEGMENT_LEN;

/// A directory whose log says that a group is on its way when it is durable already. The group that holds record `lost` never arrives, as
/// far as anybody can tell.
struct Overlapping {
    store: DirStore,
    lost: u64,
}

struct Flying {
    log: Box<dyn Log>,
    lost: u64,
}

impl Log for Flying {
    fn groundwork(&self) -> Option<Groundwork> {
        self.log.groundwork()
    }

    fn in_flight_max(&self) -> usize {
        4
    }

    fn reserve(&mut self, bytes: u64, next: RecordIndex, covered: u64) -> Result<(), WalError> {
        self.log.reserve(bytes, next, covered)
    }

    fn append(&mut self, first: RecordIndex, records: &[Written]) -> Result<Option<Durable>, WalError> {
        let none = self.log.append(first, records)?;
        assert!(none.is_none());
        let is_lost = (first.0..first.0 + records.len() as u64).contains(&self.lost);
        let lost =
            || WalError::Io { action: "stage", path: "a group".into(), source: std::io::Error::other("no answer") };
        Ok(Some(Box::new(move || if is_lost { Err(lost()) } else { Ok(()) })))
    }
}

impl Store for Overlapping {
    fn lock(&self, create: bool) -> std::io::Result<LockGuard> {
        self.store.lock(create)
    }

    fn read(&self, path: &str) -> std::io::Result<Vec<u8>> {
        self.store.read(path)
    }

    fn list(&self, folder: &str) -> std::io::Result<Vec<String>> {
        self.store.list(folder)
    }

    fn write(&self, files: &[NewFile]) -> Result<(), StoreError> {
        self.store.write(files)
    }

    fn replace(&self, file: &NewFile) -> Result<(), StoreError> {
        self.store.replace(file)
    }

    fn remove_folder(&self, folder: &str) -> std::io::Result<()> {
        self.store.remove_folder(folder)
    }

    fn replay(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Replaying + '_>, WalError> {
        self.store.replay(origin, next)
    }

    fn clear_log(&self) -> Result<(), WalError> {
        self.store.clear_log()
    }

    fn start_log(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Log>, WalError> {
        Ok(Box::new(Flying { log: self.store.start_log(origin, next)?, lost: self.lost }))
    }

    fn volume(&self, volume: u64, make: bool) -> std::io::Result<Arc<dyn Store>> {
        self.store.volume(volume, make)
    }

    fn remove_volume(&self, volume: u64) -> std::io::Result<()> {
        self.store.remove_volume(volume)
    }
}

fn overlapping(dir: &Path, lost: u64) -> Ledger {
    let store = DirStore::new(Arc::new(DirDisk::new(dir.to_owned())), SEGMENT_LEN);
    let store = Arc::new(Overlapping { store, lost });
    Ledger::run(super::super::open::create_in(store, &opened(), signer(), clock()).unwrap()).unwrap()
}

/// The thread that gathers a group and the one that tells callers of an earlier one need the same two locks, all the time: taken in
/// different orders, they would stand still sooner or later.
#[test]
fn groups_that_overlap_never_stand_in_each_others_way() {
    const APPENDS: u64 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let ledger = overlapping(folder.path(), u64::MAX);
    let mut sensors: Vec<Producer> = (0..4).map(|n| Producer::named(&format!("sensor-{n}"), 11 + n, n)).collect();
    join(&ledger, &mut sensors);
    let before = ledger.size();
    let (done, finished) = mpsc::channel();
    for mut sensor in sensors {
        let (ledger, done) = (ledger.clone(), done.clone());
        std::thread::spawn(move || {
            for number in 0..APPENDS {
                ledger.append(&sensor.stream(), vec![sensor.record(number)]).unwrap();
            }
            done.send(()).unwrap();
        });
    }
    drop(done);
    for _ in 0..4 {
        finished.recv_timeout(Duration::from_secs(120)).expect("the writer stands still");
    }
    assert_eq!(ledger.size(), TreeSize(before.0 + 4 * APPENDS));
}

/// A record counts only with all before it: behind a group of which nobody knows whether it arrived, none is acknowledged.
#[test]
fn nothing_is_acknowledged_behind_a_group_that_did_not_arrive() {
    const LOST: u64 = 500;
    let folder = tempfile::tempdir().unwrap();
    let ledger = overlapping(folder.path(), LOST);
    let mut sensors: Vec<Producer> = (0..4).map(|n| Producer::named(&format!("sensor-{n}"), 11 + n, n)).collect();
    join(&ledger, &mut sensors);
    let acknowledged: Vec<u64> = std::thread::scope(|scope| {
        let appends = sensors.iter_mut().map(|sensor| {
            let ledger = &ledger;
            scope.spawn(move || {
                let mut last = 0;
                for number in 0..LOST {
                    match ledger.append(&sensor.stream(), vec![sensor.record(number)]) {
                        Ok(appended) => last = appended.index.0,
                        Err(AppendError::Stopped { reason }) => {
                            assert!(reason.contains("no answer"), "{reason}");
                            return last;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                panic!("it was never told that record {LOST} is lost");
            })
        });
        appends.collect::<Vec<_>>().into_iter().map(|append| append.join().unwrap()).collect()
    });
    assert!(acknowledged.iter().all(|index| *index < LOST), "{acknowledged:?}");
    assert!(ledger.stopped().is_some() && ledger.checkpoint().size.0 <= LOST);
}
