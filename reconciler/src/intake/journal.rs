//! What rules over more than one event know survives a restart: a snapshot, and the bodies that came since.
//!
//! ```text
//! intake/state        what was known when journal n began: which events were taken in, and the engine's own snapshot
//! intake/journal-<n>  the bodies taken in since, in order, each durable before the rules saw it
//! ```
//!
//! A start takes the snapshot and tries the journal's bodies on the rules once more: what was known before the end is known again, whether
//! that was a stop or a crash, and no event counts twice. Bodies are kept only of sources with such rules, and until the next snapshot.
//!
//! The folder (0700) holds values in the clear, names of people among them, as the senders' own logs do. It never leaves the machine.
//!
//! Crash order of a snapshot: journal n+1 is made, and bodies go there from then on; `state` names it; journal n is removed. A start tries
//! the journals from the named one on. So it does not matter whether `state` was replaced, which nobody knows when that failed: before, both
//! journals go on from the older snapshot; after, n+1 from the newer one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::ReleaseRef;
use serde::{Deserialize, Serialize};

use crate::durable::{self, DiskError, Readers};

const STATE_FILE: &str = "state";
const STATE_MAGIC: &[u8] = b"cairn-intake-state 1\n";
const JOURNAL: &str = "journal-";
/// Length and digest before each body.
const HEAD_LEN: usize = 4 + 32;
/// Longest frame: a body and what is said of it.
const FRAME_LEN_MAX: usize = cairn_rules::limits::DOCUMENT_BYTES_MAX + (64 << 10);
/// Bytes of an event's key in the state.
const KEY_LEN: usize = 16;

/// What names an event that was taken in: of its sender and its id.
pub(super) type Key = [u8; KEY_LEN];

/// A body as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

/// What is said of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) release: ReleaseRef,
    pub(super) intake: String,
    pub(super) source: String,
    /// Nanoseconds since the epoch.
    pub(super) received_ns: u64,
    pub(super) members: std::collections::BTreeMap<String, String>,
}

/// What was known when a journal began.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Events that were taken in, the oldest first.
    pub(super) seen: Vec<Key>,
    /// The engine's.
    pub(super) engine: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct StateHead {
    journal: u64,
    seen: usize,
    /// Of all that follows this line.
    digest: Digest,
}

/// The folder, open for writing.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    number: u64,
    /// Those before it that `state` may still need.
    older: Vec<u64>,
    file: File,
    len: u64,
    /// What a failed write may have left behind `len`.
    is_torn: bool,
}

/// What a start finds.
pub(super) struct Found {
    pub(super) journal: Journal,
    pub(super) known: Known,
    pub(super) entries: Vec<Entry>,
}

impl Journal {
    /// Opens the folder, and makes it where there is none. A torn end was not acknowledged and is cut off; a body that is damaged looks the
    /// same, so that both are told. A state that is damaged counts as none, and is told.
    pub(super) fn open(folder: &Path) -> Result<Found, DiskError> {
        durable::create_folder(folder, Readers::Owner)?;
        let state = durable::read_optional(&folder.join(STATE_FILE))?;
        let names = durable::names(folder)?;
        let mut older: Vec<u64> = names.iter().filter_map(|name| name.strip_prefix(JOURNAL)?.parse().ok()).collect();
        older.sort_unstable();
        let (first, known) = match state.as_deref().map(parse_state) {
            Some(Some(found)) => found,
            None => (0, Known::default()),
            Some(None) => {
                let path = folder.join(STATE_FILE);
                tracing::warn!(path = %path.display(), "what intake rules knew is damaged: they begin anew");
                (0, Known::default())
            }
        };
        for number in older.extract_if(.., |number| *number < first) {
            let path = numbered(folder, number);
            std::fs::remove_file(&path).map_err(DiskError::of("remove", &path))?;
        }
        let (mut entries, mut len) = (Vec::new(), 0);
        for number in &older {
            let path = numbered(folder, *number);
            let bytes = durable::read_optional(&path)?.unwrap_or_default();
            let (found, whole) = parse_entries(&bytes);
            if whole < bytes.len() {
                tracing::warn!(path = %path.display(), bytes = bytes.len() - whole, "its end is torn or damaged, and passed over");
            }
            entries.extend(found);
            len = whole as u64;
        }
        let number = older.pop().unwrap_or(first.max(1));
        let path = numbered(folder, number);
        let file = open_file(&path)?;
        file.set_len(len).and_then(|()| file.sync_all()).map_err(DiskError::of("cut", &path))?;
        cairn_ledger::files::sync_folder(folder)?;
        let journal = Journal { folder: folder.to_owned(), number, older, file, len, is_torn: false };
        Ok(Found { journal, known, entries })
    }

    /// Bytes that it holds.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes a body down, durable on return. After an error it is as if it had not been asked.
    pub(super) fn append(&mut self, head: &Head, body: &[u8]) -> Result<(), DiskError> {
        let path = self.path();
        if self.is_torn {
            self.file.set_len(self.len).map_err(DiskError::of("cut", &path))?;
            self.is_torn = false;
        }
        let frame = frame(head, body);
        self.is_torn = true;
        let written = self.file.write_all(&frame).and_then(|()| self.file.sync_data());
        written.map_err(DiskError::of("write", &path))?;
        self.is_torn = false;
        self.len += frame.len() as u64;
        Ok(())
    }

    /// Puts what is known in the place of the bodies so far; durable on return. After an error nothing is lost, and it can be tried again.
    pub(super) fn replace(&mut self, known: &Known) -> Result<(), DiskError> {
        if self.len > 0 || self.is_torn {
            let next = self.number + 1;
            let path = numbered(&self.folder, next);
            let file = open_file(&path)?;
            file.set_len(0).and_then(|()| file.sync_all()).map_err(DiskError::of("make", &path))?;
            cairn_ledger::files::sync_folder(&self.folder)?;
            self.older.push(self.number);
            (self.number, self.file, self.len, self.is_torn) = (next, file, 0, false);
        }
        durable::write(&self.folder.join(STATE_FILE), &state(self.number, known), Readers::Owner)?;
        // What stays is removed at the next start.
        for number in self.older.drain(..) {
            let path = numbered(&self.folder, number);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "a journal that is no longer needed was not removed");
            }
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        numbered(&self.folder, self.number)
    }
}

fn numbered(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{JOURNAL}{number}"))
}

fn open_file(path: &Path) -> Result<File, DiskError> {
    let open: io::Result<File> = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    open.map_err(DiskError::of("open", path))
}

fn state(journal: u64, known: &Known) -> Vec<u8> {
    let mut rest: Vec<u8> = known.seen.concat();
    rest.extend_from_slice(&known.engine);
    let head = StateHead { journal, seen: known.seen.len(), digest: Digest::sha256(&rest) };
    let mut bytes = STATE_MAGIC.to_vec();
    bytes.extend(serde_json::to_vec(&head).expect("invariant: numbers and a digest are JSON"));
    bytes.push(b'\n');
    bytes.append(&mut rest);
    bytes
}

fn parse_state(bytes: &[u8]) -> Option<(u64, Known)> {
    let rest = bytes.strip_prefix(STATE_MAGIC)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let head: StateHead = serde_json::from_slice(rest.get(..end)?).ok()?;
    let rest = rest.get(end + 1..)?;
    if Digest::sha256(rest) != head.digest {
        return None;
    }
    let (seen, engine) = rest.split_at_checked(head.seen.checked_mul(KEY_LEN)?)?;
    let seen = seen.chunks_exact(KEY_LEN).filter_map(|key| key.try_into().ok()).collect();
    Some((head.journal, Known { seen, engine: engine.to_vec() }))
}

fn frame(head: &Head, body: &[u8]) -> Vec<u8> {
    let mut payload = serde_json::to_vec(head).expect("invariant: texts and numbers are JSON");
    payload.push(b'\n');
    payload.extend_from_slice(body);
    let len = u32::try_from(payload.len()).expect("invariant: a body is bounded");
    let mut frame = len.to_le_bytes().to_vec();
    frame.extend_from_slice(Digest::sha256(&payload).as_bytes());
    frame.append(&mut payload);
    frame
}

/// The whole bodies, and how far they go.
fn parse_entries(bytes: &[u8]) -> (Vec<Entry>, usize) {
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some((entry, len)) = bytes.get(at..).and_then(parse_entry) {
        entries.push(entry);
        at += len;
    }
    (entries, at)
}

fn parse_entry(bytes: &[u8]) -> Option<(Entry, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
    let (len, digest) = head.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > FRAME_LEN_MAX {
        return None;
    }
    let payload = rest.get(..len)?;
    if Digest::sha256(payload).as_bytes().as_slice() != digest {
        return None;
    }
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let head = serde_json::from_slice(payload.get(..end)?).ok()?;
    Some((Entry { head, body: payload.get(end + 1..)?.to_vec() }, HEAD_LEN + len))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cairn_schemas::ids::Serial;

    use super::*;

    fn head(received_ns: u64) -> Head {
        Head {
            release: ReleaseRef { serial: Serial(1), digest: Digest::ZERO },
            intake: "prod".into(),
            source: "k8s_audit".into(),
            received_ns,
            members: BTreeMap::from([("webhook_type".to_owned(), "push".to_owned())]),
        }
    }

    fn entry(number: u64) -> Entry {
        Entry { head: head(number), body: format!("{{\"n\":{number}}}\n\n").into_bytes() }
    }

    fn reopen(folder: &Path) -> (Known, Vec<Entry>, Journal) {
        let Found { journal, known, entries } = Journal::open(folder).unwrap();
        (known, entries, journal)
    }

    #[test]
    fn what_was_written_is_found_however_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("intake");
        let (known, entries, mut journal) = reopen(&path);
        assert_eq!((known, entries.len()), (Known::default(), 0));
        for number in 0..3 {
            journal.append(&entry(number).head, &entry(number).body).unwrap();
        }
        let (_, entries, journal) = reopen(&path);
        assert_eq!(entries, [entry(0), entry(1), entry(2)]);
        let file = journal.path();
        let whole = std::fs::read(&file).unwrap();
        drop(journal);
        // Cut anywhere, or with any byte of its last body another one: the bodies before are there, and the next goes behind them.
        let one = whole.len() / 3;
        for len in [0, 1, one - 1, one, one + 5, 3 * one - 1] {
            std::fs::write(&file, &whole[..len]).unwrap();
            let (_, entries, mut journal) = reopen(&path);
            assert_eq!(entries.len(), len / one, "{len}");
            journal.append(&entry(9).head, &entry(9).body).unwrap();
            assert_eq!(reopen(&path).1.last(), Some(&entry(9)), "{len}");
        }
        for at in 2 * one..3 * one {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&file, &damaged).unwrap();
            assert_eq!(reopen(&path).1, [entry(0), entry(1)], "{at}");
        }
    }

    #[test]
    fn a_snapshot_takes_the_place_of_what_came_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("intake");
        let (_, _, mut journal) = reopen(&path);
        journal.append(&entry(0).head, &entry(0).body).unwrap();
        let known = || Known { seen: vec![[1; KEY_LEN], [2; KEY_LEN]], engine: b"engine\n".to_vec() };
        journal.replace(&known()).unwrap();
        assert_eq!(journal.len(), 0);
        journal.append(&entry(1).head, &entry(1).body).unwrap();
        let (found, entries, _) = reopen(&path);
        assert_eq!((found, entries), (known(), vec![entry(1)]));
        // A crash that left the journal after next, and one before.
        std::fs::write(path.join("journal-3"), b"").unwrap();
        std::fs::write(path.join("journal-1"), frame(&head(7), b"{}")).unwrap();
        let (found, entries, _) = reopen(&path);
        assert_eq!((found, entries), (known(), vec![entry(1)]));
        assert_eq!(durable::names(&path).unwrap(), ["journal-2", "journal-3", "state"]);
        let mode = |name: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("state"), mode("journal-2"), mode(".")), (0o600, 0o600, 0o700));
        // A state that is damaged is none; the journals are still tried.
        let mut damaged = std::fs::read(path.join("state")).unwrap();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        std::fs::write(path.join("state"), damaged).unwrap();
        let (found, entries, _) = reopen(&path);
        assert_eq!((found, entries), (Known::default(), vec![entry(1)]));
    }
    /// Whether the snapshot that failed is there after all, nobody knows. What comes behind it is not lost either way.
    #[test]
    fn a_snapshot_that_fails_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("intake");
        let (_, _, mut journal) = reopen(&path);
        journal.append(&entry(0).head, &entry(0).body).unwrap();
        // A folder in the place of the file lets every attempt fail.
        std::fs::create_dir(path.join("state")).unwrap();
        let known = || Known { seen: vec![[1; KEY_LEN]], engine: b"engine".to_vec() };
        for _ in 0..3 {
            journal.replace(&known()).unwrap_err();
        }
        journal.append(&entry(1).head, &entry(1).body).unwrap();
        std::fs::remove_dir(path.join("state")).unwrap();
        let (found, entries, _) = reopen(&path);
        assert_eq!((found, entries), (Known::default(), vec![entry(0), entry(1)]), "it did not get there");
        // It did: the journal that it names is the one that was made for it.
        std::fs::write(path.join("state"), state(2, &known())).unwrap();
        let (found, entries, mut journal) = reopen(&path);
        assert_eq!((found, entries), (known(), vec![entry(1)]));
        journal.replace(&known()).unwrap();
        assert_eq!(durable::names(&path).unwrap(), ["journal-3", "state"]);
    }
}
