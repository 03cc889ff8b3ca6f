//! `cairn key`: a ledger's keys. No secret is ever printed.
//!
//! The keys lie beside the ledger, never in it: in `keys/` where a `fleet.yaml` is there, else in `<LEDGER>.keys/`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::keys::{KeyFolder, KeysError};
use cairn_ledger::note::{NoteSigner, VerifierKey};
use cairn_ledger::random::SystemRandom;
use cairn_ledger::volume;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::failure::{Failure, chain};
use crate::ledger::place::LedgerPlace;
use crate::ledger::rotate::{change_failure, keys_failure};
use crate::say;

/// How long a checkpoint is waited for that the new key signs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Work with a ledger's keys
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the keys that a new ledger needs; those that are there stay
    New(NewArguments),
    /// Show a ledger's public keys, and where the secrets lie
    Show(ShowArguments),
    /// Sign checkpoints with a new key from here on
    Rotate(RotateArguments),
}

#[derive(Args)]
pub(crate) struct NewArguments {
    #[command(flatten)]
    ledger: LedgerPlace,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    ledger: LedgerPlace,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RotateArguments {
    #[command(flatten)]
    ledger: LedgerPlace,
    /// The root key's file, where it was moved away from the key folder
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::New(arguments) => new(arguments),
        Command::Show(arguments) => show(&arguments.ledger, arguments.json),
        Command::Rotate(arguments) => rotate(arguments),
    }
}

/// The root key, from its file or from the key folder.
pub(crate) fn root(keys: &KeyFolder, file: Option<&Path>) -> Result<NoteSigner, Failure> {
    let Some(file) = file else { return keys.root().map_err(|error| keys_failure(&error)) };
    let text =
        std::fs::read_to_string(file).map_err(|error| Failure::unknown(format!("{}: {error}", file.display())))?;
    NoteSigner::from_text(text.trim())
        .map_err(|error| Failure::unknown(format!("{}: {}", file.display(), chain(&error))))
}

/// The name of the ledger that a root key is of.
pub(crate) fn name_of(root: &NoteSigner) -> Result<String, Failure> {
    let name = root.verifier().name();
    name.strip_suffix("/root")
        .map(str::to_owned)
        .ok_or_else(|| Failure::unknown(format!("{name} is not the name of a root key: it does not end in /root")))
}

/// The root key's word that a key signs the volume `origin`.
pub(crate) fn endorse(root: &NoteSigner, signer: &NoteSigner, origin: &str) -> Result<(NoteSigner, String), Failure> {
    let signer = signer.renamed(origin).map_err(|error| Failure::bad(chain(&error)))?;
    let word = Endorsement::LedgerKey { key: signer.verifier().clone(), second: signer.second().cloned() };
    let word = word.sign(root).map_err(|error| Failure::bad(chain(&error)))?;
    Ok((signer, word))
}

/// The new key takes the old one's place, in the key folder and in `fleet.yaml`. Gives the old key's file.
pub(crate) fn adopt(ledger: &Path, keys: &KeyFolder, vkey: &str) -> Result<Option<PathBuf>, Failure> {
    let kept = keys.adopt_next_ledger().map_err(|error| keys_failure(&error))?;
    if keys.is_fleets() {
        let fleet = keys.path().with_file_name("fleet.yaml");
        cairn_reconciler::setup::replace_ledger_key(&fleet, vkey)
            .map_err(|error| Failure::bad(format!("{}: {}", ledger.display(), chain(&error))))?;
    }
    Ok(kept)
}

fn new(arguments: &NewArguments) -> Result<ExitCode, Failure> {
    let path = arguments.ledger.shown();
    let keys = arguments.ledger.keys()?;
    if keys.is_fleets() {
        let failure = Failure::bad(format!("{}: the keys beside it are a fleet's", path.display()));
        return Err(failure.hint("`cairn up` makes them"));
    }
    if !arguments.ledger.volumes().is_empty() && !keys.has_ledger_key().map_err(|error| keys_failure(&error))? {
        let failure = Failure::bad(format!(
            "{}: there is a ledger, and its key is not in {}",
            path.display(),
            keys.path().display()
        ));
        return Err(failure.hint("put its key back; where it is lost, `cairn ledger rotate LEDGER --reason keylost`"));
    }
    keys.make(&SystemRandom).map_err(|error| keys_failure(&error))?;
    show(&arguments.ledger, arguments.json)
}

fn show(place: &LedgerPlace, as_json: bool) -> Result<ExitCode, Failure> {
    let (path, keys) = (place.shown(), place.keys()?);
    let public = |signer: Result<NoteSigner, KeysError>| match signer {
        Ok(signer) => Ok(Some(signer.verifier().to_string())),
        Err(KeysError::Missing { .. }) => Ok(None),
        Err(error) => Err(keys_failure(&error)),
    };
    let root = public(keys.root())?;
    let ledger = public(keys.ledger())?;
    let next = keys.next_ledger().map_err(|error| keys_failure(&error))?.map(|signer| signer.verifier().to_string());
    let second = keys.ledger().ok().and_then(|signer| signer.second().map(ToString::to_string));
    let control = match keys.control() {
        Ok(key) => Some(cairn_ledger::head::format_key(&key.verifying_key())),
        Err(KeysError::Missing { .. }) => None,
        Err(error) => return Err(keys_failure(&error)),
    };
    let release = keys.load().ok().map(|keys| keys.release);
    if root.is_none() && ledger.is_none() && control.is_none() {
        let failure = Failure::unknown(format!("{}: there are no keys", keys.path().display()));
        return Err(failure.hint(format!("`cairn key new {}` makes them", path.display())));
    }
    let rows = [
        ("root", root, "authorises other keys and witnesses; move it off this machine"),
        ("ledger", ledger, "signs checkpoints"),
        ("ledger, second", second, "signs checkpoints, ML-DSA-44"),
        ("ledger, next", next, "a change of keys was interrupted: `cairn key rotate` goes on with it"),
        ("control", control, "signs the control stream's heads"),
        ("release", release, "signs releases"),
    ];
    if as_json {
        let mut shown = serde_json::Map::from_iter([("folder".to_owned(), json!(keys.path()))]);
        for (what, key, _) in rows {
            shown.insert(what.replace(", ", "_"), key.map_or(Value::Null, Value::from));
        }
        say::line(Value::Object(shown));
        return Ok(ExitCode::SUCCESS);
    }
    say::line(format_args!("keys    {}", keys.path().display()));
    for (what, key, use_of) in rows {
        match key {
            Some(key) => {
                say::line(format_args!("{what:<15} {}  ({use_of})", key.trim().replace('\n', "\n                ")))
            }
            None if what == "root" => say::line(format_args!("{what:<15} not here  ({use_of})")),
            None => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rotate(arguments: &RotateArguments) -> Result<ExitCode, Failure> {
    let path = arguments.ledger.shown();
    let keys = arguments.ledger.keys()?;
    let ledger = arguments.ledger.open(&keys)?;
    let same = |vkey: &str, signer: &NoteSigner| {
        vkey.parse::<VerifierKey>().is_ok_and(|key| key.key() == signer.verifier().key())
    };
    // A change that a crash cut short behind its record is finished, and no other one is made.
    let before = ledger.key();
    let next = keys.next_ledger().map_err(|error| keys_failure(&error))?;
    let interrupted = next.is_some_and(|next| same(&before, &next));
    let place = if interrupted {
        None
    } else {
        let root = root(&keys, arguments.root.as_deref())?;
        let origin = volume::origin(&name_of(&root)?, ledger.volume());
        let next = keys.make_next_ledger(&origin, &SystemRandom).map_err(|error| keys_failure(&error))?;
        let (signer, word) = endorse(&root, &next, &origin)?;
        let place = ledger
            .rotate_key(&signer, &word, arguments.reason.as_deref())
            .map_err(|error| change_failure(path, &error))?;
        if !ledger.wait_published_in(place.volume, place.index.size_with(), PATIENCE) {
            return Err(Failure::unknown(format!("{}: it is recorded, and not published yet", path.display()))
                .hint("is its disk full? run it again"));
        }
        Some(place)
    };
    let (key, size) = (ledger.key(), ledger.checkpoint().size);
    ledger.close();
    let kept = adopt(path, &keys, &key)?;
    if arguments.json {
        say::line(json!({
            "key": key,
            "volume": ledger.volume(),
            "index": place.map(|place| place.index),
            "resumed": interrupted,
            "old_key_file": kept,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let resumed = if interrupted { ", a change that was interrupted before" } else { "" };
    say::line(format_args!("rotated {}{resumed}", path.display()));
    say::line(format_args!("        checkpoints are signed by {key}"));
    match place {
        Some(place) => {
            say::line(format_args!("        from record {} on; the newest covers {size} records", place.index))
        }
        None => say::line(format_args!("        the newest covers {size} records")),
    }
    if let Some(kept) = kept {
        say::line(format_args!("        the old key is kept in {}", kept.display()));
    }
    say::line("        whoever pinned the old key pins the new one; the root key's word for it stands in the ledger");
    Ok(ExitCode::SUCCESS)
}
