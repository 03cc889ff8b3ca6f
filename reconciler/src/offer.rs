//! What a node should run now: pure, from the folded state.
//!
//! A node is offered the release in rollout once that release entered the node's ring, and else what was promoted last. A node
//! that failed a release is not offered it again: it stays with what it has until a newer one comes.

use std::sync::Arc;

use cairn_schemas::config::PolicyConfig;
use cairn_schemas::ids::{NodeId, ReleaseRef};
use cairn_schemas::wire::Desired;

use crate::rollout::{Phase, ring_of};
use crate::state::{Node, State};

/// Where the `cairn.yaml` of a release comes from.
pub trait Configs {
    /// The release's configuration; `None` where its content cannot be read (the reader said so in the log).
    fn config(&self, release: ReleaseRef) -> Option<Arc<PolicyConfig>>;
}

/// What `node` should run, where it says it has `have`.
#[must_use]
pub fn desired(state: &State, configs: &dyn Configs, node: &NodeId, have: Option<ReleaseRef>) -> Desired {
    let none = |reason: Option<String>| Desired { release: None, fallback: false, reason };
    let Some(known) = state.nodes().get(node) else {
        return none(None);
    };
    let moving = in_rollout(state, configs, known);
    let Some(release) = moving.or_else(|| state.last_promoted()) else {
        return none(have.and_then(|have| ended(state, have)));
    };
    if let Some(failure) = known.failure(release.serial)
        && have != Some(release)
    {
        return none(Some(format!("release {} is not offered again: this node {failure}", release.serial)));
    }
    let fallback = have.is_some_and(|have| have.serial > release.serial);
    let reason = have.filter(|_| fallback).and_then(|have| ended(state, have));
    Desired { release: Some(release), fallback, reason }
}

/// The release that moves through the rings, where it entered this node's and the node did not fail it.
fn in_rollout(state: &State, configs: &dyn Configs, node: &Node) -> Option<ReleaseRef> {
    let moving = state.in_rollout()?;
    let release = moving.reference();
    let config = configs.config(release)?;
    let ring = ring_of(&config, &node.labels)?;
    (moving.entered(ring) && node.failure(release.serial).is_none()).then_some(release)
}

/// Why a node should not run what it has, where that release was given up.
fn ended(state: &State, have: ReleaseRef) -> Option<String> {
    match &state.releases().get(&have.serial)?.phase {
        Phase::Aborted { reason } => Some(format!("release {} was aborted: {reason}", have.serial)),
        Phase::Superseded { by } => Some(format!("release {} was superseded by {}", have.serial, by.serial)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
