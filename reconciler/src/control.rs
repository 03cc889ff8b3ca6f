//! The control plane's own stream: what it decides, as records.
//!
//! One chain under one lock, held over the append: records reach the ledger in the order of their numbers. Where the ledger
//! refuses, or nobody knows whether it took a record, the chain is taken up again from where the ledger says it stands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::producer::{Chain, SealError, Sealed};
use cairn_ledger::volume::Place;
use cairn_ledger::writer::{AppendError, Ledger};
use cairn_schemas::data::{CheckpointSeen, StreamOpened};
use cairn_schemas::ids::{NodeId, StreamId};
use cairn_schemas::record::Draft;
use cairn_schemas::time::Clock;
use ed25519_dalek::SigningKey;

/// Why the control plane could not record something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The record cannot be made.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The ledger did not take it.
    #[error("the ledger did not take the control plane's record: {0}")]
    Append(#[source] Box<AppendError>),
    /// The ledger put a `stream.rejected` in a record's place: a bug here, or two control planes with one key.
    #[error("the ledger rejected the control plane's record: {reason}")]
    Rejected {
        /// Why.
        reason: String,
    },
}

/// The stream. Cheap to share; appends block until they are durable.
pub struct Control {
    ledger: Ledger,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    chain: Mutex<Chain>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({})", self.lock().stream())
    }
}

/// Records that are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Their bytes.
    pub records: Vec<Vec<u8>>,
    /// The last one's place. Others' records may stand between them.
    pub place: Place,
}

impl Control {
    /// Opens a new stream: `stream.opened` is durable when this returns. `random` makes the stream's id.
    ///
    /// # Errors
    /// Any [`ControlError`].
    pub fn create(
        ledger: Ledger,
        node: &NodeId,
        key: SigningKey,
        clock: Arc<dyn Clock>,
        random: [u8; 16],
    ) -> Result<Control, ControlError> {
        let opened = StreamOpened {
            node: node.clone(),
            key: cairn_ledger::head::format_key(&key.verifying_key()),
            predecessor: None,
        };
        let chain = Mutex::new(Chain::new(StreamId::new(node, random)));
        let control = Control { ledger, key, clock, chain };
        control.append(vec![Draft::new(&opened)])?;
        Ok(control)
    }

    /// Takes up the stream where the ledger has it. Whatever stands after the last head counts as unsigned.
    #[must_use]
    pub fn resume(ledger: Ledger, stream: StreamId, key: SigningKey, clock: Arc<dyn Clock>) -> Control {
        let chain = Mutex::new(chain_from(&ledger, &stream, clock.as_ref()));
        Control { ledger, key, clock, chain }
    }

    /// The stream's id.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.lock().stream().clone()
    }

    /// Records these, in this order and with nothing between them. Returns when they are durable.
    ///
    /// # Errors
    /// Any [`ControlError`]. Some of them may be durable nevertheless: whoever asked looks at the state again.
    pub fn append(&self, drafts: Vec<Draft>) -> Result<Recorded, ControlError> {
        self.write(|chain, _, clock| {
            let now = clock.now();
            drafts.into_iter().map(|draft| chain.seal(draft, now)).collect()
        })
    }

    /// Signs what is unsigned, if that is due, or if `close` and there is anything.
    ///
    /// # Errors
    /// Any [`ControlError`].
    pub fn sign_head(&self, close: bool) -> Result<bool, ControlError> {
        let due = {
            let chain = self.lock();
            chain.head_due(self.clock.now()) || (close && chain.unsigned() > 0)
        };
        if !due {
            return Ok(false);
        }
        let seen = self.checkpoint_seen();
        self.write(|chain, key, clock| Ok(vec![chain.seal_head(key, seen, clock.now())?]))?;
        Ok(true)
    }

    /// Seals on a copy and keeps it once the records are durable: a crash or an error leaves the chain where the ledger is.
    fn write(
        &self,
        seal: impl FnOnce(&mut Chain, &SigningKey, &dyn Clock) -> Result<Vec<Sealed>, SealError>,
    ) -> Result<Recorded, ControlError> {
        let mut chain = self.lock();
        let mut next = chain.clone();
        let sealed = seal(&mut next, &self.key, self.clock.as_ref())?;
        let records: Vec<Vec<u8>> = sealed.into_iter().map(|sealed| sealed.bytes).collect();
        match self.ledger.append(chain.stream(), records.clone()) {
            Ok(appended) => {
                // What was rejected has its number too; the chain goes on behind it.
                *chain = next;
                match appended.rejected.into_iter().next() {
                    Some(rejected) => Err(ControlError::Rejected { reason: rejected.reason }),
                    None => {
                        let place = Place { volume: appended.volume, index: appended.index };
                        Ok(Recorded { records, place })
                    }
                }
            }
            Err(error) => {
                // Perhaps it is durable, perhaps not. The ledger knows.
                let stream = chain.stream().clone();
                *chain = chain_from(&self.ledger, &stream, self.clock.as_ref());
                Err(ControlError::Append(Box::new(error)))
            }
        }
    }

    fn checkpoint_seen(&self) -> Option<CheckpointSeen> {
        let published = self.ledger.checkpoint();
        let (checkpoint, _) = Checkpoint::parse(&published.bytes).ok()?;
        Some(CheckpointSeen { origin: checkpoint.origin, size: checkpoint.size.0, root: checkpoint.root })
    }

    /// A panic while the lock was held left the chain where the ledger is: it is replaced in one step.
    fn lock(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chain as the ledger has it. How much of it is unsigned is not asked: one more head harms nobody.
fn chain_from(ledger: &Ledger, stream: &StreamId, clock: &dyn Clock) -> Chain {
    match ledger.position(stream) {
        Some(at) => Chain::resume(stream.clone(), at.sequence.next(), at.leaf, 1, clock.now()),
        None => Chain::new(stream.clone()),
    }
}
