//! The volumes that are here, and the checkpoint that each is compared with.

use cairn_ledger::dir::CHECKPOINT_FILE;
use cairn_ledger::tile::{TileId, TileKind, decode_entries};
use cairn_ledger::volume::{folder, path as volume_path};
use cairn_schemas::data::{LedgerOpened, PreviousVolume, VolumeReason};
use cairn_schemas::ids::TreeSize;

use super::Run;
use crate::checkpoints::{self, Published};
use crate::facts::{Detail, Facts};
use crate::inventory::Inventory;
use crate::report::{Fault, FaultKind, Found};
use crate::source::{Source, Unread};
use crate::volumes;

/// One volume: a folder with a checkpoint and the tiles under it.
pub(super) struct Volume {
    pub(super) number: u64,
    pub(super) source: Source,
    /// What it is compared with; `None`: there is nothing, and faults say so.
    pub(super) published: Option<Published>,
    pub(super) inventory: Inventory,
    /// Record 0, read ahead of its turn. That it is the tree's record 0 is found out in its turn.
    pub(super) opened: Option<LedgerOpened>,
    /// Why another one goes on without this one having been closed.
    pub(super) replaced: Option<VolumeReason>,
}

impl Volume {
    /// The volume before it, as it names it.
    pub(super) fn previous(&self) -> Option<&PreviousVolume> {
        self.opened.as_ref()?.previous.as_deref()
    }
}

impl Run<'_> {
    /// The volumes that are here, oldest first, and what each is compared with. Err: there is no ledger here, or it cannot be told.
    pub(super) fn volumes(&self, found: &mut Found) -> Result<Vec<Volume>, String> {
        let mut numbers =
            volumes::present(self.source).map_err(|error| format!("`volume/` cannot be read: {error}"))?;
        if numbers.is_empty() {
            // The words for what is missing are the same as for a ledger of one volume.
            numbers.push(1);
        }
        let mut list: Vec<Volume> = Vec::new();
        // From the newest back: a volume that was replaced is compared with what the next one names.
        for &number in numbers.iter().rev() {
            found.enter(number);
            let source = self.source.below(&folder(number));
            let inventory = Inventory::read(&source)
                .map_err(|error| format!("`{}` cannot be read: {error}", volume_path(number, "tile")))?;
            let previous = list.last().filter(|next| next.number == number + 1).and_then(|next| next.previous());
            let replaced = previous.map(|previous| previous.reason).filter(|reason| *reason != VolumeReason::Rotated);
            let named = previous.filter(|_| replaced.is_some()).and_then(|previous| {
                checkpoints::parse("checkpoint, as the next volume names it", previous.checkpoint.clone().into_bytes())
                    .ok()
            });
            let published = match named {
                Some(published) => Some(published),
                None => self.checkpoint(&source, numbers.len() > 1, found)?,
            };
            let opened = published.as_ref().and_then(|published| opened(&source, published.checkpoint.size));
            list.push(Volume { number, source, published, inventory, opened, replaced });
        }
        list.reverse();
        Ok(list)
    }

    /// The checkpoint to compare with. `None`: there is none, and faults say so. Err: there is no ledger here, or it cannot be told.
    fn checkpoint(&self, source: &Source, several: bool, found: &mut Found) -> Result<Option<Published>, String> {
        let fault = match checkpoints::read(source, CHECKPOINT_FILE) {
            Ok(bytes) => match checkpoints::parse(CHECKPOINT_FILE, bytes) {
                Ok(published) => return Ok(Some(published)),
                Err(error) => Fault::new(FaultKind::CheckpointMalformed, error.to_string()),
            },
            Err(Unread::Missing) => Fault::new(FaultKind::CheckpointMissing, "the ledger has no checkpoint"),
            Err(Unread::Io(error)) => return Err(format!("`{CHECKPOINT_FILE}` cannot be read: {error}")),
            Err(unread) => Fault::new(FaultKind::CheckpointMalformed, unread.to_string()),
        };
        let has_tiles = source.list("").is_ok_and(|entries| entries.iter().any(|(name, _)| name == "tile"));
        if !has_tiles && !several {
            let path = self.path.display();
            let below = checkpoints::read(&Source::new(&self.path.join("ledger")), CHECKPOINT_FILE).is_ok();
            let hint = if below { format!("; there is one at {path}/ledger") } else { String::new() };
            return Err(format!("{path} is not a ledger: it has no readable `checkpoint` and no `tile/`{hint}"));
        }
        found.fault(fault.file(CHECKPOINT_FILE));
        Ok(checkpoints::newest_numbered(source))
    }
}

/// Record 0, read ahead of its turn: it names the key.
fn opened(source: &Source, size: TreeSize) -> Option<LedgerOpened> {
    let tile = TileId::in_tree(TileKind::Entries, 0, size)?;
    let (from, bytes) = crate::tree::needed(source, tile, std::iter::empty(), &|| true).ok()?;
    // A fault further behind is none of record 0's.
    let first = decode_entries(from, &bytes).ok().and_then(|records| records.first().copied()).or_else(|| {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        rest.get(..usize::from(u16::from_be_bytes(*len)))
    })?;
    match Facts::parse(first).ok()?.detail {
        Detail::LedgerOpened(opened) => Some(*opened),
        _ => None,
    }
}

/// Whether another checkpoint was published since this one was read.
pub(super) fn moved(source: &Source, published: &Published) -> bool {
    checkpoints::read(source, CHECKPOINT_FILE)
        .is_ok_and(|bytes| bytes != published.bytes && checkpoints::parse(CHECKPOINT_FILE, bytes).is_ok())
}
