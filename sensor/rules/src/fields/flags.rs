//! Names of flags and constants, as Falco numbers and prints them.

use std::collections::HashMap;
use std::sync::LazyLock;

type Set = Vec<(&'static str, u64)>;

static SETS: LazyLock<HashMap<&'static str, Set>> = LazyLock::new(|| {
    let mut sets: HashMap<&'static str, Set> = HashMap::new();
    for line in include_str!("flags.tsv").lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        if let (Some(set), Some(name), Some(value)) = (columns.next(), columns.next(), columns.next()) {
            sets.entry(set).or_default().extend(value.parse().ok().map(|value| (name, value)));
        }
    }
    sets
});

/// The names of a number: of its bits, `|` between them, or with `is_constant` of the constant that it is. Empty where nothing fits.
///
/// A flag of several bits takes its bits away, so that `O_RDWR` is not `O_RDWR|O_RDONLY`. A constant may have two names: both are given.
pub(super) fn names(set: &str, number: u64, is_constant: bool) -> String {
    let mut rest = number;
    let mut names: Vec<&str> = Vec::new();
    for (name, value) in SETS.get(set).map_or(&[][..], Vec::as_slice) {
        if is_constant {
            names.extend((*value == number).then_some(*name));
            continue;
        }
        let fits = if *value == 0 { number == 0 } else { rest & value == *value };
        if fits {
            names.push(name);
            rest &= !value;
            if *value == number {
                break;
            }
        }
    }
    names.join("|")
}

/// The number of a name in a set, for events that people write.
pub(crate) fn number(set: &str, name: &str) -> Option<u64> {
    SETS.get(set)?.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// Capabilities by number, as Linux has them.
#[rustfmt::skip]
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
    "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
    "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

/// The names of a capability set, a blank between them, in order of number.
pub(super) fn capabilities(bits: u64) -> String {
    let held = CAPABILITIES.iter().enumerate().filter(|(number, _)| bits & (1 << number) != 0);
    held.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

/// Bits of capabilities by their names; the first name that is none.
pub(crate) fn capability_bits<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<u64, &'a str> {
    names.into_iter().try_fold(0, |bits, name| {
        let number = CAPABILITIES.iter().position(|known| *known == name).ok_or(name)?;
        Ok(bits | 1 << number)
    })
}

/// Signals by number, from 1, as Linux has them on x86-64 and aarch64.
#[rustfmt::skip]
const SIGNALS: [&str; 31] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2",
    "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG",
    "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS",
];

/// A signal's name.
pub(super) fn signal(number: i64) -> Option<&'static str> {
    let place = usize::try_from(number).ok()?.checked_sub(1)?;
    SIGNALS.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_named_once() {
        assert_eq!(names("file_flags", 3 | 4 | 4096, false), "O_CREAT|O_RDWR|O_CLOEXEC");
        assert_eq!(names("file_flags", 1, false), "O_RDONLY");
        assert_eq!(names("file_flags", 0, false), "O_NONE");
        assert_eq!(
            names("chmod_mode", 0o4755, false),
            "S_IXOTH|S_IROTH|S_IXGRP|S_IRGRP|S_IXUSR|S_IWUSR|S_IRUSR|S_ISUID"
        );
        assert_eq!(names("no_such_set", 1, false), "");
    }

    #[test]
    fn constants_may_have_two_names() {
        assert_eq!(names("socket_families", 1, true), "AF_LOCAL|AF_UNIX");
        assert_eq!(
            names("ptrace_requests", number("ptrace_requests", "PTRACE_ATTACH").unwrap(), true),
            "PTRACE_ATTACH"
        );
        assert_eq!(names("ptrace_requests", 9_999, true), "");
    }

    #[test]
    fn capabilities_go_both_ways() {
        assert_eq!(capabilities(1 << 21 | 1 << 1), "CAP_DAC_OVERRIDE CAP_SYS_ADMIN");
        assert_eq!(capability_bits(["CAP_SYS_ADMIN"]), Ok(1 << 21));
        assert_eq!(capability_bits(["CAP_NOTHING"]), Err("CAP_NOTHING"));
        assert_eq!(signal(9), Some("SIGKILL"));
        assert_eq!(signal(0), None);
    }
}
