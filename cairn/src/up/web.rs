//! The one listener: pages, nodes, ledger, and admission once its node has joined.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_schemas::wire::WireError;
use tokio::sync::oneshot;
use tower::ServiceExt;

/// How long open connections may take to end at a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// The running server.
pub(super) struct Web {
    address: SocketAddr,
    admission: Arc<OnceLock<Router>>,
    stop: oneshot::Sender<()>,
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
    let (stop, stopped) = oneshot::channel::<()>();
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    runtime.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        if let Err(error) = served.await {
            eprintln!("error: the listener ended: {error}");
        }
    });
    Ok(Web { address, admission, stop, runtime })
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

    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        self.runtime.shutdown_timeout(STOP_PATIENCE);
    }
}

/// What the control plane has no route for.
async fn otherwise(admission: Arc<OnceLock<Router>>, request: Request) -> Response {
    let is_admission = request.uri().path() == cairn_admission::VALIDATE_PATH;
    match admission.get() {
        Some(router) => match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None if is_admission => refuse(StatusCode::SERVICE_UNAVAILABLE, "the admission server has not joined yet"),
        None => refuse(StatusCode::NOT_FOUND, "there is nothing at this path"),
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    let body = serde_json::json!(WireError { error: error.to_owned(), hint: None }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}
