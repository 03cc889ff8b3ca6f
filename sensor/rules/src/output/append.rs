//! What is added to the outputs of loaded rules: Falco's `append_output`, in the shape its configuration has.
//!
//! ```yaml
//! append_output:
//!   - match: {source: syscall, tags: [persistence], rule: Read sensitive file untrusted}
//!     extra_output: "on CPU %evt.cpu"
//!     extra_fields: [evt.hostname, {greeting: "hello %user.name"}]
//!     suggested_output: true
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::Template;
use crate::limits::APPEND_MAX;
use crate::load::extension;
use crate::rule_set::{Rule, RuleSet};
use crate::source::{Sources, Vocabulary};

/// One entry of `append_output`: what is added to which rules' outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppendOutput {
    /// The rules it is for; all, when it says nothing.
    pub r#match: AppendMatch,
    /// A template that follows the rule's own, after a blank.
    pub extra_output: Option<String>,
    /// Fields that only JSON has.
    pub extra_fields: Vec<ExtraField>,
    /// Add what the container fields suggest to rules over system calls: `container_id=%container.id` and so on.
    pub suggested_output: bool,
}

/// Which rules an entry is for: those that all it says holds for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppendMatch {
    /// The rule's source.
    pub source: Option<String>,
    /// The rule's name.
    pub rule: Option<String>,
    /// Tags the rule must have, all of them.
    pub tags: Vec<String>,
}

/// A field that is added to `output_fields`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ExtraField {
    /// A field of the event, by its name, as it is.
    Raw(String),
    /// Texts by the names they get, each a template.
    Formatted(BTreeMap<String, String>),
}

/// Why something cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// More entries, or fields of one, than there may be.
    #[error("append_output has {count} entries or fields of one, more than {APPEND_MAX}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// With it, a rule's output or a field is no template.
    #[error("append_output for rule `{rule}`: {message} at byte {offset} of `{template}`")]
    Template {
        /// The rule it was added to.
        rule: String,
        /// What did not parse: the rule's output with all that was added, or a field's text.
        template: String,
        /// Where in it.
        offset: usize,
        /// What is wrong there.
        message: String,
    },
}

/// What the fields of containers suggest to add to outputs, in the order Falco adds it.
const SUGGESTED: &[&str] = &[
    "container_id=%container.id",
    "container_name=%container.name",
    "container_image_repository=%container.image.repository",
    "container_image_tag=%container.image.tag",
    "k8s_pod_name=%k8s.pod.name",
    "k8s_ns_name=%k8s.ns.name",
];

/// What is added to one rule.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Shown among the alert's fields as they are.
    pub(crate) raw: Vec<Template>,
    /// By name, shown as text.
    pub(crate) formatted: BTreeMap<String, Template>,
}

impl AppendMatch {
    fn matches(&self, rule: &Rule) -> bool {
        self.source.as_ref().is_none_or(|source| *source == rule.source)
            && self.rule.as_ref().is_none_or(|name| *name == rule.name)
            && self.tags.iter().all(|tag| rule.tags.contains(tag))
    }
}

impl RuleSet {
    /// The same rules with more in their outputs. Entries are added in order: their texts, then what is suggested.
    ///
    /// # Errors
    /// When what is added is no template, names a field that a rule's source does not have, or makes an output too long.
    pub fn append_output(self, entries: &[AppendOutput]) -> Result<Self, AppendError> {
        let count = entries.iter().map(|entry| entry.extra_fields.len()).max().unwrap_or_default().max(entries.len());
        if count > APPEND_MAX {
            return Err(AppendError::TooMany { count });
        }
        self.map_rules(|rule, sources| {
            for entry in entries {
                if entry.r#match.matches(rule) {
                    add(rule, entry, sources)?;
                }
            }
            let output = rule.output.clone();
            rule.template = template(rule, &output, sources)?;
            show_first(rule, sources);
            Ok(())
        })
    }
}

fn add(rule: &mut Rule, entry: &AppendOutput, sources: &Sources) -> Result<(), AppendError> {
    let suggested = if entry.suggested_output && rule.source == crate::event::SYSCALL { SUGGESTED } else { &[] };
    let texts = entry.extra_output.as_deref().into_iter().filter(|text| !text.is_empty());
    for text in texts.chain(suggested.iter().copied()) {
        rule.output.push(' ');
        rule.output.push_str(text);
    }
    for field in &entry.extra_fields {
        match field {
            ExtraField::Raw(name) => {
                let field = template(rule, &format!("%{name}"), sources)?;
                rule.extra.raw.push(field);
            }
            ExtraField::Formatted(texts) => {
                for (name, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
                    let template = template(rule, text, sources)?;
                    rule.extra.formatted.insert(name.clone(), template);
                }
            }
        }
    }
    Ok(())
}

/// A sequence keeps of its first event what its alerts show, which may be more now.
fn show_first(rule: &mut Rule, sources: &Sources) {
    let vocabulary = vocabulary(rule, sources);
    let extra = rule.extra.raw.iter().chain(rule.extra.formatted.values());
    let fields = std::iter::once(&rule.template).chain(extra).flat_map(Template::fields);
    let shown = extension::shown(fields, vocabulary);
    // Rules that have just been loaded are nobody else's.
    if let Some(stateful) = rule.stateful.as_mut().and_then(Arc::get_mut) {
        stateful.shown = shown;
    }
}

fn vocabulary<'s>(rule: &Rule, sources: &'s Sources) -> Vocabulary<'s> {
    let position = sources.position(&rule.source).expect("invariant: a rule's source is among those of its set");
    sources.vocabulary(position).with_state(rule.stateful.as_ref().map(|stateful| stateful.what.shape()))
}

fn template(rule: &Rule, text: &str, sources: &Sources) -> Result<Template, AppendError> {
    Template::parse(text, vocabulary(rule, sources)).map_err(|error| AppendError::Template {
        rule: rule.name.clone(),
        template: text.to_owned(),
        offset: error.offset,
        message: error.message,
    })
}
