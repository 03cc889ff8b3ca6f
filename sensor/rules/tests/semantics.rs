//! What conditions mean, event by event. Each line is a condition and whether it holds.

use std::sync::Arc;

use cairn_rules::{Alert, RulesFile, load, problem::render, replay};

/// The alerts of a rule with this condition and output on a case's events.
fn alerts(condition: &str, output: &str, events: &str) -> Vec<Alert> {
    let condition = condition.replace('\'', "''");
    let output = output.replace('\'', "''");
    let text = format!(
        "- list: shells\n  items: [bash, zsh]\n- rule: R\n  desc: d\n  condition: '{condition}'\n  output: '{output}'\n  priority: INFO\n"
    );
    let loaded = load(&[RulesFile { path: "rules.yaml", text: &text }]);
    assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    let case = format!(
        "- name: c\n  users: {{1000: alice}}\n  groups: {{50: staff}}\n  hostname: node-1\n  events: [{events}]\n  expect: []\n"
    );
    let parsed = replay::parse(&[RulesFile { path: "case.yaml", text: &case }]);
    assert!(parsed.problems.is_empty(), "{}", render(&parsed.problems));
    replay::run(&Arc::new(loaded.rules), &parsed.cases[0]).alerts
}

fn check(events: &str, conditions: &[(&str, bool)]) {
    for (condition, expected) in conditions {
        let held = !alerts(condition, "o", events).is_empty();
        assert_eq!(held, *expected, "{condition}");
    }
}

const EXEC: &str = "exec: {exe: /usr/bin/curl, args: [/usr/bin/curl, -s, 'http://x/'], uid: 1000, gid: 50, tty: true, cwd: /home/alice, \
    loginuid: 1000, pid: 300, sid: 200, \
    parent: {exe: /bin/bash, args: [-bash], pid: 200, sid: 200, parent: {exe: /usr/sbin/sshd, pid: 100}}}";

const OPEN: &str = "open: {path: ../alice/.ssh/id_rsa, flags: [readwrite, create, O_CLOEXEC], mode: 755, result: 5, \
    process: {exe: /usr/bin/cat, container: true, cwd: /home/bob}}";

const FAILED: &str = "open: {path: /etc/shadow, result: EACCES}";

#[test]
fn processes() {
    check(
        EXEC,
        &[
            ("evt.type = execve", true),
            ("evt.type in (execve, execveat) and proc.name = curl", true),
            ("proc.exe = /usr/bin/curl", true),
            ("proc.exepath endswith /curl", true),
            ("proc.args = \"-s http://x/\"", true),
            ("proc.args[0] = -s", true),
            ("proc.args[2] exists", false),
            ("proc.cmdline = \"curl -s http://x/\"", true),
            ("proc.exeline startswith \"/usr/bin/curl -s\"", true),
            ("proc.cmdnargs = 2", true),
            ("proc.cmdlenargs = 11", true),
            ("proc.cwd = /home/alice/", true),
            ("proc.tty != 0", true),
            ("proc.pid = 300 and proc.ppid = 200 and thread.tid = 300", true),
            ("proc.pname = bash", true),
            ("proc.pexe = -bash", true),
            ("proc.pexepath = /bin/bash", true),
            ("proc.pcmdline = bash", true),
            ("proc.sname = bash", true),
            ("proc.sid = 200", true),
            ("proc.is_sid_leader = false", true),
            ("proc.vpid = 300", true),
            ("proc.duration >= 0", true),
            ("user.name = alice and user.uid = 1000", true),
            ("user.loginname = alice and user.loginuid = 1000", true),
            ("group.name = staff and group.gid = 50", true),
            ("container.id = host", true),
            ("container.id exists", true),
            ("evt.hostname = node-1", true),
            ("evt.res = SUCCESS and evt.rawres = 0 and evt.failed = false", true),
            ("evt.arg.comm = curl and evt.arg.ptid = bash and evt.rawarg.ptid = 200 and evt.arg.uid = alice", true),
            ("evt.rawarg.ptid >= 200", true),
            ("evt.arg[1] = /usr/bin/curl", true),
            ("evt.arg.flags exists", false),
            ("evt.num = 1", true),
        ],
    );
}

#[test]
fn ancestors() {
    check(
        EXEC,
        &[
            ("proc.aname[0] = curl", true),
            ("proc.aname[1] = bash", true),
            ("proc.aname[2] = sshd", true),
            ("proc.aname[3] exists", false),
            ("proc.aname = sshd", true),
            ("proc.aname in (shells)", true),
            // The process is not its own ancestor.
            ("proc.aname = curl", false),
            ("proc.aname endswith shd", true),
            ("proc.aexepath startswith /usr/sbin", true),
            ("proc.apid[2] = 100 and proc.apid in (100)", true),
            ("proc.aname[2] in (nginx, sshd)", true),
        ],
    );
    let orphan = "exec: /bin/sh";
    check(orphan, &[("proc.pname exists", false), ("proc.aname exists", false), ("not proc.aname in (shells)", true)]);
}

#[test]
fn an_absent_field_makes_its_check_false() {
    check(
        EXEC,
        &[
            ("fd.name = x", false),
            ("fd.name != x", false),
            ("not fd.name = x", true),
            ("not fd.name != x", true),
            ("fd.num != 3", false),
            ("fd.name exists", false),
            ("fd.name in (x)", false),
            ("not fd.name in (x)", true),
            ("fd.name = val(proc.name)", false),
            ("proc.name = val(fd.name)", false),
            ("proc.name != val(fd.name)", false),
            // A field nobody supplies is absent too.
            ("container.privileged = true or container.privileged = false", false),
            ("not container.privileged = true", true),
        ],
    );
}

#[test]
fn opens() {
    check(
        OPEN,
        &[
            ("evt.type = openat", true),
            ("fd.name = /home/alice/.ssh/id_rsa", true),
            ("fd.nameraw = ../alice/.ssh/id_rsa", true),
            ("fd.directory = /home/alice/.ssh", true),
            ("fd.filename = id_rsa", true),
            ("fd.type = file and fd.typechar = f", true),
            ("fd.num = 5 and fd.num >= 0", true),
            ("evt.is_open_read = true and evt.is_open_write = true", true),
            ("evt.is_open_exec = true and evt.is_open_create = true", true),
            ("evt.arg.flags = O_CREAT|O_RDWR|O_CLOEXEC", true),
            ("evt.arg.flags contains O_CREAT", true),
            ("evt.arg.mode = 0755", true),
            ("evt.arg.fd = <f>/home/alice/.ssh/id_rsa and evt.rawarg.fd = 5", true),
            ("evt.rawres = 5", true),
            ("fd.name glob /home/*/id_rsa", true),
            ("fd.name glob /home/?", false),
            ("fd.name iglob /HOME/*", true),
            ("fd.name pmatch (/home/*/.ssh, /root)", true),
            ("fd.name pmatch (/home/alice/.ss)", false),
            ("fd.name regex \"/home/[a-z]+/[.]ssh/id_(rsa|dsa)\"", true),
            ("fd.name regex \"/home\"", false),
            ("fd.name icontains ALICE", true),
            ("fd.name startswith anyof (/etc, /home)", true),
            ("fd.name startswith oneof (/home, /home/alice)", false),
            ("fd.name startswith allof (/home, /home/alice)", true),
            ("fd.name != allof (/a, /b)", true),
            ("fd.name startswith anyof ()", false),
            ("container.id != host and user.name = root", true),
            ("basename(fd.name) = id_rsa", true),
            ("toupper(proc.name) = CAT and tolower(proc.name) = cat", true),
            ("len(fd.filename) = 6 and len(fd.filename) > 5", true),
            ("concat(proc.name, \":\", fd.filename) = cat:id_rsa", true),
            ("join(\"/\", (proc.name, fd.filename)) = cat/id_rsa", true),
            ("fd.filename = basename(fd.name)", true),
            ("proc.name != val(proc.pname)", false),
        ],
    );
    let encoded = "exec: {exe: /bin/sh, args: [sh, cm0gLXJm]}";
    check(encoded, &[("b64(proc.args) = \"rm -rf\"", true), ("b64(proc.name) = x", false)]);
    check(
        "open: {path: /etc/, flags: O_DIRECTORY, type: directory}",
        &[
            ("fd.typechar = d and fd.directory = /etc", true),
            ("fd.filename exists", false),
            ("evt.arg.flags contains O_DIRECTORY", true),
        ],
    );
    check("open: {path: /x, syscall: creat}", &[("evt.type = creat and evt.is_open_write = true", true)]);
}

#[test]
fn failed_opens() {
    check(
        FAILED,
        &[
            ("fd.num = -1", true),
            ("evt.rawres = -13", true),
            ("evt.res = EACCES", true),
            ("evt.res startswith E", true),
            ("evt.failed = true", true),
            ("fd.name = /etc/shadow and fd.typechar = f", true),
        ],
    );
}

#[test]
fn numbers_and_texts() {
    check(
        EXEC,
        &[
            ("proc.pid in (1, 300)", true),
            ("proc.pid = 0x12C", true),
            ("proc.pid < 301 and proc.pid <= 300 and proc.pid > 299", true),
            ("proc.pid != 300", false),
            ("user.loginuid = -1", false),
            ("proc.name in ()", false),
            ("proc.name > 1", true),
            ("proc.name contains \"\"", true),
            ("proc.name = Curl", false),
            ("evt.is_async = false and evt.is_async in (true, false)", true),
        ],
    );
    check("exec: /bin/sh", &[("user.loginuid = -1", true), ("user.loginname exists", false)]);
}

#[test]
fn event_arguments_that_are_empty_equal_na() {
    check(
        "exec: {exe: /bin/sh, args: []}",
        &[("evt.arg.exe = <NA>", true), ("proc.exe = <NA>", false), ("proc.exe exists", false)],
    );
}

#[test]
fn output() {
    let rendered = |output: &str, events: &str| alerts("evt.num = 1", output, events).remove(0).output;
    assert_eq!(rendered("user=%user.name %proc.aname[2] %proc.aname[9] 100%%", EXEC), "user=alice sshd <NA> 100%");
    assert_eq!(rendered("%proc.aname", EXEC), "(bash,sshd)");
    assert_eq!(rendered("*%10proc.name|%2proc.name|", EXEC), "curl      |cu|");
    assert_eq!(rendered("%toupper(basename(proc.exepath))", EXEC), "CURL");
    assert_eq!(
        rendered("%evt.time %evt.time.s %evt.time.iso8601", EXEC),
        "00:00:00.001000000 00:00:00 2026-01-01T00:00:00.001000000+0000"
    );
    assert_eq!(rendered("%evt.datetime.s %evt.rawtime.s", EXEC), "2026-01-01 00:00:00 1767225600");
    assert_eq!(rendered("%container.image.repository", EXEC), "<NA>");
    assert_eq!(
        rendered("%evt.args", OPEN),
        "fd=5(<f>/home/alice/.ssh/id_rsa) name=../alice/.ssh/id_rsa(/home/alice/.ssh/id_rsa) flags=4103(O_CREAT|O_RDWR|O_CLOEXEC) mode=0755"
    );
    let alert = alerts("evt.num = 1", "%proc.pid %proc.aname[9] %evt.is_async", EXEC).remove(0);
    let json = alert.to_falco_json("h");
    assert_eq!(json["output_fields"]["proc.pid"], 300);
    assert_eq!(json["output_fields"]["proc.aname[9]"], serde_json::Value::Null);
    assert_eq!(json["output_fields"]["evt.is_async"], false);
}

#[test]
fn bytes_that_are_no_text() {
    let events = r"exec: {exe: '/tmp/\xff\xfe', args: ['a\\b']}";
    check(events, &[("proc.exepath startswith /tmp/", true), (r"proc.exe = 'a\\b'", true)]);
    let alert = alerts("evt.num = 1", "%proc.exepath", events).remove(0);
    assert_eq!(alert.output, "/tmp/\u{fffd}\u{fffd}");
    assert_eq!(serde_json::to_value(&alert).unwrap()["process"]["exe"], "/tmp/\\xff\\xfe");
}

#[test]
fn all_rules_that_hold_alert_in_the_order_they_are_defined() {
    let rule = |name: &str, condition: &str| {
        format!("- rule: {name}\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n")
    };
    let text = [rule("Z", "evt.type = execve"), rule("A", "evt.type != open"), rule("N", "evt.type = open")].concat();
    let loaded = load(&[RulesFile { path: "r", text: &text }]);
    let parsed =
        replay::parse(&[RulesFile { path: "c", text: "- {name: c, events: [exec: /bin/sh], expect: [A, Z]}\n" }]);
    let result = replay::run(&Arc::new(loaded.rules), &parsed.cases[0]);
    assert!(result.passed);
    let names: Vec<&str> = result.alerts.iter().map(|alert| alert.rule.as_str()).collect();
    assert_eq!(names, ["Z", "A"]);
}

#[test]
fn an_exit_is_an_event_of_the_process_that_ends() {
    let events = "exec: {exe: /bin/false, pid: 7}, exit: {process: {pid: 7}, code: 1}";
    let alerts = alerts("evt.type = procexit and proc.name = false and evt.arg.ret = 1", "%evt.arg.sig", events);
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].output, "0");
}

#[test]
fn options_of_a_command_line() {
    check(
        "exec: {exe: /usr/bin/nc, args: [nc, -nl, -p, '4444', -e/bin/sh, --keep-open, '-', -x]}",
        &[
            ("getopt(proc.args, \"nle:p:\")[p] = 4444", true),
            ("getopt(proc.args, \"nle:p:\")[e] endswith sh", true),
            ("basename(getopt(proc.args, \"nle:p:\")[e]) = sh", true),
            ("getopt(proc.args, \"nle:p:\")[n] exists", true),
            // What stands after the first word that is no option is none.
            ("getopt(proc.args, \"nle:p:x\")[x] exists", false),
            ("getopt(proc.args, \"nle:p:\") intersects (e)", true),
            ("getopt(proc.args, \"nle:p:\") in (n, l, p, 4444, e, /bin/sh)", true),
            ("getopt(proc.args, \"nle:p:\") in (n, l, p, e)", false),
            ("getopt(proc.args, \"np:\") intersects (\"?\")", true),
            ("toupper(getopt(proc.args, \"nle:p:\")) intersects (N)", true),
            ("len(getopt(proc.args, \"nle:p:\")) = 6", true),
            ("getopt((proc.args[0], proc.args[1]), \"nlp:\") in (n, l, p, \"\")", true),
            ("getopt((proc.args[40]), \"n\") exists", false),
            ("join(\"|\", getopt(proc.args, \"nle:p:\")) = \"n|l|p|4444|e|/bin/sh\"", true),
            ("join(proc.name, (\"<\", \">\", 1)) = <nc>nc1", true),
            ("concat(proc.name, \":\", proc.args[2]) = nc:4444", true),
            ("join(\"-\", ()) exists", true),
        ],
    );
    check("exec: /bin/true", &[("getopt(proc.args, \"n\") exists", false), ("getopt(proc.args, \"n\") in (n)", false)]);
}
