//! Configuration that a team writes: `cairn.yaml` and `responses/*.yaml` of a policy repo, and `fleet.yaml` beside the ledger.
//!
//! Types only. A field that is not listed here is refused (`deny_unknown_fields`): a misspelt gate must not silently be no gate.
//! What crosses files (does the rule a response names exist?) is checked by `cairn-policy`, which also gives line and column.
//! Nothing here is trusted for more than it says: `cairn.yaml` may narrow what the fleet trusts, never widen it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::data::ResponseMode;
use crate::ids::RingName;

/// The one version of `cairn.yaml` this program reads.
pub const CONFIG_VERSION: u64 = 1;

/// Most rings a policy may declare.
pub const RINGS_MAX: usize = 64;

/// Longest soak of a ring: 30 days.
pub const SOAK_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// `cairn.yaml`: how a policy rolls out, what its tests must show, what its detections show, what it keeps private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Version of this file's format; [`CONFIG_VERSION`].
    pub version: u64,
    /// Rings in the order a release moves through them. A node belongs to the first ring whose selector matches its labels;
    /// the last ring must take every node. At most [`RINGS_MAX`].
    pub rings: Vec<RingConfig>,
    /// What the tests of the policy must show before a release is built.
    #[serde(default)]
    pub tests: TestsConfig,
    /// Which detections nodes load, and what these show.
    #[serde(default)]
    pub detections: DetectionsConfig,
    /// What is private beyond the fields the record schemas already mark personal.
    #[serde(default)]
    pub privacy: PrivacyConfig,
    /// Narrows whom the fleet trusts.
    #[serde(default)]
    pub trust: TrustConfig,
}

impl PolicyConfig {
    /// The ring of a node with these labels: the first whose selector matches.
    pub fn ring_of(&self, labels: &BTreeMap<String, String>) -> Option<&RingConfig> {
        self.rings.iter().find(|ring| ring.selects(labels))
    }
}

/// One ring of `cairn.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RingConfig {
    /// Name, unique in the file.
    pub name: RingName,
    /// Labels a node must carry, all of them, with exactly these values. Empty: every node that no earlier ring took.
    #[serde(default)]
    pub nodes: BTreeMap<String, String>,
    /// How long a release must run on this ring before it may go on, such as `1s`, `30m`, `2h`. Zero if absent. At most [`SOAK_MAX`].
    #[serde(default, with = "duration_text")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub soak: Duration,
    /// What holds a release in this ring.
    #[serde(default)]
    pub gates: GatesConfig,
}

impl RingConfig {
    /// Whether a node with these labels matches this ring's selector.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.nodes.iter().all(|(label, value)| labels.get(label) == Some(value))
    }
}

/// The gates of a ring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GatesConfig {
    /// How many nodes of the ring may refuse the release or fall back from it before it is held. Zero if absent: the first failure holds.
    #[serde(default)]
    pub failures_max: u32,
}

/// What the tests of a policy must show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TestsConfig {
    /// What happens to a rule that no test exercises.
    #[serde(default)]
    pub coverage: Coverage,
}

/// What happens when a detection or guardrail has no test that makes it fire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Not looked at.
    Off,
    /// Reported; the release is built.
    #[default]
    Warn,
    /// The release is rejected.
    Require,
}

/// Which detections nodes load, and what these show: for rules of others, which are not to be edited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DetectionsConfig {
    /// How many rules may alert of one event.
    #[serde(default)]
    pub matching: Matching,
    /// The least urgent priority whose rules are loaded, such as `notice`. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// What is added to rules' outputs, entry by entry, as Falco's option of this name does.
    #[serde(default)]
    pub append_output: Vec<AppendConfig>,
}

/// How many rules may alert of one event: Falco's `rule_matching`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// Every rule whose condition holds.
    #[default]
    All,
    /// The first of them in order of definition.
    First,
}

/// One entry of `append_output`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AppendConfig {
    /// The rules it is for; all, when it says nothing.
    #[serde(default)]
    pub r#match: AppendMatchConfig,
    /// A template that follows the rule's own, after a blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_output: Option<String>,
    /// Fields that records have besides those of the output. By name alone: a text made of fields could hide none that is personal.
    #[serde(default)]
    pub extra_fields: Vec<String>,
    /// Add what the fields of containers suggest to rules over system calls: `container_id=%container.id` and so on.
    #[serde(default)]
    pub suggested_output: bool,
}

/// Which rules an entry of `append_output` is for: those that all it says holds for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AppendMatchConfig {
    /// The rule's source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The rule's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Tags the rule must have, all of them.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What is private beyond the record schemas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PrivacyConfig {
    /// Rule fields (such as `proc.env`) whose values leave the node only as keyed tokens, and the intake only as commitments, besides those that
    /// always do.
    #[serde(default)]
    pub personal_fields: Vec<String>,
}

/// Narrows whom the fleet trusts; it can never add anyone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustConfig {
    /// Of the fleet's allowed signers, those (by principal, such as `alice@example.com`) whose signature on a commit counts for
    /// this policy. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signers: Option<Vec<String>>,
}

/// A file under `responses/`: what one kind of detection triggers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResponseFile {
    /// Name, unique among the responses.
    pub name: String,
    /// Why it exists; for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Which detections trigger it.
    pub on: ResponseTrigger,
    /// What it does to the process that was detected.
    pub action: ResponseAction,
    /// Whether it acts or only says what it would have done.
    pub mode: ResponseMode,
    /// What happens when the intent cannot be made durable before acting. [`OnUnrecordable::Refuse`] if absent.
    #[serde(default)]
    pub on_unrecordable: OnUnrecordable,
}

/// Which detections trigger a response: those of any named rule, if severe enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResponseTrigger {
    /// Names of rules in `detections/`; at least one.
    pub rules: Vec<String>,
    /// The least severe priority that still triggers. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

/// A containment action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResponseAction {
    /// Ends the process with SIGKILL.
    Kill,
}

/// What a containment does when its record cannot be made durable first (promise P1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnUnrecordable {
    /// Acts all the same; the record follows, or its loss is counted.
    Act,
    /// Does not act.
    #[default]
    Refuse,
}

/// Falco's priorities, most severe first: `Emergency < Debug` in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// The system is unusable.
    Emergency,
    /// Someone must act now.
    Alert,
    /// Critical.
    Critical,
    /// Error.
    Error,
    /// Warning.
    Warning,
    /// Notice.
    Notice,
    /// Informational.
    Informational,
    /// Debug.
    Debug,
}

/// Durations as people write them (`1s`, `30m`), on the wire and in files.
mod duration_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        let duration = humantime::parse_duration(&text).map_err(|error| {
            serde::de::Error::custom(format!("`{text}` is not a duration such as `1s` or `30m`: {error}"))
        })?;
        if duration > SOAK_MAX {
            return Err(serde::de::Error::custom(format!("`{text}` is longer than the longest soak, 30 days")));
        }
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(name: &str, nodes: &[(&str, &str)]) -> serde_json::Value {
        serde_json::json!({ "name": name, "nodes": nodes.iter().copied().collect::<BTreeMap<_, _>>(), "soak": "1s" })
    }

    fn config(json: serde_json::Value) -> Result<PolicyConfig, serde_json::Error> {
        serde_json::from_value(json)
    }

    #[test]
    fn a_node_is_in_the_first_ring_that_selects_it() {
        let config = config(serde_json::json!({
            "version": 1, "rings": [ring("canary", &[("role", "sensor")]), ring("broad", &[])]
        }))
        .unwrap();
        let labels = |role: &str| BTreeMap::from([("role".to_owned(), role.to_owned())]);
        assert_eq!(config.ring_of(&labels("sensor")).unwrap().name.to_string(), "canary");
        assert_eq!(config.ring_of(&labels("admission")).unwrap().name.to_string(), "broad");
        assert_eq!(config.ring_of(&BTreeMap::new()).unwrap().name.to_string(), "broad");
        assert_eq!(config.tests.coverage, Coverage::Warn);
        assert_eq!(config.rings[0].gates.failures_max, 0);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let mut json = serde_json::json!({ "version": 1, "rings": [ring("all", &[])] });
        json["ringz"] = serde_json::json!([]);
        assert!(config(json).unwrap_err().to_string().contains("ringz"));
    }

    #[test]
    fn the_longest_soak_is_taken_and_one_second_more_refused() {
        let with =
            |soak: String| config(serde_json::json!({ "version": 1, "rings": [{ "name": "all", "soak": soak }] }));
        let longest = SOAK_MAX.as_secs();
        assert_eq!(with(format!("{longest}s")).unwrap().rings[0].soak, SOAK_MAX);
        assert!(with(format!("{}s", longest + 1)).unwrap_err().to_string().contains("30 days"));
        assert!(with("soon".into()).is_err());
    }

    #[test]
    fn a_response_refuses_to_act_unrecorded_unless_told() {
        let response: ResponseFile = serde_json::from_value(serde_json::json!({
            "name": "n", "on": { "rules": ["r"] }, "action": "kill", "mode": "observe"
        }))
        .unwrap();
        assert_eq!(response.on_unrecordable, OnUnrecordable::Refuse);
        assert!(Priority::Emergency < Priority::Debug);
    }
}
