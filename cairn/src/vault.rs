//! The vault beside a ledger, as `cairn verify --vault` asks it.

use std::io;
use std::path::Path;

use cairn_ledger::vault::{VaultDir, VaultError};
use cairn_schemas::commitment::{Commitment, KeyId};
use cairn_verify::{Disclosures, Opened};

use crate::failure::chain;

/// A vault that is only read.
pub(crate) struct OwnersVault(VaultDir);

impl OwnersVault {
    /// The vault in this folder.
    ///
    /// # Errors
    /// It is no folder that can be listed. One that is not there would make everything in the ledger look erased.
    pub(crate) fn at(path: &Path) -> io::Result<OwnersVault> {
        std::fs::read_dir(path)?;
        Ok(OwnersVault(VaultDir::new(path)))
    }
}

impl Disclosures for OwnersVault {
    fn open(&self, commitment: &Commitment) -> Opened {
        match self.0.disclosure(commitment) {
            Ok(disclosure) => Opened::Disclosed { name: disclosure.name().to_owned() },
            Err(VaultError::NoKey { .. } | VaultError::NoDisclosure { .. }) => Opened::Absent,
            Err(error @ VaultError::Io { .. }) => Opened::Unreadable(chain(&error)),
            Err(error) => Opened::Wrong(chain(&error)),
        }
    }

    fn has_key(&self, key: KeyId) -> Result<bool, String> {
        self.0.has_key(key).map_err(|error| chain(&error))
    }

    fn erasing(&self) -> Result<Vec<KeyId>, String> {
        self.0.erasing().map_err(|error| chain(&error))
    }
}
