//! A parameter's bytes as a value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cursor::{signed, unsigned};
use super::table::Kind;
use crate::event::{Address, Param, Text};

/// `AF_*` as Linux numbers them, and Falco after it.
pub(super) const AF_UNIX: u8 = 1;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// Two ends of a socket as an event has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ends {
    /// IP: where it comes from, where it goes to.
    Ip(Address, Address),
    /// Unix: the kernel's addresses of both ends, and a path.
    Unix(u64, u64, Text),
}

/// A parameter's value; `None` when it is absent.
pub(super) fn value(kind: Kind, event: &str, bytes: &[u8], is_big: bool) -> Option<Param> {
    if bytes.is_empty() {
        return None;
    }
    Some(match kind {
        Kind::Signed | Kind::Descriptor if bytes.len() <= 8 => Param::Signed(signed(bytes, is_big)),
        Kind::Unsigned if bytes.len() <= 8 => number(unsigned(bytes, is_big)),
        Kind::Signed | Kind::Descriptor | Kind::Unsigned | Kind::Bytes => Param::Text(bytes.into()),
        Kind::Chars => Param::Text(to_nul(bytes).into()),
        Kind::Texts => Param::Texts(texts(bytes)),
        Kind::Address => Param::Text(address_text(bytes, is_big)?),
        Kind::Tuple => Param::Text(tuple_text(&ends(bytes, is_big)?)),
        Kind::Descriptors => Param::Text(descriptors(bytes, is_big).into()),
        Kind::Dynamic => return dynamic(event, bytes, is_big),
        Kind::Ip => Param::Text(ip(bytes)?.to_string().into()),
    })
}

fn number(number: u64) -> Param {
    i64::try_from(number).map_or(Param::Unsigned(number), Param::Signed)
}

/// What stands before the first NUL.
pub(super) fn to_nul(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|byte| *byte == 0).map_or(bytes, |end| &bytes[..end])
}

/// Texts that each end with a NUL; the last one's may be missing.
pub(super) fn texts(bytes: &[u8]) -> Vec<Text> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() { Vec::new() } else { bytes.split(|byte| *byte == 0).map(Text::from).collect() }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// An address and a port, the port in the machine's byte order.
fn address(bytes: &[u8], is_big: bool) -> Option<Address> {
    let (address, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
    Some(Address { ip: ip(address)?, port: unsigned(port, is_big) as u16 })
}

/// The address that `bind` or `connect` was given, if it is an IP one.
pub(super) fn given(bytes: &[u8], is_big: bool) -> Option<Address> {
    match *bytes.first()? {
        AF_INET => address(bytes.get(1..7)?, is_big),
        AF_INET6 => address(bytes.get(1..19)?, is_big),
        _ => None,
    }
}

/// Both ends.
pub(super) fn ends(bytes: &[u8], is_big: bool) -> Option<Ends> {
    let rest = bytes.get(1..)?;
    match *bytes.first()? {
        AF_INET => Some(Ends::Ip(address(rest.get(..6)?, is_big)?, address(rest.get(6..12)?, is_big)?)),
        AF_INET6 => Some(Ends::Ip(address(rest.get(..18)?, is_big)?, address(rest.get(18..36)?, is_big)?)),
        AF_UNIX => Some(Ends::Unix(
            unsigned(rest.get(..8)?, is_big),
            unsigned(rest.get(8..16)?, is_big),
            to_nul(rest.get(16..)?).into(),
        )),
        _ => None,
    }
}

/// As Falco shows an end: `10.0.0.1:80`, `[2001:db8::1]:80` without the brackets.
pub(super) fn end_text(address: &Address) -> String {
    format!("{}:{}", mapped(address.ip), address.port)
}

/// An IPv4 address in an IPv6 socket is shown as what it is.
fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

fn address_text(bytes: &[u8], is_big: bool) -> Option<Text> {
    match *bytes.first()? {
        AF_UNIX => Some(to_nul(&bytes[1..]).into()),
        AF_INET | AF_INET6 => Some(end_text(&given(bytes, is_big)?).into()),
        family => Some(format!("family {family}").into()),
    }
}

/// `10.0.0.1:40000->10.0.0.2:80`; for a Unix socket both kernel addresses and the path.
pub(super) fn tuple_text(ends: &Ends) -> Text {
    match ends {
        Ends::Ip(source, destination) => format!("{}->{}", end_text(source), end_text(destination)).into(),
        Ends::Unix(source, destination, path) => {
            let mut text = format!("{source:x}->{destination:x}").into_bytes();
            if !path.is_empty() {
                text.push(b' ');
                text.extend_from_slice(path.as_bytes());
            }
            text.as_slice().into()
        }
    }
}

/// `3:1 4:4`: descriptors with the bits of what is waited for.
fn descriptors(bytes: &[u8], is_big: bool) -> String {
    let Some((count, list)) = bytes.split_at_checked(2) else { return String::new() };
    let count = unsigned(count, is_big) as usize;
    let shown = list.chunks_exact(10).take(count).map(|one| {
        let (descriptor, events) = one.split_at(8);
        format!("{}:{:x}", signed(descriptor, is_big), unsigned(events, is_big))
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// A byte that says what follows, by event.
fn dynamic(event: &str, bytes: &[u8], is_big: bool) -> Option<Param> {
    let (which, rest) = bytes.split_first()?;
    let as_text = match event {
        "setsockopt" | "getsockopt" => *which == 0,
        "ptrace" | "bpf" => false,
        _ => !matches!(rest.len(), 1 | 2 | 4 | 8),
    };
    if rest.is_empty() {
        None
    } else if as_text || rest.len() > 8 {
        Some(Param::Text(to_nul(rest).into()))
    } else if matches!((event, which), ("bpf", _) | ("setsockopt" | "getsockopt", 1)) {
        Some(Param::Signed(signed(rest, is_big)))
    } else {
        Some(number(unsigned(rest, is_big)))
    }
}

/// A number out of a value.
pub(super) fn as_i64(param: &Param) -> Option<i64> {
    match param {
        Param::Signed(number) => Some(*number),
        Param::Unsigned(number) => i64::try_from(*number).ok(),
        Param::Text(_) | Param::Path { .. } | Param::Texts(_) => None,
    }
}
