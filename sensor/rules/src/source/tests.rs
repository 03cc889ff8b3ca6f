//! Sources by themselves: the tables that are built in, what a body is, what its bounds are.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::condition::parse_field;
use crate::fields::FieldValue;

/// A field of a source's event as an alert would show it.
fn shown(source: &str, body: &Json, field: &str) -> String {
    let position = SOURCES.position(source).unwrap();
    let event = SOURCES.at(position).event(body.clone(), 7, String::new).unwrap();
    let resolved = SOURCES.vocabulary(position).resolve(&parse_field(field).unwrap()).unwrap();
    let Some(fields::Read::Document(own)) = resolved.read else { panic!("{field} is no field of {source}") };
    own.extractor.read(&event, &resolved.argument).map_or(FieldValue::Absent, FieldValue::from).to_string()
}

fn check(source: &str, body: &Json, fields: &[(&str, &str)]) {
    for (field, expected) in fields {
        assert_eq!(shown(source, body, field), *expected, "{field}");
    }
}

#[test]
fn built_in_sources_are_right() {
    let names: Vec<&str> = Sources::built_in().iter().map(Source::name).collect();
    assert_eq!(names, ["syscall", "k8s_audit", "aws_cloudtrail", "okta", "github", "json"]);
    for source in Sources::built_in().iter() {
        assert!(!source.doc().is_empty());
        for field in source.fields() {
            assert!(!field.doc.is_empty(), "{}", field.name);
        }
    }
}

#[test]
fn a_pod_is_read() {
    let pod = json!({
        "auditID": "a1", "stage": "ResponseComplete", "stageTimestamp": "2026-01-02T03:04:05.000006Z",
        "verb": "create", "requestURI": "/api/v1/namespaces/default/pods?command=sh&command=-c&x=a%20b+c",
        "user": {"username": "alice", "groups": ["dev", "ops"]}, "sourceIPs": ["10.0.0.1", "10.0.0.2"],
        "objectRef": {"resource": "pods", "namespace": "default", "name": "web"},
        "annotations": {"authorization.k8s.io/decision": "allow"},
        "responseStatus": {"code": 201},
        "requestObject": {"spec": {
            "hostNetwork": true,
            "securityContext": {"runAsUser": 1000},
            "containers": [
                {"name": "a", "image": "nginx:1.27", "securityContext": {"privileged": true, "runAsUser": 7},
                 "ports": [{"hostPort": 80, "containerPort": 8080}, {"containerPort": 9090}]},
                {"name": "b", "image": "registry:5000/team/app@sha256:00", "command": ["sh", "-c"],
                 "securityContext": {"capabilities": {"add": ["NET_ADMIN", "SYS_TIME"]}}},
            ],
            "initContainers": [{"name": "i", "securityContext": {"privileged": false}}],
            "volumes": [{"name": "v", "hostPath": {"path": "/etc/kubernetes"}}, {"name": "c", "configMap": {}}],
        }},
    });
    check(
        "k8s_audit",
        &pod,
        &[
            ("ka.auditid", "a1"),
            ("ka.user.groups", "(dev,ops)"),
            ("ka.auth.decision", "allow"),
            ("ka.auth.reason", "<NA>"),
            ("ka.response.code", "201"),
            ("ka.uri.param[command]", "sh"),
            ("ka.uri.param[x]", "a b c"),
            ("ka.uri.param[y]", "<NA>"),
            ("ka.target.pod.name", "web"),
            ("ka.req.pod.containers.image", "(nginx:1.27,registry:5000/team/app@sha256:00)"),
            ("ka.req.pod.containers.image[1]", "(registry:5000/team/app@sha256:00)"),
            ("ka.req.pod.containers.image[2]", "<NA>"),
            ("ka.req.pod.containers.image.repository", "(nginx,registry:5000/team/app)"),
            ("ka.req.container.image.repository", "nginx"),
            ("ka.req.pod.containers.command[1]", "(sh,-c)"),
            ("ka.req.pod.containers.privileged", "(true)"),
            ("ka.req.pod.initContainers.privileged", "(false)"),
            ("ka.req.pod.ephemeralContainers.privileged", "<NA>"),
            ("ka.req.container.privileged", "true"),
            ("ka.req.pod.containers.host_port", "(80,9090)"),
            ("ka.req.pod.containers.host_port[1]", "<NA>"),
            ("ka.req.pod.containers.run_as_user", "(7)"),
            ("ka.req.pod.containers.eff_run_as_user", "(7,1000)"),
            ("ka.req.pod.containers.eff_run_as_group", "(0,0)"),
            ("ka.req.pod.containers.eff_run_as_user[1]", "(1000)"),
            ("ka.req.pod.containers.add_capabilities", "(NET_ADMIN,SYS_TIME)"),
            ("ka.req.pod.host_network", "true"),
            ("ka.req.pod.host_pid", "<NA>"),
            ("ka.req.pod.volumes.hostpath", "(/etc/kubernetes)"),
            ("ka.req.pod.volumes.volume_type", "(hostPath,configMap)"),
            ("ka.req.volume.hostpath[/etc/*]", "true"),
            ("ka.req.volume.hostpath[/etc]", "false"),
            ("ka.sourceips[0]", "(10.0.0.1)"),
            ("jevt.value[/requestObject/spec/volumes/0/hostPath]", "{\"path\":\"/etc/kubernetes\"}"),
            ("json.value[/user/groups/1]", "ops"),
            ("jevt.rawtime", "1767323045000006000"),
            ("evt.plugininfo", "alice create /api/v1/namespaces/default/pods?command=sh&command=-c&x=a%20b+c 201"),
            ("evt.pluginname", "k8saudit"),
        ],
    );
}

#[test]
fn roles_and_bindings_are_read() {
    let role = json!({"requestObject": {"rules": [
        {"verbs": ["get", "*"], "resources": ["pods"]}, {"verbs": ["list"], "nonResourceURLs": ["/healthz"]},
    ]}});
    check(
        "k8s_audit",
        &role,
        &[
            ("ka.req.role.rules.verbs", "(get,*,list)"),
            ("ka.req.role.rules.verbs[1]", "(list)"),
            ("ka.req.role.rules.resources[1]", "<NA>"),
            ("ka.req.role.rules.nonResourceURLs", "(/healthz)"),
            ("ka.req.container.privileged", "<NA>"),
            ("ka.req.volume.hostpath[/etc]", "<NA>"),
        ],
    );
    let binding = json!({"requestObject": {"roleRef": {"name": "cluster-admin"}, "subjects": [
        {"kind": "User", "name": "eve"}, {"kind": "ServiceAccount", "name": "default", "namespace": "kube-system"},
        {"kind": "Group", "name": "dev"}, {"kind": "ServiceAccount", "name": "nowhere"},
    ]}});
    check(
        "k8s_audit",
        &binding,
        &[
            ("ka.req.binding.role", "cluster-admin"),
            ("ka.req.binding.subjects.user_names", "(eve)"),
            ("ka.req.binding.subjects.serviceaccount_names", "(default,nowhere)"),
            ("ka.req.binding.subjects.serviceaccount_ns_names", "(kube-system:default)"),
            ("ka.req.binding.subjects.group_names", "(dev)"),
            ("ka.req.binding.subject.has_name[eve]", "true"),
        ],
    );
}

#[test]
fn cloud_trails_are_read() {
    let get = json!({
        "eventID": "e1", "eventTime": "2026-01-02T03:04:05Z", "eventSource": "s3.amazonaws.com", "eventName": "GetObject",
        "readOnly": true, "managementEvent": false, "sourceIPAddress": "192.0.2.1",
        "userIdentity": {"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"userName": "deployer"}}},
        "recipientAccountId": "123456789012",
        "requestParameters": {"bucketName": "b", "key": "k/1"},
        "additionalEventData": {"bytesTransferredIn": 1, "bytesTransferredOut": 33.0},
    });
    check(
        "aws_cloudtrail",
        &get,
        &[
            ("ct.shortsrc", "s3"),
            ("ct.user", "deployer"),
            ("ct.user.accountid", "123456789012"),
            ("ct.error", "<NA>"),
            ("ct.readonly", "true"),
            ("ct.managementevent", "false"),
            ("s3.uri", "s3://b/k/1"),
            ("s3.bytes", "34"),
            ("s3.bytes.out", "33"),
            ("s3.cnt.get", "1"),
            ("s3.cnt.put", "0"),
            ("s3.cnt.other", "0"),
            ("ct.info", "deployer via 192.0.2.1 ← GetObject Size=34 URI=s3://b/k/1"),
            ("evt.plugininfo", "deployer via 192.0.2.1 ← GetObject Size=34 URI=s3://b/k/1"),
        ],
    );
    let run = json!({
        "eventName": "RunInstances", "errorCode": "Client.UnauthorizedOperation", "sourceIPAddress": "a",
        "userIdentity": {"type": "AssumedRole"}, "readOnly": false,
        "requestParameters": {"tagSpecificationSet": {"items": [
            {"resourceType": "volume", "tags": [{"key": "Name", "value": "disk"}]},
            {"resourceType": "instance", "tags": [{"key": "Team", "value": "x"}, {"key": "Name", "value": "web"}]},
        ]}},
    });
    check(
        "aws_cloudtrail",
        &run,
        &[
            ("ct.user", "AssumedRole"),
            ("ct.readonly", "false"),
            ("ec2.name", "web"),
            ("s3.bytes", "<NA>"),
            ("s3.cnt.other", "1"),
            ("ct.info", "AssumedRole via a !→ RunInstances"),
        ],
    );
    check("aws_cloudtrail", &json!({"eventName": "DeleteTrail"}), &[("ct.readonly", "false"), ("ct.info", "<NA>")]);
    check("aws_cloudtrail", &json!({"eventName": "DescribeTrails"}), &[("ct.readonly", "true")]);
    check("aws_cloudtrail", &json!({}), &[("ct.readonly", "<NA>"), ("ct.user", "<NA>")]);
}

#[test]
fn identities_and_webhooks_are_read() {
    let login = json!({
        "uuid": "u", "eventType": "user.session.start", "actor": {"id": "a", "alternateId": "eve@example.org"},
        "target": [{"type": "AppInstance", "alternateId": "Console"}, {"type": "User", "displayName": "Bob"}],
        "client": {"geographicalContext": {"geolocation": {"lat": 1.5}}}, "securityContext": {"asNumber": 64_496},
    });
    check(
        "okta",
        &login,
        &[
            ("okta.actor.alternateid", "eve@example.org"),
            ("okta.target.user.name", "Bob"),
            ("okta.target.app.alternateid", "Console"),
            ("okta.target.group.id", "<NA>"),
            ("okta.client.geo.lat", "1.5"),
            ("okta.security.asnumber", "64496"),
        ],
    );
    let push = json!({
        "webhook_type": "push", "repository": {"full_name": "acme/x", "private": true}, "sender": {"login": "eve"},
        "commits": [{"added": ["a", "b"], "removed": []}, {"added": ["c"]}], "hook": {"id": 7},
    });
    check(
        "github",
        &push,
        &[
            ("github.type", "push"),
            ("github.repo.public", "false"),
            ("github.repo.name", "acme/x"),
            ("github.commit.added", "a,b,c"),
            ("github.commit.removed", "<NA>"),
            ("github.webhook.id", "7"),
            ("evt.plugininfo", "eve push  acme/x"),
        ],
    );
}

#[test]
fn who_a_person_is_can_be_told() {
    for (source, field, expected) in [
        ("k8s_audit", "ka.user.name", true),
        ("k8s_audit", "ka.verb", false),
        ("k8s_audit", "cairn.first.ka.user.name", true),
        ("k8s_audit", "toupper(cairn.first.ka.user.name)", true),
        ("k8s_audit", "cairn.first.ka.verb", false),
        ("k8s_audit", "ka.sourceips[0]", true),
        ("k8s_audit", "jevt.value[/user/username]", true),
        ("k8s_audit", "json.value[/user]", true),
        ("k8s_audit", "json.value[/sourceIPs/0]", true),
        ("k8s_audit", "json.value[/stage]", false),
        ("k8s_audit", "json.obj", true),
        ("k8s_audit", "tolower(basename(ka.user.name))", true),
        ("k8s_audit", "join(\"-\", (ka.verb, ka.sourceips[0]))", true),
        ("k8s_audit", "concat(ka.verb, json.value[/a,ka.user.name])", false),
        ("aws_cloudtrail", "ct.user", true),
        ("aws_cloudtrail", "json.value[/userIdentity/sessionContext]", true),
        ("aws_cloudtrail", "json.value[/responseElements/ConsoleLogin]", true),
        ("aws_cloudtrail", "json.value[/eventName]", false),
        ("aws_cloudtrail", "evt.plugininfo", true),
        ("okta", "json.value[/target/0/displayName]", true),
        ("okta", "evt.time", false),
        ("json", "json.value[/user]", false),
    ] {
        assert_eq!(SOURCES.get(source).unwrap().is_personal(field), expected, "{source} {field}");
    }
}

#[test]
fn a_body_is_one_event_or_several() {
    let source = SOURCES.get("k8s_audit").unwrap();
    let times = |body: &str| -> Vec<u64> {
        source.read(body.as_bytes(), 7).unwrap().iter().map(|event| event.time_ns).collect()
    };
    assert_eq!(times(r#"{"stageTimestamp": "1970-01-01T00:00:01Z"}"#), [1_000_000_000]);
    assert_eq!(
        times(r#"{"kind": "EventList", "items": [{}, {"stageTimestamp": "1970-01-01T00:00:01Z"}]}"#),
        [7, 1_000_000_000]
    );
    assert_eq!(times("[{}, {}, {}]"), [7, 7, 7]);
    assert_eq!(times("[]"), [0_u64; 0]);
    let event = &source.read(br#"{"auditID": "a", "stage": "Panic"}"#, 7).unwrap()[0];
    assert_eq!(source.foreign_id(event).as_deref(), Some("a/Panic"));
    assert_eq!(source.foreign_id(&source.read(b"{}", 7).unwrap()[0]), None);
    assert!(matches!(source.read(b"[1]", 7), Err(DocumentError::NotAnObject { kind: "a number", .. })));
    assert!(matches!(source.read(b"{", 7), Err(DocumentError::Json(_))));
    assert!(matches!(SOURCES.at(0).read(b"{}", 7), Err(DocumentError::Kernel)));
}

#[test]
fn documents_are_bounded() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse_document(deep(DOCUMENT_DEPTH_MAX).as_bytes()).is_ok());
    assert!(matches!(parse_document(deep(DOCUMENT_DEPTH_MAX + 1).as_bytes()), Err(DocumentError::TooDeep)));
    // Brackets in texts are text.
    assert!(parse_document(format!(r#"{{"a\"{0}": "{0}\\"}}"#, "[".repeat(200)).as_bytes()).is_ok());
    let long = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
    assert!(parse_document(long(DOCUMENT_BYTES_MAX).as_bytes()).is_ok());
    assert!(matches!(parse_document(long(DOCUMENT_BYTES_MAX + 1).as_bytes()), Err(DocumentError::TooLarge { .. })));
    let many = |count: usize| Json::Array(vec![json!({}); count]);
    let source = SOURCES.get("json").unwrap();
    assert!(source.events(many(DOCUMENT_BATCH_MAX), 7).is_ok());
    assert!(matches!(source.events(many(DOCUMENT_BATCH_MAX + 1), 7), Err(DocumentError::TooMany { .. })));
}

/// Documents that look like audit events, with odd values where others are expected.
fn document() -> impl Strategy<Value = Json> {
    let key = prop::sample::select(vec![
        "requestObject",
        "spec",
        "containers",
        "securityContext",
        "privileged",
        "image",
        "volumes",
        "hostPath",
        "path",
        "rules",
        "verbs",
        "subjects",
        "kind",
        "name",
        "requestURI",
        "user",
        "groups",
        "ports",
        "hostPort",
        "userIdentity",
        "type",
        "requestParameters",
        "bucketName",
        "key",
        "additionalEventData",
        "bytesTransferredIn",
        "eventName",
        "stageTimestamp",
        "eventTime",
        "0",
        "",
        "~1",
        "items",
        "Records",
        "tags",
        "value",
    ]);
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
        prop::sample::select(vec!["a:b@c", "/?a=%", "%zz+&=", "2026-01-01T00:00:00Z", "User", "Root", ""])
            .prop_map(Json::from),
    ];
    leaf.prop_recursive(7, 96, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_makes_a_field_panic(body in document(), argument in "[a-z/0-9~*]{1,6}", index in 0_usize..4) {
        for source in SOURCES.iter().filter(|source| !source.is_kernel()) {
            for event in source.events(body.clone(), 7).unwrap_or_default() {
                let _ = source.foreign_id(&event);
                for field in source.fields.values() {
                    for argument in
                        [FieldArgument::None, FieldArgument::Index(index), FieldArgument::Key(argument.as_str().into())]
                    {
                        let _ = field.extractor.read(&event, &argument).map(FieldValue::from);
                    }
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_a_body_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}\":,a0\\\\ ]{0,40}") {
        for source in SOURCES.iter() {
            let _ = source.read(&bytes, 7);
            let _ = source.read(text.as_bytes(), 7);
        }
    }

    #[test]
    fn no_text_is_a_time_that_panics(text in ".{0,40}", like in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.]?[0-9]{0,12}[Z+-]?[0-9:]{0,6}") {
        let _ = (time::rfc3339(&text), time::rfc3339(&like));
    }
}

#[test]
fn texts_put_together_are_bounded() {
    use crate::limits::SOURCE_TEXT_BYTES_MAX;
    // `s3://`, a bucket of one byte, a slash.
    let uri = |bytes: usize| {
        let key = "k".repeat(bytes - 7);
        shown("aws_cloudtrail", &json!({"requestParameters": {"bucketName": "b", "key": key}}), "s3.uri")
    };
    assert_eq!(uri(SOURCE_TEXT_BYTES_MAX).len(), SOURCE_TEXT_BYTES_MAX);
    assert_eq!(uri(SOURCE_TEXT_BYTES_MAX + 1), "<NA>");
    let joined = |bytes: usize| {
        let commits = json!({"commits": [{"added": ["a", "b".repeat(bytes - 2)]}]});
        shown("github", &commits, "github.commit.added")
    };
    assert_eq!(joined(SOURCE_TEXT_BYTES_MAX).len(), SOURCE_TEXT_BYTES_MAX);
    assert_eq!(joined(SOURCE_TEXT_BYTES_MAX + 1), "<NA>");
}

#[test]
fn every_key_of_a_declaration_is_documented() {
    let language = include_str!("../../RULES.md");
    let keys = KEYS.iter().chain(&declare::FIELD_KEYS).chain(&declare::CASE_KEYS).chain(&declare::WHEN_KEYS);
    for key in keys {
        let is_there = [format!("`{key}`"), format!("`{key}:"), format!("{{{key}: "), format!(", {key}: ")];
        assert!(is_there.iter().any(|written| language.contains(written)), "{key}");
    }
    for source in SOURCES.iter() {
        assert!(language.contains(&format!("| `{}` |", source.name())), "{}", source.name());
    }
}
