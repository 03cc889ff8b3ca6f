//! `cairn ledger get`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::answer::{self, Source, Target};
use crate::failure::Failure;
use crate::say;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// An index (17), a place (2/17: volume and index), or a stream or node and a number there (ci/17)
    #[arg(value_name = "INDEX|PLACE|STREAM/SEQUENCE")]
    record: String,
    /// The volume that an index or a stream is looked for in; else the newest, or for a stream the newest that has the record
    #[arg(long, value_name = "N")]
    volume: Option<u64>,
    /// Print the record as JSON, with its proof
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Print the record's exact bytes, which the leaf hash is over, and nothing else
    #[arg(long)]
    raw: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let target = Target::parse(&arguments.record)?;
    let (view, proven) = target.find(&arguments.source, arguments.volume)?;
    if arguments.raw {
        let mut out = std::io::stdout().lock();
        // Whoever stopped reading has what they wanted.
        let _ = out.write_all(&proven.bytes).and_then(|()| out.flush());
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.json {
        let mut shown = answer::json(&proven);
        shown["checkpoint"] = answer::vouched_json(&view);
        say::line(format_args!("{shown:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    say::line(format_args!("place     {} of volume {}", proven.place.index, proven.place.volume));
    say::line(format_args!("leaf      {}", proven.leaf));
    match answer::read(&proven) {
        Some(record) => {
            for name in ["type", "time", "source", "sequence", "subject", "release", "foreignid"] {
                if let Some(value) = record[name].as_str() {
                    say::line(format_args!("{name:<9} {value}"));
                }
            }
            say::line(format_args!("data      {:#}", record["data"]));
        }
        None => say::line("these bytes are not a record: --raw prints them"),
    }
    say::line(format_args!("\n{}", answer::vouched(&view)));
    Ok(ExitCode::SUCCESS)
}
