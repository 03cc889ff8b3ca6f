//! The Merkle tree of RFC 6962 section 2.1: roots, inclusion proofs, consistency proofs.
//!
//! Everything here is a pure function of hashes. Proofs are made from a [`HashReader`], which hands out the hashes of complete
//! subtrees, wherever they lie; verifying needs nothing but its arguments. Shapes are exactly RFC 6962's: leaf
//! `SHA-256(0x00 ‖ record)`, node `SHA-256(0x01 ‖ left ‖ right)`, split at the largest power of two below the size, and the
//! empty tree's root is `SHA-256("")`.

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};
use thiserror::Error;

/// Most hashes a proof can hold: one per level of a tree of 2^63 leaves.
pub const PROOF_LEN_MAX: usize = 63;

/// Why a proof does not hold, or cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The record is not in a tree of this size.
    #[error("record {index} is not in a tree of {size} records")]
    IndexOutside {
        /// The record.
        index: RecordIndex,
        /// The tree.
        size: TreeSize,
    },
    /// The older tree is larger than the newer.
    #[error("a tree of {old} records cannot be the past of one of {new}")]
    SizesReversed {
        /// The tree that was said to be older.
        old: TreeSize,
        /// The tree that was said to be newer.
        new: TreeSize,
    },
    /// The proof does not have the number of hashes that its sizes determine.
    #[error("the proof has {actual} hashes, and must have {expected}")]
    ProofLength {
        /// The number that RFC 6962 determines.
        expected: usize,
        /// The number found.
        actual: usize,
    },
    /// The proof leads to another root.
    #[error("the proof leads to root {actual}, and the checkpoint says {expected}")]
    RootMismatch {
        /// The root of the checkpoint.
        expected: Digest,
        /// The root that the proof computes.
        actual: Digest,
    },
    /// The proof's hashes do not even compute the older root.
    #[error("the proof leads to the older root {actual}, and the older checkpoint says {expected}")]
    OldRootMismatch {
        /// The older checkpoint's root.
        expected: Digest,
        /// The root that the proof computes.
        actual: Digest,
    },
}

/// Where the hashes of complete subtrees come from: tiles, or memory.
pub trait HashReader {
    /// What may go wrong while reading.
    type Error;

    /// The hash over the leaves `index·2^level .. (index+1)·2^level`, all of which exist.
    ///
    /// # Errors
    /// The reader's own: a missing tile, bytes of a wrong length.
    fn hash(&self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// The root of the empty tree.
#[must_use]
pub fn empty_root() -> Digest {
    Digest::sha256(b"")
}

/// The right edge of a tree: one hash per set bit of its size, largest subtree first. 64 hashes are enough to append for ever.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Digest>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Frontier {
        Frontier::default()
    }

    /// The right edge of the tree of `size` records whose subtrees `reader` knows.
    ///
    /// # Errors
    /// The reader's.
    pub fn read<R: HashReader>(size: TreeSize, reader: &R) -> Result<Frontier, R::Error> {
        let hashes = complete_subtrees(0, size.0)
            .into_iter()
            .map(|(level, index)| reader.hash(level, index))
            .collect::<Result<Vec<Digest>, R::Error>>()?;
        Ok(Frontier { size: size.0, hashes })
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        self.push_subtree(0, leaf);
    }

    /// Appends 2^`level` leaves of which this is the root. The size must be a multiple of that.
    pub(crate) fn push_subtree(&mut self, level: u8, root: Digest) {
        let subtrees = self.size >> level;
        assert!(subtrees << level == self.size, "invariant: subtrees are aligned");
        let mut hash = root;
        for _ in 0..subtrees.trailing_ones() {
            let left = self.hashes.pop().expect("invariant: one hash per set bit of the size");
            hash = Digest::node(&left, &hash);
        }
        self.hashes.push(hash);
        self.size += 1 << level;
    }

    /// How many leaves.
    #[must_use]
    pub fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// The root: the subtrees folded from the right.
    #[must_use]
    pub fn root(&self) -> Digest {
        fold_right(&self.hashes).unwrap_or_else(empty_root)
    }
}

/// The root of the tree of `size` records.
///
/// # Errors
/// The reader's.
pub fn root<R: HashReader>(size: TreeSize, reader: &R) -> Result<Digest, R::Error> {
    Ok(Frontier::read(size, reader)?.root())
}

/// The inclusion proof (RFC 6962 section 2.1.1) of a record in the tree of `size` records, from the leaf to the root.
///
/// # Errors
/// [`ProofError::Tree`] when the record is not in that tree; the reader's.
pub fn inclusion_proof<R: HashReader>(
    index: RecordIndex,
    size: TreeSize,
    reader: &R,
) -> Result<Vec<Digest>, ProofError<R::Error>> {
    if index.0 >= size.0 {
        return Err(ProofError::Tree(TreeError::IndexOutside { index, size }));
    }
    let (mut start, mut end) = (0, size.0);
    let mut siblings = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index.0 < middle {
            siblings.push((middle, end));
            end = middle;
        } else {
            siblings.push((start, middle));
            start = middle;
        }
    }
    siblings.into_iter().rev().map(|(from, to)| range_hash(from, to, reader).map_err(ProofError::Read)).collect()
}

/// The consistency proof (RFC 6962 section 2.1.2) between two sizes of one tree. Empty when the older is empty or both are equal.
///
/// # Errors
/// [`ProofError::Tree`] when `old` is larger than `new`; the reader's.
pub fn consistency_proof<R: HashReader>(
    old: TreeSize,
    new: TreeSize,
    reader: &R,
) -> Result<Vec<Digest>, ProofError<R::Error>> {
    if old.0 > new.0 {
        return Err(ProofError::Tree(TreeError::SizesReversed { old, new }));
    }
    if old.0 == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, new.0);
    let mut siblings = Vec::new();
    // SUBPROOF of RFC 6962, walked from the root down; `start == 0` is its `b == true`.
    while end != old.0 {
        let middle = start + split(end - start);
        if old.0 <= middle {
            siblings.push((middle, end));
            end = middle;
        } else {
            siblings.push((start, middle));
            start = middle;
        }
    }
    if start != 0 {
        siblings.push((start, end));
    }
    siblings.into_iter().rev().map(|(from, to)| range_hash(from, to, reader).map_err(ProofError::Read)).collect()
}

/// Why a proof could not be made.
#[derive(Debug, Error)]
pub enum ProofError<E> {
    /// It was asked for a tree in which it does not exist.
    #[error(transparent)]
    Tree(TreeError),
    /// A hash could not be read.
    #[error("cannot read a hash of the tree")]
    Read(#[source] E),
}

/// Checks that the record with this leaf hash is at `index` in the tree of `size` records with this root.
///
/// # Errors
/// [`TreeError`]: what does not fit.
pub fn verify_inclusion(
    leaf: &Digest,
    index: RecordIndex,
    size: TreeSize,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), TreeError> {
    let actual = root_from_inclusion(leaf, index, size, proof)?;
    if actual == *root { Ok(()) } else { Err(TreeError::RootMismatch { expected: *root, actual }) }
}

/// The root to which an inclusion proof leads.
///
/// # Errors
/// [`TreeError::IndexOutside`], [`TreeError::ProofLength`].
pub fn root_from_inclusion(
    leaf: &Digest,
    index: RecordIndex,
    size: TreeSize,
    proof: &[Digest],
) -> Result<Digest, TreeError> {
    if index.0 >= size.0 {
        return Err(TreeError::IndexOutside { index, size });
    }
    // Below the level where the paths of this record and of the last one meet, every level has a sibling. Above it the
    // siblings are all left ones: one per set bit.
    let inner = 64 - (index.0 ^ (size.0 - 1)).leading_zeros();
    let above = (index.0 >> (inner % 64)) * u64::from(inner < 64);
    let expected = inner as usize + above.count_ones() as usize;
    if proof.len() != expected {
        return Err(TreeError::ProofLength { expected, actual: proof.len() });
    }
    let (lower, upper) = proof.split_at(inner as usize);
    let mut hash = *leaf;
    for (level, sibling) in lower.iter().enumerate() {
        hash = if index.0 >> level & 1 == 0 { Digest::node(&hash, sibling) } else { Digest::node(sibling, &hash) };
    }
    Ok(upper.iter().fold(hash, |hash, sibling| Digest::node(sibling, &hash)))
}

/// Checks that the tree of `old` records is the beginning of the tree of `new` records (RFC 6962 section 2.1.2, the algorithm
/// of RFC 9162 section 2.1.4.2).
///
/// # Errors
/// [`TreeError`]: what does not fit.
pub fn verify_consistency(
    old: TreeSize,
    old_root: &Digest,
    new: TreeSize,
    new_root: &Digest,
    proof: &[Digest],
) -> Result<(), TreeError> {
    if old.0 > new.0 {
        return Err(TreeError::SizesReversed { old, new });
    }
    if old.0 == 0 || old == new {
        if !proof.is_empty() {
            return Err(TreeError::ProofLength { expected: 0, actual: proof.len() });
        }
        let expected_old = if old.0 == 0 { empty_root() } else { *new_root };
        return if *old_root == expected_old {
            Ok(())
        } else {
            Err(TreeError::OldRootMismatch { expected: *old_root, actual: expected_old })
        };
    }
    // The old tree's last complete subtree is known to both; where the old size is a power of two, it is the old root.
    let shift = old.0.trailing_zeros();
    let whole = old.0.is_power_of_two();
    let inner = 64 - ((old.0 - 1) ^ (new.0 - 1)).leading_zeros() - shift;
    let left = ((old.0 - 1) >> (shift + inner).min(63)) * u64::from(shift + inner < 64);
    let expected = usize::from(!whole) + inner as usize + left.count_ones() as usize;
    if proof.len() != expected {
        return Err(TreeError::ProofLength { expected, actual: proof.len() });
    }
    let (seed, rest) = if whole { (*old_root, proof) } else { (proof[0], &proof[1..]) };
    let (lower, upper) = rest.split_at(inner as usize);
    let mask = (old.0 - 1) >> shift;
    let (mut old_hash, mut new_hash) = (seed, seed);
    for (level, sibling) in lower.iter().enumerate() {
        if mask >> level & 1 == 0 {
            new_hash = Digest::node(&new_hash, sibling);
        } else {
            old_hash = Digest::node(sibling, &old_hash);
            new_hash = Digest::node(sibling, &new_hash);
        }
    }
    for sibling in upper {
        old_hash = Digest::node(sibling, &old_hash);
        new_hash = Digest::node(sibling, &new_hash);
    }
    if old_hash != *old_root {
        return Err(TreeError::OldRootMismatch { expected: *old_root, actual: old_hash });
    }
    if new_hash != *new_root {
        return Err(TreeError::RootMismatch { expected: *new_root, actual: new_hash });
    }
    Ok(())
}

/// The complete subtrees of `start..end`, as (level, index), left to right. `start` is a multiple of a power of two that is at
/// least as large as the range, as every range of RFC 6962's recursion is.
fn complete_subtrees(start: u64, end: u64) -> Vec<(u8, u64)> {
    let mut subtrees = Vec::new();
    let mut from = start;
    while from < end {
        let level = 63 - (end - from).leading_zeros();
        subtrees.push((level as u8, from >> level));
        from += 1 << level;
    }
    subtrees
}

fn range_hash<R: HashReader>(start: u64, end: u64, reader: &R) -> Result<Digest, R::Error> {
    let hashes = complete_subtrees(start, end)
        .into_iter()
        .map(|(level, index)| reader.hash(level, index))
        .collect::<Result<Vec<Digest>, R::Error>>()?;
    Ok(fold_right(&hashes).expect("invariant: a range of a proof is not empty"))
}

fn fold_right(hashes: &[Digest]) -> Option<Digest> {
    let (last, rest) = hashes.split_last()?;
    Some(rest.iter().rev().fold(*last, |right, left| Digest::node(left, &right)))
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

#[cfg(test)]
mod tests;
