//! `cairn ledger …`: a ledger by itself.

mod answer;
mod append;
mod cosign;
mod disclose;
mod erase;
mod get;
mod mirror;
pub(crate) mod place;
mod prove;
pub(crate) mod rotate;
mod tail;
mod time;
mod witness;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;

/// Work with a ledger: append to it, read it with proofs, look after it
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Append JSON Lines; makes the ledger and its keys where there is none
    Append(append::Arguments),
    /// Show one record, with what proves it
    Get(get::Arguments),
    /// Show the last records, or those that are asked for; follow the ledger with -f
    Tail(tail::Arguments),
    /// Destroy the keys of somebody's values, and record that; every proof still verifies
    Erase(erase::Arguments),
    /// Show somebody's values, and record that
    Disclose(disclose::Arguments),
    /// Write the proof that a record is in the ledger, for anybody's tools
    Prove(prove::Arguments),
    /// End the current volume and open the next; or open one over a volume that cannot go on
    Rotate(rotate::RotateArguments),
    /// Remove whole volumes whose retention is over, oldest first
    Drop(rotate::DropArguments),
    /// End a ledger for good: it is only read from then on
    Freeze(rotate::FreezeArguments),
    /// Give a ledger another witness policy, in the root key's name
    Witnesses(rotate::WitnessesArguments),
    /// Copy a ledger into a directory: from another one, over HTTP, or from a bucket
    Mirror(mirror::Arguments),
    /// Ask the witnesses of a policy to cosign the newest checkpoint, and print it with their cosignatures
    Cosign(cosign::Arguments),
    /// Run a witness: cosign checkpoints of logs that never contradict what they showed before
    Witness(witness::Arguments),
}

pub(crate) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Append(arguments) => append::run(arguments),
        Command::Get(arguments) => get::run(arguments),
        Command::Tail(arguments) => tail::run(arguments),
        Command::Erase(arguments) => erase::run(arguments),
        Command::Disclose(arguments) => disclose::run(arguments),
        Command::Prove(arguments) => prove::run(arguments),
        Command::Rotate(arguments) => rotate::rotate(arguments),
        Command::Drop(arguments) => rotate::drop_volumes(arguments),
        Command::Freeze(arguments) => rotate::freeze(arguments),
        Command::Witnesses(arguments) => rotate::witnesses(arguments),
        Command::Mirror(arguments) => mirror::run(arguments),
        Command::Cosign(arguments) => cosign::run(arguments),
        Command::Witness(arguments) => witness::run(arguments),
    }
}
