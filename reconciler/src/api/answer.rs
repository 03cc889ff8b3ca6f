//! Answers that are not a success.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_schemas::wire::{AppendRefused, WireError};
use serde::Serialize;

/// A refusal: a status, what went wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    status: StatusCode,
    body: Box<Body>,
    /// Seconds after which to come again.
    retry_after: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Body {
    #[serde(flatten)]
    error: WireError,
    /// How far an append came.
    #[serde(flatten)]
    append: Option<AppendRefused>,
}

impl Refused {
    /// A refusal with these words.
    #[must_use]
    pub fn new(status: StatusCode, error: impl Into<String>, hint: Option<&str>) -> Refused {
        let error = WireError { error: error.into(), hint: hint.map(str::to_owned) };
        Refused { status, body: Box::new(Body { error, append: None }), retry_after: None }
    }

    /// With how far an append came.
    pub(super) fn append(mut self, append: AppendRefused) -> Refused {
        self.body.append = Some(append);
        self
    }

    /// With when to come again: in whole seconds, one at least.
    pub(super) fn retry_after(mut self, time: Duration) -> Refused {
        self.retry_after = Some(time.as_millis().div_ceil(1_000).max(1).try_into().unwrap_or(u64::MAX));
        self
    }

    /// For what is not as it must be.
    pub(super) fn bad(error: impl Into<String>) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, error, None)
    }

    /// For whom nobody knows.
    pub(super) fn unknown_credential() -> Refused {
        let hint = "send `authorization: Bearer <credential>` with the credential that the join gave";
        Refused::new(StatusCode::UNAUTHORIZED, "no known credential", Some(hint))
    }

    /// For what is the control plane's own trouble, and may be asked again.
    pub(super) fn trouble(error: impl Into<String>) -> Refused {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, error, Some("ask again"))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The fallback for a path that nothing serves.
pub async fn not_found(uri: axum::http::Uri) -> Refused {
    let path: String = uri.path().chars().take(120).collect();
    Refused::new(StatusCode::NOT_FOUND, format!("nothing is served at {path}"), None)
}
