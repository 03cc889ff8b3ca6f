//! What a verification does not show: what these bytes cannot prove, and checks that were not made.

use super::Run;
use crate::checks::Checks;
use crate::render::count;
use crate::report::{KeySource, KeyUsed, PolicySource, VolumeReport, VolumeState, WitnessedReport};

impl Run<'_> {
    /// Checks that somebody may miss in this report.
    pub(super) fn not_made(&self, volumes: &[VolumeReport], checks: &Checks, witnessed: bool) -> Vec<String> {
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
}

/// What these bytes cannot prove, or were not asked to.
pub(super) fn not_proven(
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
