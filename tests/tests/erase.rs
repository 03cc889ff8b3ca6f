//! Promise P6 for values that can be read later: with the real binary, from a line with a name in it to its erasure, and with the
//! erasing process killed wherever it touches the disk.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cairn_tests::up::{binary, cairn};
use serde_json::{Value, json};

/// A ledger of its own, with what lies beside it.
struct Place {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        Place { _folder: folder, root }
    }

    /// With two people's values and a report about one of them.
    fn filled() -> Place {
        let place = Place::new();
        std::fs::create_dir(place.root.join("files")).unwrap();
        std::fs::write(place.root.join("files/report"), "everything about alice").unwrap();
        good(&place.append(&lines()));
        std::fs::remove_dir_all(place.root.join("files")).unwrap();
        place
    }

    fn copy(&self) -> Place {
        let place = Place::new();
        let copied = Command::new("cp").arg("-a").arg(self.root.join(".")).arg(&place.root).status().unwrap();
        assert!(copied.success());
        place
    }

    fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    fn append(&self, lines: &[Value]) -> Output {
        let mut child = Command::new(binary())
            .args(["ledger", "append", &self.path("ledger"), "--stream", "hr", "--blobs", &self.path("files")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        for line in lines {
            writeln!(input, "{line}").unwrap();
        }
        drop(input);
        child.wait_with_output().unwrap()
    }

    fn erase(&self, subject: &str) -> Output {
        cairn(&["ledger", "erase", &self.path("ledger"), "--subject", subject, "--ticket", "DPO-17", "--json"])
    }

    fn disclose(&self, subject: &str) -> Output {
        cairn(&["ledger", "disclose", &self.path("ledger"), "--subject", subject, "--purpose", "a test"])
    }

    /// The report with the vault, which must find no fault.
    fn verified(&self) -> Value {
        let (ledger, vault) = (self.path("ledger"), self.path("ledger.vault"));
        let report: Value =
            serde_json::from_str(&good(&cairn(&["verify", &ledger, "--vault", &vault, "--json"]))).unwrap();
        assert_eq!(report["verdict"], "ok", "{report:#}");
        report
    }

    /// Every file that holds these bytes.
    fn holding(&self, bytes: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes.as_bytes()) {
                    found.push(path);
                }
            }
        }
        found
    }
}

fn lines() -> [Value; 2] {
    let line = |id: &str, email: &str, subject: &str, blobs: Value| {
        json!({
            "type": "cairn.evidence.received.v1", "id": id, "subject": "offboarding",
            "data": {"user": {"email": email}, "state": "left"},
            "personal": [{"path": "/user/email", "subject": subject}], "blobs": blobs,
        })
    };
    let report = json!([{"path": "/body", "file": "report", "subject": "user-17"}]);
    [line("a", "alice@example.com", "user-17", report), line("b", "bob@example.com", "user-18", json!([]))]
}

#[test]
fn a_value_is_committed_to_shown_and_erased() {
    let place = Place::filled();
    assert_eq!(place.holding("alice"), [] as [PathBuf; 0], "in the clear nowhere, from the first record on");
    let report = place.verified();
    assert_eq!((&report["privacy"]["commitments"], &report["privacy"]["vault"]["opened"]), (&json!(2), &json!(2)));
    assert_eq!(report["privacy"]["blobs"]["present"], 1);

    let shown: Value = serde_json::from_str(&good(&place.disclose("user-17"))).unwrap();
    assert_eq!((&shown["path"], &shown["value"]), (&json!("/user/email"), &json!("alice@example.com")));
    let before = place.verified();
    assert_eq!(before["counts"]["cairn.privacy.disclosed.v1"], 1);
    let since = place.path("since.json");
    std::fs::write(&since, before.to_string()).unwrap();

    let erased: Value = serde_json::from_str(&good(&place.erase("user-17"))).unwrap();
    assert_eq!((&erased["values"], &erased["blobs"]), (&json!(1), &json!(1)));
    let report = place.verified();
    let told = &report["privacy"]["erased"][0];
    assert_eq!((&told["index"], &told["reason"]), (&erased["erased"][0]["index"], &json!("request")));
    assert_eq!((&told["commitments"], &told["blobs"]), (&json!(1), &json!(1)));
    assert_eq!((&report["privacy"]["vault"]["opened"], &report["privacy"]["blobs"]["erased"]), (&json!(1), &json!(1)));
    let plain = good(&cairn(&["verify", &place.path("ledger"), "--since", &since]));
    assert!(plain.contains("on request: 1 value, 1 blob"), "{plain}");
    assert_eq!(place.holding("alice"), [] as [PathBuf; 0]);

    // What is gone is gone, and says so; somebody else's values are there.
    let again = place.erase("user-17");
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("the vault knows nothing of this subject"), "{}", text(&again.stderr));
    assert!(!place.disclose("user-17").status.success());
    assert!(good(&place.disclose("user-18")).contains("bob@example.com"));
    // A repeat of an erased line is still known, and brings nothing back.
    std::fs::create_dir(place.root.join("files")).unwrap();
    std::fs::write(place.root.join("files/report"), "x").unwrap();
    let repeated = good(&place.append(&lines()[..1]));
    assert!(repeated.contains("repeat"), "{repeated}");
    assert!(!place.disclose("user-17").status.success());
}

#[test]
fn what_is_wrong_with_a_line_is_said_without_the_value() {
    let place = Place::new();
    let mut line = lines()[1].clone();
    line["personal"][0]["path"] = json!("/user/mail");
    let output = place.append(&[line]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("there is nothing at \"/user/mail\"") && !said.contains("bob"), "{said}");
    let mut line = lines()[0].clone();
    line["blobs"][0]["file"] = json!("../keys");
    let output = place.append(&[line]);
    assert!(text(&output.stderr).contains("is not a path below the folder of --blobs"), "{}", text(&output.stderr));
}

/// Kills the erasing process at its n-th call of each kind, for every n that there is, and looks each time.
#[test]
fn an_erasure_that_is_killed_anywhere_never_claims_what_is_not_so() {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|out| out.status.success());
    if !works {
        assert!(std::env::var_os("CAIRN_REQUIRE_KERNEL").is_none(), "strace must work here");
        println!("skipped: killing an erasure at each system call: no strace, or it may not trace");
        return;
    }
    let template = Place::filled();
    let (mut killed, mut untouched, mut begun, mut recorded) = (0, 0, 0, 0);
    for calls in ["pwrite64", "fdatasync", "fsync", "rename,renameat,renameat2", "unlink,unlinkat,rmdir"] {
        for number in 1..200 {
            let place = template.copy();
            let mut command = Command::new("strace");
            command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
            command.args(["-e", &format!("inject={calls}:signal=SIGKILL:when={number}")]);
            command.arg(binary()).args(["ledger", "erase", &place.path("ledger"), "--subject", "user-17"]);
            if command.output().unwrap().status.success() {
                break;
            }
            killed += 1;
            let case = format!("killed at {calls} number {number}");

            // As the disk is now: what the ledger says is true.
            let report = place.verified();
            let told = report["privacy"]["erased"].as_array().unwrap().len();
            let opened = report["privacy"]["vault"]["opened"].as_u64().unwrap();
            let noted = report["findings"].as_array().unwrap().iter().any(|f| f["kind"] == "erasure_unrecorded");
            match (told, opened) {
                (0, 2) if noted => begun += 1,
                (0, 2) => untouched += 1,
                (0, 1) if noted => begun += 1,
                (1, 1) => recorded += 1,
                other => panic!("{case}: {other:?}, noted: {noted}"),
            }

            // The next run finishes what began, or does it all.
            let done = place.erase("user-17");
            let finished =
                done.status.success() || text(&done.stderr).contains("the vault knows nothing of this subject");
            assert!(finished, "{case}: {}", text(&done.stderr));
            let report = place.verified();
            assert_eq!(report["counts"]["cairn.privacy.erased.v1"], 1, "{case}");
            assert_eq!(report["privacy"]["erased"][0]["commitments"], 1, "{case}");
            assert_eq!(report["privacy"]["vault"]["opened"], 1, "{case}");
            assert!(!place.disclose("user-17").status.success(), "{case}");
            assert_eq!(place.holding("alice"), [] as [PathBuf; 0], "{case}");
            assert!(place.holding_under_keys().is_empty(), "{case}");
        }
    }
    println!("killed {killed} times: {untouched} before it began, {begun} on the way, {recorded} after its record");
    assert!(untouched > 0 && begun > 0, "{untouched}, {begun}, {recorded}");
}

/// Kills the appending process in the same way: a record that commits to a value is never there without it.
#[test]
fn a_value_is_kept_before_its_record_wherever_an_append_is_killed() {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|out| out.status.success());
    if !works {
        assert!(std::env::var_os("CAIRN_REQUIRE_KERNEL").is_none(), "strace must work here");
        println!("skipped: killing an append at each system call: no strace, or it may not trace");
        return;
    }
    let template = Place::new();
    good(&template.append(&[json!({"type": "cairn.evidence.received.v1", "data": {}})]));
    std::fs::create_dir(template.root.join("files")).unwrap();
    std::fs::write(template.root.join("files/report"), "everything about alice").unwrap();
    let input = template.root.join("lines");
    std::fs::write(&input, lines().map(|line| format!("{line}\n")).concat()).unwrap();
    let mut killed = 0;
    for calls in ["pwrite64", "fdatasync", "fsync", "rename,renameat,renameat2"] {
        for number in 1..200 {
            let place = template.copy();
            let mut command = Command::new("strace");
            command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
            command.args(["-e", &format!("inject={calls}:signal=SIGKILL:when={number}")]);
            command.arg(binary()).args(["ledger", "append", &place.path("ledger"), "--stream", "hr"]);
            command.args(["--blobs", &place.path("files")]).arg(&input);
            if command.output().unwrap().status.success() {
                break;
            }
            killed += 1;
            // The same lines again: whatever was taken is a repeat, and the rest is taken.
            good(&place.append(&lines()));
            let report = place.verified();
            assert_eq!(report["privacy"]["commitments"], 2, "killed at {calls} number {number}");
            assert_eq!(report["privacy"]["vault"]["opened"], 2, "killed at {calls} number {number}");
            assert_eq!(report["privacy"]["blobs"]["present"], 1, "killed at {calls} number {number}");
        }
    }
    println!("killed {killed} times");
    assert!(killed > 10, "{killed}");
}

impl Place {
    /// What is left in the vault of anybody but the one whose values stay.
    fn holding_under_keys(&self) -> Vec<PathBuf> {
        let list = |folder: &str| -> Vec<PathBuf> {
            let folder = Path::new(&self.root).join("ledger.vault").join(folder);
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let mut left: Vec<PathBuf> = ["erasing", "temporary"].iter().flat_map(|folder| list(folder)).collect();
        for folder in ["keys", "subjects", "disclosures"] {
            left.extend(list(folder).into_iter().skip(1));
        }
        left
    }
}
