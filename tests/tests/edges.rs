//! Which crate may use which (ARCHITECTURE.md, The map). An edge that is not in this table does not build confidence, it ends it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// crate → the crates of ours that it may name in `[dependencies]`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("cairn-schemas", &[]),
    ("cairn-sensor-abi", &[]),
    ("cairn-rules", &["cairn-schemas"]),
    ("cairn-guardrails", &["cairn-schemas"]),
    ("cairn-ledger", &["cairn-schemas"]),
    ("cairn-release", &["cairn-schemas", "cairn-ledger"]),
    ("cairn-verify", &["cairn-schemas", "cairn-ledger", "cairn-release"]),
    ("cairn-policy", &["cairn-schemas", "cairn-rules", "cairn-guardrails"]),
    ("cairn-node", &["cairn-schemas", "cairn-ledger", "cairn-release", "cairn-policy"]),
    (
        "cairn-sensor",
        &[
            "cairn-schemas",
            "cairn-ledger",
            "cairn-release",
            "cairn-policy",
            "cairn-node",
            "cairn-rules",
            "cairn-sensor-abi",
        ],
    ),
    (
        "cairn-admission",
        &["cairn-schemas", "cairn-ledger", "cairn-release", "cairn-policy", "cairn-node", "cairn-guardrails"],
    ),
    (
        "cairn-reconciler",
        &["cairn-schemas", "cairn-ledger", "cairn-release", "cairn-policy", "cairn-rules", "cairn-guardrails"],
    ),
];

/// These see all.
const SEE_ALL: &[&str] = &["cairn", "cairn-tests", "xtask"];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/..")
}

#[test]
fn no_crate_uses_one_it_must_not() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        if SEE_ALL.contains(&name) {
            continue;
        }
        let may =
            allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the table: add it, or remove the crate"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            if dependency["kind"].is_null() && ours.contains(used) {
                assert!(may.contains(&used), "{name} must not use {used}: see ARCHITECTURE.md, The map");
            }
        }
    }
}

#[test]
fn the_auditors_build_is_small_and_plain() {
    let arguments = ["-p", "cairn", "--no-default-features", "--features", "verify"];
    let tree = cargo(
        &[&["tree", "--offline", "-e", "normal,build", "--prefix", "none", "-f", "{p}"], &arguments[..]].concat(),
    );
    let crates: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split(' ').next()).filter(|c| !c.is_empty()).collect();
    assert!(crates.len() < 80, "the auditor's build has {} crates; the limit is 79: {crates:?}", crates.len());
    for banned in ["tokio", "hyper", "ureq", "rustls", "ring", "cc", "git2", "gix", "aya", "regorus", "async-trait"] {
        assert!(!crates.contains(banned), "the auditor's build must not hold {banned}");
    }
}
