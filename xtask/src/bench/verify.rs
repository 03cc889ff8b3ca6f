//! Offline verification, beside SHA-256 alone over the same bytes.

use super::figure::{Figure, Unit};
use super::ledger::Runs;
use super::{Bench, BenchError};

const RECORDS: &str = "100000";
const RECORDS_FULL: &str = "1000000";
/// Where each record has a name of its own, which must be remembered: as much memory as a verification can take.
const NAMED: &str = "200000";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for records in [RECORDS].into_iter().chain(bench.full.then_some(RECORDS_FULL)) {
        figures.extend(one(bench, records)?);
    }
    figures.push(named(bench)?);
    Ok(figures)
}

fn one(bench: &Bench, records: &str) -> Result<Vec<Figure>, BenchError> {
    eprintln!("verify: a ledger of {records} records of about 1 KiB");
    let folder = bench.fresh("verify");
    let run = |what: &[&str]| {
        let (name, threads) = (what[0].as_ref(), what[1..].iter().map(|text| text.as_ref()));
        let arguments: Vec<_> = [name, folder.as_os_str()].into_iter().chain(threads).collect();
        bench.example("bench_verify", &arguments)
    };
    run(&["make", records])?;
    let (mut hashing, mut structure) = (Runs::new(), Runs::new());
    let (mut full, mut one_thread) = (Runs::new(), Runs::new());
    for _ in 0..bench.repeat {
        hashing.add(run(&["hashing"])?);
        structure.add(run(&["structure"])?);
        full.add(run(&["full"])?);
        one_thread.add(run(&["full", "1"])?);
    }
    let limit = "SHA-256 of the same tree, one core";
    let time = |name: &str, runs: &Runs, value| -> Result<Figure, BenchError> {
        Ok(Figure::new(format!("verify: {records} records, {name}"), Unit::Time, runs.all(value)?)
            .beside(limit, hashing.all("seconds")?))
    };
    Ok(vec![
        time("structure, all cores", &structure, "seconds")?,
        time("structure, time of all cores together", &structure, "cpu_seconds")?,
        time("every check, all cores", &full, "seconds")?,
        time("every check, time of all cores together", &full, "cpu_seconds")?,
        time("every check, one thread", &one_thread, "seconds")?,
        Figure::new(format!("verify: {records} records, every check"), Unit::PerSecond, full.all("per_second")?),
        Figure::new(format!("verify: {records} records, peak of memory"), Unit::Bytes, full.all("peak_rss")?),
    ])
}

fn named(bench: &Bench) -> Result<Figure, BenchError> {
    let folder = bench.fresh("verify");
    bench.example("bench_verify", &["make".as_ref(), folder.as_os_str(), NAMED.as_ref(), "named".as_ref()])?;
    let mut runs = Runs::new();
    runs.add(bench.example("bench_verify", &["full".as_ref(), folder.as_os_str()])?);
    let name = format!("verify: {NAMED} records with a foreignid each, peak of memory");
    Ok(Figure::new(name, Unit::Bytes, runs.all("peak_rss")?))
}
