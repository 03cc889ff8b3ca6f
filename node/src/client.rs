//! The node's side of the wire: one request, one typed answer.
//!
//! HTTP or HTTPS, as the URL says; `cairn up` itself is plain HTTP on loopback only. Nothing that comes back is trusted here; bodies are
//! bounded, and whoever asked checks what they say. Calls block; they run on the node's own threads.

use std::io::Read as _;
use std::time::Duration;

use cairn_ledger::tile::{TileId, decode_hashes};
use cairn_ledger::witness::tls::{Authorities, explain};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Serial, StreamId};
use cairn_schemas::wire::{AppendAnswer, Desired, JoinRequest, JoinResponse, StreamPosition, WireError};
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::compare::{CHECKPOINT_LEN_MAX, Peers};

/// How long a connection may take to stand.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take, long polls' waits not counted.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest tile of hashes, bytes.
pub const TILE_LEN_MAX: u64 = 8_192;
/// Largest JSON answer, bytes.
pub const ANSWER_LEN_MAX: u64 = 256 * 1024;

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answered, or the connection broke.
    #[error("no answer from {url}: {}", explain(.url, .source))]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The transport's word; the text has it in ours.
        source: Box<ureq::Error>,
    },
    /// The control plane said no.
    #[error("{url} answered {status}: {error}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        error: String,
        /// Its hint.
        hint: Option<String>,
    },
    /// The answer is not what the protocol says.
    #[error("the answer of {url} makes no sense: {reason}")]
    Unreadable {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The answer is longer than it may be.
    #[error("the answer of {url} is longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The limit, bytes.
        limit: u64,
    },
}

impl ClientError {
    /// The HTTP status, where there was an answer that refused.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A control plane, and the credential shown to it.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    credential: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    /// A client of the control plane at `base`, such as `http://127.0.0.1:8700`.
    #[must_use]
    pub fn new(base: &str) -> Client {
        Client::trusting(base, &Authorities::default())
    }

    /// [`Client::new`] that takes certificates of `https://` by `authorities` beside those of the machine's.
    #[must_use]
    pub fn trusting(base: &str, authorities: &Authorities) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(CALL_TIMEOUT))
            .tls_config(authorities.tls_config())
            .user_agent(concat!("cairn-node/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { agent: config.new_agent(), base: base.trim_end_matches('/').to_owned(), credential: None }
    }

    /// The same control plane, with a credential shown.
    #[must_use]
    pub fn with_credential(mut self, credential: &str) -> Client {
        self.credential = Some(credential.to_owned());
        self
    }

    /// `POST /v1/nodes/join`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn join(&self, request: &JoinRequest) -> Result<JoinResponse, ClientError> {
        let body = serde_json::to_vec(request).expect("invariant: join requests have text keys");
        self.post("/v1/nodes/join", "application/json", &body)
    }

    /// `GET /v1/nodes/desired`: waits up to `wait` for something else than `have`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn desired(&self, have: Option<ReleaseRef>, wait: Duration) -> Result<Desired, ClientError> {
        let url = format!("{}/v1/nodes/desired", self.base);
        let mut request = self.agent.get(&url).query("wait", wait.as_secs().to_string());
        if let Some(have) = have {
            request = request.query("have", have.to_string());
        }
        if let Some(credential) = &self.credential {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        let response = request.config().timeout_global(Some(CALL_TIMEOUT + wait)).build().call();
        json(&url, response)
    }

    /// `GET /v1/nodes/streams/<id>`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn position(&self, stream: &StreamId) -> Result<StreamPosition, ClientError> {
        let url = format!("{}/v1/nodes/streams/{stream}", self.base);
        json(&url, self.get(&url))
    }

    /// `POST /v1/nodes/streams/<id>`: consecutive records, one per line.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn append(&self, stream: &StreamId, records: &[Vec<u8>]) -> Result<AppendAnswer, ClientError> {
        let mut body = Vec::with_capacity(records.iter().map(|record| record.len() + 1).sum());
        for record in records {
            // Canonical JSON holds no line feed, so lines are records.
            body.extend_from_slice(record);
            body.push(b'\n');
        }
        self.post(&format!("/v1/nodes/streams/{stream}"), "application/x-ndjson", &body)
    }

    /// `GET /ledger/checkpoint`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn checkpoint(&self) -> Result<Vec<u8>, ClientError> {
        let url = format!("{}/ledger/checkpoint", self.base);
        bytes(&url, self.get(&url), ANSWER_LEN_MAX)
    }

    /// The newest checkpoint of a volume; `None` where the control plane has no such volume.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn checkpoint_of(&self, volume: u64) -> Result<Option<Vec<u8>>, ClientError> {
        let url = format!("{}/ledger/{}", self.base, cairn_ledger::volume::path(volume, "checkpoint"));
        match bytes(&url, self.get(&url), ANSWER_LEN_MAX) {
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            answered => answered.map(Some),
        }
    }

    /// `GET /ledger/endorsements`: what the root said about the ledger's keys, as far as the control plane knows.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn endorsements(&self) -> Result<Vec<String>, ClientError> {
        let url = format!("{}/ledger/endorsements", self.base);
        json(&url, self.get(&url))
    }

    /// `GET /ledger/releases/<serial>/<file>`, at most `limit` bytes.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn release_file(&self, serial: Serial, file: &str, limit: u64) -> Result<Vec<u8>, ClientError> {
        let url = format!("{}/ledger/releases/{serial}/{file}", self.base);
        bytes(&url, self.get(&url), limit)
    }

    /// `GET /ledger/tile/…`: a tile of hashes. Of a partial one that is gone the first hashes of the full one.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn tile(&self, tile: TileId) -> Result<Vec<Digest>, ClientError> {
        self.tile_of(1, tile)
    }

    /// [`Client::tile`] of a volume.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub fn tile_of(&self, volume: u64, tile: TileId) -> Result<Vec<Digest>, ClientError> {
        let fetch = |tile: TileId| {
            let url = format!("{}/ledger/{}", self.base, cairn_ledger::volume::path(volume, &tile.to_string()));
            let bytes = bytes(&url, self.get(&url), TILE_LEN_MAX)?;
            decode_hashes(tile, &bytes).map_err(|error| ClientError::Unreadable { url, reason: error.to_string() })
        };
        match fetch(tile) {
            Err(ClientError::Refused { status: 404, .. }) if tile.is_partial() => {
                let mut hashes = fetch(tile.to_full())?;
                hashes.truncate(usize::from(tile.width()));
                Ok(hashes)
            }
            fetched => fetched,
        }
    }

    fn get(&self, url: &str) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(url);
        if let Some(credential) = &self.credential {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        request.call()
    }

    fn post<T: DeserializeOwned>(&self, path: &str, content_type: &str, body: &[u8]) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.post(&url).header("content-type", content_type);
        if let Some(credential) = &self.credential {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        json(&url, request.send(body))
    }
}

impl Peers for Client {
    fn witness_checkpoint(&self, url: &str) -> Result<Option<Vec<u8>>, String> {
        // A witness is nobody to show a credential to.
        match bytes(url, self.agent.get(url).call(), CHECKPOINT_LEN_MAX as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn tile(&self, tile: TileId) -> Result<Vec<Digest>, String> {
        Client::tile(self, tile).map_err(|error| error.to_string())
    }
}

fn json<T: DeserializeOwned>(url: &str, response: Result<Response<Body>, ureq::Error>) -> Result<T, ClientError> {
    let body = bytes(url, response, ANSWER_LEN_MAX)?;
    serde_json::from_slice(&body)
        .map_err(|error| ClientError::Unreadable { url: url.to_owned(), reason: error.to_string() })
}

fn bytes(url: &str, response: Result<Response<Body>, ureq::Error>, limit: u64) -> Result<Vec<u8>, ClientError> {
    let unreachable = |source: ureq::Error| ClientError::Unreachable { url: url.to_owned(), source: Box::new(source) };
    let mut response = response.map_err(unreachable)?;
    let status = response.status().as_u16();
    let limit_here = if (200..300).contains(&status) { limit } else { ANSWER_LEN_MAX };
    let mut body = Vec::new();
    response
        .body_mut()
        .as_reader()
        .take(limit_here + 1)
        .read_to_end(&mut body)
        .map_err(|error| unreachable(ureq::Error::Io(error)))?;
    if body.len() as u64 > limit_here {
        return Err(ClientError::TooLong { url: url.to_owned(), limit: limit_here });
    }
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let said = serde_json::from_slice::<WireError>(&body).unwrap_or_else(|_| WireError {
        error: String::from_utf8_lossy(&body).chars().take(200).collect::<String>().escape_debug().to_string(),
        hint: None,
    });
    Err(ClientError::Refused { url: url.to_owned(), status, error: said.error, hint: said.hint })
}
