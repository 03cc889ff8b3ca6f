//! A fleet whose ledger lies in a bucket, with the real binary and a real server.
//!
//! The server is found as every AWS tool finds it, in the environment, with a bucket `bench` that has Object Lock; the binary must be one
//! with feature `s3`:
//!
//! ```text
//! cargo build -p cairn --features s3
//! cargo run -p cairn-ledger --features s3 --example with_s3 -- env CAIRN_BIN=target/debug/cairn cargo test -p cairn-tests --test s3
//! ```
//!
//! Where one of the two is missing the test says so and does nothing; with `CAIRN_REQUIRE_S3` that is a failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cairn_tests::shell::{commit, git, text};
use cairn_tests::up::{PATIENCE, Up, binary, cairn};
use serde_json::{Value, json};

/// What keeps a test from running, if anything does.
fn missing() -> Option<String> {
    let has_feature = !text(&cairn(&["ledger", "get", "s3://bench/nothing", "0"])).contains("without feature `s3`");
    let reason = match (has_feature, std::env::var_os("AWS_ENDPOINT_URL")) {
        (true, Some(_)) => return None,
        (false, _) => format!("{} was built without feature `s3`", binary().display()),
        (true, None) => "AWS_ENDPOINT_URL names no S3 server".to_owned(),
    };
    assert!(std::env::var_os("CAIRN_REQUIRE_S3").is_none(), "{reason}");
    Some(reason)
}

struct Fleet {
    folder: tempfile::TempDir,
    ledger: String,
}

impl Fleet {
    fn new(prefix: &str) -> Fleet {
        let folder = tempfile::tempdir().unwrap();
        Fleet { folder, ledger: format!("s3://bench/{prefix}-{}", std::process::id()) }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["up", "--listen", "127.0.0.1:0", "--dir"]).arg(self.dir()).args(more);
        command
    }

    fn start(&self) -> Up {
        Up::start_command(self.command(&[]), &self.dir())
    }

    /// A command about the ledger: its words, the ledger's address, and more.
    fn run(&self, words: &[&str], more: &[&str]) -> Output {
        let cache = self.folder.path().join("cache");
        let command = [words, &[self.ledger.as_str()][..], more].concat();
        Command::new(binary()).args(command).env("XDG_CACHE_HOME", cache).output().unwrap()
    }

    /// The same with the fleet's keys.
    fn change(&self, words: &[&str], more: &[&str]) -> String {
        let keys = self.dir().join("keys");
        let output = self.run(words, &[&["--keys", keys.to_str().unwrap()], more].concat());
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        text(&output)
    }

    fn said(&self, words: &[&str], more: &[&str]) -> Vec<Value> {
        let output = self.run(words, more);
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().map(Result::unwrap).collect()
    }

    /// A commit that changes what is enforced, rolled out.
    fn roll_out(&self, up: &mut Up, serial: u64) {
        let readme = format!("policy number {serial}\n");
        commit(&up.policies(), &format!("policy {serial}"), &[("README.md", &readme)]);
        up.wait_line(&format!("release {serial}: promoted as v{serial}"), PATIENCE);
    }
}

fn got(up: &Up, path: &str) -> Vec<u8> {
    let mut answer = ureq::get(&format!("{}/ledger/{path}", up.url)).call().unwrap();
    answer.body_mut().read_to_vec().unwrap()
}

fn verified(dir: &Path) -> Value {
    let output = cairn(&["verify", dir.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    report
}

#[test]
fn a_fleets_life_in_a_bucket() {
    if let Some(reason) = missing() {
        println!("SKIPPED: a ledger in a bucket is not tested: {reason}");
        return;
    }
    let fleet = Fleet::new("fleet");
    let address = format!("{}?retention=1d", fleet.ledger);
    let mut up = Up::start_command(fleet.command(&["--ledger", &address]), &fleet.dir());
    assert!(!fleet.dir().join("ledger").exists(), "nothing of the ledger lies in the data folder");
    let written = std::fs::read_to_string(fleet.dir().join("fleet.yaml")).unwrap();
    assert!(written.contains(&address), "{written}");
    fleet.roll_out(&mut up, 2);

    // Over HTTP it looks as a ledger in a directory does.
    let checkpoint = String::from_utf8(got(&up, "checkpoint")).unwrap();
    assert!(!checkpoint.contains("cairn/s3-epoch"), "who writes is nobody's business: {checkpoint}");
    assert!(!got(&up, "releases/2/content.tar").is_empty() && !got(&up, "releases/2/release.tlog-proof").is_empty());
    let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    assert!(!got(&up, &format!("tile/entries/000.p/{size}")).is_empty());
    let page = ureq::get(&up.url).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(page.contains("cairn ledger mirror"), "{page}");

    // The command line reads it while it is written, and nobody else writes it.
    let first = &fleet.said(&["ledger", "get"], &["0", "--json"])[0];
    assert_eq!(first["record"]["type"], "cairn.ledger.opened.v1");
    let built = fleet.said(&["ledger", "tail"], &["--type", "release.built", "--json"]);
    assert_eq!(built.len(), 2, "{built:?}");
    let proof = fleet.folder.path().join("proof");
    let index = built[1]["index"].to_string();
    let proved = fleet.run(&["ledger", "prove"], &[&index, "--out", proof.to_str().unwrap()]);
    assert!(proved.status.success() && proof.exists(), "{}", text(&proved));
    let second = fleet.command(&[]).output().unwrap();
    assert!(!second.status.success() && text(&second).contains("in use by another process"), "{}", text(&second));

    // Killed, with everything gone that may be deleted: it goes on.
    up.kill();
    std::fs::remove_dir_all(fleet.dir().join("cache")).unwrap();
    let mut up = fleet.start();
    fleet.roll_out(&mut up, 3);
    assert!(up.stop());

    // Records of this machine's own, and another volume; releases go on in it.
    let mut append = Command::new(binary());
    append.args(["ledger", "append", &fleet.ledger, "--stream", "ci", "--keys"]).arg(fleet.dir().join("keys"));
    let mut append = append.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let personal = json!([{ "path": "/email", "subject": "user-17" }]);
    let data = json!({ "n": 1, "email": "ada@example.com" });
    let line = json!({ "type": "cairn.evidence.received.v1", "subject": "s", "data": data, "personal": personal });
    writeln!(append.stdin.take().unwrap(), "{line}").unwrap();
    let appended = append.wait_with_output().unwrap();
    assert!(appended.status.success(), "{}", text(&appended));
    let shown = fleet.change(&["ledger", "disclose"], &["--subject", "user-17", "--purpose", "a test"]);
    assert!(shown.contains("ada@example.com"), "{shown}");
    fleet.change(&["ledger", "erase"], &["--subject", "user-17"]);
    fleet.change(&["ledger", "rotate"], &["--note", "a year is over"]);
    fleet.change(&["key", "rotate"], &[]);
    let mut up = fleet.start();
    fleet.roll_out(&mut up, 4);
    assert_eq!(git(&up.policies(), &["tag", "--list", "v4"]), "v4");
    assert!(!got(&up, "volume/2/checkpoint").is_empty());
    assert!(up.stop());
    fleet.change(&["ledger", "freeze"], &["--reason", "the test is over"]);

    // The auditor.
    let output = fleet.run(&["verify"], &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains(&format!("cairn ledger mirror {} DIR", fleet.ledger)), "{}", text(&output));
    let copy = fleet.folder.path().join("copy");
    let output = fleet.run(&["ledger", "mirror"], &[copy.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let report = verified(&copy);
    assert_eq!(report["verdict"], "ok", "{report:#}");
    let versions = std::fs::read_to_string(copy.join("versions.jsonl")).unwrap();
    let of_releases: Vec<Value> =
        versions.lines().map(|line| serde_json::from_str(line).unwrap()).filter(of_a_release).collect();
    assert_eq!(of_releases.len(), 4 * 4, "{of_releases:#?}");
    for version in of_releases {
        assert_eq!(version["retention_mode"], "COMPLIANCE", "{version}");
    }
    // The commands that changed it named the bucket alone; how long it is locked is the fleet's to say.
    let findings = report["findings"].to_string();
    assert!(!findings.contains("not_locked"), "{findings}");
}

fn of_a_release(version: &Value) -> bool {
    version["key"].as_str().is_some_and(|key| key.starts_with("releases/"))
}

#[test]
fn a_build_without_it_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    // No bucket has such a name: whatever the build, it is refused before anything is made.
    for address in ["s3://NO", "gs://bucket/x", "ledger"] {
        let up = cairn(&["up", "--listen", "127.0.0.1:0", "--dir", dir.to_str().unwrap(), "--ledger", address]);
        assert_eq!(up.status.code(), Some(1), "{}", text(&up));
        assert!(text(&up).contains(address) && text(&up).lines().count() <= 3, "{}", text(&up));
        assert!(!dir.exists(), "nothing was made");
    }
    let verify = cairn(&["verify", "s3://bucket/prefix"]);
    assert_eq!(verify.status.code(), Some(2));
    assert!(text(&verify).contains("cairn ledger mirror s3://bucket/prefix DIR"), "{}", text(&verify));
}
