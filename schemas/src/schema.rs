//! The JSON Schemas of `schemas/v1/`, written from the types.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::{PolicyConfig, ResponseFile};
use crate::fleet::Fleet;
use crate::types::RecordType;

/// File name → contents of every schema in `schemas/v1/`: one per record type (of its `data`), and one per configuration file.
#[must_use]
pub fn files() -> BTreeMap<String, String> {
    let records = RecordType::ALL.iter().map(|kind| {
        let name = kind.as_str().trim_end_matches(".v1");
        (name.to_owned(), Value::from(kind.schema()))
    });
    let configuration = [
        ("policy-config".to_owned(), Value::from(schemars::schema_for!(PolicyConfig))),
        ("response".to_owned(), Value::from(schemars::schema_for!(ResponseFile))),
        ("fleet".to_owned(), Value::from(schemars::schema_for!(Fleet))),
    ];
    records
        .chain(configuration)
        .map(|(name, schema)| {
            let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
            (format!("{name}.schema.json"), format!("{text}\n"))
        })
        .collect()
}
