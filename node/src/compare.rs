//! Comparing what the control plane shows with what independent witnesses have seen.
//!
//! A control plane that holds the ledger's key can sign two histories and show one to some nodes, the other to everybody else. A
//! witness that is not in its hands cosigns one of them only. So each node asks now and then a few witnesses of the policy that it
//! pinned for their newest checkpoint of the ledger: it must be one history with what this node was shown. The proof comes from the
//! control plane's tiles; it is checked against two roots that the ledger's key signed, so the tiles need no trust.
//!
//! What does not fit is a [`NodeConflict`]: two checkpoints by one key that cannot both be true, which convinces anybody. What
//! cannot be proven is told when it stays so: a control plane that hides its tiles is not better than one that lies. Without a
//! witness that is honest, nodes see nothing; what they were shown stands in their signed heads all the same.

use std::collections::{HashMap, HashSet};

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::note::{Note, VerifierKey};
use cairn_ledger::policy::Policy;
use cairn_ledger::tile::{TileHashes, TileId};
use cairn_ledger::tree::{ProofError, consistency_proof, verify_consistency};
use cairn_schemas::data::NodeConflict;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;

use crate::random::Random;

/// Most witnesses that are asked in one round.
pub const FEW: usize = 3;
/// After so many rounds in a row without a proof, that there is none is told.
pub const UNPROVEN_ROUNDS_MAX: u32 = 5;
/// Most conflicts that one run of a node tells: one is enough for anybody.
pub const TOLD_MAX: usize = 16;
/// Longest checkpoint of a witness that is read, bytes.
pub const CHECKPOINT_LEN_MAX: usize = 64 << 10;

/// Where checkpoints and tiles come from.
pub trait Peers {
    /// `GET <url>`: a witness's newest checkpoint; `None` where it has none of this log. At most [`CHECKPOINT_LEN_MAX`] bytes.
    ///
    /// # Errors
    /// Why there is no answer.
    fn witness_checkpoint(&self, url: &str) -> Result<Option<Vec<u8>>, String>;

    /// The hashes of a tile, as the control plane serves it; of a partial one that is gone the first of the full one's.
    ///
    /// # Errors
    /// Why there is none.
    fn tile(&self, tile: TileId) -> Result<Vec<Digest>, String>;
}

/// How two checkpoints stand to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// One history.
    Agrees,
    /// Two histories: both are signed by the ledger's key, and no proof leads from one to the other.
    Conflict(String),
    /// Nobody can tell: a proof could not be made.
    Unproven(String),
}

/// Compares two checkpoints whose signatures were checked. The proof is made from tiles of the larger tree.
#[must_use]
pub fn compare(one: &Checkpoint, other: &Checkpoint, peers: &dyn Peers) -> Comparison {
    let (old, new) = if one.size <= other.size { (one, other) } else { (other, one) };
    if old.size == new.size {
        return if old.root == new.root {
            Comparison::Agrees
        } else {
            Comparison::Conflict(format!("two roots of {} records: {} and {}", old.size, old.root, new.root))
        };
    }
    if old.size == TreeSize(0) {
        return Comparison::Agrees;
    }
    let tiles = TileHashes::new(new.size, |tile| peers.tile(tile));
    match consistency_proof(old.size, new.size, &tiles) {
        Err(ProofError::Read(reason)) => Comparison::Unproven(reason),
        Err(ProofError::Tree(error)) => Comparison::Unproven(error.to_string()),
        Ok(proof) => match verify_consistency(old.size, &old.root, new.size, &new.root, &proof) {
            Ok(()) => Comparison::Agrees,
            Err(error) => {
                Comparison::Conflict(format!("{} records do not contain the {} before: {error}", new.size, old.size))
            }
        },
    }
}

/// What a round found with one witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// One history, up to the smaller of the two sizes.
    Agrees {
        /// The witness.
        from: String,
        /// Its checkpoint's size.
        size: TreeSize,
    },
    /// Two histories. Told once.
    Conflict(Box<NodeConflict>),
    /// Nothing could be compared.
    Unknown {
        /// The witness.
        from: String,
        /// Why.
        reason: String,
    },
}

struct Peer {
    name: String,
    key: VerifierKey,
    url: String,
}

/// Compares, round by round. It keeps what it told, and how long a proof has been missing.
pub struct Comparer {
    origin: String,
    key: VerifierKey,
    peers: Vec<Peer>,
    /// The newest note that was compared with what the control plane shows now.
    last: Option<Vec<u8>>,
    unproven: HashMap<String, u32>,
    told: HashSet<Digest>,
}

impl std::fmt::Debug for Comparer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Comparer({}, {} witnesses)", self.origin, self.peers.len())
    }
}

impl Comparer {
    /// With the witnesses of a policy that have a URL; their monitoring prefix is their submission prefix.
    #[must_use]
    pub fn new(origin: &str, key: VerifierKey, policy: &Policy) -> Comparer {
        let hash = Digest::sha256(origin.as_bytes());
        let peer = |witness: &cairn_ledger::policy::PolicyWitness| {
            let prefix = witness.url.as_deref()?.trim_end_matches('/');
            let url = format!("{prefix}/{hash}/checkpoint");
            Some(Peer { name: witness.name.clone(), key: witness.key.clone(), url })
        };
        Comparer {
            origin: origin.to_owned(),
            key,
            peers: policy.witnesses().iter().filter_map(peer).collect(),
            last: None,
            unproven: HashMap::new(),
            told: HashSet::new(),
        }
    }

    /// Whether it compares checkpoints that this key signs.
    #[must_use]
    pub fn is_of(&self, key: &VerifierKey) -> bool {
        self.key == *key
    }

    /// Whether there is anybody to compare with.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// One round: `seen`, the newest note that the control plane showed, against the one before it, and against what a few witnesses have.
    pub fn round(&mut self, seen: &[u8], peers: &dyn Peers, random: &dyn Random) -> Vec<Finding> {
        let keys = [self.key.clone()];
        // It was checked when it was shown.
        let Ok(mine) = Checkpoint::verify(seen, &self.origin, &keys) else { return Vec::new() };
        let mut findings = Vec::new();
        if let Some(last) = self.last.take()
            && last != seen
            && let Ok(before) = Checkpoint::verify(&last, &self.origin, &keys)
        {
            let comparison = compare(&before, &mine, peers);
            findings.extend(self.judge("control", comparison, &last, seen, before.size));
        }
        self.last = Some(seen.to_vec());
        for position in self.choose(random) {
            let Peer { name, key, url } = &self.peers[position];
            let (from, key) = (name.clone(), key.clone());
            let theirs = match peers.witness_checkpoint(url) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    findings.push(Finding::Unknown { from, reason: "it has cosigned nothing of this ledger".into() });
                    continue;
                }
                Err(reason) => {
                    findings.push(Finding::Unknown { from, reason });
                    continue;
                }
            };
            // Neither this node nor a witness can make up a conflict: the ledger's key signed both.
            let other = match self.witnessed(&theirs, &key) {
                Ok(other) => other,
                Err(reason) => {
                    findings.push(Finding::Unknown { from, reason });
                    continue;
                }
            };
            let comparison = compare(&mine, &other, peers);
            findings.extend(self.judge(&from, comparison, seen, &theirs, other.size));
        }
        findings
    }

    /// A few positions, drawn anew each round.
    fn choose(&self, random: &dyn Random) -> Vec<usize> {
        let mut positions: Vec<usize> = (0..self.peers.len()).collect();
        let mut bytes = [0u8; FEW * 2];
        // Without randomness it is always the same ones.
        let _ = random.fill(&mut bytes);
        for place in 0..FEW.min(positions.len()) {
            let draw = usize::from(u16::from_be_bytes([bytes[2 * place], bytes[2 * place + 1]]));
            let other = place + draw % (positions.len() - place);
            positions.swap(place, other);
        }
        positions.truncate(FEW);
        positions
    }

    fn witnessed(&self, bytes: &[u8], witness: &VerifierKey) -> Result<Checkpoint, String> {
        let keys = [self.key.clone()];
        let checkpoint = Checkpoint::verify(bytes, &self.origin, &keys).map_err(|error| error.to_string())?;
        let note = Note::parse(bytes).map_err(|error| error.to_string())?;
        match note.cosigned_at(witness) {
            Ok(Some(_)) => Ok(checkpoint),
            Ok(None) => Err("its checkpoint is not cosigned by it".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn judge(&mut self, from: &str, found: Comparison, seen: &[u8], other: &[u8], size: TreeSize) -> Option<Finding> {
        let reason = match found {
            Comparison::Agrees => {
                self.unproven.remove(from);
                return Some(Finding::Agrees { from: from.to_owned(), size });
            }
            Comparison::Unproven(reason) => {
                let rounds = self.unproven.entry(from.to_owned()).or_default();
                *rounds += 1;
                if *rounds < UNPROVEN_ROUNDS_MAX {
                    return Some(Finding::Unknown { from: from.to_owned(), reason });
                }
                format!("no proof that they are one history in {rounds} rounds: {reason}")
            }
            Comparison::Conflict(reason) => reason,
        };
        let (seen, other) = (self.own(seen), self.own(other));
        let mark = Digest::sha256(format!("{from}\n{seen}\n{other}").as_bytes());
        if self.told.len() == TOLD_MAX || !self.told.insert(mark) {
            return Some(Finding::Unknown { from: from.to_owned(), reason });
        }
        Some(Finding::Conflict(Box::new(NodeConflict { seen, other, from: from.to_owned(), reason })))
    }

    /// A note with the ledger's signature alone: what proves something, and has room in a record.
    fn own(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let Ok(note) = Note::parse(bytes) else { return text.chars().take(1_000).collect() };
        let (_, lines) = text.rsplit_once("\n\n").unwrap_or_default();
        let ours = note.signatures().iter().zip(lines.lines()).filter(|(line, _)| self.key.claims(line));
        let ours: String = ours.map(|(_, line)| format!("{line}\n")).collect();
        format!("{}\n{ours}", note.text())
    }
}

#[cfg(test)]
mod tests;
