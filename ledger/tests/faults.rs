//! Faults of a real system: every system call of a writer that changes or opens something fails once, by strace; a file system that is
//! full, that becomes read-only under a running writer, and whose machine loses its power.
//!
//! The simulator (`src/writer/tests/simulator.rs`) tries far more schedules on a disk of its own; these tests show that the real one
//! answers as that one does. They need strace, and the file systems need root. Where something is missing the test says so; with
//! `CAIRN_REQUIRE_KERNEL=1` that is a failure.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cairn_ledger::dir::LedgerDir;
use cairn_ledger::files::{self, Readers};
use cairn_ledger::writer::{AppendError, Ledger, OpenError};
use cairn_schemas::ids::RecordIndex;

mod child;

use child::{Producer, Said, clock, command, signer};

/// Longest that a process whose calls fail may take; it must not hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// The calls that fail.
const CALLS: [&str; 9] = ["openat", "pwrite64", "write", "fsync", "fdatasync", "rename", "unlink", "rmdir", "mkdir"];

/// Says why a test cannot run here, or fails where it must.
fn missing(what: &str) -> bool {
    assert!(std::env::var_os("CAIRN_REQUIRE_KERNEL").is_none(), "needed here: {what}");
    println!("skipped: {what}");
    true
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A folder in memory where there is one: it is the errors that count here, not what survives.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") }).unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(runs("cp", &["-r", from.to_str().unwrap(), to.to_str().unwrap()]));
}

/// Runs this test as a process under strace; gives what it said.
fn traced(test: &str, dir: &Path, arguments: &[String], context: &str) -> Vec<String> {
    let own = command(test, dir);
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf"]).args(arguments).arg(own.get_program()).args(own.get_args());
    let mut child = strace
        .env(child::DIRECTORY, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{context}: it hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    reader.join().unwrap().lines().map(str::to_owned).collect()
}

/// For each call, the numbers that it had, thread by thread, where it was about the ledger.
fn calls_about(dir: &Path, trace: &str) -> BTreeSet<(&'static str, usize)> {
    let dir = dir.to_str().unwrap();
    let mut counted: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut about = BTreeSet::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let Some(call) = CALLS.iter().find(|call| rest.strip_prefix(**call).is_some_and(|rest| rest.starts_with('(')))
        else {
            continue;
        };
        let number = counted.entry((thread, call)).or_default();
        *number += 1;
        if rest.contains(dir) {
            about.insert((*call, *number));
        }
    }
    about
}

#[test]
fn every_call_fails_and_nothing_acknowledged_is_lost() {
    const TEST: &str = "every_call_fails_and_nothing_acknowledged_is_lost";
    if let Some(dir) = std::env::var_os(child::DIRECTORY) {
        return child::append_a_few(Path::new(&dir));
    }
    if !runs("strace", &["-o", "/dev/null", "true"]) && missing("strace, and leave to trace") {
        return;
    }
    let folder = scratch();
    // The tile of the first 256 records fills, and the one above it begins.
    let base = folder.path().join("base");
    child::create(&base, 250);
    let trace = folder.path().join("trace");
    let whole = folder.path().join("whole");
    copy(&base, &whole);
    let arguments =
        ["-yy", "-e", &format!("trace={}", CALLS.join(",")), "-o", trace.to_str().unwrap()].map(str::to_owned);
    let said = traced(TEST, &whole, &arguments, "without a fault");
    assert!(said.iter().any(|line| line == "closed"), "{said:?}");
    let calls = calls_about(&whole, &std::fs::read_to_string(&trace).unwrap());
    let of = |call: &str| calls.iter().filter(|(name, _)| *name == call).count();
    for call in ["openat", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "mkdir"] {
        assert!(of(call) > 0, "no {call} is seen: {calls:?}");
    }

    // Once each, and for every third as well from there on, as on a disk that is dead or read-only.
    let mut faults = Vec::new();
    for (number, (call, when)) in calls.iter().enumerate() {
        let lasting = ["EIO", "ENOSPC", "EROFS"][number / 3 % 3];
        faults.extend(["EIO", "ENOSPC"].map(|error| format!("{call}:error={error}:when={when}")));
        faults.extend((number % 3 == 0).then(|| format!("{call}:error={lasting}:when={when}+")));
    }
    let (next, noticed, unharmed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let dir = folder.path().join(fault);
                    copy(&base, &dir);
                    let arguments = ["-e", &format!("inject={fault}"), "-o", "/dev/null"].map(str::to_owned);
                    let outcome = std::panic::catch_unwind(|| {
                        let lines = traced(TEST, &dir, &arguments, fault);
                        let mut said = Said::default();
                        lines.iter().for_each(|line| said.hear(line));
                        said.check(&dir);
                        said.check_reopened(&dir, fault);
                        lines.iter().any(|line| line == "closed")
                    });
                    match outcome {
                        Ok(true) => unharmed.fetch_add(1, Ordering::Relaxed),
                        Ok(false) => noticed.fetch_add(1, Ordering::Relaxed),
                        Err(_) => {
                            failures.lock().unwrap().push(fault);
                            0
                        }
                    };
                    std::fs::remove_dir_all(&dir).unwrap();
                }
            });
        }
    });
    let (noticed, unharmed) = (noticed.into_inner(), unharmed.into_inner());
    println!("{} calls, {} faults: {noticed} ended the work, {unharmed} did not", calls.len(), faults.len());
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(noticed > faults.len() / 3, "most faults are noticed");
}

/// What is written beside a ledger, and a ledger's own folder, do not go through the disk that the simulator takes the place of: here it
/// is the order of the system calls that shows that each is synced.
#[test]
fn files_beside_a_ledger_and_its_folder_are_synced_in_order() {
    const TEST: &str = "files_beside_a_ledger_and_its_folder_are_synced_in_order";
    if let Some(dir) = std::env::var_os(child::DIRECTORY) {
        let dir = Path::new(&dir);
        files::create_folder(&dir.join("a/keys"), Readers::Owner).unwrap();
        files::replace(&dir.join("a/keys/one"), b"secret", Readers::Owner).unwrap();
        files::rename(&dir.join("a/keys/one"), &dir.join("a/two")).unwrap();
        child::create(&dir.join("b/ledger"), 6);
        return;
    }
    if !runs("strace", &["-o", "/dev/null", "true"]) && missing("strace, and leave to trace") {
        return;
    }
    let folder = scratch();
    let dir = folder.path().canonicalize().unwrap();
    let trace = dir.join("trace");
    let calls = "trace=mkdir,pwrite64,fsync,fdatasync,rename";
    let arguments = ["-yy", "-e", calls, "-o", trace.to_str().unwrap()].map(str::to_owned);
    traced(TEST, &dir, &arguments, "without a fault");
    let trace = std::fs::read_to_string(&trace).unwrap();
    let dir = dir.to_str().unwrap();
    let mut lines = trace.lines();
    // Each of these after the one before.
    for (call, path) in [
        ("mkdir", "/a\""),
        ("fsync", ">"),
        ("mkdir", "/a/keys\""),
        ("fsync", "/a>"),
        ("pwrite64", "/a/keys/one.tmp>"),
        ("fdatasync", "/a/keys/one.tmp>"),
        ("rename", "/a/keys/one.tmp\""),
        ("fsync", "/a/keys>"),
        ("rename", "/a/keys/one\""),
        ("fsync", "/a>"),
        ("fsync", "/a/keys>"),
        ("mkdir", "/b\""),
        ("fsync", ">"),
        ("mkdir", "/b/ledger\""),
        ("fsync", "/b>"),
    ] {
        let (call, path) = (format!("{call}("), format!("{dir}{path}"));
        assert!(
            lines.any(|line| line.contains(&call) && line.contains(&path)),
            "no {call} of {path} in its place:\n{trace}"
        );
    }
}

/// A file system of its own, unmounted in the end.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    fn point(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let point = self.point();
        std::fs::create_dir_all(&point).unwrap();
        runs("mount", &[arguments, &[point.to_str().unwrap()]].concat())
    }

    fn unmount(&self) {
        assert!(runs("umount", &[self.point().to_str().unwrap()]));
    }

    /// In memory, of so many MiB.
    fn in_memory(size: u32) -> Option<Mounted> {
        let mounted = Mounted { folder: tempfile::tempdir().unwrap() };
        let mounts = mounted.mount(&["-t", "tmpfs", "-o", &format!("size={size}m"), "none"]);
        (mounts || !missing("root, and leave to mount")).then_some(mounted)
    }

    /// An ext4 of 160 MiB in a file.
    fn ext4() -> Option<Mounted> {
        let mounted = Mounted { folder: tempfile::tempdir().unwrap() };
        let image = mounted.image();
        std::fs::File::create(&image).unwrap().set_len(160 << 20).unwrap();
        let mounts = runs("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]) && mounted.mount_ext4();
        (mounts || !missing("root, mkfs.ext4 and a loop device")).then_some(mounted)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount_ext4(&self) -> bool {
        self.mount(&["-o", "loop,errors=remount-ro", self.image().to_str().unwrap()])
    }

    /// `loop3`
    fn device(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let point = self.point();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == point.to_str()).unwrap();
        line.split(' ').next().unwrap().trim_start_matches("/dev/").to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = runs("umount", &["-l", self.point().to_str().unwrap()]);
    }
}

/// Appends the producer's next record, and notes what was promised.
fn append(ledger: &Ledger, producer: &mut Producer, said: &mut Said) -> Result<(), AppendError> {
    let sealed = producer.next();
    loop {
        match ledger.append(&producer.stream(), vec![sealed.bytes.clone()]) {
            Ok(appended) => {
                said.durable.insert(appended.index.0, sealed.leaf);
                return Ok(());
            }
            // It is tried again until it is taken, or until the caller's patience ends.
            Err(AppendError::Full { reason, taken: None }) if said.again > 0 => {
                said.again -= 1;
                assert!(!reason.is_empty());
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn a_full_file_system_refuses_and_goes_on_when_there_is_room() {
    let Some(mounted) = Mounted::in_memory(96) else { return };
    let dir = mounted.point().join("ledger");
    child::create(&dir, 250);
    let ledger = Ledger::open(&dir, signer(), clock()).unwrap();
    let mut said = Said::default();
    let mut producer = Producer::new(0);
    for _ in 0..20 {
        append(&ledger, &mut producer, &mut said).unwrap();
    }
    // Somebody else fills the disk to the last block.
    let ballast = mounted.point().join("ballast");
    assert!(!runs("dd", &["if=/dev/zero", &format!("of={}", ballast.display()), "bs=4096"]));
    let refused = loop {
        match append(&ledger, &mut producer, &mut said) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, AppendError::Full { .. }), "{refused}");
    assert!(refused.to_string().contains("takes no more"), "{refused}");
    // Reads go on: what is durable, published or not, and by whoever reads the directory.
    let last = *said.durable.last_key_value().unwrap().0;
    assert_eq!(ledger.read(RecordIndex(last), 1).unwrap().len(), 1);
    assert!(ledger.stopped().is_none());
    said.check(&dir);
    // The producer starts over from what the ledger has, and is taken when there is room.
    std::fs::remove_file(&ballast).unwrap();
    let mut producer = Producer::new(0);
    producer.resume(&ledger);
    said.again = 200;
    for _ in 0..20 {
        append(&ledger, &mut producer, &mut said).unwrap();
    }
    assert!(ledger.wait_published(ledger.size(), PATIENCE));
    ledger.close();
    said.check_reopened(&dir, "with room again");
    drop(ledger);
    mounted.unmount();
}

#[test]
fn a_file_system_that_becomes_read_only() {
    let Some(mounted) = Mounted::ext4() else { return };
    let dir = mounted.point().join("ledger");
    child::create(&dir, 250);
    let ledger = Ledger::open(&dir, signer(), clock()).unwrap();
    let mut said = Said::default();
    let mut producer = Producer::new(0);
    for _ in 0..20 {
        append(&ledger, &mut producer, &mut said).unwrap();
    }
    // Nobody can do that by hand while a writer has its log open; the kernel does it when it finds the file system damaged.
    let point = mounted.point();
    let point = point.to_str().unwrap();
    assert!(!runs("mount", &["-o", "remount,ro", point]), "the log is open for writing");
    std::fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", mounted.device()), "1").unwrap();
    let refused = (0..100).find_map(|_| append(&ledger, &mut producer, &mut said).err()).unwrap();
    assert!(matches!(&refused, AppendError::Full { .. } | AppendError::Stopped { .. }), "{refused}");
    let last = *said.durable.last_key_value().unwrap().0;
    assert_eq!(ledger.read(RecordIndex(last), 1).unwrap().len(), 1);
    LedgerDir::open(&dir).unwrap().checkpoint().unwrap();
    ledger.close();
    drop(ledger);
    mounted.unmount();
    assert!(mounted.mount_ext4());
    said.check_reopened(&dir, "writable again");

    // A ledger on a file system that is mounted read-only is read, and not opened.
    assert!(runs("mount", &["-o", "remount,ro", point]));
    said.check(&dir);
    let refused = Ledger::open(&dir, signer(), clock()).map(drop).unwrap_err();
    assert!(matches!(&refused, OpenError::Io { .. } | OpenError::Publish { .. } | OpenError::Wal(_)), "{refused}");
    assert!(runs("mount", &["-o", "remount,rw", point]));
    said.check_reopened(&dir, "at the end");
    mounted.unmount();
}

/// Ends the file system as a power cut does: what it has not written is lost (`EXT4_IOC_SHUTDOWN`, without a flush of its journal).
const POWER_CUT: &str = "import fcntl, os, struct, sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

#[test]
fn a_power_cut_of_a_real_file_system_loses_nothing_acknowledged() {
    const TEST: &str = "a_power_cut_of_a_real_file_system_loses_nothing_acknowledged";
    if let Some(dir) = std::env::var_os(child::DIRECTORY) {
        return child::append_until_killed(Path::new(&dir));
    }
    let Some(mounted) = Mounted::ext4() else { return };
    if !runs("python3", &["-c", "import fcntl"]) && missing("python3") {
        return;
    }
    let dir = mounted.point().join("ledger");
    child::create(&dir, 6);
    assert!(runs("sync", &[]));
    let mut said = Said::default();
    for round in 0..8 {
        let mut child = command(TEST, &dir).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref().take(30 + 61 * round) {
            said.hear(&line.unwrap());
        }
        assert!(runs("python3", &["-c", POWER_CUT, mounted.point().to_str().unwrap()]));
        child.kill().unwrap();
        // What was said before the power went, and what was on its way.
        lines.map_while(Result::ok).for_each(|line| said.hear(&line));
        child.wait().unwrap();
        mounted.unmount();
        assert!(mounted.mount_ext4());
        said.check(&dir);
        said.check_reopened(&dir, &format!("round {round}"));
    }
    println!("{} records acknowledged over 8 power cuts", said.durable.len());
    mounted.unmount();
}
