//! What a program is made of. That it says what the plain walk says is shown in `tests/evaluators.rs`.

use super::*;
use crate::event::{Open, OpenSyscall};
use crate::{Engine, Evaluator, Limits, RuleSet, RulesFile, load};

fn rules(conditions: &[&str]) -> RuleSet {
    let rule = |(place, condition): (usize, &&str)| {
        format!("- rule: R{place}\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n")
    };
    let text: String = conditions.iter().enumerate().map(rule).collect();
    let loaded = load(&[RulesFile { path: "r", text: &text }]);
    assert!(loaded.is_ok(), "{:?}", loaded.problems);
    loaded.rules
}

fn types(rules: &RuleSet) -> Vec<TypeSet> {
    rules.rules().iter().map(|rule| TypeSet::of(rule.event_types.iter().copied())).collect()
}

fn program(rules: &RuleSet, types: &[TypeSet], size_max: usize) -> Program {
    let numbered = rules.rules().iter().zip(types).enumerate();
    let entries: Vec<Entry<'_>> = numbered
        .map(|(place, (rule, types))| Entry { rule: place as u32, source: SYSCALL, condition: &rule.condition, types })
        .collect();
    Program::with_size_max(&entries, size_max)
}

fn open(syscall: OpenSyscall, name: &str) -> Event {
    let open = Open { syscall, name: name.into(), ..Open::default() };
    Event { time_ns: 0, cpu: 0, tid: 1, pid: 1, kind: EventKind::Open(Box::new(open)) }
}

#[test]
fn types_that_fold_alike_share_a_section() {
    let rules =
        rules(&["evt.type in (open, openat) and fd.name = /a", "evt.type = creat and fd.name = /a", "fd.name = /b"]);
    let program = program(&rules, &types(&rules), usize::MAX);
    let section = |name: &str| program.by_type[EventType::by_name(name).unwrap().place()];
    assert_eq!(section("open"), section("openat"));
    assert_ne!(section("open"), section("creat"));
    assert_eq!(section("read"), section("execve"));
    // The types a rule names, those another names, and all others.
    assert_eq!(program.sections.len(), 3);
    assert_eq!(program.rules_of(section("creat") as usize), [1, 2]);
}

#[test]
fn what_does_not_fit_is_walked() {
    let rules = rules(&["evt.type = openat and fd.name in (/a, /b, /c)"]);
    let types = types(&rules);
    let size = program(&rules, &types, usize::MAX).sections[0].size();
    assert!(matches!(program(&rules, &types, size).sections[0], Section::Program(_)));
    assert!(matches!(program(&rules, &types, size - 1).sections[0], Section::Plain(_)));
}

#[test]
fn stamps_begin_anew() {
    let rules = std::sync::Arc::new(rules(&[
        "evt.type in (open, openat) and (fd.name = /a or fd.name = /b) and not fd.name = /b",
        "evt.type in (open, openat) and (fd.name = /a or fd.name = /b)",
    ]));
    let mut engine = Engine::new(rules, Limits::default());
    engine.set_evaluator(Evaluator::Compiled);
    for stamp in [0, u32::MAX - 3, u32::MAX - 1, 2] {
        engine.set_stamp(stamp & !1);
        for (name, alerts) in [("/a", 2), ("/b", 1), ("/c", 0), ("/a", 2)] {
            assert_eq!(engine.handle(&open(OpenSyscall::Openat, name)).len(), alerts, "{name} {stamp}");
        }
    }
}

/// More values than a lookup takes: no guard, and the same alerts.
#[test]
fn as_many_values_as_a_lookup_takes() {
    use crate::limits::LOOKUP_WORDS_MAX;
    // Masks of more than 512 rules have 160 words.
    let lists = |values: usize| -> String {
        let list = |rule: usize| {
            let values: Vec<String> = (0..values).map(|value| format!("/{}", value * 600 + rule)).collect();
            format!(
                "- rule: R{rule}\n  desc: d\n  condition: evt.type = open and fd.name in ({})\n  output: o\n  priority: INFO\n",
                values.join(", ")
            )
        };
        (0..600).map(list).collect()
    };
    let most = LOOKUP_WORDS_MAX / 160 / 600;
    for (values, is_guarded) in [(most, true), (most + 1, false)] {
        let loaded = load(&[RulesFile { path: "r", text: &lists(values) }]);
        assert!(loaded.is_ok(), "{:?}", loaded.problems);
        let program = loaded.rules.program();
        let Section::Program(steps) = &program.sections[0] else { panic!("it does not fit") };
        assert_eq!(!steps.guards.is_empty(), is_guarded, "{values}");
        let mut engine = Engine::new(std::sync::Arc::new(loaded.rules), Limits::default());
        let alerts = engine.handle(&open(OpenSyscall::Open, "/601"));
        assert_eq!(alerts.iter().map(|alert| alert.rule.as_str()).collect::<Vec<_>>(), ["R1"]);
    }
}

/// What a section looks up, and how many tests besides are made one by one.
fn looked_up(rules: &RuleSet) -> Vec<(String, usize)> {
    let Section::Program(steps) = &rules.program().sections[0] else { panic!("it does not fit") };
    let lookups = steps.guards.iter().filter_map(|guard| match &guard.check {
        guard::Check::Lookups(lookups) => Some(lookups),
        guard::Check::Node(_) => None,
    });
    lookups.flatten().map(|lookup| (format!("{lookup:?}"), lookup.others.len())).collect()
}

#[test]
fn paths_of_several_rules_are_one_tree() {
    let rules = rules(&[
        "evt.type = open and fd.name pmatch (/etc, /usr/bin)",
        "evt.type = open and fd.name pmatch (/etc/ssh, /home/*/.ssh)",
    ]);
    let [(lookup, others)] = &looked_up(&rules)[..] else { panic!("one lookup") };
    assert_eq!(*others, 0);
    assert!(lookup.contains("paths: Some"), "{lookup}");
}

#[test]
fn regular_expressions_of_several_rules_are_one_set() {
    let conditions: Vec<String> =
        (0..5).map(|rule| format!("evt.type = open and fd.name regex '/srv/{rule}/[a-z]+'")).collect();
    let of = |count: usize| rules(&conditions[..count].iter().map(String::as_str).collect::<Vec<_>>());
    // Few are tried when their rules are, if it comes to that.
    assert_eq!(looked_up(&of(3)).len(), 0);
    for count in [4, 5] {
        let rules = of(count);
        let [(lookup, others)] = &looked_up(&rules)[..] else { panic!("one lookup of {count}") };
        assert!(lookup.contains("regexes: Some") && *others == 0, "{lookup}");
    }
}

/// Too large together: one by one, and the same alerts.
#[test]
fn regular_expressions_that_make_no_set() {
    // Each takes some 600 KiB, so that eight are more than a set may take.
    let conditions: Vec<String> =
        (0..8).map(|rule| format!("evt.type = open and fd.name regex '/srv/{rule}/\\\\w{{18}}'")).collect();
    let rules = rules(&conditions.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(looked_up(&rules).iter().all(|(lookup, _)| lookup.contains("regexes: None")));
    let mut engine = Engine::new(std::sync::Arc::new(rules), Limits::default());
    let alerts = engine.handle(&open(OpenSyscall::Open, "/srv/3/abcdefghijklmnopqr"));
    assert_eq!(alerts.iter().map(|alert| alert.rule.as_str()).collect::<Vec<_>>(), ["R3"]);
}
