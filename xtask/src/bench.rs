//! `cargo xtask bench [NAME…]`: what this machine does, and what it could do at best.
//!
//! Every figure is one line on standard output: its name, its value, and beside it the peer or the physical limit that was measured in
//! the same run, with the ratio. A figure is the median of several repetitions, its range in brackets; limits are measured between them,
//! since a shared machine changes from one second to the next. Nothing is asserted: a figure is for people, and a slow machine is no
//! failure. What is measured is built with `--release`, by this task.
//!
//! Whatever it writes lies in `target/bench/`, on the disk whose limit it measures, and is removed at the end.

mod admission;
mod disk;
mod figure;
mod http;
mod ledger;
mod path;
mod rules;
mod spool;
mod verify;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use clap::{Args, ValueEnum};
use thiserror::Error;

/// Why something was not measured.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{program}` cannot be started")]
    Start { program: String, source: io::Error },
    #[error("`{program}` ended with {status}")]
    Failed { program: String, status: ExitStatus },
    #[error("`{program}` printed no `{name}`")]
    Silent { program: String, name: String },
    #[error("{url}: {reason}")]
    Http { url: String, reason: String },
    #[error("waited {seconds} s for {what}")]
    Patience { what: String, seconds: u64 },
    #[error("an event costs {actual:.0} instructions, and {} says {expected:.0}", path.display())]
    Instructions { actual: f64, expected: f64, path: PathBuf },
    #[error("the ledger cannot be followed")]
    Follow(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// What to measure; everything where nothing is named
    #[arg(value_enum)]
    names: Vec<Name>,
    /// Also what takes minutes: a ledger of a million records
    #[arg(long)]
    full: bool,
    /// Little of everything, to see that it runs: the ledger's figures only
    #[arg(long)]
    quick: bool,
    /// For the rules: count instructions of a short run under valgrind and compare them with the committed figure, nothing else
    #[arg(long)]
    callgrind: bool,
    /// With --callgrind: write the figure instead
    #[arg(long, requires = "callgrind")]
    write: bool,
    /// Seconds of one repetition of the ledger's appends, 3 where it is not said
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// How often each measurement is repeated
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// What the disk can do: the limit of everything durable
    Disk,
    /// Durable appends, checkpoints, recovery
    Ledger,
    /// Offline verification, beside SHA-256 alone
    Verify,
    /// A node's own disk
    Spool,
    /// Admission answers of a real `cairn up`, beside plain HTTP
    Admission,
    /// From commit to sensor, from event to record and to kill
    Path,
    /// Events that the rule engine takes
    Rules,
}

/// What every measurement needs.
struct Bench {
    root: PathBuf,
    /// Where the release build's binaries are.
    release: PathBuf,
    /// A folder of our own, on the disk under test.
    folder: PathBuf,
    /// How many paths were given out.
    paths: Cell<u32>,
    repeat: u32,
    full: bool,
    quick: bool,
    seconds: Option<f64>,
}

pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<(), BenchError> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let names = match arguments {
        Arguments { callgrind: true, .. } => &[Name::Rules],
        Arguments { names, .. } if names.is_empty() => Name::value_variants(),
        Arguments { names, .. } => names,
    };
    let bench = Bench {
        root: root.to_owned(),
        release: target.join("release"),
        folder: target.join("bench"),
        paths: Cell::new(0),
        repeat: arguments.repeat,
        full: arguments.full,
        quick: arguments.quick,
        seconds: arguments.seconds,
    };
    bench.build(names)?;
    if arguments.callgrind {
        return rules::count_instructions(&bench, arguments.write);
    }
    bench.clean()?;
    fs::create_dir_all(&bench.folder).map_err(io_error("make", &bench.folder))?;
    let done = names.iter().try_for_each(|name| bench.measure(*name));
    bench.clean()?;
    done
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BenchError + 'a {
    move |source| BenchError::Io { action, path: path.to_owned(), source }
}

impl Bench {
    fn measure(&self, name: Name) -> Result<(), BenchError> {
        let figures = match name {
            Name::Disk => disk::measure(self),
            Name::Ledger => ledger::measure(self),
            Name::Verify => verify::measure(self),
            Name::Spool => spool::measure(self),
            Name::Admission => admission::measure(self),
            Name::Path => path::measure(self),
            Name::Rules => rules::measure(self),
        }?;
        for figure in figures {
            println!("{figure}");
        }
        Ok(())
    }

    /// Builds what will be run, and nothing else. Each by itself: what one is built with is not in the others.
    fn build(&self, names: &[Name]) -> Result<(), BenchError> {
        const LEDGER: &[&str] =
            &["-p", "cairn-ledger", "--features", "bench,s3", "--example", "bench_ledger", "--example", "with_s3"];
        const VERIFY: &[&str] = &["-p", "cairn-verify", "--example", "bench_verify"];
        const SPOOL: &[&str] = &["-p", "cairn-node", "--example", "bench_spool"];
        const CAIRN: &[&str] = &["-p", "cairn", "--bin", "cairn"];
        const RULES: &[&str] = &["-p", "cairn-rules", "--example", "bench_rules"];
        const SENSOR: &[&str] = &["-p", "cairn-sensor", "--example", "bench_sensor"];
        let needed: BTreeSet<&[&str]> = names
            .iter()
            .flat_map(|name| match name {
                Name::Disk => vec![],
                Name::Ledger => vec![LEDGER, VERIFY, CAIRN],
                Name::Verify => vec![VERIFY],
                Name::Spool => vec![SPOOL],
                Name::Admission | Name::Path => vec![CAIRN],
                Name::Rules => vec![RULES, SENSOR],
            })
            .collect();
        for parts in needed {
            let mut command = Command::new(env!("CARGO"));
            command.current_dir(&self.root).args(["build", "--release", "--quiet"]).args(parts);
            eprintln!("building with --release: {}", parts.join(" "));
            let status = command
                .stdout(io::stderr())
                .status()
                .map_err(|source| BenchError::Start { program: "cargo build".into(), source })?;
            if !status.success() {
                return Err(BenchError::Failed { program: "cargo build".into(), status });
            }
        }
        Ok(())
    }

    fn clean(&self) -> Result<(), BenchError> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &self.folder)(error)),
            _ => Ok(()),
        }
    }

    /// Runs an example of the release build to its end; what it printed, `name value` per line.
    fn example(&self, name: &str, arguments: &[&OsStr]) -> Result<Printed, BenchError> {
        self.program(&self.release.join("examples").join(name), arguments)
    }

    /// The same with any program.
    fn program(&self, program: &Path, arguments: &[&OsStr]) -> Result<Printed, BenchError> {
        let name = program.display().to_string();
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| BenchError::Start { program: name.clone(), source })?;
        if !output.status.success() {
            return Err(BenchError::Failed { program: name, status: output.status });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let values = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        Ok(Printed { program: name, values })
    }

    /// A path that nothing had in this run. What is made there stays until the end: a file system may be slow in giving out again
    /// what was just given back, and what is measured should not pay for the one before.
    fn fresh(&self, name: &str) -> PathBuf {
        self.paths.set(self.paths.get() + 1);
        self.path(&format!("{name}-{}", self.paths.get()))
    }

    /// A path of ours.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What an example printed.
struct Printed {
    program: String,
    values: BTreeMap<String, f64>,
}

impl Printed {
    fn value(&self, name: &str) -> Result<f64, BenchError> {
        let silent = || BenchError::Silent { program: self.program.clone(), name: name.to_owned() };
        self.values.get(name).copied().ok_or_else(silent)
    }
}
