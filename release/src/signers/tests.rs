//! Against commits that Git itself signed.

use std::path::Path;
use std::process::Command;

use super::*;

struct Repo {
    folder: tempfile::TempDir,
}

impl Repo {
    /// A repo of one object format, and an SSH key in `key`.
    fn new(format: &str) -> Repo {
        let repo = Repo { folder: tempfile::tempdir().unwrap() };
        repo.run("git", &["init", "-q", "--object-format", format, "."]);
        repo.run("ssh-keygen", &["-q", "-N", "", "-C", "", "-t", "ed25519", "-f", "key"]);
        repo
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Ada")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "ada@example.com")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_DATE"), "1700000000 +0100")))
            .output()
            .unwrap_or_else(|error| panic!("this test needs `{program}`: {error}"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Commits with or without `-S`, and gives the parsed commit and its id by Git.
    fn commit(&self, signed: bool) -> Commit {
        let key = self.path().join("key").display().to_string();
        let mut arguments = vec!["-c", "gpg.format=ssh", "-c"];
        let setting = format!("user.signingkey={key}");
        arguments.extend([setting.as_str(), "commit", "-q", "--allow-empty", "-m", "subject\n\nbody"]);
        arguments.extend(signed.then_some("-S"));
        self.run("git", &arguments);
        let commit = Commit::parse(&self.run("git", &["cat-file", "commit", "HEAD"])).unwrap();
        let id = String::from_utf8(self.run("git", &["rev-parse", "HEAD"])).unwrap();
        assert_eq!(commit.id.as_str(), id.trim());
        commit
    }

    fn signer_line(&self, options: &str) -> String {
        format!("ada@example.com {options} {}", std::fs::read_to_string(self.path().join("key.pub")).unwrap().trim())
    }
}

fn policy(line: &str) -> SignerPolicy {
    SignerPolicy::AllowedSigners(AllowedSigners::parse([line]).unwrap())
}

#[test]
fn commits_that_git_signed_verify_in_both_formats() {
    for format in ["sha1", "sha256"] {
        let repo = Repo::new(format);
        let signed = repo.commit(true);
        let listed = policy(&repo.signer_line("")).check(&signed).unwrap();
        assert!(
            matches!(&listed, Signature::Listed { principal, key } if principal == "ada@example.com" && key.starts_with("SHA256:"))
        );
        assert!(matches!(SignerPolicy::UnsignedAllowed.check(&signed), Ok(Signature::Unlisted { .. })));

        let unsigned = repo.commit(false);
        assert_eq!(policy(&repo.signer_line("")).check(&unsigned), Err(SignatureError::Unsigned));
        assert_eq!(SignerPolicy::UnsignedAllowed.check(&unsigned), Ok(Signature::None));
    }
}

#[test]
fn another_key_a_changed_commit_and_another_time_are_refused() {
    let repo = Repo::new("sha1");
    let signed = repo.commit(true);
    let other = Repo::new("sha1");
    assert!(matches!(policy(&other.signer_line("")).check(&signed), Err(SignatureError::NotAllowed { .. })));

    let raw = repo.run("git", &["cat-file", "commit", "HEAD"]);
    let changed = String::from_utf8(raw).unwrap().replace("subject", "Subject");
    let changed = Commit::parse(changed.as_bytes()).unwrap();
    let refused = policy(&repo.signer_line("")).check(&changed);
    assert!(matches!(refused, Err(SignatureError::Ssh(SshError::Wrong { .. }))));
    assert!(matches!(SignerPolicy::UnsignedAllowed.check(&changed), Ok(Signature::Unusable { .. })));

    // The commit's time is 2023-11-14T22:13:20Z.
    for (options, allowed) in [
        ("valid-after=\"20231114221320Z\"", true),
        ("valid-after=\"20231114221321\"", false),
        ("valid-before=\"20231114221320Z\"", true),
        ("valid-before=\"202311142213\"", false),
        ("valid-before=\"20231115\",valid-after=\"20231114\"", true),
        ("valid-before=\"99991231Z\"", true),
        ("namespaces=\"git\"", true),
        ("namespaces=\"file,g?t\"", true),
        ("namespaces=\"file\"", false),
        ("namespaces=\"*,!git\"", false),
    ] {
        assert_eq!(policy(&repo.signer_line(options)).check(&signed).is_ok(), allowed, "{options}");
    }
}

/// The same answers as `git verify-commit` with the same list.
#[test]
fn git_agrees() {
    let repo = Repo::new("sha1");
    let signed = repo.commit(true);
    let list = repo.path().join("allowed");
    for options in ["", "valid-before=\"20200101Z\"", "namespaces=\"file\"", "namespaces=\"git\""] {
        std::fs::write(&list, repo.signer_line(options) + "\n").unwrap();
        let setting = format!("gpg.ssh.allowedSignersFile={}", list.display());
        let status = Command::new("git")
            .args(["-c", "gpg.format=ssh", "-c", &setting, "verify-commit", "HEAD"])
            .current_dir(repo.path())
            .env("HOME", repo.path())
            .output()
            .unwrap();
        let ours = policy(&repo.signer_line(options)).check(&signed);
        assert_eq!(ours.is_ok(), status.status.success(), "{options}: {ours:?}");
    }
}

#[test]
fn pgp_and_x509_are_refused_by_name() {
    let raw = |armour: &str| {
        let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let person = "A <a@x> 1 +0000";
        Commit::parse(
            format!("tree {tree}\nauthor {person}\ncommitter {person}\ngpgsig {armour}\n x\n\nm\n").as_bytes(),
        )
        .unwrap()
    };
    let repo = Repo::new("sha1");
    for (armour, kind) in [
        ("-----BEGIN PGP SIGNATURE-----", "PGP"),
        ("-----BEGIN SIGNED MESSAGE-----", "X.509"),
        ("-----BEGIN SOMETHING-----", "unknown"),
    ] {
        let refused = policy(&repo.signer_line("")).check(&raw(armour)).unwrap_err();
        assert_eq!(refused, SignatureError::UnsupportedKind { kind });
        assert!(refused.to_string().contains("gpg.format ssh"));
    }
}

#[test]
fn lists_are_read_whole_or_not_at_all() {
    let repo = Repo::new("sha1");
    let good = repo.signer_line("");
    assert!(AllowedSigners::parse(["# people", "", &good, &repo.signer_line("namespaces=\"git,file\"")]).is_ok());
    assert!(AllowedSigners::parse(["\"two people\" ssh-ed25519 ", &good]).is_err());
    assert_eq!(AllowedSigners::parse(["# nobody"]), Err(SignersError::Empty));
    let key = good.split_whitespace().nth(2).unwrap();
    for (bad, part) in [
        ("ada@example.com".to_owned(), "no key"),
        ("ada@example.com ssh-ed25519".to_owned(), "no key after"),
        (format!("ada@example.com cert-authority ssh-ed25519 {key}"), "certificates"),
        (format!("ada@example.com no-such-option ssh-ed25519 {key}"), "no-such-option"),
        (format!("ada@example.com valid-after=\"20231301\" ssh-ed25519 {key}"), "is not a time"),
        (format!("ada@example.com valid-after=\"2023\" ssh-ed25519 {key}"), "is not a time"),
        (format!("ada@example.com namespaces=\"git ssh-ed25519 {key}"), "quote"),
        (format!("ada@example.com ssh-rsa {key}"), "its type is not the one"),
        ("ada@example.com ssh-ed25519 !".to_owned(), "base64"),
    ] {
        let refused = AllowedSigners::parse([good.as_str(), &bad]).unwrap_err().to_string();
        assert!(refused.contains("line 2") && refused.contains(part), "{bad}: {refused}");
    }
}

#[test]
fn as_many_signers_as_allowed_and_one_more() {
    let repo = Repo::new("sha1");
    let line = repo.signer_line("");
    assert!(AllowedSigners::parse(std::iter::repeat_n(line.as_str(), SIGNERS_MAX)).is_ok());
    let refused = AllowedSigners::parse(std::iter::repeat_n(line.as_str(), SIGNERS_MAX + 1));
    assert_eq!(refused, Err(SignersError::TooMany { count: SIGNERS_MAX + 1 }));
}

#[test]
fn times_are_calendar_times() {
    assert_eq!(parse_time("19700101"), Some(0));
    assert_eq!(parse_time("20240229"), Some(1_709_164_800));
    assert_eq!(parse_time("20231114221320Z"), Some(1_700_000_000));
    for bad in
        ["20230229", "20240230", "20241301", "202401012460", "202401012400", "2024010112345", "19691231", "+0240101"]
    {
        assert_eq!(parse_time(bad), None, "{bad}");
    }
}
