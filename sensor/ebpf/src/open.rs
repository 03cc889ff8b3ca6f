//! `sys_exit` of `open`, `openat`, `openat2` and `creat`: a file was opened, or not.
//!
//! Only on the way out. There the kernel's open file tells the true path, whatever links led to it and whatever the program
//! did to its own memory meanwhile, and the name the program passed has just been read by the kernel, so it is in memory
//! (on the way in it often is not). The name is kept as passed, but nothing trusts it where there is a file. Two things a
//! racing thread of the same process can still do: exchange the descriptor before this runs, and change the name of a
//! call that failed.
//!
//! Not seen: files opened through `io_uring` and by handle.
//!
//! The first instructions decide whether the call is one of these at all: this runs at the end of every system call.

use aya_ebpf::{
    helpers::bpf_probe_read_user, macros::btf_tracepoint, macros::map, maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use cairn_sensor_abi::{ABSENT, Calls, Kind, NAME_LEN_MAX, Open, Syscall, filter, flag};

use crate::{
    CALLS, COMPAT_CALLS, FILTER, constant, offset,
    path::{self, End},
    record::{Record, Scratch, header},
    task::{File, Task, inode_dev, read},
};

#[map]
static OPEN_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

const AT_FDCWD: i32 = -100;
/// `O_*` bits that are the same on every architecture this is built for.
const O_ACCMODE: u32 = 0o3;
const O_WRONLY: u32 = 0o1;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;
/// `FMODE_CREATED`, since 4.19.
const FMODE_CREATED: u32 = 1 << 20;

/// What the program passed.
struct Arguments {
    dirfd: i32,
    name: u64,
    flags: u32,
    mode: u32,
}

/// `(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
pub fn on_open(ctx: BtfTracePointContext) -> i32 {
    let regs: *const u8 = ctx.arg(0);
    let number = regs.wrapping_add(offset!(regs_call) as usize).cast::<u32>();
    // SAFETY: the verifier knows `regs` for a pointer to pt_regs and checks that this offset is a number in it.
    let number = unsafe { *number };
    let native = which(number & !constant!(CALLS.ignored_bit), &raw const CALLS);
    let compat = which(number, &raw const COMPAT_CALLS);
    if native == Syscall::Unknown as u8 && compat == Syscall::Unknown as u8 {
        return 0;
    }
    let task = Task::current();
    let is_compat = compat_call(task);
    let (syscall, calls) = if is_compat { (compat, &raw const COMPAT_CALLS) } else { (native, &raw const CALLS) };
    if syscall != Syscall::Unknown as u8 {
        report(&ctx, task, syscall, calls, is_compat);
    }
    0
}

/// Which of the calls a number is; `Unknown` if none.
#[inline(always)]
fn which(number: u32, calls: *const Calls) -> u8 {
    if number == constant!((*calls).openat) {
        Syscall::Openat as u8
    } else if number == constant!((*calls).open) {
        Syscall::Open as u8
    } else if number == constant!((*calls).openat2) {
        Syscall::Openat2 as u8
    } else if number == constant!((*calls).creat) {
        Syscall::Creat as u8
    } else {
        Syscall::Unknown as u8
    }
}

/// Is the current call a 32-bit program's?
#[inline(always)]
fn compat_call(task: Task) -> bool {
    let word = offset!(task_compat);
    word != ABSENT && read::<u32>(task.0, word) & constant!(COMPAT_CALLS.compat_bits) != 0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext, task: Task, syscall: u8, calls: *const Calls, is_compat: bool) {
    let result: i64 = ctx.arg(1);
    // A 32-bit call's result has 32 bits.
    let result = if is_compat { result as i32 as i64 } else { result };
    let arguments = arguments(ctx, syscall, calls);
    let pid = task.tgid();
    if !wanted(result, syscall, arguments.flags, pid) {
        return;
    }
    let Some(scratch) = OPEN_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    let mut record = Record::<Open>::start(scratch);
    let open = record.fixed();
    open.header = header(Kind::Open, task);
    open.result = result;
    open.syscall = syscall;
    open.flags = arguments.flags;
    open.mode = arguments.mode;
    open.dirfd = arguments.dirfd;

    let mut flags = if is_compat { flag::COMPAT } else { 0 };
    let mark = record.mark();
    if !record.push_user_str::<NAME_LEN_MAX>(arguments.name) {
        flags |= flag::NAME_UNREADABLE;
    }
    let name_len = record.since(mark);
    record.fixed().name_len = name_len;

    // Where it is; for a failed call, what its name is relative to.
    let place = if result >= 0 {
        let file = task.file(result as u32);
        flags |= describe_file(record.fixed(), file);
        file.place()
    } else {
        flags |= flag::PATH_IS_BASE;
        if arguments.dirfd == AT_FDCWD { task.cwd() } else { task.file(arguments.dirfd as u32).place() }
    };
    let mark = record.mark();
    flags |= match path::push(&mut record, place) {
        End::Root => 0,
        End::Unrooted => flag::PATH_UNROOTED,
        End::Cut => flag::PATH_CUT,
    };
    record.fixed().path_len = record.since(mark);
    record.fixed().header.flags = flags;
    record.submit(Kind::Open, false);
}

/// The call's arguments, which the registers still hold when it returns.
#[inline(always)]
fn arguments(ctx: &BtfTracePointContext, syscall: u8, calls: *const Calls) -> Arguments {
    let regs: u64 = ctx.arg(0);
    let first = argument(regs, calls, constant!((*calls).arguments[0]));
    let second = argument(regs, calls, constant!((*calls).arguments[1]));
    let third = argument(regs, calls, constant!((*calls).arguments[2]));
    if syscall == Syscall::Open as u8 {
        Arguments { dirfd: AT_FDCWD, name: first, flags: second as u32, mode: third as u32 }
    } else if syscall == Syscall::Creat as u8 {
        Arguments { dirfd: AT_FDCWD, name: first, flags: O_CREAT | O_WRONLY | O_TRUNC, mode: second as u32 }
    } else if syscall == Syscall::Openat as u8 {
        let fourth = argument(regs, calls, constant!((*calls).arguments[3]));
        Arguments { dirfd: first as i32, name: second, flags: third as u32, mode: fourth as u32 }
    } else {
        // openat2: `struct open_how` in the program's memory: flags, mode, resolve, 64 bits each, also for 32-bit programs.
        // SAFETY: the helper checks the address.
        let how = unsafe { bpf_probe_read_user(third as *const [u64; 2]) }.unwrap_or_default();
        Arguments { dirfd: first as i32, name: second, flags: how[0] as u32, mode: how[1] as u32 }
    }
}

#[inline(always)]
fn argument(regs: u64, calls: *const Calls, offset: u32) -> u64 {
    if constant!((*calls).word) == 4 { read::<u32>(regs, offset) as u64 } else { read(regs, offset) }
}

/// Does the filter let it through?
#[inline(always)]
fn wanted(result: i64, syscall: u8, flags: u32, pid: u32) -> bool {
    let Some(wanted) = FILTER.get(0) else {
        return false;
    };
    let writes = flags & O_ACCMODE != 0 || flags & (O_CREAT | O_TRUNC) != 0;
    let direction = if syscall == Syscall::Openat2 as u8 {
        // Its flags lie in the program's memory, where a racing thread could make a write look like a read.
        filter::WRITES | filter::READS
    } else if writes {
        filter::WRITES
    } else {
        filter::READS
    };
    wanted.open & direction != 0 && (result >= 0 || wanted.open & filter::FAILED != 0) && pid != wanted.self_pid
}

/// Fills in what the open file says; returns flags.
#[inline(always)]
fn describe_file(open: &mut Open, file: File) -> u32 {
    let inode = file.inode();
    open.ino = read(inode, offset!(inode_ino));
    open.dev = inode_dev(inode);
    open.inode_mode = read::<u16>(inode, offset!(inode_mode)) as u32;
    open.file_flags = file.flags();
    if file.mode() & FMODE_CREATED != 0 { flag::CREATED } else { 0 }
}
