//! An event of a `.scap`, of whatever version, as one of ours.
//!
//! Falco's own reader turns old versions into the newest by a table of instructions. That table keeps every parameter under the name
//! it always had, and takes what an old version did not give when a call ended from where it began. So here parameters are joined by
//! name: those of the end, then those of the beginning that are not among them, in today's order.

use super::descriptors::{AT_FDCWD, Direction, absolute, new_socket, set_ends};
use super::lists::{id, take_cgroups};
use super::table::{self, Kind, Row};
use super::tables::{Begun, Raw, Tables};
use super::values::{as_i64, ends, given, texts, to_nul, value};
use crate::event::{
    Call, Capabilities, Change, Descriptor, DescriptorKind, Event, EventKind, EventType, Exec, ExecSyscall, Executable,
    Exit, FileType, Fork, ForkSyscall, Made, Open, OpenSyscall, Param, Process, Text,
};

/// `CLONE_THREAD`, `CLONE_PARENT` and "its pid is another in its namespace", in Falco's numbering.
const CLONE_THREAD: u64 = 1 << 13;
const CLONE_PARENT: u64 = 1 << 8;
const CHILD_IN_PIDNS: u64 = 1 << 29;
/// `O_CLOEXEC` and `O_DIRECTORY` in Falco's numbering, and `SOCK_CLOEXEC` in the kernel's.
const PPM_O_CLOEXEC: u64 = 1 << 12;
const PPM_O_DIRECTORY: u64 = 1 << 10;
const SOCK_CLOEXEC: u64 = 0o2_000_000;
/// `F_DUPFD`, `F_DUPFD_CLOEXEC`, `PR_SET_NAME`, `CLOSE_RANGE_CLOEXEC` in Falco's numbering.
const F_DUPFD: u64 = 1;
const F_DUPFD_CLOEXEC: u64 = 26;
const PR_SET_NAME: u64 = 15;
const CLOSE_RANGE_CLOEXEC: u64 = 4;
/// A call that will succeed later.
const EINPROGRESS: i64 = -115;
/// An id that is not set.
const NO_ID: u32 = u32::MAX;
/// A task's name, with its NUL.
const COMM_BYTES: usize = 16;

/// What the head of an event says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) time_ns: u64,
    pub(super) cpu: u16,
    pub(super) tid: u32,
    /// Does the machine that wrote it write the highest byte first?
    pub(super) is_big: bool,
    /// When that machine started, or 0.
    pub(super) boot_ns: u64,
}

/// Takes an event in: what it says is remembered, and what of it is for rules is given.
pub(super) fn event(tables: &mut Tables, head: Head, row: &'static Row, params: Vec<Raw>) -> Option<Event> {
    if row.is_beginning() {
        tables.begin(head.tid, Begun { number: row.number, params });
        return None;
    }
    let begun = tables.take_begun(head.tid).filter(|begun| begun.number + 1 == row.number);
    let mut done = Done::new(head, row, params, begun)?;
    let kind = done.take_in(tables);
    Some(Event { time_ns: head.time_ns, cpu: head.cpu, tid: head.tid, pid: done.pid, kind })
}

/// A finished call.
struct Done {
    head: Head,
    row: &'static Row,
    event_type: EventType,
    pid: u32,
    result: Option<i64>,
    params: Vec<Raw>,
}

impl Done {
    fn new(head: Head, row: &'static Row, mut params: Vec<Raw>, begun: Option<Begun>) -> Option<Done> {
        let mut event_type = row.event_type?;
        let result = params
            .first()
            .filter(|first| matches!(first.name, "res" | "fd" | "res_or_fd"))
            .and_then(|first| as_i64(&value(first.kind, event_type.name(), &first.bytes, head.is_big)?));
        // Events that only end, and those whose first parameter is not what was returned.
        let result = result.filter(|_| row.number % 2 == 1);
        for early in begun.into_iter().flat_map(|begun| begun.params) {
            let name = table::renamed(event_type, early.name);
            if !params.iter().any(|param| table::renamed(event_type, param.name) == name && !param.bytes.is_empty()) {
                params.push(early);
            }
        }
        for param in &mut params {
            param.name = table::renamed(event_type, param.name);
        }
        if event_type.name() == "syscall" {
            let number = params.iter().find(|param| param.name == "ID")?;
            event_type = table::syscall(super::cursor::unsigned(number.bytes.get(..2)?, head.is_big))?;
        }
        Some(Done { head, row, event_type, pid: head.tid, result, params })
    }

    fn raw(&self, name: &str) -> Option<&Raw> {
        self.params.iter().find(|param| param.name == name && !param.bytes.is_empty())
    }

    fn value(&self, name: &str) -> Option<Param> {
        let raw = self.raw(name)?;
        value(raw.kind, self.event_type.name(), &raw.bytes, self.head.is_big)
    }

    fn number(&self, name: &str) -> Option<i64> {
        as_i64(&self.value(name)?)
    }

    fn bits(&self, name: &str) -> u64 {
        match self.value(name) {
            Some(Param::Signed(number)) => number as u64,
            Some(Param::Unsigned(number)) => number,
            _ => 0,
        }
    }

    /// An id of 32 bits; `None` for "not set" too.
    fn id32(&self, name: &str) -> Option<u32> {
        self.number(name).map(|number| number as u32).filter(|id| *id != NO_ID)
    }

    /// A process' id.
    fn pid_of(&self, name: &str) -> Option<u32> {
        id(self.number(name)? as u64)
    }

    fn chars(&self, name: &str) -> Option<&[u8]> {
        self.raw(name).map(|raw| to_nul(&raw.bytes))
    }

    fn has_succeeded(&self) -> bool {
        self.result.is_none_or(|result| result >= 0)
    }

    /// Remembers what the call changed, and makes what rules get.
    fn take_in(&mut self, tables: &mut Tables) -> EventKind {
        self.pid = tables.pid_of(self.head.tid);
        if self.pid != 0 && !self.is_fork() {
            tables.meet(self.pid);
        }
        match self.event_type.name() {
            _ if self.is_fork() => self.fork(tables),
            "execve" | "execveat" if self.has_succeeded() => self.exec(tables),
            "procexit" => self.exit(tables),
            "open" | "openat" | "openat2" | "creat" => self.open(tables),
            _ => self.call(tables),
        }
    }

    fn call(&self, tables: &mut Tables) -> EventKind {
        // What the descriptor stands for, before the call changes that: `close`.
        let before = self.row.uses_descriptor.then(|| self.used(tables)).flatten();
        let change =
            if self.has_succeeded() || self.event_type.name() == "connect" { self.follow(tables) } else { None };
        let after = if self.row.makes_descriptor && self.has_succeeded() {
            self.made(tables)
        } else if self.row.uses_descriptor {
            self.used_number()
                .and_then(|number| tables.descriptor(self.pid, number))
                .map(|held| held.descriptor.clone())
        } else {
            None
        };
        let mut call = self.plain(tables);
        call.descriptor = after.or(before).map(shown).map(Box::new);
        call.change = change.map(Box::new);
        EventKind::Call(Box::new(call))
    }

    /// The call with its parameters, and no more.
    fn plain(&self, tables: &Tables) -> Call {
        let mut call = Call::new(self.event_type);
        call.result = self.result;
        for doc in self.event_type.params() {
            let Some(mut value) = self.value(doc.name) else { continue };
            if let Param::Text(raw) = &value
                && matches!(doc.kind, "FSPATH" | "FSRELPATH")
                && !raw.as_bytes().starts_with(b"/")
                && let Some(resolved) = self.absolute(tables, doc.name, raw.as_bytes())
            {
                value = Param::Path { raw: raw.clone(), resolved };
            }
            call.params.push((doc.name.to_owned(), value));
        }
        if self.event_type.name() == "container" && call.params.is_empty() {
            call.params.extend(self.container_json());
        }
        call
    }

    /// A path among the parameters, made absolute: relative to the directory that the call was given, or to the process' own.
    fn absolute(&self, tables: &Tables, name: &str, path: &[u8]) -> Option<Text> {
        let directory = match name {
            "oldpath" => ["olddirfd", "olddir"],
            "newpath" => ["newdirfd", "newdir"],
            "linkpath" => ["linkdirfd", "linkdirfd"],
            _ => ["dirfd", "dirfd"],
        };
        let number = directory.iter().find_map(|name| self.number(name)).unwrap_or(AT_FDCWD);
        self.absolute_at(tables, number, path)
    }

    fn absolute_at(&self, tables: &Tables, directory: i64, path: &[u8]) -> Option<Text> {
        if directory == AT_FDCWD {
            absolute(tables.directory(self.pid), path)
        } else {
            absolute(tables.descriptor(self.pid, directory).map(|held| held.descriptor.name.as_bytes()), path)
        }
    }

    /// The number of the descriptor that the call is about.
    fn used_number(&self) -> Option<i64> {
        let by_name = ["fd", "oldfd", "out_fd", "fd_in", "fdin", "dirfd"];
        by_name
            .iter()
            .find_map(|name| self.raw(name).filter(|raw| raw.kind == Kind::Descriptor).and_then(|_| self.number(name)))
    }

    fn used(&self, tables: &Tables) -> Option<Descriptor> {
        let number = self.used_number()?;
        let known = tables.descriptor(self.pid, number).map(|held| held.descriptor.clone());
        Some(known.unwrap_or_else(|| Descriptor { num: Some(number), ..Descriptor::default() }))
    }

    fn made(&self, tables: &Tables) -> Option<Descriptor> {
        let number = match self.event_type.name() {
            // Of two, Falco shows the second.
            "pipe" | "pipe2" | "socketpair" => self.number("fd2"),
            _ => self.result,
        };
        tables.descriptor(self.pid, number?).map(|held| held.descriptor.clone())
    }

    /// Follows a call that succeeded. What it changed about the process is given.
    fn follow(&self, tables: &mut Tables) -> Option<Change> {
        let pid = self.pid;
        match self.event_type.name() {
            "close" => tables.close(pid, self.number("fd")?),
            "close_range" => {
                let (first, last) = (self.number("first")?, self.number("last")?);
                if self.bits("flags") & CLOSE_RANGE_CLOEXEC == 0 {
                    tables.close_where(pid, |number, _| (first..=last).contains(&number));
                }
            }
            "dup" | "dup2" | "dup3" => {
                self.copy(tables, self.number("oldfd")?, self.bits("flags") & PPM_O_CLOEXEC != 0);
            }
            "fcntl" => {
                let command = self.bits("cmd");
                if command == F_DUPFD || command == F_DUPFD_CLOEXEC {
                    self.copy(tables, self.number("fd")?, command == F_DUPFD_CLOEXEC);
                }
            }
            "socket" | "socketpair" | "connect" | "bind" | "accept" | "accept4" | "sendto" | "sendmsg" | "sendmmsg"
            | "recvfrom" | "recvmsg" | "recvmmsg" => self.socket(tables),
            "pipe" | "pipe2" => {
                let ino = self.number("ino").map(|ino| ino as u64);
                let closes = self.bits("flags") & PPM_O_CLOEXEC != 0;
                for end in ["fd1", "fd2"] {
                    let pipe = Descriptor { kind: DescriptorKind::Fifo, ino, ..Descriptor::default() };
                    tables.hold(pid, self.number(end)?, pipe, closes);
                }
            }
            "setuid" | "setgid" | "setreuid" | "setregid" | "setresuid" | "setresgid" | "setsid" | "setpgid"
            | "capset" | "prctl" | "chdir" | "fchdir" | "getcwd" => {
                let change = self.change(tables)?;
                tables.change(pid, |process| change.apply(process));
                return Some(change);
            }
            _ => self.other_descriptor(tables),
        }
        None
    }

    fn copy(&self, tables: &mut Tables, from: i64, closes_on_exec: bool) {
        let Some(number) = self.result else { return };
        match tables.descriptor(self.pid, from).map(|held| held.descriptor.clone()) {
            Some(descriptor) if number != from => tables.hold(self.pid, number, descriptor, closes_on_exec),
            Some(_) => {}
            None => tables.close(self.pid, number),
        }
    }

    /// Calls that make a descriptor of one kind.
    fn other_descriptor(&self, tables: &mut Tables) {
        let kind = match self.event_type.name() {
            "eventfd" | "eventfd2" => DescriptorKind::Event,
            "timerfd_create" => DescriptorKind::Timer,
            "signalfd" | "signalfd4" => DescriptorKind::Signal,
            "inotify_init" | "inotify_init1" => DescriptorKind::Inotify,
            "epoll_create" | "epoll_create1" => DescriptorKind::Eventpoll,
            "userfaultfd" => DescriptorKind::Userfaultfd,
            "io_uring_setup" => DescriptorKind::IoUring,
            "memfd_create" => DescriptorKind::Memfd,
            "pidfd_open" => DescriptorKind::Pidfd,
            "open_by_handle_at" => DescriptorKind::File,
            "bpf" if self.result.is_some_and(|result| result > 0) => DescriptorKind::Bpf,
            "pidfd_getfd" => DescriptorKind::Unknown,
            _ => return,
        };
        let Some(number) = self.result else { return };
        let name = match self.event_type.name() {
            "memfd_create" => self.chars("name").map(Text::from),
            "open_by_handle_at" => self.chars("path").and_then(|path| absolute(None, path)),
            _ => None,
        };
        let descriptor = Descriptor { kind, name: name.unwrap_or_default(), ..Descriptor::default() };
        tables.hold(self.pid, number, descriptor, false);
    }

    fn socket(&self, tables: &mut Tables) {
        let pid = self.pid;
        let tuple = self.raw("tuple").and_then(|raw| ends(&raw.bytes, self.head.is_big));
        match self.event_type.name() {
            name @ ("socket" | "socketpair") => {
                let kind = self.bits("type");
                let socket = new_socket(self.bits("domain"), kind, self.bits("proto"));
                let numbers =
                    if name == "socket" { [self.result, None] } else { [self.number("fd1"), self.number("fd2")] };
                for number in numbers.into_iter().flatten() {
                    tables.hold(pid, number, socket.clone(), kind & SOCK_CLOEXEC != 0);
                }
            }
            "accept" | "accept4" => {
                let (Some(number), Some(tuple)) = (self.result, tuple) else { return };
                // What is above IP is what the listening socket has; an `accept` does not say which that was.
                let mut socket = Descriptor::default();
                set_ends(&mut socket, &tuple, Direction::In);
                if let Some(inner) = socket.socket.as_mut() {
                    inner.protocol = inner.client.map(|_| 6);
                    inner.is_connected = Some(true);
                }
                tables.hold(pid, number, socket, self.bits("flags") & SOCK_CLOEXEC != 0);
            }
            "connect" => self.connect(tables, tuple),
            "bind" => {
                let Some(address) = self.raw("addr").and_then(|raw| given(&raw.bytes, self.head.is_big)) else {
                    let path = self.chars_of_address();
                    return self.update(tables, |socket| socket.name = path.clone());
                };
                self.update(tables, |descriptor| {
                    let socket = descriptor.socket.get_or_insert_default();
                    (socket.server, socket.is_server) = (Some(address), Some(true));
                    descriptor.name = super::descriptors::socket_name(socket);
                });
            }
            name => {
                let Some(tuple) = tuple else { return };
                let direction = if name.starts_with("send") { Direction::Out } else { Direction::In };
                self.update(tables, |descriptor| set_ends(descriptor, &tuple, direction));
            }
        }
    }

    fn connect(&self, tables: &mut Tables, tuple: Option<super::values::Ends>) {
        let is_connected = self.has_succeeded();
        if !is_connected && self.result != Some(EINPROGRESS) {
            return self.update(tables, |descriptor| {
                descriptor.socket.get_or_insert_default().is_connected = Some(false);
            });
        }
        self.update(tables, |descriptor| {
            if let Some(tuple) = &tuple {
                // A socket that connects again speaks to another end in the same role.
                set_ends(descriptor, tuple, Direction::Out);
            }
            descriptor.socket.get_or_insert_default().is_connected = Some(is_connected);
        });
    }

    /// Changes what the call's descriptor stands for; one that was not known is from now on.
    fn update(&self, tables: &mut Tables, change: impl FnOnce(&mut Descriptor)) {
        let Some(number) = self.used_number() else { return };
        let held = tables.descriptor(self.pid, number).cloned();
        let closes_on_exec = held.as_ref().is_some_and(|held| held.closes_on_exec);
        let mut descriptor = held.map(|held| held.descriptor).unwrap_or_default();
        change(&mut descriptor);
        tables.hold(self.pid, number, descriptor, closes_on_exec);
    }

    /// The path of a Unix socket's address.
    fn chars_of_address(&self) -> Text {
        match self.value("addr") {
            Some(Param::Text(text)) => text,
            _ => Text::default(),
        }
    }

    /// What a call that succeeded changed about its process.
    fn change(&self, tables: &Tables) -> Option<Change> {
        let mut change = Change::default();
        match self.event_type.name() {
            // The process is not known to be root or not: of both ids the effective one surely changes.
            "setuid" => {
                change.euid = self.id32("uid");
                change.uid = change.euid;
            }
            "setgid" => {
                change.egid = self.id32("gid");
                change.gid = change.egid;
            }
            "setreuid" | "setresuid" => {
                (change.uid, change.euid) = (self.id32("ruid"), self.id32("euid"));
            }
            "setregid" | "setresgid" => {
                (change.gid, change.egid) = (self.id32("rgid"), self.id32("egid"));
            }
            "setsid" => {
                change.sid = Some(self.pid);
                change.pgid = Some(self.pid);
            }
            "setpgid" => {
                let pid = self.pid_of("pid")?;
                if pid != 0 && pid != self.pid {
                    return None;
                }
                change.pgid = Some(self.pid_of("pgid").filter(|pgid| *pgid != 0).unwrap_or(self.pid));
            }
            "capset" => {
                change.capabilities = Some(Capabilities {
                    inheritable: self.bits("cap_inheritable"),
                    permitted: self.bits("cap_permitted"),
                    effective: self.bits("cap_effective"),
                });
            }
            "prctl" => {
                let name = self.chars("arg2_str").filter(|_| self.bits("option") == PR_SET_NAME)?;
                // Only the thread's name changes; a process is called as its first thread is.
                if self.head.tid != self.pid {
                    return None;
                }
                change.comm = Some(name[..name.len().min(COMM_BYTES - 1)].into());
            }
            "chdir" | "getcwd" => {
                change.cwd = Some(self.absolute_at(tables, AT_FDCWD, self.chars("path")?)?);
            }
            "fchdir" => {
                let directory = tables.descriptor(self.pid, self.number("fd")?)?.descriptor.name.clone();
                change.cwd = Some(directory).filter(|name| name.as_bytes().starts_with(b"/"));
            }
            _ => return None,
        }
        Some(change).filter(|change| *change != Change::default())
    }

    fn open(&self, tables: &mut Tables) -> EventKind {
        let name = self.event_type.name();
        let raw_name = self.chars("name").unwrap_or_default();
        let path = self.absolute(tables, "name", raw_name).unwrap_or_default();
        let falco_flags = self.bits("flags");
        let flags = if name == "creat" { 0o1101 } else { open_flags(falco_flags) };
        let result = self.result.unwrap_or(0);
        let is_directory = falco_flags & PPM_O_DIRECTORY != 0;
        if result >= 0 {
            let kind = if is_directory { DescriptorKind::Directory } else { DescriptorKind::File };
            let descriptor = Descriptor {
                kind,
                name: path.clone(),
                nameraw: raw_name.into(),
                dev: self.number("dev").map(|dev| dev as u64),
                ino: self.number("ino").map(|ino| ino as u64),
                ..Descriptor::default()
            };
            tables.hold(self.pid, result, descriptor, falco_flags & PPM_O_CLOEXEC != 0);
        }
        let file_type = if is_directory { FileType::Directory } else { FileType::Regular };
        EventKind::Open(Box::new(Open {
            syscall: match name {
                "open" => OpenSyscall::Open,
                "openat2" => OpenSyscall::Openat2,
                "creat" => OpenSyscall::Creat,
                _ => OpenSyscall::Openat,
            },
            name: path,
            nameraw: raw_name.into(),
            flags,
            mode: self.bits("mode") as u32,
            result,
            file_type: (result >= 0).then_some(file_type),
            params: self.plain(tables).params,
        }))
    }

    /// Both parent and child return from it.
    fn fork(&mut self, tables: &mut Tables) -> EventKind {
        let flags = self.bits("flags");
        match self.result {
            Some(0) => self.fork_of_child(tables, flags),
            Some(result) if result > 0 => self.fork_of_parent(tables, flags, result),
            _ => self.call(tables),
        }
    }

    fn fork_of_parent(&mut self, tables: &mut Tables, flags: u64, result: i64) -> EventKind {
        self.learn(tables);
        // In a namespace of its own the parent is told a number that is the child's only there; the child will say its own.
        let in_namespace =
            flags & CHILD_IN_PIDNS != 0 || self.pid_of("vtid").is_some_and(|vtid| vtid != 0 && vtid != self.head.tid);
        let Some(child) = id(result as u64).filter(|_| !in_namespace) else { return self.call(tables) };
        if flags & CLONE_THREAD != 0 {
            tables.add_thread(child, self.pid);
            return self.call(tables);
        }
        let has_come = tables.process(child).is_some_and(|known| {
            !known.is_awaited
                && known.process.ppid == self.pid
                && known.process.started_at_ns.is_some_and(|at| at <= self.head.time_ns)
        });
        if has_come {
            // The child was faster.
            return self.call(tables);
        }
        let fork = self.remember_child(tables, child, flags, self.pid, true);
        EventKind::Fork(fork)
    }

    fn fork_of_child(&mut self, tables: &mut Tables, flags: u64) -> EventKind {
        let tid = self.head.tid;
        let pid = self.pid_of("pid").unwrap_or(tid);
        self.pid = pid;
        if flags & CLONE_THREAD != 0 || pid != tid {
            tables.add_thread(tid, pid);
            return self.call(tables);
        }
        let mut change = Change::default();
        if tables.has_come(pid) {
            self.learn(tables);
        } else {
            let by = self.pid_of("ptid").map_or(0, |ptid| tables.pid_of(ptid));
            let fork = self.remember_child(tables, pid, flags & !CLONE_PARENT, by, false);
            change.made = Some(Box::new(Made { by, fork }));
        }
        if let Some(raw) = self.raw("cgroups") {
            // It can begin in other control groups than its parent's: that is how a container begins.
            let before = tables.process(pid).and_then(|known| known.process.container.clone());
            tables.change(pid, |process| take_cgroups(process, &raw.bytes));
            let now = tables.process(pid).and_then(|known| known.process.container.clone());
            change.container = (before != now).then(|| now.unwrap_or_default());
        }
        let mut call = self.call(tables);
        if let EventKind::Call(call) = &mut call
            && change != Change::default()
        {
            call.change = Some(Box::new(change));
        }
        call
    }

    /// A process that was made by `by`, and is as that one is.
    fn remember_child(&self, tables: &mut Tables, child: u32, flags: u64, by: u32, is_awaited: bool) -> Fork {
        let parent = if flags & CLONE_PARENT != 0 { tables.process(by).map(|known| known.process.ppid) } else { None };
        let fork = Fork {
            child_pid: child,
            child_start_ns: self.head.time_ns.saturating_sub(self.head.boot_ns),
            child_vpid: self.pid_of("vpid").filter(|vpid| self.result == Some(0) && *vpid != child && *vpid != 0),
            child_ppid: parent.filter(|parent| *parent != by),
            syscall: match self.event_type.name() {
                "clone3" => ForkSyscall::Clone3,
                "fork" => ForkSyscall::Fork,
                "vfork" => ForkSyscall::Vfork,
                _ => ForkSyscall::Clone,
            },
            flags: Some(flags as u32),
        };
        let mut process = tables.process(by).map_or_else(|| self.process(None), |known| known.process.clone());
        process.ppid = parent.unwrap_or(by);
        process.start_ns = fork.child_start_ns;
        process.started_at_ns = Some(self.head.time_ns);
        process.vpid = fork.child_vpid;
        tables.add_process(child, process, Some(by), is_awaited);
        fork
    }

    /// A process that was running and in no list says what it is when it makes another.
    fn learn(&mut self, tables: &mut Tables) {
        let is_strange = tables.process(self.pid).is_none();
        if let Some(pid) = self.pid_of("pid").filter(|pid| is_strange && *pid != 0 && *pid != self.pid) {
            tables.add_thread(self.head.tid, pid);
            self.pid = pid;
        }
        if tables.process(self.pid).is_none() {
            tables.meet(self.pid);
            tables.set(self.pid, self.process(None));
        }
    }

    /// The process as the parameters of an exec or a fork describe it; what they leave out stays as it was.
    fn process(&self, before: Option<&Process>) -> Process {
        let mut process = before.cloned().unwrap_or_default();
        let chars = |name| self.chars(name).filter(|chars| !chars.is_empty()).map(Text::from);
        if let Some(ptid) = self.pid_of("ptid").filter(|_| before.is_none()) {
            process.ppid = ptid;
        }
        if let Some(first) = self.chars("exe") {
            let rest = self.raw("args").map(|raw| texts(&raw.bytes)).unwrap_or_default();
            process.args = std::iter::once(Text::from(first)).chain(rest).collect();
            process.args_truncated = false;
        }
        if let Some(cwd) = chars("cwd") {
            process.cwd = cwd;
        }
        if let Some(comm) = chars("comm") {
            process.comm = comm;
        } else if let Some(first) = process.args.first().filter(|_| self.is_exec()) {
            // Before 2015 the name was not told.
            let name = first.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            process.comm = name[..name.len().min(COMM_BYTES - 1)].into();
        }
        if let Some(raw) = self.raw("cgroups") {
            take_cgroups(&mut process, &raw.bytes);
        }
        if let Some(raw) = self.raw("env") {
            process.env = texts(&raw.bytes);
        }
        for (name, field) in [("uid", &mut process.uid), ("gid", &mut process.gid)] {
            if let Some(id) = self.id32(name) {
                *field = id;
            }
        }
        if self.raw("tty").is_some() {
            process.tty = self.bits("tty") as u32;
        }
        if self.raw("loginuid").is_some() {
            process.loginuid = self.id32("loginuid");
        }
        process.vpgid = self.pid_of("vpgid").or(process.vpgid);
        process.pgid = self.pid_of("pgid").or(process.pgid);
        if self.raw("cap_effective").is_some() {
            process.capabilities = Some(Capabilities {
                inheritable: self.bits("cap_inheritable"),
                permitted: self.bits("cap_permitted"),
                effective: self.bits("cap_effective"),
            });
        }
        process
    }

    fn is_fork(&self) -> bool {
        matches!(self.event_type.name(), "clone" | "clone3" | "fork" | "vfork")
    }

    fn is_exec(&self) -> bool {
        matches!(self.event_type.name(), "execve" | "execveat")
    }

    fn exec(&mut self, tables: &mut Tables) -> EventKind {
        if let Some(pid) = self.pid_of("pid").filter(|pid| *pid != 0) {
            self.pid = pid;
        }
        let before = tables.process(self.pid).map(|known| known.process.clone());
        let mut process = self.process(before.as_ref());
        process.exepath = self.exepath(tables);
        process.executable = self.executable();
        tables.meet(self.pid);
        tables.has_come(self.pid);
        tables.set(self.pid, process.clone());
        tables.close_where(self.pid, |_, held| held.closes_on_exec);
        let syscall = if self.event_type.name() == "execveat" { ExecSyscall::Execveat } else { ExecSyscall::Execve };
        EventKind::Exec(Box::new(Exec { syscall, process, params: self.rest_of_exec() }))
    }

    /// The path of what runs now.
    fn exepath(&self, tables: &Tables) -> Text {
        let trusted = self.chars("trusted_exepath").filter(|path| path.starts_with(b"/"));
        if let Some(path) = trusted {
            return path.into();
        }
        let asked = ["filename", "pathname"].iter().find_map(|name| self.chars(name).filter(|path| !path.is_empty()));
        match asked {
            Some(path) => self.absolute(tables, "filename", path),
            // `fexecve`: the descriptor is the file. Versions without the path leave what the program was told it is called.
            None if self.raw("dirfd").is_some() => self
                .number("dirfd")
                .and_then(|number| tables.descriptor(self.pid, number))
                .map(|held| held.descriptor.name.clone()),
            None => self.chars("exe").and_then(|path| absolute(None, path)),
        }
        .unwrap_or_default()
    }

    fn executable(&self) -> Option<Executable> {
        let has_ino = self.raw("exe_ino").is_some();
        // Versions that tell no more than this bit have no inode.
        let flags =
            self.raw("flags").filter(|_| self.event_type.name() == "execve" || has_ino).map(|_| self.bits("flags"));
        if flags.is_none() && !has_ino {
            return None;
        }
        let bit = |bit: u64, known: bool| flags.filter(|_| known).map(|flags| flags & bit != 0);
        Some(Executable {
            ino: self.bits("exe_ino"),
            ctime_ns: self.bits("exe_ino_ctime"),
            mtime_ns: self.bits("exe_ino_mtime"),
            is_writable: bit(1, true),
            is_upper_layer: bit(2, has_ino),
            is_from_memfd: bit(4, has_ino),
            is_lower_layer: bit(8, self.raw("gid").is_some()),
        })
    }

    /// Parameters of an exec that are no part of the process.
    fn rest_of_exec(&self) -> Vec<(String, Param)> {
        let wanted = [
            "res", "fdlimit", "pgft_maj", "pgft_min", "vm_size", "vm_rss", "vm_swap", "flags", "filename", "pathname",
            "dirfd",
        ];
        wanted.iter().filter_map(|name| Some(((*name).to_owned(), self.value(name)?))).collect()
    }

    fn exit(&self, tables: &mut Tables) -> EventKind {
        let call = self.call(tables);
        if !tables.remove_thread(self.head.tid) {
            // A thread of several: the process goes on.
            return call;
        }
        tables.remove_process(self.pid);
        let status = self.bits("status");
        let code = if self.raw("ret").is_some() { self.bits("ret") } else { status >> 8 & 0xff };
        let signal = if self.raw("sig").is_some() { self.bits("sig") } else { status & 0x7f };
        EventKind::Exit(Exit {
            code: code as i32 & 0xff,
            signal: u32::try_from(signal).ok().filter(|signal| *signal > 0),
        })
    }

    /// A container as the first versions told of it, in the form of the later ones.
    fn container_json(&self) -> Option<(String, Param)> {
        let text = |name| String::from_utf8_lossy(self.chars(name).unwrap_or_default()).into_owned();
        self.raw("id")?;
        let json = serde_json::json!({
            "id": text("id"), "type": self.bits("type"), "name": text("name"), "image": text("image"),
        });
        Some(("json".to_owned(), Param::Text(json.to_string().into())))
    }
}

/// A descriptor as rules see it: what is above IP is not said of a socket before it is known which end it is, as with Falco.
fn shown(mut descriptor: Descriptor) -> Descriptor {
    if let Some(socket) = &mut descriptor.socket
        && socket.is_server.is_none()
    {
        socket.protocol = None;
    }
    descriptor
}

/// Falco's bits of an open as the kernel's (asm-generic).
fn open_flags(falco: u64) -> u32 {
    const BITS: [(u32, u32); 11] = [
        (2, 0o100),
        (3, 0o2_000),
        (4, 0o10_000),
        (5, 0o200),
        (6, 0o4_000),
        (7, 0o4_010_000),
        (8, 0o1_000),
        (9, 0o40_000),
        (10, 0o200_000),
        (11, 0o100_000),
        (12, 0o2_000_000),
    ];
    let access = match falco & 3 {
        3 => 2,
        2 => 1,
        _ => 0,
    };
    let rest = BITS.iter().filter(|(bit, _)| falco >> bit & 1 != 0).fold(0, |flags, (_, kernel)| flags | kernel);
    let temporary = if falco >> 13 & 1 != 0 { 0o20_200_000 } else { 0 };
    access | rest | temporary
}
