//! The layouts of the four events.

use core::mem::offset_of;

use crate::COMM_LEN;

/// Which event follows; also the index of its [`crate::Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Exec`].
    Exec = 0,
    /// [`Fork`].
    Fork = 1,
    /// [`Exit`].
    Exit = 2,
    /// [`Open`].
    Open = 3,
}

impl Kind {
    /// Every kind, by its number.
    pub const ALL: [Kind; 4] = [Kind::Exec, Kind::Fork, Kind::Exit, Kind::Open];

    /// The kind with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Kind> {
        match number {
            0 => Some(Kind::Exec),
            1 => Some(Kind::Fork),
            2 => Some(Kind::Exit),
            3 => Some(Kind::Open),
            _ => None,
        }
    }
}

/// Which call an [`Open`] or [`Exec`] tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Syscall {
    /// The kernel could not say.
    Unknown = 0,
    /// `open`
    Open = 1,
    /// `openat`
    Openat = 2,
    /// `openat2`
    Openat2 = 3,
    /// `creat`
    Creat = 4,
    /// `execve`
    Execve = 5,
    /// `execveat`
    Execveat = 6,
}

impl Syscall {
    /// The call with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Syscall> {
        match number {
            0 => Some(Syscall::Unknown),
            1 => Some(Syscall::Open),
            2 => Some(Syscall::Openat),
            3 => Some(Syscall::Openat2),
            4 => Some(Syscall::Creat),
            5 => Some(Syscall::Execve),
            6 => Some(Syscall::Execveat),
            _ => None,
        }
    }
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// [`super::Exec`]: there were more arguments than [`crate::ARGS_LEN_MAX`] bytes.
    pub const ARGS_CUT: u32 = 1 << 0;
    /// [`super::Exec`]: the arguments could not be read (their page was not in memory).
    pub const ARGS_UNREADABLE: u32 = 1 << 1;
    /// The name the program passed could not be read, or was longer than [`crate::NAME_LEN_MAX`].
    pub const NAME_UNREADABLE: u32 = 1 << 2;
    /// [`super::Open`]: the path is too deep or too long, its first components are missing.
    pub const PATH_CUT: u32 = 1 << 3;
    /// [`super::Open`]: the call failed, and the path is the directory its name is relative to.
    pub const PATH_IS_BASE: u32 = 1 << 4;
    /// [`super::Open`]: the path has no root: the file is not (or no longer) reachable by name.
    pub const PATH_UNROOTED: u32 = 1 << 5;
    /// [`super::Open`]: this call created the file.
    pub const CREATED: u32 = 1 << 6;
    /// [`super::Exec`]: the executable's path is cut.
    pub const EXE_CUT: u32 = 1 << 7;
    /// [`super::Exec`]: the executable has no root; memory files (`memfd:…`) are so.
    pub const EXE_UNROOTED: u32 = 1 << 8;
    /// [`super::Exec`]: the executable lies in the upper layer of an overlay: it came after the container's image.
    pub const EXE_UPPER_LAYER: u32 = 1 << 9;
    /// [`super::Exec`]: the executable has no name left in any directory (deleted, or a memory file).
    pub const EXE_UNLINKED: u32 = 1 << 10;
    /// [`super::Exec`]: the working directory's path is cut.
    pub const CWD_CUT: u32 = 1 << 11;
    /// [`super::Exec`]: the cgroup's path is cut.
    pub const CGROUP_CUT: u32 = 1 << 12;
    /// [`super::Open`] by a 32-bit call.
    pub const COMPAT: u32 = 1 << 13;
}

/// What every event begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Header {
    /// [`Kind`] as a number.
    pub kind: u8,
    /// [`crate::FORMAT`].
    pub format: u8,
    /// The CPU the event was made on.
    pub cpu: u16,
    /// Bits of [`flag`].
    pub flags: u32,
    /// When, in nanoseconds since boot, suspension included.
    pub time_ns: u64,
    /// When the process was made, in nanoseconds since boot. With `pid` its identity.
    pub start_ns: u64,
    /// The process, numbered as in the initial pid namespace.
    pub pid: u32,
    /// The thread, numbered likewise.
    pub tid: u32,
}

/// A process runs another program. Bytes that follow: name, arguments (each ended by a NUL), executable's path, working
/// directory's path, cgroup's path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Exec {
    /// Common part.
    pub header: Header,
    /// The parent process.
    pub ppid: u32,
    /// The thread's number before the call: another than `pid` if a thread that was not the leader made it.
    pub old_tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Login user id; all ones when unset or not built into the kernel.
    pub loginuid: u32,
    /// Audit session; all ones when unset.
    pub sessionid: u32,
    /// The process' number in its own pid namespace.
    pub vpid: u32,
    /// Its process group's number there; 0 when the group is not visible there.
    pub vpgid: u32,
    /// Its process group's number in the initial pid namespace.
    pub pgid: u32,
    /// Its session's number in the initial pid namespace.
    pub sid: u32,
    /// How many pid namespaces lie above its own; 0: it is in the initial one.
    pub pid_level: u32,
    /// Inode number of its mount namespace.
    pub mnt_ns: u32,
    /// Device number of the controlling terminal as `stat(2)` packs it; 0: none.
    pub tty: u32,
    /// The executable's device as the kernel packs it (major << 20 | minor).
    pub exe_dev: u32,
    /// The executable's inode number.
    pub exe_ino: u64,
    /// The executable's last change of status, nanoseconds since the epoch.
    pub exe_ctime_ns: u64,
    /// The executable's last modification, nanoseconds since the epoch.
    pub exe_mtime_ns: u64,
    /// Effective capabilities.
    pub cap_effective: u64,
    /// Permitted capabilities.
    pub cap_permitted: u64,
    /// Inheritable capabilities.
    pub cap_inheritable: u64,
    /// The kernel's name of the task, ended by a NUL if shorter.
    pub comm: [u8; COMM_LEN],
    /// [`Syscall`] as a number.
    pub syscall: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Bytes of the name as passed to the call, for a script the script's.
    pub name_len: u32,
    /// Bytes of the arguments.
    pub args_len: u32,
    /// Bytes of the executable's path.
    pub exe_len: u32,
    /// Bytes of the working directory's path.
    pub cwd_len: u32,
    /// Bytes of the cgroup's path.
    pub cgroup_len: u32,
}

/// A process made another (not a thread). The header's process is the maker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Fork {
    /// Common part.
    pub header: Header,
    /// When the child was made, in nanoseconds since boot.
    pub child_start_ns: u64,
    /// The child.
    pub child_pid: u32,
    /// The child's parent: the maker, or with `CLONE_PARENT` the maker's own parent.
    pub child_ppid: u32,
    /// The child's number in its own pid namespace.
    pub child_vpid: u32,
    /// How many pid namespaces lie above the child's own.
    pub child_level: u32,
}

/// A process ended: its last thread did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Exit {
    /// Common part.
    pub header: Header,
    /// As `wait(2)` reports it: status << 8 | signal.
    pub status: u32,
    /// Zero.
    pub reserved: u32,
}

/// A call that opens a file returned. Bytes that follow: name, path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Open {
    /// Common part.
    pub header: Header,
    /// The new descriptor, or a negative error number.
    pub result: i64,
    /// Inode number of the opened file.
    pub ino: u64,
    /// Its device as the kernel packs it (major << 20 | minor).
    pub dev: u32,
    /// Its type and permission bits (`st_mode`); 0 when the call failed.
    pub inode_mode: u32,
    /// The `O_*` bits passed.
    pub flags: u32,
    /// The permission bits passed.
    pub mode: u32,
    /// The directory descriptor passed; `AT_FDCWD` for calls without one.
    pub dirfd: i32,
    /// The `O_*` bits the kernel's open file has: what counts if the program changed its memory meanwhile.
    pub file_flags: u32,
    /// [`Syscall`] as a number.
    pub syscall: u8,
    /// Zero.
    pub reserved: [u8; 7],
    /// Bytes of the name as passed.
    pub name_len: u32,
    /// Bytes of the resolved path, or of the base directory's ([`flag::PATH_IS_BASE`]).
    pub path_len: u32,
}

// Padding would leak kernel stack into the ring and differ between compilers: the sums below leave no room for any.
const _: () = {
    assert!(size_of::<Header>() == 32);
    assert!(offset_of!(Header, time_ns) == 8);
    assert!(offset_of!(Header, start_ns) == 16);
    assert!(offset_of!(Header, pid) == 24);

    assert!(size_of::<Exec>() == 184);
    assert!(offset_of!(Exec, ppid) == 32);
    assert!(offset_of!(Exec, tty) == 88);
    assert!(offset_of!(Exec, exe_ino) == 96);
    assert!(offset_of!(Exec, comm) == 144);
    assert!(offset_of!(Exec, syscall) == 160);
    assert!(offset_of!(Exec, name_len) == 164);
    assert!(offset_of!(Exec, cgroup_len) == 180);

    assert!(size_of::<Fork>() == 56);
    assert!(offset_of!(Fork, child_start_ns) == 32);
    assert!(offset_of!(Fork, child_level) == 52);

    assert!(size_of::<Exit>() == 40);
    assert!(offset_of!(Exit, status) == 32);

    assert!(size_of::<Open>() == 88);
    assert!(offset_of!(Open, result) == 32);
    assert!(offset_of!(Open, flags) == 56);
    assert!(offset_of!(Open, syscall) == 72);
    assert!(offset_of!(Open, name_len) == 80);
};
