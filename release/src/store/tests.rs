use cairn_schemas::data::{CommitSignature, TestCounts};
use cairn_schemas::token::{TokenKey, token};

use super::*;
use crate::bundle;
use crate::key::ReleaseSigner;
use crate::statement;

struct Staged {
    _folder: tempfile::TempDir,
    store: ReleaseStore,
    tar: Vec<u8>,
    bundle: Vec<u8>,
    tip: CommitId,
}

const SERIAL: Serial = Serial(7);

fn staged() -> Staged {
    let folder = tempfile::tempdir().unwrap();
    let store = ReleaseStore::new(folder.path().join("ledger/releases"));
    let tar = b"tar".to_vec();
    let statement = statement::build(&tar, statement::tests::predicate());
    let tip = statement.predicate.commit.id.clone();
    let bundle = bundle::sign(&statement.to_bytes().unwrap(), &ReleaseSigner::generate().unwrap());
    store.stage(SERIAL, &tar, &bundle).unwrap();
    Staged { _folder: folder, store, tar, bundle, tip }
}

impl Staged {
    fn recorded(&self) -> Recorded {
        let key = TokenKey { epoch: "e1".into(), key: [1; 32] };
        let predicate = statement::tests::predicate();
        let built = ReleaseBuilt {
            serial: SERIAL,
            commit: self.tip.clone(),
            content: Digest::sha256(&self.tar),
            statement: Digest::sha256(&self.bundle),
            expires: predicate.expires,
            signature: CommitSignature::None,
            author: token(&key, "email", "ada@example.com").into(),
            known_good: false,
            same_content_as: None,
            tests: TestCounts { passed: 3, failed: 0 },
        };
        Recorded { built, leaf: Digest::leaf(b"record") }
    }

    fn resume(&self, recorded: Option<&Recorded>) -> Resume {
        resume(&self.store.found(SERIAL).unwrap(), recorded, Some(&self.tip), SERIAL)
    }
}

#[test]
fn a_release_is_resumed_from_every_step() {
    let staged = staged();
    let recorded = staged.recorded();
    // Crash after staging: appended again only while it is still what would be built.
    assert!(matches!(staged.resume(None), Resume::Append(statement) if statement.predicate.serial == SERIAL));
    // Crash after the append.
    assert_eq!(staged.resume(Some(&recorded)), Resume::WriteRecord);
    staged.store.write_record(SERIAL, b"torn").unwrap();
    assert_eq!(staged.resume(Some(&recorded)), Resume::WriteRecord);
    staged.store.write_record(SERIAL, b"record").unwrap();
    assert_eq!(staged.resume(Some(&recorded)), Resume::WriteProof);
    staged.store.write_proof(SERIAL, b"proof").unwrap();
    assert_eq!(staged.resume(Some(&recorded)), Resume::Complete);
    assert_eq!(staged.store.serials().unwrap(), [SERIAL]);
}

#[test]
fn what_is_not_recorded_and_not_the_tips_is_deleted() {
    let staged = staged();
    let found = staged.store.found(SERIAL).unwrap();
    let other: CommitId = "ffffffffffffffffffffffffffffffffffffffff".parse().unwrap();
    assert_eq!(resume(&found, None, Some(&other), SERIAL), Resume::Delete);
    assert_eq!(resume(&found, None, None, SERIAL), Resume::Delete);
    assert_eq!(resume(&found, None, Some(&staged.tip), Serial(8)), Resume::Delete);
    for file in [CONTENT_FILE, STATEMENT_FILE] {
        let staged = self::staged();
        std::fs::remove_file(staged.store.folder(SERIAL).join(file)).unwrap();
        assert_eq!(staged.resume(None), Resume::Delete, "{file}");
        staged.store.delete(SERIAL).unwrap();
        assert!(staged.store.serials().unwrap().is_empty());
        staged.store.delete(SERIAL).unwrap();
    }
}

#[test]
fn a_recorded_release_without_its_files_is_damaged_and_never_rebuilt() {
    for file in [CONTENT_FILE, STATEMENT_FILE] {
        let staged = staged();
        std::fs::write(staged.store.folder(SERIAL).join(file), b"other").unwrap();
        assert_eq!(staged.resume(Some(&staged.recorded())), Resume::Damaged { file });
    }
}

#[test]
fn a_torn_write_is_not_seen_and_is_overwritten() {
    let staged = staged();
    let torn = staged.store.folder(SERIAL).join(".record.json.new");
    std::fs::write(&torn, b"half").unwrap();
    assert_eq!(staged.resume(Some(&staged.recorded())), Resume::WriteRecord);
    staged.store.write_record(SERIAL, b"record").unwrap();
    assert!(!torn.exists());
    assert_eq!(staged.resume(Some(&staged.recorded())), Resume::WriteProof);
}

#[test]
fn an_unwritable_place_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("releases"), b"a file").unwrap();
    let store = ReleaseStore::new(folder.path().join("releases"));
    let error = store.stage(SERIAL, b"tar", b"bundle").unwrap_err().to_string();
    assert!(error.contains("releases/7"), "{error}");
}
