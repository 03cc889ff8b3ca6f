//! The vault over a disk that fails at any call and forgets what was not synced.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_schemas::commitment::{Commitment, Disclosure, KeyId};
use cairn_schemas::data::{ErasureReason, PrivacyErased};
use cairn_schemas::digest::Digest;
use cairn_schemas::references::{self, Reference};
use cairn_schemas::time::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::disk::Disk;
use crate::disk::faulty::FaultyDisk;
use crate::random::{Random, SystemRandom};

/// Numbers that look random and are the same in every run.
struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        let number = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let drawn = Digest::sha256(&number);
        bytes.copy_from_slice(&drawn.as_bytes()[..bytes.len()]);
        Ok(())
    }
}

fn random() -> Arc<dyn Random> {
    Arc::new(Counted(AtomicU64::new(0)))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000 + seconds * 1_000_000_000)
}

fn on(disk: &FaultyDisk) -> Vault {
    Vault::open_on(Arc::new(disk.clone()), random()).unwrap()
}

fn disclosure(number: u8) -> Disclosure {
    Disclosure::new([number; 16], "/user/email", &json!(format!("alice-{number}@example.com"))).unwrap()
}

/// A vault with two subjects, three values of the first and one of the second.
fn filled(disk: &FaultyDisk) -> (KeyId, KeyId, Vec<Commitment>, Commitment) {
    let vault = on(disk);
    let alice = vault.key_for("alice", None, at(0)).unwrap();
    let bob = vault.key_for("bob", None, at(0)).unwrap();
    let hers: Vec<(KeyId, Disclosure)> = (1..=3).map(|number| (alice, disclosure(number))).collect();
    vault.keep(&hers).unwrap();
    vault.keep(&[(bob, disclosure(9))]).unwrap();
    let commitments = hers.iter().map(|(key, disclosure)| disclosure.commitment(*key)).collect();
    (alice, bob, commitments, disclosure(9).commitment(bob))
}

#[test]
fn what_was_kept_is_read_again_after_any_crash() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let (alice, _, hers, his) = filled(&disk);
        disk.crash();
        let vault = on(&disk);
        assert_eq!(vault.keys_of("alice").unwrap(), [alice], "seed {seed}");
        for (commitment, number) in hers.iter().zip(1..) {
            assert_eq!(vault.disclosure(commitment).unwrap(), disclosure(number), "seed {seed}");
        }
        assert_eq!(vault.disclosure(&his).unwrap(), disclosure(9));
        assert_eq!(vault.key_for("alice", None, at(1)).unwrap(), alice, "one key for a subject");
        assert_eq!(vault.disclosures(alice).unwrap().len(), 3);
    }
}

#[test]
fn a_disclosure_belongs_to_its_commitment_and_key() {
    let disk = FaultyDisk::new(0);
    let (alice, bob, hers, his) = filled(&disk);
    // Swapped under one key: the commitment is associated data.
    let two = disk.read(&disclosure_path(&hers[1])).unwrap();
    disk.create(&disclosure_path(&hers[0])).unwrap().write_at(0, &two).unwrap();
    let vault = on(&disk);
    assert!(matches!(vault.disclosure(&hers[0]), Err(VaultError::WrongDisclosure { .. })));
    assert!(vault.disclosure(&hers[1]).is_ok());
    // Another key's, and another salt's.
    let foreign = Commitment { key: alice, digest: his.digest };
    assert!(matches!(vault.disclosure(&foreign), Err(VaultError::NoDisclosure { .. })));
    let resalted = Disclosure::new([200; 16], "/user/email", disclosure(9).value()).unwrap().commitment(bob);
    assert!(matches!(vault.disclosure(&resalted), Err(VaultError::NoDisclosure { .. })));
    // Cut, at every length.
    let whole = disk.read(&disclosure_path(&his)).unwrap();
    for len in 0..whole.len() {
        disk.create(&disclosure_path(&his)).unwrap().write_at(0, &whole[..len]).unwrap();
        assert!(matches!(vault.disclosure(&his), Err(VaultError::WrongDisclosure { .. })), "cut at {len}");
    }
}

/// Does an erasure as `cairn ledger erase` does; `record` is the append.
fn erase(vault: &Vault, record: &mut dyn FnMut(&Erasure)) -> Result<(), VaultError> {
    let mut erasures = vault.pending()?;
    if erasures.is_empty() {
        erasures = vault.begin_erasure(&vault.keys_of("alice")?, ErasureReason::Request, Some("DPO-17"))?;
    }
    for erasure in erasures {
        vault.destroy(&erasure)?;
        record(&erasure);
        vault.recorded(&erasure)?;
    }
    Ok(())
}

#[test]
fn an_erasure_that_is_interrupted_anywhere_is_not_begun_or_is_finished() {
    let calls = {
        let disk = FaultyDisk::new(0);
        filled(&disk);
        let before = disk.calls();
        erase(&on(&disk), &mut |_| {}).unwrap();
        disk.calls() - before
    };
    assert!(calls > 20, "{calls} calls: overwriting, removing, syncing");
    let (mut untouched, mut finished) = (0, 0);
    for call in 0..calls {
        for (seed, done) in [(1, false), (2, false), (3, true), (4, true)] {
            let case = format!("call {call}, seed {seed}, done {done}");
            let disk = FaultyDisk::new(seed);
            let (alice, _, hers, his) = filled(&disk);
            let vault = on(&disk);
            let mut recorded = Vec::new();
            disk.fail_after(call, done);
            let result = erase(&vault, &mut |erasure| recorded.push(erasure.foreignid()));
            drop(vault);
            disk.crash();

            // A record stands only where nothing can be read any more, by whoever reads the disk as it is.
            let vault = on(&disk);
            let readable = hers.iter().filter(|commitment| vault.disclosure(commitment).is_ok()).count();
            if !recorded.is_empty() {
                assert_eq!(readable, 0, "{case}: recorded, and readable");
            }
            let pending = vault.pending().unwrap();
            if pending.is_empty() && recorded.is_empty() {
                // It did not begin: everything is as it was.
                assert!(result.is_err(), "{case}");
                assert_eq!((readable, vault.keys_of("alice").unwrap()), (3, vec![alice]), "{case}");
                untouched += 1;
            } else {
                // It is finished by the next run, under the same name.
                erase(&vault, &mut |erasure| recorded.push(erasure.foreignid()))
                    .or_else(|error| match error {
                        // Finished before the crash; there is nothing left to do.
                        VaultError::NoSubject => Ok(()),
                        error => Err(error),
                    })
                    .unwrap();
                recorded.dedup();
                assert_eq!(recorded.len(), 1, "{case}");
                finished += 1;
                gone(&disk, &vault, alice, &hers);
            }
            assert_eq!(vault.disclosure(&his).unwrap(), disclosure(9), "{case}: somebody else's value");
        }
    }
    assert!(untouched > 0 && finished > untouched, "{untouched} and {finished}");
}

fn gone(disk: &FaultyDisk, vault: &Vault, key: KeyId, commitments: &[Commitment]) {
    assert!(!vault.has_key(key).unwrap() && vault.pending().unwrap().is_empty());
    assert!(matches!(vault.keys_of("alice"), Err(VaultError::NoSubject)));
    for commitment in commitments {
        assert!(matches!(vault.disclosure(commitment), Err(VaultError::NoKey { .. })));
        assert!(disk.read(&disclosure_path(commitment)).is_err());
    }
    // A subject that comes back gets another key.
    assert_ne!(vault.key_for("alice", None, at(9)).unwrap(), key);
}

#[test]
fn an_erasure_says_what_it_did() {
    let disk = FaultyDisk::new(0);
    let (alice, ..) = filled(&disk);
    let vault = on(&disk);
    let [erasure] = &vault.begin_erasure(&[alice, alice], ErasureReason::Expired, Some("T-1")).unwrap()[..] else {
        panic!("one erasure");
    };
    let data: PrivacyErased = serde_json::from_value(erasure.draft().data).unwrap();
    assert_eq!((data.keys, data.reason, data.ticket), (vec![alice], ErasureReason::Expired, Some("T-1".into())));
    assert_eq!(erasure.draft().foreignid.unwrap(), erasure.foreignid());
    assert_eq!(vault.pending().unwrap(), std::slice::from_ref(erasure));
    vault.destroy(erasure).unwrap();
    vault.destroy(erasure).unwrap();
    vault.recorded(erasure).unwrap();
    vault.recorded(erasure).unwrap();
    let again = vault.begin_erasure(&[alice], ErasureReason::Request, None);
    assert!(matches!(again, Err(VaultError::NoKey { key }) if key == alice));
}

#[test]
fn one_record_names_as_many_keys_as_it_may() {
    use cairn_schemas::data::ERASED_KEYS_MAX;
    let disk = FaultyDisk::new(0);
    let vault = on(&disk);
    let keys: Vec<KeyId> = (0..=ERASED_KEYS_MAX).map(|_| vault.key_for_blob(None, at(0)).unwrap()).collect();
    let begun = vault.begin_erasure(&keys, ErasureReason::Request, None).unwrap();
    assert_eq!(begun.iter().map(|erasure| erasure.keys().len()).collect::<Vec<_>>(), [ERASED_KEYS_MAX, 1]);
}

#[test]
fn keys_expire_after_their_retention_and_not_before() {
    const DAY: u64 = 24 * 60 * 60;
    let year = Duration::from_secs(365 * DAY);
    let disk = FaultyDisk::new(0);
    let vault = on(&disk);
    let first = vault.key_for("alice", Some(year), at(0)).unwrap();
    // An eighth of the retention: 45 days and 15 hours.
    let period = 365 * DAY / 8;
    assert_eq!(vault.key_for("alice", Some(year), at(period)).unwrap(), first);
    let second = vault.key_for("alice", Some(year), at(period + 1)).unwrap();
    assert_ne!(second, first);
    assert_ne!(vault.key_for("alice", None, at(0)).unwrap(), first, "kept until somebody asks");
    assert_eq!(vault.keys_of("alice").unwrap().len(), 3);
    let end = 365 * DAY + period;
    assert_eq!(vault.expired(at(end - 1)).unwrap(), []);
    assert_eq!(vault.expired(at(end)).unwrap(), [first]);
    assert_eq!(vault.expired(at(end + period + 1)).unwrap().len(), 2);
}

#[test]
fn a_vault_without_its_secret_is_not_begun_again() {
    let disk = FaultyDisk::new(0);
    filled(&disk);
    disk.remove("secret").unwrap();
    let error = Vault::open_on(Arc::new(disk.clone()), random()).unwrap_err();
    assert!(error.to_string().contains("secret in the vault is damaged: it is missing"), "{error}");
}

#[test]
fn one_process_writes_a_vault() {
    let disk = FaultyDisk::new(0);
    let held = on(&disk);
    assert!(matches!(Vault::open_on(Arc::new(disk.clone()), random()), Err(VaultError::Locked)));
    drop(held);
    on(&disk);
}

#[test]
fn names_of_subjects_at_the_limit_and_one_past_it() {
    let vault = on(&FaultyDisk::new(0));
    assert!(vault.key_for(&"x".repeat(SUBJECT_LEN_MAX), None, at(0)).is_ok());
    let too_long = vault.key_for(&"x".repeat(SUBJECT_LEN_MAX + 1), None, at(0));
    assert!(matches!(too_long, Err(VaultError::Subject { len }) if len == SUBJECT_LEN_MAX + 1));
    assert!(matches!(vault.key_for("", None, at(0)), Err(VaultError::Subject { len: 0 })));
}

#[test]
fn values_are_taken_out_of_a_payload() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, dir) = (folder.path().join("ledger"), folder.path().join("ledger.vault"));
    std::fs::create_dir(&ledger).unwrap();
    let file = folder.path().join("report.pdf");
    std::fs::write(&file, b"a report about alice").unwrap();
    let vault = Vault::open(&dir, Arc::new(SystemRandom)).unwrap();
    let mut data = json!({"user": {"email": "alice@example.com", "roles": ["admin"]}, "host": "h1"});
    let personal = |path: &str| PersonalPath { path: path.into(), subject: "user-17".into() };
    let blob = BlobPath { path: "/body".into(), file: file.clone(), subject: Some("user-17".into()) };
    let blobs = std::slice::from_ref(&blob);
    vault
        .seal_payload(&ledger, &mut data, &[personal("/user/email"), personal("/user/roles")], blobs, None, at(0))
        .unwrap();

    assert!(!data.to_string().contains("alice") && !data.to_string().contains("admin"));
    let found = references::find(&data);
    let mut values: Vec<Value> = Vec::new();
    let reader = VaultDir::new(&dir);
    for (place, reference) in &found {
        match reference {
            Reference::Commitment(commitment) => {
                let disclosure = reader.disclosure(commitment).unwrap();
                assert_eq!(disclosure.name(), place);
                values.push(disclosure.value().clone());
            }
            Reference::Blob(reference) => {
                assert_eq!((place.as_str(), reference.size), ("/body", 20));
                let bytes = std::fs::read(ledger.join(crate::blob::path(&reference.digest))).unwrap();
                assert_eq!(reader.open_blob(reference, &bytes).unwrap(), b"a report about alice");
            }
            Reference::Malformed(reason) => panic!("{reason}"),
        }
    }
    assert_eq!(values, [json!("alice@example.com"), json!(["admin"])]);
    assert_eq!(reader.keys().unwrap(), vault.keys_of("user-17").unwrap(), "one key for a subject's values and blobs");
    secrets_are_their_owners(&dir);

    let keys = vault.keys_of("user-17").unwrap();
    for erasure in vault.begin_erasure(&keys, ErasureReason::Request, None).unwrap() {
        vault.destroy(&erasure).unwrap();
        vault.recorded(&erasure).unwrap();
    }
    for (_, reference) in &found {
        match reference {
            Reference::Commitment(commitment) => {
                assert!(matches!(reader.disclosure(commitment), Err(VaultError::NoKey { .. })));
            }
            Reference::Blob(reference) => {
                assert!(matches!(reader.open_blob(reference, b""), Err(VaultError::NoKey { .. })));
            }
            Reference::Malformed(reason) => panic!("{reason}"),
        }
    }
    assert_eq!(files_below(&dir), ["lock", "secret"], "nothing of the subject is left");
}

fn files_below(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn secrets_are_their_owners(root: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for file in files_below(root) {
        let path = root.join(file);
        let modes =
            [&path, path.parent().unwrap()].map(|path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777);
        assert_eq!(modes, [0o600, 0o700], "{}", path.display());
    }
}

#[test]
fn a_payload_that_cannot_be_sealed_says_where() {
    let keys = |_: &str| Ok(KeyId([1; 16]));
    let refuse = |data: Value, paths: &[&str]| {
        let personal: Vec<PersonalPath> =
            paths.iter().map(|path| PersonalPath { path: (*path).into(), subject: "s".into() }).collect();
        let mut sealed = data.clone();
        let error = seal_personal(&mut sealed, &personal, keys, &SystemRandom).unwrap_err();
        assert_eq!(sealed, data, "nothing changed");
        error.to_string()
    };
    let data = || json!({"a": {"b": "alice"}, "c": [1]});
    assert!(refuse(data(), &["/a/x"]).starts_with("there is nothing at \"/a/x\""));
    assert!(refuse(data(), &["a"]).starts_with("there is nothing at \"a\""));
    assert!(refuse(data(), &[""]).starts_with("`data` as a whole"));
    assert!(refuse(data(), &["/a/b", "/a"]).starts_with("\"/a/b\" is named twice"));
    assert!(refuse(data(), &["/c", "/c"]).starts_with("\"/c\" is named twice"));
    let forged = format!("com:{}:{}", KeyId([1; 16]), "A".repeat(43));
    assert!(refuse(json!({"a": forged, "b": 1}), &["/b"]).starts_with("\"/a\" in `data` reads as a commitment"));
    assert!(refuse(json!({"a": {"$blob": 1}, "b": 1}), &["/b"]).starts_with("\"/a\" in `data` reads as"));
    let long = refuse(json!({"a": "x".repeat(60_000)}), &["/a"]);
    assert!(long.contains("make it a blob") && !long.contains("xxx"), "{long}");
}
