//! Reads the items of rules files in order, and keeps what each name stands for in the end.

use std::collections::{BTreeMap, HashMap};

use super::exceptions::{self, Exception};
use super::extension::{self, Extension};
use super::honeytokens;
use super::reader::{Fields, Joined, Scalar};
use super::{ENGINE_VERSION, PLUGIN_VERSIONS};
use crate::alert::Priority;
use crate::condition::{is_bare_word, is_identifier};
use crate::limits::{RULES_MAX, SOURCES_MAX};
use crate::problem::{Code, Place, Reporter};
use crate::source::{self, Sources};
use crate::suggest;
use crate::yaml::{self, Node};

/// Everything defined so far. `index` is an item's first place in the order of all items, `visibility` its last change's:
/// a macro sees only what was defined before its last change.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(crate) lists: Table<ListDefinition>,
    pub(crate) macros: Table<MacroDefinition>,
    pub(crate) rules: Table<RuleDefinition>,
    /// The sources that are built in, and those declared.
    pub(crate) sources: Sources,
    order: usize,
}

/// Definitions in order, and by name.
#[derive(Debug)]
pub(crate) struct Table<T> {
    pub(crate) items: Vec<T>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct ListDefinition {
    pub(crate) name: Scalar,
    pub(crate) items: Vec<Scalar>,
    pub(crate) index: usize,
    pub(crate) visibility: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct MacroDefinition {
    pub(crate) name: Scalar,
    pub(crate) condition: Joined,
    pub(crate) index: usize,
    pub(crate) visibility: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct RuleDefinition {
    pub(crate) name: Scalar,
    pub(crate) description: Joined,
    pub(crate) condition: Joined,
    pub(crate) output: Joined,
    pub(crate) priority: Priority,
    pub(crate) tags: Vec<String>,
    pub(crate) enabled: bool,
    pub(crate) source: Scalar,
    /// `source` was written, not assumed.
    pub(crate) has_source: bool,
    pub(crate) exceptions: Vec<Exception>,
    pub(crate) warn_evttypes: bool,
    pub(crate) skip_if_unknown_filter: bool,
    /// What it asks of events before.
    pub(crate) extension: Option<Extension>,
    /// Something beside condition and output is wrong with it: it is checked for more problems, and not used.
    pub(crate) is_broken: bool,
}

const RULE_KEYS: [&str; 16] = [
    "rule",
    "desc",
    "condition",
    "output",
    "priority",
    "enabled",
    "source",
    "tags",
    "exceptions",
    "warn_evttypes",
    "skip-if-unknown-filter",
    "capture",
    "capture_duration",
    "append",
    "override",
    "cairn",
];

/// What `override` may append to.
const APPENDABLE: [&str; 5] = ["condition", "output", "desc", "tags", "exceptions"];
/// What `override` may replace besides.
const REPLACEABLE: [&str; 7] =
    ["priority", "capture", "capture_duration", "enabled", "warn_evttypes", "skip-if-unknown-filter", "cairn"];

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { items: Vec::new(), by_name: HashMap::new() }
    }
}

impl<T> Table<T> {
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        let position = self.position(name)?;
        self.items.get_mut(position)
    }

    fn push(&mut self, name: &str, item: T) {
        self.by_name.insert(name.to_owned(), self.items.len());
        self.items.push(item);
    }
}

/// How an item changes what its name stands for.
enum Change {
    Define,
    /// `append: true`, of old.
    Append,
    /// Per key: append or replace.
    Override(BTreeMap<String, OverrideKind>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OverrideKind {
    Append,
    Replace,
}

impl Collector {
    pub(crate) fn file(&mut self, file: usize, text: &str, reporter: &mut Reporter<'_>) {
        let documents = match yaml::parse(text) {
            Ok(documents) => documents,
            Err(error) => {
                let code = if error.is_limit { Code::CairnLimit } else { Code::LoadErrYamlParse };
                let hint = (!error.is_limit)
                    .then(|| "check the indentation and quotes of this line and the one above".to_owned());
                reporter.error(code, Place { file, offset: error.offset }, "", error.message, hint);
                return;
            }
        };
        for document in documents.iter().filter(|document| !document.is_null()) {
            let Some(items) = document.sequence() else {
                let place = Place { file, offset: document.range.start };
                let hint = Some(
                    "a rules file is a sequence of items, each beginning with `- rule:`, `- macro:` or `- list:`"
                        .to_owned(),
                );
                let message = format!("the document is {}, not a sequence", document.kind());
                reporter.error(Code::LoadErrYamlValidate, place, "", message, hint);
                continue;
            };
            for item in items.iter().filter(|item| !item.is_null()) {
                self.item(item, file, reporter);
            }
        }
    }

    fn item(&mut self, node: &Node, file: usize, reporter: &mut Reporter<'_>) {
        let place = Place { file, offset: node.range.start };
        let Some(pairs) = node.mapping() else {
            let message = format!("an item is a mapping, not {}", node.kind());
            reporter.error(
                Code::LoadErrYamlValidate,
                place,
                "",
                message,
                Some("begin it with `rule:`, `macro:` or `list:`".to_owned()),
            );
            return;
        };
        self.order += 1;
        let value_of = |key: &str| pairs.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value);
        // The order in which Falco looks for an item's kind.
        let kinds = [
            "required_engine_version",
            "required_plugin_versions",
            "list",
            "macro",
            "rule",
            "cairn_source",
            "cairn_honeytokens",
        ];
        let found = kinds.into_iter().find_map(|kind| value_of(kind).map(|value| (kind, value)));
        let Some((kind, value)) = found else {
            let keys: Vec<&str> = pairs.iter().filter_map(|(key, _)| key.text()).collect();
            let hint = keys.iter().find_map(|key| suggest::hint(key, kinds));
            let message = format!("an item of no known kind, with keys {}", keys.join(", "));
            reporter.warning(Code::LoadUnknownItem, place, "", message, hint);
            return;
        };
        let label = value.text().map_or_else(|| kind.to_owned(), |name| format!("{kind} {name:?}"));
        let mut fields = |known: &[&str]| Fields::new(node, pairs, file, label.clone(), known, reporter);
        match kind {
            "required_engine_version" => {
                let fields = fields(&[kind]);
                engine_version(&fields, value, reporter);
            }
            "required_plugin_versions" => {
                let fields = fields(&[kind]);
                plugin_versions(&fields, value, reporter);
            }
            "list" => {
                let fields = fields(&["list", "items", "append", "override"]);
                self.list(&fields, reporter);
            }
            "macro" => {
                let fields = fields(&["macro", "condition", "append", "override"]);
                self.macro_item(&fields, reporter);
            }
            "cairn_source" => {
                let message = "Falco passes over `cairn_source`, and skips the rules for that source";
                reporter.passed_over(place, &label, message);
                let fields = Fields::own(node, pairs, file, label, &source::KEYS, reporter);
                self.source(&fields, reporter);
            }
            "cairn_honeytokens" => {
                let message = "Falco passes over `cairn_honeytokens`, and has none of its rules";
                reporter.passed_over(place, &label, message);
                let fields = Fields::own(node, pairs, file, label, &honeytokens::KEYS, reporter);
                self.honeytokens(&fields, reporter);
            }
            _ => {
                let fields = fields(&RULE_KEYS);
                self.rule(&fields, reporter);
            }
        }
    }

    fn source(&mut self, fields: &Fields<'_>, reporter: &mut Reporter<'_>) {
        let Some(source) = source::read_declaration(fields, reporter) else { return };
        if let Some(known) = self.sources.get(source.name()) {
            let is_built_in = Sources::built_in().get(known.name()).is_some();
            let what = if is_built_in { "built in" } else { "declared already" };
            let message = format!("source `{}` is {what}", source.name());
            reporter.error(
                Code::LoadErrValidate,
                fields.place(),
                &fields.item,
                message,
                Some("give it another name".to_owned()),
            );
        } else if self.sources.len() >= SOURCES_MAX {
            let message = format!("more than {SOURCES_MAX} sources");
            reporter.error(Code::CairnLimit, fields.place(), &fields.item, message, None);
        } else {
            self.sources.push(source);
        }
    }

    fn honeytokens(&mut self, fields: &Fields<'_>, reporter: &mut Reporter<'_>) {
        for rule in honeytokens::read(fields, &self.sources, reporter) {
            let name = rule.name.value.clone();
            if self.rules.position(&name).is_some() {
                let message = format!("there is a rule {name:?} already");
                let hint = Some("give the honeytokens another name".to_owned());
                reporter.error(Code::LoadErrValidate, rule.name.place(), &fields.item, message, hint);
            } else if self.rules.items.len() >= RULES_MAX {
                let message = format!("more than {RULES_MAX} rules");
                reporter.error(Code::CairnLimit, fields.place(), &fields.item, message, None);
                return;
            } else {
                self.rules.push(&name, rule);
            }
        }
    }

    fn list(&mut self, fields: &Fields<'_>, reporter: &mut Reporter<'_>) {
        let Some(name) = named(fields, "list", Code::LoadInvalidListName, reporter) else { return };
        let Some(change) = change(fields, &["items"], &["items"], reporter) else { return };
        if !fields.has("items") {
            let hint = Some("an empty list is `items: []`".to_owned());
            reporter.error(Code::LoadErrYamlValidate, fields.place(), &fields.item, "`items` is missing", hint);
            return;
        }
        let items = fields.scalars("items", reporter).unwrap_or_default();
        let appends = change.appends("items");
        let visibility = self.order;
        match (self.lists.get_mut(&name.value), appends) {
            (Some(list), true) => {
                list.items.extend(items);
                list.visibility = visibility;
            }
            (Some(list), false) => {
                list.items = items;
                list.name = name;
                list.visibility = visibility;
            }
            (None, true) => unknown_target(fields, "list", &name, self.lists.names(), reporter),
            (None, false) => {
                let text = name.value.clone();
                self.lists.push(&text, ListDefinition { name, items, index: visibility, visibility });
            }
        }
    }

    fn macro_item(&mut self, fields: &Fields<'_>, reporter: &mut Reporter<'_>) {
        let Some(name) = named(fields, "macro", Code::LoadInvalidMacroName, reporter) else { return };
        let Some(change) = change(fields, &["condition"], &["condition"], reporter) else { return };
        let Some(condition) = fields.required("condition", reporter) else { return };
        let appends = change.appends("condition");
        let visibility = self.order;
        match (self.macros.get_mut(&name.value), appends) {
            (Some(definition), true) => {
                definition.condition.parts.push(condition);
                definition.visibility = visibility;
            }
            (Some(definition), false) => {
                definition.condition = condition.into();
                definition.name = name;
                definition.visibility = visibility;
            }
            (None, true) => unknown_target(fields, "macro", &name, self.macros.names(), reporter),
            (None, false) => {
                let text = name.value.clone();
                let condition = condition.into();
                self.macros.push(&text, MacroDefinition { name, condition, index: visibility, visibility });
            }
        }
    }

    fn rule(&mut self, fields: &Fields<'_>, reporter: &mut Reporter<'_>) {
        let Some(name) = fields.required("rule", reporter) else { return };
        let replaceable: Vec<&str> = APPENDABLE.iter().chain(&REPLACEABLE).copied().collect();
        let Some(change) = change(fields, &APPENDABLE, &replaceable, reporter) else { return };
        let is_toggle = matches!(change, Change::Define)
            && fields.has("enabled")
            && !["condition", "output", "desc", "priority"].into_iter().any(|key| fields.has(key));
        if is_toggle {
            self.toggle(fields, &name, reporter);
            return;
        }
        match change {
            Change::Define => self.define_rule(fields, name, reporter),
            Change::Append => {
                let allowed = ["condition", "exceptions"];
                let keys = allowed.iter().filter(|key| fields.has(key));
                let keys: BTreeMap<String, OverrideKind> =
                    keys.map(|key| ((*key).to_owned(), OverrideKind::Append)).collect();
                if keys.is_empty() {
                    let message = "nothing is appended to the rule: there is neither `condition` nor `exceptions`";
                    let hint = Some("use `override` for what else is to change".to_owned());
                    reporter.warning(Code::LoadAppendNoValues, fields.place(), &fields.item, message, hint);
                }
                self.override_rule(fields, &name, &keys, reporter);
            }
            Change::Override(keys) => self.override_rule(fields, &name, &keys, reporter),
        }
    }

    fn toggle(&mut self, fields: &Fields<'_>, name: &Scalar, reporter: &mut Reporter<'_>) {
        let enabled = fields.boolean("enabled", true, reporter);
        let hint = Some("write `override: {enabled: replace}` beside it".to_owned());
        let message = "a rule with `enabled` alone, to switch an earlier rule";
        reporter.warning(Code::LoadDeprecatedItem, fields.place(), &fields.item, message, hint);
        match self.rules.get_mut(&name.value) {
            Some(rule) => rule.enabled = enabled,
            None => unknown_target(fields, "rule", name, self.rules.names(), reporter),
        }
    }

    fn define_rule(&mut self, fields: &Fields<'_>, name: Scalar, reporter: &mut Reporter<'_>) {
        let description = fields.required("desc", reporter);
        let condition = fields.required("condition", reporter);
        let output = fields.required("output", reporter);
        let priority = fields.required("priority", reporter).and_then(|text| priority(fields, &text, reporter));
        let tags = tags(fields, reporter);
        let exceptions = exceptions::read(fields, reporter);
        let source = fields.scalar("source", reporter);
        let has_source = source.is_some();
        let extension = extension::read(fields, reporter);
        if let Some(node) = fields.get("cairn").filter(|node| !node.is_null()) {
            let message = "Falco ignores `cairn`: there the rule alerts on each event that its condition holds for";
            reporter.passed_over(fields.place_of(node), &fields.item, message);
        }
        let is_extension_broken = extension.is_none() && fields.get("cairn").is_some_and(|node| !node.is_null());
        let is_broken = description.is_none() || output.is_none() || priority.is_none() || is_extension_broken;
        let Some(condition) = condition else { return };
        let source = source.unwrap_or_else(|| Scalar { value: "syscall".to_owned(), ..name.clone() });
        let rule = RuleDefinition {
            description: description.map(Joined::from).unwrap_or_default(),
            condition: condition.into(),
            output: output.map(Joined::from).unwrap_or_default(),
            priority: priority.unwrap_or(Priority::Debug),
            is_broken,
            tags,
            enabled: fields.boolean("enabled", true, reporter),
            source,
            has_source,
            exceptions,
            warn_evttypes: fields.boolean("warn_evttypes", true, reporter),
            skip_if_unknown_filter: fields.boolean("skip-if-unknown-filter", false, reporter),
            extension,
            name: name.clone(),
        };
        let is_full = self.rules.items.len() >= RULES_MAX;
        match self.rules.get_mut(&name.value) {
            Some(before) if rule.has_source && before.source.value != rule.source.value => {
                let message = format!(
                    "the rule was defined with source `{}`, now with `{}`",
                    before.source.value, rule.source.value
                );
                reporter.error(
                    Code::LoadErrValidate,
                    rule.source.place(),
                    &fields.item,
                    message,
                    Some("give it another name".to_owned()),
                );
            }
            // A redefinition keeps its place in the order.
            Some(before) => *before = rule,
            None if is_full => {
                reporter.error(
                    Code::CairnLimit,
                    fields.place(),
                    &fields.item,
                    format!("more than {RULES_MAX} rules"),
                    None,
                );
            }
            None => self.rules.push(&name.value, rule),
        }
    }

    fn override_rule(
        &mut self,
        fields: &Fields<'_>,
        name: &Scalar,
        keys: &BTreeMap<String, OverrideKind>,
        reporter: &mut Reporter<'_>,
    ) {
        let Some(position) = self.rules.position(&name.value) else {
            unknown_target(fields, "rule", name, self.rules.names(), reporter);
            return;
        };
        let rule = &mut self.rules.items[position];
        for (key, kind) in keys {
            let appends = *kind == OverrideKind::Append;
            match key.as_str() {
                "condition" => merge(&mut rule.condition, fields.scalar(key, reporter), appends),
                "output" => merge(&mut rule.output, fields.scalar(key, reporter), appends),
                "desc" => merge(&mut rule.description, fields.scalar(key, reporter), appends),
                "tags" => {
                    let mut tags = tags(fields, reporter);
                    if appends {
                        tags.append(&mut rule.tags);
                        tags.sort();
                        tags.dedup();
                    }
                    rule.tags = tags;
                }
                "exceptions" => {
                    let read = exceptions::read(fields, reporter);
                    if appends {
                        exceptions::append(&mut rule.exceptions, read, fields, reporter);
                    } else {
                        rule.exceptions = read;
                    }
                }
                "priority" => {
                    let text = fields.scalar(key, reporter);
                    rule.priority = text.and_then(|text| priority(fields, &text, reporter)).unwrap_or(rule.priority);
                }
                "cairn" => {
                    let place = fields.get(key).map_or(fields.place(), |node| fields.place_of(node));
                    let hint = "override it in a file that Falco does not read";
                    reporter.not_loaded(place, &fields.item, "Falco knows no override of `cairn`", hint);
                    rule.extension = extension::read(fields, reporter);
                }
                "enabled" => rule.enabled = fields.boolean(key, rule.enabled, reporter),
                "warn_evttypes" => rule.warn_evttypes = fields.boolean(key, rule.warn_evttypes, reporter),
                "skip-if-unknown-filter" => {
                    rule.skip_if_unknown_filter = fields.boolean(key, rule.skip_if_unknown_filter, reporter);
                }
                // `capture` asks Falco to record the system's calls around an alert: nothing here does.
                _ => {}
            }
        }
    }
}

impl Change {
    fn appends(&self, key: &str) -> bool {
        match self {
            Self::Define => false,
            Self::Append => true,
            Self::Override(keys) => keys.get(key) == Some(&OverrideKind::Append),
        }
    }
}

fn merge(into: &mut Joined, scalar: Option<Scalar>, appends: bool) {
    let Some(scalar) = scalar else { return };
    if !appends {
        into.parts.clear();
    }
    into.parts.push(scalar);
}

/// An item's name, which conditions must be able to refer to.
fn named(fields: &Fields<'_>, key: &str, code: Code, reporter: &mut Reporter<'_>) -> Option<Scalar> {
    let name = fields.required(key, reporter)?;
    let (is_usable, hint) = match key {
        "list" => (is_bare_word(&name.value), "use a name without blanks and ( ) , = \" '"),
        _ => (is_identifier(&name.value), "use letters, digits and underscores, a letter first"),
    };
    if !is_usable {
        let message = format!("no condition can refer to a {key} named `{}`", name.value);
        let hint = Some(hint.to_owned());
        reporter.warning(code, name.place(), &fields.item, message, hint);
    }
    Some(name)
}

/// How an item changes what is there; `None` when that cannot be told.
fn change(
    fields: &Fields<'_>,
    appendable: &[&str],
    replaceable: &[&str],
    reporter: &mut Reporter<'_>,
) -> Option<Change> {
    let appends = fields.boolean("append", false, reporter);
    let is_empty = |node: &&Node| node.is_null() || node.mapping().is_some_and(<[_]>::is_empty);
    let Some(node) = fields.get("override").filter(|node| !is_empty(node)) else {
        if !appends {
            return Some(Change::Define);
        }
        let place = fields.get("append").map_or(fields.place(), |node| fields.place_of(node));
        let hint = Some(format!("write `override: {{{}: append}}` instead", appendable[0]));
        reporter.warning(Code::LoadDeprecatedItem, place, &fields.item, "`append: true` is deprecated", hint);
        return Some(Change::Append);
    };
    if appends {
        fields.wrong(
            node,
            "`append: true` and `override` together".to_owned(),
            Some("remove `append`".to_owned()),
            reporter,
        );
        return None;
    }
    let Some(pairs) = node.mapping() else {
        fields.wrong(
            node,
            "`override` must be a mapping".to_owned(),
            Some("write `override: {condition: append}`".to_owned()),
            reporter,
        );
        return None;
    };
    let mut keys = BTreeMap::new();
    for (key, value) in pairs {
        let name = key.text().unwrap_or_default();
        let (kind, allowed) = match value.text() {
            Some("append") => (OverrideKind::Append, appendable),
            Some("replace") => (OverrideKind::Replace, replaceable),
            _ => {
                fields.wrong(value, format!("override of `{name}` must be `append` or `replace`"), None, reporter);
                continue;
            }
        };
        if !allowed.contains(&name) {
            let hint = suggest::hint(name, allowed.iter().copied());
            let hint = hint.or_else(|| Some(format!("this may be done to: {}", allowed.join(", "))));
            fields.wrong(key, format!("`{name}` cannot be overridden so"), hint, reporter);
        } else if !fields.has(name) {
            fields.wrong(
                key,
                format!("override of `{name}`, which the item does not have"),
                Some(format!("add `{name}:`")),
                reporter,
            );
        } else {
            keys.insert(name.to_owned(), kind);
        }
    }
    for (key, at) in fields.keys() {
        let is_listed = pairs.iter().any(|(listed, _)| listed.text() == Some(key));
        if !is_listed && replaceable.contains(&key) {
            let hint = Some(format!("add `{key}: append` or `{key}: replace` to `override`, or remove the key"));
            fields.wrong(at, format!("`{key}` is given but not overridden"), hint, reporter);
        }
    }
    Some(Change::Override(keys))
}

fn unknown_target<'a>(
    fields: &Fields<'_>,
    kind: &str,
    name: &Scalar,
    known: impl Iterator<Item = &'a str>,
    reporter: &mut Reporter<'_>,
) {
    let hint = suggest::hint(&name.value, known)
        .or_else(|| Some("files are read in order: define it in an earlier one".to_owned()));
    let message = format!("there is no {kind} `{}` to change", name.value);
    reporter.error(Code::LoadErrValidate, name.place(), &fields.item, message, hint);
}

pub(super) fn priority(fields: &Fields<'_>, text: &Scalar, reporter: &mut Reporter<'_>) -> Option<Priority> {
    match text.value.parse() {
        Ok(priority) => Some(priority),
        Err(error) => {
            let hint = suggest::hint(&text.value, Priority::ALL.iter().map(|priority| priority.as_str()));
            reporter.error(Code::LoadErrYamlValidate, text.place(), &fields.item, format!("{error}"), hint);
            None
        }
    }
}

pub(super) fn tags(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Vec<String> {
    let scalars = fields.scalars("tags", reporter).unwrap_or_default();
    let mut tags: Vec<String> = scalars.into_iter().map(|tag| tag.value).collect();
    tags.sort();
    tags.dedup();
    tags
}

/// `0.57.0`, or a bare number N for 0.N.0.
fn version(text: &str) -> Option<(u64, u64, u64)> {
    if let Ok(minor) = text.parse::<u64>() {
        return Some((0, minor, 0));
    }
    let mut parts = text.split('.').map(str::parse::<u64>);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Some((major, minor, patch)),
        _ => None,
    }
}

fn shown((major, minor, patch): (u64, u64, u64)) -> String {
    format!("{major}.{minor}.{patch}")
}

fn engine_version(fields: &Fields<'_>, value: &Node, reporter: &mut Reporter<'_>) {
    let Some(wanted) = value.text().and_then(version) else {
        fields.wrong(value, "not a version".to_owned(), Some("write it as `0.57.0`".to_owned()), reporter);
        return;
    };
    if wanted.0 != ENGINE_VERSION.0 || wanted > ENGINE_VERSION {
        let message = format!("the file requires engine {}, this is {}", shown(wanted), shown(ENGINE_VERSION));
        let hint = Some("use a version of the file for this engine, or a newer cairn".to_owned());
        reporter.error(Code::LoadErrValidate, fields.place_of(value), &fields.item, message, hint);
    }
}

fn plugin_versions(fields: &Fields<'_>, value: &Node, reporter: &mut Reporter<'_>) {
    let Some(plugins) = value.sequence() else {
        fields.wrong(value, "`required_plugin_versions` must be a sequence".to_owned(), None, reporter);
        return;
    };
    for plugin in plugins {
        let mut choices = vec![plugin];
        let alternatives = plugin.mapping().into_iter().flatten().find(|(key, _)| key.text() == Some("alternatives"));
        choices.extend(alternatives.and_then(|(_, value)| value.sequence()).into_iter().flatten());
        let mut wanted = Vec::new();
        for choice in choices {
            let value = |name: &str| {
                let pair = choice.mapping().into_iter().flatten().find(|(key, _)| key.text() == Some(name));
                pair.and_then(|(_, value)| value.text())
            };
            let (Some(name), Some(version)) = (value("name"), value("version").and_then(version)) else {
                fields.wrong(choice, "a plugin needs `name` and `version`".to_owned(), None, reporter);
                return;
            };
            wanted.push((name, version));
        }
        let has = |(name, version): &(&str, (u64, u64, u64))| {
            PLUGIN_VERSIONS.iter().any(|(own, have)| own == name && have.0 == version.0 && have >= version)
        };
        if !wanted.iter().any(has) {
            let names: Vec<String> =
                wanted.iter().map(|(name, version)| format!("{name} {}", shown(*version))).collect();
            let own: Vec<String> =
                PLUGIN_VERSIONS.iter().map(|(name, version)| format!("{name} {}", shown(*version))).collect();
            let message =
                format!("the file requires plugin {}, this engine has {}", names.join(" or "), own.join(", "));
            reporter.error(Code::LoadErrValidate, fields.place_of(plugin), &fields.item, message, None);
        }
    }
}
