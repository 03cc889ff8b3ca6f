//! What the descriptor stands for that an event is about: `fd.*`, whatever event it is.

use std::borrow::Cow;

use super::constants::{O_DIRECTORY, O_TMPFILE_BIT};
use super::{Kind, Supplied, Value, plain, present};
use crate::engine::Context;
use crate::event::{Address, DescriptorKind, Event, EventKind, FileType, Open, Socket};

/// A descriptor as fields see it.
pub(super) struct View<'a> {
    pub(super) num: Option<i64>,
    pub(super) kind: DescriptorKind,
    name: &'a [u8],
    nameraw: &'a [u8],
    dev: Option<u64>,
    ino: Option<u64>,
    socket: Option<&'a Socket>,
    /// There is no descriptor, because the call that should have made one failed; of what it asked for, the name is known.
    is_missing: bool,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const RAW: u8 = 255;

impl<'a> View<'a> {
    pub(super) fn of(event: &'a Event) -> Option<Self> {
        match &event.kind {
            EventKind::Open(open) => Some(Self {
                num: Some(open.result.max(-1)),
                kind: if is_directory(open) { DescriptorKind::Directory } else { DescriptorKind::File },
                name: open.name.as_bytes(),
                nameraw: open.nameraw.as_bytes(),
                dev: None,
                ino: None,
                socket: None,
                is_missing: open.result < 0,
            }),
            EventKind::Call(call) => {
                let descriptor = call.descriptor.as_deref()?;
                Some(Self {
                    num: descriptor.num,
                    kind: descriptor.kind,
                    name: descriptor.name.as_bytes(),
                    nameraw: descriptor.nameraw.as_bytes(),
                    dev: descriptor.dev,
                    ino: descriptor.ino,
                    socket: descriptor.socket.as_ref(),
                    is_missing: descriptor.num.is_some_and(|num| num < 0),
                })
            }
            _ => None,
        }
    }

    fn there(event: &'a Event) -> Option<Self> {
        Self::of(event).filter(|view| !view.is_missing)
    }

    /// Its name: of a socket without one, its ends.
    fn name(&self) -> Cow<'a, [u8]> {
        match self.socket {
            Some(socket) if self.name.is_empty() => Cow::Owned(tuple(socket).into_bytes()),
            _ => Cow::Borrowed(self.name),
        }
    }

    /// Its kind and name as `evt.arg.fd` shows it: `<f>/etc/passwd`, `<4t>10.0.0.1:40000->10.0.0.2:443`.
    pub(super) fn labelled(&self) -> Vec<u8> {
        let protocol = match self.socket.and_then(|socket| socket.protocol) {
            Some(TCP) => "t",
            Some(UDP) => "u",
            Some(ICMP) => "i",
            Some(RAW) => "r",
            _ => "",
        };
        let mut out = format!("<{}{protocol}>", letter(self.kind)).into_bytes();
        out.extend_from_slice(&self.name());
        out
    }

    fn is_file(&self) -> bool {
        self.kind == DescriptorKind::File
    }

    fn is_directory(&self) -> bool {
        self.kind == DescriptorKind::Directory
    }

    fn directory(&self) -> Option<&'a [u8]> {
        if self.name.is_empty() || !(self.is_file() || self.is_directory()) {
            return None;
        }
        if self.is_directory() && !self.is_missing {
            return Some(self.name);
        }
        Some(match self.name.iter().rposition(|byte| *byte == b'/') {
            Some(0) | None => b"/",
            Some(slash) => &self.name[..slash],
        })
    }
}

fn is_directory(open: &Open) -> bool {
    match open.file_type {
        Some(file_type) => file_type == FileType::Directory,
        // As Falco: a successful open that demands a directory opened one.
        None => open.flags & O_DIRECTORY != 0 && open.flags & O_TMPFILE_BIT == 0,
    }
}

fn letter(kind: DescriptorKind) -> &'static str {
    match kind {
        DescriptorKind::Unknown => "o",
        DescriptorKind::File => "f",
        DescriptorKind::Directory => "d",
        DescriptorKind::Ipv4 => "4",
        DescriptorKind::Ipv6 => "6",
        DescriptorKind::Unix | DescriptorKind::Userfaultfd => "u",
        DescriptorKind::Netlink => "n",
        DescriptorKind::Fifo => "p",
        DescriptorKind::Event => "e",
        DescriptorKind::Signal => "s",
        DescriptorKind::Timer => "t",
        DescriptorKind::Eventpoll => "l",
        DescriptorKind::Inotify => "i",
        DescriptorKind::Bpf => "b",
        DescriptorKind::IoUring => "r",
        DescriptorKind::Pidfd => "P",
        DescriptorKind::Memfd => "m",
    }
}

fn word(kind: DescriptorKind) -> Option<&'static str> {
    Some(match kind {
        DescriptorKind::Unknown => return None,
        DescriptorKind::File => "file",
        DescriptorKind::Directory => "directory",
        DescriptorKind::Ipv4 => "ipv4",
        DescriptorKind::Ipv6 => "ipv6",
        DescriptorKind::Unix => "unix",
        DescriptorKind::Netlink => "netlink",
        DescriptorKind::Fifo => "pipe",
        DescriptorKind::Event => "event",
        DescriptorKind::Signal => "signalfd",
        DescriptorKind::Timer => "timerfd",
        DescriptorKind::Eventpoll => "eventpoll",
        DescriptorKind::Inotify => "inotify",
        DescriptorKind::Bpf => "bpf",
        DescriptorKind::Userfaultfd => "userfaultfd",
        DescriptorKind::IoUring => "io_uring",
        DescriptorKind::Pidfd => "pidfd",
        DescriptorKind::Memfd => "memfd",
    })
}

/// What an IO event is about, by what its descriptor stands for: an event's category.
pub(super) fn category(event: &Event) -> Option<&'static str> {
    Some(match View::of(event)?.kind {
        DescriptorKind::File | DescriptorKind::Directory => "file",
        DescriptorKind::Ipv4 | DescriptorKind::Ipv6 => "net",
        DescriptorKind::Unix | DescriptorKind::Fifo => "IPC",
        _ => "other",
    })
}

fn end(address: Address) -> String {
    // As Falco: an IPv6 address without brackets.
    format!("{}:{}", address.ip, address.port)
}

/// A socket's ends as Falco prints them: client, arrow, server; of a server's socket its own alone.
pub(super) fn tuple(socket: &Socket) -> String {
    match (socket.client, socket.server) {
        (Some(client), Some(server)) => format!("{}->{}", end(client), end(server)),
        (None, Some(only)) | (Some(only), None) => end(only),
        (None, None) => String::new(),
    }
}

/// A path below a folder that ends with `/`, with `.`, `..` and doubled `/` taken out.
pub(crate) fn join(folder: &[u8], path: &[u8]) -> Vec<u8> {
    let base: &[u8] = if path.starts_with(b"/") { b"" } else { folder };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut out = Vec::with_capacity(base.len() + path.len() + 1);
    for part in parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() { vec![b'/'] } else { out }
}

fn socket<'a>(context: &Context<'a>) -> Option<&'a Socket> {
    View::there(context.event)?.socket
}

fn client(context: &Context<'_>) -> Option<Address> {
    socket(context)?.client
}

fn server(context: &Context<'_>) -> Option<Address> {
    socket(context)?.server
}

fn local(context: &Context<'_>) -> Option<Address> {
    let socket = socket(context)?;
    if socket.is_server? { socket.server } else { socket.client }
}

fn remote(context: &Context<'_>) -> Option<Address> {
    let socket = socket(context)?;
    if socket.is_server? { socket.client } else { socket.server }
}

fn port<'a>(address: Address) -> Value<'a> {
    Value::number(address.port)
}

fn port_text<'a>(address: Address) -> Value<'a> {
    Value::owned(address.port.to_string())
}

/// The addresses of both ends, either of which may be meant.
fn ends<'a>(context: &Context<'_>) -> Option<Value<'a>> {
    match (client(context), server(context)) {
        (Some(client), Some(server)) => Some(Value::Addresses([client.ip, server.ip])),
        (Some(only), None) | (None, Some(only)) => Some(Value::Address(only.ip)),
        (None, None) => None,
    }
}

fn ports<'a>(context: &Context<'_>) -> Option<Value<'a>> {
    match (client(context), server(context)) {
        (Some(client), Some(server)) => Some(Value::Ports([client.port, server.port])),
        (Some(only), None) | (None, Some(only)) => Some(port(only)),
        (None, None) => None,
    }
}

/// Names that the machine's resolver knows for an address.
fn names_of<'a>(context: &Context<'a>, address: Option<Address>) -> Option<Value<'a>> {
    let names = context.names.hosts.get(&address?.ip)?;
    match names.as_slice() {
        [] => None,
        [only] => Some(Value::text(only)),
        several => Some(Value::AnyText(several.iter().map(|name| Cow::Borrowed(name.as_bytes())).collect())),
    }
}

fn in_container<'a>(context: &Context<'_>, what: &[u8]) -> Option<Value<'a>> {
    let process = context.process?;
    let id = process.image.process.container.as_ref().map_or(&b"host"[..], |id| id.as_bytes());
    Some(Value::Text([id, b":", what].concat().into()))
}

fn device(dev: u64) -> (u64, u64) {
    ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00))
}

pub(super) static FIELDS: &[Supplied] = &[
    plain("fd.num", Kind::Number, "the descriptor; -1 when none was opened", |c, _| {
        Some(Value::number(View::of(c.event)?.num?))
    }),
    plain("fd.type", Kind::Text, "file, directory, ipv4, ipv6, unix, pipe, ...", |c, _| {
        word(View::there(c.event)?.kind).map(Value::text)
    }),
    plain("fd.typechar", Kind::Text, "the type as a letter: f, d, 4, 6, u, p, ...; o when not known", |c, _| {
        let view = View::of(c.event)?;
        // A file that was not opened is no directory either.
        Some(Value::text(if view.is_missing && view.is_directory() { "f" } else { letter(view.kind) }))
    }),
    plain("fd.name", Kind::Text, "full path of a file, both ends of a socket", |c, _| {
        let name = View::of(c.event)?.name();
        (!name.is_empty()).then_some(Value::Text(name))
    }),
    plain("fd.nameraw", Kind::Text, "path as the program gave it", |c, _| present(View::of(c.event)?.nameraw)),
    plain("fd.directory", Kind::Text, "directory that holds the file; a directory itself", |c, _| {
        present(View::of(c.event)?.directory()?)
    }),
    plain("fd.filename", Kind::Text, "name of the file without its directory; absent for a directory", |c, _| {
        let view = View::there(c.event)?;
        if view.is_file() { present(super::last_component(view.name)) } else { None }
    }),
    plain("fd.ip", Kind::Address, "address of either end", |c, _| ends(c)),
    plain("fd.cip", Kind::Address, "the client's address", |c, _| Some(Value::Address(client(c)?.ip))),
    plain("fd.sip", Kind::Address, "the server's address", |c, _| Some(Value::Address(server(c)?.ip))),
    plain("fd.lip", Kind::Address, "address of this end", |c, _| Some(Value::Address(local(c)?.ip))),
    plain("fd.rip", Kind::Address, "address of the other end", |c, _| Some(Value::Address(remote(c)?.ip))),
    plain("fd.net", Kind::Network, "network of either end", |c, _| ends(c)),
    plain("fd.cnet", Kind::Network, "the client's network", |c, _| Some(Value::Address(client(c)?.ip))),
    plain("fd.snet", Kind::Network, "the server's network", |c, _| Some(Value::Address(server(c)?.ip))),
    plain("fd.lnet", Kind::Network, "network of this end", |c, _| Some(Value::Address(local(c)?.ip))),
    plain("fd.rnet", Kind::Network, "network of the other end", |c, _| Some(Value::Address(remote(c)?.ip))),
    plain("fd.port", Kind::Port, "port of either end", |c, _| ports(c)),
    plain("fd.cport", Kind::Port, "the client's port", |c, _| client(c).map(port)),
    plain("fd.sport", Kind::Port, "the server's port", |c, _| server(c).map(port)),
    plain("fd.lport", Kind::Port, "port of this end", |c, _| local(c).map(port)),
    plain("fd.rport", Kind::Port, "port of the other end", |c, _| remote(c).map(port)),
    plain("fd.proto", Kind::Port, "port of either end, as a service", |c, _| ports(c)),
    plain("fd.cproto", Kind::Text, "the client's port, as text", |c, _| client(c).map(port_text)),
    plain("fd.sproto", Kind::Text, "the server's port, as text", |c, _| server(c).map(port_text)),
    plain("fd.lproto", Kind::Text, "port of this end, as text", |c, _| local(c).map(port_text)),
    plain("fd.rproto", Kind::Text, "port of the other end, as text", |c, _| remote(c).map(port_text)),
    plain("fd.l4proto", Kind::Text, "tcp, udp, icmp, raw; <NA> for what is no IP socket", |c, _| {
        Some(Value::text(match View::there(c.event)?.socket.and_then(|socket| socket.protocol) {
            Some(TCP) => "tcp",
            Some(UDP) => "udp",
            Some(ICMP) => "icmp",
            Some(RAW) => "raw",
            _ => "<NA>",
        }))
    }),
    plain("fd.sockfamily", Kind::Text, "ip or unix", |c, _| match View::there(c.event)?.kind {
        DescriptorKind::Ipv4 | DescriptorKind::Ipv6 => Some(Value::text("ip")),
        DescriptorKind::Unix => Some(Value::text("unix")),
        _ => None,
    }),
    plain("fd.is_server", Kind::Boolean, "is this end the server's?", |c, _| {
        Some(Value::Boolean(socket(c).map_or(Some(false), |socket| socket.is_server)?))
    }),
    plain("fd.connected", Kind::Boolean, "is the socket connected? false for what is no socket", |c, _| {
        let view = View::there(c.event)?;
        Some(Value::Boolean(view.socket.map_or(Some(false), |socket| socket.is_connected)?))
    }),
    plain("fd.name_changed", Kind::Boolean, "did the event change the socket's other end?", |c, _| {
        let view = View::there(c.event)?;
        Some(Value::Boolean(view.socket.map_or(Some(false), |socket| socket.has_changed)?))
    }),
    plain("fd.cip.name", Kind::Text, "names known for the client's address", |c, _| names_of(c, client(c))),
    plain("fd.sip.name", Kind::Text, "names known for the server's address", |c, _| names_of(c, server(c))),
    plain("fd.lip.name", Kind::Text, "names known for this end's address", |c, _| names_of(c, local(c))),
    plain("fd.rip.name", Kind::Text, "names known for the other end's address", |c, _| names_of(c, remote(c))),
    plain("fd.uid", Kind::Text, "thread id and descriptor, one after the other", |c, _| {
        Some(Value::owned(format!("{}{}", c.event.tid, View::of(c.event)?.num?)))
    }),
    plain("fd.containername", Kind::Text, "container.id and fd.name", |c, _| {
        in_container(c, &View::of(c.event)?.name())
    }),
    plain("fd.containerdirectory", Kind::Text, "container.id and fd.directory", |c, _| {
        in_container(c, View::of(c.event)?.directory()?)
    }),
    plain("fd.dev", Kind::Number, "number of the device that holds the file", |c, _| {
        Some(Value::number(View::there(c.event)?.dev?))
    }),
    plain("fd.dev.major", Kind::Number, "the device's major number", |c, _| {
        Some(Value::number(device(View::there(c.event)?.dev?).0))
    }),
    plain("fd.dev.minor", Kind::Number, "the device's minor number", |c, _| {
        Some(Value::number(device(View::there(c.event)?.dev?).1))
    }),
    plain("fd.ino", Kind::Number, "the file's inode number", |c, _| Some(Value::number(View::there(c.event)?.ino?))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined() {
        assert_eq!(join(b"/home/ada/", b"../bob/./x//y"), b"/home/bob/x/y");
        assert_eq!(join(b"/home/", b"/etc/passwd"), b"/etc/passwd");
        assert_eq!(join(b"/", b"../.."), b"/");
    }

    #[test]
    fn ends_of_a_socket() {
        let address = |text: &str, port| Some(Address { ip: text.parse().unwrap(), port });
        let mut socket =
            Socket { client: address("10.0.0.1", 40_000), server: address("::1", 443), ..Socket::default() };
        assert_eq!(tuple(&socket), "10.0.0.1:40000->::1:443");
        socket.client = None;
        assert_eq!(tuple(&socket), "::1:443");
    }

    #[test]
    fn device_numbers() {
        assert_eq!(device(0x0801), (8, 1));
        assert_eq!(device(0x1030_0507), (0x05, 0x10307));
    }
}
