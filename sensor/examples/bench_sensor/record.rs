//! Runs a command and keeps what the kernel programs say of it and its descendants.

use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytemuck::pod_read_unaligned;
use cairn_rules::event::Process;
use cairn_schemas::time::{Clock, Timestamp};
use cairn_sensor::kernel::{Kernel, Kind, OBJECT, Options};
use cairn_sensor_abi::{FORMAT, Fork};

use crate::trace::{Head, Trace, header};

const POLL: Duration = Duration::from_millis(50);

struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "a record's time is the real one")]
    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }
}

pub(crate) fn record(out: &Path, workload: &str, command: &[String]) -> Result<(), Box<dyn Error>> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut kernel = Kernel::load(OBJECT, Options::default(), Arc::new(RealClock))?;
    let mut child = Command::new(program).args(arguments).current_dir("/").spawn()?;
    let mut family = HashSet::from([child.id()]);
    let mut trace = None;
    let mut ended = false;
    loop {
        let taken = kernel.poll_raw(POLL, |bytes, context| {
            let trace = trace.get_or_insert_with(|| {
                Trace::new(Head {
                    workload: workload.to_owned(),
                    format: FORMAT,
                    boot_at_ns: context.boot_at_ns,
                    host_mnt_ns: context.host_mnt_ns,
                    seeds: seeds(),
                })
            });
            let header = header(bytes);
            if !family.contains(&header.pid) {
                return;
            }
            if Kind::from_number(header.kind) == Some(Kind::Fork) {
                let fork: Fork = pod_read_unaligned(&bytes[..size_of::<Fork>()]);
                family.insert(fork.child_pid);
            }
            trace.push(bytes);
        })?;
        if ended && taken == 0 {
            break;
        }
        ended = child.try_wait()?.is_some();
    }
    let losses = kernel.losses()?;
    if losses.lost() > 0 {
        return Err(format!("events were lost: {losses:?}").into());
    }
    let trace = trace.ok_or("nothing happened")?;
    trace.write(out)?;
    println!("records {}", trace.len());
    Ok(())
}

/// What the workload's shell hangs under: a session of a machine's administrator. The recorder itself is in its place.
fn seeds() -> Vec<(u32, Process)> {
    let process = |ppid: u32, start_ns: u64, name: &str, path: &str| Process {
        ppid,
        start_ns,
        comm: name.into(),
        exepath: path.into(),
        args: vec![path.into()],
        cwd: "/".into(),
        ..Process::default()
    };
    vec![
        (1, process(0, 1, "systemd", "/usr/lib/systemd/systemd")),
        (std::process::id(), process(1, 2, "sshd", "/usr/sbin/sshd")),
    ]
}
