//! A rule's condition with its macros, lists and exceptions put in, as text: what the engine compiles, for people to read.

use std::collections::HashMap;
use std::sync::Arc;

use super::collect::{Collector, RuleDefinition};
use super::{RulesFile, collect, exceptions, finish, reporter};
use crate::condition::{self, Check, Expr, Operand, Right, Word};
use crate::limits::{CONDITION_DEPTH_MAX, CONDITION_NODES_MAX, RULE_VALUES_MAX};

/// The condition that a rule has once everything it refers to is put in, in canonical form. `None` when there is no such rule, when
/// what it refers to is not there or malformed, or when the whole passes the limits of a condition.
pub fn compiled_condition(files: &[RulesFile<'_>], rule: &str) -> Option<String> {
    let mut reporter = reporter(files);
    let collector = collect(files, &mut reporter);
    let definition = &collector.rules.items[collector.rules.position(rule)?];
    let lists = finish::expand_lists(&collector, &mut reporter);
    let mut inliner = Inliner { collector: &collector, lists, parsed: HashMap::new(), nodes: 0, values: 0 };
    let whole = inliner.rule(definition, &mut reporter)?;
    Some(whole.to_string())
}

struct Inliner<'a> {
    collector: &'a Collector,
    lists: HashMap<String, Arc<[Word]>>,
    /// Macros by their place: a long text that is referred to often is read once.
    parsed: HashMap<usize, Arc<Expr>>,
    nodes: usize,
    values: usize,
}

impl Inliner<'_> {
    fn rule(&mut self, definition: &RuleDefinition, reporter: &mut crate::problem::Reporter<'_>) -> Option<Expr> {
        let condition = condition::parse(&definition.condition.text()).ok()?;
        let mut parts = vec![self.expr(&condition, usize::MAX, 0)?];
        for exception in &definition.exceptions {
            if let Some(exception) = exceptions::condition(exception, "", reporter) {
                parts.push(Expr::Not(Box::new(self.expr(&exception, usize::MAX, 0)?)));
            }
        }
        Some(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    /// `visibility` is the place in the order of items before which macros are seen.
    fn expr(&mut self, expr: &Expr, visibility: usize, depth: usize) -> Option<Expr> {
        self.nodes += 1;
        if self.nodes > CONDITION_NODES_MAX || depth > CONDITION_DEPTH_MAX {
            return None;
        }
        let depth = depth + 1;
        Some(match expr {
            Expr::And(parts) => Expr::And(self.several(parts, visibility, depth)?),
            Expr::Or(parts) => Expr::Or(self.several(parts, visibility, depth)?),
            Expr::Not(inner) => match self.expr(inner, visibility, depth)? {
                Expr::Not(inner) => *inner,
                inner => Expr::Not(Box::new(inner)),
            },
            Expr::Macro(name) => {
                let collector = self.collector;
                let position = collector.macros.position(&name.value)?;
                let definition = &collector.macros.items[position];
                if definition.index >= visibility {
                    return None;
                }
                let condition = match self.parsed.get(&position) {
                    Some(condition) => Arc::clone(condition),
                    None => {
                        let condition = Arc::new(condition::parse(&definition.condition.text()).ok()?);
                        self.parsed.insert(position, Arc::clone(&condition));
                        condition
                    }
                };
                self.expr(&condition, definition.visibility, depth)?
            }
            Expr::Check(check) => Expr::Check(Box::new(self.check(check)?)),
        })
    }

    fn several(&mut self, parts: &[Expr], visibility: usize, depth: usize) -> Option<Vec<Expr>> {
        parts.iter().map(|part| self.expr(part, visibility, depth)).collect()
    }

    fn check(&mut self, check: &Check) -> Option<Check> {
        let right = match &check.right {
            Right::One(word) => match self.words(std::slice::from_ref(word))?.as_slice() {
                [only] => Right::One(only.clone()),
                _ => return None,
            },
            Right::Many(words) => Right::Many(self.words(words)?),
            Right::Quantified(quantifier, words) => Right::Quantified(*quantifier, self.words(words)?),
            Right::Nothing | Right::Operand(Operand::Field(_) | Operand::Transformed { .. }) => check.right.clone(),
        };
        Some(Check { right, ..check.clone() })
    }

    fn words(&mut self, words: &[Word]) -> Option<Vec<Word>> {
        let mut out = Vec::new();
        for word in words {
            match self.lists.get(&word.text).filter(|_| !word.quoted) {
                Some(values) => out.extend(values.iter().cloned()),
                None => out.push(word.clone()),
            }
        }
        self.values += out.len();
        (self.values <= RULE_VALUES_MAX).then_some(out)
    }
}
