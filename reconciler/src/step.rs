//! What the control plane tells whoever started it: one line per step, as it happens.
//!
//! Steps are for people; nothing is decided from them. What they say of releases and nodes is said from the records, after these
//! were durable.

use std::fmt;
use std::path::PathBuf;

use cairn_schemas::data::{
    GitRefused, LoadCause, NodeFellback, NodeJoined, NodeLoaded, NodeRefused, RejectedAt, ReleaseBuilt,
    ReleaseRejected, RolloutAborted, RolloutAdvanced, RolloutEntered, RolloutHeld, RolloutPromoted, RolloutSuperseded,
};
use cairn_schemas::ids::{CommitId, NodeId, StreamId, TreeSize};
use cairn_schemas::record::Record;
use cairn_schemas::types::{NodeKind, RecordType};

use crate::state::{count, problem_line, short};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The data folder was made.
    FolderMade {
        /// Where.
        path: PathBuf,
    },
    /// The keys were made.
    KeysMade {
        /// Their folder.
        folder: PathBuf,
        /// The one to move off the machine.
        root: PathBuf,
    },
    /// `fleet.yaml` was written.
    FleetWritten {
        /// Where.
        path: PathBuf,
    },
    /// The ledger lies in a bucket, and it is looked whether another process writes it.
    LedgerLookedAt {
        /// Where.
        path: PathBuf,
    },
    /// The ledger was made, and its first checkpoint published.
    LedgerOpened {
        /// Its name.
        name: String,
        /// Where.
        path: PathBuf,
    },
    /// The policy repo was made from the template.
    PoliciesMade {
        /// Where.
        path: PathBuf,
        /// Its first commit.
        commit: CommitId,
    },
    /// The control plane opened its stream.
    StreamOpened {
        /// The stream.
        stream: StreamId,
    },
    /// A one-time join token was made.
    TokenMade {
        /// For what kind of node.
        kind: NodeKind,
        /// Where.
        path: PathBuf,
    },
    /// Everything was there already.
    Resumed {
        /// The data folder.
        path: PathBuf,
        /// The ledger's name.
        name: String,
        /// Its durable records.
        records: TreeSize,
    },
    /// A node joined.
    NodeJoined(NodeJoined),
    /// A node activated a release.
    NodeLoaded(NodeId, NodeLoaded),
    /// A node refused a release.
    NodeRefused(NodeId, NodeRefused),
    /// A node went back to an earlier release.
    NodeFellback(NodeId, NodeFellback),
    /// A commit became a release.
    Built(ReleaseBuilt),
    /// A commit did not.
    Rejected(ReleaseRejected),
    /// A tip is not followed.
    GitRefused(GitRefused),
    /// A release is offered to a ring.
    Entered(RolloutEntered),
    /// A rollout waits.
    Held(RolloutHeld),
    /// A release passed a ring.
    Advanced(RolloutAdvanced),
    /// A release was given up.
    Aborted(RolloutAborted),
    /// A newer release took its place.
    Superseded(RolloutSuperseded),
    /// A release passed its last ring.
    Promoted(RolloutPromoted),
    /// Something failed. It is tried again, but for a thread that ends: see [`crate::plane::ControlPlane::failed`].
    Trouble {
        /// What was being done.
        what: String,
        /// What went wrong, with causes.
        problem: String,
    },
}

impl Step {
    /// What a record says that a reader of the terminal wants to see; `None` for all others.
    #[must_use]
    pub fn of(record: &Record) -> Option<Step> {
        let node = || record.stream.node();
        match record.kind {
            RecordType::NodeJoined => record.data_as().ok().map(Step::NodeJoined),
            RecordType::NodeLoaded => Some(Step::NodeLoaded(node()?, record.data_as().ok()?)),
            RecordType::NodeRefused => Some(Step::NodeRefused(node()?, record.data_as().ok()?)),
            RecordType::NodeFellback => Some(Step::NodeFellback(node()?, record.data_as().ok()?)),
            RecordType::ReleaseBuilt => record.data_as().ok().map(Step::Built),
            RecordType::ReleaseRejected => record.data_as().ok().map(Step::Rejected),
            RecordType::GitRefused => record.data_as().ok().map(Step::GitRefused),
            RecordType::RolloutEntered => record.data_as().ok().map(Step::Entered),
            RecordType::RolloutHeld => record.data_as().ok().map(Step::Held),
            RecordType::RolloutAdvanced => record.data_as().ok().map(Step::Advanced),
            RecordType::RolloutAborted => record.data_as().ok().map(Step::Aborted),
            RecordType::RolloutSuperseded => record.data_as().ok().map(Step::Superseded),
            RecordType::RolloutPromoted => record.data_as().ok().map(Step::Promoted),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::FolderMade { path } => write!(f, "made {}", path.display()),
            Step::KeysMade { folder, root } => write!(
                f,
                "made the keys in {}; {} is the root key: move it off this machine, daily work does not need it",
                folder.display(),
                root.display()
            ),
            Step::FleetWritten { path } => write!(f, "wrote {}", path.display()),
            Step::LedgerLookedAt { path } => {
                write!(f, "looking at {}; a writer that was killed counts as dead after ten seconds", path.display())
            }
            Step::LedgerOpened { name, path } => write!(f, "opened the ledger {name} in {}", path.display()),
            Step::PoliciesMade { path, commit } => {
                write!(f, "made the policy repo {} (first commit {})", path.display(), short(commit))
            }
            Step::StreamOpened { stream } => write!(f, "opened the control plane's stream {stream}"),
            Step::TokenMade { kind, path } => write!(f, "made a join token for {}: {}", kind.as_str(), path.display()),
            Step::Resumed { path, name, records } => {
                write!(f, "resumed {} (ledger {name}, {records} records)", path.display())
            }
            Step::NodeJoined(data) => write!(f, "node {}: joined as {}", data.node, data.kind.as_str()),
            Step::NodeLoaded(node, data) => {
                let how = match data.cause {
                    LoadCause::Offered => "activated",
                    LoadCause::Start => "still runs",
                    LoadCause::Fallback => "fell back to",
                };
                write!(f, "node {node}: {how} release {}", data.release.serial)
            }
            Step::NodeRefused(node, data) => {
                write!(f, "node {node}: refused release {}: {}: {}", data.serial, data.check, data.reason)
            }
            Step::NodeFellback(node, data) => {
                write!(f, "node {node}: fell back from release {}: {}", data.from.serial, data.reason)
            }
            Step::Built(data) => {
                let good = if data.known_good { ", known good" } else { "" };
                let tests = data.tests.passed;
                write!(
                    f,
                    "release {}: built from {} ({} passed{good})",
                    data.serial,
                    short(&data.commit),
                    count(tests, "test")
                )
            }
            Step::Rejected(data) => {
                let stage = match data.stage {
                    RejectedAt::Signature => "its signature",
                    RejectedAt::Content => "its content",
                    RejectedAt::Load => "it does not load",
                    RejectedAt::Test => "its tests fail",
                };
                let first = data.problems.first().map(problem_line).unwrap_or_default();
                write!(f, "commit {}: rejected, {stage}: {first}", short(&data.commit))?;
                match data.problems.len().saturating_sub(1) as u64 + data.omitted {
                    0 => Ok(()),
                    more => write!(f, " (and {more} more)"),
                }
            }
            Step::GitRefused(data) => {
                let (refused, accepted) = (short(&data.refused), short(&data.accepted));
                write!(f, "commit {refused}: not followed, releases go on from {accepted}: {}", data.reason)
            }
            Step::Entered(data) if data.nodes_total == 0 => {
                write!(f, "release {}: entered {}, which has no nodes", data.release.serial, data.ring)
            }
            Step::Entered(data) => {
                let skip = if data.known_good { ", known good: no soak" } else { "" };
                let nodes = count(data.nodes_total, "node");
                write!(f, "release {}: entered {} ({nodes}{skip})", data.release.serial, data.ring)
            }
            Step::Held(data) => write!(f, "release {}: waits in {}: {}", data.release.serial, data.ring, data.reason),
            Step::Advanced(data) => {
                let nodes = count(data.nodes_active, "node");
                write!(f, "release {}: passed {} (running on {nodes})", data.release.serial, data.ring)
            }
            Step::Aborted(data) => {
                write!(f, "release {}: aborted in {}: {}", data.release.serial, data.ring, data.reason)?;
                match data.fallback {
                    Some(back) => write!(f, "; nodes go back to release {}", back.serial),
                    None => Ok(()),
                }
            }
            Step::Superseded(data) => write!(f, "release {}: superseded by {}", data.release.serial, data.by.serial),
            Step::Promoted(data) => write!(f, "release {}: promoted as {}", data.release.serial, data.tag),
            Step::Trouble { what, problem } => write!(f, "trouble: {what}: {problem}"),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Errors that quote their cause already would say it twice.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{commit, reference};

    #[test]
    fn steps_are_one_line_each() {
        let ring: cairn_schemas::ids::RingName = "canary".parse().unwrap();
        let entered = |nodes_total, known_good| {
            Step::Entered(RolloutEntered {
                release: reference(1, "a"),
                ring: ring.clone(),
                nodes: vec![],
                nodes_total,
                known_good,
            })
            .to_string()
        };
        assert_eq!(entered(2, false), "release 1: entered canary (2 nodes)");
        assert_eq!(entered(2, true), "release 1: entered canary (2 nodes, known good: no soak)");
        assert_eq!(entered(0, false), "release 1: entered canary, which has no nodes");
        let problem = |file: &str| cairn_schemas::data::Problem {
            file: file.into(),
            line: 3,
            column: 1,
            reason: "unknown field".into(),
            hint: None,
        };
        let rejected = ReleaseRejected {
            commit: commit(7),
            stage: RejectedAt::Load,
            problems: vec![problem("detections/a.yaml"), problem("detections/b.yaml")],
            omitted: 3,
        };
        assert_eq!(
            Step::Rejected(rejected).to_string(),
            "commit 0000000000: rejected, it does not load: detections/a.yaml:3: unknown field (and 4 more)"
        );
    }
}
