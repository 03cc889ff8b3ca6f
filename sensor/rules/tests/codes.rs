//! Every kind of problem, as it is printed and in the shape of Falco's JSON.

use std::collections::BTreeSet;

use cairn_rules::problem::render;
use cairn_rules::{Code, RulesFile, falco_report, load, replay};

/// A rule with these lines besides.
fn rule(lines: &str) -> String {
    format!("- rule: R\n  desc: d\n  output: o\n  priority: INFO\n{lines}")
}

fn files() -> Vec<(Code, String)> {
    use Code as C;
    let open = |lines: &str| rule(&format!("  condition: evt.type = open\n{lines}"));
    vec![
        (C::LoadErrYamlParse, "- rule: [a\n  desc: b\n".to_owned()),
        (C::LoadErrYamlValidate, "rule: R\n".to_owned()),
        (C::LoadErrYamlValidate, open("  source: ''\n")),
        (C::LoadErrCompileCondition, rule("  condition: evt.type = open and proc.nmae = x\n")),
        (
            C::LoadErrCompileOutput,
            "- {rule: R, desc: d, condition: evt.type = open, output: \"%proc.nmae\", priority: INFO}\n".to_owned(),
        ),
        (C::LoadErrValidate, "- required_engine_version: 99.0.0\n".to_owned()),
        (C::LoadErrExtension, "- cairn_source: audit\n  filds: []\n".to_owned()),
        (C::LoadUnknownSource, open("  source: k8s_adit\n")),
        (C::LoadUnsafeNaCheck, rule("  condition: ka.verb = \"<NA>\"\n  source: k8s_audit\n")),
        (C::LoadNoEvttype, rule("  condition: proc.name = x\n")),
        (
            C::LoadUnknownFilter,
            rule("  condition: evt.type = open and proc.brand_new = x\n  skip-if-unknown-filter: true\n"),
        ),
        (C::LoadUnusedMacro, "- macro: m\n  condition: evt.type = open\n".to_owned()),
        (C::LoadUnusedList, "- list: l\n  items: [a]\n".to_owned()),
        (C::LoadUnknownItem, "- mcaro: m\n  condition: evt.type = open\n".to_owned()),
        (C::LoadDeprecatedItem, format!("{}- rule: R\n  append: true\n  condition: and proc.name = x\n", open(""))),
        (
            C::LoadAppendNoValues,
            format!(
                "{}- rule: R\n  exceptions: [{{name: e}}]\n  override: {{exceptions: append}}\n",
                open("  exceptions: [{name: e, fields: [proc.name]}]\n")
            ),
        ),
        (
            C::LoadExceptionNameNotUnique,
            open("  exceptions: [{name: e, fields: [proc.name]}, {name: e, fields: [fd.name]}]\n"),
        ),
        (C::LoadInvalidMacroName, "- macro: a-b\n  condition: evt.type = open\n".to_owned()),
        (C::LoadInvalidListName, "- list: a b\n  items: []\n".to_owned()),
        (C::LoadCompileCondition, rule("  condition: evt.type = open and proc.name = proc.pname\n")),
        (C::LoadUnknownKey, open("  tag: [a]\n")),
        (C::CairnBlindSpot, rule("  condition: evt.type in (open, connect)\n")),
        (C::CairnLimit, rule(&format!("  condition: \"{}a{}\"\n", "(".repeat(200), ")".repeat(200)))),
    ]
}

#[test]
fn each_is_printed_with_its_place_and_remedy() {
    let mut said = String::new();
    for (code, text) in files() {
        let loaded = load(&[RulesFile { path: "rules.yaml", text: &text }]);
        assert!(loaded.problems.iter().any(|problem| problem.code == code), "{code:?}: {}", render(&loaded.problems));
        said.push_str(&format!("=== {}\n{}", code.as_str(), render(&loaded.problems)));
    }
    insta::assert_snapshot!(said);
}

#[test]
fn every_code_a_load_can_give_has_a_case() {
    // Files are read by the command, and cases by `replay`.
    let elsewhere = [Code::LoadErrFileRead, Code::CairnReplayCase];
    // Nothing of ours loads and does less than it seems to.
    let never = [Code::LoadWarningExtension];
    let shown: BTreeSet<Code> = files().into_iter().map(|(code, _)| code).chain(elsewhere).chain(never).collect();
    let missing: Vec<&Code> = Code::ALL.iter().filter(|code| !shown.contains(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let case = replay::parse(&[RulesFile { path: "case.yaml", text: "- name: c\n" }]);
    assert!(case.problems.iter().all(|problem| problem.code == Code::CairnReplayCase));
}

#[test]
fn falcos_json() {
    let text = rule("  condition: evt.type = open and proc.nmae = x\n  tag: [a]\n");
    let files = [RulesFile { path: "a.yaml", text: &text }, RulesFile { path: "b.yaml", text: "" }];
    let reports = falco_report(&files, &load(&files));
    let lines: Vec<String> = reports.iter().map(cairn_rules::FalcoReport::line).collect();
    assert_eq!(lines, ["a.yaml: Invalid", "b.yaml: Ok"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&reports).expect("it has a JSON"));
}
