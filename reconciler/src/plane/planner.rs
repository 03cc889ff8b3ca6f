//! The planner's thread: asks [`plan`] what to do, records it, and writes into the policy repo what was recorded.
//!
//! The repo is told after the ledger, never before. What cannot be written there is told as trouble and tried again; a rollout
//! does not wait for it. Nothing is remembered over a restart: what should stand in the repo is computed from the state.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cairn_schemas::ids::{CommitId, RingName, Serial};
use cairn_schemas::time::Timestamp;

use super::Shared;
use crate::offer::Configs as _;
use crate::repo::{ReleaseTag, RepoError, Writer};
use crate::rollout::{Action, Phase, Target, plan, wake};
use crate::setup::author;
use crate::state::{Release, State};
use crate::step::{Step, one_line};

/// The planner looks at least this often.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long its own records may take to come back.
const FOLD_PATIENCE: Duration = Duration::from_secs(30);
/// After a failure, it is not tried again before this.
const RETRY: Duration = Duration::from_secs(5);

pub(super) fn run(shared: &Shared) {
    let mut repo = Repo::new(&shared.live.read(), &shared.fleet.name);
    let mut told = false;
    let mut wait = Duration::ZERO;
    while !shared.stopping() {
        shared.plan.wait(wait);
        if !shared.begun() {
            // Nodes may ask all the same: what was promoted before holds.
            shared.live.settle();
            wait = WAIT_MAX;
            continue;
        }
        let mut actions = Vec::new();
        match settle(shared, &mut actions) {
            Ok(next) => (told, wait) = (false, next),
            Err(problem) => {
                if !told {
                    shared.step(Step::Trouble { what: "moving a rollout on".to_owned(), problem });
                }
                (told, wait) = (true, RETRY);
            }
        }
        // Nodes first, the repo after: nobody waits for a tag.
        shared.live.settle();
        actions.iter().for_each(|action| repo.note(action, &shared.live.read()));
        repo.write(shared);
        wait = repo.retry_in().map_or(wait, |retry| wait.min(retry));
        tell_promotions(shared, actions);
    }
}

/// Plans and records until nothing is to be done. What was recorded goes to `done`; says when to look again.
fn settle(shared: &Shared, done: &mut Vec<Action>) -> Result<Duration, String> {
    while !shared.stopping() {
        let now = shared.clock.now();
        let (actions, next) = look(shared, now)?;
        if actions.is_empty() {
            return Ok(next.unwrap_or(WAIT_MAX).min(WAIT_MAX));
        }
        let drafts = actions.iter().map(Action::draft).collect();
        let recorded = shared.control.append(drafts).map_err(|error| one_line(&error))?;
        done.extend(actions);
        if !shared.live.wait_for(recorded.place, FOLD_PATIENCE) {
            return Err("the rollout's own records were not seen yet".to_owned());
        }
    }
    Ok(Duration::ZERO)
}

/// What the newest proven release asks for now.
fn look(shared: &Shared, now: Timestamp) -> Result<(Vec<Action>, Option<Duration>), String> {
    let Some(newest) = shared.proven.newest() else {
        return Ok((Vec::new(), None));
    };
    let state = shared.live.read();
    let Some(release) = state.releases().get(&newest) else {
        return Ok((Vec::new(), None));
    };
    let reference = release.reference();
    let config = shared.configs.config(reference);
    let target = Target {
        release: reference,
        commit: release.built.commit.clone(),
        known_good: state.is_known_good(reference.digest),
        config: config.ok_or_else(|| format!("the cairn.yaml of release {newest} cannot be read"))?,
    };
    let observed = state.observed(reference, now).expect("invariant: the release is in this state");
    Ok((plan(&target, &observed, now), wake(&target, &observed, now)))
}

fn tell_promotions(shared: &Shared, actions: Vec<Action>) {
    for action in actions {
        if let Action::Promote(data) = action {
            let release = data.release;
            shared.step(Step::Promoted(data));
            shared.note_promoted(release);
        }
    }
}

/// What is to be written into the policy repo.
struct Repo {
    ledger: String,
    waiting: VecDeque<Write>,
    retry_at: Option<Instant>,
}

#[derive(Debug, Clone)]
enum Write {
    Ring(RingName, CommitId),
    Tag(ReleaseTag),
}

impl Repo {
    /// Begins with what a crash may have left unwritten: the newest tag, and where each ring stands. Writing it again changes nothing.
    fn new(state: &State, ledger: &str) -> Repo {
        let mut repo = Repo { ledger: ledger.to_owned(), waiting: VecDeque::new(), retry_at: None };
        let promoted = state.last_promoted().and_then(|release| state.releases().get(&release.serial));
        let moving = state.in_rollout();
        for release in promoted.into_iter().chain(moving) {
            for ring in &release.rings {
                repo.waiting.push_back(Write::Ring(ring.clone(), release.built.commit.clone()));
            }
            if release.phase == Phase::Promoted {
                repo.waiting.push_back(Write::Tag(repo.tag(release)));
            }
        }
        repo
    }

    fn tag(&self, release: &Release) -> ReleaseTag {
        ReleaseTag {
            release: release.reference(),
            commit: release.built.commit.clone(),
            ledger: self.ledger.clone(),
            volume: release.place.volume,
            index: release.place.index,
        }
    }

    /// What follows from an action for the repo.
    fn note(&mut self, action: &Action, state: &State) {
        let built = |serial: Serial| state.releases().get(&serial);
        match action {
            Action::Enter(data) => {
                if let Some(release) = built(data.release.serial) {
                    self.waiting.push_back(Write::Ring(data.ring.clone(), release.built.commit.clone()));
                }
            }
            Action::Abort(data) => {
                // Its rings go back to what they ran before.
                let back = data.fallback.and_then(|back| built(back.serial));
                if let (Some(release), Some(back)) = (built(data.release.serial), back) {
                    let rings = release.rings.iter().map(|ring| Write::Ring(ring.clone(), back.built.commit.clone()));
                    self.waiting.extend(rings);
                }
            }
            Action::Promote(data) => {
                if let Some(release) = built(data.release.serial) {
                    self.waiting.push_back(Write::Tag(self.tag(release)));
                }
            }
            Action::Supersede(_) | Action::Hold(_) | Action::Advance(_) => {}
        }
    }

    /// Writes what waits, in order, until something fails.
    fn write(&mut self, shared: &Shared) {
        if self.waiting.is_empty() || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let again = self.retry_at.take().is_some();
        let writer = match Writer::open(&shared.policies) {
            Ok(writer) => writer,
            Err(error) => return self.failed(shared, &error, again),
        };
        while let Some(next) = self.waiting.front() {
            let result = match next {
                Write::Ring(ring, commit) => writer.set_ring(ring, commit),
                Write::Tag(tag) => writer.tag(tag, &author(), shared.clock.now()),
            };
            match result {
                Ok(()) => {}
                // Somebody made it, and it will not go away by trying again. The ledger says what was promoted.
                Err(error @ RepoError::TagTaken { .. }) => {
                    tracing::warn!(error = one_line(&error), "a tag is not ours")
                }
                Err(error) => return self.failed(shared, &error, again),
            }
            self.waiting.pop_front();
        }
    }

    fn failed(&mut self, shared: &Shared, error: &RepoError, again: bool) {
        self.retry_at = Some(Instant::now() + RETRY);
        if !again {
            shared.step(Step::Trouble { what: "writing tags and rings".to_owned(), problem: one_line(error) });
        }
    }

    fn retry_in(&self) -> Option<Duration> {
        self.retry_at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}
