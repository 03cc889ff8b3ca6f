//! Bytes changed blindly: whatever is done to a ledger's files, it is refused, or it is the same ledger.
#![allow(clippy::unwrap_used, reason = "what a test is built on must be there")]

mod kit;

use std::path::Path;
use std::sync::LazyLock;

use cairn_verify::{Report, Verdict};
use kit::*;
use proptest::prelude::*;

type Files = Vec<(String, Vec<u8>)>;

/// A sound ledger's files, and its report.
static SOUND: LazyLock<(Files, Report)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    Book::long(270).write(folder.path());
    let report = verify(folder.path());
    assert_eq!((report.verdict, &report.findings), (Verdict::Ok, &vec![]));
    let files = files(folder.path());
    (
        files.into_iter().map(|file| (get(folder.path(), &file), file)).map(|(bytes, file)| (file, bytes)).collect(),
        report,
    )
});

fn write(folder: &Path) {
    SOUND.0.iter().for_each(|(file, bytes)| put(folder, file, bytes));
}

/// What the ledger says: everything but where it lies and what lies beside it.
fn says(report: &Report) -> impl PartialEq + std::fmt::Debug + use<> {
    let Report { checkpoint, records, counts, streams, gaps, releases, .. } = report.clone();
    (checkpoint, records, counts, streams, gaps, releases)
}

#[test]
fn every_file_is_guarded_from_its_first_byte_to_its_last() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    for (file, bytes) in &SOUND.0 {
        // Every byte of a file would take minutes; first, last and a spread of odd distance take seconds.
        let step = (bytes.len() / 12).max(1) | 1;
        for at in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            put(folder.path(), file, &changed);
            let report = verify(folder.path());
            assert_eq!(report.exit_code(false), 1, "{file}, byte {at}");
            let named = report.faults.iter().any(|fault| fault.file.as_ref() == Some(file));
            assert!(named, "{file}, byte {at}: {:#?}", report.faults);
        }
        put(folder.path(), file, bytes);
    }
}

#[test]
fn every_file_is_needed_and_has_one_length() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    // A kept checkpoint may be thinned out; that is the one kind of file that nothing else points to.
    for (file, bytes) in SOUND.0.iter().filter(|(file, _)| !file.starts_with("checkpoints/")) {
        std::fs::remove_file(folder.path().join(file)).unwrap();
        assert_eq!(verify(folder.path()).exit_code(false), 1, "{file} deleted");
        for len in [0, bytes.len() / 2, bytes.len() - 1] {
            put(folder.path(), file, &bytes[..len]);
            assert_eq!(verify(folder.path()).exit_code(false), 1, "{file} cut to {len}");
        }
        put(folder.path(), file, &[bytes, &b"\n"[..]].concat());
        assert_eq!(verify(folder.path()).exit_code(false), 1, "{file} with a byte more");
        put(folder.path(), file, bytes);
    }
    assert_eq!(verify(folder.path()).verdict, Verdict::Ok);
}

/// What is done to a file.
#[derive(Debug, Clone)]
enum Mutation {
    Flip {
        at: usize,
        bits: u8,
    },
    Cut {
        len: usize,
    },
    Insert {
        at: usize,
        bytes: Vec<u8>,
    },
    Remove {
        at: usize,
        count: usize,
    },
    Delete,
    /// Another file's bytes in its place.
    Copy {
        from: usize,
    },
}

fn any_mutation() -> impl Strategy<Value = (usize, Mutation)> {
    let mutation = prop_oneof![
        (any::<usize>(), 1..=255_u8).prop_map(|(at, bits)| Mutation::Flip { at, bits }),
        any::<usize>().prop_map(|len| Mutation::Cut { len }),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Mutation::Insert { at, bytes }),
        (any::<usize>(), 1..40_usize).prop_map(|(at, count)| Mutation::Remove { at, count }),
        Just(Mutation::Delete),
        any::<usize>().prop_map(|from| Mutation::Copy { from }),
    ];
    (any::<usize>(), mutation)
}

fn mutate(folder: &Path, file: &str, mutation: &Mutation) {
    let path = folder.join(file);
    let Ok(mut bytes) = std::fs::read(&path) else { return };
    let len = bytes.len();
    match mutation {
        Mutation::Delete => return std::fs::remove_file(path).unwrap(),
        Mutation::Copy { from } => bytes.clone_from(&SOUND.0[from % SOUND.0.len()].1),
        Mutation::Insert { at, bytes: inserted } => {
            drop(bytes.splice(at % (len + 1)..at % (len + 1), inserted.iter().copied()))
        }
        _ if len == 0 => {}
        Mutation::Flip { at, bits } => bytes[at % len] ^= bits,
        Mutation::Cut { len: to } => bytes.truncate(to % len),
        Mutation::Remove { at, count } => drop(bytes.drain(at % len..(at % len + count).min(len))),
    }
    put(folder, file, &bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_refused_is_the_same_ledger(mutations in prop::collection::vec(any_mutation(), 1..4)) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        for (file, mutation) in &mutations {
            mutate(folder.path(), &SOUND.0[file % SOUND.0.len()].0, mutation);
        }
        let report = verify(folder.path());
        if report.verdict == Verdict::Ok {
            prop_assert_eq!(says(&report), says(&SOUND.1));
        }
        // Whatever it is, it can be told.
        prop_assert!(!cairn_verify::render(&report).is_empty());
        prop_assert!(serde_json::from_str::<Report>(&report.to_json()).is_ok_and(|read| read == report));
    }

    #[test]
    fn any_files_are_told_about(
        checkpoint in prop::collection::vec(any::<u8>(), 0..200),
        bundle in prop::collection::vec(any::<u8>(), 0..400),
        tile in prop::collection::vec(any::<u8>(), 0..100),
        size in any::<u64>(),
        signed in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = if signed {
            let (size, root) = (cairn_schemas::ids::TreeSize(size), cairn_schemas::digest::Digest::sha256(&checkpoint));
            let origin = ORIGIN.to_owned();
            cairn_ledger::checkpoint::Checkpoint { origin, size, root }.sign(&ledger_signer()).unwrap()
        } else {
            checkpoint
        };
        put(folder.path(), "checkpoint", &checkpoint);
        put(folder.path(), "tile/entries/000.p/3", &bundle);
        put(folder.path(), "tile/0/000.p/3", &tile);
        prop_assert_eq!(verify(folder.path()).exit_code(false), 1);
    }
}
