//! Randomness as an argument: see [`cairn_ledger::random`].

pub use cairn_ledger::random::{Random, SystemRandom};

/// So many random bytes.
pub(crate) fn draw<const N: usize>(random: &dyn Random) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    random.fill(&mut bytes)?;
    Ok(bytes)
}
