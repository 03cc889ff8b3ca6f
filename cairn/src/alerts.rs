//! What `cairn replay` and `cairn record` are asked of alerts, as `falco` is asked, and the alerts as Falco prints them.

mod costs;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use cairn_rules::event::Event;
use cairn_rules::{
    Alert, AlertOptions, Engine, Format, Matching, OptionError, Priority, RuleSet, Stopwatch, load, problem,
};
use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::{rules, say};

/// What is asked of alerts, as `falco` is asked.
#[derive(Args)]
#[command(next_help_heading = "Alerts")]
pub(crate) struct AlertArguments {
    /// Print alerts as Falco's JSON, one a line; the same as -o json_output=true. With --costs, what rules cost as JSON
    #[arg(long)]
    json: bool,
    /// Only rules of this priority or a more urgent one; the same as -o priority=LEVEL
    #[arg(long, value_name = "LEVEL")]
    priority: Option<Priority>,
    /// How many rules may alert of one event; the same as -o rule_matching=HOW
    #[arg(long, value_enum, value_name = "HOW")]
    matching: Option<HowMany>,
    /// Print at the end what each rule cost, the dearest first, instead of alerts
    #[arg(long, requires = "rules")]
    costs: bool,
    /// A falco.yaml; the keys that -o takes are used, the others passed over
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A key of Falco's configuration; may be repeated, and overrides --config.
    ///
    /// json_output, json_include_output_property, json_include_message_property, json_include_output_fields_property and
    /// json_include_tags_property: JSON, and what it holds. time_format_iso_8601: date and time in the text. priority: the least
    /// urgent one. rule_matching: `all` rules that match alert, or the `first`. append_output[]: adds an entry, such as
    /// '{"match": {"source": "syscall"}, "extra_output": "on CPU %evt.cpu", "extra_fields": ["evt.hostname"]}'
    #[arg(short, long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HowMany {
    /// Every rule whose condition holds
    All,
    /// The first of them in order of definition
    First,
}

impl AlertArguments {
    /// Options on the command line come after the file, and those with a name of their own last.
    pub(crate) fn read(&self) -> Result<AlertOptions, Failure> {
        let mut options = AlertOptions::default();
        if let Some(path) = &self.config {
            let yaml = std::fs::read_to_string(path)
                .map_err(|error| Failure::unknown(format!("{}: {error}", path.display())))?;
            options.read(&yaml).map_err(|error| match &error {
                OptionError::Config { line, column, .. } if *line > 0 => {
                    Failure::unknown(format!("{}:{line}:{column}: {error}", path.display()))
                }
                _ => Failure::unknown(format!("{}: {error}", path.display())),
            })?;
        }
        for option in &self.options {
            options.set(option).map_err(|error| {
                let failure = Failure::unknown(format!("-o {option}: {error}"));
                match error {
                    OptionError::UnknownKey { near: Some(near), .. } => failure.hint(near),
                    _ => failure,
                }
            })?;
        }
        options.json |= self.json;
        options.priority = self.priority.unwrap_or(options.priority);
        options.matching = match self.matching {
            Some(HowMany::All) => Matching::All,
            Some(HowMany::First) => Matching::First,
            None => options.matching,
        };
        Ok(options)
    }

    /// What is asked of the engine, and who reports what it says.
    pub(crate) fn report(&self, options: &AlertOptions, engine: &mut Engine) -> Report {
        engine.set_matching(options.matching);
        if self.costs {
            let began = Instant::now();
            let now_ns = Box::new(move || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            engine.set_stopwatch(Some(Stopwatch { every: 1, now_ns }));
        }
        Report { of_costs: self.costs, ..Report::new(options) }
    }
}

/// The rules that are asked for, or everything that is wrong with them.
pub(crate) fn load_rules(paths: &[PathBuf], options: &AlertOptions) -> Result<RuleSet, Failure> {
    let files = rules::files::Files::read(paths)?;
    let loaded = load(&files.all());
    if !loaded.is_ok() {
        say::error(problem::render(&loaded.problems));
        return Err(Failure::bad("the rules do not load").hint("`cairn rules check` says the same, and warnings too"));
    }
    options.rules(loaded.rules).map_err(|error| Failure::unknown(error.to_string()))
}

/// Alerts as they come, and what Falco says at the end.
pub(crate) struct Report {
    is_json: bool,
    /// What rules cost is printed, and no alert.
    of_costs: bool,
    format: Format,
    pub(crate) hostname: String,
    pub(crate) events: u64,
    alerts: u64,
    by_priority: BTreeMap<Priority, u64>,
    by_rule: BTreeMap<String, u64>,
}

impl Report {
    fn new(options: &AlertOptions) -> Report {
        let (is_json, format) = (options.json, options.format);
        let (by_priority, by_rule) = (BTreeMap::new(), BTreeMap::new());
        Report { is_json, of_costs: false, format, hostname: String::new(), events: 0, alerts: 0, by_priority, by_rule }
    }

    /// Tries the rules; false when nobody reads what they say.
    pub(crate) fn take(&mut self, engine: &mut Engine, event: &Event, source: Option<&str>) -> bool {
        if source.is_some_and(|source| source != event.source()) {
            return true;
        }
        self.events += 1;
        engine.handle(event).iter().all(|alert| self.alert(alert))
    }

    fn alert(&mut self, alert: &Alert) -> bool {
        self.alerts += 1;
        *self.by_priority.entry(alert.priority).or_default() += 1;
        match self.by_rule.get_mut(&alert.rule) {
            Some(count) => *count += 1,
            None => {
                self.by_rule.insert(alert.rule.clone(), 1);
            }
        }
        if self.of_costs {
            true
        } else if self.is_json {
            say::text_is_read(&format!("{}\n", quiet(&self.format.json(alert, &self.hostname).to_string())))
        } else {
            say::text_is_read(&format!("{}\n", self.format.text(alert)))
        }
    }

    /// As Falco ends, after the number of events.
    pub(crate) fn end(&self, engine: &Engine) {
        let state = engine.state_stats();
        if self.of_costs {
            costs::print(&engine.costs(), state, self.is_json);
        }
        if state.evicted > 0 {
            say::error(format_args!(
                "warning: rules over more than one event forgot {} keys for want of room",
                state.evicted
            ));
        }
        say::error(format_args!("Events read: {}", self.events));
        say::error(format_args!("Events detected: {}", self.alerts));
        say::error("Rule counts by severity:");
        for (priority, count) in &self.by_priority {
            say::error(format_args!("   {}: {count}", priority.as_str().to_uppercase()));
        }
        say::error("Triggered rules by rule name:");
        for (rule, count) in &self.by_rule {
            say::error(format_args!("   {rule}: {count}"));
        }
    }
}

/// JSON without the control characters that it may hold as they are, but a terminal may not be sent.
fn quiet(json: &str) -> Cow<'_, str> {
    if !json.contains(char::is_control) {
        return Cow::Borrowed(json);
    }
    let mut quiet = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if c.is_control() { quiet.push_str(&format!("\\u{:04x}", u32::from(c))) } else { quiet.push(c) }
    }
    Cow::Owned(quiet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_json_and_quiet() {
        let json = serde_json::json!({ "a": "\u{1b}[2J\u{7f}\u{9b}caf\u{e9}\n" }).to_string();
        assert_eq!(quiet(&json), "{\"a\":\"\\u001b[2J\\u007f\\u009bcaf\u{e9}\\n\"}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&quiet(&json)).unwrap()["a"],
            "\u{1b}[2J\u{7f}\u{9b}caf\u{e9}\n"
        );
    }
}
