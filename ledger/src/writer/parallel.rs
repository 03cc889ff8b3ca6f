//! Many records read on all cores, and taken in their order.
//!
//! Opening a ledger looks at every record of its log: hashing and parsing one needs nothing but its bytes, and takes most of the time.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Parts that are read ahead of the one that is taken, for each thread: each may be a whole segment.
const AHEAD: usize = 2;

type Job<P, T> = (Vec<P>, SyncSender<Vec<T>>);

/// Calls `next_part` until there is none, `read` for each item of a part on some thread, and `take` for what that gave, in the order of
/// the items. `next_part` and `take` are called on this thread.
pub(super) fn in_order<P: Send, T: Send, E>(
    mut next_part: impl FnMut() -> Result<Option<Vec<P>>, E>,
    read: &(impl Fn(P) -> T + Sync),
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let Some(first) = next_part()? else { return Ok(()) };
    let Some(second) = next_part()? else {
        // Most logs are short: a thread would take longer than the work.
        return first.into_iter().try_for_each(|item| take(read(item)));
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (jobs, queue) = sync_channel::<Job<P, T>>(threads * AHEAD);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&queue, read));
        }
        // Dropped at the end of this, which ends the threads.
        let jobs = jobs;
        let mut coming: VecDeque<Receiver<Vec<T>>> = VecDeque::new();
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
                // A thread that panicked gives nothing; the scope panics in its turn when it ends.
                result.recv().into_iter().flatten().try_for_each(&mut take)?;
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
        let _ = done.send(part.into_iter().map(&read).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(count: u64) -> impl FnMut() -> Result<Option<Vec<u64>>, u64> {
        let mut parts = 0..count;
        move || Ok(parts.next().map(|part| (part * 100..part * 100 + 100).collect()))
    }

    #[test]
    fn items_are_taken_in_order() {
        for count in [0, 1, 2, 3, 50] {
            let mut taken = Vec::new();
            let read = |item: u64| item * 2;
            in_order(parts(count), &read, |item| {
                taken.push(item);
                Ok(())
            })
            .unwrap();
            assert_eq!(taken, (0..count * 100).map(|item| item * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_refusal_ends_it() {
        for count in [1, 2, 50] {
            let refused = in_order(parts(count), &|item| item, |item| if item == 57 { Err(item) } else { Ok(()) });
            assert_eq!(refused, Err(57));
        }
        let mut part = 0;
        let next_part = || {
            part += 1;
            if part == 9 { Err(9) } else { Ok(Some(vec![part])) }
        };
        assert_eq!(in_order(next_part, &|item: u64| item, |_| Ok(())), Err(9));
    }

    #[test]
    fn a_panic_of_a_reader_is_not_swallowed() {
        let read = |item: u64| if item == 4_321 { panic!("as told") } else { item };
        let run = std::panic::AssertUnwindSafe(|| in_order(parts(50), &read, |_| Ok::<(), u64>(())));
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
