use std::collections::{BTreeMap, BTreeSet};

use cairn_schemas::paths::{self, PathError, is_policy_root};
use thiserror::Error;

use super::commit::{Commit, CommitError};
use super::id::{Collision, Hash, ObjectId, ObjectKind, object_id};
use super::tree::{EntryMode, TreeError, parse_tree};
use crate::content::Content;

/// Deepest nesting of folders below the root that a release may have.
pub const TREE_DEPTH_MAX: usize = 32;

/// Why a content is not, file for file, the policy of a commit. Paths are escaped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The raw commit is malformed.
    #[error("the raw commit is malformed: {0}")]
    Commit(#[from] CommitError),
    /// A raw tree is malformed.
    #[error("the raw tree of `{path}` is malformed: {source}")]
    Tree {
        /// The folder; empty for the root.
        path: String,
        /// What is wrong.
        source: TreeError,
    },
    /// A raw tree on the way from the commit to a policy file is not there.
    #[error("the raw tree {id} of `{path}` is not in the statement")]
    TreeMissing {
        /// The folder; empty for the root.
        path: String,
        /// Its id.
        id: ObjectId,
    },
    /// Raw trees that no policy path leads through.
    #[error("the statement holds {count} raw trees that no policy path of the commit leads through")]
    TreesExtra {
        /// How many.
        count: usize,
    },
    /// A policy path of the commit is not a regular file or folder.
    #[error("`{path}` is {found} in the commit: policy is regular files and folders only")]
    NotAFile {
        /// The path.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// A policy path of the commit that no release can hold.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A policy path of the commit is not UTF-8.
    #[error("the policy path `{path}` is not UTF-8")]
    PathNotUtf8 {
        /// The path with `\xNN` for its bytes.
        path: String,
    },
    /// Folders nested deeper than [`TREE_DEPTH_MAX`].
    #[error("`{path}` is nested more than {TREE_DEPTH_MAX} folders deep")]
    TooDeep {
        /// The folder.
        path: String,
    },
    /// A folder with nothing in it, which Git does not write.
    #[error("`{path}` is an empty folder")]
    EmptyFolder {
        /// The folder.
        path: String,
    },
    /// The commit has a policy file that the content lacks.
    #[error("the commit has `{path}`, and the content does not")]
    FileMissing {
        /// The path.
        path: String,
    },
    /// The content has a file that is not policy of the commit.
    #[error("the content has `{path}`, and the commit has no such policy file")]
    FileExtra {
        /// The path.
        path: String,
    },
    /// A file's bytes are not the commit's.
    #[error("`{path}` is not the commit's: its blob is {actual}, the commit's {expected}")]
    FileDiffers {
        /// The path.
        path: String,
        /// The blob id in the commit.
        expected: ObjectId,
        /// The blob id of the content's bytes.
        actual: ObjectId,
    },
    /// A file is executable in one and not in the other.
    #[error("`{path}` is {expected} in the commit and is not in the content")]
    ModeDiffers {
        /// The path.
        path: String,
        /// What it is in the commit.
        expected: &'static str,
    },
    /// Made for a SHA-1 collision.
    #[error("`{path}`: {source}")]
    Collision {
        /// The path.
        path: String,
        /// The finding.
        source: Collision,
    },
}

/// Checks that `content` is exactly the policy of the commit: walks the raw trees from the commit's root, believing each only
/// because its id is named by the one above, down to every policy file, and compares each with the blob id computed from the
/// content. Returns the commit, whose id the caller compares with the one it expects.
///
/// # Errors
/// [`BindError`]: the first path that does not agree.
pub fn bind(content: &Content, commit_raw: &[u8], trees_raw: &[Vec<u8>]) -> Result<Commit, BindError> {
    let commit = Commit::parse(commit_raw)?;
    let mut trees = BTreeMap::new();
    for raw in trees_raw {
        let id = object_id(commit.hash, ObjectKind::Tree, raw)
            .map_err(|source| BindError::Collision { path: String::new(), source })?;
        trees.insert(id, raw.as_slice());
    }
    let mut walk = Walk { hash: commit.hash, content, trees, used: BTreeSet::new(), files: BTreeSet::new() };
    walk.root(commit.tree)?;
    if let Some(path) = content.keys().find(|path| !walk.files.contains(*path)) {
        return Err(BindError::FileExtra { path: path.escape_debug().to_string() });
    }
    if walk.used.len() != trees_raw.len() {
        return Err(BindError::TreesExtra { count: trees_raw.len() - walk.used.len() });
    }
    Ok(commit)
}

struct Walk<'a> {
    hash: Hash,
    content: &'a Content,
    trees: BTreeMap<ObjectId, &'a [u8]>,
    used: BTreeSet<ObjectId>,
    files: BTreeSet<String>,
}

impl Walk<'_> {
    fn root(&mut self, id: ObjectId) -> Result<(), BindError> {
        for (name, mode, id) in self.entries("", id)? {
            if !is_policy_root(name.as_bytes()) {
                continue;
            }
            // `cairn.yaml` as a folder, or `guardrails` as a file, is policy to nobody: refuse rather than skip.
            let folder = paths::POLICY_FOLDERS.contains(&name.as_str());
            if folder != (mode == EntryMode::Tree) {
                return Err(BindError::NotAFile { path: name, found: mode.describe() });
            }
            self.entry(name, mode, id, 1)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: String, mode: EntryMode, id: ObjectId, depth: usize) -> Result<(), BindError> {
        match mode {
            EntryMode::File | EntryMode::Executable => self.file(path, mode == EntryMode::Executable, id),
            EntryMode::Tree if depth > TREE_DEPTH_MAX => Err(BindError::TooDeep { path }),
            EntryMode::Tree => {
                let entries = self.entries(&path, id)?;
                // Not only form: trees that name each other twice and hold no file would make a walk of 2^32 steps from a few
                // bytes. With a file below each folder, the walk is bounded by the content.
                if entries.is_empty() {
                    return Err(BindError::EmptyFolder { path });
                }
                for (name, mode, id) in entries {
                    self.entry(format!("{path}/{name}"), mode, id, depth + 1)?;
                }
                Ok(())
            }
            EntryMode::Symlink | EntryMode::Submodule | EntryMode::Other => {
                Err(BindError::NotAFile { path: path.escape_debug().to_string(), found: mode.describe() })
            }
        }
    }

    fn file(&mut self, path: String, executable: bool, expected: ObjectId) -> Result<(), BindError> {
        paths::validate(&path)?;
        let Some(file) = self.content.get(&path) else { return Err(BindError::FileMissing { path }) };
        let actual = match object_id(self.hash, ObjectKind::Blob, &file.bytes) {
            Ok(id) => id,
            Err(source) => return Err(BindError::Collision { path, source }),
        };
        if actual != expected {
            return Err(BindError::FileDiffers { path, expected, actual });
        }
        if file.executable != executable {
            return Err(BindError::ModeDiffers { path, expected: if executable { "executable" } else { "plain" } });
        }
        self.files.insert(path);
        Ok(())
    }

    /// The entries of the folder `path`. In the root only policy entries must be UTF-8; others are none of our business.
    fn entries(&mut self, path: &str, id: ObjectId) -> Result<Vec<(String, EntryMode, ObjectId)>, BindError> {
        let raw = *self.trees.get(&id).ok_or_else(|| BindError::TreeMissing { path: path.to_owned(), id })?;
        self.used.insert(id);
        let entries = parse_tree(self.hash, raw).map_err(|source| BindError::Tree { path: path.to_owned(), source })?;
        let mut named = Vec::with_capacity(entries.len());
        for entry in entries {
            match String::from_utf8(entry.name) {
                Ok(name) => named.push((name, entry.mode, entry.id)),
                Err(_) if path.is_empty() => {}
                Err(error) => {
                    let path = format!("{path}/{}", error.as_bytes().escape_ascii());
                    return Err(BindError::PathNotUtf8 { path });
                }
            }
        }
        Ok(named)
    }
}

#[cfg(test)]
mod tests;
