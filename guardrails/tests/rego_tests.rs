//! Running the tests of guardrails, and what they exercise.

use cairn_guardrails::{Guardrails, TestRun};

const POLICY: &str = "package pods

deny_one contains msg if {
	input.one
	msg := \"one\"
}

deny_one contains sprintf(\"%s\", [input.name]) if input.two

deny_three contains {\"msg\": \"three\"} if input.three

warn_four contains \"four\" if input.four

deny_five contains `five` if input.five

deny_six contains {\"msg\": concat(\"\", [\"s\", \"ix\"])} if input.six

deny_seven contains (input.seven) if true

deny_eight contains input.eight[\"msg\"]
";

fn run(tests: &str) -> TestRun {
    let tests = format!("package pods_test\n\nimport data.pods\n\n{tests}");
    Guardrails::load(&[("g/pods.rego", POLICY), ("g/pods_test.rego", tests.as_str())])
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .test()
}

#[test]
fn tests_pass_and_fail_with_their_place() {
    let run = run("test_good if pods.deny_one == {\"one\"} with input as {\"one\": true}\n\n\
                   test_bad if count(pods.deny_one) == 1 with input as {}\n\n\
                   test_false := false\n\n\
                   test_error if to_number(\"x\") == 1\n\n\
                   test_prints if {\n\tprint(\"seen\", 7)\n\tfalse\n}\n");
    let results: Vec<_> = run.results.iter().map(|test| (test.line, test.passed)).collect();
    assert_eq!(results, [(5, true), (7, false), (9, false), (11, false), (13, false)]);
    assert_eq!(run.results[0].name, "pods_test.test_good");
    assert_eq!(run.results[0].message, "");
    assert!(run.results[1].message.contains("no value"), "{run:?}");
    assert!(run.results[2].message.contains("it is false"));
    assert!(run.results[3].message.contains("pods_test.rego:11"), "{}", run.results[3].message);
    assert!(run.results[4].message.contains("seen 7"), "{}", run.results[4].message);
}

#[test]
fn a_rule_is_exercised_when_a_test_makes_it_speak() {
    let run = run("test_a if count(pods.deny_one) == 1 with input as {\"two\": true, \"name\": \"n\"}\n\
                   test_b if count(pods.deny_three) == 0 with input as {}\n\
                   test_c if pods.warn_four with input as {\"four\": true}\n\
                   test_d if count(pods.deny_five) == 1 with input as {\"five\": 1}\n\
                   test_e if count(pods.deny_six) == 1 with input as {\"six\": 1}\n\
                   test_f if count(pods.deny_seven) == 1 with input as {\"seven\": \"x\"}\n\
                   test_g if count(pods.deny_eight) == 1 with input as {\"eight\": {\"msg\": \"x\"}}\n");
    assert!(run.results.iter().all(|test| test.passed), "{run:?}");
    let exercised: Vec<_> =
        run.coverage.iter().map(|rule| (rule.guardrail.as_str(), rule.line, rule.exercised)).collect();
    assert_eq!(
        exercised,
        [
            ("pods.deny_eight", 20, true),
            ("pods.deny_five", 14, true),
            ("pods.deny_one", 3, false),
            ("pods.deny_one", 8, true),
            ("pods.deny_seven", 18, true),
            ("pods.deny_six", 16, true),
            ("pods.deny_three", 10, false),
            ("pods.warn_four", 12, true),
        ]
    );
}

#[test]
fn an_endless_test_fails() {
    let run = run(
        "test_endless if {\n\tsome a in numbers.range(1, 90000)\n\tsome b in numbers.range(1, 90000)\n\ta * b == -1\n}\n",
    );
    assert!(run.results[0].message.contains("took longer"), "{run:?}");
}
