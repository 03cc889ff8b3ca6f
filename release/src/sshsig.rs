//! SSH signatures (OpenSSH's `PROTOCOL.sshsig`), as Git puts them on commits with `gpg.format = ssh`.
//!
//! Verified here, in Rust: no `ssh-keygen` is started, no file of the user's is read. Keys: `ssh-ed25519` and
//! `ecdsa-sha2-nistp256`. RSA, hardware-backed (`sk-`) keys and certificates are refused by name.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::Verifier as _;
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// The namespace Git signs in. A signature made for another purpose by the same key does not count.
pub const GIT_NAMESPACE: &str = "git";

/// Longest armoured signature, in bytes.
pub const SIGNATURE_LEN_MAX: usize = 16 * 1024;

const MAGIC: &[u8] = b"SSHSIG";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// Why an SSH key or signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SshError {
    /// Not the armour, encoding or fields of the format.
    #[error("the SSH {what} is malformed: {reason}")]
    Malformed {
        /// `signature` or `key`.
        what: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A key type that this program cannot check.
    #[error("the SSH key type `{algorithm}` is not supported: use ssh-ed25519 or ecdsa-sha2-nistp256")]
    UnsupportedKey {
        /// The type, escaped.
        algorithm: String,
    },
    /// Made for another purpose.
    #[error("the SSH signature is for `{namespace}`, not for `git`")]
    Namespace {
        /// Its namespace, escaped.
        namespace: String,
    },
    /// The bytes are not what the key signed.
    #[error("the SSH signature by {key} does not match the bytes: they were changed, or another key signed them")]
    Wrong {
        /// Fingerprint of the key.
        key: String,
    },
}

fn malformed(what: &'static str, reason: &'static str) -> SshError {
    SshError::Malformed { what, reason }
}

/// A public key that can be checked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    /// The SSH wire encoding, which fingerprints are taken of and keys are compared by.
    blob: Vec<u8>,
    key: Key,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Ed25519(ed25519_dalek::VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
}

impl SshKey {
    /// Reads the wire encoding.
    ///
    /// # Errors
    /// [`SshError::Malformed`], [`SshError::UnsupportedKey`].
    pub fn from_blob(blob: &[u8]) -> Result<SshKey, SshError> {
        let mut fields = Fields { rest: blob, what: "key" };
        let key = match fields.string()? {
            b"ssh-ed25519" => {
                let bytes = fields.string()?.try_into().map_err(|_| malformed("key", "an Ed25519 key is 32 bytes"))?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
                    .map_err(|_| malformed("key", "the bytes are not a point of the curve"))?;
                if key.is_weak() {
                    return Err(malformed("key", "the point has a small order"));
                }
                Key::Ed25519(key)
            }
            b"ecdsa-sha2-nistp256" => {
                if fields.string()? != b"nistp256" {
                    return Err(malformed("key", "the curve is not nistp256"));
                }
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(fields.string()?)
                    .map_err(|_| malformed("key", "the bytes are not a point of the curve"))?;
                Key::P256(key)
            }
            other => return Err(SshError::UnsupportedKey { algorithm: other.escape_ascii().to_string() }),
        };
        fields.end()?;
        Ok(SshKey { blob: blob.to_vec(), key })
    }

    /// Reads `<type> <base64>`, the two middle words of a public key file or an `allowed_signers` line.
    ///
    /// # Errors
    /// [`SshError::Malformed`], [`SshError::UnsupportedKey`].
    pub fn from_words(algorithm: &str, base64: &str) -> Result<SshKey, SshError> {
        let blob = STANDARD.decode(base64).map_err(|_| malformed("key", "it is not base64"))?;
        let named = Fields { rest: &blob, what: "key" }.string()? == algorithm.as_bytes();
        let key = SshKey::from_blob(&blob)?;
        if named { Ok(key) } else { Err(malformed("key", "its type is not the one it is listed with")) }
    }

    /// The type, as OpenSSH names it.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Ed25519(_) => "ssh-ed25519",
            Key::P256(_) => "ecdsa-sha2-nistp256",
        }
    }

    /// The SHA-256 fingerprint, as OpenSSH prints it: `SHA256:…`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }
}

/// A signature, taken apart and not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSignature {
    /// The key that claims to have signed.
    pub key: SshKey,
    namespace: Vec<u8>,
    hash: MessageHash,
    signature: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageHash {
    Sha256,
    Sha512,
}

impl SshSignature {
    /// Reads the armoured form.
    ///
    /// # Errors
    /// [`SshError::Malformed`], [`SshError::UnsupportedKey`].
    pub fn parse(armour: &[u8]) -> Result<SshSignature, SshError> {
        let blob = dearmour(armour)?;
        let rest = blob.strip_prefix(MAGIC).ok_or_else(|| malformed("signature", "it does not begin with SSHSIG"))?;
        let mut fields = Fields { rest, what: "signature" };
        if fields.number()? != 1 {
            return Err(malformed("signature", "its version is not 1"));
        }
        let key = SshKey::from_blob(fields.string()?)?;
        let namespace = fields.string()?.to_vec();
        if !fields.string()?.is_empty() {
            return Err(malformed("signature", "its reserved field is not empty"));
        }
        let hash = match fields.string()? {
            b"sha256" => MessageHash::Sha256,
            b"sha512" => MessageHash::Sha512,
            _ => return Err(malformed("signature", "its hash is neither sha256 nor sha512")),
        };
        let mut inner = Fields { rest: fields.string()?, what: "signature" };
        fields.end()?;
        if inner.string()? != key.algorithm().as_bytes() {
            return Err(malformed("signature", "its algorithm is not that of its key"));
        }
        let signature = inner.string()?.to_vec();
        inner.end()?;
        Ok(SshSignature { key, namespace, hash, signature })
    }

    /// Checks that the signature's own key signed `message` in Git's namespace. Whether that key may sign is another question.
    ///
    /// # Errors
    /// [`SshError::Namespace`], [`SshError::Malformed`], [`SshError::Wrong`].
    pub fn verify(&self, message: &[u8]) -> Result<(), SshError> {
        if self.namespace != GIT_NAMESPACE.as_bytes() {
            return Err(SshError::Namespace { namespace: self.namespace.escape_ascii().to_string() });
        }
        let (name, digest): (&[u8], Vec<u8>) = match self.hash {
            MessageHash::Sha256 => (b"sha256", Sha256::digest(message).to_vec()),
            MessageHash::Sha512 => (b"sha512", Sha512::digest(message).to_vec()),
        };
        let mut signed = MAGIC.to_vec();
        for field in [self.namespace.as_slice(), b"", name, &digest] {
            put_string(&mut signed, field);
        }
        let wrong = || SshError::Wrong { key: self.key.fingerprint() };
        match &self.key.key {
            Key::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(&self.signature)
                    .map_err(|_| malformed("signature", "an Ed25519 signature is 64 bytes"))?;
                key.verify_strict(&signed, &signature).map_err(|_| wrong())
            }
            Key::P256(key) => {
                let mut fields = Fields { rest: &self.signature, what: "signature" };
                let (r, s) = (fields.scalar()?, fields.scalar()?);
                fields.end()?;
                let signature = p256::ecdsa::Signature::from_scalars(r, s)
                    .map_err(|_| malformed("signature", "its numbers are not scalars of the curve"))?;
                key.verify(&signed, &signature).map_err(|_| wrong())
            }
        }
    }
}

/// The bytes between the armour's lines. Base64 is taken strictly, so that one signature has one spelling but for line breaks.
fn dearmour(armour: &[u8]) -> Result<Vec<u8>, SshError> {
    let refuse = |reason| malformed("signature", reason);
    if armour.len() > SIGNATURE_LEN_MAX {
        return Err(refuse("it is longer than 16 KiB"));
    }
    let text = std::str::from_utf8(armour).map_err(|_| refuse("it is not text"))?;
    let body = text.trim_end().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body = body.ok_or_else(|| refuse("it is not between the lines BEGIN and END SSH SIGNATURE"))?;
    let base64: String = body.split('\n').map(|line| line.trim_end_matches('\r')).collect();
    STANDARD.decode(base64).map_err(|_| refuse("it is not base64"))
}

fn put_string(out: &mut Vec<u8>, field: &[u8]) {
    let len = u32::try_from(field.len()).expect("invariant: namespaces and digests are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(field);
}

/// SSH's wire encoding: 32-bit lengths, big-endian.
struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Result<u32, SshError> {
        let (number, rest) =
            self.rest.split_first_chunk::<4>().ok_or_else(|| malformed(self.what, "it ends inside a field"))?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Result<&'a [u8], SshError> {
        let len = self.number()? as usize;
        let (string, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| malformed(self.what, "it ends inside a field"))?;
        self.rest = rest;
        Ok(string)
    }

    /// A positive number of at most 32 bytes, without leading zeros but the one that keeps it positive.
    fn scalar(&mut self) -> Result<[u8; 32], SshError> {
        let refuse = || malformed("signature", "its numbers are not minimal positive integers of 256 bits");
        let bytes = self.string()?;
        let digits = match bytes {
            [0, digits @ ..] if digits.first().is_some_and(|first| *first >= 0x80) => digits,
            [first, ..] if (1..0x80).contains(first) => bytes,
            _ => return Err(refuse()),
        };
        let mut scalar = [0u8; 32];
        let start = scalar.len().checked_sub(digits.len()).ok_or_else(refuse)?;
        scalar[start..].copy_from_slice(digits);
        Ok(scalar)
    }

    fn end(&self) -> Result<(), SshError> {
        if self.rest.is_empty() { Ok(()) } else { Err(malformed(self.what, "bytes follow its last field")) }
    }
}

#[cfg(test)]
mod tests;
