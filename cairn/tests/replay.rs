//! `cairn replay` prints alerts as Falco does, byte for byte, with the options that Falco has for them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::path::Path;
use std::process::Command;

const CAPTURE: &str = r#"{"cairn_capture":1,"hostname":"node-1","recorded_by":"cairn 0.1.0","users":{"0":"root","33":"www-data"},"groups":{"0":"root"}}
{"event":{"time_ns":1767225600001000000,"cpu":2,"tid":101,"pid":101,"kind":{"exec":{"syscall":"execve","process":{"ppid":100,"start_ns":20,"uid":33,"gid":33,"comm":"sh","exepath":"/bin/sh","args":["sh","-c","cat /root/.kube/config"],"cwd":"/"}}}}}
{"event":{"time_ns":1767225600002000000,"cpu":2,"tid":101,"pid":101,"kind":{"open":{"syscall":"openat","name":"/root/.kube/config","nameraw":"/root/.kube/config","flags":0,"mode":0,"result":3,"file_type":"regular"}}}}
{"event":{"time_ns":1767225600003000000,"cpu":2,"tid":101,"pid":101,"kind":{"open":{"syscall":"openat","name":"/tmp/a\u001b[2J\u009b","nameraw":"/tmp/a","flags":1,"mode":0,"result":4,"file_type":"regular"}}}}
{"end":{"events":3,"lost":[]}}
"#;

const RULES: &str = r#"- rule: Shell started
  desc: d
  condition: evt.type = execve and proc.name = sh
  output: A shell was started (user=%user.name command=%proc.cmdline)
  priority: WARNING
  tags: [shell, execution]
- rule: Any program
  desc: d
  condition: evt.type = execve
  output: A program was started
  priority: DEBUG
- rule: Credentials read
  desc: d
  condition: evt.type = openat and fd.name endswith /.kube/config
  output: Credentials were read (file=%fd.name flags=%evt.rawarg.flags fd=%evt.rawarg.fd)
  priority: ERROR
- rule: Strange name
  desc: d
  condition: evt.type = openat and fd.name startswith /tmp/
  output: A file was opened (file=%fd.name)
  priority: NOTICE
"#;

/// Exit code, standard output and standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cairn")).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("capture.jsonl"), CAPTURE).unwrap();
    std::fs::write(folder.path().join("rules.yaml"), RULES).unwrap();
    folder
}

/// What is printed with these options.
fn replay(options: &[&str]) -> String {
    let folder = folder();
    let (code, stdout, stderr) =
        run(folder.path(), &[&["replay", "capture.jsonl", "--rules", "rules.yaml"], options].concat());
    assert_eq!(code, 0, "{stderr}");
    stdout
}

#[test]
fn alerts_are_lines_of_text() {
    let folder = folder();
    let (code, stdout, stderr) = run(folder.path(), &["replay", "capture.jsonl", "--rules", "rules.yaml"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        stdout,
        "00:00:00.001000000: Warning A shell was started (user=www-data command=sh -c cat /root/.kube/config)\n\
         00:00:00.001000000: Debug A program was started\n\
         00:00:00.002000000: Error Credentials were read (file=/root/.kube/config flags=1 fd=3)\n\
         00:00:00.003000000: Notice A file was opened (file=/tmp/a\\u001b[2J\\u{9b})\n"
    );
    assert_eq!(
        stderr,
        "Events read: 3\n\
         Events detected: 4\n\
         Rule counts by severity:\n   ERROR: 1\n   WARNING: 1\n   NOTICE: 1\n   DEBUG: 1\n\
         Triggered rules by rule name:\n   Any program: 1\n   Credentials read: 1\n   Shell started: 1\n   Strange name: 1\n"
    );
}

#[test]
fn alerts_are_json() {
    let json = replay(&["--json"]);
    assert_eq!(
        json,
        concat!(
            r#"{"hostname":"node-1","output":"00:00:00.001000000: Warning A shell was started (user=www-data command=sh -c cat /root/.kube/config)","output_fields":{"evt.time":1767225600001000000,"proc.cmdline":"sh -c cat /root/.kube/config","user.name":"www-data"},"priority":"Warning","rule":"Shell started","source":"syscall","tags":["execution","shell"],"time":"2026-01-01T00:00:00.001000000Z"}"#,
            "\n",
            r#"{"hostname":"node-1","output":"00:00:00.001000000: Debug A program was started","output_fields":{"evt.time":1767225600001000000},"priority":"Debug","rule":"Any program","source":"syscall","tags":[],"time":"2026-01-01T00:00:00.001000000Z"}"#,
            "\n",
            r#"{"hostname":"node-1","output":"00:00:00.002000000: Error Credentials were read (file=/root/.kube/config flags=1 fd=3)","output_fields":{"evt.rawarg.fd":3,"evt.rawarg.flags":"1","evt.time":1767225600002000000,"fd.name":"/root/.kube/config"},"priority":"Error","rule":"Credentials read","source":"syscall","tags":[],"time":"2026-01-01T00:00:00.002000000Z"}"#,
            "\n",
            r#"{"hostname":"node-1","output":"00:00:00.003000000: Notice A file was opened (file=/tmp/a\u001b[2J\u009b)","output_fields":{"evt.time":1767225600003000000,"fd.name":"/tmp/a\u001b[2J\u009b"},"priority":"Notice","rule":"Strange name","source":"syscall","tags":[],"time":"2026-01-01T00:00:00.003000000Z"}"#,
            "\n",
        )
    );
    assert_eq!(replay(&["-o", "json_output=true"]), json);
    assert_eq!(replay(&["-o", "json_output=true", "-o", "json_output=false"]), replay(&[]));
}

#[test]
fn each_property_of_the_json_can_be_had_or_not() {
    let options = [
        "--priority=error",
        "-o",
        "json_output=true",
        "-o",
        "json_include_output_property=false",
        "-o",
        "json_include_message_property=true",
        "-o",
        "json_include_tags_property=false",
    ];
    assert_eq!(
        replay(&options),
        concat!(
            r#"{"hostname":"node-1","message":"Credentials were read (file=/root/.kube/config flags=1 fd=3)","output_fields":{"evt.rawarg.fd":3,"evt.rawarg.flags":"1","evt.time":1767225600002000000,"fd.name":"/root/.kube/config"},"priority":"Error","rule":"Credentials read","source":"syscall","time":"2026-01-01T00:00:00.002000000Z"}"#,
            "\n"
        )
    );
    assert_eq!(
        replay(&[&options[..], &["-o", "json_include_output_fields_property=false"]].concat()),
        concat!(
            r#"{"hostname":"node-1","message":"Credentials were read (file=/root/.kube/config flags=1 fd=3)","priority":"Error","rule":"Credentials read","source":"syscall","time":"2026-01-01T00:00:00.002000000Z"}"#,
            "\n"
        )
    );
}

#[test]
fn a_priority_leaves_out_what_matters_less() {
    let error = "00:00:00.002000000: Error Credentials were read (file=/root/.kube/config flags=1 fd=3)\n";
    assert_eq!(replay(&["--priority", "error"]), error);
    assert_eq!(replay(&["-o", "priority=Error"]), error);
    assert_eq!(replay(&["--priority", "critical"]), "");
    assert_eq!(
        replay(&["--priority", "debug", "-o", "priority=critical"]),
        replay(&[]),
        "a name of its own comes last"
    );
}

#[test]
fn one_rule_may_alert_of_an_event_or_all() {
    let first = replay(&["-o", "rule_matching=first"]);
    assert_eq!(first, replay(&[]).replace("00:00:00.001000000: Debug A program was started\n", ""));
    assert_eq!(replay(&["-o", "rule_matching=all"]), replay(&[]));
}

#[test]
fn outputs_are_added_to() {
    let by_rule = r#"append_output[]={"match": {"rule": "Credentials read"}, "extra_output": "by %proc.name", "extra_fields": ["user.uid", {"greeting": "hello %user.name"}]}"#;
    let by_source =
        r#"append_output[]={"match": {"source": "syscall", "tags": []}, "extra_output": "on CPU %evt.cpu"}"#;
    let options = ["--priority", "error", "-o", by_rule, "-o", by_source];
    assert_eq!(
        replay(&options),
        "00:00:00.002000000: Error Credentials were read (file=/root/.kube/config flags=1 fd=3) by sh on CPU 2\n"
    );
    assert_eq!(
        replay(&[&options[..], &["--json"]].concat()),
        concat!(
            r#"{"hostname":"node-1","output":"00:00:00.002000000: Error Credentials were read (file=/root/.kube/config flags=1 fd=3) by sh on CPU 2","output_fields":{"evt.cpu":2,"evt.rawarg.fd":3,"evt.rawarg.flags":"1","evt.time":1767225600002000000,"fd.name":"/root/.kube/config","greeting":"hello www-data","proc.name":"sh","user.uid":33},"priority":"Error","rule":"Credentials read","source":"syscall","tags":[],"time":"2026-01-01T00:00:00.002000000Z"}"#,
            "\n"
        )
    );
}

#[test]
fn a_falco_yaml_says_it_as_well() {
    let folder = folder();
    let yaml = "\
rules_files: [/etc/falco/falco_rules.yaml]
engine: {kind: modern_ebpf}
json_output: false
time_format_iso_8601: true
priority: error
append_output:
  - match: {source: syscall}
    extra_output: on CPU %evt.cpu
stdout_output: {enabled: true}
";
    std::fs::write(folder.path().join("falco.yaml"), yaml).unwrap();
    let replay = |more: &[&str]| {
        run(folder.path(), &[&["replay", "capture.jsonl", "--rules", "rules.yaml", "-c", "falco.yaml"], more].concat())
    };
    let (code, stdout, stderr) = replay(&[]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        stdout,
        "2026-01-01T00:00:00.002000000+0000: Error Credentials were read (file=/root/.kube/config flags=1 fd=3) on CPU 2\n"
    );
    let (_, stdout, _) = replay(&["-o", "time_format_iso_8601=false", "-o", "append_output=[]"]);
    assert_eq!(stdout, "00:00:00.002000000: Error Credentials were read (file=/root/.kube/config flags=1 fd=3)\n");
}

#[test]
fn what_cannot_be_asked_for_is_said() {
    let folder = folder();
    std::fs::write(folder.path().join("falco.yaml"), "json_output: true\npriority: [high]\n").unwrap();
    let said = |options: &[&str]| {
        let (code, stdout, stderr) =
            run(folder.path(), &[&["replay", "capture.jsonl", "--rules", "rules.yaml"], options].concat());
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        stderr
    };
    insta::assert_snapshot!(said(&["-o", "json_outptu=true"]), @r"
    error: -o json_outptu=true: `json_outptu` says nothing of alerts; the keys that do are append_output, append_output[], json_include_message_property, json_include_output_fields_property, json_include_output_property, json_include_tags_property, json_output, priority, rule_matching, time_format_iso_8601
    hint: did you mean `json_output`?
    ");
    insta::assert_snapshot!(said(&["-o", "json_output"]), @"error: -o json_output: `json_output` is not KEY=VALUE");
    insta::assert_snapshot!(said(&["-o", "http_output.enabled=true"]), @"error: -o http_output.enabled=true: `http_output.enabled` says nothing of alerts; the keys that do are append_output, append_output[], json_include_message_property, json_include_output_fields_property, json_include_output_property, json_include_tags_property, json_output, priority, rule_matching, time_format_iso_8601");
    insta::assert_snapshot!(said(&["-o", r#"append_output[]={"extra_output": "%proc.nmae"}"#]), @"error: append_output for rule `Shell started`: unknown field `proc.nmae` in the output at byte 61 of `A shell was started (user=%user.name command=%proc.cmdline) %proc.nmae`");
    insta::assert_snapshot!(said(&["-c", "falco.yaml"]), @"error: falco.yaml:2:11: expected string scalar");
    insta::assert_snapshot!(said(&["-c", "absent.yaml"]), @"error: absent.yaml: No such file or directory (os error 2)");
    insta::assert_snapshot!(said(&["--priority", "urgent"]), @r"
    error: invalid value 'urgent' for '--priority <LEVEL>': `urgent` is not a priority: one of Emergency, Alert, Critical, Error, Warning, Notice, Informational, Debug

    For more information, try '--help'.
    ");
}
