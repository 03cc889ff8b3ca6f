//! The Kubernetes admission webhook: a request comes in, guardrails judge it, the decision is on disk, the answer goes out.
//!
//! In that order (promise P1): an answer leaves only after its `admission.decided` record is durable in this node's spool. If it
//! cannot be recorded there is no decision, unless the configuration says to act all the same.
//!
//! What it is not: it makes no policy (guardrails do, from the release that the node activated) and talks to no API server.
//! What it trusts: the caller is whoever reaches the listener; nothing in the body is believed beyond its form. Rego runs on
//! threads of its own, bounded in time and memory by `cairn-guardrails`.
//!
//! What guardrails see is `cairn_guardrails::input::admission`, the same as in CI. For DELETE the object is null: guardrails about
//! deletion look at `input.review.oldObject`, and the record's digest is of the old object.
#![forbid(unsafe_code)]

mod answer;
mod decide;
mod review;
mod server;

pub use decide::{FINDING_LEN_MAX, FINDINGS_KEPT_MAX, FINDINGS_LEN_MAX};
pub use review::{ATTRIBUTE_LEN_MAX, BODY_LEN_MAX, ReviewError};
pub use server::{Admission, AdmissionConfig, CONCURRENT_MAX, Counters, DEADLINE, EVALUATION_TIME_MAX, VALIDATE_PATH};
