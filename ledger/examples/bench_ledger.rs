//! How fast the ledger is on this machine. `cargo xtask bench ledger` runs this, repeats it, and puts the disk's own figures beside it.
//!
//! ```text
//! bench_ledger FOLDER append CALLERS AT_ONCE SECONDS   one append outstanding per caller, of so many records
//! bench_ledger FOLDER publish CALLERS AT_ONCE SECONDS  each caller also waits for a checkpoint that covers its records
//! bench_ledger FOLDER recover RECORDS                  opens a ledger whose log holds so many records that are in no tile
//! bench_ledger FOLDER make RECORDS                     leaves a ledger of so many records, its streams signed
//! ```
//!
//! Records are [`RECORD_LEN`] bytes, sealed by their producers before the time begins, checked in full by the ledger, and durable when an
//! append returns. FOLDER must not exist, and is left: taking files away slows down the making of others for a while. Prints `name value`, times in seconds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_ledger::head;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::producer::{Chain, HEAD_RECORDS_MAX};
use cairn_ledger::writer::Ledger;
use cairn_schemas::data::{LedgerOpened, NodeCapabilities, NodeJoined, StreamOpened};
use cairn_schemas::ids::{NodeId, StreamId};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::types::NodeKind;
use ed25519_dalek::SigningKey;

/// Bytes of a record that is appended, its envelope included.
const RECORD_LEN: usize = 512;
/// Most records that callers have ready, all together.
const READY_MAX: usize = 600_000;
/// Records of one append of `make`.
const MADE_AT_ONCE: u64 = 1_000;

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
        [folder, "recover", records] => recover(Path::new(folder), records),
        [folder, "make", records] => make(Path::new(folder), records.parse()?),
        [folder, "leave", records] => leave(Path::new(folder), records.parse()?),
        _ => Err("usage: bench_ledger FOLDER append|publish CALLERS AT_ONCE SECONDS | recover|make RECORDS".into()),
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
        let ledger = Ledger::create(folder, &opened, signer, clock())?;
        let mut control = Chain::new(StreamId::new(&node, [0; 16]));
        let opening = StreamOpened { node, key: control_key, predecessor: None };
        let stream = control.stream().clone();
        ledger.append(&stream, vec![control.seal(Draft::new(&opening), now())?.bytes])?;
        Ok(Made { ledger, control })
    }

    /// A node with its stream, opened.
    fn join(&mut self, number: usize) -> Result<Chain> {
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
        Ok(chain)
    }
}

/// A record of [`RECORD_LEN`] bytes.
fn seal(chain: &mut Chain) -> Result<Vec<u8>> {
    let capabilities = |version: String| NodeCapabilities {
        live: true,
        version,
        can: ["exec", "fork", "exit", "open", "kill"].map(str::to_owned).to_vec(),
        cannot: Vec::new(),
    };
    let bare = chain.clone().seal(Draft::new(&capabilities(String::new())), now())?.bytes.len();
    let version = "x".repeat(RECORD_LEN.saturating_sub(bare));
    Ok(chain.seal(Draft::new(&capabilities(version)), now())?.bytes)
}

fn say(name: &str, value: f64) {
    println!("{name} {value}");
}

/// What appends one record after another.
#[derive(Clone, Copy)]
struct Caller<'a> {
    ledger: &'a Ledger,
    over: &'a AtomicBool,
    end: Instant,
    published: bool,
}

impl Caller<'_> {
    /// How long each append took to be acknowledged, and from there to be published.
    fn run(self, stream: &StreamId, batches: Vec<Vec<Vec<u8>>>) -> Result<Vec<(Duration, Duration)>> {
        let mut times = Vec::with_capacity(batches.len());
        for batch in batches {
            if self.over.load(Ordering::Relaxed) || Instant::now() >= self.end {
                break;
            }
            let asked = Instant::now();
            let appended = self.ledger.append(stream, batch)?;
            let acknowledged = asked.elapsed();
            if self.published && !self.ledger.wait_published(appended.size, Duration::from_secs(10)) {
                return Err("no checkpoint within 10 s".into());
            }
            times.push((acknowledged, asked.elapsed() - acknowledged));
        }
        self.over.store(true, Ordering::Relaxed);
        Ok(times)
    }
}

fn append(folder: &Path, callers: usize, at_once: usize, seconds: f64, published: bool) -> Result<()> {
    let mut made = Made::create(folder)?;
    let ready = (READY_MAX / callers / at_once).min(20_000);
    let mut streams = Vec::new();
    for number in 0..callers {
        let mut chain = made.join(number)?;
        let mut batch = || (0..at_once).map(|_| seal(&mut chain)).collect::<Result<Vec<_>>>();
        let batches = (0..ready).map(|_| batch()).collect::<Result<Vec<_>>>()?;
        streams.push((chain.stream().clone(), batches));
    }
    let ledger = &made.ledger;
    if !ledger.wait_published(ledger.size(), Duration::from_secs(60)) {
        return Err("no checkpoint within a minute".into());
    }

    // Whoever runs out of records ends it for all: what is measured has all callers at work.
    let over = &AtomicBool::new(false);
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let mut times: Vec<(Duration, Duration)> = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let caller = Caller { ledger, over, end, published };
        let callers = streams
            .into_iter()
            .map(|(stream, batches)| {
                let thread = std::thread::Builder::new().name("caller".to_owned());
                thread.spawn_scoped(scope, move || caller.run(&stream, batches))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        for caller in callers {
            times.extend(caller.join().map_err(|_| "a caller panicked")??);
        }
        Ok(())
    })?;
    let took = started.elapsed();
    made.ledger.close();

    let records = (times.len() * at_once) as f64;
    say("records", records);
    say("per_second", records / took.as_secs_f64());
    quantiles("append", times.iter().map(|(acknowledged, _)| *acknowledged).collect());
    if published {
        quantiles("publish", times.iter().map(|(_, published)| *published).collect());
    }
    Ok(())
}

fn quantiles(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        times.get((times.len().saturating_sub(1) as f64 * share) as usize).map_or(0.0, Duration::as_secs_f64)
    };
    say(&format!("{name}_p50"), at(0.5));
    say(&format!("{name}_p99"), at(0.99));
    say(&format!("{name}_max"), at(1.0));
}

fn make(folder: &Path, records: u64) -> Result<()> {
    let mut made = Made::create(folder)?;
    let mut chains = (0..4).map(|number| made.join(number)).collect::<Result<Vec<_>>>()?;
    while made.ledger.size().0 < records {
        for chain in &mut chains {
            let left = records.saturating_sub(made.ledger.size().0).min(MADE_AT_ONCE);
            let batch = (0..left).map(|_| seal(chain)).collect::<Result<Vec<_>>>()?;
            if !batch.is_empty() {
                made.ledger.append(&chain.stream().clone(), batch)?;
            }
            if chain.unsigned() + MADE_AT_ONCE > HEAD_RECORDS_MAX {
                sign(&made.ledger, chain, &node_key())?;
            }
        }
    }
    chains.iter_mut().try_for_each(|chain| sign(&made.ledger, chain, &node_key()))?;
    sign(&made.ledger, &mut made.control, &control_key())?;
    say("records", made.ledger.size().0 as f64);
    made.ledger.close();
    Ok(())
}

/// Appends a signed head over all of a stream.
fn sign(ledger: &Ledger, chain: &mut Chain, key: &SigningKey) -> Result<()> {
    let head = chain.seal_head(key, None, now())?.bytes;
    ledger.append(&chain.stream().clone(), vec![head])?;
    Ok(())
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?
        } else {
            fs::copy(entry.path(), target).map(drop)?
        }
    }
    Ok(())
}

/// What is published, and not the log.
const PUBLISHED: [&str; 3] = ["checkpoint", "checkpoints", "tile"];

fn early(folder: &Path) -> PathBuf {
    folder.with_extension("early")
}

/// Leaves a ledger as a crash does: the process ends, nothing is closed. Beside it what was published when it had one record.
fn leave(folder: &Path, records: u64) -> Result<()> {
    let mut made = Made::create(folder)?;
    // Record 0 is published when `create` returns; the records of set-up may be, and follow from the log like all others.
    copy(folder, &early(folder))?;
    let mut chain = made.join(0)?;
    let stream = chain.stream().clone();
    while made.ledger.size().0 < records {
        let left = (records - made.ledger.size().0).min(MADE_AT_ONCE);
        made.ledger.append(&stream, (0..left).map(|_| seal(&mut chain)).collect::<Result<Vec<_>>>()?)?;
    }
    std::process::exit(0)
}

fn recover(folder: &Path, records: &str) -> Result<()> {
    let status = Command::new(std::env::current_exe()?).arg(folder).args(["leave", records]).status()?;
    if !status.success() {
        return Err(format!("the process that leaves a ledger behind: {status}").into());
    }
    // As if the machine had stopped before the first tile was written: everything comes out of the log.
    let early = early(folder);
    fs::remove_dir_all(folder.join("tile"))?;
    fs::remove_dir_all(folder.join("checkpoints"))?;
    for name in PUBLISHED {
        let (from, to) = (early.join(name), folder.join(name));
        if from.is_dir() { copy(&from, &to)? } else { fs::copy(from, to).map(drop)? }
    }
    let started = Instant::now();
    let ledger = Ledger::open(folder, signer()?, clock())?;
    let took = started.elapsed();
    if ledger.checkpoint().size.0 < records.parse()? {
        return Err(format!("{} of {records} records came back", ledger.checkpoint().size).into());
    }
    say("records", ledger.checkpoint().size.0 as f64);
    say("recover", took.as_secs_f64());
    ledger.close();
    let started = Instant::now();
    let ledger = Ledger::open(folder, signer()?, clock())?;
    say("open", started.elapsed().as_secs_f64());
    ledger.close();
    Ok(())
}
