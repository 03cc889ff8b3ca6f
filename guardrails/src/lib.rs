//! Guardrails: what may exist, written in Rego, checked in CI, at admission and in audits by this one engine.
//!
//! A *guardrail* is a rule named like Conftest's, in any package of any `.rego` file that is not a test:
//! `^(deny|violation|warn)(_[a-zA-Z0-9]+)*$`, a set of strings or of objects with a `msg`. `deny` and `violation` deny, `warn` warns.
//! What a guardrail sees as `input` is described in [`input`]: the Kubernetes object, with the admission request as `input.review`.
//! Rules whose name begins with `test_`, in files named `*_test.rego`, are its tests.
//!
//! What this crate is not: it reads no file, opens no socket, and knows no exceptions, releases or records. It is given text.
//!
//! What it trusts: nothing of what it is given. Rego files come from a policy repo and inputs from anyone who can reach the API
//! server. Files and evaluations have limits ([`limits`]), evaluations run on a thread of their own, a panic of the engine is caught,
//! and whatever goes wrong while a guardrail is evaluated becomes a denial that says so ([`Finding::by_error`]): an error is never
//! an answer of "yes".
//!
//! ```
//! use cairn_guardrails::{Guardrails, Limits, input};
//!
//! let guardrails = Guardrails::load(&[(
//!     "guardrails/pods.rego",
//!     "package pods\n\ndeny_host_network contains \"the host network is not for pods\" if input.spec.hostNetwork\n",
//! )])
//! .expect("it is a valid file");
//! let pod = serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "spec": { "hostNetwork": true } });
//! let verdict = guardrails.evaluate(&input::documents(pod)[0], &Limits::default()).expect("within its limits");
//! assert_eq!(verdict.denials[0].guardrail, "pods.deny_host_network");
//! ```

mod bounded;
mod check;
mod evaluate;
pub mod input;
mod isolate;
mod library;
pub mod limits;
mod load;
mod nesting;
mod problem;
mod rule_name;
mod syntax;
mod testing;

pub use evaluate::{EvalError, Finding, Verdict};
pub use limits::Limits;
pub use load::{Guardrail, Guardrails};
pub use problem::Problem;
pub use rule_name::Effect;
pub use testing::{RuleCoverage, TestResult, TestRun};
