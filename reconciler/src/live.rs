//! The state, kept up with the ledger by one thread, and read by all others.

use std::sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use cairn_ledger::volume::Place;
use cairn_schemas::record::Record;
use cairn_schemas::time::Timestamp;
use tokio::sync::watch;

use crate::state::State;

/// The live state.
#[derive(Debug)]
pub struct Live {
    state: RwLock<State>,
    folded: Mutex<Place>,
    grew: Condvar,
    settled: watch::Sender<u64>,
}

impl Live {
    /// Begins with what was folded so far.
    #[must_use]
    pub fn new(state: State) -> Live {
        let folded = Mutex::new(state.end());
        Live { state: RwLock::new(state), folded, grew: Condvar::new(), settled: watch::Sender::new(0) }
    }

    /// The state now. Held for as long as it is read: the fold waits.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        // The fold changes the state record by record; a panic in it leaves one that is behind, not one that is wrong.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds the next records, all under one lock: nobody sees half of what was appended as one. Returns them parsed; what cannot be
    /// parsed (a type of a later version) is counted and left out. Who waits is told by [`Live::announce`].
    pub(crate) fn fold<'a>(
        &self,
        records: impl IntoIterator<Item = &'a [u8]>,
        arrived: Option<Timestamp>,
        now: Timestamp,
    ) -> Vec<Record> {
        let mut parsed = Vec::new();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for bytes in records {
            match state.apply(bytes, arrived, now) {
                Ok((_, record)) => parsed.push(record),
                Err(error) => {
                    let end = state.end();
                    tracing::warn!(before = %end, error = error.one_line(), "a record that this version cannot read");
                }
            }
        }
        parsed
    }

    /// Wakes who waits for the state to cover what was folded.
    pub(crate) fn announce(&self) {
        let end = self.read().end();
        *self.folded.lock().unwrap_or_else(PoisonError::into_inner) = end;
        self.grew.notify_all();
    }

    /// Waits until the state covers the record at this place and that was announced; false after `timeout`.
    pub(crate) fn wait_for(&self, place: Place, timeout: Duration) -> bool {
        let began = Instant::now();
        let mut folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        while *folded <= place {
            let Some(left) = timeout.checked_sub(began.elapsed()) else {
                return false;
            };
            folded = self.grew.wait_timeout(folded, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Tells those who watch that the state came to rest: nothing more follows from it by itself.
    pub(crate) fn settle(&self) {
        self.settled.send_modify(|version| *version += 1);
    }

    /// Notices each time the state came to rest.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }
}
