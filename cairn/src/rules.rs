//! `cairn rules`: check rules files, explain conditions, list what there is.

mod check;
mod explain;
pub(crate) mod files;
mod list;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;

#[derive(Subcommand)]
pub(crate) enum Command {
    Check(check::CheckArguments),
    Explain(explain::ExplainArguments),
    List(list::ListArguments),
    Fields(list::FieldsArguments),
    Events(list::EventsArguments),
}

pub(crate) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Check(arguments) => check::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::List(arguments) => list::rules(arguments),
        Command::Fields(arguments) => list::fields(arguments),
        Command::Events(arguments) => list::events(arguments),
    }
}
