use std::sync::Arc;

use super::*;
use crate::state::tests::Story;

mod simulation;

const SOAK: Duration = Duration::from_secs(60);

pub(crate) fn two_rings() -> Arc<PolicyConfig> {
    rings(serde_json::json!([
        { "name": "canary", "nodes": { "role": "sensor" }, "soak": "60s" },
        { "name": "broad" },
    ]))
}

pub(crate) fn rings(rings: serde_json::Value) -> Arc<PolicyConfig> {
    Arc::new(serde_json::from_value(serde_json::json!({ "version": 1, "rings": rings })).unwrap())
}

fn fleet(story: &mut Story) -> (NodeId, NodeId) {
    (story.join("sensor-1", &[("role", "sensor")]), story.join("admission-1", &[("role", "admission")]))
}

fn names(actions: &[Action]) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Supersede(data) => format!("supersede {}", data.release.serial),
        Action::Enter(data) => format!("enter {}", data.ring),
        Action::Hold(data) => format!("hold {}", data.ring),
        Action::Advance(data) => format!("advance {}", data.ring),
        Action::Abort(data) => format!("abort {}", data.ring),
        Action::Promote(data) => format!("promote {}", data.tag),
    };
    actions.iter().map(name).collect()
}

#[test]
fn ring_by_ring_to_the_promotion() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, admission) = fleet(&mut story);
    let release = story.build(1, "a");
    assert_eq!(names(&story.settle(release, &config)), ["enter canary"]);
    story.load(&sensor, release);
    assert_eq!(names(&story.settle(release, &config)), [""; 0], "it soaks");
    story.pass(SOAK - Duration::from_nanos(1));
    assert_eq!(names(&story.settle(release, &config)), [""; 0], "one nanosecond short");
    story.pass(Duration::from_nanos(1));
    assert_eq!(names(&story.settle(release, &config)), ["advance canary", "enter broad"]);
    story.load(&admission, release);
    assert_eq!(names(&story.settle(release, &config)), ["advance broad", "promote v1"]);
    assert_eq!(story.state.last_promoted(), Some(release));
}

#[test]
fn an_empty_ring_is_passed_and_says_so() {
    let (mut story, config) = (Story::new(), two_rings());
    let release = story.build(1, "a");
    let actions = story.settle(release, &config);
    assert_eq!(names(&actions), ["enter canary", "advance canary", "enter broad", "advance broad", "promote v1"]);
    let Action::Enter(entered) = &actions[0] else { panic!() };
    assert_eq!((entered.nodes_total, entered.nodes.len()), (0, 0));
}

#[test]
fn one_refusal_aborts_and_goes_back_to_what_was_promoted() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, admission) = fleet(&mut story);
    let first = story.build(1, "a");
    story.settle(first, &config);
    story.load(&sensor, first);
    story.pass(SOAK);
    story.settle(first, &config);
    story.load(&admission, first);
    story.settle(first, &config);
    let second = story.build(2, "b");
    story.settle(second, &config);
    story.refuse(&sensor, second);
    let actions = story.settle(second, &config);
    let [Action::Abort(aborted)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(aborted.fallback, Some(first));
    assert_eq!(aborted.reason, "sensor-1: refused: load: does not load");
    story.pass(SOAK);
    assert!(story.settle(second, &config).is_empty(), "an aborted release stays so");
}

#[test]
fn a_late_failure_behind_the_release_aborts_it_too() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, _) = fleet(&mut story);
    let release = story.build(1, "a");
    story.settle(release, &config);
    story.load(&sensor, release);
    story.pass(SOAK);
    assert_eq!(names(&story.settle(release, &config)), ["advance canary", "enter broad"]);
    story.fall_back(release, None, &sensor);
    assert_eq!(names(&story.settle(release, &config)), ["abort canary"]);
}

#[test]
fn tolerated_failures_are_tolerated_and_one_more_is_not() {
    let config = rings(serde_json::json!([{ "name": "all", "gates": { "failures_max": 1 } }]));
    for (failures, expected) in [(1, vec!["advance all", "promote v1"]), (2, vec!["abort all"])] {
        let mut story = Story::new();
        let nodes: Vec<NodeId> = ["n-1", "n-2", "n-3"].iter().map(|name| story.join(name, &[])).collect();
        let release = story.build(1, "a");
        story.settle(release, &config);
        for (at, node) in nodes.iter().enumerate() {
            if at < failures { story.refuse(node, release) } else { story.load(node, release) }
        }
        assert_eq!(names(&story.settle(release, &config)), expected);
    }
}

#[test]
fn a_ring_in_which_every_node_failed_proves_nothing() {
    let config = rings(serde_json::json!([{ "name": "all", "gates": { "failures_max": 5 } }]));
    let mut story = Story::new();
    let node = story.join("n-1", &[]);
    let release = story.build(1, "a");
    story.settle(release, &config);
    story.refuse(&node, release);
    assert_eq!(names(&story.settle(release, &config)), ["abort all"]);
}

#[test]
fn a_newer_release_supersedes_one_that_was_not_promoted() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, _) = fleet(&mut story);
    let first = story.build(1, "a");
    story.settle(first, &config);
    story.load(&sensor, first);
    story.build(2, "b");
    let third = story.build(3, "c");
    assert_eq!(names(&story.settle(third, &config)), ["supersede 1", "supersede 2", "enter canary"]);
}

#[test]
fn soak_is_of_the_content_and_survives_supersession() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, _) = fleet(&mut story);
    let first = story.build(1, "a");
    story.settle(first, &config);
    story.load(&sensor, first);
    story.pass(Duration::from_secs(40));
    let second = story.build(2, "b");
    story.settle(second, &config);
    story.load(&sensor, second);
    story.pass(Duration::from_secs(7));
    let again = story.build(3, "a");
    story.settle(again, &config);
    story.load(&sensor, again);
    story.pass(Duration::from_secs(19));
    assert!(story.settle(again, &config).is_empty(), "59 s of 60");
    story.pass(Duration::from_secs(1));
    assert_eq!(names(&story.settle(again, &config)), ["advance canary", "enter broad"]);
}

#[test]
fn known_good_content_skips_the_soak_and_nothing_else() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, admission) = fleet(&mut story);
    for (serial, content) in [(1, "a"), (2, "b")] {
        let release = story.build(serial, content);
        story.settle(release, &config);
        story.load(&sensor, release);
        story.pass(SOAK);
        story.settle(release, &config);
        story.load(&admission, release);
        story.settle(release, &config);
    }
    let revert = story.build(3, "a");
    assert_eq!(names(&story.settle(revert, &config)), ["enter canary"], "the ring must still run it");
    story.load(&sensor, revert);
    assert_eq!(names(&story.settle(revert, &config)), ["advance canary", "enter broad"]);
    story.load(&admission, revert);
    assert_eq!(names(&story.settle(revert, &config)), ["advance broad", "promote v3"]);
}

#[test]
fn silence_passes_no_gate_and_is_recorded_once() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, _) = fleet(&mut story);
    let release = story.build(1, "a");
    story.settle(release, &config);
    story.pass(HOLD_AFTER - Duration::from_nanos(1));
    assert!(story.settle(release, &config).is_empty());
    story.pass(Duration::from_nanos(1));
    let actions = story.settle(release, &config);
    let [Action::Hold(held)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(held.reason, "1 of 1 nodes have not activated it within 5m: sensor-1");
    story.pass(HOLD_AFTER);
    assert!(story.settle(release, &config).is_empty());
    story.load(&sensor, release);
    story.pass(SOAK);
    assert_eq!(names(&story.settle(release, &config)), ["advance canary", "enter broad"], "it goes on by itself");
}

#[test]
fn a_node_that_joins_late_must_run_it_and_does_not_start_the_soak_again() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, _) = fleet(&mut story);
    let release = story.build(1, "a");
    story.settle(release, &config);
    story.load(&sensor, release);
    story.pass(Duration::from_secs(59));
    let late = story.join("sensor-2", &[("role", "sensor")]);
    story.pass(Duration::from_secs(1));
    assert!(story.settle(release, &config).is_empty(), "the late node does not run it yet");
    story.load(&late, release);
    assert_eq!(names(&story.settle(release, &config)), ["advance canary", "enter broad"]);
}

#[test]
fn a_crash_between_two_records_of_a_step_is_resumed() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, _) = fleet(&mut story);
    let release = story.build(1, "a");
    story.settle(release, &config);
    story.load(&sensor, release);
    story.pass(SOAK);
    let target = story.target(release, &config);
    let observed = story.state.observed(release, story.now).unwrap();
    let actions = plan(&target, &observed, story.now);
    assert_eq!(names(&actions), ["advance canary", "enter broad"]);
    story.act(&actions[0]);
    assert_eq!(names(&story.settle(release, &config)), ["enter broad"]);
}

#[test]
fn wake_names_the_moment_at_which_the_plan_changes() {
    let (mut story, config) = (Story::new(), two_rings());
    let (sensor, _) = fleet(&mut story);
    let release = story.build(1, "a");
    story.settle(release, &config);
    let wake_in = |story: &Story| {
        wake(&story.target(release, &config), &story.state.observed(release, story.now).unwrap(), story.now)
    };
    assert_eq!(wake_in(&story), Some(HOLD_AFTER));
    story.load(&sensor, release);
    story.pass(Duration::from_secs(10));
    assert_eq!(wake_in(&story), Some(Duration::from_secs(50)));
    story.pass(Duration::from_secs(50));
    story.settle(release, &config);
    story.pass(HOLD_AFTER);
    story.settle(release, &config);
    assert_eq!(wake_in(&story), None, "held: only a record helps");
}

#[test]
fn a_ring_names_its_first_nodes_and_counts_all() {
    let config = rings(serde_json::json!([{ "name": "all" }]));
    let mut story = Story::new();
    for at in 0..=NODES_NAMED_MAX {
        story.join(&format!("n-{at}"), &[]);
    }
    let release = story.build(1, "a");
    let actions = story.settle(release, &config);
    let Action::Enter(entered) = &actions[0] else { panic!() };
    assert_eq!((entered.nodes.len(), entered.nodes_total), (NODES_NAMED_MAX, NODES_NAMED_MAX as u64 + 1));
}
