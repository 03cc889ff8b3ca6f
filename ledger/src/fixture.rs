//! What the tests of this crate share: keys, producers, and a checker that looks at published bytes only.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cairn_schemas::data::{LedgerOpened, NodeCapabilities, NodeJoined, Predecessor, StreamOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, Sequence, StreamId, TreeSize};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::types::NodeKind;
use ed25519_dalek::SigningKey;

use crate::checkpoint::Checkpoint;
use crate::dir::LedgerDir;
use crate::head;
use crate::note::NoteSigner;
use crate::producer::Chain;
use crate::tile::{TileHashes, TileId, TileKind, decode_entries, decode_hashes};
use crate::tree::{self, Frontier, HashReader as _};

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000 + seconds * 1_000_000_000)
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(at(0)))
}

/// Its notes carry lines that every reader must ignore.
pub(crate) fn signer() -> NoteSigner {
    NoteSigner::new("test/1", SigningKey::from_bytes(&[1; 32])).unwrap().greased()
}

pub(crate) fn root_signer() -> NoteSigner {
    NoteSigner::new("test/root", SigningKey::from_bytes(&[2; 32])).unwrap()
}

/// `ledger.opened` must have one; nothing is signed with it.
const RELEASE_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbanJuFtzQcyT5UZI2zwke0F1prFm\n\
9lwRWDaLWr52Z2ADMv5hx4Qo47wjZsPj/buvArFtS59Oj9NrQNbXdzC2Fg==\n\
-----END PUBLIC KEY-----\n";

pub(crate) fn opened() -> LedgerOpened {
    LedgerOpened {
        name: "test".into(),
        volume: 1,
        ledger_key: signer().verifier().to_string(),
        root_key: NoteSigner::new("test/root", SigningKey::from_bytes(&[2; 32])).unwrap().verifier().to_string(),
        release_key: RELEASE_KEY.into(),
        control_node: "control".parse().unwrap(),
        control_key: head::format_key(&SigningKey::from_bytes(&[3; 32]).verifying_key()),
        unsigned_commits: true,
        mldsa_key: None,
        witnesses: None,
        previous: None,
    }
}

/// A producer of records.
pub(crate) struct Producer {
    pub(crate) chain: Chain,
    pub(crate) key: SigningKey,
    pub(crate) node: NodeId,
}

impl Producer {
    pub(crate) fn control() -> Producer {
        Producer::named("control", 3, 0)
    }

    /// `seed` is its key, `number` tells its streams apart.
    pub(crate) fn named(node: &str, seed: u8, number: u8) -> Producer {
        let node: NodeId = node.parse().unwrap();
        let chain = Chain::new(StreamId::new(&node, [number; 16]));
        Producer { chain, key: SigningKey::from_bytes(&[seed; 32]), node }
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.chain.stream().clone()
    }

    pub(crate) fn seal(&mut self, draft: Draft) -> Vec<u8> {
        self.chain.seal(draft, at(1)).unwrap().bytes
    }

    pub(crate) fn opening(&mut self, predecessor: Option<Predecessor>) -> Vec<u8> {
        let key = head::format_key(&self.key.verifying_key());
        self.seal(Draft::new(&StreamOpened { node: self.node.clone(), key, predecessor }))
    }

    /// A record that every node may write; `number` makes it differ from others.
    pub(crate) fn record(&mut self, number: u64) -> Vec<u8> {
        self.seal(capabilities(number))
    }

    pub(crate) fn head(&mut self) -> Vec<u8> {
        self.chain.seal_head(&self.key, None, at(2)).unwrap().bytes
    }

    /// The control plane's record that this producer joined.
    pub(crate) fn joined(&self) -> Draft {
        Draft::new(&NodeJoined {
            node: self.node.clone(),
            kind: NodeKind::Sensor,
            key: head::format_key(&self.key.verifying_key()),
            labels: Default::default(),
            protocol: "1.0".into(),
        })
    }
}

pub(crate) fn capabilities(number: u64) -> Draft {
    Draft::new(&NodeCapabilities { live: true, version: number.to_string(), can: vec![], cannot: vec![] })
}

/// Checks everything that a checkpoint of the ledger in `root` determines, from bytes alone, and returns the records.
pub(crate) fn check(root: &Path) -> Vec<Vec<u8>> {
    check_volume(root, 1, &signer())
}

/// [`check`] of one volume, all of whose checkpoints are signed by one key.
pub(crate) fn check_volume(root: &Path, volume: u64, signer: &NoteSigner) -> Vec<Vec<u8>> {
    let dir = LedgerDir::open(&root.join(crate::volume::folder(volume))).unwrap();
    let origin = crate::volume::origin("test", volume);
    let keys = [signer.renamed(&origin).unwrap().verifier().clone()];
    let checkpoint = Checkpoint::verify(&dir.checkpoint_bytes().unwrap(), &origin, &keys).unwrap();
    let mut frontier = Frontier::new();
    let mut roots = HashMap::from([(TreeSize(0), frontier.root())]);
    let mut records = Vec::new();
    let mut levels: Vec<Vec<Digest>> = vec![Vec::new()];
    for record in dir.records(0..u64::MAX, checkpoint.size) {
        let (index, record) = record.unwrap();
        assert_eq!(index.0, records.len() as u64);
        frontier.push(Digest::leaf(&record));
        levels[0].push(Digest::leaf(&record));
        roots.insert(frontier.size(), frontier.root());
        records.push(record);
    }
    assert_eq!(records.len() as u64, checkpoint.size.0);
    assert_eq!(frontier.root(), checkpoint.root);
    while levels.last().unwrap().len() >= 256 {
        let next = levels.last().unwrap().as_chunks::<256>().0.iter().map(|tile| crate::tile::fold(tile)).collect();
        levels.push(next);
    }

    // Every tile of the tree is there, and every file that says it is a tile has the bytes that the tree determines.
    let files = dir.files().unwrap();
    for tile in TileId::all(checkpoint.size) {
        let held = |tile: TileId| files.binary_search(&tile.to_string()).is_ok();
        assert!(held(tile) || held(tile.to_full()), "{tile} is missing");
    }
    for file in files {
        if file.starts_with("tile/") {
            let tile: TileId = file.parse().unwrap();
            let bytes = dir.tile_bytes(tile).unwrap();
            let start = (tile.index() * 256) as usize;
            let items = start..start + usize::from(tile.width());
            match tile.kind() {
                TileKind::Entries if items.end <= records.len() => {
                    assert_eq!(decode_entries(tile, &bytes).unwrap(), records[items], "{tile}");
                }
                TileKind::Hashes(level) if levels.get(usize::from(level)).is_some_and(|all| items.end <= all.len()) => {
                    assert_eq!(decode_hashes(tile, &bytes).unwrap(), levels[usize::from(level)][items], "{tile}");
                }
                // Ahead of the checkpoint: a crash came between the two.
                _ => {}
            }
        } else if let Some(size) = file.strip_prefix("checkpoints/") {
            let size = TreeSize(size.parse().unwrap());
            let kept = Checkpoint::verify(&dir.numbered_bytes(size).unwrap(), &origin, &keys).unwrap();
            assert_eq!(kept.size, size);
            if size <= checkpoint.size {
                assert_eq!(kept.root, roots[&size]);
            }
        } else {
            let known = ["checkpoint", "lock"].contains(&&*file)
                || file.starts_with("wal/")
                || (volume == 1 && file.starts_with("volume/"));
            assert!(known, "{file} is not a ledger's");
        }
    }
    let reader = TileHashes::new(checkpoint.size, |tile| dir.hashes(tile));
    assert_eq!(tree::root(checkpoint.size, &reader).unwrap(), checkpoint.root);
    if checkpoint.size.0 > 0 {
        reader.hash(0, checkpoint.size.0 - 1).unwrap();
    }
    check_streams(&records);
    records
}

/// Every stream's records have rising sequences, and the ledger's own are chained without a gap.
fn check_streams(records: &[Vec<u8>]) {
    let first = Record::parse(&records[0]).unwrap();
    let mut own = (first.sequence, first.prevdigest);
    let mut last: HashMap<StreamId, Sequence> = HashMap::new();
    for bytes in records {
        let record = Record::parse(bytes).unwrap();
        if record.stream.is_ledger() {
            assert_eq!((record.sequence, record.prevdigest), own);
            own = (record.sequence.next(), Digest::leaf(bytes));
        } else if let Some(before) = last.insert(record.stream.clone(), record.sequence) {
            assert!(before < record.sequence, "{} repeats {}", record.stream, record.sequence);
        }
    }
}
