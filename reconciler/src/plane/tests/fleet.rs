//! A control plane under test, and nodes that are nothing but their side of the protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use cairn_ledger::producer::Chain;
use cairn_release::{Gate, ReleaseFiles, Trust, check};
use cairn_schemas::data::{LoadCause, NodeLoaded, NodeRefused, RecordData, StreamOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::fleet::SignersConfig;
use cairn_schemas::ids::{NodeId, RecordIndex, ReleaseRef, StreamId};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::{Clock, Timestamp};
use cairn_schemas::types::NodeKind;
use cairn_schemas::wire::{Desired, JoinRequest, JoinResponse, PROTOCOL, Pins};
use ed25519_dalek::SigningKey;
use tower::ServiceExt as _;

use crate::plane::{ControlPlane, Steps};
use crate::random::SystemRandom;
use crate::setup::{Options, prepare};

/// How long a test waits for what takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Time goes by as it does, and faster when told to.
pub(crate) struct TestClock {
    began: Instant,
    skipped: Mutex<Duration>,
}

impl TestClock {
    pub(crate) fn pass(&self, time: Duration) {
        *self.skipped.lock().unwrap() += time;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::from_nanos(1_700_000_000_000_000_000);
        start.plus(self.began.elapsed() + *self.skipped.lock().unwrap())
    }
}

#[derive(Default)]
struct Told {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

pub(crate) struct Fleet {
    folder: tempfile::TempDir,
    pub(crate) clock: Arc<TestClock>,
    plane: Option<ControlPlane>,
    pins: Option<Pins>,
    told: Arc<Told>,
    nodes: Mutex<Vec<Arc<Pretended>>>,
}

/// A policy with two rings; the first has this soak and tolerates so many failures.
pub(crate) fn config(soak: &str, failures_max: u32) -> String {
    format!(
        "version: 1\nrings:\n  - name: canary\n    nodes:\n      role: sensor\n    soak: {soak}\n    gates:\n      \
         failures_max: {failures_max}\n  - name: broad\n"
    )
}

impl Fleet {
    pub(crate) fn start() -> Fleet {
        let clock = Arc::new(TestClock { began: Instant::now(), skipped: Mutex::default() });
        let mut fleet = Fleet {
            folder: tempfile::tempdir().unwrap(),
            clock,
            plane: None,
            pins: None,
            told: Arc::default(),
            nodes: Mutex::default(),
        };
        fleet.start_plane();
        fleet
    }

    fn options(&self) -> Options {
        Options {
            owner: None,
            template: BTreeMap::from([("cairn.yaml".to_owned(), config("0s", 0).into_bytes())]),
            signers: SignersConfig::UnsignedAllowed,
            ledger: None,
            clock: self.clock.clone(),
            random: Arc::new(SystemRandom),
        }
    }

    /// Why it does not start.
    pub(crate) fn refused_start(&self) -> String {
        prepare(&self.dir(), &self.options(), &mut |_| ()).err().unwrap().to_string()
    }

    fn start_plane(&mut self) {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let options = self.options();
        let told = Arc::clone(&self.told);
        let steps: Steps = Arc::new(move |step| {
            told.lines.lock().unwrap().push(step.to_string());
            told.more.notify_all();
        });
        let prepared = prepare(&self.dir(), &options, &mut |step| steps(step)).unwrap();
        self.pins = Some(prepared.joins.pins().clone());
        self.plane = Some(ControlPlane::start(prepared, clock, steps).unwrap());
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("cairn-data")
    }

    pub(crate) fn plane(&self) -> &ControlPlane {
        self.plane.as_ref().unwrap()
    }

    pub(crate) fn pins(&self) -> &Pins {
        self.pins.as_ref().unwrap()
    }

    /// Stops it, and gives every record.
    pub(crate) fn stop(&mut self) -> Vec<Record> {
        let ledger = self.plane().shared.ledger.clone();
        self.plane.take().unwrap().stop();
        read(&ledger)
    }

    pub(crate) fn restart(&mut self) {
        self.restart_after(|_| ());
    }

    pub(crate) fn restart_after(&mut self, between: impl FnOnce(&Path)) {
        self.stop();
        between(&self.dir());
        self.start_plane();
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lines.lock().unwrap().clone()
    }

    /// Waits for a step that holds `needle`.
    pub(crate) fn wait_for(&self, needle: &str) {
        let lines = self.told.lines.lock().unwrap();
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(needle));
        let (lines, timeout) = self.told.more.wait_timeout_while(lines, PATIENCE, missing).unwrap();
        assert!(!timeout.timed_out(), "{needle:?} was not told: {lines:#?}");
    }

    fn records(&self) -> Vec<Record> {
        read(&self.plane().shared.ledger)
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.records().iter().filter(|record| record.kind.as_str().contains(kind)).count()
    }

    pub(crate) fn wait_count(&self, kind: &str, count: usize) {
        let began = Instant::now();
        while self.count(kind) < count {
            assert!(began.elapsed() < PATIENCE, "no {count} records of {kind}: {:#?}", self.told());
            let shared = &self.plane().shared;
            shared.live.wait_for(shared.ledger.end(), TICK);
        }
        assert_eq!(self.count(kind), count);
    }

    /// The `nth` record of a type, from 1.
    pub(crate) fn wait_record<T: RecordData>(&self, kind: &str, nth: usize) -> T {
        self.wait_count(kind, nth);
        let records = self.records();
        records.iter().filter(|record| record.kind == T::TYPE).nth(nth - 1).unwrap().data_as().unwrap()
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"];
        let repo = self.dir().join("policies");
        let output = Command::new("git").args(identity).args(arguments).current_dir(repo).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn wait_git(&self, arguments: &[&str], expected: &str) {
        let began = Instant::now();
        while self.git(arguments) != expected {
            assert!(began.elapsed() < PATIENCE, "git {arguments:?} is not {expected}");
        }
    }

    fn write(&self, path: &str, text: &str) {
        let place = self.dir().join("policies").join(path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, text).unwrap();
        self.git(&["add", path]);
    }

    pub(crate) fn commit(&self, path: &str, text: &str) {
        self.write(path, text);
        self.git(&["commit", "-q", "--allow-empty", "-m", path]);
    }

    pub(crate) fn commit_signed(&self, path: &str, text: &str) {
        self.write(path, text);
        let key = format!("user.signingkey={}", self.dir().join("keys/ada").display());
        self.git(&["-c", "gpg.format=ssh", "-c", &key, "commit", "-q", "-S", "-m", path]);
    }

    pub(crate) fn notify(&self) {
        let request = Request::builder().method(Method::POST).uri("/v1/git/notify").body(Body::empty()).unwrap();
        assert_eq!(send(&self.plane().router(), request).0, StatusCode::ACCEPTED);
    }

    pub(crate) fn join(&self, kind: NodeKind) -> Arc<Pretended> {
        let token = std::fs::read_to_string(self.dir().join(format!("keys/join-{}.token", kind.as_str()))).unwrap();
        let node = Arc::new(Pretended::join(self.plane().router(), token.trim(), kind, Arc::clone(&self.clock)));
        self.nodes.lock().unwrap().push(Arc::clone(&node));
        node
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<Pretended>> {
        self.nodes.lock().unwrap().clone()
    }

    /// The files of release 2, as a control plane with these keys would stage them after this commit, then killed: made in a copy of
    /// the folder, of which nothing but the files is kept.
    pub(crate) fn stage_of_another_life(&mut self, path: &str, text: &str) -> Staged {
        self.stop();
        self.commit(path, text);
        let here = self.dir();
        let kept = self.folder.path().join("kept");
        copy(&here, &kept);
        self.start_plane();
        self.plane().begin();
        self.wait_for("release 2: promoted as v2");
        self.stop();
        let staged = self.folder.path().join("staged");
        copy(&here.join("ledger/releases/2"), &staged);
        std::fs::remove_file(staged.join("record.json")).unwrap();
        std::fs::remove_file(staged.join("release.tlog-proof")).unwrap();
        std::fs::remove_dir_all(&here).unwrap();
        std::fs::rename(&kept, &here).unwrap();
        self.told.lines.lock().unwrap().clear();
        self.start_plane();
        let statement = Digest::sha256(&std::fs::read(staged.join("statement.sigstore.json")).unwrap());
        Staged { folder: staged, statement }
    }
}

pub(crate) struct Staged {
    pub(crate) folder: PathBuf,
    pub(crate) statement: Digest,
}

const TICK: Duration = Duration::from_millis(20);

fn read(ledger: &cairn_ledger::writer::Ledger) -> Vec<Record> {
    let records = ledger.read(RecordIndex(0), 100_000).unwrap();
    records.iter().map(|bytes| Record::parse(bytes).unwrap()).collect()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// From now on commits must be signed by Ada's key, whose principal is alice@example.com.
pub(crate) fn demand_signatures(dir: &Path) {
    let path = dir.join("fleet.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let signers = format!("signers: {{ allowed_signers: [\"alice@example.com {}\"] }}", ssh_key(dir));
    std::fs::write(&path, text.replace("signers: unsigned_allowed", &signers)).unwrap();
}

/// Makes an SSH key in the key folder; its public line without the comment.
fn ssh_key(dir: &Path) -> String {
    let path = dir.join("keys/ada");
    let output = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn send(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec())
    })
}

/// A node's side of the protocol, as far as the control plane sees it.
pub(crate) struct Pretended {
    router: Router,
    pub(crate) node: NodeId,
    credential: String,
    pins: Pins,
    clock: Arc<TestClock>,
    chain: Mutex<Chain>,
}

impl Pretended {
    fn join(router: Router, token: &str, kind: NodeKind, clock: Arc<TestClock>) -> Pretended {
        let key = SigningKey::from_bytes(&[kind as u8 + 1; 32]);
        let key_text = cairn_ledger::head::format_key(&key.verifying_key());
        let request = JoinRequest {
            token: token.to_owned(),
            kind,
            key: key_text.clone(),
            labels: [("role".to_owned(), kind.as_str().to_owned())].into(),
            protocol: PROTOCOL.into(),
        };
        let http = Request::builder()
            .method(Method::POST)
            .uri("/v1/nodes/join")
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&request).unwrap().into())
            .unwrap();
        let (status, body) = send(&router, http);
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let answer: JoinResponse = serde_json::from_slice(&body).unwrap();
        let chain = Mutex::new(Chain::new(StreamId::new(&answer.node, [1; 16])));
        let node = answer.node.clone();
        let JoinResponse { node: id, credential, pins } = answer;
        let pretended = Pretended { router, node: id, credential, pins, clock, chain };
        pretended.record(Draft::new(&StreamOpened { node, key: key_text, predecessor: None }));
        pretended
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {}", self.credential));
        send(&self.router, request.body(body.into()).unwrap())
    }

    fn record(&self, draft: Draft) {
        let mut chain = self.chain.lock().unwrap();
        let mut bytes = chain.seal(draft, self.clock.now()).unwrap().bytes;
        bytes.push(b'\n');
        let path = format!("/v1/nodes/streams/{}", chain.stream());
        let (status, body) = self.request(Method::POST, &path, bytes);
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    }

    fn ask(&self, have: Option<ReleaseRef>, wait: u64) -> Desired {
        let have = have.map(|have| format!("&have={have}")).unwrap_or_default();
        let (status, body) = self.request(Method::GET, &format!("/v1/nodes/desired?wait={wait}{have}"), Vec::new());
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) fn desired(&self, have: Option<ReleaseRef>) -> Desired {
        self.ask(have, 0)
    }

    /// Waits for something else than `have`.
    pub(crate) fn wait_offer(&self, have: Option<ReleaseRef>) -> Desired {
        let offer = self.ask(have, PATIENCE.as_secs());
        assert!(offer.release.is_some() && offer.release != have, "no offer: {offer:?}");
        offer
    }

    /// Waits for the next release, fetches it, checks it as a node does, and says that it runs.
    pub(crate) fn activate_next(&self, have: Option<ReleaseRef>) -> ReleaseRef {
        let release = self.wait_offer(have).release.unwrap();
        let fetch = |file: &str| {
            let (status, body) =
                self.request(Method::GET, &format!("/ledger/releases/{}/{file}", release.serial), Vec::new());
            assert_eq!(status, StatusCode::OK, "{file}");
            body
        };
        let files = ReleaseFiles {
            content_tar: fetch("content.tar"),
            statement: fetch("statement.sigstore.json"),
            record: fetch("record.json"),
            proof: fetch("release.tlog-proof"),
        };
        let gate = Gate::Network { now: self.clock.now(), floor: have.map(|have| have.serial) };
        let verified = check(&files, &Trust::from_pins(&self.pins).unwrap(), gate).unwrap();
        assert_eq!(verified.reference(), release);
        self.load(release, have);
        release
    }

    pub(crate) fn load(&self, release: ReleaseRef, previous: Option<ReleaseRef>) {
        let data = NodeLoaded { release, previous, cause: LoadCause::Offered, checkpoint_size: 1 };
        self.record(Draft::new(&data));
    }

    pub(crate) fn refuse(&self, release: ReleaseRef) {
        let reason = "it does not suit me".to_owned();
        let data = NodeRefused { serial: release.serial, release: Some(release), check: "taste".into(), reason };
        self.record(Draft::new(&data));
    }

    /// What every node checks, on the files as they lie.
    pub(crate) fn check(folder: &Path, pins: &Pins) {
        let files = ReleaseFiles::read(folder).unwrap();
        check(&files, &Trust::from_pins(pins).unwrap(), Gate::Activated).unwrap();
    }
}
