//! The simulator with everything that runs: the writer's threads, volumes that are ended, begun and dropped, over a disk that fails.
//!
//! What is done follows from a seed as in [`super::simulator`]; at which of the disk's calls two threads meet does not. What must
//! hold afterwards is the same in every order.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cairn_schemas::record::Record;
use cairn_verify::FaultKind;

use super::faults::OPTIONS;
use super::simulator::{Fleet, audit, first_of, number_from, scratch};
use super::*;
use crate::disk::faulty::{FaultyDisk, Random, SyncPoint, Syncs};
use crate::fixture::check_volume;

/// Ledgers of one run of the test.
const LEDGERS: u64 = 400;
/// Ledgers that are tried to show what a sync is needed for.
const LEDGERS_WITHOUT_A_SYNC: u64 = 3_000;

/// What was promised to the outside.
#[derive(Default)]
struct Promises {
    created: bool,
    acknowledged: [usize; 3],
    places: BTreeMap<(usize, usize), (u64, u64)>,
    published: BTreeMap<(u64, u64), Digest>,
    kept: BTreeSet<(u64, u64)>,
    /// Volumes before this one may be gone, and before the other one are.
    dropping: u64,
    dropped: u64,
}

struct Life {
    random: Random,
    disk: FaultyDisk,
    promises: Promises,
}

impl Life {
    fn new(seed: u64, left_out: Option<SyncPoint>) -> Life {
        let disk = FaultyDisk::new(seed);
        disk.leave_out(left_out);
        Life { random: Random::new(seed), disk, promises: Promises::default() }
    }

    fn open(&mut self) -> Result<Ledger, String> {
        let disk = || Arc::new(self.disk.clone());
        let opened = match open::open(disk(), signer(), clock(), OPTIONS) {
            Err(OpenError::NoLedger) if !self.promises.created => {
                open::create(disk(), &opened(), signer(), clock(), OPTIONS)
            }
            opened => opened,
        };
        let ledger = opened.and_then(Ledger::run).map_err(|error| format!("{error:?}"))?;
        self.promises.created = true;
        Ok(ledger)
    }

    /// Lives until something fails or it is enough.
    fn live(&mut self) -> Result<(), String> {
        let ledger = self.open()?;
        for _ in 0..=self.random.below(20) {
            match self.random.below(14) {
                0..=6 => self.append(&ledger)?,
                7 | 8 => {
                    let end = ledger.end();
                    if ledger.wait_published_in(end.volume, TreeSize(end.index.0), SOON) {
                        self.see(&ledger);
                    }
                }
                9 => {
                    let (volume, checkpoint) = (ledger.volume(), ledger.checkpoint());
                    let last = RecordIndex(checkpoint.size.0 - 1);
                    if ledger.inclusion(last, TreeSize(0)).is_ok() && ledger.checkpoint().size == checkpoint.size {
                        self.promises.kept.insert((volume, checkpoint.size.0));
                    }
                }
                10 | 11 => drop(ledger.rotate(Rotation::default()).map_err(|error| error.to_string())?),
                _ => {
                    let before = 1 + self.random.below(ledger.volume());
                    self.promises.dropping = self.promises.dropping.max(before);
                    ledger.drop_before(before).map_err(|error| error.to_string())?;
                    self.promises.dropped = self.promises.dropped.max(before);
                }
            }
            if let Some(reason) = ledger.stopped() {
                return Err(reason);
            }
        }
        if self.random.flip() {
            ledger.close();
        }
        Ok(())
    }

    fn see(&mut self, ledger: &Ledger) {
        let (volume, checkpoint) = (ledger.volume(), ledger.checkpoint());
        let before = self.promises.published.insert((volume, checkpoint.size.0), checkpoint.root);
        assert!(before.is_none_or(|root| root == checkpoint.root), "checkpoint {} has two roots", checkpoint.size);
    }

    /// Sends one to three records of somebody, the first of them perhaps for the second time.
    fn append(&mut self, ledger: &Ledger) -> Result<(), String> {
        // Nobody is let in before the control plane has said that they joined.
        let who = if self.promises.acknowledged[0] < 3 { 0 } else { self.random.below(3) as usize };
        let spool = &Fleet::get().spools[who];
        let again = self.random.below(3).saturating_sub(1) as usize;
        let from = self.promises.acknowledged[who].saturating_sub(again);
        let records = &spool.records[from..][..1 + self.random.below(3) as usize];
        let appended = match ledger.append(&spool.stream, records.to_vec()) {
            Ok(appended) => appended,
            // What stands in a volume that was dropped cannot be found again. A producer goes on behind it.
            Err(AppendError::Refused { .. }) if self.promises.dropping > 0 => {
                let position = ledger.position(&spool.stream).map_or(0, |position| position.sequence.0 as usize + 1);
                self.promises.acknowledged[who] = self.promises.acknowledged[who].max(position);
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        };
        let last = from + records.len() - 1;
        let place = (appended.volume, appended.index.0);
        let before = self.promises.places.insert((who, last), place);
        assert!(before.is_none_or(|before| before == place), "producer {who}, record {last} moved");
        self.promises.acknowledged[who] = self.promises.acknowledged[who].max(last + 1);
        Ok(())
    }

    fn run(mut self) {
        for _ in 0..=self.random.below(3) {
            let (after, done) = (self.random.below(150), self.random.flip());
            match self.random.below(6) {
                0 | 1 => self.disk.fail_after(after, done),
                2 => self.disk.fail_once_after(after, done, std::io::ErrorKind::Other),
                3 | 4 => {
                    let kind = Syncs::ALL[self.random.below(Syncs::ALL.len() as u64) as usize];
                    self.disk.fail_after_syncs(kind, self.random.below(6), done);
                }
                _ => self.disk.heal(),
            }
            let ended = self.live();
            assert!(ended.is_ok() || self.disk.fired(), "ended without a fault: {ended:?}");
            if self.random.below(3) == 0 {
                self.disk.end_process()
            } else {
                self.disk.crash()
            }
            self.look();
        }
        self.disk.leave_out(None);
        let ledger = self.open().unwrap_or_else(|error| panic!("cannot be opened: {error}"));
        while self.promises.acknowledged[0] < 3 {
            self.append(&ledger).unwrap();
        }
        (0..6).for_each(|_| self.append(&ledger).unwrap());
        let volumes: Vec<u64> = ledger.volumes().into_iter().map(|(volume, _)| volume).collect();
        ledger.close();
        assert!(ledger.stopped().is_none());
        self.verify(&volumes);
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        self.disk.copy_to(folder.path());
        audit(folder.path());
    }

    /// Whoever looks before the ledger is opened again finds nothing wrong, whatever was being removed.
    fn look(&self) {
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        self.disk.copy_to(folder.path());
        if !self.promises.created {
            return;
        }
        let report = cairn_verify::verify(folder.path(), &cairn_verify::Options::default());
        // But for a volume that was closed, or a ledger that was made, whose next checkpoint never came: opening it makes that.
        let begun = |fault: &cairn_verify::Fault| {
            let newest = crate::view::volumes(folder.path()).map_or(1, |volumes| volumes.last().copied().unwrap_or(1));
            match fault.kind {
                FaultKind::CheckpointMissing => fault.volume >= newest,
                FaultKind::VolumeMissing => fault.volume > newest,
                _ => false,
            }
        };
        assert!(report.faults.iter().all(begun), "{:#?}", report.faults);
    }

    fn verify(&self, volumes: &[u64]) {
        let Promises { dropping, dropped, .. } = self.promises;
        let newest = *volumes.last().unwrap();
        assert!(volumes.iter().all(|volume| *volume >= dropped), "{volumes:?}: those before {dropped} were dropped");
        assert!(
            (dropping.max(1)..=newest).all(|volume| volumes.contains(&volume)),
            "{volumes:?}, {dropping} on are kept"
        );
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        self.disk.copy_to(folder.path());
        let files = self.disk.published();
        for volume in 1..dropped {
            let mut own =
                ["checkpoint", "checkpoints/", "tile/"].map(|path| crate::volume::path(volume, path)).into_iter();
            let left = own.find_map(|own| files.keys().find(|path| path.starts_with(&own)));
            assert!(left.is_none(), "{left:?} is of a volume that was dropped");
        }
        let mut next: [Option<usize>; 3] = if volumes[0] == 1 { [Some(0); 3] } else { [None; 3] };
        for volume in volumes {
            let records = check_volume(folder.path(), *volume, &signer());
            let mut frontier = crate::tree::Frontier::new();
            let mut roots = vec![frontier.root()];
            for (index, bytes) in (0..).zip(&records) {
                frontier.push(Digest::leaf(bytes));
                roots.push(frontier.root());
                let record = Record::parse(bytes).unwrap();
                let Some(who) = Fleet::get().spools.iter().position(|spool| spool.stream == record.stream) else {
                    assert!(record.stream.is_ledger());
                    continue;
                };
                let number = record.sequence.0 as usize;
                assert!(next[who].is_none_or(|next| next == number), "volume {volume}, record {index}: {number}");
                assert_eq!(Fleet::get().spools[who].records[number], *bytes);
                if let Some(place) = self.promises.places.get(&(who, number)) {
                    assert_eq!(*place, (*volume, index), "producer {who}, record {number} was acknowledged elsewhere");
                }
                next[who] = Some(number + 1);
            }
            for ((_, size), root) in self.promises.published.range((*volume, 0)..(*volume + 1, 0)) {
                assert_eq!(roots.get(*size as usize), Some(root), "volume {volume}: {size} was published");
            }
            for (_, size) in self.promises.kept.range((*volume, 0)..(*volume + 1, 0)) {
                let path = crate::volume::path(*volume, &numbered_path(TreeSize(*size)));
                assert!(files.contains_key(&path), "{path} was kept");
            }
        }
        for (who, next) in next.iter().enumerate() {
            let acknowledged = self.promises.acknowledged[who];
            assert!(
                next.is_none_or(|next| next >= acknowledged),
                "producer {who}: {acknowledged} acknowledged, {next:?}"
            );
        }
    }
}

fn failure(seed: u64, left_out: Option<SyncPoint>) -> Result<BTreeSet<SyncPoint>, String> {
    let life = Life::new(seed, left_out);
    let disk = life.disk.clone();
    catch_unwind(AssertUnwindSafe(|| life.run())).map(|()| disk.sync_points()).map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default()
    })
}

#[test]
fn whole_ledgers_keep_their_promises() {
    if let Some(seed) = number_from("CAIRN_SIMULATOR_SEED") {
        return Life::new(seed, None).run();
    }
    let points = Mutex::new(BTreeSet::new());
    let ledgers = number_from("CAIRN_SIMULATOR_SCHEDULES").unwrap_or(LEDGERS);
    let failed = first_of(ledgers, |seed| match failure(seed, None) {
        Ok(met) => {
            lock(&points).extend(met);
            None
        }
        Err(reason) => Some(reason),
    });
    assert!(failed.is_none(), "CAIRN_SIMULATOR_SEED, reason: {failed:?}");

    // The syncs of volumes' beginnings and ends, which the other simulator does not come by.
    let points = points.into_inner().unwrap();
    let mut unneeded = Vec::new();
    let own = |point: &&SyncPoint| point.kind == Syncs::VolumeNames || point.file.ends_with("store.rs");
    for point in points.iter().filter(own) {
        let SyncPoint { file, line, kind } = point;
        match first_of(LEDGERS_WITHOUT_A_SYNC, |seed| failure(seed, Some(*point)).err()) {
            Some((seed, reason)) => println!("{file}:{line} ({kind:?}): seed {seed}: {reason:.150}"),
            None => unneeded.push(*point),
        }
    }
    assert!(unneeded.is_empty(), "no ledger needs these syncs: {unneeded:#?}");
    assert!(points.iter().any(|point| point.kind == Syncs::VolumeNames), "volumes were begun");
}
