//! A ledger by itself that lies in a bucket. Nothing lies beside a bucket, so its keys are in a folder that is named.

use std::sync::Arc;

use cairn_schemas::time::Clock;

use super::{LocalError, LocalLedger, opening};
use crate::files;
use crate::keys::{KeyFolder, LOCAL_FOLDER};
use crate::random::Random;
use crate::s3::Place;
use crate::writer::{Address, Ledger, OpenError};

impl LocalLedger {
    /// Opens the ledger in a bucket, with its keys in `keys`.
    ///
    /// # Errors
    /// As [`LocalLedger::open`].
    pub fn open_in_bucket(
        place: &Place,
        keys: KeyFolder,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<LocalLedger, LocalError> {
        let ledger = Ledger::open_at(&Address::S3(place.clone()), keys.ledger_signers()?, Arc::clone(&clock))?;
        LocalLedger::with(ledger, keys, false, clock, random)
    }

    /// Opens the ledger in a bucket, or makes it, with its keys in `keys`.
    ///
    /// # Errors
    /// As [`LocalLedger::open_or_create`].
    pub fn open_or_create_in_bucket(
        place: &Place,
        keys: KeyFolder,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<LocalLedger, LocalError> {
        let address = Address::S3(place.clone());
        if keys.has_ledger_key()? {
            match Ledger::open_at(&address, keys.ledger_signers()?, Arc::clone(&clock)) {
                Err(OpenError::NoLedger) => {}
                opened => return LocalLedger::with(opened?, keys, false, clock, random),
            }
        }
        if keys.is_fleets() {
            return Err(LocalError::FleetFirst { path: place.to_string().into() });
        }
        if !files::names(&keys.path().join(LOCAL_FOLDER))?.is_empty() {
            let path = place.to_string().into();
            return Err(LocalError::Gone { path, keys: keys.path().to_owned() });
        }
        let made = keys.make(&*random)?;
        let opened = opening(&made);
        let ledger = Ledger::create_at(&address, &opened, made.ledger, Arc::clone(&clock))?;
        LocalLedger::with(ledger, keys, true, clock, random)
    }
}
