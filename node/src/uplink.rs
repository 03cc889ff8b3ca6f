//! Sends the spool's records to the ledger and trims what it took.
//!
//! One thread. Before the first send of each stream it asks where the ledger has it ([`Spool::reconcile`]): a spool that lost its
//! disk, or a cloned one, must not send into another's history. After that it sends as soon as something is durable. Whatever goes
//! wrong, it waits (doubling, with jitter) and tries again, for days if need be; the spool holds the records meanwhile. A record sent
//! twice is taken once, so an answer that is lost costs nothing but the repeat.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_schemas::ids::StreamId;
use cairn_schemas::wire::{APPEND_BODY_LEN_MAX, APPEND_RECORDS_MAX};

use crate::backoff::Backoff;
use crate::client::{Client, ClientError};
use crate::random::Random;
use crate::spool::{Pending, Reconciled, Spool, SpoolError};
use crate::stop::Stop;

/// How long the thread sleeps when nothing is pending; it is woken at once by an append.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// The pause between looks at a spool that was closed and is empty.
const CLOSED_PAUSE: Duration = Duration::from_millis(20);

/// Why a round of sending stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkError {
    /// The control plane did not take the records.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The spool could not be read or trimmed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The answer names a record that was not sent.
    #[error("the control plane says that it has record {said} of {stream}; {sent} was the last one sent")]
    BeyondSent {
        /// The stream.
        stream: StreamId,
        /// What the answer says.
        said: u64,
        /// What was sent.
        sent: u64,
    },
}

/// Sends a spool's records; see the module's description.
#[derive(Debug)]
pub struct Uplink {
    client: Client,
    spool: Spool,
    /// Streams that the ledger was asked about since this process started.
    reconciled: HashSet<StreamId>,
}

impl Uplink {
    /// An uplink that has sent nothing.
    #[must_use]
    pub fn new(client: Client, spool: Spool) -> Uplink {
        Uplink { client, spool, reconciled: HashSet::new() }
    }

    /// Sends the next records and trims what was taken. False: nothing is pending.
    ///
    /// # Errors
    /// Nothing is lost by one; the same records are pending still.
    pub fn send_next(&mut self) -> Result<bool, UplinkError> {
        let Some(pending) = self.spool.pending(APPEND_RECORDS_MAX, APPEND_BODY_LEN_MAX)? else { return Ok(false) };
        if !self.reconciled.contains(&pending.stream) {
            self.reconcile(&pending.stream)?;
            // What is pending may be another now.
            return Ok(true);
        }
        match self.send(&pending) {
            Ok(()) => Ok(true),
            Err(error) => {
                // A refusal that waiting does not cure may be about history: ask again where the stream stands.
                if matches!(&error, UplinkError::Client(error) if matches!(error.status(), Some(400 | 404 | 409 | 422)))
                {
                    self.reconciled.remove(&pending.stream);
                }
                Err(error)
            }
        }
    }

    fn reconcile(&mut self, stream: &StreamId) -> Result<(), UplinkError> {
        let position = self.client.position(stream)?;
        match self.spool.reconcile(stream, &position)? {
            Reconciled::NewStream { old, new, carried, reason } => {
                tracing::error!(%old, %new, carried, reason, "a new stream goes on");
            }
            Reconciled::OneHistory | Reconciled::LedgerBehind { .. } => {}
        }
        self.reconciled.insert(stream.clone());
        Ok(())
    }

    fn send(&self, pending: &Pending) -> Result<(), UplinkError> {
        let answer = self.client.append(&pending.stream, &pending.records)?;
        let sent = pending.first.0 + pending.records.len() as u64 - 1;
        if answer.sequence.0 > sent {
            // Trimming what was never sent would lose it.
            return Err(UplinkError::BeyondSent { stream: pending.stream.clone(), said: answer.sequence.0, sent });
        }
        self.spool.trim(&pending.stream, answer.sequence)?;
        tracing::debug!(stream = %pending.stream, sequence = %answer.sequence, index = %answer.index, "the ledger has it");
        Ok(())
    }

    /// Sends until told to stop; then sends what is left once more, without waiting.
    pub(crate) fn run(mut self, stop: &Stop, random: &Arc<dyn Random>) {
        let mut backoff = Backoff::default();
        while !stop.is_set() {
            if !self.spool.wait_pending(IDLE_WAIT) {
                // Nothing to send, or a closed spool, which never waits: the pause keeps that from spinning.
                stop.wait(CLOSED_PAUSE);
                continue;
            }
            match self.send_next() {
                Ok(_) => {
                    if backoff.failures() > 0 {
                        tracing::info!("the control plane takes records again");
                    }
                    backoff.reset();
                }
                Err(error) => {
                    let wait = backoff.next(&**random);
                    // Once per outage as a warning: a night's worth of them helps nobody.
                    if backoff.failures() == 1 {
                        tracing::warn!(%error, "records wait in the spool");
                    } else {
                        tracing::debug!(%error, ?wait, "records still wait in the spool");
                    }
                    if stop.wait(wait) {
                        break;
                    }
                }
            }
        }
        while let Ok(true) = self.send_next() {}
    }
}
