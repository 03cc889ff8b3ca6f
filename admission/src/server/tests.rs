use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::http::Request as HttpRequest;
use cairn_node::{ActiveRelease, SpoolLimits, SystemRandom};
use cairn_policy::Policy;
use cairn_schemas::data::AdmissionDecided;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Serial};
use cairn_schemas::record::Record;
use cairn_schemas::time::{Clock, ManualClock, Timestamp};
use cairn_schemas::types::RecordType;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;

const GUARDRAILS: &str = r#"package pods

deny contains msg if {
    some container in input.spec.containers
    container.securityContext.privileged == true
    msg := sprintf("container %s is privileged", [container.name])
}

deny_deletion contains "the namespace holds what others need" if {
    input.review.operation == "DELETE"
    input.review.oldObject.metadata.name == "kept"
}

warn contains "use a tag" if {
    some container in input.spec.containers
    endswith(container.image, ":latest")
}
"#;

struct Bench {
    _folder: tempfile::TempDir,
    spool: Spool,
    admission: Admission,
}

fn release() -> ReleaseRef {
    ReleaseRef { serial: Serial(4), digest: Digest::sha256(b"content") }
}

fn active(guardrails: Option<&str>) -> Active {
    let mut tree = BTreeMap::from([("cairn.yaml".to_owned(), b"version: 1\nrings:\n  - name: all\n".to_vec())]);
    if let Some(text) = guardrails {
        tree.insert("guardrails/pods.rego".to_owned(), text.as_bytes().to_vec());
    }
    let policy = Policy::load(&tree).unwrap_or_else(|problems| panic!("{problems}"));
    Active::new(Some(Arc::new(ActiveRelease { reference: release(), policy })))
}

impl Bench {
    fn with(active: Active, config: AdmissionConfig, limits: SpoolLimits) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_nanos(1_700_000_000_000_000_000)));
        let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let node = "admission-1".parse().unwrap();
        let path = folder.path().join("spool");
        let spool = Spool::open(&path, &node, &key, limits, clock, Arc::new(SystemRandom)).unwrap();
        let token_key = TokenKey { epoch: "e1".into(), key: [4; 32] };
        let admission = Admission::new(active, spool.clone(), token_key, config);
        Bench { _folder: folder, spool, admission }
    }

    fn new() -> Bench {
        Bench::with(active(Some(GUARDRAILS)), AdmissionConfig::default(), SpoolLimits::default())
    }

    async fn post(&self, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = HttpRequest::post(VALIDATE_PATH).body(body.into()).unwrap();
        let response = self.admission.router().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn ask(&self, body: Value) -> Value {
        let (status, answer) = self.post(body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        answer["response"].clone()
    }

    /// The decisions in the spool, with their bytes.
    fn decisions(&self) -> Vec<(Record, Vec<u8>)> {
        let pending = self.spool.pending(usize::MAX, usize::MAX).unwrap().unwrap();
        let records = pending.records.into_iter().map(|bytes| (Record::parse(&bytes).unwrap(), bytes));
        records.filter(|(record, _)| record.kind == RecordType::AdmissionDecided).collect()
    }
}

fn review(privileged: bool, image: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5", "operation": "CREATE", "namespace": "shop", "name": "web",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "alice@example.com"},
            "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
                "spec": {"containers": [{"name": "c", "image": image, "securityContext": {"privileged": privileged}}]}
            }
        }
    })
}

#[tokio::test]
async fn a_denial_says_why_and_its_record_is_on_disk_when_the_answer_leaves() {
    let bench = Bench::new();
    let response = bench.ask(review(true, "web:latest")).await;
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("705ab4f5"), &json!(false)));
    assert_eq!(response["status"]["code"], 403);
    assert_eq!(response["status"]["reason"], "Forbidden");
    assert_eq!(response["status"]["message"], "[pods.deny] container c is privileged");
    assert_eq!(response["warnings"], json!(["[pods.warn] use a tag"]));

    let (record, bytes) = bench.decisions().remove(0);
    let notes = &response["auditAnnotations"];
    assert_eq!(notes["leaf"], Digest::leaf(&bytes).to_string());
    assert_eq!(notes["stream"], record.stream.to_string());
    assert_eq!(notes["sequence"], record.sequence.padded());
    assert_eq!(notes["release"], release().to_string());
    assert_eq!((record.release, record.subject.as_deref()), (Some(release()), Some("shop/web")));
    let data: AdmissionDecided = record.data_as().unwrap();
    assert_eq!((data.uid.as_str(), data.allowed, data.dry_run), ("705ab4f5", false, false));
    assert_eq!((data.kind.as_str(), data.resource.as_str()), ("v1/Pod", "v1/pods"));
    assert_eq!(data.denials[0].guardrail, "pods.deny");
    assert!(!String::from_utf8(bytes).unwrap().contains("alice"));
    assert_eq!(bench.admission.counters(), Counters { denied: 1, ..Counters::default() });
}

#[tokio::test]
async fn an_allowed_request_is_recorded_too_and_a_dry_run_as_one() {
    let bench = Bench::new();
    let response = bench.ask(review(false, "web:1")).await;
    assert_eq!(response["allowed"], true);
    assert_eq!((response.get("status"), response.get("warnings")), (None, None));
    let mut dry = review(true, "web:1");
    dry["request"]["dryRun"] = json!(true);
    assert_eq!(bench.ask(dry).await["allowed"], false);
    let decisions = bench.decisions();
    let dry_runs: Vec<bool> =
        decisions.iter().map(|(record, _)| record.data_as::<AdmissionDecided>().unwrap().dry_run).collect();
    assert_eq!(dry_runs, [false, true]);
}

#[tokio::test]
async fn a_deletion_is_judged_by_its_old_object_and_only_by_guardrails_that_look_at_it() {
    let bench = Bench::new();
    let mut deletion = review(true, "web:1");
    deletion["request"]["operation"] = json!("DELETE");
    deletion["request"]["oldObject"] = deletion["request"]["object"].take();
    let response = bench.ask(deletion.clone()).await;
    assert_eq!(response["allowed"], true, "a privileged pod may be deleted");
    deletion["request"]["oldObject"]["metadata"]["name"] = json!("kept");
    let response = bench.ask(deletion).await;
    assert_eq!(response["status"]["message"], "[pods.deny_deletion] the namespace holds what others need");
}

#[tokio::test]
async fn without_guardrails_everything_is_allowed_and_recorded() {
    let bench = Bench::with(active(None), AdmissionConfig::default(), SpoolLimits::default());
    assert_eq!(bench.ask(review(true, "x")).await["allowed"], true);
    assert_eq!(bench.decisions().len(), 1);
}

#[tokio::test]
async fn without_a_release_there_is_no_decision() {
    let bench = Bench::with(Active::default(), AdmissionConfig::default(), SpoolLimits::default());
    assert!(!bench.admission.ready());
    let (status, answer) = bench.post(review(false, "x").to_string()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer["error"], "no release is active on this node");
    assert!(bench.decisions().is_empty());
    assert_eq!(bench.admission.counters().not_ready, 1);
    assert!(Bench::new().admission.ready());
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_decided_unless_configured() {
    let full = SpoolLimits { len_max: 3_000, reserve_len: 2_500, segment_len_max: 500 };
    let bench = Bench::with(active(Some(GUARDRAILS)), AdmissionConfig::default(), full);
    for privileged in [true, false] {
        let (status, answer) = bench.post(review(privileged, "x").to_string()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer["error"].as_str().unwrap().contains("cannot be recorded"), "{answer}");
        assert!(answer.get("response").is_none());
    }
    assert_eq!(bench.admission.counters(), Counters { unrecordable: 2, ..Counters::default() });
    assert_eq!(bench.spool.status().refused, 2);

    let config = AdmissionConfig { on_unrecordable: OnUnrecordable::Act, ..AdmissionConfig::default() };
    let bench = Bench::with(active(Some(GUARDRAILS)), config, full);
    let response = bench.ask(review(true, "x")).await;
    assert_eq!((&response["allowed"], &response["auditAnnotations"]["unrecorded"]), (&json!(false), &json!("true")));
    assert!(response["auditAnnotations"].get("leaf").is_none());
    assert_eq!(bench.spool.status().refused, 1, "it is counted, and will be a sensor.loss record");
}

#[tokio::test]
async fn a_guardrail_that_does_not_end_denies_and_says_so() {
    let endless = "package slow\n\ndeny contains \"x\" if {\n    input.n == 1\n    some a in numbers.range(1, 3000)\n    some b in \
                   numbers.range(1, 3000)\n    a * b == 0 - input.n\n}\n";
    let config = AdmissionConfig { evaluation_time_max: Duration::from_millis(50), ..AdmissionConfig::default() };
    let bench = Bench::with(active(Some(endless)), config, SpoolLimits::default());
    let mut body = review(false, "x");
    body["request"]["object"]["n"] = json!(1);
    let response = bench.ask(body).await;
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("could not be evaluated"), "{response}");
    let data: AdmissionDecided = bench.decisions().remove(0).0.data_as().unwrap();
    assert!(data.error.unwrap().contains("took longer"), "the record says why");
    assert_eq!(bench.admission.counters().failed, 1);
}

#[tokio::test]
async fn hostile_bodies_get_one_line_and_leave_no_record() {
    let bench = Bench::new();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let wrong = review(false, "x").to_string().replace("\"uid\":\"705ab4f5\"", "\"uid\":{\"a\":[]}");
    let bodies =
        ["", "{}", "[]", "null", "not json", "{\"kind\":\"Pod\"}", &deep, &wrong, "\u{0}\u{0}", "{\"apiVersion\":"];
    for body in bodies {
        let (status, answer) = bench.post(body.to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains("AdmissionReview") && !error.contains('\n') && error.len() < 400, "{error}");
    }
    assert!(bench.decisions().is_empty());
    assert_eq!(bench.admission.counters().malformed, bodies.len() as u64);
}

#[tokio::test]
async fn a_body_at_the_limit_is_read_and_one_past_it_is_not() {
    let bench = Bench::new();
    let body = review(false, "IMAGE").to_string();
    let pad = |len: usize| body.replace("IMAGE", &"x".repeat(len - (body.len() - "IMAGE".len())));
    let (status, _) = bench.post(pad(BODY_LEN_MAX)).await;
    assert_eq!(status, StatusCode::OK);
    let (status, answer) = bench.post(pad(BODY_LEN_MAX + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer["error"].as_str().unwrap().contains("8388608"), "{answer}");
}

#[tokio::test]
async fn too_many_at_once_are_shed_and_counted() {
    let config = AdmissionConfig { concurrent_max: 0, ..AdmissionConfig::default() };
    let bench = Bench::with(active(None), config, SpoolLimits::default());
    let (status, answer) = bench.post(review(false, "x").to_string()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer["hint"].as_str().is_some());
    assert_eq!(bench.admission.counters().shed, 1);
    assert!(bench.decisions().is_empty());
}

#[tokio::test]
async fn other_methods_and_places_are_not_here() {
    let bench = Bench::new();
    let get = HttpRequest::get(VALIDATE_PATH).body(Body::empty()).unwrap();
    assert_eq!(bench.admission.router().oneshot(get).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_each_get_their_own_record_and_share_the_disk() {
    let bench = Arc::new(Bench::new());
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let mut body = review(number % 2 == 0, "x:1");
                body["request"]["uid"] = json!(format!("u{number}"));
                let began = Instant::now();
                let response = loop {
                    let (status, answer) = bench.post(body.to_string()).await;
                    if status == StatusCode::OK {
                        break answer["response"].clone();
                    }
                    // Shed: the API server would try again too.
                    tokio::task::yield_now().await;
                };
                (response, began.elapsed())
            })
        })
        .collect();
    let mut leaves = std::collections::BTreeSet::new();
    let mut times = Vec::new();
    for task in tasks {
        let (response, took) = task.await.unwrap();
        leaves.insert(response["auditAnnotations"]["leaf"].as_str().unwrap().to_owned());
        times.push(took);
    }
    let recorded: std::collections::BTreeSet<String> =
        bench.decisions().iter().map(|(_, bytes)| Digest::leaf(bytes).to_string()).collect();
    assert_eq!((leaves.len(), &leaves), (200, &recorded));
    times.sort();
    println!("200 decisions at once, durable: p50 {:?}, p99 {:?}", times[100], times[197]);
}
