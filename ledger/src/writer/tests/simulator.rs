//! The simulator: thousands of lives of a ledger, each drawn from a seed, over a disk that is worse than any.
//!
//! A schedule is a few lives of the writer in a row. In each, the shipped code opens the ledger, commits groups of several producers' records,
//! new ones and ones that were sent before, publishes, keeps checkpoints that a proof leads to, and closes; somewhere in between the disk
//! dies, fails one call, does a call and denies it, or is full. Then the power goes, or only the process. After each schedule the ledger is opened on a sound disk, takes everything that is left, and must hold every
//! promise that it ever made: records that were acknowledged are at their index, nothing is there twice, and every checkpoint that was
//! published is of a prefix, by the roots of another implementation.
//!
//! A failure names the seed; `CAIRN_SIMULATOR_SEED=n` runs that one alone, `CAIRN_SIMULATOR_SCHEDULES=n` as many as one likes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use cairn_schemas::record::Record;
use sha2::{Digest as _, Sha256};

use super::faults::Run;
use super::*;
use crate::disk::faulty::{FaultyDisk, Random, SyncPoint, Syncs};
use crate::disk::is_full;
pub(super) use crate::disk::schedules::{audit, first_of, number_from, scratch};
use crate::integrate::PublishError;
use crate::writer::commit::CommitError;

/// Schedules of one run of the test; two cores take about half a minute in a debug build.
const SCHEDULES: u64 = 2_000;
/// Schedules that are tried to show what a sync is needed for.
const SCHEDULES_WITHOUT_A_SYNC: u64 = 4_000;
/// Most room of one group: a segment takes three.
const GROUP_ROOM_MAX: u64 = 12 << 10;

/// What a producer has in its spool, which it never trims here.
pub(super) struct Spool {
    pub(super) stream: StreamId,
    pub(super) records: Vec<Vec<u8>>,
}

/// The control plane's stream and two sensors', sealed once and sent in every schedule.
pub(super) struct Fleet {
    pub(super) spools: [Spool; 3],
}

impl Fleet {
    pub(super) fn get() -> &'static Fleet {
        static FLEET: OnceLock<Fleet> = OnceLock::new();
        FLEET.get_or_init(|| {
            let mut sensors = [Producer::named("sensor-1", 11, 1), Producer::named("sensor-2", 12, 2)];
            let mut control = Producer::control();
            let mut records = vec![control.opening(None)];
            records.extend(
                sensors.iter().map(|sensor| sensor.joined()).map(|joined| control.seal(joined)).collect::<Vec<_>>(),
            );
            records.extend((0..400).map(|unchanged| {
                let observed = cairn_schemas::data::FleetObserved { streams: vec![], unchanged };
                control.seal(cairn_schemas::record::Draft::new(&observed))
            }));
            let control = Spool { stream: control.stream(), records };
            let [first, second] = sensors.each_mut().map(|sensor| {
                let mut records = vec![sensor.opening(None)];
                for number in 1..120_u64 {
                    // Most records are short, a few longer than two sectors.
                    let mut draft = crate::fixture::capabilities(number);
                    let len = if number % 7 == 0 { number * 37 % 2_500 } else { number * 37 % 100 };
                    draft.data["can"] = serde_json::json!(["x".repeat(len as usize)]);
                    records.push(sensor.seal(draft));
                    if number % 10 == 0 {
                        records.push(sensor.head());
                    }
                }
                Spool { stream: sensor.stream(), records }
            });
            Fleet { spools: [control, first, second] }
        })
    }
}

/// Where a schedule begins.
struct Beginning {
    disk: FaultyDisk,
    promises: Promises,
}

impl Beginning {
    /// Ledgers of these many records, and one that is not made yet.
    fn all() -> &'static [Beginning] {
        static ALL: OnceLock<Vec<Beginning>> = OnceLock::new();
        ALL.get_or_init(|| [0, 4, 6, 250].map(Beginning::of).into())
    }

    fn of(size: u64) -> Beginning {
        let disk = FaultyDisk::new(size);
        let mut promises = Promises::default();
        if size > 0 {
            let mut run = Run::create(&disk).unwrap();
            promises.created = true;
            for from in 0..size as usize - 1 {
                promises.send(&mut run, vec![(0, from, 1)]).unwrap();
            }
            promises.publish(&mut run).unwrap();
        }
        Beginning { disk, promises }
    }
}

/// What was promised to the outside: it must be true after any crash.
#[derive(Default, Clone)]
struct Promises {
    /// Somebody was told that the ledger exists.
    created: bool,
    /// For each producer, how many of its records were acknowledged.
    acknowledged: [usize; 3],
    /// And at which index each stands: an answer may come again, and must be the same.
    indexes: BTreeMap<(usize, usize), u64>,
    /// The roots of published checkpoints.
    published: BTreeMap<u64, Digest>,
    /// Numbered checkpoints that a proof was handed out for.
    kept: BTreeMap<u64, Vec<u8>>,
}

/// Why a life ended before its time.
#[derive(Debug)]
struct Ended(String);

impl Promises {
    /// Commits one group of submissions, each `(producer, first record, records)`.
    fn send(&mut self, run: &mut Run, group: Vec<(usize, usize, usize)>) -> Result<(), CommitError> {
        let fleet = Fleet::get();
        let records = |(who, from, count): &(usize, usize, usize)| {
            let spool = &fleet.spools[*who];
            (spool.stream.clone(), spool.records[*from..*from + *count].to_vec())
        };
        let answers = run.commit(group.iter().map(records).collect())?;
        for ((who, from, count), answer) in group.into_iter().zip(answers) {
            let appended = answer.unwrap_or_else(|error| panic!("producer {who}, from {from}: {error}"));
            assert!(appended.rejected.is_empty(), "{appended:?}");
            let last = from + count - 1;
            assert_eq!(appended.sequence, Sequence(last as u64));
            let before = self.indexes.insert((who, last), appended.index.0);
            assert!(before.is_none_or(|before| before == appended.index.0), "producer {who}, record {last} moved");
            self.acknowledged[who] = self.acknowledged[who].max(from + count);
        }
        Ok(())
    }

    fn publish(&mut self, run: &mut Run) -> Result<(), PublishError> {
        let published = run.publish()?;
        self.published(&published);
        Ok(())
    }

    fn published(&mut self, published: &PublishedCheckpoint) {
        let before = self.published.insert(published.size.0, published.root);
        assert!(before.is_none_or(|root| root == published.root), "checkpoint {} has two roots", published.size);
    }

    /// Checks the published files from their bytes, and that they hold what was promised.
    fn verify(&self, disk: &FaultyDisk) {
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        disk.copy_to(folder.path());
        audit(folder.path());
        let records = check(folder.path());
        let fleet = Fleet::get();
        let mut next = [0; 3];
        let mut leaves = Vec::new();
        for (index, bytes) in (0..).zip(&records) {
            leaves.push(Sha256::new_with_prefix([0]).chain_update(bytes).finalize().into());
            let stream = Record::parse(bytes).unwrap().stream;
            if index == 0 {
                continue;
            }
            let who = fleet.spools.iter().position(|spool| spool.stream == stream).unwrap();
            let number: usize = next[who];
            assert_eq!(fleet.spools[who].records.get(number), Some(bytes), "record {index} is not {who}'s next one");
            let promised = self.indexes.get(&(who, number)).copied().unwrap_or(index);
            assert_eq!(index, promised, "producer {who}, record {number} was acknowledged at another index");
            next[who] += 1;
        }
        for (who, (next, acknowledged)) in next.into_iter().zip(self.acknowledged).enumerate() {
            assert!(next >= acknowledged, "producer {who}: {acknowledged} were acknowledged, {next} are here");
        }
        let mut tree = rs_merkle::MerkleTree::<Rfc6962>::new();
        let mut size = 0;
        for (published, root) in &self.published {
            let mut more: Vec<[u8; 32]> =
                leaves.get(size..*published as usize).unwrap_or_else(|| panic!("{published} was published")).to_vec();
            tree.append(&mut more).commit();
            size = *published as usize;
            assert_eq!(tree.root().as_ref(), Some(root.as_bytes()), "{published} was published with another root");
        }
        let files = disk.published();
        for (size, bytes) in &self.kept {
            let kept = files.get(&numbered_path(TreeSize(*size)));
            assert!(kept == Some(bytes), "checkpoint {size} was kept, and is gone or another one");
        }
    }
}

/// RFC 6962 hashing for `rs_merkle`.
#[derive(Clone)]
struct Rfc6962;

impl rs_merkle::Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        right.map_or(*left, |right| {
            Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
        })
    }
}

/// What one schedule came to.
#[derive(Default)]
struct Tally {
    lives: u64,
    crashes: u64,
    faults: u64,
    flips: u64,
}

/// One schedule. Panics where a promise is broken.
struct Schedule {
    random: Random,
    disk: FaultyDisk,
    promises: Promises,
    tally: Tally,
}

impl Schedule {
    fn new(seed: u64, left_out: Option<SyncPoint>) -> Schedule {
        let mut random = Random::new(seed);
        let all = Beginning::all();
        // Most begin small, which makes them quick; some at the end of the first tile.
        let beginning = &all[[0, 1, 1, 1, 2, 2, 2, 3][random.below(8) as usize]];
        let disk = beginning.disk.copy(seed);
        disk.leave_out(left_out);
        Schedule { random, disk, promises: beginning.promises.clone(), tally: Tally::default() }
    }

    fn run(mut self) -> Tally {
        let mut only_the_process = false;
        for _ in 0..=self.random.below(4) {
            self.arm(only_the_process);
            let ended = self.live();
            self.tally.lives += 1;
            self.tally.faults += u64::from(self.disk.fired());
            if let Err(Ended(reason)) = &ended {
                assert!(self.disk.fired(), "the writer ended without a fault: {reason}");
            }
            only_the_process = self.random.below(3) == 0;
            if only_the_process {
                self.disk.end_process();
            } else {
                self.disk.crash();
                self.tally.crashes += 1;
            }
        }
        // A sound disk from here on: everything that is left is taken.
        self.disk.leave_out(None);
        let mut run = self.open().unwrap_or_else(|Ended(reason)| panic!("cannot be opened: {reason}"));
        for who in 0..3 {
            // One at a time: a tile that an earlier life left for this size with other records would be noticed.
            for from in self.promises.acknowledged[who]..self.promises.acknowledged[who] + 3 {
                self.promises.send(&mut run, vec![(who, from, 1)]).unwrap();
                self.promises.publish(&mut run).unwrap();
            }
        }
        self.promises.verify(&self.disk);
        self.tally.flips = self.disk.flipped();
        self.tally
    }

    /// Sets what will go wrong in the next life.
    fn arm(&mut self, only_the_process: bool) {
        let random = &mut self.random;
        if only_the_process && random.flip() {
            // What the life before left is in the kernel's memory, and perhaps nowhere else. Opening is the time to lose it.
            return self.disk.fail_after(random.below(30), random.flip());
        }
        let longest = if random.flip() { 40 } else { 160 };
        let after = random.below(longest);
        let done = random.flip();
        match random.below(12) {
            0..=3 => self.disk.fail_after(after, done),
            // Most of what can go wrong goes wrong around a sync.
            8..=11 => {
                let kind = Syncs::ALL[random.below(Syncs::ALL.len() as u64 - 1) as usize];
                // Names in the log and kept checkpoints are synced once or twice in a life.
                let often = !matches!(kind, Syncs::LogNames | Syncs::KeptNames);
                let after = random.below(if often { 8 } else { 2 });
                self.disk.fail_after_syncs(kind, after, done);
            }
            4 => self.disk.fail_once_after(after, done, std::io::ErrorKind::Other),
            5 => self.disk.fail_once_after(after, done, std::io::ErrorKind::StorageFull),
            6 => self.disk.fill_to(random.below(120_000) as usize, random.flip()),
            // Only the power will go.
            _ => self.disk.heal(),
        }
    }

    fn open(&mut self) -> Result<Run, Ended> {
        let opened = match Run::open(&self.disk) {
            Err(OpenError::NoLedger) if !self.promises.created => Run::create(&self.disk),
            opened => opened,
        };
        let run = opened.map_err(|error| Ended(format!("{error:?}")))?;
        self.promises.created = true;
        let published = lock(&run.opened.shared.state).published.clone();
        self.promises.published(&published);
        Ok(run)
    }

    /// Opens the ledger and works with it until something fails or it is enough.
    fn live(&mut self) -> Result<(), Ended> {
        let mut run = self.open()?;
        for _ in 0..=self.random.below(24) {
            match self.random.below(8) {
                0..=4 => {
                    let group = self.group();
                    match self.promises.send(&mut run, group) {
                        // Nothing was taken; a producer tries again, or another one does.
                        Ok(()) | Err(CommitError::Full(_)) => {}
                        Err(CommitError::Fatal(error)) => return Err(Ended(error.to_string())),
                    }
                }
                5 | 6 => match self.promises.publish(&mut run) {
                    Ok(()) => {}
                    Err(PublishError::Io(error)) if is_full(&error) => {}
                    Err(error) => return Err(Ended(error.to_string())),
                },
                _ => self.keep(&run),
            }
        }
        if self.random.below(3) == 0 {
            self.close(run)?;
        }
        Ok(())
    }

    /// One to three submissions, some of which begin with records that were sent before.
    fn group(&mut self) -> Vec<(usize, usize, usize)> {
        let mut group = Vec::new();
        let mut next = self.promises.acknowledged;
        let mut room = 0;
        for _ in 0..=self.random.below(3) {
            let mut who = self.random.below(3) as usize;
            // Nobody is let in before the control plane has said that they joined.
            if self.promises.acknowledged[0] < 3 {
                who = 0;
            }
            let from = next[who].saturating_sub(self.random.below(4).saturating_sub(1) as usize);
            let records = &Fleet::get().spools[who].records[from..];
            let mut count = 0;
            for record in records.iter().take(1 + self.random.below(4) as usize) {
                let more = Incoming::read(&Fleet::get().spools[who].stream, record).room();
                if room + more > GROUP_ROOM_MAX {
                    break;
                }
                room += more;
                count += 1;
            }
            if count > 0 {
                group.push((who, from, count));
                next[who] = next[who].max(from + count);
            }
        }
        group
    }

    /// Keeps the newest checkpoint, as is done before a proof that leads to it is handed out.
    fn keep(&mut self, run: &Run) {
        let published = lock(&run.opened.shared.state).published.clone();
        if run.opened.shared.keep(&published).is_ok() {
            self.promises.kept.insert(published.size.0, published.bytes.clone());
        }
    }

    /// What the publishing thread does at the end.
    fn close(&mut self, mut run: Run) -> Result<(), Ended> {
        self.promises.publish(&mut run).map_err(|error| Ended(error.to_string()))?;
        self.keep(&run);
        let shared = &run.opened.shared;
        let all = {
            let state = lock(&shared.state);
            state.published.size.0 == state.durable
        };
        if all {
            // Should it fail, the segments are read again and found covered.
            let _ = shared.store.clear_log();
        }
        Ok(())
    }
}

/// Runs a schedule, and says what is wrong, if anything.
fn failure(seed: u64, left_out: Option<SyncPoint>) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| Schedule::new(seed, left_out).run())).map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default()
    })
}

#[test]
fn every_promise_holds_in_every_schedule() {
    if let Some(seed) = number_from("CAIRN_SIMULATOR_SEED") {
        Schedule::new(seed, None).run();
        return;
    }
    let sum = Mutex::new(Tally::default());
    let schedules = number_from("CAIRN_SIMULATOR_SCHEDULES").unwrap_or(SCHEDULES);
    let failed = first_of(schedules, |seed| match failure(seed, None) {
        Ok(Tally { lives, crashes, faults, flips }) => {
            let mut sum = lock(&sum);
            sum.lives += lives;
            sum.crashes += crashes;
            sum.faults += faults;
            sum.flips += flips;
            None
        }
        Err(reason) => Some(reason),
    });
    if let Some((seed, reason)) = failed {
        panic!("CAIRN_SIMULATOR_SEED={seed}: {reason}");
    }
    let Tally { lives, crashes, faults, flips } = sum.into_inner().unwrap();
    println!(
        "{schedules} schedules, {lives} lives, {crashes} power cuts, {faults} lives with a fault, {flips} bits flipped"
    );
    assert!(lives > schedules && crashes > schedules / 2 && faults > schedules / 2 && flips > schedules / 20);
}

#[test]
fn leaving_out_any_one_sync_breaks_a_promise() {
    let points: BTreeSet<SyncPoint> = (0..60)
        .flat_map(|seed| {
            let schedule = Schedule::new(seed, None);
            let disk = schedule.disk.clone();
            schedule.run();
            disk.sync_points()
        })
        .collect();
    let sites: BTreeSet<(&str, u32)> = points.iter().map(|point| (point.file, point.line)).collect();
    let mut unneeded = Vec::new();
    for point in &points {
        let SyncPoint { file, line, kind } = point;
        match first_of(SCHEDULES_WITHOUT_A_SYNC, |seed| failure(seed, Some(*point)).err()) {
            Some((seed, reason)) => println!("{file}:{line} ({kind:?}): seed {seed}: {reason:.150}"),
            None => unneeded.push(*point),
        }
    }
    println!("{} syncs at {} places in the code", points.len(), sites.len());
    assert!(unneeded.is_empty(), "no schedule needs these syncs: {unneeded:#?}");
    for kind in Syncs::ALL.into_iter().filter(|kind| *kind != Syncs::VolumeNames) {
        assert!(points.iter().any(|point| point.kind == kind), "no schedule syncs {kind:?}");
    }
}
