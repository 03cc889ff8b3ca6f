//! What happens at night to a running `cairn up`: signals, a full disk, a policy repo that goes away or is rewritten, a terminal
//! that is closed. It says what is wrong once, goes on with what it can, and recovers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cairn_schemas::ids::RecordIndex;
use cairn_schemas::record::Record;
use cairn_schemas::types::RecordType;
use cairn_tests::ledger::Reader;
use cairn_tests::shell::{commit, git, text};
use cairn_tests::up::{PATIENCE, Up, binary, cairn};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const START: RecordIndex = RecordIndex(0);

fn promoted(record: &Record, serial: u64) -> bool {
    record.kind == RecordType::RolloutPromoted
        && record.data["release"].as_str().is_some_and(|release| release.starts_with(&format!("{serial}@")))
}

fn verify_ok(dir: &Path) {
    let output = cairn(&["verify", dir.join("ledger").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// Asks for a decision: the status, and what was said.
fn admit(url: &str, uid: &str) -> (u16, String) {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": uid, "operation": "CREATE", "namespace": "shop", "name": "web",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "alice"},
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": []}}
        }
    });
    let request = ureq::post(&format!("{url}/v1/admission/validate")).config().http_status_as_error(false).build();
    let mut answer = request.send_json(&review).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

fn get(url: &str, path: &str) -> u16 {
    let request = ureq::get(&format!("{url}{path}")).config().http_status_as_error(false).build();
    request.call().unwrap().status().as_u16()
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait("its end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

fn count(up: &Up, needle: &str) -> usize {
    up.printed().lines().filter(|line| line.contains(needle)).count()
}

#[test]
fn a_policy_repo_that_goes_away_is_rewritten_or_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(&folder.path().join("cairn-data"));
    let (policies, away) = (up.policies(), folder.path().join("away"));
    let ledger = up.ledger();

    // Deleted, and back.
    fs::rename(&policies, &away).unwrap();
    up.wait_line("trouble: looking at the policy repo: there is no policy repo at", PATIENCE);
    assert_eq!(admit(&up.url, "without-a-repo").0, 200);
    fs::rename(&away, &policies).unwrap();
    commit(&policies, "Back", &[("runbooks/back.md", "# Back\n")]);
    ledger.wait("release 2", START, PATIENCE, |record| promoted(record, 2));

    // Rewritten: recorded, not followed; and recovered by going on from what was accepted.
    let accepted = git(&policies, &["rev-parse", "HEAD"]);
    git(&policies, &["reset", "--quiet", "--hard", "HEAD~1"]);
    let rewritten = commit(&policies, "Another history", &[("runbooks/other.md", "# Other\n")]);
    // It may have been looked at between the two commands, and then what was gone back to is refused first.
    ledger.wait("the refusal", START, PATIENCE, |record| {
        record.kind == RecordType::GitRefused && record.data.to_string().contains(&rewritten)
    });
    assert_eq!(admit(&up.url, "with-a-rewritten-repo").0, 200);
    git(&policies, &["reset", "--quiet", "--hard", &accepted]);
    commit(&policies, "Go on", &[("runbooks/on.md", "# On\n")]);
    ledger.wait("release 3", START, PATIENCE, |record| promoted(record, 3));

    // Another repo in its place.
    fs::rename(&policies, &away).unwrap();
    fs::create_dir(&policies).unwrap();
    git(&policies, &["init", "--quiet", "--initial-branch=main"]);
    let foreign = commit(&policies, "Mine now", &[("cairn.yaml", "version: 1\nrings:\n  - name: all\n")]);
    ledger.wait("the refusal", START, PATIENCE, |record| {
        record.kind == RecordType::GitRefused && record.data.to_string().contains(&foreign)
    });
    fs::remove_dir_all(&policies).unwrap();
    fs::rename(&away, &policies).unwrap();

    // A branch that cannot be read.
    let branch = policies.join(".git/refs/heads/main");
    let good = fs::read(&branch).unwrap();
    fs::write(&branch, "garbage\n").unwrap();
    up.wait_line("is not a Git repo that can be read", PATIENCE);
    fs::write(&branch, good).unwrap();

    // Names that would move the cursor are shown, not sent.
    commit(&policies, "Hostile", &[("detections/a\u{1b}[2Jb.yaml", "x: 1\n")]);
    up.wait_line("rejected", PATIENCE);
    assert!(!up.printed().contains('\u{1b}'));
    git(&policies, &["revert", "--no-edit", "HEAD"]);
    ledger.wait("release 4", START, PATIENCE, |record| promoted(record, 4));
    for line in ["there is no policy repo at", "is not a Git repo that can be read"] {
        assert_eq!(count(&up, line), 1, "told once: {}", up.printed());
    }
    let dir = up.dir.clone();
    assert!(up.stop());
    verify_ok(&dir);
}

#[test]
fn tags_that_cannot_be_written_are_told_and_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(&folder.path().join("cairn-data"));
    let policies = up.policies();
    // Nobody can write there, root included: a file stands where the folder was.
    let (tags, away) = (policies.join(".git/refs/tags"), policies.join(".git/refs-tags"));
    fs::rename(&tags, &away).unwrap();
    fs::write(&tags, "").unwrap();
    commit(&policies, "Without tags", &[("runbooks/more.md", "# More\n")]);
    up.ledger().wait("release 2", START, PATIENCE, |record| promoted(record, 2));
    up.wait_line("trouble: writing tags and rings", PATIENCE);
    assert_eq!(admit(&up.url, "without-tags").0, 200);
    fs::remove_file(&tags).unwrap();
    fs::rename(&away, &tags).unwrap();
    wait("the tag", || git(&policies, &["tag", "--list"]).lines().any(|tag| tag == "v2"));
    assert_eq!(count(&up, "trouble:"), 1, "{}", up.printed());
    assert!(up.stop());
}

/// A file system of its own, small enough to fill. Unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(folder));
        }
        assert!(std::env::var_os("CAIRN_REQUIRE_KERNEL").is_none(), "a tmpfs must be mountable here");
        println!("skipped: a full disk: mounting a small one needs root");
        None
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        let mut block = vec![0u8; 1 << 20];
        while !block.is_empty() {
            match file.write(&block) {
                Ok(0) | Err(_) => block.truncate(block.len() / 2),
                Ok(_) => {}
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_clearly_reads_on_and_recovers() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path().join("cairn-data");
    let up = Up::start(&dir);
    disk.fill();
    let mut acknowledged = Vec::new();
    let refused = (0..5_000).find_map(|number| match admit(&up.url, &format!("full-{number}")) {
        (200, said) => {
            acknowledged.push(said);
            None
        }
        (status, said) => Some((status, said)),
    });
    let (status, said) = refused.expect("there is an end to what fits");
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("cannot be recorded") && said.contains("No space left"), "{said}");
    for path in ["/", "/healthz", "/readyz", "/ledger/checkpoint", "/ledger/releases/1/content.tar"] {
        assert_eq!(get(&up.url, path), 200, "{path}");
    }
    disk.free();
    wait("a decision after there is room", || admit(&up.url, "room").0 == 200);
    let ledger = up.ledger();
    ledger.wait("the decision in the ledger", START, PATIENCE, |record| record.data["uid"] == "room");
    ledger.wait("what was refused, as a loss", START, PATIENCE, |record| {
        record.kind == RecordType::SensorLoss && record.data["family"] == "admission.decided"
    });
    let leaves: std::collections::BTreeSet<String> =
        ledger.records().iter().map(|placed| cairn_schemas::digest::Digest::leaf(&placed.bytes).to_string()).collect();
    for said in &acknowledged {
        let answer: serde_json::Value = serde_json::from_str(said).unwrap();
        let leaf = answer["response"]["auditAnnotations"]["leaf"].as_str().unwrap();
        assert!(leaves.contains(leaf), "acknowledged and lost: {said}");
    }
    println!("a full disk                    {} answers until it refused", acknowledged.len());
    assert!(count(&up, "the disk is full") <= 2, "{}", up.printed());
    assert!(!up.printed().contains("panicked"), "{}", up.printed());
    assert!(up.stop());
    verify_ok(&dir);

    // A start without room says so or works, and the next one with room finds everything.
    disk.fill();
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut child = spawn(&dir, "127.0.0.1:0");
    let mut child = child.stdout(output.reopen().unwrap()).stderr(output.reopen().unwrap()).spawn().unwrap();
    let said = || fs::read_to_string(output.path()).unwrap();
    let mut end = None;
    wait("an end or work", || {
        end = child.try_wait().unwrap();
        end.is_some() || said().contains("page: http")
    });
    if end.is_some() {
        let errors: Vec<String> =
            said().lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
        assert!(errors.len() == 1 && errors[0].contains("No space left"), "{}", said());
    }
    println!("a start on a full disk         {end:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!said().contains("panicked"), "{}", said());
    disk.free();
    let up = Up::start(&dir);
    assert_eq!(admit(&up.url, "again").0, 200);
    assert!(up.stop());
    verify_ok(&dir);
}

fn spawn(dir: &Path, listen: &str) -> Command {
    let mut command = Command::new(binary());
    command.args(["up", "--listen", listen, "--dir"]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child, signal: Signal) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_child(child), signal);
}

#[test]
fn a_signal_at_any_moment_of_the_set_up() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    // Not SIGINT: a shell that put the tests into the background has had it ignored, and so would this.
    for delay_ms in [5, 30, 80, 200, 600] {
        let mut child = spawn(&dir, "127.0.0.1:0").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        signal(&child, Signal::TERM);
        let status = ended(&mut child);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert!(!said.contains("panicked"), "after {delay_ms} ms: {status}: {said}");
    }
    let up = Up::start(&dir);
    assert!(up.stop());
    verify_ok(&dir);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let mut up = Up::start(&dir);
    // A client that does not finish keeps a clean stop waiting for seconds.
    let address = up.url.trim_start_matches("http://").to_owned();
    let mut stuck = TcpStream::connect(address).unwrap();
    stuck.write_all(b"POST /v1/admission/validate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{").unwrap();
    up.signal(Signal::INT);
    up.wait_line("stopping", PATIENCE);
    up.signal(Signal::INT);
    let code = up.wait_end().code();
    // On a machine that was slow to bring the second one, the clean stop may have come first.
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
    drop(stuck);
    let up = Up::start(&dir);
    assert!(up.stop());
    verify_ok(&dir);
}

#[test]
fn a_terminal_that_goes_away_does_not_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let mut child = spawn(&dir, &listen).stdout(Stdio::piped()).spawn().unwrap();
    {
        // As `cairn up | head -1`.
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        drop(child.stderr.take());
    }
    let url = format!("http://{listen}");
    wait("readiness", || ureq::get(&format!("{url}/readyz")).call().is_ok());
    let ledger = Reader::new(&dir.join("ledger"));
    ledger.wait("release 1", START, PATIENCE, |record| promoted(record, 1));
    commit(&dir.join("policies"), "Nobody watches", &[("runbooks/more.md", "# More\n")]);
    ledger.wait("release 2", START, PATIENCE, |record| promoted(record, 2));
    assert_eq!(admit(&url, "nobody-watches").0, 200);
    assert_eq!(get(&url, "/healthz"), 200);
    signal(&child, Signal::TERM);
    assert!(ended(&mut child).success());
    verify_ok(&dir);
}

#[test]
fn a_node_that_cannot_start_ends_the_run_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    assert!(Up::start(&dir).stop());
    let identity = dir.join("nodes/sensor/identity.json");
    let good = fs::read(&identity).unwrap();
    fs::write(&identity, "{").unwrap();
    let output = cairn(&["up", "--listen", "127.0.0.1:0", "--dir", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("error: sensor cannot join") && lines[1].starts_with("hint: "),
        "{said}"
    );
    // The admission server, which had started, signed its last head.
    let output = cairn(&["verify", "--strict", dir.join("ledger").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    // As the hint says: it joins as a new node.
    fs::rename(dir.join("nodes/sensor"), folder.path().join("away")).unwrap();
    fs::rename(dir.join("keys/join-sensor.token"), folder.path().join("token")).unwrap();
    let mut up = Up::start(&dir);
    up.wait_line("joined as sensor", PATIENCE);
    assert!(up.stop());
    fs::write(folder.path().join("away/identity.json"), good).unwrap();
    verify_ok(&dir);
}
