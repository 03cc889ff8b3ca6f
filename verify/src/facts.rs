//! What the checks need of a record, taken out of it where it is parsed.
//!
//! Records are parsed on every core, and checked in order on one. What crosses is small, whatever the record holds.

use cairn_schemas::data::{
    ContainmentFinished, ContainmentRefused, ContainmentRequested, FleetObserved, LedgerCarried, LedgerClosed,
    LedgerKeyRotated, LedgerOpened, LedgerWitnessesChanged, NodeFellback, NodeJoined, NodeLoaded, PrivacyErased,
    ReleaseBuilt, RolloutAborted, RolloutAdvanced, RolloutEntered, RolloutHeld, RolloutPromoted, RolloutSuperseded,
    StreamForked, StreamGap, StreamHead, StreamOpened, StreamRejected,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{ReleaseRef, Sequence, StreamId};
use cairn_schemas::outline::Outline;
use cairn_schemas::record::RecordError;
use cairn_schemas::references::{self, Reference};
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::RecordType;

use crate::tree::speculation::{Guess, Keys};

/// A record, as far as checks look at it.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) stream: StreamId,
    pub(crate) sequence: Sequence,
    pub(crate) prevdigest: Digest,
    pub(crate) kind: RecordType,
    pub(crate) time: Timestamp,
    pub(crate) release: Option<ReleaseRef>,
    /// The first 128 bits of the `foreignid`'s SHA-256.
    pub(crate) foreignid: Option<[u8; 16]>,
    /// Where a detection or what was done about it stood before it was carried into this stream. What it names by number is there.
    pub(crate) carried_from: Option<Box<(StreamId, Sequence)>>,
    /// A head's signature, checked ahead of its turn by the key that its stream seems to have.
    pub(crate) guess: Option<Box<Guess>>,
    /// What the payload refers to outside the tree, with its places; `None` for nothing, as most records do.
    pub(crate) references: Option<Box<[(String, Reference)]>>,
    pub(crate) detail: Detail,
}

/// The payload, for the types that checks follow.
#[derive(Debug)]
pub(crate) enum Detail {
    LedgerOpened(Box<LedgerOpened>),
    Carried(Box<LedgerCarried>),
    Closed(LedgerClosed),
    Frozen,
    KeyRotated(Box<LedgerKeyRotated>),
    WitnessesChanged(Box<LedgerWitnessesChanged>),
    Gap(StreamGap),
    Forked(StreamForked),
    Rejected(StreamRejected),
    Opened(StreamOpened),
    Head(Box<StreamHead>),
    Observed(FleetObserved),
    Built(Box<ReleaseBuilt>),
    Joined(NodeJoined),
    Loaded(NodeLoaded),
    Fellback(NodeFellback),
    /// The releases that a rollout record names.
    Rollout {
        releases: Vec<ReleaseRef>,
        offered: bool,
    },
    /// The release that passed its last ring.
    Promoted(ReleaseRef),
    Erased(Box<PrivacyErased>),
    /// The sequence of the detection.
    Requested(Sequence),
    /// The sequence of the request.
    Finished(Sequence),
    /// The sequence of the detection.
    Refused(Sequence),
    Other,
}

impl Facts {
    /// Parses a record: canonical form, attributes, schema.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Facts, RecordError> {
        let record = Outline::read(bytes)?;
        let detail = detail(&record)?;
        let Outline { stream, sequence, prevdigest, kind, time, release, foreignid, .. } = record;
        let refers = kind == RecordType::DetectionRaised
            || matches!(detail, Detail::Requested(_) | Detail::Finished(_) | Detail::Refused(_));
        let carried_from = foreignid.as_deref().filter(|_| refers).and_then(|id| place(id, &stream)).map(Box::new);
        let foreignid = foreignid.and_then(|id| Digest::sha256(id.as_bytes()).as_bytes().first_chunk().copied());
        let (guess, references) = (None, references_of(kind, bytes));
        Ok(Facts {
            stream,
            sequence,
            prevdigest,
            kind,
            time,
            release,
            foreignid,
            carried_from,
            guess,
            references,
            detail,
        })
    }

    /// The keys that this record names.
    pub(crate) fn note_keys(&self, keys: &Keys) {
        match &self.detail {
            Detail::LedgerOpened(opened) => {
                keys.note(&opened.control_node, &opened.control_key);
                opened
                    .previous
                    .iter()
                    .flat_map(|previous| &previous.nodes)
                    .for_each(|node| keys.note(&node.node, &node.key));
            }
            Detail::Carried(carried) => carried.nodes.iter().for_each(|node| keys.note(&node.node, &node.key)),
            Detail::Joined(joined) => keys.note(&joined.node, &joined.key),
            Detail::Opened(opened) => keys.note(&opened.node, &opened.key),
            _ => {}
        }
    }
}

/// What a record's payload refers to. Most refer to nothing, and a look at the bytes says so.
fn references_of(kind: RecordType, record: &[u8]) -> Option<Box<[(String, Reference)]>> {
    let text = std::str::from_utf8(record).ok().filter(|text| references::may_refer(kind, text))?;
    let record: serde_json::Value = serde_json::from_str(text).ok()?;
    let found = references::of_record(kind, record.get("data")?);
    (!found.is_empty()).then(|| found.into())
}

/// `<stream>/<sequence>` of another stream of the same node.
fn place(foreignid: &str, stream: &StreamId) -> Option<(StreamId, Sequence)> {
    let (before, sequence) = foreignid.rsplit_once('/')?;
    let before: StreamId = before.parse().ok()?;
    let sequence = sequence.parse().ok()?;
    (before != *stream && before.node().is_some() && before.node() == stream.node()).then_some((before, sequence))
}

fn detail(record: &Outline<'_>) -> Result<Detail, RecordError> {
    let rollout = |releases| Detail::Rollout { releases, offered: false };
    Ok(match record.kind {
        RecordType::LedgerOpened => Detail::LedgerOpened(Box::new(record.data_as::<LedgerOpened>()?)),
        RecordType::LedgerCarried => Detail::Carried(Box::new(record.data_as::<LedgerCarried>()?)),
        RecordType::LedgerClosed => Detail::Closed(record.data_as::<LedgerClosed>()?),
        RecordType::LedgerFrozen => Detail::Frozen,
        RecordType::LedgerKeyRotated => Detail::KeyRotated(Box::new(record.data_as::<LedgerKeyRotated>()?)),
        RecordType::LedgerWitnessesChanged => {
            Detail::WitnessesChanged(Box::new(record.data_as::<LedgerWitnessesChanged>()?))
        }
        RecordType::StreamGap => Detail::Gap(record.data_as::<StreamGap>()?),
        RecordType::StreamForked => Detail::Forked(record.data_as::<StreamForked>()?),
        RecordType::StreamRejected => Detail::Rejected(record.data_as::<StreamRejected>()?),
        RecordType::StreamOpened => Detail::Opened(record.data_as::<StreamOpened>()?),
        RecordType::StreamHead => Detail::Head(Box::new(record.data_as::<StreamHead>()?)),
        RecordType::FleetObserved => Detail::Observed(record.data_as::<FleetObserved>()?),
        RecordType::ReleaseBuilt => Detail::Built(Box::new(record.data_as::<ReleaseBuilt>()?)),
        RecordType::NodeJoined => Detail::Joined(record.data_as::<NodeJoined>()?),
        RecordType::NodeLoaded => Detail::Loaded(record.data_as::<NodeLoaded>()?),
        RecordType::NodeFellback => Detail::Fellback(record.data_as::<NodeFellback>()?),
        RecordType::RolloutEntered => {
            Detail::Rollout { releases: vec![record.data_as::<RolloutEntered>()?.release], offered: true }
        }
        RecordType::RolloutAdvanced => rollout(vec![record.data_as::<RolloutAdvanced>()?.release]),
        RecordType::RolloutHeld => rollout(vec![record.data_as::<RolloutHeld>()?.release]),
        RecordType::RolloutPromoted => Detail::Promoted(record.data_as::<RolloutPromoted>()?.release),
        RecordType::RolloutSuperseded => {
            let data = record.data_as::<RolloutSuperseded>()?;
            rollout(vec![data.release, data.by])
        }
        RecordType::RolloutAborted => {
            let data = record.data_as::<RolloutAborted>()?;
            rollout(std::iter::once(data.release).chain(data.fallback).collect())
        }
        RecordType::PrivacyErased => Detail::Erased(Box::new(record.data_as::<PrivacyErased>()?)),
        RecordType::ContainmentRequested => Detail::Requested(record.data_as::<ContainmentRequested>()?.detection),
        RecordType::ContainmentFinished => Detail::Finished(record.data_as::<ContainmentFinished>()?.request),
        RecordType::ContainmentRefused => Detail::Refused(record.data_as::<ContainmentRefused>()?.detection),
        _ => Detail::Other,
    })
}
