//! Reads the examples and tables of `ledger/FORMAT.md`, so that the document cannot say what the code does not do.

use cairn_schemas::commitment::{Commitment, Disclosure};
use cairn_schemas::data::CheckpointSeen;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{Sequence, StreamId, TreeSize};
use cairn_schemas::references::BlobReference;
use cairn_schemas::types::{NodeKind, RecordType, Role};

use crate::checkpoint::Checkpoint;
use crate::tile::{TileId, TileKind, decode_entries};
use crate::tree::Frontier;
use crate::vault::key::KeyFile;
use crate::{head, wal};

const FORMAT: &str = include_str!("../FORMAT.md");

/// The text of the block ```` ```example <name> ````, with its last line feed.
fn example(name: &str) -> &'static str {
    let start = format!("```example {name}\n");
    let from = FORMAT.find(&start).unwrap_or_else(|| panic!("no example {name}")) + start.len();
    let len = FORMAT[from..].find("```").unwrap();
    &FORMAT[from..from + len]
}

fn hex_example(name: &str) -> Vec<u8> {
    hex::decode(example(name).trim_end()).unwrap()
}

#[test]
fn every_example_is_read_by_a_test() {
    let names: Vec<&str> = FORMAT.lines().filter_map(|line| line.strip_prefix("```example ")).collect();
    let read = [
        "tile-paths",
        "bundle",
        "checkpoint",
        "vkey",
        "head",
        "key-endorsement",
        "policy-endorsement",
        "cosignature",
        "witness-policy",
        "commitment",
        "disclosure",
        "blob-reference",
        "blob",
        "key-file",
        "wal-header",
        "wal-frame",
        // These two in `s3/epoch.rs` and `mirror/versions.rs`, with the feature `s3`.
        "s3-epoch",
        "versions",
    ];
    assert_eq!(names, read);
}

#[test]
fn endorsements() {
    let key = example("vkey").trim_end().parse().unwrap();
    let endorsement = crate::endorsement::Endorsement::LedgerKey { key, second: None };
    assert_eq!(endorsement.to_text(), example("key-endorsement"));
    let policy = crate::endorsement::Endorsement::of_policy("ledger.example", Some(example("witness-policy")));
    assert_eq!(policy.to_text(), example("policy-endorsement"));
}

#[test]
fn the_cosignature_meets_the_policy() {
    let policy = crate::policy::Policy::parse(example("witness-policy").as_bytes()).unwrap();
    let key = example("vkey").trim_end().parse().unwrap();
    let lines = [example("cosignature").to_owned()];
    let note = crate::cosignature::with_lines(example("checkpoint").as_bytes(), &lines).unwrap();
    let (checkpoint, evaluation) = policy.check(&note, "ledger.example/1", &[key]).unwrap();
    assert_eq!(
        (checkpoint.size, evaluation.cosigned),
        (TreeSize(5), vec![(0, crate::cosignature::CosignTime(1_679_315_147))])
    );
}

#[test]
fn paths_and_bundles() {
    for path in example("tile-paths").lines() {
        assert_eq!(path.parse::<TileId>().unwrap().to_string(), path);
    }
    let tile = TileId::in_tree(TileKind::Entries, 0, TreeSize(3)).unwrap();
    assert_eq!(decode_entries(tile, &hex_example("bundle")).unwrap(), [&b""[..], b"one", b"two"]);
}

#[test]
fn the_checkpoint_verifies() {
    let key = example("vkey").trim_end().parse().unwrap();
    let checkpoint = Checkpoint::verify(example("checkpoint").as_bytes(), "ledger.example/1", &[key]).unwrap();
    let mut tree = Frontier::new();
    (0..5).for_each(|index| tree.push(Digest::leaf(format!("record {index}").as_bytes())));
    assert_eq!((checkpoint.size, checkpoint.root), (tree.size(), tree.root()));
}

#[test]
fn the_signed_bytes_of_a_head() {
    let stream = StreamId::new(&"sensor-1".parse().unwrap(), [0xab; 16]);
    let seen = CheckpointSeen { origin: "ledger.example/1".into(), size: 12, root: Digest::sha256(b"root") };
    let bytes = head::signed_bytes(&stream, Sequence(41), &Digest::ZERO, Some(&seen)).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), example("head"));
}

#[test]
fn a_commitment_and_what_opens_it() {
    let commitment: Commitment = example("commitment").trim_end().parse().unwrap();
    let disclosure = Disclosure::parse(example("disclosure").trim_end()).unwrap();
    assert!(commitment.opens_with(&disclosure));
    assert_eq!((disclosure.name(), disclosure.value().as_str()), ("/user/email", Some("alice@example.com")));
}

#[test]
fn a_blob_and_its_key() {
    let key = KeyFile::parse(&hex_example("key-file")).unwrap().unwrap();
    assert_eq!(key.expires.unwrap().nanos(), 1_800_000_000_000_000_000);
    assert_eq!(key.subject, [7; 32]);
    let reference: BlobReference = serde_json::from_str(example("blob-reference")).unwrap();
    let file = hex_example("blob");
    assert_eq!(crate::blob::open(&reference, &key.key, &file).unwrap(), b"%PDF-1.7 a report");
    assert_eq!(file.len() as u64, reference.size + 68);
}

#[test]
fn the_write_ahead_log() {
    let (header, frame) = wal::example(7, b"hello");
    assert_eq!(hex::encode(header), example("wal-header").trim_end());
    assert_eq!(hex::encode(frame), example("wal-frame").trim_end());
    assert!(FORMAT.contains("A segment is 16 MiB") && wal::SEGMENT_LEN == 16 << 20);
}

#[test]
fn the_table_of_who_may_write_what() {
    let roles = [
        ("ledger", Role::Ledger),
        ("control", Role::Control),
        ("sensor", Role::Node(NodeKind::Sensor)),
        ("admission", Role::Node(NodeKind::Admission)),
        ("local", Role::Node(NodeKind::Local)),
    ];
    let expected: Vec<String> = RecordType::ALL
        .iter()
        .map(|kind| {
            let writers: Vec<&str> =
                roles.iter().filter(|(_, role)| kind.allowed(*role)).map(|(name, _)| *name).collect();
            format!("| `{kind}` | {} | {}|", writers.join(", "), if kind.is_decision() { "yes " } else { "" })
        })
        .collect();
    let found: Vec<&str> = FORMAT.lines().filter(|line| line.starts_with("| `cairn.")).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_limits_are_the_codes() {
    let limits = [
        ("record", "65,535 bytes", crate::tile::ENTRY_LEN_MAX as u64, 65_535),
        ("records in one append", "4,096", crate::writer::APPEND_RECORDS_MAX as u64, 4_096),
        ("group commit", "4 MiB", wal::GROUP_LEN_MAX, 4 << 20),
        ("appends that wait", "32 MiB", crate::writer::QUEUE_BYTES_MAX, 32 << 20),
        ("acknowledged and unpublished", "128 MiB", crate::writer::LAG_BYTES_MAX as u64, 128 << 20),
        (
            "acknowledged and unpublished when a ledger is opened; more is published first",
            "2 GiB",
            crate::writer::BACKLOG_BYTES_MAX as u64,
            2 << 30,
        ),
        ("a stream's sequence", "2^53 − 1", crate::writer::SEQUENCE_MAX, (1 << 53) - 1),
        (
            "records of a stream whose repeats are recognised from memory; older ones by a walk",
            "4,096",
            crate::writer::RECENT_MAX as u64,
            4_096,
        ),
        ("forks noted in a stream", "64", crate::writer::FORKS_NOTED_MAX as u64, 64),
        ("reason in `stream.rejected`", "1,000 bytes", crate::writer::REASON_LEN_MAX as u64, 1_000),
        ("plain text of a blob", "64 MiB", cairn_schemas::references::BLOB_LEN_MAX, 64 << 20),
        ("text of a disclosure", "65,535 bytes", cairn_schemas::commitment::DISCLOSURE_LEN_MAX as u64, 65_535),
        ("keys in a `privacy.erased`", "1,000", cairn_schemas::data::ERASED_KEYS_MAX as u64, 1_000),
        ("name of a subject", "512 bytes", crate::vault::SUBJECT_LEN_MAX as u64, 512),
        ("note", "1 MiB, 100 signatures", crate::note::NOTE_LEN_MAX as u64, 1 << 20),
        (
            "witness policy",
            "256 KiB, 128 logs, 64 witnesses, 64 groups; in a record what has room there",
            crate::policy::POLICY_LEN_MAX as u64,
            256 << 10,
        ),
        ("`add-checkpoint`", "128 KiB; its answer 64 KiB", crate::witness::request::REQUEST_LEN_MAX as u64, 128 << 10),
        (
            "a witness: logs and ledgers, requests at once, a second",
            "1,024, 64, 200",
            crate::witness::logs::KNOWN_LOGS_MAX as u64,
            1_024,
        ),
        (
            "checkpoints that a witness keeps as evidence of one log",
            "16",
            crate::witness::store::EVIDENCE_MAX as u64,
            16,
        ),
        ("key name, origin", "255 bytes", crate::note::KEY_NAME_LEN_MAX as u64, 255),
        ("hashes in a proof", "63", crate::tree::PROOF_LEN_MAX as u64, 63),
        ("line of `cairn ledger append`", "397,306 bytes", crate::local::line::LINE_LEN_MAX as u64, 397_306),
        (
            "lines in one batch of it",
            "1,024, or those that begin before 1 MiB",
            crate::local::lines::BATCH_LINES_MAX as u64,
            1_024,
        ),
        ("values of one field that the index knows of a record", "16", crate::index::VALUES_MAX as u64, 16),
    ];
    let start = FORMAT.find("## Limits").unwrap();
    let found: Vec<&str> = FORMAT[start..].lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let expected: Vec<String> = limits.iter().map(|(what, text, ..)| format!("| {what} | {text} |")).collect();
    assert_eq!(found, expected);
    for (what, _, code, document) in limits {
        assert_eq!(code, document, "{what}");
    }
    assert_eq!(crate::note::SIGNATURES_MAX, 100);
}
