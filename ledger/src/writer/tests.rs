//! The writer on a real directory, with its threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_schemas::data::StreamGap;
use cairn_schemas::record::Record;

use super::*;
use crate::fixture::{Producer, check, clock, opened, signer};
use crate::note::{Note, VerifierKey};

mod changes;
mod faults;
mod lives;
mod overlap;
mod pending;
mod restored;
mod simulator;
mod volumes;

const SOON: Duration = Duration::from_secs(30);

fn create(dir: &Path) -> Ledger {
    Ledger::create(dir, &opened(), signer(), clock()).unwrap()
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, signer(), clock()).unwrap()
}

/// Appends the control plane's opening and the joining of `nodes`, and each node's opening.
fn join(ledger: &Ledger, nodes: &mut [Producer]) -> Producer {
    let mut control = Producer::control();
    let mut records = vec![control.opening(None)];
    records.extend(nodes.iter().map(|node| node.joined()).map(|joined| control.seal(joined)).collect::<Vec<_>>());
    ledger.append(&control.stream(), records).unwrap();
    for node in nodes {
        let opening = node.opening(None);
        ledger.append(&node.stream(), vec![opening]).unwrap();
    }
    control
}

fn refused(error: AppendError) -> (Refusal, Option<Appended>) {
    let AppendError::Refused { refusal, taken } = error else { panic!("{error:?}") };
    (refusal, taken.map(|taken| *taken))
}

fn keys() -> Vec<VerifierKey> {
    vec![signer().verifier().clone()]
}

#[test]
fn records_are_durable_published_proven_and_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ledger");
    let ledger = create(&dir);
    assert_eq!(
        (ledger.origin(), ledger.size(), ledger.checkpoint().size),
        ("test/1".to_owned(), TreeSize(1), TreeSize(1))
    );
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    let records: Vec<Vec<u8>> = (0..600).map(|number| sensor.record(number)).collect();
    let appended = ledger.append(&sensor.stream(), records.clone()).unwrap();
    assert_eq!(
        appended,
        Appended { sequence: Sequence(600), volume: 1, index: RecordIndex(603), size: TreeSize(604), rejected: vec![] }
    );
    assert!(ledger.wait_published(appended.size, SOON));
    let proof = ledger.inclusion(RecordIndex(603), appended.size).unwrap();
    let checkpoint = Proof::parse(&proof).unwrap().verify(&Digest::leaf(&records[599]), "test/1", &keys()).unwrap();
    assert!(dir.join(numbered_path(checkpoint.size)).exists(), "what a proof leads to is kept");
    let not_yet = ledger.inclusion(RecordIndex(603), TreeSize(10_000)).unwrap_err();
    assert!(matches!(not_yet, ReadError::NotPublished { index: RecordIndex(9_999), .. }));
    assert!(matches!(ledger.inclusion(RecordIndex(604), TreeSize(0)), Err(ReadError::NotPublished { .. })));
    let position = ledger.position(&sensor.stream()).unwrap();
    assert_eq!((position.sequence, position.leaf), (Sequence(600), sensor.chain.prev()));
    ledger.close();
    assert_eq!(ledger.append(&sensor.stream(), vec![sensor.record(0)]), Err(AppendError::Closed));
    assert_eq!(std::fs::read_dir(dir.join("wal")).unwrap().count(), 0, "a closed ledger leaves no log");
    assert_eq!(check(&dir)[4..], records);

    let ledger = open(&dir);
    assert_eq!(ledger.position(&sensor.stream()), Some(position));
    assert_eq!(ledger.append(&sensor.stream(), records[..1].to_vec()).unwrap().index, RecordIndex(4), "a repeat");
    assert_eq!(ledger.positions().len(), 2);
}

#[test]
fn one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Ledger::open(&folder.path().join("x"), signer(), clock()), Err(OpenError::NoLedger)));
    assert!(matches!(Ledger::open(folder.path(), signer(), clock()), Err(OpenError::NoLedger)));
    let ledger = create(folder.path());
    assert!(matches!(Ledger::open(folder.path(), signer(), clock()), Err(OpenError::Locked)));
    assert!(matches!(Ledger::create(folder.path(), &opened(), signer(), clock()), Err(OpenError::Locked)));
    drop(ledger);
    assert!(matches!(Ledger::create(folder.path(), &opened(), signer(), clock()), Err(OpenError::Exists)));
    let other = NoteSigner::new("test/1", ed25519_dalek::SigningKey::from_bytes(&[77; 32])).unwrap();
    assert!(matches!(Ledger::open(folder.path(), other, clock()), Err(OpenError::Key { .. })));
    drop(open(folder.path()));
}

#[test]
fn names_and_keys_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let attempt = |change: &dyn Fn(&mut LedgerOpened)| {
        let mut opened = opened();
        change(&mut opened);
        Ledger::create(folder.path(), &opened, signer(), clock()).map(drop).unwrap_err().to_string()
    };
    assert!(attempt(&|opened| opened.name = "other".into()).contains("the origin is \"other/1\""));
    assert!(attempt(&|opened| opened.name = "a b".into()).contains("cannot be an origin"));
    assert!(attempt(&|opened| opened.volume = 2).contains("the origin is \"test/2\""));
    assert!(attempt(&|opened| opened.ledger_key = opened.root_key.clone()).contains("`ledger.opened` names test/root"));
    assert!(attempt(&|opened| opened.control_key = "x".into()).contains("is not an Ed25519 public key"));
    create(folder.path());
}

#[test]
fn what_stands_before_a_refused_record_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    let stream = sensor.stream();
    let fork = sensor.chain.clone();
    let (a, b) = (sensor.record(1), sensor.record(2));
    let other = Producer { chain: fork, key: sensor.key.clone(), node: sensor.node.clone() }.record(9);
    let error = ledger.append(&stream, vec![a, b, other, sensor.record(3)]).unwrap_err();
    let (refusal, taken) = refused(error);
    assert!(matches!(refusal, Refusal::Forked { sequence: Sequence(1), .. }), "{refusal}");
    let taken = taken.unwrap();
    assert_eq!((taken.sequence, taken.index), (Sequence(2), RecordIndex(5)));
    assert_eq!(ledger.size(), TreeSize(7), "and the fork is noted");
    assert_eq!(ledger.append(&stream, vec![]), Err(AppendError::Empty));
    let many = vec![Vec::new(); APPEND_RECORDS_MAX + 1];
    assert_eq!(ledger.append(&stream, many), Err(AppendError::TooMany { count: APPEND_RECORDS_MAX + 1 }));
}

#[test]
fn an_append_at_the_limit_is_taken_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    let stream = sensor.stream();
    let mut records: Vec<Vec<u8>> = (0..APPEND_RECORDS_MAX as u64).map(|number| sensor.record(number)).collect();
    records[3_000] = b"garbage".to_vec();
    let error = ledger.append(&stream, records.clone()).unwrap_err();
    // The record after the garbage follows the one that stood there: to the ledger that is a fork at the garbage.
    let (refusal, taken) = refused(error);
    assert!(matches!(refusal, Refusal::Forked { sequence: Sequence(3_001), .. }), "{refusal}");
    let taken = taken.unwrap();
    assert_eq!(taken.sequence, Sequence(3_001));
    assert_eq!(taken.rejected.len(), 1);
    assert_eq!((taken.rejected[0].position, taken.rejected[0].index), (3_000, RecordIndex(4 + 3_000)));
    assert!(taken.rejected[0].reason.starts_with("not JSON"), "{}", taken.rejected[0].reason);
    ledger.close();
    assert_eq!(check(folder.path()).len() as u64, taken.size.0 + 1);
}

#[test]
fn repeats_older_than_memory_are_found_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    let stream = sensor.stream();
    let records: Vec<Vec<u8>> = (0..RECENT_MAX as u64 + 100).map(|number| sensor.record(number)).collect();
    for part in records.chunks(APPEND_RECORDS_MAX) {
        ledger.append(&stream, part.to_vec()).unwrap();
    }
    let again = ledger.append(&stream, records[5..8].to_vec()).unwrap();
    assert_eq!((again.sequence, again.index), (Sequence(8), RecordIndex(4 + 7)));
    let fork = Producer {
        chain: crate::producer::Chain::new(stream.clone()),
        key: sensor.key.clone(),
        node: sensor.node.clone(),
    };
    let mut fork = fork;
    fork.opening(None);
    let other = fork.record(12_345);
    let (refusal, _) = refused(ledger.append(&stream, vec![other]).unwrap_err());
    assert!(matches!(refusal, Refusal::Forked { sequence: Sequence(1), .. }), "{refusal}");
}

#[test]
fn subscribers_see_every_record_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensors: Vec<Producer> = (0..4).map(|n| Producer::named(&format!("sensor-{n}"), 11 + n, n)).collect();
    join(&ledger, &mut sensors);
    let total = 1 + 5 + 4 + 4 * 500;
    let follow = |from: u64, ledger: &Ledger| {
        let mut subscription = ledger.subscribe(Place { volume: 1, index: RecordIndex(from) });
        let mut records = Vec::new();
        while from + (records.len() as u64) < total {
            let (index, record) = subscription.next(SOON).unwrap().unwrap();
            assert_eq!(index.index.0, from + records.len() as u64);
            records.push(record.to_vec());
        }
        assert_eq!(subscription.next(Duration::ZERO).unwrap(), None);
        (subscription, records)
    };
    let (mut subscription, seen) = std::thread::scope(|scope| {
        let live = scope.spawn(|| follow(0, &ledger));
        for sensor in &mut sensors {
            let ledger = &ledger;
            scope.spawn(move || {
                for number in 0..500 {
                    let record = sensor.record(number);
                    ledger.append(&sensor.stream(), vec![record]).unwrap();
                }
            });
        }
        live.join().unwrap()
    });
    assert_eq!(follow(700, &ledger).1, seen[700..]);
    assert_eq!(
        ledger.read(RecordIndex(0), 10_000).unwrap().iter().map(|record| record.to_vec()).collect::<Vec<_>>(),
        seen
    );
    assert_eq!(ledger.read(RecordIndex(5), 2).unwrap().len(), 2);
    assert!(ledger.read(RecordIndex(total), 2).unwrap().is_empty());
    ledger.close();
    assert!(matches!(subscription.next(SOON), Err(ReadError::Closed)));
    assert_eq!(check(folder.path()), seen);
    // After a restart nothing is in memory, and all of it comes from bundles.
    let ledger = open(folder.path());
    assert_eq!(follow(0, &ledger).1, seen);
}

#[test]
fn many_callers_are_answered_together() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensors: Vec<Producer> = (0..16).map(|n| Producer::named(&format!("sensor-{n}"), 11 + n, n)).collect();
    join(&ledger, &mut sensors);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for sensor in &mut sensors {
            scope.spawn(|| {
                for number in 0..50 {
                    let record = sensor.record(number);
                    let appended = ledger.append(&sensor.stream(), vec![record.clone()]).unwrap();
                    assert_eq!(*ledger.read(appended.index, 1).unwrap()[0], *record);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                let head = sensor.head();
                let appended = ledger.append(&sensor.stream(), vec![head]).unwrap();
                assert!(ledger.wait_published(appended.size, SOON));
                assert!(ledger.checkpoint().size >= appended.size);
            });
        }
    });
    assert_eq!(answered.into_inner(), 800);
    assert!(!ledger.wait_published(TreeSize(1_000_000), Duration::ZERO));
    drop(ledger);
    check(folder.path());
}

#[test]
fn gaps_are_on_record_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    sensor.record(0);
    let after = sensor.record(1);
    ledger.append(&sensor.stream(), vec![after]).unwrap();
    drop(ledger);
    let ledger = open(folder.path());
    let records = ledger.read(RecordIndex(4), 10).unwrap();
    let gap: StreamGap = Record::parse(&records[0]).unwrap().data_as().unwrap();
    assert_eq!((gap.from, gap.to), (Sequence(1), Sequence(1)));
}

#[test]
fn damage_is_named_and_nothing_is_built_upon_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    let records: Vec<Vec<u8>> = (0..300).map(|number| sensor.record(number)).collect();
    ledger.append(&sensor.stream(), records).unwrap();
    drop(ledger);
    let damage = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = folder.path().join(file);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        std::fs::write(&path, bad).unwrap();
        let error = Ledger::open(folder.path(), signer(), clock()).map(drop).unwrap_err();
        std::fs::write(&path, good).unwrap();
        error.to_string()
    };
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    let flipped = damage("tile/entries/000", &flip(5_000));
    assert!(flipped.contains("hash to") && flipped.contains("record 11 is the first that differs"), "{flipped}");
    assert!(damage("tile/entries/000", &flip(2)).contains("hash to"), "the first byte of record 0 is not a brace now");
    assert!(damage("tile/entries/001.p/48", &|bytes| bytes.truncate(100)).contains("within record 256"));
    assert!(damage("checkpoint", &flip(2)).contains("signature"));
    assert!(damage("checkpoint", &|bytes| bytes.clear()).contains("not a text, a blank line"));
    std::fs::rename(folder.path().join("checkpoint"), folder.path().join("gone")).unwrap();
    assert!(matches!(Ledger::open(folder.path(), signer(), clock()), Err(OpenError::NoCheckpoint)));
    std::fs::rename(folder.path().join("gone"), folder.path().join("checkpoint")).unwrap();
    std::fs::copy(folder.path().join("checkpoints/1"), folder.path().join("checkpoint")).unwrap();
    let rolled_back = Ledger::open(folder.path(), signer(), clock()).map(drop).unwrap_err();
    assert!(matches!(rolled_back, OpenError::RolledBack { kept: TreeSize(304), size: TreeSize(1) }), "{rolled_back}");
}
