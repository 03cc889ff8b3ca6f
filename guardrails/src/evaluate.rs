//! Evaluation: every guardrail on one input, within limits, with an answer that is never "yes" by accident.

use std::time::{Duration, Instant};

use std::num::NonZeroU32;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

use crate::isolate::{self, Lost};
use crate::limits::{ABANDON_AFTER, FINDINGS_MAX, INPUT_BYTES_MAX, INPUT_DEPTH_MAX, Limits, MESSAGE_LEN_MAX};
use crate::load::{Guardrail, Guardrails};
use crate::problem::{Problem, anyhow_text};
use crate::rule_name::Effect;

/// How many steps the engine takes between looks at the clock.
const STEPS_BETWEEN_CLOCK_LOOKS: NonZeroU32 = NonZeroU32::new(256).expect("256 is not zero");

/// What guardrails found in one input.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Reasons to deny, ordered by guardrail and message. Empty: nothing denies.
    pub denials: Vec<Finding>,
    /// Reasons to warn, ordered likewise.
    pub warnings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`] of either kind, left out above.
    pub omitted: u64,
}

impl Verdict {
    /// Whether nothing denies.
    pub fn allowed(&self) -> bool {
        self.denials.is_empty()
    }
}

/// One finding of one guardrail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// Which guardrail, such as `kubernetes.pods.deny_privileged`.
    pub guardrail: String,
    /// What it says, or what went wrong.
    pub message: String,
    /// Whether the guardrail failed rather than answered. It then denies (or warns, if all it does is warn).
    pub by_error: bool,
    /// File of the guardrail.
    pub file: String,
    /// Line of the guardrail, or of what went wrong in it.
    pub line: u32,
    /// Column of what went wrong; 0 otherwise.
    pub column: u32,
}

/// Why an input could not be judged at all. The caller must treat it as a denial by error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The rules together took too long.
    #[error("guardrail `{guardrail}` was stopped: the guardrails took longer than {limit:?}")]
    TimeLimit {
        /// The guardrail that was being evaluated.
        guardrail: String,
        /// The limit.
        limit: Duration,
    },
    /// The engine panicked.
    #[error("the Rego engine failed: {message}")]
    Panicked {
        /// Its last words.
        message: String,
    },
    /// The input is too large.
    #[error("the input is larger than {INPUT_BYTES_MAX} bytes")]
    InputTooLarge,
    /// The input is nested too deeply.
    #[error("the input is nested deeper than {INPUT_DEPTH_MAX}")]
    InputTooDeep,
    /// The system gave us no thread to evaluate on.
    #[error("no thread to evaluate on: {reason}")]
    NoThread {
        /// What the system said.
        reason: String,
    },
}

impl EvalError {
    /// The guardrail to blame, if one is.
    pub fn guardrail(&self) -> Option<&str> {
        match self {
            Self::TimeLimit { guardrail, .. } if !guardrail.is_empty() => Some(guardrail),
            _ => None,
        }
    }
}

impl Guardrails {
    /// Evaluates every guardrail on `input` as it is. See [`crate::input`] for what rules expect it to be, and
    /// [`Self::evaluate_admission`] for admission requests.
    ///
    /// # Errors
    /// [`EvalError`] when there is no verdict: out of time, a panic of the engine, an input beyond the limits. One guardrail that
    /// fails does not hide what the others say: it is a [`Finding::by_error`] in the verdict.
    pub fn evaluate(&self, input: &serde_json::Value, limits: &Limits) -> Result<Verdict, EvalError> {
        check_input(input)?;
        let input = Value::from(input.clone());
        let guardrails = self.inner.clone();
        let limits = *limits;
        let patience = limits.time.saturating_add(ABANDON_AFTER);
        let evaluated = isolate::evaluate(patience, move || {
            evaluate(guardrails.engine.clone(), &guardrails.guardrails, input, limits)
        });
        match evaluated {
            Ok(verdict) => verdict,
            Err(Lost::Panicked(message)) => Err(EvalError::Panicked { message }),
            Err(Lost::Abandoned) => Err(EvalError::TimeLimit { guardrail: String::new(), limit: limits.time }),
            Err(Lost::NoThread(reason)) => Err(EvalError::NoThread { reason }),
        }
    }

    /// Evaluates every guardrail on an admission request: the `request` of an `AdmissionReview`.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_admission(&self, request: &serde_json::Value, limits: &Limits) -> Result<Verdict, EvalError> {
        self.evaluate(&crate::input::admission(request), limits)
    }
}

fn evaluate(mut engine: Engine, guardrails: &[Guardrail], input: Value, limits: Limits) -> Result<Verdict, EvalError> {
    let started = Instant::now();
    engine.set_input(input);
    let mut verdict = Verdict::default();
    for guardrail in guardrails {
        // The engine's clock starts anew with each rule; ours does not.
        let left = limits.time.saturating_sub(started.elapsed());
        let out_of_time = || EvalError::TimeLimit { guardrail: guardrail.id.clone(), limit: limits.time };
        if left.is_zero() {
            return Err(out_of_time());
        }
        set_time_limit(&mut engine, left);
        let findings = match engine.eval_rule(guardrail.query()) {
            Ok(value) => findings(guardrail, &value),
            Err(error) if is_time_limit(&error) => return Err(out_of_time()),
            Err(error) => vec![failed(guardrail, &anyhow_text::Text::from(&error))],
        };
        match guardrail.effect {
            Effect::Deny => verdict.denials.extend(findings),
            Effect::Warn => verdict.warnings.extend(findings),
        }
    }
    for found in [&mut verdict.denials, &mut verdict.warnings] {
        found.sort();
        verdict.omitted += found.len().saturating_sub(FINDINGS_MAX) as u64;
        found.truncate(FINDINGS_MAX);
    }
    Ok(verdict)
}

/// The findings in a guardrail's value: a set of strings, or of objects with a string `msg`.
fn findings(guardrail: &Guardrail, value: &Value) -> Vec<Finding> {
    let items = match value {
        Value::Undefined => return Vec::new(),
        Value::Set(items) => items,
        other => return vec![malformed(guardrail, other)],
    };
    items
        .iter()
        .map(|item| match item {
            Value::String(message) => finding(guardrail, message),
            Value::Object(_) => match &item["msg"] {
                Value::String(message) => finding(guardrail, message),
                _ => malformed(guardrail, item),
            },
            other => malformed(guardrail, other),
        })
        .collect()
}

fn finding(guardrail: &Guardrail, message: &str) -> Finding {
    Finding {
        guardrail: guardrail.id.clone(),
        message: cut(message),
        by_error: false,
        file: guardrail.file().to_owned(),
        line: guardrail.line(),
        column: 0,
    }
}

fn malformed(guardrail: &Guardrail, value: &Value) -> Finding {
    let kind = match value {
        Value::Object(_) => "an object without a string `msg`",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
        Value::Null => "null",
        _ => "a collection",
    };
    let message = format!("`{}` must contain strings or objects with a string `msg`, not {kind}", guardrail.id);
    Finding { by_error: true, ..finding(guardrail, &message) }
}

fn failed(guardrail: &Guardrail, error: &anyhow_text::Text) -> Finding {
    let problem = Problem::from_engine(guardrail.file(), error);
    Finding {
        by_error: true,
        file: problem.file,
        line: if problem.line == 0 { guardrail.line() } else { problem.line },
        column: problem.column,
        ..finding(guardrail, &format!("the guardrail failed: {}", problem.reason))
    }
}

fn cut(message: &str) -> String {
    if message.len() <= MESSAGE_LEN_MAX {
        return message.to_owned();
    }
    let mut end = MESSAGE_LEN_MAX;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

pub(crate) fn set_time_limit(engine: &mut Engine, limit: Duration) {
    engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: STEPS_BETWEEN_CLOCK_LOOKS });
}

/// Whether an engine error is the clock's. Inside functions the engine passes errors on as text.
pub(crate) fn is_time_limit(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<LimitError>(), Some(LimitError::TimeLimitExceeded { .. }))
        || error.to_string().contains("execution exceeded time limit")
}

/// Has the engine analyse its rules, which it does at the first evaluation.
pub(crate) fn analyse(engine: &mut Engine) -> Option<Problem> {
    set_time_limit(engine, Limits::default().time);
    let error = engine.eval_query("true".to_owned(), false).err()?;
    Some(Problem::from_engine("guardrails", &anyhow_text::Text::from(&error)))
}

/// Refuses an input that is too large or too deep, without recursing into it and without serialising it.
fn check_input(input: &serde_json::Value) -> Result<(), EvalError> {
    let mut bytes = 0_usize;
    let mut pending = vec![(input, 1_usize)];
    while let Some((value, depth)) = pending.pop() {
        if depth > INPUT_DEPTH_MAX {
            return Err(EvalError::InputTooDeep);
        }
        // At least what it takes as JSON, so that what fits as JSON is never refused for its size.
        match value {
            serde_json::Value::String(text) => bytes += text.len() + 2,
            serde_json::Value::Array(items) => {
                bytes += 1 + items.len();
                pending.extend(items.iter().map(|item| (item, depth + 1)));
            }
            serde_json::Value::Object(fields) => {
                bytes += 1 + fields.keys().map(|key| key.len() + 4).sum::<usize>();
                pending.extend(fields.values().map(|item| (item, depth + 1)));
            }
            _ => bytes += 1,
        }
        if bytes > INPUT_BYTES_MAX {
            return Err(EvalError::InputTooLarge);
        }
    }
    Ok(())
}
