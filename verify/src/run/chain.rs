//! Every volume in its turn, and then what needs all of them.

use cairn_ledger::dir::{CHECKPOINT_FILE, numbered_path};
use cairn_ledger::note::VerifierKey;
use cairn_ledger::policy::Policy;
use cairn_ledger::volume::{folder, parse_origin, path as volume_path};
use cairn_schemas::ids::TreeSize;

use super::Run;
use super::key::key_mismatch;
use super::limits::not_proven;
use super::link::Link;
use super::volumes::Volume;
use super::walk::{Around, Walked};
use crate::checkpoints::{self, NUMBERED_FOLDER, Published, Retained};
use crate::checks::privacy::Privacy;
use crate::checks::{Checks, Context, Past};
use crate::life::{Ended, Windows};
use crate::releases::Releases;
use crate::report::{Fault, FaultKind, FilesReport, Found, OTHER_FILES_MAX, Report, VolumeReport, VolumeState};
use crate::tree::history::History;
use crate::tree::speculation::Keys;
use crate::witnessed::{self, Bounds, Policies};
use crate::{versions, volumes};

impl Run<'_> {
    /// Every volume in its turn: the records, the tree over them, how it follows from the one before; and then what needs all of them.
    pub(super) fn chain(&self, volumes: &[Volume], mut found: Found) -> Report {
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
}
