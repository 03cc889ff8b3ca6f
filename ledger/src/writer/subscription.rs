//! Reading records in order while they come, through all volumes.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::succession::Successor;
use super::{ReadError, Shared, lock};
use crate::volume::Place;

/// A durable record and its place.
pub type Entry = (Place, Arc<[u8]>);

/// Durable records in order; see [`Ledger::subscribe`](super::Ledger::subscribe). It keeps the ledger's state in memory, but does not keep
/// the ledger open.
pub struct Subscription {
    shared: Arc<Shared>,
    next: Place,
    ready: VecDeque<Arc<[u8]>>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({} at {})", self.shared.origin, self.next)
    }
}

/// Most records that a subscription takes from memory at once.
const SUBSCRIPTION_STEP: usize = 1_024;

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, from: Place) -> Subscription {
        Subscription { shared, next: from, ready: VecDeque::new() }
    }

    /// The next record, waiting for it if need be; `None` when `timeout` passed without one.
    ///
    /// # Errors
    /// [`ReadError::Stopped`], [`ReadError::Closed`] once every durable record was returned; [`ReadError::Damage`].
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Entry>, ReadError> {
        if self.ready.is_empty() && !self.fill(timeout)? {
            return Ok(None);
        }
        let place = self.next;
        let record = self.ready.pop_front().expect("invariant: it was filled");
        self.next = place.plus(1);
        Ok(Some((place, record)))
    }

    /// The place of the record that [`Subscription::next`] will return. At the end of a volume that ended, the next volume's first one
    /// will be returned instead.
    #[must_use]
    pub fn position(&self) -> Place {
        self.next
    }

    fn fill(&mut self, timeout: Duration) -> Result<bool, ReadError> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.next.volume < self.shared.volume {
                let records = self.shared.read_older(self.next, SUBSCRIPTION_STEP)?;
                match records {
                    Some((place, records)) => {
                        self.next = place;
                        self.ready.extend(records);
                        return Ok(true);
                    }
                    None => {
                        self.next = Place::start_of(self.shared.volume);
                        continue;
                    }
                }
            }
            let index = self.next.index.0;
            let mut state = lock(&self.shared.state);
            while state.durable <= index && !state.finished {
                if let Some(reason) = &state.stopped {
                    return Err(ReadError::Stopped { reason: reason.clone() });
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(false);
                }
                state = self.shared.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let (more, stopped) = (state.durable > index, state.stopped.clone());
            drop(state);
            if more {
                self.ready.extend(self.shared.read_some(index, SUBSCRIPTION_STEP)?);
                return Ok(true);
            }
            if let Some(reason) = stopped {
                return Err(ReadError::Stopped { reason });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shared.wait_successor(left) {
                Successor::Now(next) => self.shared = next,
                Successor::Coming => return Ok(false),
                Successor::None => return Err(ReadError::Closed),
            }
        }
    }
}
