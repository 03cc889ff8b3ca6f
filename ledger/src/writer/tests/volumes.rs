//! Volumes on a real directory, with threads.

use cairn_schemas::data::{LedgerClosed, LedgerKeyRotated, VolumeReason};
use ed25519_dalek::SigningKey;

use super::*;
use crate::endorsement::Endorsement;
use crate::fixture::{check_volume, root_signer};

fn other_signer(origin: &str) -> NoteSigner {
    NoteSigner::new(origin, SigningKey::from_bytes(&[9; 32])).unwrap()
}

fn endorse(signer: &NoteSigner) -> String {
    let key = Endorsement::LedgerKey { key: signer.verifier().clone(), second: signer.second().cloned() };
    key.sign(&root_signer()).unwrap()
}

fn parsed<T: cairn_schemas::data::RecordData>(bytes: &[u8]) -> T {
    Record::parse(bytes).unwrap().data_as().unwrap()
}

#[test]
fn streams_go_on_through_volumes_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    let mut records = Vec::new();
    for volume in 1..=3 {
        let part: Vec<Vec<u8>> = (0..300).map(|number| sensor.record(number)).collect();
        let appended = ledger.append(&sensor.stream(), part.clone()).unwrap();
        assert_eq!(appended.volume, volume);
        records.extend(part.clone());
        // What was taken before a rotation is a repeat after it.
        let next = ledger.rotate(Rotation::default()).unwrap();
        assert_eq!((next, ledger.volume(), ledger.origin()), (volume + 1, volume + 1, format!("test/{}", volume + 1)));
        let repeat = ledger.append(&sensor.stream(), part[..2].to_vec()).unwrap();
        assert_eq!((repeat.volume, repeat.index.0 + 298), (volume, appended.index.0));
        assert!(ledger.wait_published_in(repeat.volume, repeat.size, Duration::ZERO));
    }
    let entries = ledger.read_from(Place::start_of(1), usize::MAX).unwrap();
    assert_eq!(ledger.start(), Place::start_of(1));
    drop(ledger);

    let ledger = open(folder.path());
    assert_eq!(ledger.volume(), 4);
    assert_eq!(ledger.volumes().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(ledger.position(&sensor.stream()).unwrap().place, None, "it stands in an earlier volume");
    let repeat = ledger.append(&sensor.stream(), records[records.len() - 2..].to_vec()).unwrap();
    assert_eq!(repeat.volume, 3, "found by a walk");
    let old = ledger.append(&sensor.stream(), records[..1].to_vec()).unwrap();
    assert_eq!((old.volume, old.index), (1, RecordIndex(4)));
    ledger.append(&sensor.stream(), vec![sensor.record(1)]).unwrap();
    assert_eq!(ledger.read_from(Place::start_of(1), entries.len()).unwrap(), entries);
    let proof = ledger.inclusion_in(Place { volume: 1, index: RecordIndex(4) }, TreeSize(0)).unwrap();
    Proof::parse(&proof).unwrap().verify(&Digest::leaf(&records[0]), "test/1", &keys()).unwrap();
    assert!(matches!(
        ledger.inclusion_in(Place { volume: 9, index: RecordIndex(4) }, TreeSize(0)),
        Err(ReadError::NoVolume { volume: 9 })
    ));
    drop(ledger);
    for volume in 1..=4 {
        let held = check_volume(folder.path(), volume, &signer());
        if volume < 4 {
            let closed: LedgerClosed = parsed(held.last().unwrap());
            assert_eq!(closed, LedgerClosed { next: volume + 1, reason: VolumeReason::Rotated });
        }
        if volume > 1 {
            let opened: LedgerOpened = parsed(&held[0]);
            let previous = opened.previous.unwrap();
            assert_eq!((previous.carried, previous.nodes.len(), previous.streams.len()), (0, 1, 2));
        }
        assert_eq!(std::fs::read_dir(folder.path().join(crate::volume::path(volume, "wal"))).unwrap().count(), 0);
    }
}

#[test]
fn more_streams_than_fit_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut nodes: Vec<Producer> = (0..600).map(|n| Producer::named(&format!("sensor-{n}"), 11, 1)).collect();
    join(&ledger, &mut nodes);
    ledger.rotate(Rotation::default()).unwrap();
    let first: LedgerOpened = parsed(&ledger.read(RecordIndex(0), 1).unwrap()[0]);
    let carried = first.previous.unwrap().carried;
    assert!(carried >= 2, "{carried}");
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(ledger.positions().len(), 601);
    for node in &mut nodes {
        let record = node.record(1);
        assert!(ledger.append(&node.stream(), vec![record]).unwrap().rejected.is_empty());
    }
    drop(ledger);
    check_volume(folder.path(), 2, &signer());
}

#[test]
fn a_foreignid_is_unique_over_two_volumes() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut control = join(&ledger, &mut []);
    let stream = control.stream();
    let ticket = |control: &mut Producer| {
        control.seal(
            cairn_schemas::record::Draft::new(&cairn_schemas::data::FleetObserved { streams: vec![], unchanged: 0 })
                .foreignid("ticket-7"),
        )
    };
    let first = ledger.append(&stream, vec![ticket(&mut control)]).unwrap();
    let place = Place { volume: 1, index: first.index };
    ledger.rotate(Rotation::default()).unwrap();
    for round in 0..2 {
        let ledger = if round == 0 { ledger.clone() } else { open(folder.path()) };
        assert_eq!(ledger.foreign(&stream, "ticket-7"), Some(place));
        let rejected = ledger.append(&stream, vec![ticket(&mut control)]).unwrap().rejected;
        assert!(rejected[0].reason.contains("of the volume before"), "{rejected:?}");
        ledger.close();
    }
    let ledger = open(folder.path());
    ledger.rotate(Rotation::default()).unwrap();
    assert_eq!(ledger.foreign(&stream, "ticket-7"), None, "a volume further it is forgotten");
}

#[test]
fn rotation_under_load_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensors: Vec<Producer> = (0..8).map(|n| Producer::named(&format!("sensor-{n}"), 11 + n, n)).collect();
    join(&ledger, &mut sensors);
    let mut subscription = ledger.subscribe(Place::start_of(1));
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for sensor in &mut sensors {
            let (ledger, done) = (&ledger, &done);
            scope.spawn(move || {
                for number in 0..200 {
                    let record = sensor.record(number);
                    let appended = ledger.append(&sensor.stream(), vec![record]).unwrap();
                    assert!(appended.rejected.is_empty());
                    if number % 50 == 0 {
                        assert!(ledger.wait_published_in(appended.volume, appended.size, SOON));
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (ledger, done) = (&ledger, &done);
        scope.spawn(move || {
            for round in 0..12 {
                if done.load(Ordering::Relaxed) == 8 && round >= 4 {
                    break;
                }
                match round % 2 {
                    0 => {
                        ledger.rotate(Rotation::default()).unwrap();
                    }
                    _ => {
                        let key = SigningKey::from_bytes(&[100 + round; 32]);
                        let signer = NoteSigner::new(&ledger.origin(), key).unwrap();
                        ledger.rotate_key(&signer, &endorse(&signer), None).unwrap();
                    }
                }
            }
        });
    });
    let end = ledger.end();
    let all = ledger.read_from(Place::start_of(1), usize::MAX).unwrap();
    let mut followed = Vec::new();
    while let Some(entry) = subscription.next(Duration::ZERO).unwrap() {
        followed.push(entry);
    }
    assert_eq!(followed, all);
    assert_eq!(all.last().unwrap().0.plus(1), end);
    for sensor in &sensors {
        let source = sensor.stream();
        let of_stream = all.iter().filter(|(_, bytes)| Record::parse(bytes).unwrap().stream == source);
        assert_eq!(of_stream.count(), 201);
    }
    let gaps = all.iter().filter(|(_, bytes)| Record::parse(bytes).unwrap().kind.as_str().contains("gap"));
    assert_eq!(gaps.count(), 0);
}

#[test]
fn another_key_needs_the_roots_word_and_signs_what_covers_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let new = other_signer("test/1");
    assert!(matches!(ledger.rotate_key(&new, &endorse(&signer()), None), Err(ChangeError::Key { .. })));
    assert!(matches!(ledger.rotate_key(&signer(), &endorse(&signer()), None), Err(ChangeError::Key { .. })));
    let forged = Endorsement::LedgerKey { key: new.verifier().clone(), second: None }.sign(&new).unwrap();
    assert!(matches!(ledger.rotate_key(&new, &forged, None), Err(ChangeError::Key { .. })));
    let before = ledger.checkpoint();
    let place = ledger.rotate_key(&new, &endorse(&new), Some("a drill")).unwrap();
    assert!(ledger.wait_published(place.index.size_with(), SOON));
    let after = ledger.checkpoint();
    Note::parse(&before.bytes).unwrap().verify(&[signer().verifier().clone()]).unwrap();
    let note = Note::parse(&after.bytes).unwrap();
    note.verify(&[new.verifier().clone()]).unwrap();
    assert_eq!(note.signatures().len(), 1, "and by no other");
    let rotated: LedgerKeyRotated = parsed(&ledger.read(place.index, 1).unwrap()[0]);
    assert_eq!((rotated.new, rotated.reason.as_deref()), (new.verifier().to_string(), Some("a drill")));
    drop(ledger);
    let error = Ledger::open(folder.path(), signer(), clock()).map(drop).unwrap_err();
    assert!(error.to_string().contains("its checkpoints are signed by"), "{error}");
    let ledger = Ledger::open(folder.path(), vec![signer(), new.clone()], clock()).unwrap();
    // The next volume has the key that is in force, and a third one only with the root's word.
    let third = NoteSigner::new("test/1", SigningKey::from_bytes(&[10; 32])).unwrap();
    let refused = ledger.rotate(Rotation { signer: Some(third.clone()), ..Rotation::default() });
    assert!(matches!(refused, Err(ChangeError::Key { .. })));
    assert_eq!(ledger.rotate(Rotation::default()).unwrap(), 2);
    let opened: LedgerOpened = parsed(&ledger.read(RecordIndex(0), 1).unwrap()[0]);
    assert_eq!(opened.ledger_key, other_signer("test/2").verifier().to_string());
    let endorsement = Some(endorse(&third.renamed("test/3").unwrap()));
    assert_eq!(ledger.rotate(Rotation { signer: Some(third.clone()), endorsement, note: None }).unwrap(), 3);
    drop(ledger);
    assert!(Ledger::open(folder.path(), new, clock()).is_err());
    assert_eq!(Ledger::open(folder.path(), third, clock()).unwrap().volume(), 3);
}

#[test]
fn a_frozen_ledger_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    let place = ledger.freeze("the fleet is gone").unwrap();
    assert_eq!(ledger.checkpoint().size, place.index.size_with());
    let record = sensor.record(1);
    let refused = ledger.append(&sensor.stream(), vec![record]).unwrap_err();
    assert_eq!(refused, AppendError::Frozen { reason: "the fleet is gone".into() });
    assert!(ledger.rotate(Rotation::default()).is_err());
    assert_eq!(ledger.read(RecordIndex(0), 100).unwrap().len() as u64, place.index.size_with().0, "reads go on");
    drop(ledger);
    let refused = Ledger::open(folder.path(), signer(), clock()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("frozen, for good: the fleet is gone"), "{refused}");
    check(folder.path());
}

#[test]
fn volumes_are_dropped_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    for _ in 0..3 {
        let record = sensor.record(0);
        ledger.append(&sensor.stream(), vec![record]).unwrap();
        ledger.rotate(Rotation::default()).unwrap();
    }
    assert!(matches!(ledger.drop_before(5), Err(ChangeError::Volume { .. })));
    let refused = ledger.drop_before(9).unwrap_err().to_string();
    assert!(refused.contains("volume 4 is the current one"), "{refused}");
    assert_eq!(ledger.drop_before(2).unwrap(), [1]);
    assert!(!folder.path().join("checkpoint").exists() && !folder.path().join("tile").exists());
    assert_eq!(ledger.start(), Place::start_of(2));
    let first = ledger.read_from(Place::start_of(1), 1).unwrap();
    assert_eq!(first[0].0, Place::start_of(2), "what is gone is passed over");
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(ledger.drop_before(4).unwrap(), [2, 3]);
    assert!(ledger.drop_before(4).unwrap().is_empty());
    drop(ledger);
    let ledger = open(folder.path());
    let record = sensor.record(1);
    assert!(ledger.append(&sensor.stream(), vec![record]).unwrap().rejected.is_empty());
    assert_eq!(ledger.volumes().len(), 1);
    drop(ledger);
    assert!(matches!(Ledger::create(folder.path(), &opened(), signer(), clock()), Err(OpenError::Exists)));
    check_volume(folder.path(), 4, &signer());
}

#[test]
fn a_volume_ends_when_it_is_large_or_old() {
    let folder = tempfile::tempdir().unwrap();
    let time = Arc::new(cairn_schemas::time::ManualClock::new(crate::fixture::at(0)));
    let ledger = Ledger::create(folder.path(), &opened(), signer(), time.clone()).unwrap();
    let large = RotateAfter { records: Some(3), age: None };
    let old = RotateAfter { records: None, age: Some(Duration::from_secs(100)) };
    assert_eq!(ledger.rotate_if_due(RotateAfter::default()).unwrap(), None);
    assert_eq!(ledger.rotate_if_due(large).unwrap(), None);
    let mut control = Producer::control();
    let records = vec![control.opening(None), control.head()];
    ledger.append(&control.stream(), records).unwrap();
    assert_eq!(ledger.rotate_if_due(large).unwrap(), Some(2));
    assert_eq!(ledger.rotate_if_due(large).unwrap(), None);
    time.set(crate::fixture::at(99));
    assert_eq!(ledger.rotate_if_due(old).unwrap(), None);
    time.set(crate::fixture::at(100));
    assert_eq!(ledger.rotate_if_due(old).unwrap(), Some(3));
}
