//! How a volume follows from the one before.

use cairn_ledger::checkpoint::Checkpoint;
use cairn_ledger::endorsement::Endorsement;
use cairn_ledger::note::VerifierKey;
use cairn_ledger::volume::origin;
use cairn_schemas::data::{LedgerOpened, VolumeReason};
use cairn_schemas::ids::{RecordIndex, TreeSize};

use super::volumes::Volume;
use crate::checks::Past;
use crate::life::{Ended, Windows, endorsed};
use crate::report::{Fault, FaultKind, FindingKind, Found};

/// How a volume follows from the one before.
pub(super) struct Link<'a> {
    pub(super) volume: &'a Volume,
    /// Its record 0, as it stands in the tree.
    pub(super) opened: Option<&'a LedgerOpened>,
    pub(super) root: Option<&'a VerifierKey>,
    pub(super) windows: Option<&'a Windows>,
}

impl Link<'_> {
    pub(super) fn check(&self, before: Option<&mut Past<'_>>, ended: Option<&Ended>, found: &mut Found) {
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
