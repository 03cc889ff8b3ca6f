//! Bodies in, alerts out: what an intake of third-party events needs of the rules, and what replays a log of such events.
//!
//! Pure, as the engine is. Who may send, what was taken before (by source and [`Taken::foreign_id`]) and what becomes of an alert is
//! the caller's affair.

use std::sync::Arc;

use super::{DocumentError, Source};
use crate::alert::Alert;
use crate::engine::{Engine, Limits, Names};
use crate::event::Event;
use crate::rule_set::RuleSet;
use crate::state::SnapshotError;

/// The rules of a release for sources of documents, over an engine without processes.
#[derive(Debug)]
pub struct Intake {
    engine: Engine,
}

/// One event that was taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// What names it where it comes from, if its source says so: with the source's name it tells an event that is sent twice.
    pub foreign_id: Option<String>,
    /// The event.
    pub event: Event,
    /// What the rules say of it.
    pub alerts: Vec<Alert>,
}

/// Why a body was not taken in. Nothing of it was tried on the rules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeError {
    /// Neither built in nor declared by the rules.
    #[error("source `{name}` is not known to the rules in force")]
    UnknownSource {
        /// The source's name.
        name: String,
    },
    /// The body is no events of the source.
    #[error("not taken in as events of source `{name}`")]
    Document {
        /// The source's name.
        name: String,
        /// Why.
        #[source]
        error: DocumentError,
    },
}

/// A line of a log that is no event.
#[derive(Debug, thiserror::Error)]
#[error("line {line}")]
pub struct LineError {
    /// Which one, from 1.
    pub line: usize,
    /// Why.
    #[source]
    pub error: DocumentError,
}

impl Intake {
    /// An intake with these rules.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self { engine: Engine::new(rules, Limits::default()) }
    }

    /// Rules in force from the next body on.
    pub fn replace_rules(&mut self, rules: Arc<RuleSet>) {
        self.engine.replace_rules(rules);
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        self.engine.rules()
    }

    /// A source that the rules in force know.
    ///
    /// # Errors
    /// [`IntakeError::UnknownSource`].
    pub fn source(&self, name: &str) -> Result<Arc<Source>, IntakeError> {
        let found = self.rules().sources().get(name).map(Arc::clone);
        found.ok_or_else(|| IntakeError::UnknownSource { name: name.to_owned() })
    }

    /// Does a rule for the source look at more than one event? Then what was taken in must not be taken in again.
    #[must_use]
    pub fn remembers(&self, source: &str) -> bool {
        self.rules().rules().iter().any(|rule| rule.source == source && rule.state().is_some())
    }

    /// What the rules say of one event, in the order in which they are defined.
    pub fn judge(&mut self, event: &Event) -> Vec<Alert> {
        self.engine.handle(event)
    }

    /// What rules over more than one event know so far, for [`Intake::restore`] after a restart.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.engine.snapshot()
    }

    /// Takes over what the rules in force knew, all of it or nothing; those of which the snapshot says nothing begin anew.
    ///
    /// # Errors
    /// The bytes are no snapshot of this version, or damaged.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), SnapshotError> {
        self.engine.restore(snapshot)
    }

    /// Names from now on: the host's, which `evt.hostname` shows.
    pub fn set_names(&mut self, names: Arc<Names>) {
        self.engine.set_names(names);
    }

    /// Takes a body of one source in: one event, or several as the source sends them. `received_ns` is the time of an event that
    /// does not say its own, in nanoseconds since the epoch.
    ///
    /// # Errors
    /// The source is not known; the body is too large, too deep, not JSON, or no events.
    pub fn take(&mut self, source: &str, body: &[u8], received_ns: u64) -> Result<Vec<Taken>, IntakeError> {
        let found = self.source(source)?;
        let events =
            found.read(body, received_ns).map_err(|error| IntakeError::Document { name: source.to_owned(), error })?;
        let taken = events.into_iter().map(|event| {
            let alerts = self.engine.handle(&event);
            Taken { foreign_id: found.foreign_id(&event), event, alerts }
        });
        Ok(taken.collect())
    }
}

impl Source {
    /// The events of a log: JSON Lines, each line a body as [`Source::read`] takes it, blank lines passed over; or one body over
    /// several lines. `received_ns` as there.
    ///
    /// A line that is no event is an error of its own: the lines after it are read.
    pub fn read_log<'a>(
        &'a self,
        log: &'a [u8],
        received_ns: u64,
    ) -> impl Iterator<Item = Result<Event, LineError>> + 'a {
        let first = log.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
        // The first line of an indented document is no document, and the whole is one.
        let is_lines =
            first.is_none_or(|line| super::parse_document(line).is_ok()) || super::parse_document(log).is_err();
        let lines: Box<dyn Iterator<Item = (usize, &'a [u8])> + 'a> = if is_lines {
            Box::new(log.split(|byte| *byte == b'\n').enumerate())
        } else {
            Box::new(std::iter::once((0, log)))
        };
        lines.filter(|(_, line)| !line.trim_ascii().is_empty()).flat_map(move |(number, line)| {
            match self.read(line, received_ns) {
                Ok(events) => events.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(LineError { line: number + 1, error })],
            }
        })
    }
}
