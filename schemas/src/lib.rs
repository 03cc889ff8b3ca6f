//! What crosses a border in Cairn: record types, ids, canonical bytes, wire messages, configuration types, tokens, commitments.
//!
//! This crate is pure. It opens no file, reads no clock, draws no random number; keys and times are arguments.
//! Everything else in the workspace may use it, and it uses nothing of ours. The bytes of records are described in
//! `ledger/FORMAT.md`; the JSON Schemas in `schemas/v1/` are written from the types here by `cargo xtask schemas`, and a test
//! holds the two together.
#![forbid(unsafe_code)]

pub mod canonical;
pub mod commitment;
#[cfg(feature = "config")]
pub mod config;
pub mod data;
pub mod digest;
pub mod fleet;
pub mod ids;
pub mod outline;
pub mod paths;
pub mod record;
pub mod references;
#[cfg(feature = "schema")]
pub mod schema;
pub mod text;
pub mod time;
pub mod token;
pub mod types;
pub mod wire;
