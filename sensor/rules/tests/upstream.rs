//! The rules the Falco project publishes load unmodified, and agree with what was derived from them independently.

use cairn_rules::{Code, RulesFile, load};

const STABLE: &str = include_str!("falco-rules/falco_rules.yaml");
const INCUBATING: &str = include_str!("falco-rules/falco-incubating_rules.yaml");
const SANDBOX: &str = include_str!("falco-rules/falco-sandbox_rules.yaml");

fn files() -> [RulesFile<'static>; 3] {
    [
        RulesFile { path: "falco_rules.yaml", text: STABLE },
        RulesFile { path: "falco-incubating_rules.yaml", text: INCUBATING },
        RulesFile { path: "falco-sandbox_rules.yaml", text: SANDBOX },
    ]
}

#[test]
fn all_three_files_load_together() {
    let loaded = load(&files());
    assert!(loaded.is_ok(), "{}", cairn_rules::problem::render(&loaded.problems));
    // 93 rules of which 81 are enabled; 315 macro and 118 list names.
    assert_eq!(loaded.counts.rules, 93);
    assert_eq!(loaded.counts.macros, 315);
    assert_eq!(loaded.counts.lists, 118);
    assert_eq!(loaded.rules.rules().len(), 81);
    for problem in loaded.warnings() {
        let expected = [Code::CairnBlindSpot, Code::LoadUnusedMacro, Code::LoadUnusedList];
        assert!(expected.contains(&problem.code), "{problem}");
    }
}

#[test]
fn each_file_loads_alone() {
    for file in files() {
        let loaded = load(&[file]);
        assert!(loaded.is_ok(), "{}", cairn_rules::problem::render(&loaded.problems));
    }
}

/// Rule, event types and condition fields as an implementation independent of this one derived them.
const CONTRACT: &str = include_str!("falco-rules/contract.tsv");

#[test]
fn event_types_and_fields_are_those_derived_elsewhere() {
    let loaded = load(&files());
    let mut compared = 0;
    for line in CONTRACT.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let Some(rule) = loaded.rules.rule(columns[0]) else {
            assert!(loaded.rules.disabled().iter().any(|name| name == columns[0]), "{line}");
            continue;
        };
        let mut types: Vec<&str> = columns[1].split(',').filter(|name| !name.is_empty()).collect();
        types.sort_unstable();
        assert_eq!(rule.event_types, types, "{}", rule.name);
        let mut fields: Vec<&str> = rule.fields.iter().map(|name| name.split('[').next().unwrap_or(name)).collect();
        fields.dedup();
        assert_eq!(fields, columns[2].split(',').collect::<Vec<_>>(), "{}", rule.name);
        compared += 1;
    }
    assert_eq!(compared, 81);
}
