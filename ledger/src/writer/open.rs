//! Making a ledger, and opening one: what a crash left is repaired here, by the code that publishes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use cairn_schemas::data::LedgerOpened;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, StreamId, TreeSize};
use cairn_schemas::time::Clock;
use thiserror::Error;

use super::commit::Committer;
use super::state::{Queue, State};
use super::{Position, Shared};
use crate::dir::CHECKPOINT_FILE;
use crate::disk::{Disk, LockGuard};
use crate::integrate::{EdgeError, Integrator, PUBLISH_RECORDS_MAX, PublishError, PublishedCheckpoint};
use crate::note::{NoteError, NoteSigner};
use crate::streams::{ReplayError, Streams, Written};
use crate::wal::{self, Replay, SEGMENT_LEN, Wal, WalError};

/// The file whose lock the one writer holds.
const LOCK_FILE: &str = "lock";

/// Why a ledger could not be made or opened. Unless it says otherwise, nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is a ledger where one was to be made.
    #[error("there is a ledger already")]
    Exists,
    /// There is none where one was to be opened.
    #[error("there is no ledger: neither a checkpoint nor a write-ahead log")]
    NoLedger,
    /// Another process writes this ledger.
    #[error("another process is writing this ledger: it holds `lock`")]
    Locked,
    /// The signer, the origin and `ledger.opened` do not fit.
    #[error("the ledger's key does not fit: {reason}")]
    Key {
        /// What does not fit.
        reason: String,
    },
    /// The system could not.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Published files are missing, damaged, or not signed by this key.
    #[error(transparent)]
    Damage(#[from] EdgeError),
    /// The write-ahead log is damaged.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The records do not follow from each other.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// `checkpoints/` has a later checkpoint than all records reach: an older state of the directory was put back.
    #[error("`checkpoints/{kept}` was published, and only {size} records are here: acknowledged records are missing")]
    RolledBack {
        /// The later checkpoint.
        kept: TreeSize,
        /// How many records there are.
        size: TreeSize,
    },
    /// There are tiles and no checkpoint.
    #[error("there are tiles but no `checkpoint`, and the write-ahead log does not reach back to record 0")]
    NoCheckpoint,
    /// What the log still held could not be published. Some of it may be; opening again goes on from there.
    #[error("cannot publish what the write-ahead log holds: {reason}")]
    Publish {
        /// Why.
        reason: String,
        /// The system's error, where there is one.
        #[source]
        source: Option<io::Error>,
    },
    /// The system gave no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl From<PublishError> for OpenError {
    fn from(error: PublishError) -> OpenError {
        let reason = error.to_string();
        let source = match error {
            PublishError::Io(source) => Some(source),
            _ => None,
        };
        OpenError::Publish { reason, source }
    }
}

/// What tests turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) segment_len: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_len: SEGMENT_LEN }
    }
}

/// A ledger that is ready for its threads.
pub(super) struct Opened {
    pub(super) shared: Shared,
    pub(super) committer: Committer,
    pub(super) integrator: Integrator,
    pub(super) lock: LockGuard,
}

/// Makes the ledger's root, durable in its parent.
pub(super) fn make_root(dir: &Path) -> Result<(), OpenError> {
    let fail = |action| move |source| OpenError::Io { action, path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(fail("make"))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(fail("sync the folder of"))
}

fn take_lock(disk: &dyn Disk) -> Result<LockGuard, OpenError> {
    disk.lock(LOCK_FILE).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked,
        io::ErrorKind::NotFound => OpenError::NoLedger,
        _ => OpenError::Io { action: "lock", path: LOCK_FILE.into(), source },
    })
}

/// The signer must be the one that `ledger.opened` names, under the origin as its name.
fn check_key(opened: &LedgerOpened, signer: &NoteSigner) -> Result<String, OpenError> {
    let origin = format!("{}/{}", opened.name, opened.volume);
    let refuse = |reason| Err(OpenError::Key { reason });
    match crate::note::check_name(&origin) {
        Err(NoteError::Name { name }) => return refuse(format!("{name:?} cannot be an origin")),
        checked => checked.expect("invariant: a name is refused for being one"),
    }
    if signer.verifier().name() != origin {
        return refuse(format!("it signs as {:?}, and the origin is {origin:?}", signer.verifier().name()));
    }
    if opened.ledger_key != signer.verifier().to_string() {
        return refuse(format!("`ledger.opened` names {}, and the key is {}", opened.ledger_key, signer.verifier()));
    }
    Ok(origin)
}

/// Makes a ledger whose record 0 is `opened`.
pub(super) fn create(
    disk: Arc<dyn Disk>,
    opened: &LedgerOpened,
    signer: NoteSigner,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<Opened, OpenError> {
    let lock = take_lock(&*disk)?;
    let origin = check_key(opened, &signer)?;
    let origin_digest = Digest::sha256(origin.as_bytes());
    let fail = |path: &'static str| move |source| OpenError::Io { action: "read", path: path.into(), source };
    let names = disk.list("").map_err(fail("."))?;
    let held =
        Replay::new(&*disk, origin_digest, RecordIndex(0))?.segment(&*disk)?.is_some_and(|records| !records.is_empty());
    if held || names.iter().any(|name| name == CHECKPOINT_FILE || name == "tile") {
        return Err(OpenError::Exists);
    }
    // What an attempt left that a crash cut short holds no record: nobody was told that a ledger was made.
    disk.create_folder(wal::WAL_FOLDER).map_err(|source| OpenError::Io {
        action: "make",
        path: "wal".into(),
        source,
    })?;
    wal::clear(&*disk)?;
    let (streams, first) = Streams::create(opened, clock.now()).map_err(|reason| OpenError::Key { reason })?;

    // The log first, as for every record: from here on the ledger exists, and a crash before the first checkpoint is repaired by opening.
    let mut wal = Wal::start(disk.clone(), origin_digest, options.segment_len, RecordIndex(0))?;
    wal.append(RecordIndex(0), std::iter::once(&*first.0))?;
    let mut integrator = Integrator::empty(disk.clone(), signer);
    let published = integrator.publish(std::slice::from_ref(&first), true, clock.now())?;
    Ok(ready(Parts { disk, origin, clock, streams, wal, integrator, published, lock }))
}

/// Opens a ledger. What the log holds beyond the checkpoint is published, and the log begun anew.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    signer: NoteSigner,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<Opened, OpenError> {
    let lock = take_lock(&*disk)?;
    let origin_digest = Digest::sha256(signer.verifier().name().as_bytes());

    // 1. What is published: every record is read, hashed and compared with the signed root, and the rules' state built from them.
    let mut streams: Option<Streams> = None;
    let mut each = |_: RecordIndex, record: &[u8], leaf: Digest| take_up(&mut streams, &signer, record, leaf);
    let (mut integrator, mut published) = match disk.read(CHECKPOINT_FILE) {
        Ok(checkpoint) => {
            let (integrator, published) =
                Integrator::recover::<OpenError>(disk.clone(), signer.clone(), &checkpoint, &mut each)?;
            (integrator, Some(published))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (Integrator::empty(disk.clone(), signer.clone()), None)
        }
        Err(source) => return Err(OpenError::Io { action: "read", path: CHECKPOINT_FILE.into(), source }),
    };

    // 2. What is acknowledged and not published yet. It is published by the function that always does it; its files are new ones, so it does
    //    not matter what a failed sync left in the kernel's memory. A crash in here leaves the log as it is, and the next opening does it again.
    let mut replay = Replay::new(&*disk, origin_digest, RecordIndex(integrator.size().0))?;
    loop {
        let records = match replay.segment(&*disk) {
            Ok(Some(records)) => records,
            Ok(None) => break,
            Err(WalError::Missing { expected: RecordIndex(0), .. }) if published.is_none() => {
                return Err(OpenError::NoCheckpoint);
            }
            Err(error) => return Err(error.into()),
        };
        let mut written: Vec<Written> = Vec::with_capacity(records.len());
        for record in records {
            let leaf = Digest::leaf(&record);
            take_up(&mut streams, &signer, &record, leaf)?;
            written.push((record.into(), leaf));
        }
        for part in written.chunks(PUBLISH_RECORDS_MAX) {
            published = Some(integrator.publish(part, false, clock.now())?);
        }
    }
    let (Some(streams), Some(published)) = (streams, published) else {
        let tiles = disk.list("tile").is_ok_and(|names| !names.is_empty());
        return Err(if tiles { OpenError::NoCheckpoint } else { OpenError::NoLedger });
    };

    // 3. Nothing that was ever published may be missing now.
    let kept = disk.list("checkpoints").unwrap_or_default().iter().filter_map(|name| name.parse().ok()).max();
    if let Some(kept) = kept.map(TreeSize)
        && kept > published.size
    {
        return Err(OpenError::RolledBack { kept, size: published.size });
    }

    // 4. Everything is in durable tiles under a durable checkpoint: the log begins anew. A crash between the two leaves no log, and needs none.
    let origin = signer.verifier().name().to_owned();
    wal::clear(&*disk)?;
    let wal = Wal::start(disk.clone(), origin_digest, options.segment_len, RecordIndex(published.size.0))?;
    Ok(ready(Parts { disk, origin, clock, streams, wal, integrator, published, lock }))
}

/// Takes up one record of the ledger; the first one says whose ledger it is.
fn take_up(streams: &mut Option<Streams>, signer: &NoteSigner, record: &[u8], leaf: Digest) -> Result<(), OpenError> {
    match streams {
        Some(streams) => streams.replay(record, leaf)?,
        None => {
            let (first, opened) = Streams::replay_first(record)?;
            check_key(&opened, signer)?;
            *streams = Some(first);
        }
    }
    Ok(())
}

struct Parts {
    disk: Arc<dyn Disk>,
    origin: String,
    clock: Arc<dyn Clock>,
    streams: Streams,
    wal: Wal,
    integrator: Integrator,
    published: PublishedCheckpoint,
    lock: LockGuard,
}

fn ready(parts: Parts) -> Opened {
    let Parts { disk, origin, clock, streams, wal, integrator, published, lock } = parts;
    let positions: HashMap<StreamId, Position> =
        streams.ids().filter_map(|id| Some((id.clone(), streams.position(id)?))).collect();
    let shared = Shared {
        disk,
        origin,
        clock,
        streams: Mutex::new(streams),
        queue: Mutex::new(Queue::default()),
        queued: Condvar::new(),
        drained: Condvar::new(),
        state: Mutex::new(State::new(published, positions)),
        grown: Condvar::new(),
        hurry: Condvar::new(),
        published: Condvar::new(),
        walking: Mutex::new(()),
    };
    Opened { shared, committer: Committer { wal }, integrator, lock }
}
