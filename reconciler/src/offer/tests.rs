use super::*;
use crate::rollout::tests::two_rings;
use crate::state::tests::Story;

struct TwoRings;

impl Configs for TwoRings {
    fn config(&self, _: ReleaseRef) -> Option<Arc<PolicyConfig>> {
        Some(two_rings())
    }
}

fn offered(story: &Story, node: &NodeId, have: Option<ReleaseRef>) -> Desired {
    desired(&story.state, &TwoRings, node, have)
}

/// A story in which release 1 is promoted and both nodes run it.
fn promoted() -> (Story, NodeId, NodeId, ReleaseRef) {
    let mut story = Story::new();
    let sensor = story.join("sensor-1", &[("role", "sensor")]);
    let admission = story.join("admission-1", &[]);
    let first = story.build(1, "a");
    story.settle(first, &two_rings());
    story.load(&sensor, first);
    story.pass(std::time::Duration::from_secs(60));
    story.settle(first, &two_rings());
    story.load(&admission, first);
    story.settle(first, &two_rings());
    assert_eq!(story.state.last_promoted(), Some(first));
    (story, sensor, admission, first)
}

#[test]
fn a_ring_gets_the_release_that_entered_it_and_the_others_what_was_promoted() {
    let (mut story, sensor, admission, first) = promoted();
    let second = story.build(2, "b");
    assert_eq!(offered(&story, &sensor, Some(first)).release, Some(first), "not before it entered");
    story.settle(second, &two_rings());
    assert_eq!(offered(&story, &sensor, Some(first)).release, Some(second));
    assert_eq!(offered(&story, &admission, Some(first)).release, Some(first));
    let late = story.join("sensor-2", &[("role", "sensor")]);
    assert_eq!(offered(&story, &late, None).release, Some(second), "who joins later too");
}

#[test]
fn an_abort_tells_the_ring_to_fall_back_and_why() {
    let (mut story, sensor, _, first) = promoted();
    let second = story.build(2, "b");
    story.settle(second, &two_rings());
    story.load(&sensor, second);
    let other = story.join("sensor-2", &[("role", "sensor")]);
    story.refuse(&other, second);
    story.settle(second, &two_rings());
    let answer = offered(&story, &sensor, Some(second));
    assert_eq!((answer.release, answer.fallback), (Some(first), true));
    assert_eq!(answer.reason.unwrap(), "release 2 was aborted: sensor-2: refused: load: does not load");
    story.fall_back(second, Some(first), &sensor);
    assert_eq!(offered(&story, &sensor, Some(first)).release, Some(first));
    assert_eq!(story.state.nodes()[&sensor].failure(second.serial), None, "obeying is not failing");
    let answer = offered(&story, &other, Some(first));
    assert_eq!((answer.release, answer.fallback), (Some(first), false));
}

#[test]
fn what_a_node_failed_is_not_offered_to_it_again() {
    let (mut story, sensor, _, first) = promoted();
    story.fall_back(first, None, &sensor);
    let answer = offered(&story, &sensor, None);
    assert_eq!(answer.release, None);
    assert_eq!(answer.reason.unwrap(), "release 1 is not offered again: this node fell back: unstable");
    let second = story.build(2, "b");
    story.settle(second, &two_rings());
    assert_eq!(offered(&story, &sensor, None).release, Some(second));
}

#[test]
fn nobody_gets_anything_before_there_is_something() {
    let mut story = Story::new();
    let sensor = story.join("sensor-1", &[]);
    let nothing = Desired { release: None, fallback: false, reason: None };
    assert_eq!(offered(&story, &sensor, None), nothing);
    assert_eq!(offered(&story, &"stranger".parse().unwrap(), None), nothing);
}
