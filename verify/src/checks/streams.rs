//! Streams: who wrote a record, and whether it follows the one before.
//!
//! A stream is one producer's numbered records, each carrying the hash of the one before, with heads signed by a key that the
//! ledger named when the producer joined. So whoever holds the ledger's key and not a node's can leave out a node's newest records,
//! and nothing else: the records behind the newest signed head are counted as unattested.

use std::collections::{BTreeMap, HashSet};

use cairn_ledger::head;
use cairn_schemas::data::{
    CarriedNode, CarriedStream, CheckpointSeen, Predecessor, StreamForked, StreamGap, StreamHead, StreamRejected,
};
use cairn_schemas::digest::Digest;
use cairn_schemas::ids::{INTEGER_MAX, NodeId, RecordIndex, Sequence, StreamId, TreeSize};
use cairn_schemas::time::Timestamp;
use cairn_schemas::types::{NodeKind, RecordType, Role};
use ed25519_dalek::VerifyingKey;

use super::foreignids::ForeignIds;
use super::{Context, Entry, Writer, check_opened};
use crate::facts::Detail;
use crate::report::{Fault, FaultKind, FindingKind, GapReport, StreamReport};
use crate::witnessed::Contradiction;

/// How many records that cannot be read are remembered one by one. With more, jumps in any stream are put down to them.
const UNREADABLE_MAX: usize = 100_000;

/// A producer that the ledger names.
#[derive(Debug, Clone)]
struct Producer {
    role: Role,
    key: VerifyingKey,
    /// The stream that it opened last.
    current: Option<StreamId>,
}

/// Where a stream stands.
#[derive(Debug)]
struct Stream {
    /// `None`: nobody that the ledger names.
    writer: Option<Writer>,
    key: Option<VerifyingKey>,
    next: Sequence,
    last: Digest,
    last_volume: u64,
    last_index: RecordIndex,
    last_time: Timestamp,
    records: u64,
    heads: u64,
    unattested: u64,
    /// What the ledger noted; the next record must show it.
    noted: Option<StreamGap>,
    gaps: Vec<(Sequence, Sequence)>,
    superseded: bool,
    cloned: bool,
    backwards: u64,
    backwards_index: Option<RecordIndex>,
    /// The last number that stood in volumes which are not here.
    before: Option<Sequence>,
    /// The current volume has taken it over.
    carried: bool,
    /// Records whose dates contradict the witnesses'.
    misdated: u64,
}

impl Stream {
    /// One of which nothing is known yet.
    fn new(volume: u64, entry: &Entry<'_>) -> Stream {
        Stream {
            writer: None,
            key: None,
            next: Sequence(0),
            last: Digest::ZERO,
            last_volume: volume,
            last_index: entry.index,
            last_time: Timestamp::default(),
            records: 0,
            heads: 0,
            unattested: 0,
            noted: None,
            gaps: Vec::new(),
            superseded: false,
            cloned: false,
            backwards: 0,
            backwards_index: None,
            before: None,
            carried: false,
            misdated: 0,
        }
    }
}

/// Every stream of the ledger.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    producers: BTreeMap<NodeId, Producer>,
    streams: BTreeMap<StreamId, Stream>,
    gaps: Vec<GapReport>,
    foreignids: ForeignIds,
    /// How many `ledger.carried` are still to come before the volume has taken everything over.
    to_carry: Option<u64>,
    /// Leaf hashes of records that cannot be read. A record that follows one of them is not to blame.
    unreadable: HashSet<Digest>,
    /// A record was lost with its leaf hash: sequences may jump and nobody can say whether they should.
    holes: bool,
}

impl Streams {
    /// Places a record. Returns who wrote it when it may stand where it stands.
    pub(crate) fn record(&mut self, entry: &Entry<'_>, context: &mut Context<'_, '_>) -> Option<Writer> {
        let facts = entry.facts;
        self.first_record(entry, context);
        if facts.sequence.0 > INTEGER_MAX {
            let reason = format!("number {} is past the limit of {INTEGER_MAX}", facts.sequence);
            context.found.fault(entry.fault(FaultKind::Sequence, reason));
            return None;
        }
        if !self.streams.contains_key(&facts.stream) {
            self.open(entry, context);
        } else {
            let stream = self.streams.get(&facts.stream)?;
            if facts.kind == RecordType::StreamOpened {
                context.found.fault(entry.fault(FaultKind::StreamOpening, "the stream was opened before"));
            }
            if facts.sequence < stream.next {
                let reason = format!(
                    "number {} was taken; the next one is {}. Two records with one number: the stream was forked",
                    facts.sequence, stream.next
                );
                context.found.fault(entry.fault(FaultKind::Sequence, reason));
                return None;
            }
            self.follow(entry, context);
        }
        let stream = self.streams.get_mut(&facts.stream)?;
        stream.next = after(facts.sequence);
        stream.last = entry.leaf;
        (stream.last_volume, stream.last_index) = (context.volume, entry.index);
        stream.records += 1;
        stream.unattested += 1;
        if let Some(contradiction) = context.bounds.contradicts(entry.index.0, facts.time) {
            stream.misdated += 1;
            if stream.misdated == 1 {
                let reason = match contradiction {
                    Contradiction::Ahead(by) => format!("it is dated {by} s after a time at which witnesses had it"),
                    Contradiction::Behind(by) => {
                        format!(
                            "it is dated {by} s before a time at which witnesses did not have it: it came late, or was dated back"
                        )
                    }
                };
                let kind = FindingKind::TimeContradicted;
                context.found.finding(
                    kind,
                    Some(entry.index),
                    &facts.stream,
                    format!("{reason}; the first of this stream"),
                );
            }
        }
        if facts.time < stream.last_time {
            stream.backwards += 1;
            stream.backwards_index.get_or_insert(entry.index);
        }
        stream.last_time = facts.time;
        if facts.foreignid.is_some_and(|id| !self.foreignids.insert(&facts.stream, id)) {
            context
                .found
                .fault(entry.fault(FaultKind::ForeignId, "its foreignid is that of an earlier record of its stream"));
        }
        if stream.superseded && !stream.cloned {
            stream.cloned = true;
            let reason = "it goes on after its producer opened another: a copied machine, or two processes on one disk";
            context.found.finding(FindingKind::Cloned, Some(entry.index), &facts.stream, reason);
        }
        let writer = stream.writer.clone()?;
        if !facts.kind.allowed(writer.role) {
            let reason = format!("{} may not be written by {}", facts.kind, role_text(Some(writer.role)));
            context.found.fault(entry.fault(FaultKind::Role, reason));
            return None;
        }
        self.detail(entry, context);
        Some(writer)
    }

    /// A record that cannot be read.
    pub(crate) fn unreadable(&mut self, leaf: Option<Digest>) {
        match leaf {
            Some(leaf) if self.unreadable.len() < UNREADABLE_MAX => drop(self.unreadable.insert(leaf)),
            _ => self.holes = true,
        }
    }

    /// Whether a stream's number fell into a gap: then nobody can say what it was.
    pub(crate) fn in_gap(&self, stream: &StreamId, sequence: Sequence) -> bool {
        self.is_blind()
            || self.streams.get(stream).is_some_and(|stream| {
                // Gaps rise with the stream, so one look is enough: a stream may have as many as records.
                let at = stream.gaps.partition_point(|(_, to)| *to < sequence);
                stream.before.is_some_and(|before| sequence <= before)
                    || stream.gaps.get(at).is_some_and(|(from, _)| *from <= sequence)
            })
    }

    /// Record 0 is `ledger.opened` of the stream `ledger`, and there is one.
    fn first_record(&mut self, entry: &Entry<'_>, context: &mut Context<'_, '_>) {
        let facts = entry.facts;
        match (&facts.detail, entry.index.0) {
            (Detail::LedgerOpened(opened), 0) => {
                if let Err(reason) = check_opened(opened, context.origin, context.volume) {
                    context.found.fault(entry.fault(FaultKind::LedgerOpened, reason));
                }
                match head::parse_key(&opened.control_key) {
                    Ok(key) => {
                        let producer = Producer { role: Role::Control, key, current: None };
                        match self.producers.get(&opened.control_node) {
                            None => drop(self.producers.insert(opened.control_node.clone(), producer)),
                            Some(before) if before.key == key && before.role == Role::Control => {}
                            Some(_) => {
                                let reason = "its control plane is not that of the volume before";
                                context.found.fault(entry.fault(FaultKind::LedgerOpened, reason));
                            }
                        }
                    }
                    Err(error) => {
                        let reason = format!("its control plane's key: {error}");
                        context.found.fault(entry.fault(FaultKind::LedgerOpened, reason));
                    }
                }
                if let Some(previous) = &opened.previous {
                    self.foreignids.next_volume();
                    self.streams.values_mut().for_each(|stream| stream.carried = false);
                    self.to_carry = Some(previous.carried);
                    self.carry(entry, &previous.nodes, &previous.streams, context);
                }
            }
            (Detail::Carried(carried), index) if self.to_carry.is_some_and(|left| left > 0) && index > 0 => {
                self.to_carry = self.to_carry.map(|left| left - 1);
                self.carry(entry, &carried.nodes, &carried.streams, context);
            }
            (Detail::Carried(_), _) => {
                let reason = "record 0 announces no such record here";
                context.found.fault(entry.fault(FaultKind::VolumeCarried, reason));
            }
            (Detail::LedgerOpened(_), _) => {
                context.found.fault(entry.fault(FaultKind::LedgerOpened, "the ledger was opened before"));
            }
            (_, 0) => {
                let reason = format!("record 0 is {}; expected cairn.ledger.opened.v1", facts.kind);
                context.found.fault(entry.fault(FaultKind::LedgerOpened, reason));
            }
            _ => {}
        }
        if self.to_carry == Some(0) {
            self.to_carry = None;
            self.all_carried(entry, context);
        }
    }

    /// What a volume takes over is what the one before left.
    fn carry(
        &mut self,
        entry: &Entry<'_>,
        nodes: &[CarriedNode],
        streams: &[CarriedStream],
        context: &mut Context<'_, '_>,
    ) {
        // Of the first volume that is here, nothing is known but this.
        let is_first = context.past.is_empty();
        let blind = self.is_blind();
        let mut wrong = |reason: String| context.found.fault(entry.fault(FaultKind::VolumeCarried, reason));
        for CarriedNode { node, kind, key } in nodes {
            let role = Role::Node(*kind);
            match (head::parse_key(key), self.producers.get(node)) {
                (Err(error), _) => wrong(format!("the key of {node}: {error}")),
                (Ok(key), Some(before)) if before.key != key || before.role != role => {
                    wrong(format!("{node} joined with another key or as something else"));
                }
                (Ok(_), Some(_)) => {}
                (Ok(key), None) if is_first || blind => {
                    self.producers.insert(node.clone(), Producer { role, key, current: None });
                }
                (Ok(_), None) => wrong(format!("no node {node} joined in the volumes before")),
            }
        }
        for CarriedStream { stream: id, sequence, digest } in streams {
            match self.streams.get_mut(id) {
                Some(stream) => {
                    stream.carried = true;
                    if (stream.next, stream.last) != (after(*sequence), *digest) && !blind {
                        wrong(format!(
                            "it takes over {id} after number {sequence} with hash {digest}; the volume before ends with number {} and hash {}",
                            stream.next.0.saturating_sub(1),
                            stream.last
                        ));
                    }
                    (stream.next, stream.last) = (after(*sequence), *digest);
                }
                None if is_first || blind => {
                    let node = id.node();
                    let producer = node.as_ref().and_then(|node| self.producers.get_mut(node));
                    let Some(producer) = producer else {
                        wrong(format!("it takes over {id}, and not its node"));
                        continue;
                    };
                    // Which of a node's streams is its newest is not said; the next one that it opens says what it follows.
                    producer.current = Some(id.clone());
                    let stream = Stream {
                        writer: Some(Writer { role: producer.role, node }),
                        key: Some(producer.key),
                        next: after(*sequence),
                        last: *digest,
                        before: Some(*sequence),
                        carried: true,
                        ..Stream::new(context.volume, entry)
                    };
                    self.streams.insert(id.clone(), stream);
                }
                None => wrong(format!("it takes over {id}, which the volumes before do not hold")),
            }
        }
    }

    /// No stream was left behind.
    fn all_carried(&self, entry: &Entry<'_>, context: &mut Context<'_, '_>) {
        for (id, stream) in self.streams.iter().filter(|(id, stream)| !stream.carried && !id.is_ledger()) {
            if !self.is_blind() {
                let reason = format!("it does not take over {id}, which has {} records before it", stream.records);
                context.found.fault(entry.fault(FaultKind::VolumeCarried, reason));
            }
        }
    }

    /// A stream's first record.
    fn open(&mut self, entry: &Entry<'_>, context: &mut Context<'_, '_>) {
        let facts = entry.facts;
        let node = facts.stream.node();
        let producer = node.as_ref().and_then(|node| self.producers.get(node)).cloned();
        let writer = match (&node, &producer) {
            (None, _) => Some(Writer { role: Role::Ledger, node: None }),
            (Some(node), Some(producer)) => Some(Writer { role: producer.role, node: Some(node.clone()) }),
            // It may have joined in a record that nobody could read.
            (Some(_), None) if self.is_blind() => None,
            (Some(node), None) => {
                let reason = format!("no node {node} has joined before");
                context.found.fault(entry.fault(FaultKind::StreamUnknown, reason));
                None
            }
        };
        if node.is_some() {
            self.opening(entry, producer.as_ref(), context);
        } else if (facts.sequence, facts.prevdigest) != (Sequence(0), Digest::ZERO) && !context.is_cut() {
            let reason = format!("the ledger's own stream begins with number {}; expected 0", facts.sequence);
            context.found.fault(entry.fault(FaultKind::Sequence, reason));
        }
        let stream = Stream {
            writer,
            key: producer.as_ref().map(|producer| producer.key),
            next: facts.sequence,
            last: facts.prevdigest,
            last_time: facts.time,
            ..Stream::new(context.volume, entry)
        };
        self.streams.insert(facts.stream.clone(), stream);
        if let (Some(node), Detail::Opened(opened)) = (&node, &facts.detail) {
            self.succeed(entry, node, opened.predecessor.as_ref(), context);
        }
    }

    /// The first record is `stream.opened`, number 0, by the stream's own node with the key that it joined with.
    fn opening(&mut self, entry: &Entry<'_>, producer: Option<&Producer>, context: &mut Context<'_, '_>) {
        let facts = entry.facts;
        let Detail::Opened(opened) = &facts.detail else {
            // The record that opened it may be one of those that cannot be read.
            if !self.blames_unreadable(&facts.prevdigest) {
                let reason = format!("the stream's first record is {}; expected cairn.stream.opened.v1", facts.kind);
                context.found.fault(entry.fault(FaultKind::StreamOpening, reason));
            }
            return;
        };
        let mut wrong = |reason: String| context.found.fault(entry.fault(FaultKind::StreamOpening, reason));
        if facts.sequence != Sequence(0) || facts.prevdigest != Digest::ZERO {
            wrong(format!(
                "the stream begins with number {} after {}; expected 0 after zeros",
                facts.sequence, facts.prevdigest
            ));
        }
        if Some(&opened.node) != facts.stream.node().as_ref() {
            wrong(format!("the stream is said to be of {}", opened.node));
        }
        match (head::parse_key(&opened.key), producer) {
            (Err(error), _) => wrong(error.to_string()),
            (Ok(key), Some(producer)) if key != producer.key => {
                wrong(format!(
                    "it names the key {}; {} joined with {}",
                    opened.key,
                    opened.node,
                    head::format_key(&producer.key)
                ));
            }
            _ => {}
        }
    }

    /// A producer's next stream should go on from its last.
    fn succeed(
        &mut self,
        entry: &Entry<'_>,
        node: &NodeId,
        predecessor: Option<&Predecessor>,
        context: &mut Context<'_, '_>,
    ) {
        let Some(producer) = self.producers.get_mut(node) else { return };
        let Some(before) = producer.current.replace(entry.facts.stream.clone()) else {
            if let Some(predecessor) = predecessor {
                let reason = format!("it names {} as its predecessor, which is not in the ledger", predecessor.stream);
                context.found.finding(FindingKind::Abandoned, Some(entry.index), &entry.facts.stream, reason);
            }
            return;
        };
        let Some(stream) = self.streams.get_mut(&before) else { return };
        stream.superseded = true;
        let goes_on = predecessor.is_some_and(|named| {
            named.stream == before
                && named.sequence.0.checked_add(1) == Some(stream.next.0)
                && named.digest == stream.last
        });
        if !goes_on {
            let reason = match predecessor {
                None => format!("{node} opened {} and named no predecessor", entry.facts.stream),
                Some(named) => format!(
                    "{node} opened {} after number {} of {}; the ledger has number {} of this one",
                    entry.facts.stream,
                    named.sequence,
                    named.stream,
                    stream.next.0.saturating_sub(1)
                ),
            };
            context.found.finding(FindingKind::Abandoned, Some(entry.index), &before, reason);
        }
    }

    /// Number and `prevdigest` of a record that is not its stream's first. Its number is not below the next.
    fn follow(&mut self, entry: &Entry<'_>, context: &mut Context<'_, '_>) {
        let facts = entry.facts;
        let blameless = self.blames_unreadable(&facts.prevdigest);
        let holes = self.holes;
        let Some(stream) = self.streams.get_mut(&facts.stream) else { return };
        let noted = stream.noted.take();
        if facts.sequence == stream.next {
            if let Some(noted) = noted {
                let reason = format!(
                    "the ledger noted that {} to {} are missing; {} is there",
                    noted.from, noted.to, facts.sequence
                );
                context.found.fault(entry.fault(FaultKind::LedgerNote, reason));
            }
            if facts.prevdigest != stream.last {
                let reason = format!("prevdigest is {}; the record before hashes to {}", facts.prevdigest, stream.last);
                context.found.fault(entry.fault(FaultKind::PrevDigest, reason));
            }
            return;
        }
        let shown = StreamGap {
            stream: facts.stream.clone(),
            from: stream.next,
            to: Sequence(facts.sequence.0 - 1),
            expected: stream.last,
            found: facts.prevdigest,
        };
        stream.gaps.push((shown.from, shown.to));
        if noted.as_ref() == Some(&shown) || blameless || holes {
            return;
        }
        if let Some(noted) = noted {
            let reason = format!(
                "the ledger noted that {} to {} are missing; {} to {} are",
                noted.from, noted.to, shown.from, shown.to
            );
            context.found.fault(entry.fault(FaultKind::LedgerNote, reason));
        } else {
            // Either the ledger did not look, or they were taken out later.
            let reason = format!("numbers {} to {} are missing, and the ledger did not note it", shown.from, shown.to);
            context.found.fault(entry.fault(FaultKind::Sequence, reason));
        }
    }

    fn blames_unreadable(&self, prevdigest: &Digest) -> bool {
        self.holes || self.unreadable.contains(prevdigest)
    }

    /// What a record says of streams.
    fn detail(&mut self, entry: &Entry<'_>, context: &mut Context<'_, '_>) {
        match &entry.facts.detail {
            Detail::Joined(joined) => {
                let mut wrong = |reason: String| context.found.fault(entry.fault(FaultKind::NodeJoined, reason));
                let role = Role::Node(joined.kind);
                match (head::parse_key(&joined.key), self.producers.get(&joined.node)) {
                    (Err(error), _) => wrong(error.to_string()),
                    // A node may say again what it is; nobody may take its name.
                    (Ok(key), Some(before)) if before.key != key || before.role != role => {
                        wrong(format!("{} joined before, with another key or as something else", joined.node));
                    }
                    (Ok(_), Some(_)) => {}
                    (Ok(key), None) => {
                        let producer = Producer { role, key, current: None };
                        self.producers.insert(joined.node.clone(), producer);
                    }
                }
            }
            Detail::Head(head) => self.head(entry, head, context),
            Detail::Gap(gap) => self.gap(entry, gap, context),
            Detail::Rejected(rejected) => self.rejected(entry, rejected, context),
            Detail::Forked(forked) => self.forked(entry, forked, context),
            Detail::Observed(observed) => {
                for seen in &observed.streams {
                    let here = self.streams.get(&seen.stream);
                    let wrong = match here {
                        None => Some("no record of it stands before this one".to_owned()),
                        Some(here) if here.next <= seen.sequence => {
                            Some(format!("the last one before this is number {}", here.next.0.saturating_sub(1)))
                        }
                        Some(here) if here.next == after(seen.sequence) && here.last != seen.digest => {
                            Some(format!("number {} here hashes to {}", seen.sequence, here.last))
                        }
                        Some(_) => None,
                    };
                    if let Some(wrong) = wrong.filter(|_| !self.is_blind()) {
                        let reason = format!(
                            "number {} of {} with hash {} was seen; {wrong}",
                            seen.sequence, seen.stream, seen.digest
                        );
                        context.found.fault(entry.fault(FaultKind::ObservedMissing, reason));
                    }
                }
            }
            _ => {}
        }
    }

    fn head(&mut self, entry: &Entry<'_>, head: &StreamHead, context: &mut Context<'_, '_>) {
        let facts = entry.facts;
        let Some(stream) = self.streams.get_mut(&facts.stream) else { return };
        if Some(facts.sequence.0) != head.sequence.0.checked_add(1) || head.digest != facts.prevdigest {
            let reason = format!(
                "it covers number {} with hash {}; before it stands {}",
                head.sequence, head.digest, facts.prevdigest
            );
            return context.found.fault(entry.fault(FaultKind::HeadPlace, reason));
        }
        let Some(key) = &stream.key else { return };
        // Most were checked on another core, by this very key; see `tree::speculation`.
        let verified = match facts.guess.as_ref().and_then(|guess| guess.by(key)) {
            Some(verified) => verified.clone(),
            None => head::verify(head, &facts.stream, key),
        };
        if let Err(error) = verified {
            return context.found.fault(entry.fault(FaultKind::HeadSignature, error.to_string()));
        }
        stream.heads += 1;
        stream.unattested = 0;
        if let Some(seen) = &head.checkpoint {
            checkpoint_seen(entry, seen, context);
        }
    }

    fn gap(&mut self, entry: &Entry<'_>, gap: &StreamGap, context: &mut Context<'_, '_>) {
        self.gaps.push(GapReport {
            stream: gap.stream.clone(),
            from: gap.from,
            to: gap.to,
            volume: context.volume,
            index: entry.index,
        });
        let reason = format!("numbers {} to {} are missing, and their producer did not say so", gap.from, gap.to);
        context.found.finding(FindingKind::Gap, Some(entry.index), &gap.stream, reason);
        let wrong = match self.streams.get_mut(&gap.stream) {
            None => Some("no record of that stream stands before it".to_owned()),
            Some(stream) if gap.from == stream.next && gap.expected == stream.last && gap.to >= gap.from => {
                stream.noted = Some(gap.clone());
                None
            }
            Some(stream) => Some(format!("the next number is {} after {}", stream.next, stream.last)),
        };
        if let Some(wrong) = wrong.filter(|_| !self.is_blind()) {
            let reason = format!("it notes a gap from {} to {} in {}; {wrong}", gap.from, gap.to, gap.stream);
            context.found.fault(entry.fault(FaultKind::LedgerNote, reason));
        }
    }

    /// A record that was refused has its number, and the next one carries its hash.
    fn rejected(&mut self, entry: &Entry<'_>, rejected: &StreamRejected, context: &mut Context<'_, '_>) {
        let reason = format!("number {} was not valid: {}", rejected.sequence, rejected.reason);
        context.found.finding(FindingKind::Rejected, Some(entry.index), &rejected.stream, reason);
        let Some(stream) = self.streams.get_mut(&rejected.stream) else {
            let reason = format!("it notes a record of {}, which is not open", rejected.stream);
            return context.found.fault(entry.fault(FaultKind::LedgerNote, reason));
        };
        let noted = stream.noted.take().filter(|gap| gap.to.0.checked_add(1) == Some(rejected.sequence.0));
        if let Some(gap) = &noted {
            stream.gaps.push((gap.from, gap.to));
        }
        if rejected.sequence != stream.next && noted.is_none() {
            let reason = format!(
                "it notes number {} of {}; the next one is {}",
                rejected.sequence, rejected.stream, stream.next
            );
            return context.found.fault(entry.fault(FaultKind::LedgerNote, reason));
        }
        stream.gaps.push((rejected.sequence, rejected.sequence));
        stream.next = after(rejected.sequence);
        stream.last = rejected.digest;
    }

    fn forked(&mut self, entry: &Entry<'_>, forked: &StreamForked, context: &mut Context<'_, '_>) {
        let reason = format!(
            "a second record came for number {}: {} stands, {} was refused",
            forked.sequence, forked.accepted, forked.refused
        );
        context.found.finding(FindingKind::Fork, Some(entry.index), &forked.stream, reason);
        let wrong = match self.streams.get(&forked.stream) {
            None => true,
            Some(stream) => {
                let is_last = stream.next == after(forked.sequence);
                stream.next <= forked.sequence || (is_last && stream.last != forked.accepted)
            }
        };
        if wrong && !self.is_blind() {
            let reason = format!(
                "it notes that number {} of {} stands with hash {}, which is not so",
                forked.sequence, forked.stream, forked.accepted
            );
            context.found.fault(entry.fault(FaultKind::LedgerNote, reason));
        }
    }

    /// What is still open at the end.
    pub(crate) fn end(&mut self, context: &mut Context<'_, '_>) {
        for (id, stream) in &mut self.streams {
            let last = Some(stream.last_index);
            context.found.at_root(stream.last_volume);
            // The ledger writes both at once, so no checkpoint ends between them.
            if let Some(gap) = stream.noted.take() {
                let reason =
                    format!("the ledger noted that {} to {} of {id} are missing; nothing follows", gap.from, gap.to);
                context.found.fault(Fault::new(FaultKind::LedgerNote, reason));
            }
            if stream.unattested > 0 && !id.is_ledger() {
                let reason = format!("records after the newest signed head: {}", stream.unattested);
                context.found.finding(FindingKind::Unattested, last, id, reason);
            }
            if stream.backwards > 0 {
                let reason = format!("the producer's clock ran backwards, first here; times: {}", stream.backwards);
                context.found.finding(FindingKind::TimeBackwards, stream.backwards_index, id, reason);
            }
        }
    }

    /// Whether something that this stream's producer wrote may be missing.
    pub(crate) fn has_gap(&self, stream: &StreamId) -> bool {
        self.is_blind()
            || self.streams.get(stream).is_some_and(|stream| !stream.gaps.is_empty() || stream.before.is_some())
    }

    /// Whether there may be records that nobody could read.
    pub(crate) fn is_blind(&self) -> bool {
        self.holes || !self.unreadable.is_empty()
    }

    /// How many streams end in records that no signed head covers, and how many records those are.
    pub(crate) fn unattested(&self) -> (u64, u64) {
        let tails = self.streams.iter().filter(|(id, stream)| !id.is_ledger() && stream.unattested > 0);
        tails.fold((0, 0), |(tails, records), (_, stream)| (tails + 1, records + stream.unattested))
    }

    /// Every stream, and the gaps that the ledger noted.
    pub(crate) fn report(self) -> (Vec<StreamReport>, Vec<GapReport>) {
        let streams = self.streams.into_iter().map(|(id, stream)| StreamReport {
            role: role_text(stream.writer.map(|writer| writer.role)).to_owned(),
            records: stream.records,
            last_sequence: Sequence(stream.next.0.saturating_sub(1)),
            last_volume: stream.last_volume,
            last_index: stream.last_index,
            last_digest: stream.last,
            heads: stream.heads,
            unattested: if id.is_ledger() { 0 } else { stream.unattested },
            missing: stream
                .gaps
                .iter()
                .map(|(from, to)| (to.0 - from.0).saturating_add(1))
                .fold(0, u64::saturating_add),
            stream: id,
        });
        (streams.collect(), self.gaps)
    }
}

/// A checkpoint that a producer saw and signed must be of this history, and no younger than the record that names it.
fn checkpoint_seen(entry: &Entry<'_>, seen: &CheckpointSeen, context: &mut Context<'_, '_>) {
    let here = seen.origin == context.origin;
    let past = context.past.iter_mut().find(|past| past.origin == seen.origin);
    let root_here = |root: Option<Digest>| match root {
        Some(root) if root != seen.root => Some(format!("the first {} records there have root {root}", seen.size)),
        _ => None,
    };
    let wrong = match past {
        _ if here && seen.size > entry.index.0 => Some(format!("only {} records stood before this one", entry.index)),
        _ if here => root_here(context.root(TreeSize(seen.size))),
        Some(past) if seen.size > past.size.0 && past.replaced => {
            let reason = format!(
                "a checkpoint of {} records was seen in volume {}; the ledger that was restored holds {} of them",
                seen.size, past.volume, past.size
            );
            return context.found.finding(FindingKind::CheckpointLost, Some(entry.index), &entry.facts.stream, reason);
        }
        Some(past) if seen.size > past.size.0 => Some(format!("volume {} has {} records", past.volume, past.size)),
        Some(past) => root_here(past.history.root(TreeSize(seen.size), past.source)),
        None => {
            let name = |origin: &str| cairn_ledger::volume::parse_origin(origin).map(|(name, _)| name.to_owned());
            let number = cairn_ledger::volume::parse_origin(&seen.origin).map(|(_, number)| number);
            // A volume that is not here: what was seen of it cannot be compared.
            let dropped = number.is_some_and(|number| number < context.volume);
            (!dropped || name(&seen.origin) != name(context.origin))
                .then(|| format!("this ledger is {:?}", context.origin))
        }
    };
    if let Some(wrong) = wrong {
        let reason = format!(
            "the producer saw a checkpoint of {:?}, size {}, root {}; {wrong}. Two histories were shown",
            seen.origin, seen.size, seen.root
        );
        context.found.fault(entry.fault(FaultKind::HeadCheckpoint, reason));
    }
}

/// The number after this one. A number that has none can be written by hand only; it is then its own successor, and the record
/// after it is refused.
fn after(sequence: Sequence) -> Sequence {
    Sequence(sequence.0.saturating_add(1))
}

fn role_text(role: Option<Role>) -> &'static str {
    match role {
        None => "unknown",
        Some(Role::Ledger) => "ledger",
        Some(Role::Control) => "control",
        Some(Role::Node(NodeKind::Sensor)) => "sensor",
        Some(Role::Node(NodeKind::Admission)) => "admission",
        Some(Role::Node(NodeKind::Local)) => "local",
    }
}
