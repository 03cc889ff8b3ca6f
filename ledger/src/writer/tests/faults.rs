//! The writer without its threads, over a disk that fails at any call and forgets in a crash what was not synced. After every
//! failure the ledger is opened again, and everything that a checkpoint determines is checked from the published bytes.

use std::collections::BTreeMap;

use super::*;
use crate::disk::Disk as _;
use crate::disk::faulty::FaultyDisk;
use crate::integrate::{PUBLISH_RECORDS_MAX, PublishError};
use crate::producer::Chain;
use crate::streams::Streams;
use crate::writer::commit::CommitError;

/// Small segments, so that they follow each other quickly.
pub(super) const OPTIONS: Options = Options { segment_len: 40 << 10 };

/// A ledger driven step by step.
pub(super) struct Run {
    pub(super) opened: open::Opened,
}

/// What was promised to the outside: it must be true after any crash.
#[derive(Default)]
struct Promises {
    acknowledged: BTreeMap<u64, Vec<u8>>,
    published: Vec<Arc<PublishedCheckpoint>>,
}

impl Run {
    pub(super) fn create(disk: &FaultyDisk) -> Result<Run, OpenError> {
        let opened = open::create(Arc::new(disk.clone()), &opened(), signer(), clock(), OPTIONS)?;
        Ok(Run { opened })
    }

    pub(super) fn open(disk: &FaultyDisk) -> Result<Run, OpenError> {
        Ok(Run { opened: open::open(Arc::new(disk.clone()), signer(), clock(), OPTIONS)? })
    }

    /// Commits one group of one submission.
    fn append(
        &mut self,
        stream: &StreamId,
        records: Vec<Vec<u8>>,
    ) -> Result<Result<Appended, AppendError>, CommitError> {
        let answers = self.commit(vec![(stream.clone(), records)])?;
        Ok(answers.into_iter().next().expect("one submission has one answer"))
    }

    /// Commits one group, and gives each submission's answer.
    pub(super) fn commit(
        &mut self,
        submissions: Vec<(StreamId, Vec<Vec<u8>>)>,
    ) -> Result<Vec<Result<Appended, AppendError>>, CommitError> {
        let shared = &self.opened.shared;
        let submission = |(stream, records): (StreamId, Vec<Vec<u8>>)| {
            let incoming = records.iter().map(|bytes| Incoming::read(&stream, bytes)).collect();
            Arc::new(Submission::new(stream, incoming))
        };
        let group: Vec<Arc<Submission>> = submissions.into_iter().map(submission).collect();
        let covered = lock(&shared.state).published.size.0;
        let commit = self.opened.committer.commit(&shared.streams, &group, covered, shared.clock.now())?;
        shared.finish(&group, commit);
        Ok(group.iter().map(|submission| submission.answered()).collect())
    }

    pub(super) fn publish(&mut self) -> Result<Arc<PublishedCheckpoint>, PublishError> {
        let shared = &self.opened.shared;
        let records = lock(&shared.state).unpublished(PUBLISH_RECORDS_MAX);
        let checkpoint = self.opened.integrator.publish(records.records(), false, shared.clock.now())?;
        let mut state = lock(&shared.state);
        drop(state.publish(checkpoint));
        Ok(state.published.clone())
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        lock(&self.opened.shared.streams)
    }
}

/// A producer with everything that it has sealed: like a spool that is never trimmed.
struct Spool {
    stream: StreamId,
    records: Vec<Vec<u8>>,
}

impl Spool {
    fn of(mut producer: Producer, records: u64) -> Spool {
        let mut sealed = vec![producer.opening(None)];
        sealed.extend((1..records).map(|number| {
            // Records of very different length, so that bundles and segments end anywhere.
            let mut draft = crate::fixture::capabilities(number);
            draft.data["can"] = serde_json::json!(["x".repeat((number * 937 % 5_000) as usize)]);
            producer.seal(draft)
        }));
        Spool { stream: producer.stream(), records: sealed }
    }

    /// Sends what the ledger does not have, in groups of 1 to 3, publishing now and then. Promises are kept as they are made.
    fn send(&self, run: &mut Run, promises: &mut Promises) -> Result<(), String> {
        let from = run.streams().position(&self.stream).map_or(0, |position| position.sequence.0 + 1);
        let mut rest = &self.records[from as usize..];
        let mut step = from;
        while !rest.is_empty() {
            let (group, after) = rest.split_at((1 + step % 3).min(rest.len() as u64) as usize);
            let appended = match run.append(&self.stream, group.to_vec()) {
                // No room could be made, and nothing changed: once more, as a producer would.
                Err(CommitError::Full(_)) => run.append(&self.stream, group.to_vec()),
                appended => appended,
            };
            let appended = appended.map_err(|error| format!("{error:?}"))?.map_err(|error| error.to_string())?;
            assert_eq!(appended.index.0 + 1, appended.size.0);
            for (back, bytes) in group.iter().rev().enumerate() {
                promises.acknowledged.insert(appended.index.0 - back as u64, bytes.clone());
            }
            if step.is_multiple_of(3) {
                promises.published.push(run.publish().map_err(|error| error.to_string())?);
            }
            (rest, step) = (after, step + 1);
        }
        promises.published.push(run.publish().map_err(|error| error.to_string())?);
        Ok(())
    }
}

/// Checks the published files from their bytes, and that they hold what was promised.
fn verify(disk: &FaultyDisk, promises: &Promises) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    disk.copy_to(folder.path());
    let records = check(folder.path());
    for (index, bytes) in &promises.acknowledged {
        assert_eq!(records.get(*index as usize), Some(bytes), "record {index} was acknowledged");
    }
    let mut frontier = crate::tree::Frontier::new();
    let mut roots = vec![frontier.root()];
    for record in &records {
        frontier.push(Digest::leaf(record));
        roots.push(frontier.root());
    }
    for checkpoint in &promises.published {
        assert_eq!(roots.get(checkpoint.size.0 as usize), Some(&checkpoint.root), "{} was published", checkpoint.size);
    }
    records
}

/// A ledger with a joined sensor and `count` records, closed without a trace in the log.
fn base(count: u64) -> (FaultyDisk, Promises) {
    let disk = FaultyDisk::new(1);
    let mut promises = Promises::default();
    let mut run = Run::create(&disk).unwrap();
    let mut control = Producer::control();
    let mut records = vec![control.opening(None), control.seal(Producer::named("sensor-1", 11, 1).joined())];
    records.extend((4..=count).map(|number| {
        control.seal(cairn_schemas::record::Draft::new(&cairn_schemas::data::FleetObserved {
            streams: vec![],
            unchanged: number,
        }))
    }));
    for part in records.chunks(4) {
        run.append(&control.stream(), part.to_vec()).unwrap().unwrap();
    }
    promises.published.push(run.publish().unwrap());
    for (index, bytes) in (1..).zip(records) {
        promises.acknowledged.insert(index, bytes);
    }
    (disk, promises)
}

/// Opens, sends, and says how far it came.
fn attempt(disk: &FaultyDisk, spool: &Spool, promises: &mut Promises) -> Result<(), String> {
    let mut run = Run::open(disk).map_err(|error| format!("{error:?}"))?;
    spool.send(&mut run, promises)
}

fn merged(base: &Promises) -> Promises {
    Promises { acknowledged: base.acknowledged.clone(), published: base.published.clone() }
}

#[test]
fn every_call_fails_in_both_forms_and_nothing_promised_is_lost() {
    // 251 records before, 13 after: the first level-0 tile fills, and a level-1 tile begins.
    let (disk, before) = base(251);
    let spool = Spool::of(Producer::named("sensor-1", 11, 1), 13);
    let calls = {
        let disk = disk.copy(0);
        attempt(&disk, &spool, &mut merged(&before)).unwrap();
        let newest = disk.list("wal").unwrap().into_iter().max().unwrap();
        assert!(newest.as_str() > "00000000000000000251.wal", "segments follow each other: {newest}");
        disk.calls()
    };
    let mut failed = 0;
    for call in 0..calls {
        for (done, once) in [(false, false), (true, false), (call % 2 == 0, true)] {
            let disk = disk.copy(call * 4 + u64::from(done) * 2 + u64::from(once));
            let mut promises = merged(&before);
            if once {
                disk.fail_once_after(call, done, std::io::ErrorKind::Other)
            } else {
                disk.fail_after(call, done)
            }
            let failure = attempt(&disk, &spool, &mut promises).err();
            failed += usize::from(failure.is_some());
            assert!(once || failure.is_some(), "call {call} of {calls}: a dead disk was not noticed");
            disk.crash();
            // What is on the disk between the crash and the next opening can be verified as it is.
            if call % 5 == 0 {
                verify(&disk, &Promises { acknowledged: BTreeMap::new(), published: promises.published.clone() });
            }
            let context = format!("call {call} of {calls}, done {done}, once {once}: {failure:?}");
            attempt(&disk, &spool, &mut promises).unwrap_or_else(|error| panic!("{context}: then {error}"));
            let records = verify(&disk, &promises);
            assert_eq!(records[251..], spool.records, "{context}");
        }
    }
    assert!(failed as u64 > calls * 2, "faults were noticed: {failed} of {calls} calls in three forms");
}

#[test]
fn crashes_during_recovery_too() {
    let (disk, before) = base(250);
    let spool = Spool::of(Producer::named("sensor-1", 11, 1), 30);
    for seed in 0..25 {
        let disk = disk.copy(seed);
        let mut promises = merged(&before);
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut crashes = 0;
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            disk.fail_after((random >> 33) % 160, random >> 62 & 1 == 1);
            let result = attempt(&disk, &spool, &mut promises);
            disk.crash();
            crashes += 1;
            if result.is_ok() || crashes > 12 {
                break;
            }
        }
        attempt(&disk, &spool, &mut promises).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(verify(&disk, &promises)[250..], spool.records, "seed {seed}");
    }
}

#[test]
fn making_a_ledger_fails_cleanly_at_every_call() {
    let calls = {
        let disk = FaultyDisk::new(0);
        Run::create(&disk).unwrap();
        disk.calls()
    };
    for call in 0..calls {
        for done in [false, true] {
            let disk = FaultyDisk::new(call);
            disk.fail_after(call, done);
            assert!(Run::create(&disk).is_err());
            disk.crash();
            // Either it can be made now, or it was made and can be opened.
            match Run::create(&disk) {
                Ok(_) => {}
                Err(OpenError::Exists) => drop(Run::open(&disk).unwrap_or_else(|error| panic!("call {call}: {error}"))),
                Err(error) => panic!("call {call}: {error}"),
            }
            assert_eq!(verify(&disk, &Promises::default()).len(), 1);
        }
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let (disk, mut promises) = base(250);
    let spool = Spool::of(Producer::named("sensor-1", 11, 1), 40);
    let mut run = Run::open(&disk).unwrap();
    run.append(&spool.stream, spool.records[..2].to_vec()).unwrap().unwrap();
    disk.fill();
    let full = run.publish().unwrap_err();
    assert!(matches!(&full, PublishError::Io(error) if crate::disk::is_full(error)), "{full}");
    // The log has room left in its segment; when that is used up, appends are refused and nothing changes.
    let refused = (2..40).find_map(|at| match run.append(&spool.stream, vec![spool.records[at].clone()]) {
        Ok(appended) => {
            appended.unwrap();
            None
        }
        Err(error) => Some((at, error)),
    });
    let (at, error) = refused.unwrap();
    assert!(matches!(error, CommitError::Full(_)), "{error:?}");
    assert_eq!(run.streams().position(&spool.stream).unwrap().sequence, Sequence(at as u64 - 1));
    disk.heal();
    spool.send(&mut run, &mut promises).unwrap();
    assert_eq!(verify(&disk, &promises)[250..], spool.records);
}

#[test]
fn what_a_deleted_sector_or_segment_took_is_noticed() {
    let (disk, _) = base(20);
    let spool = Spool::of(Producer::named("sensor-1", 11, 1), 80);
    let mut run = Run::open(&disk).unwrap();
    for record in &spool.records {
        run.append(&spool.stream, vec![record.clone()]).unwrap().unwrap();
    }
    let mut segments = disk.list("wal").unwrap();
    segments.sort();
    assert!(segments.len() >= 3);
    drop(run);
    let first = format!("wal/{}", segments[0]);
    let damaged = disk.copy(0);
    damaged.tamper(&first, |bytes| bytes[700] ^= 1);
    assert!(matches!(Run::open(&damaged), Err(OpenError::Wal(WalError::Damaged { .. }))));
    let damaged = disk.copy(0);
    damaged.remove(&first).unwrap();
    assert!(matches!(Run::open(&damaged), Err(OpenError::Wal(WalError::Missing { .. }))));
    let damaged = disk.copy(0);
    damaged.remove(&format!("wal/{}", segments[1])).unwrap();
    assert!(matches!(Run::open(&damaged), Err(OpenError::Wal(WalError::Damaged { .. }))));
    assert_eq!(Run::open(&disk).unwrap().streams().next(), RecordIndex(100));
}

#[test]
fn a_tile_with_other_bytes_stops_the_writer() {
    let (disk, _) = base(20);
    let spool = Spool::of(Producer::named("sensor-1", 11, 1), 4);
    let mut run = Run::open(&disk).unwrap();
    run.append(&spool.stream, spool.records.clone()).unwrap().unwrap();
    let mut file = disk.create("tile/0/000.p/24").unwrap();
    file.write_at(0, &[7; 24 * 32]).unwrap();
    let conflict = run.publish().unwrap_err();
    assert!(matches!(&conflict, PublishError::Conflict { path } if path == "tile/0/000.p/24"), "{conflict}");
}

#[test]
fn a_stream_can_be_continued_from_its_position() {
    let (disk, _) = base(20);
    let mut run = Run::open(&disk).unwrap();
    let mut sensor = Producer::named("sensor-1", 11, 1);
    let records = vec![sensor.opening(None), sensor.record(1)];
    run.append(&sensor.stream(), records).unwrap().unwrap();
    drop(run);
    disk.crash();
    let mut run = Run::open(&disk).unwrap();
    let position = run.streams().position(&sensor.stream()).unwrap();
    assert_eq!((position.sequence.next(), position.leaf), (sensor.chain.next(), sensor.chain.prev()));
    sensor.chain = Chain::resume(sensor.stream(), position.sequence.next(), position.leaf, 2, crate::fixture::at(5));
    let head = sensor.head();
    assert!(run.append(&sensor.stream(), vec![head]).unwrap().unwrap().rejected.is_empty());
}
