//! What a load says of files that are wrong, and what it makes of the parts of the format.

use cairn_rules::limits::FILE_BYTES_MAX;
use cairn_rules::problem::render;
use cairn_rules::{Code, Loaded, RulesFile, load};

fn one(text: &str) -> Loaded {
    load(&[RulesFile { path: "rules.yaml", text }])
}

fn said(text: &str) -> String {
    render(&one(text).problems)
}

/// A rule around a condition.
fn rule(condition: &str) -> String {
    format!("- rule: R\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n")
}

/// The problems of a condition in a rule, shortened: code, column and message.
fn of_condition(condition: &str) -> String {
    let loaded = one(&rule(condition));
    let lines = loaded.problems.iter().map(|problem| {
        let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        // The condition begins in column 14.
        format!("{} {}: {}{hint}", problem.code.as_str(), problem.column.saturating_sub(13), problem.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_problem_of_every_file_is_said_at_once() {
    let first = "\
- required_engine_version: 0.58.0
- list: shells
  items: [bash, sh]
- macro: spawned
  condition: evt.type in (execve, execveat) and proc.nmae exists
- rule: One
  desc: d
  condition: >
    spawned and
    proc.name in (shells) and
    fd.name startwith /etc
  output: shell %proc.nam
  priority: SEVERE
  tag: [x]
- rule: Two
  condition: spawnd and proc.pid = bash
  output: x
  priority: INFO
";
    let second = "\
- rule: One
  append: true
- macro: other
  condition: and x
  override: {condition: apend}
- lst: x
- [1]
";
    let third = "a: [1\nb: 2\n";
    let loaded = load(&[
        RulesFile { path: "first.yaml", text: first },
        RulesFile { path: "second.yaml", text: second },
        RulesFile { path: "third.yaml", text: third },
    ]);
    insta::assert_snapshot!(render(&loaded.problems), @r#"
    error[LOAD_ERR_VALIDATE]: the file requires engine 0.58.0, this is 0.57.0
      --> first.yaml:1:28 in required_engine_version "0.58.0"
     1 | - required_engine_version: 0.58.0
       |                            ^
      hint: use a version of the file for this engine, or a newer cairn

    error[LOAD_ERR_COMPILE_CONDITION]: unknown field `proc.nmae`
      --> first.yaml:5:49 in macro "spawned"
     5 |   condition: evt.type in (execve, execveat) and proc.nmae exists
       |                                                 ^
      hint: did you mean `proc.name`?

    error[LOAD_ERR_COMPILE_CONDITION]: an operator is expected, not `startwith`
      --> first.yaml:11:13 in rule "One"
     11 |     fd.name startwith /etc
        |             ^
      hint: did you mean `startswith`?

    error[LOAD_ERR_COMPILE_OUTPUT]: unknown field `proc.nam` in the output
      --> first.yaml:12:18 in rule "One"
     12 |   output: shell %proc.nam
        |                  ^
      hint: did you mean `proc.name`?

    error[LOAD_ERR_YAML_VALIDATE]: `SEVERE` is not a priority: one of Emergency, Alert, Critical, Error, Warning, Notice, Informational, Debug
      --> first.yaml:13:13 in rule "One"
     13 |   priority: SEVERE
        |             ^

    error[LOAD_ERR_YAML_VALIDATE]: `desc` is missing
      --> first.yaml:15:3 in rule "Two"
     15 | - rule: Two
        |   ^
      hint: add `desc:`

    error[LOAD_ERR_COMPILE_CONDITION]: unknown macro `spawnd`
      --> first.yaml:16:14 in rule "Two"
     16 |   condition: spawnd and proc.pid = bash
        |              ^
      hint: did you mean `spawned`?

    error[LOAD_ERR_COMPILE_CONDITION]: `bash` is not a whole number
      --> first.yaml:16:36 in rule "Two"
     16 |   condition: spawnd and proc.pid = bash
        |                                    ^

    error[LOAD_ERR_COMPILE_CONDITION]: `and` where a check is expected
      --> second.yaml:4:14 in macro "other"
     4 |   condition: and x
       |              ^

    error[LOAD_ERR_YAML_VALIDATE]: override of `condition` must be `append` or `replace`
      --> second.yaml:5:25 in macro "other"
     5 |   override: {condition: apend}
       |                         ^

    error[LOAD_ERR_YAML_VALIDATE]: an item is a mapping, not a sequence
      --> second.yaml:7:3
     7 | - [1]
       |   ^
      hint: begin it with `rule:`, `macro:` or `list:`

    error[LOAD_ERR_YAML_PARSE]: not valid YAML: illegal placement of ':' indicator
      --> third.yaml:2:2
     2 | b: 2
       |  ^
      hint: check the indentation and quotes of this line and the one above

    warning[LOAD_UNKNOWN_KEY]: unknown key `tag`
      --> first.yaml:14:3 in rule "One"
     14 |   tag: [x]
        |   ^
      hint: did you mean `tags`?

    warning[LOAD_APPEND_NO_VALUES]: nothing is appended to the rule: there is neither `condition` nor `exceptions`
      --> second.yaml:1:3 in rule "One"
     1 | - rule: One
       |   ^
      hint: use `override` for what else is to change

    warning[LOAD_DEPRECATED_ITEM]: `append: true` is deprecated
      --> second.yaml:2:11 in rule "One"
     2 |   append: true
       |           ^
      hint: write `override: {condition: append}` instead

    warning[LOAD_UNKNOWN_ITEM]: an item of no known kind, with keys lst
      --> second.yaml:6:3
     6 | - lst: x
       |   ^
      hint: did you mean `list`?

    12 error(s), 4 warning(s)
    "#);
}

#[test]
fn what_does_not_fit_its_field() {
    insta::assert_snapshot!(of_condition("evt.type = open and proc.pid contains 1"), @"LOAD_ERR_COMPILE_CONDITION 30: `contains` does not apply to `proc.pid`, a number (use one of: = != < <= > >= in intersects exists)");
    insta::assert_snapshot!(of_condition("evt.type = open and evt.is_open_read = yes"), @"LOAD_ERR_COMPILE_CONDITION 40: `yes` is neither true nor false");
    insta::assert_snapshot!(of_condition("evt.type = open and fd.num in (1, x, 0x1F)"), @"LOAD_ERR_COMPILE_CONDITION 35: `x` is not a whole number");
    insta::assert_snapshot!(of_condition("evt.type = open and proc.name regex \"a(\""), @"LOAD_ERR_COMPILE_CONDITION 37: not a regular expression: unclosed group");
    insta::assert_snapshot!(of_condition("evt.type = open and proc.name regex \"(a{1000}){1000}\""), @"CAIRN_LIMIT 37: a regular expression that compiles to more than 1048576 bytes (shorten repetitions such as `{1,1000}`)");
    insta::assert_snapshot!(of_condition("evt.type = opne"), @"LOAD_ERR_COMPILE_CONDITION 12: `opne` is no event type (did you mean `open`?)");
    insta::assert_snapshot!(of_condition("evt.type = open and fd.sip = 1.2.3"), @"LOAD_ERR_COMPILE_CONDITION 30: `1.2.3` is not an IP address");
    insta::assert_snapshot!(of_condition("evt.type = open and proc.aname[x] = a"), @"LOAD_ERR_COMPILE_CONDITION 21: argument `x` of field `proc.aname` is not a number from 0 to 1023");
    insta::assert_snapshot!(of_condition("evt.type = open and evt.arg.nmae = a"), @"LOAD_ERR_COMPILE_CONDITION 21: `evt.arg.nmae`: no event has an argument of this name (did you mean `name`?)");
    insta::assert_snapshot!(of_condition("evt.type = open and getopt(proc.args, \"x\")[y] exists"), @"LOAD_ERR_COMPILE_CONDITION 44: option `y` is not among the letters of `getopt` (add it to them)");
    insta::assert_snapshot!(of_condition("evt.type = open and getopt(proc.args, \"x\")[xy] exists"), @"LOAD_ERR_COMPILE_CONDITION 44: an option of `getopt` is one letter (write `getopt(...)[t]`)");
    insta::assert_snapshot!(of_condition("evt.type = open and getopt(proc.name, \"x\") exists"), @"LOAD_ERR_COMPILE_CONDITION 21: `getopt` takes a list here, not a text (put it in parentheses: `(proc.name, proc.pname)`)");
    insta::assert_snapshot!(of_condition("evt.type = open and getopt(proc.args) exists"), @"LOAD_ERR_COMPILE_CONDITION 21: `getopt` takes a list of arguments and the options' letters (write `getopt(proc.args, \"nt:\")`, or `getopt(proc.args, \"nt:\")[t]` for the value of one)");
    insta::assert_snapshot!(of_condition("evt.type = open and join(\",\", proc.name) = a"), @"LOAD_ERR_COMPILE_CONDITION 21: `join` takes a list here, not a text (put it in parentheses: `(proc.name, proc.pname)`)");
    insta::assert_snapshot!(of_condition("evt.type = open and concat(proc.name) = a"), @"LOAD_ERR_COMPILE_CONDITION 21: `concat` takes two or more parts (write `concat(proc.name, \"-\", proc.pname)`)");
    insta::assert_snapshot!(of_condition("evt.type = open and tolower(proc.name)[1] = a"), @"LOAD_ERR_COMPILE_CONDITION 40: `tolower` takes no `[]`");
    insta::assert_snapshot!(of_condition("evt.type = open and proc.name = \"a\\x00\""), @"LOAD_ERR_COMPILE_CONDITION 33: a NUL byte in a value (only fields of bytes, such as `evt.buffer`, can hold one)");
    insta::assert_snapshot!(of_condition("evt.type = open and proc.name = val(proc.pid)"), @"LOAD_ERR_COMPILE_CONDITION 37: `proc.name` is a text, `proc.pid` a number (compare fields of one type)");
    insta::assert_snapshot!(of_condition("evt.type = open and proc.name regex val(proc.pname)"), @"LOAD_ERR_COMPILE_CONDITION 41: `regex` cannot take its right side from a field (a regular expression must be written in the rule)");
    insta::assert_snapshot!(of_condition("evt.type = open and evt.buffer bcontains xyz"), @"LOAD_ERR_COMPILE_CONDITION 42: `xyz` is not hexadecimal: two digits for each byte");
}

#[test]
fn blind_spots_are_said() {
    insta::assert_snapshot!(of_condition("evt.type in (open, connect) and fd.sport = ssh and not proc.env[X] = 1"), @"CAIRN_BLIND_SPOT 0: events connect are not supplied; fields fd.sport, proc.env[X] are not supplied: checks on them are false");
    insta::assert_snapshot!(of_condition("evt.type = connect"), @"CAIRN_BLIND_SPOT 0: events connect are not supplied, so the rule can never alert");
    insta::assert_snapshot!(of_condition("proc.name = a"), @"LOAD_NO_EVTTYPE 1: the condition does not say which event types it is for, so it is tried on each event (begin it with a check such as `evt.type in (open, openat)` or a macro that has one)");
    insta::assert_snapshot!(of_condition("evt.type = open and evt.type = creat"), @"LOAD_COMPILE_CONDITION 1: the condition can never hold: its event types exclude each other");
    let loaded = one(&rule("evt.type in (open, connect) and container.privileged = true"));
    assert!(loaded.is_ok());
    assert_eq!(loaded.rules.rules()[0].blind_fields, ["container.privileged"]);
}

#[test]
fn lists_are_put_in() {
    let base = "\
- list: a
  items: [x, \"y z\", '\"q,r\"', 1]
- list: b
  items: [a, w, later]
- list: later
  items: [never]
- list: empty
  items: []
- list: single
  items: [only]
";
    let ok = |condition: &str| {
        let loaded = one(&format!("{base}{}", rule(condition)));
        assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    };
    ok("evt.type = open and proc.name in (b, empty, single) and proc.name in (empty)");
    ok("evt.type = open and proc.name = single and proc.name in b");
    let loaded = one(&format!("{base}{}", rule("evt.type = open and proc.name = a")));
    let error = loaded.errors().next().expect("an error");
    assert_eq!(error.message, "list `a` has 4 values where one is expected");
    let loaded = one(&format!("{base}{}", rule("evt.type = open and proc.name in (singel)")));
    assert!(loaded.is_ok());
    let loaded = one(
        "- list: shell_binaries\n  items: [a]\n- rule: R\n  desc: d\n  condition: evt.type = open and proc.name in (shell_binares)\n  output: o\n  priority: INFO\n",
    );
    assert!(
        loaded.warnings().any(|warning| warning.hint.as_deref().is_some_and(|hint| hint.contains("`shell_binaries`")))
    );
}

#[test]
fn macros_loops_and_order() {
    let text = "\
- macro: a
  condition: b
- macro: b
  condition: a
- macro: c
  condition: c
- rule: R
  desc: d
  condition: evt.type = open and a
  output: o
  priority: INFO
";
    insta::assert_snapshot!(said(text), @r#"
    error[LOAD_ERR_COMPILE_CONDITION]: macro `b` is defined after the macro that uses it
      --> rules.yaml:2:14 in macro "a"
     2 |   condition: b
       |              ^
      hint: move its definition up

    error[LOAD_ERR_COMPILE_CONDITION]: macro `c` refers to itself
      --> rules.yaml:6:14 in macro "c"
     6 |   condition: c
       |              ^

    2 error(s), 0 warning(s)
    "#);
    // Redefining a macro lets it see what came between.
    let text = "\
- macro: a
  condition: proc.name = x
- macro: b
  condition: proc.name = y
- macro: a
  condition: b or proc.name = z
- rule: R
  desc: d
  condition: evt.type = open and a
  output: o
  priority: INFO
";
    assert_eq!(said(text), "0 error(s), 0 warning(s)\n");
}

#[test]
fn overrides_and_appends() {
    let base = "\
- list: shells
  items: [bash]
- macro: shell
  condition: proc.name in (shells)
- rule: R
  desc: d
  condition: evt.type = execve and shell
  output: o
  priority: INFO
  tags: [b]
- rule: S
  desc: d
  condition: evt.type = execve and shell
  output: o
  priority: INFO
  enabled: false
";
    let change = "\
- list: shells
  items: [zsh]
  override: {items: append}
- macro: shell
  condition: and proc.tty != 0
  override: {condition: append}
- rule: R
  condition: and proc.pname exists
  output: \" %proc.name\"
  priority: ALERT
  tags: [a]
  override: {condition: append, output: append, priority: replace, tags: append}
- rule: S
  enabled: true
  override: {enabled: replace}
";
    let loaded = load(&[RulesFile { path: "a.yaml", text: base }, RulesFile { path: "b.yaml", text: change }]);
    assert!(loaded.problems.is_empty(), "{}", render(&loaded.problems));
    let rule = loaded.rules.rule("R").expect("it is there");
    assert_eq!(rule.condition_text, "evt.type = execve and shell and proc.pname exists");
    assert_eq!(rule.output, "o  %proc.name");
    assert_eq!(rule.tags, ["a", "b"]);
    assert_eq!(rule.priority.as_str(), "Alert");
    assert_eq!(rule.line, 5);
    assert!(loaded.rules.rule("S").is_some());

    let wrong = "\
- rule: Q
  condition: and a
  override: {condition: append}
- rule: R
  condition: and a
  desc: x
  override: {condition: append, output: replace, priority: append, colour: replace}
- rule: R
  enabled: false
- rule: R
  append: true
  condition: and proc.tty = 0
- rule: R
  append: true
  desc: x
";
    let loaded = load(&[RulesFile { path: "a.yaml", text: base }, RulesFile { path: "b.yaml", text: wrong }]);
    insta::assert_snapshot!(render(&loaded.problems), @r#"
    error[LOAD_ERR_VALIDATE]: there is no rule `Q` to change
      --> b.yaml:1:9 in rule "Q"
     1 | - rule: Q
       |         ^
      hint: files are read in order: define it in an earlier one

    error[LOAD_ERR_COMPILE_CONDITION]: unknown macro `a`
      --> b.yaml:5:18 in rule "R"
     5 |   condition: and a
       |                  ^
      hint: define it with `- macro:` in one of the rules files

    error[LOAD_ERR_YAML_VALIDATE]: `desc` is given but not overridden
      --> b.yaml:6:3 in rule "R"
     6 |   desc: x
       |   ^
      hint: add `desc: append` or `desc: replace` to `override`, or remove the key

    error[LOAD_ERR_YAML_VALIDATE]: override of `output`, which the item does not have
      --> b.yaml:7:33 in rule "R"
     7 |   override: {condition: append, output: replace, priority: append, colour: replace}
       |                                 ^
      hint: add `output:`

    error[LOAD_ERR_YAML_VALIDATE]: `priority` cannot be overridden so
      --> b.yaml:7:50 in rule "R"
     7 |   override: {condition: append, output: replace, priority: append, colour: replace}
       |                                                  ^
      hint: this may be done to: condition, output, desc, tags, exceptions

    error[LOAD_ERR_YAML_VALIDATE]: `colour` cannot be overridden so
      --> b.yaml:7:68 in rule "R"
     7 |   override: {condition: append, output: replace, priority: append, colour: replace}
       |                                                                    ^
      hint: this may be done to: condition, output, desc, tags, exceptions, priority, capture, capture_duration, enabled, warn_evttypes, skip-if-unknown-filter, cairn

    warning[LOAD_DEPRECATED_ITEM]: a rule with `enabled` alone, to switch an earlier rule
      --> b.yaml:8:3 in rule "R"
     8 | - rule: R
       |   ^
      hint: write `override: {enabled: replace}` beside it

    warning[LOAD_DEPRECATED_ITEM]: `append: true` is deprecated
      --> b.yaml:11:11 in rule "R"
     11 |   append: true
        |           ^
      hint: write `override: {condition: append}` instead

    warning[LOAD_APPEND_NO_VALUES]: nothing is appended to the rule: there is neither `condition` nor `exceptions`
      --> b.yaml:13:3 in rule "R"
     13 | - rule: R
        |   ^
      hint: use `override` for what else is to change

    warning[LOAD_DEPRECATED_ITEM]: `append: true` is deprecated
      --> b.yaml:14:11 in rule "R"
     14 |   append: true
        |           ^
      hint: write `override: {condition: append}` instead

    6 error(s), 4 warning(s)
    "#);
}

#[test]
fn exceptions_become_conditions() {
    let text = "\
- list: trusted
  items: [a, b]
- rule: R
  desc: d
  condition: evt.type = open
  output: o
  priority: INFO
  exceptions:
    - name: tuple
      fields: [proc.name, fd.name]
      comps: [in, startswith]
      values:
        - [[x, (trusted)], /etc]
        - [y, /opt]
    - name: flat
      fields: proc.pname
      values: [trusted, systemd]
    - {name: later, fields: [proc.tty]}
";
    let loaded = one(text);
    assert!(loaded.problems.is_empty(), "{}", render(&loaded.problems));
    let appended = "- rule: R\n  exceptions:\n    - {name: later, values: [[0]]}\n  override: {exceptions: append}\n";
    let loaded = load(&[RulesFile { path: "a", text }, RulesFile { path: "b", text: appended }]);
    assert!(loaded.problems.is_empty(), "{}", render(&loaded.problems));

    let wrong = "\
- rule: R
  desc: d
  condition: evt.type = open
  output: o
  priority: INFO
  exceptions:
    - name: a
      fields: [proc.name, fd.name]
      comps: [in]
    - name: b
      fields: [proc.name, fd.name]
      values: [[x]]
    - name: c
      fields: proc.name
      comps: startswith
    - name: d
      fields: [proc.nmae]
      values: [[x]]
    - name: d
      fields: [proc.name]
      values: [x]
    - name: e
      values: [[x]]
";
    insta::assert_snapshot!(said(wrong), @r#"
    error[LOAD_ERR_YAML_VALIDATE]: 2 fields, but 1 comps
      --> rules.yaml:8:15 in rule "R"
     8 |       fields: [proc.name, fd.name]
       |               ^
      hint: give one comparison for each field

    error[LOAD_ERR_YAML_VALIDATE]: 1 values for 2 fields
      --> rules.yaml:12:16 in rule "R"
     12 |       values: [[x]]
        |                ^
      hint: give one value for each field

    error[LOAD_ERR_YAML_VALIDATE]: `startswith` is not a comparison of exceptions
      --> rules.yaml:15:14 in rule "R"
     15 |       comps: startswith
        |              ^
      hint: a single field is compared by in, pmatch, intersects, or an operator with oneof, anyof or allof

    error[LOAD_ERR_COMPILE_CONDITION]: unknown field `proc.nmae`
      --> rules.yaml:16:13 in rule "R"
     16 |     - name: d
        |             ^
      hint: did you mean `proc.name`?

    error[LOAD_ERR_YAML_VALIDATE]: exception `d` has several fields, and a single value
      --> rules.yaml:19:13 in rule "R"
     19 |     - name: d
        |             ^
      hint: write a sequence with a value for each field

    error[LOAD_ERR_YAML_VALIDATE]: exception `e` has no `fields`
      --> rules.yaml:22:13 in rule "R"
     22 |     - name: e
        |             ^
      hint: add `fields:`

    warning[LOAD_EXCEPTION_NAME_NOT_UNIQUE]: two exceptions named `d`
      --> rules.yaml:19:13 in rule "R"
     19 |     - name: d
        |             ^
      hint: give them different names, or put their values together

    6 error(s), 1 warning(s)
    "#);
}

#[test]
fn rules_may_ask_to_be_skipped() {
    let text = "\
- macro: uses_new
  condition: proc.brand_new = 1
- rule: Skipped
  desc: d
  condition: evt.type = open and uses_new
  output: o
  priority: INFO
  skip-if-unknown-filter: true
- rule: Output
  desc: d
  condition: evt.type = open
  output: \"%proc.brand_new\"
  priority: INFO
  skip-if-unknown-filter: true
- rule: Elsewhere
  desc: d
  condition: evt.type = open
  output: o
  priority: INFO
  source: mainframe
- rule: Stays
  desc: d
  condition: evt.type = open
  output: o
  priority: INFO
";
    let loaded = one(text);
    assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    let codes: Vec<Code> = loaded.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [Code::LoadUnknownFilter, Code::LoadUnknownFilter, Code::LoadUnknownSource]);
    assert_eq!(loaded.rules.rules().len(), 1);
    assert_eq!(loaded.rules.disabled(), ["Skipped", "Output", "Elsewhere"]);
    // One rule that does not ask makes it an error.
    let more = format!(
        "{text}- rule: Other\n  desc: d\n  condition: evt.type = open and uses_new\n  output: o\n  priority: INFO\n"
    );
    assert!(!one(&more).is_ok());
}

#[test]
fn versions() {
    assert!(one("- required_engine_version: 57\n").is_ok());
    assert!(one("- required_engine_version: 0.57.0\n").is_ok());
    assert!(!one("- required_engine_version: 58\n").is_ok());
    assert!(!one("- required_engine_version: 1.0.0\n").is_ok());
    assert!(!one("- required_engine_version: new\n").is_ok());
    let plugin =
        |name: &str, version: &str| format!("- required_plugin_versions:\n  - name: {name}\n    version: {version}\n");
    assert!(one(&plugin("container", "0.4.0")).is_ok());
    assert!(!one(&plugin("container", "0.5.0")).is_ok());
    assert!(!one(&plugin("gcpaudit", "0.1.0")).is_ok());
    let alternatives =
        format!("{}    alternatives: [{{name: container, version: 0.1.0}}]\n", plugin("gcpaudit", "0.1.0"));
    assert!(one(&alternatives).is_ok());
}

#[test]
fn a_file_may_be_as_long_as_the_limit() {
    let at = "#".repeat(FILE_BYTES_MAX);
    assert!(one(&at).is_ok());
    let past = "#".repeat(FILE_BYTES_MAX + 1);
    assert_eq!(one(&past).errors().next().map(|problem| problem.code), Some(Code::CairnLimit));
}

#[test]
fn macros_cannot_blow_up_a_rule() {
    // Each macro doubles the one before: 2^20 checks.
    let mut text = String::from("- macro: m0\n  condition: proc.name = a\n");
    for level in 1..=20 {
        let before = level - 1;
        text.push_str(&format!("- macro: m{level}\n  condition: (m{before} or m{before})\n"));
    }
    text.push_str(&rule("evt.type = open and m20"));
    let loaded = one(&text);
    assert!(loaded.errors().any(|problem| problem.code == Code::CairnLimit), "{}", render(&loaded.problems));
    // Each macro holds the one before: a chain as deep as the stack, were there no limit.
    let mut text = String::from("- macro: m0\n  condition: proc.name = a\n");
    for level in 1..=5_000 {
        text.push_str(&format!("- macro: m{level}\n  condition: not m{}\n", level - 1));
    }
    text.push_str(&rule("evt.type = open and m5000"));
    assert!(one(&text).errors().any(|problem| problem.code == Code::CairnLimit));
}

#[test]
fn empty_files_are_fine() {
    for text in ["", "---\n", "# nothing\n", "---\n---\n"] {
        assert_eq!(said(text), "0 error(s), 0 warning(s)\n");
    }
}
