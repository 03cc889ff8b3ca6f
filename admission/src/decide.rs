//! From a verdict to a record and an answer. Pure.

use cairn_guardrails::{EvalError, Finding as Found, Verdict};
use cairn_schemas::data::{AdmissionDecided, Finding};
use cairn_schemas::ids::ReleaseRef;
use cairn_schemas::record::Draft;
use cairn_schemas::token::{TokenKey, token};
use std::time::Duration;

use crate::review::Request;

/// Most denials, and most warnings, in a record.
pub const FINDINGS_KEPT_MAX: usize = 50;
/// Longest message of one finding in a record, bytes.
pub const FINDING_LEN_MAX: usize = 1_000;
/// Longest guardrail name in a record, bytes.
const GUARDRAIL_LEN_MAX: usize = 256;
/// Longest error in a record, bytes.
const ERROR_LEN_MAX: usize = 1_000;
/// Most bytes of all findings in one record, as JSON. What is beyond is counted in `omitted`; the rest of a record is far below
/// what is left of its 65,535 bytes.
pub const FINDINGS_LEN_MAX: usize = 48 * 1024;

/// What was decided, before it is recorded.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) data: AdmissionDecided,
    /// Denials as the answer says them, one line each.
    pub(crate) reasons: Vec<String>,
    /// Warnings as the answer says them.
    pub(crate) warnings: Vec<String>,
}

/// Decides. An evaluation that gave no verdict denies: nobody is admitted because a guardrail broke.
pub(crate) fn decide(
    request: &Request,
    verdict: Result<Verdict, EvalError>,
    took: Duration,
    key: &TokenKey,
) -> Decision {
    let (verdict, error) = match verdict {
        Ok(verdict) => (verdict, None),
        Err(error) => (Verdict::default(), Some(cut(&error.to_string(), ERROR_LEN_MAX))),
    };
    let allowed = error.is_none() && verdict.denials.is_empty();
    let said = |found: &Found| format!("[{}] {}", found.guardrail, found.message);
    let mut reasons: Vec<String> = verdict.denials.iter().map(said).collect();
    reasons.extend(error.iter().map(|error| format!("the guardrails could not be evaluated: {error}")));
    let warnings = verdict.warnings.iter().map(said).collect();

    let mut room = FINDINGS_LEN_MAX;
    let (denials, denials_omitted) = keep(&verdict.denials, &mut room);
    let (kept_warnings, warnings_omitted) = keep(&verdict.warnings, &mut room);
    let data = AdmissionDecided {
        uid: request.uid.clone(),
        operation: request.operation.as_str().to_owned(),
        kind: request.kind.clone(),
        resource: request.resource.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        user: token(key, "user", &request.username).into(),
        allowed,
        dry_run: request.dry_run,
        object: request.object,
        denials,
        warnings: kept_warnings,
        omitted: verdict.omitted + denials_omitted + warnings_omitted,
        error,
        evaluated_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(cairn_schemas::ids::INTEGER_MAX),
    };
    Decision { data, reasons, warnings }
}

impl Decision {
    /// The record to be.
    pub(crate) fn draft(&self, release: ReleaseRef) -> Draft {
        let name = self.data.name.as_deref().unwrap_or("(generated)");
        let subject = match &self.data.namespace {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        Draft::new(&self.data).release(release).subject(cut(&subject, cairn_schemas::record::ATTRIBUTE_LEN_MAX))
    }
}

/// The first findings that fit, and how many do not.
fn keep(found: &[Found], room: &mut usize) -> (Vec<Finding>, u64) {
    let mut kept = Vec::new();
    for one in found.iter().take(FINDINGS_KEPT_MAX) {
        let finding =
            Finding { guardrail: cut(&one.guardrail, GUARDRAIL_LEN_MAX), message: cut(&one.message, FINDING_LEN_MAX) };
        // Escaping can make six bytes of one: the length that counts is the JSON's.
        let len = serde_json::to_vec(&finding).map_or(usize::MAX, |json| json.len() + 1);
        let Some(left) = room.checked_sub(len) else { break };
        *room = left;
        kept.push(finding);
    }
    let omitted = (found.len() - kept.len()) as u64;
    (kept, omitted)
}

/// At most `len_max` bytes of a text, its end marked where it was cut.
pub(crate) fn cut(text: &str, len_max: usize) -> String {
    if text.len() <= len_max {
        return text.to_owned();
    }
    let mut end = len_max - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;
