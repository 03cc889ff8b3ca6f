//! Each limit at its value and one past it. Those of text alone (depth, lengths, regular expressions) are tested where they are kept.

use std::sync::Arc;

use cairn_rules::limits::{
    ANCESTRY_MAX, CASE_EVENTS_MAX, CONDITION_ERRORS_MAX, EXCEPTION_VALUES_MAX, FILES_MAX, LIST_ITEMS_MAX, PROBLEMS_MAX,
    RULE_VALUES_MAX, RULES_MAX, YAML_NODES_MAX,
};
use cairn_rules::{Code, Engine, Limits, Loaded, RuleSet, RulesFile, event, load, replay};

fn one(text: &str) -> Loaded {
    load(&[RulesFile { path: "r", text }])
}

fn is_limited(loaded: &Loaded) -> bool {
    loaded.errors().any(|problem| problem.code == Code::CairnLimit)
}

fn rule(name: &str, condition: &str) -> String {
    format!("- rule: {name}\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n")
}

#[test]
fn files() {
    let files = |count: usize| vec![RulesFile { path: "r", text: "" }; count];
    assert!(load(&files(FILES_MAX)).is_ok());
    assert!(is_limited(&load(&files(FILES_MAX + 1))));
}

#[test]
fn yaml_nodes() {
    // The sequence itself is a node.
    let text = |nodes: usize| "- a\n".repeat(nodes - 1);
    assert!(!is_limited(&one(&text(YAML_NODES_MAX))));
    assert!(is_limited(&one(&text(YAML_NODES_MAX + 1))));
}

#[test]
fn rules() {
    let text = |count: usize| (0..count).map(|number| rule(&number.to_string(), "evt.type=open")).collect::<String>();
    // Two files, for they do not fit into one.
    let (first, second, more) =
        (text(RULES_MAX / 2), text(RULES_MAX).split_off(text(RULES_MAX / 2).len()), rule("x", "evt.type=open"));
    let files = [
        RulesFile { path: "a", text: &first },
        RulesFile { path: "b", text: &second },
        RulesFile { path: "c", text: &more },
    ];
    let at = load(&files[..2]);
    assert_eq!((at.is_ok(), at.rules.rules().len()), (true, RULES_MAX));
    assert!(is_limited(&load(&files)));
}

#[test]
fn values() {
    let list = |count: usize| format!("- list: l\n  items: [{}]\n", vec!["a"; count].join(","));
    let uses = |condition: &str| rule("R", condition);
    let four = ["proc.name in (l)"; RULE_VALUES_MAX / LIST_ITEMS_MAX - 1].join(" or ");
    // The event type is a value as well: leave room for it.
    let at =
        format!("{}{}", list(LIST_ITEMS_MAX - 1), uses(&format!("evt.type = open and ({four} or proc.name in (l))")));
    assert!(one(&at).is_ok());
    assert!(is_limited(&one(&list(LIST_ITEMS_MAX + 1))));
    let spliced = format!("{}{}", list(LIST_ITEMS_MAX), uses("evt.type = open and proc.name in (l, b)"));
    assert!(is_limited(&one(&spliced)));
    let past =
        format!("{}{}", list(LIST_ITEMS_MAX), uses(&format!("evt.type = open and ({four} or proc.name in (l))")));
    assert!(is_limited(&one(&past)));
}

#[test]
fn exception_values() {
    let text = |count: usize| {
        format!(
            "{}  exceptions:\n    - {{name: e, fields: proc.name, values: [{}]}}\n",
            rule("R", "evt.type = open"),
            vec!["a"; count].join(",")
        )
    };
    assert!(one(&text(EXCEPTION_VALUES_MAX)).is_ok());
    assert!(is_limited(&one(&text(EXCEPTION_VALUES_MAX + 1))));
}

#[test]
fn problems() {
    let text = |count: usize| "- {lst: x}\n".repeat(count);
    let at = one(&text(PROBLEMS_MAX));
    assert_eq!(at.problems.len(), PROBLEMS_MAX);
    assert!(!at.problems[PROBLEMS_MAX - 1].message.contains("not shown"));
    let past = one(&text(PROBLEMS_MAX + 1));
    assert_eq!(past.problems.len(), PROBLEMS_MAX);
    assert!(past.problems[PROBLEMS_MAX - 1].message.ends_with("(and 1 more problems, not shown)"));
    // A full list of warnings never hides an error.
    let hidden = one(&format!("{}- [1]\n", text(PROBLEMS_MAX + 1)));
    assert!(!hidden.is_ok());
}

#[test]
fn errors_of_a_condition() {
    let text = |count: usize| rule("R", &vec!["unknown"; count].join(" or "));
    assert_eq!(one(&text(CONDITION_ERRORS_MAX)).errors().count(), CONDITION_ERRORS_MAX);
    assert_eq!(one(&text(CONDITION_ERRORS_MAX + 1)).errors().count(), CONDITION_ERRORS_MAX);
}

#[test]
fn replay_cases() {
    let parse = |text: &str| replay::parse(&[RulesFile { path: "c", text }]).problems;
    let events =
        |count: usize| format!("- name: c\n  events: [{}]\n  expect: []\n", vec!["exec: /bin/sh"; count].join(", "));
    assert!(parse(&events(CASE_EVENTS_MAX)).is_empty());
    assert_eq!(parse(&events(CASE_EVENTS_MAX + 1))[0].code, Code::CairnLimit);
}

#[test]
fn ancestry() {
    // Each process' parent is the one before.
    let mut engine = Engine::new(Arc::new(RuleSet::default()), Limits::default());
    let text = rule("R", "evt.type = execve");
    engine.replace_rules(Arc::new(one(&text).rules));
    let mut ancestors = Vec::new();
    for pid in 1..=u32::try_from(ANCESTRY_MAX).unwrap() + 2 {
        let process = event::Process { ppid: pid - 1, start_ns: u64::from(pid), ..event::Process::default() };
        let exec = event::Exec { process, ..event::Exec::default() };
        let event = event::Event { time_ns: 0, cpu: 0, tid: pid, pid, kind: event::EventKind::Exec(Box::new(exec)) };
        ancestors.push(engine.handle(&event)[0].process.ancestry.len());
    }
    assert_eq!(ancestors[ANCESTRY_MAX..], [ANCESTRY_MAX, ANCESTRY_MAX]);
}
