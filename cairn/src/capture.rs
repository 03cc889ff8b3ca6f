//! `cairn replay` and `cairn record`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use cairn_rules::capture::{self, CaptureError, Compression, Format, Loss, Summary, Writer};
use cairn_rules::event::SYSCALL;
use cairn_rules::{AlertOptions, Engine, Limits};
use cairn_schemas::time::Clock as _;
use cairn_sensor::kernel::{self, Kernel, OBJECT, Options};
use cairn_sensor::source::EventSource;
use clap::Args;

use crate::alerts::{AlertArguments, Report, load_rules};
use crate::clock::SystemClock;
use crate::failure::{Failure, chain};
use crate::progress::Counter;
use crate::{say, up};

/// How long the recorder waits for events before it looks whether to end.
const POLL: Duration = Duration::from_millis(100);
/// How often what is recorded is handed to the system, and shown.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Only root sees what a machine's programs were called with.
const MODE: u32 = 0o600;

#[derive(Args)]
pub(crate) struct ReplayArguments {
    /// A capture of `cairn record`'s, a `.scap` of Falco's or sysdig's, or with --source a log of JSON
    capture: PathBuf,
    /// Rules files, loaded together in this order
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Only events of this source; of a source of documents, the file may be its log as it is
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    #[command(flatten)]
    alerts: AlertArguments,
}

pub(crate) fn replay(arguments: &ReplayArguments) -> Result<ExitCode, Failure> {
    let options = arguments.alerts.read()?;
    let rules = Arc::new(load_rules(&arguments.rules, &options)?);
    if let Some(name) = &arguments.source
        && rules.sources().get(name).is_none()
    {
        let known: Vec<&str> = rules.sources().iter().map(cairn_rules::Source::name).collect();
        return Err(Failure::unknown(format!("no source is called `{name}`"))
            .hint(format!("one of {}; or declare it in a rules file: `- cairn_source: {name}`", known.join(", "))));
    }
    let path = &arguments.capture;
    let unreadable = |error: &io::Error| Failure::unknown(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
    let mut report = arguments.alerts.report(&options, &mut engine);
    match capture::read(BufReader::new(file)) {
        Ok(mut opened) => {
            report.hostname = opened.names().hostname.clone().unwrap_or_default();
            engine.set_names(Arc::new(opened.names().clone()));
            engine.seed(opened.seeds().iter().cloned());
            for event in opened.by_ref() {
                let event = event.map_err(|error| broken(path, &error, &report, &engine))?;
                if !report.take(&mut engine, &event, arguments.source.as_deref()) {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            report.end(&engine);
            left_out(opened.format(), opened.summary());
        }
        Err(error) => {
            let of_documents = arguments.source.as_deref().filter(|name| *name != SYSCALL);
            let Some(source) = of_documents.and_then(|name| rules.sources().get(name)) else {
                return Err(broken(path, &error, &report, &engine));
            };
            let log = std::fs::read(path).map_err(|error| unreadable(&error))?;
            let received_ns = SystemClock.now().nanos();
            for event in source.read_log(&log, received_ns) {
                match event {
                    Ok(event) => {
                        if !report.take(&mut engine, &event, None) {
                            return Ok(ExitCode::SUCCESS);
                        }
                    }
                    Err(error) => say::error(format_args!("warning: {}: {}", path.display(), chain(&error))),
                }
            }
            report.end(&engine);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with a capture. What was found before it stands.
fn broken(path: &Path, error: &CaptureError, report: &Report, engine: &Engine) -> Failure {
    if report.events > 0 {
        report.end(engine);
    }
    let failure = Failure::bad(format!("{}: {}", path.display(), chain(error)));
    match error {
        CaptureError::Unknown { .. } => failure
            .hint("name a capture of `cairn record`, `falco` or `sysdig -w`; for a log of JSON say --source k8s_audit, or another"),
        CaptureError::Line { line: 1, .. } => failure.hint("for a log of JSON say --source k8s_audit, or another"),
        CaptureError::Version { .. } => failure.hint("use the cairn that wrote it, or a newer one"),
        _ => failure,
    }
}

fn left_out(format: Format, summary: &Summary) {
    if let Some(offset) = summary.truncated_at {
        say::error(format_args!(
            "warning: the capture ends in the middle, at byte {offset}; what stands before was used"
        ));
    }
    for loss in &summary.lost {
        say::error(format_args!("warning: the recorder lost {} events: {}, {}", loss.lost, loss.family, loss.cause));
    }
    if summary.refused > 0 {
        say::error(format_args!("warning: {} processes and descriptors did not fit the tables", summary.refused));
    }
    let skipped: u64 = summary.skipped.values().sum();
    if format == Format::Scap && skipped > 0 {
        let kinds: Vec<String> = summary.skipped.iter().map(|(what, count)| format!("{count} {what}")).collect();
        say::error(format_args!("{skipped} events left out, which rules have no name for: {}", kinds.join(", ")));
    }
}

#[derive(Args)]
pub(crate) struct RecordArguments {
    /// The capture's file, which must not exist yet; compressed when it ends in .zst or .gz
    out: PathBuf,
    /// End after so many seconds; until then, and without it, Ctrl-C ends the recording
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Rules files that are tried meanwhile: their alerts are printed as they come
    #[arg(long, num_args = 1.., value_name = "FILE")]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    alerts: AlertArguments,
}

pub(crate) fn record(arguments: &RecordArguments) -> Result<ExitCode, Failure> {
    let options = arguments.alerts.read()?;
    let engine = if arguments.rules.is_empty() { None } else { Some(engine(arguments, &options)?) };
    let stop = up::stop_signal()?;
    let mut kernel = Kernel::load(OBJECT, Options::default(), Arc::new(SystemClock)).map_err(|error| {
        let failure = Failure::unknown(format!("this machine's events cannot be seen: {}", chain(&error)));
        match &error {
            kernel::LoadError::Missing(missing) => {
                failure.hint(missing.remedy(&kernel::sudo_command(up::nodes::own_command())))
            }
            _ => failure,
        }
    })?;
    let mut recording = Recording::begin(&arguments.out, &kernel, engine)?;
    say::error(format_args!("recording to {}; Ctrl-C ends it", arguments.out.display()));

    let began = Instant::now();
    let counter = Counter::on_terminal("events");
    let mut flushed = began;
    let is_over =
        |began: Instant| arguments.seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds));
    while matches!(stop.try_recv(), Err(TryRecvError::Empty)) && !is_over(began) {
        recording.poll(&mut kernel, POLL)?;
        if flushed.elapsed() >= FLUSH_EVERY {
            recording.flush()?;
            flushed = Instant::now();
            if let Some(counter) = &counter {
                counter.set(recording.writer.events());
            }
        }
    }
    if let Some(counter) = &counter {
        counter.clear();
    }
    // What happened before the end is still in the ring.
    EventSource::stop(&mut kernel);
    while recording.poll(&mut kernel, Duration::ZERO)? > 0 {}
    recording.end(&kernel)
}

/// A capture that is being written.
struct Recording {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
    engine: Option<(Engine, Report)>,
}

impl Recording {
    fn begin(path: &Path, kernel: &Kernel, mut engine: Option<(Engine, Report)>) -> Result<Recording, Failure> {
        let failed = |error: io::Error| Failure::unknown(format!("{}: {error}", path.display()));
        let names = cairn_sensor::names::read(Path::new("/"));
        let seeds = EventSource::seeds(kernel)
            .map_err(|error| Failure::unknown(format!("the machine's processes cannot be read: {error}")))?;
        let file = File::options().write(true).create_new(true).mode(MODE).open(path).map_err(|error| {
            let is_there = error.kind() == io::ErrorKind::AlreadyExists;
            let failure = failed(error);
            if is_there { failure.hint("name a file that does not exist yet") } else { failure }
        })?;
        let compression = Compression::of_name(&path.to_string_lossy());
        let by = concat!("cairn ", env!("CARGO_PKG_VERSION"));
        if let Some((engine, report)) = &mut engine {
            engine.set_names(Arc::new(names.clone()));
            engine.seed(seeds.iter().cloned());
            report.hostname = names.hostname.clone().unwrap_or_default();
        }
        let writer = Writer::new(BufWriter::new(file), compression, by, &names, seeds).map_err(failed)?;
        Ok(Recording { path: path.to_owned(), writer, engine })
    }

    fn poll(&mut self, kernel: &mut Kernel, timeout: Duration) -> Result<usize, Failure> {
        let mut written = Ok(());
        let (writer, engine) = (&mut self.writer, &mut self.engine);
        let count = EventSource::poll(kernel, timeout, &mut |event| {
            if let Some((engine, report)) = engine {
                // Whether anybody reads the alerts does not end the recording.
                report.take(engine, &event, None);
            }
            if written.is_ok() {
                written = writer.event(event);
            }
        })
        .map_err(|error| Failure::bad(chain(&error)))?;
        written.map_err(|error| self.failed(&error))?;
        Ok(count)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.writer.flush();
        flushed.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::bad(format!("{}: {error}", self.path.display()))
            .hint("what was written before can be replayed; give it a disk with more room")
    }

    fn end(self, kernel: &Kernel) -> Result<ExitCode, Failure> {
        let failed = |error: &io::Error| Failure::bad(format!("{}: {error}", self.path.display()));
        let lost = EventSource::lost(kernel)
            .map_err(|error| Failure::bad(format!("what was lost cannot be counted: {}", chain(&error))))?;
        let word = |cause| serde_json::to_value(cause).ok().and_then(|word| word.as_str().map(ToOwned::to_owned));
        let lost: Vec<Loss> = lost
            .into_iter()
            .filter(|lost| lost.lost > 0)
            .map(|lost| Loss {
                cause: word(lost.cause).unwrap_or_default(),
                family: lost.family.to_owned(),
                lost: lost.lost,
            })
            .collect();
        let events = self.writer.events();
        let mut file = self.writer.finish(lost.clone()).map_err(|error| failed(&error))?;
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(|error| failed(&error))?;
        if let Some((engine, report)) = &self.engine {
            report.end(engine);
        }
        let count: u64 = lost.iter().map(|lost| lost.lost).sum();
        say::error(format_args!("{events} events in {}, {count} lost", self.path.display()));
        for lost in &lost {
            say::error(format_args!("   lost {}: {}, {}", lost.lost, lost.family, lost.cause));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// An engine that knows of no process yet, and who reports what it says.
fn engine(arguments: &RecordArguments, options: &AlertOptions) -> Result<(Engine, Report), Failure> {
    let rules = load_rules(&arguments.rules, options)?;
    let mut engine = Engine::new(Arc::new(rules), Limits::default());
    let report = arguments.alerts.report(options, &mut engine);
    Ok((engine, report))
}
