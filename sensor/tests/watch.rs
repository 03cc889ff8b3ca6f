//! The sensor's loop with a scripted source, a real spool, and real processes to end.

mod bench;

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use bench::{Bench, Child, Step, exec, release, rules};
use cairn_node::SpoolLimits;
use cairn_rules::event::Event;
use cairn_schemas::data::{
    ContainmentFinished, ContainmentRefused, ContainmentRequested, DetectionRaised, LossCause, NodeCapabilities,
    Outcome, SensorLoss,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::Sequence;
use cairn_schemas::types::RecordType;
use cairn_sensor::open_containment::{Open, OpenContainment};
use cairn_sensor::source::Lost;

const OBSERVE: &str = "mode: observe\n";
const ENFORCE: &str = "mode: enforce\n";
const ENFORCE_OR_ACT: &str = "mode: enforce\non_unrecordable: act\n";

/// So small that a test can fill it, with room for what a containment writes once it is empty.
const SMALL: SpoolLimits = SpoolLimits { len_max: 60_000, reserve_len: 4_000, segment_len_max: 6_000 };

#[test]
fn observing_records_and_does_nothing() {
    let bench = Bench::new(SpoolLimits::default());
    bench.activate(1, &rules(OBSERVE));
    let watch = bench.start();
    let mut child = Child::start();
    bench.play(Step::Events(vec![exec(child.pid(), child.start_ns(), "/forbidden")]));
    watch.stop();
    let detections = bench.all::<DetectionRaised>();
    assert_eq!(detections.len(), 1);
    assert_eq!(detections[0].1.responses[0].mode, cairn_schemas::config::ResponseMode::Observe);
    assert_eq!(detections[0].0.release, Some(release(1)));
    assert!(child.runs(), "observed, not killed");
    assert_eq!(bench.kinds_of("containment"), Vec::<RecordType>::new());
}

#[test]
fn without_a_release_nothing_is_detected() {
    let bench = Bench::new(SpoolLimits::default());
    let watch = bench.start();
    bench.play(Step::Events(vec![exec(4_000_000, 10_000_000, "/forbidden")]));
    bench.activate(1, &rules(OBSERVE));
    bench.play(Step::Events(vec![exec(4_000_000, 10_000_000, "/forbidden")]));
    watch.stop();
    assert_eq!(bench.all::<DetectionRaised>().len(), 1);
}

#[test]
fn enforcing_records_its_intent_kills_and_records_what_came_of_it() {
    let bench = Bench::new(SpoolLimits::default());
    bench.activate(1, &rules(ENFORCE));
    let watch = bench.start();
    let mut child = Child::start();
    bench.play(Step::Events(vec![exec(child.pid(), child.start_ns(), "/forbidden")]));
    assert_eq!(child.wait().signal(), Some(9));
    assert_eq!(bench.open_file().read().unwrap(), None, "nothing is open");
    watch.stop();
    let detection = bench.all::<DetectionRaised>()[0].0.sequence;
    let (request, requested) = bench.all::<ContainmentRequested>().remove(0);
    let (outcome, finished) = bench.all::<ContainmentFinished>().remove(0);
    assert_eq!(requested.detection, detection);
    assert_eq!(requested.target.pid, u64::from(child.pid()));
    assert_eq!(finished.request, request.sequence);
    assert_eq!((finished.outcome, finished.error), (Outcome::Killed, None));
    assert!(detection < request.sequence && request.sequence < outcome.sequence);
    assert_eq!([request.release, outcome.release], [Some(release(1)); 2]);
}

#[test]
fn init_cairn_itself_and_the_unknown_are_never_killed() {
    let bench = Bench::new(SpoolLimits::default());
    bench.activate(1, &rules(ENFORCE));
    let watch = bench.start();
    let mut child = Child::start();
    let unknown = {
        let mut event = exec(child.pid(), child.start_ns(), "");
        if let cairn_rules::event::EventKind::Exec(exec) = &mut event.kind {
            exec.process.comm = b"forbidden"[..].into();
        }
        event
    };
    let events = vec![exec(1, 0, "/forbidden"), exec(std::process::id(), 0, "/forbidden"), unknown];
    bench.play(Step::Events(events));
    watch.stop();
    let refused = bench.all::<ContainmentRefused>();
    let reasons: Vec<&str> = refused.iter().map(|(_, data)| data.reason.as_str()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    for (reason, word) in reasons.iter().zip(["init", "itself", "not known"]) {
        assert!(reason.contains(word), "{reason}");
    }
    let detections: Vec<Sequence> = bench.all::<DetectionRaised>().iter().map(|(record, _)| record.sequence).collect();
    assert_eq!(refused.iter().map(|(_, data)| data.detection).collect::<Vec<_>>(), detections);
    assert!(bench.all::<ContainmentRequested>().is_empty());
    assert!(child.runs());
}

#[test]
fn a_process_that_is_gone_and_one_that_has_its_pid_now() {
    let bench = Bench::new(SpoolLimits::default());
    bench.activate(1, &rules(ENFORCE));
    let watch = bench.start();
    let (gone, gone_start) = {
        let mut child = Child::start();
        let key = (child.pid(), child.start_ns());
        child.kill();
        key
    };
    let mut other = Child::start();
    let events =
        vec![exec(gone, gone_start, "/forbidden"), exec(other.pid(), other.start_ns() - 10_000_000, "/forbidden")];
    bench.play(Step::Events(events));
    watch.stop();
    let outcomes: Vec<Outcome> = bench.all::<ContainmentFinished>().iter().map(|(_, data)| data.outcome).collect();
    assert_eq!(outcomes, [Outcome::Gone; 2]);
    assert!(other.runs(), "a pid is not a process");
}

#[test]
fn what_a_crash_interrupted_is_recorded_as_unknown_even_before_a_release_is_active() {
    let bench = Bench::new(SpoolLimits::default());
    let open = Open { stream: bench.spool.stream(), request: bench.filler(), release: release(7) };
    bench.open_file().set(&open).unwrap();
    let watch = bench.start();
    bench.play(Step::Events(Vec::new()));
    watch.stop();
    let (record, finished) = bench.all::<ContainmentFinished>().remove(0);
    assert_eq!((finished.request, finished.outcome), (open.request, Outcome::Unknown));
    assert_eq!(record.release, Some(release(7)), "the release that asked for it");
    assert_eq!(bench.open_file().read().unwrap(), None);

    // Started once more, it has nothing to say.
    let watch = bench.start();
    bench.play(Step::Events(Vec::new()));
    watch.stop();
    assert_eq!(bench.all::<ContainmentFinished>().len(), 1);
}

#[test]
fn a_crash_between_the_outcome_and_forgetting_it_does_not_make_a_second_outcome() {
    let bench = Bench::new(SpoolLimits::default());
    bench.activate(1, &rules(ENFORCE));
    let watch = bench.start();
    let child = Child::start();
    bench.play(Step::Events(vec![exec(child.pid(), child.start_ns(), "/forbidden")]));
    watch.stop();
    let request = bench.all::<ContainmentRequested>().remove(0).0;
    let open = Open { stream: request.stream, request: request.sequence, release: release(1) };
    // As `kill -9` leaves it: the outcome is durable, the file is still there. The ledger may have taken everything by now.
    bench.open_file().set(&open).unwrap();
    bench.trim_all();
    let watch = bench.start();
    bench.play(Step::Events(Vec::new()));
    watch.stop();
    assert_eq!(bench.all::<ContainmentFinished>().len(), 1);
    assert_eq!(bench.open_file().read().unwrap(), None);
}

#[test]
fn an_outcome_is_not_written_into_another_stream() {
    let bench = Bench::new(SpoolLimits::default());
    let stream = cairn_schemas::ids::StreamId::new(&"sensor-1".parse().unwrap(), [9; 16]);
    bench.open_file().set(&Open { stream, request: Sequence(1), release: release(1) }).unwrap();
    let watch = bench.start();
    bench.play(Step::Events(Vec::new()));
    watch.stop();
    assert!(bench.all::<ContainmentFinished>().is_empty(), "number 1 is another record in this stream");
    assert_eq!(bench.open_file().read().unwrap(), None);
}

#[test]
fn an_outcome_that_a_full_spool_refuses_is_recorded_when_there_is_room() {
    let bench = Bench::new(SMALL);
    let open = Open { stream: bench.spool.stream(), request: bench.filler(), release: release(1) };
    OpenContainment::new(bench.folder.path()).set(&open).unwrap();
    bench.fill();
    let watch = bench.start();
    for _ in 0..3 {
        bench.play(Step::Events(Vec::new()));
    }
    assert!(bench.all::<ContainmentFinished>().is_empty());
    assert_eq!(bench.open_file().read().unwrap(), Some(open));
    bench.trim_all();
    bench.play(Step::Events(Vec::new()));
    watch.stop();
    assert_eq!(bench.all::<ContainmentFinished>().len(), 1);
    assert_eq!(bench.spool.status().refused, 0, "tried again and again, and lost never");
}

#[test]
fn a_full_spool_and_a_response_that_refuses_then() {
    let bench = Bench::new(SMALL);
    bench.activate(1, &rules(ENFORCE));
    let watch = bench.start();
    bench.fill();
    let mut child = Child::start();
    bench.play(Step::Events(vec![exec(child.pid(), child.start_ns(), "/forbidden")]));
    assert!(child.runs(), "no record, no act");
    bench.trim_all();
    bench.clock.advance(Duration::from_secs(2));
    bench.play(Step::Events(vec![exec(child.pid(), child.start_ns(), "/forbidden")]));
    assert_eq!(child.wait().signal(), Some(9), "with room it acts again");
    watch.stop();
    assert_eq!(bench.all::<ContainmentRequested>().len(), 1);
    let lost = bench.all::<SensorLoss>();
    assert!(lost.iter().any(|(_, loss)| loss.family == "detection.raised" && loss.lost == 1), "{lost:?}");
    assert!(!lost.iter().any(|(_, loss)| loss.family == "containment"), "nothing was done unrecorded: {lost:?}");
}

#[test]
fn a_full_spool_and_a_response_that_acts_all_the_same() {
    let bench = Bench::new(SMALL);
    bench.activate(1, &rules(ENFORCE_OR_ACT));
    let watch = bench.start();
    bench.fill();
    let mut child = Child::start();
    bench.play(Step::Events(vec![exec(child.pid(), child.start_ns(), "/forbidden")]));
    assert_eq!(child.wait().signal(), Some(9));
    bench.trim_all();
    bench.clock.advance(Duration::from_secs(2));
    bench.play(Step::Events(Vec::new()));
    bench.clock.advance(Duration::from_secs(2));
    bench.play(Step::Events(Vec::new()));
    watch.stop();
    assert!(bench.all::<ContainmentRequested>().is_empty());
    let lost = bench.all::<SensorLoss>();
    let acts: u64 = lost.iter().filter(|(_, loss)| loss.family == "containment").map(|(_, loss)| loss.lost).sum();
    assert_eq!(acts, 1, "the act without a record is counted, once: {lost:?}");
}

#[test]
fn a_storm_is_recorded_whole_and_in_order() {
    let bench = Bench::new(SpoolLimits::default());
    bench.activate(1, &rules(OBSERVE));
    let watch = bench.start();
    let storm = (0..1_000).map(|number| exec(4_000_000 + number, 10_000_000, "/forbidden")).collect();
    bench.play(Step::Events(storm));
    watch.stop();
    let pids: Vec<u64> =
        bench.all::<DetectionRaised>().iter().map(|(_, data)| data.process.as_ref().unwrap().pid).collect();
    assert_eq!(pids, (4_000_000..4_001_000).collect::<Vec<u64>>());
}

#[test]
fn a_storm_into_a_spool_that_gets_full_counts_what_it_does_not_take() {
    let limits = SpoolLimits { len_max: 600_000, reserve_len: 4_000, segment_len_max: 60_000 };
    let bench = Bench::new(limits);
    bench.activate(1, &rules(OBSERVE));
    let watch = bench.start();
    let storm = (0..1_000).map(|number| exec(4_000_000 + number, 10_000_000, "/forbidden")).collect();
    bench.play(Step::Events(storm));
    let kept = bench.all::<DetectionRaised>().len() as u64;
    assert!((256..1_000).contains(&kept), "a part fits: {kept}");
    bench.trim_all();
    bench.spool.tick().unwrap();
    bench.play(Step::Events(vec![exec(5, 10_000_000, "/forbidden")]));
    watch.stop();
    let lost: u64 = bench
        .all::<SensorLoss>()
        .iter()
        .filter(|(_, loss)| loss.family == "detection.raised")
        .map(|(_, loss)| loss.lost)
        .sum();
    assert_eq!(kept + lost, 1_000);
}

#[test]
fn what_the_kernel_lost_is_recorded_once() {
    let bench = Bench::new(SMALL);
    let watch = bench.start();
    let lost = |lost| Lost { cause: LossCause::RingBuffer, family: "open", lost, kept: 100 };
    let look = |step| {
        bench.clock.advance(Duration::from_secs(1));
        bench.play(step);
    };
    look(Step::Lost(vec![lost(0)]));
    look(Step::Lost(vec![lost(3)]));
    look(Step::Lost(vec![lost(3)]));
    // No room: not forgotten, and not counted as lost records each second.
    bench.fill();
    let since = cairn_schemas::time::Clock::now(&*bench.clock);
    look(Step::Lost(vec![lost(5)]));
    look(Step::Lost(vec![lost(9)]));
    assert_eq!(bench.spool.status().refused, 0);
    bench.trim_all();
    look(Step::Lost(vec![lost(10)]));
    // A clock that was set back does not stop the counting.
    bench.clock.set(cairn_schemas::time::Timestamp::from_nanos(1));
    bench.play(Step::Lost(vec![lost(11)]));
    watch.stop();
    let losses: Vec<SensorLoss> = bench.all::<SensorLoss>().into_iter().map(|(_, loss)| loss).collect();
    // The loop may have looked once more between the room and the last count.
    assert_eq!((losses[0].lost, losses.iter().map(|loss| loss.lost).sum::<u64>()), (3, 11), "{losses:?}");
    assert_eq!(losses[1].from, since, "the whole interval");
    assert!(losses.iter().all(|loss| loss.from <= loss.to), "{losses:?}");
}

#[test]
fn other_rules_over_the_same_processes() {
    let bench = Bench::new(SpoolLimits::default());
    bench.activate(1, &rules(OBSERVE));
    let watch = bench.start();
    bench.play(Step::Events(vec![exec(4_000_000, 10_000_000, "/usr/bin/parent")]));
    let by_parent = "- rule: Child\n  desc: d\n  condition: evt.type = execve and proc.pname = parent\n  output: o\n  \
                     priority: Notice\n";
    bench.activate(2, &[("detections/rules.yaml", by_parent)]);
    let mut child = exec(4_000_001, 20_000_000, "/usr/bin/child");
    if let cairn_rules::event::EventKind::Exec(exec) = &mut child.kind {
        exec.process.ppid = 4_000_000;
    }
    bench.play(Step::Events(vec![child]));
    watch.stop();
    let (record, detection) = bench.all::<DetectionRaised>().remove(0);
    assert_eq!((detection.rule.as_str(), record.release), ("Child", Some(release(2))));
    assert_eq!(detection.ancestors[0].name, "parent");
}

#[test]
fn a_stop_takes_what_is_in_the_ring() {
    let bench = Bench::new(SpoolLimits::default());
    bench.activate(1, &rules(OBSERVE));
    let watch = bench.start();
    let rings: Vec<Step> =
        (0..5).map(|number| Step::Events(vec![exec(4_000_000 + number, 10_000_000, "/forbidden")])).collect();
    bench.play_while_stopping(rings, watch);
    assert_eq!(bench.all::<DetectionRaised>().len(), 5);
}

#[test]
fn a_stop_ends_on_a_machine_that_never_rests() {
    // A source that heeds the stop, and one that does not.
    for heeds in [true, false] {
        let bench = Bench::new(SpoolLimits::default());
        bench.activate(1, &rules(OBSERVE));
        let watch = bench.start_busy(heeds);
        watch.stop();
    }
}

#[test]
fn a_sensor_that_sees_nothing_any_more_says_so() {
    for step in [Step::Fail, Step::Panic] {
        let bench = Bench::new(SpoolLimits::default());
        bench.activate(1, &rules(ENFORCE));
        let watch = bench.start();
        bench.play_last(step);
        watch.stop();
        let (record, capabilities) = bench.all::<NodeCapabilities>().remove(0);
        assert!(!capabilities.live);
        assert!(capabilities.cannot.iter().any(|lack| lack.what == "exec" && !lack.why.is_empty()));
        assert_eq!(record.subject.as_deref(), Some("sensor-1"));
    }
}

/// When an event of a test happens: so many minutes after the first.
fn at(minutes: u64, exe: &str) -> Event {
    let first = exec(4_000_000, 10_000_000, exe);
    Event { time_ns: first.time_ns + minutes * 60_000_000_000, ..first }
}

fn first_seen(name: &str, condition: &str, key: &str) -> String {
    format!(
        "- rule: {name}\n  desc: d\n  condition: evt.type = execve and {condition}\n  output: o\n  priority: Notice\n  \
         cairn:\n    first_seen: {{{key}}}\n"
    )
}

const BY_EXE: &str = "by: [proc.exepath], learn: 1h, forget: 30d";
const SURGE: &str = "- rule: Surge\n  desc: d\n  condition: evt.type = execve and proc.name = surge\n  output: o\n  priority: Notice\n  \
                     cairn:\n    spike: {every: 1m, baseline: 60m, factor: 2, at_least: 2}\n";

impl Bench {
    /// The rules that alerted, in order.
    fn alerted(&self) -> Vec<String> {
        self.all::<DetectionRaised>().into_iter().map(|(_, detection)| detection.rule).collect()
    }

    /// What of the rules' knowledge was lost, as `family: how many`.
    fn unlearnt(&self) -> Vec<String> {
        let losses = self.all::<SensorLoss>().into_iter().filter(|(_, loss)| loss.cause == LossCause::RuleState);
        losses.map(|(_, loss)| format!("{}: {}", loss.family, loss.lost)).collect()
    }
}

#[test]
fn what_rules_have_learnt_survives_a_restart() {
    let bench = Bench::new(SpoolLimits::default());
    let rules = format!("{}{SURGE}", first_seen("New", "proc.name != surge", BY_EXE));
    bench.activate(1, &[("detections/rules.yaml", &rules)]);
    let watch = bench.start();
    bench.play(Step::Events(vec![at(0, "/a"), at(61, "/b")]));
    watch.stop();
    assert_eq!(bench.alerted(), ["New"], "/b, after an hour of learning");

    // Without what was learnt both rules would be silent for an hour again.
    let watch = bench.start();
    bench.play(Step::Events(vec![at(62, "/a"), at(63, "/b")]));
    assert_eq!(bench.alerted(), ["New"], "both were seen before the restart");
    bench.play(Step::Events(vec![at(64, "/c"), at(65, "/surge"), at(65, "/surge")]));
    watch.stop();
    assert_eq!(bench.alerted(), ["New", "New", "Surge"]);
    assert_eq!(bench.unlearnt(), Vec::<String>::new());
}

#[test]
fn a_sensor_that_fails_loses_at_most_what_it_learnt_since_it_last_saved() {
    for (step, is_saved) in [(Step::Fail, true), (Step::Panic, false)] {
        let bench = Bench::new(SpoolLimits::default());
        bench.activate(1, &[("detections/rules.yaml", &first_seen("New", "proc.pid > 0", BY_EXE))]);
        let watch = bench.start();
        bench.play(Step::Events(vec![at(0, "/a")]));
        bench.clock.advance(Duration::from_secs(300));
        bench.play(Step::Events(Vec::new()));
        bench.play(Step::Events(vec![at(1, "/b")]));
        bench.play_last(step);
        watch.stop();
        let watch = bench.start();
        bench.play(Step::Events(vec![at(61, "/a"), at(62, "/b"), at(63, "/c")]));
        watch.stop();
        let new = if is_saved { 1 } else { 2 };
        assert_eq!(bench.alerted().len(), new, "/c, and /b if that was not saved");
        assert_eq!(bench.unlearnt(), Vec::<String>::new());
    }
}

#[test]
fn what_was_learnt_and_is_damaged_is_said_to_be_lost() {
    let other_version = {
        let snapshot = b"cairn-state\x03";
        [Digest::sha256(snapshot).to_string().as_bytes(), b"\n", snapshot].concat()
    };
    let damages: [&dyn Fn(Vec<u8>) -> Vec<u8>; 4] = [
        &|mut bytes| {
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        },
        &|bytes| bytes[..bytes.len() - 1].to_vec(),
        &|_| Vec::new(),
        &|_| other_version.clone(),
    ];
    for damage in damages {
        let bench = Bench::new(SpoolLimits::default());
        let plain = rules(OBSERVE)[0].1;
        let rules = format!("{}{plain}", first_seen("New", "proc.pid > 0", BY_EXE));
        bench.activate(1, &[("detections/rules.yaml", &rules)]);
        let watch = bench.start();
        bench.play(Step::Events(vec![at(0, "/a")]));
        watch.stop();
        let file = bench.folder.path().join("learnt");
        std::fs::write(&file, damage(std::fs::read(&file).unwrap())).unwrap();

        let watch = bench.start();
        bench.play(Step::Events(vec![at(61, "/b"), at(62, "/forbidden")]));
        watch.stop();
        assert_eq!(bench.alerted(), ["Forbidden"], "it learns anew, and other rules alert");
        assert_eq!(bench.unlearnt(), ["snapshot: 1"]);

        // What is known from then on is kept as ever.
        let watch = bench.start();
        bench.play(Step::Events(vec![at(122, "/b"), at(123, "/c")]));
        watch.stop();
        assert_eq!(bench.alerted(), ["Forbidden", "New"]);
        assert_eq!(bench.unlearnt(), ["snapshot: 1"], "said once");
    }
}

#[test]
fn rules_that_changed_meanwhile_learn_anew_and_others_go_on() {
    let bench = Bench::new(SpoolLimits::default());
    let rules = [("Tuned", BY_EXE), ("Other key", BY_EXE), ("Gone", BY_EXE)]
        .map(|(name, key)| first_seen(name, "proc.pid > 0", key));
    bench.activate(1, &[("detections/rules.yaml", &rules.concat())]);
    let watch = bench.start();
    bench.play(Step::Events(vec![at(0, "/a")]));
    watch.stop();

    // No rule of the first release learns: what is saved waits for those that do.
    bench.activate(2, &self::rules(OBSERVE));
    let watch = bench.start();
    bench.play(Step::Events(vec![at(60, "/forbidden")]));
    let tuned = first_seen("Tuned", "proc.name != b", BY_EXE);
    let other_key = first_seen("Other key", "proc.pid > 0", "by: [proc.exepath], learn: 2h, forget: 30d");
    let added = first_seen("Added", "proc.pid > 0", BY_EXE);
    bench.activate(3, &[("detections/rules.yaml", &[tuned, other_key, added].concat())]);
    bench.play(Step::Events(vec![at(61, "/a"), at(61, "/b"), at(62, "/c")]));
    assert_eq!(bench.alerted(), ["Forbidden", "Tuned"], "/c is new to the one rule that had learnt");
    bench.play(Step::Events(vec![at(122, "/d")]));
    watch.stop();
    let mut later = bench.alerted().split_off(2);
    later.sort();
    assert_eq!(later, ["Added", "Tuned"], "an hour after it was added");
    assert_eq!(bench.unlearnt(), Vec::<String>::new(), "a rule that is gone is no loss");
}
