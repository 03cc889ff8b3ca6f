//! A release made as the control plane makes one, and a table of everything that can be wrong with it.

use cairn_ledger::note::NoteSigner;
use cairn_schemas::data::{CommitSignature, TestCounts};
use cairn_schemas::fleet::SignersConfig;
use cairn_schemas::ids::{Sequence, StreamId, TreeSize};
use cairn_schemas::record::Draft;
use cairn_schemas::token::{TokenKey, token};
use ed25519_dalek::SigningKey;

use super::*;
use crate::bundle;
use crate::content::{FileEntry, pack};
use crate::gitobj::{EntryMode, Hash, ObjectId, ObjectKind, TreeEntry, object_id, write_tree};
use crate::key::ReleaseSigner;
use crate::statement::{self, Author, Base64, CommitEvidence, Predicate, SignatureSummary, TestSummary};

const EXPIRES: Timestamp = Timestamp::from_nanos(2_000);

/// Everything a release is made of, each part open to be spoiled before the files are written.
struct Maker {
    content: Content,
    commit_raw: Vec<u8>,
    commit_id: CommitId,
    trees: Vec<Vec<u8>>,
    predicate: fn(&mut Predicate),
    built: fn(&mut ReleaseBuilt),
    recorded_signer: Option<String>,
    stream: StreamId,
    foreignid: Option<String>,
    origin: String,
    ledger: NoteSigner,
    signer: ReleaseSigner,
}

fn node() -> NodeId {
    "control".parse().unwrap()
}

fn note_signer(seed: u8) -> NoteSigner {
    NoteSigner::new("example.com/cairn/1", SigningKey::from_bytes(&[seed; 32])).unwrap()
}

/// The pinned release key, made once for all tests.
fn release_signer() -> ReleaseSigner {
    static SIGNER: std::sync::LazyLock<ReleaseSigner> = std::sync::LazyLock::new(|| ReleaseSigner::generate().unwrap());
    SIGNER.clone()
}

fn id(kind: ObjectKind, body: &[u8]) -> ObjectId {
    object_id(Hash::Sha1, kind, body).unwrap()
}

/// The raw commit of a root tree, with an extra header.
fn commit_of(root: &[u8], header: &str) -> Vec<u8> {
    let tree = id(ObjectKind::Tree, root);
    format!("tree {tree}\nauthor Ada <ada@x> 1 +0000\ncommitter Ada <ada@x> 1 +0000\n{header}\nm\n").into_bytes()
}

impl Maker {
    fn new() -> Maker {
        let content = Content::from([
            ("cairn.yaml".to_owned(), FileEntry::plain("version: 1\n")),
            ("guardrails/a.rego".to_owned(), FileEntry::plain("package a\n")),
        ]);
        let entry = |mode, name: &str, id| TreeEntry { mode, name: name.into(), id };
        let blob = |path: &str| id(ObjectKind::Blob, &content[path].bytes);
        let guardrails = write_tree(&[entry(EntryMode::File, "a.rego", blob("guardrails/a.rego"))]);
        let root = write_tree(&[
            entry(EntryMode::File, "cairn.yaml", blob("cairn.yaml")),
            entry(EntryMode::Tree, "guardrails", id(ObjectKind::Tree, &guardrails)),
        ]);
        let commit_raw = commit_of(&root, "");
        Maker {
            content,
            commit_id: id(ObjectKind::Commit, &commit_raw).commit_id(),
            commit_raw,
            trees: vec![root, guardrails],
            predicate: |_| {},
            built: |_| {},
            recorded_signer: None,
            stream: StreamId::new(&node(), [7; 16]),
            foreignid: Some("7".to_owned()),
            origin: "example.com/cairn/1".to_owned(),
            ledger: note_signer(1),
            signer: release_signer(),
        }
    }

    fn files(&self) -> ReleaseFiles {
        let content_tar = pack(&self.content).unwrap();
        let mut predicate = Predicate {
            serial: Serial(7),
            built: Timestamp::from_nanos(1_000),
            expires: EXPIRES,
            commit: CommitEvidence {
                id: self.commit_id.clone(),
                raw: Base64(self.commit_raw.clone()),
                trees: self.trees.iter().cloned().map(Base64).collect(),
            },
            signature: SignatureSummary::None,
            author: Author { name: "Ada".into(), email: "ada@x".into() },
            reviewers: Vec::new(),
            tests: TestSummary { passed: 2, failed: 0, covered: 1, coverable: 1 },
            tools: BTreeMap::from([("cairn".to_owned(), "0.1.0".to_owned())]),
            known_good: false,
            same_content_as: None,
        };
        (self.predicate)(&mut predicate);
        let payload = statement::build(&content_tar, predicate).to_bytes().unwrap();
        let statement = bundle::sign(&payload, &self.signer);
        self.seal(content_tar, statement)
    }

    fn files_signed_by(&mut self, key: &str) -> ReleaseFiles {
        self.recorded_signer = Some(key.to_owned());
        self.files()
    }

    /// Writes the record that names these bytes, and a proof of it in a ledger of two records.
    fn seal(&self, content_tar: Vec<u8>, statement: Vec<u8>) -> ReleaseFiles {
        let key = TokenKey { epoch: "e1".into(), key: [1; 32] };
        let mut built = ReleaseBuilt {
            serial: Serial(7),
            commit: self.commit_id.clone(),
            content: Digest::sha256(&content_tar),
            statement: Digest::sha256(&statement),
            expires: EXPIRES,
            signature: CommitSignature::None,
            author: token(&key, "email", "ada@x").into(),
            known_good: false,
            same_content_as: None,
            tests: TestCounts { passed: 2, failed: 0 },
        };
        (self.built)(&mut built);
        if let Some(fingerprint) = &self.recorded_signer {
            let principal = token(&key, "email", "ada@x").into();
            built.signature = CommitSignature::Ssh { key: fingerprint.clone(), principal };
        }
        let draft = Draft::new(&built);
        let record = Record {
            stream: self.stream.clone(),
            sequence: Sequence(3),
            prevdigest: Digest::sha256(b"previous"),
            kind: draft.kind,
            subject: None,
            time: Timestamp::from_nanos(1_001),
            release: None,
            foreignid: self.foreignid.clone(),
            data: draft.data,
        };
        let record = record.to_bytes().unwrap();
        let proof = self.prove(&record);
        ReleaseFiles { content_tar, statement, record, proof }
    }

    fn prove(&self, record: &[u8]) -> Vec<u8> {
        let sibling = Digest::leaf(b"first");
        let root = Digest::node(&sibling, &Digest::leaf(record));
        let checkpoint = Checkpoint { origin: self.origin.clone(), size: TreeSize(2), root };
        let checkpoint = checkpoint.sign(&self.ledger).unwrap();
        Proof { extra: None, index: RecordIndex(1), hashes: vec![sibling], checkpoint }.to_bytes()
    }
}

fn trust() -> Trust {
    let signer = release_signer();
    Trust::from_pins(&Pins {
        ledger_name: "example.com/cairn".into(),
        root_key: note_signer(9).verifier().to_string(),
        ledger_key: note_signer(1).verifier().to_string(),
        release_key: signer.public().to_pem(),
        control_node: node(),
        signers: SignersConfig::UnsignedAllowed,
        token_epoch: "e1".into(),
        token_key: String::new(),
        witnesses: None,
    })
    .unwrap()
}

const FRESH: Gate = Gate::Network { now: Timestamp::from_nanos(1_999), floor: Some(Serial(6)) };

fn refused(maker: &Maker) -> CheckError {
    check(&maker.files(), &trust(), FRESH).unwrap_err()
}

#[test]
fn a_good_release_is_verified() {
    let maker = Maker::new();
    let release = check(&maker.files(), &trust(), FRESH).unwrap();
    assert_eq!(release.reference().serial, Serial(7));
    assert_eq!(*release.content(), maker.content);
    assert_eq!(release.tree()["cairn.yaml"], b"version: 1\n");
    assert_eq!((release.index(), release.commit().id.clone()), (RecordIndex(1), maker.commit_id));
    assert_eq!(*release.signature(), Signature::None);
    assert_eq!((release.built().serial, release.checkpoint().size), (Serial(7), TreeSize(2)));
    assert_eq!(release.statement().predicate.author.name, "Ada");
}

#[test]
fn age_gates_the_network_and_not_what_is_held() {
    let files = Maker::new().files();
    let at = |now, floor: Option<u64>| {
        let now = Timestamp::from_nanos(now);
        check(&files, &trust(), Gate::Network { now, floor: floor.map(Serial) })
    };
    assert!(at(1_999, None).is_ok());
    assert!(matches!(at(2_000, None), Err(CheckError::Expired { .. })));
    assert!(matches!(at(1_999, Some(7)), Err(CheckError::Rollback { .. })));
    assert!(matches!(at(1_999, Some(8)), Err(CheckError::Rollback { serial: Serial(7), floor: Serial(8) })));
    assert!(check(&files, &trust(), Gate::Activated).is_ok());
}

/// One row for each part that can be wrong while everything around it is right.
#[test]
fn each_check_catches_its_own_fault() {
    type Spoil = fn(&mut Maker);
    type Expect = fn(&CheckError) -> bool;
    let table: &[(&str, Spoil, Expect)] = &[
        (
            "another ledger's key",
            |m| m.ledger = note_signer(2),
            |e| matches!(e, CheckError::Checkpoint(CheckpointError::Note(NoteError::NotSigned { .. }))),
        ),
        (
            "another ledger's origin",
            |m| m.origin = "example.com/other/1".into(),
            |e| matches!(e, CheckError::Checkpoint(CheckpointError::Origin { .. })),
        ),
        (
            "a later volume's origin, signed in the first one's name",
            |m| m.origin = "example.com/cairn/2".into(),
            |e| matches!(e, CheckError::Checkpoint(CheckpointError::Note(_))),
        ),
        (
            "a node's stream",
            |m| m.stream = StreamId::new(&"sensor-1".parse().unwrap(), [7; 16]),
            |e| matches!(e, CheckError::RecordStream { .. }),
        ),
        ("the ledger's stream", |m| m.stream = StreamId::ledger(), |e| matches!(e, CheckError::RecordStream { .. })),
        ("no foreignid", |m| m.foreignid = None, |e| matches!(e, CheckError::Disagree { field: "foreignid", .. })),
        (
            "another foreignid",
            |m| m.foreignid = Some("8".into()),
            |e| matches!(e, CheckError::Disagree { field: "foreignid", .. }),
        ),
        (
            "another content digest",
            |m| m.built = |b| b.content = Digest::ZERO,
            |e| matches!(e, CheckError::Digest { file: CONTENT_FILE, .. }),
        ),
        (
            "another statement digest",
            |m| m.built = |b| b.statement = Digest::ZERO,
            |e| matches!(e, CheckError::Digest { file: STATEMENT_FILE, .. }),
        ),
        (
            "another release key",
            |m| m.signer = ReleaseSigner::generate().unwrap(),
            |e| matches!(e, CheckError::Bundle(BundleError::OtherKey { .. })),
        ),
        (
            "another serial in the statement",
            |m| m.predicate = |p| p.serial = Serial(8),
            |e| matches!(e, CheckError::Disagree { field: "serial", .. }),
        ),
        (
            "a longer life in the statement",
            |m| m.predicate = |p| p.expires = Timestamp::from_nanos(9_000),
            |e| matches!(e, CheckError::Disagree { field: "expires", .. }),
        ),
        (
            "known good in the record only",
            |m| m.built = |b| b.known_good = true,
            |e| matches!(e, CheckError::Disagree { field: "known_good", .. }),
        ),
        (
            "another commit in the record",
            |m| m.built = |b| b.commit = "f".repeat(40).parse().unwrap(),
            |e| matches!(e, CheckError::Disagree { field: "commit", .. }),
        ),
        (
            "an earlier release in the record only",
            |m| m.built = |b| b.same_content_as = Some(ReleaseRef { serial: Serial(1), digest: Digest::ZERO }),
            |e| matches!(e, CheckError::Disagree { field: "same_content_as", .. }),
        ),
        (
            "failed tests in the statement only",
            |m| m.predicate = |p| p.tests.failed = 1,
            |e| matches!(e, CheckError::Disagree { field: "tests.failed", .. }),
        ),
        (
            "a malformed commit",
            |m| m.predicate = |p| p.commit.raw = Base64(b"x".to_vec()),
            |e| matches!(e, CheckError::CommitMalformed(_)),
        ),
        (
            "another raw commit",
            |m| m.commit_raw = commit_of(&m.trees[0], "encoding x\n"),
            |e| matches!(e, CheckError::CommitId { .. }),
        ),
        (
            "a signer whom the commit does not show",
            |m| {
                m.built = |b| {
                    let key = TokenKey { epoch: "e1".into(), key: [1; 32] };
                    b.signature =
                        CommitSignature::Ssh { key: "SHA256:x".into(), principal: token(&key, "email", "a").into() };
                };
            },
            |e| matches!(e, CheckError::SignerRecord { .. }),
        ),
        (
            "a file changed",
            |m| m.content.get_mut("guardrails/a.rego").unwrap().bytes.push(b'#'),
            |e| matches!(e, CheckError::Bind(BindError::FileDiffers { .. })),
        ),
        (
            "a file added",
            |m| drop(m.content.insert("guardrails/b.rego".into(), FileEntry::plain("x"))),
            |e| matches!(e, CheckError::Bind(BindError::FileExtra { .. })),
        ),
        (
            "a file left out",
            |m| drop(m.content.remove("cairn.yaml")),
            |e| matches!(e, CheckError::Bind(BindError::FileMissing { .. })),
        ),
        (
            "a file made executable",
            |m| m.content.get_mut("cairn.yaml").unwrap().executable = true,
            |e| matches!(e, CheckError::Bind(BindError::ModeDiffers { .. })),
        ),
        ("a tree left out", |m| drop(m.trees.pop()), |e| matches!(e, CheckError::Bind(BindError::TreeMissing { .. }))),
        (
            "a tree too many",
            |m| m.trees.push(write_tree(&[])),
            |e| matches!(e, CheckError::Bind(BindError::TreesExtra { count: 1 })),
        ),
    ];
    for (what, spoil, expect) in table {
        let mut maker = Maker::new();
        spoil(&mut maker);
        let error = refused(&maker);
        assert!(expect(&error), "{what}: {error:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn a_pinned_witness_policy_is_demanded() {
    use cairn_ledger::cosignature::{CosignTime, CosignatureSigner, with_lines};
    use cairn_ledger::note::Note;
    use cairn_ledger::policy::{Policy, Refused};

    let witness = |seed| CosignatureSigner::ed25519("w.example", SigningKey::from_bytes(&[seed; 32])).unwrap();
    let policy = format!("witness w {}\nquorum w\n", witness(40).verifier());
    let trust = Trust { witnesses: Some(Policy::parse(policy.as_bytes()).unwrap()), ..trust() };
    let cosigned_by = |seed| {
        let mut files = Maker::new().files();
        let mut proof = Proof::parse(&files.proof).unwrap();
        let text = Note::parse(&proof.checkpoint).unwrap().text().to_owned();
        let line = witness(seed).line(&text, CosignTime(1)).unwrap();
        proof.checkpoint = with_lines(&proof.checkpoint, &[line]).unwrap();
        files.proof = proof.to_bytes();
        check(&files, &trust, FRESH)
    };
    let alone = check(&Maker::new().files(), &trust, FRESH);
    assert!(matches!(alone, Err(CheckError::Witnesses(Refused::Quorum { .. }))));
    assert!(matches!(cosigned_by(41), Err(CheckError::Witnesses(Refused::Quorum { .. }))), "a stranger of that name");
    cosigned_by(40).unwrap();
}

/// Files exchanged after the fact, each with everything else as it was published.
#[test]
fn exchanged_files_are_refused() {
    let maker = Maker::new();
    let good = maker.files();
    let with = |change: &dyn Fn(&mut ReleaseFiles)| {
        let mut files = good.clone();
        change(&mut files);
        check(&files, &trust(), FRESH).unwrap_err()
    };
    assert!(matches!(with(&|f| f.proof.clear()), CheckError::ProofMalformed(_)));
    assert!(matches!(with(&|f| f.record.push(b' ')), CheckError::NotInLedger(_)));
    assert!(matches!(with(&|f| f.content_tar.push(0)), CheckError::Digest { file: CONTENT_FILE, .. }));
    assert!(matches!(with(&|f| f.statement.push(b' ')), CheckError::Digest { file: STATEMENT_FILE, .. }));
    // A record that is in the ledger and is not a release at all.
    let junk = with(&|f| {
        f.record = b"junk".to_vec();
        f.proof = maker.prove(&f.record);
    });
    assert!(matches!(junk, CheckError::RecordMalformed(_)));
    let other_type = with(&|f| {
        let rejected = cairn_schemas::data::ReleaseRejected {
            commit: maker.commit_id.clone(),
            stage: cairn_schemas::data::RejectedAt::Test,
            problems: Vec::new(),
            omitted: 0,
        };
        let mut record = Record::parse(&f.record).unwrap();
        let draft = Draft::new(&rejected);
        (record.kind, record.data) = (draft.kind, draft.data);
        f.record = record.to_bytes().unwrap();
        f.proof = maker.prove(&f.record);
    });
    assert!(matches!(other_type, CheckError::RecordType { found: RecordType::ReleaseRejected }));
    // Bytes that are recorded and signed, and are still not a content, a bundle or a statement.
    let seal = |tar: &[u8], statement: &[u8]| {
        check(&maker.seal(tar.to_vec(), statement.to_vec()), &trust(), FRESH).unwrap_err()
    };
    assert!(matches!(seal(&good.content_tar, b"{}"), CheckError::Bundle(BundleError::Malformed { .. })));
    let junk_statement = bundle::sign(b"{}", &maker.signer);
    assert!(matches!(seal(&good.content_tar, &junk_statement), CheckError::Statement(_)));
    assert!(matches!(seal(b"other", &good.statement), CheckError::Subject { .. }));
    let predicate = Statement::parse(Bundle::parse(&good.statement).unwrap().payload_unverified()).unwrap().predicate;
    let about_junk = bundle::sign(&statement::build(b"junk", predicate).to_bytes().unwrap(), &maker.signer);
    assert!(matches!(seal(b"junk", &about_junk), CheckError::Content(_)));
}

/// A reader who lists signers takes neither an unsigned commit nor one by another key.
#[test]
fn the_readers_own_signers_decide() {
    let maker = Maker::new();
    let mut trust = trust();
    let line = "ada@x ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEgzRdMaqLNSAL5Xhv9yOfEKmcpYfkSiVfbIOTXSa0It";
    trust.signers = SignerPolicy::from_config(&SignersConfig::AllowedSigners(vec![line.into()])).unwrap();
    let error = check(&maker.files(), &trust, FRESH).unwrap_err();
    assert!(matches!(error, CheckError::Signer { source: SignatureError::Unsigned, .. }), "{error}");
}

/// A commit signed by a listed key, as `git commit -S` signs it, is taken; the record must name that key and no other.
#[test]
fn a_listed_signer_is_seen_and_must_be_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let keygen = |arguments: &[&str]| {
        let status = std::process::Command::new("ssh-keygen").args(arguments).current_dir(folder.path()).status();
        assert!(status.expect("this test needs `ssh-keygen`").success());
    };
    let mut maker = Maker::new();
    std::fs::write(folder.path().join("commit"), &maker.commit_raw).unwrap();
    keygen(&["-q", "-N", "", "-t", "ed25519", "-f", "key"]);
    keygen(&["-q", "-Y", "sign", "-f", "key", "-n", "git", "commit"]);
    let armour = std::fs::read_to_string(folder.path().join("commit.sig")).unwrap();
    let header = format!("gpgsig {}\n", armour.trim_end().replace('\n', "\n "));
    maker.commit_raw = commit_of(&maker.trees[0], &header);
    maker.commit_id = id(ObjectKind::Commit, &maker.commit_raw).commit_id();
    let public = std::fs::read_to_string(folder.path().join("key.pub")).unwrap();

    let mut trust = trust();
    let line = format!("ada@x {}", public.trim());
    trust.signers = SignerPolicy::from_config(&SignersConfig::AllowedSigners(vec![line])).unwrap();
    // The record says "nobody" of a commit that a listed key signed.
    let left_out = check(&maker.files(), &trust, FRESH).unwrap_err();
    let CheckError::SignerRecord { record, found: key } = left_out else { panic!("{left_out:?}") };
    assert_eq!(record, "nobody");
    let files = maker.files_signed_by(&key);
    let release = check(&files, &trust, FRESH).unwrap();
    assert_eq!(*release.signature(), Signature::Listed { key: key.clone(), principal: "ada@x".into() });
    // The same files under a list that allows unsigned commits, and with another key in the record.
    trust.signers = SignerPolicy::UnsignedAllowed;
    assert!(check(&files, &trust, FRESH).is_ok());
    let other = check(&maker.files_signed_by("SHA256:other"), &trust, FRESH).unwrap_err();
    assert!(matches!(other, CheckError::SignerRecord { .. }));
}

/// Any one flipped bit, anywhere in the four files, is noticed.
#[test]
fn every_flipped_byte_is_refused() {
    let good = Maker::new().files();
    let trust = trust();
    let parts: [fn(&mut ReleaseFiles) -> &mut Vec<u8>; 4] =
        [|f| &mut f.content_tar, |f| &mut f.statement, |f| &mut f.record, |f| &mut f.proof];
    for part in parts {
        let len = part(&mut good.clone()).len();
        // The archive is mostly zeros under one digest: every 37th byte of it is enough.
        let step = if len > 4_000 { 37 } else { 1 };
        for at in (0..len).step_by(step) {
            let mut files = good.clone();
            part(&mut files)[at] ^= 0x20;
            assert!(check(&files, &trust, FRESH).is_err(), "byte {at} of {len}");
        }
    }
}

#[test]
fn unusable_pins_name_the_pin() {
    let good = Pins {
        ledger_name: "example.com/cairn".into(),
        root_key: String::new(),
        ledger_key: note_signer(1).verifier().to_string(),
        release_key: Maker::new().signer.public().to_pem(),
        control_node: node(),
        signers: SignersConfig::UnsignedAllowed,
        token_epoch: "e1".into(),
        token_key: String::new(),
        witnesses: None,
    };
    let with = |change: fn(&mut Pins)| {
        let mut pins = good.clone();
        change(&mut pins);
        Trust::from_pins(&pins).unwrap_err()
    };
    assert!(matches!(with(|p| p.ledger_key.clear()), TrustError::LedgerKey(_)));
    assert!(matches!(with(|p| p.release_key.clear()), TrustError::ReleaseKey(_)));
    assert!(matches!(with(|p| p.signers = SignersConfig::AllowedSigners(vec![])), TrustError::Signers(_)));
}
