//! Another volume over one that cannot go on: it was restored from a backup, its bytes are damaged, or its key is lost.
//!
//! The old volume is read and never written: it stays as evidence. The new one names the last checkpoint that holds, and takes over what
//! the records under it say. A checkpoint holds when the key that was in force signed it and the tree has its root, as the records
//! say; where a record is damaged, as `tile/0/` says. Producers' records that are readable behind that checkpoint, in bundles and in the
//! log, were acknowledged: they are written again, in their streams, at the beginning of the new volume.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_schemas::data::{LedgerKeyRotated, LedgerOpened, VolumeReason};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};
use cairn_schemas::record::Record;
use cairn_schemas::time::Clock;

use super::OpenError;
use super::open::{Opened, Run};
use super::volumes::{self, Next};
use crate::checkpoint::Checkpoint;
use crate::dir::{CHECKPOINT_FILE, COSIGNED_FILE, numbered_path};
use crate::integrate::{Integrator, PublishedCheckpoint, read_hashes, read_tile};
use crate::note::{Note, NoteSigner};
use crate::store::Store;
use crate::streams::Streams;
use crate::tile::{TILE_WIDTH, TileId, TileKind, decode_entries, fold};
use crate::tree::Frontier;
use crate::volume::parse_origin;

/// How a volume that cannot go on is left behind.
#[derive(Debug, Clone)]
pub struct Restore {
    /// Why: anything but [`VolumeReason::Rotated`].
    pub reason: VolumeReason,
    /// What a person says about it.
    pub note: Option<String>,
    /// The new volume's key, of any volume's name.
    pub signer: NoteSigner,
    /// The root key's word for it, where it is another key than before.
    pub endorsement: Option<String>,
}

/// What became of a volume that could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The volume that was left behind.
    pub left: u64,
    /// The new volume.
    pub volume: u64,
    /// How many records of the old one belong to the ledger: the size of the last checkpoint that holds.
    pub size: TreeSize,
    /// Records among them that cannot be read: what they said is not known, that they were there is.
    pub damaged: Vec<RecordIndex>,
    /// Producers' records behind that checkpoint that were written again.
    pub again: u64,
}

/// The leaves of a volume, as far as they can be told, and what the records that can be read say of its keys.
struct Leaves {
    /// The root at each size that a checkpoint has.
    roots: BTreeMap<u64, Digest>,
    damaged: Vec<RecordIndex>,
    opened: Option<LedgerOpened>,
    rotated: Vec<(u64, String)>,
}

impl Leaves {
    fn key_at(&self, size: u64) -> Option<&str> {
        let newest = self.rotated.iter().rev().find(|(index, _)| *index < size).map(|(_, key)| key.as_str());
        newest.or(self.opened.as_ref().map(|opened| opened.ledger_key.as_str()))
    }
}

/// One bundle's records and the hashes of its level-0 tile, each where it can be read.
fn read_bundle(store: &dyn Store, number: u64, size: TreeSize) -> (Vec<Vec<u8>>, Vec<Digest>) {
    let tile = |kind| TileId::in_tree(kind, number, size).expect("invariant: the tree has this bundle");
    let entries = tile(TileKind::Entries);
    let records = read_tile(store, entries).ok().and_then(|(held, bytes)| {
        let records = decode_entries(held, &bytes).ok()?;
        Some(records.into_iter().take(usize::from(entries.width())).map(<[u8]>::to_vec).collect())
    });
    let hashes = read_hashes(store, tile(TileKind::Hashes(0)));
    (records.unwrap_or_default(), hashes.unwrap_or_default())
}

/// The leaf hashes of one bundle: where records and tile differ, those that the tile above vouches for, and where nothing is above,
/// the tile's.
fn leaves_of(store: &dyn Store, number: u64, size: TreeSize, records: &[Vec<u8>], hashes: &[Digest]) -> Vec<Digest> {
    let ours: Vec<Digest> = records.iter().map(|record| Digest::leaf(record)).collect();
    if hashes.is_empty() || (ours.len() == TILE_WIDTH as usize && ours != hashes) {
        let above = TileId::in_tree(TileKind::Hashes(1), number / TILE_WIDTH, size);
        let above = above.and_then(|tile| read_hashes(store, tile).ok());
        let vouched = above.and_then(|hashes| hashes.get((number % TILE_WIDTH) as usize).copied());
        if hashes.is_empty() || vouched.is_some_and(|hash| hash == fold(&ours)) {
            return ours;
        }
    }
    hashes.to_vec()
}

fn read_leaves(store: &dyn Store, size: TreeSize, sizes: &BTreeSet<u64>) -> Leaves {
    let mut read = Leaves { roots: BTreeMap::new(), damaged: Vec::new(), opened: None, rotated: Vec::new() };
    let mut tree = Frontier::new();
    for number in 0..size.0.div_ceil(TILE_WIDTH) {
        let (records, hashes) = read_bundle(store, number, size);
        let leaves = leaves_of(store, number, size, &records, &hashes);
        let width = (size.0 - number * TILE_WIDTH).min(TILE_WIDTH) as usize;
        for position in 0..width {
            let index = tree.size().0;
            let Some(leaf) = leaves.get(position) else { return read };
            match records.get(position).filter(|record| Digest::leaf(record) == *leaf) {
                Some(record) if index == 0 => {
                    read.opened = Record::parse(record).ok().and_then(|record| record.data_as().ok());
                }
                Some(record) => {
                    // Few records are looked into.
                    let named = record.windows(16).any(|window| window == b"ledger.keyrotate");
                    if named
                        && let Ok(record) = Record::parse(record)
                        && record.stream.is_ledger()
                        && let Ok(rotated) = record.data_as::<LedgerKeyRotated>()
                    {
                        read.rotated.push((index, rotated.new));
                    }
                }
                None => read.damaged.push(RecordIndex(index)),
            }
            tree.push(*leaf);
            if sizes.contains(&tree.size().0) {
                read.roots.insert(tree.size().0, tree.root());
            }
        }
    }
    read
}

/// The checkpoints that are here and can be read, largest first.
fn checkpoints(store: &dyn Store, origin: &str) -> Vec<(Checkpoint, Note, Vec<u8>)> {
    let numbered = store.list("checkpoints").unwrap_or_default();
    let numbered = numbered.iter().filter_map(|name| name.parse().ok()).map(|size| numbered_path(TreeSize(size)));
    let files = [CHECKPOINT_FILE, COSIGNED_FILE].map(str::to_owned).into_iter().chain(numbered);
    let mut found: Vec<(Checkpoint, Note, Vec<u8>)> = files
        .filter_map(|file| store.read(&file).ok())
        .filter_map(|bytes| Checkpoint::parse(&bytes).ok().map(|(checkpoint, note)| (checkpoint, note, bytes)))
        .filter(|(checkpoint, ..)| checkpoint.origin == origin && checkpoint.size.0 > 0)
        .collect();
    found.sort_by_key(|found| std::cmp::Reverse(found.0.size));
    found
}

/// The records of a bundle: the full one, or the widest partial one that is here and whole.
fn widest_bundle(store: &dyn Store, number: u64) -> Option<Vec<Vec<u8>>> {
    let full = TileId::full(TileKind::Entries, number);
    let names = store.list(&full.partial_folder()).unwrap_or_default();
    let mut sizes: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    sizes.push(TILE_WIDTH);
    sizes.sort_unstable();
    let sizes = sizes.into_iter().rev().map(|width| TreeSize(number * TILE_WIDTH + width));
    sizes.map(|size| read_bundle(store, number, size).0).find(|records| !records.is_empty())
}

/// Records behind the checkpoint that holds: what bundles have, and then what the log has, as far as it can be read.
fn read_tail(store: &dyn Store, origin: &str, size: TreeSize) -> Vec<Vec<u8>> {
    let mut tail = Vec::new();
    let mut next = size.0;
    while let Some(records) = widest_bundle(store, next / TILE_WIDTH) {
        let Some(records) = records.get((next % TILE_WIDTH) as usize..).filter(|rest| !rest.is_empty()) else { break };
        next += records.len() as u64;
        tail.extend_from_slice(records);
    }
    if let Ok(mut replay) = store.replay(Digest::sha256(origin.as_bytes()), RecordIndex(next)) {
        // A damaged log gives what stands before the damage.
        while let Ok(Some(records)) = replay.next_part() {
            tail.extend(records.iter().map(|record| record.to_vec()));
        }
    }
    tail
}

/// Begins a volume behind the newest one, which is left as it is. See the module's words.
pub(super) fn restore(
    root: Arc<dyn Store>,
    restore: Restore,
    clock: Arc<dyn Clock>,
) -> Result<(Opened, Restored), OpenError> {
    let refuse = |reason: String| OpenError::Begin { reason };
    if restore.reason == VolumeReason::Rotated {
        return Err(refuse("a volume that is whole is rotated, not left behind".into()));
    }
    let lock = super::open::take_lock(&*root, false)?;
    let name = restore.signer.verifier().name();
    let name = parse_origin(name)
        .map(|(name, _)| name.to_owned())
        .ok_or_else(|| OpenError::Key { reason: format!("{name:?} is not the name of a ledger and a volume") })?;
    let present = volumes::present(&*root)?;
    // A folder whose volume was never finished has no checkpoint.
    let newest = present.iter().rev().map(|volume| Ok((*volume, volumes::store_of(&root, *volume)?)));
    let newest: Vec<(u64, Arc<dyn Store>)> = newest.collect::<Result<_, OpenError>>()?;
    let has_something = |store: &Arc<dyn Store>| {
        store.read(CHECKPOINT_FILE).is_ok() || store.list("tile").is_ok_and(|names| !names.is_empty())
    };
    let (left, store) = newest.into_iter().find(|(_, store)| has_something(store)).ok_or(OpenError::NoLedger)?;
    let origin = crate::volume::origin(&name, left);

    // 1. The last checkpoint that holds.
    let candidates = checkpoints(&*store, &origin);
    let sizes: BTreeSet<u64> = candidates.iter().map(|(checkpoint, ..)| checkpoint.size.0).collect();
    // One reading finds the root of every size; where the largest size is a lie, its right edge is not there, and a smaller one is tried.
    let found = sizes.iter().rev().find_map(|largest| {
        let leaves = read_leaves(&*store, TreeSize(*largest), &sizes);
        let holds = |(checkpoint, note, _): &&(Checkpoint, Note, Vec<u8>)| {
            let key = leaves.key_at(checkpoint.size.0).and_then(|key| key.parse().ok());
            leaves.roots.get(&checkpoint.size.0) == Some(&checkpoint.root)
                && key.is_some_and(|key| note.verify(&[key]).is_ok())
        };
        let (checkpoint, _, bytes) = candidates.iter().find(holds)?;
        Some((checkpoint, bytes, leaves.damaged))
    });
    let Some((checkpoint, bytes, damaged)) = found else {
        return Err(refuse(format!("no checkpoint of volume {left} holds: nothing can be taken over from it")));
    };
    let size = checkpoint.size;
    let published = PublishedCheckpoint { bytes: bytes.clone(), size, root: checkpoint.root };

    // 2. What its records say, without those that are damaged.
    let damaged: Vec<RecordIndex> = damaged.into_iter().filter(|index| index.0 < size.0).collect();
    let mut streams: Option<Streams> = None;
    for number in 0..size.0.div_ceil(TILE_WIDTH) {
        let (records, _) = read_bundle(&*store, number, size);
        for (position, record) in (0..).zip(&records) {
            let index = RecordIndex(number * TILE_WIDTH + position);
            match &mut streams {
                _ if damaged.contains(&index) => {}
                None if index == RecordIndex(0) => streams = Some(Streams::replay_first(record)?.0),
                None => {}
                Some(streams) => streams.salvage(record, Digest::leaf(record), index),
            }
        }
    }
    let streams = streams.ok_or_else(|| refuse(format!("record 0 of volume {left} cannot be read")))?;
    if let Some(crate::streams::Ended::Frozen(frozen)) = streams.ended() {
        return Err(OpenError::Frozen { reason: frozen.reason.clone() });
    }
    let tail = read_tail(&*store, &origin, size);

    // 3. The new volume. Nothing was changed before this.
    let Restore { reason, note, signer, endorsement } = restore;
    let next = Next::new(&streams, &signer, endorsement, reason, note).map_err(|reason| OpenError::Key { reason })?;
    let prepared = volumes::prepare(&*root, next.origin())?;
    let older = volumes::older(&root, left, streams.previous_size())?;
    let integrator = Integrator::empty(store.clone(), signer);
    let run = Run { root, store, older, clock, streams, integrator, published };
    let (run, log, again) = volumes::begin(run, next, prepared, &tail)?;
    let restored = Restored { left, volume: run.streams.volume(), size, damaged, again };
    Ok((run.ready(log, Vec::new(), Some(lock)), restored))
}
