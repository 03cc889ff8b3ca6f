//! How a release moves through the rings: a pure function from what is wanted and what is seen to what to do next.
//!
//! [`plan`] opens nothing, sends nothing and remembers nothing. It is asked again whenever the ledger grew or time passed, and each
//! of its [`Action`]s becomes a record; the records, folded by [`crate::state`], are what it sees next time. So a crash
//! between any two records leaves a state from which the same function goes on.
//!
//! The rules, in their order:
//! 1. Older releases that never ended are superseded by the newest one.
//! 2. A release enters its first ring at once. A ring's nodes are those whose first matching selector is that ring's.
//! 3. More failures than a ring tolerates, in any ring it entered, abort it: nodes go back to the last promoted release.
//! 4. A ring is passed when each of its nodes runs the release (tolerated failures aside) and has run its content for the ring's
//!    soak. Known good content skips the soak, nothing else. A ring without nodes is passed at once, and the record says so.
//! 5. After the last ring the release is promoted.
//!
//! A node that says nothing is waited for: silence never passes a gate. After [`HOLD_AFTER`] the wait itself is recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_schemas::config::{PolicyConfig, RingConfig};
use cairn_schemas::data::{
    RolloutAborted, RolloutAdvanced, RolloutEntered, RolloutHeld, RolloutPromoted, RolloutSuperseded,
};
use cairn_schemas::ids::{CommitId, NodeId, ReleaseRef, RingName};
use cairn_schemas::record::Draft;
use cairn_schemas::time::Timestamp;

/// How long a ring may wait for its nodes before the rollout is recorded as held.
pub const HOLD_AFTER: Duration = Duration::from_secs(5 * 60);
/// Most nodes that a `rollout.entered` record names; it counts the others.
pub const NODES_NAMED_MAX: usize = 200;
/// Most nodes that a reason names.
const NODES_IN_REASON_MAX: usize = 5;

/// What is wanted: that the newest proven release runs everywhere its gates let it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The release.
    pub release: ReleaseRef,
    /// Its commit.
    pub commit: CommitId,
    /// Whether its content was promoted before, and since neither aborted nor rolled back.
    pub known_good: bool,
    /// Its own `cairn.yaml`: a release moves through the rings that it declares itself.
    pub config: Arc<PolicyConfig>,
}

/// Where a release stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Built, in no ring yet.
    Built,
    /// Offered to this ring and all before it.
    InRing(InRing),
    /// Passed this ring, and the next step is not recorded yet.
    Passed {
        /// The ring.
        ring: RingName,
    },
    /// Passed its last ring.
    Promoted,
    /// Given up.
    Aborted {
        /// Which gate, and what it saw.
        reason: String,
    },
    /// A newer release took its place.
    Superseded {
        /// The newer one.
        by: ReleaseRef,
    },
}

/// A release in a ring whose gates it has not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InRing {
    /// The ring.
    pub ring: RingName,
    /// When it was offered, by the control plane's clock.
    pub entered: Timestamp,
    /// Whether the wait was recorded.
    pub held: bool,
    /// Whether the soak was skipped when it entered.
    pub known_good: bool,
}

impl Phase {
    /// Whether nothing more will happen to the release.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self, Phase::Promoted | Phase::Aborted { .. } | Phase::Superseded { .. })
    }
}

/// What is seen: the ledger's records, folded.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Where the target stands.
    pub phase: Phase,
    /// Older releases that have not ended, oldest first.
    pub unfinished: Vec<ReleaseRef>,
    /// What was promoted last: what an abort goes back to.
    pub promoted: Option<ReleaseRef>,
    /// Every node that joined.
    pub nodes: Vec<NodeObserved>,
}

/// One node, as far as the target is concerned.
#[derive(Debug, Clone)]
pub struct NodeObserved {
    /// Its id.
    pub id: NodeId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it joined, by the control plane's clock.
    pub joined: Timestamp,
    /// Since when it runs the target; `None` when it does not.
    pub running: Option<Timestamp>,
    /// For how long it has run the target's content, under any serial, since that content was last found bad.
    pub ran: Duration,
    /// Why it refused the target or fell back from it, where it did.
    pub failed: Option<String>,
}

/// What to do next. Each becomes one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// An older release ends without having been promoted.
    Supersede(RolloutSuperseded),
    /// The release is offered to a ring.
    Enter(RolloutEntered),
    /// The ring waits too long.
    Hold(RolloutHeld),
    /// The ring's gates are passed.
    Advance(RolloutAdvanced),
    /// The release is given up.
    Abort(RolloutAborted),
    /// The release passed its last ring.
    Promote(RolloutPromoted),
}

impl Action {
    /// The record that says so. Its subject is the release.
    #[must_use]
    pub fn draft(&self) -> Draft {
        let (draft, release) = match self {
            Action::Supersede(data) => (Draft::new(data), data.release),
            Action::Enter(data) => (Draft::new(data), data.release),
            Action::Hold(data) => (Draft::new(data), data.release),
            Action::Advance(data) => (Draft::new(data), data.release),
            Action::Abort(data) => (Draft::new(data), data.release),
            Action::Promote(data) => (Draft::new(data), data.release),
        };
        draft.subject(release.to_string())
    }
}

/// The Git tag of a promoted release.
#[must_use]
pub fn tag(release: ReleaseRef) -> String {
    format!("v{}", release.serial)
}

/// What to do now. Empty: wait for a record, or until [`wake`].
#[must_use]
pub fn plan(target: &Target, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let superseded =
        observed.unfinished.iter().map(|&release| Action::Supersede(RolloutSuperseded { release, by: target.release }));
    let step = match &observed.phase {
        Phase::Built => enter(target, observed, target.config.rings.first()),
        Phase::Passed { ring } => after(target, observed, ring),
        Phase::InRing(at) => in_ring(target, observed, at, now),
        Phase::Promoted | Phase::Aborted { .. } | Phase::Superseded { .. } => Vec::new(),
    };
    superseded.chain(step).collect()
}

/// When to ask [`plan`] again although no record came; `None` when only a record can change its answer.
#[must_use]
pub fn wake(target: &Target, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let Phase::InRing(at) = &observed.phase else {
        return None;
    };
    let ring = target.config.rings.iter().find(|ring| ring.name == at.ring)?;
    let seen = RingSeen::new(target, observed, ring);
    if seen.complete() {
        return Some(ring.soak.saturating_sub(seen.soaked(at.entered)));
    }
    (!at.held).then(|| HOLD_AFTER.saturating_sub(now.since(at.entered)))
}

/// The ring a node belongs to, in the rings of `config`.
#[must_use]
pub fn ring_of<'a>(config: &'a PolicyConfig, labels: &BTreeMap<String, String>) -> Option<&'a RingName> {
    config.ring_of(labels).map(|ring| &ring.name)
}

fn in_ring(target: &Target, observed: &Observed, at: &InRing, now: Timestamp) -> Vec<Action> {
    let Some(position) = target.config.rings.iter().position(|ring| ring.name == at.ring) else {
        // Only a record written for other content than the release's could say this; nothing good can follow it.
        return vec![abort(target, observed, &at.ring, "the release declares no such ring".to_owned())];
    };
    // A node of an earlier ring may fail late: the whole way behind the release is watched, not only the ring it is in.
    for ring in &target.config.rings[..=position] {
        if let Some(reason) = RingSeen::new(target, observed, ring).failure() {
            return vec![abort(target, observed, &ring.name, reason)];
        }
    }
    let ring = &target.config.rings[position];
    let seen = RingSeen::new(target, observed, ring);
    if !seen.complete() {
        let late = !at.held && now.since(at.entered) >= HOLD_AFTER;
        return if late { vec![hold(target, ring, &seen)] } else { Vec::new() };
    }
    let soaked = seen.soaked(at.entered);
    if soaked < ring.soak && !at.known_good && !seen.members.is_empty() {
        return Vec::new();
    }
    let advance = Action::Advance(RolloutAdvanced {
        release: target.release,
        ring: ring.name.clone(),
        nodes_active: seen.running() as u64,
        soaked_ms: u64::try_from(soaked.as_millis()).unwrap_or(u64::MAX),
    });
    std::iter::once(advance).chain(after(target, observed, &ring.name)).collect()
}

/// What follows a passed ring: the next one, or the promotion.
fn after(target: &Target, observed: &Observed, passed: &RingName) -> Vec<Action> {
    let mut rest = target.config.rings.iter().skip_while(|ring| ring.name != *passed).skip(1).peekable();
    if rest.peek().is_some() {
        return enter(target, observed, rest.next());
    }
    let (release, commit) = (target.release, target.commit.clone());
    vec![Action::Promote(RolloutPromoted { release, commit, tag: tag(release) })]
}

fn enter(target: &Target, observed: &Observed, ring: Option<&RingConfig>) -> Vec<Action> {
    let Some(ring) = ring else {
        return Vec::new();
    };
    let members = RingSeen::new(target, observed, ring).members;
    vec![Action::Enter(RolloutEntered {
        release: target.release,
        ring: ring.name.clone(),
        nodes: members.iter().take(NODES_NAMED_MAX).map(|node| node.id.clone()).collect(),
        nodes_total: members.len() as u64,
        known_good: target.known_good,
    })]
}

fn abort(target: &Target, observed: &Observed, ring: &RingName, reason: String) -> Action {
    let fallback = observed.promoted;
    Action::Abort(RolloutAborted { release: target.release, ring: ring.clone(), reason, fallback })
}

fn hold(target: &Target, ring: &RingConfig, seen: &RingSeen<'_>) -> Action {
    let silent: Vec<&NodeObserved> = seen.members.iter().copied().filter(|node| node.running.is_none()).collect();
    let reason = format!(
        "{} of {} nodes have not activated it within {}: {}",
        silent.len(),
        seen.members.len(),
        humantime::format_duration(HOLD_AFTER),
        named(&silent)
    );
    Action::Hold(RolloutHeld { release: target.release, ring: ring.name.clone(), reason })
}

fn named(nodes: &[&NodeObserved]) -> String {
    let mut names: Vec<String> = nodes.iter().take(NODES_IN_REASON_MAX).map(|node| node.id.to_string()).collect();
    if nodes.len() > NODES_IN_REASON_MAX {
        names.push(format!("and {} more", nodes.len() - NODES_IN_REASON_MAX));
    }
    names.join(", ")
}

/// One ring's nodes with regard to the target.
struct RingSeen<'a> {
    ring: &'a RingConfig,
    members: Vec<&'a NodeObserved>,
}

impl<'a> RingSeen<'a> {
    fn new(target: &Target, observed: &'a Observed, ring: &'a RingConfig) -> RingSeen<'a> {
        let of_ring = |node: &&NodeObserved| ring_of(&target.config, &node.labels) == Some(&ring.name);
        RingSeen { ring, members: observed.nodes.iter().filter(of_ring).collect() }
    }

    fn running(&self) -> usize {
        self.members.iter().filter(|node| node.running.is_some() && node.failed.is_none()).count()
    }

    fn failed(&self) -> Vec<&'a NodeObserved> {
        self.members.iter().copied().filter(|node| node.failed.is_some()).collect()
    }

    /// Why the ring's gate fails, if it does.
    fn failure(&self) -> Option<String> {
        let failed = self.failed();
        let first = failed.first()?;
        let tolerated = self.ring.gates.failures_max as usize;
        // A ring in which nobody runs the release proves nothing, however many failures are tolerated.
        if failed.len() <= tolerated && failed.len() < self.members.len() {
            return None;
        }
        let why = first.failed.as_deref().unwrap_or_default();
        Some(match failed.len() {
            1 => format!("{}: {why}", first.id),
            count => format!("{count} nodes failed ({}); {}: {why}", named(&failed), first.id),
        })
    }

    /// Whether each node has answered: runs the release, or failed within what is tolerated.
    fn complete(&self) -> bool {
        self.running() + self.failed().len() == self.members.len()
    }

    /// For how long the ring has run the content: the shortest time of the nodes that made the ring complete first. A node that
    /// joins while the ring soaks must run the release too, but does not start the soak again, or a ring that grows steadily
    /// would never be passed.
    fn soaked(&self, entered: Timestamp) -> Duration {
        let mut complete_at = entered;
        loop {
            let founding = self.members.iter().filter(|node| node.joined <= complete_at);
            let latest = founding.filter_map(|node| node.running).max().unwrap_or(entered).max(complete_at);
            if latest == complete_at {
                break;
            }
            complete_at = latest;
        }
        let counted = self.members.iter().filter(|node| node.joined <= complete_at && node.failed.is_none());
        counted.map(|node| node.ran).min().unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests;
