//! What the control plane knows: a fold over the ledger's records, and nothing else (promise P8).
//!
//! Deleting all of this loses nothing: it is rebuilt at each start by reading the ledger from its oldest volume on. So no method here changes
//! anything but by a record, and whatever must survive a restart is a record.
//!
//! Whose clock? A record carries its producer's time, and nodes' clocks are not trusted for more than order. Times that gates
//! compare are the control plane's: while it runs, the moment at which it saw the record; when it rebuilds, the record's time held
//! between the newest control plane record before it and now. A wrong node clock can so lengthen a soak, not shorten it.

mod node;
mod release;
mod skim;
mod summary;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_ledger::volume::Place;
use cairn_schemas::data::{
    CarriedNode, CarriedStream, FleetObserved, GitRefused, LedgerCarried, LedgerKeyRotated, LedgerOpened,
    NodeCapabilities, NodeFellback, NodeJoined, NodeLoaded, NodeRefused, ReleaseBuilt, ReleaseRejected, RolloutAborted,
    RolloutAdvanced, RolloutEntered, RolloutHeld, RolloutPromoted, RolloutSuperseded, StreamObserved, StreamRejected,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{CommitId, NodeId, ReleaseRef, Sequence, Serial, StreamId, TreeSize};
use cairn_schemas::record::{Record, RecordError};
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::{NodeKind, RecordType};

pub use node::{Node, Running};
pub use release::{Release, Verdict};
use skim::Skimmed;
use summary::summary_of;
pub(crate) use summary::{count, problem_line, short};

use crate::rollout::{InRing, NodeObserved, Observed, Phase};

/// How many of the last records are kept for the pages.
pub const RECENT_MAX: usize = 50;

/// One of the last records, as a page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// Its place.
    pub place: Place,
    /// Its producer's time.
    pub time: Timestamp,
    /// Its type.
    pub kind: RecordType,
    /// Its stream.
    pub stream: StreamId,
    /// Its subject, or what it is about in the payload.
    pub subject: String,
    /// One line of what it says.
    pub summary: String,
}

/// Where a stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its last record.
    pub sequence: Sequence,
    /// That record's leaf hash.
    pub digest: Digest,
    /// Records after its newest head.
    pub unsigned: u64,
    /// The sequence that `fleet.observed` last named.
    pub observed: Option<Sequence>,
}

/// The fold.
#[derive(Debug, Clone)]
pub struct State {
    control_node: NodeId,
    size: u64,
    end: Place,
    control_time: Timestamp,
    nodes: BTreeMap<NodeId, Node>,
    streams: BTreeMap<StreamId, Stream>,
    releases: BTreeMap<Serial, Release>,
    verdicts: BTreeMap<CommitId, Verdict>,
    accepted: Option<CommitId>,
    refused_tips: BTreeSet<CommitId>,
    promotions: Vec<ReleaseRef>,
    known_good: BTreeSet<Digest>,
    recent: VecDeque<Recent>,
    counts: BTreeMap<RecordType, u64>,
    endorsements: Vec<String>,
}

impl State {
    /// Of an empty ledger. Records of role control are those of `control_node`'s streams.
    #[must_use]
    pub fn new(control_node: NodeId) -> State {
        State {
            control_node,
            size: 0,
            end: Place::start_of(1),
            control_time: Timestamp::default(),
            nodes: BTreeMap::new(),
            streams: BTreeMap::new(),
            releases: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            accepted: None,
            refused_tips: BTreeSet::new(),
            promotions: Vec::new(),
            known_good: BTreeSet::new(),
            recent: VecDeque::new(),
            counts: BTreeMap::new(),
            endorsements: Vec::new(),
        }
    }

    /// Takes the next record. `arrived` is the control plane's time where it sees the record being written, and `None` where it
    /// reads an old one; `now` bounds what an old one may claim.
    ///
    /// # Errors
    /// The bytes are no record. They count in [`State::size`], and nothing else changes.
    pub fn apply(
        &mut self,
        bytes: &[u8],
        arrived: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(Place, Record), RecordError> {
        let mut place = self.end;
        self.size += 1;
        self.end = place.plus(1);
        let record = Record::parse(bytes)?;
        if record.kind == RecordType::LedgerOpened {
            place = Place::start_of(record.data_as::<LedgerOpened>()?.volume);
            self.end = place.plus(1);
        }
        let control = record.stream.node().as_ref() == Some(&self.control_node);
        if control {
            self.control_time = self.control_time.max(record.time.min(now));
        }
        let seen = arrived.unwrap_or_else(|| record.time.min(now).max(self.control_time));
        self.follow_stream(&record.stream, record.sequence, record.kind, bytes);
        *self.counts.entry(record.kind).or_default() += 1;
        match record.kind {
            RecordType::StreamRejected => self.follow_rejected(&record.data_as()?),
            RecordType::LedgerOpened => {
                if let Some(previous) = record.data_as::<LedgerOpened>()?.previous {
                    self.endorsements.extend(previous.endorsement);
                    self.carry(previous.nodes, previous.streams, seen);
                }
            }
            RecordType::LedgerKeyRotated => {
                self.endorsements.push(record.data_as::<LedgerKeyRotated>()?.endorsement);
            }
            RecordType::LedgerCarried => {
                let LedgerCarried { nodes, streams } = record.data_as()?;
                self.carry(nodes, streams, seen);
            }
            _ => {}
        }
        let summary =
            if control { self.apply_control(place, &record, seen)? } else { self.apply_other(&record, seen)? };
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            place,
            time: record.time,
            kind: record.kind,
            stream: record.stream.clone(),
            subject: record.subject.clone().unwrap_or_default(),
            summary,
        });
        Ok((place, record))
    }

    /// Takes the next record of an old ledger, after which `more` others follow. What [`State::apply`] with no arrival does, quicker:
    /// decisions, detections and heads come by the million, and nothing of them is kept but where their stream stands.
    pub(crate) fn replay(&mut self, bytes: &[u8], now: Timestamp, more: u64) -> Result<(), RecordError> {
        if more >= RECENT_MAX as u64
            && let Some(skimmed) = Skimmed::read(bytes)
            && !is_folded(skimmed.kind)
            && skimmed.stream.node().as_ref() != Some(&self.control_node)
        {
            self.size += 1;
            self.end = self.end.plus(1);
            let seen = skimmed.time.min(now).max(self.control_time);
            self.follow_stream(&skimmed.stream, skimmed.sequence, skimmed.kind, bytes);
            *self.counts.entry(skimmed.kind).or_default() += 1;
            if let Some(node) = skimmed.stream.node().and_then(|node| self.nodes.get_mut(&node)) {
                node.last_seen = seen;
            }
            return Ok(());
        }
        self.apply(bytes, None, now).map(drop)
    }

    fn follow_stream(&mut self, id: &StreamId, sequence: Sequence, kind: RecordType, bytes: &[u8]) {
        let digest = Digest::leaf(bytes);
        let known = self.streams.get_mut(id);
        let unsigned = known.as_ref().map_or(0, |stream| stream.unsigned);
        let unsigned = if kind == RecordType::StreamHead { 0 } else { unsigned + 1 };
        match known {
            Some(stream) => (stream.sequence, stream.digest, stream.unsigned) = (sequence, digest, unsigned),
            None => {
                self.streams.insert(id.clone(), Stream { sequence, digest, unsigned, observed: None });
            }
        }
    }

    /// What a volume takes over from one that may have been dropped since: what is known already stays as it is.
    fn carry(&mut self, nodes: Vec<CarriedNode>, streams: Vec<CarriedStream>, seen: Timestamp) {
        for node in nodes {
            if enforces(node.kind) {
                self.nodes.entry(node.node.clone()).or_insert_with(|| Node::carried(node, seen));
            }
        }
        for CarriedStream { stream, sequence, digest } in streams {
            self.streams.entry(stream).or_insert(Stream { sequence, digest, unsigned: 0, observed: None });
        }
    }

    /// The stream goes on after the record that was refused: the next one names its hash.
    fn follow_rejected(&mut self, rejected: &StreamRejected) {
        if let Some(stream) = self.streams.get_mut(&rejected.stream) {
            stream.sequence = rejected.sequence;
            stream.digest = rejected.digest;
            stream.unsigned += 1;
        }
    }

    /// A record of the control plane's own stream.
    fn apply_control(&mut self, place: Place, record: &Record, seen: Timestamp) -> Result<String, RecordError> {
        Ok(match record.kind {
            RecordType::NodeJoined => {
                let data: NodeJoined = record.data_as()?;
                let summary = format!("{} joined as {}", data.node, data.kind.as_str());
                if enforces(data.kind) {
                    self.nodes.entry(data.node.clone()).or_insert_with(|| Node::new(data, seen));
                }
                summary
            }
            RecordType::FleetObserved => {
                let data: FleetObserved = record.data_as()?;
                for stream in &data.streams {
                    if let Some(known) = self.streams.get_mut(&stream.stream) {
                        known.observed = Some(stream.sequence);
                    }
                }
                format!("{} moved, {} did not", count(data.streams.len() as u64, "stream"), data.unchanged)
            }
            RecordType::ReleaseBuilt => {
                let data: ReleaseBuilt = record.data_as()?;
                let summary = format!("release {} built from {}", data.serial, short(&data.commit));
                // A commit that is built again (before it expires) is no step forward in history.
                if !matches!(
                    self.verdicts.insert(data.commit.clone(), Verdict::Built(data.serial)),
                    Some(Verdict::Built(_))
                ) {
                    self.accepted = Some(data.commit.clone());
                }
                let leaf = self.streams.get(&record.stream).map_or(Digest::ZERO, |stream| stream.digest);
                self.releases.insert(data.serial, Release::new(data, seen, place, leaf));
                summary
            }
            RecordType::ReleaseRejected => {
                let data: ReleaseRejected = record.data_as()?;
                self.verdicts.entry(data.commit.clone()).or_insert(Verdict::Rejected);
                let first = data.problems.first().map(problem_line).unwrap_or_default();
                format!("commit {} rejected: {first}", short(&data.commit))
            }
            RecordType::GitRefused => {
                let data: GitRefused = record.data_as()?;
                let summary = format!("tip {} not followed: {}", short(&data.refused), data.reason);
                self.refused_tips.insert(data.refused);
                summary
            }
            RecordType::RolloutEntered => {
                let data: RolloutEntered = record.data_as()?;
                let at = InRing { ring: data.ring.clone(), entered: seen, held: false, known_good: data.known_good };
                if let Some(release) = self.releases.get_mut(&data.release.serial) {
                    release.rings.push(data.ring.clone());
                    release.phase = Phase::InRing(at);
                }
                format!(
                    "release {} offered to {} ({})",
                    data.release.serial,
                    data.ring,
                    count(data.nodes_total, "node")
                )
            }
            RecordType::RolloutHeld => {
                let data: RolloutHeld = record.data_as()?;
                if let Some(Phase::InRing(at)) = self.phase_mut(data.release) {
                    at.held = true;
                }
                format!("release {} waits in {}: {}", data.release.serial, data.ring, data.reason)
            }
            RecordType::RolloutAdvanced => {
                let data: RolloutAdvanced = record.data_as()?;
                self.end_phase(data.release, Phase::Passed { ring: data.ring.clone() });
                let nodes = count(data.nodes_active, "node");
                format!("release {} passed {} (running on {nodes})", data.release.serial, data.ring)
            }
            RecordType::RolloutAborted => {
                let data: RolloutAborted = record.data_as()?;
                self.end_phase(data.release, Phase::Aborted { reason: data.reason.clone() });
                self.found_bad(data.release.digest, seen);
                format!("release {} aborted in {}: {}", data.release.serial, data.ring, data.reason)
            }
            RecordType::RolloutSuperseded => {
                let data: RolloutSuperseded = record.data_as()?;
                self.end_phase(data.release, Phase::Superseded { by: data.by });
                format!("release {} superseded by {}", data.release.serial, data.by.serial)
            }
            RecordType::RolloutPromoted => {
                let data: RolloutPromoted = record.data_as()?;
                self.end_phase(data.release, Phase::Promoted);
                self.promoted(data.release, seen);
                format!("release {} promoted as {}", data.release.serial, data.tag)
            }
            _ => summary_of(record),
        })
    }

    /// A record of a node or of the ledger itself.
    fn apply_other(&mut self, record: &Record, seen: Timestamp) -> Result<String, RecordError> {
        let Some(node) = record.stream.node().and_then(|node| self.nodes.get_mut(&node)) else {
            return Ok(summary_of(record));
        };
        node.last_seen = seen;
        Ok(match record.kind {
            RecordType::NodeCapabilities => {
                let data: NodeCapabilities = record.data_as()?;
                let summary = format!("{}; can {}", if data.live { "live" } else { "not live" }, data.can.join(", "));
                node.capabilities = Some(data);
                summary
            }
            RecordType::NodeLoaded => {
                let data: NodeLoaded = record.data_as()?;
                node.loaded(data.release, seen);
                format!("runs release {}", data.release.serial)
            }
            RecordType::NodeRefused => {
                let data: NodeRefused = record.data_as()?;
                node.fail(data.serial, format!("refused: {}: {}", data.check, data.reason));
                format!("refused release {}: {}: {}", data.serial, data.check, data.reason)
            }
            RecordType::NodeFellback => {
                let data: NodeFellback = record.data_as()?;
                let to = data.to.map_or_else(|| "nothing".to_owned(), |to| format!("release {}", to.serial));
                let summary = format!("fell back from release {} to {to}: {}", data.from.serial, data.reason);
                // Going back because the control plane gave the release up is obedience, not one more failure.
                let given_up =
                    |release: &Release| matches!(release.phase, Phase::Aborted { .. } | Phase::Superseded { .. });
                if !self.releases.get(&data.from.serial).is_some_and(given_up) {
                    node.fail(data.from.serial, format!("fell back: {}", data.reason));
                }
                match data.to {
                    Some(to) => node.loaded(to, seen),
                    None => node.stopped(seen),
                }
                summary
            }
            _ => summary_of(record),
        })
    }

    fn phase_mut(&mut self, release: ReleaseRef) -> Option<&mut Phase> {
        self.releases.get_mut(&release.serial).map(|release| &mut release.phase)
    }

    fn end_phase(&mut self, release: ReleaseRef, to: Phase) {
        if let Some(phase) = self.phase_mut(release) {
            *phase = to;
        }
    }

    /// A promotion of content that was promoted before is a rollback: what was promoted in between is known good no longer.
    fn promoted(&mut self, release: ReleaseRef, at: Timestamp) {
        if self.known_good.contains(&release.digest) {
            let last = self.promotions.iter().rposition(|earlier| earlier.digest == release.digest);
            let undone: Vec<Digest> = self.promotions[last.map_or(0, |at| at + 1)..].iter().map(|r| r.digest).collect();
            for digest in undone {
                self.found_bad(digest, at);
            }
        }
        self.known_good.insert(release.digest);
        self.promotions.push(release);
    }

    /// The content is known good no longer, and what it ran for until now counts for no soak.
    fn found_bad(&mut self, content: Digest, at: Timestamp) {
        self.known_good.remove(&content);
        for node in self.nodes.values_mut() {
            node.forget(content, at);
        }
    }

    /// How many records were folded.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// The place behind the last record that was folded.
    #[must_use]
    pub const fn end(&self) -> Place {
        self.end
    }

    /// The nodes that joined, by id.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    /// Every stream, by id.
    #[must_use]
    pub const fn streams(&self) -> &BTreeMap<StreamId, Stream> {
        &self.streams
    }

    /// Every release, by serial.
    #[must_use]
    pub const fn releases(&self) -> &BTreeMap<Serial, Release> {
        &self.releases
    }

    /// The last release that was built.
    #[must_use]
    pub fn last_built(&self) -> Option<&Release> {
        self.releases.values().next_back()
    }

    /// The last commit that was accepted: history goes on from it.
    #[must_use]
    pub const fn accepted(&self) -> Option<&CommitId> {
        self.accepted.as_ref()
    }

    /// What became of a commit.
    #[must_use]
    pub fn verdict(&self, commit: &CommitId) -> Option<Verdict> {
        self.verdicts.get(commit).copied()
    }

    /// Whether it is already recorded that this tip is not followed.
    #[must_use]
    pub fn is_refused_tip(&self, commit: &CommitId) -> bool {
        self.refused_tips.contains(commit)
    }

    /// What was promoted last.
    #[must_use]
    pub fn last_promoted(&self) -> Option<ReleaseRef> {
        self.promotions.last().copied()
    }

    /// Every promotion, oldest first.
    #[must_use]
    pub fn promotions(&self) -> &[ReleaseRef] {
        &self.promotions
    }

    /// Whether this content was promoted, and since neither aborted nor rolled back.
    #[must_use]
    pub fn is_known_good(&self, content: Digest) -> bool {
        self.known_good.contains(&content)
    }

    /// The newest release with this content.
    #[must_use]
    pub fn newest_with(&self, content: Digest) -> Option<ReleaseRef> {
        self.releases.values().rev().map(Release::reference).find(|release| release.digest == content)
    }

    /// The last records, newest last; at most [`RECENT_MAX`].
    #[must_use]
    pub const fn recent(&self) -> &VecDeque<Recent> {
        &self.recent
    }

    /// What the root said about the ledger's keys, oldest first: nodes that pinned an older key believe it.
    #[must_use]
    pub fn endorsements(&self) -> &[String] {
        &self.endorsements
    }

    /// How many records of each type.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<RecordType, u64> {
        &self.counts
    }

    /// The release that is in a ring and has not ended. At most one: the newest supersedes all others.
    #[must_use]
    pub fn in_rollout(&self) -> Option<&Release> {
        let moving = |release: &&Release| matches!(release.phase, Phase::InRing(_) | Phase::Passed { .. });
        self.releases.values().rev().find(moving)
    }

    /// What [`crate::rollout::plan`] sees with regard to `target`; `None` for a release that was never built.
    #[must_use]
    pub fn observed(&self, target: ReleaseRef, now: Timestamp) -> Option<Observed> {
        let release = self.releases.get(&target.serial)?;
        let older = self.releases.range(..target.serial).map(|(_, release)| release);
        let node = |(id, node): (&NodeId, &Node)| NodeObserved {
            id: id.clone(),
            labels: node.labels.clone(),
            joined: node.joined,
            running: node.running_since(target),
            ran: node.ran(target.digest, now),
            failed: node.failure(target.serial).map(str::to_owned),
        };
        Some(Observed {
            phase: release.phase.clone(),
            unfinished: older.filter(|release| !release.phase.ended()).map(Release::reference).collect(),
            promoted: self.last_promoted(),
            nodes: self.nodes.iter().map(node).collect(),
        })
    }

    /// The streams that moved since `fleet.observed` last named them, and how many did not. The ledger's own is not among them: its
    /// heads are the checkpoints.
    #[must_use]
    pub fn moved_streams(&self) -> (Vec<StreamObserved>, u64) {
        let producers = || self.streams.iter().filter(|(id, _)| !id.is_ledger());
        let moved: Vec<StreamObserved> = producers()
            .filter(|(_, stream)| stream.observed != Some(stream.sequence))
            .map(|(id, stream)| StreamObserved { stream: id.clone(), sequence: stream.sequence, digest: stream.digest })
            .collect();
        let unchanged = (producers().count() - moved.len()) as u64;
        (moved, unchanged)
    }
}

/// Whether nodes of this kind run releases. A producer on the ledger's own machine only records: no ring waits for it.
const fn enforces(kind: NodeKind) -> bool {
    !matches!(kind, NodeKind::Local)
}

/// Whether the state keeps anything of records of this type, but where their stream stands. A rollout or an offer depends on no other.
pub(crate) const fn is_folded(kind: RecordType) -> bool {
    !matches!(
        kind,
        RecordType::AdmissionDecided
            | RecordType::DetectionRaised
            | RecordType::ContainmentRequested
            | RecordType::ContainmentFinished
            | RecordType::ContainmentRefused
            | RecordType::StreamHead
            | RecordType::SensorLoss
    )
}

#[cfg(test)]
pub(crate) mod tests;
