use axum::body::Body;
use axum::http::{Method, Request};
use cairn_ledger::note::NoteSigner;
use cairn_ledger::producer::Chain;
use cairn_schemas::data::{LedgerOpened, NodeCapabilities, StreamOpened};
use cairn_schemas::ids::{NodeId, StreamId};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{ManualClock, Timestamp};
use cairn_schemas::types::NodeKind;
use cairn_schemas::wire::{
    APPEND_RECORDS_MAX, AppendAnswer, AppendRefused, Desired, JoinRequest, JoinResponse, PROTOCOL, StreamPosition,
    WireError,
};
use ed25519_dalek::SigningKey;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tower::ServiceExt as _;

use super::*;
use crate::releases::Releases;
use crate::state::State as Folded;

/// A control plane without a policy repo: a real ledger in a folder of its own, and a thread that follows it.
struct Bench {
    api: Arc<Api>,
    router: Router,
    follower: Option<std::thread::JoinHandle<()>>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let ledger_folder = folder.path().join("ledger");
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000)));
        let signer = NoteSigner::new("test/1", SigningKey::from_bytes(&[1; 32])).unwrap();
        let root = NoteSigner::new("test/root", SigningKey::from_bytes(&[2; 32])).unwrap();
        let key = SigningKey::from_bytes(&[3; 32]);
        let opened = LedgerOpened {
            name: "test".into(),
            volume: 1,
            ledger_key: signer.verifier().to_string(),
            root_key: root.verifier().to_string(),
            release_key: "key".into(),
            control_node: "control".parse().unwrap(),
            control_key: cairn_ledger::head::format_key(&key.verifying_key()),
            unsigned_commits: true,
            mldsa_key: None,
            witnesses: None,
            previous: None,
        };
        let ledger = Ledger::create(&ledger_folder, &opened, signer, Arc::clone(&clock)).unwrap();
        let node: NodeId = "control".parse().unwrap();
        let control = Control::create(ledger.clone(), &node, key, Arc::clone(&clock), [4; 16]).unwrap();
        let joins = Joins::open(&folder.path().join("keys"), [5; 32], crate::joins::tests::pins()).unwrap();
        let (live, control) = (Arc::new(Live::new(Folded::new(node))), Arc::new(control));
        let releases = Releases::folder(&ledger_folder.join("releases"));
        let intake = Intake::open(crate::intake::Parts {
            senders: Vec::new(),
            folder: folder.path().join("intake"),
            vault: folder.path().join("ledger.vault"),
            token_key: cairn_schemas::token::TokenKey { epoch: "e1".into(), key: [6; 32] },
            releases: releases.clone(),
            live: Arc::clone(&live),
            ledger: ledger.clone(),
            control: Arc::clone(&control),
            clock: Arc::clone(&clock),
            random: Arc::new(crate::random::SystemRandom),
        });
        let api = Arc::new(Api {
            live,
            configs: Arc::new(ConfigCache::new(releases)),
            ledger: ledger.clone(),
            ledger_name: "test".into(),
            control,
            joins: Arc::new(joins),
            clock: Arc::clone(&clock),
            look: Arc::default(),
            stopping: Arc::default(),
            failed: Arc::default(),
            verification: Verification::default(),
            joining: Mutex::default(),
            appends: Arc::new(tokio::sync::Semaphore::new(APPENDS_AT_ONCE_MAX)),
            intake: Arc::new(intake.unwrap()),
        });
        let live = Arc::clone(&api.live);
        let mut subscription = ledger.subscribe(ledger.start());
        let follower = std::thread::spawn(move || {
            while let Ok(next) = subscription.next(Duration::from_secs(5)) {
                if let Some((_, bytes)) = next {
                    live.fold([&bytes[..]], Some(clock.now()), clock.now());
                    live.announce();
                    live.settle();
                }
            }
        });
        let router = router(Arc::clone(&api)).fallback(not_found);
        Bench { api, router, follower: Some(follower), folder }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec())
    }

    async fn get(&self, path: &str, credential: Option<&str>) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder().uri(path);
        if let Some(credential) = credential {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        let (status, _, body) = self.send(request.body(Body::empty()).unwrap()).await;
        (status, body)
    }

    async fn post(&self, path: &str, credential: Option<&str>, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
        if let Some(credential) = credential {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        let (status, _, body) = self.send(request.body(body.into()).unwrap()).await;
        (status, body)
    }

    async fn join(&self, seed: u8) -> (JoinResponse, SigningKey) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let token = self.api.joins.make_token(NodeKind::Sensor, [seed; 32]).unwrap();
        let request = join_request(&token.to_string(), &key);
        let (status, body) = self.post("/v1/nodes/join", None, serde_json::to_vec(&request).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        (json(&body), key)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.api.ledger.close();
        self.follower.take().unwrap().join().unwrap();
    }
}

fn join_request(token: &str, key: &SigningKey) -> JoinRequest {
    JoinRequest {
        token: token.to_owned(),
        kind: NodeKind::Sensor,
        key: cairn_ledger::head::format_key(&key.verifying_key()),
        labels: [("role".to_owned(), "sensor".to_owned())].into(),
        protocol: PROTOCOL.into(),
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

/// A node's records, sealed in order.
struct Producer {
    stream: StreamId,
    chain: Chain,
}

impl Producer {
    fn new(node: &NodeId) -> Producer {
        let stream = StreamId::new(node, [9; 16]);
        Producer { chain: Chain::new(stream.clone()), stream }
    }

    fn opened(&mut self, node: &NodeId, key: &SigningKey) -> Vec<u8> {
        let key = cairn_ledger::head::format_key(&key.verifying_key());
        self.seal(Draft::new(&StreamOpened { node: node.clone(), key, predecessor: None }))
    }

    fn record(&mut self) -> Vec<u8> {
        self.seal(Draft::new(&NodeCapabilities { live: true, version: "1".into(), can: vec![], cannot: vec![] }))
    }

    fn seal(&mut self, draft: Draft) -> Vec<u8> {
        self.chain.seal(draft, Timestamp::from_nanos(1_700_000_000_000_000_000)).unwrap().bytes
    }

    fn path(&self) -> String {
        format!("/v1/nodes/streams/{}", self.stream)
    }
}

fn body(records: &[Vec<u8>]) -> Vec<u8> {
    records.iter().flat_map(|record| [record.as_slice(), b"\n"].concat()).collect()
}

#[tokio::test]
async fn a_join_is_recorded_once_and_answered_the_same() {
    let bench = Bench::new();
    let (first, key) = bench.join(10).await;
    assert_eq!(first.pins, crate::joins::tests::pins());
    let token = bench.api.joins.make_token(NodeKind::Sensor, [10; 32]);
    assert!(token.is_ok(), "the token of the first join is asked again below");
    let (again, _) = bench.join(11).await;
    assert_ne!(again.node, first.node);
    let size = bench.api.ledger.size();
    let token =
        cairn_schemas::wire::JoinToken { secret: hex::encode([11; 32]), pins: crate::joins::tests::pins().digest() };
    let request = join_request(&token.to_string(), &SigningKey::from_bytes(&[11; 32]));
    let (status, answer) = bench.post("/v1/nodes/join", None, serde_json::to_vec(&request).unwrap()).await;
    assert_eq!((status, json::<JoinResponse>(&answer)), (StatusCode::OK, again));
    assert_eq!(bench.api.ledger.size(), size, "nothing was recorded twice");
    let stolen = join_request(&token.to_string(), &key);
    let (status, answer) = bench.post("/v1/nodes/join", None, serde_json::to_vec(&stolen).unwrap()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(json::<WireError>(&answer).error.contains("used before"));
    let (status, answer) = bench.post("/v1/nodes/join", None, b"{".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(json::<WireError>(&answer).error.starts_with("not a join request"));
}

#[tokio::test]
async fn records_are_taken_from_their_own_node_only() {
    let bench = Bench::new();
    let (node, key) = bench.join(10).await;
    let (other, _) = bench.join(11).await;
    let mut producer = Producer::new(&node.node);
    let (path, credential) = (producer.path(), Some(node.credential.as_str()));
    let (status, answer) = bench.get(&path, credential).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(json::<StreamPosition>(&answer).sequence, None);
    let records = [producer.opened(&node.node, &key), producer.record()];
    for wrong in [None, Some("cairn-node.x.y"), Some(other.credential.as_str())] {
        let (status, _) = bench.post(&path, wrong, body(&records)).await;
        assert!(status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN, "{status}");
        let (status, _) = bench.get(&path, wrong).await;
        assert!(status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN, "{status}");
    }
    let (status, answer) = bench.post(&path, credential, body(&records)).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
    let taken: AppendAnswer = json(&answer);
    assert_eq!((taken.sequence.0, taken.volume), (1, 1));
    let (_, answer) = bench.get(&path, credential).await;
    assert_eq!(json::<StreamPosition>(&answer).sequence, Some(taken.sequence));
    let (_, repeated) = bench.post(&path, credential, body(&records)).await;
    assert_eq!(json::<AppendAnswer>(&repeated), taken, "a repeat has its first place");

    let mut cloned = Producer::new(&node.node);
    cloned.opened(&node.node, &key);
    let fork =
        cloned.seal(Draft::new(&NodeCapabilities { live: false, version: "2".into(), can: vec![], cannot: vec![] }));
    let (status, answer) = bench.post(&path, credential, body(&[fork])).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(json::<WireError>(&answer).hint.is_some());
}

#[tokio::test]
async fn an_append_says_which_line_was_bad_and_what_stood_before_it() {
    let bench = Bench::new();
    let (node, key) = bench.join(10).await;
    let mut producer = Producer::new(&node.node);
    let (path, credential) = (producer.path(), Some(node.credential.as_str()));
    let opened = producer.opened(&node.node, &key);
    let bad = String::from_utf8(producer.record()).unwrap().replace("\"live\":true", "\"live\":1.5").into_bytes();
    let (status, answer) = bench.post(&path, credential, body(&[opened.clone(), bad.clone()])).await;
    assert_eq!(status, StatusCode::OK, "an invalid record is replaced, and the stream goes on");
    let taken: AppendAnswer = json(&answer);
    assert_eq!((taken.rejected.len(), taken.rejected[0].line, taken.rejected[0].index), (1, 2, taken.index));
    assert!(taken.rejected[0].reason.contains("/data/live holds the number 1.5"), "{}", taken.rejected[0].reason);

    // The producer thinks that its own record stands there, and goes on behind that.
    let (good, after) = (producer.record(), producer.record());
    let (status, answer) = bench.post(&path, credential, body(&[opened, bad, good.clone(), after])).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let refused: AppendRefused = json(&answer);
    let before = AppendAnswer { rejected: vec![], ..taken };
    assert_eq!((refused.line, refused.taken), (3, Some(before)), "a repeat, and told as one");
    assert!(json::<WireError>(&answer).error.contains("forked"));
    let (status, answer) = bench.post(&path, credential, body(&[good])).await;
    assert_eq!(
        (status, json::<AppendRefused>(&answer)),
        (StatusCode::CONFLICT, AppendRefused { line: 1, taken: None })
    );
}

#[tokio::test]
async fn bodies_at_their_limits_and_one_past_them() {
    let bench = Bench::new();
    let (node, key) = bench.join(10).await;
    let mut producer = Producer::new(&node.node);
    let (path, credential) = (producer.path(), Some(node.credential.as_str()));
    let (status, _) = bench.post(&path, credential, Vec::new()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let mut records = vec![producer.opened(&node.node, &key)];
    records.extend((1..APPEND_RECORDS_MAX).map(|_| producer.record()));
    let one_more = [records.clone(), vec![producer.record()]].concat();
    let (status, answer) = bench.post(&path, credential, body(&one_more)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(json::<WireError>(&answer).error.contains(&APPEND_RECORDS_MAX.to_string()));
    let (status, answer) = bench.post(&path, credential, body(&records)).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
    let (status, _) = bench.post(&path, credential, vec![b'x'; APPEND_BODY_LEN_MAX + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = bench.post("/v1/nodes/join", None, vec![b' '; JOIN_BODY_LEN_MAX + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn desired_answers_at_once_where_there_is_nothing_to_wait_for() {
    let bench = Bench::new();
    let (node, _) = bench.join(10).await;
    let credential = Some(node.credential.as_str());
    let (status, answer) = bench.get("/v1/nodes/desired", credential).await;
    assert_eq!((status, json::<Desired>(&answer).release), (StatusCode::OK, None));
    for bad in ["?have=5", "?wait=61", "?wait=x"] {
        let (status, answer) = bench.get(&format!("/v1/nodes/desired{bad}"), credential).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        json::<WireError>(&answer);
    }
    assert_eq!(bench.get("/v1/nodes/desired", None).await.0, StatusCode::UNAUTHORIZED);
    bench.api.stopping.store(true, Ordering::SeqCst);
    let (status, _) = bench.get("/v1/nodes/desired?wait=60", credential).await;
    assert_eq!(status, StatusCode::OK, "a stop waits for no poll");
}

#[tokio::test]
async fn the_ledgers_files_are_served_and_nothing_else() {
    let bench = Bench::new();
    bench.join(10).await;
    assert!(bench.api.ledger.wait_published(bench.api.ledger.size(), Duration::from_secs(30)));
    let size = bench.api.ledger.checkpoint().size.0;
    let (status, headers, checkpoint) =
        bench.send(Request::builder().uri("/ledger/checkpoint").body(Body::empty()).unwrap()).await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (StatusCode::OK, TEXT_TYPE));
    assert_eq!(headers["cache-control"], "public, max-age=2, must-revalidate");
    assert!(checkpoint.starts_with(b"test/1\n"));
    let tile = format!("/ledger/tile/0/000.p/{size}");
    let (status, headers, bytes) = bench.send(Request::builder().uri(&tile).body(Body::empty()).unwrap()).await;
    assert_eq!((status, bytes.len() as u64), (StatusCode::OK, 32 * size));
    assert!(headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(bench.get(&format!("/ledger/tile/entries/000.p/{size}"), None).await.0, StatusCode::OK);
    std::fs::write(bench.folder.path().join("ledger").join("secret"), "secret").unwrap();
    let releases = bench.folder.path().join("ledger").join("releases/1");
    std::fs::create_dir_all(&releases).unwrap();
    std::fs::write(releases.join("content.tar"), "tar").unwrap();
    for path in [
        "/ledger/tile/../secret",
        "/ledger/tile/%2e%2e/secret",
        "/ledger/tile/0/..%2f..%2fsecret",
        "/ledger/tile/0/0",
        "/ledger/secret",
        "/ledger/lock",
        "/ledger/checkpoints/../secret",
        "/ledger/checkpoints/007",
        "/ledger/releases/1/..%2f..%2fsecret",
        "/ledger/releases/01/content.tar",
        "/ledger/releases/1/.content.tar.new",
        "/ledger/releases/1/content.tar",
        "/ledger/cosigned",
        "/ledger/volume/1/checkpoint",
        "/ledger/volume/02/checkpoint",
        "/ledger/volume/..%2f/checkpoint",
        "/ledger/volume/2/lock",
        "/ledger/volume/2/wal/00000000000000000000.wal",
        "/ledger/wal/00000000000000000000.wal",
        "/elsewhere",
    ] {
        let (status, answer) = bench.get(path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        json::<WireError>(&answer);
    }
    std::fs::write(releases.join("release.tlog-proof"), "proof").unwrap();
    assert_eq!(bench.get("/ledger/releases/1/content.tar", None).await, (StatusCode::OK, b"tar".to_vec()));
}

#[tokio::test]
async fn a_later_volume_is_served_and_what_a_cache_has_is_not_sent_again() {
    let bench = Bench::new();
    bench.join(10).await;
    let volume = bench.folder.path().join("ledger").join("volume/2");
    std::fs::create_dir_all(volume.join("tile/0")).unwrap();
    std::fs::create_dir_all(volume.join("checkpoints")).unwrap();
    let full: Vec<u8> = (0..=255).flat_map(|hash| [hash; 32]).collect();
    for (file, bytes) in
        [("checkpoint", &b"new"[..]), ("cosigned", b"cosigned"), ("checkpoints/5", b"kept"), ("tile/0/000", &full)]
    {
        std::fs::write(volume.join(file), bytes).unwrap();
    }
    for (path, bytes) in [
        ("checkpoint", &b"new"[..]),
        ("cosigned", b"cosigned"),
        ("checkpoints/5", b"kept"),
        ("tile/0/000", &full),
        ("tile/0/000.p/3", &full[..96]),
    ] {
        let path = format!("/ledger/volume/2/{path}");
        assert_eq!(bench.get(&path, None).await, (StatusCode::OK, bytes.to_vec()), "{path}");
    }
    let ask = |method: Method, name: &'static str, value: String| {
        let uri = "/ledger/volume/2/tile/0/000";
        Request::builder().method(method).uri(uri).header(name, value).body(Body::empty()).unwrap()
    };
    let (_, headers, _) = bench.send(ask(Method::GET, "x", String::new())).await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    let (status, _, bytes) = bench.send(ask(Method::GET, "if-none-match", tag)).await;
    assert_eq!((status, bytes.len()), (StatusCode::NOT_MODIFIED, 0));
    let (status, headers, bytes) = bench.send(ask(Method::HEAD, "x", String::new())).await;
    assert_eq!((status, bytes.len(), &headers["content-length"]), (StatusCode::OK, 0, &"8192".parse().unwrap()));
    let (status, _, bytes) = bench.send(ask(Method::GET, "range", "bytes=32-63".into())).await;
    assert_eq!((status, &bytes[..]), (StatusCode::PARTIAL_CONTENT, &[1; 32][..]));
}

const TEXT_TYPE: &str = "text/plain; charset=utf-8";

#[tokio::test]
async fn health_readiness_notify_and_page() {
    let bench = Bench::new();
    assert_eq!(bench.get("/healthz", None).await.0, StatusCode::OK);
    assert_eq!(bench.get("/readyz", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.post("/v1/git/notify", None, Vec::new()).await.0, StatusCode::ACCEPTED);
    assert!(bench.api.look.wait(Duration::ZERO));
    let (status, page) = bench.get("/", None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(String::from_utf8(page).unwrap().contains("test/1"));
    bench.api.failed.store(true, Ordering::SeqCst);
    assert_eq!(bench.get("/healthz", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_control_plane_goes_on_where_the_ledger_has_it() {
    let bench = Bench::new();
    let api = Arc::clone(&bench.api);
    let control = Control::resume(
        api.ledger.clone(),
        api.control.stream(),
        SigningKey::from_bytes(&[3; 32]),
        Arc::clone(&api.clock),
    );
    let draft = |unchanged| Draft::new(&cairn_schemas::data::FleetObserved { streams: vec![], unchanged });
    control.append(vec![draft(1)]).unwrap();
    // The first one does not know of that record. The ledger refuses what follows another record, and it takes up the chain.
    assert!(api.control.append(vec![draft(2)]).is_err());
    api.control.append(vec![draft(2)]).unwrap();
    assert!(!api.control.sign_head(false).unwrap(), "not due: the clock stands still");
    assert!(api.control.sign_head(true).unwrap());
    assert!(!api.control.sign_head(true).unwrap(), "nothing is unsigned");
}
