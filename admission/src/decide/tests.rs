use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, Sequence, Serial, StreamId};
use cairn_schemas::record::{RECORD_LEN_MAX, Record};
use cairn_schemas::time::Timestamp;

use super::*;
use crate::review::ATTRIBUTE_LEN_MAX;

fn request(text: &str) -> Request {
    let review = serde_json::json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": text, "name": text, "namespace": text, "operation": "CREATE",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "alice@example.com"},
            "object": {}
        }
    });
    Request::parse(&serde_json::to_vec(&review).unwrap()).unwrap()
}

fn key() -> TokenKey {
    TokenKey { epoch: "e1".into(), key: [1; 32] }
}

fn found(guardrail: &str, message: &str) -> Found {
    Found {
        guardrail: guardrail.into(),
        message: message.into(),
        by_error: false,
        file: "guardrails/a.rego".into(),
        line: 3,
        column: 0,
    }
}

fn sealed(decision: &Decision) -> Vec<u8> {
    let release = ReleaseRef { serial: Serial(3), digest: Digest::sha256(b"x") };
    let draft = decision.draft(release);
    let node: NodeId = "n".repeat(64).parse().unwrap();
    let record = Record {
        stream: StreamId::new(&node, [1; 16]),
        sequence: Sequence(u64::MAX - 1),
        prevdigest: Digest::ZERO,
        kind: draft.kind,
        subject: draft.subject,
        time: Timestamp::from_nanos(1),
        release: draft.release,
        foreignid: draft.foreignid,
        data: draft.data,
    };
    record.to_bytes().unwrap()
}

#[test]
fn denials_deny_and_warnings_do_not() {
    let verdict = Verdict { denials: vec![], warnings: vec![found("a.warn", "careful")], omitted: 0 };
    let decision = decide(&request("x"), Ok(verdict), Duration::from_micros(7), &key());
    assert!(decision.data.allowed);
    assert_eq!((decision.warnings.as_slice(), decision.data.evaluated_us), (&["[a.warn] careful".to_owned()][..], 7));
    let verdict =
        Verdict { denials: vec![found("a.deny", "no"), found("b.deny", "never")], warnings: vec![], omitted: 2 };
    let decision = decide(&request("x"), Ok(verdict), Duration::ZERO, &key());
    assert!(!decision.data.allowed);
    assert_eq!(decision.reasons, ["[a.deny] no", "[b.deny] never"]);
    assert_eq!((decision.data.denials.len(), decision.data.omitted), (2, 2));
}

#[test]
fn an_evaluation_that_failed_denies_and_says_why() {
    let error = EvalError::Panicked { message: "index out of bounds".into() };
    let decision = decide(&request("x"), Err(error), Duration::ZERO, &key());
    assert!(!decision.data.allowed);
    assert!(decision.data.error.as_ref().unwrap().contains("index out of bounds"));
    assert!(decision.reasons[0].contains("could not be evaluated"));
}

#[test]
fn the_user_is_a_token_and_stands_nowhere_in_the_clear() {
    let decision = decide(&request("x"), Ok(Verdict::default()), Duration::ZERO, &key());
    assert_eq!(decision.data.user, token(&key(), "user", "alice@example.com").into());
    assert!(!String::from_utf8(sealed(&decision)).unwrap().contains("alice"));
}

#[test]
fn findings_at_their_limits_and_one_past_them() {
    let many = |count: usize| {
        let verdict = Verdict { denials: vec![found("g", "m"); count], ..Verdict::default() };
        decide(&request("x"), Ok(verdict), Duration::ZERO, &key()).data
    };
    assert_eq!((many(FINDINGS_KEPT_MAX).denials.len(), many(FINDINGS_KEPT_MAX).omitted), (50, 0));
    assert_eq!((many(FINDINGS_KEPT_MAX + 1).denials.len(), many(FINDINGS_KEPT_MAX + 1).omitted), (50, 1));
    let long = |len: usize| {
        let verdict = Verdict { denials: vec![found("g", &"m".repeat(len))], ..Verdict::default() };
        decide(&request("x"), Ok(verdict), Duration::ZERO, &key()).data.denials.remove(0).message
    };
    assert_eq!(long(FINDING_LEN_MAX), "m".repeat(FINDING_LEN_MAX));
    assert!(long(FINDING_LEN_MAX + 1).ends_with('…') && long(FINDING_LEN_MAX + 1).len() <= FINDING_LEN_MAX);
}

#[test]
fn the_worst_decision_still_fits_a_record() {
    // Characters that JSON writes as six bytes each, everywhere a request or a guardrail can put them.
    let worst = "\u{1}".repeat(ATTRIBUTE_LEN_MAX);
    let findings = vec![found(&"\u{1}".repeat(5_000), &"\u{1}".repeat(5_000)); 100];
    let verdict = Verdict { denials: findings.clone(), warnings: findings, omitted: 1 };
    let decision = decide(&request(&worst), Ok(verdict), Duration::MAX, &key());
    assert!(sealed(&decision).len() <= RECORD_LEN_MAX);
    let kept = decision.data.denials.len() + decision.data.warnings.len();
    assert!(kept > 0);
    assert_eq!(decision.data.omitted, 201 - kept as u64, "none is silently gone");
}
