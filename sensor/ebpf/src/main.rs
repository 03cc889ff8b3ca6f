//! The kernel programs: process fork, execution and exit, and opened files, written to one ring buffer.
//!
//! Four BTF tracepoints, no kprobe, no fentry, no LSM hook. They only read: nothing here changes what a process does.
//! What the structures of the running kernel look like is told by the loader ([`OFFSETS`]); every read of kernel memory
//! goes through a helper that fails instead of faulting, and a failed read is a zero or a flag in the event.
//!
//! Order: an event is put into the ring by the task it is about, before that task goes on, so a fork lies before
//! whatever the child does, and an execution before its opens. Events of unrelated tasks on two CPUs may lie in the other
//! order than their time stamps, by as much as one program takes.
//!
//! Loss: [`COUNTERS`] counts each event before it is offered to the ring, and again if the ring had no room.
#![no_std]
#![no_main]

mod exec;
mod exit;
mod fork;
mod open;
mod path;
mod record;
mod task;

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use cairn_sensor_abi::{Calls, Counters, Filter, Kind, Offsets, Settings};

/// Every event. The loader sets its size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Made and lost events, by [`Kind`].
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(Kind::ALL.len() as u32, 0);

/// One entry: which opens to report.
#[map]
static FILTER: Array<Filter> = Array::with_max_entries(1, 0);

/// Where the running kernel keeps things. Set by the loader, constant to the verifier.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::NONE;

/// The machine's own calls. Set by the loader.
#[unsafe(no_mangle)]
static CALLS: Calls = Calls::NONE;

/// The calls of 32-bit programs, if this machine runs any. Set by the loader.
#[unsafe(no_mangle)]
static COMPAT_CALLS: Calls = Calls::NONE;

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings { wake_bytes: u64::MAX, has_task_pt_regs: 0, reserved: 0 };

/// Reads a constant that the loader set. Volatile, or the compiler would use the value it sees here.
macro_rules! constant {
    ($($place:tt)+) => {
        // SAFETY: the place is a field of a static that nothing writes.
        unsafe { core::ptr::read_volatile(&raw const $($place)+) }
    };
}

/// The offset of a member of a kernel structure.
macro_rules! offset {
    ($name:ident) => {
        $crate::constant!($crate::OFFSETS.$name)
    };
}

pub(crate) use {constant, offset};

/// Nothing here panics; the compiler wants one all the same. Without a loop the verifier could not follow it anyway.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lends the helpers used here to programs under the GPL only. This crate is offered under it too (Cargo.toml).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
