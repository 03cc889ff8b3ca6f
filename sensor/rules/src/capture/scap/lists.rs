//! The lists that stand before the events: the machine, its processes, their descriptors, its users.
//!
//! Their versions differ in what is there. From version 1.2 of the format on, an entry has its length before it, and what a reader
//! does not know stands at its end.

use std::collections::HashMap;

use super::super::CaptureError;
use super::super::limits::{NAME_BYTES_MAX, SEEDS_MAX};
use super::cursor::{Cursor, signed};
use super::values::{texts, to_nul};
use crate::container;
use crate::engine::Names;
use crate::event::{Address, Capabilities, Descriptor, DescriptorKind, Executable, Process, Socket, Text};

/// Bytes of the name in a machine's block.
const HOSTNAME_BYTES: usize = 128;
/// What an entry of before libs 0.10 can have left after its fixed part: a login user, a flag, three sets of capabilities. From then on
/// two more fields stand before those, and the length alone tells.
const TAIL_BYTES_BEFORE_0_10: usize = 29;

/// One thread.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) tid: u32,
    pub(super) pid: u32,
    pub(super) process: Process,
}

/// The machine's name, and when it was started (0: not known), in nanoseconds since the epoch.
pub(super) fn machine(mut cursor: Cursor<'_>) -> Result<(Option<String>, u64), CaptureError> {
    cursor.bytes(4 + 8 + 8)?;
    let name = to_nul(cursor.bytes(HOSTNAME_BYTES)?);
    let name = (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned());
    Ok((name, cursor.u64()?))
}

/// Versions of the list of processes, each with what it added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// The names and ids.
    V1,
    /// Memory.
    V2,
    /// The environment.
    V3,
    /// Ids in namespaces, control groups.
    V4,
    /// The root directory.
    V5,
    /// The session.
    V6,
    /// The executable's path.
    V7,
    /// The process group.
    V8,
    /// Each entry's length.
    V9,
}

/// The next thread of a list; `None` at its end, where a few bytes of padding may stand.
pub(super) fn thread(list: &mut Cursor<'_>, version: Version) -> Result<Option<Thread>, CaptureError> {
    if list.left() < 4 {
        return Ok(None);
    }
    if version < Version::V9 {
        return fixed(list, version).map(Some);
    }
    let length = list.u32()? as usize;
    // The length counts itself.
    let Some(length) = length.checked_sub(4) else { return Err(list.error("a process' length is impossible")) };
    let mut entry = list.part(length)?;
    let mut thread = fixed(&mut entry, version)?;
    tail(&mut entry, &mut thread.process)?;
    Ok(Some(thread))
}

/// What stands in every entry of a version.
fn fixed(entry: &mut Cursor<'_>, version: Version) -> Result<Thread, CaptureError> {
    let (tid, pid, ppid) = (entry.u64()?, entry.u64()?, entry.u64()?);
    let mut process = Process { ppid: id(ppid).unwrap_or(0), ..Process::default() };
    if version >= Version::V6 {
        process.sid = id(entry.u64()?);
    }
    if version >= Version::V8 {
        process.vpgid = id(entry.u64()?);
    }
    process.comm = entry.text()?.into();
    let first: Text = entry.text()?.into();
    if version >= Version::V7 {
        process.exepath = entry.text()?.into();
    }
    process.args = std::iter::once(first).chain(texts(entry.text()?)).collect();
    process.cwd = entry.text()?.into();
    let (_fdlimit, _flags) = (entry.u64()?, entry.u32()?);
    process.uid = entry.u32()?;
    process.gid = entry.u32()?;
    if version >= Version::V2 {
        entry.bytes(4 * 3 + 8 * 2)?;
    }
    if version >= Version::V3 {
        process.env = texts(entry.text()?);
    }
    if version >= Version::V4 {
        let (_vtid, vpid) = (entry.u64()?, entry.u64()?);
        process.vpid = id(vpid);
        take_cgroups(&mut process, entry.text()?);
    }
    if version >= Version::V5 {
        let _root = entry.text()?;
    }
    Ok(Thread { tid: id(tid).unwrap_or(0), pid: id(pid).unwrap_or(0), process })
}

/// What later versions of libs put behind it.
fn tail(entry: &mut Cursor<'_>, process: &mut Process) -> Result<(), CaptureError> {
    // libs compares with the whole entry, whose length field it counts as taken; that is the same.
    if entry.left() > TAIL_BYTES_BEFORE_0_10 {
        let _pid_namespace_start = entry.u64()?;
        process.tty = entry.u32()?;
    }
    if entry.left() >= 4 {
        process.loginuid = Some(entry.u32()?).filter(|uid| *uid != u32::MAX);
    }
    let mut executable = Executable::default();
    let mut knows_executable = false;
    if entry.left() >= 1 {
        executable.is_writable = Some(entry.u8()? != 0);
        knows_executable = true;
    }
    if entry.left() >= 24 {
        let (inheritable, permitted, effective) = (entry.u64()?, entry.u64()?, entry.u64()?);
        process.capabilities = Some(Capabilities { inheritable, permitted, effective });
    }
    if entry.left() >= 25 {
        executable.is_upper_layer = Some(entry.u8()? != 0);
        executable.ino = entry.u64()?;
        executable.ctime_ns = entry.u64()?;
        executable.mtime_ns = entry.u64()?;
    }
    if entry.left() >= 1 {
        executable.is_from_memfd = Some(entry.u8()? != 0);
    }
    if entry.left() >= 1 {
        executable.is_lower_layer = Some(entry.u8()? != 0);
    }
    if entry.left() >= 8 {
        process.pgid = id(entry.u64()?);
    }
    process.executable = knows_executable.then_some(executable);
    Ok(())
}

/// An id of 64 bits; one that no process can have is none.
pub(super) fn id(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|id| *id <= i32::MAX as u32)
}

/// The process' control groups, `subsystem=path` each: one path is kept, and what container it says.
pub(super) fn take_cgroups(process: &mut Process, bytes: &[u8]) {
    let groups = texts(bytes);
    let path = |group: &Text| {
        let bytes = group.as_bytes();
        bytes.iter().position(|byte| *byte == b'=').map(|place| Text::from(&bytes[place + 1..]))
    };
    let paths: Vec<Text> = groups.iter().filter_map(path).collect();
    let of_container = paths.iter().find_map(|path| Some((path.clone(), container::id_of_cgroup(path.as_bytes())?)));
    match of_container {
        Some((path, id)) => {
            process.cgroup = path;
            process.container = Some(id);
        }
        None => {
            process.cgroup = paths.into_iter().max_by_key(Text::len).unwrap_or_default();
            process.container = None;
        }
    }
}

/// The next descriptor of a process' list; `None` at its end.
pub(super) fn descriptor(list: &mut Cursor<'_>, has_length: bool) -> Result<Option<Descriptor>, CaptureError> {
    if list.left() < 4 {
        return Ok(None);
    }
    if !has_length {
        return entry(list).map(Some);
    }
    let length = list.u32()? as usize;
    let Some(length) = length.checked_sub(4) else { return Err(list.error("a descriptor's length is impossible")) };
    let mut part = list.part(length)?;
    let mut descriptor = entry(&mut part)?;
    if descriptor.kind == DescriptorKind::File && part.left() >= 4 {
        descriptor.dev = Some(u64::from(part.u32()?));
    }
    Ok(Some(descriptor))
}

fn entry(list: &mut Cursor<'_>) -> Result<Descriptor, CaptureError> {
    let is_big = list.is_big();
    let num = signed(list.bytes(8)?, is_big);
    let ino = list.u64()?;
    let kind = list.u8()?;
    let mut descriptor = Descriptor { num: Some(num), ino: Some(ino).filter(|ino| *ino != 0), ..Descriptor::default() };
    match kind {
        3 | 4 => {
            let bytes = if kind == 3 { 4 } else { 16 };
            let (from, to) = (ip(list, bytes)?, ip(list, bytes)?);
            let (from_port, to_port) = (list.u16()?, list.u16()?);
            let protocol = protocol(list.u8()?);
            let socket = Socket {
                protocol,
                client: Some(Address { ip: from, port: from_port }),
                server: Some(Address { ip: to, port: to_port }),
                ..Socket::default()
            };
            set_socket(&mut descriptor, socket, kind == 3);
        }
        5 | 6 => {
            let ip = ip(list, if kind == 5 { 4 } else { 16 })?;
            let port = list.u16()?;
            let protocol = protocol(list.u8()?);
            let server = Some(Address { ip, port });
            let socket = Socket { protocol, server, is_server: Some(true), ..Socket::default() };
            set_socket(&mut descriptor, socket, kind == 5);
        }
        8 => {
            let (_source, _destination) = (list.u64()?, list.u64()?);
            descriptor.kind = DescriptorKind::Unix;
            descriptor.name = list.text()?.into();
            descriptor.socket = Some(Socket { family: Some(1), ..Socket::default() });
        }
        16 => {
            let _open_flags = list.u32()?;
            descriptor.kind = DescriptorKind::File;
            descriptor.name = list.text()?.into();
        }
        1 | 2 | 7 | 9..=15 | 17..=21 => {
            descriptor.kind = kind_of(kind);
            descriptor.name = list.text()?.into();
        }
        // Nothing more is written of a kind that is not known.
        _ => {}
    }
    descriptor.nameraw = descriptor.name.clone();
    Ok(descriptor)
}

fn set_socket(descriptor: &mut Descriptor, mut socket: Socket, is_v4: bool) {
    descriptor.kind = if is_v4 { DescriptorKind::Ipv4 } else { DescriptorKind::Ipv6 };
    socket.family = Some(if is_v4 { 2 } else { 10 });
    descriptor.name = super::descriptors::socket_name(&socket);
    descriptor.socket = Some(socket);
}

fn ip(list: &mut Cursor<'_>, count: usize) -> Result<std::net::IpAddr, CaptureError> {
    let bytes = list.bytes(count)?;
    Ok(match <[u8; 4]>::try_from(bytes) {
        Ok(four) => std::net::Ipv4Addr::from(four).into(),
        Err(_) => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap_or_default()).into(),
    })
}

/// Falco's numbers for what is above IP, as IANA's.
fn protocol(number: u8) -> Option<u8> {
    match number {
        2 => Some(6),
        3 => Some(17),
        4 => Some(1),
        _ => None,
    }
}

fn kind_of(number: u8) -> DescriptorKind {
    match number {
        1 => DescriptorKind::File,
        2 => DescriptorKind::Directory,
        7 => DescriptorKind::Fifo,
        9 => DescriptorKind::Event,
        11 => DescriptorKind::Signal,
        12 => DescriptorKind::Eventpoll,
        13 => DescriptorKind::Inotify,
        14 => DescriptorKind::Timer,
        15 => DescriptorKind::Netlink,
        17 => DescriptorKind::Bpf,
        18 => DescriptorKind::Userfaultfd,
        19 => DescriptorKind::IoUring,
        20 => DescriptorKind::Memfd,
        21 => DescriptorKind::Pidfd,
        _ => DescriptorKind::Unknown,
    }
}

/// Users and groups.
pub(super) fn users(mut list: Cursor<'_>, has_length: bool, names: &mut Names) -> Result<(), CaptureError> {
    while list.left() >= 4 {
        let mut entry = if has_length {
            let length = list.u32()? as usize;
            let Some(length) = length.checked_sub(4) else { return Err(list.error("a user's length is impossible")) };
            list.part(length)?
        } else {
            list
        };
        let is_user = entry.u8()? == 0;
        let id = entry.u32()?;
        if is_user {
            let _gid = entry.u32()?;
            name(&mut names.users, id, entry.text()?);
            let (_home, _shell) = (entry.text()?, entry.text()?);
        } else {
            name(&mut names.groups, id, entry.text()?);
        }
        if !has_length {
            list = entry;
        }
    }
    Ok(())
}

fn name(names: &mut HashMap<u32, String>, id: u32, name: &[u8]) {
    if names.len() < SEEDS_MAX && name.len() <= NAME_BYTES_MAX {
        names.insert(id, String::from_utf8_lossy(name).into_owned());
    }
}
