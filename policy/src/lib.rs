//! A policy: what a policy repo holds, loaded and tested. The one code path of `cairn check` and `cairn test`, of the build that makes
//! a release, and of a node's dry load: what one of them accepts, all accept.
//!
//! - [`Policy::load`] takes files ([`PolicyTree`]) and gives a policy, or every problem with file, line, column and remedy.
//! - [`Policy::test`] runs its Rego tests and replay cases and says what they cover.
//! - [`check`] runs guardrails on documents, as in CI; [`template`] is what a team copies to start.
//! - [`dir`] is the one place that touches a disk.
//!
//! What this crate is not: it knows no Git, no release, no record, no network, no clock.
//!
//! What it trusts: nothing. A policy repo is text that someone may have been able to push; sizes, counts, YAML expansion, Rego
//! evaluation and regular expressions are bounded ([`limits`], and the limits of `cairn-guardrails` and `cairn-rules`).
#![forbid(unsafe_code)]

pub mod check;
pub mod dir;
mod junit;
pub mod limits;
mod load;
mod problem;
pub mod template;
mod testing;
mod tree;
mod yaml;

pub use cairn_schemas::config::ResponseFile as Response;
pub use junit::junit;
pub use load::Policy;
pub use problem::{Problem, Problems};
pub use testing::{CoverageReport, TestCase, TestKind, TestReport, Uncovered};
pub use tree::{CONFIG_PATH, PolicyTree, is_policy_path};
