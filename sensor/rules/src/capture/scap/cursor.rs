//! Taking numbers and texts out of a block, in the byte order of the machine that wrote it.

use super::super::CaptureError;

/// A block's bytes, and how far they have been taken.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the bytes begin in the capture.
    base: u64,
    block: u32,
    is_big: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], base: u64, block: u32, is_big: bool) -> Cursor<'a> {
        Cursor { bytes, at: 0, base, block, is_big }
    }

    pub(super) fn is_big(&self) -> bool {
        self.is_big
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn taken(&self) -> usize {
        self.at
    }

    /// Takes so many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], CaptureError> {
        if count > self.left() {
            return Err(self.error("it ends in the middle of a value"));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// A part of it, as a cursor of its own.
    pub(super) fn part(&mut self, count: usize) -> Result<Cursor<'a>, CaptureError> {
        let base = self.base + self.at as u64;
        Ok(Cursor { bytes: self.bytes(count)?, at: 0, base, ..*self })
    }

    pub(super) fn u8(&mut self) -> Result<u8, CaptureError> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, CaptureError> {
        Ok(self.unsigned(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CaptureError> {
        Ok(self.unsigned(4)? as u32)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CaptureError> {
        self.unsigned(8)
    }

    fn unsigned(&mut self, count: usize) -> Result<u64, CaptureError> {
        let is_big = self.is_big;
        Ok(unsigned(self.bytes(count)?, is_big))
    }

    /// A text with its length before it, 16 bits.
    pub(super) fn text(&mut self) -> Result<&'a [u8], CaptureError> {
        let count = self.u16()?;
        self.bytes(usize::from(count))
    }

    pub(super) fn error(&self, what: &'static str) -> CaptureError {
        CaptureError::Block { block: self.block, offset: self.base + self.at as u64, what }
    }
}

/// A number of up to eight bytes.
pub(super) fn unsigned(bytes: &[u8], is_big: bool) -> u64 {
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    if is_big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
}

/// The same, its highest bit being its sign.
pub(super) fn signed(bytes: &[u8], is_big: bool) -> i64 {
    let number = unsigned(bytes, is_big);
    match bytes.len() {
        0 => 0,
        count @ 1..8 => {
            let unused = 64 - 8 * count as u32;
            ((number << unused) as i64) >> unused
        }
        _ => number as i64,
    }
}
