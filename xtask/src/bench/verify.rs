//! Offline verification, beside SHA-256 alone over the same bytes.

use super::figure::{Figure, Unit};
use super::ledger::Runs;
use super::{Bench, BenchError};

const RECORDS: &str = "100000";
const RECORDS_FULL: &str = "1000000";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for records in [RECORDS].into_iter().chain(bench.full.then_some(RECORDS_FULL)) {
        figures.extend(one(bench, records)?);
    }
    Ok(figures)
}

fn one(bench: &Bench, records: &str) -> Result<Vec<Figure>, BenchError> {
    eprintln!("verify: a ledger of {records} records of 512 bytes");
    let folder = bench.fresh("verify");
    bench.example("bench_ledger", &[folder.as_os_str(), "make".as_ref(), records.as_ref()])?;
    let mut runs = Runs::new();
    for _ in 0..bench.repeat {
        runs.add(bench.example("bench_verify", &[folder.as_os_str()])?);
    }
    let rate = |name| -> Result<Vec<f64>, BenchError> {
        Ok(runs.all("records")?.iter().zip(runs.all(name)?).map(|(records, seconds)| records / seconds).collect())
    };
    let hashing = "SHA-256 of the same tree, one core";
    Ok(vec![
        Figure::new(format!("verify: {records} records, one thread"), Unit::PerSecond, rate("one_core")?)
            .beside(hashing, rate("hashing")?),
        Figure::new(format!("verify: {records} records, all cores"), Unit::PerSecond, rate("all_cores")?)
            .beside(hashing, rate("hashing")?),
        Figure::new(format!("verify: {records} records, all cores, whole run"), Unit::Time, runs.all("all_cores")?)
            .beside(hashing, runs.all("hashing")?),
    ])
}
