//! The tests of guardrails, written in Rego beside them, and what they exercise.
//!
//! A test is a rule without arguments named `test_…` in a file named `…_test.rego`. It passes if it has a value that is not `false`,
//! as with `opa test`. A guardrail's rule counts as *exercised* if some test made it yield a finding: a rule that was evaluated and
//! stayed silent has shown nothing about what it denies. (The engine's own coverage tells only which lines were reached, and a rule
//! on one line is reached whenever it is tried.) To find out, tests run on a copy of the files in which the message of every
//! guardrail passes through a function that notes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use regorus::unstable::{Expr, Module, Ref, Rule, RuleHead};
use regorus::{Engine, Value};

use crate::evaluate::{is_time_limit, set_time_limit};
use crate::isolate::{self, Lost};
use crate::library::package_path;
use crate::limits::{ABANDON_AFTER, Limits};
use crate::load::{Guardrails, is_test, new_engine};
use crate::problem::{Problem, anyhow_text};
use crate::rule_name::Effect;
use crate::syntax::{root_name, rule_refr, start};

/// The function that notes which guardrail spoke. No Rego file can define a name with this prefix by accident.
const NOTE: &str = "__cairn_exercised";

/// A test rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestRule {
    file: String,
    line: u32,
    /// Package and rule, such as `kubernetes.pods_test.test_privileged`.
    name: String,
}

/// How one test went.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TestResult {
    /// The file it stands in.
    pub file: String,
    /// The line it begins on.
    pub line: u32,
    /// Package and rule, such as `kubernetes.pods_test.test_privileged`.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// Why it failed, and what it printed; empty if it passed.
    pub message: String,
}

/// Whether tests made a guardrail's rule speak.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RuleCoverage {
    /// The guardrail, such as `kubernetes.pods.deny_privileged`.
    pub guardrail: String,
    /// The file of the rule: a guardrail may have several.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// Whether some test made it yield a finding.
    pub exercised: bool,
}

/// A run of every test.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TestRun {
    /// Each test, ordered by file and line.
    pub results: Vec<TestResult>,
    /// Each rule of each guardrail, ordered by guardrail and place.
    pub coverage: Vec<RuleCoverage>,
}

impl Guardrails {
    /// Runs every test, each within the default [`Limits`].
    pub fn run_tests(&self) -> Vec<TestResult> {
        self.test().results
    }

    /// Runs every test and notes which guardrails they made speak.
    pub fn test(&self) -> TestRun {
        let notes = Notes::default();
        let (engine, mut coverage) = instrumented(&self.inner.files, &notes);
        let mut results: Vec<TestResult> = self.inner.tests.iter().map(|test| run(engine.clone(), test)).collect();
        results.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
        let noted = notes.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (note, rule) in coverage.iter_mut().enumerate() {
            rule.exercised = noted.contains(&(note as u64));
        }
        coverage.sort_by(|left, right| {
            (&left.guardrail, &left.file, left.line).cmp(&(&right.guardrail, &right.file, right.line))
        });
        TestRun { results, coverage }
    }
}

/// The test rules of the test files. Two of one name would be one test that passes if either does: refused.
pub(crate) fn find(modules: &[&Ref<Module>], problems: &mut Vec<Problem>) -> Vec<TestRule> {
    let mut found: BTreeMap<String, TestRule> = BTreeMap::new();
    for module in modules {
        let package = package_path(module)[1..].join(".");
        for rule in &module.policy {
            let Some(short) = root_name(rule_refr(rule)).filter(|name| name.starts_with("test_")) else { continue };
            if !matches!(rule.as_ref(), Rule::Spec { head: RuleHead::Compr { .. }, .. }) {
                let reason = format!("the test `{short}` must be a plain rule");
                problems.push(Problem::at(rule.span(), reason).hint(format!("write `{short} if {{ … }}`")));
                continue;
            }
            let span = rule.span();
            let name = format!("{package}.{short}");
            let test = TestRule { file: span.source.file().clone(), line: span.line, name: name.clone() };
            if let Some(first) = found.get(&name) {
                let reason = format!("the test `{short}` is defined twice, first at {}:{}", first.file, first.line);
                problems.push(
                    Problem::at(span, reason).hint("it would pass if either passed; give each a name of its own"),
                );
                continue;
            }
            found.insert(name, test);
        }
    }
    found.into_values().collect()
}

fn run(mut engine: Engine, test: &TestRule) -> TestResult {
    let limit = Limits::default().time;
    let query = format!("data.{}", test.name);
    let outcome = isolate::evaluate(limit + ABANDON_AFTER, move || {
        set_time_limit(&mut engine, limit);
        let value = engine.eval_rule(query).map_err(|error| {
            if is_time_limit(&error) {
                format!("stopped: it took longer than {limit:?}")
            } else {
                Problem::from_engine("", &anyhow_text::Text::from(&error))
                    .to_string()
                    .trim_start_matches(": ")
                    .to_owned()
            }
        });
        (value, engine.take_prints().unwrap_or_default())
    });
    let failure = match outcome {
        Ok((Ok(Value::Undefined), prints)) => {
            Some(("it has no value: some statement in it is false or undefined".to_owned(), prints))
        }
        Ok((Ok(Value::Bool(false)), prints)) => Some(("it is false".to_owned(), prints)),
        Ok((Ok(_), _)) => None,
        Ok((Err(reason), prints)) => Some((reason, prints)),
        Err(Lost::Panicked(message)) => Some((format!("the Rego engine failed: {message}"), Vec::new())),
        Err(Lost::Abandoned) => Some((format!("stopped: it took longer than {limit:?}"), Vec::new())),
        Err(Lost::NoThread(reason)) => Some((format!("no thread to run it on: {reason}"), Vec::new())),
    };
    let passed = failure.is_none();
    let message = failure.map_or_else(String::new, |(reason, prints)| {
        prints.iter().fold(reason, |text, line| format!("{text}; printed {line}"))
    });
    TestResult { file: test.file.clone(), line: test.line, name: test.name.clone(), passed, message }
}

// === what tests exercise ===

/// The numbers of the guardrail rules that spoke.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<BTreeSet<u64>>>);

/// An engine over copies of the files that note which guardrail rules speak, and the rules by their number.
fn instrumented(files: &[(String, String)], notes: &Notes) -> (Engine, Vec<RuleCoverage>) {
    let mut engine = new_engine();
    let notes = notes.clone();
    let note = move |mut arguments: Vec<Value>| -> Result<Value, anyhow::Error> {
        if let Ok(number) = arguments[0].as_u64() {
            notes.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        }
        Ok(arguments.remove(1))
    };
    engine
        .add_extension(NOTE.to_owned(), 2, Box::new(note))
        .expect("invariant: the engine is new and no builtin has this name");
    let mut coverage = Vec::new();
    for (path, text) in files {
        let copy = if is_test(path) { text.clone() } else { instrument(path, text, &mut coverage) };
        engine
            .add_policy(path.clone(), copy)
            .expect("invariant: the file was loaded, and wrapping an expression in a call keeps it a file");
    }
    (engine, coverage)
}

/// Wraps the message of each guardrail rule: `deny contains msg if …` becomes `deny contains note(7, msg) if …`.
fn instrument(path: &str, text: &str, coverage: &mut Vec<RuleCoverage>) -> String {
    let mut parsed = new_engine();
    if parsed.add_policy(path.to_owned(), text.to_owned()).is_err() {
        return text.to_owned();
    }
    let mut messages: Vec<(usize, usize, usize)> = Vec::new();
    for module in parsed.get_modules() {
        let package = package_path(module)[1..].join(".");
        for rule in &module.policy {
            let Rule::Spec { span, head: RuleHead::Set { refr, key: Some(key), .. }, .. } = rule.as_ref() else {
                continue;
            };
            let Some(name) = root_name(refr).filter(|name| Effect::of_rule(name).is_some()) else { continue };
            let (start, end) = extent(key);
            messages.push((start, end, coverage.len()));
            coverage.push(RuleCoverage {
                guardrail: format!("{package}.{name}"),
                file: path.to_owned(),
                line: span.line,
                exercised: false,
            });
        }
    }
    // From the back, so that earlier places stay where they are.
    let mut copy = text.to_owned();
    messages.sort_unstable_by_key(|(start, ..)| std::cmp::Reverse(*start));
    for (start, end, number) in messages {
        copy.insert(end, ')');
        copy.insert_str(start, &format!("{NOTE}({number}, "));
    }
    copy
}

/// Where an expression begins and ends in its file, in bytes.
fn extent(expr: &Expr) -> (usize, usize) {
    let (start, end) = (start(expr).start as usize, expr.span().end as usize);
    match expr {
        // The engine's place of a string leaves out its quotes.
        Expr::String { .. } | Expr::RawString { .. } => (start - 1, end + 1),
        _ => (start, end),
    }
}
