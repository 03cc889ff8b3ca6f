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
    let mut tips = Tips { source, watch: None, last: None, unreadable: false };
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
    /// The last question had no answer.
    unreadable: bool,
}

impl Tips {
    /// Whether the tip is another than at the last question. A repo that could not be read then is opened anew; that it cannot be
    /// read counts as a move the first time, so that the look says why.
    fn moved(&mut self) -> bool {
        if self.watch.is_none() {
            self.watch = self.source.watch().ok();
        }
        match self.watch.as_ref().map(Watch::tip) {
            Some(Ok(tip)) => {
                // Something may have been done to it meanwhile, whatever its tip is.
                let was_unreadable = std::mem::take(&mut self.unreadable);
                let moved = self.last.as_ref() != Some(&tip);
                self.last = Some(tip);
                moved || was_unreadable
            }
            None | Some(Err(_)) => {
                self.watch = None;
                !std::mem::replace(&mut self.unreadable, true)
            }
        }
    }
}
