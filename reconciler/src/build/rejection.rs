//! Why a commit is no release, as a record that fits.

use cairn_policy::Problems;
use cairn_schemas::data::{Problem, RejectedAt, ReleaseRejected};
use cairn_schemas::ids::CommitId;

use crate::repo::RepoError;

/// Most problems that a record lists; it counts the others.
pub(super) const PROBLEMS_MAX: usize = 50;
/// Longest text of one problem, bytes. With [`PROBLEMS_MAX`] problems, each character escaped, the record still fits.
pub(super) const TEXT_LEN_MAX: usize = 400;
/// Most bytes of all problems together, as JSON.
const DATA_LEN_MAX: usize = 48 * 1024;

/// A rejection.
#[derive(Debug)]
pub(super) struct Rejection {
    commit: CommitId,
    stage: RejectedAt,
    problems: Vec<Problem>,
    omitted: u64,
}

impl Rejection {
    /// For a single reason. `file` is empty where no file is to blame.
    pub(super) fn one(commit: &CommitId, stage: RejectedAt, file: &str, reason: String) -> Rejection {
        let problem = Problem { file: file.to_owned(), line: 0, column: 0, reason, hint: None };
        Rejection { commit: commit.clone(), stage, problems: vec![problem], omitted: 0 }
    }

    /// For what a repo's reader refused.
    pub(super) fn of_repo(commit: &CommitId, stage: RejectedAt, error: &RepoError) -> Rejection {
        let file = match error {
            RepoError::Tree { path, .. }
            | RepoError::NotAFile { path, .. }
            | RepoError::PathNotUtf8 { path }
            | RepoError::TooLarge { path, .. } => path.as_str(),
            _ => "",
        };
        Rejection::one(commit, stage, file, crate::step::one_line(error))
    }

    /// For what a policy's loader or its tests said.
    pub(super) fn of_problems(commit: &CommitId, stage: RejectedAt, found: &Problems) -> Rejection {
        let problem = |problem: &cairn_policy::Problem| Problem {
            file: problem.file.clone(),
            line: u64::from(problem.line.unwrap_or(0)),
            column: u64::from(problem.column.unwrap_or(0)),
            reason: problem.reason.clone(),
            hint: problem.hint.clone(),
        };
        let problems = found.problems.iter().map(problem).collect();
        Rejection { commit: commit.clone(), stage, problems, omitted: found.omitted as u64 }
    }

    /// The first reason, for a log.
    pub(super) fn first(&self) -> String {
        self.problems.first().map(crate::state::problem_line).unwrap_or_default()
    }

    /// The record's payload: cut so that it fits.
    pub(super) fn data(self) -> ReleaseRejected {
        let Rejection { commit, stage, mut problems, mut omitted } = self;
        for problem in &mut problems {
            cut(&mut problem.file);
            cut(&mut problem.reason);
            problem.hint.iter_mut().for_each(cut);
        }
        let len = |problem: &Problem| serde_json::to_string(problem).map_or(DATA_LEN_MAX, |json| json.len() + 1);
        let mut room = DATA_LEN_MAX;
        let kept = problems
            .iter()
            .take(PROBLEMS_MAX)
            .take_while(|problem| {
                let fits = room.checked_sub(len(problem));
                room = fits.unwrap_or(0);
                fits.is_some()
            })
            .count();
        omitted += (problems.len() - kept) as u64;
        problems.truncate(kept);
        ReleaseRejected { commit, stage, problems, omitted }
    }
}

fn cut(text: &mut String) {
    if text.len() <= TEXT_LEN_MAX {
        return;
    }
    let end = (0..=TEXT_LEN_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text.push('…');
}

#[cfg(test)]
mod tests {
    use cairn_schemas::record::{Draft, RECORD_LEN_MAX, Record};
    use cairn_schemas::time::Timestamp;

    use super::*;
    use crate::state::tests::{commit, control, stream_of};

    fn rejection(count: usize, reason: &str) -> Rejection {
        let problem = |at: usize| Problem {
            file: format!("detections/{at}.yaml"),
            line: 1,
            column: 1,
            reason: reason.to_owned(),
            hint: Some(reason.to_owned()),
        };
        let problems = (0..count).map(problem).collect();
        Rejection { commit: commit(1), stage: RejectedAt::Load, problems, omitted: 0 }
    }

    fn record_len(data: &ReleaseRejected) -> usize {
        let draft = Draft::new(data);
        let record = Record {
            stream: stream_of(&control()),
            sequence: cairn_schemas::ids::Sequence(0),
            prevdigest: cairn_schemas::digest::Digest::ZERO,
            kind: draft.kind,
            subject: Some("s".repeat(512)),
            time: Timestamp::from_nanos(0),
            release: None,
            foreignid: None,
            data: draft.data,
        };
        record.to_bytes().unwrap().len()
    }

    #[test]
    fn problems_at_the_limit_and_one_past_it() {
        let data = rejection(PROBLEMS_MAX, "r").data();
        assert_eq!((data.problems.len(), data.omitted), (PROBLEMS_MAX, 0));
        let data = rejection(PROBLEMS_MAX + 1, "r").data();
        assert_eq!((data.problems.len(), data.omitted), (PROBLEMS_MAX, 1));
    }

    #[test]
    fn whatever_is_wrong_it_fits_a_record() {
        for text in ["\u{1}".repeat(10_000), "ä".repeat(10_000), "\"\\".repeat(5_000)] {
            let data = rejection(200, &text).data();
            assert_eq!(data.problems.len() as u64 + data.omitted, 200);
            assert!(!data.problems.is_empty());
            assert!(record_len(&data) <= RECORD_LEN_MAX);
        }
    }
}
