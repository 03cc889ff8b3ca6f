use std::cell::RefCell;
use std::collections::BTreeMap;

use cairn_ledger::cosignature::{CosignTime, CosignatureSigner, with_lines};
use cairn_ledger::note::NoteSigner;
use ed25519_dalek::SigningKey;

use super::*;
use crate::fixture::History;

const ORIGIN: &str = "acme/cairn/1";

impl History {
    fn checkpoint(&self, size: usize) -> Vec<u8> {
        self.signed(size, &ledger())
    }
}

fn ledger() -> NoteSigner {
    NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[1; 32])).unwrap().greased()
}

fn witness(n: u8) -> CosignatureSigner {
    CosignatureSigner::ed25519(&format!("w{n}.example"), SigningKey::from_bytes(&[n; 32])).unwrap()
}

fn url(n: u8) -> String {
    format!("http://w{n}.example/{}/checkpoint", Digest::sha256(ORIGIN.as_bytes()))
}

fn cosigned(bytes: &[u8], n: u8) -> Vec<u8> {
    let note = Note::parse(bytes).unwrap();
    with_lines(bytes, &[witness(n).line(note.text(), CosignTime(5)).unwrap()]).unwrap()
}

struct World {
    tiles: RefCell<Option<History>>,
    witnesses: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Peers for World {
    fn witness_checkpoint(&self, url: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.witnesses.borrow().get(url).cloned())
    }

    fn tile(&self, tile: TileId) -> Result<Vec<Digest>, String> {
        self.tiles.borrow().as_ref().ok_or("connection refused")?.tile(tile)
    }
}

struct Zeros;

impl Random for Zeros {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        bytes.fill(0);
        Ok(())
    }
}

fn comparer(count: u8) -> Comparer {
    let line = |n| format!("witness w{n} {} http://w{n}.example/\n", witness(n).verifier());
    let policy = (1..=count).map(line).collect::<String>() + "quorum none\n";
    Comparer::new(ORIGIN, ledger().verifier().clone(), &Policy::parse(policy.as_bytes()).unwrap())
}

fn world(tiles: &History, witnesses: &[(u8, Vec<u8>)]) -> World {
    let witnesses = witnesses.iter().map(|(n, bytes)| (url(*n), bytes.clone())).collect();
    World { tiles: RefCell::new(Some(tiles.clone())), witnesses: RefCell::new(witnesses) }
}

#[test]
fn one_history_agrees_whoever_is_ahead() {
    let truth = History::new("a", 0, 900);
    for (mine, theirs) in [(5, 5), (5, 6), (6, 5), (255, 600), (600, 255), (256, 900), (900, 1), (513, 512), (700, 0)] {
        let world = world(&truth, &[(1, cosigned(&truth.checkpoint(theirs), 1))]);
        let found = comparer(1).round(&truth.checkpoint(mine), &world, &Zeros);
        assert_eq!(found, [Finding::Agrees { from: "w1".into(), size: TreeSize(theirs as u64) }], "{mine} {theirs}");
    }
}

#[test]
fn two_histories_are_told_once_with_what_proves_it() {
    let (shown, truth) = (History::new("b", 100, 900), History::new("a", 100, 900));
    for (mine, theirs) in [(300, 300), (300, 500), (500, 300)] {
        let world = world(&shown, &[(1, cosigned(&truth.checkpoint(theirs), 1))]);
        let mut comparer = comparer(1);
        let seen = shown.checkpoint(mine);
        let found = comparer.round(&seen, &world, &Zeros);
        let [Finding::Conflict(conflict)] = &found[..] else { panic!("{mine} {theirs}: {found:?}") };
        assert_eq!(conflict.from, "w1");
        let keys = [ledger().verifier().clone()];
        let read = |text: &str| Checkpoint::verify(text.as_bytes(), ORIGIN, &keys).unwrap();
        let (one, other) = (read(&conflict.seen), read(&conflict.other));
        assert_eq!((one.size.0, other.size.0), (mine as u64, theirs as u64));
        assert!(Note::parse(conflict.seen.as_bytes()).unwrap().signatures().len() == 1, "the ledger's word alone");
        let again = comparer.round(&seen, &world, &Zeros);
        assert!(matches!(&again[..], [Finding::Unknown { .. }]), "told once: {again:?}");
    }
    // A conflict below what both share is none.
    let world = world(&shown, &[(1, cosigned(&truth.checkpoint(100), 1))]);
    assert!(matches!(&comparer(1).round(&shown.checkpoint(300), &world, &Zeros)[..], [Finding::Agrees { .. }]));
}

#[test]
fn a_control_plane_that_changes_its_mind_is_seen_without_a_witness() {
    let (first, second) = (History::new("a", 100, 900), History::new("b", 100, 900));
    let world = world(&first, &[]);
    let mut comparer = comparer(0);
    assert_eq!(comparer.round(&first.checkpoint(300), &world, &Zeros), []);
    assert!(matches!(&comparer.round(&first.checkpoint(400), &world, &Zeros)[..], [Finding::Agrees { .. }]));
    *world.tiles.borrow_mut() = Some(second.clone());
    let found = comparer.round(&second.checkpoint(500), &world, &Zeros);
    assert!(matches!(&found[..], [Finding::Conflict(conflict)] if conflict.from == "control"), "{found:?}");
}

#[test]
fn what_cannot_be_proven_is_told_when_it_stays_so() {
    let truth = History::new("a", 0, 900);
    let world = world(&truth, &[(1, cosigned(&truth.checkpoint(600), 1))]);
    *world.tiles.borrow_mut() = None;
    let mut comparer = comparer(1);
    let seen = truth.checkpoint(300);
    for round in 1..UNPROVEN_ROUNDS_MAX {
        let found = comparer.round(&seen, &world, &Zeros);
        assert!(matches!(&found[..], [Finding::Unknown { .. }]), "round {round}: {found:?}");
    }
    let found = comparer.round(&seen, &world, &Zeros);
    assert!(matches!(&found[..], [Finding::Conflict(conflict)] if conflict.reason.contains("5 rounds")), "{found:?}");
    // One proof in between, and it counts anew.
    *world.tiles.borrow_mut() = Some(truth.clone());
    assert!(matches!(&comparer.round(&seen, &world, &Zeros)[..], [Finding::Agrees { .. }]));
}

#[test]
fn nobody_can_make_up_a_conflict() {
    let (shown, other) = (History::new("a", 0, 900), History::new("b", 0, 900));
    let seen = shown.checkpoint(300);
    let stranger = NoteSigner::new(ORIGIN, SigningKey::from_bytes(&[9; 32])).unwrap();
    let forged = Checkpoint::parse(&other.checkpoint(300)).unwrap().0.sign(&stranger).unwrap();
    let good = other.checkpoint(300);
    let cut = good[..good.len() / 2].to_vec();
    for bad in [cosigned(&forged, 1), good.clone(), cosigned(&good, 2), cut, Vec::new(), vec![0xff; 99]] {
        let found = comparer(1).round(&seen, &world(&shown, &[(1, bad)]), &Zeros);
        assert!(matches!(&found[..], [Finding::Unknown { .. }]), "{found:?}");
    }
    assert!(matches!(&comparer(1).round(&seen, &world(&shown, &[]), &Zeros)[..], [Finding::Unknown { .. }]));
    assert_eq!(comparer(1).round(b"not a checkpoint", &world(&shown, &[]), &Zeros), []);
}

#[test]
fn a_few_are_asked_and_each_gets_its_turn() {
    let comparer = comparer(9);
    let mut seen = HashSet::new();
    for round in 0..200_u16 {
        let chosen = comparer.choose(&Sequence(round));
        assert_eq!(chosen.iter().collect::<HashSet<_>>().len(), FEW);
        seen.extend(chosen);
    }
    assert_eq!(seen.len(), 9);
}

/// Another beginning for each round.
struct Sequence(u16);

impl Random for Sequence {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let digest = Digest::sha256(&self.0.to_be_bytes());
        let len = bytes.len();
        bytes.copy_from_slice(&digest.as_bytes()[..len]);
        Ok(())
    }
}
