//! What callers and threads look at under a lock: the queue of appends, and what is durable.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use cairn_schemas::ids::StreamId;

use super::submission::Submission;
use super::{Position, PublishedCheckpoint, TAIL_BYTES_MAX};
use crate::streams::Written;

/// Appends that wait to be committed.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<Arc<Submission>>,
    /// The room of all that waits.
    pub(super) bytes: u64,
    /// Who found no room.
    pub(super) blocked: Vec<Waker>,
    /// The committing thread sleeps until something is queued.
    pub(super) committer_asleep: bool,
    pub(super) closing: bool,
}

/// What is durable and what is published.
pub(super) struct State {
    /// How many records are durable.
    pub(super) durable: u64,
    /// The last durable records, as they were committed: at least all that are not published. Whoever needs many takes whole groups, and
    /// holds the lock no longer than that takes.
    tail: VecDeque<Arc<Group>>,
    tail_bytes: usize,
    /// Bytes of the records in `tail` that are not published, but for the backlog.
    pub(super) lag_bytes: usize,
    /// Where the backlog ends: records before this stood in the log when it was opened. They are in memory already, become fewer and
    /// never more, and so do not hold up appends.
    backlog_end: u64,
    pub(super) positions: HashMap<StreamId, Position>,
    pub(super) published: Arc<PublishedCheckpoint>,
    /// How many callers wait for a checkpoint.
    pub(super) waiting_for_checkpoint: usize,
    /// Those among them that are not threads.
    pub(super) checkpoint_wakers: Vec<Waker>,
    /// Nothing is published: what a benchmark of recovery begins with.
    #[cfg(feature = "bench")]
    pub(super) held: bool,
    /// Why nothing is accepted any more: an error whose outcome nobody knows.
    pub(super) stopped: Option<String>,
    /// Why nothing is accepted any more, by somebody's will.
    pub(super) frozen: Option<String>,
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
            backlog_end: published.size.0,
            positions,
            published: Arc::new(published),
            waiting_for_checkpoint: 0,
            checkpoint_wakers: Vec::new(),
            #[cfg(feature = "bench")]
            held: false,
            stopped: None,
            frozen: None,
            full: None,
            closing: false,
            committed_all: false,
            finished: false,
        }
    }

    /// Whether a benchmark holds publishing back.
    pub(super) fn is_held(&self) -> bool {
        #[cfg(feature = "bench")]
        return self.held;
        #[cfg(not(feature = "bench"))]
        false
    }

    /// Takes up records that were durable before anything else, part by part as they are to be published and given up.
    pub(super) fn begin_with(&mut self, backlog: Vec<Vec<Written>>) {
        for part in backlog {
            self.extend(part);
        }
        self.lag_bytes = 0;
        self.backlog_end = self.durable;
    }

    /// Takes up records that became durable.
    pub(super) fn extend(&mut self, records: Vec<Written>) {
        if records.is_empty() {
            return;
        }
        let bytes = records.iter().map(|(record, _)| record.len()).sum();
        let group = Group { first: self.durable, bytes, records };
        self.durable = group.end();
        self.tail_bytes += bytes;
        self.lag_bytes += bytes;
        self.tail.push_back(Arc::new(group));
    }

    /// The durable records that are not published: about `max`, in whole groups, one at least.
    pub(super) fn unpublished(&self, max: usize) -> Stretch {
        let first = self.published.size.0;
        let behind = self.tail.partition_point(|group| group.end() <= first);
        let groups = self.tail.range(behind..).take_while(|group| group.first < first + max as u64).cloned().collect();
        Stretch { first, groups }
    }

    /// Takes up a newer checkpoint, and gives up published records beyond [`TAIL_BYTES_MAX`]: to be dropped without the lock.
    #[must_use = "a drop here would be under the lock"]
    pub(super) fn publish(&mut self, checkpoint: PublishedCheckpoint) -> Vec<Arc<Group>> {
        let newly = self.published.size.0..checkpoint.size.0;
        let from = self.tail.partition_point(|group| group.end() <= newly.start);
        let published =
            self.tail.range(from..).flat_map(|group| group.from(newly.start).zip(group.first.max(newly.start)..));
        let published = published.take_while(|(_, index)| *index < newly.end);
        let published = published.filter(|(_, index)| *index >= self.backlog_end);
        self.lag_bytes -= published.map(|((record, _), _)| record.len()).sum::<usize>();
        self.published = Arc::new(checkpoint);
        let mut given_up = Vec::new();
        while self.tail_bytes > TAIL_BYTES_MAX
            && let Some(oldest) = self.tail.front()
            && oldest.end() <= self.published.size.0
        {
            self.tail_bytes -= oldest.bytes;
            given_up.extend(self.tail.pop_front());
        }
        given_up
    }

    /// Records in memory from `from` on, about `max` and not fewer where there are as many; `None` when `from` is older than these.
    pub(super) fn tail_from(&self, from: u64, max: usize) -> Option<Stretch> {
        let first = self.tail.front().map_or(self.durable, |group| group.first);
        if from < first {
            return None;
        }
        let end = from.saturating_add(max as u64);
        let groups = self.tail.range(self.tail.partition_point(|group| group.end() <= from)..);
        Some(Stretch { first: from, groups: groups.take_while(|group| group.first < end).cloned().collect() })
    }
}

/// The records of one group commit.
pub(super) struct Group {
    first: u64,
    bytes: usize,
    records: Vec<Written>,
}

impl Group {
    fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// Those from `index` on.
    fn from(&self, index: u64) -> impl Iterator<Item = &Written> {
        self.records.iter().skip(usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX))
    }
}

/// Durable records in memory.
pub(super) struct Stretch {
    first: u64,
    groups: Vec<Arc<Group>>,
}

impl Stretch {
    pub(super) fn records(&self) -> impl Iterator<Item = &Written> {
        self.groups.iter().flat_map(|group| group.from(self.first))
    }
}
