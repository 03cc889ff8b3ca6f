//! `sched_process_exec`: a process runs another program from now on.
//!
//! Read here: the task and its credentials, groups, terminal, namespaces; the new program's arguments in its own memory
//! (just written by the kernel, so in memory), its file, the working directory and the cgroup.

use aya_ebpf::{
    helpers::bpf_task_pt_regs, macros::btf_tracepoint, macros::map, maps::PerCpuArray, programs::BtfTracePointContext,
};
use cairn_sensor_abi::{ABSENT, ARGS_LEN_MAX, Exec, Kind, NAME_LEN_MAX, Syscall, flag};

use crate::{
    CALLS, SETTINGS, constant, offset,
    path::{self, End},
    record::{Record, Scratch, header},
    task::{File, Task, inode_dev, inode_in_upper_layer, read},
};

#[map]
static EXEC_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// `enum pid_type`, unchanged since 4.19.
const PIDTYPE_PGID: u32 = 2;
const PIDTYPE_SID: u32 = 3;

/// `(struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn on_exec(ctx: BtfTracePointContext) -> i32 {
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    let task = Task(ctx.arg(0));
    let mut record = Record::<Exec>::start(scratch);
    describe(record.fixed(), task, ctx.arg::<u64>(1) as u32);
    record.fixed().syscall = syscall(&ctx);

    let mut flags = 0;
    let bprm: u64 = ctx.arg(2);
    let mark = record.mark();
    if !record.push_kernel_str::<NAME_LEN_MAX>(read(bprm, offset!(bprm_filename))) {
        flags |= flag::NAME_UNREADABLE;
    }
    record.fixed().name_len = record.since(mark);

    let mm = task.mm();
    let start: u64 = read(mm, offset!(mm_arg_start));
    let mut len = read::<u64>(mm, offset!(mm_arg_end)).wrapping_sub(start);
    if len > ARGS_LEN_MAX as u64 {
        len = ARGS_LEN_MAX as u64;
        flags |= flag::ARGS_CUT;
    }
    let mark = record.mark();
    if !record.push_user_bytes::<ARGS_LEN_MAX>(start, len) {
        flags |= flag::ARGS_UNREADABLE;
    }
    record.fixed().args_len = record.since(mark);

    let exe = File(read(mm, offset!(mm_exe_file)));
    flags |= describe_file(record.fixed(), exe);
    let mark = record.mark();
    flags |= match path::push(&mut record, exe.place()) {
        End::Root => 0,
        End::Unrooted => flag::EXE_UNROOTED,
        End::Cut => flag::EXE_CUT,
    };
    record.fixed().exe_len = record.since(mark);

    let mark = record.mark();
    flags |= match path::push(&mut record, task.cwd()) {
        End::Root => 0,
        // A working directory that no longer hangs on a root is as little known as one that is too deep.
        End::Unrooted | End::Cut => flag::CWD_CUT,
    };
    record.fixed().cwd_len = record.since(mark);

    let mark = record.mark();
    if !path::push_cgroup(&mut record, task.cgroup_node()) {
        flags |= flag::CGROUP_CUT;
    }
    record.fixed().cgroup_len = record.since(mark);

    record.fixed().header.flags = flags;
    // Woken at once: a response to an execution should not wait for the reader's next look.
    record.submit(Kind::Exec, true);
    0
}

#[inline(always)]
fn describe(exec: &mut Exec, task: Task, old_tid: u32) {
    exec.header = header(Kind::Exec, task);
    exec.ppid = task.parent().tgid();
    exec.old_tid = old_tid;

    let credentials = task.credentials();
    exec.uid = credentials.uid();
    exec.euid = credentials.euid();
    exec.gid = credentials.gid();
    exec.egid = credentials.egid();
    exec.cap_effective = credentials.effective();
    exec.cap_permitted = credentials.permitted();
    exec.cap_inheritable = credentials.inheritable();
    exec.loginuid = task.loginuid();
    exec.sessionid = task.sessionid();

    let numbers = task.leader().numbers();
    let level = numbers.level();
    let group = task.group(PIDTYPE_PGID);
    exec.pid_level = level;
    exec.vpid = numbers.at(level);
    exec.vpgid = group.at(level);
    exec.pgid = group.at(0);
    exec.sid = task.group(PIDTYPE_SID).at(0);
    exec.mnt_ns = task.mnt_ns();
    exec.tty = task.tty();
    exec.comm = task.comm();
}

/// Fills in what the executable's inode says; returns flags.
#[inline(always)]
fn describe_file(exec: &mut Exec, exe: File) -> u32 {
    let inode = exe.inode();
    exec.exe_ino = read(inode, offset!(inode_ino));
    exec.exe_dev = inode_dev(inode);
    exec.exe_ctime_ns = time(inode, offset!(inode_ctime_sec), offset!(inode_ctime_nsec));
    exec.exe_mtime_ns = time(inode, offset!(inode_mtime_sec), offset!(inode_mtime_nsec));
    let mut flags = 0;
    if inode_in_upper_layer(inode) {
        flags |= flag::EXE_UPPER_LAYER;
    }
    if read::<u32>(inode, offset!(inode_nlink)) == 0 {
        flags |= flag::EXE_UNLINKED;
    }
    flags
}

#[inline(always)]
fn time(inode: u64, sec: u32, nsec: u32) -> u64 {
    let seconds: u64 = read(inode, sec);
    // The nanoseconds are a `long` in older kernels and 32 bits in newer; they are below 2^30, so the low half says all. Above
    // them newer kernels keep a mark of their own (`I_CTIME_QUERIED`).
    let nanoseconds = read::<u32>(inode, nsec) & 0x3fff_ffff;
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds as u64)
}

/// `execve` or `execveat`, by the number the call was made with.
#[inline(always)]
fn syscall(ctx: &BtfTracePointContext) -> u8 {
    if constant!(SETTINGS.has_task_pt_regs) == 0 {
        return Syscall::Unknown as u8;
    }
    // SAFETY: the first argument of this tracepoint is a task, which is what the helper takes.
    let regs = unsafe { bpf_task_pt_regs(ctx.arg(0)) } as u64;
    let number: u32 = read(regs, offset!(regs_call));
    if number != ABSENT && number & !constant!(CALLS.ignored_bit) == constant!(CALLS.execveat) {
        Syscall::Execveat as u8
    } else {
        Syscall::Execve as u8
    }
}
