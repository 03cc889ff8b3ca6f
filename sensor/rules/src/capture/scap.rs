//! Reading `.scap`: the captures of Falco and sysdig.
//!
//! A capture is a row of blocks: a type, a length, a body, the length again. First a section's header, which shows the byte order; then
//! lists (the machine, users, processes, their descriptors); then events. Facts about the format come from
//! falcosecurity/libs (`scap_savefile.h`, `scap_savefile.c`, `ppm_events_public.h`).
//!
//! Blocks of a type that is not known are passed over. Both byte orders are read, though libs reads only its own machine's.

mod convert;
mod cursor;
mod descriptors;
mod lists;
mod table;
mod tables;
mod values;

use super::expand::{Got, Input};
use super::limits::{EVENT_BYTES_MAX, LIST_BYTES_MAX, PARAMS_MAX};
use super::{CaptureError, Summary};
use crate::engine::Names;
use crate::event::{Event, Process};

use convert::Head;
use cursor::Cursor;
use lists::Version;
use tables::{Raw, Tables};

/// A section's header is of this type, which reads the same in both byte orders.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION: u32 = 0x0a0d_0d0a;
const ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// The only major version there is.
const MAJOR_VERSION: u64 = 1;
/// Type and length before a block's body.
const HEAD_BYTES: u64 = 8;
/// The length behind it.
const TAIL_BYTES: u64 = 4;
/// What the lengths of `notification` and `infra` were too large by in the first versions.
const EXTRA_BYTES_OF_OLD_NOTES: u32 = 3;

/// A `.scap` that is being read.
pub(super) struct Scap<'a> {
    input: Input<'a>,
    is_big: bool,
    boot_ns: u64,
    tables: Tables,
    names: Names,
    seeds: Vec<(u32, Process)>,
    /// The head of the first block of events, taken while the lists were read.
    ahead: Option<Block>,
    body: Vec<u8>,
}

/// A block's head.
#[derive(Debug, Clone, Copy)]
struct Block {
    kind: u32,
    /// Bytes of its body.
    length: u64,
    /// Where the body begins.
    offset: u64,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Section,
    Machine,
    Processes(Version),
    Descriptors { has_length: bool },
    Users { has_length: bool },
    Events { has_flags: bool, has_count: bool },
    Other,
}

impl Content {
    fn of(kind: u32) -> Content {
        match kind {
            SECTION => Content::Section,
            0x201 | 0x8002_abcd => Content::Machine,
            0x202 | 0x8000_abcd => Content::Processes(Version::V1),
            0x207 | 0x8013_abcd => Content::Processes(Version::V2),
            0x209 | 0x8014_abcd => Content::Processes(Version::V3),
            0x210 => Content::Processes(Version::V4),
            0x211 => Content::Processes(Version::V5),
            0x212 => Content::Processes(Version::V6),
            0x213 => Content::Processes(Version::V7),
            0x214 => Content::Processes(Version::V8),
            0x215 => Content::Processes(Version::V9),
            0x203 | 0x8001_abcd => Content::Descriptors { has_length: false },
            0x218 => Content::Descriptors { has_length: true },
            0x206 | 0x8012_abcd => Content::Users { has_length: false },
            0x220 => Content::Users { has_length: true },
            0x204 | 0x8010_abcd => Content::Events { has_flags: false, has_count: false },
            0x208 => Content::Events { has_flags: true, has_count: false },
            0x216 | 0x221 => Content::Events { has_flags: false, has_count: true },
            0x217 | 0x222 => Content::Events { has_flags: true, has_count: true },
            // 0x205, 0x219: the machine's network interfaces, which no field shows.
            _ => Content::Other,
        }
    }
}

impl<'a> Scap<'a> {
    /// Reads up to the first event.
    pub(super) fn open(input: Input<'a>, summary: &mut Summary) -> Result<Scap<'a>, CaptureError> {
        let mut scap = Scap {
            input,
            is_big: false,
            boot_ns: 0,
            tables: Tables::default(),
            names: Names::default(),
            seeds: Vec::new(),
            ahead: None,
            body: Vec::new(),
        };
        let mut magic = [0; 4];
        scap.input.exact(&mut magic)?;
        if !scap.section()? {
            return Err(CaptureError::NoHeader { offset: scap.input.offset() });
        }
        while let Some(block) = scap.head(summary)? {
            if let Content::Events { .. } = Content::of(block.kind) {
                scap.ahead = Some(block);
                break;
            }
            if !scap.list(block, summary)? {
                break;
            }
        }
        summary.refused += scap.tables.refused();
        scap.seeds = scap.tables.running();
        Ok(scap)
    }

    /// Names and processes as they were at the beginning.
    pub(super) fn take_tables(&mut self) -> (Names, Vec<(u32, Process)>) {
        (std::mem::take(&mut self.names), std::mem::take(&mut self.seeds))
    }

    /// The next event that rules have a name for; `None` at the end.
    pub(super) fn next(&mut self, summary: &mut Summary) -> Result<Option<Event>, CaptureError> {
        loop {
            let block = match self.ahead.take() {
                Some(block) => block,
                None => match self.head(summary)? {
                    Some(block) => block,
                    None => return Ok(None),
                },
            };
            let Content::Events { has_flags, has_count } = Content::of(block.kind) else {
                if !self.list(block, summary)? {
                    return Ok(None);
                }
                continue;
            };
            if !self.whole("an event", EVENT_BYTES_MAX, block, summary)? {
                return Ok(None);
            }
            let body = std::mem::take(&mut self.body);
            let refused = self.tables.refused();
            let event = self.event(&body, block, has_flags, has_count, summary);
            self.body = body;
            summary.refused += self.tables.refused() - refused;
            if let Some(event) = event? {
                return Ok(Some(event));
            }
        }
    }

    /// A section's header, its type taken already; false when the capture ends in it.
    fn section(&mut self) -> Result<bool, CaptureError> {
        let mut bytes = [0; 24];
        let offset = self.input.offset();
        if self.input.exact(&mut bytes)? != Got::All {
            return Ok(false);
        }
        let order = [bytes[4], bytes[5], bytes[6], bytes[7]];
        self.is_big = if u32::from_le_bytes(order) == ORDER_MAGIC {
            false
        } else if u32::from_be_bytes(order) == ORDER_MAGIC {
            true
        } else {
            return Err(CaptureError::Block {
                block: SECTION,
                offset: offset + 4,
                what: "the byte order's mark is wrong",
            });
        };
        let mut cursor = Cursor::new(&bytes, offset, SECTION, self.is_big);
        let length = cursor.u32()?;
        let _order = cursor.u32()?;
        let major = u64::from(cursor.u16()?);
        if major != MAJOR_VERSION {
            return Err(CaptureError::Version { found: major, known: MAJOR_VERSION });
        }
        let (_minor, _section_length) = (cursor.u16()?, cursor.u64()?);
        if u64::from(length) != 4 + 24 || cursor.u32()? != length {
            return Err(cursor.error("the section's header has another length than it has to have"));
        }
        Ok(true)
    }

    /// The next block's head; `None` at the end, and where the capture was cut.
    fn head(&mut self, summary: &mut Summary) -> Result<Option<Block>, CaptureError> {
        let mut bytes = [0; HEAD_BYTES as usize];
        let offset = self.input.offset();
        if self.input.peek(4)? == MAGIC {
            self.input.exact(&mut bytes[..4])?;
            let block = Block { kind: SECTION, length: 0, offset: offset + 4 };
            return Ok(Some(block));
        }
        match self.input.exact(&mut bytes)? {
            Got::All => {}
            Got::Nothing => return Ok(None),
            Got::Part => {
                summary.truncated_at = Some(offset);
                return Ok(None);
            }
        }
        let mut cursor = Cursor::new(&bytes, offset, 0, self.is_big);
        let (kind, length) = (cursor.u32()?, cursor.u32()?);
        let Some(length) = u64::from(length).checked_sub(HEAD_BYTES + TAIL_BYTES) else {
            return Err(CaptureError::Block {
                block: kind,
                offset: offset + 4,
                what: "its length is less than that of its head",
            });
        };
        Ok(Some(Block { kind, length, offset: offset + HEAD_BYTES }))
    }

    /// Takes a block's body and tail; false when the capture ends in it.
    fn whole(
        &mut self,
        what: &'static str,
        max: usize,
        block: Block,
        summary: &mut Summary,
    ) -> Result<bool, CaptureError> {
        if block.length > max as u64 {
            return Err(CaptureError::TooLong { what, offset: block.offset, bytes: block.length, max: max as u64 });
        }
        let is_whole = self.input.piece(block.length as usize, &mut self.body)? == Got::All || block.length == 0;
        Ok(is_whole && self.tail(block)? || self.cut(block, summary))
    }

    /// The length behind the body; false when the capture ends before it.
    fn tail(&mut self, block: Block) -> Result<bool, CaptureError> {
        let mut bytes = [0; TAIL_BYTES as usize];
        let offset = self.input.offset();
        if self.input.exact(&mut bytes)? != Got::All {
            return Ok(false);
        }
        let again = cursor::unsigned(&bytes, self.is_big);
        if again != block.length + HEAD_BYTES + TAIL_BYTES {
            let what = "the length behind it is not the one before it";
            return Err(CaptureError::Block { block: block.kind, offset, what });
        }
        Ok(true)
    }

    fn cut(&self, block: Block, summary: &mut Summary) -> bool {
        summary.truncated_at = Some(block.offset - HEAD_BYTES);
        false
    }

    /// Takes in a block that holds no event; false when the capture ends in it.
    fn list(&mut self, block: Block, summary: &mut Summary) -> Result<bool, CaptureError> {
        let content = Content::of(block.kind);
        match content {
            Content::Section => {
                // Captures can be joined: what follows is of another machine, or of another time.
                self.tables = Tables::default();
                return Ok(self.section()? || self.cut(Block { offset: block.offset + 4, ..block }, summary));
            }
            Content::Other | Content::Events { .. } => {
                let is_whole = self.input.skip(block.length)? == Got::All;
                return Ok(is_whole && self.tail(block)? || self.cut(block, summary));
            }
            Content::Machine | Content::Processes(_) | Content::Descriptors { .. } | Content::Users { .. } => {}
        }
        if !self.whole("a list", LIST_BYTES_MAX, block, summary)? {
            return Ok(false);
        }
        let body = std::mem::take(&mut self.body);
        let mut list = Cursor::new(&body, block.offset, block.kind, self.is_big);
        match content {
            Content::Machine => {
                let (hostname, boot_ns) = lists::machine(list)?;
                (self.names.hostname, self.boot_ns) = (hostname, boot_ns);
            }
            Content::Users { has_length } => lists::users(list, has_length, &mut self.names)?,
            Content::Processes(version) => {
                while let Some(thread) = lists::thread(&mut list, version)? {
                    if thread.tid == thread.pid {
                        self.tables.add_process(thread.pid, thread.process, None, false);
                    } else {
                        self.tables.add_thread(thread.tid, thread.pid);
                    }
                }
            }
            Content::Descriptors { has_length } => {
                let tid = lists::id(list.u64()?);
                while let Some(descriptor) = lists::descriptor(&mut list, has_length)? {
                    let (Some(tid), Some(number)) = (tid, descriptor.num) else { continue };
                    self.tables.hold(self.tables.pid_of(tid), number, descriptor, false);
                }
            }
            Content::Section | Content::Events { .. } | Content::Other => {}
        }
        self.body = body;
        Ok(true)
    }

    /// One event's body.
    fn event(
        &mut self,
        body: &[u8],
        block: Block,
        has_flags: bool,
        has_count: bool,
        summary: &mut Summary,
    ) -> Result<Option<Event>, CaptureError> {
        let mut cursor = Cursor::new(body, block.offset, block.kind, self.is_big);
        let cpu = cursor.u16()?;
        if has_flags {
            let _flags = cursor.u32()?;
        }
        let begins = cursor.taken();
        let (time_ns, tid, length, number) = (cursor.u64()?, cursor.u64()?, cursor.u32()?, cursor.u16()?);
        let said = if has_count { Some(cursor.u32()?) } else { None };
        if said.is_some_and(|count| count > PARAMS_MAX) {
            return Err(cursor.error("it has more parameters than any event"));
        }
        let Some(row) = table::event(number, said.unwrap_or(PARAMS_MAX)) else {
            summary.skip(&format!("number {number}"));
            return Ok(None);
        };
        let is_old_note = !has_count && row.event_type.is_some_and(|it| matches!(it.name(), "notification" | "infra"));
        let length = if is_old_note { length.saturating_sub(EXTRA_BYTES_OF_OLD_NOTES) } else { length };
        let Some(rest) = (length as usize).checked_sub(cursor.taken() - begins) else {
            return Err(cursor.error("its length is less than that of its head"));
        };
        let mut rest = cursor.part(rest)?;
        let width = if row.has_long_lengths { 4 } else { 2 };
        let count = match said {
            Some(count) => count as usize,
            None => count_of(rest, row.params.len(), width)?,
        };
        let mut lengths = rest.part(count * width)?;
        let mut params = Vec::with_capacity(count.min(row.params.len()));
        for place in 0..count {
            let length = if width == 4 { lengths.u32()? as usize } else { usize::from(lengths.u16()?) };
            let bytes = rest.bytes(length)?;
            // Parameters beyond the table are of a version newer than it.
            if let Some(param) = row.params.get(place) {
                params.push(Raw { name: param.name, kind: param.kind, bytes: bytes.into() });
            }
        }
        // Events that no thread made: what a plugin or the machine itself said.
        let tid = lists::id(tid).unwrap_or(0);
        let head = Head { time_ns, cpu, tid, is_big: self.is_big, boot_ns: self.boot_ns };
        let is_beginning = row.is_beginning();
        let event = convert::event(&mut self.tables, head, row, params);
        if event.is_none() && !is_beginning {
            summary.skip(if row.event_type.is_some() { "a system call without a name" } else { "half of no pair" });
        }
        Ok(event)
    }
}

/// How many parameters an event of the first versions has, which did not say so: as many as make its length come out.
fn count_of(rest: Cursor<'_>, most: usize, width: usize) -> Result<usize, CaptureError> {
    for count in (0..=most).rev() {
        let mut values = rest;
        let Ok(mut lengths) = values.part(count * width) else { continue };
        let mut sum = 0;
        for _ in 0..count {
            sum += if width == 4 { lengths.u32()? as usize } else { usize::from(lengths.u16()?) };
        }
        if sum == values.left() {
            return Ok(count);
        }
    }
    Err(rest.error("no number of parameters makes its length come out"))
}

/// Are the lengths of this event's parameters written with 32 bits?
#[cfg(test)]
pub(super) fn tests_has_long_lengths(number: u16) -> bool {
    table::event(number, 0).is_some_and(|row| row.has_long_lengths)
}

/// The names of an event's parameters.
#[cfg(test)]
pub(super) fn tests_params(number: u16) -> Vec<&'static str> {
    let row = table::event(number, 0).expect("a known event");
    row.params.iter().map(|param| param.name).collect()
}
