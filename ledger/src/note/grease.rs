//! Lines that say nothing, so that readers stay able to ignore what they do not know.
//!
//! A format that allows unknown lines and never carries any soon has readers that fail on the first one. Test checkpoints carry
//! some, and in a changing order, as Sunlight's do.

use sha2::{Digest as _, Sha256};

use super::{VerifierKey, line};

/// How many bytes of each note's digest decide.
const DIGEST_LEN: usize = 32;

/// Adds lines and shuffles all; the same text by the same key gets the same.
pub(super) fn add(lines: &mut Vec<String>, key: &VerifierKey, text: &str) {
    let seed: [u8; DIGEST_LEN] = Sha256::new_with_prefix(text).chain_update(key.name()).finalize().into();
    let id = u32::from_be_bytes([seed[0], seed[1], seed[2], seed[3]]);
    // A stranger; the log's own name under another key's id; an algorithm with long signatures; one byte.
    lines.push(line(&format!("grease.invalid/{:02x}", seed[4]), id, &seed));
    if key.id() != !id {
        lines.push(line(key.name(), !id, &[seed, seed].concat()));
    }
    if seed[5] & 1 == 0 {
        lines.push(line("grease.invalid/long", id, &seed.repeat(76)));
    }
    lines.push(line("grease.invalid/short", id, &seed[..1]));
    for end in (1..lines.len()).rev() {
        let pick = usize::from(seed[6 + end % (DIGEST_LEN - 6)]) % (end + 1);
        lines.swap(end, pick);
    }
}
