//! Checks of guardrail files before anything is evaluated: what the engine would only notice at admission, or not at all.
//!
//! - A function that does not exist surfaces in the engine when the call is reached. Here it is a problem at load.
//! - Recursion through functions overflows the engine's stack, which nothing can catch. Here it is refused, as OPA does.
//! - `not f(input.missing)` is true in this engine and undefined in OPA (which evaluates arguments before the negation): in a
//!   `deny` rule it denies too much, in an `allow if not …` it allows too much. Here it is refused, with the fix.
//! - Builtins whose answer depends on anything but their arguments, or whose cost has no bound, are refused.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{BUILTINS, BoolOp, Expr, Literal, Module, Query, Ref, Rule, RuleHead};

use crate::bounded;
use crate::library::{Library, RuleKey, import_target, package_path};
use crate::limits::{CALL_CHAIN_MAX, EXPRESSION_DEPTH_MAX};
use crate::problem::Problem;
use crate::rule_name::{self, Effect};
use crate::syntax::{Node, locals, reference_len, root_name, rule_refr, rule_roots, start, static_path, text, walk};

/// Builtins that exist in OPA and are refused here, with the reason.
const REFUSED: &[(&str, &str)] = &[
    (
        "http.send",
        "a guardrail's answer may depend only on its input, and a server that waits for another stops admitting",
    ),
    ("net.lookup_ip_addr", "a guardrail's answer may depend only on its input"),
    ("opa.runtime", "it would put the server's environment within a guardrail's reach"),
    ("rand.intn", "the same input must get the same answer in CI, at admission and in an audit"),
    ("uuid.rfc4122", "the same input must get the same answer in CI, at admission and in an audit"),
    ("graph.reachable_paths", "the number of paths has no bound"),
];

/// Refuses expressions nested too deeply. Must pass before any other check looks at the module.
pub(crate) fn depth(module: &Module) -> Vec<Problem> {
    let mut problems = Vec::new();
    for rule in &module.policy {
        let mut too_deep = None;
        let mut roots = rule_roots(rule);
        roots.push(Node::Expr(rule_refr(rule)));
        walk(roots, |node, depth| {
            let (span, steps) = match node {
                Node::Expr(expr) => (expr.span(), reference_len(expr)),
                Node::Query(query) => (&query.span, 0),
            };
            if depth + steps > EXPRESSION_DEPTH_MAX {
                too_deep = Some(span);
            }
            too_deep.is_none()
        });
        if let Some(span) = too_deep {
            problems.push(
                Problem::at(span, format!("nested deeper than {EXPRESSION_DEPTH_MAX}"))
                    .hint("name parts of the expression with `:=`, or move them into a rule of their own"),
            );
        }
    }
    problems
}

/// Every check of one module against all the modules it may refer to.
pub(crate) fn module(module: &Module, library: &Library<'_>, is_test: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    for rule in &module.policy {
        if !is_test {
            problems.extend(guardrail_head(rule));
        }
        let locals = locals(rule);
        walk(rule_roots(rule), |node, _| {
            match node {
                Node::Expr(Expr::Call { span: _, fcn, params, .. }) => {
                    problems.extend(call(module, library, fcn, params.len()));
                }
                Node::Expr(Expr::UnaryExpr { span, expr, .. }) if !matches!(expr.as_ref(), Expr::Number { .. }) => {
                    problems.push(
                        Problem::at(span, "a minus sign may only stand before a number")
                            .hint(format!("write `0 - {}`", text(expr))),
                    );
                }
                Node::Expr(expr @ (Expr::RefDot { .. } | Expr::RefBrack { .. })) => {
                    problems.extend(missing_rule(module, library, &locals, expr));
                }
                Node::Query(query) => negations(module, library, &locals, query, &mut problems),
                Node::Expr(_) => {}
            }
            true
        });
    }
    problems
}

/// A rule with a guardrail's name must be one: `deny contains message if { … }`.
fn guardrail_head(rule: &Rule) -> Option<Problem> {
    let refr = rule_refr(rule);
    let name = root_name(refr)?;
    let effect = Effect::of_rule(name)?;
    let is_set = matches!(rule, Rule::Spec { head: RuleHead::Set { key: Some(_), .. }, .. });
    if is_set && matches!(refr.as_ref(), Expr::Var { .. }) {
        return None;
    }
    let word = match effect {
        Effect::Deny => "denies",
        Effect::Warn => "warns",
    };
    Some(
        Problem::at(rule.span(), format!("a rule named `{name}` {word}, so it must be a set of messages"))
            .hint(format!("write `{name} contains message if {{ … }}`, or give the rule another name")),
    )
}

/// A call must name a function that exists, with as many arguments as it takes.
fn call(module: &Module, library: &Library<'_>, fcn: &Ref<Expr>, given: usize) -> Option<Problem> {
    let (path, true) = static_path(fcn)? else {
        return Some(Problem::at(start(fcn), "a function's name must be fixed text"));
    };
    if let Some((definition, false)) = library.resolve(module, fcn)
        && let Some(arity) = definition.arity
    {
        return arity_problem(fcn, &path.join("."), given, arity, true);
    }
    let name = path.join(".");
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Some(Problem::at(start(fcn), format!("`{name}` is not available to guardrails: {why}")));
    }
    if name == "print" {
        return None;
    }
    if let Some(arity) = bounded::arity(&name) {
        return arity_problem(fcn, &name, given, arity, false);
    }
    match BUILTINS.get(name.as_str()) {
        Some((_, arity)) => arity_problem(fcn, &name, given, usize::from(*arity), true),
        None => Some(
            Problem::at(start(fcn), format!("there is no function `{name}`"))
                .hint(suggestion(&name, library).unwrap_or_else(|| "check the spelling and the imports".to_owned())),
        ),
    }
}

/// A reference into a package must name something there.
fn missing_rule(module: &Module, library: &Library<'_>, locals: &BTreeSet<String>, expr: &Expr) -> Option<Problem> {
    if root_name(expr).is_some_and(|root| locals.contains(root)) {
        return None;
    }
    let name = library.missing(module, expr)?;
    Some(
        Problem::at(start(expr), format!("there is no rule `{name}`"))
            .hint("check the spelling; it would be undefined for ever"),
    )
}

/// `f(a, b)` may also be written `f(a, b, result)`, where the engine supports that.
fn arity_problem(fcn: &Expr, name: &str, given: usize, takes: usize, result_argument: bool) -> Option<Problem> {
    if given == takes || (result_argument && given == takes + 1) {
        return None;
    }
    let problem = Problem::at(start(fcn), format!("`{name}` takes {takes} arguments, not {given}"));
    Some(if given == takes + 1 { problem.hint(format!("write `result := {name}(…)`")) } else { problem })
}

/// The function whose name is one edit away.
fn suggestion(name: &str, library: &Library<'_>) -> Option<String> {
    let known = BUILTINS.keys().copied().map(str::to_owned);
    let ours = library.rules.iter().filter(|(_, rule)| rule.arity.is_some()).map(|((_, name), _)| name.clone());
    known.chain(ours).find(|known| one_edit(known, name)).map(|known| format!("did you mean `{known}`?"))
}

/// Whether one insertion, deletion, replacement or swap turns one word into the other.
fn one_edit(left: &str, right: &str) -> bool {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let same_start = left.iter().zip(&right).take_while(|(l, r)| l == r).count();
    let (l, r) = (&left[same_start..], &right[same_start..]);
    match (l.len(), r.len()) {
        (0, 0) => false,
        (ll, rl) if ll == rl => l[1..] == r[1..] || (ll > 1 && l[0] == r[1] && l[1] == r[0] && l[2..] == r[2..]),
        (ll, rl) if ll == rl + 1 => l[1..] == *r,
        (ll, rl) if ll + 1 == rl => *l == r[1..],
        _ => false,
    }
}

// === negation ===

fn negations(
    module: &Module,
    library: &Library<'_>,
    locals: &BTreeSet<String>,
    query: &Query,
    problems: &mut Vec<Problem>,
) {
    let scope = Scope { module, library, locals };
    for statement in &query.stmts {
        let Literal::NotExpr { expr, .. } = &statement.literal else { continue };
        let Some(culprit) = scope.negated(expr) else { continue };
        let text = text(culprit);
        problems.push(
            Problem::at(
                start(culprit),
                format!("`{text}` may be undefined inside `not`: other Rego engines then skip this statement, this one takes it as true"),
            )
            .hint(format!(
                "name it first, as `value := {text}` on a line before the `not`; or give it a default with `object.get`"
            )),
        );
    }
}

/// What is known where a negation stands.
struct Scope<'a> {
    module: &'a Module,
    library: &'a Library<'a>,
    locals: &'a BTreeSet<String>,
}

impl<'a> Scope<'a> {
    /// What OPA would evaluate before a negated expression and might find undefined.
    /// A plain reference or an equality of plain references is evaluated inside the negation by both.
    fn negated<'e>(&self, expr: &'e Expr) -> Option<&'e Expr> {
        match expr {
            Expr::Call { params, .. } => params.iter().find_map(|parameter| self.undefined(parameter)),
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } | Expr::AssignExpr { lhs, rhs, .. } => {
                self.operand(lhs).or_else(|| self.operand(rhs))
            }
            Expr::BoolExpr { lhs, rhs, .. } | Expr::BinExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
                self.undefined(lhs).or_else(|| self.undefined(rhs))
            }
            Expr::Membership { key, value, collection, .. } => {
                key.iter().chain([value, collection]).find_map(|part| self.undefined(part))
            }
            _ => self.operand(expr),
        }
    }

    /// An operand of `==`: references stay inside the negation, but their indexes and any calls do not.
    fn operand<'e>(&self, expr: &'e Expr) -> Option<&'e Expr> {
        match expr {
            Expr::RefDot { refr, .. } => self.operand(refr),
            Expr::RefBrack { refr, index, .. } => self.operand(refr).or_else(|| self.undefined(index)),
            Expr::Var { .. } => None,
            _ => self.undefined(expr),
        }
    }

    /// The part of an expression that may be undefined.
    fn undefined<'e>(&self, expr: &'e Expr) -> Option<&'e Expr> {
        match expr {
            Expr::Var { span, .. } => {
                let name = span.text();
                if matches!(name, "input" | "data" | "_") || self.locals.contains(name) {
                    return None;
                }
                match self.library.resolve(self.module, expr) {
                    Some((definition, below)) => (below || !definition.always_defined).then_some(expr),
                    // An import of something in `input`, or a variable the engine will report as unsafe.
                    None => import_target(self.module, name).is_some().then_some(expr),
                }
            }
            Expr::RefDot { .. } | Expr::RefBrack { .. } => match self.library.resolve(self.module, expr) {
                Some((definition, false))
                    if definition.always_defined && !root_name(expr).is_some_and(|root| self.locals.contains(root)) =>
                {
                    None
                }
                _ => Some(expr),
            },
            Expr::Call { fcn, params, .. } => match self.library.resolve(self.module, fcn) {
                Some((definition, _)) if definition.arity.is_some() && !has_default(definition) => Some(expr),
                _ => params.iter().find_map(|parameter| self.undefined(parameter)),
            },
            Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().find_map(|item| self.undefined(item)),
            Expr::Object { fields, .. } => {
                fields.iter().find_map(|(_, key, value)| self.undefined(key).or_else(|| self.undefined(value)))
            }
            Expr::UnaryExpr { expr, .. } => self.undefined(expr),
            Expr::BinExpr { lhs, rhs, .. } | Expr::BoolExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } => {
                self.undefined(lhs).or_else(|| self.undefined(rhs))
            }
            Expr::Membership { value, collection, .. } => self.undefined(value).or_else(|| self.undefined(collection)),
            // Comprehensions are always defined; literals too.
            _ => None,
        }
    }
}

fn has_default(definition: &crate::library::Definition<'_>) -> bool {
    definition.rules.iter().any(|(_, rule)| matches!(rule.as_ref(), Rule::Default { .. }))
}

// === recursion ===

/// Refuses rules that reach themselves, and chains longer than [`CALL_CHAIN_MAX`].
pub(crate) fn recursion(library: &Library<'_>) -> Vec<Problem> {
    let edges: BTreeMap<&RuleKey, BTreeSet<RuleKey>> =
        library.rules.iter().map(|(key, definition)| (key, reached_by(library, definition))).collect();
    let mut depth: BTreeMap<&RuleKey, usize> = BTreeMap::new();
    let mut problems = Vec::new();
    // Depth-first with an explicit stack: `open` holds the chain from the start to the rule being looked at.
    for start in edges.keys() {
        let mut open: Vec<(&RuleKey, Vec<&RuleKey>)> = Vec::new();
        let enter = |key: &RuleKey| edges.get_key_value(key).map(|(key, next)| (*key, next.iter().collect::<Vec<_>>()));
        if !depth.contains_key(start) {
            open.extend(enter(start));
        }
        while let Some((key, next)) = open.last_mut() {
            let key = *key;
            match next.pop() {
                Some(callee) if open.iter().any(|(open, _)| *open == callee) => {
                    problems.push(recursive(library, callee));
                }
                Some(callee) if depth.contains_key(callee) => {}
                Some(callee) => open.extend(enter(callee)),
                None => {
                    let below = edges[key].iter().filter_map(|callee| depth.get(callee)).max().copied().unwrap_or(0);
                    if below + 1 == CALL_CHAIN_MAX + 1 {
                        problems.push(chain_too_long(library, key));
                    }
                    depth.insert(key, below + 1);
                    open.pop();
                }
            }
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

fn reached_by(library: &Library<'_>, definition: &crate::library::Definition<'_>) -> BTreeSet<RuleKey> {
    let mut reached = BTreeSet::new();
    for (module, rule) in &definition.rules {
        let locals = locals(rule);
        walk(rule_roots(rule), |node, _| {
            let refr: Option<&Expr> = match node {
                Node::Expr(Expr::Call { fcn, .. }) => Some(fcn),
                Node::Expr(expr @ (Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. })) => Some(expr),
                _ => None,
            };
            // A local of the same name as a rule hides it, except that a function is never hidden.
            let hidden = |expr: &Expr| {
                root_name(expr).is_some_and(|root| locals.contains(root))
                    && !matches!(node, Node::Expr(Expr::Call { .. }))
            };
            if let Some(expr) = refr.filter(|expr| !hidden(expr)) {
                // `data.kubernetes` inside `data.kubernetes.deny` reads a part of itself, which the engine reports when it
                // happens; only what is named exactly counts here.
                reached.extend(library.reached(module, expr));
            }
            true
        });
    }
    reached
}

fn recursive(library: &Library<'_>, key: &RuleKey) -> Problem {
    first_definition(library, key, format!("`{}` is recursive: it reaches itself", key.1))
        .hint("Rego has no recursion; use a comprehension, `every`, or `walk`")
}

fn chain_too_long(library: &Library<'_>, key: &RuleKey) -> Problem {
    first_definition(library, key, format!("`{}` starts a chain of more than {CALL_CHAIN_MAX} rules", key.1))
}

fn first_definition(library: &Library<'_>, key: &RuleKey, reason: String) -> Problem {
    match library.rules.get(key).and_then(|definition| definition.rules.first()) {
        Some((_, rule)) => Problem::at(rule.span(), reason),
        None => Problem::of_file("", reason),
    }
}

/// Refuses a package that test files or the engine could not address, and one that hides `data.…` documents.
pub(crate) fn package(module: &Module) -> Option<Problem> {
    let plain = |part: &String| rule_name::is_identifier(part);
    if package_path(module).iter().all(plain) {
        return None;
    }
    Some(
        Problem::at(module.package.refr.span(), "a package name must be identifiers joined by dots")
            .hint("such as `package kubernetes.pods`"),
    )
}
