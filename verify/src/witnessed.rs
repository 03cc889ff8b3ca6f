//! Witnesses: which checkpoint they vouch for, and what their clocks say about records.
//!
//! A witness cosigns only checkpoints that follow from those it cosigned before. So what a quorum of a policy cosigned is a history
//! that nobody can be shown another version of, without that quorum's help. Their times bound when records came: a record was there
//! when a checkpoint that covers it was cosigned, and was not when one that does not cover it was.

use cairn_ledger::dir::COSIGNED_FILE;
use cairn_ledger::policy::Policy;
use cairn_schemas::ids::TreeSize;
use cairn_schemas::time::Timestamp;

use crate::checkpoints::{self, Published};
use crate::report::{CheckpointReport, Fault, FaultKind, FindingKind, Found, PolicySource, WitnessedReport};
use crate::source::{Source, Unread};

/// How far a producer's clock may be ahead of the witnesses'.
pub(crate) const AHEAD_MAX_SECONDS: u64 = 300;
/// How long a record may wait in its producer's spool before its date is worth a look.
pub(crate) const BEHIND_MAX_SECONDS: u64 = 24 * 60 * 60;

/// A checkpoint that meets the policy.
#[derive(Debug, Clone)]
pub(crate) struct Cosigned {
    pub(crate) checkpoint: CheckpointReport,
    witnesses: Vec<String>,
    earliest: u64,
    latest: u64,
}

/// The policies of one volume, and who named them.
pub(crate) struct Policies<'a> {
    pub(crate) given: Option<&'a Policy>,
    /// The ledger's own, each from a size on.
    pub(crate) own: Vec<(u64, Option<Policy>)>,
}

impl Policies<'_> {
    /// The policy for a checkpoint of this size that needs somebody.
    fn at(&self, size: TreeSize) -> Option<(&Policy, PolicySource)> {
        let own = || {
            let policy = self.own.iter().rev().find(|(from, _)| *from <= size.0)?.1.as_ref()?;
            Some((policy, PolicySource::Ledger))
        };
        self.given.map(|policy| (policy, PolicySource::Given)).or_else(own).filter(|(policy, _)| !policy.needs_nobody())
    }

    /// What a checkpoint's cosignatures come to; wrong ones are faults.
    pub(crate) fn evaluate(&self, published: &Published, found: &mut Found) -> Option<Cosigned> {
        let (policy, _) = self.at(published.checkpoint.size)?;
        let evaluation = match policy.evaluate(&published.note) {
            Ok(evaluation) => evaluation,
            Err(error) => {
                found.fault(Fault::new(FaultKind::CosignatureWrong, error.to_string()).file(&published.file));
                return None;
            }
        };
        let (earliest, latest) = evaluation.times().filter(|_| evaluation.met)?;
        let name = |(position, _): &(usize, _)| policy.witnesses()[*position].name.clone();
        Some(Cosigned {
            checkpoint: published.report(),
            witnesses: evaluation.cosigned.iter().map(name).collect(),
            earliest: earliest.0,
            latest: latest.0,
        })
    }

    /// What the newest volume's newest cosigned checkpoint is worth. `size`: how many records that volume has.
    pub(crate) fn report(
        &self,
        newest: Option<Cosigned>,
        size: TreeSize,
        found: &mut Found,
    ) -> Option<WitnessedReport> {
        let (_, policy) = self.at(size)?;
        let covered = newest.as_ref().map_or(0, |cosigned| cosigned.checkpoint.size.0);
        let uncovered = size.0.saturating_sub(covered);
        if newest.is_none() && policy == PolicySource::Given {
            let reason = "no checkpoint of the newest volume meets the witness policy that was given";
            found.fault(Fault::new(FaultKind::PolicyNotMet, reason).file(COSIGNED_FILE));
        } else if uncovered > 0 {
            let reason =
                format!("the newest checkpoint that meets the witness policy covers {covered} of {size} records");
            found.finding(FindingKind::Unwitnessed, None, None, reason);
        }
        Some(match newest {
            Some(Cosigned { checkpoint, witnesses, earliest, latest }) => WitnessedReport {
                policy,
                checkpoint: Some(checkpoint),
                witnesses,
                earliest: Some(earliest),
                latest: Some(latest),
                uncovered,
            },
            None => WitnessedReport {
                policy,
                checkpoint: None,
                witnesses: Vec::new(),
                earliest: None,
                latest: None,
                uncovered,
            },
        })
    }
}

/// The file `cosigned`, if it is there. One that is no checkpoint is a fault.
pub(crate) fn read(source: &Source, found: &mut Found) -> Option<Published> {
    let fault = match checkpoints::read(source, COSIGNED_FILE) {
        Ok(bytes) => match checkpoints::parse(COSIGNED_FILE, bytes) {
            Ok(published) => return Some(published),
            Err(error) => Fault::new(FaultKind::CheckpointMalformed, error.to_string()),
        },
        Err(Unread::Missing) => return None,
        Err(unread) if unread.is_unknown() => Fault::new(FaultKind::Unreadable, unread.to_string()),
        Err(unread) => Fault::new(FaultKind::CheckpointMalformed, unread.to_string()),
    };
    found.fault(fault.file(COSIGNED_FILE));
    None
}

/// When witnesses had which records, as their cosignatures state. Believed as far as the policy is.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    /// Size and latest time, both rising.
    times: Vec<(u64, u64)>,
}

impl Bounds {
    pub(crate) fn new(mut cosigned: Vec<Cosigned>) -> Bounds {
        cosigned.sort_by_key(|cosigned| (cosigned.checkpoint.size, cosigned.latest));
        let mut times: Vec<(u64, u64)> = Vec::new();
        for Cosigned { checkpoint, earliest, latest, .. } in cosigned {
            // Of one size the earliest statement bounds best what it covers; what it does not cover is bounded by it too.
            let at = earliest.min(latest);
            match times.last() {
                Some((size, _)) if *size == checkpoint.size.0 => {}
                Some((_, before)) if *before > at => {}
                _ => times.push((checkpoint.size.0, at)),
            }
        }
        Bounds { times }
    }

    /// How a record's date contradicts the witnesses', in seconds: ahead of the first that had it, or behind the last that did not.
    pub(crate) fn contradicts(&self, index: u64, time: Timestamp) -> Option<Contradiction> {
        let seconds = time.nanos() / 1_000_000_000;
        let place = self.times.partition_point(|(size, _)| *size <= index);
        if let Some((_, had)) = self.times.get(place)
            && seconds > had.saturating_add(AHEAD_MAX_SECONDS)
        {
            return Some(Contradiction::Ahead(seconds - had));
        }
        let (_, had_not) = self.times.get(place.checked_sub(1)?)?;
        (seconds.saturating_add(BEHIND_MAX_SECONDS) < *had_not).then(|| Contradiction::Behind(had_not - seconds))
    }
}

/// A date that cannot be, or is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contradiction {
    /// Dated so many seconds after a witness had it.
    Ahead(u64),
    /// Dated so many seconds before a witness did not have it.
    Behind(u64),
}

#[cfg(test)]
mod tests {
    use cairn_schemas::digest::Digest;

    use super::*;

    fn cosigned(size: u64, time: u64) -> Cosigned {
        let checkpoint = CheckpointReport { origin: "a/1".into(), size: TreeSize(size), root: Digest::ZERO };
        Cosigned { checkpoint, witnesses: Vec::new(), earliest: time, latest: time }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_date_lies_between_those_of_the_checkpoints_around_it() {
        let bounds = Bounds::new(vec![cosigned(20, 2_000_000), cosigned(10, 1_000_000)]);
        let (ahead, behind) = (1_000_000 + AHEAD_MAX_SECONDS, 1_000_000 - BEHIND_MAX_SECONDS);
        assert_eq!(bounds.contradicts(9, at(ahead)), None);
        assert_eq!(bounds.contradicts(9, at(ahead + 1)), Some(Contradiction::Ahead(AHEAD_MAX_SECONDS + 1)));
        assert_eq!(bounds.contradicts(9, at(0)), None, "nothing bounds it from below");
        assert_eq!(bounds.contradicts(10, at(behind)), None);
        assert_eq!(bounds.contradicts(10, at(behind - 1)), Some(Contradiction::Behind(BEHIND_MAX_SECONDS + 1)));
        assert_eq!(bounds.contradicts(20, at(u64::MAX / 1_000_000_000)), None, "nothing bounds it from above");
        assert!(Bounds::default().contradicts(0, at(0)).is_none());
    }
}
