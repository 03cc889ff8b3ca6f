use std::collections::BTreeMap;
use std::sync::Mutex;

use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::{ManualClock, Timestamp};
use cairn_schemas::types::RecordType;
use serde_json::json;

use super::*;
use crate::fixture::{Producer, at, check, opened, signer};
use crate::writer::Ledger;

/// A ledger of so many records beside the first few, about rules, controls and incidents in turn.
pub(super) fn ledger(folder: &Path, count: u64) -> (LedgerDir, TreeSize) {
    let clock = std::sync::Arc::new(ManualClock::new(at(0)));
    let path = folder.join("ledger");
    let ledger = match Ledger::open(&path, signer(), clock.clone()) {
        Ok(ledger) => ledger,
        Err(_) => Ledger::create(&path, &opened(), signer(), clock).unwrap(),
    };
    let mut control = Producer::control();
    let stream = control.stream();
    match ledger.position(&stream) {
        Some(at) => {
            control.chain =
                crate::producer::Chain::resume(stream.clone(), at.sequence.next(), at.leaf, 0, crate::fixture::at(0));
        }
        None => drop(ledger.append(&stream, vec![control.opening(None)]).unwrap()),
    }
    let mut records = Vec::new();
    for number in 0..count {
        let data =
            json!({"rule": format!("r{}", number % 3), "controls": ["AC-2", format!("C{}", number % 7)], "n": number});
        let draft = Draft { kind: RecordType::EvidenceReceived, subject: None, release: None, foreignid: None, data };
        records.push(control.chain.seal(draft, at(10 + number)).unwrap().bytes);
        if number % 100 == 99 {
            records.push(control.head());
        }
    }
    for part in records.chunks(1_000) {
        ledger.append(&stream, part.to_vec()).unwrap();
    }
    ledger.close();
    let dir = LedgerDir::open(&path).unwrap();
    let size = dir.checkpoint().unwrap().0.size;
    (dir, size)
}

fn open(folder: &Path, dir: &LedgerDir, size: TreeSize) -> Index {
    let told = Mutex::new((0, 0));
    let index =
        Index::open(&super::folder(dir.root().dir().unwrap(), 1).unwrap(), dir, "test/1", size, &|done, total| {
            let mut told = told.lock().unwrap();
            *told = (told.0.max(done), total);
        })
        .unwrap();
    let told = told.into_inner().unwrap();
    assert_eq!(told.0, index.built().records);
    assert!(folder.exists());
    index
}

pub(super) fn queries() -> Vec<Query> {
    let everything = Query::default();
    let kinds = vec![RecordType::StreamHead, RecordType::LedgerOpened];
    vec![
        everything.clone(),
        Query { kinds, ..everything.clone() },
        Query { rule: Some("r1".into()), ..everything.clone() },
        Query { rule: Some("none".into()), ..everything.clone() },
        Query { control: Some("C3".into()), rule: Some("r2".into()), ..everything.clone() },
        Query { control: Some("AC-2".into()), since: Some(at(500)), ..everything.clone() },
        Query { incident: Some("AC-2".into()), ..everything.clone() },
        Query { stream: Some(StreamName::parse("control").unwrap()), ..everything.clone() },
        Query { stream: Some(StreamName::parse("ledger").unwrap()), ..everything },
    ]
}

/// What the index finds is what a scan finds.
fn compare(index: &Index, dir: &LedgerDir) {
    let records = check(dir.root().dir().unwrap());
    for query in queries() {
        let scan: Vec<u64> =
            records.iter().enumerate().filter(|(_, r)| query.takes(r)).map(|(index, _)| index as u64).collect();
        let mut found: Vec<u64> = index.candidates(&query).map(|index| index.0).collect();
        found.retain(|index| query.takes(&records[*index as usize]));
        assert_eq!(found, scan, "{query:?}");
        let mut newest: Vec<u64> = index.candidates_newest_first(&query).map(|index| index.0).collect();
        newest.retain(|index| query.takes(&records[*index as usize]));
        newest.reverse();
        assert_eq!(newest, scan, "{query:?}");
    }
}

#[test]
fn it_finds_what_a_scan_finds_and_grows_with_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, size) = ledger(folder.path(), 700);
    let index = open(folder.path(), &dir, size);
    assert_eq!(index.built().records, size.0);
    compare(&index, &dir);
    assert_eq!(open(folder.path(), &dir, size).built(), &Built::default());

    let (dir, longer) = ledger(folder.path(), 300);
    let index = open(folder.path(), &dir, longer);
    assert_eq!((index.built().records, &index.built().refused[..]), (longer.0 - size.0, &[][..]));
    compare(&index, &dir);
    let files = std::fs::read_dir(super::folder(dir.root().dir().unwrap(), 1).unwrap()).unwrap().count();
    assert_eq!(files, 1, "the shorter one is gone");
}

#[test]
fn a_sequence_is_found_with_and_without_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, size) = ledger(folder.path(), 600);
    let index = open(folder.path(), &dir, size);
    let mut reads = 0;
    let mut find = |name: &str, sequence: u64| {
        index
            .find::<IndexError>(&StreamName::parse(name).unwrap(), Sequence(sequence), |index| {
                reads += 1;
                Ok(dir.record(index, size)?)
            })
            .unwrap()
    };
    assert_eq!(find("control", 0), Some(RecordIndex(1)));
    assert_eq!(find("control", 500), Some(RecordIndex(501)));
    assert_eq!(find("ledger", 0), Some(RecordIndex(0)));
    assert_eq!(find("control", 1_000_000), None);
    assert_eq!(find("nobody", 0), None);
    assert_eq!(reads, 3, "no number is missing, so that the first look is right");
}

#[test]
fn what_is_damaged_stale_or_of_another_ledger_is_built_again() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, size) = ledger(folder.path(), 300);
    open(folder.path(), &dir, size);
    let home = super::folder(dir.root().dir().unwrap(), 1).unwrap();
    let file = std::fs::read_dir(&home).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(97).chain([8, 11, 12, 40, 70]) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&file, bad).unwrap();
        let index = open(folder.path(), &dir, size);
        assert_eq!((index.built().records, index.built().refused.len()), (size.0, 1), "byte {at}");
        assert_eq!(std::fs::read(&file).unwrap(), good, "byte {at}");
    }
    for len in [0, 15, 16, 95, good.len() - 1] {
        std::fs::write(&file, &good[..len]).unwrap();
        assert_eq!(open(folder.path(), &dir, size).built().records, size.0, "cut at {len}");
    }
    // The same names, another history: the index of one ledger beside another.
    let other = tempfile::tempdir().unwrap();
    let (other_dir, other_size) = ledger(other.path(), 299);
    std::fs::create_dir_all(super::folder(other_dir.root().dir().unwrap(), 1).unwrap()).unwrap();
    std::fs::copy(&file, super::folder(other_dir.root().dir().unwrap(), 1).unwrap().join(file.file_name().unwrap()))
        .unwrap();
    let index = open(other.path(), &other_dir, other_size);
    assert_eq!(index.built().refused[0].1, "ahead of the checkpoint");
    let mut forged = Segment::read(good.clone(), &Digest::sha256(b"test/1")).unwrap();
    forged.root = Digest::ZERO;
    std::fs::write(&file, forged.to_bytes(&Digest::sha256(b"test/1"))).unwrap();
    assert_eq!(open(folder.path(), &dir, size).built().refused[0].1, "of another history");
    std::fs::write(&file, forged.to_bytes(&Digest::sha256(b"test/2"))).unwrap();
    assert_eq!(open(folder.path(), &dir, size).built().refused[0].1, "of another ledger");
}

#[test]
fn where_it_cannot_be_kept_it_is_made_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, size) = ledger(folder.path(), 300);
    // A file in the folder's place: root may write everywhere else.
    std::fs::write(folder.path().join("ledger.index"), "").unwrap();
    let index = open(folder.path(), &dir, size);
    assert!(index.built().unkept.as_deref().is_some_and(|reason| reason.contains("ledger.index")));
    compare(&index, &dir);
}

#[test]
fn segments_hold_what_was_put_in_at_every_density() {
    let name = "r".repeat(300);
    let mut builder = Builder::new(65_536);
    let mut expected: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for offset in 0..=u16::MAX {
        let mut rules: Vec<&str> = vec!["all"];
        if offset % 1_000 == 999 {
            rules.push("few");
        }
        if offset % 2 == 0 {
            rules.push("half");
        }
        if offset == u16::MAX {
            rules.push(&name);
        }
        for rule in &rules {
            expected.entry(rule).or_default().push(offset);
        }
        let record =
            json!({"data": {"rules": rules}, "sequence": "1", "source": "/streams/s", "time": "", "type": "t"});
        builder.push(record.to_string().as_bytes());
    }
    let segment = builder.finish(Digest::ZERO);
    let bytes = segment.to_bytes(&Digest::ZERO);
    assert!(bytes.len() < 6 * 65_536 / 8 + 1_000, "{}", bytes.len());
    let segment = Segment::read(bytes.clone(), &Digest::ZERO).unwrap();
    for (rule, offsets) in &expected {
        let query = Query { rule: Some((*rule).to_owned()), ..Query::default() };
        assert_eq!(&segment.candidates(&query).offsets(), offsets, "{rule}");
    }
    assert_eq!(Builder::resume(&segment).finish(Digest::ZERO).to_bytes(&Digest::ZERO), bytes);
    let late = Query { since: Some(Timestamp::from_nanos(u64::MAX)), ..Query::default() };
    assert_eq!(segment.candidates(&late).offsets().len(), 65_536, "a record without a time may be of any");
    assert!(Record::parse(b"{}").is_err());
}
