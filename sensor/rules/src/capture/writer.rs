//! Writing captures in Cairn's format (`CAPTURE.md`).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde::{Deserialize, Serialize};
use zlib_rs::{Deflate, DeflateFlush, Status};

use super::limits::LINE_BYTES_MAX;
use crate::container::Container;
use crate::engine::Names;
use crate::event::{Event, Process, Text};

/// The version of the format that is written here, and the only one that is read.
pub(super) const VERSION: u64 = 1;
/// Lines are compressed and handed on in pieces of so many bytes: what a crash loses, at most.
const PIECE_BYTES: usize = 256 << 10;
const GZIP_WINDOW_BITS: u8 = 15 + 16;
const GZIP_LEVEL: i32 = 6;

/// How a capture's bytes are made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, each piece a member of its own.
    Gzip,
    /// zstd, each piece a frame of its own.
    Zstd,
}

impl Compression {
    /// What a file's name asks for: `.zst`, `.gz`, or nothing.
    #[must_use]
    pub fn of_name(name: &str) -> Compression {
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("zst") => Compression::Zstd,
            Some("gz") => Compression::Gzip,
            _ => Compression::None,
        }
    }
}

/// Events that happened and are not in the capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Where they were lost, in the recorder's words.
    pub cause: String,
    /// Which: a family of events.
    pub family: String,
    /// How many.
    pub lost: u64,
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// The format's version; being the first key it is the file's mark.
    pub(super) cairn_capture: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<String>,
    /// What wrote it.
    #[serde(default)]
    pub(super) recorded_by: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) users: BTreeMap<u32, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) groups: BTreeMap<u32, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) hosts: BTreeMap<IpAddr, Vec<String>>,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    Seed(Box<Seed>),
    Container(Box<About>),
    Event(Event),
    End(End),
}

/// A process that ran when the capture began.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seed {
    pub(super) pid: u32,
    pub(super) process: Process,
}

/// What is known of a container.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) id: Text,
    pub(super) about: Container,
}

/// The last line: without it the capture was cut.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) events: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) lost: Vec<Loss>,
}

/// Writes a capture: header and processes at once, then events as they come, then [`Writer::finish`].
///
/// What it writes is complete up to the last piece handed on, so a recorder that is killed leaves a capture that can be used.
pub struct Writer<W: Write> {
    output: W,
    compression: Compression,
    piece: Vec<u8>,
    events: u64,
    too_long: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header and the processes that run now.
    ///
    /// # Errors
    /// The output fails.
    pub fn new(
        output: W,
        compression: Compression,
        recorded_by: &str,
        names: &Names,
        seeds: impl IntoIterator<Item = (u32, Process)>,
    ) -> io::Result<Writer<W>> {
        let mut writer = Writer { output, compression, piece: Vec::new(), events: 0, too_long: 0 };
        let header = Header {
            cairn_capture: VERSION,
            hostname: names.hostname.clone(),
            recorded_by: recorded_by.to_owned(),
            users: names.users.iter().map(|(id, name)| (*id, name.clone())).collect(),
            groups: names.groups.iter().map(|(id, name)| (*id, name.clone())).collect(),
            hosts: names.hosts.iter().map(|(address, names)| (*address, names.clone())).collect(),
        };
        writer.line(&header)?;
        let containers: BTreeMap<&Text, &Container> = names.containers.iter().collect();
        for (id, about) in containers {
            writer.line(&Line::Container(Box::new(About { id: id.clone(), about: about.clone() })))?;
        }
        for (pid, process) in seeds {
            writer.line(&Line::Seed(Box::new(Seed { pid, process })))?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Writes one event. One whose line would be longer than [`LINE_BYTES_MAX`] is counted as lost.
    ///
    /// # Errors
    /// The output fails.
    pub fn event(&mut self, event: Event) -> io::Result<()> {
        if self.line(&Line::Event(event))? {
            self.events += 1;
        } else {
            self.too_long += 1;
        }
        Ok(())
    }

    /// Events written so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Hands on what is held back, so that a reader sees it.
    ///
    /// # Errors
    /// The output fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.hand_on()?;
        self.output.flush()
    }

    /// Writes the last line, with what was lost, and gives the output back.
    ///
    /// # Errors
    /// The output fails.
    pub fn finish(mut self, mut lost: Vec<Loss>) -> io::Result<W> {
        if self.too_long > 0 {
            let cause = "longer than a line may be".to_owned();
            lost.push(Loss { cause, family: "any".to_owned(), lost: self.too_long });
        }
        let end = End { events: self.events, lost };
        self.line(&Line::End(end))?;
        self.flush()?;
        Ok(self.output)
    }

    /// False when the line would be too long.
    fn line(&mut self, line: &impl Serialize) -> io::Result<bool> {
        let start = self.piece.len();
        serde_json::to_writer(&mut self.piece, line)?;
        if self.piece.len() - start > LINE_BYTES_MAX {
            self.piece.truncate(start);
            return Ok(false);
        }
        self.piece.push(b'\n');
        if self.piece.len() >= PIECE_BYTES {
            self.hand_on()?;
        }
        Ok(true)
    }

    fn hand_on(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        match self.compression {
            Compression::None => self.output.write_all(&self.piece)?,
            Compression::Gzip => self.output.write_all(&gzip(&self.piece)?)?,
            Compression::Zstd => {
                self.output.write_all(&compress_to_vec(self.piece.as_slice(), CompressionLevel::Fastest))?;
            }
        }
        self.piece.clear();
        Ok(())
    }
}

/// One member.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut member = Deflate::new(GZIP_LEVEL, true, GZIP_WINDOW_BITS);
    let mut out = Vec::new();
    let mut room = vec![0; PIECE_BYTES];
    loop {
        let (used, made) = (member.total_in() as usize, member.total_out());
        let status = member
            .compress(&bytes[used..], &mut room, DeflateFlush::Finish)
            .map_err(|error| io::Error::other(error.as_str()))?;
        out.extend_from_slice(&room[..(member.total_out() - made) as usize]);
        if status == Status::StreamEnd {
            return Ok(out);
        }
    }
}

/// All of it in one piece.
#[cfg(test)]
pub(super) fn tests_compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => gzip(bytes).unwrap(),
        Compression::Zstd => compress_to_vec(bytes, CompressionLevel::Fastest),
    }
}
