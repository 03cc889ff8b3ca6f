//! One group commit: decide about every record that waits, write the group, and only then answer.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

use cairn_schemas::ids::{Sequence, StreamId};
use cairn_schemas::time::Timestamp;

use super::{AppendError, Appended, RejectedRecord, lock};
use crate::streams::{History, Incoming, Outcome, Refusal, Streams, Written};
use crate::wal::{GROUP_LEN_MAX, Wal, WalError};

/// Most room that one submission may ask for: an append that needs more is submitted in parts.
pub(super) const SUBMISSION_ROOM_MAX: u64 = GROUP_LEN_MAX / 4;

/// Consecutive records of a stream that wait for an answer.
pub(super) struct Submission {
    stream: StreamId,
    records: Vec<Incoming>,
    history: History,
    answer: OnceLock<Answer>,
    caller: Thread,
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// The records that were taken, from the first on.
    taken: Option<Appended>,
    failure: Option<Failure>,
}

#[derive(Debug, Clone)]
pub(super) enum Failure {
    Refused(Refusal),
    Full(String),
    Stopped(String),
}

impl Submission {
    /// Made by the thread that will wait.
    pub(super) fn new(stream: StreamId, records: Vec<Incoming>, history: History) -> Submission {
        Submission { stream, records, history, answer: OnceLock::new(), caller: std::thread::current() }
    }

    pub(super) fn stream(&self) -> &StreamId {
        &self.stream
    }

    pub(super) fn room(&self) -> u64 {
        self.records.iter().map(Incoming::room).sum()
    }

    pub(super) fn answer(&self, answer: Answer) {
        self.answer.set(answer).expect("invariant: a submission is answered once");
        self.caller.unpark();
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.answer(Answer { taken: None, failure: Some(failure) });
    }

    /// Waits for the answer, and adds it to what became of the parts before.
    pub(super) fn wait(&self, first: usize, before: Option<Appended>) -> Result<Appended, AppendError> {
        let answer = loop {
            match self.answer.get() {
                Some(answer) => break answer.clone(),
                None => std::thread::park(),
            }
        };
        let taken = match (before, answer.taken) {
            (before, None) => before,
            (before, Some(mut taken)) => {
                taken.rejected.iter_mut().for_each(|rejected| rejected.position += first);
                if let Some(before) = before {
                    taken.size = taken.size.max(before.size);
                    taken.rejected.splice(0..0, before.rejected);
                }
                Some(taken)
            }
        };
        match answer.failure {
            None => Ok(taken.expect("invariant: a submission without failure has taken its records")),
            Some(Failure::Refused(refusal)) => Err(AppendError::Refused { refusal, taken: taken.map(Box::new) }),
            Some(Failure::Full(reason)) => Err(AppendError::Full { reason, taken: taken.map(Box::new) }),
            Some(Failure::Stopped(reason)) => Err(AppendError::Stopped { reason }),
        }
    }
}

/// Why a group was not committed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// No room could be made. Nothing was taken, and nothing changed.
    Full(WalError),
    /// Nobody knows what is on the disk.
    Fatal(WalError),
}

/// A group that is durable, with the answers that are due.
pub(super) struct Commit {
    pub(super) written: Vec<Written>,
    pub(super) answers: Vec<Answer>,
}

/// Owned by the one thread that commits.
pub(super) struct Committer {
    pub(super) wal: Wal,
}

impl Committer {
    /// Commits submissions as one group. `covered`: how many records are in a durable checkpoint.
    ///
    /// # Errors
    /// [`CommitError::Full`]: the submissions were refused, try later. [`CommitError::Fatal`]: the rules have run ahead of the disk, and nothing
    /// may be committed any more.
    pub(super) fn commit(
        &mut self,
        streams: &Mutex<Streams>,
        submissions: &[Arc<Submission>],
        covered: u64,
        now: Timestamp,
    ) -> Result<Commit, CommitError> {
        // 1. Room, before anything is decided: what is refused for want of it was never taken. A crash in here leaves an empty segment.
        let room = submissions.iter().map(|submission| submission.room()).sum();
        let first = lock(streams).next();
        self.wal.reserve(room, first, covered).map_err(CommitError::Full)?;

        // 2. The rules. They change only memory.
        let mut written = Vec::new();
        let answers = {
            let mut streams = lock(streams);
            let decide = |submission: &Arc<Submission>| decide(&mut streams, submission, now, &mut written);
            submissions.iter().map(decide).collect()
        };

        // 3. One write, one sync. A crash before its end leaves a torn group, which nobody was told about; after it the records are there
        //    for good, told or not: a producer that was not told sends them again, and gets the same answer.
        if !written.is_empty() {
            let records = written.iter().map(|(record, _)| &**record);
            self.wal.append(first, records).map_err(CommitError::Fatal)?;
        }
        Ok(Commit { written, answers })
    }
}

/// Takes a submission's records until one is refused.
fn decide(streams: &mut Streams, submission: &Submission, now: Timestamp, written: &mut Vec<Written>) -> Answer {
    let Submission { stream, records, history, .. } = submission;
    let mut answer = Answer { taken: None, failure: None };
    for (position, record) in records.iter().enumerate() {
        let (index, rejected) = match streams.accept(stream, record, history, now, written) {
            Ok(Outcome::Taken(index) | Outcome::Repeat(index)) => (index, None),
            Ok(Outcome::Rejected(index, reason)) => (index, Some(RejectedRecord { position, index, reason })),
            Err(refusal) => {
                answer.failure = Some(Failure::Refused(refusal));
                break;
            }
        };
        let size = index.size_with();
        let sequence = record.sequence().unwrap_or_else(|| last_sequence(streams, stream));
        let taken = answer.taken.get_or_insert(Appended { sequence, index, size, rejected: Vec::new() });
        (taken.sequence, taken.index, taken.size) = (sequence, index, taken.size.max(size));
        taken.rejected.extend(rejected);
    }
    answer
}

/// Where a record stands that does not say it itself.
fn last_sequence(streams: &Streams, stream: &StreamId) -> Sequence {
    streams.position(stream).map_or(Sequence(0), |position| position.sequence)
}
