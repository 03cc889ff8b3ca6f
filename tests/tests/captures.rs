//! `cairn record` on this machine, and `cairn replay` of what it and others recorded, with the binary as users have it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use cairn_tests::kernel;
use cairn_tests::up::{binary, cairn};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of the rule engine's tests.
fn of_rules(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../sensor/rules/tests").join(name).display().to_string()
}

/// Falco's own rules, unmodified, on a capture that Falco's library wrote.
#[test]
fn falcos_rules_find_in_falcos_capture_what_is_there() {
    let (capture, rules) = (of_rules("captures/libs-2022.scap"), of_rules("falco-rules/falco_rules.yaml"));
    for capture in [capture.clone(), format!("{capture}.gz"), format!("{capture}.zst")] {
        let output = cairn(&["replay", &capture, "--rules", &rules]);
        let alerts = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let first = alerts.lines().next().unwrap();
        assert!(
            first.starts_with("22:13:20.008000000: Warning Sensitive file opened for reading by non-trusted program"),
            "{first}"
        );
        assert!(first.contains("file=/etc/shadow"), "{first}");
        let summary = text(&output.stderr);
        assert!(summary.contains("Events detected: 1\nRule counts by severity:\n   WARNING: 1\n"), "{summary}");
        assert!(summary.ends_with("Triggered rules by rule name:\n   Read sensitive file untrusted: 1\n"), "{summary}");
    }
    let output = cairn(&["replay", &capture, "--json", "--rules", &rules]);
    let alert: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&alert["rule"], &alert["hostname"]), (&"Read sensitive file untrusted".into(), &"recorder".into()));
    assert_eq!(alert["output_fields"]["proc.cmdline"], "cat /etc/shadow -n");
    let other = cairn(&["replay", &capture, "--source", "k8s_audit", "--rules", &rules]);
    assert!(other.status.success() && other.stdout.is_empty(), "nothing in it is of that source");
}

/// How rules are matched, and what each of them cost.
#[test]
fn rules_are_matched_as_asked_and_say_what_they_cost() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    let rule = |name: &str| {
        format!(
            "- rule: {name}\n  desc: d\n  condition: evt.type in (open, openat)\n  output: {name}\n  priority: INFO\n"
        )
    };
    fs::write(&rules, rule("One") + &rule("Two")).unwrap();
    let (capture, rules) = (of_rules("captures/libs-2022.scap"), rules.display().to_string());
    let replay = |more: &[&str]| {
        let output = cairn(&[&["replay", &capture, "--rules", &rules], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let both = replay(&[]).0;
    assert_eq!(replay(&["--matching", "all"]).0, both);
    let (ones, twos) = (both.matches(" One\n").count(), both.matches(" Two\n").count());
    assert!(ones > 0 && ones == twos, "{both}");
    let first = replay(&["--matching", "first"]).0;
    assert_eq!((first.lines().count(), first.contains("Two")), (ones, false), "{first}");

    let (table, summary) = replay(&["--costs"]);
    assert!(summary.contains(&format!("Events detected: {}\n", ones + twos)), "{summary}");
    let of = |name: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.ends_with(&format!("  {name}"))).unwrap_or_else(|| panic!("{table}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    // Milliseconds and nanoseconds before, work after.
    assert_eq!(of("One")[2..5], [&*ones.to_string(); 3], "{table}");
    assert_eq!(of("rule")[..6], ["ms", "ns", "each", "tried", "reached", "held"]);
    let costs: Value = serde_json::from_str(&replay(&["--costs", "--json", "--matching", "first"]).0).unwrap();
    assert_eq!((&costs["rules"][0]["rule"], &costs["rules"][0]["held"]), (&"One".into(), &ones.into()));
    assert_eq!((&costs["rules"][1]["held"], &costs["rules"][1]["reached"]), (&0.into(), &0.into()), "{costs}");
}

#[test]
fn what_is_wrong_is_said_and_what_is_right_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rules = of_rules("falco-rules/falco_rules.yaml");
    let whole = fs::read(of_rules("captures/libs-2022.scap")).unwrap();
    fs::write(path("cut.scap"), &whole[..whole.len() - 10]).unwrap();
    let output = cairn(&["replay", &path("cut.scap"), "--rules", &rules]);
    assert!(output.status.success() && text(&output.stdout).lines().count() == 1);
    assert!(
        text(&output.stderr).contains("warning: the capture ends in the middle, at byte "),
        "{}",
        text(&output.stderr)
    );

    let mut broken = whole;
    let last = broken.len() - 1;
    broken[last] ^= 1;
    fs::write(path("broken.scap"), &broken).unwrap();
    let output = cairn(&["replay", &path("broken.scap"), "--rules", &rules]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).lines().count(), 1, "what was found before stands");
    assert!(text(&output.stderr).contains("error: "), "{}", text(&output.stderr));

    fs::write(path("none"), "MZ").unwrap();
    let output = cairn(&["replay", &path("none"), "--rules", &rules]);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true));
    assert!(text(&output.stderr).contains("hint: name a capture of `cairn record`"), "{}", text(&output.stderr));

    fs::write(path("bad.yaml"), "- rule: X\n").unwrap();
    let output = cairn(&["replay", &path("cut.scap"), "--rules", &path("bad.yaml")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("error: the rules do not load"), "{}", text(&output.stderr));
}

/// A log that is no capture: one of JSON, of a source.
#[test]
fn a_log_of_json_is_replayed_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(
        path("rules.yaml"),
        "- rule: Secret read\n  desc: d\n  source: k8s_audit\n  condition: ka.verb = get and ka.target.resource = secrets\n  \
         output: \"%ka.user.name\"\n  priority: NOTICE\n",
    )
    .unwrap();
    let entry = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"1","stage":"ResponseComplete","verb":"get","user":{"username":"eve"},
        "objectRef":{"resource":"secrets","namespace":"shop"},"stageTimestamp":"2024-05-01T10:00:00.000000Z"}"#;
    fs::write(path("audit.log"), format!("{}\nno json\n", entry.replace('\n', ""))).unwrap();
    let output = cairn(&["replay", &path("audit.log"), "--source", "k8s_audit", "--rules", &path("rules.yaml")]);
    assert_eq!(text(&output.stdout).trim_end(), "10:00:00.000000000: Notice eve", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("warning: "), "the line that is none is named");
    let output = cairn(&["replay", &path("audit.log"), "--source", "k8s_audits", "--rules", &path("rules.yaml")]);
    assert_eq!(output.status.code(), Some(2));
}

/// A recording of this machine that has begun.
fn recording(out: &Path, more: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = Command::new(binary())
        .arg("record")
        .arg(out)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("recording to "), "{line}");
    (child, errors)
}

fn end(child: Child, mut errors: BufReader<std::process::ChildStderr>) -> (Output, String) {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut errors, &mut said).unwrap();
    (child.wait_with_output().unwrap(), said)
}

#[test]
fn what_this_machine_does_is_recorded_and_replayed() {
    if kernel::missing().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("a-secret");
    fs::write(&secret, "x").unwrap();
    let rules = folder.path().join("rules.yaml");
    fs::write(
        &rules,
        format!(
            "- rule: Secret read\n  desc: d\n  condition: evt.type in (open, openat, openat2) and fd.name = {} and proc.name = cat\n  \
             output: \"%proc.cmdline by %proc.pname\"\n  priority: WARNING\n",
            secret.display()
        ),
    )
    .unwrap();
    let rules = rules.display().to_string();
    for name in ["here.jsonl", "here.jsonl.zst", "here.jsonl.gz"] {
        let out = folder.path().join(name);
        let (child, errors) = recording(&out, &["--rules", &rules]);
        assert!(Command::new("cat").arg(&secret).output().unwrap().status.success());
        let (output, said) = end(child, errors);
        assert!(output.status.success(), "{said}");
        let expected = format!("cat {} by captures", secret.display());
        let alerts = text(&output.stdout);
        assert!(alerts.lines().count() == 1 && alerts.contains(&expected), "{alerts}{said}");
        assert!(said.contains(" events in ") && said.contains(" lost"), "{said}");

        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&out).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let again = cairn(&["replay", &out.display().to_string(), "--rules", &rules]);
        assert_eq!(text(&again.stdout), alerts, "{name}: {}", text(&again.stderr));
        assert!(!text(&again.stderr).contains("ends in the middle"));
        let refused = cairn(&["record", &out.display().to_string(), "--seconds", "1"]);
        assert_eq!(refused.status.code(), Some(2), "a capture is not written over");
    }
}

/// The recorder killed: the capture has no end, and what was handed on before can be used.
#[test]
fn a_recording_that_was_killed_can_be_used() {
    if kernel::missing().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("here.jsonl.zst");
    let (mut child, _errors) = recording(&out, &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    let rules = of_rules("falco-rules/falco_rules.yaml");
    let output = cairn(&["replay", &out.display().to_string(), "--rules", &rules]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("warning: the capture ends in the middle"), "{}", text(&output.stderr));
}
