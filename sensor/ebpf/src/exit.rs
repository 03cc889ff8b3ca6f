//! `sched_process_exit`: a process ended.
//!
//! Read here: the task and how many of its process' threads are left. The last one to leave reports. Should the last two
//! leave at the same moment, both do: the reader has to take an exit twice.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use cairn_sensor_abi::{Exit, Kind};

use crate::{
    record::{header, submit_fixed},
    task::Task,
};

/// `(struct task_struct *task, ...)`
#[btf_tracepoint(function = "sched_process_exit")]
pub fn on_exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if task.live_threads() != 0 {
        return 0;
    }
    let exit = Exit { header: header(Kind::Exit, task), status: task.exit_code(), reserved: 0 };
    submit_fixed(&exit, Kind::Exit);
    0
}
