//! A ledger written by hand, so that every lie can be told: the writer of `cairn-ledger` would refuse most of them.
//!
//! A [`Book`] is a list of records and the releases among them. It holds every key, so an attack can be played as far as its
//! attacker could go: change bytes on disk, rewrite records and sign everything again with the ledger's key, or with the control
//! plane's too. What no attacker here has is a node's key.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of the kit")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::head;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::proof::Proof;
use cairn_ledger::tile::{TileId, TileKind, encode_entry, encode_hashes};
use cairn_ledger::tree::{self, Frontier, HashReader};
use cairn_release::bundle;
use cairn_release::content::{Content, FileEntry, pack};
use cairn_release::gitobj::{EntryMode, Hash, ObjectId, ObjectKind, TreeEntry, object_id, write_tree};
use cairn_release::key::ReleaseSigner;
use cairn_release::statement::{self, Author, Base64, CommitEvidence, Predicate, SignatureSummary, TestSummary};
use cairn_schemas::commitment::Personal;
use cairn_schemas::data::{
    CheckpointSeen, CommitSignature, FleetObserved, LedgerOpened, LoadCause, NodeJoined, NodeLoaded, ReleaseBuilt,
    RolloutEntered, RolloutPromoted, StreamHead, StreamObserved, StreamOpened, TestCounts,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, RecordIndex, ReleaseRef, Sequence, Serial, StreamId, TreeSize};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::Timestamp;
use cairn_schemas::token::{TokenKey, token};
use cairn_schemas::types::{NodeKind, RecordType};
use cairn_verify::{FaultKind, Options, Report};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

pub const ORIGIN: &str = "example.com/cairn/1";
pub const NAME: &str = "example.com/cairn";

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn ledger_signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, key(1)).unwrap()
}

pub fn release_signer() -> ReleaseSigner {
    static SIGNER: std::sync::LazyLock<ReleaseSigner> = std::sync::LazyLock::new(|| ReleaseSigner::generate().unwrap());
    SIGNER.clone()
}

pub fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub fn control() -> StreamId {
    StreamId::new(&node("control"), [1; 16])
}

pub fn sensor() -> StreamId {
    StreamId::new(&node("sensor-1"), [2; 16])
}

pub fn admission() -> StreamId {
    StreamId::new(&node("admission-1"), [3; 16])
}

/// The key of a stream's producer.
pub fn key_of(stream: &StreamId) -> SigningKey {
    match stream.node().as_ref().map(NodeId::as_str) {
        Some("control") => key(2),
        Some("sensor-1") => key(3),
        Some("admission-1") => key(4),
        _ => key(9),
    }
}

pub fn a_token(class: &str, value: &str) -> Personal {
    token(&TokenKey { epoch: "e1".into(), key: [7; 32] }, class, value).into()
}

/// A release's bytes, as they are before its record stands in the ledger.
#[derive(Clone)]
pub struct Release {
    pub content_tar: Vec<u8>,
    pub statement: Vec<u8>,
    pub index: usize,
    /// Size of the checkpoint that its proof leads to.
    pub proof_size: u64,
}

/// Records in order, and what belongs to them.
#[derive(Clone)]
pub struct Book {
    pub records: Vec<Vec<u8>>,
    pub releases: BTreeMap<u64, Release>,
    /// Sizes for which a checkpoint is kept.
    pub retained: Vec<u64>,
    chains: BTreeMap<StreamId, (u64, Digest)>,
    clock: u64,
}

pub fn opened() -> LedgerOpened {
    LedgerOpened {
        name: NAME.into(),
        volume: 1,
        ledger_key: ledger_signer().verifier().to_string(),
        root_key: NoteSigner::new(&format!("{NAME}/root"), key(5)).unwrap().verifier().to_string(),
        release_key: release_signer().public().to_pem(),
        control_node: node("control"),
        control_key: head::format_key(&key(2).verifying_key()),
        unsigned_commits: true,
        mldsa_key: None,
        witnesses: None,
        previous: None,
    }
}

pub fn joined(name: &str, kind: NodeKind, key: &SigningKey) -> NodeJoined {
    NodeJoined {
        node: node(name),
        kind,
        key: head::format_key(&key.verifying_key()),
        labels: BTreeMap::new(),
        protocol: "1.0".into(),
    }
}

impl Book {
    pub fn empty() -> Book {
        Book {
            records: Vec::new(),
            releases: BTreeMap::new(),
            retained: Vec::new(),
            chains: BTreeMap::new(),
            clock: 1_800_000_000_000_000_000,
        }
    }

    /// Where a stream goes on.
    pub fn next(&self, stream: &StreamId) -> (Sequence, Digest) {
        let (next, prev) = self.chains.get(stream).copied().unwrap_or_default();
        (Sequence(next), prev)
    }

    /// Puts a stream elsewhere: what a producer with gaps, or a liar, would say.
    pub fn set_next(&mut self, stream: &StreamId, next: u64, prev: Digest) {
        self.chains.insert(stream.clone(), (next, prev));
    }

    pub fn tick(&mut self) -> Timestamp {
        self.clock += 1_000_000;
        Timestamp::from_nanos(self.clock)
    }

    /// The next record of a stream, not written anywhere.
    pub fn seal(&mut self, stream: &StreamId, draft: Draft) -> Vec<u8> {
        let (sequence, prevdigest) = self.next(stream);
        let time = self.tick();
        let Draft { kind, subject, release, foreignid, data } = draft;
        let stream = stream.clone();
        Record { stream, sequence, prevdigest, kind, subject, time, release, foreignid, data }.to_bytes().unwrap()
    }

    /// Appends a record; returns its index.
    pub fn add(&mut self, stream: &StreamId, draft: Draft) -> usize {
        let bytes = self.seal(stream, draft);
        let (sequence, _) = self.next(stream);
        self.chains.insert(stream.clone(), (sequence.0 + 1, Digest::leaf(&bytes)));
        self.records.push(bytes);
        self.records.len() - 1
    }

    /// A head, signed by the stream's own key.
    pub fn head_data(&self, stream: &StreamId, seen: Option<CheckpointSeen>) -> StreamHead {
        let (sequence, prev) = self.next(stream);
        head::sign(&key_of(stream), stream, Sequence(sequence.0 - 1), prev, seen).unwrap()
    }

    pub fn head(&mut self, stream: &StreamId) -> usize {
        let size = self.records.len() as u64;
        let seen = CheckpointSeen { origin: ORIGIN.into(), size, root: self.root(size) };
        let head = self.head_data(stream, Some(seen));
        self.add(stream, Draft::new(&head))
    }

    pub fn open(&mut self, stream: &StreamId) -> usize {
        let opened = StreamOpened {
            node: stream.node().unwrap(),
            key: head::format_key(&key_of(stream).verifying_key()),
            predecessor: None,
        };
        self.add(stream, Draft::new(&opened))
    }

    pub fn root(&self, size: u64) -> Digest {
        let mut frontier = Frontier::new();
        self.records[..size as usize].iter().for_each(|record| frontier.push(Digest::leaf(record)));
        frontier.root()
    }

    pub fn size(&self) -> u64 {
        self.records.len() as u64
    }

    pub fn reference(&self, serial: u64) -> ReleaseRef {
        ReleaseRef { serial: Serial(serial), digest: Digest::sha256(&self.releases[&serial].content_tar) }
    }

    /// A release of one file, with its record.
    pub fn release(&mut self, serial: u64, text: &str) -> usize {
        self.release_with(serial, text, &release_signer(), |_| {})
    }

    pub fn release_with(
        &mut self,
        serial: u64,
        text: &str,
        signer: &ReleaseSigner,
        spoil: impl FnOnce(&mut ReleaseParts),
    ) -> usize {
        let mut parts = ReleaseParts::new(serial, text);
        spoil(&mut parts);
        let content_tar = pack(&parts.content).unwrap();
        let payload = statement::build(&content_tar, parts.predicate.clone()).to_bytes().unwrap();
        let statement = bundle::sign(&payload, signer);
        let built = ReleaseBuilt {
            serial: Serial(serial),
            commit: parts.predicate.commit.id.clone(),
            content: Digest::sha256(&content_tar),
            statement: Digest::sha256(&statement),
            expires: parts.predicate.expires,
            signature: CommitSignature::None,
            author: a_token("email", "ada@example.com"),
            known_good: false,
            same_content_as: None,
            tests: TestCounts { passed: 2, failed: 0 },
        };
        let index = self.add(&control(), Draft::new(&built).foreignid(serial.to_string()));
        let proof_size = index as u64 + 1;
        self.releases.insert(serial, Release { content_tar, statement, index, proof_size });
        index
    }

    /// A node loads a release on the newest possible checkpoint.
    pub fn load(&mut self, stream: &StreamId, serial: u64) -> usize {
        let loaded = NodeLoaded {
            release: self.reference(serial),
            previous: None,
            cause: LoadCause::Offered,
            checkpoint_size: self.size(),
        };
        self.add(stream, Draft::new(&loaded))
    }

    pub fn enter(&mut self, serial: u64) -> usize {
        let entered = RolloutEntered {
            release: self.reference(serial),
            ring: "canary".parse().unwrap(),
            nodes: vec![node("sensor-1")],
            nodes_total: 1,
            known_good: false,
        };
        self.add(&control(), Draft::new(&entered))
    }

    pub fn detect(&mut self, serial: u64) -> usize {
        let release = self.reference(serial);
        self.add(&sensor(), decision(RecordType::DetectionRaised, detection(), release))
    }

    /// What the control plane's intake writes.
    pub fn detect_document(&mut self, serial: u64) -> usize {
        let release = self.reference(serial);
        let data = json!({
            "rule": "Attach to a pod", "priority": "Notice", "source": "k8s_audit", "event": "pluginevent",
            "observed": Timestamp::from_nanos(1_800_000_000_000_000_000), "output": "shell by %ka.user.name", "fields": {},
            "personal": {"ka.user.name": a_token("user", "alice")}, "ancestors": [], "cut": false,
            "document": {"intake": "shop-cluster", "id": "705ab4f5/ResponseComplete"},
        });
        self.add(&control(), decision(RecordType::DetectionRaised, data, release).foreignid("intake/shop-cluster/1"))
    }

    pub fn promote(&mut self, serial: u64) -> usize {
        let promoted = RolloutPromoted {
            release: self.reference(serial),
            commit: "1".repeat(40).parse().unwrap(),
            tag: format!("v{serial}"),
        };
        self.add(&control(), Draft::new(&promoted))
    }

    pub fn request(&mut self, serial: u64, detection: Sequence) -> usize {
        let release = self.reference(serial);
        let data = json!({"detection": detection, "response": "kill-shell", "action": "kill", "target": target()});
        self.add(&sensor(), decision(RecordType::ContainmentRequested, data, release))
    }

    pub fn finish(&mut self, serial: u64, request: Sequence) -> usize {
        let release = self.reference(serial);
        let data = json!({"request": request, "outcome": "killed", "acted_us": 90});
        self.add(&sensor(), decision(RecordType::ContainmentFinished, data, release))
    }

    pub fn decide(&mut self, serial: u64) -> usize {
        let release = self.reference(serial);
        self.add(&admission(), decision(RecordType::AdmissionDecided, admitted(), release))
    }

    pub fn observe(&mut self, streams: &[StreamId]) -> usize {
        let seen = |stream: &StreamId| {
            let (next, digest) = self.next(stream);
            StreamObserved { stream: stream.clone(), sequence: Sequence(next.0 - 1), digest }
        };
        let observed = FleetObserved { streams: streams.iter().map(seen).collect(), unchanged: 0 };
        self.add(&control(), Draft::new(&observed))
    }

    /// The beginning of every story: two nodes, one release, loaded by both.
    pub fn begun() -> Book {
        let mut book = Book::empty();
        book.add(&StreamId::ledger(), Draft::new(&opened()));
        book.open(&control());
        book.add(&control(), Draft::new(&joined("sensor-1", NodeKind::Sensor, &key(3))));
        book.add(&control(), Draft::new(&joined("admission-1", NodeKind::Admission, &key(4))));
        book.release(1, "version: 1\n");
        book.enter(1);
        book.retained.push(book.size());
        book.open(&sensor());
        book.load(&sensor(), 1);
        book.head(&sensor());
        book.open(&admission());
        book.load(&admission(), 1);
        book.head(&admission());
        book
    }

    /// The same, and a head for every stream: nothing of it is unattested.
    pub fn closed(mut self) -> Book {
        for stream in [control(), sensor(), admission()] {
            self.head(&stream);
        }
        self
    }

    /// A story with everything in it, 40 records long.
    pub fn small() -> Book {
        let mut book = Book::begun();
        book.detect(1);
        let (next, _) = book.next(&sensor());
        book.detect(1);
        book.request(1, next);
        let (request, _) = book.next(&sensor());
        book.finish(1, Sequence(request.0 - 1));
        book.head(&sensor());
        book.decide(1);
        book.retained.push(book.size());
        book.release(2, "version: 1\n# two\n");
        book.enter(2);
        book.load(&sensor(), 2);
        book.load(&admission(), 2);
        book.decide(2);
        book.observe(&[sensor(), admission()]);
        while book.records.len() < 37 {
            book.detect(2);
        }
        book.closed()
    }

    /// The same, followed by detections, `size` records long: full tiles, and a partial one.
    pub fn long(size: usize) -> Book {
        let mut book = Book::small();
        while book.records.len() < size - 3 {
            book.detect(2);
            if book.records.len() % 100 == 50 {
                book.head(&sensor());
                book.retained.push(book.size());
            }
        }
        book.closed()
    }

    /// What an attacker does who holds the ledger's key and no producer's: changes records, and makes numbers and hashes fit
    /// again, in the records and in the heads, whose signatures stay as they were.
    pub fn rechain(&mut self) {
        let mut chains: BTreeMap<StreamId, (u64, Digest)> = BTreeMap::new();
        for bytes in &mut self.records {
            let Ok(mut record) = Record::parse(bytes) else { continue };
            let (next, prev) = chains.get(&record.stream).copied().unwrap_or_default();
            record.sequence = Sequence(next);
            record.prevdigest = prev;
            if record.kind == RecordType::StreamHead {
                let mut head: StreamHead = record.data_as().unwrap();
                head.sequence = Sequence(next - 1);
                head.digest = prev;
                head.checkpoint = None;
                record.data = serde_json::to_value(head).unwrap();
            }
            *bytes = record.to_bytes().unwrap();
            chains.insert(record.stream, (next + 1, Digest::leaf(bytes)));
        }
    }

    /// Takes a record out, as if it had never been.
    pub fn remove(&mut self, index: usize) {
        self.records.remove(index);
        for release in self.releases.values_mut().filter(|release| release.index > index) {
            release.index -= 1;
            release.proof_size -= 1;
        }
        self.retained.iter_mut().filter(|size| **size > index as u64).for_each(|size| *size -= 1);
    }

    /// The first `size` records, and what belongs to them.
    pub fn cut(&self, size: u64) -> Book {
        let mut book = self.clone();
        book.records.truncate(size as usize);
        book.retained.retain(|retained| *retained <= size);
        book.releases.retain(|_, release| release.proof_size <= size);
        book
    }

    /// Changes one record's content, nothing around it.
    pub fn edit(&mut self, index: usize, edit: impl FnOnce(&mut Record)) {
        let mut record = Record::parse(&self.records[index]).unwrap();
        edit(&mut record);
        self.records[index] = record.to_bytes().unwrap();
    }

    /// The first record of a type.
    pub fn find(&self, kind: RecordType) -> usize {
        self.records.iter().position(|bytes| Record::parse(bytes).is_ok_and(|record| record.kind == kind)).unwrap()
    }

    pub fn checkpoint(&self, size: u64, signer: &NoteSigner) -> Vec<u8> {
        Checkpoint { origin: ORIGIN.into(), size: TreeSize(size), root: self.root(size) }.sign(signer).unwrap()
    }

    /// Writes the tiles and bundles, nothing else.
    pub fn tiles_to(&self, folder: &Path) {
        let leaves: Vec<Digest> = self.records.iter().map(|record| Digest::leaf(record)).collect();
        for (name, bytes) in tiles(&self.records, &leaves) {
            put(folder, &name, &bytes);
        }
    }

    /// Writes everything, signed with the ledger's key.
    pub fn write(&self, folder: &Path) {
        self.write_signed(folder, &ledger_signer());
    }

    pub fn write_signed(&self, folder: &Path, signer: &NoteSigner) {
        let size = self.size();
        let leaves: Vec<Digest> = self.records.iter().map(|record| Digest::leaf(record)).collect();
        self.tiles_to(folder);
        for size in &self.retained {
            put(folder, &format!("checkpoints/{size}"), &self.checkpoint(*size, signer));
        }
        put(folder, "checkpoint", &self.checkpoint(size, signer));
        for (serial, release) in &self.releases {
            let reader = Leaves(&leaves);
            let (index, proof_size) = (RecordIndex(release.index as u64), TreeSize(release.proof_size));
            let hashes = tree::inclusion_proof(index, proof_size, &reader).unwrap();
            let checkpoint = self.checkpoint(release.proof_size, signer);
            let proof = Proof { extra: None, index, hashes, checkpoint }.to_bytes();
            for (name, bytes) in [
                ("content.tar", &release.content_tar),
                ("statement.sigstore.json", &release.statement),
                ("record.json", &self.records[release.index]),
                ("release.tlog-proof", &proof),
            ] {
                put(folder, &format!("releases/{serial}/{name}"), bytes);
            }
        }
    }
}

/// The hashes of complete subtrees, straight from the leaves.
struct Leaves<'a>(&'a [Digest]);

impl HashReader for Leaves<'_> {
    type Error = std::convert::Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        let start = (index << level) as usize;
        let mut frontier = Frontier::new();
        self.0[start..start + (1 << level)].iter().for_each(|leaf| frontier.push(*leaf));
        Ok(frontier.root())
    }
}

/// Every tile and bundle of these records.
pub fn tiles(records: &[Vec<u8>], leaves: &[Digest]) -> Vec<(String, Vec<u8>)> {
    let size = TreeSize(records.len() as u64);
    let reader = Leaves(leaves);
    TileId::all(size)
        .map(|tile| {
            let (start, width) = (tile.index() * 256, u64::from(tile.width()));
            let bytes = match tile.kind() {
                TileKind::Entries => {
                    let mut bundle = Vec::new();
                    records[start as usize..(start + width) as usize]
                        .iter()
                        .for_each(|record| encode_entry(&mut bundle, record));
                    bundle
                }
                TileKind::Hashes(level) => {
                    let hash = |index| reader.hash(8 * level, index).unwrap();
                    encode_hashes(&(start..start + width).map(hash).collect::<Vec<Digest>>())
                }
            };
            (tile.to_string(), bytes)
        })
        .collect()
}

/// What a release is made of, open to be spoiled before it is signed.
pub struct ReleaseParts {
    pub content: Content,
    pub predicate: Predicate,
}

impl ReleaseParts {
    fn new(serial: u64, text: &str) -> ReleaseParts {
        let id = |kind, body: &[u8]| object_id(Hash::Sha1, kind, body).unwrap();
        let content = Content::from([("cairn.yaml".to_owned(), FileEntry::plain(text))]);
        let blob: ObjectId = id(ObjectKind::Blob, text.as_bytes());
        let root = write_tree(&[TreeEntry { mode: EntryMode::File, name: "cairn.yaml".into(), id: blob }]);
        let tree = id(ObjectKind::Tree, &root);
        let raw = format!(
            "tree {tree}\nauthor Ada <ada@example.com> {serial} +0000\ncommitter Ada <ada@example.com> {serial} +0000\n\nm\n"
        );
        let predicate = Predicate {
            serial: Serial(serial),
            built: Timestamp::from_nanos(1_000),
            expires: Timestamp::from_nanos(2_000_000_000_000_000_000),
            commit: CommitEvidence {
                id: id(ObjectKind::Commit, raw.as_bytes()).commit_id(),
                raw: Base64(raw.into_bytes()),
                trees: vec![Base64(root)],
            },
            signature: SignatureSummary::None,
            author: Author { name: "Ada".into(), email: "ada@example.com".into() },
            reviewers: Vec::new(),
            tests: TestSummary { passed: 2, failed: 0, covered: 1, coverable: 1 },
            tools: BTreeMap::new(),
            known_good: false,
            same_content_as: None,
        };
        ReleaseParts { content, predicate }
    }
}

pub fn decision(kind: RecordType, data: Value, release: ReleaseRef) -> Draft {
    Draft { kind, subject: None, release: Some(release), foreignid: None, data }
}

fn target() -> Value {
    json!({"pid": 4242, "start_ns": "123456789", "executable": "/bin/sh"})
}

fn detection() -> Value {
    json!({
        "rule": "Terminal shell in container", "priority": "Notice", "source": "syscall", "event": "execve",
        "observed": Timestamp::from_nanos(1_800_000_000_000_000_000), "output": "shell by %user.name",
        "fields": {"proc.name": "sh"},
        "process": {
            "pid": 4242, "start_ns": "123456789", "name": "sh", "executable": "/bin/sh", "arguments": ["sh"],
            "user": {"uid": a_token("uid", "1000")}, "terminal": true,
        },
        "ancestors": [], "cut": false,
    })
}

fn admitted() -> Value {
    json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "kind": "v1/Pod", "resource": "v1/pods",
        "namespace": "default", "name": "web", "user": a_token("user", "alice"), "allowed": true, "dry_run": false,
        "object": Digest::sha256(b"pod"), "omitted": 0, "evaluated_us": 120,
    })
}

pub fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub fn get(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

/// Every file below a folder, as paths with `/`, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, out: &mut Vec<String>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, root, out);
            } else {
                out.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, folder, &mut out);
    out
}

pub fn the_key() -> String {
    ledger_signer().verifier().to_string()
}

pub fn verify(folder: &Path) -> Report {
    cairn_verify::verify(folder, &Options { key: Some(the_key()), threads: 2, ..Options::default() })
}

/// The kinds of all faults, without repetition.
pub fn kinds(report: &Report) -> Vec<FaultKind> {
    let mut kinds: Vec<FaultKind> = report.faults.iter().map(|fault| fault.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
