use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::cosignature::{CosignatureSigner, with_lines};
use crate::note::NoteSigner;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::TreeSize;

fn key(number: usize) -> SigningKey {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    SigningKey::from_bytes(&seed)
}

fn witness(number: usize) -> CosignatureSigner {
    CosignatureSigner::ed25519(&format!("w{number}.example"), key(number)).unwrap()
}

fn log(number: usize) -> NoteSigner {
    NoteSigner::new(&format!("ledger{number}.example/1"), key(1_000 + number)).unwrap()
}

fn refused(text: &str) -> PolicyError {
    Policy::parse(text.as_bytes()).unwrap_err()
}

#[test]
fn counts_at_their_limits_and_one_past_them() {
    let logs = |count: usize| (0..count).map(|n| format!("log {}\n", log(n).verifier())).collect::<String>();
    let witnesses =
        |count: usize| (0..count).map(|n| format!("witness w{n} {}\n", witness(n).verifier())).collect::<String>();
    let groups = |count: usize| (0..count).map(|n| format!("group g{n} any w{n}\n")).collect::<String>();
    let none = "quorum none\n";
    let too_many = |line, most, what| PolicyError::Line { line, reason: LineError::TooMany(most, what) };

    assert_eq!(Policy::parse((logs(LOGS_MAX) + none).as_bytes()).unwrap().logs().len(), LOGS_MAX);
    assert_eq!(refused(&(logs(LOGS_MAX + 1) + none)), too_many(LOGS_MAX + 1, LOGS_MAX, "logs"));
    let most = witnesses(WITNESSES_MAX);
    assert_eq!(Policy::parse((most.clone() + none).as_bytes()).unwrap().witnesses().len(), WITNESSES_MAX);
    let line = WITNESSES_MAX + 1;
    assert_eq!(refused(&(witnesses(line) + none)), too_many(line, WITNESSES_MAX, "witnesses"));
    Policy::parse((most.clone() + &groups(GROUPS_MAX) + "quorum g63\n").as_bytes()).unwrap();
    let nested = (0..=GROUPS_MAX).fold(most, |text, n| match n {
        0 => text + "group g0 any w0\n",
        n => text + &format!("group g{n} any g{}\n", n - 1),
    });
    assert_eq!(refused(&nested), too_many(WITNESSES_MAX + GROUPS_MAX + 1, GROUPS_MAX, "groups"));

    let padded = |len: usize| format!("#{}\n{none}", "x".repeat(len - none.len() - 2));
    Policy::parse(padded(POLICY_LEN_MAX).as_bytes()).unwrap();
    assert_eq!(refused(&padded(POLICY_LEN_MAX + 1)), PolicyError::TooLong { len: POLICY_LEN_MAX + 1 });
}

#[test]
fn a_chain_of_groups_is_walked_to_its_end() {
    let mut text = format!("witness w {}\ngroup g0 all w\n", witness(0).verifier());
    for n in 1..GROUPS_MAX {
        text += &format!("group g{n} 1 g{}\n", n - 1);
    }
    let policy = Policy::parse((text + "quorum g63\n").as_bytes()).unwrap();
    let signer = log(0);
    let checkpoint = Checkpoint { origin: "ledger0.example/1".into(), size: TreeSize(3), root: Digest::ZERO };
    let bytes = checkpoint.sign(&signer.clone().greased()).unwrap();
    let keys = [signer.verifier().clone()];
    let refused = policy.check(&bytes, "ledger0.example/1", &keys).unwrap_err();
    let said = "the checkpoint of 3 records does not meet the witness policy: cosigned by nobody; missing are w";
    assert_eq!(refused.to_string(), said);
    let line = witness(0).line(&checkpoint.to_text(), CosignTime(77)).unwrap();
    let bytes = with_lines(&bytes, &[line]).unwrap();
    let (read, evaluation) = policy.check(&bytes, "ledger0.example/1", &keys).unwrap();
    assert_eq!((read, evaluation.times()), (checkpoint, Some((CosignTime(77), CosignTime(77)))));
    let other = policy.check(&bytes, "ledger1.example/1", &keys);
    assert!(matches!(other, Err(Refused::Checkpoint(CheckpointError::Origin { .. }))));
}

#[test]
fn a_log_of_the_policy_speaks_for_its_own_origin_only() {
    let policy = format!("log {}\nlog {}\nquorum none\n", log(0).verifier(), log(1).verifier());
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    // Log 1 signs a checkpoint that claims to be log 0's.
    let checkpoint = Checkpoint { origin: "ledger0.example/1".into(), size: TreeSize(3), root: Digest::ZERO };
    policy.check(&checkpoint.sign(&log(0)).unwrap(), "ledger0.example/1", &[]).unwrap();
    let forged = checkpoint.sign(&log(1)).unwrap();
    assert!(matches!(
        policy.check(&forged, "ledger0.example/1", &[]),
        Err(Refused::Checkpoint(CheckpointError::Note(NoteError::NotSigned { .. })))
    ));
}

#[test]
fn the_same_line_twice_counts_once() {
    let [a, b] = [witness(1), witness(2)];
    let policy = format!("witness a {}\nwitness b {}\ngroup g 2 a b\nquorum g\n", a.verifier(), b.verifier());
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let checkpoint = Checkpoint { origin: "ledger0.example/1".into(), size: TreeSize(3), root: Digest::ZERO };
    let line = |time| a.line(&checkpoint.to_text(), CosignTime(time)).unwrap();
    let bytes = with_lines(&checkpoint.sign(&log(0)).unwrap(), &[line(1), line(2)]).unwrap();
    let refused = policy.check(&bytes, "ledger0.example/1", &[log(0).verifier().clone()]).unwrap_err();
    assert!(matches!(refused, Refused::Quorum { cosigned, missing, .. } if cosigned == ["a"] && missing == ["b"]));
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Policy::parse(&bytes);
    }

    #[test]
    fn any_lines_do_not_panic(text in "((log|witness|group|quorum|#)[ \t][a-c0-9+ \t]{0,12}\n){0,8}") {
        let _ = Policy::parse(text.as_bytes());
    }
}
