//! What is wrong with a policy: every problem with its file, line and remedy, in one shape whoever found it.

use std::fmt;

use serde::Serialize;

use crate::limits::PROBLEMS_MAX;

/// One thing wrong in one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Path in the policy repo.
    pub file: String,
    /// Line, from 1; `None` if it is about the whole file.
    pub line: Option<u32>,
    /// Column, from 1; `None` if it is about the whole line.
    pub column: Option<u32>,
    /// What is wrong: lower case, no full stop.
    pub reason: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl Problem {
    pub(crate) fn of_file(file: &str, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, column: None, reason: reason.into(), hint: None }
    }

    pub(crate) fn at(file: &str, (line, column): (u32, u32), reason: impl Into<String>) -> Self {
        Self { line: known(line), column: known(column), ..Self::of_file(file, reason) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        f_place(out, &self.file, self.line, self.column)?;
        write!(out, ": {}", self.reason)?;
        if let Some(hint) = &self.hint {
            write!(out, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

fn f_place(out: &mut fmt::Formatter<'_>, file: &str, line: Option<u32>, column: Option<u32>) -> fmt::Result {
    out.write_str(file)?;
    for number in [line, column].into_iter().flatten() {
        write!(out, ":{number}")?;
    }
    Ok(())
}

fn known(number: u32) -> Option<u32> {
    (number > 0).then_some(number)
}

impl From<cairn_guardrails::Problem> for Problem {
    fn from(problem: cairn_guardrails::Problem) -> Self {
        Self {
            file: problem.file,
            line: known(problem.line),
            column: known(problem.column),
            reason: problem.reason,
            hint: problem.hint,
        }
    }
}

impl From<&cairn_rules::Problem> for Problem {
    fn from(problem: &cairn_rules::Problem) -> Self {
        let number = |number: usize| known(u32::try_from(number).unwrap_or(u32::MAX));
        let reason = if problem.item.is_empty() {
            problem.message.clone()
        } else {
            format!("{}: {}", problem.item, problem.message)
        };
        Self {
            file: problem.file.clone(),
            line: number(problem.line),
            column: number(problem.column),
            reason,
            hint: problem.hint.clone(),
        }
    }
}

/// Why a policy cannot be used: at least one problem, ordered by file and line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", self.render())]
pub struct Problems {
    /// The problems, at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many more there were.
    pub omitted: usize,
}

impl Problems {
    /// `Ok` if there are none.
    pub(crate) fn check(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        problems.dedup();
        let omitted = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        Err(Self { problems, omitted })
    }

    /// The first problem.
    pub fn first(&self) -> &Problem {
        self.problems.first().expect("invariant: made from at least one problem")
    }

    fn render(&self) -> String {
        let mut lines: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        if self.omitted > 0 {
            lines.push(format!("and {} more", self.omitted));
        }
        lines.join("\n")
    }
}
