//! `cairn ledger tail`.

use std::process::ExitCode;
use std::time::Duration;

use cairn_ledger::dir::DirError;
use cairn_ledger::index::{Query, StreamName};
use cairn_ledger::view::{View, ViewError};
use cairn_schemas::ids::RecordIndex;
use cairn_schemas::time::Clock as _;
use cairn_schemas::types::RecordType;
use clap::Args;

use super::answer::{self, Source};
use super::time;
use crate::clock::SystemClock;
use crate::failure::Failure;
use crate::say;

/// How many records are shown where neither a number nor a time is given.
const SHOWN: usize = 10;
/// How often a followed ledger's checkpoint is read.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The same of a ledger in a bucket, where each look is requests that cost.
const BUCKET_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Lines that are printed at once.
const LINES_AT_ONCE: usize = 256;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// How many records, counted from the last; without it 10, or all where --since is given
    #[arg(short = 'n', long = "lines", value_name = "N")]
    count: Option<usize>,
    /// Only of this type: cairn.<noun>.<verb>.v1, <noun>.<verb>, or all of <noun>; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    kinds: Vec<String>,
    /// Only of this stream, or of this node's streams
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Only made since then, by their producers' clocks: a time (2026-01-31T12:00:00Z) or a duration (2h)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only about this rule
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Only about this control
    #[arg(long, value_name = "CONTROL")]
    control: Option<String>,
    /// Only about this incident
    #[arg(long, value_name = "INCIDENT")]
    incident: Option<String>,
    /// Print one JSON object a line, each with its proof
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let query = query(arguments)?;
    let here = arguments.source.volumes()?;
    let most = arguments.count.unwrap_or(if query.since.is_some() { usize::MAX } else { SHOWN });

    // The newest volume first, and older ones as long as there are too few.
    let mut found: Vec<(View, Vec<RecordIndex>)> = Vec::new();
    let mut left = most;
    for number in here.iter().rev() {
        let view = arguments.source.open(Some(*number))?;
        let records = newest(&view, &query, left)?;
        left -= records.len();
        found.push((view, records));
        if left == 0 {
            break;
        }
    }
    let mut any = false;
    for (view, records) in found.iter().rev() {
        any |= !records.is_empty();
        if !show(arguments, view, records.iter().rev().copied())? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if !any && !arguments.follow {
        say::error("note: no record is what was asked for");
    }
    match found.into_iter().next() {
        Some((view, _)) if arguments.follow => follow(arguments, &query, view),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Records that are what is asked for, newest first.
fn newest(view: &View, query: &Query, most: usize) -> Result<Vec<RecordIndex>, Failure> {
    let size = view.checkpoint().size.0;
    let mut records = Vec::new();
    if query.is_everything() {
        return Ok((0..size).rev().take(most).map(RecordIndex).collect());
    }
    let index = answer::index(view)?;
    for candidate in index.candidates_newest_first(query) {
        if records.len() >= most {
            break;
        }
        if query.takes(&view.bytes_of(candidate).map_err(|error| answer::failure(&error))?) {
            records.push(candidate);
        }
    }
    Ok(records)
}

/// Shows records with their proofs, and says which checkpoint vouches; `false`: nobody reads any more.
fn show(arguments: &Arguments, view: &View, records: impl Iterator<Item = RecordIndex>) -> Result<bool, Failure> {
    let mut text = String::new();
    let (mut lines, mut shown) = (0, 0);
    for index in records {
        let proven = view.record(index).map_err(|error| answer::failure(&error))?;
        text += &if arguments.json { answer::json(&proven).to_string() } else { answer::line(&proven) };
        text.push('\n');
        (lines, shown) = (lines + 1, shown + 1);
        if lines == LINES_AT_ONCE {
            if !say::text_is_read(&text) {
                return Ok(false);
            }
            text.clear();
            lines = 0;
        }
    }
    if shown > 0 && !arguments.json {
        text += &answer::vouched(view);
        text.push('\n');
    }
    Ok(say::text_is_read(&text))
}

/// Shows what comes under newer checkpoints, and goes on to the next volume where one follows.
fn follow(arguments: &Arguments, query: &Query, mut view: View) -> Result<ExitCode, Failure> {
    loop {
        let from = view.checkpoint().size.0;
        let grown = match view.refresh() {
            Ok(grown) => grown,
            // Files come in an order of their own where the ledger is being copied.
            Err(ViewError::Dir(DirError::Missing { .. })) => false,
            Err(error) => return Err(answer::failure(&error)),
        };
        if grown {
            let mut records = Vec::new();
            for index in (from..view.checkpoint().size.0).map(RecordIndex) {
                if query.takes(&view.bytes_of(index).map_err(|error| answer::failure(&error))?) {
                    records.push(index);
                }
            }
            if !show(arguments, &view, records.into_iter())? {
                return Ok(ExitCode::SUCCESS);
            }
            continue;
        }
        let next = view.volume() + 1;
        if arguments.source.volumes().is_ok_and(|here| here.contains(&next)) {
            view = arguments.source.open(Some(next))?;
            let all = (0..view.checkpoint().size.0).map(RecordIndex);
            let mut records = Vec::new();
            for index in all {
                if query.takes(&view.bytes_of(index).map_err(|error| answer::failure(&error))?) {
                    records.push(index);
                }
            }
            if !show(arguments, &view, records.into_iter())? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        let here = view.ledger().dir().is_some();
        std::thread::sleep(if here { LOOK_INTERVAL } else { BUCKET_LOOK_INTERVAL });
    }
}

fn query(arguments: &Arguments) -> Result<Query, Failure> {
    let mut kinds = Vec::new();
    for text in &arguments.kinds {
        kinds.extend(types(text)?);
    }
    let stream = arguments.stream.as_deref().map(StreamName::parse).transpose();
    Ok(Query {
        kinds,
        since: arguments.since.as_deref().map(|text| time::since(text, SystemClock.now())).transpose()?,
        stream: stream.map_err(|error| Failure::unknown(format!("--stream: {error}")))?,
        rule: arguments.rule.clone(),
        control: arguments.control.clone(),
        incident: arguments.incident.clone(),
    })
}

/// A type, or all types of a noun.
fn types(text: &str) -> Result<Vec<RecordType>, Failure> {
    let short = text.strip_prefix("cairn.").unwrap_or(text);
    let short = short.strip_suffix(".v1").unwrap_or(short);
    let names = |kind: &RecordType| {
        let name = kind.as_str().trim_start_matches("cairn.").trim_end_matches(".v1");
        name == short || name.split('.').next() == Some(short)
    };
    let kinds: Vec<RecordType> = RecordType::ALL.iter().copied().filter(names).collect();
    if kinds.is_empty() {
        let mut nouns: Vec<&str> = RecordType::ALL
            .iter()
            .filter_map(|kind| kind.as_str().trim_start_matches("cairn.").split('.').next())
            .collect();
        nouns.dedup();
        return Err(Failure::unknown(format!("--type {text}: no record has this type"))
            .hint(format!("for example evidence.received, or all of one of: {}", nouns.join(", "))));
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_short_or_long() {
        let evidence = vec![RecordType::EvidenceReceived];
        for name in ["cairn.evidence.received.v1", "evidence.received", "evidence"] {
            assert_eq!(types(name).unwrap(), evidence, "{name}");
        }
        assert!(types("stream").unwrap().len() > 3);
        assert!(types("evidence.lost").is_err());
        assert!(types("").is_err());
    }
}
