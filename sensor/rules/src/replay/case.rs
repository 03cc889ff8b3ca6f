//! Reads replay files.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::events::Machine;
use super::{Attachment, Captured, Case, Parsed, document};
use crate::container::Container;
use crate::engine::Names;
use crate::event::Text;
use crate::limits::{CASE_EVENTS_MAX, FILE_BYTES_MAX};
use crate::load::RulesFile;
use crate::load::reader::Fields;
use crate::problem::{Code, Place, Reporter, Source};
use crate::yaml::{self, Node};

/// Reads replay files. Every problem of all of them is reported, with its place.
pub fn parse(files: &[RulesFile<'_>]) -> Parsed {
    parse_with(files, &[])
}

/// As [`parse`], for cases that name other files: logs with a document on each line, captures.
pub fn parse_with(files: &[RulesFile<'_>], attachments: &[Attachment<'_>]) -> Parsed {
    let sources = files.iter().map(|file| Source { path: file.path, text: file.text }).collect();
    let mut reporter = Reporter::new(sources);
    let mut cases = Vec::new();
    for (index, file) in files.iter().enumerate() {
        if file.text.len() > FILE_BYTES_MAX {
            let message = format!("the file has {} bytes, more than {FILE_BYTES_MAX}", file.text.len());
            reporter.error(
                Code::CairnLimit,
                Place { file: index, offset: 0 },
                "",
                message,
                Some("divide it".to_owned()),
            );
            continue;
        }
        read_file(index, file, attachments, &mut cases, &mut reporter);
    }
    Parsed { cases, problems: reporter.finish().0 }
}

/// Reads a file that holds a single event, as a case would write it, or a sequence of events: a case that expects nothing. A file
/// with cases is read as [`parse_with`] reads it.
pub fn parse_events(file: RulesFile<'_>, attachments: &[Attachment<'_>]) -> Parsed {
    let documents = match yaml::parse(file.text) {
        Ok(documents) if file.text.len() <= FILE_BYTES_MAX => documents,
        _ => return parse_with(&[file], attachments),
    };
    let nodes: Vec<&Node> = match documents.as_slice() {
        [only] if only.mapping().is_some() => vec![only],
        [only] => only.sequence().unwrap_or_default().iter().collect(),
        _ => Vec::new(),
    };
    let keys = |node: &Node| -> Vec<String> {
        let pairs = node.mapping().unwrap_or_default();
        pairs.iter().filter_map(|(key, _)| key.text().map(str::to_owned)).collect()
    };
    let (Some(first), false) = (nodes.first(), nodes.iter().any(|node| keys(node).iter().any(|key| key == "name")))
    else {
        return parse_with(&[file], attachments);
    };
    let mut reporter = Reporter::new(vec![Source { path: file.path, text: file.text }]);
    let known = keys(first);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let pairs = first.mapping().unwrap_or_default();
    // Which keys an event may have is asked of each event.
    let fields = Fields::strict(first, pairs, 0, "event".to_owned(), &known, &mut reporter);
    let mut machine = Machine::new(file.path, attachments);
    for node in nodes.iter().take(CASE_EVENTS_MAX) {
        machine.event(node, &fields, &mut reporter);
    }
    let (processes, events) = machine.finish();
    let case = Case {
        name: "event".to_owned(),
        file: file.path.to_owned(),
        line: 1,
        processes,
        events,
        capture: None,
        names: Names::default(),
        expect: Vec::new(),
        counts: BTreeMap::new(),
        silent: Vec::new(),
    };
    let problems = reporter.finish().0;
    Parsed { cases: if problems.is_empty() { vec![case] } else { Vec::new() }, problems }
}

/// The files that the cases of a file name: captures and logs, as written. What is no file of cases names none.
pub fn named_files(text: &str) -> Vec<String> {
    let documents = if text.len() > FILE_BYTES_MAX { Vec::new() } else { yaml::parse(text).unwrap_or_default() };
    let value = |node: &Node, wanted: &str| -> Option<String> {
        let pairs = node.mapping()?;
        let (_, value) = pairs.iter().find(|(key, _)| key.text() == Some(wanted))?;
        value.text().map(str::to_owned)
    };
    let mut names = Vec::new();
    for case in documents.iter().flat_map(|document| document.sequence().unwrap_or_default()) {
        names.extend(value(case, "capture"));
        let pairs = case.mapping().unwrap_or_default();
        let events = pairs.iter().find(|(key, _)| key.text() == Some("events"));
        let events = events.and_then(|(_, events)| events.sequence()).unwrap_or_default();
        names.extend(events.iter().filter_map(|event| value(event, "file")));
    }
    names
}

fn read_file(
    index: usize,
    file: &RulesFile<'_>,
    attachments: &[Attachment<'_>],
    cases: &mut Vec<Case>,
    reporter: &mut Reporter<'_>,
) {
    let documents = match yaml::parse(file.text) {
        Ok(documents) => documents,
        Err(error) => {
            let code = if error.is_limit { Code::CairnLimit } else { Code::LoadErrYamlParse };
            reporter.error(code, Place { file: index, offset: error.offset }, "", error.message, None);
            return;
        }
    };
    let mut seen: HashMap<String, usize> = HashMap::new();
    for document in documents.iter().filter(|document| !document.is_null()) {
        let Some(nodes) = document.sequence() else {
            let place = Place { file: index, offset: document.range.start };
            let hint = Some("a replay file is a sequence of cases, each beginning with `- name:`".to_owned());
            let message = format!("the document is {}, not a sequence", document.kind());
            reporter.error(Code::CairnReplayCase, place, "", message, hint);
            continue;
        };
        for node in nodes {
            let errors_before = reporter.error_count();
            let case = read_case(node, index, file.path, attachments, reporter);
            let Some((case, name_place)) = case.filter(|_| reporter.error_count() == errors_before) else { continue };
            if let Some(line) = seen.insert(case.name.clone(), case.line) {
                let message = format!("a case of this name stands on line {line} already");
                reporter.error(Code::CairnReplayCase, name_place, "", message, Some("give it another name".to_owned()));
            }
            cases.push(case);
        }
    }
}

fn read_case(
    node: &Node,
    file: usize,
    path: &str,
    attachments: &[Attachment<'_>],
    reporter: &mut Reporter<'_>,
) -> Option<(Case, Place)> {
    let Some(pairs) = node.mapping() else {
        let place = Place { file, offset: node.range.start };
        let message = format!("a case is a mapping, not {}", node.kind());
        reporter.error(Code::CairnReplayCase, place, "", message, None);
        return None;
    };
    let name = pairs.iter().find(|(key, _)| key.text() == Some("name")).and_then(|(_, value)| value.text());
    let item = name.map_or_else(|| "case".to_owned(), |name| format!("case {name:?}"));
    let known = ["name", "events", "expect", "silent", "users", "groups", "hostname", "hosts", "containers", "capture"];
    let fields = Fields::strict(node, pairs, file, item, &known, reporter);
    let name = fields.required("name", reporter)?;
    let users = ids(&fields, "users", reporter);
    let groups = ids(&fields, "groups", reporter);
    let hostname = fields.scalar("hostname", reporter).map(|scalar| scalar.value);
    if !fields.has("expect") {
        let hint = Some("write `expect: [Rule name]`, or `expect: []` when no rule may alert".to_owned());
        reporter.error(Code::CairnReplayCase, fields.place(), &fields.item, "`expect` is missing", hint);
    }
    let texts = |key: &str, reporter: &mut Reporter<'_>| -> Vec<String> {
        fields.scalars(key, reporter).unwrap_or_default().into_iter().map(|scalar| scalar.value).collect()
    };
    let counts = counts(&fields, reporter);
    let expect = match &counts {
        Some(counts) => counts.keys().cloned().collect(),
        None => texts("expect", reporter),
    };
    let silent = texts("silent", reporter);
    if let Some(both) = silent.iter().find(|name| expect.contains(name)) {
        let message = format!("rule `{both}` is in `expect` and in `silent`");
        reporter.error(Code::CairnReplayCase, fields.place(), &fields.item, message, None);
    }
    let capture = capture(&fields, path, attachments, reporter);
    let mut machine = Machine::new(path, attachments);
    match fields.get("events").map(|node| (node, node.sequence())) {
        Some((node, _)) if fields.has("capture") => {
            let hint = Some("make two cases of it".to_owned());
            fields.wrong(node, "a case has `events` or a `capture`, not both".to_owned(), hint, reporter);
        }
        None if fields.has("capture") => {}
        Some((_, Some(nodes))) if !nodes.is_empty() && nodes.len() <= CASE_EVENTS_MAX => {
            for node in nodes {
                machine.event(node, &fields, reporter);
            }
        }
        Some((node, Some(nodes))) if !nodes.is_empty() => {
            let message = format!("{} events in a case, more than {CASE_EVENTS_MAX}", nodes.len());
            reporter.error(Code::CairnLimit, fields.place_of(node), &fields.item, message, None);
        }
        Some((node, _)) => {
            fields.wrong(node, "`events` must be a sequence of at least one event".to_owned(), None, reporter)
        }
        None => {
            let hint = Some("add `events:`, or `capture:` with the path of a capture".to_owned());
            reporter.error(Code::CairnReplayCase, fields.place(), &fields.item, "`events` is missing", hint);
        }
    }
    let counts = counts.unwrap_or_default();
    let place = name.place();
    let (path, line) = reporter.file_and_line(place);
    let (processes, events) = machine.finish();
    let hosts = hosts(&fields, reporter);
    let containers = containers(&fields, reporter);
    let names = Names { users, groups, hostname, hosts, containers };
    Some((
        Case { name: name.value, file: path, line, processes, events, capture, names, expect, counts, silent },
        place,
    ))
}

/// `capture: recorded/attack.jsonl.zst`
fn capture(
    fields: &Fields<'_>,
    case_path: &str,
    attachments: &[Attachment<'_>],
    reporter: &mut Reporter<'_>,
) -> Option<Captured> {
    let node = fields.get("capture")?;
    let name = fields.scalar("capture", reporter)?.value;
    let file = document::attached(&name, case_path, attachments, node, fields, reporter)?;
    Some(Captured { path: file.path.to_owned(), bytes: file.bytes.into() })
}

/// `expect: {Rule: 3}`, when it is that and not a sequence.
fn counts(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<BTreeMap<String, usize>> {
    let mut out = BTreeMap::new();
    for (rule, count) in fields.get("expect")?.mapping()? {
        match (rule.text(), count.text().and_then(|text| text.parse::<usize>().ok())) {
            (Some(rule), Some(count)) if count > 0 => {
                out.insert(rule.to_owned(), count);
            }
            _ => {
                let hint = Some("write `{Rule name: 3}`; a rule that must not alert stands under `silent`".to_owned());
                let message = "`expect` maps names of rules to how often they alert, from 1".to_owned();
                fields.wrong(count, message, hint, reporter);
            }
        }
    }
    Some(out)
}

/// `{0: root, 1000: alice}`
fn ids(fields: &Fields<'_>, key: &str, reporter: &mut Reporter<'_>) -> HashMap<u32, String> {
    let mut out = HashMap::new();
    let Some(node) = fields.get(key) else { return out };
    let Some(pairs) = node.mapping() else {
        fields.wrong(node, format!("`{key}` must be a mapping"), Some("write `{1000: alice}`".to_owned()), reporter);
        return out;
    };
    for (id, name) in pairs {
        match (id.text().and_then(|id| id.parse().ok()), name.text()) {
            (Some(id), Some(name)) => {
                out.insert(id, name.to_owned());
            }
            _ => fields.wrong(id, format!("`{key}` maps numbers to names"), None, reporter),
        }
    }
    out
}

/// `{203.0.113.7: [evil.example]}`
fn hosts(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> HashMap<IpAddr, Vec<String>> {
    let mut out = HashMap::new();
    let Some(node) = fields.get("hosts") else { return out };
    for (address, names) in node.mapping().unwrap_or_default() {
        let names =
            names.sequence().map(|names| names.iter().filter_map(|name| name.text().map(str::to_owned)).collect());
        match (address.text().and_then(|text| text.parse().ok()), names) {
            (Some(address), Some(names)) => {
                out.insert(address, names);
            }
            _ => {
                let hint = Some("write `{203.0.113.7: [evil.example]}`".to_owned());
                fields.wrong(address, "`hosts` maps addresses to sequences of names".to_owned(), hint, reporter);
            }
        }
    }
    out
}

/// `{3f4a9c0b7d21: {image_repository: nginx, is_privileged: true}}`
fn containers(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> HashMap<Text, Container> {
    let mut out = HashMap::new();
    let Some(node) = fields.get("containers") else { return out };
    for (id, what) in node.mapping().unwrap_or_default() {
        match serde_json::from_value::<Container>(what.to_json()) {
            Ok(container) => {
                out.insert(id.text().unwrap_or_default().into(), container);
            }
            Err(error) => fields.wrong(what, format!("a container: {error}"), None, reporter),
        }
    }
    out
}
