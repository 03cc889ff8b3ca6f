//! What every node shares: who it is, what it has recorded, what it runs.
//!
//! A node is anything that enforces: a sensor, an admission server. This crate joins it to a fleet ([`identity`]), keeps its
//! records on its own disk until the ledger has them ([`spool`], [`uplink`]), and fetches, checks and activates releases
//! ([`releases`]); [`Agent`] runs the lot. It uses threads and blocking calls, no async runtime: a sensor needs none.
//!
//! What it is not: it makes no decision of its own and sees no kernel event. What it trusts: its own folder, and what it pinned
//! when it joined. The control plane is trusted for order only: releases are checked against the pinned keys and signers, offline.
#![forbid(unsafe_code)]

pub mod active;
pub mod agent;
mod backoff;
pub mod checkpoint;
pub mod client;
pub mod compare;
pub mod durable;
#[cfg(test)]
mod fixture;
pub mod identity;
pub mod random;
pub mod releases;
pub mod spool;
mod stop;
pub mod uplink;

pub use active::{Active, ActiveRelease};
pub use agent::{Agent, AgentConfig, AgentError};
pub use identity::{Identity, IdentityError, join};
pub use random::{Random, SystemRandom};
pub use spool::{Recorded, Spool, SpoolError, SpoolLimits};
