//! Alerts as Falco prints them: text and JSON, its options, what `append_output` adds, and what falcosidekick takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_rules::replay;
use cairn_rules::{Alert, AppendError, AppendOutput, Format, Priority, RuleSet, RulesFile, limits, load};
use serde_json::{Value, json};

const OUTPUTS: &str = include_str!("alerts/outputs.yaml");

/// The event of all cases here: `cat` opens /dev/null.
const EVENT: &str = "{open: {path: /dev/null, type: char, syscall: openat, result: 5, process: {exe: /usr/bin/cat, pid: 300, args: [cat, /dev/null], uid: 1000, parent: {exe: /bin/bash, parent: /usr/sbin/sshd}}}}";

fn rules(output: &str) -> RuleSet {
    let output = serde_json::to_string(output).expect("a text is JSON");
    let text = format!(
        "- rule: open_from_cat\n  desc: d\n  condition: evt.type in (open, openat)\n  output: {output}\n  priority: WARNING\n  tags: [testing, process, filesystem]\n"
    );
    let loaded = load(&[RulesFile { path: "rules.yaml", text: &text }]);
    assert!(loaded.is_ok(), "{}", cairn_rules::problem::render(&loaded.problems));
    loaded.rules
}

fn alert(rules: RuleSet) -> Alert {
    let text = format!("- name: n\n  users: {{1000: alice}}\n  events: [{EVENT}]\n  expect: [open_from_cat]\n");
    let parsed = replay::parse(&[RulesFile { path: "cases.yaml", text: &text }]);
    assert!(parsed.problems.is_empty(), "{}", cairn_rules::problem::render(&parsed.problems));
    let mut result = replay::run(&Arc::new(rules), &parsed.cases[0]);
    assert!(result.passed, "{}", result.reason);
    result.alerts.remove(0)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "source", default)]
    _source: String,
    output: String,
    text: String,
    fields: BTreeMap<String, Value>,
}

#[test]
fn outputs_as_upstream_formats_them() {
    let cases: Vec<Case> = serde_saphyr::from_str(OUTPUTS).unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let alert = alert(rules(&case.output));
        assert_eq!(alert.output, case.text, "{}", case.output);
        let fields: BTreeMap<String, Value> =
            alert.fields.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
        assert_eq!(fields, case.fields, "{}", case.output);
    }
}

#[test]
fn the_documented_alert() {
    let mut alert = alert(rules("An open was seen (command=%proc.cmdline)"));
    alert.time_ns = 1_470_327_477_881_781_397;
    assert_eq!(alert.to_falco_text(), "16:17:57.881781397: Warning An open was seen (command=cat /dev/null)");
    let iso = Format { iso_8601: true, ..Format::default() };
    assert_eq!(
        iso.text(&alert),
        "2016-08-04T16:17:57.881781397+0000: Warning An open was seen (command=cat /dev/null)"
    );
    // The alert that Falco's documentation shows, keys in the order its JSON library writes them.
    assert_eq!(
        iso.json(&alert, "test-falco-hostname").to_string(),
        r#"{"hostname":"test-falco-hostname","output":"2016-08-04T16:17:57.881781397+0000: Warning An open was seen (command=cat /dev/null)","output_fields":{"evt.time.iso8601":1470327477881781397,"proc.cmdline":"cat /dev/null"},"priority":"Warning","rule":"open_from_cat","source":"syscall","tags":["filesystem","process","testing"],"time":"2016-08-04T16:17:57.881781397Z"}"#
    );
}

#[test]
fn each_property_can_be_had_or_not() {
    let alert = alert(rules("line\nnext\t%proc.name"));
    let none = Format {
        iso_8601: false,
        json_output: false,
        json_message: false,
        json_output_fields: false,
        json_tags: false,
    };
    let keys =
        |format: Format| -> Vec<String> { format.json(&alert, "h").as_object().unwrap().keys().cloned().collect() };
    let always = ["hostname", "priority", "rule", "source", "time"];
    assert_eq!(keys(none), always);
    let with = |key: &str| {
        let mut keys: Vec<String> = always.iter().map(|key| (*key).to_owned()).chain([key.to_owned()]).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(Format { json_output: true, ..none }), with("output"));
    assert_eq!(keys(Format { json_message: true, ..none }), with("message"));
    assert_eq!(keys(Format { json_output_fields: true, ..none }), with("output_fields"));
    assert_eq!(keys(Format { json_tags: true, ..none }), with("tags"));

    // Escaped in text, once in JSON (unit_tests/engine/test_formats.cpp).
    assert_eq!(alert.to_falco_text(), "00:00:00.001000000: Warning line\\nnext\\tcat");
    let json = Format { json_message: true, ..Format::default() }.json(&alert, "h");
    assert_eq!(json["message"], "line\nnext\tcat");
    assert_eq!(json["output"], "00:00:00.001000000: Warning line\nnext\tcat");
    assert!(!json.to_string().contains("line\\\\nnext"));
}

fn appended(outputs: &[(&str, &str, &str)], entries: Value) -> Result<RuleSet, AppendError> {
    let text: String = outputs
        .iter()
        .map(|(name, output, tags)| {
            format!("- rule: {name}\n  desc: d\n  condition: evt.type=open\n  output: {output}\n  priority: INFO\n  tags: [{tags}]\n")
        })
        .collect();
    let loaded = load(&[RulesFile { path: "legit_rules.yaml", text: &text }]);
    assert!(loaded.is_ok(), "{}", cairn_rules::problem::render(&loaded.problems));
    loaded.rules.append_output(&serde_json::from_value::<Vec<AppendOutput>>(entries).expect("entries"))
}

fn output(rules: &RuleSet, name: &str) -> String {
    rules.rule(name).expect("the rule is there").output.clone()
}

/// The cases of Falco's unit_tests/engine/test_extra_output.cpp (Apache-2.0).
#[test]
fn extra_output_by_rule_and_tag() {
    let rules = appended(
        &[("legit_rule", "user=%user.name command=%proc.cmdline file=%fd.name", "")],
        json!([{"extra_output": "evt.type=%evt.type"}]),
    );
    assert_eq!(
        output(&rules.unwrap(), "legit_rule"),
        "user=%user.name command=%proc.cmdline file=%fd.name evt.type=%evt.type"
    );

    let two = [("legit_rule", "out 1", ""), ("another_rule", "out 2", "")];
    let rules =
        appended(&two, json!([{"match": {"rule": "legit_rule"}, "extra_output": "evt.type=%evt.type"}])).unwrap();
    assert_eq!(output(&rules, "legit_rule"), "out 1 evt.type=%evt.type");
    assert_eq!(output(&rules, "another_rule"), "out 2");

    let three =
        [("legit_rule", "out 1", "tag1"), ("another_rule", "out 2", "tag1"), ("a_third_rule", "out 3", "tag1, tag2")];
    let entries = json!([
        {"match": {"tags": ["tag1"]}, "extra_output": "extra 1"},
        {"match": {"rule": "another_rule"}, "extra_output": "extra 2"},
        {"match": {"tags": ["tag1", "tag2"]}, "extra_output": "extra 3"},
    ]);
    let rules = appended(&three, entries).unwrap();
    assert_eq!(output(&rules, "legit_rule"), "out 1 extra 1");
    assert_eq!(output(&rules, "another_rule"), "out 2 extra 1 extra 2");
    assert_eq!(output(&rules, "a_third_rule"), "out 3 extra 1 extra 3");
}

#[test]
fn extra_fields_are_json_only() {
    let entries: Vec<AppendOutput> = serde_json::from_value(json!([{
        "match": {"source": "syscall"},
        "extra_output": "on %evt.type",
        "extra_fields": ["user.uid", {"my_field": "hello %evt.num"}],
    }]))
    .unwrap();
    let alert = alert(rules("cat %proc.name").append_output(&entries).unwrap());
    assert!(alert.to_falco_text().ends_with(": Warning cat cat on openat"), "{}", alert.to_falco_text());
    assert_eq!(
        alert.to_falco_json("h")["output_fields"],
        json!({"evt.time": alert.time_ns, "evt.type": "openat", "my_field": "hello 1", "proc.name": "cat", "user.uid": 1000})
    );
}

#[test]
fn what_containers_suggest() {
    let rules = appended(&[("r", "out", "")], json!([{"suggested_output": true}])).unwrap();
    assert_eq!(
        output(&rules, "r"),
        "out container_id=%container.id container_name=%container.name container_image_repository=%container.image.repository container_image_tag=%container.image.tag k8s_pod_name=%k8s.pod.name k8s_ns_name=%k8s.ns.name"
    );
    let rules =
        appended(&[("r", "out", "")], json!([{"match": {"source": "k8s_audit"}, "suggested_output": true}])).unwrap();
    assert_eq!(output(&rules, "r"), "out");
}

#[test]
fn what_cannot_be_added() {
    let error = |entries: Value| appended(&[("r", "out", "")], entries).unwrap_err().to_string();
    assert_eq!(
        error(json!([{"extra_output": "%proc.nmae"}])),
        "append_output for rule `r`: unknown field `proc.nmae` in the output at byte 5 of `out %proc.nmae`"
    );
    assert_eq!(
        error(json!([{"extra_fields": ["nothing"]}])),
        "append_output for rule `r`: unknown field `nothing` in the output at byte 1 of `%nothing`"
    );
    let many = |count: usize| Value::Array(vec![json!({"match": {"rule": "other"}, "extra_output": "x"}); count]);
    assert!(appended(&[("r", "out", "")], many(limits::APPEND_MAX)).is_ok());
    assert!(error(many(limits::APPEND_MAX + 1)).contains("more than 256"));
}

#[test]
fn outputs_of_rules_over_more_than_one_event_are_added_to() {
    let text = "\
- rule: Opened then read
  desc: d
  condition: evt.type = execve
  output: o
  priority: INFO
  cairn:
    sequence: {after: evt.type = openat, by: [{after: fd.name, then: proc.exepath}], within: 1m}
    output: \"%proc.name after %cairn.first.fd.name\"
";
    let loaded = load(&[RulesFile { path: "rules.yaml", text }]);
    assert!(loaded.is_ok(), "{}", cairn_rules::problem::render(&loaded.problems));
    let entries = json!([{"extra_output": "by %cairn.first.proc.name", "extra_fields": ["cairn.first.evt.num", {"w": "%cairn.window"}]}]);
    let entries: Vec<AppendOutput> = serde_json::from_value(entries).unwrap();
    let rules = Arc::new(loaded.rules.append_output(&entries).unwrap());
    let text = "- {name: n, expect: [Opened then read], events: [open: {path: /bin/x, process: {exe: /bin/cp}}, exec: /bin/x]}\n";
    let parsed = replay::parse(&[RulesFile { path: "cases.yaml", text }]);
    let result = replay::run(&rules, &parsed.cases[0]);
    assert!(result.passed, "{}", result.reason);
    let alert = &result.alerts[0];
    assert_eq!(alert.output, "x after /bin/x by cp");
    let fields = &alert.to_falco_json("h")["output_fields"];
    assert_eq!((&fields["cairn.first.evt.num"], &fields["w"]), (&json!(1), &json!("1m")));
}

#[test]
fn a_threshold_drops_rules() {
    assert_eq!(rules("x").at_least(Priority::Warning).rules().len(), 1);
    assert_eq!(rules("x").at_least(Priority::Debug).rules().len(), 1);
    let dropped = rules("x").at_least(Priority::Error);
    assert_eq!(dropped.rules().len(), 0);
    assert_eq!(dropped.disabled(), ["open_from_cat"]);
}

/// What falcosidekick's handler refuses (`handlers.go`, `newFalcoPayload`), and what its outputs take for granted.
#[test]
fn falcosidekick_takes_every_alert() {
    for output in ["no field at all", "%proc.name %k8s.ns.name %k8s.pod.name", "%evt.time"] {
        let json = alert(rules(output)).to_falco_json("h");
        let priority = json["priority"].as_str().unwrap();
        assert!(Priority::ALL.iter().any(|known| known.as_str() == priority));
        assert!(!json["rule"].as_str().unwrap().is_empty());
        let time = json["time"].as_str().unwrap();
        assert!(time.len() == 30 && time.ends_with('Z') && &time[10..11] == "T" && !time.starts_with("0001"), "{time}");
        let fields = json["output_fields"].as_object().unwrap();
        assert!(!fields.is_empty(), "it refuses alerts without fields");
        for name in ["k8s.ns.name", "k8s.pod.name"] {
            assert!(fields.get(name).is_none_or(|value| value.is_null() || value.is_string()), "{name}");
        }
        assert!(json["tags"].as_array().unwrap().iter().all(Value::is_string));
    }
}
