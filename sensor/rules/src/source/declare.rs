//! Reads a source's declaration: `- cairn_source: NAME` in a rules file, and the built-in sources, which are written in the same form.
//!
//! What a declaration may say is in `RULES.md`, Sources. Every problem is reported with its place; of a source with a problem nothing is
//! used.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::extract::{Case, Edit, Extractor, Piece, Read, When};
use super::pointer::Pointer;
use super::time::Unit;
use super::{DocumentField, Source};
use crate::condition::{is_identifier, parse_field};
use crate::fields::{Kind, Takes};
use crate::limits::{SOURCE_COST_MAX, SOURCE_FIELDS_MAX, SOURCE_PARTS_MAX};
use crate::load::reader::Fields;
use crate::problem::{Code, Reporter};
use crate::suggest;
use crate::yaml::Node;

/// Keys of a declaration.
pub(crate) const KEYS: [&str; 9] =
    ["cairn_source", "doc", "plugin", "batch", "time", "time_unit", "id", "info", "fields"];

/// Keys that say how a value is read; exactly one stands in a field, and in a case.
const READS: [&str; 9] = ["path", "paths", "cases", "value", "text", "sum", "keys", "query", "holds"];
/// As [`READS`], what fits no other name.
const ANY: &str = "any";
pub(super) const FIELD_KEYS: [&str; 23] = [
    "join",
    "personal",
    "name",
    "not_supplied",
    "hidden",
    "kind",
    "doc",
    "argument",
    "each",
    "default",
    "edit",
    "cut_suffix",
    "except",
    "path",
    "paths",
    "cases",
    "value",
    "text",
    "sum",
    "keys",
    "query",
    "holds",
    "any",
];
pub(super) const CASE_KEYS: [&str; 11] =
    ["when", "path", "paths", "value", "text", "sum", "keys", "query", "holds", "any", "except"];
pub(super) const WHEN_KEYS: [&str; 4] = ["path", "in", "prefix", "present"];

/// The fields declared so far, with what reading each costs.
struct Known {
    extractors: BTreeMap<String, (Arc<Extractor>, usize)>,
}

/// Reads a declaration whose keys have been checked against [`KEYS`].
pub(crate) fn read(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Source> {
    let errors_before = reporter.error_count();
    let name = fields.required("cairn_source", reporter)?;
    if !is_identifier(&name.value) {
        let hint = Some("use letters, digits and underscores, a letter first".to_owned());
        let message = format!("`{}` cannot be a source's name", name.value);
        reporter.error(Code::LoadErrExtension, name.place(), &fields.item, message, hint);
    }
    let text = |key: &str, reporter: &mut Reporter<'_>| fields.scalar(key, reporter).map(|scalar| scalar.value);
    let doc = text("doc", reporter).unwrap_or_default();
    let plugin = text("plugin", reporter).unwrap_or_else(|| name.value.clone());
    let batch = pointers(fields, "batch", reporter);
    let time = pointers(fields, "time", reporter);
    let unit = unit(fields, reporter);
    let mut known = Known { extractors: BTreeMap::new() };
    let mut own = BTreeMap::new();
    let nodes = fields.get("fields").map(|node| (node, node.sequence()));
    match nodes {
        Some((_, Some(nodes))) if nodes.len() <= SOURCE_FIELDS_MAX => {
            for node in nodes {
                let Some(field) = field(node, fields, &mut known, reporter) else { continue };
                own.extend(field.map(|field| (field.name.clone(), Arc::new(field))));
            }
        }
        Some((node, Some(nodes))) => {
            let message = format!("{} fields of a source, more than {SOURCE_FIELDS_MAX}", nodes.len());
            reporter.error(Code::CairnLimit, fields.place_of(node), &fields.item, message, None);
        }
        Some((node, None)) => {
            let hint = Some("write `- {name: my.user, path: /user/name}`".to_owned());
            fields.wrong(node, format!("`fields` must be a sequence, not {}", node.kind()), hint, reporter);
        }
        // Nothing of its own: `json.value[/path]` reads everything.
        None => {}
    }
    let template = |key: &str, reporter: &mut Reporter<'_>| -> Option<Arc<Extractor>> {
        let (read, _) = text_of(fields.get(key)?, &known, fields, reporter)?;
        Some(Arc::new(Extractor::plain(Kind::Text, read)))
    };
    let (id, info) = (template("id", reporter), template("info", reporter));
    let source = Source { name: name.value, doc, fields: own, batch, time, unit, id };
    (reporter.error_count() == errors_before).then(|| source.with_fields_of_any(&plugin, info))
}

fn unit(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Unit {
    let Some(written) = fields.scalar("time_unit", reporter) else { return Unit::default() };
    let found = Unit::ALL.iter().find(|(name, _)| *name == written.value);
    found.map_or_else(
        || {
            let message = format!("`{}` is no unit of time", written.value);
            let hint = Some("one of s, ms, us, ns: what a time that is a number counts".to_owned());
            reporter.error(Code::LoadErrExtension, written.place(), &fields.item, message, hint);
            Unit::default()
        },
        |(_, unit)| *unit,
    )
}

/// One field; `Some(None)` for one that only other fields see. What is wrong with it is reported.
fn field(
    node: &Node,
    source: &Fields<'_>,
    known: &mut Known,
    reporter: &mut Reporter<'_>,
) -> Option<Option<DocumentField>> {
    let Some(pairs) = node.mapping() else {
        let hint = Some("write `- {name: my.user, path: /user/name}`".to_owned());
        source.wrong(node, format!("a field is a mapping, not {}", node.kind()), hint, reporter);
        return None;
    };
    let fields = Fields::own(node, pairs, source.file, source.item.clone(), &FIELD_KEYS, reporter);
    let errors_before = reporter.error_count();
    let name = fields.required("name", reporter)?;
    if parse_field(&name.value).is_err() || name.value.contains('[') {
        let hint = Some("write it as `group.name`: letters, digits, underscores, at least one dot".to_owned());
        let message = format!("`{}` cannot be a field's name", name.value);
        reporter.error(Code::LoadErrExtension, name.place(), &fields.item, message, hint);
    }
    if super::COMMON.contains(&name.value.as_str()) {
        let message = format!("`{}` is a field that every source has", name.value);
        reporter.error(Code::LoadErrExtension, name.place(), &fields.item, message, Some("rename it".to_owned()));
    }
    if known.extractors.contains_key(&name.value) {
        let message = format!("field `{}` stands twice", name.value);
        reporter.error(
            Code::LoadErrExtension,
            name.place(),
            &fields.item,
            message,
            Some("remove one of them".to_owned()),
        );
    }
    let is_hidden = fields.boolean("hidden", false, reporter);
    let is_personal = fields.boolean("personal", false, reporter);
    let kind = choice(&fields, "kind", &KINDS, Kind::Text, reporter);
    let argument = choice(&fields, "argument", &ARGUMENTS, Argument::None, reporter);
    let is_supplied = !fields.boolean("not_supplied", false, reporter);
    let (read, cost) =
        if is_supplied { read_of(&fields, known, true, reporter)? } else { (Read::Paths(Box::default()), 0) };
    let each = fields.get("each").and_then(|node| pointer(node, &fields, reporter));
    let edit = edit(&fields, reporter);
    let default = fields.scalar("default", reporter).map(|scalar| scalar.value.into());
    let join = fields.scalar("join", reporter).map(|scalar| scalar.value.into());
    if is_supplied {
        check_shape(&fields, &read, kind, argument, each.as_ref(), reporter);
    }
    if cost > SOURCE_COST_MAX {
        let message =
            format!("reading `{}` takes {cost} steps with what it refers to, more than {SOURCE_COST_MAX}", name.value);
        reporter.error(Code::CairnLimit, fields.place(), &fields.item, message, None);
    }
    if reporter.error_count() > errors_before {
        return None;
    }
    let extractor = Arc::new(Extractor { kind, read, each, edit, default, join });
    known.extractors.insert(name.value.clone(), (Arc::clone(&extractor), cost));
    let doc = fields.scalar("doc", reporter).map(|scalar| scalar.value).unwrap_or_default();
    let (argument, argument_is_text) = match argument {
        Argument::None => (Takes::Nothing, false),
        Argument::Index => (Takes::Optional, false),
        Argument::Key => (Takes::Required, true),
    };
    let name = name.value;
    let field = DocumentField { name, kind, argument, argument_is_text, doc, is_supplied, is_personal, extractor };
    Some((!is_hidden).then_some(field))
}

const KINDS: [(&str, Kind); 4] =
    [("text", Kind::Text), ("number", Kind::Number), ("boolean", Kind::Boolean), ("list", Kind::TextList)];

/// What a field takes in `[]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    None,
    /// Which element of its first `*`; may be left out.
    Index,
    /// A text that `query` or `holds` uses.
    Key,
}

const ARGUMENTS: [(&str, Argument); 3] = [("none", Argument::None), ("index", Argument::Index), ("key", Argument::Key)];

fn choice<T: Copy>(
    fields: &Fields<'_>,
    key: &str,
    choices: &[(&str, T)],
    default: T,
    reporter: &mut Reporter<'_>,
) -> T {
    let Some(written) = fields.scalar(key, reporter) else { return default };
    match choices.iter().find(|(name, _)| *name == written.value) {
        Some((_, value)) => *value,
        None => {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let hint = suggest::hint(&written.value, names.iter().copied());
            let hint = hint.or_else(|| Some(format!("one of {}", names.join(", "))));
            let message = format!("`{}` is no {key} of a field", written.value);
            reporter.error(Code::LoadErrExtension, written.place(), &fields.item, message, hint);
            default
        }
    }
}

/// Combinations that read well and mean nothing.
fn check_shape(
    fields: &Fields<'_>,
    read: &Read,
    kind: Kind,
    argument: Argument,
    each: Option<&Pointer>,
    reporter: &mut Reporter<'_>,
) {
    let mut wrong = |key: &str, message: &str, hint: &str| {
        let node = fields.get(key).unwrap_or(fields.node);
        fields.wrong(node, message.to_owned(), Some(hint.to_owned()), reporter);
    };
    let uses_argument = matches!(read, Read::Query(_) | Read::Holds(_))
        || matches!(read, Read::Cases(cases) if cases.iter().any(|case| matches!(case.read, Read::Query(_) | Read::Holds(_))));
    let is_many = each.is_some_and(Pointer::is_many)
        || matches!(read, Read::Paths(paths) if paths.iter().any(Pointer::is_many))
        || matches!(read, Read::Keys { at, .. } if at.is_many());
    if uses_argument != (argument == Argument::Key) {
        wrong("argument", "`argument: key` and `query` or `holds` go together", "add the other, or remove this one");
    }
    if argument == Argument::Index && !is_many {
        wrong(
            "argument",
            "`argument: index` without a `*` in the field's path or `each`",
            "an index picks an element at the first `*`",
        );
    }
    if fields.has("join") && (kind != Kind::Text || !is_many) {
        wrong("join", "`join` makes one text of several values", "use it with `kind: text` and a path with `*`");
    }
    if matches!(read, Read::Sum(_)) && (kind != Kind::Number || each.is_some()) {
        wrong("sum", "a sum is a number, of the document itself", "add `kind: number`, remove `each`");
    }
}

fn edit(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Edit> {
    if let Some(suffix) = fields.scalar("cut_suffix", reporter) {
        return Some(Edit::CutSuffix(suffix.value.into()));
    }
    let written = fields.scalar("edit", reporter)?;
    if written.value == "image_repository" {
        return Some(Edit::ImageRepository);
    }
    let message = format!("`{}` is nothing that can be done to a text", written.value);
    let hint = Some("there is `edit: image_repository`, and `cut_suffix: TEXT`".to_owned());
    reporter.error(Code::LoadErrExtension, written.place(), &fields.item, message, hint);
    None
}

/// How a value is read, and what that costs.
fn read_of(
    fields: &Fields<'_>,
    known: &Known,
    may_have_cases: bool,
    reporter: &mut Reporter<'_>,
) -> Option<(Read, usize)> {
    let given: Vec<&str> = READS.into_iter().chain([ANY]).filter(|key| fields.has(key)).collect();
    let [key] = given.as_slice() else {
        let message = format!("one of {}, {ANY} must say how the value is read", READS.join(", "));
        let hint =
            if given.is_empty() { "add `path: /...`".to_owned() } else { format!("keep one of {}", given.join(", ")) };
        fields.wrong(fields.node, message, Some(hint), reporter);
        return None;
    };
    let node = fields.get(key)?;
    let one = |reporter: &mut Reporter<'_>| pointer(node, fields, reporter);
    match *key {
        "path" => Some((Read::Paths([one(reporter)?].into()), 1)),
        "paths" | "sum" => {
            let pointers = pointers(fields, key, reporter);
            let cost = pointers.len();
            let read = if *key == "sum" { Read::Sum(pointers.into()) } else { Read::Paths(pointers.into()) };
            Some((read, cost))
        }
        "value" => Some((Read::Constant(fields.scalar(key, reporter)?.value.into()), 1)),
        "text" => text_of(node, known, fields, reporter),
        "keys" => {
            let except = fields.scalars("except", reporter).unwrap_or_default();
            let except = except.into_iter().map(|scalar| scalar.value.into()).collect();
            Some((Read::Keys { at: one(reporter)?, except }, 1))
        }
        "query" => Some((Read::Query(one(reporter)?), 1)),
        "holds" => Some((Read::Holds(one(reporter)?), 1)),
        "any" => Some((Read::Any(one(reporter)?), 1)),
        _ if may_have_cases => cases(node, fields, known, reporter),
        _ => {
            fields.wrong(node, "cases inside a case".to_owned(), Some("write one list of cases".to_owned()), reporter);
            None
        }
    }
}

fn cases(node: &Node, fields: &Fields<'_>, known: &Known, reporter: &mut Reporter<'_>) -> Option<(Read, usize)> {
    let Some(nodes) = node.sequence().filter(|nodes| !nodes.is_empty() && nodes.len() <= SOURCE_PARTS_MAX) else {
        let message = format!("`cases` must be a sequence of 1 to {SOURCE_PARTS_MAX} cases");
        let hint = Some("write `- {when: {path: /type, in: [a]}, path: /name}`".to_owned());
        fields.wrong(node, message, hint, reporter);
        return None;
    };
    let mut cases = Vec::with_capacity(nodes.len());
    let mut cost = 0_usize;
    for node in nodes {
        let Some(pairs) = node.mapping() else {
            fields.wrong(node, format!("a case is a mapping, not {}", node.kind()), None, reporter);
            return None;
        };
        let case = Fields::own(node, pairs, fields.file, fields.item.clone(), &CASE_KEYS, reporter);
        let (read, own) = read_of(&case, known, false, reporter)?;
        let when = match case.get("when") {
            Some(node) => Some(when(node, &case, reporter)?),
            None => None,
        };
        cost = cost.saturating_add(own).saturating_add(1);
        cases.push(Case { when, read });
    }
    Some((Read::Cases(cases.into()), cost))
}

fn when(node: &Node, case: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<(Pointer, When)> {
    let Some(pairs) = node.mapping() else {
        let hint = Some("write `when: {path: /type, in: [a, b]}`".to_owned());
        case.wrong(node, format!("`when` is a mapping, not {}", node.kind()), hint, reporter);
        return None;
    };
    let fields = Fields::own(node, pairs, case.file, case.item.clone(), &WHEN_KEYS, reporter);
    let Some(path) = fields.get("path") else {
        fields.wrong(node, "`when` without `path`".to_owned(), Some("add `path: /...`".to_owned()), reporter);
        return None;
    };
    let pointer = pointer(path, &fields, reporter)?;
    let texts = |key: &str, reporter: &mut Reporter<'_>| -> Option<Box<[Box<str>]>> {
        let scalars = fields.scalars(key, reporter)?;
        Some(scalars.into_iter().map(|scalar| scalar.value.into()).collect())
    };
    let when = match (fields.has("in"), fields.has("prefix"), fields.has("present")) {
        (true, false, false) => When::In(texts("in", reporter)?),
        (false, true, false) => When::Prefix(texts("prefix", reporter)?),
        (false, false, true) => When::Present(fields.boolean("present", true, reporter)),
        _ => {
            let message = "`when` needs one of `in`, `prefix` and `present`".to_owned();
            fields.wrong(node, message, Some("write `in: [a, b]`".to_owned()), reporter);
            return None;
        }
    };
    Some((pointer, when))
}

/// A text with pieces in braces: `s3://{/requestParameters/bucketName}/{s3.key?}`. A piece is a path or an earlier field; with `?`
/// it may be absent.
fn text_of(node: &Node, known: &Known, fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<(Read, usize)> {
    let Some(text) = node.text() else {
        fields.wrong(node, format!("a text must be a scalar, not {}", node.kind()), None, reporter);
        return None;
    };
    let mut pieces = Vec::new();
    let mut cost = 1_usize;
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once('{') {
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        let Some((inner, after)) = after.split_once('}') else {
            let hint = Some("write `{/path}` or `{my.field}`".to_owned());
            fields.wrong(node, "`{` is not closed by `}`".to_owned(), hint, reporter);
            return None;
        };
        let (inner, is_optional) = inner.strip_suffix('?').map_or((inner, false), |inner| (inner, true));
        let (piece, own) = piece(inner, is_optional, node, known, fields, reporter)?;
        cost = cost.saturating_add(own);
        pieces.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.into()));
    }
    if pieces.len() > SOURCE_PARTS_MAX {
        let message = format!("a text of {} pieces, more than {SOURCE_PARTS_MAX}", pieces.len());
        reporter.error(Code::CairnLimit, fields.place_of(node), &fields.item, message, None);
        return None;
    }
    Some((Read::Text(pieces.into()), cost))
}

fn piece(
    inner: &str,
    is_optional: bool,
    node: &Node,
    known: &Known,
    fields: &Fields<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<(Piece, usize)> {
    if inner.starts_with(['/', '$']) {
        return match Pointer::parse(inner) {
            Ok(pointer) => Some((Piece::At { pointer, is_optional }, 1)),
            Err(error) => {
                fields.wrong(node, error.to_string(), None, reporter);
                None
            }
        };
    }
    match known.extractors.get(inner) {
        Some((extractor, cost)) => {
            Some((Piece::Field { extractor: Arc::clone(extractor), is_optional }, cost.saturating_add(1)))
        }
        None => {
            let hint = suggest::hint(inner, known.extractors.keys().map(String::as_str));
            let hint = hint.or_else(|| Some("a text may use paths, and fields declared before it".to_owned()));
            fields.wrong(node, format!("`{inner}` is no field declared before this one"), hint, reporter);
            None
        }
    }
}

fn pointer(node: &Node, fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Pointer> {
    let Some(text) = node.text() else {
        let hint = Some("write `/user/name`".to_owned());
        fields.wrong(node, format!("a path must be text, not {}", node.kind()), hint, reporter);
        return None;
    };
    match Pointer::parse(text) {
        Ok(pointer) => Some(pointer),
        Err(error) => {
            let hint = Some("a path is `/key/0/key`, `*` for each element, `*[key=text]` for some".to_owned());
            fields.wrong(node, error.to_string(), hint, reporter);
            None
        }
    }
}

/// A path, or several.
fn pointers(fields: &Fields<'_>, key: &str, reporter: &mut Reporter<'_>) -> Vec<Pointer> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let nodes = match node.sequence() {
        Some(nodes) if nodes.len() <= SOURCE_PARTS_MAX => nodes,
        Some(nodes) => {
            let message = format!("{} paths, more than {SOURCE_PARTS_MAX}", nodes.len());
            reporter.error(Code::CairnLimit, fields.place_of(node), &fields.item, message, None);
            return Vec::new();
        }
        None => std::slice::from_ref(node),
    };
    nodes.iter().filter_map(|node| pointer(node, fields, reporter)).collect()
}
