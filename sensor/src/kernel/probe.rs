//! Can this machine run the kernel programs, and if not, what is missing.
//!
//! Each answer is one line that names the missing thing and what to do about it. Nothing is loaded here; a kernel that
//! refuses all the same (a container's seccomp filter, lockdown) says so when loading ([`super::LoadError`]).

use std::path::Path;

use super::btf::{Btf, BtfError};
use super::layout::{Layout, MACHINE_IS_KNOWN, has_helper};

/// Where the kernel shows its type information.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// The initial pid namespace's inode number, fixed in the kernel (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u32 = 0xefff_fffc;

/// Capabilities by their numbers (`include/uapi/linux/capability.h`).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// The tracepoints the programs attach to.
pub(super) const TRACEPOINTS: [&str; 4] =
    ["sched_process_fork", "sched_process_exec", "sched_process_exit", "sys_exit"];

/// Helpers that the programs call, younger than BTF tracepoints themselves (5.5).
const HELPERS: [&str; 4] = ["ringbuf_output", "ringbuf_query", "ktime_get_boot_ns", "probe_read_kernel_str"];

/// What this machine can do, for the record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The kernel's release, as `uname -r` shows it.
    pub kernel_release: String,
    /// The machine, as `uname -m` shows it.
    pub architecture: String,
    /// What the programs will be told.
    pub layout: Layout,
    /// `execve` and `execveat` can be told apart.
    pub tells_execveat: bool,
    /// The kernel keeps login user ids.
    pub has_loginuid: bool,
    /// Files opened by 32-bit programs are seen.
    pub sees_compat_calls: bool,
    /// A kernel program can send a signal.
    pub can_signal: bool,
    /// BPF programs are in the kernel's list of security modules: it could deny, not only watch.
    pub has_bpf_lsm: bool,
}

/// What is missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// Not Linux on a machine whose system calls are known.
    #[error("kernel events need x86-64 or 64-bit ARM; this is {0}")]
    Architecture(String),
    /// Not root.
    #[error("loading kernel programs needs root, or the capabilities CAP_BPF and CAP_PERFMON")]
    Privileges,
    /// In a container's pid namespace: the kernel's pids are not those seen here.
    #[error("this process is not in the host's pid namespace, so the kernel's process numbers mean nothing here")]
    PidNamespace,
    /// `/proc` is not there.
    #[error("/proc is not mounted or shows no processes")]
    Proc(#[source] std::io::Error),
    /// No type information.
    #[error("the kernel has no type information at {BTF_PATH}")]
    TypeInformation(#[source] std::io::Error),
    /// A kernel that looks different from what the programs know.
    #[error("the kernel's type information lacks what the programs read")]
    Layout(#[source] BtfError),
    /// The kernel is too old.
    #[error("the kernel, {release}, has no BPF helper {helper}")]
    Helper {
        /// The kernel's release.
        release: String,
        /// The first missing helper.
        helper: &'static str,
    },
    /// A kernel built without the tracepoint.
    #[error("the kernel has no tracepoint {0}")]
    Tracepoint(&'static str),
}

impl Missing {
    /// What to do about it, in one line. `command` is the command line to run with `sudo` ([`sudo_command`]).
    pub fn remedy(&self, command: &str) -> String {
        match self {
            Missing::Architecture(_) => "run the sensor on such a machine, or go on without kernel events".into(),
            Missing::Privileges => format!("run `{command}`"),
            Missing::PidNamespace => "start the sensor's container with the host's pid namespace: `--pid=host`".into(),
            Missing::Proc(_) => "mount it: `mount -t proc proc /proc`".into(),
            Missing::TypeInformation(_) => {
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y; distributions' kernels since 2021 are".into()
            }
            Missing::Layout(_) => "report this kernel's release, and go on without kernel events".into(),
            Missing::Helper { .. } => "use Linux 5.8 or newer".into(),
            Missing::Tracepoint(_) => "use a kernel built with CONFIG_FTRACE_SYSCALLS=y".into(),
        }
    }
}

/// The command line that runs the same as root.
pub fn sudo_command(arguments: impl IntoIterator<Item = String>) -> String {
    let plain = |argument: &str| {
        !argument.is_empty()
            && argument.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&byte))
    };
    arguments.into_iter().fold(String::from("sudo"), |mut line, argument| {
        line.push(' ');
        if plain(&argument) {
            line.push_str(&argument);
        } else {
            line.push('\'');
            line.push_str(&argument.replace('\'', r"'\''"));
            line.push('\'');
        }
        line
    })
}

/// Looks at this machine.
///
/// # Errors
/// The first thing that is missing, in the order of what is easiest to change.
pub fn probe() -> Result<Capabilities, Missing> {
    let uname = rustix::system::uname();
    let kernel_release = uname.release().to_string_lossy().into_owned();
    let architecture = uname.machine().to_string_lossy().into_owned();
    if !MACHINE_IS_KNOWN {
        return Err(Missing::Architecture(architecture));
    }
    let status = std::fs::read_to_string("/proc/self/status").map_err(Missing::Proc)?;
    if !may_load(&status) {
        return Err(Missing::Privileges);
    }
    if super::processes::namespace(Path::new("/proc/self/ns/pid")) != Some(INITIAL_PID_NAMESPACE) {
        return Err(Missing::PidNamespace);
    }
    let bytes = std::fs::read(BTF_PATH).map_err(Missing::TypeInformation)?;
    let btf = Btf::parse(&bytes).map_err(Missing::Layout)?;
    if let Some(helper) = HELPERS.into_iter().find(|helper| !has_helper(&btf, helper)) {
        return Err(Missing::Helper { release: kernel_release, helper });
    }
    if let Some(tracepoint) = TRACEPOINTS.into_iter().find(|name| !btf.has_typedef(&format!("btf_trace_{name}"))) {
        return Err(Missing::Tracepoint(tracepoint));
    }
    let layout = Layout::of(&btf).map_err(Missing::Layout)?;
    Ok(Capabilities {
        kernel_release,
        architecture,
        layout,
        tells_execveat: layout.has_task_pt_regs,
        has_loginuid: layout.offsets.task_loginuid != cairn_sensor_abi::ABSENT,
        sees_compat_calls: layout.compat_calls != cairn_sensor_abi::Calls::NONE,
        can_signal: has_helper(&btf, "send_signal"),
        has_bpf_lsm: std::fs::read_to_string("/sys/kernel/security/lsm")
            .is_ok_and(|modules| modules.trim().split(',').any(|module| module == "bpf")),
    })
}

/// Do the effective capabilities in `/proc/self/status` suffice?
fn may_load(status: &str) -> bool {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 == 1;
    has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_that_suffice() {
        assert!(may_load("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(may_load("CapEff:\t000000c000000000\n"), "CAP_BPF and CAP_PERFMON");
        assert!(!may_load("CapEff:\t0000008000000000\n"), "CAP_BPF alone");
        assert!(!may_load("CapEff:\t0000000000000000\n"));
        assert!(!may_load(""));
    }

    #[test]
    fn the_command_to_run() {
        let arguments = ["cairn", "up", "--dir", "/tmp/it's here"].map(String::from);
        assert_eq!(sudo_command(arguments), r"sudo cairn up --dir '/tmp/it'\''s here'");
        assert_eq!(Missing::Privileges.remedy("sudo cairn sensor"), "run `sudo cairn sensor`");
    }
}
