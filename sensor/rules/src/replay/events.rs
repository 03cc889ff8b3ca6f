//! Makes complete events of what a case's author wrote: a small machine with pids, parents and a clock.

use std::collections::HashMap;

use super::{Attachment, call, document};
use crate::container::CONTAINER_ID_LEN;
use crate::event::{
    Capabilities, Event, EventKind, Exec, ExecSyscall, Executable, Exit, FileType, Fork, Open, OpenSyscall, Process,
    Text,
};
use crate::fields::constants::{self, O_CREAT, O_RDWR, O_TRUNC, O_WRONLY};
use crate::fields::flags;
use crate::limits::ANCESTRY_MAX;
use crate::load::reader::Fields;
use crate::problem::Reporter;
use crate::yaml::{Data, Node};

/// When the first event happens: 2026-01-01T00:00:00Z.
const EPOCH_NS: u64 = 1_767_225_600_000_000_000;
/// Time between events that do not say when they happen.
const STEP_NS: u64 = 1_000_000;
/// Pids that cases leave to us.
const FIRST_PID: u32 = 10_000;
/// How old an executable is whose times a case leaves out.
const A_YEAR_NS: u64 = 365 * 24 * 3_600 * 1_000_000_000;
/// `tty: true`: the first pseudo-terminal (major 136, minor 0).
const A_TERMINAL: u32 = 34_816;
/// `container: true`.
const A_CONTAINER: &str = "3f4a9c0b7d21";
/// The kernel's bound on a task's name.
const NAME_LEN_MAX: usize = 15;

const PROCESS_KEYS: [&str; 22] = [
    "exe",
    "name",
    "args",
    "args_truncated",
    "cwd",
    "tty",
    "uid",
    "gid",
    "loginuid",
    "container",
    "cgroup",
    "parent",
    "pid",
    "vpid",
    "sid",
    "pgid",
    "started",
    "vpgid",
    "euid",
    "capabilities",
    "env",
    "executable",
];

/// The machine a case describes as it goes.
pub(super) struct Machine<'a> {
    /// The case's file, and the files that its events may name.
    path: &'a str,
    attachments: &'a [Attachment<'a>],
    processes: Vec<(u32, Process)>,
    known: HashMap<u32, Process>,
    events: Vec<Event>,
    now_ns: u64,
    next_pid: u32,
}

impl<'a> Machine<'a> {
    pub(super) fn new(path: &'a str, attachments: &'a [Attachment<'a>]) -> Self {
        let (processes, known, events) = (Vec::new(), HashMap::new(), Vec::new());
        Self { path, attachments, processes, known, events, now_ns: EPOCH_NS, next_pid: FIRST_PID }
    }
}

impl Machine<'_> {
    pub(super) fn finish(self) -> (Vec<(u32, Process)>, Vec<Event>) {
        (self.processes, self.events)
    }

    /// Takes one entry of `events`: a mapping with one kind, and perhaps `at`.
    pub(super) fn event(&mut self, node: &Node, case: &Fields<'_>, reporter: &mut Reporter<'_>) {
        let Some(pairs) = node.mapping() else {
            case.wrong(
                node,
                format!("an event is a mapping, not {}", node.kind()),
                Some("write `- exec: {exe: /bin/sh}`".to_owned()),
                reporter,
            );
            return;
        };
        let kinds = ["exec", "open", "fork", "exit", "call", "document", "file"];
        let known = ["exec", "open", "fork", "exit", "call", "document", "file", "source", "at"];
        let fields = Fields::strict(node, pairs, case.file, case.item.clone(), &known, reporter);
        let given: Vec<&str> = kinds.into_iter().filter(|kind| fields.has(kind)).collect();
        let [kind] = given.as_slice() else {
            fields.wrong(node, format!("an event is one of {}", kinds.join(", ")), None, reporter);
            return;
        };
        self.now_ns = match at(&fields, reporter) {
            Some(offset) => EPOCH_NS + offset,
            None => self.now_ns + STEP_NS,
        };
        let Some(body) = fields.get(kind) else { return };
        if matches!(*kind, "document" | "file") {
            let kinds = document::documents(&fields, body, self.path, self.attachments, reporter);
            for (number, kind) in (0_u64..).zip(kinds.unwrap_or_default()) {
                self.now_ns += STEP_NS * u64::from(number > 0);
                self.events.push(Event { time_ns: self.now_ns, cpu: 0, tid: 0, pid: 0, kind });
            }
            return;
        }
        if let Some(source) = fields.get("source") {
            let hint = Some("remove it: the kernel's events have no other source".to_owned());
            fields.wrong(source, "`source` without `document` or `file`".to_owned(), hint, reporter);
        }
        // `exec: /bin/sh` and `open: /etc/passwd` for short.
        let short = body.text().map(|text| (text.to_owned(), body));
        let made = match (*kind, short) {
            ("exec", Some((text, body))) => {
                let process = self.described(&Description::of_exe(&text), None, body, case, reporter);
                process.map(|(pid, process)| self.exec(pid, process, ExecSyscall::Execve))
            }
            ("open", Some((text, body))) => self.open_of(None, body, case, reporter, &text, &OpenKeys::default()),
            ("exec", None) => self.exec_event(body, case, reporter),
            ("open", None) => self.open_event(body, case, reporter),
            ("fork", _) => self.fork_event(body, case, reporter),
            ("call", _) => self.call_event(body, case, reporter),
            (_, _) => self.exit_event(body, case, reporter),
        };
        if let Some((pid, kind)) = made {
            self.events.push(Event { time_ns: self.now_ns, cpu: 0, tid: pid, pid, kind });
        }
    }

    fn exec_event(&mut self, body: &Node, case: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<(u32, EventKind)> {
        let mut known = PROCESS_KEYS.to_vec();
        known.push("syscall");
        let fields = mapping(body, "exec", &known, case, reporter)?;
        let syscall = match fields.scalar("syscall", reporter).map(|scalar| scalar.value) {
            None => ExecSyscall::Execve,
            Some(name) if name == "execve" => ExecSyscall::Execve,
            Some(name) if name == "execveat" => ExecSyscall::Execveat,
            Some(other) => {
                fields.wrong(body, format!("`{other}` is neither execve nor execveat"), None, reporter);
                return None;
            }
        };
        let (pid, process) = self.process_of(&fields, body, true, 0, reporter)?;
        Some(self.exec(pid, process, syscall))
    }

    fn exec(&mut self, pid: u32, process: Process, syscall: ExecSyscall) -> (u32, EventKind) {
        self.known.insert(pid, process.clone());
        (pid, EventKind::Exec(Box::new(Exec { syscall, process, ..Exec::default() })))
    }

    fn open_event(&mut self, body: &Node, case: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<(u32, EventKind)> {
        let known = ["path", "flags", "mode", "result", "type", "syscall", "raw", "process"];
        let fields = mapping(body, "open", &known, case, reporter)?;
        let path = fields.required("path", reporter)?.value;
        let keys = OpenKeys::read(&fields, reporter)?;
        self.open_of(fields.get("process"), body, case, reporter, &path, &keys)
    }

    fn open_of(
        &mut self,
        process: Option<&Node>,
        body: &Node,
        case: &Fields<'_>,
        reporter: &mut Reporter<'_>,
        path: &str,
        keys: &OpenKeys,
    ) -> Option<(u32, EventKind)> {
        let (pid, process) = match process {
            Some(node) => self.running(node, case, 0, reporter)?,
            None => {
                let (pid, process) =
                    self.described(&Description::of_exe("/usr/bin/cat"), None, body, case, reporter)?;
                self.start(pid, process)
            }
        };
        let open = Open {
            syscall: keys.syscall,
            name: Text::from_escaped(&path_below(&process, path)),
            nameraw: Text::from_escaped(keys.raw.as_deref().unwrap_or(path)),
            flags: keys.flags,
            mode: keys.mode,
            result: keys.result,
            file_type: keys.file_type,
            ..Open::default()
        };
        Some((pid, EventKind::Open(Box::new(open))))
    }

    fn fork_event(&mut self, body: &Node, case: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<(u32, EventKind)> {
        let fields = mapping(body, "fork", &["process", "child"], case, reporter)?;
        let (Some(process), Some(child)) = (fields.get("process"), number(&fields, "child", reporter)) else {
            fields.wrong(
                body,
                "a fork needs `process` and `child`".to_owned(),
                Some("write `fork: {process: {pid: 1}, child: 2}`".to_owned()),
                reporter,
            );
            return None;
        };
        let (pid, process) = self.running(process, case, 0, reporter)?;
        let child_start_ns = self.now_ns - EPOCH_NS + 1;
        self.known.insert(child, Process { ppid: pid, start_ns: child_start_ns, ..process });
        Some((pid, EventKind::Fork(Fork { child_pid: child, child_start_ns, ..Fork::default() })))
    }

    fn exit_event(&mut self, body: &Node, case: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<(u32, EventKind)> {
        let fields = mapping(body, "exit", &["process", "code", "signal"], case, reporter)?;
        let Some(process) = fields.get("process") else {
            fields.wrong(
                body,
                "an exit needs `process`".to_owned(),
                Some("write `exit: {process: {pid: 1}}`".to_owned()),
                reporter,
            );
            return None;
        };
        let (pid, _) = self.running(process, case, 0, reporter)?;
        let code = number(&fields, "code", reporter).unwrap_or(0);
        let signal = number(&fields, "signal", reporter);
        self.known.remove(&pid);
        Some((pid, EventKind::Exit(Exit { code: i32::try_from(code).unwrap_or(i32::MAX), signal })))
    }

    fn call_event(&mut self, body: &Node, case: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<(u32, EventKind)> {
        let fields = mapping(body, "a call", &call::KEYS, case, reporter)?;
        let (pid, mut process) = match fields.get("process") {
            Some(node) => self.running(node, case, 0, reporter)?,
            None => {
                let (pid, process) = self.described(&Description::of_exe("/bin/sh"), None, body, case, reporter)?;
                self.start(pid, process)
            }
        };
        let call = call::call(&fields, &process, reporter)?;
        if let Some(change) = &call.change {
            change.apply(&mut process);
            self.known.insert(pid, process);
        }
        Some((pid, EventKind::Call(Box::new(call))))
    }

    /// A process that runs: one known by its pid, or one described here, which then ran from the start.
    fn running(
        &mut self,
        node: &Node,
        case: &Fields<'_>,
        depth: usize,
        reporter: &mut Reporter<'_>,
    ) -> Option<(u32, Process)> {
        if let Some(text) = node.text() {
            let (pid, process) = self.described(&Description::of_exe(text), None, node, case, reporter)?;
            return Some(self.start(pid, process));
        }
        let fields = mapping(node, "a process", &PROCESS_KEYS, case, reporter)?;
        let pid = number(&fields, "pid", reporter);
        if let Some(known) = pid.and_then(|pid| self.known.get(&pid).cloned().map(|known| (pid, known))) {
            if fields.keys().count() > 1 {
                let message = format!("process {} is described already", known.0);
                fields.wrong(node, message, Some("give its `pid` alone".to_owned()), reporter);
                return None;
            }
            return Some(known);
        }
        let (pid, process) = self.process_of(&fields, node, false, depth, reporter)?;
        Some(self.start(pid, process))
    }

    fn start(&mut self, pid: u32, process: Process) -> (u32, Process) {
        self.processes.push((pid, process.clone()));
        self.known.insert(pid, process.clone());
        (pid, process)
    }

    /// The process a mapping describes. An exec may name the pid of a known process, which then keeps its identity.
    fn process_of(
        &mut self,
        fields: &Fields<'_>,
        node: &Node,
        may_be_known: bool,
        depth: usize,
        reporter: &mut Reporter<'_>,
    ) -> Option<(u32, Process)> {
        if depth > ANCESTRY_MAX {
            fields.wrong(node, format!("more than {ANCESTRY_MAX} ancestors"), None, reporter);
            return None;
        }
        let parent = match fields.get("parent") {
            Some(parent) => Some(self.running(parent, fields, depth + 1, reporter)?),
            None => None,
        };
        let description = Description::read(fields, reporter)?;
        if !may_be_known && description.exe.is_none() && description.name.is_none() && description.args.is_none() {
            let hint = Some("give `exe`, or the `pid` of a process of this case".to_owned());
            fields.wrong(node, "a process that nothing is known of".to_owned(), hint, reporter);
            return None;
        }
        self.described(&description, parent, node, fields, reporter)
    }

    /// Fills in what the author left out: from the process itself if it is known, else from its parent, else from a root shell's
    /// surroundings.
    fn described(
        &mut self,
        wanted: &Description,
        parent: Option<(u32, Process)>,
        node: &Node,
        fields: &Fields<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Option<(u32, Process)> {
        let pid = wanted.pid.unwrap_or_else(|| {
            self.next_pid += 1;
            self.next_pid
        });
        let before = self.known.get(&pid).cloned();
        if before.is_some() && parent.is_some() {
            fields.wrong(
                node,
                format!("process {pid} is known already, with its parent"),
                Some("leave `parent` out".to_owned()),
                reporter,
            );
            return None;
        }
        let base = before.clone().or_else(|| parent.as_ref().map(|(_, parent)| parent.clone()));
        let is_new = before.is_none();
        let base = base.unwrap_or_else(|| Process { cwd: "/".into(), ..Process::default() });
        let (exepath, name, args) = wanted.program();
        // A parent is older than its children: pids we give out rise as we go down, so count from the number of known processes.
        let start_ns = if is_new { self.now_ns - EPOCH_NS + self.known.len() as u64 + 1 } else { base.start_ns };
        let started_at_ns = match wanted.started_ns {
            Some(before_now) => Some(self.now_ns.saturating_sub(before_now)),
            None if is_new => Some(self.now_ns),
            None => base.started_at_ns,
        };
        let process = Process {
            ppid: parent.as_ref().map_or(if is_new { 1 } else { base.ppid }, |(pid, _)| *pid),
            start_ns,
            started_at_ns,
            uid: wanted.uid.unwrap_or(base.uid),
            gid: wanted.gid.unwrap_or(base.gid),
            loginuid: wanted.loginuid.or(base.loginuid),
            comm: name,
            exepath,
            args,
            args_truncated: wanted.args_truncated,
            cwd: wanted.cwd.clone().unwrap_or(base.cwd),
            tty: wanted.tty.unwrap_or(base.tty),
            cgroup: wanted.cgroup.clone().unwrap_or(base.cgroup),
            container: wanted.container.clone().unwrap_or(base.container),
            vpid: wanted.vpid,
            sid: wanted.sid.or(base.sid),
            pgid: wanted.pgid.or(base.pgid),
            vpgid: wanted.vpgid.or(base.vpgid),
            euid: wanted.euid.or(base.euid),
            egid: base.egid,
            capabilities: wanted.capabilities.or(base.capabilities),
            env: wanted.env.clone().unwrap_or(base.env),
            executable: wanted.executable.map(|changed_before| Executable {
                ctime_ns: self.now_ns.saturating_sub(changed_before.ctime_ns),
                mtime_ns: self.now_ns.saturating_sub(changed_before.mtime_ns),
                ..changed_before
            }),
        };
        Some((pid, process))
    }
}

/// What an author wrote of a process.
#[derive(Default)]
struct Description {
    exe: Option<String>,
    name: Option<String>,
    args: Option<Vec<String>>,
    args_truncated: bool,
    cwd: Option<Text>,
    tty: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    loginuid: Option<u32>,
    container: Option<Option<Text>>,
    cgroup: Option<Text>,
    pid: Option<u32>,
    vpid: Option<u32>,
    sid: Option<u32>,
    pgid: Option<u32>,
    started_ns: Option<u64>,
    vpgid: Option<u32>,
    euid: Option<u32>,
    capabilities: Option<Capabilities>,
    env: Option<Vec<Text>>,
    /// Its times are how long before the event.
    executable: Option<Executable>,
}

impl Description {
    fn of_exe(exe: &str) -> Self {
        Self { exe: Some(exe.to_owned()), ..Self::default() }
    }

    fn read(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Self> {
        let text = |key: &str, reporter: &mut Reporter<'_>| fields.scalar(key, reporter).map(|scalar| scalar.value);
        let args = match fields.get("args") {
            Some(_) => Some(fields.scalars("args", reporter)?.into_iter().map(|scalar| scalar.value).collect()),
            None => None,
        };
        let started_ns = match fields.scalar("started", reporter) {
            None => None,
            Some(text) => {
                let parsed = duration(text.value.strip_suffix(" ago").unwrap_or(&text.value));
                if parsed.is_none() {
                    fields.wrong(
                        fields.get("started")?,
                        "`started` is a duration before the event".to_owned(),
                        Some("write `10m`".to_owned()),
                        reporter,
                    );
                }
                parsed
            }
        };
        Some(Self {
            exe: text("exe", reporter),
            name: text("name", reporter),
            args,
            args_truncated: fields.boolean("args_truncated", false, reporter),
            cwd: text("cwd", reporter).map(|cwd| Text::from_escaped(&cwd)),
            tty: tty(fields, reporter),
            uid: number(fields, "uid", reporter),
            gid: number(fields, "gid", reporter),
            loginuid: number(fields, "loginuid", reporter),
            container: container(fields, reporter),
            cgroup: text("cgroup", reporter).map(|cgroup| Text::from_escaped(&cgroup)),
            pid: number(fields, "pid", reporter),
            vpid: number(fields, "vpid", reporter),
            sid: number(fields, "sid", reporter),
            pgid: number(fields, "pgid", reporter),
            started_ns,
            vpgid: number(fields, "vpgid", reporter),
            euid: number(fields, "euid", reporter),
            capabilities: capabilities(fields, reporter),
            env: fields
                .scalars("env", reporter)
                .map(|all| all.iter().map(|it| Text::from_escaped(&it.value)).collect()),
            executable: executable(fields, reporter),
        })
    }

    /// Path, name and arguments, each from the others where it was left out.
    fn program(&self) -> (Text, Text, Vec<Text>) {
        let first = self.args.as_ref().and_then(|args| args.first().cloned());
        let exe = self.exe.clone().unwrap_or_else(|| {
            let called = self.name.clone().or(first).unwrap_or_else(|| "sh".to_owned());
            if called.starts_with('/') { called } else { format!("/usr/bin/{called}") }
        });
        let base = exe.rsplit('/').next().unwrap_or(&exe).to_owned();
        let name = Text::from_escaped(self.name.as_deref().unwrap_or(&base));
        let name = Text::from(&name.as_bytes()[..name.len().min(NAME_LEN_MAX)]);
        let args = match &self.args {
            Some(args) => args.iter().map(|argument| Text::from_escaped(argument)).collect(),
            None => vec![Text::from_escaped(&base)],
        };
        (Text::from_escaped(&exe), name, args)
    }
}

/// What an author wrote of an open, beside path and process.
struct OpenKeys {
    flags: u32,
    mode: u32,
    result: i64,
    file_type: Option<FileType>,
    syscall: OpenSyscall,
    raw: Option<String>,
}

impl Default for OpenKeys {
    fn default() -> Self {
        Self {
            flags: 0,
            mode: 0,
            result: 3,
            file_type: Some(FileType::Regular),
            syscall: OpenSyscall::Openat,
            raw: None,
        }
    }
}

impl OpenKeys {
    fn read(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Self> {
        let mut keys = Self::default();
        let choose = |key: &str, what: &str, reporter: &mut Reporter<'_>| {
            fields.get(key).inspect(|node| fields.wrong(node, format!("`{key}` is no {what}"), None, reporter));
        };
        if let Some(syscall) = fields.scalar("syscall", reporter) {
            keys.syscall = match syscall.value.as_str() {
                "open" => OpenSyscall::Open,
                "openat" => OpenSyscall::Openat,
                "openat2" => OpenSyscall::Openat2,
                "creat" => OpenSyscall::Creat,
                _ => {
                    choose("syscall", "call that opens: open, openat, openat2, creat", reporter);
                    return None;
                }
            };
            if keys.syscall == OpenSyscall::Creat {
                keys.flags = O_CREAT | O_WRONLY | O_TRUNC;
            }
        }
        if let Some(node) = fields.get("flags") {
            keys.flags = flags(node, fields, reporter)?;
        }
        if let Some(mode) = fields.scalar("mode", reporter) {
            let digits = mode.value.trim_start_matches("0o");
            match u32::from_str_radix(digits, 8) {
                Ok(mode) => keys.mode = mode,
                Err(_) => choose("mode", "octal number", reporter),
            }
        }
        if let Some(result) = fields.scalar("result", reporter) {
            let error = constants::error_number(&result.value).map(|number| -number);
            match result.value.parse().ok().or(error) {
                Some(result) => keys.result = result,
                None => choose("result", "descriptor or name of an error such as ENOENT", reporter),
            }
        }
        if let Some(file_type) = fields.scalar("type", reporter) {
            keys.file_type = Some(match file_type.value.as_str() {
                "regular" | "file" => FileType::Regular,
                "directory" => FileType::Directory,
                "char" => FileType::Char,
                "block" => FileType::Block,
                "fifo" => FileType::Fifo,
                _ => {
                    choose("type", "type: regular, directory, char, block, fifo", reporter);
                    return None;
                }
            });
        }
        keys.raw = fields.scalar("raw", reporter).map(|scalar| scalar.value);
        Some(keys)
    }
}

/// `read`, `write`, `[write, create]`, `O_RDWR|O_CREAT`.
fn flags(node: &Node, fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<u32> {
    let words: Vec<String> = match &node.data {
        Data::Sequence(nodes) => nodes.iter().map(|node| node.text().unwrap_or_default().to_owned()).collect(),
        _ => node.text()?.split(['|', ',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect(),
    };
    let mut bits = 0;
    for word in words {
        bits |= match word.as_str() {
            "read" => 0,
            "write" => O_WRONLY,
            "readwrite" => O_RDWR,
            "create" => O_CREAT,
            "truncate" => O_TRUNC,
            "append" => 0o2_000,
            other => match constants::open_flag_bits(other) {
                Some(bits) => bits,
                None => {
                    let hint =
                        "words are read, write, readwrite, create, truncate, append, and the names O_...".to_owned();
                    fields.wrong(node, format!("`{other}` is no flag of an open"), Some(hint), reporter);
                    return None;
                }
            },
        };
    }
    Some(bits)
}

/// A sequence of `CAP_...`: what it has, and may take up.
fn capabilities(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Capabilities> {
    let names = fields.scalars("capabilities", reporter)?;
    match flags::capability_bits(names.iter().map(|name| name.value.as_str())) {
        Ok(bits) => Some(Capabilities { inheritable: 0, permitted: bits, effective: bits }),
        Err(other) => {
            fields.wrong(fields.get("capabilities")?, format!("`{other}` is no capability"), None, reporter);
            None
        }
    }
}

/// `{ino, changed, written, memfd, upper_layer, lower_layer, writable}`: times are how long before the event.
fn executable(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Executable> {
    let known = ["ino", "changed", "written", "memfd", "upper_layer", "lower_layer", "writable"];
    let keys = mapping(fields.get("executable")?, "`executable`", &known, fields, reporter)?;
    let ago = |key: &str, reporter: &mut Reporter<'_>| {
        let node = keys.get(key)?;
        let parsed = node.text().map(|text| text.strip_suffix(" ago").unwrap_or(text)).and_then(duration);
        if parsed.is_none() {
            keys.wrong(
                node,
                format!("`{key}` is a duration before the event"),
                Some("write `10m`".to_owned()),
                reporter,
            );
        }
        parsed
    };
    let is = |key: &str, reporter: &mut Reporter<'_>| Some(keys.boolean(key, false, reporter));
    let changed = ago("changed", reporter).unwrap_or(A_YEAR_NS);
    Some(Executable {
        ino: number(&keys, "ino", reporter).unwrap_or(1).into(),
        ctime_ns: changed,
        mtime_ns: ago("written", reporter).unwrap_or(changed),
        is_writable: is("writable", reporter),
        is_upper_layer: is("upper_layer", reporter),
        is_lower_layer: is("lower_layer", reporter),
        is_from_memfd: is("memfd", reporter),
    })
}

/// A path of a process, absolute.
pub(super) fn path_below(process: &Process, path: &str) -> String {
    normalised(&if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", process.cwd) })
}

pub(super) fn mapping<'n>(
    node: &'n Node,
    what: &str,
    known: &[&str],
    case: &Fields<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Fields<'n>> {
    let Some(pairs) = node.mapping() else {
        case.wrong(node, format!("{what} is a mapping, not {}", node.kind()), None, reporter);
        return None;
    };
    Some(Fields::strict(node, pairs, case.file, case.item.clone(), known, reporter))
}

pub(super) fn number(fields: &Fields<'_>, key: &str, reporter: &mut Reporter<'_>) -> Option<u32> {
    let node = fields.get(key)?;
    let number = node.text().and_then(|text| text.parse().ok());
    if number.is_none() {
        fields.wrong(node, format!("`{key}` must be a number from 0 to {}", u32::MAX), None, reporter);
    }
    number
}

fn tty(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<u32> {
    match fields.get("tty")?.boolean() {
        Some(true) => Some(A_TERMINAL),
        Some(false) => Some(0),
        None => {
            let node = fields.get("tty")?;
            let device = node.text().and_then(|text| text.parse().ok());
            if device.is_none() {
                fields.wrong(node, "`tty` is true, false or a device number".to_owned(), None, reporter);
            }
            device
        }
    }
}

/// `true`, `false`, `host`, or an id, cut as the sensor cuts it when it has a runtime's length.
fn container(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Option<Text>> {
    let node = fields.get("container")?;
    match (node.boolean(), node.text()) {
        (Some(true), _) => Some(Some(A_CONTAINER.into())),
        (Some(false), _) | (_, Some("host")) => Some(None),
        (None, Some(id)) => {
            let is_long = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            Some(Some(if is_long { id[..CONTAINER_ID_LEN].into() } else { id.into() }))
        }
        (None, None) => {
            fields.wrong(node, "`container` is true, false or an id".to_owned(), None, reporter);
            None
        }
    }
}

fn at(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<u64> {
    let node = fields.get("at")?;
    let parsed = node.text().and_then(duration);
    if parsed.is_none() {
        fields.wrong(
            node,
            "`at` is a duration from the beginning".to_owned(),
            Some("write `1500ms` or `10s`".to_owned()),
            reporter,
        );
    }
    parsed
}

/// `5s`, `1500ms`, `10m`, `2h`, in nanoseconds; at most a thousand hours.
fn duration(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: u64 = match text.get(digits..)?.trim() {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let nanos = text.get(..digits)?.parse::<u64>().ok()?.checked_mul(unit)?;
    (nanos <= 3_600_000_000_000_000).then_some(nanos)
}

/// A path without `.`, `..` and doubled slashes, as the kernel walks it when no link is in the way.
fn normalised(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
