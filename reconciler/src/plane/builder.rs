//! The builder's thread: asks for the tip a few times a second, and builds when it moved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_schemas::ids::CommitId;

use super::Shared;
use crate::build::{BuildError, Builder, Looked};
use crate::repo::{Source, Watch};
use crate::step::{Step, one_line};

/// How often the tip of the policy repo is asked for: a read of one small file.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// After an error, a look is not made again before this, unless the tip moved.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// A look without any sign of a change: for what depends on time alone, such as a release that expires.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn run(shared: &Arc<Shared>, mut builder: Builder) {
    let source = builder.mirror.source().clone();
    let mut tips = Tips { source, watch: None, last: None };
    let mut look_by = Instant::now();
    let mut told: Option<String> = None;
    while !shared.stopping() {
        let notified = shared.look.wait(POLL_INTERVAL);
        if !shared.begun() || shared.stopping() {
            continue;
        }
        if !(tips.moved() || notified || Instant::now() >= look_by) {
            continue;
        }
        match builder.look() {
            Ok(looked) => {
                told = None;
                look_by = Instant::now() + LOOK_INTERVAL;
                if let Looked::Built(_) = looked {
                    shared.plan.set();
                }
            }
            Err(error) => {
                look_by = Instant::now() + RETRY_INTERVAL;
                tell(shared, &error, &mut told);
            }
        }
    }
}

/// The same trouble is told once.
fn tell(shared: &Shared, error: &BuildError, told: &mut Option<String>) {
    let problem = one_line(error);
    if told.as_ref() != Some(&problem) {
        shared.step(Step::Trouble { what: "looking at the policy repo".to_owned(), problem: problem.clone() });
        *told = Some(problem);
    }
}

/// The tip as it was seen last.
struct Tips {
    source: Source,
    watch: Option<Watch>,
    last: Option<CommitId>,
}

impl Tips {
    /// Whether the tip is another than at the last question. A repo that cannot be read now has not moved; it is opened anew.
    fn moved(&mut self) -> bool {
        if self.watch.is_none() {
            self.watch = self.source.watch().ok();
        }
        let Some(watch) = &self.watch else { return false };
        match watch.tip() {
            Ok(tip) if self.last.as_ref() == Some(&tip) => false,
            Ok(tip) => {
                self.last = Some(tip);
                true
            }
            Err(_) => {
                self.watch = None;
                false
            }
        }
    }
}
