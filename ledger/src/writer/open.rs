//! Making a ledger, and opening one: what a crash left is repaired here, by the code that publishes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use cairn_schemas::data::LedgerOpened;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, StreamId, TreeSize};
use cairn_schemas::time::Clock;
use thiserror::Error;

use super::commit::Committer;
use super::cosigned::Cosigned;
use super::state::{Queue, State};
use super::volumes::{self, OldVolume};
use super::{BACKLOG_BYTES_MAX, Position, Shared};
use crate::dir::CHECKPOINT_FILE;
use crate::disk::{Disk, LockGuard};
use crate::files::{DiskError, Readers};
use crate::integrate::{EdgeError, Integrator, PUBLISH_RECORDS_MAX, PublishError, PublishedCheckpoint, Recovered};
use crate::note::{NoteError, NoteSigner};
use crate::parallel::in_order;
use crate::store::{DirStore, Log, Store, UnreadPart};
use crate::streams::{Attributes, Ended, ReplayError, Streams, Unplaced, Written};
use crate::volume::{VOLUME_FOLDER, parse_origin};
use crate::wal::{SEGMENT_LEN, WalError};

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
    /// What had to be published before the ledger could go on could not be. Some of it may be; opening again goes on from there.
    #[error("cannot publish what the write-ahead log holds: {reason}")]
    Publish {
        /// Why.
        reason: String,
        /// The system's error, where there is one.
        #[source]
        source: Option<io::Error>,
    },
    /// The next volume could not be begun.
    #[error("the next volume cannot be begun: {reason}")]
    Begin {
        /// Why.
        reason: String,
    },
    /// The ledger was frozen: it is read and verified as before, and nothing is written into it any more.
    #[error("the ledger is frozen, for good: {reason}")]
    Frozen {
        /// What was said when it was.
        reason: String,
    },
    /// The bucket cannot be used.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    Bucket(#[from] crate::s3::ConnectError),
    /// The system gave no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// What an operator can do about it, where there is something.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            OpenError::Damage(_) | OpenError::Wal(_) | OpenError::Replay(_) | OpenError::NoCheckpoint => Some(
                "put back an undamaged copy; where there is none, `cairn ledger rotate LEDGER --reason damaged` opens a new volume over \
                 what is readable and leaves this one as evidence",
            ),
            OpenError::RolledBack { .. } => Some(
                "put back the newest copy; where this is it, `cairn ledger rotate LEDGER --reason restored` opens a new volume over it",
            ),
            OpenError::Key { .. } => Some(
                "give the key that signs this ledger's checkpoints; where it is lost, `cairn ledger rotate LEDGER --reason keylost` opens a \
                 new volume with another one, which the root key must endorse",
            ),
            OpenError::Locked => Some("end the process that writes it; the lock goes with it"),
            #[cfg(feature = "s3")]
            OpenError::Bucket(_) => Some(
                "see that the bucket is there, and that credentials, region and endpoint are its own: AWS_PROFILE, AWS_REGION, \
                 AWS_ENDPOINT_URL",
            ),
            OpenError::Frozen { .. } => Some("it can be read and verified; to record more, make another ledger"),
            _ => None,
        }
    }
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
    pub(super) lock: Option<LockGuard>,
}

/// Makes the ledger's root, durable in its parent.
pub(super) fn make_root(dir: &Path) -> Result<(), OpenError> {
    let fail = |action| move |source| OpenError::Io { action, path: dir.to_owned(), source };
    crate::files::create_folder(dir, Readers::Everybody)
        .map_err(|DiskError { action, path, source }| OpenError::Io { action, path, source })?;
    // Where it was there, somebody may have made it who was ended before it was synced.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(fail("sync the folder of"))
}

pub(super) fn take_lock(store: &dyn Store, create: bool) -> Result<LockGuard, OpenError> {
    store.lock(create).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked,
        io::ErrorKind::NotFound => OpenError::NoLedger,
        _ => OpenError::Io { action: "lock", path: "the ledger".into(), source },
    })
}

/// The keys that a ledger is opened with. One of them must be the key in force at the ledger's end; others are kept for what a crash left
/// before a key was changed. Names are `<ledger name>/<volume>`, of any volume: the writer puts the volume in that it needs.
#[derive(Debug, Clone)]
pub struct Signers {
    held: Vec<NoteSigner>,
    endorsement: Option<String>,
}

impl From<NoteSigner> for Signers {
    fn from(signer: NoteSigner) -> Signers {
        Signers { held: vec![signer], endorsement: None }
    }
}

impl From<Vec<NoteSigner>> for Signers {
    /// At least one.
    fn from(held: Vec<NoteSigner>) -> Signers {
        Signers { held, endorsement: None }
    }
}

impl Signers {
    /// With the root key's word that one of them signs the volume that is opened next, should a next volume have to be made.
    #[must_use]
    pub fn endorsed(mut self, endorsement: String) -> Signers {
        self.endorsement = Some(endorsement);
        self
    }

    /// The ledger's name.
    fn name(&self) -> Result<String, OpenError> {
        let name = self.held.first().map(|signer| signer.verifier().name()).unwrap_or_default();
        let parsed = parse_origin(name).map(|(name, _)| name.to_owned());
        parsed.ok_or_else(|| OpenError::Key { reason: format!("{name:?} is not the name of a ledger and a volume") })
    }

    /// The signer with these public keys, under the name that they are written with.
    fn find(&self, key: &str, second: Option<&str>) -> Result<NoteSigner, OpenError> {
        let held = self.held.iter().filter_map(|signer| signer.renamed(key.split('+').next()?).ok());
        let mut named: Vec<String> = Vec::new();
        for signer in held {
            if signer.verifier().to_string() == key && signer.second().map(ToString::to_string).as_deref() == second {
                return Ok(signer);
            }
            named.extend([signer.verifier().to_string()].into_iter().chain(signer.second().map(ToString::to_string)));
        }
        let second = second.map(|key| format!(" with the second key {key}")).unwrap_or_default();
        let reason = format!("its checkpoints are signed by {key}{second}, and the key is {}", named.join(", "));
        Err(OpenError::Key { reason })
    }
}

/// What `ledger.opened` says must be possible.
fn check_opened(opened: &LedgerOpened, origin: &str) -> Result<(), OpenError> {
    let refuse = |reason| Err(OpenError::Key { reason });
    let actual = crate::volume::origin(&opened.name, opened.volume);
    match crate::note::check_name(&actual) {
        Err(NoteError::Name { name }) => return refuse(format!("{name:?} cannot be an origin")),
        checked => checked.expect("invariant: a name is refused for being one"),
    }
    if actual != origin {
        return refuse(format!("it signs as {origin:?}, and the origin is {actual:?}"));
    }
    Ok(())
}

/// Makes a ledger on a disk.
pub(super) fn create(
    disk: Arc<dyn Disk>,
    opened: &LedgerOpened,
    signer: NoteSigner,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<Opened, OpenError> {
    create_in(Arc::new(DirStore::new(disk, options.segment_len)), opened, signer, clock)
}

/// Makes a ledger whose record 0 is `opened`.
pub(super) fn create_in(
    store: Arc<dyn Store>,
    opened: &LedgerOpened,
    signer: NoteSigner,
    clock: Arc<dyn Clock>,
) -> Result<Opened, OpenError> {
    let lock = take_lock(&*store, true)?;
    check_opened(opened, signer.verifier().name())?;
    if opened.volume != 1 || opened.previous.is_some() {
        return Err(OpenError::Key { reason: "a ledger begins with volume 1, and with nothing before it".into() });
    }
    if opened.ledger_key != signer.verifier().to_string()
        || opened.mldsa_key != signer.second().map(ToString::to_string)
    {
        let reason = format!("`ledger.opened` names {}, and the key is {}", opened.ledger_key, signer.verifier());
        return Err(OpenError::Key { reason });
    }
    let origin = signer.verifier().name().to_owned();
    let origin_digest = Digest::sha256(origin.as_bytes());
    let fail = |path: &'static str| move |source| OpenError::Io { action: "read", path: path.into(), source };
    let names = store.list("").map_err(fail("."))?;
    if names.iter().any(|name| name == CHECKPOINT_FILE || name == "tile" || name == VOLUME_FOLDER) {
        return Err(OpenError::Exists);
    }
    if store.replay(origin_digest, RecordIndex(0))?.next_part()?.is_some_and(|records| !records.is_empty()) {
        return Err(OpenError::Exists);
    }
    // What an attempt left that a crash cut short holds no record: nobody was told that a ledger was made.
    store.clear_log()?;
    let (streams, first) = Streams::create(opened, clock.now()).map_err(|reason| OpenError::Key { reason })?;

    // The log first, as for every record: from here on the ledger exists, and a crash before the first checkpoint is repaired by opening.
    let mut log = store.start_log(origin_digest, RecordIndex(0))?;
    if let Some(durable) = log.append(RecordIndex(0), std::slice::from_ref(&first))? {
        durable()?;
    }
    let mut integrator = Integrator::empty(store.clone(), signer);
    let published = integrator.publish(std::slice::from_ref(&first), true, clock.now())?;
    let run = Run { root: store.clone(), store, older: Vec::new(), clock, streams, integrator, published };
    Ok(run.ready(log, Vec::new(), Some(lock)))
}

/// A volume that was taken up, and what of its log is not published.
struct TakenUp {
    run: Run,
    /// The log, where it goes on; otherwise all of it is published, and it begins anew.
    log: Option<Box<dyn Log>>,
    /// Records that are durable in that log and were not published yet, in parts of at most [`PUBLISH_RECORDS_MAX`].
    backlog: VecDeque<Vec<Written>>,
}

/// Opens a ledger on a disk.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    signers: impl Into<Signers>,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<Opened, OpenError> {
    open_in(Arc::new(DirStore::new(disk, options.segment_len)), signers, clock)
}

/// Opens a ledger's newest volume. What its log holds beyond the checkpoint is made sure of and left to the thread that publishes, and the
/// log goes on behind it. Where the volume was closed, and a crash came before the next one was made, that is made here.
pub(super) fn open_in(
    root: Arc<dyn Store>,
    signers: impl Into<Signers>,
    clock: Arc<dyn Clock>,
) -> Result<Opened, OpenError> {
    let signers = signers.into();
    let lock = take_lock(&*root, false)?;
    let (name, present) = (signers.name()?, volumes::present(&*root)?);
    let mut newest = None;
    for volume in present.iter().rev() {
        newest = take_up(&root, &name, *volume, &signers, &clock)?;
        if newest.is_some() {
            break;
        }
        // A crash came while this volume was made: nobody was told of it. The one before it says whether to make it again.
    }
    let TakenUp { run, log, backlog } = newest.ok_or(OpenError::NoLedger)?;
    volumes::finish_drops(&run);
    let opened = match run.streams.ended() {
        None => {
            let log = match log {
                Some(log) => log,
                None => {
                    // Everything is in durable tiles under a durable checkpoint: the log begins anew. A crash between the two leaves no
                    // log, and needs none.
                    run.store.clear_log()?;
                    let digest = Digest::sha256(run.integrator.origin().as_bytes());
                    run.store.start_log(digest, RecordIndex(run.published.size.0))?
                }
            };
            volumes::clear_log_before(&run);
            run.ready(log, backlog.into(), Some(lock))
        }
        Some(Ended::Frozen(frozen)) => return Err(OpenError::Frozen { reason: frozen.reason.clone() }),
        Some(Ended::Closed(closed)) => {
            let next = volumes::Next::after_crash(&run, closed.reason, &signers)?;
            let prepared = volumes::prepare(&*run.root, next.origin())?;
            let (run, log, _) = volumes::begin(run, next, prepared, &[])?;
            run.ready(log, Vec::new(), Some(lock))
        }
    };
    Ok(opened)
}

impl Signers {
    /// The signer for a next volume: the key that was in force, or the one that the root endorsed for it.
    pub(super) fn for_next(&self, streams: &Streams, origin: &str) -> Result<(NoteSigner, Option<String>), OpenError> {
        if let Some(endorsement) = &self.endorsement {
            let endorsed = self.held.iter().filter_map(|signer| signer.renamed(origin).ok());
            let mut endorsed = endorsed.filter(|signer| volumes::endorses(streams, endorsement, signer).is_ok());
            if let Some(signer) = endorsed.next() {
                return Ok((signer, Some(endorsement.clone())));
            }
        }
        let signer = self.find(streams.key_at(u64::MAX), streams.second_key_at(u64::MAX))?;
        let signer = signer.renamed(origin).map_err(|error| OpenError::Key { reason: error.to_string() })?;
        Ok((signer, None))
    }
}

/// Takes up one volume. `None`: not all of the records are there that it must begin with.
fn take_up(
    root: &Arc<dyn Store>,
    name: &str,
    volume: u64,
    signers: &Signers,
    clock: &Arc<dyn Clock>,
) -> Result<Option<TakenUp>, OpenError> {
    let store = volumes::store_of(root, volume)?;
    let origin = crate::volume::origin(name, volume);
    let digest = Digest::sha256(origin.as_bytes());

    // 1. What is published: every record is read, hashed and compared with the signed root, and the rules' state built from them.
    let mut streams: Option<Streams> = None;
    let mut place = |record: &[u8], leaf: Digest, attributes: Result<Attributes, String>| match &mut streams {
        Some(streams) => Ok(streams.replay_read(record, leaf, attributes)?),
        none => {
            let (first, opened) = Streams::replay_first(record)?;
            check_opened(&opened, &origin)?;
            *none = Some(first);
            Ok(())
        }
    };
    let recovered = match store.read(CHECKPOINT_FILE) {
        Ok(bytes) => Some(Integrator::recover::<OpenError>(store.clone(), &bytes, |record| {
            place(&record.bytes, record.leaf, record.attributes)
        })?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(OpenError::Io { action: "read", path: CHECKPOINT_FILE.into(), source }),
    };

    // 2. What is acknowledged and not published yet.
    let size = recovered.as_ref().map_or(TreeSize(0), Recovered::size);
    let mut backlog: VecDeque<Vec<Written>> = VecDeque::new();
    let mut replay = store.replay(digest, RecordIndex(size.0))?;
    let next_part = || match replay.next_unread() {
        Err(WalError::Missing { expected: RecordIndex(0), .. }) => Err(OpenError::NoCheckpoint),
        part => Ok(part?),
    };
    let read = |part: UnreadPart| part().map(Unplaced::read);
    in_order(next_part, &read, |records| {
        for Unplaced { bytes, leaf, attributes } in records? {
            place(&bytes, leaf, attributes)?;
            match backlog.back_mut() {
                Some(part) if part.len() < PUBLISH_RECORDS_MAX => part.push((bytes.into(), leaf)),
                _ => backlog.push_back(vec![(bytes.into(), leaf)]),
            }
        }
        Ok(())
    })?;
    let Some(mut streams) = streams else {
        recovered.map(Recovered::whole).transpose()?;
        let tiles = store.list("tile").is_ok_and(|names| !names.is_empty());
        return if tiles { Err(OpenError::NoCheckpoint) } else { Ok(None) };
    };
    if !streams.has_begun() {
        return if recovered.is_some() { Err(OpenError::NoCheckpoint) } else { Ok(None) };
    }

    // 3. The checkpoint must be signed by the key that was in force, and what follows is signed by the one that is. A key is changed only
    //    where everything before is published, so one key signs all of the log.
    let signer = signers.find(streams.key_at(u64::MAX), streams.second_key_at(u64::MAX))?;
    let (mut integrator, mut published) = match recovered {
        Some(recovered) => {
            let key = streams.key_at(size.0).parse().map_err(EdgeError::from_note)?;
            let (integrator, published) = recovered.check(&origin, &[key], signer)?;
            (integrator, Some(published))
        }
        None => (Integrator::empty(store.clone(), signer), None),
    };

    // 4. Nothing that was ever published may be missing now.
    let held = TreeSize(size.0 + backlog.iter().map(|part| part.len() as u64).sum::<u64>());
    let kept = store.list("checkpoints").unwrap_or_default().iter().filter_map(|name| name.parse().ok()).max();
    if let Some(kept) = kept.map(TreeSize)
        && kept > held
    {
        return Err(OpenError::RolledBack { kept, size: held });
    }

    // 5. Up to here nothing was changed. What the log holds must survive any crash before anything is built upon it. A crash in here leaves
    //    it for the next opening.
    let log = match backlog.is_empty() {
        true => {
            drop(replay);
            None
        }
        false => replay.go_on()?,
    };

    // 6. Publishing is the work of a thread that always does it, and appends do not wait for that. But a ledger begins with a checkpoint, a
    //    volume that ended has no such thread, and neither does a log that is to be begun anew; and what is held in memory has a bound,
    //    however often a process ends before it has published anything. A crash in here leaves the log as it is. Files are new ones, so
    //    it does not matter what a failed sync left in the kernel's memory.
    let first = match log.is_none() || streams.ended().is_some() {
        true => backlog.len(),
        false => beyond(&backlog, BACKLOG_BYTES_MAX).max(usize::from(published.is_none())),
    };
    for part in backlog.drain(..first) {
        published = Some(integrator.publish(&part, false, clock.now())?);
    }
    let published = published.expect("invariant: record 0 was published, or stood in the log");
    let older = volumes::older(root, volume, streams.previous_size())?;
    volumes::remember(&mut streams, &older);
    let run = Run { root: root.clone(), store, older, clock: clock.clone(), streams, integrator, published };
    Ok(Some(TakenUp { run, log, backlog }))
}

/// How many parts must go so that no more than `max` bytes are left.
fn beyond(parts: &VecDeque<Vec<Written>>, max: usize) -> usize {
    let len = |part: &Vec<Written>| part.iter().map(|(record, _)| record.len()).sum::<usize>();
    let mut left: usize = parts.iter().map(len).sum();
    let goes = |part: &&Vec<Written>| {
        let over = left > max;
        left -= len(part);
        over
    };
    parts.iter().take_while(goes).count()
}

/// A volume that is taken up, and nobody working on it.
pub(super) struct Run {
    /// The ledger's root.
    pub(super) root: Arc<dyn Store>,
    /// The volume's.
    pub(super) store: Arc<dyn Store>,
    pub(super) older: Vec<OldVolume>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) streams: Streams,
    pub(super) integrator: Integrator,
    pub(super) published: PublishedCheckpoint,
}

impl Run {
    /// Ready for threads. `backlog` follows what is published, and is durable in the log already.
    pub(super) fn ready(self, log: Box<dyn Log>, backlog: Vec<Vec<Written>>, lock: Option<LockGuard>) -> Opened {
        let Run { root, store, older, clock, streams, integrator, published } = self;
        let positions: HashMap<StreamId, Position> =
            streams.ids().filter_map(|id| Some((id.clone(), streams.position(id)?))).collect();
        let cosigned = Cosigned::read(&*store, integrator.origin(), published.size);
        let mut state = State::new(published, positions);
        state.begin_with(backlog);
        let shared = Shared {
            store,
            root,
            older: Mutex::new(older),
            volume: streams.volume(),
            origin: integrator.origin().to_owned(),
            clock,
            streams: Mutex::new(streams),
            queue: Mutex::new(Queue::default()),
            queued: Condvar::new(),
            state: Mutex::new(state),
            grown: Condvar::new(),
            hurry: Condvar::new(),
            published: Condvar::new(),
            walking: Mutex::new(()),
            cosigned,
            kept: Mutex::new(None),
            handed_over: Mutex::default(),
            succession: Mutex::default(),
            succeeded: Condvar::new(),
        };
        Opened { shared, committer: Committer { log }, integrator, lock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_at_its_limit_waits_and_one_past_it_is_published_first() {
        let part = |len: usize| vec![(vec![0; len].into(), Digest::ZERO)];
        let parts = VecDeque::from([part(3), part(5), part(7)]);
        assert_eq!([16, 15, 14, 12, 11, 7, 6, 0].map(|max| beyond(&parts, max)), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(beyond(&VecDeque::new(), 0), 0);
    }
}
