//! No text makes a load panic or run away.

use cairn_rules::limits::{EXCEPTION_VALUES_MAX, YAML_DEPTH_MAX};
use cairn_rules::{Code, RulesFile, compiled_condition, falco_report, load, replay};
use proptest::prelude::*;

const STABLE: &str = include_str!("falco-rules/falco_rules.yaml");

/// Pieces of rules files, put together at random.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "- rule: R\n",
        "- macro: m\n",
        "- list: l\n",
        "- name: c\n",
        "  desc: d\n",
        "  condition: ",
        "evt.type = open",
        " and ",
        " or ",
        "not ",
        "m",
        "(",
        ")",
        "l",
        "proc.name in (l)",
        "proc.name",
        " = ",
        " regex ",
        "\"a(\"",
        "\n",
        "  output: %proc.name\n",
        "  priority: INFO\n",
        "  items: [a, 'b c', l]\n",
        "  append: true\n",
        "  override: {condition: append}\n",
        "  exceptions:\n",
        "    - {name: e, fields: [proc.name], values: [[a]]}\n",
        "  events:\n",
        "    - exec: /bin/sh\n",
        "    - open: {path: /x, process: {pid: 1}}\n",
        "  expect: []\n",
        "- cairn_source: s\n",
        "  fields:\n",
        "    - {name: a.b, path: /x/*}\n",
        "    - {name: a.c, text: '{a.b}{/y?}{'}\n",
        "    - {name: a.d, cases: [{when: {path: /x, in: [y]}, value: z}]}\n",
        "  source: s\n",
        "    - {source: k8s_audit, document: {a: [b]}}\n",
        "  exceptions: [{name: e, values: [[b]]}]\n",
        "  override: {exceptions: append, condition: replace}\n",
        "  cairn: {}\n",
        "- cairn_source: s\n",
        "  source: json\n",
        "getopt(proc.args, \"a:\")[a]",
        "join(\"-\", (proc.name))",
        " contains anyof (l)",
        "val(fd.name)",
        "? [a]\n: b\n",
        "<<: *a\n",
        "&a ",
        "*a ",
        "!!str ",
        "'",
        "\"",
        "[",
        "{",
        "|\n",
        ">\n",
        "\t",
        "é",
        "\u{0}",
        "---\n",
        "...\n",
        "- ",
        "  ",
        "%",
        "#",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_pieces(text in pieces()) {
        let files = [RulesFile { path: "a", text: &text }];
        let loaded = load(&files);
        for problem in &loaded.problems {
            prop_assert!(problem.line >= 1 && problem.column >= 1);
            problem.to_string();
        }
        let reports = falco_report(&files, &loaded);
        prop_assert_eq!(reports[0].successful, loaded.is_ok());
        // Whatever loads has a condition to be shown, and one that loads again.
        if let Some(rule) = loaded.rules.rule("R").filter(|_| loaded.is_ok()) {
            let condition = compiled_condition(&files, &rule.name).expect("a rule that loads has one");
            prop_assert!(cairn_rules::explain(&condition).is_ok(), "{}", condition);
        }
        replay::parse(&files);
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        let files = [RulesFile { path: "a", text: &text }];
        load(&files);
        replay::parse(&files);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A real file with a piece cut out or put in somewhere.
    #[test]
    fn damaged_files(at in 0..STABLE.len(), length in 0_usize..40, put in "[\\PC\n]{0,6}") {
        let boundary = |mut at: usize| {
            while !STABLE.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (from, to) = (boundary(at), boundary((at + length).min(STABLE.len())));
        let text = format!("{}{put}{}", &STABLE[..from], &STABLE[to..]);
        let loaded = load(&[RulesFile { path: "a", text: &text }]);
        cairn_rules::problem::render(&loaded.problems);
    }
}

#[test]
fn deep_and_wide() {
    let deep = "[".repeat(10_000);
    let nested = format!("- {}x{}", "[".repeat(YAML_DEPTH_MAX * 2), "]".repeat(YAML_DEPTH_MAX * 2));
    let wide =
        format!("- rule: R\n  desc: d\n  condition: {}a\n  output: o\n  priority: INFO\n", "a or ".repeat(10_000));
    let parentheses =
        format!("- rule: R\n  desc: d\n  condition: {}\n  output: o\n  priority: INFO\n", "(".repeat(50_000));
    for text in [deep, nested, wide, parentheses] {
        assert!(!load(&[RulesFile { path: "a", text: &text }]).is_ok());
    }
}

fn load_one(text: &str) -> cairn_rules::Loaded {
    load(&[RulesFile { path: "a", text }])
}

fn is_limited(loaded: &cairn_rules::Loaded) -> bool {
    loaded.errors().any(|problem| problem.code == Code::CairnLimit)
}

#[test]
fn aliases_cannot_multiply() {
    let mut text = String::from("- list: l0\n  items: &l0 [a, b, c, d, e, f, g, h]\n");
    for level in 1..=12 {
        let before = level - 1;
        text.push_str(&format!(
            "- list: l{level}\n  items: &l{level} [{}]\n",
            vec![format!("*l{before}"); 8].join(", ")
        ));
    }
    assert!(is_limited(&load_one(&text)));
}

#[test]
fn lists_cannot_multiply() {
    let mut text = String::from("- list: l0\n  items: [a, b]\n");
    for level in 1..=40 {
        let before = level - 1;
        text.push_str(&format!("- list: l{level}\n  items: [l{before}, l{before}]\n"));
    }
    text.push_str(
        "- rule: R\n  desc: d\n  condition: evt.type = open and proc.name in (l40)\n  output: o\n  priority: INFO\n",
    );
    let loaded = load_one(&text);
    assert!(is_limited(&loaded));
    assert!(loaded.problems.len() < 100);
    compiled_condition(&[RulesFile { path: "a", text: &text }], "R");
}

#[test]
fn macros_cannot_multiply_in_what_is_shown() {
    let mut text = format!("- macro: m0\n  condition: \"proc.name = a{}\"\n", " ".repeat(30_000));
    for level in 1..=30 {
        let before = level - 1;
        text.push_str(&format!("- macro: m{level}\n  condition: (m{before} or m{before})\n"));
    }
    text.push_str("- rule: R\n  desc: d\n  condition: m30\n  output: o\n  priority: INFO\n");
    assert_eq!(compiled_condition(&[RulesFile { path: "a", text: &text }], "R"), None);
    let looped =
        "- macro: a\n  condition: not a\n- rule: R\n  desc: d\n  condition: a\n  output: o\n  priority: INFO\n";
    assert_eq!(compiled_condition(&[RulesFile { path: "a", text: looped }], "R"), None);
}

#[test]
fn appending_has_an_end() {
    let mut text = String::from("- rule: R\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: INFO\n");
    for number in 0..5_000 {
        text.push_str(&format!(
            "- rule: R\n  condition: and proc.name != program{number}\n  override: {{condition: append}}\n"
        ));
    }
    assert!(is_limited(&load_one(&text)));
}

#[test]
fn exceptions_have_a_limit() {
    let of = |count: usize| {
        let values = vec!["x"; count].join(", ");
        format!(
            "- rule: R\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: INFO\n  exceptions:\n    - {{name: e, fields: proc.name, values: [{values}]}}\n"
        )
    };
    assert!(load_one(&of(EXCEPTION_VALUES_MAX)).is_ok());
    assert!(is_limited(&load_one(&of(EXCEPTION_VALUES_MAX + 1))));
}

#[test]
fn odd_keys_and_values_are_errors() {
    for text in [
        "- rule: R\n  ? {a: b}\n  : c\n",
        "- rule: [R]\n",
        "- rule: {R: S}\n",
        "- list: l\n  items: {a: b}\n",
        "- list: l\n  items: [[a]]\n",
        "- list: l\n  items: [~]\n",
        "- macro: m\n  condition: [a]\n",
        "- macro: m\n  condition: \"proc.name = a\\0b\"\n",
        "- rule: R\n  rule: S\n",
        "- rule: R\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: [INFO]\n",
        "- rule: R\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: INFO\n  enabled: perhaps\n",
        "- rule: R\n  desc: d\n  condition: evt.type = open\n  output: o\n  priority: INFO\n  tags: a\n",
        "- rule: R\n  override: [condition]\n",
        "- rule: R\n  exceptions: {a: b}\n  override: {exceptions: append}\n",
        "- required_plugin_versions: container\n",
        "- required_plugin_versions: [{name: container}]\n",
        "- required_engine_version: [1]\n",
        "just text\n",
        "{}\n",
    ] {
        let loaded = load_one(text);
        assert!(!loaded.is_ok(), "{text}");
        for problem in &loaded.problems {
            problem.to_string();
        }
    }
}
