//! Requests to witnesses over HTTP and HTTPS. Calls block; whoever makes them has a thread for it.
//!
//! Answers and times are bounded, and nobody is followed elsewhere: a redirect is an answer as any other that is not 200.

use std::io::Read as _;
use std::time::Duration;

use ureq::Agent;

use super::client::{Reply, Transport, TransportError};
use super::request::ANSWER_LEN_MAX;
use super::tls::{Authorities, explain};

/// How long a connection may take to stand.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request may take as a whole.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The transport. Connections are kept and used again.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    agent: Agent,
}

impl Default for HttpTransport {
    fn default() -> HttpTransport {
        HttpTransport::new(CALL_TIMEOUT)
    }
}

impl HttpTransport {
    /// A transport whose calls end after `timeout`, whatever the other side does. Certificates are by the machine's authorities.
    #[must_use]
    pub fn new(timeout: Duration) -> HttpTransport {
        HttpTransport::trusting(&Authorities::default(), timeout)
    }

    /// [`HttpTransport::new`] that takes certificates by `authorities` too.
    #[must_use]
    pub fn trusting(authorities: &Authorities, timeout: Duration) -> HttpTransport {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .timeout_global(Some(timeout))
            .tls_config(authorities.tls_config())
            .user_agent(concat!("cairn-ledger/", env!("CARGO_PKG_VERSION")));
        HttpTransport { agent: config.build().new_agent() }
    }

    /// `GET url`, at most `limit` bytes; `None` for 404.
    ///
    /// # Errors
    /// [`TransportError`].
    pub fn get(&self, url: &str, limit: usize) -> Result<Option<Vec<u8>>, TransportError> {
        let reply = read(url, self.agent.get(url).call(), limit)?;
        match reply.status {
            200 => Ok(Some(reply.body)),
            404 => Ok(None),
            status => Err(TransportError(format!("{url} answers {status}"))),
        }
    }
}

impl Transport for HttpTransport {
    fn post(&self, url: &str, body: &[u8]) -> Result<Reply, TransportError> {
        let request = self.agent.post(url).header("content-type", "text/plain; charset=utf-8");
        read(url, request.send(body), ANSWER_LEN_MAX)
    }
}

fn read(
    url: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    limit: usize,
) -> Result<Reply, TransportError> {
    let failed = |error: &ureq::Error| TransportError(explain(url, error));
    let mut response = response.map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let header = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = header.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let mut body = Vec::new();
    let reader = response.body_mut().as_reader();
    reader.take(limit as u64 + 1).read_to_end(&mut body).map_err(|error| failed(&ureq::Error::Io(error)))?;
    if body.len() > limit {
        return Err(TransportError(format!("the answer is longer than {limit} bytes")));
    }
    Ok(Reply { status, content_type, body })
}

#[cfg(test)]
#[cfg(feature = "witness-server")]
mod tests;
