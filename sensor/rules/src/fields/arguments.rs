//! Parameters of events: `evt.arg.NAME`, `evt.rawarg.NAME`, `evt.args`.
//!
//! A parameter is shown in two ways, as Falco has it: as it is (a number, a path as the program gave it), and resolved (the names of
//! its bits, the absolute path, what the descriptor stands for). `evt.arg` is the resolved one where there is one.

use std::borrow::Cow;

use super::descriptor::{self, View};
use super::{FieldArgument, Value, constants, flags};
use crate::engine::Context;
use crate::event::{EventKind, Param, ParamDoc, Text};

/// A parameter in both ways.
pub(super) struct Shown<'a> {
    pub(super) raw: Cow<'a, [u8]>,
    pub(super) resolved: Option<Cow<'a, [u8]>>,
}

impl<'a> Shown<'a> {
    fn raw(raw: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { raw: raw.into(), resolved: None }
    }

    fn number(number: impl ToString) -> Self {
        Self::raw(number.to_string().into_bytes())
    }

    fn resolved(self, resolved: impl Into<Cow<'a, [u8]>>) -> Self {
        let resolved = resolved.into();
        Self { resolved: (!resolved.is_empty()).then_some(resolved), ..self }
    }

    /// As `evt.arg` has it.
    pub(super) fn best(self) -> Cow<'a, [u8]> {
        self.resolved.unwrap_or(self.raw)
    }
}

/// What an empty parameter is shown as.
const ABSENT: &[u8] = b"<NA>";

/// What a parameter is, before it is shown.
enum Given<'a> {
    Signed(i64),
    Unsigned(u64),
    Text(&'a [u8]),
    Path {
        raw: &'a [u8],
        resolved: &'a [u8],
    },
    Texts(&'a [Text]),
    /// Bits as the kernel numbers them.
    OpenFlags(u32),
}

impl<'a> From<&'a Param> for Given<'a> {
    fn from(param: &'a Param) -> Self {
        match param {
            Param::Signed(number) => Self::Signed(*number),
            Param::Unsigned(number) => Self::Unsigned(*number),
            Param::Text(text) => Self::Text(text.as_bytes()),
            Param::Texts(texts) => Self::Texts(texts),
            Param::Path { raw, resolved } => Self::Path { raw: raw.as_bytes(), resolved: resolved.as_bytes() },
        }
    }
}

/// The parameters an event's type has, in Falco's order.
pub(super) fn documented(context: &Context<'_>) -> &'static [ParamDoc] {
    context.event.event_type().params()
}

/// A parameter by name; `None` where the event has none of that name, or it is not known.
pub(super) fn by_name<'a>(context: &Context<'a>, name: &str) -> Option<Shown<'a>> {
    let doc = documented(context).iter().find(|doc| doc.name == name || alias(name) == Some(doc.name))?;
    let given = given(context, doc.name)?;
    Some(show(context, doc, &given))
}

/// Names that a parameter has in older rules.
fn alias(name: &str) -> Option<&'static str> {
    match name {
        "exepath" => Some("trusted_exepath"),
        _ => None,
    }
}

/// A parameter by its place, from 0.
pub(super) fn by_place<'a>(context: &Context<'a>, place: usize) -> Option<Shown<'a>> {
    let doc = documented(context).get(place)?;
    Some(show(context, doc, &given(context, doc.name)?))
}

/// A parameter as outputs show `evt.rawarg`: numbers as the numbers they are, all else as in conditions.
pub(super) fn typed<'a>(context: &Context<'a>, argument: &FieldArgument) -> Option<Value<'a>> {
    let all = documented(context);
    let doc = match argument {
        FieldArgument::Key(name) => all.iter().find(|doc| doc.name == &**name || alias(name) == Some(doc.name)),
        FieldArgument::Index(place) => all.get(*place),
        FieldArgument::None => None,
    }?;
    Some(match given(context, doc.name)? {
        Given::Signed(number) => Value::Number(of_width(doc.kind, number)),
        Given::Unsigned(number) => Value::number(number),
        Given::OpenFlags(bits) => Value::number(constants::falco_open_flags(bits)),
        other => Value::Text(show(context, doc, &other).raw),
    })
}

/// A number as its parameter's type holds it: an id that is none, -1, is the largest there is.
fn of_width(kind: &str, number: i64) -> i128 {
    match kind {
        "UID" | "GID" | "UINT32" | "FLAGS32" | "ENUMFLAGS32" | "MODE" => (number as u32).into(),
        "UINT16" | "FLAGS16" | "ENUMFLAGS16" | "PORT" => (number as u16).into(),
        "UINT8" | "FLAGS8" | "ENUMFLAGS8" | "SIGTYPE" => (number as u8).into(),
        "UINT64" | "RELTIME" | "ABSTIME" => (number as u64).into(),
        _ => number.into(),
    }
}

/// All that are known, as `name=raw(resolved)`.
pub(super) fn all(context: &Context<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for doc in documented(context) {
        let Some(given) = given(context, doc.name) else { continue };
        let shown = show(context, doc, &given);
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(doc.name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(&shown.raw);
        if let Some(resolved) = shown.resolved {
            out.push(b'(');
            out.extend_from_slice(&resolved);
            out.push(b')');
        }
    }
    out
}

fn given<'a>(context: &Context<'a>, name: &str) -> Option<Given<'a>> {
    use Given::{OpenFlags, Path, Signed, Text, Texts, Unsigned};
    match &context.event.kind {
        EventKind::Call(call) => match (call.param(name), name) {
            (Some(param), _) => Some(param.into()),
            (None, "res") => call.result.map(Signed),
            _ => None,
        },
        EventKind::Open(open) => match name {
            "fd" => Some(Signed(open.result)),
            "name" => Some(Path { raw: open.nameraw.as_bytes(), resolved: open.name.as_bytes() }),
            "flags" => Some(OpenFlags(open.flags)),
            "mode" => Some(Unsigned(open.mode.into())),
            name => context.event.param(name).map(Given::from),
        },
        EventKind::Exec(exec) => {
            let process = &exec.process;
            let capabilities = process.capabilities;
            let executable = process.executable;
            match name {
                "res" => Some(Signed(0)),
                "exe" => Some(Text(process.args.first().map_or(&[], |first| first.as_bytes()))),
                "args" => Some(Texts(process.args.get(1..).unwrap_or_default())),
                "tid" => Some(Signed(context.event.tid.into())),
                "pid" => Some(Signed(context.event.pid.into())),
                "ptid" => Some(Signed(context.process?.ppid.into())),
                "cwd" => Some(Text(&context.process?.image.cwd)),
                "comm" => Some(Text(process.comm.as_bytes())),
                "cgroups" => Some(Text(process.cgroup.as_bytes())),
                "env" => (!process.env.is_empty()).then_some(Texts(&process.env)),
                "tty" => Some(Unsigned(process.tty.into())),
                "vpgid" => process.vpgid.map(|id| Signed(id.into())),
                "pgid" => process.pgid.map(|id| Signed(id.into())),
                "loginuid" => Some(Signed(process.loginuid.map_or(-1, i64::from))),
                "uid" => Some(Signed(process.uid.into())),
                "gid" => Some(Signed(process.gid.into())),
                "cap_inheritable" => capabilities.map(|it| Unsigned(it.inheritable)),
                "cap_permitted" => capabilities.map(|it| Unsigned(it.permitted)),
                "cap_effective" => capabilities.map(|it| Unsigned(it.effective)),
                "exe_ino" => executable.map(|it| Unsigned(it.ino)),
                "exe_ino_ctime" => executable.map(|it| Unsigned(it.ctime_ns)),
                "exe_ino_mtime" => executable.map(|it| Unsigned(it.mtime_ns)),
                "trusted_exepath" => Some(Text(process.exepath.as_bytes())),
                // As called: what the program was given as path is its first argument more often than not, so not guessed.
                name => context.event.param(name).map(Given::from),
            }
        }
        EventKind::Fork(fork) => match name {
            "res" => Some(Signed(fork.child_pid.into())),
            "flags" => fork.flags.map(|flags| Unsigned(flags.into())),
            _ => None,
        },
        EventKind::Exit(exit) => match name {
            "status" => Some(Signed(i64::from(exit.code) << 8 | i64::from(exit.signal.unwrap_or(0)))),
            "ret" => Some(Signed(exit.code.into())),
            "sig" => Some(Signed(exit.signal.unwrap_or(0).into())),
            _ => None,
        },
        EventKind::Document(_) => None,
    }
}

fn show<'a>(context: &Context<'a>, doc: &ParamDoc, given: &Given<'a>) -> Shown<'a> {
    match *given {
        Given::Signed(number) => show_number(context, doc, number, number as u64),
        Given::Unsigned(number) => show_number(context, doc, i64::try_from(number).unwrap_or(i64::MAX), number),
        Given::OpenFlags(bits) => {
            Shown::number(constants::falco_open_flags(bits)).resolved(constants::open_flags(bits).into_bytes())
        }
        // A parameter an event has, but empty, is `<NA>`, and equals that, as upstream's tests say.
        Given::Text([]) | Given::Path { raw: [], resolved: [] } => Shown::raw(ABSENT),
        Given::Text(text) if doc.kind == "FSPATH" && !text.starts_with(b"/") => {
            let cwd = context.process.map_or(&[][..], |process| &process.image.cwd);
            let absolute = if cwd.is_empty() { Vec::new() } else { descriptor::join(cwd, text) };
            Shown::raw(text).resolved(absolute)
        }
        Given::Text(text) if doc.kind == "BYTEBUF" => Shown::raw(printable(text)),
        Given::Text(text) => Shown::raw(text),
        Given::Path { raw, resolved } => Shown::raw(raw).resolved(resolved),
        Given::Texts([]) => Shown::raw(ABSENT),
        Given::Texts(texts) => {
            let parts: Vec<&[u8]> = texts.iter().map(Text::as_bytes).collect();
            Shown::raw(parts.join(&b' '))
        }
    }
}

fn show_number<'a>(context: &Context<'a>, doc: &ParamDoc, signed: i64, unsigned: u64) -> Shown<'a> {
    let error = || constants::result_name(signed).into_owned().into_bytes();
    match (doc.kind, doc.flags) {
        ("FD", _) if signed == AT_FDCWD => Shown::number(signed).resolved(&b"AT_FDCWD"[..]),
        ("FD", _) if signed < 0 => Shown::number(signed).resolved(error()),
        ("FD", _) => {
            let view = View::of(context.event).filter(|view| view.num == Some(signed));
            Shown::number(signed).resolved(view.map(|view| view.labelled()).unwrap_or_default())
        }
        ("ERRNO", _) if signed < 0 => Shown::number(signed).resolved(error()),
        ("PID", _) => {
            let process = u32::try_from(signed).ok().and_then(|pid| context.table.current(pid));
            let name = process.map_or(&[][..], |process| process.image.process.comm.as_bytes());
            Shown::number(signed).resolved(name)
        }
        ("UID", _) => {
            if signed < 0 || signed == i64::from(u32::MAX) {
                return Shown::number(-1).resolved(&b"<NONE>"[..]);
            }
            let name = u32::try_from(signed).ok().and_then(|uid| super::user_name(context, uid));
            Shown::number(signed).resolved(name.map_or(Cow::Borrowed(ABSENT), Cow::Borrowed))
        }
        ("GID", _) => {
            let name = u32::try_from(signed).ok().and_then(|gid| super::group_name(context, gid));
            Shown::number(signed).resolved(name.map_or(Cow::Borrowed(ABSENT), Cow::Borrowed))
        }
        ("SIGTYPE", _) => Shown::number(signed).resolved(flags::signal(signed).unwrap_or_default().as_bytes()),
        ("MODE", Some(set)) => Shown::raw(octal(unsigned)).resolved(flags::names(set, unsigned, false).into_bytes()),
        (kind, Some(set)) if kind.contains("FLAGS") => {
            Shown::number(unsigned).resolved(flags::names(set, unsigned, kind.starts_with("ENUM")).into_bytes())
        }
        ("UINT32", None) if doc.name == "mode" => Shown::raw(octal(unsigned)),
        _ if signed < 0 => Shown::number(signed),
        _ => Shown::number(unsigned),
    }
}

/// The descriptor that stands for the working directory.
const AT_FDCWD: i64 = -100;

fn octal(number: u64) -> Vec<u8> {
    constants::octal(u32::try_from(number).unwrap_or(u32::MAX)).into_bytes()
}

/// Bytes of a buffer as a line: what cannot be printed is a dot.
fn printable(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { *byte } else { b'.' }).collect()
}
