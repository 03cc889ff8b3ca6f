//! A bucket as the writer's store.
//!
//! The writer's threads are plain threads and the SDK is asynchronous: calls run on a small runtime of this module's own, and the
//! threads wait for them. Whoever calls may itself be within another runtime.
//!
//! **Who writes** is decided by compare-and-swap on `checkpoint` alone ([`super::session`]). `writer`, an object that the living writer
//! replaces every three seconds, is courtesy: it lets a second writer say "locked" at once and not push out the first, and its silence of
//! ten seconds is what "dead" means to somebody who wants to take over. Clocks are not compared.
//!
//! **Versions.** Where the bucket keeps versions, the version of each object that never changes is written down under `versions/`, before
//! the checkpoint that needs it: a delete marker makes room for another object under the same key, and only the version tells them apart.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::RecordIndex;
use cairn_schemas::time::Clock;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};

use super::client::{Client, ConnectError, Retention, Version};
use super::epoch::{Epoch, TOKEN_LEN};
use super::group;
use super::objects::{Condition, ObjectError, ObjectStore as _, Removal};
use super::place::Place;
use super::session::{STAGING_FOLDER, Session, SessionError, put_object};
use crate::dir::CHECKPOINT_FILE;
use crate::disk::LockGuard;
use crate::durable::NewFile;
use crate::random::{Random as _, SystemRandom};
use crate::store::{Durable, Groundwork, Log, ReleaseFiles, Replaying, Store, StoreError};
use crate::streams::Written;
use crate::volume;
use crate::wal::{Found, WAL_FOLDER, WalError};

/// Groups that are on their way at once. Each is a request that costs money and work: one follows another that is on its way only when
/// much waits (`writer/threads.rs`).
pub(crate) const GROUPS_IN_FLIGHT_MAX: usize = 4;
/// Files that are on their way at once.
const FILES_IN_FLIGHT_MAX: usize = 16;
/// Many files begin one after another within this time, and not all at once: groups are on their way beside them, and somebody waits for
/// these.
const FILES_SPREAD: Duration = Duration::from_millis(600);
/// The object that the living writer replaces.
pub(crate) const WRITER_FILE: &str = "writer";
/// How often it does.
const BEAT_INTERVAL: Duration = Duration::from_secs(3);
/// Under load a checkpoint is published this often: it costs ten requests beside those for full tiles.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How often somebody who wants to take over looks at it, and how often in vain before the writer counts as dead.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOKS: u32 = 10;
/// The folder of versions.
pub(crate) const VERSIONS_FOLDER: &str = "versions";
/// Removals that wait to be sent.
const REMOVALS_WAITING_MAX: usize = 4_096;

fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let mut made = tokio::runtime::Builder::new_multi_thread();
    let made = made.worker_threads(2).thread_name("ledger-s3").enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| made))
}

/// Runs on the runtime, and waits on this thread.
pub(super) fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    begin(future).recv().expect("invariant: the runtime outlives every call, and a call that panics is a bug")
}

fn begin<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Receiver<T> {
    let (done, receiver) = sync_channel(1);
    RUNNING.with(|runtime| runtime.spawn(async move { drop(done.send(future.await)) }));
    receiver
}

thread_local! {
    static RUNNING: &'static Runtime = runtime().expect("invariant: a bucket was opened, and the runtime with it");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn of_session(error: SessionError) -> io::Error {
    io::Error::other(error)
}

pub(super) fn of_objects(error: ObjectError) -> io::Error {
    io::Error::other(error)
}

fn log_error(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> WalError {
    let path = path.to_owned();
    move |source| WalError::Io { action, path, source }
}

/// Whether what lies at a path never changes once it is there, and is kept under Object Lock: full tiles, kept checkpoints, releases,
/// blobs, versions. Partial tiles are removed when the full one is there, `checkpoint` is replaced, staging is forgotten.
pub(crate) fn is_immutable(path: &str) -> bool {
    let mut rest = path;
    if let Some(below) = path.strip_prefix("volume/") {
        rest = below.split_once('/').map_or("", |(_, rest)| rest);
    }
    match rest.split_once('/') {
        Some(("tile", tile)) => !tile.contains(".p/"),
        Some((folder, _)) => ["checkpoints", "releases", "blobs", VERSIONS_FOLDER].contains(&folder),
        None => false,
    }
}

/// What a version is written down as.
#[derive(serde::Serialize)]
struct Recorded {
    key: String,
    version: String,
    size: usize,
    sha256: String,
}

/// Partial tiles that this writer wrote.
#[derive(Default)]
struct Partials {
    /// The levels of which one was written.
    levels: BTreeSet<String>,
    /// By folder: whether this writer wrote all that are in it, and which.
    folders: HashMap<String, (bool, Vec<Removal>)>,
}

/// How far a volume's session is.
enum Stage {
    /// Only read.
    Reading,
    /// Taken over, and its log walked to the end: nothing was staged behind the walk, and nothing can be.
    Walked(Arc<Session<Client>>),
    /// Taken over, and its log being walked.
    Walking(Arc<Session<Client>>),
    /// Its log is written.
    Writing(Arc<Session<Client>>),
}

/// A volume's objects.
#[derive(Clone)]
pub(crate) struct Bucket {
    client: Client,
    token: [u8; TOKEN_LEN],
    stage: Arc<Mutex<Stage>>,
    recorded: Arc<Mutex<Vec<Recorded>>>,
    partials: Arc<Mutex<Partials>>,
    batches: Arc<Mutex<u64>>,
    /// Where removals go that nobody waits for.
    removals: mpsc::Sender<Removal>,
}

impl Bucket {
    /// Looks whether the bucket can be used.
    pub(crate) fn connect(place: &Place, clock: Arc<dyn Clock>) -> Result<Bucket, ConnectError> {
        let unusable =
            |error: io::Error| ConnectError::Bucket { bucket: place.bucket.clone(), reason: error.to_string() };
        runtime().map_err(unusable)?;
        let wanted = place.clone();
        let client = wait(async move { Client::connect(&wanted, clock).await })?;
        let mut token = [0; TOKEN_LEN];
        SystemRandom.fill(&mut token).map_err(unusable)?;
        if place.retention.is_none() {
            tracing::warn!(place = %place, "objects are not locked: `?retention=<days>d` keeps them from being removed");
        }
        Ok(Bucket::new(client, token))
    }

    fn new(client: Client, token: [u8; TOKEN_LEN]) -> Bucket {
        let (removals, waiting) = mpsc::channel(REMOVALS_WAITING_MAX);
        let remover = client.clone();
        drop(begin(async move { remove_all(&remover, waiting).await }));
        Bucket {
            client,
            token,
            stage: Arc::new(Mutex::new(Stage::Reading)),
            recorded: Arc::default(),
            partials: Arc::default(),
            batches: Arc::default(),
            removals,
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    fn session(&self) -> Option<Arc<Session<Client>>> {
        match &*lock(&self.stage) {
            Stage::Reading => None,
            Stage::Walked(session) | Stage::Walking(session) | Stage::Writing(session) => Some(session.clone()),
        }
    }

    /// The session for writing files. Without one another process may be writing, and nothing is written.
    fn writing(&self) -> io::Result<Arc<Session<Client>>> {
        self.session().ok_or_else(|| io::Error::other("this process is not the ledger's writer"))
    }

    /// Becomes the volume's writer. `None`: there is no checkpoint.
    fn take_over(&self, empty: Option<Vec<u8>>) -> Result<Option<Arc<Session<Client>>>, SessionError> {
        let (client, token) = (self.client.clone(), self.token);
        match wait(async move { Session::take_over(client, token, empty.as_deref()).await }) {
            Ok(session) => {
                let session = Arc::new(session);
                *lock(&self.stage) = Stage::Walking(session.clone());
                Ok(Some(session))
            }
            Err(SessionError::Absent) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes down the versions of what was written since the last time.
    fn flush_versions(&self) -> Result<(), StoreError> {
        let recorded = std::mem::take(&mut *lock(&self.recorded));
        if recorded.is_empty() {
            return Ok(());
        }
        let session = self.writing()?;
        let batch = {
            let mut batches = lock(&self.batches);
            *batches += 1;
            *batches
        };
        let mut lines = String::new();
        for line in recorded {
            lines.push_str(&serde_json::to_string(&line).map_err(io::Error::from)?);
            lines.push('\n');
        }
        let key = format!("{VERSIONS_FOLDER}/{:020}/{batch:020}.jsonl", session.epoch());
        wait(async move { session.write(&key, lines.as_bytes(), true).await.map(drop) }).map_err(written)
    }

    /// Remembers a partial tile for its removal.
    fn remember_partial(&self, key: String, version: Option<String>) {
        let Some((folder, _)) = key.rsplit_once('/') else { return };
        let mut partials = lock(&self.partials);
        let level: String = key.split('/').take(2).collect::<Vec<_>>().join("/");
        // Another writer may have begun the first of each level.
        let begun_here = !partials.levels.insert(level);
        let folder = partials.folders.entry(folder.to_owned()).or_insert_with(|| (begun_here, Vec::new()));
        folder.1.push(Removal { key, version });
    }

    /// Waits for the other writer to fall silent.
    fn wait_for_silence(&self) -> io::Result<()> {
        let client = self.client.clone();
        wait(async move {
            let Some(before) = client.get(WRITER_FILE).await.map_err(of_objects)? else { return Ok(()) };
            for _ in 0..LOOKS {
                tokio::time::sleep(LOOK_INTERVAL).await;
                match client.get(WRITER_FILE).await.map_err(of_objects)? {
                    None => return Ok(()),
                    Some(now) if now != before => return Err(io::ErrorKind::WouldBlock.into()),
                    Some(_) => {}
                }
            }
            Ok(())
        })
    }
}

fn written(error: SessionError) -> StoreError {
    match error {
        SessionError::Other { key } => StoreError::Conflict { path: key },
        error => StoreError::Io(of_session(error)),
    }
}

/// Sends removals as they come, as many in one request as wait.
async fn remove_all(client: &Client, mut waiting: mpsc::Receiver<Removal>) {
    let mut told = false;
    let mut part = Vec::new();
    while waiting.recv_many(&mut part, 1_000).await > 0 {
        if let Err(error) = client.delete(&part).await
            && !told
        {
            told = true;
            let reason = error.to_string();
            tracing::warn!(
                reason,
                "objects that are no longer needed could not be removed; they cost room and nothing else"
            );
        }
        part.clear();
    }
}

/// While it lives, `writer` says so: as long as nobody else says it.
struct Beat {
    client: Client,
    task: tokio::task::JoinHandle<()>,
    /// How everything begins that this process says.
    name: Vec<u8>,
}

impl Beat {
    fn begin(client: Client, token: [u8; TOKEN_LEN]) -> io::Result<Beat> {
        let name = format!("{{\"writer\":\"{}\",", STANDARD.encode(token)).into_bytes();
        let (ours, first) = (client.clone(), beat_text(&name, 0));
        // Whatever is there: its writer was silent.
        let said = wait(async move { ours.overwrite(WRITER_FILE, &first).await }).map_err(of_objects)?;
        let task = runtime()?.spawn(beat(client.clone(), name.clone(), said));
        Ok(Beat { client, task, name })
    }
}

fn beat_text(name: &[u8], number: u64) -> Vec<u8> {
    [name, format!("\"beat\":{number}}}\n").as_bytes()].concat()
}

/// Says it as long as what is there was said here. `said`: the tag of what was.
async fn beat(client: Client, name: Vec<u8>, mut said: String) {
    for number in 1.. {
        tokio::time::sleep(BEAT_INTERVAL).await;
        let bytes = beat_text(&name, number);
        match client.put(WRITER_FILE, &bytes, &Condition::Is(said.clone()), false).await {
            Ok(stored) => said = stored.etag,
            // Somebody took over, or this is what was said here while the answer was lost.
            Err(ObjectError::Precondition) => match client.get(WRITER_FILE).await {
                Ok(Some(object)) if object.bytes.starts_with(&name) => said = object.etag,
                Ok(_) => return,
                Err(_) => {}
            },
            // One that is lost is made up for by the next.
            Err(_) => {}
        }
        if client.is_versioned() {
            // Old versions are of no use to anybody.
            let _ = remove_old(&client, WRITER_FILE).await;
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.task.abort();
        let (client, name) = (self.client.clone(), std::mem::take(&mut self.name));
        // Should it stay, the next writer waits for ten seconds. Another's is not this one's to remove.
        wait(async move {
            if let Ok(Some(object)) = client.get(WRITER_FILE).await
                && object.bytes.starts_with(&name)
            {
                let _ = client.delete(&[Removal { key: WRITER_FILE.to_owned(), version: None }]).await;
            }
        });
    }
}

/// Removes all versions but the newest of an object that is replaced all the time.
async fn remove_old(client: &Client, key: &str) -> Result<(), ObjectError> {
    let old = client.versions(key).await?.into_iter().filter(|version| version.key == key && !version.is_latest);
    let old: Vec<Removal> = old.map(|version| Removal { key: version.key, version: Some(version.version) }).collect();
    if old.is_empty() { Ok(()) } else { client.delete(&old).await }
}

/// The checkpoint of a volume without records: no reader takes it for one, since nobody signed it, and it names no origin but its digest.
fn empty_note(origin: &Digest) -> Vec<u8> {
    format!("sha256:{origin}\n0\n{}\n\n", STANDARD.encode(Digest::sha256(b"").as_bytes())).into_bytes()
}

impl Store for Bucket {
    fn lock(&self, _create: bool) -> io::Result<LockGuard> {
        self.wait_for_silence()?;
        Ok(Box::new(Beat::begin(self.client.clone(), self.token)?))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let (client, key) = (self.client.clone(), path.to_owned());
        let found = wait(async move { client.get(&key).await }).map_err(of_objects)?;
        let bytes = found.ok_or(io::ErrorKind::NotFound)?.bytes;
        if path != CHECKPOINT_FILE && !path.ends_with("/checkpoint") {
            return Ok(bytes);
        }
        // Who writes is nobody's business above; a volume without records is none yet.
        let (note, _, checkpoint) = Epoch::off(&bytes).map_err(io::Error::other)?;
        if checkpoint.size.0 == 0 { Err(io::ErrorKind::NotFound.into()) } else { Ok(note) }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let (client, listed) =
            (self.client.clone(), if folder == WAL_FOLDER { STAGING_FOLDER } else { folder }.to_owned());
        let mut names = wait(async move { client.names(&listed).await }).map_err(of_objects)?;
        if folder.is_empty() {
            // What is staged is the log.
            names.iter_mut().filter(|name| *name == STAGING_FOLDER).for_each(|name| WAL_FOLDER.clone_into(name));
            if names.iter().any(|name| name == CHECKPOINT_FILE) && self.read(CHECKPOINT_FILE).is_err() {
                names.retain(|name| name != CHECKPOINT_FILE);
            }
        }
        Ok(names)
    }

    fn write(&self, files: &[NewFile]) -> Result<(), StoreError> {
        let session = self.writing()?;
        let permits = Arc::new(Semaphore::new(FILES_IN_FLIGHT_MAX));
        let many = files.len() > FILES_IN_FLIGHT_MAX;
        let apart = if many { FILES_SPREAD.div_f64(files.len() as f64) } else { Duration::ZERO };
        let begun: Vec<_> = (0..)
            .zip(files)
            .map(|(number, file)| {
                let (session, permits) = (session.clone(), permits.clone());
                let (key, bytes) = (file.path.clone(), file.bytes.clone());
                begin(async move {
                    if many {
                        tokio::time::sleep(apart * number).await;
                    }
                    let _permit = permits.acquire().await;
                    let lock = is_immutable(&key);
                    let version = session.write(&key, &bytes, lock).await?;
                    let sha256 = if lock { Digest::sha256(&bytes).to_string() } else { String::new() };
                    Ok((key, version, bytes.len(), sha256))
                })
            })
            .collect();
        for done in begun {
            let done = done.recv().map_err(|_| io::Error::other("a call to the bucket panicked"))?;
            let (key, version, size, sha256) = done.map_err(written)?;
            if !is_immutable(&key) {
                self.remember_partial(key, version);
            } else if let Some(version) = version {
                lock(&self.recorded).push(Recorded { key, version, size, sha256 });
            }
        }
        Ok(())
    }

    /// Needs no session, as release files need none, and no line of `versions/`: the record has its digest.
    fn write_named(&self, file: &NewFile) -> Result<(), StoreError> {
        let (client, key, bytes) = (self.client.clone(), file.path.clone(), file.bytes.clone());
        let (_, other) = wait(async move { put_object(&client, &key, &bytes, true).await }).map_err(written)?;
        if other.is_some() { Err(StoreError::Conflict { path: file.path.clone() }) } else { Ok(()) }
    }

    fn replace(&self, file: &NewFile) -> Result<(), StoreError> {
        let session = self.writing()?;
        if file.path == CHECKPOINT_FILE {
            self.flush_versions()?;
        }
        let (client, key, bytes) = (self.client.clone(), file.path.clone(), file.bytes.clone());
        let removals = self.removals.clone();
        wait(async move {
            if key == CHECKPOINT_FILE {
                if let Some(replaced) = session.publish(&bytes).await? {
                    // Where many wait already, this one stays.
                    let _ = removals.try_send(replaced);
                }
                return Ok(());
            }
            session.replace(&key, &bytes).await?;
            if client.is_versioned() {
                drop(begin(async move { remove_old(&client, &key).await }));
            }
            Ok(())
        })
        .map_err(written)
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        // Nobody waits for it: a partial tile beside its full one says nothing wrong.
        let removals = self.removals.clone();
        let known = lock(&self.partials).folders.remove(folder);
        match known {
            Some((true, objects)) => {
                drop(begin(async move {
                    for object in objects {
                        let _ = removals.send(object).await;
                    }
                }));
            }
            // Some may be there that another writer left.
            _ => {
                let (client, folder) = (self.client.clone(), format!("{folder}/"));
                drop(begin(async move {
                    for key in client.list(&folder).await.unwrap_or_default() {
                        let _ = removals.send(Removal { key, version: None }).await;
                    }
                }));
            }
        }
        Ok(())
    }

    fn publish_interval(&self) -> Duration {
        PUBLISH_INTERVAL
    }

    fn release_files(&self) -> Option<&dyn ReleaseFiles> {
        Some(self)
    }

    fn replay(&self, _: Digest, next: RecordIndex) -> Result<Box<dyn Replaying + '_>, WalError> {
        let fail = |error| log_error("take over", CHECKPOINT_FILE)(of_session(error));
        let session = self.take_over(None).map_err(fail)?;
        if let Some(session) = &session {
            let (_, size) = session.checkpoint();
            if size != next.0 {
                let source = io::Error::other("another process wrote the ledger while it was opened; open it again");
                return Err(WalError::Io { action: "take over", path: CHECKPOINT_FILE.to_owned(), source });
            }
        }
        Ok(Box::new(Walk { bucket: self, session, next: next.0, begun: false }))
    }

    fn clear_log(&self) -> Result<(), WalError> {
        let Some(session) = self.session() else { return Ok(()) };
        self.flush_versions().map_err(|error| log_error("write", VERSIONS_FOLDER)(io::Error::other(error)))?;
        wait(async move { session.forget_covered().await })
            .map_err(|error| log_error("clear", STAGING_FOLDER)(of_session(error)))
    }

    fn start_log(&self, origin: Digest, next: RecordIndex) -> Result<Box<dyn Log>, WalError> {
        let fail = |error| log_error("begin", STAGING_FOLDER)(of_session(error));
        let walked = match &*lock(&self.stage) {
            Stage::Walked(session) => Some(session.clone()),
            _ => None,
        };
        let session = match walked {
            Some(session) => session,
            // A volume that is new, or was found empty. Somebody else may have begun it in the meantime.
            None => {
                let session = self.take_over(Some(empty_note(&origin))).map_err(fail)?;
                let session = session.ok_or_else(|| fail(SessionError::Absent))?;
                let walker = session.clone();
                let found = wait(async move { walker.first_group(next.0).await }).map_err(fail)?;
                if found.is_some() || session.checkpoint().1 != next.0 {
                    return Err(fail(SessionError::SteppedBack {
                        found: "somebody else began this volume".to_owned(),
                    }));
                }
                session
            }
        };
        let beginning = session.clone();
        wait(async move { beginning.begin_staging().await }).map_err(fail)?;
        *lock(&self.stage) = Stage::Writing(session.clone());
        Ok(Box::new(Staging { session, staged: Arc::default(), removals: self.removals.clone() }))
    }

    fn volume(&self, volume: u64, _make: bool) -> io::Result<Arc<dyn Store>> {
        Ok(Arc::new(Bucket::new(self.client.below(&volume::folder(volume)), self.token)))
    }

    fn remove_volume(&self, number: u64) -> io::Result<()> {
        let client = self.client.clone();
        let removal = |key: String| [Removal { key, version: None }];
        let mark = volume::dropped_mark(number);
        wait(async move {
            match client.put(&mark, b"", &Condition::Absent, false).await {
                // An earlier attempt's, or this one's behind an answer that was lost.
                Ok(_) | Err(ObjectError::Precondition) => {}
                Err(error) => return Err(of_objects(error)),
            }
            // What was locked last is unlocked last: the checkpoint that the volume ended with, and the line of its version. Where that may not be
            // removed yet, nothing is, and the volume counts again.
            let last = |keys: Vec<String>| {
                let number = |key: &String| key.rsplit('/').next().and_then(|name| name.parse::<u64>().ok());
                keys.into_iter().max_by_key(number)
            };
            let checkpoint = volume::path(number, CHECKPOINT_FILE);
            for folder in ["versions/", "checkpoints/"] {
                let keys = client.list(&volume::path(number, folder)).await.map_err(of_objects)?;
                let Some(key) = last(keys) else { continue };
                if let Err(error) = client.delete(&removal(key)).await {
                    if matches!(error, ObjectError::Refused(_))
                        && client.get(&checkpoint).await.map_err(of_objects)?.is_some()
                    {
                        client.delete(&removal(mark)).await.map_err(of_objects)?;
                    }
                    return Err(of_objects(error));
                }
            }
            let names = if number > 1 {
                vec![checkpoint, format!("{}/", volume::folder(number))]
            } else {
                [CHECKPOINT_FILE, "cosigned", "tile/", "checkpoints/", "staging/", "versions/"]
                    .map(str::to_owned)
                    .into()
            };
            for prefix in names {
                let keys = client.list(&prefix).await.map_err(of_objects)?;
                let keys = keys.into_iter().filter(|key| prefix.ends_with('/') || *key == prefix);
                let removals: Vec<Removal> = keys.map(|key| Removal { key, version: None }).collect();
                if !removals.is_empty() {
                    client.delete(&removals).await.map_err(of_objects)?;
                }
            }
            client.delete(&removal(mark)).await.map_err(of_objects)
        })
    }
}

/// What the writer before staged.
struct Walk<'a> {
    bucket: &'a Bucket,
    session: Option<Arc<Session<Client>>>,
    next: u64,
    begun: bool,
}

impl Replaying for Walk<'_> {
    fn next_part(&mut self) -> Result<Option<Vec<Found>>, WalError> {
        let Some(session) = self.session.clone() else { return Ok(None) };
        let (next, begun) = (self.next, std::mem::replace(&mut self.begun, true));
        let walker = session.clone();
        let found = wait(async move {
            if begun {
                Ok(walker.group_at(next).await?.map(|group| (next, group)))
            } else {
                walker.first_group(next).await
            }
        });
        let found = found.map_err(|error| log_error("read", STAGING_FOLDER)(of_session(error)))?;
        let Some((first, group)) = found else {
            *lock(&self.bucket.stage) = Stage::Walked(session);
            return Ok(None);
        };
        let path = || format!("{STAGING_FOLDER}/<epoch>/{first:020}");
        let records = group::unpack(&group, first).ok_or_else(|| WalError::Damaged {
            path: path(),
            offset: 0,
            index: RecordIndex(first),
        })?;
        self.next = first + records.len() as u64;
        let skip = usize::try_from(next - first).expect("invariant: groups are bounded");
        let found = |record: Vec<u8>| {
            let range = 0..record.len();
            Found::new(Arc::new(record), range)
        };
        Ok(Some(records.into_iter().skip(skip).map(found).collect()))
    }
}

/// A bucket for whoever only reads, all versions of it.
pub(crate) struct Reader {
    client: Client,
}

impl Reader {
    /// Looks whether the bucket can be used. Nothing is written, so nothing needs a lock or a time.
    pub(crate) fn connect(place: &Place) -> Result<Reader, ConnectError> {
        let unusable =
            |error: io::Error| ConnectError::Bucket { bucket: place.bucket.clone(), reason: error.to_string() };
        runtime().map_err(unusable)?;
        let wanted = Place { retention: None, ..place.clone() };
        let client = wait(async move { Client::connect(&wanted, Arc::new(NoTime)).await })?;
        Ok(Reader { client })
    }

    pub(crate) fn names(&self, folder: &str) -> Result<Vec<String>, ObjectError> {
        let (client, folder) = (self.client.clone(), folder.to_owned());
        wait(async move { client.names(&folder).await })
    }

    /// The names in a folder, and whether each is a folder.
    pub(crate) fn entries(&self, folder: &str) -> Result<Vec<(String, bool)>, ObjectError> {
        let (client, folder) = (self.client.clone(), folder.to_owned());
        wait(async move { client.entries(&folder).await })
    }

    /// Every object with its length.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64)>, ObjectError> {
        let client = self.client.clone();
        wait(async move { client.lengths().await })
    }

    /// The newest version; `None` where there is none, or a delete marker.
    pub(crate) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, ObjectError> {
        let (client, key) = (self.client.clone(), key.to_owned());
        wait(async move { Ok(client.get(&key).await?.map(|object| object.bytes)) })
    }

    pub(crate) fn versions(&self) -> Result<Vec<Version>, ObjectError> {
        let client = self.client.clone();
        wait(async move { client.versions("").await })
    }

    /// How these versions are locked, by key and version.
    pub(crate) fn retentions(
        &self,
        versions: Vec<(String, String)>,
    ) -> Result<HashMap<(String, String), Option<Retention>>, ObjectError> {
        let permits = Arc::new(Semaphore::new(FILES_IN_FLIGHT_MAX));
        let begun: Vec<_> = versions
            .into_iter()
            .map(|version| {
                let (client, permits) = (self.client.clone(), permits.clone());
                begin(async move {
                    let _permit = permits.acquire().await;
                    client.retention(&version.0, &version.1).await.map(|retention| (version, retention))
                })
            })
            .collect();
        let panicked = |_| ObjectError::Refused("a call to the bucket panicked".to_owned());
        begun.into_iter().map(|done| done.recv().map_err(panicked)?).collect()
    }
}

/// The clock of somebody who never says how long something is to be kept.
struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> cairn_schemas::time::Timestamp {
        cairn_schemas::time::Timestamp::from_nanos(0)
    }
}

/// Groups that were staged and are not forgotten: each with the index behind it.
type Staged = Arc<Mutex<VecDeque<(u64, Removal)>>>;

/// The log of a bucket.
struct Staging {
    session: Arc<Session<Client>>,
    staged: Staged,
    removals: mpsc::Sender<Removal>,
}

impl Log for Staging {
    fn in_flight_max(&self) -> usize {
        GROUPS_IN_FLIGHT_MAX
    }

    /// There is always room.
    fn reserve(&mut self, _: u64, _: RecordIndex, _: u64) -> Result<(), WalError> {
        Ok(())
    }

    /// Forgets what a checkpoint covers.
    fn groundwork(&self) -> Option<Groundwork> {
        let (staged, removals) = (self.staged.clone(), self.removals.clone());
        Some(Box::new(move |covered| {
            let mut staged = lock(&staged);
            while staged.front().is_some_and(|(end, _)| *end <= covered) {
                let Some((_, group)) = staged.pop_front() else { break };
                // Where too many wait already, it is left to whoever opens the ledger next.
                let _ = removals.try_send(group);
            }
        }))
    }

    fn append(&mut self, first: RecordIndex, records: &[Written]) -> Result<Option<Durable>, WalError> {
        let group = group::pack(first, records);
        let end = first.0 + records.len() as u64;
        let session = self.session.clone();
        let done = begin(async move { session.stage(first.0, &group).await });
        let staged = self.staged.clone();
        Ok(Some(Box::new(move || {
            let done = done.recv().map_err(|_| io::Error::other("a call to the bucket panicked"));
            let removal = done.and_then(|done| done.map_err(of_session));
            let removal = removal.map_err(log_error("stage", STAGING_FOLDER))?;
            lock(&staged).push_back((end, removal));
            Ok(())
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_changes_is_told_from_what_does() {
        for path in
            ["tile/0/000", "tile/entries/x001/234", "checkpoints/7", "volume/2/tile/1/000", "releases/1/content.tar"]
        {
            assert!(is_immutable(path), "{path}");
        }
        for path in ["tile/0/000.p/7", "checkpoint", "staging/1/2", "volume/2/checkpoint", "cosigned", "writer"] {
            assert!(!is_immutable(path), "{path}");
        }
    }

    #[test]
    fn the_limits_are_the_documents() {
        let document = include_str!("../../FORMAT.md");
        for (what, text, code) in [
            ("groups on their way at once", "4", GROUPS_IN_FLIGHT_MAX == 4),
            ("silence after which a writer counts as dead", "10 s", LOOK_INTERVAL * LOOKS == Duration::from_secs(10)),
            ("attempts at one object before the writer stops", "30", super::super::session::ATTEMPTS_MAX == 30),
            ("prefix", "512 bytes", super::super::place::PREFIX_LEN_MAX == 512),
            ("retention", "36,500 days", super::super::place::RETENTION_DAYS_MAX == 36_500),
        ] {
            assert!(code && document.contains(&format!("| {what} | {text} |")), "{what}");
        }
    }
}
