//! The threads that have a ledger's checkpoints cosigned.
//!
//! One thread chooses a checkpoint, at most one an interval and only when the ledger has grown; one thread for each witness asks it.
//! The first is not held up by a witness that is slow or gone: when the others meet the policy, the checkpoint is handed over, and
//! the next is chosen. All witnesses are asked about the same checkpoint, since cosignatures of different ones never add up.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use cairn_schemas::time::Clock;

use super::client::{AskError, Cosigner, Head, Transport, WitnessClient};
use crate::cosignature::CosignTime;

/// How often a checkpoint is chosen, at most, unless somebody waits for one.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long one checkpoint is waited for before a newer one is chosen: longer than a request may take.
pub const ROUND_TIME_MAX: Duration = Duration::from_secs(12);
/// When the policy is met, how long the other witnesses have to be on the same checkpoint.
pub const GRACE: Duration = Duration::from_millis(100);
/// How often a thread that waits looks whether it is to end.
const STEP: Duration = Duration::from_millis(200);
/// The first pause after a witness did not cosign; it doubles.
pub const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A log whose checkpoints are to be cosigned: a [`crate::writer::Ledger`].
pub trait CosignedLog: Send + Sync {
    /// The newest checkpoint, and its size.
    fn newest(&self) -> (TreeSize, Vec<u8>);

    /// Waits for `pause`, or shorter: `true` as soon as somebody wants more than `size` records cosigned.
    fn wait(&self, size: TreeSize, pause: Duration) -> bool;

    /// A consistency proof; the text says why not.
    ///
    /// # Errors
    /// Why there is none.
    fn prove(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Digest>, String>;

    /// Takes a checkpoint that meets the policy.
    ///
    /// # Errors
    /// Why it could not be kept.
    fn take(&self, cosigned: Vec<u8>) -> Result<(), String>;
}

/// How it goes with one witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessStatus {
    /// Its name in the policy.
    pub name: String,
    /// The newest size that it cosigned for us.
    pub cosigned: Option<TreeSize>,
    /// Why it did not cosign when it was asked last.
    pub error: Option<AskError>,
}

/// Running threads; dropping this ends them.
pub struct Cosigning {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Cosigning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cosigning({} witnesses)", self.shared.lock().status.len())
    }
}

struct Shared {
    log: Box<dyn CosignedLog>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Which checkpoint is asked for: its number, and itself.
    round: u64,
    head: Option<Arc<Head>>,
    /// What came for it.
    lines: Vec<String>,
    /// How many witnesses are asked, and have not answered.
    open: usize,
    status: Vec<WitnessStatus>,
    closing: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Cosigning {
    /// Starts. Witnesses of the policy without a URL are not asked.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub fn start(
        log: Box<dyn CosignedLog>,
        cosigner: Cosigner,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        interval: Duration,
    ) -> std::io::Result<Cosigning> {
        let clients = cosigner.clients();
        let silent =
            |client: &WitnessClient| WitnessStatus { name: client.name().to_owned(), cosigned: None, error: None };
        let state = State {
            round: 0,
            head: None,
            lines: Vec::new(),
            open: 0,
            status: clients.iter().map(silent).collect(),
            closing: false,
        };
        let shared = Arc::new(Shared { log, transport, clock, state: Mutex::new(state), changed: Condvar::new() });
        let mut cosigning = Cosigning { shared, threads: Vec::new() };
        for (position, client) in clients.into_iter().enumerate() {
            let name = format!("witness-{position}");
            cosigning.spawn(name, move |shared| run_witness(shared, position, client))?;
        }
        cosigning.spawn("cosigning".to_owned(), move |shared| run_rounds(shared, &cosigner, interval))?;
        Ok(cosigning)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce(&Shared) + Send + 'static) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::Builder::new().name(name).spawn(move || run(&shared))?);
        Ok(())
    }

    /// How it goes, in the order of the policy.
    #[must_use]
    pub fn status(&self) -> Vec<WitnessStatus> {
        self.shared.lock().status.clone()
    }

    /// Ends the threads; waits for a request that is under way.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

impl Drop for Cosigning {
    fn drop(&mut self) {
        self.end();
    }
}

/// Chooses checkpoints, and hands over those that meet the policy.
fn run_rounds(shared: &Shared, cosigner: &Cosigner, interval: Duration) {
    let mut done = None;
    loop {
        let started = Instant::now();
        let (size, note) = shared.log.newest();
        if done.as_deref() != Some(&note[..]) {
            match Head::new(&note) {
                Ok(head) => {
                    if run_round(shared, cosigner, head) {
                        done = Some(note);
                    }
                }
                Err(error) => tracing::error!(%error, "the ledger's own checkpoint cannot be read"),
            }
        }
        // At most one an interval, unless somebody waits for one; in steps, so that ending takes no longer than that.
        while started.elapsed() < interval {
            if shared.lock().closing {
                return;
            }
            let step = STEP.min(interval.saturating_sub(started.elapsed()));
            if shared.log.wait(size, step) {
                break;
            }
        }
        if shared.lock().closing {
            return;
        }
    }
}

/// Has one checkpoint cosigned; whether the policy was met.
fn run_round(shared: &Shared, cosigner: &Cosigner, head: Head) -> bool {
    let head = Arc::new(head);
    let mut state = shared.lock();
    state.round += 1;
    state.lines.clear();
    state.open = state.status.len();
    state.head = Some(Arc::clone(&head));
    shared.changed.notify_all();
    let deadline = Instant::now() + ROUND_TIME_MAX;
    let mut met_until: Option<Instant> = None;
    let cosigned = loop {
        match cosigner.merge(&head, &state.lines) {
            Ok((bytes, evaluation)) if evaluation.met => {
                let until = *met_until.get_or_insert_with(|| Instant::now() + GRACE);
                if state.open == 0 || Instant::now() >= until {
                    break Some(bytes);
                }
            }
            Ok(_) if state.open == 0 => break None,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "cosignatures cannot be put together");
                break None;
            }
        }
        let left = met_until.unwrap_or(deadline).saturating_duration_since(Instant::now());
        if state.closing || left.is_zero() && met_until.is_none() {
            break None;
        }
        state = shared.wait(state, left.max(Duration::from_millis(1)));
    };
    drop(state);
    let Some(bytes) = cosigned else { return false };
    match shared.log.take(bytes) {
        Ok(()) => true,
        Err(reason) => {
            tracing::error!(reason, "a cosigned checkpoint could not be kept");
            false
        }
    }
}

/// Asks one witness about each checkpoint that is chosen.
fn run_witness(shared: &Shared, position: usize, mut client: WitnessClient) {
    let mut done = 0;
    let mut pause = PAUSE_FIRST;
    let mut rests_until: Option<Instant> = None;
    loop {
        let mut state = shared.lock();
        let (round, head) = loop {
            if state.closing {
                return;
            }
            let resting = rests_until.map(|until| until.saturating_duration_since(Instant::now()));
            match (&state.head, resting.filter(|rest| !rest.is_zero())) {
                (Some(head), None) if state.round > done => break (state.round, Arc::clone(head)),
                // A witness that rests does not hold up the others.
                (Some(_), Some(_)) if state.round > done => {
                    done = state.round;
                    state.open = state.open.saturating_sub(1);
                    shared.changed.notify_all();
                }
                (_, rest) => state = shared.wait(state, rest.unwrap_or(PAUSE_MAX)),
            }
        };
        drop(state);
        done = round;
        let now = CosignTime(shared.clock.now().nanos() / 1_000_000_000);
        let prove = |old, new| shared.log.prove(old, new);
        let asked = client.ask(&head, &prove, &*shared.transport, now);

        let mut state = shared.lock();
        let current = state.round == round;
        let status = &mut state.status[position];
        match asked {
            Ok(line) => {
                status.cosigned = Some(head.checkpoint().size);
                if status.error.take().is_some() {
                    tracing::info!(witness = client.name(), "the witness cosigns again");
                }
                (pause, rests_until) = (PAUSE_FIRST, None);
                if current {
                    state.lines.push(line);
                }
            }
            Err(error) => {
                // Said once, not every second.
                if status.error.as_ref() != Some(&error) {
                    if error.is_alarm() {
                        tracing::error!(%error, "a witness has seen another history");
                    } else {
                        tracing::warn!(%error, "a witness did not cosign");
                    }
                }
                status.error = Some(error);
                rests_until = Some(Instant::now() + pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        if current {
            state.open = state.open.saturating_sub(1);
            shared.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
