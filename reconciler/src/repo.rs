//! The policy repo: reading it into a mirror of our own, watching it, and writing tags and ring refs back.
//!
//! Reading is gix's ([`Source`], [`Mirror`]); the pack comes from the `git` program's `upload-pack`, started with a scrubbed
//! environment. Writing is libgit2's ([`Writer`], [`create`]), local only. Nothing a repo says is trusted: no hook runs, no
//! configuration of it is obeyed beyond what reading needs, and a path, link or size that a release cannot hold is an error
//! with that path in it. History is not trusted either: a tip that does not descend from the last accepted commit is a typed
//! outcome ([`History::Diverged`]), never followed silently.
//!
//! When this process is root and the repo belongs to somebody else, as under `sudo`, everything that touches the repo runs
//! as that somebody ([`Owner`]): Git's ownership check is satisfied rather than switched off, whatever is written belongs to
//! the user, and a link planted in the repo reaches nothing that the user could not.

mod create;
mod error;
mod history;
mod mirror;
mod owner;
mod snapshot;
mod source;
mod upload_pack;
mod writer;

pub use create::{Author, create};
pub use error::RepoError;
pub use history::{COMMITS_MAX, History};
pub use mirror::Mirror;
pub use owner::Owner;
pub use snapshot::{Change, ChangeKind, FILES_MAX, Snapshot, changes};
pub use source::{Source, Watch};
pub use writer::{ReleaseTag, Writer};

#[cfg(test)]
mod tests;
