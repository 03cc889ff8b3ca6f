//! Which records the ledger takes: the acceptance rules of streams, as pure state.
//!
//! The rules stand in `ledger/FORMAT.md`, Streams. A record that follows the one before is taken; a missing one is noted by `stream.gap`; an
//! invalid one is replaced by `stream.rejected`; other bytes for a sequence that was taken are refused and noted by `stream.forked`; a
//! repeat is answered with its first index. What is true of one record without its stream, its form and its leaf hash, is
//! found out by [`Incoming::read`] on the caller's thread.
//!
//! State is rebuilt by [`Streams::replay`] from the volume's records. Per stream it is bounded, but for 24 bytes per `foreignid`: these
//! are unique over the volume and the one before. What goes from one volume to the next is in `streams/volumes.rs`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use cairn_schemas::data::{
    LedgerClosed, LedgerFrozen, LedgerKeyRotated, LedgerOpened, LedgerWitnessesChanged, NodeJoined, StreamForked,
    StreamGap, StreamHead, StreamOpened, StreamRejected, VolumeReason,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{NodeId, RecordIndex, Sequence, StreamId, TreeSize};
use cairn_schemas::outline::Outline;
use cairn_schemas::record::{Draft, Record};
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::{RecordType, Role};
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use thiserror::Error;

use crate::bytes::Bytes;
use crate::checkpoint::Checkpoint;
use crate::head;
use crate::producer::Chain;
use crate::volume::Place;

mod attributes;
mod volumes;

pub(crate) use attributes::{Attributes, Unplaced};
pub(crate) use volumes::Ended;

use attributes::Ids;

/// The highest sequence of a stream.
pub const SEQUENCE_MAX: u64 = cairn_schemas::ids::INTEGER_MAX;
/// How many of a stream's last records are remembered with their leaf hash. A repeat of an older one costs a walk over the ledger.
pub const RECENT_MAX: usize = 4_096;
/// Most `stream.forked` notes per stream: further forks are refused without a note, so that a broken producer cannot fill the ledger.
pub const FORKS_NOTED_MAX: usize = 64;
/// Longest reason in a `stream.rejected`, in bytes.
pub const REASON_LEN_MAX: usize = 1_000;
/// Longest record that the ledger writes about a stream.
pub(crate) const OWN_RECORD_LEN_MAX: usize = 4_096;

/// Why records were refused, all of them or from one on. Nothing of what was refused is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The stream's node is not known.
    #[error("stream {stream} is of node {node}, which has not joined")]
    NotJoined {
        /// The stream.
        stream: StreamId,
        /// Its node.
        node: NodeId,
    },
    /// The stream `ledger` is the ledger's own.
    #[error("stream `ledger` is written by the ledger itself")]
    OwnStream,
    /// A stream's first record is not a valid `stream.opened`.
    #[error("stream {stream} cannot begin with this record: {reason}")]
    NotOpened {
        /// The stream.
        stream: StreamId,
        /// What is wrong with it.
        reason: String,
    },
    /// The sequence is taken by other bytes, or the record follows a record other than the one that was taken.
    #[error("stream {stream} is forked at sequence {sequence}: {accepted} was taken, and {refused} is another record")]
    Forked {
        /// The stream.
        stream: StreamId,
        /// The sequence with two records.
        sequence: Sequence,
        /// The leaf hash that stands.
        accepted: Digest,
        /// The leaf hash that was refused.
        refused: Digest,
    },
    /// The record was passed over before, and is noted as missing.
    #[error("sequence {sequence} of stream {stream} was passed over; the stream has gone on to {last}")]
    PassedOver {
        /// The stream.
        stream: StreamId,
        /// The record's sequence.
        sequence: Sequence,
        /// The stream's last sequence.
        last: Sequence,
    },
    /// Past [`SEQUENCE_MAX`].
    #[error("sequence {sequence} of stream {stream} is past the limit of {SEQUENCE_MAX}")]
    SequenceTooLarge {
        /// The stream.
        stream: StreamId,
        /// The record's sequence.
        sequence: Sequence,
    },
}

/// What became of one record that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It stands at this index.
    Taken(RecordIndex),
    /// It stood there before, in this volume or an earlier one.
    Repeat(Place),
    /// It is invalid; its `stream.rejected` stands at this index.
    Rejected(RecordIndex, String),
}

/// A record of the ledger itself that does not fit what stands before it.
#[derive(Debug, Error)]
#[error("record {index} cannot be placed: {reason}")]
pub struct ReplayError {
    /// The record.
    pub index: RecordIndex,
    /// What is wrong.
    pub reason: String,
}

/// Where a stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The last sequence.
    pub sequence: Sequence,
    /// Its record's leaf hash (of the bytes that were refused, where the record was invalid).
    pub leaf: Digest,
    /// Its record's place (of the `stream.rejected`, where the record was invalid). `None`: it stands in an earlier volume, and where
    /// exactly is not remembered.
    pub place: Option<Place>,
}

/// A record that asks to be taken, read as far as it can be without its stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) bytes: Arc<[u8]>,
    leaf: Digest,
    claimed: Option<Sequence>,
    content: Result<Content, String>,
    /// Taken without a look: a benchmark's bytes.
    #[cfg(feature = "bench")]
    raw: bool,
}

#[derive(Debug)]
struct Content {
    prevdigest: Digest,
    kind: RecordType,
    foreignid: Option<String>,
    special: Special,
}

/// The data of the types that the rules look into.
#[derive(Debug)]
enum Special {
    None,
    Opened(StreamOpened),
    Head(StreamHead),
    Joined(NodeJoined),
}

/// A record's envelope, without its data and without checks.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    sequence: Sequence,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    foreignid: Option<Cow<'a, str>>,
}

impl Incoming {
    /// Reads a record that came for `stream`. Costly: runs on the caller's thread, outside every lock.
    pub(crate) fn read(stream: &StreamId, bytes: &[u8]) -> Incoming {
        let leaf = Digest::leaf(bytes);
        let (claimed, content) = match Outline::read(bytes) {
            Ok(record) if record.stream != *stream => (
                None,
                Err(format!("attribute \"source\" names stream {}, and the record came for {stream}", record.stream)),
            ),
            Ok(record) => (Some(record.sequence), read_content(record)),
            Err(error) => (claimed_sequence(stream, bytes), Err(error.one_line())),
        };
        Incoming {
            bytes: bytes.into(),
            leaf,
            claimed,
            content,
            #[cfg(feature = "bench")]
            raw: false,
        }
    }

    /// Bytes that are no record.
    #[cfg(feature = "bench")]
    pub(crate) fn raw(bytes: &[u8]) -> Incoming {
        let content = Err("it is no record".to_owned());
        Incoming { bytes: bytes.into(), leaf: Digest::leaf(bytes), claimed: Some(Sequence(0)), content, raw: true }
    }

    /// The sequence that it says it has.
    pub(crate) fn sequence(&self) -> Option<Sequence> {
        self.claimed
    }

    /// An upper bound of the bytes that the ledger writes for this record, with what it may note about it.
    pub(crate) fn room(&self) -> u64 {
        let frame = crate::wal::FRAME_HEADER_LEN;
        (frame + self.bytes.len().max(OWN_RECORD_LEN_MAX) + frame + OWN_RECORD_LEN_MAX) as u64
    }
}

fn read_content(record: Outline<'_>) -> Result<Content, String> {
    let special = match record.kind {
        RecordType::StreamOpened => record.data_as().map(Special::Opened),
        RecordType::StreamHead => record.data_as().map(Special::Head),
        RecordType::NodeJoined => record.data_as().map(Special::Joined),
        _ => Ok(Special::None),
    };
    let special = special.map_err(|error| error.one_line())?;
    let foreignid = record.foreignid.map(Cow::into_owned);
    Ok(Content { prevdigest: record.prevdigest, kind: record.kind, foreignid, special })
}

/// The sequence of a record that is not valid, where it can be told: the stream should go on behind it.
fn claimed_sequence(stream: &StreamId, bytes: &[u8]) -> Option<Sequence> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).ok()?;
    (envelope.source.strip_prefix("/streams/") == Some(stream.as_str())).then_some(envelope.sequence)
}

#[derive(Debug, Clone)]
struct Producer {
    role: Role,
    key: VerifyingKey,
}

#[derive(Debug)]
struct Stream {
    producer: Producer,
    opened: RecordIndex,
    /// Where it stood when the volume began, if it is older than that. Records up to here stand in an earlier volume.
    carried: Option<(Sequence, Digest)>,
    /// The last records, oldest first; never empty but in a stream that was carried over. Those of an earlier volume are of the one
    /// directly before.
    recent: VecDeque<Recent>,
    foreignids: HashMap<ShortId, RecordIndex>,
    /// Those of the volume before.
    foreignids_before: HashMap<ShortId, RecordIndex>,
    forks_noted: HashSet<(Sequence, Digest)>,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    sequence: Sequence,
    index: RecordIndex,
    leaf: Digest,
}

impl Stream {
    /// The last sequence, and its leaf hash.
    fn last(&self) -> (Sequence, Digest) {
        let recent = self.recent.back().map(|recent| (recent.sequence, recent.leaf));
        recent.or(self.carried).expect("invariant: a stream has its first record, or was carried over")
    }

    /// Where a remembered record stands; `volume` is the one that these rules are of.
    fn place(&self, recent: Recent, volume: u64) -> Place {
        let earlier = self.carried.is_some_and(|(last, _)| recent.sequence <= last);
        Place { volume: volume - u64::from(earlier), index: recent.index }
    }

    fn apply(&mut self, recent: Recent, foreignid: Option<ShortId>) {
        if let Some(foreignid) = foreignid {
            self.foreignids.insert(foreignid, recent.index);
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(recent);
    }

    fn find(&self, sequence: Sequence) -> Option<Recent> {
        self.recent.binary_search_by_key(&sequence, |recent| recent.sequence).ok().map(|at| self.recent[at])
    }
}

/// Records of a stream that are older than what is remembered, found by a walk over the ledger.
pub(crate) type History = HashMap<Sequence, (Place, Digest)>;

/// The state of all streams.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The volume's record 0, without what it takes over.
    opened: Box<LedgerOpened>,
    /// How many `ledger.carried` must follow.
    carried_left: u64,
    /// The volume's `ledger.keyrotated` records.
    rotated: Vec<(RecordIndex, LedgerKeyRotated)>,
    /// The witness policy in force.
    witnesses: Option<String>,
    ended: Option<Ended>,
    /// The size of the volume before, and why it ended.
    previous: Option<(TreeSize, VolumeReason)>,
    /// The time of record 0.
    began: Timestamp,
    own: Chain,
    control: NodeId,
    nodes: HashMap<NodeId, Producer>,
    streams: HashMap<StreamId, Stream>,
    next: RecordIndex,
}

/// A record that is to be written: at the index that follows the last.
pub(crate) type Written = (Bytes, Digest);

impl Streams {
    /// The state of a new ledger, and its record 0.
    pub(crate) fn create(opened: &LedgerOpened, now: Timestamp) -> Result<(Streams, Written), String> {
        let mut streams = Streams::empty(opened)?;
        let sealed = streams.own.seal(Draft::new(opened), now).map_err(|error| error.to_string())?;
        streams.next = RecordIndex(1);
        streams.began = now;
        Ok((streams, (sealed.bytes.into(), sealed.leaf)))
    }

    fn empty(opened: &LedgerOpened) -> Result<Streams, String> {
        let key = head::parse_key(&opened.control_key).map_err(|error| error.to_string())?;
        let previous = opened.previous.as_ref().map(|previous| {
            let checkpoint = Checkpoint::parse(previous.checkpoint.as_bytes()).map_err(|error| error.to_string())?;
            Ok::<_, String>((checkpoint.0.size, previous.reason))
        });
        let previous = previous.transpose()?;
        let control = opened.control_node.clone();
        let nodes = HashMap::from([(control.clone(), Producer { role: Role::Control, key })]);
        Ok(Streams {
            opened: Box::new(LedgerOpened { previous: None, ..opened.clone() }),
            carried_left: 0,
            rotated: Vec::new(),
            witnesses: opened.witnesses.clone(),
            ended: None,
            previous,
            began: Timestamp::default(),
            own: Chain::new(StreamId::ledger()),
            control,
            nodes,
            streams: HashMap::new(),
            next: RecordIndex(0),
        })
    }

    /// The index of the next record.
    pub(crate) fn next(&self) -> RecordIndex {
        self.next
    }

    /// Where a stream stands.
    pub(crate) fn position(&self, stream: &StreamId) -> Option<Position> {
        let stream = self.streams.get(stream)?;
        let (sequence, leaf) = stream.last();
        let place = stream.recent.back().map(|recent| stream.place(*recent, self.volume()));
        Some(Position { sequence, leaf, place })
    }

    /// The control plane.
    pub(crate) fn control(&self) -> &NodeId {
        &self.control
    }

    /// What a node that has joined may write, and its key.
    pub(crate) fn joined(&self, node: &NodeId) -> Option<(Role, VerifyingKey)> {
        self.nodes.get(node).map(|producer| (producer.role, producer.key))
    }

    /// Every stream but the ledger's own.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &StreamId> {
        self.streams.keys()
    }

    /// The record of a stream that has this `foreignid`.
    pub(crate) fn foreign(&self, stream: &StreamId, foreignid: &str) -> Option<Place> {
        let (stream, short, volume) = (self.streams.get(stream)?, short(foreignid), self.volume());
        let here = stream.foreignids.get(&short).map(|index| Place { volume, index: *index });
        here.or_else(|| stream.foreignids_before.get(&short).map(|index| Place { volume: volume - 1, index: *index }))
    }

    /// The sequences among `incoming` that are older than what is remembered, and the place from which a walk must look for them: the
    /// stream's beginning, or the beginning of the ledger, for all that is known here.
    pub(crate) fn forgotten(&self, stream: &StreamId, incoming: &[Incoming]) -> Option<(Place, Vec<Sequence>)> {
        let stream = self.streams.get(stream)?;
        let oldest = match (stream.recent.front(), stream.carried) {
            (Some(recent), _) => recent.sequence,
            (None, Some((last, _))) => last.next(),
            (None, None) => return None,
        };
        let sequences: Vec<Sequence> =
            incoming.iter().filter_map(|record| record.claimed).filter(|sequence| *sequence < oldest).collect();
        let from = if stream.carried.is_some() {
            Place::start_of(1)
        } else {
            Place { volume: self.volume(), index: stream.opened }
        };
        (!sequences.is_empty()).then_some((from, sequences))
    }

    /// Decides about one record. What must be written, the record or what stands in its place and what is noted about it, goes to `out`.
    pub(crate) fn accept(
        &mut self,
        id: &StreamId,
        incoming: &Incoming,
        history: &History,
        now: Timestamp,
        out: &mut Vec<Written>,
    ) -> Result<Outcome, Refusal> {
        #[cfg(feature = "bench")]
        if incoming.raw {
            return Ok(Outcome::Taken(self.write(incoming.bytes.clone().into(), incoming.leaf, out)));
        }
        let Some(stream) = self.streams.get(id) else { return self.open(id, incoming, out) };
        let volume = self.volume();
        let (last, last_leaf) = stream.last();
        let sequence = match incoming.claimed {
            Some(sequence) => sequence,
            // It does not say where it belongs. If its bytes were here before, it is a repeat; else it takes the next place.
            None => match stream.recent.iter().find(|recent| recent.leaf == incoming.leaf) {
                Some(recent) => return Ok(Outcome::Repeat(stream.place(*recent, volume))),
                None => last.next(),
            },
        };
        if sequence.0 > SEQUENCE_MAX {
            return Err(Refusal::SequenceTooLarge { stream: id.clone(), sequence });
        }
        if sequence <= last {
            let found = stream.find(sequence).map(|recent| (stream.place(recent, volume), recent.leaf));
            return match found.or_else(|| history.get(&sequence).copied()) {
                Some((place, leaf)) if leaf == incoming.leaf => Ok(Outcome::Repeat(place)),
                Some((_, leaf)) => Err(self.fork(id, sequence, leaf, incoming.leaf, now, out)),
                None => Err(Refusal::PassedOver { stream: id.clone(), sequence, last }),
            };
        }
        let found = incoming.content.as_ref().map(|content| content.prevdigest);
        if sequence == last.next() {
            if let Ok(prevdigest) = found
                && prevdigest != last_leaf
            {
                // Its producer has another record where we have this one. Which of both is right nobody here can say.
                return Err(self.fork(id, last, last_leaf, prevdigest, now, out));
            }
        } else {
            let gap = StreamGap {
                stream: id.clone(),
                from: last.next(),
                to: Sequence(sequence.0 - 1),
                expected: last_leaf,
                found: found.unwrap_or(Digest::ZERO),
            };
            self.note(Draft::new(&gap), now, out);
        }
        let wrong = match &incoming.content {
            Ok(content) => self.check(id, sequence, content).err(),
            Err(reason) => Some(reason.clone()),
        };
        Ok(match wrong {
            None => {
                let index = self.write(incoming.bytes.clone().into(), incoming.leaf, out);
                let content = incoming.content.as_ref().expect("invariant: nothing is wrong with it");
                self.apply(
                    id,
                    Recent { sequence, index, leaf: incoming.leaf },
                    content.foreignid.as_deref().map(short),
                );
                if let Special::Joined(joined) = &content.special {
                    self.join(joined).expect("invariant: checked before it was taken");
                }
                Outcome::Taken(index)
            }
            Some(reason) => {
                let reason = cut(&reason);
                let rejected =
                    StreamRejected { stream: id.clone(), sequence, digest: incoming.leaf, reason: reason.clone() };
                let index = self.note(Draft::new(&rejected), now, out);
                self.apply(id, Recent { sequence, index, leaf: incoming.leaf }, None);
                Outcome::Rejected(index, reason)
            }
        })
    }

    /// A stream's first record.
    fn open(&mut self, id: &StreamId, incoming: &Incoming, out: &mut Vec<Written>) -> Result<Outcome, Refusal> {
        let node = id.node().ok_or(Refusal::OwnStream)?;
        let refuse = |reason: String| Refusal::NotOpened { stream: id.clone(), reason };
        let producer =
            self.nodes.get(&node).ok_or_else(|| Refusal::NotJoined { stream: id.clone(), node: node.clone() })?.clone();
        let content = incoming.content.as_ref().map_err(|reason| refuse(reason.clone()))?;
        let Special::Opened(opened) = &content.special else {
            return Err(refuse(format!(
                "it is {}, and a stream begins with {}",
                content.kind,
                RecordType::StreamOpened
            )));
        };
        let sequence = incoming.claimed.unwrap_or_default();
        if sequence != Sequence(0) || content.prevdigest != Digest::ZERO {
            return Err(refuse("a stream begins at sequence 0, with a `prevdigest` of zeros".into()));
        }
        if opened.node != node || opened.key != head::format_key(&producer.key) {
            return Err(refuse("it names another node, or another key than the node joined with".into()));
        }
        if let Some(before) = &opened.predecessor
            && (before.stream == *id || before.stream.node().as_ref() != Some(&node))
        {
            return Err(refuse(format!("its predecessor {} is not an earlier stream of {node}", before.stream)));
        }
        let index = self.write(incoming.bytes.clone().into(), incoming.leaf, out);
        self.begin(
            id,
            producer,
            Recent { sequence, index, leaf: incoming.leaf },
            content.foreignid.as_deref().map(short),
        );
        Ok(Outcome::Taken(index))
    }

    /// What makes a well-formed record invalid in its stream.
    fn check(&self, id: &StreamId, sequence: Sequence, content: &Content) -> Result<(), String> {
        let stream = &self.streams[id];
        if !content.kind.allowed(stream.producer.role) {
            return Err(format!("type {} is not one that this producer may write", content.kind));
        }
        if let Some(foreignid) = &content.foreignid
            && let Some(place) = self.foreign(id, foreignid)
        {
            let earlier = if place.volume == self.volume() { "" } else { " of the volume before" };
            return Err(format!("foreignid {foreignid:?} is that of record {}{earlier}", place.index));
        }
        match &content.special {
            Special::None => Ok(()),
            Special::Opened(_) => Err("the stream was opened before".into()),
            Special::Head(head) => {
                if sequence.0 != head.sequence.0 + 1 || head.digest != content.prevdigest {
                    return Err("the head does not cover the record before it".into());
                }
                head::verify(head, id, &stream.producer.key).map_err(|error| error.to_string())
            }
            Special::Joined(joined) => {
                let key = head::parse_key(&joined.key).map_err(|error| error.to_string())?;
                match self.nodes.get(&joined.node) {
                    Some(before) if before.key != key || before.role != Role::Node(joined.kind) => {
                        Err(format!("node {} joined before, with another key or kind", joined.node))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn fork(
        &mut self,
        id: &StreamId,
        sequence: Sequence,
        accepted: Digest,
        refused: Digest,
        now: Timestamp,
        out: &mut Vec<Written>,
    ) -> Refusal {
        let noted = &mut self.streams.get_mut(id).expect("invariant: the caller found it").forks_noted;
        if noted.len() < FORKS_NOTED_MAX && noted.insert((sequence, refused)) {
            let forked = StreamForked { stream: id.clone(), sequence, accepted, refused };
            self.note(Draft::new(&forked), now, out);
        }
        Refusal::Forked { stream: id.clone(), sequence, accepted, refused }
    }

    /// Writes a record of the ledger's own.
    fn note(&mut self, draft: Draft, now: Timestamp, out: &mut Vec<Written>) -> RecordIndex {
        let sealed = self.own.seal(draft, now).expect("invariant: the ledger's own records are valid and short");
        assert!(sealed.bytes.len() <= OWN_RECORD_LEN_MAX, "invariant: the ledger's own records are short");
        self.write(sealed.bytes.into(), sealed.leaf, out)
    }

    fn write(&mut self, bytes: Bytes, leaf: Digest, out: &mut Vec<Written>) -> RecordIndex {
        let index = self.next;
        self.next = RecordIndex(index.0 + 1);
        out.push((bytes, leaf));
        index
    }

    fn begin(&mut self, id: &StreamId, producer: Producer, first: Recent, foreignid: Option<ShortId>) {
        let stream = Stream {
            producer,
            opened: first.index,
            carried: None,
            recent: VecDeque::new(),
            foreignids: HashMap::new(),
            foreignids_before: HashMap::new(),
            forks_noted: HashSet::new(),
        };
        self.streams.insert(id.clone(), stream);
        self.apply(id, first, foreignid);
    }

    fn apply(&mut self, id: &StreamId, recent: Recent, foreignid: Option<ShortId>) {
        self.streams.get_mut(id).expect("invariant: the caller found it").apply(recent, foreignid);
    }

    fn join(&mut self, joined: &NodeJoined) -> Result<(), String> {
        let key = head::parse_key(&joined.key).map_err(|error| error.to_string())?;
        self.nodes.entry(joined.node.clone()).or_insert(Producer { role: Role::Node(joined.kind), key });
        Ok(())
    }

    /// Begins to rebuild the state of a volume, from its record 0.
    pub(crate) fn replay_first(bytes: &[u8]) -> Result<(Streams, LedgerOpened), ReplayError> {
        let refuse = |reason: String| ReplayError { index: RecordIndex(0), reason };
        let record = Record::parse(bytes).map_err(|error| refuse(error.one_line()))?;
        let opened: LedgerOpened = record.data_as().map_err(|error| refuse(error.one_line()))?;
        if !record.stream.is_ledger() || (opened.previous.is_none() && record.sequence != Sequence(0)) {
            return Err(refuse("it does not open the stream `ledger`".into()));
        }
        let mut streams = Streams::empty(&opened).map_err(refuse)?;
        if let Some(previous) = &opened.previous {
            streams.carry(&previous.nodes, &previous.streams).map_err(refuse)?;
            streams.carried_left = previous.carried;
        }
        streams.own = Chain::resume(StreamId::ledger(), record.sequence.next(), Digest::leaf(bytes), 0, record.time);
        streams.next = RecordIndex(1);
        streams.began = record.time;
        Ok((streams, opened))
    }

    /// Takes up the next record of a ledger whose records were accepted before.
    pub(crate) fn replay(&mut self, bytes: &[u8], leaf: Digest) -> Result<(), ReplayError> {
        self.replay_read(bytes, leaf, Attributes::read(bytes, &mut Ids::default()))
    }

    /// [`Streams::replay`] of a record whose attributes were read before, perhaps on another thread.
    pub(crate) fn replay_read(
        &mut self,
        bytes: &[u8],
        leaf: Digest,
        attributes: Result<Attributes, String>,
    ) -> Result<(), ReplayError> {
        let index = self.next;
        let refuse = |reason: String| ReplayError { index, reason };
        let Attributes { id, sequence, kind, foreignid } = attributes.map_err(refuse)?;
        let parse = || Record::parse(bytes).map_err(|error| refuse(error.one_line()));
        let wrong = |error: cairn_schemas::record::RecordError| refuse(error.one_line());
        let recent = Recent { sequence, index, leaf };
        if id.is_ledger() {
            if sequence != self.own.next() {
                return Err(refuse(format!("it has sequence {} of the stream `ledger`", sequence)));
            }
            self.own = Chain::resume(StreamId::ledger(), sequence.next(), leaf, 0, Timestamp::default());
            match kind {
                Some(RecordType::StreamRejected) => {
                    let rejected: StreamRejected = parse()?.data_as().map_err(wrong)?;
                    if !self.streams.contains_key(&rejected.stream) {
                        return Err(refuse(format!("stream {} is not open", rejected.stream)));
                    }
                    let recent = Recent { sequence: rejected.sequence, index, leaf: rejected.digest };
                    self.apply(&rejected.stream, recent, None);
                }
                Some(RecordType::StreamForked) => {
                    let forked: StreamForked = parse()?.data_as().map_err(wrong)?;
                    if let Some(stream) = self.streams.get_mut(&forked.stream) {
                        stream.forks_noted.insert((forked.sequence, forked.refused));
                    }
                }
                Some(
                    kind @ (RecordType::LedgerCarried
                    | RecordType::LedgerKeyRotated
                    | RecordType::LedgerWitnessesChanged
                    | RecordType::LedgerClosed
                    | RecordType::LedgerFrozen),
                ) => self.replay_own(kind, &parse()?, index).map_err(refuse)?,
                _ => {}
            }
        } else if let Some(stream) = self.streams.get_mut(&*id) {
            if sequence <= stream.last().0 {
                return Err(refuse(format!("stream {id} is past sequence {}", sequence)));
            }
            stream.apply(recent, foreignid);
            if kind == Some(RecordType::NodeJoined) && id.node().as_ref() == Some(&self.control) {
                let joined: NodeJoined = parse()?.data_as().map_err(wrong)?;
                self.join(&joined).map_err(refuse)?;
            }
        } else {
            let producer = id.node().and_then(|node| self.nodes.get(&node)).cloned();
            let producer = producer
                .filter(|_| kind == Some(RecordType::StreamOpened))
                .ok_or_else(|| refuse(format!("stream {id} is not open")))?;
            self.begin(&id, producer, recent, foreignid);
        }
        self.next = RecordIndex(index.0 + 1);
        Ok(())
    }
}

/// The place in its stream of a record of the ledger: its own, or that of the record which a `stream.rejected` replaces. `None` for what
/// else the ledger writes of itself. The digest is the leaf hash that the stream's next record names.
pub(crate) fn place(bytes: &[u8], leaf: Digest) -> Option<(StreamId, Sequence, Digest)> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).ok()?;
    let id: StreamId = envelope.source.strip_prefix("/streams/")?.parse().ok()?;
    if !id.is_ledger() {
        return Some((id, envelope.sequence, leaf));
    }
    let rejected: StreamRejected = Record::parse(bytes).ok()?.data_as().ok()?;
    Some((rejected.stream, rejected.sequence, rejected.digest))
}

/// What stands for a `foreignid`.
type ShortId = [u8; 16];

/// 128 bits of a hash stand for the text: nobody finds two texts with the same.
fn short(foreignid: &str) -> ShortId {
    *Digest::sha256(foreignid.as_bytes()).as_bytes().first_chunk().expect("invariant: a digest has 32 bytes")
}

/// At most [`REASON_LEN_MAX`] bytes, without control characters: what a producer sent must not grow in the ledger's own record.
fn cut(reason: &str) -> String {
    let mut kept = String::new();
    for character in reason.chars() {
        if kept.len() + character.len_utf8() > REASON_LEN_MAX {
            break;
        }
        kept.push(if character.is_control() { '?' } else { character });
    }
    kept
}

#[cfg(test)]
mod tests;
