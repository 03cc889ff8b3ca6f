//! The mirror of the policy repo is derived: where it is damaged it is made anew.

use std::path::Path;

use crate::repo::{Mirror, RepoError, Source};
use crate::step::one_line;

/// Opens the mirror in `folder`, anew where it is damaged.
pub(crate) fn open_mirror(folder: &Path, source: Source) -> Result<Mirror, RepoError> {
    match Mirror::open(folder, source.clone()) {
        Err(error @ RepoError::Mirror { .. }) if folder.exists() => {
            tracing::warn!(error = one_line(&error), "the mirror of the policy repo is made anew");
            renew_mirror(folder, source)
        }
        opened => opened,
    }
}

pub(super) fn renew_mirror(folder: &Path, source: Source) -> Result<Mirror, RepoError> {
    std::fs::remove_dir_all(folder)
        .map_err(|error| RepoError::Mirror { path: folder.to_owned(), reason: error.to_string() })?;
    Mirror::open(folder, source)
}

/// Whether the mirror itself may be what is wrong.
pub(super) fn is_mirrors(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::Mirror { .. } | RepoError::Fetch { .. } | RepoError::ObjectMissing { .. } | RepoError::Bind { .. }
    )
}
