//! Where events come from: the kernel, or anything that says the same.

use std::io;
use std::time::Duration;

use cairn_rules::event::{Event, Process};
use cairn_schemas::data::LossCause;

use crate::kernel::{Kernel, Kind};

/// How many events of a family came through and how many did not, since the source began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Where they were lost.
    pub cause: LossCause,
    /// Which: `exec`, `fork`, `exit`, `open`.
    pub family: &'static str,
    /// How many were lost.
    pub lost: u64,
    /// How many came through.
    pub kept: u64,
}

/// A source of events.
pub trait EventSource: Send {
    /// Hands on what there is; waits up to `timeout` when there is nothing. Returns how many there were.
    ///
    /// # Errors
    /// There will be no more events.
    fn poll(&mut self, timeout: Duration, take: &mut dyn FnMut(Event)) -> io::Result<usize>;

    /// What was lost since the source began.
    ///
    /// # Errors
    /// The counters cannot be read now.
    fn lost(&self) -> io::Result<Vec<Lost>>;

    /// The processes that ran before the first event.
    ///
    /// # Errors
    /// They cannot be read.
    fn seeds(&self) -> io::Result<Vec<(u32, Process)>>;

    /// No new events from now on; those that were made already can still be polled. Without it a busy machine would never let
    /// its sensor end.
    fn stop(&mut self);
}

impl EventSource for Kernel {
    fn poll(&mut self, timeout: Duration, take: &mut dyn FnMut(Event)) -> io::Result<usize> {
        Kernel::poll(self, timeout, take).map_err(io::Error::other)
    }

    fn lost(&self) -> io::Result<Vec<Lost>> {
        let losses = self.losses().map_err(io::Error::other)?;
        let mut lost: Vec<Lost> = losses
            .families
            .iter()
            .map(|family| Lost {
                cause: LossCause::RingBuffer,
                family: family_name(family.kind),
                lost: family.dropped + family.skipped,
                kept: family.emitted.saturating_sub(family.dropped),
            })
            .collect();
        let malformed =
            Lost { cause: LossCause::Undecodable, family: "any", lost: losses.malformed, kept: losses.received };
        lost.push(malformed);
        Ok(lost)
    }

    fn seeds(&self) -> io::Result<Vec<(u32, Process)>> {
        Ok(self.initial_processes()?.into_iter().map(|seed| (seed.pid, seed.process)).collect())
    }

    fn stop(&mut self) {
        if let Err(error) = Kernel::stop(self) {
            tracing::warn!(%error, "a kernel program could not be detached");
        }
    }
}

fn family_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Exec => "exec",
        Kind::Fork => "fork",
        Kind::Exit => "exit",
        Kind::Open => "open",
    }
}
