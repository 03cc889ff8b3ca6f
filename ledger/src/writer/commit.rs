//! One group commit: decide about every record that waits, write the group, and only then answer.

use std::sync::{Arc, Mutex};

use cairn_schemas::ids::{Sequence, StreamId};
use cairn_schemas::time::Timestamp;

use super::submission::{Answer, Failure, Submission};
use super::{Appended, Position, RejectedRecord, lock};
use crate::store::{Durable, Log};
use crate::streams::{History, Outcome, Streams, Written};
use crate::volume::Place;
use crate::wal::{GROUP_LEN_MAX, WalError};

/// Most room that one submission may ask for: an append that needs more is submitted in parts.
pub(super) const SUBMISSION_ROOM_MAX: u64 = GROUP_LEN_MAX / 4;

/// Why a group was not committed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// No room could be made. Nothing was taken, and nothing changed.
    Full(WalError),
    /// Nobody knows what is on the disk.
    Fatal(WalError),
}

/// A group, with the answers that are due as soon as it is durable.
pub(super) struct Commit {
    pub(super) written: Vec<Written>,
    pub(super) answers: Vec<Answer>,
    /// Where each submission's stream stands with it, if it is open.
    pub(super) moved: Vec<Option<Position>>,
    /// Where the log does not stand still for each group: what to wait for before anybody is told.
    pub(super) durable: Option<Durable>,
}

/// Owned by the one thread that commits.
pub(super) struct Committer {
    pub(super) log: Box<dyn Log>,
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
        self.log.reserve(room, first, covered).map_err(CommitError::Full)?;

        // 2. The rules. They change only memory.
        let mut written = Vec::new();
        let (answers, moved) = {
            let mut streams = lock(streams);
            let decide = |submission: &Arc<Submission>| decide(&mut streams, submission, now, &mut written);
            let answers = submissions.iter().map(decide).collect();
            let moved = |submission: &Arc<Submission>| streams.position(submission.stream());
            (answers, submissions.iter().map(moved).collect())
        };

        // 3. One write, one sync. A crash before its end leaves a torn group, which nobody was told about; after it the records are there
        //    for good, told or not: a producer that was not told sends them again, and gets the same answer.
        let mut durable = None;
        if !written.is_empty() {
            durable = self.log.append(first, &written).map_err(CommitError::Fatal)?;
        }
        Ok(Commit { written, answers, moved, durable })
    }
}

/// Takes a submission's records until one is refused.
fn decide(streams: &mut Streams, submission: &Submission, now: Timestamp, written: &mut Vec<Written>) -> Answer {
    let (stream, records) = (submission.stream(), submission.records());
    let mut answer = Answer { taken: None, failure: None };
    let history = match streams.forgotten(stream, records) {
        None => History::new(),
        Some((from, sequences)) => match submission.history(&sequences) {
            Some(history) => history,
            None => {
                answer.failure = Some(Failure::Forgotten(from, sequences));
                return answer;
            }
        },
    };
    let volume = streams.volume();
    for (position, record) in records.iter().enumerate() {
        let (place, rejected) = match streams.accept(stream, record, &history, now, written) {
            Ok(Outcome::Taken(index)) => (Place { volume, index }, None),
            Ok(Outcome::Repeat(place)) => (place, None),
            Ok(Outcome::Rejected(index, reason)) => {
                (Place { volume, index }, Some(RejectedRecord { position, index, reason }))
            }
            Err(refusal) => {
                answer.failure = Some(Failure::Refused(refusal));
                break;
            }
        };
        let Place { volume, index } = place;
        let size = index.size_with();
        let sequence = record.sequence().unwrap_or_else(|| last_sequence(streams, stream));
        let taken = answer.taken.get_or_insert(Appended { sequence, volume, index, size, rejected: Vec::new() });
        // Repeats of an earlier volume's records come first: what counts is the last record's volume.
        let size = if taken.volume == volume { taken.size.max(size) } else { size };
        (taken.sequence, taken.volume, taken.index, taken.size) = (sequence, volume, index, size);
        taken.rejected.extend(rejected);
    }
    answer
}

/// Where a record stands that does not say it itself.
fn last_sequence(streams: &Streams, stream: &StreamId) -> Sequence {
    streams.position(stream).map_or(Sequence(0), |position| position.sequence)
}
