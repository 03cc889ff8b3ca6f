use cairn_schemas::ids::CommitId;
use thiserror::Error;

use super::id::{Collision, Hash, ObjectId, ObjectKind, object_id};

/// Largest raw commit, in bytes.
pub const COMMIT_LEN_MAX: usize = 1 << 20;

/// Why bytes are not a commit object.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Longer than [`COMMIT_LEN_MAX`].
    #[error("the commit is {len} bytes, more than {COMMIT_LEN_MAX}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// A header is missing, out of place or not what Git writes.
    #[error("line {line} of the commit is not {expected}")]
    Header {
        /// Line, from 1.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// The commit carries more than one signature of its object format, so "who signed it" has no one answer.
    #[error("the commit carries more than one `{header}` header")]
    SeveralSignatures {
        /// The header.
        header: &'static str,
    },
    /// Made for a SHA-1 collision.
    #[error(transparent)]
    Collision(#[from] Collision),
}

/// An author or committer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name, with bytes that are not UTF-8 replaced.
    pub name: String,
    /// The address between the angle brackets, likewise.
    pub email: String,
    /// Seconds since the epoch. Signed by whoever signed the commit, and as true as they are.
    pub seconds: u64,
}

/// A commit, parsed from its raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// The repo's object format.
    pub hash: Hash,
    /// The root folder.
    pub tree: ObjectId,
    /// Its parents.
    pub parents: Vec<CommitId>,
    /// Who wrote it.
    pub author: Person,
    /// Who committed it.
    pub committer: Person,
    /// The message, with bytes that are not UTF-8 replaced.
    pub message: String,
    /// The signature header's text, unfolded, and the bytes that it signs. Not checked here: `signers` does.
    pub signature: Option<CommitSignature>,
}

/// A signature that a commit carries, and what it was made over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSignature {
    /// The armoured signature.
    pub armour: Vec<u8>,
    /// The commit without its signature headers.
    pub payload: Vec<u8>,
}

impl Commit {
    /// Reads a raw commit.
    ///
    /// # Errors
    /// [`CommitError`]: the line that is wrong.
    pub fn parse(raw: &[u8]) -> Result<Commit, CommitError> {
        if raw.len() > COMMIT_LEN_MAX {
            return Err(CommitError::TooLarge { len: raw.len() });
        }
        let mut lines = Lines { rest: raw, number: 0 };
        let tree = lines.id("tree ", "`tree` and an id")?.ok_or(lines.refuse("`tree` and an id"))?;
        let hash = tree.hash();
        let mut parents = Vec::new();
        while let Some(parent) = lines.id("parent ", "`parent` and an id")? {
            if parent.hash() != hash {
                return Err(lines.refuse("an id of the repo's object format"));
            }
            parents.push(parent.commit_id());
        }
        let author = lines.person("author ", "`author`, a name, an address and a time")?;
        let committer = lines.person("committer ", "`committer`, a name, an address and a time")?;
        let (signature, message) = lines.extra_headers(raw, hash)?;
        let id = object_id(hash, ObjectKind::Commit, raw)?.commit_id();
        let message = String::from_utf8_lossy(message).into_owned();
        Ok(Commit { id, hash, tree, parents, author, committer, message, signature })
    }
}

struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    fn refuse(&self, expected: &'static str) -> CommitError {
        CommitError::Header { line: self.number + 1, expected }
    }

    fn peek(&self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        Some(&self.rest[..=end])
    }

    fn advance(&mut self, line: &[u8]) {
        self.rest = &self.rest[line.len()..];
        self.number += 1;
    }

    /// The id after `prefix`, if the next line has that prefix.
    fn id(&mut self, prefix: &str, expected: &'static str) -> Result<Option<ObjectId>, CommitError> {
        let Some(line) = self.peek() else { return Ok(None) };
        let Some(value) = line.strip_prefix(prefix.as_bytes()) else { return Ok(None) };
        let id = std::str::from_utf8(&value[..value.len() - 1]).ok().and_then(ObjectId::from_hex);
        let id = id.ok_or_else(|| self.refuse(expected))?;
        self.advance(line);
        Ok(Some(id))
    }

    fn person(&mut self, prefix: &str, expected: &'static str) -> Result<Person, CommitError> {
        let refuse = self.refuse(expected);
        let line = self.peek().ok_or_else(|| refuse.clone())?;
        let value = line.strip_prefix(prefix.as_bytes()).ok_or_else(|| refuse.clone())?;
        let text = String::from_utf8_lossy(&value[..value.len() - 1]);
        let (name, rest) = text.split_once('<').ok_or_else(|| refuse.clone())?;
        let (email, time) = rest.split_once('>').ok_or_else(|| refuse.clone())?;
        let seconds = time.split_ascii_whitespace().next().and_then(|seconds| seconds.parse().ok()).ok_or(refuse)?;
        let person = Person { name: name.trim_end().to_owned(), email: email.to_owned(), seconds };
        self.advance(line);
        Ok(person)
    }

    /// Everything between the committer and the blank line. The payload of a signature is the commit without any header whose
    /// name begins with `gpgsig`, continuation lines included: Git's own rule (`parse_buffer_signed_by_header`).
    fn extra_headers(&mut self, raw: &[u8], hash: Hash) -> Result<(Option<CommitSignature>, &'a [u8]), CommitError> {
        let header = hash.signature_header();
        let mut payload = raw[..raw.len() - self.rest.len()].to_vec();
        let mut armour: Option<Vec<u8>> = None;
        let (mut in_own, mut in_other) = (false, false);
        loop {
            let line = self.peek().ok_or_else(|| self.refuse("a header or the blank line before the message"))?;
            if line == b"\n" {
                payload.extend_from_slice(self.rest);
                let message = &self.rest[1..];
                return Ok((armour.map(|armour| CommitSignature { armour, payload }), message));
            }
            if let Some(continued) = line.strip_prefix(b" ") {
                if let (true, Some(armour)) = (in_own, armour.as_mut()) {
                    armour.extend_from_slice(continued);
                } else if !in_other {
                    payload.extend_from_slice(line);
                }
            } else if let Some(first) = line.strip_prefix(header.as_bytes()).and_then(|rest| rest.strip_prefix(b" ")) {
                if armour.replace(first.to_vec()).is_some() {
                    return Err(CommitError::SeveralSignatures { header });
                }
                (in_own, in_other) = (true, false);
            } else if line.starts_with(b"gpgsig") {
                (in_own, in_other) = (false, true);
            } else {
                (in_own, in_other) = (false, false);
                payload.extend_from_slice(line);
            }
            self.advance(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn raw(extra: &str) -> String {
        format!(
            "tree {TREE}\nparent {TREE}\nauthor A B <a@example.com> 1700000000 +0100\n\
             committer C <c@example.com> 1700000001 +0000\n{extra}\nsubject\n\nbody\n"
        )
    }

    #[test]
    fn a_commit_is_read() {
        let commit = Commit::parse(raw("").as_bytes()).unwrap();
        assert_eq!((commit.tree.to_string().as_str(), commit.parents.len()), (TREE, 1));
        assert_eq!((commit.author.name.as_str(), commit.author.email.as_str()), ("A B", "a@example.com"));
        assert_eq!((commit.committer.seconds, commit.message.as_str()), (1_700_000_001, "subject\n\nbody\n"));
        assert_eq!(commit.signature, None);
    }

    #[test]
    fn the_payload_is_the_commit_without_signature_headers() {
        let commit = Commit::parse(raw("gpgsig ONE\n TWO\n \nencoding x\ngpgsig-sha256 Z\n Y\n").as_bytes()).unwrap();
        let signature = commit.signature.unwrap();
        assert_eq!(signature.armour, b"ONE\nTWO\n\n");
        assert_eq!(String::from_utf8(signature.payload).unwrap(), raw("encoding x\n"));
        assert!(matches!(
            Commit::parse(raw("gpgsig A\nx y\ngpgsig B\n").as_bytes()),
            Err(CommitError::SeveralSignatures { header: "gpgsig" })
        ));
    }

    #[test]
    fn malformed_commits_name_their_line() {
        for (bad, line) in [
            (raw("").replace("tree ", "tre "), 1),
            (raw("").replacen(TREE, "xyz", 1), 1),
            (raw("").replace(&format!("parent {TREE}"), "parent 1"), 2),
            (raw("").replace("author", "writer"), 3),
            (raw("").replace("<c@", "c@"), 4),
            (raw("")[..raw("").find("\n\nsubject").unwrap() + 1].to_owned(), 5),
        ] {
            let error = Commit::parse(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, CommitError::Header { line: found, .. } if found == line), "{error}");
        }
        assert!(matches!(Commit::parse(&vec![b'x'; COMMIT_LEN_MAX + 1]), Err(CommitError::TooLarge { .. })));
    }

    #[test]
    fn the_largest_commit_is_read() {
        let short = raw("").len();
        let longest = raw("") + &"m".repeat(COMMIT_LEN_MAX - short);
        assert!(Commit::parse(longest.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_does_not_panic(extra in "(gpgsig|gpgsig-sha256| |x|\n){0,12}", bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = Commit::parse(raw(&extra).as_bytes());
            let _ = Commit::parse(&bytes);
        }
    }
}
