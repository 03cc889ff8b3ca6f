//! The HTTP side: bounded bodies, bounded concurrency, a deadline, and the order evaluate → record → answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use cairn_guardrails::Limits;
use cairn_node::{Active, Spool};
use cairn_schemas::config::OnUnrecordable;
use cairn_schemas::token::TokenKey;
use cairn_schemas::wire::WireError;
use tokio::sync::Semaphore;

use crate::answer::Answer;
use crate::decide::decide;
use crate::review::{BODY_LEN_MAX, Request};

/// Where the API server posts.
pub const VALIDATE_PATH: &str = "/v1/admission/validate";
/// How many requests are judged at once; more are shed with 503, and counted. Each takes a thread, and most of its time is the
/// disk's, so this is many more than there are cores.
pub const CONCURRENT_MAX: usize = 64;
/// Until when an answer must be there: well under a webhook's own time-out (10 s by default).
pub const DEADLINE: Duration = Duration::from_secs(7);
/// How long all guardrails together may take for one request.
pub const EVALUATION_TIME_MAX: Duration = Duration::from_secs(1);

/// How an admission server behaves.
#[derive(Debug, Clone)]
pub struct AdmissionConfig {
    /// What happens to a decision that cannot be recorded. [`OnUnrecordable::Refuse`]: there is none, the answer is 503 and the
    /// webhook's failure policy decides. [`OnUnrecordable::Act`]: it goes out, says that it is unrecorded, and is counted as lost.
    pub on_unrecordable: OnUnrecordable,
    /// How many requests are judged at once: [`CONCURRENT_MAX`].
    pub concurrent_max: usize,
    /// Until when an answer must be there: [`DEADLINE`].
    pub deadline: Duration,
    /// How long guardrails may take: [`EVALUATION_TIME_MAX`].
    pub evaluation_time_max: Duration,
}

impl Default for AdmissionConfig {
    fn default() -> AdmissionConfig {
        AdmissionConfig {
            on_unrecordable: OnUnrecordable::Refuse,
            concurrent_max: CONCURRENT_MAX,
            deadline: DEADLINE,
            evaluation_time_max: EVALUATION_TIME_MAX,
        }
    }
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Answers that allowed.
    pub allowed: u64,
    /// Answers that denied, those by a failed evaluation included.
    pub denied: u64,
    /// Denied because the evaluation failed.
    pub failed: u64,
    /// Not an AdmissionReview.
    pub malformed: u64,
    /// Refused unjudged: too many at once.
    pub shed: u64,
    /// Refused unjudged: no release is active.
    pub not_ready: u64,
    /// Judged, and not recorded.
    pub unrecordable: u64,
    /// Answered too late; the decision may be recorded all the same.
    pub late: u64,
}

#[derive(Default)]
struct AtomicCounters {
    allowed: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    malformed: AtomicU64,
    shed: AtomicU64,
    not_ready: AtomicU64,
    unrecordable: AtomicU64,
    late: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// An admission server. Clones are handles on the same one.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    active: Active,
    spool: Spool,
    token_key: TokenKey,
    config: AdmissionConfig,
    slots: Arc<Semaphore>,
    counters: AtomicCounters,
}

/// Why there is no decision. Not shown to users: the API server applies the webhook's failure policy.
enum NoDecision {
    NotReady,
    Unrecordable(String),
}

impl Admission {
    /// A server of this node's release, recording into its spool. `token_key` hides the users' names.
    #[must_use]
    pub fn new(active: Active, spool: Spool, token_key: TokenKey, config: AdmissionConfig) -> Admission {
        let slots = Arc::new(Semaphore::new(config.concurrent_max));
        let counters = AtomicCounters::default();
        Admission { inner: Arc::new(Inner { active, spool, token_key, config, slots, counters }) }
    }

    /// `POST /v1/admission/validate`. Answers 200 with a decision, 400 to what is no AdmissionReview, 413 to bodies beyond
    /// [`BODY_LEN_MAX`], 503 where there is no decision; errors are a [`WireError`].
    pub fn router(&self) -> Router {
        Router::new()
            .route(VALIDATE_PATH, post(validate))
            .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
            .with_state(self.clone())
    }

    /// Whether it can decide: a release is active.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.inner.active.load().is_some()
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let AtomicCounters { allowed, denied, failed, malformed, shed, not_ready, unrecordable, late } =
            &self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            allowed: read(allowed),
            denied: read(denied),
            failed: read(failed),
            malformed: read(malformed),
            shed: read(shed),
            not_ready: read(not_ready),
            unrecordable: read(unrecordable),
            late: read(late),
        }
    }
}

async fn validate(State(admission): State<Admission>, body: Result<Bytes, BytesRejection>) -> Response {
    let counters = &admission.inner.counters;
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            count(&counters.malformed);
            let status = rejection.status();
            let error = if status == StatusCode::PAYLOAD_TOO_LARGE {
                format!("the body is longer than the {BODY_LEN_MAX} bytes that an AdmissionReview may have")
            } else {
                "the body could not be read; expected an AdmissionReview".to_owned()
            };
            return refusal(status, error, None);
        }
    };
    // Taken before the body is looked at: parsing 8 MiB is work too.
    let Ok(slot) = Arc::clone(&admission.inner.slots).try_acquire_owned() else {
        count(&counters.shed);
        let error = format!("{} requests are being judged already", admission.inner.config.concurrent_max);
        return refusal(StatusCode::SERVICE_UNAVAILABLE, error, Some("try again, or run more admission servers"));
    };
    let inner = Arc::clone(&admission.inner);
    let judged = tokio::task::spawn_blocking(move || {
        let response = judge(&inner, &body);
        drop(slot);
        response
    });
    match tokio::time::timeout(admission.inner.config.deadline, judged).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be judged".to_owned(), None),
        Err(_) => {
            // The work goes on and may end in a record of a decision that nobody was told: more recorded than happened, never less.
            count(&counters.late);
            let error = format!("no decision within {:?}", admission.inner.config.deadline);
            refusal(StatusCode::SERVICE_UNAVAILABLE, error, None)
        }
    }
}

/// Judges on a thread that may block, and answers once the decision is on disk.
fn judge(inner: &Inner, body: &[u8]) -> Response {
    let counters = &inner.counters;
    let request = match Request::parse(body) {
        Ok(request) => request,
        Err(error) => {
            count(&counters.malformed);
            return refusal(StatusCode::BAD_REQUEST, error.to_string(), None);
        }
    };
    match decided(inner, &request) {
        Ok(answer) => Json(answer).into_response(),
        Err(NoDecision::NotReady) => {
            count(&counters.not_ready);
            let hint = "it answers once this node has activated a release";
            refusal(StatusCode::SERVICE_UNAVAILABLE, "no release is active on this node".to_owned(), Some(hint))
        }
        Err(NoDecision::Unrecordable(error)) => {
            count(&counters.unrecordable);
            tracing::error!(uid = request.uid, error, "a decision cannot be recorded, so there is none");
            let error = format!("the decision cannot be recorded, so there is none: {error}");
            refusal(StatusCode::SERVICE_UNAVAILABLE, error, None)
        }
    }
}

fn decided(inner: &Inner, request: &Request) -> Result<Answer, NoDecision> {
    // One release for the whole decision, whatever is activated meanwhile.
    let active = inner.active.load().ok_or(NoDecision::NotReady)?;
    let began = Instant::now();
    let limits = Limits { time: inner.config.evaluation_time_max };
    let verdict = active.policy.guardrails.evaluate_admission(&request.value, &limits);
    if let Err(error) = &verdict {
        count(&inner.counters.failed);
        tracing::error!(uid = request.uid, release = %active.reference, %error, "denied: the guardrails could not be evaluated");
    }
    let decision = decide(request, verdict, began.elapsed(), &inner.token_key);

    // Durable before the answer leaves.
    let recorded = match inner.spool.record(decision.draft(active.reference)) {
        Ok(recorded) => Some(recorded),
        Err(error) => match inner.config.on_unrecordable {
            OnUnrecordable::Refuse => return Err(NoDecision::Unrecordable(error.to_string())),
            OnUnrecordable::Act => {
                count(&inner.counters.unrecordable);
                tracing::error!(uid = request.uid, %error, "a decision goes out unrecorded, as configured");
                None
            }
        },
    };
    count(if decision.data.allowed { &inner.counters.allowed } else { &inner.counters.denied });
    Ok(Answer::new(decision, active.reference, recorded))
}

fn refusal(status: StatusCode, error: String, hint: Option<&str>) -> Response {
    (status, Json(WireError { error, hint: hint.map(str::to_owned) })).into_response()
}

#[cfg(test)]
mod tests;
