//! A witness behind TLS and whoever asks it, both of them the real binary: what is served, what is taken, and what is said when not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

const BINARY: &str = env!("CARGO_BIN_EXE_cairn");

fn cairn(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Place {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    vkey: String,
}

/// A witness that runs; it ends with this.
struct Running {
    child: Child,
    key: String,
    port: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    /// A ledger of one record, and an authority in `ca.pem`.
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let mut append = cairn(folder.path(), &["ledger", "append", "ledger", "--stream", "ci"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let line = br#"{"type":"cairn.evidence.received.v1","subject":"a","data":{"control":"AC-1"}}"#;
        append.stdin.take().unwrap().write_all(&[&line[..], b"\n"].concat()).unwrap();
        let output = append.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let first = cairn(folder.path(), &["ledger", "get", "ledger", "0", "--json"]).output().unwrap();
        assert!(first.status.success(), "{}", text(&first.stderr));
        let first: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
        let vkey = first["record"]["data"]["ledger_key"].as_str().unwrap().to_owned();
        let (issuer, pem) = authority("ours");
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Place { folder, issuer, vkey }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and its key, in `<stem>.pem` and `<stem>.key`.
    fn certify(&self, stem: &str, name: &str, until: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(until, 1, 1));
        std::fs::write(self.path(&format!("{stem}.pem")), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(self.path(&format!("{stem}.key")), key.serialize_pem()).unwrap();
    }

    fn arguments<'a>(&'a self, dir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let common = ["ledger", "witness", "--dir", dir, "--name", "w.example/w1", "--ledger", &self.vkey];
        [&common[..], &["--listen", "127.0.0.1:0", "--json"], more].concat()
    }

    fn witness(&self, stem: &str) -> Running {
        let (certificate, key) = (format!("{stem}.pem"), format!("{stem}.key"));
        let tls = ["--tls-cert", &certificate, "--tls-key", &key];
        let mut child = cairn(self.folder.path(), &self.arguments(&format!("{stem}.dir"), &tls))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let url = said["url"].as_str().unwrap();
        let port = url.strip_prefix("https://127.0.0.1:").unwrap().to_owned();
        Running { child, key: said["keys"][0].as_str().unwrap().to_owned(), port }
    }

    /// `cairn ledger cosign` with a policy that names the witness by this scheme.
    fn cosign(&self, witness: &Running, scheme: &str, ca: Option<&str>) -> Output {
        let url = format!("{scheme}://localhost:{}", witness.port);
        std::fs::write(self.path("policy"), format!("witness w1 {} {url}\nquorum w1\n", witness.key)).unwrap();
        let ca: Vec<&str> = ca.map_or_else(Vec::new, |ca| vec!["--ca", ca]);
        let arguments = [&["ledger", "cosign", "ledger", "--policy", "policy"][..], &ca].concat();
        cairn(self.folder.path(), &arguments).output().unwrap()
    }

    fn refused(&self, witness: &Running, scheme: &str, ca: Option<&str>) -> String {
        let output = self.cosign(witness, scheme, ca);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        let said = text(&output.stderr);
        said.lines().next().unwrap().to_owned()
    }
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

#[test]
fn a_witness_serves_https_and_is_believed_for_the_right_certificate_only() {
    let place = Place::new();
    place.certify("good", "localhost", 2200);
    let good = place.witness("good");
    let cosigned = place.cosign(&good, "https", Some("ca.pem"));
    assert!(cosigned.status.success(), "{}", text(&cosigned.stderr));
    assert!(text(&cosigned.stdout).contains("\n\u{2014} w.example/w1 "), "{}", text(&cosigned.stdout));

    let unknown = "note: witness w1 does not answer: its certificate is by no authority that is trusted here: \
                   name a private one's certificate, or put it among the machine's";
    assert_eq!(place.refused(&good, "https", None), unknown);
    std::fs::write(place.path("theirs.pem"), authority("theirs").1).unwrap();
    assert_eq!(place.refused(&good, "https", Some("theirs.pem")), unknown);
    assert_eq!(
        place.refused(&good, "http", Some("ca.pem")),
        "note: witness w1 answers 400: this port speaks HTTPS: ask it with https://"
    );

    place.certify("old", "localhost", 2001);
    let said = place.refused(&place.witness("old"), "https", Some("ca.pem"));
    assert!(
        said.starts_with("note: witness w1 does not answer: its certificate was valid until 2001-01-01T00:00:00"),
        "{said}"
    );
    place.certify("other", "other.example", 2200);
    let said = place.refused(&place.witness("other"), "https", Some("ca.pem"));
    assert_eq!(said, "note: witness w1 does not answer: its certificate is for other.example, not for localhost");

    // Still there, after all of that.
    assert!(place.cosign(&good, "https", Some("ca.pem")).status.success());
}

#[test]
fn files_that_are_no_certificate_or_not_of_the_key_are_named() {
    let place = Place::new();
    place.certify("one", "localhost", 2200);
    place.certify("two", "localhost", 2200);
    let said = |certificate: &str, key: &str| {
        let tls = ["--tls-cert", certificate, "--tls-key", key];
        let output = cairn(place.folder.path(), &place.arguments("dir", &tls)).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    assert!(said("one.key", "one.key").starts_with("error: --tls-cert one.key: nothing of that kind is in it\n"));
    assert!(said("one.pem", "one.pem").starts_with("error: --tls-key one.pem: nothing of that kind is in it\nhint: "));
    assert!(said("none.pem", "one.key").starts_with("error: --tls-cert none.pem: No such file or directory"));
    let mixed = said("one.pem", "two.key");
    assert!(mixed.starts_with("error: --tls-cert one.pem: ") && mixed.contains("the key in two.key"), "{mixed}");
    let half = cairn(place.folder.path(), &place.arguments("dir", &["--tls-cert", "one.pem"])).output().unwrap();
    assert!(text(&half.stderr).contains("--tls-key <FILE>"), "{}", text(&half.stderr));
    // The folder of the witness is not made before everything else is right.
    assert!(!place.path("dir").exists());
}
