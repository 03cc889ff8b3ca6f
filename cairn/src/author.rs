//! `cairn init`, `cairn check`, `cairn test`: what a policy author runs, with the engine that nodes run.

use std::path::PathBuf;
use std::process::ExitCode;

use cairn_guardrails::Limits;
use cairn_policy::dir::{self, DirError};
use cairn_policy::{Policy, Problems, TestReport, check, junit};
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
    /// Write the report to FILE as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// List the clauses of detections that no test would miss
    #[arg(long)]
    clauses: bool,
    /// Fail if tests cover fewer of the rules than this, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
    /// Fail if fewer of the detections' clauses decided an event of a test than this, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_clauses: Option<u8>,
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
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit(&report))
            .map_err(|error| Failure::unknown(format!("{}: {error}", path.display())))?;
    }
    let short = too_little(arguments, &report);
    let accepted = report.accepted() && short.is_none();
    if arguments.json {
        say::line(format_args!("{:#}", json!({ "accepted": accepted, "warnings": policy.warnings, "report": report })));
    } else {
        for warning in &policy.warnings {
            say::line(format_args!("WARN {warning}"));
        }
        if arguments.clauses {
            report.unnoticed_clauses().lines().for_each(|line| say::line(format_args!("CLAUSE {line}")));
        }
        say::line(&report);
    }
    match short {
        Some(short) if report.accepted() => {
            Err(Failure::bad(short).hint("`cairn test --clauses` lists what no test would miss"))
        }
        _ => Ok(ExitCode::from(u8::from(!accepted))),
    }
}

/// What is asked of coverage on the command line and not reached.
fn too_little(arguments: &TestArguments, report: &TestReport) -> Option<String> {
    let asked = [
        (arguments.min_coverage, report.coverage_percent(), "rules"),
        (arguments.min_clauses, report.clauses_percent(), "clauses"),
    ];
    asked.into_iter().find_map(|(min, percent, what)| {
        let min = min?;
        (percent < usize::from(min)).then(|| format!("tests cover {percent} % of the {what}, less than {min} %"))
    })
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
