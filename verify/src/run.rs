//! One verification, from the checkpoint to the report.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cairn_ledger::blob::BLOB_FOLDER;
use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::CHECKPOINT_FILE;
use cairn_ledger::note::VerifierKey;
use cairn_ledger::tile::{TILE_WIDTH, TileId, TileKind, decode_entries};
use cairn_schemas::data::LedgerOpened;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};

use crate::Progress;
use crate::checkpoints::{self, NUMBERED_FOLDER, Published, Retained};
use crate::checks::privacy::{Disclosures, Privacy};
use crate::checks::{Checks, Context, Entry};
use crate::facts::{Detail, Facts};
use crate::inventory::Inventory;
use crate::releases::{RELEASES_FOLDER, Releases};
use crate::render::count;
use crate::report::{
    CheckpointReport, Fault, FaultKind, FilesReport, Found, KeySource, KeyUsed, OTHER_FILES_MAX, Report, Verdict,
};
use crate::source::{EntryKind, Source, Unread};
use crate::tree::arbiter::Arbiter;
use crate::tree::history::History;
use crate::tree::leaves::{Body, Leaves, Rebuilt};
use crate::tree::levels::Levels;
use crate::tree::speculation::Keys;
use crate::wal::{self, WAL_FOLDER};

/// Longest run of missing bundles that is bridged with hashes from the tiles above. Behind a longer one the tree is not rebuilt.
const BRIDGE_MAX: u64 = 65_536;
/// The writer's lock: no part of what is published, like the write-ahead log.
const LOCK_FILE: &str = "lock";

/// What to verify, and how.
pub(crate) struct Run<'a> {
    pub(crate) path: &'a Path,
    pub(crate) source: &'a Source,
    pub(crate) key: Option<&'a VerifierKey>,
    pub(crate) since: Option<&'a CheckpointReport>,
    pub(crate) threads: usize,
    /// Hashes, tiles and roots only.
    pub(crate) structure: bool,
    pub(crate) vault: Option<&'a Arc<dyn Disclosures>>,
    pub(crate) progress: &'a dyn Fn(Progress),
}

/// One volume: a folder with a checkpoint and the tiles under it.
#[derive(Clone, Copy)]
struct Volume<'a> {
    source: &'a Source,
    inventory: &'a Inventory,
    published: &'a Published,
}

/// A volume's tree, as far as it was rebuilt.
struct Walked {
    history: History,
    /// Records that are the tree's and were not parsed.
    held: u64,
}

impl Walked {
    /// One bundle, in its turn.
    fn take(&mut self, rebuilt: Rebuilt, volume: &Volume<'_>, mut checks: Option<&mut Checks>, found: &mut Found) {
        let Rebuilt { number, leaves, hash, bodies, faults } = rebuilt;
        let Checkpoint { origin, size, .. } = &volume.published.checkpoint;
        faults.into_iter().for_each(|fault| found.fault(fault));
        // First the tree, so that a head in this bundle can name a checkpoint that ends in it.
        self.history.push(number, leaves.clone(), hash);
        for (place, body) in bodies.iter().enumerate() {
            let index = RecordIndex(number * TILE_WIDTH + place as u64);
            let leaf = leaves.get(place).copied();
            if let Body::Held = body {
                self.held += 1;
                continue;
            }
            let Some(checks) = checks.as_deref_mut() else { continue };
            match (body, leaf) {
                (Body::Record(facts), Some(leaf)) => {
                    let mut context = Context { source: volume.source, history: &mut self.history, origin, found };
                    checks.record(&Entry { index, leaf, facts }, &mut context);
                }
                (Body::Invalid(reason), _) => {
                    let full = TileId::full(TileKind::Entries, number);
                    let tile = TileId::in_tree(TileKind::Entries, number, *size).unwrap_or(full);
                    found.fault(Fault::new(FaultKind::RecordInvalid, reason.clone()).file(tile).index(index));
                    checks.unreadable(leaf);
                }
                _ => checks.unreadable(leaf),
            }
        }
    }
}

/// A report, and whether the ledger published another checkpoint meanwhile.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    pub(crate) moved: bool,
}

impl Run<'_> {
    pub(crate) fn once(&self) -> Outcome {
        let still = |report| Outcome { report, moved: false };
        let tell_not = |reason: String| still(Report::could_not_tell(self.path, reason));
        if let Err(reason) = self.is_there() {
            return tell_not(reason);
        }
        let mut found = Found::default();
        let published = match self.checkpoint(&mut found) {
            Ok(Some(published)) => published,
            // There is a tree and nothing to compare it with.
            Ok(None) => return still(self.report(found)),
            Err(reason) => return tell_not(reason),
        };
        let inventory = match Inventory::read(self.source) {
            Ok(inventory) => inventory,
            Err(error) => return tell_not(format!("`tile/` cannot be read: {error}")),
        };
        let used = self.key(&published, &mut found);
        let mut report = self.tree(&published, used, &inventory, found);
        self.files(&inventory, published.checkpoint.size, &mut report);
        Outcome { report, moved: moved(self.source, &published) }
    }

    /// Whether anything that could be a ledger is at the path.
    fn is_there(&self) -> Result<(), String> {
        let path = self.path.display();
        match fs::metadata(self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(format!("{path} does not exist")),
            Err(error) => return Err(format!("{path} cannot be read: {error}")),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(format!("{path} is not a folder; a ledger is one, with `checkpoint` and `tile/` in it"));
            }
            Ok(_) => {}
        }
        self.source.list("").map(drop).map_err(|error| format!("{path} cannot be read: {error}"))
    }

    /// The checkpoint to compare with. `None`: there is none, and faults say so. Err: there is no ledger here, or it cannot be told.
    fn checkpoint(&self, found: &mut Found) -> Result<Option<Published>, String> {
        let fault = match checkpoints::read(self.source, CHECKPOINT_FILE) {
            Ok(bytes) => match checkpoints::parse(CHECKPOINT_FILE, bytes) {
                Ok(published) => return Ok(Some(published)),
                Err(error) => Fault::new(FaultKind::CheckpointMalformed, error.to_string()),
            },
            Err(Unread::Missing) => Fault::new(FaultKind::CheckpointMissing, "the ledger has no checkpoint"),
            Err(Unread::Io(error)) => return Err(format!("`{CHECKPOINT_FILE}` cannot be read: {error}")),
            Err(unread) => Fault::new(FaultKind::CheckpointMalformed, unread.to_string()),
        };
        let has_tiles = self.source.list("").is_ok_and(|entries| entries.iter().any(|(name, _)| name == "tile"));
        if !has_tiles {
            let path = self.path.display();
            let below = checkpoints::read(&Source::new(&self.path.join("ledger")), CHECKPOINT_FILE).is_ok();
            let hint = if below { format!("; there is one at {path}/ledger") } else { String::new() };
            return Err(format!("{path} is not a ledger: it has no readable `checkpoint` and no `tile/`{hint}"));
        }
        found.fault(fault.file(CHECKPOINT_FILE));
        Ok(checkpoints::newest_numbered(self.source))
    }

    /// The key that checkpoints are checked with: the caller's, else the one that record 0 names.
    fn key(&self, published: &Published, found: &mut Found) -> Option<KeyUsed> {
        let own =
            self.opened(published.checkpoint.size).and_then(|opened| opened.ledger_key.parse::<VerifierKey>().ok());
        let (key, source) = match (self.key, &own) {
            (Some(given), own) => {
                if let Some(own) = own.as_ref().filter(|own| *own != given) {
                    let reason = format!("the key to verify with is {given}; the ledger was opened with {own}");
                    found.fault(Fault::new(FaultKind::KeyMismatch, reason).index(RecordIndex(0)));
                }
                (given, KeySource::Given)
            }
            (None, Some(own)) => (own, KeySource::LedgerOpened),
            (None, None) => {
                let reason = "no key was given, and record 0, which names one, cannot be read";
                found.fault(Fault::new(FaultKind::CheckpointSignature, reason).file(&published.file));
                return None;
            }
        };
        checkpoints::check_signature(published, key, found);
        Some(KeyUsed { vkey: key.to_string(), source })
    }

    /// Record 0, read ahead of its turn: it names the key. That it is the tree's record 0 is found out in its turn.
    fn opened(&self, size: TreeSize) -> Option<LedgerOpened> {
        let tile = TileId::in_tree(TileKind::Entries, 0, size)?;
        let (from, bytes) = crate::tree::needed(self.source, tile, std::iter::empty(), &|| true).ok()?;
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

    /// The records, the tree over them, and everything that needs both.
    fn tree(&self, published: &Published, used: Option<KeyUsed>, inventory: &Inventory, mut found: Found) -> Report {
        let checkpoint = &published.checkpoint;
        let size = checkpoint.size;
        let key = used.as_ref().and_then(|used| used.vkey.parse::<VerifierKey>().ok());
        // Without the newest checkpoint, larger tiles than the one at hand needs are nothing strange.
        let stand_in = published.file != CHECKPOINT_FILE;
        let volume = Volume { source: self.source, inventory, published };
        let (keys, mut checks) = (Keys::default(), Checks::new());
        checks.privacy = Privacy::new(self.vault.cloned());
        let records = (!self.structure).then_some((&keys, &mut checks));
        let Walked { mut history, held } = self.walk(&volume, records, &mut found);

        let mut other = Vec::new();
        let retained = self.retained(published, key.as_ref(), &mut history, &mut other, &mut found);
        if let Some(since) = self.since {
            checkpoints::check_since(since, published, self.source, &mut history, &mut found);
        }
        let origin = checkpoint.origin.as_str();
        let mut checked = Vec::new();
        if !self.structure {
            checks.end(&mut Context { source: self.source, history: &mut history, origin, found: &mut found });
            other.extend(checks.privacy.end(self.source, &mut found));
            let releases = Releases {
                source: self.source,
                size,
                origin,
                key: key.as_ref(),
                opened: checks.opened.as_ref(),
                built: &checks.provenance.built,
                blind: checks.streams.is_blind(),
                stand_in,
            };
            let (releases, other_releases) = releases.check(&mut history, &mut found);
            other.extend(other_releases);
            checked = releases;
        }

        let mut report = self.report(found);
        report.not_proven = not_proven(&checks, used.as_ref(), !checked.is_empty(), published, self.structure);
        report.key = used;
        report.checkpoint = Some(CheckpointReport { origin: checkpoint.origin.clone(), size, root: checkpoint.root });
        report.records = checks.records + held;
        report.counts = checks.counts;
        (report.streams, report.gaps) = checks.streams.report();
        report.releases = checked;
        report.privacy = checks.privacy.report();
        report.retained_checkpoints = retained;
        report.files.other = other;
        report
    }

    /// One volume's records, in order, and the tree over them, compared with its checkpoint and every tile. `records`: what is kept of
    /// what records say; `None`: they are hashed and not parsed.
    fn walk(&self, volume: &Volume<'_>, mut records: Option<(&Keys, &mut Checks)>, found: &mut Found) -> Walked {
        let Volume { source, inventory, published } = *volume;
        let checkpoint = &published.checkpoint;
        let size = checkpoint.size;
        let arbiter = Arbiter::new(source, size, checkpoint.root);
        let moving = || published.file != CHECKPOINT_FILE || moved(source, published);
        let keys = records.as_ref().map(|(keys, _)| *keys);
        let leaves = Leaves { source, inventory, size, arbiter: &arbiter, moving: &moving, keys };
        let mut walked = Walked { history: History::new(), held: 0 };
        let mut edge: Vec<Digest> = Vec::new();
        let bundles = size.0.div_ceil(TILE_WIDTH);
        let numbers = inventory.numbers(bundles);
        let mut next = 0;
        (self.progress)(Progress { done: 0, total: size.0 });
        leaves.walk(&numbers, self.threads, |rebuilt| {
            let mut checks = records.as_mut().map(|(_, checks)| &mut **checks);
            bridge(next..rebuilt.number, size, &arbiter, &mut walked.history, checks.as_deref_mut(), found);
            next = rebuilt.number + 1;
            edge = if rebuilt.hash.is_none() { rebuilt.leaves.clone() } else { Vec::new() };
            walked.take(rebuilt, volume, checks, found);
            (self.progress)(Progress { done: size.0.min(next.saturating_mul(TILE_WIDTH)), total: size.0 });
        });
        let checks = records.map(|(_, checks)| checks);
        bridge(next..bundles, size, &arbiter, &mut walked.history, checks, found);
        if size.0 == 0 {
            let reason = "the checkpoint covers no record; a ledger begins with cairn.ledger.opened.v1";
            found.fault(Fault::new(FaultKind::LedgerOpened, reason).file(&published.file));
        }

        let levels = Levels { source, inventory, size, arbiter: &arbiter, moving: &moving };
        let mut computed = levels.check(walked.history.hashes(), &edge, |fault| found.fault(fault));
        if found.faults.is_empty() || size.0 == 0 {
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

    fn retained(
        &self,
        newest: &Published,
        key: Option<&VerifierKey>,
        history: &mut History,
        other: &mut Vec<String>,
        found: &mut Found,
    ) -> u64 {
        match checkpoints::numbered(self.source) {
            Ok((sizes, strange)) => {
                other.extend(strange);
                Retained { source: self.source, newest, key }.check(&sizes, history, found)
            }
            Err(error) => {
                found.fault(Fault::new(FaultKind::Unreadable, error.to_string()).file(NUMBERED_FOLDER));
                0
            }
        }
    }

    /// What else lies in the folder.
    fn files(&self, inventory: &Inventory, size: TreeSize, report: &mut Report) {
        let mut other = std::mem::take(&mut report.files.other);
        other.extend(inventory.other.iter().cloned());
        let known = [CHECKPOINT_FILE, NUMBERED_FOLDER, "tile", RELEASES_FOLDER, BLOB_FOLDER, WAL_FOLDER, LOCK_FILE];
        for (name, kind) in self.source.list("").unwrap_or_default() {
            if !known.contains(&name.as_str()) {
                other.push(if kind == EntryKind::Folder { format!("{name}/") } else { name });
            }
        }
        other.sort_unstable();
        let (wal_files, wal_records) = wal::waiting(self.source, size);
        report.files = FilesReport {
            tiles: inventory.len(),
            unpublished_tiles: inventory.beyond(size).count() as u64,
            wal_files,
            wal_records,
            other_omitted: other.len().saturating_sub(OTHER_FILES_MAX) as u64,
            other: other.into_iter().take(OTHER_FILES_MAX).collect(),
        };
    }

    /// A report with what was found, and nothing else yet.
    fn report(&self, found: Found) -> Report {
        let mut report = Report::could_not_tell(self.path, String::new());
        report.structure_only = self.structure;
        report.verdict = found.verdict();
        report.reason =
            (report.verdict == Verdict::CouldNotTell).then(|| "the system could not read some of its files".to_owned());
        report.faults = found.faults;
        report.faults_omitted = found.faults_omitted;
        report.findings = found.findings;
        report.findings_omitted = found.findings_omitted;
        report
    }
}

/// Whether another checkpoint was published since this one was read.
fn moved(source: &Source, published: &Published) -> bool {
    checkpoints::read(source, CHECKPOINT_FILE)
        .is_ok_and(|bytes| bytes != published.bytes && checkpoints::parse(CHECKPOINT_FILE, bytes).is_ok())
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

/// What these bytes cannot prove, or were not asked to.
fn not_proven(
    checks: &Checks,
    used: Option<&KeyUsed>,
    has_releases: bool,
    published: &Published,
    structure: bool,
) -> Vec<String> {
    let mut list = Vec::new();
    if structure {
        list.push("anything that records say: only hashes, tiles, roots and checkpoints were checked".to_owned());
    }
    if used.is_none_or(|used| used.source == KeySource::LedgerOpened) {
        list.push(
            "consistent; origin not proven: no key was given, so the ledger's own first record named it".to_owned(),
        );
    }
    if published.note.signatures().len() < 2 {
        list.push("that everyone was shown this history: no witness cosigned the checkpoint".to_owned());
    }
    let (tails, records) = checks.streams.unattested();
    if tails > 0 {
        let (records, tails) = (count(records, "record"), count(tails, "stream"));
        list.push(format!("who wrote {records} at the end of {tails}: no signed head covers them yet"));
    }
    let privacy = checks.privacy.report();
    if privacy.commitments > privacy.erased_commitments && privacy.vault.is_none() {
        let values = count(privacy.commitments - privacy.erased_commitments, "value");
        list.push(format!("that {values} behind commitments can be read: the vault was not looked at"));
    }
    if !privacy.erased.is_empty() {
        list.push("that no copy of an erased key was kept elsewhere: bytes cannot show what is not there".to_owned());
    }
    if has_releases {
        list.push("whether the people who signed commits may: the list of signers is not in the ledger".to_owned());
    }
    list.push("when things happened: records carry their producers' clocks".to_owned());
    list
}
