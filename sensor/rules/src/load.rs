//! Loading rules files: everything that is wrong with all of them is reported at once, with its place and the remedy.
//!
//! The files are read in the order given, as Falco reads its `rules_files`: later ones append to, override, replace what earlier ones define.
//! Differences from Falco, each on the strict or the kind side:
//! - lists are put into the syntax tree, not into the text, so a list's name inside a quoted value stays text;
//! - a load goes on after the first error, so that one run shows all;
//! - a field or event type that Falco has and this engine does not supply is a warning: the check on it is false, and the
//!   rule's blind spot is said.

mod collect;
mod exceptions;
pub(crate) mod extension;
mod finish;
mod honeytokens;
mod inline;
pub(crate) mod reader;
mod report;

use std::sync::Arc;

use serde::Serialize;

pub use inline::compiled_condition;
pub use report::{FalcoContext, FalcoLocation, FalcoPosition, FalcoProblem, FalcoReport, report};

use crate::compile::{self, CompileError, Compiled, NoScope};
use crate::condition::Expr;
use crate::limits::{FILE_BYTES_MAX, FILES_MAX};
use crate::problem::{self, Code, Place, Problem, Reporter, Severity};
use crate::rule_set::RuleSet;
use crate::source::Source;
use crate::supply::Supply;

/// The version of Falco's engine whose rule language this is; rules files may require it.
pub const ENGINE_VERSION: (u64, u64, u64) = (0, 57, 0);

/// Falco plugins whose fields this engine knows, with versions; rules files may require them.
pub const PLUGIN_VERSIONS: [(&str, (u64, u64, u64)); 6] = [
    ("cloudtrail", (0, 13, 0)),
    ("container", (0, 4, 0)),
    ("github", (0, 10, 0)),
    ("json", (0, 7, 3)),
    ("k8saudit", (0, 16, 0)),
    ("okta", (0, 11, 1)),
];

/// A rules file: a path for messages, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulesFile<'a> {
    /// The path as messages name it.
    pub path: &'a str,
    /// The whole text.
    pub text: &'a str,
}

/// What came of a load.
#[derive(Debug)]
pub struct Loaded {
    /// The rules without errors. Use them only when there is no error at all: a set with a hole is not what was signed.
    pub rules: RuleSet,
    /// All problems, in order of file and line.
    pub problems: Vec<Problem>,
    /// Names of lists, macros and rules defined, for reports.
    pub counts: Counts,
}

/// How much was defined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rules, disabled ones included.
    pub rules: usize,
    /// Macros.
    pub macros: usize,
    /// Lists.
    pub lists: usize,
}

impl Loaded {
    /// Is there no error? Warnings are allowed.
    pub fn is_ok(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The problems that stop the load.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// The problems that do not.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Warning)
    }
}

/// Loads rules files as one set, for a machine's sensor.
pub fn load(files: &[RulesFile<'_>]) -> Loaded {
    load_for(files, Supply::sensor())
}

/// Loads rules files as one set, and says of what this source does not supply what rules ask for.
pub fn load_for(files: &[RulesFile<'_>], supply: &Supply) -> Loaded {
    load_and_report(files, supply, reporter(files))
}

/// The same for files that Falco is to read as well: what it passes over is a warning, what it does not load an error.
pub fn load_beside_falco(files: &[RulesFile<'_>], supply: &Supply) -> Loaded {
    load_and_report(files, supply, reporter(files).beside_falco())
}

fn load_and_report(files: &[RulesFile<'_>], supply: &Supply, mut reporter: Reporter<'_>) -> Loaded {
    let collector = collect(files, &mut reporter);
    let (rules, counts) = finish::finish(collector, supply, &mut reporter);
    let (mut problems, dropped) = reporter.finish();
    if let (Some(last), true) = (problems.last_mut(), dropped > 0) {
        last.message.push_str(&format!(" (and {dropped} more problems, not shown)"));
    }
    Loaded { rules, problems, counts }
}

/// Compiles a condition for the first source that knows all its fields, or else for the one that knows most; with the macros and
/// lists of rules files, whose own problems are left aside. Without files a macro may be anything.
pub(crate) fn compile_alone(
    expr: &Expr,
    macros: &[String],
    files: &[RulesFile<'_>],
) -> Result<(Compiled, Arc<Source>), Vec<CompileError>> {
    let mut reporter = reporter(files);
    let collector = collect(files, &mut reporter);
    let sources = &collector.sources;
    let mut least: Option<Vec<CompileError>> = None;
    for place in 0..sources.len() {
        let source = sources.at(place);
        let compiled = if files.is_empty() {
            compile::compile(expr, &mut NoScope::assuming(macros, sources.vocabulary(place)))
        } else {
            finish::compile_alone(expr, place, &collector, &mut reporter)
        };
        match compiled {
            Ok(compiled) if source.is_kernel() => return Ok((compiled, Arc::clone(source))),
            Ok(compiled) => return Ok((compiled.within(&source.event_types()), Arc::clone(source))),
            Err(errors) if least.as_ref().is_none_or(|least| errors.len() < least.len()) => least = Some(errors),
            Err(_) => {}
        }
    }
    Err(least.unwrap_or_default())
}

fn reporter<'a>(files: &[RulesFile<'a>]) -> Reporter<'a> {
    Reporter::new(files.iter().map(|file| problem::Source { path: file.path, text: file.text }).collect())
}

fn collect(files: &[RulesFile<'_>], reporter: &mut Reporter<'_>) -> collect::Collector {
    let mut collector = collect::Collector::default();
    if files.len() > FILES_MAX {
        let message = format!("{} rules files, more than {FILES_MAX}", files.len());
        reporter.error(Code::CairnLimit, Place::default(), "", message, None);
    }
    for (index, file) in files.iter().enumerate().take(FILES_MAX) {
        if file.text.len() > FILE_BYTES_MAX {
            let message = format!("the file has {} bytes, more than {FILE_BYTES_MAX}", file.text.len());
            let hint = Some("divide it".to_owned());
            reporter.error(Code::CairnLimit, Place { file: index, offset: 0 }, "", message, hint);
            continue;
        }
        collector.file(index, file.text, reporter);
    }
    collector
}
