//! Loading the programs or saying why not, and finding an event among the machine's.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cairn_rules::event::{Event, EventKind, Exec, Open};
use cairn_schemas::time::{Clock, Timestamp};
use cairn_sensor::kernel::{Kernel, LoadError, OBJECT, Options, sudo_command};

/// Polls before an event is given up. Generous: nothing waits for it when all is well.
const POLLS_MAX: usize = 300;
const POLL: Duration = Duration::from_millis(100);

struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "events of the real kernel are compared with the real time")]
    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }
}

/// The running programs and every event they gave so far.
pub(crate) struct Watch {
    pub(crate) kernel: Kernel,
    pub(crate) seen: Vec<Event>,
}

/// Options for a test that opens files itself.
pub(crate) fn with_self() -> Options {
    Options { without_self: false, ..Options::default() }
}

/// Loads the programs; `None`, with a line that says why, where the machine cannot run them.
pub(crate) fn watch(options: Options) -> Option<Watch> {
    let object = match std::env::var_os("CAIRN_EBPF_OBJECT") {
        Some(path) => std::fs::read(&path).unwrap_or_else(|error| panic!("CAIRN_EBPF_OBJECT={path:?}: {error}")),
        None => OBJECT.to_vec(),
    };
    match Kernel::load(&object, options, Arc::new(RealClock)) {
        Ok(kernel) => Some(Watch { kernel, seen: Vec::new() }),
        Err(error) => {
            let line = reason(&error);
            let may_be_so = matches!(error, LoadError::Missing(_)) || is_forbidden(&error);
            let is_required = std::env::var_os("CAIRN_REQUIRE_KERNEL").is_some_and(|value| value == "1");
            assert!(may_be_so && !is_required, "{line}");
            say(&format!("kernel test not run: {line}"));
            None
        }
    }
}

/// Says why something is not tried, past the harness that keeps the output of tests that pass to itself.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The error with its causes, and what to do about it.
fn reason(error: &LoadError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    if let LoadError::Missing(missing) = error {
        line.push_str("; ");
        line.push_str(&missing.remedy(&sudo_command(std::env::args())));
    }
    line
}

/// Did the system forbid loading (a container's filter, lockdown), rather than the verifier find a fault?
fn is_forbidden(error: &LoadError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::PermissionDenied;
        }
        cause = error.source();
    }
    false
}

impl Watch {
    /// The first event for which `pick` gives something, among those seen and those to come.
    pub(crate) fn find<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        if let Some(found) = self.seen.iter().find_map(&pick) {
            return found;
        }
        for _ in 0..POLLS_MAX {
            let before = self.seen.len();
            let seen = &mut self.seen;
            self.kernel.poll(POLL, |event| seen.push(event)).expect("the ring can be read");
            if let Some(found) = self.seen[before..].iter().find_map(&pick) {
                return found;
            }
        }
        panic!("no {what} among {} events; {:?}", self.seen.len(), self.kernel.losses());
    }

    /// The execution by this process of a program with this name.
    pub(crate) fn exec(&mut self, pid: u32, comm: &str) -> (Event, Exec) {
        self.find(&format!("execution of {comm} by {pid}"), |event| match &event.kind {
            EventKind::Exec(exec) if event.pid == pid && exec.process.comm.as_bytes() == comm.as_bytes() => {
                Some((event.clone(), Exec::clone(exec)))
            }
            _ => None,
        })
    }

    /// The execution with these arguments, by whatever process.
    pub(crate) fn exec_with(&mut self, args: &[&str]) -> (Event, Exec) {
        self.find(&format!("execution with {args:?}"), |event| match &event.kind {
            EventKind::Exec(exec)
                if exec.process.args.iter().map(|arg| arg.as_bytes()).eq(args.iter().map(|arg| arg.as_bytes())) =>
            {
                Some((event.clone(), Exec::clone(exec)))
            }
            _ => None,
        })
    }

    /// The open by this process for which `is_it` holds.
    pub(crate) fn open(&mut self, pid: u32, what: &str, is_it: impl Fn(&Open) -> bool) -> Open {
        self.find(what, |event| match &event.kind {
            EventKind::Open(open) if event.pid == pid && is_it(open) => Some(Open::clone(open)),
            _ => None,
        })
    }
}
