//! The segments of one stream in one folder: what is durable here and not yet in the ledger.
//!
//! A queue knows files, places and where the chain stands; sealing, locking and waiting are the spool's. The newest segment is
//! never deleted, and its header says where the chain stood before it, so the stream goes on when everything was sent.
//! Whole segments go once the ledger has all their records. What was sent of the others is not remembered across a restart:
//! the ledger says where it has the stream, and a record sent twice is taken once.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{Sequence, StreamId};

use super::SpoolError;
use super::segment::{self, ChainState, HEADER_LEN, Header, Place, Tail};
use crate::durable::{self, DiskError};

/// The calls that a write to the spool is made of, so that tests can make each of them fail.
pub(crate) trait Disk: Send + Sync {
    /// Writes all of `bytes` at `at`.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Cuts the file to `len`.
    fn cut(&self, file: &File, len: u64) -> io::Result<()>;
}

/// The system's own calls.
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        // fdatasync writes the length too, which is all of the metadata that reading back needs.
        file.sync_data()
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }
}

/// One file.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    file: Arc<File>,
    header: Header,
    places: Vec<Place>,
    /// Durable bytes; what lies beyond does not count.
    len: u64,
}

impl Segment {
    /// Makes a segment whose header and name are durable. One of the same name is replaced: it held no acknowledged record.
    pub(crate) fn create(folder: &Path, stream: &StreamId, state: ChainState) -> Result<Segment, DiskError> {
        let path = folder.join(format!("{}.seg", state.next.padded()));
        let temporary = path.with_extension("tmp");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(DiskError::of("create", &temporary))?;
        let header = Header { stream: stream.clone(), state };
        file.write_all_at(&header.encode(), 0).map_err(DiskError::of("write", &temporary))?;
        file.sync_all().map_err(DiskError::of("sync", &temporary))?;
        durable::rename(&temporary, &path)?;
        Ok(Segment { path, file: Arc::new(file), header, places: Vec::new(), len: HEADER_LEN as u64 })
    }

    /// The number after its last record.
    fn end(&self) -> Sequence {
        Sequence(self.header.state.next.0 + self.places.len() as u64)
    }
}

/// Where the next batch goes: a handle on the newest segment, used without the spool's lock.
#[derive(Debug, Clone)]
pub(crate) struct WriteEnd {
    /// The newest segment's file.
    pub(crate) file: Arc<File>,
    /// Its durable length.
    pub(crate) len: u64,
    /// Whether it holds no record yet.
    pub(crate) empty: bool,
}

/// The segments of one stream.
#[derive(Debug)]
pub(crate) struct Queue {
    folder: PathBuf,
    stream: StreamId,
    segments: VecDeque<Segment>,
    state: ChainState,
    /// The first record that the ledger is not known to have.
    next_to_send: Sequence,
}

/// What opening a queue found besides its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing amiss.
    Whole,
    /// A write that a crash cut short; its bytes were dropped. They were never acknowledged.
    TornTail {
        /// How many bytes.
        len: u64,
    },
    /// Bytes that had been durable are wrong. The queue holds what stands before them and must not be written to.
    Damage {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        reason: String,
    },
}

impl Queue {
    /// Makes the folder and the first segment of a new stream.
    pub(crate) fn create(folder: &Path, stream: &StreamId) -> Result<Queue, DiskError> {
        durable::create_folder(folder)?;
        let segment = Segment::create(folder, stream, ChainState::START)?;
        Ok(Queue {
            folder: folder.to_owned(),
            stream: stream.clone(),
            segments: VecDeque::from([segment]),
            state: ChainState::START,
            next_to_send: Sequence(0),
        })
    }

    /// Reads the segments of a stream, drops a torn tail, stops at damage.
    pub(crate) fn open(folder: &Path, stream: &StreamId) -> Result<(Queue, Found), SpoolError> {
        let mut segments: VecDeque<Segment> = VecDeque::new();
        let mut state: Option<ChainState> = None;
        let mut found = Found::Whole;
        let names = durable::names(folder)?;
        let files: Vec<&String> = names.iter().filter(|name| name.ends_with(".seg")).collect();
        for (index, name) in files.iter().enumerate() {
            let path = folder.join(name);
            let damage = |at: u64, reason: &str| Found::Damage { path: path.clone(), at, reason: reason.to_owned() };
            let bytes = fs::read(&path).map_err(DiskError::of("read", &path))?;
            let scan = match segment::scan(&bytes) {
                Ok(scan) => scan,
                Err(segment::HeaderError::Version { found }) => return Err(SpoolError::NewerVersion { path, found }),
                Err(error) => {
                    found = damage(0, &error.to_string());
                    break;
                }
            };
            if scan.header.stream != *stream {
                found = damage(0, "its header names another stream");
                break;
            }
            if state.is_some_and(|state| state != scan.header.state) {
                found = damage(0, "it does not begin where the segment before it ends");
                break;
            }
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(DiskError::of("open", &path))?;
            let newest = index + 1 == files.len();
            match &scan.tail {
                Tail::Clean => {}
                // Only the newest segment is ever written to; a later segment means that this one was whole.
                Tail::Torn if newest => {
                    file.set_len(scan.good_len).map_err(DiskError::of("cut", &path))?;
                    file.sync_data().map_err(DiskError::of("sync", &path))?;
                    found = Found::TornTail { len: bytes.len() as u64 - scan.good_len };
                }
                Tail::Torn => found = damage(scan.good_len, "it was cut short, though a later segment follows it"),
                Tail::Damaged { reason } => found = damage(scan.good_len, reason),
            }
            state = Some(scan.state);
            segments.push_back(Segment {
                path: path.clone(),
                file: Arc::new(file),
                header: scan.header,
                places: scan.places,
                len: scan.good_len,
            });
            if matches!(found, Found::Damage { .. }) {
                break;
            }
        }
        if segments.is_empty() && found == Found::Whole {
            found = Found::Damage { path: folder.to_owned(), at: 0, reason: "it holds no segment".to_owned() };
        }
        let next_to_send = segments.front().map_or(Sequence(0), |segment| segment.header.state.next);
        let queue = Queue {
            folder: folder.to_owned(),
            stream: stream.clone(),
            segments,
            state: state.unwrap_or(ChainState::START),
            next_to_send,
        };
        Ok((queue, found))
    }

    /// The stream.
    pub(crate) fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its folder, after it was given another name.
    pub(crate) fn moved(&mut self, folder: &Path) {
        self.folder = folder.to_owned();
        for segment in &mut self.segments {
            if let Some(name) = segment.path.file_name() {
                segment.path = folder.join(name);
            }
        }
    }

    /// Where the chain stands after every durable record.
    pub(crate) fn state(&self) -> ChainState {
        self.state
    }

    /// Durable bytes on disk, headers and sent records of kept segments included.
    pub(crate) fn len(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// How many durable records the ledger is not known to have.
    pub(crate) fn pending_len(&self) -> u64 {
        self.state.next.0 - self.next_to_send.0
    }

    /// Where the next batch goes.
    pub(crate) fn write_end(&self) -> WriteEnd {
        let newest = self.segments.back().expect("invariant: a queue that is written to has a segment");
        WriteEnd { file: Arc::clone(&newest.file), len: newest.len, empty: newest.places.is_empty() }
    }

    /// Takes a new segment as the newest; one without records that it replaced goes.
    pub(crate) fn push(&mut self, segment: Segment) {
        if self.segments.back().is_some_and(|newest| newest.path == segment.path) {
            self.segments.pop_back();
        }
        self.segments.push_back(segment);
        self.drop_sent();
    }

    /// Counts records as durable that were written to the newest segment.
    pub(crate) fn commit(&mut self, places: &[Place], len: u64, state: ChainState) {
        let newest = self.segments.back_mut().expect("invariant: a queue that is written to has a segment");
        newest.places.extend_from_slice(places);
        newest.len = len;
        self.state = state;
    }

    /// Where the next records to send lie: at most so many records and bytes, at least one record if there is one.
    pub(crate) fn plan(&self, records_max: usize, bytes_max: usize) -> Vec<(Arc<File>, Place)> {
        let mut plan = Vec::new();
        let mut bytes = 0usize;
        for segment in &self.segments {
            let skip = self.next_to_send.0.saturating_sub(segment.header.state.next.0);
            for place in segment.places.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)) {
                bytes = bytes.saturating_add(place.len as usize + 1);
                if plan.len() == records_max || (bytes > bytes_max && !plan.is_empty()) {
                    return plan;
                }
                plan.push((Arc::clone(&segment.file), *place));
            }
        }
        plan
    }

    /// Where the records from this number on lie that are here, sent ones included.
    pub(crate) fn held_from(&self, from: Sequence) -> Vec<(Arc<File>, Place)> {
        let mut held = Vec::new();
        for segment in &self.segments {
            let skip = usize::try_from(from.0.saturating_sub(segment.header.state.next.0)).unwrap_or(usize::MAX);
            held.extend(segment.places.iter().skip(skip).map(|place| (Arc::clone(&segment.file), *place)));
        }
        held
    }

    /// The first record that is here.
    pub(crate) fn first(&self) -> Sequence {
        self.segments.front().map_or(Sequence(0), |segment| segment.header.state.next)
    }

    /// The first record to send.
    pub(crate) fn next_to_send(&self) -> Sequence {
        self.next_to_send
    }

    /// The leaf hash of a record that is here, or of the one just before the first that is here.
    pub(crate) fn leaf(&self, sequence: Sequence) -> Option<Result<Digest, DiskError>> {
        if sequence.next() == self.state.next {
            return Some(Ok(self.state.prev));
        }
        for segment in &self.segments {
            if sequence.next() == segment.header.state.next {
                return Some(Ok(segment.header.state.prev));
            }
            if sequence < segment.end() {
                let index = usize::try_from(sequence.0.checked_sub(segment.header.state.next.0)?).ok()?;
                let place = segment.places.get(index)?;
                return Some(
                    read(&segment.file, *place)
                        .map(|record| Digest::leaf(&record))
                        .map_err(DiskError::of("read", &segment.path)),
                );
            }
        }
        None
    }

    /// The ledger has everything up to here.
    pub(crate) fn trim(&mut self, through: Sequence) {
        let next = through.next().min(self.state.next);
        self.next_to_send = self.next_to_send.max(next);
        self.drop_sent();
    }

    /// The ledger has everything up to this record and nothing after it, whatever it had acknowledged before.
    pub(crate) fn send_from(&mut self, next: Sequence) {
        self.next_to_send = next.clamp(self.first(), self.state.next);
        self.drop_sent();
    }

    /// Deletes segments that are sent whole, never the newest. A name that stays after a crash is read and trimmed again.
    fn drop_sent(&mut self) {
        while self.segments.len() > 1 && self.segments[0].end() <= self.next_to_send {
            if let Some(segment) = self.segments.pop_front()
                && let Err(error) = fs::remove_file(&segment.path)
            {
                tracing::warn!(path = %segment.path.display(), %error, "a sent spool segment could not be deleted");
            }
        }
    }
}

/// A record's bytes.
pub(crate) fn read(file: &File, place: Place) -> io::Result<Vec<u8>> {
    let mut record = vec![0u8; place.len as usize];
    file.read_exact_at(&mut record, place.at)?;
    Ok(record)
}
