//! The line on `checkpoint` that says who may write: `ledger/FORMAT.md`, S3.
//!
//! It is a signature line by a key that nobody knows, so every reader of signed notes passes over it. It makes the object's bytes, and
//! with them its ETag, different for every writer, which is what the compare-and-swap compares.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError};

/// The key name of the line.
const NAME: &str = "cairn/s3-epoch";
/// The first four bytes of `SHA-256(name ‖ LF ‖ 0xff ‖ "cairn s3 epoch v1")`, as signed-note asks of an unassigned signature type.
const ID: [u8; 4] = [0x50, 0xaf, 0xb0, 0x21];
const LINE_START: &str = "\u{2014} ";
/// Bytes of the random part that tells two writers of one epoch apart.
pub(crate) const TOKEN_LEN: usize = 16;

/// Who may write, and where what is not in a checkpoint yet was staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Epoch {
    /// Counts take-overs, from 1.
    pub(crate) epoch: u64,
    /// The epoch under whose staging the records after this checkpoint lie: `epoch` itself from the moment in which everything that
    /// was acknowledged before is in a checkpoint.
    pub(crate) staged: u64,
    /// Random, one a writer.
    pub(crate) token: [u8; TOKEN_LEN],
}

impl Epoch {
    /// The note with this line at its end.
    pub(crate) fn onto(&self, note: &[u8]) -> Vec<u8> {
        let mut line = ID.to_vec();
        line.extend_from_slice(&self.epoch.to_be_bytes());
        line.extend_from_slice(&self.staged.to_be_bytes());
        line.extend_from_slice(&self.token);
        [note, format!("{LINE_START}{NAME} {}\n", STANDARD.encode(line)).as_bytes()].concat()
    }

    /// A stored note without the line, and what the line says; all zeros where there is none, as on a ledger that was copied here.
    pub(crate) fn off(stored: &[u8]) -> Result<(Vec<u8>, Epoch, Checkpoint), CheckpointError> {
        let (checkpoint, _) = Checkpoint::parse(stored)?;
        let start = format!("{LINE_START}{NAME} ");
        let mut note = Vec::with_capacity(stored.len());
        let mut found = Epoch::default();
        for line in stored.split_inclusive(|byte| *byte == b'\n') {
            let read = line.strip_prefix(start.as_bytes()).and_then(|rest| Epoch::read(rest.trim_ascii_end()));
            match read {
                Some(epoch) => found = epoch,
                None => note.extend_from_slice(line),
            }
        }
        Ok((note, found, checkpoint))
    }

    fn read(text: &[u8]) -> Option<Epoch> {
        let bytes = STANDARD.decode(text).ok()?;
        let (id, rest) = bytes.split_first_chunk::<4>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (staged, token) = rest.split_first_chunk::<8>()?;
        (*id == ID).then_some(Epoch {
            epoch: u64::from_be_bytes(*epoch),
            staged: u64::from_be_bytes(*staged),
            token: token.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::fixture::signer;

    #[test]
    fn the_line_goes_on_and_comes_off() {
        let hash = Sha256::digest(b"cairn/s3-epoch\n\xffcairn s3 epoch v1");
        assert_eq!(hash[..4], ID, "{:02x?}", &hash[..4]);
        let signer = signer();
        let origin = signer.verifier().name().to_owned();
        let root = cairn_schemas::digest::Digest::sha256(b"");
        let checkpoint = Checkpoint { origin: origin.clone(), size: cairn_schemas::ids::TreeSize(0), root };
        let note = checkpoint.sign(&signer).unwrap();
        let epoch = Epoch { epoch: 7, staged: 6, token: [9; TOKEN_LEN] };
        let stored = epoch.onto(&note);
        assert_eq!(Epoch::off(&stored).unwrap(), (note.clone(), epoch, checkpoint.clone()));
        assert_eq!(Epoch::off(&note).unwrap(), (note, Epoch::default(), checkpoint.clone()));
        assert_eq!(Checkpoint::verify(&stored, &origin, &[signer.verifier().clone()]).unwrap(), checkpoint);
        assert!(Epoch::off(b"no note").is_err());
    }

    #[test]
    fn the_line_is_the_documents() {
        let token = std::array::from_fn(|at| at as u8);
        let line = Epoch { epoch: 3, staged: 3, token }.onto(b"");
        let document = include_str!("../../FORMAT.md");
        let example = document.split("```example s3-epoch\n").nth(1).unwrap().split("```").next().unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), example);
    }
}
