//! Every rule the Falco project publishes, those that are not enabled too: a case in which it alerts, a case in which it does not.
//!
//! The cases are in `upstream/`, one file for each of Falco's. A rule that lacks one of the two is named, and fails the test.

use std::sync::Arc;

use cairn_rules::problem::render;
use cairn_rules::{Engine, Limits, RuleSet, RulesFile, Supply, Verdict, load_for, replay};

const TUNING: &str = include_str!("upstream/tuning.yaml");

const RULES: [(&str, &str); 3] = [
    ("falco_rules.yaml", include_str!("falco-rules/falco_rules.yaml")),
    ("falco-incubating_rules.yaml", include_str!("falco-rules/falco-incubating_rules.yaml")),
    ("falco-sandbox_rules.yaml", include_str!("falco-rules/falco-sandbox_rules.yaml")),
];

const CASES: [(&str, &str); 3] = [
    ("upstream/stable.yaml", include_str!("upstream/stable.yaml")),
    ("upstream/incubating.yaml", include_str!("upstream/incubating.yaml")),
    ("upstream/sandbox.yaml", include_str!("upstream/sandbox.yaml")),
];

/// All rules, enabled, as a source that supplies everything has them.
fn rules() -> Arc<RuleSet> {
    let texts = RULES.map(|(path, text)| (path, text.replace("enabled: false", "enabled: true")));
    let mut files: Vec<RulesFile<'_>> = texts.iter().map(|(path, text)| RulesFile { path, text }).collect();
    files.push(RulesFile { path: "tuning.yaml", text: TUNING });
    let loaded = load_for(&files, &Supply::everything());
    assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    Arc::new(loaded.rules)
}

fn results(rules: &Arc<RuleSet>) -> Vec<replay::CaseResult> {
    let parsed = replay::parse(&CASES.map(|(path, text)| RulesFile { path, text }));
    assert!(parsed.problems.is_empty(), "{}", render(&parsed.problems));
    parsed.cases.iter().map(|case| replay::run(rules, case)).collect()
}

#[test]
fn every_case_passes() {
    let results = results(&rules());
    let failed: Vec<String> = results
        .iter()
        .filter(|result| !result.passed)
        .map(|result| format!("{}:{}: {}: {}", result.file, result.line, result.name, result.reason))
        .collect();
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), results.len(), failed.join("\n"));
}

#[test]
fn every_rule_has_an_alert_and_a_silence() {
    let rules = rules();
    assert_eq!(rules.rules().len(), 93);
    let coverage = replay::coverage(&rules, &results(&rules));
    let without: Vec<String> = coverage
        .uncovered()
        .map(|rule| format!("{}: {} alerts, {} silences", rule.rule, rule.alerts, rule.silences))
        .collect();
    assert!(without.is_empty(), "{} rules\n{}", without.len(), without.join("\n"));
}

/// What explaining says of a rule is what matching it says.
#[test]
fn explanations_agree_with_alerts() {
    let rules = rules();
    let parsed = replay::parse(&CASES.map(|(path, text)| RulesFile { path, text }));
    for case in &parsed.cases {
        let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
        engine.set_names(Arc::new(case.names.clone()));
        engine.seed(case.processes.iter().cloned());
        for event in &case.events {
            let trace = engine.explain(event, None);
            for rule in &trace.rules {
                let alerted = trace.alerts.iter().any(|alert| alert.rule == rule.rule);
                assert_eq!(rule.verdict == Verdict::Alerted, alerted, "{}: {}", case.name, rule.rule);
                assert_eq!(rule.verdict == Verdict::NotHeld, !alerted, "{}: {}", case.name, rule.rule);
                assert!(!rule.reasons.is_empty(), "{}: {}", case.name, rule.rule);
                assert!(rule.reasons.iter().all(|reason| reason.holds == alerted), "{}: {}", case.name, rule.rule);
            }
        }
    }
}

#[test]
fn a_near_miss_is_decided_by_what_it_misses() {
    let rules = rules();
    let coverage = replay::coverage(&rules, &results(&rules));
    let rule =
        coverage.rules.iter().find(|rule| rule.rule == "Terminal shell in container").expect("it is one of them");
    let said: Vec<(&str, bool, bool)> =
        rule.clauses.iter().map(|clause| (clause.text.as_str(), clause.decided_true, clause.decided_false)).collect();
    let expected = [
        ("spawned_process", true, false),
        ("container", true, false),
        ("shell_procs", true, false),
        ("proc.tty != 0", true, true),
        ("container_entrypoint", true, false),
        ("not user_expected_terminal_shell_in_container_conditions", true, false),
    ];
    assert_eq!(said, expected);
}
