//! What the loaded files define: packages, rules, imports; and what a name in one of them refers to.

use std::collections::BTreeMap;

use regorus::unstable::{Expr, Module, Ref, Rule, RuleHead};

use crate::syntax::{root_name, rule_refr, static_path};

/// A rule's place: package path from `data`, then name.
pub(crate) type RuleKey = (Vec<String>, String);

/// Everything known of the rules of one name in one package.
#[derive(Default)]
pub(crate) struct Definition<'a> {
    /// Each definition, with the module it stands in.
    pub(crate) rules: Vec<(&'a Ref<Module>, &'a Ref<Rule>)>,
    /// Number of arguments, if it is a function.
    pub(crate) arity: Option<usize>,
    /// Whether it always has a value: a set or object being built up, a rule with a default, a constant.
    pub(crate) always_defined: bool,
}

/// The rules of all files, by place.
pub(crate) struct Library<'a> {
    /// Rules by place.
    pub(crate) rules: BTreeMap<RuleKey, Definition<'a>>,
}

impl<'a> Library<'a> {
    pub(crate) fn new(modules: impl IntoIterator<Item = &'a Ref<Module>>) -> Self {
        let mut rules: BTreeMap<RuleKey, Definition<'a>> = BTreeMap::new();
        for module in modules {
            let package = package_path(module);
            for rule in &module.policy {
                let Some(name) = root_name(rule_refr(rule)) else { continue };
                let definition = rules.entry((package.clone(), name.to_owned())).or_default();
                definition.rules.push((module, rule));
                definition.always_defined |= always_defined(rule);
                if let Rule::Spec { head: RuleHead::Func { args, .. }, .. } = rule.as_ref() {
                    definition.arity = Some(args.len());
                }
                if let Rule::Default { args, .. } = rule.as_ref()
                    && !args.is_empty()
                {
                    definition.arity = Some(args.len());
                }
            }
        }
        Self { rules }
    }

    /// The rule that a reference in `module` names, and whether the reference goes on below it.
    /// `locals` of the rule it stands in are not rules.
    pub(crate) fn resolve(&self, module: &Module, expr: &Expr) -> Option<(&Definition<'a>, bool)> {
        let (path, whole) = self.global_path(module, expr)?;
        // The longest package that is a prefix of the path wins; the next component is the rule.
        (1..path.len()).rev().find_map(|end| {
            let definition = self.rules.get(&(path[..end].to_vec(), path[end].clone()))?;
            Some((definition, !whole || path.len() > end + 1))
        })
    }

    /// The rules that evaluating a reference in `module` may evaluate: one, or all below a package.
    pub(crate) fn reached(&self, module: &Module, expr: &Expr) -> Vec<RuleKey> {
        let Some((path, _)) = self.global_path(module, expr) else { return Vec::new() };
        for end in (1..path.len()).rev() {
            let key = (path[..end].to_vec(), path[end].clone());
            if self.rules.contains_key(&key) {
                return vec![key];
            }
        }
        // `data.lib` or `data.lib[name]`: everything below. `data` alone reaches all.
        if path[0] != "data" {
            return Vec::new();
        }
        self.rules.keys().filter(|(package, _)| package.starts_with(&path)).cloned().collect()
    }

    /// The rule that a reference names in a package that has none of that name: a misspelling, which would be undefined for ever.
    pub(crate) fn missing(&self, module: &Module, expr: &Expr) -> Option<String> {
        let (path, _) = self.global_path(module, expr)?;
        let is_package = |path: &[String]| self.rules.keys().any(|(package, _)| package.as_slice() == path);
        let in_a_package = |path: &[String]| self.rules.keys().any(|(package, _)| package.starts_with(path));
        let end = (1..path.len()).rev().find(|end| is_package(&path[..*end]))?;
        let known = self.rules.contains_key(&(path[..end].to_vec(), path[end].clone()));
        (!known && !in_a_package(&path[..=end])).then(|| path[..=end].join("."))
    }

    /// A reference as a path from `data`, through the module's package and imports. `None` if it is not about rules.
    fn global_path(&self, module: &Module, expr: &Expr) -> Option<(Vec<String>, bool)> {
        let (path, whole) = static_path(expr)?;
        let root = path.first()?;
        if root == "data" {
            return Some((path, whole));
        }
        if root == "input" {
            return None;
        }
        let mut local = package_path(module);
        if self.rules.contains_key(&(local.clone(), root.clone())) {
            local.extend(path);
            return Some((local, whole));
        }
        let (mut target, target_whole) = static_path(import_target(module, root)?)?;
        if target.first().map(String::as_str) != Some("data") || !target_whole {
            return None;
        }
        target.extend(path.into_iter().skip(1));
        Some((target, whole))
    }
}

/// A module's package as a path: `["data", "kubernetes", "pods"]`.
pub(crate) fn package_path(module: &Module) -> Vec<String> {
    let mut path = vec!["data".to_owned()];
    if let Some((package, _)) = static_path(&module.package.refr) {
        path.extend(package);
    }
    path
}

/// What an import of this name stands for.
pub(crate) fn import_target<'a>(module: &'a Module, alias: &str) -> Option<&'a Expr> {
    module
        .imports
        .iter()
        .find(|import| match &import.r#as {
            Some(name) => name.text() == alias,
            None => static_path(&import.refr).is_some_and(|(path, _)| path.last().is_some_and(|last| last == alias)),
        })
        .map(|import| import.refr.as_ref())
}

fn always_defined(rule: &Rule) -> bool {
    match rule {
        Rule::Default { args, .. } => args.is_empty(),
        Rule::Spec { head: RuleHead::Set { .. }, .. } => true,
        Rule::Spec { head: RuleHead::Compr { refr, .. }, bodies, .. } => {
            // `x := 1` has no body; `x[key] := …` is an object that may be empty but is there.
            bodies.iter().all(|body| body.query.stmts.is_empty()) || !matches!(refr.as_ref(), Expr::Var { .. })
        }
        Rule::Spec { .. } => false,
    }
}
