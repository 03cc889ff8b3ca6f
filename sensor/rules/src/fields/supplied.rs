//! The fields this engine reads, each with what it is and how it is read. Adding one is adding an entry.

use std::borrow::Cow;

use super::constants::{self, ANY_EXECUTE, O_ACCMODE, O_CREAT, O_DIRECTORY, O_RDWR, O_TMPFILE_BIT, O_WRONLY};
use super::{Extract, FieldArgument, Kind, Supplied, Takes, Value};
use crate::engine::{Context, Tracked, time};
use crate::event::{EventKind, FileType, Open};

/// Shorthand: an entry without argument.
const fn plain(name: &'static str, kind: Kind, doc: &'static str, extract: Extract) -> Supplied {
    Supplied { name, kind, takes: Takes::Nothing, doc, extract }
}

/// Shorthand: an entry with an optional argument.
const fn indexed(name: &'static str, kind: Kind, doc: &'static str, extract: Extract) -> Supplied {
    Supplied { name, kind, takes: Takes::Optional, doc, extract }
}

/// Event arguments `evt.arg.NAME` that [`event_argument`] can give for some event.
const EVENT_ARGUMENTS: [&str; 23] = [
    "args",
    "cgroups",
    "comm",
    "cwd",
    "exe",
    "exepath",
    "fd",
    "filename",
    "flags",
    "gid",
    "loginuid",
    "mode",
    "name",
    "pgid",
    "pid",
    "ptid",
    "res",
    "ret",
    "sig",
    "status",
    "tid",
    "trusted_exepath",
    "tty",
];

pub(super) fn event_argument_is_supplied(name: &str) -> bool {
    EVENT_ARGUMENTS.contains(&name) || name == "uid"
}

pub(super) static FIELDS: &[Supplied] = &[
    // The event.
    plain("evt.num", Kind::Number, "number of the event since the engine started, from 1", |c, _| {
        Some(Value::number(c.number))
    }),
    plain("evt.type", Kind::Text, "name of the event, such as open", |c, _| Some(Value::text(c.event.type_name()))),
    plain("syscall.type", Kind::Text, "name of the system call; absent for what is none", |c, _| {
        c.event.event_type().is_syscall().then(|| Value::text(c.event.type_name()))
    }),
    plain("evt.category", Kind::Text, "what the event is about: file, net, process, ...", |c, _| {
        Some(Value::text(c.event.event_type().category()))
    }),
    plain("evt.cpu", Kind::Number, "number of the CPU it was seen on", |c, _| Some(Value::number(c.event.cpu))),
    plain("evt.dir", Kind::Text, "always <: events are seen when they end", |_, _| Some(Value::text("<"))),
    plain("evt.source", Kind::Text, "where the event comes from: syscall", |c, _| Some(Value::text(c.event.source()))),
    plain("evt.is_async", Kind::Boolean, "false: no event comes from outside the stream", |_, _| {
        Some(Value::Boolean(false))
    }),
    plain("evt.count", Kind::Number, "always 1", |_, _| Some(Value::number(1))),
    plain("evt.hostname", Kind::Text, "name of the machine", |c, _| c.names.hostname.as_deref().map(Value::text)),
    plain("evt.time", Kind::Text, "time of day in UTC with nanoseconds", |c, _| {
        Some(Value::owned(time::of_day(c.event.time_ns)))
    }),
    plain("evt.time.s", Kind::Text, "time of day in UTC, seconds", |c, _| {
        Some(Value::owned(&time::of_day(c.event.time_ns)[..8]))
    }),
    plain("evt.time.iso8601", Kind::Text, "date and time in UTC, ISO 8601", |c, _| {
        Some(Value::owned(time::iso8601(c.event.time_ns)))
    }),
    plain("evt.datetime", Kind::Text, "date and time in UTC with nanoseconds", |c, _| {
        Some(Value::owned(time::date_time(c.event.time_ns)))
    }),
    plain("evt.datetime.s", Kind::Text, "date and time in UTC, seconds", |c, _| {
        Some(Value::owned(&time::date_time(c.event.time_ns)[..19]))
    }),
    plain("evt.rawtime", Kind::Number, "nanoseconds since the epoch", |c, _| Some(Value::number(c.event.time_ns))),
    plain("evt.rawtime.s", Kind::Number, "seconds since the epoch", |c, _| {
        Some(Value::number(c.event.time_ns / time::SECOND_NS))
    }),
    plain("evt.rawtime.ns", Kind::Number, "nanoseconds of the second", |c, _| {
        Some(Value::number(c.event.time_ns % time::SECOND_NS))
    }),
    plain("evt.res", Kind::Text, "SUCCESS, or the name of the error", |c, _| {
        let name = constants::result_name(result(c)?);
        Some(Value::Text(match name {
            Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
            Cow::Owned(name) => Cow::Owned(name.into_bytes()),
        }))
    }),
    plain("evt.rawres", Kind::Number, "what the call returned, an error as a negative number", |c, _| {
        Some(Value::number(result(c)?))
    }),
    plain("evt.failed", Kind::Boolean, "did the call fail?", |c, _| Some(Value::Boolean(result(c)? < 0))),
    plain("evt.args", Kind::Text, "all arguments of the event as name=value", |c, _| {
        Some(Value::Text(all_arguments(c).into()))
    }),
    Supplied {
        name: "evt.arg",
        kind: Kind::Dynamic,
        takes: Takes::Required,
        doc: "an argument of the event by name or number, as text",
        extract: |c, argument| match argument {
            FieldArgument::Key(name) => event_argument(c, name),
            FieldArgument::Index(index) => arguments_of(c).get(*index).and_then(|name| event_argument(c, name)),
            FieldArgument::None => None,
        },
    },
    plain("evt.is_open_read", Kind::Boolean, "for opens: for reading?", |c, _| {
        Some(Value::Boolean(open(c)?.flags & O_ACCMODE != O_WRONLY))
    }),
    plain("evt.is_open_write", Kind::Boolean, "for opens: for writing?", |c, _| {
        Some(Value::Boolean(matches!(open(c)?.flags & O_ACCMODE, O_WRONLY | O_RDWR)))
    }),
    plain("evt.is_open_exec", Kind::Boolean, "for opens: is a file made that may be executed?", |c, _| {
        let open = open(c)?;
        let creates = open.flags & (O_CREAT | O_TMPFILE_BIT) != 0;
        Some(Value::Boolean(creates && open.mode & ANY_EXECUTE != 0))
    }),
    plain("evt.is_open_create", Kind::Boolean, "for opens: may it create the file?", |c, _| {
        Some(Value::Boolean(open(c)?.flags & (O_CREAT | O_TMPFILE_BIT) != 0))
    }),
    // The file.
    plain("fd.num", Kind::Number, "the descriptor; -1 when the open failed", |c, _| {
        Some(Value::number(open(c)?.result.max(-1)))
    }),
    plain("fd.type", Kind::Text, "file or directory", |c, _| {
        Some(Value::text(if is_directory(open(c)?) { "directory" } else { "file" }))
    }),
    plain("fd.typechar", Kind::Text, "f or d", |c, _| {
        Some(Value::text(if is_directory(open(c)?) { "d" } else { "f" }))
    }),
    plain("fd.name", Kind::Text, "full path of the file", |c, _| present(open(c)?.name.as_bytes())),
    plain("fd.nameraw", Kind::Text, "path as the program gave it", |c, _| present(open(c)?.nameraw.as_bytes())),
    plain("fd.directory", Kind::Text, "directory that holds the file; a directory itself", |c, _| {
        let open = open(c)?;
        let name = open.name.as_bytes();
        if is_directory(open) {
            return present(name);
        }
        present(match name.iter().rposition(|byte| *byte == b'/') {
            Some(0) | None => b"/",
            Some(slash) => &name[..slash],
        })
        .filter(|_| !name.is_empty())
    }),
    plain("fd.filename", Kind::Text, "name of the file without its directory; absent for a directory", |c, _| {
        let open = open(c)?;
        if is_directory(open) { None } else { present(last_component(open.name.as_bytes())) }
    }),
    plain("fs.path.name", Kind::Text, "for opens: full path of the file", |c, _| present(open(c)?.name.as_bytes())),
    plain("fs.path.nameraw", Kind::Text, "for opens: path as the program gave it", |c, _| {
        present(open(c)?.nameraw.as_bytes())
    }),
    // The process.
    plain("proc.pid", Kind::Number, "process id on the host", |c, _| Some(Value::number(c.event.pid))),
    plain("proc.vpid", Kind::Number, "process id inside its namespace", |c, _| {
        let process = c.process?;
        Some(Value::number(process.vpid.unwrap_or(process.key.pid)))
    }),
    plain("proc.ppid", Kind::Number, "process id of the parent that made it", |c, _| {
        Some(Value::number(c.process?.ppid))
    }),
    plain("proc.pvpid", Kind::Number, "the parent's process id inside its namespace", |c, _| {
        let parent = c.ancestor(1)?;
        Some(Value::number(parent.vpid.unwrap_or(parent.key.pid)))
    }),
    indexed("proc.apid", Kind::Number, "process id of the n-th ancestor; without n: of any", |c, argument| {
        match argument {
            FieldArgument::Index(index) => Some(Value::number(c.ancestor(*index)?.key.pid)),
            _ => any_number(c.ancestors().map(|it| i128::from(it.key.pid)).collect()),
        }
    }),
    plain("proc.name", Kind::Text, "name of the process, 15 bytes at most", |c, _| present(name(c.process?))),
    plain("proc.pname", Kind::Text, "the parent's proc.name", |c, _| present(name(c.ancestor(1)?))),
    indexed("proc.aname", Kind::Text, "proc.name of the n-th ancestor (0: itself); without n: of any", |c, a| {
        ancestor(c, a, name)
    }),
    plain("proc.sname", Kind::Text, "proc.name of the session's leader", |c, _| present(name(c.session_leader()?))),
    plain("proc.exe", Kind::Text, "first argument, as the program was called", |c, _| present(exe(c.process?))),
    plain("proc.pexe", Kind::Text, "the parent's proc.exe", |c, _| present(exe(c.ancestor(1)?))),
    indexed("proc.aexe", Kind::Text, "proc.exe of the n-th ancestor; without n: of any", |c, a| ancestor(c, a, exe)),
    plain("proc.sid.exe", Kind::Text, "proc.exe of the session's leader", |c, _| present(exe(c.session_leader()?))),
    plain("proc.exepath", Kind::Text, "path of the executable", |c, _| present(exepath(c.process?))),
    plain("proc.pexepath", Kind::Text, "the parent's proc.exepath", |c, _| present(exepath(c.ancestor(1)?))),
    indexed("proc.aexepath", Kind::Text, "proc.exepath of the n-th ancestor; without n: of any", |c, a| {
        ancestor(c, a, exepath)
    }),
    plain("proc.sid.exepath", Kind::Text, "proc.exepath of the session's leader", |c, _| {
        present(exepath(c.session_leader()?))
    }),
    indexed(
        "proc.args",
        Kind::Text,
        "arguments after the first, joined by blanks; with n: the n-th of them from 0",
        |c, argument| {
            let image = &c.process?.image;
            match argument {
                FieldArgument::Index(index) => Some(Value::bytes(image.process.args.get(index + 1)?.as_bytes())),
                _ => Some(Value::bytes(&image.args)),
            }
        },
    ),
    indexed("proc.aargs", Kind::Text, "proc.args of the n-th ancestor; without n: of any", |c, a| {
        ancestor(c, a, |it| &it.image.args)
    }),
    plain("proc.cmdline", Kind::Text, "proc.name and proc.args", |c, _| present(cmdline(c.process?))),
    plain("proc.pcmdline", Kind::Text, "the parent's proc.cmdline", |c, _| present(cmdline(c.ancestor(1)?))),
    indexed("proc.acmdline", Kind::Text, "proc.cmdline of the n-th ancestor; without n: of any", |c, a| {
        ancestor(c, a, cmdline)
    }),
    plain("proc.exeline", Kind::Text, "proc.exe and proc.args", |c, _| present(&c.process?.image.exeline)),
    plain("proc.cmdnargs", Kind::Number, "number of arguments after the first", |c, _| {
        Some(Value::Number(c.process?.image.process.args.len().saturating_sub(1) as i128))
    }),
    plain(
        "proc.cmdlenargs",
        Kind::Number,
        "bytes of all arguments after the first, without the blanks between",
        |c, _| {
            let args = c.process?.image.process.args.get(1..).unwrap_or(&[]);
            Some(Value::Number(args.iter().map(|argument| argument.len() as i128).sum()))
        },
    ),
    plain("proc.cwd", Kind::Text, "working directory, with a / at its end", |c, _| present(&c.process?.image.cwd)),
    plain("proc.tty", Kind::Number, "device number of the controlling terminal; 0 for none", |c, _| {
        Some(Value::number(c.process?.image.process.tty))
    }),
    plain("proc.sid", Kind::Number, "session id", |c, _| Some(Value::number(c.process?.image.process.sid?))),
    plain("proc.pgid", Kind::Number, "process group id", |c, _| Some(Value::number(c.process?.image.process.pgid?))),
    plain("proc.is_sid_leader", Kind::Boolean, "does it lead its session?", |c, _| {
        let process = c.process?;
        Some(Value::Boolean(process.image.process.sid? == process.key.pid))
    }),
    plain("proc.is_pgid_leader", Kind::Boolean, "does it lead its process group?", |c, _| {
        let process = c.process?;
        Some(Value::Boolean(process.image.process.pgid? == process.key.pid))
    }),
    plain("proc.pgid.name", Kind::Text, "proc.name of the process group's leader", |c, _| {
        present(name(c.group_leader()?))
    }),
    plain("proc.pgid.exe", Kind::Text, "proc.exe of the process group's leader", |c, _| {
        present(exe(c.group_leader()?))
    }),
    plain("proc.pgid.exepath", Kind::Text, "proc.exepath of the process group's leader", |c, _| {
        present(exepath(c.group_leader()?))
    }),
    plain("proc.duration", Kind::Number, "nanoseconds since the process started", |c, _| duration(c, c.process?)),
    plain("proc.ppid.duration", Kind::Number, "nanoseconds since the parent started", |c, _| {
        duration(c, c.ancestor(1)?)
    }),
    plain("proc.pid.ts", Kind::Number, "when the process started, nanoseconds since the epoch", |c, _| {
        Some(Value::number(c.process?.started_at_ns?))
    }),
    plain("proc.ppid.ts", Kind::Number, "when the parent started, nanoseconds since the epoch", |c, _| {
        Some(Value::number(c.ancestor(1)?.started_at_ns?))
    }),
    plain("thread.tid", Kind::Number, "thread id on the host", |c, _| Some(Value::number(c.event.tid))),
    plain("thread.ismain", Kind::Boolean, "is it the process' first thread?", |c, _| {
        Some(Value::Boolean(c.event.tid == c.event.pid))
    }),
    plain("thread.cgroups", Kind::Text, "path of the cgroup", |c, _| {
        present(c.process?.image.process.cgroup.as_bytes())
    }),
    // Users and groups. Names are the host's: inside a container only root's is sure.
    plain("user.uid", Kind::Number, "user id", |c, _| Some(Value::number(c.process?.image.process.uid))),
    plain("user.name", Kind::Text, "user name; inside a container only root's", |c, _| {
        user_name(c, c.process?.image.process.uid)
    }),
    plain("user.loginuid", Kind::Number, "login user id; -1 when unset", |c, _| {
        Some(Value::Number(c.process?.image.process.loginuid.map_or(-1, i128::from)))
    }),
    plain("user.loginname", Kind::Text, "login user name", |c, _| {
        // A login happens on the host, whatever container the session entered later.
        host_user(c, c.process?.image.process.loginuid?)
    }),
    plain("group.gid", Kind::Number, "group id", |c, _| Some(Value::number(c.process?.image.process.gid))),
    plain("group.name", Kind::Text, "group name; inside a container only root's", |c, _| {
        let process = &c.process?.image.process;
        match (process.gid, &process.container) {
            (0, _) => Some(Value::text("root")),
            (gid, None) => c.names.groups.get(&gid).map(|name| Value::text(name)),
            _ => None,
        }
    }),
    // The container.
    plain("container.id", Kind::Text, "first 12 digits of the container's id; host outside one", |c, _| {
        Some(match &c.process?.image.process.container {
            Some(id) => Value::bytes(id.as_bytes()),
            None => Value::text("host"),
        })
    }),
];

fn open<'a>(context: &Context<'a>) -> Option<&'a Open> {
    match &context.event.kind {
        EventKind::Open(open) => Some(open),
        _ => None,
    }
}

fn is_directory(open: &Open) -> bool {
    match open.file_type {
        Some(file_type) => file_type == FileType::Directory,
        // As Falco: a successful open that demands a directory opened one.
        None => open.flags & O_DIRECTORY != 0 && open.flags & O_TMPFILE_BIT == 0,
    }
}

fn result(context: &Context<'_>) -> Option<i64> {
    match &context.event.kind {
        EventKind::Open(open) => Some(open.result),
        EventKind::Exec(_) => Some(0),
        EventKind::Fork(fork) => Some(i64::from(fork.child_pid)),
        EventKind::Exit(_) | EventKind::Document(_) => None,
        EventKind::Call(call) => call.result,
    }
}

/// Text that is empty when not known.
fn present(text: &[u8]) -> Option<Value<'_>> {
    (!text.is_empty()).then(|| Value::bytes(text))
}

fn any_number<'a>(numbers: Vec<i128>) -> Option<Value<'a>> {
    (!numbers.is_empty()).then_some(Value::AnyNumber(numbers))
}

fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn name(process: &Tracked) -> &[u8] {
    process.image.process.comm.as_bytes()
}

fn exe(process: &Tracked) -> &[u8] {
    process.image.process.args.first().map_or(&[], |first| first.as_bytes())
}

fn exepath(process: &Tracked) -> &[u8] {
    process.image.process.exepath.as_bytes()
}

fn cmdline(process: &Tracked) -> &[u8] {
    &process.image.cmdline
}

/// A text of the n-th ancestor, or of any.
fn ancestor<'a>(context: &Context<'a>, argument: &FieldArgument, read: fn(&Tracked) -> &[u8]) -> Option<Value<'a>> {
    if let FieldArgument::Index(index) = argument {
        return present(read(context.ancestor(*index)?));
    }
    let texts: Vec<Cow<'a, [u8]>> =
        context.ancestors().map(read).filter(|text| !text.is_empty()).map(Cow::Borrowed).collect();
    (!texts.is_empty()).then_some(Value::AnyText(texts))
}

fn duration<'a>(context: &Context<'_>, process: &Tracked) -> Option<Value<'a>> {
    Some(Value::number(context.event.time_ns.saturating_sub(process.started_at_ns?)))
}

fn host_user<'a>(context: &Context<'a>, uid: u32) -> Option<Value<'a>> {
    match (context.names.users.get(&uid), uid) {
        (Some(name), _) => Some(Value::text(name)),
        (None, 0) => Some(Value::text("root")),
        (None, _) => None,
    }
}

fn user_name<'a>(context: &Context<'a>, uid: u32) -> Option<Value<'a>> {
    let is_contained = context.process?.image.process.container.is_some();
    match (uid, is_contained) {
        (0, true) => Some(Value::text("root")),
        (_, true) => None,
        (_, false) => host_user(context, uid),
    }
}

/// The arguments an event has, in Falco's order.
fn arguments_of(context: &Context<'_>) -> &'static [&'static str] {
    match &context.event.kind {
        EventKind::Open(_) => &["fd", "name", "flags", "mode"],
        EventKind::Exec(_) => &[
            "res",
            "exe",
            "args",
            "tid",
            "pid",
            "ptid",
            "cwd",
            "comm",
            "cgroups",
            "tty",
            "loginuid",
            "uid",
            "trusted_exepath",
            "pgid",
            "gid",
        ],
        EventKind::Fork(_) => &["res"],
        EventKind::Exit(_) => &["status", "ret", "sig"],
        EventKind::Call(_) | EventKind::Document(_) => &[],
    }
}

/// One argument as text. An argument an event has, but empty, is `<NA>`, and equals that, as upstream's tests say.
fn event_argument<'a>(context: &Context<'a>, name: &str) -> Option<Value<'a>> {
    let text = |bytes: &'a [u8]| Some(present(bytes).unwrap_or(Value::text("<NA>")));
    let number = |number: i64| Some(Value::owned(number.to_string()));
    match &context.event.kind {
        EventKind::Open(open) => match name {
            "fd" => number(open.result),
            "name" | "filename" => text(open.name.as_bytes()),
            "flags" => Some(Value::owned(constants::open_flags(open.flags))),
            "mode" => Some(Value::owned(constants::octal(open.mode))),
            _ => None,
        },
        EventKind::Exec(exec) => {
            let process = &exec.process;
            match name {
                "res" => number(0),
                "exe" => text(process.args.first().map_or(&[], |first| first.as_bytes())),
                "args" => text(&context.process?.image.args),
                "tid" => number(i64::from(context.event.tid)),
                "pid" => number(i64::from(context.event.pid)),
                "ptid" => number(i64::from(context.process?.ppid)),
                "cwd" => text(&context.process?.image.cwd),
                "comm" => text(process.comm.as_bytes()),
                "cgroups" => text(process.cgroup.as_bytes()),
                "tty" => number(i64::from(process.tty)),
                "loginuid" => number(process.loginuid.map_or(-1, i64::from)),
                "uid" => Some(user_name(context, process.uid).unwrap_or_else(|| Value::owned(process.uid.to_string()))),
                "gid" => number(i64::from(process.gid)),
                "pgid" => number(i64::from(process.pgid?)),
                "trusted_exepath" | "exepath" => text(process.exepath.as_bytes()),
                // As called: what the program was given as path is its first argument more often than not, so not guessed.
                _ => None,
            }
        }
        EventKind::Fork(fork) => match name {
            "res" => number(i64::from(fork.child_pid)),
            _ => None,
        },
        EventKind::Exit(exit) => match name {
            "status" => number(i64::from(exit.code) << 8 | i64::from(exit.signal.unwrap_or(0))),
            "ret" => number(i64::from(exit.code)),
            "sig" => number(i64::from(exit.signal.unwrap_or(0))),
            _ => None,
        },
        EventKind::Call(_) | EventKind::Document(_) => None,
    }
}

fn all_arguments(context: &Context<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for name in arguments_of(context) {
        let Some(value) = event_argument(context, name) else { continue };
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(&value.as_text());
    }
    out
}
