//! Another checkpoints' key, without a moment in which no file holds the one that is in force.
//!
//! The new key is durable as `ledger-next.key` before anything in the ledger names it. Once the ledger's record is durable, the old key
//! is kept as `ledger-<key id>.key`, and the new one takes its place. Whoever opens the ledger gives the writer all that are here: a crash
//! anywhere leaves the one in force among them.

use std::path::PathBuf;

use ed25519_dalek::SigningKey;

use super::{KeyFolder, KeysError, draw};
use crate::files::DiskError;
use crate::note::NoteSigner;
use crate::random::Random;

/// The checkpoints' key that is about to be in force.
pub const NEXT_LEDGER_FILE: &str = "ledger-next.key";

impl KeyFolder {
    /// The checkpoints' key, and the next one where a change of keys was begun: what a ledger is opened with.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn ledger_signers(&self) -> Result<Vec<NoteSigner>, KeysError> {
        Ok(std::iter::once(self.ledger()?).chain(self.next_ledger()?).collect())
    }

    /// The next checkpoints' key, where a change was begun.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn next_ledger(&self) -> Result<Option<NoteSigner>, KeysError> {
        match self.note_signer(NEXT_LEDGER_FILE) {
            Ok(signer) => Ok(Some(signer)),
            Err(KeysError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the next checkpoints' key, durable when this returns, or reads the one that an interrupted change left.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn make_next_ledger(&self, origin: &str, random: &dyn Random) -> Result<NoteSigner, KeysError> {
        self.make_folder()?;
        self.or_make(NEXT_LEDGER_FILE, || {
            let signer = NoteSigner::new(origin, SigningKey::from_bytes(&draw(random)?));
            Ok(signer.map_err(std::io::Error::other)?.to_text())
        })?;
        self.note_signer(NEXT_LEDGER_FILE)
    }

    /// Puts the next key in the place of the current one, which is kept beside it. Gives the file of the old key, where there was one.
    /// Where this was cut short, calling it again finishes it.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn adopt_next_ledger(&self) -> Result<Option<PathBuf>, KeysError> {
        let Some(next) = self.next_ledger()? else { return Ok(None) };
        let kept = match self.ledger() {
            // An earlier call came this far.
            Ok(current) if current.to_text() == next.to_text() => None,
            Ok(old) => {
                let kept = format!("ledger-{:08x}.key", old.verifier().id());
                self.replace(&kept, &format!("{}\n", old.to_text()))?;
                Some(self.path.join(kept))
            }
            // The old one is lost: that is what the change is for.
            Err(KeysError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        // Written under its new name before the old name goes: a rename that a crash takes back in part would take the key with it.
        self.replace_ledger(&next)?;
        let path = self.path.join(NEXT_LEDGER_FILE);
        self.disk.remove(NEXT_LEDGER_FILE).map_err(DiskError::of("remove", &path))?;
        self.sync("")?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LEDGER_FILE;
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn the_key_in_force_is_always_among_those_that_are_here() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::at(folder.path().join("keys"));
        let old = keys.make(&SystemRandom).unwrap().ledger;
        assert_eq!(keys.ledger_signers().unwrap().len(), 1);
        assert_eq!(keys.adopt_next_ledger().unwrap(), None, "nothing was begun");
        let new = keys.make_next_ledger(old.verifier().name(), &SystemRandom).unwrap();
        let again = keys.make_next_ledger(old.verifier().name(), &SystemRandom).unwrap();
        assert_eq!(again.to_text(), new.to_text(), "an interrupted change goes on with its key");
        assert_eq!(keys.ledger_signers().unwrap().len(), 2);
        let kept = keys.adopt_next_ledger().unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(kept).unwrap().trim(), old.to_text());
        assert_eq!(keys.ledger().unwrap().to_text(), new.to_text());
        assert!(keys.next_ledger().unwrap().is_none());
        std::fs::remove_file(keys.path().join(LEDGER_FILE)).unwrap();
        keys.make_next_ledger(old.verifier().name(), &SystemRandom).unwrap();
        assert_eq!(keys.adopt_next_ledger().unwrap(), None, "a lost key cannot be kept");
        keys.ledger().unwrap();
    }
}
