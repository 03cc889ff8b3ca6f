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
    let taken = append_lines(producer, input, keep_going, None, &mut told).unwrap();
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
    let ledger = open(folder.path()).unwrap();
    let before = ledger.ledger().size();
    ledger.producer(&name("ci")).unwrap().finish(PATIENCE).unwrap();
    assert_eq!(ledger.ledger().size(), before, "nothing is signed twice");
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

/// Appends as `cairn ledger append` does.
fn append_hiding(ledger: &LocalLedger, path: &Path, blobs: Option<&Path>, text: &str) -> (Taken, Vec<DurableLine>) {
    let durable = Mutex::new(Vec::new());
    let mut told = |told: Told<'_>| {
        if let Told::Durable(lines) = told {
            durable.lock().unwrap().extend_from_slice(lines);
        }
    };
    let mut producer = ledger.producer(&name("ci")).unwrap();
    let mut hiding = Hiding::new(ledger, path).unwrap();
    hiding.blobs = blobs.map(Path::to_owned);
    let input = Box::new(Cursor::new(text.to_owned()));
    let taken = append_lines(&mut producer, input, true, Some(&mut hiding), &mut told).unwrap();
    producer.finish(PATIENCE).unwrap();
    (taken, durable.into_inner().unwrap())
}

fn personal_line(id: &str, email: &str) -> String {
    format!(
        r#"{{"type":"cairn.evidence.received.v1","id":"{id}","data":{{"user":{{"email":"{email}"}},"host":"h1"}},"personal":[{{"path":"/user/email","subject":"user-17"}}],"blobs":[{{"path":"/body","file":"report","subject":"user-17"}}]}}"#
    )
}

#[test]
fn personal_values_of_lines_are_in_the_vault_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let (path, blobs) = (folder.path().join("ledger"), folder.path().join("files"));
    std::fs::create_dir(&blobs).unwrap();
    std::fs::write(blobs.join("report"), "all about alice").unwrap();
    let ledger = open(folder.path()).unwrap();
    let lines = [personal_line("a", "alice@example.com"), personal_line("b", "alice@work.example"), line(3, None)];
    let (taken, durable) = append_hiding(&ledger, &path, Some(&blobs), &lines.join("\n"));
    assert_eq!((taken.appended, taken.refused), (3, 0));
    let record = &records(folder.path())[durable[0].recorded.place.index.0 as usize];
    let vault = ledger.vault(&path).unwrap();
    let commitment = record.data["user"]["email"].as_str().unwrap().parse().unwrap();
    assert_eq!(vault.disclosure(&commitment).unwrap().value(), "alice@example.com");
    assert_eq!(vault.keys_of("user-17").unwrap().len(), 1);
    drop(vault);
    std::fs::remove_dir_all(&blobs).unwrap();
    assert_eq!(holding(folder.path(), b"alice"), [""; 0]);

    // A repeat is known by what it says, though no two commitments are alike; and so is one that says something else.
    std::fs::create_dir(&blobs).unwrap();
    std::fs::write(blobs.join("report"), "all about alice").unwrap();
    let again = [personal_line("a", "alice@example.com"), personal_line("b", "bob@example.com")];
    let (taken, repeated) = append_hiding(&ledger, &path, Some(&blobs), &again.join("\n"));
    assert_eq!((taken.appended, taken.repeats, taken.refused), (0, 1, 1));
    assert_eq!(repeated[0].recorded, durable[0].recorded);
}

#[test]
fn a_line_takes_no_file_that_it_may_not() {
    let folder = tempfile::tempdir().unwrap();
    let (path, blobs) = (folder.path().join("ledger"), folder.path().join("files"));
    std::fs::create_dir(&blobs).unwrap();
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    let ledger = open(folder.path()).unwrap();
    for file in ["../secret", "/etc/passwd", "absent", "a/../../secret"] {
        let line = personal_line("a", "x").replace("\"report\"", &format!("\"{file}\""));
        let (taken, _) = append_hiding(&ledger, &path, Some(&blobs), &line);
        assert_eq!((taken.appended, taken.refused), (0, 1), "{file}");
    }
    let (taken, _) = append_hiding(&ledger, &path, None, &personal_line("a", "x"));
    assert_eq!((taken.appended, taken.refused), (0, 1), "no folder was named");
    assert!(!path.join("blobs").exists());
}

#[test]
fn an_erasure_is_recorded_once_wherever_it_was_interrupted() {
    use cairn_schemas::data::{ErasureReason, PrivacyErased};
    // 0: noted; 1: destroyed; 2: recorded, and not forgotten.
    for interrupted in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let lines = personal_line("a", "alice@example.com")
            .replace(r#","blobs":[{"path":"/body","file":"report","subject":"user-17"}]"#, "");
        let ledger = open(folder.path()).unwrap();
        let (taken, _) = append_hiding(&ledger, &path, None, &lines);
        assert_eq!(taken.appended, 1);
        let vault = ledger.vault(&path).unwrap();
        let keys = vault.keys_of("user-17").unwrap();
        let begun = vault.begin_erasure(&keys, ErasureReason::Request, Some("DPO-17")).unwrap();
        if interrupted > 0 {
            vault.destroy(&begun[0]).unwrap();
        }
        if interrupted > 1 {
            ledger.control().unwrap().append(vec![begun[0].draft()]).unwrap();
        }
        drop((vault, ledger));

        // The next append finishes it before it takes a line.
        let ledger = open(folder.path()).unwrap();
        append_hiding(&ledger, &path, None, &line(1, None));
        let vault = ledger.vault(&path).unwrap();
        assert!(vault.pending().unwrap().is_empty() && vault.keys_of("user-17").is_err(), "{interrupted}");
        let erased: Vec<PrivacyErased> =
            records(folder.path()).iter().filter_map(|record| record.data_as().ok()).collect();
        assert_eq!(erased.len(), 1, "{interrupted}");
        assert_eq!((&erased[0].keys, erased[0].ticket.as_deref()), (&keys, Some("DPO-17")));
        assert_eq!(ledger.finish_erasures(&vault).unwrap(), []);
    }
}

#[test]
fn erasing_takes_the_blobs_along_once_a_checkpoint_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (path, blobs) = (folder.path().join("ledger"), folder.path().join("files"));
    std::fs::create_dir(&blobs).unwrap();
    std::fs::write(blobs.join("report"), "all about alice").unwrap();
    let ledger = open(folder.path()).unwrap();
    append_hiding(&ledger, &path, Some(&blobs), &personal_line("a", "alice@example.com"));
    let vault = ledger.vault(&path).unwrap();
    let keys = vault.keys_of("user-17").unwrap();
    let reason = cairn_schemas::data::ErasureReason::Request;
    let erased = ledger.erase(&vault, &keys, reason, None).unwrap();
    assert_eq!((erased.len(), &erased[0].keys), (1, &keys));
    assert_eq!(ledger.remove_erased_blobs(&path, &erased).unwrap(), 1);
    assert!(matches!(
        ledger.erase(&vault, &keys, reason, None),
        Err(LocalError::Vault(crate::vault::VaultError::NoKey { .. }))
    ));
    let files: Vec<String> = holding(&folder.path().join("ledger.vault"), b"");
    assert_eq!(files, ["lock", "secret"]);
}

/// The files below a folder that hold these bytes.
fn holding(root: &Path, bytes: &[u8]) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                if bytes.is_empty() || content.windows(bytes.len()).any(|window| window == bytes) {
                    found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
    }
    found.sort();
    found
}
