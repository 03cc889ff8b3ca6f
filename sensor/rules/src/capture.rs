//! Captures: what happened on a machine, in a file, to be replayed against rules.
//!
//! [`read`] (or [`open`], of bytes) tells by the first bytes what a capture is: Cairn's own (`CAPTURE.md`), or a `.scap` of Falco's or
//! sysdig's, each plain, gzip or zstd. A [`Capture`] gives the machine's processes and names as they were when it began, then
//! [`Event`]s in the order in which they stand.
//!
//! # What it is not
//! No file is opened here. No filter: every event that rules have a name for is handed on, and the others are counted.
//!
//! # What it trusts
//! Nothing. Every length is checked against what is there before anything is allocated, tables have budgets, and expanded bytes a
//! bound ([`limits`]). A capture that ends in the middle is used up to there, and [`Summary::truncated_at`] says where; one that
//! contradicts itself ends with an error that names the byte.

mod expand;
pub mod limits;
mod lines;
mod scap;
mod writer;

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::engine::Names;
use crate::event::{Event, Process};

use expand::Input;
pub use writer::{Compression, Loss, Writer};

/// A capture that is being read: an iterator over its events.
///
/// After the last event, or after an error, it gives `None` for good, and [`Capture::summary`] says how it ended.
pub struct Capture<'a> {
    format: Format,
    names: Names,
    seeds: Vec<(u32, Process)>,
    summary: Summary,
    inner: Inner<'a>,
    has_ended: bool,
}

enum Inner<'a> {
    Lines(lines::Lines<'a>),
    Scap(Box<scap::Scap<'a>>),
}

/// Whose format a capture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Cairn's own: JSON Lines, `CAPTURE.md`.
    Cairn,
    /// Falco's and sysdig's.
    Scap,
}

/// What has been read so far, and what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events handed on.
    pub events: u64,
    /// Events left out because rules have no name for them, by a word for what they are.
    pub skipped: BTreeMap<String, u64>,
    /// Processes and descriptors that did not fit the reader's tables ([`limits::TABLE_BYTES_MAX`]).
    pub refused: u64,
    /// What the recorder says it lost.
    pub lost: Vec<Loss>,
    /// The capture ends in the middle: the first byte, counted after decompression, that could not be used.
    pub truncated_at: Option<u64>,
}

/// Why a capture cannot be read, or not further. Offsets count bytes after decompression.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The first bytes are those of no capture.
    #[error("this is no capture: it begins with {begins}, not as Cairn's captures or Falco's do")]
    Unknown {
        /// The first bytes.
        begins: String,
    },
    /// It ends before its first event could be found.
    #[error("the capture ends at byte {offset}, within its header")]
    NoHeader {
        /// Where.
        offset: u64,
    },
    /// Another version wrote it.
    #[error("the capture has version {found}, and this program reads version {known}")]
    Version {
        /// What it says.
        found: u64,
        /// What is known.
        known: u64,
    },
    /// Something is longer than any true one.
    #[error("{what} at byte {offset} has {bytes} bytes, more than {max}")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Where.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// A line of Cairn's format is not what it should be.
    #[error("line {line} (byte {offset})")]
    Line {
        /// Which, the header being 1.
        line: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A line of Cairn's format stands where it must not.
    #[error("line {line} (byte {offset}): {what}")]
    Order {
        /// Which, the header being 1.
        line: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A block of a `.scap` contradicts itself.
    #[error("block 0x{block:x}, byte {offset}: {what}")]
    Block {
        /// The block's type.
        block: u32,
        /// Where the contradiction stands.
        offset: u64,
        /// What it is.
        what: &'static str,
    },
    /// Compressed bytes are not what their format says.
    #[error("compressed bytes are broken after {offset} bytes were expanded: {what}")]
    Compressed {
        /// How much came out.
        offset: u64,
        /// What the decompressor says.
        what: String,
    },
    /// The bytes cannot be read.
    #[error("reading stopped at byte {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens a capture that lies in memory.
///
/// # Errors
/// It is no capture, or is broken before its first event.
pub fn open(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    read(bytes)
}

/// Opens a capture: reads its header and tables, up to the first event.
///
/// # Errors
/// It is no capture, or is broken before its first event, or cannot be read.
pub fn read<'a>(source: impl Read + 'a) -> Result<Capture<'a>, CaptureError> {
    let mut input = Input::new(Box::new(source))?;
    let begins = input.peek(4)?;
    let mut capture = Capture {
        format: Format::Cairn,
        names: Names::default(),
        seeds: Vec::new(),
        summary: Summary::default(),
        inner: Inner::Lines(lines::Lines::default()),
        has_ended: false,
    };
    if begins == scap::MAGIC {
        capture.format = Format::Scap;
        let mut scap = scap::Scap::open(input, &mut capture.summary)?;
        (capture.names, capture.seeds) = scap.take_tables();
        capture.inner = Inner::Scap(Box::new(scap));
    } else if begins.first() == Some(&b'{') {
        let (lines, header) = lines::Lines::open(input, &mut capture.summary)?;
        (capture.names, capture.seeds) = header;
        capture.inner = Inner::Lines(lines);
    } else if begins.is_empty() {
        return Err(CaptureError::NoHeader { offset: 0 });
    } else {
        return Err(CaptureError::Unknown { begins: format!("{}", begins.escape_ascii()) });
    }
    Ok(capture)
}

impl Capture<'_> {
    /// Whose format it has.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The machine's users, groups and name as far as the capture has them.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The processes that ran when it began, for [`crate::Engine::seed`].
    #[must_use]
    pub fn seeds(&self) -> &[(u32, Process)] {
        &self.seeds
    }

    /// What has been read so far; of the whole capture once the iterator has ended.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Iterator for Capture<'_> {
    type Item = Result<Event, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let next = match &mut self.inner {
            Inner::Lines(lines) => lines.next(&mut self.summary),
            Inner::Scap(scap) => scap.next(&mut self.summary),
        };
        match next {
            Ok(Some(event)) => {
                self.summary.events += 1;
                Some(Ok(event))
            }
            Ok(None) => {
                self.has_ended = true;
                None
            }
            Err(error) => {
                self.has_ended = true;
                Some(Err(error))
            }
        }
    }
}

impl Summary {
    fn skip(&mut self, what: &str) {
        match self.skipped.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                self.skipped.insert(what.to_owned(), 1);
            }
        }
    }
}

impl std::fmt::Debug for Capture<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Capture")
            .field("format", &self.format)
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
