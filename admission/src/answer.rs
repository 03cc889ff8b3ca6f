//! The answer's form: an AdmissionReview with a response.

use std::collections::BTreeMap;

use cairn_node::Recorded;
use cairn_schemas::ids::ReleaseRef;
use serde::Serialize;

use crate::decide::{Decision, cut};

/// Longest message of a denial, bytes: a terminal shows it whole. The record holds more.
pub(crate) const MESSAGE_LEN_MAX: usize = 4_096;
/// Longest warning, bytes: clients may cut longer ones.
pub(crate) const WARNING_LEN_MAX: usize = 120;
/// Most bytes of all warnings: API servers drop what is beyond 4,096.
pub(crate) const WARNINGS_LEN_MAX: usize = 3_840;

/// What goes back to the API server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    audit_annotations: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

impl Answer {
    /// The answer to a decision. `recorded` is its record's place; `None` only where the configuration lets an unrecordable
    /// decision out, and then the answer says so.
    pub(crate) fn new(decision: Decision, release: ReleaseRef, recorded: Option<Recorded>) -> Answer {
        let Decision { data, reasons, warnings } = decision;
        let status = (!data.allowed).then(|| Status {
            code: 403,
            reason: "Forbidden",
            message: cut(&reasons.join("\n"), MESSAGE_LEN_MAX),
        });
        let mut audit_annotations = BTreeMap::from([("release", release.to_string())]);
        match recorded {
            Some(Recorded { stream, sequence, leaf }) => {
                audit_annotations.insert("stream", stream.to_string());
                audit_annotations.insert("sequence", sequence.padded());
                audit_annotations.insert("leaf", leaf.to_string());
            }
            None => {
                audit_annotations.insert("unrecorded", "true".to_owned());
            }
        }
        Answer {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response: Response {
                uid: data.uid,
                allowed: data.allowed,
                status,
                warnings: shown(&warnings),
                audit_annotations,
            },
        }
    }
}

/// The warnings that a client will show: short, on one line each, as many as an API server passes on.
fn shown(warnings: &[String]) -> Vec<String> {
    let mut room = WARNINGS_LEN_MAX;
    let mut shown = Vec::new();
    for warning in warnings {
        // Warnings travel in HTTP headers: no control character may be in one.
        let line: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = cut(&line, WARNING_LEN_MAX);
        let Some(left) = room.checked_sub(line.len()) else { break };
        room = left;
        shown.push(line);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_short_single_lines_and_not_too_many() {
        let long = "é".repeat(100);
        let warnings: Vec<String> = std::iter::repeat_n(format!("{long}\r\nInjected: header"), 100).collect();
        let shown = shown(&warnings);
        assert!(shown.iter().all(|line| line.len() <= WARNING_LEN_MAX && line.ends_with('…')));
        assert!(shown.iter().all(|line| !line.contains(['\r', '\n'])));
        assert_eq!(shown.len(), WARNINGS_LEN_MAX / shown[0].len());
        assert_eq!(super::shown(&["x".repeat(120)]), ["x".repeat(120)]);
        assert!(super::shown(&["x".repeat(121)])[0].len() <= 120);
    }
}
