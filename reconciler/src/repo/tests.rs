//! With repos that Git itself made, hostile ones included.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cairn_release::content::{CONTENT_LEN_MAX, Content, FileEntry};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{CommitId, RecordIndex, ReleaseRef, RingName, Serial};
use cairn_schemas::time::Timestamp;
use rustix::process::geteuid;

use super::*;

const NOW: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

fn author() -> Author {
    Author { name: "Cairn".into(), email: "cairn@example.com".into() }
}

/// A repo in a temporary folder, worked on by the `git` program.
struct Repo {
    folder: tempfile::TempDir,
}

impl Repo {
    fn new(arguments: &[&str]) -> Repo {
        let repo = Repo { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(repo.path()).unwrap();
        repo.git(&[&["init", "-q", "-b", "main"], arguments].concat());
        repo
    }

    /// With `cairn.yaml`, a guardrail in a folder, and a file that is not policy.
    fn with_policy() -> Repo {
        let repo = Repo::new(&[]);
        repo.write("cairn.yaml", "version: 1\n");
        repo.write("guardrails/k8s/a.rego", "package a\n");
        repo.write("README.md", "hello\n");
        repo.commit("first");
        repo
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("policies")
    }

    fn source(&self) -> Source {
        Source::local(self.path(), "main")
    }

    fn mirror(&self) -> Mirror {
        Mirror::open(&self.folder.path().join("mirror.git"), self.source()).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = git(&self.path(), arguments, b"");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn commit(&self, message: &str) -> CommitId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.tip()
    }

    fn tip(&self) -> CommitId {
        self.git(&["rev-parse", "main"]).parse().unwrap()
    }

    /// Stores an object as it is, however malformed, and gives its id.
    fn object(&self, kind: &str, raw: &[u8]) -> String {
        let output = git(&self.path(), &["hash-object", "-t", kind, "-w", "--stdin", "--literally"], raw);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Makes a commit of a root that has one folder, `guardrails`, with one entry, and moves `main` there.
    fn commit_guardrail(&self, mode: &str, name: &[u8], id: &str) -> CommitId {
        let folder = self.object("tree", &raw_entry(mode, name, id));
        let root = self.object("tree", &raw_entry("40000", b"guardrails", &folder));
        let commit = self.git(&["commit-tree", &root, "-m", "hostile"]);
        self.git(&["update-ref", "refs/heads/main", &commit]);
        commit.parse().unwrap()
    }

    fn snapshot(&self) -> Result<Snapshot, RepoError> {
        let mirror = self.mirror();
        mirror.snapshot(&mirror.fetch()?)
    }
}

fn raw_entry(mode: &str, name: &[u8], id: &str) -> Vec<u8> {
    let id: Vec<u8> = (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect();
    [mode.as_bytes(), b" ", name, b"\0", &id].concat()
}

fn git(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Ada")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "ada@example.com")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs `git`: {error}"));
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
    child.wait_with_output().unwrap()
}

fn ids(history: History) -> Vec<CommitId> {
    match history {
        History::Forward(commits) => commits.into_iter().map(|commit| commit.id).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_policy_of_a_commit_is_read_and_bound_in_both_formats() {
    for format in ["sha1", "sha256"] {
        let repo = Repo::new(&["--object-format", format]);
        repo.write("cairn.yaml", "version: 1\n");
        repo.write("guardrails/k8s/a.rego", "package a\n");
        repo.write("guardrails/run.sh", "#!/bin/sh\n");
        repo.write("README.md", "hello\n");
        repo.git(&["add", "-A"]);
        repo.git(&["update-index", "--chmod=+x", "guardrails/run.sh"]);
        repo.git(&["commit", "-q", "-m", "first"]);
        let snapshot = repo.snapshot().unwrap();
        assert_eq!(snapshot.commit.id, repo.tip());
        assert_eq!(snapshot.commit.message, "first\n");
        let executable: Vec<_> = snapshot.content.iter().map(|(path, file)| (path.as_str(), file.executable)).collect();
        assert_eq!(executable, [("cairn.yaml", false), ("guardrails/k8s/a.rego", false), ("guardrails/run.sh", true)]);
        assert_eq!(snapshot.content["cairn.yaml"].bytes, b"version: 1\n");
        // The root, `guardrails` and `guardrails/k8s`.
        assert_eq!(snapshot.trees_raw.len(), 3);
    }
}

#[test]
fn folders_with_the_same_files_are_one_tree() {
    let repo = Repo::new(&[]);
    repo.write("guardrails/x.md", "same\n");
    repo.write("runbooks/x.md", "same\n");
    repo.commit("first");
    let snapshot = repo.snapshot().unwrap();
    assert_eq!((snapshot.content.len(), snapshot.trees_raw.len()), (2, 2));
}

#[test]
fn new_commits_are_seen_fetched_and_listed() {
    let repo = Repo::with_policy();
    let watch = repo.source().watch().unwrap();
    let mirror = repo.mirror();
    let first = mirror.fetch().unwrap();
    assert_eq!((watch.tip().unwrap(), repo.source().tip().unwrap()), (first.clone(), first.clone()));
    assert_eq!(ids(mirror.history(None, &first).unwrap()), std::slice::from_ref(&first));
    assert_eq!(mirror.history(Some(&first), &first).unwrap(), History::Unchanged);

    let second = repo.commit("second");
    repo.write("guardrails/b.rego", "package b\n");
    repo.write("cairn.yaml", "version: 1\nrings: []\n");
    repo.git(&["rm", "-q", "guardrails/k8s/a.rego"]);
    let third = repo.commit("third");
    // Packed refs are read as well as loose ones.
    repo.git(&["pack-refs", "--all"]);
    assert_eq!(watch.tip().unwrap(), third);
    assert!(!mirror.has(&third));
    assert_eq!(mirror.fetch().unwrap(), third);
    assert_eq!(ids(mirror.history(Some(&first), &third).unwrap()), [second, third.clone()]);

    let change = |path: &str, kind| Change { path: path.into(), kind };
    assert_eq!(
        changes(&mirror.snapshot(&first).unwrap().content, &mirror.snapshot(&third).unwrap().content),
        [
            change("cairn.yaml", ChangeKind::Modified),
            change("guardrails/b.rego", ChangeKind::Added),
            change("guardrails/k8s/a.rego", ChangeKind::Removed),
        ]
    );

    // A mirror that is opened again has everything; one that was deleted is fetched again.
    drop(mirror);
    assert!(repo.mirror().has(&first));
    std::fs::remove_dir_all(repo.folder.path().join("mirror.git")).unwrap();
    assert_eq!(repo.mirror().fetch().unwrap(), third);
}

/// The commits whose signatures must be checked are those of `git rev-list`, whatever shape the history has and whatever
/// times its commits claim.
#[test]
fn merged_side_branches_are_listed_and_accepted_history_is_not() {
    let repo = Repo::with_policy();
    repo.commit("old");
    repo.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
    repo.git(&["-c", "user.name=x", "commit", "-q", "--allow-empty", "--date", "2001-01-01T00:00:00Z", "-m", "side 1"]);
    let side = repo.git(&["rev-parse", "side"]);
    repo.git(&["checkout", "-q", "main"]);
    let accepted = repo.commit("accepted");
    repo.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let tip = repo.commit("tip");

    let mirror = repo.mirror();
    mirror.fetch().unwrap();
    let listed = ids(mirror.history(Some(&accepted), &tip).unwrap());
    let mut sorted: Vec<String> = listed.iter().map(CommitId::to_string).collect();
    sorted.sort();
    let expected = repo.git(&["rev-list", &format!("{accepted}..main")]);
    let mut expected: Vec<String> = expected.lines().map(str::to_owned).collect();
    expected.sort();
    assert_eq!(sorted, expected);
    assert!(sorted.contains(&side) && sorted.len() == 3);
    assert_eq!(listed.last(), Some(&tip));
}

/// Each fetch adds a pack to the mirror, and a process that runs for months opens it once.
#[test]
fn a_mirror_takes_many_fetches() {
    let repo = Repo::with_policy();
    let mirror = repo.mirror();
    let first = mirror.fetch().unwrap();
    for round in 0..70 {
        repo.commit(&format!("round {round}"));
        let tip = mirror.fetch().unwrap();
        assert_eq!(mirror.snapshot(&tip).unwrap().commit.id, tip);
    }
    assert_eq!(ids(mirror.history(Some(&first), &repo.tip()).unwrap()).len(), 70);
    let packs = std::fs::read_dir(repo.folder.path().join("mirror.git/objects/pack")).unwrap();
    let packs = packs.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "pack"));
    assert!(packs.count() <= 40);
}

#[test]
fn rewritten_history_is_an_outcome_and_not_followed() {
    let repo = Repo::with_policy();
    let mirror = repo.mirror();
    let first = mirror.fetch().unwrap();
    let accepted = repo.commit("accepted");
    mirror.fetch().unwrap();

    // Amended, with the old commit gone from the source.
    repo.git(&["commit", "-q", "--allow-empty", "--amend", "-m", "rewritten"]);
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
    let tip = mirror.fetch().unwrap();
    let diverged = History::Diverged { accepted: accepted.clone(), tip: tip.clone() };
    assert_eq!(mirror.history(Some(&accepted), &tip).unwrap(), diverged);
    assert!(mirror.has(&accepted), "the mirror keeps what was accepted");

    // Set back.
    repo.git(&["reset", "-q", "--hard", first.as_str()]);
    let tip = mirror.fetch().unwrap();
    assert_eq!(tip, first);
    assert!(matches!(mirror.history(Some(&accepted), &tip).unwrap(), History::Diverged { .. }));

    // An accepted commit that a new mirror has never seen.
    let unknown: CommitId = "f".repeat(40).parse().unwrap();
    assert!(matches!(mirror.history(Some(&unknown), &tip).unwrap(), History::Diverged { .. }));
}

#[test]
fn links_and_submodules_in_policy_are_refused_with_their_path() {
    let repo = Repo::with_policy();
    std::os::unix::fs::symlink("/etc/passwd", repo.path().join("guardrails/link.rego")).unwrap();
    repo.commit("link");
    let error = repo.snapshot().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`guardrails/link.rego` is a symbolic link: policy is regular files and folders only"
    );

    let repo = Repo::with_policy();
    repo.git(&["rm", "-rq", "guardrails"]);
    std::os::unix::fs::symlink("/etc", repo.path().join("guardrails")).unwrap();
    repo.commit("link");
    assert!(matches!(repo.snapshot(), Err(RepoError::NotAFile { path, .. }) if path == "guardrails"));

    let repo = Repo::with_policy();
    let tip = repo.tip();
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{tip},guardrails/module")]);
    repo.git(&["commit", "-q", "-m", "module"]);
    let error = repo.snapshot().unwrap_err().to_string();
    assert!(error.contains("`guardrails/module` is a submodule"), "{error}");

    // Outside the policy they are none of our business.
    let repo = Repo::with_policy();
    std::os::unix::fs::symlink("/etc/passwd", repo.path().join("docs")).unwrap();
    repo.commit("link");
    repo.snapshot().unwrap();
}

#[test]
fn hostile_paths_are_refused_escaped() {
    let refuse = |mode: &str, name: &[u8]| {
        let repo = Repo::with_policy();
        let blob = repo.object("blob", b"x");
        repo.commit_guardrail(mode, name, &blob);
        repo.snapshot().unwrap_err()
    };
    for name in [&b".."[..], b".git", b"."] {
        // gix may refuse the pack, or we the tree: either way nothing is written anywhere.
        let error = refuse("100644", name).to_string();
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(
        matches!(refuse("100644", b"a\xff.rego"), RepoError::PathNotUtf8 { path } if path == "guardrails/a\\xff.rego")
    );
    let error = refuse("100644", b"a\x1b[2J").to_string();
    assert!(error.contains("guardrails/a\\u{1b}[2J"), "{error}");
    assert!(matches!(refuse("100664", b"a"), RepoError::NotAFile { .. }));
    assert!(matches!(refuse("100644", &[b'n'; 101]), RepoError::Path(_)));
}

#[test]
fn a_huge_file_and_a_bomb_of_folders_are_refused() {
    let repo = Repo::with_policy();
    let room = CONTENT_LEN_MAX - 4 * 512;
    repo.write("runbooks/huge.md", &"x".repeat(room + 1));
    repo.commit("huge");
    let error = repo.snapshot().unwrap_err();
    assert!(matches!(&error, RepoError::TooLarge { path, .. } if path == "runbooks/huge.md"), "{error}");

    // Thirty folders, each holding the next one twice: a walk of 2^30 steps out of thirty objects.
    let repo = Repo::with_policy();
    let blob = repo.object("blob", b"x");
    let mut folder = repo.object("tree", &raw_entry("100644", b"f", &blob));
    for _ in 0..29 {
        let twice = [raw_entry("40000", b"a", &folder), raw_entry("40000", b"b", &folder)].concat();
        folder = repo.object("tree", &twice);
    }
    repo.commit_guardrail("40000", b"bomb", &folder);
    assert!(matches!(repo.snapshot(), Err(RepoError::TooManyFiles { .. })));
}

#[test]
fn as_many_files_as_allowed_and_one_more() {
    let repo = Repo::with_policy();
    let blob = repo.object("blob", b"x");
    let folder = |count: usize| {
        let raw: Vec<u8> = (0..count).flat_map(|n| raw_entry("100644", format!("{n:05}").as_bytes(), &blob)).collect();
        repo.object("tree", &raw)
    };
    let at_limit = folder(FILES_MAX);
    repo.commit_guardrail("40000", b"many", &at_limit);
    assert_eq!(repo.snapshot().unwrap().content.len(), FILES_MAX);
    let past_it = folder(FILES_MAX + 1);
    repo.commit_guardrail("40000", b"many", &past_it);
    assert!(matches!(repo.snapshot(), Err(RepoError::TooManyFiles { limit: FILES_MAX })));
}

#[test]
fn bad_sources_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let tip = |path: &Path| Source::local(path, "main").tip().unwrap_err();
    assert!(matches!(tip(&folder.path().join("none")), RepoError::Missing { .. }));
    assert!(matches!(tip(folder.path()), RepoError::NotARepo { .. }));
    std::fs::write(folder.path().join("file"), "x").unwrap();
    assert!(matches!(tip(&folder.path().join("file")), RepoError::NotARepo { .. }));

    let empty = Repo::new(&[]);
    let error = tip(&empty.path()).to_string();
    assert!(error.contains("no commit on the branch `main`"), "{error}");
    assert!(matches!(empty.mirror().fetch(), Err(RepoError::NoCommit { .. })));

    let broken = Repo::with_policy();
    std::fs::write(broken.path().join(".git/refs/heads/main"), "nonsense\n").unwrap();
    assert!(matches!(tip(&broken.path()), RepoError::NotARepo { .. }));
    let missing = Repo::with_policy();
    std::fs::write(missing.path().join(".git/refs/heads/main"), format!("{}\n", "a".repeat(40))).unwrap();
    let error = missing.mirror().fetch().unwrap_err();
    assert!(matches!(error, RepoError::Fetch { .. } | RepoError::NotARepo { .. }), "{error:?}");
    assert!(!error.to_string().contains('\n'));

    let gone = Repo::with_policy();
    let watch = gone.source().watch().unwrap();
    std::fs::remove_dir_all(gone.path()).unwrap();
    assert!(matches!(watch.tip(), Err(RepoError::Missing { .. })));
}

#[test]
fn bare_repos_and_work_trees_of_others_are_sources_too() {
    let repo = Repo::with_policy();
    repo.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    let bare = Source::local(repo.folder.path().join("bare.git"), "main");
    let mirror = Mirror::open(&repo.folder.path().join("m1.git"), bare).unwrap();
    assert_eq!(mirror.fetch().unwrap(), repo.tip());

    repo.git(&["worktree", "add", "-q", "-b", "topic", "../work"]);
    let work = Source::local(repo.folder.path().join("work"), "topic");
    let mirror = Mirror::open(&repo.folder.path().join("m2.git"), work).unwrap();
    assert_eq!(mirror.fetch().unwrap(), repo.tip());
}

#[test]
fn a_shallow_clone_lacks_what_is_named() {
    let repo = Repo::with_policy();
    let first = repo.tip();
    repo.commit("second");
    repo.commit("third");
    let url = format!("file://{}", repo.path().display());
    repo.git(&["clone", "-q", "--depth", "1", &url, "../shallow"]);
    let shallow = Source::local(repo.folder.path().join("shallow"), "main");
    let mirror = Mirror::open(&repo.folder.path().join("m.git"), shallow).unwrap();
    let error = mirror.fetch().and_then(|tip| mirror.history(Some(&first), &tip)).unwrap_err();
    assert!(matches!(error, RepoError::ObjectMissing { .. } | RepoError::Fetch { .. }), "{error:?}");
}

/// Nothing in the repo's own configuration starts a program or leads elsewhere when it is read.
#[test]
fn a_repo_cannot_start_programs() {
    let repo = Repo::with_policy();
    let trap = repo.folder.path().join("trap");
    let script = repo.folder.path().join("trap.sh");
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\n", trap.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = script.display().to_string();
    for key in ["uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand", "core.gitProxy", "gpg.program"] {
        repo.git(&["config", key, &script]);
    }
    repo.git(&["config", &format!("url.ext::{script}.insteadOf"), "file://"]);
    for hook in ["post-checkout", "reference-transaction", "pre-commit", "post-commit", "update"] {
        std::fs::copy(&script, repo.path().join(".git/hooks").join(hook)).unwrap();
    }
    // The fetch would be refused by a `git` that took the repo's word for where to find objects.
    repo.snapshot().unwrap();
    let writer = Writer::open(&repo.path()).unwrap();
    writer.tag(&tag(&repo.tip()), &author(), NOW).unwrap();
    writer.set_ring(&"broad".parse().unwrap(), &repo.tip()).unwrap();
    assert!(!trap.exists());
}

fn tag(commit: &CommitId) -> ReleaseTag {
    let release = ReleaseRef { serial: Serial(7), digest: Digest::sha256(b"tar") };
    ReleaseTag { release, commit: commit.clone(), ledger: "example".into(), volume: 1, index: RecordIndex(42) }
}

#[test]
fn tags_and_rings_are_written_and_git_reads_them() {
    let repo = Repo::with_policy();
    let first = repo.tip();
    let second = repo.commit("second");
    let writer = Writer::open(&repo.path()).unwrap();
    writer.tag(&tag(&first), &author(), NOW).unwrap();
    writer.tag(&tag(&first), &author(), NOW).unwrap();
    assert_eq!(repo.git(&["cat-file", "-t", "v7"]), "tag");
    assert_eq!(repo.git(&["rev-parse", "v7^{commit}"]), first.to_string());
    let shown = repo.git(&["for-each-ref", "--format=%(contents) %(taggeremail) %(taggerdate:unix)", "refs/tags/v7"]);
    for part in [&Digest::sha256(b"tar").to_string(), "volume 1, index 42", "<cairn@example.com> 1700000000"] {
        assert!(shown.contains(part), "{shown}");
    }
    let taken = writer.tag(&tag(&second), &author(), NOW).unwrap_err();
    assert!(matches!(taken, RepoError::TagTaken { found, .. } if found == first.to_string()));

    let ring: RingName = "canary".parse().unwrap();
    assert_eq!(writer.ring(&ring).unwrap(), None);
    for commit in [&first, &second, &first] {
        writer.set_ring(&ring, commit).unwrap();
        assert_eq!(writer.ring(&ring).unwrap().as_ref(), Some(commit));
        assert_eq!(repo.git(&["log", "-1", "--format=%H", "refs/cairn/rings/canary"]), commit.to_string());
    }
    // Not a commit of this repo.
    let unknown: CommitId = "f".repeat(40).parse().unwrap();
    assert!(matches!(writer.set_ring(&ring, &unknown), Err(RepoError::Write { .. })));
    assert!(matches!(
        writer.tag(
            &ReleaseTag {
                commit: unknown,
                release: ReleaseRef { serial: Serial(8), digest: Digest::ZERO },
                ..tag(&first)
            },
            &author(),
            NOW
        ),
        Err(RepoError::Write { .. })
    ));
    // The user's own work goes on.
    repo.commit("third");
    repo.git(&["fsck", "--strict"]);
}

#[test]
fn repos_that_cannot_be_written_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Writer::open(&folder.path().join("none")), Err(RepoError::Missing { .. })));
    assert!(matches!(Writer::open(folder.path()), Err(RepoError::NotARepo { .. })));
    let sha256 = Repo::new(&["--object-format", "sha256"]);
    assert!(matches!(Writer::open(&sha256.path()), Err(RepoError::NotARepo { .. })));
}

fn template() -> Content {
    Content::from([
        (".github/workflows/policy.yml".to_owned(), FileEntry::plain("on: push\n")),
        ("README.md".to_owned(), FileEntry::plain("hello\n")),
        ("cairn.yaml".to_owned(), FileEntry::plain("version: 1\n")),
        ("guardrails/run.sh".to_owned(), FileEntry { executable: true, bytes: b"#!/bin/sh\n".to_vec() }),
    ])
}

#[test]
fn a_policy_repo_is_created_whole() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("policies");
    // What a crash left is made anew.
    std::fs::create_dir_all(folder.path().join(".policies.new/.git")).unwrap();
    let id = create(&place, &template(), None, &author(), "The template's policy\n", NOW).unwrap();
    let repo = Repo { folder };
    assert_eq!(repo.tip(), id);
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    assert_eq!(repo.git(&["ls-files", "-s", "guardrails"]).split(' ').next(), Some("100755"));
    assert_eq!(repo.git(&["log", "--format=%an %at %s"]), "Cairn 1700000000 The template's policy");
    assert_eq!(repo.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    repo.git(&["fsck", "--strict"]);
    assert_eq!(repo.snapshot().unwrap().content.len(), 2);

    let again = create(&place, &template(), None, &author(), "again", NOW);
    assert!(matches!(again, Err(RepoError::Exists { .. })));
    let hostile = Content::from([("../x".to_owned(), FileEntry::plain(""))]);
    let refused = create(&repo.folder.path().join("other"), &hostile, None, &author(), "m", NOW);
    assert!(matches!(refused, Err(RepoError::Path(_))));
    let nowhere = create(Path::new("/nonexistent/policies"), &template(), None, &author(), "m", NOW);
    assert!(matches!(nowhere, Err(RepoError::Write { .. })));
}

/// As under `sudo`: root makes, reads and tags a repo that belongs to a user, and everything in it stays the user's. Without
/// root the other half is asserted: one cannot act as somebody else.
#[test]
fn a_users_repo_stays_the_users() {
    let owner = Owner { uid: 4321, gid: 4322 };
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let place = folder.path().join("policies");
    let id = create(&place, &template(), Some(owner), &author(), "first", NOW).unwrap();
    let repo = Repo { folder };
    if !geteuid().is_root() {
        assert_eq!(std::fs::metadata(&place).unwrap().uid(), geteuid().as_raw());
        return;
    }
    // Read by root, with no `SUDO_UID` and no `safe.directory` to help.
    let mirror = repo.mirror();
    assert_eq!(mirror.fetch().unwrap(), id);
    assert_eq!(mirror.snapshot(&id).unwrap().content.len(), 2);
    let writer = Writer::open(&place).unwrap();
    writer.tag(&tag(&id), &author(), NOW).unwrap();
    writer.set_ring(&"canary".parse().unwrap(), &id).unwrap();
    assert_owned(&place, owner);

    // The user goes on by hand.
    let as_user = |arguments: &[&str]| {
        use std::os::unix::process::CommandExt as _;
        let output = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(arguments)
            .current_dir(&place)
            .env("HOME", "/nonexistent")
            .uid(owner.uid)
            .gid(owner.gid)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    as_user(&["commit", "-q", "--allow-empty", "-m", "by hand"]);
    as_user(&["tag", "-a", "mine", "-m", "mine"]);
    as_user(&["update-ref", "refs/cairn/rings/canary", "HEAD"]);
    let tip = mirror.fetch().unwrap();
    assert_eq!(ids(mirror.history(Some(&id), &tip).unwrap()), std::slice::from_ref(&tip));
    writer.set_ring(&"canary".parse().unwrap(), &tip).unwrap();
    as_user(&["gc", "-q"]);
    assert_owned(&place, owner);

    // A link that the user plants leads nowhere that the user could not go.
    let closed = repo.folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let _ = std::fs::remove_dir_all(place.join(".git/refs/cairn"));
    std::os::unix::fs::symlink(&closed, place.join(".git/refs/cairn")).unwrap();
    assert!(writer.set_ring(&"canary".parse().unwrap(), &tip).is_err());
    assert_eq!(std::fs::read_dir(&closed).unwrap().count(), 0);
}

fn assert_owned(folder: &Path, owner: Owner) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (owner.uid, owner.gid), "{}", entry.path().display());
        if metadata.is_dir() {
            assert_owned(&entry.path(), owner);
        }
    }
}
