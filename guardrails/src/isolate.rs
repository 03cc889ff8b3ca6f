//! Runs code of others where it cannot take this process down: on a thread with a known stack, its panics caught, for a bounded time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Why isolated work gave no result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It panicked, with this message.
    Panicked(String),
    /// It was still running when its time was up. The thread is left to finish and its result dropped.
    Abandoned,
    /// The system gave us no thread.
    NoThread(String),
}

/// Runs `work` and waits for it, for `patience` at most.
///
/// A panic prints the usual line to stderr through the process's hook; the process goes on.
pub(crate) fn run<T: Send + 'static>(
    stack_bytes: usize,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("rego".to_owned())
        .stack_size(stack_bytes)
        .spawn(move || {
            // What `work` owned is dropped during the unwinding; nothing of it is looked at again.
            let result = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Lost::Panicked(message(&*panic)));
            // The receiver is gone if we were abandoned; then nobody wants the result.
            let _ = sender.send(result);
        })
        .map_err(|error| Lost::NoThread(error.to_string()))?;
    match receiver.recv_timeout(patience) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Lost::Abandoned),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(Lost::Panicked("the thread ended without a result".to_owned()))
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: usize = 1024 * 1024;
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_panic_is_a_result() {
        let lost = run(STACK, LONG, || -> () { panic!("boom") });
        assert_eq!(lost, Err(Lost::Panicked("boom".to_owned())));
        assert_eq!(run(STACK, LONG, || 7), Ok(7));
    }

    #[test]
    fn work_that_does_not_end_is_left_behind() {
        let (release, held) = mpsc::channel::<()>();
        let lost = run(STACK, Duration::from_millis(1), move || held.recv().is_ok());
        assert_eq!(lost, Err(Lost::Abandoned));
        drop(release);
    }
}
