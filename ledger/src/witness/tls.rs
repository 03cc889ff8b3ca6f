//! HTTPS for this crate's HTTP client: rustls on ring, the machine's root certificates, and authorities of one's own beside them.
//!
//! No proof rests on it: what a witness says counts by its signature, and what a mirror takes is checked by who verifies the copy. It
//! keeps who sits on the way from reading what is asked, and from answering in the other's place. A certificate is taken for the name in
//! the URL, at the machine's time; there is no switch that takes any.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_schemas::time::Timestamp;
use rustls::CertificateError;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Longest file of authorities, bytes: all that a machine commonly trusts has room.
pub const AUTHORITIES_LEN_MAX: u64 = 1024 * 1024;

/// A file of authorities cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It is too long.
    #[error("{path} is longer than the {AUTHORITIES_LEN_MAX} bytes that authorities may have")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is no PEM.
    #[error("{path}, PEM: {reason}")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// One of its certificates is none.
    #[error("{path}: certificate {number} is none that an authority has: {source}")]
    NotACertificate {
        /// The file.
        path: PathBuf,
        /// Which, counted from 1.
        number: usize,
        /// Why not.
        source: rustls::Error,
    },
    /// There is none in it.
    #[error("{path}: no certificate is in it; expected \"-----BEGIN CERTIFICATE-----\"")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Whose certificates are taken beside those of the machine's own authorities: none, unless a file names some.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// The certificates in a file, PEM: those of a private authority, or a server's own that it signed itself.
    ///
    /// # Errors
    /// Any [`AuthoritiesError`]; a file with one wrong certificate is refused as a whole.
    pub fn read(path: &Path) -> Result<Authorities, AuthoritiesError> {
        let path_buf = || path.to_owned();
        let failed = |source| AuthoritiesError::Read { path: path_buf(), source };
        let mut pem = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(AUTHORITIES_LEN_MAX + 1).read_to_end(&mut pem).map_err(failed)?;
        if pem.len() as u64 > AUTHORITIES_LEN_MAX {
            return Err(AuthoritiesError::TooLong { path: path_buf() });
        }
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| AuthoritiesError::NotPem { path: path_buf(), reason: error.to_string() })?;
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty { path: path_buf() });
        }
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            store.add(certificate.clone()).map_err(|source| AuthoritiesError::NotACertificate {
                path: path_buf(),
                number: index + 1,
                source,
            })?;
        }
        Ok(Authorities { certificates })
    }

    /// How a `ureq` agent takes certificates. Without any authority, here or on the machine, every `https://` call fails and says so.
    #[must_use]
    pub fn tls_config(&self) -> TlsConfig {
        // Where OpenSSL looks, and `SSL_CERT_FILE` and `SSL_CERT_DIR` before that.
        let found = rustls_native_certs::load_native_certs().certs;
        let roots = found.iter().chain(&self.certificates).map(|der| Certificate::from_der(der).to_owned());
        TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::from(roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build()
    }
}

/// Why a call of `url` came to nothing, in one line: what is wrong with a certificate, or with the scheme, in words.
#[must_use]
pub fn explain(url: &str, error: &ureq::Error) -> String {
    match error {
        ureq::Error::Rustls(error) => of_tls(error),
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => of_tls(error),
            None => format!("io: {error}"),
        },
        ureq::Error::Protocol(error) if url.starts_with("http://") => {
            format!("what answers does not speak HTTP ({error}): is it https://?")
        }
        error => error.to_string(),
    }
}

fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::InvalidMessage(_) => "what answers does not speak TLS: is it http://?".to_owned(),
        error => format!("TLS: {error}"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is by no authority that is trusted here: name a private one's certificate, or put it among the machine's"
                .to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate was valid until {} only", time(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("its certificate is valid from {} only", time(*not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            format!("its certificate is for {}, not for {}", presented.join(", "), expected.to_str())
        }
        CertificateError::BadSignature => {
            "its certificate is not signed by the authority that it names, as far as that is trusted here".to_owned()
        }
        error => format!("its certificate does not hold: {error}"),
    }
}

/// `DnsName("a.example")` as rustls shows it, without what is around the name.
fn bare(shown: &str) -> &str {
    let inside = shown.split_once('(').map_or(shown, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    inside.trim_matches('"')
}

fn time(time: UnixTime) -> Timestamp {
    Timestamp::from_nanos(time.as_secs().saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests;
