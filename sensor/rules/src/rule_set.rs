//! A set of compiled rules, indexed by source and event type.

use std::collections::HashMap;
use std::sync::Arc;

use crate::alert::Priority;
use crate::compile::{Node, Outline, TypeSet};
use crate::engine::Matching;
use crate::event::{Event, EventKind, EventType, SYSCALL};
use crate::output::{Extra, Template};
use crate::program::{Entry, Program};
use crate::source::Sources;
use crate::state::sequence::Sequence;
use crate::state::{Stateful, What};

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
    /// The same as its author reads it.
    pub(crate) outline: Arc<Outline>,
    pub(crate) template: Template,
    pub(crate) stateful: Option<Arc<Stateful>>,
    /// What was added to its output.
    pub(crate) extra: Extra,
}

/// Rules in the order they are defined. Cheap to share: put it into an `Arc`.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    disabled: Vec<String>,
    /// For each event type of the kernel by its place, the rules it concerns.
    by_type: Vec<Vec<u32>>,
    /// For each source of documents, its rules.
    by_source: HashMap<String, Vec<u32>>,
    /// The same rules, compiled together.
    program: Program,
    /// What must come before the rules that are sequences, by their numbers, likewise.
    firsts: Program,
    sequences: Vec<u32>,
    sources: Arc<Sources>,
    matching: Matching,
}

impl Rule {
    /// What it asks of events before, in canonical form: `count by proc.name within 5m above 10`. Nothing when it looks at one event.
    pub fn state(&self) -> Option<&str> {
        self.stateful.as_ref().map(|stateful| stateful.text.as_str())
    }

    fn first_types(&self) -> Option<&TypeSet> {
        self.stateful.as_ref()?.first_types()
    }

    /// What it asks for, if it is a sequence.
    pub(crate) fn sequence(&self) -> Option<&Sequence> {
        match &self.stateful.as_ref()?.what {
            What::Sequence(asked) => Some(asked),
            _ => None,
        }
    }

    /// The same, if an event of this source and type may be the first of it.
    pub(crate) fn sequence_begun_by(&self, event: &Event) -> Option<&Sequence> {
        let is_for = |asked: &&Sequence| self.source == event.source() && asked.types.contains(event.event_type());
        self.sequence().filter(is_for)
    }

    /// What must come before it, if it is a sequence.
    fn as_first(&self, rule: u32) -> Option<Entry<'_>> {
        let asked = self.sequence()?;
        Some(Entry { rule, source: &self.source, condition: &asked.after, types: &asked.types })
    }
}

impl RuleSet {
    pub(crate) fn new(rules: Vec<Rule>, disabled: Vec<String>) -> Self {
        let types: Vec<TypeSet> = rules.iter().map(|rule| TypeSet::of(rule.event_types.iter().copied())).collect();
        let numbers = 0..u32::try_from(rules.len()).unwrap_or(u32::MAX);
        let entries: Vec<Entry<'_>> = numbers
            .zip(rules.iter().zip(&types))
            .map(|(rule, (own, types))| Entry { rule, source: &own.source, condition: &own.condition, types })
            .collect();
        let mut by_type = vec![Vec::new(); EventType::count()];
        let mut by_source: HashMap<String, Vec<u32>> = HashMap::new();
        for entry in &entries {
            if entry.source != SYSCALL {
                by_source.entry(entry.source.to_owned()).or_default().push(entry.rule);
                continue;
            }
            entry.types.types().for_each(|event_type| by_type[event_type.place()].push(entry.rule));
        }
        let program = Program::new(&entries);
        let sequences: Vec<Entry<'_>> = (0..).zip(&rules).filter_map(|(number, rule)| rule.as_first(number)).collect();
        let firsts = Program::new(&sequences);
        let sequences = sequences.iter().map(|entry| entry.rule).collect();
        let (sources, matching) = (Arc::default(), Matching::default());
        Self { rules, disabled, by_type, by_source, program, firsts, sequences, sources, matching }
    }

    /// The set with the sources that its rules files know.
    pub(crate) fn with_sources(self, sources: Arc<Sources>) -> Self {
        Self { sources, ..self }
    }

    /// The same set without rules that matter less than this: Falco's `priority` option.
    #[must_use]
    pub fn at_least(self, priority: Priority) -> Self {
        let Self { rules, mut disabled, sources, matching, .. } = self;
        let (kept, dropped): (Vec<Rule>, Vec<Rule>) = rules.into_iter().partition(|rule| rule.priority <= priority);
        disabled.extend(dropped.into_iter().map(|rule| rule.name));
        Self::new(kept, disabled).with_sources(sources).with_matching(matching)
    }

    /// The same set, of which so many rules may alert of one event: Falco's `rule_matching` option.
    #[must_use]
    pub fn with_matching(self, matching: Matching) -> Self {
        Self { matching, ..self }
    }

    /// How many of its rules may alert of one event, unless an engine is told otherwise.
    pub fn matching(&self) -> Matching {
        self.matching
    }

    /// The same set with each rule changed; conditions and order stay.
    pub(crate) fn map_rules<E>(mut self, change: impl Fn(&mut Rule, &Sources) -> Result<(), E>) -> Result<Self, E> {
        self.rules.iter_mut().try_for_each(|rule| change(rule, &self.sources))?;
        Ok(self)
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
        EventType::all().filter(|event_type| {
            let is_first = |rule: &u32| {
                let rule = self.numbered(*rule);
                rule.source == SYSCALL && rule.first_types().is_some_and(|types| types.contains(*event_type))
            };
            self.by_type.get(event_type.place()).is_some_and(|rules| !rules.is_empty())
                || self.sequences.iter().any(is_first)
        })
    }

    /// The numbers of the rules that an event's source and type concern, ascending.
    pub(crate) fn for_event(&self, event: &Event) -> &[u32] {
        let rules = match &event.kind {
            EventKind::Document(document) => self.by_source.get(&document.source),
            _ => self.by_type.get(event.event_type().place()),
        };
        rules.map_or(&[], Vec::as_slice)
    }

    pub(crate) fn numbered(&self, rule: u32) -> &Rule {
        &self.rules[rule as usize]
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// The conditions of sequences' first events, by the number of their rule.
    pub(crate) fn firsts(&self) -> &Program {
        &self.firsts
    }

    /// The numbers of the rules that are sequences.
    pub(crate) fn sequences(&self) -> &[u32] {
        &self.sequences
    }
}
