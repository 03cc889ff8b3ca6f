//! How long to wait before the next try: doubling, with a random part, so that a fleet does not come back in one wave.

use std::time::Duration;

use crate::random::Random;

/// The first wait, before its random part.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Waits of one caller; starts anew after a success.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: between half and the whole of first × 2^failures, at most [`BACKOFF_MAX`].
    pub(crate) fn next(&mut self, random: &dyn Random) -> Duration {
        let whole = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        let mut byte = [0u8; 1];
        // Without randomness the waits are merely alike.
        let _ = random.fill(&mut byte);
        whole / 2 + (whole / 2) * u32::from(byte[0]) / 255
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were since it last went well.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);

    impl Random for Fixed {
        fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn waits_double_up_to_the_limit_and_start_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12).map(|_| backoff.next(&Fixed(255)).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]);
        for _ in 0..100 {
            assert!(backoff.next(&Fixed(0)) == BACKOFF_MAX / 2);
        }
        backoff.reset();
        assert_eq!(backoff.next(&Fixed(0)), BACKOFF_FIRST / 2);
    }
}
