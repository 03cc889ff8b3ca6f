//! `cairn ledger mirror`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use cairn_ledger::mirror::{MirrorError, Source, mirror};
use clap::Args;
use serde_json::json;

use crate::failure::{Failure, chain};
use crate::progress::Bar;
use crate::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The ledger: a directory, http://host/ledger, or s3://bucket/prefix
    source: String,
    /// The directory that becomes a copy of it; made where there is none, brought up to date where there is one
    directory: PathBuf,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let source = arguments.source.parse::<Source>().map_err(|error| Failure::unknown(format!("{error}")))?;
    let bar = Mutex::new(Bar::new("files"));
    let tell = |done, total| {
        if let Ok(bar) = bar.lock() {
            bar.set(done, total);
        }
    };
    let mirrored = mirror(&source, &arguments.directory, &tell).map_err(|error| failure(&error))?;
    let verify = format!("cairn verify {}", arguments.directory.display());
    if arguments.json {
        let volumes: Vec<_> =
            mirrored.volumes.iter().map(|(volume, size)| json!({ "volume": volume, "size": size })).collect();
        say::line(json!({
            "volumes": volumes,
            "copied": mirrored.copied,
            "bytes": mirrored.bytes,
            "present": mirrored.present,
            "removed": mirrored.removed,
            "differing": mirrored.differing,
            "missing": mirrored.missing,
            "versions": mirrored.versions,
        }));
    } else {
        for (volume, size) in &mirrored.volumes {
            say::line(format_args!("volume {volume}: {size} records"));
        }
        say::line(format_args!(
            "{} files copied ({} bytes), {} were there, {} partial tiles removed",
            mirrored.copied, mirrored.bytes, mirrored.present, mirrored.removed
        ));
        if let Some(versions) = mirrored.versions {
            say::line(format_args!("{versions} versions and delete markers in versions.jsonl"));
        }
        for file in &mirrored.differing {
            say::error(format_args!(
                "error: {file}: the original has another file of this name now; the mirror keeps what it had"
            ));
        }
        for file in &mirrored.missing {
            say::error(format_args!("error: {file} is missing in the original"));
        }
        say::line(format_args!("nothing was checked: {verify}"));
    }
    Ok(if mirrored.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn failure(error: &MirrorError) -> Failure {
    let failure = Failure::unknown(chain(error));
    match error {
        MirrorError::RolledBack { .. } | MirrorError::OtherLedger { .. } => {
            Failure::bad(chain(error)).hint("the mirror was not changed; `cairn verify` tells what it holds")
        }
        MirrorError::NotAMirror { .. } => failure.hint("name a directory of its own for the copy"),
        MirrorError::NoLedger { .. } => {
            failure.hint("over HTTP, name the URL below which `checkpoint` is: http://host/ledger")
        }
        _ => failure.hint("what was copied stays; run it again to go on"),
    }
}
