//! Fields that outputs of rules over more than one event can show: `%cairn.count` and its like.

use crate::condition::FieldRef;
use crate::engine::{Context, time};
use crate::fields::{FieldArgument, FieldError, FieldValue, Kind, Read, Resolved, Value};
use crate::suggest;

use super::Found;

/// The kind of a rule's `cairn:` key, as far as its output's fields care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Count,
    Spike,
    FirstSeen,
    Sequence,
}

/// What a sequence's first event's fields begin with.
pub(crate) const FIRST: &str = "cairn.first.";
const PREFIX: &str = "cairn.";

struct Field {
    name: &'static str,
    kind: Kind,
    shapes: &'static [Shape],
    extract: for<'a> fn(&Context<'a>, &FieldArgument) -> Option<Value<'a>>,
}

const FIELDS: [Field; 5] = [
    Field {
        name: "cairn.count",
        kind: Kind::Number,
        shapes: &[Shape::Count, Shape::Spike],
        extract: |context, _| context.found?.count.map(Value::number),
    },
    Field {
        name: "cairn.total",
        kind: Kind::Number,
        shapes: &[Shape::Count],
        extract: |context, _| context.found?.total.map(Value::number),
    },
    Field {
        name: "cairn.window",
        kind: Kind::Text,
        shapes: &[Shape::Count, Shape::Spike, Shape::Sequence],
        extract: |context, _| context.found?.window_ns.map(|ns| Value::owned(duration(ns))),
    },
    Field {
        name: "cairn.baseline",
        kind: Kind::Text,
        shapes: &[Shape::Spike],
        extract: |context, _| context.found?.baseline_milli.map(|milli| Value::owned(thousandths(milli))),
    },
    Field {
        name: "cairn.first.time",
        kind: Kind::Text,
        shapes: &[Shape::Count, Shape::Spike, Shape::Sequence],
        extract: |context, _| context.found?.first_time_ns.map(|ns| Value::owned(time::iso8601(ns))),
    },
];

/// Is it one of ours? With or without its argument.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The field of the event that must be supplied for this one to be shown; nothing for what the engine says itself.
pub(crate) fn of_event(written: &str) -> Option<&str> {
    match written.strip_prefix(FIRST) {
        Some("time") => None,
        Some(inner) => Some(inner),
        None => (!is_ours(written)).then_some(written),
    }
}

/// The longest of our fields a text begins with; its length in bytes. `known` finds the longest field of the event.
pub(crate) fn longest_known(text: &str, known: impl Fn(&str) -> Option<usize>) -> Option<usize> {
    let own = FIELDS.iter().filter(|field| text.starts_with(field.name)).map(|field| field.name.len()).max();
    let first = text.strip_prefix(FIRST).and_then(known).map(|length| FIRST.len() + length);
    first.max(own)
}

/// Checks one of our fields in the output of a rule with such a key; `event` checks a field of the event.
pub(crate) fn resolve(
    field: &FieldRef,
    shape: Option<Shape>,
    event: impl Fn(&FieldRef) -> Result<Resolved, FieldError>,
) -> Result<Resolved, FieldError> {
    let name = || field.name.clone();
    let unknown = || FieldError::Unknown { name: name(), near: hint(&field.name, shape) };
    let shape_in_force = shape.ok_or_else(unknown)?;
    let known = FIELDS.iter().find(|known| known.name == field.name);
    if let Some(known) = known.filter(|known| known.shapes.contains(&shape_in_force)) {
        if field.argument.is_some() {
            return Err(FieldError::ArgumentNotTaken { name: name() });
        }
        let read = Some(Read::Native(known.extract));
        return Ok(Resolved { name: name(), kind: known.kind, argument: FieldArgument::None, read });
    }
    let inner = field.name.strip_prefix(FIRST).filter(|_| shape_in_force == Shape::Sequence).ok_or_else(unknown)?;
    let resolved = event(&FieldRef { name: inner.to_owned(), ..field.clone() })?;
    // A field nobody supplies stays one that has no value.
    let read = resolved.read.map(|_| Read::Native(first));
    let argument = FieldArgument::Key(resolved.name.as_str().into());
    Ok(Resolved { name: format!("{FIRST}{}", resolved.name), kind: resolved.kind, argument, read })
}

/// Why one of our fields cannot be used, and what can.
pub(crate) fn hint(name: &str, shape: Option<Shape>) -> Option<String> {
    let Some(shape) = shape else {
        return Some("`cairn.` fields are for outputs of rules with a `cairn:` key".to_owned());
    };
    let own: Vec<&str> = FIELDS.iter().filter(|field| field.shapes.contains(&shape)).map(|field| field.name).collect();
    if let Some(near) = suggest::hint(name, own.iter().copied()) {
        return Some(near);
    }
    match (shape, own.is_empty()) {
        (Shape::Sequence, _) => Some(format!("with this key there are: {}, {FIRST}FIELD", own.join(", "))),
        (_, true) => Some("there are none with this key".to_owned()),
        (_, false) => Some(format!("with this key there are: {}", own.join(", "))),
    }
}

/// What every alert of such a rule says, whatever its output shows.
pub(crate) fn always(found: &Found) -> impl Iterator<Item = (String, FieldValue)> + '_ {
    let number =
        |name: &str, value: Option<u64>| value.map(|value| (name.to_owned(), FieldValue::from(Value::number(value))));
    let text = |name: &str, value: Option<String>| {
        value.map(|value| (name.to_owned(), FieldValue::Text(value.as_str().into())))
    };
    let first = found.first.iter().map(|(name, value)| (format!("{FIRST}{name}"), value.clone()));
    [
        number("cairn.count", found.count),
        number("cairn.total", found.total),
        text("cairn.window", found.window_ns.map(duration)),
        text("cairn.baseline", found.baseline_milli.map(thousandths)),
        text("cairn.first.time", found.first_time_ns.map(time::iso8601)),
    ]
    .into_iter()
    .flatten()
    .chain(first)
}

fn first<'a>(context: &Context<'a>, argument: &FieldArgument) -> Option<Value<'a>> {
    let FieldArgument::Key(wanted) = argument else { return None };
    let (_, value) = context.found?.first.iter().find(|(name, _)| **name == **wanted)?;
    Some(match value {
        FieldValue::Absent => return None,
        FieldValue::Boolean(value) => Value::Boolean(*value),
        FieldValue::Number(number) => Value::number(*number),
        FieldValue::Unsigned(number) => Value::number(*number),
        FieldValue::Text(text) => Value::bytes(text.as_bytes()),
        FieldValue::List(texts) => Value::AnyText(texts.iter().map(|text| text.as_bytes().into()).collect()),
    })
}

/// `2.4`, `0.333`
pub(crate) fn thousandths(milli: u64) -> String {
    let (whole, part) = (milli / 1_000, milli % 1_000);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:03}").trim_end_matches('0').to_owned() }
}

/// `5m`, `90s`: as rules write it.
pub(crate) fn duration(ns: u64) -> String {
    let units: [(u64, &str); 6] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    let unit = units.iter().find(|(unit, _)| ns > 0 && ns.is_multiple_of(*unit));
    unit.map_or_else(
        || if ns == 0 { "0s".to_owned() } else { format!("{ns}ns") },
        |(unit, name)| format!("{}{name}", ns / unit),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        assert_eq!([0, 300, 2_400, 2_045, 7_000].map(thousandths), ["0", "0.3", "2.4", "2.045", "7"]);
        let second = 1_000_000_000;
        assert_eq!(
            [0, 1, 1_500_000, 90 * second, 300 * second, 7 * 86_400 * second].map(duration),
            ["0s", "1ns", "1500us", "90s", "5m", "7d"]
        );
    }

    #[test]
    fn what_each_key_has() {
        let known = |text: &str| longest_known(text, crate::fields::longest_known);
        assert_eq!(known("cairn.count) x"), Some(11));
        assert_eq!(known("cairn.first.time."), Some(16));
        assert_eq!(known("cairn.first.proc.name."), Some(21));
        assert_eq!(known("cairn.first.nothing"), None);
        assert_eq!(of_event("cairn.first.proc.aname[2]"), Some("proc.aname[2]"));
        assert_eq!(of_event("cairn.first.time"), None);
        assert_eq!(of_event("cairn.count"), None);
        assert_eq!(of_event("proc.name"), Some("proc.name"));
    }
}
