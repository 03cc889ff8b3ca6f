//! A capture's bytes, decompressed where they are compressed, counted, and bounded.

use std::io::{self, Read};

use zlib_rs::{Inflate, InflateFlush, Status};

use super::CaptureError;
use super::limits::BYTES_MAX;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// zlib's way of saying: a gzip header, and a window as large as any.
const GZIP_WINDOW_BITS: u8 = 15 + 16;
const BUFFER_BYTES: usize = 32 << 10;

/// Bytes that can be taken in order.
pub(super) struct Input<'a> {
    source: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    /// What of the buffer has not been taken.
    start: usize,
    end: usize,
    /// Bytes taken so far.
    taken: u64,
}

/// How a wanted piece came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// Whole.
    All,
    /// There was nothing more: a clean end.
    Nothing,
    /// Some of it, then the end.
    Part,
}

impl<'a> Input<'a> {
    /// Looks at the first bytes for a compression.
    pub(super) fn new(source: Box<dyn Read + 'a>) -> Result<Input<'a>, CaptureError> {
        let mut input = Input::plain(source);
        let begins = input.peek(4)?;
        let (is_gzip, is_zstd) = (begins.starts_with(&GZIP_MAGIC), begins == ZSTD_MAGIC);
        if is_gzip {
            Ok(Input::plain(Box::new(Gzip::new(Box::new(input)))))
        } else if is_zstd {
            Ok(Input::plain(Box::new(Zstd { source: input, frame: None })))
        } else {
            Ok(input)
        }
    }

    fn plain(source: Box<dyn Read + 'a>) -> Input<'a> {
        Input { source, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, taken: 0 }
    }

    /// Where the next byte stands.
    pub(super) fn offset(&self) -> u64 {
        self.taken
    }

    /// The next bytes, not taken; fewer at the end. No more than [`BUFFER_BYTES`].
    pub(super) fn peek(&mut self, wanted: usize) -> Result<&[u8], CaptureError> {
        while self.end - self.start < wanted && self.fill()? {}
        Ok(&self.buffer[self.start..self.end.min(self.start + wanted)])
    }

    /// Takes exactly as many as `into` has.
    pub(super) fn exact(&mut self, into: &mut [u8]) -> Result<Got, CaptureError> {
        let mut done = 0;
        while done < into.len() {
            if self.start == self.end && !self.fill()? {
                return Ok(if done == 0 { Got::Nothing } else { Got::Part });
            }
            let count = (self.end - self.start).min(into.len() - done);
            into[done..done + count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.take(count);
            done += count;
        }
        Ok(Got::All)
    }

    /// Takes so many, allocating as they come: a length that lies costs nothing.
    pub(super) fn piece(&mut self, wanted: usize, into: &mut Vec<u8>) -> Result<Got, CaptureError> {
        into.clear();
        while into.len() < wanted {
            if self.start == self.end && !self.fill()? {
                return Ok(if into.is_empty() { Got::Nothing } else { Got::Part });
            }
            let count = (self.end - self.start).min(wanted - into.len());
            into.extend_from_slice(&self.buffer[self.start..self.start + count]);
            self.take(count);
        }
        Ok(Got::All)
    }

    /// Passes over so many.
    pub(super) fn skip(&mut self, mut wanted: u64) -> Result<Got, CaptureError> {
        while wanted > 0 {
            if self.start == self.end && !self.fill()? {
                return Ok(Got::Part);
            }
            let count = wanted.min((self.end - self.start) as u64);
            self.take(count as usize);
            wanted -= count;
        }
        Ok(Got::All)
    }

    /// Takes a line without its end; `Part` when its end is missing, and when it is longer than `max`.
    pub(super) fn line(&mut self, max: usize, into: &mut Vec<u8>) -> Result<Got, CaptureError> {
        into.clear();
        loop {
            if self.start == self.end && !self.fill()? {
                return Ok(if into.is_empty() { Got::Nothing } else { Got::Part });
            }
            let rest = &self.buffer[self.start..self.end];
            let found = rest.iter().position(|byte| *byte == b'\n');
            let count = found.unwrap_or(rest.len());
            if into.len() + count > max {
                return Ok(Got::Part);
            }
            into.extend_from_slice(&rest[..count]);
            self.take(count + usize::from(found.is_some()));
            if found.is_some() {
                return Ok(Got::All);
            }
        }
    }

    fn take(&mut self, count: usize) {
        self.start += count;
        self.taken += count as u64;
    }

    /// More bytes into the buffer; false at the end.
    fn fill(&mut self) -> Result<bool, CaptureError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let offset = self.taken + self.end as u64;
        if offset > BYTES_MAX {
            return Err(CaptureError::TooLong { what: "the capture", offset: 0, bytes: offset, max: BYTES_MAX });
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Compressed bytes that stop in the middle are a capture that stops in the middle.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(CaptureError::Compressed { offset, what: error.to_string() });
                }
                Err(source) => return Err(CaptureError::Io { offset, source }),
            }
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            self.fill().map_err(io::Error::other)?;
        }
        let count = (self.end - self.start).min(into.len());
        into[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.take(count);
        Ok(count)
    }
}

/// gzip, several members one after another as one.
struct Gzip<'a> {
    source: Box<Input<'a>>,
    member: Inflate,
    /// Has this member given or taken anything?
    has_begun: bool,
}

impl<'a> Gzip<'a> {
    fn new(source: Box<Input<'a>>) -> Gzip<'a> {
        Gzip { source, member: Inflate::new(true, GZIP_WINDOW_BITS), has_begun: false }
    }
}

impl Read for Gzip<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.source.peek(1).map_err(io::Error::other)?;
            if input.is_empty() {
                return if self.has_begun { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(0) };
            }
            let input = &self.source.buffer[self.source.start..self.source.end];
            let (before_in, before_out) = (self.member.total_in(), self.member.total_out());
            let status = self
                .member
                .decompress(input, into, InflateFlush::NoFlush)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("gzip: {}", error.as_str())))?;
            let used = (self.member.total_in() - before_in) as usize;
            let made = (self.member.total_out() - before_out) as usize;
            Input::take(&mut self.source, used);
            self.has_begun |= used > 0;
            if status == Status::StreamEnd {
                self.member = Inflate::new(true, GZIP_WINDOW_BITS);
                self.has_begun = false;
            }
            if made > 0 {
                return Ok(made);
            }
            if used == 0 && status != Status::StreamEnd {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "gzip: no progress"));
            }
        }
    }
}

/// zstd, several frames one after another as one, as [`super::Writer`] makes them.
struct Zstd<'a> {
    source: Input<'a>,
    frame: Option<ruzstd::decoding::FrameDecoder>,
}

impl Read for Zstd<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(frame) = &mut self.frame else {
                if self.source.peek(1).map_err(io::Error::other)?.is_empty() {
                    return Ok(0);
                }
                let mut frame = ruzstd::decoding::FrameDecoder::new();
                frame.reset(&mut self.source).map_err(|error| broken(&error))?;
                self.frame = Some(frame);
                continue;
            };
            if frame.can_collect() == 0 && !frame.is_finished() {
                // One block at a time, so that what is held back stays small.
                let strategy = ruzstd::decoding::BlockDecodingStrategy::UptoBlocks(1);
                frame.decode_blocks(&mut self.source, strategy).map_err(|error| broken(&error))?;
            }
            let count = frame.read(into)?;
            if count > 0 {
                return Ok(count);
            }
            if frame.is_finished() {
                if frame.get_checksum_from_data().is_some_and(|said| frame.get_calculated_checksum() != Some(said)) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "zstd: the checksum does not match"));
                }
                self.frame = None;
            }
        }
    }
}

/// Bytes that end in the middle are told from bytes that are wrong.
fn broken(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::UnexpectedEof
        {
            return io::ErrorKind::UnexpectedEof.into();
        }
        cause = inner.source();
    }
    io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {error}"))
}
