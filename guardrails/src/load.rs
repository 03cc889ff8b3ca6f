//! From files to guardrails: parse, check, and find out before anything depends on it whether the rules can be evaluated at all.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use regorus::unstable::{Module, Ref, Rule};
use regorus::{Engine, PolicyLengthConfig};

use crate::evaluate::{self, EvalError};
use crate::isolate;
use crate::library::{Library, package_path};
use crate::limits::{
    FILE_BYTES_MAX, FILE_LINES_MAX, FILES_MAX, LINE_LEN_MAX, Limits, PARSE_PATIENCE, PARSE_STACK_BYTES,
};
use crate::problem::{Problem, anyhow_text};
use crate::rule_name::Effect;
use crate::syntax::{root_name, rule_refr};
use crate::testing::{self, TestRule};
use crate::{bounded, check, nesting};

/// The guardrails of a policy, checked and ready to evaluate. Cheap to clone, shared by threads.
#[derive(Clone)]
pub struct Guardrails {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// Holds the files without the tests. Cloned for each evaluation; the clone shares everything parsed.
    pub(crate) engine: Engine,
    /// Every file as given, for the test run.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) guardrails: Vec<Guardrail>,
    pub(crate) tests: Vec<TestRule>,
}

/// One guardrail: the rules of one name in one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guardrail {
    /// Package and rule, such as `kubernetes.pods.deny_privileged`.
    pub id: String,
    /// What it does.
    pub effect: Effect,
    /// Where each of its rules stands: file and line.
    pub places: Vec<(String, u32)>,
}

impl Guardrail {
    /// The file of its first rule.
    pub fn file(&self) -> &str {
        self.places.first().map_or("", |(file, _)| file)
    }

    /// The line of its first rule.
    pub fn line(&self) -> u32 {
        self.places.first().map_or(0, |(_, line)| *line)
    }

    pub(crate) fn query(&self) -> String {
        format!("data.{}", self.id)
    }
}

impl std::fmt::Debug for Guardrails {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Guardrails").field("guardrails", &self.inner.guardrails).finish_non_exhaustive()
    }
}

impl Guardrails {
    /// Loads Rego files (Rego v1): pairs of a path, used in messages and to tell tests (`*_test.rego`), and the text.
    /// No file at all is a policy without guardrails, which admits everything.
    ///
    /// # Errors
    /// Every problem found, ordered by file and line: syntax, limits, names, calls to functions that do not exist, recursion,
    /// negations whose meaning differs between Rego engines, rules that cannot even be evaluated on an empty document.
    pub fn load<P: AsRef<str>, T: AsRef<str>>(files: &[(P, T)]) -> Result<Self, Vec<Problem>> {
        let files: Vec<(String, String)> =
            files.iter().map(|(path, text)| (path.as_ref().to_owned(), text.as_ref().to_owned())).collect();
        if files.len() > FILES_MAX {
            let file = files[FILES_MAX].0.clone();
            return Err(vec![Problem::of_file(&file, format!("more than {FILES_MAX} Rego files"))]);
        }
        let loaded = isolate::run(PARSE_STACK_BYTES, PARSE_PATIENCE, move || load(files));
        let mut problems = match loaded {
            Ok(Ok(inner)) => {
                let guardrails = Self { inner: Arc::new(inner) };
                match guardrails.rehearse() {
                    problems if problems.is_empty() => return Ok(guardrails),
                    problems => problems,
                }
            }
            Ok(Err(problems)) => problems,
            Err(isolate::Lost::Abandoned) => {
                vec![Problem::of_file("guardrails", format!("loading took longer than {PARSE_PATIENCE:?}"))]
            }
            Err(lost) => {
                vec![Problem::of_file("guardrails", format!("the Rego engine failed to load the files: {lost:?}"))]
            }
        };
        problems.sort();
        problems.dedup();
        Err(problems)
    }

    /// The guardrails, ordered by id.
    pub fn guardrails(&self) -> &[Guardrail] {
        &self.inner.guardrails
    }

    /// Number of test rules.
    pub fn tests_len(&self) -> usize {
        self.inner.tests.len()
    }

    /// Evaluates every guardrail on a document with nothing in it. What fails on that fails on everything, and would deny
    /// everything, so it is a problem of the file rather than of an unlucky Pod.
    fn rehearse(&self) -> Vec<Problem> {
        let empty = serde_json::json!({});
        let verdict = match self.evaluate(&empty, &Limits::default()) {
            Ok(verdict) => verdict,
            Err(error) => return vec![self.of_error(&error)],
        };
        let failed = verdict.denials.iter().chain(&verdict.warnings).filter(|finding| finding.by_error);
        failed
            .map(|finding| Problem {
                file: finding.file.clone(),
                line: finding.line,
                column: finding.column,
                reason: finding.message.clone(),
                hint: Some("the rule fails even on an empty document, so it would deny everything".to_owned()),
            })
            .collect()
    }

    fn of_error(&self, error: &EvalError) -> Problem {
        let guardrail =
            error.guardrail().and_then(|id| self.inner.guardrails.iter().find(|guardrail| guardrail.id == id));
        let mut problem = Problem::of_file(guardrail.map_or("guardrails", Guardrail::file), error.to_string());
        problem.line = guardrail.map_or(0, Guardrail::line);
        problem.hint("the rule does so even on an empty document")
    }
}

/// Whether a path is a test file.
pub(crate) fn is_test(path: &str) -> bool {
    path.ends_with("_test.rego")
}

/// A new engine with the limits every engine here has, and no files.
pub(crate) fn new_engine() -> Engine {
    let mut engine = Engine::new();
    engine.set_policy_length_config(PolicyLengthConfig {
        // Instrumented copies of a file have longer lines; the author's limit is checked apart.
        max_col: NonZeroU32::new(LINE_LEN_MAX * 2).unwrap_or(NonZeroU32::MAX),
        max_file_bytes: NonZeroUsize::new(FILE_BYTES_MAX * 2).unwrap_or(NonZeroUsize::MAX),
        max_lines: NonZeroUsize::new(FILE_LINES_MAX).unwrap_or(NonZeroUsize::MAX),
    });
    // `print` goes nowhere rather than to our stderr.
    engine.set_gather_prints(true);
    bounded::install(&mut engine);
    engine
}

/// Runs on the parsing thread: whatever is too deep is also freed here.
fn load(files: Vec<(String, String)>) -> Result<Inner, Vec<Problem>> {
    let mut problems = duplicate_paths(&files);
    let mut everything = new_engine();
    for (path, text) in &files {
        if let Some(problem) = size_problem(path, text).or_else(|| nesting::check(path, text)) {
            problems.push(problem);
            continue;
        }
        if let Err(error) = everything.add_policy(path.clone(), text.clone()) {
            problems.push(syntax_problem(path, text, &anyhow_text::Text::from(&error)));
        }
    }
    let modules: Vec<Ref<Module>> = everything.get_modules().clone();
    problems.extend(modules.iter().flat_map(|module| check::depth(module)));
    if !problems.is_empty() {
        return Err(problems);
    }

    let path_of = |module: &Ref<Module>| module.package.span.source.file().clone();
    let (test_modules, policy_modules): (Vec<_>, Vec<_>) = modules.iter().partition(|module| is_test(&path_of(module)));
    let policy = Library::new(policy_modules.iter().copied());
    let with_tests = Library::new(modules.iter());
    for module in &modules {
        problems.extend(check::package(module));
    }
    for module in &policy_modules {
        problems.extend(check::module(module, &policy, false));
    }
    for module in &test_modules {
        problems.extend(check::module(module, &with_tests, true));
    }
    problems.extend(check::recursion(&with_tests));
    let tests = testing::find(&test_modules, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }

    let mut engine = new_engine();
    let guardrails = find_guardrails(&policy_modules);
    for (path, text) in files.iter().filter(|(path, _)| !is_test(path)) {
        if let Err(error) = engine.add_policy(path.clone(), text.clone()) {
            problems.push(Problem::from_engine(path, &anyhow_text::Text::from(&error)));
        }
    }
    // Analysis of all rules together: unsafe variables, conflicting definitions. Tests are analysed apart, so that a policy
    // file cannot lean on a test file.
    problems.extend(evaluate::analyse(&mut engine));
    if problems.is_empty() {
        problems.extend(evaluate::analyse(&mut everything));
    }
    if problems.is_empty() { Ok(Inner { engine, files, guardrails, tests }) } else { Err(problems) }
}

fn find_guardrails(modules: &[&Ref<Module>]) -> Vec<Guardrail> {
    let mut found: BTreeMap<String, Guardrail> = BTreeMap::new();
    for module in modules {
        let package = package_path(module)[1..].join(".");
        for rule in &module.policy {
            let Rule::Spec { span, .. } = rule.as_ref() else { continue };
            let Some((name, effect)) = root_name(rule_refr(rule)).and_then(|name| Some((name, Effect::of_rule(name)?)))
            else {
                continue;
            };
            let id = format!("{package}.{name}");
            let place = (span.source.file().clone(), span.line);
            found.entry(id.clone()).or_insert_with(|| Guardrail { id, effect, places: Vec::new() }).places.push(place);
        }
    }
    found.into_values().collect()
}

fn duplicate_paths(files: &[(String, String)]) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let again = files.iter().filter(|(path, _)| !seen.insert(path));
    again.map(|(path, _)| Problem::of_file(path, "given twice")).collect()
}

fn size_problem(path: &str, text: &str) -> Option<Problem> {
    if text.len() > FILE_BYTES_MAX {
        let reason = format!("{} bytes, more than the {FILE_BYTES_MAX} a Rego file may have", text.len());
        return Some(Problem::of_file(path, reason));
    }
    let too_long = text.lines().position(|line| line.chars().count() > LINE_LEN_MAX as usize)?;
    let mut problem = Problem::of_file(path, format!("a line longer than {LINE_LEN_MAX} characters"));
    problem.line = u32::try_from(too_long + 1).unwrap_or(u32::MAX);
    Some(problem)
}

/// A syntax error, with the remedy for the commonest: a file in the syntax before Rego v1.
fn syntax_problem(path: &str, text: &str, error: &anyhow_text::Text) -> Problem {
    let problem = Problem::from_engine(path, error);
    let mut old = new_engine();
    old.set_rego_v0(true);
    if old.add_policy(path.to_owned(), text.to_owned()).is_ok() {
        return problem
            .hint("this is Rego v0; write `deny contains message if { … }` (`opa fmt --v0-v1` converts files)");
    }
    problem
}
