//! Forks, executions, exits.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_rules::event::{EventKind, ExecSyscall, Exit, Fork, Text};
use cairn_sensor::kernel::Options;

use crate::harness::{say, watch};

const NOBODY: u32 = 65_534;

/// An event and a look into /proc have to tell the same of one process: every field is compared.
#[test]
fn an_execution_is_told_as_proc_tells_it() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read line", "two words", "", "last"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (event, exec) = watch.exec(child.id(), "sh");
    let seeds = watch.kernel.initial_processes().unwrap();
    let seed = seeds.into_iter().find(|seed| seed.pid == child.id()).unwrap().process;
    child.stdin.take();
    child.wait().unwrap();

    let process = exec.process;
    assert_eq!(exec.syscall, ExecSyscall::Execve);
    assert_eq!((event.pid, event.tid), (child.id(), child.id()));
    assert_eq!(process.ppid, std::process::id());
    assert_eq!(process.args, ["/bin/sh", "-c", "read line", "two words", "", "last"].map(Text::from));
    assert_eq!(process.exepath, path_text(&fs::canonicalize("/bin/sh").unwrap()));
    assert_eq!(process.cwd, path_text(&fs::canonicalize(folder.path()).unwrap()));
    assert_eq!(process.uid, rustix::process::getuid().as_raw());
    let started_at_ns = process.started_at_ns.unwrap();
    assert!(started_at_ns <= event.time_ns, "made before it executed");
    assert!(seed.started_at_ns.unwrap().abs_diff(started_at_ns) < 3_600_000_000_000, "the same clock");
    let seed = cairn_rules::event::Process { started_at_ns: process.started_at_ns, ..seed };
    assert_eq!(process, seed);
}

#[test]
fn ancestry_forks_and_exits_in_order() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let mut child = Command::new("sh").args(["-c", "sh -c '/bin/true cairn-ancestry; exit 3'; :"]).spawn().unwrap();
    child.wait().unwrap();
    let (leaf, exec) = watch.exec_with(&["/bin/true", "cairn-ancestry"]);
    let (_, middle) = watch.exec(exec.process.ppid, "sh");
    assert_eq!(middle.process.ppid, child.id());
    assert_eq!(watch.exec(child.id(), "sh").1.process.ppid, std::process::id());

    let fork = watch.find("fork of the leaf", |event| match &event.kind {
        EventKind::Fork(fork) if fork.child_pid == leaf.pid => Some((event.clone(), fork.clone())),
        _ => None,
    });
    assert_eq!(fork.0.pid, exec.process.ppid);
    let expected = Fork {
        child_pid: leaf.pid,
        child_start_ns: exec.process.start_ns,
        child_vpid: exec.process.vpid,
        child_ppid: None,
        ..Fork::default()
    };
    assert_eq!(fork.1, expected, "the child's identity is the one it executes under");

    let exits = |pid: u32| {
        move |event: &cairn_rules::event::Event| match &event.kind {
            EventKind::Exit(exit) if event.pid == pid => Some(exit.clone()),
            _ => None,
        }
    };
    assert_eq!(watch.find("exit of the leaf", exits(leaf.pid)), Exit { code: 0, signal: None });
    assert_eq!(watch.find("exit of the middle", exits(exec.process.ppid)), Exit { code: 3, signal: None });

    let of_leaf: Vec<&str> = watch
        .seen
        .iter()
        .filter(|event| match &event.kind {
            EventKind::Fork(fork) => fork.child_pid == leaf.pid,
            EventKind::Open(_) => false,
            _ => event.pid == leaf.pid,
        })
        .map(|event| event.type_name())
        .collect();
    assert_eq!(of_leaf, ["clone", "execve", "procexit"]);
}

#[test]
fn a_process_ended_by_a_signal() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let mut child = Command::new("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
    watch.exec(child.id(), "sh");
    child.kill().unwrap();
    child.wait().unwrap();
    let exit = watch.find("exit", |event| match &event.kind {
        EventKind::Exit(exit) if event.pid == child.id() => Some(exit.clone()),
        _ => None,
    });
    assert_eq!(exit, Exit { code: 0, signal: Some(9) });
}

/// Threads come and go without an event; the process' exit is one, though its first thread may leave before others.
#[test]
fn threads_are_not_processes() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let before = std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get() as u32).join().unwrap();
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    watch.find("exit of a process made later", |event| {
        (event.pid == child.id() && matches!(event.kind, EventKind::Exit(_))).then_some(())
    });
    let of_thread = watch.seen.iter().any(|event| match &event.kind {
        EventKind::Fork(fork) => fork.child_pid == before,
        EventKind::Exit(_) => event.tid == before,
        _ => false,
    });
    assert!(!of_thread);
}

#[test]
fn another_user() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let mut child = Command::new("/bin/true").uid(NOBODY).gid(NOBODY).current_dir("/").spawn().unwrap();
    child.wait().unwrap();
    let (_, exec) = watch.exec(child.id(), "true");
    assert_eq!((exec.process.uid, exec.process.gid), (NOBODY, NOBODY));
}

/// For a script the executable is its interpreter, and the name is the script's.
#[test]
fn a_script() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("cairn-script");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = spawn_written(&script);
    child.wait().unwrap();
    let (_, exec) = watch.exec(child.id(), "cairn-script");
    assert_eq!(exec.process.exepath, path_text(&fs::canonicalize("/bin/sh").unwrap()));
    assert_eq!(exec.process.args, [Text::from("/bin/sh"), path_text(&script)]);
}

#[test]
fn arguments_at_the_limit_and_past_it() {
    let Some(mut watch) = watch(Options::default()) else { return };
    // "/bin/true", then one argument, each with its NUL.
    let whole = "x".repeat(cairn_sensor_abi::ARGS_LEN_MAX - "/bin/true".len() - 2);
    let longer = format!("{whole}y");
    let mut run = |argument: &str| {
        let mut child = Command::new("/bin/true").arg(argument).spawn().unwrap();
        child.wait().unwrap();
        watch.exec(child.id(), "true").1.process
    };
    let process = run(&whole);
    assert!(!process.args_truncated);
    assert_eq!(process.args, ["/bin/true", &whole].map(Text::from));
    let process = run(&longer);
    assert!(process.args_truncated);
    assert_eq!(process.args, ["/bin/true", &longer].map(Text::from), "only the last NUL was cut");
    let process = run(&"z".repeat(100_000));
    assert!(process.args_truncated);
    assert_eq!(process.args[1].len(), cairn_sensor_abi::ARGS_LEN_MAX - "/bin/true".len() - 1);
}

/// A program that never had a name in any directory.
#[test]
fn a_memory_file() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let file = rustix::fs::memfd_create("cairn-hidden", rustix::fs::MemfdFlags::empty()).unwrap();
    let mut file = fs::File::from(file);
    file.write_all(&fs::read("/bin/true").unwrap()).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let mut child = Command::new(&path).arg("cairn-memory-file").spawn().unwrap();
    child.wait().unwrap();
    let (_, exec) = watch.exec_with(&[&path, "cairn-memory-file"]);
    assert_eq!(exec.process.exepath, Text::from("/memfd:cairn-hidden"));
}

/// In a namespace of its own a process has another number there.
#[test]
fn a_pid_namespace() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount", "/bin/true", "cairn-namespace"])
        .status()
        .expect("unshare, of util-linux, is on every Linux");
    assert!(status.success());
    let (event, exec) = watch.exec_with(&["/bin/true", "cairn-namespace"]);
    assert_eq!(exec.process.vpid, Some(1));
    assert_ne!(event.pid, 1);
    assert_eq!(exec.process.container, None, "a namespace alone is no container");
}

/// The container's id is in the path of the cgroup that the process is in when it executes.
#[test]
fn a_container_by_its_cgroup() {
    let Some(mut watch) = watch(Options::default()) else { return };
    const ID: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
    let Some(cgroup) = Cgroup::create(&format!("cairn-test-{}", std::process::id()), ID) else {
        say("not tried: no cgroup can be made under /sys/fs/cgroup");
        return;
    };
    let mut child = Command::new("sh")
        .args(["-c", "read line; exec /bin/true cairn-container"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(cgroup.inner.join("cgroup.procs"), child.id().to_string()).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child.wait().unwrap();
    let (_, exec) = watch.exec_with(&["/bin/true", "cairn-container"]);
    assert_eq!(exec.process.container, Some(Text::from(&ID[..12])));
    let expected = format!("/cairn-test-{}/{ID}", std::process::id());
    assert!(exec.process.cgroup.to_lossy().ends_with(&expected), "{}", exec.process.cgroup);
}

/// A cgroup in a cgroup, removed at the end.
struct Cgroup {
    outer: PathBuf,
    inner: PathBuf,
}

impl Cgroup {
    /// In the unified hierarchy where there is one, else in the memory controller's.
    fn create(outer: &str, inner: &str) -> Option<Cgroup> {
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"].iter().find_map(|root| {
            let root = Path::new(root);
            let outer = root.join(outer);
            let inner = outer.join(inner);
            let is_cgroup = root.join("cgroup.procs").exists();
            (is_cgroup && fs::create_dir_all(&inner).is_ok()).then_some(Cgroup { outer, inner })
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.inner);
        let _ = fs::remove_dir(&self.outer);
    }
}

/// Runs a file that was just written. A process that another test makes at this moment holds a copy of its descriptor until
/// it executes, and a file that is open for writing cannot be run: try again.
fn spawn_written(path: &Path) -> std::process::Child {
    loop {
        match Command::new(path).spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            result => return result.expect("a program that was just written"),
        }
    }
}

fn path_text(path: &Path) -> Text {
    use std::os::unix::ffi::OsStrExt;
    Text::from(path.as_os_str().as_bytes())
}
