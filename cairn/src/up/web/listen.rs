//! Connections with limits: on their number, on how long a request may take to arrive and to be answered.
//!
//! When there are as many as there may be, the oldest that nothing is asked on gives way; those first on which no whole request ever
//! came. So who opens connections and sits on them is in nobody's way, and who has just come is the last to go.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use cairn_reconciler::intake::BODY_LEN_MAX as INTAKE_BODY_LEN_MAX;
use cairn_schemas::wire::APPEND_BODY_LEN_MAX;
use hyper::body::Incoming;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;

/// Most connections at once: half of what a process may commonly have open, so that its files can always be opened.
pub(super) const CONNECTIONS_MAX: usize = 512;
/// How long a request's head may take, and how long a connection may wait for one. Longer than clients keep idle ones.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// What a TLS connection begins with: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;
/// What somebody is told who speaks plain HTTP to a listener with TLS.
const WRONG_SCHEME: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 46\r\n\
    connection: close\r\n\r\nthis port speaks HTTPS: ask it with https://\r\n";
/// Most bytes of what such a one sends that are read.
const WRONG_SCHEME_LEN_MAX: usize = 128 * 1024;
/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a request may take as a whole: longer than the longest long poll.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(90);
/// Longest body of any request but an intake's, bytes: nodes' records and admission reviews have the largest. Each route has a limit of its
/// own.
const BODY_LEN_MAX: usize = if cairn_admission::BODY_LEN_MAX > APPEND_BODY_LEN_MAX {
    cairn_admission::BODY_LEN_MAX
} else {
    APPEND_BODY_LEN_MAX
};
/// Where the longest bodies go, those of [`INTAKE_BODY_LEN_MAX`].
const INTAKE_PATH: &str = "/v1/intake/";
/// The pause after a connection that could not be accepted, and between looks for one that may give way.
const PAUSE: Duration = Duration::from_millis(20);

/// Serves until `stopped`, in TLS where `tls` says how; then ends idle connections at once and waits for the others' answers.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    stopped: impl Future<Output = ()>,
) {
    let connections = Arc::new(Connections::default());
    let graceful = GracefulShutdown::new();
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok(stream) => begin(stream, tls.clone(), &router, &connections, &graceful),
            // The client is gone again, or there is no descriptor left: neither is a reason to end.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, connections: &Connections) -> std::io::Result<TcpStream> {
    while !connections.make_room() {
        tokio::time::sleep(PAUSE).await;
    }
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn begin(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: &Router,
    connections: &Arc<Connections>,
    graceful: &GracefulShutdown,
) {
    let activity = Arc::new(Activity::default());
    let service = hyper::service::service_fn({
        let (router, activity) = (router.clone(), Arc::clone(&activity));
        move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Arc::clone(&activity));
            answer(router.clone(), request)
        }
    });
    let watcher = graceful.watcher();
    // Entered before it runs: it must not leave before it has entered.
    let place = connections.enter(activity);
    let task = tokio::spawn({
        let leave = Leave { connections: Arc::clone(connections), place };
        async move {
            let _leave = leave;
            match tls {
                None => converse(stream, service, watcher).await,
                Some(tls) => {
                    let shaken = tokio::time::timeout(HANDSHAKE_TIME_MAX, shake_hands(stream, &tls)).await;
                    if let Ok(Ok(Some(stream))) = shaken {
                        converse(stream, service, watcher).await;
                    }
                }
            }
        }
    });
    connections.name(place, task.abort_handle());
}

/// Answers what is asked on a connection, for as long as it lasts.
async fn converse<S>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: S, watcher: Watcher)
where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or sends no HTTP is its own trouble.
    let _ = watcher.watch(connection).await;
}

/// A connection in TLS; `None` for one that speaks plain HTTP, which is told so.
async fn shake_hands(stream: TcpStream, tls: &TlsAcceptor) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        // So few bytes have room in a socket on which nothing was written.
        stream.writable().await?;
        stream.try_write(WRONG_SCHEME)?;
        // What it sent is read until it closes: closing before would take the answer back.
        let mut left = WRONG_SCHEME_LEN_MAX;
        while left > 0 {
            stream.readable().await?;
            match stream.try_read(&mut [0; 4_096]) {
                Ok(0) => break,
                Ok(len) => left = left.saturating_sub(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        return Ok(None);
    }
    tls.accept(stream).await.map(Some)
}

async fn answer(router: Router, request: Request<Body>) -> Result<Response, Infallible> {
    let answered = tokio::time::timeout(REQUEST_TIME_MAX, router.oneshot(request)).await;
    Ok(match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => super::refuse(StatusCode::SERVICE_UNAVAILABLE, "there was no answer in time", Some("ask again")),
    })
}

/// The request with all of its body, and what says that it is being answered. Until then its connection may give way.
pub(crate) async fn whole(request: Request<Body>) -> Result<(Request<Body>, Option<Busy>), Response> {
    let (parts, body) = request.into_parts();
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    let len_max = if parts.uri.path().starts_with(INTAKE_PATH) { INTAKE_BODY_LEN_MAX } else { BODY_LEN_MAX };
    // What says that it is too long is not waited for.
    let arrived = match declared {
        Some(len) if len > len_max as u64 => Ok(None),
        _ => tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, len_max)).await.map(Result::ok),
    };
    match arrived {
        Ok(Some(body)) => {
            let busy = parts.extensions.get::<Arc<Activity>>().map(Busy::new);
            Ok((Request::from_parts(parts, Body::from(body)), busy))
        }
        Ok(None) => {
            let error = format!("the body is longer than the {len_max} bytes that a request may have here");
            Err(super::refuse(StatusCode::PAYLOAD_TOO_LARGE, &error, None))
        }
        Err(_) => {
            let error = format!("the body did not arrive in {} s", BODY_TIME_MAX.as_secs());
            Err(super::refuse(StatusCode::REQUEST_TIMEOUT, &error, Some("send it at once")))
        }
    }
}

/// What goes on on a connection.
#[derive(Default)]
struct Activity {
    /// A whole request came on it.
    asked: AtomicBool,
    /// How many are being answered.
    busy: AtomicUsize,
}

/// A request is being answered.
pub(crate) struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Busy {
        activity.asked.store(true, Ordering::SeqCst);
        activity.busy.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The open connections, oldest first.
#[derive(Default)]
struct Connections {
    open: Mutex<(u64, BTreeMap<u64, Open>)>,
}

struct Open {
    activity: Arc<Activity>,
    /// Set at once after it began.
    task: Option<AbortHandle>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Open>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, activity: Arc<Activity>) -> u64 {
        let mut open = self.lock();
        let place = open.0;
        open.0 += 1;
        open.1.insert(place, Open { activity, task: None });
        place
    }

    fn name(&self, place: u64, task: AbortHandle) {
        if let Some(open) = self.lock().1.get_mut(&place) {
            open.task = Some(task);
        }
    }

    /// Whether one more may come, ending one that nothing is asked on where that makes it so.
    fn make_room(&self) -> bool {
        let mut open = self.lock();
        if open.1.len() < CONNECTIONS_MAX {
            return true;
        }
        let idle = |(_, open): &(&u64, &Open)| open.activity.busy.load(Ordering::SeqCst) == 0;
        let never_asked = |(_, open): &(&u64, &Open)| !open.activity.asked.load(Ordering::SeqCst);
        let oldest = open.1.iter().find(never_asked).or_else(|| open.1.iter().find(idle));
        let Some(place) = oldest.map(|(place, _)| *place) else { return false };
        if let Some(task) = open.1.remove(&place).and_then(|open| open.task) {
            task.abort();
        }
        true
    }
}

/// Forgets a connection, however it ends.
struct Leave {
    connections: Arc<Connections>,
    place: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.connections.lock().1.remove(&self.place);
    }
}
