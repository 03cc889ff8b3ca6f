//! What callers and threads look at under a lock: the queue of appends, and what is durable.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use cairn_schemas::ids::StreamId;

use super::commit::Submission;
use super::{Position, PublishedCheckpoint, TAIL_BYTES_MAX};
use crate::streams::Written;

/// Appends that wait to be committed.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<Arc<Submission>>,
    /// The room of all that waits.
    pub(super) bytes: u64,
    pub(super) closing: bool,
}

/// What is durable and what is published.
pub(super) struct State {
    /// How many records are durable.
    pub(super) durable: u64,
    /// The last durable records: at least all that are not published.
    tail: VecDeque<Written>,
    tail_bytes: usize,
    /// Bytes of the records in `tail` that are not published.
    pub(super) lag_bytes: usize,
    pub(super) positions: HashMap<StreamId, Position>,
    pub(super) published: Arc<PublishedCheckpoint>,
    /// How many callers wait for a checkpoint.
    pub(super) waiting_for_checkpoint: usize,
    /// Why nothing is accepted any more: an error whose outcome nobody knows.
    pub(super) stopped: Option<String>,
    /// Why nothing is accepted for now: publishing found the disk full.
    pub(super) full: Option<String>,
    /// No more appends are taken.
    pub(super) closing: bool,
    /// Everything that was taken is committed; nothing more will be.
    pub(super) committed_all: bool,
    /// The threads are done.
    pub(super) finished: bool,
}

impl State {
    pub(super) fn new(published: PublishedCheckpoint, positions: HashMap<StreamId, Position>) -> State {
        State {
            durable: published.size.0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            lag_bytes: 0,
            positions,
            published: Arc::new(published),
            waiting_for_checkpoint: 0,
            stopped: None,
            full: None,
            closing: false,
            committed_all: false,
            finished: false,
        }
    }

    /// Takes up records that became durable.
    pub(super) fn extend(&mut self, written: Vec<Written>) {
        let bytes: usize = written.iter().map(|(record, _)| record.len()).sum();
        self.durable += written.len() as u64;
        self.tail_bytes += bytes;
        self.lag_bytes += bytes;
        self.tail.extend(written);
    }

    /// The durable records that are not published, at most `max`.
    pub(super) fn unpublished(&self, max: usize) -> Vec<Written> {
        let behind = (self.durable - self.published.size.0) as usize;
        self.tail.range(self.tail.len() - behind..).take(max).cloned().collect()
    }

    /// Takes up a newer checkpoint, and forgets published records beyond [`TAIL_BYTES_MAX`].
    pub(super) fn publish(&mut self, checkpoint: PublishedCheckpoint) {
        let first = self.durable - self.tail.len() as u64;
        let newly = (self.published.size.0 - first) as usize..(checkpoint.size.0 - first) as usize;
        self.lag_bytes -= self.tail.range(newly).map(|(record, _)| record.len()).sum::<usize>();
        self.published = Arc::new(checkpoint);
        while self.tail_bytes > TAIL_BYTES_MAX && self.durable - (self.tail.len() as u64) < self.published.size.0 {
            let Some((record, _)) = self.tail.pop_front() else { break };
            self.tail_bytes -= record.len();
        }
    }

    /// Records in memory from `from` on; `None` when `from` is older than these.
    pub(super) fn tail_from(&self, from: u64, max: usize) -> Option<Vec<Arc<[u8]>>> {
        let first = self.durable - self.tail.len() as u64;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?.min(self.tail.len());
        Some(self.tail.range(skip..).take(max).map(|(record, _)| record.clone()).collect())
    }
}
