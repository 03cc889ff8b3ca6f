//! The tests of a policy: its Rego tests and its replay cases, run by the engines that nodes run, and what they cover.

use std::collections::BTreeSet;
use std::fmt;

use cairn_rules::replay::{self, RuleCoverage};
use cairn_schemas::config::Coverage;
use serde::Serialize;

use crate::load::Policy;
use crate::problem::{Problem, Problems};

/// What came of the tests of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// Number of tests that passed.
    pub passed: usize,
    /// Number of tests that failed.
    pub failed: usize,
    /// Each test, ordered by file and line.
    pub cases: Vec<TestCase>,
    /// What they cover.
    pub coverage: CoverageReport,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestCase {
    /// Of what it is a test.
    pub kind: TestKind,
    /// The file it stands in.
    pub file: String,
    /// The line it begins on.
    pub line: u32,
    /// Its name: of a Rego rule with its package, or of a replay case.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// Why it failed, perhaps with a hint; empty if it passed.
    pub message: String,
}

/// Of what a test is a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestKind {
    /// A `test_…` rule in a `…_test.rego` file.
    Guardrail,
    /// A replay case in `detections/tests/`.
    Detection,
}

/// What tests cover. A guardrail is covered when a test makes it speak; a detection when one passed case shows it alert and another
/// shows it silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoverageReport {
    /// What `cairn.yaml` asks for.
    pub mode: Coverage,
    /// Number of guardrail rules and detections.
    pub total: usize,
    /// Those that are not covered, ordered by file and line.
    pub uncovered: Vec<Uncovered>,
    /// Number of clauses of the detections: what `and` and `or` join in a rule's own text.
    pub clauses: usize,
    /// Number of those that some event of a passed case was decided by.
    pub clauses_decided: usize,
    /// Each detection with its clauses, in the order in which they are defined.
    pub detections: Vec<RuleCoverage>,
}

/// A guardrail rule or a detection that tests do not cover.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Uncovered {
    /// The file it stands in.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// Which of the two it is.
    pub kind: TestKind,
    /// Its name.
    pub name: String,
    /// What is missing.
    pub missing: String,
}

impl Policy {
    /// Runs every test. A test that cannot be run has failed.
    pub fn test(&self) -> TestReport {
        let guardrails = self.guardrails.test();
        let replays: Vec<_> = self.cases.iter().map(|case| replay::run(&self.rules, case)).collect();

        let mut cases: Vec<TestCase> = guardrails.results.into_iter().map(TestCase::from).collect();
        cases.extend(replays.iter().map(TestCase::from));
        cases.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));

        let detections = replay::coverage(&self.rules, &replays);
        let mut uncovered: Vec<Uncovered> = detections.uncovered().map(|rule| self.uncovered_detection(rule)).collect();
        uncovered.extend(guardrails.coverage.iter().filter(|rule| !rule.exercised).map(|rule| Uncovered {
            file: rule.file.clone(),
            line: rule.line,
            kind: TestKind::Guardrail,
            name: rule.guardrail.clone(),
            missing: "no test makes it speak".to_owned(),
        }));
        uncovered.sort();
        let (clauses, clauses_decided) = detections.clauses();
        let passed = cases.iter().filter(|case| case.passed).count();
        TestReport {
            passed,
            failed: cases.len() - passed,
            cases,
            coverage: CoverageReport {
                mode: self.config.tests.coverage,
                total: guardrails.coverage.len() + detections.rules.len(),
                uncovered,
                clauses,
                clauses_decided,
                detections: detections.rules,
            },
        }
    }

    fn uncovered_detection(&self, coverage: &RuleCoverage) -> Uncovered {
        let (file, line) = match self.rules.rule(&coverage.rule) {
            Some(rule) => (rule.file.clone(), number(rule.line)),
            None => (String::new(), 0),
        };
        let missing = match (coverage.alerts, coverage.silences) {
            (0, 0) => "no passed case shows it alert or silent",
            (0, _) => "no passed case shows it alert",
            _ => "no passed case shows it silent",
        };
        Uncovered { file, line, kind: TestKind::Detection, name: coverage.rule.clone(), missing: missing.to_owned() }
    }
}

impl TestReport {
    /// Whether a release may be built from the policy.
    pub fn accepted(&self) -> bool {
        let covered = self.coverage.mode != Coverage::Require || self.coverage.uncovered.is_empty();
        self.failed == 0 && covered
    }

    /// What stops a release, as problems with file, line and reason.
    ///
    /// # Errors
    /// Each failed test, and what is not covered if `cairn.yaml` requires it.
    pub fn check(&self) -> Result<(), Problems> {
        let failed = self.cases.iter().filter(|case| !case.passed);
        let mut problems: Vec<Problem> = failed
            .map(|case| {
                let reason = format!("test `{}` failed: {}", case.name, case.message);
                Problem::at(&case.file, (case.line, 0), reason)
            })
            .collect();
        if self.coverage.mode == Coverage::Require {
            problems.extend(self.coverage.uncovered.iter().map(|rule| {
                let reason = format!("`{}` is not covered: {}", rule.name, rule.missing);
                Problem::at(&rule.file, (rule.line, 0), reason)
                    .hint("add a test; `tests.coverage` in cairn.yaml requires one for every rule")
            }));
        }
        Problems::check(problems)
    }

    /// Rules that tests cover, in per cent, rounded down; 100 when there are no rules.
    pub fn coverage_percent(&self) -> usize {
        let covered = self.coverage.total - self.coverage.uncovered.len();
        (covered * 100).checked_div(self.coverage.total).unwrap_or(100)
    }

    /// Clauses of detections that decided some event of a passed case, in per cent, rounded down; 100 when there are none.
    pub fn clauses_percent(&self) -> usize {
        (self.coverage.clauses_decided * 100).checked_div(self.coverage.clauses).unwrap_or(100)
    }

    /// The clauses whose loss no test would notice: a line for each, those that never decided anything first said so. Empty when there
    /// are none.
    pub fn unnoticed_clauses(&self) -> String {
        let mut out = String::new();
        for rule in &self.coverage.detections {
            for clause in &rule.clauses {
                let what = match (clause.decided_true, clause.decided_false) {
                    (true, true) => continue,
                    (true, false) if clause.is_about_types => continue,
                    (false, false) => "decided nothing",
                    (true, false) => "was never false where it mattered: no test would fail without it",
                    (false, true) => "was never true where it mattered",
                };
                let place = format!("{}:{}:{}", clause.file, clause.line, clause.column);
                let after = if clause.is_of_after { "after: " } else { "" };
                out.push_str(&format!("{place}: `{}`: {after}{} {what}\n", rule.rule, clause.text));
            }
        }
        out
    }
}

/// As `cairn test` prints it: what failed, what is not covered, the counts.
impl fmt::Display for TestReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in self.cases.iter().filter(|case| !case.passed) {
            writeln!(out, "FAIL {}:{}: {}\n  {}", case.file, case.line, case.name, case.message)?;
        }
        let word = match self.coverage.mode {
            Coverage::Off => None,
            Coverage::Warn => Some("WARN"),
            Coverage::Require => Some("FAIL"),
        };
        if let Some(word) = word {
            for rule in &self.coverage.uncovered {
                writeln!(out, "{word} {}:{}: `{}` is not covered: {}", rule.file, rule.line, rule.name, rule.missing)?;
            }
        }
        let files: BTreeSet<&str> = self.cases.iter().map(|case| case.file.as_str()).collect();
        write!(out, "{} passed, {} failed in {} file(s)", self.passed, self.failed, files.len())?;
        if word.is_some() {
            let covered = self.coverage.total - self.coverage.uncovered.len();
            write!(out, "; {covered} of {} rules covered", self.coverage.total)?;
            if self.coverage.clauses > 0 {
                write!(out, ", {} of {} clauses", self.coverage.clauses_decided, self.coverage.clauses)?;
            }
        }
        Ok(())
    }
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl From<cairn_guardrails::TestResult> for TestCase {
    fn from(result: cairn_guardrails::TestResult) -> Self {
        let cairn_guardrails::TestResult { file, line, name, passed, message } = result;
        Self { kind: TestKind::Guardrail, file, line, name, passed, message }
    }
}

impl From<&replay::CaseResult> for TestCase {
    fn from(result: &replay::CaseResult) -> Self {
        let message = match &result.hint {
            Some(hint) => format!("{} (hint: {hint})", result.reason),
            None => result.reason.clone(),
        };
        Self {
            kind: TestKind::Detection,
            file: result.file.clone(),
            line: number(result.line),
            name: result.name.clone(),
            passed: result.passed,
            message,
        }
    }
}
