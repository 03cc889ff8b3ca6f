//! `cairn ledger prove`.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_ledger::files::{self, Readers};
use cairn_ledger::view::{Consistency, Proven, View};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;
use clap::Args;
use serde_json::json;

use super::answer::{self, Source, Target};
use crate::failure::Failure;
use crate::say;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// An index (17), a place (2/17: volume and index), or a stream or node and a number there (ci/17)
    #[arg(value_name = "INDEX|PLACE|STREAM/SEQUENCE", required_unless_present = "consistency")]
    record: Option<String>,
    /// The volume that an index or a stream is looked for in; else the newest, or for a stream the newest that has the record
    #[arg(long, value_name = "N")]
    volume: Option<u64>,
    /// Write the proof to FILE and the record's exact bytes to FILE.record, and say how to check them
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Prove instead that the tree of FROM records is the beginning of the tree of TO records (without TO: of the newest checkpoint)
    #[arg(long, num_args = 1..=2, value_names = ["FROM", "TO"], conflicts_with = "record")]
    consistency: Option<Vec<u64>>,
    /// Print proof and record as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if let Some(sizes) = &arguments.consistency {
        return consistency(arguments, sizes);
    }
    let target = Target::parse(arguments.record.as_deref().unwrap_or_default())?;
    let (view, proven) = target.find(&arguments.source, arguments.volume)?;
    let text = proven.proof.to_bytes();
    if let Some(out) = &arguments.out {
        let record = record_file(out);
        for (path, bytes) in [(out, &*text), (&record, &*proven.bytes)] {
            files::replace(path, bytes, Readers::Everybody).map_err(|error| Failure::unknown(error.to_string()))?;
        }
    }
    if arguments.json {
        let mut shown = answer::json(&proven);
        shown["checkpoint"] = answer::vouched_json(&view);
        say::line(format_args!("{shown:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    match &arguments.out {
        Some(out) => say_files(out, &view, &proven),
        None => {
            say::text(&String::from_utf8_lossy(&text));
            let hint = "the proof is of the record's exact bytes: `cairn ledger get --raw`, or --out FILE writes both";
            say::error(format_args!("note: {hint}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn record_file(out: &std::path::Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".record");
    PathBuf::from(name)
}

fn say_files(out: &std::path::Path, view: &View, proven: &Proven) {
    let (key, _) = view.key();
    let record = record_file(out);
    say::line(format_args!("proof     {}: C2SP tlog-proof, <https://c2sp.org/tlog-proof>", answer::shown(out)));
    say::line(format_args!("record    {}: its exact bytes", answer::shown(&record)));
    say::line(format_args!("leaf      {} = SHA-256(0x00 and the bytes)", proven.leaf));
    say::line(answer::vouched(view));
    let offline = "Offline, from the two files and the key alone: ledger/interop/proof.py in Cairn's sources, 60 lines over the same library.";
    let Some(folder) = view.ledger().dir() else {
        say::line(format_args!("\n{offline}"));
        say::line(format_args!("Against the tiles: `cairn ledger mirror {} DIR` makes a copy of them.", view.ledger()));
        return;
    };
    let folder = match view.volume() {
        1 => folder.to_owned(),
        volume => folder.join(cairn_ledger::volume::folder(volume)),
    };
    say::line(
        "\nCheck it with a tool that others wrote (pip install aics-tlog, Python 3.12 or newer), against the tiles:",
    );
    say::line(format_args!(
        "  aics-tlog verify-inclusion --tiles {} --log-key '{key}' --leaf {} --index {}",
        answer::shown(&folder),
        answer::shown(&record),
        proven.place.index,
    ));
    say::line(offline);
}

fn consistency(arguments: &Arguments, sizes: &[u64]) -> Result<ExitCode, Failure> {
    let view = arguments.source.open(arguments.volume)?;
    let from = TreeSize(sizes[0]);
    let to = sizes.get(1).map_or(view.checkpoint().size, |to| TreeSize(*to));
    let proof = view.consistency(from, to).map_err(|error| answer::failure(&error))?;
    let text = text(&proof);
    if let Some(out) = &arguments.out {
        files::replace(out, text.as_bytes(), Readers::Everybody)
            .map_err(|error| Failure::unknown(error.to_string()))?;
    }
    if arguments.json {
        let hashes: Vec<String> = proof.hashes.iter().map(base64_of).collect();
        say::line(format_args!(
            "{:#}",
            json!({
                "from": { "size": proof.from.0, "root": proof.from.1 },
                "to": { "size": proof.to.0, "root": proof.to.1 },
                "hashes": hashes,
                "checkpoint": proof.checkpoint.as_ref().map(|bytes| String::from_utf8_lossy(bytes)),
            })
        ));
        return Ok(ExitCode::SUCCESS);
    }
    match &arguments.out {
        Some(out) => {
            say::line(format_args!("proof     {}", answer::shown(out)));
            say::line(format_args!("from      size {} root {}", proof.from.0, proof.from.1));
            say::line(format_args!("to        size {} root {}", proof.to.0, proof.to.1));
            say::line(
                "\nThe form is the body of C2SP tlog-witness's add-checkpoint; any RFC 6962 verifier takes sizes, roots and hashes.",
            );
        }
        None => say::text(&text),
    }
    Ok(ExitCode::SUCCESS)
}

/// The form of C2SP tlog-witness's `add-checkpoint`: the old size, the hashes, an empty line, the new checkpoint.
fn text(proof: &Consistency) -> String {
    let mut text = format!("old {}\n", proof.from.0);
    for hash in &proof.hashes {
        text += &base64_of(hash);
        text.push('\n');
    }
    text.push('\n');
    match &proof.checkpoint {
        Some(bytes) => text += &String::from_utf8_lossy(bytes),
        // No checkpoint of this size was kept: the tree is named without a signature.
        None => text += &format!("{}\n{}\n", proof.to.0, base64_of(&proof.to.1)),
    }
    text
}

fn base64_of(hash: &Digest) -> String {
    STANDARD.encode(hash.as_bytes())
}
