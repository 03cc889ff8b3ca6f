//! The stream's thread: the control plane signs what it wrote, and lists how far every stream went.

use std::time::Duration;

use cairn_ledger::writer::RotateAfter;
use cairn_schemas::data::{FleetObserved, StreamObserved};
use cairn_schemas::fleet;
use cairn_schemas::record::Draft;

use super::Shared;
use crate::step::{Step, one_line};

/// How often the lists of `fleet.observed` are made.
pub(super) const OBSERVE_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Most streams in one record; more make several records.
pub(super) const STREAMS_PER_RECORD_MAX: usize = 200;
/// How often it is looked whether the ledger's volume is due to be closed.
const ROTATE_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked whether a head is due.
const TICK: Duration = Duration::from_millis(200);

pub(super) fn run(shared: &Shared) {
    let mut observed = shared.clock.now();
    let mut looked = observed;
    let mut told = false;
    while !shared.stopping() {
        shared.tick.wait(TICK);
        let now = shared.clock.now();
        let mut done = shared.control.sign_head(false).map(|_| ());
        // A clock that ran backwards makes the list due, rather than never.
        if done.is_ok() && (now < observed || now.since(observed) >= OBSERVE_INTERVAL) {
            done = observe(shared);
            observed = now;
        }
        let mut done = done.map_err(|error| one_line(&error));
        if done.is_ok() && (now < looked || now.since(looked) >= ROTATE_INTERVAL) {
            done = rotate(shared);
            looked = now;
        }
        match done {
            Ok(()) => told = false,
            Err(_) if told => {}
            Err(problem) => {
                shared.step(Step::Trouble { what: "recording".to_owned(), problem });
                told = true;
            }
        }
    }
}

/// Closes the ledger's volume and opens the next, where `fleet.yaml` says that it is time.
fn rotate(shared: &Shared) -> Result<(), String> {
    let fleet::RotateAfter { days, records } = shared.fleet.ledger.rotate_after;
    let age = days.map(|days| Duration::from_secs(days.saturating_mul(86_400)));
    match shared.ledger.rotate_if_due(RotateAfter { records, age }) {
        Ok(Some(volume)) => tracing::info!(volume, "the ledger goes on in another volume"),
        Ok(None) => {}
        Err(error) => return Err(one_line(&error)),
    }
    Ok(())
}

fn observe(shared: &Shared) -> Result<(), crate::control::ControlError> {
    let (moved, unchanged) = shared.live.read().moved_streams();
    shared.control.append(lists(&moved, unchanged)).map(|_| ())
}

/// As many records as the streams need; the last one says how many did not move.
fn lists(moved: &[StreamObserved], unchanged: u64) -> Vec<Draft> {
    let chunks: Vec<&[StreamObserved]> = match moved {
        [] => vec![&[]],
        _ => moved.chunks(STREAMS_PER_RECORD_MAX).collect(),
    };
    let last = chunks.len() - 1;
    let record = |(at, streams): (usize, &&[StreamObserved])| {
        Draft::new(&FleetObserved { streams: streams.to_vec(), unchanged: if at == last { unchanged } else { 0 } })
    };
    chunks.iter().enumerate().map(record).collect()
}

#[cfg(test)]
mod tests {
    use cairn_schemas::digest::Digest;
    use cairn_schemas::ids::{NodeId, Sequence, StreamId};
    use cairn_schemas::record::{RECORD_LEN_MAX, Record};
    use cairn_schemas::time::Timestamp;

    use super::*;

    #[test]
    fn lists_at_the_limit_and_one_past_it_fit_their_records() {
        let node: NodeId = "n".repeat(64).parse().unwrap();
        let stream = |at: usize| StreamObserved {
            stream: StreamId::new(&node, (at as u128).to_be_bytes()),
            sequence: Sequence(u64::MAX),
            digest: Digest::ZERO,
        };
        let all: Vec<StreamObserved> = (0..=STREAMS_PER_RECORD_MAX).map(stream).collect();
        assert_eq!(lists(&[], 5).len(), 1);
        assert_eq!(lists(&all[..STREAMS_PER_RECORD_MAX], 5).len(), 1);
        let drafts = lists(&all, 5);
        assert_eq!(drafts.len(), 2);
        for draft in drafts {
            let record = Record {
                stream: StreamId::new(&node, [0; 16]),
                sequence: Sequence(0),
                prevdigest: Digest::ZERO,
                kind: draft.kind,
                subject: None,
                time: Timestamp::from_nanos(0),
                release: None,
                foreignid: None,
                data: draft.data,
            };
            assert!(record.to_bytes().unwrap().len() <= RECORD_LEN_MAX);
        }
    }
}
