//! `versions.jsonl`: what a bucket holds beside the newest versions, for checks without it (`ledger/FORMAT.md`, S3).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cairn_schemas::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{MirrorError, io_error};
use crate::files;
use crate::s3::{Place, Reader, is_immutable};

/// The file, in the mirror's root.
pub const VERSIONS_FILE: &str = "versions.jsonl";

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    key: String,
    version_id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    last_modified: Option<String>,
    is_latest: bool,
    delete_marker: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retention_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retain_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sha256: Option<String>,
}

/// Writes the file anew; how many lines it has.
pub(super) fn write(place: &Place, dir: &Path) -> Result<u64, MirrorError> {
    let failed = |reason: String| MirrorError::Source {
        from: place.to_string(),
        what: "the list of versions".to_owned(),
        reason,
    };
    let path = dir.join(VERSIONS_FILE);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let known: HashMap<(String, String), Line> = before
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .map(|line| ((line.key.clone(), line.version_id.clone()), line))
        .collect();
    let reader = Reader::connect(place).map_err(|error| failed(error.to_string()))?;
    let mut versions = reader.versions().map_err(|error| failed(error.to_string()))?;
    versions.retain(|version| version.key != "writer" && !version.key.split('/').any(|part| part == "staging"));
    versions.sort_by(|a, b| (&a.key, b.is_latest, &a.version).cmp(&(&b.key, a.is_latest, &b.version)));

    // A lock in mode COMPLIANCE can be made longer and nothing else, so what is known of it is asked once. Everything else is asked again.
    let asked: Vec<(String, String)> = versions
        .iter()
        .filter(|version| !version.delete_marker && is_immutable(&version.key))
        .map(|version| (version.key.clone(), version.version.clone()))
        .filter(|key| known.get(key).is_none_or(|line| line.retention_mode.as_deref() != Some("COMPLIANCE")))
        .collect();
    let mut retentions = reader.retentions(asked).map_err(|error| failed(error.to_string()))?;

    let mut lines = String::new();
    let count = versions.len() as u64;
    for version in versions {
        let place = (version.key.clone(), version.version.clone());
        let known = known.get(&place);
        let retention = retentions.remove(&place).flatten();
        let (mode, until) = match (retention, known) {
            (Some(retention), _) => (Some(retention.mode), Some(retention.until)),
            (None, Some(line)) if line.retention_mode.as_deref() == Some("COMPLIANCE") => {
                (line.retention_mode.clone(), line.retain_until.clone())
            }
            _ => (None, None),
        };
        let sha256 = match known.and_then(|line| line.sha256.clone()) {
            Some(known) if is_immutable(&version.key) => Some(known),
            _ if version.is_latest && !version.delete_marker => {
                fs::read(dir.join(&version.key)).ok().map(|bytes| Digest::sha256(&bytes).to_string())
            }
            _ => None,
        };
        let line = Line {
            key: version.key,
            version_id: version.version,
            size: version.size,
            etag: version.etag.map(|etag| etag.trim_matches('"').to_owned()),
            last_modified: version.last_modified,
            is_latest: version.is_latest,
            delete_marker: version.delete_marker,
            retention_mode: mode,
            retain_until: until,
            sha256,
        };
        lines.push_str(&serde_json::to_string(&line).map_err(|error| failed(error.to_string()))?);
        lines.push('\n');
    }
    let replaced = files::replace(&path, lines.as_bytes(), files::Readers::Everybody);
    replaced.map_err(|error| io_error("write", &path)(error.source))?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_the_documents() {
        let document = include_str!("../../FORMAT.md");
        let example = document.split("```example versions\n").nth(1).unwrap().split("```").next().unwrap();
        let lines: Vec<Line> = example.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().filter(|line| line.delete_marker).count(), 1);
        let written: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        assert_eq!(written, example);
    }
}
