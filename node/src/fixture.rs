//! For tests: a control plane that speaks the wire protocol, and releases made as the real one makes them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::proof::Proof;
use cairn_ledger::tile::{TileId, TileKind};
use cairn_ledger::tree::Frontier;
use cairn_release::ReleaseFiles;
use cairn_release::bundle;
use cairn_release::content::{Content, FileEntry, pack};
use cairn_release::gitobj::{EntryMode, Hash, ObjectId, ObjectKind, TreeEntry, object_id, write_tree};
use cairn_release::key::ReleaseSigner;
use cairn_release::statement::{self, Author, Base64, CommitEvidence, Predicate, SignatureSummary, TestSummary};
use cairn_schemas::data::{CommitSignature, ReleaseBuilt, TestCounts};
use cairn_schemas::digest::Digest;
use cairn_schemas::fleet::SignersConfig;
use cairn_schemas::ids::{RecordIndex, ReleaseRef, Sequence, Serial, StreamId, TreeSize};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::Timestamp;
use cairn_schemas::token::{TokenKey, token};
use cairn_schemas::wire::{
    AppendAnswer, Desired, JoinRequest, JoinResponse, JoinToken, Pins, StreamPosition, WireError,
};
use ed25519_dalek::SigningKey;

use crate::client::Client;

/// When the releases made here expire.
pub(crate) const EXPIRES: Timestamp = Timestamp::from_nanos(1_800_000_000_000_000_000);

const NAME: &str = "example.com/cairn";
const CREDENTIAL: &str = "a credential";

/// The ledger's key in the fixture's fleet.
pub(crate) fn ledger() -> NoteSigner {
    note_signer(1)
}

fn note_signer(seed: u8) -> NoteSigner {
    NoteSigner::new(&format!("{NAME}/1"), SigningKey::from_bytes(&[seed; 32])).unwrap()
}

fn release_signer() -> ReleaseSigner {
    static SIGNER: LazyLock<ReleaseSigner> = LazyLock::new(|| ReleaseSigner::generate().unwrap());
    SIGNER.clone()
}

/// What a node of the fixture's fleet pins.
pub(crate) fn pins() -> Pins {
    use base64::Engine as _;
    Pins {
        ledger_name: NAME.into(),
        root_key: note_signer(9).verifier().to_string(),
        ledger_key: note_signer(1).verifier().to_string(),
        release_key: release_signer().public().to_pem(),
        control_node: "control".parse().unwrap(),
        signers: SignersConfig::UnsignedAllowed,
        token_epoch: "e1".into(),
        token_key: base64::engine::general_purpose::STANDARD.encode([4; 32]),
        witnesses: None,
    }
}

/// Whose hands a release went through, each open to be another's.
struct Maker {
    ledger: NoteSigner,
    signer: ReleaseSigner,
    control: &'static str,
    expires: Timestamp,
    /// What is packed, where it is not what the commit says.
    packed: Option<Content>,
}

impl Maker {
    fn new() -> Maker {
        Maker { ledger: note_signer(1), signer: release_signer(), control: "control", expires: EXPIRES, packed: None }
    }

    fn make(&self, serial: u64, content: &Content) -> ReleaseFiles {
        let id = |kind, body: &[u8]| -> ObjectId { object_id(Hash::Sha1, kind, body).unwrap() };
        let entries: Vec<TreeEntry> = content
            .iter()
            .map(|(path, file)| TreeEntry {
                mode: EntryMode::File,
                name: path.as_str().into(),
                id: id(ObjectKind::Blob, &file.bytes),
            })
            .collect();
        let root = write_tree(&entries);
        let tree = id(ObjectKind::Tree, &root);
        let commit = format!("tree {tree}\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nm\n").into_bytes();
        let commit_id = id(ObjectKind::Commit, &commit).commit_id();
        let content_tar = pack(self.packed.as_ref().unwrap_or(content)).unwrap();
        let predicate = Predicate {
            serial: Serial(serial),
            built: Timestamp::from_nanos(1_000),
            expires: self.expires,
            commit: CommitEvidence { id: commit_id.clone(), raw: Base64(commit), trees: vec![Base64(root)] },
            signature: SignatureSummary::None,
            author: Author { name: "A".into(), email: "a@x".into() },
            reviewers: Vec::new(),
            tests: TestSummary { passed: 0, failed: 0, covered: 0, coverable: 0 },
            tools: BTreeMap::new(),
            known_good: false,
            same_content_as: None,
        };
        let payload = statement::build(&content_tar, predicate).to_bytes().unwrap();
        let statement = bundle::sign(&payload, &self.signer);
        let built = ReleaseBuilt {
            serial: Serial(serial),
            commit: commit_id,
            content: Digest::sha256(&content_tar),
            statement: Digest::sha256(&statement),
            expires: self.expires,
            signature: CommitSignature::None,
            author: token(&TokenKey { epoch: "e1".into(), key: [4; 32] }, "email", "a@x").into(),
            known_good: false,
            same_content_as: None,
            tests: TestCounts { passed: 0, failed: 0 },
        };
        let draft = Draft::new(&built);
        let record = Record {
            stream: StreamId::new(&self.control.parse().unwrap(), [7; 16]),
            sequence: Sequence(serial),
            prevdigest: Digest::sha256(b"previous"),
            kind: draft.kind,
            subject: None,
            time: Timestamp::from_nanos(1_001),
            release: None,
            foreignid: Some(serial.to_string()),
            data: draft.data,
        };
        let record = record.to_bytes().unwrap();
        let sibling = Digest::leaf(b"first");
        let root = Digest::node(&sibling, &Digest::leaf(&record));
        let checkpoint = Checkpoint { origin: format!("{NAME}/1"), size: TreeSize(2), root };
        let checkpoint = checkpoint.sign(&self.ledger).unwrap();
        let proof = Proof { extra: None, index: RecordIndex(1), hashes: vec![sibling], checkpoint }.to_bytes();
        ReleaseFiles { content_tar, statement, record, proof }
    }
}

/// A policy that loads; `note` makes its digest another.
pub(crate) fn good_policy(note: u64) -> Content {
    let yaml = format!("# {note}\nversion: 1\nrings:\n  - name: all\n");
    Content::from([("cairn.yaml".to_owned(), FileEntry::plain(yaml))])
}

/// A policy that does not load.
pub(crate) fn bad_policy() -> Content {
    Content::from([("cairn.yaml".to_owned(), FileEntry::plain("bad: [\n"))])
}

/// A release of this content.
pub(crate) fn release(serial: u64, content: Content) -> ReleaseFiles {
    Maker::new().make(serial, &content)
}

pub(crate) fn by_another_ledger(serial: u64) -> ReleaseFiles {
    Maker { ledger: note_signer(2), ..Maker::new() }.make(serial, &good_policy(serial))
}

pub(crate) fn by_another_release_key(serial: u64) -> ReleaseFiles {
    Maker { signer: ReleaseSigner::generate().unwrap(), ..Maker::new() }.make(serial, &good_policy(serial))
}

pub(crate) fn by_another_control_plane(serial: u64) -> ReleaseFiles {
    Maker { control: "impostor", ..Maker::new() }.make(serial, &good_policy(serial))
}

pub(crate) fn with_other_content_than_the_commit(serial: u64) -> ReleaseFiles {
    Maker { packed: Some(good_policy(serial + 1)), ..Maker::new() }.make(serial, &good_policy(serial))
}

pub(crate) fn expired(serial: u64) -> ReleaseFiles {
    Maker { expires: Timestamp::from_nanos(1), ..Maker::new() }.make(serial, &good_policy(serial))
}

/// What the files say that they are.
pub(crate) fn reference(serial: u64, files: &ReleaseFiles) -> ReleaseRef {
    ReleaseRef { serial: Serial(serial), digest: Digest::sha256(&files.content_tar) }
}

/// A history of a log: leaves, and what follows from them. Two with as many `shared` leaves are one up to there.
#[derive(Clone)]
pub(crate) struct History(Vec<Digest>);

impl History {
    pub(crate) fn new(name: &str, shared: usize, size: usize) -> History {
        let leaf = |index: usize| {
            let text = if index < shared { format!("shared {index}") } else { format!("{name} {index}") };
            Digest::leaf(text.as_bytes())
        };
        History((0..size).map(leaf).collect())
    }

    /// The checkpoint of its first records.
    pub(crate) fn signed(&self, size: usize, signer: &NoteSigner) -> Vec<u8> {
        let mut frontier = Frontier::new();
        self.0[..size].iter().for_each(|leaf| frontier.push(*leaf));
        let origin = signer.verifier().name().to_owned();
        Checkpoint { origin, size: TreeSize(size as u64), root: frontier.root() }.sign(signer).unwrap()
    }

    pub(crate) fn tile(&self, tile: TileId) -> Result<Vec<Digest>, String> {
        let TileKind::Hashes(level) = tile.kind() else { return Err("no entries here".into()) };
        let span = 256_usize.pow(u32::from(level));
        let first = tile.index() as usize * 256;
        (first..first + usize::from(tile.width()))
            .map(|item| {
                let hashes = self.0.get(item * span..(item + 1) * span).ok_or("beyond the tree")?.to_vec();
                Ok(fold(&hashes))
            })
            .collect()
    }
}

/// The root of a whole number of leaves that is a power of two.
fn fold(hashes: &[Digest]) -> Digest {
    let mut hashes = hashes.to_vec();
    while hashes.len() > 1 {
        hashes = hashes.chunks_exact(2).map(|pair| Digest::node(&pair[0], &pair[1])).collect();
    }
    hashes[0]
}

/// A control plane in this process, on a port of its own.
pub(crate) struct Plane {
    shared: Arc<Shared>,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    inner: Mutex<Inner>,
    changed: tokio::sync::Notify,
}

#[derive(Default)]
struct Inner {
    releases: BTreeMap<u64, ReleaseFiles>,
    desired: Option<Desired>,
    streams: BTreeMap<StreamId, Vec<Vec<u8>>>,
    joined: BTreeMap<String, String>,
    fetched: usize,
    checkpoint: Option<Vec<u8>>,
    /// Whose tiles are served.
    history: Option<History>,
    /// The witness policy that nodes pin when they join.
    witnesses: Option<String>,
    down: bool,
    /// Answers that are lost after their effect.
    lose_answers: usize,
    other_pins: bool,
}

impl Plane {
    pub(crate) fn start() -> Plane {
        let shared = Arc::new(Shared { inner: Mutex::default(), changed: tokio::sync::Notify::new() });
        let router = Router::new()
            .route("/v1/nodes/join", post(join))
            .route("/v1/nodes/desired", get(desired))
            .route("/v1/nodes/streams/{id}", get(position).post(append))
            .route("/ledger/checkpoint", get(checkpoint))
            .route("/ledger/tile/{*path}", get(tile))
            .route("/ledger/releases/{serial}/{file}", get(release_file))
            .with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Plane { shared, url, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url).with_credential(CREDENTIAL)
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap()
    }

    /// Offers the files for download, and gives their name.
    pub(crate) fn publish(&self, serial: u64, files: ReleaseFiles) -> ReleaseRef {
        let reference = reference(serial, &files);
        self.inner().releases.insert(serial, files);
        reference
    }

    pub(crate) fn forget(&self, serial: u64) {
        self.inner().releases.remove(&serial);
    }

    /// How many files were fetched.
    pub(crate) fn fetched(&self) -> usize {
        self.inner().fetched
    }

    /// What nodes are told to run from now on.
    pub(crate) fn want(&self, release: ReleaseRef, fallback: bool) {
        self.inner().desired = Some(Desired { release: Some(release), fallback, reason: None });
        self.shared.changed.notify_waiters();
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.inner().down = down;
    }

    pub(crate) fn lose_answers(&self, count: usize) {
        self.inner().lose_answers = count;
    }

    pub(crate) fn show_other_pins(&self) {
        self.inner().other_pins = true;
    }

    pub(crate) fn show_checkpoint(&self, size: u64) {
        let checkpoint =
            Checkpoint { origin: format!("{NAME}/1"), size: TreeSize(size), root: Digest::sha256(&size.to_le_bytes()) };
        self.inner().checkpoint = Some(checkpoint.sign(&note_signer(1)).unwrap());
    }

    /// Shows the first records of this history, and its tiles.
    pub(crate) fn show_history(&self, history: &History, size: usize) {
        let mut inner = self.inner();
        inner.checkpoint = Some(history.signed(size, &ledger()));
        inner.history = Some(history.clone());
    }

    /// Shows no tiles any more.
    pub(crate) fn hide_tiles(&self) {
        self.inner().history = None;
    }

    /// Nodes that join from now on pin this policy. Gives the token that they join with.
    pub(crate) fn demand_witnesses(&self, policy: &str) -> JoinToken {
        self.inner().witnesses = Some(policy.to_owned());
        let pins = Pins { witnesses: Some(policy.to_owned()), ..pins() };
        JoinToken { pins: pins.digest(), ..join_token() }
    }

    /// The records of a stream, as the ledger took them.
    pub(crate) fn records(&self, stream: &StreamId) -> Vec<Record> {
        let inner = self.inner();
        let records = inner.streams.get(stream).map(Vec::as_slice).unwrap_or_default();
        records.iter().map(|bytes| Record::parse(bytes).unwrap()).collect()
    }

    /// The streams that anything was sent to.
    pub(crate) fn streams(&self) -> Vec<StreamId> {
        self.inner().streams.keys().cloned().collect()
    }

    /// Puts a record where the ledger has this stream, as if somebody else had sent it.
    pub(crate) fn put(&self, stream: &StreamId, bytes: Vec<u8>) {
        self.inner().streams.entry(stream.clone()).or_default().push(bytes);
    }

    /// Waits until `holds`, for as long as a busy machine may need.
    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut(&Plane) -> bool) {
        for _ in 0..3_000 {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("never happened: {what}");
    }
}

type Answer = Result<Response, (StatusCode, axum::Json<WireError>)>;

fn refuse(status: StatusCode, error: &str) -> Answer {
    Err((status, axum::Json(WireError { error: error.to_owned(), hint: None })))
}

fn admit(shared: &Shared, headers: &HeaderMap) -> Result<(), (StatusCode, axum::Json<WireError>)> {
    if shared.inner.lock().unwrap().down {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "down").map(drop);
    }
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    if shown == Some(&format!("Bearer {CREDENTIAL}")) {
        Ok(())
    } else {
        refuse(StatusCode::UNAUTHORIZED, "no credential").map(drop)
    }
}

/// The token that this control plane admits nodes with.
pub(crate) fn join_token() -> JoinToken {
    JoinToken { secret: Digest::sha256(b"join").to_string(), pins: pins().digest() }
}

async fn join(State(shared): State<Arc<Shared>>, axum::Json(request): axum::Json<JoinRequest>) -> Answer {
    let mut inner = shared.inner.lock().unwrap();
    let shown = request.token.parse().ok().map(|token: JoinToken| token.secret);
    if shown != Some(join_token().secret) {
        return refuse(StatusCode::FORBIDDEN, "this join token is not known here");
    }
    let known = inner.joined.entry(request.token).or_insert_with(|| request.key.clone());
    if *known != request.key {
        return refuse(StatusCode::FORBIDDEN, "this join token was used before");
    }
    if inner.lose_answers > 0 {
        inner.lose_answers -= 1;
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the answer is lost");
    }
    let mut pins = Pins { witnesses: inner.witnesses.clone(), ..pins() };
    if inner.other_pins {
        pins.ledger_name.push('x');
    }
    let node = format!("{}-1", request.kind.as_str()).parse().unwrap();
    Ok(axum::Json(JoinResponse { node, credential: CREDENTIAL.into(), pins }).into_response())
}

#[derive(serde::Deserialize)]
struct DesiredQuery {
    have: Option<String>,
    wait: u64,
}

async fn desired(State(shared): State<Arc<Shared>>, Query(query): Query<DesiredQuery>, headers: HeaderMap) -> Answer {
    admit(&shared, &headers)?;
    let changed = shared.changed.notified();
    let have: Option<ReleaseRef> = query.have.and_then(|have| have.parse().ok());
    let now = || {
        let desired = shared.inner.lock().unwrap().desired.clone();
        desired.unwrap_or(Desired { release: None, fallback: false, reason: None })
    };
    if now().release == have {
        let _ = tokio::time::timeout(Duration::from_secs(query.wait), changed).await;
    }
    Ok(axum::Json(now()).into_response())
}

async fn position(State(shared): State<Arc<Shared>>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    admit(&shared, &headers)?;
    let inner = shared.inner.lock().unwrap();
    let records = inner.streams.get(&id.parse::<StreamId>().unwrap());
    let last = records.and_then(|records| Some((records.len() as u64 - 1, records.last()?)));
    let position = StreamPosition {
        sequence: last.map(|(sequence, _)| Sequence(sequence)),
        digest: last.map_or(Digest::ZERO, |(_, bytes)| Digest::leaf(bytes)),
    };
    Ok(axum::Json(position).into_response())
}

async fn append(State(shared): State<Arc<Shared>>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    admit(&shared, &headers)?;
    let stream: StreamId = id.parse().unwrap();
    let mut inner = shared.inner.lock().unwrap();
    let here = inner.streams.entry(stream).or_default();
    let mut last = None;
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record = match Record::parse(line) {
            Ok(record) => record,
            Err(error) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, &error.one_line()),
        };
        let at = usize::try_from(record.sequence.0).unwrap();
        match here.get(at) {
            Some(bytes) if bytes == line => {}
            Some(_) => return refuse(StatusCode::CONFLICT, "another record has this sequence"),
            None if at == here.len() => here.push(line.to_vec()),
            None => return refuse(StatusCode::CONFLICT, "a gap"),
        }
        last = Some(record.sequence);
    }
    if inner.lose_answers > 0 {
        inner.lose_answers -= 1;
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the answer is lost");
    }
    let sequence = last.unwrap_or_default();
    Ok(axum::Json(AppendAnswer { sequence, volume: 1, index: RecordIndex(sequence.0), rejected: Vec::new() })
        .into_response())
}

async fn checkpoint(State(shared): State<Arc<Shared>>) -> Answer {
    match shared.inner.lock().unwrap().checkpoint.clone() {
        Some(bytes) => Ok(bytes.into_response()),
        None => refuse(StatusCode::NOT_FOUND, "no checkpoint"),
    }
}

async fn tile(State(shared): State<Arc<Shared>>, Path(path): Path<String>) -> Answer {
    let inner = shared.inner.lock().unwrap();
    let tile = format!("tile/{path}").parse::<TileId>().ok();
    match tile.and_then(|tile| inner.history.as_ref()?.tile(tile).ok()) {
        Some(hashes) => Ok(hashes.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<u8>>().into_response()),
        None => refuse(StatusCode::NOT_FOUND, "no such tile"),
    }
}

async fn release_file(State(shared): State<Arc<Shared>>, Path((serial, file)): Path<(u64, String)>) -> Answer {
    let mut inner = shared.inner.lock().unwrap();
    inner.fetched += 1;
    let Some(files) = inner.releases.get(&serial) else {
        return refuse(StatusCode::NOT_FOUND, "no such release");
    };
    match files.named().into_iter().find(|(name, _)| *name == file) {
        Some((_, bytes)) => Ok(bytes.to_vec().into_response()),
        None => refuse(StatusCode::NOT_FOUND, "no such file"),
    }
}
