//! What a load says in the shapes of `falco -V`: a line for each file, and its JSON, so that editors and pipelines that read Falco's
//! check read ours. Lines and columns of the JSON begin at 0, as Falco's do.

use serde::Serialize;

use super::{Loaded, RulesFile};
use crate::problem::{Code, Problem, Severity};

/// What is said of one file: an element of Falco's `falco_load_results`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FalcoReport {
    /// The file's path.
    pub name: String,
    /// Has it no error? Warnings are allowed.
    pub successful: bool,
    /// Its errors.
    pub errors: Vec<FalcoProblem>,
    /// Its warnings.
    pub warnings: Vec<FalcoProblem>,
}

/// One problem as Falco's JSON has it; `hint` is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FalcoProblem {
    /// The kind.
    pub code: Code,
    /// The kind in words.
    pub codedesc: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub context: FalcoContext,
    /// How to put it right, where we can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FalcoContext {
    /// From the outermost inwards: the file, then the item.
    pub locations: Vec<FalcoLocation>,
    /// The source line, and below it a mark under the column.
    pub snippet: String,
}

/// A file, or an item of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FalcoLocation {
    /// What it is: `rules content`, `rule`, `macro`, `list`, ...
    pub item_type: String,
    /// Its name; empty when it has none.
    pub item_name: String,
    /// Where it is.
    pub position: FalcoPosition,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FalcoPosition {
    /// The file's path.
    pub name: String,
    /// Line, from 0.
    pub line: usize,
    /// Column in characters, from 0.
    pub column: usize,
    /// Bytes from the beginning of the file.
    pub offset: usize,
}

/// What a load says of each of its files, in their order.
#[must_use]
pub fn report(files: &[RulesFile<'_>], loaded: &Loaded) -> Vec<FalcoReport> {
    let of_file = |path: &str, severity: Severity| {
        let own = loaded.problems.iter().filter(|problem| problem.file == path && problem.severity == severity);
        own.map(FalcoProblem::from).collect::<Vec<_>>()
    };
    let report = |file: &RulesFile<'_>| {
        let errors = of_file(file.path, Severity::Error);
        let warnings = of_file(file.path, Severity::Warning);
        FalcoReport { name: file.path.to_owned(), successful: errors.is_empty(), errors, warnings }
    };
    files.iter().map(report).collect()
}

impl FalcoReport {
    /// What is said of a file that cannot be read.
    #[must_use]
    pub fn unreadable(path: &str, reason: &str) -> Self {
        let problem = Problem {
            severity: Severity::Error,
            code: Code::LoadErrFileRead,
            file: path.to_owned(),
            line: 1,
            column: 1,
            offset: 0,
            item: String::new(),
            message: reason.to_owned(),
            hint: None,
            snippet: String::new(),
            snippet_column: 0,
        };
        Self { name: path.to_owned(), successful: false, errors: vec![(&problem).into()], warnings: Vec::new() }
    }

    /// `PATH: Ok`, `PATH: Ok, with warnings` or `PATH: Invalid`.
    #[must_use]
    pub fn line(&self) -> String {
        let verdict = match (self.successful, self.warnings.is_empty()) {
            (false, _) => "Invalid",
            (true, true) => "Ok",
            (true, false) => "Ok, with warnings",
        };
        format!("{}: {verdict}", self.name)
    }
}

impl From<&Problem> for FalcoProblem {
    fn from(problem: &Problem) -> Self {
        let location = |item_type: &str, item_name: &str, line, column, offset| FalcoLocation {
            item_type: item_type.to_owned(),
            item_name: item_name.to_owned(),
            position: FalcoPosition { name: problem.file.clone(), line, column, offset },
        };
        let mut locations = vec![location("rules content", "", 0, 0, 0)];
        let (kind, name) = match problem.item.split_once(' ') {
            Some((kind, name)) => (kind, name.trim_matches('"')),
            None => (problem.item.as_str(), ""),
        };
        let kind = if kind.is_empty() { "rules content item" } else { kind };
        let (line, column) = (problem.line.saturating_sub(1), problem.column.saturating_sub(1));
        locations.push(location(kind, name, line, column, problem.offset));
        let snippet = if problem.snippet.is_empty() {
            "<No context available>\n".to_owned()
        } else {
            format!("{}\n{}^\n", problem.snippet, " ".repeat(problem.snippet_column))
        };
        Self {
            code: problem.code,
            codedesc: problem.code.title(),
            message: problem.message.clone(),
            context: FalcoContext { locations, snippet },
            hint: problem.hint.clone(),
        }
    }
}
