use std::collections::BTreeMap;
use std::time::Duration;

use cairn_schemas::data::{CommitSignature, LoadCause, RecordData, TestCounts};
use cairn_schemas::record::Draft;
use cairn_schemas::token::{TokenKey, token};
use cairn_schemas::types::NodeKind;

use super::*;
use crate::rollout::{Action, Target};

/// A ledger without a disk: records as their producers would write them, folded as they come.
pub(crate) struct Story {
    pub(crate) state: State,
    pub(crate) log: Vec<Vec<u8>>,
    pub(crate) now: Timestamp,
    positions: BTreeMap<StreamId, (Sequence, Digest)>,
}

pub(crate) fn control() -> NodeId {
    "control".parse().unwrap()
}

pub(crate) fn stream_of(node: &NodeId) -> StreamId {
    StreamId::new(node, [7; 16])
}

pub(crate) fn reference(serial: u64, content: &str) -> ReleaseRef {
    ReleaseRef { serial: Serial(serial), digest: Digest::sha256(content.as_bytes()) }
}

pub(crate) fn commit(serial: u64) -> CommitId {
    format!("{serial:040x}").parse().unwrap()
}

impl Story {
    pub(crate) fn new() -> Story {
        let now = Timestamp::from_nanos(1_700_000_000_000_000_000);
        Story { state: State::new(control()), log: Vec::new(), now, positions: BTreeMap::new() }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    pub(crate) fn write(&mut self, node: &NodeId, draft: Draft) {
        self.write_at(node, draft, self.now);
    }

    pub(crate) fn write_at(&mut self, node: &NodeId, draft: Draft, time: Timestamp) {
        let stream = stream_of(node);
        let (sequence, prevdigest) = match self.positions.get(&stream) {
            Some((sequence, digest)) => (sequence.next(), *digest),
            None => (Sequence(0), Digest::ZERO),
        };
        let record = Record {
            stream: stream.clone(),
            sequence,
            prevdigest,
            kind: draft.kind,
            subject: draft.subject,
            time,
            release: draft.release,
            foreignid: draft.foreignid,
            data: draft.data,
        };
        let bytes = record.to_bytes().unwrap();
        self.positions.insert(stream, (sequence, Digest::leaf(&bytes)));
        self.state.apply(&bytes, Some(self.now), self.now).unwrap();
        self.log.push(bytes);
    }

    pub(crate) fn control<T: RecordData>(&mut self, data: &T) {
        self.write(&control(), Draft::new(data));
    }

    pub(crate) fn act(&mut self, action: &Action) {
        self.write(&control(), action.draft());
    }

    pub(crate) fn join(&mut self, node: &str, labels: &[(&str, &str)]) -> NodeId {
        let node: NodeId = node.parse().unwrap();
        self.control(&NodeJoined {
            node: node.clone(),
            kind: NodeKind::Sensor,
            key: "key".into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            protocol: "1.0".into(),
        });
        node
    }

    pub(crate) fn build(&mut self, serial: u64, content: &str) -> ReleaseRef {
        let release = reference(serial, content);
        let key = TokenKey { epoch: "e1".into(), key: [1; 32] };
        self.control(&ReleaseBuilt {
            serial: release.serial,
            commit: commit(serial),
            content: release.digest,
            statement: Digest::ZERO,
            expires: self.now,
            signature: CommitSignature::None,
            author: token(&key, "email", "a@example.com").into(),
            known_good: self.state.is_known_good(release.digest),
            same_content_as: self.state.newest_with(release.digest),
            tests: TestCounts { passed: 1, failed: 0 },
        });
        release
    }

    pub(crate) fn load(&mut self, node: &NodeId, release: ReleaseRef) {
        let previous = self.state.nodes()[node].running.map(|running| running.release);
        let data = NodeLoaded { release, previous, cause: LoadCause::Offered, checkpoint_size: 1 };
        self.write(node, Draft::new(&data));
    }

    pub(crate) fn refuse(&mut self, node: &NodeId, release: ReleaseRef) {
        let data = NodeRefused {
            serial: release.serial,
            release: Some(release),
            check: "load".into(),
            reason: "does not load".into(),
        };
        self.write(node, Draft::new(&data));
    }

    pub(crate) fn fall_back(&mut self, from: ReleaseRef, to: Option<ReleaseRef>, node: &NodeId) {
        self.write(node, Draft::new(&NodeFellback { from, to, reason: "unstable".into() }));
    }

    pub(crate) fn target(
        &self,
        release: ReleaseRef,
        config: &std::sync::Arc<cairn_schemas::config::PolicyConfig>,
    ) -> Target {
        Target {
            release,
            commit: commit(release.serial.0),
            known_good: self.state.is_known_good(release.digest),
            config: config.clone(),
        }
    }

    /// Plans and acts until there is nothing to do; the actions taken.
    pub(crate) fn settle(
        &mut self,
        release: ReleaseRef,
        config: &std::sync::Arc<cairn_schemas::config::PolicyConfig>,
    ) -> Vec<Action> {
        let mut taken = Vec::new();
        for _ in 0..1_000 {
            let target = self.target(release, config);
            let observed = self.state.observed(release, self.now).unwrap();
            let actions = crate::rollout::plan(&target, &observed, self.now);
            if actions.is_empty() {
                return taken;
            }
            actions.iter().for_each(|action| self.act(action));
            taken.extend(actions);
        }
        panic!("plan does not come to rest: {taken:?}");
    }

    /// What a restart would know: the log, folded again.
    pub(crate) fn rebuilt(&self) -> State {
        let mut state = State::new(control());
        for (at, bytes) in self.log.iter().enumerate() {
            state.replay(bytes, self.now, (self.log.len() - at - 1) as u64).unwrap();
        }
        state
    }
}

fn promote(story: &mut Story, release: ReleaseRef) {
    let data = RolloutPromoted { release, commit: commit(release.serial.0), tag: "v".into() };
    story.control(&data);
}

#[test]
fn a_rollback_makes_known_good_what_comes_back_and_not_what_was_undone() {
    let mut story = Story::new();
    let first = story.build(1, "a");
    promote(&mut story, first);
    let second = story.build(2, "b");
    promote(&mut story, second);
    assert!(story.state.is_known_good(first.digest) && story.state.is_known_good(second.digest));
    let revert = story.build(3, "a");
    assert_eq!(story.state.releases()[&Serial(3)].built.same_content_as, Some(first));
    promote(&mut story, revert);
    assert!(story.state.is_known_good(first.digest));
    assert!(!story.state.is_known_good(second.digest), "it was rolled back");
    assert_eq!(story.state.last_promoted(), Some(revert));
}

#[test]
fn an_aborted_content_is_not_known_good() {
    let mut story = Story::new();
    let first = story.build(1, "a");
    promote(&mut story, first);
    let again = story.build(2, "a");
    let ring = "canary".parse().unwrap();
    story.control(&RolloutAborted { release: again, ring, reason: "r".into(), fallback: Some(first) });
    assert!(!story.state.is_known_good(first.digest));
}

#[test]
fn run_time_adds_up_over_serials_and_is_forgotten_when_content_is_found_bad() {
    let mut story = Story::new();
    let node = story.join("sensor-1", &[]);
    let (a, b, a_again) = (story.build(1, "a"), story.build(2, "b"), story.build(3, "a"));
    story.load(&node, a);
    story.pass(Duration::from_secs(10));
    story.load(&node, b);
    story.pass(Duration::from_secs(5));
    story.load(&node, a_again);
    story.pass(Duration::from_secs(1));
    let ran = |story: &Story, release: ReleaseRef| story.state.nodes()[&node].ran(release.digest, story.now);
    assert_eq!(ran(&story, a), Duration::from_secs(11));
    assert_eq!(ran(&story, b), Duration::from_secs(5));
    let ring = "canary".parse().unwrap();
    story.control(&RolloutAborted { release: a_again, ring, reason: "r".into(), fallback: None });
    assert_eq!(ran(&story, a), Duration::ZERO);
}

#[test]
fn a_restart_knows_what_the_running_one_knew() {
    let mut story = Story::new();
    let node = story.join("sensor-1", &[("role", "sensor")]);
    let release = story.build(1, "a");
    story.load(&node, release);
    promote(&mut story, release);
    story.pass(Duration::from_secs(9));
    let rebuilt = story.rebuilt();
    assert_eq!(rebuilt.nodes(), story.state.nodes());
    assert_eq!(rebuilt.releases(), story.state.releases());
    assert_eq!(rebuilt.recent(), story.state.recent());
    assert_eq!(rebuilt.size(), TreeSize(4));
    assert_eq!(rebuilt.verdict(&commit(1)), Some(Verdict::Built(Serial(1))));
}

#[test]
fn what_is_skimmed_at_a_restart_counts_all_the_same() {
    let mut story = Story::new();
    let node = story.join("sensor-1", &[]);
    let release = story.build(1, "a");
    story.load(&node, release);
    for sequence in 0..RECENT_MAX as u64 * 2 {
        let data = cairn_schemas::data::ContainmentFinished {
            request: Sequence(sequence),
            outcome: cairn_schemas::data::Outcome::Gone,
            error: None,
            acted_us: 1,
        };
        story.pass(Duration::from_secs(1));
        story.write(&node, Draft::new(&data).release(release));
    }
    let rebuilt = story.rebuilt();
    assert_eq!(rebuilt.nodes(), story.state.nodes());
    assert_eq!(rebuilt.streams(), story.state.streams());
    assert_eq!(rebuilt.counts(), story.state.counts());
    assert_eq!(rebuilt.recent(), story.state.recent());
    assert_eq!(rebuilt.size(), story.state.size());
}

#[test]
fn a_node_clock_that_is_behind_shortens_no_soak() {
    let mut story = Story::new();
    let node = story.join("sensor-1", &[]);
    let release = story.build(1, "a");
    let data = NodeLoaded { release, previous: None, cause: LoadCause::Offered, checkpoint_size: 1 };
    story.write_at(&node, Draft::new(&data), Timestamp::from_nanos(5));
    let joined = story.now;
    story.pass(Duration::from_secs(3));
    assert_eq!(story.rebuilt().nodes()[&node].running.unwrap().since, joined);
    let mut ahead = Story::new();
    let node = ahead.join("sensor-1", &[]);
    let release = ahead.build(1, "a");
    let data = NodeLoaded { release, previous: None, cause: LoadCause::Offered, checkpoint_size: 1 };
    ahead.write_at(&node, Draft::new(&data), ahead.now.plus(Duration::from_secs(1_000_000)));
    assert_eq!(ahead.rebuilt().nodes()[&node].running.unwrap().since, ahead.now, "held at now");
}

#[test]
fn streams_that_moved_are_listed_once() {
    let mut story = Story::new();
    let node = story.join("sensor-1", &[]);
    let release = story.build(1, "a");
    story.load(&node, release);
    let (moved, unchanged) = story.state.moved_streams();
    assert_eq!((moved.len(), unchanged), (2, 0));
    story.control(&FleetObserved { streams: moved, unchanged });
    let (moved, unchanged) = story.state.moved_streams();
    assert_eq!(moved.iter().map(|s| s.stream.clone()).collect::<Vec<_>>(), [stream_of(&control())]);
    assert_eq!(unchanged, 1);
}

#[test]
fn the_last_records_are_bounded() {
    let mut story = Story::new();
    for _ in 0..=RECENT_MAX {
        story.control(&FleetObserved { streams: vec![], unchanged: 0 });
    }
    assert_eq!(story.state.recent().len(), RECENT_MAX);
    assert_eq!(story.state.recent().front().unwrap().place, Place::start_of(1).plus(1));
}

#[test]
fn bytes_that_are_no_record_are_counted_and_change_nothing() {
    let mut story = Story::new();
    assert!(story.state.apply(b"{}", None, story.now).is_err());
    assert_eq!(story.state.size(), TreeSize(1));
    assert!(story.state.recent().is_empty());
}

#[test]
fn a_node_cannot_speak_for_another() {
    let mut story = Story::new();
    let one = story.join("sensor-1", &[]);
    let two = story.join("sensor-2", &[]);
    let release = story.build(1, "a");
    let data = NodeLoaded { release, previous: None, cause: LoadCause::Offered, checkpoint_size: 1 };
    story.write(&one, Draft::new(&data).subject("sensor-2"));
    assert!(story.state.nodes()[&one].running.is_some());
    assert!(story.state.nodes()[&two].running.is_none());
}

#[test]
fn no_ring_waits_for_a_producer_that_only_records() {
    let mut story = Story::new();
    story.join("sensor-1", &[]);
    story.control(&NodeJoined {
        node: "ci".parse().unwrap(),
        kind: NodeKind::Local,
        key: "key".into(),
        labels: Default::default(),
        protocol: "1.0".into(),
    });
    assert_eq!(story.state.nodes().keys().map(NodeId::as_str).collect::<Vec<_>>(), ["sensor-1"]);
}
