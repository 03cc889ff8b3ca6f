//! A ledger on the command line: a directory, or `s3://bucket/prefix`, and where the keys of one in a bucket are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use cairn_ledger::keys::KeyFolder;
use cairn_ledger::location::Location;
use cairn_ledger::view;
use cairn_ledger::writer::{Address, Ledger, OpenError};
use clap::Args;

use super::rotate::{keys_failure, open_failure};
use crate::clock::SystemClock;
use crate::failure::{Failure, chain};

/// A ledger that a command changes.
#[derive(Args)]
pub(crate) struct LedgerPlace {
    /// The ledger's directory, or s3://bucket/prefix
    #[arg(value_name = "LEDGER")]
    ledger: Named,
    /// The folder of the ledger's keys, for a ledger in a bucket: nothing lies beside one. A fleet's is `keys` beside its fleet.yaml
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
}

/// An address as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    address: Address,
    /// As it was written, with what follows the prefix of a bucket left out.
    shown: PathBuf,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        let address = text.parse::<Address>().map_err(|error| error.to_string())?;
        let shown = address.to_string().into();
        Ok(Named { address, shown })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Named {
    /// What people are told that it is.
    pub(crate) fn shown(&self) -> &Path {
        &self.shown
    }

    /// Where it is read.
    pub(crate) fn location(&self) -> Result<Location, Failure> {
        Location::of(&self.address).map_err(|error| super::answer::failure(&error.into()))
    }
}

/// `--keys` with a directory.
pub(crate) fn keys_are_beside() -> Failure {
    Failure::unknown("--keys is for a ledger in a bucket").hint("the keys of a ledger in a directory are beside it")
}

/// A bucket without `--keys`.
pub(crate) fn no_keys() -> Failure {
    Failure::unknown("a ledger in a bucket has no place beside it for its keys").hint("name their folder with --keys")
}

/// A bucket as the fleet whose keys these are names it, with how long its objects are locked; else as it was written.
pub(crate) fn as_fleet_says(address: &Address, keys: &KeyFolder) -> Result<Address, Failure> {
    if !keys.is_fleets() || matches!(address, Address::Dir(_)) {
        return Ok(address.clone());
    }
    let fleet = keys.path().with_file_name("fleet.yaml");
    let named = cairn_reconciler::setup::ledger_address(&fleet).map_err(|error| Failure::bad(chain(&error)))?;
    match named.filter(|named| named.to_string() == address.to_string()) {
        Some(named) => Ok(named),
        None => Err(Failure::bad(format!("{address} is not the ledger that {} names", fleet.display()))
            .hint("give the keys of this ledger")),
    }
}

impl LedgerPlace {
    /// What people are told that it is.
    pub(crate) fn shown(&self) -> &Path {
        self.ledger.shown()
    }

    /// The directory; a ledger in a bucket is refused with `why`.
    pub(crate) fn directory(&self, why: &'static str) -> Result<&Path, Failure> {
        match &self.ledger.address {
            Address::Dir(dir) => Ok(dir),
            address => Err(Failure::unknown(format!("{address} lies in a bucket")).hint(why)),
        }
    }

    /// The folder of its keys.
    pub(crate) fn keys(&self) -> Result<KeyFolder, Failure> {
        match (&self.ledger.address, &self.keys) {
            (Address::Dir(dir), None) => KeyFolder::of(dir).map_err(|error| keys_failure(&error)),
            (Address::Dir(_), Some(_)) => Err(keys_are_beside()),
            (_, Some(keys)) => Ok(KeyFolder::given(keys.clone())),
            (_, None) => Err(no_keys()),
        }
    }

    /// Where it is written. A fleet's `fleet.yaml` says what its objects are locked for: who names the bucket alone means that too.
    fn address(&self, keys: &KeyFolder) -> Result<Address, Failure> {
        as_fleet_says(&self.ledger.address, keys)
    }

    /// The ledger open for a change, with whatever keys are there.
    pub(crate) fn open(&self, keys: &KeyFolder) -> Result<Ledger, Failure> {
        let shown = self.shown();
        if matches!(&self.ledger.address, Address::Dir(dir) if !dir.is_dir()) {
            return Err(open_failure(shown, &OpenError::NoLedger));
        }
        let signers = keys.ledger_signers().map_err(|error| keys_failure(&error))?;
        let address = self.address(keys)?;
        Ledger::open_at(&address, signers, Arc::new(SystemClock)).map_err(|error| open_failure(shown, &error))
    }

    /// The volumes that there are, none where they cannot be read.
    pub(crate) fn volumes(&self) -> Vec<u64> {
        let location = Location::of(&self.ledger.address).ok();
        location.and_then(|location| view::volumes(&location).ok()).unwrap_or_default()
    }
}
