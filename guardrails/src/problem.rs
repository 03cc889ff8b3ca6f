//! What is wrong with a guardrail file, with the place and the remedy.

use std::fmt;

/// One thing wrong in one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Path as given to [`crate::Guardrails::load`].
    pub file: String,
    /// Line, from 1; 0 if the problem is the whole file's.
    pub line: u32,
    /// Column, from 1; 0 if the problem is the whole line's.
    pub column: u32,
    /// What is wrong.
    pub reason: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of a whole file.
    pub(crate) fn of_file(file: &str, reason: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, reason: reason.into(), hint: None }
    }

    /// A problem at a place in the source.
    pub(crate) fn at(span: &regorus::unstable::Span, reason: impl Into<String>) -> Self {
        Self { file: span.source.file().clone(), line: span.line, column: span.col, reason: reason.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Reads the place and the reason out of an error of the engine, which writes them as text:
    /// `\n--> file:line:col\n…\nerror: reason`. `file` is used when the text names none.
    pub(crate) fn from_engine(file: &str, error: &anyhow_text::Text) -> Self {
        let text = error.0.as_str();
        let mut problem = Self::of_file(file, engine_reason(text));
        if let Some((at, line, column)) = engine_place(text) {
            (problem.file, problem.line, problem.column) = (at.to_owned(), line, column);
        }
        problem
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file)?;
        if self.line > 0 {
            write!(out, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(out, ":{}", self.column)?;
        }
        write!(out, ": {}", self.reason)?;
        if let Some(hint) = &self.hint {
            write!(out, " (hint: {hint})")?;
        }
        Ok(())
    }
}

/// The engine's error type is `anyhow::Error`; this crate only ever needs its text.
pub(crate) mod anyhow_text {
    /// An engine error, as text.
    pub(crate) struct Text(pub(crate) String);

    impl<E: std::fmt::Display> From<&E> for Text {
        fn from(error: &E) -> Self {
            Self(format!("{error:#}"))
        }
    }
}

/// The last `error: …` of an engine error, on one line; the whole text if there is none.
pub(crate) fn engine_reason(text: &str) -> String {
    let reason = text.rsplit("\nerror: ").next().unwrap_or(text);
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { "the engine gave no reason".to_owned() } else { line }
}

/// The last `--> file:line:col` of an engine error that names a policy file.
fn engine_place(text: &str) -> Option<(&str, u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.trim().strip_prefix("--> ")?.rsplitn(3, ':');
            let column = parts.next()?.parse().ok()?;
            let line = parts.next()?.parse().ok()?;
            let file = parts.next()?;
            (!file.starts_with('<')).then_some((file, line, column))
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_text_becomes_place_and_reason() {
        let text =
            anyhow_text::Text("\n--> a/b.rego:3:7\n  |\n3 | deny\n  |       ^\nerror: expecting `if`".to_owned());
        let problem = Problem::from_engine("x", &text);
        assert_eq!(problem.to_string(), "a/b.rego:3:7: expecting `if`");
        let plain = Problem::from_engine("x", &anyhow_text::Text("too long".into()));
        assert_eq!(plain.to_string(), "x: too long");
    }
}
