//! The vectors in `vectors/record`, read through `Record::parse`, and through `Outline::read`, which must say the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here, with the place")]

use std::path::Path;

use cairn_schemas::canonical::CanonicalError;
use cairn_schemas::digest::Digest;
use cairn_schemas::outline::Outline;
use cairn_schemas::record::{Record, RecordError};
use cairn_schemas::types::RecordType;

struct Vector {
    name: String,
    expect: String,
    leaf: String,
    bytes: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/record");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vector {
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let bytes = std::fs::read(path).unwrap();
    let split = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or_else(|| panic!("{name}: no empty line"));
    let header = std::str::from_utf8(&bytes[..split]).unwrap();
    let mut vector = Vector { name, expect: String::new(), leaf: String::new(), bytes: Vec::new() };
    for line in header.lines() {
        match line.split_once(": ") {
            Some(("expect", value)) => vector.expect = value.to_owned(),
            Some(("leaf", value)) => vector.leaf = value.to_owned(),
            Some(("comment", _)) => {}
            _ => panic!("{}: unknown header line {line:?}", vector.name),
        }
    }
    vector.bytes = bytes[split + 2..bytes.len() - 1].to_vec();
    vector
}

fn word(result: &Result<Record, RecordError>) -> &'static str {
    match result {
        Ok(_) => "valid",
        Err(RecordError::Canonical(
            CanonicalError::NotJson(_)
            | CanonicalError::Float { .. }
            | CanonicalError::IntegerTooLarge { .. }
            | CanonicalError::TooDeep { .. }
            | CanonicalError::NotCanonical { .. },
        )) => "not-canonical",
        Err(RecordError::Missing { .. }) => "missing-attribute",
        Err(RecordError::UnknownType(_)) => "unknown-type",
        Err(RecordError::Data { .. }) => "bad-data",
        Err(
            RecordError::Wrong { .. }
            | RecordError::Unexpected { .. }
            | RecordError::NotAnObject
            | RecordError::NotAnId(_)
            | RecordError::NotADigest(_)
            | RecordError::NotATimestamp(_),
        ) => "wrong-attribute",
        Err(other) => panic!("no word for {other}"),
    }
}

#[test]
fn every_vector_does_what_it_says() {
    const WORDS: [&str; 6] =
        ["valid", "not-canonical", "missing-attribute", "wrong-attribute", "unknown-type", "bad-data"];
    for vector in vectors() {
        assert!(WORDS.contains(&vector.expect.as_str()), "{}: unknown word {:?}", vector.name, vector.expect);
        let result = Record::parse(&vector.bytes);
        assert_eq!(word(&result), vector.expect, "{}: {:?}", vector.name, result.err().map(|error| error.one_line()));
        assert_eq!(Digest::leaf(&vector.bytes).to_string(), vector.leaf, "{}", vector.name);
        let outline = Outline::read(&vector.bytes).map(|outline| (outline.stream, outline.sequence, outline.kind));
        match (&result, outline) {
            (Ok(record), Ok(outline)) => {
                assert_eq!(outline, (record.stream.clone(), record.sequence, record.kind), "{}", vector.name);
            }
            (Err(expected), Err(error)) => assert_eq!(error.one_line(), expected.one_line(), "{}", vector.name),
            (_, outline) => panic!("{}: {outline:?}", vector.name),
        }
        if let Ok(record) = result {
            assert_eq!(record.to_bytes().unwrap(), vector.bytes, "{}", vector.name);
        }
    }
}

#[test]
fn every_type_has_a_valid_vector() {
    let vectors = vectors();
    for kind in RecordType::ALL {
        let name = kind.as_str().trim_start_matches("cairn.").trim_end_matches(".v1");
        assert!(vectors.iter().any(|v| v.name == name && v.expect == "valid"), "no vector {name}.txt");
    }
}
