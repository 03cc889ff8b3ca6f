//! `cairn up`, end to end, as a user would: Git, curl, programs started by hand, `cairn verify`.
//!
//! Times are printed, never asserted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::RecordIndex;
use cairn_schemas::record::Record;
use cairn_schemas::types::RecordType;
use cairn_tests::shell::{commit, git, text};
use cairn_tests::up::{PATIENCE, Up, cairn};
use cairn_tests::{kernel, ledger::Placed};
use serde_json::{Value, json};

/// A pod as the API server sends it for review.
fn review(uid: &str, privileged: bool) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "name": "web",
            "operation": "CREATE",
            "userInfo": {"username": "alice@example.com", "groups": ["system:authenticated"]},
            "dryRun": false,
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {
                    "securityContext": {"runAsNonRoot": true},
                    "containers": [{
                        "name": "web",
                        "image": "registry.example.com/web:1.4.2",
                        "securityContext": {"privileged": privileged}
                    }]
                }
            }
        }
    })
}

/// Posts a review; the answer's `response`.
fn admit(up: &Up, body: &Value) -> Result<Value, String> {
    let mut answer =
        ureq::post(&format!("{}/v1/admission/validate", up.url)).send_json(body).map_err(|e| e.to_string())?;
    let answer: Value = answer.body_mut().read_json().map_err(|error| error.to_string())?;
    Ok(answer["response"].clone())
}

fn active_on(record: &Record, node: &str, serial: u64) -> bool {
    record.kind == RecordType::NodeLoaded
        && record.stream.as_str().starts_with(node)
        && record.data["release"].as_str().is_some_and(|release| release.starts_with(&format!("{serial}@")))
}

fn promoted(record: &Record, serial: u64) -> bool {
    record.kind == RecordType::RolloutPromoted
        && record.data["release"].as_str().is_some_and(|release| release.starts_with(&format!("{serial}@")))
}

const START: RecordIndex = RecordIndex(0);

/// A program of our own at `path`, so that a rule on that path concerns nobody else. It sleeps as long as its argument says.
fn program(path: &Path) {
    std::fs::copy("/bin/sleep", path).unwrap();
}

fn forbidding(path: &Path) -> String {
    format!(
        "- rule: Forbidden program\n  desc: A program nobody may start.\n  condition: evt.type in (execve, execveat) and \
         proc.exepath = {}\n  output: forbidden program started (command=%proc.cmdline user=%user.name parent=%proc.pname)\n  \
         priority: Warning\n  tags: [e2e]\n",
        path.display()
    )
}

const KILL: &str = "name: kill-forbidden\non:\n  rules: [Forbidden program]\naction: kill\nmode: enforce\n";

#[test]
fn from_a_commit_to_a_verified_record() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let mut up = Up::start(&dir);
    println!("ready after                    {:?}", up.ready_after);
    let ledger = up.ledger();
    let records = ledger.records();
    assert_eq!(records[0].record.kind, RecordType::LedgerOpened);
    // Ready means that it is durable; a checkpoint covers it within a moment.
    ledger.wait("release 1 promoted", START, PATIENCE, |record| promoted(record, 1));
    assert_eq!(git(&up.policies(), &["tag", "--list"]), "v1");

    let page = ureq::get(&format!("{}/", up.url)).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(page.contains("canary") && page.contains("rollout.promoted"), "{page}");

    // Admission: denied with the guardrail's message, and the record was there before the answer.
    let response = admit(&up, &review("e2e-denied", true)).unwrap();
    assert_eq!(response["uid"], "e2e-denied");
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("privileged") && message.contains("web"), "{message}");
    let notes = &response["auditAnnotations"];
    let decided = ledger.wait("the decision", START, PATIENCE, |record| {
        record.kind == RecordType::AdmissionDecided && record.data["uid"] == "e2e-denied"
    });
    assert_eq!(Digest::leaf(&decided.bytes).to_string(), annotation(notes, "leaf"));
    assert_eq!(decided.record.stream.to_string(), annotation(notes, "stream"));
    assert_eq!(decided.record.release.unwrap().to_string(), annotation(notes, "release"));
    assert!(!String::from_utf8_lossy(&decided.bytes).contains("alice"), "the user's name is not in the clear");
    assert_eq!(admit(&up, &review("e2e-allowed", false)).unwrap()["allowed"], true);

    // A new rule by `git commit`.
    let forbidden = folder.path().join("forbidden-program");
    program(&forbidden);
    let began = Instant::now();
    commit(&up.policies(), "Forbid a program", &[("detections/forbidden.yaml", &forbidding(&forbidden))]);
    ledger.wait("release 2 on the sensor", START, PATIENCE, |record| active_on(record, "sensor", 2));
    println!("commit to active on the sensor {:?}", began.elapsed());
    ledger.wait("release 2 promoted", START, PATIENCE, |record| promoted(record, 2));

    // Detection, then containment, on the live kernel.
    if kernel::missing().is_none() {
        detect_then_contain(&mut up, &forbidden);
    } else {
        commit(&up.policies(), "Kill it", &[("responses/forbidden.yaml", KILL)]);
        ledger.wait("release 3 promoted", START, PATIENCE, |record| promoted(record, 3));
    }

    // Bad commits are rejected with file and line; nodes keep what they have.
    let from = ledger.end();
    let broken =
        "- rule: Broken\n  desc: Does not compile.\n  condition: proc.nmae = bash\n  output: x\n  priority: Warning\n";
    commit(&up.policies(), "A rule that does not compile", &[("detections/broken.yaml", broken)]);
    let rejected = ledger.wait("the rejection", from, PATIENCE, |record| record.kind == RecordType::ReleaseRejected);
    assert_eq!(rejected.record.data["stage"], "load");
    let problem = &rejected.record.data["problems"][0];
    assert_eq!(problem["file"], "detections/broken.yaml");
    assert_eq!(problem["line"], 3);
    assert!(problem["reason"].as_str().unwrap().contains("proc.nmae"), "{problem}");
    git(&up.policies(), &["revert", "--no-edit", "HEAD"]);

    let from = ledger.end();
    let test = "package e2e_test\n\nimport rego.v1\n\ntest_that_fails if {\n\t1 == 2\n}\n";
    commit(&up.policies(), "A test that fails", &[("guardrails/e2e_test.rego", test)]);
    let rejected = ledger.wait("the rejection", from, PATIENCE, |record| {
        record.kind == RecordType::ReleaseRejected && record.data["stage"] == "test"
    });
    assert_eq!(rejected.record.data["problems"][0]["file"], "guardrails/e2e_test.rego");
    git(&up.policies(), &["revert", "--no-edit", "HEAD"]);

    // `git revert` of a promoted change: known good, a new serial, no soak.
    let before = ledger.records();
    let newest = newest_promoted(&before);
    let to_revert = git(&up.policies(), &["log", "--format=%H", "--grep=Kill it", "--fixed-strings", "-1"]);
    git(&up.policies(), &["revert", "--no-edit", &to_revert]);
    let reverted = ledger.wait("the revert's promotion", RecordIndex(before.len() as u64), PATIENCE, |record| {
        record.kind == RecordType::RolloutPromoted && serial(record) > newest
    });
    let built = ledger.wait("the revert's build", START, PATIENCE, |record| {
        record.kind == RecordType::ReleaseBuilt && record.data["serial"] == serial(&reverted.record)
    });
    assert_eq!(built.record.data["known_good"], true, "{}", built.record.data);

    assert!(up.stop(), "a stop that was asked for is a success");
    verify_ok(&dir);
}

fn annotation(notes: &Value, ending: &str) -> String {
    let notes = notes.as_object().unwrap();
    let (_, value) =
        notes.iter().find(|(key, _)| key.ends_with(ending)).unwrap_or_else(|| panic!("{ending}: {notes:?}"));
    value.as_str().unwrap().to_owned()
}

fn serial(record: &Record) -> u64 {
    record.data["release"].as_str().and_then(|release| release.split_once('@')).unwrap().0.parse().unwrap()
}

fn newest_promoted(records: &[Placed]) -> u64 {
    records
        .iter()
        .filter(|placed| placed.record.kind == RecordType::RolloutPromoted)
        .map(|placed| serial(&placed.record))
        .max()
        .unwrap()
}

fn detect_then_contain(up: &mut Up, forbidden: &Path) {
    let ledger = up.ledger();
    let from = ledger.end();
    let began = Instant::now();
    let mut child = Command::new(forbidden).arg("30").spawn().unwrap();
    let pid = child.id();
    let found =
        ledger.wait("the detection", from, PATIENCE, |record| is_detection_of(record, "Forbidden program", pid));
    println!("exec to record in the ledger   {:?}", began.elapsed());
    let data = &found.record.data;
    assert!(data["process"]["arguments"].as_array().unwrap().contains(&json!("30")), "{data}");
    assert!(data["process"]["user"]["uid"].as_str().unwrap().starts_with("tok:"), "{data}");
    assert!(data["fields"]["user.name"].as_str().unwrap().starts_with("tok:"), "{data}");
    assert_eq!(data["ancestors"][0]["pid"], std::process::id(), "{data}");
    assert!(found.record.release.is_some());
    assert!(child.try_wait().unwrap().is_none(), "observed, not killed");
    child.kill().unwrap();
    child.wait().unwrap();

    commit(&up.policies(), "Kill it", &[("responses/forbidden.yaml", KILL)]);
    ledger.wait("release 3 on the sensor", START, PATIENCE, |record| active_on(record, "sensor", 3));
    let from = ledger.end();
    let mut child = Command::new(forbidden).arg("30").spawn().unwrap();
    let pid = child.id();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    let requested = ledger.wait("the request", from, PATIENCE, |record| {
        record.kind == RecordType::ContainmentRequested && record.data["target"]["pid"] == pid
    });
    let finished = ledger.wait("the outcome", from, PATIENCE, |record| {
        record.kind == RecordType::ContainmentFinished && record.data["request"] == requested.record.sequence.padded()
    });
    assert_eq!(finished.record.data["outcome"], "killed", "{}", finished.record.data);
    assert!(requested.index < finished.index);
    println!("event to kill                  {} µs", finished.record.data["acted_us"]);
    ledger.wait("release 3 promoted", START, PATIENCE, |record| promoted(record, 3));
}

fn is_detection_of(record: &Record, rule: &str, pid: u32) -> bool {
    record.kind == RecordType::DetectionRaised && record.data["rule"] == rule && record.data["process"]["pid"] == pid
}

fn verify_ok(dir: &Path) -> String {
    let output = cairn(&["verify", dir.join("ledger").to_str().unwrap()]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains("origin not proven"), "{printed}");
    printed
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let up = Up::start(&dir);
    for number in 0..40 {
        admit(&up, &review(&format!("tamper-{number}"), number % 2 == 0)).unwrap();
    }
    assert!(up.stop());
    let printed = verify_ok(&dir);
    assert!(printed.contains("cairn.admission.decided.v1"), "{printed}");
    let json: Value =
        serde_json::from_slice(&cairn(&["verify", "--json", dir.join("ledger").to_str().unwrap()]).stdout).unwrap();
    assert!(json["faults"].as_array().unwrap().is_empty(), "{json}");

    let ledger = dir.join("ledger");
    let files = files_under(&ledger);
    let covered: Vec<&String> = files
        .iter()
        .filter(|name| name.starts_with("tile/") || name.starts_with("releases/") || *name == "checkpoint")
        .collect();
    assert!(covered.len() > 6, "{files:?}");
    for name in covered {
        let path = ledger.join(name);
        let good = std::fs::read(&path).unwrap();
        for at in [0, good.len() / 3, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            refused(&ledger, name, &format!("byte {at} of {name} flipped"));
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        refused(&ledger, name, &format!("{name} truncated"));
        // A partial tile of an earlier size may go once a wider one is there.
        if !files.iter().any(|other| is_wider(other, name)) {
            std::fs::remove_file(&path).unwrap();
            refused(&ledger, name, &format!("{name} deleted"));
        }
        std::fs::write(&path, &good).unwrap();
    }
    verify_ok(&dir);

    // A record cut out of its bundle, lengths and all.
    let bundles = files.iter().filter(|name| name.starts_with("tile/entries/"));
    let name = bundles.max_by_key(|name| std::fs::metadata(ledger.join(name)).unwrap().len()).unwrap();
    let path = ledger.join(name);
    let good = std::fs::read(&path).unwrap();
    let first = 2 + usize::from(u16::from_be_bytes([good[0], good[1]]));
    let second = 2 + usize::from(u16::from_be_bytes([good[first], good[first + 1]]));
    std::fs::write(&path, [&good[..first], &good[first + second..]].concat()).unwrap();
    refused(&ledger, name, "record 1 deleted");
    std::fs::write(&path, &good).unwrap();

    assert_eq!(cairn(&["verify", folder.path().join("nothing").to_str().unwrap()]).status.code(), Some(2));
    assert_eq!(cairn(&["verify", folder.path().to_str().unwrap()]).status.code(), Some(2));
}

/// Whether `other` is the same tile as the partial tile `name`, with more in it.
fn is_wider(other: &str, name: &str) -> bool {
    let (Some((tile, width)), other_tile) = (name.rsplit_once(".p/"), other.rsplit_once(".p/")) else { return false };
    match other_tile {
        Some((other_tile, other_width)) => {
            other_tile == tile && other_width.parse::<u16>().unwrap() > width.parse::<u16>().unwrap()
        }
        None => other == tile,
    }
}

fn refused(ledger: &Path, name: &str, what: &str) {
    let output = cairn(&["verify", ledger.to_str().unwrap()]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{what}:\n{printed}");
    let place = name.rsplit_once(".p/").map_or(name, |(tile, _)| tile);
    assert!(printed.contains(place) || printed.contains("record "), "{what} is not named:\n{printed}");
}

fn files_under(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, files);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut files = Vec::new();
    walk(folder, folder, &mut files);
    files.sort();
    files
}

#[test]
fn killed_at_any_moment_it_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let mut acknowledged: Vec<String> = Vec::new();
    let seed = 0x5eed_u64;
    println!("seed {seed:#x}");
    let mut random = seed;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    // The first kills fall into the first run's set-up, the later ones into work.
    for delay_ms in [20, 60, 120, 250, 500, 900] {
        let up = Up::spawn(&dir);
        std::thread::sleep(Duration::from_millis(delay_ms));
        up.kill();
    }
    for round in 0..5 {
        let up = Up::start(&dir);
        let stop_after = Duration::from_millis(50 + next() % 1_500);
        let began = Instant::now();
        let mut number = 0;
        while began.elapsed() < stop_after {
            let response = admit(&up, &review(&format!("kill-{round}-{number}"), number % 2 == 0)).unwrap();
            acknowledged.push(annotation(&response["auditAnnotations"], "leaf"));
            number += 1;
        }
        if round == 2 {
            commit(&up.policies(), "Work while it dies", &[("runbooks/extra.md", "# Extra\n")]);
        }
        up.kill();
    }
    let up = Up::start(&dir);
    let ledger = up.ledger();
    let began = Instant::now();
    loop {
        let leaves: std::collections::BTreeSet<String> =
            ledger.records().iter().map(|placed| Digest::leaf(&placed.bytes).to_string()).collect();
        let lost = acknowledged.iter().filter(|leaf| !leaves.contains(*leaf)).count();
        if lost == 0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{lost} of {} acknowledged records are lost", acknowledged.len());
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("acknowledged and found         {} records over 11 kills", acknowledged.len());
    assert!(up.stop());
    verify_ok(&dir);
}

#[test]
fn admission_answers_with_a_durable_record() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("cairn-data"));
    let mut times: Vec<Duration> = (0..500)
        .map(|number| {
            let body = review(&format!("time-{number}"), number % 2 == 0);
            let began = Instant::now();
            admit(&up, &body).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("admission answer               p50 {:?}, p99 {:?}, max {:?}", times[250], times[495], times[499]);
}

#[test]
fn bad_input_gets_one_line_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let up = Up::start(&dir);
    let address = up.url.trim_start_matches("http://").to_owned();

    // A port that is taken.
    let other = folder.path().join("other");
    let output = cairn(&["up", "--dir", other.to_str().unwrap(), "--listen", &address]);
    one_line(&output, 1, &[&address, "--listen"]);

    // A folder another process uses.
    let output = cairn(&["up", "--dir", dir.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    one_line(&output, 1, &["another"]);

    // An AdmissionReview that is not one.
    for body in ["", "{}", "[]", "{\"kind\":\"Pod\"}", "not json"] {
        let answer = ureq::post(&format!("{}/v1/admission/validate", up.url))
            .config()
            .http_status_as_error(false)
            .build()
            .header("content-type", "application/json")
            .send(body);
        let mut answer = answer.unwrap();
        assert_eq!(answer.status(), 400, "{body}");
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(text.contains("AdmissionReview") || text.contains("JSON"), "{body}: {text}");
    }
    assert!(up.stop());

    // A folder made by a newer version.
    let fleet = dir.join("fleet.yaml");
    let good = std::fs::read_to_string(&fleet).unwrap();
    std::fs::write(&fleet, good.replace("version: 1", "version: 2")).unwrap();
    let output = cairn(&["up", "--dir", dir.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    one_line(&output, 1, &["fleet.yaml", "version"]);
    std::fs::write(&fleet, "version: [\n").unwrap();
    let output = cairn(&["up", "--dir", dir.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    one_line(&output, 1, &["fleet.yaml"]);
    std::fs::write(&fleet, &good).unwrap();

    // A folder that cannot be made: its parent is a file.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = cairn(&["up", "--dir", file.join("data").to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    one_line(&output, 1, &[file.to_str().unwrap()]);

    // A policy repo with no commit.
    let empty = folder.path().join("empty");
    std::fs::create_dir_all(empty.join("policies")).unwrap();
    git(&empty.join("policies"), &["init", "--quiet", "--initial-branch=main"]);
    let output = cairn(&["up", "--dir", empty.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    one_line(&output, 1, &["policies", "commit"]);

    // No git.
    let output = Command::new(cairn_tests::up::binary())
        .args(["up", "--listen", "127.0.0.1:0", "--dir", folder.path().join("nogit").to_str().unwrap()])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    one_line(&output, 1, &["git"]);

    // What was there is untouched: it starts, and its first commit can be broken without harm.
    let up = Up::start(&dir);
    let from = up.ledger().end();
    commit(&up.policies(), "Break cairn.yaml", &[("cairn.yaml", "version: 1\nringz: []\n")]);
    let rejected =
        up.ledger().wait("the rejection", from, PATIENCE, |record| record.kind == RecordType::ReleaseRejected);
    assert_eq!(rejected.record.data["problems"][0]["file"], "cairn.yaml", "{}", rejected.record.data);
    assert!(up.stop());
    verify_ok(&dir);
}

/// The error is one line that holds every word of `words`; a hint line may follow.
fn one_line(output: &std::process::Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in: {stderr}");
    }
    for line in stderr.lines() {
        assert!(line.starts_with("error: ") || line.starts_with("hint: "), "{stderr}");
    }
}
