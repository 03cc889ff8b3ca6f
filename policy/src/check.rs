//! Guardrails on documents, as `cairn check PATH…` runs them in CI: the rules, the engine and the input that admission uses.
//!
//! Output and exit codes are Conftest's, so that a pipeline that reads them goes on working: 0 nothing denies, 1 something does (or a
//! file could not be read as a document, or a guardrail failed).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cairn_guardrails::{Effect, EvalError, Finding, Guardrails, Limits, Verdict, input};
use serde::Serialize;
use serde_json::{Value, json};

use crate::yaml;

/// A file to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// How to name it; one that ends in `.json` is read as JSON, any other as YAML (of which JSON is a part).
    pub name: String,
    /// Its text: any number of documents.
    pub text: String,
}

/// What guardrails found in some files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Each file, in the order given.
    pub files: Vec<FileReport>,
}

/// What guardrails found in one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Number of documents in it: the items of a Kubernetes `List` count each.
    pub documents: usize,
    /// How many times a guardrail looked at a document and found nothing, by package.
    pub successes: BTreeMap<String, usize>,
    /// What denies.
    pub failures: Vec<Found>,
    /// What warns.
    pub warnings: Vec<Found>,
}

/// One finding in one document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Found {
    /// Package of the guardrail, such as `kubernetes.privileged`; empty if no guardrail said it.
    pub namespace: String,
    /// The guardrail with its package.
    pub guardrail: String,
    /// What it says, or what went wrong.
    pub message: String,
    /// Whether something went wrong, rather than a guardrail denying.
    pub by_error: bool,
    /// The document's number in the file, from 1.
    pub document: usize,
}

/// Evaluates the guardrails on every document of every file.
pub fn check(guardrails: &Guardrails, files: &[InputFile], limits: &Limits) -> CheckReport {
    CheckReport { files: files.iter().map(|file| check_file(guardrails, file, limits)).collect() }
}

fn check_file(guardrails: &Guardrails, file: &InputFile, limits: &Limits) -> FileReport {
    let mut report = FileReport { name: file.name.clone(), ..FileReport::default() };
    let documents = match yaml::documents(&file.name, &file.text) {
        Ok(documents) => documents,
        Err(problem) => {
            report.failures.push(error(0, problem.to_string()));
            return report;
        }
    };
    // A document of nothing, as between two `---`, is none.
    let inputs = documents.into_iter().filter(|document| !document.is_null()).flat_map(input::documents);
    for document in inputs {
        report.documents += 1;
        match guardrails.evaluate(&document, limits) {
            Ok(verdict) => report.add(guardrails, verdict),
            Err(failure) => report.failures.push(failed(report.documents, &failure)),
        }
    }
    report
}

impl FileReport {
    fn add(&mut self, guardrails: &Guardrails, verdict: Verdict) {
        let spoke: BTreeSet<&str> =
            verdict.denials.iter().chain(&verdict.warnings).map(|finding| finding.guardrail.as_str()).collect();
        for silent in guardrails.guardrails().iter().filter(|guardrail| !spoke.contains(guardrail.id.as_str())) {
            *self.successes.entry(namespace(&silent.id).to_owned()).or_default() += 1;
        }
        let document = self.documents;
        let omitted = verdict.omitted;
        self.failures.extend(verdict.denials.into_iter().map(|finding| found(document, finding)));
        self.warnings.extend(verdict.warnings.into_iter().map(|finding| found(document, finding)));
        if omitted > 0 {
            self.warnings.push(error(document, format!("{omitted} more findings are left out")));
        }
    }
}

impl CheckReport {
    /// Whether nothing denies and nothing went wrong.
    pub fn passed(&self) -> bool {
        self.files.iter().all(|file| file.failures.is_empty())
    }

    /// Conftest's exit code: 0 passed, 1 not.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.passed())
    }

    /// Conftest's JSON: one entry for each file and package, and one without package for what went wrong outside any.
    pub fn to_json(&self) -> Value {
        Value::Array(self.files.iter().flat_map(FileReport::to_json).collect())
    }
}

impl FileReport {
    fn to_json(&self) -> Vec<Value> {
        let spoke = self.failures.iter().chain(&self.warnings).map(|found| found.namespace.as_str());
        let namespaces: BTreeSet<&str> = self.successes.keys().map(String::as_str).chain(spoke).collect();
        namespaces
            .into_iter()
            .map(|namespace| {
                let of = |list: &[Found]| -> Vec<Value> {
                    list.iter().filter(|found| found.namespace == namespace).map(Found::to_json).collect()
                };
                let mut entry = json!({
                    "filename": self.name,
                    "namespace": namespace,
                    "successes": self.successes.get(namespace).copied().unwrap_or(0),
                });
                for (key, list) in [("warnings", of(&self.warnings)), ("failures", of(&self.failures))] {
                    if !list.is_empty() {
                        entry[key] = Value::Array(list);
                    }
                }
                entry
            })
            .collect()
    }
}

impl Found {
    fn to_json(&self) -> Value {
        let mut metadata = json!({ "document": self.document });
        if !self.guardrail.is_empty() {
            metadata["query"] = Value::from(format!("data.{}", self.guardrail));
        }
        if self.by_error {
            metadata["error"] = Value::Bool(true);
        }
        json!({ "msg": self.message, "metadata": metadata })
    }
}

/// Conftest's plain text: a line for each finding, then the counts.
impl fmt::Display for CheckReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            for (word, list) in [("WARN", &file.warnings), ("FAIL", &file.failures)] {
                for found in list {
                    let namespace = if found.namespace.is_empty() { "-" } else { &found.namespace };
                    writeln!(out, "{word} - {} - {namespace} - {}", file.name, found.message)?;
                }
            }
        }
        let sum = |count: fn(&FileReport) -> usize| self.files.iter().map(count).sum::<usize>();
        let passed = sum(|file| file.successes.values().sum());
        let (warnings, failures) = (sum(|file| file.warnings.len()), sum(|file| file.failures.len()));
        let tests = passed + warnings + failures;
        write!(out, "{tests} tests, {passed} passed, {warnings} warnings, {failures} failures")
    }
}

fn found(document: usize, finding: Finding) -> Found {
    Found {
        namespace: namespace(&finding.guardrail).to_owned(),
        guardrail: finding.guardrail,
        message: finding.message,
        by_error: finding.by_error,
        document,
    }
}

fn failed(document: usize, failure: &EvalError) -> Found {
    let guardrail = failure.guardrail().unwrap_or_default().to_owned();
    Found { namespace: namespace(&guardrail).to_owned(), guardrail, ..error(document, failure.to_string()) }
}

fn error(document: usize, message: String) -> Found {
    Found { namespace: String::new(), guardrail: String::new(), message, by_error: true, document }
}

/// The package of a guardrail's id.
fn namespace(guardrail: &str) -> &str {
    guardrail.rsplit_once('.').map_or("", |(package, _)| package)
}

/// Whether a policy has a guardrail that can deny: a check without one finds nothing, whatever the files.
pub fn can_deny(guardrails: &Guardrails) -> bool {
    guardrails.guardrails().iter().any(|guardrail| guardrail.effect == Effect::Deny)
}
