//! `cairn check`: Conftest's output and codes.

use cairn_guardrails::{Guardrails, Limits};
use cairn_policy::check::{CheckReport, InputFile, can_deny, check};

const RULES: &str = "package main

deny_team contains msg if {
	not input.metadata.labels.team
	msg := sprintf(\"%s has no team\", [input.metadata.name])
}

warn_old contains \"old\" if input.old

deny_number contains \"number\" if to_number(input.number) > 3
";

fn run(files: &[(&str, &str)]) -> CheckReport {
    let guardrails =
        Guardrails::load(&[("guardrails/a.rego", RULES)]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let files: Vec<_> =
        files.iter().map(|(name, text)| InputFile { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
    check(&guardrails, &files, &Limits::default())
}

#[test]
fn text_and_code_are_conftests() {
    let report = run(&[
        ("good.yaml", "metadata: {name: a, labels: {team: x}}\n"),
        ("bad.yaml", "---\nmetadata: {name: a}\nold: true\n---\n---\nmetadata: {name: b}\n"),
    ]);
    assert_eq!(
        report.to_string(),
        "WARN - bad.yaml - main - old\nFAIL - bad.yaml - main - a has no team\nFAIL - bad.yaml - main - b has no team\n\
         9 tests, 6 passed, 1 warnings, 2 failures"
    );
    assert_eq!(report.exit_code(), 1);
    assert_eq!(report.files[1].documents, 2);
    assert_eq!(run(&[("good.yaml", "metadata: {name: a, labels: {team: x}}\nold: true\n")]).exit_code(), 0);
}

#[test]
fn json_is_conftests() {
    let report = run(&[("bad.json", "{\"metadata\": {\"name\": \"a\"}}")]);
    assert_eq!(
        report.to_json(),
        serde_json::json!([{
            "filename": "bad.json",
            "namespace": "main",
            "successes": 2,
            "failures": [{
                "msg": "a has no team",
                "metadata": { "query": "data.main.deny_team", "document": 1 }
            }]
        }])
    );
}

#[test]
fn a_file_that_cannot_be_read_fails() {
    let report = run(&[("x.yaml", "a: 1\nb: [\n"), ("y.json", "{")]);
    assert_eq!(report.exit_code(), 1);
    assert!(report.files[0].failures[0].by_error && report.files[0].failures[0].message.starts_with("x.yaml:"));
    assert!(report.to_json()[0]["failures"][0]["metadata"]["error"].as_bool().unwrap());
    assert!(report.to_string().starts_with("FAIL - x.yaml - - - x.yaml:"), "{report}");
}

#[test]
fn a_guardrail_that_fails_is_a_failure() {
    let report = run(&[("x.yaml", "metadata: {labels: {team: x}}\nnumber: many\n")]);
    assert!(report.files[0].failures[0].by_error);
    assert_eq!(report.files[0].failures[0].guardrail, "main.deny_number");
    assert_eq!(report.exit_code(), 1);
}

#[test]
fn kubernetes_lists_are_unpacked_and_empty_files_are_nothing() {
    let list = "apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: Pod, metadata: {name: a}}\n  - {apiVersion: v1, kind: Pod, metadata: {name: b}}\n";
    let report = run(&[("list.yaml", list), ("empty.yaml", ""), ("comment.yaml", "# nothing\n")]);
    assert_eq!(report.files[0].failures.len(), 2);
    assert_eq!((report.files[1].documents, report.files[2].documents), (0, 0));
}

#[test]
fn a_policy_without_a_deny_is_told_apart() {
    assert!(!can_deny(&Guardrails::load(&[("a.rego", "package a\nwarn contains \"x\" if input.x\n")]).unwrap()));
    assert!(can_deny(&Guardrails::load(&[("a.rego", RULES)]).unwrap()));
}
