//! The rule engine: over a synthetic mix of events, and over a trace of a real machine, decoding included.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use super::figure::{Figure, Unit};
use super::ledger::Runs;
use super::{Bench, BenchError, io_error};

const TEMPLATE: &str = "policies-repo-template/detections";
const UPSTREAM: [&str; 3] = [
    "sensor/rules/tests/falco-rules/falco_rules.yaml",
    "sensor/rules/tests/falco-rules/falco-incubating_rules.yaml",
    "sensor/rules/tests/falco-rules/falco-sandbox_rules.yaml",
];
/// What the kernel programs wrote while `workload.sh` beside it ran.
const TRACE: &str = "sensor/benches/workload.trace.gz";
/// Events of many kinds, few of each.
const CAPTURE: &str = "sensor/rules/tests/captures/libs-2022.scap";
/// System calls per second that one CPU of Falco sustains without drops, as its project measured and published.
const FALCO_PER_SECOND: f64 = 250_000.0;
/// What an event of the trace costs, in instructions: `rustc` and the count.
const INSTRUCTIONS: &str = "sensor/benches/instructions.txt";
/// How far from it a build may be, in either direction, before it is said.
const TOLERANCE: f64 = 0.05;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let folder = bench.root.join(TEMPLATE);
    let entries = std::fs::read_dir(&folder).map_err(io_error("list", &folder))?;
    let mut template: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    // As a policy repo is loaded: in the order of their names.
    template.sort_unstable();
    let upstream = upstream(bench);

    let mut figures = Vec::new();
    for (what, files) in
        [("the template's rules", &template), ("Falco's stable, incubating and sandbox rules", &upstream)]
    {
        let files: Vec<&OsStr> = files.iter().map(|path| path.as_os_str()).collect();
        let mut runs = Runs::new();
        for _ in 0..bench.repeat {
            runs.add(bench.example("bench_rules", &files)?);
        }
        let rules = runs.first("rules")?;
        figures.push(
            Figure::new(
                format!("rules: made up events, one core, {what} ({rules})"),
                Unit::PerSecond,
                runs.all("per_second")?,
            )
            .beside("no rule at all", runs.all("no_rules_per_second")?),
        );
    }
    figures.push(measure_capture(bench, &upstream)?);
    figures.extend(measure_trace(bench, &upstream)?);
    Ok(figures)
}

/// Kinds of events that the trace below lacks: connections, removals, renames and more, as a capture of Falco's library has them.
fn measure_capture(bench: &Bench, files: &[PathBuf]) -> Result<Figure, BenchError> {
    let capture = bench.root.join(CAPTURE);
    let mut arguments: Vec<&OsStr> = vec![OsStr::new("--capture"), capture.as_os_str()];
    arguments.extend(files.iter().map(|path| path.as_os_str()));
    let mut runs = Runs::new();
    for _ in 0..bench.repeat {
        runs.add(bench.example("bench_rules", &arguments)?);
    }
    let (kinds, rules) = (runs.first("kinds")?, runs.first("rules")?);
    let name = format!("rules: events of {kinds} kinds, one core, Falco's rules ({rules})");
    Ok(Figure::new(name, Unit::PerSecond, runs.all("per_second")?)
        .beside("no rule at all", runs.all("no_rules_per_second")?))
}

fn upstream(bench: &Bench) -> Vec<PathBuf> {
    UPSTREAM.iter().map(|path| bench.root.join(path)).collect()
}

/// A trace of apt, git and a compile: from the ring's bytes to alerts.
fn measure_trace(bench: &Bench, files: &[PathBuf]) -> Result<Vec<Figure>, BenchError> {
    let trace = bench.root.join(TRACE);
    let mut arguments: Vec<&OsStr> = vec![OsStr::new("run"), trace.as_os_str()];
    arguments.extend(files.iter().map(|path| path.as_os_str()));
    let mut runs = Runs::new();
    for _ in 0..bench.repeat {
        runs.add(bench.example("bench_sensor", &arguments)?);
    }
    let mut shares = Vec::new();
    for kind in KINDS {
        shares.push(format!("{kind} {:.1} %", 100.0 * runs.first(&format!("share_{kind}"))?));
    }
    let name = format!(
        "rules: apt, git and a compile decoded and matched, one core, Falco's rules ({}; {})",
        runs.first("rules")?,
        shares.join(", ")
    );
    let mut figures = vec![
        Figure::new(name, Unit::PerSecond, runs.all("per_second")?)
            .beside("Falco's published rate at one CPU", vec![FALCO_PER_SECOND]),
        Figure::new("rules: the same", Unit::PerSecond, runs.all("per_second")?)
            .beside("no rule at all", runs.all("no_rules_per_second")?),
        Figure::new("rules: the same, no rule at all", Unit::PerSecond, runs.all("no_rules_per_second")?)
            .beside("decoded and thrown away", runs.all("decode_per_second")?),
        Figure::new("rules: the same, decoded and thrown away", Unit::PerSecond, runs.all("decode_per_second")?)
            .beside("each byte looked at", runs.all("read_per_second")?),
    ];
    for kind in KINDS {
        let samples = runs.all(&format!("ns_{kind}"))?;
        figures.push(Figure::new(format!("rules: an event of kind {kind}"), Unit::Nanoseconds, samples));
    }
    Ok(figures)
}

const KINDS: [&str; 4] = ["open", "exec", "fork", "exit"];

/// Counts what an event of the trace costs in instructions, which does not depend on the machine's load, and compares it with the
/// figure that is committed.
pub(crate) fn count_instructions(bench: &Bench, write: bool) -> Result<(), BenchError> {
    /// Loading the rules costs a hundredth more or less from one process to the next, by how its tables are hashed. Over so many rounds
    /// that is less than a hundredth of an event.
    const MORE_ROUNDS: u32 = 20;
    // What more rounds cost than one: neither the load of the rules nor the first round, in which tables grow.
    let (few, records) = instructions_of(bench, 1)?;
    let (many, _) = instructions_of(bench, 1 + MORE_ROUNDS)?;
    let actual = (many - few) / (f64::from(MORE_ROUNDS) * records);
    let compiler = compiler()?;
    let path = bench.root.join(INSTRUCTIONS);
    if write {
        let text = format!(
            "# Instructions that an event of workload.trace.gz costs, decoded and matched with all of Falco's rules, and the compiler that\n\
             # they were counted with. `cargo xtask bench rules --callgrind` compares, `--write` writes this file.\n\
             {compiler}\n{actual:.0}\n"
        );
        return std::fs::write(&path, text).map_err(io_error("write", &path));
    }
    let text = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let counted_with = lines.next().unwrap_or_default().to_owned();
    let expected = lines.next().and_then(|line| line.trim().parse::<f64>().ok()).unwrap_or(f64::NAN);
    let change = actual / expected - 1.0;
    println!("rules: {actual:.0} instructions an event; committed: {expected:.0}, {:+.1} %", 100.0 * change);
    if counted_with != compiler {
        println!("rules: counted with {compiler}, the committed figure with {counted_with}: not compared");
        return Ok(());
    }
    if change.abs() <= TOLERANCE {
        return Ok(());
    }
    Err(BenchError::Instructions { actual, expected, path })
}

/// Instructions of a run over the trace so many times, and the trace's records.
fn instructions_of(bench: &Bench, rounds: u32) -> Result<(f64, f64), BenchError> {
    let program = "valgrind".to_owned();
    let output = Command::new(&program)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(bench.release.join("examples/bench_sensor"))
        .args(["rounds", &rounds.to_string()])
        .arg(bench.root.join(TRACE))
        .args(upstream(bench))
        .output()
        .map_err(|source| BenchError::Start { program: program.clone(), source })?;
    if !output.status.success() {
        return Err(BenchError::Failed { program, status: output.status });
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let number = |before: &str| -> Result<f64, BenchError> {
        let silent = || BenchError::Silent { program: program.clone(), name: before.to_owned() };
        let after = said.split_once(before).ok_or_else(silent)?.1;
        after.split_whitespace().next().and_then(|word| word.parse().ok()).ok_or_else(silent)
    };
    Ok((number("Collected :")?, number("records ")?))
}

fn compiler() -> Result<String, BenchError> {
    let program = "rustc".to_owned();
    let output = Command::new(&program)
        .arg("--version")
        .output()
        .map_err(|source| BenchError::Start { program: program.clone(), source })?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if version.is_empty() { Err(BenchError::Silent { program, name: "version".to_owned() }) } else { Ok(version) }
}
