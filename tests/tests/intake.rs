//! Events from outside, end to end: a policy repo with rules for an audit log, `cairn up`, batches as an API server's webhook sends them,
//! `kill -9` between two sends of one batch, and what the auditor's command says of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::path::Path;

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::RecordIndex;
use cairn_schemas::record::Record;
use cairn_schemas::types::RecordType;
use cairn_tests::shell::{commit, text};
use cairn_tests::up::{PATIENCE, Up, cairn};
use serde_json::{Value, json};

const START: RecordIndex = RecordIndex(0);
const TOKEN: &str = "a token that nobody guesses";

const RULES: &str = "- rule: Attach to a pod
  desc: Somebody opens a shell in a running container.
  condition: ka.verb in (create, get) and ka.target.subresource in (exec, attach) and ka.response.code = 101
  output: shell in a pod (user=%ka.user.name namespace=%ka.target.namespace pod=%ka.target.name)
  priority: NOTICE
  source: k8s_audit
- rule: Shells in many pods
  desc: The same person opens one after the other.
  condition: ka.verb in (create, get) and ka.target.subresource = exec
  output: shells in many pods (user=%ka.user.name pods=%cairn.count)
  priority: CRITICAL
  source: k8s_audit
  cairn:
    count: {by: [ka.user.name], within: 10m, above: 2, distinct: ka.target.name}
";

fn event(number: u32) -> Value {
    json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": format!("5e0b1c9e-0000-4000-8000-{number:012}"),
        "stage": "ResponseComplete",
        "requestURI": format!("/api/v1/namespaces/shop/pods/web-{number}/exec?command=sh"),
        "verb": "create",
        "user": {"username": "alice@example.com", "groups": ["system:authenticated"]},
        "sourceIPs": ["203.0.113.7"],
        "objectRef": {"resource": "pods", "namespace": "shop", "name": format!("web-{number}"), "apiVersion": "v1", "subresource": "exec"},
        "responseStatus": {"metadata": {}, "code": 101},
        "requestReceivedTimestamp": format!("2026-11-21T10:00:{number:02}.000000Z"),
        "stageTimestamp": format!("2026-11-21T10:00:{number:02}.500000Z"),
    })
}

fn batch(numbers: &[u32]) -> String {
    let items: Vec<Value> = numbers.iter().map(|number| event(*number)).collect();
    json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}).to_string()
}

/// Sends a body; the status, and what was said.
fn send(up: &Up, token: &str, body: &str) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = agent.post(&format!("{}/v1/intake/k8s_audit", up.url));
    let mut answer = request.header("authorization", &format!("Bearer {token}")).send(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap_or(Value::Null))
}

fn promoted(record: &Record, serial: u64) -> bool {
    record.kind == RecordType::RolloutPromoted
        && record.data["release"].as_str().is_some_and(|release| release.starts_with(&format!("{serial}@")))
}

fn raised(record: &Record, rule: &str) -> bool {
    record.kind == RecordType::DetectionRaised && record.data["rule"] == rule
}

fn declare(dir: &Path) {
    let path = dir.join("fleet.yaml");
    let fleet = std::fs::read_to_string(&path).unwrap();
    let digest = Digest::sha256(TOKEN.as_bytes());
    let intake = format!("intake:\n  - name: shop-cluster\n    source: k8s_audit\n    token_sha256: [\"{digest}\"]\n");
    std::fs::write(path, fleet + &intake).unwrap();
}

#[test]
fn an_audit_log_is_matched_recorded_and_never_twice() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cairn-data");
    let up = Up::start(&dir);
    commit(&up.policies(), "Watch the audit log", &[("detections/audit.yaml", RULES)]);
    up.ledger().wait("release 2 promoted", START, PATIENCE, |record| promoted(record, 2));
    assert_eq!(send(&up, TOKEN, &batch(&[1])).0, 401, "nobody may send yet");
    assert!(up.stop());
    declare(&dir);

    let up = Up::start(&dir);
    assert_eq!(send(&up, "a token that somebody guesses", &batch(&[1])).0, 401);
    let (status, said) = send(&up, TOKEN, &format!("{}\n{{\"items\":", batch(&[1])));
    assert_eq!(status, 400);
    assert!(said["error"].as_str().unwrap().starts_with("line 2: not JSON"), "{said}");
    assert_eq!(send(&up, TOKEN, &batch(&[1, 2])), (200, json!({"events": 2, "repeated": 0, "alerts": 2})));
    // Killed: what was acknowledged is in the ledger, and what rules know is not lost.
    up.kill();

    let up = Up::start(&dir);
    assert_eq!(send(&up, TOKEN, &batch(&[1, 2])).0, 200);
    let (status, said) = send(&up, TOKEN, &batch(&[1, 2, 3]));
    assert_eq!((status, &said["repeated"], &said["alerts"]), (200, &json!(2), &json!(2)), "{said}");
    let ledger = up.ledger();
    let many = ledger.wait("the count", START, PATIENCE, |record| raised(record, "Shells in many pods"));
    assert_eq!(many.record.data["fields"]["cairn.count"], "3");
    let page = ureq::get(&format!("{}/", up.url)).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(page.contains("Intake") && page.contains("shop-cluster"), "{page}");
    assert!(up.stop());

    let records = cairn_tests::ledger::Reader::new(&dir.join("ledger")).records();
    let shells: Vec<&Record> =
        records.iter().map(|placed| &placed.record).filter(|record| raised(record, "Attach to a pod")).collect();
    let pods: Vec<&str> =
        shells.iter().map(|record| record.data["fields"]["ka.target.name"].as_str().unwrap()).collect();
    assert_eq!(pods, ["web-1", "web-2", "web-3"]);
    assert!(shells.iter().all(|record| record.data.get("process").is_none() && record.release.is_some()));
    let clear = records.iter().filter(|placed| String::from_utf8_lossy(&placed.bytes).contains("alice"));
    assert_eq!(clear.count(), 0, "nobody is named in the clear");

    // The auditor finds nothing wrong, with the vault and without it.
    let (ledger, vault) = (dir.join("ledger"), dir.join("ledger.vault"));
    let (ledger, vault) = (ledger.to_str().unwrap(), vault.to_str().unwrap());
    for words in [&["verify", ledger][..], &["verify", ledger, "--vault", vault]] {
        let verified = cairn(words);
        assert!(verified.status.success(), "{}", text(&verified));
    }
    // Her name is erased by her name.
    let erased = cairn(&["ledger", "erase", ledger, "--subject", "alice@example.com"]);
    assert!(erased.status.success(), "{}", text(&erased));
    let verified = cairn(&["verify", ledger, "--vault", vault]);
    assert!(verified.status.success(), "{}", text(&verified));
}
