//! Ending a process, and only that process.
//!
//! A pid can be given to another process at any moment. So the process is pinned by a pidfd first, its start time is compared with
//! the one the detection saw, and the signal goes to the pidfd: it reaches the process that was detected or nobody.

use std::io;
use std::time::Duration;

use cairn_schemas::data::Outcome;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a killed process may take to be gone before its end is reported as failed. A process in an uninterruptible sleep
/// takes as long as its device.
pub const DEATH_PATIENCE: Duration = Duration::from_secs(2);

/// A clock tick of `/proc/<pid>/stat`, nanoseconds: USER_HZ is 100 on every Linux.
const TICK_NS: u64 = 10_000_000;

/// What came of a containment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contained {
    /// What came of it.
    pub outcome: Outcome,
    /// The system's word, where it failed.
    pub error: Option<String>,
}

/// Why a process must not be contained; `None` when it may.
///
/// Cairn never ends init, a kernel thread or itself, whatever a rule says.
#[must_use]
pub fn refusal(pid: u32, executable_known: bool, own_pid: u32) -> Option<&'static str> {
    if pid == 0 || pid == 1 {
        return Some("the target is init");
    }
    if pid == own_pid {
        return Some("the target is Cairn itself");
    }
    if !executable_known {
        return Some("the target's executable is not known: it may be a kernel thread");
    }
    None
}

/// Sends SIGKILL to the process that has this pid and began at `start_ns` (nanoseconds since boot), and waits until it is gone.
#[must_use]
pub fn kill(pid: u32, start_ns: u64) -> Contained {
    match try_kill(pid, start_ns) {
        Ok(outcome) => Contained { outcome, error: None },
        Err(error) => Contained { outcome: Outcome::Failed, error: Some(error.to_string()) },
    }
}

fn try_kill(pid: u32, start_ns: u64) -> io::Result<Outcome> {
    if start_ns == 0 {
        // Gone or not: without it nobody can say that this pid is the process that was detected.
        return Err(io::Error::other("when the process began is not known, so its pid may be another's"));
    }
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(pid_checked) = raw else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is not a pid")));
    };
    let process = match pidfd_open(pid_checked, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(Outcome::Gone),
        Err(error) => return Err(error.into()),
    };
    // Read after the pidfd is open: if it is the right process now, the pidfd is the right process for ever.
    match start_ticks(pid)? {
        Some(ticks) if ticks == start_ns / TICK_NS => {}
        _ => return Ok(Outcome::Gone),
    }
    // Dead and not yet reaped: all of its threads are gone, and a signal would be taken and do nothing.
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    if poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0 {
        return Ok(Outcome::Gone);
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(Outcome::Gone),
        Err(error) => return Err(error.into()),
    }
    let patience = Timespec { tv_sec: DEATH_PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    match poll(&mut ended, Some(&patience))? {
        0 => {
            Err(io::Error::other(format!("SIGKILL was sent, and the process is still there after {DEATH_PATIENCE:?}")))
        }
        _ => Ok(Outcome::Killed),
    }
}

/// Field 22 of `/proc/<pid>/stat`; `None` when the process is gone.
fn start_ticks(pid: u32) -> io::Result<Option<u64>> {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse_start_ticks(&stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name in parentheses may hold anything, parentheses too: fields are counted from the last one.
fn parse_start_ticks(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Start time of a running process, as the kernel's boot-time clock would give it, to a tick.
    fn start_ns(pid: u32) -> u64 {
        start_ticks(pid).unwrap().unwrap() * TICK_NS
    }

    #[test]
    fn the_process_that_was_meant_dies() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let started = start_ns(pid);
        assert_eq!(kill(pid, started), Contained { outcome: Outcome::Killed, error: None });
        assert!(!child.wait().unwrap().success());
        assert_eq!(kill(pid, started).outcome, Outcome::Gone);
    }

    #[test]
    fn another_process_with_the_same_pid_lives() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        assert_eq!(kill(pid, start_ns(pid) + TICK_NS).outcome, Outcome::Gone);
        assert!(child.try_wait().unwrap().is_none(), "it still runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_dead_and_not_reaped_was_gone() {
        let mut child = Command::new("/bin/true").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let started = start_ns(pid);
        // Its end closes the pipe; the pidfd says when it is a zombie.
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
        assert_eq!(kill(pid, started), Contained { outcome: Outcome::Gone, error: None });
        child.wait().unwrap();
    }

    #[test]
    fn a_process_whose_start_is_not_known_is_not_touched() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let contained = kill(child.id(), 0);
        assert_eq!(contained.outcome, Outcome::Failed);
        assert!(contained.error.unwrap().contains("not known"));
        assert!(child.try_wait().unwrap().is_none(), "it still runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn names_with_parentheses_and_blanks() {
        let stat = b"42 (a) b) 1 (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 31337 1 1\n";
        assert_eq!(parse_start_ticks(stat), Some(31_337));
        for bad in [&b""[..], b"42 (a", b"42 (a) S", b"\xff) x"] {
            assert_eq!(parse_start_ticks(bad), None);
        }
    }

    #[test]
    fn what_is_never_contained() {
        assert!(refusal(1, true, 99).is_some());
        assert!(refusal(0, true, 99).is_some());
        assert!(refusal(99, true, 99).is_some());
        assert!(refusal(50, false, 99).is_some());
        assert_eq!(refusal(50, true, 99), None);
    }
}
