//! One volume's records, in order, and the tree over them.

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::CHECKPOINT_FILE;
use cairn_ledger::tile::{TILE_WIDTH, TileId, TileKind};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};

use super::Run;
use super::volumes::{Volume, moved};
use crate::Progress;
use crate::checkpoints::Published;
use crate::checks::{Checks, Context, Entry, Past};
use crate::life::Life;
use crate::report::{Fault, FaultKind, Found};
use crate::tree::arbiter::Arbiter;
use crate::tree::history::History;
use crate::tree::leaves::{Body, Leaves, Rebuilt};
use crate::tree::levels::Levels;
use crate::tree::speculation::Keys;
use crate::witnessed::Bounds;

/// Longest run of missing bundles that is bridged with hashes from the tiles above. Behind a longer one the tree is not rebuilt.
const BRIDGE_MAX: u64 = 65_536;

/// A volume's tree, as far as it was rebuilt.
pub(super) struct Walked {
    pub(super) history: History,
    pub(super) life: Life,
    /// Records that are the tree's and were not parsed.
    pub(super) held: u64,
}

/// What the walk over a volume needs beside it.
pub(super) struct Around<'a, 'b> {
    pub(super) past: &'a mut [Past<'b>],
    pub(super) bounds: &'a Bounds,
    /// Records of the volumes before, and of all.
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Walked {
    /// One bundle, in its turn.
    fn take(
        &mut self,
        rebuilt: Rebuilt,
        volume: &Volume,
        checkpoint: &Checkpoint,
        around: &mut Around<'_, '_>,
        mut checks: Option<&mut Checks>,
        found: &mut Found,
    ) {
        let Rebuilt { number, leaves, hash, bodies, faults } = rebuilt;
        let Checkpoint { origin, size, .. } = checkpoint;
        faults.into_iter().for_each(|fault| found.fault(fault));
        // First the tree, so that a head in this bundle can name a checkpoint that ends in it.
        self.history.push(number, leaves.clone(), hash);
        for (place, body) in bodies.iter().enumerate() {
            let index = RecordIndex(number * TILE_WIDTH + place as u64);
            let leaf = leaves.get(place).copied();
            if let Body::Record(facts) = body
                && facts.stream.is_ledger()
            {
                self.life.take(index, &facts.detail);
            }
            let Some(checks) = checks.as_deref_mut() else {
                self.held += u64::from(matches!(body, Body::Held | Body::Record(_)));
                continue;
            };
            match (body, leaf) {
                (Body::Record(facts), Some(leaf)) => {
                    let mut context = Context {
                        source: &volume.source,
                        history: &mut self.history,
                        origin,
                        volume: volume.number,
                        past: around.past,
                        bounds: around.bounds,
                        found,
                    };
                    checks.record(&Entry { index, leaf, facts }, &mut context);
                }
                (Body::Invalid(reason), _) => {
                    let full = TileId::full(TileKind::Entries, number);
                    let tile = TileId::in_tree(TileKind::Entries, number, *size).unwrap_or(full);
                    found.fault(Fault::new(FaultKind::RecordInvalid, reason.clone()).file(tile).index(index));
                    checks.unreadable(leaf);
                }
                (Body::Held, _) => self.held += 1,
                _ => checks.unreadable(leaf),
            }
        }
    }
}

impl Run<'_> {
    /// One volume's records, in order, and the tree over them, compared with its checkpoint and every tile. `records`: what is kept of
    /// what records say; `None`: they are hashed and not parsed.
    pub(super) fn walk(
        &self,
        volume: &Volume,
        published: &Published,
        around: &mut Around<'_, '_>,
        mut records: Option<(&Keys, &mut Checks)>,
        found: &mut Found,
    ) -> Walked {
        let Volume { source, inventory, .. } = volume;
        let checkpoint = &published.checkpoint;
        let size = checkpoint.size;
        let arbiter = Arbiter::new(source, size, checkpoint.root);
        let moving = || published.file != CHECKPOINT_FILE || moved(source, published);
        let keys = records.as_ref().map(|(keys, _)| *keys);
        let leaves = Leaves { source, inventory, size, arbiter: &arbiter, moving: &moving, keys };
        let mut walked = Walked { history: History::new(), life: Life::default(), held: 0 };
        let mut edge: Vec<Digest> = Vec::new();
        let bundles = size.0.div_ceil(TILE_WIDTH);
        let numbers = inventory.numbers(bundles);
        let mut next = 0;
        let faults_before = found.faults.len();
        let (done, total) = (around.done, around.total);
        (self.progress)(Progress { done, total });
        leaves.walk(&numbers, self.threads, |rebuilt| {
            let mut checks = records.as_mut().map(|(_, checks)| &mut **checks);
            bridge(next..rebuilt.number, size, &arbiter, &mut walked.history, checks.as_deref_mut(), found);
            next = rebuilt.number + 1;
            edge = if rebuilt.hash.is_none() { rebuilt.leaves.clone() } else { Vec::new() };
            walked.take(rebuilt, volume, checkpoint, around, checks, found);
            (self.progress)(Progress { done: done + size.0.min(next.saturating_mul(TILE_WIDTH)), total });
        });
        let checks = records.map(|(_, checks)| checks);
        bridge(next..bundles, size, &arbiter, &mut walked.history, checks, found);
        if size.0 == 0 {
            let reason = "the checkpoint covers no record; a ledger begins with cairn.ledger.opened.v1";
            found.fault(Fault::new(FaultKind::LedgerOpened, reason).file(&published.file));
        }

        let levels = Levels { source, inventory, size, arbiter: &arbiter, moving: &moving };
        let mut computed = levels.check(walked.history.hashes(), &edge, |fault| found.fault(fault));
        if found.faults.len() == faults_before || size.0 == 0 {
            // Nothing was put right on the way: the leaves alone must give the root.
            computed = walked.history.root(size, source);
        }
        match computed {
            Some(root) if root != checkpoint.root => {
                let reason = format!("its root is {}; the {size} records here have {root}", checkpoint.root);
                found.fault(Fault::new(FaultKind::RootWrong, reason).file(&published.file));
            }
            None => {
                let reason = "the root cannot be computed: records and tiles are missing";
                found.fault(Fault::new(FaultKind::RootWrong, reason).file(&published.file));
            }
            Some(_) => {}
        }
        walked
    }
}

/// Bundles of which there is neither the bundle nor its tile.
fn bridge(
    missing: std::ops::Range<u64>,
    size: TreeSize,
    arbiter: &Arbiter<'_>,
    history: &mut History,
    checks: Option<&mut Checks>,
    found: &mut Found,
) {
    let count = missing.end.saturating_sub(missing.start);
    let Some(first) = TileId::in_tree(TileKind::Entries, missing.start, size).filter(|_| count > 0) else { return };
    let reason = match count {
        1 => "it is missing, and so is its tile of level 0".to_owned(),
        _ => format!("it and the {} bundles behind it are missing, and so are their tiles of level 0", count - 1),
    };
    found.fault(Fault::new(FaultKind::BundleMissing, reason).file(first).index(first.first_record()));
    if let Some(checks) = checks {
        checks.unreadable(None);
    }
    if count > BRIDGE_MAX || !history.is_whole() {
        return history.break_off();
    }
    for number in missing {
        match arbiter.item(1, number) {
            Some(hash) => history.push(number, Vec::new(), Some(hash)),
            None => return history.break_off(),
        }
    }
}
