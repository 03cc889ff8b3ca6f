//! A ledger in a real bucket with Object Lock: crashes, take-overs, and what the server is asked.
//!
//! Each test starts itself as a process of its own, with the server's address and credentials in the environment where every AWS tool
//! looks. Where SeaweedFS cannot be installed the tests say so and do nothing.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use aws_sdk_s3::types::ObjectLockMode;
use cairn_ledger::blob;
use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::LedgerDir;
use cairn_ledger::head;
use cairn_ledger::keys::KeyFolder;
use cairn_ledger::local::lines::append_lines;
use cairn_ledger::local::{Hiding, LocalLedger};
use cairn_ledger::mirror::{Source, mirror};
use cairn_ledger::note::NoteSigner;
use cairn_ledger::producer::Chain;
use cairn_ledger::random::SystemRandom;
use cairn_ledger::tree::Frontier;
use cairn_ledger::vault::{VaultDir, VaultError};
use cairn_ledger::volume::Place;
use cairn_ledger::writer::{Address, AppendError, Ledger, OpenError, Rotation};
use cairn_schemas::data::{ErasureReason, GitRefused, LedgerOpened, StreamOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{CommitId, RecordIndex, Sequence, StreamId, TreeSize};
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::references::{self, BlobReference, Reference};
use cairn_schemas::time::{Clock, Timestamp};
use ed25519_dalek::SigningKey;

mod seaweed;

const SOON: Duration = Duration::from_secs(60);
/// Set in the process that does a test's work.
const WORKER: &str = "CAIRN_S3_TEST";

fn server() -> Option<&'static seaweed::Server> {
    static SERVER: OnceLock<Result<seaweed::Server, String>> = OnceLock::new();
    match SERVER.get_or_init(seaweed::Server::start) {
        Ok(server) => Some(server),
        Err(reason) => {
            assert!(std::env::var_os("CAIRN_REQUIRE_S3").is_none(), "there is no S3 server to test against: {reason}");
            println!("SKIPPED: there is no S3 server to test against: {reason}");
            None
        }
    }
}

/// This test program again, as a process that does one test's work.
fn process(test: &str, role: &str, endpoint: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).envs(seaweed::environment(endpoint));
    command.env(WORKER, role).stdout(Stdio::piped());
    command
}

/// `Some(role)` where the work is to be done; otherwise it was done, by another process.
fn role(test: &str) -> Option<String> {
    if let Ok(role) = std::env::var(WORKER) {
        return Some(role);
    }
    let server = server()?;
    let status = process(test, "main", server.endpoint()).stdout(Stdio::inherit()).status().unwrap();
    assert!(status.success(), "{test} failed in its own process");
    None
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn signer() -> NoteSigner {
    NoteSigner::new("bucket/1", key(1)).unwrap()
}

/// The real time: a server refuses to keep something until a time that is past.
struct Real;

impl Clock for Real {
    #[allow(clippy::disallowed_methods, reason = "the process's edge: here time becomes an argument")]
    fn now(&self) -> Timestamp {
        Timestamp::from_system(std::time::SystemTime::now())
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(Real)
}

fn now() -> Timestamp {
    Real.now()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn s3() -> aws_sdk_s3::Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12()).http_client(http).load().await;
    aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build())
}

fn make_bucket(name: &str) {
    seaweed::make_bucket(&std::env::var("AWS_ENDPOINT_URL").unwrap(), name).unwrap();
}

fn address(bucket: &str) -> Address {
    format!("s3://{bucket}/ledger?retention=1d").parse().unwrap()
}

fn opened() -> LedgerOpened {
    LedgerOpened {
        name: "bucket".into(),
        volume: 1,
        ledger_key: signer().verifier().to_string(),
        root_key: NoteSigner::new("bucket/root", key(2)).unwrap().verifier().to_string(),
        release_key: String::new(),
        control_node: "control".parse().unwrap(),
        control_key: head::format_key(&key(3).verifying_key()),
        unsigned_commits: true,
        mldsa_key: None,
        witnesses: None,
        previous: None,
    }
}

fn create(address: &Address) -> Ledger {
    Ledger::create_at(address, &opened(), signer(), clock()).unwrap()
}

fn open(address: &Address) -> Result<Ledger, OpenError> {
    Ledger::open_at(address, signer(), clock())
}

/// A stream of the control plane's node. `number` tells streams apart.
struct Producer {
    chain: Chain,
}

impl Producer {
    fn new(ledger: &Ledger, number: u8) -> Producer {
        let id = StreamId::new(&"control".parse().unwrap(), [number; 16]);
        let chain = match ledger.position(&id) {
            Some(at) => Chain::resume(id, at.sequence.next(), at.leaf, 0, now()),
            None => Chain::new(id),
        };
        Producer { chain }
    }

    /// Appends one record; its index and leaf hash.
    fn append(&mut self, ledger: &Ledger) -> Result<(RecordIndex, Digest), AppendError> {
        let draft = if self.chain.next() == Sequence(0) {
            let key = head::format_key(&key(3).verifying_key());
            Draft::new(&StreamOpened { node: "control".parse().unwrap(), key, predecessor: None })
        } else {
            let commit = "c".repeat(40).parse::<CommitId>().unwrap();
            let reason = "r".repeat(self.chain.next().0 as usize * 37 % 900);
            Draft::new(&GitRefused { accepted: commit.clone(), refused: commit, reason })
        };
        let sealed = self.chain.seal(draft, now()).unwrap();
        let appended = ledger.append(self.chain.stream(), vec![sealed.bytes])?;
        Ok((appended.index, sealed.leaf))
    }
}

/// A writer in a process of its own that appends from four threads, and says what is durable, until it is killed or stopped.
fn append_for_ever(bucket: &str) {
    let ledger = open(&address(bucket)).unwrap();
    let out = Mutex::new(std::io::stdout());
    let say = |line: String| {
        let mut out = out.lock().unwrap();
        writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
    };
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (ledger, say) = (&ledger, &say);
            scope.spawn(move || {
                let mut producer = Producer::new(ledger, number);
                loop {
                    match producer.append(ledger) {
                        Ok((index, leaf)) => say(format!("durable {index} {leaf}")),
                        Err(error) => return say(format!("refused {error}")),
                    }
                }
            });
        }
    });
    say("over".to_owned());
}

/// What a writer said.
struct Writer {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    durable: BTreeMap<u64, String>,
    refused: Vec<String>,
    over: bool,
}

impl Writer {
    fn start(test: &str, bucket: &str) -> Writer {
        let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let mut process = process(test, bucket, &endpoint).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Writer { process, lines, durable: BTreeMap::new(), refused: Vec::new(), over: false }
    }

    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["durable", index, leaf] if leaf.len() == 64 => {
                let before = self.durable.insert(index.parse().unwrap(), leaf.to_owned());
                assert!(before.is_none(), "index {index} was given twice");
            }
            ["refused", ..] => self.refused.push(line.to_owned()),
            ["over"] => self.over = true,
            _ => {} // the test harness's own lines, and one that a kill cut short
        }
    }

    /// Listens until so many records are durable.
    fn until(&mut self, durable: usize) {
        while self.durable.len() < durable {
            let line = self.lines.next().expect("the writer goes on").unwrap();
            self.hear(&line);
        }
    }

    /// Listens to its end.
    fn rest(&mut self) {
        while let Some(Ok(line)) = self.lines.next() {
            self.hear(&line);
        }
        self.process.wait().unwrap();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Everything that it was told is in the ledger, where it was told.
    fn check(&self, ledger: &Ledger) {
        for (index, leaf) in &self.durable {
            let record = ledger.read(RecordIndex(*index), 1).unwrap().pop();
            let record = record.unwrap_or_else(|| panic!("acknowledged record {index} is lost"));
            assert_eq!(Digest::leaf(&record).to_string(), *leaf, "record {index} is another one");
        }
    }
}

#[test]
fn a_dead_writer_is_succeeded_and_nothing_acknowledged_is_lost() {
    let test = "a_dead_writer_is_succeeded_and_nothing_acknowledged_is_lost";
    match role(test).as_deref() {
        None => return,
        Some("main") => {}
        Some(bucket) => return append_for_ever(bucket),
    }
    make_bucket("killed");
    let address = address("killed");
    let ledger = create(&address);
    assert!(matches!(Ledger::create_at(&address, &opened(), signer(), clock()), Err(OpenError::Locked)));
    let mut producer = Producer::new(&ledger, 99);
    producer.append(&ledger).unwrap();
    ledger.close();
    assert!(matches!(Ledger::create_at(&address, &opened(), signer(), clock()), Err(OpenError::Exists)));
    for round in 0..2 {
        let mut writer = Writer::start(test, "killed");
        writer.until(200 + 333 * round);
        writer.process.kill().unwrap();
        writer.rest();
        // The machine and its disk are gone: this process has nothing but the bucket.
        let died = Instant::now();
        let ledger = open(&address).unwrap();
        println!("taken over {:.1} s after the writer died", died.elapsed().as_secs_f64());
        writer.check(&ledger);
        producer.append(&ledger).unwrap();
        assert!(ledger.wait_published(ledger.size(), SOON));
        ledger.close();
    }
}

#[test]
fn a_paused_writer_steps_back() {
    let test = "a_paused_writer_steps_back";
    match role(test).as_deref() {
        None => return,
        Some("main") => {}
        Some(bucket) => return append_for_ever(bucket),
    }
    make_bucket("paused");
    let address = address("paused");
    create(&address).close();
    let mut writer = Writer::start(test, "paused");
    writer.until(100);
    // While it lives, nobody else gets in.
    assert!(matches!(open(&address), Err(OpenError::Locked)));
    writer.signal(rustix::process::Signal::STOP);
    let ledger = open(&address).unwrap();
    let mut producer = Producer::new(&ledger, 99);
    let ours: Vec<_> = (0..20).map(|_| producer.append(&ledger).unwrap()).collect();
    writer.signal(rustix::process::Signal::CONT);
    writer.rest();
    assert!(writer.over && writer.refused.len() == 4, "{:?}", writer.refused);
    assert!(writer.refused.iter().all(|line| line.contains("another writer has taken over")), "{:?}", writer.refused);
    writer.check(&ledger);
    for (index, leaf) in ours {
        assert!(!writer.durable.contains_key(&index.0), "record {index} was acknowledged twice");
        let record = ledger.read(index, 1).unwrap().pop().unwrap();
        assert_eq!(Digest::leaf(&record), leaf);
    }
    producer.append(&ledger).unwrap();
    ledger.close();
    let size = open(&address).unwrap().size();
    assert!(size > TreeSize(120), "{size}");
}

#[test]
fn what_never_changes_is_locked_and_its_versions_are_written_down() {
    if role("what_never_changes_is_locked_and_its_versions_are_written_down").is_none() {
        return;
    }
    make_bucket("locked");
    let ledger = create(&address("locked"));
    let mut producer = Producer::new(&ledger, 1);
    for _ in 0..300 {
        producer.append(&ledger).unwrap();
    }
    assert!(ledger.wait_published(ledger.size(), SOON));
    ledger.close();
    run(async {
        let s3 = s3().await;
        let keys = s3.list_objects_v2().bucket("locked").send().await.unwrap();
        let keys: Vec<String> = keys.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect();
        for needed in ["ledger/tile/0/000", "ledger/tile/entries/000", "ledger/checkpoints/1", "ledger/checkpoint"] {
            assert!(keys.iter().any(|key| key == needed), "{needed} is missing among {keys:?}");
        }
        assert!(!keys.iter().any(|key| key == "ledger/writer"), "the writer is gone and says that it is not");
        let mut locked = 0;
        for key in &keys {
            let head = s3.head_object().bucket("locked").key(key).send().await.unwrap();
            let never_changes = key.contains("/checkpoints/")
                || key.contains("/versions/")
                || key.contains("/tile/") && !key.contains(".p/");
            let mode = head.object_lock_mode();
            assert_eq!(mode == Some(&ObjectLockMode::Compliance), never_changes, "{key}: {mode:?}");
            if never_changes {
                locked += 1;
                let version = head.version_id().unwrap();
                let removed = s3.delete_object().bucket("locked").key(key).version_id(version).send().await;
                assert!(removed.is_err(), "{key} was removed");
            }
        }
        assert!(locked >= 5, "{keys:?}");
        // Each locked tile's version stands in `versions/`.
        let mut written = String::new();
        for key in keys.iter().filter(|key| key.contains("/versions/")) {
            let object = s3.get_object().bucket("locked").key(key).send().await.unwrap();
            written += std::str::from_utf8(&object.body.collect().await.unwrap().into_bytes()).unwrap();
        }
        for key in ["tile/0/000", "tile/entries/000", "checkpoints/1"] {
            let head = s3.head_object().bucket("locked").key(format!("ledger/{key}")).send().await.unwrap();
            let line = format!(r#"{{"key":"{key}","version":"{}","#, head.version_id().unwrap());
            assert!(written.contains(&line), "{line} is not in {written}");
        }
    });
}

/// A proxy that writes down the head of every request.
fn record(upstream: &str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let recorded = heads.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&upstream).unwrap());
            let (mut back, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let mut server = server;
                let _ = std::io::copy(&mut server, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
            let recorded = recorded.clone();
            std::thread::spawn(move || {
                let mut client = BufReader::new(client);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if client.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let length = |line: &str| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok();
                    let length: u64 = head.lines().find_map(length).unwrap_or(0);
                    recorded.lock().unwrap().push(head.clone());
                    let mut body = Vec::new();
                    let read = client.by_ref().take(length).read_to_end(&mut body);
                    if read.is_err() || to.write_all(head.as_bytes()).and_then(|()| to.write_all(&body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (here, heads)
}

#[test]
fn what_the_server_is_asked_holds_by_aws_rules_too() {
    let test = "what_the_server_is_asked_holds_by_aws_rules_too";
    match role(test).as_deref() {
        None => (),
        Some("main") => {
            make_bucket("asked");
            let (here, heads) = record(&std::env::var("AWS_ENDPOINT_URL").unwrap());
            let status = process(test, "behind the proxy", &here).stdout(Stdio::inherit()).status().unwrap();
            assert!(status.success());
            check_requests(&heads.lock().unwrap());
        }
        Some(_) => {
            let address = address("asked");
            let ledger = create(&address);
            let mut producer = Producer::new(&ledger, 1);
            for _ in 0..600 {
                producer.append(&ledger).unwrap();
            }
            ledger.close();
            let ledger = open(&address).unwrap();
            producer.append(&ledger).unwrap();
            ledger.close();
        }
    }
}

fn check_requests(heads: &[String]) {
    let (mut puts, mut locked, mut swaps) = (0, 0, 0);
    for head in heads {
        let line = head.lines().next().unwrap();
        let has = |name: &str| head.lines().any(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        let path = line.split(' ').nth(1).unwrap().split('?').next().unwrap();
        // AWS refuses a PUT to a bucket with Object Lock, and any removal of many, without a checksum of the body.
        let checked = has("content-md5") || head.to_lowercase().contains("x-amz-checksum-");
        assert!(!line.starts_with("POST ") || checked, "{head}");
        if !line.starts_with("PUT ") {
            continue;
        }
        puts += 1;
        assert!(!has("transfer-encoding"), "{head}");
        let conditional = has("if-none-match") || has("if-match");
        assert!(conditional || path.ends_with("/writer"), "whatever was there is overwritten: {head}");
        swaps += usize::from(path.ends_with("/checkpoint") && has("if-match"));
        let never_changes = path.contains("/checkpoints/")
            || path.contains("/versions/")
            || path.contains("/tile/") && !path.contains(".p/");
        locked += usize::from(never_changes);
        assert_eq!(has("x-amz-object-lock-mode"), never_changes, "{head}");
        assert_eq!(has("x-amz-object-lock-retain-until-date"), never_changes, "{head}");
        assert!(!never_changes || has("if-none-match"), "{head}");
        // The server keeps the digest of what is locked; what goes again has one that costs nothing.
        assert!(has(if never_changes { "x-amz-checksum-sha256" } else { "x-amz-checksum-crc32c" }), "{head}");
    }
    assert!(puts > 50 && locked > 5 && swaps > 5, "{puts} {locked} {swaps}");
}

/// Checks what a mirror's checkpoint covers, from its bytes.
fn check_mirror(dir: &std::path::Path) -> u64 {
    let dir = LedgerDir::open(dir).unwrap();
    let keys = [signer().verifier().clone()];
    let checkpoint = Checkpoint::verify(&dir.checkpoint_bytes().unwrap(), "bucket/1", &keys).unwrap();
    let mut tree = Frontier::new();
    for record in dir.records(0..u64::MAX, checkpoint.size) {
        tree.push(Digest::leaf(&record.unwrap().1));
    }
    assert_eq!((tree.size(), tree.root()), (checkpoint.size, checkpoint.root));
    checkpoint.size.0
}

#[test]
fn a_mirror_tells_what_was_hidden() {
    if role("a_mirror_tells_what_was_hidden").is_none() {
        return;
    }
    make_bucket("mirrored");
    let ledger = create(&address("mirrored"));
    let mut producer = Producer::new(&ledger, 1);
    let (folder, source) = (tempfile::tempdir().unwrap(), "s3://mirrored/ledger".parse::<Source>().unwrap());
    let copy = folder.path().join("mirror");
    for size in [40_u64, 300] {
        while ledger.size().0 < size {
            producer.append(&ledger).unwrap();
        }
        assert!(ledger.wait_published(TreeSize(size), SOON));
        // While the ledger is written.
        let mirrored = mirror(&source, &copy, &|_, _| {}).unwrap();
        assert!(mirrored.is_whole() && check_mirror(&copy) >= size, "{mirrored:?}");
    }
    ledger.put_file("releases/1/content.tar", b"tar".to_vec()).unwrap();
    ledger.put_file("releases/1/content.tar", b"tar".to_vec()).unwrap();
    assert!(ledger.put_file("releases/1/content.tar", b"another".to_vec()).is_err());
    assert!(ledger.put_file("tile/0/000", b"".to_vec()).is_err());
    ledger.close();

    let lines = |key: &str| {
        let text = std::fs::read_to_string(copy.join("versions.jsonl")).unwrap();
        let start = format!(r#"{{"key":"{key}","#);
        text.lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = lines("tile/0/000");
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(before[0].contains(r#""retention_mode":"COMPLIANCE","retain_until":"20"#), "{before:?}");
    let digest = Digest::sha256(&std::fs::read(copy.join("tile/0/000")).unwrap());
    assert!(before[0].contains(&format!(r#""sha256":"{digest}""#)), "{before:?}");
    // Somebody who may not remove a locked version hides it, and puts another object in its place.
    run(async {
        let s3 = s3().await;
        s3.delete_object().bucket("mirrored").key("ledger/tile/0/000").send().await.unwrap();
        let other = aws_sdk_s3::primitives::ByteStream::from(vec![7; 8192]);
        let put = s3.put_object().bucket("mirrored").key("ledger/tile/0/000").if_none_match("*").body(other);
        put.send().await.unwrap();
        s3.delete_object().bucket("mirrored").key("ledger/tile/entries/000").send().await.unwrap();
    });
    let mirrored = mirror(&source, &copy, &|_, _| {}).unwrap();
    assert_eq!(mirrored.missing, ["tile/entries/000"]);
    let after = lines("tile/0/000");
    assert_eq!(after.len(), 3, "{after:?}");
    assert!(after.iter().any(|line| line.contains(r#""delete_marker":true"#)), "{after:?}");
    assert!(lines("tile/entries/000")[0].contains(r#""is_latest":true,"delete_marker":true"#));
    // The mirror keeps what it had.
    assert_eq!(Digest::sha256(&std::fs::read(copy.join("tile/0/000")).unwrap()), digest);
    assert_eq!(std::fs::read(copy.join("releases/1/content.tar")).unwrap(), b"tar");
    assert!(!copy.join("writer").exists() && !copy.join("staging").exists());
    assert!(check_mirror(&copy) >= 300);
}

#[test]
fn a_volume_follows_another_in_a_bucket() {
    if role("a_volume_follows_another_in_a_bucket").is_none() {
        return;
    }
    make_bucket("rotated");
    let address = address("rotated");
    let ledger = create(&address);
    let mut producer = Producer::new(&ledger, 1);
    for _ in 0..20 {
        producer.append(&ledger).unwrap();
    }
    assert_eq!(ledger.rotate(Rotation::default()).unwrap(), 2);
    for _ in 0..20 {
        producer.append(&ledger).unwrap();
    }
    ledger.close();
    let ledger = open(&address).unwrap();
    assert_eq!((ledger.volume(), ledger.origin()), (2, "bucket/2".to_owned()));
    let mut again = Producer::new(&ledger, 1);
    assert_eq!(again.chain.next(), producer.chain.next());
    again.append(&ledger).unwrap();
    ledger.close();
    let copy = tempfile::tempdir().unwrap();
    let mirrored = mirror(&"s3://rotated/ledger".parse().unwrap(), copy.path(), &|_, _| {}).unwrap();
    assert!(mirrored.is_whole() && mirrored.volumes.len() == 2, "{mirrored:?}");
    assert!(copy.path().join("volume/2/checkpoint").is_file());
}

/// The references to blobs in a ledger by itself, in the order of its records.
fn blobs_of(ledger: &LocalLedger) -> Vec<BlobReference> {
    let records = ledger.ledger().read_from(Place::start_of(1), usize::MAX).unwrap();
    let found = records.iter().flat_map(|(_, bytes)| references::find(&Record::parse(bytes).unwrap().data));
    let blobs = found.filter_map(|(_, reference)| match reference {
        Reference::Blob(blob) => Some(blob),
        Reference::Commitment(_) | Reference::Malformed(_) => None,
    });
    blobs.collect()
}

#[test]
fn blobs_lie_in_the_bucket_and_erasing_destroys_their_keys() {
    if role("blobs_lie_in_the_bucket_and_erasing_destroys_their_keys").is_none() {
        return;
    }
    make_bucket("blobs");
    let folder = tempfile::tempdir().unwrap();
    let (beside, files) = (folder.path().join("ledger"), folder.path().join("files"));
    std::fs::create_dir(&files).unwrap();
    let place = "s3://blobs/ledger?retention=1d".parse().unwrap();
    let keys = KeyFolder::at(folder.path().join("ledger.keys"));
    let ledger = LocalLedger::open_or_create_in_bucket(&place, keys, clock(), Arc::new(SystemRandom)).unwrap();
    let append = |text: &str| {
        std::fs::write(files.join("report"), text).unwrap();
        let line = format!(
            r#"{{"type":"cairn.evidence.received.v1","id":"{text}","data":{{"host":"h1"}},"blobs":[{{"path":"/body","file":"report","subject":"alice"}}]}}"#
        );
        let mut producer = ledger.producer(&"ci".parse().unwrap()).unwrap();
        let mut hiding = Hiding::new(&ledger, &beside).unwrap();
        hiding.blobs = Some(files.clone());
        let input = Box::new(std::io::Cursor::new(line));
        let taken = append_lines(&mut producer, input, false, Some(&mut hiding), &mut |_| ()).unwrap();
        producer.finish(SOON).unwrap();
        assert_eq!((taken.appended, taken.refused), (1, 0), "{taken:?}");
    };
    append("all about alice");
    // A blob belongs to the ledger, whichever volume is written.
    ledger.ledger().rotate(Rotation::default()).unwrap();
    append("more about alice");
    let references = blobs_of(&ledger);
    assert_eq!(references.len(), 2);
    let copy = folder.path().join("mirror");
    let mirrored = mirror(&"s3://blobs/ledger".parse().unwrap(), &copy, &|_, _| {}).unwrap();
    assert!(mirrored.is_whole(), "{mirrored:?}");
    let vault = ledger.vault(&beside).unwrap();
    let reader = VaultDir::new(&folder.path().join("ledger.vault"));
    for (reference, plain) in references.iter().zip([&b"all about alice"[..], b"more about alice"]) {
        let path = blob::path(&reference.digest);
        let (there, mirrored) = (ledger.ledger().read_file(&path).unwrap(), std::fs::read(copy.join(&path)).unwrap());
        assert_eq!(there, mirrored);
        assert_eq!(reader.open_blob(reference, &there).unwrap(), plain);
        // The same bytes again are the same blob; others never take its place.
        ledger.ledger().put_file(&path, there).unwrap();
        assert!(ledger.ledger().put_file(&path, b"another".to_vec()).is_err());
        run(async {
            let (s3, key) = (s3().await, format!("ledger/{path}"));
            let head = s3.head_object().bucket("blobs").key(&key).send().await.unwrap();
            assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Compliance));
            let version = head.version_id().unwrap();
            let removed = s3.delete_object().bucket("blobs").key(&key).version_id(version).send().await;
            assert!(removed.is_err(), "{key} was removed");
        });
    }
    let erased = ledger.erase(&vault, &vault.keys_of("alice").unwrap(), ErasureReason::Request, None).unwrap();
    assert_eq!(erased.len(), 1);
    for reference in &references {
        // The locked bytes stay, and nobody can read them.
        let file = ledger.ledger().read_file(&blob::path(&reference.digest)).unwrap();
        assert!(matches!(reader.open_blob(reference, &file), Err(VaultError::NoKey { .. })));
    }
    ledger.close();
    mirror(&"s3://blobs/ledger".parse().unwrap(), &copy, &|_, _| {}).unwrap();
    let report = cairn_verify::verify(&copy, &cairn_verify::Options::default());
    assert_eq!(report.verdict, cairn_verify::Verdict::Ok, "{:#?}", report.faults);
}
