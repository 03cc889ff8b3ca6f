//! Detections in the Falco rule language: parse, check, compile, evaluate; a process table; replay of written cases.
//!
//! - [`load`] reads rules files and says everything that is wrong with them ([`Problem`]: file, line, column, remedy). What it makes
//!   is a [`RuleSet`].
//! - [`Engine`] takes [`event::Event`]s, keeps the process table, and gives [`Alert`]s. [`Engine::replace_rules`] swaps the rules under it.
//! - [`capture`] reads recorded events, Cairn's and Falco's, and writes Cairn's (`CAPTURE.md`).
//! - [`replay`] runs cases written by hand through the same engine (`REPLAY.md`).
//! - [`explain()`] tells what a condition means.
//!
//! # What it is not
//! No source of events: it opens nothing, reads no clock, knows no user database. Time is in the events, names are handed in. It does
//! not throttle, redact or record: that is the sensor's.
//!
//! # What it trusts
//! Nothing. Rules come out of a signed release, but are read by `cairn rules check` before anybody signed them, and a mistake in
//! one must not take a node down: every size has a bound ([`limits`]), regular expressions run in linear time, conditions are
//! walked to a bounded depth. Events come from a kernel that any program can feed with odd bytes.
//!
//! # How it holds together
//! `yaml` (a tree with places) → `load` (items, what overrides what) → `condition` (syntax) → `compile` (fields looked up,
//! types checked, lists and macros put in, event types worked out) → [`RuleSet`] (indexed by event type) → [`Engine`].
//! What a field of the kernel's events is and how it is read stands in one table, `fields`; another kind of event is new entries there
//! and a new [`event::EventKind`]. Any other source of events is data: [`source`].
#![forbid(unsafe_code)]

mod alert;
pub mod capture;
mod compile;
mod condition;
pub mod container;
mod engine;
pub mod event;
mod explain;
mod fields;
pub mod limits;
mod load;
mod output;
pub mod problem;
mod program;
pub mod replay;
mod rule_set;
pub mod source;
mod state;
mod suggest;
mod supply;
mod text;
mod yaml;

pub use alert::{Alert, AlertOptions, Ancestor, Format, OptionError, Priority, ProcessView, UnknownPriority};
pub use engine::{Costs, Engine, Evaluator, Limits, Matching, Names, RuleCost, Stopwatch, TableStats};
pub use explain::{
    AfterTrace, EventTrace, ExplainError, Explanation, Reason, Seen, Trace, Verdict, explain, explain_with,
};
pub use fields::{FieldDoc, FieldValue, documentation as field_documentation};
pub use load::{
    Counts, ENGINE_VERSION, FalcoContext, FalcoLocation, FalcoPosition, FalcoProblem, FalcoReport, Loaded,
    PLUGIN_VERSIONS, RulesFile, compiled_condition, load, load_beside_falco, load_for, report as falco_report,
};
pub use output::{AppendError, AppendMatch, AppendOutput, ExtraField};
pub use problem::{Code, Problem, Severity};
pub use rule_set::{Rule, RuleSet};
pub use source::{Source, Sources};
pub use state::{SnapshotError, StateStats};
pub use supply::Supply;
