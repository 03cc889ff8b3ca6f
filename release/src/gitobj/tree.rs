use std::collections::BTreeSet;

use thiserror::Error;

use super::id::{Hash, ObjectId};

/// Largest raw tree object, in bytes: a folder of some twenty thousand entries.
pub const TREE_LEN_MAX: usize = 1 << 20;

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryMode {
    /// `100644`.
    File,
    /// `100755`.
    Executable,
    /// `40000`.
    Tree,
    /// `120000`.
    Symlink,
    /// `160000`, a commit of another repo.
    Submodule,
    /// Any other mode, such as the `100664` of very old repos.
    Other,
}

impl EntryMode {
    /// The word for a message.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            EntryMode::File => "a file",
            EntryMode::Executable => "an executable file",
            EntryMode::Tree => "a folder",
            EntryMode::Symlink => "a symbolic link",
            EntryMode::Submodule => "a submodule",
            EntryMode::Other => "an entry of an unknown mode",
        }
    }

    fn parse(octal: &[u8]) -> EntryMode {
        match octal {
            b"100644" => EntryMode::File,
            b"100755" => EntryMode::Executable,
            b"40000" => EntryMode::Tree,
            b"120000" => EntryMode::Symlink,
            b"160000" => EntryMode::Submodule,
            _ => EntryMode::Other,
        }
    }

    const fn octal(self) -> &'static str {
        match self {
            EntryMode::File | EntryMode::Other => "100644",
            EntryMode::Executable => "100755",
            EntryMode::Tree => "40000",
            EntryMode::Symlink => "120000",
            EntryMode::Submodule => "160000",
        }
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// What it is.
    pub mode: EntryMode,
    /// Its name: no slash, no zero byte, not necessarily UTF-8.
    pub name: Vec<u8>,
    /// The object.
    pub id: ObjectId,
}

/// Why bytes are not a tree object. Names are escaped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Longer than [`TREE_LEN_MAX`].
    #[error("a tree object is {len} bytes, more than {TREE_LEN_MAX}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// The bytes end inside an entry, or its mode is not octal.
    #[error("a tree object is malformed at byte {offset}")]
    Malformed {
        /// Start of the entry.
        offset: usize,
    },
    /// A name that no entry may have.
    #[error("a tree object has an entry named `{name}`")]
    Name {
        /// The name.
        name: String,
    },
    /// Entries out of order, or a name twice.
    #[error("a tree object's entry `{name}` is a duplicate or out of order")]
    Order {
        /// The later entry.
        name: String,
    },
}

/// Reads a raw tree: names without `/`, none of them empty, `.`, `..` or `.git`, in Git's order, each once.
///
/// # Errors
/// [`TreeError`]: the first thing that Git would not have written.
pub fn parse_tree(hash: Hash, raw: &[u8]) -> Result<Vec<TreeEntry>, TreeError> {
    if raw.len() > TREE_LEN_MAX {
        return Err(TreeError::TooLarge { len: raw.len() });
    }
    let (mut entries, mut names) = (Vec::<TreeEntry>::new(), BTreeSet::new());
    let mut rest = raw;
    while !rest.is_empty() {
        let malformed = || TreeError::Malformed { offset: raw.len() - rest.len() };
        let (mode, after) = split_at_byte(rest, b' ').ok_or_else(malformed)?;
        let (name, after) = split_at_byte(after, 0).ok_or_else(malformed)?;
        if mode.is_empty() || mode.len() > 6 || !mode.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
            return Err(malformed());
        }
        let (id, after) = after.split_at_checked(hash.id_len()).ok_or_else(malformed)?;
        let id = ObjectId::from_bytes(id).ok_or_else(malformed)?;
        let shown = || name.escape_ascii().to_string();
        if name.is_empty()
            || name == b"."
            || name == b".."
            || name.eq_ignore_ascii_case(b".git")
            || name.contains(&b'/')
        {
            return Err(TreeError::Name { name: shown() });
        }
        let entry = TreeEntry { mode: EntryMode::parse(mode), name: name.to_vec(), id };
        // A file `a` and a folder `a` are both in order (they sort as `a` and `a/`), so order alone does not find duplicates.
        let in_order = entries.last().is_none_or(|previous| sort_key(previous) < sort_key(&entry));
        if !in_order || !names.insert(name) {
            return Err(TreeError::Order { name: shown() });
        }
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

/// Writes the raw tree of some entries, in Git's order whatever order they come in.
#[must_use]
pub fn write_tree(entries: &[TreeEntry]) -> Vec<u8> {
    let mut entries: Vec<&TreeEntry> = entries.iter().collect();
    entries.sort_by_key(|entry| sort_key(entry));
    let mut raw = Vec::new();
    for entry in entries {
        raw.extend_from_slice(entry.mode.octal().as_bytes());
        raw.push(b' ');
        raw.extend_from_slice(&entry.name);
        raw.push(0);
        raw.extend_from_slice(entry.id.as_bytes());
    }
    raw
}

/// Git sorts a folder as if its name ended in a slash.
fn sort_key(entry: &TreeEntry) -> Vec<u8> {
    let mut key = entry.name.clone();
    if entry.mode == EntryMode::Tree {
        key.push(b'/');
    }
    key
}

fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|found| *found == byte)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(mode: EntryMode, name: &str) -> TreeEntry {
        TreeEntry { mode, name: name.into(), id: ObjectId::Sha1([7; 20]) }
    }

    #[test]
    fn folders_sort_as_if_they_ended_in_a_slash() {
        let entries = [entry(EntryMode::Tree, "a"), entry(EntryMode::File, "a.b"), entry(EntryMode::File, "a0")];
        let raw = write_tree(&entries);
        let order: Vec<_> = parse_tree(Hash::Sha1, &raw).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(order, [&b"a.b"[..], b"a", b"a0"]);
    }

    #[test]
    fn what_git_would_not_write_is_refused() {
        let raw = |entries: &[(&[u8], &[u8])]| {
            entries
                .iter()
                .flat_map(|(mode, name)| [mode, &b" "[..], name, b"\0", &[7; 20]].concat())
                .collect::<Vec<u8>>()
        };
        let parse = |entries: &[(&[u8], &[u8])]| parse_tree(Hash::Sha1, &raw(entries));
        assert!(parse(&[(b"100644", b"a"), (b"40000", b"b")]).is_ok());
        for name in [&b""[..], b".", b"..", b".git", b".GIT", b"a/b"] {
            assert!(matches!(parse(&[(b"100644", name)]), Err(TreeError::Name { .. })), "{name:?}");
        }
        assert!(matches!(parse(&[(b"100644", b"b"), (b"100644", b"a")]), Err(TreeError::Order { .. })));
        assert!(matches!(parse(&[(b"100644", b"a"), (b"100644", b"a")]), Err(TreeError::Order { .. })));
        // In order by Git's rule, yet a file and a folder of one name.
        assert!(matches!(
            parse(&[(b"100644", b"a"), (b"100644", b"a.b"), (b"40000", b"a")]),
            Err(TreeError::Order { .. })
        ));
        assert!(matches!(parse(&[(b"1006x4", b"a")]), Err(TreeError::Malformed { offset: 0 })));
        let good = raw(&[(b"100644", b"a")]);
        assert!(matches!(parse_tree(Hash::Sha1, &good[..good.len() - 1]), Err(TreeError::Malformed { .. })));
        assert!(matches!(parse_tree(Hash::Sha256, &good), Err(TreeError::Malformed { .. })));
    }

    #[test]
    fn the_largest_tree_and_one_byte_more() {
        let name = |len: usize| "n".repeat(len);
        let fixed = write_tree(&[entry(EntryMode::File, "")]).len();
        let raw = write_tree(&[entry(EntryMode::File, &name(TREE_LEN_MAX - fixed))]);
        assert_eq!(raw.len(), TREE_LEN_MAX);
        assert!(parse_tree(Hash::Sha1, &raw).is_ok());
        let raw = write_tree(&[entry(EntryMode::File, &name(TREE_LEN_MAX - fixed + 1))]);
        assert_eq!(parse_tree(Hash::Sha1, &raw), Err(TreeError::TooLarge { len: TREE_LEN_MAX + 1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_tree(Hash::Sha1, &raw);
            let _ = parse_tree(Hash::Sha256, &raw);
        }
    }
}
