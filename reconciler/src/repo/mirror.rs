use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;

use cairn_schemas::ids::CommitId;
use gix::remote::Direction;

use super::error::RepoError;
use super::history::{self, History};
use super::snapshot::{self, Snapshot};
use super::source::{Source, Watch, commit_id, object_id, one_line, open};
use super::upload_pack::{UploadPack, scrubbed_git};

/// More packs than this in the mirror are made one after a fetch: each fetch brings a pack, and each look-up asks them all.
const PACKS_MAX: usize = 40;

/// The mirror's only branch: whatever the source's branch was at the last fetch.
const UPSTREAM_REF: &str = "refs/heads/upstream";

/// A bare repo of our own that holds the source's objects, whoever rewrites the source's history. It is derived: delete it,
/// and it is fetched again.
#[derive(Clone)]
pub struct Mirror {
    folder: PathBuf,
    source: Source,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mirror({} of {})", self.folder.display(), self.source.path().display())
    }
}

impl Mirror {
    /// Opens the mirror at `folder`, or makes an empty one in the source's object format.
    ///
    /// # Errors
    /// [`RepoError::Missing`] and [`RepoError::NotARepo`] of the source; [`RepoError::Mirror`].
    pub fn open(folder: &Path, source: Source) -> Result<Mirror, RepoError> {
        let failed =
            |error: &dyn std::fmt::Display| RepoError::Mirror { path: folder.to_owned(), reason: one_line(error) };
        let hash = source.watch()?.object_hash();
        if !folder.exists() {
            // Made beside its place and renamed, so that a crash leaves no half of a mirror under its name.
            let mut new = folder.as_os_str().to_owned();
            new.push(".new");
            let new = PathBuf::from(new);
            if new.exists() {
                std::fs::remove_dir_all(&new).map_err(|error| failed(&error))?;
            }
            let options = gix::create::Options { object_hash: Some(hash), ..Default::default() };
            let isolated = gix::open::Options::isolated();
            gix::ThreadSafeRepository::init_opts(&new, gix::create::Kind::Bare, options, isolated)
                .map_err(|error| failed(&error))?;
            std::fs::rename(&new, folder).map_err(|error| failed(&error))?;
        }
        let mirror = Mirror { folder: folder.to_owned(), source };
        if mirror.repo()?.object_hash() != hash {
            return Err(failed(&"its object format is not the source's"));
        }
        Ok(mirror)
    }

    /// Opened for each use: an open repo has room for as many packs as there were when it was opened, and a few.
    fn repo(&self) -> Result<gix::Repository, RepoError> {
        let opened = gix::open::Options::isolated().with(gix::sec::Trust::Full).open(&self.folder);
        opened
            .map(|repo| repo.to_thread_local())
            .map_err(|error| RepoError::Mirror { path: self.folder.clone(), reason: one_line(&error) })
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Takes in what the source's branch has now, and gives its tip. Starts `git upload-pack` unless the tip is known.
    ///
    /// # Errors
    /// [`RepoError::NoCommit`], [`RepoError::NoGit`], [`RepoError::Fetch`], and those of [`Watch::tip`].
    pub fn fetch(&self) -> Result<CommitId, RepoError> {
        let watch = self.source.watch()?;
        let tip = watch.tip()?;
        let repo = self.repo()?;
        if self.fetched(&repo)? != Some(tip) {
            self.fetch_pack(&repo, &watch)?;
            self.join_packs();
        }
        // The branch may have moved since: what counts is what was fetched.
        let tip = self.fetched(&self.repo()?)?;
        tip.ok_or_else(|| RepoError::NoCommit {
            path: self.source.path().to_owned(),
            branch: self.source.branch().to_owned(),
        })
    }

    fn fetched(&self, repo: &gix::Repository) -> Result<Option<CommitId>, RepoError> {
        let failed = |error| RepoError::Mirror { path: self.folder.clone(), reason: one_line(&error) };
        let reference = repo.try_find_reference(UPSTREAM_REF).map_err(failed)?;
        Ok(reference.and_then(|reference| reference.try_id().map(|id| commit_id(id.detach()))))
    }

    fn fetch_pack(&self, repo: &gix::Repository, watch: &Watch) -> Result<(), RepoError> {
        let (upload_pack, wire) = UploadPack::start(watch.git_folder(), watch.owner())?;
        let Err(error) = self.receive(repo, wire) else { return Ok(()) };
        let (error, complaint) = (one_line(&error), upload_pack.complaint());
        let reason = if complaint.is_empty() { error } else { format!("{error}: {complaint}") };
        Err(RepoError::Fetch { path: self.source.path().to_owned(), reason })
    }

    /// Makes one pack of many, and keeps what no ref leads to: an accepted commit that the source no longer has. Nothing is
    /// wrong if it fails; the next fetch tries again.
    fn join_packs(&self) {
        let Ok(entries) = std::fs::read_dir(self.folder.join("objects/pack")) else { return };
        let is_pack = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "pack");
        if entries.flatten().filter(is_pack).count() <= PACKS_MAX {
            return;
        }
        let mut command = scrubbed_git("git");
        command.arg("--git-dir").arg(&self.folder).args(["repack", "-a", "-d", "-k", "-q"]);
        let result = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !result.as_ref().is_ok_and(ExitStatus::success) {
            tracing::warn!(mirror = %self.folder.display(), ?result, "git repack failed: the mirror keeps its packs");
        }
    }

    fn receive(&self, repo: &gix::Repository, wire: super::upload_pack::Wire) -> Result<(), gix::Error> {
        // Only the branch, and forced: history that was rewritten is fetched, and then noticed by `history`.
        let refspec = format!("+{}:{UPSTREAM_REF}", self.source.branch_ref());
        let remote = repo
            .remote_at_without_url_rewrite("file:///policies")?
            .with_fetch_tags(gix::remote::fetch::Tags::None)
            .with_refspecs([refspec.as_str()], Direction::Fetch)?;
        remote
            .to_connection_with_transport(wire)
            .prepare_fetch(gix::progress::Discard, gix::remote::ref_map::Options::default())?
            .receive(gix::progress::Discard, &AtomicBool::new(false))?;
        Ok(())
    }

    /// How `tip` follows from the last accepted commit. Both should have been fetched.
    ///
    /// # Errors
    /// [`RepoError::ObjectMissing`], [`RepoError::TooManyCommits`], [`RepoError::Commit`].
    pub fn history(&self, accepted: Option<&CommitId>, tip: &CommitId) -> Result<History, RepoError> {
        history::between(&self.repo()?, accepted, tip)
    }

    /// The policy files of a commit, with everything that binds them to it.
    ///
    /// # Errors
    /// What a release cannot hold, with its path: see [`RepoError`].
    pub fn snapshot(&self, commit: &CommitId) -> Result<Snapshot, RepoError> {
        snapshot::read(&self.repo()?, commit)
    }

    /// Whether the mirror has a commit.
    #[must_use]
    pub fn has(&self, commit: &CommitId) -> bool {
        self.repo().is_ok_and(|repo| repo.has_object(object_id(commit)))
    }
}

impl Source {
    /// The tip, for a single question; [`Source::watch`] is for many.
    ///
    /// # Errors
    /// Those of [`Source::watch`] and [`Watch::tip`].
    pub fn tip(&self) -> Result<CommitId, RepoError> {
        open(self.path())?;
        self.watch()?.tip()
    }
}
