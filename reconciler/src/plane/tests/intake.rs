//! Events from outside, through the router of a whole control plane.

use std::path::Path;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use cairn_ledger::vault::VaultDir;
use cairn_schemas::data::DetectionRaised;
use cairn_schemas::digest::Digest;
use cairn_schemas::record::Record;
use cairn_schemas::types::RecordType;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::fleet::{Fleet, PATIENCE};
use crate::intake::body::tests::gzip;

const RULES: &str = "- rule: Secret read\n  desc: d\n  condition: ka.verb = get and ka.target.resource = secrets\n  \
    output: secret read (user=%ka.user.name secret=%ka.target.name)\n  priority: WARNING\n  source: k8s_audit\n\
    - rule: Many secrets read\n  desc: d\n  condition: ka.verb = get and ka.target.resource = secrets\n  \
    output: many secrets read (user=%ka.user.name)\n  priority: CRITICAL\n  source: k8s_audit\n  \
    cairn: {count: {by: [ka.user.name], within: 1h, above: 2}}\n\
    - rule: Failed\n  desc: d\n  condition: json.value[/status] = failed\n  output: failed (%json.value[/who])\n  \
    priority: NOTICE\n  source: json\n";

fn declare(dir: &Path) {
    let token = |token: &str| Digest::sha256(token.as_bytes());
    let intake = format!(
        "intake:\n  - {{ name: prod, source: k8s_audit, token_sha256: [\"{}\", \"{}\"] }}\n  \
         - {{ name: logs, source: json, token_sha256: [\"{}\"], events_per_second: 1 }}\n  \
         - {{ name: undeclared, source: nothing, token_sha256: [\"{}\"] }}\n",
        token("old"),
        token("secret"),
        token("logs"),
        token("undeclared"),
    );
    let path = dir.join("fleet.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text + &intake).unwrap();
}

impl Fleet {
    /// With rules for documents and senders, promoted.
    fn with_intake() -> Fleet {
        let mut fleet = Fleet::start();
        fleet.commit("detections/audit.yaml", RULES);
        fleet.restart_after(declare);
        fleet.plane().begin();
        assert!(fleet.plane().wait_promoted(PATIENCE).is_some());
        fleet
    }

    fn ask(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let response = self.plane().router().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
        })
    }

    fn send(&self, source: &str, token: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = Request::builder().method(Method::POST).uri(format!("/v1/intake/{source}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(body.into()).unwrap();
        let (status, _, said) = self.ask(request);
        (status, said)
    }

    fn detections(&self) -> Vec<(Record, DetectionRaised)> {
        let ledger = &self.plane().shared.ledger;
        let records = ledger.read(cairn_schemas::ids::RecordIndex(0), 100_000).unwrap();
        let records = records.iter().map(|bytes| Record::parse(bytes).unwrap());
        let detections = records.filter(|record| record.kind == RecordType::DetectionRaised);
        detections.map(|record| (record.clone(), record.data_as().unwrap())).collect()
    }

    fn rules_raised(&self) -> Vec<String> {
        self.detections().into_iter().map(|(_, detection)| detection.rule).collect()
    }
}

/// Somebody reads secrets: an `EventList` with an event for each id.
fn batch(user: &str, ids: &[u32]) -> String {
    let event = |id: &u32| {
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": format!("id-{id}"), "stage": "ResponseComplete",
            "verb": "get", "user": {"username": user}, "objectRef": {"resource": "secrets", "name": format!("s{id}")},
            "stageTimestamp": format!("2026-11-21T10:00:{id:02}.000000Z"),
        })
    };
    let items: Vec<Value> = ids.iter().map(event).collect();
    json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": items}).to_string()
}

fn taken(events: u64, repeated: u64, alerts: u64) -> (StatusCode, Value) {
    (StatusCode::OK, json!({"events": events, "repeated": repeated, "alerts": alerts}))
}

#[test]
fn an_event_list_becomes_detections_with_nobody_named_in_them() {
    let fleet = Fleet::with_intake();
    assert_eq!(fleet.send("k8s_audit", "secret", batch("alice", &[1, 2])), taken(2, 0, 2));
    // Whatever way it comes again, and by whichever token: the same events of the same sender.
    assert_eq!(fleet.send("k8s_audit", "old", batch("alice", &[2, 1, 2])), taken(3, 3, 0));
    let detections = fleet.detections();
    assert_eq!(detections.len(), 2);
    let (record, detection) = &detections[0];
    assert_eq!(record.release, fleet.plane().wait_promoted(PATIENCE));
    assert!(record.foreignid.as_deref().unwrap().starts_with("intake/prod/"));
    assert_eq!(detection.process, None);
    assert_eq!(detection.fields["ka.target.name"], "s1");
    let document = detection.document.as_ref().unwrap();
    assert_eq!((document.intake.as_str(), document.id.as_deref()), ("prod", Some("id-1/ResponseComplete")));
    assert!(!record.data.to_string().contains("alice"));
    // Who holds the vault can read it, and erase it by name.
    let commitment = *detection.personal["ka.user.name"].commitment().unwrap();
    let vault = VaultDir::new(&fleet.dir().join("ledger.vault"));
    let disclosure = vault.disclosure(&commitment).unwrap();
    assert_eq!((disclosure.name(), disclosure.value()), ("/personal/ka.user.name", &json!("alice")));
}

#[test]
fn what_is_known_of_events_survives_stops_and_crashes() {
    let mut fleet = Fleet::with_intake();
    assert_eq!(fleet.send("k8s_audit", "secret", batch("alice", &[1, 2])), taken(2, 0, 2));
    assert_eq!(fleet.send("k8s_audit", "secret", batch("bob", &[11])), taken(1, 0, 1));
    // As a crash leaves it: the ledger and the intake's folder as they are, without a stop.
    let here = fleet.dir();
    let crashed = here.with_file_name("crashed");
    super::fleet::copy(&here.join("intake"), &crashed);
    fleet.restart_after(|dir| {
        assert!(dir.join("intake/state").exists(), "a stop keeps what is known");
        std::fs::remove_dir_all(dir.join("intake")).unwrap();
        std::fs::rename(&crashed, dir.join("intake")).unwrap();
        assert!(!dir.join("intake/state").exists());
    });
    fleet.plane().begin();
    // The same again counts nothing; the third of alice's is one too many, and her fourth is said already.
    assert_eq!(fleet.send("k8s_audit", "secret", batch("alice", &[1, 2])), taken(2, 2, 0));
    assert_eq!(fleet.send("k8s_audit", "secret", batch("alice", &[2, 3])), taken(2, 1, 2));
    let raised = ["Secret read", "Secret read", "Secret read", "Secret read", "Many secrets read"];
    assert_eq!(fleet.rules_raised(), raised);
    // After a stop: a snapshot, and no bodies any more.
    fleet.restart();
    fleet.plane().begin();
    assert_eq!(fleet.send("k8s_audit", "secret", batch("alice", &[3, 4])), taken(2, 1, 1));
    assert_eq!(fleet.send("k8s_audit", "secret", batch("bob", &[12, 13])), taken(2, 0, 3));
    assert_eq!(fleet.rules_raised().len(), 9);
    // Bodies do not stay for longer than they are needed.
    let journal = || {
        let names = crate::durable::names(&fleet.dir().join("intake")).unwrap();
        let name = names.iter().find(|name| name.starts_with("journal-")).unwrap();
        std::fs::metadata(fleet.dir().join("intake").join(name)).unwrap().len()
    };
    assert!(journal() > 0);
    fleet.clock.pass(crate::intake::JOURNAL_TIME_MAX);
    fleet.plane().shared.intake.tick().unwrap();
    assert_eq!(journal(), 0);
}

#[test]
fn a_body_that_was_written_down_and_not_recorded_is_recorded_at_the_next_start() {
    let mut fleet = Fleet::with_intake();
    assert_eq!(fleet.send("k8s_audit", "secret", batch("alice", &[1])), taken(1, 0, 1));
    // A journal that has a body more than the ledger knows of: the crash came between the two.
    let other = Fleet::with_intake();
    assert_eq!(other.send("k8s_audit", "secret", batch("alice", &[1])), taken(1, 0, 1));
    assert_eq!(other.send("k8s_audit", "secret", batch("alice", &[2, 3])), taken(2, 0, 3));
    let (release, others) = (fleet.plane().wait_promoted(PATIENCE), other.plane().wait_promoted(PATIENCE));
    assert_eq!(release.map(|it| it.digest), others.map(|it| it.digest), "the same content");
    let kept = fleet.dir().with_file_name("kept");
    super::fleet::copy(&other.dir().join("intake"), &kept);
    fleet.restart_after(|dir| {
        std::fs::remove_dir_all(dir.join("intake")).unwrap();
        std::fs::rename(&kept, dir.join("intake")).unwrap();
    });
    fleet.plane().begin();
    fleet.plane().shared.intake.tick().unwrap();
    assert_eq!(fleet.rules_raised(), ["Secret read", "Secret read", "Secret read", "Many secrets read"]);
    assert_eq!(fleet.send("k8s_audit", "secret", batch("alice", &[2, 3])), taken(2, 2, 0));
}

#[test]
fn only_who_may_send_it_sends_it() {
    let fleet = Fleet::with_intake();
    let (status, said) = fleet.send("k8s_audit", "wrong", batch("alice", &[1]));
    assert_eq!((status, &said["error"]), (StatusCode::UNAUTHORIZED, &json!("no known token")));
    let (status, headers, _) =
        fleet.ask(Request::builder().method(Method::POST).uri("/v1/intake/k8s_audit").body(Body::empty()).unwrap());
    assert_eq!((status, &headers["www-authenticate"]), (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap()));
    let (status, said) = fleet.send("json", "secret", "{}");
    assert_eq!((status, &said["error"]), (StatusCode::FORBIDDEN, &json!("intake prod sends k8s_audit, not json")));
    let (status, said) = fleet.send("nothing", "undeclared", "{}");
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(said["error"], "source `nothing` is not known to the rules in force");
    assert!(fleet.rules_raised().is_empty());
    let request = Request::builder().uri("/v1/intake/k8s_audit").header("authorization", "Bearer secret");
    let challenged = Request::builder().uri("/v1/intake/k8s_audit").header("authorization", "Bearer secret");
    let (status, _, counts) = fleet.ask(request.body(Body::empty()).unwrap());
    assert_eq!((status, &counts["intake"], &counts["bodies"]), (StatusCode::OK, &json!("prod"), &json!(0)));
    let challenged = challenged.header("x-okta-verification-challenge", "abc").body(Body::empty()).unwrap();
    assert_eq!(fleet.ask(challenged).2, json!({"verification": "abc"}));
}

#[test]
fn hostile_bodies_are_refused_with_their_place_and_leave_nothing() {
    let fleet = Fleet::with_intake();
    let packed = |encoding: &str, body: Vec<u8>| {
        let request = Request::builder().method(Method::POST).uri("/v1/intake/k8s_audit");
        let request = request.header("authorization", "Bearer secret").header("content-encoding", encoding);
        let (status, _, said) = fleet.ask(request.body(body.into()).unwrap());
        (status, said)
    };
    for (body, status, words) in [
        (String::new(), StatusCode::BAD_REQUEST, "empty"),
        ("{".into(), StatusCode::BAD_REQUEST, "line 1 column 1"),
        ("{}\n{}\n{\"a\":".into(), StatusCode::BAD_REQUEST, "line 3: not JSON"),
        (r#"{"items":[{}, []]}"#.into(), StatusCode::BAD_REQUEST, "at /items/1: an event"),
        ("[".repeat(1 << 20), StatusCode::PAYLOAD_TOO_LARGE, "nested"),
        (format!("[{}{{}}]", "{},".repeat(10_000)), StatusCode::PAYLOAD_TOO_LARGE, "10001 events"),
        (" ".repeat(crate::intake::BODY_LEN_MAX + 1), StatusCode::PAYLOAD_TOO_LARGE, "not read"),
    ] {
        let shown: String = body.chars().take(40).collect();
        let (found, said) = fleet.send("k8s_audit", "secret", body);
        assert_eq!(found, status, "{shown}: {said}");
        assert!(said["error"].as_str().unwrap().contains(words), "{shown}: {said}");
    }
    let bomb = gzip(&vec![b' '; crate::intake::BODY_LEN_MAX + 1]);
    assert_eq!(packed("gzip", bomb).0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(packed("gzip", b"{}".to_vec()).0, StatusCode::BAD_REQUEST);
    assert_eq!(packed("br", b"{}".to_vec()).0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(fleet.rules_raised().is_empty());
    assert_eq!(packed("gzip", gzip(batch("alice", &[1]).as_bytes())), taken(1, 0, 1));
    let (counts, unknown) = fleet.plane().shared.intake.counts();
    assert_eq!((counts[0].bodies, counts[0].malformed, unknown), (1, 10, 0));
}

#[test]
fn who_sends_too_much_is_told_when_to_come_again() {
    let fleet = Fleet::with_intake();
    let request = || {
        let request =
            Request::builder().method(Method::POST).uri("/v1/intake/json").header("authorization", "Bearer logs");
        let lines = "{\"status\":\"failed\",\"who\":\"x\"}\n".repeat(2);
        request.body(lines.into()).unwrap()
    };
    // No event has a name of its own: a line is known by its body and its place.
    assert_eq!(fleet.ask(request()).2, json!({"events": 2, "repeated": 0, "alerts": 2}));
    let mut sent = 2;
    let headers = loop {
        let (status, headers, said) = fleet.ask(request());
        sent += 2;
        if status != StatusCode::OK {
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{said}");
            break headers;
        }
        assert_eq!(said["repeated"], 2);
        assert!(sent < 100, "ten seconds of one event a second are ten events");
    };
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    fleet.clock.pass(std::time::Duration::from_secs(seconds));
    assert_eq!(fleet.ask(request()).0, StatusCode::OK);
    // As many as wait at once, and one more.
    let intake = &fleet.plane().shared.intake;
    let sender = intake.sender("prod").unwrap();
    let turns: Vec<_> = (0..crate::intake::BODIES_AT_ONCE_MAX).map(|_| intake.turn(sender).unwrap()).collect();
    let (status, said) = fleet.send("k8s_audit", "secret", batch("alice", &[1]));
    assert_eq!((status, &said["error"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("too many bodies wait already")));
    drop(turns);
    assert_eq!(fleet.send("k8s_audit", "secret", batch("alice", &[1])), taken(1, 0, 1));
}

#[test]
fn before_the_first_release_nothing_is_taken_in() {
    let mut fleet = Fleet::start();
    fleet.restart_after(declare);
    let (status, said) = fleet.send("k8s_audit", "secret", batch("alice", &[1]));
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert!(said["error"].as_str().unwrap().contains("no release is promoted"), "{said}");
}

#[test]
fn a_fleet_whose_senders_are_wrong_does_not_start() {
    let mut fleet = Fleet::start();
    fleet.stop();
    let path = fleet.dir().join("fleet.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    for (wrong, words) in [
        ("[{ name: Prod, source: json, token_sha256: [] }]", "intake name \"Prod\""),
        ("[{ name: a, source: json, token_sha256: [] }]", "0 tokens"),
        ("[{ name: a, source: syscall, token_sha256: [D] }]", "source \"syscall\""),
        ("[{ name: a, source: json, token_sha256: [D], events_per_second: 0 }]", "is 0"),
        ("[{ name: a, source: json, token_sha256: [D] }, { name: a, source: json, token_sha256: [E] }]", "two intakes"),
        ("[{ name: a, source: json, token_sha256: [D] }, { name: b, source: json, token_sha256: [D] }]", "has too"),
        ("[{ name: a, source: json, token_sha256: [secret] }]", "is broken"),
    ] {
        let digest = |letter: &str| format!("\"{}\"", letter.repeat(64));
        let text = wrong.replace('D', &digest("d")).replace('E', &digest("e"));
        std::fs::write(&path, format!("{good}intake: {text}\n")).unwrap();
        let error = fleet.refused_start();
        assert!(error.contains("fleet.yaml") && error.contains(words), "{wrong}: {error}");
    }
}
