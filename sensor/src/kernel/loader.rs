//! Loading the programs, reading their ring, counting what was lost.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::ProgramError;
use aya::programs::tp_btf::{BtfTracePoint, BtfTracePointLinkId};
use aya::{Btf as AyaBtf, Ebpf, EbpfLoader};
use cairn_rules::event::Event;
use cairn_schemas::time::Clock;
use cairn_sensor_abi::{Filter, Kind, Settings, filter};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::decode::{Context, decode};
use super::layout::Layout;
use super::probe::{Capabilities, Missing, probe};
use super::processes::{Seed, initial_processes, namespace};

/// The kernel programs as committed, built by `cargo xtask ebpf` with the tools named in `sensor/ebpf/object/toolchain.txt`.
pub const OBJECT: &[u8] = include_bytes!("../../ebpf/object/cairn.bpf.o");

/// Bytes of the ring unless said otherwise: about two hundred thousand opens.
pub const RING_LEN_DEFAULT: u32 = 32 << 20;

/// Events handed on by one [`Kernel::poll`], so that a flood does not keep its caller from everything else.
pub const EVENTS_PER_POLL_MAX: usize = 16_384;

/// How long an event that does not wake the reader may lie in the ring while the reader waits.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The programs, in the order they are attached, with their tracepoints. Opens last: they are the most, and their
/// processes should be known.
const PROGRAMS: [(&str, &str, Kind); 4] = [
    ("on_fork", "sched_process_fork", Kind::Fork),
    ("on_exit", "sched_process_exit", Kind::Exit),
    ("on_exec", "sched_process_exec", Kind::Exec),
    ("on_open", "sys_exit", Kind::Open),
];

/// Which opened files become events. The decision is made in the kernel, before anything is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFilter {
    /// Opens that can only read.
    pub reads: bool,
    /// Opens that can write, create or truncate.
    pub writes: bool,
    /// Of those, also the ones that failed.
    pub failed: bool,
}

impl OpenFilter {
    /// Everything.
    pub const ALL: OpenFilter = OpenFilter { reads: true, writes: true, failed: true };
    /// Nothing.
    pub const NONE: OpenFilter = OpenFilter { reads: false, writes: false, failed: false };

    fn bits(self) -> u32 {
        let bit = |wanted: bool, bit: u32| if wanted { bit } else { 0 };
        bit(self.reads, filter::READS) | bit(self.writes, filter::WRITES) | bit(self.failed, filter::FAILED)
    }
}

/// How to watch.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of the ring; rounded up to a power of two of at least one page.
    pub ring_len: u32,
    /// Which opens to report.
    pub open: OpenFilter,
    /// Do not report what this process itself opens: the records it writes would make more.
    pub without_self: bool,
    /// First components of cgroup paths under which containerd puts containers that `ctr` named by hand.
    pub containerd_namespaces: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ring_len: RING_LEN_DEFAULT,
            open: OpenFilter::ALL,
            without_self: true,
            containerd_namespaces: ["default", "k8s.io", "moby"].map(String::from).to_vec(),
        }
    }
}

/// Why the programs do not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// This machine cannot.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The object is not one of ours, or the kernel refused its maps.
    #[error("the kernel programs' object cannot be loaded")]
    Object(#[source] aya::EbpfError),
    /// The object lacks a map or program.
    #[error("the kernel programs' object has no {0}")]
    Incomplete(&'static str),
    /// The kernel refused a program. The source carries the verifier's words.
    #[error("the kernel refused the program {program} ({tracepoint})")]
    Program {
        /// The program.
        program: &'static str,
        /// The tracepoint it is for.
        tracepoint: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map that was just made cannot be used.
    #[error("a map of the kernel programs cannot be used")]
    Map(#[from] aya::maps::MapError),
    /// Type information that was readable a moment ago is not.
    #[error("the kernel's type information cannot be read")]
    TypeInformation(#[source] aya::BtfError),
}

/// Why there are no more events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// Waiting for the ring failed.
    #[error("waiting for kernel events failed")]
    Wait(#[source] std::io::Error),
    /// The counters cannot be read.
    #[error("the kernel programs' counters cannot be read")]
    Counters(#[from] aya::maps::MapError),
}

/// What happened to one family of events since the programs were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyLosses {
    /// The family.
    pub kind: Kind,
    /// Events that happened and passed the filter.
    pub emitted: u64,
    /// Of those, the ones the ring had no room for.
    pub dropped: u64,
    /// Times the kernel did not run the program because it was already running on that CPU: events beyond `emitted`.
    pub skipped: u64,
}

/// What happened to events since the programs were loaded. Once the ring is drained and nothing happens,
/// `sum of emitted = received + sum of dropped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Losses {
    /// By family, in the order of [`Kind::ALL`].
    pub families: [FamilyLosses; 4],
    /// Events taken out of the ring.
    pub received: u64,
    /// Of those, the ones that could not be decoded.
    pub malformed: u64,
}

impl Losses {
    /// Events that are known to have happened and were not handed on.
    pub fn lost(&self) -> u64 {
        self.families.iter().map(|family| family.dropped + family.skipped).sum::<u64>() + self.malformed
    }
}

/// The running programs. Dropping it detaches them.
pub struct Kernel {
    // Keeps the programs attached.
    programs: Ebpf,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, [u64; 2]>,
    filter: Array<MapData, [u32; 2]>,
    clock: Arc<dyn Clock>,
    context: Context,
    capabilities: Capabilities,
    self_pid: u32,
    received: u64,
    malformed: u64,
    /// Empty once stopped.
    links: Vec<(&'static str, BtfTracePointLinkId)>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("received", &self.received)
            .field("malformed", &self.malformed)
            .finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads and attaches the programs of `object` (normally [`OBJECT`]). Events begin to pile up in the ring at once.
    ///
    /// `clock` gives wall-clock time to events, whose own time counts from boot.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing stays attached.
    pub fn load(object: &[u8], options: Options, clock: Arc<dyn Clock>) -> Result<Kernel, LoadError> {
        let capabilities = probe()?;
        allow_locked_memory();
        let mut programs = load_object(object, &options, &capabilities.layout)?;
        let mut take = |name: &'static str| programs.take_map(name).ok_or(LoadError::Incomplete(name));
        let ring = RingBuf::try_from(take("EVENTS")?)?;
        let counters = PerCpuArray::try_from(take("COUNTERS")?)?;
        let filter = Array::try_from(take("FILTER")?)?;
        let mut kernel = Kernel {
            programs,
            ring,
            counters,
            filter,
            context: Context {
                boot_at_ns: 0,
                host_mnt_ns: namespace(Path::new("/proc/1/ns/mnt")).unwrap_or(0),
                containerd_namespaces: options.containerd_namespaces,
            },
            clock,
            capabilities,
            self_pid: if options.without_self { std::process::id() } else { 0 },
            received: 0,
            malformed: 0,
            links: Vec::new(),
        };
        kernel.set_filter(options.open)?;
        kernel.set_clock();
        kernel.links = attach(&mut kernel.programs)?;
        Ok(kernel)
    }

    /// What this machine can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Changes which opens are reported, from the next one on.
    ///
    /// # Errors
    /// If the kernel refuses to write the map.
    pub fn set_filter(&mut self, open: OpenFilter) -> Result<(), aya::maps::MapError> {
        let value = Filter { open: open.bits(), self_pid: self.self_pid };
        self.filter.set(0, bytemuck::cast::<Filter, [u32; 2]>(value), 0)
    }

    /// Hands on what lies in the ring, at most [`EVENTS_PER_POLL_MAX`] events; if it is empty, waits up to `timeout`.
    /// Returns how many there were. An execution ends the wait at once, any other event within [`LOOK_EVERY`].
    ///
    /// Events of one task, and of a child after its making, come in order. Events of unrelated tasks on two CPUs may come
    /// in the other order than their times, by microseconds.
    ///
    /// # Errors
    /// If waiting fails; no event is lost by that.
    pub fn poll(&mut self, timeout: Duration, mut take: impl FnMut(Event)) -> Result<usize, PollError> {
        self.set_clock();
        let mut malformed = 0;
        let taken = self.poll_raw(timeout, |bytes, context| match decode(bytes, context) {
            Ok(event) => take(event),
            Err(error) => {
                malformed += 1;
                tracing::warn!(%error, "a kernel event could not be read");
            }
        });
        self.malformed += malformed;
        taken
    }

    /// As [`Kernel::poll`], and hands on each event's bytes ([`cairn_sensor_abi`]) with what [`decode`] needs besides.
    ///
    /// # Errors
    /// As [`Kernel::poll`].
    pub fn poll_raw(&mut self, timeout: Duration, mut take: impl FnMut(&[u8], &Context)) -> Result<usize, PollError> {
        let mut left = timeout;
        loop {
            let taken = self.drain(&mut take);
            if taken > 0 || left.is_zero() {
                return Ok(taken);
            }
            let wait = left.min(LOOK_EVERY);
            self.wait(wait)?;
            left -= wait;
        }
    }

    /// What happened to events since loading.
    ///
    /// # Errors
    /// If the kernel refuses to read the map.
    pub fn losses(&self) -> Result<Losses, PollError> {
        let mut families = Kind::ALL.map(|kind| FamilyLosses { kind, emitted: 0, dropped: 0, skipped: 0 });
        for family in &mut families {
            for [emitted, dropped] in self.counters.get(&(family.kind as u32), 0)?.iter() {
                family.emitted += emitted;
                family.dropped += dropped;
            }
            family.skipped = self.skipped(family.kind);
        }
        Ok(Losses { families, received: self.received, malformed: self.malformed })
    }

    /// Detaches the programs. What lies in the ring can still be polled and the counters read, so that the last word on
    /// losses is exact. Once is enough; again does nothing.
    ///
    /// # Errors
    /// If a program cannot be detached; the others are.
    pub fn stop(&mut self) -> Result<(), ProgramError> {
        let mut result = Ok(());
        for (name, link) in self.links.drain(..) {
            if let Some(program) = self.programs.program_mut(name) {
                let program: Result<&mut BtfTracePoint, ProgramError> = program.try_into();
                result = result.and(program.and_then(|program| program.detach(link)));
            }
        }
        result
    }

    /// Every process there is, read from `/proc`. Called after loading, so that none is missed in between.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn initial_processes(&self) -> std::io::Result<Vec<Seed>> {
        initial_processes(Path::new("/proc"), &self.context)
    }

    fn drain(&mut self, take: &mut impl FnMut(&[u8], &Context)) -> usize {
        let mut taken = 0;
        while taken < EVENTS_PER_POLL_MAX {
            let Some(item) = self.ring.next() else {
                break;
            };
            taken += 1;
            self.received += 1;
            take(&item, &self.context);
        }
        taken
    }

    fn wait(&self, timeout: Duration) -> Result<(), PollError> {
        let mut ring = [PollFd::new(&self.ring, PollFlags::IN)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match rustix::event::poll(&mut ring, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(PollError::Wait(error.into())),
        }
    }

    /// Wall-clock time may be set while we run, so the distance between the clocks is measured at each poll.
    fn set_clock(&mut self) {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let boot_ns = (boot.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(boot.tv_nsec as u64);
        self.context.boot_at_ns = self.clock.now().nanos().saturating_sub(boot_ns);
    }

    /// The kernel shows for each program how often it did not run it (`recursion_misses`); 0 where it does not (before 5.12).
    fn skipped(&self, kind: Kind) -> u64 {
        let name = PROGRAMS.iter().find(|(_, _, family)| *family == kind).map(|(name, _, _)| *name);
        let count = || -> Option<u64> {
            let program: &BtfTracePoint = self.programs.program(name?)?.try_into().ok()?;
            let fd = program.fd().ok()?.as_fd().as_raw_fd();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
        };
        count().unwrap_or(0)
    }
}

fn load_object(object: &[u8], options: &Options, layout: &Layout) -> Result<Ebpf, LoadError> {
    // The ELF reader wants its bytes aligned; `include_bytes!` and files promise nothing.
    let mut aligned = vec![0u64; object.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut aligned)[..object.len()].copy_from_slice(object);
    let aligned: &[u8] = &bytemuck::cast_slice(&aligned)[..object.len()];

    let ring_len = options.ring_len.max(4096).checked_next_power_of_two().unwrap_or(1 << 31);
    let settings = Settings {
        // A quarter full: early enough that a reader that was asleep still has room to catch up.
        wake_bytes: u64::from(ring_len / 4),
        has_task_pt_regs: u32::from(layout.has_task_pt_regs),
        reserved: 0,
    };
    EbpfLoader::new()
        .override_global("OFFSETS", bytemuck::bytes_of(&layout.offsets), true)
        .override_global("CALLS", bytemuck::bytes_of(&layout.calls), true)
        .override_global("COMPAT_CALLS", bytemuck::bytes_of(&layout.compat_calls), true)
        .override_global("SETTINGS", bytemuck::bytes_of(&settings), true)
        .map_max_entries("EVENTS", ring_len)
        .load(aligned)
        .map_err(LoadError::Object)
}

fn attach(programs: &mut Ebpf) -> Result<Vec<(&'static str, BtfTracePointLinkId)>, LoadError> {
    let btf = AyaBtf::from_sys_fs().map_err(LoadError::TypeInformation)?;
    let mut links = Vec::with_capacity(PROGRAMS.len());
    for (name, tracepoint, _) in PROGRAMS {
        let refused = |source: ProgramError| LoadError::Program { program: name, tracepoint, source: Box::new(source) };
        let program: &mut BtfTracePoint =
            programs.program_mut(name).ok_or(LoadError::Incomplete(name))?.try_into().map_err(refused)?;
        program.load(tracepoint, &btf).map_err(refused)?;
        links.push((name, program.attach().map_err(refused)?));
    }
    Ok(links)
}

/// Kernels before 5.11 count maps against the limit of locked memory, whose default is too small for the ring. If raising
/// it fails, loading says so where it matters.
fn allow_locked_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let unlimited = Rlimit { current: None, maximum: None };
    if let Err(error) = setrlimit(Resource::Memlock, unlimited) {
        tracing::debug!(%error, "the limit of locked memory stays as it is");
    }
}
