//! How fast a node's spool takes records on this machine. `cargo xtask bench spool` runs this and repeats it.
//!
//! ```text
//! bench_spool FOLDER THREADS SECONDS
//! ```
//!
//! Each thread has one record outstanding, an admission decision of about a kilobyte; sealing it is part of the time, as it is of a
//! decision's. FOLDER must not exist, and is left. Prints `name value`, times in seconds.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_node::{Spool, SpoolLimits, SystemRandom};
use cairn_schemas::data::{AdmissionDecided, Finding};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Serial};
use cairn_schemas::record::Draft;
use cairn_schemas::time::{ManualClock, Timestamp};
use cairn_schemas::token::{TokenKey, token};
use ed25519_dalek::SigningKey;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Room for what the fastest disk can take in the longest run: nothing is sent from here.
const LEN_MAX: u64 = 8 << 30;

fn decision() -> Draft {
    let key = TokenKey { epoch: "bench".into(), key: [7; 32] };
    let data = AdmissionDecided {
        uid: "705ab4f5-6393-11e8-b7cc-42010a800002".into(),
        operation: "CREATE".into(),
        kind: "v1/Pod".into(),
        resource: "v1/pods".into(),
        namespace: Some("shop".into()),
        name: Some("web-7d4b9c6f5-x2x8k".into()),
        user: token(&key, "user", "system:serviceaccount:kube-system:replicaset-controller").into(),
        allowed: false,
        dry_run: false,
        object: Digest::sha256(b"object"),
        denials: vec![Finding {
            guardrail: "kubernetes.privileged".into(),
            message: "container web of Pod shop/web-7d4b9c6f5-x2x8k runs privileged".into(),
        }],
        warnings: Vec::new(),
        omitted: 0,
        error: None,
        evaluated_us: 250,
    };
    let release = ReleaseRef { serial: Serial(1), digest: Digest::sha256(b"content") };
    Draft::new(&data).release(release).subject("shop/web-7d4b9c6f5-x2x8k")
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, threads, seconds] = &arguments[..] else {
        return Err("usage: bench_spool FOLDER THREADS SECONDS".into());
    };
    let (folder, threads, seconds): (&Path, usize, f64) = (Path::new(folder), threads.parse()?, seconds.parse()?);
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000)));
    let limits = SpoolLimits { len_max: LEN_MAX, ..SpoolLimits::default() };
    let key = SigningKey::from_bytes(&[9; 32]);
    let spool = Spool::open(folder, &"bench".parse()?, &key, limits, clock, Arc::new(SystemRandom))?;
    let draft = decision();

    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let mut times: Vec<Duration> = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let (spool, draft) = (&spool, &draft);
        let one = move || -> Result<Vec<Duration>> {
            let mut times = Vec::new();
            while Instant::now() < end {
                let draft = draft.clone();
                let asked = Instant::now();
                spool.record(draft)?;
                times.push(asked.elapsed());
            }
            Ok(times)
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        for thread in threads {
            times.extend(thread.join().map_err(|_| "a thread panicked")??);
        }
        Ok(())
    })?;
    let took = started.elapsed();
    spool.close()?;
    drop(spool);

    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64();
    println!("records {}", times.len());
    println!("per_second {}", times.len() as f64 / took.as_secs_f64());
    println!("p50 {}", at(0.5));
    println!("p99 {}", at(0.99));
    println!("max {}", at(1.0));
    Ok(())
}
