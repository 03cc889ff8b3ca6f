use std::fmt;

use cairn_schemas::ids::CommitId;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The hash function of a repo's object format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// Git's default.
    Sha1,
    /// `git init --object-format=sha256`.
    Sha256,
}

impl Hash {
    /// Length of an id in bytes.
    #[must_use]
    pub const fn id_len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }

    /// The commit header that holds a signature in a repo of this format.
    #[must_use]
    pub const fn signature_header(self) -> &'static str {
        match self {
            Hash::Sha1 => "gpgsig",
            Hash::Sha256 => "gpgsig-sha256",
        }
    }
}

/// The kinds of object that a release speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A file's bytes.
    Blob,
    /// A folder.
    Tree,
    /// A commit.
    Commit,
}

impl ObjectKind {
    const fn name(self) -> &'static str {
        match self {
            ObjectKind::Blob => "blob",
            ObjectKind::Tree => "tree",
            ObjectKind::Commit => "commit",
        }
    }
}

/// The id of a Git object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// In a SHA-1 repo.
    Sha1([u8; 20]),
    /// In a SHA-256 repo.
    Sha256([u8; 32]),
}

impl ObjectId {
    /// The hash function it was made with.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        match self {
            ObjectId::Sha1(_) => Hash::Sha1,
            ObjectId::Sha256(_) => Hash::Sha256,
        }
    }

    /// Its bytes, 20 or 32.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            ObjectId::Sha1(bytes) => bytes,
            ObjectId::Sha256(bytes) => bytes,
        }
    }

    /// From 20 or 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<ObjectId> {
        match bytes.len() {
            20 => bytes.try_into().ok().map(ObjectId::Sha1),
            32 => bytes.try_into().ok().map(ObjectId::Sha256),
            _ => None,
        }
    }

    /// From 40 or 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<ObjectId> {
        base16ct::lower::decode_vec(text).ok().and_then(|bytes| ObjectId::from_bytes(&bytes))
    }

    /// As the id of a commit.
    #[must_use]
    pub fn commit_id(&self) -> CommitId {
        self.to_string().parse().expect("invariant: 40 or 64 lower-case hexadecimal digits")
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(self.as_bytes()))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A SHA-1 input carries the marks of a collision attack: two objects with this id exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a {what} object carries the marks of a SHA-1 collision attack")]
pub struct Collision {
    /// The kind of object.
    pub what: &'static str,
}

/// The id of an object: the hash of `<kind> <length>`, a zero byte and its bytes.
///
/// # Errors
/// [`Collision`]; never for SHA-256.
pub fn object_id(hash: Hash, kind: ObjectKind, body: &[u8]) -> Result<ObjectId, Collision> {
    let header = format!("{} {}\0", kind.name(), body.len());
    match hash {
        Hash::Sha256 => Ok(ObjectId::Sha256(Sha256::new().chain_update(header).chain_update(body).finalize().into())),
        Hash::Sha1 => {
            let mut hasher = sha1dc::Hasher::new();
            hasher.update(header.as_bytes());
            hasher.update(body);
            let digest = hasher.finalize().map_err(|_| Collision { what: kind.name() })?;
            Ok(ObjectId::Sha1(digest.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_blob_and_tree_have_gits_ids() {
        let id = |hash, kind| object_id(hash, kind, b"").unwrap().to_string();
        assert_eq!(id(Hash::Sha1, ObjectKind::Blob), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(id(Hash::Sha1, ObjectKind::Tree), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        assert_eq!(
            id(Hash::Sha256, ObjectKind::Tree),
            "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"
        );
    }

    #[test]
    fn ids_have_one_spelling() {
        let id = object_id(Hash::Sha1, ObjectKind::Blob, b"x").unwrap();
        assert_eq!(ObjectId::from_hex(&id.to_string()), Some(id));
        assert_eq!(ObjectId::from_hex(&id.to_string().to_uppercase()), None);
        assert_eq!(ObjectId::from_hex(&id.to_string()[..38]), None);
        assert_eq!(id.commit_id().as_str(), id.to_string());
    }
}
