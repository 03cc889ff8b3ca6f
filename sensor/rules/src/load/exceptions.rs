//! Exceptions of a rule: named sets of values for which it stays silent. Each becomes a condition of which none may hold.

use super::reader::{Fields, Joined, Scalar, scalars_of};
use crate::condition::{
    Argument, Check, Expr, FieldRef, Operand, Operator, Quantifier, Right, Spanned, Word, is_identifier,
    parse_comparison, parse_operand, parse_right_operand,
};
use crate::limits::EXCEPTION_VALUES_MAX;
use crate::problem::{Code, Place, Reporter};
use crate::yaml::Node;

/// One exception as written; what it means is worked out when the rule is complete, since values may be appended.
#[derive(Debug, Clone)]
pub(crate) struct Exception {
    pub(crate) name: Scalar,
    shape: Option<Shape>,
    /// `values` was written: appending an exception without is a warning.
    has_values: bool,
    values: Vec<ValueNode>,
}

/// `fields` and `comps`: one of each, or as many as a tuple has.
#[derive(Debug, Clone)]
struct Shape {
    is_list: bool,
    fields: Vec<(Operand, Comparison)>,
}

/// `in`, `startswith`, `contains anyof`.
#[derive(Debug, Clone, Copy)]
struct Comparison {
    operator: Operator,
    quantifier: Option<Quantifier>,
}

impl Comparison {
    /// Does it compare with several values at once?
    fn takes_list(self) -> bool {
        self.operator.takes_list() || self.quantifier.is_some()
    }

    fn with(self, words: Vec<Word>) -> Right {
        match self.quantifier {
            Some(quantifier) => Right::Quantified(quantifier, words),
            None => Right::Many(words),
        }
    }
}

/// A value: a text, or a list of texts for `in` and its like.
#[derive(Debug, Clone)]
enum ValueNode {
    One(Scalar),
    Many(Vec<ValueNode>, Place),
}

/// The exceptions of an item. What is malformed is reported and left out.
pub(crate) fn read(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Vec<Exception> {
    let Some(node) = fields.get("exceptions").filter(|node| !node.is_null()) else { return Vec::new() };
    let Some(nodes) = node.sequence() else {
        let hint = Some("write a sequence of `{name, fields, comps, values}`".to_owned());
        fields.wrong(node, "`exceptions` must be a sequence".to_owned(), hint, reporter);
        return Vec::new();
    };
    let mut all: Vec<Exception> = Vec::new();
    for node in nodes {
        let Some(exception) = read_one(node, fields, reporter) else { continue };
        if all.iter().any(|other| other.name.value == exception.name.value) {
            let message = format!("two exceptions named `{}`", exception.name.value);
            let hint = Some("give them different names, or put their values together".to_owned());
            reporter.warning(Code::LoadExceptionNameNotUnique, exception.name.place(), &fields.item, message, hint);
        }
        all.push(exception);
    }
    all
}

/// Adds to the exceptions of an earlier definition; to one of the same name, values alone suffice.
pub(crate) fn append(to: &mut Vec<Exception>, from: Vec<Exception>, fields: &Fields<'_>, reporter: &mut Reporter<'_>) {
    for exception in from {
        if !exception.has_values {
            let message = format!("exception `{}` is appended without values", exception.name.value);
            let hint = Some("add `values:`".to_owned());
            reporter.warning(Code::LoadAppendNoValues, exception.name.place(), &fields.item, message, hint);
        }
        match to.iter_mut().find(|known| known.name.value == exception.name.value) {
            Some(known) if exception.shape.is_none() => known.values.extend(exception.values),
            Some(known) => {
                let message = format!("exception `{}` is appended to with `fields` or `comps`", known.name.value);
                let hint = Some("give values alone, or another name".to_owned());
                reporter.error(Code::LoadErrYamlValidate, exception.name.place(), &fields.item, message, hint);
            }
            None => to.push(exception),
        }
    }
}

fn read_one(node: &Node, outer: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Exception> {
    let Some(pairs) = node.mapping() else {
        outer.wrong(node, format!("an exception is a mapping, not {}", node.kind()), None, reporter);
        return None;
    };
    let known = ["name", "fields", "comps", "values"];
    let fields = Fields::new(node, pairs, outer.file, outer.item.clone(), &known, reporter);
    let name = fields.required("name", reporter)?;
    let shape = if fields.has("fields") { Some(shape(&fields, reporter)?) } else { None };
    let mut values = Vec::new();
    if let Some(node) = fields.get("values").filter(|node| !node.is_null()) {
        let Some(nodes) = node.sequence() else {
            fields.wrong(node, "`values` must be a sequence".to_owned(), None, reporter);
            return None;
        };
        if nodes.len() > EXCEPTION_VALUES_MAX {
            let message = format!("{} values in an exception, more than {EXCEPTION_VALUES_MAX}", nodes.len());
            reporter.error(Code::CairnLimit, fields.place_of(node), &fields.item, message, None);
            return None;
        }
        for node in nodes {
            values.push(value(node, &fields, reporter)?);
        }
    }
    Some(Exception { name, shape, has_values: fields.has("values"), values })
}

fn shape(fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<Shape> {
    let node = fields.get("fields")?;
    let is_list = node.sequence().is_some();
    let names = match node.text() {
        Some(text) => vec![Scalar::new(node, text, fields.file)],
        None => scalars_of(node, "fields", fields, reporter)?,
    };
    let comps = match fields.get("comps") {
        None => names
            .iter()
            .map(|name| Scalar { value: if is_list { "=" } else { "in" }.to_owned(), ..name.clone() })
            .collect(),
        Some(node) if node.sequence().is_some() => scalars_of(node, "comps", fields, reporter)?,
        Some(_) => vec![fields.scalar("comps", reporter)?],
    };
    if comps.len() != names.len() {
        let message = format!("{} fields, but {} comps", names.len(), comps.len());
        reporter.error(
            Code::LoadErrYamlValidate,
            fields.place_of(node),
            &fields.item,
            message,
            Some("give one comparison for each field".to_owned()),
        );
        return None;
    }
    let mut both = Vec::new();
    for (name, comp) in names.iter().zip(&comps) {
        let operand = match parse_operand(&name.value) {
            Ok(operand) => without_places(operand),
            Err(error) => {
                reporter.error(Code::LoadErrYamlValidate, name.place(), &fields.item, error.message, error.hint);
                return None;
            }
        };
        let comparison = parse_comparison(&comp.value)
            .map(|(operator, quantifier)| Comparison { operator, quantifier })
            .filter(|comparison| comparison.operator != Operator::Exists);
        let Some(comparison) = comparison.filter(|comparison| is_list || comparison.takes_list()) else {
            let hint = if is_list {
                "use an operator such as = or in"
            } else {
                "a single field is compared by in, pmatch, intersects, or an operator with oneof, anyof or allof"
            };
            let message = format!("`{}` is not a comparison of exceptions", comp.value);
            reporter.error(Code::LoadErrYamlValidate, comp.place(), &fields.item, message, Some(hint.to_owned()));
            return None;
        };
        both.push((operand, comparison));
    }
    Some(Shape { is_list, fields: both })
}

fn value(node: &Node, fields: &Fields<'_>, reporter: &mut Reporter<'_>) -> Option<ValueNode> {
    if let Some(text) = node.text() {
        return Some(ValueNode::One(Scalar::new(node, text, fields.file)));
    }
    let Some(nodes) = node.sequence() else {
        fields.wrong(node, format!("a value is a text or a sequence, not {}", node.kind()), None, reporter);
        return None;
    };
    let mut values = Vec::new();
    for node in nodes {
        values.push(value(node, fields, reporter)?);
    }
    Some(ValueNode::Many(values, fields.place_of(node)))
}

/// The condition under which the exception applies; `None` when it has no values, or is malformed (which is reported).
pub(crate) fn condition(exception: &Exception, item: &str, reporter: &mut Reporter<'_>) -> Option<Expr> {
    let mut fail = |place: Place, message: String, hint: &str| {
        reporter.error(Code::LoadErrYamlValidate, place, item, message, Some(hint.to_owned()));
        None
    };
    let Some(shape) = &exception.shape else {
        let message = format!("exception `{}` has no `fields`", exception.name.value);
        return fail(exception.name.place(), message, "add `fields:`");
    };
    if exception.values.is_empty() {
        return None;
    }
    if !shape.is_list {
        let (operand, comparison) = shape.fields.first()?;
        let mut words = Vec::new();
        for value in &exception.values {
            match value {
                ValueNode::One(scalar) => words.push(word(scalar)),
                ValueNode::Many(_, place) => {
                    let message =
                        format!("exception `{}` has a single field, and a list as a value", exception.name.value);
                    return fail(*place, message, "write the values one after the other");
                }
            }
        }
        return Some(check(operand, *comparison, comparison.with(words)));
    }
    let mut tuples = Vec::new();
    for value in &exception.values {
        let ValueNode::Many(elements, place) = value else {
            let message = format!("exception `{}` has several fields, and a single value", exception.name.value);
            return fail(exception.name.place(), message, "write a sequence with a value for each field");
        };
        if elements.len() != shape.fields.len() {
            let message = format!("{} values for {} fields", elements.len(), shape.fields.len());
            return fail(*place, message, "give one value for each field");
        }
        let mut parts = Vec::new();
        for ((operand, comparison), element) in shape.fields.iter().zip(elements) {
            let right = match element {
                ValueNode::One(scalar) if comparison.takes_list() => comparison.with(vec![word(scalar)]),
                ValueNode::One(scalar) => one(scalar),
                ValueNode::Many(values, _) if comparison.takes_list() => comparison.with(
                    values
                        .iter()
                        .filter_map(|value| if let ValueNode::One(scalar) = value { Some(word(scalar)) } else { None })
                        .collect(),
                ),
                ValueNode::Many(_, place) => {
                    let message = format!("a list for `{}`, which takes one value", comparison.operator.as_str());
                    return fail(*place, message, "compare by `in`, or write one tuple for each value");
                }
            };
            parts.push(check(operand, *comparison, right));
        }
        tuples.push(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) });
    }
    Some(if tuples.len() == 1 { tuples.remove(0) } else { Expr::Or(tuples) })
}

/// Where problems of the exception's condition are reported: its name.
pub(crate) fn place(exception: &Exception) -> Joined {
    exception.name.clone().into()
}

fn check(operand: &Operand, comparison: Comparison, right: Right) -> Expr {
    Expr::Check(Box::new(Check {
        left: operand.clone(),
        operator: Spanned { value: comparison.operator, span: 0..0 },
        right,
        span: 0..0,
    }))
}

/// What is wrong with it is reported at the exception's name: its own places are in another text.
fn without_places(operand: Operand) -> Operand {
    match operand {
        Operand::Field(field) => Operand::Field(FieldRef { span: 0..0, ..field }),
        Operand::Transformed { name, arguments, index } => {
            let arguments = arguments.into_iter().map(argument_without_places).collect();
            let index = index.map(|index| Spanned { span: 0..0, ..index });
            Operand::Transformed { name: Spanned { span: 0..0, ..name }, arguments, index }
        }
    }
}

fn argument_without_places(argument: Argument) -> Argument {
    match argument {
        Argument::Operand(operand) => Argument::Operand(without_places(operand)),
        Argument::Word(word) => Argument::Word(Word { span: 0..0, ..word }),
        Argument::List(parts) => Argument::List(parts.into_iter().map(argument_without_places).collect()),
    }
}

/// A single value: as it would stand in the condition, `tolower(proc.pname)` is a transformer. With a blank in it, it would have been
/// put in quotes, and is a text.
fn one(scalar: &Scalar) -> Right {
    let is_text = scalar.value.contains(' ');
    let operand = if is_text { None } else { parse_right_operand(&scalar.value) };
    operand.map_or_else(|| Right::One(word(scalar)), |operand| Right::Operand(without_places(operand)))
}

/// A value may be the name of a list, also in parentheses: `(my_list)`.
fn word(scalar: &Scalar) -> Word {
    let text = scalar.value.trim();
    let bare = text
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .map(str::trim)
        .filter(|name| is_identifier(name));
    let unquoted =
        [('"', '"'), ('\'', '\'')].iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close));
    match (bare, unquoted) {
        (Some(name), _) => Word { text: name.to_owned(), quoted: false, span: 0..0 },
        (None, Some(inner)) => Word { text: inner.to_owned(), quoted: true, span: 0..0 },
        (None, None) => Word { text: scalar.value.clone(), quoted: !is_identifier(text), span: 0..0 },
    }
}
