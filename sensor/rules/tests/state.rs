//! Rules over more than one event: what they say, within their bounds and at them, against a model that keeps everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_rules::event::{Document, Event, EventKind};
use cairn_rules::problem::render;
use cairn_rules::{Alert, Engine, Evaluator, Limits, Matching, RuleSet, RulesFile, SnapshotError, load, replay};
use proptest::prelude::*;
use serde_json::json;

const SECOND: u64 = 1_000_000_000;
/// When the first event happens.
const BEGIN: u64 = 1_767_225_600 * SECOND;

fn rules(text: &str) -> Arc<RuleSet> {
    let loaded = load(&[RulesFile { path: "rules.yaml", text }]);
    assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    Arc::new(loaded.rules)
}

/// A rule over JSON events that hold `/k` (the key), `/v` (a value) and `/s` (which step of a sequence).
fn rule(cairn: &str) -> String {
    format!(
        "- rule: R\n  desc: d\n  source: json\n  condition: json.value[/s] = b\n  output: o\n  priority: INFO\n  cairn: {cairn}\n"
    )
}

fn event(time_ns: u64, key: &str, value: &str, step: &str) -> Event {
    let body = json!({ "k": key, "v": value, "s": step });
    let kind = EventKind::Document(Box::new(Document { source: "json".to_owned(), body }));
    Event { time_ns, cpu: 0, tid: 0, pid: 0, kind }
}

/// Seconds since the beginning at which alerts happen, for events of one key.
fn alerts_at(cairn: &str, seconds: &[u64]) -> Vec<u64> {
    let mut engine = Engine::new(rules(&rule(cairn)), Limits::default());
    let mut alerts = Vec::new();
    for second in seconds {
        let said = engine.handle(&event(BEGIN + second * SECOND, "k", "v", "b"));
        alerts.extend(said.iter().map(|_| *second));
    }
    alerts
}

/// One event of a generated stream.
#[derive(Debug, Clone)]
struct Step {
    /// Since the event before; less than nothing when it comes late.
    after: i64,
    key: u8,
    value: u8,
    is_first: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gap = prop_oneof![6 => 0..6_i64, 2 => -4..0_i64, 1 => 6..40_i64];
    let step = (gap, 0..3_u8, 0..5_u8, any::<bool>());
    prop::collection::vec(step.prop_map(|(after, key, value, is_first)| Step { after, key, value, is_first }), 1..120)
}

/// What each event's clock showed, in seconds, and what it was; everything is kept.
#[derive(Debug, Clone)]
struct Past {
    now: u64,
    key: u8,
    value: u8,
    is_first: bool,
}

/// Which events alert: by the definitions of `RULES.md`, word for word, over the whole past.
fn model(steps: &[Step], alerts: impl Fn(&[Past], &[usize]) -> bool) -> (Vec<Event>, Vec<usize>) {
    let (mut at, mut latest) = (BEGIN / SECOND, 0);
    let (mut past, mut events, mut alerted) = (Vec::new(), Vec::new(), Vec::new());
    for (index, step) in steps.iter().enumerate() {
        at = at.checked_add_signed(step.after).expect("far from 0");
        latest = latest.max(at);
        past.push(Past { now: latest, key: step.key, value: step.value, is_first: step.is_first });
        let (key, value) = (step.key.to_string(), step.value.to_string());
        events.push(event(at * SECOND, &key, &value, if step.is_first { "a" } else { "b" }));
        if !step.is_first && alerts(&past, &alerted) {
            alerted.push(index);
        }
    }
    (events, alerted)
}

fn said(text: &str, events: &[Event], evaluator: Evaluator) -> (Vec<usize>, u64) {
    let mut engine = Engine::new(rules(text), Limits::default());
    engine.set_evaluator(evaluator);
    let alerts = events.iter().enumerate().filter(|(_, event)| !engine.handle(event).is_empty());
    (alerts.map(|(index, _)| index).collect(), engine.state_stats().evicted)
}

fn agree(cairn: &str, events: &[Event], expected: &[usize]) -> Result<(), TestCaseError> {
    let text = rule(cairn);
    for evaluator in [Evaluator::Compiled, Evaluator::Plain] {
        let (alerts, evicted) = said(&text, events, evaluator);
        prop_assert_eq!(&alerts, expected);
        prop_assert_eq!(evicted, 0);
    }
    Ok(())
}

/// Events of the last one's key for which the rule's condition holds, the last one included.
fn of_key(past: &[Past]) -> impl DoubleEndedIterator<Item = (usize, &Past)> {
    let key = past.last().map(|last| last.key);
    past.iter().enumerate().filter(move |(_, one)| Some(one.key) == key && !one.is_first)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn count_as_defined(steps in steps(), above in 0..5_usize, within in 1..20_u64, is_distinct in any::<bool>()) {
        let (events, expected) = model(&steps, |past, alerted| {
            let now = past.last().expect("one").now;
            let is_silent = of_key(past).any(|(index, one)| alerted.contains(&index) && now - one.now <= within);
            let window = of_key(past).filter(|(_, one)| now - one.now <= within);
            let mut values: Vec<usize> =
                window.map(|(index, one)| if is_distinct { one.value.into() } else { index }).collect();
            values.sort_unstable();
            values.dedup();
            values.len() > above && !is_silent
        });
        let distinct = if is_distinct { ", distinct: 'json.value[/v]'" } else { "" };
        let cairn = format!("{{count: {{by: ['json.value[/k]'], within: {within}s, above: {above}{distinct}}}}}");
        agree(&cairn, &events, &expected)?;
    }

    #[test]
    fn spike_as_defined(steps in steps(), every in 1..6_u64, stretches in 2..6_u64, at_least in 1..4_usize) {
        let (events, expected) = model(&steps, |past, alerted| {
            let now = past.last().expect("one").now;
            let is_warm = now - past[0].now >= every * stretches;
            let in_stretch = |one: &Past, stretch: u64| one.now / every == stretch;
            let count = of_key(past).filter(|(_, one)| in_stretch(one, now / every)).count();
            let before: usize = (1..=stretches)
                .map(|back| of_key(past).filter(|(_, one)| in_stretch(one, now / every - back)).count())
                .sum();
            let is_said = of_key(past).any(|(index, one)| alerted.contains(&index) && in_stretch(one, now / every));
            // More than 1.5 times the average.
            is_warm && count >= at_least && 2 * count * usize::try_from(stretches).expect("small") > 3 * before && !is_said
        });
        let baseline = every * stretches;
        let cairn = format!(
            "{{spike: {{by: ['json.value[/k]'], every: {every}s, baseline: {baseline}s, factor: 1.5, at_least: {at_least}}}}}"
        );
        agree(&cairn, &events, &expected)?;
    }

    #[test]
    fn first_seen_as_defined(steps in steps(), learn in 0..60_u64, forget in 1..60_u64) {
        let (events, expected) = model(&steps, |past, _| {
            let now = past.last().expect("one").now;
            let before = of_key(past).rev().nth(1).map(|(_, one)| one.now);
            now - past[0].now >= learn && before.is_none_or(|before| now - before > forget)
        });
        let cairn = format!("{{first_seen: {{by: ['json.value[/k]'], learn: {learn}s, forget: {forget}s}}}}");
        agree(&cairn, &events, &expected)?;
    }

    #[test]
    fn sequence_as_defined(steps in steps(), within in 1..20_u64) {
        let (events, expected) = model(&steps, |past, alerted| {
            let last = past.last().expect("one");
            let first = past.iter().rposition(|one| one.key == last.key && one.is_first);
            let Some(first) = first else { return false };
            let is_used = alerted.iter().any(|index| *index > first && past[*index].key == last.key);
            // One that came too late used it up as well: a later one is later still.
            last.now - past[first].now <= within && !is_used
        });
        let cairn = format!("{{sequence: {{after: 'json.value[/s] = a', by: ['json.value[/k]'], within: {within}s}}}}");
        agree(&cairn, &events, &expected)?;
    }

    /// What is said after a restart is what is said without one.
    #[test]
    fn a_restart_forgets_nothing(steps in steps(), at in 0..120_usize) {
        let cairns = [
            "{first_seen: {by: ['json.value[/k]'], learn: 20s, forget: 15s}}",
            "{spike: {by: ['json.value[/k]'], every: 2s, baseline: 8s, factor: 2, at_least: 2}}",
            "{count: {by: ['json.value[/k]'], within: 6s, above: 2}}",
            "{count: {by: ['json.value[/k]'], within: 6s, above: 1, distinct: 'json.value[/v]'}}",
            "{sequence: {after: 'json.value[/s] = a', by: ['json.value[/k]'], within: 8s}, output: '%cairn.first.json.value[/v]'}",
        ];
        for cairn in cairns {
            let (events, _) = model(&steps, |_, _| false);
            let rules = rules(&rule(cairn));
            let mut whole = Engine::new(Arc::clone(&rules), Limits::default());
            let mut halves = Engine::new(Arc::clone(&rules), Limits::default());
            let at = at.min(events.len() - 1);
            for (index, event) in events.iter().enumerate() {
                if index == at {
                    let snapshot = halves.snapshot();
                    halves = Engine::new(Arc::clone(&rules), Limits::default());
                    prop_assert_eq!(halves.restore(&snapshot), Ok(()));
                }
                prop_assert_eq!(whole.handle(event), halves.handle(event), "{}", cairn);
            }
        }
    }

    /// Bytes that are no snapshot are refused, and harm nothing.
    #[test]
    fn damaged_snapshots(at in 0..400_usize, byte in any::<u8>(), cut in 0..400_usize) {
        let cairns = [
            "{spike: {by: ['json.value[/k]'], every: 2s, baseline: 8s, factor: 2, at_least: 2}}",
            "{count: {by: ['json.value[/k]'], within: 6s, above: 2, distinct: 'json.value[/v]'}}",
            "{sequence: {after: 'json.value[/s] = b', by: ['json.value[/k]'], within: 8s}, output: '%cairn.first.json.value[/v]'}",
        ];
        let mut engine = Engine::new(rules(&rule(cairns[at % cairns.len()])), Limits::default());
        for second in 0..30 {
            engine.handle(&event(BEGIN + second * SECOND, &(second % 3).to_string(), "v", "b"));
        }
        let mut snapshot = engine.snapshot();
        let at = at % snapshot.len();
        snapshot[at] = byte;
        let _ = engine.restore(&snapshot);
        snapshot.truncate(cut);
        let _ = engine.restore(&snapshot);
        for second in 0..30 {
            engine.handle(&event(BEGIN + second * 10 * SECOND, &(second % 3).to_string(), "v", "b"));
        }
    }
}

#[test]
fn what_alerts_say() {
    let text = rule(
        "{count: {by: ['json.value[/k]'], within: 1m, above: 1}, output: '%cairn.count in %cairn.window since %cairn.first.time: %json.value[/k]'}",
    );
    let mut engine = Engine::new(rules(&text), Limits::default());
    assert_eq!(engine.handle(&event(BEGIN, "x", "v", "b")), []);
    let alerts = engine.handle(&event(BEGIN + SECOND, "x", "v", "b"));
    assert_eq!(alerts[0].output, "2 in 1m since 2026-01-01T00:00:00.000000000+0000: x");
    let fields: BTreeMap<String, String> =
        alerts[0].fields.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    assert_eq!(fields["cairn.total"], "2", "also what the output does not show");

    let text = rule(
        "{sequence: {after: 'json.value[/s] = a', by: ['json.value[/k]'], within: 1m}, output: '%cairn.first.json.value[/v] then %json.value[/v] and %toupper(cairn.first.evt.type)'}",
    );
    let mut engine = Engine::new(rules(&text), Limits::default());
    assert_eq!(engine.handle(&event(BEGIN, "x", "one", "a")), []);
    let alerts = engine.handle(&event(BEGIN + SECOND, "x", "two", "b"));
    assert_eq!(alerts[0].output, "one then two and PLUGINEVENT");
    assert_eq!(alerts[0].fields["cairn.first.time"].to_string(), "2026-01-01T00:00:00.000000000+0000");

    let text = rule(
        "{spike: {every: 1s, baseline: 3s, factor: 2, at_least: 1}, output: '%cairn.count against %cairn.baseline'}",
    );
    let mut engine = Engine::new(rules(&text), Limits::default());
    for second in [0, 1] {
        engine.handle(&event(BEGIN + second * SECOND, "x", "v", "b"));
    }
    let alerts: Vec<Alert> = (0..3).flat_map(|_| engine.handle(&event(BEGIN + 3 * SECOND, "x", "v", "b"))).collect();
    let outputs: Vec<&str> = alerts.iter().map(|alert| alert.output.as_str()).collect();
    assert_eq!(outputs, ["2 against 0.666"]);
}

#[test]
fn an_absent_field_is_a_value_but_for_sequences() {
    let bare = |time: u64, step: &str| {
        let kind = EventKind::Document(Box::new(Document { source: "json".to_owned(), body: json!({ "s": step }) }));
        Event { time_ns: BEGIN + time * SECOND, cpu: 0, tid: 0, pid: 0, kind }
    };
    let count = |cairn: &str| {
        let mut engine = Engine::new(rules(&rule(cairn)), Limits::default());
        [bare(0, "a"), bare(1, "b"), bare(2, "b"), bare(3, "b")]
            .iter()
            .map(|event| engine.handle(event).len())
            .sum::<usize>()
    };
    assert_eq!(count("{count: {by: ['json.value[/k]'], within: 1m, above: 2}}"), 1);
    assert_eq!(count("{first_seen: {by: ['json.value[/k]'], learn: 0s}}"), 1);
    assert_eq!(
        count("{count: {within: 1m, above: 0, distinct: 'json.value[/k]'}}"),
        0,
        "no value is not a different one"
    );
    assert_eq!(count("{sequence: {after: 'json.value[/s] = a', by: ['json.value[/k]'], within: 1m}}"), 0);
    assert_eq!(count("{sequence: {after: 'json.value[/s] = a', within: 1m}}"), 1, "without `by` any two are a pair");
}

#[test]
fn an_event_does_not_follow_itself() {
    let cairn = "{sequence: {after: 'json.value[/s] = b', by: ['json.value[/k]'], within: 10s}}";
    assert_eq!(alerts_at(cairn, &[0, 0, 5, 16]), [0, 5]);
}

#[test]
fn clocks_that_jump() {
    let count = "{count: {within: 1m, above: 2}}";
    // Documents may come an hour late: as if they happened now.
    assert_eq!(alerts_at(count, &[7_000, 7_001, 4_000]), [4_000]);
    // Set back by more, time goes on from where it was.
    assert_eq!(alerts_at(count, &[10_000, 10_001, 1_000]), [1_000]);
    assert_eq!(alerts_at(count, &[10_000, 10_001, 1_000, 1_030, 1_061, 1_062, 1_063]), [1_000, 1_062]);
    // Set forward, windows are over.
    assert_eq!(alerts_at(count, &[0, 1, 100_000]), [0; 0]);
    assert_eq!(alerts_at(count, &[0, 1, u64::MAX / SECOND - BEGIN / SECOND, 2, 3, 4, 5]), [3]);
}

#[test]
fn a_new_key_with_each_event() {
    let cairns = [
        "{count: {by: ['json.value[/k]', 'json.value[/v]'], within: 1h, above: 1, distinct: 'json.value[/s]'}}",
        "{spike: {by: ['json.value[/k]', 'json.value[/v]'], every: 1m, baseline: 1h, factor: 2, at_least: 2}}",
        "{first_seen: {by: ['json.value[/k]', 'json.value[/v]'], learn: 1d}}",
        "{sequence: {after: 'json.value[/s] = b', by: ['json.value[/k]', 'json.value[/v]'], within: 1h}}",
    ];
    let limits = Limits { state_keys_max: 100, state_bytes_max: 64_000, ..Limits::default() };
    for cairn in cairns {
        let mut engine = Engine::new(rules(&rule(cairn)), limits);
        for number in 0..5_000_u64 {
            let long = "x".repeat(usize::try_from(number % 2_000).expect("small"));
            engine.handle(&event(BEGIN + number, &number.to_string(), &long, "b"));
            let stats = engine.state_stats();
            assert!(stats.keys <= 100 && stats.bytes <= 64_000, "{cairn} {stats:?}");
        }
        let stats = engine.state_stats();
        assert_eq!(stats.evicted as usize + stats.keys, 5_000, "{cairn}");
    }
}

#[test]
fn one_rule_takes_nothing_from_another() {
    let (first, second) = (
        rule("{first_seen: {by: ['json.value[/k]'], learn: 0s}}"),
        rule("{count: {by: ['json.value[/v]'], within: 1h, above: 2}}").replace("rule: R", "rule: S"),
    );
    let limits = Limits { state_keys_max: 50, ..Limits::default() };
    let mut engine = Engine::new(rules(&format!("{first}{second}")), limits);
    let mut said = Vec::new();
    for number in 0..300 {
        let value = if number % 100 == 0 { "slow" } else { "other" };
        said.extend(
            engine.handle(&event(BEGIN + number, &number.to_string(), value, "b")).into_iter().map(|it| it.rule),
        );
    }
    assert_eq!(said.iter().filter(|rule| *rule == "S").count(), 2, "the third `slow`, and the third `other`");
}

#[test]
fn what_is_known_survives_other_rules() {
    let text = rule("{first_seen: {by: ['json.value[/k]'], learn: 10s, forget: 1h}}");
    let mut engine = Engine::new(rules(&text), Limits::default());
    engine.handle(&event(BEGIN, "known", "v", "b"));
    // Another rule beside it, and a condition that was tuned.
    let tuned = text.replace("json.value[/s] = b", "json.value[/s] = b and not json.value[/k] = backup");
    engine.replace_rules(rules(&format!(
        "- rule: S\n  desc: d\n  condition: evt.num > 0\n  output: o\n  priority: INFO\n{tuned}"
    )));
    assert_eq!(engine.handle(&event(BEGIN + 20 * SECOND, "known", "v", "b")).len(), 0);
    assert_eq!(engine.handle(&event(BEGIN + 20 * SECOND, "new", "v", "b")).len(), 1);
    // What is asked has changed: it is learnt anew.
    engine.replace_rules(rules(&text.replace("learn: 10s", "learn: 11s")));
    assert_eq!(engine.handle(&event(BEGIN + 25 * SECOND, "newer", "v", "b")).len(), 0);
    assert_eq!(engine.handle(&event(BEGIN + 40 * SECOND, "known", "v", "b")).len(), 1);
}

#[test]
fn a_silent_rule_does_not_shadow_the_next() {
    let first = rule("{count: {within: 1m, above: 1}}");
    let second =
        "- rule: S\n  desc: d\n  source: json\n  condition: json.value[/s] = b\n  output: o\n  priority: INFO\n";
    for evaluator in [Evaluator::Compiled, Evaluator::Plain] {
        let mut engine = Engine::new(rules(&format!("{first}{second}")), Limits::default());
        engine.set_matching(Matching::First);
        engine.set_evaluator(evaluator);
        let said: Vec<String> =
            (0..3).flat_map(|second| engine.handle(&event(BEGIN + second, "k", "v", "b"))).map(|it| it.rule).collect();
        assert_eq!(said, ["S", "R", "S"]);
    }
}

#[test]
fn what_is_no_snapshot() {
    let mut engine = Engine::new(rules(&rule("{first_seen: {by: ['json.value[/k]'], learn: 1d}}")), Limits::default());
    engine.handle(&event(BEGIN, "k", "v", "b"));
    let snapshot = engine.snapshot();
    assert_eq!(engine.restore(b""), Err(SnapshotError::Version));
    assert_eq!(engine.restore(b"cairn-state\x03"), Err(SnapshotError::Version));
    for len in 12..snapshot.len() {
        assert!(matches!(engine.restore(&snapshot[..len]), Err(SnapshotError::Damaged { .. })), "{len}");
    }
    let mut longer = snapshot.clone();
    longer.push(0);
    assert!(matches!(engine.restore(&longer), Err(SnapshotError::Damaged { what: "something follows its end", .. })));
    // The one source with its clock, said twice.
    let clocks = 12 + 4..12 + 4 + (4 + "json".len() + 8 + 8);
    let twice = [&snapshot[..12], &[2, 0, 0, 0], &snapshot[clocks.clone()], &snapshot[clocks.start..]].concat();
    assert!(matches!(engine.restore(&twice), Err(SnapshotError::Damaged { what: "a source with two clocks", .. })));
    for (at, what) in [(12, "clocks"), (clocks.end, "rules")] {
        let mut many = snapshot.clone();
        many[at + 2] = 1;
        let refused = engine.restore(&many);
        let expected = matches!(refused, Err(SnapshotError::Damaged { what: "more than there can be", .. }));
        assert!(expected, "{what}: {refused:?}");
    }
    assert_eq!(engine.snapshot(), snapshot, "what is refused changes nothing");
}

/// A snapshot may be read although it was changed; the one that is made after that can be read in any case.
#[test]
fn one_changed_byte_does_not_spread() {
    let rules = rules(&rule("{spike: {by: ['json.value[/k]'], every: 2s, baseline: 8s, factor: 2, at_least: 2}}"));
    let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
    (0..6).for_each(|second| drop(engine.handle(&event(BEGIN + second * SECOND, "k", "v", "b"))));
    let snapshot = engine.snapshot();
    let mut read = 0;
    for at in 0..snapshot.len() {
        for bit in 0..8 {
            let mut changed = snapshot.clone();
            changed[at] ^= 1 << bit;
            let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
            if engine.restore(&changed).is_err() {
                continue;
            }
            read += 1;
            engine.handle(&event(BEGIN + 6 * SECOND, "k", "v", "b"));
            let next = engine.snapshot();
            assert_eq!(engine.restore(&next), Ok(()), "byte {at}, bit {bit}");
        }
    }
    assert!(read > 100, "{read}");
}

/// What is wrong with a rule's `cairn:` key, and where.
#[test]
fn mistakes_have_their_place() {
    let problems = |cairn: &str| {
        let loaded = load(&[RulesFile { path: "r.yaml", text: &rule(cairn) }]);
        let said = |it: &cairn_rules::Problem| format!("{}:{} {}", it.line, it.column, it.message);
        loaded.errors().map(said).collect::<Vec<String>>().join("; ")
    };
    let mut wrong = Vec::new();
    for (cairn, expected) in [
        ("{}", "7:10 `cairn` needs one of count, spike, first_seen, sequence"),
        ("7", "7:10 `cairn` must be a mapping, not a scalar"),
        ("{count: {within: 1m, above: 1}, spike: {}}", "7:10 `cairn` has count and spike together"),
        ("{cuont: {}}", "7:10 `cairn` needs one of count, spike, first_seen, sequence; 7:11 unknown key `cuont`"),
        ("{count: {within: 1m}}", "7:18 `above` is missing"),
        ("{count: {within: soon, above: 1}}", "7:27 `within` must be a duration, not `soon`"),
        ("{count: {within: 401d, above: 1}}", "7:27 `within` must be from 1ns to 400d, not 401d"),
        ("{count: {within: 1m, above: 10001}}", "7:38 `above` must be a whole number from 0 to 10000"),
        ("{count: {within: 1m, above: many}}", "7:38 `above` must be a whole number from 0 to 10000"),
        (
            "{count: {within: 1m, above: 1001, distinct: 'json.value[/v]'}}",
            "7:38 `above` must be a whole number from 0 to 1000",
        ),
        ("{count: {within: 1m, above: 1, by: proc.name}}", "7:45 `by` must be a sequence of fields, not a scalar"),
        ("{count: {within: 1m, above: 1, by: [evt.nmu]}}", "7:46 unknown field `evt.nmu`"),
        (
            "{count: {within: 1m, above: 1, by: [proc.name]}}",
            "7:46 field `proc.name` is one of source `syscall`, which the rule is not for",
        ),
        ("{count: {within: 1m, above: 1, by: [evt.num, evt.num]}}", "7:55 `evt.num` stands twice in `by`"),
        (
            "{count: {within: 1m, above: 1, by: [{after: evt.num, then: evt.num}]}}",
            "7:46 `by` must hold names of fields, not a mapping",
        ),
        (
            "{spike: {every: 1m, baseline: 90s, factor: 2, at_least: 1}}",
            "7:40 a baseline of 90s, which is not twice 1m or more whole times that",
        ),
        (
            "{spike: {every: 1s, baseline: 2017s, factor: 2, at_least: 1}}",
            "7:40 the baseline has 2017 times `every`, more than 2016",
        ),
        (
            "{spike: {every: 1s, baseline: 2s, factor: 0.9, at_least: 1}}",
            "7:52 `factor` must be a number from 1 to 1000000, with three decimals at most",
        ),
        ("{first_seen: {learn: 1d}}", "7:23 `first_seen` without `by` could alert once only"),
        ("{sequence: {after: 'evt.num >', within: 1m}}", "7:39 `>` needs a number on its right side"),
        ("{sequence: {after: nothing, within: 1m}}", "7:29 unknown macro `nothing`"),
        (
            "{sequence: {after: evt.num > 0, within: 1m, by: [{after: evt.num, then: evt.type}]}}",
            "7:82 `evt.num` is a number, `evt.type` a text: they are never the same",
        ),
        ("{count: {within: 1m, above: 1}, output: '%cairn.baseline'}", "7:52 unknown field `cairn.baseline`"),
        ("{count: {within: 1m, above: 1}, output: '%cairn.first.evt.num'}", "7:52 unknown field `cairn.first.evt.num`"),
    ] {
        let said = problems(cairn);
        if !said.contains(expected) {
            wrong.push(format!("{cairn}\n  says {said}\n  not  {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(problems("{count: {within: 400d, above: 10000, by: [evt.num]}}"), "");
    assert_eq!(problems("{spike: {every: 1s, baseline: 2016s, factor: 1, at_least: 1}}"), "");
    let fields: Vec<String> = (0..9).map(|number| format!("'json.value[/{number}]'")).collect();
    let by = |count: usize| format!("{{first_seen: {{learn: 1d, by: [{}]}}}}", fields[..count].join(", "));
    assert_eq!(problems(&by(8)), "");
    assert!(problems(&by(9)).contains("9 fields in `by`, more than 8"));
}

#[test]
fn the_key_can_be_replaced_and_taken_away() {
    let text = rule("{count: {within: 1m, above: 1}}");
    let over = |cairn: &str| format!("{text}- rule: R\n  cairn: {cairn}\n  override: {{cairn: replace}}\n");
    assert_eq!(rules(&text).rule("R").expect("R").state(), Some("count within 1m above 1"));
    let replaced = rules(&over("{first_seen: {by: [evt.type], learn: 7d}}"));
    assert_eq!(replaced.rule("R").expect("R").state(), Some("first_seen by evt.type learn 7d forget 400d"));
    assert_eq!(rules(&over("")).rule("R").expect("R").state(), None);
}

/// The examples of `RULES.md` do what it says.
#[test]
fn the_documented_examples() {
    let document = include_str!("../RULES.md");
    let block = |label: &str| {
        let fence = format!("```yaml {label}\n");
        let start = document.find(&fence).expect("the block is there") + fence.len();
        &document[start..start + document[start..].find("```").expect("the block ends")]
    };
    for (what, count) in [("over time", 5), ("honeytokens", 4)] {
        let rules = rules(block(&format!("rules {what}")));
        let text = block(&format!("cases {what}"));
        let parsed = replay::parse(&[RulesFile { path: "cases.yaml", text }]);
        assert!(parsed.problems.is_empty(), "{}", render(&parsed.problems));
        assert_eq!(parsed.cases.len(), count);
        for case in &parsed.cases {
            let result = replay::run(&rules, case);
            assert!(result.passed, "{}: {}", result.name, result.reason);
        }
    }
}
