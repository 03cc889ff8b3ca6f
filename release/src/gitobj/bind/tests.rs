use super::*;
use crate::content::FileEntry;
use crate::gitobj::tree::{TreeEntry, write_tree};

/// A commit made by hand, with everything a statement would carry.
struct Repo {
    hash: Hash,
    commit: Vec<u8>,
    trees: Vec<Vec<u8>>,
    content: Content,
}

fn id(hash: Hash, kind: ObjectKind, body: &[u8]) -> ObjectId {
    object_id(hash, kind, body).unwrap()
}

fn entry(mode: EntryMode, name: &[u8], id: ObjectId) -> TreeEntry {
    TreeEntry { mode, name: name.to_vec(), id }
}

impl Repo {
    /// `cairn.yaml`, `guardrails/k8s/a.rego`, `guardrails/run.sh` (executable), and `README.md`, which is not policy.
    fn new(hash: Hash) -> Repo {
        let content = Content::from([
            ("cairn.yaml".to_owned(), FileEntry::plain("version: 1\n")),
            ("guardrails/k8s/a.rego".to_owned(), FileEntry::plain("package a\n")),
            ("guardrails/run.sh".to_owned(), FileEntry { executable: true, bytes: b"#!/bin/sh\n".to_vec() }),
        ]);
        let blob = |path: &str| id(hash, ObjectKind::Blob, &content[path].bytes);
        let k8s = write_tree(&[entry(EntryMode::File, b"a.rego", blob("guardrails/k8s/a.rego"))]);
        let guardrails = write_tree(&[
            entry(EntryMode::Tree, b"k8s", id(hash, ObjectKind::Tree, &k8s)),
            entry(EntryMode::Executable, b"run.sh", blob("guardrails/run.sh")),
        ]);
        let root = [
            entry(EntryMode::File, b"README.md", id(hash, ObjectKind::Blob, b"hello")),
            entry(EntryMode::Symlink, b"link-\xff", id(hash, ObjectKind::Blob, b"/etc/passwd")),
            entry(EntryMode::File, b"cairn.yaml", blob("cairn.yaml")),
            entry(EntryMode::Tree, b"guardrails", id(hash, ObjectKind::Tree, &guardrails)),
        ];
        let mut repo = Repo { hash, commit: Vec::new(), trees: vec![k8s, guardrails], content };
        repo.set_root(&root);
        repo
    }

    /// Gives the commit another root; the trees below stay as they are.
    fn set_root(&mut self, entries: &[TreeEntry]) {
        let root = write_tree(entries);
        let id = id(self.hash, ObjectKind::Tree, &root);
        self.commit = format!("tree {id}\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nm\n").into_bytes();
        self.trees.push(root);
    }

    /// A commit whose `guardrails` folder holds one entry.
    fn with_guardrail(mode: EntryMode, name: &[u8]) -> Repo {
        let mut repo = Repo::new(Hash::Sha1);
        let blob = id(repo.hash, ObjectKind::Blob, b"x");
        let folder = write_tree(&[entry(mode, name, blob)]);
        repo.trees = vec![folder.clone()];
        repo.content = Content::new();
        repo.set_root(&[entry(EntryMode::Tree, b"guardrails", id(repo.hash, ObjectKind::Tree, &folder))]);
        repo
    }

    fn bind(&self) -> Result<Commit, BindError> {
        bind(&self.content, &self.commit, &self.trees)
    }
}

#[test]
fn a_content_is_bound_to_its_commit_in_both_formats() {
    for hash in [Hash::Sha1, Hash::Sha256] {
        let repo = Repo::new(hash);
        let commit = repo.bind().unwrap();
        assert_eq!(commit.id, id(hash, ObjectKind::Commit, &repo.commit).commit_id());
    }
}

#[test]
fn a_content_that_differs_names_its_path() {
    let refuse = |change: fn(&mut Content)| {
        let mut repo = Repo::new(Hash::Sha1);
        change(&mut repo.content);
        repo.bind().unwrap_err()
    };
    let error = refuse(|content| content.get_mut("guardrails/k8s/a.rego").unwrap().bytes.push(b'x'));
    assert!(matches!(error, BindError::FileDiffers { path, .. } if path == "guardrails/k8s/a.rego"));
    let error = refuse(|content| drop(content.remove("guardrails/run.sh")));
    assert_eq!(error, BindError::FileMissing { path: "guardrails/run.sh".into() });
    let error = refuse(|content| drop(content.insert("guardrails/b.rego".into(), FileEntry::plain(""))));
    assert_eq!(error, BindError::FileExtra { path: "guardrails/b.rego".into() });
    // Even with the right bytes: a file that is not policy has no place in a release.
    let error = refuse(|content| drop(content.insert("README.md".into(), FileEntry::plain("hello"))));
    assert_eq!(error, BindError::FileExtra { path: "README.md".into() });
    let error = refuse(|content| content.get_mut("guardrails/run.sh").unwrap().executable = false);
    assert_eq!(error, BindError::ModeDiffers { path: "guardrails/run.sh".into(), expected: "executable" });
}

#[test]
fn every_tree_on_the_way_is_needed_and_no_other_is_taken() {
    for missing in 0..3 {
        let mut repo = Repo::new(Hash::Sha1);
        repo.trees.remove(missing);
        assert!(matches!(repo.bind(), Err(BindError::TreeMissing { .. })));
    }
    let mut repo = Repo::new(Hash::Sha1);
    repo.trees.push(write_tree(&[]));
    assert_eq!(repo.bind(), Err(BindError::TreesExtra { count: 1 }));
    let mut repo = Repo::new(Hash::Sha1);
    repo.trees.push(repo.trees[0].clone());
    assert_eq!(repo.bind(), Err(BindError::TreesExtra { count: 1 }));
}

#[test]
fn links_and_submodules_in_policy_are_refused_with_their_path() {
    for mode in [EntryMode::Symlink, EntryMode::Submodule] {
        let error = Repo::with_guardrail(mode, b"a.rego").bind().unwrap_err();
        assert_eq!(error, BindError::NotAFile { path: "guardrails/a.rego".into(), found: mode.describe() });
        let mut repo = Repo::new(Hash::Sha1);
        let blob = id(repo.hash, ObjectKind::Blob, b"x");
        repo.set_root(&[entry(mode, b"guardrails", blob)]);
        let error = repo.bind().unwrap_err();
        assert_eq!(error, BindError::NotAFile { path: "guardrails".into(), found: mode.describe() });
    }
    let mut repo = Repo::new(Hash::Sha1);
    let folder = id(repo.hash, ObjectKind::Tree, &repo.trees[0]);
    repo.set_root(&[entry(EntryMode::Tree, b"cairn.yaml", folder)]);
    assert!(matches!(repo.bind(), Err(BindError::NotAFile { path, .. }) if path == "cairn.yaml"));
}

#[test]
fn hostile_names_and_empty_folders_are_refused() {
    let refuse = |name: &[u8]| Repo::with_guardrail(EntryMode::File, name).bind().unwrap_err();
    assert!(matches!(refuse(b"a\xff"), BindError::PathNotUtf8 { path } if path == "guardrails/a\\xff"));
    assert!(matches!(refuse(b"a\x1b[2J"), BindError::Path(PathError::ForbiddenCharacter { .. })));
    assert!(matches!(refuse(b".."), BindError::Tree { source: TreeError::Name { .. }, .. }));
    let mut repo = Repo::new(Hash::Sha1);
    let empty = write_tree(&[]);
    let empty_id = id(repo.hash, ObjectKind::Tree, &empty);
    repo.trees = vec![empty];
    repo.set_root(&[entry(EntryMode::Tree, b"guardrails", empty_id)]);
    assert_eq!(repo.bind(), Err(BindError::EmptyFolder { path: "guardrails".into() }));
}

#[test]
fn folders_at_the_deepest_and_one_deeper() {
    let nested = |depth: usize| {
        let mut repo = Repo::new(Hash::Sha1);
        let bytes = b"x".to_vec();
        let blob = id(repo.hash, ObjectKind::Blob, &bytes);
        repo.trees = vec![write_tree(&[entry(EntryMode::File, b"f", blob)])];
        for _ in 1..depth {
            let below = id(repo.hash, ObjectKind::Tree, repo.trees.last().unwrap());
            repo.trees.push(write_tree(&[entry(EntryMode::Tree, b"d", below)]));
        }
        let top = id(repo.hash, ObjectKind::Tree, repo.trees.last().unwrap());
        repo.set_root(&[entry(EntryMode::Tree, b"guardrails", top)]);
        repo.content = Content::from([(format!("guardrails/{}f", "d/".repeat(depth - 1)), FileEntry::plain(bytes))]);
        repo.bind()
    };
    assert!(nested(TREE_DEPTH_MAX).is_ok());
    assert!(matches!(nested(TREE_DEPTH_MAX + 1), Err(BindError::TooDeep { .. })));
}
