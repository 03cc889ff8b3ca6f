//! What the writer of `cairn-ledger` writes, seen by the second path.
#![allow(clippy::unwrap_used, reason = "what a test is built on must be there")]

mod kit;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_ledger::writer::Ledger;
use cairn_schemas::ids::Sequence;
use cairn_schemas::record::Record;
use cairn_schemas::time::{Clock, ManualClock};
use cairn_verify::{FindingKind, Options, Verdict};
use kit::*;

/// A ledger opened at the very moment when the book's was, so that both are the same to the byte.
fn open(folder: &Path, book: &Book) -> Ledger {
    let time = Record::parse(&book.records[0]).unwrap().time;
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(time));
    Ledger::create(folder, &opened(), ledger_signer(), clock).unwrap()
}

fn append(ledger: &Ledger, bytes: &[u8]) {
    let stream = Record::parse(bytes).unwrap().stream;
    ledger.append(&stream, vec![bytes.to_vec()]).unwrap();
}

/// The releases of a book, as the hand-made ledger has them.
fn copy_releases(book: &Book, folder: &Path) {
    let by_hand = tempfile::tempdir().unwrap();
    book.write(by_hand.path());
    for file in files(by_hand.path()).into_iter().filter(|file| file.starts_with("releases/")) {
        put(folder, &file, &get(by_hand.path(), &file));
    }
}

#[test]
fn the_writer_and_the_hand_make_the_same_ledger() {
    let book = Book::long(300);
    let (written, by_hand) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ledger = open(written.path(), &book);
    book.records[1..].iter().for_each(|record| append(&ledger, record));
    ledger.close();
    copy_releases(&book, written.path());
    book.write(by_hand.path());
    for file in files(by_hand.path()).iter().filter(|file| file.starts_with("tile/") || *file == "checkpoint") {
        assert_eq!(get(written.path(), file), get(by_hand.path(), file), "{file}");
    }
    let report = verify(written.path());
    assert_eq!((&report.faults, &report.findings), (&vec![], &vec![]));
    assert_eq!(report.files.other, Vec::<String>::new());
    let mut expected = verify(by_hand.path());
    // Which checkpoints are kept, and the write-ahead log, are the writer's own business.
    expected.path.clone_from(&report.path);
    expected.files = report.files.clone();
    expected.retained_checkpoints = report.retained_checkpoints;
    assert_eq!(report, expected);
}

#[test]
fn what_the_writer_notes_is_what_streams_show() {
    let mut book = Book::begun();
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), &book);
    book.records[1..].iter().for_each(|record| append(&ledger, record));
    copy_releases(&book, folder.path());

    // Two records that never come.
    book.detect(1);
    book.detect(1);
    let after_gap = book.detect(1);
    append(&ledger, &book.records[after_gap]);
    // One that makes no sense, and another over it: the first stands.
    let mut nonsense = book.records[after_gap].clone();
    nonsense.truncate(100);
    ledger.append(&sensor(), vec![nonsense.clone()]).unwrap();
    let (next, _) = book.next(&sensor());
    book.set_next(&sensor(), next.0 + 1, cairn_schemas::digest::Digest::leaf(&nonsense));
    let second = book.detect(1);
    append(&ledger, &book.records[second]);
    book.set_next(&sensor(), next.0 + 1, cairn_schemas::digest::Digest::ZERO);
    let fork = book.detect(1);
    ledger.append(&sensor(), vec![book.records[fork].clone()]).unwrap_err();
    // A gap that ends in nonsense.
    let text = String::from_utf8(book.records[second].clone()).unwrap();
    let far = text
        .replace(&Sequence(next.0 + 1).padded(), &Sequence(next.0 + 9).padded())
        .replace("\"cut\":false", "\"cut\":0");
    ledger.append(&sensor(), vec![far.into_bytes()]).unwrap();
    ledger.close();

    let report = verify(folder.path());
    assert_eq!(report.faults, []);
    assert_eq!((report.gaps.len(), report.gaps[0].to.0 - report.gaps[0].from.0), (2, 1));
    let mut kinds: Vec<FindingKind> = report.findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_unstable();
    use FindingKind::{Fork, Gap, Rejected, Unattested};
    assert_eq!(kinds, [Gap, Gap, Fork, Rejected, Rejected, Unattested, Unattested]);
    assert_eq!((report.exit_code(false), report.exit_code(true)), (0, 1));
}

#[test]
fn a_ledger_that_goes_on_is_sound_at_every_moment() {
    let mut book = Book::begun();
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), &book);
    book.records[1..].iter().for_each(|record| append(&ledger, record));
    copy_releases(&book, folder.path());
    assert!(ledger.wait_published(cairn_schemas::ids::TreeSize(book.size()), std::time::Duration::from_secs(60)));

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..600 {
                let index = book.detect(1);
                append(&ledger, &book.records[index]);
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            let report = cairn_verify::verify(folder.path(), &Options { key: Some(the_key()), ..Options::default() });
            assert_eq!((report.verdict, &report.faults), (Verdict::Ok, &vec![]));
        }
    });
    // What the newest checkpoint does not cover waits in the log, and nowhere else.
    let report = verify(folder.path());
    assert_eq!(report.faults, []);
    assert!(report.records + report.files.wal_records <= book.size());
    ledger.close();
    let report = verify(folder.path());
    assert_eq!(report.faults, []);
    assert_eq!((report.records, report.files.wal_records), (book.size(), 0));
}

#[test]
fn records_that_were_acknowledged_and_not_published_are_counted() {
    let book = Book::begun();
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), &book);
    // The disk as a crash would leave it: everything but the newest checkpoint.
    let checkpoint = get(folder.path(), "checkpoint");
    let copy = tempfile::tempdir().unwrap();
    book.records[1..].iter().for_each(|record| append(&ledger, record));
    for file in files(folder.path()).into_iter().filter(|file| file.starts_with("wal/") || file.starts_with("tile/")) {
        // What goes on meanwhile may have moved it.
        if let Ok(bytes) = std::fs::read(folder.path().join(&file)) {
            put(copy.path(), &file, &bytes);
        }
    }
    put(copy.path(), "checkpoint", &checkpoint);
    let report = verify(copy.path());
    assert_eq!((report.faults.as_slice(), report.records), (&[][..], 1));
    assert_eq!(report.files.wal_records, book.size() - 1);
    ledger.close();
}
