use std::path::Path;

use cairn_schemas::ids::Sequence;

use super::*;
use crate::fixture::{Producer, clock, opened, signer};
use crate::index::StreamName;
use crate::writer::Ledger;

fn grow(path: &Path, records: u64) -> Ledger {
    let (ledger, mut control) = match Ledger::open(path, signer(), clock()) {
        Ok(ledger) => {
            let mut control = Producer::control();
            let at = ledger.position(&control.stream()).unwrap();
            let stream = control.stream();
            control.chain =
                crate::producer::Chain::resume(stream, at.sequence.next(), at.leaf, 1, crate::fixture::at(5));
            (ledger, control)
        }
        Err(_) => {
            let ledger = Ledger::create(path, &opened(), signer(), clock()).unwrap();
            let mut control = Producer::control();
            ledger.append(&control.stream(), vec![control.opening(None)]).unwrap();
            (ledger, control)
        }
    };
    for part in (0..records).collect::<Vec<_>>().chunks(1_000) {
        let records = part.iter().map(|_| control.head()).collect();
        ledger.append(&control.stream(), records).unwrap();
    }
    ledger
}

#[test]
fn records_are_proven_and_a_newer_checkpoint_holds_the_older() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    grow(&path, 300).close();
    let mut view = View::open(&path, None, None).unwrap();
    assert_eq!(view.key().1, KeySource::Ledger);
    assert_eq!((view.volume(), view.checkpoint().size), (1, TreeSize(302)));
    let keys = [signer().verifier().clone()];
    for index in [0, 255, 256, 301] {
        let proven = view.record(RecordIndex(index)).unwrap();
        let checkpoint = proven.proof.verify(&proven.leaf, "test/1", &keys).unwrap();
        assert_eq!(checkpoint, *view.checkpoint());
        assert_eq!(Proof::parse(&proven.proof.to_bytes()).unwrap(), proven.proof);
    }
    assert!(matches!(view.record(RecordIndex(302)), Err(ViewError::NoRecord { .. })));
    assert!(!view.refresh().unwrap());
    grow(&path, 700).close();
    assert!(view.refresh().unwrap());
    assert_eq!(view.checkpoint().size, TreeSize(1_002));
    let found = view.index(&|_, _| ()).unwrap().find(&StreamName::parse("control").unwrap(), Sequence(500), |index| {
        view.bytes_of(index).map(|bytes| bytes.to_vec())
    });
    assert_eq!(found.unwrap(), Some(RecordIndex(501)));

    let consistency = view.consistency(TreeSize(302), TreeSize(1_002)).unwrap();
    tree::verify_consistency(
        consistency.from.0,
        &consistency.from.1,
        consistency.to.0,
        &consistency.to.1,
        &consistency.hashes,
    )
    .unwrap();
    assert_eq!(consistency.checkpoint.as_deref(), Some(view.checkpoint_bytes()));
    assert!(matches!(view.consistency(TreeSize(5), TreeSize(1_003)), Err(ViewError::NoConsistency { .. })));
}

#[test]
fn only_the_right_key_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    grow(&path, 3).close();
    let key = signer().verifier().clone();
    assert_eq!(View::open(&path, Some(1), Some(&key)).unwrap().key().1, KeySource::Given);
    let other = crate::note::NoteSigner::new("test/1", ed25519_dalek::SigningKey::from_bytes(&[9; 32])).unwrap();
    assert!(matches!(View::open(&path, None, Some(other.verifier())), Err(ViewError::Checkpoint { .. })));
    assert!(matches!(View::open(&path, Some(2), None), Err(ViewError::NoVolume { volume: 2, .. })));
}

#[test]
fn changed_bytes_are_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    grow(&path, 600).close();
    let bundle = path.join("tile/entries/001");
    let good = std::fs::read(&bundle).unwrap();
    let mut bad = good.clone();
    bad[2] ^= 1;
    std::fs::write(&bundle, bad).unwrap();
    let view = View::open(&path, None, None).unwrap();
    assert!(matches!(view.record(RecordIndex(256)), Err(ViewError::NotProven { .. })));
    assert!(view.record(RecordIndex(257)).is_ok());
    // Another history under the same name and key.
    let other = folder.path().join("other");
    grow(&other, 100).close();
    let mut view = View::open(&path, None, None).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert!(matches!(view.refresh(), Err(ViewError::Rewritten { .. })));
}
