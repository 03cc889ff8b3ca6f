//! A policy as files: which paths of a repository belong to it, and how large it may be.

use std::collections::BTreeMap;

use cairn_schemas::paths;

use crate::limits::{CONTENT_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX};
use crate::problem::Problem;

/// Whether a file of a repository belongs to its policy, and so to a release. Everything else in a repository is its owners' affair.
pub use cairn_schemas::paths::is_policy_path;

/// Files of a policy: path from the repository's root, with `/`, to bytes.
pub type PolicyTree = BTreeMap<String, Vec<u8>>;

/// The file every policy has.
pub const CONFIG_PATH: &str = "cairn.yaml";

/// Refuses trees that are too large and paths that could be read differently on another system.
pub(crate) fn check(tree: &PolicyTree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let policy = || tree.iter().filter(|(path, _)| is_policy_path(path));
    let count = policy().count();
    if count > FILES_MAX {
        problems.push(Problem::of_file(CONFIG_PATH, format!("the policy has {count} files, more than {FILES_MAX}")));
    }
    let bytes: usize = policy().map(|(_, content)| content.len()).sum();
    if bytes > CONTENT_BYTES_MAX {
        let reason = format!("the policy has {bytes} bytes, more than the {CONTENT_BYTES_MAX} of a release");
        problems.push(Problem::of_file(CONFIG_PATH, reason));
    }
    for (path, content) in policy() {
        if content.len() > FILE_BYTES_MAX {
            let reason = format!("{} bytes, more than the {FILE_BYTES_MAX} of a policy file", content.len());
            problems.push(Problem::of_file(path, reason));
        }
    }
    problems.extend(tree.keys().filter_map(|path| path_problem(path)));
    problems
}

/// A malformed path below a policy folder is not policy, and must not be passed over either.
fn path_problem(path: &str) -> Option<Problem> {
    let root = path.split('/').next().unwrap_or_default();
    let error = paths::is_policy_root(root.as_bytes()).then(|| paths::validate(path).err())??;
    Some(Problem::of_file(&path.escape_debug().to_string(), error.to_string()).hint("rename the file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_at_the_limit_are_taken_and_one_more_refused() {
        let file = |len: usize| PolicyTree::from([("detections/a.yaml".to_owned(), vec![b'#'; len])]);
        assert_eq!(check(&file(FILE_BYTES_MAX)), []);
        assert_eq!(check(&file(FILE_BYTES_MAX + 1)).len(), 1);

        let files = |count: usize, len: usize| -> PolicyTree {
            (0..count).map(|number| (format!("runbooks/{number}.md"), vec![b'#'; len])).collect()
        };
        assert_eq!(check(&files(FILES_MAX, 0)), []);
        assert!(check(&files(FILES_MAX + 1, 0))[0].reason.contains("4097 files"));
        assert_eq!(check(&files(CONTENT_BYTES_MAX / FILE_BYTES_MAX, FILE_BYTES_MAX)), []);
        let mut over = files(CONTENT_BYTES_MAX / FILE_BYTES_MAX, FILE_BYTES_MAX);
        over.insert("runbooks/x.md".into(), vec![0]);
        assert!(check(&over)[0].reason.contains("16777217 bytes"));
        over.insert("elsewhere/y".into(), vec![0; 9]);
        assert!(check(&over)[0].reason.contains("16777217 bytes"));
    }

    #[test]
    fn malformed_paths_in_policy_folders_are_refused_not_ignored() {
        for path in ["guardrails/../x", "guardrails//x", "guardrails/a\nb", "guardrails/a\\b", "detections/"] {
            assert!(path_problem(path).is_some(), "{path}");
        }
        assert_eq!(path_problem("guardrails/a b.rego"), None);
        assert_eq!(path_problem("docs//x"), None);
    }
}
