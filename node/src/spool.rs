//! The spool: a node's records on its own disk, durable before anybody acts on them, until the ledger has them.
//!
//! [`Spool::append`] seals drafts into the node's stream and returns when they are durable; many threads share one `fdatasync`.
//! The uplink sends what is pending and trims what the ledger took. What is acknowledged survives `kill -9` and power loss;
//! a write that a crash cut short was acknowledged to nobody and is dropped at the next start.
//!
//! On disk (`node/SPOOL.md`): `current` names the stream and its predecessor; `<stream>/<sequence>.seg` are its segments;
//! `retired/<stream>/` streams that are still being sent; `aside/<stream>/` what could not be used, kept for people.
//!
//! What it trusts: its own folder, guarded by a lock and checksums, not against its owner. What the ledger says about the stream
//! is compared with what is here ([`Spool::reconcile`]); where histories differ, a new stream begins and names the old one.

mod loss;
mod queue;
mod segment;
mod streams;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cairn_ledger::producer::{Chain, SealError};
use cairn_schemas::data::CheckpointSeen;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, Sequence, StreamId};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::Clock;
use cairn_schemas::types::RecordType;
use ed25519_dalek::SigningKey;

use crate::durable::DiskError;
use crate::random::Random;
use loss::LossBook;
use queue::{Disk, Queue, Segment, SystemDisk, WriteEnd};
use segment::{ChainState, FRAME_HEADER_LEN, Place};

pub use streams::Reconciled;

/// Most bytes a spool takes on disk. Overflow is refused, counted, and a `sensor.loss` record.
pub const SPOOL_LEN_MAX: u64 = 256 << 20;
/// Of these, how many only heads and loss records may use.
pub const SPOOL_RESERVE_LEN: u64 = 1 << 20;
/// A segment that is this long gets no more records.
pub const SEGMENT_LEN_MAX: u64 = 4 << 20;

/// How large a spool may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Most bytes on disk.
    pub len_max: u64,
    /// How many of them only heads and loss records may use.
    pub reserve_len: u64,
    /// When a new segment begins. At most a quarter of `len_max`, so that sent segments make room.
    pub segment_len_max: u64,
}

impl Default for SpoolLimits {
    fn default() -> SpoolLimits {
        SpoolLimits { len_max: SPOOL_LEN_MAX, reserve_len: SPOOL_RESERVE_LEN, segment_len_max: SEGMENT_LEN_MAX }
    }
}

/// Why a spool cannot be used, or took no record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// A file could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The batch with this record could not be made durable. Nothing of it counts; the next append tries a new segment.
    #[error("the record could not be made durable: {source}")]
    NotDurable {
        /// What failed, for every record of the batch.
        source: Arc<DiskError>,
    },
    /// The spool is at its limit: the ledger has not taken records for long.
    #[error("the spool holds {len} bytes and may hold {limit}: the ledger has not taken records for long")]
    Full {
        /// Its length with what was to be added, bytes.
        len: u64,
        /// Its limit for this kind of record, bytes.
        limit: u64,
    },
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
    /// The draft does not make a record.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Another process has it open.
    #[error("the spool {} is used by another process", path.display())]
    InUse {
        /// The spool's folder.
        path: PathBuf,
    },
    /// A file of a newer version.
    #[error("{} has version {found}, newer than this program reads", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// `current` cannot be read.
    #[error("{} does not name a stream: {reason}", path.display())]
    NoStream {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no randomness for a stream id.
    #[error("the system gives no random bytes: {0}")]
    Random(#[source] std::io::Error),
    /// The stream that the records belong to is not the current one any more.
    #[error("records of stream {expected} cannot go to {current}, which has begun meanwhile")]
    OtherStream {
        /// The stream they belong to.
        expected: StreamId,
        /// The current one.
        current: StreamId,
    },
}

/// Where a record stands: durable on this node's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The stream.
    pub stream: StreamId,
    /// Its number there.
    pub sequence: Sequence,
    /// Its leaf hash.
    pub leaf: Digest,
}

/// Records to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The stream they stand in.
    pub stream: StreamId,
    /// The first one's number.
    pub first: Sequence,
    /// Their exact bytes, consecutive.
    pub records: Vec<Vec<u8>>,
}

/// How a spool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Bytes on disk.
    pub len: u64,
    /// Durable records that the ledger is not known to have.
    pub pending: u64,
    /// Records refused since the start because there was no room or the disk failed.
    pub refused: u64,
    /// The current stream's last record; `None` before the first.
    pub last: Option<Sequence>,
}

/// A node's spool. Clones are handles on the same one.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spool({})", self.inner.folder.display())
    }
}

struct Inner {
    folder: PathBuf,
    node: NodeId,
    key: SigningKey,
    limits: SpoolLimits,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    disk: Box<dyn Disk>,
    state: Mutex<State>,
    /// A batch became durable or failed, something is pending, or the spool was closed.
    changed: Condvar,
    /// Held as long as the spool is used; the system drops it with the process.
    lock: Mutex<Option<File>>,
}

struct State {
    /// Where sealing stands, ahead of the disk by what waits to be written.
    chain: Chain,
    /// Where the disk stands: what `chain` goes back to when a write fails.
    durable: Chain,
    queue: Queue,
    /// Earlier streams that are still being sent, oldest first.
    retired: Vec<Queue>,
    /// Sealed and not yet being written.
    waiting: Vec<Vec<u8>>,
    /// What became of them, once known.
    batch: Arc<Batch>,
    /// Bytes of frames that are sealed and not yet durable.
    unwritten_len: u64,
    /// A thread writes a batch now, without the lock.
    writing: bool,
    /// The last write failed: what lies beyond the durable length must be cut, and a new segment begun.
    failed: bool,
    closed: bool,
    losses: LossBook,
    seen: Option<CheckpointSeen>,
}

/// Records that become durable together.
#[derive(Default)]
struct Batch {
    outcome: OnceLock<Result<(), Arc<DiskError>>>,
}

/// A batch that was written.
struct Written {
    places: Vec<Place>,
    len: u64,
    state: ChainState,
}

impl Spool {
    /// Opens the spool in `folder`, or makes it with a new stream of `node`.
    ///
    /// # Errors
    /// The folder cannot be used, or belongs to another process or a newer version. Damage is not an error: it begins a new
    /// stream that names the old one, and is logged.
    pub fn open(
        folder: &Path,
        node: &NodeId,
        key: &SigningKey,
        limits: SpoolLimits,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Spool, SpoolError> {
        Spool::open_on(folder, node, key, limits, clock, random, Box::new(SystemDisk))
    }

    fn open_on(
        folder: &Path,
        node: &NodeId,
        key: &SigningKey,
        limits: SpoolLimits,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        disk: Box<dyn Disk>,
    ) -> Result<Spool, SpoolError> {
        let lock = streams::lock(folder)?;
        let producer = streams::Producer { folder, node, key, clock: &*clock, random: &*random };
        let streams::Opened { queue, retired } = producer.open()?;
        let state = queue.state();
        let chain = Chain::resume(queue.stream().clone(), state.next, state.prev, state.unsigned, clock.now());
        let state = State {
            durable: chain.clone(),
            chain,
            queue,
            retired,
            waiting: Vec::new(),
            batch: Arc::default(),
            unwritten_len: 0,
            writing: false,
            failed: false,
            closed: false,
            losses: LossBook::default(),
            seen: None,
        };
        let inner = Inner {
            folder: folder.to_owned(),
            node: node.clone(),
            key: key.clone(),
            limits,
            clock,
            random,
            disk,
            state: Mutex::new(state),
            changed: Condvar::new(),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Spool { inner: Arc::new(inner) })
    }

    /// Seals drafts into the stream, consecutively, and returns when all of them are durable. Blocks for one `fdatasync`, shared
    /// with every thread that appends meanwhile. A crash before it returns may leave the first few of them.
    ///
    /// # Errors
    /// None of the drafts is recorded then. Those refused for want of room or by the disk are counted, and recorded as lost as
    /// soon as that is possible.
    pub fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Recorded>, SpoolError> {
        let kinds: Vec<RecordType> = drafts.iter().map(|draft| draft.kind).collect();
        self.write_drafts(None, drafts).inspect_err(|error| {
            let mut state = self.inner.lock();
            match error {
                SpoolError::Full { .. } => self.inner.note_loss(state, &kinds),
                SpoolError::NotDurable { .. } => {
                    let now = self.inner.clock.now();
                    for kind in kinds {
                        state.losses.note(kind, now);
                    }
                }
                _ => {}
            }
        })
    }

    /// [`Spool::append`] for drafts that whoever calls keeps where they are refused: a refusal is not counted as a loss, because
    /// they are offered again, or accounted for otherwise. With a `stream` they go to no other: what they say refers to records
    /// there by number.
    ///
    /// # Errors
    /// As [`Spool::append`]; [`SpoolError::OtherStream`].
    pub fn offer(&self, stream: Option<&StreamId>, drafts: Vec<Draft>) -> Result<Vec<Recorded>, SpoolError> {
        self.write_drafts(stream, drafts)
    }

    fn write_drafts(&self, stream: Option<&StreamId>, drafts: Vec<Draft>) -> Result<Vec<Recorded>, SpoolError> {
        let mut state = self.inner.lock();
        if let Some(expected) = stream
            && expected != state.queue.stream()
        {
            let current = state.queue.stream().clone();
            return Err(SpoolError::OtherStream { expected: expected.clone(), current });
        }
        let recorded = self.inner.seal(&mut state, drafts)?;
        let batch = Arc::clone(&state.batch);
        self.inner.wait_durable(state, &batch).map_err(|source| SpoolError::NotDurable { source })?;
        Ok(recorded)
    }

    /// The first durable record of the current stream from number `from` on that is `wanted`, among those that are still here:
    /// what was sent goes by whole segments, so the newest ones always are.
    ///
    /// # Errors
    /// A record cannot be read back.
    pub fn find(&self, from: Sequence, mut wanted: impl FnMut(&Record) -> bool) -> Result<Option<Record>, SpoolError> {
        let held = self.inner.lock().queue.held_from(from);
        for (file, place) in held {
            let bytes = queue::read(&file, place).map_err(DiskError::of("read", &self.inner.folder))?;
            match Record::parse(&bytes) {
                Ok(record) if wanted(&record) => return Ok(Some(record)),
                Ok(_) => {}
                Err(error) => tracing::error!(error = error.one_line(), "a record in the spool cannot be read"),
            }
        }
        Ok(None)
    }

    /// [`Spool::append`] for one draft.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn record(&self, draft: Draft) -> Result<Recorded, SpoolError> {
        let mut recorded = self.append(vec![draft])?;
        Ok(recorded.pop().expect("invariant: one draft makes one record"))
    }

    /// Signs a head if one is due, and records losses if there is room for that. Called a few times a second.
    ///
    /// # Errors
    /// As [`Spool::append`]; nothing is lost by it, the next call tries again.
    pub fn tick(&self) -> Result<(), SpoolError> {
        let now = self.inner.clock.now();
        let mut state = self.inner.lock();
        if state.closed {
            return Err(SpoolError::Closed);
        }
        let mut sealed = self.inner.seal_losses(&mut state)?;
        if state.chain.head_due(now) {
            self.inner.seal_head(&mut state)?;
            sealed = true;
        }
        if !sealed {
            return Ok(());
        }
        let batch = Arc::clone(&state.batch);
        self.inner.wait_durable(state, &batch).map_err(|source| SpoolError::NotDurable { source })
    }

    /// The next records to send: of an earlier stream first, at most so many records and bytes of body; `None` if the ledger has
    /// everything that is durable.
    ///
    /// # Errors
    /// They cannot be read back.
    pub fn pending(&self, records_max: usize, bytes_max: usize) -> Result<Option<Pending>, SpoolError> {
        let (stream, first, plan) = {
            let state = self.inner.lock();
            let queues = state.retired.iter().chain([&state.queue]);
            let Some(queue) = queues.into_iter().find(|queue| queue.pending_len() > 0) else { return Ok(None) };
            (queue.stream().clone(), queue.next_to_send(), queue.plan(records_max, bytes_max))
        };
        let mut records = Vec::with_capacity(plan.len());
        for (file, place) in plan {
            records.push(queue::read(&file, place).map_err(DiskError::of("read", &self.inner.folder))?);
        }
        Ok(Some(Pending { stream, first, records }))
    }

    /// Waits until something is pending or the spool is closed, at most `timeout`. True: something is pending.
    #[must_use]
    pub fn wait_pending(&self, timeout: Duration) -> bool {
        let has_pending =
            |state: &State| state.queue.pending_len() > 0 || state.retired.iter().any(|queue| queue.pending_len() > 0);
        let state = self.inner.lock();
        let (state, _) = self
            .inner
            .changed
            .wait_timeout_while(state, timeout, |state| !has_pending(state) && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        has_pending(&state)
    }

    /// The ledger has everything of `stream` up to here.
    ///
    /// # Errors
    /// A stream that was sent whole could not be put away; it is sent again after the next start.
    pub fn trim(&self, stream: &StreamId, through: Sequence) -> Result<(), SpoolError> {
        let mut state = self.inner.lock();
        if state.queue.stream() == stream {
            state.queue.trim(through);
        } else if let Some(at) = state.retired.iter().position(|queue| queue.stream() == stream) {
            state.retired[at].trim(through);
            if state.retired[at].pending_len() == 0 {
                let queue = state.retired.remove(at);
                streams::put_away(&self.inner.folder, &queue)?;
            }
        }
        Ok(())
    }

    /// The stream that records go to now.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.inner.lock().queue.stream().clone()
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> SpoolStatus {
        let state = self.inner.lock();
        SpoolStatus {
            len: state.queue.len(),
            pending: state.queue.pending_len() + state.retired.iter().map(Queue::pending_len).sum::<u64>(),
            refused: state.losses.total(),
            last: state.queue.state().next.0.checked_sub(1).map(Sequence),
        }
    }

    /// The newest checkpoint that this node has verified; the next heads carry it. An older one changes nothing.
    pub fn saw_checkpoint(&self, seen: CheckpointSeen) {
        let mut state = self.inner.lock();
        if state.seen.as_ref().is_none_or(|old| old.size <= seen.size) {
            state.seen = Some(seen);
        }
    }

    /// Closes it cleanly: losses and a last head are durable, appends are refused from now on, pending records stay. Repeats do
    /// nothing.
    ///
    /// # Errors
    /// The last head could not be written; the records after the head before stay unsigned.
    pub fn close(&self) -> Result<(), SpoolError> {
        let mut state = self.inner.lock();
        if state.closed {
            return Ok(());
        }
        state.closed = true;
        let sealed = self
            .inner
            .seal_losses(&mut state)
            .and_then(|_| if state.chain.unsigned() > 0 { self.inner.seal_head(&mut state) } else { Ok(()) });
        let batch = Arc::clone(&state.batch);
        let written = if state.waiting.is_empty() && !state.writing {
            Ok(())
        } else {
            self.inner.wait_durable(state, &batch).map_err(|source| SpoolError::NotDurable { source })
        };
        self.inner.changed.notify_all();
        sealed.and(written)
    }
}

impl Spool {
    /// Lets another process have the folder, or this one open it again. Only after [`Spool::close`], and when nobody sends from it
    /// any more: handles that are left can neither append nor trim usefully.
    pub(crate) fn release(&self) {
        debug_assert!(self.inner.lock().closed, "a spool in use keeps its lock");
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

// === The order of effects: seal under the lock, write without it, publish under it. ===

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held can only come from a bug in sealing; the durable part of the state is still right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals drafts, and a head where one is due, into the waiting batch.
    fn seal(&self, state: &mut State, drafts: Vec<Draft>) -> Result<Vec<Recorded>, SpoolError> {
        if state.closed {
            return Err(SpoolError::Closed);
        }
        let now = self.clock.now();
        let losses = state.losses.drafts();
        let said = losses.len();
        // Sealed on a copy: an error leaves the chain where it was.
        let mut chain = state.chain.clone();
        let mut sealed = Vec::with_capacity(said + drafts.len());
        for draft in losses.into_iter().chain(drafts) {
            sealed.push(chain.seal(draft, now)?);
        }
        let added: u64 = sealed.iter().map(|record| frame_len(&record.bytes)).sum();
        let len = state.queue.len() + state.unwritten_len + added;
        let limit = self.limits.len_max - self.limits.reserve_len;
        if len > limit {
            return Err(SpoolError::Full { len, limit });
        }
        state.losses.room();
        state.chain = chain;
        state.unwritten_len += added;
        let mut recorded = Vec::with_capacity(sealed.len() - said);
        for (index, record) in sealed.into_iter().enumerate() {
            if index >= said {
                let stream = state.queue.stream().clone();
                recorded.push(Recorded { stream, sequence: record.sequence, leaf: record.leaf });
            }
            state.waiting.push(record.bytes);
        }
        if state.chain.head_due(now)
            && let Err(error) = self.seal_head(state)
        {
            // The records are good without it; `tick` tries again.
            tracing::warn!(%error, "a stream head is due and cannot be signed");
        }
        Ok(recorded)
    }

    /// Seals a head over everything so far. Heads may use the reserve.
    fn seal_head(&self, state: &mut State) -> Result<(), SpoolError> {
        let mut chain = state.chain.clone();
        let sealed = chain.seal_head(&self.key, state.seen.clone(), self.clock.now())?;
        self.take_reserved(state, chain, vec![sealed.bytes])
    }

    /// Seals what was lost, if anything was and if there is room in the reserve. True: something was sealed.
    fn seal_losses(&self, state: &mut State) -> Result<bool, SpoolError> {
        let drafts = state.losses.drafts();
        if drafts.is_empty() {
            return Ok(false);
        }
        let now = self.clock.now();
        let mut chain = state.chain.clone();
        let mut records = Vec::with_capacity(drafts.len());
        for draft in drafts {
            records.push(chain.seal(draft, now)?.bytes);
        }
        self.take_reserved(state, chain, records)?;
        state.losses.said();
        Ok(true)
    }

    fn take_reserved(&self, state: &mut State, chain: Chain, records: Vec<Vec<u8>>) -> Result<(), SpoolError> {
        let added: u64 = records.iter().map(|record| frame_len(record)).sum();
        let len = state.queue.len() + state.unwritten_len + added;
        if len > self.limits.len_max {
            return Err(SpoolError::Full { len, limit: self.limits.len_max });
        }
        state.chain = chain;
        state.unwritten_len += added;
        state.waiting.extend(records);
        Ok(())
    }

    /// Counts refused records. The first of its family since there was room is recorded as lost at once, from the reserve: if the
    /// node dies before there is room again, the fact is in the stream, only the count is not.
    fn note_loss<'a>(&'a self, mut state: MutexGuard<'a, State>, kinds: &[RecordType]) {
        let now = self.clock.now();
        let mut first = false;
        for kind in kinds {
            first |= state.losses.note(*kind, now);
        }
        if !first {
            return;
        }
        match self.seal_losses(&mut state) {
            Ok(true) => {
                let batch = Arc::clone(&state.batch);
                if let Err(error) = self.wait_durable(state, &batch) {
                    tracing::error!(%error, "the spool is full and its loss cannot be recorded yet");
                }
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the spool is full and its loss cannot be recorded yet"),
        }
    }

    /// Returns when `batch` is durable or has failed. Whoever comes first writes for all; the others wait.
    fn wait_durable<'a>(&'a self, mut state: MutexGuard<'a, State>, batch: &Batch) -> Result<(), Arc<DiskError>> {
        loop {
            if let Some(outcome) = batch.outcome.get() {
                return outcome.clone();
            }
            state = if state.writing {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.write_waiting(state)
            };
        }
    }

    /// Writes the waiting batch and publishes what became of it. Takes the lock and gives it back.
    fn write_waiting<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let records = std::mem::take(&mut state.waiting);
        let losses = state.losses.take_sealed();
        let batch = std::mem::take(&mut state.batch);
        let end = state.queue.write_end();
        let before = state.queue.state();
        let after = state.chain.clone();
        let folder = state.queue.folder().to_owned();
        let stream = state.queue.stream().clone();
        let failed = state.failed;
        state.writing = true;
        drop(state);

        // 1. Without the lock: what the next batch will be is sealed meanwhile.
        let written = self.write(&folder, &stream, end, before, failed, &records);

        // 2. Publish. A crash before here loses only what nobody was told.
        let mut state = self.lock();
        state.writing = false;
        match written {
            Ok(written) => {
                let added: u64 = records.iter().map(|record| frame_len(record)).sum();
                state.unwritten_len -= added;
                state.queue.commit(&written.places, written.len, written.state);
                state.durable = after;
                state.failed = false;
                let _ = batch.outcome.set(Ok(()));
            }
            Err(error) => {
                // Whether the bytes are on disk is unknown (a failed fdatasync may have written them), so they are cut before
                // anything else is written. What was sealed on top of them falls with them: its numbers are given anew.
                tracing::error!(%error, records = records.len(), "records could not be made durable");
                let error = Arc::new(error);
                state.failed = true;
                state.chain = state.durable.clone();
                state.waiting.clear();
                state.unwritten_len = 0;
                state.losses.put_back(losses);
                let later = std::mem::take(&mut state.batch);
                let _ = batch.outcome.set(Err(Arc::clone(&error)));
                let _ = later.outcome.set(Err(error));
            }
        }
        self.changed.notify_all();
        state
    }

    fn write(
        &self,
        folder: &Path,
        stream: &StreamId,
        mut end: WriteEnd,
        before: ChainState,
        failed: bool,
        records: &[Vec<u8>],
    ) -> Result<Written, DiskError> {
        if failed {
            self.disk.cut(&end.file, end.len).map_err(DiskError::of("cut", folder))?;
            self.disk.sync(&end.file).map_err(DiskError::of("sync", folder))?;
        }
        if failed || (end.len >= self.limits.segment_len_max && !end.empty) {
            // Pages of a file whose fdatasync failed cannot be trusted again, so a new file it is, then too.
            let segment = Segment::create(folder, stream, before)?;
            let mut state = self.lock();
            state.queue.push(segment);
            end = state.queue.write_end();
        }
        let mut bytes = Vec::with_capacity(records.iter().map(|record| record.len() + FRAME_HEADER_LEN).sum());
        let mut places = Vec::with_capacity(records.len());
        let mut state = before;
        for record in records {
            places.push(Place {
                at: end.len + (bytes.len() + FRAME_HEADER_LEN) as u64,
                len: u32::try_from(record.len()).expect("invariant: a record has at most 65,535 bytes"),
            });
            segment::encode_frame(record, end.len, &mut bytes);
            state = segment::follow(state, record).expect("invariant: sealed records follow each other");
        }
        self.disk.write(&end.file, &bytes, end.len).map_err(DiskError::of("write", folder))?;
        self.disk.sync(&end.file).map_err(DiskError::of("sync", folder))?;
        Ok(Written { places, len: end.len + bytes.len() as u64, state })
    }
}

/// What a record takes on disk.
fn frame_len(record: &[u8]) -> u64 {
    (record.len() + FRAME_HEADER_LEN) as u64
}

#[cfg(test)]
mod tests;
