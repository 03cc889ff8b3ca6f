//! Events of a source that is not the kernel, as a case writes them: `{source: k8s_audit, document: {...}}`, or `file: NAME` for a
//! file with one on each line.

use std::borrow::Cow;
use std::sync::Arc;

use crate::event::{Document, Event, EventKind};
use crate::limits::{CASE_EVENTS_MAX, SOURCES_MAX};
use crate::load::reader::Fields;
use crate::problem::Reporter;
use crate::rule_set::RuleSet;
use crate::source::{self, Source};
use crate::suggest;
use crate::yaml::Node;

use super::Attachment;

/// The file that a case names, its path beginning at the folder of the case's file.
pub(super) fn attached<'f>(
    name: &str,
    case_path: &str,
    attachments: &'f [Attachment<'f>],
    node: &Node,
    fields: &Fields<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<&'f Attachment<'f>> {
    let folder = case_path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let found = attachments.iter().find(|file| file.path == path);
    if found.is_none() {
        let hint = suggest::hint(&path, attachments.iter().map(|file| file.path));
        let hint = hint.or_else(|| Some("its path begins at the folder of the case's file".to_owned()));
        fields.wrong(node, format!("there is no file `{path}`"), hint, reporter);
    }
    found
}

/// Reads the documents of one entry of `events`. Which source it is and what time its documents say is worked out when the case runs,
/// with the rules at hand: they may declare the source.
pub(super) fn documents(
    fields: &Fields<'_>,
    body: &Node,
    case_path: &str,
    attachments: &[Attachment<'_>],
    reporter: &mut Reporter<'_>,
) -> Option<Vec<EventKind>> {
    let Some(source) = fields.scalar("source", reporter) else {
        let hint = Some("add `source: k8s_audit`, or whose event it is".to_owned());
        fields.wrong(body, "a document needs `source`".to_owned(), hint, reporter);
        return None;
    };
    let kind = |body| EventKind::Document(Box::new(Document { source: source.value.clone(), body }));
    if !fields.has("file") {
        if body.mapping().is_none() && body.sequence().is_none() {
            let message = format!("a document is a mapping, not {}", body.kind());
            fields.wrong(body, message, None, reporter);
            return None;
        }
        return Some(vec![kind(body.to_json())]);
    }
    let name = fields.scalar("file", reporter)?.value;
    let file = attached(&name, case_path, attachments, body, fields, reporter)?;
    let path = file.path;
    let Ok(text) = std::str::from_utf8(file.bytes) else {
        fields.wrong(body, format!("`{path}` is not UTF-8"), None, reporter);
        return None;
    };
    let mut kinds = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match source::parse_document(line.as_bytes()) {
            Ok(body) if kinds.len() < CASE_EVENTS_MAX => kinds.push(kind(body)),
            Ok(_) => {
                let message = format!("`{path}` has more than {CASE_EVENTS_MAX} events");
                fields.wrong(body, message, Some("divide it".to_owned()), reporter);
                return None;
            }
            Err(error) => {
                let message = format!("line {} of `{path}`: {error}", number + 1);
                fields.wrong(body, message, Some("each line is one JSON object".to_owned()), reporter);
                return None;
            }
        }
    }
    Some(kinds)
}

/// A case's events as the engine takes them: documents with the time they say, and those that stand in one body each for itself.
pub(super) fn complete<'c>(rules: &RuleSet, events: &'c [Event]) -> Result<Vec<Cow<'c, Event>>, Incomplete> {
    let mut all = Vec::with_capacity(events.len());
    for event in events {
        let EventKind::Document(document) = &event.kind else {
            all.push(Cow::Borrowed(event));
            continue;
        };
        let source = rules.sources().get(&document.source).filter(|source| !source.is_kernel());
        let Some(source) = source else { return Err(Incomplete::unknown(rules, &document.source)) };
        let complete = read(source, document, event.time_ns)?;
        all.extend(complete.into_iter().map(Cow::Owned));
    }
    Ok(all)
}

fn read(source: &Arc<Source>, document: &Document, time_ns: u64) -> Result<Vec<Event>, Incomplete> {
    source.events(document.body.clone(), time_ns).map_err(|error| Incomplete { reason: error.to_string(), hint: None })
}

/// Why a case cannot run with these rules.
pub(super) struct Incomplete {
    pub(super) reason: String,
    pub(super) hint: Option<String>,
}

impl Incomplete {
    fn unknown(rules: &RuleSet, name: &str) -> Self {
        let known: Vec<&str> =
            rules.sources().iter().filter(|it| !it.is_kernel()).map(Source::name).take(SOURCES_MAX).collect();
        let hint = suggest::hint(name, known.iter().copied());
        let hint = hint.or_else(|| Some(format!("sources of documents are: {}", known.join(", "))));
        Self { reason: format!("there is no source `{name}` of documents"), hint }
    }
}
