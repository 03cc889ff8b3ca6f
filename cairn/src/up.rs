//! `cairn up`: everything on this machine, in one process.
//!
//! The nodes reach the control plane through the socket only, with the join, the credentials and the checks that nodes elsewhere
//! would use. What starts and in which order is here; what it does is not.

pub(crate) mod nodes;
pub(crate) mod web;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use cairn_ledger::writer::Address;
use cairn_reconciler::api::Verification;
use cairn_reconciler::pages::LastVerification;
use cairn_reconciler::plane::ControlPlane;
use cairn_reconciler::random::SystemRandom;
use cairn_reconciler::repo::Owner;
use cairn_reconciler::setup::{self, Options};
use cairn_reconciler::step::Step;
use cairn_schemas::fleet::SignersConfig;
use cairn_schemas::time::Clock;
use cairn_schemas::types::NodeKind;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock::SystemClock;
use crate::failure::{Failure, chain};
use crate::say;

/// How long release 1 may take before `up` says that it still waits.
const PROMOTION_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether the run is over; divides [`PROMOTION_PATIENCE`].
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What a second signal exits with: 128 and SIGINT's number, as shells have it.
const EXIT_AT_ONCE: i32 = 130;
/// How often the ledger is verified for the page.
const VERIFY_EVERY: Duration = Duration::from_secs(300);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where everything is kept; made when it is not there, resumed when it is
    #[arg(long, value_name = "DIR", default_value = "cairn-data")]
    dir: PathBuf,
    /// The bucket that the ledger lies in, s3://bucket/prefix, for the first start; it is written into fleet.yaml. Without it the ledger
    /// lies in the data folder
    #[arg(long, value_name = "S3")]
    ledger: Option<String>,
    /// The address of pages, nodes and admission: loopback only, since it is plain HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8321")]
    listen: SocketAddr,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    log_to_stderr();
    let listener = bind(arguments.listen)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // 1. The data folder: made, or taken up where an earlier run left it.
    let options = Options {
        owner: sudo_owner(),
        template: template(),
        signers: SignersConfig::UnsignedAllowed,
        ledger: arguments.ledger.clone(),
        clock: Arc::clone(&clock),
        random: Arc::new(SystemRandom),
    };
    let prepared = setup::prepare(&arguments.dir, &options, &mut |step| say(&step)).map_err(|error| {
        let failure = Failure::bad(chain(&error));
        match error.hint() {
            _ if is_full(&error) => failure.hint("make room on its disk and run it again; it goes on from here"),
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let ledger = prepared.ledger().clone();
    let authorities = prepared.authorities().clone();
    let places: Vec<nodes::Place> = [NodeKind::Admission, NodeKind::Sensor]
        .into_iter()
        .map(|kind| {
            let token = prepared.join_token(kind).map_err(|error| Failure::bad(chain(&error)))?;
            Ok(nodes::Place { kind, folder: prepared.node_folder(kind), token })
        })
        .collect::<Result<_, Failure>>()?;

    // 2. The control plane and its listener.
    let plane = ControlPlane::start(prepared, Arc::clone(&clock), Arc::new(|step| say(&step)))
        .map_err(|error| Failure::bad(chain(&error)))?;
    let web = web::serve(listener, plane.router()).map_err(|error| Failure::bad(format!("the listener: {error}")))?;
    say::line(format_args!("control plane: runs; page: {}/", web.url()));

    // 3. The nodes, over the socket.
    let mut nodes = nodes::Nodes::default();
    let ended = nodes::start(&mut nodes, places, &web, &authorities, &clock).and_then(|()| {
        // 4. Release 1, and whatever is committed from now on.
        let stopping = stop_signal()?;
        plane.begin();
        let ended = run_until_stopped(&plane, &stopping, || {
            let policies = arguments.dir.join("policies");
            say::line(format_args!("ready: commit to {} to change policy; ctrl-c ends it", policies.display()));
            // Ends with the process; without it the page says that nothing was verified yet.
            drop(verify_now_and_then(&ledger, plane.verification(), Arc::clone(&clock)));
        });
        say::line("stopping");
        Ok(ended)
    });

    // 5. The end, whatever brought it: the nodes sign their last heads and send what they have, then the control plane.
    nodes.stop();
    plane.begin_stop();
    web.stop();
    plane.stop();
    match ended? {
        Ended::Asked => say::line("stopped; everything that was acknowledged is on disk"),
        Ended::Failed => {
            return Err(Failure::bad("a part of the control plane failed; the lines above say where")
                .hint("run it again: nothing that was acknowledged is lost"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(step: &Step) {
    say::line(step);
}

/// Warnings and errors of every part; `CAIRN_LOG` asks for more, in the form of `tracing`'s filters.
pub(crate) fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CAIRN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A second call fails, and the first one's filter stays.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::bad(format!("--listen {address}: `cairn up` is plain HTTP and listens on loopback only"))
            .hint("use an address such as 127.0.0.1:8321"));
    }
    TcpListener::bind(address).map_err(|error| {
        Failure::bad(format!("--listen {address}: {error}")).hint("choose another port with --listen 127.0.0.1:PORT")
    })
}

/// Whether what is behind an error is a disk without room.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    })
}

/// Under `sudo` the policy repo belongs to the user who called it.
fn sudo_owner() -> Option<Owner> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    Some(Owner { uid: number("SUDO_UID")?, gid: number("SUDO_GID")? })
}

fn template() -> BTreeMap<String, Vec<u8>> {
    cairn_policy::template::files().iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect()
}

/// A channel on which the first SIGINT or SIGTERM arrives. A second one ends the process at once: whoever asks twice does not want
/// to wait, and nothing that was acknowledged needs a clean end.
pub(crate) fn stop_signal() -> Result<Receiver<()>, Failure> {
    let (send, receive) = channel();
    let failed = |error: std::io::Error| Failure::bad(format!("signals cannot be watched: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    // Watched when this returns: a signal that comes right after is not the system's to answer, which would end the process.
    let (terminate, interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?)
    };
    let watch = move || runtime.block_on(signals(terminate, interrupt, send));
    let thread = std::thread::Builder::new().name("cairn-signals".to_owned()).spawn(watch);
    thread.map_err(|error| Failure::bad(format!("the system gives no thread: {error}")))?;
    Ok(receive)
}

async fn signals(mut terminate: Signal, mut interrupt: Signal, first: Sender<()>) {
    for time in 0.. {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if time > 0 {
            say::line("ended at once; everything that was acknowledged is on disk");
            std::process::exit(EXIT_AT_ONCE);
        }
        // Nobody waits any more when the run is ending by itself.
        let _ = first.send(());
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Asked,
    Failed,
}

/// Waits for the first promotion, with a word when it takes long, and then for the end.
fn run_until_stopped(plane: &ControlPlane, stopping: &Receiver<()>, on_ready: impl FnOnce()) -> Ended {
    let mut on_ready = Some(on_ready);
    let mut waited = Duration::ZERO;
    loop {
        let promoted = on_ready.is_none() || plane.wait_promoted(LOOK_EVERY).is_some();
        if promoted && let Some(on_ready) = on_ready.take() {
            on_ready();
        }
        // A sender that is gone could not watch signals, and has said so.
        let wait = if promoted { LOOK_EVERY } else { Duration::ZERO };
        match stopping.recv_timeout(wait) {
            Ok(()) => return Ended::Asked,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(wait),
        }
        if plane.failed() {
            return Ended::Failed;
        }
        waited = waited.saturating_add(LOOK_EVERY);
        if on_ready.is_some() && waited.as_millis() == PROMOTION_PATIENCE.as_millis() {
            say::line(
                "not ready yet: no release is promoted; the lines above say why, and a new commit is tried at once",
            );
        }
    }
}

/// Verifies the ledger for the page: once now, then every five minutes. Ends with the process.
fn verify_now_and_then(
    ledger: &Address,
    place: Verification,
    clock: Arc<dyn Clock>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let dir = match ledger {
        Address::Dir(dir) => Some(dir.clone()),
        _ => None,
    };
    let elsewhere =
        format!("a ledger in a bucket is verified from a copy: cairn ledger mirror {ledger} DIR; cairn verify DIR");
    std::thread::Builder::new().name("cairn-verify".to_owned()).spawn(move || {
        let Some(ledger) = dir else {
            let last = LastVerification { time: clock.now(), valid: None, summary: elsewhere };
            *place.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(last);
            return;
        };
        loop {
            let report = cairn_verify::verify(&ledger, &cairn_verify::Options { threads: 1, ..Default::default() });
            let text = cairn_verify::render(&report);
            let last = LastVerification {
                time: clock.now(),
                valid: match report.exit_code(false) {
                    0 => Some(true),
                    1 => Some(false),
                    _ => None,
                },
                summary: text.lines().next().unwrap_or_default().to_owned(),
            };
            *place.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(last);
            std::thread::sleep(VERIFY_EVERY);
        }
    })
}
