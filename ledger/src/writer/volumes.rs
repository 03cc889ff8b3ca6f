//! A ledger's volumes on its store: which are there, and how one is begun behind another.
//!
//! The order, and what a crash leaves. `ledger.closed` is durable: from then on the old volume takes nothing more, and whoever opens the
//! ledger makes the next. It is published and its checkpoint kept, because the next volume's record 0 names that checkpoint. The next
//! volume's first records are durable in its own log: from then on there is a next volume; a crash before that leaves a folder that
//! holds no volume, and is used again. They are published. Then the old volume's log goes.
//!
//! Old volumes are dropped in [`crate::store::Store::remove_volume`], which says what a crash leaves; whoever opens the ledger finishes it.

use std::io;
use std::sync::Arc;

use cairn_schemas::data::{LedgerOpened, PreviousVolume, VolumeReason};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, StreamId, TreeSize};
use cairn_schemas::time::Timestamp;
use serde::Deserialize;

use super::OpenError;
use super::open::{Run, Signers};
use crate::checkpoint::Checkpoint;
use crate::dir::{CHECKPOINT_FILE, numbered_path};
use crate::endorsement::Endorsement;
use crate::integrate::{EdgeError, Integrator, PublishedCheckpoint, read_tile};
use crate::note::{NoteSigner, VerifierKey};
use crate::store::{Log, Store};
use crate::streams::{History, Incoming, Outcome, Streams, Written, place};
use crate::tile::{TILE_WIDTH, TileId, TileKind, decode_entries};
use crate::volume::{VOLUME_FOLDER, marked, parse_number, without_dropped};
use crate::wal::{FRAME_HEADER_LEN, GROUP_LEN_MAX};

/// A volume that is only read any more.
#[derive(Clone)]
pub(super) struct OldVolume {
    pub(super) volume: u64,
    pub(super) store: Arc<dyn Store>,
    /// How many of its records belong to the ledger: those that the next volume says.
    pub(super) size: TreeSize,
}

impl OldVolume {
    /// Some records from `from` on; none at the end.
    pub(super) fn read_some(&self, from: u64, max: usize) -> Result<Vec<Arc<[u8]>>, EdgeError> {
        if from >= self.size.0 {
            return Ok(Vec::new());
        }
        let tile = TileId::in_tree(TileKind::Entries, from / TILE_WIDTH, self.size).expect("invariant: it is inside");
        let (held, bytes) = read_tile(&*self.store, tile)?;
        let records = decode_entries(held, &bytes)?;
        let (skip, width) = ((from % TILE_WIDTH) as usize, usize::from(tile.width()));
        Ok(records[skip..width].iter().take(max).map(|record| Arc::from(*record)).collect())
    }
}

impl OldVolume {
    /// Its last checkpoint that belongs to the ledger, as it was kept.
    pub(super) fn checkpoint(&self) -> Result<PublishedCheckpoint, EdgeError> {
        let numbered = numbered_path(self.size);
        let bytes = self.store.read(&numbered).or_else(|_| self.store.read(CHECKPOINT_FILE));
        let bytes = bytes.map_err(|source| EdgeError::Read { file: numbered, source })?;
        let (Checkpoint { size, root, .. }, _) = Checkpoint::parse(&bytes)?;
        Ok(PublishedCheckpoint { bytes, size, root })
    }
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.into();
    move |source| OpenError::Io { action, path, source }
}

fn names(root: &dyn Store, folder: &str) -> Result<Vec<String>, OpenError> {
    match root.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(failed("read", folder)),
    }
}

/// The volumes of which there is anything and that are not being dropped, rising. Whether one is a volume is seen when it is read.
pub(super) fn present(root: &dyn Store) -> Result<Vec<u64>, OpenError> {
    let of_first = [CHECKPOINT_FILE, "checkpoints", "tile", "wal"];
    let first = names(root, "")?.iter().any(|name| of_first.contains(&name.as_str()));
    let folders = names(root, VOLUME_FOLDER)?;
    let later = folders.iter().filter_map(|name| parse_number(name)).filter(|number| *number > 1);
    let mut volumes: Vec<u64> = first.then_some(1).into_iter().chain(later).collect();
    volumes.sort_unstable();
    Ok(without_dropped(volumes, &marked(folders.iter().map(String::as_str))))
}

/// The volumes before `newest` whose removal has begun and was cut short, rising.
pub(super) fn dropping(root: &dyn Store, newest: u64) -> Result<Vec<u64>, OpenError> {
    let folders = names(root, VOLUME_FOLDER)?;
    let marked = marked(folders.iter().map(String::as_str));
    Ok(marked.into_iter().filter(|volume| *volume < newest).collect())
}

/// Goes on with removals that a crash cut short. What fails here is tried again at the next opening, and meanwhile nobody sees these
/// volumes.
pub(super) fn finish_drops(run: &Run) {
    let finish = || -> Result<(), OpenError> {
        for volume in dropping(&*run.root, run.streams.volume())? {
            run.root.remove_volume(volume).map_err(failed("remove", &crate::volume::folder(volume)))?;
        }
        Ok(())
    };
    if let Err(error) = finish() {
        tracing::warn!(%error, "a volume whose removal was cut short is not removed yet");
    }
}

/// Where a volume lies.
pub(super) fn store_of(root: &Arc<dyn Store>, volume: u64) -> Result<Arc<dyn Store>, OpenError> {
    if volume == 1 {
        return Ok(root.clone());
    }
    root.volume(volume, false).map_err(failed("read", &crate::volume::folder(volume)))
}

/// The volumes before `volume` that can be read, rising. `size` is that of the one directly before; those of the others stand in the
/// volume that follows each. A volume without a checkpoint is one that is being dropped, or was never finished.
pub(super) fn older(root: &Arc<dyn Store>, volume: u64, size: Option<TreeSize>) -> Result<Vec<OldVolume>, OpenError> {
    let mut older = Vec::new();
    let mut size = size;
    for number in present(&**root)?.into_iter().filter(|number| *number < volume).rev() {
        let store = store_of(root, number)?;
        let Ok((checkpoint, _)) =
            store.read(CHECKPOINT_FILE).map_err(drop).and_then(|bytes| Checkpoint::parse(&bytes).map_err(drop))
        else {
            size = None;
            continue;
        };
        let old = OldVolume { volume: number, store, size: size.unwrap_or(checkpoint.size) };
        size = old
            .read_some(0, 1)
            .ok()
            .and_then(|first| Streams::replay_first(first.first()?).ok())
            .and_then(|(streams, _)| streams.previous_size());
        older.push(old);
    }
    older.reverse();
    Ok(older)
}

/// What of an envelope is looked at.
#[derive(Deserialize)]
struct Foreign<'a> {
    #[serde(borrow)]
    source: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    foreignid: std::borrow::Cow<'a, str>,
}

/// Reads the `foreignid`s of the volume before: they are unique over both. What cannot be read there is not remembered.
pub(super) fn remember(streams: &mut Streams, older: &[OldVolume]) {
    let Some(before) = older.last().filter(|old| old.volume + 1 == streams.volume()) else { return };
    let mut next = 0;
    while next < before.size.0 {
        let Ok(records) = before.read_some(next, usize::MAX) else {
            next = (next / TILE_WIDTH + 1) * TILE_WIDTH;
            continue;
        };
        for record in records {
            // Most records have none, and are not parsed.
            let named = record.windows(12).any(|window| window == b"\"foreignid\":");
            if named
                && let Ok(foreign) = serde_json::from_slice::<Foreign<'_>>(&record)
                && let Some(Ok(stream)) = foreign.source.strip_prefix("/streams/").map(str::parse::<StreamId>)
            {
                streams.remember_foreign(&stream, &foreign.foreignid, RecordIndex(next));
            }
            next += 1;
        }
    }
}

/// Removes the log of a volume that was closed in good order, where a crash left it. It is not needed; what fails here is tried again at
/// the next opening.
pub(super) fn clear_log_before(run: &Run) {
    if run.streams.was_rotated()
        && let Some(before) = run.older.last()
        && before.store.list("wal").is_ok_and(|names| !names.is_empty())
        && let Err(error) = before.store.clear_log()
    {
        tracing::warn!(volume = before.volume, %error, "the write-ahead log of the volume before was not removed");
    }
}

/// The root's word must be about this signer.
pub(super) fn endorses(streams: &Streams, endorsement: &str, signer: &NoteSigner) -> Result<(), String> {
    let root: VerifierKey = streams.opened().root_key.parse().map_err(|error| format!("the root key: {error}"))?;
    match Endorsement::verify(endorsement, &root).map_err(|error| error.to_string())? {
        Endorsement::LedgerKey { key, second } if key == *signer.verifier() && second.as_ref() == signer.second() => {
            Ok(())
        }
        _ => Err(format!("the endorsement is not one of the key {}", signer.verifier())),
    }
}

/// What a next volume is made with.
#[derive(Debug)]
pub(super) struct Next {
    signer: NoteSigner,
    endorsement: Option<String>,
    reason: VolumeReason,
    note: Option<String>,
}

impl Next {
    /// Checks that the key may sign the volume after that of `streams`. `signer` has any volume's name.
    pub(super) fn new(
        streams: &Streams,
        signer: &NoteSigner,
        endorsement: Option<String>,
        reason: VolumeReason,
        note: Option<String>,
    ) -> Result<Next, String> {
        let opened = streams.opened();
        let origin = crate::volume::origin(&opened.name, opened.volume + 1);
        let signer = signer.renamed(&origin).map_err(|error| error.to_string())?;
        let same_key = |vkey: Option<&str>, ours: Option<&VerifierKey>| match (vkey, ours) {
            (None, None) => true,
            (Some(vkey), Some(ours)) => vkey.parse::<VerifierKey>().is_ok_and(|theirs| theirs.key() == ours.key()),
            _ => false,
        };
        let same = same_key(Some(streams.key_at(u64::MAX)), Some(signer.verifier()))
            && same_key(streams.second_key_at(u64::MAX), signer.second());
        let endorsement = match (same, endorsement) {
            (true, _) => None,
            (false, None) => {
                return Err(format!(
                    "{} is another key than before, and the root did not endorse it",
                    signer.verifier()
                ));
            }
            (false, Some(endorsement)) => {
                endorses(streams, &endorsement, &signer)?;
                Some(endorsement)
            }
        };
        Ok(Next { signer, endorsement, reason, note })
    }

    /// After a crash between `ledger.closed` and the next volume.
    pub(super) fn after_crash(run: &Run, reason: VolumeReason, signers: &Signers) -> Result<Next, OpenError> {
        let opened = run.streams.opened();
        let origin = crate::volume::origin(&opened.name, opened.volume + 1);
        let (signer, endorsement) = signers.for_next(&run.streams, &origin)?;
        Next::new(&run.streams, &signer, endorsement, reason, None).map_err(|reason| OpenError::Key { reason })
    }

    /// The next volume's origin.
    pub(super) fn origin(&self) -> &str {
        self.signer.verifier().name()
    }
}

/// A next volume's place and its empty log.
pub(super) struct Prepared {
    store: Arc<dyn Store>,
    log: Box<dyn Log>,
}

/// Makes the next volume's folder and log, while the old one is still as it was: what needs room on the disk comes first.
pub(super) fn prepare(root: &dyn Store, origin: &str) -> Result<Prepared, OpenError> {
    let (_, volume) = crate::volume::parse_origin(origin).expect("invariant: an origin names a volume");
    let store = root.volume(volume, true).map_err(failed("make", &crate::volume::folder(volume)))?;
    // What a crash left holds no volume: nobody was told of it.
    store.clear_log()?;
    let log = store.start_log(Digest::sha256(origin.as_bytes()), RecordIndex(0))?;
    Ok(Prepared { store, log })
}

/// Begins the next volume behind one that ended, or that is left behind: `run.published` is the last checkpoint of it that counts. `tail`:
/// records that stand behind that; producers' ones are written again, and how many were is given.
pub(super) fn begin(
    run: Run,
    next: Next,
    prepared: Prepared,
    tail: &[Vec<u8>],
) -> Result<(Run, Box<dyn Log>, u64), OpenError> {
    let Run { root, store, mut older, clock, streams, published, .. } = run;
    let Next { signer, endorsement, reason, note } = next;
    let Prepared { store: next_store, mut log } = prepared;
    let checkpoint = String::from_utf8_lossy(&published.bytes).into_owned();
    let before = streams.opened();
    let opened = LedgerOpened {
        volume: before.volume + 1,
        ledger_key: signer.verifier().to_string(),
        mldsa_key: signer.second().map(ToString::to_string),
        witnesses: streams.witnesses().map(str::to_owned),
        previous: Some(Box::new(PreviousVolume {
            checkpoint,
            reason,
            note,
            endorsement,
            nodes: Vec::new(),
            streams: Vec::new(),
            carried: 0,
        })),
        ..before.clone()
    };
    let old = OldVolume { volume: before.volume, store: store.clone(), size: published.size };
    let now = clock.now();
    let (mut streams, mut written) = streams.next_volume(opened, now).map_err(|reason| OpenError::Begin { reason })?;
    let again = write_again(&mut streams, tail, now, &mut written);

    // From the end of this on the volume exists. It is one group where that has room for it; a crash between two leaves no volume.
    let mut rest = &written[..];
    while !rest.is_empty() {
        let mut room = 0;
        let fits = |(record, _): &&Written| {
            room += (FRAME_HEADER_LEN + record.len()) as u64;
            room <= GROUP_LEN_MAX
        };
        let count = rest.iter().take_while(fits).count();
        let (group, after) = rest.split_at(count);
        let first = RecordIndex((written.len() - rest.len()) as u64);
        log.reserve(group.iter().map(|(record, _)| (FRAME_HEADER_LEN + record.len()) as u64).sum(), first, 0)?;
        if let Some(durable) = log.append(first, group)? {
            durable()?;
        }
        rest = after;
    }
    let mut integrator = Integrator::empty(next_store.clone(), signer);
    let published = integrator.publish(&written, true, now)?;
    older.push(old);
    let run = Run { root, store: next_store, older, clock, streams, integrator, published };
    clear_log_before(&run);
    Ok((run, log, again))
}

/// Takes producers' records once more, as if they came again: one that the next volume has already is a repeat, a missing one is noted.
fn write_again(streams: &mut Streams, tail: &[Vec<u8>], now: Timestamp, written: &mut Vec<Written>) -> u64 {
    let mut again = 0;
    for bytes in tail {
        let Some((stream, ..)) = place(bytes, Digest::leaf(bytes)).filter(|_| !is_own(bytes)) else { continue };
        let incoming = Incoming::read(&stream, bytes);
        let outcome = streams.accept(&stream, &incoming, &History::new(), now, written);
        again += u64::from(matches!(outcome, Ok(Outcome::Taken(_))));
    }
    again
}

/// Whether the ledger wrote the record itself.
fn is_own(bytes: &[u8]) -> bool {
    cairn_schemas::record::Record::parse(bytes).is_ok_and(|record| record.stream.is_ledger())
}
