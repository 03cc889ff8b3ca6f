use std::path::Path;

use super::*;
use crate::cosignature::CosignTime;
use crate::dir::numbered_path;
use crate::fixture::{Producer, clock, opened, signer};
use crate::proof::Proof;
use crate::witness::client::{Cosigner, Head};
use crate::witness::fixture::cosigner;

const SOON: Duration = Duration::from_secs(30);

fn policy() -> String {
    let line = |n: u8| {
        let name = format!("w{n}.example");
        format!("witness w{n} {} http://{name}\n", cosigner(&name, n).verifier())
    };
    format!("{}{}{}group g 2 w1 w2 w3\nquorum g\n", line(1), line(2), line(3))
}

fn create(dir: &Path) -> Ledger {
    let opened = cairn_schemas::data::LedgerOpened { witnesses: Some(policy()), ..opened() };
    Ledger::create(dir, &opened, signer(), clock()).unwrap()
}

fn grow(ledger: &Ledger, control: &mut Producer, count: u64) -> TreeSize {
    let fresh = ledger.position(&control.stream()).is_none();
    let mut records = if fresh { vec![control.opening(None)] } else { Vec::new() };
    let from = ledger.size().0;
    records.extend((0..count).map(|number| {
        let sensor = Producer::named(&format!("n{}", from + number), 9, 1);
        control.seal(sensor.joined())
    }));
    let size = ledger.append(&control.stream(), records).unwrap().size;
    assert!(ledger.wait_published(size, SOON));
    size
}

/// The ledger's checkpoint with the cosignatures of these witnesses.
fn cosigned_by(checkpoint: &PublishedCheckpoint, witnesses: &[u8]) -> Vec<u8> {
    let head = Head::new(&checkpoint.bytes).unwrap();
    let line =
        |n: &u8| cosigner(&format!("w{n}.example"), *n).line(&head.checkpoint().to_text(), CosignTime(1_700_000_000));
    let lines: Vec<String> = witnesses.iter().map(|n| line(n).unwrap()).collect();
    Cosigner::new(Policy::parse(policy().as_bytes()).unwrap()).merge(&head, &lines).unwrap().0
}

#[test]
fn what_meets_the_policy_is_kept_beside_the_checkpoint_and_proven_against() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    assert_eq!(ledger.witness_policy(), Some(policy()));
    assert_eq!(ledger.cosigned(), None);
    let mut control = Producer::control();
    let size = grow(&ledger, &mut control, 300);
    let checkpoint = ledger.checkpoint();
    assert!(matches!(ledger.inclusion_cosigned(RecordIndex(7), size), Err(ReadError::NotPublished { .. })));

    let too_few = ledger.take_cosigned(cosigned_by(&checkpoint, &[2]));
    assert!(matches!(too_few, Err(CosignedError::Policy(Refused::Quorum { .. }))));
    assert!(!ledger.wait_cosigned(size, Duration::ZERO));
    let bytes = cosigned_by(&checkpoint, &[3, 1]);
    ledger.take_cosigned(bytes.clone()).unwrap();
    assert!(ledger.wait_cosigned(size, Duration::ZERO));
    assert_eq!(std::fs::read(folder.path().join(COSIGNED_FILE)).unwrap(), bytes);

    // It goes on; proofs for those who demand witnesses lead to the cosigned one, which is kept in that form.
    grow(&ledger, &mut control, 40);
    let proof = Proof::parse(&ledger.inclusion_cosigned(RecordIndex(7), size).unwrap()).unwrap();
    assert_eq!(proof.checkpoint, bytes);
    let leaf = Digest::leaf(&ledger.read(RecordIndex(7), 1).unwrap()[0]);
    proof.verify(&leaf, "test/1", &[signer().verifier().clone()]).unwrap();
    assert_eq!(std::fs::read(folder.path().join(numbered_path(size))).unwrap(), bytes);
    assert!(matches!(ledger.inclusion_cosigned(RecordIndex(size.0), TreeSize(0)), Err(ReadError::NotPublished { .. })));
    ledger.close();
    let ledger = Ledger::open(folder.path(), signer(), clock()).unwrap();
    assert_eq!(ledger.cosigned().unwrap().bytes, bytes);
    // A file that somebody put there is as good as none.
    ledger.close();
    std::fs::write(folder.path().join(COSIGNED_FILE), b"nonsense").unwrap();
    let ledger = Ledger::open(folder.path(), signer(), clock()).unwrap();
    assert_eq!(ledger.cosigned(), None);
    ledger.take_cosigned(bytes).unwrap();
}

#[test]
fn another_tree_another_log_and_an_older_one_are_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut control = Producer::control();
    grow(&ledger, &mut control, 3);
    let older = ledger.checkpoint();
    grow(&ledger, &mut control, 3);
    let newest = ledger.checkpoint();
    let signed = |origin: &str, size: TreeSize, root: Digest| {
        let bytes = Checkpoint { origin: origin.into(), size, root }.sign(&signer()).unwrap();
        cosigned_by(&PublishedCheckpoint { bytes, size, root }, &[1, 2, 3])
    };
    assert!(matches!(
        ledger.take_cosigned(signed("test/1", newest.size, Digest::ZERO)),
        Err(CosignedError::AnotherTree { .. })
    ));
    let ahead = signed("test/1", TreeSize(newest.size.0 + 1), newest.root);
    assert!(matches!(ledger.take_cosigned(ahead), Err(CosignedError::Read(ReadError::NotPublished { .. }))));
    assert!(matches!(
        ledger.take_cosigned(signed("test/2", newest.size, newest.root)),
        Err(CosignedError::Policy(Refused::Checkpoint(_)))
    ));
    assert!(ledger.take_cosigned(b"nonsense".to_vec()).is_err());
    ledger.take_cosigned(cosigned_by(&newest, &[1, 2])).unwrap();
    ledger.take_cosigned(cosigned_by(&older, &[1, 2])).unwrap();
    assert_eq!(ledger.cosigned().unwrap().size, newest.size, "an older one is left out");
}

#[test]
fn consistency_is_proven_between_any_two_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let mut control = Producer::control();
    let mut heads = vec![ledger.checkpoint()];
    for more in [1, 5, 250, 300] {
        grow(&ledger, &mut control, more);
        heads.push(ledger.checkpoint());
    }
    for old in &heads {
        for new in heads.iter().filter(|new| new.size >= old.size) {
            let proof = ledger.consistency(old.size, new.size).unwrap();
            tree::verify_consistency(old.size, &old.root, new.size, &new.root, &proof).unwrap();
        }
    }
    let newest = heads.last().unwrap().size;
    assert!(matches!(ledger.consistency(TreeSize(1), TreeSize(newest.0 + 1)), Err(ReadError::NotPublished { .. })));
    assert!(matches!(ledger.consistency(newest, TreeSize(1)), Err(ReadError::NotPublished { .. })));
}

#[cfg(feature = "witness-client")]
#[test]
fn a_running_ledger_is_cosigned_by_those_who_answer() {
    use std::sync::Arc;

    use crate::witness::cosigning::Cosigning;
    use crate::witness::fixture::{Direct, Memory};
    use crate::witness::{KnownLog, KnownLogs, Witness};

    let folder = tempfile::tempdir().unwrap();
    let ledger = create(folder.path());
    let witness = |n: u8| {
        let mut logs = KnownLogs::new();
        logs.add(KnownLog::ledger(&signer().verifier().to_string()).unwrap()).unwrap();
        let name = format!("w{n}.example");
        let witness = Witness::new(vec![cosigner(&name, n)], logs, Box::new(Memory::default()));
        (format!("http://{name}/add-checkpoint"), witness)
    };
    let now = CosignTime(clock().now().nanos() / 1_000_000_000);
    // The second is away.
    let direct = Direct { witnesses: [witness(1), witness(3)].into(), now, ..Direct::default() };
    let cosigner = Cosigner::new(Policy::parse(ledger.witness_policy().unwrap().as_bytes()).unwrap());
    let hour = Duration::from_secs(3_600);
    let cosigning = Cosigning::start(Box::new(ledger.clone()), cosigner, Arc::new(direct), clock(), hour).unwrap();
    let mut control = Producer::control();
    for _ in 0..4 {
        // Nobody waits for the interval: who wants a cosigned checkpoint says so.
        let size = grow(&ledger, &mut control, 30);
        assert!(ledger.wait_cosigned(size, SOON));
    }
    cosigning.stop();
}
