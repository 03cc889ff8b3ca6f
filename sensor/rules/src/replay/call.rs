//! Any call as a case writes it: `call: {type: connect, args: {...}, fd: {...}, result: 0}`.

use super::events::{mapping, number, path_below};
use crate::event::{
    Address, Call, Change, Descriptor, DescriptorKind, EventType, Param, ParamDoc, Process, Socket, Text,
};
use crate::fields::{constants, flags};
use crate::load::reader::Fields;
use crate::problem::Reporter;
use crate::suggest;
use crate::yaml::Node;

/// Keys of a call.
pub(super) const KEYS: [&str; 6] = ["type", "process", "result", "args", "fd", "change"];
const FD_KEYS: [&str; 12] =
    ["num", "type", "name", "raw", "dev", "ino", "protocol", "client", "server", "role", "connected", "changed"];
const CHANGE_KEYS: [&str; 9] = ["uid", "euid", "gid", "egid", "loginuid", "cwd", "sid", "pgid", "name"];

/// Reads a call that `process` made.
pub(super) fn call(fields: &Fields<'_>, process: &Process, reporter: &mut Reporter<'_>) -> Option<Call> {
    let name = fields.required("type", reporter)?.value;
    let Some(event_type) = EventType::by_name(&name) else {
        let hint = suggest::hint(&name, EventType::all().map(EventType::name));
        fields.wrong(fields.get("type")?, format!("`{name}` is no event type"), hint, reporter);
        return None;
    };
    let mut call = Call::new(event_type);
    if let Some(node) = fields.get("result") {
        call.result = Some(result(node, fields, reporter)?);
    } else if event_type.is_syscall() {
        call.result = Some(0);
    }
    if let Some(node) = fields.get("args") {
        let names: Vec<&str> = event_type.params().iter().map(|param| param.name).collect();
        let args = mapping(node, "`args`", &names, fields, reporter)?;
        for doc in event_type.params() {
            if let Some(node) = args.get(doc.name) {
                call.params.push((doc.name.to_owned(), param(doc, node, process, &args, reporter)?));
            }
        }
    }
    if let Some(node) = fields.get("fd") {
        let fd = mapping(node, "`fd`", &FD_KEYS, fields, reporter)?;
        call.descriptor = Some(Box::new(descriptor(&fd, process, reporter)?));
    }
    if let Some(node) = fields.get("change") {
        let change = mapping(node, "`change`", &CHANGE_KEYS, fields, reporter)?;
        call.change = Some(Box::new(self::change(&change, reporter)));
    }
    Some(call)
}

/// A number, or the name of an error.
fn result(node: &Node, fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<i64> {
    let text = node.text().unwrap_or_default();
    let error = constants::error_number(text).map(|number| -number);
    let result = text.parse().ok().or(error);
    if result.is_none() {
        let message = format!("`{text}` is neither a number nor the name of an error such as ENOENT");
        fields.wrong(node, message, None, reporter);
    }
    result
}

fn param(
    doc: &ParamDoc,
    node: &Node,
    process: &Process,
    fields: &Fields<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Param> {
    if let Some(nodes) = node.sequence() {
        let texts = nodes.iter().map(|node| Text::from_escaped(node.text().unwrap_or_default()));
        return Some(Param::Texts(texts.collect()));
    }
    let Some(text) = node.text() else {
        fields.wrong(node, format!("`{}` is a text or a number, not {}", doc.name, node.kind()), None, reporter);
        return None;
    };
    if matches!(doc.kind, "FSPATH" | "FSRELPATH") {
        let resolved = path_below(process, text);
        return Some(Param::Path { raw: Text::from_escaped(text), resolved: Text::from_escaped(&resolved) });
    }
    if matches!(doc.kind, "CHARBUF" | "BYTEBUF" | "SOCKADDR" | "SOCKTUPLE" | "SIGSET" | "FDLIST" | "DYN") {
        return Some(Param::Text(Text::from_escaped(text)));
    }
    let number = match (doc.kind, doc.flags) {
        ("ERRNO" | "FD", _) => constants::error_number(text).map(|number| -number),
        ("MODE", _) => i64::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|_| text.starts_with('0')),
        _ => None,
    };
    if let Some(number) = number.or_else(|| text.parse::<i64>().ok()) {
        return Some(Param::Signed(number));
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(Param::Unsigned(number));
    }
    let bits =
        doc.flags.and_then(|set| text.split('|').try_fold(0, |bits, name| Some(bits | flags::number(set, name)?)));
    if bits.is_none() {
        let message = format!("`{text}` is no value of `{}`, which is of type {}", doc.name, doc.kind);
        let hint = Some("write a number, or the names of its flags with | between them".to_owned());
        fields.wrong(node, message, hint, reporter);
    }
    bits.map(Param::Unsigned)
}

fn descriptor(fields: &Fields<'_>, process: &Process, reporter: &mut Reporter<'_>) -> Option<Descriptor> {
    let text = |key: &str, reporter: &mut Reporter<'_>| fields.scalar(key, reporter).map(|scalar| scalar.value);
    let num = match fields.get("num") {
        Some(node) => Some(result(node, fields, reporter)?),
        None => None,
    };
    let kind = match text("type", reporter) {
        Some(name) => match serde_json::from_value(name.to_lowercase().into()) {
            Ok(kind) => kind,
            Err(error) => {
                fields.wrong(
                    fields.get("type")?,
                    format!("`{name}` is no type of a descriptor: {error}"),
                    None,
                    reporter,
                );
                return None;
            }
        },
        None => DescriptorKind::File,
    };
    let raw = text("raw", reporter);
    let name = text("name", reporter).or_else(|| raw.clone()).unwrap_or_default();
    let is_path = matches!(kind, DescriptorKind::File | DescriptorKind::Directory) && !name.is_empty();
    let resolved = if is_path { path_below(process, &name) } else { name.clone() };
    let mut socket = Socket {
        protocol: match text("protocol", reporter).as_deref() {
            None => None,
            Some("tcp") => Some(6),
            Some("udp") => Some(17),
            Some("icmp") => Some(1),
            Some("raw") => Some(255),
            Some(other) => {
                let message = format!("`{other}` is none of tcp, udp, icmp, raw");
                fields.wrong(fields.get("protocol")?, message, None, reporter);
                return None;
            }
        },
        client: address("client", fields, reporter),
        server: address("server", fields, reporter),
        is_server: fields.has("role").then(|| text("role", reporter).as_deref() == Some("server")),
        ..Socket::default()
    };
    let is_socket = matches!(kind, DescriptorKind::Ipv4 | DescriptorKind::Ipv6 | DescriptorKind::Unix);
    if is_socket {
        socket.is_server = socket.is_server.or(Some(false));
        socket.is_connected = Some(fields.boolean("connected", false, reporter));
        socket.has_changed = Some(fields.boolean("changed", false, reporter));
    }
    Some(Descriptor {
        num,
        kind,
        name: Text::from_escaped(&resolved),
        nameraw: Text::from_escaped(raw.as_deref().unwrap_or(&name)),
        dev: number(fields, "dev", reporter).map(u64::from),
        ino: number(fields, "ino", reporter).map(u64::from),
        socket: is_socket.then_some(socket),
    })
}

/// `10.0.0.1:443`, `[::1]:443`, or an address alone.
fn address(key: &str, fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Address> {
    let node = fields.get(key)?;
    let text = node.text().unwrap_or_default();
    let with_port = text.parse::<std::net::SocketAddr>().ok().map(|it| Address { ip: it.ip(), port: it.port() });
    let address = with_port.or_else(|| Some(Address { ip: text.parse().ok()?, port: 0 }));
    if address.is_none() {
        let hint = Some("write `10.0.0.1:443` or `[::1]:443`".to_owned());
        fields.wrong(node, format!("`{text}` is no address with a port"), hint, reporter);
    }
    address
}

fn change(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Change {
    let text = |key: &str, reporter: &mut Reporter<'_>| {
        fields.scalar(key, reporter).map(|scalar| Text::from_escaped(&scalar.value))
    };
    Change {
        uid: number(fields, "uid", reporter),
        euid: number(fields, "euid", reporter),
        gid: number(fields, "gid", reporter),
        egid: number(fields, "egid", reporter),
        loginuid: number(fields, "loginuid", reporter),
        cwd: text("cwd", reporter),
        sid: number(fields, "sid", reporter),
        pgid: number(fields, "pgid", reporter),
        comm: text("name", reporter),
        ..Change::default()
    }
}
