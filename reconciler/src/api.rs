//! The control plane's HTTP: what nodes ask, what events come in, what auditors fetch, what people look at.
//!
//! Handlers parse, check who asks, and hand over; whatever blocks (an append waits for the disk) runs off the async threads. Errors
//! are [`WireError`] as JSON. The router has no fallback, so that it can be merged with others; [`not_found`] is one to add.

mod answer;
mod files;
mod intake;
mod nodes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cairn_ledger::writer::Ledger;
use cairn_schemas::time::Clock;
use cairn_schemas::wire::APPEND_BODY_LEN_MAX;

pub use answer::{Refused, not_found};

use crate::configs::ConfigCache;
use crate::control::Control;
use crate::intake::Intake;
use crate::joins::Joins;
use crate::live::Live;
use crate::pages::{self, LastVerification, View};
use crate::signal::Signal;

/// Largest join request, bytes.
pub const JOIN_BODY_LEN_MAX: usize = 64 * 1024;
/// Most appends that wait for the disk at once; further ones wait for their turn.
pub const APPENDS_AT_ONCE_MAX: usize = 256;

/// What the handlers share.
pub struct Api {
    pub(crate) live: Arc<Live>,
    pub(crate) configs: Arc<ConfigCache>,
    pub(crate) ledger: Ledger,
    pub(crate) ledger_name: String,
    pub(crate) control: Arc<Control>,
    pub(crate) joins: Arc<Joins>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Set by `POST /v1/git/notify`: look at the policy repo now.
    pub(crate) look: Arc<Signal>,
    /// Set when the control plane stops: long polls answer at once.
    pub(crate) stopping: Arc<AtomicBool>,
    /// Set when a thread of the control plane died.
    pub(crate) failed: Arc<AtomicBool>,
    pub(crate) verification: Verification,
    pub(crate) joining: Mutex<()>,
    pub(crate) appends: Arc<tokio::sync::Semaphore>,
    pub(crate) intake: Arc<Intake>,
}

/// Where whoever verifies the ledger puts the outcome for the page.
pub type Verification = Arc<RwLock<Option<LastVerification>>>;

/// The routes. Merge with others and add a fallback.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/git/notify", post(notify))
        .route("/v1/nodes/join", post(nodes::join).layer(DefaultBodyLimit::max(JOIN_BODY_LEN_MAX)))
        .route("/v1/nodes/desired", get(nodes::desired))
        .route(
            "/v1/nodes/streams/{id}",
            get(nodes::position).post(nodes::append).layer(DefaultBodyLimit::max(APPEND_BODY_LEN_MAX)),
        )
        .route(
            "/v1/intake/{source}",
            get(intake::counts).post(intake::take).layer(DefaultBodyLimit::max(crate::intake::BODY_LEN_MAX)),
        )
        .route("/ledger/checkpoint", get(files::checkpoint))
        .route("/ledger/endorsements", get(endorsements))
        .route("/ledger/cosigned", get(files::cosigned))
        .route("/ledger/checkpoints/{size}", get(files::numbered))
        .route("/ledger/tile/{*path}", get(files::tile))
        .route("/ledger/volume/{volume}/checkpoint", get(files::checkpoint_of))
        .route("/ledger/volume/{volume}/cosigned", get(files::cosigned_of))
        .route("/ledger/volume/{volume}/checkpoints/{size}", get(files::numbered_of))
        .route("/ledger/volume/{volume}/tile/{*path}", get(files::tile_of))
        .route("/ledger/releases/{serial}/{file}", get(files::release))
        .with_state(api)
}

async fn page(State(api): State<Arc<Api>>) -> Response {
    let checkpoint = String::from_utf8_lossy(&api.ledger.checkpoint().bytes).into_owned();
    let verification = api.verification.read().unwrap_or_else(PoisonError::into_inner).clone();
    let view = {
        let state = api.live.read();
        View::new(&api.ledger_name, &state, api.configs.as_ref(), checkpoint, verification, api.clock.now())
            .with_intake(api.intake.counts())
    };
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, pages::render(&view)).into_response()
}

/// Whether the control plane does its work at all.
async fn healthz(State(api): State<Arc<Api>>) -> Response {
    if api.failed.load(Ordering::SeqCst) {
        let hint = "its log says which and why; restart it";
        return Refused::new(StatusCode::SERVICE_UNAVAILABLE, "a thread of the control plane died", Some(hint))
            .into_response();
    }
    "ok\n".into_response()
}

/// Whether a node has activated a release: before that nothing is enforced anywhere.
async fn readyz(State(api): State<Arc<Api>>) -> Response {
    if api.live.read().nodes().values().any(|node| node.running.is_some()) {
        return "ready\n".into_response();
    }
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "no node has activated a release yet", None).into_response()
}

/// What the root said about the ledger's keys: nobody believes it because of who brings it.
async fn endorsements(State(api): State<Arc<Api>>) -> axum::Json<Vec<String>> {
    axum::Json(api.live.read().endorsements().to_vec())
}

async fn notify(State(api): State<Arc<Api>>) -> StatusCode {
    api.look.set();
    StatusCode::ACCEPTED
}

#[cfg(test)]
mod tests;
