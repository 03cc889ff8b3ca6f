//! The rule engine over a synthetic mix of events.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::figure::{Figure, Unit};
use super::ledger::Runs;
use super::{Bench, BenchError, io_error};

const TEMPLATE: &str = "policies-repo-template/detections";
const UPSTREAM: [&str; 3] = [
    "sensor/rules/tests/falco-rules/falco_rules.yaml",
    "sensor/rules/tests/falco-rules/falco-incubating_rules.yaml",
    "sensor/rules/tests/falco-rules/falco-sandbox_rules.yaml",
];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>, BenchError> {
    let folder = bench.root.join(TEMPLATE);
    let entries = std::fs::read_dir(&folder).map_err(io_error("list", &folder))?;
    let mut template: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    // As a policy repo is loaded: in the order of their names.
    template.sort_unstable();
    let upstream: Vec<PathBuf> = UPSTREAM.iter().map(|path| bench.root.join(path)).collect();

    let mut figures = Vec::new();
    for (what, files) in
        [("the template's rules", template), ("Falco's stable, incubating and sandbox rules", upstream)]
    {
        let files: Vec<&OsStr> = files.iter().map(|path| path.as_os_str()).collect();
        let mut runs = Runs::new();
        for _ in 0..bench.repeat {
            runs.add(bench.example("bench_rules", &files)?);
        }
        let rules = runs.all("rules")?.first().copied().unwrap_or_default();
        figures.push(
            Figure::new(format!("rules: events, one core, {what} ({rules})"), Unit::PerSecond, runs.all("per_second")?)
                .beside("no rule at all", runs.all("no_rules_per_second")?),
        );
    }
    Ok(figures)
}
