//! `getopt(list, "nt:")`: short options of a command line, as getopt(3) reads them.
//!
//! Long options are passed over, `--` and the first word that is no option end it, `-nt` is two options, an option with `:` after it
//! in the letters takes what follows it, in the same word or the next. An option that is not among the letters gives `?`; one whose
//! argument is missing gives an empty text.

use std::borrow::Cow;

/// Which options there are, and which take an argument.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Letters {
    known: [bool; 256],
    with_argument: [bool; 256],
}

impl Letters {
    /// Reads getopt(3)'s notation: letters, `:` after those that take an argument. A `:` before all of them changes nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let mut letters = Self { known: [false; 256], with_argument: [false; 256] };
        let mut last = None;
        for byte in text.bytes().map(usize::from) {
            if byte == usize::from(b':') {
                if let Some(last) = last {
                    letters.with_argument[last] = true;
                }
            } else {
                letters.known[byte] = true;
                last = Some(byte);
            }
        }
        letters
    }

    /// Is this option among them?
    pub(crate) fn has(&self, option: u8) -> bool {
        option != b':' && self.known[usize::from(option)]
    }

    /// All options of a command line in order, each followed by its argument if it takes one.
    pub(crate) fn list<'a>(&self, words: Vec<Cow<'a, [u8]>>) -> Vec<Cow<'a, [u8]>> {
        let mut out = Vec::new();
        self.walk(words, |option, argument| match argument {
            None => out.push(Cow::Owned(vec![option])),
            Some(None) => out.push(Cow::Borrowed(&b""[..])),
            Some(Some(argument)) => out.extend([Cow::Owned(vec![option]), argument]),
        });
        out
    }

    /// The argument of an option, or its letter if it takes none; of several, the last. `None` when it is not there.
    pub(crate) fn value<'a>(&self, words: Vec<Cow<'a, [u8]>>, wanted: u8) -> Option<Cow<'a, [u8]>> {
        let mut value = None;
        self.walk(words, |option, argument| {
            // A `?` stands for what is unknown: `-?` itself is an option if it is among the letters.
            if option == wanted && self.has(wanted) {
                value = Some(match argument {
                    None => Cow::Owned(vec![option]),
                    Some(argument) => argument.unwrap_or(Cow::Borrowed(b"")),
                });
            }
        });
        value
    }

    /// Calls with each option, and with its argument if it takes one: `Some(None)` when that is missing.
    fn walk<'a>(&self, words: Vec<Cow<'a, [u8]>>, mut found: impl FnMut(u8, Option<Option<Cow<'a, [u8]>>>)) {
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word.len() > 2 && word.starts_with(b"--") {
                continue;
            }
            if *word == *b"--" || word.len() < 2 || word[0] != b'-' {
                return;
            }
            for at in 1..word.len() {
                let option = word[at];
                if !self.has(option) {
                    found(b'?', None);
                } else if self.with_argument[usize::from(option)] {
                    let here = (at + 1 < word.len()).then(|| Cow::Owned(word[at + 1..].to_vec()));
                    found(option, Some(here.or_else(|| words.next())));
                    break;
                } else {
                    found(option, None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Cow<'_, [u8]>> {
        line.split_whitespace().map(|word| Cow::Borrowed(word.as_bytes())).collect()
    }

    fn list(letters: &str, line: &str) -> String {
        let found = Letters::parse(letters).list(words(line));
        found.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn value(letters: &str, line: &str, option: u8) -> Option<String> {
        let value = Letters::parse(letters).value(words(line), option);
        value.map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn options_are_listed_as_getopt_reads_them() {
        for (letters, line, found) in [
            ("nt:", "-n -t 5 file", "n t 5"),
            ("nt:", "-nt5", "n t 5"),
            ("nt:", "-tn", "t n"),
            ("nt:", "-x -n", "? n"),
            ("nt:", "-n -t", "n "),
            (":nt:", "-n -t", "n "),
            ("nt:", "--exec sh -n", ""),
            ("nt:", "--exec=sh -n", "n"),
            ("nt:", "-n -- -t 5", "n"),
            ("nt:", "file -n", ""),
            ("nt:", "- -n", ""),
            ("nt:", "-:", "?"),
            ("", "-n", "?"),
            ("nt:", "", ""),
            ("t:", "-t -n", "t -n"),
        ] {
            assert_eq!(list(letters, line), found, "{letters} {line}");
        }
    }

    #[test]
    fn the_last_of_several_counts() {
        assert_eq!(value("nt:", "-t 1 -n -t 2", b't').as_deref(), Some("2"));
        assert_eq!(value("nt:", "-t 1 -n", b'n').as_deref(), Some("n"));
        assert_eq!(value("nt:", "-t", b't').as_deref(), Some(""));
        assert_eq!(value("nt:", "-n", b't'), None);
        assert_eq!(value("nt:", "-x", b'?'), None);
        assert_eq!(value("?", "-?", b'?').as_deref(), Some("?"));
    }
}
