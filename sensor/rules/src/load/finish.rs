//! Compiles what was collected: lists, then macros, then rules.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::collect::{Collector, ListDefinition, RuleDefinition};
use super::extension::{self, Compiling, Extension};
use super::reader::Joined;
use super::{Counts, exceptions};
use crate::compile::{self, CompileError, Compiled, Location, MacroLookup, Outline, Scope, TypeSet};
use crate::condition::{self, Expr, FieldRef, Word};
use crate::event::EventType;
use crate::fields::{FieldError, Resolved};
use crate::limits::{CONDITION_DEPTH_MAX, CONDITION_ERRORS_MAX, LIST_ITEMS_MAX};
use crate::output::{Extra, Template};
use crate::problem::{Code, Reporter};
use crate::rule_set::{Rule, RuleSet};
use crate::source::{Source, Vocabulary};
use crate::state::fields as state;
use crate::suggest;
use crate::supply::Supply;

/// A rule that names more event types than this is as good as one that names none, says Falco.
const EVENT_TYPES_MAX: usize = 100;

pub(crate) fn finish(collector: Collector, supply: &Supply, reporter: &mut Reporter<'_>) -> (RuleSet, Counts) {
    let counts = Counts {
        rules: collector.rules.items.len(),
        macros: collector.macros.items.len(),
        lists: collector.lists.items.len(),
    };
    let mut names = NamesInForce::new(&collector, reporter);
    let mut rules = Vec::new();
    let mut disabled = Vec::new();
    let mut failed_users: HashMap<Place, Vec<bool>> = HashMap::new();
    for definition in &collector.rules.items {
        names.failed_roots.clear();
        match rule(definition, supply, &mut names, reporter) {
            Some(rule) if definition.enabled && !definition.is_broken => rules.push(rule),
            _ => disabled.push(definition.name.value.clone()),
        }
        for root in std::mem::take(&mut names.failed_roots) {
            failed_users.entry((names.source, root)).or_default().push(definition.skip_if_unknown_filter);
        }
    }
    let used_by_rules = names.used_macros.clone();
    // What no rule uses is checked all the same: a rule will use it one day.
    names.compile_unused_macros();
    names.locate_macros(reporter);
    report_macros(&mut names, &failed_users, reporter);
    // What seems unused may be used by what did not compile.
    if reporter.error_count() == 0 {
        report_unused(&names, &used_by_rules, reporter);
    }
    let sources = Arc::new(collector.sources.clone());
    (RuleSet::new(rules, disabled).with_sources(sources), counts)
}

/// Compiles a condition with the names of what was collected, for one of the sources.
pub(crate) fn compile_alone(
    expr: &Expr,
    source: usize,
    collector: &Collector,
    reporter: &mut Reporter<'_>,
) -> Result<Compiled, Vec<CompileError>> {
    compile::compile(expr, &mut NamesInForce { source, ..NamesInForce::new(collector, reporter) })
}

/// A macro as rules of one source see it: the source's and the macro's place in their tables.
type Place = (usize, usize);

/// What names stand for while conditions are compiled.
pub(super) struct NamesInForce<'a> {
    lists: HashMap<String, Arc<[Word]>>,
    used_lists: HashSet<String>,
    /// The source whose fields conditions may use now.
    pub(super) source: usize,
    /// For each source, what became of each macro: a macro may mean something to one source, and nothing to another.
    states: Vec<Vec<State>>,
    used_macros: HashSet<usize>,
    pub(super) collector: &'a Collector,
    /// Macros first defined at or after this place in the order are not visible: that of the macro being compiled.
    visibility: usize,
    warnings: Vec<Warning>,
    /// Macros whose own errors made the present condition fail.
    failed_roots: BTreeSet<usize>,
    depth: usize,
    /// What was found in macros, to be reported at the end.
    late: Vec<(Place, Late)>,
}

type Warning = (Code, Range<usize>, String, Option<String>);

enum Late {
    Error(CompileError),
    Parse(condition::ParseError),
    Warning(Warning),
}

impl Late {
    fn place_and_message(&self) -> (usize, &str) {
        match self {
            Self::Error(error) => (error.span.start, &error.message),
            Self::Parse(error) => (error.offset, &error.message),
            Self::Warning((_, span, message, _)) => (span.start, message),
        }
    }
}

enum State {
    Unseen,
    Busy,
    Done(Arc<Compiled>),
    Failed { is_unknown_filter: bool, roots: BTreeSet<usize> },
}

impl<'a> NamesInForce<'a> {
    fn new(collector: &'a Collector, reporter: &mut Reporter<'_>) -> Self {
        Self {
            lists: expand_lists(collector, reporter),
            used_lists: HashSet::new(),
            source: 0,
            states: (0..collector.sources.len())
                .map(|_| collector.macros.items.iter().map(|_| State::Unseen).collect())
                .collect(),
            used_macros: HashSet::new(),
            collector,
            visibility: usize::MAX,
            warnings: Vec::new(),
            failed_roots: BTreeSet::new(),
            depth: 0,
            late: Vec::new(),
        }
    }

    /// Compiles each macro that no rule uses for the first source in which it means something. If there is none, what is wrong with it
    /// is said as the source sees it that understands most of it.
    fn compile_unused_macros(&mut self) {
        for index in 0..self.collector.macros.items.len() {
            if self.states.iter().any(|states| !matches!(states[index], State::Unseen)) {
                continue;
            }
            let earlier = std::mem::take(&mut self.late);
            let mut least: Option<Vec<(Place, Late)>> = None;
            for source in 0..self.states.len() {
                self.source = source;
                self.compile_macro(index);
                let said = std::mem::take(&mut self.late);
                let is_done = matches!(self.states[source][index], State::Done(_));
                if is_done || least.as_ref().is_none_or(|least| said.len() < least.len()) {
                    least = Some(said);
                }
                if is_done {
                    break;
                }
            }
            self.late = earlier;
            self.late.extend(least.into_iter().flatten());
        }
    }

    /// Says of each part of each macro where it stands.
    fn locate_macros(&self, reporter: &Reporter<'_>) {
        for states in &self.states {
            for (definition, state) in self.collector.macros.items.iter().zip(states) {
                if let State::Done(compiled) = state {
                    locate(&compiled.outline, &definition.condition, reporter);
                }
            }
        }
    }

    fn compile_macro(&mut self, index: usize) {
        if !matches!(self.states[self.source][index], State::Unseen) {
            return;
        }
        let definition = &self.collector.macros.items[index];
        self.states[self.source][index] = State::Busy;
        let outer_visibility = std::mem::replace(&mut self.visibility, definition.visibility);
        let outer_warnings = std::mem::take(&mut self.warnings);
        let outer_roots = std::mem::take(&mut self.failed_roots);
        self.depth += 1;
        let outcome = self.macro_body(index, &definition.condition);
        self.depth -= 1;
        self.visibility = outer_visibility;
        let warnings = std::mem::replace(&mut self.warnings, outer_warnings);
        let place = (self.source, index);
        self.late.extend(warnings.into_iter().map(|warning| (place, Late::Warning(warning))));
        let mut roots = std::mem::replace(&mut self.failed_roots, outer_roots);
        self.states[self.source][index] = match outcome {
            Ok(compiled) => State::Done(Arc::new(compiled)),
            Err((is_own, is_unknown_filter)) => {
                if is_own {
                    roots.insert(index);
                }
                State::Failed { is_unknown_filter, roots }
            }
        };
    }

    /// The compiled macro, or whether it has errors of its own, and whether all are unknown fields or event types.
    fn macro_body(&mut self, index: usize, text: &Joined) -> Result<Compiled, (bool, bool)> {
        let place = (self.source, index);
        if self.depth > CONDITION_DEPTH_MAX {
            let message = format!("more than {CONDITION_DEPTH_MAX} macros inside each other");
            let error = CompileError {
                span: 0..0,
                message,
                hint: None,
                is_unknown_filter: false,
                is_limit: true,
                is_elsewhere: false,
            };
            self.late.push((place, Late::Error(error)));
            return Err((true, false));
        }
        let expr = match condition::parse(&text.text()) {
            Ok(expr) => expr,
            Err(error) => {
                self.late.push((place, Late::Parse(error)));
                return Err((true, false));
            }
        };
        compile::compile(&expr, self).map_err(|errors| {
            let is_unknown_filter = errors.iter().all(|error| error.is_unknown_filter);
            let is_own = errors.iter().any(|error| !error.is_elsewhere);
            self.late.extend(
                errors.into_iter().filter(|error| !error.is_elsewhere).map(|error| (place, Late::Error(error))),
            );
            (is_own, is_unknown_filter)
        })
    }
}

impl Scope for NamesInForce<'_> {
    fn resolve(&self, field: &FieldRef) -> Result<Resolved, FieldError> {
        self.collector.sources.vocabulary(self.source).resolve(field)
    }

    fn list(&mut self, name: &str) -> Option<Arc<[Word]>> {
        let items = self.lists.get(name)?;
        self.used_lists.insert(name.to_owned());
        Some(Arc::clone(items))
    }

    fn macro_condition(&mut self, name: &str) -> MacroLookup {
        let Some(index) = self.collector.macros.position(name) else { return MacroLookup::Unknown };
        self.used_macros.insert(index);
        if matches!(self.states[self.source][index], State::Busy) {
            return MacroLookup::Loop;
        }
        if self.collector.macros.items[index].index >= self.visibility {
            return MacroLookup::TooLate;
        }
        self.compile_macro(index);
        match &self.states[self.source][index] {
            State::Done(compiled) => MacroLookup::Found(Arc::clone(compiled)),
            State::Failed { is_unknown_filter, roots } => {
                self.failed_roots.extend(roots.iter().copied());
                MacroLookup::Failed { is_unknown_filter: *is_unknown_filter }
            }
            State::Unseen | State::Busy => MacroLookup::Loop,
        }
    }

    fn list_names(&self) -> Vec<String> {
        self.lists.keys().cloned().collect()
    }

    fn macro_names(&self) -> Vec<String> {
        self.collector.macros.names().map(str::to_owned).collect()
    }

    fn warn(&mut self, code: Code, span: Range<usize>, message: String, hint: Option<String>) {
        if self.warnings.len() < CONDITION_ERRORS_MAX {
            self.warnings.push((code, span, message, hint));
        }
    }
}

/// Every list's values, with the lists among its items put in.
pub(super) fn expand_lists(collector: &Collector, reporter: &mut Reporter<'_>) -> HashMap<String, Arc<[Word]>> {
    let mut order: Vec<&ListDefinition> = collector.lists.items.iter().collect();
    order.sort_by_key(|list| list.visibility);
    let mut lists: HashMap<String, Arc<[Word]>> = HashMap::new();
    for list in order {
        let item_name = format!("list {:?}", list.name.value);
        let mut words = Vec::new();
        for item in &list.items {
            let earlier = collector.lists.position(&item.value).map(|position| &collector.lists.items[position]);
            if earlier.is_some_and(|earlier| earlier.index < list.visibility && earlier.name.value != list.name.value) {
                // Changed after this list was, it is not expanded yet: take it as Falco does, as it is now.
                match lists.get(&item.value) {
                    Some(values) => words.extend(values.iter().cloned()),
                    None => words.extend(own_words(collector, &item.value)),
                }
            } else {
                words.extend(item_words(&item.value, item, &item_name, reporter));
            }
            if words.len() > LIST_ITEMS_MAX {
                let message = format!("more than {LIST_ITEMS_MAX} values");
                reporter.error(Code::CairnLimit, list.name.place(), &item_name, message, None);
                words.truncate(LIST_ITEMS_MAX);
                break;
            }
        }
        lists.insert(list.name.value.clone(), words.into());
    }
    lists
}

/// The words of a list whose turn has not come, without lists inside it.
fn own_words(collector: &Collector, name: &str) -> Vec<Word> {
    let Some(position) = collector.lists.position(name) else { return Vec::new() };
    let items = &collector.lists.items[position].items;
    items.iter().map(|item| Word { text: item.value.clone(), quoted: true, span: 0..0 }).collect()
}

/// An item as words: what Falco's textual substitution makes of it. Blanks get it quotes, quotes of its own are taken off.
fn item_words(text: &str, item: &super::reader::Scalar, list: &str, reporter: &mut Reporter<'_>) -> Vec<Word> {
    let needs_quotes = text.contains([' ', '\t', '\n']) && !text.starts_with(['"', '\'']);
    if needs_quotes || text.is_empty() {
        return vec![Word { text: text.to_owned(), quoted: true, span: 0..0 }];
    }
    match condition::parse_words(text) {
        // Once in the list they are values: a list of that name would have been put in before.
        Ok(words) => words.into_iter().map(|word| Word { quoted: true, ..word }).collect(),
        Err(error) => {
            let hint = Some(format!("put it in quotes twice: '{}'", condition::quoted(text)));
            let message = format!("the item is no value in a condition: {}", error.message);
            reporter.error(Code::LoadErrValidate, item.place(), list, message, hint);
            Vec::new()
        }
    }
}

fn rule(
    definition: &RuleDefinition,
    supply: &Supply,
    names: &mut NamesInForce<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Rule> {
    let item = format!("rule {:?}", definition.name.value);
    let sources = &names.collector.sources;
    let Some(position) = sources.position(&definition.source.value) else {
        let known: Vec<&str> = sources.iter().map(Source::name).collect();
        let message = format!("source `{}` is not known: the rule is skipped", definition.source.value);
        let hint = suggest::hint(&definition.source.value, known.iter().copied());
        let hint = hint.or_else(|| Some(format!("sources are: {}", known.join(", "))));
        reporter.warning(Code::LoadUnknownSource, definition.source.place(), &item, message, hint);
        return None;
    };
    names.source = position;
    let source = Arc::clone(sources.at(position));
    let condition_text = definition.condition.text();
    let compiled = compile_text(&condition_text, &definition.condition, definition, &item, names, reporter);
    let exceptions = compile_exceptions(definition, &item, names, reporter);
    let extension = definition.extension.as_ref();
    let stateful = extension.map(|extension| extension::compile(extension, definition, &item, names, reporter));
    let shape = extension.map(Extension::shape);
    let vocabulary = names.collector.sources.vocabulary(position);
    let template = template(definition, &item, vocabulary.with_state(shape), reporter);
    let (mut compiled, exceptions, template) = (compiled?, exceptions?, template?);
    let stateful = match stateful {
        Some(stateful) => {
            let Compiling { mut stateful, fields } = stateful?;
            stateful.shown = extension::shown(template.fields(), vocabulary);
            compiled.facts.fields.extend(fields);
            Some(Arc::new(stateful))
        }
        None => None,
    };
    locate(&compiled.outline, &definition.condition, reporter);
    let compiled = match compile::all_but(compiled, exceptions) {
        Ok(compiled) => compiled,
        Err(error) => {
            reporter.error(Code::CairnLimit, definition.name.place(), &item, error.message, error.hint);
            return None;
        }
    };
    let compiled = compiled.within(&source.event_types());
    report_event_types(definition, &compiled.types, &item, reporter);
    let asked = Asked { source: &source, supply };
    let blind_fields = report_blind_spots(definition, &compiled, &template, asked, &item, reporter);
    if let Some(types) = stateful.as_ref().and_then(|stateful| stateful.first_types()) {
        report_blind_first(definition, types, asked, &item, reporter);
    }
    let place = definition.name.place();
    let (file, line) = reporter.file_and_line(place);
    Some(Rule {
        name: definition.name.value.clone(),
        description: definition.description.text(),
        priority: definition.priority,
        tags: definition.tags.clone(),
        source: definition.source.value.clone(),
        output: definition.shown_output().text(),
        condition_text,
        event_types: compiled.types.names(),
        fields: compiled.facts.fields.into_iter().collect(),
        blind_fields,
        file,
        line,
        condition: compiled.node,
        outline: compiled.outline,
        template,
        stateful,
        extra: Extra::default(),
    })
}

/// Says of each part of a condition where it stands in its file.
pub(super) fn locate(outline: &Outline, text: &Joined, reporter: &Reporter<'_>) {
    outline.locate(&|offset| {
        let (file, line, column) = reporter.position(text.place_at(offset, reporter));
        Location { file: file.into(), line, column }
    });
}

pub(super) fn compile_text(
    text: &str,
    joined: &Joined,
    definition: &RuleDefinition,
    item: &str,
    names: &mut NamesInForce<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Compiled> {
    match condition::parse(text) {
        Ok(expr) => compile_expr(&expr, joined, definition, item, names, reporter),
        Err(error) => {
            let code = if error.is_limit { Code::CairnLimit } else { Code::LoadErrCompileCondition };
            reporter.error(code, joined.place_at(error.offset, reporter), item, error.message, error.hint);
            None
        }
    }
}

fn compile_expr(
    expr: &Expr,
    joined: &Joined,
    definition: &RuleDefinition,
    item: &str,
    names: &mut NamesInForce<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Compiled> {
    let outcome = compile::compile(expr, names);
    for (code, span, message, hint) in std::mem::take(&mut names.warnings) {
        reporter.warning(code, joined.place_at(span.start, reporter), item, message, hint);
    }
    let errors = match outcome {
        Ok(compiled) => return Some(compiled),
        Err(errors) => errors,
    };
    let is_forgiven = definition.skip_if_unknown_filter && errors.iter().all(|error| error.is_unknown_filter);
    for error in errors {
        let place = joined.place_at(error.span.start, reporter);
        if is_forgiven {
            let message = format!("{}: the rule is skipped", error.message);
            reporter.warning(Code::LoadUnknownFilter, place, item, message, error.hint);
        } else if !error.is_elsewhere {
            reporter.error(code_of(&error), place, item, error.message, error.hint);
        }
    }
    None
}

fn code_of(error: &CompileError) -> Code {
    if error.is_limit { Code::CairnLimit } else { Code::LoadErrCompileCondition }
}

fn compile_exceptions(
    definition: &RuleDefinition,
    item: &str,
    names: &mut NamesInForce<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Vec<Compiled>> {
    let mut all = Some(Vec::new());
    for exception in &definition.exceptions {
        let errors_before = reporter.error_count();
        let Some(expr) = exceptions::condition(exception, item, reporter) else {
            if reporter.error_count() > errors_before {
                all = None;
            }
            continue;
        };
        let compiled = compile_expr(&expr, &exceptions::place(exception), definition, item, names, reporter);
        match (&mut all, compiled) {
            (Some(all), Some(mut compiled)) => {
                compiled.outline = Outline::of_exception(&exception.name.value, compiled.outline);
                locate(&compiled.outline, &exceptions::place(exception), reporter);
                all.push(compiled);
            }
            _ => all = None,
        }
    }
    all
}

fn template(
    definition: &RuleDefinition,
    item: &str,
    vocabulary: Vocabulary<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Template> {
    let output = definition.shown_output();
    match Template::parse(&output.text(), vocabulary) {
        Ok(template) => {
            if let Some(offset) = template.container_info() {
                let message = "`%container.info` is deprecated: nothing is shown for it";
                let hint = Some("show the fields wanted, such as `%container.id`".to_owned());
                let place = output.place_at(offset, reporter);
                reporter.warning(Code::LoadDeprecatedItem, place, item, message, hint);
            }
            let is_falcos = definition.extension.as_ref().is_none_or(|extension| extension.output.is_none());
            if let (true, Some(field)) = (is_falcos, template.fields().find(|name| state::is_ours(name))) {
                let message = format!("Falco knows no field `{field}`");
                let hint = "give this output inside the key `cairn`, and beside it one without such fields";
                reporter.not_loaded(output.place_at(0, reporter), item, message, hint);
            }
            Some(template)
        }
        Err(error) => {
            let place = output.place_at(error.offset, reporter);
            if error.is_unknown_field && definition.skip_if_unknown_filter {
                let message = format!("{}: the rule is skipped", error.message);
                reporter.warning(Code::LoadUnknownFilter, place, item, message, error.hint);
            } else {
                let code = if error.is_limit { Code::CairnLimit } else { Code::LoadErrCompileOutput };
                reporter.error(code, place, item, error.message, error.hint);
            }
            None
        }
    }
}

fn report_event_types(definition: &RuleDefinition, types: &TypeSet, item: &str, reporter: &mut Reporter<'_>) {
    if definition.warn_evttypes && types.len() > EVENT_TYPES_MAX {
        let message = "the condition does not say which event types it is for, so it is tried on each event";
        let hint =
            Some("begin it with a check such as `evt.type in (open, openat)` or a macro that has one".to_owned());
        reporter.warning(Code::LoadNoEvttype, definition.condition.place_at(0, reporter), item, message, hint);
    }
    if types.is_empty() {
        let message = "the condition can never hold: its event types exclude each other";
        reporter.warning(Code::LoadCompileCondition, definition.condition.place_at(0, reporter), item, message, None);
    }
}

/// Who is asked for fields and events: the rule's source, which for the kernel is what a machine supplies.
#[derive(Clone, Copy)]
struct Asked<'a> {
    source: &'a Source,
    supply: &'a Supply,
}

impl Asked<'_> {
    fn has_field(&self, written: &str) -> bool {
        let Some(written) = state::of_event(written) else { return true };
        if self.source.is_kernel() { self.supply.has_field(written) } else { self.source.supplies(written) }
    }

    fn events(&self) -> TypeSet {
        if self.source.is_kernel() {
            TypeSet::of(self.supply.events().map(EventType::name))
        } else {
            self.source.event_types()
        }
    }
}

/// Says what a rule asks for and will not get. The rule's fields that are not supplied are returned.
fn report_blind_spots(
    definition: &RuleDefinition,
    compiled: &Compiled,
    template: &Template,
    asked: Asked<'_>,
    item: &str,
    reporter: &mut Reporter<'_>,
) -> Vec<String> {
    let mut blind: BTreeSet<String> =
        compiled.facts.fields.iter().filter(|name| !asked.has_field(name)).cloned().collect();
    let supplied = asked.events();
    let missing = compiled.types.intersection(&supplied.complement());
    let mut parts = Vec::new();
    if !compiled.types.is_full() && !missing.is_empty() && missing.len() <= EVENT_TYPES_MAX {
        let only = if compiled.types.intersection(&supplied).is_empty() { ", so the rule can never alert" } else { "" };
        parts.push(format!("events {} are not supplied{only}", missing.names().join(", ")));
    }
    if !blind.is_empty() {
        let names: Vec<&str> = blind.iter().map(String::as_str).collect();
        parts.push(format!("fields {} are not supplied: checks on them are false", names.join(", ")));
    }
    let shown: BTreeSet<String> =
        template.fields().filter(|name| !asked.has_field(name) && !blind.contains(*name)).map(str::to_owned).collect();
    if !shown.is_empty() {
        let names: Vec<&str> = shown.iter().map(String::as_str).collect();
        parts.push(format!("output fields {} are not supplied: they are printed as <NA>", names.join(", ")));
    }
    if !parts.is_empty() && definition.enabled {
        reporter.warning(Code::CairnBlindSpot, definition.name.place(), item, parts.join("; "), None);
    }
    blind.extend(shown);
    blind.into_iter().collect()
}

/// Says which first events of a sequence will not come.
fn report_blind_first(
    definition: &RuleDefinition,
    types: &TypeSet,
    asked: Asked<'_>,
    item: &str,
    reporter: &mut Reporter<'_>,
) {
    let supplied = asked.events();
    let missing = types.intersection(&supplied.complement());
    if types.is_full() || missing.is_empty() || missing.len() > EVENT_TYPES_MAX || !definition.enabled {
        return;
    }
    let only = if types.intersection(&supplied).is_empty() { ", so the rule can never alert" } else { "" };
    let message = format!("events {} of `after` are not supplied{only}", missing.names().join(", "));
    reporter.warning(Code::CairnBlindSpot, definition.name.place(), item, message, None);
}

fn report_macros(names: &mut NamesInForce<'_>, failed_users: &HashMap<Place, Vec<bool>>, reporter: &mut Reporter<'_>) {
    // What is wrong with a macro for every source alike is said once.
    let mut said: HashSet<(usize, usize, String)> = HashSet::new();
    for (place, late) in std::mem::take(&mut names.late) {
        let index = place.1;
        let (offset, message) = late.place_and_message();
        if !said.insert((index, offset, message.to_owned())) {
            continue;
        }
        let definition = &names.collector.macros.items[index];
        let item = format!("macro {:?}", definition.name.value);
        let place_at = |offset: usize, reporter: &Reporter<'_>| definition.condition.place_at(offset, reporter);
        match late {
            Late::Warning((code, span, message, hint)) => {
                reporter.warning(code, place_at(span.start, reporter), &item, message, hint);
            }
            Late::Parse(error) => {
                let code = if error.is_limit { Code::CairnLimit } else { Code::LoadErrCompileCondition };
                reporter.error(code, place_at(error.offset, reporter), &item, error.message, error.hint);
            }
            Late::Error(error) => {
                // Every rule that uses it asked to be skipped for such a reason, and said so itself.
                let users = failed_users.get(&place);
                let is_forgiven =
                    error.is_unknown_filter && users.is_some_and(|users| users.iter().all(|skips| *skips));
                if !is_forgiven {
                    reporter.error(
                        code_of(&error),
                        place_at(error.span.start, reporter),
                        &item,
                        error.message,
                        error.hint,
                    );
                }
            }
        }
    }
}

fn report_unused(names: &NamesInForce<'_>, used_by_rules: &HashSet<usize>, reporter: &mut Reporter<'_>) {
    let collector = names.collector;
    for (index, definition) in collector.macros.items.iter().enumerate() {
        if !used_by_rules.contains(&index) {
            let item = format!("macro {:?}", definition.name.value);
            reporter.warning(Code::LoadUnusedMacro, definition.name.place(), &item, "no rule uses the macro", None);
        }
    }
    let in_lists: HashSet<&str> =
        collector.lists.items.iter().flat_map(|list| list.items.iter().map(|item| item.value.as_str())).collect();
    for list in &collector.lists.items {
        let name = list.name.value.as_str();
        if !names.used_lists.contains(name) && !in_lists.contains(name) {
            let item = format!("list {name:?}");
            reporter.warning(Code::LoadUnusedList, list.name.place(), &item, "nothing uses the list", None);
        }
    }
}
