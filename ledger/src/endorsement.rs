//! The root key's word: that a key signs a volume's checkpoints, or that a witness policy is the ledger's.
//!
//! An endorsement is a signed note by `<ledger name>/root`, the key that `ledger.opened` names, which lies offline. Records carry
//! it, so that whoever holds the control plane, and not the root key, can neither change the ledger's key nor its witnesses
//! unnoticed. The text forms are in `ledger/FORMAT.md`, Endorsements.

use cairn_schemas::digest::Digest;
use thiserror::Error;

use crate::note::{Algorithm, Note, NoteError, NoteSigner, VerifierKey, check_name};

/// The first line of a key's endorsement.
const KEY_HEADER: &str = "cairn ledger key v1";
/// The first line of a policy's endorsement.
const POLICY_HEADER: &str = "cairn witness policy v1";

/// Why a text is no endorsement, or not one by this root.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndorsementError {
    /// Not a signed note, or not signed by the root.
    #[error("the endorsement is refused: {0}")]
    Note(#[from] NoteError),
    /// The first line says something else.
    #[error("an endorsement begins with `{KEY_HEADER}` or `{POLICY_HEADER}`, and this with {0:?}")]
    Header(String),
    /// A line is missing, too much, or not what it should be.
    #[error("line {line} of the endorsement is not {expected}")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What it should be.
        expected: &'static str,
    },
}

/// What the root key may say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one is made now and then, and taken apart at once")]
pub enum Endorsement {
    /// This key signs the checkpoints of the volume that is its name.
    LedgerKey {
        /// The key, Ed25519; its name is the origin.
        key: VerifierKey,
        /// The key of the second signature, where there is one; its name is the origin too.
        second: Option<VerifierKey>,
    },
    /// The ledger has this witness policy.
    WitnessPolicy {
        /// The ledger's name, without a volume.
        ledger: String,
        /// The SHA-256 of the policy's text; of the empty text where the ledger has no witnesses from here on.
        policy: Digest,
    },
}

impl Endorsement {
    /// The word for a policy; `None`: no witnesses from here on.
    #[must_use]
    pub fn of_policy(ledger: &str, policy: Option<&str>) -> Endorsement {
        let policy = Digest::sha256(policy.unwrap_or_default().as_bytes());
        Endorsement::WitnessPolicy { ledger: ledger.to_owned(), policy }
    }

    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Endorsement::LedgerKey { key, second } => {
                let second = second.as_ref().map(|key| format!("{key}\n")).unwrap_or_default();
                format!("{KEY_HEADER}\n{}\n{key}\n{second}", key.name())
            }
            Endorsement::WitnessPolicy { ledger, policy } => format!("{POLICY_HEADER}\n{ledger}\n{policy}\n"),
        }
    }

    /// The signed note.
    ///
    /// # Errors
    /// [`EndorsementError`]: what it says could not be read back.
    pub fn sign(&self, root: &NoteSigner) -> Result<String, EndorsementError> {
        let text = self.to_text();
        Endorsement::from_text(&text)?;
        let note = Note::sign(&text, &[root])?;
        Ok(String::from_utf8(note).expect("invariant: a text and base64 are UTF-8"))
    }

    /// Reads an endorsement that `root` signed.
    ///
    /// # Errors
    /// [`EndorsementError`].
    pub fn verify(note: &str, root: &VerifierKey) -> Result<Endorsement, EndorsementError> {
        let note = Note::parse(note.as_bytes())?;
        note.verify(std::slice::from_ref(root))?;
        Endorsement::from_text(note.text())
    }

    fn from_text(text: &str) -> Result<Endorsement, EndorsementError> {
        let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').collect();
        match lines[..] {
            [KEY_HEADER, origin, key] => key_of(origin, key, None),
            [KEY_HEADER, origin, key, second] => key_of(origin, key, Some(second)),
            [POLICY_HEADER, ledger, policy] => policy_of(ledger, policy),
            [header @ (KEY_HEADER | POLICY_HEADER), ..] => {
                let most = if header == KEY_HEADER { 4 } else { 3 };
                let (line, expected) =
                    if lines.len() > most { (most + 1, "the end") } else { (lines.len() + 1, "there") };
                Err(EndorsementError::Line { line, expected })
            }
            [header, ..] => Err(EndorsementError::Header(header.chars().take(80).collect())),
            [] => Err(EndorsementError::Header(String::new())),
        }
    }
}

fn key_of(origin: &str, key: &str, second: Option<&str>) -> Result<Endorsement, EndorsementError> {
    let read = |text: &str, line, expected, algorithm| {
        let key = text.parse::<VerifierKey>().ok();
        key.filter(|key| key.name() == origin && key.key().algorithm() == algorithm)
            .ok_or(EndorsementError::Line { line, expected })
    };
    let key = read(key, 3, "an Ed25519 vkey with the origin as its name", Algorithm::Ed25519)?;
    let expected = "an ML-DSA-44 vkey with the origin as its name";
    let second = second.map(|text| read(text, 4, expected, Algorithm::MlDsa44Cosignature)).transpose()?;
    Ok(Endorsement::LedgerKey { key, second })
}

fn policy_of(ledger: &str, policy: &str) -> Result<Endorsement, EndorsementError> {
    check_name(ledger)?;
    let policy =
        policy.parse().map_err(|_| EndorsementError::Line { line: 3, expected: "a SHA-256 in hexadecimal" })?;
    Ok(Endorsement::WitnessPolicy { ledger: ledger.to_owned(), policy })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::cosignature::CosignatureSigner;
    use crate::mldsa::SecretKey;

    fn root(seed: u8) -> NoteSigner {
        NoteSigner::new("acme/root", SigningKey::from_bytes(&[seed; 32])).unwrap().greased()
    }

    fn key(name: &str) -> VerifierKey {
        NoteSigner::new(name, SigningKey::from_bytes(&[9; 32])).unwrap().verifier().clone()
    }

    #[test]
    fn what_the_root_says_is_read_back() {
        let second = CosignatureSigner::mldsa44("acme/2", SecretKey::from_seed(&[4; 32])).unwrap();
        for endorsement in [
            Endorsement::LedgerKey { key: key("acme/2"), second: None },
            Endorsement::LedgerKey { key: key("acme/2"), second: Some(second.verifier().clone()) },
            Endorsement::of_policy("acme", Some("quorum none\n")),
            Endorsement::of_policy("acme", None),
        ] {
            let note = endorsement.sign(&root(1)).unwrap();
            assert_eq!(Endorsement::verify(&note, root(1).verifier()), Ok(endorsement));
            let other = Endorsement::verify(&note, root(2).verifier());
            assert!(matches!(other, Err(EndorsementError::Note(NoteError::NotSigned { .. }))));
        }
    }

    #[test]
    fn a_changed_word_is_refused() {
        let note = Endorsement::of_policy("acme", Some("quorum none\n")).sign(&root(1)).unwrap();
        let changed = note.replace("acme\n", "acmf\n");
        let wrong = NoteError::WrongSignature { name: "acme/root".into() };
        assert_eq!(Endorsement::verify(&changed, root(1).verifier()), Err(EndorsementError::Note(wrong)));
    }

    #[test]
    fn other_texts_by_the_root_are_no_endorsements() {
        let said = |text: &str| {
            let note = String::from_utf8(Note::sign(text, &[&root(1)]).unwrap()).unwrap();
            Endorsement::verify(&note, root(1).verifier()).unwrap_err()
        };
        let line = |line, expected| EndorsementError::Line { line, expected };
        let vkey = key("acme/1").to_string();
        assert_eq!(said("acme/1\n5\nroot\n"), EndorsementError::Header("acme/1".into()));
        let expected = "an Ed25519 vkey with the origin as its name";
        assert_eq!(said(&format!("{KEY_HEADER}\nacme/2\n{vkey}\n")), line(3, expected));
        assert_eq!(said(&format!("{KEY_HEADER}\nacme/1\nnothing\n")), line(3, expected));
        let expected = "an ML-DSA-44 vkey with the origin as its name";
        assert_eq!(said(&format!("{KEY_HEADER}\nacme/1\n{vkey}\n{vkey}\n")), line(4, expected));
        assert_eq!(said(&format!("{KEY_HEADER}\nacme/1\n")), line(3, "there"));
        assert_eq!(said(&format!("{KEY_HEADER}\nacme/1\n{vkey}\n{vkey}\nmore\n")), line(5, "the end"));
        assert_eq!(said(&format!("{POLICY_HEADER}\nacme\n00\n")), line(3, "a SHA-256 in hexadecimal"));
        assert_eq!(said(&format!("{POLICY_HEADER}\nacme\n00\nmore\n")), line(4, "the end"));
    }
}
