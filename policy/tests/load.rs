//! What loading a policy refuses, with file, line and remedy, and what it carries.

use cairn_policy::limits::{FILE_BYTES_MAX, RESPONSES_MAX};
use cairn_policy::{Policy, PolicyTree, Problem, template};

const CONFIG: &str = "version: 1\nrings:\n  - name: all\n";

/// A small policy with these files in place of its own.
fn tree(files: &[(&str, &str)]) -> PolicyTree {
    let small = [
        ("cairn.yaml", CONFIG),
        (
            "detections/a.yaml",
            "- rule: Shell\n  desc: d\n  condition: evt.type = execve and proc.name = sh\n  output: o\n  priority: NOTICE\n",
        ),
    ];
    small.iter().chain(files).map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

fn problems(files: &[(&str, &str)]) -> Vec<Problem> {
    match Policy::load(&tree(files)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.problems,
    }
}

/// The one problem of a policy with this file, as text.
fn problem(path: &str, text: &str) -> String {
    match problems(&[(path, text)]).as_slice() {
        [problem] => problem.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_smallest_policy_is_one_ring() {
    let tree = PolicyTree::from([("cairn.yaml".to_owned(), CONFIG.as_bytes().to_vec())]);
    let policy = Policy::load(&tree).unwrap();
    assert!(policy.guardrails.guardrails().is_empty() && policy.responses.is_empty());
    let report = policy.test();
    assert!(report.accepted() && report.cases.is_empty() && report.coverage_percent() == 100);
    let missing = Policy::load(&PolicyTree::new()).unwrap_err();
    assert!(missing.first().to_string().starts_with("cairn.yaml: the policy repo has no cairn.yaml"));
}

#[test]
fn problems_of_every_file_come_together() {
    let problems = problems(&[
        ("cairn.yaml", "version: 1\nrings:\n  - name: all\n    soke: 1s\n"),
        (
            "detections/b.yaml",
            "- rule: Broken\n  desc: d\n  condition: proc.nmae = sh\n  output: o\n  priority: NOTICE\n",
        ),
        ("detections/tests/c.yaml", "- name: a\n  events:\n    - exec: /bin/sh\n"),
        ("guardrails/a.rego", "package a\n\ndeny contains \"x\" if startwith(input.a, \"b\")\n"),
        ("responses/r.yaml", "name: r\non: {rules: [Shel]}\naction: kill\nmode: observe\n"),
        ("owners.yaml", "a: [\n"),
    ]);
    let places: Vec<_> = problems.iter().map(|problem| (problem.file.as_str(), problem.line)).collect();
    assert_eq!(
        places,
        [
            ("cairn.yaml", Some(4)),
            ("detections/b.yaml", Some(3)),
            ("detections/tests/c.yaml", Some(1)),
            ("guardrails/a.rego", Some(3)),
            ("owners.yaml", Some(1)),
            ("responses/r.yaml", Some(2)),
        ]
    );
}

#[test]
fn the_configuration_is_checked() {
    for (text, expected) in [
        ("version: 2\nrings:\n  - name: all\n", "cairn.yaml:1:10: version 2 is not known"),
        ("version: 1\nrings: []\n", "cairn.yaml: there is no ring"),
        ("version: 1\n", "cairn.yaml:1:1: missing field `rings`"),
        (
            "version: 1\nrings:\n  - name: a\n    nodes: {x: y}\n  - name: a\n",
            "cairn.yaml:5:11: two rings are named `a`",
        ),
        ("version: 1\nrings:\n  - name: a\n  - name: b\n", "cairn.yaml:3:11: ring `a` takes every node"),
        (
            "version: 1\nrings:\n  - name: a\n    nodes: {x: y}\n",
            "cairn.yaml:3:11: the last ring, `a`, must take every node",
        ),
        ("version: 1\nrings:\n  - name: a\n    soak: soon\n", "cairn.yaml:4:11: `soon` is not a duration"),
        ("version: 1\nrings:\n  - name: A b\n", "cairn.yaml:3:11: "),
        ("version: 1\nrings:\n  - name: a\ntests: {coverage: must}\n", "cairn.yaml:4:19: "),
        ("version: 1\nrings:\n  - name: a\ndetections: {matching: best}\n", "cairn.yaml:4:24: "),
        (
            "version: 1\nrings:\n  - name: a\nprivacy:\n  personal_fields: [proc.cwd, proc.aname, proc.cdw]\n",
            "cairn.yaml:5:43: there is no field `proc.cdw`",
        ),
        (
            "version: 1\nrings:\n  - name: a\ndetections: {priority: urgent}\n",
            "cairn.yaml:4:24: `urgent` is not a priority",
        ),
        (
            "version: 1\nrings:\n  - name: a\ndetections:\n  append_output:\n    - match: {rule: Shel}\n      extra_output: x\n",
            "cairn.yaml:6:21: there is no rule `Shel`",
        ),
        (
            "version: 1\nrings:\n  - name: a\ndetections: {append_output: [{extra_output: \"%proc.nmae\"}]}\n",
            "cairn.yaml: append_output for rule `Shell`: unknown field `proc.nmae`",
        ),
        (
            "version: 1\nrings:\n  - name: a\ndetections: {append_output: [{extra_fields: [{who: \"%user.name\"}]}]}\n",
            "cairn.yaml:4:",
        ),
        ("version: 1\nversion: 1\nrings:\n  - name: a\n", "cairn.yaml:2:1: "),
    ] {
        let text = problem("cairn.yaml", text);
        assert!(text.starts_with(expected), "{expected}: {text}");
    }
}

/// The tests of a policy are matched as its nodes match.
#[test]
fn one_rule_an_event_or_all() {
    let second = "- rule: Program\n  desc: d\n  condition: evt.type = execve\n  output: o\n  priority: NOTICE\n";
    let cases = "- name: a\n  events:\n    - exec: /bin/sh\n  expect: [Shell]\n";
    for (matching, passed, reason) in [
        ("", 0, "`Program` alerted and was not expected to"),
        ("detections: {matching: all}\n", 0, "`Program` alerted and was not expected to"),
        ("detections: {matching: first}\n", 1, ""),
    ] {
        let config = format!("{CONFIG}{matching}");
        let files =
            [("cairn.yaml", config.as_str()), ("detections/b.yaml", second), ("detections/tests/c.yaml", cases)];
        let report = Policy::load(&tree(&files)).unwrap().test();
        assert_eq!((report.passed, report.cases[0].message.as_str()), (passed, reason), "{matching}");
    }
    let cases = cases.replace("Shell", "Shell, Program");
    let config = format!("{CONFIG}detections: {{matching: first}}\n");
    let files =
        [("cairn.yaml", config.as_str()), ("detections/b.yaml", second), ("detections/tests/c.yaml", cases.as_str())];
    let report = Policy::load(&tree(&files)).unwrap().test();
    let message = &report.cases[0].message;
    assert!(message.starts_with("`Program` did not alert") && message.contains("one rule alone"), "{message}");
}

#[test]
fn detections_of_others_are_tuned_in_the_configuration() {
    let rule = |name: &str, priority: &str| {
        format!(
            "- rule: {name}\n  desc: d\n  condition: evt.type = execve\n  output: o %proc.name\n  priority: {priority}\n"
        )
    };
    let rules = [rule("Loud", "ERROR"), rule("Quiet", "INFO")].concat();
    let config = format!(
        "{CONFIG}detections:\n  priority: notice\n  append_output:\n    - match: {{rule: Loud}}\n      extra_output: in %container.id\n      \
         extra_fields: [proc.pid]\n"
    );
    let case = "- name: c\n  events: [exec: /bin/x]\n  expect: [Loud]\n";
    let files =
        [("cairn.yaml", config.as_str()), ("detections/a.yaml", rules.as_str()), ("detections/tests/c.yaml", case)];
    let policy = Policy::load(&tree(&files)).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(policy.rules.disabled(), ["Quiet"]);
    assert_eq!(policy.rules.rule("Loud").unwrap().output, "o %proc.name in %container.id");
    assert!(policy.test().accepted(), "{}", policy.test());
    let response = ("responses/r.yaml", "name: r\non:\n  rules: [Quiet]\naction: kill\nmode: observe\n");
    let refused = problems(&[&files[..], &[response]].concat());
    let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(refused, ["responses/r.yaml:3:11: the rule `Quiet` is disabled, so it never triggers this"]);
}

#[test]
fn responses_name_rules_that_exist() {
    let with = |rules: &str, rest: &str| {
        problem("responses/r.yaml", &format!("name: r\non:\n  rules: {rules}\naction: kill\nmode: observe\n{rest}"))
    };
    assert_eq!(with("[shell]", ""), "responses/r.yaml:3:11: there is no rule `shell`\n  hint: did you mean `Shell`?");
    assert!(with("[Other]", "").contains("the rules in detections/ are: Shell"));
    assert!(with("[]", "").starts_with("responses/r.yaml:1:7: response `r` names no rule"));
    assert!(with("[Shell]", "moed: enforce\n").contains("moed"));
    assert!(
        problem("responses/r.yaml", "name: r\non: {rules: [Shell]}\naction: shutdown\nmode: observe\n")
            .contains("responses/r.yaml:3:9")
    );
    let good = "name: r\non: {rules: [Shell], priority: notice}\naction: kill\nmode: enforce\n";
    let twice = problems(&[("responses/a.yaml", good), ("responses/b.yaml", good)]);
    assert_eq!(twice[0].to_string(), "responses/b.yaml:1:7: responses/a.yaml is named `r` too");

    let many = |count: usize| -> Vec<(String, String)> {
        (0..count).map(|n| (format!("responses/{n}.yaml"), good.replace("name: r", &format!("name: r{n}")))).collect()
    };
    let load = |files: Vec<(String, String)>| {
        problems(&files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>())
    };
    assert_eq!(load(many(RESPONSES_MAX)), []);
    assert!(load(many(RESPONSES_MAX + 1))[0].reason.contains("257 responses"));
}

#[test]
fn a_response_to_a_disabled_rule_is_refused() {
    let rule = "- rule: Off\n  desc: d\n  condition: evt.type = execve and proc.name = sh\n  output: o\n  priority: NOTICE\n  enabled: false\n";
    let response = "name: r\non: {rules: [Off]}\naction: kill\nmode: observe\n";
    let problems = problems(&[("detections/off.yaml", rule), ("responses/r.yaml", response)]);
    assert!(problems[0].to_string().contains("the rule `Off` is disabled"), "{problems:?}");
}

#[test]
fn a_guardrail_that_would_not_be_enforced_is_refused() {
    for path in ["guardrails/template.yaml", "guardrails/data.json"] {
        assert!(problem(path, "{}").contains("would have no effect"), "{path}");
    }
    assert_eq!(problems(&[("guardrails/README.md", "words")]), []);
}

#[test]
fn what_is_not_built_yet_is_carried_and_said() {
    let policy = Policy::load(&tree(&[
        ("controls/soc2.yaml", "id: CC7.2\n"),
        ("exceptions/e.yaml", "ticket: SEC-1\n"),
        ("owners.yaml", "a: 1\n"),
        ("elsewhere/x.yaml", "a: [\n"),
    ]))
    .unwrap();
    let files: Vec<_> = policy.warnings.iter().map(|warning| warning.file.as_str()).collect();
    assert_eq!(files, ["controls/soc2.yaml", "exceptions/e.yaml"]);
    assert!(problem("exceptions/e.yaml", "a: [\n").starts_with("exceptions/e.yaml:"));
}

#[test]
fn detections_are_read_in_the_order_of_their_names() {
    let list = "- list: shells\n  items: [sh]\n";
    let rule = "- rule: S\n  desc: d\n  condition: evt.type = execve and proc.name in (shells)\n  output: o\n  priority: NOTICE\n";
    let append = "- list: shells\n  items: [zsh]\n  override: {items: append}\n";
    let case = "- name: zsh\n  events:\n    - exec: /bin/zsh\n  expect: [S]\n";
    let policy = Policy::load(&tree(&[
        ("detections/10.yaml", list),
        ("detections/20.yml", append),
        ("detections/deep/30.yaml", rule),
        ("detections/tests/s.yaml", case),
    ]))
    .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(policy.test().accepted(), "{}", policy.test());
}

#[test]
fn rules_for_a_source_that_the_policy_declares_are_tested_on_its_log() {
    let source = "\
- cairn_source: door
  time: /at
  fields:
    - {name: door.who, path: /badge/name, personal: true}
- rule: Door at night
  desc: d
  condition: door.who = eve
  output: '%door.who'
  priority: NOTICE
  source: door
";
    let case = "- name: eve\n  events: [{source: door, file: log/door.jsonl}]\n  expect: [Door at night]\n\
        - name: bob\n  events: [{source: door, document: {badge: {name: bob}}}]\n  expect: []\n";
    let config = format!("{CONFIG}privacy:\n  personal_fields: [door.who, ka.verb]\n");
    let log = "{\"badge\": {\"name\": \"bob\"}}\n{\"badge\": {\"name\": \"eve\"}}\n";
    let files = [
        ("cairn.yaml", config.as_str()),
        ("detections/door.yaml", source),
        ("detections/tests/door.yaml", case),
        ("detections/tests/log/door.jsonl", log),
    ];
    let policy = Policy::load(&tree(&files)).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(policy.test().accepted(), "{}", policy.test());
    let taken = policy.intake().take("door", log.lines().last().unwrap().as_bytes(), 7).unwrap();
    assert_eq!(taken[0].alerts[0].output, "eve");
    let missing = problem("detections/tests/door.yaml", &case.replace("door.jsonl", "doors.jsonl"));
    assert!(missing.contains("there is no file `detections/tests/log/doors.jsonl`"), "{missing}");
}

#[test]
fn text_that_is_no_text_and_files_too_large_are_refused() {
    let mut files = tree(&[]);
    files.insert("guardrails/a.rego".into(), b"package a\n\xff".to_vec());
    files.insert("detections/b.yaml".into(), vec![0xff]);
    let problems = Policy::load(&files).unwrap_err().to_string();
    assert_eq!(problems, "detections/b.yaml:1: not UTF-8 text\nguardrails/a.rego:2: not UTF-8 text");
    files.insert("runbooks/x.md".into(), vec![b'x'; FILE_BYTES_MAX + 1]);
    assert!(Policy::load(&files).unwrap_err().to_string().contains("runbooks/x.md: 1048577 bytes"));
}

#[test]
fn hostile_files_are_refused_in_bounded_time() {
    let laughs = {
        let mut text = "version: 1\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..12 {
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "));
        }
        text
    };
    let deep = "[".repeat(100_000);
    for path in [
        "cairn.yaml",
        "detections/x.yaml",
        "detections/tests/x.yaml",
        "responses/x.yaml",
        "owners.yaml",
        "controls/x.yaml",
    ] {
        for text in [&laughs, &deep] {
            assert!(!problems(&[(path, text)]).is_empty(), "{path}");
        }
    }
    assert!(
        problem("guardrails/x.rego", &format!("package a\nx := {deep}")).contains("guardrails/x.rego:2: a line longer")
    );
    let endless = "package a\ndeny contains \"x\" if {\n  some a in numbers.range(1, 99999)\n  some b in numbers.range(1, 99999)\n  a * b == 0\n}\n";
    assert!(problem("guardrails/x.rego", endless).contains("longer than 1s"));
}

#[test]
fn a_failing_test_is_reported_with_file_and_line() {
    let mut files = template::tree();
    files.insert(
        "guardrails/x_test.rego".into(),
        b"package x_test\n\nimport data.kubernetes.latest\n\ntest_wrong if count(latest.deny_latest) == 7 with input as {}\n".to_vec(),
    );
    files.insert(
        "detections/tests/x.yaml".into(),
        b"\n- name: wrong\n  events:\n    - exec: /bin/ls\n  expect: [Shell in container]\n".to_vec(),
    );
    let report = Policy::load(&files).unwrap().test();
    assert!(!report.accepted());
    assert_eq!(report.failed, 2);
    let problems = report.check().unwrap_err().to_string();
    assert_eq!(
        problems,
        "detections/tests/x.yaml:2: test `wrong` failed: `Shell in container` did not alert\n\
         guardrails/x_test.rego:5: test `x_test.test_wrong` failed: it has no value: some statement in it is false or undefined"
    );
    assert!(report.to_string().contains("FAIL guardrails/x_test.rego:5: x_test.test_wrong\n"));
}

#[test]
fn coverage_is_off_warned_of_or_required() {
    let guardrail = "package a\n\ndeny_x contains \"x\" if input.x\n";
    let test = |mode: &str| {
        let config = format!("{CONFIG}tests: {{coverage: {mode}}}\n");
        Policy::load(&tree(&[("cairn.yaml", &config), ("guardrails/a.rego", guardrail)])).unwrap().test()
    };
    for (mode, accepted) in [("\"off\"", true), ("warn", true), ("require", false)] {
        let report = test(mode);
        assert_eq!(report.accepted(), accepted, "{mode}");
        assert_eq!(report.check().is_ok(), accepted, "{mode}");
        assert_eq!((report.coverage.total, report.coverage.uncovered.len(), report.coverage_percent()), (2, 2, 0));
    }
    assert!(
        test("warn")
            .to_string()
            .contains("WARN guardrails/a.rego:3: `a.deny_x` is not covered: no test makes it speak")
    );
    assert!(
        test("require").check().unwrap_err().to_string().contains("guardrails/a.rego:3: `a.deny_x` is not covered")
    );
    assert!(!test("\"off\"").to_string().contains("covered"));
    // YAML reads a bare `off` as a boolean in places; as a word here.
    assert!(test("off").accepted());
}
