//! Fields of the process that did it: `proc.*`, `thread.*`, `user.*`, `group.*`.

use std::borrow::Cow;

use super::{FieldArgument, Kind, Supplied, Value, flags, indexed, plain, present};
use crate::engine::{Context, Tracked};
use crate::event::Executable;

pub(super) static FIELDS: &[Supplied] = &[
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
    indexed(
        "proc.env",
        Kind::Text,
        "environment as NAME=value, a blank between; with a name: its value",
        |c, argument| environment(c.process?, argument),
    ),
    indexed(
        "proc.aenv",
        Kind::Text,
        "environments of all ancestors; with n: of the n-th; with a name: its values",
        |c, a| match a {
            FieldArgument::Index(index) => environment(c.ancestor(*index)?, &FieldArgument::None),
            _ => {
                let texts: Vec<Cow<'_, [u8]>> =
                    c.ancestors().filter_map(|it| environment(it, a)).map(|value| value.into_text()).collect();
                (!texts.is_empty()).then_some(Value::AnyText(texts))
            }
        },
    ),
    plain("proc.vpgid", Kind::Number, "process group id inside its namespace", |c, _| {
        Some(Value::number(c.process?.image.process.vpgid?))
    }),
    plain("proc.is_vpgid_leader", Kind::Boolean, "does it lead its process group, inside its namespace?", |c, _| {
        let process = c.process?;
        Some(Value::Boolean(process.image.process.vpgid? == process.vpid.unwrap_or(process.key.pid)))
    }),
    plain("proc.is_exe_writable", Kind::Boolean, "may the process write its own executable?", |c, _| {
        Some(Value::Boolean(executable(c)?.is_writable?))
    }),
    plain(
        "proc.is_exe_upper_layer",
        Kind::Boolean,
        "was the executable put into the container after it began?",
        |c, _| Some(Value::Boolean(executable(c)?.is_upper_layer?)),
    ),
    plain("proc.is_exe_lower_layer", Kind::Boolean, "does the executable come with the container's image?", |c, _| {
        Some(Value::Boolean(executable(c)?.is_lower_layer?))
    }),
    plain("proc.is_exe_from_memfd", Kind::Boolean, "is the executable a file without a name?", |c, _| {
        Some(Value::Boolean(executable(c)?.is_from_memfd?))
    }),
    plain("proc.exe_ino", Kind::Number, "the executable's inode number", |c, _| {
        Some(Value::number(executable(c)?.ino))
    }),
    plain(
        "proc.exe_ino.ctime",
        Kind::Number,
        "when the executable's inode changed, nanoseconds since the epoch",
        |c, _| Some(Value::number(executable(c)?.ctime_ns)),
    ),
    plain(
        "proc.exe_ino.mtime",
        Kind::Number,
        "when the executable's bytes changed, nanoseconds since the epoch",
        |c, _| Some(Value::number(executable(c)?.mtime_ns)),
    ),
    plain(
        "proc.exe_ino.ctime_duration_proc_start",
        Kind::Number,
        "nanoseconds from the executable's last change to the process' start",
        |c, _| {
            let changed = executable(c)?.ctime_ns;
            Some(Value::number(c.process?.started_at_ns?.checked_sub(changed)?))
        },
    ),
    plain("thread.cap_permitted", Kind::Text, "capabilities it may take up, a blank between", |c, _| {
        Some(Value::owned(flags::capabilities(c.process?.image.process.capabilities?.permitted)))
    }),
    plain(
        "thread.cap_inheritable",
        Kind::Text,
        "capabilities a program it executes may keep, a blank between",
        |c, _| Some(Value::owned(flags::capabilities(c.process?.image.process.capabilities?.inheritable))),
    ),
    plain("thread.cap_effective", Kind::Text, "capabilities it has, a blank between", |c, _| {
        Some(Value::owned(flags::capabilities(c.process?.image.process.capabilities?.effective)))
    }),
    // Users and groups. Names are the host's: inside a container only root's is sure.
    plain("user.uid", Kind::Number, "user id", |c, _| Some(Value::number(c.process?.image.process.uid))),
    plain("user.name", Kind::Text, "user name; inside a container only root's", |c, _| {
        user_name(c, c.process?.image.process.uid).map(Value::bytes)
    }),
    plain("user.loginuid", Kind::Number, "login user id; -1 when unset", |c, _| {
        Some(Value::Number(c.process?.image.process.loginuid.map_or(-1, i128::from)))
    }),
    plain("user.loginname", Kind::Text, "login user name", |c, _| {
        // A login happens on the host, whatever container the session entered later.
        host_user(c, c.process?.image.process.loginuid?).map(Value::bytes)
    }),
    plain("group.gid", Kind::Number, "group id", |c, _| Some(Value::number(c.process?.image.process.gid))),
    plain("group.name", Kind::Text, "group name; inside a container only root's", |c, _| {
        group_name(c, c.process?.image.process.gid).map(Value::bytes)
    }),
];

fn any_number<'a>(numbers: Vec<i128>) -> Option<Value<'a>> {
    (!numbers.is_empty()).then_some(Value::AnyNumber(numbers))
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

fn executable(context: &Context<'_>) -> Option<Executable> {
    context.process?.image.process.executable
}

/// All of an environment, or one variable's value.
fn environment<'a>(process: &'a Tracked, argument: &FieldArgument) -> Option<Value<'a>> {
    let env = &process.image.process.env;
    if env.is_empty() {
        return None;
    }
    match argument {
        FieldArgument::None => {
            let parts: Vec<&[u8]> = env.iter().map(|variable| variable.as_bytes()).collect();
            Some(Value::Text(parts.join(&b' ').into()))
        }
        FieldArgument::Key(name) => env.iter().find_map(|variable| {
            let value = variable.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(Value::bytes(value))
        }),
        FieldArgument::Index(_) => None,
    }
}

fn host_user<'a>(context: &Context<'a>, uid: u32) -> Option<&'a [u8]> {
    match (context.names.users.get(&uid), uid) {
        (Some(name), _) => Some(name.as_bytes()),
        (None, 0) => Some(b"root"),
        (None, _) => None,
    }
}

/// A user's name; inside a container only root's is sure.
pub(super) fn user_name<'a>(context: &Context<'a>, uid: u32) -> Option<&'a [u8]> {
    let is_contained = context.process?.image.process.container.is_some();
    match (uid, is_contained) {
        (0, true) => Some(b"root"),
        (_, true) => None,
        (_, false) => host_user(context, uid),
    }
}

/// A group's name; inside a container only root's is sure.
pub(super) fn group_name<'a>(context: &Context<'a>, gid: u32) -> Option<&'a [u8]> {
    let is_contained = context.process?.image.process.container.is_some();
    match (gid, is_contained) {
        (0, _) => Some(b"root"),
        (_, true) => None,
        (_, false) => context.names.groups.get(&gid).map(|name| name.as_bytes()),
    }
}
