//! Erasing in a ledger by itself: the vault destroys keys, the control stream says so.
//!
//! Keys go first and the record follows ([`crate::vault::Vault::destroy`] has the order); what was interrupted is finished by the next
//! call. The encrypted bytes of blobs are removed last, when a checkpoint covers the record: until then a missing blob would be
//! unexplained, and after it nobody can read them anyway.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_schemas::commitment::{Commitment, KeyId};
use cairn_schemas::data::{ErasureReason, PrivacyDisclosed};
use cairn_schemas::record::Draft;

use super::{LocalError, LocalLedger, Recorded};
use crate::beside::beside;
use crate::blob;
use crate::vault::{Erasure, VAULT_SUFFIX, Vault, VaultError};
use crate::volume::Place;

/// How long a checkpoint is waited for that covers the record of an erasure. Without it the next start finishes what is left.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys that are destroyed, and the record that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// The keys.
    pub keys: Vec<KeyId>,
    /// Why.
    pub reason: ErasureReason,
    /// Where the record stands.
    pub place: Place,
    /// Whether it had begun before, and was interrupted.
    pub resumed: bool,
}

impl LocalLedger {
    /// Whether there is a vault beside the ledger at `path`.
    ///
    /// # Errors
    /// [`LocalError::VaultPath`].
    pub fn has_vault(&self, path: &Path) -> Result<bool, LocalError> {
        Ok(beside(path, VAULT_SUFFIX).map_err(LocalError::VaultPath)?.is_dir())
    }

    /// The vault beside the ledger at `path`; made where there is none.
    ///
    /// # Errors
    /// [`LocalError::Vault`].
    pub fn vault(&self, path: &Path) -> Result<Vault, LocalError> {
        let folder = beside(path, VAULT_SUFFIX).map_err(LocalError::VaultPath)?;
        Ok(Vault::open(&folder, Arc::clone(&self.random))?)
    }

    /// Finishes the erasures that began and were interrupted. To be done before anything else is done with a vault.
    ///
    /// # Errors
    /// [`LocalError::Vault`], or the ledger does not take the record: then they are still to be finished.
    pub fn finish_erasures(&self, vault: &Vault) -> Result<Vec<Erased>, LocalError> {
        vault.pending()?.iter().map(|erasure| self.carry_out(vault, erasure, true)).collect()
    }

    /// Destroys keys, and records it. What was interrupted before is finished first, and told too.
    ///
    /// # Errors
    /// As [`LocalLedger::finish_erasures`]; [`VaultError::NoKey`] where one of the keys is not there: then nothing new is destroyed.
    pub fn erase(
        &self,
        vault: &Vault,
        keys: &[KeyId],
        reason: ErasureReason,
        ticket: Option<&str>,
    ) -> Result<Vec<Erased>, LocalError> {
        let mut erased = self.finish_erasures(vault)?;
        // An interrupted erasure of the same keys was this very one.
        let done: BTreeSet<KeyId> = erased.iter().flat_map(|erased| erased.keys.iter().copied()).collect();
        let keys: Vec<KeyId> = keys.iter().copied().filter(|key| !done.contains(key)).collect();
        if !keys.is_empty() {
            for erasure in vault.begin_erasure(&keys, reason, ticket)? {
                erased.push(self.carry_out(vault, &erasure, false)?);
            }
        }
        Ok(erased)
    }

    fn carry_out(&self, vault: &Vault, erasure: &Erasure, resumed: bool) -> Result<Erased, LocalError> {
        vault.destroy(erasure)?;
        let mut control = self.control()?;
        let place = match self.ledger.foreign(control.stream(), &erasure.foreignid()) {
            // Recorded before a crash came between the record and what forgets the erasure.
            Some(place) => place,
            None => single(control.append(vec![erasure.draft()])?).place,
        };
        // Only then is it forgotten here: until a checkpoint covers the record, whoever reads the ledger does not see it, and whoever
        // reads the vault must see why values are gone.
        control.finish(PATIENCE)?;
        vault.recorded(erasure)?;
        Ok(Erased { keys: erasure.keys().to_vec(), reason: erasure.reason(), place, resumed })
    }

    /// Records that values under these keys are shown, before they are.
    ///
    /// # Errors
    /// The ledger does not take the record.
    pub fn record_disclosure(
        &self,
        commitments: &[Commitment],
        purpose: &str,
        ticket: Option<&str>,
    ) -> Result<Recorded, LocalError> {
        let keys: BTreeSet<KeyId> = commitments.iter().map(|commitment| commitment.key).collect();
        let disclosed = PrivacyDisclosed {
            keys: keys.into_iter().collect(),
            values: commitments.len() as u64,
            purpose: purpose.to_owned(),
            ticket: ticket.map(ToOwned::to_owned),
        };
        Ok(single(self.control()?.append(vec![Draft::new(&disclosed)])?))
    }

    /// Removes the encrypted bytes of the blobs under erased keys from the ledger at `path`. Returns how many. A checkpoint covers
    /// the erasures' records already.
    ///
    /// # Errors
    /// A file cannot be removed: nothing is wrong then, but that it is still there.
    pub fn remove_erased_blobs(&self, path: &Path, erased: &[Erased]) -> Result<u64, LocalError> {
        let keys: BTreeSet<KeyId> = erased.iter().flat_map(|erased| erased.keys.iter().copied()).collect();
        if keys.is_empty() { Ok(0) } else { Ok(blob::remove_under(path, &keys)?) }
    }
}

fn single(recorded: Vec<Recorded>) -> Recorded {
    recorded.into_iter().next().expect("invariant: one record was appended, and each has its place")
}

impl From<VaultError> for LocalError {
    fn from(error: VaultError) -> LocalError {
        LocalError::Vault(error)
    }
}
