//! Changes of a whole ledger over a disk that fails at any call and forgets in a crash what was not synced.

use std::io::ErrorKind;

use ed25519_dalek::SigningKey;

use super::*;
use crate::disk::faulty::FaultyDisk;
use crate::endorsement::Endorsement;
use crate::fixture::{check_volume, root_signer};
use crate::writer::open::Signers;

/// Segments that hold a group of ten records.
const OPTIONS: Options = Options { segment_len: 256 << 10 };

fn new_signer() -> NoteSigner {
    NoteSigner::new("test/1", SigningKey::from_bytes(&[9; 32])).unwrap()
}

fn endorsed(signer: &NoteSigner) -> String {
    let key = Endorsement::LedgerKey { key: signer.verifier().clone(), second: None };
    key.sign(&root_signer()).unwrap()
}

fn start(disk: &FaultyDisk, signers: impl Into<Signers>) -> Result<Ledger, OpenError> {
    Ledger::run(open::open(Arc::new(disk.clone()), signers, clock(), OPTIONS)?)
}

/// A closed ledger with one sensor and records enough for a full tile.
fn base() -> (FaultyDisk, Producer) {
    let disk = FaultyDisk::new(1);
    let opened = open::create(Arc::new(disk.clone()), &opened(), signer(), clock(), OPTIONS).unwrap();
    let ledger = Ledger::run(opened).unwrap();
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    for part in 0..26 {
        let records: Vec<Vec<u8>> = (0..10).map(|number| sensor.record(part * 10 + number)).collect();
        ledger.append(&sensor.stream(), records).unwrap();
    }
    drop(ledger);
    (disk, sensor)
}

/// What is on the disk can be checked from its bytes, volume by volume; gives how many records each has.
fn verify(disk: &FaultyDisk, signer: &dyn Fn(u64) -> NoteSigner) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    disk.copy_to(folder.path());
    let there = |volume: &u64| folder.path().join(crate::volume::path(*volume, "checkpoint")).exists();
    (1..).take_while(there).map(|volume| check_volume(folder.path(), volume, &signer(volume)).len() as u64).collect()
}

/// Makes a change on a disk that fails at each call in turn, in every form, and hands what a crash then leaves to `after`.
fn at_every_call(
    disk: &FaultyDisk,
    signers: impl Into<Signers> + Clone,
    change: &dyn Fn(&Ledger) -> Result<(), ChangeError>,
    after: &dyn Fn(&FaultyDisk, &str),
) {
    let calls = {
        let disk = disk.copy(0);
        let ledger = start(&disk, signers.clone()).unwrap();
        let before = disk.calls();
        change(&ledger).unwrap();
        disk.calls() - before
    };
    assert!(calls > 5, "{calls}");
    for call in 0..calls {
        for (done, once) in [(false, false), (true, false), (call % 2 == 0, true)] {
            let disk = disk.copy(call * 4 + u64::from(done) * 2 + u64::from(once));
            let ledger = start(&disk, signers.clone()).unwrap();
            if once {
                disk.fail_once_after(call, done, ErrorKind::Other)
            } else {
                disk.fail_after(call, done)
            }
            let changed = change(&ledger).map_err(|error| error.to_string());
            drop(ledger);
            disk.crash();
            disk.heal();
            after(&disk, &format!("call {call} of {calls}, done {done}, once {once}: {changed:?}"));
        }
    }
}

#[test]
fn a_crash_at_any_call_of_a_rotation_leaves_one_volume_or_the_next() {
    let (disk, sensor) = base();
    let signer_of = |_| signer();
    let rotate = |ledger: &Ledger| ledger.rotate(Rotation::default()).map(drop);
    at_every_call(&disk, signer(), &rotate, &|disk, context| {
        let ledger = start(disk, signer()).unwrap_or_else(|error| panic!("{context}: {error}"));
        let volume = ledger.volume();
        assert!(volume <= 2, "{context}");
        let mut sensor = Producer { chain: sensor.chain.clone(), key: sensor.key.clone(), node: sensor.node.clone() };
        let record = sensor.record(999);
        let appended = ledger.append(&sensor.stream(), vec![record]).unwrap();
        assert!(appended.rejected.is_empty() && appended.volume == volume, "{context}");
        // Where the old volume is still the current one, it can be rotated now.
        if volume == 1 {
            assert_eq!(ledger.rotate(Rotation::default()).unwrap(), 2, "{context}");
        }
        let all = ledger.read_from(Place::start_of(1), usize::MAX).unwrap();
        let gaps = all.iter().filter(|(_, bytes)| Record::parse(bytes).unwrap().kind.as_str().contains("gap"));
        assert_eq!(gaps.count(), 0, "{context}");
        drop(ledger);
        let sizes = verify(disk, &signer_of);
        assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (2, 264 + 3), "{context}");
    });
}

#[test]
fn a_crash_at_any_call_of_a_key_rotation_leaves_one_key_or_the_other_in_force() {
    let (disk, _) = base();
    let new = new_signer();
    let both = vec![signer(), new.clone()];
    let rotate = |ledger: &Ledger| {
        let place = ledger.rotate_key(&new, &endorsed(&new), None)?;
        let published = ledger.wait_published(place.index.size_with(), SOON);
        published.then_some(()).ok_or(ChangeError::Closed)
    };
    let old_size = 264;
    at_every_call(&disk, both.clone(), &rotate, &|disk, context| {
        let ledger = start(disk, both.clone()).unwrap_or_else(|error| panic!("{context}: {error}"));
        let rotated = ledger.key() == new.verifier().to_string();
        assert!(ledger.wait_published(ledger.size(), SOON), "{context}");
        let checkpoint = ledger.checkpoint();
        assert_eq!(checkpoint.size, TreeSize(old_size + u64::from(rotated)), "{context}");
        let signs = if rotated { &new } else { &signer() };
        let note = Note::parse(&checkpoint.bytes).unwrap();
        // Test checkpoints carry strangers' lines too.
        let known = [signer(), new.clone()];
        let ours = note.signatures().iter().filter(|line| known.iter().any(|key| key.verifier().claims(line)));
        assert_eq!(ours.count(), 1, "{context}");
        note.verify(&[signs.verifier().clone()]).unwrap_or_else(|error| panic!("{context}: {error}"));
        drop(ledger);
        // The key that is in force is enough from now on, and the other one is not.
        drop(start(disk, signs.clone()).unwrap_or_else(|error| panic!("{context}: {error}")));
        let other = if rotated { signer() } else { new.clone() };
        assert!(start(disk, other).is_err(), "{context}");
    });
}

#[test]
fn a_crash_at_any_call_of_a_freeze_leaves_it_open_or_frozen() {
    let (disk, _) = base();
    let freeze = |ledger: &Ledger| ledger.freeze("it is over").map(drop);
    at_every_call(&disk, signer(), &freeze, &|disk, context| {
        let sizes = match start(disk, signer()) {
            Ok(ledger) => {
                drop(ledger);
                verify(disk, &|_| signer())
            }
            Err(OpenError::Frozen { reason }) => {
                assert_eq!(reason, "it is over");
                let sizes = verify(disk, &|_| signer());
                assert_eq!(sizes, [265], "{context}");
                sizes
            }
            Err(error) => panic!("{context}: {error}"),
        };
        assert_eq!(sizes.len(), 1, "{context}");
    });
}

#[test]
fn a_crash_at_any_call_of_a_drop_leaves_what_can_be_dropped_again() {
    let (disk, _) = base();
    {
        let ledger = start(&disk, signer()).unwrap();
        ledger.rotate(Rotation::default()).unwrap();
        ledger.rotate(Rotation::default()).unwrap();
    }
    let remove = |ledger: &Ledger| ledger.drop_before(3).map(drop);
    at_every_call(&disk, signer(), &remove, &|disk, context| {
        // Whoever looks before anybody opens it again sees volumes that are whole, and that others are not here.
        let folder = tempfile::tempdir_in(super::simulator::scratch()).unwrap();
        disk.copy_to(folder.path());
        let report = cairn_verify::verify(folder.path(), &cairn_verify::Options::default());
        assert_eq!(report.verdict, cairn_verify::Verdict::Ok, "{context}: {:#?}", report.faults);
        let here = crate::view::volumes(folder.path()).unwrap();
        assert!([&[1, 2, 3][..], &[2, 3], &[3]].contains(&&here[..]), "{context}: {here:?}");
        let ledger = start(disk, signer()).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(ledger.volume(), 3, "{context}");
        let seen: Vec<u64> = ledger.volumes().into_iter().map(|(volume, _)| volume).collect();
        assert_eq!(seen, here, "{context}");
        let left = disk.published();
        let gone = |path: &String| (1..here[0]).any(|volume| *path == crate::volume::path(volume, "checkpoint"));
        assert!(!left.keys().any(|path| path.ends_with(".dropped") || gone(path)), "{context}: {:?}", left.keys());
        ledger.read_from(Place::start_of(1), usize::MAX).unwrap_or_else(|error| panic!("{context}: {error}"));
        ledger.drop_before(3).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(ledger.start(), Place::start_of(3), "{context}");
        drop(ledger);
        let left = disk.published();
        assert!(left.keys().all(|path| path.starts_with("volume/3/")), "{context}: {:?}", left.keys());
    });
}

#[test]
fn a_full_disk_refuses_a_rotation_and_the_writer_goes_on() {
    let (disk, mut sensor) = base();
    let ledger = start(&disk, signer()).unwrap();
    disk.fill();
    assert!(matches!(ledger.rotate(Rotation::default()), Err(ChangeError::Full { .. })));
    let record = sensor.record(1);
    let appended = ledger.append(&sensor.stream(), vec![record]).unwrap();
    disk.heal();
    assert!(ledger.wait_published(appended.size, SOON), "it was found full, and is tried again");
    assert_eq!(ledger.rotate(Rotation::default()).unwrap(), 2);
    let record = sensor.record(2);
    ledger.append(&sensor.stream(), vec![record]).unwrap();
    drop(ledger);
    assert_eq!(verify(&disk, &|_| signer()).len(), 2);
}
