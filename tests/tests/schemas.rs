//! `schemas/v1/` and the Rust types say the same, and the valid record vectors satisfy the schemas.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder().join("v1")).unwrap() {
        let path = entry.unwrap().path();
        files.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap());
    }
    files
}

#[test]
fn the_files_are_what_the_types_say() {
    let expected = cairn_schemas::schema::files();
    let found = files();
    for (name, text) in &expected {
        assert_eq!(
            found.get(name),
            Some(text),
            "schemas/v1/{name} is not what the types say: run `cargo xtask schemas`"
        );
    }
    for name in found.keys() {
        assert!(expected.contains_key(name), "schemas/v1/{name} belongs to no type: remove it");
    }
}

#[test]
fn valid_vectors_satisfy_their_schemas() {
    let schemas = files();
    for entry in std::fs::read_dir(folder().join("vectors/record")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.starts_with("expect: valid\n") {
            continue;
        }
        let record: serde_json::Value = serde_json::from_str(text.split_once("\n\n").unwrap().1).unwrap();
        let name = format!("{}.schema.json", record["type"].as_str().unwrap().trim_end_matches(".v1"));
        let schema: serde_json::Value = serde_json::from_str(&schemas[&name]).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&record["data"]).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
    }
}

#[test]
fn personal_fields_are_marked() {
    let marked: Vec<String> = files()
        .into_iter()
        .filter(|(_, text)| text.contains("\"x-cairn-personal\": true"))
        .map(|(name, _)| name)
        .collect();
    for name in ["cairn.admission.decided", "cairn.detection.raised", "cairn.release.built"] {
        assert!(marked.contains(&format!("{name}.schema.json")), "{name} marks no personal field");
    }
}
