//! Bounds of reading a capture.

/// Bytes that may come out of a capture. A compressed one holds a thousandth of that, or less.
pub const BYTES_MAX: u64 = 1 << 36;
/// Bytes of one line of Cairn's format. A process with all its arguments and its whole environment fits many times.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of one event of a `.scap`.
pub const EVENT_BYTES_MAX: usize = 16 << 20;
/// Bytes of one list of a `.scap`: a machine's processes stand in one block, some kilobytes each.
pub const LIST_BYTES_MAX: usize = 128 << 20;
/// Parameters of one event: libs has 32.
pub const PARAMS_MAX: u32 = 64;
/// Processes that ran when a capture of Cairn's began; also containers, users and groups of any.
pub const SEEDS_MAX: usize = 131_072;
/// Threads whose process the reader of a `.scap` remembers.
pub const THREADS_MAX: usize = 262_144;
/// Bytes of processes, descriptors and half-finished calls that the reader of a `.scap` remembers, estimated; and of what stands before the
/// events of a capture of Cairn's.
pub const TABLE_BYTES_MAX: usize = 512 << 20;
/// Bytes of a path once it is made absolute; the kernel's own is 4,096.
pub const PATH_BYTES_MAX: usize = 16_384;
/// Bytes of the name of a user or group; libs has 256.
pub const NAME_BYTES_MAX: usize = 256;
