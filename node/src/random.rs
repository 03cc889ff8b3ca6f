//! Randomness as an argument: see [`cairn_ledger::random`].

pub use cairn_ledger::random::{Random, SystemRandom};
