//! What loading accepts, and what it refuses: with file, line and remedy.

use cairn_guardrails::limits::{CALL_CHAIN_MAX, EXPRESSION_DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, LINE_LEN_MAX};
use cairn_guardrails::{Guardrails, Problem};

fn load(text: &str) -> Result<Guardrails, Vec<Problem>> {
    Guardrails::load(&[("guardrails/a.rego", text)])
}

/// The problems of a file, one a line.
fn problems(text: &str) -> String {
    match load(text) {
        Ok(_) => "loaded".to_owned(),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn guardrails_are_found_by_conftests_names() {
    let guardrails = load(
        "package k8s.pods\n\ndeny contains \"a\" if input.a\ndeny_two contains {\"msg\": \"b\"} if input.b\n\
         warn_three contains \"c\" if input.c\nviolation contains {\"msg\": \"d\"} if input.d\nhelper := 1\n",
    )
    .unwrap();
    let ids: Vec<_> = guardrails.guardrails().iter().map(|guardrail| guardrail.id.as_str()).collect();
    assert_eq!(ids, ["k8s.pods.deny", "k8s.pods.deny_two", "k8s.pods.violation", "k8s.pods.warn_three"]);
    assert_eq!(guardrails.guardrails()[1].line(), 4);
    assert_eq!(Guardrails::load::<&str, &str>(&[]).unwrap().guardrails(), []);
}

#[test]
fn syntax_errors_name_the_place_in_every_file() {
    let files = [
        ("b.rego", "package b\n\ndeny contains if {\n"),
        ("a.rego", "package a\nx := := 1\n"),
        ("c.rego", "package c\n"),
    ];
    let problems = Guardrails::load(&files).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| (problem.file.as_str(), problem.line)).collect();
    assert_eq!(places, [("a.rego", 2), ("b.rego", 3)]);
}

#[test]
fn old_rego_is_recognised() {
    let text = problems("package a\n\ndeny[msg] {\n  input.x == 1\n  msg := \"no\"\n}\n");
    assert!(text.starts_with("guardrails/a.rego:3") && text.contains("Rego v0"), "{text}");
}

#[test]
fn a_deny_that_is_no_set_of_messages_is_refused() {
    for text in [
        "package a\ndeny if input.x\n",
        "package a\ndeny := \"no\"\n",
        "package a\ndefault deny := false\n",
        "package a\ndeny(x) := x\n",
    ] {
        let text = problems(text);
        assert!(text.contains("a.rego:2") && text.contains("contains message if"), "{text}");
    }
}

#[test]
fn a_function_that_does_not_exist_is_a_problem_at_load() {
    let text = problems(
        "package a\n\ndeny contains \"x\" if {\n  input.kind == \"Pod\"\n  startwith(input.image, \"a\")\n}\n",
    );
    assert!(text.starts_with("guardrails/a.rego:5:3: there is no function `startwith`"), "{text}");
    assert!(text.contains("did you mean `startswith`?"), "{text}");
    let text = problems("package a\nimport data.lib\ndeny contains \"x\" if lib.missing(input)\n");
    assert!(text.contains("there is no function `lib.missing`"), "{text}");
    let text = problems("package a\ndeny contains \"x\" if startswith(\"a\")\n");
    assert!(text.contains("`startswith` takes 2 arguments, not 1"), "{text}");
    let text = problems("package a\nf(x) := x\ndeny contains \"x\" if f(1, 2, 3)\n");
    assert!(text.contains("`f` takes 1 arguments, not 3"), "{text}");
}

#[test]
fn functions_of_other_packages_are_found_through_imports() {
    let library = "package lib.k8s\n\nimage(c) := c.image\n\nnames contains \"a\"\n";
    let policy = "package a\n\nimport data.lib.k8s\n\nimport data.lib.k8s.image as image_of\n\n\
                  deny contains k8s.image(input) if image_of(input) == \"a\"\n\
                  deny contains \"x\" if data.lib.k8s.image(input) == \"b\"\n";
    Guardrails::load(&[("lib.rego", library), ("a.rego", policy)]).unwrap();
}

#[test]
fn builtins_that_reach_out_are_refused() {
    for (call, reason) in [
        ("http.send({})", "depend only on its input"),
        ("opa.runtime()", "environment"),
        ("rand.intn(\"a\", 3)", "same answer"),
        ("graph.reachable_paths({}, [])", "no bound"),
    ] {
        let text = problems(&format!("package a\ndeny contains \"x\" if {call}\n"));
        assert!(text.contains("not available to guardrails") && text.contains(reason), "{text}");
    }
}

#[test]
fn a_negated_call_on_what_may_be_missing_is_refused_with_the_fix() {
    let text = problems("package a\n\ndeny contains \"x\" if not startswith(input.spec.image, \"reg/\")\n");
    assert!(text.starts_with("guardrails/a.rego:3:37: `input.spec.image` may"), "{text}");
    for negated in [
        "not startswith(input.image, \"reg/\")",
        "not startswith(lower(input.image), \"reg/\")",
        "not f(input.a, 1)",
        "not \"ALL\" in input.drop",
        "not input.replicas > 3",
        "not count(input.containers) == 0",
        "not allowed[input.name]",
        "not startswith(name, \"x\")",
        "not f(g(1), 1)",
    ] {
        let rule = format!(
            "package a\nf(x, y) if x == y\ng(x) := 1 if x == 2\nallowed := {{\"a\"}}\nname := \"b\" if input.c\n\
             deny contains \"x\" if {negated}\n"
        );
        let text = problems(&rule);
        assert!(
            text.starts_with("guardrails/a.rego:6:") && text.contains("may be undefined inside `not`"),
            "{negated}: {text}"
        );
        assert!(text.contains("value := "), "{text}");
    }
}

#[test]
fn negations_that_every_engine_reads_alike_are_taken() {
    for statements in [
        "not input.spec.hostNetwork",
        "not input.a == 1",
        "not input.a == input.b",
        "image := input.image; not startswith(image, \"reg/\")",
        "some c in input.containers; not f(c, 1)",
        "not startswith(object.get(input, \"image\", \"\"), \"reg/\")",
        "not \"a\" in allowed",
        "not f(fallback, 1)",
        "not f([x | x := input.a[_]], [])",
        "not \"a\" in {x | some x in input.b}",
    ] {
        let rule = format!(
            "package a\nf(x, y) if x == y\nallowed := {{\"a\"}}\ndefault fallback := 1\nfallback := 2 if input.z\n\
             deny contains \"x\" if {{ {statements} }}\n"
        );
        assert_eq!(problems(&rule), "loaded", "{statements}");
    }
}

#[test]
fn a_rule_that_does_not_exist_is_a_problem_at_load() {
    let load = |text: &str| Guardrails::load(&[("a.rego", "package lib.a\n\nimages := {\"x\"}\n"), ("b.rego", text)]);
    let problems = load("package b\nimport data.lib\ndeny contains \"x\" if input.a in lib.a.imags\n").unwrap_err();
    assert!(problems[0].to_string().starts_with("b.rego:3:33: there is no rule `data.lib.a.imags`"), "{problems:?}");
    load("package b\nimport data.lib\ndeny contains \"x\" if input.a in lib.a.images\n").unwrap();
    load("package b\nimport data.lib\ndeny contains \"x\" if count(lib.a) == 1\n").unwrap();
    load("package b\ndeny contains \"x\" if { some lib in [{\"a\": {}}]; lib.a.imags }\n").unwrap();
}

#[test]
fn a_minus_before_anything_but_a_number_is_refused() {
    assert!(problems("package a\ndeny contains \"x\" if input.x == -input.y\n").contains("write `0 - input.y`"));
    assert_eq!(problems("package a\ndeny contains \"x\" if input.x == -1\n"), "loaded");
}

#[test]
fn recursion_is_refused() {
    let text = problems("package a\nf(x) := g(x)\ng(x) := f(x)\ndeny contains \"x\" if f(1) == 1\n");
    assert!(text.contains("a.rego:2") && text.contains("recursive"), "{text}");
    let text = problems("package a\np if q\nq if data.a.p\ndeny contains \"x\" if p\n");
    assert!(text.contains("recursive"), "{text}");
    // A local of the same name is no recursion.
    assert_eq!(
        problems(
            "package a\nimage := \"x\"\ndeny contains msg if { msg := input.a; image == msg }\nmsg contains 1 if deny\n"
        ),
        "loaded"
    );
}

#[test]
fn the_longest_chain_is_taken_and_one_more_refused() {
    let chain = |len: usize| {
        let mut text = "package a\n".to_owned();
        for number in 1..len {
            text += &format!("f{number}(x) := f{}(x)\n", number + 1);
        }
        text + &format!("f{len}(x) := x\n")
    };
    assert_eq!(problems(&chain(CALL_CHAIN_MAX)), "loaded");
    assert!(problems(&chain(CALL_CHAIN_MAX + 1)).contains("more than 64 rules"));
}

#[test]
fn unsafe_variables_are_refused() {
    let text = problems("package a\n\ndeny contains msg if {\n  input.x == y\n}\n");
    assert!(text.contains("a.rego:"), "{text}");
}

#[test]
fn rules_that_fail_on_anything_are_refused() {
    let text = problems("package a\n\ndeny contains \"x\" if {\n  x := 1 / 0\n  x == 1\n}\n");
    assert!(text.contains("a.rego:4") && text.contains("empty document"), "{text}");
}

#[test]
fn sizes_at_the_limit_are_taken_and_one_more_refused() {
    let padded = |len: usize| {
        let start = "package a\n";
        let line = format!("#{}\n", "x".repeat(98));
        let mut text = start.to_owned() + &line.repeat((len - start.len()) / line.len());
        text += &"\n".repeat(len - text.len());
        text
    };
    assert_eq!(problems(&padded(FILE_BYTES_MAX)), "loaded");
    assert!(problems(&padded(FILE_BYTES_MAX + 1)).contains("262145 bytes"));

    let line = |len: usize| format!("package a\n#{}\n", "x".repeat(len - 1));
    assert_eq!(problems(&line(LINE_LEN_MAX as usize)), "loaded");
    assert!(problems(&line(LINE_LEN_MAX as usize + 1)).contains("a.rego:2: a line longer than 1024"));

    let files = |count: usize| (0..count).map(|number| (format!("{number}.rego"), "package a")).collect::<Vec<_>>();
    Guardrails::load(&files(FILES_MAX)).unwrap();
    assert!(Guardrails::load(&files(FILES_MAX + 1)).unwrap_err()[0].reason.contains("more than 1024 Rego files"));
}

#[test]
fn deep_nesting_is_refused_and_not_a_crash() {
    let brackets = format!("package a\nx := {}{}\n", "[".repeat(500), "]".repeat(500));
    assert!(problems(&brackets).contains("a.rego:2"), "{}", problems(&brackets));
    // A chain of operators nests without brackets: the tree is as deep as the chain is long.
    let sum = |terms: usize| format!("package a\nx := {}\n", vec!["1"; terms].join("+\n"));
    assert_eq!(problems(&sum(EXPRESSION_DEPTH_MAX)), "loaded");
    assert!(problems(&sum(EXPRESSION_DEPTH_MAX + 1)).contains("nested deeper than 128"));
    assert!(problems(&sum(9_000)).contains("nested deeper"));
    let wide = format!("package a\nx := {}1\n", "1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+\n".repeat(6_000));
    assert!(problems(&wide).contains("nested deeper"));
    // The parser takes exponential time on these.
    for open in ["[", "{", "{1: ", "[1 + ", "[[", "f(["] {
        let text = problems(&format!("package a\nx := {}\n", open.repeat(60)));
        assert!(text.contains("a.rego:2: brackets are nested"), "{text}");
    }
    let path = format!("package a\nx := input{}\n", ".\na".repeat(300));
    assert!(problems(&path).contains("a.rego:"), "{}", problems(&path));
}

#[test]
fn files_given_twice_and_odd_packages_are_refused() {
    let problems = Guardrails::load(&[("a.rego", "package a\n"), ("a.rego", "package b\n")]).unwrap_err();
    assert_eq!(problems[0].to_string(), "a.rego: given twice");
    assert!(load("package a[\"b c\"]\n").unwrap_err()[0].reason.contains("identifiers"));
}

#[test]
fn tests_must_be_plain_and_of_one_name() {
    let load = |test: &str| {
        let test = format!("package a_test\n{test}");
        Guardrails::load(&[("a.rego", "package a\n"), ("a_test.rego", test.as_str())]).unwrap_err()[0].to_string()
    };
    assert!(load("test_a contains 1\n").contains("must be a plain rule"));
    assert!(
        load("test_a if 1 == 1\ntest_a if 1 == 2\n").contains("a_test.rego:3:1: the test `test_a` is defined twice")
    );
}
