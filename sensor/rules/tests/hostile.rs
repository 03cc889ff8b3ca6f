//! No text makes a load panic or run away.

use cairn_rules::limits::YAML_DEPTH_MAX;
use cairn_rules::{RulesFile, load, replay};
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
