//! What the engine says when a rule's condition holds.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::{Context, time};
use crate::event::Text;
use crate::fields::FieldValue;
use crate::rule_set::Rule;
use crate::state::fields as state;

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
    /// The template's fields by name as written (`proc.aname[2]`).
    pub fields: BTreeMap<String, FieldValue>,
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
            process: ProcessView::new(context),
        }
    }

    /// The alert in Falco's JSON shape, keys as `falco -o json_output=true` has them.
    pub fn to_falco_json(&self, hostname: &str) -> serde_json::Value {
        let mut fields: serde_json::Map<String, serde_json::Value> =
            self.fields.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
        fields.insert("evt.time".to_owned(), self.time_ns.into());
        json!({
            "hostname": hostname,
            "output": self.to_falco_text(),
            "output_fields": fields,
            "priority": self.priority.as_str(),
            "rule": self.rule,
            "source": self.source,
            "tags": self.tags,
            "time": time::rfc3339(self.time_ns),
        })
    }

    /// The alert as Falco's text output: `HH:MM:SS.nnnnnnnnn: Priority text`, the time in UTC.
    pub fn to_falco_text(&self) -> String {
        format!("{}: {} {}", time::of_day(self.time_ns), self.priority, self.output)
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
