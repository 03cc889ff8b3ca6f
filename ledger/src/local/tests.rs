use std::io::Cursor;
use std::sync::Mutex;

use cairn_schemas::data::StreamHead;
use cairn_schemas::ids::RecordIndex;
use cairn_schemas::types::RecordType;

use super::lines::{DurableLine, Taken, Told, append_lines};
use super::*;
use crate::dir::LedgerDir;
use crate::fixture::clock;
use crate::random::SystemRandom;

const PATIENCE: Duration = Duration::from_secs(30);

fn open(folder: &Path) -> Result<LocalLedger, LocalError> {
    LocalLedger::open_or_create(&folder.join("ledger"), clock(), Arc::new(SystemRandom))
}

fn name(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn line(number: u64, id: Option<&str>) -> String {
    let id = id.map(|id| format!(",\"id\":\"{id}\"")).unwrap_or_default();
    format!(r#"{{"type":"cairn.evidence.received.v1","subject":"s","data":{{"n":{number}}}{id}}}"#)
}

fn append(producer: &mut LocalProducer, text: &str, keep_going: bool) -> (Taken, Vec<DurableLine>) {
    let durable = Mutex::new(Vec::new());
    let mut told = |told: Told<'_>| {
        if let Told::Durable(lines) = told {
            durable.lock().unwrap().extend_from_slice(lines);
        }
    };
    let input = Box::new(Cursor::new(text.to_owned()));
    let taken = append_lines(producer, input, keep_going, &mut told).unwrap();
    (taken, durable.into_inner().unwrap())
}

fn records(folder: &Path) -> Vec<Record> {
    let dir = LedgerDir::open(&folder.join("ledger")).unwrap();
    let size = dir.checkpoint().unwrap().0.size;
    dir.records(0..size.0, size).map(|item| Record::parse(&item.unwrap().1).unwrap()).collect()
}

#[test]
fn a_producer_joins_once_and_goes_on_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path()).unwrap();
    assert!(ledger.was_created());
    let mut producer = ledger.producer(&name("ci")).unwrap();
    let (taken, durable) = append(&mut producer, &format!("{}\n\n{}", line(1, None), line(2, None)), false);
    assert_eq!((taken.appended, taken.repeats, taken.refused), (2, 0, 0));
    assert_eq!(durable.iter().map(|line| line.line).collect::<Vec<_>>(), [1, 3]);
    let checkpoint = producer.finish(PATIENCE).unwrap();
    assert_eq!(checkpoint.size, ledger.ledger().size());
    let stream = producer.stream().clone();
    drop((producer, ledger));

    let ledger = open(folder.path()).unwrap();
    assert!(!ledger.was_created());
    let mut producer = ledger.producer(&name("ci")).unwrap();
    assert_eq!(producer.stream(), &stream);
    let (_, more) = append(&mut producer, &line(3, None), false);
    assert_eq!(more[0].recorded.sequence, Sequence(durable[1].recorded.sequence.0 + 2), "a head stands between");
    producer.finish(PATIENCE).unwrap();
    drop((producer, ledger));
    let records = records(folder.path());
    let joins = records.iter().filter(|record| record.kind == RecordType::NodeJoined).count();
    assert_eq!(joins, 1);
    let last = records.last().unwrap();
    let head: StreamHead = last.data_as().unwrap();
    assert_eq!(last.stream, stream);
    assert_eq!(head.sequence, more[0].recorded.sequence);
    for line in durable.iter().chain(&more) {
        let record = &records[line.recorded.place.index.0 as usize];
        assert_eq!((record.stream.clone(), record.sequence), (stream.clone(), line.recorded.sequence));
        assert_eq!(Digest::leaf(&record.to_bytes().unwrap()), line.recorded.leaf);
    }
}

#[test]
fn a_line_with_an_id_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path()).unwrap();
    let mut producer = ledger.producer(&name("ci")).unwrap();
    let text = [line(1, Some("a")), line(2, Some("b")), line(1, Some("a")), line(3, None)].join("\n");
    let (taken, first) = append(&mut producer, &text, false);
    assert_eq!((taken.appended, taken.repeats), (3, 1));
    assert_eq!(first[2].recorded, first[0].recorded);
    producer.finish(PATIENCE).unwrap();
    drop((producer, ledger));

    let ledger = open(folder.path()).unwrap();
    let mut producer = ledger.producer(&name("ci")).unwrap();
    let (taken, again) = append(&mut producer, &text, false);
    assert_eq!((taken.appended, taken.repeats), (1, 3), "the line without an id is another record");
    assert_eq!(again[1].recorded, first[1].recorded);
    let other = [line(4, None), line(5, Some("a")), line(6, None)].join("\n");
    let (taken, durable) = append(&mut producer, &other, false);
    let (number, fault) = taken.stopped.unwrap();
    assert_eq!((number, durable.len()), (2, 1));
    assert!(fault.to_string().starts_with("/id: \"a\" is the id of record 1/"), "{fault}");
    let (taken, durable) = append(&mut producer, &other, true);
    assert_eq!((taken.stopped, taken.refused, durable.len()), (None, 1, 2));
    let (taken, _) = append(&mut producer, &line(7, Some("c")), false);
    assert_eq!(taken.appended, 1, "a fault changes nothing for what follows");
}

#[test]
fn what_stood_before_a_bad_line_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path()).unwrap();
    let mut producer = ledger.producer(&name("ci")).unwrap();
    let long = format!(r#"{{"type":"cairn.evidence.received.v1","data":{{"a":"{}"}}}}"#, "x".repeat(65_535));
    for bad in ["{", &long, r#"{"type":"cairn.ledger.opened.v1","data":{}}"#] {
        let size = ledger.ledger().size();
        let (taken, durable) = append(&mut producer, &[&line(1, None), bad, &line(2, None)].join("\n"), false);
        assert_eq!((taken.appended, taken.stopped.unwrap().0, durable.len()), (1, 2, 1));
        assert_eq!(durable[0].recorded.place.index, RecordIndex(size.0));
        assert_eq!(ledger.ledger().size(), TreeSize(size.0 + 1));
    }
    let (taken, durable) = append(&mut producer, &line(3, None), false);
    assert_eq!((taken.appended, durable[0].recorded.sequence), (1, Sequence(4)));
}

#[test]
fn many_lines_are_heads_apart_one_behind_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path()).unwrap();
    let mut producer = ledger.producer(&name("ci")).unwrap();
    let text: String = (0..10_000).map(|number| line(number, None) + "\n").collect();
    let (taken, durable) = append(&mut producer, &text, false);
    assert_eq!((taken.appended, durable.len()), (10_000, 10_000));
    producer.finish(PATIENCE).unwrap();
    drop((producer, ledger));
    let records = records(folder.path());
    for line in &durable {
        let record = &records[line.recorded.place.index.0 as usize];
        assert_eq!(record.data["n"], line.line - 1);
        assert_eq!(record.sequence, line.recorded.sequence);
    }
    let heads =
        records.iter().filter(|record| record.kind == RecordType::StreamHead && record.data["sequence"].is_string());
    assert!(heads.count() >= 3);
}

#[test]
fn names_that_are_not_its_own_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path()).unwrap();
    assert!(matches!(ledger.producer(&name("control")), Err(LocalError::NameTaken { .. })));
    assert!(matches!(ledger.producer(&name("ledger")), Err(LocalError::NameTaken { .. })));
    drop(ledger.producer(&name("ci")).unwrap());
    let key = ledger.keys().path().join("local/ci.key");
    let good = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(ledger.producer(&name("ci")), Err(LocalError::KeyLost { .. })));
    std::fs::write(&key, "00".repeat(32)).unwrap();
    assert!(matches!(ledger.producer(&name("ci")), Err(LocalError::KeyLost { .. })));
    std::fs::write(&key, good).unwrap();
    ledger.producer(&name("ci")).unwrap();
}

#[test]
fn a_ledger_is_not_made_where_it_must_not_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    assert!(matches!(
        LocalLedger::open(&path, clock(), Arc::new(SystemRandom)),
        Err(LocalError::Open(OpenError::NoLedger))
    ));
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("notes.txt"), "mine").unwrap();
    assert!(matches!(open(folder.path()), Err(LocalError::NotALedger { name, .. }) if name == "notes.txt"));
    std::fs::remove_file(path.join("notes.txt")).unwrap();
    let ledger = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(LocalError::Open(OpenError::Locked))));
    drop(ledger.producer(&name("ci")).unwrap());
    drop(ledger);
    std::fs::remove_dir_all(&path).unwrap();
    assert!(matches!(open(folder.path()), Err(LocalError::Gone { .. })), "its keys were used");
    std::fs::write(folder.path().join("fleet.yaml"), "").unwrap();
    assert!(matches!(open(folder.path()), Err(LocalError::FleetFirst { .. })));
}
