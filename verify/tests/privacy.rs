//! Values behind commitments, blobs, erasure: what a verification says of them, and each way to lie about them.
#![allow(clippy::unwrap_used, reason = "what a test is built on must be there")]

mod kit;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_ledger::blob;
use cairn_ledger::local::lines::append_lines;
use cairn_ledger::local::{Hiding, LocalLedger};
use cairn_ledger::random::SystemRandom;
use cairn_ledger::vault::{BlobPath, PersonalPath, Vault, VaultDir, VaultError};
use cairn_ledger::writer::Rotation;
use cairn_schemas::commitment::{Commitment, Disclosure, KeyId};
use cairn_schemas::data::{ErasureReason, EvidenceReceived, PrivacyErased};
use cairn_schemas::digest::Digest;
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::references::{self, BlobReference, Reference};
use cairn_schemas::time::{ManualClock, Timestamp};
use cairn_verify::{Disclosures, FaultKind, FindingKind, Opened, Options, Report, Verdict};
use kit::*;
use serde_json::{Value, json};

/// A ledger with personal values and blobs of two people, and the vault beside it.
struct Story {
    _folder: tempfile::TempDir,
    ledger: PathBuf,
    vault: PathBuf,
    book: Book,
    /// The record with Alice's values, and the one with Bob's.
    alice: usize,
    bob: usize,
}

struct Dir(VaultDir);

impl Disclosures for Dir {
    fn open(&self, commitment: &Commitment) -> Opened {
        match self.0.disclosure(commitment) {
            Ok(disclosure) => Opened::Disclosed { name: disclosure.name().to_owned() },
            Err(VaultError::NoKey { .. } | VaultError::NoDisclosure { .. }) => Opened::Absent,
            Err(error @ VaultError::Io { .. }) => Opened::Unreadable(error.to_string()),
            Err(error) => Opened::Wrong(error.to_string()),
        }
    }

    fn has_key(&self, key: KeyId) -> Result<bool, String> {
        self.0.has_key(key).map_err(|error| error.to_string())
    }

    fn erasing(&self) -> Result<Vec<KeyId>, String> {
        self.0.erasing().map_err(|error| error.to_string())
    }
}

fn now() -> Timestamp {
    Timestamp::from_nanos(1_800_000_000_000_000_000)
}

fn evidence(data: Value) -> Draft {
    let Value::Object(data) = data else { panic!("an object") };
    Draft::new(&EvidenceReceived(data))
}

impl Story {
    fn new() -> Story {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, vault) = (folder.path().join("ledger"), folder.path().join("ledger.vault"));
        let file = folder.path().join("report");
        let mut book = Book::begun();
        let keeper = Vault::open(&vault, Arc::new(SystemRandom)).unwrap();
        let mut place = |name: &str, email: &str| {
            fs::write(&file, format!("a report about {name}")).unwrap();
            let mut data = json!({"user": {"email": email, "name": name}, "host": "h1"});
            let personal =
                ["/user/email", "/user/name"].map(|path| PersonalPath { path: path.into(), subject: name.into() });
            let blobs = [BlobPath { path: "/body".into(), file: file.clone(), subject: Some(name.into()) }];
            keeper.seal_payload(&ledger, &mut data, &personal, &blobs, None, now()).unwrap();
            book.add(&control(), evidence(data))
        };
        let (alice, bob) = (place("alice", "alice@example.com"), place("bob", "bob@example.com"));
        Story { _folder: folder, ledger, vault, book, alice, bob }
    }

    fn write(&self) -> &Path {
        self.write_book(&self.book.clone().closed())
    }

    fn write_book(&self, book: &Book) -> &Path {
        let _ = fs::remove_dir_all(self.ledger.join("tile"));
        book.write(&self.ledger);
        &self.ledger
    }

    fn check(&self, vault: bool) -> Report {
        self.write();
        let vault = vault.then(|| Arc::new(Dir(VaultDir::new(&self.vault))) as Arc<dyn Disclosures>);
        let options = Options { key: Some(the_key()), vault, ..Options::default() };
        cairn_verify::verify(&self.ledger, &options)
    }

    fn keeper(&self) -> Vault {
        Vault::open(&self.vault, Arc::new(SystemRandom)).unwrap()
    }

    /// As `cairn ledger erase` does.
    fn erase(&mut self, subject: &str, reason: ErasureReason) -> (KeyId, usize) {
        let keeper = self.keeper();
        let keys = keeper.keys_of(subject).unwrap();
        let erasures = keeper.begin_erasure(&keys, reason, Some("DPO-17")).unwrap();
        keeper.destroy(&erasures[0]).unwrap();
        let index = self.book.add(&control(), erasures[0].draft());
        keeper.recorded(&erasures[0]).unwrap();
        (keys[0], index)
    }

    fn references(&self, index: usize) -> (Vec<Commitment>, BlobReference) {
        let record = Record::parse(&self.book.records[index]).unwrap();
        let (mut commitments, mut blobs) = (Vec::new(), Vec::new());
        for (_, reference) in references::find(&record.data) {
            match reference {
                Reference::Commitment(commitment) => commitments.push(commitment),
                Reference::Blob(reference) => blobs.push(reference),
                Reference::Malformed(reason) => panic!("{reason}"),
            }
        }
        (commitments, blobs.pop().unwrap())
    }

    fn blob_file(&self, index: usize) -> PathBuf {
        self.ledger.join(blob::path(&self.references(index).1.digest))
    }
}

fn one(report: &Report, kind: FaultKind, index: usize) {
    assert_eq!(kinds(report), [kind], "{:#?}", report.faults);
    assert_eq!(report.faults[0].index.unwrap().0, index as u64, "{:#?}", report.faults);
    assert_eq!((report.verdict, report.exit_code(false)), (Verdict::Failed, 1));
}

#[test]
fn values_and_blobs_that_are_there() {
    let story = Story::new();
    let report = story.check(false);
    assert_eq!((report.verdict, &report.findings[..]), (Verdict::Ok, &[][..]), "{:#?}", report.faults);
    assert_eq!((report.privacy.commitments, report.privacy.erased_commitments), (4, 0));
    assert_eq!((report.privacy.blobs.present, report.privacy.blobs.unreferenced), (2, 0));
    assert!(report.files.other.is_empty(), "{:?}", report.files.other);
    assert!(report.not_proven.iter().any(|line| line.contains("4 values behind commitments")));
    let report = story.check(true);
    assert_eq!(report.verdict, Verdict::Ok, "{:#?}", report.faults);
    assert_eq!(report.privacy.vault.as_ref().unwrap().opened, 4);
    let text = cairn_verify::render(&report);
    assert!(text.contains("\npersonal    4 commitments, 4 opened with the vault\n"), "{text}");
    assert!(text.contains("\nblobs       2\n"), "{text}");
}

#[test]
fn what_was_erased_is_told_and_everything_still_verifies() {
    let mut story = Story::new();
    let before = verify(story.write_book(&story.book));
    let (key, index) = story.erase("alice", ErasureReason::Request);
    // What was signed before is still the beginning.
    let since = Some(cairn_verify::EarlierReport::from(&before));
    let report = cairn_verify::verify(story.write_book(&story.book), &Options { since, ..Options::default() });
    assert_eq!((report.verdict, report.privacy.erased_commitments), (Verdict::Ok, 2), "{:#?}", report.faults);
    for with_vault in [false, true] {
        let report = story.check(with_vault);
        assert_eq!((report.verdict, &report.findings[..]), (Verdict::Ok, &[][..]), "{:#?}", report.faults);
        let erased = &report.privacy.erased[0];
        assert_eq!((erased.key, erased.index.0), (key, index as u64));
        assert_eq!((erased.commitments, erased.blobs, report.privacy.erased_commitments), (2, 1, 2));
        assert_eq!((report.privacy.blobs.present, report.privacy.blobs.erased), (1, 1));
        let text = cairn_verify::render(&report);
        assert!(
            text.contains(&format!("  key {key}  erased by record {index}, on request: 2 values, 1 blob\n")),
            "{text}"
        );
    }
    // The ciphertext may go too: nobody can read it.
    fs::remove_file(story.blob_file(story.alice)).unwrap();
    assert_eq!(story.check(true).verdict, Verdict::Ok);
}

#[test]
fn an_end_of_retention_is_told_apart_from_a_request() {
    let mut story = Story::new();
    story.erase("bob", ErasureReason::Expired);
    fs::remove_file(story.blob_file(story.bob)).unwrap();
    let report = story.check(true);
    assert_eq!(report.verdict, Verdict::Ok, "{:#?}", report.faults);
    assert_eq!((report.privacy.blobs.expired, report.privacy.blobs.erased), (1, 0));
    assert!(cairn_verify::render(&report).contains(", expired: 2 values, 1 blob\n"));
}

#[test]
fn nothing_of_an_erased_value_is_left_anywhere() {
    let mut story = Story::new();
    story.erase("alice", ErasureReason::Request);
    story.write();
    let mut folders = vec![story.ledger.clone(), story.vault.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(5).any(|window| window == b"alice");
            assert!(!found, "{} holds her name", path.display());
        }
    }
}

#[test]
fn a_blob_that_is_missing_cut_or_changed() {
    let story = Story::new();
    let file = story.blob_file(story.alice);
    let bytes = fs::read(&file).unwrap();
    let name = blob::path(&story.references(story.alice).1.digest);

    fs::remove_file(&file).unwrap();
    let report = story.check(false);
    one(&report, FaultKind::BlobMissing, story.alice);
    assert_eq!((report.faults[0].file.as_ref(), report.privacy.blobs.missing), (Some(&name), 1));

    for spoiled in [bytes[..bytes.len() - 1].to_vec(), [&bytes[..], b"x"].concat(), Vec::new(), {
        let mut flipped = bytes.clone();
        flipped[60] ^= 1;
        flipped
    }] {
        fs::write(&file, spoiled).unwrap();
        let report = story.check(false);
        one(&report, FaultKind::BlobWrong, story.alice);
        assert_eq!((report.faults[0].file.as_ref(), report.privacy.blobs.wrong), (Some(&name), 1));
    }

    // Somebody else's bytes under its name.
    fs::copy(story.blob_file(story.bob), &file).unwrap();
    one(&story.check(false), FaultKind::BlobWrong, story.alice);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    one(&story.check(false), FaultKind::BlobWrong, story.alice);
}

#[test]
fn wrong_bytes_are_a_fault_even_where_nobody_could_read_them() {
    let mut story = Story::new();
    story.erase("alice", ErasureReason::Request);
    fs::write(story.blob_file(story.alice), b"x").unwrap();
    one(&story.check(false), FaultKind::BlobWrong, story.alice);
}

#[test]
fn a_blob_is_what_its_record_says_and_every_record_says_the_same() {
    let refuse = |change: &dyn Fn(&mut BlobReference), kind| {
        let mut story = Story::new();
        let (_, mut reference) = story.references(story.alice);
        change(&mut reference);
        // The record alone is not enough to tell: a ledger with one lie, consistently signed.
        story.book.edit(story.alice, |record| record.data["body"] = reference.to_value());
        story.book.rechain();
        // Heads were signed over what stood there before; only what is said of the blob counts here.
        let report = story.check(false);
        let seen = report.faults.iter().find(|fault| fault.kind == kind).unwrap_or_else(|| panic!("{report:#?}"));
        assert_eq!(seen.index.unwrap().0, story.alice as u64);
    };
    refuse(&|reference| reference.size += 1, FaultKind::BlobWrong);
    refuse(&|reference| reference.key = KeyId([9; 16]), FaultKind::BlobWrong);

    let mut story = Story::new();
    let (_, mut reference) = story.references(story.alice);
    reference.size += 1;
    let index = story.book.add(&control(), evidence(json!({"again": reference.to_value()})));
    one(&story.check(false), FaultKind::BlobReference, index);
    let mut story = Story::new();
    let index = story.book.add(&control(), evidence(json!({"body": {"$blob": "x"}})));
    one(&story.check(false), FaultKind::BlobReference, index);
}

#[test]
fn files_that_no_record_refers_to_are_told() {
    let story = Story::new();
    story.write();
    let left = story.ledger.join("blobs/00").join("00".repeat(32));
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, b"x").unwrap();
    fs::write(story.ledger.join("blobs/notes"), b"x").unwrap();
    let report = story.check(false);
    assert_eq!((report.verdict, report.privacy.blobs.unreferenced), (Verdict::Ok, 2));
    assert_eq!(report.files.other, [format!("blobs/00/{}", "00".repeat(32)), "blobs/notes".to_owned()]);
}

#[test]
fn a_vault_that_lost_a_value_is_seen() {
    let story = Story::new();
    let (commitments, _) = story.references(story.alice);
    let folder = story.vault.join("disclosures").join(commitments[0].key.to_string());
    fs::remove_file(folder.join(commitments[0].digest.to_string())).unwrap();
    let report = story.check(true);
    one(&report, FaultKind::DisclosureMissing, story.alice);
    assert!(report.faults[0].reason.contains("1 commitment under key"), "{}", report.faults[0].reason);
    assert_eq!(story.check(false).verdict, Verdict::Ok, "nobody but its owner can tell");
    fs::remove_file(story.vault.join("keys").join(commitments[0].key.to_string())).unwrap();
    let report = story.check(true);
    one(&report, FaultKind::DisclosureMissing, story.alice);
    assert!(report.faults[0].reason.contains("2 commitments under key"), "{}", report.faults[0].reason);
}

#[test]
fn another_value_opens_no_commitment() {
    let story = Story::new();
    let (commitments, _) = story.references(story.alice);
    let place = |commitment: &Commitment| {
        story.vault.join("disclosures").join(commitment.key.to_string()).join(commitment.digest.to_string())
    };
    // The disclosure of another value of hers.
    let own = fs::read(place(&commitments[0])).unwrap();
    fs::copy(place(&commitments[1]), place(&commitments[0])).unwrap();
    one(&story.check(true), FaultKind::DisclosureWrong, story.alice);
    // Her own value with another salt, kept by somebody who has the key: it opens another commitment.
    fs::write(place(&commitments[0]), own).unwrap();
    assert_eq!(story.check(true).verdict, Verdict::Ok);
    let resalted = Disclosure::new([1; 16], "/user/email", &json!("alice@example.com")).unwrap();
    let keeper = story.keeper();
    keeper.keep(&[(commitments[0].key, resalted.clone())]).unwrap();
    let other = resalted.commitment(commitments[0].key);
    fs::rename(place(&other), place(&commitments[0])).unwrap();
    one(&story.check(true), FaultKind::DisclosureWrong, story.alice);
}

#[test]
fn a_commitment_that_was_moved_names_where_it_was() {
    let mut story = Story::new();
    let (commitments, _) = story.references(story.alice);
    let index = story.book.add(&control(), evidence(json!({"user": {"name": commitments[0]}})));
    one(&story.check(true), FaultKind::DisclosureWrong, index);
    assert!(story.check(true).faults[0].reason.contains("at /user/name was that of /user/email"));
}

#[test]
fn a_commitment_swapped_between_records_is_a_changed_record() {
    let mut story = Story::new();
    story.write();
    let (hers, his) = (story.references(story.alice).0, story.references(story.bob).0);
    let text = String::from_utf8(story.book.records[story.alice].clone()).unwrap();
    story.book.records[story.alice] = text.replace(&hers[0].to_string(), &his[0].to_string()).into_bytes();
    // Only the bundle: who has no key can change no more than that.
    let folder = tempfile::tempdir().unwrap();
    story.book.clone().closed().tiles_to(folder.path());
    fs::copy(folder.path().join("tile/entries/000.p").read_dir().unwrap().next().unwrap().unwrap().path(), {
        let mut parts = story.ledger.join("tile/entries/000.p").read_dir().unwrap();
        parts.next().unwrap().unwrap().path()
    })
    .unwrap();
    let options = Options { key: Some(the_key()), ..Options::default() };
    let report = cairn_verify::verify(&story.ledger, &options);
    assert!(kinds(&report).contains(&FaultKind::RecordWrong), "{:#?}", report.faults);
    assert!(report.faults.iter().any(|fault| fault.index.is_some_and(|index| index.0 == story.alice as u64)));
}

#[test]
fn an_erasure_that_was_interrupted_is_no_fault_and_is_told() {
    let story = Story::new();
    let keeper = story.keeper();
    let keys = keeper.keys_of("alice").unwrap();
    let begun = keeper.begin_erasure(&keys, ErasureReason::Request, None).unwrap();
    for _ in 0..2 {
        let report = story.check(true);
        assert_eq!(report.verdict, Verdict::Ok, "{:#?}", report.faults);
        let kinds: Vec<FindingKind> = report.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [FindingKind::ErasureUnrecorded]);
        keeper.destroy(&begun[0]).unwrap();
    }
    keeper.recorded(&begun[0]).unwrap();
    one(&story.check(true), FaultKind::DisclosureMissing, story.alice);
}

#[test]
fn a_key_that_was_kept_is_seen() {
    let mut story = Story::new();
    let key = story.references(story.alice).0[0].key;
    let file = story.vault.join("keys").join(key.to_string());
    let copy = fs::read(&file).unwrap();
    let (_, index) = story.erase("alice", ErasureReason::Request);
    fs::write(&file, copy).unwrap();
    let report = story.check(true);
    one(&report, FaultKind::KeyNotErased, index);
    assert_eq!(story.check(false).verdict, Verdict::Ok, "nobody but its owner can tell");
}

#[test]
fn who_is_not_the_control_plane_erases_nothing() {
    let mut story = Story::new();
    let key = story.references(story.alice).0[0].key;
    fs::remove_file(story.blob_file(story.alice)).unwrap();
    let erased = PrivacyErased { keys: vec![key], reason: ErasureReason::Request, ticket: None, by: None };
    let index = story.book.add(&sensor(), Draft::new(&erased));
    let report = story.check(false);
    assert_eq!(kinds(&report), [FaultKind::Role, FaultKind::BlobMissing], "{:#?}", report.faults);
    assert!(report.faults.iter().any(|fault| fault.kind == FaultKind::Role && fault.index.unwrap().0 == index as u64));
    assert_eq!(report.privacy.erased, []);
}

#[test]
fn a_key_that_is_used_after_it_was_destroyed_is_a_finding() {
    let mut story = Story::new();
    let (key, _) = story.erase("alice", ErasureReason::Request);
    let late = Commitment { key, digest: Digest::sha256(b"late") };
    let index = story.book.add(&control(), evidence(json!({"user": late})));
    let report = story.check(true);
    assert_eq!(report.verdict, Verdict::Ok, "{:#?}", report.faults);
    assert_eq!(report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [FindingKind::ErasedKeyUsed]);
    assert_eq!(report.findings[0].index.unwrap().0, index as u64);
    // The same erasure recorded twice, as after a crash, is one.
    let (keys, reason) = (vec![key], ErasureReason::Request);
    story.book.add(&control(), Draft::new(&PrivacyErased { keys, reason, ticket: None, by: None }));
    assert_eq!(story.check(false).privacy.erased.len(), 1);
}

#[test]
fn a_commitment_may_stand_where_a_token_may_and_a_name_may_not() {
    let commitment = Commitment { key: KeyId([1; 16]), digest: Digest::sha256(b"x") };
    for (user, good) in [(commitment.to_string(), true), ("alice".to_owned(), false)] {
        let mut book = Book::begun();
        let index = book.decide(1);
        let text = String::from_utf8(book.records[index].clone()).unwrap();
        book.records[index] = text.replace(&a_token("user", "alice").to_string(), &user).into_bytes();
        let folder = tempfile::tempdir().unwrap();
        book.write(folder.path());
        let report = verify(folder.path());
        assert_eq!(kinds(&report).is_empty(), good, "{:#?}", report.faults);
        assert_eq!(report.privacy.commitments, u64::from(good));
    }
}

#[test]
fn an_erasure_in_a_later_volume_counts_for_what_stood_before() {
    let folder = tempfile::tempdir().unwrap();
    let (path, files) = (folder.path().join("ledger"), folder.path().join("files"));
    fs::create_dir(&files).unwrap();
    fs::write(files.join("report"), "about alice").unwrap();
    let clock = Arc::new(ManualClock::new(now()));
    let ledger = LocalLedger::open_or_create(&path, clock, Arc::new(SystemRandom)).unwrap();
    let mut producer = ledger.producer(&node("hr")).unwrap();
    let mut hiding = Hiding::new(&ledger, &path).unwrap();
    hiding.blobs = Some(files);
    let line = json!({
        "type": "cairn.evidence.received.v1", "data": {"email": "alice@example.com"},
        "personal": [{"path": "/email", "subject": "user-17"}],
        "blobs": [{"path": "/body", "file": "report", "subject": "user-17"}],
    });
    let input = Box::new(std::io::Cursor::new(line.to_string()));
    assert_eq!(append_lines(&mut producer, input, false, Some(&mut hiding), &mut |_| {}).unwrap().appended, 1);
    drop(hiding);
    assert_eq!(ledger.ledger().rotate(Rotation::default()).unwrap(), 2);

    let check = || {
        let vault = Arc::new(Dir(VaultDir::new(&folder.path().join("ledger.vault"))));
        let report = cairn_verify::verify(&path, &Options { vault: Some(vault), ..Options::default() });
        assert_eq!(report.verdict, Verdict::Ok, "{:#?}", report.faults);
        report.privacy
    };
    assert_eq!((check().commitments, check().blobs.present), (1, 1));
    let vault = ledger.vault(&path).unwrap();
    let keys = vault.keys_of("user-17").unwrap();
    let erased = ledger.erase(&vault, &keys, ErasureReason::Request, None).unwrap();
    assert_eq!(erased[0].place.volume, 2);
    for removed in [1, 0] {
        let told = check();
        assert_eq!((told.erased[0].volume, told.erased[0].index), (2, erased[0].place.index));
        assert_eq!((told.erased_commitments, told.blobs.erased, told.blobs.missing), (1, 1, 0));
        assert_eq!(ledger.remove_erased_blobs(&path, &erased).unwrap(), removed);
    }
    // Without the volume that says so, nobody can tell that from a loss.
    ledger.close();
    fs::remove_dir_all(path.join("volume")).unwrap();
    let report = cairn_verify::verify(&path, &Options::default());
    assert!(kinds(&report).contains(&FaultKind::BlobMissing), "{:#?}", report.faults);
    assert_eq!(report.faults.iter().find(|fault| fault.kind == FaultKind::BlobMissing).unwrap().volume, 1);
}

/// Anybody on a machine can start a program with any argument: that must not make a ledger look as if it had lost something.
#[test]
fn a_text_that_reads_like_a_commitment_is_none_where_none_may_stand() {
    let mut story = Story::new();
    let forged = Commitment { key: KeyId([1; 16]), digest: Digest::sha256(b"x") };
    let index = story.book.detect(1);
    story.book.edit(index, |record| {
        record.data["process"]["arguments"] = json!([forged]);
        record.data["fields"]["proc.cmdline"] = json!(forged);
    });
    // The head of the sensor's stream comes after it, over what stands there now.
    let digest = Digest::leaf(&story.book.records[index]);
    let (next, _) = story.book.next(&sensor());
    story.book.set_next(&sensor(), next.0, digest);
    let report = story.check(true);
    assert_eq!((report.verdict, report.privacy.commitments), (Verdict::Ok, 4), "{:#?}", report.faults);
}
