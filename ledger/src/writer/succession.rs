//! What comes after a volume's writer: the writer of the next volume, or of the same one with another key.
//!
//! Whoever changes a ledger lets its writer finish what waits, and starts another one. What was not queued by then is queued there: an
//! append that finds its writer closing asks who comes after it.

use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::submission::wake;
use super::{AppendError, Shared, lock};

/// Who comes after.
#[derive(Clone, Default)]
pub(super) enum Successor {
    /// Nobody: the ledger is open, or closed for good.
    #[default]
    None,
    /// Somebody, soon.
    Coming,
    /// This one.
    Now(Arc<Shared>),
}

/// What a writer knows of its successor.
#[derive(Default)]
pub(super) struct Succession {
    successor: Successor,
    waiting: Vec<Waker>,
}

impl Shared {
    /// Who comes after this writer; where somebody will, `waker` is called then.
    pub(super) fn successor(&self, waker: &Waker) -> Successor {
        let mut succession = lock(&self.succession);
        if matches!(succession.successor, Successor::Coming) {
            succession.waiting.push(waker.clone());
        }
        succession.successor.clone()
    }

    /// Who comes after this writer, waiting while somebody will.
    pub(super) fn wait_successor(&self, timeout: Duration) -> Successor {
        let deadline = Instant::now() + timeout;
        let mut succession = lock(&self.succession);
        while matches!(succession.successor, Successor::Coming) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            succession = self.succeeded.wait_timeout(succession, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        succession.successor.clone()
    }

    /// Why nothing is taken any more.
    pub(super) fn closed(&self) -> AppendError {
        let state = lock(&self.state);
        match (&state.frozen, &state.stopped) {
            (Some(reason), _) => AppendError::Frozen { reason: reason.clone() },
            (None, Some(reason)) => AppendError::Stopped { reason: reason.clone() },
            (None, None) => AppendError::Closed,
        }
    }

    /// Whether somebody will come.
    pub(super) fn is_handing_over(&self) -> bool {
        matches!(lock(&self.succession).successor, Successor::Coming)
    }

    /// Says who comes, and wakes all who wait for it.
    pub(super) fn succeed(&self, successor: Successor) {
        let waiting = {
            let mut succession = lock(&self.succession);
            succession.successor = successor;
            std::mem::take(&mut succession.waiting)
        };
        self.succeeded.notify_all();
        wake(waiting);
    }
}
