//! One release, as the ledger's records tell of it.

use cairn_ledger::volume::Place;
use cairn_schemas::data::ReleaseBuilt;
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, RingName, Serial};
use cairn_schemas::time::Timestamp;

use crate::rollout::Phase;

/// A release and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// What was built.
    pub built: ReleaseBuilt,
    /// When, by the control plane's clock.
    pub built_at: Timestamp,
    /// The place of its `release.built`.
    pub place: Place,
    /// That record's leaf hash.
    pub leaf: Digest,
    /// Where it stands.
    pub phase: Phase,
    /// The rings it entered, in their order.
    pub rings: Vec<RingName>,
}

impl Release {
    pub(super) const fn new(built: ReleaseBuilt, built_at: Timestamp, place: Place, leaf: Digest) -> Release {
        Release { built, built_at, place, leaf, phase: Phase::Built, rings: Vec::new() }
    }

    /// Serial and digest.
    #[must_use]
    pub const fn reference(&self) -> ReleaseRef {
        ReleaseRef { serial: self.built.serial, digest: self.built.content }
    }

    /// Whether it was ever offered to this ring.
    #[must_use]
    pub fn entered(&self, ring: &RingName) -> bool {
        self.rings.contains(ring)
    }
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is this release.
    Built(Serial),
    /// It was not good, and the ledger says why.
    Rejected,
}
