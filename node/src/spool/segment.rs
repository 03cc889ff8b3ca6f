//! One file of the spool: a header that names the stream and where its chain stood, then frames of one record each.
//!
//! The bytes are described in `node/SPOOL.md`. Reading is pure: [`scan`] takes a file's bytes and says which frames are good,
//! and whether what follows them was torn by a crash (never acknowledged, so it may go) or is damage (it had been durable).
//!
//! How the two are told apart: each frame carries the file length that was durable when it was written. A bad frame with a good
//! frame after it that counts the bad one's bytes as durable is damage; a bad frame after which nothing says so is a torn tail.
//! Damage to the very last batch looks like a torn tail here; the ledger's position, asked at every start, shows it.

use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{Sequence, StreamId};
use cairn_schemas::record::RECORD_LEN_MAX;
use cairn_schemas::types::RecordType;
use serde::Deserialize;

/// Version of the segment format.
pub(crate) const VERSION: u32 = 1;
/// Length of a segment's header, bytes.
pub(crate) const HEADER_LEN: usize = 256;
/// Length of a frame's header, bytes.
pub(crate) const FRAME_HEADER_LEN: usize = 20;

const MAGIC: &[u8; 8] = b"CAIRNSPL";
const MARKER: &[u8; 4] = b"\xc5Rec";
const STREAM_AT: usize = 66;
const CHECKSUM_AT: usize = HEADER_LEN - 4;

/// Where a stream's chain stands: what the next record must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainState {
    /// The next record's number.
    pub(crate) next: Sequence,
    /// Leaf hash of the record before; zeros at the start.
    pub(crate) prev: Digest,
    /// Records since the newest head.
    pub(crate) unsigned: u64,
}

impl ChainState {
    /// A stream with no record.
    pub(crate) const START: ChainState = ChainState { next: Sequence(0), prev: Digest::ZERO, unsigned: 0 };

    /// The state after this record.
    pub(crate) fn after(self, leaf: Digest, is_head: bool) -> ChainState {
        ChainState { next: self.next.next(), prev: leaf, unsigned: if is_head { 0 } else { self.unsigned + 1 } }
    }
}

/// A segment's first 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The stream its records stand in.
    pub(crate) stream: StreamId,
    /// Where the chain stood before its first record.
    pub(crate) state: ChainState,
}

/// Why a file is not a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// Shorter than a header.
    #[error("it has {len} bytes, a header has {HEADER_LEN}")]
    Short {
        /// Its length.
        len: usize,
    },
    /// Other bytes than a segment begins with.
    #[error("it does not begin as a spool segment does")]
    NotASegment,
    /// Written by a newer version.
    #[error("its format version is {found}; this program reads {VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
    /// A flipped bit.
    #[error("its header's checksum is wrong")]
    Checksum,
    /// No stream id.
    #[error("its header names no stream")]
    NoStream,
}

impl Header {
    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0u8; HEADER_LEN];
        let stream = self.stream.as_str().as_bytes();
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.state.next.0.to_le_bytes());
        bytes[24..56].copy_from_slice(self.state.prev.as_bytes());
        bytes[56..64].copy_from_slice(&self.state.unsigned.to_le_bytes());
        // A stream id has at most 64 + 1 + 32 bytes.
        bytes[64..66].copy_from_slice(&u16::try_from(stream.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes[STREAM_AT..STREAM_AT + stream.len()].copy_from_slice(stream);
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
        let header = bytes.get(..HEADER_LEN).ok_or(HeaderError::Short { len: bytes.len() })?;
        if &header[..8] != MAGIC {
            return Err(HeaderError::NotASegment);
        }
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(HeaderError::Version { found: version });
        }
        if crc32c::crc32c(&header[..CHECKSUM_AT]) != u32_at(header, CHECKSUM_AT) {
            return Err(HeaderError::Checksum);
        }
        let stream_len = usize::from(u16::from_le_bytes([header[64], header[65]]));
        let stream = header
            .get(STREAM_AT..STREAM_AT + stream_len)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .and_then(|text| text.parse().ok())
            .ok_or(HeaderError::NoStream)?;
        let prev = Digest::try_from(&header[24..56]).map_err(|_| HeaderError::NotASegment)?;
        let state = ChainState { next: Sequence(u64_at(header, 16)), prev, unsigned: u64_at(header, 56) };
        Ok(Header { stream, state })
    }
}

/// Appends a frame to `out`; `durable` is the file's length up to which it was durable when this batch was begun.
pub(crate) fn encode_frame(record: &[u8], durable: u64, out: &mut Vec<u8>) {
    let mut head = [0u8; FRAME_HEADER_LEN];
    head[..4].copy_from_slice(MARKER);
    head[4..8].copy_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
    head[8..16].copy_from_slice(&durable.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head[4..16]), record);
    head[16..20].copy_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(record);
}

/// A record's place in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where its bytes begin.
    pub(crate) at: u64,
    /// How many they are.
    pub(crate) len: u32,
}

/// What stands after the last good frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    Clean,
    /// Bytes of a write that a crash cut short. They were never acknowledged.
    Torn,
    /// Bytes that had been durable and are wrong now.
    Damaged {
        /// What is wrong there.
        reason: &'static str,
    },
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Its header.
    pub(crate) header: Header,
    /// Its good records, in order.
    pub(crate) places: Vec<Place>,
    /// Where the chain stands after them.
    pub(crate) state: ChainState,
    /// Length of header and good frames, bytes.
    pub(crate) good_len: u64,
    /// What follows.
    pub(crate) tail: Tail,
}

/// The attributes of a record that place it in its chain.
#[derive(Deserialize)]
struct Attributes<'a> {
    sequence: &'a str,
    prevdigest: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// Reads a segment's bytes.
pub(crate) fn scan(bytes: &[u8]) -> Result<Scan, HeaderError> {
    let header = Header::decode(bytes)?;
    let mut state = header.state;
    let mut places = Vec::new();
    let mut at = HEADER_LEN;
    let tail = loop {
        if at == bytes.len() {
            break Tail::Clean;
        }
        let Some((_, record)) = frame_at(bytes, at) else {
            break if counted_as_durable(bytes, at) {
                Tail::Damaged { reason: "a frame that was durable is not readable" }
            } else {
                Tail::Torn
            };
        };
        let Some(after) = follow(state, record) else {
            break Tail::Damaged { reason: "a record does not follow the one before" };
        };
        places.push(Place { at: (at + FRAME_HEADER_LEN) as u64, len: record.len() as u32 });
        state = after;
        at += FRAME_HEADER_LEN + record.len();
    };
    Ok(Scan { header, places, state, good_len: at as u64, tail })
}

/// The frame at `at`: how much was durable when it was written, and its record.
fn frame_at(bytes: &[u8], at: usize) -> Option<(u64, &[u8])> {
    let head = bytes.get(at..at + FRAME_HEADER_LEN)?;
    let len = u32_at(head, 4) as usize;
    if &head[..4] != MARKER || len > RECORD_LEN_MAX {
        return None;
    }
    let record = bytes.get(at + FRAME_HEADER_LEN..at + FRAME_HEADER_LEN + len)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head[4..16]), record);
    (checksum == u32_at(head, 16)).then(|| (u64_at(head, 8), record))
}

/// Whether a good frame after `bad` counts the byte at `bad` as durable.
fn counted_as_durable(bytes: &[u8], bad: usize) -> bool {
    let starts = (bad + 1..bytes.len().saturating_sub(FRAME_HEADER_LEN - 1)).filter(|&at| bytes[at] == MARKER[0]);
    starts.filter_map(|at| frame_at(bytes, at)).any(|(durable, _)| durable > bad as u64)
}

/// The chain's state after a record, if the record follows it.
pub(crate) fn follow(state: ChainState, record: &[u8]) -> Option<ChainState> {
    let attributes: Attributes<'_> = serde_json::from_slice(record).ok()?;
    let fits = attributes.sequence.parse() == Ok(state.next) && attributes.prevdigest.parse() == Ok(state.prev);
    fits.then(|| state.after(Digest::leaf(record), attributes.kind == RecordType::StreamHead.as_str()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("invariant: four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("invariant: eight bytes"))
}

#[cfg(test)]
mod tests;
