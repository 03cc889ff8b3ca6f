//! Makes ledgers of exactly these sizes, by the writer that ships, for `.ci/interop` to have them checked by tools that others wrote.
//!
//! ```text
//! sizes FOLDER SIZE...
//! ```
//!
//! `FOLDER/<size>` is a ledger, with every smaller one of the sizes among its kept checkpoints, and `FOLDER/<size>.proofs` what this
//! code proves of it: `<index>.tlog-proof` with `<index>.record`, and `<old>-<new>.consistency`, one hash a line in base64. Size 0, which
//! no ledger has, as record 0 comes with the ledger, is its checkpoint alone. `FOLDER/vkey` is the key. Keys are fixed: these are for tests.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::LedgerDir;
use cairn_ledger::head;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::producer::{Chain, HEAD_RECORDS_MAX};
use cairn_ledger::tile::TileHashes;
use cairn_ledger::tree;
use cairn_ledger::writer::Ledger;
use cairn_schemas::data::{FleetObserved, LedgerOpened, StreamOpened};
use cairn_schemas::ids::{NodeId, RecordIndex, StreamId, TreeSize};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use ed25519_dalek::SigningKey;

/// Most records of one append.
const AT_ONCE: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A public key for `ledger.opened`, which must have one; nothing is signed with it.
const RELEASE_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbanJuFtzQcyT5UZI2zwke0F1prFm\n\
9lwRWDaLWr52Z2ADMv5hx4Qo47wjZsPj/buvArFtS59Oj9NrQNbXdzC2Fg==\n\
-----END PUBLIC KEY-----\n";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, sizes @ ..] = &arguments[..] else { return Err("usage: sizes FOLDER SIZE...".into()) };
    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("vkey"), format!("{}\n", signer()?.verifier()))?;
    let sizes = sizes.iter().map(|size| Ok(size.parse()?)).collect::<Result<Vec<u64>>>()?;
    for size in &sizes {
        let ledger = folder.join(size.to_string());
        if *size == 0 {
            empty(&ledger)?;
        } else {
            let smaller: Vec<u64> = sizes.iter().copied().filter(|other| (1..=*size).contains(other)).collect();
            make(&ledger, &smaller)?;
            prove(&ledger, &folder.join(format!("{size}.proofs")), &smaller)?;
        }
        println!("{}", ledger.display());
    }
    Ok(())
}

fn now() -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000)
}

fn signer() -> Result<NoteSigner> {
    Ok(NoteSigner::new("sizes.example/1", SigningKey::from_bytes(&[1; 32]))?)
}

/// The checkpoint of a tree without records.
fn empty(folder: &Path) -> Result<()> {
    let signer = signer()?;
    let origin = signer.verifier().name().to_owned();
    let checkpoint = Checkpoint { origin, size: TreeSize(0), root: tree::empty_root() };
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join("checkpoint"), checkpoint.sign(&signer)?)?)
}

/// A ledger of the last of these sizes, rising, that keeps a checkpoint of each.
fn make(folder: &Path, sizes: &[u64]) -> Result<()> {
    let control_key = SigningKey::from_bytes(&[3; 32]);
    let key = head::format_key(&control_key.verifying_key());
    let node: NodeId = "control".parse()?;
    let opened = LedgerOpened {
        name: "sizes.example".into(),
        volume: 1,
        ledger_key: signer()?.verifier().to_string(),
        root_key: NoteSigner::new("sizes.example/root", SigningKey::from_bytes(&[2; 32]))?.verifier().to_string(),
        release_key: RELEASE_KEY.into(),
        control_node: node.clone(),
        control_key: key.clone(),
        unsigned_commits: true,
        mldsa_key: None,
        witnesses: None,
        previous: None,
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now()));
    let ledger = Ledger::create(folder, &opened, signer()?, clock)?;
    let mut chain = Chain::new(StreamId::new(&node, [0; 16]));
    let stream = chain.stream().clone();
    for size in sizes {
        let mut have = ledger.size().0;
        while have < *size {
            let mut records = Vec::new();
            while have < *size && (records.len() as u64) < AT_ONCE {
                records.push(
                    match chain.next().0 {
                        0 => chain.seal(
                            Draft::new(&StreamOpened { node: node.clone(), key: key.clone(), predecessor: None }),
                            now(),
                        )?,
                        // The last record of a ledger signs the stream.
                        _ if have + 1 == *size || chain.unsigned() + 1 == HEAD_RECORDS_MAX => {
                            chain.seal_head(&control_key, None, now())?
                        }
                        unchanged => {
                            chain.seal(Draft::new(&FleetObserved { streams: Vec::new(), unchanged }), now())?
                        }
                    }
                    .bytes,
                );
                have += 1;
            }
            ledger.append(&stream, records)?;
        }
        if !ledger.wait_published(TreeSize(*size), PATIENCE) {
            return Err(format!("{size} records were not published").into());
        }
        // What a proof leads to is kept.
        ledger.inclusion(RecordIndex(size - 1), TreeSize(*size))?;
    }
    ledger.close();
    Ok(())
}

/// Proofs by this code, for others to check.
fn prove(folder: &Path, proofs: &Path, sizes: &[u64]) -> Result<()> {
    fs::create_dir_all(proofs)?;
    let dir = LedgerDir::open(folder)?;
    let checkpoint = dir.checkpoint_bytes()?;
    let size = dir.checkpoint()?.0.size;
    let mut indexes = BTreeSet::new();
    for index in sizes.iter().flat_map(|size| [size - 1, *size, size / 2]).filter(|index| *index < size.0) {
        indexes.insert(RecordIndex(index));
    }
    for index in indexes {
        fs::write(proofs.join(format!("{index}.tlog-proof")), dir.proof(index, &checkpoint)?.to_bytes())?;
        fs::write(proofs.join(format!("{index}.record")), dir.record(index, size)?)?;
    }
    let reader = TileHashes::new(size, |tile| dir.hashes(tile));
    for old in sizes {
        let hashes = tree::consistency_proof(TreeSize(*old), size, &reader).map_err(|error| error.to_string())?;
        let lines: String = hashes.iter().map(|hash| BASE64_STANDARD.encode(hash.as_bytes()) + "\n").collect();
        fs::write(proofs.join(format!("{old}-{size}.consistency")), lines)?;
    }
    Ok(())
}
