//! `sched_process_fork`: a process made another. New threads are not reported.
//!
//! Read here: both tasks' numbers and start times. The child has not run yet.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use cairn_sensor_abi::{Fork, Kind};

use crate::{
    record::{header, submit_fixed},
    task::Task,
};

/// `(struct task_struct *parent, struct task_struct *child)`
#[btf_tracepoint(function = "sched_process_fork")]
pub fn on_fork(ctx: BtfTracePointContext) -> i32 {
    let parent = Task(ctx.arg(0));
    let child = Task(ctx.arg(1));
    let child_pid = child.tgid();
    if child_pid == parent.tgid() {
        return 0;
    }
    let numbers = child.numbers();
    let level = numbers.level();
    let fork = Fork {
        header: header(Kind::Fork, parent),
        child_start_ns: child.start_ns(),
        child_pid,
        child_ppid: child.parent().tgid(),
        child_vpid: numbers.at(level),
        child_level: level,
    };
    submit_fixed(&fork, Kind::Fork);
    0
}
