//! What happened on a machine, as the engine takes it: one [`Event`] per kernel event.
//!
//! Any event source can make them: the eBPF sensor, a scan of `/proc` (for [`Process`] seeds), a recorded capture, or a replay
//! case. Nothing here is trusted to be consistent: a process may exit twice, or a parent be unknown.
//!
//! The derived serde form is for captures: complete and exact. Replay cases have a shorter one for people
//! ([`crate::replay`]).

mod call;
mod document;
mod process;
mod types;

use serde::{Deserialize, Serialize};

pub use crate::text::Text;
pub use call::{Address, Call, Change, Descriptor, DescriptorKind, Made, Param, Socket};
pub use document::Document;
pub use process::{Capabilities, Executable, Process};
pub use types::{EventType, ParamDoc};

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
    /// Any other system call returned, or the kernel said something else.
    Call(Box<Call>),
    /// A source that is not the kernel says something: an entry of an audit log.
    Document(Box<Document>),
}

/// A process runs another program from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Which call it was: `evt.type`.
    #[serde(default)]
    pub syscall: ExecSyscall,
    /// The process after it.
    pub process: Process,
    /// What else the source says of the call, by parameter name: see [`Call::params`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, Param)>,
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
    /// Which call it was: `evt.type`.
    #[serde(default, skip_serializing_if = "ForkSyscall::is_clone")]
    pub syscall: ForkSyscall,
    /// The call's flags in Falco's numbering (`clone_flags`), if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
}

/// The calls that make a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForkSyscall {
    /// `clone`; also what a source that cannot tell them apart says, as Falco does.
    #[default]
    Clone,
    /// `clone3`
    Clone3,
    /// `fork`
    Fork,
    /// `vfork`
    Vfork,
}

impl ForkSyscall {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands on a reference")]
    fn is_clone(&self) -> bool {
        *self == ForkSyscall::Clone
    }
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
    /// What else the source says of the call, by parameter name: see [`Call::params`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, Param)>,
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
    /// Its type; the name in rules is `evt.type`.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match &self.kind {
            EventKind::Exec(exec) => match exec.syscall {
                ExecSyscall::Execve => EventType::EXECVE,
                ExecSyscall::Execveat => EventType::EXECVEAT,
            },
            EventKind::Fork(fork) => match fork.syscall {
                ForkSyscall::Clone => EventType::CLONE,
                ForkSyscall::Clone3 => EventType::CLONE3,
                ForkSyscall::Fork => EventType::FORK,
                ForkSyscall::Vfork => EventType::VFORK,
            },
            EventKind::Exit(_) => EventType::PROCEXIT,
            EventKind::Open(open) => match open.syscall {
                OpenSyscall::Open => EventType::OPEN,
                OpenSyscall::Openat => EventType::OPENAT,
                OpenSyscall::Openat2 => EventType::OPENAT2,
                OpenSyscall::Creat => EventType::CREAT,
            },
            EventKind::Call(call) => call.event_type,
            EventKind::Document(_) => EventType::PLUGINEVENT,
        }
    }

    /// The event's name in rules (`evt.type`), as Falco calls it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        self.event_type().name()
    }

    /// A parameter that its source gave by name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&Param> {
        let params = match &self.kind {
            EventKind::Call(call) => &call.params,
            EventKind::Exec(exec) => &exec.params,
            EventKind::Open(open) => &open.params,
            EventKind::Fork(_) | EventKind::Exit(_) | EventKind::Document(_) => return None,
        };
        params.iter().find(|(own, _)| own == name).map(|(_, param)| param)
    }

    /// The source it comes from, as rules name it: `syscall`, or the document's.
    #[must_use]
    pub fn source(&self) -> &str {
        match &self.kind {
            EventKind::Document(document) => &document.source,
            _ => SYSCALL,
        }
    }
}

/// The source of kernel events.
pub const SYSCALL: &str = "syscall";
