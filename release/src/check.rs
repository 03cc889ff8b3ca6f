//! Every check before a release is believed, in order, against nothing but what the reader pins.
//!
//! A node runs this on what it fetched ([`Gate::Network`]) and again on what it holds on disk ([`Gate::Activated`]); the
//! auditor runs it on a ledger's folder. No network, no clock, no repo: the proof carries its checkpoint, the statement its
//! commit. Someone who holds the release key and the ledger key still cannot ship what no signer committed.

use std::collections::BTreeMap;

use cairn_ledger::checkpoint::{Checkpoint, CheckpointError};
use cairn_ledger::note::{NoteError, VerifierKey};
use cairn_ledger::pinned::EndorsedKeys;
use cairn_ledger::policy::{Policy, PolicyError, Refused};
use cairn_ledger::proof::{Proof, ProofTextError};
use cairn_ledger::tree::TreeError;
use cairn_schemas::data::{CommitSignature, ReleaseBuilt};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{CommitId, NodeId, RecordIndex, ReleaseRef, Serial};
use cairn_schemas::record::{Record, RecordError};
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::RecordType;
use cairn_schemas::wire::Pins;
use thiserror::Error;

use crate::bundle::{Bundle, BundleError};
use crate::content::{self, Content, ContentError};
use crate::files::{CONTENT_FILE, ReleaseFiles, STATEMENT_FILE};
use crate::gitobj::{BindError, Commit, CommitError, bind};
use crate::key::{KeyError, ReleaseKey};
use crate::signers::{Signature, SignatureError, SignerPolicy, SignersError};
use crate::statement::{Statement, StatementError};

/// What the reader pins. Nothing else is believed.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The ledger's name; its volumes' checkpoints have the origins `<name>/<volume>`.
    pub ledger_name: String,
    /// The ledger's key, under any volume's name: it signs every volume until the root endorses another one.
    pub ledger_key: VerifierKey,
    /// Keys that the ledger's root endorsed since.
    pub endorsed: EndorsedKeys,
    /// The control plane: `release.built` is believed from its streams only.
    pub control_node: NodeId,
    /// The release key.
    pub release_key: ReleaseKey,
    /// Who may sign commits.
    pub signers: SignerPolicy,
    /// Whose cosignatures the proof's checkpoint needs; `None`: nobody's.
    pub witnesses: Option<Policy>,
}

/// Why pins cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The ledger's key.
    #[error("the pinned ledger key: {0}")]
    LedgerKey(#[from] NoteError),
    /// The release key.
    #[error("the pinned release key: {0}")]
    ReleaseKey(#[from] KeyError),
    /// The list of signers.
    #[error("the pinned signers: {0}")]
    Signers(#[from] SignersError),
    /// The witness policy.
    #[error("the pinned witness policy: {0}")]
    Witnesses(#[from] PolicyError),
}

impl Trust {
    /// From what a node pinned when it joined.
    ///
    /// # Errors
    /// [`TrustError`]: the pin that cannot be read.
    pub fn from_pins(pins: &Pins) -> Result<Trust, TrustError> {
        Ok(Trust {
            ledger_name: pins.ledger_name.clone(),
            ledger_key: pins.ledger_key.parse()?,
            endorsed: EndorsedKeys::default(),
            control_node: pins.control_node.clone(),
            release_key: ReleaseKey::from_pem(&pins.release_key)?,
            signers: SignerPolicy::from_config(&pins.signers)?,
            witnesses: pins.witnesses.as_ref().map(|policy| Policy::parse(policy.as_bytes())).transpose()?,
        })
    }
}

/// Where the release comes from, which decides whether age matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Offered from outside: it must be newer than everything seen, and not expired.
    Network {
        /// The reader's clock.
        now: Timestamp,
        /// The highest serial the reader ever accepted: an older one is a replay.
        floor: Option<Serial>,
    },
    /// Accepted before and held since: falling back, rebooting and days offline keep working.
    Activated,
}

/// Which check failed. The variants stand in the order of the checks.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The proof is not a tlog-proof.
    #[error("release.tlog-proof is malformed: {0}")]
    ProofMalformed(ProofTextError),
    /// The proof's checkpoint is not one of the pinned ledger.
    #[error("release.tlog-proof: the checkpoint is not one of the pinned ledger: {0}")]
    Checkpoint(CheckpointError),
    /// The proof's checkpoint was not cosigned by the witnesses that the reader demands.
    #[error("release.tlog-proof: {0}")]
    Witnesses(Refused),
    /// The record is not where the proof says.
    #[error("record.json is not in the ledger: {0}")]
    NotInLedger(TreeError),
    /// The record is malformed.
    #[error("record.json is malformed: {0}")]
    RecordMalformed(RecordError),
    /// The record is of another type.
    #[error("record.json is a {}, not a release that was built", .found.as_str())]
    RecordType {
        /// Its type.
        found: RecordType,
    },
    /// The record is from a stream that may not announce releases.
    #[error("record.json is from the stream {found}, not from the control plane {expected}")]
    RecordStream {
        /// The pinned control plane.
        expected: NodeId,
        /// The record's stream.
        found: String,
    },
    /// A file is not the one the record names.
    #[error("{file} has the SHA-256 {actual}, and record.json says {expected}")]
    Digest {
        /// The file.
        file: &'static str,
        /// What the record says.
        expected: Digest,
        /// What the bytes have.
        actual: Digest,
    },
    /// The bundle is malformed, by another key, or its signature is wrong.
    #[error("statement.sigstore.json: {0}")]
    Bundle(BundleError),
    /// The signed payload is not the statement of a release.
    #[error("statement.sigstore.json: {0}")]
    Statement(StatementError),
    /// The statement is about another content.
    #[error("the statement is about the content {subject}, and content.tar is {actual}")]
    Subject {
        /// The statement's subject.
        subject: Digest,
        /// SHA-256 of the archive.
        actual: Digest,
    },
    /// Record and statement do not tell the same.
    #[error("record.json and the statement differ in {field}: `{record}` and `{statement}`")]
    Disagree {
        /// The field.
        field: &'static str,
        /// What the record says.
        record: String,
        /// What the statement says.
        statement: String,
    },
    /// Older than, or the same as, what was accepted before.
    #[error("release {serial} is offered, and release {floor} was accepted before: an older release is a replay")]
    Rollback {
        /// The offered serial.
        serial: Serial,
        /// The highest accepted.
        floor: Serial,
    },
    /// Past its time.
    #[error("release {serial} expired at {expires}; it is {now}")]
    Expired {
        /// The serial.
        serial: Serial,
        /// Its end.
        expires: Timestamp,
        /// The reader's clock.
        now: Timestamp,
    },
    /// The raw commit is malformed.
    #[error("the statement's commit is malformed: {0}")]
    CommitMalformed(CommitError),
    /// The raw commit is not the one that is named.
    #[error("the statement's raw commit has the id {actual}, and the release names {expected}")]
    CommitId {
        /// The id in record and statement.
        expected: CommitId,
        /// The id of the raw bytes.
        actual: CommitId,
    },
    /// No signer whom the reader pins signed the commit.
    #[error("commit {commit}: {source}")]
    Signer {
        /// The commit.
        commit: CommitId,
        /// What is wrong with its signature.
        source: SignatureError,
    },
    /// The record names a signer that the commit does not show.
    #[error("record.json says the commit is signed by {record}, and it is signed by {found}")]
    SignerRecord {
        /// What the record says.
        record: String,
        /// What the commit shows.
        found: String,
    },
    /// The archive is not one that `pack` writes.
    #[error("content.tar: {0}")]
    Content(ContentError),
    /// The content is not the commit's policy.
    #[error("content.tar is not the commit's policy: {0}")]
    Bind(BindError),
}

/// A release that passed every check. There is no other way to get one.
#[derive(Debug, Clone)]
pub struct VerifiedRelease {
    statement: Statement,
    built: ReleaseBuilt,
    content: Content,
    commit: Commit,
    signature: Signature,
    index: RecordIndex,
    checkpoint: Checkpoint,
}

impl VerifiedRelease {
    /// Its name.
    #[must_use]
    pub fn reference(&self) -> ReleaseRef {
        self.statement.reference()
    }

    /// Its files.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Its files' bytes by path: what the policy loader takes.
    #[must_use]
    pub fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        self.content.iter().map(|(path, file)| (path.clone(), file.bytes.clone())).collect()
    }

    /// The signed statement.
    #[must_use]
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The `release.built` record's data.
    #[must_use]
    pub fn built(&self) -> &ReleaseBuilt {
        &self.built
    }

    /// The commit.
    #[must_use]
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// Who signed the commit, by the reader's own pins.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Where the record stands in the ledger.
    #[must_use]
    pub fn index(&self) -> RecordIndex {
        self.index
    }

    /// The checkpoint that the proof leads to: a node remembers the newest.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// Checks a release.
///
/// # Errors
/// [`CheckError`]: the first check that failed.
pub fn check(files: &ReleaseFiles, trust: &Trust, gate: Gate) -> Result<VerifiedRelease, CheckError> {
    // The record is in the pinned ledger, by the control plane.
    let (index, checkpoint) = check_inclusion(files, trust)?;
    let built = check_record(&files.record, &trust.control_node)?;

    // It names these very bytes.
    let content_digest = check_digest(CONTENT_FILE, &files.content_tar, built.content)?;
    check_digest(STATEMENT_FILE, &files.statement, built.statement)?;

    // The release key signed the statement, and both tell the same.
    let bundle = Bundle::parse(&files.statement).map_err(CheckError::Bundle)?;
    let payload = bundle.verify(&trust.release_key).map_err(CheckError::Bundle)?;
    let statement = Statement::parse(payload).map_err(CheckError::Statement)?;
    if statement.content != content_digest {
        return Err(CheckError::Subject { subject: statement.content, actual: content_digest });
    }
    check_agreement(&built, &statement)?;

    // It is not a replay, and not too old to begin with.
    check_gate(&statement, gate)?;

    // Someone whom the reader pins signed the commit, and the content is that commit's, file for file.
    let evidence = &statement.predicate.commit;
    let commit = Commit::parse(&evidence.raw.0).map_err(CheckError::CommitMalformed)?;
    if commit.id != evidence.id {
        return Err(CheckError::CommitId { expected: evidence.id.clone(), actual: commit.id });
    }
    let signature =
        trust.signers.check(&commit).map_err(|source| CheckError::Signer { commit: commit.id.clone(), source })?;
    check_signer_record(&built.signature, &signature)?;
    let content = content::unpack(&files.content_tar).map_err(CheckError::Content)?;
    let trees: Vec<Vec<u8>> = evidence.trees.iter().map(|tree| tree.0.clone()).collect();
    let commit = bind(&content, &evidence.raw.0, &trees).map_err(CheckError::Bind)?;

    Ok(VerifiedRelease { statement, built, content, commit, signature, index, checkpoint })
}

fn check_inclusion(files: &ReleaseFiles, trust: &Trust) -> Result<(RecordIndex, Checkpoint), CheckError> {
    let split = |error| match error {
        ProofTextError::Checkpoint(error) => CheckError::Checkpoint(error),
        ProofTextError::Tree(error) => CheckError::NotInLedger(error),
        other => CheckError::ProofMalformed(other),
    };
    let proof = Proof::parse(&files.proof).map_err(split)?;
    // The checkpoint says which volume it is of. That it is one of the pinned ledger's is found out by the keys: there are none for others.
    let (Checkpoint { origin, .. }, _) = Checkpoint::parse(&proof.checkpoint).map_err(CheckError::Checkpoint)?;
    let keys = trust.endorsed.keys_of(&trust.ledger_name, &trust.ledger_key, &origin);
    if keys.is_empty() {
        let expected = format!("{}/<volume>", trust.ledger_name);
        return Err(CheckError::Checkpoint(CheckpointError::Origin { expected, actual: origin }));
    }
    let checkpoint = proof.verify(&Digest::leaf(&files.record), &origin, &keys).map_err(split)?;
    if let Some(policy) = &trust.witnesses {
        policy.check(&proof.checkpoint, &origin, &keys).map_err(CheckError::Witnesses)?;
    }
    Ok((proof.index, checkpoint))
}

fn check_record(bytes: &[u8], control_node: &NodeId) -> Result<ReleaseBuilt, CheckError> {
    let record = Record::parse(bytes).map_err(CheckError::RecordMalformed)?;
    if record.kind != RecordType::ReleaseBuilt {
        return Err(CheckError::RecordType { found: record.kind });
    }
    if record.stream.node().as_ref() != Some(control_node) {
        let found = record.stream.to_string();
        return Err(CheckError::RecordStream { expected: control_node.clone(), found });
    }
    let built: ReleaseBuilt = record.data_as().map_err(CheckError::RecordMalformed)?;
    let foreignid = record.foreignid.unwrap_or_default();
    agree("foreignid", &foreignid, &built.serial)?;
    Ok(built)
}

fn check_digest(file: &'static str, bytes: &[u8], expected: Digest) -> Result<Digest, CheckError> {
    let actual = Digest::sha256(bytes);
    if actual == expected { Ok(actual) } else { Err(CheckError::Digest { file, expected, actual }) }
}

fn check_agreement(built: &ReleaseBuilt, statement: &Statement) -> Result<(), CheckError> {
    let predicate = &statement.predicate;
    let same = |reference: &Option<ReleaseRef>| reference.as_ref().map_or("none".to_owned(), ReleaseRef::to_string);
    agree("serial", &built.serial, &predicate.serial)?;
    agree("commit", &built.commit, &predicate.commit.id)?;
    agree("expires", &built.expires, &predicate.expires)?;
    agree("known_good", &built.known_good, &predicate.known_good)?;
    agree("same_content_as", &same(&built.same_content_as), &same(&predicate.same_content_as))?;
    agree("tests.passed", &built.tests.passed, &predicate.tests.passed)?;
    agree("tests.failed", &built.tests.failed, &predicate.tests.failed)
}

fn agree(
    field: &'static str,
    record: &impl std::fmt::Display,
    statement: &impl std::fmt::Display,
) -> Result<(), CheckError> {
    let (record, statement) = (record.to_string(), statement.to_string());
    if record == statement { Ok(()) } else { Err(CheckError::Disagree { field, record, statement }) }
}

fn check_gate(statement: &Statement, gate: Gate) -> Result<(), CheckError> {
    let Gate::Network { now, floor } = gate else { return Ok(()) };
    let (serial, expires) = (statement.predicate.serial, statement.predicate.expires);
    if let Some(floor) = floor
        && serial <= floor
    {
        return Err(CheckError::Rollback { serial, floor });
    }
    if now >= expires { Err(CheckError::Expired { serial, expires, now }) } else { Ok(()) }
}

/// The record may say "nobody" of a commit by a key that the reader does not list; it may not name a key that did not sign,
/// nor leave out one that the reader lists.
fn check_signer_record(record: &CommitSignature, found: &Signature) -> Result<(), CheckError> {
    let agrees = match (record, found) {
        (CommitSignature::None, Signature::Listed { .. }) => false,
        (CommitSignature::None, _) => true,
        (CommitSignature::Ssh { key: named, .. }, Signature::Listed { key, .. } | Signature::Unlisted { key }) => {
            named == key
        }
        (CommitSignature::Ssh { .. }, Signature::None | Signature::Unusable { .. }) => false,
    };
    if agrees {
        return Ok(());
    }
    let record = match record {
        CommitSignature::None => "nobody".to_owned(),
        CommitSignature::Ssh { key, .. } => key.clone(),
    };
    let found = match found {
        Signature::Listed { key, .. } | Signature::Unlisted { key } => key.clone(),
        Signature::None | Signature::Unusable { .. } => "nobody".to_owned(),
    };
    Err(CheckError::SignerRecord { record, found })
}

#[cfg(test)]
mod tests;
