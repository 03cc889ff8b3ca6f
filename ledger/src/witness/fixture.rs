//! A log in memory, for tests of both sides.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use ed25519_dalek::SigningKey;

use super::client::{Reply, Transport, TransportError};
use super::{Answer, KnownLog, KnownLogs, Witness, WitnessStore, lock, request};
use crate::checkpoint::Checkpoint;
use crate::cosignature::{CosignTime, CosignatureSigner};
use crate::note::NoteSigner;
use crate::tree::{Frontier, HashReader, consistency_proof};

/// Leaves, and the key that signs their heads.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) signer: NoteSigner,
    leaves: Vec<Digest>,
}

impl HashReader for Log {
    type Error = std::convert::Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        let (from, to) = ((index << level) as usize, ((index + 1) << level) as usize);
        Ok(root(&self.leaves[from..to]))
    }
}

fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

impl Log {
    /// A log with no records. Its notes carry grease.
    pub(crate) fn new(origin: &str) -> Log {
        let signer = NoteSigner::new(origin, SigningKey::from_bytes(&[1; 32])).unwrap().greased();
        Log { signer, leaves: Vec::new() }
    }

    /// The same log with so many records more; `history` tells histories apart.
    pub(crate) fn grow(&mut self, count: usize, history: &str) {
        let from = self.leaves.len();
        self.leaves.extend((from..from + count).map(|index| Digest::leaf(format!("{history} {index}").as_bytes())));
    }

    pub(crate) fn size(&self) -> TreeSize {
        TreeSize(self.leaves.len() as u64)
    }

    pub(crate) fn vkey(&self) -> String {
        self.signer.verifier().to_string()
    }

    /// The signed head of the first `size` records.
    pub(crate) fn head(&self, size: TreeSize) -> Vec<u8> {
        let root = root(&self.leaves[..size.0 as usize]);
        let origin = self.signer.verifier().name().to_owned();
        Checkpoint { origin, size, root }.sign(&self.signer).unwrap()
    }

    pub(crate) fn prove(&self, old: TreeSize, new: TreeSize) -> Vec<Digest> {
        consistency_proof(old, new, self).unwrap()
    }

    /// A request from `old` to all there is.
    pub(crate) fn request(&self, old: u64) -> super::AddCheckpoint {
        let old = TreeSize(old);
        let proof = if old == TreeSize(0) || old >= self.size() { Vec::new() } else { self.prove(old, self.size()) };
        super::AddCheckpoint { old, proof, checkpoint: self.head(self.size()) }
    }
}

pub(crate) fn cosigner(name: &str, seed: u8) -> CosignatureSigner {
    CosignatureSigner::ed25519(name, SigningKey::from_bytes(&[seed; 32])).unwrap()
}

/// A store in memory that can be told to fail, before or after it did what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Memory(pub(crate) Arc<MemoryState>);

#[derive(Default)]
pub(crate) struct MemoryState {
    pub(crate) kept: Mutex<BTreeMap<Digest, Vec<u8>>>,
    pub(crate) evidence: Mutex<Vec<Vec<u8>>>,
    pub(crate) fails_before: AtomicBool,
    pub(crate) fails_after: AtomicBool,
}

impl WitnessStore for Memory {
    fn load(&self, origin: &Digest) -> io::Result<Option<Vec<u8>>> {
        Ok(lock(&self.0.kept).get(origin).cloned())
    }

    fn save(&self, origin: &str, checkpoint: &[u8]) -> io::Result<()> {
        if self.0.fails_before.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is full"));
        }
        lock(&self.0.kept).insert(Digest::sha256(origin.as_bytes()), checkpoint.to_vec());
        if self.0.fails_after.load(Ordering::SeqCst) {
            return Err(io::Error::other("it may be there"));
        }
        Ok(())
    }

    fn keep_evidence(&self, _: &str, checkpoint: &[u8]) -> io::Result<()> {
        lock(&self.0.evidence).push(checkpoint.to_vec());
        Ok(())
    }
}

/// A witness by this name and seed that knows the log, and every volume of its ledger.
pub(crate) fn witness(name: &str, seed: u8, log: &Log, store: &Memory) -> Witness {
    let mut logs = KnownLogs::new();
    logs.add(KnownLog::ledger(&log.vkey()).unwrap()).unwrap();
    Witness::new(vec![cosigner(name, seed)], logs, Box::new(store.clone()))
}

/// Witnesses without a network: by the URL under which a policy names them. Whoever is not here does not answer.
#[derive(Default)]
pub(crate) struct Direct {
    pub(crate) witnesses: BTreeMap<String, Witness>,
    pub(crate) now: CosignTime,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Transport for Direct {
    fn post(&self, url: &str, body: &[u8]) -> Result<Reply, TransportError> {
        lock(&self.asked).push(url.to_owned());
        let witness = self.witnesses.get(url).ok_or_else(|| TransportError("connection refused".to_owned()))?;
        let text =
            |status, body: String| Reply { status, content_type: Some("text/plain".into()), body: body.into_bytes() };
        Ok(match witness.add_checkpoint(body, self.now) {
            Answer::Cosigned(lines) => text(200, lines),
            Answer::Conflict(size) => {
                let content_type = Some(request::SIZE_CONTENT_TYPE.to_owned());
                Reply { status: 409, content_type, body: format!("{size}\n").into_bytes() }
            }
            Answer::Refused(refusal) => text(refusal.status(), refusal.to_string()),
        })
    }
}
