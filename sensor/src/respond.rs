//! Which responses a detection has.

use cairn_rules::{Alert, Priority};
use cairn_schemas::config::{OnUnrecordable, Priority as ConfigPriority, ResponseAction, ResponseFile, ResponseMode};
use cairn_schemas::data::ResponseSeen;

/// The responses of the active release.
#[derive(Debug, Clone, Default)]
pub struct Responses {
    responses: Vec<ResponseFile>,
}

/// A response that must act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// Its name in `responses/`.
    pub name: String,
    /// What it does.
    pub action: ResponseAction,
    /// Whether it acts when its intent cannot be made durable.
    pub on_unrecordable: OnUnrecordable,
}

impl Responses {
    /// Those of a policy, in its order.
    #[must_use]
    pub fn new(responses: Vec<ResponseFile>) -> Responses {
        Responses { responses }
    }

    /// Every response of this alert, as its record names them.
    #[must_use]
    pub fn seen(&self, alert: &Alert) -> Vec<ResponseSeen> {
        self.of(alert)
            .map(|response| ResponseSeen {
                name: response.name.clone(),
                action: action_name(response.action).to_owned(),
                mode: response.mode,
            })
            .collect()
    }

    /// The one that acts: the first in `enforce`. A process can be ended once.
    #[must_use]
    pub fn enforced(&self, alert: &Alert) -> Option<Enforced> {
        self.of(alert).find(|response| response.mode == ResponseMode::Enforce).map(|response| Enforced {
            name: response.name.clone(),
            action: response.action,
            on_unrecordable: response.on_unrecordable,
        })
    }

    fn of(&self, alert: &Alert) -> impl Iterator<Item = &ResponseFile> {
        self.responses.iter().filter(move |response| {
            let on = &response.on;
            on.rules.iter().any(|rule| **rule == *alert.rule)
                && on.priority.is_none_or(|least| alert.priority <= engine_priority(least))
        })
    }
}

/// An action's name in records.
#[must_use]
pub fn action_name(action: ResponseAction) -> &'static str {
    match action {
        ResponseAction::Kill => "kill",
        _ => "unknown",
    }
}

/// The rule engine's priority for the configuration's.
fn engine_priority(priority: ConfigPriority) -> Priority {
    match priority {
        ConfigPriority::Emergency => Priority::Emergency,
        ConfigPriority::Alert => Priority::Alert,
        ConfigPriority::Critical => Priority::Critical,
        ConfigPriority::Error => Priority::Error,
        ConfigPriority::Warning => Priority::Warning,
        ConfigPriority::Notice => Priority::Notice,
        ConfigPriority::Informational => Priority::Informational,
        ConfigPriority::Debug => Priority::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::tests::alert;

    fn response(name: &str, rule: &str, mode: &str, priority: Option<&str>) -> ResponseFile {
        let mut on = serde_json::json!({ "rules": [rule] });
        if let Some(priority) = priority {
            on["priority"] = priority.into();
        }
        let file = serde_json::json!({ "name": name, "on": on, "action": "kill", "mode": mode });
        serde_json::from_value(file).unwrap()
    }

    #[test]
    fn only_the_named_rule_and_a_severe_enough_priority() {
        let responses = Responses::new(vec![
            response("other", "Other rule", "enforce", None),
            response("watch", "Shell", "observe", None),
            response("severe", "Shell", "enforce", Some("error")),
            response("act", "Shell", "enforce", Some("warning")),
        ]);
        let alert = alert("Shell", Priority::Warning);
        let names: Vec<String> = responses.seen(&alert).into_iter().map(|seen| seen.name).collect();
        assert_eq!(names, ["watch", "act"]);
        assert_eq!(responses.enforced(&alert).unwrap().name, "act");
    }

    #[test]
    fn observing_never_acts() {
        let responses = Responses::new(vec![response("watch", "Shell", "observe", None)]);
        assert_eq!(responses.enforced(&alert("Shell", Priority::Emergency)), None);
    }
}
