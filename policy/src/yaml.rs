//! YAML and JSON files into values: strict, with places, and with a budget, so that a small file cannot become a large value.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Options, Spanned};

use crate::limits::{CHECKED_DOCUMENTS_MAX, CONFIG_NODES_MAX, YAML_ALIASED_NODES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX};
use crate::problem::Problem;

/// Reads a file that holds one YAML document.
pub(crate) fn one<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, Problem> {
    let text = text(file, bytes)?;
    serde_saphyr::from_str_with_options(text, options(CONFIG_NODES_MAX)).map_err(|error| problem(file, &error))
}

/// Reads every document of a YAML file (or of a JSON file, by its name) as untyped values. Empty documents are left out.
pub(crate) fn documents(file: &str, text: &str) -> Result<Vec<serde_json::Value>, Problem> {
    if file.ends_with(".json") {
        let value = serde_json::from_str(text).map_err(|error| {
            let place = (number(error.line()), number(error.column()));
            Problem::at(file, place, format!("not JSON: {error}"))
        })?;
        return Ok(vec![value]);
    }
    serde_saphyr::from_multiple_with_options(text, options(YAML_NODES_MAX)).map_err(|error| problem(file, &error))
}

/// A file's bytes as text.
pub(crate) fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::at(file, (number(line), 0), "not UTF-8 text")
    })
}

/// Where a spanned value stands.
pub(crate) fn place<T>(value: &Spanned<T>) -> (u32, u32) {
    location(value.referenced)
}

fn location(location: serde_saphyr::Location) -> (u32, u32) {
    (number(location.line() as usize), number(location.column() as usize))
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn problem(file: &str, error: &Error) -> Problem {
    let place = error.location().map_or((0, 0), location);
    let text = error.without_snippet().to_string();
    // The message repeats the place, which we give apart.
    let reason = text.split(" at line ").next().unwrap_or(&text).trim();
    Problem::at(file, place, first_line(reason))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// As Kubernetes reads YAML: YAML 1.1 booleans (`yes`, `on`) and octal numbers (`0644`), so that a guardrail sees in CI what the API
/// server will be sent. Duplicate keys are an error: readers disagree on which one counts.
fn options(nodes_max: usize) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: YAML_DEPTH_MAX,
            max_nodes: nodes_max,
            max_events: nodes_max * 3,
            max_documents: CHECKED_DOCUMENTS_MAX,
            flow_nesting_limit: YAML_DEPTH_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: YAML_ALIASED_NODES_MAX,
            max_replay_stack_depth: 32,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}

/// Values that occur more than once, each time after the first.
pub(crate) fn repeated<'a, T: Ord + 'a>(values: impl IntoIterator<Item = &'a Spanned<T>>) -> Vec<&'a Spanned<T>> {
    let mut seen = BTreeSet::new();
    values.into_iter().filter(|value| !seen.insert(&value.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_as_kubernetes_reads_them() {
        let text = "---\na: yes\nb: 0644\nc: \"yes\"\nd: 1.5\n---\n- 1\n- null\n";
        let read = documents("x.yaml", text).unwrap();
        assert_eq!(
            read,
            [serde_json::json!({"a": true, "b": 420, "c": "yes", "d": 1.5}), serde_json::json!([1, null])]
        );
        assert_eq!(documents("x.json", "{\"a\": 1}").unwrap(), [serde_json::json!({"a": 1})]);
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(documents("x.yaml", "a: 1\nb: [1\n").unwrap_err().line, Some(2).or(Some(3)));
        assert_eq!(documents("x.yaml", "a: 1\na: 2\n").unwrap_err().line, Some(2));
        assert_eq!(documents("x.json", "{\n\"a\" 1}").unwrap_err().line, Some(2));
        assert_eq!(text("x", b"a\n\xff").unwrap_err().line, Some(2));
    }

    #[test]
    fn a_billion_laughs_are_refused() {
        let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
        }
        assert!(documents("x.yaml", &text).is_err());
    }

    #[test]
    fn aliases_at_the_limit_are_read_and_more_refused() {
        // Ten aliases of a list: its items, its beginning and its end count.
        let aliased = |nodes: usize| {
            let list = vec!["x"; nodes / 10 - 2].join(", ");
            documents("x.yaml", &format!("a: &a [{list}]\nb: [{}]\n", ["*a"; 10].join(", ")))
        };
        assert!(aliased(YAML_ALIASED_NODES_MAX).is_ok());
        assert!(aliased(YAML_ALIASED_NODES_MAX + 10).is_err());
    }

    #[test]
    fn nesting_at_the_limit_is_read_and_one_more_refused() {
        let nested = |depth: usize| documents("x.yaml", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert!(nested(YAML_DEPTH_MAX).is_ok());
        assert!(nested(YAML_DEPTH_MAX + 1).is_err());
        assert!(nested(100_000).is_err());
        let block: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(documents("x.yaml", &block).is_err());
        assert!(documents("x.json", &"[".repeat(100_000)).is_err());
    }
}
