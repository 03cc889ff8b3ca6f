//! Detections and what was done about them.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::commitment::Personal;
use crate::ids::Sequence;
use crate::time::Timestamp;

/// Rule fields that hold personal values: they enter `fields` as tokens or commitments and cannot enter otherwise. A policy may name more.
///
/// Groups are here because most systems give each user a group of the same name, control groups because their paths name sessions
/// by user id. [`is_personal_field`] knows the spellings.
pub const PERSONAL_FIELDS: &[&str] = &[
    "user.homedir",
    "user.loginname",
    "user.loginuid",
    "user.name",
    "user.shell",
    "user.uid",
    "group.gid",
    "group.name",
    "proc.env",
    "proc.aenv",
    "thread.cgroup",
    "thread.cgroups",
    "evt.args",
    "evt.arg.cgroups",
    "evt.arg.env",
    "evt.arg.gid",
    "evt.arg.loginuid",
    "evt.arg.uid",
];

/// Whether a rule field, as a rule writes it, holds a personal value: `user.name`, `proc.env[HOME]`, `evt.arg[uid]`.
///
/// An event's argument that is named by its number counts as personal: which one it is depends on the event.
#[must_use]
pub fn is_personal_field(name: &str) -> bool {
    let name = field_shown(name);
    let (base, argument) = match name.split_once('[') {
        Some((base, rest)) => (base, rest.strip_suffix(']').unwrap_or(rest)),
        None => (name, ""),
    };
    let event_argument = match (base, argument) {
        ("evt.arg" | "evt.rawarg", argument) => Some(argument),
        (base, _) => base.strip_prefix("evt.arg.").or_else(|| base.strip_prefix("evt.rawarg.")),
    };
    match event_argument {
        Some(argument) if argument.bytes().all(|byte| byte.is_ascii_digit()) => true,
        Some(argument) => PERSONAL_FIELDS.iter().any(|field| field.strip_prefix("evt.arg.") == Some(argument)),
        None => PERSONAL_FIELDS.contains(&base),
    }
}

/// The field that an output shows, without what is done to it: `user.name` of `toupper(user.name)`, and of `cairn.first.user.name`, which
/// is that of an earlier event.
#[must_use]
pub fn field_shown(name: &str) -> &str {
    // What stands in `[]` may hold anything.
    let argument = name.find('[').unwrap_or(name.len());
    let inner = name[..argument].rfind('(').map_or(name, |open| name[open + 1..].trim_end_matches(')'));
    inner.strip_prefix("cairn.first.").unwrap_or(inner)
}

fn personal_hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let fields = BTreeMap::<String, String>::deserialize(deserializer)?;
    for (name, value) in fields.iter().filter(|(name, _)| is_personal_field(name)) {
        value.parse::<Personal>().map_err(|error| D::Error::custom(format!("field {name}: {error}")))?;
    }
    Ok(fields)
}

/// A rule matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DetectionRaised {
    /// The rule's name.
    pub rule: String,
    /// The rule's priority, as Falco spells it.
    pub priority: String,
    /// The rule's tags, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The rule's event source: `syscall`, `k8s_audit`, …
    pub source: String,
    /// The event's type: `execve`, `openat`, …; `pluginevent` for one that is a document.
    pub event: String,
    /// When the event happened.
    pub observed: Timestamp,
    /// The rule's output template, unexpanded.
    pub output: String,
    /// The template's fields as text; personal ones ([`PERSONAL_FIELDS`]) as tokens or commitments; absent ones are missing.
    #[serde(deserialize_with = "personal_hidden")]
    pub fields: BTreeMap<String, String>,
    /// The template's fields that the event's source or the policy calls personal, where the event is a document: in `fields` they would
    /// stand in the clear.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub personal: BTreeMap<String, Personal>,
    /// The process that did it; absent where the event is a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Its parents, nearest first; at most 16.
    pub ancestors: Vec<Ancestor>,
    /// The event, where it came from outside as a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentSeen>,
    /// Container id; absent on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The file, for events about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSeen>,
    /// The responses that this detection has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub responses: Vec<ResponseSeen>,
    /// Whether something was cut to fit the record.
    pub cut: bool,
}

/// A document that an intake took in, as a detection names it. The document itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DocumentSeen {
    /// Who sent it: the intake's name in `fleet.yaml`.
    pub intake: String,
    /// What names it where it comes from: an audit id and stage, an event id. Absent where it says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A process as a detection saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Process {
    /// Process id in the host's namespace.
    pub pid: u64,
    /// Start time, nanoseconds since boot, decimal: with `pid` the process's identity.
    pub start_ns: String,
    /// Its name (comm).
    pub name: String,
    /// Path of its executable.
    pub executable: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Whose it is.
    pub user: User,
    /// Whether it has a controlling terminal.
    pub terminal: bool,
}

/// A process's user, as tokens or commitments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct User {
    /// The user id.
    pub uid: Personal,
    /// The user's name, where the host knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Personal>,
    /// The id the session began with (audit loginuid), where set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<Personal>,
}

/// A parent process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ancestor {
    /// Process id in the host's namespace.
    pub pid: u64,
    /// Start time, nanoseconds since boot, decimal.
    pub start_ns: String,
    /// Its name (comm).
    pub name: String,
    /// Path of its executable; empty when unknown.
    pub executable: String,
    /// Its name and arguments on one line; empty when unknown.
    pub command: String,
}

/// A file in an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileSeen {
    /// Its path as the kernel resolved it.
    pub path: String,
    /// The path as the program gave it, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
}

/// A response that a detection has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResponseSeen {
    /// Its name in `responses/`.
    pub name: String,
    /// What it does: `kill`.
    pub action: String,
    /// Whether it does it.
    pub mode: ResponseMode,
}

/// A containment is about to act. Durable before it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContainmentRequested {
    /// The detection, in this stream.
    pub detection: Sequence,
    /// The response's name.
    pub response: String,
    /// What it does: `kill`.
    pub action: String,
    /// On what.
    pub target: Target,
}

/// The process a containment acts on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Target {
    /// Process id in the host's namespace.
    pub pid: u64,
    /// Start time, nanoseconds since boot, decimal.
    pub start_ns: String,
    /// Path of its executable.
    pub executable: String,
}

/// What a containment did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContainmentFinished {
    /// The request, in this stream.
    pub request: Sequence,
    /// What came of it.
    pub outcome: Outcome,
    /// The system's word where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From the event to the action, microseconds.
    pub acted_us: u64,
}

/// What came of a containment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The process was sent SIGKILL and is dead.
    Killed,
    /// The process had ended before.
    Gone,
    /// It could not be done.
    Failed,
    /// The node stopped between the request and the outcome.
    Unknown,
}

/// A containment that may not act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContainmentRefused {
    /// The detection, in this stream.
    pub detection: Sequence,
    /// The response's name.
    pub response: String,
    /// What it would have done.
    pub action: String,
    /// On what.
    pub target: Target,
    /// Why not.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_personal_field_is_known_in_every_spelling() {
        for name in PERSONAL_FIELDS {
            assert!(is_personal_field(name), "{name}");
        }
        let spellings = [
            "proc.env[HOME]",
            "proc.aenv[2]",
            "evt.arg[uid]",
            "evt.rawarg.uid",
            "evt.rawarg[loginuid]",
            // The number is an argument's place, which another event gives to another argument.
            "evt.arg[17]",
            "evt.arg[]",
            "evt.arg",
            "proc.env[a(b]",
            "toupper(user.name)",
            "toupper(basename(proc.env[HOME]))",
            "cairn.first.user.name",
            "tolower(cairn.first.evt.arg[uid])",
        ];
        for name in spellings {
            assert!(is_personal_field(name), "{name}");
        }
        for name in ["proc.name", "proc.aname[2]", "evt.arg.flags", "evt.arg[name]", "fd.name", "user", "usersname", ""]
        {
            assert!(!is_personal_field(name), "{name}");
        }
    }

    #[test]
    fn a_detection_in_a_document_has_no_process_and_nothing_personal_in_the_clear() {
        let detection = |personal: &str| {
            serde_json::json!({
                "rule": "r", "priority": "Notice", "source": "k8s_audit", "event": "pluginevent",
                "observed": "2026-11-21T00:00:00.000000000Z", "output": "%ka.user.name", "fields": {}, "ancestors": [],
                "personal": { "ka.user.name": personal }, "document": { "intake": "prod", "id": "1/ResponseComplete" },
                "cut": false,
            })
        };
        let hidden = format!("com:{}:{}", "0".repeat(32), "A".repeat(43));
        let read: DetectionRaised = serde_json::from_value(detection(&hidden)).unwrap();
        assert_eq!(read.process, None);
        assert_eq!(serde_json::to_value(&read).unwrap(), detection(&hidden));
        assert!(serde_json::from_value::<DetectionRaised>(detection("alice")).is_err());
    }

    #[test]
    fn a_personal_value_in_the_clear_is_refused_whatever_the_spelling() {
        for name in ["user.name", "proc.env[HOME]", "evt.arg[uid]"] {
            let json = serde_json::json!({ name: "alice" });
            assert!(personal_hidden(json).is_err(), "{name}");
        }
        assert!(personal_hidden(serde_json::json!({ "proc.name": "alice" })).is_ok());
    }
}

/// Whether a response acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// Records what it would have done, and does nothing.
    Observe,
    /// Acts.
    Enforce,
}
