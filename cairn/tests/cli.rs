//! What the commands print and how they exit: standard output for data, `error:` and `hint:` on standard error, 0 good, 1 bad,
//! 2 could not tell.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::path::Path;
use std::process::Command;

/// Exit code, standard output and standard error of one run, with the folder's name taken out.
fn cairn(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cairn")).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(folder.to_str().unwrap(), "DIR");
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("bad.yaml"),
        "- rule: X\n  desc: y\n  condition: proc.nmae = bash and evt.type = execve\n  output: x\n  priority: Warn\n",
    )
    .unwrap();
    folder
}

#[test]
fn a_new_policy_repo_passes_its_own_tests() {
    let folder = folder();
    insta::assert_snapshot!(cairn(folder.path(), &["init", "policies"]), @r"
    exit 0
    --- stdout
    26 files in policies
    next: cairn test policies
    --- stderr
    ");
    insta::assert_snapshot!(cairn(folder.path(), &["test", "policies"]), @r"
    exit 0
    --- stdout
    35 passed, 0 failed in 6 file(s); 7 of 7 rules covered, 12 of 12 clauses
    --- stderr
    ");
    insta::assert_snapshot!(cairn(folder.path(), &["init", "policies"]), @r"
    exit 2
    --- stdout
    --- stderr
    error: policies: not empty
    hint: name a folder that does not exist yet, or an empty one
    ");
    insta::assert_snapshot!(cairn(folder.path(), &["check", "--policy", "policies", "policies/examples"]), @r"
    exit 0
    --- stdout
    3 tests, 3 passed, 0 warnings, 0 failures
    --- stderr
    ");
}

#[test]
fn a_denied_file_exits_as_conftest_does() {
    let folder = folder();
    cairn(folder.path(), &["init", "policies"]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  securityContext: {runAsNonRoot: true}\n  containers:\n    - {name: web, image: web:latest}\n";
    std::fs::write(folder.path().join("pod.yaml"), pod).unwrap();
    let printed = cairn(folder.path(), &["check", "--policy", "policies", "pod.yaml"]);
    assert!(printed.starts_with("exit 1\n"), "{printed}");
    assert!(printed.contains("FAIL - pod.yaml - kubernetes.latest - "), "{printed}");
    assert!(printed.contains("3 tests, 2 passed, 0 warnings, 1 failures"), "{printed}");
    let json = cairn(folder.path(), &["check", "--json", "--policy", "policies", "pod.yaml"]);
    assert!(json.contains("\"filename\": \"pod.yaml\""), "{json}");
    insta::assert_snapshot!(cairn(folder.path(), &["check", "pod.yaml"]), @r"
    exit 2
    --- stdout
    --- stderr
    error: .: no policy repo here: there is no cairn.yaml
    hint: name the policy repo with --policy DIR, or make one with `cairn init DIR`
    ");
}

#[test]
fn rules_are_checked_and_explained() {
    let folder = folder();
    insta::assert_snapshot!(cairn(folder.path(), &["rules", "check", "bad.yaml"]), @r#"
    exit 1
    --- stdout
    error[LOAD_ERR_COMPILE_CONDITION]: unknown field `proc.nmae`
      --> bad.yaml:3:14 in rule "X"
     3 |   condition: proc.nmae = bash and evt.type = execve
       |              ^
      hint: did you mean `proc.name`?

    error[LOAD_ERR_YAML_VALIDATE]: `Warn` is not a priority: one of Emergency, Alert, Critical, Error, Warning, Notice, Informational, Debug
      --> bad.yaml:5:13 in rule "X"
     5 |   priority: Warn
       |             ^

    2 error(s), 0 warning(s)

    bad.yaml: Invalid
    FAILED: 1 rules, 0 macros, 0 lists
    --- stderr
    "#);
    insta::assert_snapshot!(cairn(folder.path(), &["rules", "explain", "evt.type = execve and not proc.name in (a, b)"]), @r"
    exit 0
    --- stdout
    normal form: (evt.type = execve and not proc.name in (a, b))
    fields:      evt.type, proc.name
    event types: execve
    --- stderr
    ");
    insta::assert_snapshot!(cairn(folder.path(), &["rules", "explain", "proc.nmae = a"]), @r"
    exit 1
    --- stdout
    error: unknown field `proc.nmae` (line 1, column 1)
      proc.nmae = a
      ^
    hint: did you mean `proc.name`?
    --- stderr
    ");
    insta::assert_snapshot!(cairn(folder.path(), &["rules", "check", "absent.yaml"]), @r"
    exit 2
    --- stdout
    --- stderr
    error: absent.yaml: No such file or directory (os error 2)
    ");
}

#[test]
fn rules_are_checked_in_place_of_falco() {
    let folder = folder();
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    let macros = "- list: shells\n  items: [bash]\n- macro: unused\n  condition: proc.name in (shells)\n";
    let rule = "- rule: Shell connects\n  desc: d\n  condition: evt.type in (execve, connect) and proc.pname = bash\n  output: o\n  priority: INFO\n";
    std::fs::write(rules.join("b.yml"), rule).unwrap();
    std::fs::write(rules.join("a.yaml"), macros).unwrap();
    std::fs::write(rules.join("c.txt"), "no rules").unwrap();
    insta::assert_snapshot!(cairn(folder.path(), &["rules", "check", "rules"]), @r#"
    exit 0
    --- stdout
    warning[LOAD_UNUSED_MACRO]: no rule uses the macro
      --> rules/a.yaml:3:10 in macro "unused"
     3 | - macro: unused
       |          ^

    warning[CAIRN_BLIND_SPOT]: events connect are not supplied
      --> rules/b.yml:1:9 in rule "Shell connects"
     1 | - rule: Shell connects
       |         ^

    0 error(s), 2 warning(s)

    rules/a.yaml: Ok, with warnings
    rules/b.yml: Ok, with warnings
    OK: 1 rules, 1 macros, 1 lists
    --- stderr
    "#);
    let node = ["rules", "check", "--node", "--without", "proc.pname", "rules/b.yml"];
    insta::assert_snapshot!(cairn(folder.path(), &node), @r#"
    exit 0
    --- stdout
    warning[CAIRN_BLIND_SPOT]: events connect are not supplied; fields proc.pname are not supplied: checks on them are false
      --> rules/b.yml:1:9 in rule "Shell connects"
     1 | - rule: Shell connects
       |         ^

    0 error(s), 1 warning(s)

    rules/b.yml: Ok, with warnings
    Shell connects: sees less than it says
      events not supplied: connect
      fields not supplied: proc.pname
    0 of 1 enabled rules see all they ask for
    OK: 1 rules, 0 macros, 0 lists
    --- stderr
    "#);
    // What a node lacks is no mistake of the rule's author, unless it was asked for.
    assert!(cairn(folder.path(), &["rules", "check", "--strict", "rules/b.yml"]).starts_with("exit 0"));
    assert!(cairn(folder.path(), &["rules", "check", "--strict", "--node", "rules/b.yml"]).starts_with("exit 1"));
    assert!(cairn(folder.path(), &["rules", "check", "--strict", "rules"]).starts_with("exit 1"));

    let json = cairn(folder.path(), &["rules", "check", "--json", "rules", "bad.yaml"]);
    let stdout = json.split("--- stdout\n").nth(1).and_then(|rest| rest.split("--- stderr").next()).unwrap();
    let json: serde_json::Value = serde_json::from_str(stdout).unwrap();
    let results = json["falco_load_results"].as_array().unwrap();
    let names: Vec<_> =
        results.iter().map(|result| (result["name"].as_str().unwrap(), result["successful"].as_bool())).collect();
    assert_eq!(names, [("rules/a.yaml", Some(true)), ("rules/b.yml", Some(true)), ("bad.yaml", Some(false))]);
    let absent = cairn(folder.path(), &["rules", "check", "--json", "absent.yaml"]);
    assert!(absent.starts_with("exit 2") && absent.contains("LOAD_ERR_FILE_READ"), "{absent}");
    let place = &results[2]["errors"][0]["context"]["locations"][1];
    assert_eq!((&place["item_type"], &place["item_name"]), (&"rule".into(), &"X".into()));
    assert_eq!((&place["position"]["line"], &place["position"]["column"]), (&2.into(), &13.into()));
}

#[test]
fn what_falco_makes_of_our_own_keys_is_said_where_asked_for() {
    let folder = folder();
    let rule = "- rule: Many\n  desc: d\n  condition: evt.type = execve\n  output: o\n  priority: INFO\n  cairn:\n    count: {by: [proc.name], within: 1m, above: 3}\n";
    std::fs::write(folder.path().join("rules.yaml"), rule).unwrap();
    let check = |options: &[&str]| cairn(folder.path(), &[&["rules", "check", "rules.yaml"], options].concat());
    insta::assert_snapshot!(check(&["--strict"]), @r"
    exit 0
    --- stdout
    rules.yaml: Ok
    OK: 1 rules, 0 macros, 0 lists
    --- stderr
    ");
    insta::assert_snapshot!(check(&["--falco"]), @r#"
    exit 0
    --- stdout
    warning[LOAD_WARNING_EXTENSION]: Falco ignores `cairn`: there the rule alerts on each event that its condition holds for
      --> rules.yaml:7:5 in rule "Many"
     7 |     count: {by: [proc.name], within: 1m, above: 3}
       |     ^

    0 error(s), 1 warning(s)

    rules.yaml: Ok, with warnings
    OK: 1 rules, 0 macros, 0 lists
    --- stderr
    "#);
    assert!(check(&["--falco", "--strict"]).starts_with("exit 1"));
    let overriding = format!("{rule}- rule: Many\n  cairn:\n  override: {{cairn: replace}}\n");
    std::fs::write(folder.path().join("rules.yaml"), overriding).unwrap();
    assert!(check(&[]).starts_with("exit 0"));
    let refused = check(&["--falco"]);
    assert!(refused.starts_with("exit 1") && refused.contains("Falco knows no override of `cairn`"), "{refused}");
}

#[test]
fn what_conditions_may_use_is_listed() {
    let folder = folder();
    let fields = cairn(folder.path(), &["rules", "fields", "--source", "syscall"]);
    assert!(fields.contains("\n  proc.name (text)\n"), "{fields}");
    assert!(!fields.contains("ka.verb"));
    assert!(cairn(folder.path(), &["rules", "fields"]).contains("  ka.verb (text)"));
    assert!(cairn(folder.path(), &["rules", "fields", "--source", "mainframe"]).starts_with("exit 2"));
    let events = cairn(folder.path(), &["rules", "events"]);
    assert!(events.lines().any(|line| line.starts_with("execve(") && !line.ends_with("(not supplied)")), "{events}");
    assert!(events.lines().any(|line| line.starts_with("setns(") && line.ends_with("(not supplied)")));
    let rule = "- rule: R\n  desc: says\n    what\n  condition: evt.type = execve\n  output: o\n  priority: INFO\n- rule: S\n  desc: d\n  condition: evt.type = execve\n  output: o\n  priority: INFO\n  enabled: false\n";
    std::fs::write(folder.path().join("rules.yaml"), rule).unwrap();
    insta::assert_snapshot!(cairn(folder.path(), &["rules", "list", "rules.yaml"]), @r"
    exit 0
    --- stdout
    R [Informational]
      says what
      rules.yaml:1
    S [not enabled]
    --- stderr
    ");
    assert!(
        cairn(folder.path(), &["rules", "list", "--json", "rules.yaml"])
            .contains("\"condition_compiled\": \"evt.type = execve\"")
    );
}

#[test]
fn verify_tells_absent_from_wrong() {
    let folder = folder();
    insta::assert_snapshot!(cairn(folder.path(), &["verify", "absent"]), @r"
    exit 2
    --- stdout
    COULD NOT TELL: absent does not exist
    --- stderr
    ");
    insta::assert_snapshot!(cairn(folder.path(), &["verify", "."]), @r"
    exit 2
    --- stdout
    COULD NOT TELL: . is not a ledger: it has no readable `checkpoint` and no `tile/`
    --- stderr
    ");
    insta::assert_snapshot!(cairn(folder.path(), &["verify", ".", "--key", "nonsense"]), @r"
    exit 2
    --- stdout
    --- stderr
    error: --key nonsense: neither a vkey nor a file that can be read: No such file or directory (os error 2)
    hint: a vkey has the form <name>+<8 hexadecimal digits>+<base64>
    ");
}

#[test]
fn up_refuses_what_is_not_loopback() {
    let folder = folder();
    insta::assert_snapshot!(cairn(folder.path(), &["up", "--listen", "0.0.0.0:8321"]), @r"
    exit 1
    --- stdout
    --- stderr
    error: --listen 0.0.0.0:8321: `cairn up` is plain HTTP and listens on loopback only
    hint: use an address such as 127.0.0.1:8321
    ");
    assert!(!folder.path().join("cairn-data").exists(), "nothing was made");
}

#[test]
fn an_event_is_explained() {
    let folder = folder();
    cairn(folder.path(), &["init", "policies"]);
    let explain = |arguments: &[&str]| {
        let (shared, containers) = ("policies/detections/00-shared.yaml", "policies/detections/containers.yaml");
        cairn(folder.path(), &[&["rules", "explain", "--rules", shared, "--rules", containers], arguments].concat())
    };
    std::fs::write(folder.path().join("event.yaml"), "exec: {exe: /bin/bash, parent: /usr/sbin/sshd}\n").unwrap();
    insta::assert_snapshot!(explain(&["--event", "event.yaml"]), @r#"
    exit 0
    --- stdout
    event 1: execve by `bash`
      no    Shell in container (policies/detections/containers.yaml:7)
        false: container  (policies/detections/containers.yaml:13:9)
          false: container.id != host; container.id is "host"  (policies/detections/00-shared.yaml:9:15)
    --- stderr
    "#);
    let cases = "policies/detections/tests/containers.yaml";
    let case = "a web server's shell looks for credentials, as it was recorded";
    let asked = ["--event", cases, "--case", case, "--number", "2", "--rule", "Shell in container"];
    insta::assert_snapshot!(explain(&asked), @r"
    exit 0
    --- stdout
    event 2: execve by `sh -c id; cat /root/.kube/config`
      ALERT Shell in container (policies/detections/containers.yaml:7)
    --- stderr
    ");
    let capture = ["--capture", "policies/detections/tests/recorded/web-shell.jsonl", "--number", "9"];
    insta::assert_snapshot!(explain(&capture), @r"
    exit 1
    --- stdout
    --- stderr
    error: policies/detections/tests/recorded/web-shell.jsonl: there is no event 9
    ");
    let json = explain(&["--event", "event.yaml", "--json"]);
    assert!(json.contains("\"verdict\": \"not_held\"") && json.contains("\"value\": \"host\""), "{json}");
}

#[test]
fn tests_report_to_ci_and_ask_for_coverage() {
    let folder = folder();
    cairn(folder.path(), &["init", "policies"]);
    let printed = cairn(folder.path(), &["test", "policies", "--junit", "report.xml", "--min-coverage", "100"]);
    assert!(printed.starts_with("exit 0\n"), "{printed}");
    let report = std::fs::read_to_string(folder.path().join("report.xml")).unwrap();
    assert!(report.contains("<testsuites name=\"cairn test\" tests=\"35\" failures=\"0\" errors=\"0\">"), "{report}");
    assert!(report.contains("file=\"detections/tests/containers.yaml\" line=\"2\"/>"), "{report}");

    let rule = "\
- rule: Tool
  desc: d
  condition: evt.type = execve and (proc.name = nc or proc.name = ncat) and proc.tty = 0
  output: o
  priority: NOTICE
";
    let cases = "- {name: nc, events: [exec: /bin/nc], expect: [Tool]}\n";
    std::fs::write(folder.path().join("policies/detections/tool.yaml"), rule).unwrap();
    std::fs::write(folder.path().join("policies/detections/tests/tool.yaml"), cases).unwrap();
    insta::assert_snapshot!(cairn(folder.path(), &["test", "policies", "--clauses", "--min-coverage", "100"]), @r"
    exit 1
    --- stdout
    CLAUSE detections/credentials.yaml:44:5: `Honeytoken opened`: open_file was never false where it mattered: no test would fail without it
    CLAUSE detections/tool.yaml:3:55: `Tool`: proc.name = ncat was never true where it mattered
    CLAUSE detections/tool.yaml:3:77: `Tool`: proc.tty = 0 was never false where it mattered: no test would fail without it
    WARN detections/tool.yaml:1: `Tool` is not covered: no passed case shows it silent
    36 passed, 0 failed in 7 file(s); 7 of 8 rules covered, 16 of 16 clauses
    --- stderr
    error: tests cover 87 % of the rules, less than 100 %
    hint: `cairn test --clauses` lists what no test would miss
    ");
}
