//! The one writer of a ledger.
//!
//! [`Ledger::append`] returns when the records are durable; [`Ledger::submit`] is the same for callers that do not want to stand still. Callers' threads read and check records; one thread decides about them
//! in order, writes all that wait as one group into the write-ahead log, and answers; another makes tiles and checkpoints of what is durable.
//! The order of effects, and what a crash leaves at each step, is in [`commit`](self::commit) and in `integrate.rs`; opening a ledger runs the same
//! code over what the log still holds.
//!
//! What stops the writer and what does not: a full disk refuses appends, and reads go on; they are taken again when there is room. A
//! write or sync of the log that failed leaves nobody knowing what is on the disk: the writer stops for good, and opening the
//! ledger again repairs it. A producer's mistakes stop nothing but that producer.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_schemas::data::LedgerOpened;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, RecordIndex, Sequence, StreamId, TreeSize};
use cairn_schemas::time::Clock;
use cairn_schemas::types::Role;
use thiserror::Error;

use crate::dir::numbered_path;
use crate::disk::{DirDisk, LockGuard};
use crate::durable::NewFile;
use crate::integrate::{EdgeError, read_hashes, read_tile};
use crate::note::NoteSigner;
use crate::proof::Proof;
use crate::store::{Store, StoreError};
use crate::streams::{History, Incoming, place};
use crate::tile::{TILE_WIDTH, TileHashes, TileId, TileKind, decode_entries};
use crate::tree::{self, ProofError, TreeError};
use crate::volume::Place;

mod address;
mod change;
mod commit;
mod cosigned;
mod open;
mod release_files;
mod restore;
mod state;
mod submission;
mod subscription;
mod succession;
mod threads;
mod volumes;

pub use address::{Address, AddressError};
pub use change::{CHANGE_REASON_LEN_MAX, ChangeError, RotateAfter, Rotation};
pub use cosigned::CosignedError;
pub use open::{OpenError, Signers};
pub use restore::{Restore, Restored};
pub use submission::{Pending, Published};
pub use subscription::{Entry, Subscription};

pub use crate::integrate::{EdgeError as LedgerDamage, PublishedCheckpoint};
pub use crate::streams::{FORKS_NOTED_MAX, Position, REASON_LEN_MAX, RECENT_MAX, Refusal, ReplayError, SEQUENCE_MAX};
pub use crate::wal::WalError;

use commit::SUBMISSION_ROOM_MAX;
use open::Options;
use state::{Queue, State};
use submission::Submission;
use succession::{Succession, Successor};
use volumes::OldVolume;

/// Most records in one [`Ledger::append`].
pub const APPEND_RECORDS_MAX: usize = cairn_schemas::wire::APPEND_RECORDS_MAX;
/// Appends that wait for the disk, in bytes; callers beyond that wait before theirs is queued.
pub const QUEUE_BYTES_MAX: u64 = 32 << 20;
/// Durable records that wait to be published, in bytes; beyond that no group is committed until some are.
pub const LAG_BYTES_MAX: usize = 128 << 20;
/// Records that a ledger's log may hold unpublished when it is opened, in bytes, beside [`LAG_BYTES_MAX`]; what is beyond that is published
/// before the ledger takes appends, so that a process that ends again and again does not fill the memory of the next.
pub const BACKLOG_BYTES_MAX: usize = 2 << 30;
/// Published records that stay in memory for subscribers, in bytes.
pub const TAIL_BYTES_MAX: usize = 16 << 20;
/// Most records that a walk over the ledger takes from memory at once.
const WALK_STEP: usize = 4_096;
/// Under load a checkpoint is published this often, unless somebody waits for one.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);
/// While the disk is full, publishing is tried this often.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What an append came to: every record of it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The last record's sequence.
    pub sequence: Sequence,
    /// The volume that it stands in.
    pub volume: u64,
    /// The last record's index there: of its first appearance, where it is a repeat; of its `stream.rejected`, where it is invalid.
    pub index: RecordIndex,
    /// The smallest tree of that volume that holds all of them that are not in an earlier one: what to wait for with
    /// [`Ledger::wait_published_in`].
    pub size: TreeSize,
    /// Records that were invalid, replaced by `stream.rejected`.
    pub rejected: Vec<RejectedRecord>,
}

/// A record that was not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Which record of the append, from 0.
    pub position: usize,
    /// The index of its `stream.rejected`.
    pub index: RecordIndex,
    /// Why: attribute or path, and reason.
    pub reason: String,
}

/// Why an append did not take all of its records.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// There was nothing to append.
    #[error("there is no record to append")]
    Empty,
    /// More than [`APPEND_RECORDS_MAX`] records at once.
    #[error("{count} records at once; the limit is {APPEND_RECORDS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A record was refused, and with it those that came after it.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The records before it: taken and durable.
        taken: Option<Box<Appended>>,
    },
    /// The disk is full or may not be written. Nothing was taken but `taken`; the same append can be made again.
    #[error("the ledger's disk takes no more: {reason}")]
    Full {
        /// What the system said.
        reason: String,
        /// The records before: taken and durable.
        taken: Option<Box<Appended>>,
    },
    /// The writer stopped after an error whose outcome nobody knows. Whether the records were taken shows when the ledger is opened again.
    #[error("the ledger's writer has stopped: {reason}")]
    Stopped {
        /// What happened.
        reason: String,
    },
    /// The ledger was frozen: it takes nothing more, for good.
    #[error("the ledger is frozen, for good: {reason}")]
    Frozen {
        /// What was said when it was.
        reason: String,
    },
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
}

/// Why records or proofs could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A published file is missing or damaged.
    #[error(transparent)]
    Damage(#[from] EdgeError),
    /// The record is not covered by a published checkpoint.
    #[error("record {index} is not in a published checkpoint yet; the newest covers {size} records")]
    NotPublished {
        /// The record, or the last record of the size that was asked for.
        index: RecordIndex,
        /// The newest checkpoint's size.
        size: TreeSize,
    },
    /// The checkpoint that a proof leads to could not be kept.
    #[error("cannot keep the checkpoint that the proof leads to")]
    Keep(#[source] std::io::Error),
    /// The writer stopped, and what was asked for will not come.
    #[error("the ledger's writer has stopped: {reason}")]
    Stopped {
        /// What happened.
        reason: String,
    },
    /// The volume is not here.
    #[error("volume {volume} is not here: it was dropped, or never was")]
    NoVolume {
        /// The volume.
        volume: u64,
    },
    /// The ledger was closed, and what was asked for will not come.
    #[error("the ledger is closed")]
    Closed,
}

/// A ledger that is open for writing. Clones are the same ledger; the last one dropped closes it.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", self.inner.shared().origin)
    }
}

struct Inner {
    /// The writer of the current volume. A change puts another one in its place.
    current: RwLock<Arc<Shared>>,
    /// Its threads. Held while a change is made.
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<LockGuard>>,
}

/// What callers and the two threads share.
struct Shared {
    /// The volume's.
    store: Arc<dyn Store>,
    /// The ledger's.
    root: Arc<dyn Store>,
    /// The volumes before, rising.
    older: Mutex<Vec<OldVolume>>,
    volume: u64,
    origin: String,
    clock: Arc<dyn Clock>,
    /// The acceptance rules. Held by the committing thread while it decides about a group; what it says may not be durable yet.
    streams: Mutex<crate::streams::Streams>,
    queue: Mutex<Queue>,
    /// Something was queued, or the ledger closes.
    queued: Condvar,
    /// What is durable and what is published.
    state: Mutex<State>,
    /// More is durable, or the writer stopped.
    grown: Condvar,
    /// Somebody waits for a checkpoint, or the ledger closes.
    hurry: Condvar,
    /// A checkpoint was published, or the writer stopped.
    published: Condvar,
    /// One walk over the ledger at a time.
    walking: Mutex<()>,
    /// The newest checkpoint that meets the witness policy.
    cosigned: cosigned::Cosigned,
    /// The root of the checkpoint that was kept last.
    kept: Mutex<Option<Digest>>,
    /// What the threads leave when they are done: the parts that the next writer goes on with.
    handed_over: Mutex<(Option<commit::Committer>, Option<crate::integrate::Integrator>)>,
    /// The writer that comes after this one.
    succession: Mutex<Succession>,
    /// It is known who comes.
    succeeded: Condvar,
}

/// A panic elsewhere does not make the data behind a lock wrong: every change under one is complete before it can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Makes a new ledger in `dir`, which is made where it does not exist, with `opened` as record 0, durable and published.
    ///
    /// # Errors
    /// [`OpenError::Exists`] where there is a ledger; [`OpenError::Key`] where `opened` and `signer` do not fit; [`OpenError::Locked`].
    pub fn create(
        dir: &Path,
        opened: &LedgerOpened,
        signer: NoteSigner,
        clock: Arc<dyn Clock>,
    ) -> Result<Ledger, OpenError> {
        open::make_root(dir)?;
        let disk = Arc::new(DirDisk::new(dir.to_owned()));
        Ledger::run(open::create(disk, opened, signer, clock, Options::default())?)
    }

    /// Opens a ledger's newest volume, and repairs what a crash left: every record that was acknowledged is there when this returns.
    /// What was not published yet is published from then on, before what is appended; [`Ledger::wait_published`] waits for it. Where the
    /// crash came while a next volume was made, that is made.
    ///
    /// # Errors
    /// [`OpenError::NoLedger`], [`OpenError::Locked`], [`OpenError::Frozen`]; where acknowledged records are damaged or missing, or none of
    /// `signers` is this ledger's key, nothing is changed.
    pub fn open(dir: &Path, signers: impl Into<Signers>, clock: Arc<dyn Clock>) -> Result<Ledger, OpenError> {
        let disk = Arc::new(DirDisk::new(dir.to_owned()));
        Ledger::run(open::open(disk, signers, clock, Options::default())?)
    }

    /// Opens a new volume over what is readable of the newest one, which is left untouched as evidence: after a restore from a backup,
    /// where bytes are damaged, and where the key is lost.
    ///
    /// # Errors
    /// [`OpenError::NoLedger`], [`OpenError::Locked`], [`OpenError::Frozen`]; [`OpenError::Key`] where the root did not endorse another key;
    /// [`OpenError::Begin`] where nothing can be taken over. Nothing was changed then.
    pub fn restore(dir: &Path, restore: Restore, clock: Arc<dyn Clock>) -> Result<(Ledger, Restored), OpenError> {
        let disk = Arc::new(DirDisk::new(dir.to_owned()));
        let root = Arc::new(crate::store::DirStore::new(disk, crate::wal::SEGMENT_LEN));
        let (opened, restored) = restore::restore(root, restore, clock)?;
        Ok((Ledger::run(opened)?, restored))
    }

    fn run(opened: open::Opened) -> Result<Ledger, OpenError> {
        let open::Opened { shared, committer, integrator, lock } = opened;
        let shared = Arc::new(shared);
        let threads = threads::start(&shared, committer, integrator)?;
        let current = RwLock::new(shared);
        Ok(Ledger { inner: Arc::new(Inner { current, threads: Mutex::new(threads), lock: Mutex::new(lock) }) })
    }

    /// The origin of the current volume's checkpoints: `<name>/<volume>`.
    #[must_use]
    pub fn origin(&self) -> String {
        self.inner.shared().origin.clone()
    }

    /// The current volume's number.
    #[must_use]
    pub fn volume(&self) -> u64 {
        self.inner.shared().volume
    }

    /// The key that signs checkpoints from here on, as a vkey with the current volume's origin as its name.
    #[must_use]
    pub fn key(&self) -> String {
        lock(&self.inner.settled().streams).key_at(u64::MAX).to_owned()
    }

    /// The current volume's record 0, without what it took over.
    #[must_use]
    pub fn opened(&self) -> LedgerOpened {
        lock(&self.inner.settled().streams).opened().clone()
    }

    /// The volumes that are here, rising, the current one last; each with how many of its records belong to the ledger.
    #[must_use]
    pub fn volumes(&self) -> Vec<(u64, TreeSize)> {
        let shared = self.inner.shared();
        let mut volumes: Vec<(u64, TreeSize)> = lock(&shared.older).iter().map(|old| (old.volume, old.size)).collect();
        volumes.push((shared.volume, TreeSize(lock(&shared.state).durable)));
        volumes
    }

    /// Where the oldest record is that is still here.
    #[must_use]
    pub fn start(&self) -> Place {
        let shared = self.inner.shared();
        let oldest = lock(&shared.older).first().map(|old| old.volume);
        Place::start_of(oldest.unwrap_or(shared.volume))
    }

    /// Appends consecutive records of a stream, each the producer's exact bytes, and returns when all are durable. Blocks while the
    /// queue is full.
    ///
    /// # Errors
    /// [`AppendError`]; what stood before the record that was refused is taken, and the error says how far.
    pub fn append(&self, stream: &StreamId, records: Vec<Vec<u8>>) -> Result<Appended, AppendError> {
        self.submit(stream, records.iter().map(Vec::as_slice)).wait()
    }

    /// [`Ledger::append`] for callers that have something else to do: reads and hashes the records here, in microseconds each, queues them,
    /// and waits for nothing. The answer is the future's.
    pub fn submit<'a>(&self, stream: &StreamId, records: impl ExactSizeIterator<Item = &'a [u8]>) -> Pending {
        let shared = self.inner.shared();
        let count = records.len();
        if count > APPEND_RECORDS_MAX {
            return Pending::refused(shared.clone(), AppendError::TooMany { count });
        }
        let mut parts: Vec<Submission> = Vec::new();
        let mut part: Vec<Incoming> = Vec::with_capacity(count.min(64));
        let mut room = 0;
        for bytes in records {
            let incoming = Incoming::read(stream, bytes);
            if room + incoming.room() > SUBMISSION_ROOM_MAX {
                parts.push(Submission::new(stream.clone(), std::mem::take(&mut part)));
                room = 0;
            }
            room += incoming.room();
            part.push(incoming);
        }
        let last = (!part.is_empty()).then(|| Submission::new(stream.clone(), part));
        Pending::new(shared.clone(), parts.into_iter().chain(last))
    }

    /// Bytes that are no record, taken without a look: what a benchmark puts beside logs that look at nothing. The ledger cannot be
    /// opened again.
    #[cfg(feature = "bench")]
    #[doc(hidden)]
    pub fn submit_raw(&self, bytes: &[u8]) -> Pending {
        let submission = Submission::new(StreamId::ledger(), vec![Incoming::raw(bytes)]);
        Pending::new(self.inner.shared(), [submission])
    }

    /// Publishes nothing from now on, however much is durable: what a benchmark of recovery begins with. To be ended by ending the process.
    #[cfg(feature = "bench")]
    #[doc(hidden)]
    pub fn hold_publishing(&self) {
        lock(&self.inner.shared().state).held = true;
    }

    /// Where a stream stands: its last durable record. `None`: the stream was not opened.
    #[must_use]
    pub fn position(&self, stream: &StreamId) -> Option<Position> {
        lock(&self.inner.shared().state).positions.get(stream).cloned()
    }

    /// Every stream but the ledger's own, with its last durable record, by id.
    #[must_use]
    pub fn positions(&self) -> Vec<(StreamId, Position)> {
        let mut all: Vec<(StreamId, Position)> =
            lock(&self.inner.shared().state).positions.iter().map(|(id, at)| (id.clone(), at.clone())).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The control plane's id: its streams are the only ones of role control.
    #[must_use]
    pub fn control_node(&self) -> NodeId {
        lock(&self.inner.settled().streams).control().clone()
    }

    /// What a node may write and its public key as records carry it, where it has joined; the control plane too.
    #[must_use]
    pub fn node(&self, node: &NodeId) -> Option<(Role, String)> {
        let (role, key) = lock(&self.inner.settled().streams).joined(node)?;
        Some((role, crate::head::format_key(&key)))
    }

    /// The durable record of a stream that has this `foreignid`, if any: ask before sealing a record that may have been appended
    /// before, since a second one with its `foreignid` is rejected.
    #[must_use]
    pub fn foreign(&self, stream: &StreamId, foreignid: &str) -> Option<Place> {
        let shared = self.inner.settled();
        let place = lock(&shared.streams).foreign(stream, foreignid)?;
        // The rules run ahead of the disk by one group.
        (place.volume < shared.volume || shared.wait_durable(place.index.size_with())).then_some(place)
    }

    /// How many records of the current volume are durable.
    #[must_use]
    pub fn size(&self) -> TreeSize {
        TreeSize(lock(&self.inner.shared().state).durable)
    }

    /// The place behind the last durable record: [`Ledger::volume`] and [`Ledger::size`] at one moment.
    #[must_use]
    pub fn end(&self) -> Place {
        let shared = self.inner.shared();
        let durable = lock(&shared.state).durable;
        Place { volume: shared.volume, index: RecordIndex(durable) }
    }

    /// The newest published checkpoint of the current volume.
    #[must_use]
    pub fn checkpoint(&self) -> Arc<PublishedCheckpoint> {
        lock(&self.inner.shared().state).published.clone()
    }

    /// Waits until a published checkpoint covers `size` records of the current volume; `false` when that did not happen in time, or
    /// will not. Where the ledger may be changed meanwhile, [`Ledger::wait_published_in`] is meant.
    #[must_use]
    pub fn wait_published(&self, size: TreeSize, timeout: Duration) -> bool {
        self.wait_published_in(self.volume(), size, timeout)
    }

    /// Waits until a published checkpoint of a volume covers `size` records; `false` when that did not happen in time, or will not.
    #[must_use]
    pub fn wait_published_in(&self, volume: u64, size: TreeSize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut shared = self.inner.shared();
        loop {
            if volume < shared.volume {
                // A volume is published to its end before another one follows.
                return lock(&shared.older).iter().any(|old| old.volume == volume && size <= old.size);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if volume == shared.volume && shared.wait_published(size, left) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match shared.wait_successor(left) {
                Successor::Now(next) => shared = next,
                Successor::Coming | Successor::None => return false,
            }
        }
    }

    /// [`Ledger::wait_published`] for callers that have something else to do, without an end: ready when a published checkpoint covers
    /// `size` records.
    ///
    /// # Errors
    /// The future's: [`ReadError::Stopped`], [`ReadError::Closed`].
    pub fn published(&self, size: TreeSize) -> Published {
        Published::new(self.inner.shared(), size)
    }

    /// Up to `max` durable records of the current volume from `from` on, published or not. Empty when there are none yet.
    ///
    /// # Errors
    /// [`ReadError::Damage`].
    pub fn read(&self, from: RecordIndex, max: usize) -> Result<Vec<Arc<[u8]>>, ReadError> {
        let shared = self.inner.shared();
        let mut records = Vec::new();
        while records.len() < max {
            let part = shared.read_some(from.0 + records.len() as u64, max - records.len())?;
            if part.is_empty() {
                break;
            }
            records.extend(part);
        }
        Ok(records)
    }

    /// Up to `max` durable records in order from `from` on, through all volumes that are here; volumes that are not are passed over.
    /// Empty at the end.
    ///
    /// # Errors
    /// [`ReadError::Damage`].
    pub fn read_from(&self, from: Place, max: usize) -> Result<Vec<Entry>, ReadError> {
        let shared = self.inner.shared();
        let mut entries: Vec<Entry> = Vec::new();
        let mut next = from;
        while entries.len() < max {
            let room = max - entries.len();
            let part = if next.volume < shared.volume {
                shared.read_older(next, room)?
            } else {
                let part = shared.read_some(next.index.0, room)?;
                if part.is_empty() {
                    break;
                }
                Some((next, part))
            };
            next = match part {
                None => Place::start_of(shared.volume),
                Some((place, records)) => {
                    let count = records.len() as u64;
                    entries.extend((0..).zip(records).map(|(by, record)| (place.plus(by), record)));
                    place.plus(count)
                }
            };
        }
        Ok(entries)
    }

    /// Durable records in order from `from` on, those that are there and those that will come, through all volumes.
    #[must_use]
    pub fn subscribe(&self, from: Place) -> Subscription {
        Subscription::new(self.inner.shared(), from)
    }

    /// A proof, in the form of C2SP tlog-proof, that a record is in the newest published checkpoint, which covers at least
    /// `at_least` records. That checkpoint is kept as `checkpoints/<size>` for as long as the ledger is.
    ///
    /// # Errors
    /// [`ReadError::NotPublished`]: wait with [`Ledger::wait_published`]. [`ReadError::Damage`], [`ReadError::Keep`].
    pub fn inclusion(&self, index: RecordIndex, at_least: TreeSize) -> Result<Vec<u8>, ReadError> {
        let shared = self.inner.shared();
        let checkpoint = lock(&shared.state).published.clone();
        shared.inclusion(&*shared.store, &checkpoint, index, at_least)
    }

    /// [`Ledger::inclusion`] of a record of any volume that is here; of an older one in its last checkpoint.
    ///
    /// # Errors
    /// As [`Ledger::inclusion`]; [`ReadError::NoVolume`].
    pub fn inclusion_in(&self, place: Place, at_least: TreeSize) -> Result<Vec<u8>, ReadError> {
        let shared = self.inner.settled();
        if place.volume == shared.volume {
            let checkpoint = lock(&shared.state).published.clone();
            return shared.inclusion(&*shared.store, &checkpoint, place.index, at_least);
        }
        let old = lock(&shared.older).iter().find(|old| old.volume == place.volume).cloned();
        let old = old.ok_or(ReadError::NoVolume { volume: place.volume })?;
        let checkpoint = old.checkpoint()?;
        shared.inclusion(&*old.store, &checkpoint, place.index, at_least)
    }

    /// Why the writer stopped, if it did.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        lock(&self.inner.shared().state).stopped.clone()
    }

    /// Takes no more appends, answers those that wait, publishes everything, and gives the lock back. Later calls, on clones too,
    /// do nothing.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn shared(&self) -> Arc<Shared> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) {
        // A change that is being made is finished first.
        let threads = {
            let mut threads = lock(&self.threads);
            self.shared().begin_closing();
            std::mem::take(&mut *threads)
        };
        for thread in threads {
            // A thread that panicked has said so on standard error; what it left is repaired when the ledger is opened.
            let _ = thread.join();
        }
        lock(&self.lock).take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Consecutive records, and where the first of them stands.
type Placed = (Place, Vec<Arc<[u8]>>);

impl Shared {
    /// Queues a submission. `Ready(false)`: the ledger is closed. Where there is no room, `waker` is called when there is some.
    fn enqueue(&self, submission: &Arc<Submission>, waker: Option<&Waker>) -> Poll<bool> {
        let mut queue = lock(&self.queue);
        if queue.closing {
            return Poll::Ready(false);
        }
        if queue.bytes + submission.room() > QUEUE_BYTES_MAX && !queue.waiting.is_empty() {
            queue.blocked.extend(waker.cloned());
            return Poll::Pending;
        }
        queue.bytes += submission.room();
        queue.waiting.push_back(submission.clone());
        let asleep = std::mem::take(&mut queue.committer_asleep);
        drop(queue);
        // A wake-up is a system call, and most find the committing thread at work.
        if asleep {
            self.queued.notify_one();
        }
        Poll::Ready(true)
    }

    fn inclusion(
        &self,
        store: &dyn Store,
        checkpoint: &PublishedCheckpoint,
        index: RecordIndex,
        at_least: TreeSize,
    ) -> Result<Vec<u8>, ReadError> {
        let needed = at_least.max(index.size_with());
        if checkpoint.size < needed {
            return Err(ReadError::NotPublished { index: RecordIndex(needed.0 - 1), size: checkpoint.size });
        }
        let reader = TileHashes::new(checkpoint.size, |tile| read_hashes(store, tile));
        let hashes = tree::inclusion_proof(index, checkpoint.size, &reader).map_err(|error| match error {
            ProofError::Read(error) => ReadError::Damage(error),
            ProofError::Tree(TreeError::IndexOutside { index, size }) => ReadError::NotPublished { index, size },
            ProofError::Tree(_) => unreachable!("an inclusion proof has one way to be impossible"),
        })?;
        self.keep_in(store, checkpoint).map_err(ReadError::Keep)?;
        Ok(Proof { extra: None, index, hashes, checkpoint: checkpoint.bytes.clone() }.to_bytes())
    }

    /// Looks through the ledger for old records of a stream, newest volumes first.
    fn walk(&self, stream: &StreamId, from: Place, sequences: &[Sequence]) -> History {
        let _one_at_a_time = lock(&self.walking);
        let mut history = History::new();
        let older = lock(&self.older).clone();
        let first = |volume: u64| if volume == from.volume { from.index.0 } else { 0 };
        // What cannot be read is not found, and the record is refused as passed over: no worse than any other answer about it.
        let mut look = |volume: u64, read: &dyn Fn(u64) -> Option<Vec<Arc<[u8]>>>| {
            let mut next = first(volume);
            while history.len() < sequences.len()
                && let Some(records) = read(next).filter(|records| !records.is_empty())
            {
                for record in records {
                    if let Some((id, sequence, leaf)) = place(&record, Digest::leaf(&record))
                        && id == *stream
                        && sequences.contains(&sequence)
                    {
                        history.insert(sequence, (Place { volume, index: RecordIndex(next) }, leaf));
                    }
                    next += 1;
                }
            }
        };
        look(self.volume, &|next| self.read_some(next, WALK_STEP).ok());
        for old in older.iter().rev().filter(|old| old.volume >= from.volume) {
            look(old.volume, &|next| old.read_some(next, WALK_STEP).ok());
        }
        history
    }

    /// Some records from `from` on, which is in an earlier volume, and where the first of them stands: at `from`, or at the beginning of
    /// the next volume that is here and not empty. `None`: there are none before the current volume.
    fn read_older(&self, from: Place, max: usize) -> Result<Option<Placed>, ReadError> {
        let older = lock(&self.older).clone();
        for old in older.iter().filter(|old| old.volume >= from.volume) {
            let place = if old.volume == from.volume { from } else { Place::start_of(old.volume) };
            let records = old.read_some(place.index.0, max)?;
            if !records.is_empty() {
                return Ok(Some((place, records)));
            }
        }
        Ok(None)
    }

    /// Keeps a published checkpoint as `checkpoints/<size>`.
    fn keep(&self, checkpoint: &PublishedCheckpoint) -> std::io::Result<()> {
        self.keep_in(&*self.store, checkpoint)
    }

    fn keep_in(&self, store: &dyn Store, checkpoint: &PublishedCheckpoint) -> std::io::Result<()> {
        let mut kept = lock(&self.kept);
        if *kept == Some(checkpoint.root) {
            return Ok(());
        }
        let path = numbered_path(checkpoint.size);
        // One that is there is written again, as it is: it may be the work of an attempt whose last sync failed or never came, and
        // that it can be read does not say that it survives.
        let bytes = match store.read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.cosigned.form_of(checkpoint).unwrap_or_else(|| checkpoint.bytes.clone())
            }
            there => there?,
        };
        store.write(&[NewFile { path, bytes }]).map_err(|error| match error {
            StoreError::Io(error) => error,
            conflict => std::io::Error::other(conflict),
        })?;
        *kept = Some(checkpoint.root);
        Ok(())
    }

    /// Some durable records from `from` on: from memory, or the rest of one bundle.
    fn read_some(&self, from: u64, max: usize) -> Result<Vec<Arc<[u8]>>, ReadError> {
        let (held, size) = {
            let state = lock(&self.state);
            (state.tail_from(from, max), state.published.size)
        };
        if let Some(held) = held {
            return Ok(held.records().take(max).map(|(record, _)| record.to_own()).collect());
        }
        let tile = TileId::in_tree(TileKind::Entries, from / TILE_WIDTH, size)
            .expect("invariant: what is not in memory is published");
        let (held, bytes) = read_tile(&*self.store, tile)?;
        let records = decode_entries(held, &bytes).map_err(EdgeError::from)?;
        let (skip, width) = ((from % TILE_WIDTH) as usize, usize::from(tile.width()));
        Ok(records[skip..width].iter().take(max).map(|record| Arc::from(*record)).collect())
    }

    fn wait_durable(&self, size: TreeSize) -> bool {
        let mut state = lock(&self.state);
        while state.durable < size.0 && state.stopped.is_none() {
            state = self.grown.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.durable >= size.0
    }

    fn wait_published(&self, size: TreeSize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.state);
        state.waiting_for_checkpoint += 1;
        self.hurry.notify_all();
        while state.published.size < size && state.stopped.is_none() && !state.finished {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.published.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting_for_checkpoint -= 1;
        state.published.size >= size
    }

    /// Takes no more submissions; those that are in the queue are answered.
    fn close_queue(&self) {
        let blocked = {
            let mut queue = lock(&self.queue);
            queue.closing = true;
            std::mem::take(&mut queue.blocked)
        };
        self.queued.notify_all();
        submission::wake(blocked);
    }

    fn begin_closing(&self) {
        self.close_queue();
        lock(&self.state).closing = true;
        self.hurry.notify_all();
        self.grown.notify_all();
    }
}

#[cfg(test)]
mod tests;
