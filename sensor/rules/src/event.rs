//! What happened on a machine, as the engine takes it: one [`Event`] per kernel event.
//!
//! Any event source can make them: the eBPF sensor, a scan of `/proc` (for [`Process`] seeds), a recorded capture, or a replay
//! case. Nothing here is trusted to be consistent: a process may exit twice, or a parent be unknown.
//!
//! The derived serde form is for captures: complete and exact. Replay cases have a shorter one for people
//! ([`crate::replay`]).

use serde::{Deserialize, Serialize};

pub use crate::text::Text;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The CPU it was seen on.
    pub cpu: u16,
    /// The thread that did it (the kernel's `pid`), as the host numbers it.
    pub tid: u32,
    /// That thread's process (the kernel's `tgid`), as the host numbers it.
    pub pid: u32,
    /// What it was.
    pub kind: EventKind,
}

/// The kinds of event an engine understands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventKind {
    /// `execve` or `execveat` succeeded: the process now runs another program.
    Exec(Box<Exec>),
    /// A process made a child process (not a thread). `Event::pid` is the parent's.
    Fork(Fork),
    /// A process ended (its last thread; not each thread).
    Exit(Exit),
    /// `open`, `openat`, `openat2` or `creat` returned.
    Open(Box<Open>),
}

/// What is known of a process that runs a program. Its pid stands beside it: in [`Event::pid`], or in a seed.
///
/// Fill in what is known and leave the rest: `Process { ppid, start_ns, exepath, ..Process::default() }`. A field that is
/// not known is absent to rules, and an absent field makes a check false.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The parent's pid (0: none).
    pub ppid: u32,
    /// When the process was made, in nanoseconds since boot (`task_struct.start_boottime` of the leader). With the pid it is
    /// the process' identity; the engine only compares it for equality, with 0 as "not known".
    pub start_ns: u64,
    /// The same moment in nanoseconds since the Unix epoch, if known. `proc.duration` counts from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ns: Option<u64>,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Login user id; `None` when unset (the kernel's -1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// The kernel's name of the task, at most 15 bytes: `proc.name`.
    pub comm: Text,
    /// The executable's path as the kernel resolved it (following links, in the process' own mount namespace):
    /// `proc.exepath`. Empty when not known.
    pub exepath: Text,
    /// All arguments, the first (`argv[0]`, `proc.exe`) included.
    #[serde(default)]
    pub args: Vec<Text>,
    /// True when arguments were cut for length: there were more than stand in `args`.
    #[serde(default)]
    pub args_truncated: bool,
    /// Working directory; empty when not known.
    #[serde(default)]
    pub cwd: Text,
    /// Device number of the controlling terminal; 0 for none: `proc.tty`.
    #[serde(default)]
    pub tty: u32,
    /// Path of the cgroup (v2, or v1's name= or pids hierarchy); empty when not known.
    #[serde(default)]
    pub cgroup: Text,
    /// The container it runs in; `None` on the host. Whoever makes the event derives it from the cgroup
    /// ([`crate::container::id_of_cgroup`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Text>,
    /// Its pid inside its own pid namespace, if it is not the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpid: Option<u32>,
    /// Session id (host pid of the leader), if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<u32>,
    /// Process group id (host pid of the leader), if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgid: Option<u32>,
}

/// A process runs another program from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Which call it was: `evt.type`.
    #[serde(default)]
    pub syscall: ExecSyscall,
    /// The process after it.
    pub process: Process,
}

/// The two calls that run a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecSyscall {
    /// `execve`; also what a source that cannot tell them apart says.
    #[default]
    Execve,
    /// `execveat`.
    Execveat,
}

/// A process made a child. The child is a copy of its parent until it executes something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The child's pid.
    pub child_pid: u32,
    /// When the child was made, as [`Process::start_ns`].
    pub child_start_ns: u64,
    /// The child's pid inside its own pid namespace, if it is not the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_vpid: Option<u32>,
    /// The child's parent if it is not the caller (`CLONE_PARENT`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_ppid: Option<u32>,
}

/// A process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, 0 to 255; 0 when a signal ended it.
    pub code: i32,
    /// The signal that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
}

/// A file was opened, or an attempt failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which call it was: `evt.type`.
    #[serde(default)]
    pub syscall: OpenSyscall,
    /// Absolute path, `.` and `..` removed, symbolic links not followed unless the source knows: `fd.name`.
    /// Empty when it could not be made absolute.
    pub name: Text,
    /// The path as the program gave it: `fd.nameraw`, `evt.arg.name`'s raw form.
    #[serde(default)]
    pub nameraw: Text,
    /// The kernel's `O_*` bits as this architecture numbers them for x86-64 and aarch64 alike (`asm-generic`).
    pub flags: u32,
    /// Permission bits asked for with `O_CREAT` or `O_TMPFILE`.
    #[serde(default)]
    pub mode: u32,
    /// What the call returned: the new descriptor, or a negative errno.
    pub result: i64,
    /// What kind of file it is, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_type: Option<FileType>,
}

/// The calls that open a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenSyscall {
    /// `open`
    Open,
    /// `openat`, what libc uses.
    #[default]
    Openat,
    /// `openat2`
    Openat2,
    /// `creat`: opens for writing, creates, truncates.
    Creat,
}

/// What a descriptor refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

impl Event {
    /// The event's name in rules (`evt.type`), as Falco calls it.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            EventKind::Exec(exec) => match exec.syscall {
                ExecSyscall::Execve => "execve",
                ExecSyscall::Execveat => "execveat",
            },
            // The tracepoint does not say which of clone, clone3, fork, vfork it was; Falco calls them all clone there.
            EventKind::Fork(_) => "clone",
            EventKind::Exit(_) => "procexit",
            EventKind::Open(open) => match open.syscall {
                OpenSyscall::Open => "open",
                OpenSyscall::Openat => "openat",
                OpenSyscall::Openat2 => "openat2",
                OpenSyscall::Creat => "creat",
            },
        }
    }
}
