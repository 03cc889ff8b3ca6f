//! Records in one line, for pages and steps.

use cairn_schemas::ids::CommitId;
use cairn_schemas::record::Record;
use cairn_schemas::types::RecordType;

/// The first characters of a commit id.
pub(crate) fn short(commit: &CommitId) -> &str {
    commit.as_str().get(..10).unwrap_or(commit.as_str())
}

/// A number of things.
pub(crate) fn count(number: u64, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// A problem as `file:line: reason`; only the reason where no file is to blame.
pub(crate) fn problem_line(problem: &cairn_schemas::data::Problem) -> String {
    match problem.line {
        _ if problem.file.is_empty() => problem.reason.clone(),
        0 => format!("{}: {}", problem.file, problem.reason),
        line => format!("{}:{line}: {}", problem.file, problem.reason),
    }
}

/// One line for a type that needs no folding: the payload's telling fields, as they are.
pub(super) fn summary_of(record: &Record) -> String {
    let text = |name: &str| record.data.get(name).and_then(|value| value.as_str());
    let first_denial = record.data.pointer("/denials/0/message").and_then(|value| value.as_str());
    match record.kind {
        RecordType::AdmissionDecided => {
            let allowed = record.data.get("allowed").and_then(serde_json::Value::as_bool) == Some(true);
            let object = text("name").unwrap_or("(generated)");
            let kind = text("kind").unwrap_or_default();
            let answer = if allowed { "allowed" } else { "denied" };
            let why = first_denial.map(|why| format!(": {why}")).unwrap_or_default();
            format!("{answer} {kind} {object}{why}")
        }
        RecordType::DetectionRaised => {
            let executable = record.data.pointer("/process/executable").and_then(|value| value.as_str());
            format!("{}: {}", text("rule").unwrap_or_default(), executable.unwrap_or_default())
        }
        RecordType::ContainmentRequested | RecordType::ContainmentRefused => {
            let why = text("reason").map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} ({}){why}", text("action").unwrap_or_default(), text("response").unwrap_or_default())
        }
        RecordType::ContainmentFinished => text("outcome").unwrap_or_default().to_owned(),
        RecordType::SensorLoss => {
            let lost = record.data.get("lost").and_then(serde_json::Value::as_u64).unwrap_or_default();
            format!("{lost} {} lost: {}", text("family").unwrap_or_default(), text("cause").unwrap_or_default())
        }
        RecordType::StreamHead => {
            format!("signed up to {}", text("sequence").unwrap_or_default().trim_start_matches('0'))
        }
        RecordType::StreamGap | RecordType::StreamForked | RecordType::StreamRejected => {
            let reason = text("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{}{reason}", text("stream").unwrap_or_default())
        }
        RecordType::LedgerOpened => text("name").unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}
