//! Cosignatures (C2SP tlog-cosignature v1.1.0-rc.1): a witness's word that a checkpoint is consistent with all it has seen of a log.
//!
//! Two kinds: Ed25519 over the checkpoint's text with the time before it (0x04), and ML-DSA-44 over a struct that names the
//! cosigner too (0x06). A log may sign its own checkpoints in the second form, with time 0: then it says nothing about "the largest
//! tree at that time". Which cosigners to trust, and how many, is the business of [`crate::policy`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::digest::Digest;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::checkpoint::Checkpoint;
use crate::mldsa;
use crate::note::{Algorithm, KEY_NAME_LEN_MAX, LINE_START, Note, NoteError, PublicKey, VerifierKey, parse_secret};

/// The largest time that a cosignature may state, in seconds since 1970.
pub const TIME_MAX: u64 = i64::MAX as u64;
/// What comes before the signature: the time.
const TIME_LEN: usize = 8;
const ED25519_LEN: usize = 64;
/// `uint8 label[12]` of the ML-DSA-44 message.
const SUBTREE_LABEL: &[u8; 12] = b"subtree/v1\n\0";

/// When something was cosigned: seconds since 1970-01-01 UTC, by the cosigner's clock. 0 is no time: the cosigner does not say that
/// the tree was the largest that it had seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CosignTime(pub u64);

/// The bytes under an Ed25519 cosignature: a header, the time, and the checkpoint's whole text.
#[must_use]
pub fn ed25519_message(text: &str, time: CosignTime) -> Vec<u8> {
    format!("cosignature/v1\ntime {}\n{text}", time.0).into_bytes()
}

/// The bytes under an ML-DSA-44 cosignature of a checkpoint: the struct `cosigned_message` from record 0 to the size.
///
/// # Errors
/// [`NoteError::Name`] when the cosigner or the origin is empty or longer than 255 bytes.
pub fn mldsa_message(cosigner: &str, time: CosignTime, checkpoint: &Checkpoint) -> Result<Vec<u8>, NoteError> {
    let mut message = SUBTREE_LABEL.to_vec();
    push_short(&mut message, cosigner)?;
    message.extend_from_slice(&time.0.to_be_bytes());
    push_short(&mut message, &checkpoint.origin)?;
    message.extend_from_slice(&0_u64.to_be_bytes());
    message.extend_from_slice(&checkpoint.size.0.to_be_bytes());
    message.extend_from_slice(Digest::as_bytes(&checkpoint.root));
    Ok(message)
}

/// `opaque text<1..2^8-1>`.
fn push_short(message: &mut Vec<u8>, text: &str) -> Result<(), NoteError> {
    let length = u8::try_from(text.len()).ok().filter(|&length| length > 0);
    let refuse = || NoteError::Name { name: text.chars().take(80).collect() };
    message.push(length.ok_or_else(refuse)?);
    message.extend_from_slice(text.as_bytes());
    Ok(())
}

const _: () = assert!(KEY_NAME_LEN_MAX <= u8::MAX as usize, "every key name has room in the ML-DSA-44 message");

/// Checks what stands behind the key id of a cosignature line; says when it was made. `None`: it is wrong.
pub(crate) fn check(key: &PublicKey, name: &str, text: &str, payload: &[u8]) -> Option<CosignTime> {
    let (time, signature) = payload.split_first_chunk::<TIME_LEN>()?;
    let time = CosignTime(u64::from_be_bytes(*time));
    if time.0 > TIME_MAX {
        return None;
    }
    match key {
        PublicKey::Ed25519(_) => return None,
        PublicKey::Ed25519Cosigner(key) => check_ed25519(key, &ed25519_message(text, time), signature)?,
        PublicKey::MlDsa44(key) => {
            // The message covers origin, size and root; a text with more lines would be covered in part.
            let checkpoint = Checkpoint::from_text(text).ok()?;
            key.verify(&mldsa_message(name, time, &checkpoint).ok()?, signature).then_some(())?;
        }
    }
    Some(time)
}

fn check_ed25519(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> Option<()> {
    key.verify_strict(message, &Signature::from_slice(signature).ok()?).ok()
}

/// The private key of a cosigner, with the name under which it signs.
#[derive(Clone)]
pub struct CosignatureSigner {
    verifier: VerifierKey,
    key: Key,
}

#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "a process has one or two")]
enum Key {
    Ed25519(SigningKey),
    MlDsa44(mldsa::SecretKey),
}

impl std::fmt::Debug for CosignatureSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CosignatureSigner({})", self.verifier.name())
    }
}

impl CosignatureSigner {
    /// A cosigner with an Ed25519 key. The message does not say the name: no two cosigners may have one key.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn ed25519(name: &str, key: SigningKey) -> Result<CosignatureSigner, NoteError> {
        let verifier = VerifierKey::with_key(name, PublicKey::Ed25519Cosigner(key.verifying_key()))?;
        Ok(CosignatureSigner { verifier, key: Key::Ed25519(key) })
    }

    /// A cosigner with an ML-DSA-44 key.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn mldsa44(name: &str, key: mldsa::SecretKey) -> Result<CosignatureSigner, NoteError> {
        let verifier = VerifierKey::with_key(name, PublicKey::MlDsa44(key.public()))?;
        Ok(CosignatureSigner { verifier, key: Key::MlDsa44(key) })
    }

    /// The same key under another name.
    pub(crate) fn renamed(&self, name: &str) -> Result<CosignatureSigner, NoteError> {
        match self.key.clone() {
            Key::Ed25519(key) => CosignatureSigner::ed25519(name, key),
            Key::MlDsa44(key) => CosignatureSigner::mldsa44(name, key),
        }
    }

    /// Reads the private key text: `PRIVATE+KEY+name+hex+base64(type ‖ seed)`, type 0x04 or 0x06.
    ///
    /// # Errors
    /// [`NoteError::Key`], [`NoteError::Name`]. Neither repeats the text.
    pub fn from_text(text: &str) -> Result<CosignatureSigner, NoteError> {
        let (name, id, algorithm, seed) = parse_secret(text)?;
        let signer = match algorithm {
            Algorithm::Ed25519Cosignature => CosignatureSigner::ed25519(name, SigningKey::from_bytes(&seed))?,
            Algorithm::MlDsa44Cosignature => CosignatureSigner::mldsa44(name, mldsa::SecretKey::from_seed(&seed))?,
            Algorithm::Ed25519 => {
                let reason = "a cosigner's key has the type 0x04 or 0x06, and this one 0x01";
                return Err(NoteError::Key { what: "signing key", reason });
            }
        };
        signer.verifier.has_id(id, "signing key")?;
        Ok(signer)
    }

    /// The private key text. Secret: it belongs in a file of mode 0600 and nowhere else.
    #[must_use]
    pub fn to_text(&self) -> String {
        let seed = match &self.key {
            Key::Ed25519(key) => key.to_bytes(),
            Key::MlDsa44(key) => key.seed(),
        };
        self.verifier.secret_text(&seed)
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The signature line for a checkpoint's text, with its line feed.
    ///
    /// # Errors
    /// [`NoteError::NotACheckpoint`] for a text that is not an origin, a size and a root; [`NoteError::Time`].
    pub fn line(&self, text: &str, time: CosignTime) -> Result<String, NoteError> {
        if time.0 > TIME_MAX {
            return Err(NoteError::Time { time: time.0 });
        }
        let checkpoint = Checkpoint::from_text(text).map_err(|_| NoteError::NotACheckpoint)?;
        let signature = match &self.key {
            Key::Ed25519(key) => key.sign(&ed25519_message(text, time)).to_bytes().to_vec(),
            Key::MlDsa44(key) => key.sign(&mldsa_message(self.verifier.name(), time, &checkpoint)?).to_vec(),
        };
        let payload = [&self.verifier.id().to_be_bytes()[..], &time.0.to_be_bytes(), &signature].concat();
        Ok(format!("{LINE_START}{} {}\n", self.verifier.name(), STANDARD.encode(payload)))
    }
}

/// A checkpoint's note with more signature lines at its end. A line that is there already is not repeated.
///
/// # Errors
/// [`NoteError`]: the result would not be a note.
pub fn with_lines(note: &[u8], lines: &[String]) -> Result<Vec<u8>, NoteError> {
    let mut bytes = note.to_vec();
    for line in lines {
        let there = bytes.windows(line.len()).any(|window| window == line.as_bytes());
        if !there {
            bytes.extend_from_slice(line.as_bytes());
        }
    }
    Note::parse(&bytes)?;
    Ok(bytes)
}

const _: () = assert!(ED25519_LEN == ed25519_dalek::SIGNATURE_LENGTH);

#[cfg(test)]
mod tests;
