//! How fast the ledger is on this machine. `cargo xtask bench ledger` runs this, repeats it, and puts the disk's own figures beside it.
//!
//! ```text
//! bench_ledger FOLDER append CALLERS AT_ONCE SECONDS   one append outstanding per caller, of so many records
//! bench_ledger FOLDER publish CALLERS AT_ONCE SECONDS  each caller also waits for a checkpoint that covers its records
//! bench_ledger FOLDER raw CALLERS LEN SECONDS          appends of LEN bytes that are no records: log, tiles and checkpoints alone;
//!                                                      with the feature `bench` only
//! bench_ledger ADDRESS http NODE CALLERS SECONDS       appends of one record over HTTP, on as many kept connections, by the node whose
//!                                                      folder this is
//! bench_ledger FOLDER limits                           what this machine does at best: preallocated fdatasync, SHA-256
//! bench_ledger s3://… puts CONNECTIONS LEN SECONDS     new objects of LEN bytes, one outstanding per connection: what the server does
//!                                                      at best; with the feature `s3` only
//! bench_ledger FOLDER recover RECORDS                  opens a ledger whose log holds so many records that are in no tile; `bench` only
//! bench_ledger FOLDER leave RECORDS                    leaves such a ledger; `bench` only
//! bench_ledger FOLDER reopen                           opens a ledger that was left, and waits for its tiles
//! bench_ledger FOLDER make RECORDS                     leaves a ledger of so many records, its streams signed
//! ```
//!
//! Callers are tasks on two threads of an async runtime, as those that the HTTP interface has, and use its entry point,
//! `Ledger::submit`. A record is a detection of a sensor of about 1 KiB, another one each time: its sequence, its place in its stream's
//! chain and its process are its own. It is checked in full by the ledger, and durable when an append returns. Making and chaining a
//! record is the producers' work, and done here before the time of its append begins, on the same two cores.
//!
//! FOLDER may be `s3://bucket/prefix` in a build with feature `s3`; example `with_s3` starts a server. `append` then measures `puts` as
//! well, behind the appends and as long: on as many connections as groups may be on their way, objects as large as a bundle, since every
//! record goes there in one.
//! FOLDER must not exist, and is left: taking files away slows down the making of others for a while. Prints `name value`, times in seconds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
#[cfg(feature = "bench")]
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_ledger::dir::LedgerDir;
use cairn_ledger::head;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::producer::{Chain, HEAD_RECORDS_MAX};
use cairn_ledger::writer::{Address, Ledger};
use cairn_schemas::data::{Ancestor, DetectionRaised, FileSeen, LedgerOpened, NodeJoined, Process, StreamOpened, User};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, ReleaseRef, Sequence, Serial, StreamId};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::token::{TokenKey, token};
use cairn_schemas::types::NodeKind;
use ed25519_dalek::SigningKey;

/// Threads that callers share.
const CALLER_THREADS: usize = 2;
/// Records of one append of `make`.
const MADE_AT_ONCE: u64 = 1_000;
/// How often it is looked how far the published checkpoint is behind.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A public key for `ledger.opened`, which must have one; nothing is signed with it.
const RELEASE_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbanJuFtzQcyT5UZI2zwke0F1prFm\n\
9lwRWDaLWr52Z2ADMv5hx4Qo47wjZsPj/buvArFtS59Oj9NrQNbXdzC2Fg==\n\
-----END PUBLIC KEY-----\n";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [folder, what @ ("append" | "publish"), callers, at_once, seconds] => {
            append(Path::new(folder), callers.parse()?, at_once.parse()?, seconds.parse()?, what == "publish")
        }
        #[cfg(feature = "bench")]
        [folder, "raw", callers, len, seconds] => {
            raw(Path::new(folder), callers.parse()?, len.parse()?, seconds.parse()?)
        }
        [folder, "limits"] => limits(Path::new(folder)),
        #[cfg(feature = "s3")]
        [address, "puts", connections, len, seconds] => {
            puts::puts(address, connections.parse()?, len.parse()?, seconds.parse()?)
        }
        #[cfg(feature = "bench")]
        [folder, "recover", records] => recover(Path::new(folder), records),
        [folder, "reopen"] => reopen(Path::new(folder)).map(drop),
        [url, "http", node, callers, seconds] => http(url, Path::new(node), callers.parse()?, seconds.parse()?),
        [folder, "make", records] => make(Path::new(folder), records.parse()?),
        #[cfg(feature = "bench")]
        [folder, "leave", records] => leave(Path::new(folder), records.parse()?),
        _ => Err("usage: in the first lines of ledger/examples/bench_ledger.rs".into()),
    }
}

fn now() -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(now()))
}

fn signer() -> Result<NoteSigner> {
    Ok(NoteSigner::new("bench/1", SigningKey::from_bytes(&[1; 32]))?)
}

fn node_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn control_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// A ledger and its control plane's stream.
struct Made {
    ledger: Ledger,
    control: Chain,
}

impl Made {
    fn create(folder: &Path) -> Result<Made> {
        let signer = signer()?;
        let control_key = head::format_key(&control_key().verifying_key());
        let node: NodeId = "control".parse()?;
        let opened = LedgerOpened {
            name: "bench".into(),
            volume: 1,
            ledger_key: signer.verifier().to_string(),
            root_key: NoteSigner::new("bench/root", SigningKey::from_bytes(&[2; 32]))?.verifier().to_string(),
            release_key: RELEASE_KEY.into(),
            control_node: node.clone(),
            control_key: control_key.clone(),
            unsigned_commits: true,
            mldsa_key: None,
            witnesses: None,
            previous: None,
        };
        let address: Address = folder.to_str().ok_or("FOLDER is not UTF-8")?.parse()?;
        let ledger = Ledger::create_at(&address, &opened, signer, clock())?;
        let mut control = Chain::new(StreamId::new(&node, [0; 16]));
        let opening = StreamOpened { node, key: control_key, predecessor: None };
        let stream = control.stream().clone();
        ledger.append(&stream, vec![control.seal(Draft::new(&opening), now())?.bytes])?;
        Ok(Made { ledger, control })
    }

    /// A node with its stream, opened.
    fn join(&mut self, number: usize) -> Result<Sensor> {
        let node: NodeId = format!("node-{number:04}").parse()?;
        let key = head::format_key(&node_key().verifying_key());
        let joined = NodeJoined {
            node: node.clone(),
            kind: NodeKind::Sensor,
            key: key.clone(),
            labels: BTreeMap::new(),
            protocol: "1.0".into(),
        };
        let stream = self.control.stream().clone();
        self.ledger.append(&stream, vec![self.control.seal(Draft::new(&joined), now())?.bytes])?;
        let mut chain = Chain::new(StreamId::new(&node, [1; 16]));
        let opening = StreamOpened { node, key, predecessor: None };
        let stream = chain.stream().clone();
        self.ledger.append(&stream, vec![chain.seal(Draft::new(&opening), now())?.bytes])?;
        Sensor::new(chain)
    }
}

/// A sensor that detects something, again and again. Its records are made by writing into a sealed one what changes from each to the
/// next, all of it of fixed width; the first of a run is read by the ledger like every other, so that a mistake here would show.
struct Sensor {
    stream: StreamId,
    record: Vec<u8>,
    /// Where the sequence stands, twice, the leaf hash of the record before, and the process's start.
    sequence_at: [usize; 2],
    prevdigest_at: usize,
    start_at: usize,
    next: Sequence,
    prev: Digest,
    unsigned: u64,
}

/// Stands for the start time of a process.
const START: &str = "8123456789012345";

impl Sensor {
    fn new(chain: Chain) -> Result<Sensor> {
        let (next, prev) = (chain.next(), chain.prev());
        let record = chain.clone().seal(detection(), now())?.bytes;
        let find = |text: &str| -> Result<Vec<usize>> {
            let found: Vec<usize> = record
                .windows(text.len())
                .enumerate()
                .filter(|(_, part)| *part == text.as_bytes())
                .map(|(at, _)| at)
                .collect();
            if found.is_empty() { Err(format!("a record has no {text:?}").into()) } else { Ok(found) }
        };
        let digits = format!("{:020}", next.0);
        let [in_id] = find(&format!("/{digits}\""))?[..] else { return Err("a record has one id".into()) };
        let [sequence] = find(&format!("\"sequence\":\"{digits}\""))?[..] else { return Err("one sequence".into()) };
        let sequence_at = [in_id + 1, sequence + "\"sequence\":\"".len()];
        let prevdigest_at = find(&prev.to_string())?[0];
        let start_at = find(START)?[0];
        Ok(Sensor {
            stream: chain.stream().clone(),
            record,
            sequence_at,
            prevdigest_at,
            start_at,
            next,
            prev,
            unsigned: chain.unsigned(),
        })
    }

    /// The next record's bytes, until the one after.
    fn seal(&mut self) -> &[u8] {
        let mut digits = [b'0'; 20];
        let mut rest = self.next.0;
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        for at in self.sequence_at {
            self.record[at..at + 20].copy_from_slice(&digits);
        }
        self.record[self.start_at + 6..self.start_at + 16].copy_from_slice(&digits[10..]);
        hex(self.prev.as_bytes(), &mut self.record[self.prevdigest_at..self.prevdigest_at + 64]);
        self.prev = Digest::leaf(&self.record);
        self.next = self.next.next();
        self.unsigned += 1;
        &self.record
    }

    /// A signed head over all of the stream.
    fn seal_head(&mut self) -> Result<Vec<u8>> {
        let mut chain = Chain::resume(self.stream.clone(), self.next, self.prev, self.unsigned, now());
        let head = chain.seal_head(&node_key(), None, now())?.bytes;
        (self.next, self.prev, self.unsigned) = (chain.next(), chain.prev(), 0);
        Ok(head)
    }
}

fn hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.as_chunks_mut::<2>().0) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
}

/// A shell in a container, as a sensor records it.
fn detection() -> Draft {
    let key = TokenKey { epoch: "e1".into(), key: [7; 32] };
    let detection = DetectionRaised {
        rule: "Shell in container".into(),
        priority: "Notice".into(),
        tags: ["container", "shell"].map(str::to_owned).to_vec(),
        source: "syscall".into(),
        event: "execve".into(),
        observed: now(),
        output: "Shell in a container (user=%user.name)".into(),
        fields: BTreeMap::from([
            ("proc.pname".to_owned(), "runc".to_owned()),
            ("user.name".to_owned(), token(&key, "user", "alice").to_string()),
        ]),
        personal: BTreeMap::new(),
        process: Some(Process {
            pid: 41_237,
            start_ns: START.into(),
            name: "bash".into(),
            executable: "/usr/bin/bash".into(),
            arguments: ["bash", "-i"].map(str::to_owned).to_vec(),
            directory: None,
            user: User { uid: token(&key, "user", "1000").into(), name: None, login_uid: None },
            terminal: true,
        }),
        ancestors: vec![Ancestor {
            pid: 41_230,
            start_ns: "8123450000000000".into(),
            name: "runc".into(),
            executable: "/usr/sbin/runc".into(),
            command: "runc exec".into(),
        }],
        document: None,
        container: Some("4f5c7a".repeat(2)),
        file: None::<FileSeen>,
        responses: Vec::new(),
        cut: false,
    };
    let release = ReleaseRef { serial: Serial(3), digest: Digest::sha256(b"content") };
    Draft::new(&detection).release(release)
}

fn say(name: &str, value: f64) {
    println!("{name} {value}");
}

/// What appends one record after another.
struct Caller {
    ledger: Ledger,
    sensor: Sensor,
    over: Arc<AtomicBool>,
    at_once: usize,
    published: bool,
}

impl Caller {
    /// How long each append took to be acknowledged, and from there to be published, in nanoseconds.
    async fn run(mut self) -> Result<Vec<(u64, u64)>> {
        let mut times = Vec::new();
        let mut batch: Vec<Vec<u8>> = vec![Vec::new(); self.at_once];
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        while !self.over.load(Ordering::Relaxed) {
            for record in &mut batch {
                record.clear();
                record.extend_from_slice(self.sensor.seal());
            }
            let asked = Instant::now();
            let appended = self.ledger.submit(&self.sensor.stream, batch.iter().map(Vec::as_slice)).await?;
            let acknowledged = asked.elapsed();
            if self.published {
                self.ledger.published(appended.size).await?;
            }
            times.push((nanos(acknowledged), nanos(asked.elapsed())));
        }
        Ok(times)
    }
}

/// How long a durable record was in no published checkpoint, at most, seen every [`LOOK_INTERVAL`].
fn watch(ledger: &Ledger, over: &AtomicBool) -> Duration {
    let mut durable: std::collections::VecDeque<(Instant, u64)> = std::collections::VecDeque::new();
    let mut worst = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let (size, published) = (ledger.size().0, ledger.checkpoint().size.0);
        let now = Instant::now();
        while durable.front().is_some_and(|(_, size)| *size <= published) {
            durable.pop_front();
        }
        if let Some((since, _)) = durable.front() {
            worst = worst.max(now - *since);
        }
        durable.push_back((now, size));
        std::thread::sleep(LOOK_INTERVAL);
    }
    worst
}

/// Processor time of this process so far, in seconds.
fn processor_time() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).ok_or("/proc/self/stat is short")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// What was measured of a run.
struct Run {
    seconds: f64,
    took: f64,
    processor: f64,
    behind: Duration,
    times: Vec<(u64, u64)>,
}

impl Run {
    /// Lets `callers` run for a while on a runtime's threads, each until `over` is set.
    fn of<C>(ledger: &Ledger, over: &Arc<AtomicBool>, seconds: f64, callers: impl Iterator<Item = C>) -> Result<Run>
    where
        C: Future<Output = Result<Vec<(u64, u64)>>> + Send + 'static,
    {
        if !ledger.wait_published(ledger.size(), Duration::from_secs(60)) {
            return Err("no checkpoint within a minute".into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(CALLER_THREADS).build()?;
        let watcher = std::thread::spawn({
            let (ledger, over) = (ledger.clone(), over.clone());
            move || watch(&ledger, &over)
        });
        let (started, used) = (Instant::now(), processor_time()?);
        let tasks: Vec<_> = callers.map(|caller| runtime.spawn(caller)).collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        over.store(true, Ordering::Relaxed);
        let mut times: Vec<(u64, u64)> = Vec::new();
        for task in tasks {
            times.extend(runtime.block_on(task)??);
        }
        let (took, processor) = (started.elapsed().as_secs_f64(), processor_time()? - used);
        let behind = watcher.join().map_err(|_| "the watcher panicked")?;
        Ok(Run { seconds, took, processor, behind, times })
    }

    fn say(&self, at_once: usize) {
        let records = (self.times.len() * at_once) as f64;
        say("seconds", self.seconds);
        say("records", records);
        say("per_second", records / self.took);
        say("processor", self.processor / records);
        say("behind_max", self.behind.as_secs_f64());
        quantiles("append", self.times.iter().map(|(acknowledged, _)| *acknowledged).collect());
    }
}

fn append(folder: &Path, callers: usize, at_once: usize, seconds: f64, published: bool) -> Result<()> {
    let mut made = Made::create(folder)?;
    let sensors = (0..callers).map(|number| made.join(number)).collect::<Result<Vec<Sensor>>>()?;
    let record_len = sensors.first().map_or(0, |sensor| sensor.record.len());
    #[cfg(all(feature = "s3", feature = "bench"))]
    let group: Vec<Vec<u8>> = sensors.iter().map(|sensor| sensor.record.to_vec()).collect();
    let (ledger, over) = (made.ledger.clone(), Arc::new(AtomicBool::new(false)));
    let caller = |sensor| Caller { ledger: ledger.clone(), sensor, over: over.clone(), at_once, published };
    let run = Run::of(&ledger, &over, seconds, sensors.into_iter().map(|sensor| caller(sensor).run()))?;
    ledger.close();
    say("record_len", record_len as f64);
    run.say(at_once);
    if published {
        quantiles("publish", run.times.iter().map(|(_, published)| *published).collect());
    }
    #[cfg(feature = "s3")]
    if let Some(address) = folder.to_str().filter(|folder| folder.starts_with("s3://")) {
        #[cfg(feature = "bench")]
        say(
            "staged_share",
            cairn_ledger::s3::staged_len(&group) as f64 / group.iter().map(Vec::len).sum::<usize>() as f64,
        );
        puts::puts(&format!("{address}-puts"), puts::CONNECTIONS, puts::BUNDLE * record_len, seconds)?;
    }
    Ok(())
}

#[cfg(feature = "bench")]
fn raw(folder: &Path, callers: usize, len: usize, seconds: f64) -> Result<()> {
    let made = Made::create(folder)?;
    let (ledger, over) = (made.ledger.clone(), Arc::new(AtomicBool::new(false)));
    let caller = |number: usize| {
        let (ledger, over) = (ledger.clone(), over.clone());
        async move {
            let mut times = Vec::new();
            let mut bytes = vec![0x5a; len];
            for round in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                bytes[..8].copy_from_slice(&round.to_be_bytes());
                bytes[8..16].copy_from_slice(&(number as u64).to_be_bytes());
                let asked = Instant::now();
                ledger.submit_raw(&bytes).await?;
                let took = u64::try_from(asked.elapsed().as_nanos())?;
                times.push((took, took));
            }
            Ok(times)
        }
    };
    let run = Run::of(&ledger, &over, seconds, (0..callers).map(caller))?;
    ledger.close();
    say("record_len", len as f64);
    run.say(1);
    Ok(())
}

/// What a node needs of its folder.
struct Node {
    id: NodeId,
    key: SigningKey,
    credential: String,
}

impl Node {
    fn read(folder: &Path) -> Result<Node> {
        let identity: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("identity.json"))?)?;
        let text = |name: &str| identity[name].as_str().ok_or(format!("identity.json has no {name}"));
        let digits = fs::read_to_string(folder.join("node.key"))?;
        let mut seed = [0; 32];
        hex::decode_to_slice(digits.trim(), &mut seed)?;
        Ok(Node {
            id: text("node")?.parse()?,
            key: SigningKey::from_bytes(&seed),
            credential: text("credential")?.to_owned(),
        })
    }
}

/// A kept connection that appends to one stream.
struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Connection {
    fn open(address: &str, node: &Node, stream: &StreamId) -> Result<Connection> {
        let connection = TcpStream::connect(address)?;
        connection.set_nodelay(true)?;
        let head = format!(
            "POST /v1/nodes/streams/{stream} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-length: ",
            node.credential
        );
        Ok(Connection { stream: BufReader::new(connection), head })
    }

    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut request = format!("{}{}\r\n\r\n", self.head, record.len()).into_bytes();
        request.extend_from_slice(record);
        self.stream.get_mut().write_all(&request)?;
        let (mut line, mut len) = (String::new(), 0);
        self.stream.read_line(&mut line)?;
        let taken = line.split(' ').nth(1) == Some("200");
        while line != "\r\n" {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse()?;
            }
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("the answer ends in its head".into());
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        if taken { Ok(()) } else { Err(String::from_utf8_lossy(&body).into_owned().into()) }
    }
}

fn http(address: &str, node: &Path, callers: usize, seconds: f64) -> Result<()> {
    let node = Node::read(node)?;
    let key = head::format_key(&node.key.verifying_key());
    // Another sixteen bytes for each run, so that its streams are new.
    let run = u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_nanos())?;
    let mut ready = Vec::new();
    for number in 0..callers as u64 {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&run.to_be_bytes());
        random[8..].copy_from_slice(&number.to_be_bytes());
        let mut chain = Chain::new(StreamId::new(&node.id, random));
        let mut connection = Connection::open(address, &node, chain.stream())?;
        let opening = StreamOpened { node: node.id.clone(), key: key.clone(), predecessor: None };
        connection.append(&chain.seal(Draft::new(&opening), now())?.bytes)?;
        ready.push((connection, Sensor::new(chain)?));
    }
    let over = AtomicBool::new(false);
    let started = Instant::now();
    let mut times: Vec<u64> = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = ready
            .into_iter()
            .map(|(mut connection, mut sensor)| {
                let over = &over;
                scope.spawn(move || -> Result<Vec<u64>> {
                    let mut times = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let record = sensor.seal();
                        let asked = Instant::now();
                        connection.append(record)?;
                        times.push(u64::try_from(asked.elapsed().as_nanos())?);
                    }
                    Ok(times)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            times.extend(thread.join().map_err(|_| "a caller panicked")??);
        }
        Ok(())
    })?;
    say("records", times.len() as f64);
    say("per_second", times.len() as f64 / started.elapsed().as_secs_f64());
    quantiles("append", times);
    Ok(())
}

/// How long each of the two is measured.
const LIMIT_ROUND: Duration = Duration::from_millis(500);

/// Overwriting 4 KiB of a file that was written before, with `fdatasync`, and hashing records of 1 KiB on one core.
fn limits(folder: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    const FILE_LEN: u64 = 16 << 20;
    fs::create_dir_all(folder)?;
    let file = fs::File::create(folder.join("probe"))?;
    file.write_all_at(&vec![0x5a; FILE_LEN as usize], 0)?;
    file.sync_all()?;
    let (block, mut times, mut offset) = ([0xa5; 4096], Vec::new(), 0);
    let started = Instant::now();
    while started.elapsed() < LIMIT_ROUND {
        let asked = Instant::now();
        file.write_all_at(&block, offset)?;
        file.sync_data()?;
        times.push(u64::try_from(asked.elapsed().as_nanos())?);
        offset = (offset + block.len() as u64) % FILE_LEN;
    }
    quantiles("fdatasync", times);
    let (record, mut hashed) = ([0x5a; 1024], 0.0);
    let started = Instant::now();
    while started.elapsed() < LIMIT_ROUND {
        for _ in 0..1_000 {
            std::hint::black_box(Digest::leaf(std::hint::black_box(&record)));
        }
        hashed += 1_000.0 * record.len() as f64;
    }
    say("sha256_bytes_per_second", hashed / started.elapsed().as_secs_f64());
    Ok(())
}

/// A client that does nothing but PUT, beside which a bucket's ledger is measured: the same condition, the same kind of checksum.
#[cfg(feature = "s3")]
mod puts {
    use aws_sdk_s3::primitives::ByteStream;
    use cairn_ledger::s3::Place;

    use super::*;

    /// As many groups may be on their way at once: `ledger/FORMAT.md`, S3.
    pub(super) const CONNECTIONS: usize = 4;
    /// Records in one bundle.
    pub(super) const BUNDLE: usize = 256;

    pub(super) fn puts(address: &str, connections: usize, len: usize, seconds: f64) -> Result<()> {
        let place: Place = address.parse()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(CALLER_THREADS).enable_all().build()?;
        let over = Arc::new(AtomicBool::new(false));
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12()).http_client(http);
        let config = runtime.block_on(config.load());
        let client =
            aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        let (started, used) = (Instant::now(), processor_time()?);
        let tasks: Vec<_> = (0..connections)
            .map(|connection| {
                let (client, place, over) = (client.clone(), place.clone(), over.clone());
                runtime.spawn(async move {
                    let (mut times, mut bytes) = (Vec::new(), vec![0x5a; len]);
                    for round in 0_u64.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        bytes[..8].copy_from_slice(&round.to_be_bytes());
                        let key = format!("{}/{connection}/{round}", place.prefix);
                        let asked = Instant::now();
                        let checksum = crc32c::crc32c(&bytes).to_be_bytes();
                        let checksum = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, checksum);
                        let put = client.put_object().bucket(&place.bucket).key(key).if_none_match("*");
                        put.checksum_crc32_c(checksum).body(ByteStream::from(bytes.clone())).send().await?;
                        times.push(u64::try_from(asked.elapsed().as_nanos())?);
                    }
                    Ok::<_, Box<dyn Error + Send + Sync>>(times)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        over.store(true, Ordering::Relaxed);
        let mut times: Vec<u64> = Vec::new();
        for task in tasks {
            times.extend(runtime.block_on(task)??);
        }
        let (took, processor) = (started.elapsed().as_secs_f64(), processor_time()? - used);
        say("put_objects", times.len() as f64);
        say("put_len", len as f64);
        say("put_per_second", times.len() as f64 / took);
        say("put_processor", processor / times.len() as f64);
        quantiles("put", times);
        Ok(())
    }
}

fn quantiles(name: &str, mut times: Vec<u64>) {
    times.sort_unstable();
    let at = |share: f64| {
        times.get((times.len().saturating_sub(1) as f64 * share) as usize).map_or(0.0, |nanos| *nanos as f64 / 1e9)
    };
    say(&format!("{name}_p50"), at(0.5));
    say(&format!("{name}_p99"), at(0.99));
    say(&format!("{name}_p999"), at(0.999));
    say(&format!("{name}_max"), at(1.0));
}

/// Appends records of one sensor until the ledger has `records`, a signed head among them as often as one is due.
fn fill(ledger: &Ledger, sensor: &mut Sensor, records: u64) -> Result<()> {
    while ledger.size().0 < records {
        let left = records.saturating_sub(ledger.size().0).min(MADE_AT_ONCE);
        let batch: Vec<Vec<u8>> = (0..left).map(|_| sensor.seal().to_vec()).collect();
        ledger.append(&sensor.stream, batch)?;
        if sensor.unsigned + MADE_AT_ONCE > HEAD_RECORDS_MAX {
            let head = sensor.seal_head()?;
            ledger.append(&sensor.stream, vec![head])?;
        }
    }
    Ok(())
}

fn make(folder: &Path, records: u64) -> Result<()> {
    let mut made = Made::create(folder)?;
    let mut sensors = (0..4).map(|number| made.join(number)).collect::<Result<Vec<_>>>()?;
    let share = records / sensors.len() as u64;
    for (sensor, until) in sensors.iter_mut().zip((1..).map(|part| part * share)) {
        fill(&made.ledger, sensor, until)?;
        let head = sensor.seal_head()?;
        made.ledger.append(&sensor.stream, vec![head])?;
    }
    let head = made.control.seal_head(&control_key(), None, now())?.bytes;
    made.ledger.append(&made.control.stream().clone(), vec![head])?;
    let size = made.ledger.size();
    made.ledger.close();
    let mut bytes = 0;
    for record in LedgerDir::open(folder)?.records(0..size.0, size) {
        bytes += record?.1.len();
    }
    say("records", size.0 as f64);
    say("record_bytes", bytes as f64);
    Ok(())
}

/// Leaves a ledger as a crash does: the process ends, nothing is closed. All of its records are in the log and in no tile, which the writer
/// would never let come to be: it takes no more appends when [`cairn_ledger::writer::LAG_BYTES_MAX`] bytes wait to be published.
#[cfg(feature = "bench")]
fn leave(folder: &Path, records: u64) -> Result<()> {
    let mut made = Made::create(folder)?;
    let mut sensor = made.join(0)?;
    if !made.ledger.wait_published(made.ledger.size(), Duration::from_secs(60)) {
        return Err("no checkpoint within a minute".into());
    }
    made.ledger.hold_publishing();
    let published = made.ledger.size().0;
    fill(&made.ledger, &mut sensor, published + records)?;
    std::process::exit(0)
}

#[cfg(feature = "bench")]
fn recover(folder: &Path, records: &str) -> Result<()> {
    let status = Command::new(std::env::current_exe()?).arg(folder).args(["leave", records]).status()?;
    if !status.success() {
        return Err(format!("the process that leaves a ledger behind: {status}").into());
    }
    let size = reopen(folder)?;
    if size < records.parse()? {
        return Err(format!("{size} of {records} records came back").into());
    }
    Ok(())
}

/// Opens what a crash left, and once more what that left.
fn reopen(folder: &Path) -> Result<u64> {
    let started = Instant::now();
    let ledger = Ledger::open(folder, signer()?, clock())?;
    let accepting = started.elapsed();
    if !ledger.wait_published(ledger.size(), Duration::from_secs(600)) {
        return Err("what the log held was not published within 10 minutes".into());
    }
    let took = started.elapsed();
    let size = ledger.checkpoint().size.0;
    say("records", size as f64);
    say("accepting", accepting.as_secs_f64());
    say("recover", took.as_secs_f64());
    ledger.close();
    let started = Instant::now();
    let ledger = Ledger::open(folder, signer()?, clock())?;
    say("open", started.elapsed().as_secs_f64());
    ledger.close();
    Ok(size)
}
