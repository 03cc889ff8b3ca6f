//! The way from a commit to the sensor, and from a program that starts to its record and its end.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use cairn_ledger::dir::LedgerDir;
use cairn_schemas::record::Record;
use cairn_schemas::types::RecordType;
use cairn_tests::shell::commit;
use cairn_tests::up::Up;

use super::disk::Probes;
use super::figure::{Figure, Unit};
use super::{Bench, BenchError, admission, io_error};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the newest checkpoint is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Between two programs, so that each meets a ledger that published a while ago, as most do. Under load a checkpoint takes up to 50 ms more.
const PAUSE: Duration = Duration::from_millis(150);

const RULE: &str = "Benchmark program";
const KILL: &str = "name: kill-benchmark\non:\n  rules: [Benchmark program]\naction: kill\nmode: enforce\n";

/// Reads a ledger as it grows, from its published bytes.
struct Follower {
    ledger: LedgerDir,
    next: u64,
}

impl Follower {
    fn end(up: &Up) -> Result<Follower, BenchError> {
        let ledger = LedgerDir::open(&up.ledger_dir()).map_err(|error| BenchError::Follow(error.into()))?;
        let mut follower = Follower { ledger, next: 0 };
        follower.more()?;
        Ok(follower)
    }

    /// What was published since it was asked last. A partial tile may go while it is read: then the next look finds more.
    fn more(&mut self) -> Result<Vec<Record>, BenchError> {
        let Ok((checkpoint, _)) = self.ledger.checkpoint() else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for item in self.ledger.records(self.next..checkpoint.size.0, checkpoint.size) {
            let Ok((_, bytes)) = item else { break };
            records.push(Record::parse(&bytes).map_err(|error| BenchError::Follow(error.into()))?);
        }
        self.next += records.len() as u64;
        Ok(records)
    }

    fn wait(&mut self, what: &str, wanted: impl Fn(&Record) -> bool) -> Result<Record, BenchError> {
        let started = Instant::now();
        loop {
            if let Some(found) = self.more()?.into_iter().find(&wanted) {
                return Ok(found);
            }
            if started.elapsed() > PATIENCE {
                return Err(BenchError::Patience { what: what.to_owned(), seconds: PATIENCE.as_secs() });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let mut probes = Probes::default();
    let mut ready = Vec::new();
    for _ in 1..bench.repeat {
        probes.take(bench)?;
        let up = admission::up(bench);
        ready.push(up.ready_after.as_secs_f64());
        up.kill();
    }
    let up = admission::up(bench);
    ready.push(up.ready_after.as_secs_f64());
    probes.take(bench)?;

    let program = bench.path("forbidden-program");
    std::fs::copy("/bin/sleep", &program).map_err(io_error("copy /bin/sleep to", &program))?;
    let rule = rule(&program);
    let mut active = Vec::new();
    for round in 0..bench.repeat {
        eprintln!("path: commit {} of {}", round + 1, bench.repeat);
        // Each commit is another content, so that none is known good and none is skipped.
        let text = format!("# {round}\n{rule}");
        active.push(commit_to_active(&up, "detections/benchmark.yaml", &text)?);
    }
    let mut figures = vec![
        Figure::new("path: up, from nothing to ready (two rings, soak 1 s each)", Unit::Time, ready),
        Figure::new("path: commit to active on the sensor", Unit::Time, active),
    ];
    match cairn_tests::kernel::missing() {
        Some(what) => eprintln!("path: exec to record and event to kill are not measured: {what}"),
        None => figures.extend(live(bench, &up, &program, &probes)?),
    }
    if !up.stop() {
        return Err(BenchError::Patience { what: "cairn up to stop well".into(), seconds: PATIENCE.as_secs() });
    }
    Ok(figures)
}

fn rule(program: &Path) -> String {
    format!(
        "- rule: {RULE}\n  desc: A program that a benchmark starts.\n  condition: evt.type in (execve, execveat) and \
         proc.exepath = {}\n  output: benchmark program (command=%proc.cmdline)\n  priority: Warning\n",
        program.display()
    )
}

/// Seconds from the end of `git commit` to the record with which the sensor says that it runs it.
fn commit_to_active(up: &Up, file: &str, text: &str) -> Result<f64, BenchError> {
    let mut follower = Follower::end(up)?;
    let commit = commit(&up.policies(), "Benchmark", &[(file, text)]);
    let committed = Instant::now();
    let built = follower.wait("the release of the commit", |record| {
        record.kind == RecordType::ReleaseBuilt && record.data["commit"] == commit
    })?;
    let serial = format!("{}@", built.data["serial"]);
    let mut again = Follower { ledger: follower.ledger, next: 0 };
    again.wait("the release on the sensor", |record| {
        record.kind == RecordType::NodeLoaded
            && record.stream.as_str().starts_with("sensor")
            && record.data["release"].as_str().is_some_and(|release| release.starts_with(&serial))
    })?;
    Ok(committed.elapsed().as_secs_f64())
}

fn live(bench: &Bench, up: &Up, program: &Path, probes: &Probes) -> Result<Vec<Figure>, BenchError> {
    let mut recorded = Vec::new();
    for _ in 0..bench.repeat * 4 {
        std::thread::sleep(PAUSE);
        let mut follower = Follower::end(up)?;
        let started = Instant::now();
        let mut child = start(program)?;
        let pid = child.id();
        follower.wait("the detection", |record| of(record, pid))?;
        recorded.push(started.elapsed().as_secs_f64());
        end(program, &mut child)?;
    }
    commit_to_active(up, "responses/benchmark.yaml", KILL)?;
    let mut killed = Vec::new();
    let mut acted = Vec::new();
    for _ in 0..bench.repeat * 4 {
        std::thread::sleep(PAUSE);
        let mut follower = Follower::end(up)?;
        let started = Instant::now();
        let mut child = start(program)?;
        child.wait().map_err(io_error("wait for", program))?;
        killed.push(started.elapsed().as_secs_f64());
        let finished = follower.wait("the outcome", |record| record.kind == RecordType::ContainmentFinished)?;
        acted.push(finished.data["acted_us"].as_f64().unwrap_or(f64::NAN) / 1e6);
    }
    let beside = "one fdatasync";
    Ok(vec![
        Figure::new("path: exec to record in a published checkpoint", Unit::Time, recorded)
            .beside(beside, probes.p50()),
        Figure::new("path: kernel event to kill, by the sensor's clock", Unit::Time, acted)
            .beside(beside, probes.p50()),
        Figure::new("path: start of a program to its end by a kill", Unit::Time, killed).beside(beside, probes.p50()),
    ])
}

fn start(program: &Path) -> Result<Child, BenchError> {
    Command::new(program).arg("30").spawn().map_err(io_error("start", program))
}

fn end(program: &Path, child: &mut Child) -> Result<(), BenchError> {
    child.kill().map_err(io_error("kill", program))?;
    child.wait().map_err(io_error("wait for", program))?;
    Ok(())
}

fn of(record: &Record, pid: u32) -> bool {
    record.kind == RecordType::DetectionRaised && record.data["rule"] == RULE && record.data["process"]["pid"] == pid
}
