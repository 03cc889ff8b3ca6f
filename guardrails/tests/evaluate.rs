//! What evaluation answers, and that it always answers.

use std::time::Duration;

use cairn_guardrails::limits::{FINDINGS_MAX, INPUT_BYTES_MAX, INPUT_DEPTH_MAX, MESSAGE_LEN_MAX};
use cairn_guardrails::{EvalError, Guardrails, Limits, Verdict};
use serde_json::{Value, json};

fn evaluate(text: &str, input: Value) -> Result<Verdict, EvalError> {
    let guardrails = Guardrails::load(&[("a.rego", text)]).unwrap_or_else(|problems| panic!("{problems:?}"));
    guardrails.evaluate(&input, &Limits::default())
}

#[test]
fn denials_and_warnings_name_their_guardrail() {
    let text = "package pods\n\ndeny_a contains {\"msg\": sprintf(\"%s is bad\", [input.name]), \"extra\": 1} if input.bad\n\
                deny_a contains \"always\" if input.name\nwarn_b contains \"look\" if input.bad\n";
    let verdict = evaluate(text, json!({ "name": "web", "bad": true })).unwrap();
    let messages: Vec<_> = verdict.denials.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages, ["always", "web is bad"]);
    assert_eq!(verdict.denials[0].guardrail, "pods.deny_a");
    assert_eq!((verdict.denials[0].file.as_str(), verdict.denials[0].line), ("a.rego", 3));
    assert_eq!(verdict.warnings[0].message, "look");
    assert!(!verdict.allowed() && !verdict.denials[0].by_error);
    assert!(evaluate(text, json!({})).unwrap().allowed());
}

#[test]
fn a_guardrail_that_fails_denies_and_says_so() {
    let text = "package a\n\ndeny_first contains \"found\" if input.x\ndeny_second contains \"never\" if {\n  \
                to_number(input.x) > 3\n}\nwarn_third contains \"w\" if to_number(input.x) > 3\n";
    let verdict = evaluate(text, json!({ "x": "many" })).unwrap();
    assert_eq!(verdict.denials.len(), 2);
    assert!(!verdict.denials[0].by_error);
    let failed = &verdict.denials[1];
    assert!(failed.by_error && failed.message.starts_with("the guardrail failed: "), "{failed:?}");
    assert_eq!((failed.guardrail.as_str(), failed.line), ("a.deny_second", 5));
    assert!(verdict.warnings[0].by_error);
}

#[test]
fn a_message_that_is_none_is_a_denial_by_error() {
    for (item, kind) in [("1", "a number"), ("{\"text\": \"x\"}", "without a string `msg`"), ("null", "null")] {
        let verdict = evaluate(&format!("package a\ndeny contains {item} if input.x\n"), json!({ "x": true })).unwrap();
        assert!(verdict.denials[0].by_error && verdict.denials[0].message.contains(kind), "{verdict:?}");
    }
}

#[test]
fn an_endless_evaluation_is_stopped() {
    let text = "package a\n\ndeny contains \"x\" if {\n  input.go\n  some a in numbers.range(1, 90000)\n  \
                some b in numbers.range(1, 90000)\n  a * b == -1\n}\n";
    let guardrails = Guardrails::load(&[("a.rego", text)]).unwrap();
    let limits = Limits { time: Duration::from_millis(50) };
    let error = guardrails.evaluate(&json!({ "go": true }), &limits).unwrap_err();
    assert_eq!(error, EvalError::TimeLimit { guardrail: "a.deny".into(), limit: limits.time });
    assert!(guardrails.evaluate(&json!({}), &Limits::default()).unwrap().allowed());
}

#[test]
fn an_endless_evaluation_inside_a_function_or_a_negation_is_stopped() {
    for body in ["f(input.go) == 1", "x := input.go; not f(x)", "every x in [1] { f(input.go) }"] {
        let text = format!(
            "package a\n\nf(x) := 1 if {{\n  some a in numbers.range(1, 90000)\n  some b in numbers.range(1, 90000)\n  \
             a * b == 0 - x\n}}\ndeny contains \"x\" if {{ {body} }}\n"
        );
        let guardrails = Guardrails::load(&[("a.rego", text)]).unwrap_or_else(|problems| panic!("{problems:?}"));
        let limits = Limits { time: Duration::from_millis(50) };
        let answer = guardrails.evaluate(&json!({ "go": 1 }), &limits);
        assert!(matches!(answer, Err(EvalError::TimeLimit { .. })), "{body}: {answer:?}");
    }
}

#[test]
fn a_builtin_that_would_exhaust_memory_denies_by_error() {
    let text = "package a\ndeny contains \"x\" if count(numbers.range(1, input.n)) == 0\n";
    let verdict = evaluate(text, json!({ "n": 4_000_000_000_u64 })).unwrap();
    assert!(verdict.denials[0].by_error && verdict.denials[0].message.contains("elements"), "{verdict:?}");
}

#[test]
fn an_engine_panic_is_not_ours() {
    // The engine's own `strings.count` panics on an empty needle.
    let verdict =
        evaluate("package a\ndeny contains \"x\" if strings.count(input.a, \"\") == 4\n", json!({ "a": "abc" }));
    assert_eq!(verdict.unwrap().denials.len(), 1);
}

#[test]
fn inputs_at_the_limits_are_judged_and_beyond_refused() {
    let text = "package a\ndeny contains \"x\" if input.x\n";
    let sized = |len: usize| json!({ "a": "x".repeat(len) });
    assert!(evaluate(text, sized(INPUT_BYTES_MAX - 8)).unwrap().allowed());
    assert_eq!(evaluate(text, sized(INPUT_BYTES_MAX - 7)), Err(EvalError::InputTooLarge));
    let nested = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({ "a": inner }));
    assert!(evaluate(text, nested(INPUT_DEPTH_MAX)).unwrap().allowed());
    assert_eq!(evaluate(text, nested(INPUT_DEPTH_MAX + 1)), Err(EvalError::InputTooDeep));
}

#[test]
fn findings_and_messages_are_bounded_and_counted() {
    let text = "package a\ndeny contains msg if {\n  some n in input.n\n  msg := sprintf(\"%d\", [n])\n}\n\
                warn contains input.long\n";
    let many = |count: usize| evaluate(text, json!({ "n": (0..count).collect::<Vec<_>>() })).unwrap();
    assert_eq!((many(FINDINGS_MAX).denials.len(), many(FINDINGS_MAX).omitted), (FINDINGS_MAX, 0));
    assert_eq!((many(FINDINGS_MAX + 1).denials.len(), many(FINDINGS_MAX + 1).omitted), (FINDINGS_MAX, 1));
    let long = |len: usize| evaluate(text, json!({ "long": "x".repeat(len) })).unwrap().warnings[0].message.clone();
    assert_eq!(long(MESSAGE_LEN_MAX).len(), MESSAGE_LEN_MAX);
    assert!(long(MESSAGE_LEN_MAX + 1).ends_with("x…"));
}

#[test]
fn many_threads_share_one_set_of_guardrails() {
    let guardrails =
        Guardrails::load(&[("a.rego", "package a\ndeny contains sprintf(\"%d\", [input.n]) if input.n\n")]).unwrap();
    std::thread::scope(|scope| {
        for number in 1..9 {
            let guardrails = guardrails.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    let verdict = guardrails.evaluate(&json!({ "n": number }), &Limits::default()).unwrap();
                    assert_eq!(verdict.denials[0].message, number.to_string());
                }
            });
        }
    });
}
