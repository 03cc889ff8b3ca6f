//! A trace: what the kernel programs wrote into their ring while a workload ran, to be decoded and matched again and again.
//!
//! A gzip file. Inside: parts, each a length (4 bytes, little-endian) and as many bytes. The first part is a [`Head`] in JSON, each further
//! one a record of the ring as `cairn_sensor_abi` lays it out.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::mem::offset_of;
use std::ops::Range;
use std::path::Path;

use bytemuck::pod_read_unaligned;
use cairn_rules::event::Process;
use cairn_sensor::kernel::{Context, Kind};
use cairn_sensor_abi::{FORMAT, Fork, Header};
use serde::{Deserialize, Serialize};

/// Bytes of a trace, unpacked.
const LEN_MAX: u64 = 64 << 20;

/// What the records do not say.
#[derive(Serialize, Deserialize)]
pub(crate) struct Head {
    /// What ran.
    pub(crate) workload: String,
    /// The layout of the records.
    pub(crate) format: u8,
    /// See [`Context`].
    pub(crate) boot_at_ns: u64,
    /// See [`Context`].
    pub(crate) host_mnt_ns: u32,
    /// Processes that were there before.
    pub(crate) seeds: Vec<(u32, Process)>,
}

/// See the module's description.
pub(crate) struct Trace {
    pub(crate) head: Head,
    bytes: Vec<u8>,
    records: Vec<Range<usize>>,
}

impl Trace {
    pub(crate) fn new(head: Head) -> Trace {
        Trace { head, bytes: Vec::new(), records: Vec::new() }
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.records.push(start..self.bytes.len());
    }

    pub(crate) fn read(path: &Path) -> Result<Trace, Box<dyn Error>> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(File::open(path)?).take(LEN_MAX).read_to_end(&mut bytes)?;
        let mut parts = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let len = bytes.get(at..at + 4).and_then(|len| <[u8; 4]>::try_from(len).ok()).ok_or("the trace is cut")?;
            let end = at + 4 + u32::from_le_bytes(len) as usize;
            if end > bytes.len() {
                return Err("the trace is cut".into());
            }
            parts.push(at + 4..end);
            at = end;
        }
        let mut parts = parts.into_iter();
        let head: Head = serde_json::from_slice(&bytes[parts.next().ok_or("the trace is empty")?])?;
        if head.format != FORMAT {
            return Err(format!("the trace has format {}, this build {FORMAT}: record it again", head.format).into());
        }
        Ok(Trace { head, records: parts.collect(), bytes })
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let mut out = flate2::write::GzEncoder::new(File::create(path)?, flate2::Compression::best());
        let head = serde_json::to_vec(&self.head)?;
        for part in std::iter::once(&head[..]).chain(self.records()) {
            out.write_all(&u32::try_from(part.len())?.to_le_bytes())?;
            out.write_all(part)?;
        }
        out.finish()?;
        Ok(())
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.records.iter().map(|range| &self.bytes[range.clone()])
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn context(&self) -> Context {
        Context {
            boot_at_ns: self.head.boot_at_ns,
            host_mnt_ns: self.head.host_mnt_ns,
            containerd_namespaces: Vec::new(),
        }
    }

    /// How long it took.
    pub(crate) fn span_ns(&self) -> u64 {
        let times = || self.records().map(|record| header(record).time_ns);
        times().max().unwrap_or_default() - times().min().unwrap_or_default()
    }

    /// Makes everything happen later, so that it can be played again: the processes are others under the same pids.
    pub(crate) fn shift(&mut self, ns: u64) {
        for range in &self.records {
            let record = &mut self.bytes[range.clone()];
            let is_fork = Kind::from_number(record[0]) == Some(Kind::Fork);
            let child = is_fork.then_some(offset_of!(Fork, child_start_ns));
            for at in
                [Some(offset_of!(Header, time_ns)), Some(offset_of!(Header, start_ns)), child].into_iter().flatten()
            {
                let field = &mut record[at..at + 8];
                let value: u64 = pod_read_unaligned(field);
                field.copy_from_slice(&(value + ns).to_ne_bytes());
            }
        }
    }
}

/// What a record begins with.
pub(crate) fn header(record: &[u8]) -> Header {
    pod_read_unaligned(&record[..size_of::<Header>()])
}
