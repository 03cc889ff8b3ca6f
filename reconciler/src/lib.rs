//! The control plane: watches a policy repo, builds releases, moves them through the rings, and takes what nodes record.
//!
//! What it is trusted for: ordering, and holding the ledger's key. Not for node records (nodes sign their heads), rules (nodes
//! check who signed the commit), or history (nodes remember checkpoints). See ARCHITECTURE.md.
//!
//! Everything that decides is pure: [`rollout::plan`], [`state::State`], [`offer::desired`].
#![forbid(unsafe_code)]

pub mod api;
pub mod build;
pub mod configs;
pub mod control;
pub mod durable;
pub mod intake;
pub mod joins;
pub mod live;
pub mod offer;
pub mod pages;
pub mod plane;
pub mod random;
pub mod releases;
pub mod repo;
pub mod rollout;
pub mod setup;
pub mod signal;
pub mod state;
pub mod step;
