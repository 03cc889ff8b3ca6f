//! A witness's certificate and its key.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::failure::Failure;

/// TLS 1.2 and 1.3, HTTP/1.1, nobody asked for a certificate of theirs. A renewed certificate needs a new start, which costs a log a retry.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    let refused =
        |flag: &str, path: &Path, reason: String| Failure::unknown(format!("{flag} {}: {reason}", path.display()));
    let broken = |flag: &str, path: &Path, error: PemError| {
        let reason = match &error {
            PemError::Io(error) => error.to_string(),
            PemError::NoItemsFound => "nothing of that kind is in it".to_owned(),
            error => format!("PEM: {error}"),
        };
        refused(flag, path, reason)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| broken("--tls-cert", certificate, error))?;
    if chain.is_empty() {
        return Err(broken("--tls-cert", certificate, PemError::NoItemsFound)
            .hint("expected \"-----BEGIN CERTIFICATE-----\", the server's own first, then those above it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        broken("--tls-key", key, error).hint("expected a secret key without a passphrase: PKCS #8, SEC 1 or PKCS #1")
    })?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("invariant: ring has the suites of TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| {
            refused("--tls-cert", certificate, error.to_string())
                .hint(format!("the first certificate must be the one of the key in {}", key.display()))
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
