//! Matching of bytes: globs as `fnmatch(3)` with no flags, substrings.

/// A compiled glob. `*` crosses `/`, as `fnmatch` without `FNM_PATHNAME` lets it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
    ignore_case: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Token {
    Byte(u8),
    AnyByte,
    AnyBytes,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    pub(crate) fn new(pattern: &[u8], ignore_case: bool) -> Self {
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(byte) = pattern.get(at).copied() {
            at += 1;
            let token = match byte {
                b'*' => Token::AnyBytes,
                b'?' => Token::AnyByte,
                b'[' => match class(&pattern[at..], ignore_case) {
                    Some((token, length)) => {
                        at += length;
                        token
                    }
                    // A bracket that never closes is itself.
                    None => Token::Byte(b'['),
                },
                b'\\' if at < pattern.len() => {
                    at += 1;
                    Token::Byte(fold(pattern[at - 1], ignore_case))
                }
                other => Token::Byte(fold(other, ignore_case)),
            };
            tokens.push(token);
        }
        Self { tokens, ignore_case }
    }

    /// What every text that matches begins with, if that is known.
    pub(crate) fn literal_prefix(&self) -> Option<Box<[u8]>> {
        let literal = self.tokens.iter().map_while(|token| match token {
            Token::Byte(byte) if !self.ignore_case => Some(*byte),
            _ => None,
        });
        let prefix: Box<[u8]> = literal.collect();
        (!prefix.is_empty()).then_some(prefix)
    }

    /// Does the whole text match? Linear but for the last `*`, to which it goes back: at most length times pattern steps.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        loop {
            match self.tokens.get(token) {
                Some(Token::AnyBytes) => {
                    token += 1;
                    star = Some((token, at));
                    continue;
                }
                Some(one) if at < text.len() && one.accepts(fold(text[at], self.ignore_case)) => {
                    token += 1;
                    at += 1;
                    continue;
                }
                None if at == text.len() => return true,
                _ => {}
            }
            match star {
                Some((after, from)) if from < text.len() => {
                    token = after;
                    at = from + 1;
                    star = Some((after, at));
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::AnyByte => true,
            Self::AnyBytes => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *negated
            }
        }
    }
}

/// The class after a `[`, and its length with the `]`.
fn class(pattern: &[u8], ignore_case: bool) -> Option<(Token, usize)> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        let mut from = *pattern.get(at)?;
        // A `]` that comes first is a member.
        if from == b']' && !ranges.is_empty() {
            return Some((Token::Class { negated, ranges }, at + 1));
        }
        if from == b'\\' {
            at += 1;
            from = *pattern.get(at)?;
        }
        let to = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(to)) if *to != b']' => {
                at += 2;
                *to
            }
            _ => from,
        };
        ranges.push((fold(from, ignore_case), fold(to, ignore_case)));
        at += 1;
    }
}

fn fold(byte: u8, ignore_case: bool) -> u8 {
    if ignore_case { byte.to_ascii_lowercase() } else { byte }
}

/// Does the text hold the part?
pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else { return true };
    let Some(last_start) = text.len().checked_sub(part.len()) else { return false };
    let mut from = 0;
    while from <= last_start {
        let Some(found) = text[from..=last_start].iter().position(|byte| byte == first) else { return false };
        from += found;
        if text[from..].starts_with(part) {
            return true;
        }
        from += 1;
    }
    false
}

/// As [`contains`], ASCII letters' case aside; the part is in lower case already.
pub(crate) fn contains_ignoring_case(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(pattern: &str, text: &str) -> bool {
        Glob::new(pattern.as_bytes(), false).matches(text.as_bytes())
    }

    #[test]
    fn globs_as_fnmatch() {
        for (pattern, text) in [
            ("*", ""),
            ("/home/*/.ssh/*", "/home/a/b/.ssh/id"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]a]", "]"),
            ("[", "["),
            ("a\\*", "a*"),
            ("*a*b*", "xxaxxbxx"),
            ("**", "anything"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", "ab"), ("?", ""), ("[a-c]x", "dx"), ("*a", "ab"), ("a\\*", "ab"), ("", "a"), ("[!]]", "]")]
        {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
        assert!(Glob::new(b"A*[X-Z]", true).matches(b"abcY"));
    }

    /// The textbook recursion.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.first() {
            None => text.is_empty(),
            Some(b'*') => (0..=text.len()).any(|skip| naive(&pattern[1..], &text[skip..])),
            Some(b'?') => !text.is_empty() && naive(&pattern[1..], &text[1..]),
            Some(byte) => text.first() == Some(byte) && naive(&pattern[1..], &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn globs_agree_with_the_textbook(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(glob(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_bytes_are_a_pattern(pattern in prop::collection::vec(any::<u8>(), 0..20), text in prop::collection::vec(any::<u8>(), 0..20)) {
            Glob::new(&pattern, true).matches(&text);
        }

        #[test]
        fn substrings(text in "[abA]{0,12}", part in "[ab]{0,3}") {
            prop_assert_eq!(contains(text.as_bytes(), part.as_bytes()), text.contains(&part));
            prop_assert_eq!(contains_ignoring_case(text.as_bytes(), part.as_bytes()), text.to_lowercase().contains(&part));
        }
    }
}
