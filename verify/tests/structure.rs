//! What a structural check finds, what it does not look at, and that it says so.
#![allow(clippy::unwrap_used, reason = "what a test is built on must be there")]

mod kit;

use std::path::Path;

use cairn_schemas::types::RecordType;
use cairn_verify::{FaultKind, Options, Report, Verdict, render};
use kit::{Book, get, kinds, put, the_key};

fn structure(folder: &Path) -> Report {
    cairn_verify::verify(folder, &Options { key: Some(the_key()), structure: true, ..Options::default() })
}

#[test]
fn a_sound_ledger_is_sound_and_nothing_is_claimed_of_its_records() {
    for size in [40, 256, 257, 700] {
        let folder = tempfile::tempdir().unwrap();
        let book = if size == 40 { Book::small() } else { Book::long(size) };
        book.write(folder.path());
        let report = structure(folder.path());
        assert_eq!((report.faults.as_slice(), report.verdict), (&[][..], Verdict::Ok));
        assert_eq!((report.records, report.retained_checkpoints), (size as u64, book.retained.len() as u64));
        assert!(report.structure_only && report.counts.is_empty() && report.streams.is_empty());
        assert!(report.not_proven[0].starts_with("anything that records say"), "{:?}", report.not_proven);
        assert!(render(&report).starts_with("OK, as far as hashes go: "), "{}", render(&report));
        assert!(
            report.to_json().contains("\"structure_only\": true")
                || report.to_json().contains("\"structure_only\":true")
        );
        let full = kit::verify(folder.path());
        assert!(!full.structure_only && !full.to_json().contains("structure_only"));
    }
}

#[test]
fn a_changed_byte_is_found_in_every_file_of_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = Book::long(700);
    book.retained.clear();
    book.write(folder.path());
    for file in kit::files(folder.path()).into_iter().filter(|file| file.starts_with("tile/") || file == "checkpoint") {
        let good = get(folder.path(), &file);
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        put(folder.path(), &file, &bad);
        let (report, full) = (structure(folder.path()), kit::verify(folder.path()));
        assert_ne!(report.verdict, Verdict::Ok, "{file}");
        // The same words as a full check has for it; that one may have more to say.
        for fault in &report.faults {
            assert!(full.faults.contains(fault), "{file}: {fault:?}");
        }
        put(folder.path(), &file, &good);
    }
}

#[test]
fn what_only_records_tell_is_not_seen() {
    // Whoever holds the ledger's key rewrites a record, and everything above it.
    let mut book = Book::small();
    let index = book.find(RecordType::DetectionRaised);
    book.edit(index, |record| record.data["rule"] = "Something else".into());
    let folder = tempfile::tempdir().unwrap();
    book.write(folder.path());
    assert_eq!(structure(folder.path()).verdict, Verdict::Ok);
    assert_eq!(kinds(&kit::verify(folder.path())).first(), Some(&FaultKind::PrevDigest));
}
