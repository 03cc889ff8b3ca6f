//! What the disk can do at best: overwriting sectors that were written before, and waiting until they are there.
//!
//! Nothing that is durable can be faster than one `fdatasync`; nothing that is durable in groups of 256 records of 512 bytes can be faster
//! than one of 128 KiB per group.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use super::figure::{Figure, Unit, quantile};
use super::{Bench, BenchError, io_error};

/// The file that is overwritten, bytes.
const FILE_LEN: u64 = 16 << 20;
/// How long one size is measured.
const ROUND: Duration = Duration::from_millis(400);
/// What [`Probes::records`] is.
pub(crate) const GROUP: &str = "256 records in one write + fdatasync";
/// Records of [`GROUP_LEN`].
const GROUP_RECORDS: f64 = 256.0;
const BLOCK_LEN: usize = 4 << 10;
const GROUP_LEN: usize = 128 << 10;

/// Seconds of one overwrite with `fdatasync`.
pub(crate) struct Probe {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Of 128 KiB.
    pub(crate) group_p50: f64,
}

/// All repetitions.
#[derive(Default)]
pub(crate) struct Probes(Vec<Probe>);

impl Probes {
    /// Looks once more.
    pub(crate) fn take(&mut self, bench: &Bench) -> Result<(), BenchError> {
        let path = bench.path("probe");
        self.0.push(Probe::take(&path).map_err(io_error("write", &path))?);
        Ok(())
    }

    pub(crate) fn p50(&self) -> Vec<f64> {
        self.0.iter().map(|probe| probe.p50).collect()
    }

    pub(crate) fn p99(&self) -> Vec<f64> {
        self.0.iter().map(|probe| probe.p99).collect()
    }

    /// Records per second in groups of [`GROUP_RECORDS`].
    pub(crate) fn records(&self) -> Vec<f64> {
        self.0.iter().map(|probe| GROUP_RECORDS / probe.group_p50).collect()
    }
}

impl Probe {
    fn take(path: &std::path::Path) -> io::Result<Probe> {
        let file = File::create(path)?;
        file.write_all_at(&vec![0x5a; FILE_LEN as usize], 0)?;
        file.sync_all()?;
        let blocks = overwrite(&file, BLOCK_LEN)?;
        let groups = overwrite(&file, GROUP_LEN)?;
        Ok(Probe { p50: quantile(&blocks, 0.5), p99: quantile(&blocks, 0.99), group_p50: quantile(&groups, 0.5) })
    }
}

fn overwrite(file: &File, len: usize) -> io::Result<Vec<f64>> {
    let bytes = vec![0xa5; len];
    let mut times = Vec::new();
    let (started, mut offset) = (Instant::now(), 0);
    while started.elapsed() < ROUND {
        let asked = Instant::now();
        file.write_all_at(&bytes, offset)?;
        file.sync_data()?;
        times.push(asked.elapsed().as_secs_f64());
        offset = (offset + len as u64) % FILE_LEN;
    }
    Ok(times)
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let mut probes = Probes::default();
    for _ in 0..bench.repeat {
        probes.take(bench)?;
    }
    Ok(vec![
        Figure::new("disk: overwrite 4 KiB + fdatasync, p50", Unit::Time, probes.p50()),
        Figure::new("disk: overwrite 4 KiB + fdatasync, p99", Unit::Time, probes.p99()),
        Figure::new(
            "disk: overwrite 4 KiB + fdatasync, one after another",
            Unit::PerSecond,
            probes.p50().iter().map(|seconds| 1.0 / seconds).collect(),
        ),
        Figure::new("disk: records of 512 B, 256 per 128 KiB + fdatasync", Unit::PerSecond, probes.records()),
    ])
}
