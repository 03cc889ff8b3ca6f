use proptest::prelude::*;

use super::*;

fn signer(name: &str, seed: u8) -> NoteSigner {
    NoteSigner::new(name, SigningKey::from_bytes(&[seed; 32])).unwrap()
}

fn signed(text: &str, signers: &[&NoteSigner]) -> String {
    String::from_utf8(Note::sign(text, signers).unwrap()).unwrap()
}

/// Lines that a reader must ignore: another algorithm's, a stranger's, one that claims a known name under another id.
fn grease(name: &str) -> String {
    let line = |name: &str, payload: &[u8]| format!("\u{2014} {name} {}\n", STANDARD.encode(payload));
    [
        line("grease.example/7f3a", &[9; 77]),
        line("stranger", &[1; 68]),
        line(name, &[0xff; 2424]),
        line("short", &[1, 2, 3, 4, 5]),
    ]
    .concat()
}

#[test]
fn the_example_of_the_go_package_verifies() {
    // golang.org/x/mod/sumdb/note, package example.
    let key: VerifierKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
    let note = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n\
                \n\
                \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&key)).unwrap(), [&key]);
    assert_eq!(key.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
}

#[test]
fn the_private_key_text_of_the_go_package_is_read() {
    let text = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    let signer = NoteSigner::from_text(text).unwrap();
    assert_eq!(signer.to_text(), text);
    assert_eq!(signer.verifier().to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    assert!(!format!("{signer:?}").contains("AYEKFALV"), "the secret is not printed");
    for bad in ["", "PeterNeumann+c74f20a3+x", &text.replace("c74f", "c74e"), &text.replace("+AY", "+BY"), &text[..60]]
    {
        let error = NoteSigner::from_text(bad).unwrap_err();
        assert!(matches!(error, NoteError::Key { .. }) && !error.to_string().contains("AYEK"), "{error}");
    }
}

#[test]
fn unknown_lines_are_ignored_and_known_wrong_ones_refused() {
    let (ours, theirs) = (signer("log.example/1", 1), signer("witness.example", 2));
    let note = signed("a text\n", &[&ours, &theirs]) + &grease("log.example/1");
    let known = [ours.verifier().clone()];
    let parsed = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(parsed.verify(&known).unwrap(), [&known[0]]);
    assert_eq!(parsed.signatures().len(), 6);

    let changed = Note::parse(note.replace("a text", "b text").as_bytes()).unwrap();
    assert_eq!(changed.verify(&known), Err(NoteError::WrongSignature { name: "log.example/1".into() }));
    let stranger = [signer("stranger.example", 3).verifier().clone()];
    assert!(matches!(parsed.verify(&stranger), Err(NoteError::NotSigned { .. })));
    // The other key's line is wrong: a note is refused even though one known key's signature is good.
    let both = [ours.verifier().clone(), theirs.verifier().clone()];
    let id = theirs.verifier().id().to_be_bytes();
    let forged = format!("\u{2014} witness.example {}\n", STANDARD.encode([&id[..], &[7; 64]].concat()));
    let note = Note::parse((signed("a text\n", &[&ours]) + &forged).as_bytes()).unwrap();
    assert_eq!(note.verify(&both), Err(NoteError::WrongSignature { name: "witness.example".into() }));
    // A signature of a wrong length by a known key is wrong, not unknown.
    let short = format!("\u{2014} witness.example {}\n", STANDARD.encode([&id[..], &[7; 63]].concat()));
    let note = Note::parse((signed("a text\n", &[&ours]) + &short).as_bytes()).unwrap();
    assert!(note.verify(&both).is_err());
}

#[test]
fn greased_notes_are_read_like_others() {
    let plain = signer("log.example/1", 1);
    let ours = plain.clone().greased();
    let known = [plain.verifier().clone()];
    let mut places = std::collections::BTreeSet::new();
    for number in 0..64 {
        let text = format!("text {number}\n");
        let note = signed(&text, &[&ours]);
        assert_eq!(note, signed(&text, &[&ours]), "the same text, the same bytes");
        let note = Note::parse(note.as_bytes()).unwrap();
        assert!(note.signatures().len() >= 4);
        assert_eq!(note.verify(&known).unwrap(), [&known[0]]);
        places.insert(note.signatures().iter().position(|line| known[0].claims(line)));
    }
    assert!(places.len() >= 4, "the order changes: {places:?}");
}

#[test]
fn the_last_blank_line_splits() {
    let ours = signer("log", 1);
    let note = Note::parse(signed("first\n\nsecond\n", &[&ours]).as_bytes()).unwrap();
    assert_eq!(note.text(), "first\n\nsecond\n");
    note.verify(&[ours.verifier().clone()]).unwrap();
    // An empty line as the whole text is a text.
    let note = Note::parse(signed("\n", &[&ours]).as_bytes()).unwrap();
    assert_eq!(note.text(), "\n");
}

#[test]
fn malformed_notes_are_refused() {
    let ours = signer("log", 1);
    let good = signed("text\n", &[&ours]);
    for (bad, expected) in [
        (String::new(), NoteError::Shape),
        ("text\n".into(), NoteError::Shape),
        (good.trim_end().to_owned(), NoteError::Shape),
        ("text\n\n".into(), NoteError::Shape),
        (good.replace("\u{2014}", "-"), NoteError::SignatureLine { line: 1 }),
        (good.replace("log ", "log  "), NoteError::SignatureLine { line: 1 }),
        (good.replace("log ", ""), NoteError::SignatureLine { line: 1 }),
        (good.replace("log ", "l+g "), NoteError::SignatureLine { line: 1 }),
        (format!("{good}\u{2014} log AAAA\n"), NoteError::SignatureLine { line: 2 }),
        (format!("{good}\u{2014} log AAAAAAAB\n"), NoteError::SignatureLine { line: 3 }),
        (good.replace("text", "te\rxt"), NoteError::Character { offset: 2 }),
        (good.replace("text", "te\txt"), NoteError::Character { offset: 2 }),
        (good.replace("text", "te\0xt"), NoteError::Character { offset: 2 }),
    ] {
        let result = Note::parse(bad.as_bytes());
        if expected == (NoteError::SignatureLine { line: 3 }) {
            result.unwrap(); // four bytes of id and two of signature: short, and another key's business
        } else {
            assert_eq!(result, Err(expected), "{bad:?}");
        }
    }
    assert_eq!(Note::parse(b"a\xff\n\nb\n"), Err(NoteError::Character { offset: 1 }));
    assert_eq!(Note::sign("no line feed", &[&ours]), Err(NoteError::Text));
    assert_eq!(Note::sign("tab\t\n", &[&ours]), Err(NoteError::Text));
    assert_eq!(Note::sign("", &[&ours]), Err(NoteError::Text));
}

#[test]
fn counts_and_lengths_at_their_limits() {
    let ours = signer("log", 1);
    let line = "\u{2014} other AAAAAAAA\n".replace("AAAAAAAA", &STANDARD.encode([1; 9]));
    let note = |lines: usize| signed("text\n", &[&ours]) + &line.repeat(lines);
    let known = [ours.verifier().clone()];
    Note::parse(note(SIGNATURES_MAX - 1).as_bytes()).unwrap().verify(&known).unwrap();
    assert_eq!(Note::parse(note(SIGNATURES_MAX).as_bytes()), Err(NoteError::TooManySignatures));

    let text = |len: usize| "x".repeat(len - 1) + "\n";
    let overhead = signed("x\n", &[&ours]).len() - 2;
    Note::parse(signed(&text(NOTE_LEN_MAX - overhead), &[&ours]).as_bytes()).unwrap();
    let long = signed(&text(NOTE_LEN_MAX - overhead + 1), &[&ours]);
    assert_eq!(Note::parse(long.as_bytes()), Err(NoteError::TooLong { len: NOTE_LEN_MAX + 1 }));

    check_name(&"n".repeat(KEY_NAME_LEN_MAX)).unwrap();
    for bad in ["", "a b", "a+b", "a\u{2003}b", "a\n", &"n".repeat(KEY_NAME_LEN_MAX + 1)] {
        assert!(check_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn keys_with_another_id_type_or_length_are_refused() {
    let good = signer("log", 1).verifier().to_string();
    assert_eq!(good.parse::<VerifierKey>().unwrap().to_string(), good);
    let tail = good.rsplit_once('+').unwrap().1;
    let other = VerifierKey::from_str(&format!("other+{}+{tail}", &good[4..12]));
    assert!(matches!(other, Err(NoteError::Key { reason: "the id does not belong to this name and key", .. })));
    let typed = |kind: u8, len: usize| format!("log+00000000+{}", STANDARD.encode([vec![kind], vec![9; len]].concat()));
    for bad in
        ["", "log", "log+00000000", &good.to_uppercase(), &typed(2, 32), &typed(1, 31), &typed(1, 33), &typed(6, 32)]
    {
        assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
    }
    // The neutral element: a signature under it proves nothing.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert!(VerifierKey::new("log", VerifyingKey::from_bytes(&neutral).unwrap()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Note::parse(&bytes);
    }

    #[test]
    fn what_is_signed_is_read_back(text in "[ -~\n\u{a0}-\u{ffff}]{0,60}") {
        let ours = signer("log", 1);
        let text = text + "\n";
        let note = Note::parse(&Note::sign(&text, &[&ours]).unwrap()).unwrap();
        prop_assert_eq!(note.text(), &text);
        note.verify(&[ours.verifier().clone()]).unwrap();
    }

    #[test]
    fn any_key_text_does_not_panic(text in "[a-z+=A-Z0-9/]{0,80}") {
        let _ = text.parse::<VerifierKey>();
        let _ = NoteSigner::from_text(&text);
    }
}
