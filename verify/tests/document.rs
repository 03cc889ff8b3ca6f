//! `REPORT.md` says what reports say.
#![allow(clippy::unwrap_used, reason = "what a test is built on must be there")]

mod kit;

use cairn_verify::{FaultKind, FindingKind, Report, Verdict};
use kit::*;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../REPORT.md");

fn example() -> Value {
    let (_, rest) = DOCUMENT.split_once("```json\n").unwrap();
    serde_json::from_str(rest.split_once("```").unwrap().0).unwrap()
}

/// The names of members, at every depth; what stands under free names is left out.
fn names(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(members) if path != "/counts" => members.iter().for_each(|(name, value)| {
            out.push(format!("{path}/{name}"));
            names(value, &format!("{path}/{name}"), out);
        }),
        Value::Array(items) => items.iter().for_each(|item| names(item, path, out)),
        _ => {}
    }
}

#[test]
fn the_example_is_a_report() {
    let report: Report = serde_json::from_value(example()).unwrap();
    assert_eq!(report.verdict, Verdict::Failed);
    assert_eq!(serde_json::to_value(&report).unwrap(), example());
}

#[test]
fn the_example_has_every_field_and_each_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    Book::small().write(folder.path());
    let report: Value = serde_json::from_str(&verify(folder.path()).to_json()).unwrap();
    let (mut written, mut documented) = (Vec::new(), Vec::new());
    names(&report, "", &mut written);
    names(&example(), "", &mut documented);
    for name in written {
        assert!(documented.contains(&name), "REPORT.md's example lacks {name}");
    }
    for name in report.as_object().unwrap().keys().filter(|name| *name != "format") {
        assert!(DOCUMENT.contains(&format!("`{name}`")), "REPORT.md does not explain {name}");
    }
}

#[test]
fn every_kind_is_listed_and_no_other() {
    let faults = FaultKind::ALL.iter().map(|kind| kind.as_str());
    let kinds: Vec<&str> = faults.chain(FindingKind::ALL.iter().map(|kind| kind.as_str())).collect();
    let (_, tables) = DOCUMENT.split_once("## Faults").unwrap();
    let listed: Vec<&str> = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(listed, kinds);
}
