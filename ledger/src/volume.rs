//! Volumes: where each lies, and what its checkpoints are called.
//!
//! A ledger is a chain of volumes, each a log of its own. Volume 1 lies at the ledger's root, volume n ≥ 2 under `volume/<n>/` with
//! the same layout. The origin of a volume's checkpoints is `<ledger name>/<n>`. `ledger/FORMAT.md`, Volumes.

use std::fmt;

use cairn_schemas::ids::RecordIndex;

/// The folder of all volumes but the first.
pub const VOLUME_FOLDER: &str = "volume";

/// Where a record stands: in which volume, and at which index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The volume, from 1.
    pub volume: u64,
    /// The index there, from 0.
    pub index: RecordIndex,
}

impl Place {
    /// The beginning of a volume.
    #[must_use]
    pub fn start_of(volume: u64) -> Place {
        Place { volume, index: RecordIndex(0) }
    }

    /// The place `by` records further in the same volume.
    #[must_use]
    pub fn plus(self, by: u64) -> Place {
        Place { volume: self.volume, index: RecordIndex(self.index.0 + by) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.volume, self.index)
    }
}

/// The origin of a volume's checkpoints.
#[must_use]
pub fn origin(name: &str, volume: u64) -> String {
    format!("{name}/{volume}")
}

/// The ledger's name and the volume that an origin names; `None` where it names none. The number has no leading zeros.
#[must_use]
pub fn parse_origin(origin: &str) -> Option<(&str, u64)> {
    let (name, number) = origin.rsplit_once('/')?;
    Some((name, parse_number(number)?)).filter(|(name, _)| !name.is_empty())
}

/// A volume's folder below the ledger's root; `""` for volume 1, which lies at the root.
#[must_use]
pub fn folder(volume: u64) -> String {
    if volume <= 1 { String::new() } else { format!("{VOLUME_FOLDER}/{volume}") }
}

/// The path below the ledger's root of a volume's file.
#[must_use]
pub fn path(volume: u64, file: &str) -> String {
    if volume <= 1 { file.to_owned() } else { format!("{VOLUME_FOLDER}/{volume}/{file}") }
}

/// What a dropped volume's mark adds to its number.
const DROPPED_SUFFIX: &str = ".dropped";

/// The path below the ledger's root of the mark that says that a volume is being dropped. It is durable before anything of the volume is
/// removed, and removed when nothing of it is left.
#[must_use]
pub fn dropped_mark(volume: u64) -> String {
    format!("{VOLUME_FOLDER}/{volume}{DROPPED_SUFFIX}")
}

/// The volumes that are marked as being dropped, given the names in `volume/`; rising.
pub fn marked<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<u64> {
    let number = |name: &str| parse_number(name.strip_suffix(DROPPED_SUFFIX)?);
    let mut marked: Vec<u64> = names.into_iter().filter_map(number).collect();
    marked.sort_unstable();
    marked
}

/// The volumes that count, given those of which there is anything, rising, and those that are marked as being dropped. The newest always
/// counts: it is never dropped, so a mark of it is none.
#[must_use]
pub fn without_dropped(mut volumes: Vec<u64>, marked: &[u64]) -> Vec<u64> {
    let newest = volumes.last().copied();
    volumes.retain(|volume| Some(*volume) == newest || !marked.contains(volume));
    volumes
}

/// A volume's number in its one spelling: decimal, from 1, no leading zeros.
#[must_use]
pub fn parse_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| *number >= 1 && number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_paths() {
        assert_eq!(parse_origin("acme.example/cairn/12"), Some(("acme.example/cairn", 12)));
        for bad in ["acme", "/1", "acme/0", "acme/01", "acme/+1", "acme/", "acme/root"] {
            assert_eq!(parse_origin(bad), None, "{bad}");
        }
        assert_eq!((path(1, "checkpoint"), path(2, "checkpoint")), ("checkpoint".into(), "volume/2/checkpoint".into()));
        assert_eq!((folder(1), folder(3)), (String::new(), "volume/3".into()));
        assert_eq!(dropped_mark(1), "volume/1.dropped");
        assert_eq!(marked(["12.dropped", "2", "1.dropped", "01.dropped", ".dropped", "x.dropped", "3.drop"]), [1, 12]);
        assert_eq!(without_dropped(vec![1, 2, 3], &[1, 3]), [2, 3]);
        assert_eq!(without_dropped(vec![3], &[1, 3]), [3]);
        assert_eq!(Place::start_of(2).plus(7).to_string(), "2/7");
    }
}
