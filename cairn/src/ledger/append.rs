//! `cairn ledger append`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cairn_ledger::checkpoint::Checkpoint;
#[cfg(feature = "s3")]
use cairn_ledger::keys::KeyFolder;
use cairn_ledger::keys::ROOT_FILE;
use cairn_ledger::local::line::LineFault;
use cairn_ledger::local::lines::{DurableLine, Taken, Told, append_lines};
use cairn_ledger::local::{Hiding, LocalError, LocalLedger, LocalProducer};
use cairn_ledger::random::SystemRandom;
use cairn_ledger::volume::Place;
use cairn_ledger::writer::{Address, AppendError, OpenError, PublishedCheckpoint};
use cairn_schemas::ids::NodeId;
use clap::Args;
use serde_json::json;

use crate::clock::SystemClock;
use crate::failure::{Failure, chain};
use crate::progress::Bar;
use crate::say;

/// How long a checkpoint is waited for that covers the last record.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where standard error is no terminal, progress is told this often.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The ledger's directory, or s3://bucket/prefix; made where there is none, with keys in <LEDGER>.keys beside it
    ledger: PathBuf,
    /// The folder of the ledger's keys, for a ledger in a bucket: nothing lies beside one
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Whose records these are: a producer of this name on this machine, with a key of its own; it goes on where it stood
    #[arg(long, value_name = "NAME")]
    stream: String,
    /// JSON Lines of {"type", "subject", "data"[, "id"][, "personal"][, "blobs"]}; without it, or as `-`, standard input. A line whose id is in the stream
    /// already is not appended again
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the files that lines name in `blobs` from below this folder; without it, no line may name any
    #[arg(long, value_name = "DIR")]
    blobs: Option<PathBuf>,
    /// Destroy the keys of these lines' personal values and blobs after this long, such as `400d`; without it, when somebody asks for it.
    /// `cairn ledger erase --expired` does it
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    retain: Option<Duration>,
    /// Pass over lines that cannot be taken, and say so at the end; else the first one ends it
    #[arg(long)]
    keep_going: bool,
    /// Print one JSON object for each line and one for the checkpoint
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let name: NodeId = arguments
        .stream
        .parse()
        .map_err(|error| Failure::unknown(format!("--stream: {error}")).hint("a name such as `ci` or `backup-job`"))?;
    let (input, shown) = input(arguments)?;
    let failed = |error: &LocalError| failure(&arguments.ledger, error);
    let (ledger, beside) = open(&arguments.ledger, arguments.keys.as_deref(), true)?;
    if ledger.was_created() {
        let (made, keys) = (ledger.ledger().origin(), ledger.keys().path());
        say::error(format_args!("note: made the ledger {made}; its keys are in {}", keys.display()));
        let root = keys.join(ROOT_FILE);
        say::error(format_args!("note: move {} off this machine: only rotation needs it", root.display()));
    }
    let mut producer = ledger.producer(&name).map_err(|error| failed(&error))?;
    let mut hiding = Hiding::new(&ledger, &beside).map_err(|error| failed(&error))?;
    (hiding.blobs, hiding.retain) = (arguments.blobs.clone(), arguments.retain);
    let taken = take(arguments, &mut producer, input, &shown, &mut hiding).map_err(|error| failed(&error))?;
    let checkpoint = producer.finish(PATIENCE).map_err(|error| failed(&error))?;
    ledger.close();
    say_checkpoint(arguments, &checkpoint, &taken);
    match &taken.stopped {
        Some((line, fault)) => Err(Failure::bad(format!("{shown}:{line}: {fault}"))
            .hint("what stood before this line is in the ledger; nothing after it was looked at")),
        None if taken.refused > 0 => {
            Err(Failure::bad(format!("{shown}: lines that were not taken: {}", taken.refused)))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The ledger, and the path beside which its vault lies. `make`: it is made where there is none.
pub(super) fn open(path: &Path, keys: Option<&Path>, make: bool) -> Result<(LocalLedger, PathBuf), Failure> {
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let address = path.to_string_lossy().parse::<Address>().map_err(|error| Failure::unknown(format!("{error}")))?;
    let opened = match &address {
        #[cfg(feature = "s3")]
        Address::S3(_) => {
            let keys = keys.ok_or_else(super::place::no_keys)?;
            let beside = keys.with_extension("ledger");
            let keys = KeyFolder::given(keys.to_owned());
            let Address::S3(place) = super::place::as_fleet_says(&address, &keys)? else {
                unreachable!("a bucket stays a bucket");
            };
            let ledger = if make {
                LocalLedger::open_or_create_in_bucket(&place, keys, clock, random)
            } else {
                LocalLedger::open_in_bucket(&place, keys, clock, random)
            };
            ledger.map(|ledger| (ledger, beside))
        }
        _ if keys.is_some() => return Err(super::place::keys_are_beside()),
        _ if make => LocalLedger::open_or_create(path, clock, random).map(|ledger| (ledger, path.to_owned())),
        _ => LocalLedger::open(path, clock, random).map(|ledger| (ledger, path.to_owned())),
    };
    opened.map_err(|error| failure(path, &error))
}

/// What is read, and what it is called.
fn input(arguments: &Arguments) -> Result<(Input, String), Failure> {
    match arguments.file.as_deref() {
        None => Ok((Input::new(Box::new(std::io::stdin()), None), "standard input".to_owned())),
        Some(path) if path == Path::new("-") => {
            Ok((Input::new(Box::new(std::io::stdin()), None), "standard input".to_owned()))
        }
        Some(path) => {
            let shown = path.display().to_string();
            let file = File::open(path).map_err(|error| Failure::unknown(format!("{shown}: {error}")))?;
            let found = file.metadata().map_err(|error| Failure::unknown(format!("{shown}: {error}")))?;
            if found.is_dir() {
                return Err(Failure::unknown(format!("{shown} is a folder")).hint("give a file of JSON Lines"));
            }
            let len = found.is_file().then_some(found.len());
            Ok((Input::new(Box::new(file), len), shown))
        }
    }
}

/// Input that counts what was read of it.
struct Input {
    inner: Box<dyn Read + Send>,
    len: Option<u64>,
    read: Arc<AtomicU64>,
}

impl Input {
    fn new(inner: Box<dyn Read + Send>, len: Option<u64>) -> Input {
        Input { inner, len, read: Arc::default() }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(out)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn take(
    arguments: &Arguments,
    producer: &mut LocalProducer,
    input: Input,
    shown: &str,
    hiding: &mut Hiding<'_>,
) -> Result<Taken, LocalError> {
    let mut progress = Progress::new(&input);
    let stream = producer.stream().to_string();
    let mut told = |told: Told<'_>| match told {
        Told::Durable(lines) => {
            say_durable(arguments, &stream, lines);
            progress.tell(lines.len());
        }
        Told::Refused { line, fault } => say_refused(arguments, shown, line, fault),
    };
    append_lines(producer, Box::new(input), arguments.keep_going, Some(hiding), &mut told)
}

fn say_durable(arguments: &Arguments, stream: &str, lines: &[DurableLine]) {
    let mut text = String::with_capacity(lines.len() * 96);
    for DurableLine { line, recorded, repeat } in lines {
        // Writing to a string does not fail.
        let _ = if arguments.json {
            let shown = json!({
                "line": line,
                "volume": recorded.place.volume,
                "index": recorded.place.index,
                "stream": stream,
                "sequence": recorded.sequence.0,
                "leaf": recorded.leaf,
                "repeat": repeat,
            });
            writeln!(text, "{shown}")
        } else {
            let repeat = if *repeat { "  repeat" } else { "" };
            writeln!(text, "{}  {}  {}{repeat}", place(recorded.place), recorded.sequence, recorded.leaf)
        };
    }
    say::text(&text);
}

/// An index, as `cairn ledger get` takes it; in volumes after the first with the volume before it.
pub(super) fn place(place: Place) -> String {
    if place.volume == 1 { place.index.to_string() } else { place.to_string() }
}

fn say_refused(arguments: &Arguments, shown: &str, line: u64, fault: &LineFault) {
    if arguments.json {
        say::line(json!({ "line": line, "path": fault.path, "error": fault.reason }));
    }
    say::error(format_args!("error: {shown}:{line}: {fault}"));
}

fn say_checkpoint(arguments: &Arguments, published: &PublishedCheckpoint, taken: &Taken) {
    let Ok((checkpoint, _)) = Checkpoint::parse(&published.bytes) else { return };
    let Checkpoint { origin, size, root } = checkpoint;
    if arguments.json {
        let stopped = taken.stopped.as_ref();
        say::line(json!({
            "checkpoint": { "origin": origin, "size": size, "root": root, "note": String::from_utf8_lossy(&published.bytes) },
            "appended": taken.appended,
            "repeats": taken.repeats,
            "refused": taken.refused,
            "stopped": stopped.map(|(line, fault)| json!({ "line": line, "path": fault.path, "error": fault.reason })),
        }));
        return;
    }
    say::line(format_args!("checkpoint  {origin}  size {size}  root {root}"));
}

/// How far it is: a line on a terminal whose records go elsewhere, one every ten seconds in a log.
struct Progress {
    bar: Option<Bar>,
    len: Option<u64>,
    read: Arc<AtomicU64>,
    lines: u64,
    told: Instant,
}

impl Progress {
    fn new(input: &Input) -> Progress {
        // Where the records scroll by on the same terminal, they are the progress.
        let apart = !std::io::stdout().is_terminal();
        let bar = input.len.filter(|_| apart).and_then(|_| Bar::on_terminal("bytes"));
        Progress { bar, len: input.len, read: Arc::clone(&input.read), lines: 0, told: Instant::now() }
    }

    fn tell(&mut self, lines: usize) {
        self.lines += lines as u64;
        if let (Some(bar), Some(len)) = (&self.bar, self.len) {
            bar.set(self.read.load(Ordering::Relaxed).min(len), len);
            return;
        }
        if self.told.elapsed() < TELL_INTERVAL || std::io::stdout().is_terminal() {
            return;
        }
        self.told = Instant::now();
        let _ = writeln!(std::io::stderr(), "note: {} lines are in the ledger", self.lines);
    }
}

pub(super) fn failure(ledger: &Path, error: &LocalError) -> Failure {
    let line = format!("{}: {}", ledger.display(), chain(error));
    let hint = match error {
        LocalError::Open(OpenError::Locked) => {
            "one process writes a ledger at a time: wait for it, or append through it"
        }
        LocalError::Open(OpenError::Frozen { .. }) => "it was frozen on purpose; records go to another ledger",
        LocalError::NotALedger { .. } => "give a path where there is nothing yet, or a ledger's directory",
        LocalError::Gone { .. } => {
            "restore the ledger; if it is gone for good, move the keys away and a new ledger with new keys is made"
        }
        LocalError::FleetFirst { .. } => "start `cairn up` once: it makes the ledger and its keys",
        LocalError::NameTaken { .. } => "use another name",
        LocalError::KeyLost { .. } => "put the key back, or use another name: a new stream begins",
        LocalError::Keys(_) => "put the key back: the ledger's keys lie beside it",
        LocalError::Append(AppendError::Full { .. }) => "make room on the ledger's disk and append the rest again",
        LocalError::NotPublished { .. } => "is its disk full? the next append publishes it",
        _ => return Failure::unknown(line),
    };
    Failure::unknown(line).hint(hint)
}
