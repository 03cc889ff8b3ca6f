//! What may be asked: type, time, stream, rule, control, incident.

use cairn_schemas::ids::StreamId;
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::RecordType;

use super::terms::{Field, Seen};

/// Which records are wanted: those that satisfy all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Of one of these types; empty: of any.
    pub kinds: Vec<RecordType>,
    /// Made at this time or later, by their producers' clocks.
    pub since: Option<Timestamp>,
    /// Of this stream, or of this node's streams.
    pub stream: Option<StreamName>,
    /// About this rule.
    pub rule: Option<String>,
    /// About this control.
    pub control: Option<String>,
    /// About this incident.
    pub incident: Option<String>,
}

/// A stream, or all streams of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamName(String);

impl StreamName {
    /// A stream's id, or a node's.
    ///
    /// # Errors
    /// The text is neither.
    pub fn parse(text: &str) -> Result<StreamName, cairn_schemas::ids::NotAnId> {
        match text.parse::<StreamId>() {
            Ok(stream) => Ok(StreamName(stream.as_str().to_owned())),
            Err(error) => match text.parse::<cairn_schemas::ids::NodeId>() {
                Ok(node) => Ok(StreamName(node.as_str().to_owned())),
                Err(_) => Err(error),
            },
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this stream is meant.
    #[must_use]
    pub fn takes(&self, stream: &str) -> bool {
        match stream.strip_prefix(self.0.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('.'),
            None => false,
        }
    }
}

impl Query {
    /// Whether every record is wanted.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Query::default()
    }

    /// Whether this record is wanted. What cannot be read is not.
    #[must_use]
    pub fn takes(&self, record: &[u8]) -> bool {
        if self.is_everything() {
            return true;
        }
        let Some(seen) = Seen::read(record) else { return false };
        let texts = [(Field::Rule, &self.rule), (Field::Control, &self.control), (Field::Incident, &self.incident)];
        (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.as_str() == seen.kind))
            && self.stream.as_ref().is_none_or(|stream| stream.takes(seen.stream()))
            && self.since.is_none_or(|since| seen.time().is_some_and(|time| time >= since))
            && texts
                .iter()
                .all(|(field, text)| text.as_ref().is_none_or(|text| seen.values(*field).any(|value| value == text)))
    }
}
