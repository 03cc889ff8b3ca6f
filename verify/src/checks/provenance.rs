//! Provenance: nothing is decided by a release that was not built, proven and loaded before.

use std::collections::{BTreeMap, BTreeSet};

use cairn_schemas::data::{CommitSignature, ReleaseBuilt};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, RecordIndex, ReleaseRef, Serial};
use cairn_schemas::types::Role;

use super::streams::Streams;
use super::{Context, Entry, Writer};
use crate::facts::Detail;
use crate::report::{FaultKind, FindingKind};

/// A release that the ledger holds.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) volume: u64,
    pub(crate) index: RecordIndex,
    pub(crate) leaf: Digest,
    pub(crate) record: ReleaseBuilt,
    /// Whether a ring was offered it, or a node loaded it: then all of its files were written.
    pub(crate) offered: bool,
    /// Whether it passed its last ring: then the control plane decides by it too.
    promoted: bool,
    pub(crate) nodes: BTreeSet<NodeId>,
}

impl Built {
    pub(crate) fn reference(&self) -> ReleaseRef {
        ReleaseRef { serial: self.record.serial, digest: self.record.content }
    }
}

/// Every release, and who loaded it.
#[derive(Debug, Default)]
pub(crate) struct Provenance {
    pub(crate) built: BTreeMap<Serial, Built>,
    unsigned_commits: bool,
}

impl Provenance {
    pub(crate) fn record(
        &mut self,
        entry: &Entry<'_>,
        writer: &Writer,
        streams: &Streams,
        context: &mut Context<'_, '_>,
    ) {
        match &entry.facts.detail {
            Detail::LedgerOpened(opened) => self.unsigned_commits = opened.unsigned_commits,
            Detail::Built(built) => self.built(entry, built, context),
            Detail::Rollout { releases, offered } => {
                for release in releases {
                    if let Some(built) = self.named(entry, release, context) {
                        built.offered |= *offered;
                    }
                }
            }
            Detail::Promoted(release) => {
                if let Some(built) = self.named(entry, release, context) {
                    built.promoted = true;
                }
            }
            Detail::Fellback(data) => {
                self.named(entry, &data.from, context);
                // It may not have held that one before: then it loads it next, and says so.
                if let Some(to) = &data.to {
                    self.named(entry, to, context);
                }
            }
            Detail::Loaded(data) => {
                let node = writer.node.clone();
                let Some(built) = self.named(entry, &data.release, context) else { return };
                built.offered = true;
                built.nodes.extend(node);
                // The checkpoint is of the volume that holds the release.
                let had = match context.past.iter().find(|past| past.volume == built.volume) {
                    Some(past) if !past.replaced => past.size.0,
                    Some(_) => u64::MAX,
                    None => entry.index.0,
                };
                let provable = built.index.0 < data.checkpoint_size && data.checkpoint_size <= had;
                if !provable {
                    let reason = format!(
                        "release {} was loaded on a checkpoint of {} records; it was built in record {}, and {} records stood before this one",
                        data.release, data.checkpoint_size, built.index, had
                    );
                    context.found.fault(entry.fault(FaultKind::ReleaseNotProven, reason));
                }
            }
            _ => {}
        }
        if let Some(release) = &entry.facts.release {
            self.loaded(entry, release, writer, streams, context);
        }
    }

    fn built(&mut self, entry: &Entry<'_>, record: &ReleaseBuilt, context: &mut Context<'_, '_>) {
        let first = if context.is_cut() { record.serial.0 } else { 1 };
        let mut wrong = |reason: String| context.found.fault(entry.fault(FaultKind::ReleaseBuilt, reason));
        let expected = self.built.last_key_value().map_or(first, |(serial, _)| serial.0 + 1);
        if record.serial.0 != expected {
            wrong(format!("its serial is {}; expected {expected}", record.serial));
        }
        if record.signature == CommitSignature::None && !self.unsigned_commits {
            wrong(format!("commit {} is not signed, and this ledger was opened for signed commits", record.commit));
        }
        if let Some(same) = &record.same_content_as {
            let earlier = self.built.get(&same.serial).map(Built::reference);
            let unknown = earlier.is_none() && same.serial.0 < first;
            if same.digest != record.content || (earlier != Some(*same) && !unknown) {
                wrong(format!("it is said to have the content of {same}, which is not so"));
            }
        }
        if record.tests.failed > 0 {
            wrong(format!("{} of its tests failed", record.tests.failed));
        }
        let built = Built {
            volume: context.volume,
            index: entry.index,
            leaf: entry.leaf,
            record: record.clone(),
            offered: false,
            promoted: false,
            nodes: BTreeSet::new(),
        };
        // A serial that was taken keeps its first meaning.
        self.built.entry(record.serial).or_insert(built);
    }

    /// A release that a record names must have been built before it.
    fn named(&mut self, entry: &Entry<'_>, release: &ReleaseRef, context: &mut Context<'_, '_>) -> Option<&mut Built> {
        let first = self.built.first_key_value().map(|(serial, _)| *serial);
        let built = self.built.get_mut(&release.serial).filter(|built| built.record.content == release.digest);
        // It may have been built in a volume that is not here.
        let before = context.is_cut() && first.is_none_or(|first| release.serial < first);
        if built.is_none() && !before {
            let reason = format!("it names release {release}, which was not built before");
            context.found.fault(entry.fault(FaultKind::ReleaseUnknown, reason));
        }
        built
    }

    /// A release that a node decides by must have been loaded on it before; one that the control plane decides by, promoted.
    fn loaded(
        &mut self,
        entry: &Entry<'_>,
        release: &ReleaseRef,
        writer: &Writer,
        streams: &Streams,
        context: &mut Context<'_, '_>,
    ) {
        let Some(built) = self.named(entry, release, context) else { return };
        let Some(node) = &writer.node else { return };
        if writer.role == Role::Control {
            if !built.promoted {
                let reason = format!("release {release} was not promoted before");
                context.found.fault(entry.fault(FaultKind::ReleaseNotLoaded, reason));
            }
            return;
        }
        if built.nodes.contains(node) {
            return;
        }
        let reason = format!("{node} had not loaded release {release}");
        if streams.has_gap(&entry.facts.stream) {
            // What is missing may be the very record. Said once for a release and node.
            built.nodes.insert(node.clone());
            let reason = format!("{reason}, as far as its stream is there");
            let kind = FindingKind::ReleaseNotShown;
            return context.found.finding(kind, Some(entry.index), &entry.facts.stream, reason);
        }
        context.found.fault(entry.fault(FaultKind::ReleaseNotLoaded, reason));
    }
}
