//! The `cairn.yaml` of releases, read from their content.
//!
//! A record names a release's digest, never its rings: they stand in `content.tar`, which lies beside the ledger and is found by
//! that digest. Read once each, and kept for the newest few.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_release::files::CONTENT_FILE;
use cairn_schemas::config::PolicyConfig;
use cairn_schemas::ids::ReleaseRef;

use crate::offer::Configs;
use crate::releases::{ReadContentError, Releases};
use crate::step::one_line;

/// How many are kept.
const KEPT_MAX: usize = 64;
/// The file.
const CONFIG_FILE: &str = "cairn.yaml";

/// Why a release's configuration cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Its content cannot be had.
    #[error(transparent)]
    Content(#[from] ReadContentError),
    /// There is no readable `cairn.yaml` in it.
    #[error("{}: cairn.yaml: {reason}", path.display())]
    Config {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The configurations of a ledger's releases.
#[derive(Debug)]
pub struct ConfigCache {
    releases: Releases,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    configs: BTreeMap<ReleaseRef, Arc<PolicyConfig>>,
    /// Those that could not be read, so that the log says it once. They are tried again each time.
    unreadable: BTreeSet<ReleaseRef>,
}

impl ConfigCache {
    /// Of these releases.
    #[must_use]
    pub fn new(releases: Releases) -> ConfigCache {
        ConfigCache { releases, kept: Mutex::default() }
    }

    fn read(&self, release: ReleaseRef) -> Result<PolicyConfig, ConfigError> {
        let files = self.releases.content(release)?;
        let path = || self.releases.shown(release.serial, CONTENT_FILE);
        let refuse = |reason: String| ConfigError::Config { path: path(), reason };
        let file = files.get(CONFIG_FILE).ok_or_else(|| refuse("missing".to_owned()))?;
        let text = std::str::from_utf8(&file.bytes).map_err(|error| refuse(error.to_string()))?;
        serde_saphyr::from_str(text).map_err(|error| refuse(error.to_string()))
    }
}

impl Configs for ConfigCache {
    fn config(&self, release: ReleaseRef) -> Option<Arc<PolicyConfig>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.configs.get(&release) {
            return Some(Arc::clone(found));
        }
        match self.read(release) {
            Ok(config) => {
                let config = Arc::new(config);
                if kept.configs.len() == KEPT_MAX {
                    kept.configs.pop_first();
                }
                kept.configs.insert(release, Arc::clone(&config));
                kept.unreadable.remove(&release);
                Some(config)
            }
            Err(error) => {
                if kept.unreadable.insert(release) {
                    tracing::error!(%release, error = one_line(&error), "the configuration of a release cannot be read");
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cairn_release::content::{Content, FileEntry, pack};
    use cairn_schemas::digest::Digest;
    use cairn_schemas::ids::Serial;

    use super::*;

    fn write(folder: &Path, serial: u64, config: &str) -> ReleaseRef {
        let content = Content::from([(CONFIG_FILE.to_owned(), FileEntry::plain(config))]);
        let tar = pack(&content).unwrap();
        let path = folder.join(serial.to_string());
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(CONTENT_FILE), &tar).unwrap();
        ReleaseRef { serial: Serial(serial), digest: Digest::sha256(&tar) }
    }

    #[test]
    fn a_release_has_the_rings_of_its_own_content() {
        let folder = tempfile::tempdir().unwrap();
        let release = write(folder.path(), 1, "version: 1\nrings:\n  - name: canary\n    soak: 1s\n");
        let cache = ConfigCache::new(Releases::folder(folder.path()));
        assert_eq!(cache.config(release).unwrap().rings[0].name.as_str(), "canary");
        assert!(cache.config(ReleaseRef { serial: Serial(2), ..release }).is_none(), "no such file");
        assert!(cache.config(ReleaseRef { digest: Digest::ZERO, ..release }).is_none(), "another file");
        let broken = write(folder.path(), 3, "rings: [");
        assert!(cache.config(broken).is_none());
        let away = folder.path().join("away");
        std::fs::rename(folder.path().join("1"), &away).unwrap();
        let fresh = ConfigCache::new(Releases::folder(folder.path()));
        assert!(fresh.config(release).is_none());
        std::fs::rename(&away, folder.path().join("1")).unwrap();
        assert!(fresh.config(release).is_some(), "what could not be read is tried again");
    }

    #[test]
    fn only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ConfigCache::new(Releases::folder(folder.path()));
        for serial in 0..=KEPT_MAX as u64 {
            let release = write(folder.path(), serial, "version: 1\nrings: []\n");
            assert!(cache.config(release).is_some());
        }
        assert_eq!(cache.kept.lock().unwrap().configs.len(), KEPT_MAX);
    }
}
