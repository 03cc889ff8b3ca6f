use serde_json::json;

use super::*;

fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "subResource": "scale",
            "name": "web", "namespace": "shop", "operation": "UPDATE",
            "userInfo": {"username": "alice", "groups": ["devs"]},
            "object": {"b": 1, "a": "x"}, "oldObject": {"a": "y"},
            "somethingNew": true
        }
    })
}

fn parse(value: &Value) -> Result<Request, ReviewError> {
    Request::parse(&serde_json::to_vec(value).unwrap())
}

fn edited(edit: impl FnOnce(&mut Value)) -> Result<Request, ReviewError> {
    let mut value = review();
    edit(&mut value["request"]);
    parse(&value)
}

#[test]
fn a_request_is_read() {
    let request = parse(&review()).unwrap();
    assert_eq!((request.uid.as_str(), request.operation), ("u-1", Operation::Update));
    assert_eq!(request.kind, "apps/v1/Deployment");
    assert_eq!(request.resource, "apps/v1/deployments/scale");
    assert_eq!((request.namespace.as_deref(), request.name.as_deref()), (Some("shop"), Some("web")));
    assert_eq!((request.username.as_str(), request.dry_run), ("alice", false));
    assert_eq!(request.object, Digest::sha256(br#"{"a":"x","b":1}"#));
    assert_eq!(request.value["somethingNew"], true, "guardrails see the request as it came");
    let core = edited(|request| request["kind"] = json!({"group": "", "version": "v1", "kind": "Pod"})).unwrap();
    assert_eq!(core.kind, "v1/Pod");
    let bare = edited(|request| {
        for field in ["name", "namespace", "subResource"] {
            request.as_object_mut().unwrap().remove(field);
        }
        request["dryRun"] = json!(true);
    })
    .unwrap();
    assert_eq!((bare.name, bare.namespace, bare.dry_run), (None, None, true));
    assert_eq!(bare.resource, "apps/v1/deployments");
}

#[test]
fn the_digest_is_of_the_object_or_of_the_old_one_and_of_the_bytes_where_there_is_no_canonical_form() {
    let deleted = edited(|request| {
        request["operation"] = json!("DELETE");
        request["object"] = Value::Null;
    })
    .unwrap();
    assert_eq!(deleted.object, Digest::sha256(br#"{"a":"y"}"#));
    let neither = edited(|request| {
        request["object"] = Value::Null;
        request.as_object_mut().unwrap().remove("oldObject");
    })
    .unwrap();
    assert_eq!(neither.object, Digest::sha256(b"null"));

    let body = |object: &str, old: &str| {
        let mut value = review();
        value["request"]["object"] = json!("OBJECT");
        value["request"]["oldObject"] = json!("OLD");
        let text = serde_json::to_string(&value).unwrap();
        text.replace("\"OBJECT\"", object).replace("\"OLD\"", old)
    };
    let float = r#"{ "b": 1.50, "a": 2 }"#;
    let request = Request::parse(body(float, "null").as_bytes()).unwrap();
    assert_eq!(request.object, Digest::sha256(float.as_bytes()), "as it came, spaces and all");
    let request = Request::parse(body("null", float).as_bytes()).unwrap();
    assert_eq!(request.object, Digest::sha256(float.as_bytes()));
    let large = "{\"n\": 9007199254740993}";
    assert_eq!(Request::parse(body(large, "null").as_bytes()).unwrap().object, Digest::sha256(large.as_bytes()));
    let twice = body(&format!("{float}, \"object\": 1.5"), "null");
    assert!(
        matches!(Request::parse(twice.as_bytes()), Err(ReviewError::Request { .. })),
        "which of the two was judged?"
    );
}

#[test]
fn what_is_no_review_is_told_what_it_is_and_what_was_expected() {
    let mut old = review();
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let cases = [
        (json!({}), "a JSON object without kind"),
        (json!([]), "a JSON array"),
        (json!("x"), "JSON, but no object"),
        (json!({"kind": "Pod", "apiVersion": "v1"}), "a Pod of v1"),
        (json!({"kind": "AdmissionReview"}), "a AdmissionReview without apiVersion"),
        (old, "a AdmissionReview of admission.k8s.io/v1beta1"),
        (json!({"kind": "P\u{1b}[2J\nx"}), "a P\\u{1b}[2J\\nx without apiVersion"),
    ];
    for (value, said) in cases {
        let error = parse(&value).unwrap_err().to_string();
        assert_eq!(error, format!("the body is {said}; expected an AdmissionReview of admission.k8s.io/v1"));
    }
    for body in [&b""[..], b"not json", b"\xff", b"{\"a\":1} x"] {
        let error = Request::parse(body).unwrap_err();
        assert!(matches!(error, ReviewError::NotJson(_)), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn each_field_that_a_decision_needs_must_be_there_and_of_its_form() {
    for field in ["uid", "kind", "resource", "operation", "userInfo"] {
        let missing = edited(|request| drop(request.as_object_mut().unwrap().remove(field))).unwrap_err();
        assert!(missing.to_string().contains(field), "{missing}");
        for wrong in [json!(5), Value::Null, json!([1])] {
            assert!(edited(|request| request[field] = wrong.clone()).is_err(), "{field}: {wrong}");
        }
    }
    assert!(edited(|request| request["operation"] = json!("PATCH")).unwrap_err().to_string().contains("PATCH"));
    assert!(edited(|request| request["uid"] = json!("")).is_err());
    assert!(parse(&json!({"apiVersion": API_VERSION, "kind": KIND})).is_err());
    assert!(edited(|request| request["dryRun"] = Value::Null).is_ok());
}

#[test]
fn names_at_the_limit_and_one_past_it() {
    for field in ["uid", "name", "namespace"] {
        assert!(edited(|request| request[field] = json!("n".repeat(ATTRIBUTE_LEN_MAX))).is_ok());
        let error = edited(|request| request[field] = json!("n".repeat(ATTRIBUTE_LEN_MAX + 1))).unwrap_err();
        assert!(matches!(error, ReviewError::TooLong { len: 513, .. }), "{error}");
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let deep = |depth: usize| {
        let mut value = serde_json::to_string(&review()).unwrap();
        value = value.replace("{\"a\":\"y\"}", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        Request::parse(value.as_bytes())
    };
    assert!(deep(100).is_ok());
    for depth in [200, 1_000_000] {
        assert!(matches!(deep(depth), Err(ReviewError::NotJson(_))));
    }
}
