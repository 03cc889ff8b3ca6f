use std::path::{Path, PathBuf};

use cairn_schemas::ids::CommitId;

use super::error::RepoError;
use super::owner::Owner;

/// Where the policy comes from: a local repo, bare or with a work tree, and one branch of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    branch: String,
}

impl Source {
    /// From a local path or a `file://` URL, and a branch name such as `main`.
    ///
    /// # Errors
    /// [`RepoError::UnsupportedUrl`] for any other URL.
    pub fn parse(text: &str, branch: &str) -> Result<Source, RepoError> {
        let local = text.strip_prefix("file://").unwrap_or(text);
        let unsupported = local.contains("://")
            // `host:path`, which Git takes for SSH; a local path with a colon is written `./a:b`.
            || local.split_once(':').is_some_and(|(host, _)| !host.contains('/'))
            || (text.starts_with("file://") && !local.starts_with('/'));
        if unsupported {
            return Err(RepoError::UnsupportedUrl { url: without_user(text) });
        }
        Ok(Source::local(local, branch))
    }

    /// A local path.
    pub fn local(path: impl Into<PathBuf>, branch: &str) -> Source {
        Source { path: path.into(), branch: branch.to_owned() }
    }

    /// The repo's place.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The branch.
    #[must_use]
    pub fn branch(&self) -> &str {
        &self.branch
    }

    pub(super) fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// Opens the repo for asking for its tip again and again.
    ///
    /// # Errors
    /// [`RepoError::Missing`], [`RepoError::NotARepo`].
    pub fn watch(&self) -> Result<Watch, RepoError> {
        let repo = open(&self.path)?.to_thread_local();
        Ok(Watch { repo, source: self.clone() })
    }
}

/// Asks a local repo for its tip: one or two small file reads, cheap enough for every quarter of a second. Takes no lock and
/// starts no program.
pub struct Watch {
    repo: gix::Repository,
    source: Source,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({})", self.source.path.display())
    }
}

impl Watch {
    /// The commit at the branch's tip now.
    ///
    /// # Errors
    /// [`RepoError::NoCommit`], [`RepoError::Missing`] where the repo went away, [`RepoError::NotARepo`] where it broke.
    pub fn tip(&self) -> Result<CommitId, RepoError> {
        let path = &self.source.path;
        if !self.repo.git_dir().exists() {
            return Err(RepoError::Missing { path: path.clone() });
        }
        let broken =
            |error: &dyn std::fmt::Display| RepoError::NotARepo { path: path.clone(), reason: one_line(error) };
        let no_commit = || RepoError::NoCommit { path: path.clone(), branch: self.source.branch.clone() };
        let name = self.source.branch_ref();
        let reference = self.repo.try_find_reference(name.as_str()).map_err(|error| broken(&error))?;
        let mut reference = reference.ok_or_else(no_commit)?;
        let id = reference.follow_to_object().map_err(|error| broken(&error))?;
        Ok(commit_id(id.detach()))
    }

    /// The folder that holds the objects: `.git`, or the repo itself where it is bare.
    pub(super) fn git_folder(&self) -> &Path {
        self.repo.common_dir()
    }

    /// Whom the repo belongs to, where that is not this process.
    pub(super) fn owner(&self) -> Option<Owner> {
        Owner::of(self.git_folder())
    }

    pub(super) fn object_hash(&self) -> gix::hash::Kind {
        self.repo.object_hash()
    }
}

/// Opens a repo without believing it: reduced trust means that gix obeys no setting in it that could start a program or
/// read elsewhere, whoever it belongs to. Nothing but the repo's own files is read.
pub(super) fn open(path: &Path) -> Result<gix::ThreadSafeRepository, RepoError> {
    if !path.exists() {
        return Err(RepoError::Missing { path: path.to_owned() });
    }
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Reduced)
        .open(path)
        .map_err(|error| RepoError::NotARepo { path: path.to_owned(), reason: one_line(&error) })
}

pub(super) fn commit_id(id: gix::ObjectId) -> CommitId {
    id.to_string().parse().expect("invariant: an object id is 40 or 64 lower-case hexadecimal digits")
}

pub(super) fn object_id(id: &CommitId) -> gix::ObjectId {
    gix::ObjectId::from_hex(id.as_str().as_bytes()).expect("invariant: a commit id is 40 or 64 hexadecimal digits")
}

/// Errors of others may have several lines, and quote bytes from the repo; ours have one, and no control characters.
pub(super) fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().filter(|character| !character.is_control()).take(400).collect()
}

fn without_user(url: &str) -> String {
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest.split_once('@'))) {
        Some((scheme, Some((user, rest)))) if !user.contains('/') => format!("{scheme}://{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_paths_are_taken_and_other_urls_refused_without_their_password() {
        for (text, path) in [("/a/b", "/a/b"), ("file:///a/b", "/a/b"), ("./a:b", "./a:b"), ("policies", "policies")] {
            assert_eq!(Source::parse(text, "main").unwrap(), Source::local(path, "main"));
        }
        for text in
            ["https://user:secret@example.com/x.git", "ssh://git@example.com/x", "git@example.com:x", "file://host/x"]
        {
            let message = Source::parse(text, "main").unwrap_err().to_string();
            assert!(message.contains("local path") && !message.contains("secret"), "{message}");
        }
    }
}
