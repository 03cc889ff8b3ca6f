//! Names of descriptors and paths, as Falco makes them.

use super::super::limits::PATH_BYTES_MAX;
use super::values::{Ends, end_text, tuple_text};
use crate::event::{Address, Descriptor, DescriptorKind, Socket, Text};
use crate::fields;

/// `AT_FDCWD`, as Falco writes it.
pub(super) const AT_FDCWD: i64 = -100;

/// A path made absolute: `directory` before it unless it is already, `.` and `..` removed.
///
/// `None` when it is relative and the directory is not known, or when there is none, or it is too long.
pub(super) fn absolute(directory: Option<&[u8]>, path: &[u8]) -> Option<Text> {
    if path.is_empty() || path == b"<NA>" {
        return None;
    }
    let base: &[u8] = if path.starts_with(b"/") { b"" } else { directory.filter(|it| it.starts_with(b"/"))? };
    if base.len() + path.len() > PATH_BYTES_MAX {
        return None;
    }
    Some(fields::join_paths(base, path).as_slice().into())
}

/// What a socket is called: `10.0.0.1:40000->10.0.0.2:80`, or the server's end alone while nobody has come.
pub(super) fn socket_name(socket: &Socket) -> Text {
    match (&socket.client, &socket.server) {
        (Some(client), Some(server)) => format!("{}->{}", end_text(client), end_text(server)).into(),
        (None, Some(end)) | (Some(end), None) => end_text(end).into(),
        (None, None) => Text::default(),
    }
}

/// A socket that was just made.
pub(super) fn new_socket(domain: u64, kind: u64, protocol: u64) -> Descriptor {
    /// `SOCK_NONBLOCK` and `SOCK_CLOEXEC` stand above the type.
    const TYPE_MASK: u64 = 0xf;
    let (descriptor_kind, is_ip) = match domain {
        1 => (DescriptorKind::Unix, false),
        2 => (DescriptorKind::Ipv4, true),
        10 => (DescriptorKind::Ipv6, true),
        16 => (DescriptorKind::Netlink, false),
        _ => (DescriptorKind::Unknown, false),
    };
    let protocol = match (is_ip, protocol, kind & TYPE_MASK) {
        (false, ..) => None,
        (true, 0, 1) => Some(6),
        (true, 0, 2) => Some(17),
        (true, number, _) => u8::try_from(number).ok().filter(|number| *number != 0),
    };
    let socket =
        Socket { family: u16::try_from(domain).ok(), protocol, is_connected: Some(false), ..Socket::default() };
    Descriptor { kind: descriptor_kind, socket: Some(socket), ..Descriptor::default() }
}

/// Who speaks to whom, as a call says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// This process began it, or sends first: where it comes from is this side.
    Out,
    /// Somebody came to this process.
    In,
}

/// Both ends are known now. Roles that were known stay, as a later datagram does not change who began.
pub(super) fn set_ends(descriptor: &mut Descriptor, ends: &Ends, direction: Direction) {
    match ends {
        Ends::Ip(source, destination) => set_ip(descriptor, *source, *destination, direction),
        Ends::Unix(..) => {
            descriptor.kind = DescriptorKind::Unix;
            descriptor.name = tuple_text(ends);
            let socket = descriptor.socket.get_or_insert_default();
            socket.family = Some(1);
            socket.is_server.get_or_insert(direction == Direction::In);
        }
    }
}

fn set_ip(descriptor: &mut Descriptor, source: Address, destination: Address, direction: Direction) {
    let is_v4 = source.ip.is_ipv4();
    descriptor.kind = if is_v4 { DescriptorKind::Ipv4 } else { DescriptorKind::Ipv6 };
    let socket = descriptor.socket.get_or_insert_default();
    socket.family = Some(if is_v4 { 2 } else { 10 });
    let (local, remote) = match direction {
        Direction::Out => (source, destination),
        Direction::In => (destination, source),
    };
    let was_whole = socket.client.is_some() && socket.server.is_some();
    let is_server = if was_whole { socket.is_server.unwrap_or(false) } else { direction == Direction::In };
    let (client, server) = if is_server { (remote, local) } else { (local, remote) };
    let has_changed = was_whole && (socket.client, socket.server) != (Some(client), Some(server));
    (socket.client, socket.server) = (Some(client), Some(server));
    socket.is_server = Some(is_server);
    socket.has_changed = Some(has_changed);
    descriptor.name = socket_name(socket);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(directory: Option<&str>, path: &str) -> Option<String> {
        absolute(directory.map(str::as_bytes), path.as_bytes()).map(|text| text.to_lossy().into_owned())
    }

    #[test]
    fn paths_are_made_absolute_where_they_can() {
        assert_eq!(made(Some("/home/a"), "../b/./c").as_deref(), Some("/home/b/c"));
        assert_eq!(made(Some("/home/a/"), "x//y/").as_deref(), Some("/home/a/x/y"));
        assert_eq!(made(None, "/etc/../../passwd").as_deref(), Some("/passwd"));
        assert_eq!(made(Some("/"), "..").as_deref(), Some("/"));
        for (directory, path) in [(None, "x"), (Some("relative"), "x"), (Some("/a"), ""), (Some("/a"), "<NA>")] {
            assert_eq!(made(directory, path), None, "{directory:?} {path}");
        }
        let long = "x".repeat(PATH_BYTES_MAX - 1);
        assert!(made(Some("/"), &long).is_some());
        assert_eq!(made(Some("/a"), &long), None);
    }

    #[test]
    fn a_datagram_to_another_end_is_a_change_and_no_new_role() {
        let address = |last: u8, port| Address { ip: std::net::Ipv4Addr::new(10, 0, 0, last).into(), port };
        let mut socket = new_socket(2, 2 | 0x80000, 0);
        assert_eq!(socket.socket.as_ref().unwrap().protocol, Some(17));
        set_ends(&mut socket, &Ends::Ip(address(1, 5000), address(2, 53)), Direction::Out);
        assert_eq!(socket.name.to_lossy(), "10.0.0.1:5000->10.0.0.2:53");
        assert_eq!(socket.socket.as_ref().unwrap().has_changed, Some(false));
        // The answer comes from there: the same conversation.
        set_ends(&mut socket, &Ends::Ip(address(2, 53), address(1, 5000)), Direction::In);
        assert_eq!(socket.socket.as_ref().unwrap().has_changed, Some(false));
        set_ends(&mut socket, &Ends::Ip(address(1, 5000), address(3, 53)), Direction::Out);
        let now = socket.socket.unwrap();
        assert_eq!((now.has_changed, now.is_server, now.server), (Some(true), Some(false), Some(address(3, 53))));
    }
}
