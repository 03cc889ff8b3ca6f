//! A segment of the index: what up to 65,536 consecutive records are found by, in one immutable file.
//!
//! | bytes | |
//! |---|---|
//! | 0–7 | `CAIRNIDX` |
//! | 8–11 | version: 1 |
//! | 12–15 | CRC-32C of the file with these four bytes zero |
//! | 16–23 | index of the first record |
//! | 24–27 | how many records |
//! | 28–31 | how many terms |
//! | 32–63 | SHA-256 of the volume's origin |
//! | 64–95 | root of the tree that ends with the last of them |
//! | 96– | of each bundle of 256: earliest and latest time, nanoseconds |
//! | – | terms, sorted by field and value |
//!
//! A term: field, length of the value, value, encoding (0 list, 1 bitmap), how many records, length of what follows, that; for a
//! stream, lowest and highest sequence before it. A list is the distances between records, less one, as LEB128. Whichever is shorter is
//! written.

use std::collections::HashMap;

use cairn_schemas::digest::Digest;
use cairn_schemas::time::Timestamp;

use super::query::Query;
use super::terms::{Field, Seen, cut};
use crate::tile::TILE_WIDTH;

/// Records in a full segment.
pub(super) const SEGMENT_RECORDS: u64 = 65_536;
/// Longest segment file that is read: many times what a full one has.
pub(super) const SEGMENT_FILE_LEN_MAX: u64 = 256 << 20;

const MAGIC: &[u8; 8] = b"CAIRNIDX";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 96;
const LIST: u8 = 0;
const BITMAP: u8 = 1;
const BITMAP_LEN: usize = SEGMENT_RECORDS as usize / 8;

/// A set of a segment's records.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Set(Box<[u64; SEGMENT_RECORDS as usize / 64]>);

impl Set {
    pub(super) fn empty() -> Set {
        Set(Box::new([0; SEGMENT_RECORDS as usize / 64]))
    }

    fn full(count: u32) -> Set {
        let mut set = Set::empty();
        (0..count).for_each(|offset| set.insert(offset as u16));
        set
    }

    fn insert(&mut self, offset: u16) {
        self.0[usize::from(offset) / 64] |= 1 << (offset % 64);
    }

    fn remove_bundle(&mut self, bundle: usize) {
        let words = TILE_WIDTH as usize / 64;
        self.0[bundle * words..(bundle + 1) * words].fill(0);
    }

    fn unite(&mut self, other: &Set) {
        self.0.iter_mut().zip(&*other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    fn intersect(&mut self, other: &Set) {
        self.0.iter_mut().zip(&*other.0).for_each(|(mine, theirs)| *mine &= theirs);
    }

    /// The offsets, rising.
    pub(super) fn offsets(&self) -> Vec<u16> {
        let mut offsets = Vec::new();
        for (word, bits) in self.0.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                offsets.push((word * 64) as u16 + bits.trailing_zeros() as u16);
                bits &= bits - 1;
            }
        }
        offsets
    }
}

/// A segment that was read or made.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) root: Digest,
    times: Vec<(u64, u64)>,
    terms: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    field: Field,
    value: Box<str>,
    encoding: u8,
    count: u32,
    sequences: (u64, u64),
    postings: Box<[u8]>,
}

/// Why a file is not a segment that can be used: one word for a log.
pub(super) type NotASegment = &'static str;

impl Segment {
    /// One past the last record.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// The file's bytes.
    pub(super) fn to_bytes(&self, origin: &Digest) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + self.times.len() * 16 + self.terms.len() * 64);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&(self.terms.len() as u32).to_be_bytes());
        out.extend_from_slice(origin.as_bytes());
        out.extend_from_slice(self.root.as_bytes());
        for (earliest, latest) in &self.times {
            out.extend_from_slice(&earliest.to_be_bytes());
            out.extend_from_slice(&latest.to_be_bytes());
        }
        for term in &self.terms {
            out.push(term.field as u8);
            out.push(u8::try_from(term.value.len()).expect("invariant: values are cut"));
            out.extend_from_slice(term.value.as_bytes());
            out.push(term.encoding);
            out.extend_from_slice(&term.count.to_be_bytes());
            if term.field == Field::Stream {
                out.extend_from_slice(&term.sequences.0.to_be_bytes());
                out.extend_from_slice(&term.sequences.1.to_be_bytes());
            }
            out.extend_from_slice(&(term.postings.len() as u32).to_be_bytes());
            out.extend_from_slice(&term.postings);
        }
        let checksum = crc32c::crc32c(&out);
        out[12..16].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Reads a file's bytes.
    pub(super) fn read(mut bytes: Vec<u8>, origin: &Digest) -> Result<Segment, NotASegment> {
        let stored: [u8; 4] = bytes.get(12..16).and_then(|part| part.try_into().ok()).ok_or("too short")?;
        if !bytes.starts_with(MAGIC) {
            return Err("no segment");
        }
        if bytes[8..12] != VERSION.to_be_bytes() {
            return Err("of another version");
        }
        bytes[12..16].fill(0);
        if crc32c::crc32c(&bytes) != u32::from_be_bytes(stored) {
            return Err("damaged");
        }
        let mut rest = Rest(&bytes[16..]);
        let (first, count, terms_len) = (rest.u64()?, rest.u32()?, rest.u32()?);
        if rest.take(32)? != origin.as_bytes() {
            return Err("of another ledger");
        }
        let root = Digest::try_from(rest.take(32)?).map_err(|_| "too short")?;
        if count == 0 || u64::from(count) > SEGMENT_RECORDS || first % SEGMENT_RECORDS != 0 {
            return Err("of a range that no segment has");
        }
        let bundles = u64::from(count).div_ceil(TILE_WIDTH);
        let times = (0..bundles).map(|_| Ok((rest.u64()?, rest.u64()?))).collect::<Result<_, NotASegment>>()?;
        let mut terms = Vec::new();
        for _ in 0..terms_len {
            let field = Field::of(rest.u8()?).ok_or("of an unknown field")?;
            let value_len = usize::from(rest.u8()?);
            let value = std::str::from_utf8(rest.take(value_len)?).map_err(|_| "not text")?.into();
            let (encoding, count) = (rest.u8()?, rest.u32()?);
            let sequences = if field == Field::Stream { (rest.u64()?, rest.u64()?) } else { (0, 0) };
            let len = rest.u32()? as usize;
            let postings = rest.take(len)?.into();
            let known = encoding == LIST || (encoding == BITMAP && len == BITMAP_LEN);
            if !known {
                return Err("of an unknown encoding");
            }
            terms.push(Term { field, value, encoding, count, sequences, postings });
        }
        if !rest.0.is_empty() {
            return Err("too long");
        }
        Ok(Segment { first, count, root, times, terms })
    }

    fn terms_of(&self, field: Field) -> &[Term] {
        let from = self.terms.partition_point(|term| term.field < field);
        let to = self.terms.partition_point(|term| term.field <= field);
        &self.terms[from..to]
    }

    /// The records that may be what is asked for.
    pub(super) fn candidates(&self, query: &Query) -> Set {
        let mut found = Set::full(self.count);
        if !query.kinds.is_empty() {
            let wanted = |value: &str| query.kinds.iter().any(|kind| kind.as_str() == value);
            found.intersect(&self.with(Field::Type, wanted));
        }
        if let Some(stream) = &query.stream {
            found.intersect(&self.with(Field::Stream, |value| stream.takes(value)));
        }
        let texts = [(Field::Rule, &query.rule), (Field::Control, &query.control), (Field::Incident, &query.incident)];
        for (field, text) in texts {
            if let Some(text) = text {
                found.intersect(&self.with(field, |value| value == cut(text)));
            }
        }
        if let Some(since) = query.since {
            for (bundle, (_, latest)) in self.times.iter().enumerate() {
                if *latest < since.nanos() {
                    found.remove_bundle(bundle);
                }
            }
        }
        found
    }

    fn with(&self, field: Field, wanted: impl Fn(&str) -> bool) -> Set {
        let mut found = Set::empty();
        for term in self.terms_of(field).iter().filter(|term| wanted(&term.value)) {
            found.unite(&term.set());
        }
        found
    }

    /// The streams that have records here.
    pub(super) fn streams(&self) -> impl Iterator<Item = &str> {
        self.terms_of(Field::Stream).iter().map(|term| &*term.value)
    }

    /// The records of a stream here, where one of them may have this sequence; and the lowest sequence.
    pub(super) fn stream(&self, stream: &str, sequence: u64) -> Option<(u64, Vec<u16>)> {
        let terms = self.terms_of(Field::Stream);
        let term = &terms[terms.binary_search_by(|term| (*term.value).cmp(stream)).ok()?];
        let (lowest, highest) = term.sequences;
        (lowest..=highest).contains(&sequence).then(|| (lowest, term.set().offsets()))
    }
}

impl Term {
    fn set(&self) -> Set {
        let mut set = Set::empty();
        if self.encoding == BITMAP {
            let words = self.postings.as_chunks::<8>().0;
            set.0.iter_mut().zip(words).for_each(|(word, bytes)| *word = u64::from_be_bytes(*bytes));
            return set;
        }
        let (mut next, mut distance, mut shift) = (0_u32, 0_u32, 0);
        for byte in &self.postings {
            distance |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 != 0 {
                shift = (shift + 7).min(21);
                continue;
            }
            next = next.saturating_add(distance);
            // A checksum held, so this is what was written; a writer with a fault gives records that are read and not taken.
            if let Ok(offset) = u16::try_from(next) {
                set.insert(offset);
            }
            (next, distance, shift) = (next.saturating_add(1), 0, 0);
        }
        set
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], NotASegment> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, NotASegment> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, NotASegment> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("invariant: four bytes")))
    }

    fn u64(&mut self) -> Result<u64, NotASegment> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().expect("invariant: eight bytes")))
    }
}

/// A segment in the making.
pub(super) struct Builder {
    first: u64,
    count: u32,
    times: Vec<(u64, u64)>,
    terms: [HashMap<Box<str>, Postings>; Field::ALL.len()],
}

#[derive(Default)]
struct Postings {
    offsets: Vec<u16>,
    sequences: Option<(u64, u64)>,
}

impl Builder {
    pub(super) fn new(first: u64) -> Builder {
        Builder { first, count: 0, times: Vec::new(), terms: Default::default() }
    }

    /// Goes on with a segment that is not full.
    pub(super) fn resume(segment: &Segment) -> Builder {
        let mut builder = Builder::new(segment.first);
        (builder.count, builder.times) = (segment.count, segment.times.clone());
        for term in &segment.terms {
            let sequences = (term.field == Field::Stream).then_some(term.sequences);
            let postings = Postings { offsets: term.set().offsets(), sequences };
            builder.terms[term.field as usize].insert(term.value.clone(), postings);
        }
        builder
    }

    /// One past the last record.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Takes up the next record.
    pub(super) fn push(&mut self, record: &[u8]) {
        let offset = u16::try_from(self.count).expect("invariant: a segment ends at its limit");
        if u64::from(self.count) % TILE_WIDTH == 0 {
            self.times.push((u64::MAX, 0));
        }
        self.count += 1;
        let seen = Seen::read(record);
        let time = seen.as_ref().and_then(Seen::time).map(Timestamp::nanos);
        let (earliest, latest) = self.times.last_mut().expect("invariant: pushed with its first record");
        *earliest = (*earliest).min(time.unwrap_or(0));
        *latest = (*latest).max(time.unwrap_or(u64::MAX));
        let Some(seen) = seen else { return };
        for field in Field::ALL {
            for value in seen.values(field) {
                let (value, terms) = (cut(value), &mut self.terms[field as usize]);
                if !terms.contains_key(value) {
                    terms.insert(value.into(), Postings::default());
                }
                let postings = terms.get_mut(value).expect("invariant: just put there");
                if postings.offsets.last() != Some(&offset) {
                    postings.offsets.push(offset);
                }
                if field == Field::Stream
                    && let Some(sequence) = seen.sequence()
                {
                    let (lowest, highest) = postings.sequences.unwrap_or((sequence, sequence));
                    postings.sequences = Some((lowest.min(sequence), highest.max(sequence)));
                }
            }
        }
    }

    /// The segment; `root`: of the tree that ends with its last record.
    pub(super) fn finish(self, root: Digest) -> Segment {
        let mut terms: Vec<Term> = Vec::new();
        for (field, values) in Field::ALL.into_iter().zip(self.terms) {
            terms.extend(values.into_iter().map(|(value, postings)| postings.term(field, value)));
        }
        terms.sort_unstable_by(|a, b| (a.field, &a.value).cmp(&(b.field, &b.value)));
        Segment { first: self.first, count: self.count, root, times: self.times, terms }
    }
}

impl Postings {
    fn term(self, field: Field, value: Box<str>) -> Term {
        let count = self.offsets.len() as u32;
        let mut list = Vec::with_capacity(self.offsets.len());
        let mut next = 0_u32;
        for offset in &self.offsets {
            let mut distance = u32::from(*offset) - next;
            while distance > 0x7f {
                list.push((distance & 0x7f) as u8 | 0x80);
                distance >>= 7;
            }
            list.push(distance as u8);
            next = u32::from(*offset) + 1;
        }
        let (encoding, postings) = if list.len() <= BITMAP_LEN {
            (LIST, list)
        } else {
            let mut set = Set::empty();
            self.offsets.iter().for_each(|offset| set.insert(*offset));
            (BITMAP, set.0.iter().flat_map(|word| word.to_be_bytes()).collect())
        };
        let sequences = self.sequences.unwrap_or((0, 0));
        Term { field, value, encoding, count, sequences, postings: postings.into() }
    }
}
