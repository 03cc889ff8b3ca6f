//! Values that fit a schema of `schemas/v1`, and values that nearly do: so that a new record type is tested by being there.

use proptest::strategy::{Strategy, ValueTree};
use proptest::string::string_regex;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use crate::ids::Sequence;
use crate::time::Timestamp;
use crate::types::RecordType;

/// Names that a map may hold: rule fields, personal and not, and what canonical order and escapes are hard for.
const NAMES: &[&str] = &[
    "",
    "$blob",
    "$key",
    "$size",
    "a",
    "a\n",
    "a\"b",
    "aa",
    "evt.arg[uid]",
    "kind",
    "proc.env[HOME]",
    "proc.name",
    "user.name",
    "z",
    "é",
    "\u{fb33}",
    "\u{1f600}",
];

/// Texts for fields that take any, and for places that do not.
const TEXTS: &[&str] = &[
    "",
    "x",
    "/usr/bin/bash",
    "00000000000000000005",
    "ledger",
    "2026-01-31T12:00:00.000000000Z",
    "\u{0}\u{1f}\u{7f}\t\n\r\"\\/",
    "é\u{1f600}\u{e000}",
    "tok:e1:2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90",
    "com:0123456789abcdef0123456789abcdef:X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0",
    "\u{feff}bytes that are not ASCII and not within eight of the end",
];

/// A source of choices; the same for the same seed.
pub(super) struct Sample {
    state: u64,
}

impl Sample {
    pub(super) fn new(seed: u64) -> Sample {
        Sample { state: seed }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A text that a regular expression matches. Most numbers and times that match are beyond what there is, so they are seldom drawn.
    fn matching(&mut self, pattern: &str) -> String {
        let number = self.next();
        match pattern {
            "^[0-9]{20}$" if !self.once_in(16) => return Sequence(number).padded(),
            times if times.starts_with("^[0-9]{4}-") && !self.once_in(16) => {
                return Timestamp::from_nanos(number).to_string();
            }
            _ => {}
        }
        let seed = [self.next().to_le_bytes(), self.next().to_le_bytes()].concat();
        let rng = TestRng::from_seed(RngAlgorithm::XorShift, &seed);
        let inside = pattern.trim_start_matches('^').trim_end_matches('$');
        let strategy = string_regex(inside).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        strategy.new_tree(&mut TestRunner::new_with_rng(Config::default(), rng)).unwrap().current()
    }

    /// Any JSON that RFC 8785 can spell.
    pub(super) fn any(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 7 } else { 9 }) {
            0 => Value::Null,
            1 => Value::Bool(true),
            2 => json!(0),
            3 => json!(crate::ids::INTEGER_MAX),
            4 => json!(-i64::from(self.next() as u32) - 1),
            5 | 6 => json!(self.pick(TEXTS)),
            7 => (0..self.below(3)).map(|_| self.any(depth - 1)).collect(),
            _ => Value::Object(self.members(|sample| sample.any(depth - 1))),
        }
    }

    fn members(&mut self, mut value: impl FnMut(&mut Sample) -> Value) -> Map<String, Value> {
        (0..self.below(4)).map(|_| (self.pick(NAMES).to_string(), value(self))).collect()
    }

    /// A value that fits `schema`, whose definitions stand in `root`; but for what a schema cannot say.
    fn fitting(&mut self, schema: &Value, root: &Value) -> Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let inside = root.pointer(reference.trim_start_matches('#'));
            return self.fitting(inside.unwrap_or_else(|| panic!("no {reference}")), root);
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        for choices in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[choices].as_array() {
                let choice = self.pick(choices).clone();
                return self.fitting(&choice, root);
            }
        }
        if let Some(values) = schema["enum"].as_array() {
            return self.pick(values).clone();
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => self.pick(kinds).clone(),
            kind => kind.clone(),
        };
        match kind.as_str() {
            Some("null") => Value::Null,
            Some("boolean") => Value::Bool(self.once_in(2)),
            Some("integer") => {
                let bound = self.pick(&[1, 1000, crate::ids::INTEGER_MAX]) + 1;
                json!(self.next() % bound)
            }
            Some("string") => match schema["pattern"].as_str() {
                Some(pattern) => json!(self.matching(pattern)),
                None => json!(self.pick(TEXTS)),
            },
            Some("array") => {
                let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
                (0..least + self.below(3)).map(|_| self.fitting(&schema["items"], root)).collect()
            }
            Some("object") => self.object(schema, root),
            _ => self.any(2),
        }
    }

    fn object(&mut self, schema: &Value, root: &Value) -> Value {
        let Some(properties) = schema["properties"].as_object() else {
            let values = schema.get("additionalProperties").filter(|values| values.is_object());
            return Value::Object(self.members(|sample| match values {
                Some(values) => sample.fitting(values, root),
                None => sample.any(2),
            }));
        };
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut members = Map::new();
        for (name, schema) in properties {
            if required.contains(&name.as_str()) || self.once_in(2) {
                members.insert(name.clone(), self.fitting(schema, root));
            }
        }
        // A reader of an older version meets members that it does not know.
        if self.once_in(4) {
            members.insert(self.pick(NAMES).to_string(), self.any(2));
        }
        Value::Object(members)
    }

    /// A payload that fits its type, but for what a schema cannot say.
    pub(super) fn data(&mut self, kind: RecordType) -> Value {
        let name = kind.as_str().trim_end_matches(".v1");
        let path = format!("{}/v1/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}; run `cargo xtask schemas`"));
        let schema: Value = serde_json::from_str(&text).unwrap();
        self.fitting(&schema, &schema)
    }

    /// Changes one place of a value: another value, a member more or less, an array for an object.
    pub(super) fn spoil(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) if !members.is_empty() && !self.once_in(4) => {
                let names: Vec<String> = members.keys().cloned().collect();
                let name = self.pick(&names);
                match self.below(5) {
                    0 => drop(members.remove(name)),
                    1 => drop(members.insert(self.pick(NAMES).to_string(), self.any(1))),
                    2 => drop(members.insert(name.clone(), Value::Null)),
                    _ => self.spoil(members.get_mut(name).unwrap()),
                }
            }
            Value::Array(items) if !items.is_empty() && !self.once_in(4) => {
                let place = self.below(items.len());
                self.spoil(&mut items[place]);
            }
            // How serde takes a struct that was written without its names.
            Value::Object(members) if self.once_in(2) => *value = members.values().cloned().collect(),
            Value::String(text) if self.once_in(2) => *text += TEXTS[self.below(TEXTS.len())],
            _ => *value = self.any(2),
        }
    }
}
