//! `cairn ledger erase`.

use std::path::PathBuf;
use std::process::ExitCode;

use cairn_ledger::local::{Erased, LocalError};
use cairn_ledger::vault::{Vault, VaultError};
use cairn_schemas::commitment::KeyId;
use cairn_schemas::data::ErasureReason;
use cairn_schemas::time::Clock as _;
use clap::Args;
use serde_json::json;

use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The ledger's directory, whose vault lies beside it, in <LEDGER>.vault; or s3://bucket/prefix
    ledger: PathBuf,
    /// The folder of the ledger's keys, for a ledger in a bucket; its vault is <DIR>.ledger.vault
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    whose: Whose,
    /// The request or ticket that asks for it; it stands in the record
    #[arg(long, value_name = "TICKET")]
    ticket: Option<String>,
    /// Print what was erased as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Erase everything of this subject, by the name that its values were appended with
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Erase everything under this key, as commitments and blob references name it
    #[arg(long, value_name = "KEY")]
    key_id: Option<KeyId>,
    /// Erase everything whose retention is over
    #[arg(long)]
    expired: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let failed = |error: LocalError| failure(arguments, &error);
    let (ledger, beside) = super::append::open(&arguments.ledger, arguments.keys.as_deref(), false)?;
    let vault = ledger.vault(&beside).map_err(failed)?;
    let mut erased = ledger.finish_erasures(&vault).map_err(failed)?;
    let keys = match keys(&arguments.whose, &vault) {
        // What was asked for was begun before, interrupted, and is finished now.
        Err(VaultError::NoSubject | VaultError::NoKey { .. }) if !erased.is_empty() => Vec::new(),
        keys => keys.map_err(|error| failed(error.into()))?,
    };
    let values = count(&vault, &keys).map_err(|error| failed(error.into()))?;
    let reason = if arguments.whose.expired { ErasureReason::Expired } else { ErasureReason::Request };
    erased.extend(ledger.erase(&vault, &keys, reason, arguments.ticket.as_deref()).map_err(failed)?);
    // In a bucket they are locked: the bytes stay, and nobody can read them.
    let in_bucket = ledger.ledger().keeps_release_files();
    let blobs = if in_bucket { 0 } else { ledger.remove_erased_blobs(&beside, &erased).map_err(failed)? };
    ledger.close();
    say_erased(arguments, &erased, values, blobs);
    Ok(ExitCode::SUCCESS)
}

fn keys(whose: &Whose, vault: &Vault) -> Result<Vec<KeyId>, VaultError> {
    match (&whose.subject, whose.key_id) {
        (Some(subject), _) => vault.keys_of(subject),
        (None, Some(key)) if vault.has_key(key)? => Ok(vec![key]),
        (None, Some(key)) => Err(VaultError::NoKey { key }),
        (None, None) => vault.expired(SystemClock.now()),
    }
}

fn count(vault: &Vault, keys: &[KeyId]) -> Result<usize, VaultError> {
    keys.iter().map(|key| Ok(vault.disclosures(*key)?.len())).sum()
}

fn say_erased(arguments: &Arguments, erased: &[Erased], values: usize, blobs: u64) {
    if arguments.json {
        let shown = erased.iter().map(|erased| {
            json!({
                "keys": erased.keys,
                "reason": erased.reason,
                "volume": erased.place.volume,
                "index": erased.place.index,
                "resumed": erased.resumed,
            })
        });
        let erased: Vec<_> = shown.collect();
        say::line(json!({ "erased": erased, "values": values, "blobs": blobs }));
        return;
    }
    if erased.is_empty() {
        say::line("nothing to erase: no retention is over");
        return;
    }
    for erased in erased {
        let resumed = if erased.resumed { ", which was interrupted before" } else { "" };
        for key in &erased.keys {
            say::line(format_args!("erased  key {key}  recorded at {}{resumed}", super::append::place(erased.place)));
        }
    }
    say::line(format_args!("        {values} values and {blobs} blobs can be read by nobody any more"));
    let ledger = arguments.ledger.display();
    say::line(format_args!("        every record and proof stands as it did: cairn verify {ledger}"));
}

fn failure(arguments: &Arguments, error: &LocalError) -> Failure {
    let hint = match error {
        LocalError::Vault(VaultError::NoSubject) => {
            "was it erased before? names are compared letter by letter; `--key-id` takes a key as a record names it"
        }
        LocalError::Vault(VaultError::NoKey { .. }) => "was it erased before? `cairn verify` lists what was",
        LocalError::Vault(VaultError::Locked) => "one process uses a vault at a time: wait for it",
        LocalError::Vault(_) => {
            "nothing is recorded that did not happen; the next `cairn ledger erase` goes on from here"
        }
        error => return super::append::failure(&arguments.ledger, error),
    };
    Failure::bad(format!("{}: {}", arguments.ledger.display(), crate::failure::chain(error))).hint(hint)
}
