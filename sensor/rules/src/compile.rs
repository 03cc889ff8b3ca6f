//! From a condition's tree to something that can be tried on events: fields looked up, types checked, lists put in, sets hashed,
//! event types worked out. A macro is compiled once and shared by all who use it.

mod matcher;
mod network;
mod options;
mod outline;
mod paths;
mod pattern;
mod reader;
mod set;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use matcher::{Matcher, Ordering, TextMatcher};
use network::Network;
use options::Letters;
pub(crate) use outline::{Location, Outline, Shape};
pub(crate) use paths::PathTree;
pub(crate) use pattern::Glob;
pub(crate) use reader::{Reader, Unary};
use set::Set;
pub(crate) use set::{Regex, RegexSet};
pub(crate) use types::TypeSet;

use crate::condition::{self, Argument, Check, Expr, FieldRef, Operand, Operator, Right, Spanned, Word};
use crate::engine::Context;
use crate::event::EventType;
use crate::fields::{FieldError, Kind, Resolved};
use crate::limits::{
    CONDITION_DEPTH_MAX, CONDITION_ERRORS_MAX, CONDITION_NODES_MAX, LIST_ITEMS_MAX, REGEX_SIZE_MAX, RULE_VALUES_MAX,
};
use crate::problem::Code;
use crate::source::Vocabulary;
use crate::suggest;

/// A compiled condition and what is known of it without trying it.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) node: Arc<Node>,
    /// The same as its author reads it.
    pub(crate) outline: Arc<Outline>,
    /// Event types for which it may hold.
    pub(crate) types: TypeSet,
    /// Event types for which its negation may hold.
    negative_types: TypeSet,
    pub(crate) facts: Facts,
    nodes: usize,
    values: usize,
    depth: usize,
}

/// What a condition refers to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Fields by name as written.
    pub(crate) fields: BTreeSet<String>,
}

/// A condition, ready to be tried.
#[derive(Debug)]
pub(crate) enum Node {
    And(Box<[Arc<Node>]>),
    Or(Box<[Arc<Node>]>),
    Not(Arc<Node>),
    Test(Arc<Test>),
    /// A check on a field nobody supplies.
    Never,
}

/// One comparison, ready to be tried. Two that are equal hold for the same events.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Test {
    pub(crate) left: Reader,
    pub(crate) matcher: Matcher,
}

impl Test {
    #[inline]
    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        // An absent field makes its check false, whatever the operator.
        self.left.read(context).is_some_and(|value| self.matcher.matches(&value, context))
    }
}

impl Node {
    pub(crate) fn holds(&self, context: &Context<'_>) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds(context)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(context)),
            Self::Not(inner) => !inner.holds(context),
            Self::Test(test) => test.holds(context),
            Self::Never => false,
        }
    }
}

/// Why a check does not compile. Places are in the condition's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompileError {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// An unknown field or event type, which `skip-if-unknown-filter` forgives.
    pub(crate) is_unknown_filter: bool,
    pub(crate) is_limit: bool,
    /// It stands in a macro, where it was reported already.
    pub(crate) is_elsewhere: bool,
}

/// What a condition's names stand for.
pub(crate) trait Scope {
    /// A field of the source the condition is for.
    fn resolve(&self, field: &FieldRef) -> Result<Resolved, FieldError>;
    /// A list's values, if there is such a list.
    fn list(&mut self, name: &str) -> Option<Arc<[Word]>>;
    /// A macro's condition.
    fn macro_condition(&mut self, name: &str) -> MacroLookup;
    /// All list names, for suggestions.
    fn list_names(&self) -> Vec<String>;
    /// All macro names, for suggestions.
    fn macro_names(&self) -> Vec<String>;
    /// Something that works but may not be what was meant.
    fn warn(&mut self, code: Code, span: Range<usize>, message: String, hint: Option<String>);
}

/// What became of looking a macro up.
pub(crate) enum MacroLookup {
    Found(Arc<Compiled>),
    Unknown,
    /// Defined only after the macro that uses it.
    TooLate,
    /// It is being compiled: it refers to itself.
    Loop,
    /// It has errors of its own, reported where they are.
    Failed {
        is_unknown_filter: bool,
    },
}

/// Compiles a condition. All that is wrong with it is collected.
pub(crate) fn compile(expr: &Expr, scope: &mut dyn Scope) -> Result<Compiled, Vec<CompileError>> {
    let mut compiler = Compiler { scope, errors: Vec::new() };
    let compiled = compiler.expr(expr);
    match compiled {
        Some(compiled) if compiler.errors.is_empty() => within_limits(compiled).map_err(|error| vec![error]),
        _ => {
            // The first ones tell what is wrong; finding the places of thousands would take longer than the rest of the load.
            compiler.errors.truncate(CONDITION_ERRORS_MAX);
            Err(compiler.errors)
        }
    }
}

/// Compiles a field or a transformer that stands for itself, as in an output.
pub(crate) fn operand(operand: &Operand, vocabulary: Vocabulary<'_>) -> Result<Reader, CompileError> {
    let mut scope = NoScope::assuming(&[], vocabulary);
    let mut compiler = Compiler { scope: &mut scope, errors: Vec::new() };
    let reader = compiler.operand(operand, &mut Facts::default());
    match (reader, compiler.errors.into_iter().next()) {
        (Some(reader), None) => Ok(reader),
        (_, Some(error)) => Err(error),
        (None, None) => unreachable!("invariant: what does not compile has an error"),
    }
}

/// Does a text begin with a transformer's name and its parenthesis?
pub(crate) fn is_transformer_at(text: &str) -> bool {
    text.split_once('(').is_some_and(|(name, _)| condition::is_transformer(name))
}

impl Compiled {
    /// The same for events of these types alone.
    pub(crate) fn within(self, types: &TypeSet) -> Self {
        Self { types: self.types.intersection(types), ..self }
    }
}

/// A condition, and none of its exceptions.
pub(crate) fn all_but(condition: Compiled, exceptions: Vec<Compiled>) -> Result<Compiled, CompileError> {
    let mut parts = vec![condition];
    parts.extend(exceptions.into_iter().map(negate));
    within_limits(merge(parts, true))
}

fn within_limits(compiled: Compiled) -> Result<Compiled, CompileError> {
    let sizes = [
        (compiled.nodes, CONDITION_NODES_MAX, "checks"),
        (compiled.values, RULE_VALUES_MAX, "values"),
        (compiled.depth, CONDITION_DEPTH_MAX, "nested levels"),
    ];
    match sizes.into_iter().find(|(size, max, _)| size > max) {
        None => Ok(compiled),
        Some((_, max, what)) => {
            let message = format!("with its macros and lists put in, the condition has more than {max} {what}");
            Err(CompileError { is_limit: true, ..error(0..0, message, None) })
        }
    }
}

fn negate(inner: Compiled) -> Compiled {
    Compiled {
        node: Arc::new(Node::Not(inner.node)),
        outline: Outline::not(inner.outline),
        types: inner.negative_types,
        negative_types: inner.types,
        facts: inner.facts,
        nodes: inner.nodes.saturating_add(1),
        values: inner.values,
        depth: inner.depth + 1,
    }
}

fn merge(mut compiled: Vec<Compiled>, is_and: bool) -> Compiled {
    if compiled.len() == 1 {
        return compiled.remove(0);
    }
    let all = |pick: fn(&Compiled) -> &TypeSet| {
        compiled.iter().fold(TypeSet::full(), |set, part| set.intersection(pick(part)))
    };
    let any =
        |pick: fn(&Compiled) -> &TypeSet| compiled.iter().fold(TypeSet::empty(), |set, part| set.union(pick(part)));
    let (types, negative_types) = if is_and {
        (all(|part| &part.types), any(|part| &part.negative_types))
    } else {
        (any(|part| &part.types), all(|part| &part.negative_types))
    };
    let mut facts = Facts::default();
    for part in &compiled {
        facts.fields.extend(part.facts.fields.iter().cloned());
    }
    let nodes = compiled.iter().fold(1_usize, |sum, part| sum.saturating_add(part.nodes));
    let values = compiled.iter().fold(0_usize, |sum, part| sum.saturating_add(part.values));
    let depth = 1 + compiled.iter().map(|part| part.depth).max().unwrap_or(0);
    let outline = Outline::several(compiled.iter().map(|part| Arc::clone(&part.outline)).collect(), is_and);
    let children: Box<[Arc<Node>]> = compiled.into_iter().map(|part| part.node).collect();
    let node = Arc::new(if is_and { Node::And(children) } else { Node::Or(children) });
    Compiled { node, outline, types, negative_types, facts, nodes, values, depth }
}

struct Compiler<'a> {
    scope: &'a mut dyn Scope,
    errors: Vec<CompileError>,
}

impl Compiler<'_> {
    fn expr(&mut self, expr: &Expr) -> Option<Compiled> {
        match expr {
            Expr::And(parts) => self.several(parts, true),
            Expr::Or(parts) => self.several(parts, false),
            Expr::Not(inner) => {
                let inner = self.expr(inner)?;
                Some(negate(inner))
            }
            Expr::Macro(name) => self.macro_condition(name),
            Expr::Check(check) => self.check(check),
        }
    }

    fn several(&mut self, parts: &[Expr], is_and: bool) -> Option<Compiled> {
        // Every part is compiled even after one failed, so that all problems are reported at once.
        let compiled: Vec<Option<Compiled>> = parts.iter().map(|part| self.expr(part)).collect();
        let compiled = compiled.into_iter().collect::<Option<Vec<_>>>()?;
        Some(merge(compiled, is_and))
    }

    fn macro_condition(&mut self, name: &Spanned<String>) -> Option<Compiled> {
        match self.scope.macro_condition(&name.value) {
            MacroLookup::Found(compiled) => {
                // Depth counts through macros: the tree is walked by recursion.
                let mut compiled = Compiled::clone(&compiled);
                compiled.depth += 1;
                compiled.outline = Outline::of_macro(&name.value, name.span.start, compiled.outline);
                if compiled.depth > CONDITION_DEPTH_MAX || compiled.nodes > CONDITION_NODES_MAX {
                    let message = format!("macro `{}` makes the condition too deep or too large", name.value);
                    self.errors.push(CompileError { is_limit: true, ..error(name.span.clone(), message, None) });
                    return None;
                }
                return Some(compiled);
            }
            MacroLookup::Unknown => {
                let names = self.scope.macro_names();
                let hint = suggest::hint(&name.value, names.iter().map(String::as_str));
                let hint = hint.or_else(|| Some("define it with `- macro:` in one of the rules files".to_owned()));
                self.errors.push(error(name.span.clone(), format!("unknown macro `{}`", name.value), hint));
            }
            MacroLookup::TooLate => {
                let message = format!("macro `{}` is defined after the macro that uses it", name.value);
                self.errors.push(error(name.span.clone(), message, Some("move its definition up".to_owned())));
            }
            MacroLookup::Loop => {
                let message = format!("macro `{}` refers to itself", name.value);
                self.errors.push(error(name.span.clone(), message, None));
            }
            MacroLookup::Failed { is_unknown_filter } => {
                let message = format!("macro `{}` has an error", name.value);
                self.errors.push(CompileError {
                    is_elsewhere: true,
                    is_unknown_filter,
                    ..error(name.span.clone(), message, None)
                });
            }
        }
        None
    }

    fn check(&mut self, check: &Check) -> Option<Compiled> {
        let mut facts = Facts::default();
        let left = self.operand(&check.left, &mut facts)?;
        let operator = check.operator.value;
        if !allows(left.kind(), operator) {
            let allowed: Vec<&str> =
                ALL_OPERATORS.iter().filter(|it| allows(left.kind(), **it)).map(|it| it.as_str()).collect();
            let message =
                format!("`{}` does not apply to `{}`, a {}", operator.as_str(), check.left, left.kind().as_str());
            let hint = format!("use one of: {}", allowed.join(" "));
            self.errors.push(error(check.operator.span.clone(), message, Some(hint)));
            return None;
        }
        let (matcher, values) = self.matcher(check, &left, &mut facts)?;
        let (types, negative_types) = self.types_of(check, &matcher)?;
        let is_blind = !left.is_supplied() || matches!(&matcher, Matcher::Other(_, reader) if !reader.is_supplied());
        let node = Arc::new(if is_blind { Node::Never } else { Node::Test(Arc::new(Test { left, matcher })) });
        let outline = Outline::check(check, Arc::clone(&node));
        Some(Compiled { node, outline, types, negative_types, facts, nodes: 1, values, depth: 1 })
    }

    /// Event types a check lets through. A check that is no comparison of `evt.type` may hold for any.
    fn types_of(&mut self, check: &Check, matcher: &Matcher) -> Option<(TypeSet, TypeSet)> {
        let Operand::Field(field) = &check.left else { return Some((TypeSet::full(), TypeSet::full())) };
        let never = match (field.name.as_str(), matcher) {
            // Upstream's `never_true`: events are numbered from 1.
            ("evt.num", Matcher::Number(Ordering::Equal, 0)) => true,
            ("evt.type" | "syscall.type", Matcher::Text(matcher)) => {
                return self.types_named(&field.name, check, matcher);
            }
            _ => false,
        };
        Some(if never { (TypeSet::empty(), TypeSet::full()) } else { (TypeSet::full(), TypeSet::full()) })
    }

    fn types_named(&mut self, field: &str, check: &Check, matcher: &TextMatcher) -> Option<(TypeSet, TypeSet)> {
        let names: Vec<String> = match matcher {
            TextMatcher::Equal(name) | TextMatcher::NotEqual(name) => vec![String::from_utf8_lossy(name).into_owned()],
            TextMatcher::In(names) => names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
            _ => return Some((TypeSet::full(), TypeSet::full())),
        };
        let unknown: Vec<&String> = names.iter().filter(|name| EventType::by_name(name).is_none()).collect();
        for name in &unknown {
            let span = self.word_span(check, name).unwrap_or_else(|| check.span.clone());
            let hint = suggest::hint(name, EventType::all().map(EventType::name));
            let error = error(span, format!("`{name}` is no event type"), hint);
            self.errors.push(CompileError { is_unknown_filter: true, ..error });
        }
        if !unknown.is_empty() {
            return None;
        }
        let set = TypeSet::of(names.iter().map(String::as_str));
        let complement = set.complement();
        // `syscall.type` is absent for what is no system call, so that its negation may hold there too.
        let negative = if field == "evt.type" { complement.clone() } else { TypeSet::full() };
        Some(match matcher {
            TextMatcher::NotEqual(_) => (complement, if field == "evt.type" { set } else { TypeSet::full() }),
            _ => (set, negative),
        })
    }

    fn word_span(&self, check: &Check, text: &str) -> Option<Range<usize>> {
        let words = match &check.right {
            Right::One(word) => std::slice::from_ref(word),
            Right::Many(words) | Right::Quantified(_, words) => words,
            _ => return None,
        };
        words.iter().find(|word| word.text == text).map(|word| word.span.clone())
    }

    fn operand(&mut self, operand: &Operand, facts: &mut Facts) -> Option<Reader> {
        match operand {
            Operand::Field(field) => self.field(field, facts),
            Operand::Transformed { name, arguments, index } => self.transformed(name, arguments, index.as_ref(), facts),
        }
    }

    fn field(&mut self, field: &FieldRef, facts: &mut Facts) -> Option<Reader> {
        match self.scope.resolve(field) {
            Ok(resolved) => {
                facts.fields.insert(resolved.name.clone());
                self.warn_of_field_of_old(field);
                Some(Reader::field(resolved))
            }
            Err(reason) => {
                let is_unknown_filter = reason.is_unknown();
                let error = error(field.span.clone(), reason.to_string(), reason.hint());
                self.errors.push(CompileError { is_unknown_filter, ..error });
                None
            }
        }
    }

    fn transformed(
        &mut self,
        name: &Spanned<String>,
        arguments: &[Argument],
        index: Option<&Spanned<String>>,
        facts: &mut Facts,
    ) -> Option<Reader> {
        let fail = |this: &mut Self, message: String, hint: &str| {
            this.errors.push(error(name.span.clone(), message, Some(hint.to_owned())));
            None
        };
        if let Some(index) = index.filter(|_| name.value != "getopt") {
            self.errors.push(error(index.span.clone(), format!("`{}` takes no `[]`", name.value), None));
            return None;
        }
        if let Some(unary) = Unary::by_name(&name.value) {
            let [Argument::Operand(inner)] = arguments else {
                return fail(self, format!("`{}` takes one field", name.value), "write `tolower(proc.name)`");
            };
            let inner = self.operand(inner, facts)?;
            return Some(Reader::Unary(unary, Box::new(inner)));
        }
        match (name.value.as_str(), arguments) {
            ("concat", parts) if parts.len() >= 2 => {
                let parts = self.parts(parts, name, facts)?;
                Some(Reader::Join { separator: Box::new(Reader::Word(Box::default())), parts })
            }
            ("join", [separator @ (Argument::Word(_) | Argument::Operand(_)), list]) => {
                let separator = self.parts(std::slice::from_ref(separator), name, facts)?.pop()?;
                let parts = match list {
                    Argument::List(parts) => self.parts(parts, name, facts)?,
                    Argument::Word(_) | Argument::Operand(_) => vec![self.list(list, name, facts)?],
                };
                Some(Reader::Join { separator: Box::new(separator), parts })
            }
            ("getopt", [list, Argument::Word(letters)]) => {
                let arguments = Box::new(self.list(list, name, facts)?);
                let letters = Letters::parse(&letters.text);
                let chosen = match index {
                    None => None,
                    Some(index) => Some(self.option(index, &letters)?),
                };
                Some(Reader::Options { arguments, letters: Box::new(letters), chosen })
            }
            ("getopt", _) => fail(
                self,
                "`getopt` takes a list of arguments and the options' letters".to_owned(),
                "write `getopt(proc.args, \"nt:\")`, or `getopt(proc.args, \"nt:\")[t]` for the value of one",
            ),
            ("concat", _) => fail(
                self,
                "`concat` takes two or more parts".to_owned(),
                "write `concat(proc.name, \"-\", proc.pname)`",
            ),
            ("join", _) => fail(
                self,
                "`join` takes a separator and a list".to_owned(),
                "write `join(\",\", (proc.name, proc.pname))`",
            ),
            (other, _) => unreachable!("the parser knows no transformer `{other}`"),
        }
    }

    /// An argument that must be a list: written as one, a field of several texts, or the arguments of the process.
    fn list(&mut self, argument: &Argument, name: &Spanned<String>, facts: &mut Facts) -> Option<Reader> {
        let reader = match argument {
            Argument::List(parts) => Reader::List(self.parts(parts, name, facts)?),
            Argument::Operand(Operand::Field(field)) if field.name == "proc.args" && field.argument.is_none() => {
                self.field(field, facts)?;
                Reader::Arguments
            }
            Argument::Operand(operand) => self.operand(operand, facts)?,
            Argument::Word(word) => Reader::Word(word.text.as_bytes().into()),
        };
        if reader.kind() != Kind::TextList {
            let message = format!("`{}` takes a list here, not a {}", name.value, reader.kind().as_str());
            let hint = Some("put it in parentheses: `(proc.name, proc.pname)`".to_owned());
            self.errors.push(error(name.span.clone(), message, hint));
            return None;
        }
        Some(reader)
    }

    /// The option in `getopt(...)[t]`.
    fn option(&mut self, index: &Spanned<String>, letters: &Letters) -> Option<u8> {
        match index.value.as_bytes() {
            [option] if letters.has(*option) => Some(*option),
            [option] => {
                let message = format!("option `{}` is not among the letters of `getopt`", char::from(*option));
                self.errors.push(error(index.span.clone(), message, Some("add it to them".to_owned())));
                None
            }
            _ => {
                let message = "an option of `getopt` is one letter".to_owned();
                self.errors.push(error(index.span.clone(), message, Some("write `getopt(...)[t]`".to_owned())));
                None
            }
        }
    }

    fn parts(&mut self, parts: &[Argument], name: &Spanned<String>, facts: &mut Facts) -> Option<Vec<Reader>> {
        let mut readers = Vec::with_capacity(parts.len());
        for part in parts {
            readers.push(match part {
                Argument::Operand(operand) => self.operand(operand, facts)?,
                Argument::Word(word) => Reader::Word(word.text.as_bytes().into()),
                Argument::List(_) => {
                    self.errors.push(error(
                        name.span.clone(),
                        format!("a list inside a part of `{}`", name.value),
                        None,
                    ));
                    return None;
                }
            });
        }
        Some(readers)
    }

    fn matcher(&mut self, check: &Check, left: &Reader, facts: &mut Facts) -> Option<(Matcher, usize)> {
        let operator = check.operator.value;
        match &check.right {
            Right::Nothing => Some((Matcher::Exists, 0)),
            Right::Operand(other) => self.compare_with(check, left, other, facts),
            Right::One(word) => {
                let word = self.single(word)?;
                self.look_at_values(left, std::slice::from_ref(&word))?;
                self.one(left.kind(), operator, &word).map(|matcher| (matcher, 1))
            }
            Right::Quantified(quantifier, words) => {
                let words = self.splice(words, check)?;
                self.look_at_values(left, &words)?;
                let count = words.len();
                let each: Option<Vec<Matcher>> =
                    words.iter().map(|word| self.one(left.kind(), operator, word)).collect();
                Some((Matcher::Quantified(*quantifier, each?), count))
            }
            Right::Many(words) => {
                let words = self.splice(words, check)?;
                self.look_at_values(left, &words)?;
                let matcher = self.many(left.kind(), operator, &words)?;
                let count = match &matcher {
                    // Each of a path's components takes room.
                    Matcher::Text(TextMatcher::PMatch(tree)) => tree.nodes(),
                    _ => words.len(),
                };
                Some((matcher, count))
            }
        }
    }

    /// Refuses values that can never be, and warns of those that are seldom meant.
    fn look_at_values(&mut self, left: &Reader, words: &[Word]) -> Option<()> {
        self.refuse_nul(left.kind(), words)?;
        for word in words {
            if word.text == "<NA>" && left.is_of_document() {
                let message = "comparison with `<NA>`: an absent field has no value, not even this one";
                let hint = Some("ask for the field by `exists`".to_owned());
                self.scope.warn(Code::LoadUnsafeNaCheck, word.span.clone(), message.to_owned(), hint);
            }
            self.warn_of_field_as_value(word);
        }
        Some(())
    }

    /// `proc.name = proc.pname` compares with a text; so does a transformer with a blank in an exception, or in quotes.
    fn warn_of_field_as_value(&mut self, word: &Word) {
        let text = word.text.trim();
        if !text.contains('.') || !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return;
        }
        let (what, hint) = match condition::parse_operand(text) {
            Ok(Operand::Field(field)) if self.scope.resolve(&field).is_ok() => ("field", format!("val({field})")),
            Ok(operand @ Operand::Transformed { .. }) => ("transformer", operand.to_string()),
            _ => return,
        };
        let message = format!("`{}` is taken as a text, though it is the name of a {what}", word.text);
        let hint = Some(format!("to compare with the {what}, write `{hint}`"));
        self.scope.warn(Code::LoadCompileCondition, word.span.clone(), message, hint);
    }

    /// Since events are made when calls return, nothing is known of when they began, and all go one way.
    fn warn_of_field_of_old(&mut self, field: &FieldRef) {
        let message = match field.name.as_str() {
            "evt.dir" => "`evt.dir` is deprecated: `<` is always so, `>` never",
            name if name.starts_with("evt.latency") || name == "evt.wait_latency" => {
                "`evt.latency` and its like are deprecated: events say nothing of when a call began"
            }
            _ => return,
        };
        let hint = Some("remove the check".to_owned());
        self.scope.warn(Code::LoadDeprecatedItem, field.span.clone(), message.to_owned(), hint);
    }

    /// Texts of the kernel end at a NUL byte, so that a value with one matches nothing; buffers may hold them.
    fn refuse_nul(&mut self, kind: Kind, words: &[Word]) -> Option<()> {
        let Some(word) = words.iter().find(|word| kind != Kind::Bytes && word.text.contains('\0')) else {
            return Some(());
        };
        let hint = Some("only fields of bytes, such as `evt.buffer`, can hold one".to_owned());
        self.errors.push(error(word.span.clone(), "a NUL byte in a value".to_owned(), hint));
        None
    }

    fn compare_with(
        &mut self,
        check: &Check,
        left: &Reader,
        other: &Operand,
        facts: &mut Facts,
    ) -> Option<(Matcher, usize)> {
        let right = self.operand(other, facts)?;
        let operator = check.operator.value;
        if operator == Operator::Regex {
            let hint = "a regular expression must be written in the rule".to_owned();
            self.errors.push(error(
                other.span(),
                "`regex` cannot take its right side from a field".to_owned(),
                Some(hint),
            ));
            return None;
        }
        let is_number = |kind: Kind| matches!(kind, Kind::Number | Kind::Port);
        let is_comparable = left.kind() == right.kind() || is_number(left.kind()) == is_number(right.kind());
        if !is_comparable {
            let message =
                format!("`{}` is a {}, `{other}` a {}", check.left, left.kind().as_str(), right.kind().as_str());
            self.errors.push(error(other.span(), message, Some("compare fields of one type".to_owned())));
            return None;
        }
        Some((Matcher::Other(operator, right), 1))
    }

    /// A word where one value is expected. The name of a list of one value stands for that value, as upstream's textual
    /// substitution has it.
    fn single(&mut self, word: &Word) -> Option<Word> {
        let list = if word.quoted { None } else { self.scope.list(&word.text) };
        match list.as_deref() {
            None => Some(word.clone()),
            Some([only]) => Some(Word { span: word.span.clone(), ..only.clone() }),
            Some(items) => {
                let message = format!("list `{}` has {} values where one is expected", word.text, items.len());
                let hint = format!("write `in ({})`, or quote the name if the text itself is meant", word.text);
                self.errors.push(error(word.span.clone(), message, Some(hint)));
                None
            }
        }
    }

    /// Words with lists put in.
    fn splice(&mut self, words: &[Word], check: &Check) -> Option<Vec<Word>> {
        let mut out = Vec::with_capacity(words.len());
        for word in words {
            let list = if word.quoted { None } else { self.scope.list(&word.text) };
            match list {
                Some(items) => out.extend(items.iter().map(|item| Word { span: word.span.clone(), ..item.clone() })),
                None => {
                    self.warn_of_misspelt_list(word);
                    out.push(word.clone());
                }
            }
            if out.len() > LIST_ITEMS_MAX {
                let message = format!("more than {LIST_ITEMS_MAX} values once lists are put in");
                self.errors.push(CompileError { is_limit: true, ..error(check.span.clone(), message, None) });
                return None;
            }
        }
        Some(out)
    }

    /// A list's name misspelt is a value to the language. Names of lists have underscores, programs seldom do.
    fn warn_of_misspelt_list(&mut self, word: &Word) {
        if word.quoted || !word.text.contains('_') {
            return;
        }
        let names = self.scope.list_names();
        if let Some(near) = suggest::nearest(&word.text, names.iter().map(String::as_str)) {
            let message = format!("`{}` is taken as a value: there is no such list", word.text);
            let hint = format!("did you mean the list `{near}`? If the text is meant, put it in quotes");
            self.scope.warn(Code::LoadCompileCondition, word.span.clone(), message, Some(hint));
        }
    }

    fn many(&mut self, kind: Kind, operator: Operator, words: &[Word]) -> Option<Matcher> {
        if operator == Operator::PMatch {
            let tree = PathTree::new(words.iter().map(|word| word.text.as_bytes()));
            return Some(Matcher::Text(TextMatcher::PMatch(tree)));
        }
        match kind {
            Kind::Text | Kind::Dynamic | Kind::TextList | Kind::Bytes => {
                let set: Set<Box<[u8]>> = words.iter().map(|word| word.text.as_bytes().into()).collect();
                // `in` wants all of a list's values in the set, `intersects` any.
                let wants_all = kind == Kind::TextList && operator == Operator::In;
                Some(if wants_all { Matcher::AllIn(set) } else { Matcher::Text(TextMatcher::In(set)) })
            }
            Kind::Number | Kind::Port => {
                let numbers: Vec<Option<i128>> = words.iter().map(|word| self.number(kind, word)).collect();
                Some(Matcher::NumberIn(numbers.into_iter().collect::<Option<Set<_>>>()?))
            }
            Kind::Boolean => {
                let each: Vec<Option<Matcher>> =
                    words.iter().map(|word| self.one(kind, Operator::Equal, word)).collect();
                Some(Matcher::Quantified(
                    crate::condition::Quantifier::Any,
                    each.into_iter().collect::<Option<Vec<_>>>()?,
                ))
            }
            Kind::Address | Kind::Network => {
                let networks: Vec<Option<Network>> = words.iter().map(|word| self.network(kind, word)).collect();
                let networks = networks.into_iter().collect::<Option<Box<[Network]>>>()?;
                Some(Matcher::Network { is_negated: false, networks })
            }
        }
    }

    fn one(&mut self, kind: Kind, operator: Operator, word: &Word) -> Option<Matcher> {
        match kind {
            Kind::Number | Kind::Port => {
                let number = self.number(kind, word)?;
                Ordering::of(operator).map(|ordering| Matcher::Number(ordering, number))
            }
            Kind::Boolean => {
                let value = match word.text.as_str() {
                    "true" => true,
                    "false" => false,
                    other => {
                        let message = format!("`{other}` is neither true nor false");
                        self.errors.push(error(word.span.clone(), message, None));
                        return None;
                    }
                };
                Some(Matcher::Boolean { expected: value == (operator == Operator::Equal) })
            }
            Kind::Address | Kind::Network => {
                let networks = Box::new([self.network(kind, word)?]);
                Some(Matcher::Network { is_negated: operator == Operator::NotEqual, networks })
            }
            Kind::Bytes if matches!(operator, Operator::BContains | Operator::BStartsWith) => {
                if let Some(bytes) = from_hex(&word.text) {
                    let bytes = bytes.into();
                    let is_contained = operator == Operator::BContains;
                    return Some(Matcher::Text(if is_contained {
                        TextMatcher::Contains(bytes)
                    } else {
                        TextMatcher::StartsWith(bytes)
                    }));
                }
                let message = format!("`{}` is not hexadecimal: two digits for each byte", word.text);
                self.errors.push(error(word.span.clone(), message, None));
                None
            }
            Kind::Dynamic if operator.is_ordering() => {
                let number = self.number(Kind::Number, word)?;
                Ordering::of(operator).map(|ordering| Matcher::Text(TextMatcher::Number(ordering, number)))
            }
            Kind::Text | Kind::Dynamic | Kind::Bytes | Kind::TextList => self.text(operator, word).map(Matcher::Text),
        }
    }

    fn network(&mut self, kind: Kind, word: &Word) -> Option<Network> {
        let network = Network::parse(&word.text).filter(|_| kind == Kind::Network || !word.text.contains('/'));
        if network.is_none() {
            let what =
                if kind == Kind::Network { "an IP address or a network such as 10.0.0.0/8" } else { "an IP address" };
            self.errors.push(error(word.span.clone(), format!("`{}` is not {what}", word.text), None));
        }
        network
    }

    fn text(&mut self, operator: Operator, word: &Word) -> Option<TextMatcher> {
        let bytes = || -> Box<[u8]> { word.text.as_bytes().into() };
        Some(match operator {
            Operator::Equal => TextMatcher::Equal(bytes()),
            Operator::NotEqual => TextMatcher::NotEqual(bytes()),
            Operator::Contains => TextMatcher::Contains(bytes()),
            Operator::IContains => TextMatcher::IContains(word.text.to_ascii_lowercase().into_bytes().into()),
            Operator::StartsWith => TextMatcher::StartsWith(bytes()),
            Operator::EndsWith => TextMatcher::EndsWith(bytes()),
            Operator::Glob => TextMatcher::Glob(Glob::new(word.text.as_bytes(), false)),
            Operator::IGlob => TextMatcher::Glob(Glob::new(word.text.as_bytes(), true)),
            Operator::Regex => TextMatcher::Regex(self.regex(word)?),
            other => TextMatcher::Less(Ordering::of(other)?, bytes()),
        })
    }

    /// The whole text must match, as with RE2's full match upstream.
    fn regex(&mut self, word: &Word) -> Option<Regex> {
        let anchored = format!(r"\A(?:{})\z", word.text);
        let built = regex::bytes::RegexBuilder::new(&anchored).size_limit(REGEX_SIZE_MAX).build();
        match built {
            Ok(regex) => Some(Regex::new(regex)),
            Err(regex::Error::CompiledTooBig(_)) => {
                let message = format!("a regular expression that compiles to more than {REGEX_SIZE_MAX} bytes");
                let hint = Some("shorten repetitions such as `{1,1000}`".to_owned());
                self.errors.push(CompileError { is_limit: true, ..error(word.span.clone(), message, hint) });
                None
            }
            Err(reason) => {
                let reason = reason.to_string();
                let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.errors.push(error(word.span.clone(), format!("not a regular expression: {last}"), None));
                None
            }
        }
    }

    fn number(&mut self, kind: Kind, word: &Word) -> Option<i128> {
        let text = word.text.as_str();
        let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16).ok().map(i128::from),
            None => text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<u64>().map(i128::from)).ok(),
        };
        let service =
            || SERVICES.iter().find(|(name, _)| kind == Kind::Port && *name == text).map(|(_, port)| i128::from(*port));
        let number = parsed.or_else(service);
        if number.is_none() {
            let message = format!("`{text}` is not a whole number");
            self.errors.push(error(word.span.clone(), message, None));
        }
        number
    }
}

const ALL_OPERATORS: [Operator; 19] = [
    Operator::Equal,
    Operator::NotEqual,
    Operator::Less,
    Operator::LessEqual,
    Operator::Greater,
    Operator::GreaterEqual,
    Operator::In,
    Operator::Intersects,
    Operator::Exists,
    Operator::Contains,
    Operator::IContains,
    Operator::StartsWith,
    Operator::EndsWith,
    Operator::Glob,
    Operator::IGlob,
    Operator::Regex,
    Operator::PMatch,
    Operator::BContains,
    Operator::BStartsWith,
];

/// Which operators apply to which kind.
fn allows(kind: Kind, operator: Operator) -> bool {
    use Operator as O;
    let is_membership = matches!(operator, O::In | O::Intersects | O::Exists);
    let is_equality = matches!(operator, O::Equal | O::NotEqual);
    match kind {
        Kind::Text | Kind::Dynamic => !matches!(operator, O::BContains | O::BStartsWith),
        Kind::Number | Kind::Port => is_membership || is_equality || operator.is_ordering(),
        Kind::Boolean | Kind::Address | Kind::Network => is_membership || is_equality,
        Kind::Bytes => {
            is_equality
                || matches!(
                    operator,
                    O::Exists | O::Contains | O::StartsWith | O::EndsWith | O::BContains | O::BStartsWith
                )
        }
        Kind::TextList => is_membership,
    }
}

/// Two digits for each byte.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// Services by name, where a port is compared with one.
const SERVICES: [(&str, u16); 12] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("http", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap", 143),
    ("ldap", 389),
    ("https", 443),
    ("ldaps", 636),
];

fn error(span: Range<usize>, message: String, hint: Option<String>) -> CompileError {
    CompileError { span, message, hint, is_unknown_filter: false, is_limit: false, is_elsewhere: false }
}

/// A scope without lists, in which macros may be anything: for conditions that stand alone.
pub(crate) struct NoScope<'v> {
    assumed: Vec<String>,
    vocabulary: Vocabulary<'v>,
}

impl<'v> NoScope<'v> {
    pub(crate) fn assuming(macros: &[String], vocabulary: Vocabulary<'v>) -> Self {
        Self { assumed: macros.to_vec(), vocabulary }
    }
}

impl Scope for NoScope<'_> {
    fn resolve(&self, field: &FieldRef) -> Result<Resolved, FieldError> {
        self.vocabulary.resolve(field)
    }

    fn list(&mut self, _: &str) -> Option<Arc<[Word]>> {
        None
    }

    fn macro_condition(&mut self, name: &str) -> MacroLookup {
        if !self.assumed.iter().any(|assumed| assumed == name) {
            return MacroLookup::Unknown;
        }
        MacroLookup::Found(Arc::new(Compiled {
            node: Arc::new(Node::Never),
            outline: Outline::assumed(name),
            types: TypeSet::full(),
            negative_types: TypeSet::full(),
            facts: Facts::default(),
            nodes: 1,
            values: 0,
            depth: 1,
        }))
    }

    fn list_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn macro_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn warn(&mut self, _: Code, _: Range<usize>, _: String, _: Option<String>) {}
}
