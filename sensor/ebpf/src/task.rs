//! Reading tasks, files and credentials. A pointer that cannot be read reads as zero, and so does all behind it.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use cairn_sensor_abi::{ABSENT, COMM_LEN};

use crate::offset;

/// Reads a `T` of kernel memory; zeros if it cannot be read.
#[inline(always)]
pub fn read<T: Default>(base: u64, offset: u32) -> T {
    let address = base.wrapping_add(offset as u64) as *const T;
    // SAFETY: the helper checks the address. T is an integer or an array of bytes: any bits are one.
    unsafe { bpf_probe_read_kernel(address) }.unwrap_or_default()
}

/// As [`read`], and `otherwise` where this kernel has no such member.
#[inline(always)]
fn read_optional(base: u64, offset: u32, otherwise: u32) -> u32 {
    if offset == ABSENT { otherwise } else { read(base, offset) }
}

/// A `task_struct`.
#[derive(Clone, Copy)]
pub struct Task(pub u64);

/// A `struct path`: a mount (the part that files point to) and an entry in it.
#[derive(Clone, Copy)]
pub struct Place {
    pub mnt: u64,
    pub dentry: u64,
}

/// A `struct file`.
#[derive(Clone, Copy)]
pub struct File(pub u64);

/// A `struct pid`: a number in each namespace it is seen from.
#[derive(Clone, Copy)]
pub struct Numbers(u64);

/// What a process may do.
#[derive(Clone, Copy)]
pub struct Credentials(u64);

impl Task {
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: a helper without arguments.
        Task(unsafe { bpf_get_current_task() })
    }
    #[inline(always)]
    pub fn pid(self) -> u32 {
        read(self.0, offset!(task_pid))
    }
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        read(self.0, offset!(task_tgid))
    }
    #[inline(always)]
    pub fn leader(self) -> Task {
        Task(read(self.0, offset!(task_group_leader)))
    }
    #[inline(always)]
    pub fn parent(self) -> Task {
        Task(read(self.0, offset!(task_real_parent)))
    }
    #[inline(always)]
    pub fn start_ns(self) -> u64 {
        read(self.0, offset!(task_start))
    }
    #[inline(always)]
    pub fn comm(self) -> [u8; COMM_LEN] {
        read(self.0, offset!(task_comm))
    }
    #[inline(always)]
    pub fn credentials(self) -> Credentials {
        Credentials(read(self.0, offset!(task_cred)))
    }
    #[inline(always)]
    pub fn mm(self) -> u64 {
        read(self.0, offset!(task_mm))
    }
    #[inline(always)]
    pub fn loginuid(self) -> u32 {
        read_optional(self.0, offset!(task_loginuid), u32::MAX)
    }
    #[inline(always)]
    pub fn sessionid(self) -> u32 {
        read_optional(self.0, offset!(task_sessionid), u32::MAX)
    }
    #[inline(always)]
    pub fn exit_code(self) -> u32 {
        read(self.0, offset!(task_exit_code))
    }
    /// Threads of this process that have not begun to exit.
    #[inline(always)]
    pub fn live_threads(self) -> u32 {
        read(self.signal(), offset!(signal_live))
    }
    #[inline(always)]
    pub fn numbers(self) -> Numbers {
        Numbers(read(self.0, offset!(task_thread_pid)))
    }
    /// The process group (2) or session (3), by the kernel's `enum pid_type`.
    #[inline(always)]
    pub fn group(self, pid_type: u32) -> Numbers {
        Numbers(read(self.signal(), offset!(signal_pids) + pid_type * size_of::<u64>() as u32))
    }
    #[inline(always)]
    pub fn mnt_ns(self) -> u32 {
        let nsproxy: u64 = read(self.0, offset!(task_nsproxy));
        let mnt_ns: u64 = read(nsproxy, offset!(nsproxy_mnt_ns));
        read(mnt_ns, offset!(mnt_ns_inum))
    }
    #[inline(always)]
    pub fn cwd(self) -> Place {
        let fs: u64 = read(self.0, offset!(task_fs));
        Place { mnt: read(fs, offset!(fs_pwd_mnt)), dentry: read(fs, offset!(fs_pwd_dentry)) }
    }
    #[inline(always)]
    fn signal(self) -> u64 {
        read(self.0, offset!(task_signal))
    }

    /// The controlling terminal's device number as `stat(2)` packs it (the kernel's `new_encode_dev`); 0: none.
    #[inline(always)]
    pub fn tty(self) -> u32 {
        let tty: u64 = read(self.signal(), offset!(signal_tty));
        if tty == 0 {
            return 0;
        }
        let driver: u64 = read(tty, offset!(tty_driver));
        let index: u32 = read(tty, offset!(tty_index));
        let major: u32 = read(driver, offset!(tty_driver_major));
        let minor = read::<u32>(driver, offset!(tty_driver_minor)).wrapping_add(index);
        (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
    }

    /// The file behind a descriptor, if there is one.
    #[inline(always)]
    pub fn file(self, descriptor: u32) -> File {
        let files: u64 = read(self.0, offset!(task_files));
        let table: u64 = read(files, offset!(files_fdt));
        if descriptor >= read::<u32>(table, offset!(fdt_max_fds)) {
            return File(0);
        }
        let array: u64 = read(table, offset!(fdt_fd));
        File(read(array.wrapping_add(descriptor as u64 * size_of::<u64>() as u64), 0))
    }

    /// The node of the cgroup that tells most: the unified hierarchy's unless that is its root, else one of version 1.
    #[inline(always)]
    pub fn cgroup_node(self) -> u64 {
        let set: u64 = read(self.0, offset!(task_cgroups));
        let node = node_of(read(set, offset!(css_set_default)));
        if has_parent(node) {
            return node;
        }
        let memory = node_of_controller(set, offset!(css_set_memory));
        if has_parent(memory) {
            return memory;
        }
        let pids = node_of_controller(set, offset!(css_set_pids));
        if has_parent(pids) {
            return pids;
        }
        let cpu = node_of_controller(set, offset!(css_set_cpu));
        if has_parent(cpu) { cpu } else { node }
    }
}

#[inline(always)]
fn node_of_controller(set: u64, place: u32) -> u64 {
    if place == ABSENT {
        return 0;
    }
    let state: u64 = read(set, place);
    node_of(read(state, offset!(css_cgroup)))
}

#[inline(always)]
fn node_of(cgroup: u64) -> u64 {
    if cgroup == 0 { 0 } else { read(cgroup, offset!(cgroup_node)) }
}

#[inline(always)]
fn has_parent(node: u64) -> bool {
    node != 0 && read::<u64>(node, offset!(kernfs_parent)) != 0
}

impl Numbers {
    /// How many namespaces lie above the one it was made in.
    #[inline(always)]
    pub fn level(self) -> u32 {
        read(self.0, offset!(pid_level))
    }
    /// The number as seen from a namespace; 0 if it is not seen there.
    #[inline(always)]
    pub fn at(self, level: u32) -> u32 {
        if level > self.level() {
            return 0;
        }
        // The kernel allows 32 levels; the product cannot overflow below that, and a wrong address only reads as zero.
        read(self.0, offset!(pid_numbers).wrapping_add(level.wrapping_mul(offset!(upid_size))))
    }
}

impl Credentials {
    #[inline(always)]
    pub fn uid(self) -> u32 {
        read(self.0, offset!(cred_uid))
    }
    #[inline(always)]
    pub fn euid(self) -> u32 {
        read(self.0, offset!(cred_euid))
    }
    #[inline(always)]
    pub fn gid(self) -> u32 {
        read(self.0, offset!(cred_gid))
    }
    #[inline(always)]
    pub fn egid(self) -> u32 {
        read(self.0, offset!(cred_egid))
    }
    #[inline(always)]
    pub fn effective(self) -> u64 {
        read(self.0, offset!(cred_cap_effective))
    }
    #[inline(always)]
    pub fn permitted(self) -> u64 {
        read(self.0, offset!(cred_cap_permitted))
    }
    #[inline(always)]
    pub fn inheritable(self) -> u64 {
        read(self.0, offset!(cred_cap_inheritable))
    }
}

/// The magic number of overlayfs.
const OVERLAYFS: u64 = 0x794c_7630;

impl File {
    #[inline(always)]
    pub fn place(self) -> Place {
        Place { mnt: read(self.0, offset!(file_mnt)), dentry: read(self.0, offset!(file_dentry)) }
    }
    #[inline(always)]
    pub fn flags(self) -> u32 {
        read(self.0, offset!(file_flags))
    }
    #[inline(always)]
    pub fn mode(self) -> u32 {
        read(self.0, offset!(file_mode))
    }
    #[inline(always)]
    pub fn inode(self) -> u64 {
        read(self.0, offset!(file_inode))
    }
}

/// An inode's device number as the kernel packs it.
#[inline(always)]
pub fn inode_dev(inode: u64) -> u32 {
    let sb: u64 = read(inode, offset!(inode_sb));
    read(sb, offset!(sb_dev))
}

/// Does this inode of an overlay have a file in the upper layer? Overlayfs keeps its inode and, right after it, the upper
/// layer's entry (`struct ovl_inode`).
#[inline(always)]
pub fn inode_in_upper_layer(inode: u64) -> bool {
    let sb: u64 = read(inode, offset!(inode_sb));
    if read::<u64>(sb, offset!(sb_magic)) != OVERLAYFS {
        return false;
    }
    read::<u64>(inode, offset!(inode_size)) != 0
}
