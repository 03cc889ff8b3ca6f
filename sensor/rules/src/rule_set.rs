//! A set of compiled rules, indexed by source and event type.

use std::collections::HashMap;
use std::sync::Arc;

use crate::alert::Priority;
use crate::compile::Node;
use crate::event::{Event, EventKind, EventType, SYSCALL};
use crate::output::Template;
use crate::source::Sources;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name, unique in the set.
    pub name: String,
    /// What it detects, in the author's words.
    pub description: String,
    /// How much its alerts matter.
    pub priority: Priority,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// The event source it is for: `syscall`, `k8s_audit`, ...
    pub source: String,
    /// Its output template as written.
    pub output: String,
    /// Its condition as written, appended parts included.
    pub condition_text: String,
    /// The event types it can hold for, whether supplied or not; every one when it does not say.
    pub event_types: Vec<&'static str>,
    /// Fields its condition reads, those of macros and exceptions included, sorted.
    pub fields: Vec<String>,
    /// Fields its condition or output needs that are not supplied: checks on them are false.
    pub blind_fields: Vec<String>,
    /// The file it is defined in.
    pub file: String,
    /// The line there.
    pub line: usize,
    pub(crate) condition: Arc<Node>,
    pub(crate) template: Template,
}

/// Rules in the order they are defined. Cheap to share: put it into an `Arc`.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    disabled: Vec<String>,
    /// For each event type of the kernel by its place, the rules it concerns.
    by_type: Vec<Vec<usize>>,
    /// For each source of documents, its rules.
    by_source: HashMap<String, Vec<usize>>,
    sources: Arc<Sources>,
}

impl RuleSet {
    pub(crate) fn new(rules: Vec<Rule>, disabled: Vec<String>) -> Self {
        let mut by_type = vec![Vec::new(); EventType::count()];
        let mut by_source: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            if rule.source != SYSCALL {
                by_source.entry(rule.source.clone()).or_default().push(index);
                continue;
            }
            for event_type in rule.event_types.iter().filter_map(|name| EventType::by_name(name)) {
                by_type[event_type.place()].push(index);
            }
        }
        Self { rules, disabled, by_type, by_source, sources: Arc::default() }
    }

    /// The set with the sources that its rules files know.
    pub(crate) fn with_sources(self, sources: Arc<Sources>) -> Self {
        Self { sources, ..self }
    }

    /// The sources its rules may be for: those built in, and those its files declare.
    pub fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Does a rule of it want events of this source?
    pub fn wants_source(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.source == name)
    }

    /// The enabled rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A rule by name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Names of rules that are defined and not enabled, or skipped because of a source or field that is not known.
    pub fn disabled(&self) -> &[String] {
        &self.disabled
    }

    /// Event types that some rule wants, so that a sensor can leave the others in the kernel.
    pub fn wanted_events(&self) -> impl Iterator<Item = EventType> + '_ {
        EventType::all()
            .filter(|event_type| self.by_type.get(event_type.place()).is_some_and(|rules| !rules.is_empty()))
    }

    pub(crate) fn for_event(&self, event: &Event) -> impl Iterator<Item = &Rule> {
        let indices = match &event.kind {
            EventKind::Document(document) => self.by_source.get(&document.source),
            _ => self.by_type.get(event.event_type().place()),
        };
        let indices = indices.map_or(&[][..], Vec::as_slice);
        indices.iter().map(|index| &self.rules[*index])
    }
}
