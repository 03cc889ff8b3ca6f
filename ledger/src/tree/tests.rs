//! The tree against `rs_merkle`, `ct-merkle` and RFC 6962's own definitions, written out recursively.

use std::convert::Infallible;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

/// `rs_merkle` with the hashing of RFC 6962: the promoted odd node of its default matches the RFC's left-full split.
#[derive(Clone)]
struct Rfc6962;

impl rs_merkle::Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        match right {
            Some(right) => Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into(),
            None => *left,
        }
    }
}

struct Leaves(Vec<Digest>);

impl HashReader for Leaves {
    type Error = Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, Infallible> {
        let start = (index << level) as usize;
        Ok(mth(&self.0[start..start + (1 << level)]))
    }
}

/// MTH of RFC 6962 section 2.1, as the RFC writes it.
fn mth(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            Digest::node(&mth(left), &mth(right))
        }
    }
}

/// PATH of RFC 6962 section 2.1.1, as the RFC writes it.
fn path(index: usize, leaves: &[Digest]) -> Vec<Digest> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = split(leaves.len() as u64) as usize;
    let (left, right) = leaves.split_at(k);
    if index < k {
        [path(index, left), vec![mth(right)]].concat()
    } else {
        [path(index - k, right), vec![mth(left)]].concat()
    }
}

/// SUBPROOF of RFC 6962 section 2.1.2, as the RFC writes it.
fn subproof(m: usize, leaves: &[Digest], whole: bool) -> Vec<Digest> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![mth(leaves)] };
    }
    let k = split(leaves.len() as u64) as usize;
    let (left, right) = leaves.split_at(k);
    if m <= k {
        [subproof(m, left, whole), vec![mth(right)]].concat()
    } else {
        [subproof(m - k, right, false), vec![mth(left)]].concat()
    }
}

fn leaves(count: usize) -> Leaves {
    Leaves((0..count).map(|index| Digest::leaf(&index.to_be_bytes())).collect())
}

fn frontier(leaves: &[Digest]) -> Frontier {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier
}

#[test]
fn the_rfc_6962_reference_roots() {
    // The eight test leaves of the certificate-transparency reference implementation, and its roots.
    let inputs: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Frontier::new();
    assert_eq!(tree.root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (input, root) in inputs.iter().zip(roots) {
        tree.push(Digest::leaf(&hex::decode(input).unwrap()));
        assert_eq!(tree.root().to_string(), root);
    }
}

#[test]
fn subtrees_are_appended_as_their_leaves_are() {
    let all = leaves(70);
    for level in 0..5 {
        let mut tree = Frontier::new();
        for part in all.0.chunks_exact(1 << level) {
            tree.push_subtree(level, mth(part));
            let size = tree.size().0 as usize;
            assert_eq!(tree, frontier(&all.0[..size]), "{size} by {level}");
        }
        // And leaves behind them.
        let size = tree.size().0 as usize;
        all.0[size..].iter().for_each(|leaf| tree.push(*leaf));
        assert_eq!(tree.root(), mth(&all.0));
    }
}

#[test]
#[should_panic(expected = "invariant")]
fn a_subtree_at_another_place_is_a_bug() {
    frontier(&leaves(3).0).push_subtree(1, Digest::ZERO);
}

#[test]
fn every_proof_of_every_small_tree() {
    let all = leaves(70);
    for size in 1..=70_usize {
        let tree = &all.0[..size];
        let root = mth(tree);
        assert_eq!(frontier(tree).root(), root);
        assert_eq!(super::root(TreeSize(size as u64), &all).unwrap(), root);
        for index in 0..size {
            let at = RecordIndex(index as u64);
            let proof = inclusion_proof(at, TreeSize(size as u64), &all).unwrap();
            assert_eq!(proof, path(index, tree));
            verify_inclusion(&tree[index], at, TreeSize(size as u64), &proof, &root).unwrap();
        }
        for old in 0..=size {
            let (old_size, new_size) = (TreeSize(old as u64), TreeSize(size as u64));
            let proof = consistency_proof(old_size, new_size, &all).unwrap();
            let expected = if old == 0 { Vec::new() } else { subproof(old, tree, true) };
            assert_eq!(proof, expected, "{old} to {size}");
            verify_consistency(old_size, &mth(&tree[..old]), new_size, &root, &proof).unwrap();
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let all = leaves(9);
    let root = mth(&all.0);
    let (index, size) = (RecordIndex(3), TreeSize(9));
    let proof = inclusion_proof(index, size, &all).unwrap();
    let refused =
        |leaf: &Digest, index, size, proof: &[Digest]| verify_inclusion(leaf, index, size, proof, &root).is_err();
    assert!(refused(&all.0[2], index, size, &proof), "another leaf");
    assert!(refused(&all.0[3], RecordIndex(2), size, &proof), "another place");
    assert!(refused(&all.0[3], index, TreeSize(33), &proof), "another size");
    assert!(refused(&all.0[3], index, size, &proof[1..]), "a hash too few");
    assert!(refused(&all.0[3], index, size, &[&proof[..], &proof[..1]].concat()), "a hash too many");
    assert_eq!(
        verify_inclusion(&all.0[3], RecordIndex(9), size, &proof, &root),
        Err(TreeError::IndexOutside { index: RecordIndex(9), size })
    );
    assert!(inclusion_proof(RecordIndex(9), size, &all).is_err());
    assert!(consistency_proof(TreeSize(10), size, &all).is_err());

    let (old, old_root) = (TreeSize(5), mth(&all.0[..5]));
    let proof = consistency_proof(old, size, &all).unwrap();
    assert!(matches!(verify_consistency(old, &root, size, &root, &proof), Err(TreeError::OldRootMismatch { .. })));
    assert!(matches!(verify_consistency(old, &old_root, size, &old_root, &proof), Err(TreeError::RootMismatch { .. })));
    assert!(matches!(
        verify_consistency(TreeSize(10), &old_root, size, &root, &proof),
        Err(TreeError::SizesReversed { .. })
    ));
    assert!(verify_consistency(TreeSize(0), &root, size, &root, &[]).is_err(), "an empty tree has one root");
    assert!(verify_consistency(size, &root, size, &root, &proof).is_err(), "equal sizes need no hashes");
    assert!(verify_consistency(size, &old_root, size, &root, &[]).is_err(), "equal sizes have equal roots");
}

#[test]
fn the_largest_trees_do_not_overflow() {
    let leaf = Digest::leaf(b"x");
    for size in [1 << 63, u64::MAX] {
        let error = verify_inclusion(&leaf, RecordIndex(size - 1), TreeSize(size), &[], &leaf);
        assert!(matches!(error, Err(TreeError::ProofLength { .. })), "{error:?}");
        let error = verify_inclusion(&leaf, RecordIndex(0), TreeSize(size), &[], &leaf);
        assert!(matches!(error, Err(TreeError::ProofLength { .. })), "{error:?}");
        for old in [1, 2, 3, 1 << 62, 1 << 63, size - 1] {
            if old < size {
                let error = verify_consistency(TreeSize(old), &leaf, TreeSize(size), &leaf, &[]);
                assert!(matches!(error, Err(TreeError::ProofLength { .. })), "{old} {size} {error:?}");
            }
        }
    }
}

/// Trees at the edges of tiles, where roots and proofs are read from tiles: against `rs_merkle` and `ct-merkle`.
#[test]
fn oracles_agree_at_the_edges_of_tiles() {
    let sizes = [1, 255, 256, 257, 65_535, 65_536, 65_537_usize];
    let records: Vec<[u8; 8]> = (0..65_537_u64).map(u64::to_be_bytes).collect();
    let all: Vec<Digest> = records.iter().map(|record| Digest::leaf(record)).collect();
    let mut levels = vec![all.clone()];
    while let Some(last) = levels.last().filter(|last| last.len() > 1) {
        levels.push(last.as_chunks().0.iter().map(|[left, right]| Digest::node(left, right)).collect());
    }
    let reader = Levels(levels);
    let mut ct = ct_merkle::mem_backed_tree::MemoryBackedTree::<Sha256, [u8; 8]>::new();
    let mut rs = rs_merkle::MerkleTree::<Rfc6962>::new();
    let mut roots: Vec<(usize, ct_merkle::RootHash<Sha256>)> = Vec::new();
    let mut before = 0;
    assert_eq!(super::root(TreeSize(0), &reader).unwrap(), empty_root());
    assert!(crate::tile::TileId::all(TreeSize(0)).next().is_none(), "an empty tree has no tile");
    assert!(inclusion_proof(RecordIndex(0), TreeSize(0), &reader).is_err());
    for size in sizes {
        records[before..size].iter().for_each(|record| ct.push(*record));
        rs.append(&mut all[before..size].iter().map(|leaf| *leaf.as_bytes()).collect()).commit();
        before = size;
        let new_size = TreeSize(size as u64);
        let root = super::root(new_size, &reader).unwrap();
        assert_eq!(rs.root().as_ref(), Some(root.as_bytes()), "{size}");
        let ct_root = ct.root();
        assert_eq!(ct_root.as_bytes().as_slice(), root.as_bytes(), "{size}");
        for index in [0, size / 2, size - 1] {
            let proof = inclusion_proof(RecordIndex(index as u64), new_size, &reader).unwrap();
            let bytes = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
            let proof = ct_merkle::InclusionProof::try_from_bytes(bytes).unwrap();
            ct_root.verify_inclusion(&records[index], index as u64, &proof).unwrap();
        }
        for (old, old_root) in &roots {
            let proof = consistency_proof(TreeSize(*old as u64), new_size, &reader).unwrap();
            let bytes = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
            ct_root.verify_consistency(old_root, &ct_merkle::ConsistencyProof::try_from_bytes(bytes).unwrap()).unwrap();
        }
        roots.push((size, ct_root));
    }
}

/// Every complete subtree's hash, level by level.
struct Levels(Vec<Vec<Digest>>);

impl HashReader for Levels {
    type Error = Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Digest, Infallible> {
        Ok(self.0[usize::from(level)][index as usize])
    }
}

proptest! {
    #[test]
    fn rs_merkle_agrees(size in 1_usize..600, seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let all: Vec<Digest> = (0..size as u64).map(|index| Digest::leaf(&(seed ^ index).to_be_bytes())).collect();
        let raw: Vec<[u8; 32]> = all.iter().map(|leaf| *leaf.as_bytes()).collect();
        let oracle = rs_merkle::MerkleTree::<Rfc6962>::from_leaves(&raw);
        let root = oracle.root().unwrap();
        prop_assert_eq!(frontier(&all).root(), Digest::from(root));

        let index = pick.index(size);
        let proof = inclusion_proof(RecordIndex(index as u64), TreeSize(size as u64), &Leaves(all.clone())).unwrap();
        let theirs = oracle.proof(&[index]);
        prop_assert_eq!(proof.iter().map(|hash| *hash.as_bytes()).collect::<Vec<_>>(), theirs.proof_hashes().to_vec());
        let ours = rs_merkle::MerkleProof::<Rfc6962>::new(proof.iter().map(|hash| *hash.as_bytes()).collect());
        prop_assert!(ours.verify(root, &[index], &[raw[index]], size));
        verify_inclusion(&all[index], RecordIndex(index as u64), TreeSize(size as u64), &proof, &Digest::from(root)).unwrap();
    }

    /// Proofs of each are accepted by the other, and are the same bytes.
    #[test]
    fn ct_merkle_agrees(new in 1_usize..600, old in any::<prop::sample::Index>(), pick in any::<prop::sample::Index>(), seed in any::<u64>()) {
        let records: Vec<[u8; 8]> = (0..new as u64).map(|index| (seed ^ index).to_be_bytes()).collect();
        let all: Vec<Digest> = records.iter().map(|record| Digest::leaf(record)).collect();
        let (old, index) = (1 + old.index(new), pick.index(new));
        let mut oracle = ct_merkle::mem_backed_tree::MemoryBackedTree::<Sha256, [u8; 8]>::new();
        let (empty, ours) = (oracle.root(), empty_root());
        prop_assert_eq!(empty.as_bytes().as_slice(), ours.as_bytes().as_slice());
        records[..old].iter().for_each(|record| oracle.push(*record));
        let old_root = oracle.root();
        records[old..].iter().for_each(|record| oracle.push(*record));
        let root = oracle.root();
        let digest = |root: &ct_merkle::RootHash<Sha256>| Digest::from(<[u8; 32]>::try_from(root.as_bytes().as_slice()).unwrap());
        let digests = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|hash| Digest::from(*hash)).collect::<Vec<Digest>>();
        let bytes = |proof: &[Digest]| proof.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<u8>>();
        prop_assert_eq!(frontier(&all).root(), digest(&root));
        prop_assert_eq!(frontier(&all[..old]).root(), digest(&old_root));

        let (at, old_size, new_size) = (RecordIndex(index as u64), TreeSize(old as u64), TreeSize(new as u64));
        let all = Leaves(all);
        let ours = inclusion_proof(at, new_size, &all).unwrap();
        let theirs = digests(oracle.prove_inclusion(index).as_bytes());
        prop_assert_eq!(&ours, &theirs);
        verify_inclusion(&all.0[index], at, new_size, &theirs, &digest(&root)).unwrap();
        let ours = ct_merkle::InclusionProof::try_from_bytes(bytes(&ours)).unwrap();
        prop_assert!(root.verify_inclusion(&records[index], index as u64, &ours).is_ok());

        let ours = consistency_proof(old_size, new_size, &all).unwrap();
        let theirs = digests(oracle.prove_consistency(new - old).as_bytes());
        prop_assert_eq!(&ours, &theirs);
        verify_consistency(old_size, &digest(&old_root), new_size, &digest(&root), &theirs).unwrap();
        let ours = ct_merkle::ConsistencyProof::try_from_bytes(bytes(&ours)).unwrap();
        prop_assert!(root.verify_consistency(&old_root, &ours).is_ok());
    }

    #[test]
    fn a_changed_consistency_proof_is_refused(new in 2_usize..300, old in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let all = leaves(new);
        let old = 1 + old.index(new - 1);
        let (old_size, new_size) = (TreeSize(old as u64), TreeSize(new as u64));
        let mut proof = consistency_proof(old_size, new_size, &all).unwrap();
        let (old_root, new_root) = (mth(&all.0[..old]), mth(&all.0));
        verify_consistency(old_size, &old_root, new_size, &new_root, &proof).unwrap();
        let at = at.index(proof.len());
        proof[at] = Digest::node(&proof[at], &proof[at]);
        prop_assert!(verify_consistency(old_size, &old_root, new_size, &new_root, &proof).is_err());
    }

    #[test]
    fn any_proof_does_not_panic(index in any::<u64>(), old in any::<u64>(), new in any::<u64>(), len in 0_usize..70) {
        let proof = vec![Digest::ZERO; len];
        let _ = verify_inclusion(&Digest::ZERO, RecordIndex(index), TreeSize(new), &proof, &Digest::ZERO);
        let _ = verify_consistency(TreeSize(old), &Digest::ZERO, TreeSize(new), &Digest::ZERO, &proof);
    }
}
