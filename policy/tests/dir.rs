//! Folders: what is read, what is refused, what `cairn init` writes.

use std::fs;
use std::os::unix::fs::symlink;

use cairn_policy::dir::{DirError, init, read_documents, read_policy, read_rego};
use cairn_policy::limits::{CHECKED_FILE_BYTES_MAX, FILE_BYTES_MAX};
use cairn_policy::{Policy, template};

#[test]
fn init_writes_the_template_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("new/policies");
    let written = init(&root).unwrap();
    assert_eq!(written.len(), template::files().len());
    assert_eq!(read_policy(&root).unwrap(), template::tree());
    assert!(root.join(".github/workflows/cairn.yml").is_file());
    assert!(matches!(init(&root), Err(DirError::NotEmpty { .. })));
    assert!(Policy::load(&read_policy(&root).unwrap()).unwrap().test().accepted());
}

#[test]
fn only_policy_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert!(matches!(read_policy(root), Err(DirError::NoPolicy { .. })));
    assert!(matches!(read_policy(&root.join("missing")), Err(DirError::Io { .. })));
    fs::write(root.join("cairn.yaml"), "version: 1\n").unwrap();
    fs::write(root.join("README.md"), "x").unwrap();
    fs::create_dir_all(root.join("guardrails/lib")).unwrap();
    fs::write(root.join("guardrails/lib/a.rego"), "package a").unwrap();
    fs::create_dir(root.join(".git")).unwrap();
    symlink("/etc/passwd", root.join("elsewhere")).unwrap();
    let tree = read_policy(root).unwrap();
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["cairn.yaml", "guardrails/lib/a.rego"]);
}

#[test]
fn links_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("cairn.yaml"), "version: 1\n").unwrap();
    symlink("/etc", root.join("guardrails")).unwrap();
    assert!(matches!(read_policy(root), Err(DirError::NotAFile { .. })));
    fs::remove_file(root.join("guardrails")).unwrap();
    fs::create_dir(root.join("detections")).unwrap();
    symlink("/etc/passwd", root.join("detections/x.yaml")).unwrap();
    assert!(matches!(read_policy(root), Err(DirError::NotAFile { path }) if path.ends_with("detections/x.yaml")));
}

#[test]
fn a_file_at_the_limit_is_read_and_one_byte_more_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("cairn.yaml"), vec![b'#'; FILE_BYTES_MAX]).unwrap();
    assert_eq!(read_policy(root).unwrap()["cairn.yaml"].len(), FILE_BYTES_MAX);
    fs::write(root.join("cairn.yaml"), vec![b'#'; FILE_BYTES_MAX + 1]).unwrap();
    assert!(matches!(read_policy(root), Err(DirError::TooLarge { limit: FILE_BYTES_MAX, .. })));
    let document = root.join("x.yaml");
    fs::write(&document, vec![b'#'; CHECKED_FILE_BYTES_MAX]).unwrap();
    assert_eq!(read_documents(std::slice::from_ref(&document)).unwrap().len(), 1);
    fs::write(&document, vec![b'#'; CHECKED_FILE_BYTES_MAX + 1]).unwrap();
    assert!(matches!(read_documents(&[document]), Err(DirError::TooLarge { .. })));
}

#[test]
fn documents_are_found_in_folders_by_extension() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("b/.hidden")).unwrap();
    for name in ["a.yaml", "b/c.yml", "b/d.json", "b/e.txt", "b/.hidden/f.yaml", ".g.yaml"] {
        fs::write(root.join(name), "{}").unwrap();
    }
    let names: Vec<_> = read_documents(&[root.to_owned()])
        .unwrap()
        .into_iter()
        .map(|file| file.name.strip_prefix(&format!("{}/", root.display())).unwrap().to_owned())
        .collect();
    assert_eq!(names, ["a.yaml", "b/c.yml", "b/d.json"]);
    assert_eq!(read_documents(&[root.join("b/e.txt")]).unwrap().len(), 1);
    let empty = root.join("b/.hidden");
    fs::remove_file(empty.join("f.yaml")).unwrap();
    assert!(matches!(read_documents(&[empty]), Err(DirError::NothingToCheck { .. })));
    assert!(matches!(read_documents(&[root.join("missing")]), Err(DirError::Io { .. })));
}

#[test]
fn rego_is_found_in_a_policy_repo_and_in_a_plain_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert!(matches!(read_rego(root), Err(DirError::NoRego { .. })));
    fs::write(root.join("plain.rego"), "package plain").unwrap();
    assert_eq!(read_rego(root).unwrap()[0].1, "package plain");
    fs::create_dir_all(root.join("guardrails/lib")).unwrap();
    fs::write(root.join("guardrails/lib/a.rego"), "package a").unwrap();
    let names: Vec<_> = read_rego(root).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [root.join("guardrails/lib/a.rego").display().to_string()]);
}
