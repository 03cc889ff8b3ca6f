//! How many events of a real machine one core decodes and matches. `cargo xtask bench rules` runs this and repeats it.
//!
//! ```text
//! bench_sensor run TRACE RULES_FILE…            time, as `name value` lines
//! bench_sensor rounds N TRACE RULES_FILE…       plays the trace N times and says nothing: for callgrind
//! bench_sensor costs TRACE RULES_FILE…          what each rule cost
//! bench_sensor record OUT WORKLOAD COMMAND…     makes a trace; as root
//! ```
//!
//! Everything between the ring and an alert is measured: decoding, the process table, every rule of the files, those they disable
//! included, and the making of alerts. The trace is played again and again in one engine, each time with other processes under the same pids.

mod record;
mod trace;

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_rules::{Engine, Limits, Names, RuleSet, RulesFile, load};
use cairn_sensor::kernel::{Kind, decode};
use trace::{Trace, header};

/// Rounds over the trace for one figure.
const ROUNDS: usize = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["run", trace, files @ ..] => run(Path::new(trace), files),
        ["rounds", rounds, trace, files @ ..] => {
            let mut trace = Trace::read(Path::new(trace))?;
            let played = play(&mut trace, rules(files)?, rounds.parse()?, no_time)?;
            println!("records {}", trace.len());
            println!("alerts {}", played.alerts);
            Ok(())
        }
        ["costs", trace, files @ ..] => costs(Path::new(trace), files),
        ["record", out, workload, command @ ..] => {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            record::record(Path::new(out), workload, &command)
        }
        _ => Err("see the head of bench_sensor/main.rs for the arguments".into()),
    }
}

fn run(path: &Path, files: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut trace = Trace::read(path)?;
    let rules = rules(files)?;
    println!("rules {}", rules.rules().len());
    println!("records {}", trace.len());
    for (kind, name) in KINDS {
        let count = trace.records().filter(|record| Kind::from_number(record[0]) == Some(kind)).count();
        println!("share_{name} {}", count as f64 / trace.len() as f64);
    }
    let events = (trace.len() * ROUNDS) as f64;
    let with_rules = play(&mut trace, Arc::clone(&rules), ROUNDS, processor_time)?;
    println!("alerts {}", with_rules.alerts);
    println!("per_second {}", events / with_rules.seconds);
    let without = play(&mut trace, Arc::new(load(&[]).rules), ROUNDS, processor_time)?;
    println!("no_rules_per_second {}", events / without.seconds);
    println!("decode_per_second {}", events / decode_all(&mut trace)?);
    println!("read_per_second {}", events / read_all(&trace));
    by_kind(&mut trace, rules)
}

const KINDS: [(Kind, &str); 4] =
    [(Kind::Exec, "exec"), (Kind::Fork, "fork"), (Kind::Exit, "exit"), (Kind::Open, "open")];

/// The rules of the files, those that are disabled there included.
fn rules(paths: &[&str]) -> Result<Arc<RuleSet>, Box<dyn Error>> {
    let texts: Vec<String> = paths.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let mut files: Vec<RulesFile<'_>> = paths.iter().zip(&texts).map(|(path, text)| RulesFile { path, text }).collect();
    let enable: String = load(&files)
        .rules
        .disabled()
        .iter()
        .map(|name| format!("- rule: {name:?}\n  enabled: true\n  override: {{enabled: replace}}\n"))
        .collect();
    if !enable.is_empty() {
        files.push(RulesFile { path: "all of them", text: &enable });
    }
    let loaded = load(&files);
    if !loaded.is_ok() {
        return Err(cairn_rules::problem::render(&loaded.problems).into());
    }
    Ok(Arc::new(loaded.rules))
}

fn engine(trace: &Trace, rules: Arc<RuleSet>) -> Engine {
    let mut engine = Engine::new(rules, Limits::default());
    let names = Names { users: [(0, "root".into()), (1_000, "ada".into())].into(), ..Names::default() };
    engine.set_names(Arc::new(names));
    engine.seed(trace.head.seeds.iter().cloned());
    engine
}

struct Played {
    seconds: f64,
    alerts: usize,
}

fn play(
    trace: &mut Trace,
    rules: Arc<RuleSet>,
    rounds: usize,
    clock: fn() -> Duration,
) -> Result<Played, Box<dyn Error>> {
    let mut engine = engine(trace, rules);
    let context = trace.context();
    let span = trace.span_ns() + 1_000_000_000;
    let mut played = Played { seconds: 0.0, alerts: 0 };
    for _ in 0..rounds {
        let started = clock();
        for record in trace.records() {
            let event = decode(record, &context)?;
            played.alerts += engine.handle(&event).len();
        }
        played.seconds += (clock() - started).as_secs_f64();
        trace.shift(span);
    }
    Ok(played)
}

/// What each rule cost, the dearest first: its work, and how often it was tried, reached and held.
fn costs(path: &Path, files: &[&str]) -> Result<(), Box<dyn Error>> {
    let trace = Trace::read(path)?;
    let context = trace.context();
    let mut engine = engine(&trace, rules(files)?);
    for record in trace.records() {
        engine.handle(&decode(record, &context)?);
    }
    let mut rules = engine.costs().rules;
    rules.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.work));
    println!("{:>9} {:>9} {:>9} {:>9}", "work", "tried", "reached", "held");
    for (name, cost) in rules {
        println!("{:>9} {:>9} {:>9} {:>9}  {name}", cost.work, cost.tried, cost.reached, cost.held);
    }
    Ok(())
}

fn decode_all(trace: &mut Trace) -> Result<f64, Box<dyn Error>> {
    let context = trace.context();
    let started = processor_time();
    for _ in 0..ROUNDS {
        for record in trace.records() {
            black_box(decode(record, &context)?);
        }
    }
    Ok((processor_time() - started).as_secs_f64())
}

/// What no decoder can do better: every byte of every record looked at once.
fn read_all(trace: &Trace) -> f64 {
    let started = processor_time();
    for _ in 0..ROUNDS {
        for record in trace.records() {
            black_box(record.iter().fold(0_u8, |sum, byte| sum ^ byte));
        }
    }
    (processor_time() - started).as_secs_f64()
}

/// What this thread has had of a core: others use the machine, too.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// For callgrind, under which the clock cannot be read.
fn no_time() -> Duration {
    Duration::ZERO
}

/// The same again with a look at the clock after each event: nanoseconds by kind, the look's own cost taken off. The slowest hundredth, in
/// which another program had the core, is left out.
fn by_kind(trace: &mut Trace, rules: Arc<RuleSet>) -> Result<(), Box<dyn Error>> {
    let look_ns = look_ns();
    let mut engine = engine(trace, rules);
    let context = trace.context();
    let span = trace.span_ns() + 1_000_000_000;
    let mut spent: [Vec<u64>; KINDS.len()] = Default::default();
    for _ in 0..ROUNDS / 4 {
        let mut before = Instant::now();
        for record in trace.records() {
            let event = decode(record, &context)?;
            black_box(engine.handle(&event));
            drop(event);
            let now = Instant::now();
            spent[usize::from(header(record).kind)].push((now - before).as_nanos() as u64);
            before = now;
        }
        trace.shift(span);
    }
    for (kind, name) in KINDS {
        let all = &mut spent[kind as usize];
        all.sort_unstable();
        all.truncate(all.len() - all.len() / 100);
        let mean = all.iter().sum::<u64>() as f64 / all.len().max(1) as f64;
        println!("ns_{name} {}", (mean - look_ns).max(0.0));
    }
    Ok(())
}

fn look_ns() -> f64 {
    const LOOKS: u32 = 100_000;
    let started = Instant::now();
    for _ in 0..LOOKS {
        black_box(Instant::now());
    }
    started.elapsed().as_nanos() as f64 / f64::from(LOOKS)
}
