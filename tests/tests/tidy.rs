//! Hygiene as a test, with the mend in the message.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file that Git tracks and that is text, with its contents.
fn texts() -> Vec<(String, String)> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names
        .split('\0')
        .filter(|name| !name.is_empty() && *name != "Cargo.lock")
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?)))
        .collect()
}

fn ours(name: &str) -> bool {
    !name.contains("/falco-rules/") && name != "tests/tests/tidy.rs"
}

#[test]
fn nothing_is_left_half_done() {
    let words = ["FIX\u{4d}E", "TO\u{44}O", "XX\u{58}", "todo\u{21}(", "unimplemented\u{21}("];
    for (name, text) in texts().iter().filter(|(name, _)| ours(name) && name.ends_with(".rs")) {
        for (number, line) in text.lines().enumerate() {
            for word in words {
                assert!(
                    !line.contains(word),
                    "{name}:{}: {word}: do it, or write it down as a known limit",
                    number + 1
                );
            }
        }
    }
}

#[test]
fn no_test_is_ignored() {
    for (name, text) in texts().iter().filter(|(name, _)| ours(name) && name.ends_with(".rs")) {
        assert!(
            !text.contains(concat!("#[ig", "nore")),
            "{name}: a test that does not run proves nothing: mend it or remove it"
        );
    }
}

#[test]
fn every_folder_of_the_map_is_there_and_no_other() {
    let readme = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut folders: Vec<String> = texts()
        .iter()
        .filter_map(|(name, _)| name.split_once('/').map(|(folder, _)| folder.to_owned()))
        .filter(|folder| !folder.starts_with('.'))
        .collect();
    folders.sort();
    folders.dedup();
    for folder in folders {
        assert!(readme.contains(&format!("`{folder}/`")), "{folder}/ is not in ARCHITECTURE.md's map: add a line");
    }
}

#[test]
fn no_module_name_says_nothing() {
    for (name, _) in texts() {
        let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        for empty in ["utils", "util", "common", "helpers", "helper", "misc", "manager"] {
            assert!(stem != empty || !name.ends_with(".rs"), "{name}: name it after what it is about");
        }
    }
}

#[test]
fn every_lint_exception_has_a_reason() {
    for (name, text) in texts().iter().filter(|(name, _)| ours(name) && name.ends_with(".rs")) {
        for (number, line) in text.lines().enumerate() {
            let bare = (line.trim_start().starts_with("#[allow(") || line.trim_start().starts_with("#![allow("))
                && line.trim_end().ends_with(")]")
                && !line.contains("reason");
            assert!(!bare, "{name}:{}: say why: #[allow(…, reason = \"…\")]", number + 1);
        }
    }
}
