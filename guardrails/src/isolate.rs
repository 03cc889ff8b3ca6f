//! Runs code of others where it cannot take this process down: on a thread with a known stack, its panics caught, for a bounded time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::limits::EVALUATION_STACK_BYTES;

/// Most threads that wait for the next evaluation. Each keeps the part of its stack that it used.
const WAITING_MAX: usize = 16;
/// How long one of them waits before it ends.
const WAITING_FOR: Duration = Duration::from_secs(10);

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

/// Runs `work` on a thread of its own and waits for it, for `patience` at most.
///
/// A panic prints the usual line to stderr through the process's hook; the process goes on.
pub(crate) fn run<T: Send + 'static>(
    stack_bytes: usize,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    let (sender, receiver) = mpsc::sync_channel(1);
    spawn(stack_bytes, move || {
        isolated(work, &sender);
    })?;
    receive(&receiver, patience)
}

/// [`run`] with the stack of an evaluation, on a thread that ran others before if one waits: a thread with a stack that large is made
/// and taken down in about the time of a small evaluation. One whose work panicked runs nothing else.
pub(crate) fn evaluate<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let job: Job = Box::new(move || isolated(work, &sender));
    match waiting().pop() {
        // It cannot have ended: it takes itself out of the list first.
        Some(worker) => worker.jobs.send(job).map_err(|error| Lost::NoThread(error.to_string()))?,
        None => spawn(EVALUATION_STACK_BYTES, move || serve(job))?,
    }
    receive(&receiver, patience)
}

/// Work, and whether its thread may do more.
type Job = Box<dyn FnOnce() -> bool + Send>;

/// A thread that waits for work.
struct Worker {
    number: u64,
    jobs: mpsc::Sender<Job>,
}

/// The threads that wait, the one that worked last at the end.
fn waiting() -> MutexGuard<'static, Vec<Worker>> {
    static WAITING: Mutex<Vec<Worker>> = Mutex::new(Vec::new());
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does one job after another until none comes.
fn serve(first: Job) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (jobs, coming) = mpsc::channel();
    let mut job = first;
    while job() {
        let mut others = waiting();
        if others.len() >= WAITING_MAX {
            return;
        }
        others.push(Worker { number, jobs: jobs.clone() });
        drop(others);
        job = match coming.recv_timeout(WAITING_FOR) {
            Ok(next) => next,
            Err(_) => {
                let mut others = waiting();
                match others.iter().position(|worker| worker.number == number) {
                    Some(place) => {
                        others.remove(place);
                        return;
                    }
                    // Somebody took it just now, and sends.
                    None => match coming.recv() {
                        Ok(next) => next,
                        Err(_) => return,
                    },
                }
            }
        };
    }
}

fn spawn(stack_bytes: usize, work: impl FnOnce() + Send + 'static) -> Result<(), Lost> {
    let thread = thread::Builder::new().name("rego".to_owned()).stack_size(stack_bytes);
    thread.spawn(work).map(drop).map_err(|error| Lost::NoThread(error.to_string()))
}

/// Does the work and sends what came of it; false after a panic.
fn isolated<T>(work: impl FnOnce() -> T, sender: &mpsc::SyncSender<Result<T, Lost>>) -> bool {
    // What `work` owned is dropped during the unwinding; nothing of it is looked at again.
    let result = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Lost::Panicked(message(&*panic)));
    let whole = result.is_ok();
    // The receiver is gone if we were abandoned; then nobody wants the result.
    let _ = sender.send(result);
    whole
}

fn receive<T>(receiver: &mpsc::Receiver<Result<T, Lost>>, patience: Duration) -> Result<T, Lost> {
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

    #[test]
    fn evaluations_are_isolated_too() {
        let (release, held) = mpsc::channel::<()>();
        let lost = evaluate(Duration::from_millis(1), move || held.recv().is_ok());
        assert_eq!(lost, Err(Lost::Abandoned));
        for round in 0..200 {
            assert_eq!(evaluate(LONG, move || round), Ok(round));
            let lost = evaluate(LONG, move || -> () { panic!("boom {round}") });
            assert_eq!(lost, Err(Lost::Panicked(format!("boom {round}"))));
        }
        drop(release);
    }

    #[test]
    fn many_at_once_each_get_their_own_result() {
        thread::scope(|scope| {
            for caller in 0..2 * WAITING_MAX {
                scope.spawn(move || {
                    (0..100).for_each(|round| assert_eq!(evaluate(LONG, move || caller + round), Ok(caller + round)))
                });
            }
        });
        assert!(waiting().len() <= WAITING_MAX);
    }
}
