//! A log in memory, for tests of both sides.

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use ed25519_dalek::SigningKey;

use crate::checkpoint::Checkpoint;
use crate::cosignature::CosignatureSigner;
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
