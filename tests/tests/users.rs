//! `cairn up` under `sudo`, and as a user who is not root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use cairn_schemas::ids::RecordIndex;
use cairn_schemas::types::RecordType;
use cairn_tests::shell::text;
use cairn_tests::up::{PATIENCE, Up, binary};

/// `nobody`, on every Linux.
const USER: u32 = 65_534;

/// Why these tests cannot run here; they need to become another user.
fn not_root() -> bool {
    let not_root = !rustix::process::geteuid().is_root();
    if not_root {
        assert!(std::env::var_os("CAIRN_REQUIRE_KERNEL").is_none(), "these tests must run as root here");
        println!("skipped: becoming another user needs root");
    }
    not_root
}

/// A folder that everybody can reach.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A command run as the user, with a home of its own.
fn as_user(home: &Path, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    let id = USER.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
    command.current_dir(home).env("HOME", home).env_remove("SUDO_UID").env_remove("SUDO_GID");
    command
}

fn home(folder: &Path) -> std::path::PathBuf {
    let home = folder.join("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(USER), Some(USER)).unwrap();
    home
}

fn git_as_user(home: &Path, repo: &Path, arguments: &[&str]) -> String {
    let mut command = as_user(home, Path::new("git"));
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]).args(arguments).current_dir(repo);
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn owners(path: &Path) -> Vec<(String, u32)> {
    let mut found = vec![(path.display().to_string(), fs::symlink_metadata(path).unwrap().uid())];
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(owners(&entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn under_sudo_the_policy_repo_belongs_to_the_user() {
    if not_root() {
        return;
    }
    let folder = folder();
    let home = home(folder.path());
    let dir = home.join("cairn-data");
    let mut command = Command::new(binary());
    command.args(["up", "--listen", "127.0.0.1:0", "--dir"]).arg(&dir);
    command.env("SUDO_UID", USER.to_string()).env("SUDO_GID", USER.to_string());
    let up = Up::start_command(command, &dir);
    let policies = up.policies();

    for round in 2..4 {
        let name = format!("runbooks/round-{round}.md");
        let path = policies.join(&name);
        // As the user would: the folder is theirs to write in.
        let mut write = as_user(&home, Path::new("sh"));
        let output = write.arg("-c").arg(format!("echo '# Round' > '{}'", path.display())).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        git_as_user(&home, &policies, &["add", "--all"]);
        git_as_user(&home, &policies, &["commit", "--quiet", "--message", "As the user"]);
        up.ledger().wait("the promotion", RecordIndex(0), PATIENCE, |record| {
            record.kind == RecordType::RolloutPromoted
                && record.data["release"].as_str().unwrap().starts_with(&format!("{round}@"))
        });
    }
    // Tags and ring refs were written by root, and the user can go on.
    let tags = git_as_user(&home, &policies, &["tag", "--list"]);
    assert!(tags.contains("v1") && tags.contains("v2"), "{tags}");
    git_as_user(&home, &policies, &["log", "--oneline", "refs/cairn/rings/broad"]);
    git_as_user(&home, &policies, &["tag", "mine"]);
    git_as_user(&home, &policies, &["gc", "--quiet"]);
    git_as_user(&home, &policies, &["fsck"]);
    let foreign: Vec<_> = owners(&policies).into_iter().filter(|(_, uid)| *uid != USER).collect();
    assert!(foreign.is_empty(), "not the user's: {foreign:?}");
    // What is not the user's business is not readable for them.
    let mut read = as_user(&home, Path::new("cat"));
    assert!(!read.arg(dir.join("keys/ledger.key")).output().unwrap().status.success());
    assert!(up.stop());
}

#[test]
fn without_root_it_says_what_is_missing_and_the_rest_works() {
    if not_root() {
        return;
    }
    let folder = folder();
    let home = home(folder.path());
    let program = folder.path().join("cairn");
    fs::copy(binary(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let dir = home.join("cairn-data");
    let mut command = as_user(&home, &program);
    command.args(["up", "--listen", "127.0.0.1:0", "--dir"]).arg(&dir);
    let mut up = Up::start_command(command, &dir);
    let line = up.wait_line("sensor: node", PATIENCE);
    assert!(line.contains("not live") && line.contains("root") && line.contains("sudo"), "{line}");
    let capabilities = up.ledger().wait("what the sensor can do", RecordIndex(0), PATIENCE, |record| {
        record.kind == RecordType::NodeCapabilities && record.stream.as_str().starts_with("sensor")
    });
    assert_eq!(capabilities.record.data["live"], false);
    assert!(up.stop());
}
