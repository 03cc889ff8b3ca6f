use std::sync::atomic::Ordering;

use super::fixture::{Log, Memory, cosigner};
use super::*;
use crate::cosignature::CosignatureSigner;
use crate::mldsa::SecretKey;

const ORIGIN: &str = "acme/cairn/1";
const NOW: CosignTime = CosignTime(1_700_000_000);

struct Setting {
    witness: Witness,
    store: Memory,
    log: Log,
}

fn setting() -> Setting {
    let (log, store) = (Log::new(ORIGIN), Memory::default());
    Setting { witness: witness(&log, &store), store, log }
}

fn witness(log: &Log, store: &Memory) -> Witness {
    fixture::witness("witness.example", 7, log, store)
}

impl Setting {
    fn ask(&self, request: &AddCheckpoint) -> Answer {
        self.witness.add_checkpoint(&request.to_bytes(), NOW)
    }

    fn status(&self, request: &AddCheckpoint) -> u16 {
        match self.ask(request) {
            Answer::Cosigned(_) => 200,
            Answer::Conflict(_) => 409,
            Answer::Refused(refusal) => refusal.status(),
        }
    }
}

#[track_caller]
fn cosigned(answer: Answer, checkpoint: &[u8]) -> CosignTime {
    let Answer::Cosigned(lines) = answer else { panic!("{answer:?}") };
    let note = Note::parse(&[checkpoint, lines.as_bytes()].concat()).unwrap();
    note.cosigned_at(cosigner("witness.example", 7).verifier()).unwrap().unwrap()
}

#[test]
fn a_log_that_grows_is_cosigned_each_time() {
    let mut setting = setting();
    let mut old = 0;
    for more in [0, 1, 1, 5, 249, 1, 300] {
        setting.log.grow(more, "a");
        let request = setting.log.request(old);
        assert_eq!(cosigned(setting.ask(&request), &request.checkpoint), NOW);
        old = setting.log.size().0;
    }
    // What monitors get: the log's line and the witness's, and no stranger's.
    let newest = setting.witness.newest(&Digest::sha256(ORIGIN.as_bytes())).unwrap().unwrap();
    let (checkpoint, note) = Checkpoint::parse(&newest).unwrap();
    assert_eq!(checkpoint.size, setting.log.size());
    assert_eq!(note.signatures().len(), 2);
    note.verify(&[setting.log.signer.verifier().clone()]).unwrap();
    assert_eq!(setting.witness.newest(&Digest::sha256(b"another")).unwrap(), None);
}

#[test]
fn the_same_checkpoint_again_gets_a_new_cosignature() {
    let mut setting = setting();
    setting.log.grow(5, "a");
    let request = setting.log.request(0);
    cosigned(setting.ask(&request), &request.checkpoint);
    assert_eq!(setting.ask(&request), Answer::Conflict(TreeSize(5)), "the old size is not 0 any more");
    let again = setting.log.request(5);
    let answer = setting.witness.add_checkpoint(&again.to_bytes(), CosignTime(NOW.0 + 9));
    assert_eq!(cosigned(answer, &again.checkpoint), CosignTime(NOW.0 + 9));
    // The clock is set back by an hour: the word that was given stands.
    let answer = setting.witness.add_checkpoint(&again.to_bytes(), CosignTime(NOW.0 - 3_600));
    assert_eq!(cosigned(answer, &again.checkpoint), CosignTime(NOW.0 + 9));
}

#[test]
fn every_refusal_has_the_status_of_the_specification() {
    let mut setting = setting();
    setting.log.grow(5, "a");
    let good = setting.log.request(0);
    let text = String::from_utf8(good.checkpoint.clone()).unwrap();
    let note = |text: String| AddCheckpoint { checkpoint: text.into_bytes(), ..good.clone() };

    // 400: what cannot be read, and an old size beyond the new.
    for bad in [&b""[..], b"old 0\n", b"old x\n\n", b"old 0\n\n", b"old 0\n\nnot a note\n"] {
        let answer = setting.witness.add_checkpoint(bad, NOW);
        assert!(matches!(&answer, Answer::Refused(refusal) if refusal.status() == 400), "{answer:?}");
    }
    assert_eq!(setting.status(&AddCheckpoint { old: TreeSize(6), ..good.clone() }), 400);
    // 404: a log that it does not know, although its key is known for another.
    let mut other = Log::new("acme/other/1");
    other.grow(5, "a");
    assert_eq!(setting.status(&other.request(0)), 404);
    // 403: no signature, another key's, or one of other bytes.
    let unsigned = text.lines().filter(|line| !line.starts_with(&format!("\u{2014} {ORIGIN} "))).collect::<Vec<_>>();
    assert_eq!(setting.status(&note(unsigned.join("\n") + "\n")), 403);
    assert_eq!(setting.status(&note(text.replace("\n5\n", "\n6\n"))), 403);
    let mut forged = setting.log.clone();
    forged.signer = crate::note::NoteSigner::new(ORIGIN, ed25519_dalek::SigningKey::from_bytes(&[99; 32])).unwrap();
    assert_eq!(setting.status(&forged.request(0)), 403);
    // 422: a proof where none belongs, and an empty tree with another root.
    let proof = vec![Digest::ZERO];
    assert_eq!(setting.status(&AddCheckpoint { proof: proof.clone(), ..good.clone() }), 422);
    let empty = Checkpoint { origin: ORIGIN.into(), size: TreeSize(0), root: Digest::ZERO };
    let empty = AddCheckpoint { checkpoint: empty.sign(&setting.log.signer).unwrap(), ..good.clone() };
    assert_eq!(setting.status(&empty), 422);
    assert!(lock(&setting.store.0.kept).is_empty(), "nothing of all that is kept");

    assert_eq!(setting.status(&good), 200);
    setting.log.grow(5, "a");
    // 409 with the size: another old size.
    for old in [0, 4, 6] {
        assert_eq!(setting.ask(&setting.log.request(old)), Answer::Conflict(TreeSize(5)));
    }
    // 422: no proof, a cut one, a longer one, another.
    let right = setting.log.request(5);
    for change in [
        (|proof: &mut Vec<Digest>| proof.clear()) as fn(&mut Vec<Digest>),
        |proof| proof.truncate(proof.len() - 1),
        |proof| proof.push(Digest::ZERO),
        |proof| proof[0] = Digest::ZERO,
        |proof| proof.reverse(),
    ] {
        let mut wrong = right.clone();
        change(&mut wrong.proof);
        assert_eq!(setting.status(&wrong), 422);
    }
    assert_eq!(setting.status(&AddCheckpoint { proof, ..setting.log.request(10) }), 409, "not 10 yet");
    assert_eq!(setting.status(&right), 200);
    let same = setting.log.request(10);
    assert_eq!(setting.status(&AddCheckpoint { proof: vec![Digest::ZERO], ..same }), 422, "no proof belongs here");
}

#[test]
fn another_history_is_never_cosigned_and_is_kept_as_evidence() {
    let mut setting = setting();
    setting.log.grow(5, "a");
    let mut fork = setting.log.clone();
    setting.log.grow(3, "a");
    fork.grow(3, "b");
    assert_eq!(setting.status(&setting.log.request(0)), 200);
    // The same size with another root, whatever the old size says; the log's two signatures are the proof.
    for old in [0, 5, 8] {
        assert_eq!(setting.ask(&fork.request(old)), Answer::Conflict(TreeSize(8)));
    }
    assert_eq!(lock(&setting.store.0.evidence).len(), 3);
    assert_eq!(lock(&setting.store.0.evidence)[0], fork.head(TreeSize(8)));
    // A larger one: its proof leads to another root.
    fork.grow(4, "b");
    assert_eq!(setting.status(&fork.request(8)), 422);
    // A smaller one: rolled back.
    assert_eq!(
        setting.ask(&{
            let mut old = Log::new(ORIGIN);
            old.grow(5, "a");
            old.request(0)
        }),
        Answer::Conflict(TreeSize(8))
    );
    let newest = setting.witness.newest(&Digest::sha256(ORIGIN.as_bytes())).unwrap().unwrap();
    assert_eq!(Checkpoint::parse(&newest).unwrap().0.size, TreeSize(8));
}

#[test]
fn volumes_are_logs_of_their_own() {
    let mut setting = setting();
    setting.log.grow(5, "a");
    assert_eq!(setting.status(&setting.log.request(0)), 200);
    let mut second = Log::new("acme/cairn/2");
    second.grow(2, "z");
    assert_eq!(setting.status(&second.request(0)), 200);
    assert_eq!(setting.ask(&second.request(0)), Answer::Conflict(TreeSize(2)));
    let mut far = Log::new("acme/cairn/10000");
    far.grow(2, "z");
    assert_eq!(setting.status(&far.request(0)), 404);
}

#[test]
fn nothing_is_answered_that_is_not_kept() {
    let mut setting = setting();
    setting.log.grow(5, "a");
    // Not done.
    setting.store.0.fails_before.store(true, Ordering::SeqCst);
    assert_eq!(setting.status(&setting.log.request(0)), 500);
    assert!(lock(&setting.store.0.kept).is_empty());
    setting.store.0.fails_before.store(false, Ordering::SeqCst);
    // Done, and reported as failed; as when it is killed between keeping and answering. The log asks again, is told, and asks again.
    setting.store.0.fails_after.store(true, Ordering::SeqCst);
    assert_eq!(setting.status(&setting.log.request(0)), 500);
    setting.store.0.fails_after.store(false, Ordering::SeqCst);
    let restarted = witness(&setting.log, &setting.store);
    assert_eq!(restarted.add_checkpoint(&setting.log.request(0).to_bytes(), NOW), Answer::Conflict(TreeSize(5)));
    let again = setting.log.request(5);
    cosigned(restarted.add_checkpoint(&again.to_bytes(), NOW), &again.checkpoint);
    // And the other history that the control plane might try meanwhile.
    let mut fork = Log::new(ORIGIN);
    fork.grow(5, "b");
    assert_eq!(restarted.add_checkpoint(&fork.request(5).to_bytes(), NOW), Answer::Conflict(TreeSize(5)));
}

#[test]
fn a_store_that_somebody_changed_is_not_believed() {
    let mut setting = setting();
    setting.log.grow(5, "a");
    assert_eq!(setting.status(&setting.log.request(0)), 200);
    let digest = Digest::sha256(ORIGIN.as_bytes());
    let good = lock(&setting.store.0.kept)[&digest].clone();
    let unsigned = setting.log.head(TreeSize(3));
    let text = String::from_utf8(good.clone()).unwrap();
    for bad in [
        Vec::new(),
        b"x".to_vec(),
        unsigned,
        text.replace("\n5\n", "\n4\n").into_bytes(),
        good[..good.len() - 9].to_vec(),
    ] {
        lock(&setting.store.0.kept).insert(digest, bad);
        assert_eq!(setting.status(&setting.log.request(5)), 500);
    }
    let mut second = Log::new("acme/cairn/2");
    second.grow(2, "z");
    lock(&setting.store.0.kept).insert(Digest::sha256(b"acme/cairn/2"), good);
    assert_eq!(setting.status(&second.request(5)), 400);
    assert_eq!(setting.status(&second.request(2)), 500, "another log's checkpoint");
}

#[test]
fn requests_about_one_log_at_once_never_put_an_older_one_back() {
    let mut setting = setting();
    setting.log.grow(1, "a");
    let first = setting.log.request(0);
    assert_eq!(setting.status(&first), 200);
    let requests: Vec<AddCheckpoint> = (0..8)
        .map(|_| {
            setting.log.grow(1, "a");
            setting.log.request(1)
        })
        .collect();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asking: Vec<_> = requests.iter().map(|request| scope.spawn(|| setting.ask(request))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won: Vec<usize> = (0..8).filter(|&at| matches!(answers[at], Answer::Cosigned(_))).collect();
    assert_eq!(won.len(), 1, "one of them found the size that it named: {answers:?}");
    let newest = setting.witness.newest(&Digest::sha256(ORIGIN.as_bytes())).unwrap().unwrap();
    assert_eq!(Checkpoint::parse(&newest).unwrap().0.size, TreeSize(2 + won[0] as u64));
}

#[test]
fn a_witness_with_two_keys_signs_with_both() {
    let Setting { mut log, store, .. } = setting();
    let mut logs = KnownLogs::new();
    logs.add(KnownLog::log(&log.vkey()).unwrap()).unwrap();
    let second = CosignatureSigner::mldsa44("witness.example", SecretKey::from_seed(&[3; 32])).unwrap();
    let witness = Witness::new(vec![cosigner("witness.example", 7), second.clone()], logs, Box::new(store));
    log.grow(5, "a");
    let request = log.request(0);
    let answer = witness.add_checkpoint(&request.to_bytes(), NOW);
    cosigned(answer.clone(), &request.checkpoint);
    let Answer::Cosigned(lines) = answer else { unreachable!() };
    let note = Note::parse(&[&request.checkpoint[..], lines.as_bytes()].concat()).unwrap();
    assert_eq!(note.cosigned_at(second.verifier()).unwrap(), Some(NOW));
    log.grow(5, "a");
    let request = log.request(5);
    cosigned(witness.add_checkpoint(&request.to_bytes(), NOW), &request.checkpoint);
}
