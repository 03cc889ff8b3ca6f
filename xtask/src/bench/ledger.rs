//! The ledger: durable appends, checkpoints, recovery.

use super::disk::{GROUP, Probes};
use super::figure::{Figure, Unit};
use super::{Bench, BenchError, Printed};

/// Seconds of one repetition.
const SECONDS: &str = "2";
/// Records in the log and in no tile: about as many as one segment of it holds. Unread segments are written again.
const UNTILED: &str = "25000";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let mut probes = Probes::default();
    let (mut serial, mut many, mut batches) = (Runs::new(), Runs::new(), Runs::new());
    let (mut published, mut published_many, mut recovered) = (Runs::new(), Runs::new(), Runs::new());
    for round in 0..bench.repeat {
        eprintln!("ledger: {} of {}", round + 1, bench.repeat);
        probes.take(bench)?;
        serial.add(run(bench, &["append", "1", "1", SECONDS])?);
        many.add(run(bench, &["append", "256", "1", SECONDS])?);
        batches.add(run(bench, &["append", "256", "16", SECONDS])?);
        published.add(run(bench, &["publish", "1", "1", SECONDS])?);
        published_many.add(run(bench, &["publish", "256", "1", SECONDS])?);
        recovered.add(run(bench, &["recover", UNTILED])?);
    }
    let sync = "one fdatasync";
    let figure = |name: &str, samples: Vec<f64>| Figure::new(format!("ledger: {name}"), Unit::Time, samples);
    let per_record = |name| -> Result<Vec<f64>, BenchError> {
        Ok(recovered
            .all("records")?
            .iter()
            .zip(recovered.all(name)?)
            .map(|(records, seconds)| records / seconds)
            .collect())
    };
    Ok(vec![
        figure("durable append, 1 writer, p50", serial.all("append_p50")?).beside(sync, probes.p50()),
        figure("durable append, 1 writer, p99", serial.all("append_p99")?).beside(sync, probes.p99()),
        Figure::new("ledger: durable appends, 256 writers", Unit::PerSecond, many.all("per_second")?)
            .beside(GROUP, probes.records()),
        Figure::new("ledger: durable appends of 16, 256 writers, records", Unit::PerSecond, batches.all("per_second")?)
            .beside(GROUP, probes.records()),
        figure("durable append, 256 writers, p50", many.all("append_p50")?).beside(sync, probes.p50()),
        figure("durable append, 256 writers, p99", many.all("append_p99")?).beside(sync, probes.p99()),
        figure("acknowledged to published, 1 writer, p50", published.all("publish_p50")?).beside(sync, probes.p50()),
        figure("acknowledged to published, 1 writer, p99", published.all("publish_p99")?).beside(sync, probes.p99()),
        figure("acknowledged to published, 256 writers, p50", published_many.all("publish_p50")?)
            .beside(sync, probes.p50()),
        figure("acknowledged to published, 256 writers, p99", published_many.all("publish_p99")?)
            .beside(sync, probes.p99()),
        Figure::new("ledger: published appends, 256 writers", Unit::PerSecond, published_many.all("per_second")?)
            .beside(GROUP, probes.records()),
        figure(&format!("recovery, {UNTILED} records in no tile"), recovered.all("recover")?)
            .beside("opening with all in tiles", recovered.all("open")?),
        Figure::new("ledger: opening, every record read and hashed", Unit::PerSecond, per_record("open")?),
    ])
}

fn run(bench: &Bench, arguments: &[&str]) -> Result<Printed, BenchError> {
    let folder = bench.fresh("ledger");
    let arguments: Vec<_> =
        std::iter::once(folder.as_os_str()).chain(arguments.iter().map(|text| text.as_ref())).collect();
    bench.example("bench_ledger", &arguments)
}

/// The repetitions of one measurement.
pub(crate) struct Runs(Vec<Printed>);

impl Runs {
    pub(crate) fn new() -> Runs {
        Runs(Vec::new())
    }

    pub(crate) fn add(&mut self, printed: Printed) {
        self.0.push(printed);
    }

    pub(crate) fn all(&self, name: &str) -> Result<Vec<f64>, BenchError> {
        self.0.iter().map(|printed| printed.value(name)).collect()
    }
}
