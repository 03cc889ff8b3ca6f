//! Which alerts there are and what they hold: the keys of Falco's configuration that say so, from a `falco.yaml` or one by one, as
//! `falco -o KEY=VALUE` takes them.
//!
//! All other keys of a `falco.yaml` are passed over: they are about where alerts go, and where events come from. Environment variables
//! (`${HOME}`) stay as they are written: what an alert says does not depend on who asks.

use serde::Deserialize;

use super::{Format, Priority};
use crate::engine::Matching;
use crate::limits::{APPEND_MAX, FILE_BYTES_MAX, YAML_DEPTH_MAX};
use crate::output::{AppendError, AppendOutput};
use crate::rule_set::RuleSet;
use crate::suggest;

/// What is asked of alerts; the default is Falco's, but that all rules alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertOptions {
    /// `json_output`: alerts are JSON, not text.
    pub json: bool,
    /// What text and JSON hold.
    pub format: Format,
    /// `priority`: rules that matter less are not loaded.
    pub priority: Priority,
    /// `rule_matching`: may one rule alone alert of an event, or all?
    pub matching: Matching,
    /// `append_output`: what is added to the outputs of rules.
    pub append_output: Vec<AppendOutput>,
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self {
            json: false,
            format: Format::default(),
            priority: Priority::Debug,
            matching: Matching::All,
            append_output: Vec::new(),
        }
    }
}

/// Why an option or a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// An option without `=`.
    #[error("`{option}` is not KEY=VALUE")]
    NotAPair {
        /// The option.
        option: String,
    },
    /// A key that has no meaning here.
    #[error("`{key}` says nothing of alerts; the keys that do are {}", KEYS.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest that has, as a hint.
        near: Option<String>,
    },
    /// A key's value is none it can have.
    #[error("`{key}`: {reason}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The configuration is no YAML, or a key of it has a value it cannot have.
    #[error("{reason}")]
    Config {
        /// What is wrong.
        reason: String,
        /// Its line, from 1; 0 where none is known.
        line: u64,
        /// Its column, in characters from 1.
        column: u64,
    },
}

/// The keys, and with `[]` the one that adds to a list.
const KEYS: [&str; 10] = [
    "append_output",
    APPEND_ONE,
    "json_include_message_property",
    "json_include_output_fields_property",
    "json_include_output_property",
    "json_include_tags_property",
    "json_output",
    "priority",
    "rule_matching",
    "time_format_iso_8601",
];

const APPEND_ONE: &str = "append_output[]";

/// A configuration, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    json_output: Option<bool>,
    json_include_output_property: Option<bool>,
    json_include_message_property: Option<bool>,
    json_include_output_fields_property: Option<bool>,
    json_include_tags_property: Option<bool>,
    time_format_iso_8601: Option<bool>,
    priority: Option<String>,
    rule_matching: Option<String>,
    append_output: Option<Vec<AppendOutput>>,
}

impl AlertOptions {
    /// Takes over what a `falco.yaml` says of alerts; what it does not speak of stays.
    ///
    /// # Errors
    /// It is no YAML, or too much of it, or a key has a value it cannot have.
    pub fn read(&mut self, yaml: &str) -> Result<(), OptionError> {
        if yaml.len() > FILE_BYTES_MAX {
            let reason = format!("the configuration has {} bytes, more than {FILE_BYTES_MAX}", yaml.len());
            return Err(OptionError::Config { reason, line: 0, column: 0 });
        }
        // A file of comments alone is an empty configuration.
        let config: Option<Config> = parse(yaml)?;
        self.apply(config.unwrap_or_default())
    }

    /// Takes over one option, `KEY=VALUE`.
    ///
    /// # Errors
    /// It is no such pair, the key says nothing of alerts, or it cannot have the value.
    pub fn set(&mut self, option: &str) -> Result<(), OptionError> {
        let Some((key, value)) = option.split_once('=') else {
            return Err(OptionError::NotAPair { option: option.to_owned() });
        };
        let wrong = |error: OptionError| match error {
            OptionError::Config { reason, .. } => OptionError::Value { key: key.to_owned(), reason },
            other => other,
        };
        match key {
            APPEND_ONE => self.append_output.push(parse(value).map_err(wrong)?),
            known if KEYS.contains(&known) => {
                let config = parse(&format!("{known}: {value}\n")).map_err(wrong)?;
                self.apply(config)?;
            }
            _ => {
                let near = suggest::hint(key, KEYS);
                return Err(OptionError::UnknownKey { key: key.to_owned(), near });
            }
        }
        Ok(())
    }

    /// The rules that are asked for, with what is added to their outputs.
    ///
    /// # Errors
    /// Something that is to be added cannot be.
    pub fn rules(&self, rules: RuleSet) -> Result<RuleSet, AppendError> {
        rules.at_least(self.priority).append_output(&self.append_output)
    }

    fn apply(&mut self, config: Config) -> Result<(), OptionError> {
        let set = |target: &mut bool, value: Option<bool>| *target = value.unwrap_or(*target);
        set(&mut self.json, config.json_output);
        set(&mut self.format.json_output, config.json_include_output_property);
        set(&mut self.format.json_message, config.json_include_message_property);
        set(&mut self.format.json_output_fields, config.json_include_output_fields_property);
        set(&mut self.format.json_tags, config.json_include_tags_property);
        set(&mut self.format.iso_8601, config.time_format_iso_8601);
        let wrong = |key: &str, reason: String| OptionError::Value { key: key.to_owned(), reason };
        if let Some(word) = config.priority {
            self.priority = word.parse().map_err(|error| wrong("priority", format!("{error}")))?;
        }
        if let Some(word) = config.rule_matching {
            self.matching = match word.as_str() {
                "first" => Matching::First,
                "all" => Matching::All,
                other => return Err(wrong("rule_matching", format!("`{other}` is neither `first` nor `all`"))),
            };
        }
        if let Some(entries) = config.append_output {
            self.append_output = entries;
        }
        Ok(())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(yaml: &str) -> Result<T, OptionError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: YAML_DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: NODES_MAX * 3,
            max_documents: 1,
            flow_nesting_limit: YAML_DEPTH_MAX,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
        let text = error.without_snippet().to_string();
        let reason = text.lines().next().unwrap_or_default();
        let reason = reason.split(" at line ").next().unwrap_or(reason).trim().to_owned();
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        OptionError::Config { reason, line, column }
    })
}

/// YAML nodes of a configuration: Falco's own has some hundreds, and each of the most entries may have as many fields.
const NODES_MAX: usize = 4 * APPEND_MAX * APPEND_MAX;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(option: &str) -> Result<AlertOptions, String> {
        let mut options = AlertOptions::default();
        options.set(option).map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn a_configuration_says_what_it_says() {
        let yaml = "\
# a falco.yaml
config_files: [/etc/falco/config.d]
engine: {kind: modern_ebpf, modern_ebpf: {cpus_for_each_buffer: 2}}
json_output: true
json_include_tags_property: false
time_format_iso_8601: true
priority: warning
rule_matching: first
append_output:
  - match: {source: syscall, tags: [persistence]}
    extra_output: on CPU %evt.cpu
    extra_fields:
      - evt.hostname
      - home: ${HOME}
  - suggested_output: true
";
        let mut options = AlertOptions::default();
        options.read(yaml).unwrap();
        assert!(options.json && options.format.iso_8601 && !options.format.json_tags && options.format.json_output);
        assert_eq!((options.priority, options.matching), (Priority::Warning, Matching::First));
        let entries = json!([
            {
                "match": {"source": "syscall", "tags": ["persistence"]},
                "extra_output": "on CPU %evt.cpu",
                "extra_fields": ["evt.hostname", {"home": "${HOME}"}],
            },
            {"suggested_output": true},
        ]);
        assert_eq!(options.append_output, serde_json::from_value::<Vec<AppendOutput>>(entries).unwrap());

        // What a second one does not speak of stays; options come last.
        options.read("priority: error\nappend_output:\n").unwrap();
        options.set("json_output=false").unwrap();
        assert!(!options.json && options.format.iso_8601);
        assert_eq!((options.priority, options.append_output.len()), (Priority::Error, 2));
        for empty in ["", "# nothing\n", "---\n"] {
            let mut untouched = AlertOptions::default();
            untouched.read(empty).unwrap();
            assert_eq!(untouched, AlertOptions::default());
        }
    }

    #[test]
    fn one_option_at_a_time() {
        assert!(set("json_output=true").unwrap().json);
        assert!(!set("json_include_output_property=false").unwrap().format.json_output);
        assert!(set("json_include_message_property=true").unwrap().format.json_message);
        assert!(!set("json_include_output_fields_property=false").unwrap().format.json_output_fields);
        assert!(!set("json_include_tags_property=false").unwrap().format.json_tags);
        assert!(set("time_format_iso_8601=true").unwrap().format.iso_8601);
        assert_eq!(set("priority=info").unwrap().priority, Priority::Informational);
        assert_eq!(set("rule_matching=first").unwrap().matching, Matching::First);
        let mut options = AlertOptions::default();
        options.set(r#"append_output[]={"match": {"rule": "R"}, "extra_output": "a=%evt.num"}"#).unwrap();
        options.set("append_output[]={extra_fields: [evt.cpu]}").unwrap();
        assert_eq!(options.append_output.len(), 2);
        options.set("append_output=[{suggested_output: true}]").unwrap();
        assert_eq!(options.append_output.len(), 1);
    }

    #[test]
    fn what_cannot_be_asked_for() {
        let error = |option: &str| set(option).unwrap_err();
        assert_eq!(error("json_output"), "`json_output` is not KEY=VALUE");
        assert!(error("json_outptu=true").starts_with("`json_outptu` says nothing of alerts; the keys that do are "));
        assert!(error("priority=urgent").starts_with("`priority`: `urgent` is not a priority: one of "));
        assert_eq!(error("rule_matching=some"), "`rule_matching`: `some` is neither `first` nor `all`");
        assert!(error("json_output=maybe").starts_with("`json_output`: "), "{}", error("json_output=maybe"));
        assert!(error("append_output[]={extra: x}").starts_with("`append_output[]`: "));
        let near = AlertOptions::default().set("json_outptu=true").unwrap_err();
        assert!(matches!(near, OptionError::UnknownKey { near: Some(near), .. } if near.contains("`json_output`")));

        let mut options = AlertOptions::default();
        let error = options.read("json_output: true\npriority: [a]\n").unwrap_err();
        assert!(matches!(error, OptionError::Config { line: 2, column: 11, .. }), "{error:?}");
        assert!(matches!(options.read("a: [").unwrap_err(), OptionError::Config { .. }));
        assert!(matches!(options.read("[]").unwrap_err(), OptionError::Config { .. }));
        assert!(options.read(&" ".repeat(FILE_BYTES_MAX + 1)).is_err());
        assert!(options.read(&" ".repeat(FILE_BYTES_MAX)).is_ok());
        assert_eq!(options, AlertOptions::default());
    }
}
