//! Signed notes (C2SP signed-note v1.0.0) with Ed25519 signatures: the envelope of checkpoints.
//!
//! A note is a text that ends in a line feed, a blank line, and signature lines. A reader ignores signatures by keys it does not
//! know, so that witnesses and new algorithms can be added without breaking anyone, and refuses a note on which a key that it
//! does know has a wrong signature. Nothing here says which keys to trust: they are arguments.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Longest note, in bytes.
pub const NOTE_LEN_MAX: usize = 1 << 20;
/// Most signature lines. The specification asks readers for at least 16.
pub const SIGNATURES_MAX: usize = 100;
/// Longest key name, in bytes.
pub const KEY_NAME_LEN_MAX: usize = 255;

/// The signature type of a plain Ed25519 key.
const ED25519: u8 = 0x01;
const LINE_START: &str = "\u{2014} ";

/// Why a note, a key or a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Longer than [`NOTE_LEN_MAX`].
    #[error("the note is {len} bytes long; at most {NOTE_LEN_MAX} are read")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not UTF-8, or a control character other than a line feed.
    #[error("the note holds a byte at {offset} that is not allowed in a note")]
    Character {
        /// Where, from 0.
        offset: usize,
    },
    /// No blank line, an empty text, or no line feed at the end.
    #[error("the note is not a text, a blank line and signature lines")]
    Shape,
    /// A signature line is not `— <name> <base64>`.
    #[error("signature line {line} of the note is malformed")]
    SignatureLine {
        /// Which signature line, from 1.
        line: usize,
    },
    /// More than [`SIGNATURES_MAX`] signature lines.
    #[error("the note has more than {SIGNATURES_MAX} signature lines")]
    TooManySignatures,
    /// A known key's signature is wrong: the note was changed, or never signed by it.
    #[error("the signature by {name} on the note is wrong")]
    WrongSignature {
        /// The key's name.
        name: String,
    },
    /// No known key signed the note.
    #[error("the note has no signature by {}; it is signed by {}", list(.known), list(.found))]
    NotSigned {
        /// The names of the keys that were looked for.
        known: Vec<String>,
        /// The names on the note.
        found: Vec<String>,
    },
    /// Not a key's name.
    #[error("{name:?} is not a key name: 1 to {KEY_NAME_LEN_MAX} bytes, no space, no +")]
    Name {
        /// The name, cut at 80 characters.
        name: String,
    },
    /// Not the text of a key.
    #[error("this is not the text of an Ed25519 {what}: {reason}")]
    Key {
        /// `verifier key` or `signing key`.
        what: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A text that a note cannot hold was to be signed.
    #[error("a note's text is not empty, ends in a line feed and has no other control characters")]
    Text,
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// Checks a key name: UTF-8, no Unicode space, no `+`, no control character.
///
/// # Errors
/// [`NoteError::Name`].
pub fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.len() > KEY_NAME_LEN_MAX || name.contains(bad) {
        return Err(NoteError::Name { name: name.chars().take(80).collect() });
    }
    Ok(())
}

fn key_id(name: &str, key: &VerifyingKey) -> u32 {
    let hash = Sha256::new_with_prefix(name).chain_update([b'\n', ED25519]).chain_update(key.as_bytes()).finalize();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// A public key with the name under which it signs. Its text is the `vkey` of the specification: `name+hex+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl VerifierKey {
    /// An Ed25519 key that signs as `name`.
    ///
    /// # Errors
    /// [`NoteError::Name`]; [`NoteError::Key`] for a key of small order, whose signatures prove nothing.
    pub fn new(name: &str, key: VerifyingKey) -> Result<VerifierKey, NoteError> {
        check_name(name)?;
        if key.is_weak() {
            return Err(NoteError::Key { what: "verifier key", reason: "the point has a small order" });
        }
        Ok(VerifierKey { name: name.to_owned(), id: key_id(name, &key), key })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id: the first four bytes of `SHA-256(name ‖ LF ‖ 0x01 ‖ key)`, big-endian.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &VerifyingKey {
        &self.key
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519][..], self.key.as_bytes()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<VerifierKey, NoteError> {
        let refuse = |reason| NoteError::Key { what: "verifier key", reason };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse("expected name+hexadecimal id+base64"));
        };
        let key = parse_key(key).map_err(refuse)?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| refuse("the bytes are not a point of the curve"))?;
        let key = VerifierKey::new(name, key)?;
        if format!("{:08x}", key.id) == id {
            Ok(key)
        } else {
            Err(refuse("the id does not belong to this name and key"))
        }
    }
}

fn parse_key(text: &str) -> Result<[u8; 32], &'static str> {
    let bytes = STANDARD.decode(text).map_err(|_| "the last part is not base64")?;
    match bytes.split_first() {
        Some((&ED25519, key)) => key.try_into().map_err(|_| "an Ed25519 key is 32 bytes"),
        _ => Err("the algorithm is not Ed25519 (0x01)"),
    }
}

/// A private key with the name under which it signs.
#[derive(Clone)]
pub struct NoteSigner {
    verifier: VerifierKey,
    key: SigningKey,
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSigner({})", self.verifier)
    }
}

impl NoteSigner {
    /// A signer with this name.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn new(name: &str, key: SigningKey) -> Result<NoteSigner, NoteError> {
        Ok(NoteSigner { verifier: VerifierKey::new(name, key.verifying_key())?, key })
    }

    /// Reads the private key text of the Go tools: `PRIVATE+KEY+name+hex+base64(0x01 ‖ seed)`.
    ///
    /// # Errors
    /// [`NoteError::Key`], [`NoteError::Name`]. Neither repeats the text.
    pub fn from_text(text: &str) -> Result<NoteSigner, NoteError> {
        let refuse = |reason| NoteError::Key { what: "signing key", reason };
        let rest = text
            .strip_prefix("PRIVATE+KEY+")
            .ok_or_else(|| refuse("expected PRIVATE+KEY+name+hexadecimal id+base64"))?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(seed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse("expected PRIVATE+KEY+name+hexadecimal id+base64"));
        };
        let seed = parse_key(seed).map_err(refuse)?;
        let signer = NoteSigner::new(name, SigningKey::from_bytes(&seed))?;
        if format!("{:08x}", signer.verifier.id) == id {
            Ok(signer)
        } else {
            Err(refuse("the id does not belong to this name and key"))
        }
    }

    /// The private key text of the Go tools. Secret: it belongs in a file of mode 0600 and nowhere else.
    #[must_use]
    pub fn to_text(&self) -> String {
        let seed = [&[ED25519][..], self.key.as_bytes()].concat();
        format!("PRIVATE+KEY+{}+{:08x}+{}", self.verifier.name, self.verifier.id, STANDARD.encode(seed))
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The signature line for a note's text, with its line feed.
    fn line(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let payload = [&self.verifier.id.to_be_bytes()[..], &signature].concat();
        format!("{LINE_START}{} {}\n", self.verifier.name, STANDARD.encode(payload))
    }
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: u32,
    /// What follows the id: 64 bytes for Ed25519, anything for an algorithm that this version does not know.
    pub signature: Vec<u8>,
}

/// A note that was parsed; [`Note::verify`] says who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Takes a note apart, checking its form and no signature.
    ///
    /// # Errors
    /// [`NoteError`]: what is malformed, and where.
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        if bytes.len() > NOTE_LEN_MAX {
            return Err(NoteError::TooLong { len: bytes.len() });
        }
        if let Some(offset) = bytes.iter().position(|&byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Character { offset });
        }
        let whole = std::str::from_utf8(bytes).map_err(|error| NoteError::Character { offset: error.valid_up_to() })?;
        // The *last* blank line: the text itself may hold some.
        let split = whole.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, lines) = (&whole[..=split], &whole[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Shape)?;
        let mut signatures = Vec::new();
        for (position, line) in lines.split('\n').enumerate() {
            if position == SIGNATURES_MAX {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(parse_line(line).ok_or(NoteError::SignatureLine { line: position + 1 })?);
        }
        Ok(Note { text: text.to_owned(), signatures })
    }

    /// Signs a text; the signatures come in the order of the signers.
    ///
    /// # Errors
    /// [`NoteError::Text`].
    pub fn sign(text: &str, signers: &[&NoteSigner]) -> Result<Vec<u8>, NoteError> {
        if !text.ends_with('\n') || text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Text);
        }
        let lines: String = signers.iter().map(|signer| signer.line(text)).collect();
        Ok(format!("{text}\n{lines}").into_bytes())
    }

    /// What was signed, with its final line feed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every signature line, known or not.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Checks the signatures by the keys that are known, and returns those keys that signed, in the order of the note. Lines by other
    /// (name, id) pairs are ignored.
    ///
    /// # Errors
    /// [`NoteError::WrongSignature`] when any known key's signature is wrong; [`NoteError::NotSigned`] when no known key signed.
    pub fn verify<'k>(&self, known: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut signed: Vec<&VerifierKey> = Vec::new();
        for line in &self.signatures {
            for key in known.iter().filter(|key| key.id == line.id && key.name == line.name) {
                let wrong = || NoteError::WrongSignature { name: key.name.clone() };
                let signature = Signature::from_slice(&line.signature).map_err(|_| wrong())?;
                key.key.verify_strict(self.text.as_bytes(), &signature).map_err(|_| wrong())?;
                if !signed.contains(&key) {
                    signed.push(key);
                }
            }
        }
        if signed.is_empty() {
            return Err(NoteError::NotSigned {
                known: known.iter().map(|key| key.name.clone()).collect(),
                found: self.signatures.iter().map(|line| line.name.clone()).collect(),
            });
        }
        Ok(signed)
    }
}

fn parse_line(line: &str) -> Option<NoteSignature> {
    let (name, payload) = line.strip_prefix(LINE_START)?.split_once(' ')?;
    check_name(name).ok()?;
    let payload = STANDARD.decode(payload).ok()?;
    let (id, signature) = payload.split_first_chunk::<4>()?;
    // The specification's shortest signature is one byte.
    (!signature.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        id: u32::from_be_bytes(*id),
        signature: signature.to_vec(),
    })
}

#[cfg(test)]
mod tests;
