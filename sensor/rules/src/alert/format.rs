//! Alerts as Falco prints them: a line of text, or JSON.
//!
//! Byte for byte what Falco 0.44 writes of the same event, but for one thing: times of day are UTC, where Falco takes the machine's zone.

use serde_json::{Map, Value};

use super::Alert;
use crate::engine::time;

/// What an alert's text and JSON hold: the options of Falco's configuration, with its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// `time_format_iso_8601`: the text begins with date, time and zone instead of the time of day.
    pub iso_8601: bool,
    /// `json_include_output_property`: JSON has `output`, the text with time and priority.
    pub json_output: bool,
    /// `json_include_message_property`: JSON has `message`, the text alone.
    pub json_message: bool,
    /// `json_include_output_fields_property`: JSON has `output_fields`.
    pub json_output_fields: bool,
    /// `json_include_tags_property`: JSON has `tags`.
    pub json_tags: bool,
}

impl Default for Format {
    fn default() -> Self {
        Self { iso_8601: false, json_output: true, json_message: false, json_output_fields: true, json_tags: true }
    }
}

impl Format {
    /// One line: `HH:MM:SS.nnnnnnnnn: Priority text`. Control characters are escaped as in JSON, so that no process names its way
    /// into a second line or a terminal.
    pub fn text(&self, alert: &Alert) -> String {
        escaped(&self.output(alert))
    }

    /// The JSON of an alert; its keys are in order of their names.
    pub fn json(&self, alert: &Alert, hostname: &str) -> Value {
        let mut json = Map::new();
        json.insert("hostname".to_owned(), hostname.into());
        if self.json_message {
            json.insert("message".to_owned(), alert.output.clone().into());
        }
        if self.json_output {
            json.insert("output".to_owned(), self.output(alert).into());
        }
        if self.json_output_fields {
            json.insert("output_fields".to_owned(), self.fields(alert).into());
        }
        json.insert("priority".to_owned(), alert.priority.as_str().into());
        json.insert("rule".to_owned(), alert.rule.clone().into());
        json.insert("source".to_owned(), alert.source.clone().into());
        if self.json_tags {
            json.insert("tags".to_owned(), alert.tags.clone().into());
        }
        json.insert("time".to_owned(), time::rfc3339(alert.time_ns).into());
        Value::Object(json)
    }

    fn output(&self, alert: &Alert) -> String {
        let time = if self.iso_8601 { time::iso8601(alert.time_ns) } else { time::of_day(alert.time_ns) };
        format!("{time}: {} {}", alert.priority, alert.output)
    }

    fn fields(&self, alert: &Alert) -> Map<String, Value> {
        let mut fields: Map<String, Value> =
            alert.fields.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
        let time = if self.iso_8601 { "evt.time.iso8601" } else { "evt.time" };
        fields.insert(time.to_owned(), alert.time_ns.into());
        fields.extend(alert.extra.iter().map(|(name, text)| (name.clone(), text.clone().into())));
        fields
    }
}

/// Control characters as Falco's text outputs escape them; a backslash stays one.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_ascii_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Falco's own tests (`unit_tests/engine/test_formats.cpp`, Apache-2.0).
    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escaped(""), "");
        assert_eq!(escaped("\n"), "\\n");
        assert_eq!(escaped("\r"), "\\r");
        assert_eq!(escaped("\t"), "\\t");
        assert_eq!(escaped("\x1b"), "\\u001b");
        assert_eq!(escaped("a\0b"), "a\\u0000b");
        assert_eq!(escaped("\x7f"), "\\u007f");
        assert_eq!(escaped("\x1f"), "\\u001f");
        assert_eq!(escaped(" "), " ");
        assert_eq!(escaped("\u{e9} \\ \""), "\u{e9} \\ \"");
    }
}
