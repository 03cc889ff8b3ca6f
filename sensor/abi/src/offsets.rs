//! Where the kernel keeps what the programs read.
//!
//! Rust-written eBPF carries no relocations for kernel structures, so the loader looks the offsets up in the running
//! kernel's type information and hands them over as constants. All are bytes from the start of the structure that the
//! name begins with.

/// The offset of a member that this kernel does not have. Only members documented as optional may be absent.
pub const ABSENT: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Offsets of kernel structures' members, in bytes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
        #[repr(C)]
        pub struct Offsets {
            $($(#[$doc])* pub $name: u32,)*
        }

        impl Offsets {
            /// Every member absent: what the object is built with, and what no kernel has.
            pub const NONE: Offsets = Offsets { $($name: ABSENT,)* };
        }

        const _: () = assert!(size_of::<Offsets>() == [$(stringify!($name)),*].len() * size_of::<u32>());
    };
}

offsets! {
    /// `task_struct.pid`: the thread.
    task_pid,
    /// `task_struct.tgid`: the process.
    task_tgid,
    /// `task_struct.real_parent`
    task_real_parent,
    /// `task_struct.group_leader`
    task_group_leader,
    /// `task_struct.start_boottime` (5.5; before: `real_start_time`)
    task_start,
    /// `task_struct.comm`
    task_comm,
    /// `task_struct.cred`
    task_cred,
    /// `task_struct.mm`
    task_mm,
    /// `task_struct.fs`
    task_fs,
    /// `task_struct.files`
    task_files,
    /// `task_struct.signal`
    task_signal,
    /// `task_struct.nsproxy`
    task_nsproxy,
    /// `task_struct.cgroups`
    task_cgroups,
    /// `task_struct.thread_pid`
    task_thread_pid,
    /// `task_struct.exit_code`
    task_exit_code,
    /// `task_struct.loginuid`; optional (`CONFIG_AUDIT`).
    task_loginuid,
    /// `task_struct.sessionid`; optional (`CONFIG_AUDIT`).
    task_sessionid,
    /// The word of `task_struct.thread_info` that says a 32-bit call is in progress; optional.
    task_compat,
    /// `signal_struct.live`
    signal_live,
    /// `signal_struct.tty`
    signal_tty,
    /// `signal_struct.pids`
    signal_pids,
    /// `tty_struct.driver`
    tty_driver,
    /// `tty_struct.index`
    tty_index,
    /// `tty_driver.major`
    tty_driver_major,
    /// `tty_driver.minor_start`
    tty_driver_minor,
    /// `cred.uid`
    cred_uid,
    /// `cred.gid`
    cred_gid,
    /// `cred.euid`
    cred_euid,
    /// `cred.egid`
    cred_egid,
    /// `cred.cap_effective`
    cred_cap_effective,
    /// `cred.cap_permitted`
    cred_cap_permitted,
    /// `cred.cap_inheritable`
    cred_cap_inheritable,
    /// `mm_struct.arg_start`
    mm_arg_start,
    /// `mm_struct.arg_end`
    mm_arg_end,
    /// `mm_struct.exe_file`
    mm_exe_file,
    /// `file.f_path.mnt`
    file_mnt,
    /// `file.f_path.dentry`
    file_dentry,
    /// `file.f_inode`
    file_inode,
    /// `file.f_flags`
    file_flags,
    /// `file.f_mode`
    file_mode,
    /// `vfsmount.mnt_root`
    vfsmount_root,
    /// `mount.mnt`: the part of a mount that files point to.
    mount_mnt,
    /// `mount.mnt_parent`
    mount_parent,
    /// `mount.mnt_mountpoint`
    mount_mountpoint,
    /// `dentry.d_parent`
    dentry_parent,
    /// `dentry.d_name.name`
    dentry_name,
    /// `inode.i_mode`
    inode_mode,
    /// `inode.i_ino`
    inode_ino,
    /// `inode.i_sb`
    inode_sb,
    /// `inode.i_nlink`
    inode_nlink,
    /// Seconds of the inode's change time.
    inode_ctime_sec,
    /// Nanoseconds of the inode's change time.
    inode_ctime_nsec,
    /// Seconds of the inode's modification time.
    inode_mtime_sec,
    /// Nanoseconds of the inode's modification time.
    inode_mtime_nsec,
    /// The size of `inode`: overlayfs keeps the upper layer's entry right after it.
    inode_size,
    /// `super_block.s_dev`
    sb_dev,
    /// `super_block.s_magic`
    sb_magic,
    /// `fs_struct.pwd.mnt`
    fs_pwd_mnt,
    /// `fs_struct.pwd.dentry`
    fs_pwd_dentry,
    /// `files_struct.fdt`
    files_fdt,
    /// `fdtable.max_fds`
    fdt_max_fds,
    /// `fdtable.fd`
    fdt_fd,
    /// `css_set.dfl_cgrp`
    css_set_default,
    /// The place in `css_set.subsys` of the memory controller; optional.
    css_set_memory,
    /// The place in `css_set.subsys` of the pids controller; optional.
    css_set_pids,
    /// The place in `css_set.subsys` of the cpu controller; optional.
    css_set_cpu,
    /// `cgroup_subsys_state.cgroup`
    css_cgroup,
    /// `cgroup.kn`
    cgroup_node,
    /// `kernfs_node.name`
    kernfs_name,
    /// `kernfs_node.parent` (6.15: `__parent`)
    kernfs_parent,
    /// `pid.level`
    pid_level,
    /// `pid.numbers`
    pid_numbers,
    /// The size of `upid`, one of those numbers.
    upid_size,
    /// `nsproxy.mnt_ns`
    nsproxy_mnt_ns,
    /// `mnt_namespace.ns.inum`
    mnt_ns_inum,
    /// `linux_binprm.filename`
    bprm_filename,
    /// `pt_regs`: the number of the call.
    regs_call,
}

/// The calls of one binary interface: their numbers, and where in `pt_regs` their arguments still lie when they return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Calls {
    /// Number of `open`; [`ABSENT`] where there is none.
    pub open: u32,
    /// Number of `openat`.
    pub openat: u32,
    /// Number of `openat2`.
    pub openat2: u32,
    /// Number of `creat`; [`ABSENT`] where there is none.
    pub creat: u32,
    /// Number of `execveat`.
    pub execveat: u32,
    /// A bit of the number that does not belong to it (x32's), cleared before comparing.
    pub ignored_bit: u32,
    /// Bits of [`Offsets::task_compat`]'s word that say this interface is in use; 0: the machine's own.
    pub compat_bits: u32,
    /// Offsets of the first four arguments in `pt_regs`.
    pub arguments: [u32; 4],
    /// Bytes of a register of this interface: 8 or 4.
    pub word: u32,
}

impl Calls {
    /// No call at all.
    pub const NONE: Calls = Calls {
        open: ABSENT,
        openat: ABSENT,
        openat2: ABSENT,
        creat: ABSENT,
        execveat: ABSENT,
        ignored_bit: 0,
        compat_bits: 0,
        arguments: [ABSENT; 4],
        word: 8,
    };
}

const _: () = assert!(size_of::<Calls>() == 12 * size_of::<u32>());
