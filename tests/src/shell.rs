//! Programs a user runs by hand: git, and whatever a test wants started.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `git` in `repo` and returns what it printed.
///
/// # Panics
/// When git fails; the message is git's.
pub fn git(repo: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(repo)
        .args(["-c", "user.name=Ada Example", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git {arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Writes files and commits them; returns the commit id.
///
/// # Panics
/// When a file cannot be written or git fails.
pub fn commit(repo: &Path, message: &str, files: &[(&str, &str)]) -> String {
    for (name, contents) in files {
        let path = repo.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the policy repo is writable");
        std::fs::write(path, contents).expect("the policy repo is writable");
    }
    git(repo, &["add", "--all"]);
    git(repo, &["commit", "--quiet", "--message", message]);
    git(repo, &["rev-parse", "HEAD"])
}

/// Both outputs of a program, for messages.
#[must_use]
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
