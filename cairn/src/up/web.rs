//! The one listener: pages, nodes, ledger, and admission once its node has joined.

mod guard;
pub(crate) mod listen;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use cairn_schemas::wire::WireError;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// How long open requests may take to end at a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// Longest path that an error repeats, characters.
const SHOWN_LEN_MAX: usize = 120;

/// The running server.
pub(super) struct Web {
    address: SocketAddr,
    admission: Arc<OnceLock<Router>>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    runtime: tokio::runtime::Runtime,
}

/// Serves `control` at once; admission answers 503 until it is set.
pub(super) fn serve(listener: TcpListener, control: Router) -> std::io::Result<Web> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("cairn-http").build()?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let admission: Arc<OnceLock<Router>> = Arc::default();
    let later = Arc::clone(&admission);
    let router = control.fallback(move |request: Request| otherwise(Arc::clone(&later), request));
    let router = router.layer(from_fn(check));
    let (stop, stopped) = oneshot::channel::<()>();
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    let served = runtime.spawn(listen::serve(listener, None, router, async move {
        let _ = stopped.await;
    }));
    Ok(Web { address, admission, stop, served, runtime })
}

impl Web {
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Admission answers from now on.
    pub(super) fn admit_with(&self, router: Router) {
        // Set once, when its node has joined.
        let _ = self.admission.set(router);
    }

    /// Takes no more connections; answers that are under way go out first.
    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        let Web { served, runtime, .. } = self;
        // Late answers are not waited for any longer; their records are durable all the same.
        let _ = runtime.block_on(async { tokio::time::timeout(STOP_PATIENCE, served).await });
        runtime.shutdown_timeout(STOP_PATIENCE);
    }
}

/// Before every route: whether the request may come in. After every route: an error says what it is, in one form.
async fn check(request: Request, next: Next) -> Response {
    if let Err(stopped) = guard::check(&request) {
        return refuse(stopped.status, &stopped.error, Some(stopped.hint));
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    match listen::whole(request).await {
        Ok((request, busy)) => {
            let _busy = busy;
            explain(next.run(request).await, &method, &uri)
        }
        Err(refused) => refused,
    }
}

/// Errors that the framework makes have no body, or one of plain text.
fn explain(response: Response, method: &Method, uri: &Uri) -> Response {
    let status = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if !(status.is_client_error() || status.is_server_error()) || is_json {
        return response;
    }
    let path: String = uri.path().chars().take(SHOWN_LEN_MAX).collect();
    let error = match status {
        StatusCode::NOT_FOUND => format!("nothing is served at {path}"),
        StatusCode::METHOD_NOT_ALLOWED => format!("{method} is not what {path} takes"),
        StatusCode::BAD_REQUEST => format!("the path {path} is not valid"),
        _ => status.canonical_reason().unwrap_or("an error without a name").to_lowercase(),
    };
    let mut explained = refuse(status, &error, None);
    if let Some(allowed) = response.headers().get(header::ALLOW) {
        explained.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    explained
}

/// What the control plane has no route for.
async fn otherwise(admission: Arc<OnceLock<Router>>, request: Request) -> Response {
    let is_admission = request.uri().path() == cairn_admission::VALIDATE_PATH;
    match admission.get() {
        Some(router) => match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None if is_admission => {
            let hint = "ask again in a moment";
            refuse(StatusCode::SERVICE_UNAVAILABLE, "the admission server has not joined yet", Some(hint))
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn refuse(status: StatusCode, error: &str, hint: Option<&str>) -> Response {
    let error = WireError { error: error.to_owned(), hint: hint.map(str::to_owned) };
    let body = serde_json::json!(error).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}
