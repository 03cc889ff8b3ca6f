//! Who may ask a server on loopback: programs of this machine, not web pages that a browser on it shows.
//!
//! A page cannot read what another origin answers, unless its own name resolves to 127.0.0.1 (DNS rebinding); and it can send
//! what it cannot read the answer of. So a request must be for a loopback host, and one that changes something must not come from
//! another origin.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, Request, StatusCode, header};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) status: StatusCode,
    pub(super) error: String,
    pub(super) hint: &'static str,
}

/// Whether a request may go on.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Stopped> {
    let headers = request.headers();
    let host = one(headers, header::HOST.as_str()).ok_or_else(|| Stopped {
        status: StatusCode::BAD_REQUEST,
        error: "the request names no host, or several".to_owned(),
        hint: "send one `host` header",
    })?;
    // A proxy's form of request names the host twice, and this one wins.
    let target = request.uri().authority().map_or(host, axum::http::uri::Authority::as_str);
    if let Some(foreign) = [host, target].into_iter().find(|host| !is_loopback(host)) {
        let foreign: String = foreign.chars().take(120).collect();
        return Err(Stopped {
            status: StatusCode::MISDIRECTED_REQUEST,
            error: format!("this server is not {}", foreign.escape_debug()),
            hint: "it answers on this machine only: use the address that `cairn up` printed, or http://localhost:PORT",
        });
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !reads && from_another_origin(headers, host) {
        return Err(Stopped {
            status: StatusCode::FORBIDDEN,
            error: "the request comes from a page of another origin".to_owned(),
            hint: "use a program, not a browser",
        });
    }
    Ok(())
}

/// A header that is there once, as text.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// `localhost`, `127.0.0.1`, `[::1]`, each with a port or none.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address, port),
            None => return false,
        },
        None => match host.split_once(':') {
            Some((name, _)) => (name, &host[name.len()..]),
            None => (host, ""),
        },
    };
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok());
    let is_v6 = host.starts_with('[');
    let loopback = match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() && address.is_ipv6() == is_v6,
        Err(_) => !is_v6 && name.eq_ignore_ascii_case("localhost"),
    };
    port_fits && loopback
}

/// Browsers say where a request comes from; programs do not.
fn from_another_origin(headers: &HeaderMap, host: &str) -> bool {
    if headers.contains_key("sec-fetch-site") {
        return !matches!(one(headers, "sec-fetch-site"), Some("same-origin" | "none"));
    }
    if headers.contains_key(header::ORIGIN) {
        return one(headers, header::ORIGIN.as_str()).and_then(|origin| origin.strip_prefix("http://")) != Some(host);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).map_or_else(|stopped| stopped.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_loopback_hosts_are_answered() {
        for host in ["127.0.0.1", "127.0.0.1:8321", "127.1.2.3:1", "localhost", "LocalHost:8321", "[::1]", "[::1]:8321"]
        {
            assert_eq!(status("GET", "/", &[("host", host)]), 200, "{host}");
        }
        let foreign = [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1:8321",
            "0.0.0.0:8321",
            "[::]:8321",
            "::1",
            "[::1",
            "[127.0.0.1]",
            "[localhost]",
            "127.0.0.1:x",
            "127.0.0.1:99999",
            "127.0.0.1:",
            "user@127.0.0.1",
            "localhost:1@evil.example",
            "",
        ];
        for host in foreign {
            assert_eq!(status("GET", "/", &[("host", host)]), 421, "{host}");
        }
        assert_eq!(status("GET", "/", &[]), 400);
        assert_eq!(status("GET", "/", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status("GET", "http://evil.example/", &[("host", "localhost")]), 421);
        assert_eq!(status("GET", "http://127.0.0.1:1/", &[("host", "evil.example")]), 421);
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let host = ("host", "127.0.0.1:8321");
        assert_eq!(status("POST", "/", &[host]), 200, "a program");
        assert_eq!(status("POST", "/", &[host, ("origin", "http://127.0.0.1:8321")]), 200);
        assert_eq!(status("POST", "/", &[host, ("sec-fetch-site", "same-origin")]), 200);
        let elsewhere = [
            ("origin", "http://evil.example"),
            ("origin", "http://127.0.0.1:9999"),
            ("origin", "https://127.0.0.1:8321"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ];
        for header in elsewhere {
            assert_eq!(status("POST", "/", &[host, header]), 403, "{header:?}");
            assert_eq!(status("DELETE", "/", &[host, header]), 403, "{header:?}");
            assert_eq!(status("GET", "/", &[host, header]), 200, "a link may lead here: {header:?}");
        }
        let both = [host, ("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8321")];
        assert_eq!(status("POST", "/", &both), 403);
    }
}
