//! The key `cairn:` of a rule: conditions over more than one event. Falco ignores it, with a warning.
//!
//! Reading checks its shape; what depends on the rule's source, macros and lists is checked when the rule is compiled. What it means is
//! `state`'s.

use std::collections::BTreeSet;

use super::collect::RuleDefinition;
use super::finish::{self, NamesInForce};
use super::reader::{Fields, Joined, Scalar};
use crate::compile::{Compiled, Reader};
use crate::condition::parse_field;
use crate::fields::Kind;
use crate::limits::{
    COUNT_ABOVE_MAX, COUNT_DISTINCT_ABOVE_MAX, SPIKE_STRETCHES_MAX, STATE_FIELDS_MAX, STATE_WINDOW_NS_MAX,
};
use crate::problem::{Code, Reporter};
use crate::source::Vocabulary;
use crate::state::count::Count;
use crate::state::fields::{FIRST, Shape, duration, thousandths};
use crate::state::first_seen::FirstSeen;
use crate::state::sequence::Sequence;
use crate::state::spike::Spike;
use crate::state::{Stateful, What};
use crate::yaml::Node;

/// The key as written.
#[derive(Debug, Clone)]
pub(crate) struct Extension {
    by: Vec<By>,
    asked: Asked,
    /// The output that is used instead of the rule's, which Falco must be able to read.
    pub(super) output: Option<Joined>,
}

/// A field that tells events apart; of a sequence's first event it may be another.
#[derive(Debug, Clone)]
struct By {
    field: Scalar,
    after: Option<Scalar>,
}

#[derive(Debug, Clone)]
enum Asked {
    Count { asked: Count, distinct: Option<Scalar> },
    Spike(Spike),
    FirstSeen(FirstSeen),
    Sequence { after: Joined, within_ns: u64 },
}

/// What compiling it gives beside it.
pub(super) struct Compiling {
    pub(super) stateful: Stateful,
    /// Fields that it reads.
    pub(super) fields: BTreeSet<String>,
}

const KINDS: [&str; 4] = ["count", "spike", "first_seen", "sequence"];

impl RuleDefinition {
    /// The output that alerts show: that of the `cairn:` key, if it has one.
    pub(super) fn shown_output(&self) -> &Joined {
        self.extension.as_ref().and_then(|extension| extension.output.as_ref()).unwrap_or(&self.output)
    }
}

impl Extension {
    pub(super) fn shape(&self) -> Shape {
        match self.asked {
            Asked::Count { .. } => Shape::Count,
            Asked::Spike(_) => Shape::Spike,
            Asked::FirstSeen(_) => Shape::FirstSeen,
            Asked::Sequence { .. } => Shape::Sequence,
        }
    }

    /// In canonical form: what is known of a rule's events stays as long as this does.
    fn text(&self) -> String {
        let by: Vec<String> = self
            .by
            .iter()
            .map(|by| {
                by.after
                    .as_ref()
                    .map_or_else(|| by.field.value.clone(), |after| format!("{}={}", after.value, by.field.value))
            })
            .collect();
        let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
        match &self.asked {
            Asked::Count { asked, distinct } => {
                let distinct =
                    distinct.as_ref().map_or_else(String::new, |field| format!(" of different {}", field.value));
                format!("count{distinct}{by} within {} above {}", duration(asked.within_ns), asked.above)
            }
            Asked::Spike(asked) => format!(
                "spike{by} every {} baseline {} factor {} at_least {}",
                duration(asked.every_ns),
                duration(asked.every_ns * asked.stretches),
                thousandths(asked.factor_milli),
                asked.at_least
            ),
            Asked::FirstSeen(asked) => {
                format!("first_seen{by} learn {} forget {}", duration(asked.learn_ns), duration(asked.forget_ns))
            }
            Asked::Sequence { after, within_ns } => {
                format!("sequence{by} within {} after {}", duration(*within_ns), after.text())
            }
        }
    }
}

/// The rule's `cairn:` key, if it has one that is not malformed, which is reported.
pub(super) fn read(rule: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Extension> {
    let node = rule.get("cairn").filter(|node| !node.is_null())?;
    let known: Vec<&str> = KINDS.into_iter().chain(["output"]).collect();
    let outer = mapping(node, "cairn", rule, &known, reporter)?;
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| outer.has(kind)).collect();
    let [kind] = given.as_slice() else {
        let message = if given.is_empty() {
            format!("`cairn` needs one of {}", KINDS.join(", "))
        } else {
            format!("`cairn` has {} together", given.join(" and "))
        };
        let hint = "give exactly one; a second rule with the same condition can have the other".to_owned();
        rule.wrong(node, message, Some(hint), reporter);
        return None;
    };
    let output = outer.scalar("output", reporter).map(Joined::from);
    let body = outer.get(kind)?;
    let errors_before = reporter.error_count();
    let known: &[&str] = match *kind {
        "count" => &["by", "within", "above", "distinct"],
        "spike" => &["by", "every", "baseline", "factor", "at_least"],
        "first_seen" => &["by", "learn", "forget"],
        _ => &["after", "by", "within"],
    };
    let fields = mapping(body, kind, &outer, known, reporter)?;
    let by = by(&fields, *kind == "sequence", reporter);
    let asked = match *kind {
        "count" => count(&fields, reporter),
        "spike" => spike(&fields, reporter),
        "first_seen" => first_seen(&fields, reporter),
        _ => sequence(&fields, reporter),
    };
    if *kind == "first_seen" && by.is_empty() && reporter.error_count() == errors_before {
        let hint = "name the fields whose values are to be new: `by: [proc.exepath]`".to_owned();
        fields.wrong(body, "`first_seen` without `by` could alert once only".to_owned(), Some(hint), reporter);
    }
    let asked = asked.filter(|_| reporter.error_count() == errors_before)?;
    Some(Extension { by, asked, output })
}

fn mapping<'n>(
    node: &'n Node,
    name: &str,
    outer: &Fields<'_>,
    known: &[&str],
    reporter: &mut Reporter<'_>,
) -> Option<Fields<'n>> {
    let Some(pairs) = node.mapping() else {
        let hint = Some(format!("keys of `{name}` are: {}", known.join(", ")));
        outer.wrong(node, format!("`{name}` must be a mapping, not {}", node.kind()), hint, reporter);
        return None;
    };
    Some(Fields::own(node, pairs, outer.file, outer.item.clone(), known, reporter))
}

fn by(fields: &Fields<'_>, is_sequence: bool, reporter: &mut Reporter<'_>) -> Vec<By> {
    let Some(node) = fields.get("by") else { return Vec::new() };
    let Some(nodes) = node.sequence() else {
        let hint = Some("write `by: [proc.name, container.id]`".to_owned());
        fields.wrong(node, format!("`by` must be a sequence of fields, not {}", node.kind()), hint, reporter);
        return Vec::new();
    };
    if nodes.len() > STATE_FIELDS_MAX {
        let message = format!("{} fields in `by`, more than {STATE_FIELDS_MAX}", nodes.len());
        reporter.error(Code::CairnLimit, fields.place_of(node), &fields.item, message, None);
        return Vec::new();
    }
    let mut all: Vec<By> = Vec::new();
    for node in nodes {
        let one = if let Some(text) = node.text() {
            Some(By { field: Scalar::new(node, text, fields.file), after: None })
        } else if is_sequence {
            pair(node, fields, reporter)
        } else {
            fields.wrong(node, format!("`by` must hold names of fields, not {}", node.kind()), None, reporter);
            None
        };
        let Some(one) = one else { continue };
        if all.iter().any(|other| other.field.value == one.field.value) {
            fields.wrong(node, format!("`{}` stands twice in `by`", one.field.value), None, reporter);
        }
        all.push(one);
    }
    all
}

/// `{after: fd.name, then: proc.exepath}`
fn pair(node: &Node, outer: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<By> {
    let fields = mapping(node, "by", outer, &["after", "then"], reporter)?;
    let after = fields.required("after", reporter)?;
    let field = fields.required("then", reporter)?;
    Some(By { field, after: Some(after) })
}

fn count(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Asked> {
    let distinct = fields.scalar("distinct", reporter);
    let within_ns = time(fields, "within", 1, None, reporter);
    let above_max = if distinct.is_some() { COUNT_DISTINCT_ABOVE_MAX } else { COUNT_ABOVE_MAX };
    let above = number(fields, "above", 0..=above_max, reporter);
    let asked = Count { within_ns: within_ns?, above: usize::try_from(above?).ok()? };
    Some(Asked::Count { asked, distinct })
}

fn spike(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Asked> {
    let every_ns = time(fields, "every", 1_000_000_000, None, reporter);
    let baseline_ns = time(fields, "baseline", 1_000_000_000, None, reporter);
    let factor_milli = factor(fields, reporter);
    let at_least = number(fields, "at_least", 1..=1_000_000_000, reporter);
    let (every_ns, baseline_ns) = (every_ns?, baseline_ns?);
    let stretches = baseline_ns / every_ns;
    let node = fields.get("baseline")?;
    if !baseline_ns.is_multiple_of(every_ns) || stretches < 2 {
        let message = format!(
            "a baseline of {}, which is not twice {} or more whole times that",
            duration(baseline_ns),
            duration(every_ns)
        );
        let hint = Some("write `every: 1m` and `baseline: 1h`, for example".to_owned());
        fields.wrong(node, message, hint, reporter);
        return None;
    }
    if stretches > SPIKE_STRETCHES_MAX {
        let message = format!("the baseline has {stretches} times `every`, more than {SPIKE_STRETCHES_MAX}");
        let hint = Some("make `every` longer".to_owned());
        reporter.error(Code::CairnLimit, fields.place_of(node), &fields.item, message, hint);
        return None;
    }
    Some(Asked::Spike(Spike { every_ns, stretches, factor_milli: factor_milli?, at_least: at_least? }))
}

fn first_seen(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Asked> {
    let learn_ns = time(fields, "learn", 0, None, reporter);
    let forget_ns = time(fields, "forget", 1_000_000_000, Some(STATE_WINDOW_NS_MAX), reporter);
    Some(Asked::FirstSeen(FirstSeen { learn_ns: learn_ns?, forget_ns: forget_ns? }))
}

fn sequence(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Asked> {
    let after = fields.required("after", reporter);
    let within_ns = time(fields, "within", 1, None, reporter);
    Some(Asked::Sequence { after: after?.into(), within_ns: within_ns? })
}

/// A duration that is at least so long; `default` when it is not given, and an error when there is none.
fn time(
    fields: &Fields<'_>,
    name: &str,
    least_ns: u64,
    default: Option<u64>,
    reporter: &mut Reporter<'_>,
) -> Option<u64> {
    if !fields.has(name) && default.is_some() {
        return default;
    }
    let text = fields.required(name, reporter)?;
    let parsed = parse_duration(&text.value);
    let within = parsed.filter(|ns| (least_ns..=STATE_WINDOW_NS_MAX).contains(ns));
    if within.is_none() {
        let message = match parsed {
            None => format!("`{name}` must be a duration, not `{}`", text.value),
            Some(_) => format!(
                "`{name}` must be from {} to {}, not {}",
                duration(least_ns),
                duration(STATE_WINDOW_NS_MAX),
                text.value
            ),
        };
        let hint = Some("write `30s`, `5m`, `1h` or `7d`".to_owned());
        reporter.error(Code::LoadErrExtension, text.place(), &fields.item, message, hint);
    }
    within
}

/// A whole number and its unit.
fn parse_duration(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: u64 = match text.get(digits..)?.trim() {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "w" => 7 * 86_400_000_000_000,
        _ => return None,
    };
    text.get(..digits)?.parse::<u64>().ok()?.checked_mul(unit)
}

fn number(
    fields: &Fields<'_>,
    name: &str,
    range: std::ops::RangeInclusive<u64>,
    reporter: &mut Reporter<'_>,
) -> Option<u64> {
    let text = fields.required(name, reporter)?;
    let number = text.value.parse::<u64>().ok();
    let within = number.filter(|number| range.contains(number));
    if within.is_none() {
        let message = format!("`{name}` must be a whole number from {} to {}", range.start(), range.end());
        let code = if number.is_some() { Code::CairnLimit } else { Code::LoadErrExtension };
        reporter.error(code, text.place(), &fields.item, message, None);
    }
    within
}

/// `5`, `2.5`: in thousandths.
fn factor(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<u64> {
    let text = fields.required("factor", reporter)?;
    let (whole, part) = text.value.split_once('.').unwrap_or((&text.value, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let milli = (part.len() <= 3 && are_digits(part) && are_digits(whole))
        .then(|| format!("{whole}{part:0<3}").parse::<u64>().ok())
        .flatten()
        .filter(|milli| (1_000..=1_000_000_000).contains(milli) && !whole.is_empty());
    if milli.is_none() {
        let message = "`factor` must be a number from 1 to 1000000, with three decimals at most";
        let hint = Some("write `factor: 5` or `factor: 2.5`".to_owned());
        reporter.error(Code::LoadErrExtension, text.place(), &fields.item, message, hint);
    }
    milli
}

/// Checks the key against the rule's source, macros and lists. `None` when something is wrong, which is reported.
pub(super) fn compile(
    extension: &Extension,
    definition: &RuleDefinition,
    item: &str,
    names: &mut NamesInForce<'_>,
    reporter: &mut Reporter<'_>,
) -> Option<Compiling> {
    let collector = names.collector;
    let vocabulary = collector.sources.vocabulary(names.source);
    let mut fields = BTreeSet::new();
    let mut resolve = |scalar: &Scalar, reporter: &mut Reporter<'_>| {
        let reader = resolve(scalar, vocabulary, definition, item, reporter)?;
        fields.insert(scalar.value.clone());
        Some(reader)
    };
    let by: Vec<Option<Reader>> = extension.by.iter().map(|by| resolve(&by.field, reporter)).collect();
    let after_by: Vec<Option<Reader>> =
        extension.by.iter().map(|by| resolve(by.after.as_ref().unwrap_or(&by.field), reporter)).collect();
    let distinct = match &extension.asked {
        Asked::Count { distinct: Some(field), .. } => Some(resolve(field, reporter)?),
        _ => None,
    };
    let mut after: Option<Compiled> = None;
    if let Asked::Sequence { after: text, .. } = &extension.asked {
        let compiled = finish::compile_text(&text.text(), text, definition, item, names, reporter)?;
        let compiled = compiled.within(&collector.sources.at(names.source).event_types());
        if compiled.types.is_empty() {
            let message = "`after` can never hold: its event types exclude each other";
            reporter.warning(Code::LoadCompileCondition, text.place_at(0, reporter), item, message, None);
        }
        finish::locate(&compiled.outline, text, reporter);
        fields.extend(compiled.facts.fields.iter().cloned());
        after = Some(compiled);
    }
    let by = by.into_iter().collect::<Option<Vec<_>>>()?;
    let after_by = after_by.into_iter().collect::<Option<Vec<_>>>()?;
    for ((then, after), written) in by.iter().zip(&after_by).zip(&extension.by) {
        if class(then.kind()) != class(after.kind()) {
            let message = format!(
                "`{}` is a {}, `{}` a {}: they are never the same",
                written.after.as_ref().map_or("", |after| &after.value),
                after.kind().as_str(),
                written.field.value,
                then.kind().as_str()
            );
            let hint = Some("pair fields of one type".to_owned());
            reporter.error(Code::LoadErrCompileCondition, written.field.place(), item, message, hint);
            return None;
        }
    }
    let what = match (&extension.asked, after) {
        (Asked::Sequence { within_ns, .. }, Some(after)) => What::Sequence(Sequence {
            within_ns: *within_ns,
            types: after.types,
            after: after.node,
            outline: after.outline,
            by: after_by.into(),
        }),
        (Asked::Sequence { .. }, None) => return None,
        (Asked::Count { asked, .. }, _) => What::Count(*asked, distinct),
        (Asked::Spike(asked), _) => What::Spike(*asked),
        (Asked::FirstSeen(asked), _) => What::FirstSeen(*asked),
    };
    let stateful = Stateful { by: by.into(), what, shown: Box::default(), text: extension.text() };
    Some(Compiling { stateful, fields })
}

/// The fields of the first event that an output shows.
pub(crate) fn shown<'t>(fields: impl Iterator<Item = &'t str>, vocabulary: Vocabulary<'_>) -> Box<[(String, Reader)]> {
    let names: BTreeSet<&str> = fields.filter_map(|name| name.strip_prefix(FIRST)).collect();
    let reader = |name: &&str| {
        let field = parse_field(name).ok()?;
        let resolved = vocabulary.resolve(&field).ok()?;
        Some((resolved.name.clone(), Reader::field(resolved)))
    };
    names.iter().filter_map(reader).collect()
}

fn resolve(
    scalar: &Scalar,
    vocabulary: Vocabulary<'_>,
    definition: &RuleDefinition,
    item: &str,
    reporter: &mut Reporter<'_>,
) -> Option<Reader> {
    let field = match parse_field(&scalar.value) {
        Ok(field) => field,
        Err(error) => {
            reporter.error(Code::LoadErrCompileCondition, scalar.place(), item, error.message, error.hint);
            return None;
        }
    };
    match vocabulary.resolve(&field) {
        Ok(resolved) => Some(Reader::field(resolved)),
        Err(error) if definition.skip_if_unknown_filter && error.is_unknown() => {
            let message = format!("{error}: the rule is skipped");
            reporter.warning(Code::LoadUnknownFilter, scalar.place(), item, message, error.hint());
            None
        }
        Err(error) => {
            reporter.error(Code::LoadErrCompileCondition, scalar.place(), item, error.to_string(), error.hint());
            None
        }
    }
}

/// Values of kinds of one class can be the same.
fn class(kind: Kind) -> u8 {
    match kind {
        Kind::Text | Kind::Dynamic | Kind::Bytes | Kind::Address | Kind::Network => 0,
        Kind::Number | Kind::Port => 1,
        Kind::Boolean => 2,
        Kind::TextList => 3,
    }
}
