//! `releases/state.json`: which release is active, which are held, what was tried.

use std::path::Path;

use cairn_schemas::ids::ReleaseRef;
use serde::{Deserialize, Serialize};

use super::{HELD_MAX, QUARANTINED_MAX, ReleaseError};
use crate::durable;

const FILE: &str = "state.json";
/// The one version of the file.
const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateFile {
    version: u32,
    /// What runs, or ran when the process ended.
    pub(super) active: Option<ReleaseRef>,
    /// What lies on disk and was activated once, by the time of its last activation, oldest first.
    pub(super) held: Vec<ReleaseRef>,
    /// The highest serial ever activated: an older one from the network is a replay.
    pub(super) newest: Option<ReleaseRef>,
    /// An activation that was begun and is not over.
    pub(super) attempt: Option<Attempt>,
    /// What this node died of; oldest first.
    pub(super) quarantined: Vec<ReleaseRef>,
}

/// An activation that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempt {
    /// Of which release.
    pub(super) release: ReleaseRef,
    /// How often in a row.
    pub(super) begun: u32,
}

impl StateFile {
    /// Reads the file; a node that never activated anything has none.
    pub(super) fn read(folder: &Path) -> Result<StateFile, ReleaseError> {
        let path = folder.join(FILE);
        let empty = StateFile {
            version: VERSION,
            active: None,
            held: Vec::new(),
            newest: None,
            attempt: None,
            quarantined: Vec::new(),
        };
        let Some(bytes) = durable::read_optional(&path)? else { return Ok(empty) };
        let refuse = |reason: String| ReleaseError::State { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        if let Some(found) = version
            && found > u64::from(VERSION)
        {
            return Err(refuse(format!("it has version {found}; this program reads up to {VERSION}")));
        }
        serde_json::from_value(value).map_err(|error| refuse(error.to_string()))
    }

    /// Replaces the file.
    pub(super) fn write(&self, folder: &Path) -> Result<(), ReleaseError> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("invariant: it has text keys");
        bytes.push(b'\n');
        Ok(durable::replace(&folder.join(FILE), &bytes)?)
    }

    /// `release` is active from now on.
    pub(super) fn activated(&mut self, release: ReleaseRef) {
        self.active = Some(release);
        self.held.retain(|held| *held != release);
        self.held.push(release);
        if self.held.len() > HELD_MAX {
            self.held.drain(..self.held.len() - HELD_MAX);
        }
        if self.newest.is_none_or(|newest| newest.serial < release.serial) {
            self.newest = Some(release);
        }
        self.attempt = None;
    }

    /// `release` is not tried again.
    pub(super) fn quarantine(&mut self, release: ReleaseRef) {
        self.quarantined.retain(|known| *known != release);
        self.quarantined.push(release);
        if self.quarantined.len() > QUARANTINED_MAX {
            self.quarantined.remove(0);
        }
    }
}
