//! Every kind of problem, as it is printed and in the shape of Falco's JSON.

use std::collections::BTreeSet;

use cairn_rules::problem::render;
use cairn_rules::{Code, RulesFile, Supply, falco_report, load, load_beside_falco, replay};

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
    // Said only where it is asked for; the test below does.
    let asked_for = [Code::LoadWarningExtension];
    let shown: BTreeSet<Code> = files().into_iter().map(|(code, _)| code).chain(elsewhere).chain(asked_for).collect();
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

#[test]
fn what_falco_makes_of_our_own_items_is_said_where_asked_for() {
    let text = "\
- cairn_source: door
  fields: [{name: door.who, path: /who}]
- cairn_honeytokens: Bait
  paths: [/root/bait]
- rule: Many
  desc: d
  condition: evt.type = execve
  output: o
  priority: INFO
  cairn:
    count: {by: [proc.name], within: 1m, above: 3}
    output: \"%cairn.count of %proc.name\"
- rule: Shown outside
  desc: d
  condition: evt.type = execve
  output: \"%cairn.count of %proc.name\"
  priority: INFO
  cairn: {count: {within: 1m, above: 3}}
- rule: Many
  cairn: {count: {within: 5m, above: 3}}
  override: {cairn: replace}
";
    let files = [RulesFile { path: "rules.yaml", text }];
    assert_eq!(load(&files).problems, []);
    let loaded = load_beside_falco(&files, Supply::sensor());
    insta::assert_snapshot!(render(&loaded.problems), @r#"
    error[LOAD_ERR_EXTENSION]: Falco knows no field `cairn.count`
      --> rules.yaml:16:12 in rule "Shown outside"
     16 |   output: "%cairn.count of %proc.name"
        |            ^
      hint: give this output inside the key `cairn`, and beside it one without such fields

    error[LOAD_ERR_EXTENSION]: Falco knows no override of `cairn`
      --> rules.yaml:20:10 in rule "Many"
     20 |   cairn: {count: {within: 5m, above: 3}}
        |          ^
      hint: override it in a file that Falco does not read

    warning[LOAD_WARNING_EXTENSION]: Falco passes over `cairn_source`, and skips the rules for that source
      --> rules.yaml:1:3 in cairn_source "door"
     1 | - cairn_source: door
       |   ^

    warning[LOAD_WARNING_EXTENSION]: Falco passes over `cairn_honeytokens`, and has none of its rules
      --> rules.yaml:3:3 in cairn_honeytokens "Bait"
     3 | - cairn_honeytokens: Bait
       |   ^

    warning[LOAD_WARNING_EXTENSION]: Falco ignores `cairn`: there the rule alerts on each event that its condition holds for
      --> rules.yaml:11:5 in rule "Many"
     11 |     count: {by: [proc.name], within: 1m, above: 3}
        |     ^

    warning[LOAD_WARNING_EXTENSION]: Falco ignores `cairn`: there the rule alerts on each event that its condition holds for
      --> rules.yaml:18:10 in rule "Shown outside"
     18 |   cairn: {count: {within: 1m, above: 3}}
        |          ^

    2 error(s), 4 warning(s)
    "#);
    assert_eq!(loaded.rules.rules().len(), 3, "they are rules all the same");
    let report = falco_report(&files, &loaded);
    assert_eq!((report[0].successful, report[0].errors.len(), report[0].warnings.len()), (false, 2, 4));
}
