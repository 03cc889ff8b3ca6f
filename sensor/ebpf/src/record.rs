//! Building one event in a scratch buffer and handing it to the ring.
//!
//! An event with variable parts is longer than a program's 512-byte stack, so it is built in a per-CPU map and copied to
//! the ring once. Each program has a buffer of its own: should one program interrupt another on the same CPU, neither
//! writes into the other's event. (A program never interrupts itself: the kernel skips it then.)

use core::marker::PhantomData;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{
        bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str, bpf_probe_read_user,
        bpf_probe_read_user_str,
    },
};
use cairn_sensor_abi::{COMPONENT_LEN_MAX, EVENT_LEN_MAX, FORMAT, Header, Kind};

use crate::{COUNTERS, EVENTS, SETTINGS, constant, task::Task};

/// A program's buffer.
#[repr(C)]
pub struct Scratch {
    /// Bytes used. Kept in the map, not in a register: the verifier forgets what it knew of a value stored in a map, so
    /// that its work adds up from one part of an event to the next instead of multiplying.
    used: u64,
    bytes: [u8; EVENT_LEN_MAX],
}

/// Bytes the ring may hold unread beyond the mark and still be taken for "just passed it": a wakeup is not free, so it
/// is sent while the mark is being passed and not for each event after.
const WAKE_WINDOW: u64 = 64 * 1024;

/// An event under construction, beginning with a `T`.
pub struct Record<T> {
    scratch: *mut Scratch,
    event: PhantomData<*mut T>,
}

impl<T> Record<T> {
    /// Starts an event over a program's scratch buffer, its fixed part all zeros.
    #[inline(always)]
    pub fn start(scratch: *mut Scratch) -> Self {
        // SAFETY: the pointer comes from a per-CPU map's only element; T is an event, whose size is within the buffer.
        unsafe {
            (&raw mut (*scratch).bytes).cast::<T>().write_bytes(0, 1);
            (&raw mut (*scratch).used).write_volatile(size_of::<T>() as u64);
        }
        Self { scratch, event: PhantomData }
    }

    /// The fixed part.
    #[inline(always)]
    pub fn fixed(&mut self) -> &mut T {
        // SAFETY: the buffer is aligned to 8 (it follows a u64), longer than T, written by `start`, and this program's own.
        unsafe { &mut *(&raw mut (*self.scratch).bytes).cast::<T>() }
    }

    #[inline(always)]
    fn used(&self) -> usize {
        // SAFETY: as in `start`.
        unsafe { (&raw const (*self.scratch).used).read_volatile() as usize }
    }

    #[inline(always)]
    fn set_used(&self, used: usize) {
        // SAFETY: as in `start`.
        unsafe { (&raw mut (*self.scratch).used).write_volatile(used as u64) }
    }

    /// Where the next `room` bytes go, and how many are used before; `None` if there is no such room.
    #[inline(always)]
    fn room(&self, room: usize) -> Option<(*mut u8, usize)> {
        let used = self.used();
        if used > EVENT_LEN_MAX - room {
            return None;
        }
        // SAFETY: `used + room` is within the buffer, as just checked.
        Some((unsafe { (&raw mut (*self.scratch).bytes).cast::<u8>().add(used) }, used))
    }

    /// Bytes used so far; marks where a variable part begins.
    #[inline(always)]
    pub fn mark(&self) -> usize {
        self.used()
    }

    /// Bytes added since `mark`.
    #[inline(always)]
    pub fn since(&self, mark: usize) -> u32 {
        (self.used() - mark) as u32
    }

    /// Adds a NUL-ended string of the kernel's with its NUL, at most one path component long. False if it could not be
    /// read or there is no room.
    #[inline(always)]
    pub fn push_component(&mut self, address: u64) -> bool {
        let Some((to, used)) = self.room(COMPONENT_LEN_MAX) else {
            return false;
        };
        // SAFETY: `to` has room for that many bytes; the helper checks the source.
        let read = unsafe { bpf_probe_read_kernel_str(to.cast(), COMPONENT_LEN_MAX as u32, address as *const _) };
        if read > 0 {
            self.set_used(used + read as usize);
        }
        read > 0
    }

    /// Adds a NUL-ended string of the kernel's without its NUL, at most `MAX` bytes. False if it could not be read.
    #[inline(always)]
    pub fn push_kernel_str<const MAX: usize>(&mut self, address: u64) -> bool {
        let Some((to, used)) = self.room(MAX) else {
            return false;
        };
        // SAFETY: as in `push_component`.
        let read = unsafe { bpf_probe_read_kernel_str(to.cast(), MAX as u32, address as *const _) };
        self.keep_str(read, used)
    }

    /// Adds a NUL-ended string of the current process without its NUL, at most `MAX` bytes. False if it could not be read.
    #[inline(always)]
    pub fn push_user_str<const MAX: usize>(&mut self, address: u64) -> bool {
        let Some((to, used)) = self.room(MAX) else {
            return false;
        };
        // SAFETY: as in `push_component`.
        let read = unsafe { bpf_probe_read_user_str(to.cast(), MAX as u32, address as *const _) };
        self.keep_str(read, used)
    }

    #[inline(always)]
    fn keep_str(&self, read: i64, used: usize) -> bool {
        if read > 0 {
            // The helper counts the NUL.
            self.set_used(used + read as usize - 1);
        }
        read > 0
    }

    /// Adds `len` bytes of the current process, cut at `MAX`. False if they could not be read.
    #[inline(always)]
    pub fn push_user_bytes<const MAX: usize>(&mut self, address: u64, len: u64) -> bool {
        let Some((to, used)) = self.room(MAX) else {
            return false;
        };
        // The helper takes a 32-bit size; the mask-free comparison on the very value passed is what the verifier follows.
        let len = core::hint::black_box(len) as usize;
        if len == 0 || len > MAX {
            return len == 0;
        }
        // SAFETY: as in `push_component`.
        let read = unsafe { bpf_probe_read_user(to.cast(), len as u32, address as *const _) };
        if read == 0 {
            self.set_used(used + len);
        }
        read == 0
    }

    /// Hands the event to the ring. `urgent` wakes the reader at once.
    #[inline(always)]
    pub fn submit(self, kind: Kind, urgent: bool) {
        let len = self.used();
        if len < size_of::<T>() || len > EVENT_LEN_MAX {
            return;
        }
        // SAFETY: that many bytes of the buffer are this event.
        let bytes = unsafe { core::slice::from_raw_parts((&raw const (*self.scratch).bytes).cast::<u8>(), len) };
        let sent = EVENTS.output::<[u8]>(bytes, wakeup(urgent));
        count(kind, sent.is_ok());
    }
}

/// Sends an event without variable parts, built on the stack.
#[inline(always)]
pub fn submit_fixed<T: Copy>(event: &T, kind: Kind) {
    let sent = EVENTS.output::<T>(event, wakeup(false));
    count(kind, sent.is_ok());
}

/// What every event begins with, about `process` (any of its threads) and the current thread.
#[inline(always)]
pub fn header(kind: Kind, task: Task) -> Header {
    Header {
        kind: kind as u8,
        format: FORMAT,
        // SAFETY: helpers without arguments.
        cpu: unsafe { bpf_get_smp_processor_id() } as u16,
        flags: 0,
        // SAFETY: as above.
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        start_ns: task.leader().start_ns(),
        pid: task.tgid(),
        tid: task.pid(),
    }
}

/// Waking the reader costs more than everything else here, so ordinary events do it only when much lies unread; the
/// reader looks by itself every few milliseconds.
#[inline(always)]
fn wakeup(urgent: bool) -> u64 {
    if urgent {
        return BPF_RB_FORCE_WAKEUP as u64;
    }
    let mark = constant!(SETTINGS.wake_bytes);
    let unread = EVENTS.query(BPF_RB_AVAIL_DATA as u64);
    if unread >= mark && unread - mark < WAKE_WINDOW { BPF_RB_FORCE_WAKEUP as u64 } else { BPF_RB_NO_WAKEUP as u64 }
}

#[inline(always)]
fn count(kind: Kind, sent: bool) {
    if let Some(counters) = COUNTERS.get_ptr_mut(kind as u32) {
        // SAFETY: this CPU's own element. Programs of other kinds use other elements, and no program interrupts itself.
        unsafe {
            (*counters).emitted += 1;
            if !sent {
                (*counters).dropped += 1;
            }
        }
    }
}
