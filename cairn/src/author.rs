//! `cairn init`, `cairn check`, `cairn test`: what a policy author runs, with the engine that nodes run.

use std::path::PathBuf;
use std::process::ExitCode;

use cairn_guardrails::Limits;
use cairn_policy::dir::{self, DirError};
use cairn_policy::{Policy, Problems, check};
use clap::Args;
use serde_json::json;

use crate::failure::{Failure, chain};
use crate::say;

#[derive(Args)]
pub(crate) struct InitArguments {
    /// The folder to make; it must be empty or absent
    dir: PathBuf,
}

pub(crate) fn init(arguments: &InitArguments) -> Result<ExitCode, Failure> {
    let written = dir::init(&arguments.dir).map_err(|error| of_dir(&error))?;
    say::line(format_args!("{} files in {}", written.len(), arguments.dir.display()));
    say::line(format_args!("next: cairn test {}", arguments.dir.display()));
    Ok(ExitCode::SUCCESS)
}

#[derive(Args)]
pub(crate) struct CheckArguments {
    /// Files, or folders whose .yaml, .yml and .json files are checked
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The policy repo whose guardrails are used
    #[arg(long, value_name = "DIR", default_value = ".")]
    policy: PathBuf,
    /// Print the findings as Conftest's JSON
    #[arg(long)]
    json: bool,
}

/// Exit codes are Conftest's: 0 nothing denies, 1 something does. What cannot be read or loaded is 2.
pub(crate) fn check(arguments: &CheckArguments) -> Result<ExitCode, Failure> {
    let tree = dir::read_policy(&arguments.policy).map_err(|error| {
        let failure = of_dir(&error);
        if matches!(error, DirError::NoPolicy { .. }) {
            return failure.hint("name the policy repo with --policy DIR, or make one with `cairn init DIR`");
        }
        failure
    })?;
    let policy = Policy::load(&tree).map_err(|problems| of_problems(&arguments.policy, &problems))?;
    let files = dir::read_documents(&arguments.paths).map_err(|error| of_dir(&error))?;
    let report = check::check(&policy.guardrails, &files, &Limits::default());
    if arguments.json {
        say::line(format_args!("{:#}", report.to_json()));
    } else {
        say::line(&report);
    }
    if !check::can_deny(&policy.guardrails) {
        return Err(Failure::unknown(format!("{}: no guardrail can deny anything", arguments.policy.display()))
            .hint("add a rule named deny or violation under guardrails/"));
    }
    Ok(ExitCode::from(report.exit_code()))
}

#[derive(Args)]
pub(crate) struct TestArguments {
    /// The policy repo
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// 0 all pass, 1 a test fails or the policy does not load, 2 it cannot be read.
pub(crate) fn test(arguments: &TestArguments) -> Result<ExitCode, Failure> {
    let tree = dir::read_policy(&arguments.dir).map_err(|error| of_dir(&error))?;
    let policy = match Policy::load(&tree) {
        Ok(policy) => policy,
        Err(problems) if arguments.json => {
            say::line(format_args!(
                "{:#}",
                json!({ "accepted": false, "problems": problems.problems, "omitted": problems.omitted })
            ));
            return Ok(ExitCode::FAILURE);
        }
        Err(problems) => {
            say::line(problems);
            return Err(Failure::bad(format!("{}: the policy does not load", arguments.dir.display())));
        }
    };
    let report = policy.test();
    if arguments.json {
        say::line(format_args!(
            "{:#}",
            json!({ "accepted": report.accepted(), "warnings": policy.warnings, "report": report })
        ));
    } else {
        for warning in &policy.warnings {
            say::line(format_args!("WARN {warning}"));
        }
        say::line(&report);
    }
    Ok(ExitCode::from(u8::from(!report.accepted())))
}

fn of_dir(error: &DirError) -> Failure {
    let failure = Failure::unknown(chain(error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn of_problems(dir: &std::path::Path, problems: &Problems) -> Failure {
    let first = problems.first();
    let more = problems.problems.len() + problems.omitted - 1;
    let rest = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    Failure::unknown(format!("{}: the policy does not load: {first}{rest}", dir.display()))
        .hint(format!("run `cairn test {}` for every problem", dir.display()))
}
