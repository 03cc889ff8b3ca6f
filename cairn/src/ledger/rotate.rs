//! `cairn ledger rotate`, `drop`, `freeze` and `witnesses`: what changes a ledger as a whole. Each needs the ledger to itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::keys::{KeyFolder, KeysError};
use cairn_ledger::note::NoteSigner;
use cairn_ledger::random::SystemRandom;
use cairn_ledger::volume::{self, Place};
use cairn_ledger::writer::{ChangeError, Ledger, OpenError, ReadError, Restore, Rotation};
use cairn_schemas::data::VolumeReason;
use cairn_schemas::ids::TreeSize;
use cairn_schemas::record::Record;
use cairn_schemas::time::{Clock as _, Timestamp};
use cairn_schemas::types::RecordType;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::place::LedgerPlace;
use crate::clock::SystemClock;
use crate::failure::{Failure, chain};
use crate::{key, say};

/// How long a checkpoint is waited for that covers a change.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records read at once while a volume is looked through.
const READ_STEP: usize = 1_024;

/// Why a volume is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reason {
    /// Nothing is wrong: it was time, or it is large
    Rotated,
    /// It was put back from a backup
    Restored,
    /// Its bytes are damaged
    Damaged,
    /// Its key is lost, or somebody else may have it
    Keylost,
}

#[derive(Args)]
pub(crate) struct RotateArguments {
    #[command(flatten)]
    ledger: LedgerPlace,
    /// Why. Anything but `rotated` leaves the old volume untouched, as evidence
    #[arg(long, value_enum, default_value = "rotated")]
    reason: Reason,
    /// What to say about it; it stands in the new volume's first record
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Sign the new volume with a new key, made here; the root key must be in the key folder, or given with --root. Always so with
    /// `--reason keylost`
    #[arg(long)]
    new_key: bool,
    /// The root key's file, where it was moved away from the key folder
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct DropArguments {
    #[command(flatten)]
    ledger: LedgerPlace,
    #[command(flatten)]
    which: Which,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Drop all volumes before this one
    #[arg(long, value_name = "VOLUME")]
    before: Option<u64>,
    /// Drop the volumes that ended at least so many days ago, as in `365d`
    #[arg(long, value_name = "DAYS", value_parser = days)]
    older_than: Option<Duration>,
}

#[derive(Args)]
pub(crate) struct FreezeArguments {
    #[command(flatten)]
    ledger: LedgerPlace,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct WitnessesArguments {
    #[command(flatten)]
    ledger: LedgerPlace,
    /// The policy from here on, a C2SP tlog-policy file; without it there are no witnesses from here on
    policy: Option<PathBuf>,
    /// The root key's file, where it was moved away from the key folder
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn days(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('d').unwrap_or(text);
    let days: u64 = number.parse().map_err(|_| format!("{text:?} is not a number of days, as in 365d"))?;
    days.checked_mul(86_400).map(Duration::from_secs).ok_or_else(|| format!("{text:?} is more than a clock can say"))
}

/// What goes wrong with a ledger as a whole, with what to do about it.
pub(crate) fn open_failure(ledger: &Path, error: &OpenError) -> Failure {
    let failure = Failure::unknown(format!("{}: {}", ledger.display(), chain(error)));
    match error.remedy() {
        Some(remedy) => failure.hint(remedy.replace("LEDGER", &ledger.display().to_string())),
        None => failure,
    }
}

pub(crate) fn keys_failure(error: &KeysError) -> Failure {
    let hint = match error {
        KeysError::Missing { path } if path.ends_with("root.key") => {
            "the root key has the last word on keys and witnesses: bring it, or name its file with --root"
        }
        KeysError::Missing { .. } => {
            "put it back; where it is lost, `cairn ledger rotate LEDGER --reason keylost` opens a new volume with another one"
        }
        _ => "a key file holds one secret in the form that `cairn key show` tells",
    };
    Failure::unknown(chain(error)).hint(hint)
}

pub(crate) fn change_failure(ledger: &Path, error: &ChangeError) -> Failure {
    let failure = Failure::bad(format!("{}: {}", ledger.display(), chain(error)));
    match error {
        ChangeError::Full { .. } => failure.hint("make room on the ledger's disk; nothing was changed"),
        ChangeError::Stopped { .. } => {
            failure.hint("run it again: opening the ledger finds out how far it came, and goes on")
        }
        ChangeError::Key { .. } => failure.hint("the root key of this ledger must say so: see `cairn key show`"),
        _ => failure,
    }
}

/// The ledger's keys, and the ledger open for a change.
fn open(place: &LedgerPlace) -> Result<(KeyFolder, Ledger), Failure> {
    let keys = place.keys()?;
    let ledger = place.open(&keys)?;
    Ok((keys, ledger))
}

fn sure_of(ledger: &Ledger, path: &Path, volume: u64, size: TreeSize) -> Result<(), Failure> {
    if ledger.wait_published_in(volume, size, PATIENCE) {
        return Ok(());
    }
    let message = format!("{}: it is recorded, and no checkpoint covers it yet", path.display());
    Err(Failure::unknown(message).hint("is its disk full? the next opening publishes it"))
}

pub(crate) fn rotate(arguments: &RotateArguments) -> Result<ExitCode, Failure> {
    let path = arguments.ledger.shown();
    let reason = match arguments.reason {
        Reason::Rotated => return rotate_whole(arguments),
        Reason::Restored => VolumeReason::Restored,
        Reason::Damaged => VolumeReason::Damaged,
        Reason::Keylost => VolumeReason::KeyLost,
    };
    let dir = arguments.ledger.directory(
        "copy it with `cairn ledger mirror` and open the next volume over the copy; a bucket itself is never put back from a backup",
    )?;
    let keys = arguments.ledger.keys()?;
    let new_key = arguments.new_key || reason == VolumeReason::KeyLost;
    let newest = arguments.ledger.volumes().last().copied().unwrap_or(1);
    let (signer, endorsement) = if new_key {
        let root = key::root(&keys, arguments.root.as_deref())?;
        let name = key::name_of(&root)?;
        let (signer, endorsement) = next_key(&keys, &root, &volume::origin(&name, newest + 1))?;
        (signer, Some(endorsement))
    } else {
        (keys.ledger().map_err(|error| keys_failure(&error))?, None)
    };
    let restore = Restore { reason, note: arguments.note.clone(), signer, endorsement };
    let (ledger, restored) =
        Ledger::restore(dir, restore, Arc::new(SystemClock)).map_err(|error| open_failure(path, &error))?;
    let kept = if new_key { adopt(path, &keys, &ledger)? } else { None };
    let origin = ledger.origin();
    ledger.close();
    if arguments.json {
        say::line(json!({
            "volume": restored.volume,
            "origin": origin,
            "left": restored.left,
            "size": restored.size,
            "damaged": restored.damaged,
            "again": restored.again,
            "key": ledger.key(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    say::line(format_args!("opened  volume {} of {}, {origin}", restored.volume, path.display()));
    say::line(format_args!(
        "        volume {} stays as it is; its first {} records belong to the ledger",
        restored.left, restored.size
    ));
    if !restored.damaged.is_empty() {
        say::line(format_args!(
            "        {} of them cannot be read, the first at {}",
            restored.damaged.len(),
            restored.damaged[0]
        ));
    }
    if restored.again > 0 {
        say::line(format_args!("        {} records that stood behind them were written again", restored.again));
    }
    say_key(&ledger, new_key, kept.as_deref());
    Ok(ExitCode::SUCCESS)
}

/// Ends a volume with which nothing is wrong.
fn rotate_whole(arguments: &RotateArguments) -> Result<ExitCode, Failure> {
    let path = arguments.ledger.shown();
    let (keys, ledger) = open(&arguments.ledger)?;
    let (signer, endorsement) = if arguments.new_key {
        let root = key::root(&keys, arguments.root.as_deref())?;
        let origin = volume::origin(&key::name_of(&root)?, ledger.volume() + 1);
        let (signer, endorsement) = next_key(&keys, &root, &origin)?;
        (Some(signer), Some(endorsement))
    } else {
        (None, None)
    };
    let rotation = Rotation { note: arguments.note.clone(), signer, endorsement };
    let volume = ledger.rotate(rotation).map_err(|error| change_failure(path, &error))?;
    let kept = if arguments.new_key { adopt(path, &keys, &ledger)? } else { None };
    let (before, size) = *ledger.volumes().iter().rev().nth(1).unwrap_or(&(volume - 1, TreeSize(0)));
    ledger.close();
    if arguments.json {
        let origin = ledger.origin();
        say::line(json!({ "volume": volume, "origin": origin, "left": before, "size": size, "key": ledger.key() }));
        return Ok(ExitCode::SUCCESS);
    }
    say::line(format_args!("opened  volume {volume} of {}, {}", path.display(), ledger.origin()));
    say::line(format_args!("        volume {before} is closed with {size} records; streams go on"));
    say_key(&ledger, arguments.new_key, kept.as_deref());
    Ok(ExitCode::SUCCESS)
}

fn say_key(ledger: &Ledger, new: bool, kept: Option<&Path>) {
    if new {
        say::line(format_args!("        its checkpoints are signed by a new key: {}", ledger.key()));
        if let Some(kept) = kept {
            say::line(format_args!("        the old one is kept in {}", kept.display()));
        }
    }
}

/// A new key, durable in its file, and the root key's word for it.
fn next_key(keys: &KeyFolder, root: &NoteSigner, origin: &str) -> Result<(NoteSigner, String), Failure> {
    let signer = keys.make_next_ledger(origin, &SystemRandom).map_err(|error| keys_failure(&error))?;
    key::endorse(root, &signer, origin)
}

/// The new key takes the old one's place, in the key folder and in the fleet's file.
fn adopt(path: &Path, keys: &KeyFolder, ledger: &Ledger) -> Result<Option<PathBuf>, Failure> {
    key::adopt(path, keys, &ledger.key())
}

pub(crate) fn drop_volumes(arguments: &DropArguments) -> Result<ExitCode, Failure> {
    let path = arguments.ledger.shown();
    let (_, ledger) = open(&arguments.ledger)?;
    let failed = |error: ReadError| Failure::unknown(format!("{}: {}", path.display(), chain(&error)));
    let before = match (arguments.which.before, arguments.which.older_than) {
        (Some(before), _) => before,
        (None, Some(age)) => before_age(&ledger, age, SystemClock.now()).map_err(failed)?,
        (None, None) => 1,
    };
    if let Some(reason) = still_needed(&ledger, before).map_err(failed)? {
        let failure = Failure::bad(format!("{}: {reason}", path.display()));
        return Err(failure.hint("a release is built again before it expires: drop the volume after that"));
    }
    let dropped = ledger.drop_before(before).map_err(|error| change_failure(path, &error))?;
    ledger.close();
    let left: Vec<u64> = ledger.volumes().iter().map(|(volume, _)| *volume).collect();
    if arguments.json {
        say::line(json!({ "dropped": dropped, "volumes": left }));
        return Ok(ExitCode::SUCCESS);
    }
    for volume in &dropped {
        say::line(format_args!("dropped volume {volume}"));
    }
    if dropped.is_empty() {
        say::line("nothing to drop");
    }
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    say::line(format_args!("        here are: {}", left.join(", ")));
    Ok(ExitCode::SUCCESS)
}

/// The first volume to keep: a volume ended when the next one began.
fn before_age(ledger: &Ledger, age: Duration, now: Timestamp) -> Result<u64, ReadError> {
    let mut before = ledger.start().volume;
    for (volume, _) in ledger.volumes().into_iter().skip(1) {
        let first = ledger.read_from(Place::start_of(volume), 1)?;
        let began = first.first().and_then(|(_, bytes)| Record::parse(bytes).ok()).map(|record| record.time);
        match began {
            Some(began) if now > began && now.since(began) >= age => before = volume,
            _ => break,
        }
    }
    Ok(before)
}

/// Why a volume before `before` cannot be dropped yet: the release in force was recorded in one, and in none after them.
fn still_needed(ledger: &Ledger, before: u64) -> Result<Option<String>, ReadError> {
    let mut newest = None;
    let mut next = ledger.start();
    loop {
        let entries = ledger.read_from(next, READ_STEP)?;
        let Some((last, _)) = entries.last() else { break };
        next = last.plus(1);
        for (place, bytes) in &entries {
            // Few records are looked into.
            let named = bytes.windows(22).any(|window| window == b"cairn.release.built.v1");
            if named && Record::parse(bytes).is_ok_and(|record| record.kind == RecordType::ReleaseBuilt) {
                newest = Some(*place);
            }
        }
    }
    let needed = newest.filter(|place| place.volume < before);
    Ok(needed.map(|place| format!("the newest release was recorded at {place}, and in no later volume")))
}

pub(crate) fn freeze(arguments: &FreezeArguments) -> Result<ExitCode, Failure> {
    let path = arguments.ledger.shown();
    let (_, ledger) = open(&arguments.ledger)?;
    let place = ledger.freeze(&arguments.reason).map_err(|error| change_failure(path, &error))?;
    ledger.close();
    if arguments.json {
        say::line(json!({ "volume": place.volume, "index": place.index, "reason": arguments.reason }));
        return Ok(ExitCode::SUCCESS);
    }
    say::line(format_args!("frozen  {}, by record {}", path.display(), super::append::place(place)));
    say::line(format_args!(
        "        it takes nothing more, for good; it is read and verified as before: cairn verify {}",
        path.display()
    ));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn witnesses(arguments: &WitnessesArguments) -> Result<ExitCode, Failure> {
    let path = arguments.ledger.shown();
    let policy = arguments.policy.as_ref().map(|file| {
        std::fs::read_to_string(file).map_err(|error| {
            Failure::unknown(format!("{}: {error}", file.display())).hint("give a C2SP tlog-policy file")
        })
    });
    let policy = policy.transpose()?;
    let (keys, ledger) = open(&arguments.ledger)?;
    let root = key::root(&keys, arguments.root.as_deref())?;
    let word = Endorsement::of_policy(&key::name_of(&root)?, policy.as_deref());
    let word = word.sign(&root).map_err(|error| Failure::bad(chain(&error)))?;
    let place = ledger.change_witnesses(policy.as_deref(), &word).map_err(|error| change_failure(path, &error))?;
    sure_of(&ledger, path, place.volume, place.index.size_with())?;
    ledger.close();
    if arguments.json {
        say::line(json!({ "volume": place.volume, "index": place.index, "policy": policy }));
        return Ok(ExitCode::SUCCESS);
    }
    let what = if policy.is_some() { "another witness policy" } else { "no witnesses" };
    say::line(format_args!("changed {} has {what} from record {} on", path.display(), super::append::place(place)));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        assert_eq!(days("365d"), Ok(Duration::from_secs(365 * 86_400)));
        assert_eq!(days("1"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "d", "1y", "-1d", "99999999999999999999d", "999999999999999999d"] {
            assert!(days(bad).is_err(), "{bad}");
        }
    }
}
