//! One verification, from the checkpoint to the report.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cairn_ledger::blob::BLOB_FOLDER;
use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::dir::{CHECKPOINT_FILE, COSIGNED_FILE, numbered_path};
use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::note::VerifierKey;
use cairn_ledger::policy::Policy;
use cairn_ledger::tile::{TILE_WIDTH, TileId, TileKind, decode_entries};
use cairn_ledger::volume::{VOLUME_FOLDER, folder, origin, parse_origin, path as volume_path};
use cairn_schemas::data::{LedgerOpened, PreviousVolume, VolumeReason};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{RecordIndex, TreeSize};

use crate::checkpoints::{self, NUMBERED_FOLDER, Published, Retained};
use crate::checks::privacy::{Disclosures, Privacy};
use crate::checks::{Checks, Context, Entry, Past};
use crate::facts::{Detail, Facts};
use crate::inventory::Inventory;
use crate::life::{Ended, Life, Windows, endorsed};
use crate::releases::{RELEASES_FOLDER, Releases};
use crate::render::count;
use crate::report::{
    CheckpointReport, Fault, FaultKind, FilesReport, FindingKind, Found, KeySource, KeyUsed, OTHER_FILES_MAX,
    PolicySource, Report, Verdict, VolumeReport, VolumeState, WitnessedReport,
};
use crate::source::{EntryKind, Source, Unread};
use crate::tree::arbiter::Arbiter;
use crate::tree::history::History;
use crate::tree::leaves::{Body, Leaves, Rebuilt};
use crate::tree::levels::Levels;
use crate::tree::speculation::Keys;
use crate::versions::VERSIONS_FILE;
use crate::wal::{self, WAL_FOLDER};
use crate::witnessed::{self, Bounds, Policies};
use crate::{Progress, versions, volumes};

/// Longest run of missing bundles that is bridged with hashes from the tiles above. Behind a longer one the tree is not rebuilt.
const BRIDGE_MAX: u64 = 65_536;
/// The writer's lock: no part of what is published, like the write-ahead log.
const LOCK_FILE: &str = "lock";

/// What to verify, and how.
pub(crate) struct Run<'a> {
    pub(crate) path: &'a Path,
    pub(crate) source: &'a Source,
    pub(crate) key: Option<&'a VerifierKey>,
    pub(crate) policy: Option<&'a Policy>,
    pub(crate) since: Option<&'a CheckpointReport>,
    pub(crate) threads: usize,
    /// Hashes, tiles and roots only.
    pub(crate) structure: bool,
    pub(crate) vault: Option<&'a Arc<dyn Disclosures>>,
    pub(crate) progress: &'a dyn Fn(Progress),
}

/// One volume: a folder with a checkpoint and the tiles under it.
struct Volume {
    number: u64,
    source: Source,
    /// What it is compared with; `None`: there is nothing, and faults say so.
    published: Option<Published>,
    inventory: Inventory,
    /// Record 0, read ahead of its turn. That it is the tree's record 0 is found out in its turn.
    opened: Option<LedgerOpened>,
    /// Why another one goes on without this one having been closed.
    replaced: Option<VolumeReason>,
}

/// A volume's tree, as far as it was rebuilt.
struct Walked {
    history: History,
    life: Life,
    /// Records that are the tree's and were not parsed.
    held: u64,
}

/// What the walk over a volume needs beside it.
struct Around<'a, 'b> {
    past: &'a mut [Past<'b>],
    bounds: &'a Bounds,
    /// Records of the volumes before, and of all.
    done: u64,
    total: u64,
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
        let volumes = match self.volumes(&mut found) {
            Ok(volumes) => volumes,
            Err(reason) => return tell_not(reason),
        };
        if volumes.last().is_some_and(|newest| newest.published.is_none()) {
            // There is a tree and nothing to compare it with.
            return still(self.report(found));
        }
        let report = self.chain(&volumes, found);
        let newest = volumes.last().and_then(|newest| Some((&newest.source, newest.published.as_ref()?)));
        let moved = newest.is_some_and(|(source, published)| moved(source, published))
            || volumes::present(self.source)
                .is_ok_and(|numbers| numbers.into_iter().ne(volumes.iter().map(|volume| volume.number)));
        Outcome { report, moved }
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

    /// The volumes that are here, oldest first, and what each is compared with. Err: there is no ledger here, or it cannot be told.
    fn volumes(&self, found: &mut Found) -> Result<Vec<Volume>, String> {
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

    /// Every volume in its turn: the records, the tree over them, how it follows from the one before; and then what needs all of them.
    fn chain(&self, volumes: &[Volume], mut found: Found) -> Report {
        let (keys, mut checks) = (Keys::default(), Checks::new());
        checks.privacy = Privacy::new(self.vault.cloned());
        let root = volumes.iter().find_map(|volume| volume.opened.as_ref()?.root_key.parse::<VerifierKey>().ok());
        let total = volumes.iter().filter_map(|volume| volume.published.as_ref()).map(|it| it.checkpoint.size.0).sum();
        let mut past: Vec<Past<'_>> = Vec::new();
        let mut reports: Vec<VolumeReport> = Vec::new();
        let (mut held, mut retained, mut done) = (0, 0, 0);
        let mut other = Vec::new();
        let mut files = FilesReport::default();
        let mut witnessed = None;
        let mut holding: Vec<(u64, TreeSize)> = Vec::new();
        let mut ended: Option<Ended> = None;
        for volume in volumes {
            found.enter(volume.number);
            let before = past.last().map_or(volumes[0].number.wrapping_sub(1), |past| past.volume);
            for missing in before + 1..volume.number {
                let reason = format!("volume {missing} stands between {before} and {} and is missing", volume.number);
                found.at_root(missing);
                found.fault(Fault::new(FaultKind::VolumeMissing, reason).file(folder(missing)));
                found.enter(volume.number);
                checks.unreadable(None);
            }
            let Some(published) = &volume.published else {
                checks.unreadable(None);
                continue;
            };
            let checkpoint = &published.checkpoint;
            let ahead =
                volume.opened.as_ref().and_then(|opened| Policy::parse(opened.witnesses.as_ref()?.as_bytes()).ok());
            let bounds = self.bounds(volume, Policies { given: self.policy, own: vec![(0, ahead)] });
            let mut around = Around { past: &mut past, bounds: &bounds, done, total };
            let records = (!self.structure).then_some((&keys, &mut checks));
            let Walked { mut history, life, held: more } =
                self.walk(volume, published, &mut around, records, &mut found);
            held += more;
            done += checkpoint.size.0;
            life.check_end(checkpoint.size, &mut found);
            let windows = life.windows(root.as_ref(), &mut found);
            let windows = windows.or_else(|| {
                let key = self.key.filter(|key| key.name() == checkpoint.origin);
                if key.is_none() {
                    let reason = "no key was given, and record 0, which names one, cannot be read";
                    found.fault(Fault::new(FaultKind::CheckpointSignature, reason).file(&published.file));
                }
                key.map(|key| Windows::of(key.clone()))
            });
            let windows = match (windows, self.key) {
                (Some(own), Some(given))
                    if given.name() == checkpoint.origin && !own.iter().any(|window| window.key == *given) =>
                {
                    let key = own.iter().last().map_or(String::new(), |window| window.key.to_string());
                    found.fault(key_mismatch(given, &key));
                    Some(Windows::of(given.clone()))
                }
                (windows, _) => windows,
            };
            let link = Link { volume, opened: life.opened.as_ref(), root: root.as_ref(), windows: windows.as_ref() };
            let directly = past.last_mut().filter(|past| past.volume + 1 == volume.number);
            link.check(directly, ended.as_ref(), &mut found);

            let replaced = volume.replaced.is_some();
            let mut hold = Vec::new();
            if windows.as_ref().is_some_and(|windows| checkpoints::check_signature(published, windows, &mut found)) {
                hold.push(published.clone());
            }
            let kept = Retained { source: &volume.source, newest: published, windows: windows.as_ref(), replaced };
            let (more, checked) = self.retained(&kept, &mut history, &mut other, &mut found);
            retained += checked;
            hold.extend(more);
            if let Some(cosigned) = witnessed::read(&volume.source, &mut found)
                && kept.one(&cosigned, cosigned.checkpoint.size, &mut history, &mut found)
            {
                hold.push(cosigned);
            }
            holding.extend(hold.iter().map(|published| (volume.number, published.checkpoint.size)));
            let policies = Policies { given: self.policy, own: life.policies(root.as_ref(), &mut found) };
            let cosigned = hold.iter().filter_map(|published| policies.evaluate(published, &mut found));
            let newest = cosigned.max_by_key(|cosigned| cosigned.checkpoint.size);
            let is_newest = volumes.last().is_some_and(|newest| newest.number == volume.number);
            if is_newest {
                witnessed = policies.report(newest, checkpoint.size, &mut found);
            }
            self.files(volume, checkpoint.size, &mut files, &mut other);
            reports.push(VolumeReport {
                volume: volume.number,
                state: match life.ended() {
                    _ if replaced => VolumeState::Replaced,
                    Some(Ended::Closed(_)) => VolumeState::Closed,
                    Some(Ended::Frozen) => VolumeState::Frozen,
                    None => VolumeState::Open,
                },
                checkpoint: Some(published.report()),
                keys: windows.as_ref().map(Windows::report).unwrap_or_default(),
                reason: volume.previous().map(|previous| previous.reason),
            });
            ended = life.ended().cloned();
            past.push(Past {
                volume: volume.number,
                origin: checkpoint.origin.clone(),
                size: checkpoint.size,
                history,
                source: &volume.source,
                windows,
                replaced,
            });
        }
        volumes::absent(volumes.first().and_then(Volume::previous), &mut reports);
        if let Some(Ended::Closed(closed)) = &ended {
            let reason = format!("the last record announces volume {}, and it is missing", closed.next);
            found.at_root(closed.next);
            found.fault(Fault::new(FaultKind::VolumeMissing, reason).file(folder(closed.next)));
        }
        let used = self.used(&past, &holding, volumes, &mut found);
        let newest = volumes.last().and_then(|newest| newest.published.as_ref()).expect("invariant: looked at before");
        found.enter(past.last().map_or(1, |past| past.volume));
        if let Some(since) = self.since {
            checkpoints::check_since(since, newest, &mut past, &mut found);
        }
        let mut checked = Vec::new();
        let cut = past.first().is_some_and(|first| first.volume > 1);
        if !self.structure {
            let (last, before) = past.split_last_mut().expect("invariant: the newest volume was walked");
            checks.end(&mut Context {
                source: self.source,
                history: &mut last.history,
                origin: &last.origin,
                volume: last.volume,
                past: before,
                bounds: &Bounds::default(),
                found: &mut found,
            });
            found.at_root(last.volume);
            other.extend(checks.privacy.end(self.source, &mut found));
            let releases = Releases {
                source: self.source,
                name: parse_origin(&newest.checkpoint.origin).map_or("", |(name, _)| name),
                cut,
                opened: checks.opened.as_ref(),
                built: &checks.provenance.built,
                blind: checks.streams.is_blind(),
                // Without the newest checkpoint, larger tiles than the one at hand needs are nothing strange.
                stand_in: newest.file != CHECKPOINT_FILE,
            };
            let (releases, other_releases) = releases.check(&mut past, &mut found);
            other.extend(other_releases);
            checked = releases;
        }

        found.at_root(1);
        let versions = versions::check(self.source, &mut found);
        let mut report = self.report(found);
        report.versions = versions;
        report.not_proven = not_proven(&checks, used.as_ref(), !checked.is_empty(), witnessed.as_ref(), self.structure);
        report.not_made = self.not_made(&reports, &checks, witnessed.is_some());
        report.key = used;
        report.checkpoint = Some(newest.report());
        report.volumes = reports;
        report.witnessed = witnessed;
        report.records = checks.records + held;
        report.counts = checks.counts;
        (report.streams, report.gaps) = checks.streams.report();
        report.releases = checked;
        report.privacy = checks.privacy.report();
        report.retained_checkpoints = retained;
        other.sort_unstable();
        files.other_omitted += other.len().saturating_sub(OTHER_FILES_MAX) as u64;
        files.other = other.into_iter().take(OTHER_FILES_MAX).collect();
        report.files = files;
        report
    }

    /// When witnesses had which of a volume's records, before any of them is read: the checkpoints' roots are compared later.
    fn bounds(&self, volume: &Volume, policies: Policies<'_>) -> Bounds {
        // What is wrong with these files is said where they are checked.
        let mut unheard = Found::default();
        let (sizes, _) = checkpoints::numbered(&volume.source).unwrap_or_default();
        let numbered = sizes.iter().filter_map(|size| {
            let file = numbered_path(*size);
            checkpoints::parse(&file, checkpoints::read(&volume.source, &file).ok()?).ok()
        });
        let mut published: Vec<Published> = numbered.collect();
        published.extend(witnessed::read(&volume.source, &mut unheard));
        published.extend(volume.published.clone());
        Bounds::new(published.iter().filter_map(|published| policies.evaluate(published, &mut unheard)).collect())
    }

    /// The key that everything hangs on: the caller's, which must be one of the ledger's and have signed a checkpoint that holds; else
    /// the newest one that the ledger names.
    fn used(
        &self,
        past: &[Past<'_>],
        holding: &[(u64, TreeSize)],
        volumes: &[Volume],
        found: &mut Found,
    ) -> Option<KeyUsed> {
        let newest = past.last()?;
        let own = newest.windows.as_ref().and_then(|windows| windows.at(newest.size)).map(|window| &window.key);
        let Some(given) = self.key else {
            return own.map(|key| KeyUsed { vkey: key.to_string(), source: KeySource::LedgerOpened });
        };
        let used = Some(KeyUsed { vkey: given.to_string(), source: KeySource::Given });
        let name = |name: &str| parse_origin(name).map(|(name, _)| name.to_owned());
        let is_it = |key: &VerifierKey| key.key() == given.key() && name(key.name()) == name(given.name());
        let windows = |past: &Past<'_>| {
            past.windows.as_ref().map_or(0, |windows| windows.iter().filter(|w| is_it(&w.key)).count())
        };
        found.enter(newest.volume);
        if past.iter().all(|past| windows(past) == 0) {
            if let Some(own) = own {
                found.fault(key_mismatch(given, &own.to_string()));
            }
            if let Some(published) = volumes.last().and_then(|newest| newest.published.as_ref()) {
                checkpoints::check_signature(published, &Windows::of(given.clone()), found);
            }
            return used;
        }
        // A key that a record names has shown nothing yet; one that signed a checkpoint of this history vouches for all before it, and
        // through the root key that record 0 names for all after it.
        let signed = holding.iter().any(|(volume, size)| {
            let past = past.iter().find(|past| past.volume == *volume);
            let window = past.and_then(|past| past.windows.as_ref()?.at(*size));
            window.is_some_and(|window| is_it(&window.key))
        });
        if !signed {
            let reason = format!("no checkpoint that is here and holds is signed by {given}");
            found.fault(Fault::new(FaultKind::CheckpointSignature, reason).file(CHECKPOINT_FILE));
        }
        used
    }

    /// Checks that somebody may miss in this report.
    fn not_made(&self, volumes: &[VolumeReport], checks: &Checks, witnessed: bool) -> Vec<String> {
        let mut list = Vec::new();
        let absent: Vec<String> = volumes
            .iter()
            .filter(|volume| volume.state == VolumeState::Absent)
            .map(|volume| volume.volume.to_string())
            .collect();
        if !absent.is_empty() {
            list.push(format!("everything in volumes that are not here: {}", absent.join(", ")));
        }
        if self.structure {
            list.push("everything that records say: streams, heads, releases, commitments".to_owned());
        }
        if !witnessed {
            list.push("cosignatures: no witness policy was given, and the ledger names none".to_owned());
        }
        let privacy = checks.privacy.report();
        if privacy.commitments > 0 && privacy.vault.is_none() {
            list.push("whether disclosures open their commitments: no vault was given".to_owned());
        }
        if self.since.is_none() {
            list.push("whether an earlier verification saw the same history: no earlier report was given".to_owned());
        }
        list
    }

    /// One volume's records, in order, and the tree over them, compared with its checkpoint and every tile. `records`: what is kept of
    /// what records say; `None`: they are hashed and not parsed.
    fn walk(
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

    fn retained(
        &self,
        kept: &Retained<'_>,
        history: &mut History,
        other: &mut Vec<String>,
        found: &mut Found,
    ) -> (Vec<Published>, u64) {
        match checkpoints::numbered(kept.source) {
            Ok((sizes, strange)) => {
                let volume = found.volume;
                other.extend(strange.iter().map(|file| volume_path(volume, file)));
                kept.check(&sizes, history, found)
            }
            Err(error) => {
                found.fault(Fault::new(FaultKind::Unreadable, error.to_string()).file(NUMBERED_FOLDER));
                (Vec::new(), 0)
            }
        }
    }

    /// What else lies in a volume's folder.
    fn files(&self, volume: &Volume, size: TreeSize, files: &mut FilesReport, other: &mut Vec<String>) {
        let below = |name: &str| volume_path(volume.number, name);
        other.extend(volume.inventory.other.iter().map(|file| below(file)));
        let of_volume = [CHECKPOINT_FILE, COSIGNED_FILE, NUMBERED_FOLDER, "tile", WAL_FOLDER];
        let of_root = [RELEASES_FOLDER, BLOB_FOLDER, LOCK_FILE, VOLUME_FOLDER, VERSIONS_FILE, "versions"];
        let root = volume.source.is_at(self.source);
        for (name, kind) in volume.source.list("").unwrap_or_default() {
            let known = of_volume.contains(&name.as_str()) || (root && of_root.contains(&name.as_str()));
            if !known {
                other.push(below(&if kind == EntryKind::Folder { format!("{name}/") } else { name }));
            }
        }
        let (wal_files, wal_records) = wal::waiting(&volume.source, size);
        files.tiles += volume.inventory.len();
        files.other_omitted += volume.inventory.other_omitted;
        files.unpublished_tiles += volume.inventory.beyond(size).count() as u64;
        files.wal_files += wal_files;
        files.wal_records += wal_records;
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

fn key_mismatch(given: &VerifierKey, own: &str) -> Fault {
    let reason = format!("the key to verify with is {given}; the ledger was opened with {own}");
    Fault::new(FaultKind::KeyMismatch, reason).index(RecordIndex(0))
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

impl Volume {
    /// The volume before it, as it names it.
    fn previous(&self) -> Option<&PreviousVolume> {
        self.opened.as_ref()?.previous.as_deref()
    }
}

/// How a volume follows from the one before.
struct Link<'a> {
    volume: &'a Volume,
    /// Its record 0, as it stands in the tree.
    opened: Option<&'a LedgerOpened>,
    root: Option<&'a VerifierKey>,
    windows: Option<&'a Windows>,
}

impl Link<'_> {
    fn check(&self, before: Option<&mut Past<'_>>, ended: Option<&Ended>, found: &mut Found) {
        let Some(opened) = self.opened else { return };
        let Some(previous) = &opened.previous else { return };
        let number = self.volume.number;
        let mut wrong = |kind, reason: String| found.fault(Fault::new(kind, reason).index(RecordIndex(0)));
        if self.root.is_some_and(|root| root.to_string() != opened.root_key) {
            let reason = "its root key is not that of the first volume that is here";
            wrong(FaultKind::VolumeChain, reason.to_owned());
        }
        let named = match Checkpoint::parse(previous.checkpoint.as_bytes()) {
            Ok(named) => named,
            Err(error) => {
                return wrong(FaultKind::VolumeChain, format!("the checkpoint of the volume before: {error}"));
            }
        };
        let (checkpoint, note) = named;
        let expected = origin(&opened.name, number.saturating_sub(1));
        if checkpoint.origin != expected {
            let reason = format!(
                "it names a checkpoint of {:?} as the last before it; expected {expected:?}",
                checkpoint.origin
            );
            wrong(FaultKind::VolumeChain, reason);
        }
        if let Some(past) = before {
            if let Some(reason) = past.windows.as_ref().and_then(|windows| windows.check(&checkpoint, &note)) {
                wrong(FaultKind::VolumeChain, format!("the last checkpoint of the volume before: {reason}"));
            }
            let root = past.history.root(checkpoint.size, past.source);
            if checkpoint.size > past.size || root.is_some_and(|root| root != checkpoint.root) {
                let reason = format!(
                    "it names {} records with root {} as the volume before; that is not what is here",
                    checkpoint.size, checkpoint.root
                );
                wrong(FaultKind::VolumeChain, reason);
            }
            if previous.reason == VolumeReason::Rotated {
                let closed = matches!(ended, Some(Ended::Closed(closed)) if closed.next == number);
                if !closed || checkpoint.size != past.size {
                    let reason = format!(
                        "volume {} goes on, and volume {} was not closed for it with its record {}",
                        number,
                        past.volume,
                        past.size.0.saturating_sub(1)
                    );
                    wrong(FaultKind::VolumeChain, reason);
                }
            }
            let last = past.windows.as_ref().and_then(|windows| windows.at(past.size));
            let first = self.windows.and_then(|windows| windows.at(TreeSize(1)));
            if let (Some(last), Some(first)) = (last, first) {
                let same = last.key.key() == first.key.key()
                    && last.second.as_ref().map(VerifierKey::key) == first.second.as_ref().map(VerifierKey::key);
                let expected = Endorsement::LedgerKey { key: first.key.clone(), second: first.second.clone() };
                let endorsed = || match &previous.endorsement {
                    Some(note) => endorsed(note, self.root, &expected),
                    None => Err("the root key did not endorse it".to_owned()),
                };
                if !same && let Err(reason) = endorsed() {
                    let reason = format!("its key is not that of the volume before: {reason}");
                    wrong(FaultKind::KeyEndorsement, reason);
                }
            }
        }
        let said = previous.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        let what = match previous.reason {
            VolumeReason::Rotated => return,
            VolumeReason::Restored => "was restored from a backup; what came after that is not here",
            VolumeReason::Damaged => "was damaged; what could not be read is lost",
            VolumeReason::KeyLost => "lost its key",
        };
        let reason = format!("volume {} {what}{said}", number.saturating_sub(1));
        found.finding(FindingKind::VolumeReplaced, Some(RecordIndex(0)), None, reason);
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
    witnessed: Option<&WitnessedReport>,
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
    match witnessed.map(|witnessed| (witnessed.policy, &witnessed.checkpoint)) {
        None | Some((_, None)) => {
            list.push("that everyone was shown this history: no witness that counts cosigned it".to_owned());
        }
        Some((PolicySource::Ledger, Some(_))) => list.push(
            "that the witnesses are independent: the ledger itself named them, and no policy was given".to_owned(),
        ),
        Some((PolicySource::Given, Some(_))) => {}
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
