//! `cairn ledger witness`: a witness for logs, this fleet's or anybody's.

mod tls;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use cairn_ledger::random::SystemRandom;
use cairn_ledger::witness::keys::{self, New, OpenError};
use cairn_ledger::witness::{KnownLog, KnownLogs, Witness, logs::KnownLogError, server};
use clap::Args;
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use crate::clock::SystemClock;
use crate::failure::{Failure, chain};
use crate::say;
use crate::up::{log_to_stderr, stop_signal, web::listen};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where the witness keeps its keys and what it cosigned; made when it is not there. If it is lost, so is the witness: a new one
    /// needs new keys
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The witness's name, the first time: a URL without the scheme, such as witness.example/w1
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The first time: an ML-DSA-44 key beside the Ed25519 key, and a cosignature by each
    #[arg(long)]
    mldsa: bool,
    /// The address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8322")]
    listen: SocketAddr,
    /// Serve HTTPS with this certificate: a PEM file with the server's certificate first, then the chain. Both files are read at the start
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's secret key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen beyond loopback although it is plain HTTP: behind a proxy with TLS, or in a network of your own
    #[arg(long)]
    plain_http: bool,
    /// A log that it cosigns for: its vkey, whose name is the log's origin; may be given several times, with several keys of one log
    #[arg(long, value_name = "VKEY")]
    log: Vec<String>,
    /// A ledger that it cosigns for: the vkey of any volume; every volume is known that has the same key
    #[arg(long, value_name = "VKEY")]
    ledger: Vec<String>,
    /// A file of lines `log VKEY` and `ledger VKEY`
    #[arg(long, value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// Print what it is as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    log_to_stderr();
    let logs = known(arguments)?;
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(tls::acceptor(certificate, key)?),
        _ => None,
    };
    let new = New { name: arguments.name.clone(), mldsa: arguments.mldsa };
    let (signers, store) = keys::open(&arguments.dir, &new, &SystemRandom).map_err(|error| not_opened(&error))?;
    let listener = bind(arguments)?;
    let address = listener.local_addr().map_err(|error| Failure::bad(error.to_string()))?;
    let witness = Arc::new(Witness::new(signers, logs, Box::new(store)));
    say_what(arguments, &witness, address);
    let router = server::router(witness, Arc::new(SystemClock)).layer(from_fn(arrive));
    serve(listener, tls, router, stop_signal()?).map_err(|error| Failure::bad(format!("the server: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn known(arguments: &Arguments) -> Result<KnownLogs, Failure> {
    let mut logs = KnownLogs::new();
    let refused = |from: &str, error: &KnownLogError| {
        Failure::unknown(format!("{from}: {error}")).hint("a vkey has the form <name>+<8 hexadecimal digits>+<base64>")
    };
    let mut add = |from: &str, log: Result<KnownLog, KnownLogError>| {
        log.and_then(|log| logs.add(log)).map_err(|error| refused(from, &error))
    };
    arguments.log.iter().try_for_each(|vkey| add("--log", KnownLog::log(vkey.trim())))?;
    arguments.ledger.iter().try_for_each(|vkey| add("--ledger", KnownLog::ledger(vkey.trim())))?;
    for path in &arguments.logs {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Failure::unknown(format!("{shown}: {error}")))?;
        logs.add_list(&text).map_err(|error| refused(&shown, &error))?;
    }
    if logs.is_empty() {
        return Err(Failure::unknown("this witness would know no log")
            .hint("give --ledger VKEY with the key that `cairn verify` shows, or --log VKEY, or --logs FILE"));
    }
    Ok(logs)
}

fn not_opened(error: &OpenError) -> Failure {
    let failure = Failure::bad(chain(error));
    match error {
        OpenError::NoName { .. } => failure.hint("give --name, such as witness.example/w1"),
        OpenError::Forgotten { .. } => failure.hint(
            "retire this key: a witness that forgot would cosign another history. Start a new one in another folder",
        ),
        OpenError::Locked { .. } => failure.hint("one process is one witness; end the other"),
        _ => failure,
    }
}

fn bind(arguments: &Arguments) -> Result<TcpListener, Failure> {
    let address = arguments.listen;
    if !address.ip().is_loopback() && arguments.tls_cert.is_none() && !arguments.plain_http {
        return Err(Failure::bad(format!("--listen {address}: this is plain HTTP, and not loopback")).hint(
            "give --tls-cert and --tls-key, or put a proxy with TLS before it and say --plain-http; cosignatures are checked by whoever asked for them",
        ));
    }
    TcpListener::bind(address).map_err(|error| {
        Failure::bad(format!("--listen {address}: {error}")).hint("choose another port with --listen 127.0.0.1:PORT")
    })
}

fn say_what(arguments: &Arguments, witness: &Witness, address: SocketAddr) {
    let keys: Vec<String> = witness.keys().map(ToString::to_string).collect();
    let origins: Vec<String> = witness.logs().iter().map(KnownLog::origin).collect();
    let scheme = if arguments.tls_cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    if arguments.json {
        say::line(json!({ "url": url, "keys": keys, "logs": origins, "dir": arguments.dir }));
        return;
    }
    keys.iter().for_each(|key| say::line(format_args!("witness {key}")));
    origins.iter().for_each(|origin| say::line(format_args!("cosigns for {origin}")));
    say::line(format_args!("listens on {url}"));
    let name = witness.keys().next().map_or("", |key| key.name()).rsplit('/').next().unwrap_or_default();
    // A certificate is for a name, and which one the world knows this address by is not for this process to say.
    let host = if arguments.tls_cert.is_some() { format!("https://HOST:{}", address.port()) } else { url };
    say::line(format_args!("in a policy: witness {name} {} {host}", keys[0]));
}

/// A body must arrive in time, and the connection that it came on is busy until it is answered.
async fn arrive(request: Request, next: Next) -> Response {
    match listen::whole(request).await {
        Ok((request, busy)) => {
            let _busy = busy;
            next.run(request).await
        }
        Err(refused) => refused,
    }
}

/// Serves until it is told to stop; what is under way is answered.
fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: axum::Router,
    stopping: Receiver<()>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("cairn-witness").build()?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stopped = tokio::task::spawn_blocking(move || {
            // A sender that is gone could not watch signals, and has said so: then it is ended in another way.
            if stopping.recv().is_err() {
                std::thread::park();
            }
        });
        listen::serve(listener, tls, router, async { drop(stopped.await) }).await;
        Ok(())
    })
}
