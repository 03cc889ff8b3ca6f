//! What conditions mean on calls of every kind: parameters, descriptors, sockets, containers, what a call changes.

use std::sync::Arc;

use cairn_rules::{RulesFile, load, problem::render, replay};

/// What a rule with this condition says on a case's events: its outputs, one for each event it holds for.
fn said(condition: &str, output: &str, case: &str) -> Vec<String> {
    let (condition, output) = (condition.replace('\'', "''"), output.replace('\'', "''"));
    let text = format!("- rule: R\n  desc: d\n  condition: '{condition}'\n  output: '{output}'\n  priority: INFO\n");
    let loaded = load(&[RulesFile { path: "rules.yaml", text: &text }]);
    assert!(loaded.is_ok(), "{}", render(&loaded.problems));
    let case = format!("- name: c\n  users: {{1000: alice}}\n  groups: {{50: staff}}\n  expect: []\n{case}\n");
    let parsed = replay::parse(&[RulesFile { path: "case.yaml", text: &case }]);
    assert!(parsed.problems.is_empty(), "{}", render(&parsed.problems));
    let alerts = replay::run(&Arc::new(loaded.rules), &parsed.cases[0]).alerts;
    alerts.into_iter().map(|alert| alert.output).collect()
}

fn check(events: &str, conditions: &[(&str, bool)]) {
    let case = format!("  events: [{events}]");
    for (condition, expected) in conditions {
        assert_eq!(!said(condition, "o", &case).is_empty(), *expected, "{condition}");
    }
}

fn shown(template: &str, events: &str) -> String {
    said("evt.num > 0", template, &format!("  events: [{events}]")).pop().expect("an event")
}

const CONNECT: &str = "call: {type: connect, result: EINPROGRESS, args: {addr: '203.0.113.7:4444'}, \
    fd: {num: 5, type: ipv4, protocol: tcp, client: '10.1.2.3:40000', server: '203.0.113.7:4444', role: client}, \
    process: {exe: /usr/bin/nc, uid: 1000}}";

#[test]
fn sockets() {
    check(
        CONNECT,
        &[
            ("evt.type = connect and evt.category = net", true),
            ("evt.res = EINPROGRESS and evt.rawres = -115 and evt.failed = true", true),
            ("fd.type = ipv4 and fd.typechar = 4 and fd.num = 5", true),
            ("fd.l4proto = tcp and fd.sockfamily = ip", true),
            ("fd.name = 10.1.2.3:40000->203.0.113.7:4444", true),
            ("fd.sip = 203.0.113.7 and fd.cip = 10.1.2.3", true),
            ("fd.rip = 203.0.113.7 and fd.lip = 10.1.2.3", true),
            ("fd.sport = 4444 and fd.rport = 4444 and fd.cport = 40000 and fd.lport = 40000", true),
            ("fd.snet = 203.0.113.0/24", true),
            ("fd.snet in (10.0.0.0/8, 192.168.0.0/16)", false),
            ("fd.cnet in (10.0.0.0/8, 192.168.0.0/16)", true),
            ("not fd.snet in (10.0.0.0/8, 192.168.0.0/16)", true),
            ("fd.snet != 10.0.0.0/8", true),
            ("fd.snet = ::/0", false),
            ("fd.snet != ::/0", true),
            // Without a direction, `=` holds for either end, `!=` for both.
            ("fd.ip = 10.1.2.3", true),
            ("fd.ip = 203.0.113.7", true),
            ("fd.ip != 203.0.113.7", false),
            ("fd.ip != 8.8.8.8", true),
            ("fd.net = 10.0.0.0/8", true),
            ("fd.net != 10.0.0.0/8", false),
            ("fd.port = 4444", true),
            ("fd.port != 4444", false),
            ("fd.port != 80", true),
            ("fd.port in (80, 40000)", true),
            ("fd.is_server = false", true),
            ("fd.connected = false and fd.name_changed = false", true),
            ("fd.directory exists", false),
            ("fd.filename exists", false),
            ("fd.sip.name exists", false),
            ("evt.arg.addr = 203.0.113.7:4444", true),
            ("evt.arg.res = EINPROGRESS and evt.rawarg.res = -115", true),
            ("evt.is_open_read = true", false),
            ("fs.path.name exists", false),
        ],
    );
    assert_eq!(shown("%fd.name %evt.arg.fd", CONNECT), "10.1.2.3:40000->203.0.113.7:4444 <NA>");
    let server = "call: {type: accept4, result: 7, args: {fd: 7}, \
        fd: {num: 7, type: ipv6, protocol: tcp, client: '[2001:db8::1]:5000', server: '[2001:db8::2]:22', role: server, connected: true}}";
    assert_eq!(shown("%evt.arg.fd", server), "<6t>2001:db8::1:5000->2001:db8::2:22");
    check(
        server,
        &[
            ("fd.rip = 2001:db8::1 and fd.lport = 22 and fd.is_server = true and fd.connected = true", true),
            ("fd.snet = 2001:db8::/32", true),
            ("fd.sport = ssh", true),
        ],
    );
}

#[test]
fn names_of_addresses_are_the_machines() {
    let case = format!("  hosts: {{203.0.113.7: [evil.example, cdn.example]}}\n  events: [{CONNECT}]");
    assert!(!said("fd.sip.name = evil.example", "o", &case).is_empty());
    assert!(!said("fd.sip.name in (x.example, cdn.example)", "o", &case).is_empty());
    assert!(said("fd.cip.name exists", "o", &case).is_empty());
}

#[test]
fn paths_and_modes() {
    let chmod = "call: {type: fchmodat, args: {dirfd: -100, filename: bin/../tool, mode: '04755'}, process: {exe: /bin/chmod, cwd: /opt}}";
    check(
        chmod,
        &[
            ("evt.arg.filename = /opt/tool and evt.rawarg.filename = bin/../tool", true),
            ("evt.arg.mode contains S_ISUID", true),
            ("evt.arg.mode contains S_ISGID", false),
            ("evt.rawarg.mode = 04755", true),
            ("evt.arg.dirfd = AT_FDCWD", true),
            ("fs.path.name = /opt/tool and fs.path.nameraw = bin/../tool", true),
            ("fd.name exists", false),
        ],
    );
    let rename = "call: {type: renameat2, args: {oldpath: a, newpath: /b/c}, process: {exe: /bin/mv, cwd: /tmp}}";
    check(
        rename,
        &[
            ("evt.arg.oldpath = /tmp/a and evt.arg.newpath = /b/c", true),
            ("fs.path.source = /tmp/a and fs.path.target = /b/c and fs.path.sourceraw = a", true),
            ("fs.path.name exists", false),
        ],
    );
    let link = "call: {type: symlinkat, args: {target: /etc/shadow, linkpath: x}, process: {exe: /bin/ln, cwd: /tmp}}";
    check(link, &[("evt.arg.target = /etc/shadow and evt.arg.linkpath = /tmp/x", true)]);
}

#[test]
fn flags_and_constants() {
    check(
        "call: {type: ptrace, args: {request: PTRACE_ATTACH, pid: 1}}",
        &[("evt.arg.request = PTRACE_ATTACH", true), ("evt.rawarg.request = 11", true)],
    );
    check(
        "call: {type: bpf, result: 4, args: {cmd: BPF_PROG_LOAD}}",
        &[("evt.arg.cmd = BPF_PROG_LOAD", true), ("evt.arg.cmd = 5", false), ("evt.rawarg.cmd = 5", true)],
    );
    check(
        "call: {type: socket, result: 3, args: {domain: 17, type: 3, proto: 768}}",
        &[("evt.arg.domain contains AF_PACKET", true)],
    );
    check(
        "call: {type: unshare, args: {flags: CLONE_NEWNS|CLONE_NEWUSER}}",
        &[("evt.arg.flags contains CLONE_NEWUSER", true), ("evt.arg.flags contains CLONE_NEWPID", false)],
    );
    check("call: {type: setuid, args: {uid: 1000}}", &[("evt.arg.uid = alice", true)]);
    check("call: {type: setuid, args: {uid: 4242}}", &[("evt.arg.uid = <NA>", true), ("evt.rawarg.uid = 4242", true)]);
    check("call: {type: kill, args: {pid: 1, sig: 9}}", &[("evt.arg.sig = SIGKILL", true)]);
}

#[test]
fn what_is_sent() {
    let send = "call: {type: sendto, result: 8, args: {data: 'ab\\xca\\xfe\\xba\\xbe', size: 6}, \
        fd: {num: 3, type: ipv4, protocol: udp, client: '10.0.0.1:5', server: '10.0.0.2:53', changed: true}}";
    check(
        send,
        &[
            ("evt.buffer bcontains cafebabe", true),
            ("evt.buffer bcontains beef", false),
            ("evt.buffer bstartswith 6162ca", true),
            ("evt.buffer contains ab", true),
            ("evt.buflen = 6", true),
            ("evt.is_io = true and evt.is_io_write = true and evt.io_dir = w", true),
            ("evt.category = net", true),
            ("fd.name_changed = true and fd.l4proto = udp", true),
            ("evt.arg.data = ab....", true),
        ],
    );
}

#[test]
fn processes_have_more_than_a_name() {
    let exec = "exec: {exe: /proc/self/fd/3, env: ['LD_PRELOAD=/tmp/x.so', HOME=/root], capabilities: [CAP_SYS_ADMIN, CAP_NET_RAW], \
        vpgid: 7, vpid: 7, executable: {ino: 9, changed: 5s, memfd: true, upper_layer: true}}";
    check(
        exec,
        &[
            ("proc.env contains LD_PRELOAD and proc.env[LD_PRELOAD] = /tmp/x.so", true),
            ("proc.env[PATH] exists", false),
            ("thread.cap_effective contains CAP_SYS_ADMIN and thread.cap_permitted contains CAP_NET_RAW", true),
            ("proc.is_exe_from_memfd = true and proc.is_exe_upper_layer = true and proc.is_exe_writable = false", true),
            ("proc.exe_ino = 9 and proc.exe_ino.ctime_duration_proc_start <= 5000000000", true),
            ("proc.is_vpgid_leader = true and proc.vpgid = 7", true),
            ("evt.arg.env contains HOME", true),
        ],
    );
    // What is not known is absent.
    check(
        "exec: /bin/true",
        &[("proc.is_exe_from_memfd exists", false), ("proc.env exists", false), ("thread.cap_effective exists", false)],
    );
}

#[test]
fn a_call_changes_its_process() {
    let case = "  events:\n    - exec: {exe: /usr/bin/su, pid: 50, uid: 1000, cwd: /home}\n\
                \x20   - call: {type: setuid, process: {pid: 50}, args: {uid: 0}, change: {uid: 0, cwd: /root}}\n\
                \x20   - open: {path: x, process: {pid: 50}}";
    let said = said("evt.type in (execve, openat)", "%user.name %proc.cwd %fd.name", case);
    assert_eq!(said, ["alice /home/ <NA>", "root /root/ /root/x"]);
}

#[test]
fn containers_are_what_their_runtime_says() {
    let with = |condition: &str| {
        let case = "  containers: {3f4a9c0b7d21: {image_repository: docker.io/nginx, is_privileged: true, started_at_ns: 1, \
                    pod_name: web-1, pod_namespace: shop, labels: {tier: front}, \
                    mounts: [{source: /proc, destination: /host/proc, mode: rw, is_writable: true, propagation: rprivate}]}}\n\
                    \x20 events: [exec: {exe: /bin/sh, container: true}]";
        !said(condition, "o", case).is_empty()
    };
    assert!(with("container.image.repository = docker.io/nginx and container.privileged = true"));
    assert!(with("container.mounts = /proc:/host/proc:rw:true:rprivate"));
    assert!(with("container.mount.dest[/proc*] = /host/proc"));
    assert!(with("container.mount.dest[/etc*] = N/A"));
    assert!(with("container.mount.source[/host/*] = /proc"));
    assert!(with("k8s.pod.name = web-1 and k8s.ns.name = shop and container.label[tier] = front"));
    assert!(with("container.start_ts = 1"));
    assert!(!with("container.name exists"));
    let unknown = "  events: [exec: {exe: /bin/sh, container: true}]";
    assert!(said("container.privileged exists or container.image.repository exists", "o", unknown).is_empty());
    assert_eq!(said("container.id != host", "%container.image.repository", unknown), ["<NA>"]);
    let host = "  events: [exec: /bin/sh]";
    assert_eq!(said("container.id = host", "%container.name", host), ["host"]);
}

#[test]
fn a_mistake_in_a_call_has_a_place() {
    let case = "- name: c\n  expect: []\n  events:\n    - call: {type: conect}\n    - call: {type: bpf, args: {cmd: BPF_NOTHING}}\n    \
                - call: {type: bpf, args: {comd: 1}}\n    - call: {type: connect, fd: {type: ipv4, server: 10.0.0.1.2}}\n";
    let problems = replay::parse(&[RulesFile { path: "case.yaml", text: case }]).problems;
    let rendered = render(&problems);
    for expected in [
        "`conect` is no event type",
        "did you mean `connect`?",
        "`BPF_NOTHING` is no value of `cmd`, which is of type ENUMFLAGS32",
        "unknown key `comd`",
        "`10.0.0.1.2` is no address with a port",
    ] {
        assert!(rendered.contains(expected), "{expected}\n{rendered}");
    }
    assert!(rendered.contains("case.yaml:4"), "{rendered}");
}

/// Every field that upstream's rules use can be read from an event that has it.
#[test]
fn fields_of_upstream_rules_can_be_read() {
    let everything = cairn_rules::Supply::everything();
    let contract = include_str!("falco-rules/contract.tsv");
    let fields = contract
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split('\t').nth(2).unwrap_or_default().split(','));
    let mut unread: Vec<&str> = fields.filter(|field| !everything.has_field(field)).collect();
    unread.sort_unstable();
    unread.dedup();
    assert_eq!(unread, [""; 0]);
}
