//! A log's side: asking witnesses, and putting together a checkpoint that meets the policy.
//!
//! [`WitnessClient`] talks to one witness, [`Cosigner`] knows the policy. Neither has a network, a clock or a thread. What a witness
//! says is checked before it is believed: a cosignature by its key of this very checkpoint, made now. What it says about sizes is
//! believed as far as asking again: a proof from there has to hold.

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use thiserror::Error;

use super::request::{AddCheckpoint, SIZE_CONTENT_TYPE, parse_size};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::{CosignTime, with_lines};
use crate::note::{self, Note, NoteError, VerifierKey};
use crate::policy::{Evaluation, Policy, PolicyWitness};

/// Most requests for one cosignature: the first, one with the size that the witness told, and one more when it moved on meanwhile.
pub const REQUESTS_MAX: usize = 3;
/// How far a witness's clock may be from ours, in seconds.
pub const CLOCK_TOLERANCE: u64 = 300;
/// Longest reason of a witness that is repeated, characters.
const REASON_LEN_MAX: usize = 200;

/// A witness's answer, as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`, without parameters.
    pub content_type: Option<String>,
    /// At most [`super::request::ANSWER_LEN_MAX`] bytes of it.
    pub body: Vec<u8>,
}

/// A witness could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// How requests travel.
pub trait Transport: Send + Sync {
    /// `POST url` with this body. Ends within a time of its own.
    ///
    /// # Errors
    /// [`TransportError`]: no answer, or one that is too long.
    fn post(&self, url: &str, body: &[u8]) -> Result<Reply, TransportError>;
}

/// Makes a consistency proof between two sizes of the log; the text says why not.
pub type Prove<'a> = dyn Fn(TreeSize, TreeSize) -> Result<Vec<Digest>, String> + 'a;

/// Why there is no cosignature.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AskError {
    /// No answer.
    #[error("witness {witness} does not answer: {reason}")]
    Unreachable {
        /// The witness's name in the policy.
        witness: String,
        /// Why.
        reason: TransportError,
    },
    /// An answer that says that it cannot, or will not now.
    #[error("witness {witness} answers {status}: {reason}")]
    Declined {
        /// The witness's name in the policy.
        witness: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it says.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("witness {witness} gives an answer that is not one: {what}")]
    Nonsense {
        /// The witness's name in the policy.
        witness: String,
        /// What is wrong with it.
        what: String,
    },
    /// A cosignature that was not made now.
    #[error("witness {witness} states the time {stated}, and it is {now}")]
    Clock {
        /// The witness's name in the policy.
        witness: String,
        /// What it states, in seconds since 1970.
        stated: u64,
        /// Our time.
        now: u64,
    },
    /// The witness has cosigned a larger tree than this log has: records that were published are missing here, or there are two
    /// histories.
    #[error(
        "witness {witness} has cosigned {theirs} records of this log, and there are {ours}: an older state was put back, or there are two histories"
    )]
    Ahead {
        /// The witness's name in the policy.
        witness: String,
        /// The size that it cosigned.
        theirs: TreeSize,
        /// The log's.
        ours: TreeSize,
    },
    /// The witness holds another tree of this size, or one that is not the beginning of this one.
    #[error("witness {witness} has cosigned another history of this log, up to {size} records")]
    Forked {
        /// The witness's name in the policy.
        witness: String,
        /// The size up to which its history is another one.
        size: TreeSize,
    },
    /// The log cannot prove what it says.
    #[error("no consistency proof from {old} to {new}: {reason}")]
    Proof {
        /// From.
        old: TreeSize,
        /// To.
        new: TreeSize,
        /// Why not.
        reason: String,
    },
}

impl AskError {
    /// Whether this says that there may be two histories: asking again does not make it better.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        matches!(self, AskError::Ahead { .. } | AskError::Forked { .. })
    }
}

/// A checkpoint that is to be cosigned: the log's signed note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    checkpoint: Checkpoint,
    text: String,
    note: Vec<u8>,
}

impl Head {
    /// Takes the log's own note.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn new(note: &[u8]) -> Result<Head, CheckpointError> {
        let (checkpoint, parsed) = Checkpoint::parse(note)?;
        Ok(Head { checkpoint, text: parsed.text().to_owned(), note: note.to_vec() })
    }

    /// The tree head.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The log's note.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        &self.note
    }
}

/// A log's side of one witness.
#[derive(Debug, Clone)]
pub struct WitnessClient {
    name: String,
    key: VerifierKey,
    url: String,
    /// Where the witness stands, as far as it is known; 0: ask.
    last: TreeSize,
}

impl WitnessClient {
    /// A witness at a submission prefix.
    #[must_use]
    pub fn new(name: &str, key: VerifierKey, prefix: &str) -> WitnessClient {
        let url = format!("{}/add-checkpoint", prefix.trim_end_matches('/'));
        WitnessClient { name: name.to_owned(), key, url, last: TreeSize(0) }
    }

    /// Its name in the policy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for a cosignature of `head`. Returns the signature line.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask(
        &mut self,
        head: &Head,
        prove: &Prove<'_>,
        transport: &dyn Transport,
        now: CosignTime,
    ) -> Result<String, AskError> {
        let size = head.checkpoint.size;
        for _ in 0..REQUESTS_MAX {
            if self.last > size {
                // It may have been a smaller log's word, or wrong: next time it is asked afresh.
                let theirs = std::mem::replace(&mut self.last, TreeSize(0));
                return Err(AskError::Ahead { witness: self.name.clone(), theirs, ours: size });
            }
            let old = self.last;
            let proof = if old == TreeSize(0) || old == size {
                Vec::new()
            } else {
                prove(old, size).map_err(|reason| AskError::Proof { old, new: size, reason })?
            };
            let request = AddCheckpoint { old, proof, checkpoint: head.note.clone() };
            let reply = transport
                .post(&self.url, &request.to_bytes())
                .map_err(|reason| AskError::Unreachable { witness: self.name.clone(), reason })?;
            match reply.status {
                200 => {
                    let line = self.take(head, &reply.body, now)?;
                    self.last = size;
                    return Ok(line);
                }
                409 => {
                    let told = self.told_size(&reply)?;
                    if told == old && told == size {
                        return Err(AskError::Forked { witness: self.name.clone(), size });
                    }
                    if told == old {
                        return Err(self.nonsense("it refuses the size that it names"));
                    }
                    self.last = told;
                }
                // The proof is ours and made from our tiles: if it does not hold, its tree is another one.
                422 if old > TreeSize(0) => return Err(AskError::Forked { witness: self.name.clone(), size: old }),
                status => {
                    let reason = shown(&reply.body);
                    return Err(AskError::Declined { witness: self.name.clone(), status, reason });
                }
            }
        }
        Err(self.nonsense("it names another size each time"))
    }

    fn nonsense(&self, what: impl Into<String>) -> AskError {
        AskError::Nonsense { witness: self.name.clone(), what: what.into() }
    }

    fn told_size(&self, reply: &Reply) -> Result<TreeSize, AskError> {
        if reply.content_type.as_deref() != Some(SIZE_CONTENT_TYPE) {
            return Err(self.nonsense(format!("a 409 without {SIZE_CONTENT_TYPE}")));
        }
        let text = std::str::from_utf8(&reply.body).ok().and_then(|text| text.strip_suffix('\n'));
        text.and_then(parse_size).ok_or_else(|| self.nonsense("a 409 whose body is not a size"))
    }

    /// The line by this witness's key, checked. Others' are ignored, as the specification asks.
    fn take(&self, head: &Head, body: &[u8], now: CosignTime) -> Result<String, AskError> {
        let bytes = [head.text.as_bytes(), b"\n", body].concat();
        let note = Note::parse(&bytes).map_err(|error| self.nonsense(error.to_string()))?;
        let time = note.cosigned_at(&self.key).map_err(|error| self.nonsense(error.to_string()))?;
        let time = time.ok_or_else(|| self.nonsense("no cosignature by the key of the policy"))?;
        if time.0.abs_diff(now.0) > CLOCK_TOLERANCE || time.0 == 0 {
            return Err(AskError::Clock { witness: self.name.clone(), stated: time.0, now: now.0 });
        }
        let mut lines = note.signatures().iter().filter(|line| self.key.claims(line));
        let latest = lines.find(|line| line.signature.starts_with(&time.0.to_be_bytes()));
        let latest = latest.expect("invariant: the time stands in one of the lines");
        Ok(note::line(&latest.name, latest.id, &latest.signature))
    }
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(REASON_LEN_MAX).collect()
}

/// What asking all came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The log's note, with the cosignatures that there are.
    pub note: Vec<u8>,
    /// Whether they meet the policy.
    pub evaluation: Evaluation,
    /// Why others did not cosign.
    pub errors: Vec<AskError>,
}

/// A policy and the witnesses that can be asked.
#[derive(Debug, Clone)]
pub struct Cosigner {
    policy: Policy,
}

impl Cosigner {
    /// Of a policy.
    #[must_use]
    pub fn new(policy: Policy) -> Cosigner {
        Cosigner { policy }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A client for each witness whose URL the policy says.
    #[must_use]
    pub fn clients(&self) -> Vec<WitnessClient> {
        let with_url = |witness: &PolicyWitness| {
            let url = witness.url.as_deref()?;
            Some(WitnessClient::new(&witness.name, witness.key.clone(), url))
        };
        self.policy.witnesses().iter().filter_map(with_url).collect()
    }

    /// Asks every witness once, one after the other: for whoever has no threads for it.
    ///
    /// # Errors
    /// As [`Cosigner::merge`]. What single witnesses said stands in the answer.
    pub fn ask_all(
        &self,
        head: &Head,
        prove: &Prove<'_>,
        transport: &dyn Transport,
        now: CosignTime,
    ) -> Result<Asked, NoteError> {
        let answers: Vec<Result<String, AskError>> =
            self.clients().iter_mut().map(|client| client.ask(head, prove, transport, now)).collect();
        let (lines, errors): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let lines: Vec<String> = lines.into_iter().filter_map(Result::ok).collect();
        let (note, evaluation) = self.merge(head, &lines)?;
        Ok(Asked { note, evaluation, errors: errors.into_iter().filter_map(Result::err).collect() })
    }

    /// The log's note with these lines behind its own, and whether that meets the policy.
    ///
    /// # Errors
    /// [`NoteError`]: too many lines, or a wrong one.
    pub fn merge(&self, head: &Head, lines: &[String]) -> Result<(Vec<u8>, Evaluation), NoteError> {
        let bytes = with_lines(&head.note, lines)?;
        let evaluation = self.policy.evaluate(&Note::parse(&bytes)?)?;
        Ok((bytes, evaluation))
    }
}

#[cfg(test)]
mod tests;
