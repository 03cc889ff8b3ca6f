//! `cairn rules check`: what `falco -V` tells, and what this engine and a node know besides.

use std::path::PathBuf;
use std::process::ExitCode;

use cairn_rules::event::EventType;
use cairn_rules::{Code, FalcoReport, Loaded, Rule, Supply, falco_report, load_beside_falco, load_for, problem};
use clap::Args;
use serde_json::{Value, json};

use super::files::Files;
use crate::failure::Failure;
use crate::say;

/// Load Falco rules files as one set, and report every problem with its place and remedy.
///
/// Exit status: 0 when there is no error, 1 when there is one (with --strict: or a warning), 2 when a file cannot be read.
#[derive(Args)]
pub(crate) struct CheckArguments {
    /// Rules files, or folders of them (*.yaml, *.yml), loaded together in this order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON: `falco_load_results` as `falco -V` has it, and `ok`, `counts` and `problems` of ours
    #[arg(long)]
    json: bool,
    /// Say of each rule which events and fields a node's sensor cannot give it
    #[arg(long)]
    node: bool,
    /// An event type or field that the nodes meant by --node lack besides; may be repeated
    #[arg(long, value_name = "NAME", requires = "node")]
    without: Vec<String>,
    /// Warn of items and keys that Falco passes over, and fail on what it does not load
    #[arg(long)]
    falco: bool,
    /// Count warnings as errors; what a node cannot supply counts only with --node
    #[arg(long)]
    strict: bool,
}

/// What a node cannot give a rule.
struct Blindness {
    rule: String,
    events: Vec<&'static str>,
    fields: Vec<String>,
    /// Some event that it is for is supplied.
    can_alert: bool,
}

pub(super) fn run(arguments: &CheckArguments) -> Result<ExitCode, Failure> {
    let files = Files::read(&arguments.files).inspect_err(|unreadable| {
        if arguments.json {
            let report = FalcoReport::unreadable(&unreadable.path, &unreadable.reason);
            say::line(format_args!("{:#}", json!({ "falco_load_results": [report], "ok": false })));
        }
    })?;
    let files = files.all();
    let supply = supply(&arguments.without)?;
    let loaded = if arguments.falco { load_beside_falco(&files, &supply) } else { load_for(&files, &supply) };
    let reports = falco_report(&files, &loaded);
    let blind: Vec<Blindness> = if arguments.node {
        loaded.rules.rules().iter().filter_map(|rule| blindness(rule, &supply)).collect()
    } else {
        Vec::new()
    };
    let is_ok = loaded.is_ok() && !(arguments.strict && has_strict_warning(&loaded, arguments.node));
    if arguments.json {
        let mut out = json!({
            "falco_load_results": reports,
            "ok": is_ok,
            "counts": loaded.counts,
            "problems": loaded.problems,
        });
        if arguments.node {
            out["node"] = blind.iter().map(Blindness::json).collect();
        }
        say::line(format_args!("{out:#}"));
    } else {
        if !loaded.problems.is_empty() {
            say::line(format_args!("{}", problem::render(&loaded.problems)));
        }
        for report in &reports {
            say::line(report.line());
        }
        for blindness in &blind {
            say_blindness(blindness);
        }
        if arguments.node {
            let rules = loaded.rules.rules().len();
            say::line(format_args!("{} of {rules} enabled rules see all they ask for", rules - blind.len()));
        }
        let (counts, word) = (loaded.counts, if is_ok { "OK" } else { "FAILED" });
        say::line(format_args!("{word}: {} rules, {} macros, {} lists", counts.rules, counts.macros, counts.lists));
    }
    Ok(ExitCode::from(u8::from(!is_ok)))
}

/// What the nodes' sensor gives.
fn supply(without: &[String]) -> Result<Supply, Failure> {
    let supply = Supply::sensor();
    if let Some(name) = without
        .iter()
        .find(|name| EventType::by_name(name).is_none_or(|it| !supply.has_event(it)) && !supply.has_field(name))
    {
        let failure = Failure::unknown(format!("--without {name}: the sensor gives no event or field of this name"));
        return Err(failure.hint("`cairn rules fields` and `cairn rules events` list what it gives"));
    }
    Ok(supply.without(without.iter().map(String::as_str)))
}

fn has_strict_warning(loaded: &Loaded, counts_blind_spots: bool) -> bool {
    loaded.warnings().any(|warning| counts_blind_spots || warning.code != Code::CairnBlindSpot)
}

/// `None` when nothing is missing. Rules over documents are not the sensor's, nor is any rule blind that is for each event.
fn blindness(rule: &Rule, supply: &Supply) -> Option<Blindness> {
    if rule.source != "syscall" {
        return None;
    }
    let has_event = |name: &&'static str| EventType::by_name(name).is_some_and(|it| supply.has_event(it));
    let (given, absent): (Vec<&'static str>, Vec<&'static str>) =
        rule.event_types.iter().partition(|name| has_event(name));
    let names_types = rule.event_types.len() < EventType::all().count();
    let events = if names_types { absent } else { Vec::new() };
    if events.is_empty() && rule.blind_fields.is_empty() {
        return None;
    }
    Some(Blindness { rule: rule.name.clone(), events, fields: rule.blind_fields.clone(), can_alert: !given.is_empty() })
}

impl Blindness {
    fn json(&self) -> Value {
        json!({ "rule": self.rule, "events": self.events, "fields": self.fields, "can_alert": self.can_alert })
    }
}

fn say_blindness(blindness: &Blindness) {
    let verdict = if blindness.can_alert { "sees less than it says" } else { "can never alert" };
    say::line(format_args!("{}: {verdict}", blindness.rule));
    if !blindness.events.is_empty() {
        say::line(format_args!("  events not supplied: {}", blindness.events.join(", ")));
    }
    if !blindness.fields.is_empty() {
        say::line(format_args!("  fields not supplied: {}", blindness.fields.join(", ")));
    }
}
