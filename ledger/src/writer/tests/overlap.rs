//! Groups that follow one another before the first is durable, as a bucket's do, on a log that needs no bucket.

use std::sync::mpsc;

use super::*;
use crate::durable::NewFile;
use crate::store::{DirStore, Durable, Groundwork, Log, Replaying};
use crate::streams::Written;
use crate::wal::SEGMENT_LEN;

/// A directory whose log says that a group is on its way when it is durable already.
struct Overlapping(DirStore);

struct Flying(Box<dyn Log>);

impl Log for Flying {
    fn groundwork(&self) -> Option<Groundwork> {
        self.0.groundwork()
    }

    fn in_flight_max(&self) -> usize {
        4
    }

    fn reserve(&mut self, bytes: u64, next: RecordIndex, covered: u64) -> Result<(), WalError> {
        self.0.reserve(bytes, next, covered)
    }

    fn append(&mut self, first: RecordIndex, records: &[Written]) -> Result<Option<Durable>, WalError> {
        let none = self.0.append(first, records)?;
        assert!(none.is_none());
        Ok(Some(Box::new(|| Ok(()))))
    }
}

impl Store for Overlapping {
    fn lock(&self, create: bool) -> std::io::Result<LockGuard> {
        self.0.lock(create)
    }

    fn read(&self, path: &str) -> std::io::Result<Vec<u8>> {
        self.0.read(path)
    }

    fn list(&self, folder: &str) -> std::io::Result<Vec<String>> {
        self.0.list(folder)
    }

    fn write(&self, files: &[NewFile]) -> Result<(), StoreError> {
        self.0.write(files)
    }

    fn replace(&self, file: &NewFile) -> Result<(), StoreError> {
        self.0.replace(file)
    }

    fn remove_folder(&self, folder: &str) -> std::io::Result<()> {
        self.0.remove_folder(folder)
    }

    fn replay(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Replaying + '_>, WalError> {
        self.0.replay(origin, next)
    }

    fn clear_log(&self) -> Result<(), WalError> {
        self.0.clear_log()
    }

    fn start_log(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Log>, WalError> {
        Ok(Box::new(Flying(self.0.start_log(origin, next)?)))
    }

    fn volume(&self, volume: u64, make: bool) -> std::io::Result<Arc<dyn Store>> {
        self.0.volume(volume, make)
    }

    fn remove_volume(&self, volume: u64) -> std::io::Result<()> {
        self.0.remove_volume(volume)
    }
}

/// The thread that gathers a group and the one that tells callers of an earlier one need the same two locks, all the time: taken in
/// different orders, they would stand still sooner or later.
#[test]
fn groups_that_overlap_never_stand_in_each_others_way() {
    const APPENDS: u64 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let store = Overlapping(DirStore::new(Arc::new(DirDisk::new(folder.path().to_owned())), SEGMENT_LEN));
    let ledger = Ledger::run(super::super::open::create_in(Arc::new(store), &opened(), signer(), clock()).unwrap());
    let ledger = ledger.unwrap();
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
