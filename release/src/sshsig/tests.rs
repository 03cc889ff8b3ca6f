//! Against the signatures of OpenSSH itself: keys and signatures are made by `ssh-keygen` as the tests run.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;

fn run(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs `{program}`: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A key of `kind` in `folder/key`, and its public file's words.
fn keygen(folder: &Path, kind: &[&str]) -> (String, String) {
    let arguments = [&["-q", "-N", "", "-C", "", "-f", "key", "-t"], kind].concat();
    run("ssh-keygen", &arguments, folder);
    let public = std::fs::read_to_string(folder.join("key.pub")).unwrap();
    let mut words = public.split_whitespace();
    (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
}

fn sign(folder: &Path, message: &[u8], namespace: &str, hash: &str) -> Vec<u8> {
    std::fs::write(folder.join("message"), message).unwrap();
    let _ = std::fs::remove_file(folder.join("message.sig"));
    run("ssh-keygen", &["-q", "-Y", "sign", "-f", "key", "-n", namespace, "-O", hash, "message"], folder);
    std::fs::read(folder.join("message.sig")).unwrap()
}

const KINDS: [&[&str]; 2] = [&["ed25519"], &["ecdsa", "-b", "256"]];

#[test]
fn signatures_by_openssh_verify() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let (algorithm, base64) = keygen(folder.path(), kind);
        let key = SshKey::from_words(&algorithm, &base64).unwrap();
        let listed = run("ssh-keygen", &["-l", "-f", "key.pub"], folder.path());
        assert_eq!(listed.split_whitespace().nth(1), Some(key.fingerprint().as_str()));
        // Several, since an ECDSA number needs its leading zero only half of the time.
        for (round, hash) in ["hashalg=sha512", "hashalg=sha256"].repeat(4).iter().enumerate() {
            let message = format!("message {round}");
            let signature = SshSignature::parse(&sign(folder.path(), message.as_bytes(), "git", hash)).unwrap();
            assert_eq!(signature.key, key);
            assert_eq!(signature.verify(message.as_bytes()), Ok(()));
            assert_eq!(signature.verify(b"other"), Err(SshError::Wrong { key: key.fingerprint() }));
        }
        let elsewhere = SshSignature::parse(&sign(folder.path(), b"m", "file", "hashalg=sha512")).unwrap();
        assert_eq!(elsewhere.verify(b"m"), Err(SshError::Namespace { namespace: "file".into() }));
    }
}

#[test]
fn other_key_types_are_refused_by_name() {
    for (kind, algorithm) in [(&["rsa", "-b", "2048"], "ssh-rsa"), (&["ecdsa", "-b", "384"], "ecdsa-sha2-nistp384")] {
        let folder = tempfile::tempdir().unwrap();
        let (word, base64) = keygen(folder.path(), kind);
        let refused = SshError::UnsupportedKey { algorithm: algorithm.into() };
        assert_eq!(SshKey::from_words(&word, &base64), Err(refused.clone()));
        assert_eq!(SshSignature::parse(&sign(folder.path(), b"m", "git", "hashalg=sha512")), Err(refused));
    }
}

#[test]
fn every_flipped_byte_of_a_signature_is_refused() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        keygen(folder.path(), kind);
        let armour = sign(folder.path(), b"message", "git", "hashalg=sha512");
        let blob = dearmour(&armour).unwrap();
        for at in 0..blob.len() {
            let mut flipped = blob.clone();
            flipped[at] ^= 1;
            let armour = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(&flipped));
            let verified = SshSignature::parse(armour.as_bytes()).and_then(|signature| signature.verify(b"message"));
            assert!(verified.is_err(), "byte {at}");
        }
        let longer = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode([blob.as_slice(), b"x"].concat()));
        assert!(SshSignature::parse(longer.as_bytes()).is_err());
    }
}

#[test]
fn malformed_armour_is_refused() {
    let long = format!("{BEGIN}\n{}\n{END}\n", "A".repeat(SIGNATURE_LEN_MAX));
    for bad in ["", BEGIN, END, "-----BEGIN SSH SIGNATURE-----\n!\n-----END SSH SIGNATURE-----\n", long.as_str()] {
        assert!(matches!(SshSignature::parse(bad.as_bytes()), Err(SshError::Malformed { .. })), "{bad:.40}");
    }
    let at_limit = "A".repeat(SIGNATURE_LEN_MAX - BEGIN.len() - END.len());
    let refused = dearmour(format!("{BEGIN}{at_limit}{END}").as_bytes());
    assert!(!matches!(refused, Err(SshError::Malformed { reason: "it is longer than 16 KiB", .. })));
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic(blob in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = SshKey::from_blob(&blob);
        let blob = [MAGIC, &[0, 0, 0, 1], &blob].concat();
        let _ = SshSignature::parse(format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(blob)).as_bytes());
    }
}
