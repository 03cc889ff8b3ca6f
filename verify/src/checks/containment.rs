//! Containments: each request follows a detection, each outcome a request, in the same stream, or in the one they were carried from.

use std::collections::{BTreeMap, HashMap};

use cairn_schemas::ids::{RecordIndex, Sequence, StreamId};
use cairn_schemas::types::RecordType;

use super::streams::Streams;
use super::{Context, Entry};
use crate::facts::Detail;
use crate::report::{FaultKind, FindingKind};

/// Sequences in one block of a set.
const BLOCK: u64 = 4_096;

/// A set of sequences: a bit for each number of a block that holds any, so that ten million detections take little more than a
/// megabyte.
#[derive(Debug, Default)]
struct Sequences(HashMap<u64, Box<[u64; (BLOCK / 64) as usize]>>);

impl Sequences {
    fn insert(&mut self, sequence: Sequence) {
        let block = self.0.entry(sequence.0 / BLOCK).or_insert_with(|| Box::new([0; (BLOCK / 64) as usize]));
        let bit = sequence.0 % BLOCK;
        block[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    fn contains(&self, sequence: Sequence) -> bool {
        let bit = sequence.0 % BLOCK;
        self.0.get(&(sequence.0 / BLOCK)).is_some_and(|block| block[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
    }
}

/// One stream's detections and open requests.
#[derive(Debug, Default)]
struct Stream {
    detections: Sequences,
    open: BTreeMap<Sequence, RecordIndex>,
}

/// Detections and requests by stream.
#[derive(Debug, Default)]
pub(crate) struct Containment {
    streams: BTreeMap<StreamId, Stream>,
}

impl Containment {
    pub(crate) fn record(&mut self, entry: &Entry<'_>, streams: &Streams, context: &mut Context<'_, '_>) {
        let facts = entry.facts;
        // A record that was carried counts where it stood: the numbers in it are those of that stream.
        let (id, sequence) = match facts.carried_from.as_deref() {
            Some((id, sequence)) => (id, *sequence),
            None => (&facts.stream, facts.sequence),
        };
        match facts.detail {
            Detail::Other if facts.kind == RecordType::DetectionRaised => {
                self.streams.entry(id.clone()).or_default().detections.insert(sequence);
            }
            Detail::Requested(detection) | Detail::Refused(detection) => {
                let stream = self.streams.entry(id.clone()).or_default();
                if !stream.detections.contains(detection) && !streams.in_gap(id, detection) {
                    let reason = format!("it names number {detection} of its stream, which is no detection");
                    context.found.fault(entry.fault(FaultKind::ContainmentUnpaired, reason));
                }
                if matches!(facts.detail, Detail::Requested(_)) {
                    stream.open.insert(sequence, entry.index);
                }
            }
            Detail::Finished(request) => {
                let stream = self.streams.entry(id.clone()).or_default();
                if stream.open.remove(&request).is_none() && !streams.in_gap(id, request) {
                    let reason = format!("it names number {request} of its stream, which is no open request");
                    context.found.fault(entry.fault(FaultKind::ContainmentUnpaired, reason));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn end(&mut self, context: &mut Context<'_, '_>) {
        for (id, stream) in &self.streams {
            for (sequence, index) in &stream.open {
                let reason = format!("what came of the containment requested in number {sequence} is not recorded");
                context.found.finding(FindingKind::ContainmentUnfinished, Some(*index), id, reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = Sequences::default();
        for sequence in [0, 63, 64, BLOCK - 1, BLOCK, u64::MAX] {
            assert!(!set.contains(Sequence(sequence)));
            set.insert(Sequence(sequence));
            assert!(set.contains(Sequence(sequence)));
        }
        assert!(!set.contains(Sequence(1)) && !set.contains(Sequence(u64::MAX - 1)));
        assert_eq!(set.0.len(), 3);
    }
}
