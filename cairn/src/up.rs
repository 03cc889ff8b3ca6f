//! `cairn up`: everything on this machine, in one process.
//!
//! The nodes reach the control plane through the socket only, with the join, the credentials and the checks that nodes elsewhere
//! would use. What starts and in which order is here; what it does is not.

mod nodes;
mod web;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

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

use crate::clock::SystemClock;
use crate::failure::{Failure, chain};

/// How long release 1 may take before `up` says that it still waits.
const PROMOTION_PATIENCE: Duration = Duration::from_secs(30);
/// How often the ledger is verified for the page.
const VERIFY_EVERY: Duration = Duration::from_secs(300);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where everything is kept; made when it is not there, resumed when it is
    #[arg(long, value_name = "DIR", default_value = "cairn-data")]
    dir: PathBuf,
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
        clock: Arc::clone(&clock),
        random: Arc::new(SystemRandom),
    };
    let prepared = setup::prepare(&arguments.dir, &options, &mut |step| say(&step)).map_err(|error| {
        let failure = Failure::bad(chain(&error));
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let ledger = prepared.ledger();
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
    println!("control plane: runs; page: {}/", web.url());

    // 3. The nodes, over the socket.
    let nodes = nodes::start(places, &web, &clock)?;

    // 4. Release 1, and whatever is committed from now on.
    let (stop, stopping) = stop_signal()?;
    plane.begin();
    let waited = wait_ready(&plane, &stopping);
    if waited == Waited::Ready {
        println!("ready: commit to {} to change policy; ctrl-c ends it", arguments.dir.join("policies").display());
    }
    if waited != Waited::Stopped {
        let _verifier = verify_now_and_then(&ledger, plane.verification(), Arc::clone(&clock));
        // Until somebody ends it; the sender is kept, or the wait would end at once.
        let _ = stopping.recv();
    }
    drop(stop);

    // 5. The end: the nodes sign their last heads and send what they have, then the control plane.
    println!("stopping");
    nodes.stop();
    plane.begin_stop();
    web.stop();
    plane.stop();
    println!("stopped; everything that was acknowledged is on disk");
    Ok(ExitCode::SUCCESS)
}

fn say(step: &Step) {
    println!("{step}");
}

/// Warnings and errors of every part; `CAIRN_LOG` asks for more, in the form of `tracing`'s filters.
fn log_to_stderr() {
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

/// A channel on which SIGINT and SIGTERM arrive.
fn stop_signal() -> Result<(Sender<()>, Receiver<()>), Failure> {
    let (send, receive) = channel();
    let sender = send.clone();
    let thread = std::thread::Builder::new().name("cairn-signals".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let waited = runtime.and_then(|runtime| runtime.block_on(a_signal()));
        if let Err(error) = waited {
            tell(&format!("signals cannot be watched: {error}; end it with kill -9"));
            return;
        }
        // Nobody waits any more when the run has ended by itself.
        let _ = sender.send(());
    });
    thread.map_err(|error| Failure::bad(format!("the system gives no thread: {error}")))?;
    Ok((send, receive))
}

async fn a_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Waited {
    Ready,
    NotYet,
    Stopped,
}

/// Waits for the first promotion, with a word when it takes long.
fn wait_ready(plane: &ControlPlane, stopping: &Receiver<()>) -> Waited {
    let mut waited = Duration::ZERO;
    loop {
        if plane.wait_promoted(Duration::from_millis(200)).is_some() {
            return Waited::Ready;
        }
        match stopping.recv_timeout(Duration::ZERO) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Waited::Stopped,
        }
        waited += Duration::from_millis(200);
        if waited >= PROMOTION_PATIENCE {
            tell("not ready yet: no release is promoted; the lines above say why, and a new commit is tried at once");
            return Waited::NotYet;
        }
    }
}

/// A line for whoever watches, beside the steps.
fn tell(line: &str) {
    println!("{line}");
}

/// Verifies the ledger for the page: once now, then every five minutes. Ends with the process.
fn verify_now_and_then(
    ledger: &Path,
    place: Verification,
    clock: Arc<dyn Clock>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let ledger = ledger.to_owned();
    std::thread::Builder::new().name("cairn-verify".to_owned()).spawn(move || {
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
