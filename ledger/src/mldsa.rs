//! ML-DSA-44 (FIPS 204), as C2SP notes use it: pure mode, empty context, deterministic signing, 32-byte seeds.
//!
//! The arithmetic is RustCrypto's `ml-dsa`; what is here are the two key types in the sizes that notes carry. Signing is the
//! deterministic variant, so that the same checkpoint always has the same bytes: after a crash they are made again.

use std::fmt;
use std::sync::Arc;

use ml_dsa::{KeyExport as _, KeyInit as _, MlDsa44, Signature, SignatureEncoding as _, SigningKey, VerifyingKey};

/// The length of a public key, in bytes.
pub const PUBLIC_KEY_LEN: usize = 1_312;
/// The length of a signature, in bytes.
pub const SIGNATURE_LEN: usize = 2_420;
/// The length of a private key's seed, in bytes.
pub const SEED_LEN: usize = 32;

/// A public key. Clones share its expanded form.
#[derive(Clone)]
pub struct PublicKey(Arc<Expanded>);

struct Expanded {
    bytes: [u8; PUBLIC_KEY_LEN],
    key: VerifyingKey<MlDsa44>,
}

impl PublicKey {
    /// Every string of this length is a public key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; PUBLIC_KEY_LEN]) -> PublicKey {
        PublicKey(Arc::new(Expanded { bytes: *bytes, key: VerifyingKey::new(bytes.into()) }))
    }

    /// Its bytes, as FIPS 204 encodes them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.0.bytes
    }

    /// Whether this key signed the message. A signature of another length, or with an encoding that FIPS 204 refuses, is wrong.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::try_from(signature).is_ok_and(|signature| self.0.key.verify_with_context(message, &[], &signature))
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &PublicKey) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ML-DSA-44({:02x?}…)", &self.0.bytes[..4])
    }
}

/// A private key. Dropping it wipes it.
#[derive(Clone)]
pub struct SecretKey(Arc<SigningKey<MlDsa44>>);

impl SecretKey {
    /// The key of a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; SEED_LEN]) -> SecretKey {
        SecretKey(Arc::new(SigningKey::from_seed(seed.into())))
    }

    /// The seed: secret.
    #[must_use]
    pub fn seed(&self) -> [u8; SEED_LEN] {
        self.0.to_seed().into()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let bytes: [u8; PUBLIC_KEY_LEN] = self.0.as_ref().as_ref().to_bytes().into();
        PublicKey::from_bytes(&bytes)
    }

    /// Signs a message; the same message gets the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signature = self.0.expanded_key().sign_deterministic(message, &[]);
        // FIPS 204 bounds the loop at a number that no key reaches in the life of the sun.
        signature.expect("invariant: the context is short and the rejection loop ends").to_bytes().into()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(ML-DSA-44)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_alone() {
        let key = SecretKey::from_seed(&[7; 32]);
        let signature = key.sign(b"message");
        assert_eq!(signature, key.sign(b"message"), "deterministic");
        let public = PublicKey::from_bytes(key.public().as_bytes());
        assert!(public.verify(b"message", &signature));
        assert!(!public.verify(b"massage", &signature));
        assert!(!SecretKey::from_seed(&[8; 32]).public().verify(b"message", &signature));
        for position in [0, 31, 32, 1_000, SIGNATURE_LEN - 85, SIGNATURE_LEN - 1] {
            let mut changed = signature;
            changed[position] ^= 1;
            assert!(!public.verify(b"message", &changed), "byte {position}");
        }
        for length in [0, 64, SIGNATURE_LEN - 1] {
            assert!(!public.verify(b"message", &signature[..length]));
        }
        assert!(!public.verify(b"message", &[&signature[..], &[0]].concat()));
        assert!(!public.verify(b"message", &[0xff; SIGNATURE_LEN]));
    }

    #[test]
    fn seeds_are_kept_and_not_printed() {
        let key = SecretKey::from_seed(&[0xab; 32]);
        assert_eq!(key.seed(), [0xab; 32]);
        assert_eq!(format!("{key:?}"), "SecretKey(ML-DSA-44)");
    }
}
