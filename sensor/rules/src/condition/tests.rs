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
        ("not not a", "not not a"),
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
        ("evt.num<=1e3", "evt.num <= 1e3"),
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
