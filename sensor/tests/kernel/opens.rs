//! Opened files, and attempts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_rules::event::{FileType, Open, OpenSyscall};
use cairn_sensor::kernel::{OpenFilter, Options};
use rustix::fs::{Mode, OFlags};

#[cfg(target_arch = "x86_64")]
use crate::calls;
use crate::harness::{Watch, say, watch, with_self};

const ENOENT: i64 = -2;
const EACCES: i64 = -13;
const ENOTDIR: i64 = -20;

/// A folder whose path holds no link.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = fs::canonicalize(folder.path()).expect("it is there");
    (folder, path)
}

/// The open by this process with this name as passed.
fn open_of(watch: &mut Watch, nameraw: &Path) -> Open {
    let bytes = nameraw.as_os_str().as_encoded_bytes();
    watch.open(std::process::id(), &format!("open of {}", nameraw.display()), |open| open.nameraw.as_bytes() == bytes)
}

#[test]
fn links_and_relative_names_lead_to_the_file() {
    let Some(mut watch) = watch(with_self()) else { return };
    let (_guard, folder) = folder();
    fs::write(folder.join("secret"), "x").unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    symlink("../secret", folder.join("sub/innocent")).unwrap();
    symlink("sub", folder.join("other")).unwrap();
    let secret = folder.join("secret");

    fs::File::open(folder.join("sub/innocent")).unwrap();
    let open = open_of(&mut watch, &folder.join("sub/innocent"));
    assert_eq!(open.name.as_bytes(), secret.as_os_str().as_encoded_bytes());
    assert_eq!(open.file_type, Some(FileType::Regular));
    assert!(open.result >= 0);

    let dir = fs::File::open(folder.join("sub")).unwrap();
    assert_eq!(open_of(&mut watch, &folder.join("sub")).file_type, Some(FileType::Directory));
    let relative = Path::new("./../other/innocent");
    rustix::fs::openat(&dir, relative, OFlags::RDONLY, Mode::empty()).unwrap();
    let open = open_of(&mut watch, relative);
    assert_eq!(open.syscall, OpenSyscall::Openat);
    assert_eq!(open.name.as_bytes(), secret.as_os_str().as_encoded_bytes());

    // Two more ways to give a file another name.
    let detour = PathBuf::from(format!("/proc/self/root{}", secret.display()));
    fs::File::open(&detour).unwrap();
    assert_eq!(open_of(&mut watch, &detour).name.as_bytes(), secret.as_os_str().as_encoded_bytes());
}

/// A process that changed its root does not give files new names by that.
#[test]
fn a_changed_root_hides_nothing() {
    let Some(mut watch) = watch(Options::default()) else { return };
    let (_guard, folder) = folder();
    let path = folder.join("cairn-under-root");
    fs::write(&path, "x").unwrap();
    let root = folder.clone();
    let mut command = Command::new("true");
    // SAFETY: between fork and exec only async-signal-safe calls: chroot and open.
    unsafe {
        command.pre_exec(move || {
            rustix::process::chroot(&root)?;
            rustix::fs::open(c"/cairn-under-root", OFlags::RDONLY, Mode::empty())?;
            // There is no program to execute under the new root; what matters is done.
            Err(rustix::io::Errno::NOENT.into())
        });
    }
    assert!(command.spawn().is_err());
    let open = watch.find("open under the changed root", |event| match &event.kind {
        cairn_rules::event::EventKind::Open(open) if open.nameraw.as_bytes() == b"/cairn-under-root" => {
            Some(Open::clone(open))
        }
        _ => None,
    });
    assert_eq!(open.name.as_bytes(), path.as_os_str().as_encoded_bytes());
}

#[test]
fn mounts_are_crossed() {
    let Some(mut watch) = watch(with_self()) else { return };
    // /dev and /proc are mounts everywhere.
    fs::File::open("/dev/null").unwrap();
    let open = open_of(&mut watch, Path::new("/dev/null"));
    assert_eq!((open.name.as_bytes(), open.file_type), (&b"/dev/null"[..], Some(FileType::Char)));
    fs::File::open("/proc/self/status").unwrap();
    let open = open_of(&mut watch, Path::new("/proc/self/status"));
    assert_eq!(open.name.to_lossy(), format!("/proc/{}/status", std::process::id()));
    fs::File::open("/").unwrap();
    assert_eq!(open_of(&mut watch, Path::new("/")).name.as_bytes(), b"/");
}

#[test]
fn attempts_that_fail() {
    let Some(mut watch) = watch(with_self()) else { return };
    let (_guard, folder) = folder();
    let missing = folder.join("sub/../cairn-missing");
    fs::File::open(&missing).unwrap_err();
    let open = open_of(&mut watch, &missing);
    assert_eq!(open.result, ENOENT);
    assert_eq!(open.name.as_bytes(), folder.join("cairn-missing").as_os_str().as_encoded_bytes());
    assert_eq!(open.file_type, None);

    let dir = fs::File::open(&folder).unwrap();
    let relative = Path::new("cairn-missing-too");
    rustix::fs::openat(&dir, relative, OFlags::RDWR, Mode::empty()).unwrap_err();
    let open = open_of(&mut watch, relative);
    assert_eq!((open.result, open.flags & 3), (ENOENT, 2));
    assert_eq!(open.name.as_bytes(), folder.join(relative).as_os_str().as_encoded_bytes());

    let beyond = Path::new("/dev/null/cairn");
    fs::File::open(beyond).unwrap_err();
    assert_eq!(open_of(&mut watch, beyond).result, ENOTDIR);

    let secret = folder.join("cairn-secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new("cat");
    let mut child = child.arg(&secret).uid(65_534).gid(65_534).current_dir("/").spawn().unwrap();
    assert!(!child.wait().unwrap().success());
    let bytes = secret.as_os_str().as_encoded_bytes();
    let open = watch.open(child.id(), "refused open", |open| open.nameraw.as_bytes() == bytes);
    assert_eq!(open.result, EACCES);
}

#[test]
fn flags_and_mode_are_told() {
    let Some(mut watch) = watch(with_self()) else { return };
    let (_guard, folder) = folder();
    let path = folder.join("made");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::from_raw_mode(0o640)).unwrap();
    let open = open_of(&mut watch, &path);
    assert_eq!((open.flags & flags.bits(), open.mode), (flags.bits(), 0o640));
    assert_eq!(open.name.as_bytes(), path.as_os_str().as_encoded_bytes());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_call_that_opens() {
    use std::ffi::CString;
    let Some(mut watch) = watch(with_self()) else { return };
    let (_guard, folder) = folder();
    let c_path = |name: &str| CString::new(folder.join(name).as_os_str().as_encoded_bytes()).unwrap();

    assert!(calls::open(calls::CREAT, &c_path("one"), 0o604, 0) >= 0);
    let open = open_of(&mut watch, &folder.join("one"));
    assert_eq!((open.syscall, open.mode, open.flags), (OpenSyscall::Creat, 0o604, 0o1101));

    assert!(calls::open(calls::OPEN, &c_path("two"), 0o102, 0o611) >= 0);
    let open = open_of(&mut watch, &folder.join("two"));
    assert_eq!((open.syscall, open.mode, open.flags), (OpenSyscall::Open, 0o611, 0o102));

    assert!(calls::openat2(-100, &c_path("three"), 0o101, 0o622) >= 0);
    let open = open_of(&mut watch, &folder.join("three"));
    assert_eq!((open.syscall, open.mode, open.flags), (OpenSyscall::Openat2, 0o622, 0o101));
    assert_eq!(open.name.as_bytes(), folder.join("three").as_os_str().as_encoded_bytes());
}

/// A 32-bit program's calls have other numbers and other registers.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_call() {
    let Some(mut watch) = watch(with_self()) else { return };
    if !calls::has_compat() {
        say("not tried: this kernel is built without 32-bit calls (CONFIG_IA32_EMULATION)");
        return;
    }
    let (_guard, folder) = folder();
    let path = folder.join("from-the-past");
    fs::write(&path, "x").unwrap();
    let c_path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    assert!(calls::compat_open(&c_path, 0) >= 0);
    let bytes = path.as_os_str().as_encoded_bytes();
    let open =
        watch.open(std::process::id(), "32-bit open", |open| open.nameraw.as_bytes() == bytes && open.flags & 3 == 0);
    assert_eq!((open.syscall, open.name.as_bytes()), (OpenSyscall::Open, bytes));
    assert_eq!(calls::compat_open(c"/cairn/nowhere", 2), ENOENT as isize);
    let open = open_of(&mut watch, Path::new("/cairn/nowhere"));
    assert_eq!((open.result, open.flags & 3), (ENOENT, 2));
}

/// Every path is whole up to some depth, and cut past it; what is left of one that is cut is right, and not absolute. A path
/// takes one step for each component and for each mount it crosses, and how many of those there are depends on the machine.
#[test]
fn paths_at_the_depth_limit_and_past_it() {
    const MOUNTS_MAX: usize = 8;
    let limit = cairn_sensor_abi::PATH_DEPTH_MAX;
    let Some(mut watch) = watch(with_self()) else { return };
    let (_guard, mut path) = folder();
    let mut whole = Vec::new();
    while path.components().count() - 1 <= limit {
        path.push("d");
        fs::create_dir(&path).unwrap();
        fs::File::open(&path).unwrap();
        let name = open_of(&mut watch, &path).name;
        let bytes = path.as_os_str().as_encoded_bytes();
        whole.push(name.as_bytes() == bytes);
        if name.as_bytes() != bytes {
            assert!(name.as_bytes().starts_with(b".../"), "{name}");
            assert!(bytes.ends_with(&name.as_bytes()[3..]), "{name}");
            assert!(path.components().count() - 1 > limit - MOUNTS_MAX, "cut too early: {name}");
        }
    }
    assert_eq!(whole.last(), Some(&false), "past the limit");
    assert!(whole.is_sorted_by(|shallower, deeper| shallower >= deeper), "whole, then cut: {whole:?}");
}

#[test]
fn the_filter_decides_in_the_kernel() {
    let only_writes = OpenFilter { reads: false, writes: true, failed: false };
    let Some(mut watch) = watch(Options { open: only_writes, ..with_self() }) else { return };
    let (_guard, folder) = folder();
    let path = folder.join("file");
    fs::write(&path, "x").unwrap();
    fs::File::open(&path).unwrap();
    rustix::fs::open(folder.join("none"), OFlags::WRONLY, Mode::empty()).unwrap_err();
    fs::write(folder.join("last"), "x").unwrap();
    open_of(&mut watch, &folder.join("last"));
    let own: Vec<&Open> = watch
        .seen
        .iter()
        .filter_map(|event| match &event.kind {
            cairn_rules::event::EventKind::Open(open) => Some(&**open),
            _ => None,
        })
        .filter(|open| open.nameraw.as_bytes().starts_with(folder.as_os_str().as_encoded_bytes()))
        .collect();
    assert_eq!(own.len(), 2, "{own:?}");
    assert!(own.iter().all(|open| open.flags & 3 == 1 && open.result >= 0));

    watch.kernel.set_filter(OpenFilter::ALL).unwrap();
    fs::File::open(&path).unwrap();
    let bytes = path.as_os_str().as_encoded_bytes();
    watch.open(std::process::id(), "read after the change", |open| {
        open.nameraw.as_bytes() == bytes && open.flags & 3 == 0
    });
}

/// What the sensor itself opens would make more of the same.
#[test]
fn own_opens_are_left_out_when_asked() {
    let Some(mut watch) = watch(Options { without_self: true, ..Options::default() }) else { return };
    let (_guard, folder) = folder();
    let path = folder.join("own");
    fs::write(&path, "x").unwrap();
    let mut child = Command::new("cat").arg(&path).stdout(std::process::Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
    let bytes = path.as_os_str().as_encoded_bytes();
    watch.open(child.id(), "the child's open", |open| open.nameraw.as_bytes() == bytes);
    let own = watch.seen.iter().filter(|event| event.pid == std::process::id());
    assert!(own.filter(|event| matches!(event.kind, cairn_rules::event::EventKind::Open(_))).count() == 0);
}
