//! Which files of a policy repo are policy, and what a path in it may look like.
//!
//! One list for three readers: the reconciler packs exactly these files, a node refuses a release that holds others or
//! lacks one the commit has, and the loader reads no others. A path that passes [`validate`] is safe to show, to sort and
//! to join to a folder: no `..`, nothing absolute, nothing that a terminal would interpret.

use thiserror::Error;

/// The longest path, in bytes: what a `ustar` header holds (155 for the folders, a slash, 100 for the name).
pub const PATH_LEN_MAX: usize = 256;

/// The longest last component, in bytes (a `ustar` name field).
pub const NAME_LEN_MAX: usize = 100;

/// Files at the root that are policy.
pub const POLICY_FILES: [&str; 2] = ["cairn.yaml", "owners.yaml"];

/// Folders at the root whose whole content is policy.
pub const POLICY_FOLDERS: [&str; 6] = ["controls", "detections", "exceptions", "guardrails", "responses", "runbooks"];

/// Why a path cannot be one of a release. The path is shown escaped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path or one of its components is empty.
    #[error("path `{path}` has an empty component")]
    EmptyComponent {
        /// The path as found.
        path: String,
    },
    /// A component is `.`, `..` or `.git`.
    #[error("path `{path}` has the component `{component}`, which no policy file may have")]
    ForbiddenComponent {
        /// The path as found.
        path: String,
        /// The component.
        component: String,
    },
    /// A control character or a backslash.
    #[error("path `{path}` holds a control character or a backslash")]
    ForbiddenCharacter {
        /// The path as found, escaped.
        path: String,
    },
    /// Longer than [`PATH_LEN_MAX`], or no way to split it into 155 bytes of folders and 100 of name.
    #[error("path `{path}` is {len} bytes: at most {PATH_LEN_MAX}, and at most {NAME_LEN_MAX} for its file name")]
    TooLong {
        /// The path as found.
        path: String,
        /// Its length in bytes.
        len: usize,
    },
}

/// Checks that `path` is a plain relative path with `/` between components.
pub fn validate(path: &str) -> Result<(), PathError> {
    let shown = || path.escape_debug().to_string();
    if path.chars().any(|character| character.is_control() || character == '\\') {
        return Err(PathError::ForbiddenCharacter { path: shown() });
    }
    for component in path.split('/') {
        if component.is_empty() {
            return Err(PathError::EmptyComponent { path: shown() });
        }
        if component == "." || component == ".." || component.eq_ignore_ascii_case(".git") {
            return Err(PathError::ForbiddenComponent { path: shown(), component: component.to_owned() });
        }
    }
    if ustar_split(path).is_none() {
        return Err(PathError::TooLong { path: shown(), len: path.len() });
    }
    Ok(())
}

/// Splits a path into the `prefix` and `name` fields of a `ustar` header: no prefix when the path fits the name field,
/// else the shortest prefix that leaves a name of at most 100 bytes. `None`: it does not fit. One path has one split, so
/// that two packers write the same bytes.
pub fn ustar_split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME_LEN_MAX {
        return Some(("", path));
    }
    let cut_min = path.len() - NAME_LEN_MAX - 1;
    let slash = cut_min + path.as_bytes().get(cut_min..)?.iter().position(|byte| *byte == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    // The prefix field has 155 bytes: what the longest path leaves when its slash and name are taken off.
    (prefix.len() < PATH_LEN_MAX - NAME_LEN_MAX && !name.is_empty()).then_some((prefix, name))
}

/// Whether a well-formed path is policy: one of [`POLICY_FILES`], or below one of [`POLICY_FOLDERS`].
pub fn is_policy_path(path: &str) -> bool {
    validate(path).is_ok()
        && match path.split_once('/') {
            None => POLICY_FILES.contains(&path),
            Some((folder, _)) => POLICY_FOLDERS.contains(&folder),
        }
}

/// Whether an entry of a repo's root folder is policy or holds policy, whatever kind of entry it is: a symbolic link
/// named `guardrails` must be noticed, not skipped.
pub fn is_policy_root(name: &[u8]) -> bool {
    POLICY_FILES.iter().chain(POLICY_FOLDERS.iter()).any(|root| root.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_paths_are_the_listed_files_and_folders() {
        for path in ["cairn.yaml", "owners.yaml", "guardrails/a.rego", "detections/tests/a.yaml", "runbooks/x/y.md"] {
            assert!(is_policy_path(path), "{path}");
        }
        for path in
            ["README.md", "guardrails", "x/cairn.yaml", "guardrails/../cairn.yaml", "/cairn.yaml", "cairn.yaml/", ""]
        {
            assert!(!is_policy_path(path), "{path}");
        }
        assert!(is_policy_root(b"guardrails") && !is_policy_root(b"README.md"));
    }

    #[test]
    fn hostile_paths_are_refused() {
        let empty = |path: &str| PathError::EmptyComponent { path: path.into() };
        assert_eq!(validate("/etc/passwd"), Err(empty("/etc/passwd")));
        assert_eq!(validate("a//b"), Err(empty("a//b")));
        assert_eq!(validate(""), Err(empty("")));
        assert!(matches!(validate("a/../b"), Err(PathError::ForbiddenComponent { .. })));
        assert!(matches!(validate("a/.GIT/b"), Err(PathError::ForbiddenComponent { .. })));
        assert!(matches!(validate("a\\b"), Err(PathError::ForbiddenCharacter { .. })));
        assert_eq!(validate("a\u{1b}[2J"), Err(PathError::ForbiddenCharacter { path: "a\\u{1b}[2J".into() }));
    }

    #[test]
    fn lengths_are_those_of_a_ustar_header() {
        let name = "n".repeat(NAME_LEN_MAX);
        assert_eq!(validate(&name), Ok(()));
        assert!(matches!(validate(&format!("{name}n")), Err(PathError::TooLong { len: 101, .. })));
        let longest = format!("{}/{name}", "p".repeat(155));
        assert_eq!(longest.len(), PATH_LEN_MAX);
        assert_eq!(validate(&longest), Ok(()));
        assert!(matches!(validate(&format!("p{longest}")), Err(PathError::TooLong { .. })));
    }

    #[test]
    fn the_split_takes_the_shortest_prefix() {
        let path = format!("a/b/{}", "n".repeat(97));
        assert_eq!(ustar_split(&path), Some(("a", &path[2..])));
        let path = format!("a/b/{}", "n".repeat(96));
        assert_eq!(ustar_split(&path), Some(("", path.as_str())));
    }
}
