//! How many events the engine takes on one core. `cargo xtask bench rules` runs this and repeats it.
//!
//! ```text
//! bench_rules RULES_FILE…
//! bench_rules --capture CAPTURE RULES_FILE…
//! ```
//!
//! With a capture its events are played again and again: those of kinds that the mix below lacks. Without one:
//!
//! The mix is that of a busy machine: per program that is started one fork, one exec, one exit and [`OPENS`] opens, most of them libraries and
//! configuration; half of the programs run in containers; the process tree is five deep. It is made before the time begins. Prints
//! `name value`; the limit is the same engine with no rule at all: what it costs to keep the process table.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use cairn_rules::event::{Event, EventKind, Exec, Exit, Fork, Open, Process, Text};
use cairn_rules::{Engine, Limits, Names, RuleSet, RulesFile, Supply, capture, load_for};

/// Programs that are started.
const PROGRAMS: u32 = 20_000;
/// Files that each of them opens.
const OPENS: u32 = 17;
/// Rounds over all events.
const ROUNDS: u64 = 3;
/// About as many events of a capture in each of them.
const CAPTURED: usize = 400_000;

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

/// What happens, and what was there before.
struct Scene {
    names: Arc<Names>,
    seeds: Vec<(u32, Process)>,
    events: Vec<Event>,
    /// How often the events are played before the engine is another.
    repeat: usize,
}

impl Scene {
    fn mix() -> Scene {
        let mut names = Names::default();
        names.users.insert(0, "root".into());
        names.users.insert(1_000, "ada".into());
        Scene { names: Arc::new(names), seeds: seeds(), events: mix(), repeat: 1 }
    }

    fn of_capture(path: &str) -> Result<Scene, Box<dyn Error>> {
        let bytes = fs::read(path)?;
        let mut capture = capture::open(&bytes)?;
        let names = Arc::new(capture.names().clone());
        let seeds = capture.seeds().to_vec();
        let events: Vec<Event> = capture.by_ref().collect::<Result<_, _>>()?;
        let repeat = (CAPTURED / events.len().max(1)).max(1);
        Ok(Scene { names, seeds, events, repeat })
    }

    /// Events of all rounds.
    fn len(&self) -> f64 {
        (self.events.len() * self.repeat) as f64 * ROUNDS as f64
    }
}

/// Seconds for all rounds, and alerts.
fn run(rules: &Arc<RuleSet>, scene: &Scene) -> (f64, u64) {
    let (mut seconds, mut alerts) = (0.0, 0);
    for _ in 0..ROUNDS {
        let mut engine = Engine::new(Arc::clone(rules), Limits::default());
        engine.set_names(Arc::clone(&scene.names));
        engine.seed(scene.seeds.iter().cloned());
        let started = Instant::now();
        for _ in 0..scene.repeat {
            for event in &scene.events {
                alerts += engine.handle(event).len() as u64;
            }
        }
        seconds += started.elapsed().as_secs_f64();
    }
    (seconds, alerts)
}

fn load_or_say(files: &[RulesFile<'_>], supply: &Supply) -> Result<RuleSet, Box<dyn Error>> {
    let loaded = load_for(files, supply);
    if loaded.is_ok() { Ok(loaded.rules) } else { Err(cairn_rules::problem::render(&loaded.problems).into()) }
}

/// The rules of the files, those that are disabled there included.
fn load_all(files: &[RulesFile<'_>], supply: &Supply) -> Result<RuleSet, Box<dyn Error>> {
    let disabled = load_or_say(files, supply)?.disabled().to_vec();
    let enable: String = disabled
        .iter()
        .map(|name| format!("- rule: {name:?}\n  enabled: true\n  override: {{enabled: replace}}\n"))
        .collect();
    let mut files = files.to_vec();
    if !enable.is_empty() {
        files.push(RulesFile { path: "all of them", text: &enable });
    }
    load_or_say(&files, supply)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A capture has what no sensor of ours supplies.
    let (scene, paths, supply) = match arguments.as_slice() {
        [option, path, files @ ..] if option == "--capture" => (Scene::of_capture(path)?, files, Supply::everything()),
        files => (Scene::mix(), files, Supply::sensor().clone()),
    };
    let texts: Vec<String> = paths.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let files: Vec<RulesFile<'_>> = paths.iter().zip(&texts).map(|(path, text)| RulesFile { path, text }).collect();
    let rules = load_all(&files, &supply)?;
    let total = scene.len();
    println!("rules {}", rules.rules().len());
    let kinds: BTreeSet<&str> = scene.events.iter().map(|event| event.event_type().name()).collect();
    println!("kinds {}", kinds.len());
    let (seconds, alerts) = run(&Arc::new(rules), &scene);
    println!("events {total}");
    println!("alerts {alerts}");
    println!("per_second {}", total / seconds);
    let (seconds, _) = run(&Arc::default(), &scene);
    println!("no_rules_per_second {}", total / seconds);
    Ok(())
}
