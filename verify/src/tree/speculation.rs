//! Heads' signatures, checked on the workers, before it is known by which key they must be.
//!
//! A signature costs as much as reading twenty records, and where producers write little and sign every second, half of all records
//! are heads: one core that checks them in their turn would be the whole verification. By which key a stream is signed is only known
//! in the order of the ledger. So a worker guesses it, from what records of that node say, and checks the signature by that key. The
//! checks take its word only where the guess was the key that the stream must be signed with, and check again where it was not: a
//! wrong guess costs time and decides nothing.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use cairn_ledger::head::{self, HeadError};
use cairn_schemas::data::StreamHead;
use cairn_schemas::ids::{NodeId, StreamId};
use ed25519_dalek::VerifyingKey;

/// Most nodes whose keys are remembered. Heads of others are checked in their turn.
const NODES_MAX: usize = 16_384;

/// What came of a signature by a key that was guessed.
#[derive(Debug)]
pub(crate) struct Guess {
    key: VerifyingKey,
    result: Result<(), HeadError>,
}

impl Guess {
    /// The result, if this was the key.
    pub(crate) fn by(&self, key: &VerifyingKey) -> Option<&Result<(), HeadError>> {
        (self.key == *key).then_some(&self.result)
    }
}

/// The keys that records name, in whatever order they were read. Nothing of this is believed.
#[derive(Debug, Default)]
pub(crate) struct Keys(RwLock<HashMap<NodeId, VerifyingKey>>);

impl Keys {
    /// A record says that this is a node's key.
    pub(crate) fn note(&self, node: &NodeId, key: &str) {
        let Ok(key) = head::parse_key(key) else { return };
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < NODES_MAX || keys.contains_key(node) {
            keys.insert(node.clone(), key);
        }
    }

    /// Checks a head's signature by the key that its node seems to have.
    pub(crate) fn guess(&self, head: &StreamHead, stream: &StreamId) -> Option<Guess> {
        let node = stream.node()?;
        let key = *self.0.read().unwrap_or_else(PoisonError::into_inner).get(&node)?;
        Some(Guess { key, result: head::verify(head, stream, &key) })
    }
}

#[cfg(test)]
mod tests {
    use cairn_schemas::digest::Digest;
    use cairn_schemas::ids::Sequence;
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn a_guess_counts_for_its_own_key_only() {
        let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]).verifying_key());
        let node: NodeId = "sensor-1".parse().unwrap();
        let stream = StreamId::new(&node, [3; 16]);
        let head = head::sign(&key, &stream, Sequence(4), Digest::ZERO, None).unwrap();
        let keys = Keys::default();
        assert!(keys.guess(&head, &stream).is_none());
        keys.note(&node, "not a key");
        assert!(keys.guess(&head, &stream).is_none());
        keys.note(&node, &head::format_key(&key.verifying_key()));
        let guess = keys.guess(&head, &stream).unwrap();
        assert_eq!(guess.by(&key.verifying_key()), Some(&Ok(())));
        assert_eq!(guess.by(&other), None);
        // Whatever a later record says of the node's key, what was signed by the right one is checked by that.
        keys.note(&node, &head::format_key(&other));
        let guess = keys.guess(&head, &stream).unwrap();
        assert!(guess.by(&other).unwrap().is_err());
        assert_eq!(guess.by(&key.verifying_key()), None);
    }

    #[test]
    fn nodes_at_the_limit_and_one_past_it() {
        let keys = Keys::default();
        let text = head::format_key(&SigningKey::from_bytes(&[1; 32]).verifying_key());
        let node = |number: usize| -> NodeId { format!("n{number}").parse().unwrap() };
        // The map is filled as `note` would, without parsing a key each time.
        let key = head::parse_key(&text).unwrap();
        keys.0.write().unwrap().extend((0..NODES_MAX - 1).map(|number| (node(number), key)));
        for number in [NODES_MAX, NODES_MAX + 1, 0] {
            keys.note(&node(number), &text);
        }
        let keys = keys.0.read().unwrap();
        assert_eq!(keys.len(), NODES_MAX);
        assert!(keys.contains_key(&node(NODES_MAX)) && !keys.contains_key(&node(NODES_MAX + 1)));
    }
}
