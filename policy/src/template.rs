//! `policies-repo-template/`, as it is in this source tree, inside the binary: what a team starts from.

use crate::tree::{PolicyTree, is_policy_path};

include!(concat!(env!("OUT_DIR"), "/template.rs"));

/// Every file of the template, ordered by path: path with `/`, and bytes. Besides the policy: README, workflow, examples.
pub fn files() -> &'static [(&'static str, &'static [u8])] {
    FILES
}

/// The template's policy, as [`crate::Policy::load`] takes it.
pub fn tree() -> PolicyTree {
    let policy = FILES.iter().filter(|(path, _)| is_policy_path(path));
    policy.map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect()
}
