//! Honeytokens: the rules they make, and what is wrong with a declaration.

use std::sync::Arc;

use cairn_rules::problem::render;
use cairn_rules::{Loaded, RulesFile, Severity, load, replay};

fn loaded(text: &str) -> Loaded {
    load(&[RulesFile { path: "r.yaml", text }])
}

/// Which rules of this declaration alert for a case's events.
fn said(declaration: &str, events: &str) -> Vec<String> {
    let loaded = loaded(&format!("- cairn_honeytokens: H\n{declaration}"));
    assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    let case = format!("- name: c\n  users: {{1000: alice, 2000: svc.old}}\n  expect: []\n  events: [{events}]\n");
    let parsed = replay::parse(&[RulesFile { path: "case.yaml", text: &case }]);
    assert!(parsed.problems.is_empty(), "{}", render(&parsed.problems));
    let mut got = replay::run(&Arc::new(loaded.rules), &parsed.cases[0]).got;
    got.sort();
    got
}

#[test]
fn paths() {
    let declaration = "  paths: [/etc/old.key, /srv/old/, '/home/*/p?ss']\n  allow: [restic, /opt/scan]\n";
    for (event, expected) in [
        ("open: /etc/old.key", true),
        ("open: {path: /etc/old.key, result: EACCES}", true),
        ("open: /etc/old.key.bak", false),
        ("open: /srv/old/a/b", true),
        ("open: /srv/older", false),
        ("open: /home/alice/pass", true),
        ("open: /home/alice/passwd", false),
        ("exec: /srv/old/tool", true),
        ("open: {path: /srv/old/a, process: {exe: /usr/bin/restic}}", false),
        ("open: {path: /srv/old/a, process: {exe: /opt/scan}}", false),
        ("open: {path: /srv/old/a, process: {exe: /tmp/scan}}", true),
    ] {
        assert_eq!(said(declaration, event), ["H: a planted file was opened"][..usize::from(expected)], "{event}");
    }
}

#[test]
fn credentials() {
    // Quotes and backslashes are written otherwise in JSON.
    let declaration = "  credentials: ['AKIAEXAMPLE1', 'a\"b\\cdefg\"']\n";
    assert_eq!(
        said(declaration, "exec: {exe: /bin/x, args: [x, --key=AKIAEXAMPLE1]}"),
        ["H: a planted credential was used"]
    );
    assert_eq!(
        said(declaration, "exec: {exe: /bin/x, env: ['KEY=AKIAEXAMPLE1']}"),
        ["H: a planted credential was used"]
    );
    assert_eq!(
        said(declaration, "exec: {exe: /bin/x, args: [x, 'a\"b\\\\cdefg\"']}"),
        ["H: a planted credential was used"]
    );
    assert_eq!(said(declaration, "exec: {exe: /bin/x, args: [x, AKIAEXAMPLE]}"), [""; 0]);
    let audit = "{source: k8s_audit, document: {kind: Event, apiVersion: audit.k8s.io/v1, note: 'x a\"b\\cdefg\"'}}";
    assert_eq!(said(declaration, audit), ["H: a planted credential in k8s_audit"]);
    let trail = "{source: aws_cloudtrail, document: {eventName: X, userIdentity: {accessKeyId: AKIAEXAMPLE1}}}";
    assert_eq!(said(declaration, trail), ["H: a planted credential in aws_cloudtrail"]);
    assert_eq!(said(&format!("{declaration}  sources: [syscall, json]\n"), trail), [""; 0]);
    let json = "{source: json, document: {key: AKIAEXAMPLE1}}";
    assert_eq!(said(&format!("{declaration}  sources: [json]\n"), json), ["H: a planted credential in json"]);
}

#[test]
fn accounts() {
    let declaration = "  accounts: [svc.old]\n";
    for (event, expected) in [
        ("exec: {exe: /bin/sh, uid: 2000}", true),
        ("exec: {exe: /bin/sh, uid: 1000}", false),
        ("exec: {exe: /bin/sh, loginuid: 2000}", true),
        ("exec: {exe: /bin/su, args: [su, '-', svc.old]}", true),
        ("exec: {exe: /bin/su, args: [su, '-', svcxold]}", false),
        ("exec: {exe: /bin/su, args: [su, '-', svc.older]}", false),
        ("exec: {exe: /usr/bin/ssh, args: [ssh, svc.old@host]}", true),
        ("exec: {exe: /usr/bin/sudo, args: [sudo, --user=svc.old, id]}", true),
        ("exec: {exe: /usr/bin/grep, args: [grep, svc.old]}", false),
    ] {
        assert_eq!(said(declaration, event), ["H: a planted account was used"][..usize::from(expected)], "{event}");
    }
    let audit = "{source: k8s_audit, document: {kind: Event, apiVersion: audit.k8s.io/v1, impersonatedUser: {username: svc.old}}}";
    assert_eq!(said(declaration, audit), ["H: a planted account in k8s_audit"]);
    let trail = "{source: aws_cloudtrail, document: {eventName: X, userIdentity: {type: IAMUser, userName: svc.old}}}";
    assert_eq!(said(declaration, trail), ["H: a planted account in aws_cloudtrail"]);
}

/// A list's name among the values is a value.
#[test]
fn values_are_values() {
    let lists = "- list: shells\n  items: [/etc/passwd]\n- cairn_honeytokens: 100% H\n  paths: [/shells]\n  accounts: [shells]\n";
    let text = format!("{lists}  allow: [shells]\n");
    let loaded = loaded(&text);
    assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    let rule = loaded.rules.rule("100% H: a planted file was opened").expect("made");
    assert!(rule.condition_text.contains("not proc.name in (\"shells\")"), "{}", rule.condition_text);
    assert!(rule.output.starts_with("Honeytoken 100%% H: "), "{}", rule.output);
    assert_eq!((rule.priority.as_str(), rule.tags.as_slice()), ("Critical", &["honeytoken".to_owned()][..]));
}

#[test]
fn what_can_be_set_and_overridden() {
    let text = "- cairn_honeytokens: H\n  paths: [/x]\n  priority: NOTICE\n  tags: [decoy]\n  output: seen %proc.name\n\
                - rule: 'H: a planted file was opened'\n  condition: and not proc.name = cp\n  override: {condition: append}\n";
    let loaded = loaded(text);
    assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    let [rule] = loaded.rules.rules() else { panic!("one rule") };
    assert_eq!((rule.output.as_str(), rule.priority.as_str()), ("seen %proc.name", "Notice"));
    assert_eq!(rule.tags, ["decoy", "honeytoken"]);
    assert!(rule.condition_text.ends_with("and not proc.name = cp"));
}

#[test]
fn mistakes_have_their_place() {
    let mut wrong = Vec::new();
    for (declaration, expected) in [
        ("", "1:3 honeytokens that are none"),
        ("  paths: []\n", "1:3 honeytokens that are none"),
        ("  path: [/x]\n", "2:3 unknown key `path`"),
        ("  paths: /x\n", "2:10 `paths` must be a sequence, not a scalar"),
        ("  paths: [/x, ../y]\n", "2:15 `../y` is no absolute path"),
        ("  paths: [/]\n", "2:11 `/` is no absolute path"),
        ("  paths: ['/*']\n", "2:11 `/*` is no absolute path"),
        ("  credentials: [secret]\n", "2:17 a credential of less than 8 characters would be found everywhere"),
        ("  accounts: [a b]\n", "2:14 `a b` is no account's name"),
        ("  accounts: ['']\n", "2:14 a value that is empty or has control characters"),
        ("  paths: [/x]\n  allow: [bin/x]\n", "3:11 `bin/x` is neither a program's name nor its whole path"),
        ("  paths: [/x]\n  priority: urgent\n", "3:13 `urgent` is not a priority"),
        ("  paths: [/x]\n  sources: [kernel]\n", "3:13 source `kernel` is not known"),
        ("  paths: [/x]\n  sources: [json]\n", "3:13 source `json` sees none of these"),
        ("  paths: [/x]\n  output: '%proc.nmae'\n", "unknown field `proc.nmae` in the output"),
        (
            "  paths: [/x]\n- cairn_honeytokens: H\n  paths: [/y]\n",
            "there is a rule \"H: a planted file was opened\" already",
        ),
    ] {
        let loaded = loaded(&format!("- cairn_honeytokens: H\n{declaration}"));
        let problems = loaded.problems.iter().filter(|it| it.severity == Severity::Error);
        let said: Vec<String> = problems.map(|it| format!("{}:{} {}", it.line, it.column, it.message)).collect();
        if !said.join("; ").contains(expected) {
            wrong.push(format!("{declaration}  says {said:?}\n  not  {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let paths = |count: usize| {
        let paths: Vec<String> = (0..count).map(|number| format!("/x/{number}")).collect();
        loaded(&format!("- cairn_honeytokens: H\n  paths: [{}]\n", paths.join(", "))).is_ok()
    };
    assert!(paths(1_000) && !paths(1_001));
    let long = |len: usize| loaded(&format!("- cairn_honeytokens: H\n  paths: [/{}]\n", "x".repeat(len))).is_ok();
    assert!(long(1_023) && !long(1_024));
}
