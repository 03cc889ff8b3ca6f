//! Signed heads of streams: the bytes that a producer signs, signing them and checking them.
//!
//! A `stream.head` record says how far its producer's stream went when it was signed: with it, nobody but the producer can have
//! written the records before. The signed bytes (`ledger/FORMAT.md`, Streams) are text lines and not the record itself, so that a
//! signer can be as small as a security token. Which key belongs to which stream is the caller's to know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_schemas::data::{CheckpointSeen, StreamHead};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{Sequence, StreamId};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use thiserror::Error;

use crate::note::check_name;

/// The first line of the signed bytes: no other signature of Cairn's is over bytes that begin so.
pub const HEADER: &str = "cairn stream head v1";

/// Why a head is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Not the standard base64 of a 32-byte Ed25519 key.
    #[error("{text:?} is not an Ed25519 public key: expected 32 bytes in standard base64")]
    Key {
        /// The text, cut at 80 characters.
        text: String,
    },
    /// Not the standard base64 of 64 bytes.
    #[error("the head's signature is not 64 bytes in standard base64")]
    SignatureText,
    /// The checkpoint that it names has an origin that no log can have.
    #[error("the head names a checkpoint of {origin:?}, which is no origin")]
    Origin {
        /// The origin, cut at 80 characters.
        origin: String,
    },
    /// The key did not sign this.
    #[error("the head of {stream} at sequence {sequence} is not signed by the stream's key")]
    WrongSignature {
        /// The stream.
        stream: StreamId,
        /// The last record that it covers.
        sequence: Sequence,
    },
}

/// The bytes that are signed: six or eight lines, each with its line feed.
///
/// # Errors
/// [`HeadError::Origin`]: an origin with a line feed in it could say two things.
pub fn signed_bytes(
    stream: &StreamId,
    sequence: Sequence,
    digest: &Digest,
    checkpoint: Option<&CheckpointSeen>,
) -> Result<Vec<u8>, HeadError> {
    let mut text = format!("{HEADER}\n{stream}\n{}\n{digest}\n", sequence.padded());
    match checkpoint {
        None => text += "no checkpoint\n",
        Some(CheckpointSeen { origin, size, root }) => {
            check_name(origin).map_err(|_| HeadError::Origin { origin: origin.chars().take(80).collect() })?;
            text += &format!("checkpoint\n{origin}\n{size}\n{root}\n");
        }
    }
    Ok(text.into_bytes())
}

/// Signs a stream's head; `sequence` and `digest` are those of the last record before the head's own.
///
/// # Errors
/// [`HeadError::Origin`].
pub fn sign(
    key: &SigningKey,
    stream: &StreamId,
    sequence: Sequence,
    digest: Digest,
    checkpoint: Option<CheckpointSeen>,
) -> Result<StreamHead, HeadError> {
    let bytes = signed_bytes(stream, sequence, &digest, checkpoint.as_ref())?;
    let signature = STANDARD.encode(key.sign(&bytes).to_bytes());
    Ok(StreamHead { sequence, digest, checkpoint, signature })
}

/// Checks a head's signature by the stream's key. That it stands at the right place of its stream is checked where it stands.
///
/// # Errors
/// [`HeadError`].
pub fn verify(head: &StreamHead, stream: &StreamId, key: &VerifyingKey) -> Result<(), HeadError> {
    let bytes = signed_bytes(stream, head.sequence, &head.digest, head.checkpoint.as_ref())?;
    let signature = STANDARD.decode(&head.signature).map_err(|_| HeadError::SignatureText)?;
    let signature = Signature::from_slice(&signature).map_err(|_| HeadError::SignatureText)?;
    key.verify_strict(&bytes, &signature)
        .map_err(|_| HeadError::WrongSignature { stream: stream.clone(), sequence: head.sequence })
}

/// Reads a stream key as `stream.opened`, `node.joined` and `ledger.opened` carry it.
///
/// # Errors
/// [`HeadError::Key`]; a key of small order too, since its signatures prove nothing.
pub fn parse_key(text: &str) -> Result<VerifyingKey, HeadError> {
    let refuse = || HeadError::Key { text: text.chars().take(80).collect() };
    let bytes: [u8; 32] = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(refuse)?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak()).ok_or_else(refuse)
}

/// A stream key as records carry it: 32 bytes in standard base64.
#[must_use]
pub fn format_key(key: &VerifyingKey) -> String {
    STANDARD.encode(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamId {
        StreamId::new(&"sensor-1".parse().unwrap(), [0xab; 16])
    }

    fn seen() -> CheckpointSeen {
        CheckpointSeen { origin: "ledger.example/1".into(), size: 12, root: Digest::sha256(b"root") }
    }

    #[test]
    fn the_signed_bytes_are_these() {
        let bytes = signed_bytes(&stream(), Sequence(41), &Digest::ZERO, Some(&seen())).unwrap();
        let expected = "cairn stream head v1\n\
            sensor-1.abababababababababababababababab\n\
            00000000000000000041\n\
            0000000000000000000000000000000000000000000000000000000000000000\n\
            checkpoint\n\
            ledger.example/1\n\
            12\n\
            4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        let bytes = signed_bytes(&stream(), Sequence(0), &Digest::ZERO, None).unwrap();
        assert!(bytes.ends_with(b"0000\nno checkpoint\n"));
    }

    #[test]
    fn every_signed_field_matters() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let head = sign(&key, &stream(), Sequence(41), Digest::sha256(b"leaf"), Some(seen())).unwrap();
        let public = parse_key(&format_key(&key.verifying_key())).unwrap();
        verify(&head, &stream(), &public).unwrap();
        let other = StreamId::new(&"sensor-1".parse().unwrap(), [0xac; 16]);
        assert!(verify(&head, &other, &public).is_err());
        assert!(verify(&head, &stream(), &SigningKey::from_bytes(&[6; 32]).verifying_key()).is_err());
        let changed = |change: &dyn Fn(&mut StreamHead)| {
            let mut head = head.clone();
            change(&mut head);
            verify(&head, &stream(), &public).unwrap_err()
        };
        let wrong = |sequence| HeadError::WrongSignature { stream: stream(), sequence };
        assert_eq!(changed(&|head| head.sequence = Sequence(42)), wrong(Sequence(42)));
        assert_eq!(changed(&|head| head.digest = Digest::ZERO), wrong(Sequence(41)));
        assert_eq!(changed(&|head| head.checkpoint = None), wrong(Sequence(41)));
        assert_eq!(changed(&|head| head.checkpoint.as_mut().unwrap().size = 13), wrong(Sequence(41)));
        assert_eq!(changed(&|head| head.checkpoint.as_mut().unwrap().root = Digest::ZERO), wrong(Sequence(41)));
        assert_eq!(changed(&|head| head.checkpoint.as_mut().unwrap().origin = "x/1".into()), wrong(Sequence(41)));
        assert_eq!(changed(&|head| head.signature.truncate(60)), HeadError::SignatureText);
        let split = changed(&|head| head.checkpoint.as_mut().unwrap().origin = "x\n1".into());
        assert_eq!(split, HeadError::Origin { origin: "x\n1".into() });
    }

    #[test]
    fn keys_that_prove_nothing_are_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        for bad in ["", "AAAA", &STANDARD.encode(neutral), &STANDARD.encode([7; 33])] {
            assert!(parse_key(bad).is_err(), "{bad}");
        }
    }
}
