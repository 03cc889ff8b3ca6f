//! Git objects from their raw bytes: ids, trees, commits, and the proof that a content is a commit's.
//!
//! Strict where it matters: a raw object that Git would not have written is refused, so that no two readers see different
//! files in it. Nothing here opens a repo; the bytes come from a release's statement and are believed only once their ids
//! lead from the commit to the content ([`bind()`]). Both object formats are read, SHA-1 and SHA-256; a SHA-1 input that
//! looks made for a collision is refused, as Git itself does.

mod bind;
mod commit;
mod id;
mod tree;

pub use bind::{BindError, TREE_DEPTH_MAX, bind};
pub use commit::{COMMIT_LEN_MAX, Commit, CommitError, Person};
pub use id::{Collision, Hash, ObjectId, ObjectKind, object_id};
pub use tree::{EntryMode, TREE_LEN_MAX, TreeEntry, TreeError, parse_tree, write_tree};
