//! A mirror of a bucket says which versions of every object the bucket keeps. What never changes has one, locked.
//!
//! Object Lock keeps an old version; it does not keep a newer one, or a delete marker, from hiding it. So a reader of a bucket sees what
//! its writer wants to show, and the mirror's `versions.jsonl` shows whether there is more (`ledger/FORMAT.md`, S3). The list is what
//! the bucket's server said to whoever made the mirror: it is believed as far as these are.

use std::collections::BTreeMap;

use cairn_ledger::dir::{CHECKPOINT_FILE, COSIGNED_FILE};
use cairn_ledger::tile::TileId;
use cairn_schemas::digest::Digest;
use serde::Deserialize;

use crate::report::{Fault, FaultKind, FindingKind, Found, VersionsReport};
use crate::source::{Source, Unread};

/// The list's name, in the mirror's root.
pub(crate) const VERSIONS_FILE: &str = "versions.jsonl";
/// Longest list that is read, bytes: some four million versions.
const VERSIONS_LEN_MAX: u64 = 1 << 30;

/// One version of one object, or a delete marker.
#[derive(Deserialize)]
struct Version {
    key: String,
    version_id: String,
    is_latest: bool,
    delete_marker: bool,
    #[serde(default)]
    retention_mode: Option<String>,
    #[serde(default)]
    sha256: Option<Digest>,
}

#[derive(Default)]
struct Seen {
    versions: u64,
    markers: u64,
    locked: u64,
    latest: bool,
}

/// Checks the list, where there is one.
pub(crate) fn check(source: &Source, found: &mut Found) -> Option<VersionsReport> {
    let bytes = match source.read(VERSIONS_FILE, VERSIONS_LEN_MAX) {
        Ok(bytes) => bytes,
        Err(Unread::Missing) => return None,
        Err(unread) => {
            let kind = if unread.is_unknown() { FaultKind::Unreadable } else { FaultKind::VersionsMalformed };
            found.fault(Fault::new(kind, unread.to_string()).file(VERSIONS_FILE));
            return None;
        }
    };
    let mut report = VersionsReport::default();
    let mut keys: BTreeMap<String, Seen> = BTreeMap::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let version: Version = match serde_json::from_slice(line) {
            Ok(version) => version,
            Err(error) => {
                let reason = format!("line {} is no version of an object: {error}", number + 1);
                found.fault(Fault::new(FaultKind::VersionsMalformed, reason).file(VERSIONS_FILE));
                continue;
            }
        };
        if !never_changes(&version.key) {
            continue;
        }
        let seen = keys.entry(version.key.clone()).or_default();
        seen.latest |= version.is_latest;
        if version.delete_marker {
            seen.markers += 1;
            continue;
        }
        seen.versions += 1;
        seen.locked += u64::from(version.retention_mode.as_deref() == Some("COMPLIANCE"));
        if let Some(expected) = version.sha256.filter(|_| version.is_latest) {
            let wrong = match source.summary(&version.key, u64::MAX - 1, 0) {
                Ok(summary) if summary.digest == expected => None,
                Ok(summary) => {
                    Some(format!("its SHA-256 is {}; version {} had {expected}", summary.digest, version.version_id))
                }
                Err(Unread::Missing) => {
                    Some(format!("the bucket has version {}, and the mirror has no file", version.version_id))
                }
                Err(unread) => Some(unread.to_string()),
            };
            if let Some(reason) = wrong {
                found.fault(Fault::new(FaultKind::MirrorWrong, reason).file(&version.key));
            }
        }
    }
    let mut unlocked = 0;
    for (key, seen) in &keys {
        report.objects += 1;
        report.locked += u64::from(seen.locked > 0);
        if seen.markers > 0 {
            let reason = "a delete marker was put over it: readers of the bucket do not see it, or saw another one";
            found.fault(Fault::new(FaultKind::ObjectHidden, reason).file(key));
        }
        if seen.versions > 1 {
            let reason = format!("it never changes, and the bucket has {} versions of it", seen.versions);
            found.fault(Fault::new(FaultKind::ObjectRewritten, reason).file(key));
        }
        unlocked += u64::from(seen.versions > 0 && seen.locked == 0);
    }
    if unlocked > 0 {
        let reason = format!("{unlocked} of {} objects that never change are not locked in the bucket", report.objects);
        found.finding(FindingKind::NotLocked, None, None, reason);
    }
    Some(report)
}

/// Whether the object at this key is written once: full tiles and bundles, numbered checkpoints, blobs, release files; in any volume.
fn never_changes(key: &str) -> bool {
    let key = match key.strip_prefix("volume/").and_then(|rest| rest.split_once('/')) {
        Some((_, below)) => below,
        None => key,
    };
    match key {
        CHECKPOINT_FILE | COSIGNED_FILE => false,
        _ if key.starts_with("tile/") => key.parse::<TileId>().is_ok_and(|tile| !tile.is_partial()),
        _ => ["checkpoints/", "blobs/", "releases/", "versions/"].iter().any(|folder| key.starts_with(folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_changes() {
        for key in
            ["tile/0/000", "tile/entries/x001/002", "checkpoints/5", "releases/1/record.json", "volume/2/tile/0/000"]
        {
            assert!(never_changes(key), "{key}");
        }
        for key in
            ["checkpoint", "cosigned", "volume/2/checkpoint", "tile/0/000.p/5", "staging/1/2", "writer", "volume/2"]
        {
            assert!(!never_changes(key), "{key}");
        }
    }

    fn versions(lines: &str) -> (Option<VersionsReport>, Vec<FaultKind>, usize) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tile/0")).unwrap();
        std::fs::write(folder.path().join("tile/0/000"), b"tile").unwrap();
        std::fs::write(folder.path().join(VERSIONS_FILE), lines).unwrap();
        let mut found = Found::default();
        let report = check(&Source::new(folder.path()), &mut found);
        (report, found.faults.iter().map(|fault| fault.kind).collect(), found.findings.len())
    }

    fn line(version: &str, latest: bool, marker: bool, more: &str) -> String {
        format!(
            r#"{{"key":"tile/0/000","version_id":"{version}","is_latest":{latest},"delete_marker":{marker}{more}}}"#
        ) + "\n"
    }

    #[test]
    fn one_locked_version_is_good_and_anything_else_is_told() {
        let locked = r#","retention_mode":"COMPLIANCE""#;
        let digest = Digest::sha256(b"tile");
        let good = line("a", true, false, &format!(r#"{locked},"sha256":"{digest}""#));
        assert_eq!(versions(&good), (Some(VersionsReport { objects: 1, locked: 1 }), vec![], 0));
        let hidden = line("b", true, true, "") + &line("a", false, false, locked);
        assert_eq!(versions(&hidden).1, [FaultKind::ObjectHidden]);
        let rewritten = line("b", true, false, locked) + &line("a", false, false, locked);
        assert_eq!(versions(&rewritten).1, [FaultKind::ObjectRewritten]);
        let other = line("a", true, false, &format!(r#"{locked},"sha256":"{}""#, Digest::ZERO));
        assert_eq!(versions(&other).1, [FaultKind::MirrorWrong]);
        assert_eq!(versions(&line("a", true, false, "")).2, 1, "not locked");
        assert_eq!(versions("nothing\n").1, [FaultKind::VersionsMalformed]);
        assert_eq!(versions(""), (Some(VersionsReport::default()), vec![], 0));
    }
}
