//! What a command could not do: one line that names the thing, one that says what to do about it.

use std::error::Error;
use std::process::ExitCode;

use crate::say;

/// A command's failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// Something is bad: exit 1.
    #[cfg(feature = "full")]
    pub(crate) fn bad(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), hint: None, code: 1 }
    }

    /// It could not be told: exit 2.
    pub(crate) fn unknown(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), hint: None, code: 2 }
    }

    /// With what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        say::error(format_args!("error: {}", one_line(&self.message)));
        if let Some(hint) = &self.hint {
            say::error(format_args!("hint: {}", one_line(hint)));
        }
        ExitCode::from(self.code)
    }
}

/// An error and its causes, nearest first, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Errors that show their source already are not shown twice.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = inner.source();
    }
    line
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the folder cannot be read")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_in_one_line() {
        let error = Outer(std::io::Error::other("permission\ndenied"));
        assert_eq!(one_line(&chain(&error)), "the folder cannot be read: permission denied");
    }
}
