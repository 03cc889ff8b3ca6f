//! A ledger by itself: no fleet, no control plane, records from this machine.
//!
//! [`LocalLedger`] is a ledger that is open for writing, with the keys that lie beside it. It has a control stream, in which it says what
//! only a control plane may say: that a producer joined. [`LocalProducer`] is one stream of it, with a key of its own. The state of both is the
//! ledger's: a stream goes on where the ledger says it stands, and nothing else is kept.
//!
//! [`lines::append_lines`] takes JSON Lines into a producer's stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_schemas::data::{CheckpointSeen, LedgerOpened, NodeJoined, StreamOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, Sequence, StreamId, TreeSize};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::Clock;
use cairn_schemas::types::{NodeKind, RecordType, Role};
use cairn_schemas::wire::PROTOCOL;
use ed25519_dalek::SigningKey;
use thiserror::Error;

use crate::checkpoint::Checkpoint;
use crate::files::{self, DiskError};
use crate::head;
use crate::keys::{KeyFolder, KeysError, LOCAL_FOLDER, LedgerKeys};
use crate::producer::{Chain, SealError, Sealed};
use crate::random::Random;
use crate::vault::VaultError;
use crate::volume::Place;
use crate::writer::{AppendError, Ledger, OpenError, PublishedCheckpoint, ReadError};

#[cfg(feature = "s3")]
mod bucket;
mod erase;
mod hidden;
pub mod line;
pub mod lines;

pub use erase::Erased;
pub use hidden::Hiding;

/// The control stream's node in a ledger that is made here.
const CONTROL_NODE: &str = "control";
/// What a ledger's folder may hold before there is a ledger: what an attempt left that a crash cut short.
const REMAINS: [&str; 4] = ["lock", "wal", "checkpoints", "releases"];

/// Why a ledger by itself cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The writer's own reason.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A key is missing or broken.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A file or folder cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A record could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is a folder with other things in it, and no ledger.
    #[error("{} holds other things and no ledger: {name}", .path.display())]
    NotALedger {
        /// The folder.
        path: PathBuf,
        /// One of the things.
        name: String,
    },
    /// The ledger's keys are here, were used, and the ledger is not: another one under the same name and key would be a fork.
    #[error("{} is gone, and its keys are in {}", .path.display(), .keys.display())]
    Gone {
        /// Where the ledger was.
        path: PathBuf,
        /// Its keys.
        keys: PathBuf,
    },
    /// A fleet's ledger is made by the fleet's control plane.
    #[error("{} is the ledger of the fleet beside it, and is not made yet", .path.display())]
    FleetFirst {
        /// Where it will be.
        path: PathBuf,
    },
    /// The name is another producer's.
    #[error("{name} is a producer of this ledger already, and not one of this command's: {reason}")]
    NameTaken {
        /// The name.
        name: NodeId,
        /// Whose it is.
        reason: &'static str,
    },
    /// The producer has joined, and its key is not here.
    #[error("{name} has joined this ledger, and its key {} is not here or is another", .path.display())]
    KeyLost {
        /// The producer.
        name: NodeId,
        /// Where its key was.
        path: PathBuf,
    },
    /// A record cannot be made.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The ledger did not take records.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The ledger put a `stream.rejected` in a record's place.
    #[error("the ledger rejected a record that was checked before: {reason}")]
    Rejected {
        /// Why.
        reason: String,
    },
    /// The vault beside the ledger did not do what it was asked to.
    #[error(transparent)]
    Vault(VaultError),
    /// There is no place for a vault beside this path.
    #[error("the ledger's path has no place beside it for a vault")]
    VaultPath(#[source] std::io::Error),
    /// The input cannot be read.
    #[error("the input cannot be read")]
    Input(#[source] std::io::Error),
    /// A durable record is not where the ledger says it is.
    #[error("record {place} cannot be read back")]
    Unreadable {
        /// Where it should be.
        place: Place,
    },
    /// No checkpoint covers the last record in time.
    #[error("everything is durable, and no checkpoint covers it after {seconds} s; the newest is of {size} records")]
    NotPublished {
        /// How long was waited.
        seconds: u64,
        /// The newest checkpoint's size.
        size: TreeSize,
    },
    /// There is no randomness for a stream id.
    #[error("the system gives no random bytes")]
    Random(#[source] std::io::Error),
}

/// A ledger that is open for writing, with the keys beside it.
pub struct LocalLedger {
    ledger: Ledger,
    keys: KeyFolder,
    control: NodeId,
    created: bool,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl std::fmt::Debug for LocalLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalLedger({:?})", self.ledger)
    }
}

impl LocalLedger {
    /// Opens the ledger at this path.
    ///
    /// # Errors
    /// [`LocalError::Open`] with [`OpenError::NoLedger`] where there is none, [`OpenError::Locked`] while another process writes it;
    /// [`LocalError::Keys`].
    pub fn open(path: &Path, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<LocalLedger, LocalError> {
        let keys = KeyFolder::of(path)?;
        // The keys first: a ledger that is not there should be told as that, and not as a key that is missing.
        if !path.is_dir() {
            return Err(OpenError::NoLedger.into());
        }
        let ledger = Ledger::open(path, keys.ledger_signers()?, Arc::clone(&clock))?;
        LocalLedger::with(ledger, keys, false, clock, random)
    }

    /// Opens the ledger at this path, or makes it, with keys in `<path>.keys/`.
    ///
    /// # Errors
    /// Any [`LocalError`] about ledger, folder or keys. What was made stays, and the next call goes on from it.
    pub fn open_or_create(
        path: &Path,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<LocalLedger, LocalError> {
        let keys = KeyFolder::of(path)?;
        if path.is_dir() && (keys.has_ledger_key()? || holds_ledger(path)?) {
            match LocalLedger::open(path, Arc::clone(&clock), Arc::clone(&random)) {
                Err(LocalError::Open(OpenError::NoLedger)) => {}
                opened => return opened,
            }
        }
        if keys.is_fleets() {
            return Err(LocalError::FleetFirst { path: path.to_owned() });
        }
        if !files::names(&keys.path().join(LOCAL_FOLDER))?.is_empty() {
            return Err(LocalError::Gone { path: path.to_owned(), keys: keys.path().to_owned() });
        }
        if path.exists() {
            let other = files::names(path)?.into_iter().find(|name| !REMAINS.contains(&name.as_str()));
            if let Some(name) = other {
                return Err(LocalError::NotALedger { path: path.to_owned(), name });
            }
        }
        let made = keys.make(&*random)?;
        let opened = opening(&made);
        let ledger = Ledger::create(path, &opened, made.ledger, Arc::clone(&clock))?;
        LocalLedger::with(ledger, keys, true, clock, random)
    }

    fn with(
        ledger: Ledger,
        keys: KeyFolder,
        created: bool,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<LocalLedger, LocalError> {
        let control = ledger.control_node();
        Ok(LocalLedger { ledger, keys, control, created, clock, random })
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where its keys lie.
    #[must_use]
    pub fn keys(&self) -> &KeyFolder {
        &self.keys
    }

    /// Whether it was made now.
    #[must_use]
    pub fn was_created(&self) -> bool {
        self.created
    }

    /// The control stream: the one that is there, or a new one.
    ///
    /// # Errors
    /// [`LocalError::Keys`], [`LocalError::KeyLost`], or the ledger does not take its first record.
    pub fn control(&self) -> Result<LocalProducer, LocalError> {
        let key = self.keys.control()?;
        self.check_key(&self.control, &key, self.keys.path().join(crate::keys::CONTROL_FILE))?;
        self.take_up(&self.control, key)
    }

    /// The producer of this name: its key is made, it joins and its stream is opened where that has not happened yet. A crash between these
    /// steps is repaired by the next call.
    ///
    /// # Errors
    /// [`LocalError::NameTaken`], [`LocalError::KeyLost`], or the ledger does not take its first records.
    pub fn producer(&self, name: &NodeId) -> Result<LocalProducer, LocalError> {
        let taken = |reason| LocalError::NameTaken { name: name.clone(), reason };
        let path = self.keys.path().join(LOCAL_FOLDER).join(format!("{name}.key"));
        let key = match self.ledger.node(name) {
            Some((Role::Node(NodeKind::Local), _)) => {
                let key = self.keys.producer(name)?;
                let key = key.ok_or_else(|| LocalError::KeyLost { name: name.clone(), path: path.clone() })?;
                self.check_key(name, &key, path)?;
                key
            }
            Some((Role::Control, _)) => return Err(taken("it is the control plane")),
            Some(_) => return Err(taken("it is a node that enforces")),
            None if name.as_str() == StreamId::ledger().as_str() => return Err(taken("it is the ledger itself")),
            None => {
                let key = self.keys.make_producer(name, &*self.random)?;
                let joined = NodeJoined {
                    node: name.clone(),
                    kind: NodeKind::Local,
                    key: head::format_key(&key.verifying_key()),
                    labels: Default::default(),
                    protocol: PROTOCOL.to_owned(),
                };
                let mut control = self.control()?;
                control.append(vec![Draft::new(&joined).subject(name.as_str())])?;
                control.sign_head()?;
                key
            }
        };
        self.take_up(name, key)
    }

    fn check_key(&self, name: &NodeId, key: &SigningKey, path: PathBuf) -> Result<(), LocalError> {
        match self.ledger.node(name) {
            Some((_, joined)) if joined == head::format_key(&key.verifying_key()) => Ok(()),
            _ => Err(LocalError::KeyLost { name: name.clone(), path }),
        }
    }

    /// A node's stream that went on last, or a new one.
    fn take_up(&self, node: &NodeId, key: SigningKey) -> Result<LocalProducer, LocalError> {
        let streams = self.ledger.positions().into_iter().filter(|(stream, _)| stream.node().as_ref() == Some(node));
        let newest = streams.max_by_key(|(_, position)| position.place);
        let (ledger, clock) = (self.ledger.clone(), Arc::clone(&self.clock));
        let Some((stream, _)) = newest else {
            let mut random = [0; 16];
            self.random.fill(&mut random).map_err(LocalError::Random)?;
            let opened =
                StreamOpened { node: node.clone(), key: head::format_key(&key.verifying_key()), predecessor: None };
            let chain = Chain::new(StreamId::new(node, random));
            let mut producer = LocalProducer { ledger, key, clock, chain };
            producer.append(vec![Draft::new(&opened)])?;
            return Ok(producer);
        };
        let chain = chain_from(&self.ledger, &stream, &*self.clock);
        Ok(LocalProducer { ledger, key, clock, chain })
    }

    /// Publishes everything, and gives the writer's lock back.
    pub fn close(&self) {
        self.ledger.close();
    }
}

/// Record 0 of a ledger with these keys.
fn opening(made: &LedgerKeys) -> LedgerOpened {
    LedgerOpened {
        name: made.name.clone(),
        volume: 1,
        ledger_key: made.ledger.verifier().to_string(),
        root_key: made.root.clone(),
        release_key: made.release.clone(),
        control_node: CONTROL_NODE.parse().expect("invariant: a good node id"),
        control_key: head::format_key(&made.control.verifying_key()),
        unsigned_commits: false,
        mldsa_key: None,
        witnesses: None,
        previous: None,
    }
}

/// Whether the folder holds what only a ledger has.
fn holds_ledger(path: &Path) -> Result<bool, DiskError> {
    Ok(files::names(path)?.iter().any(|name| name == crate::dir::CHECKPOINT_FILE || name == "tile"))
}

/// The chain as the ledger has it. Whatever does not end in a head counts as unsigned.
fn chain_from(ledger: &Ledger, stream: &StreamId, clock: &dyn Clock) -> Chain {
    let Some(at) = ledger.position(stream) else { return Chain::new(stream.clone()) };
    let last = at.place.and_then(|place| ledger.read_from(place, 1).ok()).and_then(|mut entries| entries.pop());
    let is_head =
        last.and_then(|(_, bytes)| read_back(&bytes)).is_some_and(|record| record.kind == RecordType::StreamHead);
    Chain::resume(stream.clone(), at.sequence.next(), at.leaf, u64::from(!is_head), clock.now())
}

/// A record that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Where it stands.
    pub place: Place,
    /// Its number in its stream.
    pub sequence: Sequence,
    /// Its leaf hash.
    pub leaf: Digest,
}

/// One stream of a ledger by itself. It is the only producer of the stream, since the ledger has one writer.
pub struct LocalProducer {
    ledger: Ledger,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    chain: Chain,
}

impl std::fmt::Debug for LocalProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalProducer({})", self.chain.stream())
    }
}

impl LocalProducer {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        self.chain.stream()
    }

    /// Records these, in this order. Returns when they are durable.
    ///
    /// # Errors
    /// [`LocalError::Seal`]: none is recorded. [`LocalError::Append`], [`LocalError::Rejected`].
    pub fn append(&mut self, drafts: Vec<Draft>) -> Result<Vec<Recorded>, LocalError> {
        let (mut next, now) = (self.chain.clone(), self.clock.now());
        let sealed = drafts.into_iter().map(|draft| next.seal(draft, now)).collect::<Result<Vec<_>, _>>()?;
        self.write(sealed, next)
    }

    /// Signs what is unsigned, if anything is.
    ///
    /// # Errors
    /// As [`LocalProducer::append`].
    pub fn sign_head(&mut self) -> Result<Option<Recorded>, LocalError> {
        if self.chain.unsigned() == 0 {
            return Ok(None);
        }
        let mut next = self.chain.clone();
        let head = next.seal_head(&self.key, self.checkpoint_seen(), self.clock.now())?;
        Ok(self.write(vec![head], next)?.pop())
    }

    /// Signs what is unsigned, and waits until a checkpoint covers everything. Returns that checkpoint.
    ///
    /// # Errors
    /// As [`LocalProducer::append`]; [`LocalError::NotPublished`] when that takes longer than `patience`.
    pub fn finish(&mut self, patience: Duration) -> Result<Arc<PublishedCheckpoint>, LocalError> {
        self.sign_head()?;
        let end = self.ledger.end();
        if self.ledger.wait_published_in(end.volume, TreeSize(end.index.0), patience) {
            return Ok(self.ledger.checkpoint());
        }
        if let Some(reason) = self.ledger.stopped() {
            return Err(ReadError::Stopped { reason }.into());
        }
        Err(LocalError::NotPublished { seconds: patience.as_secs(), size: self.ledger.checkpoint().size })
    }

    /// The newest checkpoint, as heads name it.
    fn checkpoint_seen(&self) -> Option<CheckpointSeen> {
        let published = self.ledger.checkpoint();
        let (checkpoint, _) = Checkpoint::parse(&published.bytes).ok()?;
        Some(CheckpointSeen { origin: checkpoint.origin, size: checkpoint.size.0, root: checkpoint.root })
    }

    fn write(&mut self, sealed: Vec<Sealed>, next: Chain) -> Result<Vec<Recorded>, LocalError> {
        if sealed.is_empty() {
            return Ok(Vec::new());
        }
        let pending = self.ledger.submit(self.chain.stream(), sealed.iter().map(|sealed| &*sealed.bytes));
        let appended = match pending.wait() {
            Ok(appended) => appended,
            Err(error) => {
                // Perhaps some of it is durable. The ledger knows.
                let stream = self.chain.stream().clone();
                self.chain = chain_from(&self.ledger, &stream, &*self.clock);
                return Err(error.into());
            }
        };
        self.chain = next;
        recorded(&sealed, &appended)
    }
}

/// Where each of the records stands that were appended together. Nobody else writes while this process does, and the ledger notes nothing
/// about a stream without gaps: they stand one behind the other.
fn recorded(sealed: &[Sealed], appended: &crate::writer::Appended) -> Result<Vec<Recorded>, LocalError> {
    if let Some(rejected) = appended.rejected.first() {
        return Err(LocalError::Rejected { reason: rejected.reason.clone() });
    }
    let first = (appended.index.0 + 1).checked_sub(sealed.len() as u64).expect("invariant: all of them have an index");
    let place = |offset: usize| Place {
        volume: appended.volume,
        index: cairn_schemas::ids::RecordIndex(first + offset as u64),
    };
    let each = |(offset, sealed): (usize, &Sealed)| Recorded {
        place: place(offset),
        sequence: sealed.sequence,
        leaf: sealed.leaf,
    };
    Ok(sealed.iter().enumerate().map(each).collect())
}

/// A record of the ledger as its own producer sees it again: for telling a repeat.
fn read_back(record: &[u8]) -> Option<Record> {
    Record::parse(record).ok()
}

#[cfg(test)]
mod tests;
