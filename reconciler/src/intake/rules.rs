//! The rules of a release, read from its content.

use std::sync::Arc;

use cairn_policy::{Policy, PolicyTree};
use cairn_rules::RuleSet;
use cairn_schemas::ids::ReleaseRef;

use super::finding::MorePersonal;
use crate::releases::{ReadContentError, Releases};

/// Why a release's rules cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RulesError {
    /// Its content cannot be had.
    #[error(transparent)]
    Content(#[from] ReadContentError),
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
    let files = releases.content(release)?;
    let tree: PolicyTree = files.into_iter().map(|(path, file)| (path, file.bytes)).collect();
    let policy = Policy::load(&tree).map_err(|problems| RulesError::Policy {
        release,
        first: problems.problems.first().map(ToString::to_string).unwrap_or_default(),
    })?;
    Ok(Loaded { rules: policy.rules, more: MorePersonal::new(&policy.config.privacy.personal_fields) })
}
