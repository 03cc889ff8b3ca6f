use std::path::PathBuf;

use cairn_release::gitobj::{BindError, CommitError, TreeError};
use cairn_schemas::ids::CommitId;
use cairn_schemas::paths::PathError;
use thiserror::Error;

/// What can be wrong with a policy repo, or with what is asked of it. Paths inside the repo are escaped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RepoError {
    /// A URL of a kind that cannot be fetched yet.
    #[error("`{url}` cannot be fetched: give a local path or a file:// URL of the policy repo")]
    UnsupportedUrl {
        /// The URL, without any user name and password.
        url: String,
    },
    /// Nothing is there.
    #[error("there is no policy repo at {}", .path.display())]
    Missing {
        /// The place.
        path: PathBuf,
    },
    /// Something is there, and it is no Git repo or a broken one.
    #[error("{} is not a Git repo that can be read: {reason}", .path.display())]
    NotARepo {
        /// The place.
        path: PathBuf,
        /// What gix or libgit2 said.
        reason: String,
    },
    /// The branch has no commit, or there is no such branch.
    #[error("the policy repo {} has no commit on the branch `{branch}`: commit something there", .path.display())]
    NoCommit {
        /// The repo.
        path: PathBuf,
        /// The branch.
        branch: String,
    },
    /// The program that serves packs is not installed.
    #[error("the program `git` was not found: install git, or add it to PATH")]
    NoGit,
    /// `git upload-pack` or what it sent was not what was asked for.
    #[error("cannot fetch from {}: {reason}", .path.display())]
    Fetch {
        /// The source.
        path: PathBuf,
        /// What gix and `git` said.
        reason: String,
    },
    /// The mirror's folder is damaged or cannot be written.
    #[error("the mirror of the policy repo at {} cannot be used: {reason}; it may be deleted, and is then fetched again", .path.display())]
    Mirror {
        /// The mirror.
        path: PathBuf,
        /// What gix said.
        reason: String,
    },
    /// An object that a commit needs is not there: a shallow or partial clone, or a damaged repo.
    #[error("the policy repo lacks the {kind} {id}: is it a shallow or partial clone?")]
    ObjectMissing {
        /// `commit`, `tree` or `blob`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// More new commits than are looked at in one go.
    #[error("more than {limit} commits since the last accepted one")]
    TooManyCommits {
        /// The limit.
        limit: usize,
    },
    /// A raw commit is malformed.
    #[error("commit {commit} is malformed: {source}")]
    Commit {
        /// Its id.
        commit: CommitId,
        /// What is wrong.
        source: CommitError,
    },
    /// A raw tree is malformed.
    #[error("the folder `{path}` is malformed: {source}")]
    Tree {
        /// The folder; empty for the root.
        path: String,
        /// What is wrong.
        source: TreeError,
    },
    /// A policy path is a link, a submodule or something else that is no file.
    #[error("`{path}` is {found}: policy is regular files and folders only")]
    NotAFile {
        /// The path.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// A policy path that no release can hold.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A policy path is not UTF-8.
    #[error("the policy path `{path}` is not UTF-8")]
    PathNotUtf8 {
        /// The path with `\xNN` for its bytes.
        path: String,
    },
    /// The policy files together are larger than a release may be.
    #[error(
        "the policy files are more than the {limit} bytes a release may have; `{path}` is the one too many, with {len} bytes"
    )]
    TooLarge {
        /// The file that went past the limit.
        path: String,
        /// Its length.
        len: u64,
        /// The limit, on the packed content.
        limit: usize,
    },
    /// More files than are read.
    #[error("the policy has more than {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// What was read is not, file for file, the commit's. A fault of this program or of the disk.
    #[error("the files read are not those of commit {commit}: {source}")]
    Bind {
        /// The commit.
        commit: CommitId,
        /// Where they differ.
        source: BindError,
    },
    /// A tag of this name is there and names another commit. It is left alone.
    #[error("the tag `{tag}` is already there and names {found}, not {wanted}: delete it, or it stays as it is")]
    TagTaken {
        /// The tag.
        tag: String,
        /// What it names.
        found: String,
        /// What it should name.
        wanted: CommitId,
    },
    /// Writing to the repo failed.
    #[error("cannot write to the policy repo {}: {reason}", .path.display())]
    Write {
        /// The repo.
        path: PathBuf,
        /// What libgit2 or the system said.
        reason: String,
    },
    /// The place where a repo was to be made is taken.
    #[error("{} is already there", .path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// Acting as the repo's owner failed.
    #[error("cannot act as user {uid}, who owns the policy repo: {reason}")]
    Owner {
        /// The user.
        uid: u32,
        /// What the system said.
        reason: String,
    },
}
