//! Fields of the event itself: `evt.*`, and the paths a call is about: `fs.path.*`.

use std::borrow::Cow;

use super::arguments::{self, Shown};
use super::constants::{self, ANY_EXECUTE, O_ACCMODE, O_CREAT, O_RDWR, O_TMPFILE_BIT, O_WRONLY};
use super::{FieldArgument, Kind, Supplied, Takes, Value, descriptor, plain, present};
use crate::engine::{Context, time};
use crate::event::{EventKind, Open, Param};

pub(super) static FIELDS: &[Supplied] = &[
    plain("evt.num", Kind::Number, "number of the event since the engine started, from 1", |c, _| {
        Some(Value::number(c.number))
    }),
    plain("evt.type", Kind::Text, "name of the event, such as open", |c, _| Some(Value::text(c.event.type_name()))),
    plain("syscall.type", Kind::Text, "name of the system call; absent for what is none", |c, _| {
        c.event.event_type().is_syscall().then(|| Value::text(c.event.type_name()))
    }),
    plain("evt.category", Kind::Text, "what the event is about: file, net, process, ...", |c, _| {
        Some(Value::text(category(c)))
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
        Some(Value::Text(arguments::all(c).into()))
    }),
    Supplied {
        name: "evt.arg",
        kind: Kind::Dynamic,
        takes: Takes::Required,
        doc: "a parameter of the event by name or number, as text",
        extract: |c, argument| Some(Value::Text(argument_of(c, argument)?.best())),
    },
    Supplied {
        name: "evt.rawarg",
        kind: Kind::Dynamic,
        takes: Takes::Required,
        doc: "a parameter of the event by name or number, as it is: numbers without names, paths as the program gave them",
        extract: |c, argument| Some(Value::Text(argument_of(c, argument)?.raw)),
    },
    plain("evt.buffer", Kind::Bytes, "the beginning of what was read, written, sent or received", |c, _| {
        present(data(c)?)
    }),
    plain("evt.buflen", Kind::Number, "bytes of evt.buffer", |c, _| Some(Value::Number(data(c)?.len() as i128))),
    plain("evt.is_io", Kind::Boolean, "does it read or write a descriptor?", |c, _| {
        Some(Value::Boolean(c.event.event_type().category().starts_with("io_")))
    }),
    plain("evt.is_io_read", Kind::Boolean, "does it read a descriptor?", |c, _| {
        Some(Value::Boolean(c.event.event_type().category() == "io_read"))
    }),
    plain("evt.is_io_write", Kind::Boolean, "does it write a descriptor?", |c, _| {
        Some(Value::Boolean(c.event.event_type().category() == "io_write"))
    }),
    plain("evt.io_dir", Kind::Text, "r for what reads, w for what writes", |c, _| {
        match c.event.event_type().category() {
            "io_read" => Some(Value::text("r")),
            "io_write" => Some(Value::text("w")),
            _ => None,
        }
    }),
    plain("evt.is_wait", Kind::Boolean, "does it wait for something?", |c, _| {
        Some(Value::Boolean(c.event.event_type().category() == "wait"))
    }),
    plain("evt.count.error", Kind::Number, "1 for a call that failed", |c, _| {
        (result(c)? < 0).then_some(Value::Number(1))
    }),
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
    plain("fs.path.name", Kind::Text, "full path that the call is about", |c, _| path(c, NAMES, true)),
    plain("fs.path.nameraw", Kind::Text, "the path as the program gave it", |c, _| path(c, NAMES, false)),
    plain("fs.path.source", Kind::Text, "full path that a call with two paths takes from", |c, _| {
        path(c, SOURCES, true)
    }),
    plain("fs.path.sourceraw", Kind::Text, "fs.path.source as the program gave it", |c, _| path(c, SOURCES, false)),
    plain("fs.path.target", Kind::Text, "full path that a call with two paths leads to", |c, _| path(c, TARGETS, true)),
    plain("fs.path.targetraw", Kind::Text, "fs.path.target as the program gave it", |c, _| path(c, TARGETS, false)),
];

/// Calls with one path, and the parameter that holds it.
const NAMES: &[(&str, &str)] = &[
    ("chmod", "filename"),
    ("chown", "path"),
    ("creat", "name"),
    ("fchmodat", "filename"),
    ("fchownat", "pathname"),
    ("lchown", "path"),
    ("mkdir", "path"),
    ("mkdirat", "path"),
    ("open", "name"),
    ("open_by_handle_at", "path"),
    ("openat", "name"),
    ("openat2", "name"),
    ("rmdir", "path"),
    ("umount", "name"),
    ("umount2", "name"),
    ("unlink", "path"),
    ("unlinkat", "name"),
];

/// Calls with two paths, and the parameter that holds the first.
const SOURCES: &[(&str, &str)] = &[
    ("link", "oldpath"),
    ("linkat", "oldpath"),
    ("mount", "dev"),
    ("rename", "oldpath"),
    ("renameat", "oldpath"),
    ("renameat2", "oldpath"),
    ("symlink", "target"),
    ("symlinkat", "target"),
];

/// Calls with two paths, and the parameter that holds the second.
const TARGETS: &[(&str, &str)] = &[
    ("link", "newpath"),
    ("linkat", "newpath"),
    ("mount", "dir"),
    ("rename", "newpath"),
    ("renameat", "newpath"),
    ("renameat2", "newpath"),
    ("symlink", "linkpath"),
    ("symlinkat", "linkpath"),
];

fn path<'a>(context: &Context<'a>, table: &[(&str, &str)], resolved: bool) -> Option<Value<'a>> {
    let name = context.event.type_name();
    let (_, parameter) = table.iter().find(|(call, _)| *call == name)?;
    let shown = arguments::by_name(context, parameter)?;
    Some(Value::Text(if resolved { shown.best() } else { shown.raw }))
}

fn category(context: &Context<'_>) -> &'static str {
    match context.event.event_type().category() {
        "io_read" | "io_write" | "io_other" => descriptor::category(context.event).unwrap_or("other"),
        "ipc" => "IPC",
        other => other,
    }
}

fn argument_of<'a>(context: &Context<'a>, argument: &FieldArgument) -> Option<Shown<'a>> {
    match argument {
        FieldArgument::Key(name) => arguments::by_name(context, name),
        FieldArgument::Index(place) => arguments::by_place(context, *place),
        FieldArgument::None => None,
    }
}

fn data<'a>(context: &Context<'a>) -> Option<&'a [u8]> {
    match &context.event.kind {
        EventKind::Call(call) => match call.param("data")? {
            Param::Text(bytes) => Some(bytes.as_bytes()),
            _ => None,
        },
        _ => None,
    }
}

fn open<'a>(context: &Context<'a>) -> Option<&'a Open> {
    match &context.event.kind {
        EventKind::Open(open) => Some(open),
        _ => None,
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
