//! What the engine says when a rule's condition holds.

mod format;
mod options;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::engine::Context;
use crate::event::Text;
use crate::fields::FieldValue;
use crate::rule_set::Rule;
use crate::state::fields as state;

pub use format::Format;
pub use options::{AlertOptions, OptionError};

/// How much a rule's alert matters, syslog's eight levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// The machine is unusable.
    Emergency,
    /// Act at once.
    Alert,
    /// Critical.
    Critical,
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// Normal but noteworthy.
    Notice,
    /// For information.
    Informational,
    /// For debugging.
    Debug,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Informational,
        Self::Debug,
    ];

    /// Its name as Falco prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "Emergency",
            Self::Alert => "Alert",
            Self::Critical => "Critical",
            Self::Error => "Error",
            Self::Warning => "Warning",
            Self::Notice => "Notice",
            Self::Informational => "Informational",
            Self::Debug => "Debug",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A word that is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a priority: one of Emergency, Alert, Critical, Error, Warning, Notice, Informational, Debug")]
pub struct UnknownPriority(pub String);

impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("info") {
            return Ok(Self::Informational);
        }
        let found = Self::ALL.into_iter().find(|priority| priority.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| UnknownPriority(text.to_owned()))
    }
}

/// A rule's condition held for an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The rule's name.
    pub rule: String,
    /// The rule's priority.
    pub priority: Priority,
    /// The rule's tags, sorted.
    pub tags: Vec<String>,
    /// Where the event came from: `syscall`.
    pub source: String,
    /// When the event happened, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// The event's name, such as `execve`.
    pub event_type: String,
    /// The output template with every field put in; an absent field as `<NA>`.
    pub output: String,
    /// The output template as the rule has it.
    pub template: String,
    /// The template's fields by name as written (`proc.aname[2]`), without transformers: what Falco's JSON has of them.
    pub fields: BTreeMap<String, FieldValue>,
    /// Texts by name that were asked for beside the rule's own output ([`crate::AppendOutput`]): in Falco's JSON among the fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
    /// The process that did it, and its ancestors.
    pub process: ProcessView,
}

/// A process as an alert shows it: what it was when the event happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessView {
    /// Its pid on the host.
    pub pid: u32,
    /// When it was made, in nanoseconds since boot; with the pid its identity. 0 when not known.
    pub start_ns: u64,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its name, 15 bytes at most.
    pub name: Text,
    /// Path of its executable; empty when not known.
    pub exe: Text,
    /// All arguments, the first included.
    pub args: Vec<Text>,
    /// True when arguments were cut for length.
    pub args_truncated: bool,
    /// Name and arguments on one line.
    pub cmdline: Text,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Login user id, if set.
    pub loginuid: Option<u32>,
    /// Working directory.
    pub cwd: Text,
    /// Device number of the controlling terminal; 0 for none.
    pub tty: u32,
    /// Container id; `None` on the host.
    pub container: Option<Text>,
    /// Parent first.
    pub ancestry: Vec<Ancestor>,
}

/// An ancestor as an alert shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its pid on the host.
    pub pid: u32,
    /// When it was made, in nanoseconds since boot.
    pub start_ns: u64,
    /// Path of its executable.
    pub exe: Text,
    /// Its name.
    pub name: Text,
    /// Name and arguments on one line.
    pub cmdline: Text,
}

impl Alert {
    pub(crate) fn new(rule: &Rule, context: &Context<'_>) -> Self {
        let (output, mut fields) = rule.template.render(context);
        fields.extend(context.found.into_iter().flat_map(state::always));
        fields.extend(rule.extra.raw.iter().flat_map(|field| field.render(context).1));
        let extra = rule.extra.formatted.iter().map(|(name, text)| (name.clone(), text.render(context).0)).collect();
        Self {
            rule: rule.name.clone(),
            priority: rule.priority,
            tags: rule.tags.clone(),
            source: rule.source.clone(),
            time_ns: context.event.time_ns,
            event_type: context.event.type_name().to_owned(),
            output,
            template: rule.output.clone(),
            fields,
            extra,
            process: ProcessView::new(context),
        }
    }

    /// The alert in Falco's JSON shape, as Falco has it unless configured otherwise ([`Format`]).
    pub fn to_falco_json(&self, hostname: &str) -> serde_json::Value {
        Format::default().json(self, hostname)
    }

    /// The alert as Falco's line of text: `HH:MM:SS.nnnnnnnnn: Priority text`, the time in UTC.
    pub fn to_falco_text(&self) -> String {
        Format::default().text(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_by_any_case() {
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().to_uppercase().parse(), Ok(priority));
        }
        assert_eq!("info".parse(), Ok(Priority::Informational));
        assert!("severe".parse::<Priority>().is_err());
    }
}
