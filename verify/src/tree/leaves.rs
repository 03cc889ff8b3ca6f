//! Bundles and level-0 tiles: records to leaf hashes, on every core.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use cairn_ledger::tile::{TILE_WIDTH, TileId, TileKind, decode_hashes};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};

use super::arbiter::Arbiter;
use super::speculation::Keys;
use super::{needed_to, subtree, unread_fault};
use crate::facts::{Detail, Facts};
use crate::inventory::{Inventory, named};
use crate::report::{Fault, FaultKind};
use crate::source::Source;

/// Rebuilt tiles that may wait for the one core that puts them in order, for each worker.
const WAITING_MAX: usize = 2;

/// What a worker reads from.
pub(crate) struct Leaves<'a> {
    pub(crate) source: &'a Source,
    pub(crate) inventory: &'a Inventory,
    pub(crate) size: TreeSize,
    pub(crate) arbiter: &'a Arbiter<'a>,
    /// Whether the ledger has published another checkpoint since this one was read.
    pub(crate) moving: &'a (dyn Fn() -> bool + Sync),
    /// The keys that heads are signed with, as far as records say; `None`: nothing of what records say is of interest, and they are not
    /// parsed.
    pub(crate) keys: Option<&'a Keys>,
}

/// What a worker uses again for each bundle: a quarter of a megabyte that is neither asked for nor cleared each time.
#[derive(Default)]
struct Buffers {
    bundle: Vec<u8>,
    tile: Vec<u8>,
}

/// One bundle with its level-0 tile, compared.
pub(crate) struct Rebuilt {
    pub(crate) number: u64,
    /// The leaf hashes that the tree holds, as far as that can be told; empty when it cannot.
    pub(crate) leaves: Vec<Digest>,
    /// The hash over 256 of them.
    pub(crate) hash: Option<Digest>,
    /// One per record that the tree has here.
    pub(crate) bodies: Vec<Body>,
    pub(crate) faults: Vec<Fault>,
}

/// A record.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are records, and a box for each would be made on one core and freed on another"
)]
pub(crate) enum Body {
    /// It is the tree's, and it is a record.
    Record(Facts),
    /// It is the tree's, and was not parsed.
    Held,
    /// It is the tree's, and it is no record.
    Invalid(String),
    /// Its bytes are missing, or not the tree's.
    Unreadable,
}

/// A bundle, taken apart as far as it goes.
struct Bundle<'b> {
    records: Vec<&'b [u8]>,
    /// Why it did not go to the end, or what stands after it.
    error: Option<String>,
}

/// Whether a record's type is one that the ledger writes of itself as a whole: records end in their type.
fn is_the_ledgers(record: &[u8]) -> bool {
    let Some(rest) = record.strip_suffix(b"\"}") else { return false };
    let end = &rest[rest.len().saturating_sub(64)..];
    end.iter().rposition(|byte| *byte == b'"').is_some_and(|quote| end[quote + 1..].starts_with(b"cairn.ledger."))
}

impl Leaves<'_> {
    /// Rebuilds the tiles with these numbers, and hands them over in that order.
    pub(crate) fn walk(&self, numbers: &[u64], threads: usize, mut take: impl FnMut(Rebuilt)) {
        let threads = threads.clamp(1, numbers.len().max(1));
        thread::scope(|scope| {
            let channels: Vec<Receiver<Rebuilt>> = (0..threads)
                .map(|first| {
                    let (sender, receiver): (SyncSender<Rebuilt>, _) = sync_channel(WAITING_MAX);
                    scope.spawn(move || {
                        let mut buffers = Buffers::default();
                        for &number in numbers.iter().skip(first).step_by(threads) {
                            // The receiver is gone only when the other side panicked.
                            if sender.send(self.rebuild(number, &mut buffers)).is_err() {
                                return;
                            }
                        }
                    });
                    receiver
                })
                .collect();
            for turn in 0..numbers.len() {
                let rebuilt = channels[turn % threads].recv().expect("invariant: a worker sends each of its tiles");
                take(rebuilt);
            }
        });
    }

    fn rebuild(&self, number: u64, buffers: &mut Buffers) -> Rebuilt {
        let mut faults = Vec::new();
        let Some(tile) = TileId::in_tree(TileKind::Hashes(0), number, self.size) else {
            return Rebuilt { number, leaves: Vec::new(), hash: None, bodies: Vec::new(), faults };
        };
        let width = usize::from(tile.width());
        let stored = self.stored(tile, &mut buffers.tile, &mut faults);
        let bundle_tile = TileId::in_tree(TileKind::Entries, number, self.size).unwrap_or(tile);
        let widths = self.inventory.widths(TileKind::Entries, number);
        let read = needed_to(self.source, bundle_tile, widths, &|| (self.moving)(), &mut buffers.bundle);
        let (bytes, exact) = match read {
            Ok(from) => (Some(&buffers.bundle), from == bundle_tile),
            Err(unread) => {
                faults.push(unread_fault(bundle_tile, &unread));
                (None, true)
            }
        };
        let bundle = match bytes {
            Some(bytes) => take_apart(bytes, width, exact),
            None => Bundle { records: Vec::new(), error: None },
        };
        let computed: Vec<Digest> = bundle.records.iter().map(|record| Digest::leaf(record)).collect();
        let complete = computed.len() == width && bundle.error.is_none();
        let leaves = if complete && stored.as_ref() == Some(&computed) {
            computed.clone()
        } else {
            self.decide(bundle_tile, tile, &bundle, &computed, stored, bytes.is_some(), &mut faults)
        };
        let bodies = (0..width)
            .map(|place| match (bundle.records.get(place), computed.get(place) == leaves.get(place)) {
                (Some(record), true) => match self.keys {
                    Some(keys) => body(record, keys),
                    // Which key signs is needed even where nothing else is read.
                    None if is_the_ledgers(record) => body(record, &Keys::default()),
                    None => Body::Held,
                },
                _ => Body::Unreadable,
            })
            .collect();
        self.other_widths(tile, &leaves, &mut faults);
        let hash = match leaves.len() as u64 {
            TILE_WIDTH => Some(subtree(&leaves)),
            0 => self.arbiter.item(1, number),
            _ => None,
        };
        Rebuilt { number, leaves, hash, bodies, faults }
    }

    /// The level-0 tile as it lies there.
    fn stored(&self, tile: TileId, bytes: &mut Vec<u8>, faults: &mut Vec<Fault>) -> Option<Vec<Digest>> {
        let widths = self.inventory.widths(tile.kind(), tile.index());
        match needed_to(self.source, tile, widths, &|| (self.moving)(), bytes) {
            Ok(from) => match decode_hashes(from, bytes) {
                Ok(mut hashes) => {
                    hashes.truncate(usize::from(tile.width()));
                    Some(hashes)
                }
                Err(error) => {
                    faults.push(
                        Fault::new(FaultKind::TileMalformed, error.to_string()).file(from).index(tile.first_record()),
                    );
                    None
                }
            },
            Err(unread) => {
                faults.push(unread_fault(tile, &unread));
                None
            }
        }
    }

    /// Bundle and tile do not agree, or one is not whole: says which is wrong, and returns the leaves that the tree holds.
    #[allow(clippy::too_many_arguments, reason = "one decision over everything that was read of two files")]
    fn decide(
        &self,
        bundle_tile: TileId,
        tile: TileId,
        bundle: &Bundle<'_>,
        computed: &[Digest],
        stored: Option<Vec<Digest>>,
        bundle_there: bool,
        faults: &mut Vec<Fault>,
    ) -> Vec<Digest> {
        let complete = computed.len() == usize::from(tile.width()) && bundle.error.is_none();
        let place = |place: usize| RecordIndex(tile.first_record().0 + place as u64);
        let malformed = |at: usize, error: &str| {
            Fault::new(FaultKind::BundleMalformed, error.to_owned()).file(bundle_tile).index(place(at))
        };
        if let Some(stored) = stored.as_ref().filter(|stored| self.arbiter.vouches(0, tile.index(), stored)) {
            let mut differing = (0..stored.len()).filter(|place| computed.get(*place) != stored.get(*place)).peekable();
            match &bundle.error {
                // One fault for the file: behind the first wrong length, every record would be another.
                Some(error) => faults.push(malformed(differing.peek().copied().unwrap_or(stored.len() - 1), error)),
                None if bundle_there => faults.extend(differing.map(|at| {
                    Fault::new(
                        FaultKind::RecordWrong,
                        format!("the record hashes to {}; the tree holds {}", text(computed.get(at)), stored[at]),
                    )
                    .file(bundle_tile)
                    .index(place(at))
                })),
                None => {}
            }
            return stored.clone();
        }
        if let Some(error) = &bundle.error {
            faults.push(malformed(computed.len().min(usize::from(tile.width()) - 1), error));
        }
        if !complete {
            return stored.unwrap_or_default();
        }
        if let Some(stored) = &stored {
            let at = computed.iter().zip(stored).position(|(computed, stored)| computed != stored).unwrap_or(0);
            let sure = self.arbiter.vouches(0, tile.index(), computed);
            let reason = format!(
                "it holds {} for record {}, whose bytes in {bundle_tile} hash to {}; {}",
                stored[at],
                place(at),
                computed[at],
                if sure { "the checkpoint vouches for the bytes" } else { "the checkpoint vouches for neither" },
            );
            faults.push(Fault::new(FaultKind::TileWrong, reason).file(tile).index(place(at)));
        }
        computed.to_vec()
    }

    /// Bundles and tiles of other widths that lie there too: earlier ones that were not deleted, and later ones that no checkpoint
    /// covers yet. As far as the tree reaches, it determines their bytes.
    fn other_widths(&self, tile: TileId, leaves: &[Digest], faults: &mut Vec<Fault>) {
        let number = tile.index();
        for kind in [TileKind::Hashes(0), TileKind::Entries] {
            for width in self.inventory.widths(kind, number).filter(|width| *width != tile.width()) {
                let Some(other) = named(kind, number, width) else { continue };
                // Deleted since it was listed: nobody needs it.
                let Ok(bytes) = self.source.tile(other) else { continue };
                let inside = usize::from(width.min(tile.width()));
                let ahead = width > tile.width();
                let (hashes, error) = match kind {
                    TileKind::Entries => {
                        let bundle = take_apart(&bytes, usize::from(width), true);
                        (bundle.records.iter().map(|record| Digest::leaf(record)).collect(), bundle.error)
                    }
                    TileKind::Hashes(_) => match decode_hashes(other, &bytes) {
                        Ok(hashes) => (hashes, None),
                        Err(error) => (Vec::new(), Some(error.to_string())),
                    },
                };
                let wrong = (0..inside.min(leaves.len())).find(|place| hashes.get(*place) != leaves.get(*place));
                let (wrong_kind, malformed_kind) = match kind {
                    TileKind::Entries => (FaultKind::RecordWrong, FaultKind::BundleMalformed),
                    TileKind::Hashes(_) => (FaultKind::TileWrong, FaultKind::TileMalformed),
                };
                let index = |place: usize| RecordIndex(tile.first_record().0 + place as u64);
                if let Some(error) = error.filter(|_| !ahead) {
                    faults
                        .push(Fault::new(malformed_kind, error).file(other).index(index(wrong.unwrap_or(inside - 1))));
                } else if let Some(place) = wrong {
                    let reason = format!(
                        "it holds {} for record {}; the tree holds {}",
                        text(hashes.get(place)),
                        index(place),
                        leaves[place]
                    );
                    faults.push(Fault::new(wrong_kind, reason).file(other).index(index(place)));
                }
            }
        }
    }
}

/// A record that is the tree's.
fn body(record: &[u8], keys: &Keys) -> Body {
    match Facts::parse(record) {
        Ok(mut facts) => {
            facts.note_keys(keys);
            if let Detail::Head(head) = &facts.detail {
                facts.guess = keys.guess(head, &facts.stream).map(Box::new);
            }
            Body::Record(facts)
        }
        Err(error) => Body::Invalid(error.one_line()),
    }
}

fn text(digest: Option<&Digest>) -> String {
    digest.map_or_else(|| "nothing".to_owned(), Digest::to_string)
}

/// Takes a bundle's first `width` records apart; `exact`: it must end there. Unlike a strict reader it keeps what stands before a
/// fault, so that one cut does not hide 255 good records.
fn take_apart(bytes: &[u8], width: usize, exact: bool) -> Bundle<'_> {
    let mut records = Vec::with_capacity(width);
    let mut rest = bytes;
    while records.len() < width {
        let record = rest
            .split_first_chunk::<2>()
            .and_then(|(len, after)| after.split_at_checked(usize::from(u16::from_be_bytes(*len))));
        let Some((record, after)) = record else {
            let error = format!("it ends at byte {}, within record {} of {width}", bytes.len(), records.len() + 1);
            return Bundle { records, error: Some(error) };
        };
        records.push(record);
        rest = after;
    }
    let error = (exact && !rest.is_empty()).then(|| format!("it has {} bytes after its last record", rest.len()));
    Bundle { records, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledgers_records_are_told_by_their_end() {
        assert!(is_the_ledgers(br#"{"data":{},"type":"cairn.ledger.witnesseschanged.v1"}"#));
        for other in [
            &br#"{"data":{},"type":"cairn.stream.gap.v1"}"#[..],
            b"",
            b"\"}",
            b"cairn.ledger.opened.v1\"}",
            &[b'x'; 100],
        ] {
            assert!(!is_the_ledgers(other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn bundles_are_taken_apart_as_far_as_they_go() {
        let bytes = b"\0\x01a\0\0\0\x02bc";
        let bundle = take_apart(bytes, 3, true);
        assert_eq!((bundle.records, bundle.error), (vec![&b"a"[..], b"", b"bc"], None));
        assert_eq!(take_apart(bytes, 2, true).error.unwrap(), "it has 4 bytes after its last record");
        assert!(take_apart(bytes, 2, false).error.is_none());
        assert_eq!(take_apart(bytes, 4, true).error.unwrap(), "it ends at byte 9, within record 4 of 4");
        let cut = take_apart(&bytes[..8], 3, true);
        assert_eq!((cut.records.len(), cut.error.unwrap().as_str()), (2, "it ends at byte 8, within record 3 of 3"));
    }
}
