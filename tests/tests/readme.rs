//! README's commands do what README says: each marked block is run as it stands, in one folder, with the built binary in the place
//! of `cargo run --release --`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::path::Path;
use std::process::{Command, Output};

use cairn_schemas::types::RecordType;
use cairn_tests::kernel;
use cairn_tests::ledger::Reader;
use cairn_tests::shell::text;
use cairn_tests::up::{PATIENCE, Up, binary};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The shell block that follows `<!-- <mark> -->`.
fn block(mark: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) =
        readme.split_once(&format!("<!-- {mark} -->\n```sh\n")).unwrap_or_else(|| panic!("no block {mark}"));
    rest.split_once("\n```").unwrap().0.to_owned()
}

/// Every mark of README, in its order.
fn marks() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    readme.lines().filter_map(|line| line.strip_prefix("<!-- ")?.strip_suffix(" -->").map(ToOwned::to_owned)).collect()
}

fn run(folder: &Path, mark: &str) -> Output {
    let script = block(mark).replace("cargo run --release --", binary().to_str().unwrap());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(folder)
        .env("GIT_AUTHOR_NAME", "Ada Example")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_COMMITTER_NAME", "Ada Example")
        .env("GIT_COMMITTER_EMAIL", "ada@example.com")
        .output()
        .unwrap();
    println!("--- {mark}\n{}", text(&output));
    output
}

fn good(folder: &Path, mark: &str) -> String {
    let output = run(folder, mark);
    assert!(output.status.success(), "{mark}: {}", text(&output));
    text(&output)
}

#[test]
fn every_command_of_the_readme_works() {
    let known = [
        "command: up",
        "command: test",
        "try: denied",
        "try: detected",
        "try: commit",
        "try: revert",
        "try: verify",
        "try: author",
        "try: alone",
    ];
    assert_eq!(marks(), known, "a block that is not run here");
    assert_eq!(block("command: up"), "cargo run --release -- up");
    assert_eq!(block("command: test"), "cargo test --workspace");

    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().canonicalize().unwrap().join("examples"), folder.path().join("examples"))
        .unwrap();
    let up = Up::start_in(folder.path());
    let ledger = Reader::new(&folder.path().join("cairn-data/ledger"));

    let answer = good(folder.path(), "try: denied");
    assert!(answer.contains("\"allowed\":false") && answer.contains("privileged"), "{answer}");

    good(folder.path(), "try: detected");
    if kernel::missing().is_none() {
        let found = ledger.wait("the detection", cairn_schemas::ids::RecordIndex(0), PATIENCE, |record| {
            record.kind == RecordType::DetectionRaised && record.data["process"]["executable"] == "/tmp/cairn-demo"
        });
        assert_eq!(found.record.data["responses"][0]["mode"], "observe", "{}", found.record.data);
    }

    for (mark, serial) in [("try: commit", 2), ("try: revert", 3)] {
        good(folder.path(), mark);
        ledger.wait(mark, cairn_schemas::ids::RecordIndex(0), PATIENCE, |record| {
            record.kind == RecordType::RolloutPromoted
                && record.data["release"].as_str().unwrap().starts_with(&format!("{serial}@"))
        });
    }

    let report = good(folder.path(), "try: verify");
    assert!(report.starts_with("OK"), "{report}");
    assert!(report.contains("origin not proven"), "{report}");

    let author = good(folder.path(), "try: author");
    assert!(author.contains("0 failures") && author.contains("OK: 4 rules"), "{author}");

    let alone = good(folder.path(), "try: alone");
    assert!(alone.contains("vouched for by checkpoint") && alone.contains("aics-tlog verify-inclusion"), "{alone}");
    assert!(alone.contains(r#"build-7  {"control":"CM-3""#) && alone.contains("OK: my-ledger"), "{alone}");
    assert!(up.stop());
}
