//! `cargo xtask fuzz`: feeds made-up input to all that reads what others wrote (`fuzz/src/lib.rs`), guided by coverage.
//!
//! The plain compiler does: coverage is a pass of LLVM's that stable flags turn on, and libFuzzer comes as source with the crate
//! `libfuzzer-sys` (a C++ compiler is needed). Memory is not watched: nothing that is fuzzed has unsafe code of its own. What an input
//! may cost is bounded instead, in time and memory.
//!
//! Seeds and words are cut from what tests and documents hold anyway ([`seeds`]). What is found to reach new code is kept under
//! `target/fuzz/corpus` and used the next time; what made a target fail, under `target/fuzz/found`.

mod seeds;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;

/// Flags that cargo-fuzz gives, those that need no nightly compiler.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";
/// The flags hold for what is built for this machine by name, not for build scripts.
const TRIPLE: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
/// The longest an input may take, in seconds: none of ours takes a tenth of one.
const INPUT_SECONDS_MAX: u32 = 20;
/// The most memory, in MiB, that a target may take, its corpus included.
const TARGET_MIB_MAX: u32 = 1_024;
/// How much of a failed target's log is shown.
const LOG_LINES_SHOWN: usize = 40;

/// What is fuzzed, and the longest input for it in bytes.
const TARGETS: &[(&str, u32)] = &[
    ("evaluators", 2_048),
    ("rules", 8_192),
    ("condition", 4_096),
    ("capture", 65_536),
    ("decode", 16_384),
    ("document", 16_384),
    ("replay", 8_192),
    ("output", 2_048),
    ("state", 4_096),
    ("text", 512),
    ("ledger", 8_192),
    ("record", 8_192),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// How many targets run at a time; as many as there are cores, unless said
    #[arg(long)]
    jobs: Option<usize>,
    /// Begin with the seeds alone: what was found before takes time to read
    #[arg(long)]
    from_seeds: bool,
    /// Targets to run; all, unless named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Why fuzzing failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FuzzError {
    #[error("`{0}` is no target: one of {names}", names = names())]
    NoTarget(String),
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("cargo failed ({0})")]
    Build(ExitStatus),
    #[error("target `{target}` failed ({status}); its input is in {}", folder.display())]
    Found { target: String, status: ExitStatus, folder: PathBuf },
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl FuzzError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Build(_) => Some("a C++ compiler is needed for libFuzzer: `apt-get install g++`".to_owned()),
            Self::Found { target, .. } => Some(format!("run it alone: target/fuzz/{TRIPLE}/release/{target} INPUT")),
            _ => None,
        }
    }
}

fn names() -> String {
    TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Builds the targets and runs each. One that fails does not stop the others; libFuzzer has left its input in a file by then.
///
/// # Errors
/// [`FuzzError`]: that of the first target that failed.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<(), FuzzError> {
    let unknown = arguments.targets.iter().find(|name| TARGETS.iter().all(|(known, _)| known != name));
    if let Some(name) = unknown {
        return Err(FuzzError::NoTarget(name.clone()));
    }
    let folder = root.join("target/fuzz");
    build(root, &folder)?;
    let wanted = |name: &str| arguments.targets.is_empty() || arguments.targets.iter().any(|target| target == name);
    let queue: VecDeque<_> = TARGETS.iter().filter(|(name, _)| wanted(name)).collect();
    let queue = Mutex::new(queue);
    let next = || queue.lock().expect("invariant: nobody panics with the queue").pop_front();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut failed = None;
        while let Some((target, len_max)) = next() {
            if let Err(error) = fuzz(root, &folder, target, *len_max, arguments) {
                failed.get_or_insert(error);
            }
        }
        failed
    };
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs.unwrap_or(cores).max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().expect("invariant: a worker returns its error")).next()
    });
    failed.map_or(Ok(()), Err)
}

fn build(root: &Path, folder: &Path) -> Result<(), FuzzError> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--locked", "--target", TRIPLE, "--manifest-path"])
        .arg(root.join("fuzz/Cargo.toml"))
        .env("RUSTFLAGS", COVERAGE)
        .env("CARGO_TARGET_DIR", folder)
        .status()
        .map_err(|source| FuzzError::Run { program: "cargo".to_owned(), source })?;
    if status.success() { Ok(()) } else { Err(FuzzError::Build(status)) }
}

/// Runs one target, with its output in a file.
fn fuzz(root: &Path, folder: &Path, target: &str, len_max: u32, arguments: &Arguments) -> Result<(), FuzzError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| FuzzError::File { path, source }
    };
    let of = |what: &str| folder.join(what).join(target);
    let corpus = of(if arguments.from_seeds { "fresh" } else { "corpus" });
    let (seeds, found) = (of("seeds"), of("found"));
    if arguments.from_seeds && corpus.exists() {
        fs::remove_dir_all(&corpus).map_err(file(&corpus))?;
    }
    for folder in [&seeds, &corpus, &found, &folder.join("log"), &folder.join("words")] {
        fs::create_dir_all(folder).map_err(file(folder))?;
    }
    for (number, seed) in seeds::of(root, target)?.into_iter().enumerate() {
        let path = seeds.join(number.to_string());
        fs::write(&path, seed).map_err(file(&path))?;
    }
    let (words, log) = (of("words"), of("log"));
    let dictionary = seeds::words(root, target)?;
    fs::write(&words, &dictionary).map_err(file(&words))?;
    let output = File::create(&log).map_err(file(&log))?;
    let program = folder.join(TRIPLE).join("release").join(target);
    let status = Command::new(&program)
        .args([&corpus, &seeds])
        .arg(format!("-max_total_time={}", arguments.seconds))
        .arg(format!("-max_len={len_max}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={TARGET_MIB_MAX}"))
        // libFuzzer takes no empty one.
        .args((!dictionary.is_empty()).then(|| format!("-dict={}", words.display())))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg("-print_final_stats=1")
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(file(&log))?)
        .stderr(output)
        .status()
        .map_err(|source| FuzzError::Run { program: program.display().to_string(), source })?;
    let said = fs::read(&log).map_err(file(&log))?;
    let said = String::from_utf8_lossy(&said);
    if status.success() {
        println!("{target:>10}: {}", summary(&said));
        return Ok(());
    }
    let lines: Vec<&str> = said.lines().collect();
    let end = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
    eprintln!("{end}\n{target:>10}: failed; all it said is in {}", log.display());
    Err(FuzzError::Found { target: target.to_owned(), status, folder: found })
}

/// What libFuzzer's output says in the end: how often it ran the target, how many edges and inputs that gave.
fn summary(log: &str) -> String {
    let number_behind = |line: &str, word: &str| {
        line.split_once(word).and_then(|(_, rest)| rest.split_whitespace().next()).map(str::to_owned)
    };
    let last = |word: &str| log.lines().rev().find_map(|line| number_behind(line, word)).unwrap_or_else(|| "?".into());
    format!(
        "{} executions, {} edges, corpus {}",
        last("stat::number_of_executed_units:"),
        last(" cov: "),
        last(" corp: ")
    )
}
