//! What is known of a process.

use serde::{Deserialize, Serialize};

use super::Text;

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
    /// Its pid's process group leader inside its own pid namespace, if known: `proc.vpgid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpgid: Option<u32>,
    /// Effective user id, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub euid: Option<u32>,
    /// Effective group id, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egid: Option<u32>,
    /// What it may do, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Its environment, `NAME=value`; empty when not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Text>,
    /// What is known of the executable's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<Executable>,
}

/// Capability sets, bits as the kernel numbers them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What a program it executes may keep.
    pub inheritable: u64,
    /// What it may take up.
    pub permitted: u64,
    /// What it has now.
    pub effective: u64,
}

/// The file a process runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// Its inode number.
    pub ino: u64,
    /// When its inode changed, in nanoseconds since the Unix epoch.
    pub ctime_ns: u64,
    /// When its bytes changed, in nanoseconds since the Unix epoch.
    pub mtime_ns: u64,
    /// May the process that runs it write it? `None` when not known, here and below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_writable: Option<bool>,
    /// Does it lie in the upper layer of an overlay: was it put there after the container began?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_upper_layer: Option<bool>,
    /// Does it lie in a lower layer of an overlay: does it come with the image?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_lower_layer: Option<bool>,
    /// Is it a file without a name, made by `memfd_create`?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_from_memfd: Option<bool>,
}
