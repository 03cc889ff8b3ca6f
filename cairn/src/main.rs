//! `cairn`: the command line. It parses, wires and prints; what it calls decides.
//!
//! Standard output is for data, standard error for `error:` and `hint:` lines. Exit 0 good, 1 bad, 2 could not tell.
#![forbid(unsafe_code)]

#[cfg(feature = "full")]
mod alerts;
#[cfg(feature = "full")]
mod author;
#[cfg(feature = "full")]
mod capture;
#[cfg(feature = "full")]
mod clock;
mod failure;
#[cfg(feature = "full")]
mod key;
#[cfg(feature = "full")]
mod ledger;
mod progress;
#[cfg(feature = "full")]
mod rules;
mod say;
#[cfg(feature = "full")]
mod up;
#[cfg(feature = "full")]
mod vault;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Policy from a Git commit to every node, and back proof of what happened.
#[derive(Parser)]
#[command(name = "cairn", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine: control plane, admission server, sensor
    #[cfg(feature = "full")]
    Up(up::Arguments),
    /// Make a policy repo from the template
    #[cfg(feature = "full")]
    Init(author::InitArguments),
    /// Check files against guardrails
    #[cfg(feature = "full")]
    Check(author::CheckArguments),
    /// Run every test of a policy repo
    #[cfg(feature = "full")]
    Test(author::TestArguments),
    /// Work with detection rules
    #[cfg(feature = "full")]
    #[command(subcommand)]
    Rules(rules::Command),
    /// Try rules on a capture: Cairn's, Falco's, sysdig's, or a log of JSON
    #[cfg(feature = "full")]
    Replay(capture::ReplayArguments),
    /// Record this machine's events until Ctrl-C
    #[cfg(feature = "full")]
    Record(capture::RecordArguments),
    /// Work with a ledger: append to it, read it with proofs
    #[cfg(feature = "full")]
    #[command(subcommand)]
    Ledger(Box<ledger::Command>),
    /// Work with a ledger's keys
    #[cfg(feature = "full")]
    #[command(subcommand)]
    Key(key::Command),
    /// Verify a ledger, offline
    Verify(verify::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        #[cfg(feature = "full")]
        Command::Up(arguments) => up::run(&arguments),
        #[cfg(feature = "full")]
        Command::Init(arguments) => author::init(&arguments),
        #[cfg(feature = "full")]
        Command::Check(arguments) => author::check(&arguments),
        #[cfg(feature = "full")]
        Command::Test(arguments) => author::test(&arguments),
        #[cfg(feature = "full")]
        Command::Rules(command) => rules::run(&command),
        #[cfg(feature = "full")]
        Command::Replay(arguments) => capture::replay(&arguments),
        #[cfg(feature = "full")]
        Command::Record(arguments) => capture::record(&arguments),
        #[cfg(feature = "full")]
        Command::Ledger(command) => ledger::run(&command),
        #[cfg(feature = "full")]
        Command::Key(command) => key::run(&command),
        Command::Verify(arguments) => verify::run(&arguments),
    };
    done.unwrap_or_else(|failure: Failure| failure.report())
}
