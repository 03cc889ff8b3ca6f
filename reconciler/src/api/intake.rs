//! Events from outside come in: see [`crate::intake`].
//!
//! Who asks is known before anything of the body is looked at. An answer of 200 means that all of it is done; any other means that the
//! sender may, or with `Retry-After` should, send the same again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Api, Refused};
use crate::intake::{Busy, Intake, Sender, TakeError, Taken, gunzip};
use crate::step::one_line;

/// How long a sender waits that found no turn.
const TURN_WAIT: Duration = Duration::from_secs(1);
/// How long one waits for what is not its fault.
const TROUBLE_WAIT: Duration = Duration::from_secs(5);
/// What GitHub says of a webhook in headers, and where its source looks for it.
const GITHUB_HEADERS: [(&str, &str); 2] =
    [("x-github-event", "webhook_type"), ("x-github-delivery", "webhook_delivery")];
/// Longest of them, and of Okta's challenge, bytes.
const HEADER_LEN_MAX: usize = 512;

pub(super) async fn take(
    State(api): State<Arc<Api>>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Taken>, Refused> {
    let sender = sender(&api.intake, &headers, &source)?;
    if api.stopping.load(Ordering::SeqCst) {
        return Err(Refused::trouble("the control plane stops").retry_after(TROUBLE_WAIT));
    }
    let turn = api.intake.turn(sender).map_err(refuse_busy)?;
    let body = body.map_err(|error| {
        api.intake.note_malformed(sender, 0);
        Refused::new(error.status(), format!("the body was not read: {}", error.body_text()), None)
    })?;
    let is_packed = packed(&headers).inspect_err(|_| api.intake.note_malformed(sender, body.len()))?;
    let members = members(&headers, &source);
    let (shared, name) = (Arc::clone(&api), sender.name().to_owned());
    let work = move || {
        let sender = shared.intake.sender(&name).ok_or_else(Refused::unknown_credential)?;
        // Given back when the body is done with, also when its sender is gone by then.
        let _turn = turn;
        let plain = if is_packed {
            let unpacked = gunzip(&body).inspect_err(|_| shared.intake.note_malformed(sender, body.len()));
            unpacked.map_err(|error| refuse(&error.into()))?
        } else {
            body.to_vec()
        };
        shared.intake.take(sender, plain, members).map_err(|error| refuse(&error))
    };
    let taken = tokio::task::spawn_blocking(work).await;
    taken.map_err(|_| Refused::trouble("the control plane could not do it").retry_after(TROUBLE_WAIT))?.map(Json)
}

/// What came from this sender so far. Okta asks this way whether somebody is there who expects it.
pub(super) async fn counts(
    State(api): State<Arc<Api>>,
    Path(source): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let sender = sender(&api.intake, &headers, &source)?;
    if let Some(challenge) = text(&headers, "x-okta-verification-challenge") {
        return Ok(Json(json!({ "verification": challenge })).into_response());
    }
    Ok(Json(sender.counts()).into_response())
}

/// Who asks, if it may send this.
fn sender<'a>(intake: &'a Intake, headers: &HeaderMap, source: &str) -> Result<&'a Sender, Refused> {
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let found = match sent.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) => intake.authenticate(token.trim()),
        None => {
            intake.note_unknown();
            None
        }
    };
    let sender = found.ok_or_else(|| {
        let hint =
            "send `authorization: Bearer <token>` with a token whose SHA-256 stands in fleet.yaml under `intake`";
        Refused::new(StatusCode::UNAUTHORIZED, "no known token", Some(hint))
    })?;
    if sender.source() != source {
        let source: String = source.chars().take(80).collect();
        let error = format!("intake {} sends {}, not {}", sender.name(), sender.source(), source.escape_debug());
        return Err(Refused::new(StatusCode::FORBIDDEN, error, Some("each sender has one source in fleet.yaml")));
    }
    Ok(sender)
}

fn packed(headers: &HeaderMap) -> Result<bool, Refused> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match (encodings.next().map(|encoding| encoding.as_bytes().to_ascii_lowercase()), encodings.next()) {
        (None, _) => Ok(false),
        (Some(encoding), None) if encoding == b"identity" => Ok(false),
        (Some(encoding), None) if encoding == b"gzip" || encoding == b"x-gzip" => Ok(true),
        _ => {
            let error = "the body has a `content-encoding` that is not taken";
            Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error, Some("send it plain, or as gzip")))
        }
    }
}

/// What a source says in headers, and its fields look for in the document.
fn members(headers: &HeaderMap, source: &str) -> BTreeMap<String, String> {
    let of = |(header, member): &(&str, &str)| Some(((*member).to_owned(), text(headers, header)?));
    if source == "github" { GITHUB_HEADERS.iter().filter_map(of).collect() } else { BTreeMap::new() }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    (text.len() <= HEADER_LEN_MAX).then(|| text.to_owned())
}

fn refuse_busy(busy: Busy) -> Refused {
    match busy {
        Busy::Rate(wait) => {
            let hint = "send less, or raise `events_per_second` in fleet.yaml";
            let refused =
                Refused::new(StatusCode::TOO_MANY_REQUESTS, "more events than this sender may send", Some(hint));
            refused.retry_after(wait)
        }
        Busy::Turns => Refused::trouble("too many bodies wait already").retry_after(TURN_WAIT),
    }
}

fn refuse(error: &TakeError) -> Refused {
    let words = one_line(error);
    match error {
        TakeError::Body(body) if body.is_size() => {
            Refused::new(StatusCode::PAYLOAD_TOO_LARGE, words, Some("send fewer events at once"))
        }
        TakeError::Body(_) => Refused::new(StatusCode::BAD_REQUEST, words, Some("nothing of it was taken in")),
        TakeError::Source(_) => {
            let hint = "declare it with `cairn_source` in the policy, or correct `source` in fleet.yaml";
            Refused::new(StatusCode::UNPROCESSABLE_ENTITY, words, Some(hint))
        }
        _ => Refused::trouble(words).retry_after(TROUBLE_WAIT),
    }
}
