//! The in-toto Statement v1 that says what a release is: its subject is `content.tar`, its predicate the facts of the build.
//!
//! The predicate carries the raw commit and the raw Git trees down to each policy file, so that a reader can check the
//! commit's signature and bind the content to it without a repo. Author and reviewers stand here in the clear (promise P6).
//! Canonical JSON; fields a reader does not know are ignored, as in-toto asks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::canonical::{self, CanonicalError};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{CommitId, ReleaseRef, Serial};
use cairn_schemas::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::files::CONTENT_FILE;
use crate::signers::Signature;

/// The statement's type.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The predicate's type: what `cosign verify-blob-attestation --type` is given.
pub const PREDICATE_TYPE: &str = "urn:cairn:release:v1";

/// Most reviewers that a statement lists.
pub const REVIEWERS_MAX: usize = 100;

/// Why bytes are not the statement of a release.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not canonical JSON.
    #[error("the statement is not canonical JSON: {0}")]
    Canonical(#[from] CanonicalError),
    /// Not of the statement's shape.
    #[error("the statement is malformed: {reason}")]
    Malformed {
        /// What the reader said.
        reason: String,
    },
    /// Another statement or predicate type.
    #[error("the statement's {field} is `{found}`, not `{expected}`")]
    Type {
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is, escaped.
        found: String,
    },
    /// Not exactly one subject, `content.tar`.
    #[error("the statement's subject is not one file named {CONTENT_FILE}")]
    Subject,
}

/// A release's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// SHA-256 of `content.tar`, the subject.
    pub content: Digest,
    /// The facts of the build.
    pub predicate: Predicate,
}

/// The facts of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicate {
    /// The release's serial.
    pub serial: Serial,
    /// When it was built, by the control plane's clock.
    pub built: Timestamp,
    /// After this, nodes that do not hold it refuse it.
    pub expires: Timestamp,
    /// The commit and what leads from it to the content.
    pub commit: CommitEvidence,
    /// Who signed the commit, as the control plane saw it. A node looks for itself.
    pub signature: SignatureSummary,
    /// Who wrote the commit.
    pub author: Author,
    /// Who reviewed it, from the commit's `Reviewed-by` lines: a claim of the committer. At most [`REVIEWERS_MAX`].
    pub reviewers: Vec<String>,
    /// What the content's own tests said.
    pub tests: TestSummary,
    /// The versions of what built and tested it, by name.
    pub tools: BTreeMap<String, String>,
    /// Whether this content was promoted before, and since neither aborted nor rolled back.
    pub known_good: bool,
    /// The newest earlier release with this content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_content_as: Option<ReleaseRef>,
}

/// A commit, and the trees between it and its policy files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitEvidence {
    /// Its id.
    pub id: CommitId,
    /// The raw commit object, with its signature.
    pub raw: Base64,
    /// The raw tree objects: the root, and every folder below it that holds policy.
    pub trees: Vec<Base64>,
}

/// Bytes that JSON holds as standard base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Base64).map_err(serde::de::Error::custom)
    }
}

/// Who signed the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum SignatureSummary {
    /// Nobody.
    None,
    /// An SSH key that the fleet's signers list.
    Ssh {
        /// The key's fingerprint, as OpenSSH prints it.
        key: String,
        /// The principals of its line.
        principal: String,
    },
    /// An SSH key that no list names.
    Unlisted {
        /// The key's fingerprint.
        key: String,
    },
    /// Something that could not be checked.
    Unusable {
        /// Why.
        reason: String,
    },
}

impl From<&Signature> for SignatureSummary {
    fn from(signature: &Signature) -> SignatureSummary {
        match signature {
            Signature::None => SignatureSummary::None,
            Signature::Listed { key, principal } => {
                SignatureSummary::Ssh { key: key.clone(), principal: principal.clone() }
            }
            Signature::Unlisted { key } => SignatureSummary::Unlisted { key: key.clone() },
            Signature::Unusable { reason } => SignatureSummary::Unusable { reason: reason.clone() },
        }
    }
}

/// Who wrote a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
}

/// What the content's own tests said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestSummary {
    /// Cases that passed.
    pub passed: u64,
    /// Cases that failed.
    pub failed: u64,
    /// Rules and guardrails that some test made fire.
    pub covered: u64,
    /// All rules and guardrails.
    pub coverable: u64,
}

#[derive(Serialize, Deserialize)]
struct StatementJson {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
struct SubjectDigest {
    sha256: Digest,
}

/// The statement about a packed content.
#[cfg(feature = "sign")]
#[must_use]
pub fn build(content_tar: &[u8], predicate: Predicate) -> Statement {
    Statement { content: Digest::sha256(content_tar), predicate }
}

impl Statement {
    /// The bytes that are signed: canonical JSON.
    ///
    /// # Errors
    /// [`StatementError::Canonical`] for a count beyond 2^53 − 1.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StatementError> {
        let json = StatementJson {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject { name: CONTENT_FILE.to_owned(), digest: SubjectDigest { sha256: self.content } }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: self.predicate.clone(),
        };
        let value =
            serde_json::to_value(json).map_err(|error| StatementError::Malformed { reason: error.to_string() })?;
        Ok(canonical::to_bytes(&value)?)
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`StatementError`]: what is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Statement, StatementError> {
        let value = canonical::parse(bytes)?;
        let json: StatementJson =
            serde_json::from_value(value).map_err(|error| StatementError::Malformed { reason: error.to_string() })?;
        check_type("_type", STATEMENT_TYPE, &json.kind)?;
        check_type("predicateType", PREDICATE_TYPE, &json.predicate_type)?;
        match json.subject.as_slice() {
            [subject] if subject.name == CONTENT_FILE => {
                Ok(Statement { content: subject.digest.sha256, predicate: json.predicate })
            }
            _ => Err(StatementError::Subject),
        }
    }

    /// The release's name.
    #[must_use]
    pub fn reference(&self) -> ReleaseRef {
        ReleaseRef { serial: self.predicate.serial, digest: self.content }
    }
}

/// The `Reviewed-by` lines at the end of a commit message: the values, in order, at most [`REVIEWERS_MAX`].
#[must_use]
pub fn reviewers(message: &str) -> Vec<String> {
    let trailers = message.trim_end().rsplit("\n\n").next().unwrap_or_default();
    let reviewed = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("reviewed-by").then(|| value.trim().to_owned())
    };
    trailers.lines().filter_map(reviewed).filter(|value| !value.is_empty()).take(REVIEWERS_MAX).collect()
}

fn check_type(field: &'static str, expected: &'static str, found: &str) -> Result<(), StatementError> {
    if found == expected {
        return Ok(());
    }
    let found = found.chars().take(80).collect::<String>().escape_debug().to_string();
    Err(StatementError::Type { field, expected, found })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn predicate() -> Predicate {
        Predicate {
            serial: Serial(7),
            built: Timestamp::from_nanos(1_700_000_000_000_000_000),
            expires: Timestamp::from_nanos(1_800_000_000_000_000_000),
            commit: CommitEvidence {
                id: "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap(),
                raw: Base64(b"raw".to_vec()),
                trees: vec![Base64(vec![0xff; 3])],
            },
            signature: SignatureSummary::None,
            author: Author { name: "Ada".into(), email: "ada@example.com".into() },
            reviewers: vec!["Grace <grace@example.com>".into()],
            tests: TestSummary { passed: 3, failed: 0, covered: 2, coverable: 2 },
            tools: BTreeMap::from([("cairn".to_owned(), "0.1.0".to_owned())]),
            known_good: false,
            same_content_as: None,
        }
    }

    #[test]
    fn a_statement_is_read_back_and_is_in_totos() {
        let statement = build(b"tar", predicate());
        let bytes = statement.to_bytes().unwrap();
        assert_eq!(Statement::parse(&bytes).unwrap(), statement);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(value["subject"][0]["digest"]["sha256"], Digest::sha256(b"tar").to_string());
        assert_eq!(value["predicate"]["commit"]["trees"][0], "////");
        assert_eq!(value["predicate"]["signature"]["kind"], "none");
    }

    #[test]
    fn unknown_fields_are_ignored_and_other_shapes_refused() {
        let bytes = build(b"tar", predicate()).to_bytes().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let parse = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut value = value.clone();
            change(&mut value);
            Statement::parse(&canonical::to_bytes(&value).unwrap())
        };
        assert!(parse(&|value| value["predicate"]["later"] = "field".into()).is_ok());
        assert!(matches!(parse(&|value| value["_type"] = "x".into()), Err(StatementError::Type { .. })));
        assert!(matches!(parse(&|value| value["predicateType"] = "x".into()), Err(StatementError::Type { .. })));
        let none = parse(&|value| value["subject"] = Vec::<String>::new().into());
        assert!(matches!(none, Err(StatementError::Subject)));
        let other = parse(&|value| value["subject"][0]["name"] = "x".into());
        assert!(matches!(other, Err(StatementError::Subject)));
        let gone = parse(&|value| drop(value["predicate"].as_object_mut().unwrap().remove("serial")));
        assert!(matches!(gone, Err(StatementError::Malformed { .. })));
        let spaced = [bytes.as_slice(), b"\n"].concat();
        assert!(matches!(Statement::parse(&spaced), Err(StatementError::Canonical(_))));
    }

    #[test]
    fn reviewers_come_from_the_last_paragraph() {
        let message = "subject\n\nReviewed-by: nobody, this is prose\n\nReviewed-by: A <a@x>\nreviewed-by:  B\nSigned-off-by: C\n";
        assert_eq!(reviewers(message), ["A <a@x>", "B"]);
        assert_eq!(reviewers(&format!("s\n\n{}", "Reviewed-by: A\n".repeat(REVIEWERS_MAX + 1))).len(), REVIEWERS_MAX);
        assert!(reviewers("").is_empty());
    }
}
