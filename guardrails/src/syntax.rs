//! The engine's syntax tree, seen as a plain tree of expressions and queries.
//!
//! The engine hands out its tree but no way to walk it. Everything the checks need is one function, [`Node::children`], and a walk
//! that does not recurse: the depth of a hostile file must not become the depth of our stack.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, Expr, Literal, Query, Ref, Rule, RuleBody, RuleHead, Span, WithModifier};

/// A node of the tree.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    /// An expression.
    Expr(&'a Expr),
    /// A body: of a rule, a comprehension or an `every`.
    Query(&'a Query),
}

impl<'a> Node<'a> {
    /// The nodes directly below.
    pub(crate) fn children(self) -> Vec<Node<'a>> {
        match self {
            Node::Expr(expr) => expr_children(expr),
            Node::Query(query) => query
                .stmts
                .iter()
                .flat_map(|statement| {
                    let mut nodes = literal_children(&statement.literal);
                    nodes.extend(statement.with_mods.iter().flat_map(with_children));
                    nodes
                })
                .collect(),
        }
    }
}

/// Calls `visit` on every node of a rule with its depth, in no particular order, until it answers `false`.
pub(crate) fn walk<'a>(roots: Vec<Node<'a>>, mut visit: impl FnMut(Node<'a>, usize) -> bool) {
    let mut pending: Vec<(Node<'a>, usize)> = roots.into_iter().map(|node| (node, 1)).collect();
    while let Some((node, depth)) = pending.pop() {
        if !visit(node, depth) {
            return;
        }
        pending.extend(node.children().into_iter().map(|child| (child, depth + 1)));
    }
}

/// The nodes a rule consists of, its name left out.
pub(crate) fn rule_roots(rule: &Rule) -> Vec<Node<'_>> {
    match rule {
        Rule::Spec { head, bodies, .. } => {
            let mut nodes = match head {
                RuleHead::Compr { refr, assign, .. } => {
                    let mut nodes = reference_children(refr);
                    nodes.extend(assign.iter().map(|assign| Node::Expr(&assign.value)));
                    nodes
                }
                RuleHead::Set { refr, key, .. } => {
                    let mut nodes = reference_children(refr);
                    nodes.extend(key.iter().map(|key| Node::Expr(key)));
                    nodes
                }
                RuleHead::Func { args, assign, .. } => args
                    .iter()
                    .map(|argument| Node::Expr(argument))
                    .chain(assign.iter().map(|assign| Node::Expr(&assign.value)))
                    .collect(),
            };
            nodes.extend(bodies.iter().flat_map(body_nodes));
            nodes
        }
        Rule::Default { value, .. } => vec![Node::Expr(value)],
    }
}

fn body_nodes(body: &RuleBody) -> Vec<Node<'_>> {
    body.assign.iter().map(|assign| Node::Expr(&assign.value)).chain([Node::Query(&body.query)]).collect()
}

/// A reference is one node: `data.lib.images[name]` has the children `name`, and not `data.lib.images`, `data.lib`, `data`.
fn reference_children(mut refr: &Expr) -> Vec<Node<'_>> {
    let mut children = Vec::new();
    loop {
        match refr {
            Expr::RefDot { refr: inner, .. } => refr = inner,
            Expr::RefBrack { refr: inner, index, .. } => {
                children.push(Node::Expr(index));
                refr = inner;
            }
            Expr::Var { .. } => return children,
            base => {
                children.push(Node::Expr(base));
                return children;
            }
        }
    }
}

/// Where an expression begins: the engine places a reference at its last step, and a call at its parenthesis or its name.
pub(crate) fn start(mut expr: &Expr) -> &Span {
    loop {
        match expr {
            Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => expr = refr,
            Expr::Call { fcn, .. } => expr = fcn,
            _ => return expr.span(),
        }
    }
}

/// An expression as its author wrote it.
pub(crate) fn text(expr: &Expr) -> &str {
    let (start, end) = (start(expr).start as usize, expr.span().end as usize);
    expr.span().source.contents().get(start..end).unwrap_or_default()
}

/// Number of steps of a reference: 3 for `a.b[c].d`.
pub(crate) fn reference_len(mut refr: &Expr) -> usize {
    let mut len = 0;
    while let Expr::RefDot { refr: inner, .. } | Expr::RefBrack { refr: inner, .. } = refr {
        refr = inner;
        len += 1;
    }
    len
}

/// The reference that a rule's head defines: its name, possibly with keys.
pub(crate) fn rule_refr(rule: &Rule) -> &Ref<Expr> {
    match rule {
        Rule::Spec { head: RuleHead::Compr { refr, .. }, .. }
        | Rule::Spec { head: RuleHead::Set { refr, .. }, .. }
        | Rule::Spec { head: RuleHead::Func { refr, .. }, .. }
        | Rule::Default { refr, .. } => refr,
    }
}

/// The variable a reference starts from, if it starts from one.
pub(crate) fn root_name(mut expr: &Expr) -> Option<&str> {
    loop {
        match expr {
            Expr::Var { span, .. } => return Some(span.text()),
            Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => expr = refr,
            _ => return None,
        }
    }
}

/// The leading components of a reference that are fixed text, and whether that is all of it: `data.a["b"][x]` is
/// `(["data", "a", "b"], false)`.
pub(crate) fn static_path(expr: &Expr) -> Option<(Vec<String>, bool)> {
    match expr {
        Expr::Var { span, .. } => Some((vec![span.text().to_owned()], true)),
        Expr::RefDot { refr, field, .. } => {
            let (mut path, whole) = static_path(refr)?;
            if whole {
                path.push(field.0.text().to_owned());
            }
            Some((path, whole))
        }
        Expr::RefBrack { refr, index, .. } => {
            let (mut path, whole) = static_path(refr)?;
            match (whole, index.as_ref()) {
                (true, Expr::String { value, .. } | Expr::RawString { value, .. }) => match value.as_string() {
                    Ok(text) => {
                        path.push(text.to_string());
                        Some((path, true))
                    }
                    Err(_) => Some((path, false)),
                },
                _ => Some((path, false)),
            }
        }
        _ => None,
    }
}

/// The variables that a rule itself binds: arguments, `:=`, `some`, `every`.
pub(crate) fn locals(rule: &Rule) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Rule::Spec { head: RuleHead::Func { args, .. }, .. } = rule {
        args.iter().for_each(|argument| pattern_names(argument, &mut names));
    }
    walk(rule_roots(rule), |node, _| {
        match node {
            Node::Expr(Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. }) => pattern_names(lhs, &mut names),
            Node::Query(query) => {
                for statement in &query.stmts {
                    match &statement.literal {
                        Literal::SomeVars { vars, .. } => names.extend(vars.iter().map(|var| var.text().to_owned())),
                        Literal::SomeIn { key, value, .. } => {
                            key.iter().for_each(|key| pattern_names(key, &mut names));
                            pattern_names(value, &mut names);
                        }
                        Literal::Every { key, value, .. } => {
                            names.extend(key.iter().chain([value]).map(|span| span.text().to_owned()));
                        }
                        Literal::Expr { .. } | Literal::NotExpr { .. } => {}
                    }
                }
            }
            Node::Expr(_) => {}
        }
        true
    });
    names
}

/// The variables in a pattern such as `[name, _]` or `{"image": image}`.
fn pattern_names(pattern: &Expr, names: &mut BTreeSet<String>) {
    walk(vec![Node::Expr(pattern)], |node, _| {
        if let Node::Expr(Expr::Var { span, .. }) = node {
            names.insert(span.text().to_owned());
        }
        true
    });
}

fn literal_children(literal: &Literal) -> Vec<Node<'_>> {
    match literal {
        Literal::SomeVars { .. } => Vec::new(),
        Literal::SomeIn { key, value, collection, .. } => {
            key.iter().chain([value, collection]).map(|expr| Node::Expr(expr)).collect()
        }
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => vec![Node::Expr(expr)],
        Literal::Every { domain, query, .. } => vec![Node::Expr(domain), Node::Query(query)],
    }
}

fn with_children(modifier: &WithModifier) -> [Node<'_>; 2] {
    [Node::Expr(&modifier.refr), Node::Expr(&modifier.r#as)]
}

fn expr_children(expr: &Expr) -> Vec<Node<'_>> {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. } => Vec::new(),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().map(|item| Node::Expr(item)).collect(),
        Expr::Object { fields, .. } => {
            fields.iter().flat_map(|(_, key, value)| [Node::Expr(key), Node::Expr(value)]).collect()
        }
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            vec![Node::Expr(term), Node::Query(query)]
        }
        Expr::ObjectCompr { key, value, query, .. } => vec![Node::Expr(key), Node::Expr(value), Node::Query(query)],
        // The function's own name is no value; `Call`s are resolved by the checks.
        Expr::Call { params, .. } => params.iter().map(|parameter| Node::Expr(parameter)).collect(),
        Expr::UnaryExpr { expr, .. } => vec![Node::Expr(expr)],
        Expr::RefDot { .. } | Expr::RefBrack { .. } => reference_children(expr),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => vec![Node::Expr(lhs), Node::Expr(rhs)],
        Expr::Membership { key, value, collection, .. } => {
            key.iter().chain([value, collection]).map(|expr| Node::Expr(expr)).collect()
        }
    }
}
