//! Reading Cairn's own format (`CAPTURE.md`): JSON Lines.

use std::collections::HashMap;

use super::expand::{Got, Input};
use super::limits::{LINE_BYTES_MAX, SEEDS_MAX, TABLE_BYTES_MAX};
use super::writer::{Header, Line, VERSION};
use super::{CaptureError, Summary};
use crate::engine::Names;
use crate::event::{Event, Process};

/// What stands before the events.
pub(super) type Tables = (Names, Vec<(u32, Process)>);

/// The lines after the header.
#[derive(Default)]
pub(super) struct Lines<'a> {
    input: Option<Input<'a>>,
    line: Vec<u8>,
    /// Lines taken so far.
    number: u64,
    /// Where the last taken line began.
    offset: u64,
    /// The first line that is no seed, taken while the seeds were read.
    ahead: Option<Line>,
}

impl<'a> Lines<'a> {
    /// Reads the header and the seeds.
    pub(super) fn open(input: Input<'a>, summary: &mut Summary) -> Result<(Lines<'a>, Tables), CaptureError> {
        let mut lines = Lines { input: Some(input), ..Lines::default() };
        if !lines.take(summary)? {
            return Err(CaptureError::NoHeader { offset: 0 });
        }
        let header: Header = lines.parse()?;
        if header.cairn_capture != VERSION {
            return Err(CaptureError::Version { found: header.cairn_capture, known: VERSION });
        }
        let mut names = Names {
            users: header.users.into_iter().collect(),
            groups: header.groups.into_iter().collect(),
            hostname: header.hostname,
            hosts: header.hosts.into_iter().collect(),
            containers: HashMap::new(),
        };
        let mut seeds = Vec::new();
        let mut bytes = 0;
        while lines.take(summary)? {
            bytes += lines.line.len();
            let has_room = bytes <= TABLE_BYTES_MAX;
            match lines.parse()? {
                Line::Seed(seed) if has_room && seeds.len() < SEEDS_MAX => seeds.push((seed.pid, seed.process)),
                Line::Container(line) if has_room && names.containers.len() < SEEDS_MAX => {
                    names.containers.insert(line.id, line.about);
                }
                Line::Seed(_) | Line::Container(_) => summary.refused += 1,
                other => {
                    lines.ahead = Some(other);
                    break;
                }
            }
        }
        Ok((lines, (names, seeds)))
    }

    /// The next event; `None` at the end.
    pub(super) fn next(&mut self, summary: &mut Summary) -> Result<Option<Event>, CaptureError> {
        let line = match self.ahead.take() {
            Some(line) => line,
            None if self.take(summary)? => self.parse()?,
            None => return Ok(None),
        };
        match line {
            Line::Event(event) => Ok(Some(event)),
            Line::Seed(_) | Line::Container(_) => {
                Err(self.out_of_order("what stood at the beginning is said after the first event"))
            }
            Line::End(end) => {
                if end.events != summary.events {
                    return Err(self.out_of_order("the last line does not count the events that stand before it"));
                }
                summary.lost = end.lost;
                match self.take(summary)? {
                    true => Err(self.out_of_order("a line follows the last one")),
                    false => {
                        // The end stands: nothing is missing.
                        summary.truncated_at = None;
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Takes a line; false when there is no whole one, which is where the capture was cut.
    fn take(&mut self, summary: &mut Summary) -> Result<bool, CaptureError> {
        let Some(input) = &mut self.input else { return Ok(false) };
        let offset = input.offset();
        match input.line(LINE_BYTES_MAX, &mut self.line)? {
            Got::All => {
                self.number += 1;
                self.offset = offset;
                Ok(true)
            }
            Got::Part if !input.peek(1)?.is_empty() => Err(CaptureError::TooLong {
                what: "a line",
                offset,
                bytes: self.line.len() as u64 + 1,
                max: LINE_BYTES_MAX as u64,
            }),
            Got::Part | Got::Nothing => {
                summary.truncated_at = Some(offset);
                Ok(false)
            }
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, CaptureError> {
        serde_json::from_slice(&self.line).map_err(|source| CaptureError::Line {
            line: self.number,
            offset: self.offset,
            source,
        })
    }

    fn out_of_order(&self, what: &'static str) -> CaptureError {
        CaptureError::Order { line: self.number, offset: self.offset, what }
    }
}
