//! Promise P1 by the system calls of the real binary: what is recorded is on the disk before it has an effect.
//!
//! `strace` writes down the calls of every thread in the order in which they were entered and returned.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cairn_schemas::ids::RecordIndex;
use cairn_schemas::types::RecordType;
use cairn_tests::kernel;
use cairn_tests::shell::commit;
use cairn_tests::up::{PATIENCE, Up, binary};
use serde_json::json;

/// Whether these tests cannot run here. With `CAIRN_REQUIRE_KERNEL=1` that is a failure.
fn no_strace() -> bool {
    // Tracing may be forbidden where the program is there.
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|out| out.status.success());
    if !works {
        assert!(std::env::var_os("CAIRN_REQUIRE_KERNEL").is_none(), "strace must work here");
        println!("skipped: the order of system calls: no strace, or it may not trace");
    }
    !works
}

/// What strace wrote: one line for a call, or one where it was entered and one where it returned.
struct Trace {
    lines: Vec<String>,
}

impl Trace {
    /// Starts `cairn up` under strace. `-D`: the child is cairn, not strace.
    fn start(dir: &Path, file: &Path) -> Up {
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-yy", "--seccomp-bpf", "-s", "8192", "-e"]);
        command.arg("trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg,pidfd_send_signal");
        command.arg("-o").arg(file).arg(binary()).args(["up", "--listen", "127.0.0.1:0", "--dir"]).arg(dir);
        Up::start_command(command, dir)
    }

    /// Ends it and reads the trace, which strace ends with the last process's exit.
    fn end(up: Up, file: &Path) -> Trace {
        assert!(up.stop());
        let began = Instant::now();
        loop {
            let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
            let whole =
                text.ends_with('\n') && text.lines().next_back().is_some_and(|line| line.contains("+++ exited"));
            if whole {
                return Trace { lines: text.lines().map(str::to_owned).collect() };
            }
            assert!(began.elapsed() < PATIENCE, "strace does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The first line at or after `from` where `call` is entered with every one of `words`, and who did it.
    fn entered(&self, from: usize, call: &str, words: &[&str]) -> (usize, &str) {
        let found = self.lines[from..].iter().enumerate().find_map(|(at, line)| {
            let (thread, rest) = line.split_once(' ')?;
            let fits =
                rest.trim_start().starts_with(&format!("{call}(")) && words.iter().all(|word| rest.contains(word));
            fits.then_some((from + at, thread))
        });
        found.unwrap_or_else(|| panic!("no {call} with {words:?} after line {from}"))
    }

    /// The line where the call that `thread` entered at `at` had returned, with a good result.
    fn returned(&self, at: usize, thread: &str, call: &str) -> usize {
        let line = &self.lines[at];
        let end = if line.contains("<unfinished ...>") {
            let resumed = format!("<... {call} resumed>");
            let rest = self.lines[at + 1..].iter();
            let found = rest.enumerate().find(|(_, line)| {
                line.split_once(' ').is_some_and(|(by, rest)| by == thread && rest.trim_start().starts_with(&resumed))
            });
            at + 1 + found.unwrap_or_else(|| panic!("{call} never returned: {line:.200}")).0
        } else {
            at
        };
        assert!(!self.lines[end].contains(" = -1 "), "{call} failed: {:.300}", self.lines[end]);
        end
    }

    /// What holds `words` is written to a file with `path` in its name, and synced: the line where that had returned.
    fn written_and_synced(&self, from: usize, path: &str, words: &[&str]) -> usize {
        let words: Vec<&str> = words.iter().copied().chain([path]).collect();
        let (at, thread) = self.entered(from, "pwrite64", &words);
        let file = self.file_of(at);
        let written = self.returned(at, thread, "pwrite64");
        // Any thread may sync it, once it was written.
        let (at, thread) = self.entered(written + 1, "fdatasync", &[&format!("<{file}>")]);
        self.returned(at, thread, "fdatasync")
    }

    /// Both ends of `sendto(14<TCP:[here->there]>, …`.
    fn peers_of(&self, at: usize) -> (&str, &str) {
        let (_, rest) = self.lines[at].split_once("<TCP:[").unwrap();
        rest.split_once("]>").unwrap().0.split_once("->").unwrap()
    }

    /// `/a/b` of `pwrite64(15</a/b>, …`.
    fn file_of(&self, at: usize) -> String {
        let line = &self.lines[at];
        let rest = &line[line.find('<').unwrap() + 1..];
        rest[..rest.find('>').unwrap()].to_owned()
    }
}

fn traced() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (dir, file) = (folder.path().join("cairn-data"), folder.path().join("trace"));
    (folder, dir, file)
}

#[test]
fn an_admission_answer_and_an_acknowledgement_leave_after_their_records_are_on_disk() {
    if no_strace() {
        return;
    }
    let (_folder, dir, file) = traced();
    let up = Trace::start(&dir, &file);
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "uid-under-strace", "operation": "CREATE", "namespace": "shop", "name": "web",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "alice"},
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": []}}
        }
    });
    let answer = ureq::post(&format!("{}/v1/admission/validate", up.url)).send_json(&review).unwrap();
    assert_eq!(answer.status(), 200);
    up.ledger().wait("the decision", RecordIndex(0), PATIENCE, |record| record.data["uid"] == "uid-under-strace");
    let trace = Trace::end(up, &file);

    let durable = trace.written_and_synced(0, "/nodes/admission/spool/", &["admission.decided", "uid-under-strace"]);
    let (answered, _) = trace.entered(0, "writev", &["HTTP/1.1 200 OK", "uid-under-strace", "auditAnnotations"]);
    assert!(durable < answered, "answered in line {answered}, durable in line {durable}");

    // The ledger, too: what it acknowledges is in its write-ahead log, on disk.
    let (sent, _) = trace.entered(durable, "sendto", &["admission.decided", "uid-under-strace"]);
    let durable = trace.written_and_synced(sent, "/ledger/wal/", &["admission.decided", "uid-under-strace"]);
    // On the same connection, seen from its other end.
    let (client, server) = trace.peers_of(sent);
    let other_end = format!("<TCP:[{server}->{client}]>");
    let (acknowledged, _) = trace.entered(sent, "writev", &["HTTP/1.1 200 OK", &other_end]);
    assert!(durable < acknowledged, "acknowledged in line {acknowledged}, durable in line {durable}");
}

#[test]
fn a_containment_is_on_disk_before_it_acts_and_its_outcome_after() {
    if kernel::missing().is_some() || no_strace() {
        return;
    }
    let (folder, dir, file) = traced();
    let up = Trace::start(&dir, &file);
    let program = folder.path().join("forbidden-under-strace");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let rule = format!(
        "- rule: Forbidden program\n  desc: d\n  condition: evt.type in (execve, execveat) and proc.exepath = {}\n  output: o\n  \
         priority: Warning\n",
        program.display()
    );
    let response = "name: kill-forbidden\non:\n  rules: [Forbidden program]\naction: kill\nmode: enforce\n";
    commit(&up.policies(), "Kill it", &[("detections/forbidden.yaml", &rule), ("responses/forbidden.yaml", response)]);
    up.ledger().wait("release 2 on the sensor", RecordIndex(0), PATIENCE, |record| {
        record.kind == RecordType::NodeLoaded
            && record.stream.as_str().starts_with("sensor")
            && record.data["release"].as_str().is_some_and(|release| release.starts_with("2@"))
    });
    let status = Command::new(&program).arg("60").status().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    up.ledger().wait("the outcome", RecordIndex(0), PATIENCE, |record| record.kind == RecordType::ContainmentFinished);
    let trace = Trace::end(up, &file);

    let spool = "/nodes/sensor/spool/";
    let detected = trace.written_and_synced(0, spool, &["detection.raised", "forbidden-under-strace"]);
    let intended = trace.written_and_synced(0, spool, &["containment.requested"]);
    let (acted, by) = trace.entered(0, "pidfd_send_signal", &["SIGKILL"]);
    let act_returned = trace.returned(acted, by, "pidfd_send_signal");
    let (outcome_written, _) = trace.entered(0, "pwrite64", &["containment.finished", spool]);
    let outcome = trace.written_and_synced(0, spool, &["containment.finished", "killed"]);
    let order = [detected, intended, acted, act_returned, outcome_written, outcome];
    assert!(order.is_sorted() && intended < acted && act_returned < outcome_written, "{order:?}");
}
