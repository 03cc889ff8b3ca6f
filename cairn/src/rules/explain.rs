//! `cairn rules explain`: what a condition means; with an event, which rules it matched and which part of the others was false.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use cairn_rules::replay::{self, Attachment, Captured, Case};
use cairn_rules::{EventTrace, Matching, Names, RuleSet, RulesFile, Supply, explain_with, load_for, problem};
use clap::Args;
use serde_json::json;

use super::files::Files;
use crate::failure::Failure;
use crate::say;

/// Explain a condition, or what rules made of an event
#[derive(Args)]
pub(crate) struct ExplainArguments {
    /// The condition: its normal form, fields and event types
    #[arg(conflicts_with_all = ["event", "capture"], required_unless_present_any = ["event", "capture"])]
    condition: Option<String>,
    /// Rules files or folders: those whose lists and macros the condition may use, or those tried on the event
    #[arg(long = "rules", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// An event, a sequence of events, or cases as `cairn test` has them, in YAML
    #[arg(long, value_name = "FILE", conflicts_with = "capture", requires = "files")]
    event: Option<PathBuf>,
    /// The case, of several in the file
    #[arg(long, value_name = "NAME", requires = "event")]
    case: Option<String>,
    /// A capture: Cairn's, or Falco's .scap
    #[arg(long, value_name = "FILE", requires_all = ["files", "number"])]
    capture: Option<PathBuf>,
    /// The number of the event, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "condition")]
    number: Option<u64>,
    /// The rule; all rules for the event's type if none is named
    #[arg(long, value_name = "NAME", conflicts_with = "condition")]
    rule: Option<String>,
    /// One rule alone alerts of an event, the first that matches
    #[arg(long, conflicts_with = "condition")]
    first: bool,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
}

/// 0 explained, 1 the condition, the rules or the event are wrong, 2 they cannot be read.
pub(crate) fn run(arguments: &ExplainArguments) -> Result<ExitCode, Failure> {
    let files = Files::read(&arguments.files)?;
    let files = files.all();
    match &arguments.condition {
        Some(condition) => of_condition(condition, &files, arguments.json),
        None => of_events(arguments, &files),
    }
}

fn of_condition(condition: &str, files: &[RulesFile<'_>], as_json: bool) -> Result<ExitCode, Failure> {
    let explanation = match explain_with(condition, files) {
        Ok(explanation) => explanation,
        Err(error) => {
            say::line(format_args!("{}", error.render()));
            return Ok(ExitCode::FAILURE);
        }
    };
    if as_json {
        say::line(format_args!("{:#}", json!(explanation)));
    } else {
        say::line(explanation);
    }
    Ok(ExitCode::SUCCESS)
}

fn of_events(arguments: &ExplainArguments, files: &[RulesFile<'_>]) -> Result<ExitCode, Failure> {
    // The event is at hand: what a sensor would supply does not matter.
    let loaded = load_for(files, &Supply::everything());
    if !loaded.is_ok() {
        say::line(format_args!("{}", problem::render(&loaded.problems)));
        return Err(Failure::bad("the rules do not load"));
    }
    let rules = Arc::new(loaded.rules);
    let Some(cases) = cases(arguments)? else { return Ok(ExitCode::FAILURE) };
    let mut explained = Vec::new();
    for case in &cases {
        let traces = traces(&rules, case, arguments)?;
        if !arguments.json {
            if cases.len() > 1 {
                say::line(format_args!("case {:?} ({}:{})", case.name, case.file, case.line));
            }
            traces.iter().for_each(say::line);
        }
        explained.push(json!({ "case": case.name, "file": case.file, "line": case.line, "events": traces }));
    }
    if arguments.json {
        say::line(format_args!("{:#}", json!(explained)));
    }
    Ok(ExitCode::SUCCESS)
}

fn traces(rules: &Arc<RuleSet>, case: &Case, arguments: &ExplainArguments) -> Result<Vec<EventTrace>, Failure> {
    let matching = if arguments.first { Matching::First } else { Matching::All };
    let mut traces = Vec::new();
    replay::explain(rules, case, arguments.number, arguments.rule.as_deref(), matching, |trace| traces.push(trace))
        .map_err(Failure::bad)?;
    match (traces.is_empty(), arguments.number) {
        (true, Some(number)) => Err(Failure::bad(format!("{}: there is no event {number}", case.file))),
        _ => Ok(traces),
    }
}

/// The cases asked about; `None` when the file is wrong, which has been said.
fn cases(arguments: &ExplainArguments) -> Result<Option<Vec<Case>>, Failure> {
    if let Some(path) = &arguments.capture {
        let shown = path.display().to_string();
        let captured = Captured { path: shown.clone(), bytes: read(path)?.into() };
        return Ok(Some(vec![Case {
            name: "capture".to_owned(),
            file: shown,
            line: 1,
            processes: Vec::new(),
            events: Vec::new(),
            capture: Some(captured),
            names: Names::default(),
            expect: Vec::new(),
            counts: BTreeMap::new(),
            silent: Vec::new(),
        }]));
    }
    let Some(path) = &arguments.event else { return Ok(None) };
    let shown = path.display().to_string();
    let text = String::from_utf8(read(path)?)
        .map_err(|_| Failure::unknown(format!("{shown}: not UTF-8")).hint("cases are YAML"))?;
    // A file that is not there is reported where the case names it.
    let folder = path.parent().unwrap_or(Path::new(""));
    let files: Vec<(String, Vec<u8>)> = replay::named_files(&text)
        .into_iter()
        .map(|name| folder.join(name))
        .filter_map(|path| Some((path.display().to_string(), std::fs::read(&path).ok()?)))
        .collect();
    let attachments: Vec<Attachment<'_>> = files.iter().map(|(path, bytes)| Attachment { path, bytes }).collect();
    let parsed = replay::parse_events(RulesFile { path: &shown, text: &text }, &attachments);
    if !parsed.problems.is_empty() {
        say::line(format_args!("{}", problem::render(&parsed.problems)));
        return Ok(None);
    }
    let Some(name) = &arguments.case else { return Ok(Some(parsed.cases)) };
    let known: Vec<String> = parsed.cases.iter().map(|case| format!("{:?}", case.name)).collect();
    let cases: Vec<Case> = parsed.cases.into_iter().filter(|case| case.name == *name).collect();
    if cases.is_empty() {
        let failure = Failure::bad(format!("{shown}: there is no case {name:?}"));
        return Err(failure.hint(format!("its cases are: {}", known.join(", "))));
    }
    Ok(Some(cases))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::unknown(format!("{}: {error}", path.display())))
}
