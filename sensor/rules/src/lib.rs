//! The Falco rule language: parse, check, compile, evaluate; process table and replay.
#![forbid(unsafe_code)]

mod alert;
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
pub mod replay;
mod rule_set;
mod suggest;
mod text;
mod yaml;

pub use alert::{Alert, Ancestor, Priority, ProcessView, UnknownPriority};
pub use engine::{Engine, Limits, Names, TableStats};
pub use explain::{ExplainError, Explanation, explain, explain_with};
pub use fields::{FieldDoc, FieldValue, documentation as field_documentation};
pub use load::{Counts, ENGINE_VERSION, Loaded, PLUGIN_VERSIONS, RulesFile, load};
pub use problem::{Code, Problem, Severity};
pub use rule_set::{Rule, RuleSet, SUPPLIED_EVENTS};
