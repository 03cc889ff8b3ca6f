use cairn_release::content::{CONTENT_LEN_MAX, Content, FileEntry};
use cairn_release::gitobj::{self, Commit, EntryMode, Hash, ObjectId, TREE_DEPTH_MAX, TREE_LEN_MAX, TreeError};
use cairn_schemas::ids::CommitId;
use cairn_schemas::paths;

use super::error::RepoError;
use super::history::{read_commit, read_raw};
use super::source::object_id;

/// Most policy files of a commit.
pub const FILES_MAX: usize = 10_000;

/// What an archive adds to each file at least: a header.
const HEADER_LEN: usize = 512;

/// The policy of one commit: the files, and the raw objects that bind them to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: Commit,
    /// Its raw bytes.
    pub commit_raw: Vec<u8>,
    /// The raw trees: the root, then every folder below it that holds policy, in the order of their paths.
    pub trees_raw: Vec<Vec<u8>>,
    /// The policy files.
    pub content: Content,
}

/// How a policy file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its bytes or its mode are others.
    Modified,
    /// It is gone.
    Removed,
}

/// A policy file that two contents do not share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path.
    pub path: String,
    /// How it changed.
    pub kind: ChangeKind,
}

/// The policy files in which two contents differ, in the order of their paths.
#[must_use]
pub fn changes(old: &Content, new: &Content) -> Vec<Change> {
    let mut changes: Vec<Change> = old
        .iter()
        .filter_map(|(path, file)| match new.get(path) {
            None => Some((path, ChangeKind::Removed)),
            Some(other) => (other != file).then_some((path, ChangeKind::Modified)),
        })
        .chain(new.keys().filter(|path| !old.contains_key(*path)).map(|path| (path, ChangeKind::Added)))
        .map(|(path, kind)| Change { path: path.clone(), kind })
        .collect();
    changes.sort_by(|left, right| left.path.cmp(&right.path));
    changes
}

/// Reads the policy of a commit, then checks it with the code that a node will check it with.
pub(super) fn read(repo: &gix::Repository, id: &CommitId) -> Result<Snapshot, RepoError> {
    let commit = read_commit(repo, id)?;
    let commit_raw = read_raw(repo, object_id(id), gix::object::Kind::Commit)?;
    let mut reader = Reader { repo, hash: commit.hash, packed_len: 0, trees: Vec::new(), content: Content::new() };
    reader.root(commit.tree)?;
    let Reader { trees, content, .. } = reader;
    // Two folders with the same files are one tree object.
    let mut trees_raw: Vec<Vec<u8>> = Vec::with_capacity(trees.len());
    for tree in trees {
        if !trees_raw.contains(&tree) {
            trees_raw.push(tree);
        }
    }
    gitobj::bind(&content, &commit_raw, &trees_raw).map_err(|source| RepoError::Bind { commit: id.clone(), source })?;
    Ok(Snapshot { commit, commit_raw, trees_raw, content })
}

struct Reader<'a> {
    repo: &'a gix::Repository,
    hash: Hash,
    packed_len: usize,
    trees: Vec<Vec<u8>>,
    content: Content,
}

impl Reader<'_> {
    fn root(&mut self, id: ObjectId) -> Result<(), RepoError> {
        for (name, mode, id) in self.entries("", id)? {
            if !paths::is_policy_root(&name) {
                continue;
            }
            let name = String::from_utf8(name).expect("invariant: the names of policy roots are ASCII");
            if paths::POLICY_FOLDERS.contains(&name.as_str()) != (mode == EntryMode::Tree) {
                return Err(RepoError::NotAFile { path: name, found: mode.describe() });
            }
            self.entry(name, mode, id, 1)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: String, mode: EntryMode, id: ObjectId, depth: usize) -> Result<(), RepoError> {
        match mode {
            EntryMode::File | EntryMode::Executable => self.file(path, mode == EntryMode::Executable, id),
            EntryMode::Tree if depth <= TREE_DEPTH_MAX => {
                for (name, mode, id) in self.entries(&path, id)? {
                    match String::from_utf8(name) {
                        Ok(name) => self.entry(format!("{path}/{name}"), mode, id, depth + 1)?,
                        Err(error) => {
                            let path = format!("{path}/{}", error.as_bytes().escape_ascii());
                            return Err(RepoError::PathNotUtf8 { path });
                        }
                    }
                }
                Ok(())
            }
            EntryMode::Tree => Err(RepoError::NotAFile { path, found: "nested too deep" }),
            _ => Err(RepoError::NotAFile { path: path.escape_debug().to_string(), found: mode.describe() }),
        }
    }

    fn file(&mut self, path: String, executable: bool, id: ObjectId) -> Result<(), RepoError> {
        paths::validate(&path)?;
        if self.content.len() == FILES_MAX {
            return Err(RepoError::TooManyFiles { limit: FILES_MAX });
        }
        let id = gix_id(id);
        // The size is in the object's header: a huge blob is refused before a byte of it is read into memory.
        let missing = || RepoError::ObjectMissing { kind: "blob", id: id.to_string() };
        let len = self.repo.find_header(id).map_err(|_| missing())?.size();
        let packed_len = usize::try_from(len).ok().and_then(|len| len.checked_add(self.packed_len + HEADER_LEN));
        self.packed_len = packed_len
            .filter(|packed_len| *packed_len <= CONTENT_LEN_MAX)
            .ok_or_else(|| RepoError::TooLarge { path: path.clone(), len, limit: CONTENT_LEN_MAX })?;
        let bytes = read_raw(self.repo, id, gix::object::Kind::Blob)?;
        self.content.insert(path, FileEntry { executable, bytes });
        Ok(())
    }

    fn entries(&mut self, path: &str, id: ObjectId) -> Result<Vec<(Vec<u8>, EntryMode, ObjectId)>, RepoError> {
        let failed = |source| RepoError::Tree { path: path.to_owned(), source };
        // A folder that names itself twice over, to a depth of 32, would be read for ever: each folder costs a header too.
        self.packed_len += HEADER_LEN;
        if self.packed_len > CONTENT_LEN_MAX {
            return Err(RepoError::TooManyFiles { limit: FILES_MAX });
        }
        let id = gix_id(id);
        let missing = || RepoError::ObjectMissing { kind: "tree", id: id.to_string() };
        let len = self.repo.find_header(id).map_err(|_| missing())?.size();
        if len > TREE_LEN_MAX as u64 {
            return Err(failed(TreeError::TooLarge { len: usize::try_from(len).unwrap_or(usize::MAX) }));
        }
        let raw = read_raw(self.repo, id, gix::object::Kind::Tree)?;
        let entries = gitobj::parse_tree(self.hash, &raw).map_err(failed)?;
        self.trees.push(raw);
        Ok(entries.into_iter().map(|entry| (entry.name, entry.mode, entry.id)).collect())
    }
}

fn gix_id(id: ObjectId) -> gix::ObjectId {
    gix::ObjectId::from_bytes_or_panic(id.as_bytes())
}
