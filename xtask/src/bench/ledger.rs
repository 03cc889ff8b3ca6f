//! The ledger: durable appends, checkpoints, a bucket, HTTP, recovery, room on disk, verification; and Tessera where Go is present.
//!
//! One line per measurement, printed as soon as it is made: what, where it is stored and how it is made durable, the records' size,
//! how many callers, the times' quantiles and the rate; and behind it what this machine does at best in the same minutes: overwriting 4 KiB of
//! a preallocated file with `fdatasync`, and SHA-256 of 1 KiB records on one core. A value is the middle one of the repetitions.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::figure::{Figure, grouped, median};
use super::{Bench, BenchError, Printed, admission, io_error};

/// Bytes that the tiles' form adds to a record at least: a length of 2, and its leaf hash of 32.
const FORM_LEN: f64 = 34.0;
/// What is stored where, in words.
const DIRECTORY: &str = "directory, fdatasync";

/// How much is measured.
struct Extent {
    repeat: u32,
    /// Seconds of one repetition.
    seconds: String,
    /// Records of a recovery.
    untiled: &'static str,
    /// Records of the ledger that is looked at as a whole.
    whole: &'static str,
}

impl Extent {
    fn of(bench: &Bench) -> Extent {
        let seconds = bench.seconds.unwrap_or(if bench.quick { 0.5 } else { 3.0 }).to_string();
        if bench.quick {
            return Extent { repeat: 1, seconds, untiled: "20000", whole: "20000" };
        }
        Extent { repeat: bench.repeat, seconds, untiled: "1000000", whole: "1000000" }
    }
}

/// What the machine does at best, measured between the repetitions.
#[derive(Default)]
struct Limits(Runs);

impl Limits {
    fn take(&mut self, bench: &Bench) -> Result<(), BenchError> {
        self.0.add(run(bench, "limits", &["limits"])?);
        Ok(())
    }

    fn show(&self) -> Result<String, BenchError> {
        let at = |name| Ok::<f64, BenchError>(median(&self.0.all(name)?));
        Ok(format!(
            "one preallocated fdatasync p50 {} p99 {}, SHA-256 {:.2} GB/s",
            milliseconds(at("fdatasync_p50")?),
            milliseconds(at("fdatasync_p99")?),
            at("sha256_bytes_per_second")? / 1e9
        ))
    }
}

fn milliseconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.2} ms", seconds * 1e3) } else { format!("{:.0} ms", seconds * 1e3) }
}

/// One line.
struct Line {
    what: String,
    store: &'static str,
    record: Option<f64>,
    callers: Option<u32>,
    parts: Vec<String>,
}

impl Line {
    fn new(what: impl Into<String>, store: &'static str) -> Line {
        Line { what: what.into(), store, record: None, callers: None, parts: Vec::new() }
    }

    /// The quantiles of the times called `name`, beside one preallocated `fdatasync`.
    fn times(mut self, runs: &Runs, name: &str, limits: Option<&Limits>) -> Result<Line, BenchError> {
        let at = |share: &str| Ok::<f64, BenchError>(median(&runs.all(&format!("{name}_{share}"))?));
        let p50 = at("p50")?;
        let times = [milliseconds(p50), milliseconds(at("p99")?), milliseconds(at("p999")?)];
        self.parts.push(format!("p50 {} p99 {} p99.9 {}", times[0], times[1], times[2]));
        if let Some(limits) = limits {
            self.parts.push(format!("p50 = {:.2} fdatasync", p50 / median(&limits.0.all("fdatasync_p50")?)));
        }
        Ok(self)
    }

    fn rate(mut self, runs: &Runs) -> Result<Line, BenchError> {
        let rates = runs.all("per_second")?;
        let (least, most) = ends(&rates);
        let range =
            if rates.len() > 1 { format!(" [{} … {}]", grouped(least), grouped(most)) } else { String::new() };
        self.parts.push(format!("{} records/s{range}", grouped(median(&rates))));
        Ok(self)
    }

    fn part(mut self, part: String) -> Line {
        self.parts.push(part);
        self
    }
}

fn ends(samples: &[f64]) -> (f64, f64) {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    (least, samples.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ledger: {} | {}", self.what, self.store)?;
        if let Some(record) = self.record {
            write!(f, " | {} B", grouped(record))?;
        }
        if let Some(callers) = self.callers {
            write!(f, " | {callers} caller{}", if callers == 1 { "" } else { "s" })?;
        }
        self.parts.iter().try_for_each(|part| write!(f, " | {part}"))
    }
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let extent = Extent::of(bench);
    let mut limits = Limits::default();
    for callers in [1, 64, 256] {
        let (runs, limits) = appends(bench, &extent, &mut limits, &["append", &callers.to_string(), "1"])?;
        let line = Line {
            callers: Some(callers),
            record: Some(runs.first("record_len")?),
            ..Line::new("durable append", DIRECTORY)
        }
        .times(&runs, "append", (callers == 1).then_some(limits))?
        .rate(&runs)?
        .part(cost(&runs)?);
        print(&line, limits)?;
    }
    let (runs, taken) = appends(bench, &extent, &mut limits, &["raw", "256", "512"])?;
    let line = Line {
        callers: Some(256),
        record: Some(512.0),
        ..Line::new("durable append of bytes, no record checks", DIRECTORY)
    };
    print(&line.times(&runs, "append", None)?.rate(&runs)?.part(cost(&runs)?), taken)?;
    tessera(bench, &extent, taken)?;

    let (runs, taken) = appends(bench, &extent, &mut limits, &["publish", "64", "1"])?;
    let line = Line {
        callers: Some(64),
        record: Some(runs.first("record_len")?),
        ..Line::new("append, in a published checkpoint", DIRECTORY)
    };
    print(&line.times(&runs, "publish", None)?.rate(&runs)?, taken)?;

    bucket(bench, &extent)?;
    http(bench, &extent, &mut limits)?;
    recovery(bench, &extent, &mut limits)?;
    whole(bench, &extent, &mut limits)?;
    Ok(Vec::new())
}

fn print(line: &Line, limits: &Limits) -> Result<(), BenchError> {
    println!("{line} | {}", limits.show()?);
    Ok(())
}

/// What a record costs, and how far publishing was behind.
fn cost(runs: &Runs) -> Result<String, BenchError> {
    let (processor, behind) = (median(&runs.all("processor")?), runs.all("behind_max")?);
    Ok(format!(
        "{:.1} µs of processor each, with its making; published at most {} later",
        processor * 1e6,
        milliseconds(ends(&behind).1)
    ))
}

fn appends<'a>(
    bench: &Bench,
    extent: &Extent,
    limits: &'a mut Limits,
    arguments: &[&str],
) -> Result<(Runs, &'a Limits), BenchError> {
    let mut runs = Runs::new();
    for round in 0..extent.repeat {
        eprintln!("ledger: {}, {} of {}", arguments.join(" "), round + 1, extent.repeat);
        limits.take(bench)?;
        let arguments: Vec<&str> = arguments.iter().copied().chain([extent.seconds.as_str()]).collect();
        runs.add(run(bench, "ledger", &arguments)?);
    }
    Ok((runs, limits))
}

/// Tessera's POSIX storage, 256 writers in one process, on the same disk.
fn tessera(bench: &Bench, extent: &Extent, limits: &Limits) -> Result<(), BenchError> {
    let program = bench.path("tessera");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(bench.root.join("xtask/tessera"))
        .stdout(Stdio::null())
        .status();
    match built {
        Ok(status) if status.success() => {}
        Ok(status) => {
            println!("ledger: Tessera POSIX is not measured: `go build` in xtask/tessera ended with {status}");
            return Ok(());
        }
        Err(error) => {
            println!("ledger: Tessera POSIX is not measured: `go` cannot be started: {error}");
            return Ok(());
        }
    }
    let mut runs = Runs::new();
    for _ in 0..extent.repeat {
        let folder = bench.fresh("tessera");
        runs.add(
            bench.program(&program, &[folder.as_os_str(), "256".as_ref(), "512".as_ref(), extent.seconds.as_ref()])?,
        );
    }
    let line = Line {
        callers: Some(256),
        record: Some(512.0),
        ..Line::new("Tessera 1.0.4 POSIX, durable index", "directory, O_SYNC")
    };
    print(&line.times(&runs, "append", None)?.rate(&runs)?, limits)
}

/// Appends to a bucket of a server on this machine, which shares its processors, and beside it what that server does when nothing but PUTs
/// is asked of it: objects of the size of a bundle, in which every record goes there, on as many connections as groups may be on their way.
fn bucket(bench: &Bench, extent: &Extent) -> Result<(), BenchError> {
    for callers in [256, 1_024] {
        if !bucket_of(bench, extent, callers)? {
            println!("ledger: appends to a bucket are not measured: SeaweedFS is not installed here and cannot be");
            break;
        }
    }
    Ok(())
}

/// With so many callers. `false`: there is no server.
fn bucket_of(bench: &Bench, extent: &Extent, callers: u32) -> Result<bool, BenchError> {
    /// How `with_s3` says that there is no server.
    const NO_SERVER: i32 = 3;
    let program = bench.release.join("examples/with_s3");
    let mut runs = Runs::new();
    for round in 0..extent.repeat {
        eprintln!("ledger: append {callers} 1 in a bucket, {} of {}", round + 1, extent.repeat);
        let inner = bench.release.join("examples/bench_ledger");
        let count = callers.to_string();
        let arguments: [&OsStr; 6] = [
            inner.as_os_str(),
            "s3://bench/ledger".as_ref(),
            "append".as_ref(),
            count.as_ref(),
            "1".as_ref(),
            extent.seconds.as_ref(),
        ];
        match bench.program(&program, &arguments) {
            Err(BenchError::Failed { status, .. }) if status.code() == Some(NO_SERVER) => return Ok(false),
            printed => runs.add(printed?),
        }
    }
    let puts = median(&runs.all("put_per_second")?);
    let line = Line {
        callers: Some(callers),
        record: Some(runs.first("record_len")?),
        ..Line::new("durable append", "S3 bucket, SeaweedFS on the same processors")
    }
    .times(&runs, "append", None)?
    .rate(&runs)?
    .part(cost(&runs)?)
    .part(format!("staged as {:.0} % of their bytes", 100.0 * runs.first("staged_share")?))
    .part(format!(
        "PUTs of bundles alone, {:.0} kB each: {}/s, p50 {} p99 {}",
        runs.first("put_len")? / 1e3,
        grouped(puts),
        milliseconds(median(&runs.all("put_p50")?)),
        milliseconds(median(&runs.all("put_p99")?))
    ));
    println!("{line}");
    Ok(true)
}

/// Appends over HTTP to a real `cairn up`, by its own sensor's name.
fn http(bench: &Bench, extent: &Extent, limits: &mut Limits) -> Result<(), BenchError> {
    const CALLERS: u32 = 64;
    let up = admission::up(bench);
    let address = up.url.trim_start_matches("http://").to_owned();
    let node = up.ledger_dir().with_file_name("nodes").join("sensor");
    let mut runs = Runs::new();
    for _ in 0..extent.repeat {
        limits.take(bench)?;
        let callers = CALLERS.to_string();
        let arguments =
            [address.as_ref(), "http".as_ref(), node.as_os_str(), callers.as_ref(), extent.seconds.as_ref()];
        runs.add(bench.example("bench_ledger", &arguments)?);
    }
    if !up.stop() {
        return Err(BenchError::Http { url: "cairn up".into(), reason: "it did not stop well".into() });
    }
    let line = Line { callers: Some(CALLERS), ..Line::new("durable append over HTTP, one connection each", DIRECTORY) };
    print(&line.times(&runs, "append", None)?.rate(&runs)?, limits)
}

fn recovery(bench: &Bench, extent: &Extent, limits: &mut Limits) -> Result<(), BenchError> {
    eprintln!("ledger: recovery of {} records in no tile", extent.untiled);
    limits.take(bench)?;
    let mut runs = Runs::new();
    runs.add(run(bench, "ledger", &["recover", extent.untiled])?);
    let at = |name| runs.first(name);
    let line = Line::new(format!("after a crash with {} records in no tile", grouped(at("records")?)), DIRECTORY)
        .part(format!("takes appends after {:.2} s", at("accepting")?))
        .part(format!("all in tiles after {:.2} s", at("recover")?))
        .part(format!("opened again, all in tiles: {:.2} s", at("open")?));
    print(&line, limits)
}

/// A ledger at rest: its room on disk, and how long verifying it takes.
fn whole(bench: &Bench, extent: &Extent, limits: &mut Limits) -> Result<(), BenchError> {
    eprintln!("ledger: a ledger of {} records", extent.whole);
    limits.take(bench)?;
    let folder = bench.fresh("ledger");
    let made = bench.example("bench_ledger", &[folder.as_os_str(), "make".as_ref(), extent.whole.as_ref()])?;
    let (records, bytes) = (made.value("records")?, made.value("record_bytes")?);
    let room = room(&folder).map_err(io_error("look at", &folder))?;
    let floor = bytes + FORM_LEN * records;
    let line =
        Line { record: Some(bytes / records), ..Line::new(format!("{} records on disk", grouped(records)), DIRECTORY) }
            .part(format!("{:.1} MB", room / 1e6))
            .part(format!("{:.2} % beyond the records' bytes and 34 B each", (room / floor - 1.0) * 100.0));
    print(&line, limits)?;
    // Records that name releases need these releases, with all their files: that ledger is the verifier's own to make.
    let folder = bench.fresh("ledger");
    bench.example("bench_verify", &["make".as_ref(), folder.as_os_str(), extent.whole.as_ref()])?;
    for (mode, what) in [("structure", "hashes, tiles, roots"), ("full", "every check")] {
        let mut runs = Runs::new();
        for _ in 0..extent.repeat {
            runs.add(bench.example("bench_verify", &[mode.as_ref(), folder.as_os_str()])?);
        }
        let line = Line::new(
            format!("verify {} records of about 1 KiB, {what}", grouped(runs.first("records")?)),
            "warm cache",
        )
        .part(format!("{:.2} s", median(&runs.all("seconds")?)))
        .rate(&runs)?
        .part(format!("{:.0} MiB resident at most", ends(&runs.all("peak_rss")?).1 / f64::from(1 << 20)));
        print(&line, limits)?;
    }
    Ok(())
}

/// Bytes that a folder takes on disk, by the blocks that the file system gave it.
fn room(folder: &Path) -> std::io::Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += metadata.blocks() as f64 * 512.0;
        if metadata.is_dir() {
            bytes += room(&entry.path())?;
        }
    }
    Ok(bytes)
}

fn run(bench: &Bench, name: &str, arguments: &[&str]) -> Result<Printed, BenchError> {
    let folder = bench.fresh(name);
    let arguments: Vec<&OsStr> =
        std::iter::once(folder.as_os_str()).chain(arguments.iter().map(|text| text.as_ref())).collect();
    bench.example("bench_ledger", &arguments)
}

/// The repetitions of one measurement.
#[derive(Default)]
pub(crate) struct Runs(Vec<Printed>);

impl Runs {
    pub(crate) fn new() -> Runs {
        Runs::default()
    }

    pub(crate) fn add(&mut self, printed: Printed) {
        self.0.push(printed);
    }

    pub(crate) fn all(&self, name: &str) -> Result<Vec<f64>, BenchError> {
        self.0.iter().map(|printed| printed.value(name)).collect()
    }

    pub(crate) fn first(&self, name: &str) -> Result<f64, BenchError> {
        self.all(name).map(|all| all.first().copied().unwrap_or(f64::NAN))
    }
}
