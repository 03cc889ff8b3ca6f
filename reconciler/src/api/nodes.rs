//! What nodes ask: to join, what to run, where their stream stands, to take records.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use cairn_ledger::writer::{AppendError, Appended, Refusal, RejectedRecord};
use cairn_schemas::data::NodeJoined;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, ReleaseRef, StreamId};
use cairn_schemas::outline::Outline;
use cairn_schemas::record::Draft;
use cairn_schemas::wire::{
    APPEND_RECORDS_MAX, AppendAnswer, AppendRefused, Desired, JoinRequest, JoinResponse, RejectedLine, StreamPosition,
    WAIT_SECONDS_MAX,
};
use serde::Deserialize;

use super::{Api, Refused};
use crate::joins::{Admitted, JoinError};
use crate::offer;
use crate::step::one_line;

/// Longest body whose records are read on a thread of the runtime, bytes: tens of microseconds.
const READ_HERE_MAX: usize = 32 << 10;
/// How long a join waits for its own record to be seen.
const FOLD_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn join(
    State(api): State<Arc<Api>>,
    request: Result<Json<JoinRequest>, JsonRejection>,
) -> Result<Json<JoinResponse>, Refused> {
    let Json(request) = request
        .map_err(|error| Refused::new(error.status(), format!("not a join request: {}", error.body_text()), None))?;
    let answer = blocking({
        let api = Arc::clone(&api);
        move || join_now(&api, &request)
    });
    answer.await?.map(|admitted| {
        let pins = api.joins.pins().clone();
        Json(JoinResponse { node: admitted.node, credential: admitted.credential, pins })
    })
}

/// One join at a time: the same node asking twice at once must not be recorded twice.
fn join_now(api: &Api, request: &JoinRequest) -> Result<Admitted, Refused> {
    let _one = api.joining.lock().unwrap_or_else(PoisonError::into_inner);
    let admitted = api.joins.admit(request).map_err(refuse_join)?;
    if api.live.read().nodes().contains_key(&admitted.node) {
        return Ok(admitted);
    }
    let joined = NodeJoined {
        node: admitted.node.clone(),
        kind: request.kind,
        key: request.key.clone(),
        labels: request.labels.clone(),
        protocol: request.protocol.clone(),
    };
    let draft = Draft::new(&joined).subject(admitted.node.as_str());
    let recorded = api.control.append(vec![draft]).map_err(|error| Refused::trouble(one_line(&error)))?;
    // Its next request must find it known; and a repeat of this one must not record it again.
    if !api.live.wait_for(recorded.place, FOLD_PATIENCE) {
        return Err(Refused::trouble("the join is recorded and not yet seen"));
    }
    Ok(admitted)
}

fn refuse_join(error: JoinError) -> Refused {
    let (status, hint) = match &error {
        JoinError::Unknown => (StatusCode::UNAUTHORIZED, Some("make a new token on the control plane")),
        JoinError::Used { .. } => (StatusCode::FORBIDDEN, Some("a token admits one node: make a new one")),
        JoinError::WrongKind { .. } => (StatusCode::FORBIDDEN, Some("make a token for this kind of node")),
        JoinError::Protocol { .. } => {
            (StatusCode::BAD_REQUEST, Some("use a node of the same or the minor version before"))
        }
        JoinError::Disk(_) | JoinError::NotReadable { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some("ask again")),
        _ => (StatusCode::BAD_REQUEST, None),
    };
    Refused::new(status, one_line(&error), hint)
}

/// `?have=<release>&wait=<seconds>`.
#[derive(Debug, Deserialize)]
pub(super) struct DesiredQuery {
    have: Option<String>,
    wait: Option<u64>,
}

pub(super) async fn desired(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    query: Result<Query<DesiredQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Desired>, Refused> {
    let node = authenticate(&api, &headers)?;
    let Query(query) = query.map_err(|error| Refused::bad(error.body_text()))?;
    let have: Option<ReleaseRef> = query
        .have
        .map(|text| text.parse())
        .transpose()
        .map_err(|error: cairn_schemas::ids::NotAnId| Refused::bad(format!("`have` of the query: {error}")))?;
    let wait = query.wait.unwrap_or(0);
    if wait > WAIT_SECONDS_MAX {
        return Err(Refused::bad(format!("`wait` of the query is {wait} s; at most {WAIT_SECONDS_MAX} are waited")));
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(wait);
    let mut settled = api.live.watch();
    loop {
        // Marked as seen before the look: what settles after the look wakes the wait.
        settled.mark_unchanged();
        let now = offer::desired(&api.live.read(), api.configs.as_ref(), &node, have);
        let news = now.release.is_some() && now.release != have;
        if news || api.stopping.load(Ordering::SeqCst) {
            return Ok(Json(now));
        }
        match tokio::time::timeout_at(deadline, settled.changed()).await {
            Ok(Ok(())) => {}
            // Time is up, or the control plane is gone.
            Err(_) | Ok(Err(_)) => return Ok(Json(now)),
        }
    }
}

pub(super) async fn position(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(stream): Path<String>,
) -> Result<Json<StreamPosition>, Refused> {
    let stream = own_stream(&api, &headers, &stream)?;
    let found = api.ledger.position(&stream);
    let digest = found.as_ref().map_or(Digest::ZERO, |position| position.leaf);
    Ok(Json(StreamPosition { sequence: found.map(|position| position.sequence), digest }))
}

pub(super) async fn append(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(stream): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AppendAnswer>, Refused> {
    let stream = own_stream(&api, &headers, &stream)?;
    let body = body.map_err(|error| {
        let status = error.status();
        let hint = "send fewer records at once";
        Refused::new(status, format!("the records were not read: {}", error.body_text()), Some(hint))
    })?;
    // Held until the records are durable. Who waits here has not yet been promised anything.
    let _turn = api.appends.acquire().await.map_err(|_| Refused::trouble("the control plane stops"))?;
    let submit = {
        let (ledger, body) = (api.ledger.clone(), body.clone());
        move || lines(&body).map(|records| ledger.submit(&stream, records.into_iter()))
    };
    // Few records are read sooner than a thread is woken; many would keep this one from everybody else.
    let pending = if body.len() <= READ_HERE_MAX { submit() } else { blocking(submit).await? };
    let appended = pending?.await.map_err(|error| refuse_append(&error, &body))?;
    Ok(Json(answer(appended)))
}

fn answer(appended: Appended) -> AppendAnswer {
    let Appended { sequence, volume, index, rejected, .. } = appended;
    let line = |rejected: RejectedRecord| RejectedLine {
        line: rejected.position as u64 + 1,
        index: rejected.index,
        reason: rejected.reason,
    };
    AppendAnswer { sequence, volume, index, rejected: rejected.into_iter().map(line).collect() }
}

/// How far an append came that ended at a record: the first line of the body that is not among what was taken.
fn how_far(taken: Option<Appended>, body: &[u8]) -> AppendRefused {
    let last = taken.as_ref().map(|taken| taken.sequence);
    let was_taken = |line: &&[u8]| {
        let sequence = Outline::read(line).ok().map(|record| record.sequence);
        // One that does not say its sequence was replaced, if it stood among those.
        last.is_some_and(|last| sequence.is_none_or(|sequence| sequence <= last))
    };
    let before = body.split(|byte| *byte == b'\n').take_while(was_taken).count();
    AppendRefused { line: before as u64 + 1, taken: taken.map(answer) }
}

/// The records of a body, one per line.
fn lines(body: &[u8]) -> Result<Vec<&[u8]>, Refused> {
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    if body.is_empty() {
        return Err(Refused::bad("the body holds no record: expected one record per line"));
    }
    let records: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    if records.len() > APPEND_RECORDS_MAX {
        let error = format!("{} records in one request; at most {APPEND_RECORDS_MAX} are taken", records.len());
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, error, Some("send fewer records at once")));
    }
    Ok(records)
}

/// The stream of the path, if it is one of the node that asks.
fn own_stream(api: &Api, headers: &HeaderMap, stream: &str) -> Result<StreamId, Refused> {
    let node = authenticate(api, headers)?;
    let stream: StreamId =
        stream.parse().map_err(|error: cairn_schemas::ids::NotAnId| Refused::bad(error.to_string()))?;
    if stream.node().as_ref() != Some(&node) {
        let error = format!("stream {stream} is not one of {node}");
        return Err(Refused::new(StatusCode::FORBIDDEN, error, Some("a node writes and reads its own streams only")));
    }
    Ok(stream)
}

fn authenticate(api: &Api, headers: &HeaderMap) -> Result<NodeId, Refused> {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credential = sent.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(Refused::unknown_credential)?;
    api.joins.authenticate(credential.trim()).ok_or_else(Refused::unknown_credential)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refused::trouble("the control plane could not do it"))
}

fn refuse_append(error: &AppendError, body: &[u8]) -> Refused {
    let (status, hint) = match error {
        AppendError::Refused { refusal, .. } => match refusal {
            Refusal::NotJoined { .. } | Refusal::OwnStream => (StatusCode::FORBIDDEN, None),
            Refusal::Forked { .. } => (
                StatusCode::CONFLICT,
                Some("two producers share this stream, or its spool was restored: open a new stream"),
            ),
            Refusal::PassedOver { .. } => {
                (StatusCode::CONFLICT, Some("ask where the stream stands, and go on from there"))
            }
            _ => (StatusCode::UNPROCESSABLE_ENTITY, None),
        },
        AppendError::TooMany { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Some("send fewer records at once")),
        AppendError::Empty => (StatusCode::BAD_REQUEST, None),
        AppendError::Full { .. } => {
            (StatusCode::INSUFFICIENT_STORAGE, Some("make room on the ledger's disk; keep the records"))
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, Some("keep the records and ask again")),
    };
    let refused = Refused::new(status, one_line(error), hint);
    match error {
        AppendError::Refused { taken, .. } | AppendError::Full { taken, .. } => {
            refused.append(how_far(taken.as_deref().cloned(), body))
        }
        _ => refused,
    }
}
