//! `cairn ledger cosign`: asks the witnesses of a policy about a ledger's newest checkpoint.

use std::path::PathBuf;
use std::process::ExitCode;

use cairn_ledger::cosignature::CosignTime;
use cairn_ledger::dir::LedgerDir;
use cairn_ledger::policy::Policy;
use cairn_ledger::tile::TileHashes;
use cairn_ledger::tree::consistency_proof;
use cairn_ledger::witness::Cosigner;
use cairn_ledger::witness::client::Head;
use cairn_ledger::witness::http::{CALL_TIMEOUT, HttpTransport};
use cairn_ledger::witness::tls::Authorities;
use cairn_schemas::ids::TreeSize;
use cairn_schemas::time::Clock as _;
use clap::Args;
use serde_json::json;

use super::place::Named;
use crate::clock::SystemClock;
use crate::failure::{Failure, chain};
use crate::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The directory of a ledger's volume, a copy of it, or s3://bucket/prefix; no key and no lock is needed, and nothing is written
    ledger: Named,
    /// The witness policy, a C2SP tlog-policy with the witnesses' URLs
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// A PEM file with the certificates by which those of https:// witnesses may be, beside the machine's own authorities
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print what came of it as one JSON object, the cosigned checkpoint in it
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let shown = arguments.policy.display();
    let text = std::fs::read(&arguments.policy).map_err(|error| Failure::unknown(format!("{shown}: {error}")))?;
    let policy = Policy::parse(&text).map_err(|error| Failure::unknown(format!("{shown}: {error}")))?;
    let unreadable =
        |error: &dyn std::error::Error| Failure::unknown(format!("{}: {}", arguments.ledger, chain(error)));
    let dir = LedgerDir::at(arguments.ledger.location()?).map_err(|error| unreadable(&error))?;
    let checkpoint = dir.checkpoint_bytes().map_err(|error| unreadable(&error))?;
    let head = Head::new(&checkpoint).map_err(|error| unreadable(&error))?;
    let cosigner = Cosigner::new(policy);
    if cosigner.clients().is_empty() {
        return Err(Failure::unknown(format!("{shown}: no witness has a URL")).hint("witness <name> <vkey> <url>"));
    }
    let prove = |old: TreeSize, new: TreeSize| {
        let tiles = TileHashes::new(new, |tile| dir.hashes(tile));
        consistency_proof(old, new, &tiles).map_err(|error| chain(&error))
    };
    let authorities = arguments.ca.as_deref().map_or_else(|| Ok(Authorities::default()), Authorities::read);
    let authorities = authorities.map_err(|error| Failure::unknown(format!("--ca: {}", chain(&error))))?;
    let transport = HttpTransport::trusting(&authorities, CALL_TIMEOUT);
    let now = CosignTime(SystemClock.now().nanos() / 1_000_000_000);
    let asked = cosigner
        .ask_all(&head, &prove, &transport, now)
        .map_err(|error| Failure::bad(format!("the cosignatures: {error}")))?;
    let errors: Vec<String> = asked.errors.iter().map(ToString::to_string).collect();
    let note = String::from_utf8_lossy(&asked.note).into_owned();
    if arguments.json {
        let size = head.checkpoint().size;
        say::line(json!({ "size": size, "met": asked.evaluation.met, "errors": errors, "checkpoint": note }));
    } else {
        errors.iter().for_each(|error| say::error(format_args!("note: {error}")));
        say::text(&note);
    }
    if asked.evaluation.met {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::bad("the checkpoint does not meet the policy");
    Err(if asked.errors.iter().any(cairn_ledger::witness::client::AskError::is_alarm) {
        failure.hint(
            "a witness has seen another history of this ledger, or a later state: do not go on before you know why",
        )
    } else {
        failure.hint("ask again when the witnesses answer")
    })
}
