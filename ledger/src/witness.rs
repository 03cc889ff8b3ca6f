//! Witnesses (C2SP tlog-witness v1.0.0), both sides: the one that cosigns, and the log that asks it.
//!
//! [`Witness`] is a complete witness without a network: bytes of a request in, an answer out, with its storage and the time as
//! arguments. It remembers the newest checkpoint that it cosigned of each log, durable before it answers, and cosigns nothing
//! that does not contain it. [`Cosigner`] is the log's side: it asks the witnesses of a policy, checks what they say, and puts
//! together a checkpoint that meets the policy; the transport is an argument too. With feature `witness-server` there is a router
//! over the one, with `witness-client` a transport for the other and a thread that does it for a [`crate::writer::Ledger`].
//!
//! Whom a witness trusts: its own disk and clock, and of each log the key it was given. It does not trust a log to be consistent:
//! that is what it is for. What it cannot do: tell which of two histories is the true one. It takes the first that it sees.

pub mod client;
#[cfg(feature = "witness-client")]
pub mod cosigning;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(feature = "witness-client")]
pub mod http;
pub mod keys;
pub mod logs;
pub mod request;
#[cfg(feature = "witness-server")]
pub mod server;
pub mod store;
#[cfg(feature = "witness-client")]
pub mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use thiserror::Error;

pub use client::Cosigner;
pub use logs::{KnownLog, KnownLogs};
pub use request::AddCheckpoint;
pub use store::{DirStore, WitnessStore};

use crate::checkpoint::Checkpoint;
use crate::cosignature::{CosignTime, CosignatureSigner};
use crate::note::{Note, NoteError, VerifierKey};
use crate::tree::{TreeError, empty_root, verify_consistency};

/// Most keys of one witness: an Ed25519 key and an ML-DSA-44 key.
pub const WITNESS_KEYS_MAX: usize = 4;

/// What a witness answers to `add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200: cosignature lines. The checkpoint is durable.
    Cosigned(String),
    /// 409: the witness stands at this size, with this origin; a proof must start there.
    Conflict(TreeSize),
    /// Anything else: a status and a reason in one line.
    Refused(Refusal),
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request, or the checkpoint in it, cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The old size is larger than the checkpoint's.
    #[error("the old size {old} is larger than the checkpoint's, {new}")]
    SizesReversed {
        /// The old size.
        old: TreeSize,
        /// The checkpoint's.
        new: TreeSize,
    },
    /// This witness does not know the log.
    #[error("this witness does not know the log {origin:?}")]
    UnknownLog {
        /// Its origin.
        origin: String,
    },
    /// No signature by a key that this witness knows for the log.
    #[error("{0}")]
    NotSigned(NoteError),
    /// The consistency proof does not hold.
    #[error("the consistency proof does not hold: {0}")]
    Proof(TreeError),
    /// A log with no records has one root, and this is another.
    #[error("a tree without records has another root")]
    EmptyRoot,
    /// The witness could not make it durable, or not read what it had.
    #[error("the witness cannot keep the checkpoint: {0}")]
    Storage(String),
}

impl Refusal {
    /// The HTTP status of C2SP tlog-witness.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Malformed(_) | Refusal::SizesReversed { .. } => 400,
            Refusal::UnknownLog { .. } => 404,
            Refusal::NotSigned(_) => 403,
            Refusal::Proof(_) | Refusal::EmptyRoot => 422,
            Refusal::Storage(_) => 500,
        }
    }
}

/// A witness: keys, the logs that it knows, and what it has cosigned.
pub struct Witness {
    signers: Vec<CosignatureSigner>,
    logs: KnownLogs,
    store: Box<dyn WitnessStore>,
    /// One lock for each origin that was asked about: checking and keeping are one step, and logs do not wait for each other.
    origins: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Witness({:?})", self.signers)
    }
}

/// What a witness holds of a log: the newest checkpoint that it cosigned.
struct Held {
    checkpoint: Checkpoint,
    /// The latest time that it stated.
    time: CosignTime,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witness {
    /// A witness with these keys; each cosigns.
    ///
    /// # Panics
    /// Without a key, or with more than [`WITNESS_KEYS_MAX`]: whoever reads them refuses that.
    #[must_use]
    pub fn new(signers: Vec<CosignatureSigner>, logs: KnownLogs, store: Box<dyn WitnessStore>) -> Witness {
        assert!((1..=WITNESS_KEYS_MAX).contains(&signers.len()), "a witness has 1 to {WITNESS_KEYS_MAX} keys");
        Witness { signers, logs, store, origins: Mutex::new(HashMap::new()) }
    }

    /// Its public keys.
    pub fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.signers.iter().map(CosignatureSigner::verifier)
    }

    /// The logs that it knows.
    #[must_use]
    pub fn logs(&self) -> &KnownLogs {
        &self.logs
    }

    /// Answers the body of an `add-checkpoint`. When it cosigns, the checkpoint is durable. Requests about one log are taken one
    /// after the other.
    pub fn add_checkpoint(&self, body: &[u8], now: CosignTime) -> Answer {
        self.decide(body, now).unwrap_or_else(Answer::Refused)
    }

    fn decide(&self, body: &[u8], now: CosignTime) -> Result<Answer, Refusal> {
        // 1. What is asked, and whether the log said it.
        let request = AddCheckpoint::parse(body).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let malformed = |error: &dyn std::fmt::Display| Refusal::Malformed(format!("the checkpoint: {error}"));
        let note = Note::parse(&request.checkpoint).map_err(|error| malformed(&error))?;
        let origin = note.text().split('\n').next().unwrap_or_default();
        let keys = self.logs.keys_of(origin);
        if keys.is_empty() {
            return Err(Refusal::UnknownLog { origin: origin.chars().take(80).collect() });
        }
        note.verify(&keys).map_err(Refusal::NotSigned)?;
        let new = Checkpoint::from_text(note.text()).map_err(|error| malformed(&error))?;
        if request.old > new.size {
            return Err(Refusal::SizesReversed { old: request.old, new: new.size });
        }

        // 2. Whether it contains what this witness cosigned before. The lock is held until that is replaced, or a slower request could
        //    put an older checkpoint in its place.
        let of_origin = Arc::clone(lock(&self.origins).entry(origin.to_owned()).or_default());
        let _one_at_a_time = lock(&of_origin);
        let held = self.held(origin)?;
        let known = held.as_ref().map_or(TreeSize(0), |held| held.checkpoint.size);
        if let Some(held) = &held
            && held.checkpoint.size == new.size
            && held.checkpoint.root != new.root
        {
            // Two roots of one size, both signed by the log: the log shows two histories, whatever the old size says. What was asked is
            // kept beside what is held; together they are the proof.
            self.store.keep_evidence(origin, &request.checkpoint).map_err(|error| storage(&error))?;
            return Ok(Answer::Conflict(known));
        }
        if request.old != known {
            return Ok(Answer::Conflict(known));
        }
        match &held {
            Some(Held { checkpoint, .. }) => {
                verify_consistency(known, &checkpoint.root, new.size, &new.root, &request.proof)
            }
            None if new.size == TreeSize(0) && new.root != empty_root() => return Err(Refusal::EmptyRoot),
            None => verify_consistency(TreeSize(0), &empty_root(), new.size, &new.root, &request.proof),
        }
        .map_err(Refusal::Proof)?;

        // 3. Cosign. A clock that was set back does not take this witness's word about the largest tree back: time stands still.
        let time = held.map_or(now, |held| held.time.max(now));
        let lines = self.signers.iter().map(|signer| signer.line(note.text(), time));
        let lines: String = lines.collect::<Result<_, NoteError>>().map_err(|error| malformed(&error))?;

        // 4. Durable, then answer. A crash between the two leaves a checkpoint that was cosigned and a log that does not know: it asks
        //    again, is told the size, and gets a new cosignature of the same checkpoint.
        let kept = own_lines(&note, &keys) + &lines;
        let kept = format!("{}\n{kept}", note.text());
        self.store.save(origin, kept.as_bytes()).map_err(|error| storage(&error))?;
        Ok(Answer::Cosigned(lines))
    }

    /// The newest checkpoint that this witness cosigned of the log with this origin digest, with its cosignatures: the monitoring
    /// endpoint `<prefix>/<hex of SHA-256(origin)>/checkpoint`.
    ///
    /// # Errors
    /// [`Refusal::Storage`].
    pub fn newest(&self, origin: &Digest) -> Result<Option<Vec<u8>>, Refusal> {
        self.store.load(origin).map_err(|error| storage(&error))
    }

    /// What it holds of a log. What lies on the disk is its own word, and is checked like one: a witness that went on from a file that
    /// somebody put there would cosign a history it never saw.
    fn held(&self, origin: &str) -> Result<Option<Held>, Refusal> {
        let Some(bytes) = self.store.load(&Digest::sha256(origin.as_bytes())).map_err(|error| storage(&error))? else {
            return Ok(None);
        };
        let refuse = |error: &dyn std::fmt::Display| Refusal::Storage(format!("what it has of {origin}: {error}"));
        let (checkpoint, note) = Checkpoint::parse(&bytes).map_err(|error| refuse(&error))?;
        if checkpoint.origin != origin {
            return Err(refuse(&format!("it is of {}", checkpoint.origin)));
        }
        // The log's key may have been rotated since; this witness's own signature is what counts.
        let mut latest = None;
        for key in self.keys() {
            latest = latest.max(note.cosigned_at(key).map_err(|error| refuse(&error))?);
        }
        let time = latest.ok_or_else(|| refuse(&"it is not cosigned by this witness"))?;
        Ok(Some(Held { checkpoint, time }))
    }
}

fn storage(error: &std::io::Error) -> Refusal {
    Refusal::Storage(error.to_string())
}

/// The log's own signature lines; a stranger's are not kept.
fn own_lines(note: &Note, keys: &[VerifierKey]) -> String {
    let known = note.signatures().iter().filter(|line| keys.iter().any(|key| key.claims(line)));
    known.map(|line| crate::note::line(&line.name, line.id, &line.signature)).collect()
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
