//! What a record's `data` refers to outside the ledger: values behind commitments, and blobs.
//!
//! A blob is bytes too large or too foreign for a record; the record holds a reference, the bytes lie encrypted beside the tiles
//! (`ledger/FORMAT.md`, Blobs). [`of_record`] tells of every commitment and every reference with its place.
//!
//! Where a commitment may stand is a matter of the record's type. A program can have any text as its argument, and a detection of it
//! holds that text: it is no commitment there, whatever it reads like.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::commitment::{Commitment, KeyId};
use crate::data::is_personal_field;
use crate::digest::Digest;
use crate::types::RecordType;

/// Largest blob, bytes of its plain text.
pub const BLOB_LEN_MAX: u64 = 64 << 20;
/// The member by which an object in `data` is known as a reference to a blob.
pub const BLOB_MEMBER: &str = "$blob";
/// How a commitment begins in a record's JSON: a text without it refers to none.
const COMMITMENT_TEXT: &str = "\"com:";
/// How a blob's reference shows in a record's JSON.
const BLOB_TEXT: &str = "\"$blob\"";

/// A record's reference to a blob: the object `{"$blob": …, "$key": …, "$size": …}` and nothing else in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobReference {
    /// SHA-256 of the whole encrypted file: its name.
    #[serde(rename = "$blob")]
    pub digest: Digest,
    /// The key of the vault that it is encrypted under.
    #[serde(rename = "$key")]
    pub key: KeyId,
    /// Bytes of the plain text; at most [`BLOB_LEN_MAX`].
    #[serde(rename = "$size")]
    pub size: u64,
}

impl BlobReference {
    /// The reference as it stands in `data`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("invariant: texts and an integer are JSON")
    }

    /// Reads an object that has the member `$blob`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_object(object: &Map<String, Value>) -> Result<BlobReference, String> {
        let reference: BlobReference = BlobReference::deserialize(object).map_err(|error| error.to_string())?;
        if reference.size > BLOB_LEN_MAX {
            return Err(format!("its size is {}; the limit is {BLOB_LEN_MAX} bytes", reference.size));
        }
        Ok(reference)
    }
}

/// Something that a payload refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A text that is a commitment.
    Commitment(Commitment),
    /// A reference to a blob.
    Blob(BlobReference),
    /// An object that says that it is a reference to a blob, and is none: why.
    Malformed(String),
}

/// Whether a record's canonical bytes can refer to anything: a quick look that says yes too often and never no wrongly.
#[must_use]
pub fn may_refer(kind: RecordType, record: &str) -> bool {
    record.contains(COMMITMENT_TEXT) || (kind == RecordType::EvidenceReceived && record.contains(BLOB_TEXT))
}

/// What a record of this type refers to, with the place in its `data` as a JSON pointer (RFC 6901).
#[must_use]
pub fn of_record(kind: RecordType, data: &Value) -> Vec<(String, Reference)> {
    let mut found = find(data);
    if kind != RecordType::EvidenceReceived {
        found.retain(|(place, reference)| matches!(reference, Reference::Commitment(_)) && is_personal(kind, place));
    }
    found
}

/// Whether the schema of a type marks a place personal.
fn is_personal(kind: RecordType, place: &str) -> bool {
    match kind {
        RecordType::AdmissionDecided => place == "/user",
        RecordType::ReleaseBuilt => matches!(place, "/author" | "/signature/principal"),
        RecordType::PrivacyErased => place == "/by",
        RecordType::DetectionRaised => match place.strip_prefix("/fields/") {
            Some(field) => is_personal_field(&field.replace("~1", "/").replace("~0", "~")),
            None => {
                place.starts_with("/personal/")
                    || matches!(place, "/process/user/uid" | "/process/user/name" | "/process/user/login_uid")
            }
        },
        _ => false,
    }
}

/// Everything in a payload that reads as a reference, with its place, in the order of the payload's members.
#[must_use]
pub fn find(data: &Value) -> Vec<(String, Reference)> {
    let mut found = Vec::new();
    walk(data, &mut String::new(), &mut found);
    found
}

// Records nest at most as deep as canonical JSON may (`canonical::DEPTH_MAX`), so this does not overflow.
fn walk(value: &Value, place: &mut String, found: &mut Vec<(String, Reference)>) {
    let len = place.len();
    match value {
        Value::String(text) => {
            if let Ok(commitment) = text.parse() {
                found.push((place.clone(), Reference::Commitment(commitment)));
            }
        }
        Value::Object(members) if members.contains_key(BLOB_MEMBER) => {
            let reference = BlobReference::from_object(members).map_or_else(Reference::Malformed, Reference::Blob);
            found.push((place.clone(), reference));
        }
        Value::Object(members) => {
            for (name, member) in members {
                place.push('/');
                place.push_str(&name.replace('~', "~0").replace('/', "~1"));
                walk(member, place, found);
                place.truncate(len);
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                place.push('/');
                place.push_str(&number.to_string());
                walk(item, place, found);
                place.truncate(len);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn commitment() -> Commitment {
        Commitment { key: KeyId([1; 16]), digest: Digest::sha256(b"x") }
    }

    fn blob(size: u64) -> BlobReference {
        BlobReference { digest: Digest::sha256(b"blob"), key: KeyId([2; 16]), size }
    }

    #[test]
    fn references_are_found_with_their_places() {
        let data = json!({
            "a/b": {"~": commitment()},
            "body": blob(7).to_value(),
            "list": ["com:example", commitment(), {"$blob": "x"}],
            "text": "x com:"
        });
        let found = find(&data);
        let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["/a~1b/~0", "/body", "/list/1", "/list/2"]);
        assert_eq!(found[0].1, Reference::Commitment(commitment()));
        assert_eq!(found[1].1, Reference::Blob(blob(7)));
        assert!(matches!(found[3].1, Reference::Malformed(_)));
        for (place, _) in &found {
            assert!(data.pointer(place).is_some(), "{place}");
        }
        let kind = RecordType::EvidenceReceived;
        assert_eq!(of_record(kind, &data), found);
        assert!(may_refer(kind, &data.to_string()));
        assert!(!may_refer(kind, r#"{"a":"x com:","b":"$blob "}"#));
        assert!(!may_refer(RecordType::DetectionRaised, r#"{"a":{"$blob":1}}"#));
    }

    #[test]
    fn elsewhere_a_commitment_is_one_in_personal_fields_only() {
        let text = commitment().to_string();
        let data = json!({
            "fields": {"proc.cmdline": text, "user.name": text, "evt.arg[uid]": text},
            "process": {"arguments": [text], "user": {"uid": text, "name": text, "login_uid": text}},
            "blob": blob(1).to_value(),
        });
        let places: Vec<String> =
            of_record(RecordType::DetectionRaised, &data).into_iter().map(|(place, _)| place).collect();
        let expected = ["/fields/evt.arg[uid]", "/fields/user.name"];
        assert_eq!(places[..2], expected);
        assert_eq!(places[2..], ["/process/user/login_uid", "/process/user/name", "/process/user/uid"]);
        let data = json!({"user": text, "name": text, "author": text, "signature": {"principal": text, "key": text}, "by": text});
        let count = |kind| of_record(kind, &data).len();
        assert_eq!(count(RecordType::AdmissionDecided), 1);
        assert_eq!(count(RecordType::ReleaseBuilt), 2);
        assert_eq!(count(RecordType::PrivacyErased), 1);
        assert_eq!(count(RecordType::StreamRejected), 0);
    }

    #[test]
    fn a_reference_at_the_largest_size_and_one_past_it() {
        let read = |size| BlobReference::from_object(blob(size).to_value().as_object().unwrap());
        assert_eq!(read(BLOB_LEN_MAX), Ok(blob(BLOB_LEN_MAX)));
        assert!(read(BLOB_LEN_MAX + 1).unwrap_err().contains("the limit is"));
    }

    #[test]
    fn a_reference_has_three_members_and_no_other() {
        let mut object = blob(1).to_value();
        object["more"] = json!(1);
        assert!(BlobReference::from_object(object.as_object().unwrap()).is_err());
        for name in ["$blob", "$key", "$size"] {
            let mut object = blob(1).to_value();
            object.as_object_mut().unwrap().remove(name);
            assert!(BlobReference::from_object(object.as_object().unwrap()).is_err(), "{name}");
        }
    }
}
