//! The bytes of a record in memory: on their own, or within the larger piece that they were read with.
//!
//! Opening a ledger reads its log in segments and its bundles whole. Records stay where they were read until they are published: copying
//! each would take as long as reading all.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// A record within the bytes that it was read with, all of which it keeps in memory.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    piece: Arc<Vec<u8>>,
    start: u32,
    len: u32,
}

impl Found {
    /// # Panics
    /// If the piece is of 4 GiB or more: segments and bundles have at most 16 MiB.
    pub(crate) fn new(piece: Arc<Vec<u8>>, at: Range<usize>) -> Found {
        assert!(at.start <= at.end && at.end <= piece.len(), "invariant: a record lies within its piece");
        let short = |number: usize| u32::try_from(number).expect("invariant: pieces are of some MiB");
        Found { start: short(at.start), len: short(at.end - at.start), piece }
    }
}

impl Deref for Found {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.piece[self.start as usize..][..self.len as usize]
    }
}

/// The bytes of a record.
#[derive(Debug, Clone)]
pub(crate) enum Bytes {
    /// On their own.
    Own(Arc<[u8]>),
    /// As they were read.
    Found(Found),
}

impl Bytes {
    /// On their own, for whoever may keep them for long.
    pub(crate) fn to_own(&self) -> Arc<[u8]> {
        match self {
            Bytes::Own(bytes) => bytes.clone(),
            Bytes::Found(found) => Arc::from(&**found),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Own(bytes) => bytes,
            Bytes::Found(found) => found,
        }
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Bytes {
        Bytes::Own(bytes)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::Own(bytes.into())
    }
}

impl From<Found> for Bytes {
    fn from(found: Found) -> Bytes {
        Bytes::Found(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_the_same_wherever_they_lie() {
        let piece = Arc::new(b"one, two".to_vec());
        let (one, none) = (Found::new(piece.clone(), 0..3), Found::new(piece.clone(), 8..8));
        assert_eq!((&*one, &*none), (&b"one"[..], &b""[..]));
        let (found, own) = (Bytes::from(one), Bytes::from(b"one".to_vec()));
        assert_eq!((&*found, &*found.to_own()), (&*own, &*own.to_own()));
        assert_eq!(Arc::strong_count(&piece), 3, "nothing was copied but for `to_own`");
    }

    #[test]
    #[should_panic(expected = "invariant")]
    fn a_record_past_its_piece_is_a_bug() {
        Found::new(Arc::new(vec![0; 4]), 2..5);
    }
}
