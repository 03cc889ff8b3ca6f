//! What came of a policy's tests as JUnit XML, which every CI system shows.
//!
//! The dialect is the one they agree on: `testsuites`, one `testsuite` per file, `testcase` with `name`, `classname`, `file` and `line`,
//! `failure` with a message. No times: the same policy gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cairn_schemas::config::Coverage;

use crate::testing::{TestKind, TestReport};

/// The suite of what is not covered, if coverage is required.
const COVERAGE: &str = "coverage";

struct Case<'r> {
    file: &'r str,
    line: u32,
    name: String,
    kind: TestKind,
    failure: Option<&'r str>,
}

/// The report as XML 1.0, ending with a line feed. Rules without a test are failed cases of a suite `coverage` where `cairn.yaml` requires
/// one for each.
#[must_use]
pub fn junit(report: &TestReport) -> String {
    let mut suites: BTreeMap<&str, Vec<Case<'_>>> = BTreeMap::new();
    for case in &report.cases {
        suites.entry(&case.file).or_default().push(Case {
            file: &case.file,
            line: case.line,
            name: case.name.clone(),
            kind: case.kind,
            failure: (!case.passed).then_some(case.message.as_str()),
        });
    }
    if report.coverage.mode == Coverage::Require {
        let uncovered = report.coverage.uncovered.iter().map(|rule| Case {
            file: &rule.file,
            line: rule.line,
            name: format!("{} is covered", rule.name),
            kind: rule.kind,
            failure: Some(&rule.missing),
        });
        let uncovered: Vec<Case<'_>> = uncovered.collect();
        if !uncovered.is_empty() {
            suites.insert(COVERAGE, uncovered);
        }
    }
    let count = |cases: &[Case<'_>]| (cases.len(), cases.iter().filter(|case| case.failure.is_some()).count());
    let (tests, failures) =
        suites.values().map(|cases| count(cases)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    line(&mut out, &format!("<testsuites name=\"cairn test\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">"));
    for (name, cases) in &suites {
        let (tests, failures) = count(cases);
        let name = escaped(name);
        line(
            &mut out,
            &format!(
                "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\">"
            ),
        );
        cases.iter().for_each(|case| write_case(&mut out, case));
        line(&mut out, "  </testsuite>");
    }
    line(&mut out, "</testsuites>");
    out
}

fn write_case(out: &mut String, case: &Case<'_>) {
    let class = match case.kind {
        TestKind::Guardrail => "guardrail",
        TestKind::Detection => "detection",
    };
    let (name, file) = (escaped(&case.name), escaped(case.file));
    let head = format!("    <testcase name=\"{name}\" classname=\"{class}\" file=\"{file}\" line=\"{}\"", case.line);
    let Some(message) = case.failure else { return line(out, &format!("{head}/>")) };
    line(out, &format!("{head}>"));
    let message = escaped(message);
    line(
        out,
        &format!("      <failure message=\"{message}\" type=\"{class}\">{file}:{}: {message}</failure>", case.line),
    );
    line(out, "    </testcase>");
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("invariant: a String takes everything");
}

/// A text as an attribute or a content may hold it. What XML 1.0 has no way to write is U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // Unwritten, an attribute's would be read as blanks.
            '\n' | '\r' | '\t' => write!(out, "&#{};", u32::from(c)).expect("invariant: a String takes everything"),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::{Policy, PolicyTree};

    use super::*;

    fn report(cases: &str, coverage: &str) -> TestReport {
        let config = format!("version: 1\nrings: [{{name: all}}]\ntests: {{coverage: {coverage}}}\n");
        let rules = "- rule: A & B\n  desc: d\n  condition: evt.type = execve and proc.name = sh\n  output: o\n  priority: INFO\n";
        let files = [("cairn.yaml", config.as_str()), ("detections/a.yaml", rules), ("detections/tests/a.yaml", cases)];
        let tree: PolicyTree =
            files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        Policy::load(&tree).unwrap().test()
    }

    #[test]
    fn cases_failures_and_what_is_not_covered() {
        let cases = "\
- {name: 'a \"shell\" alerts', events: [exec: /bin/sh], expect: [A & B]}
- {name: \"none\\ndoes\", events: [exec: /bin/ls], expect: [A & B]}
";
        assert_eq!(
            junit(&report(cases, "require")),
            r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="cairn test" tests="3" failures="2" errors="0">
  <testsuite name="coverage" tests="1" failures="1" errors="0" skipped="0">
    <testcase name="A &amp; B is covered" classname="detection" file="detections/a.yaml" line="1">
      <failure message="no passed case shows it silent" type="detection">detections/a.yaml:1: no passed case shows it silent</failure>
    </testcase>
  </testsuite>
  <testsuite name="detections/tests/a.yaml" tests="2" failures="1" errors="0" skipped="0">
    <testcase name="a &quot;shell&quot; alerts" classname="detection" file="detections/tests/a.yaml" line="1"/>
    <testcase name="none&#10;does" classname="detection" file="detections/tests/a.yaml" line="2">
      <failure message="`A &amp; B` did not alert" type="detection">detections/tests/a.yaml:2: `A &amp; B` did not alert</failure>
    </testcase>
  </testsuite>
</testsuites>
"#
        );
        assert!(!junit(&report(cases, "warn")).contains("coverage"));
    }

    #[test]
    fn what_xml_cannot_write() {
        assert_eq!(escaped("a\u{0}\u{1b}\u{ffff}\t'b'"), "a\u{fffd}\u{fffd}\u{fffd}&#9;&apos;b&apos;");
    }
}
