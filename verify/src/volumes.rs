//! Which volumes are here, and which are not.

use std::io;

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::CHECKPOINT_FILE;
use cairn_ledger::volume::{VOLUME_FOLDER, marked, parse_number, parse_origin, without_dropped};
use cairn_schemas::data::PreviousVolume;

use crate::report::{CheckpointReport, VolumeReport, VolumeState};
use crate::source::{EntryKind, Source};

/// Most volumes that a report lists as absent: a record may name any number.
const ABSENT_MAX: u64 = 100;

/// The numbers of the volumes that are here, rising. The first one is here if its checkpoint or its tiles are. One that is marked as
/// being dropped is not, if there is a later one: what lies there of it may be anything, and says no more than its absence would.
pub(crate) fn present(root: &Source) -> io::Result<Vec<u64>> {
    let first = root.list("")?.iter().any(|(name, _)| name == CHECKPOINT_FILE || name == "tile");
    let mut numbers: Vec<u64> = first.then_some(1).into_iter().collect();
    let names = root.list(VOLUME_FOLDER)?;
    for (name, kind) in &names {
        numbers.extend(parse_number(name).filter(|number| *number > 1 && *kind == EntryKind::Folder));
    }
    numbers.sort_unstable();
    Ok(without_dropped(numbers, &marked(names.iter().map(|(name, _)| name.as_str()))))
}

/// Adds the volumes before the first that is here, as that one names them.
pub(crate) fn absent(previous: Option<&PreviousVolume>, reports: &mut Vec<VolumeReport>) {
    let Some(previous) = previous else { return };
    let Ok((Checkpoint { origin, size, root }, _)) = Checkpoint::parse(previous.checkpoint.as_bytes()) else { return };
    let Some((_, last)) = parse_origin(&origin) else { return };
    let named = CheckpointReport { origin: origin.clone(), size, root };
    let absent = (last.saturating_sub(ABSENT_MAX - 1).max(1)..=last).map(|volume| VolumeReport {
        volume,
        state: VolumeState::Absent,
        checkpoint: (volume == last).then(|| named.clone()),
        keys: Vec::new(),
        reason: None,
    });
    reports.splice(0..0, absent);
}
