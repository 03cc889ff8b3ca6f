use std::collections::{BTreeMap, BTreeSet};

use cairn_release::gitobj::Commit;
use cairn_schemas::ids::CommitId;

use super::error::RepoError;
use super::source::object_id;

/// Most commits between two accepted tips that are looked at.
pub const COMMITS_MAX: usize = 10_000;

/// Most commits that are read to find out which ones are new.
const WALK_MAX: usize = 1_000_000;

/// How a tip follows from the last accepted commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// It is the last accepted commit.
    Unchanged,
    /// It descends from it: every commit that came with it, parents first, the tip last, side branches of merges included.
    /// With nothing accepted before: the tip alone, since what came before it was never asked to be signed.
    Forward(Vec<Commit>),
    /// It does not: the branch was rewritten or set back. Follow it only if an operator says so.
    Diverged {
        /// The last accepted commit.
        accepted: CommitId,
        /// The tip.
        tip: CommitId,
    },
}

/// What `git rev-list accepted..tip` would list. Our own walk rather than the library's, which goes by commit times to be
/// quick: times are the committer's word, and a commit left out here is a commit whose signature nobody checks. Each commit
/// is parsed strictly on the way; grafts, replacements and commit-graph files have no say.
pub(super) fn between(
    repo: &gix::Repository,
    accepted: Option<&CommitId>,
    tip: &CommitId,
) -> Result<History, RepoError> {
    let Some(accepted) = accepted else { return Ok(History::Forward(vec![read_commit(repo, tip)?])) };
    if accepted == tip {
        return Ok(History::Unchanged);
    }
    let mut new = reachable(repo, tip, Some(accepted))?;
    let descends = new.values().any(|commit| commit.parents.contains(accepted));
    if !descends {
        return Ok(History::Diverged { accepted: accepted.clone(), tip: tip.clone() });
    }
    // In a straight line nothing but the accepted commit ends the walk. A merged side branch that began before it leads
    // further back, to commits that were accepted long ago.
    if new.values().any(|commit| commit.parents.len() != 1) {
        let old = reachable(repo, accepted, None)?;
        new.retain(|id, _| !old.contains_key(id));
    }
    if new.len() > COMMITS_MAX {
        return Err(RepoError::TooManyCommits { limit: COMMITS_MAX });
    }
    Ok(History::Forward(parents_first(new, tip)))
}

/// Every commit that `start` reaches, itself included, without going on at `stop`.
fn reachable(
    repo: &gix::Repository,
    start: &CommitId,
    stop: Option<&CommitId>,
) -> Result<BTreeMap<CommitId, Commit>, RepoError> {
    let (mut found, mut open) = (BTreeMap::new(), vec![start.clone()]);
    while let Some(id) = open.pop() {
        if Some(&id) == stop || found.contains_key(&id) {
            continue;
        }
        if found.len() == WALK_MAX {
            return Err(RepoError::TooManyCommits { limit: WALK_MAX });
        }
        let commit = read_commit(repo, &id)?;
        open.extend(commit.parents.iter().cloned());
        found.insert(id, commit);
    }
    Ok(found)
}

/// Orders commits so that each comes after its parents.
fn parents_first(mut commits: BTreeMap<CommitId, Commit>, tip: &CommitId) -> Vec<Commit> {
    let (mut ordered, mut entered) = (Vec::with_capacity(commits.len()), BTreeSet::new());
    let mut stack = vec![tip.clone()];
    while let Some(id) = stack.last().cloned() {
        match commits.get(&id) {
            // The first time its parents go on top of it; when it surfaces again, they are done.
            Some(commit) if entered.insert(id) => {
                stack.extend(commit.parents.iter().filter(|parent| commits.contains_key(parent)).cloned());
            }
            Some(_) => {
                ordered.extend(stack.pop().and_then(|id| commits.remove(&id)));
            }
            None => {
                stack.pop();
            }
        }
    }
    ordered
}

pub(super) fn read_commit(repo: &gix::Repository, id: &CommitId) -> Result<Commit, RepoError> {
    let raw = read_raw(repo, object_id(id), gix::object::Kind::Commit)?;
    Commit::parse(&raw).map_err(|source| RepoError::Commit { commit: id.clone(), source })
}

/// An object's raw bytes.
pub(super) fn read_raw(
    repo: &gix::Repository,
    id: gix::ObjectId,
    kind: gix::object::Kind,
) -> Result<Vec<u8>, RepoError> {
    let name = match kind {
        gix::object::Kind::Tree => "tree",
        gix::object::Kind::Blob => "blob",
        _ => "commit",
    };
    match repo.try_find_object(id) {
        Ok(Some(mut object)) if object.kind == kind => Ok(std::mem::take(&mut object.data)),
        _ => Err(RepoError::ObjectMissing { kind: name, id: id.to_string() }),
    }
}
