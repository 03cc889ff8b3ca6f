//! Signed notes (C2SP signed-note v1.0.0): the envelope of checkpoints.
//!
//! A note is a text that ends in a line feed, a blank line, and signature lines. A reader ignores signatures by keys it does not
//! know, so that witnesses and new algorithms can be added without breaking anyone, and refuses a note on which a key that it
//! does know has a wrong signature. Nothing here says which keys to trust: they are arguments.
//!
//! Three kinds of keys are known ([`Algorithm`]): Ed25519 over the text, and the two kinds of cosignatures, which also state a time
//! ([`crate::cosignature`]).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::cosignature::{self, CosignTime, CosignatureSigner};
use crate::mldsa;

/// Longest note, in bytes.
pub const NOTE_LEN_MAX: usize = 1 << 20;
/// Most signature lines. The specification asks readers for at least 16.
pub const SIGNATURES_MAX: usize = 100;
/// Longest key name, in bytes.
pub const KEY_NAME_LEN_MAX: usize = 255;

pub(crate) const LINE_START: &str = "\u{2014} ";
const SEED_LEN: usize = 32;

/// What a key signs with, and over what: the signature types of the specification that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// Ed25519 over the note's text.
    Ed25519 = 0x01,
    /// Ed25519 over a time and a checkpoint's text: C2SP tlog-cosignature.
    Ed25519Cosignature = 0x04,
    /// ML-DSA-44 over the cosigner's name, a time, and a checkpoint's origin, size and root: C2SP tlog-cosignature.
    MlDsa44Cosignature = 0x06,
}

impl Algorithm {
    fn of(byte: u8) -> Option<Algorithm> {
        [Algorithm::Ed25519, Algorithm::Ed25519Cosignature, Algorithm::MlDsa44Cosignature]
            .into_iter()
            .find(|algorithm| *algorithm as u8 == byte)
    }
}

/// A public key, with what it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// [`Algorithm::Ed25519`].
    Ed25519(VerifyingKey),
    /// [`Algorithm::Ed25519Cosignature`].
    Ed25519Cosigner(VerifyingKey),
    /// [`Algorithm::MlDsa44Cosignature`].
    MlDsa44(mldsa::PublicKey),
}

impl PublicKey {
    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            PublicKey::Ed25519(_) => Algorithm::Ed25519,
            PublicKey::Ed25519Cosigner(_) => Algorithm::Ed25519Cosignature,
            PublicKey::MlDsa44(_) => Algorithm::MlDsa44Cosignature,
        }
    }

    /// The key's bytes, without its type: two vkeys with the same bytes are one key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            PublicKey::Ed25519(key) | PublicKey::Ed25519Cosigner(key) => key.as_bytes(),
            PublicKey::MlDsa44(key) => key.as_bytes(),
        }
    }

    fn parse(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        let (&algorithm, key) = bytes.split_first().ok_or("the key is empty")?;
        let ed25519 = || {
            let key: &[u8; 32] = key.try_into().map_err(|_| "an Ed25519 key is 32 bytes")?;
            VerifyingKey::from_bytes(key).map_err(|_| "the bytes are not a point of the curve")
        };
        match Algorithm::of(algorithm) {
            Some(Algorithm::Ed25519) => Ok(PublicKey::Ed25519(ed25519()?)),
            Some(Algorithm::Ed25519Cosignature) => Ok(PublicKey::Ed25519Cosigner(ed25519()?)),
            Some(Algorithm::MlDsa44Cosignature) => {
                let key = key.try_into().map_err(|_| "an ML-DSA-44 key is 1,312 bytes")?;
                Ok(PublicKey::MlDsa44(mldsa::PublicKey::from_bytes(key)))
            }
            None => Err(UNKNOWN_ALGORITHM),
        }
    }
}

const UNKNOWN_ALGORITHM: &str = "the algorithm is neither Ed25519 (0x01) nor a cosignature (0x04, 0x06)";

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
    #[error("this is not the text of a {what}: {reason}")]
    Key {
        /// `verifier key` or `signing key`.
        what: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// A text that a note cannot hold was to be signed.
    #[error("a note's text is not empty, ends in a line feed and has no other control characters")]
    Text,
    /// A text that is no checkpoint was to be cosigned.
    #[error("only a checkpoint can be cosigned: an origin, a size, a root, and nothing else")]
    NotACheckpoint,
    /// A cosignature cannot state this time.
    #[error("a cosignature cannot state the time {time}: at most 2^63 - 1 seconds")]
    Time {
        /// The time, in seconds since 1970.
        time: u64,
    },
    /// A second signature of a log must be by the same name, in the ML-DSA-44 form.
    #[error("the second signature of {name} must be an ML-DSA-44 key (0x06) of the same name")]
    Second {
        /// The first signer's name.
        name: String,
    },
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

fn key_id(name: &str, key: &PublicKey) -> u32 {
    let hash = Sha256::new_with_prefix(name)
        .chain_update([b'\n', key.algorithm() as u8])
        .chain_update(key.as_bytes())
        .finalize();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// A public key with the name under which it signs. Its text is the `vkey` of the specification: `name+hex+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    key: PublicKey,
}

impl VerifierKey {
    /// An Ed25519 key that signs as `name`.
    ///
    /// # Errors
    /// [`NoteError::Name`]; [`NoteError::Key`] for a key of small order, whose signatures prove nothing.
    pub fn new(name: &str, key: VerifyingKey) -> Result<VerifierKey, NoteError> {
        VerifierKey::with_key(name, PublicKey::Ed25519(key))
    }

    /// A key of any kind that signs as `name`.
    ///
    /// # Errors
    /// As [`VerifierKey::new`].
    pub fn with_key(name: &str, key: PublicKey) -> Result<VerifierKey, NoteError> {
        check_name(name)?;
        if let PublicKey::Ed25519(point) | PublicKey::Ed25519Cosigner(point) = &key
            && point.is_weak()
        {
            return Err(NoteError::Key { what: "verifier key", reason: "the point has a small order" });
        }
        Ok(VerifierKey { name: name.to_owned(), id: key_id(name, &key), key })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id: the first four bytes of `SHA-256(name ‖ LF ‖ type ‖ key)`, big-endian.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether a signature line claims to be by this key.
    #[must_use]
    pub fn claims(&self, line: &NoteSignature) -> bool {
        self.id == line.id && self.name == line.name
    }

    /// Checks what a line says after the key id. `Err`: the signature is wrong. A cosignature's time comes back.
    fn check(&self, text: &str, signature: &[u8]) -> Result<Option<CosignTime>, NoteError> {
        let time = match &self.key {
            PublicKey::Ed25519(key) => Signature::from_slice(signature)
                .and_then(|signature| key.verify_strict(text.as_bytes(), &signature))
                .ok()
                .map(|()| None),
            key => cosignature::check(key, &self.name, text, signature).map(Some),
        };
        time.ok_or_else(|| NoteError::WrongSignature { name: self.name.clone() })
    }

    pub(crate) fn has_id(&self, id: &str, what: &'static str) -> Result<(), NoteError> {
        if format!("{:08x}", self.id) == id {
            Ok(())
        } else {
            Err(NoteError::Key { what, reason: "the id does not belong to this name and key" })
        }
    }

    /// The private key text that goes with this key.
    pub(crate) fn secret_text(&self, seed: &[u8; SEED_LEN]) -> String {
        let seed = [&[self.key.algorithm() as u8][..], seed].concat();
        format!("{SECRET_START}{}+{:08x}+{}", self.name, self.id, STANDARD.encode(seed))
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.key.algorithm() as u8][..], self.key.as_bytes()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<VerifierKey, NoteError> {
        let what = "verifier key";
        let refuse = |reason| NoteError::Key { what, reason };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse("expected name+hexadecimal id+base64"));
        };
        let key = STANDARD.decode(key).map_err(|_| refuse("the last part is not base64"))?;
        let key = VerifierKey::with_key(name, PublicKey::parse(&key).map_err(refuse)?)?;
        key.has_id(id, what)?;
        Ok(key)
    }
}

const SECRET_START: &str = "PRIVATE+KEY+";

/// Takes a private key's text apart: name, key id, algorithm, seed.
pub(crate) fn parse_secret(text: &str) -> Result<(&str, &str, Algorithm, [u8; SEED_LEN]), NoteError> {
    let refuse = |reason| NoteError::Key { what: "signing key", reason };
    let form = "expected PRIVATE+KEY+name+hexadecimal id+base64";
    let rest = text.strip_prefix(SECRET_START).ok_or_else(|| refuse(form))?;
    let mut parts = rest.splitn(3, '+');
    let (Some(name), Some(id), Some(seed)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(refuse(form));
    };
    let bytes = STANDARD.decode(seed).map_err(|_| refuse("the last part is not base64"))?;
    let (&algorithm, seed) = bytes.split_first().ok_or_else(|| refuse("the key is empty"))?;
    let algorithm = Algorithm::of(algorithm).ok_or_else(|| refuse(UNKNOWN_ALGORITHM))?;
    let seed = seed.try_into().map_err(|_| refuse("a private key is 32 bytes"))?;
    Ok((name, id, algorithm, seed))
}

/// A private key with the name under which it signs notes, and where a log has one, the key of its second signature.
#[derive(Clone)]
pub struct NoteSigner {
    verifier: VerifierKey,
    key: SigningKey,
    second: Option<Box<CosignatureSigner>>,
    greased: bool,
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
        Ok(NoteSigner { verifier: VerifierKey::new(name, key.verifying_key())?, key, second: None, greased: false })
    }

    /// The same signer with a second signature, ML-DSA-44, on every *checkpoint*: what C2SP tlog-checkpoint says that logs should
    /// have. It is made in the form of a cosignature with time 0, so the same checkpoint always has the same bytes.
    ///
    /// # Errors
    /// [`NoteError::Second`]: another name, or another algorithm.
    pub fn with_second(mut self, second: CosignatureSigner) -> Result<NoteSigner, NoteError> {
        let key = second.verifier();
        if key.name() != self.verifier.name || key.key().algorithm() != Algorithm::MlDsa44Cosignature {
            return Err(NoteError::Second { name: self.verifier.name });
        }
        self.second = Some(Box::new(second));
        Ok(self)
    }

    /// The same keys under another name: another volume's origin.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn renamed(&self, name: &str) -> Result<NoteSigner, NoteError> {
        let second = self.second.as_ref().map(|second| second.renamed(name)).transpose()?;
        Ok(NoteSigner {
            greased: self.greased,
            second: second.map(Box::new),
            ..NoteSigner::new(name, self.key.clone())?
        })
    }

    /// The same signer, whose notes carry lines that every reader must ignore (strangers', other algorithms', short ones), in an
    /// order that changes from note to note. For tests, and for whoever wants to know whether a reader of theirs is brittle. The
    /// same text always gets the same bytes.
    #[must_use]
    pub fn greased(mut self) -> NoteSigner {
        self.greased = true;
        self
    }

    /// Reads the private key text of the Go tools: `PRIVATE+KEY+name+hex+base64(0x01 ‖ seed)`. A second line is the key of the
    /// second signature, with the type 0x06.
    ///
    /// # Errors
    /// [`NoteError::Key`], [`NoteError::Name`], [`NoteError::Second`]. None repeats the text.
    pub fn from_text(text: &str) -> Result<NoteSigner, NoteError> {
        let (first, second) = match text.split_once('\n') {
            Some((first, second)) => (first, Some(second.trim_end())),
            None => (text, None),
        };
        let (name, id, algorithm, seed) = parse_secret(first)?;
        if algorithm != Algorithm::Ed25519 {
            return Err(NoteError::Key { what: "signing key", reason: "the algorithm is not Ed25519 (0x01)" });
        }
        let signer = NoteSigner::new(name, SigningKey::from_bytes(&seed))?;
        signer.verifier.has_id(id, "signing key")?;
        match second {
            Some(second) if !second.is_empty() => signer.with_second(CosignatureSigner::from_text(second)?),
            _ => Ok(signer),
        }
    }

    /// The private key text of the Go tools, and in a second line the key of the second signature, where there is one. Secret: it
    /// belongs in a file of mode 0600 and nowhere else.
    #[must_use]
    pub fn to_text(&self) -> String {
        let first = self.verifier.secret_text(&self.key.to_bytes());
        match &self.second {
            Some(second) => format!("{first}\n{}", second.to_text()),
            None => first,
        }
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The public half of the second signature's key.
    #[must_use]
    pub fn second(&self) -> Option<&VerifierKey> {
        self.second.as_deref().map(CosignatureSigner::verifier)
    }

    /// The signature lines for a note's text, each with its line feed.
    fn lines(&self, text: &str) -> Vec<String> {
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let mut lines = vec![line(&self.verifier.name, self.verifier.id, &signature)];
        // Only checkpoints have a second signature; a log's other notes are covered by the first.
        lines.extend(self.second.as_ref().and_then(|second| second.line(text, CosignTime(0)).ok()));
        if self.greased {
            grease::add(&mut lines, &self.verifier, text);
        }
        lines
    }
}

/// A signature line with its line feed.
pub(crate) fn line(name: &str, id: u32, signature: &[u8]) -> String {
    let payload = [&id.to_be_bytes()[..], signature].concat();
    format!("{LINE_START}{name} {}\n", STANDARD.encode(payload))
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: u32,
    /// What follows the id: the signature, behind a time where it is a cosignature; anything where this version does not know the key.
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
        let lines: String = signers.iter().flat_map(|signer| signer.lines(text)).collect();
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
            for key in known.iter().filter(|key| key.claims(line)) {
                key.check(&self.text, &line.signature)?;
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

    /// The cosignature of one cosigner: when it says that it saw this. `None`: there is no line of it. Where a cosigner has several
    /// lines, the latest time counts.
    ///
    /// # Errors
    /// [`NoteError::WrongSignature`] when any of its lines is wrong, or when `key` is no cosigner's.
    pub fn cosigned_at(&self, key: &VerifierKey) -> Result<Option<CosignTime>, NoteError> {
        let mut latest = None;
        for line in self.signatures.iter().filter(|line| key.claims(line)) {
            let time = key.check(&self.text, &line.signature)?;
            let time = time.ok_or_else(|| NoteError::WrongSignature { name: key.name.clone() })?;
            latest = latest.max(Some(time));
        }
        Ok(latest)
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

mod grease;

#[cfg(test)]
mod tests;
