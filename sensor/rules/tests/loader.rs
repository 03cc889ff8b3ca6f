//! What a load makes of small files, one case after another: `loader/cases.txt`.

use cairn_rules::problem::render;
use cairn_rules::{Code, Problem, RulesFile, compiled_condition, load};

struct Case<'a> {
    name: &'a str,
    text: String,
    errors: Vec<&'a str>,
    warnings: Vec<&'a str>,
    enabled: Option<Vec<&'a str>>,
    conditions: Vec<(&'a str, &'a str)>,
}

fn cases(text: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            let (text, errors, warnings, conditions) = (String::new(), Vec::new(), Vec::new(), Vec::new());
            cases.push(Case { name, text, errors, warnings, enabled: None, conditions });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        let Some(expected) = line.strip_prefix(">>> ") else {
            case.text.push_str(line);
            case.text.push('\n');
            continue;
        };
        let (word, rest) = expected.split_once(' ').unwrap_or((expected, ""));
        match word {
            "errors" => case.errors = rest.split(' ').collect(),
            "warnings" => case.warnings = rest.split(' ').collect(),
            "enabled" => case.enabled = Some(rest.split_whitespace().collect()),
            rule => case.conditions.push((rule, rest.strip_prefix("= ").expect("a condition"))),
        }
    }
    cases
}

fn codes<'a>(problems: impl Iterator<Item = &'a Problem>) -> Vec<&'static str> {
    problems.filter(|problem| problem.code != Code::CairnBlindSpot).map(|problem| problem.code.as_str()).collect()
}

#[test]
fn case_by_case() {
    let cases = cases(include_str!("loader/cases.txt"));
    let mut wrong = String::new();
    for case in &cases {
        let files = [RulesFile { path: "rules.yaml", text: &case.text }];
        let loaded = load(&files);
        let (errors, warnings) = (codes(loaded.errors()), codes(loaded.warnings()));
        if errors != case.errors || warnings != case.warnings {
            wrong.push_str(&format!("{}: {errors:?} {warnings:?}\n{}\n", case.name, render(&loaded.problems)));
        }
        for (rule, condition) in &case.conditions {
            let compiled = compiled_condition(&files, rule).unwrap_or_default();
            if compiled != *condition {
                wrong.push_str(&format!("{}: {rule} is\n  {compiled}, not\n  {condition}\n", case.name));
            }
        }
        let enabled: Vec<&str> = loaded.rules.rules().iter().map(|rule| rule.name.as_str()).collect();
        if case.enabled.as_ref().is_some_and(|expected| *expected != enabled) {
            wrong.push_str(&format!("{}: {enabled:?} are enabled\n", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases.len() > 50, "{} cases were read", cases.len());
}

#[test]
fn a_compiled_condition_compiles_to_the_same() {
    // Every upstream rule, its macros and lists put in, has the fields and event types it had before.
    let text = include_str!("falco-rules/falco_rules.yaml");
    let files = [RulesFile { path: "falco_rules.yaml", text }];
    let loaded = load(&files);
    for rule in loaded.rules.rules() {
        let condition = compiled_condition(&files, &rule.name).expect("it has one");
        let explained = cairn_rules::explain(&condition).expect("it compiles");
        assert_eq!(explained.normal_form, condition, "{}", rule.name);
        assert_eq!(explained.fields, rule.fields, "{}", rule.name);
        assert_eq!(explained.event_types, rule.event_types, "{}", rule.name);
    }
    assert_eq!(compiled_condition(&files, "No such rule"), None);
}
