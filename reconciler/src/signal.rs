//! Something to wait for: a flag that threads sleep on instead of polling.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A flag that stays set until a waiter takes it.
#[derive(Debug, Default)]
pub struct Signal {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Sets it and wakes who waits.
    pub fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until it is set, takes it, and says true; false after `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut set, _) =
            self.changed.wait_timeout_while(set, timeout, |set| !*set).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_set_until_taken() {
        let signal = Signal::default();
        assert!(!signal.wait(Duration::ZERO));
        signal.set();
        signal.set();
        assert!(signal.wait(Duration::ZERO));
        assert!(!signal.wait(Duration::ZERO));
    }
}
