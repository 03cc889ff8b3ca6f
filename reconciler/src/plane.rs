//! The control plane, running: four or five threads around a ledger, and the HTTP in front of it.
//!
//! | thread | waits for | does |
//! |---|---|---|
//! | follower | a durable record | folds it into the state, tells the planner and whoever watches |
//! | planner | the follower, a new proof, a soak's end | [`rollout::plan`], records its actions, writes tags and ring refs |
//! | builder | the policy repo's tip, `POST /v1/git/notify` | [`Builder::look`] |
//! | stream | the clock | signs the control plane's heads, records `fleet.observed` |
//! | intake | the clock; only where somebody may send events | what is due in [`crate::intake`] without anybody sending |
//!
//! An error is told once, and the work is tried again: one bad commit, a repo that is away, a full disk stop nothing else. A thread
//! that panics sets [`ControlPlane::failed`], which `/healthz` shows.

mod builder;
mod planner;
mod stream;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use cairn_ledger::beside::beside;
use cairn_ledger::policy::{Policy, PolicyError};
use cairn_ledger::vault::VAULT_SUFFIX;
use cairn_ledger::volume::Place;
use cairn_ledger::witness::Cosigner;
use cairn_ledger::witness::cosigning::{Cosigning, INTERVAL, WitnessStatus};
use cairn_ledger::witness::http::{CALL_TIMEOUT, HttpTransport};
use cairn_ledger::witness::tls::Authorities;
use cairn_ledger::writer::{Address, Ledger, ReadError};
use cairn_release::signers::{SignerPolicy, SignersError};
use cairn_schemas::fleet::Fleet;
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::time::{Clock, Timestamp};
use cairn_schemas::types::RecordType;

use crate::api::{self, APPENDS_AT_ONCE_MAX, Api, Verification};
use crate::build::{BuildError, Builder, Memory, Proven, open_mirror};
use crate::configs::ConfigCache;
use crate::control::Control;
use crate::durable::DiskError;
use crate::intake::{self, Intake};
use crate::live::Live;
use crate::random::SystemRandom;
use crate::releases::Releases;
use crate::repo::RepoError;
use crate::setup::{Prepared, policy_source};
use crate::signal::Signal;
use crate::state::{State, is_folded};
use crate::step::{Step, one_line};

/// Records read at once while the state is rebuilt.
const READ_STEP: usize = 4_096;
/// How long the follower waits before it looks whether it should stop.
const FOLLOW_WAIT: Duration = Duration::from_millis(250);

/// How often it is looked what is due in the intake.
const INTAKE_INTERVAL: Duration = Duration::from_secs(1);

/// Who is told of steps. Called from several threads; must not block for long.
pub type Steps = Arc<dyn Fn(Step) + Send + Sync>;

/// Why the control plane could not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Read(#[from] ReadError),
    /// The policy repo or its mirror cannot be used.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The signers in `fleet.yaml` cannot be read.
    #[error("fleet.yaml: signers: {0}")]
    Signers(#[from] SignersError),
    /// The witness policy in `fleet.yaml` cannot be read.
    #[error("fleet.yaml: witnesses: {0}")]
    Witnesses(#[from] PolicyError),
    /// What a crash left of a release cannot be taken up.
    #[error("a release cannot be taken up")]
    Releases(#[from] BuildError),
    /// What intake rules know cannot be read or written.
    #[error(transparent)]
    Intake(#[from] DiskError),
    /// The place of the vault cannot be told.
    #[error("the vault beside the ledger: {0}")]
    Vault(#[source] std::io::Error),
    /// The system starts no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) live: Arc<Live>,
    pub(crate) ledger: Ledger,
    pub(crate) control: Arc<Control>,
    pub(crate) configs: Arc<ConfigCache>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) proven: Arc<Proven>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fleet: Fleet,
    pub(crate) policies: PathBuf,
    pub(crate) steps: Steps,
    /// Builds and rollouts wait for this.
    pub(crate) begun: AtomicBool,
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) failed: Arc<AtomicBool>,
    /// The follower may end too.
    unfollow: AtomicBool,
    /// Wakes the planner.
    pub(crate) plan: Signal,
    /// Wakes the builder.
    pub(crate) look: Arc<Signal>,
    /// Wakes the stream's thread.
    pub(crate) tick: Signal,
    /// Wakes the intake's thread.
    tend: Signal,
    promoted: Mutex<Option<ReleaseRef>>,
    promotion: Condvar,
}

impl Shared {
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    pub(crate) fn step(&self, step: Step) {
        (self.steps)(step);
    }

    /// Notes a promotion whose tag is written, for [`ControlPlane::wait_promoted`].
    pub(crate) fn note_promoted(&self, release: ReleaseRef) {
        *self.promoted.lock().unwrap_or_else(PoisonError::into_inner) = Some(release);
        self.promotion.notify_all();
    }
}

/// A running control plane. [`ControlPlane::stop`] ends it well; dropping it ends its threads all the same.
pub struct ControlPlane {
    shared: Arc<Shared>,
    api: Arc<Api>,
    /// Has checkpoints cosigned, where the fleet demands witnesses.
    cosigning: Option<Cosigning>,
    /// Ended first: they wait for what the follower folds.
    workers: Vec<JoinHandle<()>>,
    follower: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlPlane({})", self.shared.fleet.name)
    }
}

impl ControlPlane {
    /// Rebuilds the state from the ledger, takes up what a crash left, and starts the threads. Nodes can join and ask from now on;
    /// builds and rollouts wait for [`ControlPlane::begin`].
    ///
    /// # Errors
    /// Any [`StartError`].
    pub fn start(prepared: Prepared, clock: Arc<dyn Clock>, steps: Steps) -> Result<ControlPlane, StartError> {
        let Prepared { dir, address, fleet, keys, authorities, ledger, control, joins } = prepared;
        let policies = dir.join("policies");
        let state = rebuild(&ledger, State::new(fleet.control_node.clone()), clock.now())?;
        let follow_from = state.end();
        let promoted = state.last_promoted();
        let releases = match &address {
            Address::Dir(ledger) => Releases::folder(&ledger.join("releases")),
            _ => Releases::bucket(ledger.clone()),
        };
        let (live, control) = (Arc::new(Live::new(state)), Arc::new(control));
        let intake = Intake::open(intake::Parts {
            senders: fleet.intake.clone(),
            folder: dir.join("intake"),
            vault: vault(&dir, &address).map_err(StartError::Vault)?,
            token_key: keys.token.clone(),
            releases: releases.clone(),
            live: Arc::clone(&live),
            ledger: ledger.clone(),
            control: Arc::clone(&control),
            clock: Arc::clone(&clock),
            random: Arc::new(SystemRandom),
        })?;
        let shared = Arc::new(Shared {
            live,
            ledger,
            control,
            configs: Arc::new(ConfigCache::new(releases.clone())),
            intake: Arc::new(intake),
            proven: Arc::default(),
            clock,
            fleet,
            policies: policies.clone(),
            steps,
            begun: AtomicBool::new(false),
            stopping: Arc::default(),
            failed: Arc::default(),
            unfollow: AtomicBool::new(false),
            plan: Signal::default(),
            look: Arc::default(),
            tick: Signal::default(),
            tend: Signal::default(),
            promoted: Mutex::new(promoted),
            promotion: Condvar::new(),
        });
        let mirror_folder = mirror_folder(&dir)?;
        let mut builder = Builder {
            mirror: open_mirror(&mirror_folder, policy_source(&policies))?,
            mirror_folder,
            store: releases,
            signer: keys.release,
            signers: SignerPolicy::from_config(&shared.fleet.signers)?,
            token_key: keys.token,
            ledger: shared.ledger.clone(),
            control: Arc::clone(&shared.control),
            live: Arc::clone(&shared.live),
            configs: Arc::clone(&shared.configs) as Arc<_>,
            proven: Arc::clone(&shared.proven),
            clock: Arc::clone(&shared.clock),
            memory: Memory::default(),
        };
        builder.resume()?;
        let api = Arc::new(Api {
            live: Arc::clone(&shared.live),
            configs: Arc::clone(&shared.configs),
            ledger: shared.ledger.clone(),
            ledger_name: shared.fleet.name.clone(),
            control: Arc::clone(&shared.control),
            joins: Arc::new(joins),
            clock: Arc::clone(&shared.clock),
            look: Arc::clone(&shared.look),
            stopping: Arc::clone(&shared.stopping),
            failed: Arc::clone(&shared.failed),
            verification: Verification::default(),
            joining: Mutex::default(),
            appends: Arc::new(tokio::sync::Semaphore::new(APPENDS_AT_ONCE_MAX)),
            intake: Arc::clone(&shared.intake),
        });
        let cosigning = cosign(&shared, &authorities)?;
        let mut plane = ControlPlane { shared, api, cosigning, workers: Vec::new(), follower: None };
        plane.follower = Some(plane.thread("follower", move |shared| follow(&shared, follow_from))?);
        for worker in [
            plane.thread("planner", |shared| planner::run(&shared))?,
            plane.thread("builder", move |shared| builder::run(&shared, builder))?,
            plane.thread("stream", |shared| stream::run(&shared))?,
        ] {
            plane.workers.push(worker);
        }
        if plane.shared.intake.has_senders() {
            plane.workers.push(plane.thread("intake", |shared| tend_intake(&shared))?);
        }
        Ok(plane)
    }

    fn thread(
        &self,
        name: &str,
        work: impl FnOnce(Arc<Shared>) + Send + 'static,
    ) -> Result<JoinHandle<()>, StartError> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(format!("cairn-{name}")).spawn(move || {
            let _guard = Guard(Arc::clone(&shared));
            work(shared);
        })?;
        Ok(thread)
    }

    /// Builds and rollouts begin: call it when the first nodes have joined, so that their rings are not passed as empty.
    pub fn begin(&self) {
        self.shared.begun.store(true, Ordering::SeqCst);
        self.shared.look.set();
        self.shared.plan.set();
    }

    /// The routes; see [`api::router`]. Serve them until the nodes are stopped.
    pub fn router(&self) -> Router {
        api::router(Arc::clone(&self.api))
    }

    /// Where to put the outcome of the last verification, for the page.
    #[must_use]
    pub fn verification(&self) -> Verification {
        Arc::clone(&self.api.verification)
    }

    /// What `fleet.yaml` says.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.shared.fleet
    }

    /// Waits until a release is promoted, its tag written (or the attempt told as trouble), and gives it; `None` after `timeout`.
    #[must_use]
    pub fn wait_promoted(&self, timeout: Duration) -> Option<ReleaseRef> {
        let began = Instant::now();
        let mut promoted = self.shared.promoted.lock().unwrap_or_else(PoisonError::into_inner);
        while promoted.is_none() && !self.shared.stopping() {
            let left = timeout.checked_sub(began.elapsed())?;
            promoted = self.shared.promotion.wait_timeout(promoted, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *promoted
    }

    /// How it goes with each witness of the fleet's policy.
    #[must_use]
    pub fn witnesses(&self) -> Vec<WitnessStatus> {
        self.cosigning.as_ref().map(Cosigning::status).unwrap_or_default()
    }

    /// Whether one of its threads died. It does not heal: restart it.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// Answers every long poll from now on at once, so that an HTTP server can end. Part of [`ControlPlane::stop`].
    pub fn begin_stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.plan.set();
        self.shared.look.set();
        self.shared.tick.set();
        self.shared.tend.set();
        self.shared.promotion.notify_all();
        self.shared.live.settle();
    }

    /// Ends it: stop the nodes and the HTTP server first. Signs the last head, publishes everything, gives the ledger back.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(follower) = self.follower.take() else {
            return;
        };
        self.begin_stop();
        // A thread that panicked has said so.
        std::mem::take(&mut self.workers).into_iter().for_each(|worker| drop(worker.join()));
        // While the follower still runs, since what it records is folded. What could not be written down is in its journal.
        if let Err(error) = self.shared.intake.close() {
            let (what, problem) = ("keeping what intake rules know".to_owned(), one_line(&error));
            self.shared.step(Step::Trouble { what, problem });
        }
        self.shared.unfollow.store(true, Ordering::SeqCst);
        drop(follower.join());
        drop(self.cosigning.take());
        if let Err(error) = self.shared.control.sign_head(true) {
            let (what, problem) = ("signing the last head".to_owned(), one_line(&error));
            self.shared.step(Step::Trouble { what, problem });
        }
        self.shared.ledger.close();
    }
}

/// Asks the witnesses of the policy in force, where there is one.
fn cosign(shared: &Shared, authorities: &Authorities) -> Result<Option<Cosigning>, StartError> {
    let Some(policy) = &shared.fleet.witnesses else { return Ok(None) };
    let cosigner = Cosigner::new(Policy::parse(policy.as_bytes())?);
    let (log, clock) = (Box::new(shared.ledger.clone()), Arc::clone(&shared.clock));
    let transport = Arc::new(HttpTransport::trusting(authorities, CALL_TIMEOUT));
    Ok(Some(Cosigning::start(log, cosigner, transport, clock, INTERVAL)?))
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end();
    }
}

/// Notices a thread that ended without having been asked to.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.0.stopping() {
            self.0.failed.store(true, Ordering::SeqCst);
        }
    }
}

/// The intake's thread: an error is told once, until it is over.
fn tend_intake(shared: &Shared) {
    let mut is_told = false;
    while !shared.stopping() {
        shared.tend.wait(INTAKE_INTERVAL);
        match shared.intake.tick() {
            Ok(()) => is_told = false,
            Err(_) if is_told => {}
            Err(error) => {
                shared.step(Step::Trouble { what: "the intake".to_owned(), problem: one_line(&error) });
                is_told = true;
            }
        }
    }
}

/// Where the vault of a fleet's ledger lies: beside it, and for one in a bucket beside its keys.
fn vault(dir: &std::path::Path, address: &Address) -> std::io::Result<PathBuf> {
    match address {
        Address::Dir(ledger) => beside(ledger, VAULT_SUFFIX),
        _ => beside(&dir.join("keys").with_extension("ledger"), VAULT_SUFFIX),
    }
}

/// The mirror is derived: it may be deleted at any time while nothing runs.
fn mirror_folder(dir: &std::path::Path) -> Result<PathBuf, RepoError> {
    let cache = dir.join("cache");
    let path = cache.join("policies.git");
    std::fs::create_dir_all(&cache).map_err(|error| RepoError::Mirror { path: cache, reason: error.to_string() })?;
    Ok(path)
}

/// Folds what is in the ledger.
fn rebuild(ledger: &Ledger, mut state: State, now: Timestamp) -> Result<State, ReadError> {
    let total: u64 = ledger.volumes().iter().map(|(_, size)| size.0).sum();
    let mut next = ledger.start();
    while state.size().0 < total {
        let entries = ledger.read_from(next, READ_STEP)?;
        if entries.is_empty() {
            break;
        }
        for (place, bytes) in entries {
            let more = total.saturating_sub(state.size().0 + 1);
            if let Err(error) = state.replay(&bytes, now, more) {
                tracing::warn!(%place, error = error.one_line(), "a record that this version cannot read");
            }
            next = place.plus(1);
        }
    }
    Ok(state)
}

/// The follower: folds each record as it becomes durable, and tells of it.
fn follow(shared: &Shared, from: Place) {
    let mut subscription = shared.ledger.subscribe(from);
    while !shared.unfollow.load(Ordering::SeqCst) {
        let first = match subscription.next(FOLLOW_WAIT) {
            Ok(Some((_, bytes))) => bytes,
            Ok(None) => continue,
            Err(error) => {
                if !shared.unfollow.load(Ordering::SeqCst) {
                    let (what, problem) = ("following the ledger".to_owned(), one_line(&error));
                    shared.step(Step::Trouble { what, problem });
                }
                return;
            }
        };
        let mut batch = vec![first];
        while let Ok(Some((_, bytes))) = subscription.next(Duration::ZERO) {
            batch.push(bytes);
        }
        let now = shared.clock.now();
        let records = shared.live.fold(batch.iter().map(|bytes| &bytes[..]), Some(now), now);
        // Told before anybody acts on it, so that steps come in the order of what they say. Promotions are told by the planner, once
        // their tag is written.
        let told = records.iter().filter(|record| record.kind != RecordType::RolloutPromoted);
        told.filter_map(Step::of).for_each(|step| shared.step(step));
        shared.live.announce();
        if records.iter().any(|record| is_folded(record.kind)) {
            shared.plan.set();
        }
    }
}

#[cfg(test)]
mod tests;
