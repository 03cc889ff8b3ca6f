//! `cairn ledger disclose`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cairn_ledger::local::LocalError;
use cairn_schemas::commitment::Commitment;
use clap::Args;
use serde_json::json;

use crate::failure::Failure;
use crate::say;

/// How long a checkpoint is waited for that covers the record.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The ledger's directory, whose vault lies beside it, in <LEDGER>.vault; or s3://bucket/prefix
    ledger: PathBuf,
    /// The folder of the ledger's keys, for a ledger in a bucket; its vault is <DIR>.ledger.vault
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Show the values of this subject, by the name that they were appended with
    #[arg(long, value_name = "SUBJECT")]
    subject: String,
    /// To whom, or for what; it stands in the record
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    /// The request or ticket that asks for it; it stands in the record
    #[arg(long, value_name = "TICKET")]
    ticket: Option<String>,
}

/// Prints JSON Lines: a value, where in a record's `data` it stood, its commitment as records hold it, and the SD-JWT disclosure that
/// opens that. The record that says so is durable before the first is printed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let failed = |error: LocalError| super::append::failure(&arguments.ledger, &error);
    let (ledger, beside) = super::append::open(&arguments.ledger, arguments.keys.as_deref(), false)?;
    let vault = ledger.vault(&beside).map_err(failed)?;
    ledger.finish_erasures(&vault).map_err(failed)?;
    let mut commitments: Vec<Commitment> = Vec::new();
    for key in vault.keys_of(&arguments.subject).map_err(|error| failed(error.into()))? {
        commitments.extend(vault.disclosures(key).map_err(|error| failed(error.into()))?);
    }
    let recorded =
        ledger.record_disclosure(&commitments, &arguments.purpose, arguments.ticket.as_deref()).map_err(failed)?;
    for commitment in &commitments {
        let disclosure = vault.disclosure(commitment).map_err(|error| failed(error.into()))?;
        say::line(json!({
            "path": disclosure.name(),
            "value": disclosure.value(),
            "commitment": commitment,
            "disclosure": disclosure.text(),
        }));
    }
    ledger.control().and_then(|mut control| control.finish(PATIENCE)).map_err(failed)?;
    ledger.close();
    say::error(format_args!("note: recorded at {}", super::append::place(recorded.place)));
    Ok(ExitCode::SUCCESS)
}
