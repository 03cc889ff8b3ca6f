//! Much that is read in parts on all cores, and taken in order.
//!
//! Opening a ledger looks at every record of its log and its bundles: reading, hashing and parsing one needs nothing of the others, and
//! takes most of the time.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Parts that are read ahead of the one that is taken, for each thread: each may be a whole segment.
const AHEAD: usize = 2;

/// Most threads: what was read is taken by one, and that bounds what is in memory on large machines.
const THREADS_MAX: usize = 8;

type Job<P, T> = (P, SyncSender<T>);

/// Calls `next_part` until there is none, `read` for each part on some thread, and `take` for what that gave, in the order of the parts.
/// `next_part` and `take` are called on this thread.
pub(crate) fn in_order<P: Send, T: Send, E>(
    mut next_part: impl FnMut() -> Result<Option<P>, E>,
    read: &(impl Fn(P) -> T + Sync),
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let Some(first) = next_part()? else { return Ok(()) };
    let Some(second) = next_part()? else {
        // Most logs are short: a thread would take longer than the work.
        return take(read(first));
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let (jobs, queue) = sync_channel::<Job<P, T>>(threads * AHEAD);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&queue, read));
        }
        // Dropped at the end of this, which ends the threads.
        let jobs = jobs;
        let mut coming: VecDeque<Receiver<T>> = VecDeque::new();
        let mut parts = [first, second].into_iter();
        loop {
            let part = match parts.next() {
                Some(part) => Some(part),
                None => next_part()?,
            };
            let ended = part.is_none();
            if let Some(part) = part {
                let (done, result) = sync_channel(1);
                jobs.send((part, done)).expect("invariant: the queue lives as long as this");
                coming.push_back(result);
            }
            while (ended || coming.len() >= threads * AHEAD)
                && let Some(result) = coming.pop_front()
            {
                match result.recv() {
                    Ok(read) => take(read)?,
                    // That thread panicked. The scope panics in its turn when it ends, and until then nothing behind it is taken.
                    Err(_) => return Ok(()),
                }
            }
            if ended {
                return Ok(());
            }
        }
    })
}

fn work<P, T>(queue: &Mutex<Receiver<Job<P, T>>>, read: impl Fn(P) -> T) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((part, done)) = job else { return };
        // Nobody waits for it any more where something before it was refused.
        let _ = done.send(read(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(count: u64) -> impl FnMut() -> Result<Option<u64>, u64> {
        let mut parts = 0..count;
        move || Ok(parts.next())
    }

    #[test]
    fn parts_are_taken_in_order() {
        for count in [0, 1, 2, 3, 500] {
            let mut taken = Vec::new();
            let read = |part: u64| part * 2;
            in_order(parts(count), &read, |part| {
                taken.push(part);
                Ok(())
            })
            .unwrap();
            assert_eq!(taken, (0..count).map(|part| part * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_refusal_ends_it() {
        for count in [1, 2, 50] {
            let last = count - 1;
            let mut taken = 0;
            let refused = in_order(parts(count), &|part| part, |part| {
                taken += 1;
                if part == last { Err(part) } else { Ok(()) }
            });
            assert_eq!((refused, taken), (Err(last), count));
        }
        let mut part = 0;
        let next_part = || {
            part += 1;
            if part == 9 { Err(9) } else { Ok(Some(part)) }
        };
        assert_eq!(in_order(next_part, &|part: u64| part, |_| Ok(())), Err(9));
    }

    #[test]
    fn a_panic_of_a_reader_is_not_swallowed() {
        let read = |part: u64| if part == 43 { panic!("as told") } else { part };
        let mut taken = Vec::new();
        let run = std::panic::AssertUnwindSafe(|| {
            in_order(parts(50), &read, |part| {
                taken.push(part);
                Ok::<(), u64>(())
            })
        });
        assert!(std::panic::catch_unwind(run).is_err());
        assert_eq!(taken, (0..43).collect::<Vec<_>>(), "and nothing behind it is taken");
    }
}
