use proptest::prelude::*;

use super::{Expr, parse};
use crate::limits::{CONDITION_BYTES_MAX, CONDITION_DEPTH_MAX, LIST_ITEMS_MAX};

fn printed(text: &str) -> String {
    parse(text).map_or_else(|error| format!("{} at {}", error.message, error.offset), |expr| expr.to_string())
}

#[test]
fn what_parses() {
    for (text, canonical) in [
        ("proc.name=bash", "proc.name = bash"),
        ("proc.name == bash", "proc.name = bash"),
        ("proc.name!=bash", "proc.name != bash"),
        ("a", "a"),
        ("not a", "not a"),
        ("not(a)", "not a"),
        ("not not a", "a"),
        ("not(not(not a))", "not a"),
        ("(((a)))", "a"),
        ("a and b", "(a and b)"),
        ("a and b or c", "((a and b) or c)"),
        ("a or b and c", "(a or (b and c))"),
        ("a and(b or c)", "(a and (b or c))"),
        ("not a and b", "(not a and b)"),
        ("a and b and c or d or e", "((a and b and c) or d or e)"),
        ("a\n  and\tb", "(a and b)"),
        ("android", "android"),
        ("order or nothing", "(order or nothing)"),
        ("proc.name exists", "proc.name exists"),
        // As upstream: `exists` needs no blank after it, `and` does.
        ("proc.name existsand a", "(proc.name exists and a)"),
        ("proc.name in (a,b , \"c d\")", "proc.name in (a, b, \"c d\")"),
        ("proc.name in()", "proc.name in ()"),
        ("proc.name in (shells)", "proc.name in (shells)"),
        ("proc.name in shells", "proc.name in (shells)"),
        ("proc.name intersects(a)", "proc.name intersects (a)"),
        ("fd.name pmatch (/etc, /opt/*)", "fd.name pmatch (/etc, /opt/*)"),
        ("fd.num>=0", "fd.num >= 0"),
        ("fd.num < -1", "fd.num < -1"),
        ("evt.rawres = 0x1F", "evt.rawres = 0x1F"),
        ("evt.num<=1e+3", "evt.num <= 1e+3"),
        ("proc.aname[2]=sshd", "proc.aname[2] = sshd"),
        ("container.mount.dest[/proc*]!=N/A", "container.mount.dest[/proc*] != N/A"),
        ("proc.env[\"A B\"] = x", "proc.env[\"A B\"] = x"),
        ("proc.pname in (runc:[0:PARENT], runc)", "proc.pname in (runc:[0:PARENT], runc)"),
        ("proc.name = 'it''", "`and`, `or` or the end is expected, not `'` at 16"),
        ("proc.name = 'a\"b'", "proc.name = \"a\\\"b\""),
        ("proc.name = \"a\\\\b\\t\\x41\"", "proc.name = \"a\\\\b\\tA\""),
        ("proc.args = \"\"", "proc.args = \"\""),
        ("tolower(proc.name) = bash", "tolower(proc.name) = bash"),
        ("tolower(toupper(fd.name)) contains x", "tolower(toupper(fd.name)) contains x"),
        ("proc.name = val(proc.pname)", "proc.name = val(proc.pname)"),
        ("proc.name = tolower(proc.pname)", "proc.name = tolower(proc.pname)"),
        ("join(\",\", (proc.name, fd.name)) = x", "join(\",\", (proc.name, fd.name)) = x"),
        ("proc.name startswith anyof (a, b)", "proc.name startswith anyof (a, b)"),
        ("proc.name = anyof", "proc.name = anyof"),
        ("proc.name = anyof and a", "(proc.name = anyof and a)"),
        ("proc.name contains in(", "`and`, `or` or the end is expected, not `(` at 21"),
        ("proc.cmdline regex \"a(b|c)+\"", "proc.cmdline regex \"a(b|c)+\""),
    ] {
        assert_eq!(printed(text), canonical, "{text}");
    }
}

#[test]
fn what_does_not() {
    for (text, message) in [
        ("", "a check is expected, but the condition ends here at 0"),
        ("a and", "a check is expected, but the condition ends here at 5"),
        ("a b", "`and`, `or` or the end is expected, not `b` at 2"),
        ("(a", "`)` is missing, but the condition ends here at 2"),
        ("a)", "`and`, `or` or the end is expected, not `)` at 1"),
        ("proc.name", "an operator is expected, but the condition ends here at 9"),
        ("proc.name bash", "an operator is expected, not `bash` at 10"),
        ("proc.name =", "a value is expected, but the condition ends here at 11"),
        ("proc.name contains", "an operator is expected, not `contains` at 10"),
        ("proc.name in (a", "`,` or `)` is missing in a list, but the condition ends here at 15"),
        ("proc.name in (a,)", "a value is expected, not `)` at 16"),
        ("proc.name in \"a\"", "`in` needs a list on its right side at 13"),
        ("proc.pid > x", "`>` needs a number on its right side at 11"),
        ("proc.name = \"a", "a quoted value that does not end at 12"),
        ("proc.name = \"\\q\"", "`\\q` is not an escape at 13"),
        ("proc.aname[ = x", "an empty argument in `[]` at 11"),
        ("proc.aname[1 = x", "`[` is not closed by `]` at 10"),
        ("name = bash", "`name` is not a field at 0"),
        ("lower(proc.name) = x", "`lower` is not a transformer at 0"),
        ("val(proc.name) = x", "`val()` may only stand on the right side of a comparison at 0"),
        ("and", "`and` where a check is expected at 0"),
        ("1", "a check is expected, not `1` at 0"),
    ] {
        assert_eq!(printed(text), message, "{text}");
    }
}

#[test]
fn hints_say_what_was_meant() {
    let hint = |text: &str| parse(text).unwrap_err().hint.unwrap_or_default();
    assert_eq!(hint("proc.name startwith x"), "did you mean `startswith`?");
    assert_eq!(hint("a adn b"), "did you mean `and`?");
    assert_eq!(hint("tolowr(proc.name) = x"), "did you mean `tolower`?");
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(CONDITION_DEPTH_MAX - 1)).is_ok());
    assert!(parse(&nested(CONDITION_DEPTH_MAX)).unwrap_err().is_limit);
    assert!(parse(&"not ".repeat(10_000)).unwrap_err().is_limit);
    assert!(parse(&"tolower(".repeat(5_000)).unwrap_err().is_limit);
}

#[test]
fn length_is_bounded() {
    let padded = |len: usize| format!("a{}", " ".repeat(len - 1));
    assert!(parse(&padded(CONDITION_BYTES_MAX)).is_ok());
    assert!(parse(&padded(CONDITION_BYTES_MAX + 1)).unwrap_err().is_limit);
    // No condition can be long enough to pass the list limit by itself; lists put into it can.
    const { assert!(CONDITION_BYTES_MAX / 2 < LIST_ITEMS_MAX) };
}

/// `grammar.txt`: each case, and its canonical print, which must print as itself.
#[test]
fn the_grammar_case_by_case() {
    let mut wrong = String::new();
    let mut cases = 0;
    for line in include_str!("grammar.txt").lines() {
        let is_taken = line.starts_with('+');
        let Some(rest) = line.strip_prefix(['+', '-']) else { continue };
        let rest = rest.strip_prefix('!').unwrap_or(rest);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let (text, canonical) = rest.split_once(" => ").unwrap_or((rest, rest));
        let text = text.replace('\u{2424}', "\n").replace('\u{2409}', "\t").replace('\u{2408}', "\u{8}");
        cases += 1;
        let canonical = canonical.trim();
        match parse(&text) {
            Ok(expr) if is_taken => {
                let printed = expr.to_string();
                let again = printed_or_error(&printed);
                if printed != canonical || again != printed {
                    wrong.push_str(&format!("{text:?} is printed {printed}, not {canonical}, then {again}\n"));
                }
            }
            Err(error) if is_taken => wrong.push_str(&format!("{text:?} is refused: {error} at {}\n", error.offset)),
            Ok(expr) => wrong.push_str(&format!("{text:?} is taken: {expr}\n")),
            Err(error) => assert!(error.offset <= text.len(), "{text:?}"),
        }
    }
    assert_eq!(wrong, "");
    assert!(cases > 300, "only {cases} cases were read");
}

fn printed_or_error(text: &str) -> String {
    parse(text).map_or_else(|error| error.to_string(), |expr| expr.to_string())
}

/// Every operator with every kind of right side, on a field and on a transformer.
#[test]
fn operators_and_their_right_sides() {
    let symbols = ["=", "==", "!="];
    let words =
        ["contains", "icontains", "bcontains", "startswith", "bstartswith", "endswith", "glob", "iglob", "regex"];
    let orderings = ["<", "<=", ">", ">="];
    let lists = ["in", "intersects", "pmatch"];
    // The right side, and which of: texts, orderings, lists take it.
    let rights = [
        ("a", [true, false, true]),
        ("\"a b\"", [true, false, false]),
        ("1", [true, true, false]),
        ("0x1F", [true, true, false]),
        ("'1'", [true, false, false]),
        ("(a, b)", [false, false, true]),
        ("()", [false, false, true]),
        ("(1)", [false, false, true]),
        ("anyof (a, b)", [true, false, false]),
        ("oneof ()", [true, false, false]),
        ("allof (\"a b\")", [true, false, false]),
        ("val(fd.name)", [true, true, true]),
        ("tolower(fd.name)", [true, true, true]),
        ("join(\"-\", (fd.name, \"x\"))", [true, true, true]),
        ("val(tolower(fd.name))", [false, false, false]),
        ("(val(fd.name))", [false, false, false]),
        ("unknown(fd.name)", [false, false, false]),
        ("", [false, false, false]),
    ];
    let groups = [(&symbols[..], 0), (&words[..], 0), (&orderings[..], 1), (&lists[..], 2)];
    for left in ["proc.name", "proc.aname[2]", "tolower(proc.name)", "concat(proc.name, \"x\")"] {
        for (operators, group) in groups {
            for operator in operators {
                for (right, takes) in rights {
                    let text = format!("{left} {operator} {right}");
                    assert_eq!(parse(&text).is_ok(), takes[group], "{text}");
                    let among_others = format!("a and not ({text}\n) or b");
                    assert_eq!(parse(&among_others).is_ok(), takes[group], "{among_others}");
                }
            }
        }
        assert!(parse(&format!("{left} exists")).is_ok());
    }
}

/// Anything, but with the grammar's own pieces often enough to get deep into the parser.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("and ".to_owned()),
        Just("or ".to_owned()),
        Just("not ".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just(" in ".to_owned()),
        Just("proc.name".to_owned()),
        Just("proc.aname[1]".to_owned()),
        Just(" = ".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\x".to_owned()),
        Just("\\xc3\\xa9".to_owned()),
        Just("getopt(proc.args, \"nt:\")[t]".to_owned()),
        Just("join(\"-\", (".to_owned()),
        Just(" > 1".to_owned()),
        Just(",".to_owned()),
        Just("tolower(".to_owned()),
        Just("val(".to_owned()),
        Just("é".to_owned()),
        ".{0,3}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in pieces()) {
        if let Err(error) = parse(&text) {
            prop_assert!(error.offset <= text.len());
        }
    }

    #[test]
    fn the_print_parses_to_the_same_print(text in pieces()) {
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again: Expr = parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
            prop_assert_eq!(again.to_string(), printed);
        }
    }
}
