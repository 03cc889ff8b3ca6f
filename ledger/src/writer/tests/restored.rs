//! Volumes that cannot go on.

use cairn_schemas::data::{LedgerOpened, VolumeReason};
use ed25519_dalek::SigningKey;

use super::faults::{OPTIONS, Run};
use super::*;
use crate::disk::faulty::FaultyDisk;
use crate::endorsement::Endorsement;
use crate::fixture::{check_volume, root_signer};

fn restore_with(reason: VolumeReason) -> Restore {
    Restore { reason, note: Some("a night on call".into()), signer: signer(), endorsement: None }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let dir = crate::dir::LedgerDir::open(root).unwrap();
    let old = dir.files().unwrap().into_iter().filter(|file| !file.starts_with("volume/") && file != "lock");
    old.map(|file| (file.clone(), std::fs::read(root.join(file)).unwrap())).collect()
}

fn previous(ledger: &Ledger) -> cairn_schemas::data::PreviousVolume {
    let first = ledger.read(RecordIndex(0), 1).unwrap();
    *Record::parse(&first[0]).unwrap().data_as::<LedgerOpened>().unwrap().previous.unwrap()
}

#[test]
fn a_backup_goes_on_and_producers_that_are_ahead_leave_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (live, backup) = (folder.path().join("live"), folder.path().join("backup"));
    let ledger = create(&live);
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    drop(ledger);
    copy(&live, &backup);
    let ledger = open(&live);
    for number in 0..5 {
        let record = sensor.record(number);
        ledger.append(&sensor.stream(), vec![record]).unwrap();
    }
    drop(ledger);

    let before = files(&backup);
    let (ledger, restored) = Ledger::restore(&backup, restore_with(VolumeReason::Restored), clock()).unwrap();
    assert_eq!(files(&backup), before, "the old volume is as it was");
    assert_eq!(restored, Restored { left: 1, volume: 2, size: TreeSize(4), damaged: vec![], again: 0 });
    let said = previous(&ledger);
    assert_eq!((said.reason, said.note.as_deref()), (VolumeReason::Restored, Some("a night on call")));
    assert!(said.checkpoint.starts_with("test/1\n4\n"));
    let record = sensor.record(5);
    let appended = ledger.append(&sensor.stream(), vec![record]).unwrap();
    assert_eq!((appended.volume, appended.rejected.len()), (2, 0));
    let gap = ledger.read(RecordIndex(appended.index.0 - 1), 1).unwrap();
    let gap: StreamGap = Record::parse(&gap[0]).unwrap().data_as().unwrap();
    assert_eq!((gap.from, gap.to), (Sequence(1), Sequence(5)));
    drop(ledger);
    assert_eq!(open(&backup).volume(), 2);
    check_volume(&backup, 2, &signer());
}

#[test]
fn damage_is_left_behind_and_everything_readable_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensors = [Producer::named("sensor-1", 11, 1), Producer::named("sensor-2", 12, 2)];
    join(&ledger, &mut sensors);
    for number in 0..300 {
        for sensor in &mut sensors {
            let record = sensor.record(number);
            ledger.append(&sensor.stream(), vec![record]).unwrap();
        }
    }
    let size = ledger.size();
    drop(ledger);
    // One flipped bit in a full bundle, and the last bundle gone.
    let bundle = folder.path().join("tile/entries/000");
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[40_000] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    std::fs::remove_dir_all(folder.path().join("tile/entries/002.p")).unwrap();
    let error = Ledger::open(folder.path(), signer(), clock()).map(drop).unwrap_err();
    assert!(error.remedy().unwrap().contains("--reason damaged"), "{error}");

    let before = files(folder.path());
    let (ledger, restored) = Ledger::restore(folder.path(), restore_with(VolumeReason::Damaged), clock()).unwrap();
    assert_eq!(files(folder.path()), before);
    assert_eq!((restored.size, restored.damaged.len() as u64), (size, 1 + size.0 - 512), "{restored:?}");
    // What the last bundle said is not known: the streams go on behind what is.
    for sensor in &mut sensors {
        let record = sensor.record(1_000);
        assert!(ledger.append(&sensor.stream(), vec![record]).unwrap().rejected.is_empty());
    }
    drop(ledger);
    let records = check_volume(folder.path(), 2, &signer());
    let gaps = records.iter().filter(|bytes| Record::parse(bytes).unwrap().kind.as_str().contains("gap"));
    assert_eq!(gaps.count(), 2);
}

#[test]
fn a_checkpoint_that_does_not_hold_is_passed_over_and_what_follows_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut sensor = Producer::named("sensor-1", 11, 1);
    join(&ledger, std::slice::from_mut(&mut sensor));
    drop(ledger);
    let ledger = open(folder.path());
    let records: Vec<Vec<u8>> = (0..3).map(|number| sensor.record(number)).collect();
    ledger.append(&sensor.stream(), records.clone()).unwrap();
    drop(ledger);
    for file in ["checkpoint", "checkpoints/7"] {
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("test/1\n7\n", "test/1\n8\n")).unwrap();
    }
    let (ledger, restored) = Ledger::restore(folder.path(), restore_with(VolumeReason::Damaged), clock()).unwrap();
    assert_eq!((restored.size, restored.again), (TreeSize(4), 3));
    assert_eq!(ledger.position(&sensor.stream()).unwrap().sequence, Sequence(3));
    assert_eq!(ledger.append(&sensor.stream(), records).unwrap().volume, 2, "they are repeats");
}

#[test]
fn a_lost_key_is_replaced_with_the_roots_word_and_the_log_is_not_lost() {
    let disk = FaultyDisk::new(1);
    let mut run = Run::create(&disk).unwrap();
    let (mut control, mut sensor) = (Producer::control(), Producer::named("sensor-1", 11, 1));
    let records = vec![control.opening(None), control.seal(sensor.joined())];
    run.commit(vec![(control.stream(), records)]).unwrap();
    // Acknowledged, and in no tile.
    let records: Vec<Vec<u8>> = vec![sensor.opening(None), sensor.record(1), sensor.record(2)];
    run.commit(vec![(sensor.stream(), records.clone())]).unwrap();
    drop(run);
    disk.crash();

    let root = Arc::new(crate::store::DirStore::new(Arc::new(disk.clone()), OPTIONS.segment_len));
    let new = NoteSigner::new("test/2", SigningKey::from_bytes(&[9; 32])).unwrap();
    let lost = Restore { signer: new.clone(), ..restore_with(VolumeReason::KeyLost) };
    let refused = super::restore::restore(root.clone(), lost.clone(), clock()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("the root did not endorse it"), "{refused}");
    disk.end_process();
    let key = Endorsement::LedgerKey { key: new.verifier().clone(), second: None };
    let lost = Restore { endorsement: Some(key.sign(&root_signer()).unwrap()), ..lost };
    let (opened, restored) = super::restore::restore(root, lost, clock()).unwrap();
    assert_eq!((restored.size, restored.again), (TreeSize(1), 5), "{restored:?}");
    let ledger = Ledger::run(opened).unwrap();
    assert_eq!(ledger.position(&sensor.stream()).unwrap().sequence, Sequence(2));
    let repeat = ledger.append(&sensor.stream(), records[2..].to_vec()).unwrap();
    assert_eq!(repeat.volume, 2);
    let record = sensor.record(3);
    assert!(ledger.append(&sensor.stream(), vec![record]).unwrap().rejected.is_empty());
    drop(ledger);
    let folder = tempfile::tempdir().unwrap();
    disk.copy_to(folder.path());
    check_volume(folder.path(), 2, &new);
}

#[test]
fn what_cannot_be_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let restore = |reason| Ledger::restore(folder.path(), restore_with(reason), clock()).map(drop).unwrap_err();
    assert!(matches!(restore(VolumeReason::Damaged), OpenError::NoLedger));
    let ledger = create(folder.path());
    assert!(matches!(restore(VolumeReason::Damaged), OpenError::Locked));
    ledger.freeze("over").unwrap();
    drop(ledger);
    assert!(matches!(restore(VolumeReason::Restored), OpenError::Frozen { .. }));
    assert!(restore(VolumeReason::Rotated).to_string().contains("is rotated"));
    std::fs::remove_dir_all(folder.path().join("tile/entries")).unwrap();
    assert!(restore(VolumeReason::Damaged).to_string().contains("cannot be"), "nothing to take over");
}
