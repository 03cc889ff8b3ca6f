//! One node, as the ledger's records tell of it.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_schemas::data::{CarriedNode, NodeCapabilities, NodeJoined};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Serial};
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::NodeKind;

/// Of how many contents a node's run time is remembered: enough for the soak of what comes back, bounded for ever.
const RUNS_MAX: usize = 16;
/// Of how many releases a node's failure is remembered.
const FAILURES_MAX: usize = 16;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Its stream key: Ed25519, standard base64 of 32 bytes.
    pub key: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it joined.
    pub joined: Timestamp,
    /// When its last record came.
    pub last_seen: Timestamp,
    /// What it said last that it can do.
    pub capabilities: Option<NodeCapabilities>,
    /// What it runs.
    pub running: Option<Running>,
    /// For how long it ran contents that it runs no longer.
    runs: BTreeMap<Digest, Duration>,
    failures: BTreeMap<Serial, String>,
}

/// What a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// The release.
    pub release: ReleaseRef,
    /// Since when.
    pub since: Timestamp,
    /// Since when it runs this content, under any serial.
    pub content_since: Timestamp,
}

impl Node {
    pub(super) fn new(joined: NodeJoined, at: Timestamp) -> Node {
        Node {
            kind: joined.kind,
            key: joined.key,
            labels: joined.labels,
            joined: at,
            last_seen: at,
            capabilities: None,
            running: None,
            runs: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// A node that joined in a volume which may be gone: its labels were said there.
    pub(super) fn carried(node: CarriedNode, at: Timestamp) -> Node {
        let CarriedNode { node, kind, key } = node;
        Node::new(NodeJoined { node, kind, key, labels: BTreeMap::new(), protocol: String::new() }, at)
    }

    /// It activated a release. The same release again (a restart) changes nothing; the same content under another serial goes on
    /// running.
    pub(super) fn loaded(&mut self, release: ReleaseRef, at: Timestamp) {
        match &mut self.running {
            Some(running) if running.release == release => {}
            Some(running) if running.release.digest == release.digest => {
                running.release = release;
                running.since = at;
            }
            _ => {
                self.stopped(at);
                self.running = Some(Running { release, since: at, content_since: at });
            }
        }
    }

    /// It runs nothing any more.
    pub(super) fn stopped(&mut self, at: Timestamp) {
        let Some(running) = self.running.take() else {
            return;
        };
        if self.runs.len() == RUNS_MAX && !self.runs.contains_key(&running.release.digest) {
            // Losing the shortest run costs a soak at worst; nothing is passed that was not soaked.
            let shortest = self.runs.iter().min_by_key(|(_, ran)| **ran).map(|(digest, _)| *digest);
            shortest.map(|digest| self.runs.remove(&digest));
        }
        *self.runs.entry(running.release.digest).or_default() += at.since(running.content_since);
    }

    pub(super) fn fail(&mut self, serial: Serial, reason: String) {
        self.failures.insert(serial, reason);
        if self.failures.len() > FAILURES_MAX {
            self.failures.pop_first();
        }
    }

    /// The content was found bad: what it ran for counts no longer.
    pub(super) fn forget(&mut self, content: Digest, at: Timestamp) {
        self.runs.remove(&content);
        if let Some(running) = &mut self.running
            && running.release.digest == content
        {
            running.content_since = at;
        }
    }

    /// Since when it runs this release; `None` when it does not.
    #[must_use]
    pub fn running_since(&self, release: ReleaseRef) -> Option<Timestamp> {
        self.running.filter(|running| running.release == release).map(|running| running.since)
    }

    /// For how long it has run this content, all in all.
    #[must_use]
    pub fn ran(&self, content: Digest, now: Timestamp) -> Duration {
        let current = self.running.filter(|running| running.release.digest == content);
        let current = current.map(|running| now.since(running.content_since)).unwrap_or_default();
        current + self.runs.get(&content).copied().unwrap_or_default()
    }

    /// Why it refused this release or fell back from it, where it did.
    #[must_use]
    pub fn failure(&self, serial: Serial) -> Option<&str> {
        self.failures.get(&serial).map(String::as_str)
    }
}
