use std::path::{Path, PathBuf};

use cairn_schemas::ids::{CommitId, RecordIndex, ReleaseRef, RingName};
use cairn_schemas::time::Timestamp;

use super::create::Author;
use super::error::RepoError;
use super::owner::{Owner, run_as, start_libgit2};
use super::source::one_line;

/// What the tag of a promoted release says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseTag {
    /// The release. The tag's name is `v` and its serial.
    pub release: ReleaseRef,
    /// Its commit.
    pub commit: CommitId,
    /// The ledger's name.
    pub ledger: String,
    /// The ledger's volume in which `release.built` stands.
    pub volume: u64,
    /// Its index there.
    pub index: RecordIndex,
}

impl ReleaseTag {
    /// The tag's name, such as `v7`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("v{}", self.release.serial)
    }

    /// The tag's message: the release's digest and the place of its record.
    #[must_use]
    pub fn message(&self) -> String {
        format!(
            "release {}\n\nContent: sha256:{}\nLedger: {}, volume {}, index {}\n",
            self.release.serial, self.release.digest, self.ledger, self.volume, self.index
        )
    }
}

/// Writes tags and ring refs into a local policy repo. Touches no branch and no work tree, and starts no program.
#[derive(Debug, Clone)]
pub struct Writer {
    path: PathBuf,
}

impl Writer {
    /// A writer to the repo at `path`, bare or with a work tree.
    ///
    /// # Errors
    /// [`RepoError::Missing`], [`RepoError::NotARepo`]: also for repos in Git's SHA-256 format, which libgit2 cannot write, and
    /// for repos of somebody else when this process is not root.
    pub fn open(path: &Path) -> Result<Writer, RepoError> {
        let writer = Writer { path: path.to_owned() };
        writer.with_repo(|_| Ok(()))?;
        Ok(writer)
    }

    /// Writes the annotated tag of a promoted release. A tag of that name on the same commit is left as it is.
    ///
    /// # Errors
    /// [`RepoError::TagTaken`], [`RepoError::Write`].
    pub fn tag(&self, tag: &ReleaseTag, author: &Author, now: Timestamp) -> Result<(), RepoError> {
        let (name, message) = (tag.name(), tag.message());
        self.with_repo(|repo| {
            if let Ok(reference) = repo.find_reference(&format!("refs/tags/{name}")) {
                let target = reference.peel(git2::ObjectType::Any).map_err(|error| self.failed(&error))?;
                let target = target.peel_to_commit().map_or(target.id(), |commit| commit.id()).to_string();
                if target == tag.commit.as_str() {
                    return Ok(());
                }
                let wanted = tag.commit.clone();
                return Err(RepoError::TagTaken { tag: name.clone(), found: target, wanted });
            }
            let write = || -> Result<(), git2::Error> {
                let commit =
                    repo.find_object(git2::Oid::from_str(tag.commit.as_str())?, Some(git2::ObjectType::Commit))?;
                repo.tag(&name, &commit, &signature(author, now)?, &message, false).map(|_| ())
            };
            write().map_err(|error| self.failed(&error))
        })
    }

    /// Points `refs/cairn/rings/<ring>` at the commit that the ring runs, so that `git log refs/cairn/rings/broad` tells.
    ///
    /// # Errors
    /// [`RepoError::Write`].
    pub fn set_ring(&self, ring: &RingName, commit: &CommitId) -> Result<(), RepoError> {
        self.with_repo(|repo| {
            let write = || -> Result<(), git2::Error> {
                let commit = repo.find_commit(git2::Oid::from_str(commit.as_str())?)?;
                let message = format!("cairn: {ring} runs {}", commit.id());
                repo.reference(&format!("refs/cairn/rings/{ring}"), commit.id(), true, &message).map(|_| ())
            };
            write().map_err(|error| self.failed(&error))
        })
    }

    /// The commit that `refs/cairn/rings/<ring>` names, if it is there.
    ///
    /// # Errors
    /// [`RepoError::Write`].
    pub fn ring(&self, ring: &RingName) -> Result<Option<CommitId>, RepoError> {
        self.with_repo(|repo| match repo.refname_to_id(&format!("refs/cairn/rings/{ring}")) {
            Ok(id) => Ok(id.to_string().parse().ok()),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        })
    }

    /// Opens the repo as its owner and works on it.
    fn with_repo<T: Send>(
        &self,
        work: impl FnOnce(&git2::Repository) -> Result<T, RepoError> + Send,
    ) -> Result<T, RepoError> {
        if !self.path.exists() {
            return Err(RepoError::Missing { path: self.path.clone() });
        }
        start_libgit2();
        let git_folder = self.path.join(".git");
        let owner = Owner::of(if git_folder.exists() { &git_folder } else { &self.path });
        run_as(owner, || {
            let flags = git2::RepositoryOpenFlags::NO_SEARCH;
            let none: [&Path; 0] = [];
            let repo = git2::Repository::open_ext(&self.path, flags, none)
                .and_then(|repo| isolate(&repo).map(|()| repo))
                .map_err(|error| RepoError::NotARepo { path: self.path.clone(), reason: one_line(&error.message()) })?;
            work(&repo)
        })
    }

    fn failed(&self, error: &git2::Error) -> RepoError {
        RepoError::Write { path: self.path.clone(), reason: one_line(&error.message()) }
    }
}

/// Lets no configuration apply: not the system's, not root's (whose home the owner cannot even look into), not the repo's own.
pub(super) fn isolate(repo: &git2::Repository) -> Result<(), git2::Error> {
    repo.set_config(&git2::Config::new()?)
}

pub(super) fn signature(author: &Author, now: Timestamp) -> Result<git2::Signature<'static>, git2::Error> {
    let seconds = i64::try_from(now.nanos() / 1_000_000_000).expect("invariant: u64 nanoseconds are few seconds");
    git2::Signature::new(&author.name, &author.email, &git2::Time::new(seconds, 0))
}
