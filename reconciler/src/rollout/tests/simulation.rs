//! Random fleets against the plan: nodes load, refuse, fall back, restart, join and keep silent in any order, releases come at
//! any moment, the control plane restarts between any two records. The seed is printed with each failure.

use std::collections::{BTreeMap, BTreeSet};

use cairn_schemas::ids::Serial;

use super::*;
use crate::offer::{Configs, desired};

/// SplitMix64: a few lines, and the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct OneConfig(Arc<PolicyConfig>);

impl Configs for OneConfig {
    fn config(&self, _: ReleaseRef) -> Option<Arc<PolicyConfig>> {
        Some(self.0.clone())
    }
}

struct Fleet {
    random: Random,
    story: Story,
    config: Arc<PolicyConfig>,
    configs: OneConfig,
    nodes: Vec<NodeId>,
    newest: Option<ReleaseRef>,
    refused: BTreeSet<(NodeId, Serial)>,
    trouble_percent: u64,
}

impl Fleet {
    fn new(seed: u64) -> Fleet {
        let mut random = Random(seed);
        let rings: Vec<serde_json::Value> = (0..=random.below(3))
            .map(|at| {
                let soak = format!("{}s", random.below(90));
                serde_json::json!({ "name": format!("ring-{at}"), "nodes": { "ring": at.to_string() }, "soak": soak })
            })
            .chain([serde_json::json!({ "name": "rest" })])
            .collect();
        let config = super::rings(serde_json::Value::Array(rings));
        let trouble_percent = random.below(20);
        let configs = OneConfig(config.clone());
        let mut fleet = Fleet {
            random,
            story: Story::new(),
            config,
            configs,
            nodes: Vec::new(),
            newest: None,
            refused: BTreeSet::new(),
            trouble_percent,
        };
        for _ in 0..fleet.random.below(6) {
            fleet.join();
        }
        fleet
    }

    fn join(&mut self) {
        let ring = self.random.below(5).to_string();
        let node = self.story.join(&format!("n-{}", self.nodes.len()), &[("ring", &ring)]);
        self.nodes.push(node);
    }

    fn build(&mut self) {
        let serial = self.newest.map_or(1, |newest| newest.serial.0 + 1);
        let content = format!("content {}", self.random.below(4));
        self.newest = Some(self.story.build(serial, &content));
    }

    /// What one node does next: it asks, and does or does not do what it is told.
    fn node_acts(&mut self) {
        if self.nodes.is_empty() {
            return;
        }
        let node = self.nodes[self.random.below(self.nodes.len() as u64) as usize].clone();
        let have = self.story.state.nodes()[&node].running.map(|running| running.release);
        let offered = desired(&self.story.state, &self.configs, &node, have);
        let Some(release) = offered.release else { return };
        self.check_offer(&node, release);
        if have == Some(release) {
            if self.random.chance(self.trouble_percent / 4) {
                self.refused.insert((node.clone(), release.serial));
                let back = self.story.state.last_promoted().filter(|promoted| *promoted != release);
                self.story.fall_back(release, back, &node);
            }
        } else if !offered.fallback && self.random.chance(self.trouble_percent) {
            self.refused.insert((node.clone(), release.serial));
            self.story.refuse(&node, release);
        } else {
            self.story.load(&node, release);
        }
    }

    /// A release is never offered to a ring before the ring before it was passed.
    fn check_offer(&self, node: &NodeId, release: ReleaseRef) {
        let known = &self.story.state.releases()[&release.serial];
        if known.phase == Phase::Promoted {
            return;
        }
        let ring = ring_of(&self.config, &self.story.state.nodes()[node].labels).unwrap();
        let at = self.config.rings.iter().position(|candidate| candidate.name == *ring).unwrap();
        let entered: Vec<&RingName> = known.rings.iter().collect();
        let expected: Vec<&RingName> = self.config.rings[..entered.len()].iter().map(|ring| &ring.name).collect();
        assert_eq!(entered, expected, "rings are entered in their order");
        assert!(at < entered.len(), "{release} offered to {ring}, which it has not entered");
    }

    fn control_acts(&mut self) {
        let Some(release) = self.newest else { return };
        let target = self.story.target(release, &self.config);
        let Some(observed) = self.story.state.observed(release, self.story.now) else { return };
        let actions = plan(&target, &observed, self.story.now);
        // A crash after any prefix of a step's records: the rest is planned again from what is recorded.
        let taken =
            if self.random.chance(20) { self.random.below(actions.len() as u64 + 1) as usize } else { actions.len() };
        for action in &actions[..taken] {
            self.check_action(action);
            self.story.act(action);
        }
        if self.random.chance(2) {
            self.story.state = self.story.rebuilt();
        }
    }

    fn check_action(&self, action: &Action) {
        match action {
            Action::Promote(data) => {
                let failed = self.refused.iter().find(|(_, serial)| *serial == data.release.serial);
                assert_eq!(failed, None, "promoted although a node failed it");
            }
            Action::Enter(data) => {
                let at = self.config.rings.iter().position(|ring| ring.name == data.ring).unwrap();
                assert_eq!(
                    self.story.state.releases()[&data.release.serial].rings.len(),
                    at,
                    "one ring after the other"
                );
            }
            Action::Advance(data) if !self.story.state.is_known_good(data.release.digest) => {
                let ring = self.config.rings.iter().find(|ring| ring.name == data.ring).unwrap();
                let empty = data.nodes_active == 0;
                assert!(empty || Duration::from_millis(data.soaked_ms) >= ring.soak, "advanced before its soak");
            }
            _ => {}
        }
    }
}

fn run(seed: u64) -> BTreeSet<&'static str> {
    let mut fleet = Fleet::new(seed);
    for _ in 0..300 {
        match fleet.random.below(100) {
            0..=3 => fleet.build(),
            4..=5 => fleet.join(),
            6..=30 => {
                let seconds = fleet.random.below(30);
                fleet.story.pass(Duration::from_secs(seconds));
            }
            31..=60 => fleet.node_acts(),
            _ => fleet.control_acts(),
        }
    }
    // From now on nobody is in trouble: every rollout must come to its end.
    fleet.trouble_percent = 0;
    if fleet.newest.is_none() {
        fleet.build();
    }
    for round in 0.. {
        assert!(round < 20_000, "the rollout does not end: {:?}", fleet.story.state.in_rollout());
        fleet.node_acts();
        fleet.control_acts();
        if round % 10 == 0 {
            fleet.story.pass(Duration::from_secs(1));
        }
        if fleet.story.state.releases().values().all(|release| release.phase.ended()) {
            break;
        }
    }
    check_life_cycles(&fleet);
    let end = |release: &crate::state::Release| match release.phase {
        Phase::Promoted => "promoted",
        Phase::Aborted { .. } => "aborted",
        _ => "superseded",
    };
    fleet.story.state.releases().values().map(end).collect()
}

/// Each release ended once, and nodes that the plan aborted are not left on what was aborted.
fn check_life_cycles(fleet: &Fleet) {
    let mut ends: BTreeMap<Serial, u32> = BTreeMap::new();
    for bytes in &fleet.story.log {
        let record = cairn_schemas::record::Record::parse(bytes).unwrap();
        let end = ["aborted", "superseded", "promoted"].iter().any(|verb| record.kind.as_str().contains(verb));
        if end {
            let release: ReleaseRef = record.data["release"].as_str().unwrap().parse().unwrap();
            *ends.entry(release.serial).or_default() += 1;
        }
    }
    for serial in fleet.story.state.releases().keys() {
        assert_eq!(ends.get(serial), Some(&1), "release {serial} must end once");
    }
    for (id, node) in fleet.story.state.nodes() {
        let have = node.running.map(|running| running.release);
        if let Some(release) = desired(&fleet.story.state, &fleet.configs, id, have).release {
            assert_eq!(fleet.story.state.releases()[&release.serial].phase, Phase::Promoted);
        }
    }
}

#[test]
fn random_fleets_keep_the_promises() {
    let mut ends = BTreeSet::new();
    for seed in 0..60 {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(seen) => ends.extend(seen),
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert_eq!(ends, BTreeSet::from(["aborted", "promoted", "superseded"]), "the fleets are too tame");
}
