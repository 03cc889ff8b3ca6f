//! What crosses the border between the kernel programs and the sensor: events in the ring buffer, counters, the filter, and
//! the offsets of kernel structures that the programs are told at load time.
//!
//! Both sides compile this file, for different targets with different compilers, so every layout is `repr(C)` without
//! padding and its size and offsets are asserted at compile time. There is no version negotiation: the object is embedded
//! in the binary that reads it, and each event says by [`FORMAT`] which layout it has.
//!
//! An event is one of [`Exec`], [`Fork`], [`Exit`], [`Open`], each beginning with a [`Header`], followed by the bytes whose
//! lengths it names, in the order of the fields that name them. A *path* in those bytes is its components from the last to
//! the first, each ended by a NUL: the order in which the kernel's directory entries are walked. Nothing here is trusted by
//! the reader: lengths are checked against the record.
#![no_std]
#![forbid(unsafe_code)]

mod event;
mod offsets;

pub use event::{Exec, Exit, Fork, Header, Kind, Open, Syscall, flag};
pub use offsets::{ABSENT, Calls, Offsets};

/// Changes with every change to a layout in this crate. Every event carries it, and a test holds the committed object to it.
pub const FORMAT: u8 = 1;

/// Bytes of arguments kept of an executed program; what is longer is cut and flagged.
pub const ARGS_LEN_MAX: usize = 4096;

/// Bytes of a path as the program passed it (the kernel's `PATH_MAX`, so nothing the kernel accepts is cut).
pub const NAME_LEN_MAX: usize = 4096;

/// Bytes of a resolved path; what is longer loses its first components and is flagged.
pub const PATH_LEN_MAX: usize = 4096;

/// Components of a resolved path, mount points crossed included; what is deeper is cut and flagged.
pub const PATH_DEPTH_MAX: usize = 96;

/// Bytes of one path component with its NUL (the kernel's `NAME_MAX` + 1).
pub const COMPONENT_LEN_MAX: usize = 256;

/// Bytes of the kernel's name of a task.
pub const COMM_LEN: usize = 16;

/// The longest event: [`Exec`] with its five variable parts full.
pub const EVENT_LEN_MAX: usize = size_of::<Exec>() + 2 * NAME_LEN_MAX + 3 * PATH_LEN_MAX;

const _: () = assert!(NAME_LEN_MAX == ARGS_LEN_MAX, "EVENT_LEN_MAX counts them together");

/// How many events of one family one CPU made and lost. The sum over CPUs is exact: each CPU counts its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Counters {
    /// Events that happened and passed the filter.
    pub emitted: u64,
    /// Of those, the ones the ring buffer had no room for.
    pub dropped: u64,
}

/// Which opened files are worth an event. Lives in a map and may change while the programs run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Filter {
    /// Any of [`filter::READS`], [`filter::WRITES`], [`filter::FAILED`].
    pub open: u32,
    /// The sensor's own process, whose opens are not reported: its spool would feed itself. 0: none.
    pub self_pid: u32,
}

/// Bits of [`Filter::open`].
pub mod filter {
    /// Opens that can only read.
    pub const READS: u32 = 1;
    /// Opens that can write, create or truncate.
    pub const WRITES: u32 = 2;
    /// Opens that failed (reported only with the bit for their direction as well).
    pub const FAILED: u32 = 4;
}

/// What is set once, before the programs are loaded. The kernel side sees it as constants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Settings {
    /// Wake the reader when this many bytes lie unread, even if no event asks for it.
    pub wake_bytes: u64,
    /// 1 if the kernel has `bpf_task_pt_regs` (5.15), else 0.
    pub has_task_pt_regs: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<Counters>() == 16);
    assert!(size_of::<Filter>() == 8);
    assert!(size_of::<Settings>() == 16);
};
