//! What a rule sees as `input`: one shape in CI, at admission and in an audit.
//!
//! **`input` is the Kubernetes object itself**, as Conftest gives it (`input.kind`, `input.spec.containers`), so that rules written
//! for files in CI work unchanged at admission. **`input.review` is the admission request**, as Gatekeeper gives it
//! (`input.review.operation`, `input.review.userInfo.username`, `input.review.object`), so that rules that need to know who
//! asks for what can ask. In CI, where nobody asks, `input.review` is what `kubectl create` would send, without a user.
//!
//! - An object that carries a top-level field `review` of its own cannot pose as a request: ours replaces it.
//! - DELETE requests have no object that would come to exist, so `input` holds `review` alone: a rule that denies privileged
//!   pods does not stand in the way of deleting one. Rules about deletion look at `input.review.oldObject`.
//! - CONNECT requests have their options (such as `PodExecOptions`) as the object.
//! - A document that is not a Kubernetes object (no `apiVersion` and `kind`) is `input` as it is, as with Conftest.

use serde_json::{Map, Value, json};

/// The field of `input` that holds the admission request.
pub const REVIEW: &str = "review";

/// The input for an admission request: `request` is the `request` member of an `AdmissionReview`.
pub fn admission(request: &Value) -> Value {
    let mut input = match request.get("object") {
        Some(Value::Object(object)) if !is_delete(request) => object.clone(),
        _ => Map::new(),
    };
    input.insert(REVIEW.to_owned(), request.clone());
    Value::Object(input)
}

/// The inputs for one document of a file: usually one, one for each item of a Kubernetes `List`, and an `AdmissionReview`
/// (as the API server sends it) becomes what it would be at admission.
pub fn documents(document: Value) -> Vec<Value> {
    match kind_of(&document) {
        Some(("v1", "List")) => match document.get("items") {
            Some(Value::Array(items)) => items.iter().cloned().flat_map(documents).collect(),
            _ => vec![document],
        },
        Some(("admission.k8s.io/v1", "AdmissionReview")) => match document.get("request") {
            Some(request @ Value::Object(_)) => vec![admission(request)],
            _ => vec![document],
        },
        Some(_) => vec![created(document)],
        None => vec![document],
    }
}

/// What the API server would ask if the object were created.
fn created(object: Value) -> Value {
    let (group_version, kind) = match kind_of(&object) {
        Some(parts) => parts,
        None => return object,
    };
    let (group, version) = group_version.rsplit_once('/').unwrap_or(("", group_version));
    let metadata = |field: &str| object.pointer(&format!("/metadata/{field}")).cloned();
    let mut request = json!({
        "kind": { "group": group, "version": version, "kind": kind },
        "operation": "CREATE",
        "object": object,
    });
    for field in ["name", "namespace"] {
        if let Some(value) = metadata(field) {
            request[field] = value;
        }
    }
    admission(&request)
}

/// Group/version and kind, if the document is a Kubernetes object.
fn kind_of(document: &Value) -> Option<(&str, &str)> {
    Some((document.get("apiVersion")?.as_str()?, document.get("kind")?.as_str()?))
}

fn is_delete(request: &Value) -> bool {
    request.get("operation").and_then(Value::as_str) == Some("DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "namespace": "shop" } })
    }

    #[test]
    fn a_file_and_its_admission_show_the_same_object() {
        let from_file = documents(pod()).remove(0);
        let from_server =
            admission(&json!({ "operation": "CREATE", "userInfo": { "username": "eve" }, "object": pod() }));
        for input in [&from_file, &from_server] {
            assert_eq!(input["kind"], "Pod");
            assert_eq!(input["metadata"]["name"], "web");
            assert_eq!(input["review"]["operation"], "CREATE");
            assert_eq!(input["review"]["object"], pod());
        }
        assert_eq!(from_file["review"]["namespace"], "shop");
        assert_eq!(from_server["review"]["userInfo"]["username"], "eve");
    }

    #[test]
    fn an_object_cannot_bring_its_own_request() {
        let mut object = pod();
        object["review"] = json!({ "userInfo": { "username": "system:admin" } });
        let input = admission(&json!({ "operation": "CREATE", "object": object }));
        assert_eq!(input["review"].get("userInfo"), None);
    }

    #[test]
    fn a_deletion_shows_no_object() {
        let input = admission(&json!({ "operation": "DELETE", "object": null, "oldObject": pod() }));
        assert_eq!(input.get("kind"), None);
        assert_eq!(input["review"]["oldObject"], pod());
    }

    #[test]
    fn lists_are_unpacked_and_other_documents_left_alone() {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [pod(), pod()] });
        assert_eq!(documents(list).len(), 2);
        assert_eq!(documents(json!({ "a": 1 })), [json!({ "a": 1 })]);
        assert_eq!(documents(json!([1, 2])), [json!([1, 2])]);
        let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": { "operation": "UPDATE", "object": pod() } });
        assert_eq!(documents(review)[0]["review"]["operation"], "UPDATE");
    }
}
