//! A node's spool: a decision is sealed and durable on the node's own disk.

use super::disk::{GROUP, Probes};
use super::figure::{Figure, Unit};
use super::ledger::Runs;
use super::{Bench, BenchError};

/// Seconds of one repetition.
const SECONDS: &str = "2";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let mut probes = Probes::default();
    let (mut one, mut many) = (Runs::new(), Runs::new());
    let run = |threads: &str| {
        let folder = bench.fresh("spool");
        bench.example("bench_spool", &[folder.as_os_str(), threads.as_ref(), SECONDS.as_ref()])
    };
    for _ in 0..bench.repeat {
        probes.take(bench)?;
        one.add(run("1")?);
        many.add(run("64")?);
    }
    let sync = "one fdatasync";
    Ok(vec![
        Figure::new("spool: durable record, 1 thread, p50", Unit::Time, one.all("p50")?).beside(sync, probes.p50()),
        Figure::new("spool: durable record, 1 thread, p99", Unit::Time, one.all("p99")?).beside(sync, probes.p99()),
        Figure::new("spool: durable records, 64 threads", Unit::PerSecond, many.all("per_second")?)
            .beside(GROUP, probes.records()),
        Figure::new("spool: durable record, 64 threads, p50", Unit::Time, many.all("p50")?).beside(sync, probes.p50()),
        Figure::new("spool: durable record, 64 threads, p99", Unit::Time, many.all("p99")?).beside(sync, probes.p99()),
    ])
}
