//! A release: one commit's policy, packed, described, signed, and proven to be in the ledger.
//!
//! Four files under `releases/<serial>/`: `content.tar`, `statement.sigstore.json`, `record.json`, `release.tlog-proof`.
//! Feature `check` is the reader's side: [`check()`] believes nothing but what its caller pins, and its [`VerifiedRelease`]
//! has no other constructor. Feature `sign` is the control plane's side: pack, describe, sign, and write in an order that a
//! crash cannot make wrong. What it is not: it loads no policy and runs no test (`cairn-policy` does), and it opens no repo.
//!
//! [`VerifiedRelease`]: check::VerifiedRelease
#![forbid(unsafe_code)]

pub mod bundle;
pub mod check;
pub mod content;
pub mod files;
pub mod gitobj;
pub mod key;
pub mod signers;
pub mod sshsig;
pub mod statement;
#[cfg(feature = "sign")]
pub mod store;

pub use check::{CheckError, Gate, Trust, VerifiedRelease, check};
pub use files::ReleaseFiles;
