//! Ledgers in which nothing is wrong, and what is said of them.
#![allow(clippy::unwrap_used, reason = "what a test is built on must be there")]

mod kit;

use cairn_schemas::ids::{Sequence, StreamId, TreeSize};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::types::RecordType;
use cairn_verify::{EarlierReport, FaultKind, FindingKind, KeySource, Options, Verdict, render};
use kit::{Book, put, verify};

#[test]
fn a_ledger_with_everything_in_it_is_sound() {
    for size in [40, 256, 257, 511, 512, 700] {
        let folder = tempfile::tempdir().unwrap();
        let book = if size == 40 { Book::small() } else { Book::long(size) };
        assert_eq!(book.records.len(), size);
        book.write(folder.path());
        let report = verify(folder.path());
        assert_eq!(report.faults, [], "size {size}");
        assert_eq!(report.findings, [], "size {size}");
        assert_eq!(report.verdict, Verdict::Ok);
        assert_eq!((report.exit_code(false), report.exit_code(true)), (0, 0));
        assert_eq!(report.records, size as u64);
        assert_eq!(report.counts.values().sum::<u64>(), size as u64);
        assert_eq!(report.checkpoint.as_ref().unwrap().size, TreeSize(size as u64));
        assert_eq!(report.streams.len(), 4);
        assert_eq!(report.releases.iter().map(|release| release.files_hold).collect::<Vec<_>>(), [true, true]);
        assert_eq!(report.retained_checkpoints, book.retained.len() as u64);
        assert_eq!(report.key.as_ref().unwrap().source, KeySource::Given);
        assert!(render(&report).starts_with("OK: "), "{}", render(&report));
    }
}

#[test]
fn the_control_plane_decides_by_what_was_promoted() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::begun();
    book.promote(1);
    book.detect_document(1);
    book.closed().write(folder.path());
    let report = verify(folder.path());
    assert_eq!((report.faults, report.findings), (vec![], vec![]));
}

#[test]
fn without_a_key_the_origin_is_not_proven() {
    let folder = tempfile::tempdir().unwrap();
    Book::small().write(folder.path());
    let report = cairn_verify::verify(folder.path(), &Options::default());
    assert_eq!((report.verdict, report.exit_code(false)), (Verdict::Ok, 0));
    assert_eq!(report.key.as_ref().unwrap().source, KeySource::LedgerOpened);
    assert!(report.not_proven[0].starts_with("consistent; origin not proven"), "{:?}", report.not_proven);
    assert!(render(&report).contains("consistent; origin not proven"));
}

#[test]
fn what_is_not_published_yet_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    // A crash between writing tiles and publishing: larger partial tiles, and no smaller ones deleted.
    let mut book = Book::long(300);
    book.retained.retain(|size| *size <= 260);
    book.write(folder.path());
    book.cut(260).write(folder.path());
    put(folder.path(), "wal/00000000000000000000.wal", &[0; 64]);
    put(folder.path(), "lock", b"");
    let report = verify(folder.path());
    assert_eq!(report.faults, []);
    assert_eq!(report.checkpoint.as_ref().unwrap().size, TreeSize(260));
    assert_eq!((report.files.wal_files, report.files.wal_records), (1, 0));
    assert_eq!(report.files.other, Vec::<String>::new());
}

#[test]
fn partial_tiles_may_be_gone_once_the_full_one_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::long(512);
    book.retained.retain(|size| *size <= 300);
    book.write(folder.path());
    put(folder.path(), "checkpoint", &book.checkpoint(300, &kit::ledger_signer()));
    // Level 1 has no full tile, so its partial one of that size must be there.
    put(folder.path(), "tile/1/000.p/1", &kit::get(folder.path(), "tile/1/000.p/2")[..32]);
    let report = verify(folder.path());
    assert_eq!(report.faults, []);
}

#[test]
fn a_containment_that_was_carried_into_another_stream_names_what_it_named_before() {
    let mut book = Book::small();
    let release = book.reference(2);
    let (old, new) = (StreamId::new(&kit::node("sensor-1"), [7; 16]), StreamId::new(&kit::node("sensor-1"), [8; 16]));
    book.open(&new);
    book.load(&new, 2);
    // Numbers 5 and 6 of a stream that the ledger did not take; a third that it names there is nothing.
    let carried = |draft: Draft, number: u64| draft.foreignid(format!("{old}/{}", Sequence(number).padded()));
    let data = |book: &Book, kind| Record::parse(&book.records[book.find(kind)]).unwrap().data;
    let detection = data(&book, RecordType::DetectionRaised);
    let mut request = data(&book, RecordType::ContainmentRequested);
    request["detection"] = Sequence(5).padded().into();
    let mut outcome = data(&book, RecordType::ContainmentFinished);
    outcome["request"] = Sequence(6).padded().into();
    book.add(&new, carried(kit::decision(RecordType::DetectionRaised, detection, release), 5));
    book.add(&new, carried(kit::decision(RecordType::ContainmentRequested, request.clone(), release), 6));
    book.add(&new, carried(kit::decision(RecordType::ContainmentFinished, outcome, release), 7));
    book.head(&new);
    let folder = tempfile::tempdir().unwrap();
    book.write(folder.path());
    let report = verify(folder.path());
    assert_eq!(report.faults, []);
    assert!(!report.findings.iter().any(|finding| finding.kind == FindingKind::ContainmentUnfinished));

    request["detection"] = Sequence(4).padded().into();
    book.add(&new, carried(kit::decision(RecordType::ContainmentRequested, request, release), 8));
    book.head(&new);
    book.write(folder.path());
    assert_eq!(kit::kinds(&verify(folder.path())), [FaultKind::ContainmentUnpaired]);
}

#[test]
fn other_files_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    Book::small().write(folder.path());
    for file in ["notes.txt", "tile/0/readme", "releases/1/extra", "releases/notes", "checkpoints/x", "backup/a"] {
        put(folder.path(), file, b"x");
    }
    let report = verify(folder.path());
    assert_eq!(report.verdict, Verdict::Ok);
    let expected = ["backup/", "checkpoints/x", "notes.txt", "releases/1/extra", "releases/notes", "tile/0/readme"];
    assert_eq!(report.files.other, expected);
}

#[test]
fn an_earlier_report_is_the_beginning_of_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::long(300);
    book.cut(200).write(folder.path());
    let json = verify(folder.path()).to_json();
    book.write(folder.path());
    let since = EarlierReport::parse(json.as_bytes()).unwrap();
    let options = Options { key: Some(kit::the_key()), since: Some(since), ..Options::default() };
    let report = cairn_verify::verify(folder.path(), &options);
    assert_eq!(report.faults, []);
}

#[test]
fn where_there_is_no_ledger_nothing_can_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let report = cairn_verify::verify(&absent, &Options::default());
    assert_eq!((report.verdict, report.exit_code(false)), (Verdict::CouldNotTell, 2));
    assert!(render(&report).starts_with("COULD NOT TELL: "), "{}", render(&report));

    put(folder.path(), "file", b"x");
    assert_eq!(cairn_verify::verify(&folder.path().join("file"), &Options::default()).exit_code(false), 2);
    assert_eq!(cairn_verify::verify(folder.path(), &Options::default()).exit_code(false), 2);

    Book::small().write(&folder.path().join("data/ledger"));
    let report = cairn_verify::verify(&folder.path().join("data"), &Options::default());
    assert_eq!(report.exit_code(false), 2);
    assert!(report.reason.unwrap().ends_with("/data/ledger"));
}

#[test]
fn a_key_that_is_none_is_said_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    Book::small().write(folder.path());
    let report = cairn_verify::verify(folder.path(), &Options { key: Some("x".into()), ..Options::default() });
    assert_eq!(report.exit_code(false), 2);
    assert!(report.reason.unwrap().contains("the key to verify with cannot be used"));
}

#[test]
fn progress_ends_at_the_end() {
    use std::sync::{Arc, Mutex};
    let folder = tempfile::tempdir().unwrap();
    Book::long(300).write(folder.path());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let progress: Box<dyn Fn(cairn_verify::Progress) + Send + Sync> =
        Box::new(move |progress| into.lock().unwrap().push((progress.done, progress.total)));
    let report = cairn_verify::verify(folder.path(), &Options { progress: Some(progress), ..Options::default() });
    assert_eq!(report.verdict, Verdict::Ok);
    assert_eq!(*seen.lock().unwrap(), [(0, 300), (256, 300), (300, 300)]);
}

#[test]
fn the_text_says_what_was_checked_and_what_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::small();
    book.detect(2);
    book.write(folder.path());
    put(folder.path(), "notes.txt", b"x");
    let report = verify(folder.path());
    let root = book.root(41);
    let text = render(&report).replace(&report.path, "LEDGER").replace(&root.to_string(), "ROOT");
    let expected = [
        "OK: LEDGER",
        "",
        "checkpoint  example.com/cairn/1  size 41  root ROOT",
        &format!("key         {}, given by you", kit::the_key()),
        "kept        2 earlier checkpoints",
        "",
        "records     41",
    ];
    assert_eq!(text.lines().take(expected.len()).collect::<Vec<_>>(), expected, "{text}");
    for line in [
        "  cairn.admission.decided.v1      2",
        "streams     4",
        "  sensor-1.02020202020202020202020202020202  sensor  24 records to number 23, 1 unattested",
        "gaps        0",
        "releases    2",
        "findings (no faults; --strict makes them so)",
        "  unattested  sensor-1.02020202020202020202020202020202  record 40: records after the newest signed head: 1",
        "other files, no part of a ledger",
        "  notes.txt",
        "not proven",
        "  when things happened: records carry their producers' clocks",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "it is read without colour");

    std::fs::remove_file(folder.path().join("tile/0/000.p/41")).unwrap();
    let text = render(&verify(folder.path())).replace(&report.path, "LEDGER");
    let lines: Vec<&str> = text.lines().take(4).collect();
    let fault = "  tile_missing  tile/0/000.p/41  record 0: the file is missing";
    assert_eq!(lines, ["FAILED: LEDGER: 1 fault", "", "faults", fault], "{text}");
}
