//! Events from the running kernel: loads the kernel programs of `sensor/ebpf`, reads their ring buffer, and hands on
//! [`cairn_rules::event::Event`]s.
//!
//! [`probe`] says whether this machine can do it, and what is missing if not. [`Kernel::load`] starts it, [`Kernel::poll`]
//! takes events, [`Kernel::losses`] says exactly how many there were and were lost. [`initial_processes`] reads what ran
//! before. What to make of events is not decided here; nothing here acts on a process.
//!
//! Trusted: the kernel, and the object embedded in this binary. Everything that comes through the ring is checked all the
//! same: a malformed event is counted ([`Losses::malformed`]) and skipped.

mod btf;
mod decode;
mod layout;
mod loader;
mod probe;
mod processes;

pub use btf::{Btf, BtfError};
pub use cairn_sensor_abi::Kind;
pub use decode::{Context, DecodeError, decode};
pub use layout::Layout;
pub use loader::{
    EVENTS_PER_POLL_MAX, FamilyLosses, Kernel, LOOK_EVERY, LoadError, Losses, OBJECT, OpenFilter, Options, PollError,
    RING_LEN_DEFAULT,
};
pub use probe::{Capabilities, Missing, probe, sudo_command};
pub use processes::{Seed, initial_processes};

/// The kernel's clock ticks per second as it shows them to programs (`USER_HZ`), the same on every architecture.
const TICK_NS: u64 = 1_000_000_000 / 100;

/// A start time as [`cairn_rules::event::Process::start_ns`] has it here: cut to the tick that `/proc/<pid>/stat` shows, so
/// that a process seen there and the same process in an event are equal. A pid is not given twice within a tick.
pub fn start_identity(start_ns: u64) -> u64 {
    start_ns - start_ns % TICK_NS
}
