//! The write-ahead log: where a record is acknowledged.
//!
//! A group commit is one write into a preallocated segment and one `fdatasync`. When that returned, the group's records are
//! acknowledged; tiles and checkpoints follow from them and can be made again. Bytes on disk (`ledger/FORMAT.md`, Write-ahead log):
//! a segment is `wal/<first index, 20 digits>.wal`, its header 64 bytes, then frames, then zeros or, in a segment that was used before, older
//! frames with smaller indexes.
//!
//! A group is all or nothing. A crash while it is written leaves some of its sectors: the group is *torn*, was never acknowledged, and
//! is cut off. What looks torn but is followed by a frame of a later group was acknowledged and is damaged; then nothing is
//! cut off, and opening fails. Nothing here knows what a record is.
//!
//! After a crash the log goes on in a new segment, which begins with the last whole group ([`Replay::go_on`]). A segment ends where the
//! next one begins: what stands behind that place in the older one, whole or torn, was never acknowledged there.

use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::RecordIndex;
use thiserror::Error;

pub(crate) use crate::bytes::Found;
use crate::disk::{Disk, DiskFile};
use crate::durable::{Folders, TEMPORARY_PREFIX};
use crate::tile::ENTRY_LEN_MAX;

/// The folder of segments.
pub(crate) const WAL_FOLDER: &str = "wal";
/// Bytes of a segment, preallocated with zeros so that a commit changes no metadata.
pub(crate) const SEGMENT_LEN: u64 = 16 << 20;
/// Longest group commit in bytes, frames and all. Four fit a segment.
pub(crate) const GROUP_LEN_MAX: u64 = 4 << 20;
/// Covered segments that are kept to be written again; more are removed.
const SPARE_SEGMENTS_MAX: usize = 4;

const MAGIC: &[u8; 8] = b"CAIRNWAL";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 64;
/// Bytes before a record in a frame.
pub(crate) const FRAME_HEADER_LEN: usize = 24;

/// Why a write-ahead log cannot be read, or not be trusted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WalError {
    /// The system could not.
    #[error("cannot {action} {path}")]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A segment's header is not one.
    #[error("{path} is not a segment of this ledger's write-ahead log: {reason}")]
    Header {
        /// The segment.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Acknowledged records are damaged.
    #[error("{path} is damaged at byte {offset}: record {index} was acknowledged and cannot be read")]
    Damaged {
        /// The segment.
        path: String,
        /// Where the frame should be.
        offset: u64,
        /// Its record.
        index: RecordIndex,
    },
    /// Records are missing between the tiles and the log, or within the log.
    #[error("the write-ahead log begins at record {found}, and record {expected} is in no tile: records are missing")]
    Missing {
        /// The first record that is missing.
        expected: RecordIndex,
        /// The first one that is there.
        found: RecordIndex,
    },
}

/// Every change under a lock is complete before it can panic.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fail<'a>(action: &'static str, path: &'a str) -> impl FnOnce(io::Error) -> WalError + 'a {
    move |source| WalError::Io { action, path: path.to_owned(), source }
}

/// The log while it is written. Owned by the one thread that commits.
pub(crate) struct Wal {
    origin: Digest,
    segment_len: u64,
    segment: Segment,
    shelf: Arc<Shelf>,
    frames: Vec<u8>,
}

/// The segment that is written.
struct Segment {
    path: String,
    file: Box<dyn DiskFile>,
    offset: u64,
    /// Until its first group is durable it has neither header nor name, but this one.
    temporary: Option<String>,
}

/// Segments that are not written now. Another thread than the one that commits may look after them.
struct Shelf {
    disk: Arc<dyn Disk>,
    segment_len: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Segments of the process before, oldest first, with the first index behind each. They are removed and never written again: what its
    /// last sync made of them nobody knows.
    left: VecDeque<(String, u64)>,
    /// Full segments, oldest first, with the first index behind each.
    closed: VecDeque<(String, u64)>,
    /// A segment to go on with, under a temporary name.
    ready: Option<Blank>,
    /// Whether one will be needed soon.
    wanted: bool,
    /// How many temporary names were given out.
    named: u64,
}

/// A file of a segment's length without a header, under a temporary name.
type Blank = (String, Box<dyn DiskFile>);

impl Wal {
    /// Begins an empty log whose first record is `next`. Whatever segments there were must be gone.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        origin: Digest,
        segment_len: u64,
        next: RecordIndex,
    ) -> Result<Wal, WalError> {
        let shelf = Arc::new(Shelf { disk, segment_len, held: Mutex::default() });
        let segment = Segment::begin(shelf.blank(0)?, next);
        Ok(Wal { origin, segment_len, segment, shelf, frames: Vec::new() })
    }

    /// Makes room for a group of at most `bytes`, whose first record is `next`; every record before `covered` is in durable tiles
    /// under a durable checkpoint.
    ///
    /// # Errors
    /// [`WalError::Io`]: no new segment could be made, say because the disk is full. Nothing changed; ask again later.
    pub(crate) fn reserve(&mut self, bytes: u64, next: RecordIndex, covered: u64) -> Result<(), WalError> {
        assert!(
            bytes <= GROUP_LEN_MAX && bytes <= self.segment_len - HEADER_LEN as u64,
            "invariant: groups are bounded"
        );
        if self.segment.offset > self.segment_len / 2 {
            self.shelf.held().wanted = true;
        }
        if self.segment.offset + bytes <= self.segment_len {
            return Ok(());
        }
        let ready = {
            let mut held = self.shelf.held();
            held.wanted = false;
            held.ready.take()
        };
        let blank = match ready {
            Some(blank) => blank,
            None => self.shelf.blank(covered)?,
        };
        let full = std::mem::replace(&mut self.segment, Segment::begin(blank, next));
        self.shelf.held().closed.push_back((full.path, next.0));
        Ok(())
    }

    /// Writes a group and returns when it is durable: when this returns, its records are acknowledged.
    ///
    /// # Errors
    /// [`WalError::Io`]: nobody knows what is on the disk. The log must not be written again; opening the ledger repairs it.
    pub(crate) fn append<'a>(
        &mut self,
        first: RecordIndex,
        records: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<(), WalError> {
        let count = u32::try_from(records.len()).expect("invariant: groups are bounded");
        let Segment { path, file, offset, temporary } = &mut self.segment;
        self.frames.clear();
        if temporary.is_some() {
            *path = segment_path(first);
            *offset = 0;
            self.frames.extend_from_slice(&encode_header(&self.origin, self.segment_len, first));
        }
        for (position, record) in (0..).zip(records) {
            encode_frame(&mut self.frames, first.0 + u64::from(position), position, count, record);
        }
        assert!(*offset + self.frames.len() as u64 <= self.segment_len, "invariant: room was reserved");
        // A crash here leaves any of the group's sectors: torn, not acknowledged, cut off when the ledger is opened.
        file.write_at(*offset, &self.frames).map_err(fail("write", path))?;
        file.sync().map_err(fail("sync", path))?;
        *offset += self.frames.len() as u64;
        // A segment gets its name with its first group: a `.wal` file always has a good header. A crash in here leaves a file without
        // a name, whose group was not acknowledged, or the segment with its group.
        if let Some(temporary) = temporary.take() {
            let named = self.shelf.disk.rename(&temporary, path).and_then(|()| self.shelf.disk.sync_folder(WAL_FOLDER));
            named.map_err(fail("name", path))?;
        }
        Ok(())
    }

    /// What may be done on another thread, now and then, so that [`Wal::reserve`] finds a segment ready; it is told how many records are
    /// in durable tiles under a durable checkpoint.
    pub(crate) fn groundwork(&self) -> impl Fn(u64) + Send + 'static {
        let shelf = Arc::downgrade(&self.shelf);
        move |covered| {
            if let Some(shelf) = shelf.upgrade() {
                shelf.prepare(covered);
            }
        }
    }
}

impl Segment {
    fn begin((temporary, file): Blank, first: RecordIndex) -> Segment {
        Segment { path: segment_path(first), file, offset: HEADER_LEN as u64, temporary: Some(temporary) }
    }
}

impl Shelf {
    fn held(&self) -> MutexGuard<'_, Held> {
        held(&self.held)
    }

    /// Makes a segment ready where one will be needed soon, and removes those of the process before that are covered.
    fn prepare(&self, covered: u64) {
        // Should it not be possible, whoever needs a segment tries again, and says why not.
        if self.remove_left(covered).is_err() {
            return;
        }
        let wanted = {
            let held = self.held();
            held.wanted && held.ready.is_none()
        };
        if wanted && let Ok(blank) = self.blank(covered) {
            let mut held = self.held();
            held.wanted = false;
            held.ready = Some(blank);
        }
    }

    /// Removes segments of the process before whose records are all covered. As for [`clear`], a crash may bring any of them back: the
    /// one that holds the first record which is not covered is still there, and those before it are not read.
    fn remove_left(&self, covered: u64) -> Result<(), WalError> {
        loop {
            let path = match self.held().left.front() {
                Some((path, end)) if *end <= covered => path.clone(),
                _ => return Ok(()),
            };
            match self.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail("remove", &path)(error)),
                _ => drop(self.held().left.pop_front()),
            }
        }
    }

    /// A segment without a header: one whose records are all covered, or a new one. Surplus ones are removed.
    fn blank(&self, covered: u64) -> Result<Blank, WalError> {
        self.remove_left(covered)?;
        let (old, surplus, temporary) = {
            let mut held = self.held();
            let mut surplus = Vec::new();
            while held.closed.len() > SPARE_SEGMENTS_MAX && held.closed[0].1 <= covered {
                surplus.extend(held.closed.pop_front());
            }
            let covers = held.closed.front().is_some_and(|(_, end)| *end <= covered);
            let old = if covers { held.closed.pop_front() } else { None };
            held.named += 1;
            (old, surplus, format!("{WAL_FOLDER}/{TEMPORARY_PREFIX}{}-segment", held.named))
        };
        for (path, _) in surplus {
            self.disk.remove(&path).map_err(fail("remove", &path))?;
        }
        match old {
            // Sectors that were written once are overwritten without touching the file system's metadata: half the latency.
            Some((path, _)) => reuse_segment(&*self.disk, &path, temporary),
            None => make_segment(&*self.disk, self.segment_len, temporary),
        }
    }
}

/// Removes every segment and temporary file: all records are in durable tiles. This is not synced: a segment that a crash brings back is
/// found covered, and a new log syncs the folder before anybody is told of its first record.
pub(crate) fn clear(disk: &dyn Disk) -> Result<(), WalError> {
    for name in list(disk)? {
        let path = format!("{WAL_FOLDER}/{name}");
        if name.ends_with(".wal") || name.starts_with(TEMPORARY_PREFIX) {
            disk.remove(&path).map_err(fail("remove", &path))?;
        }
    }
    Ok(())
}

fn list(disk: &dyn Disk) -> Result<Vec<String>, WalError> {
    match disk.list(WAL_FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(fail("list", WAL_FOLDER)),
    }
}

fn segment_path(first: RecordIndex) -> String {
    format!("{WAL_FOLDER}/{:020}.wal", first.0)
}

/// A segment comes into being under a temporary name, with zeros, so that a commit into it changes no metadata.
fn make_segment(disk: &dyn Disk, len: u64, temporary: String) -> Result<Blank, WalError> {
    let made = (|| {
        Folders::default().ensure(disk, WAL_FOLDER)?;
        let mut file = disk.create(&temporary)?;
        let zeros = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < len {
            let part = usize::try_from(len - offset).map_or(zeros.len(), |rest| rest.min(zeros.len()));
            file.write_at(offset, &zeros[..part])?;
            offset += part as u64;
        }
        Ok(file)
    })();
    if made.is_err() {
        // A full disk should not be kept full by half a segment. Should this fail as well, opening removes it.
        let _ = disk.remove(&temporary);
    }
    match made {
        Ok(file) => Ok((temporary, file)),
        Err(error) => Err(fail("make", &temporary)(error)),
    }
}

/// Takes a segment whose records are all covered. That it loses its name need not survive a crash: what may be found under it later,
/// with another segment's header, lies before one whose first record is covered, and nobody reads it.
fn reuse_segment(disk: &dyn Disk, old: &str, temporary: String) -> Result<Blank, WalError> {
    let file = disk.rename(old, &temporary).and_then(|()| disk.open(&temporary)).map_err(fail("reuse", old))?;
    Ok((temporary, file))
}

/// The header: magic, version, CRC-32C of the whole header with this field zero, first index, length, SHA-256 of the origin. Numbers are
/// big-endian.
fn encode_header(origin: &Digest, len: u64, first: RecordIndex) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_be_bytes());
    header[16..24].copy_from_slice(&first.0.to_be_bytes());
    header[24..32].copy_from_slice(&len.to_be_bytes());
    header[32..].copy_from_slice(origin.as_bytes());
    let crc = crc32c::crc32c(&header);
    header[12..16].copy_from_slice(&crc.to_be_bytes());
    header
}

/// A frame: record length, CRC-32C of the rest of the frame, index, position in the group, records in the group, record. The CRC
/// begins with the length, so that a frame of zeros is no frame.
fn encode_frame(out: &mut Vec<u8>, index: u64, position: u32, count: u32, record: &[u8]) {
    let len = u32::try_from(record.len()).expect("invariant: records are at most 65,535 bytes");
    let start = out.len();
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&index.to_be_bytes());
    out.extend_from_slice(&position.to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(record);
    let crc = frame_crc(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
}

fn frame_crc(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..])
}

struct Frame<'a> {
    index: u64,
    position: u32,
    count: u32,
    record: &'a [u8],
}

impl Frame<'_> {
    fn group_first(&self) -> u64 {
        self.index - u64::from(self.position)
    }
}

/// The frame at the beginning of `bytes`, if there is a whole one.
fn decode_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let header = bytes.first_chunk::<FRAME_HEADER_LEN>()?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let len = number(0) as usize;
    let index = u64::from(number(8)) << 32 | u64::from(number(12));
    let (position, count) = (number(16), number(20));
    if len > ENTRY_LEN_MAX || position >= count || index < u64::from(position) {
        return None;
    }
    let frame = bytes.get(..FRAME_HEADER_LEN + len)?;
    (frame_crc(frame) == number(4)).then(|| Frame { index, position, count, record: &frame[FRAME_HEADER_LEN..] })
}

/// What a ledger's log holds after the tiles. Its segments are handed out in their order, and read by whoever and whenever: their names say
/// which records each must hold. Reading changes nothing.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Those that were not handed out yet, with their first indexes.
    segments: VecDeque<(u64, String)>,
    /// Those before them.
    passed: Vec<(u64, String)>,
    origin: Digest,
    next: u64,
    last_group: LastGroup,
}

/// The log's last group and its first index, once that was read.
type LastGroup = Arc<Mutex<Option<(u64, Vec<Found>)>>>;

/// A segment that is to be read, on any thread.
#[derive(Debug)]
pub(crate) struct Unread {
    path: String,
    origin: Digest,
    first: u64,
    /// The first index of the segment behind it.
    following: Option<u64>,
    /// Records before this one are not wanted.
    next: u64,
    last_group: LastGroup,
}

impl Replay {
    /// Looks for the segments that hold `next` and what follows. Segments that end before `next` are left unread: their records are in tiles.
    pub(crate) fn new(disk: &dyn Disk, origin: Digest, next: RecordIndex) -> Result<Replay, WalError> {
        let mut segments: Vec<(u64, String)> = list(disk)?
            .into_iter()
            .filter_map(|name| {
                let first = name.strip_suffix(".wal").filter(|digits| digits.len() == 20)?.parse().ok()?;
                Some((first, format!("{WAL_FOLDER}/{name}")))
            })
            .collect();
        segments.sort_unstable();
        let covered = segments.iter().filter(|(first, _)| *first <= next.0).count().saturating_sub(1);
        let unread = segments.split_off(covered).into();
        Ok(Replay { segments: unread, passed: segments, origin, next: next.0, last_group: LastGroup::default() })
    }

    /// The next segment; `None` at the end of the log. The log holds what its segments do up to the first one that cannot be read.
    pub(crate) fn segment(&mut self) -> Result<Option<Unread>, WalError> {
        let Some((first, path)) = self.segments.pop_front() else { return Ok(None) };
        if self.passed.is_empty() && first > self.next {
            return Err(WalError::Missing { expected: RecordIndex(self.next), found: RecordIndex(first) });
        }
        self.passed.push((first, path.clone()));
        let following = self.segments.front().map(|(following, _)| *following);
        let last_group = self.last_group.clone();
        Ok(Some(Unread { path, origin: self.origin, first, following, next: self.next, last_group }))
    }

    /// Goes on with the log that was read to its end: in a new segment, with a copy of the last group at its beginning. The segments that
    /// were read stay until they are covered. When this returns, all that was read survives any crash.
    ///
    /// Why that group and no other: a process that ended between the write and the sync of a group, or whose sync failed, left it in the
    /// kernel's memory and perhaps nowhere else; it can be read, and were anything built upon it and the power went then, its indexes would
    /// be given away a second time. Syncing it again proves nothing, since after a sync that failed the kernel counts the lost pages as
    /// clean; and a file whose length may be lost with them is not one to go on with. Every group before it was durable before
    /// the next one was written, and so were the header and the name of its segment. The copy is written, synced and named as
    /// every segment's first group is, which makes the folder's names durable as well.
    ///
    /// A crash in here leaves the log as it was, or with the copy: then the older segment is read up to where that begins. Where the last
    /// group is the first of its segment, the copy takes that one's name and place.
    pub(crate) fn go_on(self, disk: Arc<dyn Disk>, segment_len: u64) -> Result<Wal, WalError> {
        let Replay { segments, passed, origin, next, last_group } = self;
        let last_group = held(&last_group).take();
        assert!(
            segments.is_empty() && passed.is_empty() == last_group.is_none(),
            "invariant: the log was read to its end"
        );
        for name in list(&*disk)?.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)) {
            let path = format!("{WAL_FOLDER}/{name}");
            disk.remove(&path).map_err(fail("remove", &path))?;
        }
        let (first, group) = last_group.unwrap_or((next, Vec::new()));
        let mut wal = Wal::start(disk, origin, segment_len, RecordIndex(first))?;
        let ends = passed.iter().skip(1).map(|(following, _)| *following).chain([first]);
        let left = passed.iter().zip(ends).filter(|((begins, _), _)| *begins != first);
        wal.shelf.held().left = left.map(|((_, path), end)| (path.clone(), end)).collect();
        if !group.is_empty() {
            wal.append(RecordIndex(first), group.iter().map(Deref::deref))?;
        }
        Ok(wal)
    }
}

impl Unread {
    /// Its records from the first wanted one on, in order.
    ///
    /// # Errors
    /// [`WalError`]: it does not hold what its name and the next one's say. What stands in it was acknowledged, and is damaged.
    pub(crate) fn read(self, disk: &dyn Disk) -> Result<Vec<Found>, WalError> {
        let Unread { path, origin, first, following, next, last_group } = self;
        let bytes = Arc::new(disk.read(&path).map_err(fail("read", &path))?);
        check_header(&path, &bytes, &origin, first)?;
        let found = |offset: usize, record: &[u8]| {
            let at = offset + FRAME_HEADER_LEN;
            Found::new(bytes.clone(), at..at + record.len())
        };
        let mut records = Vec::new();
        let (mut offset, mut expected) = (HEADER_LEN, first);
        let mut last = None;
        while following != Some(expected)
            && let Some((group, end)) = read_group(&bytes, offset, expected)
        {
            last = Some((expected, offset));
            for record in group {
                if expected >= next {
                    records.push(found(offset, record));
                }
                expected += 1;
                offset += FRAME_HEADER_LEN + record.len();
            }
            assert_eq!(offset, end, "invariant: a group is its frames");
        }
        // A segment has its name only when its first group is durable: without that it was never torn. And where another segment follows,
        // it begins where this one ends. Whatever stands behind that place here was cut off when the log went on there.
        let whole = match following {
            _ if last.is_none() => false,
            Some(following) => following == expected,
            None => !has_later_group(&bytes[offset.min(bytes.len())..], expected),
        };
        if !whole {
            return Err(WalError::Damaged { path, offset: offset as u64, index: RecordIndex(expected) });
        }
        if following.is_none()
            && let Some((first, mut offset)) = last
            && let Some((group, _)) = read_group(&bytes, offset, first)
        {
            let found = group.into_iter().map(|record| {
                let found = found(offset, record);
                offset += FRAME_HEADER_LEN + record.len();
                found
            });
            *held(&last_group) = Some((first, found.collect()));
        }
        Ok(records)
    }
}

fn check_header(path: &str, bytes: &[u8], origin: &Digest, first: u64) -> Result<(), WalError> {
    let refuse = |reason| Err(WalError::Header { path: path.to_owned(), reason });
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return refuse("it is too short") };
    if &header[..8] != MAGIC {
        return refuse("it does not begin with CAIRNWAL");
    }
    if header[8..12] != VERSION.to_be_bytes() {
        return refuse("it was written by another version");
    }
    let len = u64::from_be_bytes([
        header[24], header[25], header[26], header[27], header[28], header[29], header[30], header[31],
    ]);
    if *header != encode_header(origin, len, RecordIndex(first)) {
        return refuse("its header names another ledger or another index, or is damaged");
    }
    if bytes.len() as u64 != len { refuse("it does not have the length that its header says") } else { Ok(()) }
}

/// The records of the group that begins at `offset` with record `first`, and where it ends; `None` if it is not whole.
fn read_group(bytes: &[u8], offset: usize, first: u64) -> Option<(Vec<&[u8]>, usize)> {
    let mut records = Vec::new();
    let mut end = offset;
    let mut count = 1;
    while (records.len() as u64) < u64::from(count) {
        let frame = decode_frame(bytes.get(end..)?)?;
        if records.is_empty() {
            count = frame.count;
        }
        let expected = (first + records.len() as u64, records.len() as u64, count);
        if (frame.index, u64::from(frame.position), frame.count) != expected {
            return None;
        }
        end += FRAME_HEADER_LEN + frame.record.len();
        records.push(frame.record);
    }
    Some((records, end))
}

const ZEROS: [u8; 4096] = [0; 4096];

/// Whether a frame of a group later than the one that should begin with record `torn` stands anywhere in `bytes`. It was written after
/// `torn`'s group was acknowledged, so that group is damaged and not torn. Frames of an earlier use of the segment have smaller indexes.
fn has_later_group(bytes: &[u8], torn: u64) -> bool {
    // Most of a segment is the zeros that it was made of.
    let written = bytes.chunks(ZEROS.len()).rposition(|chunk| chunk != &ZEROS[..chunk.len()]);
    let bytes = &bytes[..written.map_or(0, |last| (last + 1) * ZEROS.len()).min(bytes.len())];
    (0..bytes.len().saturating_sub(FRAME_HEADER_LEN)).any(|offset| {
        // The upper bytes of an index are zero, and lengths are below 65,536: most offsets are ruled out by one comparison.
        bytes[offset..offset + 2] == [0, 0]
            && decode_frame(&bytes[offset..]).is_some_and(|frame| frame.group_first() > torn)
    })
}

/// The frames of one group, without a segment around them: an object in a bucket's staging.
#[cfg(feature = "s3")]
pub(crate) fn encode_group(first: RecordIndex, records: &[crate::streams::Written]) -> Vec<u8> {
    let count = u32::try_from(records.len()).expect("invariant: groups are bounded");
    let mut frames = Vec::with_capacity(records.iter().map(|(record, _)| FRAME_HEADER_LEN + record.len()).sum());
    for (position, (record, _)) in (0..).zip(records) {
        encode_frame(&mut frames, first.0 + u64::from(position), position, count, record);
    }
    frames
}

/// The records of such an object; `None` if it is not exactly one whole group that begins with record `first`.
#[cfg(feature = "s3")]
pub(crate) fn decode_group(bytes: &[u8], first: u64) -> Option<Vec<&[u8]>> {
    let (records, end) = read_group(bytes, 0, first)?;
    (end == bytes.len()).then_some(records)
}

/// A header and the frame of a group of one, for the test that reads FORMAT.md.
#[cfg(test)]
pub(crate) fn example(first: u64, record: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut frame = Vec::new();
    encode_frame(&mut frame, first, 0, 1, record);
    let origin = Digest::sha256(b"ledger.example/1");
    (encode_header(&origin, SEGMENT_LEN, RecordIndex(first)).to_vec(), frame)
}

#[cfg(test)]
mod tests;
