//! A node's threads: one sends records, one signs heads, one follows releases.
//!
//! [`Agent::start`] does without the network: it opens the spool, records what the node can do, and activates the last good
//! release. Everything that needs the control plane is tried by the threads, for as long as it takes.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::tile::TileId;
use cairn_ledger::volume::parse_origin;
use cairn_ledger::witness::tls::Authorities;
use cairn_release::Trust;
use cairn_release::check::TrustError;
use cairn_schemas::data::NodeCapabilities;
use cairn_schemas::digest::Digest;
use cairn_schemas::record::Draft;
use cairn_schemas::time::Clock;
use cairn_schemas::token::TokenKey;

use crate::active::{Active, ActiveRelease};
use crate::backoff::Backoff;
use crate::checkpoint::{CheckpointRefused, Checkpoints, Latest, Pinned};
use crate::client::Client;
use crate::compare::{Comparer, Finding, Peers};
use crate::durable::{self, DiskError};
use crate::identity::Identity;
use crate::random::Random;
use crate::releases::{Applied, ReleaseError, Releases};
use crate::spool::{Spool, SpoolError, SpoolLimits};
use crate::stop::Stop;
use crate::uplink::Uplink;

/// How long a long poll for the desired release waits.
pub const POLL_WAIT: Duration = Duration::from_secs(30);
/// How often the spool is asked whether a head is due.
pub const TICK: Duration = Duration::from_millis(250);
/// How long a shutdown waits for the last records to be sent. They stay in the spool otherwise.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);
/// How often what the control plane shows is compared with what witnesses have seen, about: half of it is drawn, so that a fleet does not
/// ask in one wave.
pub const COMPARE_INTERVAL: Duration = Duration::from_secs(60);
/// Two checkpoints that cannot both be true, one after the other, as a witness showed it.
const CONFLICT_FILE: &str = "checkpoint.witness-conflict";
/// The pause after a poll that brought nothing new, so that a control plane that does not hold polls is not hammered.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// What an agent is started with.
pub struct AgentConfig {
    /// The node's folder; the one it joined with.
    pub folder: PathBuf,
    /// The control plane, such as `http://127.0.0.1:8700`.
    pub url: String,
    /// By whom the control plane's and the witnesses' certificates may be, beside the machine's authorities.
    pub authorities: Authorities,
    /// What this node can do; recorded at each start.
    pub capabilities: NodeCapabilities,
    /// How large its spool may grow.
    pub limits: SpoolLimits,
    /// How long a long poll waits: [`POLL_WAIT`].
    pub poll_wait: Duration,
    /// How often it compares with witnesses: [`COMPARE_INTERVAL`].
    pub compare_interval: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where stream ids and jitter come from.
    pub random: Arc<dyn Random>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// What it holds.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What it pinned.
    #[error("what this node pinned when it joined cannot be used: {0}")]
    Trust(#[from] TrustError),
    /// No thread.
    #[error("the system gives no thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// A running node. Clones are handles on the same one.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    spool: Spool,
    active: Active,
    stop: Stop,
    /// Receives once for each thread that has ended.
    ended: Mutex<Receiver<()>>,
}

/// How many threads a shutdown waits for: uplink and heads. The one that follows releases may sit in a long poll; it does
/// nothing more once it comes back.
const AWAITED: usize = 2;
/// Most volumes that are gone through in one look: a ledger gets one a year.
const VOLUMES_AT_ONCE_MAX: usize = 64;

impl Agent {
    /// Starts a node that has joined. Does not need the control plane.
    ///
    /// # Errors
    /// The node's folder cannot be used.
    pub fn start(identity: Identity, config: AgentConfig) -> Result<Agent, AgentError> {
        let AgentConfig { folder, url, authorities, capabilities, limits, poll_wait, compare_interval, clock, random } =
            config;
        let pins = identity.pins();
        let trust = Trust::from_pins(pins)?;
        let origin = trust.ledger_key.name().to_owned();
        let ledger = Pinned {
            name: pins.ledger_name.clone(),
            key: trust.ledger_key.clone(),
            root: pins.root_key.parse().map_err(TrustError::LedgerKey)?,
            endorsed: trust.endorsed.clone(),
        };
        let comparer = trust.witnesses.as_ref().map(|policy| Comparer::new(&origin, trust.ledger_key.clone(), policy));
        let checkpoints = Checkpoints::open(&folder, ledger)?;
        let latest = checkpoints.latest();
        let spool = Spool::open(
            &folder.join("spool"),
            identity.node(),
            identity.signing_key(),
            limits,
            Arc::clone(&clock),
            Arc::clone(&random),
        )?;
        if let Some(seen) = checkpoints.newest() {
            spool.saw_checkpoint(seen);
        }
        let active = Active::default();
        let mut releases = Releases::open(&folder, trust.clone(), active.clone(), spool.clone(), clock)?;
        // A full spool must not keep a node from starting: it would never drain.
        if let Err(error) = spool.record(Draft::new(&capabilities).subject(identity.node().as_str())) {
            tracing::error!(%error, "what this node can do could not be recorded");
        }
        releases.start()?;

        let stop = Stop::default();
        let client = identity.client(&url, &authorities);
        let (end, ended) = channel();
        let uplink = Uplink::new(client.clone(), spool.clone());
        spawn("cairn-uplink", &end, {
            let (stop, random) = (stop.clone(), Arc::clone(&random));
            move || uplink.run(&stop, &random)
        })?;
        spawn("cairn-heads", &end, {
            let (stop, spool) = (stop.clone(), spool.clone());
            move || sign_heads(&spool, &stop)
        })?;
        if let Some(comparer) = comparer.filter(Comparer::has_peers) {
            let (stop, spool, random) = (stop.clone(), spool.clone(), Arc::clone(&random));
            let comparing = Comparing { comparer, trust, client: client.clone(), latest, spool, folder, random };
            spawn("cairn-compare", &channel().0, move || comparing.run(compare_interval, &stop))?;
        }
        let follower = Follower { client, spool: spool.clone(), checkpoints, releases, poll_wait, random };
        spawn("cairn-releases", &channel().0, {
            let stop = stop.clone();
            move || follower.run(&stop)
        })?;
        let inner = Inner { identity, spool, active, stop, ended: Mutex::new(ended) };
        Ok(Agent { inner: Arc::new(inner) })
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Where its records go.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.inner.spool
    }

    /// The key for personal values.
    #[must_use]
    pub fn token_key(&self) -> &TokenKey {
        self.inner.identity.token_key()
    }

    /// What it runs; `None` until it has activated a release.
    #[must_use]
    pub fn active(&self) -> Option<Arc<ActiveRelease>> {
        self.inner.active.load()
    }

    /// What it runs, to watch.
    #[must_use]
    pub fn watch(&self) -> Active {
        self.inner.active.clone()
    }

    /// Ends it cleanly: a last head, the last records sent if the control plane answers soon. Nothing can be recorded after it.
    /// Repeats do nothing.
    ///
    /// # Errors
    /// The last head could not be written.
    pub fn shutdown(&self) -> Result<(), SpoolError> {
        // In this order: the uplink sends once more after it is told to stop, and the last head must be there by then.
        let closed = self.inner.spool.close();
        self.inner.stop.set();
        self.inner.active.wake();
        let ended = self.inner.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if (0..AWAITED).all(|_| ended.recv_timeout(SHUTDOWN_WAIT).is_ok()) {
            self.inner.spool.release();
        }
        closed
    }
}

fn spawn(name: &str, end: &Sender<()>, work: impl FnOnce() + Send + 'static) -> Result<(), AgentError> {
    let end = end.clone();
    let run = move || {
        work();
        // Nobody may be waiting.
        let _ = end.send(());
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(AgentError::Thread)
}

fn sign_heads(spool: &Spool, stop: &Stop) {
    let mut failing = false;
    while !stop.wait(TICK) {
        match spool.tick() {
            Ok(()) => failing = false,
            Err(SpoolError::Closed) => return,
            Err(error) if failing => tracing::debug!(%error, "a stream head still waits"),
            Err(error) => {
                failing = true;
                tracing::error!(%error, "a stream head waits");
            }
        }
    }
}

/// Compares, now and then, what the control plane shows with what witnesses have seen.
struct Comparing {
    comparer: Comparer,
    trust: Trust,
    client: Client,
    latest: Latest,
    spool: Spool,
    folder: PathBuf,
    random: Arc<dyn Random>,
}

impl Comparing {
    fn run(mut self, interval: Duration, stop: &Stop) {
        loop {
            let mut byte = [0u8; 1];
            // Without randomness nodes that start together ask together.
            let _ = self.random.fill(&mut byte);
            if stop.wait(interval / 2 + interval / 2 * u32::from(byte[0]) / 255) {
                return;
            }
            let Some(seen) = self.latest.note() else { continue };
            let Some(volume) = self.follow_volume(&seen) else { continue };
            let peers = VolumePeers { client: &self.client, volume };
            for finding in self.comparer.round(&seen, &peers, &*self.random) {
                self.tell(finding);
            }
        }
    }

    /// Witnesses know each volume as a log of its own: the newest note says which one to compare, and gives its number.
    fn follow_volume(&mut self, seen: &[u8]) -> Option<u64> {
        let (checkpoint, note) = Checkpoint::parse(seen).ok()?;
        let (_, volume) = parse_origin(&checkpoint.origin)?;
        let keys = self.trust.endorsed.keys_of(&self.trust.ledger_name, &self.trust.ledger_key, &checkpoint.origin);
        let key = keys.into_iter().find(|key| note.verify(std::slice::from_ref(key)).is_ok())?;
        if !self.comparer.is_of(&key) {
            self.comparer = Comparer::new(&checkpoint.origin, key, self.trust.witnesses.as_ref()?);
        }
        Some(volume)
    }

    fn tell(&self, finding: Finding) {
        match finding {
            Finding::Agrees { from, size } => tracing::debug!(from, size = size.0, "one history"),
            Finding::Unknown { from, reason } => tracing::debug!(from, reason, "nothing to compare with"),
            Finding::Conflict(conflict) => {
                tracing::error!(from = conflict.from, reason = conflict.reason, "the ledger shows two histories");
                // The record goes to the very control plane that lies: what proves it stays here too.
                let evidence = format!("{}\n{}", conflict.seen, conflict.other);
                if let Err(error) = durable::replace(&self.folder.join(CONFLICT_FILE), evidence.as_bytes()) {
                    tracing::error!(%error, "what proves it could not be kept");
                }
                if let Err(error) = self.spool.record(Draft::new(&*conflict)) {
                    tracing::error!(%error, "that could not be recorded");
                }
            }
        }
    }
}

/// Witnesses, and the tiles of one volume.
struct VolumePeers<'a> {
    client: &'a Client,
    volume: u64,
}

impl Peers for VolumePeers<'_> {
    fn witness_checkpoint(&self, url: &str) -> Result<Option<Vec<u8>>, String> {
        self.client.witness_checkpoint(url)
    }

    fn tile(&self, tile: TileId) -> Result<Vec<Digest>, String> {
        self.client.tile_of(self.volume, tile).map_err(|error| error.to_string())
    }
}

/// Follows what the control plane wants this node to run.
struct Follower {
    client: Client,
    spool: Spool,
    checkpoints: Checkpoints,
    releases: Releases,
    poll_wait: Duration,
    random: Arc<dyn Random>,
}

impl Follower {
    fn run(mut self, stop: &Stop) {
        let mut backoff = Backoff::default();
        while !stop.is_set() {
            let round = self.round(stop);
            let wait = match round {
                Ok(Applied::Activated) => {
                    backoff.reset();
                    Duration::ZERO
                }
                Ok(Applied::Nothing) => {
                    backoff.reset();
                    IDLE_PAUSE
                }
                // The control plane learns of the refusal by its record; until then it says the same again.
                Ok(Applied::Refused) => backoff.next(&*self.random),
                Err(error) => {
                    // A node that is being ended has nothing to follow, and nobody to tell.
                    if stop.is_set() {
                        return;
                    }
                    let wait = backoff.next(&*self.random);
                    if backoff.failures() == 1 {
                        tracing::warn!(%error, "releases cannot be followed; the node keeps what it has");
                    } else {
                        tracing::debug!(%error, ?wait, "releases still cannot be followed");
                    }
                    wait
                }
            };
            if stop.wait(wait) {
                return;
            }
        }
    }

    fn round(&mut self, stop: &Stop) -> Result<Applied, ReleaseError> {
        let desired = self.client.desired(self.releases.current(), self.poll_wait)?;
        if stop.is_set() {
            return Ok(Applied::Nothing);
        }
        self.look_at_checkpoint();
        self.releases.apply(&desired, &self.client)
    }

    fn look_at_checkpoint(&mut self) {
        // The volume that was seen last, and the one behind it where there is one by now.
        for volume in (self.checkpoints.volume()..).take(VOLUMES_AT_ONCE_MAX) {
            match self.client.checkpoint_of(volume) {
                Ok(Some(bytes)) => self.take_checkpoint(&bytes),
                // The oldest volumes may be gone: one behind them is looked for once.
                Ok(None) if volume == self.checkpoints.volume() => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "no checkpoint");
                    return;
                }
            }
        }
    }

    fn take_checkpoint(&mut self, bytes: &[u8]) {
        let mut offered = self.checkpoints.offer(bytes);
        if matches!(offered, Err(CheckpointRefused::NotTheLedgers(_))) {
            // Perhaps the ledger has another key since, and the root said so.
            let learnt = match self.client.endorsements() {
                Ok(notes) => self.checkpoints.learn(&notes).unwrap_or_else(|error| {
                    tracing::error!(%error, "what the root said could not be kept");
                    false
                }),
                Err(_) => false,
            };
            if learnt {
                offered = self.checkpoints.offer(bytes);
            }
        }
        match offered {
            Ok(()) => {
                if let Some(seen) = self.checkpoints.newest() {
                    self.spool.saw_checkpoint(seen);
                }
            }
            Err(error @ (CheckpointRefused::Smaller { .. } | CheckpointRefused::Earlier { .. })) => {
                tracing::warn!(%error, "the ledger went back")
            }
            Err(error) => tracing::error!(%error, "the ledger's checkpoint is not believed"),
        }
    }
}

#[cfg(test)]
mod tests;
