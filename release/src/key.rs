//! The release key: ECDSA on P-256 with SHA-256, because cosign and key management services have it. Apart from the ledger's.
//!
//! Public keys are SPKI in PEM, private keys PKCS#8 in PEM: what `openssl` reads and writes. A key is named by its hint, its
//! fingerprint as OpenSSH prints it, which a Sigstore bundle carries twice. The bundle's format leaves the choice of the name to
//! us; cosign and the other tools on go-securesystemslib skip a signature whose key id is neither empty nor that fingerprint.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cairn_schemas::digest::Digest;
use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::Verifier as _;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use thiserror::Error;

/// Length of a P-256 point, uncompressed (SEC 1): what a key's SPKI DER ends with.
const POINT_LEN: usize = 65;

/// Why a text is not a release key. The text is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a public key.
    #[error("not a P-256 public key in SPKI PEM (`-----BEGIN PUBLIC KEY-----`)")]
    Public,
    /// Not a private key.
    #[error("not a P-256 private key in PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`)")]
    Private,
    /// The system gave no random bytes.
    #[error("the system's random generator failed: {reason}")]
    Random {
        /// What it said.
        reason: String,
    },
}

/// The public half: checks a release's statement.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleaseKey {
    key: VerifyingKey,
    der: Vec<u8>,
}

impl fmt::Debug for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseKey({})", self.hint())
    }
}

impl ReleaseKey {
    /// Reads SPKI PEM.
    ///
    /// # Errors
    /// [`KeyError::Public`].
    pub fn from_pem(pem: &str) -> Result<ReleaseKey, KeyError> {
        VerifyingKey::from_public_key_pem(pem.trim()).map(ReleaseKey::new).map_err(|_| KeyError::Public)
    }

    fn new(key: VerifyingKey) -> ReleaseKey {
        let der = key.to_public_key_der().expect("invariant: a P-256 point encodes").as_bytes().to_vec();
        ReleaseKey { key, der }
    }

    /// As SPKI PEM, with a final line feed.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.key.to_public_key_pem(LineEnding::LF).expect("invariant: a P-256 point encodes")
    }

    /// The key's name: `SHA256:` and the unpadded base64 of the SHA-256 of its SSH encoding (RFC 5656, section 3.1), which is
    /// what `ssh-keygen -l` prints.
    #[must_use]
    pub fn hint(&self) -> String {
        let point = &self.der[self.der.len() - POINT_LEN..];
        let mut encoded = Vec::new();
        for text in [&b"ecdsa-sha2-nistp256"[..], b"nistp256", point] {
            let len = u32::try_from(text.len()).expect("invariant: three short strings");
            encoded.extend_from_slice(&len.to_be_bytes());
            encoded.extend_from_slice(text);
        }
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Digest::sha256(&encoded).as_bytes()))
    }

    /// Whether `signature` (ASN.1 DER) is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        p256::ecdsa::DerSignature::from_bytes(signature)
            .is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
    }
}

#[cfg(feature = "sign")]
pub use signer::ReleaseSigner;

#[cfg(feature = "sign")]
mod signer {
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::{DerSignature, SigningKey};
    use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
    use zeroize::Zeroizing;

    use super::*;

    /// The private half: signs a release's statement.
    #[derive(Clone)]
    pub struct ReleaseSigner {
        key: SigningKey,
        public: ReleaseKey,
    }

    impl fmt::Debug for ReleaseSigner {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "ReleaseSigner({})", self.public.hint())
        }
    }

    impl ReleaseSigner {
        /// A new key from the system's random generator.
        ///
        /// # Errors
        /// [`KeyError::Random`].
        pub fn generate() -> Result<ReleaseSigner, KeyError> {
            let mut seed = Zeroizing::new([0u8; 32]);
            loop {
                getrandom::fill(seed.as_mut()).map_err(|error| KeyError::Random { reason: error.to_string() })?;
                // Zero or above the group's order once in 2^32: draw again.
                if let Ok(key) = SigningKey::from_slice(seed.as_ref()) {
                    return Ok(ReleaseSigner::new(key));
                }
            }
        }

        /// Reads PKCS#8 PEM.
        ///
        /// # Errors
        /// [`KeyError::Private`].
        pub fn from_pem(pem: &str) -> Result<ReleaseSigner, KeyError> {
            SigningKey::from_pkcs8_pem(pem.trim()).map(ReleaseSigner::new).map_err(|_| KeyError::Private)
        }

        fn new(key: SigningKey) -> ReleaseSigner {
            let public = ReleaseKey::new(*key.verifying_key());
            ReleaseSigner { key, public }
        }

        /// As PKCS#8 PEM. Secret: it belongs in a file of mode 0600 and nowhere else.
        #[must_use]
        pub fn to_pem(&self) -> Zeroizing<String> {
            self.key.to_pkcs8_pem(LineEnding::LF).expect("invariant: a P-256 scalar encodes")
        }

        /// The public half.
        #[must_use]
        pub fn public(&self) -> &ReleaseKey {
            &self.public
        }

        /// Signs; the nonce is derived (RFC 6979), so the same message gives the same signature. ASN.1 DER.
        #[must_use]
        pub fn sign(&self, message: &[u8]) -> Vec<u8> {
            let signature: DerSignature = self.key.sign(message);
            signature.as_bytes().to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_sign() {
        let signer = ReleaseSigner::generate().unwrap();
        let again = ReleaseSigner::from_pem(&signer.to_pem()).unwrap();
        assert_eq!(again.public(), signer.public());
        let key = ReleaseKey::from_pem(&signer.public().to_pem()).unwrap();
        assert_eq!(key.hint(), signer.public().hint());
        let mut signature = signer.sign(b"message");
        assert_eq!(signature, again.sign(b"message"));
        assert!(key.verifies(b"message", &signature));
        assert!(!key.verifies(b"massage", &signature));
        signature.push(0);
        assert!(!key.verifies(b"message", &signature), "trailing bytes");
        assert!(!ReleaseSigner::generate().unwrap().public().verifies(b"message", &signer.sign(b"message")));
    }

    /// The fingerprint is `ssh-keygen -i -m PKCS8 -f KEY.pem | ssh-keygen -lf -`'s.
    #[test]
    fn a_key_is_named_as_openssh_names_it() {
        let pem = "-----BEGIN PUBLIC KEY-----\n\
            MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2qRohAbWfA1/o20oiiyxs2HDw/yG\n\
            mJzud4z4C+S7zwgAvaJdP/IdboLZETJsKo38VrZIZ3sWw6K0iAJwv3Ywbw==\n\
            -----END PUBLIC KEY-----\n";
        let key = ReleaseKey::from_pem(pem).unwrap();
        assert_eq!(key.hint(), "SHA256:nPGz7E56gHP4g+OrHly4FnbayRs7cH0ncgs60Pl6mcw");
    }

    #[test]
    fn other_texts_are_refused_without_repeating_them() {
        let signer = ReleaseSigner::generate().unwrap();
        assert_eq!(ReleaseKey::from_pem(&signer.to_pem()), Err(KeyError::Public));
        assert_eq!(ReleaseSigner::from_pem(&signer.public().to_pem()).unwrap_err(), KeyError::Private);
        assert!(!format!("{signer:?}").contains("PRIVATE"));
    }
}
