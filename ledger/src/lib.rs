//! The ledger: an append-only Merkle tree of records, and how to read one.
//!
//! The bytes on disk are C2SP tlog-tiles; `ledger/FORMAT.md` describes them, and `ledger/vectors/` holds examples. Feature `read` is
//! all that a verifier needs: the tree, tiles, signed notes, checkpoints, proofs, a ledger's directory. It opens files for reading
//! and does nothing else to the world. Feature `vault` opens encrypted values and blobs. Feature `write` adds the one writer of a ledger and the producer's side of a stream.
#![forbid(unsafe_code)]

pub mod beside;
pub mod blob;
#[cfg(feature = "write")]
mod bytes;
pub mod checkpoint;
pub mod cosignature;
pub mod dir;
#[cfg(feature = "write")]
mod disk;
#[cfg(feature = "write")]
mod durable;
pub mod endorsement;
#[cfg(feature = "write")]
pub mod files;
#[cfg(test)]
#[cfg(feature = "write")]
mod fixture;
#[cfg(test)]
#[cfg(feature = "write")]
mod format;
mod hash_lines;
pub mod head;
#[cfg(feature = "write")]
pub mod index;
#[cfg(feature = "write")]
mod integrate;
#[cfg(feature = "write")]
pub mod keys;
#[cfg(feature = "write")]
pub mod local;
pub mod location;
#[cfg(feature = "write")]
pub mod mirror;
pub mod mldsa;
pub mod note;
#[cfg(feature = "write")]
mod parallel;
pub mod pinned;
pub mod policy;
#[cfg(feature = "write")]
pub mod producer;
pub mod proof;
#[cfg(feature = "write")]
pub mod random;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "write")]
mod store;
#[cfg(feature = "write")]
mod streams;
pub mod tile;
pub mod tree;
#[cfg(feature = "vault")]
pub mod vault;
#[cfg(test)]
#[cfg(feature = "write")]
mod vectors;
#[cfg(feature = "write")]
pub mod view;
pub mod volume;
#[cfg(feature = "write")]
mod wal;
#[cfg(feature = "write")]
pub mod witness;
#[cfg(feature = "write")]
pub mod writer;
