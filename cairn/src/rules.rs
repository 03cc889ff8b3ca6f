//! `cairn rules check` and `cairn rules explain`.

mod explain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cairn_rules::{RulesFile, load, problem};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::failure::Failure;
use crate::say;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Load Falco rules files and report every problem
    Check(CheckArguments),
    Explain(explain::ExplainArguments),
}

pub(crate) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Check(arguments) => check(arguments),
        Command::Explain(arguments) => explain::run(arguments),
    }
}

#[derive(Args)]
pub(crate) struct CheckArguments {
    /// Rules files, loaded together in this order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the problems as JSON
    #[arg(long)]
    json: bool,
}

fn check(arguments: &CheckArguments) -> Result<ExitCode, Failure> {
    let texts = read(&arguments.files)?;
    let loaded = load(&files(&texts));
    let errors = loaded.errors().count();
    if arguments.json {
        say::line(format_args!(
            "{:#}",
            json!({ "ok": loaded.is_ok(), "counts": loaded.counts, "problems": loaded.problems })
        ));
    } else {
        if !loaded.problems.is_empty() {
            say::line(format_args!("{}", problem::render(&loaded.problems)));
        }
        let counts = loaded.counts;
        let word = if errors == 0 { "OK" } else { "FAILED" };
        say::line(format_args!("{word}: {} rules, {} macros, {} lists", counts.rules, counts.macros, counts.lists));
    }
    Ok(ExitCode::from(u8::from(errors > 0)))
}

pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<(String, String)>, Failure> {
    files.iter().map(|path| Ok((path.display().to_string(), read_one(path)?))).collect()
}

fn read_one(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::unknown(format!("{}: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        Failure::unknown(format!("{}: byte {} is not UTF-8", path.display(), error.utf8_error().valid_up_to()))
            .hint("rules files are text")
    })
}

pub(crate) fn files(texts: &[(String, String)]) -> Vec<RulesFile<'_>> {
    texts.iter().map(|(path, text)| RulesFile { path, text }).collect()
}
