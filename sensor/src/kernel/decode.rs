//! Bytes from the ring to events.
//!
//! Pure. The bytes come from the kernel side of this very build, and are not trusted: a length that does not fit, an
//! unknown kind or another format is an error, whatever else is odd ends up in the event as it is.

use bytemuck::{AnyBitPattern, pod_read_unaligned};
use cairn_rules::container;
use cairn_rules::event::{Event, EventKind, Exec, ExecSyscall, Exit, FileType, Fork, Open, OpenSyscall, Process, Text};
use cairn_sensor_abi::{self as abi, FORMAT, Header, Kind, Syscall, flag};

use super::start_identity;

/// Stands in front of a path whose first components are not known. It makes the path not absolute, so that no rule takes
/// it for one under `/etc`.
pub(super) const CUT: &[u8] = b"...";

/// What the bytes do not say.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Nanoseconds between the epoch and boot: wall-clock time less the time since boot.
    pub boot_at_ns: u64,
    /// Inode number of the host's mount namespace; 0: not known.
    pub host_mnt_ns: u32,
    /// First components of cgroup paths under which containerd puts containers with names given by hand.
    pub containerd_namespaces: Vec<String>,
}

/// Why bytes are no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The record ends before its fixed part does.
    #[error("an event of {len} bytes is shorter than its fixed part of {expected}")]
    Short {
        /// The record's length.
        len: usize,
        /// The length of its kind's fixed part.
        expected: usize,
    },
    /// The lengths in the fixed part do not add up to the record's.
    #[error("an event's parts take {parts} bytes and it has {len}")]
    Length {
        /// What the parts say.
        parts: u64,
        /// What there is.
        len: usize,
    },
    /// No such kind of event.
    #[error("event kind {0} is not known")]
    Kind(u8),
    /// Made by kernel programs of another build.
    #[error("event format {actual} instead of {expected}")]
    Format {
        /// What this build reads.
        expected: u8,
        /// What the event says.
        actual: u8,
    },
}

/// Reads one record of the ring.
///
/// # Errors
/// See [`DecodeError`]; never panics, whatever the bytes.
pub fn decode(bytes: &[u8], context: &Context) -> Result<Event, DecodeError> {
    let header: Header = fixed(bytes)?;
    if header.format != FORMAT {
        return Err(DecodeError::Format { expected: FORMAT, actual: header.format });
    }
    let kind = match Kind::from_number(header.kind).ok_or(DecodeError::Kind(header.kind))? {
        Kind::Exec => exec(bytes, context)?,
        Kind::Fork => fork(bytes)?,
        Kind::Exit => exit(bytes)?,
        Kind::Open => open(bytes)?,
    };
    Ok(Event {
        time_ns: header.time_ns.saturating_add(context.boot_at_ns),
        cpu: header.cpu,
        tid: header.tid,
        pid: header.pid,
        kind,
    })
}

fn fixed<T: AnyBitPattern>(bytes: &[u8]) -> Result<T, DecodeError> {
    let expected = size_of::<T>();
    let bytes = bytes.get(..expected).ok_or(DecodeError::Short { len: bytes.len(), expected })?;
    Ok(pod_read_unaligned(bytes))
}

/// Splits what follows the fixed part. The ring gives a record its exact length, so the parts have to fill it.
fn parts<const N: usize>(bytes: &[u8], fixed_len: usize, lens: [u32; N]) -> Result<[&[u8]; N], DecodeError> {
    let parts = lens.iter().map(|len| u64::from(*len)).sum::<u64>() + fixed_len as u64;
    if parts != bytes.len() as u64 {
        return Err(DecodeError::Length { parts, len: bytes.len() });
    }
    let mut rest = &bytes[fixed_len..];
    Ok(lens.map(|len| {
        let (part, after) = rest.split_at(len as usize);
        rest = after;
        part
    }))
}

fn exec(bytes: &[u8], context: &Context) -> Result<EventKind, DecodeError> {
    let raw: abi::Exec = fixed(bytes)?;
    let lens = [raw.name_len, raw.args_len, raw.exe_len, raw.cwd_len, raw.cgroup_len];
    let [_name, args, exe, cwd, cgroup] = parts(bytes, size_of::<abi::Exec>(), lens)?;
    let flags = raw.header.flags;
    let cgroup = path(cgroup, flags & flag::CGROUP_CUT != 0);
    let process = Process {
        ppid: raw.ppid,
        start_ns: start_identity(raw.header.start_ns),
        started_at_ns: Some(raw.header.start_ns.saturating_add(context.boot_at_ns)),
        uid: raw.uid,
        gid: raw.gid,
        loginuid: (raw.loginuid != u32::MAX).then_some(raw.loginuid),
        comm: Text::from(until_nul(&raw.comm)),
        exepath: path(exe, flags & flag::EXE_CUT != 0).into(),
        args: split_args(args),
        args_truncated: flags & (flag::ARGS_CUT | flag::ARGS_UNREADABLE) != 0,
        cwd: path(cwd, flags & flag::CWD_CUT != 0).into(),
        tty: raw.tty,
        container: container_of(&cgroup, raw.mnt_ns, context),
        cgroup: cgroup.into(),
        vpid: (raw.pid_level > 0).then_some(raw.vpid),
        sid: Some(raw.sid),
        pgid: Some(raw.pgid),
        ..Process::default()
    };
    let syscall = match Syscall::from_number(raw.syscall) {
        Some(Syscall::Execveat) => ExecSyscall::Execveat,
        _ => ExecSyscall::Execve,
    };
    Ok(EventKind::Exec(Box::new(Exec { syscall, process, ..Exec::default() })))
}

fn fork(bytes: &[u8]) -> Result<EventKind, DecodeError> {
    let raw: abi::Fork = fixed(bytes)?;
    let [] = parts(bytes, size_of::<abi::Fork>(), [])?;
    Ok(EventKind::Fork(Fork {
        child_pid: raw.child_pid,
        child_start_ns: start_identity(raw.child_start_ns),
        child_vpid: (raw.child_level > 0).then_some(raw.child_vpid),
        child_ppid: (raw.child_ppid != raw.header.pid).then_some(raw.child_ppid),
        ..Fork::default()
    }))
}

fn exit(bytes: &[u8]) -> Result<EventKind, DecodeError> {
    let raw: abi::Exit = fixed(bytes)?;
    let [] = parts(bytes, size_of::<abi::Exit>(), [])?;
    let signal = raw.status & 0x7f;
    Ok(EventKind::Exit(Exit { code: ((raw.status >> 8) & 0xff) as i32, signal: (signal != 0).then_some(signal) }))
}

fn open(bytes: &[u8]) -> Result<EventKind, DecodeError> {
    let raw: abi::Open = fixed(bytes)?;
    let [nameraw, resolved] = parts(bytes, size_of::<abi::Open>(), [raw.name_len, raw.path_len])?;
    let flags = raw.header.flags;
    let resolved = path(resolved, flags & flag::PATH_CUT != 0);
    let name = if flags & flag::PATH_IS_BASE != 0 {
        // The call failed: no file tells where the name leads, so links in it are not followed.
        if flags & flag::NAME_UNREADABLE != 0 { Vec::new() } else { join(&resolved, nameraw) }
    } else {
        resolved
    };
    let syscall = match Syscall::from_number(raw.syscall) {
        Some(Syscall::Open) => OpenSyscall::Open,
        Some(Syscall::Openat2) => OpenSyscall::Openat2,
        Some(Syscall::Creat) => OpenSyscall::Creat,
        _ => OpenSyscall::Openat,
    };
    Ok(EventKind::Open(Box::new(Open {
        syscall,
        name: name.into(),
        nameraw: nameraw.into(),
        flags: open_flags(&raw),
        mode: raw.mode,
        result: raw.result,
        file_type: file_type(raw.inode_mode),
        ..Open::default()
    })))
}

/// The flags passed, but where a file was opened with the access it was opened for: `openat2` takes its flags from memory
/// that another thread may change.
fn open_flags(raw: &abi::Open) -> u32 {
    const O_ACCMODE: u32 = 0o3;
    let flags = if raw.result >= 0 { raw.flags & !O_ACCMODE | raw.file_flags & O_ACCMODE } else { raw.flags };
    generic_flags(flags, raw.header.flags & flag::COMPAT != 0)
}

/// `O_*` bits as x86 numbers them.
#[cfg(not(target_arch = "aarch64"))]
fn generic_flags(flags: u32, _is_compat: bool) -> u32 {
    flags
}

/// `O_*` bits as x86 numbers them: on ARM, four have other numbers.
#[cfg(target_arch = "aarch64")]
fn generic_flags(flags: u32, _is_compat: bool) -> u32 {
    const FROM_TO: [(u32, u32); 4] = [
        (0o40_000, 0o200_000),  // O_DIRECTORY
        (0o100_000, 0o400_000), // O_NOFOLLOW
        (0o200_000, 0o40_000),  // O_DIRECT
        (0o400_000, 0o100_000), // O_LARGEFILE
    ];
    let all = FROM_TO.iter().fold(0, |all, (from, _)| all | from);
    FROM_TO.iter().filter(|(from, _)| flags & from != 0).fold(flags & !all, |flags, (_, to)| flags | to)
}

fn file_type(inode_mode: u32) -> Option<FileType> {
    match inode_mode & 0o170_000 {
        0o100_000 => Some(FileType::Regular),
        0o040_000 => Some(FileType::Directory),
        0o020_000 => Some(FileType::Char),
        0o060_000 => Some(FileType::Block),
        0o010_000 => Some(FileType::Fifo),
        _ => None,
    }
}

/// Components from last to first, each ended by a NUL, to a path. A path that is cut begins with [`CUT`].
fn path(components: &[u8], is_cut: bool) -> Vec<u8> {
    let cut = if is_cut { CUT } else { b"" };
    // Each component's NUL is the place of its slash; the last may lack its own. Filled from its end, in one go: most of what a sensor
    // does is this.
    let is_ended = components.last().is_none_or(|last| *last == 0);
    let mut path = vec![b'/'; cut.len() + components.len() + usize::from(!is_ended)];
    let mut end = path.len();
    let mut from = 0;
    for to in memchr::memchr_iter(0, components).chain((!is_ended).then_some(components.len())) {
        let component = &components[from..to];
        from = to + 1;
        if component.is_empty() {
            continue;
        }
        path[end - component.len()..end].copy_from_slice(component);
        end -= component.len() + 1;
    }
    // What is left over was empty components.
    path.drain(cut.len()..end);
    path[..cut.len()].copy_from_slice(cut);
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// A name relative to a directory, `.` and `..` removed without looking at the file system; empty if the name is.
fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    if name.is_empty() {
        return Vec::new();
    }
    let is_absolute = name.starts_with(b"/");
    let base: &[u8] = if is_absolute { b"" } else { base };
    let mut path: Vec<u8> = Vec::with_capacity(base.len() + name.len() + 1);
    // Where a path was cut, what is left of it has no beginning to climb over.
    let floor = if base.starts_with(CUT) { CUT.len() } else { 0 };
    path.extend_from_slice(&base[..floor]);
    for component in base[floor..].split(|byte| *byte == b'/').chain(name.split(|byte| *byte == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => {
                let last = path[floor..].iter().rposition(|byte| *byte == b'/');
                path.truncate(floor + last.unwrap_or(0));
            }
            _ => {
                path.push(b'/');
                path.extend_from_slice(component);
            }
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// Arguments as the kernel keeps them: each ended by a NUL; the last may be cut.
pub(super) fn split_args(bytes: &[u8]) -> Vec<Text> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(Text::from).collect()
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The container a process runs in. Names that people give by hand count only in a mount namespace other than the host's:
/// a service in a cgroup `/default/web` is no container.
pub(super) fn container_of(cgroup: &[u8], mnt_ns: u32, context: &Context) -> Option<Text> {
    if context.host_mnt_ns == 0 || mnt_ns == context.host_mnt_ns {
        return container::id_of_cgroup(cgroup);
    }
    let namespaces: Vec<&str> = context.containerd_namespaces.iter().map(String::as_str).collect();
    container::id_of_containerd_cgroup(cgroup, &namespaces)
}

#[cfg(test)]
mod tests;
