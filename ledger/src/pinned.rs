//! A ledger's key as somebody pinned it once, while the ledger goes on: other volumes, and other keys with the root's word.
//!
//! A pinned key signs every volume, under that volume's origin as its name, until the root key endorses another one. Whoever pins
//! believes an endorsement because of the root key, which they pinned as well, and never because of who brought it.

use std::sync::{Arc, PoisonError, RwLock};

use crate::endorsement::{Endorsement, EndorsementError};
use crate::note::VerifierKey;
use crate::volume::parse_origin;

/// Most endorsements that are remembered.
pub const ENDORSED_MAX: usize = 1_024;

/// Keys that the root key endorsed. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct EndorsedKeys(Arc<RwLock<Vec<VerifierKey>>>);

impl EndorsedKeys {
    /// Believes an endorsement of one of the ledger's keys, if `root` signed it. Whether it was new; at most [`ENDORSED_MAX`] are.
    ///
    /// # Errors
    /// [`EndorsementError`]: it is none, or not by this root.
    pub fn learn(&self, note: &str, root: &VerifierKey) -> Result<bool, EndorsementError> {
        let Endorsement::LedgerKey { key, .. } = Endorsement::verify(note, root)? else { return Ok(false) };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&key) || known.len() == ENDORSED_MAX {
            return Ok(false);
        }
        known.push(key);
        Ok(true)
    }

    /// The keys that may have signed a checkpoint of `origin`: the pinned one, and those that were endorsed for this volume or an earlier
    /// one, under this volume's name. Empty where the origin is not one of the ledger `name`.
    #[must_use]
    pub fn keys_of(&self, name: &str, pinned: &VerifierKey, origin: &str) -> Vec<VerifierKey> {
        let Some((_, volume)) = parse_origin(origin).filter(|(ledger, _)| *ledger == name) else { return Vec::new() };
        let endorsed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let before = |key: &&VerifierKey| {
            parse_origin(key.name()).is_some_and(|(ledger, endorsed)| ledger == name && endorsed <= volume)
        };
        let keys = std::iter::once(pinned).chain(endorsed.iter().filter(before));
        keys.filter_map(|key| VerifierKey::with_key(origin, key.key().clone()).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::note::NoteSigner;

    fn signer(name: &str, seed: u8) -> NoteSigner {
        NoteSigner::new(name, SigningKey::from_bytes(&[seed; 32])).unwrap()
    }

    fn word(key: &NoteSigner, root: &NoteSigner) -> String {
        Endorsement::LedgerKey { key: key.verifier().clone(), second: None }.sign(root).unwrap()
    }

    #[test]
    fn a_pin_holds_for_all_volumes_and_other_keys_need_the_root() {
        let (pinned, new, root) = (signer("l/1", 1), signer("l/3", 2), signer("l/root", 9));
        let known = EndorsedKeys::default();
        let keys = |origin: &str| known.keys_of("l", pinned.verifier(), origin);
        assert_eq!(keys("l/2"), [signer("l/2", 1).verifier().clone()]);
        for other in ["m/1", "l/x", "l", "l/0"] {
            assert!(keys(other).is_empty(), "{other}");
        }
        assert!(known.learn(&word(&new, &signer("l/root", 8)), root.verifier()).is_err());
        assert_eq!(known.learn(&word(&new, &root), root.verifier()), Ok(true));
        assert_eq!(known.learn(&word(&new, &root), root.verifier()), Ok(false));
        assert_eq!(keys("l/2").len(), 1, "it is endorsed for later volumes");
        assert_eq!(keys("l/4"), [signer("l/4", 1).verifier().clone(), signer("l/4", 2).verifier().clone()]);
    }
}
