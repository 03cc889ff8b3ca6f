//! Runs `ledger/vectors/`: formats as files, made without Cairn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cairn_schemas::commitment::{Commitment, Disclosure};
use cairn_schemas::data::StreamHead;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};
use cairn_schemas::references::BlobReference;

use crate::blob::BlobError;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::disk::Disk as _;
use crate::disk::faulty::FaultyDisk;
use crate::endorsement::{Endorsement, EndorsementError};
use crate::head::{self, HeadError};
use crate::note::{Note, NoteError, VerifierKey};
use crate::policy::{Policy, PolicyError, Refused};
use crate::proof::{Proof, ProofTextError};
use crate::tile::{TileError, TileId, TileKind, decode_entries};
use crate::tree::{Frontier, verify_consistency};
use crate::vault::key::VaultKey;
use crate::wal::{Replay, WalError};

struct Vector {
    file: PathBuf,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Vector {
    fn read(file: &Path, known: &[&str]) -> Vector {
        let bytes = std::fs::read(file).unwrap();
        let split = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or_else(|| panic!("{}", file.display()));
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{}: {line}", file.display()));
            assert!(
                ["expect", "comment"].contains(&name) || known.contains(&name),
                "{}: header {name}",
                file.display()
            );
            (name.to_owned(), value.trim().to_owned())
        };
        let headers = std::str::from_utf8(&bytes[..split]).unwrap().lines().map(header).collect();
        Vector { file: file.to_owned(), headers, body: bytes[split + 2..].to_vec() }
    }

    fn get(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.file.display()))
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap()
    }

    fn keys(&self) -> Vec<VerifierKey> {
        vec![self.get("key").parse().unwrap()]
    }

    fn hex(&self) -> Vec<u8> {
        hex::decode(std::str::from_utf8(&self.body).unwrap().trim_end()).unwrap()
    }

    /// `expect` must be one of the words, and the one that was found out.
    fn expect(&self, words: &[&str], found: &str, why: &dyn std::fmt::Debug) {
        assert!(words.contains(&self.get("expect")), "{}: unknown word", self.file.display());
        assert_eq!(self.get("expect"), found, "{} ({}): {why:?}", self.file.display(), self.get("comment"));
    }
}

fn note_word<T>(result: &Result<T, NoteError>) -> &'static str {
    match result {
        Ok(_) => "valid",
        Err(NoteError::WrongSignature { .. }) => "wrong-signature",
        Err(NoteError::NotSigned { .. }) => "not-signed",
        Err(_) => "malformed",
    }
}

fn note(vector: &Vector) {
    let keys = vector.keys();
    let result = Note::parse(&vector.body).and_then(|note| note.verify(&keys).map(|signed| signed.len()));
    vector.expect(&["valid", "malformed", "wrong-signature", "not-signed"], note_word(&result), &result);
}

fn checkpoint(vector: &Vector) {
    let result = Checkpoint::verify(&vector.body, vector.get("origin"), &vector.keys());
    let word = match &result {
        Ok(checkpoint) => {
            assert_eq!(checkpoint.size, TreeSize(vector.number("size")));
            "valid"
        }
        Err(CheckpointError::Origin { .. }) => "wrong-origin",
        Err(CheckpointError::Note(error)) => note_word::<()>(&Err(error.clone())),
        Err(_) => "malformed",
    };
    vector.expect(&["valid", "malformed", "wrong-signature", "not-signed", "wrong-origin"], word, &result);
}

fn cosignature(vector: &Vector) {
    let key: VerifierKey = vector.get("key").parse().unwrap();
    let result = Note::parse(&vector.body).and_then(|note| note.cosigned_at(&key));
    let word = match &result {
        Ok(Some(time)) => {
            assert_eq!(time.0, vector.number("time"), "{}", vector.file.display());
            "valid"
        }
        Ok(None) => "not-signed",
        Err(error) => note_word::<()>(&Err(error.clone())),
    };
    vector.expect(&["valid", "wrong-signature", "not-signed"], word, &result);
}

/// A policy and, behind a line of dashes, a checkpoint.
fn policy(vector: &Vector) {
    let dashes = b"----\n";
    let split = vector.body.windows(dashes.len()).position(|window| window == dashes);
    let (text, note) = match split {
        Some(split) => (&vector.body[..split], Some(&vector.body[split + dashes.len()..])),
        None => (&vector.body[..], None),
    };
    let parsed = Policy::parse(text);
    let result = parsed.clone().map(|policy| policy.check(note.unwrap(), "ledger.example/1", &[]));
    let word = match &result {
        Err(PolicyError::Line { line, .. }) => {
            assert_eq!(*line as u64, vector.number("line"), "{}: {result:?}", vector.file.display());
            "refused"
        }
        Err(_) => "refused",
        Ok(Ok(_)) => "met",
        Ok(Err(Refused::Quorum { .. })) => "unmet",
        Ok(Err(Refused::Checkpoint(CheckpointError::Note(error)))) => note_word::<()>(&Err(error.clone())),
        Ok(Err(_)) => "other",
    };
    vector.expect(&["refused", "met", "unmet", "not-signed", "wrong-signature"], word, &result);
}

fn proof(vector: &Vector) {
    let leaf: Digest = vector.get("leaf").parse().unwrap();
    let parsed = Proof::parse(&vector.body);
    let result = parsed.clone().and_then(|proof| proof.verify(&leaf, vector.get("origin"), &vector.keys()));
    let word = match &result {
        _ if parsed.is_err() => "malformed",
        Ok(_) => {
            assert_eq!(parsed.unwrap().to_bytes(), vector.body, "{}", vector.file.display());
            "valid"
        }
        Err(ProofTextError::Tree(_)) => "wrong-proof",
        Err(_) => "wrong-checkpoint",
    };
    vector.expect(&["valid", "malformed", "wrong-checkpoint", "wrong-proof"], word, &result);
}

fn tree(vector: &Vector) {
    vector.expect(&["valid"], "valid", &());
    let mut frontier = Frontier::new();
    let mut roots = vec![frontier.root()];
    for index in 0..600 {
        frontier.push(Digest::leaf(format!("record {index}").as_bytes()));
        roots.push(frontier.root());
    }
    for line in std::str::from_utf8(&vector.body).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let size = |at: usize| words[at].parse::<usize>().unwrap();
        match words[0] {
            "root" => assert_eq!(roots[size(1)], words[2].parse().unwrap(), "{line}"),
            "consistency" => {
                let proof: Vec<Digest> = words[3..].iter().map(|hash| hash.parse().unwrap()).collect();
                let (old, new) = (size(1), size(2));
                let sizes = (TreeSize(old as u64), TreeSize(new as u64));
                verify_consistency(sizes.0, &roots[old], sizes.1, &roots[new], &proof)
                    .unwrap_or_else(|error| panic!("{line}: {error}"));
            }
            other => panic!("{other}"),
        }
    }
}

fn bundle(vector: &Vector) {
    let tile = TileId::in_tree(TileKind::Entries, 0, TreeSize(vector.number("width"))).unwrap();
    let bytes = vector.hex();
    let result = decode_entries(tile, &bytes);
    let word = match &result {
        Ok(_) => "valid",
        Err(TileError::Truncated { .. }) => "truncated",
        Err(TileError::Trailing { .. }) => "trailing",
        Err(_) => "other",
    };
    vector.expect(&["valid", "truncated", "trailing"], word, &result.map(|records| records.len()));
}

fn head(vector: &Vector) {
    let head: StreamHead = serde_json::from_slice(&vector.body).unwrap();
    let key = head::parse_key(vector.get("key")).unwrap();
    let result = head::verify(&head, &vector.get("stream").parse().unwrap(), &key);
    let word = match &result {
        Ok(()) => "valid",
        Err(HeadError::WrongSignature { .. }) => "wrong-signature",
        Err(_) => "malformed",
    };
    vector.expect(&["valid", "malformed", "wrong-signature"], word, &result);
}

fn wal(vector: &Vector) {
    let disk = FaultyDisk::new(0);
    disk.create_folder("wal").unwrap();
    let first = vector.number("first");
    disk.create(&format!("wal/{first:020}.wal")).unwrap().write_at(0, &vector.hex()).unwrap();
    let origin = Digest::sha256(vector.get("origin").as_bytes());
    let result = Replay::new(&disk, origin, RecordIndex(first))
        .and_then(|mut replay| replay.segment())
        .and_then(|segment| segment.unwrap().read(&disk));
    let word = match &result {
        Ok(records) => {
            assert_eq!(records.len() as u64, vector.number("records"), "{}", vector.file.display());
            // Torn or whole is one to a reader; the vector says which it was made as.
            if vector.get("expect") == "torn" { "torn" } else { "whole" }
        }
        Err(WalError::Damaged { .. }) => "damaged",
        Err(WalError::Header { .. }) => "header",
        Err(_) => "other",
    };
    vector.expect(&["whole", "torn", "damaged", "header"], word, &result);
}

/// A disclosure's text and the commitment that it should open.
fn commitment(vector: &Vector) {
    let text = std::str::from_utf8(&vector.body).unwrap().trim_end_matches('\n');
    let read = Disclosure::parse(text).ok().zip(vector.get("commitment").parse::<Commitment>().ok());
    let word = match &read {
        None => "malformed",
        Some((disclosure, commitment)) => {
            assert_eq!(disclosure.name(), vector.get("name"), "{}", vector.file.display());
            assert_eq!(disclosure.text(), text);
            if commitment.opens_with(disclosure) { "valid" } else { "wrong" }
        }
    };
    vector.expect(&["valid", "wrong", "malformed"], word, &read);
}

/// A disclosure's file in the vault.
fn disclosure(vector: &Vector) {
    let key: [u8; 32] = hex::decode(vector.get("key")).unwrap().try_into().unwrap();
    let commitment = vector.get("commitment").parse().unwrap();
    let result = crate::vault::open_disclosure_file(&commitment, VaultKey::from_bytes(key), &vector.hex());
    let word = match &result {
        Ok(disclosure) => {
            assert_eq!(disclosure.text(), vector.get("disclosure"));
            "valid"
        }
        Err(_) => "wrong",
    };
    vector.expect(&["valid", "wrong"], word, &result);
}

fn blob(vector: &Vector) {
    let key: [u8; 32] = hex::decode(vector.get("key")).unwrap().try_into().unwrap();
    let reference: BlobReference = serde_json::from_str(vector.get("reference")).unwrap();
    let result = crate::blob::open(&reference, &VaultKey::from_bytes(key), &vector.hex());
    let word = match &result {
        Ok(plain) => {
            assert_eq!(hex::encode(plain), vector.get("plain"));
            "valid"
        }
        Err(BlobError::NotABlob { .. }) => "not-a-blob",
        Err(BlobError::Key { .. }) => "wrong-key-id",
        Err(BlobError::Length { .. }) => "wrong-length",
        Err(BlobError::Digest { .. }) => "wrong-digest",
        Err(_) => "wrong-key",
    };
    let words = ["valid", "not-a-blob", "wrong-key-id", "wrong-length", "wrong-digest", "wrong-key"];
    vector.expect(&words, word, &result);
}

fn endorsement(vector: &Vector) {
    let root: VerifierKey = vector.get("key").parse().unwrap();
    let result = Endorsement::verify(std::str::from_utf8(&vector.body).unwrap(), &root);
    let word = match &result {
        Ok(said) => {
            let says = match said {
                Endorsement::LedgerKey { key, .. } => key.to_string(),
                Endorsement::WitnessPolicy { policy, .. } => policy.to_string(),
            };
            assert_eq!(says, vector.get("says"), "{}", vector.file.display());
            "valid"
        }
        Err(EndorsementError::Note(error)) => note_word::<()>(&Err(error.clone())),
        Err(_) => "malformed",
    };
    vector.expect(&["valid", "malformed", "wrong-signature", "not-signed"], word, &result);
}

/// A whole ledger, as `cairn verify` sees it.
fn volumes(vector: &Vector) {
    let folder = tempfile::tempdir().unwrap();
    for line in std::str::from_utf8(&vector.body).unwrap().lines() {
        let (path, bytes) = line.split_once(' ').unwrap();
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, hex::decode(bytes).unwrap()).unwrap();
    }
    let report = cairn_verify::verify(folder.path(), &cairn_verify::Options { threads: 1, ..Default::default() });
    let kinds: BTreeSet<&str> = report.faults.iter().map(|fault| fault.kind.as_str()).collect();
    let word = match kinds.first() {
        None => "valid",
        Some(kind) => kind,
    };
    let words = ["valid", "checkpoint_signature", "key_endorsement", "volume_chain", "witnesses_endorsement"];
    vector.expect(&words, word, &report.faults);
    assert!(kinds.len() <= 1, "{}: {:?}", vector.file.display(), report.faults);
}

#[test]
fn every_vector_does_as_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut count = 0;
    for folder in std::fs::read_dir(&root).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let (run, headers): (fn(&Vector), &[&str]) = match name.as_str() {
            "README.md" => continue,
            "note" => (note, &["key"]),
            "checkpoint" => (checkpoint, &["key", "origin", "size"]),
            "cosignature" => (cosignature, &["key", "time"]),
            "policy" => (policy, &["line"]),
            "proof" => (proof, &["key", "origin", "leaf"]),
            "tree" => (tree, &[]),
            "bundle" => (bundle, &["width"]),
            "head" => (head, &["key", "stream"]),
            "wal" => (wal, &["origin", "first", "records"]),
            "commitment" => (commitment, &["commitment", "name"]),
            "disclosure" => (disclosure, &["key", "commitment", "disclosure"]),
            "endorsement" => (endorsement, &["key", "says"]),
            "volumes" => (volumes, &["key"]),
            "blob" => (blob, &["key", "reference", "plain"]),
            other => panic!("folder {other} is not known"),
        };
        for file in std::fs::read_dir(&folder).unwrap() {
            run(&Vector::read(&file.unwrap().path(), headers));
            count += 1;
        }
    }
    assert_eq!(count, 191, "a vector was lost or added");
}
