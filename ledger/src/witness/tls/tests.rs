use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::witness::client::{Reply, Transport as _, TransportError};
use crate::witness::http::HttpTransport;

/// A private authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

/// Where the authority's certificate lies as a file.
fn trusting(folder: &Path, authority: &Authority) -> HttpTransport {
    let path = folder.join("authority.pem");
    std::fs::write(&path, &authority.pem).unwrap();
    HttpTransport::trusting(&Authorities::read(&path).unwrap(), Duration::from_secs(5))
}

/// A server with a certificate for `name` in these years; it gives every request the same answer.
fn served(authority: &Authority, name: &str, years: (i32, i32), answer: &'static [u8]) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            // A peer that refuses the certificate breaks off; the alert that says why still has to go out.
            if stream.read(&mut [0; 4_096]).is_ok() {
                let _ = stream.write_all(answer);
            }
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nyes";

fn post(transport: &HttpTransport, url: String) -> Result<Reply, TransportError> {
    transport.post(&url, b"old 0\n")
}

#[test]
fn a_certificate_counts_by_authority_name_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let transport = trusting(folder.path(), &ours);
    let ask = |address: SocketAddr| post(&transport, format!("https://localhost:{}/add-checkpoint", address.port()));
    let refused = |address| ask(address).unwrap_err().to_string();

    let good = served(&ours, "localhost", (2000, 2200), ANSWER);
    assert_eq!(ask(good).unwrap().body, b"yes");
    assert_eq!(ask(good).unwrap().body, b"yes");

    let unknown = "its certificate is by no authority that is trusted here: name a private one's certificate, or put it among the machine's";
    assert_eq!(refused(served(&authority("theirs"), "localhost", (2000, 2200), ANSWER)), unknown);
    let namesake = served(&authority("ours"), "localhost", (2000, 2200), ANSWER);
    assert!(refused(namesake).starts_with("its certificate is not signed by the authority that it names"));
    let machine = HttpTransport::new(Duration::from_secs(5));
    assert_eq!(post(&machine, format!("https://localhost:{}/", good.port())).unwrap_err().to_string(), unknown);

    let expired = refused(served(&ours, "localhost", (2000, 2001), ANSWER));
    assert!(expired.starts_with("its certificate was valid until 2001-01-01T00:00:00"), "{expired}");
    let early = refused(served(&ours, "localhost", (2190, 2200), ANSWER));
    assert!(early.starts_with("its certificate is valid from 2190-01-01T00:00:00"), "{early}");
    let other = refused(served(&ours, "other.example", (2000, 2200), ANSWER));
    assert_eq!(other, "its certificate is for other.example, not for localhost");
    let by_number = post(&transport, format!("https://{good}/")).unwrap_err().to_string();
    assert_eq!(by_number, "its certificate is for localhost, not for 127.0.0.1");
}

#[test]
fn the_wrong_scheme_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let transport = trusting(folder.path(), &ours);
    let tls = served(&ours, "localhost", (2000, 2200), ANSWER);
    let error = post(&transport, format!("http://localhost:{}/", tls.port())).unwrap_err().to_string();
    assert!(
        error.starts_with("what answers does not speak HTTP (") && error.ends_with("): is it https://?"),
        "{error}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    });
    let error = post(&transport, format!("https://localhost:{}/", plain.port())).unwrap_err().to_string();
    assert_eq!(error, "what answers does not speak TLS: is it http://?");
}

#[test]
fn nobody_is_followed_elsewhere_and_answers_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let transport = trusting(folder.path(), &ours);
    let elsewhere = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let address = served(&ours, "localhost", (2000, 2200), elsewhere);
    let url = |address: SocketAddr| format!("https://localhost:{}/", address.port());
    assert_eq!(post(&transport, url(address)).unwrap().status, 307);
    let three = served(&ours, "localhost", (2000, 2200), ANSWER);
    assert_eq!(transport.get(&url(three), 3).unwrap().unwrap(), b"yes");
    let error = transport.get(&url(three), 2).unwrap_err().to_string();
    assert_eq!(error, "the answer is longer than 2 bytes");
    // A peer that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let short = HttpTransport::new(Duration::from_millis(300));
    let error = post(&short, url(silent.local_addr().unwrap())).unwrap_err().to_string();
    assert!(error.starts_with("timeout: "), "{error}");
}

#[test]
fn a_file_of_authorities_is_read_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.pem");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Authorities::read(&path).map_err(|error| error.to_string())
    };
    let good = authority("ours").pem;
    assert_eq!(read(good.as_bytes()).unwrap().certificates.len(), 1);
    assert_eq!(read(format!("# ours\n{good}{}", authority("ours").pem).as_bytes()).unwrap().certificates.len(), 2);
    let at = path.display().to_string();
    assert!(read(b"").unwrap_err().starts_with(&format!("{at}: no certificate is in it")));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = read(format!("{good}{broken}").as_bytes()).unwrap_err();
    assert!(error.starts_with(&format!("{at}: certificate 2 is none that an authority has: ")), "{error}");
    let error = read(b"-----BEGIN CERTIFICATE-----\n!\n").unwrap_err();
    assert!(error.starts_with(&format!("{at}, PEM: ")), "{error}");
    let filled = |len: usize| [good.as_bytes(), &vec![b'\n'; len - good.len()]].concat();
    let limit = usize::try_from(AUTHORITIES_LEN_MAX).unwrap();
    assert_eq!(read(&filled(limit)).unwrap().certificates.len(), 1);
    assert!(read(&filled(limit + 1)).unwrap_err().ends_with("bytes that authorities may have"));
    let missing = Authorities::read(&folder.path().join("none")).unwrap_err();
    assert!(matches!(missing, AuthoritiesError::Read { .. }));
}
