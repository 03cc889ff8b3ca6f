//! Printing. A reader that has gone (`cairn up | head`) must not end what runs, nor change how a command exits: where nobody reads,
//! nothing is said.
//!
//! What is printed may hold what others wrote: file names in a commit, reasons in a ledger from elsewhere. A control character in
//! them is shown, never sent to the terminal.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write as _;

/// Text on standard output, with a line feed after it.
pub(crate) fn line(text: impl Display) {
    self::text(&format!("{text}\n"));
}

/// Text on standard output as it is.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(shown(text).as_bytes()).and_then(|()| out.flush());
}

/// Text on standard output as it is; `false`: nobody reads it any more.
#[cfg(feature = "full")]
pub(crate) fn text_is_read(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(shown(text).as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// A line on standard error.
pub(crate) fn error(text: impl Display) {
    let _ = std::io::stderr().lock().write_all(shown(&format!("{text}\n")).as_bytes());
}

fn shown(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(shown("a\n\tb – c"), "a\n\tb – c");
        assert_eq!(shown("x\u{1b}[2Jy\r\u{7}\u{9b}"), "x\\u{1b}[2Jy\\r\\u{7}\\u{9b}");
    }
}
