//! The rules of a release, read from its content.

use std::path::PathBuf;
use std::sync::Arc;

use cairn_policy::{Policy, PolicyTree};
use cairn_release::content::{self, ContentError};
use cairn_release::files::CONTENT_FILE;
use cairn_rules::RuleSet;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::ReleaseRef;

use super::finding::MorePersonal;
use crate::durable::DiskError;
use crate::releases::Releases;

/// Why a release's rules cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RulesError {
    /// The archive cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The archive is another.
    #[error("{} has the SHA-256 {actual}, and the release is {expected}", path.display())]
    Digest {
        /// The archive.
        path: PathBuf,
        /// What the ledger says.
        expected: Digest,
        /// What it has.
        actual: Digest,
    },
    /// The archive is malformed.
    #[error("{}: {source}", path.display())]
    Content {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: ContentError,
    },
    /// What was loaded when it was built does not load here.
    #[error("the policy of release {release} does not load: {first}")]
    Policy {
        /// The release.
        release: ReleaseRef,
        /// The first of what is wrong.
        first: String,
    },
}

/// What an intake needs of a release.
pub(super) struct Loaded {
    pub(super) rules: Arc<RuleSet>,
    pub(super) more: MorePersonal,
}

pub(super) fn load(releases: &Releases, release: ReleaseRef) -> Result<Loaded, RulesError> {
    let path = releases.shown(release.serial, CONTENT_FILE);
    let bytes = releases.read(release.serial, CONTENT_FILE).map_err(DiskError::of("read", &path))?;
    let actual = Digest::sha256(&bytes);
    if actual != release.digest {
        return Err(RulesError::Digest { path, expected: release.digest, actual });
    }
    let files = content::unpack(&bytes).map_err(|source| RulesError::Content { path, source })?;
    let tree: PolicyTree = files.into_iter().map(|(path, file)| (path, file.bytes)).collect();
    let policy = Policy::load(&tree).map_err(|problems| RulesError::Policy {
        release,
        first: problems.problems.first().map(ToString::to_string).unwrap_or_default(),
    })?;
    Ok(Loaded { rules: policy.rules, more: MorePersonal::new(&policy.config.privacy.personal_fields) })
}
