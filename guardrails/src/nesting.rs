//! Refuses, before parsing, text on which the engine's parser takes exponential time.
//!
//! At each `[` and `{` the parser first tries a comprehension: it parses the first element, finds no `|`, goes back and parses the
//! element again. A token inside the first elements of `k` brackets is therefore parsed 2^k times, and `[[[[[[…` of thirty levels
//! would take hours. The sum of those 2^k is what parsing costs; it is bounded here by counting brackets and commas.

use crate::problem::Problem;

/// Most steps that parsing one file may cost: a few seconds of an unoptimised build. A file without deep nesting costs about as
/// many as it has tokens.
pub const PARSE_STEPS_MAX: u64 = 250_000;

/// The place where a file becomes too costly to parse, if it does.
pub(crate) fn check(path: &str, text: &str) -> Option<Problem> {
    let mut steps = 0_u64;
    // For each open bracket: whether we are still in its first element, and whether that is parsed twice.
    let mut open: Vec<Bracket> = Vec::new();
    let mut doublings = 0_u32;
    let mut last_word = "";
    for token in (Tokens { text, at: 0, line: 1 }) {
        steps = steps.saturating_add(1_u64.checked_shl(doublings).unwrap_or(u64::MAX));
        if steps > PARSE_STEPS_MAX {
            let mut problem = Problem::of_file(path, "brackets are nested too deeply to parse in reasonable time");
            problem.line = token.line;
            return Some(
                problem.hint("put the inner parts into rules of their own, or not first in their list or object"),
            );
        }
        match token.text {
            "[" | "{" | "(" => {
                // The body of a rule is not tried as anything else.
                let doubles = token.text != "(" && !(token.text == "{" && matches!(last_word, "if" | "else"));
                open.push(Bracket { doubles });
                doublings += u32::from(doubles);
            }
            "]" | "}" | ")" => {
                if let Some(bracket) = open.pop() {
                    doublings -= u32::from(bracket.doubles);
                }
            }
            "," => {
                if let Some(bracket) = open.last_mut()
                    && bracket.doubles
                {
                    bracket.doubles = false;
                    doublings -= 1;
                }
            }
            _ => {}
        }
        last_word = token.text;
    }
    None
}

struct Bracket {
    /// Whether what comes now is parsed twice.
    doubles: bool,
}

struct Token<'a> {
    text: &'a str,
    line: u32,
}

/// Words, single other characters and strings; comments and white space are skipped.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = &self.text[self.at..];
            let first = rest.chars().next()?;
            let len = match first {
                '#' => rest.find('\n').unwrap_or(rest.len()),
                '"' => string_len(rest),
                '`' => rest[1..].find('`').map_or(rest.len(), |end| end + 2),
                _ if is_word(first) => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
                other => other.len_utf8(),
            };
            let token = Token { text: &rest[..len], line: self.line };
            self.at += len;
            self.line += u32::try_from(token.text.matches('\n').count()).unwrap_or(0);
            if first != '#' && !first.is_whitespace() {
                return Some(token);
            }
        }
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Length of a quoted string with its quotes; an unfinished one ends with its line, where the parser will complain.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_elements_count_double_and_later_ones_do_not() {
        let nested =
            |levels: usize, first: &str| format!("x := {}{}", format!("[{first}").repeat(levels), "]".repeat(levels));
        assert!(check("a", &nested(16, "")).is_none());
        let problem = check("a", &nested(17, "")).unwrap();
        assert_eq!((problem.line, problem.file.as_str()), (1, "a"));
        assert!(check("a", &nested(500, "1, ")).is_none());
        assert!(check("a", &"(".repeat(500)).is_none());
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        assert!(
            check("a", &format!("# {}\nx := \"{}\\\"[\" `{}\n`", "[".repeat(99), "[".repeat(99), "{".repeat(99)))
                .is_none()
        );
        assert_eq!(check("a", &format!("\n`\n`\n{}", "[".repeat(99))).unwrap().line, 4);
        let bodies = "deny if {\n a := 1\n b := [a, a]\n}\n".repeat(6_000);
        assert!(check("a", &bodies).is_none());
    }
}
