//! Rules for sources that are not the kernel: what they may say, what they mean, what is wrong with them.

use std::sync::Arc;

use cairn_rules::event::Event;
use cairn_rules::problem::render;
use cairn_rules::source::Intake;
use cairn_rules::{Code, Engine, Evaluator, Limits, Loaded, RuleSet, RulesFile, Sources, load, replay};
use proptest::prelude::*;
use serde_json::{Value, json};

const K8S: &str = include_str!("sources/k8s_audit.yaml");
const CLOUD: &str = include_str!("sources/aws_cloudtrail.yaml");
const CASES: &str = include_str!("sources/cases.yaml");
const LOG: &str = include_str!("sources/audit.jsonl");

fn one(text: &str) -> Loaded {
    load(&[RulesFile { path: "rules.yaml", text }])
}

fn said(text: &str) -> String {
    render(&one(text).problems)
}

fn rules(text: &str) -> Arc<RuleSet> {
    let loaded = one(text);
    assert!(loaded.problems.is_empty(), "{}", render(&loaded.problems));
    Arc::new(loaded.rules)
}

fn rule(name: &str, source: &str, condition: &str, output: &str) -> String {
    let condition = condition.replace('\'', "''");
    format!(
        "- rule: {name}\n  desc: d\n  condition: '{condition}'\n  output: '{output}'\n  priority: INFO\n  source: {source}\n"
    )
}

/// The outputs of a text's alerts on a body.
fn alerts(text: &str, source: &str, body: &str) -> Vec<String> {
    let taken = Intake::new(rules(text)).take(source, body.as_bytes(), 7).expect("the body is taken");
    taken.into_iter().flat_map(|taken| taken.alerts).map(|alert| alert.output).collect()
}

#[test]
fn rules_for_audit_logs_pass_their_cases() {
    let files =
        [RulesFile { path: "k8s_audit.yaml", text: K8S }, RulesFile { path: "aws_cloudtrail.yaml", text: CLOUD }];
    let loaded = load(&files);
    assert!(loaded.problems.is_empty(), "{}", render(&loaded.problems));
    let rules = Arc::new(loaded.rules);
    let cases = [RulesFile { path: "tests/cases.yaml", text: CASES }];
    let attachments = [replay::Attachment { path: "tests/audit.jsonl", bytes: LOG.as_bytes() }];
    let parsed = replay::parse_with(&cases, &attachments);
    assert!(parsed.problems.is_empty(), "{}", render(&parsed.problems));
    let results: Vec<_> = parsed.cases.iter().map(|case| replay::run(&rules, case)).collect();
    for result in &results {
        assert!(result.passed, "{}: {} (got {:?})", result.name, result.reason, result.got);
    }
    let coverage = replay::coverage(&rules, &results);
    assert_eq!(coverage.percent(), 100, "{:?}", coverage.uncovered().collect::<Vec<_>>());
}

#[test]
fn an_alert_on_a_document_has_falcos_shape() {
    let body = r#"{"auditID": "a", "stage": "ResponseComplete", "stageTimestamp": "2026-01-02T03:04:05.000006Z", "verb": "create",
        "user": {"username": "eve"}, "objectRef": {"resource": "pods", "namespace": "default"}, "responseObject": {"metadata": {"name": "bad"}},
        "requestObject": {"spec": {"containers": [{"image": "evil:1", "securityContext": {"privileged": true}}]}}}"#;
    let taken = Intake::new(rules(K8S)).take("k8s_audit", body.as_bytes(), 7).unwrap();
    assert_eq!(taken[0].foreign_id.as_deref(), Some("a/ResponseComplete"));
    let source = Sources::built_in().get("k8s_audit").unwrap();
    assert_eq!(source.personal_fields(&taken[0].alerts[0]), ["ka.user.name"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&taken[0].alerts[0].to_falco_json("control")).unwrap(), @r##"
    {
      "hostname": "control",
      "output": "03:04:05.000006000: Warning Privileged pod (user=eve pod=bad ns=default images=(evil:1))",
      "output_fields": {
        "evt.time": 1767323045000006000,
        "ka.req.pod.containers.image": [
          "evil:1"
        ],
        "ka.resp.name": "bad",
        "ka.target.namespace": "default",
        "ka.user.name": "eve"
      },
      "priority": "Warning",
      "rule": "Privileged pod",
      "source": "k8s_audit",
      "tags": [
        "k8s"
      ],
      "time": "2026-01-02T03:04:05.000006000Z"
    }
    "##);
}

/// Conditions as rules for these plugins use them, and fields of their outputs: each must load for its source without a word.
#[test]
fn what_falcos_rules_for_these_plugins_ask_for_is_there() {
    let k8s = [
        "jevt.rawtime exists",
        "jevt.rawtime=0",
        "jevt.value[/stage] in (\"ResponseComplete\")",
        "jevt.value[/stage]=ResponseStarted",
        "jevt.value[/requestObject/spec/tls] exists",
        "not ka.user.name startswith \"system:\"",
        "not ka.user.name in (admin, \"system:addon-manager\")",
        "ka.response.code startswith 2",
        "ka.verb in (create,update,patch)",
        "ka.target.resource=pods and not ka.target.subresource exists",
        "ka.target.subresource in (exec,attach)",
        "ka.target.namespace!=kube-system",
        "ka.target.name startswith \"system:\"",
        "ka.uri=/healthz or ka.uri startswith /healthz?",
        "ka.auth.decision=\"allow\"",
        "ka.req.pod.containers.privileged intersects (true)",
        "not ka.req.pod.containers.image.repository in (docker.io/calico/node, calico/node)",
        "not ka.req.pod.containers.image.repository in ()",
        "ka.req.pod.volumes.hostpath intersects (/proc, /, /etc)",
        "ka.req.pod.host_network intersects (true)",
        "ka.req.pod.host_pid intersects (true)",
        "ka.req.pod.host_ipc intersects (true)",
        "ka.req.service.type=NodePort",
        "ka.req.configmap.obj contains \"aws_access_key_id\"",
        "ka.req.binding.role=cluster-admin",
        "ka.req.role.rules.resources intersects (\"*\") or ka.req.role.rules.verbs intersects (\"*\")",
    ];
    let shown = "%ka.user.name %ka.target.name/%ka.target.resource %ka.verb %ka.uri %ka.response.code %ka.resp.name %ka.target.namespace \
        %ka.req.pod.containers.image %jevt.value[/requestObject/spec/volumes] %ka.req.service.ports %ka.req.configmap.name \
        %ka.req.configmap.obj %ka.auth.reason)) %ka.target.subresource %ka.uri.param[command] \
        %jevt.value[/requestObject/ephemeralContainers/0/name] %ka.req.binding.subjects %ka.req.role.rules %ka.auth.decision \
        %jevt.obj %ka.response.reason";
    let cloud = [
        "evt.num > 0",
        "ct.name=\"ConsoleLogin\" and not ct.error exists",
        "ct.user.identitytype!=\"AssumedRole\"",
        "json.value[/responseElements/ConsoleLogin]=\"Success\"",
        "json.value[/requestParameters/publicAccessBlock]=\"\"",
        "json.value[/requestParameters/PublicAccessBlockConfiguration/BlockPublicAcls]=false",
        "ct.request.username=\"AWS ROOT USER\"",
        "ct.src=\"ecs.amazonaws.com\"",
        "not ct.region in (us-east-0)",
    ];
    let cloud_shown = "evtnum=%evt.num info=%evt.plugininfo ts=%evt.time.iso8601 id=%ct.id error=%ct.error %ct.user.principalid, %ct.user.arn \
        %ct.srcip %ct.region) %ct.user %ct.request.serialnumber %ct.request.groupname %ct.request.cluster %ct.request.servicename \
        %ct.request.taskdefinition %ct.request.functionname %ct.request.availabilityzone %ct.response.subnetid \
        %ct.response.reservationid %json.value[/responseElements/instancesSet/items/0/instanceId] %s3.bucket %ct.request.host \
        %ct.request.policy %ct.request.name";
    let versions = "- required_engine_version: 15\n- required_plugin_versions:\n  - name: k8saudit\n    version: 0.7.0\n    alternatives:\n    \
        - {name: k8saudit-eks, version: 0.4.0}\n  - {name: json, version: 0.7.0}\n  - {name: cloudtrail, version: 0.8.0}\n";
    for (source, conditions, output) in [("k8s_audit", &k8s[..], shown), ("aws_cloudtrail", &cloud[..], cloud_shown)] {
        for condition in conditions {
            rules(&format!("{versions}{}", rule("R", source, condition, output)));
        }
    }
}

/// The shapes in which those rules are written: trailing commas, conditions over several plain lines, empty lists in lists, names of macros that
/// are words, colons in values.
#[test]
fn the_shapes_of_falcos_rules_for_these_plugins_load() {
    let text = r#"
- required_engine_version: 15

- list: k8s_stages
  items: ["ResponseComplete"]

- list: nobody
  items: []

- list: users
  items: [
    "minikube", "kube-proxy",
    nobody,
    cluster-autoscaler,
    "system:addon-manager",
    ]

- macro: always
  condition: (jevt.rawtime exists)

- macro: kevt
  condition: (jevt.value[/stage] in (k8s_stages))

- macro: role
  condition: ka.target.resource=roles

- macro: pod
  condition: ka.target.resource=pods and not ka.target.subresource exists

- macro: allowed
  condition: (ka.req.pod.containers.image.repository in (nobody) or
              ka.req.pod.containers.image.repository in (users))

- rule:  Spaced out
  desc: >
     Detect what is written so
  condition: kevt and (role or pod) and (ka.target.name startswith "system:") and
             not ka.target.name in (system:coredns, system:managed-certificate-controller) and not allowed
             and not ka.user.name in (users) and always
  output: Role (user=%ka.user.name obj=%jevt.obj reason=%ka.auth.reason))
  priority: WARNING
  source: k8s_audit
  tags: [k8s]

- rule: Over lines
  desc: d
  condition:
    ct.name="ConsoleLogin" and not ct.error exists
    and (json.value[/a/b]=false or
      json.value[/a/c]="")
  output:
    Detected
    (principal=%ct.user.principalid,
    image id=%json.value[/responseElements/instancesSet/items/0/instanceId])
  priority: WARNING
  tags:
  - cloud
  source: aws_cloudtrail
"#;
    let role = r#"{"stage": "ResponseComplete", "objectRef": {"resource": "roles", "name": "system:x"}, "user": {"username": "eve"}}"#;
    assert_eq!(alerts(text, "k8s_audit", role).len(), 1);
    assert!(alerts(text, "k8s_audit", &role.replace("eve", "system:addon-manager")).is_empty());
    let login = r#"{"eventName": "ConsoleLogin", "a": {"c": ""}}"#;
    assert_eq!(alerts(text, "aws_cloudtrail", login), ["Detected (principal=<NA>, image id=<NA>)"]);
}

#[test]
fn in_wants_all_of_a_list_and_intersects_any() {
    let body = r#"{"user": {"groups": ["dev", "ops"]}}"#;
    for (condition, expected) in [
        ("ka.user.groups in (dev, ops, all)", true),
        ("ka.user.groups in (dev)", false),
        ("ka.user.groups intersects (dev)", true),
        ("ka.user.groups intersects (sec)", false),
        ("ka.user.groups exists", true),
        ("not ka.req.pod.containers.image in ()", true),
        ("ka.req.pod.containers.image exists", false),
        ("json.value[/user/groups/0] = dev", true),
        ("json.value[/user/groups] = '[\"dev\",\"ops\"]'", true),
        ("json.value[/user/none] != x", false),
        ("not json.value[/user/none] = x", true),
        ("evt.source = k8s_audit and evt.type = pluginevent", true),
        ("evt.rawtime = 7", true),
        ("tolower(evt.pluginname) = k8saudit", true),
    ] {
        let held = !alerts(&rule("R", "k8s_audit", &format!("evt.num > 0 and ({condition})"), "o"), "k8s_audit", body)
            .is_empty();
        assert_eq!(held, expected, "{condition}");
    }
}

#[test]
fn a_macro_is_compiled_for_each_source_that_uses_it() {
    let text = format!(
        "- macro: loud\n  condition: (evt.num >= 0)\n- macro: by_root\n  condition: (ka.user.name = root)\n{}{}{}",
        rule("Cluster", "k8s_audit", "loud and by_root", "cluster"),
        rule("Cloud", "aws_cloudtrail", "loud and ct.user = root", "cloud"),
        rule("Machine", "syscall", "evt.type = execve and loud and user.name = root", "machine"),
    );
    assert_eq!(alerts(&text, "k8s_audit", r#"{"user": {"username": "root"}}"#), ["cluster"]);
    assert_eq!(alerts(&text, "aws_cloudtrail", r#"{"userIdentity": {"type": "Root", "userName": "root"}}"#), ["cloud"]);
    // A macro that fits another source only is wrong in a rule for this one; unused ones are wrong when they fit none.
    let wrong = format!(
        "- macro: by_root\n  condition: ka.user.name = root\n- macro: fine\n  condition: ct.user = x\n- macro: bad\n  condition: ct.usr = x and ct.name = y\n{}",
        rule("Machine", "syscall", "evt.type = execve and by_root", "machine")
    );
    insta::assert_snapshot!(said(&wrong), @r##"
    error[LOAD_ERR_COMPILE_CONDITION]: field `ka.user.name` is one of source `k8s_audit`, which the rule is not for
      --> rules.yaml:2:14 in macro "by_root"
     2 |   condition: ka.user.name = root
       |              ^
      hint: write `source: k8s_audit` in the rule

    error[LOAD_ERR_COMPILE_CONDITION]: unknown field `ct.usr`
      --> rules.yaml:6:14 in macro "bad"
     6 |   condition: ct.usr = x and ct.name = y
       |              ^
      hint: did you mean `ct.user`?

    2 error(s), 0 warning(s)
    "##);
}

#[test]
fn fields_of_another_source_are_said_to_be() {
    insta::assert_snapshot!(said(&rule("R", "k8s_audit", "ka.vreb = get or proc.name = sh or ka.uri.param = a or ka.verb[1] = b or ka.sourceips[x] exists", "%ct.user %ka.verb")), @r##"
    error[LOAD_ERR_COMPILE_CONDITION]: unknown field `ka.vreb`
      --> rules.yaml:3:15 in rule "R"
     3 |   condition: 'ka.vreb = get or proc.name = sh or ka.uri.param = a or ka.verb[1] = b or ka.sourceips[
       |               ^
      hint: did you mean `ka.verb`?

    error[LOAD_ERR_COMPILE_CONDITION]: field `proc.name` is one of source `syscall`, which the rule is not for
      --> rules.yaml:3:32 in rule "R"
     3 |   condition: 'ka.vreb = get or proc.name = sh or ka.uri.param = a or ka.verb[1] = b or ka.sourceips[
       |                                ^
      hint: write `source: syscall` in the rule

    error[LOAD_ERR_COMPILE_CONDITION]: field `ka.uri.param` needs an argument in `[]`
      --> rules.yaml:3:50 in rule "R"
     3 |   condition: 'ka.vreb = get or proc.name = sh or ka.uri.param = a or ka.verb[1] = b or ka.sourceips[
       |                                                  ^
      hint: write `ka.uri.param[...]`

    error[LOAD_ERR_COMPILE_CONDITION]: field `ka.verb` takes no argument in `[]`
      --> rules.yaml:3:70 in rule "R"
     3 |   condition: 'ka.vreb = get or proc.name = sh or ka.uri.param = a or ka.verb[1] = b or ka.sourceips[
       |                                                                      ^

    error[LOAD_ERR_COMPILE_CONDITION]: argument `x` of field `ka.sourceips` is not a number from 0 to 1023
      --> rules.yaml:3:88 in rule "R"
     3 |  'ka.vreb = get or proc.name = sh or ka.uri.param = a or ka.verb[1] = b or ka.sourceips[x] exists'
       |                                                                            ^

    error[LOAD_ERR_COMPILE_OUTPUT]: unknown field `ct.user` in the output
      --> rules.yaml:4:13 in rule "R"
     4 |   output: '%ct.user %ka.verb'
       |             ^
      hint: it is a field of source `aws_cloudtrail`: write `source: aws_cloudtrail` in the rule

    6 error(s), 0 warning(s)
    "##);
    insta::assert_snapshot!(said(&rule("R", "k8s_adit", "ka.verb = get", "o")), @r##"
    warning[LOAD_UNKNOWN_SOURCE]: source `k8s_adit` is not known: the rule is skipped
      --> rules.yaml:6:11 in rule "R"
     6 |   source: k8s_adit
       |           ^
      hint: did you mean `k8s_audit`?

    0 error(s), 1 warning(s)
    "##);
    insta::assert_snapshot!(said(&rule("R", "okta", "okta.mfa.deny.countlast[300] >= 3", "%okta.org %evt.reltime")), @r##"
    warning[CAIRN_BLIND_SPOT]: fields okta.mfa.deny.countlast[300] are not supplied: checks on them are false; output fields evt.reltime, okta.org are not supplied: they are printed as <NA>
      --> rules.yaml:1:9 in rule "R"
     1 | - rule: R
       |         ^

    0 error(s), 1 warning(s)
    "##);
}

const DECLARED: &str = "\
- cairn_source: github_audit
  doc: GitHub's audit log
  time: /@timestamp
  time_unit: ms
  id: '{/_document_id}'
  batch: /events
  info: '{gh.actor} {gh.action}'
  fields:
    - {name: gh.action, path: /action, doc: what was done}
    - {name: gh.actor, paths: [/actor, /user], default: nobody}
    - {name: gh.public, kind: boolean, path: /public_repo}
    - {name: gh.size, kind: number, path: /size}
    - {name: gh.total, kind: number, sum: [/size, /extra]}
    - {name: gh.teams, kind: list, path: '/teams/*/name', argument: index}
    - {name: gh.admins, kind: list, each: '/members/*[role=admin]', text: '{/name}@{$/org}'}
    - {name: gh.where, text: '{$/org}/{/repo?}'}
    - {name: gh.kind, cases: [{when: {path: /action, prefix: [repo.]}, value: repository}, {value: other}]}
    - {name: gh.param, argument: key, query: /url}
";

#[test]
fn a_rules_file_declares_a_source() {
    let body = r#"{"events": [{"action": "repo.access", "@timestamp": 1596628127250, "_document_id": "d1", "org": "acme", "public_repo": true,
        "size": 5, "extra": 2.9, "teams": [{"name": "a"}, {"name": "b"}], "url": "/x?y=z",
        "members": [{"role": "admin", "name": "eve"}, {"role": "member", "name": "bob"}]}, {"action": "org.update"}]}"#;
    let text = format!(
        "{DECLARED}{}",
        rule(
            "R",
            "github_audit",
            "gh.kind = repository and gh.public = true and gh.size >= 5 and gh.teams intersects (b) and gh.teams[0] in (a)",
            "%evt.plugininfo %gh.total %gh.teams %gh.admins %gh.where %gh.param[y] %json.value[/org] %evt.time.iso8601 %evt.pluginname"
        )
    );
    assert_eq!(
        alerts(&text, "github_audit", body),
        ["nobody repo.access 7 (a,b) (eve@acme) acme/ z acme 2020-08-05T11:48:47.250000000+0000 github_audit"]
    );
    let rules = rules(&text);
    let source = rules.sources().get("github_audit").unwrap();
    let ids: Vec<_> = source.read(body.as_bytes(), 7).unwrap().iter().map(|event| source.foreign_id(event)).collect();
    assert_eq!(ids, [Some("d1".to_owned()), None]);
    assert!(rules.wants_source("github_audit") && !rules.wants_source("okta"));
}

#[test]
fn what_is_wrong_with_a_declaration_is_said_with_its_place() {
    insta::assert_snapshot!(said("\
- cairn_source: my source
  time_unit: hours
  feilds: []
- cairn_source: syscall
- cairn_source: k8s_audit
- cairn_source: mine
  fields:
    - {name: user, path: /a}
    - {name: a.b, path: a/b}
    - {name: a.c, path: /a, paths: [/b]}
    - {name: a.d}
    - {name: a.e, kind: txt, path: /a}
    - {name: a.f, path: /a, argument: index}
    - {name: a.g, text: '{a.z} {/b'}
    - {name: a.h, cases: [{when: {path: /x}, value: y}]}
    - {name: a.i, query: /url}
    - {name: a.j, path: '/a/*[x]'}
    - {name: evt.time, path: /a}
    - {name: a.k, path: /a, join: ';'}
    - x
"), @r##"
error[LOAD_ERR_EXTENSION]: `my source` cannot be a source's name
  --> rules.yaml:1:17 in cairn_source "my source"
 1 | - cairn_source: my source
   |                 ^
  hint: use letters, digits and underscores, a letter first

error[LOAD_ERR_EXTENSION]: `hours` is no unit of time
  --> rules.yaml:2:14 in cairn_source "my source"
 2 |   time_unit: hours
   |              ^
  hint: one of s, ms, us, ns: what a time that is a number counts

error[LOAD_ERR_EXTENSION]: unknown key `feilds`
  --> rules.yaml:3:3 in cairn_source "my source"
 3 |   feilds: []
   |   ^
  hint: did you mean `fields`?

error[LOAD_ERR_VALIDATE]: source `syscall` is built in
  --> rules.yaml:4:3 in cairn_source "syscall"
 4 | - cairn_source: syscall
   |   ^
  hint: give it another name

error[LOAD_ERR_VALIDATE]: source `k8s_audit` is built in
  --> rules.yaml:5:3 in cairn_source "k8s_audit"
 5 | - cairn_source: k8s_audit
   |   ^
  hint: give it another name

error[LOAD_ERR_EXTENSION]: `user` cannot be a field's name
  --> rules.yaml:8:14 in cairn_source "mine"
 8 |     - {name: user, path: /a}
   |              ^
  hint: write it as `group.name`: letters, digits, underscores, at least one dot

error[LOAD_ERR_EXTENSION]: path `a/b` does not begin with `/`
  --> rules.yaml:9:25 in cairn_source "mine"
 9 |     - {name: a.b, path: a/b}
   |                         ^
  hint: a path is `/key/0/key`, `*` for each element, `*[key=text]` for some

error[LOAD_ERR_EXTENSION]: one of path, paths, cases, value, text, sum, keys, query, holds, any must say how the value is read
  --> rules.yaml:10:7 in cairn_source "mine"
 10 |     - {name: a.c, path: /a, paths: [/b]}
    |       ^
  hint: keep one of path, paths

error[LOAD_ERR_EXTENSION]: one of path, paths, cases, value, text, sum, keys, query, holds, any must say how the value is read
  --> rules.yaml:11:7 in cairn_source "mine"
 11 |     - {name: a.d}
    |       ^
  hint: add `path: /...`

error[LOAD_ERR_EXTENSION]: `txt` is no kind of a field
  --> rules.yaml:12:25 in cairn_source "mine"
 12 |     - {name: a.e, kind: txt, path: /a}
    |                         ^
  hint: did you mean `text`?

error[LOAD_ERR_EXTENSION]: `argument: index` without a `*` in the field's path or `each`
  --> rules.yaml:13:39 in cairn_source "mine"
 13 |     - {name: a.f, path: /a, argument: index}
    |                                       ^
  hint: an index picks an element at the first `*`

error[LOAD_ERR_EXTENSION]: `a.z` is no field declared before this one
  --> rules.yaml:14:25 in cairn_source "mine"
 14 |     - {name: a.g, text: '{a.z} {/b'}
    |                         ^
  hint: a text may use paths, and fields declared before it

error[LOAD_ERR_EXTENSION]: `when` needs one of `in`, `prefix` and `present`
  --> rules.yaml:15:34 in cairn_source "mine"
 15 |     - {name: a.h, cases: [{when: {path: /x}, value: y}]}
    |                                  ^
  hint: write `in: [a, b]`

error[LOAD_ERR_EXTENSION]: `argument: key` and `query` or `holds` go together
  --> rules.yaml:16:7 in cairn_source "mine"
 16 |     - {name: a.i, query: /url}
    |       ^
  hint: add the other, or remove this one

error[LOAD_ERR_EXTENSION]: path `/a/*[x]`: `*[x]` is neither a key, nor `*`, nor `*[key=text]`
  --> rules.yaml:17:25 in cairn_source "mine"
 17 |     - {name: a.j, path: '/a/*[x]'}
    |                         ^
  hint: a path is `/key/0/key`, `*` for each element, `*[key=text]` for some

error[LOAD_ERR_EXTENSION]: `evt.time` is a field that every source has
  --> rules.yaml:18:14 in cairn_source "mine"
 18 |     - {name: evt.time, path: /a}
    |              ^
  hint: rename it

error[LOAD_ERR_EXTENSION]: `join` makes one text of several values
  --> rules.yaml:19:35 in cairn_source "mine"
 19 |     - {name: a.k, path: /a, join: ';'}
    |                                   ^
  hint: use it with `kind: text` and a path with `*`

error[LOAD_ERR_EXTENSION]: a field is a mapping, not a scalar
  --> rules.yaml:20:7 in cairn_source "mine"
 20 |     - x
    |       ^
  hint: write `- {name: my.user, path: /user/name}`

18 error(s), 0 warning(s)
"##);
}

#[test]
fn declarations_are_bounded() {
    use cairn_rules::limits::{SOURCE_COST_MAX, SOURCE_FIELDS_MAX, SOURCE_PARTS_MAX, SOURCES_MAX};
    let is_limited = |text: &str| one(text).errors().any(|problem| problem.code == Code::CairnLimit);
    let fields = |count: usize| {
        let fields: String = (0..count).map(|number| format!("    - {{name: f.f{number}, path: /a}}\n")).collect();
        format!("- cairn_source: mine\n  fields:\n{fields}")
    };
    assert!(one(&fields(SOURCE_FIELDS_MAX)).is_ok());
    assert!(is_limited(&fields(SOURCE_FIELDS_MAX + 1)));
    let paths = |count: usize| {
        format!("- cairn_source: mine\n  fields:\n    - {{name: f.f, paths: [{}]}}\n", vec!["/a"; count].join(","))
    };
    assert!(one(&paths(SOURCE_PARTS_MAX)).is_ok());
    assert!(is_limited(&paths(SOURCE_PARTS_MAX + 1)));
    let pieces = |count: usize| {
        format!("- cairn_source: mine\n  fields:\n    - {{name: f.f, text: '{}'}}\n", "{/a}".repeat(count))
    };
    assert!(one(&pieces(SOURCE_PARTS_MAX)).is_ok());
    assert!(is_limited(&pieces(SOURCE_PARTS_MAX + 1)));
    let built_in = Sources::built_in().iter().count();
    let sources =
        |count: usize| (built_in..count).map(|number| format!("- cairn_source: s{number}\n")).collect::<String>();
    assert!(one(&sources(SOURCES_MAX)).is_ok());
    assert!(is_limited(&sources(SOURCES_MAX + 1)));
    // Each field says the one before twice: what reading costs doubles, and is refused long before it hurts.
    let doubling: String = (1..30)
        .map(|number| format!("    - {{name: f.f{number}, text: '{{f.f{0}}}{{f.f{0}}}'}}\n", number - 1))
        .collect();
    assert!(is_limited(&format!("- cairn_source: mine\n  fields:\n    - {{name: f.f0, path: /a}}\n{doubling}")));
    // A case costs one beside its read.
    let cases = |count: usize, more: &str| {
        let case = format!("{{text: '{}'}}", "{/a}".repeat(SOURCE_PARTS_MAX - 2));
        format!(
            "- cairn_source: mine\n  fields:\n    - {{name: f.f, cases: [{}{more}]}}\n",
            vec![case; count].join(",")
        )
    };
    let at = SOURCE_COST_MAX / SOURCE_PARTS_MAX;
    let rest = SOURCE_COST_MAX - at * SOURCE_PARTS_MAX;
    let more = |cost: usize| format!(", {{text: '{}'}}", "{/a}".repeat(cost - 2));
    assert!(one(&cases(at, &more(rest))).is_ok());
    assert!(is_limited(&cases(at, &more(rest + 1))));
}

#[test]
fn counting_over_documents_is_the_rules_affair() {
    let text = "\
- rule: Push bombing
  desc: Second factors denied again and again.
  condition: okta.evt.type = user.mfa.okta_verify.deny_push
  output: Pushes denied (who=%okta.actor.alternateid)
  priority: WARNING
  source: okta
  cairn:
    count: {by: [okta.actor.id], within: 5m, above: 2}
";
    let event = |who: &str, minute: u8| {
        json!({"eventType": "user.mfa.okta_verify.deny_push", "published": format!("2026-01-02T03:{minute:02}:00Z"),
            "actor": {"id": who, "alternateId": who}})
    };
    let mut intake = Intake::new(rules(text));
    let mut take = |events: Value| -> Vec<String> {
        let taken = intake.take("okta", events.to_string().as_bytes(), 7).unwrap();
        taken.into_iter().flat_map(|taken| taken.alerts).map(|alert| alert.output).collect()
    };
    assert!(take(json!([event("eve", 0), event("bob", 1), event("eve", 2)])).is_empty());
    // Three of eve's in five minutes of their own time, in two bodies.
    assert_eq!(take(json!([event("bob", 3), event("eve", 4)])), ["Pushes denied (who=eve)"]);
    assert!(take(json!([event("bob", 30)])).is_empty());
}

#[test]
fn a_body_that_is_none_is_refused_whole() {
    let mut intake = Intake::new(rules(K8S));
    let error = |intake: &mut Intake, source: &str, body: &str| {
        let error = intake.take(source, body.as_bytes(), 7).unwrap_err();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    };
    assert_eq!(error(&mut intake, "k8s", "{}"), "source `k8s` is not known to the rules in force");
    assert_eq!(
        error(&mut intake, "okta", "[{}, 1]"),
        "not taken in as events of source `okta`: at /1: an event of source `okta` is an object, not a number"
    );
    assert_eq!(error(&mut intake, "okta", "{"), "not taken in as events of source `okta`: not JSON");
    assert_eq!(
        error(&mut intake, "syscall", "{}"),
        "not taken in as events of source `syscall`: source `syscall` has no documents"
    );
}

#[test]
fn logs_are_lines_or_one_body() {
    let source = Sources::built_in().get("aws_cloudtrail").unwrap();
    let read = |log: &str| -> Vec<String> {
        let events = source.read_log(log.as_bytes(), 7);
        events.map(|event| event.map_or_else(|error| error.to_string(), |event| event.time_ns.to_string())).collect()
    };
    assert_eq!(read("{}\n\n{\"Records\": [{}, {}]}\n"), ["7", "7", "7"]);
    assert_eq!(read("{\n \"Records\": [\n {},\n {}\n ]\n}\n"), ["7", "7"]);
    assert_eq!(
        read("{}\nnonsense\n{\"eventTime\": \"1970-01-01T00:00:01Z\"}\n1"),
        ["7", "line 2", "1000000000", "line 4"]
    );
    assert_eq!(read("nonsense\n{}"), ["line 1", "7"]);
    assert!(read("").is_empty());
}

const LANGUAGE: &str = include_str!("../RULES.md");

#[test]
fn the_documented_source_works() {
    let fence = "```yaml source\n";
    let start = LANGUAGE.find(fence).expect("the block is there") + fence.len();
    let text = &LANGUAGE[start..start + LANGUAGE[start..].find("```").expect("the block ends")];
    let body = r#"{"@timestamp": 1767323045000, "action": "repo.access", "actor": "eve", "repo": "acme/secret", "public_repo": true,
        "teams": [{"name": "core"}]}"#;
    assert_eq!(
        alerts(text, "github_audit", body),
        ["Repository made public (actor=eve repository=acme/secret teams=(core))"]
    );
    assert!(alerts(text, "github_audit", &body.replace("core", "open-source")).is_empty());
    let rules = rules(text);
    let source = rules.sources().get("github_audit").unwrap();
    assert!(
        source.is_personal("gh.actor") && source.is_personal("json.value[/user]") && !source.is_personal("gh.repo")
    );
}

/// Events of the built-in sources with parts that the rules of the tests look at.
fn event() -> impl Strategy<Value = (usize, Value)> {
    let text = |texts: &[&str]| prop::sample::select(texts.iter().map(|text| json!(text)).collect::<Vec<_>>());
    let stage = text(&["ResponseComplete", "ResponseStarted", "RequestReceived"]);
    let verb = text(&["create", "get", "update"]);
    let resource = text(&["pods", "secrets", "configmaps", "clusterroles", "clusterrolebindings"]);
    let subresource = prop_oneof![Just(Value::Null), text(&["exec", "log"])];
    let user = text(&["eve", "system:anonymous", "system:node:a"]);
    let privileged = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from)];
    let image = text(&["docker.io/calico/node:1", "nginx", "registry:5000/infra/agent"]);
    let containers = prop::collection::vec(
        (image, privileged)
            .prop_map(|(image, privileged)| json!({"image": image, "securityContext": {"privileged": privileged}})),
        0..3,
    );
    let path = text(&["/etc", "/tmp", "/"]).prop_map(|path| json!([{"hostPath": {"path": path}}]));
    let code = prop::sample::select(vec![json!(200), json!(403), json!("201"), Value::Null]);
    let audit = (stage, verb, resource, subresource, user, containers, path, code).prop_map(
        |(stage, verb, resource, subresource, user, containers, volumes, code)| {
            let role = if verb == "create" { "cluster-admin" } else { "view" };
            json!({
                "stage": stage, "verb": verb, "user": {"username": user}, "responseStatus": {"code": code},
                "objectRef": {"resource": resource, "subresource": subresource, "name": "n"},
                "annotations": {"authorization.k8s.io/decision": "allow"}, "requestURI": "/healthz?a=b",
                "requestObject": {"spec": {"containers": containers, "volumes": volumes}, "roleRef": {"name": role},
                    "rules": [{"verbs": ["get", "*"]}], "data": {"password": "x"}},
            })
        },
    );
    let name = text(&["ConsoleLogin", "StopLogging", "GetObject", "PutBucketPublicAccessBlock", "DeleteTrail"]);
    let error = prop_oneof![Just(Value::Null), text(&["AccessDenied"])];
    let kind = text(&["IAMUser", "AssumedRole", "Root"]);
    let bytes = prop::sample::select(vec![json!(734_003_200.0), json!(1), Value::Null]);
    let cloud = (name, error, kind, bytes, any::<bool>()).prop_map(|(name, error, kind, bytes, blocked)| {
        json!({
            "eventName": name, "errorCode": error, "userIdentity": {"type": kind, "userName": "alice"}, "eventSource": "s3.amazonaws.com",
            "responseElements": {"ConsoleLogin": "Success"},
            "additionalEventData": {"MFAUsed": "No", "bytesTransferredOut": bytes},
            "requestParameters": {"bucketName": "customers", "key": "k", "publicAccessBlock": "",
                "PublicAccessBlockConfiguration": {"BlockPublicAcls": blocked}},
        })
    });
    prop_oneof![audit.prop_map(|body| (0, body)), cloud.prop_map(|body| (1, body))]
}

proptest! {
    #[test]
    fn both_evaluators_say_the_same_of_documents(bodies in prop::collection::vec(event(), 1..8)) {
        let rules = rules(&format!("{K8S}{CLOUD}"));
        let events: Vec<Event> = bodies
            .into_iter()
            .flat_map(|(place, body)| {
                let source = Sources::built_in().get(["k8s_audit", "aws_cloudtrail"][place]).expect("a source");
                source.events(body, 7).expect("an object")
            })
            .collect();
        let run = |evaluator: Evaluator| -> Vec<_> {
            let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
            engine.set_evaluator(evaluator);
            events.iter().flat_map(|event| engine.handle(event)).collect()
        };
        prop_assert_eq!(run(Evaluator::Compiled), run(Evaluator::Plain));
    }
}
