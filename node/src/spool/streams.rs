//! Which stream a spool writes to, and when a new one begins.
//!
//! A stream goes on across restarts. A new one begins when there is none, when the old one's bytes are damaged, and when the ledger
//! has another history of it than this disk (a disk was lost, rolled back or cloned). `current` is the one switch: it names the
//! stream and its predecessor, and is replaced after the new stream's first records are durable. A crash before that leaves a folder
//! that nothing names, which is set aside at the next start; a crash after it leaves the predecessor's folder where it was, which is
//! moved at the next start.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_ledger::producer::Chain;
use cairn_schemas::data::{Predecessor, StreamOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, Sequence, StreamId};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::Clock;
use cairn_schemas::types::RecordType;
use cairn_schemas::wire::StreamPosition;
use ed25519_dalek::SigningKey;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::queue::{self, Found, Queue};
use super::segment::{ChainState, FRAME_HEADER_LEN, Place, encode_frame, follow};
use super::{Spool, SpoolError};
use crate::durable::{self, DiskError};
use crate::random::Random;

const CURRENT: &str = "current";
const LOCK: &str = "lock";
const RETIRED: &str = "retired";
const ASIDE: &str = "aside";
/// How often the lock is tried, and the pause between.
const LOCK_TRIES: usize = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(30);
/// The one version of `current`.
const VERSION: u32 = 1;

/// What comparing a stream with the ledger came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconciled {
    /// One history. What the ledger lacks is sent again.
    OneHistory,
    /// The ledger does not have records that were trimmed here: it lost them, and will note a gap.
    LedgerBehind {
        /// The first record that neither side can send.
        missing: Sequence,
    },
    /// The ledger has another history than this disk. A new stream goes on; its first record names the old one.
    NewStream {
        /// The stream that ended.
        old: StreamId,
        /// The one that goes on.
        new: StreamId,
        /// How many records that the ledger has not were recorded anew in it.
        carried: u64,
        /// What differs.
        reason: String,
    },
}

/// `current`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Current {
    version: u32,
    stream: StreamId,
    predecessor: Option<StreamId>,
}

/// Whose streams these are, and what making one needs.
pub(super) struct Producer<'a> {
    pub(super) folder: &'a Path,
    pub(super) node: &'a NodeId,
    pub(super) key: &'a SigningKey,
    pub(super) clock: &'a dyn Clock,
    pub(super) random: &'a dyn Random,
}

/// The streams of a spool.
pub(super) struct Opened {
    pub(super) queue: Queue,
    pub(super) retired: Vec<Queue>,
}

/// Makes the spool's folder and takes its lock.
pub(super) fn lock(folder: &Path) -> Result<File, SpoolError> {
    durable::create_folder(folder)?;
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(DiskError::of("open", &path))?;
    for _ in 0..LOCK_TRIES {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(file);
        }
        // A process that starts another shares the lock with it until that one has become its own program.
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(SpoolError::InUse { path: folder.to_owned() })
}

/// A retired stream was sent whole: it goes. One with damage is kept aside for people.
pub(super) fn put_away(folder: &Path, queue: &Queue) -> Result<(), SpoolError> {
    let damaged = !matches!(Queue::open(queue.folder(), queue.stream())?.1, Found::Whole);
    if damaged {
        return Ok(set_aside(folder, queue.folder(), queue.stream().as_str())?);
    }
    fs::remove_dir_all(queue.folder()).map_err(DiskError::of("delete", queue.folder()))?;
    Ok(())
}

fn set_aside(spool: &Path, from: &Path, name: &str) -> Result<(), DiskError> {
    let aside = spool.join(ASIDE);
    durable::create_folder(&aside)?;
    let to = aside.join(name);
    tracing::error!(from = %from.display(), to = %to.display(), "part of the spool cannot be used and is set aside");
    if to.exists() {
        fs::remove_dir_all(&to).map_err(DiskError::of("delete", &to))?;
    }
    durable::rename(from, &to)
}

impl Producer<'_> {
    /// Opens what is there, or begins the first stream.
    pub(super) fn open(&self) -> Result<Opened, SpoolError> {
        durable::create_folder(&self.folder.join(RETIRED))?;
        let current = self.read_current()?;
        self.tidy(current.as_ref())?;
        let mut retired = self.open_retired()?;
        let Some(current) = current else {
            let (queue, _) = self.begin(None, Vec::new())?;
            self.switch(&queue, None)?;
            return Ok(Opened { queue, retired });
        };
        let folder = self.folder.join(current.stream.as_str());
        durable::create_folder(&folder)?;
        let (mut old, found) = Queue::open(&folder, &current.stream)?;
        match found {
            Found::Whole => {}
            Found::TornTail { len } => {
                tracing::warn!(stream = %current.stream, len, "the spool's last write was cut short; it was acknowledged to nobody");
            }
            Found::Damage { path, at, reason } => {
                tracing::error!(path = %path.display(), at, reason, "the spool is damaged; a new stream begins");
                let (queue, _) = self.begin(predecessor(&old), Vec::new())?;
                self.switch(&queue, Some(old.stream()))?;
                self.retire(&mut old)?;
                if old.pending_len() == 0 {
                    put_away(self.folder, &old)?;
                } else {
                    retired.push(old);
                }
                return Ok(Opened { queue, retired });
            }
        }
        Ok(Opened { queue: old, retired })
    }

    fn read_current(&self) -> Result<Option<Current>, SpoolError> {
        let path = self.folder.join(CURRENT);
        let Some(bytes) = durable::read_optional(&path)? else { return Ok(None) };
        let refuse = |reason: String| SpoolError::NoStream { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        if let Some(found) = value.get("version").and_then(serde_json::Value::as_u64)
            && found > u64::from(VERSION)
        {
            return Err(SpoolError::NewerVersion { path, found: u32::try_from(found).unwrap_or(u32::MAX) });
        }
        let current: Current = serde_json::from_value(value).map_err(|error| refuse(error.to_string()))?;
        if current.stream.node().as_ref() != Some(self.node) {
            return Err(refuse(format!("it names {}, which is not a stream of {}", current.stream, self.node)));
        }
        Ok(Some(current))
    }

    /// Finishes what a crash interrupted: moves the predecessor, sets aside what nothing names.
    fn tidy(&self, current: Option<&Current>) -> Result<(), SpoolError> {
        for name in durable::names(self.folder)? {
            let path = self.folder.join(&name);
            if !path.is_dir() || name == RETIRED || name == ASIDE {
                continue;
            }
            match current {
                Some(current) if current.stream.as_str() == name => {}
                Some(Current { predecessor: Some(old), .. }) if old.as_str() == name => {
                    durable::rename(&path, &self.folder.join(RETIRED).join(&name))?;
                }
                _ => set_aside(self.folder, &path, &name)?,
            }
        }
        Ok(())
    }

    fn open_retired(&self) -> Result<Vec<Queue>, SpoolError> {
        let mut retired = Vec::new();
        for name in durable::names(&self.folder.join(RETIRED))? {
            let folder = self.folder.join(RETIRED).join(&name);
            let Ok(stream) = name.parse::<StreamId>() else {
                set_aside(self.folder, &folder, &name)?;
                continue;
            };
            let (queue, _) = Queue::open(&folder, &stream)?;
            if queue.pending_len() == 0 {
                put_away(self.folder, &queue)?;
            } else {
                retired.push(queue);
            }
        }
        Ok(retired)
    }

    /// Makes a new stream whose first records are durable and which nothing names yet.
    fn begin(&self, predecessor: Option<Predecessor>, carried: Vec<Draft>) -> Result<(Queue, Chain), SpoolError> {
        let mut random = [0u8; 16];
        self.random.fill(&mut random).map_err(SpoolError::Random)?;
        let stream = StreamId::new(self.node, random);
        let mut queue = Queue::create(&self.folder.join(stream.as_str()), &stream)?;
        let opened = StreamOpened {
            node: self.node.clone(),
            key: STANDARD.encode(self.key.verifying_key().as_bytes()),
            predecessor,
        };
        let mut chain = Chain::new(stream);
        let now = self.clock.now();
        let end = queue.write_end();
        let (mut bytes, mut places, mut state) = (Vec::new(), Vec::new(), ChainState::START);
        for draft in [Draft::new(&opened)].into_iter().chain(carried) {
            let record = chain.seal(draft, now)?.bytes;
            let at = end.len + (bytes.len() + FRAME_HEADER_LEN) as u64;
            places.push(Place { at, len: u32::try_from(record.len()).unwrap_or(u32::MAX) });
            encode_frame(&record, end.len, &mut bytes);
            state = follow(state, &record).expect("invariant: sealed records follow each other");
        }
        let path = queue.folder().to_owned();
        std::os::unix::fs::FileExt::write_all_at(&*end.file, &bytes, end.len).map_err(DiskError::of("write", &path))?;
        end.file.sync_all().map_err(DiskError::of("sync", &path))?;
        queue.commit(&places, end.len + bytes.len() as u64, state);
        Ok((queue, chain))
    }

    /// From here on the spool writes to this stream.
    fn switch(&self, queue: &Queue, old: Option<&StreamId>) -> Result<(), SpoolError> {
        let current = Current { version: VERSION, stream: queue.stream().clone(), predecessor: old.cloned() };
        let bytes = serde_json::to_vec(&current).expect("invariant: it has text keys");
        Ok(durable::replace(&self.folder.join(CURRENT), &bytes)?)
    }

    fn retire(&self, queue: &mut Queue) -> Result<PathBuf, SpoolError> {
        let to = self.folder.join(RETIRED).join(queue.stream().as_str());
        durable::rename(queue.folder(), &to)?;
        queue.moved(&to);
        Ok(to)
    }
}

/// The last record of a stream that is here.
fn predecessor(queue: &Queue) -> Option<Predecessor> {
    let state = queue.state();
    let sequence = Sequence(state.next.0.checked_sub(1)?);
    Some(Predecessor { stream: queue.stream().clone(), sequence, digest: state.prev })
}

impl Spool {
    /// Compares a stream of this spool with where the ledger has it; called at every start, before anything is sent, and when
    /// the ledger refuses records. Trims what the ledger has. Where the ledger has another history, a new stream begins: records
    /// that the ledger has not are recorded anew in it, each naming its old place as `foreignid`, and the old files are set aside.
    ///
    /// # Errors
    /// Files cannot be read or written; nothing has changed then, or the next start finishes it.
    pub fn reconcile(&self, stream: &StreamId, position: &StreamPosition) -> Result<Reconciled, SpoolError> {
        let inner = &*self.inner;
        let mut state = inner.lock();
        // Nothing may be sealed and not durable while the stream changes under it.
        while state.writing || !state.waiting.is_empty() {
            state = if state.writing {
                inner.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner)
            } else {
                inner.write_waiting(state)
            };
        }
        let is_current = state.queue.stream() == stream;
        let Some(queue) = (if is_current {
            Some(&mut state.queue)
        } else {
            state.retired.iter_mut().find(|queue| queue.stream() == stream)
        }) else {
            return Ok(Reconciled::OneHistory);
        };
        let reason = match compare(queue, position)? {
            Compared::OneHistory => {
                queue.send_from(next_there(position));
                inner.changed.notify_all();
                return Ok(Reconciled::OneHistory);
            }
            Compared::LedgerBehind { missing } => {
                tracing::error!(%stream, %missing, "the ledger lost records that it had acknowledged; it will note a gap");
                queue.send_from(queue.first());
                inner.changed.notify_all();
                return Ok(Reconciled::LedgerBehind { missing });
            }
            Compared::OtherHistory { reason } => reason,
        };
        tracing::error!(%stream, reason, "the ledger has another history of this stream; a new one begins");
        let carried = carry(queue)?;
        let carried_len = carried.len() as u64;
        let last = match position.sequence {
            // Ahead of this disk: that is the last record this producer knows of now.
            Some(sequence) if sequence >= queue.state().next => {
                Some(Predecessor { stream: stream.clone(), sequence, digest: position.digest })
            }
            _ => predecessor(queue),
        };
        let producer = Producer {
            folder: &inner.folder,
            node: &inner.node,
            key: &inner.key,
            clock: &*inner.clock,
            random: &*inner.random,
        };
        if !is_current {
            // The current stream takes what a retired one cannot deliver. Locked out of order: through the front door.
            let old = state.retired.iter().position(|queue| queue.stream() == stream);
            drop(state);
            if !carried.is_empty() {
                self.append(carried)?;
            }
            let mut state = inner.lock();
            if let Some(old) = old
                && state.retired.get(old).is_some_and(|queue| queue.stream() == stream)
            {
                let queue = state.retired.remove(old);
                set_aside(&inner.folder, queue.folder(), stream.as_str())?;
            }
            let new = state.queue.stream().clone();
            return Ok(Reconciled::NewStream { old: stream.clone(), new, carried: carried_len, reason });
        }
        let (new_queue, chain) = producer.begin(last, carried)?;
        producer.switch(&new_queue, Some(stream))?;
        let old_folder = state.queue.folder().to_owned();
        state.queue = new_queue;
        state.chain = chain.clone();
        state.durable = chain;
        state.failed = false;
        let new = state.queue.stream().clone();
        inner.changed.notify_all();
        set_aside(&inner.folder, &old_folder, stream.as_str())?;
        Ok(Reconciled::NewStream { old: stream.clone(), new, carried: carried_len, reason })
    }
}

enum Compared {
    OneHistory,
    LedgerBehind { missing: Sequence },
    OtherHistory { reason: String },
}

/// The first record that the ledger does not have.
fn next_there(position: &StreamPosition) -> Sequence {
    position.sequence.map_or(Sequence(0), Sequence::next)
}

fn compare(queue: &Queue, position: &StreamPosition) -> Result<Compared, SpoolError> {
    let other = |reason: String| Ok(Compared::OtherHistory { reason });
    let missing = next_there(position);
    if missing < queue.first() {
        // Trimmed here, so the ledger had acknowledged it.
        return Ok(Compared::LedgerBehind { missing });
    }
    let Some(sequence) = position.sequence else { return Ok(Compared::OneHistory) };
    if sequence >= queue.state().next {
        return other(format!("it goes to {sequence} there and to {} here", queue.state().next.0.saturating_sub(1)));
    }
    let here: Digest = match queue.leaf(sequence) {
        Some(leaf) => leaf?,
        None => return Ok(Compared::LedgerBehind { missing }),
    };
    if here == position.digest {
        Ok(Compared::OneHistory)
    } else {
        other(format!("record {sequence} is {} there and {here} here", position.digest))
    }
}

/// What is pending in a stream that the ledger will not take, as drafts for another. Their old place becomes their foreign id, so
/// that whoever was told that place finds them.
fn carry(queue: &Queue) -> Result<Vec<Draft>, SpoolError> {
    let mut drafts = Vec::new();
    for (file, place) in queue.plan(usize::MAX, usize::MAX) {
        let bytes = queue::read(&file, place).map_err(DiskError::of("read", queue.folder()))?;
        let record = match Record::parse(&bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(error = error.one_line(), "a pending record cannot be carried into the new stream");
                continue;
            }
        };
        if matches!(record.kind, RecordType::StreamOpened | RecordType::StreamHead) {
            continue;
        }
        let place = format!("{}/{}", record.stream, record.sequence.padded());
        drafts.push(Draft {
            kind: record.kind,
            subject: record.subject,
            release: record.release,
            foreignid: Some(record.foreignid.unwrap_or(place)),
            data: record.data,
        });
    }
    Ok(drafts)
}

#[cfg(test)]
impl Producer<'_> {
    /// Makes a new stream and switches to it, and then "crashes".
    pub(super) fn begin_for_test(&self, old: &StreamId) -> StreamId {
        let (queue, _) = self.begin(None, Vec::new()).unwrap();
        self.switch(&queue, Some(old)).unwrap();
        queue.stream().clone()
    }
}
