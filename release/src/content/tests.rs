use std::io::Read;

use proptest::prelude::*;

use super::*;

fn sample() -> Content {
    Content::from([
        ("cairn.yaml".to_owned(), FileEntry::plain("rings: []\n")),
        ("guardrails/a.rego".to_owned(), FileEntry::plain("package a\n")),
        ("guardrails/run.sh".to_owned(), FileEntry { executable: true, bytes: b"#!/bin/sh\n".to_vec() }),
        (format!("runbooks/{}/{}.md", "d".repeat(60), "n".repeat(80)), FileEntry::plain("")),
        ("runbooks/ürün.md".to_owned(), FileEntry::plain(vec![0xff; 1025])),
    ])
}

#[test]
fn what_is_packed_comes_back() {
    let content = sample();
    assert_eq!(unpack(&pack(&content).unwrap()).unwrap(), content);
    assert_eq!(unpack(&pack(&Content::new()).unwrap()).unwrap(), Content::new());
}

/// The `tar` crate, which others wrote, reads the same files with the fields this format promises.
#[test]
fn another_reader_agrees() {
    let content = sample();
    let packed = pack(&content).unwrap();
    let mut archive = tar::Archive::new(packed.as_slice());
    let mut seen = Content::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert!(header.as_ustar().is_some() && header.entry_type().is_file());
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let executable = match header.mode().unwrap() {
            0o755 => true,
            0o644 => false,
            mode => panic!("mode {mode:o}"),
        };
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        seen.insert(path, FileEntry { executable, bytes });
    }
    assert_eq!(seen, content);
}

/// An archive by another writer, even of the same files, is not this encoding.
#[test]
fn links_and_foreign_headers_are_refused() {
    let build = |kind: tar::EntryType, path: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_path(path).unwrap();
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
        builder.into_inner().unwrap()
    };
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Directory,
        tar::EntryType::Fifo,
        tar::EntryType::XHeader,
        tar::EntryType::GNULongName,
    ] {
        let refused = unpack(&build(kind, "guardrails/a")).unwrap_err();
        assert!(
            matches!(&refused, ContentError::NotAFile { entry, .. } if entry.contains("guardrails/a")),
            "{refused}"
        );
    }
    assert!(matches!(unpack(&build(tar::EntryType::Regular, "guardrails/a")), Err(ContentError::Header { .. })));
}

/// Rewrites the name field of an entry and repairs its checksum, so that only the path is wrong.
fn renamed(archive: &[u8], entry_at: usize, name: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let block = &mut archive[entry_at..entry_at + BLOCK_LEN];
    block[..100].fill(0);
    block[..name.len()].copy_from_slice(name);
    block[CHECKSUM_AT..CHECKSUM_AT + 8].fill(b' ');
    let checksum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM_AT..CHECKSUM_AT + 8].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
    archive
}

#[test]
fn hostile_paths_and_orders_are_refused() {
    let archive = pack(&sample()).unwrap();
    for name in [&b"../cairn.yaml"[..], b"/cairn.yaml", b"a/./b", b"a\\b", b".git/config", b"a\nb"] {
        let refused = unpack(&renamed(&archive, 0, name)).unwrap_err();
        assert!(matches!(refused, ContentError::Path { .. }), "{refused}");
    }
    assert!(matches!(unpack(&renamed(&archive, 0, b"a\xffb")), Err(ContentError::PathNotUtf8 { .. })));
    // The second entry starts after one header and one block of bytes.
    let second_at = 2 * BLOCK_LEN;
    for name in [&b"cairn.yaml"[..], b"a"] {
        assert!(matches!(unpack(&renamed(&archive, second_at, name)), Err(ContentError::Order { .. })));
    }
}

#[test]
fn the_end_is_exact() {
    let archive = pack(&sample()).unwrap();
    let longer = [archive.as_slice(), &[0u8; BLOCK_LEN]].concat();
    assert_eq!(unpack(&longer), Err(ContentError::End { len: 3 * BLOCK_LEN }));
    assert!(matches!(unpack(&archive[..archive.len() - BLOCK_LEN]), Err(ContentError::End { .. })));
    assert!(matches!(unpack(&archive[..archive.len() - END_LEN - 1]), Err(ContentError::Truncated { .. })));
    assert!(matches!(unpack(&[]), Err(ContentError::End { len: 0 })));
}

#[test]
fn the_largest_content_and_one_block_more() {
    let room = CONTENT_LEN_MAX - END_LEN - BLOCK_LEN;
    let of_len = |len: usize| Content::from([("cairn.yaml".to_owned(), FileEntry::plain(vec![b'x'; len]))]);
    let archive = pack(&of_len(room)).unwrap();
    assert_eq!(archive.len(), CONTENT_LEN_MAX);
    unpack(&archive).unwrap();
    assert_eq!(pack(&of_len(room + 1)), Err(ContentError::TooLarge { len: CONTENT_LEN_MAX + BLOCK_LEN }));
    assert_eq!(unpack(&vec![0; CONTENT_LEN_MAX + 1]), Err(ContentError::TooLarge { len: CONTENT_LEN_MAX + 1 }));
}

#[test]
fn every_flipped_byte_is_another_content_or_refused() {
    let content = sample();
    let archive = pack(&content).unwrap();
    for at in 0..archive.len() {
        let mut flipped = archive.clone();
        flipped[at] ^= 0x01;
        if let Ok(other) = unpack(&flipped) {
            assert_ne!(other, content, "byte {at}");
            assert_eq!(pack(&other).unwrap(), flipped, "byte {at}: a second encoding");
        }
    }
}

proptest! {
    #[test]
    fn encodings_are_unique(files in proptest::collection::btree_map("[a-z]{1,9}(/[a-zA-Z0-9_.]{1,40}x){0,4}", (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..1200)), 0..6)) {
        let content: Content = files.into_iter().map(|(path, (executable, bytes))| (path, FileEntry { executable, bytes })).collect();
        let archive = pack(&content).unwrap();
        prop_assert_eq!(unpack(&archive).unwrap(), content);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = unpack(&bytes);
    }
}
