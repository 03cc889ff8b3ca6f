use cairn_schemas::ids::TreeSize;

use super::*;
use crate::note::NoteSigner;

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: "ledger.example/1".into(), size: TreeSize(5), root: Digest::sha256(b"root") }
}

fn log() -> NoteSigner {
    NoteSigner::new("ledger.example/1", SigningKey::from_bytes(&[1; 32])).unwrap()
}

fn ed25519() -> CosignatureSigner {
    CosignatureSigner::ed25519("witness.example/w1", SigningKey::from_bytes(&[2; 32])).unwrap()
}

fn mldsa44(name: &str) -> CosignatureSigner {
    CosignatureSigner::mldsa44(name, mldsa::SecretKey::from_seed(&[3; 32])).unwrap()
}

#[test]
fn the_message_of_the_specification_is_made() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let expected = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    assert_eq!(ed25519_message(text, CosignTime(1_679_315_147)), expected.as_bytes());
    let message = mldsa_message("w", CosignTime(0x0102), &Checkpoint::from_text(text).unwrap()).unwrap();
    assert_eq!(&message[..22], b"subtree/v1\n\0\x01w\0\0\0\0\0\0\x01\x02");
    assert_eq!(message[22..50], [&[27], &b"example.com/behind-the-sofa"[..]].concat());
    assert_eq!(message[50..66], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x3e, 0x2d, 0xc3]);
    assert_eq!(message.len(), 98);
}

#[test]
fn cosigners_sign_and_are_read_back() {
    for signer in [ed25519(), mldsa44("witness.example/w1")] {
        let text = checkpoint().to_text();
        let line = signer.line(&text, CosignTime(1_700_000_000)).unwrap();
        let bytes = with_lines(&checkpoint().sign(&log().greased()).unwrap(), &[line.clone(), line]).unwrap();
        let note = Note::parse(&bytes).unwrap();
        assert_eq!(note.cosigned_at(signer.verifier()).unwrap(), Some(CosignTime(1_700_000_000)));
        assert_eq!(note.cosigned_at(ed25519_other().verifier()).unwrap(), None);
        assert_eq!(note.signatures().iter().filter(|line| signer.verifier().claims(line)).count(), 1, "not repeated");
        assert_eq!(note.verify(&[signer.verifier().clone()]).unwrap(), [signer.verifier()]);
        let again = CosignatureSigner::from_text(&signer.to_text()).unwrap();
        assert_eq!(again.verifier(), signer.verifier());
        assert_eq!(signer.verifier().to_string().parse::<VerifierKey>().unwrap(), *signer.verifier());
    }
}

fn ed25519_other() -> CosignatureSigner {
    CosignatureSigner::ed25519("witness.example/w1", SigningKey::from_bytes(&[4; 32])).unwrap()
}

#[test]
fn only_checkpoints_and_times_that_can_be_are_cosigned() {
    let signer = ed25519();
    for text in ["", "a text\n", "ledger.example/1\n5\n", &format!("{}an extension\n", checkpoint().to_text())] {
        assert_eq!(signer.line(text, CosignTime(1)), Err(NoteError::NotACheckpoint), "{text}");
    }
    let text = checkpoint().to_text();
    signer.line(&text, CosignTime(TIME_MAX)).unwrap();
    assert_eq!(signer.line(&text, CosignTime(TIME_MAX + 1)), Err(NoteError::Time { time: TIME_MAX + 1 }));
}

#[test]
fn a_plain_signature_is_no_cosignature() {
    // The same key in both roles: the messages are apart.
    let key = SigningKey::from_bytes(&[1; 32]);
    let cosigner = CosignatureSigner::ed25519("ledger.example/1", key).unwrap();
    let note = Note::parse(&checkpoint().sign(&log()).unwrap()).unwrap();
    assert_eq!(note.cosigned_at(cosigner.verifier()), Ok(None));
    assert!(note.cosigned_at(log().verifier()).is_err(), "a log's signature states no time");
}

#[test]
fn a_log_with_two_keys_signs_twice() {
    let log = log().with_second(mldsa44("ledger.example/1")).unwrap();
    let bytes = checkpoint().sign(&log).unwrap();
    assert_eq!(bytes, checkpoint().sign(&log).unwrap(), "the same checkpoint, the same bytes");
    let second = log.second().unwrap();
    for keys in [vec![log.verifier().clone()], vec![second.clone()], vec![log.verifier().clone(), second.clone()]] {
        assert_eq!(Checkpoint::verify(&bytes, "ledger.example/1", &keys), Ok(checkpoint()));
    }
    assert_eq!(Note::parse(&bytes).unwrap().cosigned_at(second).unwrap(), Some(CosignTime(0)));
    let read = NoteSigner::from_text(&log.to_text()).unwrap();
    assert_eq!((read.verifier(), read.second()), (log.verifier(), log.second()));
    // A note that is no checkpoint has the first signature only.
    let other = Note::parse(&Note::sign("a word\n", &[&log]).unwrap()).unwrap();
    assert_eq!(other.signatures().len(), 1);
    let refused = NoteError::Second { name: "ledger.example/1".into() };
    assert_eq!(self::log().with_second(mldsa44("other")).unwrap_err(), refused);
    assert_eq!(self::log().with_second(ed25519()).unwrap_err(), refused);
}

#[test]
fn private_keys_of_the_other_kind_are_refused() {
    let error = CosignatureSigner::from_text(&log().to_text()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this is not the text of a signing key: a cosigner's key has the type 0x04 or 0x06, and this one 0x01"
    );
    assert!(NoteSigner::from_text(&ed25519().to_text()).is_err());
    assert!(!format!("{:?}", ed25519()).contains("PRIVATE"));
}
