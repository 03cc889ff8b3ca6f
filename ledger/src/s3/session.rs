//! The protocol of one writer on an object store. Pure: it calls an [`ObjectStore`] and nothing else, so that a simulation can run it
//! with several writers, lost answers and crashes at every call.
//!
//! ```text
//! checkpoint                       compare-and-swap (If-Match) decides who writes; each swap changes the ETag
//! staging/<epoch>/<first index>    one group of records each, If-None-Match: *; a record is acknowledged when its group and every
//!                                  group before it is there
//! ```
//!
//! **Taking over.** Swap `checkpoint` for the same tree with the next epoch: from here on the writer before cannot publish. Then walk
//! the groups that it staged from the checkpoint's size on, and put a *seal* at the first free place: the walk has an end, and the writer
//! before, paused or cut off, finds the seal where it wants to stage and steps back. It can have acknowledged nothing that the walk did
//! not see, since it acknowledges a group only after every group before. What the walk found is published, and only then does the new
//! writer stage anything, under its own epoch. A crash anywhere in here leaves `staged` on the line in `checkpoint` at the old epoch, and
//! the next one walks it again to the same seal.
//!
//! **Lost answers.** A PUT without an answer may be done, not done, or done later. Every PUT here can be made again: its bytes are the
//! same and its condition allows it once. Who finds its condition broken reads the object: the same bytes are its own.
//!
//! **Removing.** A staged group is removed only when a checkpoint covers it. Its place is then free for a late request of the
//! writer that made it, and what that one writes is what the ledger holds there. Seals are never removed.

use std::sync::{Mutex, PoisonError};

use super::epoch::{Epoch, TOKEN_LEN};
use super::objects::{Condition, Object, ObjectError, ObjectStore, Removal, Stored};
use crate::checkpoint::CheckpointError;
use crate::dir::CHECKPOINT_FILE;

/// The folder of staged groups.
pub(crate) const STAGING_FOLDER: &str = "staging";
/// How often a call is made before the writer gives up; the pauses between them alone add up to two minutes.
pub(crate) const ATTEMPTS_MAX: u32 = 30;

/// Why the protocol cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("another writer has taken over: {found}")]
    SteppedBack { found: String },
    #[error("{key} exists with other bytes than the records determine")]
    Other { key: String },
    #[error("cannot {action} {key} in {attempts} attempts")]
    Object {
        action: &'static str,
        key: String,
        attempts: u32,
        #[source]
        source: ObjectError,
    },
    #[error("`checkpoint` cannot be read")]
    Checkpoint(#[from] CheckpointError),
    #[error("{key} is neither a group of records that begins at its index nor a seal")]
    Damaged { key: String },
    #[error("there is no checkpoint")]
    Absent,
}

/// `checkpoint` as this writer knows it.
#[derive(Debug, Clone)]
struct Head {
    etag: String,
    version: Option<String>,
    /// Without the line of the epoch.
    note: Vec<u8>,
    size: u64,
    epoch: Epoch,
}

/// One writer. Made by [`Session::take_over`].
pub(crate) struct Session<O> {
    objects: O,
    head: Mutex<Head>,
}

/// What stands at a place of the staging.
enum Place {
    Group(Vec<u8>),
    Seal,
}

fn staging_key(epoch: u64, first: u64) -> String {
    format!("{STAGING_FOLDER}/{epoch:020}/{first:020}")
}

/// A group's first byte is the zero of a length below 65,536.
fn place(object: Object) -> Place {
    if object.bytes.first() == Some(&b'{') { Place::Seal } else { Place::Group(object.bytes) }
}

fn seal(epoch: u64) -> Vec<u8> {
    format!("{{\"sealed_by\":{epoch}}}\n").into_bytes()
}

/// Counts attempts, pausing between them.
struct Attempts<'a, O> {
    objects: &'a O,
    made: u32,
    action: &'static str,
    key: &'a str,
}

impl<'a, O: ObjectStore> Attempts<'a, O> {
    fn new(objects: &'a O, action: &'static str, key: &'a str) -> Self {
        Attempts { objects, made: 0, action, key }
    }

    /// After an error: waits for the next attempt, or says that there is none.
    async fn again(&mut self, error: ObjectError) -> Result<(), SessionError> {
        self.made += 1;
        if self.made >= ATTEMPTS_MAX || matches!(error, ObjectError::Refused(_)) {
            let (action, key, attempts) = (self.action, self.key.to_owned(), self.made);
            return Err(SessionError::Object { action, key, attempts, source: error });
        }
        self.objects.pause(self.made).await;
        Ok(())
    }
}

async fn get<O: ObjectStore>(objects: &O, key: &str) -> Result<Option<Object>, SessionError> {
    let mut attempts = Attempts::new(objects, "read", key);
    loop {
        match objects.get(key).await {
            Ok(object) => return Ok(object),
            Err(error) => attempts.again(error).await?,
        }
    }
}

async fn list<O: ObjectStore>(objects: &O, prefix: &str) -> Result<Vec<String>, SessionError> {
    let mut attempts = Attempts::new(objects, "list", prefix);
    loop {
        match objects.list(prefix).await {
            Ok(keys) => return Ok(keys),
            Err(error) => attempts.again(error).await?,
        }
    }
}

/// What became of a PUT that is made until its outcome is known.
enum Outcome {
    /// The object is there with our bytes, by this request or an earlier one.
    Ours(Stored),
    /// The condition is broken by somebody else; what stands there now.
    Theirs(Option<Object>),
}

/// Makes a PUT until its outcome is known. Safe to repeat: the condition lets it through once, and the bytes are the same.
async fn put<O: ObjectStore>(
    objects: &O,
    key: &str,
    bytes: &[u8],
    condition: &Condition,
    lock: bool,
) -> Result<Outcome, SessionError> {
    let mut attempts = Attempts::new(objects, "write", key);
    loop {
        let error = match objects.put(key, bytes, condition, lock).await {
            Ok(stored) => return Ok(Outcome::Ours(stored)),
            Err(error) => error,
        };
        if error == ObjectError::Precondition {
            let found = get(objects, key).await?;
            match (found, condition) {
                (Some(object), _) if object.bytes == bytes => {
                    return Ok(Outcome::Ours(Stored { etag: object.etag, version: object.version }));
                }
                // It was removed in between, as a covered group is: the place is free again.
                (None, Condition::Absent) => attempts.again(error).await?,
                (found, _) => return Ok(Outcome::Theirs(found)),
            }
        } else {
            attempts.again(error).await?;
        }
    }
}

/// Writes an object unless there is one. Its version, where the bucket keeps versions; and where another one stands there, its bytes.
pub(super) async fn put_object<O: ObjectStore>(
    objects: &O,
    key: &str,
    bytes: &[u8],
    lock: bool,
) -> Result<(Option<String>, Option<Vec<u8>>), SessionError> {
    match put(objects, key, bytes, &Condition::Absent, lock).await? {
        Outcome::Ours(stored) => Ok((stored.version, None)),
        Outcome::Theirs(Some(object)) => Ok((object.version, Some(object.bytes))),
        Outcome::Theirs(None) => Err(SessionError::Other { key: key.to_owned() }),
    }
}

async fn read_head<O: ObjectStore>(objects: &O) -> Result<Option<Head>, SessionError> {
    let Some(object) = get(objects, CHECKPOINT_FILE).await? else { return Ok(None) };
    let (note, epoch, checkpoint) = Epoch::off(&object.bytes)?;
    Ok(Some(Head { etag: object.etag, version: object.version, note, size: checkpoint.size.0, epoch }))
}

/// Puts a note and its epoch in the place of `before`; `None`: somebody else was faster.
async fn swap<O: ObjectStore>(
    objects: &O,
    before: Option<&Head>,
    note: &[u8],
    epoch: Epoch,
) -> Result<Option<Head>, SessionError> {
    let condition = before.map_or(Condition::Absent, |head| Condition::Is(head.etag.clone()));
    let bytes = epoch.onto(note);
    match put(objects, CHECKPOINT_FILE, &bytes, &condition, false).await? {
        Outcome::Ours(stored) => {
            let (note, epoch, checkpoint) = Epoch::off(&bytes)?;
            Ok(Some(Head { etag: stored.etag, version: stored.version, note, size: checkpoint.size.0, epoch }))
        }
        Outcome::Theirs(_) => Ok(None),
    }
}

impl<O: ObjectStore> Session<O> {
    /// Becomes the writer. `empty`: the note of a tree without records, put there where there is no checkpoint and one is to be made.
    /// `token`: random.
    pub(crate) async fn take_over(
        objects: O,
        token: [u8; TOKEN_LEN],
        empty: Option<&[u8]>,
    ) -> Result<Session<O>, SessionError> {
        loop {
            let before = read_head(&objects).await?;
            let (note, epoch) = match (&before, empty) {
                (Some(head), _) => {
                    (head.note.clone(), Epoch { epoch: head.epoch.epoch + 1, staged: head.epoch.staged, token })
                }
                // A delete marker over `checkpoint` lets anyone put another one there: no ledger is begun over another's tiles.
                (None, Some(_)) if !list(&objects, "tile/").await?.is_empty() => return Err(SessionError::Absent),
                (None, Some(empty)) => (empty.to_vec(), Epoch { epoch: 1, staged: 0, token }),
                (None, None) => return Err(SessionError::Absent),
            };
            if let Some(head) = swap(&objects, before.as_ref(), &note, epoch).await? {
                return Ok(Session { objects, head: Mutex::new(head) });
            }
        }
    }

    fn head(&self) -> Head {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest checkpoint, without the line of the epoch.
    pub(crate) fn checkpoint(&self) -> (Vec<u8>, u64) {
        let head = self.head();
        (head.note, head.size)
    }

    /// This writer's epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.head().epoch.epoch
    }

    /// The first group that holds a record from `next` on, if one was staged, and its first index; begins a walk.
    pub(crate) async fn first_group(&self, next: u64) -> Result<Option<(u64, Vec<u8>)>, SessionError> {
        // A checkpoint may end within a group, which then is still there. What lies before it was removed or is junk.
        let folder = format!("{STAGING_FOLDER}/{:020}/", self.head().epoch.staged);
        let keys = list(&self.objects, &folder).await?;
        let before = keys.iter().filter_map(|key| key.strip_prefix(&folder)?.parse::<u64>().ok());
        let Some(first) = before.filter(|first| *first < next).max() else {
            return Ok(self.group_at(next).await?.map(|group| (next, group)));
        };
        let key = staging_key(self.head().epoch.staged, first);
        let reaches = match get(&self.objects, &key).await?.map(place) {
            Some(Place::Group(group)) => {
                let records = super::group::unpack(&group, first).ok_or(SessionError::Damaged { key })?;
                (first + records.len() as u64 > next).then_some(group)
            }
            Some(Place::Seal) | None => None,
        };
        match reaches {
            Some(group) => Ok(Some((first, group))),
            None => Ok(self.group_at(next).await?.map(|group| (next, group))),
        }
    }

    /// The group that was staged at `first` by the writer before; `None` where it staged none, and now cannot any more.
    pub(crate) async fn group_at(&self, first: u64) -> Result<Option<Vec<u8>>, SessionError> {
        let Epoch { epoch, staged, .. } = self.head().epoch;
        let key = staging_key(staged, first);
        if let Some(object) = get(&self.objects, &key).await? {
            return Ok(match place(object) {
                Place::Group(group) => Some(group),
                Place::Seal => None,
            });
        }
        match put(&self.objects, &key, &seal(epoch), &Condition::Absent, false).await? {
            Outcome::Ours(_) => Ok(None),
            Outcome::Theirs(found) => match found.map(place) {
                Some(Place::Group(group)) => Ok(Some(group)),
                _ => Ok(None),
            },
        }
    }

    /// From here on groups are staged under this writer's epoch. Everything that the walk found is in a checkpoint.
    pub(crate) async fn begin_staging(&self) -> Result<(), SessionError> {
        let head = self.head();
        let epoch = Epoch { staged: head.epoch.epoch, ..head.epoch };
        self.advance(head.note, epoch).await.map(drop)
    }

    /// Replaces `checkpoint`. The answer is the version that was replaced, for nobody to need any more.
    pub(crate) async fn publish(&self, note: &[u8]) -> Result<Option<Removal>, SessionError> {
        let head = self.head();
        self.advance(note.to_vec(), head.epoch).await
    }

    async fn advance(&self, note: Vec<u8>, epoch: Epoch) -> Result<Option<Removal>, SessionError> {
        let head = self.head();
        match swap(&self.objects, Some(&head), &note, epoch).await? {
            Some(next) => {
                *self.head.lock().unwrap_or_else(PoisonError::into_inner) = next;
                let version = head.version.map(Some);
                Ok(version.map(|version| Removal { key: CHECKPOINT_FILE.to_owned(), version }))
            }
            None => Err(SessionError::SteppedBack { found: "`checkpoint` is another one".to_owned() }),
        }
    }

    /// Stages a group. When this and the calls for all groups before returned, its records are acknowledged. The answer is what to
    /// remove once a checkpoint covers it.
    pub(crate) async fn stage(&self, first: u64, group: &[u8]) -> Result<Removal, SessionError> {
        let key = staging_key(self.head().epoch.epoch, first);
        match put(&self.objects, &key, group, &Condition::Absent, false).await? {
            Outcome::Ours(stored) => Ok(Removal { key, version: stored.version }),
            Outcome::Theirs(found) => {
                let found = match found.map(place) {
                    Some(Place::Seal) => format!("{key} is sealed"),
                    _ => format!("{key} holds other records"),
                };
                Err(SessionError::SteppedBack { found })
            }
        }
    }

    /// Forgets every group that a checkpoint covers, of this epoch and of earlier ones, and leaves the seals. Staging of an epoch that was
    /// not walked to its end is left alone.
    pub(crate) async fn forget_covered(&self) -> Result<(), SessionError> {
        let Head { size, epoch, .. } = self.head();
        let folder = format!("{STAGING_FOLDER}/");
        let mut covered = Vec::new();
        for key in list(&self.objects, &folder).await? {
            let mut numbers = key.split('/').skip(1).map(|number| number.parse::<u64>().ok());
            let (Some(Some(of)), Some(Some(first))) = (numbers.next(), numbers.next()) else { continue };
            let walked = of < epoch.staged || of == epoch.epoch && epoch.staged == epoch.epoch;
            if !walked || first >= size {
                continue;
            }
            if let Some(Place::Group(_)) = get(&self.objects, &key).await?.map(place) {
                covered.push(Removal { key, version: None });
            }
        }
        let fail = |source| SessionError::Object { action: "remove", key: folder, attempts: 1, source };
        if covered.is_empty() { Ok(()) } else { self.objects.delete(&covered).await.map_err(fail) }
    }

    /// Writes an object that never changes. What version it got, where the bucket keeps versions.
    pub(crate) async fn write(&self, key: &str, bytes: &[u8], lock: bool) -> Result<Option<String>, SessionError> {
        match put(&self.objects, key, bytes, &Condition::Absent, lock).await? {
            Outcome::Ours(stored) => Ok(stored.version),
            Outcome::Theirs(Some(object)) if is_same_tree(key, &object.bytes, bytes) => Ok(object.version),
            Outcome::Theirs(_) => Err(SessionError::Other { key: key.to_owned() }),
        }
    }

    /// Replaces a file beside `checkpoint`, such as `cosigned`, unless a larger tree's is there: a writer that does not know yet that it
    /// was replaced must not turn it back.
    pub(crate) async fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), SessionError> {
        let size = Epoch::off(bytes)?.2.size;
        loop {
            let before = get(&self.objects, key).await?;
            if let Some(object) = &before
                && Epoch::off(&object.bytes)?.2.size > size
            {
                return Ok(());
            }
            let condition = before.map_or(Condition::Absent, |object| Condition::Is(object.etag));
            if let Outcome::Ours(_) = put(&self.objects, key, bytes, &condition, false).await? {
                return Ok(());
            }
        }
    }
}

/// A kept checkpoint may carry other cosignatures than the one that is to be kept: its tree is what never changes.
fn is_same_tree(key: &str, there: &[u8], bytes: &[u8]) -> bool {
    let text = |note: &[u8]| note.windows(2).position(|two| two == b"\n\n").map(|end| note[..end].to_vec());
    let file = key.rsplit_once('/').map_or("", |(folder, _)| folder);
    (file == "checkpoints" || file.ends_with("/checkpoints")) && text(there).is_some() && text(there) == text(bytes)
}

#[cfg(test)]
mod simulation;
