//! How fast this machine takes records: `cargo run --release -p cairn-ledger --example append -- <callers> <seconds> [published]`.
//!
//! Each caller has a stream of its own and one append outstanding; records are about 512 bytes, fully checked, and durable (one `fdatasync` of
//! the write-ahead log per group) when an append returns. With `published`, each caller also waits for a checkpoint that covers its record.
//! Prints a line with the machine's own preallocated-overwrite `fdatasync` beside the ledger's figures.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_ledger::head;
use cairn_ledger::note::NoteSigner;
use cairn_ledger::producer::Chain;
use cairn_ledger::writer::Ledger;
use cairn_schemas::data::{LedgerOpened, NodeCapabilities, NodeJoined, StreamOpened};
use cairn_schemas::ids::{NodeId, StreamId};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::types::NodeKind;
use ed25519_dalek::SigningKey;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn now() -> Timestamp {
    Timestamp::from_nanos(1_700_000_000_000_000_000)
}

/// A node with its stream, opened.
fn join(ledger: &Ledger, control: &mut Chain, number: usize) -> Result<Chain, Failure> {
    let node: NodeId = format!("node-{number}").parse()?;
    let key = head::format_key(&SigningKey::from_bytes(&[9; 32]).verifying_key());
    let joined = NodeJoined {
        node: node.clone(),
        kind: NodeKind::Sensor,
        key: key.clone(),
        labels: BTreeMap::new(),
        protocol: "1.0".into(),
    };
    ledger.append(control.stream(), vec![control.clone().seal(Draft::new(&joined), now())?.bytes])?;
    control.seal(Draft::new(&joined), now())?;
    let mut chain = Chain::new(StreamId::new(&node, [1; 16]));
    let opening = chain.seal(Draft::new(&StreamOpened { node, key, predecessor: None }), now())?;
    ledger.append(chain.stream(), vec![opening.bytes])?;
    Ok(chain)
}

/// Median of a preallocated 4 KiB overwrite with `fdatasync`.
fn disk_sync(dir: &Path) -> Result<Duration, Failure> {
    let file = std::fs::File::create(dir.join("probe"))?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for round in 0..200_u64 {
        let started = Instant::now();
        file.write_all_at(&[round as u8; 4096], (round % 256) * 4096)?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[100])
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let callers: usize = arguments.first().map_or(Ok(64), |text| text.parse())?;
    let seconds: u64 = arguments.get(1).map_or(Ok(5), |text| text.parse())?;
    let published = arguments.get(2).is_some_and(|text| text == "published");
    let folder = tempfile::tempdir_in(".")?;
    let sync = disk_sync(folder.path())?;

    let signer = NoteSigner::new("bench/1", SigningKey::from_bytes(&[1; 32]))?;
    let control_key = SigningKey::from_bytes(&[3; 32]);
    let opened = LedgerOpened {
        name: "bench".into(),
        volume: 1,
        ledger_key: signer.verifier().to_string(),
        root_key: signer.verifier().to_string(),
        release_key: String::new(),
        control_node: "control".parse()?,
        control_key: head::format_key(&control_key.verifying_key()),
        unsigned_commits: true,
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now()));
    let ledger = Ledger::create(&folder.path().join("ledger"), &opened, signer.clone(), clock.clone())?;
    let node: NodeId = "control".parse()?;
    let mut control = Chain::new(StreamId::new(&node, [0; 16]));
    let opening = StreamOpened { node, key: opened.control_key.clone(), predecessor: None };
    ledger.append(&control.stream().clone(), vec![control.seal(Draft::new(&opening), now())?.bytes])?;
    let chains = (0..callers).map(|number| join(&ledger, &mut control, number)).collect::<Result<Vec<_>, _>>()?;

    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut times: Vec<Duration> = Vec::new();
    std::thread::scope(|scope| -> Result<(), Failure> {
        let callers: Vec<_> = chains
            .into_iter()
            .map(|mut chain| {
                let ledger = &ledger;
                scope.spawn(move || -> Result<Vec<Duration>, Failure> {
                    let data = NodeCapabilities { live: true, version: "x".repeat(60), can: vec![], cannot: vec![] };
                    let mut times = Vec::new();
                    while Instant::now() < end {
                        let sealed = chain.seal(Draft::new(&data), now())?;
                        let asked = Instant::now();
                        let appended = ledger.append(chain.stream(), vec![sealed.bytes])?;
                        if published && !ledger.wait_published(appended.size, Duration::from_secs(10)) {
                            return Err("no checkpoint within 10 s".into());
                        }
                        times.push(asked.elapsed());
                    }
                    Ok(times)
                })
            })
            .collect();
        for caller in callers {
            times.extend(caller.join().map_err(|_| "a caller panicked")??);
        }
        Ok(())
    })?;
    let took = started.elapsed();
    let behind = ledger.size().0 - ledger.checkpoint().size.0;
    let size = ledger.size();
    let closing = Instant::now();
    ledger.close();
    let closing = closing.elapsed();
    let opening = Instant::now();
    drop(Ledger::open(&folder.path().join("ledger"), signer, clock)?);
    let opening = opening.elapsed();

    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "directory store, fdatasync per group, {callers} callers{}: {:.0} records/s, p50 {:?}, p99 {:?}, p99.9 {:?}; {behind} behind, \
         closed in {closing:?}, {size} records opened in {opening:?}; this disk's fdatasync p50 {sync:?}",
        if published { ", published" } else { "" },
        times.len() as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
    );
    Ok(())
}
