//! The one writer of a ledger.
//!
//! [`Ledger::append`] returns when the records are durable. Callers' threads read and check records; one thread decides about them
//! in order, writes all that wait as one group into the write-ahead log, and answers; another makes tiles and checkpoints of what is durable.
//! The order of effects, and what a crash leaves at each step, is in [`commit`](self::commit) and in `integrate.rs`; opening a ledger runs the same
//! code over what the log still holds.
//!
//! What stops the writer and what does not: a full disk refuses appends, and reads go on; they are taken again when there is room. A
//! write or sync of the log that failed leaves nobody knowing what is on the disk: the writer stops for good, and opening the
//! ledger again repairs it. A producer's mistakes stop nothing but that producer.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_schemas::data::LedgerOpened;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, Sequence, StreamId, TreeSize};
use cairn_schemas::time::Clock;
use thiserror::Error;

use crate::dir::numbered_path;
use crate::disk::{DirDisk, Disk, LockGuard};
use crate::durable::{self, Folders, NewFile};
use crate::integrate::{EdgeError, read_hashes, read_tile};
use crate::note::NoteSigner;
use crate::proof::Proof;
use crate::streams::{History, Incoming, place};
use crate::tile::{TILE_WIDTH, TileHashes, TileId, TileKind, decode_entries};
use crate::tree::{self, ProofError, TreeError};

mod commit;
mod open;
mod state;
mod threads;

pub use open::OpenError;

pub use crate::integrate::{EdgeError as LedgerDamage, PublishedCheckpoint};
pub use crate::streams::{FORKS_NOTED_MAX, Position, REASON_LEN_MAX, RECENT_MAX, Refusal, ReplayError, SEQUENCE_MAX};
pub use crate::wal::WalError;

use commit::{SUBMISSION_ROOM_MAX, Submission};
use open::Options;
use state::{Queue, State};

/// Most records in one [`Ledger::append`].
pub const APPEND_RECORDS_MAX: usize = cairn_schemas::wire::APPEND_RECORDS_MAX;
/// Appends that wait for the disk, in bytes; callers beyond that wait before theirs is queued.
pub const QUEUE_BYTES_MAX: u64 = 32 << 20;
/// Durable records that wait to be published, in bytes; beyond that no group is committed until some are.
pub const LAG_BYTES_MAX: usize = 128 << 20;
/// Published records that stay in memory for subscribers, in bytes.
pub const TAIL_BYTES_MAX: usize = 16 << 20;
/// Under load a checkpoint is published this often, unless somebody waits for one.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);
/// While the disk is full, publishing is tried this often.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What an append came to: every record of it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The last record's sequence.
    pub sequence: Sequence,
    /// The last record's index: of its first appearance, where it is a repeat; of its `stream.rejected`, where it is invalid.
    pub index: RecordIndex,
    /// The smallest tree that holds all of them: what to wait for with [`Ledger::wait_published`].
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
        write!(f, "Ledger({})", self.inner.shared.origin)
    }
}

struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<LockGuard>>,
}

/// What callers and the two threads share.
struct Shared {
    disk: Arc<dyn Disk>,
    origin: String,
    clock: Arc<dyn Clock>,
    /// The acceptance rules. Held by the committing thread while it decides about a group; what it says may not be durable yet.
    streams: Mutex<crate::streams::Streams>,
    queue: Mutex<Queue>,
    /// Something was queued, or the ledger closes.
    queued: Condvar,
    /// The queue got shorter.
    drained: Condvar,
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
        Ledger::start(open::create(disk, opened, signer, clock, Options::default())?)
    }

    /// Opens a ledger, and repairs what a crash left: every record that was acknowledged is there, and published, when this returns.
    ///
    /// # Errors
    /// [`OpenError::NoLedger`], [`OpenError::Locked`]; where acknowledged records are damaged or missing, or `signer` is not this
    /// ledger's key, nothing is changed.
    pub fn open(dir: &Path, signer: NoteSigner, clock: Arc<dyn Clock>) -> Result<Ledger, OpenError> {
        let disk = Arc::new(DirDisk::new(dir.to_owned()));
        Ledger::start(open::open(disk, signer, clock, Options::default())?)
    }

    fn start(opened: open::Opened) -> Result<Ledger, OpenError> {
        let open::Opened { shared, committer, integrator, lock } = opened;
        let shared = Arc::new(shared);
        let threads = threads::start(&shared, committer, integrator)?;
        Ok(Ledger { inner: Arc::new(Inner { shared, threads: Mutex::new(threads), lock: Mutex::new(Some(lock)) }) })
    }

    /// The origin of this volume's checkpoints: `<name>/<volume>`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.inner.shared.origin
    }

    /// Appends consecutive records of a stream, each the producer's exact bytes, and returns when all are durable. Blocks while the
    /// queue is full.
    ///
    /// # Errors
    /// [`AppendError`]; what stood before the record that was refused is taken, and the error says how far.
    pub fn append(&self, stream: &StreamId, records: Vec<Vec<u8>>) -> Result<Appended, AppendError> {
        if records.is_empty() {
            return Err(AppendError::Empty);
        }
        if records.len() > APPEND_RECORDS_MAX {
            return Err(AppendError::TooMany { count: records.len() });
        }
        let mut taken: Option<Appended> = None;
        let mut part: Vec<Incoming> = Vec::new();
        let (mut first, mut room) = (0, 0);
        for (position, bytes) in records.into_iter().enumerate() {
            let incoming = Incoming::read(stream, bytes);
            if room + incoming.room() > SUBMISSION_ROOM_MAX {
                let part = std::mem::take(&mut part);
                taken = Some(self.inner.shared.submit(stream, part, first, taken)?);
                (first, room) = (position, 0);
            }
            room += incoming.room();
            part.push(incoming);
        }
        self.inner.shared.submit(stream, part, first, taken)
    }

    /// Where a stream stands: its last durable record. `None`: the stream was not opened.
    #[must_use]
    pub fn position(&self, stream: &StreamId) -> Option<Position> {
        lock(&self.inner.shared.state).positions.get(stream).cloned()
    }

    /// Every stream but the ledger's own, with its last durable record, by id.
    #[must_use]
    pub fn positions(&self) -> Vec<(StreamId, Position)> {
        let mut all: Vec<(StreamId, Position)> =
            lock(&self.inner.shared.state).positions.iter().map(|(id, at)| (id.clone(), at.clone())).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The durable record of a stream that has this `foreignid`, if any: ask before sealing a record that may have been appended
    /// before, since a second one with its `foreignid` is rejected.
    #[must_use]
    pub fn foreign(&self, stream: &StreamId, foreignid: &str) -> Option<RecordIndex> {
        let index = lock(&self.inner.shared.streams).foreign(stream, foreignid)?;
        // The rules run ahead of the disk by one group.
        self.inner.shared.wait_durable(index.size_with()).then_some(index)
    }

    /// How many records are durable.
    #[must_use]
    pub fn size(&self) -> TreeSize {
        TreeSize(lock(&self.inner.shared.state).durable)
    }

    /// The newest published checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Arc<PublishedCheckpoint> {
        lock(&self.inner.shared.state).published.clone()
    }

    /// Waits until a published checkpoint covers `size` records; `false` when that did not happen in time, or will not.
    #[must_use]
    pub fn wait_published(&self, size: TreeSize, timeout: Duration) -> bool {
        self.inner.shared.wait_published(size, timeout)
    }

    /// Up to `max` durable records from `from` on, published or not. Empty when there are none yet.
    ///
    /// # Errors
    /// [`ReadError::Damage`].
    pub fn read(&self, from: RecordIndex, max: usize) -> Result<Vec<Arc<[u8]>>, ReadError> {
        let mut records = Vec::new();
        while records.len() < max {
            let part = self.inner.shared.read_some(from.0 + records.len() as u64, max - records.len())?;
            if part.is_empty() {
                break;
            }
            records.extend(part);
        }
        Ok(records)
    }

    /// Durable records in order from `from` on, those that are there and those that will come.
    #[must_use]
    pub fn subscribe(&self, from: RecordIndex) -> Subscription {
        Subscription { shared: self.inner.shared.clone(), next: from, ready: VecDeque::new() }
    }

    /// A proof, in the form of C2SP tlog-proof, that a record is in the newest published checkpoint, which covers at least
    /// `at_least` records. That checkpoint is kept as `checkpoints/<size>` for as long as the ledger is.
    ///
    /// # Errors
    /// [`ReadError::NotPublished`]: wait with [`Ledger::wait_published`]. [`ReadError::Damage`], [`ReadError::Keep`].
    pub fn inclusion(&self, index: RecordIndex, at_least: TreeSize) -> Result<Vec<u8>, ReadError> {
        let shared = &self.inner.shared;
        let checkpoint = self.checkpoint();
        let needed = at_least.max(index.size_with());
        if checkpoint.size < needed {
            return Err(ReadError::NotPublished { index: RecordIndex(needed.0 - 1), size: checkpoint.size });
        }
        let reader = TileHashes::new(checkpoint.size, |tile| read_hashes(&*shared.disk, tile));
        let hashes = tree::inclusion_proof(index, checkpoint.size, &reader).map_err(|error| match error {
            ProofError::Read(error) => ReadError::Damage(error),
            ProofError::Tree(TreeError::IndexOutside { index, size }) => ReadError::NotPublished { index, size },
            ProofError::Tree(_) => unreachable!("an inclusion proof has one way to be impossible"),
        })?;
        shared.keep(&checkpoint).map_err(ReadError::Keep)?;
        Ok(Proof { extra: None, index, hashes, checkpoint: checkpoint.bytes.clone() }.to_bytes())
    }

    /// Why the writer stopped, if it did.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        lock(&self.inner.shared.state).stopped.clone()
    }

    /// Takes no more appends, answers those that wait, publishes everything, and gives the lock back. Later calls, on clones too,
    /// do nothing.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        self.shared.begin_closing();
        let threads = std::mem::take(&mut *lock(&self.threads));
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

impl Shared {
    /// Queues records and waits for the answer. `first` is the place of the first of them in the caller's append, and `taken` what
    /// became of those before.
    fn submit(
        &self,
        stream: &StreamId,
        records: Vec<Incoming>,
        first: usize,
        taken: Option<Appended>,
    ) -> Result<Appended, AppendError> {
        let forgotten =
            if self.is_old(stream, &records) { lock(&self.streams).forgotten(stream, &records) } else { None };
        let history = match forgotten {
            Some((from, sequences)) => self.walk(stream, from, &sequences),
            None => History::new(),
        };
        let submission = Arc::new(Submission::new(stream.clone(), records, history));
        let room = submission.room();
        let mut queue = lock(&self.queue);
        while queue.bytes + room > QUEUE_BYTES_MAX && !queue.waiting.is_empty() && !queue.closing {
            queue = self.drained.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closing {
            return Err(AppendError::Closed);
        }
        queue.bytes += room;
        queue.waiting.push_back(submission.clone());
        drop(queue);
        self.queued.notify_one();
        submission.wait(first, taken)
    }

    /// Whether any record may be older than what the rules remember of its stream. Callers do not ask the rules themselves: the
    /// committing thread holds them while it decides about a group. What this sees may be behind the rules by what is in flight, hence the half.
    fn is_old(&self, stream: &StreamId, records: &[Incoming]) -> bool {
        let Some(last) = lock(&self.state).positions.get(stream).map(|position| position.sequence) else {
            return false;
        };
        let mut sequences = records.iter().filter_map(Incoming::sequence);
        sequences.any(|sequence| sequence.0.saturating_add(RECENT_MAX as u64 / 2) <= last.0)
    }

    /// Looks through the ledger for old records of a stream.
    fn walk(&self, stream: &StreamId, from: RecordIndex, sequences: &[Sequence]) -> History {
        let _one_at_a_time = lock(&self.walking);
        let mut history = History::new();
        let mut next = from.0;
        // What cannot be read is not found, and the record is refused as passed over: no worse than any other answer about it.
        while let Ok(records) = self.read_some(next, usize::MAX) {
            if records.is_empty() || history.len() == sequences.len() {
                break;
            }
            for record in records {
                if let Some((id, sequence, leaf)) = place(&record, Digest::leaf(&record))
                    && id == *stream
                    && sequences.contains(&sequence)
                {
                    history.insert(sequence, (RecordIndex(next), leaf));
                }
                next += 1;
            }
        }
        history
    }

    /// Keeps a published checkpoint as `checkpoints/<size>`.
    fn keep(&self, checkpoint: &PublishedCheckpoint) -> std::io::Result<()> {
        let path = numbered_path(checkpoint.size);
        if self.disk.read(&path).is_ok() {
            return Ok(());
        }
        let file = NewFile { path, bytes: checkpoint.bytes.clone() };
        durable::write_files(&*self.disk, &mut Folders::default(), &[file])
    }

    /// Some durable records from `from` on: from memory, or the rest of one bundle.
    fn read_some(&self, from: u64, max: usize) -> Result<Vec<Arc<[u8]>>, ReadError> {
        let size = {
            let state = lock(&self.state);
            if let Some(records) = state.tail_from(from, max) {
                return Ok(records);
            }
            state.published.size
        };
        let tile = TileId::in_tree(TileKind::Entries, from / TILE_WIDTH, size)
            .expect("invariant: what is not in memory is published");
        let (held, bytes) = read_tile(&*self.disk, tile)?;
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

    fn begin_closing(&self) {
        lock(&self.queue).closing = true;
        self.queued.notify_all();
        self.drained.notify_all();
        lock(&self.state).closing = true;
        self.hurry.notify_all();
        self.grown.notify_all();
    }
}

/// A durable record and its index.
pub type Entry = (RecordIndex, Arc<[u8]>);

/// Durable records in order; see [`Ledger::subscribe`]. It keeps the ledger's state in memory, but does not keep the ledger open.
pub struct Subscription {
    shared: Arc<Shared>,
    next: RecordIndex,
    ready: VecDeque<Arc<[u8]>>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({} at {})", self.shared.origin, self.next)
    }
}

/// Most records that a subscription takes from memory at once.
const SUBSCRIPTION_STEP: usize = 1_024;

impl Subscription {
    /// The next record, waiting for it if need be; `None` when `timeout` passed without one.
    ///
    /// # Errors
    /// [`ReadError::Stopped`], [`ReadError::Closed`] once every durable record was returned; [`ReadError::Damage`].
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Entry>, ReadError> {
        if self.ready.is_empty() && !self.fill(timeout)? {
            return Ok(None);
        }
        let index = self.next;
        let record = self.ready.pop_front().expect("invariant: it was filled");
        self.next = RecordIndex(index.0 + 1);
        Ok(Some((index, record)))
    }

    /// The index of the record that [`Subscription::next`] will return.
    #[must_use]
    pub fn position(&self) -> RecordIndex {
        self.next
    }

    fn fill(&mut self, timeout: Duration) -> Result<bool, ReadError> {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.shared.state);
        while state.durable <= self.next.0 {
            if let Some(reason) = &state.stopped {
                return Err(ReadError::Stopped { reason: reason.clone() });
            }
            if state.finished {
                return Err(ReadError::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            state = self.shared.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.ready.extend(self.shared.read_some(self.next.0, SUBSCRIPTION_STEP)?);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
