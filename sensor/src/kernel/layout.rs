//! The running kernel's layout as the programs are told it: offsets of members, and the numbers and registers of calls.

use cairn_sensor_abi::{ABSENT, Calls, Offsets};

use super::btf::{Btf, BtfError};

/// What the programs are told of the kernel and machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Where members lie.
    pub offsets: Offsets,
    /// The machine's own calls.
    pub calls: Calls,
    /// The calls of 32-bit programs; [`Calls::NONE`] where the kernel does not tell them apart.
    pub compat_calls: Calls,
    /// The helper that finds a task's registers is there (5.15).
    pub has_task_pt_regs: bool,
}

/// The machine this is built for: numbers of its calls and names of the registers that hold their arguments.
struct Machine {
    calls: Calls,
    compat_calls: Calls,
    /// `pt_regs`: the number of the call.
    call_register: &'static str,
    registers: [Register; 4],
    compat_registers: [Register; 4],
    /// The word of `task_struct` that tells a 32-bit call.
    compat_word: &'static str,
}

/// A register in `pt_regs`: a member, and an index if that member is an array of 8-byte registers.
struct Register(&'static str, u32);

#[cfg(target_arch = "x86_64")]
const MACHINE: Option<Machine> = Some(Machine {
    // x32 programs set bit 30 of the number.
    calls: Calls { open: 2, openat: 257, openat2: 437, creat: 85, execveat: 322, ignored_bit: 1 << 30, ..Calls::NONE },
    // TS_COMPAT
    compat_calls: Calls {
        open: 5,
        openat: 295,
        openat2: 437,
        creat: 8,
        execveat: 358,
        compat_bits: 2,
        word: 4,
        ..Calls::NONE
    },
    call_register: "orig_ax",
    registers: [Register("di", 0), Register("si", 0), Register("dx", 0), Register("r10", 0)],
    compat_registers: [Register("bx", 0), Register("cx", 0), Register("dx", 0), Register("si", 0)],
    compat_word: "thread_info.status",
});

// On this machine the first argument's register is overwritten by the result; the kernel keeps a copy.
#[cfg(target_arch = "aarch64")]
const MACHINE: Option<Machine> = Some(Machine {
    calls: Calls { openat: 56, openat2: 437, execveat: 281, ..Calls::NONE },
    // TIF_32BIT
    compat_calls: Calls {
        open: 5,
        openat: 322,
        openat2: 437,
        creat: 8,
        execveat: 387,
        compat_bits: 1 << 22,
        word: 4,
        ..Calls::NONE
    },
    call_register: "syscallno",
    registers: [Register("orig_x0", 0), Register("regs", 1), Register("regs", 2), Register("regs", 3)],
    compat_registers: [Register("orig_x0", 0), Register("regs", 1), Register("regs", 2), Register("regs", 3)],
    compat_word: "thread_info.flags",
});

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MACHINE: Option<Machine> = None;

/// Is this machine's architecture one whose calls are known here?
pub(super) const MACHINE_IS_KNOWN: bool = MACHINE.is_some();

impl Layout {
    /// Looks up everything in the kernel's type information.
    ///
    /// # Errors
    /// Names the first member that is needed and not there. On an architecture that is not known, [`BtfError::NoType`] of
    /// its registers.
    pub fn of(btf: &Btf<'_>) -> Result<Layout, BtfError> {
        let offsets = offsets(btf)?;
        let machine = MACHINE.as_ref().ok_or(BtfError::NoType { name: "pt_regs of this architecture".into() })?;
        let compat_calls = if offsets.task_compat == ABSENT {
            Calls::NONE
        } else {
            Calls { arguments: registers(btf, &machine.compat_registers)?, ..machine.compat_calls }
        };
        Ok(Layout {
            offsets,
            calls: Calls { arguments: registers(btf, &machine.registers)?, ..machine.calls },
            compat_calls,
            has_task_pt_regs: has_helper(btf, "task_pt_regs"),
        })
    }
}

/// Does the kernel have a helper function? The enumeration of them is part of its type information.
pub(super) fn has_helper(btf: &Btf<'_>, name: &str) -> bool {
    btf.enum_value("bpf_func_id", &format!("BPF_FUNC_{name}")).is_ok()
}

fn registers(btf: &Btf<'_>, registers: &[Register; 4]) -> Result<[u32; 4], BtfError> {
    let mut offsets = [ABSENT; 4];
    for (offset, Register(member, index)) in offsets.iter_mut().zip(registers) {
        *offset = btf.offset("pt_regs", member)? + index * 8;
    }
    Ok(offsets)
}

fn offsets(btf: &Btf<'_>) -> Result<Offsets, BtfError> {
    let at = |structure: &str, member: &str| btf.offset(structure, member);
    let optional = |structure: &str, member: &str| btf.offset(structure, member).unwrap_or(ABSENT);
    // Renamed or split over the years; the newest name first.
    let either = |structure: &str, newer: &str, older: &str| {
        btf.offset(structure, newer).or_else(|_| btf.offset(structure, older))
    };
    let inode_time = |which: &str, part: &str| {
        at("inode", &format!("i_{which}_{part}"))
            .or_else(|_| either("inode", &format!("__i_{which}.tv_{part}"), &format!("i_{which}.tv_{part}")))
    };
    let css_set_place = |controller: &str| {
        let subsys = btf.offset("css_set", "subsys").ok()?;
        let index = btf.enum_value("cgroup_subsys_id", &format!("{controller}_cgrp_id")).ok()?;
        Some(subsys + index * 8)
    };
    let call_register = MACHINE.as_ref().map_or("", |machine| machine.call_register);
    let compat_word = MACHINE.as_ref().map_or("", |machine| machine.compat_word);
    Ok(Offsets {
        task_pid: at("task_struct", "pid")?,
        task_tgid: at("task_struct", "tgid")?,
        task_real_parent: at("task_struct", "real_parent")?,
        task_group_leader: at("task_struct", "group_leader")?,
        task_start: either("task_struct", "start_boottime", "real_start_time")?,
        task_comm: at("task_struct", "comm")?,
        task_cred: at("task_struct", "cred")?,
        task_mm: at("task_struct", "mm")?,
        task_fs: at("task_struct", "fs")?,
        task_files: at("task_struct", "files")?,
        task_signal: at("task_struct", "signal")?,
        task_nsproxy: at("task_struct", "nsproxy")?,
        task_cgroups: at("task_struct", "cgroups")?,
        task_thread_pid: at("task_struct", "thread_pid")?,
        task_exit_code: at("task_struct", "exit_code")?,
        task_loginuid: optional("task_struct", "loginuid"),
        task_sessionid: optional("task_struct", "sessionid"),
        task_compat: optional("task_struct", compat_word),
        signal_live: at("signal_struct", "live")?,
        signal_tty: at("signal_struct", "tty")?,
        signal_pids: at("signal_struct", "pids")?,
        tty_driver: at("tty_struct", "driver")?,
        tty_index: at("tty_struct", "index")?,
        tty_driver_major: at("tty_driver", "major")?,
        tty_driver_minor: at("tty_driver", "minor_start")?,
        cred_uid: at("cred", "uid")?,
        cred_gid: at("cred", "gid")?,
        cred_euid: at("cred", "euid")?,
        cred_egid: at("cred", "egid")?,
        cred_cap_effective: at("cred", "cap_effective")?,
        cred_cap_permitted: at("cred", "cap_permitted")?,
        cred_cap_inheritable: at("cred", "cap_inheritable")?,
        mm_arg_start: at("mm_struct", "arg_start")?,
        mm_arg_end: at("mm_struct", "arg_end")?,
        mm_exe_file: at("mm_struct", "exe_file")?,
        file_mnt: at("file", "f_path.mnt")?,
        file_dentry: at("file", "f_path.dentry")?,
        file_inode: at("file", "f_inode")?,
        file_flags: at("file", "f_flags")?,
        file_mode: at("file", "f_mode")?,
        vfsmount_root: at("vfsmount", "mnt_root")?,
        mount_mnt: at("mount", "mnt")?,
        mount_parent: at("mount", "mnt_parent")?,
        mount_mountpoint: at("mount", "mnt_mountpoint")?,
        dentry_parent: at("dentry", "d_parent")?,
        dentry_name: at("dentry", "d_name.name")?,
        inode_mode: at("inode", "i_mode")?,
        inode_ino: at("inode", "i_ino")?,
        inode_sb: at("inode", "i_sb")?,
        inode_nlink: at("inode", "i_nlink")?,
        inode_ctime_sec: inode_time("ctime", "sec")?,
        inode_ctime_nsec: inode_time("ctime", "nsec")?,
        inode_mtime_sec: inode_time("mtime", "sec")?,
        inode_mtime_nsec: inode_time("mtime", "nsec")?,
        inode_size: btf.size("inode")?,
        sb_dev: at("super_block", "s_dev")?,
        sb_magic: at("super_block", "s_magic")?,
        fs_pwd_mnt: at("fs_struct", "pwd.mnt")?,
        fs_pwd_dentry: at("fs_struct", "pwd.dentry")?,
        files_fdt: at("files_struct", "fdt")?,
        fdt_max_fds: at("fdtable", "max_fds")?,
        fdt_fd: at("fdtable", "fd")?,
        css_set_default: at("css_set", "dfl_cgrp")?,
        css_set_memory: css_set_place("memory").unwrap_or(ABSENT),
        css_set_pids: css_set_place("pids").unwrap_or(ABSENT),
        css_set_cpu: css_set_place("cpu").unwrap_or(ABSENT),
        css_cgroup: at("cgroup_subsys_state", "cgroup")?,
        cgroup_node: at("cgroup", "kn")?,
        kernfs_name: at("kernfs_node", "name")?,
        kernfs_parent: either("kernfs_node", "__parent", "parent")?,
        pid_level: at("pid", "level")?,
        pid_numbers: at("pid", "numbers")?,
        upid_size: btf.size("upid")?,
        nsproxy_mnt_ns: at("nsproxy", "mnt_ns")?,
        mnt_ns_inum: at("mnt_namespace", "ns.inum")?,
        bprm_filename: at("linux_binprm", "filename")?,
        regs_call: at("pt_regs", call_register)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::btf::tests::Writer;
    use super::*;

    #[test]
    fn the_first_missing_member_is_named() {
        let mut writer = Writer::default();
        writer.structure("task_struct", &[("pid", 0, 0)]);
        let bytes = writer.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        let error = Layout::of(&btf).unwrap_err();
        assert_eq!(error.to_string(), "the kernel's task_struct has no member tgid");
    }

    /// On a machine with type information the real thing is read as well; elsewhere there is nothing to compare with.
    #[test]
    fn this_kernel_if_it_has_type_information() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            eprintln!("not tried: this kernel has no /sys/kernel/btf/vmlinux");
            return;
        };
        let btf = Btf::parse(&bytes).unwrap();
        let layout = Layout::of(&btf).unwrap();
        assert!(layout.offsets.task_pid < layout.offsets.task_tgid, "pid lies before tgid since 2.6");
        assert_eq!(layout.offsets.mnt_ns_inum % 4, 0);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(layout.offsets.regs_call, 120, "pt_regs is a stable interface");
        assert!(has_helper(&btf, "ringbuf_output"));
        assert!(!has_helper(&btf, "no_such_helper"));
    }
}
