use bytemuck::bytes_of;

use super::*;

const BOOT: u64 = 1_700_000_000_000_000_000;

fn context() -> Context {
    Context { boot_at_ns: BOOT, host_mnt_ns: 100, containerd_namespaces: vec!["default".into()] }
}

fn header(kind: Kind, flags: u32) -> Header {
    Header { kind: kind as u8, format: FORMAT, cpu: 3, flags, time_ns: 5_000, start_ns: 27_654_321, pid: 42, tid: 43 }
}

fn bytes(fixed: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    [&[fixed], parts].concat().concat()
}

fn exec_bytes(change: impl FnOnce(&mut abi::Exec), parts: [&[u8]; 5]) -> Vec<u8> {
    let mut raw = abi::Exec {
        header: header(Kind::Exec, 0),
        ppid: 7,
        uid: 1000,
        euid: 0,
        gid: 100,
        loginuid: u32::MAX,
        mnt_ns: 100,
        comm: *b"sh\0garbage\0\0\0\0\0\0",
        syscall: Syscall::Execveat as u8,
        name_len: parts[0].len() as u32,
        args_len: parts[1].len() as u32,
        exe_len: parts[2].len() as u32,
        cwd_len: parts[3].len() as u32,
        cgroup_len: parts[4].len() as u32,
        ..abi::Exec::default()
    };
    change(&mut raw);
    bytes(bytes_of(&raw), &parts)
}

fn exec_of(bytes: &[u8]) -> Exec {
    match decode(bytes, &context()).unwrap().kind {
        EventKind::Exec(exec) => *exec,
        other => panic!("{other:?}"),
    }
}

fn open_bytes(flags: u32, result: i64, name: &[u8], path: &[u8]) -> Vec<u8> {
    let raw = abi::Open {
        header: header(Kind::Open, flags),
        result,
        inode_mode: 0o100_644,
        flags: 0o100 | 0o1,
        file_flags: 0o2,
        mode: 0o600,
        syscall: Syscall::Openat2 as u8,
        name_len: name.len() as u32,
        path_len: path.len() as u32,
        ..abi::Open::default()
    };
    bytes(bytes_of(&raw), &[name, path])
}

fn open_of(bytes: &[u8]) -> Open {
    match decode(bytes, &context()).unwrap().kind {
        EventKind::Open(open) => *open,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_execution() {
    let parts: [&[u8]; 5] = [b"./run", b"sh\0-c\0\0x y\0", b"dash\0bin\0usr\0", b"tmp\0", b"a.scope\0user.slice\0"];
    let bytes = exec_bytes(|_| {}, parts);
    let event = decode(&bytes, &context()).unwrap();
    assert_eq!((event.time_ns, event.cpu, event.pid, event.tid), (BOOT + 5_000, 3, 42, 43));
    let exec = exec_of(&bytes);
    assert_eq!(exec.syscall, ExecSyscall::Execveat);
    let process = exec.process;
    assert_eq!((process.ppid, process.uid, process.gid, process.loginuid), (7, 1000, 100, None));
    assert_eq!(process.comm, Text::from("sh"));
    assert_eq!(process.exepath, Text::from("/usr/bin/dash"));
    assert_eq!(process.args, ["sh", "-c", "", "x y"].map(Text::from));
    assert!(!process.args_truncated);
    assert_eq!(process.cwd, Text::from("/tmp"));
    assert_eq!(process.cgroup, Text::from("/user.slice/a.scope"));
    assert_eq!((process.container, process.vpid), (None, None));
    assert_eq!(process.start_ns, 20_000_000, "cut to the clock tick, as /proc shows it");
    assert_eq!(process.started_at_ns, Some(BOOT + 27_654_321), "the wall-clock time is not cut");
}

#[test]
fn what_is_cut_says_so() {
    let flags = flag::ARGS_CUT | flag::EXE_CUT | flag::CWD_CUT;
    let parts: [&[u8]; 5] = [b"", b"sh\0long", b"x\0y\0", b"", b""];
    let process = exec_of(&exec_bytes(|raw| raw.header.flags = flags, parts)).process;
    assert!(process.args_truncated);
    assert_eq!(process.args, ["sh", "long"].map(Text::from));
    assert_eq!(process.exepath, Text::from(".../y/x"));
    assert_eq!(process.cwd, Text::from("..."));
    assert_eq!(process.cgroup, Text::from("/"));
}

#[test]
fn containers() {
    let id = "3f4a9c0b7d21e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e\0docker\0";
    let with = |cgroup: &[u8], mnt_ns: u32, level: u32| {
        let change = |raw: &mut abi::Exec| {
            raw.mnt_ns = mnt_ns;
            raw.pid_level = level;
            raw.vpid = 1;
        };
        exec_of(&exec_bytes(change, [b"", b"", b"", b"", cgroup])).process
    };
    assert_eq!(with(id.as_bytes(), 101, 1).container, Some(Text::from("3f4a9c0b7d21")));
    assert_eq!(with(id.as_bytes(), 101, 1).vpid, Some(1));
    assert_eq!(with(b"web\0default\0", 101, 1).container, Some(Text::from("web")));
    assert_eq!(with(b"web\0default\0", 100, 0).container, None, "the host's own mount namespace");
    assert_eq!(with(b"ssh.service\0system.slice\0", 101, 0).container, None);
}

#[test]
fn forks_and_exits() {
    let fork = abi::Fork {
        header: header(Kind::Fork, 0),
        child_start_ns: 39_999_999,
        child_pid: 50,
        child_ppid: 42,
        child_vpid: 1,
        child_level: 1,
    };
    let expected = Fork { child_pid: 50, child_start_ns: 30_000_000, child_vpid: Some(1), ..Fork::default() };
    assert_eq!(decode(bytes_of(&fork), &context()).unwrap().kind, EventKind::Fork(expected));
    let adopted = abi::Fork { child_ppid: 1, child_level: 0, ..fork };
    let expected = Fork { child_pid: 50, child_start_ns: 30_000_000, child_ppid: Some(1), ..Fork::default() };
    assert_eq!(decode(bytes_of(&adopted), &context()).unwrap().kind, EventKind::Fork(expected));

    let exit = |status| {
        let raw = abi::Exit { header: header(Kind::Exit, 0), status, reserved: 0 };
        decode(bytes_of(&raw), &context()).unwrap().kind
    };
    assert_eq!(exit(3 << 8), EventKind::Exit(Exit { code: 3, signal: None }));
    assert_eq!(exit(9), EventKind::Exit(Exit { code: 0, signal: Some(9) }));
    assert_eq!(exit(11 | 0x80), EventKind::Exit(Exit { code: 0, signal: Some(11) }), "with a core dump");
}

#[test]
fn an_opened_file() {
    let open = open_of(&open_bytes(0, 5, b"../link", b"shadow\0etc\0"));
    assert_eq!(open.syscall, OpenSyscall::Openat2);
    assert_eq!((open.name, open.nameraw), (Text::from("/etc/shadow"), Text::from("../link")));
    assert_eq!((open.result, open.mode, open.file_type), (5, 0o600, Some(FileType::Regular)));
    assert_eq!(open.flags, 0o100 | 0o2, "the access that the kernel granted, not what memory says now");
    assert_eq!(open_of(&open_bytes(flag::PATH_CUT, 5, b"x", b"x\0d\0")).name, Text::from(".../d/x"));
    assert_eq!(open_of(&open_bytes(0, 5, b"/", b"")).name, Text::from("/"));
}

#[test]
fn a_failed_open_is_joined_to_its_directory() {
    let name = |base: &[u8], name: &[u8]| open_of(&open_bytes(flag::PATH_IS_BASE, -2, name, base)).name.to_escaped();
    assert_eq!(name(b"me\0home\0", b"a/./b/../c"), "/home/me/a/c");
    assert_eq!(name(b"me\0home\0", b"../../../../etc//shadow"), "/etc/shadow");
    assert_eq!(name(b"me\0home\0", b"/etc/../x/"), "/x");
    assert_eq!(name(b"", b"x"), "/x");
    assert_eq!(name(b"", b".../../.../x"), "/.../x", "a directory may be named as what stands for a cut");
    assert_eq!(name(b"...\0", b".."), "/");
    assert_eq!(name(b"me\0home\0", b""), "");
    let open = open_of(&open_bytes(flag::PATH_IS_BASE, -2, b"x", b""));
    assert_eq!((open.result, open.flags), (-2, 0o100 | 0o1));
    let unreadable = open_of(&open_bytes(flag::PATH_IS_BASE | flag::NAME_UNREADABLE, -14, b"", b"tmp\0"));
    assert!(unreadable.name.is_empty());
    let cut = open_of(&open_bytes(flag::PATH_IS_BASE | flag::PATH_CUT, -2, b"../../../etc/x", b"d\0"));
    assert_eq!(cut.name, Text::from(".../etc/x"), "never above what is known");
}

#[test]
fn lengths_are_checked() {
    let good = open_bytes(0, 1, b"name", b"path\0");
    let long = [&good[..], b"x"].concat();
    let expected_len = good.len() as u64;
    let error = decode(&long, &context()).unwrap_err();
    assert_eq!(error, DecodeError::Length { parts: expected_len, len: long.len() });
    for len in 0..good.len() {
        assert!(decode(&good[..len], &context()).is_err(), "{len}");
    }
    let mut huge = good.clone();
    let name_len = std::mem::offset_of!(abi::Open, name_len);
    huge[name_len..name_len + 8].fill(0xff);
    assert!(matches!(decode(&huge, &context()), Err(DecodeError::Length { .. })));
}

#[test]
fn other_kinds_and_formats_are_refused() {
    let mut event = bytes_of(&abi::Exit { header: header(Kind::Exit, 0), ..abi::Exit::default() }).to_vec();
    event[0] = 4;
    assert_eq!(decode(&event, &context()), Err(DecodeError::Kind(4)));
    event[1] = FORMAT + 1;
    assert_eq!(decode(&event, &context()), Err(DecodeError::Format { expected: FORMAT, actual: FORMAT + 1 }));
}

/// Sound events with bytes changed, and noise: an event or an error, never a panic.
#[test]
fn hostile_bytes_never_panic() {
    let parts: [&[u8]; 5] = [b"n", b"a\0b\0", b"x\0", b"y\0", b"\0\0z"];
    let sound = [
        exec_bytes(|_| {}, parts),
        open_bytes(0, 1, b"name", b"path\0"),
        open_bytes(flag::PATH_IS_BASE | flag::PATH_CUT, -1, b"../..", b"path\0"),
        bytes_of(&abi::Fork { header: header(Kind::Fork, 0), ..abi::Fork::default() }).to_vec(),
    ];
    for event in &sound {
        assert!(decode(event, &context()).is_ok());
        for at in 0..event.len() {
            for value in [0, 1, 4, 0x2e, 0x2f, 0x7f, 0x80, 0xff] {
                let mut changed = event.clone();
                changed[at] = value;
                let _ = decode(&changed, &context());
            }
        }
    }
    // xorshift64: the same noise each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..20_000_usize {
        let mut noise: Vec<u8> = Vec::new();
        while noise.len() < round % 300 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend_from_slice(&state.to_le_bytes());
        }
        if let [kind, format, ..] = noise.as_mut_slice() {
            (*kind, *format) = (*kind % 4, FORMAT);
        }
        let _ = decode(&noise, &context());
    }
}
