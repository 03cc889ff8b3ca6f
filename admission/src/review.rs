//! Reading an AdmissionReview (`admission.k8s.io/v1`), by types of our own: what a decision needs of it, and nothing it may be
//! tricked by.

use cairn_schemas::canonical;
use cairn_schemas::digest::Digest;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Largest body, bytes.
pub const BODY_LEN_MAX: usize = 8 << 20;
/// Longest name, kind, uid and the like, bytes. Kubernetes' own limits are lower.
pub const ATTRIBUTE_LEN_MAX: usize = 512;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Why a body is not an AdmissionReview that can be judged. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// Not JSON, or nested deeper than 128.
    #[error("the body is not JSON: {0}; expected an AdmissionReview of {API_VERSION}")]
    NotJson(#[source] serde_json::Error),
    /// Another kind of document, or another version.
    #[error("the body is {found}; expected an AdmissionReview of {API_VERSION}")]
    NotAReview {
        /// What it is, cut at 100 characters.
        found: String,
    },
    /// An AdmissionReview without what a request has.
    #[error("the AdmissionReview's request cannot be read: {reason}; expected the form of {API_VERSION}")]
    Request {
        /// What is missing or wrong.
        reason: String,
    },
    /// A name that no API server sends.
    #[error("the AdmissionReview's {field} has {len} bytes; the limit is {ATTRIBUTE_LEN_MAX}")]
    TooLong {
        /// Which.
        field: &'static str,
        /// Its length.
        len: usize,
    },
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) uid: String,
    pub(crate) operation: Operation,
    /// `group/version/Kind`; `v1/Pod` for the core group.
    pub(crate) kind: String,
    /// `group/version/resource`, with `/subresource` where there is one.
    pub(crate) resource: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) username: String,
    pub(crate) dry_run: bool,
    /// Of the object under review; of the old one where there is no other.
    pub(crate) object: Digest,
    /// The request as it came: what guardrails see.
    pub(crate) value: Value,
}

/// What is about to happen to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

// The form on the wire. Fields that are not listed are kept for guardrails and not looked at here.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestForm {
    uid: String,
    kind: KindForm,
    resource: ResourceForm,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    operation: Operation,
    user_info: UserForm,
    #[serde(default)]
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct KindForm {
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize)]
struct ResourceForm {
    group: String,
    version: String,
    resource: String,
}

#[derive(Deserialize)]
struct UserForm {
    #[serde(default)]
    username: String,
}

/// The objects' bytes as they came.
#[derive(Deserialize)]
struct RawReview<'a> {
    #[serde(borrow)]
    request: RawRequest<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'a> {
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

impl Request {
    /// Reads a body of at most [`BODY_LEN_MAX`].
    pub(crate) fn parse(body: &[u8]) -> Result<Request, ReviewError> {
        let mut review: Value = serde_json::from_slice(body).map_err(ReviewError::NotJson)?;
        let member = |name: &str| review.get(name).and_then(Value::as_str);
        if member("apiVersion") != Some(API_VERSION) || member("kind") != Some(KIND) {
            return Err(ReviewError::NotAReview { found: describe(&review) });
        }
        let value = review.get_mut("request").map(Value::take).unwrap_or_default();
        let form =
            RequestForm::deserialize(&value).map_err(|error| ReviewError::Request { reason: error.to_string() })?;
        let object = digest(&value, body)?;
        let group_version = |group: &str, version: &str| {
            if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
        };
        let kind = format!("{}/{}", group_version(&form.kind.group, &form.kind.version), form.kind.kind);
        let mut resource =
            format!("{}/{}", group_version(&form.resource.group, &form.resource.version), form.resource.resource);
        if !form.sub_resource.is_empty() {
            resource = format!("{resource}/{}", form.sub_resource);
        }
        let texts = [
            ("uid", &form.uid),
            ("kind", &kind),
            ("resource", &resource),
            ("name", &form.name),
            ("namespace", &form.namespace),
        ];
        for (field, text) in texts {
            if text.len() > ATTRIBUTE_LEN_MAX {
                return Err(ReviewError::TooLong { field, len: text.len() });
            }
        }
        if form.uid.is_empty() {
            return Err(ReviewError::Request { reason: "its uid is empty".to_owned() });
        }
        let some = |text: String| (!text.is_empty()).then_some(text);
        Ok(Request {
            uid: form.uid,
            operation: form.operation,
            kind,
            resource,
            namespace: some(form.namespace),
            name: some(form.name),
            username: form.user_info.username,
            dry_run: form.dry_run.unwrap_or(false),
            object,
            value,
        })
    }
}

/// SHA-256 of the object as canonical JSON. One that has none (floats, large integers, deep nesting): of its bytes as they came.
fn digest(request: &Value, body: &[u8]) -> Result<Digest, ReviewError> {
    let present = |name: &str| request.get(name).filter(|object| !object.is_null());
    let object = present("object").or_else(|| present("oldObject")).unwrap_or(&Value::Null);
    if let Ok(bytes) = canonical::to_bytes(object) {
        return Ok(Digest::sha256(&bytes));
    }
    // A key that stands there twice is refused here: one could not say which of the two was judged.
    let raw: RawReview<'_> =
        serde_json::from_slice(body).map_err(|error| ReviewError::Request { reason: error.to_string() })?;
    let present = |raw: Option<&'_ RawValue>| {
        raw.filter(|raw| raw.get() != "null").map(|raw| Digest::sha256(raw.get().as_bytes()))
    };
    let digest = present(raw.request.object).or_else(|| present(raw.request.old_object));
    digest.ok_or_else(|| ReviewError::Request { reason: "its object is not readable".to_owned() })
}

/// What a document is, for somebody who sent the wrong one.
fn describe(value: &Value) -> String {
    let member = |name: &str| value.get(name).and_then(Value::as_str);
    let text = match (value, member("kind"), member("apiVersion")) {
        (Value::Object(_), Some(kind), Some(version)) => format!("a {kind} of {version}"),
        (Value::Object(_), Some(kind), None) => format!("a {kind} without apiVersion"),
        (Value::Object(_), None, _) => "a JSON object without kind".to_owned(),
        (Value::Array(_), ..) => "a JSON array".to_owned(),
        _ => "JSON, but no object".to_owned(),
    };
    text.chars().take(100).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests;
