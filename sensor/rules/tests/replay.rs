//! Replay cases: the documented example runs, and what is wrong with a file is said with its place.

use std::sync::Arc;

use cairn_rules::capture::{Compression, Writer};
use cairn_rules::replay::{self, Attachment, Case, CaseResult, ClauseCoverage};
use cairn_rules::{Engine, EventTrace, Limits, Matching, Problem, RuleSet, RulesFile, load};

const DOCUMENT: &str = include_str!("../REPLAY.md");

/// The text of a fenced block of `REPLAY.md`.
fn block(label: &str) -> &'static str {
    let fence = format!("```yaml {label}\n");
    let start = DOCUMENT.find(&fence).expect("the block is there") + fence.len();
    let end = DOCUMENT[start..].find("```").expect("the block ends");
    &DOCUMENT[start..start + end]
}

fn rules(text: &str) -> Arc<RuleSet> {
    let loaded = load(&[RulesFile { path: "rules.yaml", text }]);
    assert!(loaded.problems.is_empty(), "{}", cairn_rules::problem::render(&loaded.problems));
    Arc::new(loaded.rules)
}

fn cases(text: &str) -> Vec<Case> {
    let parsed = replay::parse(&[RulesFile { path: "cases.yaml", text }]);
    assert!(parsed.problems.is_empty(), "{}", cairn_rules::problem::render(&parsed.problems));
    parsed.cases
}

fn problems(text: &str) -> String {
    let parsed = replay::parse(&[RulesFile { path: "cases.yaml", text }]);
    parsed.problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_documented_example_passes_and_covers() {
    let rules = rules(block("rules"));
    let results: Vec<CaseResult> = cases(block("cases")).iter().map(|case| replay::run(&rules, case)).collect();
    assert_eq!(results.len(), 6);
    for result in &results {
        assert!(result.passed, "{}: {}", result.name, result.reason);
    }
    let coverage = replay::coverage(&rules, &results);
    assert_eq!(coverage.percent(), 100, "{coverage:?}");

    let shell = &results[0].alerts[0];
    insta::assert_snapshot!(shell.output, @"A shell in a container (user=root parent=nginx command=bash -i container=3f4a9c0b7d21)");
    let read = &results[3].alerts[0];
    let ancestry: Vec<String> = read.process.ancestry.iter().map(|ancestor| ancestor.exe.to_string()).collect();
    assert_eq!(ancestry, ["/bin/bash", "/usr/sbin/sshd"]);
    assert_eq!(read.process.uid, 1000);
    // The parent had ended ten seconds before.
    let late = &results[5].alerts[0];
    assert_eq!(late.fields["proc.pname"].to_string(), "bash");
    insta::assert_snapshot!(serde_json::to_string_pretty(&read.to_falco_json("node-1")).unwrap(), @r#"
    {
      "hostname": "node-1",
      "output": "00:00:00.001000000: Warning kubeconfig read (file=/home/alice/.kube/config command=cat parent=bash)",
      "output_fields": {
        "evt.time": 1767225600001000000,
        "fd.name": "/home/alice/.kube/config",
        "proc.cmdline": "cat",
        "proc.pname": "bash"
      },
      "priority": "Warning",
      "rule": "Read of kubeconfig",
      "source": "syscall",
      "tags": [
        "credentials"
      ],
      "time": "2026-01-01T00:00:00.001000000Z"
    }
    "#);
}

#[test]
fn why_a_case_did_not_pass() {
    let rules = rules(block("rules"));
    let text = "\
- {name: surplus, events: [exec: {exe: /bin/sh, tty: true, container: true}], expect: []}
- {name: missing, events: [exec: /bin/sh], expect: [Shell in container]}
- {name: misspelt, events: [exec: /bin/sh], expect: [Shell in contaner]}
";
    let reasons: Vec<String> = cases(text)
        .iter()
        .map(|case| replay::run(&rules, case))
        .map(|result| {
            format!(
                "{}:{} {:?} {} {}",
                result.file,
                result.line,
                result.passed,
                result.reason,
                result.hint.unwrap_or_default()
            )
            .trim_end()
            .to_owned()
        })
        .collect();
    insta::assert_snapshot!(reasons.join("\n"), @r"
    cases.yaml:1 false `Shell in container` alerted and was not expected to
    cases.yaml:2 false `Shell in container` did not alert
    cases.yaml:3 false there is no rule `Shell in contaner` did you mean `Shell in container`?
    ");
}

#[test]
fn what_is_wrong_with_a_file() {
    let text = "\
- name: one
  events:
    - exec: {exe: /bin/sh, argz: [a]}
    - open: {path: /x, flags: wirte}
    - open: {path: /x, result: ENOPE}
    - exec: {exe: /bin/sh, tty: maybe}
    - {exec: /bin/sh, open: /x}
    - open: {path: /x, process: {pid: 7}}
    - exec: /bin/sh
      at: soon
  expect: [A]
  silent: [A]
- name: two
  expect: []
- name: two
  events: [exec: /bin/sh]
- events: []
  expect: []
- just text
";
    insta::assert_snapshot!(problems(text), @r#"
    error[CAIRN_REPLAY_CASE]: rule `A` is in `expect` and in `silent`
      --> cases.yaml:1:3 in case "one"
     1 | - name: one
       |   ^
    error[CAIRN_REPLAY_CASE]: unknown key `argz`
      --> cases.yaml:3:28 in case "one"
     3 |     - exec: {exe: /bin/sh, argz: [a]}
       |                            ^
      hint: did you mean `args`?
    error[CAIRN_REPLAY_CASE]: `wirte` is no flag of an open
      --> cases.yaml:4:31 in case "one"
     4 |     - open: {path: /x, flags: wirte}
       |                               ^
      hint: words are read, write, readwrite, create, truncate, append, and the names O_...
    error[CAIRN_REPLAY_CASE]: `result` is no descriptor or name of an error such as ENOENT
      --> cases.yaml:5:32 in case "one"
     5 |     - open: {path: /x, result: ENOPE}
       |                                ^
    error[CAIRN_REPLAY_CASE]: `tty` is true, false or a device number
      --> cases.yaml:6:33 in case "one"
     6 |     - exec: {exe: /bin/sh, tty: maybe}
       |                                 ^
    error[CAIRN_REPLAY_CASE]: an event is one of exec, open, fork, exit, call, document, file
      --> cases.yaml:7:7 in case "one"
     7 |     - {exec: /bin/sh, open: /x}
       |       ^
    error[CAIRN_REPLAY_CASE]: a process that nothing is known of
      --> cases.yaml:8:33 in case "one"
     8 |     - open: {path: /x, process: {pid: 7}}
       |                                 ^
      hint: give `exe`, or the `pid` of a process of this case
    error[CAIRN_REPLAY_CASE]: `at` is a duration from the beginning
      --> cases.yaml:10:11 in case "one"
     10 |       at: soon
        |           ^
      hint: write `1500ms` or `10s`
    error[CAIRN_REPLAY_CASE]: `events` is missing
      --> cases.yaml:13:3 in case "two"
     13 | - name: two
        |   ^
      hint: add `events:`, or `capture:` with the path of a capture
    error[CAIRN_REPLAY_CASE]: `expect` is missing
      --> cases.yaml:15:3 in case "two"
     15 | - name: two
        |   ^
      hint: write `expect: [Rule name]`, or `expect: []` when no rule may alert
    error[CAIRN_REPLAY_CASE]: `name` is missing
      --> cases.yaml:17:3 in case
     17 | - events: []
        |   ^
      hint: add `name:`
    error[CAIRN_REPLAY_CASE]: a case is a mapping, not a scalar
      --> cases.yaml:19:3
     19 | - just text
        |   ^
    "#);
    insta::assert_snapshot!(problems("cases: []"), @r"
    error[CAIRN_REPLAY_CASE]: the document is a mapping, not a sequence
      --> cases.yaml:1:1
     1 | cases: []
       | ^
      hint: a replay file is a sequence of cases, each beginning with `- name:`
    ");
}

#[test]
fn rules_swapped_under_an_engine_keep_its_processes() {
    let case = &cases(block("cases"))[5];
    let set = rules(block("rules"));
    let mut engine = Engine::new(Arc::new(RuleSet::default()), Limits::default());
    engine.seed(case.processes.iter().cloned());
    let (last, before) = case.events.split_last().expect("events");
    for event in before {
        assert!(engine.handle(event).is_empty());
    }
    engine.replace_rules(set);
    let alerts = engine.handle(last);
    assert_eq!(alerts[0].fields["proc.pname"].to_string(), "bash");
    assert_eq!(engine.events(), 5);
}

/// The processes and events of a case, as a recorder would have written them.
fn recorded(case: &Case) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Compression::None, "a test", &case.names, case.processes.clone())
        .expect("memory takes it");
    for event in &case.events {
        writer.event(event.clone()).expect("memory takes it");
    }
    writer.finish(Vec::new()).expect("memory takes it")
}

fn result_of(text: &str, bytes: &[u8]) -> CaseResult {
    let files = [RulesFile { path: "tests/cases.yaml", text }];
    let parsed = replay::parse_with(&files, &[Attachment { path: "tests/recorded/one.jsonl", bytes }]);
    assert!(parsed.problems.is_empty(), "{}", cairn_rules::problem::render(&parsed.problems));
    replay::run(&rules(block("rules")), &parsed.cases[0])
}

#[test]
fn a_capture_is_replayed() {
    let case = &cases(block("cases"))[5];
    let bytes = recorded(case);
    let text =
        "- {name: c, capture: recorded/one.jsonl, expect: {Read of kubeconfig: 1}, silent: [Shell in container]}";
    let result = result_of(text, &bytes);
    assert!(result.passed, "{}", result.reason);
    assert_eq!(result.alerts, replay::run(&rules(block("rules")), case).alerts);
    assert_eq!(result.silent, ["Shell in container"]);

    let often = result_of("- {name: c, capture: recorded/one.jsonl, expect: {Read of kubeconfig: 2}}", &bytes);
    assert_eq!(often.reason, "`Read of kubeconfig` alerted 1 times, not 2");
    let broken = result_of("- {name: c, capture: recorded/one.jsonl, expect: []}", b"PK\x03\x04");
    assert_eq!(
        broken.reason,
        "tests/recorded/one.jsonl: this is no capture: it begins with PK\\x03\\x04, not as Cairn's captures or Falco's do"
    );
    let short = result_of("- {name: c, capture: recorded/one.jsonl, expect: []}", &bytes[..bytes.len() - 5]);
    assert!(short.reason.contains("ends in the middle, at byte"), "{}", short.reason);
}

#[test]
fn captures_of_falco_are_replayed() {
    let text = "- rule: R\n  desc: d\n  condition: evt.type = execve\n  output: o\n  priority: INFO\n";
    let cases = [RulesFile { path: "cases.yaml", text: "- {name: c, capture: libs-2022.scap.zst, expect: {R: 3}}" }];
    let bytes = include_bytes!("captures/libs-2022.scap.zst");
    let parsed = replay::parse_with(&cases, &[Attachment { path: "libs-2022.scap.zst", bytes }]);
    let result = replay::run(&rules(text), &parsed.cases[0]);
    assert!(result.passed, "{}", result.reason);
}

#[test]
fn what_is_wrong_with_a_capture_s_case() {
    let text = "\
- name: both
  capture: a.scap
  events: [exec: /bin/sh]
  expect: []
- name: absent
  capture: b.scap
  expect: {A: none}
";
    let files = [RulesFile { path: "cases.yaml", text }];
    let parsed = replay::parse_with(&files, &[Attachment { path: "a.scap", bytes: b"" }]);
    insta::assert_snapshot!(cairn_rules::problem::render(&parsed.problems), @r#"
    error[CAIRN_REPLAY_CASE]: a case has `events` or a `capture`, not both
      --> cases.yaml:3:11 in case "both"
     3 |   events: [exec: /bin/sh]
       |           ^
      hint: make two cases of it

    error[CAIRN_REPLAY_CASE]: there is no file `b.scap`
      --> cases.yaml:6:12 in case "absent"
     6 |   capture: b.scap
       |            ^
      hint: did you mean `a.scap`?

    error[CAIRN_REPLAY_CASE]: `expect` maps names of rules to how often they alert, from 1
      --> cases.yaml:7:15 in case "absent"
     7 |   expect: {A: none}
       |               ^
      hint: write `{Rule name: 3}`; a rule that must not alert stands under `silent`

    3 error(s), 0 warning(s)
    "#);
}

fn explained(text: &str, number: Option<u64>, rule: Option<&str>) -> String {
    let parsed = replay::parse_events(RulesFile { path: "event.yaml", text }, &[]);
    assert!(parsed.problems.is_empty(), "{}", cairn_rules::problem::render(&parsed.problems));
    let mut said = Vec::new();
    let rules = rules(block("rules"));
    let take = |trace: EventTrace| said.push(trace.to_string());
    replay::explain(&rules, &parsed.cases[0], number, rule, Matching::All, take).expect("the case runs");
    said.join("\n")
}

#[test]
fn events_are_explained_one_by_one() {
    insta::assert_snapshot!(explained("exec: {exe: /bin/sh, tty: true}", None, None), @r#"
    event 1: execve by `sh`
      no    Shell in container (rules.yaml:10)
        false: container  (rules.yaml:12:34)
          false: container.id != host; container.id is "host"  (rules.yaml:8:15)
    "#);
    let two =
        "- exec: {exe: /bin/bash, pid: 100, tty: true, container: true}\n- open: {path: /etc/x, process: {pid: 100}}\n";
    insta::assert_snapshot!(explained(two, Some(2), Some("Read of kubeconfig")), @r#"
    event 2: openat by `bash`
      no    Read of kubeconfig (rules.yaml:17)
        false: fd.name endswith /.kube/config; fd.name is "/etc/x"  (rules.yaml:21:9)
    "#);
    insta::assert_snapshot!(explained(two, None, Some("Shell in container")), @r#"
    event 1: execve by `bash`
      ALERT Shell in container (rules.yaml:10)
    event 2: openat by `bash`
      not tried Shell in container (rules.yaml:10)
        the rule is for execve, execveat, the event is openat
    "#);
    let cases = "- name: c\n  expect: []\n  events: [exec: /bin/sh]\n";
    assert!(explained(cases, None, None).starts_with("event 1: execve by `sh`"));
    assert_eq!(explained(cases, Some(2), None), "");

    let parsed = replay::parse_events(RulesFile { path: "event.yaml", text: "exek: /bin/sh" }, &[]);
    assert_eq!(parsed.cases, []);
    assert_eq!(parsed.problems[0].hint.as_deref(), Some("did you mean `exec`?"));
}

#[test]
fn the_documented_explanation_is_what_is_said() {
    let start = DOCUMENT.find("```text explain\n").expect("the block is there");
    let shown: Vec<&str> = DOCUMENT[start..].lines().skip(2).take_while(|line| *line != "```").collect();
    let case = &cases(block("cases"))[1];
    assert_eq!(case.name, "a shell on the host is silence");
    let mut said = Vec::new();
    replay::explain(&rules(block("rules")), case, None, None, Matching::All, |trace| said.push(trace.to_string()))
        .expect("the case runs");
    assert_eq!(said.join("\n"), shown.join("\n"));
}

#[test]
fn the_documented_captures_are_cases() {
    let attachments =
        ["recorded/break-in.jsonl.zst", "recorded/builds.scap.zst"].map(|path| Attachment { path, bytes: b"" });
    let parsed = replay::parse_with(&[RulesFile { path: "cases.yaml", text: block("capture") }], &attachments);
    assert!(parsed.problems.is_empty(), "{}", cairn_rules::problem::render(&parsed.problems));
    assert_eq!(parsed.cases[0].counts["Shell in container"], 2);
}

#[test]
fn the_files_that_cases_name() {
    let text = "- {name: a, capture: x.scap}\n- {name: b, events: [{source: json, file: y.jsonl}, exec: /bin/sh]}\n";
    assert_eq!(replay::named_files(text), ["x.scap", "y.jsonl"]);
    assert_eq!(replay::named_files("a: [").len() + replay::named_files("exec: /bin/sh").len(), 0);
}

#[test]
fn the_clauses_of_a_sequence_s_after_are_covered_as_its_own() {
    let text = "\
- macro: in_tmp
  condition: (fd.directory = /tmp)
- rule: Written then run
  desc: d
  condition: evt.type = execve and proc.name != sh
  output: o
  priority: INFO
  cairn:
    sequence:
      after: evt.type = openat and (in_tmp or fd.name startswith /var/tmp/) and evt.is_open_write = true
      by: [{after: fd.name, then: proc.exepath}]
      within: 1m
";
    let covered = |cases: &str| {
        let rules = rules(text);
        let results: Vec<_> = self::cases(cases).iter().map(|case| replay::run(&rules, case)).collect();
        assert!(results.iter().all(|result| result.passed), "{results:?}");
        let coverage = replay::coverage(&rules, &results);
        let line = |clause: &ClauseCoverage| {
            let what = match (clause.decided_true, clause.decided_false) {
                (true, true) => "both",
                (true, false) => "true",
                (false, true) => "false",
                (false, false) => "nothing",
            };
            let after = if clause.is_of_after { "after: " } else { "" };
            format!("{}:{} {after}{} {what}", clause.line, clause.column, clause.text)
        };
        coverage.rules[0].clauses.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let run = "\
- name: written, then run
  expect: [Written then run]
  events: [open: {path: /tmp/x, flags: [O_WRONLY]}, exec: /tmp/x]
";
    insta::assert_snapshot!(covered(run), @r"
    5:14 evt.type = execve true
    5:36 proc.name != sh true
    10:14 after: evt.type = openat true
    10:37 after: in_tmp true
    10:47 after: fd.name startswith /var/tmp/ nothing
    10:81 after: evt.is_open_write = true true
    ");
    // A read decides by the last clause of `after`, an open elsewhere by what `or` joins; the shell by the rule's own.
    let more = "\
- name: read, then run
  expect: []
  events: [open: /tmp/x, exec: /tmp/x]
- name: written elsewhere
  expect: []
  events: [open: {path: /home/x, flags: [O_WRONLY]}, exec: /home/x]
- name: the shell
  expect: []
  events: [open: {path: /tmp/sh, flags: [O_WRONLY]}, exec: /tmp/sh]
";
    insta::assert_snapshot!(covered(&[run, more].concat()), @r"
    5:14 evt.type = execve true
    5:36 proc.name != sh both
    10:14 after: evt.type = openat true
    10:37 after: in_tmp both
    10:47 after: fd.name startswith /var/tmp/ false
    10:81 after: evt.is_open_write = true both
    ");
}
