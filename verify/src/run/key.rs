//! The key that everything hangs on, and who named it.

use cairn_ledger::dir::CHECKPOINT_FILE;
use cairn_ledger::note::VerifierKey;
use cairn_ledger::volume::parse_origin;
use cairn_schemas::ids::{RecordIndex, TreeSize};

use super::Run;
use super::volumes::Volume;
use crate::checkpoints;
use crate::checks::Past;
use crate::life::Windows;
use crate::report::{Fault, FaultKind, Found, KeySource, KeyUsed};

impl Run<'_> {
    /// The key that everything hangs on: the caller's, which must be one of the ledger's and have signed a checkpoint that holds; else
    /// the newest one that the ledger names.
    pub(super) fn used(
        &self,
        past: &[Past<'_>],
        holding: &[(u64, TreeSize)],
        volumes: &[Volume],
        found: &mut Found,
    ) -> Option<KeyUsed> {
        let newest = past.last()?;
        let own = newest.windows.as_ref().and_then(|windows| windows.at(newest.size)).map(|window| &window.key);
        let Some(given) = self.key else {
            return own.map(|key| KeyUsed { vkey: key.to_string(), source: KeySource::LedgerOpened });
        };
        let used = Some(KeyUsed { vkey: given.to_string(), source: KeySource::Given });
        let name = |name: &str| parse_origin(name).map(|(name, _)| name.to_owned());
        let is_it = |key: &VerifierKey| key.key() == given.key() && name(key.name()) == name(given.name());
        let windows = |past: &Past<'_>| {
            past.windows.as_ref().map_or(0, |windows| windows.iter().filter(|w| is_it(&w.key)).count())
        };
        found.enter(newest.volume);
        if past.iter().all(|past| windows(past) == 0) {
            if let Some(own) = own {
                found.fault(key_mismatch(given, &own.to_string()));
            }
            if let Some(published) = volumes.last().and_then(|newest| newest.published.as_ref()) {
                checkpoints::check_signature(published, &Windows::of(given.clone()), found);
            }
            return used;
        }
        // A key that a record names has shown nothing yet; one that signed a checkpoint of this history vouches for all before it, and
        // through the root key that record 0 names for all after it.
        let signed = holding.iter().any(|(volume, size)| {
            let past = past.iter().find(|past| past.volume == *volume);
            let window = past.and_then(|past| past.windows.as_ref()?.at(*size));
            window.is_some_and(|window| is_it(&window.key))
        });
        if !signed {
            let reason = format!("no checkpoint that is here and holds is signed by {given}");
            found.fault(Fault::new(FaultKind::CheckpointSignature, reason).file(CHECKPOINT_FILE));
        }
        used
    }
}

pub(super) fn key_mismatch(given: &VerifierKey, own: &str) -> Fault {
    let reason = format!("the key to verify with is {given}; the ledger was opened with {own}");
    Fault::new(FaultKind::KeyMismatch, reason).index(RecordIndex(0))
}
