//! What `get`, `tail` and `prove` share: opening a view, naming a record, showing one with what vouches for it.

use std::cell::OnceCell;
use std::path::Path;

use cairn_ledger::dir::DirError;
use cairn_ledger::index::{Built, Index, IndexError, StreamName};
use cairn_ledger::location::Location;
use cairn_ledger::note::VerifierKey;
use cairn_ledger::view::{self, KeySource, Proven, View, ViewError};
use cairn_ledger::volume;
use cairn_schemas::ids::{RecordIndex, Sequence};
use clap::Args;
use serde_json::{Value, json};

use super::place::Named;
use crate::failure::{Failure, chain};
use crate::progress::Bar;
use crate::{say, verify};

/// Below this many records a progress line would only flicker.
const PROGRESS_FROM: u64 = 50_000;
/// Longest data that a line shows, characters.
const DATA_SHOWN_MAX: usize = 160;

/// Which ledger, and whose key it must be signed with.
#[derive(Args)]
pub(crate) struct Source {
    /// The ledger's directory, a copy of it, or s3://bucket/prefix; no key and no lock is needed, and it may be written meanwhile
    #[arg(value_name = "LEDGER")]
    ledger: Named,
    /// The ledger's public key, as for `cairn verify`; without it the key pinned for this ledger, else the one the ledger names itself
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// Where it is read; looked up once.
    #[arg(skip)]
    location: OnceCell<Location>,
}

impl Source {
    /// Where it is read.
    fn location(&self) -> Result<&Location, Failure> {
        if let Some(location) = self.location.get() {
            return Ok(location);
        }
        let location = self.ledger.location()?;
        Ok(self.location.get_or_init(|| location))
    }

    /// The volumes that there are, rising.
    pub(super) fn volumes(&self) -> Result<Vec<u64>, Failure> {
        view::volumes(self.location()?).map_err(|error| failure(&error.into()))
    }

    /// A volume under its newest checkpoint; without a number the newest volume.
    pub(super) fn open(&self, number: Option<u64>) -> Result<View, Failure> {
        let here = match number {
            Some(number) => number,
            None => *self.volumes()?.last().unwrap_or(&1),
        };
        let location = self.location()?;
        let key = self.key_of(location, here)?;
        View::open(location, Some(here), key.as_ref()).map_err(|error| failure(&error))
    }

    fn key_of(&self, location: &Location, number: u64) -> Result<Option<VerifierKey>, Failure> {
        let text = match &self.key {
            Some(key) => Some(verify::given_key(key)?),
            None => {
                let checkpoint = location.volume(number).ok().and_then(|volume| volume.checkpoint().ok());
                let origin = checkpoint.map(|(checkpoint, _)| checkpoint.origin);
                let name = origin.as_deref().and_then(volume::parse_origin).map(|(name, _)| name);
                name.and_then(verify::pinned_key_of)
            }
        };
        let Some(text) = text else { return Ok(None) };
        let key: VerifierKey = text.parse().map_err(|error| {
            Failure::unknown(format!("{text}: {}", chain(&error)))
                .hint("a vkey has the form <name>+<8 hexadecimal digits>+<base64>")
        })?;
        Ok(Some(of_volume(key, number)))
    }
}

/// The key under the name that it has in a volume. Volumes share their key as long as it is not rotated, each under its own origin: who
/// gave one of them means the ledger.
fn of_volume(key: VerifierKey, number: u64) -> VerifierKey {
    let Some((name, _)) = volume::parse_origin(key.name()) else { return key };
    VerifierKey::with_key(&volume::origin(name, number), key.key().clone()).unwrap_or(key)
}

/// Which record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Its index in the volume that is asked, or the newest.
    Index(RecordIndex),
    /// Its place.
    Place(u64, RecordIndex),
    /// Its stream, or its node where that has one stream, and number there.
    Stream(StreamName, Sequence),
}

impl Target {
    /// `17`, `2/17`, `ci/17`, `ci.<32 hexadecimal digits>/17`.
    pub(super) fn parse(text: &str) -> Result<Target, Failure> {
        let refuse = || {
            Failure::unknown(format!("{text:?} names no record"))
                .hint("give an index (17), a place (2/17: volume and index), or a stream and a number there (ci/17)")
        };
        let Some((left, right)) = text.rsplit_once('/') else {
            return Ok(Target::Index(RecordIndex(text.parse().map_err(|_| refuse())?)));
        };
        let number: u64 = right.parse().map_err(|_| refuse())?;
        match volume::parse_number(left) {
            Some(volume) => Ok(Target::Place(volume, RecordIndex(number))),
            None => Ok(Target::Stream(StreamName::parse(left).map_err(|_| refuse())?, Sequence(number))),
        }
    }

    /// The record, with the view that proves it.
    pub(super) fn find(&self, source: &Source, volume: Option<u64>) -> Result<(View, Proven), Failure> {
        let (view, index) = match self {
            Target::Index(index) => (source.open(volume)?, *index),
            Target::Place(place, index) => (source.open(Some(*place))?, *index),
            Target::Stream(stream, sequence) => {
                let here = source.volumes()?;
                let asked: Vec<u64> = match volume {
                    Some(volume) => vec![volume],
                    None => here.into_iter().rev().collect(),
                };
                let mut found = None;
                for number in asked {
                    let view = source.open(Some(number))?;
                    let index = index(&view)?;
                    let read = |index| view.bytes_of(index).map(|bytes| bytes.to_vec());
                    if let Some(index) = index.find::<ViewError>(stream, *sequence, read).map_err(|e| failure(&e))? {
                        found = Some((view, index));
                        break;
                    }
                }
                found.ok_or_else(|| {
                    let (name, number) = (stream.as_str(), sequence.0);
                    Failure::bad(format!("the ledger has no record {number} of stream {name}"))
                        .hint("a record that is durable is shown once a published checkpoint covers it")
                })?
            }
        };
        let proven = view.record(index).map_err(|error| failure(&error))?;
        Ok((view, proven))
    }
}

/// The index of a view's volume; what was wrong with it is told.
pub(super) fn index(view: &View) -> Result<Index, Failure> {
    let bar = Bar::new("records indexed");
    let progress = |done: u64, total: u64| {
        if total >= PROGRESS_FROM {
            bar.set(done, total);
        }
    };
    let index = view.index(&progress).map_err(|error| failure(&error))?;
    let Built { records, refused, unkept } = index.built();
    for (file, reason) in refused {
        say::error(format_args!("note: the index's {file} is {reason}: it was built again"));
    }
    if let Some(reason) = unkept {
        say::error(format_args!("note: the index is not kept, {records} records were read for it: {reason}"));
    }
    Ok(index)
}

/// A record as a line: place, time, type, stream and number, subject, the beginning of its data.
pub(super) fn line(proven: &Proven) -> String {
    let place = match proven.place.volume {
        1 => proven.place.index.to_string(),
        _ => proven.place.to_string(),
    };
    let Some(record) = read(proven) else { return format!("{place}  not a record") };
    let attribute = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
    let sequence = attribute("sequence");
    let stream = attribute("source");
    let data: String = record["data"].to_string();
    let mut shown: String = data.chars().take(DATA_SHOWN_MAX).collect();
    if shown.len() < data.len() {
        shown.push('…');
    }
    let number = sequence.trim_start_matches('0');
    format!(
        "{place}  {}  {}  {}/{}  {}  {shown}",
        attribute("time"),
        attribute("type"),
        stream.strip_prefix("/streams/").unwrap_or(&stream),
        if number.is_empty() { "0" } else { number },
        attribute("subject"),
    )
}

/// A record as JSON, with its proof.
pub(super) fn json(proven: &Proven) -> Value {
    json!({
        "volume": proven.place.volume,
        "index": proven.place.index,
        "leaf": proven.leaf,
        "record": read(proven),
        "proof": String::from_utf8_lossy(&proven.proof.to_bytes()),
    })
}

/// A record as JSON; none where the bytes are none.
pub(super) fn read(proven: &Proven) -> Option<Value> {
    serde_json::from_slice(&proven.bytes).ok()
}

/// Which checkpoint vouches, and whose key signed it.
pub(super) fn vouched(view: &View) -> String {
    let checkpoint = view.checkpoint();
    let (key, source) = view.key();
    let source = match source {
        KeySource::Given => "given by you",
        KeySource::Endorsed => "endorsed by the root key of the ledger whose key you gave",
        _ => "named by the ledger itself: the origin is not proven",
    };
    format!(
        "vouched for by checkpoint {} size {} root {}\nsigned by {key}, {source}",
        checkpoint.origin, checkpoint.size, checkpoint.root
    )
}

/// The same as JSON.
pub(super) fn vouched_json(view: &View) -> Value {
    let checkpoint = view.checkpoint();
    let (key, source) = view.key();
    let source = match source {
        KeySource::Given => "given",
        KeySource::Endorsed => "endorsed",
        _ => "ledger_opened",
    };
    json!({
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root,
        "key": { "vkey": key.to_string(), "source": source },
    })
}

/// What is not there or does not hold is bad; what cannot be read is not known.
pub(super) fn failure(error: &ViewError) -> Failure {
    let line = chain(error);
    match error {
        ViewError::Dir(DirError::Absent { .. } | DirError::NotALedger { .. }) => {
            Failure::unknown(line).hint("give a ledger's directory: the folder that holds `checkpoint`")
        }
        ViewError::Dir(DirError::Read { .. }) | ViewError::Index(IndexError::Ledger(DirError::Read { .. })) => {
            Failure::unknown(line)
        }
        ViewError::Index(IndexError::SeveralStreams { .. }) | ViewError::NoVolume { .. } => Failure::unknown(line),
        ViewError::NoRecord { .. } => {
            Failure::bad(line).hint("a record that is durable is shown once a published checkpoint covers it")
        }
        ViewError::Checkpoint { .. } => Failure::bad(line)
            .hint("was it signed with another key? `cairn verify` says more; --key takes the right one"),
        _ => Failure::bad(line).hint("run `cairn verify` on the ledger"),
    }
}

/// A path for messages.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_that_of_every_volume_that_did_not_change_it() {
        let key: VerifierKey =
            "ledger.example/1+0129fd45+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c".parse().unwrap();
        let second = of_volume(key.clone(), 2);
        assert_eq!((second.name(), second.key()), ("ledger.example/2", key.key()));
        assert_eq!(of_volume(second, 1), key);
    }

    #[test]
    fn records_are_named_in_three_ways() {
        assert_eq!(Target::parse("17").unwrap(), Target::Index(RecordIndex(17)));
        assert_eq!(Target::parse("2/17").unwrap(), Target::Place(2, RecordIndex(17)));
        let ci = StreamName::parse("ci").unwrap();
        assert_eq!(Target::parse("ci/17").unwrap(), Target::Stream(ci.clone(), Sequence(17)));
        assert_eq!(Target::parse("ci/00000000000000000017").unwrap(), Target::Stream(ci, Sequence(17)));
        let stream = format!("ci.{}/0", "ab".repeat(16));
        assert!(matches!(Target::parse(&stream).unwrap(), Target::Stream(..)));
        for bad in ["", "x", "ci/", "/1", "CI/1", "1/x", "-1"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
