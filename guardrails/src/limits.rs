//! The limits of guardrails: what a policy author can cost the server that runs their code.
//!
//! Rego is code. A guardrail that is wrong may deny too much, but it must not hang an admission server, exhaust its memory, or
//! overflow its stack. Each limit below is refused with an error that names it; none is ever silently applied to a decision.

use std::time::Duration;

/// Largest `.rego` file, in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// Most lines of a `.rego` file.
pub const FILE_LINES_MAX: usize = 20_000;

/// Longest line of a `.rego` file, in characters.
pub const LINE_LEN_MAX: u32 = 1024;

/// Most `.rego` files of a policy.
pub const FILES_MAX: usize = 1024;

/// Deepest nesting of expressions and bodies in one rule. Long chains of operators (`a + b + c …`) nest too.
pub const EXPRESSION_DEPTH_MAX: usize = 128;

/// Longest chain of rules and functions that call each other. Recursion is refused altogether, so with
/// [`EXPRESSION_DEPTH_MAX`] this bounds the stack an evaluation can use.
pub const CALL_CHAIN_MAX: usize = 64;

/// Most elements a single call of a builtin may make (`numbers.range`, `array.concat`, …).
pub const BUILTIN_ELEMENTS_MAX: u64 = 100_000;

/// Most bytes a single call of a builtin may take in or make (`concat`, `replace`, `sprintf`, …).
pub const BUILTIN_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Most bits that `bits.lsh` may shift by.
pub const SHIFT_BITS_MAX: u64 = 4096;

/// Largest width or precision in a `sprintf` format.
pub const FORMAT_WIDTH_MAX: u64 = 1024;

/// Largest input document, in bytes of JSON: an admission body's limit.
pub const INPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Deepest nesting of an input document: `serde_json`'s own.
pub const INPUT_DEPTH_MAX: usize = 128;

/// Most findings kept of one evaluation; the rest are counted. The decision does not depend on it.
pub const FINDINGS_MAX: usize = 100;

/// Longest message of a finding, in bytes; the rest is cut off and marked by an ellipsis.
pub const MESSAGE_LEN_MAX: usize = 2048;

/// Stack of the thread an evaluation runs on, in bytes. Reserved, not committed.
pub(crate) const EVALUATION_STACK_BYTES: usize = 64 * 1024 * 1024;

/// Stack of the thread that parses. A file of [`FILE_BYTES_MAX`] that is one long `1+1+…` becomes a tree that deep, and the engine
/// frees it recursively; it is refused ([`EXPRESSION_DEPTH_MAX`]), but freed first. Reserved, not committed.
pub(crate) const PARSE_STACK_BYTES: usize = 512 * 1024 * 1024;

/// How long after its time limit an evaluation is abandoned. Only a builtin that does not look at the clock gets here.
pub(crate) const ABANDON_AFTER: Duration = Duration::from_millis(500);

/// How long loading may take. What is known to be slow is refused by a count, the same on every machine; this is for the rest.
pub(crate) const PARSE_PATIENCE: Duration = Duration::from_secs(60);

pub use crate::nesting::PARSE_STEPS_MAX;

/// What one evaluation may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time of all rules together.
    pub time: Duration,
}

impl Default for Limits {
    /// One second: well under a webhook's time-out (10 s), and a thousand times what a sensible guardrail needs.
    fn default() -> Self {
        Self { time: Duration::from_secs(1) }
    }
}
