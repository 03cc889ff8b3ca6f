//! An append on its way: what waits in the queue, and what its caller holds.
//!
//! [`Ledger::submit`](super::Ledger::submit) reads the records where it is called and queues them; [`Pending`] is a future that is ready when
//! they are durable, and can be waited for by a plain thread as well. So a caller costs a few hundred bytes, not a thread, and a
//! group commit wakes all of its callers in one sweep, after the last lock was dropped.
//!
//! Dropping a [`Pending`] takes nothing back: what was queued is decided about all the same. A producer that never heard the answer sends its
//! records again, and gets it then.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use cairn_schemas::ids::{Sequence, StreamId, TreeSize};

use super::succession::Successor;
use super::{AppendError, Appended, ReadError, Shared, lock};
use crate::streams::{History, Incoming, Refusal};
use crate::volume::Place;

/// Consecutive records of a stream that wait for an answer.
pub(super) struct Submission {
    stream: StreamId,
    records: Vec<Incoming>,
    room: u64,
    /// What a walk over the ledger found, for records older than the rules remember.
    walked: Mutex<Option<Walked>>,
    slot: Mutex<Slot>,
}

/// A walk over the ledger for old records of a stream.
#[derive(Debug)]
pub(super) struct Walked {
    /// What was looked for.
    sequences: Vec<Sequence>,
    /// What was found.
    history: History,
}

/// Where an answer is left.
enum Slot {
    Waiting(Option<Waker>),
    Answered(Answer),
    /// Taken by the caller, or not given: a walk comes first.
    Empty,
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// The records that were taken, from the first on.
    pub(super) taken: Option<Appended>,
    pub(super) failure: Option<Failure>,
}

#[derive(Debug, Clone)]
pub(super) enum Failure {
    Refused(Refusal),
    /// Nothing was decided: some of the records are older than the rules remember. These must be looked for from there on.
    Forgotten(Place, Vec<Sequence>),
    Full(String),
    Stopped(String),
}

impl Submission {
    pub(super) fn new(stream: StreamId, records: Vec<Incoming>) -> Submission {
        let room = records.iter().map(Incoming::room).sum();
        Submission { stream, records, room, walked: Mutex::new(None), slot: Mutex::new(Slot::Waiting(None)) }
    }

    pub(super) fn stream(&self) -> &StreamId {
        &self.stream
    }

    pub(super) fn records(&self) -> &[Incoming] {
        &self.records
    }

    /// An upper bound of the bytes that the ledger writes for it.
    pub(super) fn room(&self) -> u64 {
        self.room
    }

    /// What was found of the sequences, if a walk looked for all of them.
    pub(super) fn history(&self, sequences: &[Sequence]) -> Option<History> {
        let walked = lock(&self.walked);
        let walked = walked.as_ref()?;
        sequences.iter().all(|sequence| walked.sequences.contains(sequence)).then(|| walked.history.clone())
    }

    /// Leaves the answer. Whoever waits is woken by the waker that this returns, and not before.
    #[must_use = "nobody is woken otherwise"]
    pub(super) fn answer(&self, answer: Answer) -> Option<Waker> {
        match std::mem::replace(&mut *lock(&self.slot), Slot::Answered(answer)) {
            Slot::Waiting(waker) => waker,
            Slot::Answered(_) | Slot::Empty => unreachable!("a submission is answered once"),
        }
    }

    pub(super) fn fail(&self, failure: Failure) {
        if let Some(waker) = self.answer(Answer { taken: None, failure: Some(failure) }) {
            waker.wake();
        }
    }

    /// [`Submission::fail`] for one that may have its answer already.
    pub(super) fn abandon(&self) {
        let mut slot = lock(&self.slot);
        let Slot::Waiting(waker) = &mut *slot else { return };
        let waker = waker.take();
        let failure = Some(Failure::Stopped("a thread of the writer panicked".to_owned()));
        *slot = Slot::Answered(Answer { taken: None, failure });
        drop(slot);
        wake(waker);
    }

    /// The answer of a submission that was decided about, as its caller sees it.
    #[cfg(test)]
    pub(super) fn answered(&self) -> Result<Appended, AppendError> {
        let Poll::Ready(Answer { taken, failure }) = self.poll(Waker::noop()) else { panic!("not answered") };
        match failure {
            None => Ok(taken.unwrap()),
            Some(Failure::Refused(refusal)) => Err(AppendError::Refused { refusal, taken: taken.map(Box::new) }),
            Some(failure) => panic!("{failure:?}"),
        }
    }

    /// The answer, if it is there; if not, `waker` is called when it is.
    fn poll(&self, waker: &Waker) -> Poll<Answer> {
        let mut slot = lock(&self.slot);
        match &mut *slot {
            Slot::Waiting(Some(before)) if before.will_wake(waker) => Poll::Pending,
            Slot::Waiting(before) => {
                *before = Some(waker.clone());
                Poll::Pending
            }
            Slot::Answered(_) => match std::mem::replace(&mut *slot, Slot::Empty) {
                Slot::Answered(answer) => Poll::Ready(answer),
                _ => unreachable!("just looked at"),
            },
            Slot::Empty => unreachable!("an answer is taken once"),
        }
    }
}

/// Submissions that were taken out of the queue to be committed together. Should the thread that holds them panic, they are answered all
/// the same: their callers would wait for ever.
pub(super) struct Together(Vec<Arc<Submission>>);

impl From<Vec<Arc<Submission>>> for Together {
    fn from(submissions: Vec<Arc<Submission>>) -> Together {
        Together(submissions)
    }
}

impl Deref for Together {
    type Target = [Arc<Submission>];

    fn deref(&self) -> &[Arc<Submission>] {
        &self.0
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.iter().for_each(|submission| submission.abandon());
        }
    }
}

/// Wakes all, in order.
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// An append whose records are on their way to the disk; see [`Ledger::submit`](super::Ledger::submit). As a future it is ready when all of
/// them are durable, or one was refused; [`Pending::wait`] is the same for a plain thread.
#[must_use = "records are only durable once the answer says so"]
pub struct Pending {
    shared: Arc<Shared>,
    step: Step,
    /// What is to be queued when the part before is durable.
    rest: VecDeque<Submission>,
    /// How many records stand before the part on its way.
    first: usize,
    taken: Option<Appended>,
}

enum Step {
    /// The append cannot be made.
    Refused(AppendError),
    /// To be queued as soon as there is room.
    Ready(Arc<Submission>),
    /// In the queue, or being committed.
    Queued(Arc<Submission>),
    /// Somebody looks through the ledger for its old records.
    Walking(Arc<Walk>),
    Done,
}

/// A walk over the ledger on a thread of its own: whoever polls must not wait for the disk.
struct Walk {
    submission: Arc<Submission>,
    /// `None` once it is over.
    waker: Mutex<Option<Waker>>,
}

impl Walk {
    fn begin(
        shared: &Arc<Shared>,
        submission: Arc<Submission>,
        from: Place,
        sequences: Vec<Sequence>,
        waker: &Waker,
    ) -> Arc<Walk> {
        let walk = Arc::new(Walk { submission, waker: Mutex::new(Some(waker.clone())) });
        let (theirs, walking, wanted) = (shared.clone(), walk.clone(), sequences.clone());
        let thread = std::thread::Builder::new().name("ledger-walk".to_owned());
        if thread.spawn(move || walking.run(&theirs, from, wanted)).is_err() {
            // Slow for whoever polls, but right.
            walk.run(shared, from, sequences);
        }
        walk
    }

    fn run(&self, shared: &Shared, from: Place, sequences: Vec<Sequence>) {
        let history = shared.walk(&self.submission.stream, from, &sequences);
        *lock(&self.submission.walked) = Some(Walked { sequences, history });
        *lock(&self.submission.slot) = Slot::Waiting(None);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        match &mut *lock(&self.waker) {
            None => Poll::Ready(()),
            Some(before) => {
                before.clone_from(waker);
                Poll::Pending
            }
        }
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending({})", self.shared.origin)
    }
}

impl Pending {
    /// Parts are queued one after another, each when the one before is durable.
    pub(super) fn new(shared: Arc<Shared>, parts: impl IntoIterator<Item = Submission>) -> Pending {
        let mut rest: VecDeque<Submission> = parts.into_iter().collect();
        let step = rest.pop_front().map_or(Step::Refused(AppendError::Empty), |first| Step::Ready(Arc::new(first)));
        let mut pending = Pending { shared, step, rest, first: 0, taken: None };
        // Where there is room, it is on its way before anybody waits for it.
        if let Step::Ready(first) = &pending.step
            && pending.shared.enqueue(first, None) == Poll::Ready(true)
        {
            pending.step = Step::Queued(first.clone());
        }
        pending
    }

    pub(super) fn refused(shared: Arc<Shared>, error: AppendError) -> Pending {
        Pending { shared, step: Step::Refused(error), rest: VecDeque::new(), first: 0, taken: None }
    }

    /// Waits for the answer on this thread.
    ///
    /// # Errors
    /// As [`Ledger::append`](super::Ledger::append).
    pub fn wait(mut self) -> Result<Appended, AppendError> {
        thread_local! {
            static UNPARK: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        }
        UNPARK.with(|waker| {
            let mut context = Context::from_waker(waker);
            loop {
                match Pin::new(&mut self).poll(&mut context) {
                    Poll::Ready(answer) => return answer,
                    Poll::Pending => std::thread::park(),
                }
            }
        })
    }

    /// Adds an answer to what became of the parts before. `Ok`: go on.
    fn take(&mut self, answer: Answer, records: usize) -> Result<(), AppendError> {
        if let Some(mut taken) = answer.taken {
            taken.rejected.iter_mut().for_each(|rejected| rejected.position += self.first);
            if let Some(before) = self.taken.take() {
                if taken.volume == before.volume {
                    taken.size = taken.size.max(before.size);
                }
                taken.rejected.splice(0..0, before.rejected);
            }
            self.taken = Some(taken);
        }
        self.first += records;
        let taken = |taken: &mut Option<Appended>| taken.take().map(Box::new);
        match answer.failure {
            None => Ok(()),
            Some(Failure::Refused(refusal)) => Err(AppendError::Refused { refusal, taken: taken(&mut self.taken) }),
            Some(Failure::Full(reason)) => Err(AppendError::Full { reason, taken: taken(&mut self.taken) }),
            Some(Failure::Stopped(reason)) => Err(AppendError::Stopped { reason }),
            Some(Failure::Forgotten(..)) => unreachable!("a walk is begun instead"),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl Future for Pending {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.step = match std::mem::replace(&mut this.step, Step::Done) {
                Step::Refused(error) => return Poll::Ready(Err(error)),
                Step::Ready(submission) => match this.shared.enqueue(&submission, Some(context.waker())) {
                    Poll::Ready(true) => Step::Queued(submission),
                    Poll::Ready(false) => match this.shared.successor(context.waker()) {
                        // The ledger was changed meanwhile: it is queued with the writer that goes on.
                        Successor::Now(next) => {
                            this.shared = next;
                            Step::Ready(submission)
                        }
                        Successor::Coming => {
                            this.step = Step::Ready(submission);
                            return Poll::Pending;
                        }
                        Successor::None => return Poll::Ready(Err(this.shared.closed())),
                    },
                    Poll::Pending => {
                        this.step = Step::Ready(submission);
                        return Poll::Pending;
                    }
                },
                Step::Queued(submission) => match submission.poll(context.waker()) {
                    Poll::Ready(Answer { failure: Some(Failure::Forgotten(from, sequences)), .. }) => {
                        Step::Walking(Walk::begin(&this.shared, submission, from, sequences, context.waker()))
                    }
                    Poll::Ready(answer) => {
                        let records = submission.records.len();
                        if let Err(error) = this.take(answer, records) {
                            return Poll::Ready(Err(error));
                        }
                        match this.rest.pop_front() {
                            Some(next) => Step::Ready(Arc::new(next)),
                            None => {
                                let taken = this.taken.take();
                                return Poll::Ready(Ok(taken.expect("invariant: without failure, all was taken")));
                            }
                        }
                    }
                    Poll::Pending => {
                        this.step = Step::Queued(submission);
                        return Poll::Pending;
                    }
                },
                Step::Walking(walk) => match walk.poll(context.waker()) {
                    Poll::Ready(()) => Step::Ready(walk.submission.clone()),
                    Poll::Pending => {
                        this.step = Step::Walking(walk);
                        return Poll::Pending;
                    }
                },
                Step::Done => unreachable!("a future is not polled after its end"),
            };
        }
    }
}

/// Waits for a checkpoint; see [`Ledger::published`](super::Ledger::published).
#[must_use = "nothing is waited for until it is polled"]
pub struct Published {
    shared: Arc<Shared>,
    size: TreeSize,
    /// Whether it counts among those that wait.
    counted: bool,
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Published({} at {})", self.shared.origin, self.size)
    }
}

impl Published {
    pub(super) fn new(shared: Arc<Shared>, size: TreeSize) -> Published {
        Published { shared, size, counted: false }
    }
}

impl Future for Published {
    type Output = Result<(), ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.shared.clone();
        let mut state = lock(&shared.state);
        if state.published.size >= self.size {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = &state.stopped {
            return Poll::Ready(Err(ReadError::Stopped { reason: reason.clone() }));
        }
        if state.finished {
            return Poll::Ready(Err(ReadError::Closed));
        }
        state.checkpoint_wakers.push(context.waker().clone());
        if !std::mem::replace(&mut self.counted, true) {
            state.waiting_for_checkpoint += 1;
            drop(state);
            shared.hurry.notify_all();
        }
        Poll::Pending
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if self.counted {
            lock(&self.shared.state).waiting_for_checkpoint -= 1;
        }
    }
}
