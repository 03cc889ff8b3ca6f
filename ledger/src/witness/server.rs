//! A witness over HTTP: `POST /add-checkpoint`, and `GET /<hex of SHA-256(origin)>/checkpoint` for monitors.
//!
//! The router has limits of its own, on bodies, on what is worked on at once, and on how often it is asked; limits on connections
//! are the listener's. Nothing is believed for where it comes from: a request is as good as the log's signature in it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use cairn_schemas::digest::Digest;
use cairn_schemas::time::Clock;
use tokio::sync::Semaphore;

use super::request::{REQUEST_LEN_MAX, SIZE_CONTENT_TYPE};
use super::{Answer, Refusal, Witness};
use crate::cosignature::CosignTime;

/// Most requests that are worked on at once: each may wait for a disk.
pub const WORKING_MAX: usize = 64;
/// Most requests in a second, over a while. A log asks once a second.
pub const RATE_MAX: u32 = 200;
/// Most requests at once above the rate.
pub const BURST_MAX: u32 = 400;

const TEXT: &str = "text/plain; charset=utf-8";

struct Served {
    witness: Arc<Witness>,
    clock: Arc<dyn Clock>,
    working: Semaphore,
    rate: Mutex<Rate>,
}

/// A bucket of requests that fills at [`RATE_MAX`] a second.
struct Rate {
    left: f64,
    at: Instant,
}

impl Rate {
    fn take(&mut self, now: Instant) -> bool {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(RATE_MAX);
        self.left = (self.left + more).min(f64::from(BURST_MAX));
        self.at = now;
        let there = self.left >= 1.0;
        if there {
            self.left -= 1.0;
        }
        there
    }
}

/// The witness's routes; submission prefix and monitoring prefix are the same.
pub fn router(witness: Arc<Witness>, clock: Arc<dyn Clock>) -> Router {
    let rate = Mutex::new(Rate { left: f64::from(BURST_MAX), at: Instant::now() });
    let served = Arc::new(Served { witness, clock, working: Semaphore::new(WORKING_MAX), rate });
    Router::new()
        .route("/", get(keys))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin}/checkpoint", get(newest))
        .with_state(served)
}

/// The public keys, one a line: what somebody needs for a policy.
async fn keys(State(served): State<Arc<Served>>) -> Response {
    let keys: String = served.witness.keys().map(|key| format!("{key}\n")).collect();
    text(StatusCode::OK, keys)
}

async fn add_checkpoint(State(served): State<Arc<Served>>, request: Request) -> Response {
    let is_due = served.rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
    if !is_due {
        let mut response =
            text(StatusCode::TOO_MANY_REQUESTS, "more requests than this witness takes; ask again\n".into());
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        return response;
    }
    let Ok(body) = to_bytes(request.into_body(), REQUEST_LEN_MAX).await else {
        let said = format!("the request did not arrive, or is longer than {REQUEST_LEN_MAX} bytes\n");
        return text(StatusCode::PAYLOAD_TOO_LARGE, said);
    };
    // Waiting here holds a body of a bounded size; connections are bounded.
    let Ok(_permit) = served.working.acquire().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "this witness is ending\n".into());
    };
    let work = {
        let served = Arc::clone(&served);
        tokio::task::spawn_blocking(move || decide(&served, &body))
    };
    work.await.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "the witness failed\n".into()))
}

fn decide(served: &Served, body: &Bytes) -> Response {
    let now = CosignTime(served.clock.now().nanos() / 1_000_000_000);
    let answer = served.witness.add_checkpoint(body, now);
    let origin = origin_of(body);
    match answer {
        Answer::Cosigned(lines) => {
            tracing::info!(origin, status = 200, "cosigned");
            text(StatusCode::OK, lines)
        }
        Answer::Conflict(size) => {
            tracing::info!(origin, status = 409, known = size.0, "the size is another");
            let mut response = (StatusCode::CONFLICT, format!("{size}\n")).into_response();
            let value = header::HeaderValue::from_static(SIZE_CONTENT_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, value);
            response
        }
        Answer::Refused(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match &refusal {
                Refusal::Storage(_) => tracing::error!(origin, status = status.as_u16(), %refusal, "not cosigned"),
                Refusal::Proof(_) => tracing::warn!(origin, status = status.as_u16(), %refusal, "not cosigned"),
                _ => tracing::info!(origin, status = status.as_u16(), %refusal, "not cosigned"),
            }
            // What lies on its disk is nobody's business.
            let said = match refusal {
                Refusal::Storage(_) => "the witness cannot keep the checkpoint\n".to_owned(),
                refusal => format!("{refusal}\n"),
            };
            text(status, said)
        }
    }
}

/// For the log: what the request says it is about.
fn origin_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4_096)]);
    let origin = text.split_once("\n\n").and_then(|(_, note)| note.lines().next()).unwrap_or_default();
    origin.chars().filter(|c| !c.is_control()).take(80).collect()
}

async fn newest(State(served): State<Arc<Served>>, Path(origin): Path<String>) -> Response {
    let Ok(origin) = origin.parse::<Digest>() else {
        return text(StatusCode::NOT_FOUND, "expected the SHA-256 of an origin in hexadecimal\n".into());
    };
    let witness = Arc::clone(&served.witness);
    match tokio::task::spawn_blocking(move || witness.newest(&origin)).await {
        Ok(Ok(Some(checkpoint))) => {
            let mut response = (StatusCode::OK, Body::from(checkpoint)).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(TEXT));
            headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
            response
        }
        Ok(Ok(None)) => text(StatusCode::NOT_FOUND, "this witness has cosigned nothing of that log\n".into()),
        _ => text(StatusCode::INTERNAL_SERVER_ERROR, "the witness cannot read what it has\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_rate_allows_a_burst_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut rate = Rate { left: f64::from(BURST_MAX), at: start };
        let taken = |rate: &mut Rate, at| (0..10_000).take_while(|_| rate.take(at)).count();
        assert_eq!(taken(&mut rate, start), BURST_MAX as usize);
        assert_eq!(taken(&mut rate, start + Duration::from_millis(500)), RATE_MAX as usize / 2);
        assert_eq!(taken(&mut rate, start + Duration::from_secs(3_600)), BURST_MAX as usize);
    }
}
