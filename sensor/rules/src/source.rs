//! Event sources: the kernel, and anything that sends JSON.
//!
//! A source is data: a name, and a table of fields with the paths they are read from. `syscall` is the kernel's, whose fields stand in
//! `fields`; `k8s_audit`, `aws_cloudtrail`, `okta`, `github` and `json` are built in as YAML (`source/*.yaml`) in the form in which a rules file
//! declares others (`- cairn_source: NAME`; `RULES.md`, Sources). A rule is for one source (`source:`), and may use its fields and those
//! that every source has (`evt.time`, `json.value[/path]`, ...).
//!
//! # What it trusts
//! Nothing. A document comes from whoever can write to the log, so its size and depth are bounded before it is parsed
//! ([`parse_document`]); reading a field visits each of its values once at most, and builds texts of bounded length. A declaration comes from a
//! rules file: its fields refer only to earlier ones, and what one may cost is bounded.

mod declare;
mod extract;
mod intake;
mod pointer;
#[cfg(test)]
mod tests;
mod time;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value as Json;

pub(crate) use declare::{KEYS, read as read_declaration};
use extract::{Extractor, Read};
pub use intake::{Intake, IntakeError, LineError, Taken};
use pointer::Pointer;

use crate::alert::Alert;
use crate::compile::TypeSet;
use crate::condition::FieldRef;
use crate::event::{Document, Event, EventKind, EventType, SYSCALL};
use crate::fields::{self, FieldArgument, FieldError, INDEX_MAX, Kind, Resolved, Takes, Value};
use crate::limits::{DOCUMENT_BATCH_MAX, DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX};
use crate::load::reader::Fields;
use crate::problem::{self, Reporter};
use crate::state::fields::{self as state, Shape};
use crate::suggest;

/// One source of events.
#[derive(Debug)]
pub struct Source {
    name: String,
    doc: String,
    fields: BTreeMap<String, Arc<DocumentField>>,
    /// Where several events stand in one body.
    batch: Vec<Pointer>,
    time: Vec<Pointer>,
    unit: time::Unit,
    /// What names an event where it comes from.
    id: Option<Arc<Extractor>>,
}

/// The sources that rules may be for, in order of definition; `syscall` first.
#[derive(Debug, Clone)]
pub struct Sources {
    all: Vec<Arc<Source>>,
}

/// A field of a source of documents, for reports.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceField {
    /// Its name, with `[]` where it takes an argument.
    pub name: String,
    /// What values it has: `text`, `number`, `boolean` or `list of texts`.
    pub kind: &'static str,
    /// What it is.
    pub doc: String,
    /// Do its documents hold it? If not, checks on it are false.
    pub supplied: bool,
    /// Does it tell who a person is? Whoever records an alert hides its value.
    pub personal: bool,
}

/// Why bytes are no events of a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// More bytes than [`DOCUMENT_BYTES_MAX`].
    #[error("a document of {bytes} bytes, more than {DOCUMENT_BYTES_MAX}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// More nested collections than [`DOCUMENT_DEPTH_MAX`].
    #[error("a document with more than {DOCUMENT_DEPTH_MAX} nested objects and arrays")]
    TooDeep,
    /// Not JSON.
    #[error("not JSON")]
    Json(#[source] serde_json::Error),
    /// An event is an object.
    #[error("{}an event of source `{source_name}` is an object, not {kind}", at(path))]
    NotAnObject {
        /// The source.
        source_name: String,
        /// What it is instead.
        kind: &'static str,
        /// Where it stands in the body, as a JSON Pointer; empty for the body itself.
        path: String,
    },
    /// More events than [`DOCUMENT_BATCH_MAX`].
    #[error("{events} events in one body, more than {DOCUMENT_BATCH_MAX}")]
    TooMany {
        /// How many it has.
        events: usize,
    },
    /// Kernel events are no documents.
    #[error("source `{SYSCALL}` has no documents")]
    Kernel,
}

/// The place in front of what is wrong there.
fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("at {path}: ") }
}

/// A field that is read from documents.
#[derive(Debug)]
pub(crate) struct DocumentField {
    pub(crate) name: String,
    kind: Kind,
    argument: Takes,
    /// An argument that is a key or a path, even where it looks like a number.
    argument_is_text: bool,
    doc: String,
    /// False for one that no document holds: a rule that uses it is told so.
    is_supplied: bool,
    is_personal: bool,
    pub(crate) extractor: Arc<Extractor>,
}

/// Fields that are read from any event, whatever its source.
const COMMON: [&str; 20] = [
    "evt.num",
    "evt.type",
    "evt.time",
    "evt.time.s",
    "evt.time.iso8601",
    "evt.datetime",
    "evt.datetime.s",
    "evt.rawtime",
    "evt.rawtime.s",
    "evt.rawtime.ns",
    "evt.reltime",
    "evt.reltime.s",
    "evt.reltime.ns",
    "evt.source",
    "evt.hostname",
    "evt.is_async",
    "evt.asynctype",
    "evt.count",
    "evt.category",
    "evt.outputtime",
];

const BUILT_IN: [(&str, &str); 5] = [
    ("k8s_audit.yaml", include_str!("source/k8s_audit.yaml")),
    ("aws_cloudtrail.yaml", include_str!("source/aws_cloudtrail.yaml")),
    ("okta.yaml", include_str!("source/okta.yaml")),
    ("github.yaml", include_str!("source/github.yaml")),
    ("json.yaml", include_str!("source/json.yaml")),
];

static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let files = BUILT_IN.iter().map(|(path, text)| problem::Source { path, text });
    let mut reporter = Reporter::new(files.collect());
    let mut all = vec![Arc::new(Source::kernel())];
    for (file, (_, text)) in BUILT_IN.iter().enumerate() {
        let documents = crate::yaml::parse(text).expect("invariant: built-in sources are YAML");
        for node in documents.iter().filter_map(|document| document.sequence()).flatten() {
            let pairs = node.mapping().expect("invariant: a built-in source is a mapping");
            let fields = Fields::own(node, pairs, file, "source".to_owned(), &KEYS, &mut reporter);
            all.extend(read_declaration(&fields, &mut reporter).map(Arc::new));
        }
    }
    let (problems, _) = reporter.finish();
    assert!(problems.is_empty(), "invariant: built-in sources are right: {}", problem::render(&problems));
    Sources { all }
});

impl Default for Sources {
    fn default() -> Self {
        SOURCES.clone()
    }
}

impl Sources {
    /// Those that are built in.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &SOURCES
    }

    /// A source by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Source>> {
        self.all.iter().find(|source| source.name == name)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.all.iter().map(Arc::as_ref)
    }

    pub(crate) fn at(&self, index: usize) -> &Arc<Source> {
        &self.all[index]
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|source| source.name == name)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn push(&mut self, source: Source) {
        self.all.push(Arc::new(source));
    }

    /// The fields that a condition for one of the sources may use.
    pub(crate) fn vocabulary(&self, index: usize) -> Vocabulary<'_> {
        Vocabulary { sources: self, source: self.at(index), state: None }
    }
}

/// The fields that a condition or an output may use: those of its source. It knows the other sources' too, to say whose a field is.
#[derive(Clone, Copy)]
pub(crate) struct Vocabulary<'s> {
    sources: &'s Sources,
    source: &'s Source,
    /// What the rule asks of events before, where its output is checked.
    state: Option<Shape>,
}

impl Vocabulary<'_> {
    /// The kernel's fields.
    #[cfg(test)]
    pub(crate) fn kernel() -> Vocabulary<'static> {
        SOURCES.vocabulary(0)
    }

    /// The same for the output of a rule over more than one event.
    pub(crate) fn with_state(self, state: Option<Shape>) -> Self {
        Self { state, ..self }
    }

    /// Checks a field and its argument.
    pub(crate) fn resolve(&self, field: &FieldRef) -> Result<Resolved, FieldError> {
        if state::is_ours(&field.name) {
            return state::resolve(field, self.state, |inner| self.resolve(inner));
        }
        match self.source.resolve(field) {
            Err(FieldError::Unknown { name, near }) => {
                let owner = self.sources.iter().find(|source| source.has_field(&name));
                Err(match owner {
                    Some(owner) => FieldError::OfAnotherSource { name, owner: owner.name.clone() },
                    None => FieldError::Unknown { name, near },
                })
            }
            other => other,
        }
    }

    /// The longest known field a text begins with, as output templates are read; its length in bytes.
    pub(crate) fn longest_known(&self, text: &str) -> Option<usize> {
        if state::is_ours(text) {
            return state::longest_known(text, |inner| self.longest_known(inner));
        }
        if self.source.is_kernel() {
            return fields::longest_known(text);
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
        (1..=end).rev().find(|end| text.get(..*end).is_some_and(|name| self.source.has_field(name)))
    }

    /// The nearest name to one that is not known, as a hint.
    pub(crate) fn hint(&self, name: &str) -> Option<String> {
        if state::is_ours(name) {
            return state::hint(name, self.state);
        }
        let other = self.sources.iter().find(|source| source.has_field(name));
        let hint =
            |owner: &Source| format!("it is a field of source `{0}`: write `source: {0}` in the rule", owner.name);
        other.map(hint).or_else(|| self.source.nearest(name))
    }
}

impl Source {
    fn kernel() -> Self {
        Self {
            name: SYSCALL.to_owned(),
            doc: "What processes do on a machine: system calls and what the kernel says besides.".to_owned(),
            fields: BTreeMap::new(),
            batch: Vec::new(),
            time: Vec::new(),
            unit: time::Unit::default(),
            id: None,
        }
    }

    /// Its name, as a rule's `source` gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    #[must_use]
    pub fn doc(&self) -> &str {
        &self.doc
    }

    /// Is it the kernel's, rather than one of documents?
    #[must_use]
    pub fn is_kernel(&self) -> bool {
        self.name == SYSCALL
    }

    /// Its own fields, in order of name; none for the kernel's, which [`crate::field_documentation`] lists.
    pub fn fields(&self) -> impl Iterator<Item = SourceField> + '_ {
        self.fields.values().map(|field| SourceField {
            name: if field.argument == Takes::Nothing { field.name.clone() } else { format!("{}[]", field.name) },
            kind: field.kind.as_str(),
            doc: field.doc.clone(),
            supplied: field.is_supplied,
            personal: field.is_personal,
        })
    }

    /// Does the field tell who a person is, as an output writes it, in a transformer or not? Besides the fields that are declared so,
    /// `json.value` where it leads to what one of them shows, or to what holds that, and what shows the document whole or in short.
    ///
    /// The kernel's fields are not told here: which of them are personal is the record's affair.
    #[must_use]
    pub fn is_personal(&self, written: &str) -> bool {
        let mut is_in_argument = false;
        let mut parts = written.split(|c: char| {
            is_in_argument = c == '[' || (is_in_argument && c != ']');
            !is_in_argument && matches!(c, '(' | ')' | ',' | ' ' | '"' | '\'')
        });
        parts.any(|field| self.is_personal_field(field))
    }

    /// Which of an alert's fields [`Source::is_personal`] is true of: a record of the alert hides their values.
    #[must_use]
    pub fn personal_fields(&self, alert: &Alert) -> Vec<String> {
        alert.fields.keys().filter(|field| self.is_personal(field)).cloned().collect()
    }

    fn is_personal_field(&self, written: &str) -> bool {
        // That of an earlier event tells no less.
        let written = written.strip_prefix(state::FIRST).unwrap_or(written);
        let (name, argument) = written.split_once('[').unwrap_or((written, ""));
        let path = argument.strip_suffix(']').unwrap_or(argument);
        match name {
            "json.value" | "jevt.value" => {
                let personal = self.fields.values().filter(|field| field.is_personal);
                personal.flat_map(|field| field.extractor.pointers()).any(|pointer| pointer.overlaps(path))
            }
            "json.obj" | "jevt.obj" | "evt.plugininfo" => true,
            _ => self.fields.get(name).is_some_and(|field| field.is_personal),
        }
    }

    /// Does a rule for this source know the field? Without its argument in `[]`.
    #[must_use]
    pub fn has_field(&self, name: &str) -> bool {
        if self.is_kernel() {
            return fields::is_known(name);
        }
        self.fields.contains_key(name) || COMMON.contains(&name)
    }

    /// Can the field be read from its events? The name as a rule writes it.
    pub(crate) fn supplies(&self, written: &str) -> bool {
        let name = written.split('[').next().unwrap_or(written);
        self.fields.get(name).map_or_else(|| fields::is_readable(name), |field| field.is_supplied)
    }

    /// The types its events have; all for the kernel's.
    pub(crate) fn event_types(&self) -> TypeSet {
        if self.is_kernel() { TypeSet::full() } else { TypeSet::of([EventType::PLUGINEVENT.name()]) }
    }

    fn resolve(&self, field: &FieldRef) -> Result<Resolved, FieldError> {
        if self.is_kernel() || COMMON.contains(&field.name.as_str()) {
            return fields::resolve(field);
        }
        let Some(own) = self.fields.get(&field.name) else {
            return Err(FieldError::Unknown { name: field.name.clone(), near: self.nearest(&field.name) });
        };
        let name = || own.name.clone();
        let argument = match (&field.argument, own.argument) {
            (None, Takes::Required) => return Err(FieldError::ArgumentMissing { name: name() }),
            (Some(_), Takes::Nothing) => return Err(FieldError::ArgumentNotTaken { name: name() }),
            (None, _) => FieldArgument::None,
            (Some(text), _) if own.argument_is_text => FieldArgument::Key(text.as_str().into()),
            (Some(text), _) => match text.parse::<usize>().ok().filter(|index| *index <= INDEX_MAX) {
                Some(index) => FieldArgument::Index(index),
                None => return Err(FieldError::ArgumentNotIndex { name: name(), argument: text.clone() }),
            },
        };
        let read = own.is_supplied.then(|| fields::Read::Document(Arc::clone(own)));
        Ok(Resolved { name: field.to_string(), kind: own.kind, argument, read })
    }

    fn nearest(&self, name: &str) -> Option<String> {
        if self.is_kernel() {
            return fields::nearest(name);
        }
        suggest::hint(name, self.fields.keys().map(String::as_str).chain(COMMON))
    }

    /// The events of a body as the source sends it: one event, an array of them, or what the source's `batch` says.
    ///
    /// `received_ns` is the time of an event that does not say its own, in nanoseconds since the epoch.
    ///
    /// # Errors
    /// The bytes are too many, nested too deep, or not JSON; an event is no object; the source is the kernel's.
    pub fn read(&self, bytes: &[u8], received_ns: u64) -> Result<Vec<Event>, DocumentError> {
        self.events(parse_document(bytes)?, received_ns)
    }

    /// The events of a body that is parsed already, as [`Source::read`].
    ///
    /// # Errors
    /// An event is no object; there are too many; the source is the kernel's.
    pub fn events(&self, body: Json, received_ns: u64) -> Result<Vec<Event>, DocumentError> {
        if self.is_kernel() {
            return Err(DocumentError::Kernel);
        }
        let (bodies, place) = match body {
            Json::Array(bodies) => (bodies, Some(String::new())),
            mut body => {
                let batch = self.batch.iter().find_map(|it| Some((it.take_array(&mut body)?, Some(it.to_string()))));
                batch.unwrap_or_else(|| (vec![body], None))
            }
        };
        if bodies.len() > DOCUMENT_BATCH_MAX {
            return Err(DocumentError::TooMany { events: bodies.len() });
        }
        let event = |(number, body): (usize, Json)| {
            let path = || place.as_ref().map_or_else(String::new, |place| format!("{place}/{number}"));
            self.event(body, received_ns, path)
        };
        bodies.into_iter().enumerate().map(event).collect()
    }

    fn event(&self, body: Json, received_ns: u64, path: impl Fn() -> String) -> Result<Event, DocumentError> {
        let kind = match &body {
            Json::Object(_) => {
                let says = self.time.iter().find_map(|it| time::read(it.first(&body, &body)?, self.unit));
                let document = Document { source: self.name.clone(), body };
                let (time_ns, kind) = (says.unwrap_or(received_ns), EventKind::Document(Box::new(document)));
                return Ok(Event { time_ns, cpu: 0, tid: 0, pid: 0, kind });
            }
            Json::Array(_) => "an array",
            Json::String(_) => "a text",
            Json::Number(_) => "a number",
            Json::Bool(_) => "a boolean",
            Json::Null => "null",
        };
        Err(DocumentError::NotAnObject { source_name: self.name.clone(), kind, path: path() })
    }

    /// What names one of its events where it comes from, if it says so: with the source's name, what makes an event that is sent twice
    /// one event.
    #[must_use]
    pub fn foreign_id(&self, event: &Event) -> Option<String> {
        match self.id.as_ref()?.read(event, &FieldArgument::None)? {
            Value::Text(text) => Some(String::from_utf8_lossy(&text).into_owned()),
            _ => None,
        }
    }

    /// Fields that every source of documents has: the document itself by any path, and who brought it.
    fn with_fields_of_any(mut self, plugin: &str, info: Option<Arc<Extractor>>) -> Self {
        let info = info.unwrap_or_else(|| Arc::new(Extractor::plain(Kind::Text, Read::Line)));
        for prefix in ["json", "jevt"] {
            let value = Arc::new(Extractor::plain(Kind::Text, Read::Argument));
            self.add(&format!("{prefix}.value"), Takes::Required, "the value at a JSON Pointer, as text", value);
            let whole = Arc::new(Extractor::plain(Kind::Text, Read::Whole));
            self.add(&format!("{prefix}.obj"), Takes::Nothing, "the whole document, indented", whole);
            let time = Arc::new(Extractor::plain(Kind::Text, Read::Time));
            self.add(&format!("{prefix}.rawtime"), Takes::Nothing, "the event's time in nanoseconds", time);
        }
        let plugin = Arc::new(Extractor::constant(plugin));
        self.add("evt.pluginname", Takes::Nothing, "Falco's name for what brings such events", plugin);
        self.add("evt.plugininfo", Takes::Nothing, "the event in short", info);
        self
    }

    fn add(&mut self, name: &str, argument: Takes, doc: &str, extractor: Arc<Extractor>) {
        let (name, doc) = (name.to_owned(), doc.to_owned());
        let kind = extractor.kind;
        let field = DocumentField {
            name,
            kind,
            argument,
            argument_is_text: true,
            doc,
            is_supplied: true,
            is_personal: false,
            extractor,
        };
        // A source may declare one of these names itself.
        self.fields.entry(field.name.clone()).or_insert_with(|| Arc::new(field));
    }
}

/// Parses one document within its bounds.
///
/// # Errors
/// The bytes are too many, nested too deep, or not JSON.
pub fn parse_document(bytes: &[u8]) -> Result<Json, DocumentError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentError::TooLarge { bytes: bytes.len() });
    }
    if depth_is_past(bytes, DOCUMENT_DEPTH_MAX) {
        return Err(DocumentError::TooDeep);
    }
    serde_json::from_slice(bytes).map_err(DocumentError::Json)
}

/// Do brackets outside of texts nest deeper? Counted before parsing, which would recurse.
fn depth_is_past(bytes: &[u8], max: usize) -> bool {
    let (mut depth, mut is_in_text, mut is_escaped) = (0_usize, false, false);
    for byte in bytes {
        match (byte, is_in_text) {
            (_, true) if is_escaped => is_escaped = false,
            (b'\\', true) => is_escaped = true,
            (b'"', _) => is_in_text = !is_in_text,
            (b'[' | b'{', false) => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            (b']' | b'}', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
