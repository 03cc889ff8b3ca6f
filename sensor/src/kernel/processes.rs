//! What ran before the programs were attached, read from `/proc`.
//!
//! A scan is not a moment: processes come and go during it. One that vanishes is left out; one that appears is also an
//! event, since the scan is made after attaching. What `/proc` shows of another process can be changed by that process
//! (its arguments, its name), as anywhere.

use std::fs;
use std::path::Path;

use cairn_rules::event::{Process, Text};

use super::TICK_NS;
use super::decode::{Context, container_of, split_args};

/// A process that was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Its pid, as the host numbers it.
    pub pid: u32,
    /// What is known of it.
    pub process: Process,
}

/// Every process in `proc` (normally `/proc`), in the order of their pids.
///
/// # Errors
/// Only if the folder itself cannot be read. A process that cannot be read (any more) is left out.
pub fn initial_processes(proc: &Path, context: &Context) -> std::io::Result<Vec<Seed>> {
    let mut pids: Vec<u32> =
        fs::read_dir(proc)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids.into_iter().filter_map(|pid| read_one(&proc.join(pid.to_string()), pid, context)).collect())
}

fn read_one(dir: &Path, pid: u32, context: &Context) -> Option<Seed> {
    let stat = parse_stat(&fs::read(dir.join("stat")).ok()?)?;
    let status = parse_status(&fs::read(dir.join("status")).ok()?)?;
    let args = fs::read(dir.join("cmdline")).unwrap_or_default();
    let is_cut = args.len() > cairn_sensor_abi::ARGS_LEN_MAX;
    let args = split_args(&args[..args.len().min(cairn_sensor_abi::ARGS_LEN_MAX)]);
    let loginuid = fs::read_to_string(dir.join("loginuid")).ok().and_then(|text| text.trim().parse().ok());
    let cgroup = parse_cgroup(&fs::read(dir.join("cgroup")).unwrap_or_default());
    let mnt_ns = namespace(&dir.join("ns/mnt"));
    let process = Process {
        ppid: stat.ppid,
        start_ns: stat.start_ns,
        started_at_ns: Some(stat.start_ns.saturating_add(context.boot_at_ns)),
        uid: status.uid,
        gid: status.gid,
        loginuid: loginuid.filter(|uid| *uid != u32::MAX),
        comm: stat.comm,
        exepath: link(&dir.join("exe")),
        args,
        args_truncated: is_cut,
        cwd: link(&dir.join("cwd")),
        tty: stat.tty,
        container: container_of(&cgroup, mnt_ns.unwrap_or(context.host_mnt_ns), context),
        cgroup: cgroup.into(),
        vpid: status.vpid,
        sid: Some(stat.sid),
        pgid: Some(stat.pgid),
        ..Process::default()
    };
    Some(Seed { pid, process })
}

/// Where a link of `/proc` leads, without the note that the file was deleted; empty if it leads nowhere.
fn link(path: &Path) -> Text {
    use std::os::unix::ffi::OsStringExt;
    let target = fs::read_link(path).map(|target| target.into_os_string().into_vec()).unwrap_or_default();
    Text::from(target.strip_suffix(b" (deleted)").unwrap_or(&target))
}

/// The inode number of a namespace from a link like `mnt:[4026531841]`.
pub(super) fn namespace(path: &Path) -> Option<u32> {
    let target = fs::read_link(path).ok()?;
    target.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

struct Stat {
    comm: Text,
    ppid: u32,
    pgid: u32,
    sid: u32,
    tty: u32,
    start_ns: u64,
}

/// `/proc/<pid>/stat`: `pid (comm) state ppid pgrp session tty_nr …`. The name may hold anything, brackets and blanks too,
/// so the last closing bracket ends it.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let rest = std::str::from_utf8(&bytes[close + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Fields after the name: state is 0, so field n of proc(5) is n - 3 here.
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
    let ticks: u64 = fields.get(22 - 3)?.parse().ok()?;
    Some(Stat {
        comm: Text::from(comm),
        ppid: u32::try_from(number(4)?).ok()?,
        // The kernel's own threads have a group and session of 0, and one that is being reaped has -1.
        pgid: u32::try_from(number(5)?).unwrap_or(0),
        sid: u32::try_from(number(6)?).unwrap_or(0),
        tty: number(7)? as u32,
        start_ns: ticks.saturating_mul(TICK_NS),
    })
}

struct Status {
    uid: u32,
    gid: u32,
    vpid: Option<u32>,
}

/// The lines of `/proc/<pid>/status` that matter: real ids, and the pid in each namespace, the outermost first.
fn parse_status(bytes: &[u8]) -> Option<Status> {
    let text = String::from_utf8_lossy(bytes);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::split_ascii_whitespace);
    let pids: Vec<&str> = field("NSpid:").map(Iterator::collect).unwrap_or_default();
    Some(Status {
        uid: field("Uid:")?.next()?.parse().ok()?,
        gid: field("Gid:")?.next()?.parse().ok()?,
        vpid: if pids.len() > 1 { pids.last().and_then(|pid| pid.parse().ok()) } else { None },
    })
}

/// The cgroup that tells most in `/proc/<pid>/cgroup`, by the same rule as the kernel programs: the unified hierarchy's
/// unless that is its root, else memory, pids, cpu.
fn parse_cgroup(bytes: &[u8]) -> Vec<u8> {
    // Each line: number ":" controllers ":" path. The path may hold colons.
    let lines: Vec<(&[u8], &[u8])> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut parts = line.splitn(3, |byte| *byte == b':');
            let (_number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some((controllers, path))
        })
        .collect();
    let path_of = |wanted: &[u8]| {
        let of = |controllers: &[u8]| {
            if wanted.is_empty() {
                controllers.is_empty()
            } else {
                controllers.split(|byte| *byte == b',').any(|controller| controller == wanted)
            }
        };
        lines.iter().find(|(controllers, path)| of(controllers) && *path != b"/").map(|(_, path)| path.to_vec())
    };
    let candidates: [&[u8]; 4] = [b"", b"memory", b"pids", b"cpu"];
    candidates.iter().find_map(|wanted| path_of(wanted)).unwrap_or_else(|| b"/".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks() {
        let line = b"42 (a) (b c) S 7 8 9 34816 8 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 100 200 rest";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.comm, Text::from("a) (b c"));
        assert_eq!((stat.ppid, stat.pgid, stat.sid, stat.tty), (7, 8, 9, 34816));
        assert_eq!(stat.start_ns, 123_450_000_000);
    }

    #[test]
    fn broken_files_are_left_out() {
        for broken in [&b""[..], b"1 (x", b")(", b"1 (x) S", b"1 (x) S a b c d e f g h i j k l m n o p q r s t u"] {
            assert!(parse_stat(broken).is_none());
        }
        assert!(parse_status(b"Name: x\nUid:\t0\n").is_none());
        assert!(parse_status(b"Uid:\tx\nGid:\t0\n").is_none());
    }

    #[test]
    fn the_pid_inside_is_the_last() {
        let status = parse_status(b"Uid:\t1000\t0\t0\t0\nGid:\t100\t0\t0\t0\nNSpid:\t4242\t17\t1\n").unwrap();
        assert_eq!((status.uid, status.gid, status.vpid), (1000, 100, Some(1)));
        let host = parse_status(b"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nNSpid:\t4242\n").unwrap();
        assert_eq!(host.vpid, None);
    }

    #[test]
    fn the_cgroup_that_tells_most() {
        assert_eq!(parse_cgroup(b"0::/user.slice/a:b\n"), b"/user.slice/a:b");
        let hybrid = b"9:name=systemd:/x\n4:memory:/docker/one\n2:cpu,cpuacct:/two\n0::/\n";
        assert_eq!(parse_cgroup(hybrid), b"/docker/one");
        assert_eq!(parse_cgroup(b"2:cpu,cpuacct:/two\n0::/\n"), b"/two");
        assert_eq!(parse_cgroup(b"0::/\n"), b"/");
        assert_eq!(parse_cgroup(b"garbage\n\n"), b"/");
    }

    #[test]
    fn this_process_is_found() {
        let seeds = initial_processes(Path::new("/proc"), &Context::default()).unwrap();
        let own = seeds.iter().find(|seed| seed.pid == std::process::id()).unwrap();
        assert_eq!(own.process.exepath, link(Path::new("/proc/self/exe")));
        assert!(!own.process.args.is_empty());
        assert_eq!(own.process.uid, rustix::process::getuid().as_raw());
        assert!(own.process.start_ns > 0 && own.process.start_ns.is_multiple_of(TICK_NS));
        assert!(seeds.iter().any(|seed| seed.pid == own.process.ppid), "the parent as well");
    }
}
