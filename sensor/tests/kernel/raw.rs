//! What events carry beyond what rules ask for today, as the kernel programs write it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use cairn_sensor::kernel::{Kind, Options};
use cairn_sensor_abi::{Exec, Header, flag};

use crate::harness::{Watch, watch};

/// Polls before an event is given up.
const POLLS_MAX: usize = 300;

/// The running programs, and every execution so far with its arguments.
struct RawWatch {
    watch: Watch,
    seen: Vec<(Vec<u8>, Exec)>,
}

impl RawWatch {
    fn start() -> Option<RawWatch> {
        Some(RawWatch { watch: watch(Options::default())?, seen: Vec::new() })
    }

    /// The execution whose arguments, each with its NUL, are these.
    fn exec_with(&mut self, args: &str) -> Exec {
        for _ in 0..POLLS_MAX {
            if let Some((_, exec)) = self.seen.iter().find(|(found, _)| found == args.as_bytes()) {
                return *exec;
            }
            let seen = &mut self.seen;
            let take = |bytes: &[u8], _: &_| seen.extend(exec_in(bytes));
            self.watch.kernel.poll_raw(Duration::from_millis(100), take).expect("the ring can be read");
        }
        panic!("no execution of {args:?}");
    }
}

/// The arguments and the fixed part, if these bytes are an execution.
fn exec_in(bytes: &[u8]) -> Option<(Vec<u8>, Exec)> {
    let header: Header = bytemuck::pod_read_unaligned(&bytes[..size_of::<Header>()]);
    if header.kind != Kind::Exec as u8 {
        return None;
    }
    let exec: Exec = bytemuck::pod_read_unaligned(&bytes[..size_of::<Exec>()]);
    let start = size_of::<Exec>() + exec.name_len as usize;
    Some((bytes[start..start + exec.args_len as usize].to_vec(), exec))
}

#[test]
fn credentials_capabilities_and_the_executable() {
    let Some(mut watch) = RawWatch::start() else { return };
    let status = Command::new("true").arg("cairn-raw").status().unwrap();
    assert!(status.success());
    let exec = watch.exec_with("true\0cairn-raw\0");
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = |name: &str| {
        let hex = own.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(hex.trim(), 16).unwrap()
    };
    assert_eq!(exec.cap_effective, capabilities("CapEff:"));
    assert_eq!(exec.cap_permitted, capabilities("CapPrm:"));
    assert_eq!(exec.cap_inheritable, capabilities("CapInh:"));
    assert_eq!(exec.euid, rustix::process::geteuid().as_raw());
    assert_eq!(exec.egid, rustix::process::getegid().as_raw());
    assert_eq!(exec.old_tid, exec.header.pid);
    assert_eq!((exec.pid_level, exec.vpid), (0, exec.header.pid));
    assert_eq!(exec.vpgid, exec.pgid);

    let file = fs::metadata(fs::canonicalize("/bin/true").unwrap()).unwrap();
    assert_eq!(exec.exe_ino, file.ino());
    assert_eq!(exec.exe_mtime_ns, (file.mtime() * 1_000_000_000 + file.mtime_nsec()) as u64);
    assert_eq!(exec.exe_ctime_ns, (file.ctime() * 1_000_000_000 + file.ctime_nsec()) as u64);
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    assert_eq!(exec.exe_dev, major << 20 | minor);
    let namespace = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(namespace.to_str(), Some(format!("mnt:[{}]", exec.mnt_ns).as_str()));
    assert_eq!(exec.header.flags & (flag::EXE_UPPER_LAYER | flag::EXE_UNLINKED), 0);
}

/// A program that came with the image lies in an overlay's lower layer; one that was dropped later, in the upper.
#[test]
fn a_program_dropped_into_a_container() {
    let Some(mut watch) = RawWatch::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    // A file system of its own below: an overlay on an overlay, as in a container, is refused by some kernels.
    let script = r#"
        set -e
        mount -t tmpfs cairn "$0"
        cd "$0"
        mkdir lower upper work merged
        cp /bin/true lower/image
        mount -t overlay cairn -o lowerdir=lower,upperdir=upper,workdir=work merged
        cp /bin/true merged/dropped
        merged/image cairn-image
        merged/dropped cairn-dropped
    "#;
    let status = Command::new("unshare").args(["--mount", "sh", "-c", script]).arg(folder.path()).status().unwrap();
    assert!(status.success());
    let image = watch.exec_with("merged/image\0cairn-image\0");
    let dropped = watch.exec_with("merged/dropped\0cairn-dropped\0");
    assert_eq!(image.header.flags & flag::EXE_UPPER_LAYER, 0);
    assert_eq!(dropped.header.flags & flag::EXE_UPPER_LAYER, flag::EXE_UPPER_LAYER);
    assert_eq!(image.mnt_ns, dropped.mnt_ns);
    let namespace = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_ne!(namespace.to_str(), Some(format!("mnt:[{}]", image.mnt_ns).as_str()));
}
