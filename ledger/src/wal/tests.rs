use super::*;
use crate::disk::faulty::FaultyDisk;

const SMALL: u64 = 4096;

fn origin() -> Digest {
    Digest::sha256(b"test/1")
}

fn record(index: u64) -> Vec<u8> {
    format!("record {index} {}", "x".repeat((index % 50) as usize)).into_bytes()
}

fn room(records: &[Vec<u8>]) -> u64 {
    records.iter().map(|record| (record.len() + FRAME_HEADER_LEN) as u64).sum()
}

/// Appends the records `range` as one group.
fn append(wal: &mut Wal, range: std::ops::Range<u64>, covered: u64) -> Result<(), WalError> {
    let first = RecordIndex(range.start);
    let records: Vec<Vec<u8>> = range.map(record).collect();
    wal.reserve(room(&records), first, covered)?;
    wal.append(first, records.iter().map(Vec::as_slice))
}

fn replay(disk: &FaultyDisk, next: u64) -> Result<Vec<Vec<u8>>, WalError> {
    let mut replay = Replay::new(disk, origin(), RecordIndex(next))?;
    let mut records = Vec::new();
    while let Some(segment) = replay.segment()? {
        records.extend(segment.read(disk)?.iter().map(|record| record.to_vec()));
    }
    Ok(records)
}

fn started(disk: &FaultyDisk, next: u64) -> Wal {
    Wal::start(Arc::new(disk.clone()), origin(), SMALL, RecordIndex(next)).unwrap()
}

#[test]
fn what_was_appended_comes_back_after_any_crash() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let mut wal = started(&disk, 3);
        for group in [3..4, 4..9, 9..30, 30..31, 31..80] {
            append(&mut wal, group, 0).unwrap();
        }
        disk.crash();
        assert_eq!(replay(&disk, 3).unwrap(), (3..80).map(record).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(replay(&disk, 40).unwrap(), (40..80).map(record).collect::<Vec<_>>());
        assert_eq!(replay(&disk, 80).unwrap(), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn a_torn_group_is_cut_off_whole() {
    for seed in 0..300 {
        let disk = FaultyDisk::new(seed);
        let mut wal = started(&disk, 0);
        append(&mut wal, 0..10, 0).unwrap();
        // The write is done and the sync is not: any of its sectors may be lost.
        disk.fail_after(1, false);
        assert!(append(&mut wal, 10..40, 0).is_err());
        disk.crash();
        let records = replay(&disk, 0).unwrap();
        assert!(records.len() == 10 || records.len() == 40, "seed {seed}: {}", records.len());
    }
}

/// Reads the log to its end and goes on with it.
fn gone_on(disk: &FaultyDisk, next: u64) -> (Vec<Vec<u8>>, Result<Wal, WalError>) {
    let mut replay = Replay::new(disk, origin(), RecordIndex(next)).unwrap();
    let mut records = Vec::new();
    while let Some(segment) = replay.segment().unwrap() {
        let segment = segment.read(disk).unwrap();
        records.extend(segment.iter().map(|record| record.to_vec()));
    }
    (records, replay.go_on(Arc::new(disk.clone()), SMALL))
}

#[test]
fn a_log_goes_on_behind_a_torn_group_crash_after_crash() {
    for seed in 0..400 {
        let disk = FaultyDisk::new(seed);
        let mut wal = started(&disk, 0);
        append(&mut wal, 0..10, 0).unwrap();
        let mut acknowledged = 10;
        for round in 0..6 {
            // A group of which any sectors may be there. Its indexes are given away again to groups of another size.
            disk.fail_after(1, seed % 2 == 0);
            assert!(append(&mut wal, acknowledged..acknowledged + 8 + 5 * (round % 3), 0).is_err());
            if (seed + round) % 3 == 0 {
                disk.end_process()
            } else {
                disk.crash()
            }
            // Recovery is cut short as well, and done again.
            let first = replay(&disk, 0).unwrap();
            disk.fail_after((seed + round) % 9, round % 2 == 0);
            drop(gone_on(&disk, 0));
            if seed % 5 == 0 {
                disk.end_process()
            } else {
                disk.crash()
            }
            let (records, log) = gone_on(&disk, 0);
            wal = log.unwrap();
            assert!(
                records.len() >= acknowledged as usize && records.len() <= first.len(),
                "seed {seed}, round {round}"
            );
            disk.crash();
            assert_eq!(replay(&disk, 0).unwrap(), records, "seed {seed}, round {round}: what was read survives");
            acknowledged = records.len() as u64;
            append(&mut wal, acknowledged..acknowledged + 1 + round, 0).unwrap();
            acknowledged += 1 + round;
        }
        drop(wal);
        disk.crash();
        assert_eq!(replay(&disk, 0).unwrap(), (0..acknowledged).map(record).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn segments_of_the_process_before_stay_until_they_are_covered() {
    let disk = FaultyDisk::new(3);
    let mut wal = started(&disk, 0);
    (0..400).for_each(|index| append(&mut wal, index..index + 1, 0).unwrap());
    drop(wal);
    disk.end_process();
    let before = disk.list(WAL_FOLDER).unwrap();
    let (records, log) = gone_on(&disk, 250);
    let mut wal = log.unwrap();
    assert_eq!(records, (250..400).map(record).collect::<Vec<_>>());
    assert!(before.iter().all(|name| disk.list(WAL_FOLDER).unwrap().contains(name)));
    append(&mut wal, 400..401, 250).unwrap();
    let groundwork = wal.groundwork();
    for covered in [250, 300, 399, 401] {
        groundwork(covered);
        assert_eq!(replay(&disk, covered).unwrap(), (covered..401).map(record).collect::<Vec<_>>(), "{covered}");
        assert_eq!(replay(&disk.copy(1), covered).unwrap().len() as u64, 401 - covered);
    }
    assert_eq!(disk.list(WAL_FOLDER).unwrap(), ["00000000000000000399.wal"], "the last group and what followed");
    disk.crash();
    assert_eq!(replay(&disk, 401).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_segment_that_goes_past_the_next_one_or_does_not_reach_it_is_damaged() {
    let disk = FaultyDisk::new(3);
    let mut wal = started(&disk, 0);
    for group in [0..4, 4..8, 8..9] {
        append(&mut wal, group, 0).unwrap();
    }
    drop(wal);
    for first in [6, 9] {
        let disk = disk.copy(first);
        append(&mut started(&disk, first), first..first + 2, 0).unwrap();
        let read = replay(&disk, 0);
        assert_eq!(read.is_ok(), first == 9, "{read:?}");
    }
    // A segment is named when its first group is durable: that was never torn.
    disk.tamper(&segment_path(RecordIndex(0)), |bytes| bytes[HEADER_LEN..].fill(0));
    assert!(matches!(replay(&disk, 0), Err(WalError::Damaged { .. })));
}

#[test]
fn every_damaged_byte_of_an_acknowledged_group_is_noticed() {
    let disk = FaultyDisk::new(0);
    let mut wal = started(&disk, 0);
    append(&mut wal, 0..3, 0).unwrap();
    append(&mut wal, 3..5, 0).unwrap();
    append(&mut wal, 5..6, 0).unwrap();
    let path = segment_path(RecordIndex(0));
    let end = HEADER_LEN as u64 + room(&(0..5).map(record).collect::<Vec<_>>());
    for at in 0..end as usize {
        disk.tamper(&path, |bytes| bytes[at] ^= 0x10);
        let refused = replay(&disk, 0);
        assert!(matches!(refused, Err(WalError::Damaged { .. } | WalError::Header { .. })), "byte {at}: {refused:?}");
        disk.tamper(&path, |bytes| bytes[at] ^= 0x10);
    }
    // In the last group damage and tearing look the same; the caller compares with what was published.
    disk.tamper(&path, |bytes| bytes[end as usize + 30] ^= 1);
    assert_eq!(replay(&disk, 0).unwrap().len(), 5);
    disk.tamper(&path, |bytes| bytes.truncate(100));
    assert!(matches!(replay(&disk, 0), Err(WalError::Header { .. })));
}

#[test]
fn segments_follow_each_other_and_are_used_again() {
    let disk = FaultyDisk::new(7);
    let mut wal = started(&disk, 0);
    for index in 0..400 {
        append(&mut wal, index..index + 1, index.saturating_sub(30)).unwrap();
    }
    let segments = disk.list(WAL_FOLDER).unwrap();
    assert!(segments.len() <= SPARE_SEGMENTS_MAX + 3, "{segments:?}");
    assert_eq!(replay(&disk, 370).unwrap(), (370..400).map(record).collect::<Vec<_>>());
    disk.crash();
    assert_eq!(replay(&disk, 370).unwrap(), (370..400).map(record).collect::<Vec<_>>());
    let missing = replay(&disk, 0).unwrap_err();
    assert!(matches!(missing, WalError::Missing { expected: RecordIndex(0), .. }), "{missing}");
    clear(&disk).unwrap();
    assert_eq!(disk.list(WAL_FOLDER).unwrap(), Vec::<String>::new());
}

#[test]
fn a_segment_made_ready_beside_the_commits_is_the_next() {
    let disk = FaultyDisk::new(7);
    let mut wal = started(&disk, 0);
    let groundwork = wal.groundwork();
    for index in 0..400_u64 {
        let calls = disk.calls();
        append(&mut wal, index..index + 1, index.saturating_sub(30)).unwrap();
        // A write and a sync; with a segment's first group its name as well. Making or emptying one is not among them.
        assert!(disk.calls() - calls <= 4, "record {index}: {} calls", disk.calls() - calls);
        groundwork((index + 1).saturating_sub(30));
    }
    disk.crash();
    assert_eq!(replay(&disk, 370).unwrap(), (370..400).map(record).collect::<Vec<_>>());
    drop(wal);
    let calls = disk.calls();
    groundwork(400);
    assert_eq!(disk.calls(), calls, "the log is gone");
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = FaultyDisk::new(7);
    let mut wal = started(&disk, 0);
    (0..300).for_each(|index| append(&mut wal, index..index + 1, 0).unwrap());
    let mut segments = disk.list(WAL_FOLDER).unwrap();
    segments.sort();
    assert!(segments.len() >= 3);
    disk.remove(&format!("{WAL_FOLDER}/{}", segments[1])).unwrap();
    assert!(matches!(replay(&disk, 0), Err(WalError::Damaged { .. })));
}

#[test]
fn a_crash_at_any_call_loses_nothing_acknowledged() {
    // Groups are appended, and everything older than 40 records counts as covered, so that segments are made and used again.
    let run = |disk: &FaultyDisk| {
        let mut acknowledged = 0;
        let result = Wal::start(Arc::new(disk.clone()), origin(), SMALL, RecordIndex(0)).and_then(|mut wal| {
            for index in 0..250 {
                append(&mut wal, index..index + 1, index.saturating_sub(40))?;
                acknowledged = index + 1;
            }
            Ok(())
        });
        (acknowledged, result)
    };
    let calls = {
        let disk = FaultyDisk::new(0);
        run(&disk).1.unwrap();
        disk.calls()
    };
    for call in 0..calls {
        for done in [false, true] {
            let disk = FaultyDisk::new(call);
            disk.fail_after(call, done);
            let (acknowledged, result) = run(&disk);
            assert!(result.is_err());
            disk.crash();
            let from = acknowledged.saturating_sub(41);
            let records = replay(&disk, from).unwrap_or_else(|error| panic!("call {call}, done {done}: {error}"));
            assert!(records.len() as u64 >= acknowledged - from, "call {call}, done {done}");
            assert!(records.len() as u64 <= acknowledged - from + 1, "call {call}, done {done}");
            (from..).zip(records).for_each(|(index, bytes)| assert_eq!(bytes, record(index)));
        }
    }
}

#[test]
fn a_full_disk_refuses_a_segment_and_changes_nothing() {
    let disk = FaultyDisk::new(0);
    let mut wal = started(&disk, 0);
    let mut index = 0;
    disk.fill();
    let error = loop {
        match append(&mut wal, index..index + 1, 0) {
            Ok(()) => index += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, WalError::Io { source, .. } if crate::disk::is_full(source)), "{error}");
    disk.heal();
    append(&mut wal, index..index + 1, 0).unwrap();
    assert_eq!(replay(&disk, 0).unwrap().len() as u64, index + 1);
}

#[test]
fn a_group_at_its_limit_fits_and_one_past_it_is_a_bug() {
    let disk = FaultyDisk::new(0);
    let mut wal = Wal::start(Arc::new(disk), origin(), SEGMENT_LEN, RecordIndex(0)).unwrap();
    wal.reserve(GROUP_LEN_MAX, RecordIndex(0), 0).unwrap();
    let past = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = wal.reserve(GROUP_LEN_MAX + 1, RecordIndex(0), 0);
    }));
    assert!(past.is_err());
}

#[test]
fn a_header_and_a_frame_are_these_bytes() {
    let header = encode_header(&origin(), 4096, RecordIndex(7));
    assert_eq!(
        hex::encode(header),
        format!("434149524e57414c00000001{}00000000000000070000000000001000{}", hex::encode(&header[12..16]), origin())
    );
    let mut frame = Vec::new();
    encode_frame(&mut frame, 7, 0, 1, b"hello");
    assert_eq!(
        hex::encode(&frame),
        format!("00000005{}0000000000000007000000000000000168656c6c6f", hex::encode(&frame[4..8]))
    );
}

#[test]
fn segments_are_read_in_any_order() {
    let disk = FaultyDisk::new(0);
    let mut wal = started(&disk, 0);
    for group in 0..40 {
        append(&mut wal, group * 10..group * 10 + 10, 0).unwrap();
    }
    drop(wal);
    let mut log = Replay::new(&disk, origin(), RecordIndex(25)).unwrap();
    let mut unread: Vec<Unread> = std::iter::from_fn(|| log.segment().unwrap()).collect();
    assert!(unread.len() > 3);
    unread.reverse();
    let mut parts: Vec<Vec<Found>> = unread.into_iter().map(|segment| segment.read(&disk).unwrap()).collect();
    parts.reverse();
    let records: Vec<Vec<u8>> = parts.iter().flatten().map(|record| record.to_vec()).collect();
    assert_eq!(records, (25..400).map(record).collect::<Vec<_>>());
    let mut wal = log.go_on(Arc::new(disk.clone()), SMALL).unwrap();
    append(&mut wal, 400..402, 0).unwrap();
    disk.crash();
    assert_eq!(replay(&disk, 0).unwrap(), (0..402).map(record).collect::<Vec<_>>());
}
