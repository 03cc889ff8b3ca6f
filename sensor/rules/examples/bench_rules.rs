//! How many events the engine takes on one core. `cargo xtask bench rules` runs this and repeats it.
//!
//! ```text
//! bench_rules RULES_FILE…
//! ```
//!
//! The mix is that of a busy machine: per program that is started one fork, one exec, one exit and [`OPENS`] opens, most of them libraries and
//! configuration; half of the programs run in containers; the process tree is five deep. It is made before the time begins. Prints
//! `name value`; the limit is the same engine with no rule at all: what it costs to keep the process table.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use cairn_rules::event::{Event, EventKind, Exec, Exit, Fork, Open, Process, Text};
use cairn_rules::{Engine, Limits, Names, RuleSet, RulesFile, load};

/// Programs that are started.
const PROGRAMS: u32 = 20_000;
/// Files that each of them opens.
const OPENS: u32 = 17;
/// Rounds over all events.
const ROUNDS: u64 = 3;

const EXECUTABLES: &[(&str, &[&str])] = &[
    ("/usr/bin/bash", &["bash", "-c", "make -j2 all"]),
    ("/usr/bin/grep", &["grep", "-r", "--include=*.c", "needle", "src/"]),
    ("/usr/bin/cc1", &["cc1", "-quiet", "-O2", "main.c", "-o", "/tmp/ccXyZ123.s"]),
    ("/usr/bin/python3.11", &["python3", "/srv/app/manage.py", "runserver", "0.0.0.0:8000"]),
    ("/usr/sbin/nginx", &["nginx: worker process"]),
    ("/usr/bin/git", &["git", "rev-parse", "HEAD"]),
    ("/usr/local/bin/kubelet", &["kubelet", "--config=/var/lib/kubelet/config.yaml"]),
    ("/usr/bin/runc", &["runc", "--root", "/run/containerd/runc/k8s.io", "state", "abc"]),
];

const FILES: &[&str] = &[
    "/etc/ld.so.cache",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libpthread.so.0",
    "/usr/lib/locale/locale-archive",
    "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",
    "/proc/self/status",
    "/proc/meminfo",
    "/sys/fs/cgroup/memory.max",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/srv/app/templates/index.html",
    "/srv/app/static/site.css",
    "/var/log/app/access.log",
    "/home/ada/src/project/Makefile",
    "/usr/include/stdio.h",
    "/tmp/ccXyZ123.s",
    "/dev/null",
];

// `O_RDONLY|O_CLOEXEC` and `O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC`, as the kernel numbers them.
const READ: u32 = 0o2_000_000;
const WRITE: u32 = 0o2_002_101;

fn text(text: &str) -> Text {
    Text::from_escaped(text)
}

fn process(number: u32, ppid: u32) -> Process {
    let (executable, arguments) = EXECUTABLES[number as usize % EXECUTABLES.len()];
    let name = executable.rsplit('/').next().unwrap_or(executable);
    Process {
        ppid,
        start_ns: 1_000_000 + u64::from(number),
        uid: if number.is_multiple_of(3) { 0 } else { 1_000 },
        gid: 1_000,
        loginuid: Some(1_000),
        comm: text(&name[..name.len().min(15)]),
        exepath: text(executable),
        args: arguments.iter().map(|argument| text(argument)).collect(),
        cwd: text("/srv/app"),
        container: number.is_multiple_of(2).then(|| text("3f2a1b9c8d7e")),
        ..Process::default()
    }
}

/// Five processes, each the parent of the next, that were there before.
fn seeds() -> Vec<(u32, Process)> {
    (1..=5).map(|pid| (pid, process(pid, pid - 1))).collect()
}

fn mix() -> Vec<Event> {
    let mut events = Vec::new();
    let mut time_ns = 1_700_000_000_000_000_000;
    let mut push = |pid: u32, kind: EventKind| {
        time_ns += 2_000;
        events.push(Event { time_ns, cpu: 0, tid: pid, pid, kind });
    };
    for number in 0..PROGRAMS {
        let pid = 100 + number;
        push(
            5,
            EventKind::Fork(Fork { child_pid: pid, child_start_ns: 1_000_000 + u64::from(number), ..Fork::default() }),
        );
        push(pid, EventKind::Exec(Box::new(Exec { process: process(number, 5), ..Exec::default() })));
        for open in 0..OPENS {
            let name = FILES[(number + open) as usize % FILES.len()];
            let written = name.starts_with("/var/log") || name.starts_with("/tmp");
            let open = Open {
                name: text(name),
                nameraw: text(name),
                flags: if written { WRITE } else { READ },
                result: if (number + open) % 11 == 0 { -2 } else { 3 },
                ..Open::default()
            };
            push(pid, EventKind::Open(Box::new(open)));
        }
        push(pid, EventKind::Exit(Exit::default()));
    }
    events
}

/// Seconds for all rounds, and alerts.
fn run(rules: &Arc<RuleSet>, events: &[Event]) -> (f64, u64) {
    let mut names = Names::default();
    names.users.insert(0, "root".into());
    names.users.insert(1_000, "ada".into());
    let names = Arc::new(names);
    let (mut seconds, mut alerts) = (0.0, 0);
    for _ in 0..ROUNDS {
        let mut engine = Engine::new(Arc::clone(rules), Limits::default());
        engine.set_names(Arc::clone(&names));
        engine.seed(seeds());
        let started = Instant::now();
        for event in events {
            alerts += engine.handle(event).len() as u64;
        }
        seconds += started.elapsed().as_secs_f64();
    }
    (seconds, alerts)
}

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<(String, String)> = std::env::args()
        .skip(1)
        .map(|path| fs::read_to_string(&path).map(|text| (path, text)))
        .collect::<Result<_, _>>()?;
    let files: Vec<RulesFile<'_>> = files.iter().map(|(path, text)| RulesFile { path, text }).collect();
    let loaded = load(&files);
    if !loaded.is_ok() {
        return Err(cairn_rules::problem::render(&loaded.problems).into());
    }
    let events = mix();
    let total = (events.len() as u64 * ROUNDS) as f64;
    println!("rules {}", loaded.rules.rules().len());
    let (seconds, alerts) = run(&Arc::new(loaded.rules), &events);
    println!("events {total}");
    println!("alerts {alerts}");
    println!("per_second {}", total / seconds);
    let (seconds, _) = run(&Arc::new(load(&[]).rules), &events);
    println!("no_rules_per_second {}", total / seconds);
    Ok(())
}
